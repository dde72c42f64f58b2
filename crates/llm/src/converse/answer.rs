//! AWS Bedrock Converse: whole answers, read into the canonical model and written from it.
//!
//! An answer of this format has neither an id nor the name of its model.

use super::blocks::{BlockWriter, read_blocks};
use super::one;
use crate::answer::{Answer, Choice, Stop};
use crate::canonical::{ConvertError, Fields, Written, merge, put};
use crate::format::Format;
use crate::usage::{Usage, of_response};
use serde_json::{Map, Value, json};

/// Reads a whole answer.
///
/// # Errors
/// See [`crate::convert::read_answer`].
pub fn read_answer(body: Value) -> Result<Answer, ConvertError> {
    let usage = of_response(Format::Converse, &body);
    let mut fields = Fields::new(body, "")?;
    fields.take("usage");
    let missing = fields.invalid("output.message", "an object");
    let mut output = fields.object("output")?.ok_or_else(|| missing.clone())?;
    let mut message = output.object("message")?.ok_or(missing)?;
    message.take("role");
    let content = message.list("content")?.unwrap_or_default();
    let mut choice = Choice {
        parts: read_blocks(content, &message.at("content"))?,
        stop: None,
        logprobs: Vec::new(),
        other: Map::new(),
    };
    output.put_back("message", message);
    fields.put_back("output", output);
    if let Some(word) = fields.text("stopReason")? {
        let stop = read_stop(&word);
        // Several words mean the same elsewhere; which it was is kept for those who read this format.
        if write_stop(&stop, true) != word {
            choice.other.insert("stopReason".to_owned(), word.into());
        }
        choice.stop = Some(stop);
    }
    Ok(Answer {
        format: Format::Converse,
        id: String::new(),
        model: String::new(),
        created_s: None,
        choices: vec![choice],
        usage,
        other: fields.rest,
    })
}

pub(super) fn read_stop(word: &str) -> Stop {
    match word {
        "end_turn" => Stop::End,
        "tool_use" => Stop::ToolUse,
        "max_tokens" | "model_context_window_exceeded" => Stop::MaxTokens,
        "stop_sequence" => Stop::Sequence(None),
        "content_filtered" | "guardrail_intervened" => Stop::Refused,
        word => Stop::Other(word.to_owned()),
    }
}

/// The reason in this format. Words of others, which it does not know, are the end of a turn.
pub(super) fn write_stop(stop: &Stop, own: bool) -> &str {
    match stop {
        Stop::End => "end_turn",
        Stop::ToolUse => "tool_use",
        Stop::MaxTokens => "max_tokens",
        Stop::Sequence(_) => "stop_sequence",
        Stop::Refused => "content_filtered",
        Stop::Other(word) if own => word,
        Stop::Other(_) => "end_turn",
    }
}

/// Counts in the words of this format: the cache beside the prompt, reasoning inside the answer.
pub(super) fn write_usage(usage: &Usage) -> Value {
    let written = usage.cache_write_5m.saturating_add(usage.cache_write_1h);
    let beside = usage.cache_read.saturating_add(written);
    let mut counts = one("inputTokens", usage.total_input().saturating_sub(beside));
    counts.insert("outputTokens".to_owned(), usage.total_output().into());
    counts.insert("totalTokens".to_owned(), usage.total().into());
    counts.insert("cacheReadInputTokens".to_owned(), usage.cache_read.into());
    counts.insert("cacheWriteInputTokens".to_owned(), written.into());
    let details = [("5m", usage.cache_write_5m), ("1h", usage.cache_write_1h)];
    let details = details.into_iter().filter(|(_, count)| *count > 0);
    let details: Vec<Value> = details
        .map(|(ttl, count)| json!({"ttl": ttl, "inputTokens": count}))
        .collect();
    if !details.is_empty() {
        counts.insert("cacheDetails".to_owned(), details.into());
    }
    counts.into()
}

/// Writes a whole answer.
///
/// # Errors
/// See [`crate::convert::write_answer`].
pub fn write_answer(answer: &Answer) -> Result<Written, ConvertError> {
    let mut writer = BlockWriter::for_answer(answer.format);
    let [choice] = &answer.choices[..] else {
        return Err(BlockWriter::refuse(format!(
            "an answer of {} choices",
            answer.choices.len()
        )));
    };
    let content = writer.write_all(&choice.parts, false)?;
    let mut body = one(
        "output",
        json!({"message": {"role": "assistant", "content": content}}),
    );
    let stop = choice.stop.as_ref().map(|stop| write_stop(stop, writer.own));
    put(&mut body, "stopReason", stop);
    put(&mut body, "usage", answer.usage.as_ref().map(write_usage));
    if !choice.logprobs.is_empty() {
        writer.dropped.push("logprobs".to_owned());
    }
    writer.others(&mut body, &choice.other, "choices[]");
    if writer.own {
        merge(&mut body, &answer.other);
    } else {
        writer.dropped.extend(answer.other.keys().cloned());
    }
    Ok(Written {
        body: body.into(),
        dropped: writer.dropped,
    })
}
