//! OpenAI Responses: recorded traffic of providers through the canonical model and back.

mod common;
#[path = "common/stream.rs"]
mod stream;

use common::{as_events, recorded};
use llm::answer::{Answer, StreamEvent};
use llm::assemble::Assembler;
use llm::canonical::PartKind;
use llm::convert::{self, PathFacts, StreamOptions, WriteOptions};
use llm::format::Format;
use llm::sse;
use llm::usage::Meter;
use serde_json::{Map, Value, json};

const LIMIT_BYTES: usize = 8 << 20;

struct Call {
    name: String,
    format: Format,
    request: Value,
    status: u64,
    answer: Option<Value>,
    stream: Option<String>,
}

fn calls() -> Vec<Call> {
    let all = recorded().into_iter().filter_map(|(name, interaction)| {
        let path = interaction["request"]["uri"].as_str()?.split('?').next()?;
        let format = match path {
            _ if path.ends_with("/responses") => Format::Responses,
            _ => return None,
        };
        let response = &interaction["response"];
        Some(Call {
            name: name.rsplit('/').take(2).collect::<Vec<_>>().join(" "),
            format,
            request: interaction["request"]["body_json"].clone(),
            status: response["status"].as_u64().unwrap_or(200),
            answer: Some(response["body_json"].clone()).filter(Value::is_object),
            stream: response["body"].as_str().map(str::to_owned),
        })
    });
    all.collect()
}

/// Brings what the formats let one say in two ways, and what their writers always say in one way, to one:
///
/// * null, empty lists, empty objects and counts of zero are absent, and so is a format of `text`;
/// * an `input` or content that is a text is a list of one, and an item without type is a message;
/// * several summaries of one reasoning are one; a message of the model that says nothing is absent.
fn normal(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(normal).collect(),
        Value::Object(fields) => {
            let mut out = Map::new();
            for (key, value) in fields {
                let value = match (key.as_str(), normal(value)) {
                    (_, Value::Null) | ("stream", Value::Bool(false)) => continue,
                    (_, Value::Array(items)) if items.is_empty() => continue,
                    (_, Value::Object(inner)) if inner.is_empty() => continue,
                    (key, Value::Number(count)) if key.ends_with("_tokens") && count.as_u64() == Some(0) => {
                        continue;
                    }
                    ("content" | "output", Value::String(text)) if text.is_empty() => continue,
                    ("instructions", Value::String(text)) if text.is_empty() => continue,
                    ("type", Value::String(text)) if text == "message" && fields.contains_key("role") => {
                        continue;
                    }
                    ("content" | "output", Value::String(text)) => {
                        match fields.get("role").and_then(Value::as_str) {
                            Some("assistant") => json!([{"type": "output_text", "text": text}]),
                            _ => json!([{"type": "input_text", "text": text}]),
                        }
                    }
                    ("input", Value::String(text)) => {
                        json!([{"role": "user", "content": [{"type": "input_text", "text": text}]}])
                    }
                    ("summary", Value::Array(parts)) => {
                        let texts: Vec<&str> =
                            parts.iter().filter_map(|part| part["text"].as_str()).collect();
                        json!([{"type": "summary_text", "text": texts.join("\n\n")}])
                    }
                    ("input", Value::Array(items)) => {
                        let empty = json!({"role": "assistant"});
                        items.into_iter().filter(|item| *item != empty).collect()
                    }
                    ("format", format) if format == json!({"type": "text"}) => continue,
                    ("text", text) if text == json!({"format": {"type": "text"}}) => continue,
                    (_, value) => value,
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
    let calls = calls();
    assert!(calls.len() >= 80, "only {} recorded calls", calls.len());
    for Call {
        name,
        format,
        request: body,
        ..
    } in calls
    {
        let request = convert::read_request(format, body.clone(), &PathFacts::default())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let written = convert::write_request(format, &request, &WriteOptions::default())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(normal(&written.body), normal(&body), "{name}");
        assert!(written.dropped.is_empty(), "{name}: {:?}", written.dropped);
        let again = convert::read_request(format, written.body, &PathFacts::default());
        assert_eq!(again.as_ref(), Ok(&request), "{name}: read again");
    }
}

/// Fields of an answer that are always written; a provider may leave them out.
const ALWAYS: [&str; 11] = [
    "background",
    "parallel_tool_calls",
    "reasoning",
    "service_tier",
    "store",
    "tool_choice",
    "top_logprobs",
    "truncation",
    "created_at",
    "status",
    "object",
];

#[test]
fn recorded_answers_come_back_whole() {
    let mut n_checked = 0;
    for Call {
        name,
        format,
        status,
        answer,
        ..
    } in calls()
    {
        let Some(body) = answer.filter(|_| status < 400) else {
            continue;
        };
        n_checked += 1;
        let answer =
            convert::read_answer(format, body.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let written =
            convert::write_answer(format, &answer).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(written.dropped.is_empty(), "{name}: {:?}", written.dropped);
        let (mut shown, expected) = (normal(&written.body), normal(&body));
        let shown = shown.as_object_mut().unwrap();
        shown.retain(|key, _| expected.get(key).is_some() || !ALWAYS.contains(&key.as_str()));
        assert_eq!(&Value::from(shown.clone()), &expected, "{name}");
        assert_eq!(
            convert::read_answer(format, written.body)
                .as_ref()
                .map(|again| &again.choices),
            Ok(&answer.choices),
            "{name}"
        );
    }
    assert!(n_checked >= 65, "only {n_checked} recorded answers");
}

fn read_stream(format: Format, pieces: &[&[u8]]) -> Vec<StreamEvent> {
    stream::read(format, sse::Framing::ServerSentEvents, pieces.iter().copied())
}

fn write_stream(format: Format, events: &[StreamEvent]) -> String {
    let options = StreamOptions {
        request_id: "r1".to_owned(),
        now_s: 123,
        provider: Some(format),
        ..StreamOptions::default()
    };
    let mut writer = convert::stream_writer(format, options);
    let mut bytes = Vec::new();
    for event in events {
        writer.write(event, &mut bytes);
    }
    String::from_utf8(bytes).unwrap()
}

fn assemble(format: Format, events: &[StreamEvent]) -> Answer {
    stream::assemble(events);
    let mut assembler = Assembler::new(format, LIMIT_BYTES);
    for event in events {
        assembler.add(event);
    }
    let assembled = assembler.finish();
    assert!(!assembled.is_truncated && assembled.error.is_none());
    assembled.answer
}

/// The documents of a stream.
fn documents(body: &str) -> Vec<Value> {
    let mut framer = sse::Framer::new(sse::Framing::ServerSentEvents, LIMIT_BYTES);
    let mut events = Vec::new();
    framer.feed(body.as_bytes(), &mut events).unwrap();
    events.extend(framer.finish());
    events
        .iter()
        .filter_map(|event| serde_json::from_str(&event.data).ok())
        .collect()
}

/// What a stream can tell of an answer: what items and parts say of themselves is not told.
fn bare(mut answer: Answer) -> Answer {
    for choice in &mut answer.choices {
        choice.logprobs.clear();
        for part in &mut choice.parts {
            part.other.clear();
            // What only its maker can read is made anew for each event.
            if let PartKind::Reasoning {
                signature: Some(signature),
                ..
            } = &mut part.kind
            {
                signature.clear();
            }
        }
    }
    answer.other.clear();
    answer
}

#[test]
fn recorded_streams() {
    let mut n_streams = 0;
    for Call {
        name,
        format,
        stream: body,
        ..
    } in calls()
    {
        let Some(body) = body else { continue };
        n_streams += 1;
        let events = read_stream(format, &[body.as_bytes()]);
        stream::check_cuts(&name, body.as_bytes(), |pieces| read_stream(format, pieces));
        let documents = documents(&body);
        let mut meter = Meter::new(format);
        documents.iter().for_each(|document| meter.observe(document));
        let assembled = assemble(format, &events);
        assert_eq!(assembled.usage, meter.usage(), "{name}");
        // The last event has the answer whole.
        let whole = documents.last().unwrap()["response"].clone();
        let whole = convert::read_answer(format, whole).unwrap();
        assert_eq!(bare(assembled), bare(whole), "{name}");
        // Written and read again.
        let written = write_stream(format, &events);
        let again = read_stream(format, &[written.as_bytes()]);
        // Ids have the prefix that clients look for.
        assert_eq!(again[1..], events[1..], "{name}: read again");
    }
    assert!(n_streams >= 13, "only {n_streams} recorded streams");
}

#[test]
fn answers_as_streams() {
    for Call {
        name,
        format,
        status,
        answer,
        ..
    } in calls()
    {
        let Some(body) = answer.filter(|_| status < 400) else {
            continue;
        };
        let answer = convert::read_answer(format, body).unwrap();
        let mut told = answer.clone();
        for part in told.choices.iter_mut().flat_map(|choice| &mut choice.parts) {
            if matches!(part.kind, PartKind::Text(_)) {
                part.other.clear();
            }
        }
        let written = write_stream(format, &as_events(&told));
        let again = assemble(format, &read_stream(format, &[written.as_bytes()]));
        let mut expected = bare(told);
        expected.choices[0].stop.get_or_insert(llm::answer::Stop::End);
        let mut again = bare(again);
        again.id.clone_from(&expected.id);
        assert_eq!(again, expected, "{name}");
    }
}

fn ask(from: Format, body: &Value, to: Format) -> Result<(Value, Vec<String>), String> {
    let written = convert::read_request(from, body.clone(), &PathFacts::default())
        .and_then(|request| convert::write_request(to, &request, &WriteOptions::default()));
    written
        .map(|written| (written.body, written.dropped))
        .map_err(|error| error.to_string())
}

#[test]
fn to_chat_and_back() {
    let body = json!({"model": "m", "instructions": "Be brief.", "store": true, "max_output_tokens": 50,
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "What?"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,BBBB"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "gAAA"},
            {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
                "content": [{"type": "output_text", "text": "I look.", "annotations": []}]},
            {"type": "function_call", "id": "fc_1", "status": "completed", "call_id": "call_a", "name": "f", "arguments": "{\"x\":1}"},
            {"type": "function_call", "call_id": "call_b", "name": "g", "arguments": ""},
            {"type": "function_call_output", "call_id": "call_a", "output": "one"},
            {"type": "function_call_output", "call_id": "call_b", "output": [{"type": "input_text", "text": "two"}]}],
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": true}],
        "tool_choice": {"type": "function", "name": "f"}, "parallel_tool_calls": false,
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": true}},
        "reasoning": {"effort": "low", "summary": null}, "include": ["message.output_text.logprobs"], "top_logprobs": 2,
        "safety_identifier": "u1", "stream": true});
    let chat = json!({"model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,BBBB", "filename": "a.pdf"}}]},
            {"role": "assistant", "content": "I look.", "tool_calls": [
                {"id": "call_a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
                {"id": "call_b", "type": "function", "function": {"name": "g", "arguments": ""}}]},
            {"role": "tool", "tool_call_id": "call_a", "content": "one"},
            {"role": "tool", "tool_call_id": "call_b", "content": "two"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": true}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}}, "parallel_tool_calls": false,
        "max_completion_tokens": 50, "logprobs": true, "top_logprobs": 2,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": true}},
        "reasoning_effort": "low", "user": "u1", "stream": true});
    let dropped = vec!["thinking".to_owned(), "store".to_owned()];
    assert_eq!(
        ask(Format::Responses, &body, Format::Chat),
        Ok((chat.clone(), dropped))
    );

    let mut chat = chat;
    chat["metadata"] = json!({"a": "b"});
    chat["verbosity"] = "low".into();
    chat["tools"][0]["function"]["strict"] = Value::Null;
    let expected = json!({"model": "m", "instructions": "Be brief.",
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "What?"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
                {"type": "input_file", "file_data": "data:application/pdf;base64,BBBB", "filename": "a.pdf"}]},
            {"type": "message", "role": "assistant", "content": "I look."},
            {"type": "function_call", "call_id": "call_a", "name": "f", "arguments": "{\"x\":1}"},
            {"type": "function_call", "call_id": "call_b", "name": "g", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_a", "output": "one"},
            {"type": "function_call_output", "call_id": "call_b", "output": "two"}],
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": false}],
        "tool_choice": {"type": "function", "name": "f"}, "parallel_tool_calls": false, "max_output_tokens": 50,
        "top_logprobs": 2,
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": true}, "verbosity": "low"},
        "reasoning": {"effort": "low"}, "stream": true, "metadata": {"a": "b"}, "user": "u1",
        "include": ["message.output_text.logprobs"], "store": false});
    assert_eq!(
        ask(Format::Chat, &chat, Format::Responses),
        Ok((expected, vec![]))
    );
}

#[test]
fn refusals() {
    let with = |more: Value| {
        let mut body = json!({"model": "m", "input": "x"});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    for (more, field) in [
        (json!({"previous_response_id": "resp_1"}), "previous_response_id"),
        (json!({"conversation": "conv_1"}), "conversation"),
        (json!({"prompt": {"id": "p"}}), "prompt"),
        (json!({"background": true}), "background"),
        (json!({"tools": [{"type": "web_search"}]}), "tool web_search"),
        (json!({"tool_choice": {"type": "web_search"}}), "tool_choice"),
        (
            json!({"input": [{"type": "item_reference", "id": "msg_1"}]}),
            "item_reference",
        ),
        (
            json!({"input": [{"type": "web_search_call", "id": "ws_1"}]}),
            "web_search_call",
        ),
    ] {
        for to in Format::ALL.into_iter().filter(|to| *to != Format::Responses) {
            let error = ask(Format::Responses, &with(more.clone()), to).unwrap_err();
            let expected =
                format!("`{field}` cannot be expressed in the format of this model's provider ({to:?})");
            assert_eq!(error, expected);
        }
        assert!(
            ask(Format::Responses, &with(more), Format::Responses).is_ok(),
            "{field}"
        );
    }
    for (more, words) in [
        (json!({"model": null}), "field `model` must be a string"),
        (
            json!({"input": null}),
            "field `input` must be a string or an array",
        ),
        (json!({"input": [{}]}), "field `input[0].type` must be a string"),
        (
            json!({"input": [{"type": "function_call", "name": "f"}]}),
            "field `input[0].call_id` must be a string",
        ),
        (
            json!({"input": [{"role": "x", "content": "y"}]}),
            "field `input[0].role` must be `system`, `developer`, `user` or `assistant`",
        ),
        (
            json!({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}),
            "field `input[0].content[0].text` must be a string",
        ),
        (
            json!({"text": {"format": {"type": "grammar"}}}),
            "field `text.format.type` must be `text`, `json_object` or `json_schema`",
        ),
    ] {
        assert_eq!(
            ask(Format::Responses, &with(more), Format::Chat).unwrap_err(),
            words
        );
    }
}

#[test]
fn thoughts_of_claude_come_back_to_claude_alone() {
    let answer = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "tool_use",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "ZGF0YQ=="},
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}],
        "usage": {"input_tokens": 1, "output_tokens": 1}});
    let answer = convert::read_answer(Format::Messages, answer).unwrap();
    let whole = convert::write_answer(Format::Responses, &answer).unwrap();
    assert!(whole.dropped.is_empty());
    let options = StreamOptions {
        provider: Some(Format::Messages),
        ..StreamOptions::default()
    };
    let mut writer = convert::stream_writer(Format::Responses, options);
    let mut bytes = Vec::new();
    as_events(&answer)
        .iter()
        .for_each(|event| writer.write(event, &mut bytes));
    let streamed = documents(&String::from_utf8(bytes).unwrap()).pop().unwrap()["response"].clone();
    for (output, what) in [
        (&whole.body["output"], "whole"),
        (&streamed["output"], "streamed"),
    ] {
        let mut input = output.as_array().unwrap().clone();
        input.push(json!({"type": "function_call_output", "call_id": "toolu_1", "output": "one"}));
        let next = json!({"model": "claude", "input": input, "max_output_tokens": 9});
        let (body, dropped) = ask(Format::Responses, &next, Format::Messages).unwrap();
        assert_eq!(
            body["messages"][0]["content"],
            json!([
            {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "ZGF0YQ=="},
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}]),
            "{what}"
        );
        assert!(dropped.is_empty(), "{what}: {dropped:?}");
        let (body, dropped) = ask(Format::Responses, &next, Format::Chat).unwrap();
        assert_eq!(dropped.len(), 2, "{what}: {dropped:?}");
        assert_eq!(body["messages"].as_array().map(Vec::len), Some(2), "{what}");
    }
    // What OpenAI sealed is nothing to Claude.
    let sealed = json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"});
    let next = json!({"model": "claude", "input": [sealed, {"role": "user", "content": "x"}]});
    let (_, dropped) = ask(Format::Responses, &next, Format::Messages).unwrap();
    assert_eq!(dropped, ["reasoning_content"]);
}

#[test]
fn every_event_of_a_stream() {
    use llm::answer::{Delta, Stop, StreamPart};
    let start = |part, kind| StreamEvent::PartStart {
        choice: 0,
        part,
        kind,
    };
    let delta = |part, delta| StreamEvent::Delta {
        choice: 0,
        part,
        delta,
    };
    let end = |part| StreamEvent::PartEnd { choice: 0, part };
    let call = |id: &str| StreamPart::ToolCall {
        id: id.to_owned(),
        name: "f".to_owned(),
    };
    let head = || {
        vec![StreamEvent::Start {
            id: "a1".to_owned(),
            model: "m".to_owned(),
            created_s: None,
        }]
    };
    let mut events = head();
    events.extend([
        start(0, StreamPart::Reasoning),
        delta(0, Delta::Reasoning("hm".to_owned())),
        end(0),
        start(1, StreamPart::Text),
        delta(1, Delta::Text("Hi".to_owned())),
        // Calls made at once, their pieces mixed; the text is open still.
        start(2, call("call_a")),
        start(3, call("call_b")),
        delta(3, Delta::Arguments("{\"y\":2}".to_owned())),
        delta(2, Delta::Arguments("{\"x\":1}".to_owned())),
        end(1),
        end(3),
        end(2),
        StreamEvent::Stop {
            choice: 0,
            stop: Stop::ToolUse,
        },
        StreamEvent::End,
    ]);
    let written = documents(&write_stream(Format::Responses, &events));
    let shown: Vec<String> = written
        .iter()
        .enumerate()
        .map(|(at, event)| {
            assert_eq!(event["sequence_number"], at);
            let kind = event["type"].as_str().unwrap().trim_start_matches("response.");
            match event["output_index"].as_u64() {
                Some(item) => format!("{kind} {item}"),
                None => kind.to_owned(),
            }
        })
        .collect();
    assert_eq!(
        shown,
        [
            "created",
            "in_progress",
            "output_item.added 0",
            "reasoning_summary_part.added 0",
            "reasoning_summary_text.delta 0",
            "reasoning_summary_text.done 0",
            "reasoning_summary_part.done 0",
            "output_item.done 0",
            "output_item.added 1",
            "content_part.added 1",
            "output_text.delta 1",
            "output_item.added 2",
            "output_item.added 3",
            "function_call_arguments.delta 3",
            "function_call_arguments.delta 2",
            "output_text.done 1",
            "content_part.done 1",
            "output_item.done 1",
            "function_call_arguments.done 3",
            "output_item.done 3",
            "function_call_arguments.done 2",
            "output_item.done 2",
            "completed"
        ]
    );
    let whole = &written.last().unwrap()["response"];
    let ids: Vec<&str> = whole["output"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["id"].as_str().unwrap())
        .collect();
    assert_eq!(
        (whole["id"].as_str(), ids),
        (Some("resp_a1"), vec!["rs_a1_0", "msg_a1_1", "fc_a1_2", "fc_a1_3"])
    );
    for event in &written {
        if event["type"] == "response.output_item.done" {
            let at = usize::try_from(event["output_index"].as_u64().unwrap()).unwrap();
            assert_eq!(event["item"], whole["output"][at]);
        }
    }

    let refusal = json!({"type": "refusal", "refusal": "No."});
    let mut events = head();
    let part = llm::canonical::Part {
        kind: PartKind::Other(refusal.clone()),
        other: Map::new(),
        cache_control: None,
    };
    events.extend([
        start(0, StreamPart::Whole(Box::new(part))),
        end(0),
        StreamEvent::Stop {
            choice: 0,
            stop: Stop::MaxTokens,
        },
        StreamEvent::End,
    ]);
    let written = write_stream(Format::Responses, &events);
    let last = documents(&written).pop().unwrap();
    assert_eq!(
        (&last["type"], &last["response"]["incomplete_details"]["reason"]),
        (&json!("response.incomplete"), &json!("max_output_tokens"))
    );
    assert_eq!(last["response"]["output"][0]["content"], json!([refusal]));
    for kind in ["refusal.delta", "refusal.done"] {
        assert!(written.contains(&format!("event: response.{kind}\n")), "{kind}");
    }
    assert_eq!(
        read_stream(Format::Responses, &[written.as_bytes()])[1..],
        events[1..]
    );

    let error = || {
        StreamEvent::Error(llm::error::ErrorAnswer {
            status: 429,
            message: "slow down".to_owned(),
            code: None,
            param: None,
        })
    };
    let failed = documents(&write_stream(
        Format::Responses,
        &[head(), vec![error(), StreamEvent::End]].concat(),
    ))
    .pop()
    .unwrap();
    assert_eq!(
        (&failed["type"], &failed["response"]["error"]),
        (
            &json!("response.failed"),
            &json!({"code": "rate_limit_exceeded", "message": "slow down"})
        )
    );
    let early = documents(&write_stream(Format::Responses, &[error(), StreamEvent::End]))
        .pop()
        .unwrap();
    assert_eq!(
        (&early["type"], &early["message"]),
        (&json!("error"), &json!("slow down"))
    );
}

#[test]
fn streams_of_other_providers() {
    let framed = |events: &[Value]| {
        events
            .iter()
            .map(|event| format!("data: {event}\n\n"))
            .collect::<String>()
    };
    let item = |kind: &str, at: u64, item: Value| json!({"type": kind, "output_index": at, "item": item});
    // Only what is complete, events that nobody knows, no end of the answer.
    let text =
        json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]});
    let call = json!({"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"});
    let body = framed(&[
        json!({"type": "response.created", "response": {"id": "r", "model": "m"}}),
        json!({"type": "response.keepalive"}),
        item(
            "response.output_item.done",
            0,
            json!({"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "h"}, {"type": "summary_text", "text": "m"}]}),
        ),
        item("response.output_item.done", 1, text),
        item("response.output_item.done", 2, call),
        item(
            "response.output_item.done",
            3,
            json!({"type": "web_search_call", "id": "ws"}),
        ),
    ]);
    let events = read_stream(Format::Responses, &[body.as_bytes()]);
    let told = stream::assemble(&events);
    let kinds: Vec<&PartKind> = told.parts[&0].iter().map(|part| &part.kind).collect();
    let expected = [
        &PartKind::Reasoning {
            text: "h\n\nm".to_owned(),
            signature: None,
        },
        &PartKind::Text("Hi".to_owned()),
        &PartKind::ToolCall {
            id: "a".to_owned(),
            name: "f".to_owned(),
            arguments: "{}".to_owned(),
        },
        &PartKind::Other(json!({"type": "web_search_call", "id": "ws"})),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(
        told.error.as_deref(),
        Some("the provider ended its stream before the answer was complete")
    );
    let failed = framed(&[
        json!({"type": "response.failed", "response": {"error": {"code": "server_error", "message": "broken"}}}),
    ]);
    let told = stream::assemble(&read_stream(Format::Responses, &[failed.as_bytes()]));
    assert_eq!((told.error.as_deref(), told.stops.len()), (Some("broken"), 0));
    let failed = json!({"id": "r", "status": "failed", "error": {"code": "server_error", "message": "broken"}, "output": []});
    let error = convert::read_answer(Format::Responses, failed).unwrap_err();
    assert_eq!(error.to_string(), "the provider failed: broken");
}
