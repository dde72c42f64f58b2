//! Guardrails over the bodies of services: what the upstream gets, and what the client gets.

mod common;
#[path = "common/site.rs"]
mod site;

use std::rc::Rc;

use common::{Answer, address, serve, settings, text, wait_until};
use gateway::body::{Body, Received};
use gateway::server::{ConnInfo, Server};
use hyper::body::{Bytes, Frame};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use hyper::{Request, StatusCode};
use serde_json::json;
use site::{Site, ask, site};
use store::calls::Guard;
use store::outcome::Outcome;

/// Says back what it got, in pieces of three bytes below `/drip`, of the type that `x-type` names. `/asked` says which
/// encodings it was asked for.
fn parrot(request: Request<Received>, _: Rc<ConnInfo>) -> Answer {
    Box::pin(async move {
        let (parts, body) = request.into_parts();
        let length = parts.headers.get("content-length").cloned();
        let body = body.collect(64 << 20).await.expect("a body");
        assert!(length.is_none_or(|length| length == body.len().to_string()));
        let mut response = text(StatusCode::OK, "");
        if parts.uri.path() == "/query" {
            return text(StatusCode::OK, parts.uri.query().unwrap_or_default().to_owned());
        } else if parts.uri.path() == "/asked" {
            return text(
                StatusCode::OK,
                format!("{:?}", parts.headers.get("accept-encoding")),
            );
        } else if parts.uri.path() == "/drip" {
            let (sender, channel) = Body::channel(4);
            tokio::task::spawn_local(async move {
                for piece in body.chunks(3) {
                    let frame = Frame::data(Bytes::copy_from_slice(piece));
                    if sender.send(Ok(frame)).await.is_err() {
                        return;
                    }
                }
            });
            *response.body_mut() = channel;
        } else {
            *response.body_mut() = Body::full(body);
        }
        for (from, to) in [("x-type", CONTENT_TYPE), ("x-encoding", CONTENT_ENCODING)] {
            if let Some(value) = parts.headers.get(from) {
                response.headers_mut().insert(to, value.clone());
            }
        }
        response
    })
}

/// `block`, `flag`, `mask` and `pii` look at requests; `answer.block` and so on at answers; `both` takes out and puts
/// back.
fn guarded() -> (Site, Server) {
    let upstream = serve(settings(), parrot);
    let url = format!("http://{}", address(&upstream));
    let pii = json!([
        { "kind": "email" }, { "kind": "name" }, { "json_path": "order.note" }, { "keywords": ["Bluebird"] },
    ]);
    let mut rails = vec![json!({ "name": "both", "pii": [{ "kind": "email", "action": "reversible" }] })];
    for (prefix, on) in [("", "request"), ("answer.", "answer")] {
        for action in ["block", "mask", "flag"] {
            let name = format!("{prefix}{action}");
            rails.push(json!({ "name": name, "on": on, "words": ["secret"], "patterns": ["4[0-9]{3}"], "action": action }));
        }
        rails.push(json!({ "name": format!("{prefix}pii"), "on": on, "pii": pii }));
    }
    let services: Vec<_> = rails
        .iter()
        .map(|rail| {
            json!({ "name": rail["name"], "hosts": [rail["name"]], "auth": ["none"], "guardrails": [rail["name"]],
                "routes": [{ "path": "/*", "upstreams": [{ "url": url }] }] })
        })
        .collect();
    (
        site(json!({ "guardrails": rails, "services": services })),
        upstream,
    )
}

fn post(site: &Site, host: &str, path: &str, kind: &str, headers: &str, body: &str) -> (u16, String, String) {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: {kind}\r\nx-type: {kind}\r\n\
        content-length: {length}\r\n{headers}\r\n{body}"
    );
    ask(address(&site.server), &request)
}

const JSON: &str = "application/json";

#[test]
fn whole_bodies() {
    let (site, _upstream) = guarded();
    let check = |host: &str, kind: &str, body: &str, expected: Result<&str, (u16, &str)>| {
        for (host, refused) in [(host.to_owned(), 400), (format!("answer.{host}"), 502)] {
            let (status, head, got) = post(&site, &host, "/", kind, "", body);
            match expected {
                Ok(expected) => {
                    assert_eq!((status, got.as_str()), (200, expected), "{host} {kind} {body}");
                    let length = format!("content-length: {}", expected.len());
                    assert!(head.contains(&length), "{head}");
                }
                Err((in_request, code)) => {
                    let refused = if refused == 400 { in_request } else { refused };
                    assert_eq!(status, refused, "{host} {kind} {body} {got}");
                    assert!(got.contains(code) || refused == 502, "{code} in {got}");
                    assert!(!got.contains("secret"), "{got}");
                }
            }
        }
    };
    let blocked = Err((400, "content_blocked"));
    check("block", JSON, r#"{"a": 1.0}"#, Ok(r#"{"a": 1.0}"#));
    check("block", JSON, r#"{"a":["a Secret"]}"#, blocked);
    check("block", JSON, r#"{"secret":1}"#, blocked);
    check("block", JSON, r#"{"a":"s\u0065cret"}"#, blocked);
    check("block", JSON, r#"{"a":4123}"#, blocked);
    check(
        "block",
        JSON,
        r#"{"a":"secret","a":"b"}"#,
        Err((400, "invalid_request")),
    );
    check("block", JSON, r#"{"a":"b""#, Err((400, "invalid_request")));
    check("block", "application/problem+json", r#"["secret"]"#, blocked);
    check("block", "text/plain; charset=utf-8", "the secret", blocked);
    check(
        "block",
        "text/plain; charset=utf-16",
        "a",
        Err((415, "unsupported_encoding")),
    );
    check(
        "block",
        "application/x-www-form-urlencoded",
        "a=se%63ret",
        blocked,
    );
    check("block", "image/png", "secret", Ok("secret"));
    check(
        "mask",
        JSON,
        r#"{"secret":[4123,"4123"]}"#,
        Ok(r#"{"[MASKED]":["[MASKED]","[MASKED]"]}"#),
    );
    check("mask", "text/html", "<p>secret</p>", Ok("<p>[MASKED]</p>"));
    check("flag", JSON, r#"{"a":"secret"}"#, Ok(r#"{"a":"secret"}"#));
    check("flag", JSON, r#"{"a":"#, Ok(r#"{"a":"#));
    check("flag", "text/plain; charset=utf-16", "a", Ok("a"));
    check(
        "pii",
        JSON,
        r#"{"name":"Ann","mail":"a@b.example","order":{"note":"x"},"n":7,"c":"a bluebird"}"#,
        Ok(r#"{"name":"[NAME]","mail":"[EMAIL]","order":{"note":"[FIELD]"},"n":7,"c":"a [KEYWORD]"}"#),
    );
    check("pii", "text/csv", "1,a@b.example,2", Ok("1,[EMAIL],2"));
    check(
        "pii",
        "application/x-www-form-urlencoded",
        "x=1+2&name=Ann&m=a%40b.example",
        Ok("x=1+2&name=%5BNAME%5D&m=%5BEMAIL%5D"),
    );
    let form = "multipart/form-data; boundary=Bo";
    let field = |head: &str, content: &str| {
        format!("--Bo\r\ncontent-disposition: form-data; {head}\r\n\r\n{content}\r\n")
    };
    let of = |parts: &[String]| format!("{}--Bo--\r\n", parts.concat());
    let picture = || {
        field(
            "name=\"p\"; filename=\"secret.png\"\r\ncontent-type: image/png",
            "a secret",
        )
    };
    check(
        "block",
        form,
        &of(&[field("name=\"a\"", "x"), picture()]),
        Ok(&of(&[field("name=\"a\"", "x"), picture()])),
    );
    check(
        "block",
        form,
        &of(&[picture(), field("name=\"a\"", "a secret")]),
        blocked,
    );
    check(
        "block",
        form,
        &of(&[field(
            "name=\"f\"; filename=\"f.txt\"\r\ncontent-type: text/plain",
            "a secret",
        )]),
        blocked,
    );
    check(
        "block",
        form,
        &of(&[field(
            "name=\"a\"\r\ncontent-transfer-encoding: base64",
            "c2VjcmV0",
        )]),
        Err((400, "invalid_request")),
    );
    check("block", form, "--Bo\r\n\r\nx", Err((400, "invalid_request")));
    check("block", "multipart/form-data", "x", Err((400, "invalid_request")));
    check("flag", form, "x", Ok("x"));
    check(
        "mask",
        form,
        &of(&[picture(), field("name=\"a\"\r\ncontent-length: 8", "a secret")]),
        Ok(&of(&[picture(), field("name=\"a\"", "a [MASKED]")])),
    );
    check(
        "pii",
        form,
        &of(&[
            field("name=\"name\"", "Ann"),
            field(
                "name=\"j\"\r\ncontent-type: application/json",
                "{\"name\":\"Ann\"}",
            ),
            field("name=\"m\"", "a@b.example"),
        ]),
        Ok(&of(&[
            field("name=\"name\"", "[NAME]"),
            field(
                "name=\"j\"\r\ncontent-type: application/json",
                "{\"name\":\"[NAME]\"}",
            ),
            field("name=\"m\"", "[EMAIL]"),
        ])),
    );
    let put_back = post(&site, "both", "/", JSON, "", r#"{"m":"a@b.example"}"#);
    assert_eq!((put_back.0, put_back.2.as_str()), (200, r#"{"m":"a@b.example"}"#));
}

#[test]
fn queries() {
    let (site, _upstream) = guarded();
    let check = |host: &str, query: &str, expected: Result<&str, u16>| {
        let (status, _, got) = post(&site, host, &format!("/query?{query}"), JSON, "", "");
        match expected {
            Ok(expected) => assert_eq!((status, got.as_str()), (200, expected), "{host} {query}"),
            Err(expected) => {
                assert_eq!(status, expected, "{host} {query}: {got}");
                assert!(!got.contains("secret"), "{got}");
            }
        }
    };
    check("block", "a=b&c", Ok("a=b&c"));
    check("block", "a=b&c=the+Secret", Err(400));
    check("block", "a=s%65cret", Err(400));
    check("block", "a=%ff", Err(400));
    check("flag", "a=%ff", Ok("a=%ff"));
    check("flag", "a=secret", Ok("a=secret"));
    check("mask", "a=1+2&b=secret", Ok("a=1+2&b=%5BMASKED%5D"));
    check(
        "pii",
        "name=Ann&m=a%40b.example&n=7",
        Ok("name=%5BNAME%5D&m=%5BEMAIL%5D&n=7"),
    );
    check("answer.block", "a=x", Ok("a=x"));
    // What came out goes into the answer again where the answer says it.
    check("both", "m=a%40b.example", Ok("m=%5BEMAIL%5F1%5D"));
}

#[test]
fn what_cannot_be_looked_at() {
    let (site, _upstream) = guarded();
    let long = format!("[\"{}\"]", "x".repeat(9 << 20));
    let check = |host: &str, headers: &str, body: &str, status: u16| {
        let (got, _, answer) = post(&site, host, "/", JSON, headers, body);
        assert_eq!(got, status, "{host} {headers}");
        assert_eq!(status == 200, answer == body, "{host} {headers}");
    };
    for host in ["pii", "block"] {
        // Refused from its head: no body need be sent.
        let request = format!(
            "POST / HTTP/1.1\r\nhost: {host}\r\ncontent-type: {JSON}\r\ncontent-length: {}\r\n\r\n",
            long.len()
        );
        assert_eq!(ask(address(&site.server), &request).0, 413, "{host}");
    }
    check("flag", "", &long, 200);
    check("answer.pii", "", &long, 502);
    check("answer.flag", "", &long, 200);
    check("pii", "content-encoding: gzip\r\n", "x", 415);
    check("flag", "content-encoding: gzip\r\n", "x", 200);
    check("pii", "content-encoding: identity\r\n", "{}", 200);
    check("answer.pii", "x-encoding: gzip\r\n", "x", 502);
    check("answer.flag", "x-encoding: gzip\r\n", "x", 200);
    let asked = |host: &str| post(&site, host, "/asked", "text/plain", "accept-encoding: br\r\n", "").2;
    assert_eq!(asked("answer.pii"), "Some(\"identity\")");
    assert_eq!(asked("pii"), "Some(\"br\")");
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
    let (status, _, _) = post(&site, "pii", "/", "text/plain", upgrade, "");
    assert_eq!(status, 501);
}

/// What a chunked body holds.
fn unchunk(body: &str) -> String {
    let (mut out, mut rest) = (String::new(), body);
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).expect("a length");
        out.push_str(&after[..length]);
        rest = after.get(length + 2..).unwrap_or_default();
    }
    out
}

#[test]
fn streams() {
    let (site, _upstream) = guarded();
    let check = |host: &str, kind: &str, body: &str, expected: &str| {
        let (status, _, got) = post(&site, host, "/drip", kind, "", body);
        assert_eq!(
            (status, unchunk(&got).as_str()),
            (200, expected),
            "{host} {kind} {body}"
        );
    };
    let events = "text/event-stream";
    check("answer.pii", "text/plain", "é: a@b.example, é", "é: [EMAIL], é");
    check("answer.mask", "text/plain", "a secret", "a [MASKED]");
    check(
        "answer.pii",
        events,
        ": c\r\nid: 1\r\ndata:a@b.example\r\n\r\n",
        ": c\nid: 1\ndata: [EMAIL]\n\n",
    );
    check(
        "answer.pii",
        events,
        "data: {\"name\":\ndata: \"Ann\"}\n\ndata: x",
        "data: {\"name\":\"[NAME]\"}\n\ndata: x\n",
    );
    check(
        "answer.pii",
        "application/x-ndjson",
        "{\"name\":\"A\"}\n{\"n\":1}\n",
        "{\"name\":\"[NAME]\"}\n{\"n\":1}\n",
    );
    check("answer.flag", events, "data: secret\n\n", "data: secret\n\n");
    check("both", "text/plain", "to a@b.example", "to a@b.example");
    check("both", events, "data: a@b.example\n\n", "data: a@b.example\n\n");
    // What went out before cannot be taken back; what is blocked does not go out.
    let (status, _, got) = post(
        &site,
        "answer.block",
        "/drip",
        events,
        "",
        "data: a\n\ndata: secret\n\ndata: b\n\n",
    );
    assert_eq!(status, 200);
    assert!(
        got.contains("data: a") && !got.contains("secret") && !got.contains("data: b"),
        "{got}"
    );
    assert!(!got.ends_with("0\r\n\r\n"), "it looks whole: {got}");
}

#[test]
fn records() {
    let (site, _upstream) = guarded();
    let check = |host: &str, path: &str, body: &str, expected: (Outcome, Guard, u32, u32)| {
        let n = site.calls.0.lock().expect("not poisoned").len();
        post(&site, host, path, "text/plain", "", body);
        wait_until("recorded", || {
            site.calls.0.lock().expect("not poisoned").len() > n
        });
        let calls = site.calls.0.lock().expect("not poisoned");
        let call = calls.last().expect("a record");
        assert_eq!(
            (call.outcome, call.guard, call.pii_in, call.pii_out),
            expected,
            "{host} {path} {body}"
        );
    };
    for path in ["/", "/drip"] {
        check(
            "pii",
            path,
            "a@b.example, c@d.example",
            (Outcome::Ok, Guard::Changed, 2, 0),
        );
        check(
            "answer.pii",
            path,
            "a@b.example",
            (Outcome::Ok, Guard::Changed, 0, 1),
        );
        check("pii", path, "nothing", (Outcome::Ok, Guard::Passed, 0, 0));
        check("flag", path, "secret", (Outcome::Ok, Guard::Noted, 0, 0));
        check("answer.flag", path, "secret", (Outcome::Ok, Guard::Noted, 0, 0));
        check("mask", path, "secret", (Outcome::Ok, Guard::Changed, 0, 0));
        check(
            "block",
            path,
            "secret",
            (Outcome::GuardBlocked, Guard::Blocked, 0, 0),
        );
        check(
            "answer.block",
            path,
            "secret",
            (Outcome::GuardBlocked, Guard::Blocked, 0, 0),
        );
    }
}
