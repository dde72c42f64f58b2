//! The one body type of both directions.
//!
//! Every variant is pulled: nothing is read from its source before the receiver has room, so back-pressure reaches
//! from client to upstream and the other way round. Dropping a body lets go of what feeds it: that is how a client
//! that leaves cancels the call behind it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use tokio::sync::mpsc;

use crate::clock::Alarm;
use crate::upstream::{Fault, UpstreamBody, UpstreamError};

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The body is longer than its receiver takes.
    #[error("the body is longer than {limit} bytes")]
    TooLarge {
        /// What is taken.
        limit: u64,
    },
    /// The client sends too slowly.
    #[error("the request's body came too slowly")]
    TooSlow,
    /// The client's connection ended, or what came on it is no body.
    #[error("the request's body ended early")]
    Client(#[source] hyper::Error),
    /// The upstream's answer ended early.
    #[error("the answer of the upstream ended early")]
    Upstream(#[source] Box<UpstreamError>),
    /// What makes the body gave up.
    #[error("{0}")]
    Producer(String),
}

impl BodyError {
    /// Was an upstream silent for too long?
    pub fn is_timeout(&self) -> bool {
        matches!(self, BodyError::Upstream(error) if error.fault == Fault::Timeout)
    }
}

/// Bytes of a whole body's first piece that are copied out of the buffer of the connection.
const COPIED_MAX_BYTES: usize = 2048;

/// A body made elsewhere: what [`Body::Other`] holds.
pub type DynBody = Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError>>>;

/// A body of a response to a client, or of a request to an upstream.
pub enum Body {
    /// Nothing.
    Empty,
    /// All of it at once; `None` once taken.
    Full(Option<Bytes>),
    /// From a client.
    Received(Box<Received>),
    /// From an upstream.
    Upstream(Box<UpstreamBody>),
    /// From a task, through a bounded channel.
    Channel(mpsc::Receiver<Result<Frame<Bytes>, BodyError>>),
    /// Anything else, such as a conversion of another body.
    Other(DynBody),
}

impl Body {
    /// A body of these bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Body {
        let bytes = bytes.into();
        if bytes.is_empty() {
            Body::Empty
        } else {
            Body::Full(Some(bytes))
        }
    }

    /// A body fed by a task, which is held back at `capacity` frames and sees a closed channel when the receiver left.
    #[must_use]
    pub fn channel(capacity: usize) -> (mpsc::Sender<Result<Frame<Bytes>, BodyError>>, Body) {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        (sender, Body::Channel(receiver))
    }

    /// Any body.
    pub fn other(body: impl HttpBody<Data = Bytes, Error = BodyError> + 'static) -> Body {
        Body::Other(Box::pin(body))
    }

    /// The next frame; `None` at the end.
    pub async fn frame(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_frame(cx)).await
    }

    /// All of it, if it is no longer than `limit` bytes. Trailers are dropped.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] beyond the limit, and whatever ends the body.
    pub async fn collect(mut self, limit: u64) -> Result<Bytes, BodyError> {
        if self.size_hint().lower() > limit {
            return Err(BodyError::TooLarge { limit });
        }
        let mut first: Option<Bytes> = None;
        let mut rest: Vec<u8> = Vec::new();
        while let Some(frame) = self.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            let seen = first.as_ref().map_or(0, Bytes::len) + rest.len() + data.len();
            if seen as u64 > limit {
                return Err(BodyError::TooLarge { limit });
            }
            match &first {
                // A short piece is copied, so that the connection has its buffer back for what comes next.
                None if data.len() <= COPIED_MAX_BYTES => first = Some(Bytes::copy_from_slice(&data)),
                None => first = Some(data),
                Some(_) => rest.extend_from_slice(&data),
            }
        }
        Ok(match first {
            None => Bytes::new(),
            // Most bodies come in one piece.
            Some(first) if rest.is_empty() => first,
            Some(first) => {
                let mut all = Vec::with_capacity(first.len() + rest.len());
                all.extend_from_slice(&first);
                all.extend_from_slice(&rest);
                all.into()
            }
        })
    }

    /// A second one of the same content, where that costs nothing.
    #[must_use]
    pub fn duplicate(&self) -> Option<Body> {
        match self {
            Body::Empty => Some(Body::Empty),
            Body::Full(bytes) => Some(Body::Full(bytes.clone())),
            _ => None,
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Body::Empty => Poll::Ready(None),
            Body::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Body::Received(body) => Pin::new(body.as_mut()).poll_frame(cx),
            Body::Upstream(body) => Pin::new(body.as_mut()).poll_frame(cx),
            Body::Channel(receiver) => receiver.poll_recv(cx),
            Body::Other(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Empty => true,
            Body::Full(bytes) => bytes.is_none(),
            Body::Received(body) => body.is_end_stream(),
            Body::Upstream(body) => body.is_end_stream(),
            Body::Channel(receiver) => receiver.is_closed() && receiver.is_empty(),
            Body::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Empty => SizeHint::with_exact(0),
            Body::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Body::Received(body) => body.size_hint(),
            Body::Upstream(body) => body.size_hint(),
            Body::Channel(_) => SizeHint::default(),
            Body::Other(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Body::Empty => "Empty",
            Body::Full(_) => "Full",
            Body::Received(_) => "Received",
            Body::Upstream(_) => "Upstream",
            Body::Channel(_) => "Channel",
            Body::Other(_) => "Other",
        };
        f.write_str(name)
    }
}

impl From<Received> for Body {
    fn from(body: Received) -> Body {
        if body.is_end_stream() {
            Body::Empty
        } else {
            Body::Received(Box::new(body))
        }
    }
}

/// How slowly a client may send a body.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// What every body may take.
    pub grace: Duration,
    /// What it may take in addition: one second for each so many bytes received. 0 means that `grace` counts from the
    /// last byte instead, for streams that rightly pause.
    pub min_bytes_per_s: u32,
}

/// The body of a client's request.
///
/// Bounded in length ([`Received::limit`]) and in slowness ([`Patience`]). The rate matters more than the pause: who
/// sends a byte every few seconds pauses never and ends never.
pub struct Received {
    incoming: Incoming,
    limit: u64,
    seen: u64,
    patience: Patience,
    alarm: Option<Alarm>,
    waited_ms: u64,
    waiting_since_ms: u64,
    failed: bool,
}

impl Received {
    pub(crate) fn new(incoming: Incoming, limit: u64, patience: Patience) -> Received {
        Received {
            incoming,
            limit,
            seen: 0,
            patience,
            alarm: None,
            waited_ms: 0,
            waiting_since_ms: 0,
            failed: false,
        }
    }

    /// Bytes that came so far.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Bounds the length. A body that announces more fails at its first poll.
    pub fn limit(&mut self, bytes: u64) {
        self.limit = bytes;
    }

    /// Sets how slow it may be.
    pub fn patience(&mut self, patience: Patience) {
        self.patience = patience;
    }

    /// Whether the announced length is beyond the limit.
    #[must_use]
    pub fn announces_too_much(&self) -> bool {
        self.incoming.size_hint().lower() > self.limit.saturating_sub(self.seen)
    }

    /// All of it.
    ///
    /// # Errors
    /// As of [`Body::collect`].
    pub async fn collect(self, limit: u64) -> Result<Bytes, BodyError> {
        let limit = limit.min(self.limit);
        Body::from(self).collect(limit).await
    }

    fn time_left(&self) -> Duration {
        if self.patience.min_bytes_per_s == 0 {
            return self.patience.grace;
        }
        let earned_ms = self.seen.saturating_mul(1000) / u64::from(self.patience.min_bytes_per_s);
        let allowed_ms = (self.patience.grace.as_millis() as u64).saturating_add(earned_ms);
        Duration::from_millis(allowed_ms.saturating_sub(self.waited_ms))
    }
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.failed {
            return Poll::Ready(None);
        }
        if this.announces_too_much() {
            this.failed = true;
            return Poll::Ready(Some(Err(BodyError::TooLarge { limit: this.limit })));
        }
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    this.seen += data.len() as u64;
                    if this.seen > this.limit {
                        this.failed = true;
                        return Poll::Ready(Some(Err(BodyError::TooLarge { limit: this.limit })));
                    }
                }
                if this.alarm.take().is_some() {
                    this.waited_ms += crate::clock::now_ms().saturating_sub(this.waiting_since_ms);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.failed = true;
                Poll::Ready(Some(Err(BodyError::Client(error))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                if this.alarm.is_none() {
                    // Only time spent waiting counts: not what a slow upstream costs.
                    this.waiting_since_ms = crate::clock::now_ms();
                }
                let left = this.time_left();
                ready!(this.alarm.get_or_insert_with(|| Alarm::after(left)).poll_due(cx));
                this.failed = true;
                Poll::Ready(Some(Err(BodyError::TooSlow)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.failed || self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("seen", &self.seen)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
