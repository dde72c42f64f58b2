//! A thread's connections: serving them, and one sweep that closes those that take too long.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{mpsc, watch};

use super::gate::Place;
use super::io::{ClientIo, Stream};
use super::{Accepted, Handler, Phase, ServerSettings, Shared};
use crate::body::{Body, BodyError, Received};
use crate::clock;

/// What TLS found out.
#[derive(Debug, Clone)]
pub struct TlsInfo {
    /// The name the client asked for.
    pub sni: Option<Box<str>>,
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The protocol chosen.
    pub alpn: Option<Box<str>>,
}

/// A client's connection.
#[derive(Debug, Clone)]
pub struct ConnInfo {
    /// The client.
    pub peer: SocketAddr,
    /// The address it called.
    pub local: SocketAddr,
    /// Of a TLS connection.
    pub tls: Option<TlsInfo>,
    /// When it was taken, on the kernel's monotonic clock.
    pub accepted_at_ns: u64,
    /// When it was taken, as time of day.
    pub accepted_at_unix_ms: u64,
    /// Unique in this process.
    pub id: u64,
    /// The kernel's own name of the socket, by which its flow is found. 0 where the kernel gives none.
    pub socket_cookie: u64,
}

const NONE: u64 = u64::MAX;

/// What a sweep must know of a connection. Atomics because an upgraded connection may move; all use is of one thread.
pub(super) struct Watch {
    /// When the current header began.
    header_since_ms: AtomicU64,
    /// Since when nothing was asked.
    idle_since_ms: AtomicU64,
    write_blocked_since_ms: AtomicU64,
    /// Requests whose answer has not been sent.
    open_requests: AtomicU32,
    is_http2: AtomicBool,
    /// Upgraded: no longer HTTP, and none of our timeouts.
    is_tunnel: AtomicBool,
    n_refused: AtomicU32,
    order: AtomicU32,
    waker: Mutex<Option<Waker>>,
}

/// Orders of the sweep to a connection.
const GO_ON: u32 = 0;
const FINISH: u32 = 1;
const CLOSE: u32 = 2;

impl Watch {
    fn new() -> Watch {
        Watch {
            header_since_ms: AtomicU64::new(clock::now_ms()),
            idle_since_ms: AtomicU64::new(NONE),
            write_blocked_since_ms: AtomicU64::new(NONE),
            open_requests: AtomicU32::new(0),
            is_http2: AtomicBool::new(false),
            is_tunnel: AtomicBool::new(false),
            n_refused: AtomicU32::new(0),
            order: AtomicU32::new(GO_ON),
            waker: Mutex::new(None),
        }
    }

    /// A request is refused before it is one. Whether it can be answered.
    pub(super) fn refuses(&self) -> bool {
        self.n_refused.fetch_add(1, Relaxed);
        self.open_requests.load(Relaxed) == 0
    }

    pub(super) fn is_tunnel(&self) -> bool {
        self.is_tunnel.load(Relaxed)
    }

    pub(super) fn bytes_came(&self) {
        // Frames of an HTTP/2 connection without requests need not be a header.
        if self.open_requests.load(Relaxed) == 0
            && self.header_since_ms.load(Relaxed) == NONE
            && !self.is_http2.load(Relaxed)
        {
            self.header_since_ms.store(clock::now_ms(), Relaxed);
        }
    }

    pub(super) fn write_waits(&self) {
        if self.write_blocked_since_ms.load(Relaxed) == NONE {
            self.write_blocked_since_ms.store(clock::now_ms(), Relaxed);
        }
    }

    pub(super) fn write_went(&self) {
        self.write_blocked_since_ms.store(NONE, Relaxed);
    }

    fn request_began(&self) {
        self.open_requests.fetch_add(1, Relaxed);
        self.header_since_ms.store(NONE, Relaxed);
        self.idle_since_ms.store(NONE, Relaxed);
    }

    fn request_ended(&self) {
        if self.open_requests.fetch_sub(1, Relaxed) == 1 {
            self.idle_since_ms.store(clock::now_ms(), Relaxed);
        }
    }

    /// Whether it is a new order.
    fn order(&self, order: u32) -> bool {
        if self.order.load(Relaxed) >= order {
            return false;
        }
        self.order.store(order, Relaxed);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    fn listen(&self, cx: &Context<'_>) {
        let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }
}

type Connections = Rc<RefCell<Vec<Arc<Watch>>>>;

/// How often connections are looked through: the precision of their timeouts.
const SWEEP: Duration = Duration::from_millis(100);

/// Serves a thread's connections until the server drains and the last has ended.
pub(super) async fn run_thread<H: Handler>(
    thread: usize,
    shared: Arc<Shared>,
    handler: Rc<H>,
    mut accepted: mpsc::Receiver<Accepted>,
    mut phase: watch::Receiver<Phase>,
) {
    let connections: Connections = Rc::default();
    let mut tick = tokio::time::interval(SWEEP);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut is_open = true;
    let mut drain_since_ms = None;
    loop {
        let busy = !connections.borrow().is_empty();
        tokio::select! {
            next = accepted.recv(), if is_open => match next {
                Some(next) => {
                    let watch = Arc::new(Watch::new());
                    connections.borrow_mut().push(Arc::clone(&watch));
                    let serve = serve(next, thread, Arc::clone(&shared), Rc::clone(&handler), watch);
                    tokio::task::spawn_local(serve);
                }
                None => is_open = false,
            },
            changed = phase.changed() => {
                let now = if changed.is_err() { Phase::Cut } else { *phase.borrow_and_update() };
                match now {
                    Phase::Running => {}
                    Phase::Draining => drain_since_ms = Some(clock::now_ms()),
                    Phase::Cut => {
                        cut(&connections, &shared);
                        return;
                    }
                }
                sweep(&connections, &shared, drain_since_ms);
            },
            _ = tick.tick(), if busy => sweep(&connections, &shared, drain_since_ms),
        }
        if !is_open && drain_since_ms.is_some() && connections.borrow().is_empty() {
            return;
        }
    }
}

/// Counts what is open when the deadline has come; dropping the tasks closes it.
fn cut(connections: &Connections, shared: &Shared) {
    let counts = &shared.counts;
    for watch in connections.borrow().iter() {
        let n_requests = watch.open_requests.load(Relaxed);
        counts.cut_requests.fetch_add(u64::from(n_requests), Relaxed);
        counts.cut_connections.fetch_add(1, Relaxed);
    }
}

/// Closes what took too long and forgets what has ended.
fn sweep(connections: &Connections, shared: &Shared, drain_since_ms: Option<u64>) {
    let (settings, counts) = (&shared.settings, &shared.counts);
    let now_ms = clock::now_ms();
    let drain_grace_ms = settings.drain_grace.as_millis() as u64;
    let overdue = |since: &AtomicU64, timeout: Duration| {
        let since = since.load(Relaxed);
        since != NONE && now_ms.saturating_sub(since) > timeout.as_millis() as u64
    };
    connections.borrow_mut().retain(|watch| {
        // Ours is the only one left when the connection's task has ended.
        if Arc::strong_count(watch) == 1 {
            return false;
        }
        if watch.is_tunnel.load(Relaxed) {
            return true;
        }
        let is_idle = watch.open_requests.load(Relaxed) == 0;
        let (counter, order) = if overdue(&watch.write_blocked_since_ms, settings.write_timeout) {
            (Some(&counts.slow_readers), CLOSE)
        } else if is_idle && overdue(&watch.header_since_ms, settings.header_timeout) {
            (Some(&counts.slow_headers), CLOSE)
        } else if is_idle && overdue(&watch.idle_since_ms, settings.idle_timeout) {
            (Some(&counts.idle_closed), FINISH)
        } else if drain_since_ms.is_some_and(|since_ms| {
            watch.is_http2.load(Relaxed) || now_ms.saturating_sub(since_ms) >= drain_grace_ms
        }) {
            (None, FINISH)
        } else {
            return true;
        };
        if watch.order(order)
            && let Some(counter) = counter
        {
            counter.fetch_add(1, Relaxed);
        }
        true
    });
}

/// A connection's part in the limits and counts, held by its socket: given back when that closes.
pub(super) struct Seat {
    shared: Arc<Shared>,
    thread: usize,
    _place: Place,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.loads[self.thread].fetch_sub(1, Relaxed);
        self.shared.counts.open.fetch_sub(1, Relaxed);
    }
}

/// Idle time after which an HTTP/2 client is asked whether it still lives.
const PING_INTERVAL: Duration = Duration::from_secs(30);

async fn serve<H: Handler>(
    accepted: Accepted,
    thread: usize,
    shared: Arc<Shared>,
    handler: Rc<H>,
    watch: Arc<Watch>,
) {
    static NEXT_ID: AtomicU64 = AtomicU64::new(1);
    let seat = Seat {
        shared: Arc::clone(&shared),
        thread,
        _place: accepted.place,
    };
    let accepted_at_ns = clock::monotonic_ns();
    let socket_cookie = socket2::SockRef::from(&accepted.stream).cookie().unwrap_or(0);
    let Ok(stream) = tokio::net::TcpStream::from_std(accepted.stream) else {
        return;
    };
    let Ok(local) = stream.local_addr() else { return };
    // Small answers must not wait for the acknowledgement of earlier ones.
    let _ = stream.set_nodelay(true);

    let mut http2 = None;
    let (stream, tls) = match &accepted.tls {
        None => (Stream::Plain(stream), None),
        Some(certificates) => {
            let handshake = certificates.acceptor().accept(stream);
            match unless_closed(&watch, handshake).await {
                Some(Ok(stream)) => {
                    let info = super::tls::info_of(stream.get_ref().1);
                    http2 = Some(info.alpn.as_deref() == Some("h2"));
                    (Stream::Tls(Box::new(stream)), Some(info))
                }
                Some(Err(error)) => {
                    shared.counts.tls_failed.fetch_add(1, Relaxed);
                    tracing::debug!(peer = %accepted.peer, %error, "TLS handshake failed");
                    return;
                }
                None => return,
            }
        }
    };
    let info = Rc::new(ConnInfo {
        peer: accepted.peer,
        local,
        tls,
        accepted_at_ns,
        accepted_at_unix_ms: clock::unix_ms(),
        id: NEXT_ID.fetch_add(1, Relaxed),
        socket_cookie,
    });
    let mut io = ClientIo::new(stream, Arc::clone(&watch), seat);
    let is_http2 = match http2 {
        Some(is_http2) => is_http2,
        None => match unless_closed(&watch, io.begins_as_http2()).await {
            Some(Ok(is_http2)) => is_http2,
            _ => return,
        },
    };
    let service = {
        let (shared, watch) = (Arc::clone(&shared), Arc::clone(&watch));
        service_fn(move |request: Request<Incoming>| {
            let (handler, info) = (Rc::clone(&handler), Rc::clone(&info));
            let guard = Open::new(Arc::clone(&shared), Arc::clone(&watch));
            answer(handler, request, info, guard)
        })
    };
    let settings = &shared.settings;
    if is_http2 {
        watch.is_http2.store(true, Relaxed);
        let mut builder = hyper::server::conn::http2::Builder::new(LocalExecutor);
        builder
            .max_concurrent_streams(settings.streams_max)
            .max_header_list_size(u32::try_from(settings.header_bytes_max).unwrap_or(u32::MAX))
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL);
        let connection = builder.serve_connection(TokioIo::new(io), service);
        drive(
            &watch,
            connection,
            hyper::server::conn::http2::Connection::graceful_shutdown,
        )
        .await;
    } else {
        io.be_strict();
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.max_header_size(settings.header_bytes_max);
        if settings.header_fields_max != HYPER_HEADER_FIELDS {
            builder.max_headers(settings.header_fields_max);
        }
        let connection = builder
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades();
        drive(
            &watch,
            connection,
            hyper::server::conn::http1::UpgradeableConnection::graceful_shutdown,
        )
        .await;
        shared
            .counts
            .bad_requests
            .fetch_add(watch.n_refused.load(Relaxed).into(), Relaxed);
    }
}

/// hyper's own limit of header fields, with which it parses into its stack; another one costs an allocation.
const HYPER_HEADER_FIELDS: usize = 100;

/// Runs futures of an HTTP/2 connection on its own thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Runs a connection until it ends or the sweep orders its end.
async fn drive<C, E>(watch: &Watch, connection: C, finish: impl Fn(Pin<&mut C>))
where
    C: Future<Output = Result<(), E>>,
{
    let mut connection = std::pin::pin!(connection);
    let mut is_finishing = false;
    watch_listen(watch).await;
    std::future::poll_fn(|cx| {
        match watch.order.load(Relaxed) {
            CLOSE => return Poll::Ready(()),
            FINISH if !is_finishing => {
                is_finishing = true;
                finish(connection.as_mut());
                watch.listen(cx);
            }
            _ => {}
        }
        // An error is the client's: it left, or spoke no HTTP. hyper has answered what can be answered.
        connection.as_mut().poll(cx).map(|_| ())
    })
    .await;
}

async fn watch_listen(watch: &Watch) {
    std::future::poll_fn(|cx| {
        watch.listen(cx);
        Poll::Ready(())
    })
    .await;
}

/// Runs what comes before HTTP; `None` when the sweep orders the end.
async fn unless_closed<F: Future>(watch: &Watch, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        if watch.order.load(Relaxed) != GO_ON {
            return Poll::Ready(None);
        }
        watch.listen(cx);
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// A request that is not answered to its end yet.
struct Open {
    shared: Arc<Shared>,
    watch: Arc<Watch>,
    is_done: bool,
}

impl Open {
    fn new(shared: Arc<Shared>, watch: Arc<Watch>) -> Open {
        watch.request_began();
        Open {
            shared,
            watch,
            is_done: false,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.is_done {
            self.shared.counts.abandoned.fetch_add(1, Relaxed);
        }
        self.watch.request_ended();
    }
}

/// The response's body, by which it is known when the request has ended.
struct Tracked {
    body: Body,
    open: Open,
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        this.open.is_done = match &polled {
            Poll::Ready(None | Some(Err(_))) => true,
            Poll::Ready(Some(Ok(_))) => this.body.is_end_stream(),
            Poll::Pending => false,
        };
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

async fn answer<H: Handler>(
    handler: Rc<H>,
    request: Request<Incoming>,
    info: Rc<ConnInfo>,
    mut open: Open,
) -> Result<Response<Tracked>, Infallible> {
    let settings: &ServerSettings = &open.shared.settings;
    let is_http1 = request.version() < Version::HTTP_2;
    let is_head = request.method() == hyper::Method::HEAD;
    let mut response = match check_host(&request) {
        Err(why) => {
            open.shared.counts.bad_requests.fetch_add(1, Relaxed);
            refuse(why)
        }
        Ok(()) => {
            open.shared.counts.requests.fetch_add(1, Relaxed);
            let (limit, patience) = (settings.body_bytes_max, settings.body_patience);
            let request = request.map(|incoming| Received::new(incoming, limit, patience));
            handler.handle(request, info).await
        }
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        open.watch.is_tunnel.store(true, Relaxed);
    } else if is_http1 && open.shared.draining.load(Relaxed) {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    // A body that hyper will not poll has ended already.
    open.is_done = is_head || response.body().is_end_stream();
    Ok(response.map(|body| Tracked { body, open }))
}

/// What hyper and [`super::strict`] let pass but two readers may read in two ways (RFC 9112, 3.2).
fn check_host<B>(request: &Request<B>) -> Result<(), &'static str> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err("more than one Host");
    }
    let Some(host) = host else {
        return if request.version() == Version::HTTP_11 {
            Err("no Host")
        } else {
            Ok(())
        };
    };
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:[]~%!$&'()*+,;=".contains(byte);
    if !host.as_bytes().iter().all(is_plain) {
        return Err("a Host that is no host");
    }
    match request.uri().authority() {
        Some(authority)
            if !authority
                .as_str()
                .as_bytes()
                .eq_ignore_ascii_case(host.as_bytes()) =>
        {
            Err("a target of another host than Host")
        }
        _ => Ok(()),
    }
}

fn refuse(why: &'static str) -> Response<Body> {
    let body = format!("{{\"error\":{{\"type\":\"bad_request\",\"message\":\"{why}\"}}}}\n");
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let headers = response.headers_mut();
    headers.insert(
        hyper::header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
