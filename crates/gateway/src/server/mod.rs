//! Connections in.
//!
//! One thread per core, each with a runtime of its own; a connection lives and dies on one thread, and so do the
//! calls made for it. Measured on two cores, 32 connections, an answer of 90 bytes, upstream in a process of its own,
//! each over three rounds of the same minutes (requests a second, processor time a request):
//!
//! | | requests/s | µs/request |
//! |---|---|---|
//! | nginx, two workers | 79 000–97 000 | 9.6–10.4 |
//! | a thread per core, upstream connections as tasks of the thread | 71 000–79 000 | 11.8–12.6 |
//! | a thread per core, upstream connection driven by the request | 64 000–72 000 | 13.1–15.6 |
//! | one runtime of two threads, pool behind a mutex | 54 000–59 000 | 15.1–16.6 |
//!
//! The finished gateway beside nginx, same setup but on a machine busy with other work (medians of four rounds): as a
//! plain proxy 0.98 of nginx's requests a second at 1.3 of its processor time; a REST service with key, limit and
//! record (no sink behind it) 0.77 at 1.6. To be measured again when the machine is quiet.
//!
//! One task per listening socket takes connections and gives each to the thread that has the fewest. Sockets are
//! bound by the caller. Several processes may take from the same socket: a connection that one has taken, it serves.

mod conn;
mod gate;
mod io;
mod strict;
pub mod tls;

use std::future::Future;
use std::io::Error as IoError;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::{Request, Response};
use tokio::sync::{mpsc, watch};

use crate::body::{Body, Patience, Received};
pub(crate) use conn::LocalExecutor;
pub use conn::{ConnInfo, TlsInfo};
use gate::Gate;
use tls::Certificates;

/// Bounds of a server. Defaults are meant for a service on the open internet.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Threads; 0 means one per core.
    pub threads: usize,
    /// Open connections in all.
    pub connections_max: usize,
    /// Open connections of one source: an IPv4 address, or 64 bits of an IPv6 address.
    pub connections_per_source_max: usize,
    /// From accept, or the first byte of a request, to the end of its header; the TLS handshake counts.
    pub header_timeout: Duration,
    /// Bytes of a request's header, request line included.
    pub header_bytes_max: usize,
    /// Fields of a request's header.
    pub header_fields_max: usize,
    /// How long a connection may be without a request.
    pub idle_timeout: Duration,
    /// How slowly a request's body may come.
    pub body_patience: Patience,
    /// Bytes of a request's body, unless the handler says otherwise.
    pub body_bytes_max: u64,
    /// How long a client may not take what is sent to it.
    pub write_timeout: Duration,
    /// Requests at a time on one HTTP/2 connection.
    pub streams_max: u32,
    /// When draining: how long an idle HTTP/1 connection may still bring a request, which is answered with
    /// `connection: close`. Who sends within this time meets no closed connection.
    pub drain_grace: Duration,
}

impl Default for ServerSettings {
    fn default() -> ServerSettings {
        ServerSettings {
            threads: 0,
            connections_max: 16_384,
            connections_per_source_max: 1_024,
            header_timeout: Duration::from_secs(10),
            header_bytes_max: 64 * 1024,
            header_fields_max: 100,
            idle_timeout: Duration::from_secs(75),
            body_patience: Patience {
                grace: Duration::from_secs(30),
                min_bytes_per_s: 500,
            },
            body_bytes_max: 32 * 1024 * 1024,
            write_timeout: Duration::from_secs(60),
            streams_max: 250,
            drain_grace: Duration::from_millis(500),
        }
    }
}

/// A bound socket, and how to speak on it.
#[derive(Debug)]
pub struct Listener {
    /// Bound and listening.
    pub socket: TcpListener,
    /// With certificates it is TLS, without it is plain.
    pub tls: Option<Arc<Certificates>>,
}

/// What answers requests: one per thread.
///
/// The future and the response's body are dropped when the client goes away; what they hold must clean up by `Drop`.
/// A client that closes its sending side before it has its answer counts as gone, as with nginx.
pub trait Handler: 'static {
    /// Answers one request.
    fn handle(
        self: Rc<Self>,
        request: Request<Received>,
        conn: Rc<ConnInfo>,
    ) -> impl Future<Output = Response<Body>> + 'static;
}

/// What became of a server that was shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainReport {
    /// Requests that were not finished at the deadline.
    pub cut_requests: u64,
    /// Connections that were closed at the deadline.
    pub cut_connections: u64,
}

/// Counts of a server, each since its start unless it says otherwise.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections taken.
    pub accepted: AtomicU64,
    /// Open now.
    pub open: AtomicUsize,
    /// Closed at once: more than `connections_max`.
    pub refused_all: AtomicU64,
    /// Closed at once: more than `connections_per_source_max`.
    pub refused_source: AtomicU64,
    /// Errors of accept, such as no file descriptors left.
    pub accept_errors: AtomicU64,
    /// Requests handed to the handler.
    pub requests: AtomicU64,
    /// Requests refused before the handler: their framing is ambiguous or broken.
    pub bad_requests: AtomicU64,
    /// Requests whose client left before the end of the answer was handed to its socket.
    pub abandoned: AtomicU64,
    /// Connections closed: header or TLS handshake too slow.
    pub slow_headers: AtomicU64,
    /// Connections closed: idle.
    pub idle_closed: AtomicU64,
    /// Connections closed: client takes nothing.
    pub slow_readers: AtomicU64,
    /// TLS handshakes that failed.
    pub tls_failed: AtomicU64,
    /// Cut at the deadline of a shutdown.
    pub cut_requests: AtomicU64,
    /// Cut at the deadline of a shutdown.
    pub cut_connections: AtomicU64,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The operating system refuses something.
    #[error("cannot {what}")]
    Os {
        /// What was tried.
        what: &'static str,
        /// What it says.
        #[source]
        source: IoError,
    },
}

/// Where a server stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Draining,
    Cut,
}

/// What all threads share. Nothing of it is touched on the way of a request but counters.
struct Shared {
    settings: ServerSettings,
    counts: Arc<Counts>,
    gate: Gate,
    /// Open connections of each thread.
    loads: Vec<AtomicUsize>,
    /// Set when draining begins, for the way of a request; the channel wakes the threads.
    draining: AtomicBool,
}

/// A running server. Dropping it cuts everything.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    phase: watch::Sender<Phase>,
    threads: Vec<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// A connection on its way to its thread.
struct Accepted {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<Certificates>>,
    place: gate::Place,
}

/// Connections that may be on their way to one thread.
const HANDOVER_MAX: usize = 1_024;

impl Server {
    /// Starts threads that serve what comes on `listeners`. `make` is called once on each thread.
    ///
    /// # Errors
    /// When the operating system gives no thread or refuses the sockets.
    pub fn start<H: Handler>(
        listeners: Vec<Listener>,
        settings: ServerSettings,
        make: impl Fn() -> Rc<H> + Send + Sync + 'static,
    ) -> Result<Server, ServerError> {
        let n_threads = match settings.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            n => n,
        };
        let os = |what| move |source| ServerError::Os { what, source };
        let mut addresses = Vec::new();
        for listener in &listeners {
            listener
                .socket
                .set_nonblocking(true)
                .map_err(os("make a listening socket non-blocking"))?;
            addresses.push(
                listener
                    .socket
                    .local_addr()
                    .map_err(os("read a listening socket's address"))?,
            );
        }
        let shared = Arc::new(Shared {
            gate: Gate::new(settings.connections_max, settings.connections_per_source_max),
            settings,
            counts: Arc::default(),
            loads: (0..n_threads).map(|_| AtomicUsize::new(0)).collect(),
            draining: AtomicBool::new(false),
        });
        let (phase, _) = watch::channel(Phase::Running);
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..n_threads).map(|_| mpsc::channel(HANDOVER_MAX)).unzip();
        let mut per_thread: Vec<Vec<Listener>> = (0..n_threads).map(|_| Vec::new()).collect();
        for (i, listener) in listeners.into_iter().enumerate() {
            per_thread[i % n_threads].push(listener);
        }
        let make = Arc::new(make);
        let mut threads = Vec::new();
        for (thread, (receiver, listeners)) in receivers.into_iter().zip(per_thread).enumerate() {
            let shared = Arc::clone(&shared);
            let (make, senders, phase) = (Arc::clone(&make), senders.clone(), phase.subscribe());
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(os("make a runtime"))?;
            let run = move || {
                tokio::task::LocalSet::new().block_on(&runtime, async move {
                    for listener in listeners {
                        let accept = accept(listener, Arc::clone(&shared), senders.clone(), phase.clone());
                        tokio::task::spawn_local(accept);
                    }
                    drop(senders);
                    conn::run_thread(thread, shared, make(), receiver, phase).await;
                });
                // Blocking tasks of the runtime (name resolution) must not hold up the end.
                runtime.shutdown_background();
            };
            let handle = std::thread::Builder::new()
                .name(format!("gateway-{thread}"))
                .spawn(run)
                .map_err(os("start a thread"))?;
            threads.push(handle);
        }
        Ok(Server {
            shared,
            phase,
            threads,
            addresses,
        })
    }

    /// The addresses it listens on, in the order of the listeners.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What it counted.
    #[must_use]
    pub fn counts(&self) -> &Arc<Counts> {
        &self.shared.counts
    }

    /// Takes no more connections, tells clients to leave, and lets open requests finish. Returns at once.
    pub fn begin_drain(&self) {
        self.shared.draining.store(true, Relaxed);
        self.phase.send_if_modified(|phase| {
            let modified = *phase == Phase::Running;
            if modified {
                *phase = Phase::Draining;
            }
            modified
        });
    }

    /// Drains, waits for open requests up to `deadline`, and cuts what is left. Blocks the calling thread.
    #[must_use]
    pub fn shutdown(mut self, deadline: Duration) -> DrainReport {
        self.begin_drain();
        let until = std::time::Instant::now() + deadline;
        while std::time::Instant::now() < until && !self.threads.iter().all(JoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.cut();
        let counts = &self.shared.counts;
        DrainReport {
            cut_requests: counts.cut_requests.load(Relaxed),
            cut_connections: counts.cut_connections.load(Relaxed),
        }
    }

    fn cut(&mut self) {
        self.shared.draining.store(true, Relaxed);
        self.phase.send_replace(Phase::Cut);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the gateway panicked");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.cut();
    }
}

/// After an error of accept that will not pass by itself, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Takes connections of one socket and gives each to the thread with the fewest.
async fn accept(
    listener: Listener,
    shared: Arc<Shared>,
    threads: Vec<mpsc::Sender<Accepted>>,
    mut phase: watch::Receiver<Phase>,
) {
    let socket = match tokio::net::TcpListener::from_std(listener.socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%error, "a listening socket cannot be used");
            return;
        }
    };
    let counts = &shared.counts;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase != Phase::Running) => return,
            accepted = socket.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                counts.accept_errors.fetch_add(1, Relaxed);
                if !matches!(error.kind(), std::io::ErrorKind::ConnectionAborted) {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                continue;
            }
        };
        counts.accepted.fetch_add(1, Relaxed);
        let place = match shared.gate.enter(peer.ip()) {
            Ok(place) => place,
            Err(gate::Full::All) => {
                counts.refused_all.fetch_add(1, Relaxed);
                continue;
            }
            Err(gate::Full::Source) => {
                counts.refused_source.fetch_add(1, Relaxed);
                continue;
            }
        };
        let Ok(stream) = stream.into_std() else { continue };
        let thread = (0..threads.len())
            .min_by_key(|&i| shared.loads[i].load(Relaxed))
            .unwrap_or(0);
        shared.loads[thread].fetch_add(1, Relaxed);
        counts.open.fetch_add(1, Relaxed);
        // Waiting here holds the next connections in the kernel's queue, where another process may take them.
        if threads[thread]
            .send(Accepted {
                stream,
                peer,
                tls: listener.tls.clone(),
                place,
            })
            .await
            .is_err()
        {
            return;
        }
    }
}
