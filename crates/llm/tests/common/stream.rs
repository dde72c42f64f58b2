//! Streams in tests: cut anywhere, read to events, and put together again.

use llm::answer::{Delta, Stop, StreamEvent, StreamPart, TokenLogprob};
use llm::canonical::{Part, PartKind};
use llm::convert;
use llm::format::Format;
use llm::usage::Usage;
use llm::{eventstream, sse};
use serde_json::Map;
use std::collections::BTreeMap;

const LIMIT_BYTES: usize = 1 << 20;

/// The events of a stream whose bytes come in these pieces.
pub(crate) fn read<'a>(
    format: Format,
    framing: sse::Framing,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<StreamEvent> {
    let mut reader = convert::stream_reader(format);
    let (mut framer, mut framed, mut events) =
        (sse::Framer::new(framing, LIMIT_BYTES), Vec::new(), Vec::new());
    for piece in pieces {
        framer.feed(piece, &mut framed).unwrap();
        for event in framed.drain(..) {
            reader.read(&event.name, &event.data, &mut events).unwrap();
        }
    }
    if let Some(event) = framer.finish() {
        reader.read(&event.name, &event.data, &mut events).unwrap();
    }
    reader.finish(&mut events);
    events
}

/// The same of AWS's binary streams.
#[allow(dead_code, reason = "not every test has binary streams")]
pub(crate) fn read_binary<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<StreamEvent> {
    let mut reader = convert::stream_reader(Format::Converse);
    let (mut framer, mut framed, mut events) =
        (eventstream::Framer::new(LIMIT_BYTES), Vec::new(), Vec::new());
    for piece in pieces {
        framer.feed(piece, &mut framed).unwrap();
        for message in framed.drain(..) {
            let name = message
                .header(":event-type")
                .or_else(|| message.header(":exception-type"));
            let data = std::str::from_utf8(&message.payload).unwrap();
            reader.read(name.unwrap_or(""), data, &mut events).unwrap();
        }
    }
    framer.finish().unwrap();
    reader.finish(&mut events);
    events
}

/// Checks that `read` gives the same events wherever the bytes are cut: in all places at once, and in
/// two at every byte (of long streams at 500 places).
#[allow(dead_code, reason = "used by some of the test programs")]
pub(crate) fn check_cuts(name: &str, bytes: &[u8], read: impl Fn(&[&[u8]]) -> Vec<StreamEvent>) {
    let whole = read(&[bytes]);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(&single), whole, "{name}: byte by byte");
    for cut in (0..bytes.len()).step_by(1 + bytes.len() / 500) {
        let (left, right) = bytes.split_at(cut);
        assert_eq!(read(&[left, right]), whole, "{name}: cut at {cut}");
    }
}

/// An answer put together from its events.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Assembled {
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) parts: BTreeMap<usize, Vec<Part>>,
    pub(crate) logprobs: Vec<TokenLogprob>,
    pub(crate) stops: BTreeMap<usize, Stop>,
    pub(crate) usage: Option<Usage>,
    pub(crate) error: Option<String>,
}

/// Puts an answer together, and checks the order that [`StreamEvent`] promises.
pub(crate) fn assemble(events: &[StreamEvent]) -> Assembled {
    let mut out = Assembled::default();
    let mut open: BTreeMap<(usize, usize), bool> = BTreeMap::new();
    let mut started = false;
    for event in events {
        match event.clone() {
            StreamEvent::Start { id, model, .. } => {
                assert!(!std::mem::replace(&mut started, true), "two starts");
                (out.id, out.model) = (id, model);
            }
            StreamEvent::PartStart { choice, part, kind } => {
                assert!(started && !out.stops.contains_key(&choice));
                let parts = out.parts.entry(choice).or_default();
                assert_eq!(parts.len(), part, "parts are counted");
                assert!(open.insert((choice, part), true).is_none());
                let kind = match kind {
                    StreamPart::Text => PartKind::Text(String::new()),
                    StreamPart::Reasoning => PartKind::Reasoning {
                        text: String::new(),
                        signature: None,
                    },
                    StreamPart::ToolCall { id, name } => PartKind::ToolCall {
                        id,
                        name,
                        arguments: String::new(),
                    },
                    StreamPart::Whole(whole) => {
                        parts.push(*whole);
                        continue;
                    }
                };
                parts.push(Part {
                    kind,
                    other: Map::new(),
                    cache_control: None,
                });
            }
            StreamEvent::Delta { choice, part, delta } => {
                assert_eq!(
                    open.get(&(choice, part)),
                    Some(&true),
                    "a delta of a part that is not open"
                );
                let part = &mut out.parts.get_mut(&choice).unwrap()[part];
                match (&mut part.kind, delta) {
                    (PartKind::Text(text), Delta::Text(more))
                    | (PartKind::Reasoning { text, .. }, Delta::Reasoning(more)) => text.push_str(&more),
                    (PartKind::ToolCall { arguments, .. }, Delta::Arguments(more)) => {
                        arguments.push_str(&more);
                    }
                    (PartKind::Reasoning { signature, .. }, Delta::Signature(more)) => {
                        signature.get_or_insert_default().push_str(&more);
                    }
                    (kind, delta) => panic!("{delta:?} of {kind:?}"),
                }
            }
            StreamEvent::PartEnd { choice, part } => {
                assert_eq!(open.insert((choice, part), false), Some(true));
            }
            StreamEvent::Logprobs { tokens, .. } => out.logprobs.extend(tokens),
            StreamEvent::Stop { choice, stop } => {
                assert!(out.stops.insert(choice, stop).is_none(), "two stops");
            }
            StreamEvent::Usage(usage) => out.usage = Some(usage),
            StreamEvent::Error(error) => out.error = Some(error.message),
            StreamEvent::Ping | StreamEvent::End => {}
        }
    }
    assert!(open.values().all(|open| !open), "a part was left open");
    assert_eq!(events.last(), Some(&StreamEvent::End));
    let ends = events.iter().filter(|event| **event == StreamEvent::End).count();
    assert_eq!(ends, 1);
    out
}

/// Parts as a stream has them: neighbouring texts are one, empty ones are not there.
#[allow(dead_code, reason = "used by some of the test programs")]
pub(crate) fn merge_texts(parts: &[Part]) -> Vec<Part> {
    let mut out: Vec<Part> = Vec::new();
    for mut part in parts.iter().cloned() {
        if let PartKind::Text(_) = &part.kind {
            // Signatures over text are not told in streams.
            part.other.shift_remove("thoughtSignature");
        }
        let merged = match (out.last_mut().map(|last| &mut last.kind), &part.kind) {
            (Some(PartKind::Text(text)), PartKind::Text(more)) => {
                text.push_str(more);
                true
            }
            (
                Some(PartKind::Reasoning { text, signature }),
                PartKind::Reasoning {
                    text: more,
                    signature: last,
                },
            ) => {
                text.push_str(more);
                *signature = last.clone().or(signature.take());
                true
            }
            _ => false,
        };
        let is_empty = part.kind == PartKind::Text(String::new()) && part.other.is_empty();
        match out.last_mut() {
            Some(last) if merged => last.other.extend(part.other),
            _ if is_empty => {}
            _ => out.push(part),
        }
    }
    out
}
