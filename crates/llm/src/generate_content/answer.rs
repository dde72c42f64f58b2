//! Google generateContent: whole answers, read into the canonical model and written from it.
//!
//! Counts are written from the canonical buckets: details that these do not hold (`serviceTier`,
//! `trafficType`, modalities other than sound and images) and the ids of tokens are not written again.

use super::parts::{PartReader, PartWriter};
use super::{fields, object, one};
use crate::answer::{Answer, Choice, Stop, TokenLogprob};
use crate::canonical::{ConvertError, Fields, Part, PartKind, Written, merge, put};
use crate::format::Format;
use crate::usage::{Usage, of_response};
use serde_json::{Map, Value, json};

/// Reads a whole answer.
///
/// # Errors
/// See [`crate::convert::read_answer`].
pub fn read_answer(body: Value) -> Result<Answer, ConvertError> {
    let usage = of_response(Format::GenerateContent, &body);
    let mut fields = fields(body, "")?;
    fields.take("usageMetadata");
    let id = fields.text("responseId")?.unwrap_or_default();
    let mut choices = Vec::new();
    let candidates = fields.list("candidates")?.unwrap_or_default();
    for (idx, candidate) in candidates.into_iter().enumerate() {
        choices.push(read_candidate(candidate, idx, &id)?);
    }
    if choices.is_empty() && block_reason(&fields.rest).is_some() {
        choices.push(Choice {
            parts: Vec::new(),
            stop: Some(Stop::Refused),
            logprobs: Vec::new(),
            other: Map::new(),
        });
    }
    Ok(Answer {
        format: Format::GenerateContent,
        id,
        model: fields.text("modelVersion")?.unwrap_or_default(),
        created_s: created_s(&fields.rest),
        choices,
        usage,
        other: fields.rest,
    })
}

fn read_candidate(candidate: Value, idx: usize, answer_id: &str) -> Result<Choice, ConvertError> {
    let mut candidate = fields(candidate, &format!("candidates[{idx}]"))?;
    candidate.take("index");
    let mut parts = Vec::new();
    if let Some(mut content) = object(&mut candidate, "content")? {
        content.take("role");
        let list = content.list("parts")?.unwrap_or_default();
        parts = PartReader::new(&call_scope(answer_id, idx)).read_all(list, &content.at("parts"))?;
        candidate.put_back("content", content);
    }
    let is_call = |part: &Part| matches!(part.kind, PartKind::ToolCall { .. });
    let word = read_word(&mut candidate)?;
    let stop = word
        .as_deref()
        .map(|word| read_stop(word, parts.iter().any(is_call)));
    // Several words mean a refusal; which it was is kept for those who read this format.
    if stop == Some(Stop::Refused) && word.as_deref() != Some("SAFETY") {
        put(&mut candidate.rest, "finishReason", word);
    }
    let logprobs = match candidate.take("logprobsResult") {
        Some(result) => read_logprobs(&result),
        None => Vec::new(),
    };
    Ok(Choice {
        parts,
        stop,
        logprobs,
        other: candidate.rest,
    })
}

/// Why a candidate ended; some servers say so with an empty text while it goes on.
pub(super) fn read_word(candidate: &mut Fields) -> Result<Option<String>, ConvertError> {
    Ok(candidate.text("finishReason")?.filter(|word| !word.is_empty()))
}

/// The scope of ids made for the calls of an answer: they must differ from those of other turns.
pub(super) fn call_scope(answer_id: &str, choice: usize) -> String {
    format!("{answer_id}_{choice}_")
}

/// Why nothing was answered at all.
pub(super) fn block_reason(body: &Map<String, Value>) -> Option<&str> {
    body.get("promptFeedback")?.get("blockReason")?.as_str()
}

pub(super) fn read_stop(word: &str, has_call: bool) -> Stop {
    match word {
        "STOP" if has_call => Stop::ToolUse,
        "STOP" => Stop::End,
        "MAX_TOKENS" => Stop::MaxTokens,
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION"
        | "MODEL_ARMOR" => Stop::Refused,
        word => Stop::Other(word.to_owned()),
    }
}

/// The reason in this format. The words of others are unknown here, as `OTHER` says.
pub(super) fn write_stop(stop: &Stop, own: bool) -> &str {
    match stop {
        Stop::End | Stop::Sequence(_) | Stop::ToolUse => "STOP",
        Stop::MaxTokens => "MAX_TOKENS",
        Stop::Refused => "SAFETY",
        Stop::Other(word) if own => word,
        Stop::Other(_) => "OTHER",
    }
}

/// `createTime` of Vertex, such as `2025-05-31T21:32:48.281457Z`, in seconds since 1970.
pub(super) fn created_s(body: &Map<String, Value>) -> Option<u64> {
    let text = body.get("createTime")?.as_str()?.as_bytes();
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = text.get(from..to)?;
        digits.iter().all(u8::is_ascii_digit).then_some(())?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    };
    if text.last() != Some(&b'Z') {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let in_day = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    if year < 1970 || !(1..=12).contains(&month) {
        return None;
    }
    // Days before a year, counted from March so that the leap day is the last of its year.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    // That count on 1970-01-01.
    Some(days.checked_sub(719_469)? * 86400 + in_day)
}

/// `logprobsResult`: what was chosen and, in another list, what might have been.
pub(super) fn read_logprobs(result: &Value) -> Vec<TokenLogprob> {
    let list = |value: &'_ Value| value.as_array().cloned().unwrap_or_default();
    let token = |value: &Value, top: Vec<TokenLogprob>| TokenLogprob {
        token: value["token"].as_str().unwrap_or_default().to_owned(),
        logprob: value["logProbability"].as_f64().unwrap_or(0.0),
        bytes: None,
        top,
    };
    let tops = list(&result["topCandidates"]);
    let chosen = list(&result["chosenCandidates"]);
    let chosen = chosen.iter().enumerate();
    chosen
        .map(|(place, value)| {
            let top = tops
                .get(place)
                .map(|top| list(&top["candidates"]))
                .unwrap_or_default();
            token(value, top.iter().map(|value| token(value, Vec::new())).collect())
        })
        .collect()
}

pub(super) fn write_logprobs(tokens: &[TokenLogprob]) -> Value {
    let token = |token: &TokenLogprob| json!({"token": token.token, "logProbability": token.logprob});
    let mut result = one("chosenCandidates", tokens.iter().map(token).collect::<Value>());
    if tokens.iter().any(|token| !token.top.is_empty()) {
        let top = tokens
            .iter()
            .map(|chosen| json!({"candidates": chosen.top.iter().map(token).collect::<Value>()}));
        result.insert("topCandidates".to_owned(), top.collect());
    }
    result.into()
}

/// Counts in the words of this format: the cache inside the prompt, reasoning beside the answer.
pub(super) fn write_usage(usage: &Usage) -> Value {
    let candidates = usage.total_output() - usage.reasoning.min(usage.total_output());
    let mut counts = one("promptTokenCount", usage.total_input());
    if usage.cache_read > 0 {
        counts.insert("cachedContentTokenCount".to_owned(), usage.cache_read.into());
    }
    if candidates > 0 {
        counts.insert("candidatesTokenCount".to_owned(), candidates.into());
    }
    if usage.reasoning > 0 {
        counts.insert("thoughtsTokenCount".to_owned(), usage.reasoning.into());
    }
    counts.insert("totalTokenCount".to_owned(), usage.total().into());
    for (key, sound, image) in [
        ("promptTokensDetails", usage.input_audio, usage.input_image),
        ("candidatesTokensDetails", usage.output_audio, usage.output_image),
    ] {
        let details = [("AUDIO", sound), ("IMAGE", image)];
        let details = details.iter().filter(|(_, count)| *count > 0);
        let details: Vec<Value> = details
            .map(|(modality, count)| json!({"modality": modality, "tokenCount": count}))
            .collect();
        if !details.is_empty() {
            counts.insert(key.to_owned(), details.into());
        }
    }
    counts.into()
}

/// Writes a whole answer.
///
/// # Errors
/// See [`crate::convert::write_answer`].
pub fn write_answer(answer: &Answer) -> Result<Written, ConvertError> {
    let mut writer = PartWriter::for_answer(answer.format);
    let mut body = Map::new();
    let was_blocked = writer.own && block_reason(&answer.other).is_some();
    let mut candidates = Vec::new();
    for (idx, choice) in answer.choices.iter().enumerate() {
        if was_blocked && choice.parts.is_empty() {
            continue;
        }
        let mut content = one("role", "model");
        content.insert("parts".to_owned(), writer.write_all(&choice.parts)?.into());
        let mut candidate = one("content", content);
        let word = choice.stop.as_ref().map(|stop| write_stop(stop, writer.own));
        put(&mut candidate, "finishReason", word);
        candidate.insert("index".to_owned(), idx.into());
        if !choice.logprobs.is_empty() {
            candidate.insert("logprobsResult".to_owned(), write_logprobs(&choice.logprobs));
        }
        writer.others(&mut candidate, &choice.other, "choices[]");
        candidates.push(Value::Object(candidate));
    }
    if !candidates.is_empty() {
        body.insert("candidates".to_owned(), candidates.into());
    }
    put(&mut body, "usageMetadata", answer.usage.as_ref().map(write_usage));
    put_name(&mut body, "modelVersion", &answer.model);
    put_name(&mut body, "responseId", &answer.id);
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

/// Writes a name unless it is unknown.
pub(super) fn put_name(body: &mut Map<String, Value>, key: &str, name: &str) {
    if !name.is_empty() {
        body.insert(key.to_owned(), name.into());
    }
}
