//! Cohere Chat: recorded answers, and messages of the shapes in Cohere's API reference.

mod common;
#[path = "common/stream.rs"]
mod stream;

use common::{as_events, recorded};
use llm::answer::{Stop, StreamEvent, TokenLogprob};
use llm::canonical::{ConvertError, PartKind};
use llm::convert::{self, PathFacts, StreamOptions, WriteOptions};
use llm::format::Format;
use llm::sse;
use serde_json::{Value, json};

/// A request that says everything this format can say.
fn full() -> Value {
    json!({"model": "command-a-03-2025", "stream": true,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What is this, and the weather?"},
                {"type": "image_url", "image_url": {"url": "https://images.example/a.png", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
            {"role": "assistant", "tool_plan": "I will look.",
                "content": [{"type": "thinking", "thinking": "hm"}],
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
                    {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "a", "content": [
                {"type": "document", "document": {"id": "d1", "data": {"sky": "clear"}}},
                {"type": "document", "document": {"data": "cold"}}]},
            {"role": "tool", "tool_call_id": "b", "content": "two"},
            {"role": "assistant", "content": "A cat.", "citations": [{"start": 0, "end": 1, "text": "A"}]},
            {"role": "user", "content": "Sure?"}],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}},
            {"type": "function", "function": {"name": "g", "parameters": {"type": "object"}}}],
        "strict_tools": true, "tool_choice": "REQUIRED", "max_tokens": 50, "temperature": 0.3, "p": 0.9, "k": 5,
        "frequency_penalty": 0.1, "presence_penalty": 0.2, "seed": 7, "logprobs": true,
        "stop_sequences": ["END"], "response_format": {"type": "json_object", "json_schema": {"type": "object"}},
        "thinking": {"type": "enabled", "token_budget": 4000}, "safety_mode": "STRICT",
        "citation_options": {"mode": "FAST"}})
}

fn read(body: &Value) -> Result<llm::canonical::Request, ConvertError> {
    convert::read_request(Format::Cohere, body.clone(), &PathFacts::default())
}

#[test]
fn requests_come_back_whole() {
    let mut bodies = vec![full()];
    bodies.extend(calls().into_iter().map(|(_, interaction)| {
        let mut body = interaction["request"]["body_json"].clone();
        body.as_object_mut().unwrap().retain(|_, value| value != false);
        body
    }));
    assert!(bodies.len() >= 4);
    for body in bodies {
        let request = read(&body).unwrap();
        let written = convert::write_request(Format::Cohere, &request, &WriteOptions::default()).unwrap();
        assert_eq!(written.body, body);
        assert!(written.dropped.is_empty(), "{:?}", written.dropped);
    }
}

#[test]
fn to_chat() {
    let mut body = full();
    body["messages"][1]["content"].as_array_mut().unwrap().truncate(1);
    let written = read(&body)
        .and_then(|request| convert::write_request(Format::Chat, &request, &WriteOptions::default()));
    let Value::Object(mut chat) = written.unwrap().body else {
        panic!()
    };
    chat.retain(|key, _| {
        [
            "messages",
            "tools",
            "tool_choice",
            "top_p",
            "stop",
            "response_format",
        ]
        .contains(&key.as_str())
    });
    let expected = json!({
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is this, and the weather?"},
            {"role": "assistant", "content": "I will look.", "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "a", "content": [
                {"type": "text", "text": "{\"sky\":\"clear\"}"}, {"type": "text", "text": "cold"}]},
            {"role": "tool", "tool_call_id": "b", "content": "two"},
            {"role": "assistant", "content": "A cat."},
            {"role": "user", "content": "Sure?"}],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": true}},
            {"type": "function", "function": {"name": "g", "parameters": {"type": "object"}, "strict": true}}],
        "tool_choice": "required", "top_p": 0.9, "stop": ["END"],
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}});
    assert_eq!(Value::Object(chat), expected);
}

#[test]
fn refusals() {
    let to_cohere = |more: Value| {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let request = convert::read_request(Format::Chat, body, &PathFacts::default()).unwrap();
        convert::write_request(Format::Cohere, &request, &WriteOptions::default())
    };
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let named = json!({"type": "function", "function": {"name": "f"}});
    let two = json!({"tools": [tool("f"), tool("g")], "tool_choice": named});
    for (more, field) in [
        (json!({"n": 2}), "n"),
        (json!({"functions": [{}]}), "functions"),
        (two, "tool_choice of one tool among several"),
    ] {
        let expected = ConvertError::Inexpressible {
            field: field.to_owned(),
            format: Format::Cohere,
        };
        assert_eq!(to_cohere(more), Err(expected));
    }
    // Of a tool alone it can be said.
    let one = to_cohere(json!({"tools": [tool("f")], "tool_choice": named})).unwrap();
    assert_eq!(one.body["tool_choice"], "REQUIRED");
    assert_eq!(
        read(&json!({"model": "m", "messages": [], "tool_choice": "AUTO"}))
            .unwrap_err()
            .to_string(),
        "field `tool_choice` must be `REQUIRED` or `NONE`"
    );
}

fn calls() -> Vec<(String, Value)> {
    let mut calls = recorded();
    calls.retain(|(_, call)| {
        call["request"]["uri"]
            .as_str()
            .is_some_and(|uri| uri.ends_with("/v2/chat"))
    });
    calls
}

#[test]
fn answers_come_back_whole() {
    let mut bodies: Vec<Value> = calls()
        .into_iter()
        .map(|(_, call)| call["response"]["body_json"].clone())
        .collect();
    bodies.push(json!({"id": "i", "finish_reason": "TOOL_CALL",
        "message": {"role": "assistant", "tool_plan": "I will look.",
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}}]},
        "usage": {"billed_units": {"input_tokens": 5, "output_tokens": 2}, "tokens": {"input_tokens": 70, "output_tokens": 2}}}));
    bodies.push(json!({"id": "i", "finish_reason": "MAX_TOKENS",
        "message": {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "A cat."}],
            "citations": [{"start": 0, "end": 1, "text": "A", "sources": []}]},
        "logprobs": [{"text": "A", "token_ids": [], "logprobs": [-0.5]}]}));
    assert!(bodies.len() >= 5);
    for body in bodies {
        let answer = convert::read_answer(Format::Cohere, body.clone()).unwrap();
        let written = convert::write_answer(Format::Cohere, &answer).unwrap();
        assert_eq!(written.body, body);
        assert!(written.dropped.is_empty(), "{:?}", written.dropped);
        // As a stream it is the same.
        let mut writer = convert::stream_writer(Format::Cohere, StreamOptions::default());
        let mut bytes = Vec::new();
        for event in as_events(&answer) {
            writer.write(&event, &mut bytes);
        }
        let told = stream::assemble(&read_stream(&[&bytes]));
        let choice = &answer.choices[0];
        let kinds = |parts: &[llm::canonical::Part]| -> Vec<PartKind> {
            parts.iter().map(|part| part.kind.clone()).collect()
        };
        assert_eq!(kinds(&told.parts[&0]), kinds(&choice.parts));
        assert_eq!(
            (told.stops.get(&0), told.usage),
            (choice.stop.as_ref(), answer.usage)
        );
        assert_eq!(told.logprobs, choice.logprobs);
    }
    let failed = json!({"id": "i", "finish_reason": "ERROR", "message": {"role": "assistant"}});
    assert!(matches!(
        convert::read_answer(Format::Cohere, failed),
        Err(ConvertError::Failed { .. })
    ));
}

fn read_stream(pieces: &[&[u8]]) -> Vec<StreamEvent> {
    stream::read(
        Format::Cohere,
        sse::Framing::ServerSentEvents,
        pieces.iter().copied(),
    )
}

fn framed(events: &[Value]) -> String {
    let frames = events
        .iter()
        .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()));
    frames.collect::<String>()
}

#[test]
fn streams() {
    let delta = |kind: &str, index: u64, message: Value| json!({"type": kind, "index": index, "delta": {"message": message}});
    let call = |index: u64, id: &str, name: &str| {
        delta(
            "tool-call-start",
            index,
            json!({"tool_calls": {"id": id, "type": "function", "function": {"name": name, "arguments": ""}}}),
        )
    };
    let arguments = |index: u64, text: &str| {
        delta(
            "tool-call-delta",
            index,
            json!({"tool_calls": {"function": {"arguments": text}}}),
        )
    };
    let usage = json!({"billed_units": {"input_tokens": 5.0, "output_tokens": 2}, "tokens": {"input_tokens": 70, "output_tokens": 2}});
    let tools = framed(&[
        json!({"type": "message-start", "id": "i", "delta": {"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}}}),
        json!({"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I will "}}}),
        json!({"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "look."}}}),
        call(0, "a", "f"),
        arguments(0, "{\"x\":"),
        arguments(0, "1}"),
        json!({"type": "tool-call-end", "index": 0}),
        call(1, "b", "g"),
        json!({"type": "tool-call-end", "index": 1}),
        json!({"type": "message-end", "id": "i", "delta": {"finish_reason": "TOOL_CALL", "usage": usage}}),
    ]);
    stream::check_cuts("tools", tools.as_bytes(), read_stream);
    let told = stream::assemble(&read_stream(&[tools.as_bytes()]));
    let kinds: Vec<&PartKind> = told.parts[&0].iter().map(|part| &part.kind).collect();
    let call = |id: &str, name: &str, arguments: &str| PartKind::ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    };
    assert_eq!(
        kinds,
        [
            &PartKind::Text("I will look.".to_owned()),
            &call("a", "f", "{\"x\":1}"),
            &call("b", "g", "")
        ]
    );
    assert_eq!(told.stops[&0], Stop::ToolUse);
    assert_eq!(told.usage.map(|usage| (usage.input, usage.output)), Some((5, 2)));

    let text = framed(&[
        json!({"type": "message-start", "id": "i", "delta": {"message": {"role": "assistant"}}}),
        delta(
            "content-start",
            0,
            json!({"content": {"type": "thinking", "thinking": ""}}),
        ),
        delta("content-delta", 0, json!({"content": {"thinking": "hm"}})),
        json!({"type": "content-end", "index": 0}),
        delta(
            "content-start",
            1,
            json!({"content": {"type": "text", "text": ""}}),
        ),
        json!({"type": "content-delta", "index": 1, "delta": {"message": {"content": {"text": "A"}}},
            "logprobs": {"text": "A", "token_ids": [1], "logprobs": [-0.5]}}),
        delta(
            "citation-start",
            0,
            json!({"citations": {"start": 0, "end": 1, "text": "A"}}),
        ),
        json!({"type": "citation-end", "index": 0}),
        json!({"type": "content-end", "index": 1}),
        json!({"type": "message-end", "delta": {"finish_reason": "MAX_TOKENS"}}),
    ]) + "data: [DONE]\n\n";
    stream::check_cuts("text", text.as_bytes(), read_stream);
    let events = read_stream(&[text.as_bytes()]);
    let told = stream::assemble(&events);
    let kinds: Vec<&PartKind> = told.parts[&0].iter().map(|part| &part.kind).collect();
    let thought = PartKind::Reasoning {
        text: "hm".to_owned(),
        signature: None,
    };
    assert_eq!(kinds, [&thought, &PartKind::Text("A".to_owned())]);
    let token = TokenLogprob {
        token: "A".to_owned(),
        logprob: -0.5,
        bytes: None,
        top: Vec::new(),
    };
    assert_eq!((told.logprobs, &told.stops[&0]), (vec![token], &Stop::MaxTokens));
    let mut writer = convert::stream_writer(Format::Cohere, StreamOptions::default());
    let mut bytes = Vec::new();
    events.iter().for_each(|event| writer.write(event, &mut bytes));
    assert_eq!(read_stream(&[&bytes]), events);

    for (end, message) in [
        (
            json!({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "out of order"}}),
            "out of order",
        ),
        (
            json!({"type": "content-end", "index": 1}),
            "the provider ended its stream before the answer was complete",
        ),
    ] {
        let told = stream::assemble(&read_stream(&[framed(&[end]).as_bytes()]));
        assert_eq!(told.error.as_deref(), Some(message));
        assert!(told.stops.is_empty());
    }
}
