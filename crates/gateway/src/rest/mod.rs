//! REST services: from a route to an upstream and back.
//!
//! The way of a request, in this order and no other: route, CORS question, authenticate, authorise, length of the
//! body, limits, guardrails, attempts, guardrails, answer. Unless guardrails look at it, no body is held: what a
//! request brings goes through as it comes, and so does the answer. So a request with a body is tried again only when
//! none of it was sent.

mod balance;
mod cors;
mod filter;
mod headers;
mod health;
mod serve;
pub mod table;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Instant;

use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use store::calls::{CallRecord, Protocol};
use store::outcome::Outcome;

use crate::ai::call::Call;
use crate::body::{Body, Received};
use crate::clock;
use crate::live::{Live, Shared};
use crate::refusal::Refusal;
use crate::server::ConnInfo;
use crate::upstream::Client;
pub use table::Found;
use table::Services;

pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The REST half of one thread.
#[derive(Debug)]
pub struct Rest {
    shared: Arc<Shared>,
    client: Client,
    random: Cell<u64>,
    /// The configuration whose upstreams this thread checks.
    checking: RefCell<Weak<Services>>,
}

impl Rest {
    /// For one thread; `seed` is any number.
    #[must_use]
    pub fn new(shared: Arc<Shared>, client: Client, seed: u64) -> Rest {
        Rest {
            shared,
            client,
            random: Cell::new(seed),
            checking: RefCell::default(),
        }
    }

    /// Looks among the services that have exactly the host asked for. `None`: there are none.
    #[must_use]
    pub fn find_exact(&self, live: &Live, request: &Request<Received>) -> Option<Found> {
        self.check_health(live);
        live.services
            .find_exact(host_of(request)?, request.method(), request.uri().path())
    }

    /// Looks among all other services.
    #[must_use]
    pub fn find_other(&self, live: &Live, request: &Request<Received>) -> Found {
        live.services.find_other(
            host_of(request).unwrap_or_default(),
            request.method(),
            request.uri().path(),
        )
    }

    /// Answers a request with what was found for it.
    pub async fn handle(
        &self,
        request: Request<Received>,
        conn: &Rc<ConnInfo>,
        live: &Arc<Live>,
        found: Found,
    ) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let mut call = self.call(&parts, conn);
        let id = request_id(&call.record.request_id);
        let cors = match &found {
            Found::Route(target) => target
                .service
                .cors
                .clone()
                .map(|cors| (cors, parts.headers.clone())),
            _ => None,
        };
        let served = match found {
            Found::Route(target) => {
                call.record.service = (&target.service.name).into();
                call.record.route = (&target.route.path).into();
                self.serve(&mut call, parts, body, conn, live, &target, &id).await
            }
            Found::Method(allowed) => Err(Box::new((wrong_method(), allow(&allowed)))),
            Found::Nothing => Err(Box::new((nothing_here(), HeaderMap::new()))),
        };
        let mut response = match served {
            Ok(served) => served.into_response(call),
            Err(refused_with) => {
                let (refusal, headers) = *refused_with;
                refused(&mut call, &refusal, headers, &id)
            }
        };
        response.headers_mut().insert(X_REQUEST_ID, id);
        if let Some((cors, asked)) = cors
            && !cors::is_preflight(&Method::OPTIONS, &asked)
        {
            cors::answer(&cors, &asked, response.headers_mut());
        }
        response
    }

    fn call(&self, parts: &Parts, conn: &ConnInfo) -> Call {
        let now_ms = clock::unix_ms();
        let mut request_id = [0; 16];
        request_id[..8].copy_from_slice(&now_ms.to_be_bytes());
        request_id[..2].copy_from_slice(&(self.chance() as u16).to_be_bytes());
        request_id[8..].copy_from_slice(&self.chance().to_be_bytes());
        let content_type = parts
            .headers
            .get(CONTENT_TYPE)
            .map(HeaderValue::as_bytes)
            .unwrap_or_default();
        let is_grpc = content_type.starts_with(b"application/grpc");
        let record = CallRecord {
            at_ms: now_ms as i64,
            request_id,
            ingress: if is_grpc { Protocol::Grpc } else { Protocol::Rest },
            wire: if is_grpc { Protocol::Grpc } else { Protocol::Rest },
            client_ip: Some(conn.peer.ip()),
            ..CallRecord::default()
        };
        Call::new(Arc::clone(&self.shared), record, Instant::now())
    }

    /// The next of the numbers (SplitMix64).
    fn chance(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Sees to it that some thread checks the upstreams of the configuration in force.
    pub fn check_health(&self, live: &Live) {
        if live.services.checked.is_empty() || self.checking.borrow().as_ptr() == Arc::as_ptr(&live.services)
        {
            return;
        }
        *self.checking.borrow_mut() = Arc::downgrade(&live.services);
        if live.services.claim_checks() {
            health::watch(&live.services, &self.client);
        }
    }
}

/// The host asked for, without its port.
fn host_of(request: &Request<Received>) -> Option<&str> {
    if let Some(host) = request.uri().host() {
        return Some(host);
    }
    let host = request.headers().get(hyper::header::HOST)?.to_str().ok()?;
    if host.starts_with('[') {
        return host.split_inclusive(']').next();
    }
    host.split(':').next()
}

fn request_id(id: &[u8; 16]) -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0u8; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(id) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("0"))
}

fn refused(call: &mut Call, refusal: &Refusal, mut headers: HeaderMap, id: &HeaderValue) -> Response<Body> {
    let body = serde_json::json!({
        "error": {
            "type": refusal.code,
            "message": refusal.message,
            "request_id": id.to_str().unwrap_or_default(),
        }
    });
    let body = format!("{body}\n");
    call.record.bytes_out = body.len() as u64;
    call.end(refusal.outcome, refusal.status);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = refusal.retry_after_s {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if refusal.status == StatusCode::UNAUTHORIZED {
        headers.insert(
            hyper::header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer"),
        );
    }
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = refusal.status;
    *response.headers_mut() = headers;
    response
}

fn allow(methods: &[Method]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    if let Ok(value) = HeaderValue::from_str(&names.join(", ")) {
        headers.insert(ALLOW, value);
    }
    headers
}

fn wrong_method() -> Refusal {
    let status = StatusCode::METHOD_NOT_ALLOWED;
    Refusal::new(
        Outcome::ClientError,
        status,
        "method_not_allowed",
        "this path is not served for this method",
    )
}

fn nothing_here() -> Refusal {
    Refusal::new(
        Outcome::NotFound,
        StatusCode::NOT_FOUND,
        "not_found",
        "nothing is served at this address",
    )
}
