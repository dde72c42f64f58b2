//! Anthropic Messages: writing a stream.
//!
//! Blocks of this format come one after the other, while other formats may have several parts open at
//! once: what belongs to a part that is not the open block waits, in a buffer with a limit.

use super::answer::{write_stop, write_usage};
use crate::answer::{Delta, Stop, StreamEvent, StreamPart};
use crate::canonical::{Part, PartKind};
use crate::convert::{StreamOptions, WriteStream};
use crate::error::{ErrorAnswer, write_stream_error};
use crate::format::Format;
use crate::usage::Usage;
use serde_json::{Value, json};
use std::collections::VecDeque;

/// The most bytes that wait for the open block to end.
const MAX_WAITING_BYTES: usize = 8 << 20;
/// The most parts that wait for it.
const MAX_WAITING_PARTS: usize = 1024;

/// Writes a stream. This format has one choice: others are not written.
#[derive(Debug)]
pub struct StreamWriter {
    request_id: String,
    id: String,
    model: String,
    is_begun: bool,
    usage: Usage,
    stop: Option<Stop>,
    has_call: bool,
    has_refusal: bool,
    n_blocks: usize,
    /// The part that is the open block.
    open: Option<usize>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    ended: bool,
}

#[derive(Debug)]
struct Waiting {
    part: usize,
    kind: StreamPart,
    deltas: Vec<Delta>,
    is_complete: bool,
}

impl StreamWriter {
    /// A writer at the start of a stream.
    pub fn new(options: StreamOptions) -> Self {
        Self {
            id: format!("msg_{}", options.request_id),
            request_id: options.request_id,
            model: String::new(),
            is_begun: false,
            usage: Usage::default(),
            stop: None,
            has_call: false,
            has_refusal: false,
            n_blocks: 0,
            open: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            ended: false,
        }
    }

    /// Writes `message_start` before the first thing that must follow it: as late as can be, since it
    /// tells the usage.
    fn begin(&mut self, bytes: &mut Vec<u8>) {
        if std::mem::replace(&mut self.is_begun, true) {
            return;
        }
        let message = json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": write_usage(&self.usage),
        });
        event(
            "message_start",
            &json!({"type": "message_start", "message": message}),
            bytes,
        );
    }

    fn start_part(&mut self, part: usize, kind: &StreamPart, bytes: &mut Vec<u8>) {
        self.begin(bytes);
        if self.open.is_some() {
            let n_bytes = match kind {
                StreamPart::Whole(whole) => size(whole),
                StreamPart::ToolCall { id, name } => id.len() + name.len(),
                StreamPart::Text | StreamPart::Reasoning => 0,
            };
            self.wait(n_bytes, bytes);
            self.waiting.push_back(Waiting {
                part,
                kind: kind.clone(),
                deltas: Vec::new(),
                is_complete: false,
            });
            return;
        }
        self.open = Some(part);
        self.start_block(kind, bytes);
    }

    fn start_block(&mut self, kind: &StreamPart, bytes: &mut Vec<u8>) {
        let block = match kind {
            StreamPart::Text => json!({"type": "text", "text": ""}),
            StreamPart::Reasoning => json!({"type": "thinking", "thinking": "", "signature": ""}),
            StreamPart::ToolCall { id, name } => {
                self.has_call = true;
                json!({"type": "tool_use", "id": id, "name": name, "input": {}})
            }
            StreamPart::Whole(whole) => return self.whole(whole, bytes),
        };
        self.block_start(&block, bytes);
    }

    fn block_start(&self, block: &Value, bytes: &mut Vec<u8>) {
        let body = json!({"type": "content_block_start", "index": self.n_blocks, "content_block": block});
        event("content_block_start", &body, bytes);
    }

    fn block_delta(&self, delta: &Value, bytes: &mut Vec<u8>) {
        let body = json!({"type": "content_block_delta", "index": self.n_blocks, "delta": delta});
        event("content_block_delta", &body, bytes);
    }

    fn delta(&self, delta: &Delta, bytes: &mut Vec<u8>) {
        let delta = match delta {
            Delta::Text(text) => json!({"type": "text_delta", "text": text}),
            Delta::Reasoning(text) => json!({"type": "thinking_delta", "thinking": text}),
            Delta::Signature(text) => json!({"type": "signature_delta", "signature": text}),
            Delta::Arguments(text) => json!({"type": "input_json_delta", "partial_json": text}),
        };
        self.block_delta(&delta, bytes);
    }

    /// A part that comes whole: the start of its block, and the deltas that clients build it from. A
    /// part that this format has no words for leaves no block.
    fn whole(&mut self, whole: &Part, bytes: &mut Vec<u8>) {
        match &whole.kind {
            PartKind::Text(text) => {
                let citations = whole.other.get("citations").and_then(Value::as_array);
                let mut block = json!({"type": "text", "text": ""});
                if citations.is_some() {
                    block["citations"] = json!([]);
                }
                self.block_start(&block, bytes);
                if !text.is_empty() {
                    self.delta(&Delta::Text(text.clone()), bytes);
                }
                for citation in citations.into_iter().flatten() {
                    self.block_delta(&json!({"type": "citations_delta", "citation": citation}), bytes);
                }
            }
            PartKind::Reasoning { text, signature } => {
                self.start_block(&StreamPart::Reasoning, bytes);
                self.delta(&Delta::Reasoning(text.clone()), bytes);
                if let Some(signature) = signature {
                    self.delta(&Delta::Signature(signature.clone()), bytes);
                }
            }
            PartKind::ToolCall { id, name, arguments } => {
                let (id, name) = (id.clone(), name.clone());
                self.start_block(&StreamPart::ToolCall { id, name }, bytes);
                self.delta(&Delta::Arguments(arguments.clone()), bytes);
            }
            PartKind::Other(value) if value["type"] == "refusal" => {
                self.has_refusal = true;
                self.start_block(&StreamPart::Text, bytes);
                let text = value["refusal"].as_str().unwrap_or_default();
                self.delta(&Delta::Text(text.to_owned()), bytes);
            }
            PartKind::Other(value) if is_block(value) => {
                // Clients of this format take the input of a call from deltas alone.
                let input = value["input"].as_object().filter(|input| !input.is_empty());
                let Some(input) = input else {
                    return self.block_start(value, bytes);
                };
                let mut block = value.clone();
                block["input"] = json!({});
                self.block_start(&block, bytes);
                self.delta(&Delta::Arguments(Value::from(input.clone()).to_string()), bytes);
            }
            _ => self.open = None,
        }
    }

    fn end_part(&mut self, part: usize, bytes: &mut Vec<u8>) {
        if self.open != Some(part) {
            if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.part == part) {
                waiting.is_complete = true;
            }
            // A part that left no block may have kept others waiting.
            if self.open.is_some() {
                return;
            }
        }
        self.end_block(bytes);
        while let Some(next) = self.waiting.pop_front() {
            self.open = Some(next.part);
            self.start_block(&next.kind, bytes);
            for delta in next.deltas.iter().filter(|_| self.open.is_some()) {
                self.delta(delta, bytes);
            }
            if self.open.is_some() && !next.is_complete {
                break;
            }
            self.end_block(bytes);
        }
        if self.waiting.is_empty() {
            self.waiting_bytes = 0;
        }
    }

    fn end_block(&mut self, bytes: &mut Vec<u8>) {
        if self.open.take().is_some() {
            let body = json!({"type": "content_block_stop", "index": self.n_blocks});
            event("content_block_stop", &body, bytes);
            self.n_blocks += 1;
        }
    }

    /// Counts what waits; more than the limit is an error in the stream.
    fn wait(&mut self, n_bytes: usize, bytes: &mut Vec<u8>) {
        self.waiting_bytes = self.waiting_bytes.saturating_add(n_bytes);
        if self.waiting_bytes > MAX_WAITING_BYTES || self.waiting.len() >= MAX_WAITING_PARTS {
            let error = ErrorAnswer {
                status: 502,
                message: "the provider's answer has too many parts open at once".to_owned(),
                code: None,
                param: None,
            };
            self.fail(&error, bytes);
        }
    }

    fn fail(&mut self, error: &ErrorAnswer, bytes: &mut Vec<u8>) {
        bytes.extend(write_stream_error(Format::Messages, error, &self.request_id));
        self.ended = true;
        self.waiting.clear();
    }

    fn end(&mut self, bytes: &mut Vec<u8>) {
        self.begin(bytes);
        self.end_block(bytes);
        let (word, sequence) = write_stop(self.stop.as_ref(), self.has_call, self.has_refusal);
        let delta = json!({"stop_reason": word, "stop_sequence": sequence});
        let body = json!({"type": "message_delta", "delta": delta, "usage": write_usage(&self.usage)});
        event("message_delta", &body, bytes);
        event("message_stop", &json!({"type": "message_stop"}), bytes);
        self.ended = true;
    }
}

/// A block of this format that can stand in an answer. The writer is not told from which format a part
/// came, so it goes by name.
fn is_block(value: &Value) -> bool {
    let known = [
        "redacted_thinking",
        "server_tool_use",
        "mcp_tool_use",
        "container_upload",
        "compaction",
    ];
    value["type"]
        .as_str()
        .is_some_and(|kind| known.contains(&kind) || kind.ends_with("_tool_result"))
}

fn size(part: &Part) -> usize {
    match &part.kind {
        PartKind::Text(text) => text.len(),
        PartKind::Reasoning { text, signature } => text.len() + signature.as_ref().map_or(0, String::len),
        PartKind::ToolCall { arguments, .. } => arguments.len(),
        PartKind::Other(value) => value.to_string().len(),
        // Never written.
        PartKind::Image(_) | PartKind::File { .. } | PartKind::ToolResult { .. } => 0,
    }
}

fn event(name: &str, body: &Value, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(format!("event: {name}\ndata: {body}\n\n").as_bytes());
}

/// Adds a piece to those that wait, as one with the piece before it where both are of one kind.
fn join(deltas: &mut Vec<Delta>, more: &Delta) {
    match (deltas.last_mut(), more) {
        (Some(Delta::Text(text)), Delta::Text(more))
        | (Some(Delta::Reasoning(text)), Delta::Reasoning(more))
        | (Some(Delta::Signature(text)), Delta::Signature(more))
        | (Some(Delta::Arguments(text)), Delta::Arguments(more)) => text.push_str(more),
        _ => deltas.push(more.clone()),
    }
}

impl WriteStream for StreamWriter {
    fn write(&mut self, event_: &StreamEvent, bytes: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        match event_ {
            StreamEvent::Start { id, model, .. } => {
                if !id.is_empty() {
                    self.id.clone_from(id);
                }
                self.model.clone_from(model);
            }
            StreamEvent::PartStart {
                choice: 0,
                part,
                kind,
            } => self.start_part(*part, kind, bytes),
            StreamEvent::Delta {
                choice: 0,
                part,
                delta,
            } => {
                if self.open == Some(*part) {
                    self.delta(delta, bytes);
                } else if let Some(place) = self.waiting.iter().position(|waiting| waiting.part == *part) {
                    let (Delta::Text(text)
                    | Delta::Reasoning(text)
                    | Delta::Signature(text)
                    | Delta::Arguments(text)) = delta;
                    join(&mut self.waiting[place].deltas, delta);
                    // The part itself is counted already.
                    self.waiting_bytes = self.waiting_bytes.saturating_add(text.len());
                    self.wait(0, bytes);
                }
            }
            StreamEvent::PartEnd { choice: 0, part } => self.end_part(*part, bytes),
            StreamEvent::Stop { choice: 0, stop } => self.stop = Some(stop.clone()),
            StreamEvent::Usage(usage) => self.usage = *usage,
            StreamEvent::Error(error) => {
                self.fail(error, bytes);
            }
            StreamEvent::Ping => {
                if self.is_begun {
                    event("ping", &json!({"type": "ping"}), bytes);
                }
            }
            StreamEvent::End => self.end(bytes),
            StreamEvent::PartStart { .. }
            | StreamEvent::Delta { .. }
            | StreamEvent::PartEnd { .. }
            | StreamEvent::Stop { .. }
            | StreamEvent::Logprobs { .. } => {}
        }
    }
}
