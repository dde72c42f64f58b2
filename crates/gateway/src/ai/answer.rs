//! What goes to the client, and how the call ends with it.

use super::cache;
use super::call::Call;
use super::job::Job;
use super::relay::Relay;
use super::{Operation, Reply, id_text, insert_id, prompt};
use crate::body::{Body, BodyError};
use crate::refusal::Refusal;
use hyper::body::{Body as HttpBody, Bytes, Frame};
use hyper::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::{HeaderMap, Response, StatusCode};
use llm::answer::Answer as ModelAnswer;
use llm::canonical::PartKind;
use llm::convert;
use llm::error::ErrorAnswer;
use llm::estimate::TextCount;
use llm::format::Format;
use llm::usage::Usage;
use policy::gateway::snapshot::Target;
use serde_json::Value;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use store::calls::Guard;
use store::outcome::Outcome;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What goes to the client.
#[derive(Debug)]
pub(super) enum Answer {
    /// Known without asking anybody.
    Local(Bytes),
    /// From the cache.
    Cached(Arc<cache::Entry>),
    /// From a provider, whole.
    Whole(Box<Whole>, Option<(policy::gateway::snapshot::Cache, cache::Key)>),
    /// From a provider, in pieces.
    Stream(Box<StreamBody>),
}

impl Answer {
    pub(super) fn local(value: &Value) -> Self {
        Self::Local(value.to_string().into())
    }

    /// Keep it, if it is whole.
    pub(super) fn kept_in(self, store: Option<(policy::gateway::snapshot::Cache, cache::Key)>) -> Self {
        match self {
            Self::Whole(whole, _) => Self::Whole(whole, store),
            other => other,
        }
    }

    /// The response, with the call ended or handed to the stream that will end it.
    pub(super) fn into_response(self, mut call: Call, reply: &Reply) -> Response<Body> {
        let id = id_text(&reply.request_id);
        // Growing costs more than room.
        let mut headers = HeaderMap::with_capacity(12);
        insert_id(&mut headers, &id);
        if !call.record.dropped.is_empty()
            && let Ok(dropped) = HeaderValue::from_str(&call.record.dropped)
        {
            headers.insert(HeaderName::from_static("x-weir-dropped"), dropped);
        }
        if !call.record.provider.is_empty() {
            let made = || {
                let shown = format!("{}/{}", call.record.provider, call.record.model);
                HeaderValue::try_from(shown).ok()
            };
            if let Some(model) = call.shown.take().or_else(made) {
                headers.insert(HeaderName::from_static("x-weir-model"), model);
            }
        }
        let body = match self {
            Self::Local(bytes) => {
                headers.insert(CONTENT_TYPE, JSON);
                call.record.bytes_out = bytes.len() as u64;
                call.end(Outcome::Ok, StatusCode::OK);
                Body::full(bytes)
            }
            Self::Cached(entry) => {
                let kind = HeaderValue::from_str(&entry.content_type).unwrap_or(JSON);
                headers.insert(CONTENT_TYPE, kind);
                headers.insert("x-weir-cache", HeaderValue::from_static("hit"));
                call.record.bytes_out = entry.body.len() as u64;
                if let Some(audit) = &mut call.audit {
                    audit.push(&entry.body);
                }
                call.end(Outcome::CacheHit, StatusCode::OK);
                Body::full(entry.body.clone())
            }
            Self::Whole(whole, store) => {
                let kind = whole.content_type.clone().unwrap_or(JSON);
                if let Some((settings, key)) = store {
                    let text = kind.to_str().unwrap_or("application/json").to_owned();
                    let made_by = (call.record.provider.clone(), call.record.model.clone());
                    let entry = cache::Entry::new(whole.body.clone(), text, whole.usage, made_by);
                    call.shared().cache.put(
                        key,
                        entry,
                        settings.ttl_s,
                        settings.size_bytes,
                        crate::clock::unix_ms(),
                    );
                }
                headers.insert(CONTENT_TYPE, kind);
                call.record.bytes_out = whole.body.len() as u64;
                if let Some(audit) = &mut call.audit {
                    audit.push(&whole.body);
                }
                call.end(Outcome::Ok, StatusCode::OK);
                Body::full(whole.body)
            }
            Self::Stream(mut stream) => {
                let kind = if stream.is_json_array {
                    JSON
                } else {
                    HeaderValue::from_static("text/event-stream; charset=utf-8")
                };
                headers.insert(CONTENT_TYPE, kind);
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                // Proxies in front hold streams back unless told not to.
                headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
                stream.call = Some(call);
                Body::Other(Box::into_pin(stream as Box<_>))
            }
        };
        let mut response = Response::new(body);
        *response.headers_mut() = headers;
        response
    }
}

/// An answer that came at once.
#[derive(Debug)]
pub(super) struct Whole {
    /// As it goes to the client.
    pub(super) body: Bytes,
    pub(super) usage: Option<Usage>,
    pub(super) content_type: Option<HeaderValue>,
    /// The canonical answer, where it was read.
    answer: Option<ModelAnswer>,
}

impl Whole {
    /// Reads a provider's answer, and writes it in the client's format if that is another.
    ///
    /// # Errors
    /// One sentence for the log.
    pub(super) fn read(
        job: &Job,
        wire: Format,
        target: &Target,
        body: Bytes,
        content_type: Option<HeaderValue>,
        request_id: &[u8; 16],
        is_shown: bool,
    ) -> Result<Self, String> {
        match job.operation_at(target.provider.preset) {
            Operation::Chat => {}
            Operation::Embeddings => return job.read_embeddings(target, &body),
            Operation::Rerank => return job.read_rerank(target, &body),
            _ => {
                let usage = usage_of(Format::Chat, &body).unwrap_or_default();
                return Ok(Self {
                    body,
                    usage,
                    content_type,
                    answer: None,
                });
            }
        }
        let is_plain = wire == job.ingress
            && job.operation == Operation::Chat
            && job.prompt.is_none()
            && !job.guards.look_at_answers();
        if is_plain {
            let usage = usage_of(wire, &body)?;
            return Ok(Self::as_it_came(body, usage));
        }
        let value: Value = serde_json::from_slice(&body).map_err(|error| format!("not JSON: {error}"))?;
        let mut answer = convert::read_answer(wire, value).map_err(|error| error.to_string())?;
        if is_shown {
            llm::shape_as_tool::show(&mut answer);
        }
        let usage = answer.usage;
        // Some formats leave out what others demand.
        if answer.id.is_empty() {
            answer.id = id_text(request_id);
        }
        if answer.model.is_empty() {
            answer.model = target.model.to_string();
        }
        answer
            .created_s
            .get_or_insert_with(|| crate::clock::unix_ms() / 1000);
        let mut whole = Self {
            body: Bytes::new(),
            usage,
            content_type: Some(JSON),
            answer: Some(answer),
        };
        if !job.guards.look_at_answers() && job.prompt.is_none() {
            whole.write(job)?;
        }
        Ok(whole)
    }

    /// An answer that goes through as it came.
    pub(super) fn as_it_came(body: Bytes, usage: Option<Usage>) -> Self {
        Self {
            body,
            usage,
            content_type: Some(JSON),
            answer: None,
        }
    }

    /// An answer of another operation than chat.
    pub(super) fn of_value(value: &Value, usage: Option<Usage>) -> Self {
        Self {
            body: value.to_string().into(),
            usage,
            content_type: Some(JSON),
            answer: None,
        }
    }

    /// The text in it, for an estimate where the provider reports no usage.
    pub(super) fn text_count(&self, job: &Job, wire: Format) -> TextCount {
        let mut count = TextCount::default();
        if self.answer.is_none() && job.operation == Operation::Completion {
            let value: Value = serde_json::from_slice(&self.body).unwrap_or_default();
            for choice in value["choices"].as_array().into_iter().flatten() {
                count.add(choice["text"].as_str().unwrap_or_default());
            }
            return count;
        }
        if self.answer.is_none() && job.operation != Operation::Chat {
            return count;
        }
        let read;
        let answer = match &self.answer {
            Some(answer) => Some(answer),
            None => {
                let value = serde_json::from_slice(&self.body).unwrap_or_default();
                read = convert::read_answer(wire, value).ok();
                read.as_ref()
            }
        };
        let parts = answer
            .into_iter()
            .flat_map(|answer| &answer.choices)
            .flat_map(|choice| &choice.parts);
        for part in parts {
            match &part.kind {
                PartKind::Text(text) | PartKind::Reasoning { text, .. } => count.add(text),
                PartKind::ToolCall { name, arguments, .. } => {
                    count.add(name);
                    count.add(arguments);
                }
                _ => {}
            }
        }
        count
    }

    fn write(&mut self, job: &Job) -> Result<(), String> {
        if let Some(answer) = &self.answer {
            let written = if job.operation == Operation::Completion {
                llm::completions::write_answer(answer)
            } else {
                convert::write_answer(job.ingress, answer).map_err(|error| error.to_string())?
            };
            self.body = written.body.to_string().into();
        }
        Ok(())
    }

    /// Lets guardrails look at it, and gives a prompt's caller what it waits for.
    ///
    /// # Errors
    /// A guardrail blocks it, or the model did not keep to the prompt's schema.
    pub(super) fn guarded(mut self, job: &Job, call: &mut Call) -> Result<Self, Refusal> {
        if let Some(answer) = &mut self.answer
            && job.guards.look_at_answers()
        {
            for part in answer.choices.iter_mut().flat_map(|choice| &mut choice.parts) {
                let looked = match &mut part.kind {
                    PartKind::Text(text) => job.guards.answer_text(text),
                    PartKind::ToolCall { arguments, .. } => job.guards.answer_arguments(arguments),
                    _ => Ok(()),
                };
                looked.map_err(|name| {
                    call.record.guard = Guard::Blocked;
                    blocked_refusal(&name)
                })?;
            }
            job.guards.note(&mut call.record);
        }
        let broken =
            |code, words: String| Refusal::new(Outcome::BrokenReply, StatusCode::BAD_GATEWAY, code, words);
        if self.answer.is_some() && self.body.is_empty() {
            self.write(job)
                .map_err(|words| broken("provider_broken_reply", words))?;
        }
        if let Some(prompt) = &job.prompt {
            let chat = serde_json::from_slice(&self.body).unwrap_or_default();
            let id = id_text(&call.record.request_id);
            self.body = prompt::answer(prompt, &chat, self.usage, &id)
                .map_err(|words| broken(prompt::MISMATCH, words))?
                .to_string()
                .into();
        }
        Ok(self)
    }
}

/// The fields of an answer that may hold its usage; the rest is checked to be JSON and left unread.
#[derive(serde::Deserialize)]
struct UsageFields<'a> {
    #[serde(borrow, default)]
    usage: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow, default, rename = "usageMetadata")]
    usage_metadata: Option<&'a serde_json::value::RawValue>,
}

/// What an answer says it used.
fn usage_of(format: Format, body: &[u8]) -> Result<Option<Usage>, String> {
    let fields: UsageFields<'_> =
        serde_json::from_slice(body).map_err(|error| format!("the answer is no JSON object: {error}"))?;
    let usage = if format == Format::GenerateContent {
        fields.usage_metadata
    } else {
        fields.usage
    };
    Ok(usage.and_then(|usage| llm::usage::of_usage_text(format, usage.get())))
}

fn blocked_refusal(name: &str) -> Refusal {
    Refusal::new(
        Outcome::GuardBlocked,
        StatusCode::BAD_REQUEST,
        "content_blocked",
        blocked(name).message,
    )
}

/// What a client is told whose answer a guardrail holds back.
pub(super) fn blocked(name: &str) -> ErrorAnswer {
    ErrorAnswer {
        status: 400,
        message: format!("the guardrail `{name}` does not let this answer pass"),
        code: Some("content_blocked".to_owned()),
        param: None,
    }
}

/// The body of an answer that comes in pieces. Its end, whichever, ends the call.
pub(super) struct StreamBody {
    relay: Relay,
    upstream: Option<Body>,
    first: Option<Bytes>,
    call: Option<Call>,
    is_json_array: bool,
    first_byte: Instant,
    guards: crate::guards::Guards,
}

impl std::fmt::Debug for StreamBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamBody")
            .field("relay", &self.relay)
            .finish_non_exhaustive()
    }
}

impl StreamBody {
    pub(super) fn new(relay: Relay, upstream: Body, first: Bytes, job: &Job) -> Self {
        Self {
            relay,
            upstream: Some(upstream),
            first: Some(first).filter(|first| !first.is_empty()),
            call: None,
            is_json_array: job.json_array,
            first_byte: Instant::now(),
            guards: job.guards.clone(),
        }
    }

    /// Tells the call what is known, for whichever end it takes.
    fn note(&mut self, out: &[u8]) {
        let Some(call) = &mut self.call else { return };
        let progress = self.relay.progress();
        call.usage = progress.usage;
        call.usage_is_final = progress.is_complete;
        call.estimate.answer = progress.text;
        call.record.bytes_out += out.len() as u64;
        if let Some(audit) = &mut call.audit {
            audit.push(out);
        }
    }

    fn end(&mut self) {
        self.upstream = None;
        let Some(mut call) = self.call.take() else { return };
        let progress = self.relay.progress();
        call.record.latency.stream_us =
            u32::try_from(self.first_byte.elapsed().as_micros()).unwrap_or(u32::MAX);
        self.guards.note(&mut call.record);
        let outcome = match &progress.error {
            _ if progress.blocked_by.is_some() => {
                call.record.guard = Guard::Blocked;
                Outcome::GuardBlocked
            }
            Some(error) if matches!(error.code.as_deref(), Some("stream_cut" | prompt::MISMATCH)) => {
                Outcome::BrokenReply
            }
            Some(error) if error.status == 504 => Outcome::ProviderTimeout,
            Some(_) => Outcome::ProviderError,
            None => Outcome::Ok,
        };
        call.end(outcome, StatusCode::OK);
    }
}

impl HttpBody for StreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            this.note(&first);
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if let Some(call) = &mut this.call {
            // Only now: the first token is not to wait for it.
            call.estimate.prompt.let_go();
        }
        loop {
            let Some(upstream) = &mut this.upstream else {
                this.end();
                return Poll::Ready(None);
            };
            let mut out = Vec::new();
            match ready!(Pin::new(upstream).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let Ok(bytes) = frame.into_data() else { continue };
                    if let Err(error) = this.relay.feed(&bytes, &mut out) {
                        this.relay.fail(&cut(&error.to_string()), &mut out);
                    }
                }
                Some(Err(error)) if error.is_timeout() => this.relay.fail(&idle(), &mut out),
                Some(Err(error)) => this.relay.fail(&cut(&error.to_string()), &mut out),
                None => this.relay.finish(&mut out),
            }
            if this.relay.is_over() {
                this.upstream = None;
            }
            if !out.is_empty() {
                this.note(&out);
                return Poll::Ready(Some(Ok(Frame::data(out.into()))));
            }
            this.note(&[]);
        }
    }
}

/// What a client is told whose provider says nothing more.
fn idle() -> ErrorAnswer {
    ErrorAnswer {
        status: 504,
        message: "the provider paused for too long".to_owned(),
        code: Some("provider_timeout".to_owned()),
        param: None,
    }
}

/// What a client is told whose stream cannot go on. The reason is for the log.
fn cut(words: &str) -> ErrorAnswer {
    tracing::debug!(error = words, "a provider's stream broke off");
    ErrorAnswer {
        status: 502,
        message: "the provider's stream broke off".to_owned(),
        code: Some("stream_cut".to_owned()),
        param: None,
    }
}
