//! A client's socket, plain or TLS, watched.
//!
//! What the watch says is read by the thread's sweep: when a header began, since when the client takes nothing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::conn::{Seat, Watch};
use super::strict::Strict;

pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The client's socket. What was read to find the protocol out is given first.
pub(super) struct ClientIo {
    stream: Stream,
    /// Read before, not yet given.
    first: Vec<u8>,
    watch: Arc<Watch>,
    strict: Option<Strict>,
    _seat: Seat,
}

impl ClientIo {
    pub(super) fn new(stream: Stream, watch: Arc<Watch>, seat: Seat) -> ClientIo {
        ClientIo {
            stream,
            first: Vec::new(),
            watch,
            strict: None,
            _seat: seat,
        }
    }

    /// What comes is HTTP/1, and must be so without doubt.
    pub(super) fn be_strict(&mut self) {
        self.strict = Some(Strict::default());
    }

    /// Reads until it is known whether the client begins as HTTP/2 does. Nothing is lost to later readers.
    pub(super) async fn begins_as_http2(&mut self) -> io::Result<bool> {
        const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let mut seen = [0u8; PREFACE.len()];
        let mut n_seen = 0;
        loop {
            let mut buf = ReadBuf::new(&mut seen[n_seen..]);
            std::future::poll_fn(|cx| Pin::new(&mut *self).poll_read(cx, &mut buf)).await?;
            let n_read = buf.filled().len();
            n_seen += n_read;
            let is_prefix = seen[..n_seen] == PREFACE[..n_seen];
            if n_read == 0 || !is_prefix || n_seen == PREFACE.len() {
                self.first = seen[..n_seen].to_vec();
                return Ok(is_prefix && n_seen == PREFACE.len());
            }
        }
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = if this.first.is_empty() {
            match &mut this.stream {
                Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
                Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            }
        } else {
            let n = this.first.len().min(buf.remaining());
            buf.put_slice(&this.first[..n]);
            this.first.drain(..n);
            Poll::Ready(Ok(()))
        };
        if buf.filled().len() > before {
            this.watch.bytes_came();
            if let Some(strict) = &mut this.strict
                && !this.watch.is_tunnel()
                && strict.look(&buf.filled()[before..]).is_err()
            {
                return this.refuse(cx);
            }
        }
        polled
    }
}

/// The answer to what is no request, or two.
const REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n\
    content-length: 79\r\n\r\n{\"error\":{\"type\":\"bad_request\",\"message\":\"the request is not valid HTTP/1.1\"}}\n";

impl ClientIo {
    /// Answers in hyper's place, to which this is an error of the socket. With a request still open the connection
    /// just ends: its client asked for that.
    fn refuse(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.watch.refuses() {
            // So short an answer fits into the socket's buffer; one that does not is not worth waiting for.
            let _ = Pin::new(&mut *self).poll_write(cx, REFUSAL);
            let _ = Pin::new(&mut *self).poll_flush(cx);
        }
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "not HTTP/1.1, or in two ways",
        )))
    }
}

impl ClientIo {
    fn written(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &polled {
            Poll::Pending => self.watch.write_waits(),
            Poll::Ready(_) => self.watch.write_went(),
        }
        polled
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        this.written(polled)
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
        let this = self.get_mut();
        let polled = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        this.written(polled)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
