//! Asks providers until one answers: keys and targets in turn, within a budget of retries, and only as
//! long as nothing has gone to the client.

use super::answer::{Answer, StreamBody, Whole};
use super::call::{Call, TokenLimit};
use super::ingress::Operation;
use super::job::Job;
use super::known::Named;
use super::pool::ProviderState;
use super::relay::{Relay, RelayOptions};
use super::translate::Outgoing;
use super::trouble::{self, Next, Trouble};
use super::{Ai, wire_protocol};
use crate::body::{Body, BodyError};
use crate::limits::Want;
use crate::live::Live;
use crate::refusal::Refusal;
use crate::upstream::{Fault, Reply, Timeouts, UpstreamError};
use hyper::body::Bytes;
use hyper::http::header::CONTENT_TYPE;
use hyper::http::{Response, StatusCode};
use llm::completions;
use llm::convert::{ReadStream, StreamOptions};
use llm::format::Format;
use llm::shape_as_tool::Shower;
use policy::gateway::limit::LimitKind;
use policy::gateway::snapshot::{ProviderKey, Target};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::calls::Name;
use store::outcome::Outcome;

/// The longest error answer of a provider that is read.
const ERROR_MAX_BYTES: u64 = 256 << 10;
/// Before another attempt at the same provider, doubled each time.
const BACKOFF_MS: u64 = 50;
/// The longest pause before an attempt.
const BACKOFF_MAX_MS: u64 = 2_000;
/// Bytes of a stream held back until its first token; then no other provider can take over.
const FIRST_TOKEN_MAX_BYTES: usize = 256 << 10;

/// An attempt that did not lead to an answer.
struct Failed {
    next: Next,
    refusal: Refusal,
}

impl From<Trouble> for Failed {
    fn from(trouble: Trouble) -> Self {
        Self {
            next: trouble.next,
            refusal: trouble.refusal,
        }
    }
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self {
            next: Next::GiveUp,
            refusal,
        }
    }
}

impl Ai {
    /// Tries the targets in their order.
    pub(super) async fn attempts(
        &self,
        call: &mut Call,
        job: &Job,
        named: &Named,
        order: &[&Target],
        live: &Arc<Live>,
    ) -> Result<Answer, Refusal> {
        let model = &*named.model;
        self.shared.retries.earn();
        let deadline = call.arrived + Duration::from_millis(model.timeout_ms);
        call.record.latency.queue_us = call.elapsed_us();
        let mut last: Option<Refusal> = None;
        let mut tries_left = 1 + model.retries;
        for target in order {
            let provider = &target.provider;
            let Some(state) = live.providers.get(&provider.name) else {
                continue;
            };
            let mut tried: Vec<Arc<str>> = Vec::new();
            let mut backoff_ms = BACKOFF_MS;
            loop {
                let now_ms = crate::clock::unix_ms();
                if tries_left == 0 || Instant::now() >= deadline {
                    break;
                }
                let Some(key) = state.pick(provider, &tried, self.chance(), now_ms) else {
                    let wait_ms = state.no_key_for_ms(provider, now_ms);
                    sooner(&mut last, no_key(&tried, wait_ms));
                    break;
                };
                if !state.may_ask(provider.breaker, now_ms) {
                    sooner(&mut last, breaker_open(state.open_for_ms(now_ms)));
                    break;
                }
                if call.record.attempts > 0 && !self.shared.retries.spend() {
                    break;
                }
                let (n_places, n_limits) = (call.places.len(), call.token_limits.len());
                if let Some(refusal) = self.provider_limits(call, target) {
                    last = Some(refusal);
                    break;
                }
                call.record.attempts = call.record.attempts.saturating_add(1);
                tries_left -= 1;
                match self
                    .attempt(call, job, named, target, key, state, live, deadline)
                    .await
                {
                    Ok(answer) => return Ok(answer),
                    Err(failed) => {
                        // Tokens of a provider that did not answer, and its places.
                        call.places.truncate(n_places);
                        for gone in call.token_limits.drain(n_limits..) {
                            self.shared
                                .limits
                                .settle_tokens(&gone.limit, gone.subject, gone.taken, 0);
                        }
                        let is_last = failed.next == Next::GiveUp;
                        last = Some(failed.refusal);
                        match failed.next {
                            Next::GiveUp => {}
                            Next::NotHere => break,
                            Next::OtherKey(trouble) => {
                                let Some(key) = key else { break };
                                // Each key is tried once: however many are dead, one that works is found.
                                tries_left += 1;
                                state.refused(key, trouble, crate::clock::unix_ms());
                                tried.push(Arc::clone(&key.id));
                                call.record.retries = call.record.retries.saturating_add(1);
                                continue;
                            }
                            Next::OtherTarget => {
                                state.failed(provider.breaker, crate::clock::unix_ms());
                                if order.len() > 1 {
                                    break;
                                }
                                // There is no other: the same once more, a little later.
                                call.record.retries = call.record.retries.saturating_add(1);
                                let jitter = self.chance() % (backoff_ms / 2 + 1);
                                tokio::time::sleep(Duration::from_millis(backoff_ms + jitter)).await;
                                backoff_ms = (backoff_ms * 2).min(BACKOFF_MAX_MS);
                                continue;
                            }
                        }
                        if is_last {
                            return Err(last.unwrap_or_else(no_upstream));
                        }
                    }
                }
            }
        }
        Err(last.unwrap_or_else(no_upstream))
    }

    fn provider_limits(&self, call: &mut Call, target: &Target) -> Option<Refusal> {
        let want = |limit| Want {
            limit,
            subject: 0,
            amount: match limit.kind {
                LimitKind::Tokens => call.estimate.prompt.by_length(),
                LimitKind::Requests | LimitKind::Concurrency => 1,
            },
        };
        let wants: Vec<Want<'_>> = target.provider.limits.iter().map(want).collect();
        match self.shared.limits.take_all(&wants, crate::clock::now_ns()) {
            Ok(taken) => call.takes(taken),
            Err(reached) => return Some(super::limited(wants[reached.index].limit, reached.wait_ns)),
        }
        let of_tokens = wants.iter().filter(|want| want.limit.kind == LimitKind::Tokens);
        call.token_limits.extend(of_tokens.map(TokenLimit::of));
        None
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "what one attempt needs to know, and no more than that"
    )]
    async fn attempt(
        &self,
        call: &mut Call,
        job: &Job,
        named: &Named,
        target: &Target,
        key: Option<&ProviderKey>,
        state: &Arc<ProviderState>,
        live: &Live,
        deadline: Instant,
    ) -> Result<Answer, Failed> {
        let provider = &target.provider;
        let mut outgoing = job.outgoing(&named.model, target, &live.catalogue)?;
        let wire = job.wire(provider.preset);
        call.record.wire = wire_protocol(wire);
        call.record.model = (&target.model).into();
        call.record.provider = (&provider.name).into();
        call.record.provider_key_id = key.map_or_else(Name::default, |key| (&key.id).into());
        if !outgoing.dropped.is_empty() {
            call.record.dropped = super::bounded(&outgoing.dropped.join(", ")).into();
        }
        let token = super::send::token(provider, key, &self.vertex).await?;
        let origin = live.origin(&provider.name).ok_or_else(no_upstream)?;
        let (request, shown) = super::send::request(
            job,
            named,
            target,
            key,
            &mut outgoing,
            wire,
            &origin,
            token.as_deref(),
        )?;
        call.shown = shown;
        let left = deadline.saturating_duration_since(Instant::now());
        let first_byte = Duration::from_millis(provider.first_byte_timeout_ms).min(left);
        let timeouts = Timeouts {
            connect: Duration::from_millis(provider.connect_timeout_ms),
            first_byte,
            idle: Duration::from_millis(provider.idle_timeout_ms),
        };
        let sent = Instant::now();
        call.estimate.was_sent = true;
        call.target = Some(target.clone());
        let reply = self.upstream.try_call(&origin, request, &timeouts, false).await;
        let Reply { response, timing, .. } = reply.map_err(|failure| unreachable(&failure.error, call))?;
        call.record.latency.connect_us = timing.connect_us;
        if !response.status().is_success() {
            call.estimate.was_sent = false;
            let trouble = Box::pin(error_answer(response, key)).await;
            if matches!(trouble.next, Next::GiveUp | Next::NotHere) {
                state.succeeded(micros(sent.elapsed()).into());
            }
            return Err(trouble.into());
        }
        if job.is_stream() {
            let stream = self.stream(call, job, target, response, wire, &outgoing, (sent, state));
            Box::pin(stream).await
        } else {
            self.whole(call, job, target, response, wire, &outgoing, (sent, state))
                .await
        }
    }

    /// An answer that comes at once.
    #[expect(clippy::too_many_arguments, reason = "the same as of an attempt")]
    async fn whole(
        &self,
        call: &mut Call,
        job: &Job,
        target: &Target,
        response: Response<Body>,
        wire: Format,
        outgoing: &Outgoing,
        (sent, state): (Instant, &Arc<ProviderState>),
    ) -> Result<Answer, Failed> {
        call.record.latency.first_byte_us = micros(sent.elapsed());
        let content_type = response.headers().get(CONTENT_TYPE).cloned();
        let limit = self.shared.live().snapshot.settings.answer_max_bytes;
        let body = response.into_body().collect(limit).await;
        let body = body.map_err(|error| no_body(&error))?;
        state.succeeded(call.record.latency.first_byte_us.into());
        let id = &call.record.request_id;
        let whole = Whole::read(job, wire, target, body, content_type, id, outgoing.is_shown)
            .map_err(|words| broken(&words))?;
        call.usage = whole.usage;
        call.usage_is_final = true;
        if whole.usage.is_none() {
            call.estimate.answer = whole.text_count(job, wire);
        }
        call.record.latency.stream_us =
            micros(sent.elapsed()).saturating_sub(call.record.latency.first_byte_us);
        let whole = whole.guarded(job, call)?;
        Ok(Answer::Whole(Box::new(whole), None))
    }

    /// An answer that comes in pieces: read up to its first token, so that until then another provider
    /// can take over.
    #[expect(clippy::too_many_arguments, reason = "the same as of an attempt")]
    async fn stream(
        &self,
        call: &mut Call,
        job: &Job,
        target: &Target,
        response: Response<Body>,
        wire: Format,
        outgoing: &Outgoing,
        (sent, state): (Instant, &Arc<ProviderState>),
    ) -> Result<Answer, Failed> {
        let stream = StreamOptions {
            include_usage: job.head.include_usage,
            json_array: job.json_array,
            request_id: super::id_text(&call.record.request_id),
            now_s: crate::clock::unix_ms() / 1000,
            provider: Some(wire),
        };
        let preset = target.provider.preset;
        // Completions of a provider that has them.
        let is_opaque = job.operation_at(preset) == Operation::Completion;
        let writer = job.stream_writer(preset, &stream);
        let mut relay = Relay::new(RelayOptions {
            wire: if is_opaque { Format::Chat } else { wire },
            ingress: job.ingress,
            drop_usage: outgoing.drop_usage,
            shower: outgoing.is_shown.then(Shower::default),
            stream,
            guards: job.guards.look_at_answers().then(|| job.guards.clone()),
            reader: is_opaque.then(|| Box::new(completions::StreamReader::default()) as Box<dyn ReadStream>),
            writer,
        });
        let mut body = response.into_body();
        let mut out = Vec::new();
        loop {
            match body.frame().await {
                Some(Ok(frame)) => {
                    let Ok(bytes) = frame.into_data() else { continue };
                    if call.record.latency.first_byte_us == 0 {
                        call.record.latency.first_byte_us = micros(sent.elapsed());
                    }
                    relay
                        .feed(&bytes, &mut out)
                        .map_err(|error| broken(&error.to_string()))?;
                }
                Some(Err(error)) => return Err(no_body(&error)),
                None => relay.finish(&mut out),
            }
            let progress = relay.progress();
            if let Some(error) = progress.error.clone().filter(|_| !progress.has_token) {
                return Err(trouble::of_error(error, None).into());
            }
            if progress.has_token || progress.is_complete || out.len() > FIRST_TOKEN_MAX_BYTES {
                break;
            }
            if relay.is_over() {
                return Err(broken("the provider's stream ended before the answer began"));
            }
        }
        state.succeeded(call.record.latency.first_byte_us.into());
        let first = Bytes::from(out);
        Ok(Answer::Stream(Box::new(StreamBody::new(relay, body, first, job))))
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// The error answer of a provider, understood.
async fn error_answer(response: Response<Body>, key: Option<&ProviderKey>) -> Trouble {
    let (parts, body) = response.into_parts();
    let body = body.collect(ERROR_MAX_BYTES).await.unwrap_or_default();
    trouble::of_answer(parts.status, &parts.headers, &body, key.map(|key| &key.secret))
}

fn unreachable(error: &UpstreamError, call: &mut Call) -> Failed {
    tracing::debug!(error = %error, "an attempt failed");
    // A request that was sent whole may have been worked on, and be billed.
    call.estimate.was_sent = matches!(
        error.phase,
        crate::upstream::CallPhase::FirstByte | crate::upstream::CallPhase::Body
    );
    let (outcome, status, code, message) = match error.fault {
        Fault::Timeout => (
            Outcome::ProviderTimeout,
            StatusCode::GATEWAY_TIMEOUT,
            "provider_timeout",
            "the provider did not answer in time",
        ),
        Fault::Forbidden => (
            Outcome::NoUpstream,
            StatusCode::BAD_GATEWAY,
            "provider_forbidden",
            "the provider's address may not be called; its operator finds the reason in the log",
        ),
        Fault::RequestBody => (
            Outcome::Internal,
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the request could not be sent",
        ),
        Fault::Protocol | Fault::Refused => (
            Outcome::ProviderUnreachable,
            StatusCode::BAD_GATEWAY,
            "provider_unreachable",
            "the provider cannot be reached",
        ),
    };
    if error.fault == Fault::Forbidden {
        tracing::warn!(error = %error, "a provider's address is forbidden");
    }
    Failed {
        next: Next::OtherTarget,
        refusal: Refusal::new(outcome, status, code, message),
    }
}

/// An answer that began, and did not come whole.
fn no_body(error: &BodyError) -> Failed {
    if !error.is_timeout() {
        return broken(&error.to_string());
    }
    Failed {
        next: Next::OtherTarget,
        refusal: Refusal::new(
            Outcome::ProviderTimeout,
            StatusCode::GATEWAY_TIMEOUT,
            "provider_timeout",
            "the provider paused for too long",
        ),
    }
}

fn broken(words: &str) -> Failed {
    tracing::debug!(error = words, "a provider's reply is broken");
    Failed {
        next: Next::OtherTarget,
        refusal: Refusal::new(
            Outcome::BrokenReply,
            StatusCode::BAD_GATEWAY,
            "provider_broken_reply",
            "the provider's reply is broken",
        ),
    }
}

fn no_upstream() -> Refusal {
    Refusal::new(
        Outcome::NoUpstream,
        StatusCode::SERVICE_UNAVAILABLE,
        "no_provider",
        "no provider of this model can be asked at the moment; try again later",
    )
}

/// Of refusals before any provider was asked the one that says to come back first; else what a provider said.
fn sooner(last: &mut Option<Refusal>, refusal: Refusal) {
    let is_sooner =
        |last: &Refusal| last.outcome == Outcome::NoUpstream && last.retry_after_s > refusal.retry_after_s;
    if last.as_ref().is_none_or(is_sooner) {
        *last = Some(refusal);
    }
}

fn breaker_open(wait_ms: u64) -> Refusal {
    Refusal {
        retry_after_s: Some(wait_ms.div_ceil(1000).max(1)),
        ..no_upstream()
    }
}

fn no_key(tried: &[Arc<str>], wait_ms: u64) -> Refusal {
    if tried.is_empty() {
        let message =
            "every key of the provider is exhausted, expired or limited at the moment; try again later";
        Refusal {
            message: message.to_owned(),
            ..breaker_open(wait_ms)
        }
    } else {
        no_upstream()
    }
}
