//! The AI half of the gateway: any format to any provider.
//!
//! The way of a call, in this order and no other: read the head, authenticate, find the model, authorise,
//! limits, guardrails, cache, reserve, attempts, answer, settle. What a step refuses is told in the
//! client's own format, with the request's id.

mod answer;
mod attempt;
pub mod cache;
pub mod call;
mod candidates;
mod head;
pub mod ingress;
mod job;
mod known;
mod list;
pub mod pool;
mod prompt;
pub mod prompt_count;
mod quirks;
mod relay;
mod send;
mod translate;
pub mod trouble;
mod vertex;

use crate::auth::{self, Principal};
use crate::body::{Body, Received};
use crate::guards::Guards;
use crate::limits::Want;
use crate::live::{Live, Shared};
use crate::refusal::Refusal;
use crate::server::ConnInfo;
use crate::upstream::Client;
use crate::upstream::trust::Trust;
use call::{Audit, Call, TokenLimit};
use hyper::body::Bytes;
use hyper::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::{HeaderMap, Request, Response, StatusCode};
use ingress::{Ingress, Operation};
use job::Job;
use llm::format::Format;
use policy::gateway::compile::NoModel;
use policy::gateway::limit::{Limit, LimitKind, Per};
use policy::gateway::snapshot::{Consumer, Model, Prompt};
use prompt_count::PromptCount;
use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;
use store::calls::{CallRecord, Protocol};
use store::outcome::Outcome;

/// The AI half of one thread.
#[derive(Debug)]
pub struct Ai {
    shared: Arc<Shared>,
    upstream: Client,
    vertex: vertex::Tokens,
    models: known::Models,
    /// Any numbers, for ids and draws; seeded by the operating system.
    random: Cell<u64>,
}

/// Whom an answer is for, and in which words.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The format of errors and answers.
    pub format: Format,
    /// The id, in the answer's header and in the record.
    pub request_id: [u8; 16],
}

impl Ai {
    /// For one thread.
    pub fn new(shared: Arc<Shared>, upstream: Client, trust: Trust, seed: u64) -> Self {
        Self {
            shared,
            vertex: vertex::Tokens::new(upstream.clone(), trust),
            upstream,
            models: known::Models::default(),
            random: Cell::new(seed),
        }
    }

    /// The next of the numbers (SplitMix64).
    fn chance(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Answers a request to one of the AI paths.
    pub async fn handle(
        &self,
        request: Request<Received>,
        conn: &ConnInfo,
        live: &Arc<Live>,
        ingress: &Ingress,
    ) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let mut call = self.call(&parts, conn, protocol(ingress));
        let reply = Reply {
            format: ingress.format,
            request_id: call.record.request_id,
        };
        let served = self.serve(&mut call, &mut parts, body.into(), live, ingress);
        match served.await {
            Ok(answer) => answer.into_response(call, &reply),
            Err(refusal) => refused(&mut call, &refusal, &reply),
        }
    }

    /// Answers a call of a prompt.
    pub async fn handle_prompt(
        &self,
        request: Request<Received>,
        conn: &ConnInfo,
        live: &Arc<Live>,
        prompt: Arc<Prompt>,
    ) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let mut call = self.call(&parts, conn, Protocol::Prompt);
        call.record.service = (&prompt.name).into();
        let reply = Reply {
            format: Format::Chat,
            request_id: call.record.request_id,
        };
        let served = self.serve_prompt(&mut call, &mut parts, body.into(), live, prompt);
        match served.await {
            Ok(answer) => answer.into_response(call, &reply),
            Err(refusal) => refused(&mut call, &refusal, &reply),
        }
    }

    /// Tells a client that its request is not served, and records it.
    pub fn refuse(&self, request: Request<Received>, conn: &ConnInfo, refusal: &Refusal) -> Response<Body> {
        let (parts, _) = request.into_parts();
        let mut call = self.call(&parts, conn, Protocol::None);
        let reply = Reply {
            format: Format::Chat,
            request_id: call.record.request_id,
        };
        refused(&mut call, refusal, &reply)
    }

    /// The OpenAPI document of prompts: of all at `/prompts/openapi.json`, of one below its own path.
    pub fn prompt_document(&self, live: &Live, path: &str, method: &hyper::Method) -> Option<Response<Body>> {
        if method != hyper::Method::GET {
            return None;
        }
        let of = path.strip_suffix("/openapi.json")?;
        let prompts = &live.snapshot.prompts;
        let document = if of == "/prompts" {
            let mut all: Vec<&Prompt> = prompts.values().map(|prompt| &**prompt).collect();
            all.sort_by(|a, b| a.path.cmp(&b.path));
            prompt::openapi("Prompts", all.into_iter())
        } else {
            let one = prompts.get(of)?;
            prompt::openapi(&one.name, std::iter::once(&**one))
        };
        let mut response = Response::new(Body::full(document.to_string()));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        Some(response)
    }

    fn call(&self, parts: &Parts, conn: &ConnInfo, protocol: Protocol) -> Call {
        let now_ms = crate::clock::unix_ms();
        let mut request_id = [0; 16];
        request_id[..8].copy_from_slice(&now_ms.to_be_bytes());
        request_id[..2].copy_from_slice(&(self.chance() as u16).to_be_bytes());
        request_id[8..].copy_from_slice(&self.chance().to_be_bytes());
        let record = CallRecord {
            at_ms: now_ms as i64,
            request_id,
            ingress: protocol,
            client_ip: Some(conn.peer.ip()),
            bytes_in: content_length(&parts.headers),
            ..CallRecord::default()
        };
        Call::new(Arc::clone(&self.shared), record, Instant::now())
    }

    async fn serve(
        &self,
        call: &mut Call,
        parts: &mut Parts,
        body: Body,
        live: &Arc<Live>,
        ingress: &Ingress,
    ) -> Result<answer::Answer, Refusal> {
        if ingress.needs_post() && parts.method != hyper::Method::POST {
            return Err(Refusal::wrong_method("this is asked for with POST"));
        }
        let principal = auth::authenticate(parts, live, &self.shared, call.source())?;
        call.asked_by(&principal.consumer, &principal.key_id);
        let path_model = ingress.model.as_deref().map(percent_decode).transpose()?;
        match ingress.operation {
            Operation::Unsupported => return Err(unsupported(parts.uri.path())),
            Operation::ListModels => {
                let list = list::all(live, &principal.consumer, ingress.format, parts.uri.query());
                return Ok(answer::Answer::local(&list));
            }
            Operation::ShowModel => {
                let name = path_model.unwrap_or_default();
                let found = list::one(live, &principal.consumer, ingress.format, &name);
                return found
                    .map(|model| answer::Answer::local(&model))
                    .ok_or_else(|| unknown_model(&name));
            }
            _ => {}
        }
        let body = read_body(body, live.snapshot.settings.body_max_bytes).await?;
        call.record.bytes_in = body.len() as u64;
        let head_format = if ingress.operation == Operation::Chat {
            ingress.format
        } else {
            Format::Chat
        };
        let head = if ingress.operation == Operation::Passthrough && !is_json(&parts.headers) {
            head::read_form(&body)
        } else {
            head::read(head_format, &body, path_model.as_deref(), ingress.stream)
        };
        let head = head.map_err(|bad| Refusal::bad_request(bad.message, bad.param))?;
        let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
        let target = ingress::below_version(target);
        let mut job = Job::new(ingress, head, body, &parts.headers, target);
        self.run(call, &mut job, &principal, live).await
    }

    async fn serve_prompt(
        &self,
        call: &mut Call,
        parts: &mut Parts,
        body: Body,
        live: &Arc<Live>,
        prompt: Arc<Prompt>,
    ) -> Result<answer::Answer, Refusal> {
        let is_open = prompt.auth.contains(&policy::gateway::document::Auth::None);
        let principal = match auth::authenticate(parts, live, &self.shared, call.source()) {
            Ok(principal) => principal,
            Err(_) if is_open => anybody(),
            Err(refusal) => return Err(refusal),
        };
        call.asked_by(&principal.consumer, &principal.key_id);
        if !principal.consumer.services.has(&prompt.name) {
            return Err(forbidden(format!(
                "this key may not call the prompt `{}`",
                prompt.name
            )));
        }
        self.take_limits(call, prompt.limits.iter(), &principal, "", 0)?;
        let body = read_body(body, live.snapshot.settings.body_max_bytes).await?;
        let query = parts.uri.query().unwrap_or_default();
        let stream = query
            .split('&')
            .any(|pair| pair == "stream=true" || pair == "stream=1")
            || parts
                .headers
                .get(hyper::http::header::ACCEPT)
                .is_some_and(|accept| accept.as_bytes().starts_with(b"text/event-stream"));
        let chat = prompt::chat_request(&prompt, &body, stream)
            .map_err(|(message, param)| Refusal::bad_request(message, param))?;
        let body = Bytes::from(chat.to_string());
        let head = head::read(Format::Chat, &body, None, false)
            .map_err(|bad| Refusal::bad_request(bad.message, bad.param))?;
        let mut job = Job::of_prompt(prompt, head, body)?;
        // Who may call a prompt may use its model through it.
        self.run_model(call, &mut job, &principal, live).await
    }

    async fn run(
        &self,
        call: &mut Call,
        job: &mut Job,
        principal: &Principal,
        live: &Arc<Live>,
    ) -> Result<answer::Answer, Refusal> {
        if !principal.consumer.models.has(&job.head.model) {
            call.record.model_asked = job.head.model.as_str().into();
            // What one may not use one need not learn to be there.
            return Err(unknown_model(&job.head.model));
        }
        self.run_model(call, job, principal, live).await
    }

    async fn run_model(
        &self,
        call: &mut Call,
        job: &mut Job,
        principal: &Principal,
        live: &Arc<Live>,
    ) -> Result<answer::Answer, Refusal> {
        let consumer = &principal.consumer;
        call.record.streamed = job.head.stream;
        if let Some(user) = &job.head.user {
            call.record.user = bounded(user).into();
        }
        let name = &job.head.model;
        let named = self.models.find(live, name).map_err(|why| {
            call.record.model_asked = name.as_str().into();
            no_model(name, why)
        })?;
        call.record.model_asked = (&named.name).into();
        let model = &named.model;
        let settings = &live.snapshot.settings;
        // What a prompt says beside its variables is its author's, not the caller's.
        job.strict = job.prompt.is_none() && consumer.strict.unwrap_or(settings.strict);
        call.estimate.prompt = PromptCount::of(job);
        let tokens = call.estimate.prompt.by_length();
        let limits = settings
            .limits
            .iter()
            .chain(&consumer.limits)
            .chain(&model.limits);
        self.take_limits(call, limits, principal, &model.name, tokens)?;
        self.guard(call, job, consumer, model, live)?;
        if ingress_counts(job) {
            return job.count_locally();
        }
        let cache = model.cache.or(settings.cache).filter(|_| job.is_cacheable());
        let key = cache.map(|_| job.cache_key(consumer, live.snapshot.generation));
        if let Some(key) = &key
            && let Some(entry) = self.shared.cache.get(key, crate::clock::unix_ms())
        {
            call.record.cache_hit = true;
            (call.record.provider, call.record.model) = entry.made_by.clone();
            return Ok(answer::Answer::Cached(entry));
        }
        let order = candidates::order(model, live, self.chance(), crate::clock::unix_ms());
        self.reserve(call, job, consumer, &order).await?;
        let store = cache.zip(key);
        let answer = self.attempts(call, job, &named, &order, live).await?;
        Ok(answer.kept_in(store))
    }

    /// Takes from every limit, or from none where one refuses.
    fn take_limits<'a>(
        &self,
        call: &mut Call,
        limits: impl Iterator<Item = &'a Limit>,
        principal: &Principal,
        model: &str,
        tokens: u64,
    ) -> Result<(), Refusal> {
        let want = |limit: &'a Limit| Want {
            limit,
            subject: subject(limit, principal, model, call),
            amount: match limit.kind {
                LimitKind::Tokens => tokens,
                LimitKind::Requests | LimitKind::Concurrency => 1,
            },
        };
        let wants: Vec<Want<'_>> = limits.map(want).collect();
        let taken = self.shared.limits.take_all(&wants, crate::clock::now_ns());
        let taken = taken.map_err(|reached| limited(wants[reached.index].limit, reached.wait_ns))?;
        call.takes(taken);
        let of_tokens = wants.iter().filter(|want| want.limit.kind == LimitKind::Tokens);
        call.token_limits.extend(of_tokens.map(TokenLimit::of));
        Ok(())
    }

    /// Guardrails on the request.
    fn guard(
        &self,
        call: &mut Call,
        job: &mut Job,
        consumer: &Consumer,
        model: &Model,
        live: &Live,
    ) -> Result<(), Refusal> {
        let settings = &live.snapshot.settings;
        let rails = settings
            .guardrails
            .iter()
            .chain(&consumer.guardrails)
            .chain(&model.guardrails);
        let guards = Guards::new(rails, self.chance());
        if guards.look_at_requests() {
            job.guard_request(&guards).inspect_err(|refusal| {
                guards.note(&mut call.record);
                if refusal.outcome == Outcome::GuardBlocked {
                    call.record.guard = store::calls::Guard::Blocked;
                }
            })?;
        }
        guards.note(&mut call.record);
        job.guards = guards;
        if settings.audit_bodies && self.shared.calls.wants_audit() {
            call.audit = Some(Audit::of_request(job.audit_body()));
        }
        Ok(())
    }

    /// Holds what the call may cost at the dearest of its targets.
    async fn reserve(
        &self,
        call: &mut Call,
        job: &mut Job,
        consumer: &Consumer,
        order: &[&policy::gateway::snapshot::Target],
    ) -> Result<(), Refusal> {
        let Some(budget) = &consumer.budget else {
            return Ok(());
        };
        if let Some(free) = order.iter().find(|target| target.prices.is_none()) {
            return Err(Refusal::new(
                Outcome::BudgetExceeded,
                StatusCode::PAYMENT_REQUIRED,
                "no_price",
                format!(
                    "`{}` has no price, so the budget of this consumer cannot be kept; its operator has to give one",
                    free.model
                ),
            ));
        }
        let unbounded = |target: &&&policy::gateway::snapshot::Target| {
            target.provider.preset.quirks.max_tokens_excludes_reasoning
        };
        if budget.is_hard
            && let Some(target) = order.iter().find(unbounded)
        {
            return Err(Refusal::new(
                Outcome::BudgetExceeded,
                StatusCode::PAYMENT_REQUIRED,
                "no_bound",
                format!(
                    "what an answer of `{}` costs cannot be bounded, so the hard budget of this consumer cannot be kept; its operator can make the budget soft",
                    target.model
                ),
            ));
        }
        let amount = if budget.is_hard {
            job.bound_output(order);
            order
                .iter()
                .filter_map(|target| job.cost_bound(target))
                .max()
                .unwrap_or_default()
        } else {
            llm::money::Money::ZERO
        };
        let Some(budgets) = &self.shared.budgets else {
            return Err(Refusal::new(
                Outcome::LedgerUnavailable,
                StatusCode::SERVICE_UNAVAILABLE,
                "ledger_unavailable",
                "budgets cannot be kept at the moment; try again later",
            ));
        };
        let account = crate::money::account_key(consumer, budget);
        match budgets.hold(&account, amount.pico_usd(), call.record.at_ms).await {
            Ok(hold) => {
                call.hold = Some(hold);
                Ok(())
            }
            Err(refused) => Err(crate::money::refusal(&refused)),
        }
    }
}

/// Who calls a prompt that is open to all.
fn anybody() -> Principal {
    Principal {
        consumer: Arc::new(Consumer::anybody()),
        key_id: Arc::from(""),
    }
}

/// Tokens are counted here, where no provider of the same format is asked: as an estimate.
fn ingress_counts(job: &Job) -> bool {
    job.operation == Operation::CountTokens
}

/// Whose count a limit is.
fn subject(limit: &Limit, principal: &Principal, model: &str, call: &Call) -> u64 {
    let consumer = &principal.consumer;
    let text = |parts: &[&str]| crate::limits::subject(parts);
    match limit.per {
        Per::All => 0,
        Per::Key => text(&["key", &principal.key_id]),
        Per::Consumer => text(&["consumer", &consumer.name]),
        Per::Team => text(&["team", &consumer.organisation, &consumer.team]),
        Per::Service | Per::Route => text(&["service", &call.record.service]),
        Per::Model => text(&["model", model]),
        Per::Source => match call.record.client_ip {
            Some(ip) => text(&["source", &ip.to_string()]),
            None => 0,
        },
    }
}

fn limited(limit: &Limit, wait_ns: u64) -> Refusal {
    let mut refusal = Refusal::new(
        Outcome::RateLimited,
        StatusCode::TOO_MANY_REQUESTS,
        "rate_limit_exceeded",
        format!("the limit of {} is reached", limit.text),
    );
    refusal.retry_after_s = Some(wait_ns.div_ceil(1_000_000_000).max(1));
    refusal
}

fn no_model(name: &str, why: NoModel) -> Refusal {
    match why {
        NoModel::Unknown => unknown_model(name),
        NoModel::Ambiguous(names) => Refusal {
            param: Some("model".to_owned()),
            ..Refusal::new(
                Outcome::UnknownModel,
                StatusCode::BAD_REQUEST,
                "ambiguous_model",
                format!(
                    "several providers have `{}`: ask for one of {}",
                    bounded(name),
                    names.join(", ")
                ),
            )
        },
    }
}

fn unknown_model(name: &str) -> Refusal {
    Refusal::new(
        Outcome::UnknownModel,
        StatusCode::NOT_FOUND,
        "model_not_found",
        format!(
            "no model is called `{}`, or this key may not use it",
            bounded(name)
        ),
    )
    .with_param("model")
}

fn forbidden(message: String) -> Refusal {
    Refusal::new(Outcome::Forbidden, StatusCode::FORBIDDEN, "forbidden", message)
}

fn unsupported(path: &str) -> Refusal {
    Refusal::new(
        Outcome::NotSupported,
        StatusCode::NOT_IMPLEMENTED,
        "not_supported",
        format!("the gateway does not offer `{}`", bounded(path)),
    )
}

/// The start of a text from outside, for messages and records.
fn bounded(text: &str) -> &str {
    const MAX_BYTES: usize = 256;
    if text.len() <= MAX_BYTES {
        return text;
    }
    &text[..text.floor_char_boundary(MAX_BYTES)]
}

fn percent_decode(text: &str) -> Result<String, Refusal> {
    let bytes: Vec<u8> = percent_encoding::percent_decode_str(text).collect();
    String::from_utf8(bytes)
        .map_err(|_| Refusal::bad_request("the model in the path is not UTF-8", Some("model".to_owned())))
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_none_or(|kind| kind.as_bytes().starts_with(b"application/json"))
}

fn content_length(headers: &HeaderMap) -> u64 {
    let length = headers.get(hyper::http::header::CONTENT_LENGTH);
    length
        .and_then(|length| length.to_str().ok()?.parse().ok())
        .unwrap_or(0)
}

async fn read_body(body: Body, limit: u64) -> Result<Bytes, Refusal> {
    use crate::body::BodyError;
    body.collect(limit).await.map_err(|error| match error {
        BodyError::TooLarge { limit } => Refusal::new(
            Outcome::TooLarge,
            StatusCode::PAYLOAD_TOO_LARGE,
            "request_too_large",
            format!("the body is longer than {limit} bytes"),
        ),
        BodyError::TooSlow => Refusal::new(
            Outcome::Timeout,
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            "the body came too slowly",
        ),
        _ => Refusal::bad_request("the body ended early", None),
    })
}

/// Tells a client why its request is not served, in its own format.
fn refused(call: &mut Call, refusal: &Refusal, reply: &Reply) -> Response<Body> {
    let id = id_text(&reply.request_id);
    let body = llm::error::write_error(reply.format, &refusal.to_answer(), &id).to_string();
    call.record.bytes_out = body.len() as u64;
    if let Some(audit) = &mut call.audit {
        audit.push(body.as_bytes());
    }
    call.end(refusal.outcome, refusal.status);
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = refusal.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    insert_id(headers, &id);
    if let Some(seconds) = refusal.retry_after_s {
        headers.insert(hyper::http::header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if refusal.status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(hyper::http::header::ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

fn insert_id(headers: &mut HeaderMap, id: &str) {
    const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
    const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    if let Ok(id) = HeaderValue::from_str(id) {
        // OpenAI's and Anthropic's SDKs look for one of these.
        headers.insert(REQUEST_ID, id.clone());
        headers.insert(X_REQUEST_ID, id);
    }
}

/// A request's id as it is shown.
pub fn id_text(id: &[u8; 16]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * id.len());
    for byte in id {
        text.push(DIGITS[usize::from(byte >> 4)].into());
        text.push(DIGITS[usize::from(byte & 15)].into());
    }
    text
}

fn protocol(ingress: &Ingress) -> Protocol {
    match (ingress.operation, ingress.format) {
        (Operation::Chat, format) => wire_protocol(format),
        (Operation::Completion, _) => Protocol::Completions,
        (Operation::Embeddings, Format::GenerateContent) => Protocol::EmbedContent,
        (Operation::Embeddings, _) => Protocol::Embeddings,
        (Operation::Rerank, _) => Protocol::Rerank,
        (Operation::CountTokens, _) => Protocol::CountTokens,
        (Operation::ListModels | Operation::ShowModel, _) => Protocol::Models,
        (Operation::Passthrough | Operation::Unsupported, _) => Protocol::Rest,
    }
}

/// The record's name for a wire format.
pub fn wire_protocol(format: Format) -> Protocol {
    match format {
        Format::Chat => Protocol::Chat,
        Format::Responses => Protocol::Responses,
        Format::Messages => Protocol::Messages,
        Format::GenerateContent => Protocol::GenerateContent,
        Format::Converse => Protocol::Converse,
        Format::Cohere => Protocol::Cohere,
    }
}
