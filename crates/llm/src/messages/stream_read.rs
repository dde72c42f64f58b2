//! Anthropic Messages: reading a stream ("Streaming messages" in Anthropic's documentation).
//!
//! Blocks that no other format streams in pieces (tools of Anthropic's own servers, their results, cited
//! text, redacted thinking, and kinds that are new) are held until they end and told whole.

use super::answer::read_stop;
use super::request::read_part;
use crate::answer::{Delta, Stop, StreamEvent, StreamPart};
use crate::canonical::{ConvertError, PartKind, plain};
use crate::convert::{ReadStream, cut_short};
use crate::error::read_stream_error;
use crate::format::Format;
use crate::usage::{Meter, Usage};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The most blocks open at once. Anthropic opens one.
const MAX_OPEN: usize = 64;
/// The most bytes held of blocks that are told whole.
const MAX_HELD_BYTES: usize = 8 << 20;

/// Deltas of blocks that are told as they come; each fits one kind of block.
const KNOWN_DELTAS: [&str; 5] = [
    "text_delta",
    "citations_delta",
    "thinking_delta",
    "signature_delta",
    "input_json_delta",
];

/// Reads a stream.
#[derive(Debug)]
pub struct StreamReader {
    started: bool,
    ended: bool,
    meter: Meter,
    told: Option<Usage>,
    n_parts: usize,
    open: BTreeMap<u64, Block>,
    held_bytes: usize,
    stopped: bool,
}

impl Default for StreamReader {
    fn default() -> Self {
        Self {
            started: false,
            ended: false,
            meter: Meter::new(Format::Messages),
            told: None,
            n_parts: 0,
            open: BTreeMap::new(),
            held_bytes: 0,
            stopped: false,
        }
    }
}

#[derive(Debug)]
enum Block {
    /// Told as it comes.
    Flow {
        part: usize,
        /// The kinds of deltas that fit it.
        takes: &'static [&'static str],
        /// The input of a call that came with its start; pieces that follow replace it.
        input: Option<String>,
        citations: Vec<Value>,
    },
    /// Told when it ends.
    Held { block: Map<String, Value>, json: String },
}

fn invalid(field: &str, expected: &'static str) -> ConvertError {
    ConvertError::Invalid {
        field: field.to_owned(),
        expected,
    }
}

impl ReadStream for StreamReader {
    fn read(&mut self, name: &str, data: &str, events: &mut Vec<StreamEvent>) -> Result<(), ConvertError> {
        if self.ended || data.trim().is_empty() {
            return Ok(());
        }
        let Ok(Value::Object(event)) = serde_json::from_str(data) else {
            return Err(invalid("data", "a JSON object"));
        };
        let kind = event
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or(name)
            .to_owned();
        let mut event = Value::Object(event);
        if kind == "message_start" {
            let message = &event["message"];
            let text = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
            self.start(text("id"), text("model"), events);
        } else if kind != "ping" {
            self.start(String::new(), String::new(), events);
        }
        self.meter.observe(&event);
        let usage = self.meter.usage();
        if usage != self.told {
            self.told = usage;
            events.extend(usage.map(StreamEvent::Usage));
        }
        let index = event["index"].as_u64();
        let index = || index.ok_or_else(|| invalid("index", "a whole number, not negative"));
        match kind.as_str() {
            "ping" if self.started => events.push(StreamEvent::Ping),
            "content_block_start" => self.block(index()?, event["content_block"].take(), events)?,
            "content_block_delta" => self.delta(index()?, &event["delta"], events)?,
            "content_block_stop" => self.close(index()?, events),
            "message_delta" => {
                let delta = &event["delta"];
                if let Some(word) = delta["stop_reason"].as_str() {
                    let sequence = delta["stop_sequence"].as_str().map(str::to_owned);
                    self.stop(read_stop(word, sequence), events);
                }
            }
            "message_stop" => self.end(events),
            "error" => {
                self.close_all(events);
                events.extend([StreamEvent::Error(read_stream_error(&event)), StreamEvent::End]);
                self.ended = true;
            }
            // Anthropic asks that events of kinds yet unknown be let pass.
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, events: &mut Vec<StreamEvent>) {
        if self.ended {
            return;
        }
        if self.stopped {
            self.end(events);
            return;
        }
        self.start(String::new(), String::new(), events);
        self.close_all(events);
        events.extend([StreamEvent::Error(cut_short()), StreamEvent::End]);
        self.ended = true;
    }
}

impl StreamReader {
    fn start(&mut self, id: String, model: String, events: &mut Vec<StreamEvent>) {
        if !std::mem::replace(&mut self.started, true) {
            let created_s = None;
            events.push(StreamEvent::Start { id, model, created_s });
        }
    }

    fn stop(&mut self, stop: Stop, events: &mut Vec<StreamEvent>) {
        if !std::mem::replace(&mut self.stopped, true) {
            self.close_all(events);
            events.push(StreamEvent::Stop { choice: 0, stop });
        }
    }

    fn end(&mut self, events: &mut Vec<StreamEvent>) {
        self.stop(Stop::End, events);
        events.push(StreamEvent::End);
        self.ended = true;
    }

    fn close_all(&mut self, events: &mut Vec<StreamEvent>) {
        while let Some((_, block)) = self.open.pop_first() {
            self.close_block(block, events);
        }
    }

    fn close(&mut self, index: u64, events: &mut Vec<StreamEvent>) {
        if let Some(block) = self.open.remove(&index) {
            self.close_block(block, events);
        }
    }

    fn part(&mut self, kind: StreamPart, events: &mut Vec<StreamEvent>) -> usize {
        let part = self.n_parts;
        self.n_parts += 1;
        events.push(StreamEvent::PartStart {
            choice: 0,
            part,
            kind,
        });
        part
    }

    fn close_block(&mut self, block: Block, events: &mut Vec<StreamEvent>) {
        let whole = match block {
            Block::Flow {
                part,
                input,
                citations,
                ..
            } => {
                if let Some(input) = input {
                    push(part, Delta::Arguments(input), events);
                }
                events.push(StreamEvent::PartEnd { choice: 0, part });
                if citations.is_empty() {
                    return;
                }
                // Citations of a block that did not say that it would have any.
                json!({"type": "text", "text": "", "citations": citations})
            }
            Block::Held { mut block, json } => {
                if !json.is_empty() {
                    let input = serde_json::from_str(&json).unwrap_or(Value::String(json));
                    block.insert("input".to_owned(), input);
                }
                block.into()
            }
        };
        let whole =
            read_part(whole.clone(), "content_block").unwrap_or_else(|_| plain(PartKind::Other(whole)));
        let part = self.part(StreamPart::Whole(Box::new(whole)), events);
        events.push(StreamEvent::PartEnd { choice: 0, part });
    }

    fn block(&mut self, index: u64, block: Value, events: &mut Vec<StreamEvent>) -> Result<(), ConvertError> {
        // A block that was never ended ends where another takes its place.
        self.close(index, events);
        if self.stopped {
            return Err(invalid("type", "no block after message_delta with a stop_reason"));
        }
        if self.open.len() == MAX_OPEN {
            return Err(invalid("content_block", "at most 64 blocks open at once"));
        }
        let Value::Object(block) = block else {
            return Err(invalid("content_block", "an object"));
        };
        let text = |key: &str| {
            block
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let mut input = None;
        let takes: &[&str];
        let (kind, first) = match text("type").as_str() {
            "text" if !block.contains_key("citations") => {
                takes = &["text_delta", "citations_delta"];
                (StreamPart::Text, Delta::Text(text("text")))
            }
            "thinking" => {
                takes = &["thinking_delta", "signature_delta"];
                (StreamPart::Reasoning, Delta::Reasoning(text("thinking")))
            }
            "tool_use" => {
                takes = &["input_json_delta"];
                let given = block.get("input").and_then(Value::as_object);
                input = given
                    .filter(|given| !given.is_empty())
                    .map(|given| Value::from(given.clone()).to_string());
                let (id, name) = (text("id"), text("name"));
                (StreamPart::ToolCall { id, name }, Delta::Arguments(String::new()))
            }
            _ => {
                self.hold(Value::from(block.clone()).to_string().len())?;
                let json = String::new();
                self.open.insert(index, Block::Held { block, json });
                return Ok(());
            }
        };
        let signature = text("signature");
        let part = self.part(kind, events);
        push(part, first, events);
        if takes.contains(&"signature_delta") {
            push(part, Delta::Signature(signature), events);
        }
        let citations = Vec::new();
        self.open.insert(
            index,
            Block::Flow {
                part,
                takes,
                input,
                citations,
            },
        );
        Ok(())
    }

    fn hold(&mut self, n_bytes: usize) -> Result<(), ConvertError> {
        self.held_bytes = self.held_bytes.saturating_add(n_bytes);
        if self.held_bytes > MAX_HELD_BYTES {
            return Err(invalid(
                "content_block",
                "at most 8 MiB of blocks that are told whole",
            ));
        }
        Ok(())
    }

    fn delta(
        &mut self,
        index: u64,
        delta: &Value,
        events: &mut Vec<StreamEvent>,
    ) -> Result<(), ConvertError> {
        let text = |key: &str| delta[key].as_str().unwrap_or_default().to_owned();
        let kind = text("type");
        let held_bytes = match self.open.get(&index) {
            Some(Block::Held { .. }) => delta.to_string().len(),
            Some(Block::Flow { .. }) if kind == "citations_delta" => delta.to_string().len(),
            Some(Block::Flow { .. }) => 0,
            None => return Err(invalid("index", "that of a block that is open")),
        };
        self.hold(held_bytes)?;
        match self.open.get_mut(&index) {
            Some(Block::Flow { takes, .. })
                if !takes.contains(&kind.as_str()) && KNOWN_DELTAS.contains(&kind.as_str()) =>
            {
                return Err(invalid("delta.type", "one that fits its block"));
            }
            Some(Block::Flow {
                part,
                input,
                citations,
                ..
            }) => match kind.as_str() {
                "text_delta" => push(*part, Delta::Text(text("text")), events),
                "thinking_delta" => push(*part, Delta::Reasoning(text("thinking")), events),
                "signature_delta" => push(*part, Delta::Signature(text("signature")), events),
                "input_json_delta" => {
                    let json = text("partial_json");
                    if !json.is_empty() {
                        *input = None;
                    }
                    push(*part, Delta::Arguments(json), events);
                }
                "citations_delta" => citations.push(delta["citation"].clone()),
                _ => {}
            },
            Some(Block::Held { block, json }) => match kind.as_str() {
                "input_json_delta" => json.push_str(&text("partial_json")),
                "citations_delta" => {
                    let citations = block.entry("citations").or_insert(Value::Null);
                    if !citations.is_array() {
                        *citations = json!([]);
                    }
                    if let Some(citations) = citations.as_array_mut() {
                        citations.push(delta["citation"].clone());
                    }
                }
                // Every other kind adds to the field of the block that it has itself.
                _ => add_fields(block, delta),
            },
            None => {}
        }
        Ok(())
    }
}

fn add_fields(block: &mut Map<String, Value>, delta: &Value) {
    let fields = delta.as_object().into_iter().flatten();
    for (key, value) in fields.filter(|(key, _)| *key != "type") {
        match (block.get_mut(key), value) {
            (Some(Value::String(text)), Value::String(more)) => text.push_str(more),
            _ => {
                block.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Tells a delta, unless it says nothing.
fn push(part: usize, delta: Delta, events: &mut Vec<StreamEvent>) {
    let (Delta::Text(text) | Delta::Reasoning(text) | Delta::Signature(text) | Delta::Arguments(text)) =
        &delta;
    if !text.is_empty() {
        let choice = 0;
        events.push(StreamEvent::Delta { choice, part, delta });
    }
}
