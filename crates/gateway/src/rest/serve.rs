//! One request to a route: who may, how much, which upstream, and the answer.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use hyper::header::{CONNECTION, HOST, HeaderName, HeaderValue, UPGRADE};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Request, Response, StatusCode};
use policy::gateway::document::{Auth as Way, GuardOn};
use policy::gateway::limit::{Limit, LimitKind, Per};
use store::calls::Protocol;
use store::outcome::Outcome;

use super::balance::InUse;
use super::table::Target;
use super::{Rest, X_REQUEST_ID, cors, filter, headers};
use crate::ai::call::Call;
use crate::auth::{self, Principal};
use crate::body::{Body, BodyError, Patience, Received};
use crate::clock;
use crate::guards::Guards;
use crate::limits::{Want, subject};
use crate::live::Live;
use crate::refusal::Refusal;
use crate::server::ConnInfo;
use crate::upstream::{CallPhase, Failure, Fault, Reply, Retry, UpstreamError, tunnel};

/// Attempts at upstreams of one request, the first included.
const ATTEMPTS_MAX: u32 = 16;

/// A refusal, and headers that go with it.
type Refused = Box<(Refusal, HeaderMap)>;

/// What goes to the client.
pub(super) struct Served {
    response: Response<Body>,
    in_use: Option<InUse>,
    /// Client and upstream that became a tunnel.
    tunnel: Option<(OnUpgrade, OnUpgrade)>,
    /// The longest pause of the tunnel.
    idle: Duration,
    /// What looks at a stream under way.
    guards: Guards,
}

impl Rest {
    #[expect(clippy::too_many_arguments, reason = "what a request is made of")]
    pub(super) async fn serve(
        &self,
        call: &mut Call,
        mut parts: Parts,
        body: Received,
        conn: &Rc<ConnInfo>,
        live: &Arc<Live>,
        target: &Arc<Target>,
        id: &HeaderValue,
    ) -> Result<Served, Refused> {
        if let Some(cors) = &target.service.cors
            && cors::is_preflight(&parts.method, &parts.headers)
        {
            let mut response = Response::new(Body::Empty);
            *response.status_mut() = StatusCode::NO_CONTENT;
            *response.headers_mut() = cors::preflight(cors, &target.methods, &parts.headers);
            return Ok(Served {
                response,
                in_use: None,
                tunnel: None,
                idle: Duration::ZERO,
                guards: Guards::default(),
            });
        }
        if climbs(parts.uri.path()) {
            return Err(plain(Refusal::bad_request(
                "the path leads upwards: `.` and `..` are not served",
                None,
            )));
        }
        let principal = self
            .authenticate(&mut parts, conn, live, target)
            .await
            .map_err(plain)?;
        call.asked_by(&principal.consumer, &principal.key_id);
        if !principal.consumer.services.has(&target.service.name) {
            let refusal = Refusal::new(
                Outcome::Forbidden,
                StatusCode::FORBIDDEN,
                "forbidden",
                "this key may not call this service",
            );
            return Err(plain(refusal));
        }
        let body = self.bounded(body, live, target, call.record.ingress)?;
        let limit_headers = self.take_limits(call, conn, live, target, &principal)?;
        let rails = live.snapshot.settings.guardrails.iter();
        let rails = rails
            .chain(&principal.consumer.guardrails)
            .chain(&target.service.guardrails);
        let guards = Guards::new(rails, self.chance());
        let served = if guards.is_empty() {
            self.forward(call, parts, body, conn, target, id).await
        } else {
            let served = self
                .forward_guarded(call, parts, body, conn, target, id, &guards)
                .await;
            guards.note(&mut call.record);
            served
        };
        match served {
            Ok(mut served) => {
                served.guards = guards;
                served.response.headers_mut().extend(limit_headers);
                Ok(served)
            }
            Err(refusal) => Err(Box::new((refusal, limit_headers))),
        }
    }

    async fn authenticate(
        &self,
        parts: &mut Parts,
        conn: &ConnInfo,
        live: &Live,
        target: &Target,
    ) -> Result<Principal, Refusal> {
        let service = &target.service;
        let may_be = |way| service.auth.contains(&way);
        let source = conn.peer.ip();
        match service.auth.as_slice() {
            // What the request holds is then for the upstream.
            [Way::None] => return Ok(Principal::anybody()),
            [] => {
                return Err(Refusal::new(
                    Outcome::Unauthenticated,
                    StatusCode::UNAUTHORIZED,
                    "closed",
                    "this service is closed: it names no way to authenticate",
                ));
            }
            _ => {}
        }
        if may_be(Way::Jwt)
            && let Some(rules) = &service.jwt
            && let Some(token) = auth::bearer(&parts.headers).filter(|token| crate::jwt::is_token(token))
        {
            self.shared.failures.check(source)?;
            auth::take_key(parts);
            let verified = crate::jwt::verify(
                &token,
                rules,
                &self.shared.key_sets,
                &self.client,
                &self.shared.trust,
            );
            // It may ask for keys: much that seldom happens.
            let verified = Box::pin(verified).await;
            return match verified {
                Ok(claims) => crate::jwt::principal(&claims, rules, &live.snapshot),
                Err(refused) => {
                    if refused.is_of_client() {
                        self.shared.failures.note(source, clock::unix_ms());
                    }
                    Err(refused.refusal())
                }
            };
        }
        if may_be(Way::Key) {
            let found = auth::authenticate(parts, live, &self.shared, source);
            return match found {
                // Nobody asks for a key where none is needed; a wrong one is refused all the same.
                Err(refusal) if refusal.code == "missing_key" && may_be(Way::None) => {
                    Ok(Principal::anybody())
                }
                found => found,
            };
        }
        if auth::take_key(parts).is_none() && may_be(Way::None) {
            return Ok(Principal::anybody());
        }
        Err(Refusal::new(
            Outcome::Unauthenticated,
            StatusCode::UNAUTHORIZED,
            "missing_token",
            "a token is needed: send it as `Authorization: Bearer TOKEN`",
        ))
    }

    fn bounded(
        &self,
        mut body: Received,
        live: &Live,
        target: &Target,
        protocol: Protocol,
    ) -> Result<Body, Refused> {
        let limit = target
            .route
            .body_max_bytes
            .unwrap_or(live.snapshot.settings.body_max_bytes);
        body.limit(limit);
        if body.announces_too_much() {
            return Err(plain(too_large(limit)));
        }
        if protocol == Protocol::Grpc {
            // Its streams rightly pause.
            body.patience(Patience {
                grace: Duration::from_millis(target.route.idle_timeout_ms),
                min_bytes_per_s: 0,
            });
        }
        Ok(Body::from(body))
    }

    /// Takes from every limit or from none; gives the headers that say what is left.
    fn take_limits(
        &self,
        call: &mut Call,
        conn: &ConnInfo,
        live: &Live,
        target: &Target,
        principal: &Principal,
    ) -> Result<HeaderMap, Refused> {
        let lists = [
            &live.snapshot.settings.limits,
            &principal.consumer.limits,
            &target.service.limits,
            &target.route.limits,
        ];
        if lists.iter().all(|limits| limits.is_empty()) {
            return Ok(HeaderMap::new());
        }
        let wants: Vec<Want<'_>> = lists
            .into_iter()
            .flatten()
            // Tokens are of models, and here is none.
            .filter(|limit| limit.kind != LimitKind::Tokens && limit.per != Per::Model)
            .map(|limit| Want {
                limit,
                subject: subject_of(limit, principal, conn, target),
                amount: 1,
            })
            .collect();
        let taken = self
            .shared
            .limits
            .take_all(&wants, clock::now_ns())
            .map_err(|reached| {
                let limit = wants[reached.index].limit;
                let mut refusal = Refusal::new(
                    Outcome::RateLimited,
                    StatusCode::TOO_MANY_REQUESTS,
                    "rate_limit_exceeded",
                    format!("the limit of {} is reached", limit.text),
                );
                refusal.retry_after_s = Some(reached.wait_ns.div_ceil(1_000_000_000).max(1));
                Box::new((refusal, limit_headers(limit, 0, reached.wait_ns)))
            })?;
        // The one that ends first.
        let tightest = wants
            .iter()
            .zip(&taken)
            .filter(|(want, _)| want.limit.kind == LimitKind::Requests)
            .min_by_key(|(want, taken)| taken.remaining.saturating_mul(1_000_000) / want.limit.burst.max(1));
        let headers = tightest
            .map(|(want, taken)| limit_headers(want.limit, taken.remaining, taken.reset_ns))
            .unwrap_or_default();
        call.takes(taken);
        Ok(headers)
    }

    /// Sends the request and gives the answer, both as guardrails leave them.
    #[expect(clippy::too_many_arguments, reason = "what a request is made of")]
    async fn forward_guarded(
        &self,
        call: &mut Call,
        mut parts: Parts,
        mut body: Body,
        conn: &ConnInfo,
        target: &Arc<Target>,
        id: &HeaderValue,
        guards: &Guards,
    ) -> Result<Served, Refusal> {
        let holds = guards.hold(GuardOn::Request) || guards.hold(GuardOn::Answer);
        if holds && parts.headers.contains_key(UPGRADE) {
            return Err(Refusal::new(
                Outcome::NotSupported,
                StatusCode::NOT_IMPLEMENTED,
                "not_supported",
                "this service has guardrails, which cannot look into a tunnel: call it without `upgrade`",
            ));
        }
        if guards.look_at_requests() {
            filter::query(guards, &mut parts.uri)?;
            body = filter::request(guards, &mut parts.headers, body).await?;
        }
        let looks_at_answers = guards.look_at_answers();
        if looks_at_answers {
            filter::ask_plainly(&mut parts.headers);
        }
        let mut served = self.forward(call, parts, body, conn, target, id).await?;
        if looks_at_answers && served.tunnel.is_none() {
            served.response = filter::answer(guards, served.response).await?;
        }
        Ok(served)
    }

    /// Sends the request to an upstream, and to another one if that fails and the request may be sent again.
    async fn forward(
        &self,
        call: &mut Call,
        mut parts: Parts,
        body: Body,
        conn: &ConnInfo,
        target: &Arc<Target>,
        id: &HeaderValue,
    ) -> Result<Served, Refusal> {
        let client_upgrade = parts.extensions.remove::<OnUpgrade>();
        let host = parts.headers.remove(HOST);
        let authority = parts
            .uri
            .authority()
            .and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        let upgrade = headers::strip_hop_by_hop(&mut parts.headers);
        headers::forward(&mut parts.headers, conn, host.as_ref().or(authority.as_ref()));
        parts.headers.insert(X_REQUEST_ID, id.clone());
        target.request_headers.apply(&mut parts.headers);
        if let Some(host) = &target.host {
            parts.headers.insert(HOST, host.clone());
        }
        let is_upgrade = upgrade.is_some() && client_upgrade.is_some();
        if let Some(protocol) = upgrade.filter(|_| is_upgrade) {
            parts
                .headers
                .insert(CONNECTION, HeaderValue::from_static("upgrade"));
            parts.headers.insert(UPGRADE, protocol);
            call.record.ingress = Protocol::WebSocket;
        }
        let uri = std::mem::take(&mut parts.uri);
        let mut request = Box::new(Request::new(body));
        *request.method_mut() = parts.method.clone();
        *request.headers_mut() = parts.headers;

        let attempts_max = target.route.retries.saturating_add(1).min(ATTEMPTS_MAX);
        self.shared.retries.earn();
        let mut tried = 0_u64;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let Some((i, mut in_use)) = target.group.pick(tried, clock::now_ms()).or_else(|| {
                // All were tried once: another turn.
                (tried != 0)
                    .then(|| target.group.pick(0, clock::now_ms()))
                    .flatten()
            }) else {
                return Err(no_upstream(target.group.passed_over_for_ms(clock::now_ms())));
            };
            tried |= 1 << i.min(63);
            let member = &target.group.members[i];
            let path = target.rewritten(&member.base_path, uri.path(), uri.query());
            *request.uri_mut() = path.parse().map_err(|_| {
                Refusal::bad_request(
                    "the path cannot be passed on: it holds characters that no path may",
                    None,
                )
            })?;
            call.record.attempts = u8::try_from(attempt).unwrap_or(u8::MAX);
            call.record.latency.queue_us = call.elapsed_us();
            let may_repeat = attempt < attempts_max && !is_upgrade;
            let answered = self
                .client
                .try_call(&member.origin, request, &target.timeouts, may_repeat)
                .await;
            match answered {
                Ok(mut reply) => {
                    let status = reply.response.status();
                    call.record.latency.connect_us = reply.timing.connect_us;
                    call.record.latency.first_byte_us = reply.timing.first_byte_us;
                    if is_fault(status) {
                        in_use.failed(clock::now_ms());
                        if may_repeat
                            && is_passing(status)
                            && let Some(again) = reply.again.take()
                            && self.shared.retries.spend()
                        {
                            request = again;
                            continue;
                        }
                    } else {
                        in_use.succeeded(reply.timing.first_byte_us);
                    }
                    return Ok(answer(
                        reply,
                        in_use,
                        target,
                        client_upgrade.filter(|_| is_upgrade),
                    ));
                }
                Err(failure) => {
                    let Failure { error, request: back } = *failure;
                    tracing::debug!(service = %target.service.name, route = %target.route.path, %error, "upstream");
                    if error.fault != Fault::RequestBody {
                        in_use.failed(clock::now_ms());
                    }
                    match back {
                        Some(again)
                            if may_repeat && error.retry != Retry::Never && self.shared.retries.spend() =>
                        {
                            request = again;
                        }
                        _ => return Err(refusal_of(&error)),
                    }
                }
            }
        }
    }
}

fn answer(reply: Reply, in_use: InUse, target: &Target, client_upgrade: Option<OnUpgrade>) -> Served {
    let mut response = reply.response;
    let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let upgrade = headers::strip_hop_by_hop(response.headers_mut());
    let upstream_upgrade = response.extensions_mut().remove::<OnUpgrade>();
    target.response_headers.apply(response.headers_mut());
    let tunnel = client_upgrade.zip(upstream_upgrade).filter(|_| switched);
    if switched {
        if tunnel.is_none() {
            // Nobody asked for it.
            *response.status_mut() = StatusCode::BAD_GATEWAY;
        } else if let Some(protocol) = upgrade {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("upgrade"));
            response.headers_mut().insert(UPGRADE, protocol);
        }
    }
    Served {
        response,
        in_use: Some(in_use),
        tunnel,
        idle: target.timeouts.idle,
        guards: Guards::default(),
    }
}

impl Served {
    /// The response, with the call ended, or handed to what will end it.
    pub(super) fn into_response(self, mut call: Call) -> Response<Body> {
        let status = self.response.status();
        if let Some((client, upstream)) = self.tunnel {
            let (in_use, idle) = (self.in_use, self.idle);
            tokio::task::spawn_local(async move {
                let _in_use = in_use;
                let (counts, end) = tunnel::join(client, upstream, idle).await;
                call.record.bytes_in = counts.up_bytes;
                call.record.bytes_out = counts.down_bytes;
                let outcome = match end {
                    tunnel::End::Closed => Outcome::Ok,
                    tunnel::End::Idle => Outcome::Timeout,
                    tunnel::End::Broken => Outcome::BrokenReply,
                };
                call.end(outcome, status);
            });
            return self.response;
        }
        let (parts, body) = self.response.into_parts();
        let outcome = outcome_of(status);
        let body = match body {
            Body::Empty => {
                call.end(outcome, status);
                Body::Empty
            }
            body => Body::other(Recorded {
                body,
                call,
                outcome,
                status,
                guards: self.guards,
                _in_use: self.in_use,
            }),
        };
        Response::from_parts(parts, body)
    }
}

/// The body of an answer on its way; with it the call ends.
struct Recorded {
    body: Body,
    call: Call,
    outcome: Outcome,
    status: StatusCode,
    guards: Guards,
    _in_use: Option<InUse>,
}

impl HttpBody for Recorded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        this.guards.note(&mut this.call.record);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => {
                this.call.record.bytes_out += frame.data_ref().map_or(0, |data| data.len() as u64);
                if this.body.is_end_stream() {
                    this.call.end(this.outcome, this.status);
                }
            }
            Poll::Ready(Some(Err(_))) if this.guards.has_blocked() => {
                this.call.end(Outcome::GuardBlocked, this.status);
            }
            Poll::Ready(Some(Err(_))) => this.call.end(Outcome::BrokenReply, this.status),
            Poll::Ready(None) => this.call.end(this.outcome, this.status),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn outcome_of(status: StatusCode) -> Outcome {
    match status.as_u16() {
        ..=399 => Outcome::Ok,
        429 => Outcome::ProviderRateLimited,
        400..=499 => Outcome::ClientError,
        _ => Outcome::ProviderError,
    }
}

/// Says the status that the upstream is not well?
fn is_fault(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
}

/// Will it likely be otherwise elsewhere?
fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

fn plain(refusal: Refusal) -> Refused {
    Box::new((refusal, HeaderMap::new()))
}

/// Does a path lead upwards, written out or encoded? It would leave the prefix of its route.
fn climbs(path: &str) -> bool {
    path.split(['/', '\\']).any(|piece| {
        let decoded: Vec<u8>;
        let piece = if piece.contains('%') {
            decoded = percent_encoding::percent_decode_str(piece).collect();
            decoded.as_slice()
        } else {
            piece.as_bytes()
        };
        piece
            .split(|&byte| byte == b'/' || byte == b'\\')
            .any(|part| part == b".." || part == b".")
    })
}

fn limit_headers(limit: &Limit, remaining: u64, reset_ns: u64) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(3);
    headers.insert(HeaderName::from_static("ratelimit-limit"), limit.amount.into());
    headers.insert(HeaderName::from_static("ratelimit-remaining"), remaining.into());
    headers.insert(
        HeaderName::from_static("ratelimit-reset"),
        reset_ns.div_ceil(1_000_000_000).into(),
    );
    headers
}

fn subject_of(limit: &Limit, principal: &Principal, conn: &ConnInfo, target: &Target) -> u64 {
    let consumer = &principal.consumer;
    match limit.per {
        Per::All | Per::Model => 0,
        Per::Key => subject(&["key", &principal.key_id]),
        Per::Consumer => subject(&["consumer", &consumer.name]),
        Per::Team => subject(&["team", &consumer.organisation, &consumer.team]),
        Per::Service => subject(&["service", &target.service.name]),
        Per::Route => subject(&["route", &target.service.name, &target.route.path]),
        Per::Source => subject(&["source", &conn.peer.ip().to_string()]),
    }
}

fn too_large(limit: u64) -> Refusal {
    Refusal::new(
        Outcome::TooLarge,
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        format!("the body is longer than {limit} bytes"),
    )
}

fn no_upstream(wait_ms: u64) -> Refusal {
    let mut refusal = Refusal::new(
        Outcome::NoUpstream,
        StatusCode::SERVICE_UNAVAILABLE,
        "no_upstream",
        "no server of this service is available",
    );
    refusal.retry_after_s = Some(wait_ms.div_ceil(1000).max(1));
    refusal
}

/// What the client is told whose body did not come whole.
pub(super) fn broken_request(error: &BodyError) -> Refusal {
    let bad = |outcome, status, code, message: &str| Refusal::new(outcome, status, code, message);
    match error {
        BodyError::TooLarge { limit } => too_large(*limit),
        BodyError::TooSlow => bad(
            Outcome::Timeout,
            StatusCode::REQUEST_TIMEOUT,
            "body_too_slow",
            "the body of the request came too slowly",
        ),
        _ => bad(
            Outcome::ClientGone,
            StatusCode::BAD_REQUEST,
            "body_broken",
            "the body of the request broke off, or is not valid",
        ),
    }
}

/// What the client is told: never a name or an address from within.
fn refusal_of(error: &UpstreamError) -> Refusal {
    let bad = |outcome, status, code, message: &str| Refusal::new(outcome, status, code, message);
    if let Some(body) = error.body_error() {
        return broken_request(body);
    }
    match (error.fault, error.phase) {
        (Fault::Timeout | Fault::Refused, CallPhase::Queue) => bad(
            Outcome::Overloaded,
            StatusCode::SERVICE_UNAVAILABLE,
            "overloaded",
            "the server of this service has no room for more requests",
        ),
        (Fault::Timeout, _) => bad(
            Outcome::ProviderTimeout,
            StatusCode::GATEWAY_TIMEOUT,
            "upstream_timeout",
            "the server of this service did not answer in time",
        ),
        (Fault::Forbidden, _) => bad(
            Outcome::NoUpstream,
            StatusCode::BAD_GATEWAY,
            "upstream_forbidden",
            "the server of this service may not be called",
        ),
        (Fault::Refused, CallPhase::Write | CallPhase::FirstByte | CallPhase::Body) => bad(
            Outcome::ProviderError,
            StatusCode::BAD_GATEWAY,
            "upstream_closed",
            "the server of this service broke off",
        ),
        (Fault::Protocol, CallPhase::FirstByte | CallPhase::Write | CallPhase::Body) => bad(
            Outcome::BrokenReply,
            StatusCode::BAD_GATEWAY,
            "upstream_broken",
            "the server of this service gave no valid answer",
        ),
        _ => bad(
            Outcome::ProviderUnreachable,
            StatusCode::BAD_GATEWAY,
            "upstream_unreachable",
            "the server of this service cannot be reached",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::climbs;

    #[test]
    fn paths_that_lead_upwards() {
        let check = |path: &str, expected: bool| assert_eq!(climbs(path), expected, "{path}");
        for path in ["/", "/a/b", "/a..b", "/.well-known/x", "/a/...", "/%20", "/a%2fb"] {
            check(path, false);
        }
        for path in [
            "/..",
            "/a/../b",
            "/a/./b",
            "/a/%2e%2e/b",
            "/a/.%2E",
            "/a/%2e",
            "/a%2f..%2fb",
            "/a/..\\b",
            "/a%5c..%5cb",
        ] {
            check(path, true);
        }
    }
}
