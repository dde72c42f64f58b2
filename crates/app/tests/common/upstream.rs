//! A REST server in a thread of the test: HTTP/1.1 and HTTP/2, plain or over TLS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::HeaderValue;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::lines::Pair;

/// Says what came: `VERSION METHOD PATH BODY`; in trailers `x-came`, the request's own `x-digest`. Ends its
/// connection after a path that ends with `/close`.
pub struct Upstream {
    pub addr: SocketAddr,
    pub n_connections: Arc<AtomicUsize>,
    pub n_requests: Arc<AtomicUsize>,
    _runtime: tokio::runtime::Runtime,
}

impl Upstream {
    /// On a free port of loopback, in the network of this thread.
    #[track_caller]
    pub fn start(pair: Option<&Pair>) -> Upstream {
        Self::start_at("127.0.0.1:0".parse().expect("an address"), pair)
    }

    #[track_caller]
    pub fn start_at(addr: SocketAddr, pair: Option<&Pair>) -> Upstream {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let socket = std::net::TcpListener::bind(addr).expect("a port");
        socket.set_nonblocking(true).expect("a mode");
        let addr = socket.local_addr().expect("an address");
        let tls = pair.map(|pair| {
            let chain = CertificateDer::from_pem_file(&pair.chain).expect("a certificate");
            let key = PrivateKeyDer::from_pem_file(&pair.key).expect("a key");
            let mut config = ServerConfig::builder()
                .with_no_client_auth()
                .with_single_cert(vec![chain], key)
                .expect("a certificate");
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            tokio_rustls::TlsAcceptor::from(Arc::new(config))
        });
        let (n_connections, n_requests) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let counts = (Arc::clone(&n_connections), Arc::clone(&n_requests));
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(socket).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                counts.0.fetch_add(1, Relaxed);
                let (tls, n_requests) = (tls.clone(), Arc::clone(&counts.1));
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        n_requests.fetch_add(1, Relaxed);
                        answer(request)
                    });
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    // A connection that ends badly is told by who made it.
                    match tls {
                        None => {
                            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                        }
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                            }
                        }
                    }
                });
            }
        });
        Upstream {
            addr,
            n_connections,
            n_requests,
            _runtime: runtime,
        }
    }
}

/// A body of unknown length, so that HTTP/1.1 has room for trailers too.
pub struct WithTrailers {
    text: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl WithTrailers {
    pub fn new(text: impl Into<Bytes>, trailers: HeaderMap) -> WithTrailers {
        WithTrailers {
            text: Some(text.into()),
            trailers: Some(trailers),
        }
    }
}

impl Body for WithTrailers {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let text = self.text.take().map(Frame::data);
        let next = text.or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(next.map(Ok))
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<WithTrailers>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?;
    let trailers = body
        .trailers()
        .and_then(|trailers| trailers.get("x-digest"))
        .cloned();
    let text = format!(
        "{:?} {} {} {}",
        head.version,
        head.method,
        head.uri.path(),
        String::from_utf8_lossy(&body.to_bytes())
    );
    let mut ours = HeaderMap::new();
    ours.insert("x-status", HeaderValue::from_static("0"));
    ours.insert("x-came", trailers.unwrap_or(HeaderValue::from_static("none")));
    let mut response = Response::new(WithTrailers::new(text, ours));
    // HTTP/1.1 sends those it has named.
    response
        .headers_mut()
        .insert("trailer", HeaderValue::from_static("x-status, x-came"));
    if head.uri.path().ends_with("/close") {
        response
            .headers_mut()
            .insert("connection", HeaderValue::from_static("close"));
    }
    Ok(response)
}
