//! `OpenAI` Completions, the older one: prompts in, text out.
//! <https://platform.openai.com/docs/api-reference/completions>

use serde_json::{Value, json};

use super::{Piece, data};
use crate::lab::provider::answer::{End, Reply};
use crate::lab::provider::ask::{Ask, Part, Role, Turn};
use crate::lab::provider::fields::{Checked, Fields, other, wrong_type};
use crate::lab::provider::tokens::{Usage, runs, tokens};
use crate::lab::random::Random;

const TOP: [&str; 18] = [
    "best_of",
    "echo",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_tokens",
    "model",
    "n",
    "presence_penalty",
    "prompt",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "suffix",
    "temperature",
    "top_p",
    "user",
];
const MAX_TOKENS_DEFAULT: u64 = 16;
const PROMPTS_MAX: usize = 32;

pub(crate) fn read(body: &Value, model_of_path: Option<&str>) -> Checked<Ask> {
    let top = Fields::of(body, "")?;
    top.only(&TOP)?;
    let model = match model_of_path {
        Some(model) => model.to_owned(),
        None => top.need_text("model")?.to_owned(),
    };
    top.number("temperature", 0.0, 2.0)?;
    top.number("top_p", 0.0, 1.0)?;
    top.flag("echo")?;
    let mut ask = Ask {
        model,
        stream: top.flag("stream")?,
        count: top.count("n", 1)?.unwrap_or(1).min(16),
        max_tokens: Some(top.count("max_tokens", 0)?.unwrap_or(MAX_TOKENS_DEFAULT)),
        stops: top.texts("stop")?,
        logprobs: top.count("logprobs", 0)?.map(|number| number.min(5)),
        ..Ask::default()
    };
    let prompts = match top.get("prompt") {
        None => vec!["<|endoftext|>".to_owned()],
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(list)) if list.iter().all(Value::is_number) => vec![of_numbers(list)],
        Some(Value::Array(list)) => {
            let one = |value: &Value| match value {
                Value::String(text) => Ok(text.clone()),
                Value::Array(list) if list.iter().all(Value::is_number) => Ok(of_numbers(list)),
                value => wrong_type("prompt", "a string or an array of strings or tokens", value),
            };
            list.iter().map(one).collect::<Checked<Vec<String>>>()?
        }
        Some(value) => return wrong_type("prompt", "a string or an array of strings or tokens", value),
    };
    if prompts.is_empty() || prompts.len() > PROMPTS_MAX {
        return other(
            "prompt",
            format!("expected 1 to {PROMPTS_MAX} prompts, got {}", prompts.len()),
        );
    }
    let of_prompt = |text: &String| Turn {
        role: Role::User,
        parts: vec![Part::Text(text.clone())],
    };
    if prompts.len() > 1 {
        let base = ask.clone();
        ask.batch = prompts
            .iter()
            .map(|text| Ask {
                turns: vec![of_prompt(text)],
                ..base.clone()
            })
            .collect();
    }
    ask.turns = prompts.iter().map(of_prompt).collect();
    Ok(ask)
}

/// A prompt of token numbers: four letters each, so that it counts as many tokens.
fn of_numbers(list: &[Value]) -> String {
    list.iter()
        .map(|number| format!("{:04x}", number.as_u64().unwrap_or(0) & 0xffff))
        .collect()
}

fn finish_reason(end: &End) -> &'static str {
    if *end == End::Length { "length" } else { "stop" }
}

fn usage(usage: &Usage) -> Value {
    json!({"prompt_tokens": usage.prompt(), "completion_tokens": usage.produced(), "total_tokens": usage.total()})
}

fn logprobs(ask: &Ask, text: &str, from: usize) -> Value {
    let Some(alternatives) = ask.logprobs else {
        return Value::Null;
    };
    let mut at = from;
    let mut found = json!({"text_offset": [], "token_logprobs": [], "tokens": [], "top_logprobs": []});
    let mut push = |key: &str, value: Value| {
        if let Some(list) = found[key].as_array_mut() {
            list.push(value);
        }
    };
    for token in tokens(text) {
        push("text_offset", json!(at));
        push("token_logprobs", json!(-0.125));
        push("tokens", json!(token));
        let top = (0..alternatives).map(|rank| match rank {
            0 => (token.to_owned(), json!(-0.125)),
            rank => (format!("{token}{rank}"), json!(-0.125 - rank as f64)),
        });
        push("top_logprobs", Value::Object(top.collect()));
        at += token.chars().count();
    }
    found
}

pub(crate) fn plain(ask: &Ask, body: &Value, reply: &Reply) -> Value {
    let prompt = if body["echo"] == json!(true) {
        body["prompt"].as_str().unwrap_or_default()
    } else {
        ""
    };
    let choices = reply.answers.iter().enumerate().map(|(idx, answer)| {
        json!({"text": format!("{prompt}{}", answer.text), "index": idx, "logprobs": logprobs(ask, &answer.text, 0),
            "finish_reason": finish_reason(&answer.end)})
    });
    json!({
        "id": format!("cmpl-{}", reply.id),
        "object": "text_completion",
        "created": reply.created,
        "model": ask.model,
        "choices": choices.collect::<Vec<_>>(),
        "usage": usage(&reply.usage),
    })
}

pub(crate) fn stream(ask: &Ask, body: &Value, reply: &Reply) -> Vec<Piece> {
    let has_usage = body["stream_options"]["include_usage"] == json!(true);
    let chunk = |choices: Value, usage: Value| {
        let mut chunk = json!({"id": format!("cmpl-{}", reply.id), "object": "text_completion",
            "created": reply.created, "choices": choices, "model": ask.model});
        if has_usage {
            chunk["usage"] = usage;
        }
        data(&chunk)
    };
    let mut random = Random::new(13, &reply.id);
    let mut pieces = Vec::new();
    for (idx, answer) in reply.answers.iter().enumerate() {
        let mut at = 0;
        for (run, tokens) in runs(&answer.text, &mut random) {
            let choice =
                json!({"text": run, "index": idx, "logprobs": logprobs(ask, run, at), "finish_reason": null});
            pieces.push(chunk(json!([choice]), Value::Null).output(tokens));
            at += run.chars().count();
        }
        let end =
            json!({"text": "", "index": idx, "logprobs": null, "finish_reason": finish_reason(&answer.end)});
        pieces.push(chunk(json!([end]), Value::Null));
    }
    if has_usage {
        pieces.push(chunk(json!([]), usage(&reply.usage)));
    }
    pieces.push(Piece::new("data: [DONE]\n\n"));
    pieces
}
