//! Connections out: one client per thread, with its own pool, over HTTP/1.1 and HTTP/2.
//!
//! A call goes to a kept connection if there is one, else to a new one. A kept connection may have been closed by the
//! other side while the request was on its way. Then the request is sent once more on a new one, if either no byte of
//! it was sent, or its method is idempotent and its body is at hand (RFC 9110, 9.2.2). A POST that may have arrived is
//! never sent twice.

mod connect;
pub mod egress;
pub mod error;
mod origin;
mod outgoing;
mod pool;
pub mod trust;
pub mod tunnel;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{HOST, UPGRADE};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, Uri, Version};

use crate::body::{Body, BodyError};
use crate::clock::Alarm;
pub use egress::EgressRule;
pub use error::{CallPhase, Fault, Retry, UpstreamError};
pub use origin::{Origin, OriginError, Protocol, Scheme};
use outgoing::{Outgoing, Progress};
use pool::{Lease, Pool};

/// Bounds of a thread's client.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// Connections open to one origin.
    pub connections_max: usize,
    /// Of these, kept without a request. Fewer than a burst needs, and each burst connects anew: with 512 clients and
    /// 128 kept every sixth call did.
    pub idle_max: usize,
    /// How long one is kept without a request. Below what servers commonly use, so that they seldom close first.
    pub idle_timeout: Duration,
    /// Requests waiting for a connection to one origin; beyond it they fail at once.
    pub waiting_max: usize,
    /// Origins with a pool.
    pub origins_max: usize,
    /// Bytes of an answer's header.
    pub header_bytes_max: usize,
}

impl Default for ClientSettings {
    fn default() -> ClientSettings {
        ClientSettings {
            connections_max: 1_024,
            idle_max: 512,
            idle_timeout: Duration::from_secs(55),
            waiting_max: 1_024,
            origins_max: 4_096,
            header_bytes_max: 64 * 1024,
        }
    }
}

/// Timeouts of one call.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection: waiting for a free one, resolving, connecting and the TLS handshake, each time all together.
    pub connect: Duration,
    /// From the request's last byte to the answer's first; and for each pause while a request's body is sent.
    pub first_byte: Duration,
    /// For each pause within the answer.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(60),
            idle: Duration::from_secs(60),
        }
    }
}

/// How long the parts of a call took, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timing {
    /// From the call's begin until a connection was free, or could be made.
    pub queue_us: u32,
    /// Making a connection; 0 if a kept one was used.
    pub connect_us: u32,
    /// From having a connection to the answer's header.
    pub first_byte_us: u32,
}

/// An answer, its body still to come.
#[derive(Debug)]
pub struct Reply {
    /// Status, header and body.
    pub response: Response<Body>,
    /// What took how long.
    pub timing: Timing,
    /// Whether a kept connection was used.
    pub is_reused: bool,
    /// The request once more, if [`Client::try_call`] was asked to keep it and it may be repeated.
    pub again: Option<Box<Request<Body>>>,
}

/// A call that failed, with the request where it can be had back.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong.
    pub error: UpstreamError,
    /// The request: none of it was sent, or it may be repeated.
    pub request: Option<Box<Request<Body>>>,
}

/// Counts of a thread's client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientCounts {
    /// Calls begun.
    pub calls: u64,
    /// Connections made.
    pub connects: u64,
    /// Requests sent once more, since a kept connection had been closed.
    pub resent: u64,
}

/// The client of one thread. Clones share the pool. Must be used within a `LocalSet`.
#[derive(Clone)]
pub struct Client {
    inner: Rc<Inner>,
}

struct Inner {
    settings: ClientSettings,
    names: connect::Names,
    pools: RefCell<HashMap<Arc<Origin>, Rc<Pool>>>,
    counts: std::cell::Cell<ClientCounts>,
}

impl Client {
    /// With an empty pool.
    #[must_use]
    pub fn new(settings: ClientSettings) -> Client {
        let (names, pools) = (connect::Names::default(), RefCell::default());
        Client {
            inner: Rc::new(Inner {
                settings,
                names,
                pools,
                counts: std::cell::Cell::default(),
            }),
        }
    }

    /// What it counted.
    #[must_use]
    pub fn counts(&self) -> ClientCounts {
        self.inner.counts.get()
    }

    /// Connections open to `origin`, busy and idle.
    #[must_use]
    pub fn open_connections(&self, origin: &Origin) -> usize {
        self.inner
            .pools
            .borrow()
            .get(origin)
            .map_or(0, |pool| pool.n_open())
    }

    fn count(&self, add: impl FnOnce(&mut ClientCounts)) {
        let mut counts = self.inner.counts.get();
        add(&mut counts);
        self.inner.counts.set(counts);
    }

    fn pool(&self, origin: &Arc<Origin>) -> Rc<Pool> {
        if let Some(pool) = self.inner.pools.borrow().get(origin) {
            return Rc::clone(pool);
        }
        let mut pools = self.inner.pools.borrow_mut();
        if pools.len() >= self.inner.settings.origins_max {
            pools.retain(|_, pool| pool.n_open() > 0);
        }
        let pool = Rc::new(Pool::new(Arc::clone(origin), self.inner.settings.clone()));
        // Beyond the limit a pool serves one call and is forgotten.
        if pools.len() < self.inner.settings.origins_max {
            pools.insert(Arc::clone(origin), Rc::clone(&pool));
        }
        pool
    }

    /// Sends `request` to `origin`. Its URI needs a path only; without a `host` field it gets the origin's.
    ///
    /// Dropping the future, or the answer's body, cancels the call.
    ///
    /// # Errors
    /// Says how far it came, and whether it may be tried again.
    pub async fn call(
        &self,
        origin: &Arc<Origin>,
        request: Request<Body>,
        timeouts: &Timeouts,
    ) -> Result<Reply, UpstreamError> {
        self.try_call(origin, Box::new(request), timeouts, false)
            .await
            .map_err(|failure| failure.error)
    }

    /// As [`Client::call`]. The request comes back on failure if none of it was sent; with `keep` also when it may be
    /// repeated, since its method is idempotent and its body at hand.
    ///
    /// Requests are boxed, and what happens seldom is too: the future is moved once for each function around it.
    ///
    /// # Errors
    /// As of [`Client::call`].
    pub async fn try_call(
        &self,
        origin: &Arc<Origin>,
        request: Box<Request<Body>>,
        timeouts: &Timeouts,
        keep: bool,
    ) -> Result<Reply, Box<Failure>> {
        self.count(|counts| counts.calls += 1);
        let pool = self.pool(origin);
        let is_upgrade = request.headers().contains_key(UPGRADE);
        let started = Instant::now();
        let mut next = Some(request);
        let mut wants_fresh = false;
        loop {
            let mut timing = Timing::default();
            let kept = if wants_fresh { None } else { pool.kept(is_upgrade) };
            let lease = match kept {
                Some(lease) => lease,
                None => {
                    let lease = self.lease(&pool, wants_fresh, is_upgrade, timeouts, &mut timing, started);
                    match Box::pin(lease).await {
                        Ok(lease) => lease,
                        Err(error) => {
                            return Err(Box::new(Failure { error, request: next }));
                        }
                    }
                }
            };
            let is_reused = lease.is_reused;
            let this = next.take().expect("put back before each turn");
            // Only what may be sent twice is kept.
            let again = copy_if(&this, is_reused || keep);
            let sending = Instant::now();
            match exchange(lease, origin, *this, timeouts).await {
                Ok(response) => {
                    timing.first_byte_us = micros(sending.elapsed());
                    return Ok(Reply {
                        response,
                        timing,
                        is_reused,
                        again: again.filter(|_| keep),
                    });
                }
                Err(failed) => {
                    let Failed { error, unsent } = *failed;
                    let is_stale = is_reused && !wants_fresh && error.fault == Fault::Refused;
                    match unsent.or(again) {
                        Some(copy) if is_stale => {
                            self.count(|counts| counts.resent += 1);
                            next = Some(copy);
                            wants_fresh = true;
                        }
                        request => return Err(Box::new(Failure { error, request })),
                    }
                }
            }
        }
    }

    async fn lease(
        &self,
        pool: &Rc<Pool>,
        wants_fresh: bool,
        is_upgrade: bool,
        timeouts: &Timeouts,
        timing: &mut Timing,
        started: Instant,
    ) -> Result<Lease, UpstreamError> {
        let reserve = pool.reserve(wants_fresh, is_upgrade);
        let reserved = Alarm::after(timeouts.connect)
            .bound(reserve)
            .await
            .unwrap_or_else(|| Err(UpstreamError::timeout(CallPhase::Queue, timeouts.connect)))?;
        timing.queue_us = micros(started.elapsed());
        let seat = match reserved {
            pool::Reserved::Kept(lease) => return Ok(lease),
            pool::Reserved::Seat(seat) => seat,
        };
        let connecting = Instant::now();
        self.count(|counts| counts.connects += 1);
        let lease = pool
            .connect(seat, &self.inner.names, is_upgrade, timeouts.connect)
            .await?;
        timing.connect_us = micros(connecting.elapsed()).max(1);
        Ok(lease)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

fn micros(elapsed: Duration) -> u32 {
    u32::try_from(elapsed.as_micros()).unwrap_or(u32::MAX)
}

/// A copy, if it is wanted and may be sent.
fn copy_if(request: &Request<Body>, is_wanted: bool) -> Option<Box<Request<Body>>> {
    if !is_wanted || !request.method().is_idempotent() {
        return None;
    }
    let body = request.body().duplicate()?;
    let mut copy = Request::new(body);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(Box::new(copy))
}

struct Failed {
    error: UpstreamError,
    /// The request, if no byte of it was sent.
    unsent: Option<Box<Request<Body>>>,
}

/// Sends, and waits for the answer's header. The request is on its way before the future exists, which is small so.
fn exchange(
    mut lease: Lease,
    origin: &Origin,
    request: Request<Body>,
    timeouts: &Timeouts,
) -> impl Future<Output = Result<Response<Body>, Box<Failed>>> + use<> {
    let (mut parts, body) = request.into_parts();
    address(&mut parts, origin, lease.is_http2());
    let (body, progress) = Outgoing::new(body);
    let is_connect = parts.method == Method::CONNECT;
    let sending = lease.send(Request::from_parts(parts, body));
    let (first_byte_timeout, idle_timeout) = (timeouts.first_byte, timeouts.idle);
    async move {
        match first_byte(sending, progress.as_ref(), first_byte_timeout).await {
            Some(Ok(response)) => Ok(answered(response, lease, progress, idle_timeout, is_connect)),
            Some(Err(refused)) => Err(Box::new(failed(refused, progress.as_deref()))),
            None => Err(Box::new(Failed {
                error: UpstreamError::timeout(CallPhase::FirstByte, first_byte_timeout),
                unsent: None,
            })),
        }
    }
}

fn failed(mut refused: pool::SendFailed, progress: Option<&Progress>) -> Failed {
    let unsent = refused
        .take_message()
        .map(|request| Box::new(request.map(Outgoing::into_body)));
    let phase = match progress {
        Some(progress) if !progress.is_done() => CallPhase::Write,
        _ => CallPhase::FirstByte,
    };
    let mut error = UpstreamError::of_hyper(phase, refused.into_error(), unsent.is_none());
    if progress.is_some_and(Progress::failed) {
        (error.fault, error.retry) = (Fault::RequestBody, Retry::Never);
    }
    Failed { error, unsent }
}

fn answered(
    response: Response<Incoming>,
    lease: Lease,
    progress: Option<Rc<Progress>>,
    idle_timeout: Duration,
    is_connect: bool,
) -> Response<Body> {
    let (parts, incoming) = response.into_parts();
    let mut body = UpstreamBody {
        incoming,
        lease: Some(lease),
        progress,
        idle_timeout,
        alarm: None,
    };
    // An upgraded connection is no longer ours, and must not go back to the pool.
    if parts.status == hyper::StatusCode::SWITCHING_PROTOCOLS || is_connect && parts.status.is_success() {
        body.lease = None;
        return Response::from_parts(parts, Body::Empty);
    }
    let body = if body.incoming.is_end_stream() {
        body.release();
        // HEAD: the length told is not of a body that comes.
        Body::Empty
    } else {
        Body::Upstream(Box::new(body))
    };
    Response::from_parts(parts, body)
}

/// Waits for the answer's header; `None` when nothing moves for too long.
async fn first_byte(
    mut sending: pool::Sending,
    progress: Option<&Rc<Progress>>,
    timeout: Duration,
) -> Option<Result<Response<Incoming>, pool::SendFailed>> {
    let mut alarm = Alarm::after(timeout);
    let mut moved = progress.map_or(0, |progress| progress.moved());
    std::future::poll_fn(|cx| {
        if let Poll::Ready(answered) = sending.as_mut().poll(cx) {
            return Poll::Ready(Some(answered));
        }
        while alarm.poll_due(cx).is_ready() {
            let now_moved = progress.map_or(0, |progress| progress.moved());
            if now_moved == moved {
                return Poll::Ready(None);
            }
            moved = now_moved;
            alarm.reset(timeout);
        }
        Poll::Pending
    })
    .await
}

/// Gives the request the form that the protocol wants.
fn address(parts: &mut Parts, origin: &Origin, is_http2: bool) {
    if is_http2 {
        parts.version = Version::HTTP_2;
        let host = parts.headers.remove(HOST);
        let authority = host
            .and_then(|host| host.to_str().ok()?.parse().ok())
            .or_else(|| origin.authority());
        let path = parts.uri.path_and_query().cloned();
        let mut uri = hyper::http::uri::Parts::default();
        uri.scheme = Some(origin.uri_scheme());
        uri.authority = authority;
        uri.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        if let Ok(uri) = Uri::from_parts(uri) {
            parts.uri = uri;
        }
    } else {
        parts.version = Version::HTTP_11;
        if !parts.headers.contains_key(HOST)
            && let Some(host) = origin.host_value()
        {
            parts.headers.insert(HOST, host.clone());
        }
        if parts.uri.scheme().is_some()
            && let Some(path) = parts.uri.path_and_query()
        {
            parts.uri = Uri::from(path.clone());
        }
    }
}

/// The body of an answer. Its connection goes back to the pool when it has ended, and is closed when it is dropped
/// before.
pub struct UpstreamBody {
    incoming: Incoming,
    lease: Option<Lease>,
    progress: Option<Rc<Progress>>,
    idle_timeout: Duration,
    alarm: Option<Alarm>,
}

impl UpstreamBody {
    fn release(&mut self) {
        if let Some(lease) = self.lease.take()
            && self.progress.as_ref().is_none_or(|progress| progress.is_done())
        {
            lease.give_back();
        }
    }

    fn fail(&mut self, error: UpstreamError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.lease = None;
        Poll::Ready(Some(Err(BodyError::Upstream(Box::new(error)))))
    }
}

impl HttpBody for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.alarm = None;
                if this.incoming.is_end_stream() {
                    this.release();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                this.alarm = None;
                this.release();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => this.fail(UpstreamError::of_hyper(CallPhase::Body, error, true)),
            Poll::Pending => {
                let timeout = this.idle_timeout;
                let alarm = this.alarm.get_or_insert_with(|| Alarm::after(timeout));
                if alarm.poll_due(cx).is_pending() {
                    return Poll::Pending;
                }
                this.fail(UpstreamError::timeout(CallPhase::Body, timeout))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamBody").finish_non_exhaustive()
    }
}
