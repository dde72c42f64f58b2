//! Guardrails over the bodies of services.
//!
//! What is looked at follows from `content-type`: JSON, JSON by lines, forms, server-sent events and text; a body
//! that names no type is looked at as what it turns out to be. All else (images, archives, multipart, gRPC) passes.
//! A guardrail that blocks, masks or scrubs holds a body back that cannot be looked at: longer than
//! [`GUARDED_MAX_BYTES`], encoded, in another charset than UTF-8, JSON that is not valid or that names a field
//! twice. One that only takes note lets it pass.
//!
//! Requests are held whole before anything goes on. So are answers, except streams: of server-sent events and JSON
//! by lines each event is looked at by itself, of text without a length the text as it comes.

use std::collections::HashSet;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body as HttpBody, Bytes, Frame};
use hyper::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_RANGE,
    RANGE,
};
use hyper::{HeaderMap, Response, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use policy::gateway::document::GuardOn;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use store::outcome::Outcome;

use crate::body::{Body, BodyError};
use crate::guards::{Guards, TextFilter, Verdict};
use crate::refusal::Refusal;

/// The longest body that is looked at as a whole.
const GUARDED_MAX_BYTES: u64 = 8 << 20;
/// The longest event or line of a stream.
const EVENT_MAX_BYTES: usize = 1 << 20;

/// What a body is, as far as guardrails care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Json,
    JsonLines,
    Form,
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
    let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
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
fn whole(guards: &Guards, kind: Kind, bytes: &[u8], on: GuardOn) -> Result<Option<String>, Stop> {
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
    let bytes = match gather(body)
        .await
        .map_err(|error| super::serve::broken_request(&error))?
    {
        Gathered::All(bytes) => bytes,
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
    let bytes = match whole(guards, kind, &bytes, GuardOn::Request) {
        Ok(None) => bytes,
        Ok(Some(changed)) => {
            forget_digests(headers);
            changed.into()
        }
        Err(Stop::Blocked(rail)) => {
            return Err(Refusal::new(
                Outcome::GuardBlocked,
                StatusCode::BAD_REQUEST,
                "content_blocked",
                format!("the guardrail `{rail}` does not let this request pass"),
            ));
        }
        Err(Stop::Unreadable(why)) if holds => {
            return Err(Refusal::bad_request(
                format!("guardrails cannot look at the body: {why}"),
                None,
            ));
        }
        Err(Stop::Unreadable(_)) => bytes,
    };
    headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    Ok(Body::full(bytes))
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
    let bytes = match gather(body).await.map_err(broken)? {
        Gathered::All(bytes) => bytes,
        Gathered::TooLong(_) if holds => return Err(held_back("it is too long")),
        Gathered::TooLong(body) => return Ok(Response::from_parts(parts, body)),
    };
    let bytes = match whole(guards, kind, &bytes, GuardOn::Answer) {
        Ok(None) => bytes,
        Ok(Some(changed)) => {
            forget_digests(&mut parts.headers);
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
    parts
        .headers
        .insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    Ok(Response::from_parts(parts, Body::full(bytes)))
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
    All(Bytes),
    /// The same body again, with what was read of it.
    TooLong(Body),
}

async fn gather(mut body: Body) -> Result<Gathered, BodyError> {
    if body.size_hint().lower() > GUARDED_MAX_BYTES {
        return Ok(Gathered::TooLong(body));
    }
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        all.extend_from_slice(&data);
        if all.len() as u64 > GUARDED_MAX_BYTES {
            let first = Some(Bytes::from(all));
            return Ok(Gathered::TooLong(Body::other(Rejoined { first, rest: body })));
        }
    }
    Ok(Gathered::All(all.into()))
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

/// An answer that is looked at as it comes.
struct Filtered {
    body: Body,
    guards: Guards,
    holds: bool,
    filter: Filter,
    /// Bytes that are no whole line or character yet.
    held: Vec<u8>,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Looking,
    /// What cannot be looked at passes, since nothing would be changed in it.
    Raw,
    Over,
}

enum Filter {
    Text(TextFilter),
    Lines {
        are_events: bool,
        data: Option<String>,
        after_cr: bool,
    },
}

impl Filtered {
    fn new(body: Body, kind: Kind, guards: &Guards, holds: bool) -> Filtered {
        let filter = if kind == Kind::Text {
            Filter::Text(TextFilter::new(guards))
        } else {
            Filter::Lines {
                are_events: kind == Kind::Events,
                data: None,
                after_cr: false,
            }
        };
        Filtered {
            body,
            guards: guards.clone(),
            holds,
            filter,
            held: Vec::new(),
            state: State::Looking,
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Stop> {
        if self.state == State::Raw {
            return Ok(bytes.to_vec());
        }
        let mut out = Vec::new();
        self.held.extend_from_slice(bytes);
        match self.look(&mut out) {
            Err(Stop::Unreadable(_)) if !self.holds => {
                self.state = State::Raw;
                self.let_go(&mut out);
                Ok(out)
            }
            Err(stop) => Err(stop),
            Ok(()) => Ok(out),
        }
    }

    /// What still waits goes on as it is.
    fn let_go(&mut self, out: &mut Vec<u8>) {
        match &mut self.filter {
            Filter::Text(filter) => {
                if let Verdict::Pass(text) = filter.finish() {
                    out.extend_from_slice(text.as_bytes());
                }
            }
            Filter::Lines { data, .. } => {
                if let Some(data) = data.take() {
                    write_data(&data, out);
                }
            }
        }
        out.append(&mut self.held);
    }

    fn look(&mut self, out: &mut Vec<u8>) -> Result<(), Stop> {
        match &mut self.filter {
            Filter::Text(filter) => {
                let valid = match std::str::from_utf8(&self.held) {
                    Ok(text) => text.len(),
                    Err(error) if error.error_len().is_none() => error.valid_up_to(),
                    Err(_) => return Err(Stop::Unreadable("its text is not UTF-8")),
                };
                let text = String::from_utf8_lossy(&self.held[..valid]).into_owned();
                self.held.drain(..valid);
                match filter.push(&text) {
                    Verdict::Pass(text) => out.extend_from_slice(text.as_bytes()),
                    Verdict::Block(rail) => return Err(Stop::Blocked(rail)),
                }
            }
            Filter::Lines {
                are_events,
                data,
                after_cr,
            } => {
                let mut at = 0;
                let looked = loop {
                    if std::mem::take(after_cr) && self.held.get(at) == Some(&b'\n') {
                        at += 1;
                    }
                    let rest = &self.held[at..];
                    let end = rest
                        .iter()
                        .position(|&byte| byte == b'\n' || (*are_events && byte == b'\r'));
                    let Some(end) = end else { break Ok(()) };
                    let looked = line(&self.guards, *are_events, data, &rest[..end], out);
                    if looked.is_err() {
                        break looked;
                    }
                    *after_cr = rest[end] == b'\r';
                    at += end + 1;
                };
                self.held.drain(..at);
                looked?;
                if self.held.len() + data.as_ref().map_or(0, String::len) > EVENT_MAX_BYTES {
                    return Err(Stop::Unreadable("an event of it is too long"));
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<u8>, Stop> {
        let mut out = Vec::new();
        if self.state == State::Raw {
            return Ok(out);
        }
        match &mut self.filter {
            Filter::Text(filter) => {
                if !self.held.is_empty() && self.holds {
                    return Err(Stop::Unreadable("its text is not UTF-8"));
                }
                match filter.finish() {
                    Verdict::Pass(text) => out.extend_from_slice(text.as_bytes()),
                    Verdict::Block(rail) => return Err(Stop::Blocked(rail)),
                }
                out.append(&mut self.held);
            }
            Filter::Lines { are_events, data, .. } => {
                let last = std::mem::take(&mut self.held);
                if !last.is_empty() {
                    line(&self.guards, *are_events, data, &last, &mut out)?;
                }
                if let Some(data) = data.take() {
                    let changed = piece(&self.guards, &data, GuardOn::Answer)?;
                    write_data(&changed.unwrap_or(data), &mut out);
                }
            }
        }
        Ok(out)
    }
}

/// One line, without its end. Data of an event waits for the empty line.
fn line(
    guards: &Guards,
    are_events: bool,
    data: &mut Option<String>,
    line: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Stop> {
    let text = std::str::from_utf8(line).map_err(|_| Stop::Unreadable("its text is not UTF-8"))?;
    if are_events && text.is_empty() {
        if let Some(all) = data.take() {
            let changed = piece(guards, &all, GuardOn::Answer)?;
            write_data(&changed.unwrap_or(all), out);
        }
    } else if are_events && let Some(value) = text.strip_prefix("data:").or((text == "data").then_some("")) {
        let value = value.strip_prefix(' ').unwrap_or(value);
        match data {
            Some(data) => {
                data.push('\n');
                data.push_str(value);
            }
            None => *data = Some(value.to_owned()),
        }
        return Ok(());
    } else {
        let changed = piece(guards, text, GuardOn::Answer)?;
        out.extend_from_slice(changed.as_deref().unwrap_or(text).as_bytes());
    }
    out.push(b'\n');
    Ok(())
}

fn write_data(data: &str, out: &mut Vec<u8>) {
    for line in data.split(['\n', '\r']) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
}

impl HttpBody for Filtered {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            if this.state == State::Over {
                return Poll::Ready(None);
            }
            let (looked, is_last) = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                // Trailers may hold a digest of what has changed: they are dropped.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => (this.push(&data), false),
                    Err(_) => continue,
                },
                Some(Err(error)) => {
                    this.state = State::Over;
                    return Poll::Ready(Some(Err(error)));
                }
                None => (this.finish(), true),
            };
            if is_last {
                this.state = State::Over;
            }
            match looked {
                Ok(out) if out.is_empty() => {}
                Ok(out) => return Poll::Ready(Some(Ok(Frame::data(out.into())))),
                Err(stop) => {
                    this.state = State::Over;
                    let why = match stop {
                        Stop::Blocked(rail) => format!("the guardrail `{rail}` ended the answer"),
                        Stop::Unreadable(why) => format!("guardrails cannot look at the answer: {why}"),
                    };
                    return Poll::Ready(Some(Err(BodyError::Producer(why))));
                }
            }
        }
    }
}

/// Any JSON, no object of which names a field twice.
struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Unique, D::Error> {
        deserializer.deserialize_any(Unique)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = Unique;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_str<E>(self, _: &str) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_unit<E>(self) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Unique, A::Error> {
        while items.next_element::<Unique>()?.is_some() {}
        Ok(Unique)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Unique, A::Error> {
        let mut seen = HashSet::new();
        while let Some(name) = fields.next_key::<String>()? {
            fields.next_value::<Unique>()?;
            if !seen.insert(name) {
                return Err(A::Error::custom("a field comes twice"));
            }
        }
        Ok(Unique)
    }
}
