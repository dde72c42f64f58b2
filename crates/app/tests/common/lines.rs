//! A client that keeps its connection: HTTP/1.1 and HTTP/2, plain and over TLS.
//!
//! A request that was surely not sent, since the server had said that it takes no more on this connection,
//! goes out on another one. Nothing else is tried again.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Collected, Full};
use hyper::body::Bytes;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};

use super::upstream::WithTrailers;

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    pub is_http2: bool,
    pub is_tls: bool,
}

pub const LINES: [Line; 4] = [
    Line {
        is_http2: false,
        is_tls: false,
    },
    Line {
        is_http2: true,
        is_tls: false,
    },
    Line {
        is_http2: false,
        is_tls: true,
    },
    Line {
        is_http2: true,
        is_tls: true,
    },
];

/// A certificate for this host and its key, as files.
#[derive(Debug)]
pub struct Pair {
    pub chain: PathBuf,
    pub key: PathBuf,
}

impl Pair {
    /// Where the files of the folder are.
    pub fn of(folder: &Path) -> Pair {
        Pair {
            chain: folder.join("chain.pem"),
            key: folder.join("key.pem"),
        }
    }

    /// Makes a new one in these files, and tells the certificate.
    #[track_caller]
    pub fn renew(&self) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])
            .expect("a certificate");
        std::fs::write(&self.chain, made.cert.pem()).expect("written");
        std::fs::write(&self.key, made.signing_key.serialize_pem()).expect("written");
        CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).expect("a certificate")
    }
}

/// Bytes, and trailers after them where there are any.
type Sent = UnsyncBoxBody<Bytes, Infallible>;

enum Sender {
    One(http1::SendRequest<Sent>),
    Two(http2::SendRequest<Sent>),
}

/// A caller with one connection at a time.
pub struct Caller {
    pub line: Line,
    runtime: tokio::runtime::Runtime,
    connection: Connection,
    key: String,
}

struct Connection {
    line: Line,
    addr: SocketAddr,
    trusted: Vec<CertificateDer<'static>>,
    sender: Option<Sender>,
    n_made: usize,
    shown: Option<CertificateDer<'static>>,
}

impl Caller {
    pub fn new(line: Line, addr: SocketAddr, key: &str, trusted: &[CertificateDer<'static>]) -> Caller {
        Caller {
            line,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime"),
            connection: Connection {
                line,
                addr,
                trusted: trusted.to_vec(),
                sender: None,
                n_made: 0,
                shown: None,
            },
            key: key.to_owned(),
        }
    }

    /// Forgets the connection.
    pub fn hang_up(&mut self) {
        self.connection.sender = None;
    }

    /// Connections made so far.
    pub fn n_connections(&self) -> usize {
        self.connection.n_made
    }

    /// The certificate that the server showed last.
    pub fn shown(&self) -> Option<CertificateDer<'static>> {
        self.connection.shown.clone()
    }

    /// Status and body of the answer to a POST.
    ///
    /// # Errors
    /// What went wrong with a request that may have been sent.
    pub fn post(&mut self, path: &str, body: &Value) -> Result<(u16, String), String> {
        let uri = format!("http://localhost{path}");
        let request = Request::post(if self.line.is_http2 { &uri } else { path })
            .header("host", "localhost")
            .header("authorization", format!("Bearer {}", self.key))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_string())).boxed_unsync())
            .expect("a request");
        let (status, body) = self.runtime.block_on(self.connection.send(request))?;
        Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    }

    /// Body and trailers of the answer to a POST that ends with a trailer.
    ///
    /// # Errors
    /// What went wrong.
    pub fn post_with_trailer(
        &mut self,
        path: &str,
        body: &'static str,
        (name, value): (&'static str, &'static str),
    ) -> Result<(String, HeaderMap), String> {
        let uri = format!("http://localhost{path}");
        let trailers =
            HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
        let body = WithTrailers::new(body, trailers);
        let request = Request::post(if self.line.is_http2 { &uri } else { path })
            .header("host", "localhost")
            .header("te", "trailers")
            .header("trailer", name)
            .body(body.boxed_unsync())
            .expect("a request");
        let (_, body) = self.runtime.block_on(self.connection.send(request))?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        Ok((String::from_utf8_lossy(&body.to_bytes()).into_owned(), trailers))
    }
}

impl Connection {
    async fn send(&mut self, mut request: Request<Sent>) -> Result<(u16, Collected<Bytes>), String> {
        loop {
            if self.sender.is_none() {
                self.connect().await?;
            }
            let sent = match self.sender.as_mut().expect("connected") {
                Sender::One(sender) => match sender.ready().await {
                    Ok(()) => sender.try_send_request(request).await,
                    Err(_) => {
                        self.sender = None;
                        continue;
                    }
                },
                Sender::Two(sender) => match sender.ready().await {
                    Ok(()) => sender.try_send_request(request).await,
                    Err(_) => {
                        self.sender = None;
                        continue;
                    }
                },
            };
            match sent {
                Ok(answer) => return read(answer).await,
                Err(error) => {
                    self.sender = None;
                    request = unsent(error)?;
                }
            }
        }
    }

    async fn connect(&mut self) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| format!("no connection: {error}");
        let stream = TcpStream::connect(self.addr)
            .await
            .map_err(|error| failed(&error))?;
        self.n_made += 1;
        if !self.line.is_tls {
            return self.speak(stream).await;
        }
        let mut roots = tokio_rustls::rustls::RootCertStore::empty();
        for certificate in &self.trusted {
            roots.add(certificate.clone()).expect("a certificate");
        }
        let mut config = tokio_rustls::rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let alpn: &[u8] = if self.line.is_http2 { b"h2" } else { b"http/1.1" };
        config.alpn_protocols = vec![alpn.to_vec()];
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .map_err(|error| failed(&error))?;
        let shown = stream.get_ref().1.peer_certificates();
        self.shown = shown.and_then(<[_]>::first).cloned();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn));
        self.speak(stream).await
    }

    async fn speak(
        &mut self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<(), String> {
        let io = TokioIo::new(stream);
        self.sender = Some(if self.line.is_http2 {
            let shaken = http2::handshake(TokioExecutor::new(), io).await;
            let (sender, connection) = shaken.map_err(|error| error.to_string())?;
            tokio::spawn(connection);
            Sender::Two(sender)
        } else {
            let shaken = http1::handshake(io).await;
            let (sender, connection) = shaken.map_err(|error| error.to_string())?;
            tokio::spawn(connection);
            Sender::One(sender)
        });
        Ok(())
    }
}

/// The request, if it was not sent.
fn unsent(mut error: TrySendError<Request<Sent>>) -> Result<Request<Sent>, String> {
    let message = error.take_message();
    message.ok_or_else(|| format!("sent, and no answer: {:?}", error.into_error()))
}

async fn read(answer: Response<hyper::body::Incoming>) -> Result<(u16, Collected<Bytes>), String> {
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await;
    let body = body.map_err(|error| format!("{status} and half an answer: {error:?}"))?;
    Ok((status, body))
}
