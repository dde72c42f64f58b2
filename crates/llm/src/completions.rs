//! OpenAI's legacy Completions (`POST /v1/completions`), for clients that still speak it: the prompt
//! becomes a message of the user, and the answer's text is written back in that format.
//!
//! A provider of this format itself gets the request as it is.

use crate::answer::{Answer, Delta, StreamEvent, StreamPart, TokenLogprob};
use crate::canonical::{ConvertError, Fields, Part, PartKind, Request, Written, kind_name};
use crate::chat;
use crate::convert::{ReadStream, StreamOptions, WriteStream};
use crate::error::write_stream_error;
use crate::format::Format;
use crate::usage::Usage;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Fields by which the answer is not that of a chat.
const MEANINGFUL: [&str; 2] = ["suffix", "best_of"];

/// Reads a request as one of Chat with a single message.
///
/// # Errors
/// [`ConvertError::Invalid`] names the field; [`ConvertError::Inexpressible`] what no chat can answer:
/// several prompts, tokens instead of a text, `suffix`, `echo`, `best_of`.
pub fn read_request(body: Value) -> Result<Request, ConvertError> {
    let refuse = |field: &str| ConvertError::Inexpressible {
        field: field.to_owned(),
        format: Format::Chat,
    };
    let mut fields = Fields::new(body, "")?;
    let prompt = match fields.take("prompt") {
        Some(Value::String(text)) => text,
        Some(Value::Array(prompts)) => match &prompts[..] {
            [Value::String(text)] => text.clone(),
            [_] => return Err(refuse("prompt of tokens")),
            _ => return Err(refuse("several prompts")),
        },
        _ => return Err(fields.invalid("prompt", "a string or an array of one string")),
    };
    for field in MEANINGFUL {
        if fields.take(field).is_some_and(|value| value != 1 && value != "") {
            return Err(refuse(field));
        }
    }
    if fields.flag("echo")? == Some(true) {
        return Err(refuse("echo"));
    }
    if let Some(count) = fields.whole("logprobs")? {
        fields.rest.insert("logprobs".to_owned(), true.into());
        fields.rest.insert("top_logprobs".to_owned(), count.into());
    }
    // The default here, and some clients rely on short answers.
    fields.rest.entry("max_tokens").or_insert_with(|| 16.into());
    let message = json!({"role": "user", "content": prompt});
    fields.rest.insert("messages".to_owned(), json!([message]));
    chat::read_request(fields.rest.into())
}

/// Follows the stream of a provider of this format: its chunks are those of Chat, with the text beside.
#[derive(Default)]
pub struct StreamReader(chat::StreamReader);

impl std::fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamReader").finish_non_exhaustive()
    }
}

impl ReadStream for StreamReader {
    fn read(&mut self, name: &str, data: &str, events: &mut Vec<StreamEvent>) -> Result<(), ConvertError> {
        let Ok(mut chunk) = serde_json::from_str::<Value>(data) else {
            // The end mark, or broken: Chat's reader knows.
            return self.0.read(name, data, events);
        };
        for choice in chunk["choices"].as_array_mut().into_iter().flatten() {
            if let Some(text) = choice.get_mut("text").map(Value::take) {
                choice["delta"] = json!({"content": text});
            }
        }
        self.0.read(name, &chunk.to_string(), events)
    }

    fn finish(&mut self, events: &mut Vec<StreamEvent>) {
        self.0.finish(events);
    }
}

/// Writes a whole answer.
pub fn write_answer(answer: &Answer) -> Written {
    let mut dropped = Vec::new();
    let choices = answer.choices.iter().enumerate().map(|(index, choice)| {
        let mut text = String::new();
        for part in &choice.parts {
            match said(part) {
                Some(more) => text.push_str(more),
                None => dropped.push(name(part).to_owned()),
            }
        }
        json!({"text": text, "index": index, "logprobs": write_logprobs(&choice.logprobs, &mut 0),
            "finish_reason": chat::write_stop(choice.stop.as_ref().unwrap_or(&crate::answer::Stop::End))})
    });
    let choices: Vec<Value> = choices.collect();
    let mut body = Map::new();
    body.insert("id".to_owned(), answer.id.as_str().into());
    body.insert("object".to_owned(), "text_completion".into());
    body.insert("created".to_owned(), answer.created_s.unwrap_or(0).into());
    body.insert("model".to_owned(), answer.model.as_str().into());
    body.insert("choices".to_owned(), choices.into());
    if let Some(usage) = &answer.usage {
        body.insert("usage".to_owned(), write_usage(usage));
    }
    Written {
        body: body.into(),
        dropped,
    }
}

/// The text of a part, if it is one.
fn said(part: &Part) -> Option<&str> {
    match &part.kind {
        PartKind::Text(text) => Some(text),
        PartKind::Other(value) if value["type"] == "refusal" => value["refusal"].as_str(),
        _ => None,
    }
}

fn name(part: &Part) -> &str {
    match &part.kind {
        PartKind::Reasoning { .. } => "thinking",
        PartKind::ToolCall { .. } => "tool_calls",
        PartKind::Other(value) => kind_name(value),
        _ => "content other than text",
    }
}

fn write_usage(usage: &Usage) -> Value {
    json!({"prompt_tokens": usage.total_input(), "completion_tokens": usage.total_output(),
        "total_tokens": usage.total()})
}

/// The older shape of log probabilities: lists side by side. `offset` is where the text of the tokens
/// begins, in characters.
fn write_logprobs(tokens: &[TokenLogprob], offset: &mut usize) -> Value {
    if tokens.is_empty() {
        return Value::Null;
    }
    let offsets = tokens.iter().map(|token| {
        let at = *offset;
        *offset += token.token.chars().count();
        at
    });
    let offsets: Vec<usize> = offsets.collect();
    let top = tokens.iter().map(|token| {
        let top = token
            .top
            .iter()
            .map(|token| (token.token.clone(), Value::from(token.logprob)));
        Value::Object(top.collect())
    });
    json!({
        "tokens": tokens.iter().map(|token| token.token.as_str()).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|token| token.logprob).collect::<Vec<_>>(),
        "top_logprobs": top.collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

/// Writes a stream.
#[derive(Debug)]
pub struct StreamWriter {
    options: StreamOptions,
    id: String,
    model: String,
    created_s: u64,
    /// Of each choice, the characters that log probabilities were told of.
    offsets: BTreeMap<usize, usize>,
    usage: Option<Usage>,
    ended: bool,
}

impl StreamWriter {
    /// A writer at the start of a stream.
    pub fn new(options: StreamOptions) -> Self {
        Self {
            id: format!("cmpl-{}", options.request_id),
            model: String::new(),
            created_s: options.now_s,
            options,
            offsets: BTreeMap::new(),
            usage: None,
            ended: false,
        }
    }

    fn chunk(&self, choices: &[Value], usage: Value, bytes: &mut Vec<u8>) {
        let mut chunk = json!({"id": self.id, "object": "text_completion", "created": self.created_s,
            "choices": choices, "model": self.model});
        if self.options.include_usage {
            chunk["usage"] = usage;
        }
        bytes.extend_from_slice(format!("data: {chunk}\n\n").as_bytes());
    }

    fn say(&self, choice: usize, text: &str, logprobs: &Value, stop: Option<&str>, bytes: &mut Vec<u8>) {
        let choice = json!({"text": text, "index": choice, "logprobs": logprobs, "finish_reason": stop});
        self.chunk(&[choice], Value::Null, bytes);
    }
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
            StreamEvent::PartStart {
                choice,
                kind: StreamPart::Whole(part),
                ..
            } => {
                if let Some(text) = said(part) {
                    self.say(*choice, text, &Value::Null, None, bytes);
                }
            }
            StreamEvent::Delta {
                choice,
                delta: Delta::Text(text),
                ..
            } => self.say(*choice, text, &Value::Null, None, bytes),
            StreamEvent::Logprobs { choice, tokens } => {
                let logprobs = write_logprobs(tokens, self.offsets.entry(*choice).or_default());
                self.say(*choice, "", &logprobs, None, bytes);
            }
            StreamEvent::Stop { choice, stop } => {
                self.say(*choice, "", &Value::Null, Some(chat::write_stop(stop)), bytes);
            }
            StreamEvent::PartStart { .. } | StreamEvent::Delta { .. } | StreamEvent::PartEnd { .. } => {}
            StreamEvent::Usage(usage) => self.usage = Some(*usage),
            StreamEvent::Error(error) => {
                self.ended = true;
                bytes.extend(write_stream_error(Format::Chat, error, &self.options.request_id));
            }
            StreamEvent::Ping => bytes.extend_from_slice(b": ping\n\n"),
            StreamEvent::End => {
                self.ended = true;
                if let Some(usage) = self.usage.filter(|_| self.options.include_usage) {
                    self.chunk(&[], write_usage(&usage), bytes);
                }
                bytes.extend_from_slice(b"data: [DONE]\n\n");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::{Choice, Stop};
    use crate::canonical::plain;

    #[test]
    fn requests() {
        let check = |prompt: Value, more: Value, expected: &Result<(), &str>| {
            let mut body = json!({"model": "m", "prompt": prompt});
            body.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            match (read_request(body), expected) {
                (Ok(request), Ok(())) => {
                    let text = PartKind::Text("hi".to_owned());
                    assert_eq!(
                        (request.messages.len(), &request.messages[0].parts[0].kind),
                        (1, &text)
                    );
                }
                (Err(error), Err(words)) => assert_eq!(error.to_string(), *words),
                (request, _) => panic!("{request:?}"),
            }
        };
        let none = json!({});
        check(json!("hi"), none.clone(), &Ok(()));
        check(
            json!(["hi"]),
            json!({"suffix": null, "best_of": 1, "echo": false}),
            &Ok(()),
        );
        let refused = |what: &str| {
            format!("`{what}` cannot be expressed in the format of this model's provider (Chat)")
        };
        check(json!(["a", "b"]), none.clone(), &Err(&refused("several prompts")));
        check(json!([[1, 2]]), none.clone(), &Err(&refused("prompt of tokens")));
        check(json!("hi"), json!({"suffix": "x"}), &Err(&refused("suffix")));
        check(json!("hi"), json!({"best_of": 3}), &Err(&refused("best_of")));
        check(json!("hi"), json!({"echo": true}), &Err(&refused("echo")));
        check(
            json!(3),
            none,
            &Err("field `prompt` must be a string or an array of one string"),
        );
        let request =
            read_request(json!({"model": "m", "prompt": "hi", "logprobs": 2, "stop": "END"})).unwrap();
        assert_eq!(
            (request.logprobs, request.top_logprobs, request.max_output_tokens),
            (Some(true), Some(2), Some(16))
        );
        assert_eq!(request.stop, ["END"]);
    }

    fn answer() -> Answer {
        let token = |token: &str| TokenLogprob {
            token: token.to_owned(),
            logprob: -0.5,
            bytes: None,
            top: Vec::new(),
        };
        let thought = PartKind::Reasoning {
            text: "hm".to_owned(),
            signature: None,
        };
        Answer {
            format: Format::Messages,
            id: "i".to_owned(),
            model: "m".to_owned(),
            created_s: Some(5),
            choices: vec![Choice {
                parts: vec![plain(thought), plain(PartKind::Text("ah yes".to_owned()))],
                stop: Some(Stop::MaxTokens),
                logprobs: vec![token("ah"), token(" yes")],
                other: Map::new(),
            }],
            usage: Some(Usage {
                input: 3,
                output: 2,
                ..Usage::default()
            }),
            other: Map::new(),
        }
    }

    #[test]
    fn answers() {
        let expected = json!({"id": "i", "object": "text_completion", "created": 5, "model": "m",
            "choices": [{"text": "ah yes", "index": 0, "finish_reason": "length", "logprobs": {
                "tokens": ["ah", " yes"], "token_logprobs": [-0.5, -0.5], "top_logprobs": [{}, {}], "text_offset": [0, 2]}}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}});
        let written = write_answer(&answer());
        assert_eq!(
            (written.body, written.dropped),
            (expected, vec!["thinking".to_owned()])
        );
    }

    #[test]
    fn streams() {
        let options = StreamOptions {
            include_usage: true,
            ..StreamOptions::default()
        };
        let mut writer = StreamWriter::new(options);
        let mut bytes = Vec::new();
        let delta = |text: &str| StreamEvent::Delta {
            choice: 0,
            part: 0,
            delta: Delta::Text(text.to_owned()),
        };
        let tokens = answer().choices.remove(0).logprobs;
        for event in [
            StreamEvent::Start {
                id: "i".to_owned(),
                model: "m".to_owned(),
                created_s: Some(5),
            },
            StreamEvent::PartStart {
                choice: 0,
                part: 0,
                kind: StreamPart::Text,
            },
            delta("ah"),
            StreamEvent::Logprobs {
                choice: 0,
                tokens: tokens[..1].to_vec(),
            },
            StreamEvent::Logprobs {
                choice: 0,
                tokens: tokens[1..].to_vec(),
            },
            StreamEvent::PartEnd { choice: 0, part: 0 },
            StreamEvent::Stop {
                choice: 0,
                stop: Stop::End,
            },
            StreamEvent::Usage(Usage {
                input: 3,
                ..Usage::default()
            }),
            StreamEvent::End,
        ] {
            writer.write(&event, &mut bytes);
        }
        let text = String::from_utf8(bytes).unwrap();
        let documents: Vec<Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
            .collect();
        let choices: Vec<&Value> = documents.iter().map(|document| &document["choices"][0]).collect();
        assert_eq!(
            choices[0],
            &json!({"text": "ah", "index": 0, "logprobs": null, "finish_reason": null})
        );
        assert_eq!(choices[2]["logprobs"]["text_offset"], json!([2]));
        assert_eq!(choices[3]["finish_reason"], "stop");
        assert_eq!(
            (documents.len(), &documents[4]["usage"]["prompt_tokens"]),
            (5, &json!(3))
        );
        assert!(text.ends_with("data: [DONE]\n\n"));
    }
}
