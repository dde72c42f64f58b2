//! Answers against the shapes of recorded traffic, and recorded requests against the strictness.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::common::http;
use crate::common::simulator::Simulator;
use crate::{BEARER, CLAUDE, GENERATE, GOOGLE, STREAM, chat, contents, messages, recorded, with};

/// Every path of keys in a document; names below `opaque` keys are the caller's.
fn paths(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    const OPAQUE: [&str; 3] = ["args", "input", "arguments"];
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let path = format!("{at}.{key}");
                if !OPAQUE.contains(&key.as_str()) {
                    paths(inner, &path, found);
                }
                found.insert(path);
            }
        }
        Value::Array(list) => {
            for inner in list {
                paths(inner, &format!("{at}[]"), found);
            }
        }
        _ => {}
    }
}

fn paths_of<'a>(values: impl IntoIterator<Item = &'a Value>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for value in values {
        paths(value, "", &mut found);
    }
    found
}

/// What was answered has no path that no recorded document has, and all that each of them has.
#[track_caller]
pub(crate) fn check_shape(answered: &[Value], recorded: &[Value]) {
    let all = paths_of(recorded);
    let of_each: Vec<BTreeSet<String>> = recorded.iter().map(|one| paths_of([one])).collect();
    let answered_paths = paths_of(answered);
    let unknown: Vec<_> = answered_paths.difference(&all).collect();
    assert!(unknown.is_empty(), "never recorded: {unknown:?}");
    let missing: Vec<_> = all
        .iter()
        .filter(|path| of_each.iter().all(|one| one.contains(*path)) && !answered_paths.contains(*path))
        .collect();
    assert!(
        missing.is_empty(),
        "in every recorded document, not here: {missing:?}"
    );
}

pub(crate) fn bodies(interactions: &[Value]) -> Vec<Value> {
    interactions
        .iter()
        .map(|one| one["response"]["body_json"].clone())
        .collect()
}

/// The documents of a recorded stream.
pub(crate) fn events(interaction: &Value) -> Vec<Value> {
    let body = interaction["response"]["body"].as_str().unwrap();
    let data = body
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter(|data| *data != "[DONE]");
    data.filter_map(|data| serde_json::from_str(data).ok()).collect()
}

#[test]
fn chat_is_as_recorded() {
    let sim = Simulator::start(&[]);
    let post = |body: &Value| http::post(sim.addr, "/v1/chat/completions", &[BEARER], body);
    let answer = post(&chat("say: Grüße 🙂")).json();
    assert_eq!(answer["choices"][0]["message"]["content"], "Grüße 🙂");
    check_shape(
        &[answer],
        &bodies(&recorded(&["api.openai.com/v1/chat/completions"], false)),
    );

    let options = json!({"stream": true, "stream_options": {"include_usage": true}});
    let streamed = post(&with(chat("say: Grüße 🙂"), options));
    assert_eq!(
        streamed.header("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    assert!(streamed.text().ends_with("data: [DONE]\n\n"));
    let events = streamed.events();
    let text: String = events
        .iter()
        .filter_map(|one| one["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, "Grüße 🙂");
    let usage = &events.last().unwrap()["usage"];
    assert_eq!(usage["completion_tokens"], 3);
    let of_recorded: Vec<Value> = recorded(&["api.openai.com/v1/chat/completions"], true)
        .iter()
        .flat_map(self::events)
        .collect();
    check_shape(&events, &of_recorded);
}

#[test]
fn messages_are_as_recorded() {
    let sim = Simulator::start(&[]);
    let post = |body: &Value| http::post(sim.addr, "/v1/messages", &CLAUDE, body);
    let answer = post(&messages("say: Grüße 🙂")).json();
    assert_eq!(answer["content"], json!([{"type": "text", "text": "Grüße 🙂"}]));
    let thinking = json!({"max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 2000}});
    let thought = post(&with(messages("think: hm\nsay: so"), thinking.clone())).json();
    assert_eq!(thought["content"][0]["thinking"], "hm");
    let plain = recorded(&["api.anthropic.com/v1/messages?"], false);
    check_shape(&[answer.clone(), thought], &bodies(&plain));

    let streamed = post(&with(
        with(messages("say: Grüße 🙂"), thinking),
        json!({"stream": true}),
    ));
    let events = streamed.events();
    let deltas: String = events
        .iter()
        .filter_map(|one| one["delta"]["text"].as_str())
        .collect();
    assert_eq!(deltas, "Grüße 🙂");
    let end = events.iter().find(|one| one["type"] == "message_delta").unwrap();
    assert_eq!(end["delta"]["stop_reason"], "end_turn");
    let of_recorded: Vec<Value> = recorded(&["api.anthropic.com/v1/messages?"], true)
        .iter()
        .flat_map(self::events)
        .collect();
    check_shape(&events, &of_recorded);
}

#[test]
fn gemini_is_as_recorded() {
    let sim = Simulator::start(&[]);
    let answer = http::post(sim.addr, GENERATE, &[GOOGLE], &contents("say: Grüße 🙂")).json();
    assert_eq!(
        answer["candidates"][0]["content"]["parts"],
        json!([{"text": "Grüße 🙂"}])
    );
    let thinking = json!({"generationConfig": {"thinkingConfig": {"includeThoughts": true}}});
    let thought = http::post(
        sim.addr,
        GENERATE,
        &[GOOGLE],
        &with(contents("think: hm\nsay: so"), thinking),
    )
    .json();
    assert_eq!(
        thought["candidates"][0]["content"]["parts"][0],
        json!({"text": "hm", "thought": true})
    );
    check_shape(
        &[answer, thought],
        &bodies(&recorded(&[":generateContent"], false)),
    );

    let streamed = http::post(sim.addr, STREAM, &[GOOGLE], &contents("say: Grüße 🙂"));
    let events = streamed.events();
    let text: String = events
        .iter()
        .filter_map(|one| one["candidates"][0]["content"]["parts"][0]["text"].as_str())
        .collect();
    assert_eq!(text, "Grüße 🙂");
    assert_eq!(events.last().unwrap()["candidates"][0]["finishReason"], "STOP");
    let of_recorded: Vec<Value> = recorded(&[":streamGenerateContent?alt=sse"], true)
        .iter()
        .flat_map(self::events)
        .collect();
    check_shape(&events, &of_recorded);

    // Without `alt=sse` the stream is one array.
    let path = STREAM.trim_end_matches("?alt=sse");
    let array = http::post(sim.addr, path, &[GOOGLE], &contents("say: Grüße 🙂")).json();
    assert_eq!(array, Value::Array(events));
}

#[test]
fn what_providers_took_is_taken() {
    let sim = Simulator::start(&[]);
    let mut refused = Vec::new();
    for (place, path, headers) in [
        (
            "api.openai.com/v1/chat/completions",
            "/v1/chat/completions",
            &[BEARER][..],
        ),
        ("api.anthropic.com/v1/messages?", "/v1/messages", &CLAUDE),
        ("generativelanguage.googleapis.com/v1beta/models/", "", &[GOOGLE]),
    ] {
        for one in recorded(&[place], false) {
            let request = &one["request"];
            let uri = request["uri"].as_str().unwrap();
            let path = if path.is_empty() {
                uri.split_once(".com").unwrap().1
            } else {
                path
            };
            let answer = http::post(sim.addr, path, headers, &request["body_json"]);
            if answer.status != 200 {
                refused.push(format!("{uri} {}", answer.text()));
            }
        }
    }
    assert!(refused.is_empty(), "{refused:#?}");
}
