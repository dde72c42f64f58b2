//! What is no longer HTTP: WebSocket and other upgrades, copied both ways.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

/// Bytes held for one direction.
const BUFFER_BYTES: usize = 16 * 1024;

/// What went through a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TunnelCounts {
    /// Bytes from client to upstream.
    pub up_bytes: u64,
    /// Bytes from upstream to client.
    pub down_bytes: u64,
}

/// Joins a client and an upstream that both agreed to an upgrade, until both have ended or one breaks.
///
/// # Errors
/// When one of them did not upgrade after all, or its connection broke.
pub async fn join(client: OnUpgrade, upstream: OnUpgrade) -> Result<TunnelCounts, std::io::Error> {
    let (client, upstream) = tokio::try_join!(client, upstream).map_err(std::io::Error::other)?;
    let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
    let (up_bytes, down_bytes) =
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER_BYTES, BUFFER_BYTES)
            .await?;
    Ok(TunnelCounts { up_bytes, down_bytes })
}
