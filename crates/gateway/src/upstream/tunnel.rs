//! What is no longer HTTP: WebSocket and other upgrades, copied both ways.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

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

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both sides have ended.
    Closed,
    /// Nothing came from either side for too long.
    Idle,
    /// One of them did not upgrade after all, or its connection broke.
    Broken,
}

/// Joins a client and an upstream that both agreed to an upgrade, until both have ended, one breaks, or neither
/// says anything for `idle`.
pub async fn join(client: OnUpgrade, upstream: OnUpgrade, idle: Duration) -> (TunnelCounts, End) {
    let Ok((client, upstream)) = tokio::try_join!(client, upstream) else {
        return (TunnelCounts::default(), End::Broken);
    };
    splice(TokioIo::new(client), TokioIo::new(upstream), idle).await
}

async fn splice(
    client: impl AsyncRead + AsyncWrite + Unpin,
    upstream: impl AsyncRead + AsyncWrite + Unpin,
    idle: Duration,
) -> (TunnelCounts, End) {
    let last = Rc::new(Cell::new(Instant::now()));
    let (up, down) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let mut client = Watched {
        inner: client,
        read_bytes: Rc::clone(&up),
        last: Rc::clone(&last),
    };
    let mut upstream = Watched {
        inner: upstream,
        read_bytes: Rc::clone(&down),
        last: Rc::clone(&last),
    };
    let copied =
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER_BYTES, BUFFER_BYTES);
    let silence = async {
        loop {
            let until = last.get() + idle;
            if Instant::now() >= until {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    };
    let end = tokio::select! {
        copied = copied => if copied.is_ok() { End::Closed } else { End::Broken },
        () = silence => End::Idle,
    };
    let counts = TunnelCounts {
        up_bytes: up.get(),
        down_bytes: down.get(),
    };
    (counts, end)
}

/// One side, which notes what is read from it and when.
struct Watched<T> {
    inner: T,
    read_bytes: Rc<Cell<u64>>,
    last: Rc<Cell<Instant>>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        let n = (buf.filled().len() - before) as u64;
        if n > 0 {
            self.read_bytes.set(self.read_bytes.get() + n);
            self.last.set(Instant::now());
        }
        Poll::Ready(read)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes));
        // A reader that takes its time is no silence.
        self.last.set(Instant::now());
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Silence ends a tunnel, talk in either direction does not.
    #[tokio::test(flavor = "current_thread")]
    async fn only_silence_ends_it() {
        const IDLE: Duration = Duration::from_secs(1);
        const ROUNDS: u32 = 12;
        let (mut client, ours) = tokio::io::duplex(64);
        let (theirs, mut upstream) = tokio::io::duplex(64);
        let begun = Instant::now();
        let talk = async {
            let mut got = [0; 3];
            for round in 0..ROUNDS {
                tokio::time::sleep(IDLE / 10).await;
                if round % 2 == 0 {
                    client.write_all(b"abc").await.expect("written");
                    upstream.read_exact(&mut got).await.expect("read");
                } else {
                    upstream.write_all(b"de").await.expect("written");
                    client.read_exact(&mut got[..2]).await.expect("read");
                }
            }
            // Both stay open, and say no more.
            (client, upstream)
        };
        let (ended, _open) = tokio::join!(splice(ours, theirs, IDLE), talk);
        let counts = TunnelCounts {
            up_bytes: u64::from(ROUNDS / 2 * 3),
            down_bytes: u64::from(ROUNDS / 2 * 2),
        };
        assert_eq!(ended, (counts, End::Idle));
        assert!(begun.elapsed() >= IDLE / 10 * ROUNDS + IDLE);
    }
}
