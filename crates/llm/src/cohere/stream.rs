//! Cohere Chat: streams, read and written.
//!
//! Citations come as events of their own, beside the text; no other format tells them alike, and they are
//! not read.

use super::answer::{read_logprobs, read_stop, write_logprob, write_stop, write_usage};
use crate::answer::{Delta, Stop, StreamEvent, StreamPart};
use crate::canonical::{ConvertError, Fields, Part, PartKind};
use crate::convert::{ReadStream, StreamOptions, WriteStream, cut_short};
use crate::error::{read_stream_error, write_stream_error};
use crate::format::Format;
use crate::usage::{Meter, Usage};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The most parts open at once. Cohere opens one.
const MAX_OPEN: usize = 64;

/// The lists of a message, whose places are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum List {
    Plan,
    Content,
    Calls,
}

/// Reads a stream.
#[derive(Debug)]
pub struct StreamReader {
    started: bool,
    ended: bool,
    meter: Meter,
    n_parts: usize,
    /// The parts that are open, and whether their kind is reasoning.
    open: BTreeMap<(List, u64), (usize, bool)>,
}

impl Default for StreamReader {
    fn default() -> Self {
        Self {
            started: false,
            ended: false,
            meter: Meter::new(Format::Cohere),
            n_parts: 0,
            open: BTreeMap::new(),
        }
    }
}

impl StreamReader {
    fn start(&mut self, id: &Value, events: &mut Vec<StreamEvent>) {
        if !std::mem::replace(&mut self.started, true) {
            events.push(StreamEvent::Start {
                id: id.as_str().unwrap_or_default().to_owned(),
                model: String::new(),
                created_s: None,
            });
        }
    }

    /// The part at a place, and whether it is reasoning; it begins if it has not yet.
    fn open(
        &mut self,
        at: (List, u64),
        kind: StreamPart,
        events: &mut Vec<StreamEvent>,
    ) -> Result<(usize, bool), ConvertError> {
        if let Some(open) = self.open.get(&at) {
            return Ok(*open);
        }
        if self.open.len() >= MAX_OPEN {
            return Err(ConvertError::Invalid {
                field: "index".to_owned(),
                expected: "of one of at most 64 parts open at once",
            });
        }
        // A plan has no end of its own: what follows ends it.
        if at.0 != List::Plan {
            self.close((List::Plan, 0), events);
        }
        let open = (self.n_parts, kind == StreamPart::Reasoning);
        self.n_parts += 1;
        self.open.insert(at, open);
        let part = open.0;
        events.push(StreamEvent::PartStart {
            choice: 0,
            part,
            kind,
        });
        Ok(open)
    }

    fn close(&mut self, at: (List, u64), events: &mut Vec<StreamEvent>) {
        if let Some((part, _)) = self.open.remove(&at) {
            events.push(StreamEvent::PartEnd { choice: 0, part });
        }
    }

    fn close_all(&mut self, events: &mut Vec<StreamEvent>) {
        while let Some((&at, _)) = self.open.first_key_value() {
            self.close(at, events);
        }
    }

    /// `content-start` and `content-delta`.
    fn content(&mut self, event: &Value, events: &mut Vec<StreamEvent>) -> Result<(), ConvertError> {
        let at = (List::Content, event["index"].as_u64().unwrap_or(0));
        let content = &event["delta"]["message"]["content"];
        let thinks = content["type"] == "thinking" || content["thinking"].is_string();
        let kind = if thinks {
            StreamPart::Reasoning
        } else {
            StreamPart::Text
        };
        let text = |key: &str| content[key].as_str().unwrap_or_default().to_owned();
        // Log probabilities may come after the end of their text.
        let says_nothing = event["type"] == "content-delta" && text("text").is_empty() && !thinks;
        if self.open.contains_key(&at) || !says_nothing {
            let (part, thinks) = self.open(at, kind, events)?;
            if thinks {
                delta(part, Delta::Reasoning(text("thinking")), events);
            } else {
                delta(part, Delta::Text(text("text")), events);
            }
        }
        let tokens = read_logprobs(&event["logprobs"]);
        if !tokens.is_empty() {
            events.push(StreamEvent::Logprobs { choice: 0, tokens });
        }
        Ok(())
    }

    fn end(&mut self, event: &Value, events: &mut Vec<StreamEvent>) {
        self.close_all(events);
        let inner = &event["delta"];
        let word = inner["finish_reason"].as_str().unwrap_or("COMPLETE");
        let failed = inner["error"].is_string() || word == "ERROR";
        if !failed {
            let stop = read_stop(word);
            events.push(StreamEvent::Stop { choice: 0, stop });
        }
        events.extend(self.meter.usage().map(StreamEvent::Usage));
        if failed {
            events.push(StreamEvent::Error(read_stream_error(inner)));
        }
        self.ended = true;
        events.push(StreamEvent::End);
    }
}

/// A piece that says nothing is none.
fn delta(part: usize, delta: Delta, events: &mut Vec<StreamEvent>) {
    let (Delta::Text(text) | Delta::Reasoning(text) | Delta::Signature(text) | Delta::Arguments(text)) =
        &delta;
    if !text.is_empty() {
        events.push(StreamEvent::Delta {
            choice: 0,
            part,
            delta,
        });
    }
}

impl ReadStream for StreamReader {
    fn read(&mut self, name: &str, data: &str, events: &mut Vec<StreamEvent>) -> Result<(), ConvertError> {
        if self.ended || data == "[DONE]" {
            return Ok(());
        }
        let event: Value = serde_json::from_str(data).map_err(|_| ConvertError::Invalid {
            field: "data".to_owned(),
            expected: "a JSON object",
        })?;
        let event = Value::Object(Fields::new(event, "data")?.rest);
        self.meter.observe(&event);
        self.start(&event["id"], events);
        let index = event["index"].as_u64().unwrap_or(0);
        let message = &event["delta"]["message"];
        match event["type"].as_str().unwrap_or(name) {
            "content-start" | "content-delta" => self.content(&event, events)?,
            "content-end" => self.close((List::Content, index), events),
            "tool-plan-delta" => {
                let text = message["tool_plan"].as_str().unwrap_or_default().to_owned();
                let (part, _) = self.open((List::Plan, 0), StreamPart::Text, events)?;
                delta(part, Delta::Text(text), events);
            }
            "tool-call-start" => {
                let call = &message["tool_calls"];
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let kind = StreamPart::ToolCall {
                    id: text(&call["id"]),
                    name: text(&call["function"]["name"]),
                };
                let (part, _) = self.open((List::Calls, index), kind, events)?;
                delta(
                    part,
                    Delta::Arguments(text(&call["function"]["arguments"])),
                    events,
                );
            }
            "tool-call-delta" => {
                // A call that never began has no name: it is none.
                if let Some(&(part, _)) = self.open.get(&(List::Calls, index)) {
                    let arguments = message["tool_calls"]["function"]["arguments"].as_str();
                    delta(
                        part,
                        Delta::Arguments(arguments.unwrap_or_default().to_owned()),
                        events,
                    );
                }
            }
            "tool-call-end" => self.close((List::Calls, index), events),
            "message-end" => self.end(&event, events),
            // An error answer in place of an event.
            "" | "error" if event["message"].is_string() || event["error"].is_string() => {
                self.close_all(events);
                events.push(StreamEvent::Error(read_stream_error(&event)));
                self.ended = true;
                events.push(StreamEvent::End);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, events: &mut Vec<StreamEvent>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.start(&Value::Null, events);
        self.close_all(events);
        events.extend(self.meter.usage().map(StreamEvent::Usage));
        events.push(StreamEvent::Error(cut_short()));
        events.push(StreamEvent::End);
    }
}

/// Writes a stream.
#[derive(Debug)]
pub struct StreamWriter {
    request_id: String,
    /// Where each open part is, and whether arguments of a call came.
    open: BTreeMap<usize, (List, usize, bool)>,
    n_contents: usize,
    n_calls: usize,
    usage: Option<Usage>,
    stop: Option<Stop>,
    ended: bool,
}

impl StreamWriter {
    /// A writer at the start of a stream.
    pub fn new(options: StreamOptions) -> Self {
        Self {
            request_id: options.request_id,
            open: BTreeMap::new(),
            n_contents: 0,
            n_calls: 0,
            usage: None,
            stop: None,
            ended: false,
        }
    }

    fn begin(&mut self, part: usize, kind: &StreamPart, bytes: &mut Vec<u8>) {
        let content = match kind {
            StreamPart::Text => json!({"type": "text", "text": ""}),
            StreamPart::Reasoning => json!({"type": "thinking", "thinking": ""}),
            StreamPart::ToolCall { id, name } => {
                let call = json!({"id": id, "type": "function", "function": {"name": name, "arguments": ""}});
                self.open.insert(part, (List::Calls, self.n_calls, false));
                emit(
                    "tool-call-start",
                    Some(self.n_calls),
                    &json!({"tool_calls": call}),
                    bytes,
                );
                self.n_calls += 1;
                return;
            }
            StreamPart::Whole(whole) => return self.whole(part, whole, bytes),
        };
        self.open.insert(part, (List::Content, self.n_contents, false));
        emit(
            "content-start",
            Some(self.n_contents),
            &json!({"content": content}),
            bytes,
        );
        self.n_contents += 1;
    }

    /// A part that came whole, told as if it had come in pieces; one that has no place here is not told.
    fn whole(&mut self, part: usize, whole: &Part, bytes: &mut Vec<u8>) {
        let (kind, delta) = match &whole.kind {
            PartKind::Text(text) => (StreamPart::Text, Delta::Text(text.clone())),
            PartKind::Reasoning { text, .. } => (StreamPart::Reasoning, Delta::Reasoning(text.clone())),
            PartKind::ToolCall { id, name, arguments } => {
                let (id, name) = (id.clone(), name.clone());
                (
                    StreamPart::ToolCall { id, name },
                    Delta::Arguments(arguments.clone()),
                )
            }
            PartKind::Other(value) if value["type"] == "refusal" => {
                let text = value["refusal"].as_str().unwrap_or_default();
                (StreamPart::Text, Delta::Text(text.to_owned()))
            }
            _ => return,
        };
        self.begin(part, &kind, bytes);
        self.delta(part, &delta, bytes);
    }

    fn delta(&mut self, part: usize, delta: &Delta, bytes: &mut Vec<u8>) {
        let Some((_, index, said)) = self.open.get_mut(&part) else {
            return;
        };
        let (kind, message) = match delta {
            Delta::Text(text) => ("content-delta", json!({"content": {"text": text}})),
            Delta::Reasoning(text) => ("content-delta", json!({"content": {"thinking": text}})),
            Delta::Arguments(text) => {
                *said |= !text.is_empty();
                (
                    "tool-call-delta",
                    json!({"tool_calls": {"function": {"arguments": text}}}),
                )
            }
            // This format signs nothing.
            Delta::Signature(_) => return,
        };
        emit(kind, Some(*index), &message, bytes);
    }

    fn end_part(&mut self, part: usize, bytes: &mut Vec<u8>) {
        // Clients parse the arguments: none are an object without fields.
        if let Some((List::Calls, _, false)) = self.open.get(&part) {
            self.delta(part, &Delta::Arguments("{}".to_owned()), bytes);
        }
        match self.open.remove(&part) {
            Some((List::Calls, index, _)) => emit("tool-call-end", Some(index), &Value::Null, bytes),
            Some((_, index, _)) => emit("content-end", Some(index), &Value::Null, bytes),
            None => {}
        }
    }

    fn end(&mut self, bytes: &mut Vec<u8>) {
        while let Some((&part, _)) = self.open.first_key_value() {
            self.end_part(part, bytes);
        }
        let word = write_stop(self.stop.as_ref(), self.n_calls > 0);
        let mut delta = json!({"finish_reason": word});
        if let Some(usage) = &self.usage {
            delta["usage"] = write_usage(usage);
        }
        event(&json!({"type": "message-end", "delta": delta}), bytes);
        self.ended = true;
    }
}

/// An event about a place of the message.
fn emit(kind: &str, index: Option<usize>, message: &Value, bytes: &mut Vec<u8>) {
    let mut body = Map::new();
    body.insert("type".to_owned(), kind.into());
    if let Some(index) = index {
        body.insert("index".to_owned(), index.into());
    }
    if !message.is_null() {
        body.insert("delta".to_owned(), json!({"message": message}));
    }
    event(&body.into(), bytes);
}

fn event(body: &Value, bytes: &mut Vec<u8>) {
    let kind = body["type"].as_str().unwrap_or_default();
    bytes.extend_from_slice(format!("event: {kind}\ndata: {body}\n\n").as_bytes());
}

impl WriteStream for StreamWriter {
    fn write(&mut self, event_: &StreamEvent, bytes: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        match event_ {
            StreamEvent::Start { id, .. } => {
                let id = if id.is_empty() { &self.request_id } else { id };
                let message = json!({"role": "assistant", "content": [], "tool_plan": "",
                    "tool_calls": [], "citations": []});
                event(
                    &json!({"id": id, "type": "message-start", "delta": {"message": message}}),
                    bytes,
                );
            }
            // The clients of this format ask for one answer.
            StreamEvent::PartStart {
                choice: 0,
                part,
                kind,
            } => self.begin(*part, kind, bytes),
            StreamEvent::Delta {
                choice: 0,
                part,
                delta,
            } => self.delta(*part, delta, bytes),
            StreamEvent::PartEnd { choice: 0, part } => self.end_part(*part, bytes),
            StreamEvent::Logprobs { choice: 0, tokens } => {
                let index = self.n_contents.saturating_sub(1);
                for token in tokens {
                    let body = json!({"type": "content-delta", "index": index,
                        "delta": {"message": {"content": {"text": ""}}}, "logprobs": write_logprob(token)});
                    event(&body, bytes);
                }
            }
            StreamEvent::Stop { choice: 0, stop } => self.stop = Some(stop.clone()),
            StreamEvent::PartStart { .. }
            | StreamEvent::Delta { .. }
            | StreamEvent::PartEnd { .. }
            | StreamEvent::Logprobs { .. }
            | StreamEvent::Stop { .. } => {}
            StreamEvent::Usage(usage) => self.usage = Some(*usage),
            StreamEvent::Error(error) => {
                bytes.extend(write_stream_error(Format::Cohere, error, &self.request_id));
                self.ended = true;
            }
            StreamEvent::Ping => bytes.extend_from_slice(b": ping\n\n"),
            StreamEvent::End => self.end(bytes),
        }
    }
}
