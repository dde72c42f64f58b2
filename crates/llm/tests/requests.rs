//! Requests: recorded ones through the canonical model and back, and across formats.

mod common;

use common::{check_golden, recorded};
use llm::canonical::{ConvertError, PartKind, Request, Written};
use llm::convert;
use llm::format::Format;
use serde_json::{Value, json};

fn read(format: Format, body: &Value) -> Result<Request, ConvertError> {
    convert::read_request(format, body.clone(), &convert::PathFacts::default())
}

fn write(format: Format, request: &Request) -> Result<Written, ConvertError> {
    convert::write_request(format, request, &convert::WriteOptions::default())
}

fn requests() -> Vec<(String, Format, Value)> {
    let mut requests = Vec::new();
    for (name, interaction) in recorded() {
        let path = interaction["request"]["uri"]
            .as_str()
            .unwrap_or("")
            .split('?')
            .next()
            .unwrap();
        let format = match path {
            _ if path.ends_with("/chat/completions") => Format::Chat,
            _ if path.ends_with("/v1/messages") => Format::Messages,
            _ => continue,
        };
        let name = name.rsplit('/').take(2).collect::<Vec<_>>().join(" ");
        requests.push((name, format, interaction["request"]["body_json"].clone()));
    }
    requests
}

/// Brings what the formats let one write in two ways to one of them.
fn normal(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(normal).collect(),
        Value::Object(fields) => {
            let mut out = serde_json::Map::new();
            for (key, value) in fields {
                let value = match (key.as_str(), normal(value)) {
                    (_, Value::Null) | ("stream", Value::Bool(false)) => continue,
                    ("content" | "system", Value::String(text)) if text.is_empty() => continue,
                    ("content" | "system", Value::String(text)) => json!([{"type": "text", "text": text}]),
                    ("content" | "tools", Value::Array(items)) if items.is_empty() => continue,
                    ("stop", Value::String(text)) => json!([text]),
                    (_, value) => value,
                };
                let key = if key == "max_tokens" {
                    "max_completion_tokens"
                } else {
                    key
                };
                out.insert(key.to_owned(), value);
            }
            Value::Object(out)
        }
        other => other.clone(),
    }
}

#[test]
fn recorded_requests_come_back_whole() {
    let requests = requests();
    assert!(requests.len() >= 150, "only {} recorded requests", requests.len());
    for (name, format, body) in requests {
        let request = read(format, &body).unwrap_or_else(|error| panic!("{name}: {error}"));
        let written = write(format, &request).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(normal(&written.body), normal(&body), "{name}");
        assert_eq!(
            read(format, &written.body).as_ref(),
            Ok(&request),
            "{name}: read again"
        );
    }
}

/// Every text, call and result of a conversation, in order of kind.
fn said(request: &Request) -> Vec<String> {
    let parts = request.messages.iter().flat_map(|message| &message.parts);
    let mut said: Vec<String> = parts
        .filter_map(|part| match &part.kind {
            PartKind::ToolCall { id, name, arguments } => {
                let arguments: Value = serde_json::from_str(arguments).unwrap_or(json!({}));
                Some(format!("call {id} {name} {arguments}"))
            }
            PartKind::ToolResult { id, parts, .. } => {
                let kinds: Vec<&PartKind> = parts.iter().map(|part| &part.kind).collect();
                let kinds: Vec<_> = kinds
                    .into_iter()
                    .filter(|kind| **kind != PartKind::Text(String::new()))
                    .collect();
                Some(format!("result {id} {kinds:?}"))
            }
            PartKind::Text(text) if text.is_empty() => None,
            PartKind::Reasoning { .. } => None,
            kind => Some(format!("{kind:?}")),
        })
        .collect();
    said.sort();
    said
}

#[test]
fn recorded_requests_across_formats() {
    let (mut shown, mut n_written) = (String::new(), 0);
    for (name, from, body) in requests() {
        let to = if from == Format::Chat {
            Format::Messages
        } else {
            Format::Chat
        };
        let request = read(from, &body).unwrap();
        match write(to, &request) {
            Err(error) => shown += &format!("{name} {from:?}: {error}\n"),
            Ok(written) => {
                n_written += 1;
                let back = read(to, &written.body).unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(said(&back), said(&request), "{name}");
                assert_eq!(back.tools.len(), request.tools.len(), "{name}");
                assert_eq!(
                    (
                        &back.model,
                        &back.tool_choice,
                        &back.temperature,
                        &back.top_p,
                        &back.stop,
                        back.stream
                    ),
                    (
                        &request.model,
                        &request.tool_choice,
                        &request.temperature,
                        &request.top_p,
                        &request.stop,
                        request.stream
                    ),
                    "{name}"
                );
                let dropped = if written.dropped.is_empty() {
                    "none".to_owned()
                } else {
                    written.dropped.join(", ")
                };
                shown += &format!("{name} {from:?}: written; dropped: {dropped}\n");
            }
        }
    }
    assert!(n_written >= 90, "only {n_written} could be written");
    check_golden("requests-across.txt", &shown);
}

/// Checks a whole conversion against the body expected, or the words of the error.
fn check(from: Format, body: &Value, expected: &Result<(Value, &[&str]), &str>) {
    let to = if from == Format::Chat {
        Format::Messages
    } else {
        Format::Chat
    };
    let written = read(from, body).and_then(|request| write(to, &request));
    match (written, expected) {
        (Ok(written), Ok((body, dropped))) => {
            assert_eq!(&written.body, body);
            assert_eq!(written.dropped, *dropped);
        }
        (Err(error), Err(words)) => assert_eq!(error.to_string(), *words),
        (written, _) => panic!("{written:?} instead of {expected:?}"),
    }
}

#[test]
fn chat_to_messages() {
    let body = json!({"model": "m", "seed": 7, "n": 1, "stop": "END", "max_tokens": 50, "reasoning_effort": "minimal",
        "parallel_tool_calls": false, "user": "u1",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}]},
            {"role": "tool", "tool_call_id": "a", "content": "one"},
            {"role": "tool", "tool_call_id": "b", "content": "two"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]});
    let expected = json!({"model": "m", "max_tokens": 50,
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "What is this?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}]},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
                {"type": "tool_use", "id": "b", "name": "g", "input": {}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "one"}]},
                {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "two"}]}]}],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": true},
        "stop_sequences": ["END"], "metadata": {"user_id": "u1"}, "output_config": {"effort": "low"}});
    check(
        Format::Chat,
        &body,
        &Ok((expected, &["seed", "reasoning_effort (minimal became low)"])),
    );
}

#[test]
fn messages_to_chat() {
    let body = json!({"model": "m", "max_tokens": 9, "system": "Be brief.", "top_k": 4,
        "thinking": {"type": "enabled", "budget_tokens": 4000},
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        "tool_choice": {"type": "tool", "name": "f"},
        "messages": [
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "a", "is_error": true, "content": "no"},
                {"type": "text", "text": "Well?", "cache_control": {"type": "ephemeral"}}]}]});
    let expected = json!({"model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "assistant", "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}}]},
            {"role": "tool", "tool_call_id": "a", "content": "no"},
            {"role": "user", "content": "Well?"}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "max_completion_tokens": 9,
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}},
        "reasoning_effort": "medium"});
    let dropped = [
        "thinking",
        "tool_result.is_error",
        "cache_control",
        "top_k",
        "thinking.budget_tokens (became an effort)",
    ];
    check(Format::Messages, &body, &Ok((expected, &dropped)));
}

#[test]
fn refusals() {
    let chat = |more: Value| {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    let to_messages = |what: &str| {
        format!("`{what}` cannot be expressed in the format of this model's provider (Messages)")
    };
    for (more, what) in [
        (json!({"n": 2}), "n"),
        (json!({"logprobs": true}), "logprobs"),
        (json!({"modalities": ["audio"]}), "modalities"),
        (
            json!({"response_format": {"type": "json_object"}}),
            "response_format json_object",
        ),
        (
            json!({"tools": [{"type": "custom", "custom": {}}]}),
            "tool custom",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}),
            "input_audio",
        ),
    ] {
        check(Format::Chat, &chat(more), &Err(&to_messages(what)));
    }
    for (more, words) in [
        (json!({"model": 3}), "field `model` must be a string"),
        (json!({"messages": {}}), "field `messages` must be an array"),
        (
            json!({"messages": [{"role": "x"}]}),
            "field `messages[0].role` must be `system`, `developer`, `user`, `assistant` or `tool`",
        ),
        (
            json!({"max_tokens": -1}),
            "field `max_tokens` must be a whole number, not negative",
        ),
        (
            json!({"stop": [1]}),
            "field `stop` must be a string or an array of strings",
        ),
    ] {
        check(Format::Chat, &chat(more), &Err(words));
    }
    let bare = json!({"model": "m", "messages": []});
    check(
        Format::Messages,
        &bare,
        &Err("field `max_tokens` must be a whole number, not negative"),
    );
}

#[test]
fn strict_refuses_what_would_be_dropped() {
    let body = json!({"model": "m", "seed": 3, "max_tokens": 5, "frequency_penalty": 0.5,
        "messages": [{"role": "user", "content": "x"}]});
    let request = read(Format::Chat, &body).unwrap();
    let strict = convert::WriteOptions {
        strict: true,
        ..convert::WriteOptions::default()
    };
    let error = convert::write_request(Format::Messages, &request, &strict).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`frequency_penalty`, `seed` cannot be expressed in the format of this model's provider (Messages)"
    );
    assert!(write(Format::Messages, &request).is_ok());
    assert!(convert::write_request(Format::Chat, &request, &strict).is_ok());
}
