//! AWS Bedrock Converse: recorded traffic through the canonical model and back.

#[allow(dead_code, reason = "not every test has golden files")]
mod common;
#[path = "common/stream.rs"]
#[allow(dead_code, reason = "not every test has text streams")]
mod stream;

use base64::Engine as _;
use common::recorded;
use llm::answer::{Delta, Stop, StreamEvent, StreamPart};
use llm::canonical::PartKind;
use llm::convert::{self, PathFacts, StreamOptions, WriteOptions};
use llm::eventstream;
use llm::format::Format;
use llm::usage::{Meter, Usage, of_response};
use serde_json::{Map, Value, json};
use stream::{assemble, check_cuts, merge_texts, read_binary};

const FORMAT: Format = Format::Converse;

struct Call {
    name: String,
    facts: PathFacts,
    request: Value,
    response: Value,
}

fn calls() -> Vec<Call> {
    let mut calls = Vec::new();
    for (name, interaction) in recorded() {
        let uri = interaction["request"]["uri"].as_str().unwrap_or("");
        let path = uri.split('?').next().unwrap();
        let Some((_, rest)) = path.split_once("/model/") else {
            continue;
        };
        let Some((model, method)) = rest.rsplit_once('/') else {
            continue;
        };
        if !["converse", "converse-stream"].contains(&method)
            || !interaction["request"]["body_json"].is_object()
        {
            continue;
        }
        let response = &interaction["response"];
        calls.push(Call {
            name: name.rsplit('/').take(2).collect::<Vec<_>>().join(" "),
            facts: PathFacts {
                model: Some(model.replace("%3A", ":")),
                stream: method == "converse-stream",
            },
            request: interaction["request"]["body_json"].clone(),
            response: response.clone(),
        });
    }
    calls
}

/// Leaves out what says nothing: empty objects and lists where absence means the same, counts of the
/// usage (compared in their buckets), and the order of a schema that is a text.
fn normal(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(normal).collect(),
        Value::Object(fields) => {
            let mut out = Map::new();
            for (key, value) in fields {
                let value = match (key.as_str(), normal(value)) {
                    (_, Value::Null) | ("usage", _) => continue,
                    ("type", kind) if kind == "tool_use" => continue,
                    ("system", Value::Array(items)) if items.is_empty() => continue,
                    ("inferenceConfig", Value::Object(config)) if config.is_empty() => continue,
                    ("schema", Value::String(schema)) => serde_json::from_str(&schema).unwrap(),
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
    assert!(calls.len() >= 40, "only {} recorded requests", calls.len());
    for call in calls {
        let name = &call.name;
        let request = convert::read_request(FORMAT, call.request.clone(), &call.facts)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let written = convert::write_request(FORMAT, &request, &WriteOptions::default())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(normal(&written.body), normal(&call.request), "{name}");
        assert_eq!(written.dropped, [""; 0], "{name}");
        let again = convert::read_request(FORMAT, written.body, &call.facts);
        assert_eq!(again.as_ref(), Ok(&request), "{name}: read again");
    }
}

#[test]
fn recorded_answers_come_back_whole() {
    let mut n_answers = 0;
    for call in calls() {
        let (name, body) = (&call.name, &call.response["body_json"]);
        if !body.is_object() || call.response["status"] != 200 {
            continue;
        }
        n_answers += 1;
        let answer = convert::read_answer(FORMAT, body.clone()).unwrap();
        assert_eq!(answer.usage, of_response(FORMAT, body), "{name}");
        let written = convert::write_answer(FORMAT, &answer).unwrap();
        assert_eq!(normal(&written.body), normal(body), "{name}");
        assert_eq!(written.dropped, [""; 0], "{name}");
        assert_eq!(
            convert::read_answer(FORMAT, written.body).as_ref(),
            Ok(&answer),
            "{name}"
        );
    }
    assert!(n_answers >= 35, "only {n_answers} recorded answers");
}

/// The whole answer that the events of a stream are pieces of, in the simplest way.
fn join(messages: &[eventstream::Message]) -> Value {
    let mut blocks: Vec<Value> = Vec::new();
    let mut whole = json!({});
    for message in messages {
        let event: Value = serde_json::from_slice(&message.payload).unwrap();
        let at = usize::try_from(event["contentBlockIndex"].as_u64().unwrap_or(0)).unwrap();
        match message.header(":event-type").unwrap() {
            "contentBlockStart" => {
                assert_eq!(at, blocks.len());
                blocks.push(event["start"].clone());
            }
            "contentBlockDelta" => {
                if at == blocks.len() {
                    blocks.push(json!({}));
                }
                let (block, delta) = (&mut blocks[at], &event["delta"]);
                let append = |to: &mut Value, more: &Value| {
                    *to = (to.as_str().unwrap_or("").to_owned() + more.as_str().unwrap()).into();
                };
                if delta["text"].is_string() {
                    append(&mut block["text"], &delta["text"]);
                } else if delta["toolUse"].is_object() {
                    append(&mut block["toolUse"]["input"], &delta["toolUse"]["input"]);
                } else if delta["toolResult"].is_array() {
                    block["toolResult"]["content"] = delta["toolResult"].clone();
                } else {
                    for (key, more) in delta["reasoningContent"].as_object().unwrap() {
                        append(&mut block["reasoningContent"]["reasoningText"][key], more);
                    }
                }
            }
            "messageStop" => whole["stopReason"] = event["stopReason"].clone(),
            "metadata" => whole["usage"] = event["usage"].clone(),
            _ => {}
        }
    }
    for block in &mut blocks {
        if let Some(input) = block.pointer_mut("/toolUse/input") {
            *input = serde_json::from_str(input.as_str().unwrap()).unwrap();
        }
    }
    whole["output"] = json!({"message": {"role": "assistant", "content": blocks}});
    whole
}

#[test]
fn recorded_streams() {
    let mut n_streams = 0;
    for call in calls() {
        let Some(body) = call.response["body_b64"].as_str() else {
            continue;
        };
        n_streams += 1;
        let name = &call.name;
        let bytes = base64::engine::general_purpose::STANDARD.decode(body).unwrap();
        check_cuts(name, &bytes, |pieces| read_binary(pieces.iter().copied()));
        let events = read_binary([&bytes[..]]);
        let assembled = assemble(&events);
        assert_eq!(assembled.error, None, "{name}");

        let (mut framer, mut messages) = (eventstream::Framer::new(1 << 20), Vec::new());
        framer.feed(&bytes, &mut messages).unwrap();
        let mut meter = Meter::new(FORMAT);
        for message in &messages {
            meter.observe(&serde_json::from_slice(&message.payload).unwrap());
        }
        assert_eq!(assembled.usage, meter.usage(), "{name}");
        let whole = convert::read_answer(FORMAT, join(&messages)).unwrap();
        assert_eq!(assembled.usage, whole.usage, "{name}");
        let choice = &whole.choices[0];
        assert_eq!(
            merge_texts(&assembled.parts[&0]),
            merge_texts(&choice.parts),
            "{name}"
        );
        assert_eq!(assembled.stops.get(&0), choice.stop.as_ref(), "{name}");

        let mut back = assemble(&read_binary([&write(&events)[..]]));
        let is_other = |kind: &PartKind| matches!(kind, PartKind::Other(_));
        let mut expected = assemble(&events);
        // Tools that the provider itself ran have no words in a stream that is written.
        expected
            .parts
            .get_mut(&0)
            .unwrap()
            .retain(|part| !is_other(&part.kind));
        back.parts.entry(0).or_default();
        assert_eq!(back, expected, "{name}: written and read again");
    }
    assert!(n_streams >= 4, "only {n_streams} recorded streams");
}

fn write(events: &[StreamEvent]) -> Vec<u8> {
    let mut writer = convert::stream_writer(FORMAT, StreamOptions::default());
    let mut bytes = Vec::new();
    events.iter().for_each(|event| writer.write(event, &mut bytes));
    bytes
}

/// A stream as frames of event name and payload.
fn frames(events: &[(&str, Value)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, payload) in events {
        let kind = if name.ends_with("Exception") {
            ":exception-type"
        } else {
            ":event-type"
        };
        eventstream::encode(&[(kind, name)], payload.to_string().as_bytes(), &mut bytes);
    }
    bytes
}

#[test]
fn streams_that_end_badly() {
    let check = |events: &[(&str, Value)], error: Option<&str>| {
        let assembled = assemble(&read_binary([&frames(events)[..]]));
        assert_eq!(assembled.error.as_deref(), error, "{events:?}");
    };
    let cut = Some("the provider ended its stream before the answer was complete");
    let start = ("messageStart", json!({"role": "assistant"}));
    let text = (
        "contentBlockDelta",
        json!({"contentBlockIndex": 0, "delta": {"text": "a"}}),
    );
    let stop = ("messageStop", json!({"stopReason": "end_turn"}));
    check(&[], cut);
    check(&[start.clone(), text.clone()], cut);
    check(&[start.clone(), text.clone(), stop], None);
    let busy = ("throttlingException", json!({"message": "busy"}));
    check(&[start, text.clone(), busy, text], Some("busy"));
}

#[test]
fn a_stream_in_frames() {
    let part = |part: usize, kind: StreamPart| StreamEvent::PartStart {
        choice: 0,
        part,
        kind,
    };
    let delta = |part: usize, delta: Delta| StreamEvent::Delta {
        choice: 0,
        part,
        delta,
    };
    let end = |part: usize| StreamEvent::PartEnd { choice: 0, part };
    let call = StreamPart::ToolCall {
        id: "a".to_owned(),
        name: "f".to_owned(),
    };
    let redacted = plain_other(json!({"type": "redacted_thinking", "data": "x"}));
    let usage = Usage {
        input: 3,
        cache_read: 4,
        cache_write_1h: 5,
        output: 6,
        reasoning: 1,
        ..Usage::default()
    };
    let events = [
        StreamEvent::Start {
            id: "1".to_owned(),
            model: "m".to_owned(),
            created_s: None,
        },
        part(0, StreamPart::Reasoning),
        delta(0, Delta::Reasoning("hm".to_owned())),
        delta(0, Delta::Signature("s".to_owned())),
        end(0),
        part(1, redacted),
        end(1),
        part(2, StreamPart::Text),
        end(2),
        part(3, call),
        delta(3, Delta::Arguments("{}".to_owned())),
        end(3),
        StreamEvent::Usage(usage),
        StreamEvent::Stop {
            choice: 0,
            stop: Stop::ToolUse,
        },
        StreamEvent::End,
    ];
    let expected = [
        ("messageStart", json!({"role": "assistant"})),
        (
            "contentBlockDelta",
            json!({"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "hm"}}}),
        ),
        (
            "contentBlockDelta",
            json!({"contentBlockIndex": 0, "delta": {"reasoningContent": {"signature": "s"}}}),
        ),
        ("contentBlockStop", json!({"contentBlockIndex": 0})),
        (
            "contentBlockDelta",
            json!({"contentBlockIndex": 1, "delta": {"reasoningContent": {"redactedContent": "x"}}}),
        ),
        ("contentBlockStop", json!({"contentBlockIndex": 1})),
        (
            "contentBlockStart",
            json!({"contentBlockIndex": 3, "start": {"toolUse": {"toolUseId": "a", "name": "f"}}}),
        ),
        (
            "contentBlockDelta",
            json!({"contentBlockIndex": 3, "delta": {"toolUse": {"input": "{}"}}}),
        ),
        ("contentBlockStop", json!({"contentBlockIndex": 3})),
        ("messageStop", json!({"stopReason": "tool_use"})),
        (
            "metadata",
            json!({"usage": {"inputTokens": 3, "outputTokens": 7, "totalTokens": 19,
            "cacheReadInputTokens": 4, "cacheWriteInputTokens": 5,
            "cacheDetails": [{"ttl": "1h", "inputTokens": 5}]}}),
        ),
    ];
    let (mut framer, mut messages) = (eventstream::Framer::new(1 << 20), Vec::new());
    framer.feed(&write(&events), &mut messages).unwrap();
    let shown: Vec<(&str, Value)> = messages
        .iter()
        .map(|message| {
            assert_eq!(message.header(":message-type"), Some("event"));
            let payload = serde_json::from_slice(&message.payload).unwrap();
            (message.header(":event-type").unwrap(), payload)
        })
        .collect();
    assert_eq!(shown, expected);
}

fn plain_other(value: Value) -> StreamPart {
    let part = llm::canonical::Part {
        kind: PartKind::Other(value),
        other: Map::new(),
        cache_control: None,
    };
    StreamPart::Whole(Box::new(part))
}
