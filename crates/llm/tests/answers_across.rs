//! Recorded answers and streams from every format into every other: what was said, called, reasoned and
//! used, and why it ended, comes back the same.

#[allow(dead_code, reason = "not every test has golden files")]
mod common;
#[path = "common/stream.rs"]
#[allow(dead_code, reason = "not every test compares parts")]
mod stream;

use base64::Engine as _;
use common::recorded;
use llm::answer::{Answer, Stop, StreamEvent};
use llm::assemble::Assembler;
use llm::canonical::{Part, PartKind};
use llm::convert::{self, StreamOptions};
use llm::format::Format;
use llm::sse::Framing;
use serde_json::{Value, json};

/// Those whose answers are read and written.
const FORMATS: [Format; 6] = [
    Format::Chat,
    Format::Messages,
    Format::Responses,
    Format::GenerateContent,
    Format::Converse,
    Format::Cohere,
];

fn format_of(interaction: &Value) -> Option<Format> {
    let path = interaction["request"]["uri"].as_str()?.split('?').next()?;
    let ends = [
        ("/chat/completions", Format::Chat),
        ("/v1/messages", Format::Messages),
        ("/responses", Format::Responses),
        (":generateContent", Format::GenerateContent),
        (":streamGenerateContent", Format::GenerateContent),
        ("/converse", Format::Converse),
        ("/converse-stream", Format::Converse),
        ("/v2/chat", Format::Cohere),
    ];
    let found = ends.into_iter().find(|(end, _)| path.ends_with(end));
    found.map(|(_, format)| format)
}

fn read_stream(format: Format, bytes: &[u8]) -> Vec<StreamEvent> {
    match format {
        Format::Converse => stream::read_binary([bytes]),
        _ => stream::read(format, Framing::ServerSentEvents, [bytes]),
    }
}

fn write_stream(format: Format, events: &[StreamEvent]) -> Vec<u8> {
    let options = StreamOptions {
        include_usage: true,
        ..StreamOptions::default()
    };
    let mut writer = convert::stream_writer(format, options);
    let mut bytes = Vec::new();
    events.iter().for_each(|event| writer.write(event, &mut bytes));
    bytes
}

fn assemble(format: Format, events: &[StreamEvent]) -> Answer {
    let mut assembler = Assembler::new(format, 8 << 20);
    events.iter().for_each(|event| assembler.add(event));
    let assembled = assembler.finish();
    assert!(!assembled.is_truncated);
    assembled.answer
}

/// What a choice says that every format has words for.
fn said(parts: &[Part], stop: Option<&Stop>) -> Value {
    let (mut text, mut reasoning, mut calls) = (String::new(), String::new(), Vec::new());
    for part in parts {
        match &part.kind {
            PartKind::Text(more) => text += more,
            PartKind::Reasoning { text: more, .. } => reasoning += more,
            PartKind::ToolCall { name, arguments, .. } => {
                let arguments = if arguments.is_empty() { "{}" } else { arguments };
                let arguments = serde_json::from_str::<Value>(arguments).unwrap_or(arguments.into());
                calls.push(json!({"name": name, "arguments": arguments}));
            }
            PartKind::Other(value) if value["type"] == "refusal" => {
                text += value["refusal"].as_str().unwrap();
            }
            _ => {}
        }
    }
    // Words that a format lacks are an end like any other.
    let stop = match stop {
        Some(Stop::Sequence(_) | Stop::Other(_)) | None => Stop::End,
        Some(stop) => stop.clone(),
    };
    json!({"text": text, "reasoning": reasoning, "calls": calls, "stop": format!("{stop:?}")})
}

fn check(name: &str, answer: &Answer, back: &Answer) {
    assert_eq!(answer.choices.len(), back.choices.len(), "{name}");
    for (expected, choice) in answer.choices.iter().zip(&back.choices) {
        let expected = said(&expected.parts, expected.stop.as_ref());
        assert_eq!(said(&choice.parts, choice.stop.as_ref()), expected, "{name}");
    }
    let totals = |answer: &Answer| {
        answer
            .usage
            .map(|usage| (usage.total_input(), usage.total_output()))
    };
    if let Some(expected) = totals(answer) {
        assert_eq!(totals(back), Some(expected), "{name}: usage");
    }
}

#[test]
fn recorded_answers_across_formats() {
    let (mut n_answers, mut n_streams) = (0, 0);
    for (name, interaction) in recorded() {
        let Some(from) = format_of(&interaction) else {
            continue;
        };
        let response = &interaction["response"];
        if response["status"].as_u64().is_some_and(|status| status >= 400) {
            continue;
        }
        let body = response["body"].as_str().map(|body| body.as_bytes().to_vec());
        let binary = response["body_b64"].as_str();
        let binary = binary.map(|body| base64::engine::general_purpose::STANDARD.decode(body).unwrap());
        for to in FORMATS {
            let name = format!("{name} {from:?} to {to:?}");
            if let Some(bytes) = body.as_ref().or(binary.as_ref()) {
                n_streams += 1;
                let events = read_stream(from, bytes);
                if events.iter().any(|event| matches!(event, StreamEvent::Error(_))) {
                    continue;
                }
                let written = write_stream(to, &events);
                let back = read_stream(to, &written);
                check(&name, &assemble(from, &events), &assemble(to, &back));
            } else if response["body_json"].is_object() {
                let answer = convert::read_answer(from, response["body_json"].clone()).unwrap();
                if answer.choices.len() != 1 {
                    continue;
                }
                n_answers += 1;
                let written = match convert::write_answer(to, &answer) {
                    Ok(written) => written,
                    Err(error) => {
                        println!("{name}: {error}");
                        continue;
                    }
                };
                let back =
                    convert::read_answer(to, written.body).unwrap_or_else(|error| panic!("{name}: {error}"));
                check(&name, &answer, &back);
            }
        }
    }
    assert!(n_answers >= 1000, "only {n_answers} answers");
    assert!(n_streams >= 200, "only {n_streams} streams");
}
