//! OpenAI Chat Completions: whole answers, of OpenAI and of the many that speak its format
//! (`POST /chat/completions` in OpenAI's API reference; OpenRouter, Groq, DeepSeek, Mistral and Google's
//! compatible endpoint differ from it in small things, named below).

use crate::answer::{Answer, Choice, Stop, TokenLogprob};
use crate::canonical::{ConvertError, Fields, Part, PartKind, Source, Written, hints, merge, plain, put};
use crate::format::Format;
use crate::usage::{self, Usage};
use serde_json::{Map, Value, json};

/// The counts that [`write_usage`] writes; what else a provider says beside them is kept.
const COUNTS: [&str; 3] = ["prompt_tokens", "completion_tokens", "total_tokens"];
const DETAILS: [(&str, &[&str]); 2] = [
    (
        "prompt_tokens_details",
        &[
            "cached_tokens",
            "cache_write_tokens",
            "audio_tokens",
            "image_tokens",
        ],
    ),
    (
        "completion_tokens_details",
        &["reasoning_tokens", "audio_tokens", "image_tokens"],
    ),
];

/// Reads a whole answer.
///
/// # Errors
/// See [`crate::convert::read_answer`].
pub fn read_answer(body: Value) -> Result<Answer, ConvertError> {
    let usage = usage::of_response(Format::Chat, &body);
    let mut fields = Fields::new(body, "")?;
    let id = fields.text("id")?.unwrap_or_default();
    let choices = fields
        .list("choices")?
        .ok_or_else(|| fields.invalid("choices", "an array"))?;
    let choices = choices
        .into_iter()
        .enumerate()
        .map(|(idx, choice)| read_choice(choice, idx, &id));
    let choices = choices.collect::<Result<_, _>>()?;
    fields.take("object");
    take_counts(&mut fields);
    Ok(Answer {
        format: Format::Chat,
        id,
        model: fields.text("model")?.unwrap_or_default(),
        created_s: fields.take("created").as_ref().and_then(seconds),
        choices,
        usage,
        other: fields.rest,
    })
}

/// Some providers give a fraction of a second too.
pub(super) fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        value
            .as_f64()
            .filter(|s| (0.0..9e15).contains(s))
            .map(|s| s as u64)
    })
}

/// Takes the counts out of `usage` and leaves what providers say beside them, such as costs.
fn take_counts(fields: &mut Fields) {
    let Some(Value::Object(mut usage)) = fields.take("usage") else {
        return;
    };
    for count in COUNTS {
        usage.shift_remove(count);
    }
    for (details, counts) in DETAILS {
        if let Some(Value::Object(inner)) = usage.get_mut(details) {
            for &count in counts {
                inner.shift_remove(count);
            }
        }
        if usage
            .get(details)
            .is_some_and(|inner| inner.is_null() || inner.as_object().is_some_and(Map::is_empty))
        {
            usage.shift_remove(details);
        }
    }
    if !usage.is_empty() {
        fields.rest.insert("usage".to_owned(), usage.into());
    }
}

fn read_choice(choice: Value, idx: usize, answer_id: &str) -> Result<Choice, ConvertError> {
    let mut fields = Fields::new(choice, &format!("choices[{idx}]"))?;
    fields.take("index");
    let missing = fields.invalid("message", "an object");
    let mut message = fields.object("message")?.ok_or(missing)?;
    message.take("role");
    let mut parts = Vec::new();
    let reasoning = message.text("reasoning_content")?;
    // OpenRouter, Groq and newer vLLM; those that send both send the same twice.
    let reasoning = reasoning.or(message.text("reasoning")?);
    let details = message.rest.get("reasoning_details");
    let signed = details.map(|details| claude_reasoning(details, reasoning.as_deref()));
    match signed.filter(|signed| !signed.is_empty()) {
        Some(signed) => parts.extend(signed.into_iter().map(plain)),
        None => {
            let text = reasoning.filter(|text| !text.is_empty());
            let signature = None;
            parts.extend(text.map(|text| plain(PartKind::Reasoning { text, signature })));
        }
    }
    read_content(&mut message, &mut parts)?;
    if let Some(refusal) = message.text("refusal")?.filter(|text| !text.is_empty()) {
        parts.push(plain(PartKind::Other(
            json!({"type": "refusal", "refusal": refusal}),
        )));
    }
    for (at, call) in message
        .list("tool_calls")?
        .unwrap_or_default()
        .into_iter()
        .enumerate()
    {
        let path = message.at(&format!("tool_calls[{at}]"));
        parts.push(read_call(call, &path, || made_id(answer_id, idx, at))?);
    }
    // Null says the same as absence.
    message.rest.retain(|_, value| !value.is_null());
    fields.put_back("message", message);
    let stop = fields.text("finish_reason")?.as_deref().and_then(read_stop);
    let mut logprobs = Vec::new();
    if let Some(mut given) = fields.object("logprobs")? {
        logprobs = given
            .take("content")
            .as_ref()
            .map(read_logprobs)
            .unwrap_or_default();
        given.rest.retain(|_, value| !value.is_null());
        fields.put_back("logprobs", given);
    }
    Ok(Choice {
        parts,
        stop,
        logprobs,
        other: fields.rest,
    })
}

/// OpenAI sends a text; Mistral's reasoning models send a list of texts and thoughts.
fn read_content(message: &mut Fields, parts: &mut Vec<Part>) -> Result<(), ConvertError> {
    match message.take("content") {
        None => {}
        Some(Value::String(text)) if text.is_empty() => {}
        Some(Value::String(text)) => parts.push(plain(PartKind::Text(text))),
        Some(Value::Array(pieces)) => parts.extend(pieces.into_iter().map(|piece| plain(read_piece(piece)))),
        Some(_) => return Err(message.invalid("content", "a string or an array")),
    }
    // OpenRouter's place for images that a model made.
    if let Some(Value::Array(images)) = message.rest.get("images")
        && let Some(kinds) = images.iter().map(read_image).collect::<Option<Vec<_>>>()
    {
        parts.extend(kinds.into_iter().map(plain));
        message.rest.shift_remove("images");
    }
    Ok(())
}

/// A piece of a content that is a list.
pub(super) fn read_piece(piece: Value) -> PartKind {
    let texts = |list: &Value| -> Option<String> {
        list.as_array()?
            .iter()
            .map(|inner| inner["text"].as_str())
            .collect()
    };
    match piece["type"].as_str() {
        Some("text") if piece["text"].is_string() => {
            PartKind::Text(piece["text"].as_str().unwrap_or_default().to_owned())
        }
        Some("thinking") => match texts(&piece["thinking"]) {
            Some(text) => PartKind::Reasoning {
                text,
                signature: None,
            },
            None => PartKind::Other(piece),
        },
        _ => PartKind::Other(piece),
    }
}

/// An image of OpenRouter's `images`.
pub(super) fn read_image(image: &Value) -> Option<PartKind> {
    let url = image.pointer("/image_url/url")?.as_str()?;
    let inline = url
        .strip_prefix("data:")
        .and_then(|rest| rest.split_once(";base64,"));
    Some(PartKind::Image(match inline {
        Some((media_type, data)) => Source::Base64 {
            media_type: media_type.to_owned(),
            data: data.to_owned(),
        },
        None => Source::Url(url.to_owned()),
    }))
}

/// Reasoning that Claude signed or hides, in OpenRouter's `reasoning_details`, where this format has no
/// place for it. Of other makers they are left where they are: nobody else takes them. `said` is the text
/// of all reasoning, which streams tell beside the details.
pub(super) fn claude_reasoning(details: &Value, said: Option<&str>) -> Vec<PartKind> {
    let details = details.as_array().into_iter().flatten();
    let details = details.filter(|detail| detail["format"] == CLAUDE);
    let signature = |detail: &Value| {
        let signature = detail["signature"].as_str()?;
        (!signature.is_empty()).then(|| signature.to_owned())
    };
    let is_only = details.clone().filter_map(signature).count() == 1;
    let read = |detail: &Value| {
        if detail["type"] == "reasoning.encrypted" {
            let data = detail["data"].as_str()?;
            return Some(PartKind::Other(
                json!({"type": "redacted_thinking", "data": data}),
            ));
        }
        let text = detail["text"].as_str().filter(|text| !text.is_empty());
        let text = text.or(said.filter(|_| is_only)).unwrap_or_default();
        Some(PartKind::Reasoning {
            text: text.to_owned(),
            signature: Some(signature(detail)?),
        })
    };
    details.filter_map(read).collect()
}

fn read_call(call: Value, path: &str, made_id: impl Fn() -> String) -> Result<Part, ConvertError> {
    let mut fields = Fields::new(call.clone(), path)?;
    if fields.text("type")?.is_some_and(|kind| kind != "function") {
        return Ok(plain(PartKind::Other(call)));
    }
    // The place in a stream; some providers send it here too.
    fields.take("index");
    let missing = fields.invalid("function", "an object");
    let mut function = fields.object("function")?.ok_or(missing)?;
    let kind = PartKind::ToolCall {
        id: fields
            .text("id")?
            .filter(|id| !id.is_empty())
            .unwrap_or_else(made_id),
        name: function.needed_text("name")?,
        arguments: if_empty(function.take("arguments").map(arguments_text)),
    };
    fields.put_back("function", function);
    Ok(Part {
        kind,
        other: fields.rest,
        cache_control: None,
    })
}

/// Arguments are a JSON text; some providers send the object itself.
pub(super) fn arguments_text(arguments: Value) -> String {
    match arguments {
        Value::String(text) => text,
        Value::Null => String::new(),
        object => object.to_string(),
    }
}

/// For calls without an id (Google's compatible endpoint). The same in an answer and in its stream, of
/// letters that every provider takes.
pub(super) fn made_id(answer_id: &str, choice: usize, call: usize) -> String {
    let mut id: String = "call_".to_owned();
    id.extend(
        answer_id
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
            .take(40),
    );
    format!("{id}_{choice}_{call}")
}

/// The reason of an end; `None` for the words by which some providers say that there is none yet.
pub(super) fn read_stop(word: &str) -> Option<Stop> {
    Some(match word {
        "" | "null" => return None,
        "stop" => Stop::End,
        "length" => Stop::MaxTokens,
        "tool_calls" | "function_call" => Stop::ToolUse,
        "content_filter" => Stop::Refused,
        other => Stop::Other(other.to_owned()),
    })
}

/// The word for an end. Other formats' words for which this one has a near one are told by that.
pub(crate) fn write_stop(stop: &Stop) -> &str {
    match stop {
        Stop::End | Stop::Sequence(_) => "stop",
        Stop::MaxTokens => "length",
        Stop::ToolUse => "tool_calls",
        Stop::Refused => "content_filter",
        Stop::Other(word) => match word.as_str() {
            "pause_turn" => "stop",
            "model_context_window_exceeded" => "length",
            word => word,
        },
    }
}

/// Of `logprobs.content`. A token without a number is left out: it says nothing.
pub(super) fn read_logprobs(tokens: &Value) -> Vec<TokenLogprob> {
    let tokens = tokens.as_array().into_iter().flatten();
    let read = |token: &Value| {
        let bytes = token["bytes"].as_array().map(|bytes| {
            let bytes = bytes.iter().filter_map(Value::as_u64);
            bytes.filter_map(|byte| u8::try_from(byte).ok()).collect()
        });
        Some(TokenLogprob {
            token: token["token"].as_str()?.to_owned(),
            logprob: token["logprob"].as_f64()?,
            bytes,
            // One level down there are none.
            top: Vec::new(),
        })
    };
    let outer = tokens.filter_map(|token| {
        let top = token["top_logprobs"].as_array().into_iter().flatten();
        Some(TokenLogprob {
            top: top.filter_map(read).collect(),
            ..read(token)?
        })
    });
    outer.collect()
}

pub(super) fn write_logprobs(tokens: &[TokenLogprob]) -> Value {
    let write =
        |token: &TokenLogprob| json!({"token": token.token, "logprob": token.logprob, "bytes": token.bytes});
    let tokens = tokens.iter().map(|token| {
        let mut body = write(token);
        body["top_logprobs"] = token.top.iter().map(write).collect();
        body
    });
    json!({"content": tokens.collect::<Vec<_>>(), "refusal": null})
}

/// The counts in this format: cached tokens are inside the prompt, reasoning inside the completion.
/// Details of zero are left out, unless they are the two that clients look for.
pub(crate) fn write_usage(usage: &Usage) -> Value {
    let (prompt, completion) = (usage.total_input(), usage.total_output());
    let mut prompt_details = json!({"cached_tokens": usage.cache_read});
    let mut completion_details = json!({"reasoning_tokens": usage.reasoning});
    let written = usage.cache_write_5m.saturating_add(usage.cache_write_1h);
    let prompt_more = [
        ("cache_write_tokens", written),
        ("audio_tokens", usage.input_audio),
        ("image_tokens", usage.input_image),
    ];
    for (key, count) in prompt_more.into_iter().filter(|(_, count)| *count > 0) {
        prompt_details[key] = count.into();
    }
    let completion_more = [
        ("audio_tokens", usage.output_audio),
        ("image_tokens", usage.output_image),
    ];
    for (key, count) in completion_more.into_iter().filter(|(_, count)| *count > 0) {
        completion_details[key] = count.into();
    }
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": usage.total(),
        "prompt_tokens_details": prompt_details,
        "completion_tokens_details": completion_details,
    })
}

/// Writes a whole answer. `id` and `created` are zero where the provider's format has none: a caller
/// that knows better sets them in the answer before.
///
/// # Errors
/// See [`crate::convert::write_answer`].
pub fn write_answer(answer: &Answer) -> Result<Written, ConvertError> {
    let mut writer = Writer {
        own: answer.format == Format::Chat,
        signer: signer(Some(answer.format)),
        dropped: Vec::new(),
    };
    let choices = answer.choices.iter().enumerate();
    let choices = choices
        .map(|(idx, choice)| writer.choice(idx, choice))
        .collect::<Result<Vec<_>, _>>()?;
    let mut body = Map::new();
    body.insert("id".to_owned(), answer.id.as_str().into());
    body.insert("object".to_owned(), "chat.completion".into());
    body.insert("created".to_owned(), answer.created_s.unwrap_or(0).into());
    body.insert("model".to_owned(), answer.model.as_str().into());
    body.insert("choices".to_owned(), choices.into());
    put(&mut body, "usage", answer.usage.as_ref().map(write_usage));
    writer.others(&mut body, &answer.other, "");
    Ok(Written {
        body: body.into(),
        dropped: writer.dropped,
    })
}

struct Writer {
    /// The answer came in this format, so its unknown fields may be written.
    own: bool,
    signer: &'static str,
    dropped: Vec<String>,
}

impl Writer {
    fn others(&mut self, body: &mut Map<String, Value>, other: &Map<String, Value>, path: &str) {
        if self.own {
            merge(body, other);
            return;
        }
        let given = hints(other);
        self.dropped.extend(given.map(|(key, _)| format!("{path}{key}")));
    }

    fn choice(&mut self, idx: usize, choice: &Choice) -> Result<Value, ConvertError> {
        let mut message = Message::default();
        for part in &choice.parts {
            if let PartKind::ToolCall { id, name, arguments } = &part.kind {
                let mut call = Map::new();
                call.insert("id".to_owned(), id.as_str().into());
                call.insert("type".to_owned(), "function".into());
                let function = json!({"name": name, "arguments": if_empty(Some(arguments.clone()))});
                call.insert("function".to_owned(), function);
                let mut other = part.other.clone();
                put(&mut call, "extra_content", signature_of_google(&mut other));
                self.others(&mut call, &other, "tool_calls[].");
                message.calls.push(call.into());
                continue;
            }
            self.others(&mut Map::new(), &part.other, "content[].");
            self.part(part, &mut message)?;
        }
        let mut body = Map::new();
        body.insert("index".to_owned(), idx.into());
        body.insert("message".to_owned(), message.write());
        let logprobs = (!choice.logprobs.is_empty()).then(|| write_logprobs(&choice.logprobs));
        body.insert("logprobs".to_owned(), logprobs.unwrap_or(Value::Null));
        body.insert(
            "finish_reason".to_owned(),
            choice.stop.as_ref().map_or("stop", write_stop).into(),
        );
        self.others(&mut body, &choice.other, "choices[].");
        Ok(body.into())
    }

    fn part(&mut self, part: &Part, message: &mut Message) -> Result<(), ConvertError> {
        match &part.kind {
            PartKind::Text(text) => message.text.get_or_insert_default().push_str(text),
            PartKind::Reasoning { text, signature } => {
                message.reasoning.get_or_insert_default().push_str(text);
                if signature.is_some() {
                    message.signed = true;
                }
                let index = message.details.len();
                let detail = reasoning_detail(index, text, signature.as_deref(), self.signer);
                message.details.push(detail);
            }
            PartKind::Image(source) => message.images.push(write_image(source)?),
            PartKind::Other(value) => match value["type"].as_str() {
                Some("refusal") => {
                    let text = value["refusal"].as_str().unwrap_or_default();
                    message.refusal.get_or_insert_default().push_str(text);
                }
                Some("redacted_thinking") => {
                    message.signed = true;
                    let index = message.details.len();
                    let detail = hidden_detail(index, &value["data"], self.signer);
                    message.details.push(detail);
                }
                Some("custom") if self.own => message.calls.push(value.clone()),
                _ if self.own => message.pieces.push(value.clone()),
                kind => self
                    .dropped
                    .push(format!("content[].{}", kind.unwrap_or("part of unknown type"))),
            },
            PartKind::File { .. } | PartKind::ToolResult { .. } | PartKind::ToolCall { .. } => {
                return Err(ConvertError::Inexpressible {
                    field: "a file or tool result in an answer".to_owned(),
                    format: Format::Chat,
                });
            }
        }
        Ok(())
    }
}

/// Google's signature over a call, where its own endpoint of this format has it. Gemini 3 wants it back.
pub(super) fn signature_of_google(other: &mut Map<String, Value>) -> Option<Value> {
    let signature = other.shift_remove("thoughtSignature")?;
    Some(json!({"google": {"thought_signature": signature}}))
}

/// A detail of reasoning as OpenRouter writes it, so that a client can hand the signature back.
pub(super) fn reasoning_detail(index: usize, text: &str, signature: Option<&str>, signer: &str) -> Value {
    json!({"type": "reasoning.text", "text": text, "signature": signature, "format": signer, "index": index})
}

/// Reasoning that its maker hides, as OpenRouter writes it.
pub(super) fn hidden_detail(index: usize, data: &Value, signer: &str) -> Value {
    json!({"type": "reasoning.encrypted", "data": data, "format": signer, "index": index})
}

/// OpenRouter's word for who signs and hides reasoning.
pub(super) fn signer(provider: Option<Format>) -> &'static str {
    match provider {
        Some(Format::Messages | Format::Converse) => CLAUDE,
        Some(Format::GenerateContent) => "google-gemini-v1",
        Some(Format::Responses) => "openai-responses-v1",
        Some(Format::Chat | Format::Cohere) | None => "unknown",
    }
}

/// The signer that [`super::read_request`] takes signatures of.
pub(super) const CLAUDE: &str = "anthropic-claude-v1";

/// The names of unknown fields that say something, those of inner objects by path.
pub(crate) fn names(other: &Map<String, Value>, path: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (key, value) in other {
        match value {
            Value::Null => {}
            Value::Object(inner) if path.matches('.').count() < 2 => {
                names.extend(self::names(inner, &format!("{path}{key}.")));
            }
            _ => names.push(format!("{path}{key}")),
        }
    }
    names
}

/// An image as OpenRouter writes it.
pub(super) fn write_image(source: &Source) -> Result<Value, ConvertError> {
    let url = match source {
        Source::Url(url) => url.clone(),
        Source::Base64 { media_type, data } => format!("data:{media_type};base64,{data}"),
        Source::Id(_) => {
            return Err(ConvertError::Inexpressible {
                field: "image by file id".to_owned(),
                format: Format::Chat,
            });
        }
    };
    Ok(json!({"type": "image_url", "image_url": {"url": url}}))
}

/// Clients parse the arguments: no arguments are an object without fields.
fn if_empty(arguments: Option<String>) -> String {
    arguments
        .filter(|text| !text.trim().is_empty())
        .unwrap_or_else(|| "{}".to_owned())
}

#[derive(Default)]
struct Message {
    text: Option<String>,
    reasoning: Option<String>,
    refusal: Option<String>,
    details: Vec<Value>,
    /// Some of the details say more than the reasoning's text does.
    signed: bool,
    images: Vec<Value>,
    pieces: Vec<Value>,
    calls: Vec<Value>,
}

impl Message {
    fn write(self) -> Value {
        let mut body = Map::new();
        body.insert("role".to_owned(), "assistant".into());
        let content = match (self.text, self.pieces.is_empty()) {
            (text, false) => {
                let text = text.map(|text| json!({"type": "text", "text": text}));
                text.into_iter().chain(self.pieces).collect()
            }
            (Some(text), true) => text.into(),
            // Null says that the answer is not in the text; a text of nothing says that there is no answer.
            (None, true) if self.calls.is_empty() && self.refusal.is_none() => "".into(),
            (None, true) => Value::Null,
        };
        body.insert("content".to_owned(), content);
        put(&mut body, "reasoning_content", self.reasoning);
        if self.signed {
            body.insert("reasoning_details".to_owned(), self.details.into());
        }
        body.insert(
            "refusal".to_owned(),
            self.refusal.map_or(Value::Null, Value::from),
        );
        if !self.images.is_empty() {
            body.insert("images".to_owned(), self.images.into());
        }
        if !self.calls.is_empty() {
            body.insert("tool_calls".to_owned(), self.calls.into());
        }
        body.into()
    }
}
