//! OpenAI Chat Completions: writing a stream (`chat.completion.chunk`).

use super::answer::{
    hidden_detail, reasoning_detail, signature_of_google, signer, write_image, write_logprobs, write_stop,
    write_usage,
};
use crate::answer::{Delta, StreamEvent, StreamPart};
use crate::canonical::{Part, PartKind};
use crate::convert::{StreamOptions, WriteStream};
use crate::error::write_stream_error;
use crate::format::Format;
use crate::usage::Usage;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Writes a stream.
#[derive(Debug)]
pub struct StreamWriter {
    options: StreamOptions,
    id: String,
    model: String,
    created_s: u64,
    choices: BTreeMap<usize, Choice>,
    usage: Option<Usage>,
    failed: bool,
    ended: bool,
}

#[derive(Debug, Default)]
struct Choice {
    is_begun: bool,
    n_calls: usize,
    /// Which call each open part is, and whether arguments came.
    calls: BTreeMap<usize, (usize, bool)>,
}

impl StreamWriter {
    /// A writer at the start of a stream.
    pub fn new(options: StreamOptions) -> Self {
        Self {
            id: format!("chatcmpl-{}", options.request_id),
            model: String::new(),
            created_s: options.now_s,
            options,
            choices: BTreeMap::new(),
            usage: None,
            failed: false,
            ended: false,
        }
    }

    fn chunk(&self, choices: &[Value], usage: Value, bytes: &mut Vec<u8>) {
        let mut chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created_s,
            "model": self.model,
            "choices": choices,
        });
        if self.options.include_usage {
            chunk["usage"] = usage;
        }
        bytes.extend_from_slice(format!("data: {chunk}\n\n").as_bytes());
    }

    /// One chunk of one choice. The first says who speaks.
    fn say(&mut self, choice: usize, delta: Value, more: Map<String, Value>, bytes: &mut Vec<u8>) {
        let state = self.choices.entry(choice).or_default();
        let mut fields = Map::new();
        if !std::mem::replace(&mut state.is_begun, true) {
            fields.insert("role".to_owned(), "assistant".into());
        }
        if let Value::Object(delta) = delta {
            fields.extend(delta);
        }
        let mut body = Map::new();
        body.insert("index".to_owned(), choice.into());
        body.insert("delta".to_owned(), fields.into());
        body.insert("logprobs".to_owned(), Value::Null);
        body.insert("finish_reason".to_owned(), Value::Null);
        body.extend(more);
        self.chunk(&[body.into()], Value::Null, bytes);
    }

    fn part(&mut self, choice: usize, part: usize, kind: &StreamPart, bytes: &mut Vec<u8>) {
        match kind {
            StreamPart::Text | StreamPart::Reasoning => {}
            StreamPart::ToolCall { id, name } => self.call(choice, Some(part), id, name, ("", None), bytes),
            StreamPart::Whole(whole) => {
                if let PartKind::ToolCall { id, name, arguments } = &whole.kind {
                    let signature = signature_of_google(&mut whole.other.clone());
                    self.call(choice, None, id, name, (arguments, signature), bytes);
                } else if let Some(delta) = whole_delta(whole, part, signer(self.options.provider)) {
                    self.say(choice, delta, Map::new(), bytes);
                }
            }
        }
    }

    fn call(
        &mut self,
        choice: usize,
        part: Option<usize>,
        id: &str,
        name: &str,
        (arguments, signature): (&str, Option<Value>),
        bytes: &mut Vec<u8>,
    ) {
        let state = self.choices.entry(choice).or_default();
        let index = state.n_calls;
        state.n_calls += 1;
        if let Some(part) = part {
            state.calls.insert(part, (index, false));
        }
        let mut call = json!({"index": index, "id": id, "type": "function",
            "function": {"name": name, "arguments": arguments}});
        if let Some(signature) = signature {
            call["extra_content"] = signature;
        }
        self.say(choice, json!({"tool_calls": [call]}), Map::new(), bytes);
    }

    fn delta(&mut self, choice: usize, part: usize, delta: &Delta, bytes: &mut Vec<u8>) {
        let delta = match delta {
            Delta::Text(text) => json!({"content": text}),
            Delta::Reasoning(text) => json!({"reasoning_content": text}),
            Delta::Signature(signature) => {
                let signer = signer(self.options.provider);
                json!({"reasoning_details": [reasoning_detail(part, "", Some(signature), signer)]})
            }
            Delta::Arguments(arguments) => {
                let known = self.choices.get_mut(&choice);
                let Some((index, came)) = known.and_then(|state| state.calls.get_mut(&part)) else {
                    return;
                };
                *came = true;
                json!({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]})
            }
        };
        self.say(choice, delta, Map::new(), bytes);
    }
}

/// What a whole part is in a delta, if this format has a place for it.
fn whole_delta(whole: &Part, part: usize, signer: &str) -> Option<Value> {
    Some(match &whole.kind {
        PartKind::Text(text) if text.is_empty() => return None,
        PartKind::Text(text) => json!({"content": text}),
        PartKind::Reasoning { text, signature } => {
            let mut delta = json!({"reasoning_content": text});
            if signature.is_some() {
                delta["reasoning_details"] =
                    json!([reasoning_detail(part, text, signature.as_deref(), signer)]);
            }
            delta
        }
        PartKind::Image(source) => json!({"images": [write_image(source).ok()?]}),
        PartKind::Other(value) => match value["type"].as_str()? {
            "refusal" => json!({"refusal": value["refusal"]}),
            "redacted_thinking" => {
                json!({"reasoning_details": [hidden_detail(part, &value["data"], signer)]})
            }
            "chat_delta" => value["delta"].clone(),
            _ => return None,
        },
        PartKind::File { .. } | PartKind::ToolCall { .. } | PartKind::ToolResult { .. } => return None,
    })
}

impl WriteStream for StreamWriter {
    fn write(&mut self, event: &StreamEvent, bytes: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        match event {
            StreamEvent::Start { id, model, created_s } => {
                if !id.is_empty() {
                    self.id.clone_from(id);
                }
                self.model.clone_from(model);
                self.created_s = created_s.unwrap_or(self.created_s);
            }
            StreamEvent::PartStart { choice, part, kind } => self.part(*choice, *part, kind, bytes),
            StreamEvent::Delta { choice, part, delta } => self.delta(*choice, *part, delta, bytes),
            StreamEvent::PartEnd { choice, part } => {
                let known = self.choices.get_mut(choice);
                let call = known.and_then(|state| state.calls.get(part).copied());
                // Clients parse the arguments: no arguments are an object without fields.
                if let Some((_, false)) = call {
                    self.delta(*choice, *part, &Delta::Arguments("{}".to_owned()), bytes);
                }
                if let Some(state) = self.choices.get_mut(choice) {
                    state.calls.remove(part);
                }
            }
            StreamEvent::Logprobs { choice, tokens } => {
                let more = Map::from_iter([("logprobs".to_owned(), write_logprobs(tokens))]);
                self.say(*choice, json!({}), more, bytes);
            }
            StreamEvent::Stop { choice, stop } => {
                let more = Map::from_iter([("finish_reason".to_owned(), write_stop(stop).into())]);
                self.say(*choice, json!({}), more, bytes);
            }
            StreamEvent::Usage(usage) => self.usage = Some(*usage),
            StreamEvent::Error(error) => {
                self.failed = true;
                bytes.extend(write_stream_error(Format::Chat, error, &self.options.request_id));
            }
            StreamEvent::Ping => bytes.extend_from_slice(b": ping\n\n"),
            StreamEvent::End => {
                self.ended = true;
                // After an error the end mark would tell a client that the answer is complete.
                if !self.failed {
                    if let Some(usage) = self.usage.filter(|_| self.options.include_usage) {
                        self.chunk(&[], write_usage(&usage), bytes);
                    }
                    bytes.extend_from_slice(b"data: [DONE]\n\n");
                }
            }
        }
    }
}
