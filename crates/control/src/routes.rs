//! What each path answers.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Extension, Path, Query, Request, State};
use axum::http::{HeaderValue, Method, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use policy::filter::{Filter, Scope};
use serde_json::json;
use tokio::sync::{Semaphore, watch};

use crate::error::ApiError;
use crate::gateway::{GatewayError, GatewayHost};
use crate::guard::Peer;
use crate::host::{FlowPage, FlowQuery, Host, RecordFormat, Sort, StateChoice};
use crate::server::{Settings, blocking};
use crate::stream::RecordStream;
use crate::{metrics, openapi};

/// Flows on a page unless told otherwise, and at most.
const FLOWS_DEFAULT: usize = 100;
pub(crate) const FLOWS_MAX: usize = 10_000;
const BODY_LEN_MAX: usize = 4096;

/// What every handler may use.
#[derive(Clone)]
pub(crate) struct Shared {
    host: Arc<dyn Host>,
    calls: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    body_timeout: Duration,
    heartbeat: Duration,
    stopped: watch::Receiver<bool>,
}

impl Shared {
    pub(crate) fn new(host: Arc<dyn Host>, settings: &Settings, stopped: watch::Receiver<bool>) -> Self {
        Self {
            host,
            calls: Arc::new(Semaphore::new(settings.calls_max)),
            streams: Arc::new(Semaphore::new(settings.streams_max)),
            body_timeout: settings.body_timeout,
            heartbeat: settings.heartbeat,
            stopped,
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Host) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let host = Arc::clone(&self.host);
        blocking(&self.calls, move || question(host.as_ref())).await
    }
}

impl Shared {
    /// Asks the gateway, if there is one.
    pub(crate) async fn ask_gateway<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn GatewayHost) -> Result<T, GatewayError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let answer = self.ask(move |host| host.gateway().map_or(Err(GatewayError::Off), question));
        Ok(answer.await??)
    }

    pub(crate) fn body_timeout(&self) -> Duration {
        self.body_timeout
    }
}

/// Every endpoint: method, path, handler.
pub(crate) fn endpoints() -> Vec<(Method, &'static str, MethodRouter<Shared>)> {
    let mut all = vec![
        (Method::GET, "/api/v1/status", get(status)),
        (Method::GET, "/api/v1/flows", get(flows)),
        (Method::GET, "/api/v1/flows/stream", get(flow_stream)),
        (Method::GET, "/api/v1/flows/{id}", get(flow)),
        (Method::GET, "/api/v1/aggregates", get(aggregates)),
        (Method::GET, "/api/v1/programs", get(programs)),
        (Method::POST, "/api/v1/tokens", post(create_token)),
        (Method::GET, "/api/v1/openapi.json", get(openapi)),
        (Method::GET, "/metrics", get(metrics)),
        (Method::GET, "/healthz", get(healthz)),
    ];
    all.extend(crate::gateway::endpoints());
    all
}

pub(crate) fn router(shared: Shared) -> Router {
    let mut router = Router::new();
    for (_, path, handler) in endpoints() {
        router = router.route(path, handler);
    }
    router
        .fallback(async |uri: Uri| ApiError::NotFound(uri.path().to_owned()))
        .method_not_allowed_fallback(async |method: Method| ApiError::WrongMethod(method.to_string()))
        .with_state(shared)
}

async fn status(State(shared): State<Shared>) -> Result<Response, ApiError> {
    let status = shared.ask(Host::status).await?;
    Ok(Json(status).into_response())
}

async fn flows(State(shared): State<Shared>, query: Parameters) -> Result<Response, ApiError> {
    let query = flow_query(&query?)?;
    let page = shared.ask(move |host| host.flows(&query)).await?;
    Ok(json_body(page_json(&page)))
}

async fn flow(State(shared): State<Shared>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let Ok(number) = id.parse() else {
        return Err(ApiError::NoSuchFlow(id));
    };
    match shared.ask(move |host| host.flow(number)).await? {
        Some(record) => Ok(json_body(record)),
        None => Err(ApiError::NoSuchFlow(id)),
    }
}

async fn flow_stream(State(shared): State<Shared>, query: Parameters) -> Result<Response, ApiError> {
    let mut filter = None;
    let mut format = RecordFormat::default();
    for (name, value) in &query?.0 {
        match name.as_str() {
            "filter" => filter = parse_filter(value)?,
            "format" => format = choice(name, value, "json or eve")?,
            _ => return Err(unknown(name, "filter and format")),
        }
    }
    let Ok(slot) = Arc::clone(&shared.streams).try_acquire_owned() else {
        return Err(ApiError::Busy("as many streams are open as may be"));
    };
    let subscription = shared.ask(move |host| host.subscribe(filter, format)).await?;
    let body = RecordStream::new(subscription, shared.heartbeat, shared.stopped.clone(), slot);
    let mut response = Response::new(Body::new(body));
    let content_type = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Ok(response)
}

async fn aggregates(State(shared): State<Shared>) -> Result<Response, ApiError> {
    let aggregates = shared.ask(Host::aggregates).await?;
    Ok(Json(json!({ "aggregates": aggregates })).into_response())
}

async fn programs(State(shared): State<Shared>) -> Result<Response, ApiError> {
    let programs = shared.ask(Host::programs).await?;
    Ok(Json(programs.map_err(ApiError::Unavailable)?).into_response())
}

async fn create_token(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, ApiError> {
    if !matches!(peer, Peer::Unix { .. }) {
        return Err(ApiError::SocketOnly);
    }
    let _ignored = body(request, shared.body_timeout).await?;
    let token = shared.ask(Host::create_token).await?;
    let token = token.map_err(ApiError::Unavailable)?;
    Ok((axum::http::StatusCode::CREATED, Json(json!({ "token": token }))).into_response())
}

async fn openapi() -> Response {
    json_body(openapi::DOCUMENT.to_owned())
}

async fn metrics(State(shared): State<Shared>) -> Result<Response, ApiError> {
    let text = shared.ask(|host| {
        let mut text = metrics::text(&host.status());
        if let Some(gateway) = host.gateway() {
            text.push_str(&gateway.metrics());
        }
        text
    });
    let text = text.await?;
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, content_type)], text).into_response())
}

async fn healthz() -> &'static str {
    "ok\n"
}

/// The body of a request, if it is small and comes in time.
async fn body(request: Request, timeout: Duration) -> Result<Bytes, ApiError> {
    match tokio::time::timeout(timeout, to_bytes(request.into_body(), BODY_LEN_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(ApiError::BodyTooLarge {
            limit_bytes: BODY_LEN_MAX,
        }),
        Err(_) => Err(ApiError::BodyTimeout {
            seconds: timeout.as_secs(),
        }),
    }
}

fn json_body(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

fn page_json(page: &FlowPage) -> String {
    let incomplete = json!(page.incomplete);
    format!(
        "{{\"flows\":[{}],\"total\":{},\"incomplete\":{incomplete}}}",
        page.flows.join(","),
        page.total_matching,
    )
}

// === parameters ===

type Pairs = Vec<(String, String)>;
/// Parameters of the query in the order they came, or why they cannot be read.
pub(crate) type Parameters = Result<Query<Pairs>, axum::extract::rejection::QueryRejection>;

impl From<axum::extract::rejection::QueryRejection> for ApiError {
    fn from(rejection: axum::extract::rejection::QueryRejection) -> Self {
        Self::BadQuery(rejection.body_text())
    }
}

fn flow_query(pairs: &Query<Pairs>) -> Result<FlowQuery, ApiError> {
    let mut query = FlowQuery {
        limit: FLOWS_DEFAULT,
        ..FlowQuery::default()
    };
    for (name, value) in &pairs.0 {
        match name.as_str() {
            "filter" => query.filter = parse_filter(value)?,
            "sort" => {
                query.sort = choice::<Sort>(name, value, "bytes, packets, rate, last, start or duration")?;
            }
            "state" => query.state = choice::<StateChoice>(name, value, "active, ended or all")?,
            "limit" => {
                let limit = value.parse().ok();
                query.limit = limit
                    .filter(|limit| (1..=FLOWS_MAX).contains(limit))
                    .ok_or_else(|| {
                        ApiError::BadQuery(format!(
                            "`limit` is `{}`, expected a number from 1 to {FLOWS_MAX}",
                            shown(value)
                        ))
                    })?;
            }
            _ => return Err(unknown(name, "filter, sort, limit and state")),
        }
    }
    Ok(query)
}

/// An empty filter is none.
fn parse_filter(text: &str) -> Result<Option<Filter>, ApiError> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let filter = Filter::parse(text).and_then(|filter| filter.check_scope(Scope::Flow).map(|()| filter));
    filter
        .map(Some)
        .map_err(|error| ApiError::BadFilter(error, text.to_owned()))
}

/// One of the names of an enumeration.
fn choice<T: serde::de::DeserializeOwned>(name: &str, value: &str, expected: &str) -> Result<T, ApiError> {
    serde_json::from_value(value.into())
        .map_err(|_| ApiError::BadQuery(format!("`{name}` is `{}`, expected {expected}", shown(value))))
}

fn unknown(name: &str, known: &str) -> ApiError {
    ApiError::BadQuery(format!(
        "`{}` is no parameter here: expected {known}",
        shown(name)
    ))
}

/// The beginning of a text that came from outside.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}
