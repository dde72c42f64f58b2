//! The request for a provider: address, headers, credentials.

use super::job::Job;
use super::known::{Head, Named};
use super::translate::Outgoing;
use super::{Operation, vertex};
use crate::body::Body;
use crate::refusal::Refusal;
use crate::upstream::Origin;
use hyper::http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT,
};
use hyper::http::{HeaderMap, Method, Request, StatusCode};
use llm::format::Format;
use llm::presets::{self, Auth};
use llm::sigv4;
use policy::gateway::snapshot::{Provider, ProviderKey, Target};
use std::rc::Rc;
use std::sync::Arc;
use store::outcome::Outcome;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION")));

/// What the operator's configuration makes impossible. The details are for the log.
fn misconfigured(provider: &Provider, words: &str) -> Refusal {
    tracing::warn!(provider = %provider.name, reason = words, "a provider cannot be asked");
    Refusal::new(
        Outcome::NoUpstream,
        StatusCode::BAD_GATEWAY,
        "provider_misconfigured",
        "the model's provider is not set up for this; its operator finds the reason in the log",
    )
}

/// The operation in the words of presets, for a request that leaves in `wire`.
fn operation(job: &Job, preset: &presets::Preset, wire: Format) -> presets::Operation {
    match job.operation_at(preset) {
        Operation::Chat if wire == Format::Responses => presets::Operation::Responses,
        Operation::Chat => presets::Operation::Chat,
        Operation::Completion => presets::Operation::Completions,
        Operation::Embeddings => presets::Operation::Embeddings,
        Operation::Rerank => presets::Operation::Rerank,
        Operation::CountTokens => presets::Operation::CountTokens,
        Operation::ListModels | Operation::ShowModel => presets::Operation::Models,
        Operation::Passthrough | Operation::Unsupported => presets::Operation::Passthrough,
    }
}

/// The access token of a provider that wants one in the place of its key.
///
/// # Errors
/// It cannot be had.
pub(super) async fn token(
    provider: &Provider,
    key: Option<&ProviderKey>,
    tokens: &vertex::Tokens,
) -> Result<Option<Arc<str>>, Refusal> {
    let (Auth::ServiceAccount, Some(key)) = (provider.preset.auth, key) else {
        return Ok(None);
    };
    // Much that seldom happens.
    let token = Box::pin(tokens.get(key)).await;
    token.map(Some).map_err(|words| misconfigured(provider, &words))
}

/// Builds the request; `token` is that of [`token`]. Also gives who answers, for the client.
///
/// # Errors
/// The provider does not offer the operation, or a credential cannot be used.
#[expect(clippy::too_many_arguments, reason = "what a request is made of")]
pub(super) fn request(
    job: &Job,
    named: &Named,
    target: &Target,
    key: Option<&ProviderKey>,
    outgoing: &mut Outgoing,
    wire: Format,
    origin: &Origin,
    token: Option<&str>,
) -> Result<(Box<Request<Body>>, Option<HeaderValue>), Refusal> {
    let operation = operation(job, target.provider.preset, wire);
    // Signatures, tokens that end and what the client sends along are of one call.
    let is_common = matches!(
        target.provider.preset.auth,
        Auth::None | Auth::Bearer | Auth::Header(_)
    ) && operation != presets::Operation::Passthrough
        && job.forwarded.is_empty();
    let make = || head(job, target, key, &outgoing.body, wire, operation, origin, token);
    let common = named
        .head_of(target, key, operation, wire, job.head.stream)
        .filter(|_| is_common);
    let head = match common {
        Some(of) => named.head(of, make)?,
        None => Rc::new(make()?),
    };
    let body = std::mem::take(&mut outgoing.body);
    let length = body.len();
    let mut request = Box::new(Request::new(Body::full(body)));
    *request.method_mut() = Method::POST;
    request.uri_mut().clone_from(&head.uri);
    request.headers_mut().clone_from(&head.headers);
    // There is one already: nothing has to grow.
    request.headers_mut().insert(CONTENT_LENGTH, length.into());
    Ok((request, head.shown.clone()))
}

/// The beginning of a request, with a length that is still to be set.
#[expect(clippy::too_many_arguments, reason = "what a request is made of")]
fn head(
    job: &Job,
    target: &Target,
    key: Option<&ProviderKey>,
    body: &[u8],
    wire: Format,
    operation: presets::Operation,
    origin: &Origin,
    token: Option<&str>,
) -> Result<Head, Refusal> {
    let provider = &*target.provider;
    let preset = provider.preset;
    let below = if operation == presets::Operation::Passthrough {
        job.path.clone()
    } else {
        match preset.request_target(operation, &target.model, job.head.stream, &provider.parameters) {
            Some(Ok(below)) => below,
            Some(Err(error)) => return Err(misconfigured(provider, &error.to_string())),
            None => {
                return Err(Refusal::new(
                    Outcome::NotSupported,
                    StatusCode::NOT_IMPLEMENTED,
                    "not_supported",
                    format!("the provider of `{}` does not offer this", job.head.model),
                ));
            }
        }
    };
    let path = format!("{}{below}", provider.base_path);
    let uri = path
        .parse()
        .map_err(|_| misconfigured(provider, "its address with this model is no path"))?;
    let mut headers = HeaderMap::new();
    let is_stream = job.is_stream();
    // Clients say all kinds of things of a body that was read as JSON.
    let content_type = if job.operation == Operation::Passthrough {
        job.content_type.clone()
    } else {
        JSON
    };
    headers.insert(CONTENT_TYPE, content_type);
    let accept = match wire {
        _ if !is_stream => JSON,
        Format::Converse => HeaderValue::from_static("application/vnd.amazon.eventstream"),
        _ => HeaderValue::from_static("text/event-stream"),
    };
    headers.insert(ACCEPT, accept);
    headers.insert(USER_AGENT, AGENT);
    for (name, value) in preset.headers {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if wire == job.ingress {
        for (name, value) in &job.forwarded {
            headers.insert(name.clone(), value.clone());
        }
    }
    for (name, value) in &provider.headers {
        if let (Ok(name), Ok(value)) = (
            HeaderName::try_from(name.as_str()),
            HeaderValue::try_from(value.as_str()),
        ) {
            headers.insert(name, value);
        }
    }
    if let Some(key) = key {
        authorize(provider, key, &mut headers, &path, body, token)?;
    }
    if let Some(host) = origin.host_value().filter(|_| !headers.contains_key(HOST)) {
        headers.insert(HOST, host.clone());
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    let shown = format!("{}/{}", provider.name, target.model);
    Ok(Head {
        uri,
        headers,
        shown: HeaderValue::try_from(shown).ok(),
    })
}

/// Adds the credential in the provider's own way.
fn authorize(
    provider: &Provider,
    key: &ProviderKey,
    headers: &mut HeaderMap,
    path: &str,
    body: &[u8],
    token: Option<&str>,
) -> Result<(), Refusal> {
    let secret = |text: &str| {
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    };
    let no_header = || {
        misconfigured(
            provider,
            "its key cannot stand in a header: it holds other than visible ASCII",
        )
    };
    match provider.preset.auth {
        Auth::None => {}
        Auth::Bearer => {
            let value = secret(&format!("Bearer {}", key.secret.expose())).ok_or_else(no_header)?;
            headers.insert(AUTHORIZATION, value);
        }
        Auth::Header(name) => {
            let value = secret(key.secret.expose()).ok_or_else(no_header)?;
            headers.insert(HeaderName::from_static(name), value);
        }
        Auth::ServiceAccount => {
            let token = token.unwrap_or_default();
            let value = secret(&format!("Bearer {token}")).ok_or_else(no_header)?;
            headers.insert(AUTHORIZATION, value);
        }
        Auth::SigV4 => sign(provider, key, headers, path, body)?,
    }
    Ok(())
}

/// AWS: the key is `ACCESS_KEY_ID:SECRET_ACCESS_KEY`, with `:SESSION_TOKEN` where there is one.
fn sign(
    provider: &Provider,
    key: &ProviderKey,
    headers: &mut HeaderMap,
    path: &str,
    body: &[u8],
) -> Result<(), Refusal> {
    let mut parts = key.secret.expose().splitn(3, ':');
    let (Some(access_key_id), Some(secret_access_key)) = (parts.next(), parts.next()) else {
        let words = "its key must be ACCESS_KEY_ID:SECRET_ACCESS_KEY, with :SESSION_TOKEN where there is one";
        return Err(misconfigured(provider, words));
    };
    let Some(region) = provider.parameters.get("region") else {
        return Err(misconfigured(provider, "it needs the parameter `region`"));
    };
    let host = provider.origin.split("://").nth(1).unwrap_or_default();
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let credentials = sigv4::Credentials {
        access_key_id: access_key_id.to_owned(),
        secret_access_key: secret_access_key.to_owned(),
        session_token: parts.next().map(str::to_owned),
    };
    let scope = sigv4::Scope {
        region,
        service: "bedrock",
    };
    let signed = sigv4::sign(
        &credentials,
        scope,
        &sigv4::Request {
            method: "POST",
            path,
            query,
            headers: &[("host", host), ("content-type", "application/json")],
            payload_sha256: &sigv4::sha256_hex(body),
        },
        crate::clock::unix_ms() / 1000,
    );
    for (name, value) in signed {
        let mut value = HeaderValue::try_from(value)
            .map_err(|_| misconfigured(provider, "its key cannot be used in a signature"))?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok(())
}
