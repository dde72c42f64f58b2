//! Connections: accepting them, their bounds, and their end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::TcpListener as StdTcpListener;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::Host;
use crate::error::ApiError;
use crate::guard::{Guard, Peer};
use crate::io::StallGuard;
use crate::routes::{self, Shared};

/// Header fields a request may have, and bytes they may take together with the request line. A
/// filter of the greatest length fits, percent-encoded.
const HEADERS_MAX: usize = 64;
const HEAD_LEN_MAX: usize = 16 * 1024;
/// Pause after an error of `accept`, which is most often that descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who may ask, and how much at once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// User trusted on Unix sockets besides root: the one who started Weir.
    pub uid_trusted: Option<u32>,
    /// Values of `Host` that are right besides localhost, loopback addresses and the address a
    /// connection came to; without ports.
    pub host_names: Vec<String>,
    /// Connections at once over TCP, and as many again over Unix sockets; more wait to be accepted.
    pub connections_max: usize,
    /// Streams of flow records at once, over all connections.
    pub streams_max: usize,
    /// Calls of the host at once.
    pub calls_max: usize,
    /// For a whole request head, and between requests.
    pub head_timeout: Duration,
    /// For a body.
    pub body_timeout: Duration,
    /// For a client that takes nothing of its answer.
    pub stall_timeout: Duration,
    /// Between empty lines of a stream without records.
    pub heartbeat: Duration,
    /// For answers under way when the server is told to stop.
    pub shutdown_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            uid_trusted: None,
            host_names: Vec::new(),
            connections_max: 128,
            streams_max: 16,
            calls_max: 4,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(20),
            heartbeat: Duration::from_secs(15),
            shutdown_timeout: Duration::from_secs(2),
        }
    }
}

/// Why serving did not begin.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve the admin API on the given listener")]
pub struct ServeError(#[source] io::Error);

/// Serves the admin API on listeners that are bound already, until `shutdown` is ready; then ends
/// streams, lets answers under way finish for [`Settings::shutdown_timeout`], and returns.
///
/// # Errors
/// When a listener cannot be used by the runtime. Errors of connections end only these.
///
/// # Panics
/// Outside a tokio runtime with I/O and time enabled.
pub async fn serve(
    tcp: Vec<StdTcpListener>,
    unix: Vec<StdUnixListener>,
    host: Arc<dyn Host>,
    settings: Settings,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let (stop, stopped) = watch::channel(false);
    let server = Arc::new(Server {
        guard: Guard::new(&settings, Arc::clone(&host)),
        router: TowerToHyperService::new(routes::router(Shared::new(host, &settings, stopped.clone()))),
        settings,
        stopped,
    });
    let mut loops = JoinSet::new();
    let tcp_slots = Arc::new(Semaphore::new(server.settings.connections_max));
    for listener in tcp {
        listener.set_nonblocking(true).map_err(ServeError)?;
        let listener = TcpListener::from_std(listener).map_err(ServeError)?;
        loops.spawn(Arc::clone(&server).accept_all(listener, Arc::clone(&tcp_slots)));
    }
    let unix_slots = Arc::new(Semaphore::new(server.settings.connections_max));
    for listener in unix {
        listener.set_nonblocking(true).map_err(ServeError)?;
        let listener = UnixListener::from_std(listener).map_err(ServeError)?;
        loops.spawn(Arc::clone(&server).accept_all(listener, Arc::clone(&unix_slots)));
    }
    shutdown.await;
    stop.send_replace(true);
    while loops.join_next().await.is_some() {}
    Ok(())
}

/// A listener of either kind.
trait Accept: Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn accept_one(&self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept_one(&self) -> io::Result<(TcpStream, Peer)> {
        let (stream, remote) = self.accept().await?;
        let local = stream.local_addr()?;
        Ok((stream, Peer::Tcp { local, remote }))
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn accept_one(&self) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = self.accept().await?;
        let uid = stream.peer_cred()?.uid();
        Ok((stream, Peer::Unix { uid }))
    }
}

/// The next connection. A slot first: connections beyond the bound wait in the listener's queue.
async fn accept_within<L: Accept>(
    listener: &L,
    slots: &Arc<Semaphore>,
) -> io::Result<(OwnedSemaphorePermit, (L::Stream, Peer))> {
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    Ok((slot, listener.accept_one().await?))
}

struct Server {
    guard: Guard,
    router: TowerToHyperService<axum::Router>,
    settings: Settings,
    stopped: watch::Receiver<bool>,
}

impl Server {
    /// Accepts until told to stop, then waits for the connections it accepted.
    async fn accept_all(self: Arc<Self>, listener: impl Accept, slots: Arc<Semaphore>) {
        let mut connections = JoinSet::new();
        let mut stopped = self.stopped.clone();
        loop {
            tokio::select! {
                () = until_stopped(&mut stopped) => break,
                Some(_) = connections.join_next() => {}
                accepted = accept_within(&listener, &slots) => match accepted {
                    Ok((slot, (stream, peer))) => {
                        let server = Arc::clone(&self);
                        connections.spawn(async move {
                            server.connection(stream, peer).await;
                            drop(slot);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection of the admin API");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        while connections.join_next().await.is_some() {}
    }

    async fn connection<S>(self: Arc<Self>, stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(StallGuard::new(stream, self.settings.stall_timeout));
        let service = service_fn(|request| {
            let server = Arc::clone(&self);
            async move { Ok::<_, Infallible>(server.answer(peer, request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.settings.head_timeout)
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_LEN_MAX)
            .serve_connection(io, service);
        let mut connection = pin!(connection);
        let mut stopped = self.stopped.clone();
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = until_stopped(&mut stopped) => {
                connection.as_mut().graceful_shutdown();
                match tokio::time::timeout(self.settings.shutdown_timeout, connection).await {
                    Ok(ended) => ended,
                    Err(_) => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection of the admin API broke");
        }
    }

    async fn answer(&self, peer: Peer, mut request: Request<Incoming>) -> Response {
        let mut response = match self.guard.admit(peer, &request) {
            Ok(()) => {
                request.extensions_mut().insert(peer);
                match self.router.call(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            }
            Err(error) => error.into_response(),
        };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        response
    }
}

/// Ready when the server is told to stop, or is gone, which is the same.
pub(crate) async fn until_stopped(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Runs `call` on a thread that may block, as one of a bounded number.
///
/// # Errors
/// [`ApiError::Busy`] where no turn comes in time, [`ApiError::Internal`] where `call` panics.
pub(crate) async fn blocking<T: Send + 'static>(
    slots: &Arc<Semaphore>,
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    const TURN_TIMEOUT: Duration = Duration::from_secs(5);
    let turn = tokio::time::timeout(TURN_TIMEOUT, Arc::clone(slots).acquire_owned()).await;
    let Ok(Ok(slot)) = turn else {
        return Err(ApiError::Busy("too many requests are being answered"));
    };
    // The slot goes along: a caller that hangs up does not make room while its work goes on.
    let task = tokio::task::spawn_blocking(move || {
        let answer = call();
        drop(slot);
        answer
    });
    task.await.map_err(|error| {
        tracing::error!(%error, "a request of the admin API failed inside");
        ApiError::Internal
    })
}
