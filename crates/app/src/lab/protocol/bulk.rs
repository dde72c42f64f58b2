//! A fixed number of bytes each way, as iperf would send them.
//!
//! The client sends a head of 24 bytes (`WEIRBULK`, bytes it will send, bytes it wants, big-endian),
//! then its bytes; when all have arrived the server sends its own and closes.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{expect_close, unexpected};

const MAGIC: &[u8; 8] = b"WEIRBULK";
const HEAD_BYTES: usize = 24;
/// Most bytes one way on one connection.
pub(crate) const BULK_BYTES_MAX: u64 = 1 << 30;
const CHUNK_BYTES: usize = 64 * 1024;

/// Server's side of one connection.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    let mut head = [0; HEAD_BYTES];
    stream.read_exact(&mut head).await?;
    let (to_receive, to_send) = parse_head(&head).ok_or_else(|| unexpected("the head of a bulk transfer"))?;
    drain(stream, to_receive).await?;
    pour(stream, to_send).await?;
    stream.shutdown().await
}

/// Client's side: sends `up` bytes, then takes `down` bytes and the server's close.
pub(crate) async fn transfer<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    up: u64,
    down: u64,
) -> io::Result<()> {
    stream.write_all(&head(up, down)).await?;
    pour(stream, up).await?;
    drain(stream, down).await?;
    expect_close(stream).await
}

fn head(up: u64, down: u64) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(MAGIC);
    head[8..16].copy_from_slice(&up.to_be_bytes());
    head[16..].copy_from_slice(&down.to_be_bytes());
    head
}

fn parse_head(head: &[u8; HEAD_BYTES]) -> Option<(u64, u64)> {
    let rest = head.strip_prefix(MAGIC)?;
    let up = u64::from_be_bytes(rest.get(..8)?.try_into().ok()?);
    let down = u64::from_be_bytes(rest.get(8..16)?.try_into().ok()?);
    (up <= BULK_BYTES_MAX && down <= BULK_BYTES_MAX).then_some((up, down))
}

async fn pour<S: AsyncWrite + Unpin>(stream: &mut S, bytes: u64) -> io::Result<()> {
    let chunk = vec![b'w'; CHUNK_BYTES];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(CHUNK_BYTES as u64) as usize;
        stream.write_all(&chunk[..now]).await?;
        left -= now as u64;
    }
    stream.flush().await
}

async fn drain<S: AsyncRead + Unpin>(stream: &mut S, bytes: u64) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut left = bytes;
    while left > 0 {
        let room = left.min(CHUNK_BYTES as u64) as usize;
        match stream.read(&mut chunk[..room]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            taken => left -= taken as u64,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_carries_both_sizes_within_the_bound() {
        for (up, down, expected) in [
            (0, 0, Some((0, 0))),
            (7, BULK_BYTES_MAX, Some((7, BULK_BYTES_MAX))),
            (BULK_BYTES_MAX + 1, 0, None),
        ] {
            assert_eq!(parse_head(&head(up, down)), expected);
        }
        assert_eq!(parse_head(&[0; HEAD_BYTES]), None);
    }
}
