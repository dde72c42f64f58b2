//! Cohere Chat: whole answers.
//!
//! What comes back in another way than it came: the ids of tokens in `logprobs` are left out.

use super::request::{TOOL_PLAN, read_calls, read_content, read_plan, write_call};
use crate::answer::{Answer, Choice, Stop, TokenLogprob};
use crate::canonical::{ConvertError, Fields, ITEM, Part, PartKind, Written, kind_name, merge};
use crate::format::Format;
use crate::usage::{self, Usage};
use serde_json::{Map, Value, json};

/// Reads a whole answer.
///
/// # Errors
/// See [`crate::convert::read_answer`]; an answer that ended with `ERROR` is one.
pub fn read_answer(body: Value) -> Result<Answer, ConvertError> {
    let usage = usage::of_response(Format::Cohere, &body);
    let mut fields = Fields::new(body, "")?;
    let missing = fields.invalid("message", "an object");
    let mut message = fields.object("message")?.ok_or(missing)?;
    message.take("role");
    let mut parts = Vec::new();
    parts.extend(read_plan(&mut message)?);
    if let Some(content) = message.take("content") {
        parts.extend(read_content(content, "message.content")?);
    }
    parts.extend(read_calls(&mut message)?);
    let mut other = Map::new();
    message.rest.retain(|_, value| !value.is_null());
    if !message.rest.is_empty() {
        other.insert("message".to_owned(), message.rest.into());
    }
    let word = fields.text("finish_reason")?;
    if word.as_deref() == Some("ERROR") {
        return Err(ConvertError::Failed {
            message: "it ended the answer with an error".to_owned(),
        });
    }
    let logprobs = fields.list("logprobs")?.unwrap_or_default();
    if let Some(Value::Object(mut usage)) = fields.take("usage") {
        if usage.contains_key("billed_units") {
            take_counts(&mut usage, "billed_units");
        } else {
            take_counts(&mut usage, "tokens");
        }
        if !usage.is_empty() {
            fields.rest.insert("usage".to_owned(), usage.into());
        }
    }
    Ok(Answer {
        format: Format::Cohere,
        id: fields.text("id")?.unwrap_or_default(),
        model: fields.text("model")?.unwrap_or_default(),
        created_s: None,
        choices: vec![Choice {
            parts,
            stop: word.as_deref().map(read_stop),
            logprobs: logprobs.iter().flat_map(read_logprobs).collect(),
            other,
        }],
        usage,
        other: fields.rest,
    })
}

/// Takes the counts that [`write_usage`] writes; what else Cohere says beside them is kept.
fn take_counts(usage: &mut Map<String, Value>, unit: &str) {
    if let Some(Value::Object(counts)) = usage.get_mut(unit) {
        counts.shift_remove("input_tokens");
        counts.shift_remove("output_tokens");
        if counts.is_empty() {
            usage.shift_remove(unit);
        }
    }
}

pub(super) fn read_stop(word: &str) -> Stop {
    match word {
        "COMPLETE" => Stop::End,
        "MAX_TOKENS" => Stop::MaxTokens,
        "STOP_SEQUENCE" => Stop::Sequence(None),
        "TOOL_CALL" => Stop::ToolUse,
        "ERROR_TOXIC" => Stop::Refused,
        other => Stop::Other(other.to_owned()),
    }
}

/// The word for an end. For a refusal it is the one that version 1 had.
pub(super) fn write_stop(stop: Option<&Stop>, calls: bool) -> &str {
    match stop {
        Some(Stop::End) | None if calls => "TOOL_CALL",
        Some(Stop::End) | None => "COMPLETE",
        Some(Stop::MaxTokens) => "MAX_TOKENS",
        Some(Stop::Sequence(_)) => "STOP_SEQUENCE",
        Some(Stop::ToolUse) => "TOOL_CALL",
        Some(Stop::Refused) => "ERROR_TOXIC",
        Some(Stop::Other(word)) => word,
    }
}

/// A piece of text with the numbers of its tokens. The text is told at the first of them.
pub(super) fn read_logprobs(piece: &Value) -> Vec<TokenLogprob> {
    let mut text = piece["text"].as_str().unwrap_or_default();
    let numbers = piece["logprobs"].as_array().into_iter().flatten();
    let tokens = numbers.filter_map(Value::as_f64).map(|logprob| TokenLogprob {
        token: std::mem::take(&mut text).to_owned(),
        logprob,
        bytes: None,
        top: Vec::new(),
    });
    tokens.collect()
}

pub(super) fn write_logprob(token: &TokenLogprob) -> Value {
    json!({"text": token.token, "token_ids": [], "logprobs": [token.logprob]})
}

pub(crate) fn write_usage(usage: &Usage) -> Value {
    let counts = json!({"input_tokens": usage.total_input(), "output_tokens": usage.total_output()});
    json!({"billed_units": counts, "tokens": counts})
}

/// Writes a whole answer.
///
/// # Errors
/// See [`crate::convert::write_answer`].
pub fn write_answer(answer: &Answer) -> Result<Written, ConvertError> {
    let refuse = |field: &str| ConvertError::Inexpressible {
        field: field.to_owned(),
        format: Format::Cohere,
    };
    let [choice] = &answer.choices[..] else {
        return Err(refuse("other than one choice"));
    };
    let own = answer.format == Format::Cohere;
    let mut dropped = Vec::new();
    let mut drop_fields = |other: &Map<String, Value>, path: &str| {
        let given = other
            .iter()
            .filter(|(key, value)| !value.is_null() && *key != ITEM);
        dropped.extend(given.map(|(key, _)| format!("{path}{key}")));
    };
    if !own {
        drop_fields(&answer.other, "");
        drop_fields(&choice.other, "choices[].");
        for part in &choice.parts {
            drop_fields(&part.other, "content[].");
        }
    }
    let (mut plan, mut content, mut calls) = (String::new(), Vec::new(), Vec::new());
    for part in &choice.parts {
        let block = match &part.kind {
            PartKind::Text(text) if own && part.other.contains_key(TOOL_PLAN) => {
                plan.push_str(text);
                continue;
            }
            PartKind::ToolCall { id, name, arguments } => {
                calls.push(merged(write_call(id, name, arguments), part, own));
                continue;
            }
            PartKind::Text(text) => json!({"type": "text", "text": text}),
            PartKind::Reasoning { text, .. } => json!({"type": "thinking", "thinking": text}),
            PartKind::Other(value) if own => value.clone(),
            PartKind::Other(value) if value["type"] == "refusal" => {
                json!({"type": "text", "text": value["refusal"].as_str().unwrap_or_default()})
            }
            PartKind::Other(value) => {
                dropped.push(format!("content[].{}", kind_name(value)));
                continue;
            }
            PartKind::Image(_) => {
                dropped.push("content[].image".to_owned());
                continue;
            }
            PartKind::File { .. } | PartKind::ToolResult { .. } => {
                return Err(refuse("a file or tool result in an answer"));
            }
        };
        content.push(merged(block, part, own));
    }
    let mut message = Map::new();
    message.insert("role".to_owned(), "assistant".into());
    if !plan.is_empty() {
        message.insert("tool_plan".to_owned(), plan.into());
    }
    let has_calls = !calls.is_empty();
    if !content.is_empty() || !has_calls {
        message.insert("content".to_owned(), content.into());
    }
    if has_calls {
        message.insert("tool_calls".to_owned(), calls.into());
    }
    let mut body = Map::new();
    body.insert("id".to_owned(), answer.id.as_str().into());
    body.insert(
        "finish_reason".to_owned(),
        write_stop(choice.stop.as_ref(), has_calls).into(),
    );
    body.insert("message".to_owned(), message.into());
    if let Some(usage) = &answer.usage {
        body.insert("usage".to_owned(), write_usage(usage));
    }
    if !choice.logprobs.is_empty() {
        let tokens = choice.logprobs.iter().map(write_logprob);
        body.insert("logprobs".to_owned(), tokens.collect());
    }
    if own {
        merge(&mut body, &choice.other);
        merge(&mut body, &answer.other);
    }
    Ok(Written {
        body: body.into(),
        dropped,
    })
}

fn merged(mut block: Value, part: &Part, own: bool) -> Value {
    if let Some(block) = block.as_object_mut().filter(|_| own) {
        merge(block, &part.other);
    }
    block
}
