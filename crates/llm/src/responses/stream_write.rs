//! OpenAI Responses: writing a stream.
//!
//! The events at the end of a part, of an item and of the answer repeat all of its text, so the writer
//! holds the answer, up to a limit.

use super::answer::{frame, item_id, response_id, write_logprobs, write_stop, write_usage};
use super::items::{hidden, seal};
use super::request::reasoning_item;
use crate::answer::{Delta, Stop, StreamEvent, StreamPart, TokenLogprob};
use crate::canonical::{Part, PartKind, Source};
use crate::convert::{StreamOptions, WriteStream};
use crate::error::{ErrorAnswer, ErrorKind};
use crate::usage::Usage;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The most bytes of an answer that are held. A longer one ends with an error.
const MAX_HELD_BYTES: usize = 32 << 20;

/// Writes a stream.
#[derive(Debug)]
pub struct StreamWriter {
    options: StreamOptions,
    id: String,
    model: String,
    created_s: u64,
    sequence: u64,
    items: Vec<Item>,
    /// Where each open part is: its item, and its place in a message.
    parts: BTreeMap<usize, (usize, usize)>,
    /// The message that the next text belongs to.
    message: Option<usize>,
    held_bytes: usize,
    usage: Option<Usage>,
    stop: Option<Stop>,
    started: bool,
    ended: bool,
}

#[derive(Debug)]
struct Item {
    id: String,
    body: Body,
    done: bool,
}

#[derive(Debug)]
enum Body {
    Message(Vec<Content>),
    Reasoning {
        text: String,
        signature: Option<String>,
        said: bool,
    },
    Call {
        id: String,
        name: String,
        arguments: String,
    },
    Whole(Value),
}

#[derive(Debug)]
struct Content {
    text: String,
    logprobs: Vec<Value>,
    refusal: bool,
    open: bool,
}

impl Content {
    fn json(&self) -> Value {
        if self.refusal {
            return json!({"type": "refusal", "refusal": self.text});
        }
        json!({"type": "output_text", "annotations": [], "logprobs": self.logprobs, "text": self.text})
    }
}

impl Item {
    fn json(&self, status: &str) -> Value {
        let id = &self.id;
        match &self.body {
            Body::Message(contents) => {
                let content: Vec<Value> = contents.iter().map(Content::json).collect();
                json!({"type": "message", "id": id, "status": status, "role": "assistant", "content": content})
            }
            Body::Reasoning { text, signature, .. } => {
                let mut item = reasoning_item(text, signature.as_deref(), false);
                item["id"] = id.as_str().into();
                item
            }
            Body::Call {
                id: call_id,
                name,
                arguments,
            } => json!({"type": "function_call", "id": id, "status": status, "call_id": call_id,
                "name": name, "arguments": arguments}),
            Body::Whole(value) => value.clone(),
        }
    }
}

impl StreamWriter {
    /// A writer at the start of a stream.
    pub fn new(options: StreamOptions) -> Self {
        Self {
            id: response_id(&options.request_id),
            model: String::new(),
            created_s: options.now_s,
            options,
            sequence: 0,
            items: Vec::new(),
            parts: BTreeMap::new(),
            message: None,
            held_bytes: 0,
            usage: None,
            stop: None,
            started: false,
            ended: false,
        }
    }

    fn emit(&mut self, kind: &str, fields: Value, bytes: &mut Vec<u8>) {
        let mut event = Map::new();
        event.insert("type".to_owned(), kind.into());
        event.insert("sequence_number".to_owned(), self.sequence.into());
        self.sequence += 1;
        if let Value::Object(fields) = fields {
            event.extend(fields);
        }
        let event = Value::Object(event);
        bytes.extend_from_slice(format!("event: {kind}\ndata: {event}\n\n").as_bytes());
    }

    /// An event about an item, or about a place in one.
    fn emit_at(
        &mut self,
        kind: &str,
        item: usize,
        place: Option<(&str, usize)>,
        more: Value,
        bytes: &mut Vec<u8>,
    ) {
        let mut fields = Map::new();
        fields.insert("item_id".to_owned(), self.items[item].id.as_str().into());
        fields.insert("output_index".to_owned(), item.into());
        if let Some((key, place)) = place {
            fields.insert(key.to_owned(), place.into());
        }
        if let Value::Object(more) = more {
            fields.extend(more);
        }
        self.emit(kind, fields.into(), bytes);
    }

    fn start(&mut self, bytes: &mut Vec<u8>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        for kind in ["response.created", "response.in_progress"] {
            let response = Value::Object(frame(&self.id, &self.model, self.created_s));
            self.emit(kind, json!({"response": response}), bytes);
        }
    }

    fn add_item(&mut self, prefix: &str, body: Body, bytes: &mut Vec<u8>) -> usize {
        let at = self.items.len();
        let id = match &body {
            Body::Whole(value) => value["id"].as_str().map(str::to_owned),
            _ => None,
        };
        let id = id.unwrap_or_else(|| item_id(prefix, &self.id, at));
        let item = Item {
            id,
            body,
            done: false,
        };
        let added = item.json("in_progress");
        self.items.push(item);
        self.emit(
            "response.output_item.added",
            json!({"output_index": at, "item": added}),
            bytes,
        );
        at
    }

    fn end_item(&mut self, at: usize, status: &str, bytes: &mut Vec<u8>) {
        if std::mem::replace(&mut self.items[at].done, true) {
            return;
        }
        if self.message == Some(at) {
            self.message = None;
        }
        let item = self.items[at].json(status);
        self.emit(
            "response.output_item.done",
            json!({"output_index": at, "item": item}),
            bytes,
        );
    }

    /// Ends the message under way, if none of its texts is open.
    fn end_message(&mut self, bytes: &mut Vec<u8>) {
        let Some(at) = self.message.take() else { return };
        if let Body::Message(contents) = &self.items[at].body
            && !contents.iter().any(|content| content.open)
        {
            self.end_item(at, "completed", bytes);
        }
    }

    fn begin(&mut self, part: usize, kind: &StreamPart, bytes: &mut Vec<u8>) {
        match kind {
            StreamPart::Text => {
                let place = self.begin_content(false, bytes);
                self.parts.insert(part, place);
            }
            StreamPart::Reasoning => {
                self.end_message(bytes);
                let body = Body::Reasoning {
                    text: String::new(),
                    signature: None,
                    said: false,
                };
                let at = self.add_item("rs", body, bytes);
                self.parts.insert(part, (at, 0));
            }
            StreamPart::ToolCall { id, name } => {
                self.end_message(bytes);
                let body = Body::Call {
                    id: id.clone(),
                    name: name.clone(),
                    arguments: String::new(),
                };
                let at = self.add_item("fc", body, bytes);
                self.parts.insert(part, (at, 0));
            }
            StreamPart::Whole(whole) => self.whole(part, whole, bytes),
        }
    }

    fn begin_content(&mut self, refusal: bool, bytes: &mut Vec<u8>) -> (usize, usize) {
        let at = match self.message {
            Some(at) => at,
            None => self.add_item("msg", Body::Message(Vec::new()), bytes),
        };
        self.message = Some(at);
        let content = Content {
            text: String::new(),
            logprobs: Vec::new(),
            refusal,
            open: true,
        };
        let added = content.json();
        let mut place = 0;
        if let Body::Message(contents) = &mut self.items[at].body {
            place = contents.len();
            contents.push(content);
        }
        let more = json!({"part": added});
        self.emit_at(
            "response.content_part.added",
            at,
            Some(("content_index", place)),
            more,
            bytes,
        );
        (at, place)
    }

    /// A part that came whole, told as if it had come in pieces.
    fn whole(&mut self, part: usize, whole: &Part, bytes: &mut Vec<u8>) {
        match &whole.kind {
            PartKind::Text(text) => {
                self.begin(part, &StreamPart::Text, bytes);
                self.delta(part, &Delta::Text(text.clone()), bytes);
            }
            PartKind::Reasoning { text, signature } => {
                self.begin(part, &StreamPart::Reasoning, bytes);
                self.delta(part, &Delta::Reasoning(text.clone()), bytes);
                if let Some(signature) = signature {
                    self.delta(part, &Delta::Signature(signature.clone()), bytes);
                }
            }
            PartKind::ToolCall { id, name, arguments } => {
                let (id, name) = (id.clone(), name.clone());
                self.begin(part, &StreamPart::ToolCall { id, name }, bytes);
                self.delta(part, &Delta::Arguments(arguments.clone()), bytes);
            }
            PartKind::Other(value) if value["type"] == "refusal" => {
                let place = self.begin_content(true, bytes);
                self.parts.insert(part, place);
                let text = value["refusal"].as_str().unwrap_or_default();
                self.delta(part, &Delta::Text(text.to_owned()), bytes);
            }
            PartKind::Image(Source::Base64 { media_type, data }) => {
                self.end_message(bytes);
                let id = item_id("ig", &self.id, self.items.len());
                let format = media_type.trim_start_matches("image/");
                let item = json!({"type": "image_generation_call", "id": id, "status": "completed",
                    "output_format": format, "result": data});
                self.hold(data.len(), bytes);
                let at = self.add_item("ig", Body::Whole(item), bytes);
                self.parts.insert(part, (at, 0));
            }
            PartKind::Other(value) if value["type"] == "redacted_thinking" => {
                let Some(mut item) = hidden(value) else { return };
                self.end_message(bytes);
                item["id"] = item_id("rs", &self.id, self.items.len()).into();
                self.hold(item.to_string().len(), bytes);
                let at = self.add_item("rs", Body::Whole(item), bytes);
                self.parts.insert(part, (at, 0));
            }
            // An item of this format; other formats' kinds have no place in it.
            PartKind::Other(value) if value["id"].is_string() && is_item(value) => {
                self.end_message(bytes);
                self.hold(value.to_string().len(), bytes);
                let at = self.add_item("item", Body::Whole(value.clone()), bytes);
                self.parts.insert(part, (at, 0));
            }
            _ => {}
        }
    }

    /// Counts what is held; at the limit the stream ends with an error.
    fn hold(&mut self, n_bytes: usize, bytes: &mut Vec<u8>) {
        self.held_bytes = self.held_bytes.saturating_add(n_bytes);
        if self.held_bytes > MAX_HELD_BYTES {
            let error = ErrorAnswer {
                status: 502,
                message: format!("the answer is longer than the limit of {MAX_HELD_BYTES} bytes"),
                code: None,
                param: None,
            };
            self.fail(&error, bytes);
        }
    }

    fn delta(&mut self, part: usize, delta: &Delta, bytes: &mut Vec<u8>) {
        let Some(&(at, place)) = self.parts.get(&part) else {
            return;
        };
        let (Delta::Text(more) | Delta::Reasoning(more) | Delta::Signature(more) | Delta::Arguments(more)) =
            delta;
        self.hold(more.len(), bytes);
        if self.ended {
            return;
        }
        match (&mut self.items[at].body, delta) {
            (Body::Message(contents), Delta::Text(_)) => {
                let Some(content) = contents.get_mut(place) else {
                    return;
                };
                content.text.push_str(more);
                let place = Some(("content_index", place));
                if content.refusal {
                    self.emit_at("response.refusal.delta", at, place, json!({"delta": more}), bytes);
                } else {
                    let more = json!({"delta": more, "logprobs": []});
                    self.emit_at("response.output_text.delta", at, place, more, bytes);
                }
            }
            (Body::Reasoning { text, said, .. }, Delta::Reasoning(_)) if !more.is_empty() => {
                text.push_str(more);
                let place = Some(("summary_index", 0));
                if !std::mem::replace(said, true) {
                    let more = json!({"part": {"type": "summary_text", "text": ""}});
                    self.emit_at("response.reasoning_summary_part.added", at, place, more, bytes);
                }
                let more = json!({"delta": more});
                self.emit_at("response.reasoning_summary_text.delta", at, place, more, bytes);
            }
            // Sealed when it is complete.
            (Body::Reasoning { signature, .. }, Delta::Signature(_)) => {
                signature.get_or_insert_default().push_str(more);
            }
            (Body::Call { arguments, .. }, Delta::Arguments(_)) => {
                arguments.push_str(more);
                let more = json!({"delta": more});
                self.emit_at("response.function_call_arguments.delta", at, None, more, bytes);
            }
            _ => {}
        }
    }

    /// Log probabilities belong to a piece of text; here they come with one that adds nothing.
    fn logprobs(&mut self, tokens: &[TokenLogprob], bytes: &mut Vec<u8>) {
        let tokens = write_logprobs(tokens);
        let at = self.message.or_else(|| {
            let is_message = |item: &Item| matches!(item.body, Body::Message(_)) && !item.done;
            self.items.iter().rposition(is_message)
        });
        let Some(at) = at else { return };
        let Body::Message(contents) = &mut self.items[at].body else {
            return;
        };
        let Some(content) = contents.last_mut().filter(|content| !content.refusal) else {
            return;
        };
        content.logprobs.extend(tokens.iter().cloned());
        if content.open {
            let place = Some(("content_index", contents.len() - 1));
            let more = json!({"delta": "", "logprobs": tokens});
            self.emit_at("response.output_text.delta", at, place, more, bytes);
        }
    }

    fn end_part(&mut self, part: usize, bytes: &mut Vec<u8>) {
        let Some((at, place)) = self.parts.remove(&part) else {
            return;
        };
        match &mut self.items[at].body {
            Body::Message(contents) => {
                let Some(content) = contents.get_mut(place) else {
                    return;
                };
                content.open = false;
                let (body, refusal) = (content.json(), content.refusal);
                let all_closed = !contents.iter().any(|content| content.open);
                let place = Some(("content_index", place));
                if refusal {
                    let more = json!({"refusal": body["refusal"]});
                    self.emit_at("response.refusal.done", at, place, more, bytes);
                } else {
                    let more = json!({"text": body["text"], "logprobs": body["logprobs"]});
                    self.emit_at("response.output_text.done", at, place, more, bytes);
                }
                self.emit_at(
                    "response.content_part.done",
                    at,
                    place,
                    json!({"part": body}),
                    bytes,
                );
                // Something else began meanwhile, so no text follows in it.
                if all_closed && self.message != Some(at) {
                    self.end_item(at, "completed", bytes);
                }
            }
            Body::Reasoning {
                text,
                said,
                signature,
            } => {
                *signature = signature
                    .take()
                    .and_then(|signature| seal(&signature, self.options.provider));
                if *said {
                    let (text, place) = (text.clone(), Some(("summary_index", 0)));
                    let more = json!({"text": text});
                    self.emit_at("response.reasoning_summary_text.done", at, place, more, bytes);
                    let more = json!({"part": {"type": "summary_text", "text": text}});
                    self.emit_at("response.reasoning_summary_part.done", at, place, more, bytes);
                }
                self.end_item(at, "completed", bytes);
            }
            Body::Call { arguments, .. } => {
                // Clients parse the arguments: none are an object without fields.
                if arguments.trim().is_empty() {
                    "{}".clone_into(arguments);
                    let more = json!({"delta": "{}"});
                    self.emit_at("response.function_call_arguments.delta", at, None, more, bytes);
                }
                self.end_call(at, bytes);
            }
            Body::Whole(_) => self.end_item(at, "completed", bytes),
        }
    }

    fn end_call(&mut self, at: usize, bytes: &mut Vec<u8>) {
        if let Body::Call { arguments, name, .. } = &self.items[at].body {
            let more = json!({"name": name, "arguments": arguments});
            self.emit_at("response.function_call_arguments.done", at, None, more, bytes);
        }
        self.end_item(at, "completed", bytes);
    }

    /// Ends all parts and items.
    fn close(&mut self, bytes: &mut Vec<u8>) {
        while let Some((&part, _)) = self.parts.first_key_value() {
            self.end_part(part, bytes);
        }
        self.end_message(bytes);
    }

    /// The answer so far, with a status.
    fn response(&self, status: &str) -> Map<String, Value> {
        let mut response = frame(&self.id, &self.model, self.created_s);
        response.insert("status".to_owned(), status.into());
        let items: Vec<Value> = self.items.iter().map(|item| item.json("completed")).collect();
        response.insert("output".to_owned(), items.into());
        if let Some(usage) = &self.usage {
            response.insert("usage".to_owned(), write_usage(usage));
        }
        response
    }

    fn end(&mut self, bytes: &mut Vec<u8>) {
        self.start(bytes);
        self.close(bytes);
        let (status, reason) = write_stop(self.stop.as_ref());
        let mut response = self.response(status);
        if let Some(reason) = reason {
            response.insert("incomplete_details".to_owned(), json!({"reason": reason}));
        }
        let kind = format!("response.{status}");
        self.ended = true;
        self.emit(&kind, json!({"response": response}), bytes);
    }

    fn fail(&mut self, error: &ErrorAnswer, bytes: &mut Vec<u8>) {
        self.ended = true;
        let code = error.code.as_deref().unwrap_or(match error.kind() {
            ErrorKind::RateLimit => "rate_limit_exceeded",
            ErrorKind::InvalidRequest | ErrorKind::TooLarge => "invalid_prompt",
            _ => "server_error",
        });
        if !self.started {
            let fields = json!({"code": code, "message": error.message, "param": error.param});
            self.emit("error", fields, bytes);
            return;
        }
        let mut response = self.response("failed");
        response.insert(
            "error".to_owned(),
            json!({"code": code, "message": error.message}),
        );
        self.emit("response.failed", json!({"response": response}), bytes);
    }
}

/// Is it an item of an answer of this format?
fn is_item(value: &Value) -> bool {
    let kind = value["type"].as_str().unwrap_or_default();
    kind == "reasoning" || kind == "compaction" || kind.ends_with("_call") || kind.starts_with("mcp_")
}

impl WriteStream for StreamWriter {
    fn write(&mut self, event: &StreamEvent, bytes: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        match event {
            StreamEvent::Start { id, model, created_s } => {
                if !id.is_empty() {
                    self.id = response_id(id);
                }
                self.model.clone_from(model);
                self.created_s = created_s.unwrap_or(self.options.now_s);
                self.start(bytes);
            }
            // The clients of this format ask for one answer.
            StreamEvent::PartStart {
                choice: 0,
                part,
                kind,
            } => {
                self.start(bytes);
                self.begin(*part, kind, bytes);
            }
            StreamEvent::Delta {
                choice: 0,
                part,
                delta,
            } => self.delta(*part, delta, bytes),
            StreamEvent::PartEnd { choice: 0, part } => self.end_part(*part, bytes),
            StreamEvent::Logprobs { choice: 0, tokens } => self.logprobs(tokens, bytes),
            StreamEvent::Stop { choice: 0, stop } => self.stop = Some(stop.clone()),
            StreamEvent::PartStart { .. }
            | StreamEvent::Delta { .. }
            | StreamEvent::PartEnd { .. }
            | StreamEvent::Logprobs { .. }
            | StreamEvent::Stop { .. } => {}
            StreamEvent::Usage(usage) => self.usage = Some(*usage),
            StreamEvent::Error(error) => self.fail(error, bytes),
            StreamEvent::Ping => bytes.extend_from_slice(b": ping\n\n"),
            StreamEvent::End => self.end(bytes),
        }
    }
}
