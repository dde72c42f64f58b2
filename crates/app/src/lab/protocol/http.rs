//! HTTP/1.1, by hyper on both ends.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::expect_close;

/// Largest body under `/bytes/`.
pub(crate) const BODY_BYTES_MAX: usize = 10 * 1024 * 1024;
/// How long a client may take over a request's head; slow clients meet this.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const SLOW: Duration = Duration::from_millis(300);

/// Paths that a browsing client asks for, and the status each gives.
pub(crate) const PATHS: [(&str, u16); 7] = [
    ("/", 200),
    ("/api/items", 200),
    ("/bytes/100", 200),
    ("/bytes/20000", 200),
    ("/bytes/300000", 200),
    ("/login", 200),
    ("/missing", 404),
];
pub(crate) const SLOW_PATH: &str = "/slow";

/// Server's side of one connection.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> io::Result<()> {
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), hyper::service::service_fn(respond))
        .await
        .map_err(io::Error::other)
}

async fn respond(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, kind, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => (StatusCode::OK, "text/html", html("A weir's lab")),
        (&Method::GET, "/api/items") => {
            let items: Vec<String> = (0..50).map(|id| format!("{{\"id\":{id}}}")).collect();
            let text = format!("[{}]", items.join(","));
            (StatusCode::OK, "application/json", Bytes::from(text))
        }
        (&Method::GET, "/slow") => {
            tokio::time::sleep(SLOW).await;
            (StatusCode::OK, "text/html", html("At last"))
        }
        (&Method::GET, "/login") => (
            StatusCode::OK,
            "text/html",
            html("<form method=post><input name=user><input name=password type=password></form>"),
        ),
        (&Method::POST, "/login") => {
            // Read so that the connection can go on; nothing is a right password.
            let _ = http_body_util::Limited::new(request.into_body(), 4096)
                .collect()
                .await;
            (StatusCode::UNAUTHORIZED, "text/html", html("No."))
        }
        (&Method::GET, path) => match path.strip_prefix("/bytes/").map(str::parse::<usize>) {
            Some(Ok(length)) if length <= BODY_BYTES_MAX => (
                StatusCode::OK,
                "application/octet-stream",
                Bytes::from(vec![b'w'; length]),
            ),
            _ => (StatusCode::NOT_FOUND, "text/html", html("Not found")),
        },
        _ => (StatusCode::METHOD_NOT_ALLOWED, "text/html", html("No.")),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    if let Ok(value) = kind.parse() {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    Ok(response)
}

fn html(text: &str) -> Bytes {
    Bytes::from(format!("<!doctype html><title>weir lab</title><p>{text}</p>\n"))
}

/// One request of a client.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Get {
        path: &'static str,
        status: u16,
    },
    /// Posts a password to the log-in, which is refused with 401.
    LogIn {
        password: u64,
    },
}

/// Client's side: requests one after the other on one connection, then closes it.
/// Returns how many were answered as expected.
pub(crate) async fn browse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    host: &str,
    asks: &[Ask],
) -> io::Result<u32> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // Taking the stream back at the end gives an orderly close instead of a drop.
    let driver = tokio::spawn(connection.without_shutdown());
    let mut answered = 0;
    for ask in asks {
        let (request, expected) = request(host, ask)?;
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(io::Error::other)?;
        }
        if status != expected {
            return Err(io::Error::other(format!(
                "status {status} where {expected} was expected"
            )));
        }
        answered += 1;
    }
    drop(sender);
    if let Ok(Ok(parts)) = driver.await {
        let mut stream = parts.io.into_inner();
        stream.shutdown().await?;
        expect_close(&mut stream).await?;
    }
    Ok(answered)
}

fn request(host: &str, ask: &Ask) -> io::Result<(Request<Full<Bytes>>, u16)> {
    let builder = Request::builder()
        .header(HOST, host)
        .header(USER_AGENT, concat!("weir-lab/", env!("CARGO_PKG_VERSION")));
    let (request, status) = match ask {
        Ask::Get { path, status } => (builder.uri(*path).body(Full::new(Bytes::new())), *status),
        Ask::LogIn { password } => (
            builder
                .method(Method::POST)
                .uri("/login")
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Full::new(Bytes::from(format!(
                    "user=admin&password={password:016x}"
                )))),
            401,
        ),
    };
    Ok((request.map_err(io::Error::other)?, status))
}
