//! OpenAI Responses: reading a stream. Events of kinds that this reader does not know are passed over;
//! what they were about comes whole with `response.output_item.done`.

use super::answer::{read_logprobs, read_output_item, read_stop, seconds};
use super::items::BETWEEN;
use crate::answer::{Delta, Stop, StreamEvent, StreamPart};
use crate::canonical::{ConvertError, Fields, ITEM, PartKind, plain};
use crate::convert::{ReadStream, cut_short};
use crate::error::read_stream_error;
use crate::format::Format;
use crate::usage::Meter;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The most items and parts of messages open at once.
const MAX_OPEN: usize = 256;

/// Reads a stream.
#[derive(Debug)]
pub struct StreamReader {
    started: bool,
    ended: bool,
    meter: Meter,
    n_parts: usize,
    /// By output index, and of the contents of a message by theirs: no other item has several parts.
    open: BTreeMap<(u64, u64), Open>,
    /// Contents of open messages that have ended.
    told: BTreeSet<(u64, u64)>,
    /// A call came, which the status does not say.
    calls: bool,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    part: usize,
    /// Pieces of another kind do not fit it.
    kind: std::mem::Discriminant<StreamPart>,
    /// The place in an item of reasoning where the last piece belongs.
    summary: Option<u64>,
    /// A piece came: what is told at the end is no news.
    said: bool,
}

impl Open {
    fn is(&self, kind: &StreamPart) -> bool {
        self.kind == std::mem::discriminant(kind)
    }
}

/// Any call of a tool.
fn call() -> StreamPart {
    StreamPart::ToolCall {
        id: String::new(),
        name: String::new(),
    }
}

impl Default for StreamReader {
    fn default() -> Self {
        Self {
            started: false,
            ended: false,
            meter: Meter::new(Format::Responses),
            n_parts: 0,
            open: BTreeMap::new(),
            told: BTreeSet::new(),
            calls: false,
        }
    }
}

/// A number of an event that providers leave out where it is 0.
fn number(event: &Value, key: &str) -> u64 {
    event[key].as_u64().unwrap_or(0)
}

impl StreamReader {
    fn start(&mut self, response: &Value, events: &mut Vec<StreamEvent>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let text = |key: &str| response[key].as_str().unwrap_or_default().to_owned();
        events.push(StreamEvent::Start {
            id: text("id"),
            model: text("model"),
            created_s: seconds(&response["created_at"]),
        });
    }

    /// The part at a place; it begins if it has not yet.
    fn open(
        &mut self,
        at: (u64, u64),
        kind: StreamPart,
        events: &mut Vec<StreamEvent>,
    ) -> Result<&mut Open, ConvertError> {
        let discriminant = std::mem::discriminant(&kind);
        if !self.open.contains_key(&at) {
            if self.open.len() + self.told.len() >= MAX_OPEN {
                return Err(ConvertError::Invalid {
                    field: "output_index".to_owned(),
                    expected: "of one of at most 256 contents and items open at once",
                });
            }
            self.calls |= matches!(kind, StreamPart::ToolCall { .. });
            let part = self.n_parts;
            self.n_parts += 1;
            events.push(StreamEvent::PartStart {
                choice: 0,
                part,
                kind,
            });
            let open = Open {
                part,
                kind: discriminant,
                summary: None,
                said: false,
            };
            self.open.insert(at, open);
        }
        let open = self.open.get_mut(&at).filter(|open| open.kind == discriminant);
        open.ok_or_else(|| ConvertError::Invalid {
            field: "output_index".to_owned(),
            expected: "of an item that the event fits",
        })
    }

    fn close(&mut self, at: (u64, u64), events: &mut Vec<StreamEvent>) {
        if let Some(Open { part, .. }) = self.open.remove(&at) {
            events.push(StreamEvent::PartEnd { choice: 0, part });
        }
    }

    fn close_all(&mut self, events: &mut Vec<StreamEvent>) {
        while let Some((&at, _)) = self.open.first_key_value() {
            self.close(at, events);
        }
    }

    fn text(
        &mut self,
        event: &Value,
        is_end: bool,
        events: &mut Vec<StreamEvent>,
    ) -> Result<(), ConvertError> {
        let at = (number(event, "output_index"), number(event, "content_index"));
        let text = event[if is_end { "text" } else { "delta" }]
            .as_str()
            .unwrap_or_default();
        let open = self.open(at, StreamPart::Text, events)?;
        if is_end && open.said {
            return Ok(());
        }
        open.said |= !text.is_empty();
        delta(open.part, Delta::Text(text.to_owned()), events);
        let tokens = read_logprobs(&event["logprobs"]);
        if !tokens.is_empty() {
            open.said = true;
            events.push(StreamEvent::Logprobs { choice: 0, tokens });
        }
        Ok(())
    }

    fn reasoning(
        &mut self,
        event: &Value,
        place: &str,
        is_end: bool,
        events: &mut Vec<StreamEvent>,
    ) -> Result<(), ConvertError> {
        let at = (number(event, "output_index"), 0);
        let place = number(event, place);
        let text = event[if is_end { "text" } else { "delta" }]
            .as_str()
            .unwrap_or_default();
        if text.is_empty() {
            return Ok(());
        }
        let open = self.open(at, StreamPart::Reasoning, events)?;
        match open.summary.replace(place) {
            Some(last) if last == place && is_end => return Ok(()),
            Some(last) if last != place => delta(open.part, Delta::Reasoning(BETWEEN.to_owned()), events),
            _ => {}
        }
        delta(open.part, Delta::Reasoning(text.to_owned()), events);
        Ok(())
    }

    fn arguments(&mut self, event: &Value, is_end: bool, events: &mut Vec<StreamEvent>) {
        let at = (number(event, "output_index"), 0);
        let text = event[if is_end { "arguments" } else { "delta" }]
            .as_str()
            .unwrap_or_default();
        // A call of which neither name nor id came is none; its item tells it whole.
        let open = self.open.get_mut(&at).filter(|open| open.is(&call()));
        let Some(open) = open.filter(|open| !is_end || !open.said) else {
            return;
        };
        open.said |= !text.is_empty();
        delta(open.part, Delta::Arguments(text.to_owned()), events);
    }

    fn item_added(&mut self, event: &Value, events: &mut Vec<StreamEvent>) -> Result<(), ConvertError> {
        let item = &event["item"];
        let (Some(id), Some(name)) = (item["call_id"].as_str(), item["name"].as_str()) else {
            return Ok(());
        };
        if item["type"] == "function_call" {
            let (id, name) = (id.to_owned(), name.to_owned());
            self.open(
                (number(event, "output_index"), 0),
                StreamPart::ToolCall { id, name },
                events,
            )?;
        }
        Ok(())
    }

    /// The item whole: ends what is open of it, and tells what did not come in pieces.
    fn item_done(&mut self, mut event: Value, events: &mut Vec<StreamEvent>) -> Result<(), ConvertError> {
        let at = number(&event, "output_index");
        let parts = read_output_item(event["item"].take(), "item")?;
        for (idx, mut part) in parts.into_iter().enumerate() {
            let at = (at, idx as u64);
            if self.told.remove(&at) {
                continue;
            }
            match (self.open.get_mut(&at), &part.kind) {
                (Some(open), PartKind::ToolCall { arguments, .. }) if !open.said && open.is(&call()) => {
                    delta(open.part, Delta::Arguments(arguments.clone()), events);
                }
                (Some(open), PartKind::Text(text)) if !open.said && open.is(&StreamPart::Text) => {
                    delta(open.part, Delta::Text(text.clone()), events);
                }
                (Some(open), PartKind::Reasoning { signature, .. }) if open.is(&StreamPart::Reasoning) => {
                    let part = open.part;
                    let signature = signature.clone().filter(|signature| !signature.is_empty());
                    events.extend(signature.map(|signature| StreamEvent::Delta {
                        choice: 0,
                        part,
                        delta: Delta::Signature(signature),
                    }));
                }
                (Some(_), _) => {}
                (None, PartKind::Text(text)) => {
                    let open = self.open(at, StreamPart::Text, events)?;
                    delta(open.part, Delta::Text(text.clone()), events);
                    let tokens = part.other.get("logprobs").map(read_logprobs).unwrap_or_default();
                    if !tokens.is_empty() {
                        events.push(StreamEvent::Logprobs { choice: 0, tokens });
                    }
                }
                (None, PartKind::Reasoning { text, signature }) => {
                    let open = self.open(at, StreamPart::Reasoning, events)?;
                    delta(open.part, Delta::Reasoning(text.clone()), events);
                    if let Some(signature) = signature.clone() {
                        delta(open.part, Delta::Signature(signature), events);
                    }
                }
                (None, PartKind::ToolCall { id, name, arguments }) => {
                    let (id, name) = (id.clone(), name.clone());
                    let open = self.open(at, StreamPart::ToolCall { id, name }, events)?;
                    delta(open.part, Delta::Arguments(arguments.clone()), events);
                }
                (None, _) => {
                    // As in pieces: what the item says of itself is not told.
                    part.other.shift_remove(ITEM);
                    self.open(at, StreamPart::Whole(Box::new(part)), events)?;
                }
            }
            self.close(at, events);
        }
        let open: Vec<_> = self
            .open
            .range((at, 0)..=(at, u64::MAX))
            .map(|(&at, _)| at)
            .collect();
        for at in open {
            self.close(at, events);
        }
        self.told.retain(|(item, _)| *item != at);
        Ok(())
    }

    fn content_done(&mut self, event: &Value, events: &mut Vec<StreamEvent>) -> Result<(), ConvertError> {
        let at = (number(event, "output_index"), number(event, "content_index"));
        match event["part"]["type"].as_str() {
            Some("output_text") if self.open.contains_key(&at) => {}
            // A refusal is short and no format streams it alike: it is told whole.
            Some("refusal") => {
                let part = plain(PartKind::Other(event["part"].clone()));
                self.open(at, StreamPart::Whole(Box::new(part)), events)?;
            }
            _ => return Ok(()),
        }
        self.close(at, events);
        self.told.insert(at);
        Ok(())
    }

    fn end(&mut self, response: &Value, status: &str, events: &mut Vec<StreamEvent>) {
        self.close_all(events);
        let reason = response["incomplete_details"]["reason"].as_str();
        let stop = read_stop(Some(status), reason, self.calls).unwrap_or(Stop::End);
        events.push(StreamEvent::Stop { choice: 0, stop });
        events.extend(self.meter.usage().map(StreamEvent::Usage));
        self.ended = true;
        events.push(StreamEvent::End);
    }

    fn fail(&mut self, body: &Value, events: &mut Vec<StreamEvent>) {
        self.close_all(events);
        events.extend(self.meter.usage().map(StreamEvent::Usage));
        events.push(StreamEvent::Error(read_stream_error(body)));
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
        // Some providers end their streams as those of Chat end.
        if self.ended || data == "[DONE]" {
            return Ok(());
        }
        let event: Value = serde_json::from_str(data).map_err(|_| ConvertError::Invalid {
            field: "data".to_owned(),
            expected: "a JSON object",
        })?;
        let event = Value::Object(Fields::new(event, "data")?.rest);
        self.meter.observe(&event);
        let kind = event["type"].as_str().unwrap_or(name).to_owned();
        // An error may come before anything else; whatever comes begins the answer.
        self.start(&event["response"], events);
        match kind.as_str() {
            "response.output_item.added" => self.item_added(&event, events)?,
            "response.content_part.added" if event["part"]["type"] == "output_text" => {
                let at = (number(&event, "output_index"), number(&event, "content_index"));
                self.open(at, StreamPart::Text, events)?;
            }
            "response.output_text.delta" => self.text(&event, false, events)?,
            "response.output_text.done" => self.text(&event, true, events)?,
            "response.content_part.done" => self.content_done(&event, events)?,
            "response.reasoning_summary_text.delta" => {
                self.reasoning(&event, "summary_index", false, events)?;
            }
            "response.reasoning_summary_text.done" => {
                self.reasoning(&event, "summary_index", true, events)?;
            }
            "response.reasoning_text.delta" => self.reasoning(&event, "content_index", false, events)?,
            "response.reasoning_text.done" => self.reasoning(&event, "content_index", true, events)?,
            "response.function_call_arguments.delta" => self.arguments(&event, false, events),
            "response.function_call_arguments.done" => self.arguments(&event, true, events),
            "response.output_item.done" => self.item_done(event, events)?,
            "response.completed" => self.end(&event["response"], "completed", events),
            "response.incomplete" => self.end(&event["response"], "incomplete", events),
            "response.cancelled" => self.end(&event["response"], "cancelled", events),
            "response.failed" => self.fail(&event["response"], events),
            "error" => self.fail(&event, events),
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
