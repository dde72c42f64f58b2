//! From an origin to a connected stream: resolve, check, connect, TLS.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::egress::why_not_public;
use super::error::{CallPhase, Fault, UpstreamError};
use super::pool::Seat;
use super::{Origin, Protocol, Scheme};
use crate::clock::{self, Alarm};

/// How long an answer of the resolver is used; its own time to live is not told to us.
const NAMES_FOR: Duration = Duration::from_secs(5);
/// Names remembered by one thread.
const NAMES_MAX: usize = 1_024;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

struct Known {
    addresses: Arc<[IpAddr]>,
    until_ms: u64,
}

/// Answers of the resolver, remembered for a short time.
#[derive(Default)]
pub(super) struct Names {
    known: RefCell<HashMap<Box<str>, Known>>,
}

impl Names {
    async fn resolve(&self, host: &str) -> Result<Arc<[IpAddr]>, UpstreamError> {
        let now_ms = clock::now_ms();
        if let Some(known) = self.known.borrow().get(host)
            && known.until_ms > now_ms
        {
            return Ok(Arc::clone(&known.addresses));
        }
        let failed = |message: String| UpstreamError::new(CallPhase::Resolve, Fault::Refused, message);
        let found = tokio::net::lookup_host((host, 0))
            .await
            .map_err(|error| failed(format!("no address of `{host}`")).with(error))?;
        let addresses: Arc<[IpAddr]> = found.map(|address| address.ip()).take(ADDRESSES_MAX).collect();
        if addresses.is_empty() {
            return Err(failed(format!("no address of `{host}`")));
        }
        let mut known = self.known.borrow_mut();
        if known.len() >= NAMES_MAX {
            known.retain(|_, known| known.until_ms > now_ms);
        }
        if known.len() < NAMES_MAX {
            let until_ms = now_ms + NAMES_FOR.as_millis() as u64;
            known.insert(
                host.into(),
                Known {
                    addresses: Arc::clone(&addresses),
                    until_ms,
                },
            );
        }
        Ok(addresses)
    }
}

/// A stream to an upstream.
pub(super) struct UpstreamIo {
    stream: Stream,
    _seat: Seat,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

pub(super) struct Connected {
    pub(super) io: UpstreamIo,
    pub(super) is_http2: bool,
    pub(super) peer: SocketAddr,
}

/// Connects within `timeout`, all steps together.
pub(super) async fn connect(
    names: &Names,
    origin: &Origin,
    protocol: Protocol,
    seat: Seat,
    timeout: Duration,
) -> Result<Connected, UpstreamError> {
    let phase = std::cell::Cell::new(CallPhase::Resolve);
    Alarm::after(timeout)
        .bound(connect_unbounded(names, origin, protocol, seat, timeout, &phase))
        .await
        .unwrap_or_else(|| Err(UpstreamError::timeout(phase.get(), timeout)))
}

async fn connect_unbounded(
    names: &Names,
    origin: &Origin,
    protocol: Protocol,
    seat: Seat,
    timeout: Duration,
    phase: &std::cell::Cell<CallPhase>,
) -> Result<Connected, UpstreamError> {
    let addresses = allowed_addresses(names, origin).await?;
    phase.set(CallPhase::Connect);
    let mut failed = None;
    let mut connected = None;
    for (i, &address) in addresses.iter().enumerate() {
        let peer = SocketAddr::new(address, origin.port);
        // A dead address must leave time for the others.
        let share = timeout / u32::try_from(addresses.len() - i).unwrap_or(1).min(2);
        match Alarm::after(share).bound(TcpStream::connect(peer)).await {
            Some(Ok(stream)) => {
                connected = Some((stream, peer));
                break;
            }
            Some(Err(error)) => {
                let message = format!("cannot connect to {peer}");
                failed = Some(UpstreamError::new(CallPhase::Connect, Fault::Refused, message).with(error));
            }
            None => failed = Some(UpstreamError::timeout(CallPhase::Connect, share)),
        }
    }
    let Some((stream, peer)) = connected else {
        return Err(failed.unwrap_or_else(|| UpstreamError::timeout(CallPhase::Connect, timeout)));
    };
    let _ = stream.set_nodelay(true);
    if origin.scheme == Scheme::Http {
        let is_http2 = protocol == Protocol::Http2;
        return Ok(Connected {
            io: UpstreamIo {
                stream: Stream::Plain(stream),
                _seat: seat,
            },
            is_http2,
            peer,
        });
    }
    phase.set(CallPhase::Tls);
    let tls_failed = |message: String| UpstreamError::new(CallPhase::Tls, Fault::Protocol, message);
    let name = ServerName::try_from(origin.tls_name().to_owned())
        .map_err(|_| tls_failed(format!("`{}` is no name that TLS can ask for", origin.tls_name())))?;
    let config = origin.trust.config(protocol);
    let stream = TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|error| tls_failed(format!("TLS with {peer} failed: {error}")).with(error))?;
    let is_http2 = match stream.get_ref().1.alpn_protocol() {
        Some(alpn) => alpn == b"h2",
        None => protocol == Protocol::Http2,
    };
    Ok(Connected {
        io: UpstreamIo {
            stream: Stream::Tls(Box::new(stream)),
            _seat: seat,
        },
        is_http2,
        peer,
    })
}

async fn allowed_addresses(names: &Names, origin: &Origin) -> Result<Arc<[IpAddr]>, UpstreamError> {
    let literal = origin
        .host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>()
        .ok();
    // `localhost` is as good as an address: no resolver is asked by a sane host what it is.
    if origin.egress.allow_literal && origin.host.eq_ignore_ascii_case("localhost") {
        let addresses = names.resolve(&origin.host).await?;
        return Ok(addresses.iter().copied().filter(IpAddr::is_loopback).collect());
    }
    let addresses = match literal {
        Some(address) if origin.egress.allow_literal => return Ok([address].into()),
        Some(address) => [address].into(),
        None => names.resolve(&origin.host).await?,
    };
    if addresses.iter().all(|&address| why_not_public(address).is_none()) {
        return Ok(addresses);
    }
    let public: Arc<[IpAddr]> = addresses
        .iter()
        .copied()
        .filter(|&address| why_not_public(address).is_none())
        .collect();
    if !public.is_empty() {
        return Ok(public);
    }
    let why = addresses
        .iter()
        .find_map(|&address| why_not_public(address))
        .unwrap_or("no address");
    let message = format!(
        "`{}` leads to an address that is {why}: write the address itself as host in the configuration to allow it",
        origin.host
    );
    Err(UpstreamError::new(CallPhase::Egress, Fault::Forbidden, message))
}

impl AsyncRead for UpstreamIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
