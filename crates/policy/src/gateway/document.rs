//! The documents of the gateway, as they are written in a file or sent to the admin API. Every field
//! that may be left out has its default where the document is compiled, not here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Everything the gateway is told: the sections of a file, or what the catalogue holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Documents {
    /// Where it listens and what holds for all. Absent: the gateway is off.
    pub gateway: Option<Gateway>,
    /// Who answers for models.
    pub providers: Vec<Provider>,
    /// Names of models that clients may use besides `provider/model`.
    pub models: Vec<Model>,
    /// Who may ask.
    pub consumers: Vec<Consumer>,
    /// REST services.
    pub services: Vec<Service>,
    /// Prompts published as REST endpoints.
    pub prompts: Vec<Prompt>,
    /// Rules for what is said, by name.
    pub guardrails: Vec<Guardrail>,
}

/// The gateway as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gateway {
    /// Addresses and ports; by default 127.0.0.1:8080.
    pub listen: Option<Vec<String>>,
    /// The same with TLS.
    pub tls: Vec<Tls>,
    /// The longest body of a request, in bytes.
    #[schemars(range(min = 1024, max = 1_073_741_824_u64))]
    pub body_max_bytes: Option<u64>,
    /// The longest answer of a provider that is held in memory (converted, cached, checked), in bytes.
    #[schemars(range(min = 1024, max = 1_073_741_824_u64))]
    pub answer_max_bytes: Option<u64>,
    /// Time to send the head of a request.
    #[schemars(range(min = 100, max = 3_600_000_u64))]
    pub header_timeout_ms: Option<u64>,
    /// Longest pause within the body of a request.
    #[schemars(range(min = 100, max = 3_600_000_u64))]
    pub body_timeout_ms: Option<u64>,
    /// An idle connection of a client is closed after this.
    #[schemars(range(min = 100, max = 3_600_000_u64))]
    pub idle_timeout_ms: Option<u64>,
    /// Time that open requests have to end when the gateway stops.
    #[schemars(range(min = 0, max = 3_600_000_u64))]
    pub drain_ms: Option<u64>,
    /// Most connections of clients.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections_max: Option<u32>,
    /// Most connections of one source address.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections_per_source_max: Option<u32>,
    /// Limits for all.
    pub limits: Vec<Limit>,
    /// Names of guardrails for all.
    pub guardrails: Vec<String>,
    /// What is kept of calls.
    pub calls: Option<Calls>,
    /// Refuse what a provider's format has no words for, instead of naming it in `x-weir-dropped`.
    pub strict: Option<bool>,
    /// Exact answers are kept and given again; off unless a time is given.
    pub cache: Option<Cache>,
    /// Prices and features that differ from the shipped catalogue's.
    pub catalogue: Vec<Map<String, Value>>,
}

/// A listener with TLS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Address and port.
    pub listen: String,
    /// Certificates; the name a client asks for (SNI) chooses, the first is for all others.
    pub certificates: Vec<Certificate>,
}

/// A certificate chain and its key, as PEM files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The file of the chain, the server's certificate first.
    pub chain: String,
    /// The file of the key.
    pub key: String,
    /// Names it is for, exact or `*.example`; none: for all others.
    #[serde(default)]
    pub hosts: Vec<String>,
}

/// What is kept of calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Calls {
    /// Also write them as JSON lines to this file.
    pub log: Option<String>,
    /// Drop days older than this.
    #[schemars(range(min = 1, max = 3650))]
    pub days: Option<u32>,
    /// Drop the oldest days beyond this size.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub size_mib: Option<u32>,
    /// Keep bodies, scrubbed, for audit.
    pub bodies: Option<bool>,
}

/// A cache of exact answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// How long an answer is given again.
    #[schemars(range(min = 1, max = 2_592_000))]
    pub ttl_s: Option<u32>,
    /// Memory for all answers.
    #[schemars(range(min = 1, max = 65_536))]
    pub size_mib: Option<u32>,
}

/// A text that must not be seen: exactly one of the three.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Secret {
    /// In place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The name of an environment variable of `weir run`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// A file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// What it is called in records; by default its place in the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its share of the calls, where keys are picked by weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: Option<u32>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret")
            .field("value", &self.value.as_ref().map(|_| "(hidden)"))
            .field("env", &self.env)
            .field("file", &self.file)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A provider of models.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Provider {
    /// Its name, which clients may put before a model's: `name/model`.
    pub name: String,
    /// A preset: `openai`, `anthropic`, `gemini`, `bedrock`, … ; `weir get presets` lists them.
    pub kind: String,
    /// Where it is, if not where the preset says. A private address is reached only if it stands here
    /// as such.
    pub base_url: Option<String>,
    /// Its keys.
    pub keys: Vec<Secret>,
    /// How a key is picked: in order until one fails, by weight, or in turn.
    pub pick: Option<Pick>,
    /// The models it may be asked for; by default all.
    pub models: Option<Vec<String>>,
    /// What the preset's addresses need: `region`, `project`, `location`, `api_version`, `resource`.
    pub parameters: BTreeMap<String, String>,
    /// Headers for each request.
    pub headers: BTreeMap<String, String>,
    /// The kind whose prices hold, if not its own.
    pub price_as: Option<String>,
    /// Time to connect.
    #[schemars(range(min = 1, max = 3_600_000_u64))]
    pub connect_timeout_ms: Option<u64>,
    /// Time to the first byte of an answer.
    #[schemars(range(min = 1, max = 3_600_000_u64))]
    pub first_byte_timeout_ms: Option<u64>,
    /// Longest pause within a stream.
    #[schemars(range(min = 1, max = 3_600_000_u64))]
    pub idle_timeout_ms: Option<u64>,
    /// Limits on what is asked of it.
    pub limits: Vec<Limit>,
    /// Certificates that it may show, as a PEM file, besides the public ones.
    pub ca: Option<String>,
    /// When it is passed over.
    pub breaker: Option<Breaker>,
}

/// How a key is picked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pick {
    /// The first that works.
    #[default]
    Order,
    /// By weight.
    Weight,
    /// In turn.
    RoundRobin,
}

/// When a target is passed over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// Failures in a row.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub failures: Option<u32>,
    /// How long it is passed over before it is tried again.
    #[schemars(range(min = 1, max = 3_600_000_u64))]
    pub open_ms: Option<u64>,
}

/// A name of models.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// What clients ask for.
    pub name: String,
    /// Other names of the same.
    pub aliases: Vec<String>,
    /// What answers.
    pub targets: Vec<Target>,
    /// How one is chosen; by default by weight if one is given, else in order.
    pub strategy: Option<Strategy>,
    /// Fields put into the request where the client gave none, in the provider's format.
    pub parameters: Map<String, Value>,
    /// Names of guardrails.
    pub guardrails: Vec<String>,
    /// Limits per model.
    pub limits: Vec<Limit>,
    /// How often a call may be tried again in all.
    #[schemars(range(min = 0, max = 10))]
    pub retries: Option<u32>,
    /// Time for all of a call.
    #[schemars(range(min = 1, max = 86_400_000_u64))]
    pub timeout_ms: Option<u64>,
    /// Answers of it are kept.
    pub cache: Option<Cache>,
    /// What it is for.
    pub description: Option<String>,
}

/// One of the models behind a name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Target {
    /// `provider/model`.
    pub model: String,
    /// Its share.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: Option<u32>,
    /// Lower ones first.
    #[schemars(range(min = 0, max = 1000))]
    pub priority: Option<u32>,
}

/// How a target is chosen. The others follow if it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// In order.
    Fallback,
    /// By weight.
    Weighted,
    /// The one whose first bytes came soonest lately.
    LeastLatency,
}

/// Somebody who may ask.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Consumer {
    /// Its name.
    pub name: String,
    /// Its organisation; by default `default`.
    pub organisation: Option<String>,
    /// Its team; by default `default`.
    pub team: Option<String>,
    /// Its keys. Others are made by `weir key create`.
    pub keys: Vec<Secret>,
    /// Names of models, `*` at an end matching anything; by default all.
    pub models: Option<Vec<String>>,
    /// Names of services and prompts likewise.
    pub services: Option<Vec<String>>,
    /// Its limits.
    pub limits: Vec<Limit>,
    /// Its budget.
    pub budget: Option<Budget>,
    /// Names of guardrails.
    pub guardrails: Vec<String>,
    /// As for the gateway.
    pub strict: Option<bool>,
}

/// How much in what time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limit {
    /// Requests in a time: `100/s`, `1000/m`, `10k/h`, `1M/d`.
    pub requests: Option<String>,
    /// Tokens in a time, of prompts and answers.
    pub tokens: Option<String>,
    /// Requests at once.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub concurrency: Option<u32>,
    /// Each what has a limit of its own; by default what the limit stands in.
    pub per: Option<Per>,
    /// How many may come at once; by default as many as in one time.
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    pub burst: Option<u32>,
}

/// What a limit is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// The client's key.
    Key,
    /// The consumer.
    Consumer,
    /// Its team.
    Team,
    /// The service or prompt.
    Service,
    /// The model's name as asked for.
    Model,
    /// The route.
    Route,
    /// The client's address.
    Source,
    /// All together.
    All,
}

/// Money in a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// US dollars.
    pub usd: serde_json::Number,
    /// In what time; by default a month (UTC).
    pub per: Option<Period>,
    /// Never exceed it: each call is reserved at the most it can cost.
    pub hard: Option<bool>,
}

/// The time of a budget, by the calendar (UTC).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// From midnight.
    Day,
    /// From the first.
    #[default]
    Month,
    /// For ever.
    Total,
}

/// A rule for what is said to models and by them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Guardrail {
    /// Its name.
    pub name: String,
    /// Words that must not appear.
    pub words: Vec<String>,
    /// Patterns that must not appear.
    pub patterns: Vec<String>,
    /// Personal data that is scrubbed: the rules of `llm::pii`.
    pub pii: Vec<Map<String, Value>>,
    /// What happens on a word or pattern; by default the call is blocked.
    pub action: Option<GuardAction>,
    /// Requests, answers or both; by default both.
    pub on: Option<GuardOn>,
}

/// What happens when a guardrail finds something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GuardAction {
    /// The call ends with an error.
    #[default]
    Block,
    /// What was found is masked.
    Mask,
    /// The call record says so.
    Flag,
}

/// Where a guardrail looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GuardOn {
    /// What clients say.
    Request,
    /// What models say.
    Answer,
    /// Both.
    #[default]
    Both,
}

/// A prompt published as a REST endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Prompt {
    /// Its name.
    pub name: String,
    /// Where it is; by default `/prompts/NAME`.
    pub path: Option<String>,
    /// The model, by any name that a client may use.
    pub model: String,
    /// Its variables and their types.
    pub variables: BTreeMap<String, Variable>,
    /// The user's turn: text with `{{ variable }}`.
    pub template: String,
    /// The system prompt: text with `{{ variable }}`.
    pub system: Option<String>,
    /// Fields of a Chat request: `temperature`, `max_tokens`, …
    pub parameters: Map<String, Value>,
    /// JSON Schema of the answer; without it the answer is text.
    pub output: Option<Map<String, Value>>,
    /// What it is for.
    pub description: Option<String>,
    /// Its limits.
    pub limits: Vec<Limit>,
    /// May it be called without a key? Must be written.
    pub auth: Vec<Auth>,
}

/// A variable of a prompt: a type by its name, or more about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Variable {
    /// Just its type.
    Plain(VariableType),
    /// More about it.
    Full(FullVariable),
}

/// More about a variable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FullVariable {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: VariableType,
    /// What it is.
    #[serde(default)]
    pub description: Option<String>,
    /// Used where the caller gives none; without it the variable is required.
    #[serde(default)]
    pub default: Option<Value>,
    /// The only values allowed.
    #[serde(default, rename = "enum")]
    pub choices: Option<Vec<Value>>,
    /// The longest text, in characters.
    #[serde(default)]
    #[schemars(range(min = 1, max = 16_777_216))]
    pub max_length: Option<u32>,
}

/// The type of a variable, as in JSON Schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VariableType {
    /// Text.
    #[default]
    String,
    /// A number.
    Number,
    /// A whole number.
    Integer,
    /// true or false.
    Boolean,
    /// A list, put in as JSON.
    Array,
    /// An object, put in as JSON.
    Object,
}

/// How callers show who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// Not at all.
    None,
    /// By a key of a consumer.
    Key,
    /// By a JSON Web Token.
    Jwt,
}

/// A REST service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Names of hosts, exact or `*.example`; none for any.
    pub hosts: Vec<String>,
    /// Its routes; the most specific path wins.
    pub routes: Vec<Route>,
    /// How callers show who they are. Without it the service is closed.
    pub auth: Vec<Auth>,
    /// Which tokens are valid.
    pub jwt: Option<Jwt>,
    /// Its limits.
    pub limits: Vec<Limit>,
    /// Pages of other origins that may call it.
    pub cors: Option<Cors>,
    /// Names of guardrails; their rules for personal data hold for bodies.
    pub guardrails: Vec<String>,
}

/// A route of a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    /// `/exact`, `/prefix/*`, or with parameters `/users/{id}`.
    pub path: String,
    /// Methods; by default all.
    pub methods: Vec<String>,
    /// What answers.
    pub upstreams: Vec<Upstream>,
    /// How one is chosen; by default by weight.
    pub balance: Option<Balance>,
    /// What the path becomes: `{id}` and `*` stand for what they matched.
    pub rewrite: Option<String>,
    /// The `Host` for the upstream; by default that of its URL.
    pub host: Option<String>,
    /// Headers of the request.
    pub request_headers: Option<HeaderChange>,
    /// Headers of the answer.
    pub response_headers: Option<HeaderChange>,
    /// Time to connect.
    #[schemars(range(min = 1, max = 3_600_000_u64))]
    pub connect_timeout_ms: Option<u64>,
    /// Time to the first byte of an answer.
    #[schemars(range(min = 1, max = 3_600_000_u64))]
    pub first_byte_timeout_ms: Option<u64>,
    /// Longest pause within a body, or in a tunnel (WebSocket).
    #[schemars(range(min = 1, max = 3_600_000_u64))]
    pub idle_timeout_ms: Option<u64>,
    /// How often a request may be tried again.
    #[schemars(range(min = 0, max = 10))]
    pub retries: Option<u32>,
    /// The longest body of a request.
    #[schemars(range(min = 0, max = 1_073_741_824_u64))]
    pub body_max_bytes: Option<u64>,
    /// Its limits.
    pub limits: Vec<Limit>,
    /// When an upstream is passed over.
    pub breaker: Option<Breaker>,
    /// A path that tells whether an upstream is well.
    pub health: Option<Health>,
}

/// One of the servers behind a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Upstream {
    /// Such as `http://127.0.0.1:9101`, with a path if all begin with it.
    pub url: String,
    /// Its share.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: Option<u32>,
    /// Lower ones first; higher ones when those are ill.
    #[schemars(range(min = 0, max = 1000))]
    pub priority: Option<u32>,
    /// Speak HTTP/2 to it without TLS.
    pub h2c: Option<bool>,
    /// Certificates that it may show, as a PEM file.
    pub ca: Option<String>,
}

/// How an upstream is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// By weight.
    #[default]
    Weighted,
    /// The one whose first bytes came soonest lately.
    LeastLatency,
    /// The one with the fewest open requests.
    LeastConnections,
}

/// A look at whether an upstream is well.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// The path to get.
    pub path: String,
    /// How often.
    #[schemars(range(min = 10, max = 3_600_000_u64))]
    pub interval_ms: Option<u64>,
    /// How long the answer may take.
    #[schemars(range(min = 10, max = 3_600_000_u64))]
    pub timeout_ms: Option<u64>,
    /// Failures in a row that make it ill.
    #[schemars(range(min = 1, max = 1000))]
    pub failures: Option<u32>,
    /// Successes in a row that make it well.
    #[schemars(range(min = 1, max = 1000))]
    pub successes: Option<u32>,
}

/// Headers changed on the way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderChange {
    /// Taken away, before the others.
    pub remove: Vec<String>,
    /// Put in place of what there is.
    pub set: BTreeMap<String, String>,
    /// Added to what there is.
    pub add: BTreeMap<String, String>,
}

/// Pages of other origins that may call a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cors {
    /// Origins such as `https://shop.example`, or `*`.
    pub origins: Vec<String>,
    /// Methods; by default those of the route.
    pub methods: Vec<String>,
    /// Headers that pages may send.
    pub headers: Vec<String>,
    /// Headers that pages may read.
    pub expose: Vec<String>,
    /// May cookies and credentials be sent? Not with origin `*`.
    pub credentials: Option<bool>,
    /// How long a page may remember this.
    #[schemars(range(min = 0, max = 86_400))]
    pub max_age_s: Option<u32>,
}

/// Which JSON Web Tokens are valid.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Jwt {
    /// `iss` must be this.
    pub issuer: Option<String>,
    /// `aud` must hold this.
    pub audience: Option<String>,
    /// Where the keys are.
    pub jwks_url: Option<String>,
    /// Or in a file.
    pub jwks_file: Option<String>,
    /// Or one shared key (HS256, HS384, HS512).
    pub secret: Option<Secret>,
    /// The algorithms allowed; by default those of the keys, never `none`.
    pub algorithms: Vec<String>,
    /// The claim that names the consumer; by default `sub`.
    pub consumer_claim: Option<String>,
    /// Clocks may differ by this.
    #[schemars(range(min = 0, max = 3600))]
    pub leeway_s: Option<u32>,
}
