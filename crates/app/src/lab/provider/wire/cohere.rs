//! Cohere's chat, version 2.
//! <https://docs.cohere.com/v2/reference/chat>, <https://docs.cohere.com/v2/reference/chat-stream>

use serde_json::{Map, Value, json};

use super::{Piece, chat, event};
use crate::lab::provider::answer::{Answer, Call, End, Reply};
use crate::lab::provider::ask::{Ask, Choice, Format, Kind, Part, Role, Turn, linked_media};
use crate::lab::provider::fields::{Checked, Fields, not_one_of, other, problem, wrong_type};
use crate::lab::provider::tokens::{Usage, count, runs};
use crate::lab::random::Random;

const TOP: [&str; 23] = [
    "citation_options",
    "documents",
    "frequency_penalty",
    "k",
    "logprobs",
    "max_tokens",
    "messages",
    "model",
    "p",
    "presence_penalty",
    "priority",
    "raw_prompting",
    "reasoning_effort",
    "response_format",
    "safety_mode",
    "seed",
    "stop_sequences",
    "stream",
    "strict_tools",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
];

pub(crate) fn read(body: &Value) -> Checked<Ask> {
    let top = Fields::of(body, "")?;
    top.only(&TOP)?;
    let mut ask = Ask {
        model: top.need_text("model")?.to_owned(),
        stream: top.flag("stream")?,
        count: 1,
        max_tokens: top.count("max_tokens", 1)?,
        stops: top.texts("stop_sequences")?,
        ..Ask::default()
    };
    top.number("temperature", 0.0, 1.0)?;
    top.number("p", 0.01, 0.99)?;
    top.count("k", 0)?;
    if top.flag("logprobs")? {
        ask.logprobs = Some(0);
    }
    if let Some(thinking) = top.object("thinking")? {
        thinking.only(&["type", "token_budget"])?;
        thinking.need_text("type")?;
        ask.reasoning = thinking.one_of("type", &["enabled", "disabled"])? == Some("enabled");
    }
    for tool in top.objects("tools")? {
        tool.need_text("type")?;
        tool.one_of("type", &["function"])?;
        tool.need("function")?;
        if let Some(function) = tool.object("function")? {
            ask.tools.push(chat::declared(&function, "parameters")?);
        }
    }
    ask.choice = match top.one_of("tool_choice", &["REQUIRED", "NONE"])? {
        Some("REQUIRED") => Choice::Must,
        Some(_) => Choice::Never,
        None => Choice::Auto,
    };
    if let Some(format) = top.object("response_format")? {
        format.need_text("type")?;
        if format.one_of("type", &["text", "json_object"])? == Some("json_object") {
            let schema = format.get("json_schema").or(format.get("schema"));
            ask.format = schema.map_or(Format::Json, |schema| Format::Schema(schema.clone()));
        }
    }
    read_messages(&top, &mut ask)?;
    Ok(ask)
}

fn read_messages(top: &Fields, ask: &mut Ask) -> Checked<()> {
    top.need("messages")?;
    let messages = top.objects("messages")?;
    if messages.is_empty() {
        return other("messages", "messages must not be empty");
    }
    let mut waiting: Vec<String> = Vec::new();
    for message in &messages {
        let parts = read_content(message)?;
        match message.need_text("role")? {
            "system" | "developer" => ask.system.extend(parts.into_iter().filter_map(|part| match part {
                Part::Text(text) => Some(text),
                _ => None,
            })),
            "user" => ask.turns.push(Turn {
                role: Role::User,
                parts,
            }),
            "assistant" => {
                let mut parts = parts;
                for call in message.objects("tool_calls")? {
                    waiting.push(call.need_text("id")?.to_owned());
                    call.need("function")?;
                    if let Some(function) = call.object("function")? {
                        parts.push(Part::Call {
                            name: function.need_text("name")?.to_owned(),
                            arguments: function.text("arguments")?.unwrap_or("{}").to_owned(),
                        });
                    }
                }
                ask.turns.push(Turn {
                    role: Role::Assistant,
                    parts,
                });
            }
            "tool" => {
                let id = message.need_text("tool_call_id")?;
                let Some(at) = waiting.iter().position(|one| one == id) else {
                    return other(
                        message.own_path(),
                        format!(
                            "all elements in tool messages must correspond to a previous tool call: {id}"
                        ),
                    );
                };
                waiting.remove(at);
                let texts: Vec<String> = parts
                    .into_iter()
                    .filter_map(|part| match part {
                        Part::Text(text) => Some(text),
                        _ => None,
                    })
                    .collect();
                ask.turns.push(Turn {
                    role: Role::Tool,
                    parts: vec![Part::Result(texts.join("\n"))],
                });
            }
            role => {
                return problem(
                    message.path("role"),
                    not_one_of(role, &["system", "user", "assistant", "tool"]),
                );
            }
        }
    }
    Ok(())
}

fn read_content(message: &Fields) -> Checked<Vec<Part>> {
    match message.get("content") {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![Part::Text(text.clone())]),
        Some(Value::Array(_)) => {
            let mut parts = Vec::new();
            for block in message.objects("content")? {
                parts.push(match block.need_text("type")? {
                    "text" => Part::Text(block.need_text("text")?.to_owned()),
                    "thinking" => Part::Reasoning(block.need_text("thinking")?.to_owned()),
                    "image_url" => {
                        let url = block
                            .object("image_url")?
                            .map(|image| image.need_text("url"))
                            .transpose()?;
                        match linked_media(Kind::Image, url.unwrap_or_default()) {
                            Some(media) => Part::Media(media),
                            None => return other(block.path("image_url"), "image_url: invalid data URL"),
                        }
                    }
                    "document" => {
                        block.need("document")?;
                        Part::Text(block.get("document").map(Value::to_string).unwrap_or_default())
                    }
                    kind => {
                        return problem(
                            block.path("type"),
                            not_one_of(kind, &["text", "thinking", "image_url", "document"]),
                        );
                    }
                });
            }
            Ok(parts)
        }
        Some(value) => wrong_type(message.path("content"), "a string or an array of objects", value),
    }
}

fn finish_reason(end: &End) -> &'static str {
    match end {
        End::Stop => "COMPLETE",
        End::Sequence(_) => "STOP_SEQUENCE",
        End::Length => "MAX_TOKENS",
        End::Calls => "TOOL_CALL",
    }
}

fn usage(usage: &Usage) -> Value {
    let mut shown = json!({
        "billed_units": {"input_tokens": usage.prompt(), "output_tokens": usage.produced()},
        "tokens": {"input_tokens": usage.prompt(), "output_tokens": usage.produced()},
    });
    if usage.cache_read > 0 {
        shown["cached_tokens"] = json!(usage.cache_read);
    }
    shown
}

/// In the form of a UUID.
pub(crate) fn id(of: &str) -> String {
    let mut random = Random::new(15, of);
    let (high, low) = (random.next_u64(), random.next_u64());
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}

fn call_id(call: &Call) -> String {
    format!("{}_{}", call.name, call.id[..12].to_ascii_lowercase())
}

/// What is said before a call.
const PLAN: &str = "I will use the tools.";

pub(crate) fn plain(ask: &Ask, reply: &Reply) -> Value {
    let none = Answer::default();
    let answer = reply.answers.first().unwrap_or(&none);
    let mut message = Map::new();
    message.insert("role".to_owned(), json!("assistant"));
    let mut content = Vec::new();
    if let Some(thought) = &answer.reasoning {
        content.push(json!({"type": "thinking", "thinking": thought}));
    }
    if !answer.text.is_empty() {
        content.push(json!({"type": "text", "text": answer.text}));
    }
    if !content.is_empty() {
        message.insert("content".to_owned(), json!(content));
    }
    if !answer.calls.is_empty() {
        message.insert("tool_plan".to_owned(), json!(PLAN));
        let calls = answer.calls.iter().map(|call| {
            json!({"id": call_id(call), "type": "function",
                "function": {"name": call.name, "arguments": call.arguments.to_string()}})
        });
        message.insert("tool_calls".to_owned(), calls.collect());
    }
    let mut shown = json!({
        "id": id(&reply.id),
        "finish_reason": finish_reason(&answer.end),
        "message": message,
        "usage": usage(&reply.usage),
    });
    if ask.logprobs.is_some() {
        let ids = |text: &str| text.bytes().map(u64::from).collect::<Vec<_>>();
        let one = |token: &str| json!({"text": token, "token_ids": ids(token), "logprobs": [-0.125]});
        shown["logprobs"] = crate::lab::provider::tokens::tokens(&answer.text)
            .map(one)
            .collect();
    }
    shown
}

pub(crate) fn stream(reply: &Reply) -> Vec<Piece> {
    let none = Answer::default();
    let answer = reply.answers.first().unwrap_or(&none);
    let mut random = Random::new(16, &reply.id);
    let mut pieces = Vec::new();
    let mut say = |kind: &str, mut fields: Value, output: u64, reasoning: u64| {
        fields["type"] = json!(kind);
        pieces.push(event(kind, &fields).output(output).reasoning(reasoning));
    };
    let message =
        json!({"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []});
    say(
        "message-start",
        json!({"id": id(&reply.id), "delta": {"message": message}}),
        0,
        0,
    );
    let mut index = 0;
    let content = |inner: Value| json!({"message": {"content": inner}});
    for (kind, text) in [
        ("thinking", answer.reasoning.as_deref()),
        ("text", Some(answer.text.as_str())),
    ] {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            continue;
        };
        let start = json!({"index": index, "delta": content(json!({"type": kind, kind: ""}))});
        say("content-start", start, 0, 0);
        for (run, tokens) in runs(text, &mut random) {
            let delta = json!({"index": index, "delta": content(json!({kind: run}))});
            let (output, reasoning) = if kind == "text" { (tokens, 0) } else { (0, tokens) };
            say("content-delta", delta, output, reasoning);
        }
        say("content-end", json!({"index": index}), 0, 0);
        index += 1;
    }
    if !answer.calls.is_empty() {
        say(
            "tool-plan-delta",
            json!({"delta": {"message": {"tool_plan": PLAN}}}),
            0,
            0,
        );
    }
    for (at, call) in answer.calls.iter().enumerate() {
        let calls = |inner: Value| json!({"index": at, "delta": {"message": {"tool_calls": inner}}});
        let start = json!({"id": call_id(call), "type": "function", "function": {"name": call.name, "arguments": ""}});
        say("tool-call-start", calls(start), count(&call.name), 0);
        for (run, tokens) in runs(&call.arguments.to_string(), &mut random) {
            say(
                "tool-call-delta",
                calls(json!({"function": {"arguments": run}})),
                tokens,
                0,
            );
        }
        say("tool-call-end", json!({"index": at}), 0, 0);
    }
    let end = json!({"delta": {"finish_reason": finish_reason(&answer.end), "usage": usage(&reply.usage)}});
    say("message-end", end, 0, 0);
    pieces.push(Piece::new("data: [DONE]\n\n"));
    pieces
}

pub(crate) fn stream_error() -> Piece {
    event(
        "message-end",
        &json!({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "internal server error"}}),
    )
}
