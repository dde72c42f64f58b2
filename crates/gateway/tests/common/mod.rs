//! Servers in this process, and clients that speak byte by byte.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway::body::{Body, Received};
use gateway::server::{ConnInfo, Handler, Listener, Server, ServerSettings};
use gateway::upstream::trust::Trust;
use gateway::upstream::{Client, ClientSettings, EgressRule, Origin, Protocol, Timeouts};
use hyper::{Request, Response, StatusCode};

pub type Answer = Pin<Box<dyn Future<Output = Response<Body>>>>;

/// A handler made of a function.
pub struct App<F>(pub F);

impl<F: Fn(Request<Received>, Rc<ConnInfo>) -> Answer + 'static> Handler for App<F> {
    fn handle(
        self: Rc<Self>,
        request: Request<Received>,
        conn: Rc<ConnInfo>,
    ) -> impl Future<Output = Response<Body>> + 'static {
        (self.0)(request, conn)
    }
}

/// No test waits longer than this for a state.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub fn bind() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a port")
}

pub fn settings() -> ServerSettings {
    ServerSettings {
        threads: 2,
        ..ServerSettings::default()
    }
}

/// A plain server of `app` on a port of its own.
pub fn serve<F>(settings: ServerSettings, app: F) -> Server
where
    F: Fn(Request<Received>, Rc<ConnInfo>) -> Answer + Clone + Send + Sync + 'static,
{
    serve_on(
        Listener {
            socket: bind(),
            tls: None,
        },
        settings,
        app,
    )
}

pub fn serve_on<F>(listener: Listener, settings: ServerSettings, app: F) -> Server
where
    F: Fn(Request<Received>, Rc<ConnInfo>) -> Answer + Clone + Send + Sync + 'static,
{
    Server::start(vec![listener], settings, move || Rc::new(App(app.clone()))).expect("a server")
}

pub fn address(server: &Server) -> SocketAddr {
    server.addresses()[0]
}

pub fn text(status: StatusCode, body: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Body::full(body.into()));
    *response.status_mut() = status;
    response
}

/// Answers with method, path and body of the request.
pub fn echo(request: Request<Received>, _: Rc<ConnInfo>) -> Answer {
    Box::pin(async move {
        let (parts, body) = request.into_parts();
        match body.collect(1 << 20).await {
            Ok(body) => {
                let body = String::from_utf8_lossy(&body);
                text(StatusCode::OK, format!("{} {} {body}", parts.method, parts.uri))
            }
            Err(error) => text(StatusCode::BAD_REQUEST, error.to_string()),
        }
    })
}

/// A server that passes everything on to `to`.
pub fn proxy(settings: ServerSettings, client: ClientSettings, to: Origin, timeouts: Timeouts) -> Server {
    let listener = Listener {
        socket: bind(),
        tls: None,
    };
    let to = Arc::new(to);
    let make = move || {
        let (client, to) = (Client::new(client.clone()), Arc::clone(&to));
        Rc::new(App(move |request: Request<Received>, _| -> Answer {
            let (client, to) = (client.clone(), Arc::clone(&to));
            Box::pin(async move {
                match client.call(&to, request.map(Body::from), &timeouts).await {
                    Ok(reply) => reply.response,
                    Err(error) => text(StatusCode::BAD_GATEWAY, error.to_string()),
                }
            })
        }))
    };
    Server::start(vec![listener], settings, make).expect("a server")
}

pub fn trust() -> Trust {
    Trust::new(None).expect("roots")
}

/// A plain origin on loopback, allowed since it is an address.
pub fn origin(address: SocketAddr, protocol: Protocol) -> Origin {
    let rule = EgressRule { allow_literal: true };
    Origin::new(&format!("http://{address}"), protocol, rule, trust()).expect("an origin")
}

/// Runs what needs a runtime and a `LocalSet`.
pub fn local<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

/// Sends bytes, and reads until the other side closes.
pub fn raw(to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(to);
    stream.write_all(bytes).expect("written");
    read_to_end(&mut stream)
}

pub fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// All until the end, or a reset.
pub fn read_to_end(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let mut buf = [0u8; 4096];
    loop {
        match stream.read(&mut buf) {
            Ok(0) => break,
            Ok(n) => all.extend_from_slice(&buf[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("read: {error}, so far {}", String::from_utf8_lossy(&all)),
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// Reads until what came ends with `end`.
pub fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    let mut byte = [0u8; 1];
    while !all.ends_with(end.as_bytes()) {
        match stream.read(&mut byte) {
            Ok(1) => all.push(byte[0]),
            other => panic!(
                "wanted {end:?}, got {other:?} after {}",
                String::from_utf8_lossy(&all)
            ),
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// Waits for a state.
#[track_caller]
pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
