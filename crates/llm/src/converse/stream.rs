//! AWS Bedrock ConverseStream: events in AWS's binary framing, named by `:event-type`.
//!
//! Text and reasoning have no event that begins them, and some models none that ends them. The stream is
//! complete with `messageStop`; the counts come after it, in `metadata`. A trouble in the middle is an
//! event named by `:exception-type`.

use super::answer::{read_stop, write_stop, write_usage};
use super::{blocks, one};
use crate::answer::{Delta, Stop, StreamEvent, StreamPart};
use crate::canonical::{ConvertError, Fields, PartKind, plain};
use crate::convert::{ReadStream, StreamOptions, WriteStream, cut_short};
use crate::error::{ErrorAnswer, ErrorKind};
use crate::eventstream;
use crate::format::Format;
use crate::usage::{Meter, Usage};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The most that is held of blocks which are told whole.
const HELD_BYTES_MAX: usize = 16 << 20;

/// Reads a stream.
#[derive(Debug)]
pub struct StreamReader {
    started: bool,
    ended: bool,
    stop: Option<Stop>,
    /// Blocks under way, by their index on the wire.
    blocks: BTreeMap<u64, Block>,
    n_parts: usize,
    held_bytes: usize,
    meter: Meter,
}

#[derive(Debug)]
enum Block {
    /// The part of the answer that it is.
    Open(usize),
    /// A block of a kind that only this format knows, told when it is complete.
    Held {
        kind: &'static str,
        start: Map<String, Value>,
        input: String,
        content: Vec<Value>,
    },
}

impl Default for StreamReader {
    fn default() -> Self {
        Self {
            started: false,
            ended: false,
            stop: None,
            blocks: BTreeMap::new(),
            n_parts: 0,
            held_bytes: 0,
            meter: Meter::new(Format::Converse),
        }
    }
}

impl ReadStream for StreamReader {
    fn read(&mut self, name: &str, data: &str, events: &mut Vec<StreamEvent>) -> Result<(), ConvertError> {
        if self.ended {
            return Ok(());
        }
        let event: Value = serde_json::from_str(data).map_err(|_| ConvertError::Invalid {
            field: "event of the stream".to_owned(),
            expected: "a JSON object",
        })?;
        if let Some(status) = status_of(name) {
            let message = event["message"].as_str().or_else(|| event["Message"].as_str());
            let error = ErrorAnswer {
                status,
                message: message.unwrap_or(name).to_owned(),
                code: Some(name.to_owned()),
                param: None,
            };
            self.end_in_error(error, events);
            return Ok(());
        }
        let mut event = Fields::new(event, "")?;
        match name {
            "messageStart" => self.start(events),
            "contentBlockStart" => self.block_start(&mut event, events)?,
            "contentBlockDelta" => self.block_delta(&mut event, events)?,
            "contentBlockStop" => {
                let index = block_index(&mut event)?;
                self.block_stop(index, events);
            }
            "messageStop" => {
                self.start(events);
                self.close_all(events);
                self.stop = Some(read_stop(&event.needed_text("stopReason")?));
            }
            "metadata" => {
                self.start(events);
                self.meter.observe(&Value::Object(event.rest));
                events.extend(self.meter.usage().map(StreamEvent::Usage));
            }
            // New kinds of events must not end a stream.
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, events: &mut Vec<StreamEvent>) {
        if self.ended {
            return;
        }
        let Some(stop) = self.stop.take() else {
            self.end_in_error(cut_short(), events);
            return;
        };
        self.ended = true;
        self.close_all(events);
        events.extend([StreamEvent::Stop { choice: 0, stop }, StreamEvent::End]);
    }
}

/// The status that an exception would have as an answer of its own.
fn status_of(name: &str) -> Option<u16> {
    Some(match name {
        "throttlingException" => 429,
        "validationException" => 400,
        "serviceUnavailableException" => 503,
        "modelTimeoutException" => 408,
        name if name.ends_with("Exception") || name == "error" => 500,
        _ => return None,
    })
}

fn exception_of(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::RateLimit => "throttlingException",
        ErrorKind::Overloaded => "serviceUnavailableException",
        ErrorKind::Timeout => "modelTimeoutException",
        ErrorKind::InvalidRequest | ErrorKind::NotFound | ErrorKind::TooLarge => "validationException",
        ErrorKind::Authentication | ErrorKind::Permission | ErrorKind::Server => "internalServerException",
    }
}

fn block_index(event: &mut Fields) -> Result<u64, ConvertError> {
    let missing = event.invalid("contentBlockIndex", "a whole number, not negative");
    event.whole("contentBlockIndex")?.ok_or(missing)
}

impl StreamReader {
    fn start(&mut self, events: &mut Vec<StreamEvent>) {
        if !std::mem::replace(&mut self.started, true) {
            events.push(StreamEvent::Start {
                id: String::new(),
                model: String::new(),
                created_s: None,
            });
        }
    }

    fn part_start(&mut self, kind: StreamPart, events: &mut Vec<StreamEvent>) -> usize {
        self.start(events);
        let part = self.n_parts;
        self.n_parts += 1;
        events.push(StreamEvent::PartStart {
            choice: 0,
            part,
            kind,
        });
        part
    }

    fn whole(&mut self, value: Value, events: &mut Vec<StreamEvent>) {
        let kind = StreamPart::Whole(Box::new(plain(PartKind::Other(value))));
        let part = self.part_start(kind, events);
        events.push(StreamEvent::PartEnd { choice: 0, part });
    }

    fn block_start(&mut self, event: &mut Fields, events: &mut Vec<StreamEvent>) -> Result<(), ConvertError> {
        let index = block_index(event)?;
        let Some(mut start) = event.object("start")? else {
            return Ok(());
        };
        self.block_stop(index, events);
        let block = if let Some(mut call) = start.object("toolUse")? {
            if blocks::is_of_provider(&mut call.rest, "tool_use") {
                Block::held("toolUse", call.rest)
            } else {
                let kind = StreamPart::ToolCall {
                    id: call.needed_text("toolUseId")?,
                    name: call.needed_text("name")?,
                };
                Block::Open(self.part_start(kind, events))
            }
        } else if let Some(result) = start.object("toolResult")? {
            Block::held("toolResult", result.rest)
        } else {
            return Ok(());
        };
        self.blocks.insert(index, block);
        Ok(())
    }

    fn block_delta(&mut self, event: &mut Fields, events: &mut Vec<StreamEvent>) -> Result<(), ConvertError> {
        let index = block_index(event)?;
        let missing = event.invalid("delta", "an object");
        let mut delta = event.object("delta")?.ok_or(missing)?;
        if let Some(text) = delta.text("text")? {
            if !text.is_empty() {
                self.told(index, StreamPart::Text, Delta::Text(text), events);
            }
        } else if let Some(mut call) = delta.object("toolUse")? {
            let input = call.text("input")?.unwrap_or_default();
            match self.blocks.get_mut(&index) {
                Some(&mut Block::Open(part)) => {
                    let delta = Delta::Arguments(input);
                    events.push(StreamEvent::Delta {
                        choice: 0,
                        part,
                        delta,
                    });
                }
                Some(Block::Held { input: held, .. }) => {
                    held.push_str(&input);
                    self.hold(input.len())?;
                }
                None => return Err(delta.invalid("toolUse", "of a block that was started")),
            }
        } else if let Some(mut reasoning) = delta.object("reasoningContent")? {
            if let Some(text) = reasoning.text("text")? {
                self.told(index, StreamPart::Reasoning, Delta::Reasoning(text), events);
            }
            if let Some(text) = reasoning.text("signature")? {
                self.told(index, StreamPart::Reasoning, Delta::Signature(text), events);
            }
            if let Some(data) = reasoning.text("redactedContent")? {
                self.whole(blocks::redacted(&data), events);
            }
        } else if let Some(content) = delta.list("toolResult")? {
            let n_bytes = Value::from(content.clone()).to_string().len();
            if let Some(Block::Held { content: held, .. }) = self.blocks.get_mut(&index) {
                held.extend(content);
                self.hold(n_bytes)?;
            }
        }
        Ok(())
    }

    fn hold(&mut self, n_bytes: usize) -> Result<(), ConvertError> {
        self.held_bytes += n_bytes;
        if self.held_bytes > HELD_BYTES_MAX {
            return Err(ConvertError::Invalid {
                field: "contentBlockDelta".to_owned(),
                expected: "shorter: all tools of the provider together up to 16 MiB",
            });
        }
        Ok(())
    }

    /// A piece of text or reasoning, whose block may not have begun yet.
    fn told(&mut self, index: u64, kind: StreamPart, delta: Delta, events: &mut Vec<StreamEvent>) {
        let part = match self.blocks.get(&index) {
            Some(Block::Open(part)) => *part,
            Some(Block::Held { .. }) => return,
            None => {
                let part = self.part_start(kind, events);
                self.blocks.insert(index, Block::Open(part));
                part
            }
        };
        events.push(StreamEvent::Delta {
            choice: 0,
            part,
            delta,
        });
    }

    fn block_stop(&mut self, index: u64, events: &mut Vec<StreamEvent>) {
        match self.blocks.remove(&index) {
            None => {}
            Some(Block::Open(part)) => events.push(StreamEvent::PartEnd { choice: 0, part }),
            Some(Block::Held {
                kind,
                mut start,
                input,
                content,
            }) => {
                if kind == "toolUse" {
                    let input = serde_json::from_str(&input).unwrap_or_else(|_| Value::from(input));
                    start.insert("input".to_owned(), input);
                } else {
                    start.insert("content".to_owned(), content.into());
                }
                self.whole(one(kind, start).into(), events);
            }
        }
    }

    fn close_all(&mut self, events: &mut Vec<StreamEvent>) {
        let open: Vec<u64> = self.blocks.keys().copied().collect();
        for index in open {
            self.block_stop(index, events);
        }
    }

    fn end_in_error(&mut self, error: ErrorAnswer, events: &mut Vec<StreamEvent>) {
        self.ended = true;
        self.start(events);
        self.close_all(events);
        events.extend([StreamEvent::Error(error), StreamEvent::End]);
    }
}

impl Block {
    fn held(kind: &'static str, start: Map<String, Value>) -> Self {
        Self::Held {
            kind,
            start,
            input: String::new(),
            content: Vec::new(),
        }
    }
}

/// Writes a stream.
#[derive(Debug)]
pub struct StreamWriter {
    /// Blocks that were begun on the wire, by the part of the answer.
    begun: BTreeSet<usize>,
    stop: Option<Stop>,
    usage: Option<Usage>,
    failed: bool,
}

impl StreamWriter {
    /// A writer at the start of a stream.
    pub fn new(_options: StreamOptions) -> Self {
        Self {
            begun: BTreeSet::new(),
            stop: None,
            usage: None,
            failed: false,
        }
    }

    fn call(&mut self, part: usize, id: &str, name: &str, bytes: &mut Vec<u8>) {
        self.begun.insert(part);
        let start = json!({"toolUse": {"toolUseId": id, "name": name}});
        let body = json!({"contentBlockIndex": part, "start": start});
        frame("contentBlockStart", &body, bytes);
    }

    /// A part that does not come in pieces; one that this format has no words for leaves no block.
    fn whole(&mut self, part: usize, kind: &PartKind, bytes: &mut Vec<u8>) {
        match kind {
            PartKind::Text(text) => self.delta(part, &Delta::Text(text.clone()), bytes),
            PartKind::Reasoning { text, signature } => {
                self.delta(part, &Delta::Reasoning(text.clone()), bytes);
                if let Some(signature) = signature {
                    self.delta(part, &Delta::Signature(signature.clone()), bytes);
                }
            }
            PartKind::ToolCall { id, name, arguments } => {
                self.call(part, id, name, bytes);
                self.delta(part, &Delta::Arguments(arguments.clone()), bytes);
            }
            PartKind::Other(value) if value["type"] == "refusal" => {
                let text = value["refusal"].as_str().unwrap_or_default();
                self.delta(part, &Delta::Text(text.to_owned()), bytes);
            }
            PartKind::Other(value) => {
                if let Some(data) = blocks::redacted_data(value) {
                    let delta = json!({"reasoningContent": {"redactedContent": data}});
                    self.block_delta(part, &delta, bytes);
                }
            }
            PartKind::Image(_) | PartKind::File { .. } | PartKind::ToolResult { .. } => {}
        }
    }

    fn block_delta(&mut self, part: usize, delta: &Value, bytes: &mut Vec<u8>) {
        self.begun.insert(part);
        let body = json!({"contentBlockIndex": part, "delta": delta});
        frame("contentBlockDelta", &body, bytes);
    }

    fn delta(&mut self, part: usize, delta: &Delta, bytes: &mut Vec<u8>) {
        let delta = match delta {
            Delta::Text(text) => json!({"text": text}),
            Delta::Reasoning(text) => json!({"reasoningContent": {"text": text}}),
            Delta::Signature(text) => json!({"reasoningContent": {"signature": text}}),
            Delta::Arguments(text) => json!({"toolUse": {"input": text}}),
        };
        self.block_delta(part, &delta, bytes);
    }
}

fn frame(name: &str, payload: &Value, bytes: &mut Vec<u8>) {
    let headers = [
        (":event-type", name),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ];
    eventstream::encode(&headers, payload.to_string().as_bytes(), bytes);
}

impl WriteStream for StreamWriter {
    fn write(&mut self, event: &StreamEvent, bytes: &mut Vec<u8>) {
        if self.failed {
            return;
        }
        match event {
            StreamEvent::Start { .. } => frame("messageStart", &json!({"role": "assistant"}), bytes),
            // There is one choice in this format; a request for more was refused.
            StreamEvent::PartStart { choice: 1.., .. }
            | StreamEvent::Delta { choice: 1.., .. }
            | StreamEvent::PartEnd { choice: 1.., .. }
            | StreamEvent::Stop { choice: 1.., .. } => {}
            StreamEvent::PartStart { part, kind, .. } => match kind {
                StreamPart::ToolCall { id, name } => self.call(*part, id, name, bytes),
                StreamPart::Whole(whole) => self.whole(*part, &whole.kind, bytes),
                StreamPart::Text | StreamPart::Reasoning => {}
            },
            StreamEvent::Delta { part, delta, .. } => self.delta(*part, delta, bytes),
            StreamEvent::PartEnd { part, .. } => {
                if self.begun.remove(part) {
                    frame("contentBlockStop", &json!({"contentBlockIndex": part}), bytes);
                }
            }
            StreamEvent::Stop { stop, .. } => self.stop = Some(stop.clone()),
            StreamEvent::Usage(usage) => self.usage = Some(*usage),
            StreamEvent::Error(error) => {
                self.failed = true;
                let headers = [
                    (":exception-type", exception_of(error.kind())),
                    (":content-type", "application/json"),
                    (":message-type", "exception"),
                ];
                let payload = json!({"message": error.message}).to_string();
                eventstream::encode(&headers, payload.as_bytes(), bytes);
            }
            StreamEvent::End => {
                let stop = self
                    .stop
                    .as_ref()
                    .map_or("end_turn", |stop| write_stop(stop, false));
                frame("messageStop", &json!({"stopReason": stop}), bytes);
                if let Some(usage) = &self.usage {
                    frame("metadata", &json!({"usage": write_usage(usage)}), bytes);
                }
            }
            StreamEvent::Logprobs { .. } | StreamEvent::Ping => {}
        }
    }
}
