//! The client of the admin API, over a Unix socket or TCP.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

const SOCKET_DEFAULT: &str = "/run/weir/weir.sock";
const AUTHORITY_DEFAULT: &str = "127.0.0.1:9080";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer that is read, streams apart.
const ANSWER_LEN_MAX: usize = 256 << 20;
const TOKEN_VARIABLE: &str = "WEIR_TOKEN";

/// Where to ask, for every command that asks a running Weir.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ApiArgs {
    /// Where weir listens: a URL or the path of a Unix socket. By default the local socket, then
    /// <http://127.0.0.1:9080>
    #[arg(long, env = "WEIR_API", value_name = "URL|SOCKET")]
    api: Option<String>,
    /// File that holds the token for a URL; otherwise it is taken from `WEIR_TOKEN`
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Why there is no answer. Each is one sentence, but for filters, which show the place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("no weir is running here: start it with `weir run` (looked for {0})")]
    NotRunning(String),
    #[error("cannot use {place}: {source}")]
    Connect {
        place: String,
        #[source]
        source: io::Error,
    },
    #[error("--api: expected a URL as http://127.0.0.1:9080 or the path of a socket, found `{0}`")]
    BadPlace(String),
    #[error("--token-file: cannot read {path}: {source}")]
    TokenFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// What the API itself says.
    #[error("{message} ({hint})")]
    Api {
        status: StatusCode,
        code: String,
        message: String,
        hint: String,
        /// A wrong filter with carets under the place.
        shown: Option<String>,
        /// What is wrong with what was sent.
        faults: Vec<Fault>,
    },
    #[error("{place} does not answer as weir does: {reason}")]
    Broken { place: String, reason: String },
    #[error("{place} gave no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Slow { place: String },
}

impl ClientError {
    /// Whether the request was the mistake, so that asking again cannot help.
    pub(crate) fn is_usage(&self) -> bool {
        match self {
            Self::BadPlace(_) | Self::TokenFile { .. } => true,
            Self::Api { code, .. } => matches!(code.as_str(), "bad_filter" | "bad_query" | "invalid"),
            _ => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Socket(PathBuf),
    /// Host and port.
    Tcp(String),
}

impl Place {
    fn parse(text: &str) -> Result<Self, ClientError> {
        let bad = || ClientError::BadPlace(text.to_owned());
        let path = text
            .strip_prefix("unix:")
            .map(|path| path.trim_start_matches("//"));
        if let Some(path) = path.or_else(|| text.starts_with(['/', '.']).then_some(text)) {
            return Ok(Self::Socket(path.into()));
        }
        let authority = match text.split_once("://") {
            Some(("http", rest)) => rest.trim_end_matches('/'),
            Some(_) => return Err(bad()),
            None => text,
        };
        let parsed: hyper::http::uri::Authority = authority.parse().map_err(|_| bad())?;
        if parsed.host().is_empty() || authority.contains('@') {
            return Err(bad());
        }
        let port = parsed.port_u16().unwrap_or(9080);
        Ok(Self::Tcp(format!("{}:{port}", parsed.host())))
    }

    fn name(&self) -> String {
        match self {
            Self::Socket(path) => path.display().to_string(),
            Self::Tcp(authority) => format!("http://{authority}"),
        }
    }
}

/// Asks one running Weir.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// Tried in order.
    places: Vec<Place>,
    token: Option<String>,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorFields,
}

#[derive(Deserialize)]
struct ErrorFields {
    code: String,
    message: String,
    hint: String,
    shown: Option<String>,
    #[serde(default)]
    faults: Vec<Fault>,
}

/// One thing that is wrong with what was sent.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Fault {
    pub(crate) field: String,
    pub(crate) message: String,
}

impl Client {
    pub(crate) fn new(args: &ApiArgs) -> Result<Self, ClientError> {
        let places = match &args.api {
            Some(text) => vec![Place::parse(text)?],
            None => vec![
                Place::Socket(SOCKET_DEFAULT.into()),
                Place::Tcp(AUTHORITY_DEFAULT.to_owned()),
            ],
        };
        let token = match &args.token_file {
            Some(path) => Some(read_token(path)?),
            None => std::env::var(TOKEN_VARIABLE)
                .ok()
                .filter(|token| !token.is_empty()),
        };
        Ok(Self { places, token })
    }

    /// The answer to `GET path`, read as JSON.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(Method::GET, path, Bytes::new()).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(Method::POST, path, Bytes::new()).await
    }

    /// The answer to a document.
    pub(crate) async fn post_document<T: DeserializeOwned>(
        &self,
        path: &str,
        document: &serde_json::Value,
    ) -> Result<T, ClientError> {
        self.json(Method::POST, path, document.to_string().into()).await
    }

    /// The answer to `DELETE path`, as it is.
    pub(crate) async fn delete(&self, path: &str) -> Result<Bytes, ClientError> {
        let (place, response) = self.send(Method::DELETE, path, Bytes::new()).await?;
        body(&place, response).await
    }

    /// An answer that has no end of its own.
    pub(crate) async fn stream(&self, path: &str) -> Result<Stream, ClientError> {
        let (place, response) = self.send(Method::GET, path, Bytes::new()).await?;
        Ok(Stream {
            place,
            body: response.into_body(),
            pending: Vec::new(),
        })
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        sent: Bytes,
    ) -> Result<T, ClientError> {
        let (place, response) = self.send(method, path, sent).await?;
        let bytes = body(&place, response).await?;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::Broken {
            place,
            reason: error.to_string(),
        })
    }

    /// Sends to the first place that can be reached.
    async fn send(
        &self,
        method: Method,
        path: &str,
        sent: Bytes,
    ) -> Result<(String, Response<Incoming>), ClientError> {
        let mut refused = None;
        for place in &self.places {
            match self.send_to(place, method.clone(), path, sent.clone()).await {
                Err(ClientError::Connect { source, .. }) if is_absent(&source) => {}
                // Root's socket is not for everyone; the next place may be.
                Err(error @ ClientError::Connect { .. }) => refused = Some(error),
                Ok(response) => return Ok((place.name(), response)),
                Err(error) => return Err(error),
            }
        }
        Err(refused.unwrap_or_else(|| {
            let names: Vec<String> = self.places.iter().map(Place::name).collect();
            ClientError::NotRunning(names.join(" and "))
        }))
    }

    async fn send_to(
        &self,
        place: &Place,
        method: Method,
        path: &str,
        sent: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let connect = |source| ClientError::Connect {
            place: place.name(),
            source,
        };
        let broken = |error: hyper::Error| ClientError::Broken {
            place: place.name(),
            reason: error.to_string(),
        };
        let late = |_| connect(io::ErrorKind::TimedOut.into());
        let (mut sender, host) = match place {
            Place::Socket(path) => {
                let stream = timeout(CONNECT_TIMEOUT, UnixStream::connect(path)).await;
                (
                    start(stream.map_err(late)?.map_err(connect)?)
                        .await
                        .map_err(broken)?,
                    "weir",
                )
            }
            Place::Tcp(authority) => {
                let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(authority)).await;
                let stream = stream.map_err(late)?.map_err(connect)?;
                (start(stream).await.map_err(broken)?, authority.as_str())
            }
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host);
        if !sent.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let (Some(token), Place::Tcp(_)) = (&self.token, place) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request
            .body(Full::new(sent))
            .map_err(|error| ClientError::Broken {
                place: place.name(),
                reason: error.to_string(),
            })?;
        let response = timeout(ANSWER_TIMEOUT, sender.send_request(request)).await;
        let response = response
            .map_err(|_| ClientError::Slow { place: place.name() })?
            .map_err(broken)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = body(&place.name(), response).await?;
        Err(match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(ErrorBody { error }) => ClientError::Api {
                status,
                code: error.code,
                message: error.message,
                hint: error.hint,
                shown: error.shown,
                faults: error.faults,
            },
            Err(_) => ClientError::Broken {
                place: place.name(),
                reason: format!("it said {status}"),
            },
        })
    }
}

/// A connection whose other half runs by itself.
async fn start<S>(stream: S) -> Result<http1::SendRequest<Full<Bytes>>, hyper::Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // Errors come out at the request as well.
        let _ = connection.await;
    });
    Ok(sender)
}

async fn body(place: &str, response: Response<Incoming>) -> Result<Bytes, ClientError> {
    let collected = timeout(
        ANSWER_TIMEOUT,
        Limited::new(response.into_body(), ANSWER_LEN_MAX).collect(),
    );
    match collected.await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) => Err(ClientError::Broken {
            place: place.to_owned(),
            reason: error.to_string(),
        }),
        Err(_) => Err(ClientError::Slow {
            place: place.to_owned(),
        }),
    }
}

/// Nobody listens there, as against: somebody does and we may not.
fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | ConnectionRefused | NotADirectory)
}

fn read_token(path: &Path) -> Result<String, ClientError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(source) => Err(ClientError::TokenFile {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Lines of a stream.
#[derive(Debug)]
pub(crate) struct Stream {
    place: String,
    body: Incoming,
    pending: Vec<u8>,
}

impl Stream {
    /// The next line that is not empty, or `None` at the end. Safe to drop while it waits.
    pub(crate) async fn line(&mut self) -> Result<Option<String>, ClientError> {
        /// Longest line that is taken for a record.
        const LINE_LEN_MAX: usize = 1 << 20;
        loop {
            if let Some(end) = self.pending.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                let text = String::from_utf8_lossy(&line[..end]).into_owned();
                if text.is_empty() {
                    continue;
                }
                return Ok(Some(text));
            }
            let broken = |reason: String| ClientError::Broken {
                place: self.place.clone(),
                reason,
            };
            if self.pending.len() > LINE_LEN_MAX {
                return Err(broken("a line has no end".to_owned()));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(broken(error.to_string())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.pending.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

/// A path with parameters, percent-encoded (RFC 3986).
pub(crate) fn with_query(path: &str, parameters: &[(&str, &str)]) -> String {
    let mut out = path.to_owned();
    for (at, (name, value)) in parameters.iter().enumerate() {
        let _ = write!(out, "{}{name}=", if at == 0 { '?' } else { '&' });
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                out.push(char::from(byte));
            } else {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// A runtime for one command.
pub(crate) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_sockets_or_urls() {
        let check = |text: &str, expected: Option<&str>| {
            let found = Place::parse(text).ok().map(|place| place.name());
            assert_eq!(found.as_deref(), expected, "{text}");
        };
        check("/run/weir/b.sock", Some("/run/weir/b.sock"));
        check("./weir.sock", Some("./weir.sock"));
        check("unix:/run/weir/b.sock", Some("/run/weir/b.sock"));
        check("unix:///run/weir/b.sock", Some("/run/weir/b.sock"));
        check("http://127.0.0.1:9080", Some("http://127.0.0.1:9080"));
        check("http://[::1]:9081/", Some("http://[::1]:9081"));
        check("localhost", Some("http://localhost:9080"));
        check("http://host", Some("http://host:9080"));
        check("https://host", None);
        check("http://user@host", None);
        check("http://host/path", None);
        check("", None);
        check("a b", None);
    }

    #[test]
    fn parameters_survive_the_way() {
        let path = with_query(
            "/api/v1/flows",
            &[("filter", "a == \"ü&\" and b"), ("limit", "5")],
        );
        assert_eq!(
            path,
            "/api/v1/flows?filter=a%20%3D%3D%20%22%C3%BC%26%22%20and%20b&limit=5"
        );
    }
}
