//! OpenAI Chat Completions: reading a stream (`chat.completion.chunk`).
//!
//! Providers of this format differ most in how they stream calls of tools: OpenAI names a call once and
//! then sends pieces of its arguments under its `index`; others repeat the id, leave it or the index out,
//! send whole calls in one chunk all under index 0, or send arguments as an object. A call here is a new
//! one if its index is new, or if it comes with another id and a name. Usage that a provider sends in
//! several chunks is cumulative. A stream without `[DONE]` is complete if every choice got a reason.

use super::answer::{
    CLAUDE, arguments_text, made_id, read_image, read_logprobs, read_piece, read_stop, seconds,
};
use crate::answer::{Delta, Stop, StreamEvent, StreamPart};
use crate::canonical::{ConvertError, PartKind, plain};
use crate::convert::{ReadStream, cut_short};
use crate::error::read_stream_error;
use crate::format::Format;
use crate::usage::{Meter, Usage};
use serde_json::{Map, Value, json};

/// The most choices of a stream; OpenAI allows 128.
const MAX_CHOICES: usize = 128;
/// The most calls of one choice.
const MAX_CALLS: usize = 512;
/// The most bytes held of one choice: arguments that came before the tool's name, and a refusal.
const MAX_HELD_BYTES: usize = 1 << 20;

/// Fields of a delta that say nothing that is said elsewhere too.
const KNOWN_DELTA: [&str; 9] = [
    "role",
    "content",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
    "refusal",
    "tool_calls",
    "images",
    "channel",
];

/// Reads a stream.
#[derive(Debug)]
pub struct StreamReader {
    started: bool,
    ended: bool,
    id: String,
    meter: Meter,
    told: Option<Usage>,
    choices: Vec<Choice>,
}

impl Default for StreamReader {
    fn default() -> Self {
        Self {
            started: false,
            ended: false,
            id: String::new(),
            meter: Meter::new(Format::Chat),
            told: None,
            choices: Vec::new(),
        }
    }
}

#[derive(Debug, Default)]
struct Choice {
    n_parts: usize,
    /// The text or reasoning under way. Calls of tools stay open beside it.
    open: Option<(usize, Flow)>,
    calls: Vec<Call>,
    refusal: String,
    held_bytes: usize,
    /// Told when nothing more can come for the choice: some providers give a reason in every chunk.
    stop: Option<Stop>,
    stopped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Text,
    Reasoning,
}

#[derive(Debug)]
struct Call {
    index: Option<u64>,
    id: String,
    /// Its part, once the tool's name is known.
    part: Option<usize>,
    /// What came before that.
    held: String,
}

fn invalid(field: impl Into<String>, expected: &'static str) -> ConvertError {
    ConvertError::Invalid {
        field: field.into(),
        expected,
    }
}

impl ReadStream for StreamReader {
    fn read(&mut self, name: &str, data: &str, events: &mut Vec<StreamEvent>) -> Result<(), ConvertError> {
        let data = data.trim();
        if self.ended || data.is_empty() {
            return Ok(());
        }
        if data == "[DONE]" {
            self.end(events);
            return Ok(());
        }
        let Ok(Value::Object(mut chunk)) = serde_json::from_str(data) else {
            return Err(invalid("data", "a JSON object or [DONE]"));
        };
        self.start(&chunk, events);
        let choices = chunk.shift_remove("choices");
        let chunk = Value::Object(chunk);
        self.meter.observe(&chunk);
        let usage = self.meter.usage();
        if usage != self.told {
            self.told = usage;
            events.extend(usage.map(StreamEvent::Usage));
        }
        let error = chunk.get("error").filter(|error| !error.is_null());
        if name == "error" || error.is_some() {
            let error = read_stream_error(&chunk);
            self.close(events);
            events.extend([StreamEvent::Error(error), StreamEvent::End]);
            self.ended = true;
            return Ok(());
        }
        let choices = match choices {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(choices)) => choices,
            Some(_) => return Err(invalid("choices", "an array")),
        };
        for (at, choice) in choices.into_iter().enumerate() {
            self.choice(choice, at, events)?;
        }
        Ok(())
    }

    fn finish(&mut self, events: &mut Vec<StreamEvent>) {
        if self.ended {
            return;
        }
        if !self.choices.is_empty() && self.choices.iter().all(|choice| choice.stop.is_some()) {
            self.end(events);
            return;
        }
        self.start(&Map::new(), events);
        self.close(events);
        events.extend([StreamEvent::Error(cut_short()), StreamEvent::End]);
        self.ended = true;
    }
}

impl StreamReader {
    fn start(&mut self, chunk: &Map<String, Value>, events: &mut Vec<StreamEvent>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let text = |key: &str| {
            chunk
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        self.id = text("id");
        events.push(StreamEvent::Start {
            id: self.id.clone(),
            model: text("model"),
            created_s: chunk.get("created").and_then(seconds),
        });
    }

    /// The provider says that nothing more comes.
    fn end(&mut self, events: &mut Vec<StreamEvent>) {
        if self.choices.is_empty() {
            // An end before anything was said is no answer.
            self.start(&Map::new(), events);
            events.push(StreamEvent::Error(cut_short()));
        }
        self.close(events);
        for (at, choice) in self.choices.iter_mut().enumerate() {
            if !choice.stopped {
                choice.stopped = true;
                let stop = choice.stop.take().unwrap_or(Stop::End);
                events.push(StreamEvent::Stop { choice: at, stop });
            }
        }
        events.push(StreamEvent::End);
        self.ended = true;
    }

    fn close(&mut self, events: &mut Vec<StreamEvent>) {
        for (at, choice) in self.choices.iter_mut().enumerate() {
            choice.close(at, events);
        }
    }

    fn choice(
        &mut self,
        choice: Value,
        at: usize,
        events: &mut Vec<StreamEvent>,
    ) -> Result<(), ConvertError> {
        let Value::Object(mut body) = choice else {
            return Err(invalid(format!("choices[{at}]"), "an object"));
        };
        let index = body.get("index").and_then(Value::as_u64);
        let index = index.map_or(Some(at), |index| usize::try_from(index).ok());
        let index = index.filter(|&index| index < MAX_CHOICES);
        let index = index.ok_or_else(|| invalid(format!("choices[{at}].index"), "a number below 128"))?;
        if self.choices.len() <= index {
            self.choices.resize_with(index + 1, Choice::default);
        }
        let choice = &mut self.choices[index];
        // A stream that was asked for as such, of providers that answer whole, has messages.
        let delta = body
            .shift_remove("delta")
            .or_else(|| body.shift_remove("message"));
        if let Some(Value::Object(delta)) = delta {
            choice.delta(index, delta, &self.id, events)?;
        }
        if let Some(tokens) = body.get("logprobs").and_then(|logprobs| logprobs.get("content")) {
            let tokens = read_logprobs(tokens);
            if !tokens.is_empty() {
                events.push(StreamEvent::Logprobs {
                    choice: index,
                    tokens,
                });
            }
        }
        if let Some(stop) = body
            .get("finish_reason")
            .and_then(Value::as_str)
            .and_then(read_stop)
        {
            choice.stop = Some(stop);
        }
        Ok(())
    }
}

impl Choice {
    fn part(&mut self, choice: usize, kind: StreamPart, events: &mut Vec<StreamEvent>) -> usize {
        let part = self.n_parts;
        self.n_parts += 1;
        events.push(StreamEvent::PartStart { choice, part, kind });
        part
    }

    fn whole(&mut self, choice: usize, kind: PartKind, events: &mut Vec<StreamEvent>) {
        let part = self.part(choice, StreamPart::Whole(Box::new(plain(kind))), events);
        events.push(StreamEvent::PartEnd { choice, part });
    }

    fn close_flow(&mut self, choice: usize, events: &mut Vec<StreamEvent>) {
        if let Some((part, _)) = self.open.take() {
            events.push(StreamEvent::PartEnd { choice, part });
        }
    }

    fn close(&mut self, choice: usize, events: &mut Vec<StreamEvent>) {
        self.close_flow(choice, events);
        let refusal = std::mem::take(&mut self.refusal);
        if !refusal.is_empty() {
            let kind = PartKind::Other(json!({"type": "refusal", "refusal": refusal}));
            self.whole(choice, kind, events);
        }
        let mut calls = std::mem::take(&mut self.calls);
        for call in &mut calls {
            // A call whose tool was never named is told all the same: its arguments came.
            call.name(self, choice, "", events);
            if let Some(part) = call.part {
                events.push(StreamEvent::PartEnd { choice, part });
            }
        }
    }

    fn flow(&mut self, choice: usize, flow: Flow, events: &mut Vec<StreamEvent>) -> usize {
        if let Some((part, open)) = self.open
            && open == flow
        {
            return part;
        }
        self.close_flow(choice, events);
        let kind = match flow {
            Flow::Text => StreamPart::Text,
            Flow::Reasoning => StreamPart::Reasoning,
        };
        let part = self.part(choice, kind, events);
        self.open = Some((part, flow));
        part
    }

    fn say(&mut self, choice: usize, flow: Flow, text: &str, events: &mut Vec<StreamEvent>) {
        if text.is_empty() {
            return;
        }
        let part = self.flow(choice, flow, events);
        let delta = match flow {
            Flow::Text => Delta::Text(text.to_owned()),
            Flow::Reasoning => Delta::Reasoning(text.to_owned()),
        };
        events.push(StreamEvent::Delta { choice, part, delta });
    }

    fn hold(&mut self, n_bytes: usize) -> Result<(), ConvertError> {
        self.held_bytes = self.held_bytes.saturating_add(n_bytes);
        if self.held_bytes > MAX_HELD_BYTES {
            return Err(invalid(
                "choices[].delta",
                "at most 1 MiB of refusal and of arguments without a name",
            ));
        }
        Ok(())
    }

    fn delta(
        &mut self,
        choice: usize,
        mut delta: Map<String, Value>,
        answer_id: &str,
        events: &mut Vec<StreamEvent>,
    ) -> Result<(), ConvertError> {
        let details = delta.shift_remove("reasoning_details");
        let said = ["reasoning_content", "reasoning"].into_iter().find_map(|key| {
            let text = delta.get(key).and_then(Value::as_str)?;
            (!text.is_empty()).then(|| text.to_owned())
        });
        if let Some(text) = &said {
            self.say(choice, Flow::Reasoning, text, events);
        }
        if let Some(details) = details {
            self.details(choice, &details, said.is_some(), events);
        }
        match delta.shift_remove("content") {
            Some(Value::String(text)) => self.say(choice, Flow::Text, &text, events),
            Some(Value::Array(pieces)) => {
                for piece in pieces {
                    match read_piece(piece) {
                        PartKind::Text(text) => self.say(choice, Flow::Text, &text, events),
                        PartKind::Reasoning { text, .. } => self.say(choice, Flow::Reasoning, &text, events),
                        kind => self.whole(choice, kind, events),
                    }
                }
            }
            _ => {}
        }
        if let Some(text) = delta.get("refusal").and_then(Value::as_str) {
            self.hold(text.len())?;
            self.refusal.push_str(text);
        }
        for image in delta
            .get("images")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let kind = read_image(image).unwrap_or_else(|| PartKind::Other(image.clone()));
            self.whole(choice, kind, events);
        }
        match delta.shift_remove("tool_calls") {
            Some(Value::Array(calls)) => {
                for call in calls {
                    self.call(choice, call, answer_id, events)?;
                }
            }
            Some(Value::Null) | None => {}
            Some(_) => return Err(invalid("choices[].delta.tool_calls", "an array")),
        }
        // What this model does not know and is more than a word, such as annotations and audio, is
        // kept as it came, for a client of this format.
        delta.retain(|key, value| {
            let is_more = match value {
                Value::Object(inner) => !inner.is_empty(),
                Value::Array(inner) => !inner.is_empty(),
                _ => false,
            };
            is_more && !KNOWN_DELTA.contains(&key.as_str())
        });
        if !delta.is_empty() {
            let kind = PartKind::Other(json!({"type": "chat_delta", "delta": delta}));
            self.whole(choice, kind, events);
        }
        Ok(())
    }

    /// OpenRouter's details of reasoning: they repeat the text, and have what this format has no place for.
    fn details(&mut self, choice: usize, details: &Value, is_said: bool, events: &mut Vec<StreamEvent>) {
        for detail in details.as_array().into_iter().flatten() {
            let text = detail["text"].as_str().or(detail["summary"].as_str());
            if !is_said {
                self.say(choice, Flow::Reasoning, text.unwrap_or_default(), events);
            }
            let signature = detail["signature"].as_str().filter(|text| !text.is_empty());
            if detail["format"] != CLAUDE {
                // Nobody but its maker takes it again.
                if signature.is_some() || detail["data"].is_string() {
                    let delta = json!({"reasoning_details": [detail]});
                    let kind = json!({"type": "chat_delta", "delta": delta});
                    self.whole(choice, PartKind::Other(kind), events);
                }
            } else if detail["type"] == "reasoning.encrypted" {
                self.close_flow(choice, events);
                let kind = json!({"type": "redacted_thinking", "data": detail["data"]});
                self.whole(choice, PartKind::Other(kind), events);
            } else if let Some(signature) = signature {
                let part = self.flow(choice, Flow::Reasoning, events);
                let delta = Delta::Signature(signature.to_owned());
                events.push(StreamEvent::Delta { choice, part, delta });
                // What is signed is complete.
                self.close_flow(choice, events);
            }
        }
    }

    fn call(
        &mut self,
        choice: usize,
        call: Value,
        answer_id: &str,
        events: &mut Vec<StreamEvent>,
    ) -> Result<(), ConvertError> {
        let Value::Object(mut call) = call else {
            return Err(invalid("choices[].delta.tool_calls[]", "an object"));
        };
        let index = call.get("index").and_then(Value::as_u64);
        let id = call
            .get("id")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let mut function = match call.shift_remove("function") {
            Some(Value::Object(function)) => function,
            _ => Map::new(),
        };
        let name = function
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let arguments = function
            .shift_remove("arguments")
            .map(arguments_text)
            .unwrap_or_default();
        let place = self.find_call(index, &id, &name);
        let place = match place {
            Some(place) => place,
            None if self.calls.len() == MAX_CALLS => {
                return Err(invalid("choices[].delta.tool_calls", "at most 512 calls"));
            }
            None => {
                self.close_flow(choice, events);
                let id = if id.is_empty() {
                    made_id(answer_id, choice, self.calls.len())
                } else {
                    id
                };
                self.calls.push(Call {
                    index,
                    id,
                    part: None,
                    held: String::new(),
                });
                self.calls.len() - 1
            }
        };
        let mut calls = std::mem::take(&mut self.calls);
        let call = &mut calls[place];
        if !name.is_empty() {
            call.name(self, choice, &name, events);
        }
        let held = match call.part {
            _ if arguments.is_empty() => Ok(()),
            Some(part) => {
                let delta = Delta::Arguments(arguments);
                events.push(StreamEvent::Delta { choice, part, delta });
                Ok(())
            }
            None => {
                call.held.push_str(&arguments);
                self.hold(arguments.len())
            }
        };
        self.calls = calls;
        held
    }

    /// The call that a piece belongs to; `None` for a new one.
    fn find_call(&self, index: Option<u64>, id: &str, name: &str) -> Option<usize> {
        let is_other = |call: &Call| !id.is_empty() && call.id != id && !name.is_empty();
        let by_id = || {
            self.calls
                .iter()
                .rposition(|call| !id.is_empty() && call.id == id)
        };
        match index {
            // Whole calls that all have index 0 differ in their ids; the last is the one under way.
            Some(_) => by_id().or_else(|| {
                let place = self.calls.iter().rposition(|call| call.index == index)?;
                (!is_other(&self.calls[place])).then_some(place)
            }),
            None if id.is_empty() && name.is_empty() => self.calls.len().checked_sub(1),
            None => by_id(),
        }
    }
}

impl Call {
    /// Begins the part, and tells what came before it could.
    fn name(&mut self, choice_state: &mut Choice, choice: usize, name: &str, events: &mut Vec<StreamEvent>) {
        if self.part.is_some() {
            return;
        }
        let kind = StreamPart::ToolCall {
            id: self.id.clone(),
            name: name.to_owned(),
        };
        let part = choice_state.part(choice, kind, events);
        self.part = Some(part);
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            let delta = Delta::Arguments(held);
            events.push(StreamEvent::Delta { choice, part, delta });
        }
    }
}
