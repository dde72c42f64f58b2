//! The whole answer that the events of a stream make up: for records of calls, caches and comparisons.

use crate::answer::{Answer, Choice, Delta, StreamEvent, StreamPart};
use crate::canonical::{PartKind, plain};
use crate::error::ErrorAnswer;
use crate::format::Format;
use serde_json::Map;

/// The most choices and parts that are put together; streams of the readers have fewer.
const MAX_CHOICES: usize = 128;
const MAX_PARTS: usize = 1 << 16;

/// Puts the events of a stream together.
#[derive(Debug)]
pub struct Assembler {
    answer: Answer,
    limit_bytes: usize,
    held_bytes: usize,
    truncated: bool,
    error: Option<ErrorAnswer>,
}

/// What an [`Assembler`] made.
#[derive(Clone, Debug, PartialEq)]
pub struct Assembled {
    /// The answer, as far as it came.
    pub answer: Answer,
    /// The error that ended the stream.
    pub error: Option<ErrorAnswer>,
    /// More came than the limit lets in.
    pub is_truncated: bool,
}

impl Assembler {
    /// Nothing yet. At most about `limit_bytes` of text are held; what comes after is left out.
    pub fn new(format: Format, limit_bytes: usize) -> Self {
        Self {
            answer: Answer {
                format,
                id: String::new(),
                model: String::new(),
                created_s: None,
                choices: Vec::new(),
                usage: None,
                other: Map::new(),
            },
            limit_bytes,
            held_bytes: 0,
            truncated: false,
            error: None,
        }
    }

    /// Takes the next event.
    pub fn add(&mut self, event: &StreamEvent) {
        match event {
            StreamEvent::Start { id, model, created_s } => {
                self.answer.id.clone_from(id);
                self.answer.model.clone_from(model);
                self.answer.created_s = *created_s;
            }
            StreamEvent::PartStart { choice, part, kind } => {
                let kind = match kind {
                    StreamPart::Text => plain(PartKind::Text(String::new())),
                    StreamPart::Reasoning => plain(PartKind::Reasoning {
                        text: String::new(),
                        signature: None,
                    }),
                    StreamPart::ToolCall { id, name } => plain(PartKind::ToolCall {
                        id: id.clone(),
                        name: name.clone(),
                        arguments: String::new(),
                    }),
                    StreamPart::Whole(whole) => (**whole).clone(),
                };
                let admitted = *part < MAX_PARTS && self.admit(size(&kind.kind));
                // Parts start in order of their numbers.
                if let Some(state) = self.choice(*choice).filter(|_| admitted)
                    && state.parts.len() == *part
                {
                    state.parts.push(kind);
                }
            }
            StreamEvent::Delta { choice, part, delta } => self.delta(*choice, *part, delta),
            StreamEvent::Logprobs { choice, tokens } => {
                let n_bytes = tokens
                    .iter()
                    .map(|token| 32 + token.token.len() * (1 + token.top.len()))
                    .sum();
                let admitted = self.admit(n_bytes);
                if let Some(state) = self.choice(*choice).filter(|_| admitted) {
                    state.logprobs.extend(tokens.iter().cloned());
                }
            }
            StreamEvent::Stop { choice, stop } => {
                if let Some(state) = self.choice(*choice) {
                    state.stop = Some(stop.clone());
                }
            }
            StreamEvent::Usage(usage) => self.answer.usage = Some(*usage),
            StreamEvent::Error(error) => self.error = Some(error.clone()),
            StreamEvent::PartEnd { .. } | StreamEvent::Ping | StreamEvent::End => {}
        }
    }

    /// What came.
    pub fn finish(self) -> Assembled {
        Assembled {
            answer: self.answer,
            error: self.error,
            is_truncated: self.truncated,
        }
    }

    fn admit(&mut self, n_bytes: usize) -> bool {
        let held = self.held_bytes.saturating_add(n_bytes);
        if self.truncated || held > self.limit_bytes {
            self.truncated = true;
            return false;
        }
        self.held_bytes = held;
        true
    }

    fn choice(&mut self, choice: usize) -> Option<&mut Choice> {
        if choice >= MAX_CHOICES {
            self.truncated = true;
            return None;
        }
        while self.answer.choices.len() <= choice {
            self.answer.choices.push(Choice {
                parts: Vec::new(),
                stop: None,
                logprobs: Vec::new(),
                other: Map::new(),
            });
        }
        self.answer.choices.get_mut(choice)
    }

    fn delta(&mut self, choice: usize, part: usize, delta: &Delta) {
        let (Delta::Text(more) | Delta::Reasoning(more) | Delta::Signature(more) | Delta::Arguments(more)) =
            delta;
        if !self.admit(more.len()) {
            return;
        }
        let Some(part) = self.choice(choice).and_then(|state| state.parts.get_mut(part)) else {
            return;
        };
        match (&mut part.kind, delta) {
            (PartKind::Text(text), Delta::Text(_))
            | (PartKind::Reasoning { text, .. }, Delta::Reasoning(_))
            | (PartKind::ToolCall { arguments: text, .. }, Delta::Arguments(_)) => text.push_str(more),
            (PartKind::Reasoning { signature, .. }, Delta::Signature(_)) => {
                signature.get_or_insert_default().push_str(more);
            }
            _ => {}
        }
    }
}

fn size(kind: &PartKind) -> usize {
    match kind {
        PartKind::Other(value) => value.to_string().len(),
        PartKind::ToolCall { id, name, arguments } => id.len() + name.len() + arguments.len(),
        PartKind::Text(text) => text.len(),
        PartKind::Reasoning { text, signature } => text.len() + signature.as_ref().map_or(0, String::len),
        PartKind::Image(source) | PartKind::File { source, .. } => match source {
            crate::canonical::Source::Base64 { data, .. } => data.len(),
            crate::canonical::Source::Url(text) | crate::canonical::Source::Id(text) => text.len(),
        },
        PartKind::ToolResult { parts, .. } => parts.iter().map(|part| size(&part.kind)).sum(),
    }
}
