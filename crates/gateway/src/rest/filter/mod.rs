//! Guardrails over the bodies of services.
//!
//! What is looked at follows from `content-type`: JSON, JSON by lines, forms, texts and documents in multipart,
//! server-sent events and text; a body that names no type is looked at as what it turns out to be. So is the query
//! of a request. All else passes: images, archives, other files in multipart, gRPC; headers, trailers and the path;
//! and what is only there once events of a stream are put together.
//! A guardrail that blocks, masks or scrubs holds a body back that cannot be looked at: longer than
//! [`GUARDED_MAX_BYTES`], encoded, in another charset than UTF-8, JSON that is not valid or that names a field
//! twice. One that only takes note lets it pass.
//!
//! Requests are held whole before anything goes on. So are answers, except streams: of server-sent events and JSON
//! by lines each event is looked at by itself, of text without a length the text as it comes.

mod multipart;
mod stream;
mod unique;

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body as HttpBody, Bytes, Frame};
use hyper::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_RANGE,
    RANGE,
};
use hyper::http::uri::PathAndQuery;
use hyper::{HeaderMap, Response, StatusCode, Uri};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use policy::gateway::document::GuardOn;
use serde_json::Value;
use store::outcome::Outcome;

use crate::body::{Body, BodyError};
use crate::guards::Guards;
use crate::refusal::Refusal;
use stream::Filtered;
use unique::Unique;

/// The longest body that is looked at as a whole.
const GUARDED_MAX_BYTES: u64 = 8 << 20;

/// What a body is, as far as guardrails care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Json,
    JsonLines,
    Form,
    Multipart,
    Events,
    Text,
    /// Nobody says: JSON or text if it is.
    Unknown,
    /// Nothing that is looked at.
    Other,
    /// Text in another charset.
    Charset,
}

fn kind_of(headers: &HeaderMap) -> Kind {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Kind::Unknown;
    };
    kind_named(&String::from_utf8_lossy(value.as_bytes()))
}

/// The same of a `content-type`.
fn kind_named(content_type: &str) -> Kind {
    let text = content_type.to_ascii_lowercase();
    let mut parts = text.split(';').map(str::trim);
    let kind = match parts.next().unwrap_or_default() {
        "" => Kind::Unknown,
        "application/x-ndjson"
        | "application/ndjson"
        | "application/jsonl"
        | "application/json-lines"
        | "application/x-jsonlines"
        | "application/stream+json"
        | "application/json-seq" => Kind::JsonLines,
        "application/x-www-form-urlencoded" => Kind::Form,
        other if other.starts_with("multipart/") => return Kind::Multipart,
        "text/event-stream" => Kind::Events,
        "application/json" | "text/json" | "text/x-json" | "application/x-json" => Kind::Json,
        "application/xml"
        | "application/javascript"
        | "application/x-javascript"
        | "application/graphql"
        | "application/sql"
        | "application/yaml"
        | "application/x-yaml"
        | "application/toml" => Kind::Text,
        other if other.ends_with("+json") => Kind::Json,
        other if other.starts_with("text/") || other.ends_with("+xml") || other.ends_with("+yaml") => {
            Kind::Text
        }
        _ => return Kind::Other,
    };
    let charset = parts.find_map(|part| part.strip_prefix("charset="));
    // Those that are ASCII where it matters; what is no UTF-8 is seen from the bytes.
    let is_known = charset.is_none_or(|name| {
        let name = name.trim_matches(['"', '\'']);
        matches!(name, "utf-8" | "utf8" | "us-ascii" | "ascii")
            || name.starts_with("iso-8859-")
            || name.starts_with("windows-125")
    });
    if is_known { kind } else { Kind::Charset }
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|value| !value.is_empty() && !value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Why a body does not pass.
#[derive(Debug)]
enum Stop {
    /// The guardrail of this name blocks it.
    Blocked(String),
    /// It cannot be looked at.
    Unreadable(&'static str),
}

impl From<String> for Stop {
    fn from(rail: String) -> Stop {
        Stop::Blocked(rail)
    }
}

/// Looks at a whole body. `None`: it goes on as it is.
fn whole(
    guards: &Guards,
    kind: Kind,
    headers: &HeaderMap,
    bytes: &[u8],
    on: GuardOn,
) -> Result<Option<Vec<u8>>, Stop> {
    if kind == Kind::Multipart {
        let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        return multipart::look(guards, content_type.unwrap_or_default(), bytes, on);
    }
    text_body(guards, kind, bytes, on).map(|changed| changed.map(String::into_bytes))
}

/// Looks at a whole text. `None`: it goes on as it is.
fn text_body(guards: &Guards, kind: Kind, bytes: &[u8], on: GuardOn) -> Result<Option<String>, Stop> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) if kind == Kind::Unknown => return Ok(None),
        Err(_) => return Err(Stop::Unreadable("its text is not UTF-8")),
    };
    match kind {
        Kind::Json if text.trim().is_empty() => Ok(None),
        Kind::Json => json(guards, text, on),
        Kind::Form => form(guards, text, on),
        _ => piece(guards, text, on),
    }
}

/// A text that may be JSON.
fn piece(guards: &Guards, text: &str, on: GuardOn) -> Result<Option<String>, Stop> {
    if text.trim_start().starts_with(['{', '['])
        && let Ok(done) = json_document(guards, text, on)
    {
        return done;
    }
    let mut out = text.to_owned();
    guards.whole_text(&mut out, on)?;
    Ok((out != text).then_some(out))
}

fn json(guards: &Guards, text: &str, on: GuardOn) -> Result<Option<String>, Stop> {
    json_document(guards, text, on)
        .map_err(|_| Stop::Unreadable("it is not valid JSON, or names a field twice"))?
}

type Looked = Result<Option<String>, Stop>;

fn json_document(guards: &Guards, text: &str, on: GuardOn) -> Result<Looked, serde_json::Error> {
    // Of a field that comes twice one value would go unseen.
    serde_json::from_str::<Unique>(text)?;
    let mut value: Value = serde_json::from_str(text)?;
    Ok(match guards.document(&mut value, on) {
        Ok(changed) => Ok(changed.then(|| value.to_string())),
        Err(rail) => Err(Stop::Blocked(rail)),
    })
}

/// A form, each field as a JSON document of one field.
fn form(guards: &Guards, text: &str, on: GuardOn) -> Result<Option<String>, Stop> {
    let decode = |text: &str| {
        percent_decode_str(&text.replace('+', " "))
            .decode_utf8()
            .map(std::borrow::Cow::into_owned)
            .map_err(|_| Stop::Unreadable("its text is not UTF-8"))
    };
    let mut is_changed = false;
    let mut out = Vec::new();
    for pair in text.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let mut fields = serde_json::Map::new();
        fields.insert(decode(name)?, Value::String(decode(value)?));
        let mut field = Value::Object(fields);
        if !guards.document(&mut field, on)? {
            out.push(pair.to_owned());
            continue;
        }
        is_changed = true;
        for (name, value) in field.as_object().into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            out.push(format!("{}={}", encode(name), encode(&value)));
        }
    }
    Ok(is_changed.then(|| out.join("&")))
}

/// Looks at the query of a request, and changes it.
pub(super) fn query(guards: &Guards, uri: &mut Uri) -> Result<(), Refusal> {
    let Some(query) = uri.query() else {
        return Ok(());
    };
    let changed = match form(guards, query, GuardOn::Request) {
        Ok(None) => return Ok(()),
        Ok(Some(changed)) => changed,
        Err(Stop::Blocked(rail)) => return Err(blocked(&rail)),
        Err(Stop::Unreadable(why)) if guards.hold(GuardOn::Request) => {
            return Err(Refusal::bad_request(
                format!("guardrails cannot look at the query: {why}"),
                None,
            ));
        }
        Err(Stop::Unreadable(_)) => return Ok(()),
    };
    let target = format!("{}?{changed}", uri.path());
    let mut parts = std::mem::take(uri).into_parts();
    let target = PathAndQuery::try_from(target);
    parts.path_and_query =
        Some(target.map_err(|_| {
            Refusal::bad_request("the query cannot be passed on as guardrails leave it", None)
        })?);
    *uri = Uri::from_parts(parts)
        .map_err(|_| Refusal::bad_request("the query cannot be passed on as guardrails leave it", None))?;
    Ok(())
}

fn blocked(rail: &str) -> Refusal {
    Refusal::new(
        Outcome::GuardBlocked,
        StatusCode::BAD_REQUEST,
        "content_blocked",
        format!("the guardrail `{rail}` does not let this request pass"),
    )
}

/// Looks at a request, and gives the body to send.
pub(super) async fn request(guards: &Guards, headers: &mut HeaderMap, body: Body) -> Result<Body, Refusal> {
    let kind = kind_of(headers);
    if body.is_end_stream() || kind == Kind::Other {
        return Ok(body);
    }
    let holds = guards.hold(GuardOn::Request);
    let unreadable = is_encoded(headers).then_some("it has a content-encoding");
    let unreadable = unreadable.or((kind == Kind::Charset).then_some("its charset is not UTF-8"));
    if let Some(why) = unreadable {
        return if holds { Err(unsupported(why)) } else { Ok(body) };
    }
    let (bytes, mut trailers) = match gather(body)
        .await
        .map_err(|error| super::serve::broken_request(&error))?
    {
        Gathered::All(bytes, trailers) => (bytes, trailers),
        Gathered::TooLong(_) if holds => {
            return Err(Refusal::new(
                Outcome::TooLarge,
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                format!("guardrails look at bodies of {GUARDED_MAX_BYTES} bytes at most"),
            ));
        }
        Gathered::TooLong(body) => return Ok(body),
    };
    let bytes = match whole(guards, kind, headers, &bytes, GuardOn::Request) {
        Ok(None) => bytes,
        Ok(Some(changed)) => {
            forget_digests(headers);
            trailers.iter_mut().for_each(forget_digests);
            changed.into()
        }
        Err(Stop::Blocked(rail)) => return Err(blocked(&rail)),
        Err(Stop::Unreadable(why)) if holds => {
            return Err(Refusal::bad_request(
                format!("guardrails cannot look at the body: {why}"),
                None,
            ));
        }
        Err(Stop::Unreadable(_)) => bytes,
    };
    Ok(with_trailers(headers, bytes, trailers))
}

/// A whole body, which says its length unless something comes after it.
fn with_trailers(headers: &mut HeaderMap, bytes: Bytes, trailers: Option<HeaderMap>) -> Body {
    match trailers.filter(|trailers| !trailers.is_empty()) {
        None => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
            Body::full(bytes)
        }
        Some(trailers) => {
            headers.remove(CONTENT_LENGTH);
            Body::other(Trailed {
                frames: [Some(Frame::data(bytes)), Some(Frame::trailers(trailers))],
            })
        }
    }
}

/// A whole body and its trailers.
struct Trailed {
    frames: [Option<Frame<Bytes>>; 2],
}

impl HttpBody for Trailed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(self.frames.iter_mut().find_map(Option::take).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.iter().all(Option::is_none)
    }
}

/// Asks the upstream for an answer that can be looked at.
pub(super) fn ask_plainly(headers: &mut HeaderMap) {
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.remove(RANGE);
    headers.remove(IF_RANGE);
}

/// Looks at an answer, or sees to it that its stream will be looked at.
pub(super) async fn answer(guards: &Guards, response: Response<Body>) -> Result<Response<Body>, Refusal> {
    let (mut parts, body) = response.into_parts();
    let kind = kind_of(&parts.headers);
    if body.is_end_stream() || kind == Kind::Other {
        return Ok(Response::from_parts(parts, body));
    }
    // What was taken out of the request must be put back, but nothing leaks if it is not.
    let holds = guards.hold(GuardOn::Answer);
    let unreadable = is_encoded(&parts.headers).then_some("it has a content-encoding");
    let unreadable = unreadable.or((kind == Kind::Charset).then_some("its charset is not UTF-8"));
    if let Some(why) = unreadable {
        return if holds {
            Err(held_back(why))
        } else {
            Ok(Response::from_parts(parts, body))
        };
    }
    let is_short = body
        .size_hint()
        .upper()
        .is_some_and(|most| most <= GUARDED_MAX_BYTES);
    let is_stream = matches!(kind, Kind::Events | Kind::JsonLines) || (kind == Kind::Text && !is_short);
    if is_stream {
        forget_digests(&mut parts.headers);
        parts.headers.remove(CONTENT_LENGTH);
        let body = Body::other(Filtered::new(body, kind, guards, holds));
        return Ok(Response::from_parts(parts, body));
    }
    let broken = |_| {
        Refusal::new(
            Outcome::BrokenReply,
            StatusCode::BAD_GATEWAY,
            "upstream_broken",
            "the answer of the server of this service ended early",
        )
    };
    let (bytes, mut trailers) = match gather(body).await.map_err(broken)? {
        Gathered::All(bytes, trailers) => (bytes, trailers),
        Gathered::TooLong(_) if holds => return Err(held_back("it is too long")),
        Gathered::TooLong(body) => return Ok(Response::from_parts(parts, body)),
    };
    let bytes = match whole(guards, kind, &parts.headers, &bytes, GuardOn::Answer) {
        Ok(None) => bytes,
        Ok(Some(changed)) => {
            forget_digests(&mut parts.headers);
            trailers.iter_mut().for_each(forget_digests);
            changed.into()
        }
        Err(Stop::Blocked(rail)) => {
            return Err(Refusal::new(
                Outcome::GuardBlocked,
                StatusCode::BAD_GATEWAY,
                "content_blocked",
                format!("the guardrail `{rail}` does not let this answer pass"),
            ));
        }
        Err(Stop::Unreadable(why)) if holds => return Err(held_back(why)),
        Err(Stop::Unreadable(_)) => bytes,
    };
    let body = with_trailers(&mut parts.headers, bytes, trailers);
    Ok(Response::from_parts(parts, body))
}

/// What was computed from the body before it changed.
fn forget_digests(headers: &mut HeaderMap) {
    for name in ["content-md5", "digest", "content-digest", "repr-digest"] {
        headers.remove(HeaderName::from_static(name));
    }
    headers.remove(ETAG);
}

fn unsupported(why: &str) -> Refusal {
    Refusal::new(
        Outcome::ClientError,
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_encoding",
        format!("guardrails cannot look at the body: {why}; send it as plain UTF-8"),
    )
}

fn held_back(why: &str) -> Refusal {
    Refusal::new(
        Outcome::BrokenReply,
        StatusCode::BAD_GATEWAY,
        "answer_held_back",
        format!("guardrails cannot look at the answer of the server of this service: {why}"),
    )
}

enum Gathered {
    All(Bytes, Option<HeaderMap>),
    /// The same body again, with what was read of it.
    TooLong(Body),
}

async fn gather(mut body: Body) -> Result<Gathered, BodyError> {
    if body.size_hint().lower() > GUARDED_MAX_BYTES {
        return Ok(Gathered::TooLong(body));
    }
    let mut all = Vec::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        let data = match frame?.into_data() {
            Ok(data) => data,
            Err(other) => {
                trailers = other.into_trailers().ok();
                continue;
            }
        };
        all.extend_from_slice(&data);
        if all.len() as u64 > GUARDED_MAX_BYTES {
            let first = Some(Bytes::from(all));
            return Ok(Gathered::TooLong(Body::other(Rejoined { first, rest: body })));
        }
    }
    Ok(Gathered::All(all.into(), trailers))
}

/// A body whose beginning was read already.
struct Rejoined {
    first: Option<Bytes>,
    rest: Body,
}

impl HttpBody for Rejoined {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// Trailers come after the body as it is then; those that are computed from it go if it changed.
    #[test]
    fn trailers_stay() {
        let guards_of = |name: &str| {
            let documents = serde_json::json!({
                "guardrails": [{ "name": "r", "words": ["secret"], "action": "mask" }],
                "gateway": { "guardrails": ["r"] },
            });
            let documents = serde_json::from_value(documents).expect("documents");
            struct Nothing;
            impl policy::gateway::compile::Outside for Nothing {
                fn env(&self, _: &str) -> Result<String, String> {
                    Err(String::new())
                }
                fn file(&self, _: &str) -> Result<String, String> {
                    Err(String::new())
                }
            }
            let catalogue = llm::catalogue::Catalogue::shipped();
            let snapshot = policy::gateway::compile::compile(&documents, &Nothing, catalogue, 1);
            let rails: Vec<Arc<_>> = snapshot.expect(name).settings.guardrails;
            Guards::new(rails.iter(), 1)
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let check = |kind: &str, body: &str, expected: &str, names: &[&str]| {
            let guards = guards_of(kind);
            let mut trailers = HeaderMap::new();
            trailers.insert("x-count", HeaderValue::from_static("7"));
            trailers.insert("content-digest", HeaderValue::from_static("sha-256=:x:"));
            let text = Bytes::copy_from_slice(body.as_bytes());
            let body = Body::other(Trailed {
                frames: [Some(Frame::data(text)), Some(Frame::trailers(trailers))],
            });
            let mut response = Response::new(body);
            let kind_value = HeaderValue::from_str(kind).expect("a type");
            response.headers_mut().insert(CONTENT_TYPE, kind_value);
            let response = runtime.block_on(answer(&guards, response)).expect("passes");
            assert!(!response.headers().contains_key(CONTENT_LENGTH), "{kind}");
            let mut body = response.into_body();
            let (mut got, mut after) = (Vec::new(), Vec::new());
            while let Some(frame) = runtime.block_on(body.frame()) {
                match frame.expect("a frame").into_data() {
                    Ok(data) => got.extend_from_slice(&data),
                    Err(other) => {
                        let trailers = other.into_trailers().expect("trailers");
                        after.extend(trailers.keys().map(ToString::to_string));
                    }
                }
            }
            assert_eq!(String::from_utf8_lossy(&got), expected, "{kind}");
            assert_eq!(after, names, "{kind} {expected}");
        };
        check("application/json", "[1]", "[1]", &["x-count", "content-digest"]);
        check("application/json", "[\"secret\"]", "[\"[MASKED]\"]", &["x-count"]);
        check(
            "text/event-stream",
            "data: secret\n\n",
            "data: [MASKED]\n\n",
            &["x-count"],
        );
        check("text/plain", "a secret", "a [MASKED]", &["x-count"]);
    }
}
