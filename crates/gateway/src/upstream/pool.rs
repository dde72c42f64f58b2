//! Kept connections of one thread to one origin.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use hyper::client::conn::{TrySendError, http1, http2};
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Notify;

use super::connect::{self, Names};
use super::error::{CallPhase, Fault, UpstreamError};
use super::outgoing::Outgoing;
use super::{ClientSettings, Origin, Protocol};
use crate::clock;
use crate::server::LocalExecutor;

/// Connections of HTTP/2 to one origin; each carries as many requests as the other side allows.
const HTTP2_CONNECTIONS_MAX: usize = 4;
/// An HTTP/2 connection that is silent so long is asked whether it lives.
const PING_INTERVAL: Duration = Duration::from_secs(20);

pub(super) struct Pool {
    origin: Arc<Origin>,
    settings: ClientSettings,
    /// The one used last is used next, so that those not needed grow old.
    idle: RefCell<Vec<Idle>>,
    http2: RefCell<Vec<Http2>>,
    /// HTTP/2 connections being made.
    http2_connecting: Cell<usize>,
    /// What the last connection agreed on: later calls then wait for it instead of connecting too.
    speaks_http2: Cell<bool>,
    seats: Arc<Seats>,
    n_waiting: Cell<usize>,
    reaping: Cell<bool>,
}

struct Idle {
    sender: http1::SendRequest<Outgoing>,
    since_ms: u64,
}

#[derive(Clone)]
struct Http2 {
    sender: http2::SendRequest<Outgoing>,
    in_flight: Rc<Cell<usize>>,
    idle_since_ms: Rc<Cell<u64>>,
    /// What the other side allows.
    streams_max: Rc<Cell<usize>>,
}

/// How many connections are open. Atomic since an upgraded connection may move to another thread.
#[derive(Default)]
pub(super) struct Seats {
    n_open: AtomicUsize,
    freed: Notify,
}

/// The right to be open, held by the socket.
pub(super) struct Seat(Arc<Seats>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.n_open.fetch_sub(1, Relaxed);
        self.0.freed.notify_one();
    }
}

/// A connection for one request.
pub(super) struct Lease {
    kind: Kind,
    pool: Rc<Pool>,
    pub(super) is_reused: bool,
}

enum Kind {
    Http1(http1::SendRequest<Outgoing>),
    Http2(Http2, #[expect(dead_code, reason = "held for its Drop")] InFlight),
}

/// One request of an HTTP/2 connection.
struct InFlight(Http2Load);

#[derive(Clone)]
struct Http2Load {
    in_flight: Rc<Cell<usize>>,
    idle_since_ms: Rc<Cell<u64>>,
    seats: Arc<Seats>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let load = &self.0;
        load.in_flight.set(load.in_flight.get() - 1);
        load.idle_since_ms.set(clock::now_ms());
        load.seats.freed.notify_one();
    }
}

pub(super) enum Reserved {
    Kept(Lease),
    Seat(Seat),
}

impl Pool {
    pub(super) fn new(origin: Arc<Origin>, settings: ClientSettings) -> Pool {
        let speaks_http2 = Cell::new(origin.protocol == Protocol::Http2);
        Pool {
            origin,
            settings,
            idle: RefCell::default(),
            http2: RefCell::default(),
            http2_connecting: Cell::new(0),
            speaks_http2,
            seats: Arc::default(),
            n_waiting: Cell::new(0),
            reaping: Cell::new(false),
        }
    }

    pub(super) fn n_open(&self) -> usize {
        self.seats.n_open.load(Relaxed)
    }

    /// A kept connection that is free.
    pub(super) fn kept(self: &Rc<Self>, is_upgrade: bool) -> Option<Lease> {
        if !is_upgrade && let Some(lease) = self.kept_http2() {
            return Some(lease);
        }
        let mut idle = self.idle.borrow_mut();
        let timeout_ms = self.settings.idle_timeout.as_millis() as u64;
        let now_ms = if idle.is_empty() { 0 } else { clock::now_ms() };
        let mut i = idle.len();
        while i > 0 {
            i -= 1;
            let this = &idle[i];
            if this.sender.is_closed() || now_ms.saturating_sub(this.since_ms) > timeout_ms {
                idle.swap_remove(i);
            } else if this.sender.is_ready() {
                let sender = idle.remove(i).sender;
                return Some(Lease {
                    kind: Kind::Http1(sender),
                    pool: Rc::clone(self),
                    is_reused: true,
                });
            }
            // Else its task has not run since the last answer: the next one, or a new one.
        }
        None
    }

    fn kept_http2(self: &Rc<Self>) -> Option<Lease> {
        let mut all = self.http2.borrow_mut();
        if all.is_empty() {
            return None;
        }
        all.retain(|this| !this.sender.is_closed());
        let this = all.iter().min_by_key(|this| this.in_flight.get())?;
        if this.in_flight.get() >= this.streams_max.get().max(1) {
            return None;
        }
        Some(self.lease_http2(this.clone(), true))
    }

    fn lease_http2(self: &Rc<Self>, this: Http2, is_reused: bool) -> Lease {
        this.in_flight.set(this.in_flight.get() + 1);
        let load = Http2Load {
            in_flight: Rc::clone(&this.in_flight),
            idle_since_ms: Rc::clone(&this.idle_since_ms),
            seats: Arc::clone(&self.seats),
        };
        Lease {
            kind: Kind::Http2(this, InFlight(load)),
            pool: Rc::clone(self),
            is_reused,
        }
    }

    /// The right to connect, or a kept connection that becomes free before.
    pub(super) async fn reserve(
        self: &Rc<Self>,
        wants_fresh: bool,
        is_upgrade: bool,
    ) -> Result<Reserved, UpstreamError> {
        let mut waiting = None;
        loop {
            if self.may_connect(is_upgrade) {
                self.seats.n_open.fetch_add(1, Relaxed);
                return Ok(Reserved::Seat(Seat(Arc::clone(&self.seats))));
            }
            if waiting.is_none() {
                waiting = Some(Waiting::new(self)?);
            }
            self.seats.freed.notified().await;
            if !wants_fresh && let Some(lease) = self.kept(is_upgrade) {
                return Ok(Reserved::Kept(lease));
            }
        }
    }

    fn may_connect(&self, is_upgrade: bool) -> bool {
        if self.speaks_http2.get() && !is_upgrade {
            // One at a time; the others share it.
            let n_http2 = self.http2.borrow().len();
            return self.http2_connecting.get() == 0 && n_http2 < HTTP2_CONNECTIONS_MAX;
        }
        self.n_open() < self.settings.connections_max
    }

    pub(super) async fn connect(
        self: &Rc<Self>,
        seat: Seat,
        names: &Names,
        is_upgrade: bool,
        timeout: Duration,
    ) -> Result<Lease, UpstreamError> {
        let _connecting = Connecting::new(self);
        let protocol = if is_upgrade {
            Protocol::Http1
        } else {
            self.origin.protocol
        };
        let connected = connect::connect(names, &self.origin, protocol, seat, timeout).await?;
        let io = TokioIo::new(connected.io);
        let failed = |error: hyper::Error| {
            let message = format!("handshake with {} failed", connected.peer);
            UpstreamError::new(CallPhase::Tls, Fault::Protocol, message).with(error)
        };
        if !is_upgrade {
            self.speaks_http2.set(connected.is_http2);
        }
        self.reap();
        if connected.is_http2 {
            let handshake = http2::Builder::new(LocalExecutor)
                .timer(TokioTimer::new())
                .keep_alive_interval(PING_INTERVAL)
                .max_header_list_size(u32::try_from(self.settings.header_bytes_max).unwrap_or(u32::MAX))
                .handshake(io)
                .await;
            let (sender, connection) = handshake.map_err(failed)?;
            let streams_max = Rc::new(Cell::new(connection.current_max_send_streams()));
            let told = Rc::clone(&streams_max);
            tokio::task::spawn_local(async move {
                let mut connection = std::pin::pin!(connection);
                std::future::poll_fn(|cx| {
                    // How it ends is told to the requests on it.
                    let polled = connection.as_mut().poll(cx).map(|_| ());
                    told.set(connection.current_max_send_streams());
                    polled
                })
                .await;
            });
            let idle_since_ms = Rc::new(Cell::new(clock::now_ms()));
            let this = Http2 {
                sender,
                in_flight: Rc::default(),
                idle_since_ms,
                streams_max,
            };
            self.http2.borrow_mut().push(this.clone());
            return Ok(self.lease_http2(this, false));
        }
        let handshake = http1::Builder::new()
            .max_header_size(self.settings.header_bytes_max)
            .handshake(io)
            .await;
        let (sender, connection) = handshake.map_err(failed)?;
        tokio::task::spawn_local(async move {
            let _ = connection.with_upgrades().await;
        });
        Ok(Lease {
            kind: Kind::Http1(sender),
            pool: Rc::clone(self),
            is_reused: false,
        })
    }

    fn keep(&self, sender: http1::SendRequest<Outgoing>) {
        let mut idle = self.idle.borrow_mut();
        if !sender.is_closed() && idle.len() < self.settings.idle_max {
            idle.push(Idle {
                sender,
                since_ms: clock::now_ms(),
            });
            if self.n_waiting.get() > 0 {
                self.seats.freed.notify_one();
            }
        }
    }

    /// Closes what is idle for too long, until nothing is open.
    fn reap(self: &Rc<Self>) {
        if self.reaping.replace(true) {
            return;
        }
        let pool = Rc::downgrade(self);
        let timeout = self.settings.idle_timeout;
        tokio::task::spawn_local(async move {
            loop {
                clock::sleep(timeout.min(Duration::from_secs(1))).await;
                let Some(pool) = pool.upgrade() else { return };
                let now_ms = clock::now_ms();
                let is_young = |since_ms: u64| now_ms.saturating_sub(since_ms) <= timeout.as_millis() as u64;
                pool.idle
                    .borrow_mut()
                    .retain(|this| !this.sender.is_closed() && is_young(this.since_ms));
                pool.http2.borrow_mut().retain(|this| {
                    !this.sender.is_closed()
                        && (this.in_flight.get() > 0 || is_young(this.idle_since_ms.get()))
                });
                if pool.n_open() == 0 {
                    pool.reaping.set(false);
                    return;
                }
            }
        });
    }
}

/// A request that waits for a connection.
struct Waiting<'a>(&'a Pool);

impl Waiting<'_> {
    fn new(pool: &Pool) -> Result<Waiting<'_>, UpstreamError> {
        if pool.n_waiting.get() >= pool.settings.waiting_max {
            let message = format!(
                "{} requests wait for a connection already",
                pool.settings.waiting_max
            );
            return Err(UpstreamError::new(CallPhase::Queue, Fault::Refused, message));
        }
        pool.n_waiting.set(pool.n_waiting.get() + 1);
        Ok(Waiting(pool))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.n_waiting.set(self.0.n_waiting.get() - 1);
        // A notice that came to us but was not used goes on to the next.
        if self.0.n_waiting.get() > 0 {
            self.0.seats.freed.notify_one();
        }
    }
}

/// Marks that a connection is being made; who waits for it is woken whatever comes of it.
struct Connecting<'a>(&'a Pool);

impl Connecting<'_> {
    fn new(pool: &Pool) -> Connecting<'_> {
        pool.http2_connecting.set(pool.http2_connecting.get() + 1);
        Connecting(pool)
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.http2_connecting.set(self.0.http2_connecting.get() - 1);
        self.0.seats.freed.notify_waiters();
    }
}

pub(super) type SendFailed = TrySendError<Request<Outgoing>>;
/// A request that was handed over; its answer.
pub(super) type Sending = Pin<Box<dyn Future<Output = Result<Response<Incoming>, SendFailed>>>>;

impl Lease {
    pub(super) fn is_http2(&self) -> bool {
        matches!(self.kind, Kind::Http2(..))
    }

    /// Sends; the error holds the request if it was not sent.
    pub(super) fn send(&mut self, request: Request<Outgoing>) -> Sending {
        match &mut self.kind {
            Kind::Http1(sender) => Box::pin(sender.try_send_request(request)),
            Kind::Http2(this, _) => Box::pin(this.sender.try_send_request(request)),
        }
    }

    /// The answer has ended, and all of the request was sent.
    pub(super) fn give_back(self) {
        if let Kind::Http1(sender) = self.kind {
            self.pool.keep(sender);
        }
    }
}
