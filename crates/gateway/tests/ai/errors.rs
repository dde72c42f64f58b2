//! What is refused, and in whose words; keys in every place.

use super::kit::*;
use serde_json::{Value, json};
use store::outcome::Outcome;

/// The fields of an error that a client reads: kind and message.
fn error_of(path: &str, body: &Value) -> (String, String) {
    let text = |at: &str| body.pointer(at).and_then(Value::as_str).unwrap_or("").to_owned();
    if path.contains("/messages") {
        assert_eq!(body["type"], "error", "{body}");
        (text("/error/type"), text("/error/message"))
    } else if path.contains("models/") {
        assert!(body["error"]["code"].is_u64(), "{body}");
        (text("/error/status"), text("/error/message"))
    } else {
        (text("/error/code"), text("/error/message"))
    }
}

#[test]
fn bad_requests_in_each_format() {
    let fake = Fake::new(|_| reply(200, "", ANSWER));
    let site = Site::before(
        &fake,
        json!({
            "gateway": { "body_max_bytes": 2048 },
            "consumers": [{ "name": "narrow", "models": ["fast"], "keys": [{ "value": "nk" }] }],
        }),
    );
    let key = "authorization: Bearer ck\r\n";
    let check = |path: &str, headers: &str, body: &[u8], expected: (u16, &str, &str, Outcome)| {
        let got = site.send("POST", path, headers, body);
        let shown = String::from_utf8_lossy(body);
        assert_eq!(got.status, expected.0, "{path} {shown}: {}", got.body);
        let (kind, message) = error_of(path, &got.json());
        assert_eq!(kind, expected.1, "{path} {shown}: {}", got.body);
        assert!(message.contains(expected.2), "{path} {shown}: {message}");
        let record = site.record();
        assert_eq!(record.outcome, expected.3, "{path} {shown}");
        assert_eq!(record.status, expected.0);
        let id = got.header("x-request-id").expect("an id");
        assert_eq!(gateway::ai::id_text(&record.request_id), id);
        for secret in [PROVIDER_KEY, "127.0.0.1", &fake.address.port().to_string()] {
            assert!(
                !got.body.contains(secret) && !got.head.contains(secret),
                "{}",
                got.body
            );
        }
    };
    let bad = Outcome::ClientError;
    let gemini = "/v1beta/models/fast:generateContent";
    for (path, kind) in [
        ("/v1/chat/completions", "invalid_request"),
        ("/v1/responses", "invalid_request"),
        ("/v1/messages", "invalid_request_error"),
        (gemini, "INVALID_ARGUMENT"),
    ] {
        check(path, key, b"{\"model\":", (400, kind, "not JSON", bad));
        check(path, key, b"", (400, kind, "empty", bad));
        check(path, key, b"[]", (400, kind, "JSON object", bad));
        check(path, key, b"{\"a\":\"\xff\"}", (400, kind, "not UTF-8", bad));
        check(
            path,
            key,
            &[b' '; 2049],
            (
                413,
                match kind {
                    "invalid_request" => "request_too_large",
                    "invalid_request_error" => "request_too_large",
                    _ => "INVALID_ARGUMENT",
                },
                "longer than 2048",
                Outcome::TooLarge,
            ),
        );
    }
    for path in ["/v1/chat/completions", "/v1/responses", "/v1/messages"] {
        let kind = if path == "/v1/messages" {
            "invalid_request_error"
        } else {
            "invalid_request"
        };
        check(
            path,
            key,
            b"{\"model\":7}",
            (400, kind, "`model` must be a string", bad),
        );
        check(path, key, b"{}", (400, kind, "`model` is missing", bad));
        check(
            path,
            key,
            br#"{"model":"fast","model":"fast"}"#,
            (400, kind, "once", bad),
        );
        check(
            path,
            key,
            br#"{"model":"fast","stream":1}"#,
            (400, kind, "`stream`", bad),
        );
        let kind = if path == "/v1/messages" {
            "not_found_error"
        } else {
            "model_not_found"
        };
        let unknown = br#"{"model":"no-such","max_tokens":5}"#;
        check(path, key, unknown, (404, kind, "no-such", Outcome::UnknownModel));
        check(
            path,
            "x-api-key: nk\r\n",
            br#"{"model":"oa/gpt-4o-mini"}"#,
            (404, kind, "may not use", Outcome::UnknownModel),
        );
        let kind = if path == "/v1/messages" {
            "invalid_request_error"
        } else {
            "ambiguous_model"
        };
        check(
            path,
            key,
            br#"{"model":"twice"}"#,
            (400, kind, "any/twice, oa/twice", Outcome::UnknownModel),
        );
        let kind = |code| {
            if path == "/v1/messages" {
                "authentication_error"
            } else {
                code
            }
        };
        let nobody = Outcome::Unauthenticated;
        check(
            path,
            "",
            br#"{"model":"fast"}"#,
            (401, kind("missing_key"), "needs a key", nobody),
        );
        check(
            path,
            "authorization: Bearer no\r\n",
            br#"{"model":"fast"}"#,
            (401, kind("invalid_key"), "not valid", nobody),
        );
    }
    check(
        gemini,
        "",
        b"{}",
        (401, "UNAUTHENTICATED", "needs a key", Outcome::Unauthenticated),
    );
    check(
        "/v1beta/models/none:generateContent",
        key,
        b"{}",
        (404, "NOT_FOUND", "none", Outcome::UnknownModel),
    );
    // A request that its own format does not allow, where it must be read to be said otherwise.
    check(
        "/v1/chat/completions",
        key,
        br#"{"model":"an/claude-haiku-4-5","messages":7}"#,
        (400, "invalid_request", "messages", bad),
    );
    check(
        "/v1/messages",
        key,
        br#"{"model":"fast","max_tokens":5,"messages":[{"role":"user","content":7}]}"#,
        (400, "invalid_request_error", "content", bad),
    );
    // What is known and not done here.
    let unsupported = Outcome::NotSupported;
    check(
        "/v1/batches",
        key,
        b"{}",
        (501, "not_supported", "/v1/batches", unsupported),
    );
    check(
        "/v1/messages/batches",
        key,
        b"{}",
        (501, "api_error", "/v1/messages/batches", unsupported),
    );
    check(
        "/v1/nothing",
        key,
        b"{}",
        (404, "not_found", "nothing is served", Outcome::NotFound),
    );
    assert_eq!(fake.take().len(), 0, "nobody was asked");
}

#[test]
fn methods() {
    let fake = Fake::new(|_| reply(200, "", ANSWER));
    let site = Site::before(&fake, json!({}));
    let check = |method: &str, path: &str, status: u16| {
        let got = site.send(method, path, "authorization: Bearer ck\r\n", b"");
        assert_eq!(got.status, status, "{method} {path}: {}", got.body);
        assert_eq!(got.header("allow"), Some("post"), "{method} {path}: {}", got.head);
    };
    for path in [
        "/v1/chat/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1/embeddings",
        "/v1/images/generations",
    ] {
        check("GET", path, 405);
        check("DELETE", path, 405);
    }
    assert_eq!(fake.take().len(), 0, "nobody was asked");
}

#[test]
fn keys_in_every_place_and_none_goes_on() {
    let fake = Fake::new(|_| reply(200, "", ANSWER));
    let site = Site::before(&fake, json!({}));
    let check = |query: &str, headers: &str, status: u16| {
        let got = site.post_with(&format!("/v1/chat/completions{query}"), headers, chat("fast"));
        assert_eq!(got.status, status, "{query} {headers} {}", got.body);
        if status != 200 {
            assert_eq!(fake.take().len(), 0);
            return;
        }
        let seen = fake.one();
        assert_eq!(seen.line, "POST /v1/chat/completions");
        let all = format!("{:?}", seen.headers);
        assert!(!all.contains("ck\"") && !all.contains(" ck"), "{all}");
        let bearer = format!("Bearer {PROVIDER_KEY}");
        assert_eq!(seen.header("authorization"), Some(bearer.as_str()));
        for name in ["x-api-key", "api-key", "x-goog-api-key"] {
            assert_eq!(seen.header(name), None);
        }
    };
    check("", "authorization: Bearer ck\r\n", 200);
    check("", "authorization: bearer ck\r\n", 200);
    check("", "x-api-key: ck\r\n", 200);
    check("", "x-goog-api-key: ck\r\n", 200);
    check("", "api-key: ck\r\n", 200);
    check("?key=ck", "", 200);
    check("?key=%63k&a=1", "", 200);
    check("?key=ck", "x-api-key: ck\r\napi-key: ck\r\n", 200);
    check("?key=ck", "authorization: Bearer other\r\n", 401);
    check("", "authorization: Basic Y2s6\r\n", 401);
    check("", &format!("authorization: Bearer {PROVIDER_KEY}\r\n"), 401);
    check("", "", 401);
}

#[test]
fn headers_of_either_side_stay_there() {
    let account = "openai-organization: acme-inc\r\nx-ratelimit-remaining-requests: 9\r\nset-cookie: __cf_bm=1\r\n\
        anthropic-organization-id: acme\r\nx-request-id: req_theirs\r\nserver: cloudflare\r\n";
    let fake = Fake::new(move |seen| {
        if seen.body.contains("true") {
            deltas(&["x"])
        } else {
            reply(200, account, ANSWER)
        }
    });
    let site = Site::before(
        &fake,
        json!({ "providers": [{
            "name": "oa", "kind": "openai", "base_url": format!("http://{}/v1", fake.address),
            "keys": [{ "value": PROVIDER_KEY }], "headers": { "x-mine": "yes" }, "models": ["gpt-4o-mini"],
        }]}),
    );
    let sent = "authorization: Bearer ck\r\ncookie: session=1\r\nx-forwarded-for: 9.9.9.9\r\nproxy-authorization: Basic x\r\n\
        te: trailers\r\nkeep-alive: 5\r\nopenai-organization: client-org\r\nopenai-beta: assistants=v2\r\nuser-agent: sdk/1\r\n\
        x-stainless-os: Linux\r\nanthropic-beta: b1\r\naccept-encoding: gzip, br\r\nx-mine: no\r\n";
    for body in [chat("fast"), chat_stream("fast")] {
        let got = site.post_with("/v1/chat/completions", sent, body);
        assert_eq!(got.status, 200);
        for word in ["acme", "ratelimit", "set-cookie", "req_theirs", "cloudflare"] {
            assert!(!got.head.contains(word), "{word} in {}", got.head);
        }
        let seen = fake.one();
        for name in [
            "cookie",
            "x-forwarded-for",
            "proxy-authorization",
            "te",
            "keep-alive",
            "openai-organization",
            "x-stainless-os",
            "accept-encoding",
            "via",
            "forwarded",
            "x-request-id",
        ] {
            assert_eq!(seen.header(name), None, "{name}");
        }
        assert_eq!(seen.header("openai-beta"), Some("assistants=v2"));
        assert_eq!(seen.header("x-mine"), Some("yes"));
        assert!(
            seen.header("user-agent")
                .is_some_and(|agent| agent.starts_with("weir/"))
        );
        let hosts: Vec<_> = seen.headers.iter().filter(|(name, _)| name == "host").collect();
        assert_eq!(hosts.len(), 1);
        assert_eq!(hosts[0].1, fake.address.to_string());
    }
}

#[test]
fn errors_of_providers() {
    let fake = Fake::new(|_| Vec::new());
    let site = Site::before(&fake, json!({}));
    let leak = format!("Incorrect API key provided: {PROVIDER_KEY}. You can find it at https://x");
    let check = |answer: Vec<Step>, expected: (u16, Outcome), words: &str| {
        for (path, body) in [
            ("/v1/chat/completions", chat("fast")),
            (
                "/v1/messages",
                r#"{"model":"fast","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#.to_owned(),
            ),
        ] {
            fake.says(answer.clone());
            let got = site.post(path, body);
            let record = site.record();
            assert_eq!((got.status, record.outcome), expected, "{path} {}", got.body);
            assert!(
                error_of(path, &got.json()).1.contains(words),
                "{path} {}",
                got.body
            );
            assert!(!got.body.contains("sk-provi"), "{}", got.body);
            assert!(!got.body.contains("127.0.0.1"), "{}", got.body);
            // What was sent whole, and got no answer that can be read, may still be billed.
            let is_billed = matches!(
                record.outcome,
                Outcome::BrokenReply | Outcome::ProviderUnreachable
            );
            assert_eq!(record.cost_pusd > 0, is_billed, "{}", got.body);
        }
    };
    let error = |words: &str| json!({"error": {"message": words, "type": "t", "code": null}}).to_string();
    check(
        reply(400, "", error("bad temperature")),
        (400, Outcome::ClientError),
        "bad temperature",
    );
    check(reply(422, "", error("no")), (422, Outcome::ClientError), "no");
    check(
        reply(401, "", error(&leak)),
        (502, Outcome::ProviderAuth),
        "credentials",
    );
    check(
        reply(403, "", error(&leak)),
        (502, Outcome::ProviderAuth),
        "credentials",
    );
    check(reply(400, "", error(&leak)), (400, Outcome::ClientError), "[key]");
    check(
        reply(500, "", "<html>oops</html>"),
        (502, Outcome::ProviderError),
        "",
    );
    check(
        reply(503, "", error("busy")),
        (503, Outcome::ProviderError),
        "busy",
    );
    check(
        reply(429, "retry-after: 7\r\n", error("slow down")),
        (429, Outcome::ProviderRateLimited),
        "slow down",
    );
    check(reply(200, "", "{\"id\":"), (502, Outcome::BrokenReply), "broken");
    check(reply(200, "", "<html>"), (502, Outcome::BrokenReply), "broken");
    check(
        Vec::new(),
        (502, Outcome::ProviderUnreachable),
        "cannot be reached",
    );
    check(
        vec![Step::Bytes(b"SSH-2.0-x\r\n".to_vec())],
        (502, Outcome::ProviderUnreachable),
        "cannot be reached",
    );
    let site = Site::before(&fake, json!({}));
    fake.says(reply(429, "retry-after: 7\r\n", "{}"));
    let got = site.post("/v1/chat/completions", chat("fast"));
    assert_eq!(got.header("retry-after"), Some("7"));
}
