//! What the documents compile to: the gateway reads this and nothing else. A snapshot never changes; a
//! new one takes its place.

use super::document::{Auth, GuardOn, Period, Pick, Strategy, VariableType};
use super::limit::Limit;
use super::output::Output;
use super::template::Template;
use crate::secret::Secret;
use llm::guard::Guard;
use llm::money::{Money, Prices};
use llm::parameters::Parameters;
use llm::pii::Scrubber;
use llm::presets::Preset;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Everything the gateway is told.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows with every change.
    pub generation: u64,
    /// What holds for all.
    pub settings: Settings,
    /// By name.
    pub providers: BTreeMap<Arc<str>, Arc<Provider>>,
    /// Virtual models by name and alias, and plain names that only one provider lists.
    pub models: HashMap<Arc<str>, Arc<Model>>,
    /// Plain names that several providers list.
    pub ambiguous: HashMap<Arc<str>, Vec<Arc<str>>>,
    /// By name.
    pub consumers: HashMap<Arc<str>, Arc<Consumer>>,
    /// Keys that stand in documents.
    pub keys: Vec<StaticKey>,
    /// In the order of the documents.
    pub services: Vec<Arc<super::service::Service>>,
    /// By path.
    pub prompts: HashMap<Arc<str>, Arc<Prompt>>,
}

/// What holds for the whole gateway.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Longest body of a request.
    pub body_max_bytes: u64,
    /// Longest answer held in memory.
    pub answer_max_bytes: u64,
    /// Limits for all.
    pub limits: Vec<Limit>,
    /// Guardrails for all.
    pub guardrails: Vec<Arc<Guardrail>>,
    /// Refuse what cannot be expressed.
    pub strict: bool,
    /// Keep exact answers.
    pub cache: Option<Cache>,
    /// Keep bodies for audit.
    pub audit_bodies: bool,
}

/// How answers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// For how long.
    pub ttl_s: u32,
    /// In how much memory.
    pub size_bytes: u64,
}

/// A key of a consumer that stands in a document.
#[derive(Clone, Debug)]
pub struct StaticKey {
    /// Whose.
    pub consumer: Arc<str>,
    /// Its name in records.
    pub id: Arc<str>,
    /// What clients send.
    pub secret: Secret,
}

/// A provider of models.
#[derive(Debug)]
pub struct Provider {
    /// Its name.
    pub name: Arc<str>,
    /// Its row of data.
    pub preset: &'static Preset,
    /// `https://host:port`, without a path.
    pub origin: String,
    /// Is its host a literal address, or `localhost`, that the operator wrote? Only then may it be
    /// private.
    pub is_literal: bool,
    /// The path that all begin with, without `/` at its end.
    pub base_path: String,
    /// Values for the preset's templates.
    pub parameters: BTreeMap<String, String>,
    /// Its keys.
    pub keys: Vec<ProviderKey>,
    /// How one is picked.
    pub pick: Pick,
    /// The models it may be asked for; `None` for all.
    pub models: Option<BTreeSet<Arc<str>>>,
    /// Headers for each request.
    pub headers: Vec<(String, String)>,
    /// The kind whose prices hold.
    pub price_kind: String,
    /// Is that the operator's word? Else prices are marked as assumed.
    pub price_is_stated: bool,
    /// Time to connect.
    pub connect_timeout_ms: u64,
    /// Time to the first byte.
    pub first_byte_timeout_ms: u64,
    /// Longest pause within an answer.
    pub idle_timeout_ms: u64,
    /// Limits on what is asked of it.
    pub limits: Vec<Limit>,
    /// The PEM text of certificates that it may show.
    pub ca: Option<String>,
    /// When it is passed over.
    pub breaker: Breaker,
}

/// A key of a provider.
#[derive(Clone, Debug)]
pub struct ProviderKey {
    /// Its name in records.
    pub id: Arc<str>,
    /// The key.
    pub secret: Secret,
    /// Its share.
    pub weight: u32,
}

/// When a target is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// After so many failures in a row.
    pub failures: u32,
    /// For so long.
    pub open_ms: u64,
}

/// A name of models.
#[derive(Debug)]
pub struct Model {
    /// As it is called.
    pub name: Arc<str>,
    /// In order of preference.
    pub targets: Vec<Target>,
    /// How the first is chosen.
    pub strategy: Strategy,
    /// Put into requests where the client gives none.
    pub parameters: Parameters,
    /// Its guardrails.
    pub guardrails: Vec<Arc<Guardrail>>,
    /// Its limits.
    pub limits: Vec<Limit>,
    /// How often a call may be tried again.
    pub retries: u32,
    /// Time for all of a call.
    pub timeout_ms: u64,
    /// Keep exact answers.
    pub cache: Option<Cache>,
    /// What it is for.
    pub description: Option<String>,
}

/// A model of a provider.
#[derive(Clone, Debug)]
pub struct Target {
    /// Who answers.
    pub provider: Arc<Provider>,
    /// What the provider calls it.
    pub model: Arc<str>,
    /// Its share.
    pub weight: u32,
    /// Lower ones first.
    pub priority: u32,
    /// What it costs, where known.
    pub prices: Option<Arc<Prices>>,
    /// Is the price that of the kind's catalogue, not the operator's word?
    pub price_is_assumed: bool,
    /// Its context, where known.
    pub context_tokens: Option<u64>,
    /// Its longest answer, where known.
    pub max_output_tokens: Option<u64>,
}

/// Somebody who may ask.
#[derive(Debug)]
pub struct Consumer {
    /// Its name.
    pub name: Arc<str>,
    /// Its organisation.
    pub organisation: Arc<str>,
    /// Its team.
    pub team: Arc<str>,
    /// Models it may use.
    pub models: Allowed,
    /// Services and prompts it may use.
    pub services: Allowed,
    /// Its limits.
    pub limits: Vec<Limit>,
    /// Its budget.
    pub budget: Option<Budget>,
    /// Its guardrails.
    pub guardrails: Vec<Arc<Guardrail>>,
    /// Refuse what cannot be expressed.
    pub strict: Option<bool>,
}

impl Consumer {
    /// Whoever calls what is open to all: no name, no limits of its own, no budget.
    pub fn anybody() -> Self {
        Self {
            name: "".into(),
            organisation: "default".into(),
            team: "default".into(),
            models: Allowed(None),
            services: Allowed(None),
            limits: Vec::new(),
            budget: None,
            guardrails: Vec::new(),
            strict: None,
        }
    }
}

/// Names that are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed(pub(super) Option<Vec<String>>);

impl Allowed {
    /// Is this name?
    pub fn has(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|patterns| {
            patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => pattern == name,
            })
        })
    }

    /// Is every name?
    pub fn is_all(&self) -> bool {
        self.0.is_none()
    }
}

/// Money in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// How much.
    pub limit: Money,
    /// In what time.
    pub period: Period,
    /// Is it never exceeded?
    pub is_hard: bool,
}

/// A rule for what is said.
#[derive(Debug)]
pub struct Guardrail {
    /// Its name.
    pub name: Arc<str>,
    /// Words and patterns.
    pub guard: Option<Arc<Guard>>,
    /// Personal data in requests.
    pub scrub_request: Option<Arc<Scrubber>>,
    /// Personal data in answers.
    pub scrub_answer: Option<Arc<Scrubber>>,
    /// Where its words and patterns are looked for.
    pub on: GuardOn,
}

/// A prompt published as a REST endpoint.
#[derive(Debug)]
pub struct Prompt {
    /// Its name.
    pub name: Arc<str>,
    /// Where it is.
    pub path: Arc<str>,
    /// The model's name.
    pub model: String,
    /// By name.
    pub variables: BTreeMap<String, Variable>,
    /// The user's turn.
    pub template: Template,
    /// The system prompt.
    pub system: Option<Template>,
    /// Fields of a Chat request.
    pub parameters: Map<String, Value>,
    /// What the answer must be.
    pub output: Option<Output>,
    /// What it is for.
    pub description: Option<String>,
    /// Its limits.
    pub limits: Vec<Limit>,
    /// How callers show who they are.
    pub auth: Vec<Auth>,
}

/// A variable of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    /// Its type.
    pub kind: VariableType,
    /// What it is.
    pub description: Option<String>,
    /// Used where the caller gives none; without it the variable is required.
    pub default: Option<Value>,
    /// The only values allowed.
    pub choices: Option<Vec<Value>>,
    /// The longest text, in characters.
    pub max_length: Option<u32>,
}
