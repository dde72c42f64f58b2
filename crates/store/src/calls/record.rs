//! The record of one call, and of its bodies where an audit trail is asked for.

use crate::outcome::Outcome;
use llm::usage::Usage;
use std::net::IpAddr;
use std::sync::Arc;

/// The format a client speaks, or that an upstream is spoken to in. Its code (`as u8`) and its text are
/// stored: never change either, add at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// None: the request did not come this far.
    #[default]
    None = 0,
    /// Plain HTTP of a REST service.
    Rest = 1,
    /// A prompt published as a REST endpoint.
    Prompt = 2,
    /// `OpenAI` Chat Completions.
    Chat = 3,
    /// `OpenAI` Responses.
    Responses = 4,
    /// `OpenAI` Completions.
    Completions = 5,
    /// `OpenAI` Embeddings.
    Embeddings = 6,
    /// `OpenAI` Images.
    Images = 7,
    /// `OpenAI` Audio.
    Audio = 8,
    /// Rerank.
    Rerank = 9,
    /// `OpenAI` Moderations.
    Moderations = 10,
    /// Lists of models, in any format.
    Models = 11,
    /// Anthropic Messages.
    Messages = 12,
    /// Counting tokens, in any format.
    CountTokens = 13,
    /// Gemini `generateContent`, streamed or not.
    GenerateContent = 14,
    /// Gemini `embedContent`.
    EmbedContent = 15,
    /// Bedrock Converse.
    Converse = 16,
    /// Cohere Chat.
    Cohere = 17,
    /// Realtime over a WebSocket.
    Realtime = 18,
    /// Batches and files.
    Batches = 19,
    /// A WebSocket of a REST service.
    WebSocket = 20,
    /// gRPC.
    Grpc = 21,
}

impl Protocol {
    const ALL: [Self; 22] = [
        Self::None,
        Self::Rest,
        Self::Prompt,
        Self::Chat,
        Self::Responses,
        Self::Completions,
        Self::Embeddings,
        Self::Images,
        Self::Audio,
        Self::Rerank,
        Self::Moderations,
        Self::Models,
        Self::Messages,
        Self::CountTokens,
        Self::GenerateContent,
        Self::EmbedContent,
        Self::Converse,
        Self::Cohere,
        Self::Realtime,
        Self::Batches,
        Self::WebSocket,
        Self::Grpc,
    ];

    /// The stored text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Rest => "rest",
            Self::Prompt => "prompt",
            Self::Chat => "chat",
            Self::Responses => "responses",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Images => "images",
            Self::Audio => "audio",
            Self::Rerank => "rerank",
            Self::Moderations => "moderations",
            Self::Models => "models",
            Self::Messages => "messages",
            Self::CountTokens => "count_tokens",
            Self::GenerateContent => "generate_content",
            Self::EmbedContent => "embed_content",
            Self::Converse => "converse",
            Self::Cohere => "cohere",
            Self::Realtime => "realtime",
            Self::Batches => "batches",
            Self::WebSocket => "websocket",
            Self::Grpc => "grpc",
        }
    }

    /// The protocol with this code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// Where the time of a call went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// From arrival to the first attempt: admission and waiting for a place.
    pub queue_us: u32,
    /// Making the connection to the upstream that answered; 0 where one was open.
    pub connect_us: u32,
    /// From sending to the first byte of the answer (of a stream: of its first event).
    pub first_byte_us: u32,
    /// From there to the last byte.
    pub stream_us: u32,
    /// From arrival to the end.
    pub total_us: u32,
}

/// What a guardrail did to a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Guard {
    /// Nothing was found, or nothing looked.
    #[default]
    Passed = 0,
    /// Something was found and only noted.
    Noted = 1,
    /// Something was changed.
    Changed = 2,
    /// The request or the answer was refused.
    Blocked = 3,
}

impl Guard {
    /// The guard with this code.
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Passed, Self::Noted, Self::Changed, Self::Blocked]
            .get(usize::from(code))
            .copied()
    }

    /// The stored text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Noted => "noted",
            Self::Changed => "changed",
            Self::Blocked => "blocked",
        }
    }
}

/// A name in a record, shared with whatever has it. Without one it is empty, which costs nothing to make, copy or
/// hand to another thread.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Name(Option<Arc<str>>);

impl Name {
    /// The same as a name that is always there.
    pub fn to_arc(&self) -> Arc<str> {
        self.0.clone().unwrap_or_default()
    }
}

impl std::ops::Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        self.0.as_deref().unwrap_or("")
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self)
    }
}

impl From<Arc<str>> for Name {
    fn from(name: Arc<str>) -> Self {
        Self(Some(name).filter(|name| !name.is_empty()))
    }
}

impl From<&Arc<str>> for Name {
    fn from(name: &Arc<str>) -> Self {
        Self((!name.is_empty()).then(|| Arc::clone(name)))
    }
}

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Self((!name.is_empty()).then(|| name.into()))
    }
}

/// One call, as it ended. Of fixed size; names are shared, so that making one formats nothing. An empty
/// name means: none.
#[derive(Clone, Debug, PartialEq)]
pub struct CallRecord {
    /// Arrival, in milliseconds since 1970.
    pub at_ms: i64,
    /// The id that the answer carries.
    pub request_id: [u8; 16],
    /// Whose.
    pub organisation: Name,
    /// Whose in it.
    pub team: Name,
    /// The application that called.
    pub consumer: Name,
    /// The id of its key; never the key.
    pub key_id: Name,
    /// The end user, as the caller names it.
    pub user: Name,
    /// The service asked for.
    pub service: Name,
    /// The route in it.
    pub route: Name,
    /// The format the client spoke.
    pub ingress: Protocol,
    /// The format the upstream was spoken to in.
    pub wire: Protocol,
    /// The model as the client named it.
    pub model_asked: Name,
    /// The model that answered.
    pub model: Name,
    /// The provider that answered.
    pub provider: Name,
    /// The id of the provider's key that was used; never the key.
    pub provider_key_id: Name,
    /// The HTTP status of the answer.
    pub status: u16,
    /// How it ended.
    pub outcome: Outcome,
    /// Tokens by bucket.
    pub usage: Usage,
    /// What it cost, in 10^-12 USD.
    pub cost_pusd: i64,
    /// The usage is estimated, not reported.
    pub estimated: bool,
    /// The price comes from the catalogue, not from the operator.
    pub price_assumed: bool,
    /// Where the time went.
    pub latency: Latency,
    /// Attempts at upstreams; 0 where none was made.
    pub attempts: u8,
    /// Of them, those at the same upstream again.
    pub retries: u8,
    /// Answered from the cache.
    pub cache_hit: bool,
    /// Answered as a stream.
    pub streamed: bool,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// Who called.
    pub client_ip: Option<IpAddr>,
    /// The source country (ISO 3166-1), zeros where unknown.
    pub country: [u8; 2],
    /// Fields that the other format cannot express, as `x-weir-dropped` names them. The caller bounds it.
    pub dropped: Name,
    /// Pieces of personal data replaced in the request.
    pub pii_in: u32,
    /// And in the answer.
    pub pii_out: u32,
    /// What guardrails did.
    pub guard: Guard,
}

impl Default for CallRecord {
    fn default() -> Self {
        Self {
            at_ms: 0,
            request_id: [0; 16],
            organisation: Name::default(),
            team: Name::default(),
            consumer: Name::default(),
            key_id: Name::default(),
            user: Name::default(),
            service: Name::default(),
            route: Name::default(),
            ingress: Protocol::None,
            wire: Protocol::None,
            model_asked: Name::default(),
            model: Name::default(),
            provider: Name::default(),
            provider_key_id: Name::default(),
            status: 0,
            outcome: Outcome::Ok,
            usage: Usage::default(),
            cost_pusd: 0,
            estimated: false,
            price_assumed: false,
            latency: Latency::default(),
            attempts: 0,
            retries: 0,
            cache_hit: false,
            streamed: false,
            bytes_in: 0,
            bytes_out: 0,
            client_ip: None,
            country: [0; 2],
            dropped: Name::default(),
            pii_in: 0,
            pii_out: 0,
            guard: Guard::Passed,
        }
    }
}

/// The bodies of one call, for an audit trail. What is given here is stored: scrub it first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Arrival of the call, in milliseconds since 1970.
    pub at_ms: i64,
    /// The call.
    pub request_id: [u8; 16],
    /// Whose.
    pub organisation: Name,
    /// Whose in it.
    pub team: Name,
    /// The application.
    pub consumer: Name,
    /// The end user.
    pub user: Name,
    /// The scrubbed request. Longer ones than the limit of the store are cut, and say so.
    pub request: Vec<u8>,
    /// The scrubbed answer, likewise.
    pub response: Vec<u8>,
}

/// Where calls are recorded. Neither method blocks; what there is no room for is counted as lost.
pub trait CallSink: Send + Sync {
    /// Takes the record of a call that has ended.
    fn record(&self, call: CallRecord);
    /// Takes its bodies. Does nothing where the audit trail is off.
    fn audit(&self, bodies: AuditRecord);
    /// Is the audit trail on? If not, the caller saves itself the copy.
    fn wants_audit(&self) -> bool;
}

/// Keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSink;

impl CallSink for NoSink {
    fn record(&self, _: CallRecord) {}
    fn audit(&self, _: AuditRecord) {}
    fn wants_audit(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_lead_back() {
        for (code, protocol) in (0_u8..).zip(Protocol::ALL) {
            assert_eq!(protocol as u8, code);
            assert_eq!(Protocol::from_code(code), Some(protocol));
        }
        assert_eq!(Protocol::from_code(Protocol::ALL.len() as u8), None);
        assert_eq!(Guard::from_code(Guard::Blocked as u8), Some(Guard::Blocked));
        assert_eq!(Guard::from_code(4), None);
    }
}
