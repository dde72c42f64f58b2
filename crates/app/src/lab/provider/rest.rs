//! A plain HTTP upstream beside the providers, for gateways of REST services: `/echo`, `/ws`, `/sse`,
//! `/status/N`, `/delay/MS`, `/bytes/N`.

use std::time::Duration;

use base64::Engine;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Request, Response, StatusCode};
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use super::body::{Chunking, Cut, SimBody};
use super::fault::WAIT_MAX;
use super::serve::{BODY_BYTES_MAX, Server, document, said};
use super::websocket;
use super::wire::Piece;

/// Most bytes of `/bytes/N`.
const BYTES_MAX: usize = 1 << 30;
/// Most events of `/sse`.
const EVENTS_MAX: u64 = 10_000;
/// Runs that `/bytes/N` is written in; all of them share one allocation.
const RUN: usize = 64 * 1024;

/// Answers when the path is one of these, else gives the request back.
pub(crate) async fn handle(
    server: &Server,
    request: Request<Incoming>,
) -> Result<Result<Response<SimBody>, Cut>, Request<Incoming>> {
    let path = request.uri().path().to_owned();
    let mut parts = path.splitn(3, '/').skip(1);
    let (first, rest) = (parts.next().unwrap_or_default(), parts.next());
    let response = match (first, rest) {
        ("echo", _) => echo(request).await,
        ("ws", None) => websocket::upgrade(request),
        ("sse", None) => events(server, request.uri().query().unwrap_or_default()),
        ("status", Some(code)) => match code
            .parse()
            .ok()
            .and_then(|code: u16| StatusCode::from_u16(code).ok())
        {
            Some(code) if code == StatusCode::NO_CONTENT || code == StatusCode::NOT_MODIFIED => {
                let mut response = Response::new(SimBody::empty());
                *response.status_mut() = code;
                response
            }
            Some(code) if code.as_u16() >= 200 => document(code, &json!({"status": code.as_u16()})),
            _ => said(
                StatusCode::BAD_REQUEST,
                "expected /status/N with N from 200 to 999",
            ),
        },
        ("delay", Some(ms)) => match ms.parse().map(Duration::from_millis) {
            Ok(wait) if wait <= WAIT_MAX => {
                sleep(wait).await;
                document(StatusCode::OK, &json!({"delayed_ms": wait.as_millis() as u64}))
            }
            _ => said(
                StatusCode::BAD_REQUEST,
                "expected /delay/MS with at most ten minutes",
            ),
        },
        ("bytes", Some(number)) => match number.parse() {
            Ok(number) if number <= BYTES_MAX => bytes(number),
            _ => said(StatusCode::BAD_REQUEST, "expected /bytes/N with at most 1 GiB"),
        },
        _ => return Err(request),
    };
    Ok(Ok(response))
}

async fn echo(request: Request<Incoming>) -> Response<SimBody> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return said(StatusCode::PAYLOAD_TOO_LARGE, "expected a body of at most 16 MiB");
    };
    let body = body.to_bytes();
    let mut shown = json!({
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "version": format!("{:?}", head.version),
        "headers": headers(&head.headers),
        "length": body.len(),
    });
    match std::str::from_utf8(&body) {
        Ok(text) => shown["body"] = json!(text),
        Err(_) => shown["body_base64"] = json!(base64::engine::general_purpose::STANDARD.encode(&body)),
    }
    document(StatusCode::OK, &shown)
}

/// A list where a header came more than once.
fn headers(headers: &HeaderMap) -> Value {
    let mut shown = Map::new();
    for name in headers.keys() {
        let values = headers
            .get_all(name)
            .iter()
            .map(|value| json!(String::from_utf8_lossy(value.as_bytes())));
        let mut values: Vec<Value> = values.collect();
        let value = if values.len() == 1 {
            values.remove(0)
        } else {
            Value::Array(values)
        };
        shown.insert(name.to_string(), value);
    }
    Value::Object(shown)
}

/// `?n=5&interval_ms=10`.
fn events(server: &Server, query: &str) -> Response<SimBody> {
    let number = |name: &str, or: u64| {
        let found = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name);
        found.map_or(Some(or), |(_, value)| value.parse().ok())
    };
    let (Some(count), Some(interval_ms)) = (number("n", 5), number("interval_ms", 10)) else {
        return said(StatusCode::BAD_REQUEST, "expected /sse?n=N&interval_ms=MS");
    };
    let event = |idx: u64| Piece::new(format!("id: {idx}\nevent: tick\ndata: {{\"n\":{idx}}}\n\n"));
    let pieces = (0..count.min(EVENTS_MAX)).map(event).collect();
    let interval = Duration::from_millis(interval_ms).min(WAIT_MAX);
    let mut response = Response::new(SimBody::stream(pieces, server.chunking, None).dripping(interval));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

fn bytes(number: usize) -> Response<SimBody> {
    let run = Bytes::from(vec![b'w'; RUN.min(number)]);
    let mut pieces = vec![Piece::new(run.clone()); number / RUN];
    pieces.push(Piece::new(run.slice(..number % RUN)));
    let body = SimBody::stream(pieces, Chunking::Whole, None).declaring(number as u64);
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}
