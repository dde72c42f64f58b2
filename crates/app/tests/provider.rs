//! `weir lab provider`: every wire against the shapes of recorded traffic, its trouble, its journal.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::PathBuf;

use serde_json::{Value, json};

mod common;

use common::http::{self, Answer};
use common::simulator::Simulator;

const BEARER: (&str, &str) = ("authorization", "Bearer sk-sim");
const CLAUDE: [(&str, &str); 2] = [("x-api-key", "sk-sim"), ("anthropic-version", "2023-06-01")];
const GOOGLE: (&str, &str) = ("x-goog-api-key", "sk-sim");
const GENERATE: &str = "/v1beta/models/gemini-2.5-flash:generateContent";
const STREAM: &str = "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse";

fn user(text: &str) -> Value {
    json!([{"role": "user", "content": text}])
}

fn chat(text: &str) -> Value {
    json!({"model": "gpt-4o-mini", "messages": user(text)})
}

fn messages(text: &str) -> Value {
    json!({"model": "claude-sonnet-4-5", "max_tokens": 1000, "messages": user(text)})
}

fn contents(text: &str) -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": text}]}]})
}

/// The object with more fields.
fn with(mut base: Value, more: Value) -> Value {
    let Value::Object(more) = more else {
        panic!("expected an object");
    };
    base.as_object_mut().expect("an object").extend(more);
    base
}

/// Responses of recorded calls whose address contains one of `places`.
fn recorded(places: &[&str], is_stream: bool) -> Vec<Value> {
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let shared = std::env::var_os("WEIR_SHARED").map_or_else(|| workspace.join("../shared"), PathBuf::from);
    let root = shared.join("data/ai/recorded");
    let mut found = Vec::new();
    for folder in std::fs::read_dir(&root).expect("recorded traffic; name its folder by WEIR_SHARED") {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            let cassette: Value = serde_json::from_slice(&bytes).unwrap();
            for one in cassette["interactions"].as_array().unwrap() {
                let uri = one["request"]["uri"].as_str().unwrap_or_default();
                if !places.iter().any(|place| uri.contains(place)) || one["response"]["status"] != 200 {
                    continue;
                }
                match (is_stream, &one["response"]["body_json"], &one["response"]["body"]) {
                    (false, Value::Object(_), _) => found.push(one.clone()),
                    (true, _, Value::String(_)) => found.push(one.clone()),
                    _ => {}
                }
            }
        }
    }
    assert!(found.len() > 1, "recorded calls of {places:?}");
    found
}

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
fn check_shape(answered: &[Value], recorded: &[Value]) {
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

fn bodies(interactions: &[Value]) -> Vec<Value> {
    interactions
        .iter()
        .map(|one| one["response"]["body_json"].clone())
        .collect()
}

/// The documents of a recorded stream.
fn events(interaction: &Value) -> Vec<Value> {
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

#[test]
fn tools_are_called_and_heard() {
    let sim = Simulator::start(&[]);
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let asked = "call: weather {\"city\":\"Köln\"}\ncall: weather {\"city\":\"Rom\"}";

    let tools =
        json!({"tools": [{"type": "function", "function": {"name": "weather", "parameters": schema}}]});
    let answer = http::post(
        sim.addr,
        "/v1/chat/completions",
        &[BEARER],
        &with(chat(asked), tools.clone()),
    )
    .json();
    let calls = answer["choices"][0]["message"]["tool_calls"].as_array().unwrap();
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(
        calls[1]["function"],
        json!({"name": "weather", "arguments": "{\"city\":\"Rom\"}"})
    );
    let mut history = user(asked).as_array().unwrap().clone();
    history.push(answer["choices"][0]["message"].clone());
    for call in calls {
        history.push(json!({"role": "tool", "tool_call_id": call["id"], "content": "dry"}));
    }
    let again = with(with(chat(""), tools.clone()), json!({"messages": history}));
    let answer = http::post(sim.addr, "/v1/chat/completions", &[BEARER], &again).json();
    assert_eq!(
        answer["choices"][0]["message"]["content"],
        "tool said: dry\ntool said: dry"
    );
    let streamed = with(with(chat(asked), tools.clone()), json!({"stream": true}));
    let streamed = http::post(sim.addr, "/v1/chat/completions", &[BEARER], &streamed);
    let mut arguments = [String::new(), String::new()];
    for event in streamed.events() {
        let call = &event["choices"][0]["delta"]["tool_calls"][0];
        if let Some(more) = call["function"]["arguments"].as_str() {
            arguments[call["index"].as_u64().unwrap() as usize].push_str(more);
        }
    }
    assert_eq!(arguments, ["{\"city\":\"Köln\"}", "{\"city\":\"Rom\"}"]);
    let undeclared = http::post(
        sim.addr,
        "/v1/chat/completions",
        &[BEARER],
        &with(chat("call: other {}"), tools),
    );
    assert_eq!(
        undeclared.json()["choices"][0]["message"]["content"],
        "no tool named other was declared"
    );

    let tools =
        json!({"tools": [{"name": "weather", "input_schema": schema}], "tool_choice": {"type": "any"}});
    let forced = http::post(sim.addr, "/v1/messages", &CLAUDE, &with(messages("hello"), tools)).json();
    assert_eq!(forced["stop_reason"], "tool_use");
    assert!(forced["content"][0]["input"]["city"].is_string(), "{forced}");

    let tools = json!({"tools": [{"function_declarations": [{"name": "weather", "parameters": schema}]}]});
    let answer = http::post(sim.addr, GENERATE, &[GOOGLE], &with(contents(asked), tools)).json();
    let parts = answer["candidates"][0]["content"]["parts"].as_array().unwrap();
    assert_eq!(parts[0]["functionCall"]["args"], json!({"city": "Köln"}));
    assert_eq!(parts.len(), 2);
}

#[test]
fn answers_depend_on_seed_and_request_only() {
    let ask = |sim: &Simulator| -> Vec<Vec<u8>> {
        let stream = json!({"stream": true});
        vec![
            http::post(sim.addr, "/v1/chat/completions", &[BEARER], &chat("hello")).body,
            http::post(
                sim.addr,
                "/v1/chat/completions",
                &[BEARER],
                &with(chat("hello"), stream),
            )
            .body,
            http::post(sim.addr, "/v1/messages", &CLAUDE, &messages("hello")).body,
            http::post(sim.addr, STREAM, &[GOOGLE], &contents("hello")).body,
        ]
    };
    let one = Simulator::start(&["--seed", "7"]);
    let same = Simulator::start(&["--seed", "7", "--chunking", "random"]);
    let other = Simulator::start(&["--seed", "8"]);
    assert_eq!(ask(&one), ask(&one));
    assert_eq!(ask(&one), ask(&same));
    for (one, other) in ask(&one).iter().zip(&ask(&other)) {
        assert_ne!(one, other);
    }
    // The same conversation, the same text on every wire.
    let chat = http::post(one.addr, "/v1/chat/completions", &[BEARER], &chat("hello")).json();
    let claude = http::post(one.addr, "/v1/messages", &CLAUDE, &messages("hello")).json();
    assert_eq!(
        chat["choices"][0]["message"]["content"],
        claude["content"][0]["text"]
    );
}

#[test]
fn limits_and_stops_are_kept() {
    let sim = Simulator::start(&[]);
    let post = |more: Value| {
        http::post(
            sim.addr,
            "/v1/chat/completions",
            &[BEARER],
            &with(chat("say: 0123456789"), more),
        )
    };
    let cut = post(json!({"max_tokens": 2})).json();
    assert_eq!(cut["choices"][0]["message"]["content"], "01234567");
    assert_eq!(cut["choices"][0]["finish_reason"], "length");
    assert_eq!(cut["usage"]["completion_tokens"], 2);
    let stopped = post(json!({"stop": ["7", "34"]})).json();
    assert_eq!(stopped["choices"][0]["message"]["content"], "012");
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    let claude = with(messages("say: 0123456789"), json!({"stop_sequences": ["34"]}));
    let claude = http::post(sim.addr, "/v1/messages", &CLAUDE, &claude).json();
    assert_eq!(claude["stop_reason"], "stop_sequence");
    assert_eq!(claude["stop_sequence"], "34");
    let long = with(chat("x"), json!({"model": "sim-tokens-1000"}));
    let long = http::post(sim.addr, "/v1/chat/completions", &[BEARER], &long).json();
    assert_eq!(long["usage"]["completion_tokens"], 1000);
    let gemini = with(
        contents("say: 0123456789"),
        json!({"generationConfig": {"maxOutputTokens": 1}}),
    );
    let gemini = http::post(sim.addr, GENERATE, &[GOOGLE], &gemini).json();
    assert_eq!(gemini["candidates"][0]["finishReason"], "MAX_TOKENS");
}

#[test]
fn media_schemas_and_system_prompts_are_understood() {
    let sim = Simulator::start(&[]);
    let png = "iVBORw0KGgo=";
    let part = json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{png}")}});
    let body = json!({"model": "m", "messages": [{"role": "user", "content": [part]}]});
    let answer = http::post(sim.addr, "/v1/chat/completions", &[BEARER], &body).json();
    assert_eq!(
        answer["choices"][0]["message"]["content"],
        "image image/png 8 bytes"
    );
    let part = json!({"inline_data": {"mime_type": "image/png", "data": png}});
    let body = json!({"contents": [{"parts": [part]}]});
    let answer = http::post(sim.addr, GENERATE, &[GOOGLE], &body).json();
    assert_eq!(
        answer["candidates"][0]["content"]["parts"][0]["text"],
        "image image/png 8 bytes"
    );

    let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 5, "maximum": 6}},
        "required": ["n"], "additionalProperties": false});
    let format = json!({"output_config": {"format": {"type": "json_schema", "schema": schema}}});
    let answer = http::post(
        sim.addr,
        "/v1/messages",
        &CLAUDE,
        &with(messages("a number"), format),
    )
    .json();
    let made: Value = serde_json::from_str(answer["content"][0]["text"].as_str().unwrap()).unwrap();
    assert!((5..=6).contains(&made["n"].as_i64().unwrap()), "{made}");

    let body = with(
        messages("show system"),
        json!({"system": [{"type": "text", "text": "be kind"}]}),
    );
    let answer = http::post(sim.addr, "/v1/messages", &CLAUDE, &body).json();
    assert_eq!(answer["content"][0]["text"], "be kind");
}

#[test]
fn refusals_have_the_providers_shapes() {
    let sim = Simulator::start(&[
        "--key",
        "sk-sim",
        "--key",
        "sk-empty=429",
        "--key",
        "sk-broke=402",
    ]);
    #[track_caller]
    fn check(answer: &Answer, status: u16, path: &str, expected: &str) {
        let found = answer.json();
        assert_eq!(answer.status, status, "{found}");
        assert!(
            found.pointer(path).unwrap().as_str().unwrap().contains(expected),
            "{found}"
        );
    }
    let openai = |key: &str, body: Value| {
        let bearer = format!("Bearer {key}");
        http::post(
            sim.addr,
            "/v1/chat/completions",
            &[("authorization", &bearer)],
            &body,
        )
    };
    check(
        &openai("sk-other", chat("x")),
        401,
        "/error/code",
        "invalid_api_key",
    );
    check(
        &openai("sk-empty", chat("x")),
        429,
        "/error/code",
        "insufficient_quota",
    );
    check(&openai("sk-broke", chat("x")), 402, "/error/message", "Balance");
    let none = http::post(sim.addr, "/v1/chat/completions", &[], &chat("x"));
    check(&none, 401, "/error/message", "didn't provide an API key");
    for (more, param, code) in [
        (json!({"foo": 1}), "foo", "unknown_parameter"),
        (json!({"temperature": "hot"}), "temperature", "invalid_type"),
        (
            json!({"temperature": 3}),
            "temperature",
            "decimal_above_max_value",
        ),
        (json!({"messages": []}), "messages", "empty_array"),
        (
            json!({"messages": [{"role": "chief", "content": ""}]}),
            "messages[0].role",
            "invalid_value",
        ),
        (
            json!({"messages": [{"role": "user", "content": "", "x": 1}]}),
            "messages[0].x",
            "unknown_parameter",
        ),
        (
            json!({"messages": [{"role": "user"}], "model": "sim-404x"}),
            "messages[0].content",
            "",
        ),
    ] {
        let answer = openai("sk-sim", with(chat("x"), more));
        check(&answer, 400, "/error/param", param);
        assert_eq!(answer.json()["error"]["code"].as_str().unwrap_or_default(), code);
    }
    let orphan = json!({"messages": [{"role": "tool", "tool_call_id": "a", "content": ""}]});
    check(
        &openai("sk-sim", with(chat("x"), orphan)),
        400,
        "/error/message",
        "must be a response to",
    );
    let missing = with(chat("x"), json!({"model": "sim-nothing"}));
    check(&openai("sk-sim", missing), 404, "/error/code", "model_not_found");

    let claude = |body: Value| http::post(sim.addr, "/v1/messages", &CLAUDE, &body);
    let body = json!({"model": "claude", "messages": user("x")});
    check(&claude(body), 400, "/error/message", "max_tokens: Field required");
    check(
        &claude(with(messages("x"), json!({"n": 1}))),
        400,
        "/error/message",
        "n: Extra inputs are not permitted",
    );
    let result = json!([{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a"}]}]);
    check(
        &claude(with(messages("x"), json!({"messages": result}))),
        400,
        "/error/message",
        "unexpected `tool_use_id`",
    );
    let unversioned = http::post(sim.addr, "/v1/messages", &CLAUDE[..1], &messages("x"));
    check(&unversioned, 400, "/error/message", "anthropic-version");
    let unnamed = http::post(sim.addr, "/v1/messages", &CLAUDE[1..], &messages("x"));
    check(&unnamed, 401, "/error/type", "authentication_error");

    let google = |body: Value| http::post(sim.addr, GENERATE, &[GOOGLE], &body);
    check(
        &google(with(contents("x"), json!({"foo": 1}))),
        400,
        "/error/message",
        "Unknown name \"foo\"",
    );
    check(
        &google(json!({"contents": [{"role": "chief", "parts": [{"text": ""}]}]})),
        400,
        "/error/message",
        "valid role",
    );
    let wrong = http::post(sim.addr, GENERATE, &[("x-goog-api-key", "no")], &contents("x"));
    check(&wrong, 400, "/error/details/0/reason", "API_KEY_INVALID");
    let none = http::post(sim.addr, GENERATE, &[], &contents("x"));
    check(&none, 403, "/error/status", "PERMISSION_DENIED");
    let in_query = http::post(sim.addr, &format!("{GENERATE}?key=sk-sim"), &[], &contents("x"));
    assert_eq!(in_query.status, 200);
}

#[test]
fn trouble_comes_by_the_models_name() {
    let sim = Simulator::start(&[]);
    let body = |model: &str, more: Value| {
        with(
            with(chat("say: 0123456789abcdefghij"), json!({"model": model})),
            more,
        )
    };
    let send = |model: &str, more: Value| {
        let body = body(model, more).to_string();
        http::answer(http::send(
            sim.addr,
            "POST",
            "/v1/chat/completions",
            &[BEARER],
            body.as_bytes(),
        ))
    };
    let stream = || json!({"stream": true});
    let limited = send("sim-429", json!({})).unwrap();
    assert_eq!((limited.status, limited.header("retry-after")), (429, Some("1")));
    assert_eq!(send("openai/sim-503", json!({})).unwrap().status, 503);
    assert!(send("sim-cut-0", json!({})).is_none());
    let cut = send("sim-cut-2", stream()).unwrap();
    assert!(cut.is_cut);
    assert_eq!(cut.text().matches("data: ").count(), 2);
    let cut = send("sim-cut-1", json!({})).unwrap();
    assert!(cut.is_cut && !cut.body.is_empty());
    let broken = send("sim-error-in-stream-2", stream()).unwrap();
    assert_eq!(broken.events().last().unwrap()["error"]["type"], "server_error");
    assert_eq!(broken.events().len(), 3);
    let bad = send("sim-bad-json", json!({})).unwrap();
    assert!(serde_json::from_slice::<Value>(&bad.body).is_err());
    let garbage = send("sim-garbage", stream()).unwrap();
    assert!(std::str::from_utf8(&garbage.body).is_err());
    let long = send("sim-oversize", json!({})).unwrap();
    assert!(long.body.len() > 64 << 20);
    let started = std::time::Instant::now();
    assert_eq!(send("sim-slow-150", json!({})).unwrap().status, 200);
    assert!(started.elapsed() >= std::time::Duration::from_millis(150));
    let statuses: Vec<u16> = (0..40)
        .map(|_| send("sim-flaky-50", json!({})).unwrap().status)
        .collect();
    assert!(statuses.contains(&200) && statuses.contains(&500), "{statuses:?}");
    let calls = sim.calls(49);
    assert!(
        calls
            .iter()
            .any(|call| call["model"] == "sim-cut-0" && call["broken"] == true)
    );

    // The whole provider, until it recovers.
    let fault =
        |body: Value| http::call(sim.addr, "PUT", "/sim/fault", &[], body.to_string().as_bytes()).status;
    assert_eq!(fault(json!({"down": true})), 204);
    assert!(send("gpt-4o", json!({})).is_none());
    assert_eq!(fault(json!({"status": 503})), 204);
    assert_eq!(send("gpt-4o", json!({})).unwrap().status, 503);
    assert_eq!(fault(json!({"stauts": 503})), 400);
    assert_eq!(fault(json!({})), 204);
    assert_eq!(send("gpt-4o", json!({})).unwrap().status, 200);
}

#[test]
fn the_journal_knows_what_a_client_that_left_had_been_sent() {
    let sim = Simulator::start(&[]);
    let body = with(
        chat("say: 0123456789abcdefghijklmnopqrstuvwxyz"),
        json!({"model": "sim-drip-50", "stream": true}),
    );
    let mut stream = http::send(
        sim.addr,
        "POST",
        "/v1/chat/completions",
        &[BEARER],
        body.to_string().as_bytes(),
    );
    let mut received = Vec::new();
    while String::from_utf8_lossy(&received).matches("\"content\":").count() < 3 {
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0, "the stream goes on");
        received.extend_from_slice(&buffer[..length]);
    }
    drop(stream);
    let calls = sim.calls(1);
    assert_eq!(calls[0]["cancelled"], true);
    let sent = calls[0]["usage"]["output"].as_u64().unwrap();
    // 36 bytes are nine tokens; at least two runs of text had come, and not all.
    assert!((2..9).contains(&sent), "{sent}");
    assert_eq!(calls[0]["usage"]["input"], 11);

    let whole = with(
        chat("usage: {\"input\": 7, \"cache_read\": 5, \"output\": 40, \"reasoning\": 3}\nsay: hi"),
        json!({}),
    );
    let answer = http::post(sim.addr, "/v1/chat/completions", &[BEARER], &whole).json();
    assert_eq!(answer["usage"]["prompt_tokens"], 12);
    assert_eq!(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 5);
    assert_eq!(answer["usage"]["completion_tokens"], 43);
    assert_eq!(
        answer["usage"]["completion_tokens_details"]["reasoning_tokens"],
        3
    );
    let calls = sim.calls(2);
    assert_eq!(calls[1]["usage"]["output"], 40);
    assert_eq!(calls[1]["cancelled"], false);
    assert_eq!(
        format!("chatcmpl-{}", calls[1]["id"].as_str().unwrap()),
        answer["id"]
    );
    assert_eq!(http::call(sim.addr, "DELETE", "/sim/calls", &[], b"").status, 204);
    assert!(http::get(sim.addr, "/sim/calls").body.is_empty());
}

#[test]
fn a_marked_prompt_is_written_to_the_cache_and_then_read() {
    let sim = Simulator::start(&[]);
    let ask = |question: &str| {
        let system =
            json!([{"type": "text", "text": "0123456789abcdef", "cache_control": {"type": "ephemeral"}}]);
        let body = with(messages(question), json!({"system": system}));
        http::post(sim.addr, "/v1/messages", &CLAUDE, &body).json()["usage"].clone()
    };
    let first = ask("one?");
    assert_eq!(
        (
            first["cache_creation_input_tokens"].clone(),
            first["cache_read_input_tokens"].clone()
        ),
        (json!(4), json!(0))
    );
    assert_eq!(first["input_tokens"], 1);
    let second = ask("two?");
    assert_eq!(
        (
            second["cache_creation_input_tokens"].clone(),
            second["cache_read_input_tokens"].clone()
        ),
        (json!(0), json!(4))
    );
}

#[test]
fn a_key_over_its_rate_is_told_when_to_come_again() {
    let sim = Simulator::start(&["--rpm", "2"]);
    let send = || http::post(sim.addr, "/v1/messages", &CLAUDE, &messages("x"));
    let first = send();
    assert_eq!(first.header("anthropic-ratelimit-requests-limit"), Some("2"));
    assert_eq!(first.header("anthropic-ratelimit-requests-remaining"), Some("1"));
    assert_eq!(send().status, 200);
    let over = send();
    assert_eq!(over.status, 429);
    assert_eq!(over.json()["error"]["type"], "rate_limit_error");
    assert!(over.header("retry-after").unwrap().parse::<u64>().unwrap() <= 60);
}

#[test]
fn streams_are_cut_at_odd_places() {
    for chunking in ["bytes", "random"] {
        let sim = Simulator::start(&["--chunking", chunking]);
        let streamed = with(chat("say: Grüße 🙂"), json!({"stream": true}));
        let events = http::post(sim.addr, "/v1/chat/completions", &[BEARER], &streamed).events();
        let text: String = events
            .iter()
            .filter_map(|one| one["choices"][0]["delta"]["content"].as_str())
            .collect();
        assert_eq!(text, "Grüße 🙂", "{chunking}");
    }
}
