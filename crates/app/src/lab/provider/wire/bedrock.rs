//! Amazon Bedrock's Converse.
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html>, `API_runtime_ConverseStream`
//!
//! Fields that the API does not know are ignored, as the service's own reader does.

use base64::Engine;
use serde_json::{Value, json};

use super::Piece;
use crate::lab::provider::answer::{Answer, End, Reply, letters};
use crate::lab::provider::ask::{Ask, Choice, Format, Kind, Media, Part, Prefix, Role, Tool, Turn};
use crate::lab::provider::event_stream::frame;
use crate::lab::provider::fields::{Checked, Fields, What, not_one_of, other, problem};
use crate::lab::provider::tokens::{Usage, count, runs};
use crate::lab::random::Random;

pub(crate) fn read(body: &Value, model: &str, stream: bool) -> Checked<Ask> {
    let top = Fields::of(body, "")?;
    let mut ask = Ask {
        model: model.to_owned(),
        stream,
        count: 1,
        ..Ask::default()
    };
    if let Some(config) = top.object("inferenceConfig")? {
        ask.max_tokens = config.count("maxTokens", 1)?;
        config.number("temperature", 0.0, 1.0)?;
        config.number("topP", 0.0, 1.0)?;
        config.list("stopSequences")?;
        ask.stops = config.texts("stopSequences")?;
    }
    if let Some(more) = top.object("additionalModelRequestFields")? {
        for key in ["thinking", "reasoning_config", "reasoningConfig"] {
            if let Some(thinking) = more.object(key)? {
                ask.reasoning = matches!(thinking.text("type")?, Some("enabled" | "adaptive"));
            }
        }
        ask.reasoning |= more
            .text("reasoning_effort")?
            .is_some_and(|effort| effort != "none");
    }
    ask.format = read_format(&top)?;
    let mut prefix = Prefix::default();
    read_tools(&top, &mut ask, &mut prefix)?;
    for block in top.objects("system")? {
        match block.text("text")? {
            Some(text) => {
                ask.system.push(text.to_owned());
                prefix.add(text, count(text));
            }
            None => mark(&block, &mut prefix)?,
        }
    }
    read_messages(&top, &mut ask, &mut prefix)?;
    ask.cached = prefix.marks;
    Ok(ask)
}

fn mark(block: &Fields, prefix: &mut Prefix) -> Checked<()> {
    if let Some(point) = block.object("cachePoint")? {
        point.need_text("type")?;
        prefix.mark(point.one_of("ttl", &["5m", "1h"])? == Some("1h"));
    }
    Ok(())
}

fn read_format(top: &Fields) -> Checked<Format> {
    let Some(format) = top
        .object("outputConfig")?
        .map(|config| config.object("textFormat"))
        .transpose()?
        .flatten()
    else {
        return Ok(Format::Text);
    };
    format.one_of("type", &["json_schema"])?;
    let schema = format
        .object("structure")?
        .map(|structure| structure.object("jsonSchema"))
        .transpose()?
        .flatten();
    let Some(schema) = schema else {
        return problem(format.path("structure"), What::Missing);
    };
    match serde_json::from_str(schema.need_text("schema")?) {
        Ok(schema) => Ok(Format::Schema(schema)),
        Err(error) => other(
            schema.path("schema"),
            format!("The JSON schema is not JSON: {error}"),
        ),
    }
}

fn read_tools(top: &Fields, ask: &mut Ask, prefix: &mut Prefix) -> Checked<()> {
    let Some(config) = top.object("toolConfig")? else {
        return Ok(());
    };
    for tool in config.objects("tools")? {
        let Some(spec) = tool.object("toolSpec")? else {
            mark(&tool, prefix)?;
            continue;
        };
        let name = spec.need_text("name")?;
        let Some(holder) = spec.object("inputSchema")? else {
            return problem(spec.path("inputSchema"), What::Missing);
        };
        let schema = holder.need("json")?.clone();
        let description = spec.text("description")?.unwrap_or_default();
        let tokens = count(name) + count(description) + count(&schema.to_string());
        prefix.add(&format!("{name}{schema}"), tokens);
        ask.tools.push(Tool {
            name: name.to_owned(),
            schema,
            tokens,
        });
    }
    if let Some(choice) = config.object("toolChoice")? {
        ask.choice = match choice.object("tool")? {
            Some(tool) => Choice::Named(tool.need_text("name")?.to_owned()),
            None if choice.has("any") => Choice::Must,
            None => Choice::Auto,
        };
    }
    Ok(())
}

fn read_messages(top: &Fields, ask: &mut Ask, prefix: &mut Prefix) -> Checked<()> {
    let messages = top.objects("messages")?;
    if messages.is_empty() {
        return other("messages", "The messages list must not be empty.");
    }
    let mut waiting: Vec<String> = Vec::new();
    let mut before = None;
    for (idx, message) in messages.iter().enumerate() {
        let role = match message.need_text("role")? {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            role => return problem(message.path("role"), not_one_of(role, &["user", "assistant"])),
        };
        if before.is_none() && role == Role::Assistant {
            return other(
                message.own_path(),
                "A conversation must start with a user message. Try again with a conversation that starts with a user message.",
            );
        }
        if before == Some(role) {
            return other(
                message.own_path(),
                "A conversation must alternate between user and assistant roles. Make sure the conversation alternates between user and assistant roles and try again.",
            );
        }
        before = Some(role);
        let blocks = message.objects("content")?;
        if blocks.is_empty() {
            return other(
                message.path("content"),
                format!(
                    "The content field in the Message object at messages.{idx} is empty. Add a ContentBlock object to the content field and try again."
                ),
            );
        }
        let mut turn = Turn {
            role,
            parts: Vec::new(),
        };
        let mut calls = Vec::new();
        for block in &blocks {
            mark(block, prefix)?;
            if let Some(part) = read_block(block, idx, &mut calls, &mut waiting)? {
                prefix.add(&format!("{part:?}"), part.tokens());
                turn.parts.push(part);
            }
        }
        if role == Role::User && !waiting.is_empty() {
            return other(
                message.own_path(),
                format!(
                    "Expected toolResult blocks at messages.{idx}.content for the following Ids: {}",
                    waiting.join(", ")
                ),
            );
        }
        if (!calls.is_empty() || turn.parts.iter().any(|part| matches!(part, Part::Result(_))))
            && !top.has("toolConfig")
        {
            return other(
                "toolConfig",
                "The toolConfig field must be defined when using toolUse and toolResult content blocks.",
            );
        }
        if role == Role::Assistant {
            waiting = calls;
        }
        ask.turns.push(turn);
    }
    Ok(())
}

fn read_block(
    block: &Fields,
    message: usize,
    calls: &mut Vec<String>,
    waiting: &mut Vec<String>,
) -> Checked<Option<Part>> {
    if let Some(text) = block.text("text")? {
        return Ok(Some(Part::Text(text.to_owned())));
    }
    for (key, family) in [
        ("image", "image"),
        ("document", ""),
        ("video", "video"),
        ("audio", "audio"),
    ] {
        if let Some(media) = block.object(key)? {
            return read_media(&media, family).map(|media| Some(Part::Media(media)));
        }
    }
    if let Some(call) = block.object("toolUse")? {
        calls.push(call.need_text("toolUseId")?.to_owned());
        return Ok(Some(Part::Call {
            name: call.need_text("name")?.to_owned(),
            arguments: call.need("input")?.to_string(),
        }));
    }
    if let Some(result) = block.object("toolResult")? {
        let id = result.need_text("toolUseId")?;
        let Some(at) = waiting.iter().position(|one| one == id) else {
            return other(
                block.own_path(),
                format!(
                    "The number of toolResult blocks at messages.{message}.content exceeds the number of toolUse blocks of previous turn."
                ),
            );
        };
        waiting.remove(at);
        result.one_of("status", &["success", "error"])?;
        let mut texts = Vec::new();
        for inner in result.objects("content")? {
            match (inner.text("text")?, inner.get("json")) {
                (Some(text), _) => texts.push(text.to_owned()),
                (None, Some(value)) => texts.push(value.to_string()),
                (None, None) => {}
            }
        }
        return Ok(Some(Part::Result(texts.join("\n"))));
    }
    if let Some(reasoning) = block.object("reasoningContent")? {
        let thought = reasoning
            .object("reasoningText")?
            .map(|inner| inner.need_text("text"))
            .transpose()?;
        return Ok(thought.map(|thought| Part::Reasoning(thought.to_owned())));
    }
    if ["cachePoint", "guardContent", "citationsContent", "searchResult"]
        .iter()
        .any(|key| block.has(key))
    {
        return Ok(None);
    }
    other(
        block.own_path(),
        format!(
            "The content block at messages.{message}.content has none of the members of ContentBlock set."
        ),
    )
}

fn read_media(media: &Fields, family: &str) -> Checked<Media> {
    let format = media.text("format")?.unwrap_or("txt");
    let media_type = match (family, format) {
        ("", "txt") => "text/plain".to_owned(),
        ("", "md") => "text/markdown".to_owned(),
        ("", "html" | "csv") => format!("text/{format}"),
        ("", other) => format!("application/{other}"),
        (family, "jpg") => format!("{family}/jpeg"),
        (family, other) => format!("{family}/{other}"),
    };
    let Some(source) = media.object("source")? else {
        return problem(media.path("source"), What::Missing);
    };
    let said = if let Some(data) = source.text("bytes")? {
        match base64::engine::general_purpose::STANDARD.decode(data) {
            Ok(bytes) => format!("{media_type} {} bytes", bytes.len()),
            Err(_) => return other(source.path("bytes"), "bytes: expected base64"),
        }
    } else if let Some(text) = source.text("text")? {
        format!("{media_type} {} bytes", text.len())
    } else if let Some(place) = source.object("s3Location")? {
        format!("at {}", place.need_text("uri")?)
    } else {
        return problem(source.path("bytes"), What::Missing);
    };
    Ok(Media {
        kind: if family.is_empty() {
            Kind::File
        } else {
            Kind::of(&media_type)
        },
        said,
    })
}

fn stop_reason(end: &End) -> &'static str {
    match end {
        End::Stop => "end_turn",
        End::Sequence(_) => "stop_sequence",
        End::Length => "max_tokens",
        End::Calls => "tool_use",
    }
}

fn usage(usage: &Usage) -> Value {
    let mut shown = json!({
        "inputTokens": usage.uncached(),
        "outputTokens": usage.produced(),
        "totalTokens": usage.total(),
        "cacheReadInputTokens": usage.cache_read,
        "cacheReadInputTokenCount": usage.cache_read,
        "cacheWriteInputTokens": usage.cache_write(),
        "cacheWriteInputTokenCount": usage.cache_write(),
        "serverToolUsage": {},
    });
    if usage.cache_write() > 0 {
        let of = |ttl: &str, tokens: u64| json!({"inputTokens": tokens, "ttl": ttl});
        let details = [("5m", usage.cache_write_5m), ("1h", usage.cache_write_1h)];
        shown["cacheDetails"] = details
            .iter()
            .filter(|(_, tokens)| *tokens > 0)
            .map(|(ttl, tokens)| of(ttl, *tokens))
            .collect();
    }
    shown
}

fn signature(thought: &str) -> String {
    letters(&mut Random::new(17, thought), 40)
}

fn call_id(id: &str) -> String {
    format!("tooluse_{}", &id[..22])
}

fn latency_ms(reply: &Reply) -> u32 {
    100 + Random::new(18, &reply.id).below(900)
}

pub(crate) fn plain(reply: &Reply) -> Value {
    let none = Answer::default();
    let answer = reply.answers.first().unwrap_or(&none);
    let mut content = Vec::new();
    if let Some(thought) = &answer.reasoning {
        content.push(json!({"reasoningContent": {"reasoningText": {"text": thought, "signature": signature(thought)}}}));
    }
    if !answer.text.is_empty() {
        content.push(json!({"text": answer.text}));
    }
    for call in &answer.calls {
        content.push(
            json!({"toolUse": {"toolUseId": call_id(&call.id), "name": call.name, "input": call.arguments}}),
        );
    }
    json!({
        "metrics": {"latencyMs": latency_ms(reply)},
        "output": {"message": {"content": content, "role": "assistant"}},
        "stopReason": stop_reason(&answer.end),
        "usage": usage(&reply.usage),
    })
}

/// One event; `p` pads it to a length that tells nothing.
fn framed(kind: &str, mut payload: Value, random: &mut Random) -> Piece {
    const PADDING: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    payload["p"] = json!(PADDING[..1 + random.below(61) as usize]);
    let headers = [
        (":event-type", kind),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ];
    Piece::new(frame(&headers, payload.to_string().as_bytes()))
}

pub(crate) fn stream(reply: &Reply) -> Vec<Piece> {
    let none = Answer::default();
    let answer = reply.answers.first().unwrap_or(&none);
    let mut random = Random::new(19, &reply.id);
    let mut text_runs = Random::new(20, &reply.id);
    let mut pieces = vec![framed("messageStart", json!({"role": "assistant"}), &mut random)];
    let mut index = 0;
    let delta = |index: usize, delta: Value| json!({"contentBlockIndex": index, "delta": delta});
    let stop = |index: usize| json!({"contentBlockIndex": index});
    if let Some(thought) = &answer.reasoning {
        for (run, tokens) in runs(thought, &mut text_runs) {
            let part = delta(index, json!({"reasoningContent": {"text": run}}));
            pieces.push(framed("contentBlockDelta", part, &mut random).reasoning(tokens));
        }
        let part = delta(
            index,
            json!({"reasoningContent": {"signature": signature(thought)}}),
        );
        pieces.push(framed("contentBlockDelta", part, &mut random));
        pieces.push(framed("contentBlockStop", stop(index), &mut random));
        index += 1;
    }
    if !answer.text.is_empty() {
        for (run, tokens) in runs(&answer.text, &mut text_runs) {
            let part = delta(index, json!({"text": run}));
            pieces.push(framed("contentBlockDelta", part, &mut random).output(tokens));
        }
        pieces.push(framed("contentBlockStop", stop(index), &mut random));
        index += 1;
    }
    for call in &answer.calls {
        let start = json!({"contentBlockIndex": index,
            "start": {"toolUse": {"toolUseId": call_id(&call.id), "name": call.name}}});
        pieces.push(framed("contentBlockStart", start, &mut random).output(count(&call.name)));
        for (run, tokens) in runs(&call.arguments.to_string(), &mut text_runs) {
            let part = delta(index, json!({"toolUse": {"input": run}}));
            pieces.push(framed("contentBlockDelta", part, &mut random).output(tokens));
        }
        pieces.push(framed("contentBlockStop", stop(index), &mut random));
        index += 1;
    }
    pieces.push(framed(
        "messageStop",
        json!({"stopReason": stop_reason(&answer.end)}),
        &mut random,
    ));
    let end = json!({"metrics": {"latencyMs": latency_ms(reply)}, "usage": usage(&reply.usage)});
    pieces.push(framed("metadata", end, &mut random));
    pieces
}

pub(crate) fn stream_error() -> Piece {
    let headers = [
        (":exception-type", "modelStreamErrorException"),
        (":content-type", "application/json"),
        (":message-type", "exception"),
    ];
    let payload = json!({"message": "The model has encountered an error in processing the stream.", "originalStatusCode": 500});
    Piece::new(frame(&headers, payload.to_string().as_bytes()))
}
