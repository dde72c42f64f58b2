//! OpenAI Responses: whole answers.
//!
//! An answer written here has every field that OpenAI's own clients demand. What the request asked is not
//! known here, so the fields that repeat it have their defaults.

use super::items::{RAW, hidden, read_item, seal};
use super::request::reasoning_item;
use crate::answer::{Answer, Choice, Stop, TokenLogprob};
use crate::canonical::{
    ConvertError, Fields, ITEM, Part, PartKind, Source, Written, kind_name, merge, plain,
};
use crate::format::Format;
use crate::usage::{self, Usage};
use serde_json::{Map, Value, json};

/// The counts that [`write_usage`] writes; what else a provider says beside them is kept.
const COUNTS: [&str; 3] = ["input_tokens", "output_tokens", "total_tokens"];
const DETAILS: [(&str, &[&str]); 2] = [
    ("input_tokens_details", &["cached_tokens", "cache_write_tokens"]),
    ("output_tokens_details", &["reasoning_tokens"]),
];

/// Reads a whole answer.
///
/// # Errors
/// See [`crate::convert::read_answer`]; an answer whose status is `failed` is one.
pub fn read_answer(body: Value) -> Result<Answer, ConvertError> {
    let usage = usage::of_response(Format::Responses, &body);
    let mut fields = Fields::new(body, "")?;
    let status = fields.text("status")?;
    if status.as_deref() == Some("failed") {
        let error = fields.take("error").unwrap_or_default();
        let message = error["message"].as_str().unwrap_or("it gave no reason");
        return Err(ConvertError::Failed {
            message: message.to_owned(),
        });
    }
    let items = fields
        .list("output")?
        .ok_or_else(|| fields.invalid("output", "an array"))?;
    let (mut parts, mut logprobs) = (Vec::new(), Vec::new());
    for (idx, item) in items.into_iter().enumerate() {
        for mut part in read_output_item(item, &format!("output[{idx}]"))? {
            if let Some(tokens) = part.other.shift_remove("logprobs") {
                logprobs.extend(read_logprobs(&tokens));
            }
            parts.push(part);
        }
    }
    let details = fields.take("incomplete_details");
    let reason = details.as_ref().and_then(|details| details["reason"].as_str());
    let calls = parts
        .iter()
        .any(|part| matches!(part.kind, PartKind::ToolCall { .. }));
    let stop = read_stop(status.as_deref(), reason, calls);
    if let Some(status) = status.filter(|status| !matches!(status.as_str(), "completed" | "incomplete")) {
        fields.rest.insert("status".to_owned(), status.into());
    }
    take_counts(&mut fields);
    fields.take("object");
    let created = fields.take("created_at");
    let created_s = created.as_ref().and_then(seconds);
    Ok(Answer {
        format: Format::Responses,
        id: fields.text("id")?.unwrap_or_default(),
        model: fields.text("model")?.unwrap_or_default(),
        created_s,
        choices: vec![Choice {
            parts,
            stop,
            logprobs,
            other: Map::new(),
        }],
        usage,
        other: fields.rest,
    })
}

/// An item of an answer. An image made by OpenAI's tool is an image.
pub(super) fn read_output_item(item: Value, path: &str) -> Result<Vec<Part>, ConvertError> {
    if item["type"] == "image_generation_call"
        && let Some(data) = item["result"].as_str()
    {
        let format = item["output_format"].as_str().unwrap_or("png");
        let mut part = plain(PartKind::Image(Source::Base64 {
            media_type: format!("image/{format}"),
            data: data.to_owned(),
        }));
        if let Value::Object(mut about) = item {
            about.retain(|key, _| key != "result" && key != "type");
            part.other.insert(ITEM.to_owned(), about.into());
        }
        return Ok(vec![part]);
    }
    Ok(read_item(item, path)?.parts)
}

/// Some providers give a fraction of a second too.
pub(super) fn seconds(value: &Value) -> Option<u64> {
    let whole = |s: &f64| (0.0..9e15).contains(s);
    value
        .as_u64()
        .or_else(|| value.as_f64().filter(whole).map(|s| s as u64))
}

/// Why an answer ended; `None` if it has not yet (`queued`, `in_progress`) or the word is unknown.
pub(super) fn read_stop(status: Option<&str>, reason: Option<&str>, calls: bool) -> Option<Stop> {
    Some(match (status, reason) {
        (Some("incomplete"), Some("max_output_tokens")) => Stop::MaxTokens,
        (Some("incomplete"), Some("content_filter")) => Stop::Refused,
        (Some("incomplete"), Some(reason)) => Stop::Other(reason.to_owned()),
        (Some("incomplete"), None) => Stop::Other("incomplete".to_owned()),
        // One provider says `complete`, some say nothing.
        (Some("completed" | "complete") | None, _) if calls => Stop::ToolUse,
        (Some("completed" | "complete") | None, _) => Stop::End,
        (Some("cancelled"), _) => Stop::Other("cancelled".to_owned()),
        _ => return None,
    })
}

/// The status of an answer that ended so, and why it is incomplete.
pub(super) fn write_stop(stop: Option<&Stop>) -> (&'static str, Option<&str>) {
    match stop {
        None | Some(Stop::End | Stop::ToolUse | Stop::Sequence(_)) => ("completed", None),
        Some(Stop::MaxTokens) => ("incomplete", Some("max_output_tokens")),
        Some(Stop::Refused) => ("incomplete", Some("content_filter")),
        Some(Stop::Other(word)) => ("incomplete", Some(word)),
    }
}

/// Takes the counts out of `usage` and leaves what providers say beside them, such as costs.
fn take_counts(fields: &mut Fields) {
    let Some(Value::Object(mut usage)) = fields.take("usage") else {
        return;
    };
    usage.retain(|key, value| !COUNTS.contains(&key.as_str()) && !value.is_null());
    for (details, counts) in DETAILS {
        let Some(Value::Object(inner)) = usage.get_mut(details) else {
            continue;
        };
        inner.retain(|key, _| !counts.contains(&key.as_str()));
        if inner.is_empty() {
            usage.shift_remove(details);
        }
    }
    if !usage.is_empty() {
        fields.rest.insert("usage".to_owned(), usage.into());
    }
}

/// The counts in this format: cached tokens are inside the input, reasoning inside the output.
pub(crate) fn write_usage(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.total_input(),
        "input_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write_5m.saturating_add(usage.cache_write_1h),
        },
        "output_tokens": usage.total_output(),
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total(),
    })
}

/// The `logprobs` of a text. A token without a number is left out: it says nothing.
pub(super) fn read_logprobs(tokens: &Value) -> Vec<TokenLogprob> {
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
    let tokens = tokens.as_array().into_iter().flatten();
    let outer = tokens.filter_map(|token| {
        let top = token["top_logprobs"].as_array().into_iter().flatten();
        Some(TokenLogprob {
            top: top.filter_map(read).collect(),
            ..read(token)?
        })
    });
    outer.collect()
}

pub(super) fn write_logprobs(tokens: &[TokenLogprob]) -> Vec<Value> {
    let write = |token: &TokenLogprob| {
        // Clients of this format rely on the bytes.
        let bytes = token
            .bytes
            .clone()
            .unwrap_or_else(|| token.token.as_bytes().to_vec());
        json!({"token": token.token, "logprob": token.logprob, "bytes": bytes})
    };
    let tokens = tokens.iter().map(|token| {
        let mut body = write(token);
        body["top_logprobs"] = token.top.iter().map(write).collect();
        body
    });
    tokens.collect()
}

/// An answer without output, with every field that OpenAI's clients demand.
pub(super) fn frame(id: &str, model: &str, created_s: u64) -> Map<String, Value> {
    let frame = json!({
        "id": id,
        "object": "response",
        "created_at": created_s,
        "status": "in_progress",
        "background": false,
        "error": null,
        "incomplete_details": null,
        "instructions": null,
        "max_output_tokens": null,
        "max_tool_calls": null,
        "model": model,
        "output": [],
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "prompt_cache_key": null,
        "reasoning": {"effort": null, "summary": null},
        "safety_identifier": null,
        "service_tier": "default",
        "store": false,
        "temperature": null,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": null,
        "truncation": "disabled",
        "usage": null,
        "user": null,
        "metadata": {},
    });
    match frame {
        Value::Object(frame) => frame,
        _ => Map::new(),
    }
}

/// The id of an answer with the prefix that clients look for.
pub(super) fn response_id(id: &str) -> String {
    if id.starts_with("resp_") {
        return id.to_owned();
    }
    format!("resp_{}", if id.is_empty() { "0" } else { id })
}

/// The id of an item of an answer: the same in a stream and in whole.
pub(super) fn item_id(prefix: &str, response_id: &str, at: usize) -> String {
    format!("{prefix}_{}_{at}", response_id.trim_start_matches("resp_"))
}

/// Writes a whole answer.
///
/// # Errors
/// See [`crate::convert::write_answer`].
pub fn write_answer(answer: &Answer) -> Result<Written, ConvertError> {
    let refuse = |field: &str| ConvertError::Inexpressible {
        field: field.to_owned(),
        format: Format::Responses,
    };
    let [choice] = &answer.choices[..] else {
        return Err(refuse("other than one choice"));
    };
    let own = answer.format == Format::Responses;
    let id = if own {
        answer.id.clone()
    } else {
        response_id(&answer.id)
    };
    let mut output = Output {
        own,
        maker: answer.format,
        id: &id,
        logprobs: &choice.logprobs,
        items: Vec::new(),
        content: Vec::new(),
        about: Map::new(),
        dropped: Vec::new(),
    };
    if !own {
        output.drop_fields(&answer.other, "");
        output.drop_fields(&choice.other, "choices[].");
    }
    for part in &choice.parts {
        output
            .part(part)
            .ok_or_else(|| refuse("a file or tool result in an answer"))?;
    }
    if !choice.logprobs.is_empty() && !output.logprobs.is_empty() {
        output.dropped.push("logprobs".to_owned());
    }
    output.flush();
    let (status, reason) = write_stop(choice.stop.as_ref());
    if status == "incomplete"
        && !own
        && let Some(last) = output.items.last_mut()
    {
        last["status"] = status.into();
    }
    let Output { items, dropped, .. } = output;
    let mut body = frame(&id, &answer.model, answer.created_s.unwrap_or(0));
    body.insert("status".to_owned(), status.into());
    if let Some(reason) = reason {
        body.insert("incomplete_details".to_owned(), json!({"reason": reason}));
    }
    body.insert("output".to_owned(), items.into());
    if let Some(usage) = &answer.usage {
        body.insert("usage".to_owned(), write_usage(usage));
    }
    if own {
        merge(&mut body, &answer.other);
    }
    Ok(Written {
        body: body.into(),
        dropped,
    })
}

/// The items of an answer under way.
struct Output<'a> {
    own: bool,
    /// The format of the provider, for signatures.
    maker: Format,
    id: &'a str,
    /// Not written yet: they go to the first text.
    logprobs: &'a [TokenLogprob],
    items: Vec<Value>,
    /// The content of the message under way, and what its item says of itself.
    content: Vec<Value>,
    about: Map<String, Value>,
    dropped: Vec<String>,
}

impl Output<'_> {
    fn drop_fields(&mut self, other: &Map<String, Value>, path: &str) {
        let given = other
            .iter()
            .filter(|(key, value)| !value.is_null() && *key != ITEM);
        self.dropped.extend(given.map(|(key, _)| format!("{path}{key}")));
    }

    /// `None` for a part that no answer has.
    fn part(&mut self, part: &Part) -> Option<()> {
        let about = match part.other.get(ITEM).filter(|_| self.own) {
            Some(Value::Object(about)) => Some(about.clone()),
            Some(_) => Some(Map::new()),
            None => None,
        };
        let content = match &part.kind {
            PartKind::Text(text) => {
                let tokens = write_logprobs(std::mem::take(&mut self.logprobs));
                Some(json!({"type": "output_text", "annotations": [], "logprobs": tokens, "text": text}))
            }
            PartKind::Other(value) if value["type"] == "refusal" => {
                Some(json!({"type": "refusal", "refusal": value["refusal"]}))
            }
            _ => None,
        };
        if let Some(mut content) = content {
            if let Some(about) = about {
                self.flush();
                self.about = about;
            }
            if let Some(content) = content.as_object_mut().filter(|_| self.own) {
                let fields = part.other.iter().filter(|(key, _)| *key != ITEM);
                merge(
                    content,
                    &fields.map(|(key, value)| (key.clone(), value.clone())).collect(),
                );
            } else {
                self.drop_fields(&part.other, "content[].");
            }
            self.content.push(content);
            return Some(());
        }
        self.flush();
        let at = self.items.len();
        let mut item = match &part.kind {
            PartKind::ToolCall { id, name, arguments } => {
                let arguments = if arguments.trim().is_empty() {
                    "{}"
                } else {
                    arguments
                };
                json!({"type": "function_call", "id": item_id("fc", self.id, at), "status": "completed",
                    "call_id": id, "name": name, "arguments": arguments})
            }
            PartKind::Reasoning { text, signature } => {
                let raw = about
                    .as_ref()
                    .is_some_and(|about| about.get(RAW) == Some(&Value::Bool(true)));
                let sealed = signature
                    .as_deref()
                    .and_then(|signature| seal(signature, Some(self.maker)));
                if signature.is_some() && sealed.is_none() {
                    self.dropped.push("content[].signature".to_owned());
                }
                let mut item = reasoning_item(text, sealed.as_deref(), raw);
                item["id"] = item_id("rs", self.id, at).into();
                item
            }
            PartKind::Image(Source::Base64 { media_type, data }) => {
                let format = media_type.trim_start_matches("image/");
                json!({"type": "image_generation_call", "id": item_id("ig", self.id, at), "status": "completed",
                    "output_format": format, "result": data})
            }
            PartKind::Other(value) if self.own => value.clone(),
            PartKind::Other(value) if value["type"] == "redacted_thinking" => {
                let mut item = hidden(value)?;
                item["id"] = item_id("rs", self.id, at).into();
                item
            }
            PartKind::Other(value) => {
                let kind = kind_name(value);
                self.dropped.push(format!("content[].{kind}"));
                return Some(());
            }
            PartKind::Image(_) => {
                self.dropped.push("content[].image by url".to_owned());
                return Some(());
            }
            PartKind::Text(_) | PartKind::File { .. } | PartKind::ToolResult { .. } => return None,
        };
        match (item.as_object_mut(), about) {
            (Some(item), Some(about)) => {
                merge(item, &about);
                item.shift_remove(RAW);
            }
            _ => self.drop_fields(&part.other, "content[]."),
        }
        self.items.push(item);
        Some(())
    }

    /// Writes the message under way, if there is one.
    fn flush(&mut self) {
        if self.content.is_empty() {
            return;
        }
        let id = item_id("msg", self.id, self.items.len());
        let content = std::mem::take(&mut self.content);
        let mut item = json!({"type": "message", "id": id, "status": "completed", "role": "assistant",
            "content": content});
        if let Some(item) = item.as_object_mut() {
            merge(item, &std::mem::take(&mut self.about));
        }
        self.items.push(item);
    }
}
