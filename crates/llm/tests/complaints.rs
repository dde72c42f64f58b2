//! What users of other gateways complain of, as tests: arguments of tools, cache control, beta fields and
//! thinking that get lost on the way.

mod common;

use llm::canonical::{Request, Written};
use llm::convert::{self, PathFacts, StreamOptions, WriteOptions};
use llm::format::Format;
use llm::sse;
use serde_json::{Value, json};

fn request(format: Format, body: &Value) -> Request {
    convert::read_request(format, body.clone(), &PathFacts::default()).unwrap()
}

fn write(format: Format, request: &Request) -> Written {
    convert::write_request(format, request, &WriteOptions::default()).unwrap()
}

fn answer(from: Format, to: Format, body: &Value) -> Written {
    let answer = convert::read_answer(from, body.clone()).unwrap();
    convert::write_answer(to, &answer).unwrap()
}

/// Claude's answer with thinking, hidden thinking and a call.
fn thoughtful() -> Value {
    json!({"id": "i", "type": "message", "role": "assistant", "model": "m",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "sig"},
            {"type": "redacted_thinking", "data": "hidden"},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}}],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": {"input_tokens": 5, "output_tokens": 7}})
}

/// The next turn of a client of Chat: it sends the message back as it got it.
fn next_turn(message: &Value) -> Value {
    json!({"model": "m", "max_completion_tokens": 9, "messages": [
        {"role": "user", "content": "Go."},
        message,
        {"role": "tool", "tool_call_id": "a", "content": "1"}]})
}

#[test]
fn thinking_of_claude_survives_a_client_of_chat() {
    let seen = answer(Format::Messages, Format::Chat, &thoughtful()).body;
    let message = seen["choices"][0]["message"].clone();
    assert_eq!(message["reasoning_content"], "hm");
    let turn = next_turn(&message);
    let request = request(Format::Chat, &turn);
    let written = write(Format::Messages, &request);
    assert_eq!(written.body["messages"][1]["content"], thoughtful()["content"]);
    assert!(written.dropped.is_empty(), "{:?}", written.dropped);
    // To a provider of Chat the message goes as it came.
    assert_eq!(
        write(Format::Chat, &request).body["messages"][1]["reasoning_details"],
        turn["messages"][1]["reasoning_details"]
    );
}

#[test]
fn thinking_of_claude_survives_a_stream_to_a_client_of_chat() {
    let options = |provider| StreamOptions {
        provider,
        ..StreamOptions::default()
    };
    let whole = convert::read_answer(Format::Messages, thoughtful()).unwrap();
    let mut writer = convert::stream_writer(Format::Chat, options(Some(Format::Messages)));
    let mut bytes = Vec::new();
    for event in common::as_events(&whole) {
        writer.write(&event, &mut bytes);
    }
    let mut framer = sse::Framer::new(sse::Framing::ServerSentEvents, 1 << 20);
    let mut frames = Vec::new();
    framer.feed(&bytes, &mut frames).unwrap();
    // What clients do with deltas: texts are joined, lists are appended.
    let (mut texts, mut details, mut calls) = ([String::new(), String::new()], Vec::new(), Vec::new());
    for frame in frames.iter().filter(|frame| frame.data != "[DONE]") {
        let chunk: Value = serde_json::from_str(&frame.data).unwrap();
        let delta = &chunk["choices"][0]["delta"];
        for (text, key) in texts.iter_mut().zip(["reasoning_content", "content"]) {
            text.push_str(delta[key].as_str().unwrap_or_default());
        }
        details.extend(delta["reasoning_details"].as_array().cloned().unwrap_or_default());
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            match call.get("id") {
                Some(_) => calls.push(call.clone()),
                None => {
                    calls.last_mut().unwrap()["function"]["arguments"] =
                        call["function"]["arguments"].clone();
                }
            }
        }
    }
    let [reasoning, content] = texts;
    let message = json!({"role": "assistant", "content": content, "reasoning_content": reasoning,
        "reasoning_details": details, "tool_calls": calls});
    let request = request(Format::Chat, &next_turn(&message));
    let written = write(Format::Messages, &request);
    assert_eq!(written.body["messages"][1]["content"], thoughtful()["content"]);
}

#[test]
fn thinking_of_others_is_not_given_to_claude() {
    for details in [
        json!([{"type": "reasoning.text", "text": "hm", "signature": "s", "format": "google-gemini-v1"}]),
        json!([{"type": "reasoning.encrypted", "data": "x", "format": "openai-responses-v1"}]),
        json!([{"type": "reasoning.text", "text": "hm", "format": "anthropic-claude-v1"}]),
    ] {
        let message = json!({"role": "assistant", "content": "a", "reasoning_details": details});
        let request = request(Format::Chat, &next_turn(&message));
        let written = write(Format::Messages, &request);
        assert_eq!(
            written.body["messages"][1]["content"],
            json!([{"type": "text", "text": "a"}])
        );
        assert_eq!(written.dropped, ["messages[].reasoning_details"]);
    }
}

#[test]
fn arguments_of_tools() {
    let chat = |arguments: Value| {
        json!({"id": "i", "model": "m", "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
            "role": "assistant", "content": null, "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}]}}]})
    };
    for (arguments, input) in [
        (
            json!("{\"b\": 1, \"a\": [1.50, \"\\u00e4\"]}"),
            json!({"b": 1, "a": [1.5, "ä"]}),
        ),
        (json!(""), json!({})),
        (Value::Null, json!({})),
        (json!({"x": 1}), json!({"x": 1})),
        // Cut off by the limit of tokens: a client must not run it as if it were whole.
        (
            json!("{\"path\": \"/"),
            json!({"unparsed_arguments": "{\"path\": \"/"}),
        ),
        (json!("[1]"), json!({"unparsed_arguments": "[1]"})),
    ] {
        let written = answer(Format::Chat, Format::Messages, &chat(arguments.clone()));
        let block = json!({"type": "tool_use", "id": "a", "name": "f", "input": input});
        assert_eq!(written.body["content"], json!([block]), "{arguments}");
        assert_eq!(written.body["stop_reason"], "tool_use");
        let is_whole = input.get("unparsed_arguments").is_none();
        assert_eq!(written.dropped.is_empty(), is_whole, "{arguments}");
    }
    // The order of fields is that of the model, and numbers keep their value.
    let claude = json!({"id": "i", "model": "m", "stop_reason": "tool_use", "content": [
        {"type": "tool_use", "id": "a", "name": "f", "input": {"z": 12_345_678_901_234_567_890_u64, "a": 0.1}}]});
    let written = answer(Format::Messages, Format::Chat, &claude).body;
    assert_eq!(
        written["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"],
        "{\"z\":12345678901234567890,\"a\":0.1}"
    );
}

#[test]
fn cache_control_and_beta_fields() {
    let cached = json!({"type": "ephemeral", "ttl": "1h"});
    let body = json!({"model": "m", "max_tokens": 9, "cache_control": {"type": "ephemeral"},
        "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
        "betas": ["context-management-2025-06-27"], "service_tier": "auto",
        "system": [{"type": "text", "text": "Be brief.", "cache_control": cached}],
        "tools": [{"name": "f", "input_schema": {"type": "object"}, "cache_control": cached, "defer_loading": true}],
        "messages": [{"role": "user", "content": [
            {"type": "text", "text": "a", "cache_control": cached},
            {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "b"}], "cache_control": cached}]}]});
    assert_eq!(
        write(Format::Messages, &request(Format::Messages, &body)).body,
        body
    );
    // A client of Chat marks what to cache as Anthropic does.
    let chat = json!({"model": "m", "max_tokens": 9, "messages": [
        {"role": "system", "content": [{"type": "text", "text": "Be brief.", "cache_control": cached}]},
        {"role": "user", "content": "a"}]});
    let written = write(Format::Messages, &request(Format::Chat, &chat));
    assert_eq!(written.body["system"], body["system"]);
    // To another format they are dropped by name, not in silence.
    let written = write(
        Format::Chat,
        &request(
            Format::Messages,
            &json!({"model": "m", "max_tokens": 9,
        "context_management": {}, "messages": [{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": cached}]}]}),
        ),
    );
    assert_eq!(written.dropped, ["cache_control", "context_management"]);
}

#[test]
fn cached_tokens_are_counted_once_in_every_format() {
    let claude = json!({"id": "i", "model": "m", "content": [], "stop_reason": "end_turn", "usage": {
        "input_tokens": 10, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 50,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30}, "output_tokens": 7}});
    let chat = answer(Format::Messages, Format::Chat, &claude).body;
    assert_eq!(
        chat["usage"],
        json!({"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107,
            "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 50},
            "completion_tokens_details": {"reasoning_tokens": 0}})
    );
    let back = answer(Format::Chat, Format::Messages, &chat).body;
    assert_eq!(
        back["usage"],
        json!({"input_tokens": 10, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 50,
            "cache_creation": {"ephemeral_5m_input_tokens": 50, "ephemeral_1h_input_tokens": 0}, "output_tokens": 7})
    );
}

#[test]
fn the_shape_of_an_answer_by_its_old_name() {
    let schema = json!({"type": "object"});
    let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "a"}],
        "output_format": {"type": "json_schema", "schema": schema}});
    let request = request(Format::Messages, &body);
    let written = write(Format::Chat, &request);
    assert_eq!(written.body["response_format"]["json_schema"]["schema"], schema);
    assert!(written.dropped.is_empty(), "{:?}", written.dropped);
    let format = json!({"type": "json_schema", "schema": schema});
    assert_eq!(
        write(Format::Messages, &request).body["output_config"]["format"],
        format
    );
}
