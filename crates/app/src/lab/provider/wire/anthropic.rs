//! Anthropic Messages.
//! <https://docs.anthropic.com/en/api/messages>, `/messages-streaming`, `/messages-count-tokens`

use serde_json::{Value, json};

use super::{Piece, event};
use crate::lab::provider::answer::{Answer, End, Reply, letters};
use crate::lab::provider::ask::{
    Ask, Choice, Format, Kind, Media, Part, Prefix, Role, Tool, Turn, decoded_media,
};
use crate::lab::provider::fields::{Checked, Fields, not_one_of, other, problem, wrong_type};
use crate::lab::provider::tokens::{Usage, count, runs};
use crate::lab::random::Random;

const TOP: [&str; 21] = [
    "cache_control",
    "container",
    "context_management",
    "inference_geo",
    "max_tokens",
    "mcp_servers",
    "messages",
    "metadata",
    "model",
    "output_config",
    "output_format",
    "service_tier",
    "speed",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
];

/// Reads a call of `/v1/messages`, or of `count_tokens`, which needs no `max_tokens`.
pub(crate) fn read(body: &Value, is_count: bool) -> Checked<Ask> {
    let top = Fields::of(body, "")?;
    let mut allowed = TOP.to_vec();
    allowed.push("top_p");
    top.only(&allowed)?;
    let mut ask = Ask {
        model: top.need_text("model")?.to_owned(),
        stream: top.flag("stream")?,
        count: 1,
        ..Ask::default()
    };
    ask.max_tokens = top.count("max_tokens", 1)?;
    if !is_count {
        top.need("max_tokens")?;
    }
    top.number("temperature", 0.0, 1.0)?;
    top.number("top_p", 0.0, 1.0)?;
    top.count("top_k", 0)?;
    if let Some(metadata) = top.object("metadata")? {
        metadata.only(&["user_id"])?;
        metadata.text("user_id")?;
    }
    top.list("stop_sequences")?;
    ask.stops = top.texts("stop_sequences")?;
    read_thinking(&top, &mut ask)?;
    ask.format = read_format(&top)?;
    let mut prefix = Prefix::default();
    // The order of the prompt, which is the order of caching.
    read_tools(&top, &mut ask, &mut prefix)?;
    ask.choice = read_choice(&top)?;
    read_system(&top, &mut ask, &mut prefix)?;
    read_messages(&top, &mut ask, &mut prefix)?;
    if let Some(control) = top.object("cache_control")? {
        // For the whole prompt: a mark at its end.
        mark(&mut prefix, &control)?;
    }
    ask.cached = prefix.marks;
    Ok(ask)
}

/// Adds a block to the prompt's prefix, and a mark behind it where it has one.
fn add(prefix: &mut Prefix, block: &Fields, value: &Value, tokens: u64) -> Checked<()> {
    let mut bare = value.clone();
    if let Some(map) = bare.as_object_mut() {
        map.shift_remove("cache_control");
    }
    prefix.add(&bare.to_string(), tokens);
    match block.object("cache_control")? {
        Some(control) => mark(prefix, &control),
        None => Ok(()),
    }
}

fn mark(prefix: &mut Prefix, control: &Fields) -> Checked<()> {
    control.only(&["type", "ttl"])?;
    control.need_text("type")?;
    control.one_of("type", &["ephemeral"])?;
    let ttl = control.one_of("ttl", &["5m", "1h"])?;
    if prefix.marks.len() == 4 {
        return other(
            "",
            "A maximum of 4 blocks with cache_control may be provided. Found 5.",
        );
    }
    prefix.mark(ttl == Some("1h"));
    Ok(())
}

fn read_thinking(top: &Fields, ask: &mut Ask) -> Checked<()> {
    let Some(thinking) = top.object("thinking")? else {
        return Ok(());
    };
    thinking.only(&["type", "budget_tokens", "display"])?;
    match thinking.need_text("type")? {
        "disabled" => {}
        "adaptive" => ask.reasoning = true,
        "enabled" => {
            ask.reasoning = true;
            thinking.need("budget_tokens")?;
            let budget = thinking.count("budget_tokens", 0)?.unwrap_or(0);
            if budget < 1024 {
                return other(
                    "thinking.enabled.budget_tokens",
                    "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
                );
            }
            if ask.max_tokens.is_some_and(|most| most <= budget) {
                return other(
                    "max_tokens",
                    "`max_tokens` must be greater than `thinking.budget_tokens`.",
                );
            }
            if top
                .get("temperature")
                .is_some_and(|heat| heat.as_f64() != Some(1.0))
            {
                return other(
                    "temperature",
                    "`temperature` may only be set to 1 when thinking is enabled.",
                );
            }
        }
        kind => {
            return problem(
                "thinking.type",
                not_one_of(kind, &["enabled", "disabled", "adaptive"]),
            );
        }
    }
    Ok(())
}

fn read_format(top: &Fields) -> Checked<Format> {
    let from = |holder: &Fields, key: &str| -> Checked<Option<Format>> {
        let Some(format) = holder.object(key)? else {
            return Ok(None);
        };
        format.need_text("type")?;
        format.one_of("type", &["json_schema"])?;
        Ok(Some(Format::Schema(format.need("schema")?.clone())))
    };
    if let Some(config) = top.object("output_config")? {
        config.only(&["effort", "format", "task_budget"])?;
        if let Some(format) = from(&config, "format")? {
            return Ok(format);
        }
    }
    Ok(from(top, "output_format")?.unwrap_or_default())
}

fn read_tools(top: &Fields, ask: &mut Ask, prefix: &mut Prefix) -> Checked<()> {
    let list = top.list("tools")?.unwrap_or_default();
    for (tool, value) in top.objects("tools")?.iter().zip(list) {
        let mut tokens = 0;
        if tool.text("type")?.is_none_or(|kind| kind == "custom") {
            tool.only(&[
                "type",
                "name",
                "description",
                "input_schema",
                "cache_control",
                "strict",
                "defer_loading",
                "eager_input_streaming",
                "input_examples",
                "allowed_callers",
            ])?;
            tool.need("input_schema")?;
            let name = tool.need_text("name")?;
            let schema = tool.need("input_schema")?.clone();
            tool.object("input_schema")?;
            let description = tool.text("description")?.unwrap_or_default();
            tokens = count(name) + count(description) + count(&schema.to_string());
            ask.tools.push(Tool {
                name: name.to_owned(),
                schema,
                tokens,
            });
        } else if tool.text("type")? != Some("mcp_toolset") {
            tool.need_text("name")?;
        }
        add(prefix, tool, value, tokens)?;
    }
    Ok(())
}

fn read_choice(top: &Fields) -> Checked<Choice> {
    let Some(choice) = top.object("tool_choice")? else {
        return Ok(Choice::Auto);
    };
    choice.only(&["type", "name", "disable_parallel_tool_use"])?;
    let found = match choice.need_text("type")? {
        "auto" => Choice::Auto,
        "any" => Choice::Must,
        "none" => Choice::Never,
        "tool" => Choice::Named(choice.need_text("name")?.to_owned()),
        kind => {
            return problem(
                "tool_choice.type",
                not_one_of(kind, &["auto", "any", "tool", "none"]),
            );
        }
    };
    if !top.has("tools") && found != Choice::Never && found != Choice::Auto {
        return other(
            "tool_choice",
            "tool_choice may only be specified while providing tools.",
        );
    }
    Ok(found)
}

fn read_system(top: &Fields, ask: &mut Ask, prefix: &mut Prefix) -> Checked<()> {
    match top.get("system") {
        None => {}
        Some(Value::String(text)) => {
            ask.system.push(text.clone());
            prefix.add(text, count(text));
        }
        Some(Value::Array(list)) => {
            for (block, value) in top.objects("system")?.iter().zip(list) {
                block.only(&["type", "text", "cache_control", "citations"])?;
                block.need_text("type")?;
                block.one_of("type", &["text"])?;
                let text = block.need_text("text")?;
                ask.system.push(text.to_owned());
                add(prefix, block, value, count(text))?;
            }
        }
        Some(value) => return wrong_type("system", "a string", value),
    }
    Ok(())
}

fn read_messages(top: &Fields, ask: &mut Ask, prefix: &mut Prefix) -> Checked<()> {
    top.need("messages")?;
    let messages = top.objects("messages")?;
    if messages.is_empty() {
        return other("messages", "messages: at least one message is required");
    }
    // Calls of the assistant turn before, which this turn must answer.
    let mut waiting: Vec<String> = Vec::new();
    for message in &messages {
        message.only(&["role", "content"])?;
        let role = match message.need_text("role")? {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            // In the midst of a conversation, which newer models take.
            "system" => Role::Tool,
            role => return problem(message.path("role"), not_one_of(role, &["user", "assistant"])),
        };
        let mut turn = Turn {
            role,
            parts: Vec::new(),
        };
        let mut calls = Vec::new();
        let content = message.need("content")?;
        match content {
            Value::String(text) => {
                turn.parts.push(Part::Text(text.clone()));
                prefix.add(text, count(text));
            }
            Value::Array(list) => {
                for (block, value) in message.objects("content")?.iter().zip(list) {
                    let part = read_block(block, role, &mut calls, &mut waiting)?;
                    let tokens = part.as_ref().map_or(0, Part::tokens);
                    turn.parts.extend(part);
                    add(prefix, block, value, tokens)?;
                }
            }
            value => return wrong_type(message.path("content"), "an array", value),
        }
        if role == Role::User && !waiting.is_empty() {
            return other(
                message.own_path(),
                format!(
                    "{}: `tool_use` ids were found without `tool_result` blocks immediately after: {}. Each `tool_use` block must have a corresponding `tool_result` block in the next message.",
                    message.own_path().replace('[', ".").replace(']', ""),
                    waiting.join(", ")
                ),
            );
        }
        if role == Role::Assistant {
            waiting = calls;
        }
        if role == Role::Tool {
            let texts = turn.parts.iter().filter_map(|part| match part {
                Part::Text(text) => Some(text.clone()),
                _ => None,
            });
            ask.system.extend(texts);
        } else {
            ask.turns.push(turn);
        }
    }
    if !waiting.is_empty() {
        return other(
            "messages",
            format!(
                "messages: `tool_use` ids were found without `tool_result` blocks immediately after: {}.",
                waiting.join(", ")
            ),
        );
    }
    Ok(())
}

/// A block of content; `None` for those of server tools, which the simulator lets pass unread.
fn read_block(
    block: &Fields,
    role: Role,
    calls: &mut Vec<String>,
    waiting: &mut Vec<String>,
) -> Checked<Option<Part>> {
    let kind = block.need_text("type")?;
    match kind {
        "text" => {
            block.only(&["type", "text", "cache_control", "citations"])?;
            let text = block.need_text("text")?;
            if text.is_empty() {
                return other(
                    block.path("text"),
                    "messages: text content blocks must be non-empty",
                );
            }
            Ok(Some(Part::Text(text.to_owned())))
        }
        "image" | "document" => read_media(block, kind).map(Some),
        "tool_use" if role == Role::Assistant => {
            block.only(&["type", "id", "name", "input", "cache_control", "caller"])?;
            calls.push(block.need_text("id")?.to_owned());
            block.need("input")?;
            block.object("input")?;
            Ok(Some(Part::Call {
                name: block.need_text("name")?.to_owned(),
                arguments: block.need("input")?.to_string(),
            }))
        }
        "tool_result" if role == Role::User => {
            block.only(&["type", "tool_use_id", "content", "is_error", "cache_control"])?;
            let id = block.need_text("tool_use_id")?;
            block.flag("is_error")?;
            let Some(at) = waiting.iter().position(|one| one == id) else {
                return other(
                    block.own_path(),
                    format!(
                        "{}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must have a corresponding `tool_use` block in the previous message.",
                        block.own_path().replace('[', ".").replace(']', "")
                    ),
                );
            };
            waiting.remove(at);
            let text = match block.get("content") {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Array(_)) => {
                    let inner = block.objects("content")?;
                    let texts: Vec<&str> = inner
                        .iter()
                        .filter_map(|one| one.text("text").ok().flatten())
                        .collect();
                    texts.join("\n")
                }
                _ => String::new(),
            };
            Ok(Some(Part::Result(text)))
        }
        "thinking" if role == Role::Assistant => {
            block.only(&["type", "thinking", "signature"])?;
            let thought = block.need_text("thinking")?;
            let signature = block.need_text("signature")?;
            // Those of the real API cannot be known here; our own must come back as they went out.
            if signature.starts_with("sim-") && signature != sign(thought) {
                return other(
                    block.own_path(),
                    format!(
                        "{}: Invalid `signature` in `thinking` block",
                        block.own_path().replace('[', ".").replace(']', "")
                    ),
                );
            }
            Ok(Some(Part::Reasoning(thought.to_owned())))
        }
        "redacted_thinking" if role == Role::Assistant => {
            block.need_text("data")?;
            Ok(None)
        }
        "tool_use" | "tool_result" | "thinking" | "redacted_thinking" => other(
            block.own_path(),
            format!(
                "{}: `{kind}` blocks are not allowed in this role",
                block.own_path()
            ),
        ),
        kind if kind.starts_with("server_tool_use")
            || kind.starts_with("mcp_tool_")
            || kind.ends_with("_tool_result")
            || matches!(
                kind,
                "search_result" | "container_upload" | "tool_addition" | "tool_removal"
            ) =>
        {
            Ok(None)
        }
        kind => problem(
            block.path("type"),
            not_one_of(
                kind,
                &[
                    "text",
                    "image",
                    "document",
                    "tool_use",
                    "tool_result",
                    "thinking",
                    "redacted_thinking",
                    "search_result",
                ],
            ),
        ),
    }
}

fn read_media(block: &Fields, kind: &str) -> Checked<Part> {
    block.only(&["type", "source", "cache_control", "title", "context", "citations"])?;
    block.need("source")?;
    let at = block.path("source");
    let Some(source) = block.object("source")? else {
        return problem(at, crate::lab::provider::fields::What::Missing);
    };
    let kind = if kind == "image" { Kind::Image } else { Kind::File };
    let said = match source.need_text("type")? {
        "base64" => {
            let media = decoded_media(source.need_text("media_type")?, source.need_text("data")?);
            match media {
                Some(media) => media.said,
                None => {
                    return other(
                        source.path("data"),
                        format!("{}: invalid base64 data", source.path("data")),
                    );
                }
            }
        }
        "text" => format!(
            "{} {} bytes",
            source.need_text("media_type")?,
            source.need_text("data")?.len()
        ),
        "url" => format!("at {}", source.need_text("url")?),
        "file" => format!("id {}", source.need_text("file_id")?),
        "content" => "of content blocks".to_owned(),
        other => {
            return problem(
                source.path("type"),
                not_one_of(other, &["base64", "text", "url", "file", "content"]),
            );
        }
    };
    Ok(Part::Media(Media { kind, said }))
}

/// The signature under a thought, which must come back unchanged.
fn sign(thought: &str) -> String {
    format!("sim-{}", letters(&mut Random::new(7, thought), 40))
}

pub(crate) fn count_tokens(ask: &Ask) -> Value {
    json!({"input_tokens": ask.prompt().prompt()})
}

fn stop_reason(end: &End) -> &'static str {
    match end {
        End::Stop => "end_turn",
        End::Sequence(_) => "stop_sequence",
        End::Length => "max_tokens",
        End::Calls => "tool_use",
    }
}

fn stop_sequence(end: &End) -> Value {
    match end {
        End::Sequence(text) => json!(text),
        _ => Value::Null,
    }
}

fn usage(usage: &Usage, output: u64) -> Value {
    let mut shown = json!({
        "input_tokens": usage.uncached(),
        "cache_creation_input_tokens": usage.cache_write(),
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {"ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h},
        "output_tokens": output,
        "service_tier": "standard",
        "inference_geo": "not_available",
    });
    if output == usage.produced() && usage.reasoning > 0 {
        shown["output_tokens_details"] = json!({"thinking_tokens": usage.reasoning});
    }
    shown
}

fn call_id(id: &str) -> String {
    format!("toolu_01{}", &id[..22])
}

pub(crate) fn plain(ask: &Ask, reply: &Reply) -> Value {
    let none = Answer::default();
    let answer = reply.answers.first().unwrap_or(&none);
    let mut content = Vec::new();
    if let Some(thought) = &answer.reasoning {
        content.push(json!({"type": "thinking", "thinking": thought, "signature": sign(thought)}));
    }
    if !answer.text.is_empty() {
        content.push(json!({"type": "text", "text": answer.text}));
    }
    for call in &answer.calls {
        content.push(
            json!({"type": "tool_use", "id": call_id(&call.id), "name": call.name, "input": call.arguments}),
        );
    }
    json!({
        "model": ask.model,
        "id": format!("msg_01{}", &reply.id[..22]),
        "type": "message",
        "role": "assistant",
        "content": content,
        "stop_reason": stop_reason(&answer.end),
        "stop_sequence": stop_sequence(&answer.end),
        "usage": usage(&reply.usage, reply.usage.produced()),
    })
}

/// The real API pads its data lines with blanks, which a reader must bear.
fn padded(name: &str, value: &Value, random: &mut Random) -> Piece {
    let blanks = " ".repeat(random.below(16) as usize);
    Piece::new(format!("event: {name}\ndata: {value}{blanks}\n\n"))
}

pub(crate) fn stream(ask: &Ask, reply: &Reply) -> Vec<Piece> {
    let none = Answer::default();
    let answer = reply.answers.first().unwrap_or(&none);
    let mut random = Random::new(2, &reply.id);
    let mut pieces = Vec::new();
    let message = json!({
        "model": ask.model,
        "id": format!("msg_01{}", &reply.id[..22]),
        "type": "message",
        "role": "assistant",
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
        "usage": usage(&reply.usage.of_prompt(), 1),
    });
    pieces.push(padded(
        "message_start",
        &json!({"type": "message_start", "message": message}),
        &mut random,
    ));
    let mut blocks = Blocks {
        index: 0,
        pieces: &mut pieces,
        random: &mut random,
    };
    if let Some(thought) = &answer.reasoning {
        blocks.start(&json!({"type": "thinking", "thinking": "", "signature": ""}), 0);
        for (run, tokens) in runs(thought, &mut Random::new(3, &reply.id)) {
            blocks.delta(&json!({"type": "thinking_delta", "thinking": run}), (0, tokens));
        }
        blocks.delta(
            &json!({"type": "signature_delta", "signature": sign(thought)}),
            (0, 0),
        );
        blocks.stop();
    }
    if !answer.text.is_empty() {
        blocks.start(&json!({"type": "text", "text": ""}), 0);
        for (run, tokens) in runs(&answer.text, &mut Random::new(4, &reply.id)) {
            blocks.delta(&json!({"type": "text_delta", "text": run}), (tokens, 0));
        }
        blocks.stop();
    }
    for call in &answer.calls {
        let start = json!({"type": "tool_use", "id": call_id(&call.id), "name": call.name, "input": {}});
        blocks.start(&start, count(&call.name));
        blocks.delta(&json!({"type": "input_json_delta", "partial_json": ""}), (0, 0));
        for (run, tokens) in runs(&call.arguments.to_string(), &mut Random::new(5, &call.id)) {
            blocks.delta(
                &json!({"type": "input_json_delta", "partial_json": run}),
                (tokens, 0),
            );
        }
        blocks.stop();
    }
    let delta = json!({"type": "message_delta",
        "delta": {"stop_reason": stop_reason(&answer.end), "stop_sequence": stop_sequence(&answer.end)},
        "usage": usage_delta(&reply.usage)});
    pieces.push(padded("message_delta", &delta, &mut random));
    pieces.push(padded(
        "message_stop",
        &json!({"type": "message_stop"}),
        &mut random,
    ));
    pieces
}

/// Cumulative, at the end of a stream.
fn usage_delta(usage: &Usage) -> Value {
    let mut shown = json!({
        "input_tokens": usage.uncached(),
        "cache_creation_input_tokens": usage.cache_write(),
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": usage.produced(),
    });
    if usage.reasoning > 0 {
        shown["output_tokens_details"] = json!({"thinking_tokens": usage.reasoning});
    }
    shown
}

struct Blocks<'a> {
    index: usize,
    pieces: &'a mut Vec<Piece>,
    random: &'a mut Random,
}

impl Blocks<'_> {
    fn start(&mut self, block: &Value, output: u64) {
        let start = json!({"type": "content_block_start", "index": self.index, "content_block": block});
        self.pieces
            .push(padded("content_block_start", &start, self.random).output(output));
        if self.index == 0 {
            self.pieces.push(event("ping", &json!({"type": "ping"})));
        }
    }

    fn delta(&mut self, delta: &Value, (output, reasoning): (u64, u64)) {
        let delta = json!({"type": "content_block_delta", "index": self.index, "delta": delta});
        let piece = padded("content_block_delta", &delta, self.random);
        self.pieces.push(piece.output(output).reasoning(reasoning));
    }

    fn stop(&mut self) {
        let stop = json!({"type": "content_block_stop", "index": self.index});
        self.pieces.push(padded("content_block_stop", &stop, self.random));
        self.index += 1;
    }
}

pub(crate) fn stream_error() -> Piece {
    event(
        "error",
        &json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    )
}
