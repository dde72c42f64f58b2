//! What is understood of a request, and what is refused.

use serde_json::{Value, json};

use crate::common::http::{self, Answer};
use crate::common::simulator::Simulator;
use crate::{BEARER, CLAUDE, GENERATE, GOOGLE, STREAM, chat, contents, messages, user, with};

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
