//! Answers and streams: recorded ones through the canonical model and back.

mod common;
#[path = "laws/invariants.rs"]
#[allow(dead_code, reason = "the other laws have a test program of their own")]
mod invariants;

use common::{check_golden, recorded};
use invariants::check_order;
use llm::answer::{Answer, StreamEvent};
use llm::assemble::Assembler;
use llm::canonical::PartKind;
use llm::convert::{self, StreamOptions};
use llm::format::Format;
use llm::sse;
use llm::usage::{Meter, Usage};
use serde_json::{Map, Value, json};

const LIMIT_BYTES: usize = 8 << 20;

fn format_of(interaction: &Value) -> Option<Format> {
    let path = interaction["request"]["uri"].as_str()?.split('?').next()?;
    [
        ("/chat/completions", Format::Chat),
        ("/v1/messages", Format::Messages),
    ]
    .into_iter()
    .find(|(end, _)| path.ends_with(end))
    .map(|(_, format)| format)
}

fn status_of(interaction: &Value) -> u64 {
    interaction["response"]["status"].as_u64().unwrap_or(200)
}

/// Recorded whole answers.
fn answers() -> Vec<(String, Format, Value)> {
    let all = recorded().into_iter().filter_map(|(name, interaction)| {
        let body = &interaction["response"]["body_json"];
        let name = name.rsplit('/').take(2).collect::<Vec<_>>().join(" ");
        let is_answer = body.is_object() && status_of(&interaction) < 400;
        is_answer.then_some((name, format_of(&interaction)?, body.clone()))
    });
    all.collect()
}

/// Recorded streams.
fn streams() -> Vec<(String, Format, String)> {
    let all = recorded().into_iter().filter_map(|(name, interaction)| {
        let body = interaction["response"]["body"].as_str()?;
        let name = name.rsplit('/').take(2).collect::<Vec<_>>().join(" ");
        let is_stream = body.lines().any(|line| line.starts_with("data:"));
        is_stream.then_some((name, format_of(&interaction)?, body.to_owned()))
    });
    all.collect()
}

fn frames(pieces: &[&[u8]]) -> Vec<sse::Event> {
    let mut framer = sse::Framer::new(sse::Framing::ServerSentEvents, LIMIT_BYTES);
    let mut events = Vec::new();
    for piece in pieces {
        framer.feed(piece, &mut events).unwrap();
    }
    events.extend(framer.finish());
    events
}

fn read_stream(format: Format, pieces: &[&[u8]]) -> Vec<StreamEvent> {
    let mut reader = convert::stream_reader(format);
    let mut events = Vec::new();
    for frame in frames(pieces) {
        reader.read(&frame.name, &frame.data, &mut events).unwrap();
    }
    reader.finish(&mut events);
    events
}

fn write_stream(format: Format, events: &[StreamEvent]) -> String {
    let options = StreamOptions {
        include_usage: true,
        request_id: "r1".to_owned(),
        now_s: 123,
        provider: Some(Format::Messages),
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
    let mut assembler = Assembler::new(format, LIMIT_BYTES);
    for event in events {
        assembler.add(event);
    }
    let assembled = assembler.finish();
    assert!(!assembled.is_truncated);
    assembled.answer
}

/// Brings what a format lets one say in two ways, and what its writer always says in one way, to one:
///
/// * null, empty lists and counts of zero are absent; so is an `index` of a call of a tool;
/// * the total of tokens is left out: providers who count reasoning in it alone are told by the sum;
/// * `reasoning` is `reasoning_content`; a second copy of it is left out;
/// * no content is an empty text; no arguments are an object without fields; ids that a provider left
///   out are made.
fn normal(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(normal).collect(),
        Value::Object(fields) => {
            let mut out = Map::new();
            for (key, value) in fields {
                let value = match (key.as_str(), normal(value)) {
                    (_, Value::Null) | ("total_tokens", _) => continue,
                    (_, Value::Array(items)) if items.is_empty() => continue,
                    (_, Value::Number(count)) if key.ends_with("_tokens") && count.as_u64() == Some(0) => {
                        continue;
                    }
                    (key, Value::Object(inner)) if inner.is_empty() && key != "input" => continue,
                    ("index", _) if fields.contains_key("function") => continue,
                    ("content" | "reasoning", Value::String(text)) if text.is_empty() => continue,
                    ("reasoning", _) if fields.contains_key("reasoning_content") => continue,
                    ("object" | "type", Value::String(text)) if text == "chat.completion" => continue,
                    ("id", Value::String(id)) if id.is_empty() || id.ends_with("_0_0") => continue,
                    ("arguments", Value::String(text)) if text == "{}" => continue,
                    (_, value) => value,
                };
                let key = if key == "reasoning" {
                    "reasoning_content"
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
fn recorded_answers_come_back_whole() {
    let answers = answers();
    assert!(answers.len() >= 130, "only {} recorded answers", answers.len());
    for (name, format, body) in answers {
        let answer =
            convert::read_answer(format, body.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let written =
            convert::write_answer(format, &answer).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(written.dropped.is_empty(), "{name}: {:?}", written.dropped);
        let mut expected = normal(&body);
        // xAI and Google count reasoning beside the completion.
        if let Some(usage) = answer.usage.filter(|_| format == Format::Chat) {
            let completion = &mut expected["usage"]["completion_tokens"];
            let beside = usage.total_output() - completion.as_u64().unwrap_or(0);
            *completion = usage.total_output().into();
            if beside > 0 {
                expected["usage"]["completion_tokens_details"]["reasoning_tokens"] = usage.reasoning.into();
            }
        }
        assert_eq!(normal(&written.body), normal(&expected), "{name}");
        let again = convert::read_answer(format, written.body).unwrap();
        assert_eq!(again.usage, answer.usage, "{name}");
        assert_eq!(again.choices, answer.choices, "{name}");
    }
}

#[test]
fn recorded_streams_are_read_in_order_and_with_the_usage_of_the_meter() {
    let streams = streams();
    assert!(streams.len() >= 15, "only {} recorded streams", streams.len());
    for (name, format, body) in streams {
        let events = read_stream(format, &[body.as_bytes()]);
        check_order(&events);
        let mut meter = Meter::new(format);
        for frame in frames(&[body.as_bytes()]) {
            if let Ok(document) = serde_json::from_str(&frame.data) {
                meter.observe(&document);
            }
        }
        let usage = assemble(format, &events).usage;
        assert_eq!(usage, meter.usage(), "{name}");
    }
}

#[test]
fn recorded_streams_cut_at_every_byte_are_the_same() {
    let mut n_cuts = 0;
    for (name, format, body) in streams() {
        let whole = read_stream(format, &[body.as_bytes()]);
        for piece_bytes in [1, 2, 3, 1000] {
            let pieces: Vec<&[u8]> = body.as_bytes().chunks(piece_bytes).collect();
            assert_eq!(
                read_stream(format, &pieces),
                whole,
                "{name} in pieces of {piece_bytes}"
            );
        }
        // One cut at every byte. In long streams of the events around the cut alone: the framer knows
        // nothing of those before.
        let windows: Vec<&str> = if body.len() <= 4096 {
            vec![&body]
        } else {
            body.split_inclusive("\n\n").collect()
        };
        for window in windows {
            let expected = frames(&[window.as_bytes()]);
            for cut in 0..window.len() {
                let (left, right) = window.as_bytes().split_at(cut);
                assert_eq!(frames(&[left, right]), expected, "{name} cut at {cut}");
                n_cuts += 1;
            }
        }
    }
    assert!(n_cuts > 150_000, "{n_cuts}");
}

#[test]
fn streams_written_and_read_again_are_the_same() {
    for (name, from, body) in streams() {
        let mut events = read_stream(from, &[body.as_bytes()]);
        // Before `message_start` there is no place for one, and in Chat it is a comment.
        events.retain(|event| *event != StreamEvent::Ping);
        // The formats differ in which words of an error they have a place for.
        for event in &mut events {
            if let StreamEvent::Error(error) = event {
                (error.code, error.param) = (None, None);
            }
        }
        let mut once = assemble(from, &events);
        for format in [Format::Chat, Format::Messages] {
            let written = write_stream(format, &events);
            let mut again = read_stream(format, &[written.as_bytes()]);
            check_order(&again);
            for event in &mut again {
                if let StreamEvent::Error(error) = event {
                    error.code = None;
                }
            }
            let twice = write_stream(format, &again);
            assert_eq!(twice, written, "{name} as {format:?}");
            if from == format && !events.iter().any(|event| matches!(event, StreamEvent::Error(_))) {
                once.created_s = once.created_s.filter(|_| format == Format::Chat);
                assert_eq!(assemble(format, &again), once, "{name}");
            }
        }
    }
}

/// What a client sees of an answer: texts, reasoning, calls, and why it ended.
fn shown(answer: &Answer) -> Vec<String> {
    let mut shown = Vec::new();
    for choice in &answer.choices {
        for part in &choice.parts {
            match &part.kind {
                PartKind::Text(text) if text.is_empty() => {}
                PartKind::ToolCall { id, name, arguments } => {
                    let arguments: Value = serde_json::from_str(arguments).unwrap_or_else(|_| json!({}));
                    shown.push(format!("call {id} {name} {arguments}"));
                }
                kind => shown.push(format!("{kind:?}")),
            }
        }
        shown.push(format!("{:?}", choice.stop));
    }
    shown
}

#[test]
fn a_stream_put_together_is_the_answer_in_whole() {
    // An answer written as a stream and read again is the answer: there is no recording of both.
    let mut n_checked = 0;
    for (name, format, body) in answers() {
        let answer = convert::read_answer(format, body).unwrap();
        let events = common::as_events(&answer);
        check_order(&events);
        let written = write_stream(format, &events);
        let again = assemble(format, &read_stream(format, &[written.as_bytes()]));
        let mut expected = shown(&answer);
        if format == Format::Chat {
            // Parts of a message have no order between kinds.
            expected.sort();
        }
        let mut seen = shown(&again);
        if format == Format::Chat {
            seen.sort();
        }
        assert_eq!(seen, expected, "{name}");
        assert_eq!(
            again.usage.unwrap_or_default(),
            answer.usage.unwrap_or_default(),
            "{name}"
        );
        n_checked += 1;
    }
    assert!(n_checked >= 130);
}

/// Long texts are cut: the golden file is to be read.
fn shorten(value: &Value) -> Value {
    match value {
        Value::String(text) if text.chars().count() > 60 => {
            let start: String = text.chars().take(50).collect();
            format!("{start}… ({} bytes)", text.len()).into()
        }
        Value::Array(items) => items.iter().map(shorten).collect(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| (key.clone(), shorten(value)));
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}

fn across(answer: &Answer, to: Format) -> String {
    match convert::write_answer(to, answer) {
        Err(error) => format!("{error}\n"),
        Ok(written) => {
            let dropped = match &written.dropped[..] {
                [] => String::new(),
                dropped => format!("dropped: {}\n", dropped.join(", ")),
            };
            format!("{dropped}{}\n", shorten(&written.body))
        }
    }
}

fn other(format: Format) -> Format {
    if format == Format::Chat {
        Format::Messages
    } else {
        Format::Chat
    }
}

#[test]
fn recorded_answers_across_formats() {
    let mut shown = String::new();
    for (name, from, body) in answers() {
        let answer = convert::read_answer(from, body).unwrap();
        let to = other(from);
        shown += &format!("{name} {from:?} to {to:?}\n{}", across(&answer, to));
        // What is there in the other format says the same.
        if let Ok(written) = convert::write_answer(to, &answer) {
            let again = convert::read_answer(to, written.body).unwrap();
            let total = |answer: &Answer| answer.usage.map_or(0, |usage| usage.total());
            assert_eq!(total(&again), total(&answer), "{name}");
        }
    }
    check_golden("answers-across.txt", &shown);
}

#[test]
fn recorded_streams_across_formats() {
    let mut shown = String::new();
    for (name, from, body) in streams() {
        let events = read_stream(from, &[body.as_bytes()]);
        let to = other(from);
        let written = write_stream(to, &events);
        let seen = assemble(to, &read_stream(to, &[written.as_bytes()]));
        shown += &format!(
            "{name} {from:?} to {to:?}: {} bytes\n{}",
            written.len(),
            across(&seen, to)
        );
        if let Some(at) = written.find("\"error\":{") {
            let start = written[..at].rfind("data:").unwrap_or(at);
            shown += &format!("{}\n", written[start..].lines().next().unwrap_or_default());
        }
    }
    check_golden("streams-across.txt", &shown);
}

proptest::proptest! {
    /// What a writer says of the tokens reads the same, in every bucket that the format has.
    #[test]
    fn usage_is_written_as_it_is_read(counts in proptest::array::uniform10(0_u64..1_000_000)) {
        let [input, cache_read, cache_write_5m, cache_write_1h, input_audio, input_image, output, reasoning, output_audio, output_image] = counts;
        let all = Usage { input, cache_read, cache_write_5m, cache_write_1h, input_audio, input_image, output, reasoning, output_audio, output_image };
        let chat = Usage { cache_write_5m: cache_write_5m + cache_write_1h, cache_write_1h: 0, ..all };
        let messages = Usage {
            input: input + input_audio + input_image,
            output: output + output_audio + output_image,
            input_audio: 0,
            input_image: 0,
            output_audio: 0,
            output_image: 0,
            ..all
        };
        let choice = llm::answer::Choice { parts: Vec::new(), stop: None, logprobs: Vec::new(), other: Map::new() };
        for (format, expected) in [(Format::Chat, chat), (Format::Messages, messages)] {
            let answer = Answer {
                format,
                id: String::new(),
                model: String::new(),
                created_s: None,
                choices: vec![choice.clone()],
                usage: Some(all),
                other: Map::new(),
            };
            let written = convert::write_answer(format, &answer).unwrap().body;
            assert_eq!(convert::read_answer(format, written).unwrap().usage, Some(expected));
            let events = read_stream(format, &[write_stream(format, &common::as_events(&answer)).as_bytes()]);
            assert_eq!(assemble(format, &events).usage, Some(expected));
        }
    }
}
