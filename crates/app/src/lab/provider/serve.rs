//! Connections, and the way of a request: control, faults, key, rate, body, wire, answer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::answer::{letters, mark, reply};
use super::body::{Choppy, Chunking, Cut, Ending, SimBody};
use super::cache::PromptCache;
use super::errors::{self, Refusal};
use super::fast::Fast;
use super::fault::{Fault, Trouble, WAIT_MAX};
use super::journal::{Entry, Journal, now_ms};
use super::keys::{self, Key, Rate, Standing};
use super::replay::Replay;
use super::rest;
use super::route::{Provider, Route, route};
use super::sigv4::{self, Credentials, Signed};
use super::wire::{self, Asked, Piece};
use crate::lab::random::Random;

/// Most connections at a time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 8192;
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(3600);
const HTTP2_STREAMS_MAX: u32 = 1024;
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest body of a request.
pub(crate) const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Length of the answer of `sim-oversize`.
const OVERSIZE_BYTES: usize = 64 * 1024 * 1024;

/// Everything that calls share.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) seed: u64,
    pub(crate) chunking: Chunking,
    pub(crate) keys: Vec<Key>,
    pub(crate) credentials: Vec<Credentials>,
    pub(crate) rate: Option<Rate>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) fault: Mutex<Fault>,
    pub(crate) is_faulty: AtomicBool,
    pub(crate) cache: PromptCache,
    /// For what happens to a part of calls.
    pub(crate) flips: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) fast: Option<Fast>,
    pub(crate) replay: Option<Replay>,
}

type Answered = Result<Response<SimBody>, Cut>;

pub(crate) async fn accept(listener: TcpListener, server: Arc<Server>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let server = Arc::clone(&server);
                tokio::spawn(async move {
                    let _ = timeout(CONNECTION_TIME_MAX, serve_connection(stream, server)).await;
                    drop(place);
                });
            }
            // Out of descriptors, or a client that was gone before its turn: neither ends the service.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn serve_connection(mut stream: TcpStream, server: Arc<Server>) {
    let number = server.connections.fetch_add(1, Ordering::Relaxed);
    let _ = stream.set_nodelay(true);
    let mut before = Vec::new();
    if let Some(fast) = &server.fast {
        match fast.serve(&mut stream, &server).await {
            Some(read) => before = read,
            None => return,
        }
    }
    let io = Choppy::new(stream, before, server.chunking, server.seed.wrapping_add(number));
    let service = hyper::service::service_fn(move |request| handle(Arc::clone(&server), request));
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS_MAX);
    // A client that leaves, and a cut of ours, both end here as errors: the journal has them.
    let _ = builder.serve_connection_with_upgrades(io, service).await;
}

async fn handle(server: Arc<Server>, request: Request<Incoming>) -> Answered {
    if request.uri().path().starts_with("/sim/") {
        return super::control::handle(&server, request).await;
    }
    let found = route(request.method(), request.uri().path(), request.headers());
    let fault = server.lock_fault().clone();
    if fault != Fault::default() {
        let provider = found.as_ref().map_or(Provider::OpenAi, |route| route.provider);
        let mut entry = server.journal.begin();
        entry.call.provider = provider.name();
        entry.call.wire = found.as_ref().map_or("", |route| route.operation.name());
        match server.provider_fault(fault).await {
            Ok(None) => entry.unwanted(),
            Ok(Some(status)) => {
                let response = refused(provider, &Refusal::of_fault(status), "req_fault", None);
                entry.call.status = status;
                entry.done();
                // Unread, the body would make of the close a reset, which can overtake the answer.
                let _ = read_body(request.into_body()).await;
                return Ok(response);
            }
            Err(cut) => {
                entry.broken();
                return Err(cut);
            }
        }
    }
    if let Some(replay) = &server.replay {
        return replayed(&server, replay, request).await;
    }
    let request = match rest::handle(&server, request).await {
        Ok(response) => return response,
        Err(request) => request,
    };
    let Some(route) = found else {
        let refusal = Refusal::NoRoute(request.uri().path().to_owned());
        let _ = read_body(request.into_body()).await;
        return Ok(refused(Provider::OpenAi, &refusal, "req_none", None));
    };
    let mut entry = server.journal.begin();
    entry.call.provider = route.provider.name();
    entry.call.wire = route.operation.name();
    let mut standing = None;
    let mut request_id = String::from("req_unread");
    let made = call(
        &server,
        &route,
        request,
        &mut entry,
        &mut standing,
        &mut request_id,
    )
    .await;
    match made {
        Ok(Made::Cut) => {
            entry.broken();
            Err(Cut)
        }
        Ok(Made::Status(status)) => Ok(refused_in(
            entry,
            &route,
            &Refusal::of_fault(status),
            &request_id,
            standing.as_ref(),
        )),
        Ok(Made::Answer(answer)) => {
            Ok(server.response(*answer, entry, &route, &request_id, standing.as_ref()))
        }
        Err(refusal) => Ok(refused_in(
            entry,
            &route,
            &refusal,
            &request_id,
            standing.as_ref(),
        )),
    }
}

async fn replayed(server: &Server, replay: &Replay, request: Request<Incoming>) -> Answered {
    let mut entry = server.journal.begin();
    entry.call.wire = "replay";
    let (head, body) = request.into_parts();
    let body = match read_body(body).await {
        Ok(body) => body,
        Err(refusal) => return Ok(refused(Provider::OpenAi, &refusal, "req_unread", None)),
    };
    Ok(replay.answer(
        &head.method,
        head.uri.path(),
        &head.headers,
        &body,
        server.chunking,
        entry,
    ))
}

/// What became of a call.
enum Made {
    Answer(Box<Answer>),
    Status(u16),
    Cut,
}

/// An answer before it is sent.
struct Answer {
    content_type: &'static str,
    pieces: Vec<Piece>,
    is_stream: bool,
    trouble: Trouble,
    /// The provider's own error in a stream.
    stream_error: Option<Piece>,
}

async fn call(
    server: &Server,
    route: &Route,
    request: Request<Incoming>,
    entry: &mut Entry,
    standing: &mut Option<Standing>,
    request_id: &mut String,
) -> Result<Made, Refusal> {
    let (head, body) = request.into_parts();
    // The body first, whoever sends it, so that the connection can go on after a refusal.
    let bytes = read_body(body).await?;
    let query = head.uri.query().unwrap_or_default().to_owned();
    let path = head.uri.path().to_owned();
    let mut random = Random::new(
        server.seed,
        &format!("{path}\n{}", String::from_utf8_lossy(&bytes)),
    );
    *request_id = format!("req_01{}", letters(&mut random, 22));
    entry.call.key = server.caller(route, &head, &query, &bytes)?;
    if let Some(rate) = &server.rate {
        let now = rate.take(&entry.call.key, Instant::now());
        *standing = Some(now);
        if now.is_over {
            return Err(Refusal::Limited {
                retry_after_s: now.retry_after_s(),
            });
        }
    }
    if route.provider == Provider::Anthropic && !head.headers.contains_key("anthropic-version") {
        return Err(Refusal::Header("anthropic-version"));
    }
    let has_version = query.split('&').any(|pair| pair.starts_with("api-version="));
    if route.provider == Provider::Azure && route.model.is_some() && !has_version {
        return Err(Refusal::NoRoute(path));
    }
    let body = if head.method == Method::GET {
        Value::Null
    } else {
        serde_json::from_slice(&bytes).map_err(|error| Refusal::NotJson(error.to_string()))?
    };
    server.answer(route, &query, &body, request_id, entry).await
}

async fn read_body(body: Incoming) -> Result<Bytes, Refusal> {
    match timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(_)) => Err(Refusal::TooLarge(BODY_BYTES_MAX)),
        Err(_) => Err(Refusal::Status(408)),
    }
}

impl Server {
    pub(crate) fn lock_fault(&self) -> MutexGuard<'_, Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Read on every call of the fast path.
    pub(crate) fn has_fault(&self) -> bool {
        self.is_faulty.load(Ordering::Relaxed)
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        self.is_faulty.store(fault != Fault::default(), Ordering::Relaxed);
        *self.lock_fault() = fault;
    }

    /// Whether this time is among `percent` of a hundred: the sequence is that of the seed.
    fn flip(&self, percent: u8) -> bool {
        let turn = self.flips.fetch_add(1, Ordering::Relaxed);
        Random::new(self.seed.wrapping_add(turn), "flip").below(100) < u32::from(percent)
    }

    async fn provider_fault(&self, fault: Fault) -> Result<Option<u16>, Cut> {
        if fault.delay_ms > 0 {
            sleep(Duration::from_millis(fault.delay_ms).min(WAIT_MAX)).await;
        }
        let is_hit = fault.percent.is_none_or(|percent| self.flip(percent));
        match fault {
            Fault { down: true, .. } if is_hit => Err(Cut),
            Fault {
                status: Some(status), ..
            } if is_hit => Ok(Some(status)),
            _ => Ok(None),
        }
    }

    /// Who calls, by a key or a signature.
    fn caller(&self, route: &Route, head: &Parts, query: &str, body: &[u8]) -> Result<String, Refusal> {
        let carried = keys::carried(route.provider, &head.headers, query);
        if route.provider == Provider::Bedrock && carried.is_none() {
            let signed = Signed {
                method: head.method.as_str(),
                path: head.uri.path(),
                query,
                headers: &head.headers,
                body,
            };
            return sigv4::verify(&signed, &self.credentials, "bedrock", now_ms() / 1000);
        }
        keys::check(&self.keys, carried.as_deref())
    }

    async fn answer(
        &self,
        route: &Route,
        query: &str,
        body: &Value,
        request_id: &str,
        entry: &mut Entry,
    ) -> Result<Made, Refusal> {
        let is_sse = query.split('&').any(|pair| pair == "alt=sse");
        let asked = wire::read(route, body, request_id)?;
        let (model, is_stream) = match &asked {
            Asked::Talk(ask) => (&ask.model, ask.stream),
            Asked::Document(document) => (&document.model, false),
        };
        entry.call.model.clone_from(model);
        entry.call.streamed = is_stream;
        if let Asked::Talk(ask) = &asked {
            entry.call.mark = mark(ask);
        }
        let trouble = Trouble::of(model).map_err(|_| Refusal::NoModel(model.clone()))?;
        let trouble = match trouble.flaky_percent {
            Some(percent) if !self.flip(percent) => trouble.calm(),
            Some(_) if trouble.is_only_flaky() => return Ok(Made::Status(500)),
            _ => trouble,
        };
        if !trouble.slow.is_zero() {
            sleep(trouble.slow).await;
        }
        if trouble.hang {
            sleep(WAIT_MAX).await;
            return Ok(Made::Cut);
        }
        if trouble.cut == Some(0) {
            return Ok(Made::Cut);
        }
        if let Some(status) = trouble.status {
            return Ok(Made::Status(status));
        }
        let ask = match asked {
            Asked::Talk(ask) => ask,
            Asked::Document(document) => {
                entry.expect(document.usage, (0, 0));
                return Ok(Made::Answer(Box::new(Answer {
                    content_type: content_type(route.provider),
                    pieces: vec![Piece::new(document.value.to_string())],
                    is_stream: false,
                    trouble,
                    stream_error: None,
                })));
            }
        };
        let mut prompt = ask.prompt();
        self.cache.apply(&ask.model, &ask.cached, &mut prompt);
        let made = reply(&ask, self.seed, trouble.tokens, prompt);
        entry.call.id.clone_from(&made.id);
        let (pieces, stream_error) = wire::pieces(route.operation, &ask, body, &made, is_sse);
        let sums = pieces.iter().fold((0, 0), |sum, piece| {
            (sum.0 + piece.output, sum.1 + piece.reasoning)
        });
        entry.expect(made.usage, sums);
        let content_type = match (ask.stream, route.provider) {
            (true, Provider::Anthropic | Provider::OpenAi | Provider::Azure) => {
                "text/event-stream; charset=utf-8"
            }
            (true, Provider::Bedrock) => "application/vnd.amazon.eventstream",
            (true, Provider::Gemini | Provider::Vertex) if !is_sse => "application/json; charset=UTF-8",
            (true, _) => "text/event-stream",
            (false, provider) => content_type(provider),
        };
        Ok(Made::Answer(Box::new(Answer {
            content_type,
            pieces,
            is_stream: ask.stream,
            trouble,
            stream_error: Some(stream_error),
        })))
    }

    fn response(
        &self,
        answer: Answer,
        mut entry: Entry,
        route: &Route,
        request_id: &str,
        standing: Option<&Standing>,
    ) -> Response<SimBody> {
        entry.call.status = 200;
        entry.answering();
        let Answer {
            content_type,
            mut pieces,
            is_stream,
            trouble,
            stream_error,
        } = answer;
        let mut ending = Ending::Whole;
        if trouble.comments && content_type.starts_with("text/event-stream") {
            let comment = || Piece::new(": SIM PROCESSING\n\n");
            pieces = pieces.into_iter().flat_map(|piece| [comment(), piece]).collect();
        }
        if trouble.garbage || trouble.oversize || trouble.bad_json {
            pieces = spoiled(&trouble, pieces, is_stream);
            ending = Ending::Broken;
        }
        let body = if is_stream {
            if let Some(chunks) = trouble.error_after {
                pieces.truncate(chunks);
                pieces.extend(stream_error);
                ending = Ending::Broken;
            }
            if let Some(chunks) = trouble.cut {
                pieces.truncate(chunks);
                ending = Ending::Cut;
            }
            let chunking = if trouble.oversize {
                Chunking::Whole
            } else {
                self.chunking
            };
            SimBody::stream(pieces, chunking, Some(entry)).dripping(trouble.drip)
        } else {
            let length: usize = pieces.iter().map(|piece| piece.bytes.len()).sum();
            if trouble.cut.is_some() {
                // The head promises more than comes.
                for piece in &mut pieces {
                    let half = piece.bytes.len() / 2;
                    piece.bytes.truncate(half);
                    (piece.output, piece.reasoning) = (0, 0);
                }
                ending = Ending::Cut;
            }
            let chunking = if trouble.oversize {
                Chunking::Whole
            } else {
                self.chunking
            };
            SimBody::stream(pieces, chunking, Some(entry)).declaring(length as u64)
        };
        let mut response = Response::new(body.ending(ending));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        add_headers(headers, route.provider, request_id, standing);
        response
    }
}

/// An answer that no reader can take.
fn spoiled(trouble: &Trouble, mut pieces: Vec<Piece>, is_stream: bool) -> Vec<Piece> {
    if trouble.garbage {
        let mut noise = vec![0; 512];
        Random::new(9, "garbage").fill(&mut noise);
        return vec![Piece::new(noise)];
    }
    if trouble.oversize {
        // One document, or one event, far above what anyone should hold.
        const RUN: usize = 64 * 1024;
        let run = Bytes::from(vec![b'x'; RUN]);
        let (head, tail) = if is_stream {
            ("data: {\"x\":\"", "\"}\n\n")
        } else {
            ("{\"x\":\"", "\"}")
        };
        let mut long = vec![Piece::new(head)];
        long.extend((0..OVERSIZE_BYTES / RUN).map(|_| Piece::new(run.clone())));
        long.push(Piece::new(tail));
        return long;
    }
    // The first piece with something in it loses its end.
    let at = usize::from(is_stream && pieces.len() > 1);
    if let Some(piece) = pieces.get_mut(at) {
        let two_thirds = piece.bytes.len() * 2 / 3;
        piece.bytes.truncate(two_thirds);
        if is_stream {
            piece.bytes = [&piece.bytes[..], b"\n\n"].concat().into();
        }
    }
    pieces
}

pub(crate) fn content_type(provider: Provider) -> &'static str {
    match provider {
        Provider::Gemini | Provider::Vertex => "application/json; charset=UTF-8",
        _ => "application/json",
    }
}

fn refused_in(
    mut entry: Entry,
    route: &Route,
    refusal: &Refusal,
    request_id: &str,
    standing: Option<&Standing>,
) -> Response<SimBody> {
    let response = refused(route.provider, refusal, request_id, standing);
    entry.call.status = response.status().as_u16();
    entry.done();
    response
}

pub(crate) fn refused(
    provider: Provider,
    refusal: &Refusal,
    request_id: &str,
    standing: Option<&Standing>,
) -> Response<SimBody> {
    let answer = errors::answer(provider, refusal, request_id);
    let mut response = Response::new(SimBody::full(answer.body.to_string()));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(provider)));
    for (name, value) in answer.headers {
        insert(headers, name, &value);
    }
    add_headers(headers, provider, request_id, standing);
    response
}

fn add_headers(headers: &mut HeaderMap, provider: Provider, request_id: &str, standing: Option<&Standing>) {
    let name = match provider {
        Provider::Anthropic => "request-id",
        Provider::Bedrock => "x-amzn-requestid",
        _ => "x-request-id",
    };
    insert(headers, name, request_id);
    for (name, value) in standing
        .map(|standing| standing.headers(provider))
        .unwrap_or_default()
    {
        insert(headers, name, &value);
    }
}

pub(crate) fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// A document of the simulator's own.
pub(crate) fn document(status: StatusCode, value: &Value) -> Response<SimBody> {
    let mut response = Response::new(SimBody::full(value.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub(crate) fn said(status: StatusCode, sentence: &str) -> Response<SimBody> {
    document(status, &json!({"error": sentence}))
}
