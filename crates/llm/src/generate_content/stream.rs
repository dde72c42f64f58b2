//! Google streamGenerateContent: each event is an answer of its own that goes on where the last one
//! ended, in server-sent events (`alt=sse`) or as the items of one JSON array.
//!
//! There is no end mark: a stream is complete when the connection ends after a `finishReason`. Old models
//! give one in every event, so a choice is told to have stopped only when the bytes end.
//!
//! Gemini 3 wants its signatures over calls back, so a signed call comes whole, with the signature in its
//! `other`. Signatures over text, citations and grounding are not told in streams.

use super::answer::{
    block_reason, call_scope, created_s, put_name, read_logprobs, read_stop, read_word, write_logprobs,
    write_stop, write_usage,
};
use super::parts::{PartReader, PartWriter};
use super::{fields, object};
use crate::answer::{Delta, Stop, StreamEvent, StreamPart};
use crate::canonical::{ConvertError, Part, PartKind, plain};
use crate::convert::{ReadStream, StreamOptions, WriteStream, cut_short};
use crate::error::{ErrorAnswer, read_error, write_error};
use crate::format::Format;
use crate::usage::{Meter, Usage};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// More choices than any request may ask for.
const CHOICES_MAX: usize = 128;

/// The most that is held of the arguments of calls, which this format writes whole.
const ARGUMENTS_BYTES_MAX: usize = 16 << 20;

/// Reads a stream.
#[derive(Debug)]
pub struct StreamReader {
    started: bool,
    ended: bool,
    id: String,
    choices: BTreeMap<usize, ChoiceState>,
    meter: Meter,
    usage: Option<Usage>,
}

#[derive(Debug)]
struct ChoiceState {
    reader: PartReader,
    n_parts: usize,
    /// The part under way: reasoning, else text.
    open: Option<Open>,
    has_call: bool,
    /// Why it stopped.
    word: Option<String>,
    refused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Text,
    Reasoning,
}

impl Default for StreamReader {
    fn default() -> Self {
        Self {
            started: false,
            ended: false,
            id: String::new(),
            choices: BTreeMap::new(),
            meter: Meter::new(Format::GenerateContent),
            usage: None,
        }
    }
}

impl ReadStream for StreamReader {
    fn read(&mut self, _name: &str, data: &str, events: &mut Vec<StreamEvent>) -> Result<(), ConvertError> {
        if self.ended {
            return Ok(());
        }
        let chunk: Value = serde_json::from_str(data).map_err(|_| ConvertError::Invalid {
            field: "event of the stream".to_owned(),
            expected: "a JSON object",
        })?;
        if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
            let status = error["code"].as_u64().and_then(|code| u16::try_from(code).ok());
            self.end_in_error(read_error(status.unwrap_or(500), &chunk), events);
            return Ok(());
        }
        self.meter.observe(&chunk);
        let mut chunk = fields(chunk, "")?;
        if !self.started {
            self.started = true;
            self.id = chunk.text("responseId")?.unwrap_or_default();
            events.push(StreamEvent::Start {
                id: self.id.clone(),
                model: chunk.text("modelVersion")?.unwrap_or_default(),
                created_s: created_s(&chunk.rest),
            });
        }
        let candidates = chunk.list("candidates")?.unwrap_or_default();
        for (place, candidate) in candidates.into_iter().enumerate() {
            self.candidate(candidate, place, events)?;
        }
        if block_reason(&chunk.rest).is_some() {
            self.choice(0).refused = true;
        }
        let usage = self.meter.usage();
        if let (Some(now), true) = (usage, usage != self.usage) {
            events.push(StreamEvent::Usage(now));
            self.usage = usage;
        }
        Ok(())
    }

    fn finish(&mut self, events: &mut Vec<StreamEvent>) {
        if self.ended {
            return;
        }
        let is_over = |choice: &ChoiceState| choice.word.is_some() || choice.refused;
        if self.choices.is_empty() || !self.choices.values().all(is_over) {
            self.end_in_error(cut_short(), events);
            return;
        }
        self.ended = true;
        for (&idx, choice) in &mut self.choices {
            choice.close(idx, events);
            let stop = match &choice.word {
                Some(word) => read_stop(word, choice.has_call),
                None => Stop::Refused,
            };
            events.push(StreamEvent::Stop { choice: idx, stop });
        }
        events.push(StreamEvent::End);
    }
}

impl StreamReader {
    fn end_in_error(&mut self, error: ErrorAnswer, events: &mut Vec<StreamEvent>) {
        self.ended = true;
        if !std::mem::replace(&mut self.started, true) {
            events.push(StreamEvent::Start {
                id: String::new(),
                model: String::new(),
                created_s: None,
            });
        }
        for (&idx, choice) in &mut self.choices {
            choice.close(idx, events);
        }
        events.extend([StreamEvent::Error(error), StreamEvent::End]);
    }

    fn choice(&mut self, idx: usize) -> &mut ChoiceState {
        self.choices.entry(idx).or_insert_with(|| ChoiceState {
            reader: PartReader::new(&call_scope(&self.id, idx)),
            n_parts: 0,
            open: None,
            has_call: false,
            word: None,
            refused: false,
        })
    }

    fn candidate(
        &mut self,
        candidate: Value,
        place: usize,
        events: &mut Vec<StreamEvent>,
    ) -> Result<(), ConvertError> {
        let mut candidate = fields(candidate, &format!("candidates[{place}]"))?;
        let idx = super::whole(&mut candidate, "index")?.map_or(Some(place), |idx| usize::try_from(idx).ok());
        let idx = idx
            .filter(|idx| *idx < CHOICES_MAX)
            .ok_or_else(|| candidate.invalid("index", "below 128"))?;
        let choice = self.choice(idx);
        if let Some(mut content) = object(&mut candidate, "content")? {
            let path = content.at("parts");
            for part in content.list("parts")?.unwrap_or_default() {
                choice.part(idx, part, &path, events)?;
            }
        }
        if let Some(result) = candidate.take("logprobsResult") {
            let tokens = read_logprobs(&result);
            if !tokens.is_empty() {
                events.push(StreamEvent::Logprobs { choice: idx, tokens });
            }
        }
        if let Some(word) = read_word(&mut candidate)? {
            choice.word = Some(word);
        }
        Ok(())
    }
}

impl ChoiceState {
    fn close(&mut self, choice: usize, events: &mut Vec<StreamEvent>) {
        if self.open.take().is_some() {
            let part = self.n_parts - 1;
            events.push(StreamEvent::PartEnd { choice, part });
        }
    }

    fn start(&mut self, choice: usize, kind: StreamPart, events: &mut Vec<StreamEvent>) -> usize {
        self.close(choice, events);
        let part = self.n_parts;
        self.n_parts += 1;
        events.push(StreamEvent::PartStart { choice, part, kind });
        part
    }

    fn part(
        &mut self,
        choice: usize,
        part: Value,
        path: &str,
        events: &mut Vec<StreamEvent>,
    ) -> Result<(), ConvertError> {
        let part = self.reader.read(part, path)?;
        let is_signed = part.other.contains_key("thoughtSignature");
        match part.kind {
            PartKind::Text(text) => self.text(choice, Open::Text, Delta::Text(text), None, events),
            PartKind::Reasoning { text, signature } => {
                self.text(choice, Open::Reasoning, Delta::Reasoning(text), signature, events);
            }
            PartKind::ToolCall { id, name, arguments } if !is_signed => {
                self.has_call = true;
                let part = self.start(choice, StreamPart::ToolCall { id, name }, events);
                if !arguments.is_empty() {
                    let delta = Delta::Arguments(arguments);
                    events.push(StreamEvent::Delta { choice, part, delta });
                }
                events.push(StreamEvent::PartEnd { choice, part });
            }
            _ => {
                self.has_call |= matches!(part.kind, PartKind::ToolCall { .. });
                let part = self.start(choice, StreamPart::Whole(Box::new(part)), events);
                events.push(StreamEvent::PartEnd { choice, part });
            }
        }
        Ok(())
    }

    fn text(
        &mut self,
        choice: usize,
        kind: Open,
        delta: Delta,
        signature: Option<String>,
        events: &mut Vec<StreamEvent>,
    ) {
        let is_empty = matches!(&delta, Delta::Text(text) | Delta::Reasoning(text) if text.is_empty());
        if is_empty && signature.is_none() {
            return;
        }
        let part = if self.open == Some(kind) {
            self.n_parts - 1
        } else {
            let started = match kind {
                Open::Text => StreamPart::Text,
                Open::Reasoning => StreamPart::Reasoning,
            };
            let part = self.start(choice, started, events);
            self.open = Some(kind);
            part
        };
        if !is_empty {
            events.push(StreamEvent::Delta { choice, part, delta });
        }
        if let Some(signature) = signature {
            let delta = Delta::Signature(signature);
            events.push(StreamEvent::Delta { choice, part, delta });
        }
    }
}

/// Writes a stream.
#[derive(Debug)]
pub struct StreamWriter {
    options: StreamOptions,
    /// The fields that every event repeats.
    names: Map<String, Value>,
    /// Is the array of `json_array` begun?
    begun: bool,
    /// Parts under way, by choice and part.
    parts: BTreeMap<(usize, usize), OpenPart>,
    /// Of the arguments in `parts`.
    held_bytes: usize,
    /// Told in the last event, with the counts.
    stops: Vec<(usize, Stop)>,
    usage: Option<Usage>,
    /// An error was written, after which nothing is.
    failed: bool,
}

/// What has not been written of a part.
#[derive(Debug)]
enum OpenPart {
    Text,
    Reasoning,
    Call {
        id: String,
        name: String,
        arguments: String,
    },
}

impl StreamWriter {
    /// A writer at the start of a stream.
    pub fn new(options: StreamOptions) -> Self {
        Self {
            options,
            names: Map::new(),
            begun: false,
            parts: BTreeMap::new(),
            held_bytes: 0,
            stops: Vec::new(),
            usage: None,
            failed: false,
        }
    }

    fn chunk(&mut self, chunk: &Value, bytes: &mut Vec<u8>) {
        let framed = match (self.options.json_array, self.begun) {
            (false, _) => format!("data: {chunk}\r\n\r\n"),
            (true, false) => format!("[{chunk}"),
            (true, true) => format!(",\r\n{chunk}"),
        };
        self.begun = true;
        bytes.extend_from_slice(framed.as_bytes());
    }

    fn candidates(&mut self, candidates: Vec<Value>, bytes: &mut Vec<u8>) {
        let mut chunk = Map::new();
        if !candidates.is_empty() {
            chunk.insert("candidates".to_owned(), candidates.into());
        }
        chunk.extend(self.names.clone());
        self.chunk(&chunk.into(), bytes);
    }

    fn part(&mut self, choice: usize, part: &Value, bytes: &mut Vec<u8>) {
        let content = json!({"role": "model", "parts": [part]});
        self.candidates(vec![json!({"content": content, "index": choice})], bytes);
    }

    fn fail(&mut self, error: &ErrorAnswer, bytes: &mut Vec<u8>) {
        self.failed = true;
        let error = write_error(Format::GenerateContent, error, &self.options.request_id);
        self.chunk(&error, bytes);
    }

    fn delta(&mut self, at: (usize, usize), delta: &Delta, bytes: &mut Vec<u8>) {
        let part = match (self.parts.get_mut(&at), delta) {
            (Some(OpenPart::Text), Delta::Text(text)) => json!({"text": text}),
            (Some(OpenPart::Reasoning), Delta::Reasoning(text)) => json!({"text": text, "thought": true}),
            (Some(OpenPart::Call { arguments, .. }), Delta::Arguments(piece)) => {
                self.held_bytes += piece.len();
                if self.held_bytes > ARGUMENTS_BYTES_MAX {
                    let message = "the arguments of the answer's calls are too long";
                    let error = ErrorAnswer {
                        status: 502,
                        message: message.to_owned(),
                        code: None,
                        param: None,
                    };
                    self.fail(&error, bytes);
                } else {
                    arguments.push_str(piece);
                }
                return;
            }
            // Signatures over reasoning are another maker's: Google's are over calls and texts.
            _ => return,
        };
        self.part(at.0, &part, bytes);
    }

    /// Writes a part that does not come in pieces, if this format has words for it.
    fn whole(&mut self, choice: usize, part: &Part, bytes: &mut Vec<u8>) {
        // The parts of every other format have a `type`, those of this one never.
        let own = match &part.kind {
            PartKind::Other(value) => value.get("type").is_none(),
            _ => part.other.contains_key("thoughtSignature"),
        };
        let format = if own {
            Format::GenerateContent
        } else {
            Format::Chat
        };
        let written = PartWriter::for_answer(format).write_all([part]);
        for part in written.unwrap_or_default() {
            self.part(choice, &part, bytes);
        }
    }

    fn end_part(&mut self, at: (usize, usize), bytes: &mut Vec<u8>) {
        if let Some(OpenPart::Call { id, name, arguments }) = self.parts.remove(&at) {
            self.held_bytes -= arguments.len();
            self.whole(at.0, &plain(PartKind::ToolCall { id, name, arguments }), bytes);
        }
    }

    fn end(&mut self, bytes: &mut Vec<u8>) {
        if !self.failed {
            if let Some(usage) = &self.usage {
                self.names.insert("usageMetadata".to_owned(), write_usage(usage));
            }
            let last = self.stops.iter().map(|(choice, stop)| {
                let content = json!({"role": "model", "parts": []});
                json!({"content": content, "finishReason": write_stop(stop, false), "index": choice})
            });
            let last = last.collect();
            self.candidates(last, bytes);
        }
        if self.options.json_array {
            bytes.extend_from_slice(b"]");
        }
    }
}

impl WriteStream for StreamWriter {
    fn write(&mut self, event: &StreamEvent, bytes: &mut Vec<u8>) {
        if matches!(event, StreamEvent::End) {
            self.end(bytes);
            return;
        }
        if self.failed {
            return;
        }
        match event {
            StreamEvent::Start { id, model, .. } => {
                put_name(&mut self.names, "modelVersion", model);
                put_name(&mut self.names, "responseId", id);
            }
            StreamEvent::PartStart { choice, part, kind } => {
                let open = match kind {
                    StreamPart::Text => OpenPart::Text,
                    StreamPart::Reasoning => OpenPart::Reasoning,
                    StreamPart::ToolCall { id, name } => OpenPart::Call {
                        id: id.clone(),
                        name: name.clone(),
                        arguments: String::new(),
                    },
                    StreamPart::Whole(whole) => {
                        self.whole(*choice, whole, bytes);
                        return;
                    }
                };
                self.parts.insert((*choice, *part), open);
            }
            StreamEvent::Delta { choice, part, delta } => self.delta((*choice, *part), delta, bytes),
            StreamEvent::PartEnd { choice, part } => self.end_part((*choice, *part), bytes),
            StreamEvent::Logprobs { choice, tokens } => {
                let result = write_logprobs(tokens);
                self.candidates(vec![json!({"index": choice, "logprobsResult": result})], bytes);
            }
            StreamEvent::Stop { choice, stop } => self.stops.push((*choice, stop.clone())),
            StreamEvent::Usage(usage) => self.usage = Some(*usage),
            StreamEvent::Error(error) => self.fail(error, bytes),
            // A client of this format knows no sign of life.
            StreamEvent::Ping | StreamEvent::End => {}
        }
    }
}
