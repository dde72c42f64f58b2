//! Guardrails and personal data, either way.

use super::kit::*;
use serde_json::{Value, json};
use store::calls::Guard;
use store::outcome::Outcome;

fn rails(fake: &Fake, rail: Value) -> Site {
    let mut rail = rail;
    rail["name"] = "rail".into();
    Site::before(
        fake,
        json!({ "guardrails": [rail], "gateway": { "guardrails": ["rail"] } }),
    )
}

fn asked(text: &str, stream: bool) -> String {
    json!({ "model": "fast", "stream": stream, "messages": [{ "role": "user", "content": text }] })
        .to_string()
}

fn answer(text: &str) -> Vec<Step> {
    reply(200, "", json!({
        "id": "c", "object": "chat.completion", "created": 1, "model": "g",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 },
    }).to_string())
}

#[test]
fn requests() {
    let fake = Fake::new(|_| answer("fine"));
    // A rail, a text, what the provider sees of it, what the record says.
    let check = |rail: Value, text: &str, seen: Option<&str>, expected: (Guard, u32)| {
        let site = rails(&fake, rail);
        for stream in [false, true] {
            fake.says(if stream { deltas(&["fine"]) } else { answer("fine") });
            let got = site.post("/v1/chat/completions", asked(text, stream));
            let record = site.record();
            assert_eq!((record.guard, record.pii_in), expected, "{text}");
            match seen {
                Some(seen) => {
                    assert_eq!(got.status, 200, "{}", got.body);
                    assert_eq!(fake.one().json()["messages"][0]["content"], seen);
                }
                None => {
                    assert_eq!(got.status, 400, "{}", got.body);
                    let error = &got.json()["error"];
                    assert_eq!(error["code"], "content_blocked");
                    assert!(
                        error["message"]
                            .as_str()
                            .is_some_and(|text| text.contains("`rail`"))
                    );
                    assert_eq!((record.outcome, fake.take().len()), (Outcome::GuardBlocked, 0));
                }
            }
        }
    };
    let on = "request";
    check(
        json!({ "words": ["secret"], "on": on }),
        "a SECRET thing",
        None,
        (Guard::Blocked, 0),
    );
    check(
        json!({ "patterns": ["[0-9]{4}-x"], "on": on }),
        "is 1234-x",
        None,
        (Guard::Blocked, 0),
    );
    check(
        json!({ "words": ["secret"], "on": on }),
        "secretary",
        Some("secretary"),
        (Guard::Passed, 0),
    );
    check(
        json!({ "words": ["secret"], "on": on, "action": "flag" }),
        "a secret",
        Some("a secret"),
        (Guard::Noted, 0),
    );
    check(
        json!({ "words": ["secret"], "on": "answer" }),
        "a secret",
        Some("a secret"),
        (Guard::Passed, 0),
    );
    check(
        json!({ "pii": [{ "kind": "email" }] }),
        "to ada@example.org and bob@example.org",
        Some("to [EMAIL] and [EMAIL]"),
        (Guard::Changed, 2),
    );
    check(
        json!({ "pii": [{ "kind": "email", "action": "reversible" }], "on": on }),
        "to ada@example.org",
        Some("to [EMAIL_1]"),
        (Guard::Changed, 1),
    );
    check(
        json!({ "pii": [{ "kind": "email" }], "on": "answer" }),
        "to ada@example.org",
        Some("to ada@example.org"),
        (Guard::Passed, 0),
    );
}

#[test]
fn other_formats_and_operations() {
    let fake = Fake::new(|_| answer("fine"));
    let site = rails(&fake, json!({ "words": ["secret"] }));
    for (path, body) in [
        (
            "/v1/chat/completions",
            r#"{"model":"fast","messages":[{"role":"system","content":"a secret"}]}"#,
        ),
        (
            "/v1/chat/completions",
            r#"{"model":"fast","messages":[{"role":"user","content":[{"type":"text","text":"a secret"}]}]}"#,
        ),
        (
            "/v1/chat/completions",
            r#"{"model":"fast","messages":[{"role":"tool","tool_call_id":"1","content":"a secret"}]}"#,
        ),
        ("/v1/responses", r#"{"model":"fast","input":"a secret"}"#),
        (
            "/v1/responses",
            r#"{"model":"fast","instructions":"a secret","input":"x"}"#,
        ),
        (
            "/v1/messages",
            r#"{"model":"fast","max_tokens":5,"system":"a secret","messages":[{"role":"user","content":"x"}]}"#,
        ),
        (
            "/v1beta/models/fast:generateContent",
            r#"{"contents":[{"role":"user","parts":[{"text":"a secret"}]}]}"#,
        ),
        (
            "/v1/embeddings",
            r#"{"model":"text-embedding-3-small","input":"a secret"}"#,
        ),
        (
            "/v1/embeddings",
            r#"{"model":"text-embedding-3-small","input":["x","a secret"]}"#,
        ),
        ("/v1/completions", r#"{"model":"any/free","prompt":"a secret"}"#),
        (
            "/v1/rerank",
            r#"{"model":"any/free","query":"x","documents":["a secret"]}"#,
        ),
    ] {
        let got = site.post(path, body);
        assert_eq!(got.status, 400, "{path} {body} {}", got.body);
        assert!(got.body.contains("rail"), "{}", got.body);
        let record = site.record();
        assert_eq!(
            (record.guard, record.outcome),
            (Guard::Blocked, Outcome::GuardBlocked),
            "{path} {body}"
        );
    }
    assert_eq!(fake.take().len(), 0, "nobody was asked");
}

#[test]
fn answers() {
    let fake = Fake::new(|_| Vec::new());
    let check = |rail: Value, pieces: &[&str], said_whole: Option<&str>, expected: (Guard, u32)| {
        let site = rails(&fake, rail.clone());
        fake.says(answer(&pieces.concat()));
        let got = site.post("/v1/chat/completions", asked("hi", false));
        let record = site.record();
        assert_eq!((record.guard, record.pii_out), expected, "{rail}");
        match said_whole {
            Some(text) => assert_eq!(got.json()["choices"][0]["message"]["content"], text),
            None => {
                assert_eq!(
                    (got.status, record.outcome),
                    (400, Outcome::GuardBlocked),
                    "{}",
                    got.body
                );
                assert!(record.cost_pusd > 0, "the provider has answered all the same");
            }
        }
        fake.says(deltas(pieces));
        let got = site.post("/v1/chat/completions", asked("hi", true));
        let record = site.record();
        assert_eq!(
            (record.guard, record.pii_out),
            expected,
            "{rail}, streamed: {}",
            got.body
        );
        match said_whole {
            Some(text) => {
                assert_eq!(said(&got.body), text, "{}", got.body);
                assert!(got.body.ends_with("data: [DONE]\n\n"), "{}", got.body);
                assert_eq!(record.outcome, Outcome::Ok);
            }
            None => {
                assert_eq!(record.outcome, Outcome::GuardBlocked);
                assert!(
                    !got.body.contains("secret") && !said(&got.body).contains("sec"),
                    "{}",
                    got.body
                );
                assert!(got.body.contains("content_blocked"), "{}", got.body);
            }
        }
    };
    let words = |action: &str| json!({ "words": ["secret"], "on": "answer", "action": action });
    check(
        words("block"),
        &["It is a ", "sec", "ret", " thing."],
        None,
        (Guard::Blocked, 0),
    );
    check(
        words("block"),
        &["It is a sec", "retary."],
        Some("It is a secretary."),
        (Guard::Passed, 0),
    );
    check(
        words("flag"),
        &["a sec", "ret."],
        Some("a secret."),
        (Guard::Noted, 0),
    );
    check(
        json!({ "pii": [{ "kind": "email" }] }),
        &["Write to ad", "a@exam", "ple.org", " now."],
        Some("Write to [EMAIL] now."),
        (Guard::Changed, 1),
    );
}

#[test]
fn what_was_taken_out_is_put_back() {
    let fake = Fake::new(|_| Vec::new());
    let site = rails(
        &fake,
        json!({ "pii": [{ "kind": "email", "action": "reversible" }], "on": "request" }),
    );
    let request = "I am ada@example.org.";
    let check = |path: &str, body: String, steps: Vec<Step>, expected: &dyn Fn(&str) -> bool| {
        fake.says(steps);
        let got = site.post(path, body);
        assert_eq!(got.status, 200, "{}", got.body);
        assert!(expected(&got.body), "{path} {}", got.body);
        let seen = fake.one();
        assert!(
            seen.body.contains("[EMAIL_1]") && !seen.body.contains("ada@"),
            "{}",
            seen.body
        );
        let record = site.record();
        assert_eq!((record.pii_in, record.guard), (1, Guard::Changed));
    };
    check(
        "/v1/chat/completions",
        asked(request, false),
        answer("Hello [EMAIL_1]!"),
        &|body| body.contains("Hello ada@example.org!"),
    );
    for pieces in [
        &["Hello [EMAIL_1]!"][..],
        &["Hello [", "EM", "AIL_", "1", "]", "!"],
        &["Hello ", "[EMAIL_1", "]!"],
    ] {
        check(
            "/v1/chat/completions",
            asked(request, true),
            deltas(pieces),
            &|body| said(body) == "Hello ada@example.org!",
        );
    }
    let messages =
        json!({ "model": "fast", "max_tokens": 9, "messages": [{ "role": "user", "content": request }] })
            .to_string();
    check("/v1/messages", messages, answer("Hello [EMAIL_1]!"), &|body| {
        body.contains("Hello ada@example.org!")
    });
    // What a model calls a tool with is for the client too.
    let call = json!({
        "id": "c", "object": "chat.completion", "created": 1, "model": "g",
        "choices": [{ "index": 0, "finish_reason": "tool_calls", "message": { "role": "assistant", "content": null, "tool_calls": [
            { "id": "t", "type": "function", "function": { "name": "send", "arguments": "{\"to\":\"[EMAIL_1]\"}" } },
        ] } }],
    }).to_string();
    check(
        "/v1/chat/completions",
        asked(request, false),
        reply(200, "", call),
        &|body| body.contains("ada@example.org"),
    );
}

/// Arguments of tools in pieces, as OpenAI streams them: looked at as a whole document, put back, held back.
#[test]
fn streamed_arguments_of_tools() {
    let fake = Fake::new(|_| Vec::new());
    let chunk = |delta: Value, finish: Value| {
        let choices = json!([{ "index": 0, "delta": delta, "finish_reason": finish }]);
        let chunk = json!({ "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "g", "choices": choices });
        format!("data: {chunk}\n\n")
    };
    let called = |pieces: &[&str]| {
        let call = |call: Value| chunk(json!({ "tool_calls": [call] }), Value::Null);
        let mut events = vec![call(
            json!({ "index": 0, "id": "t", "type": "function", "function": { "name": "send", "arguments": "" } }),
        )];
        events.extend(
            pieces
                .iter()
                .map(|piece| call(json!({ "index": 0, "function": { "arguments": piece } }))),
        );
        events.extend([
            chunk(json!({}), "tool_calls".into()),
            USAGE.to_owned(),
            DONE.to_owned(),
        ]);
        stream(&events, true)
    };
    let arguments = |body: &str| -> String {
        let events = body.lines().filter_map(|line| line.strip_prefix("data: "));
        let events = events.filter_map(|data| serde_json::from_str::<Value>(data).ok());
        let texts = events.filter_map(|event| {
            let text = event.pointer("/choices/0/delta/tool_calls/0/function/arguments")?;
            Some(text.as_str()?.to_owned())
        });
        texts.collect()
    };
    let check = |rail: Value, asks: &str, pieces: &[&str], expected: Option<&str>, outcome: Outcome| {
        let site = rails(&fake, rail.clone());
        fake.says(called(pieces));
        let got = site.post("/v1/chat/completions", asked(asks, true));
        let record = site.record();
        assert_eq!(record.outcome, outcome, "{rail}: {}", got.body);
        match expected {
            Some(text) => assert_eq!(arguments(&got.body), text, "{rail}: {}", got.body),
            None => {
                assert_eq!(arguments(&got.body), "", "{rail}: {}", got.body);
                assert!(got.body.contains("content_blocked"), "{}", got.body);
            }
        }
    };
    let reversible = json!({ "pii": [{ "kind": "email", "action": "reversible" }], "on": "request" });
    check(
        reversible,
        "I am ada@example.org.",
        &["{\"to\":\"[EM", "AIL_1", "]\"}"],
        Some(r#"{"to":"ada@example.org"}"#),
        Outcome::Ok,
    );
    let words = |action: &str| json!({ "words": ["secret"], "on": "answer", "action": action });
    check(
        words("block"),
        "hi",
        &["{\"a\":\"sec", "ret\"}"],
        None,
        Outcome::GuardBlocked,
    );
    check(
        words("block"),
        "hi",
        &["{\"a\":\"s\\u0065c", "ret\"}"],
        None,
        Outcome::GuardBlocked,
    );
    check(
        words("mask"),
        "hi",
        &["{\"a\":\"a sec", "ret\"}"],
        Some(r#"{"a":"a [MASKED]"}"#),
        Outcome::Ok,
    );
    check(
        json!({ "pii": [{ "kind": "email" }] }),
        "hi",
        &["{\"a\":[\"ada@exam", "ple.org\"]}"],
        Some(r#"{"a":["[EMAIL]"]}"#),
        Outcome::Ok,
    );
    // Not JSON: looked at as a text.
    check(
        words("mask"),
        "hi",
        &["a sec", "ret"],
        Some("a [MASKED]"),
        Outcome::Ok,
    );
    check(
        words("block"),
        "hi",
        &["{\"a\": ", "1}"],
        Some("{\"a\": 1}"),
        Outcome::Ok,
    );
}
