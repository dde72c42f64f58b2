//! What the admin API asks of the gateway, and how its paths answer.
//!
//! Documents are JSON objects of six [`Kind`]s, the same as in a configuration file. A change is checked
//! with everything else that is in force before it is stored; what does not compile changes nothing.
//! Secrets go in and never come out: they read `"***"`, and a `"***"` that is sent back leaves what is
//! stored as it is.

use std::time::Duration;

use axum::Json;
use axum::body::to_bytes;
use axum::extract::{Extension, Path, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::guard::Peer;
use crate::routes::{Parameters, Shared};

/// Longest document, or set of documents.
const DOCUMENT_LEN_MAX: usize = 8 << 20;

/// What a document describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Providers,
    Models,
    Consumers,
    Services,
    Prompts,
    Guardrails,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Providers,
        Self::Models,
        Self::Consumers,
        Self::Services,
        Self::Prompts,
        Self::Guardrails,
    ];

    /// Its name in paths and files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Providers => "providers",
            Self::Models => "models",
            Self::Consumers => "consumers",
            Self::Services => "services",
            Self::Prompts => "prompts",
            Self::Guardrails => "guardrails",
        }
    }
}

/// A document as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Document {
    pub kind: Kind,
    pub name: String,
    /// `api`, or the file it stands in, which alone can change it.
    pub origin: String,
    /// Counts its changes; 0 for one of a file.
    pub version: u64,
    /// What it says, without its secrets.
    pub body: Value,
}

/// A change of one document.
#[derive(Clone, PartialEq)]
pub struct Change {
    pub kind: Kind,
    pub name: String,
    /// What it is to say; `None` to remove it.
    pub body: Option<Value>,
    /// Only if it has this version; 0: only if it is not there.
    pub if_version: Option<u64>,
}

impl std::fmt::Debug for Change {
    // The body may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Change")
            .field("kind", &self.kind)
            .field("name", &self.name)
            .field("removes", &self.body.is_none())
            .finish_non_exhaustive()
    }
}

/// What a change has led to, or would.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Applied {
    /// In force now.
    pub generation: u64,
    /// `providers/openai`, by what happened to them.
    pub created: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
    /// Keys of consumers that were removed: they end with them.
    pub keys_revoked: Vec<String>,
    pub unchanged: Vec<String>,
    /// Nothing was done: only said what would be.
    pub dry_run: bool,
}

/// Why the gateway did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GatewayError {
    /// The gateway is off.
    Off,
    /// There is no such thing.
    NotFound(String),
    /// It was changed meanwhile, comes from a file, or the name is taken. One sentence.
    Conflict(String),
    /// What was sent is wrong: the field and what was expected of it, everything at once.
    Invalid(Vec<(String, String)>),
    /// Not possible now. One sentence.
    Unavailable(String),
}

/// A key to be made.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// Whose.
    pub consumer: String,
    /// What it is for.
    #[serde(default)]
    pub name: Option<String>,
    /// Valid for so long from now.
    #[serde(default)]
    pub expires_in_s: Option<u64>,
}

/// Which calls.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallQuery {
    /// From then on, in milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// Before then.
    pub until_ms: Option<i64>,
    pub consumer: Option<String>,
    pub model: Option<String>,
    pub provider: Option<String>,
    pub outcome: Option<String>,
    pub status: Option<u16>,
    /// Costs at least this many US dollars.
    pub cost_min_usd: Option<String>,
    /// The page after the one that gave this.
    pub cursor: Option<String>,
    pub limit: Option<usize>,
}

/// Which keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyQuery {
    pub consumer: Option<String>,
    /// The page after the one that gave this.
    pub cursor: Option<String>,
    pub limit: Option<usize>,
}

/// What the money went into.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CostQuery {
    pub since_ms: Option<i64>,
    pub until_ms: Option<i64>,
    pub consumer: Option<String>,
    pub model: Option<String>,
    pub provider: Option<String>,
    /// `model`, `consumer`, `team`, `provider`, `hour` or `day`.
    pub by: Option<String>,
}

/// The gateway of the running Weir. Calls may block as those of [`crate::Host`].
pub trait GatewayHost: Send + Sync + 'static {
    /// Generation, providers with their keys, counts.
    fn status(&self) -> Value;
    /// All documents of a kind, by name.
    fn documents(&self, kind: Kind) -> Vec<Document>;
    /// One of them.
    fn document(&self, kind: Kind, name: &str) -> Option<Document>;
    /// Makes changes, all or none. With `prune`, documents of the API that are not named go.
    ///
    /// # Errors
    /// Nothing has changed.
    fn apply(
        &self,
        changes: Vec<Change>,
        prune: bool,
        author: &str,
        dry_run: bool,
    ) -> Result<Applied, GatewayError>;
    /// Keys of consumers, without their texts: those of documents first, then by name.
    ///
    /// # Errors
    /// The query is wrong, or they cannot be read.
    fn keys(&self, query: &KeyQuery) -> Result<Value, GatewayError>;
    /// Makes a key. Its text, in `key`, is shown this once.
    ///
    /// # Errors
    /// There is no such consumer, or it cannot be kept.
    fn create_key(&self, key: &NewKey, author: &str) -> Result<Value, GatewayError>;
    /// A new text for a key; the old one is valid for `grace_s` more.
    ///
    /// # Errors
    /// There is no such key, or it cannot be kept.
    fn rotate_key(&self, id: &str, grace_s: u64, author: &str) -> Result<Value, GatewayError>;
    /// Ends a key at once.
    ///
    /// # Errors
    /// There is no such key, or it cannot be kept.
    fn revoke_key(&self, id: &str, author: &str) -> Result<(), GatewayError>;
    /// Records of calls, the newest first.
    ///
    /// # Errors
    /// The query is wrong, or history cannot be read.
    fn calls(&self, query: &CallQuery) -> Result<Value, GatewayError>;
    /// Sums of money and tokens.
    ///
    /// # Errors
    /// The query is wrong, or history cannot be read.
    fn cost(&self, query: &CostQuery) -> Result<Value, GatewayError>;
    /// Changes of documents and keys, the newest first.
    ///
    /// # Errors
    /// History cannot be read.
    fn audit(&self, limit: usize, before: Option<u64>) -> Result<Value, GatewayError>;
    /// The catalogue of models, and the presets of providers.
    fn catalogue(&self) -> Value;
    /// Lines for `/metrics`.
    fn metrics(&self) -> String;
}

pub(crate) fn endpoints() -> Vec<(Method, &'static str, MethodRouter<Shared>)> {
    let mut out: Vec<(Method, &'static str, MethodRouter<Shared>)> = vec![
        (Method::GET, "/api/v1/gateway", get(status)),
        (Method::GET, "/api/v1/catalogue", get(catalogue)),
        (Method::POST, "/api/v1/apply", post(apply)),
        (Method::GET, "/api/v1/keys", get(keys)),
        (Method::POST, "/api/v1/keys", post(create_key)),
        (Method::DELETE, "/api/v1/keys/{id}", delete(revoke_key)),
        (Method::POST, "/api/v1/keys/{id}/rotate", post(rotate_key)),
        (Method::GET, "/api/v1/calls", get(calls)),
        (Method::GET, "/api/v1/cost", get(cost)),
        (Method::GET, "/api/v1/audit", get(audit)),
    ];
    let kinds: [(Kind, &'static str, &'static str); 6] = [
        (Kind::Providers, "/api/v1/providers", "/api/v1/providers/{name}"),
        (Kind::Models, "/api/v1/models", "/api/v1/models/{*name}"),
        (Kind::Consumers, "/api/v1/consumers", "/api/v1/consumers/{name}"),
        (Kind::Services, "/api/v1/services", "/api/v1/services/{name}"),
        (Kind::Prompts, "/api/v1/prompts", "/api/v1/prompts/{name}"),
        (
            Kind::Guardrails,
            "/api/v1/guardrails",
            "/api/v1/guardrails/{name}",
        ),
    ];
    for (kind, all, one) in kinds {
        out.push((
            Method::GET,
            all,
            get(move |shared: State<Shared>| list(kind, shared)),
        ));
        out.push((
            Method::GET,
            one,
            get(move |shared: State<Shared>, name: Path<String>| show(kind, shared, name)),
        ));
        out.push((
            Method::PUT,
            one,
            axum::routing::put(
                move |shared: State<Shared>, name: Path<String>, peer, request: Request| {
                    change(kind, shared, name, peer, request)
                },
            ),
        ));
        out.push((
            Method::DELETE,
            one,
            delete(
                move |shared: State<Shared>, name: Path<String>, peer, request: Request| {
                    change(kind, shared, name, peer, request)
                },
            ),
        ));
    }
    out
}

/// Who asks, for the history.
fn author(peer: Peer, headers: &HeaderMap) -> String {
    match peer {
        Peer::Unix { uid } => format!("uid {uid}"),
        Peer::Tcp { remote, .. } => {
            let token = headers
                .get(header::AUTHORIZATION)
                .and_then(|value| value.to_str().ok());
            let token = token
                .and_then(|value| value.split(' ').nth(1))
                .unwrap_or_default();
            let hash = crate::token::hash(token);
            // The start of the hash tells tokens apart and gives none away.
            let hash: String = hash
                .as_ref()
                .iter()
                .take(4)
                .map(|byte| format!("{byte:02x}"))
                .collect();
            format!("token {hash} from {}", remote.ip())
        }
    }
}

async fn status(State(shared): State<Shared>) -> Result<Response, ApiError> {
    Ok(Json(shared.ask_gateway(|gateway| Ok(gateway.status())).await?).into_response())
}

async fn catalogue(State(shared): State<Shared>) -> Result<Response, ApiError> {
    Ok(Json(shared.ask_gateway(|gateway| Ok(gateway.catalogue())).await?).into_response())
}

async fn list(kind: Kind, State(shared): State<Shared>) -> Result<Response, ApiError> {
    let documents = shared
        .ask_gateway(move |gateway| Ok(gateway.documents(kind)))
        .await?;
    Ok(Json(json!({ kind.as_str(): documents })).into_response())
}

async fn show(
    kind: Kind,
    State(shared): State<Shared>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let found = shared.ask_gateway(move |gateway| {
        let missing = || GatewayError::NotFound(format!("{}/{name}", kind.as_str()));
        gateway.document(kind, &name).ok_or_else(missing)
    });
    let document = found.await?;
    let tag = format!("\"{}\"", document.version);
    Ok(([(header::ETAG, tag)], Json(document)).into_response())
}

/// `PUT` and `DELETE` of one document. `If-Match: "VERSION"` makes it depend on the version,
/// `If-None-Match: *` on there being none.
async fn change(
    kind: Kind,
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, ApiError> {
    let author = author(peer, request.headers());
    let if_version = if_version(request.headers())?;
    let dry_run = dry_run(request.uri().query());
    let removes = request.method() == Method::DELETE;
    let body = read_body(request, shared.body_timeout()).await?;
    let body = (!removes).then(|| parse(&body)).transpose()?;
    let change = Change {
        kind,
        name,
        body,
        if_version,
    };
    let applied = shared
        .ask_gateway(move |gateway| gateway.apply(vec![change], false, &author, dry_run))
        .await?;
    let status = if applied.created.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    Ok((status, Json(applied)).into_response())
}

fn if_version(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    if headers.contains_key(header::IF_NONE_MATCH) {
        return Ok(Some(0));
    }
    let Some(tag) = headers.get(header::IF_MATCH) else {
        return Ok(None);
    };
    let version = tag
        .to_str()
        .ok()
        .and_then(|tag| tag.trim_matches('"').parse().ok());
    version
        .map(Some)
        .ok_or_else(|| ApiError::BadQuery("If-Match is no version, expected what ETag gave".to_owned()))
}

fn dry_run(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.split('&').any(|pair| pair == "dry_run=true"))
}

/// Documents by kind, as in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct ApplyBody {
    providers: Vec<Value>,
    models: Vec<Value>,
    consumers: Vec<Value>,
    services: Vec<Value>,
    prompts: Vec<Value>,
    guardrails: Vec<Value>,
    /// Documents of the API that are not named here go.
    prune: bool,
    dry_run: bool,
}

async fn apply(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, ApiError> {
    let author = author(peer, request.headers());
    let body = read_body(request, shared.body_timeout()).await?;
    let body: ApplyBody = read(&body)?;
    let kinds = [
        (Kind::Providers, body.providers),
        (Kind::Models, body.models),
        (Kind::Consumers, body.consumers),
        (Kind::Services, body.services),
        (Kind::Prompts, body.prompts),
        (Kind::Guardrails, body.guardrails),
    ];
    let mut changes = Vec::new();
    for (kind, documents) in kinds {
        for (idx, body) in documents.into_iter().enumerate() {
            let Some(name) = body["name"].as_str().map(str::to_owned) else {
                let field = format!("{}[{idx}].name", kind.as_str());
                return Err(ApiError::Invalid(vec![(field, "expected a name".to_owned())]));
            };
            changes.push(Change {
                kind,
                name,
                body: Some(body),
                if_version: None,
            });
        }
    }
    let (prune, dry_run) = (body.prune, body.dry_run);
    let applied = shared
        .ask_gateway(move |gateway| gateway.apply(changes, prune, &author, dry_run))
        .await?;
    Ok(Json(applied).into_response())
}

async fn keys(State(shared): State<Shared>, query: Parameters) -> Result<Response, ApiError> {
    let query: KeyQuery = typed(&query?)?;
    let keys = shared.ask_gateway(move |gateway| gateway.keys(&query)).await?;
    Ok(Json(keys).into_response())
}

async fn create_key(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, ApiError> {
    let author = author(peer, request.headers());
    let body = read_body(request, shared.body_timeout()).await?;
    let key: NewKey = read(&body)?;
    let made = shared
        .ask_gateway(move |gateway| gateway.create_key(&key, &author))
        .await?;
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

async fn rotate_key(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, ApiError> {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Rotation {
        grace_s: u64,
    }
    let author = author(peer, request.headers());
    let body = read_body(request, shared.body_timeout()).await?;
    let rotation: Rotation = if body.is_empty() {
        Rotation::default()
    } else {
        read(&body)?
    };
    let made = shared
        .ask_gateway(move |gateway| gateway.rotate_key(&id, rotation.grace_s, &author))
        .await?;
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

async fn revoke_key(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, ApiError> {
    let author = author(peer, request.headers());
    shared
        .ask_gateway(move |gateway| gateway.revoke_key(&id, &author))
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn calls(State(shared): State<Shared>, query: Parameters) -> Result<Response, ApiError> {
    let query: CallQuery = typed(&query?)?;
    let calls = shared.ask_gateway(move |gateway| gateway.calls(&query)).await?;
    Ok(Json(calls).into_response())
}

async fn cost(State(shared): State<Shared>, query: Parameters) -> Result<Response, ApiError> {
    let query: CostQuery = typed(&query?)?;
    let cost = shared.ask_gateway(move |gateway| gateway.cost(&query)).await?;
    Ok(Json(cost).into_response())
}

async fn audit(State(shared): State<Shared>, query: Parameters) -> Result<Response, ApiError> {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct AuditQuery {
        limit: Option<usize>,
        before: Option<u64>,
    }
    let query: AuditQuery = typed(&query?)?;
    let audit = shared.ask_gateway(move |gateway| gateway.audit(query.limit.unwrap_or(100), query.before));
    Ok(Json(audit.await?).into_response())
}

/// Reads parameters as the fields of a type: numbers where they read as such.
fn typed<T: serde::de::DeserializeOwned>(pairs: &Query<Vec<(String, String)>>) -> Result<T, ApiError> {
    const TEXTS: [&str; 7] = [
        "consumer",
        "model",
        "provider",
        "outcome",
        "cost_min_usd",
        "cursor",
        "by",
    ];
    let mut object = serde_json::Map::new();
    for (name, value) in &pairs.0 {
        let number = value
            .parse::<i64>()
            .ok()
            .filter(|_| !TEXTS.contains(&name.as_str()));
        object.insert(
            name.clone(),
            number.map_or_else(|| value.as_str().into(), Value::from),
        );
    }
    serde_json::from_value(Value::Object(object)).map_err(|error| ApiError::BadQuery(error.to_string()))
}

async fn read_body(request: Request, timeout: Duration) -> Result<axum::body::Bytes, ApiError> {
    match tokio::time::timeout(timeout, to_bytes(request.into_body(), DOCUMENT_LEN_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(ApiError::BodyTooLarge {
            limit_bytes: DOCUMENT_LEN_MAX,
        }),
        Err(_) => Err(ApiError::BodyTimeout {
            seconds: timeout.as_secs(),
        }),
    }
}

fn parse(body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body).map_err(|error| not_json(&error))
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| not_json(&error))
}

fn not_json(error: &serde_json::Error) -> ApiError {
    ApiError::Invalid(vec![(String::new(), format!("the body cannot be read: {error}"))])
}

impl From<GatewayError> for ApiError {
    fn from(error: GatewayError) -> Self {
        match error {
            GatewayError::Off => Self::GatewayOff,
            GatewayError::NotFound(what) => Self::NotFound(what),
            GatewayError::Conflict(words) => Self::Conflict(words),
            GatewayError::Invalid(faults) => Self::Invalid(faults),
            GatewayError::Unavailable(words) => Self::Unavailable(words),
        }
    }
}
