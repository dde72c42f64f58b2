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
