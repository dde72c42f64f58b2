//! Anthropic Messages: whole answers (`POST /v1/messages` in Anthropic's API reference).

use super::request::read_part;
use crate::answer::{Answer, Choice, Stop};
use crate::canonical::{ConvertError, Fields, Part, PartKind, Written, merge};
use crate::chat::names;
use crate::format::Format;
use crate::usage::{self, Usage};
use serde_json::{Map, Value, json};

/// The counts that [`write_usage`] writes; what else Anthropic says beside them is kept.
const COUNTS: [&str; 6] = [
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "cache_creation",
    "output_tokens_details",
];

/// Reads a whole answer.
///
/// # Errors
/// See [`crate::convert::read_answer`].
pub fn read_answer(body: Value) -> Result<Answer, ConvertError> {
    let usage = usage::of_response(Format::Messages, &body);
    let mut fields = Fields::new(body, "")?;
    let blocks = fields
        .list("content")?
        .ok_or_else(|| fields.invalid("content", "an array"))?;
    let blocks = blocks
        .into_iter()
        .enumerate()
        .map(|(idx, block)| read_part(block, &format!("content[{idx}]")));
    let parts = blocks.collect::<Result<_, _>>()?;
    let word = fields.text("stop_reason")?;
    let sequence = fields.text("stop_sequence")?;
    for fixed in ["type", "role"] {
        fields.take(fixed);
    }
    if let Some(Value::Object(mut usage)) = fields.take("usage") {
        usage.retain(|key, _| !COUNTS.contains(&key.as_str()));
        if !usage.is_empty() {
            fields.rest.insert("usage".to_owned(), usage.into());
        }
    }
    let choice = Choice {
        parts,
        stop: word.map(|word| read_stop(&word, sequence)),
        logprobs: Vec::new(),
        other: Map::new(),
    };
    Ok(Answer {
        format: Format::Messages,
        id: fields.text("id")?.unwrap_or_default(),
        model: fields.text("model")?.unwrap_or_default(),
        created_s: None,
        choices: vec![choice],
        usage,
        other: fields.rest,
    })
}

pub(super) fn read_stop(word: &str, sequence: Option<String>) -> Stop {
    match word {
        "end_turn" => Stop::End,
        "max_tokens" => Stop::MaxTokens,
        "stop_sequence" => Stop::Sequence(sequence),
        "tool_use" => Stop::ToolUse,
        "refusal" => Stop::Refused,
        other => Stop::Other(other.to_owned()),
    }
}

/// The word for an end, and the text that ended it. Other formats' way to say that the model calls a
/// tool or refuses is what it said, not only why it ended.
pub(super) fn write_stop(stop: Option<&Stop>, calls: bool, refuses: bool) -> (&str, Option<&str>) {
    match stop {
        Some(Stop::End) | None if calls => ("tool_use", None),
        Some(Stop::End) | None if refuses => ("refusal", None),
        Some(Stop::End) | None => ("end_turn", None),
        Some(Stop::MaxTokens) => ("max_tokens", None),
        Some(Stop::Sequence(text)) => ("stop_sequence", text.as_deref()),
        Some(Stop::ToolUse) => ("tool_use", None),
        Some(Stop::Refused) => ("refusal", None),
        Some(Stop::Other(word)) => (word, None),
    }
}

/// The counts in this format: cached tokens are beside the input, reasoning inside the output.
pub(crate) fn write_usage(usage: &Usage) -> Value {
    let written = usage.cache_write_5m.saturating_add(usage.cache_write_1h);
    let input = usage.total_input().saturating_sub(usage.cache_read);
    let mut body = json!({
        "input_tokens": input.saturating_sub(written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": usage.total_output(),
    });
    if usage.reasoning > 0 {
        body["output_tokens_details"] = json!({"thinking_tokens": usage.reasoning});
    }
    body
}

/// Writes a whole answer.
///
/// # Errors
/// See [`crate::convert::write_answer`].
pub fn write_answer(answer: &Answer) -> Result<Written, ConvertError> {
    let refuse = |field: &str| ConvertError::Inexpressible {
        field: field.to_owned(),
        format: Format::Messages,
    };
    let [choice] = &answer.choices[..] else {
        return Err(refuse("other than one choice"));
    };
    let own = answer.format == Format::Messages;
    let mut dropped = Vec::new();
    let mut drop_others = |other: &Map<String, Value>, path: &str| {
        dropped.extend(names(other, path));
    };
    if !own {
        drop_others(&answer.other, "");
        drop_others(&choice.other, "choices[].");
        for part in &choice.parts {
            drop_others(&part.other, "content[].");
        }
    }
    if !choice.logprobs.is_empty() {
        return Err(refuse("logprobs"));
    }
    let mut blocks = Vec::with_capacity(choice.parts.len());
    for part in &choice.parts {
        match block(part, own, &mut dropped)
            .ok_or_else(|| refuse("an image, file or tool result in an answer"))?
        {
            Value::Null => {}
            block => blocks.push(block),
        }
    }
    let is_call = |part: &Part| matches!(part.kind, PartKind::ToolCall { .. });
    let is_refusal = |part: &Part| matches!(&part.kind, PartKind::Other(value) if value["type"] == "refusal");
    let calls = choice.parts.iter().any(is_call);
    let refuses = choice.parts.iter().any(is_refusal);
    let (word, sequence) = write_stop(choice.stop.as_ref(), calls, refuses);
    let mut body = Map::new();
    body.insert("id".to_owned(), answer.id.as_str().into());
    body.insert("type".to_owned(), "message".into());
    body.insert("role".to_owned(), "assistant".into());
    body.insert("model".to_owned(), answer.model.as_str().into());
    body.insert("content".to_owned(), blocks.into());
    body.insert("stop_reason".to_owned(), word.into());
    body.insert("stop_sequence".to_owned(), sequence.into());
    // Clients of this format rely on it.
    let usage = write_usage(&answer.usage.unwrap_or_default());
    body.insert("usage".to_owned(), usage);
    if own {
        merge(&mut body, &answer.other);
    }
    Ok(Written {
        body: body.into(),
        dropped,
    })
}

/// A block of content; null where it is dropped, `None` where it must not be.
fn block(part: &Part, own: bool, dropped: &mut Vec<String>) -> Option<Value> {
    let mut block = match &part.kind {
        PartKind::Text(text) => json!({"type": "text", "text": text}),
        // Anthropic's own has always a signature, and its clients expect the field. One without is
        // shown to the user and not taken back by Anthropic; the request's writer drops it.
        PartKind::Reasoning { text, signature } => {
            json!({"type": "thinking", "thinking": text, "signature": signature.as_deref().unwrap_or("")})
        }
        PartKind::ToolCall { id, name, arguments } => {
            let input = read_input(arguments).unwrap_or_else(|| {
                dropped.push("tool_calls[].function.arguments (not a JSON object)".to_owned());
                // A client that runs the tool must not run it without arguments: let it fail.
                Map::from_iter([("unparsed_arguments".to_owned(), arguments.as_str().into())])
            });
            json!({"type": "tool_use", "id": id, "name": name, "input": input})
        }
        PartKind::Other(value) if value["type"] == "refusal" => {
            json!({"type": "text", "text": value["refusal"].as_str().unwrap_or_default()})
        }
        PartKind::Other(value) if own || value["type"] == "redacted_thinking" => return Some(value.clone()),
        PartKind::Other(value) => {
            let kind = value["type"].as_str().unwrap_or("part of unknown type");
            dropped.push(format!("content[].{kind}"));
            return Some(Value::Null);
        }
        PartKind::Image(_) | PartKind::File { .. } | PartKind::ToolResult { .. } => return None,
    };
    if own && let Value::Object(block) = &mut block {
        merge(block, &part.other);
    }
    Some(block)
}

/// The arguments of a call as an object; none are an object without fields.
fn read_input(arguments: &str) -> Option<Map<String, Value>> {
    if arguments.trim().is_empty() {
        return Some(Map::new());
    }
    serde_json::from_str(arguments).ok()
}
