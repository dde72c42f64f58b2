//! `OpenAI` Responses. Nothing is stored: an answer that names an earlier one has no memory of it.
//! <https://platform.openai.com/docs/api-reference/responses>, `/responses-streaming`

use serde_json::{Value, json};

use super::{Piece, chat, event};
use crate::lab::provider::answer::{Answer, Call, End, Reply, letters};
use crate::lab::provider::ask::{
    Ask, Choice, Format, Kind, Media, Part, Role, Turn, decoded_media, linked_media,
};
use crate::lab::provider::fields::{Checked, Fields, What, not_one_of, other, problem, wrong_type};
use crate::lab::provider::tokens::{Usage, count, runs};
use crate::lab::random::Random;

const TOP: [&str; 33] = [
    "background",
    "context_management",
    "conversation",
    "frequency_penalty",
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "moderation",
    "parallel_tool_calls",
    "presence_penalty",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
];
/// The API's least `max_output_tokens`.
const OUTPUT_TOKENS_MIN: u64 = 16;

pub(crate) fn read(body: &Value) -> Checked<Ask> {
    let top = Fields::of(body, "")?;
    top.only(&TOP)?;
    let mut ask = Ask {
        model: top.need_text("model")?.to_owned(),
        stream: top.flag("stream")?,
        count: 1,
        ..Ask::default()
    };
    top.number("temperature", 0.0, 2.0)?;
    top.number("top_p", 0.0, 1.0)?;
    top.flag("store")?;
    top.flag("background")?;
    top.flag("parallel_tool_calls")?;
    top.object("metadata")?;
    top.one_of("truncation", &["auto", "disabled"])?;
    if let Some(options) = top.object("stream_options")? {
        options.only(&["include_obfuscation"])?;
    }
    ask.max_tokens = top.count("max_output_tokens", OUTPUT_TOKENS_MIN)?;
    if let Some(instructions) = top.text("instructions")? {
        ask.system.push(instructions.to_owned());
    }
    if let Some(reasoning) = top.object("reasoning")? {
        reasoning.only(&["effort", "summary", "generate_summary", "context", "mode"])?;
        let effort = reasoning.one_of("effort", &["none", "minimal", "low", "medium", "high", "xhigh"])?;
        reasoning.one_of("summary", &["auto", "concise", "detailed"])?;
        ask.reasoning = effort.is_some_and(|effort| effort != "none") || reasoning.has("summary");
    }
    let includes = top.texts("include")?;
    if includes.iter().any(|one| one == "message.output_text.logprobs") {
        ask.logprobs = Some(top.count("top_logprobs", 0)?.unwrap_or(0).min(20));
    }
    read_tools(&top, &mut ask)?;
    ask.choice = read_choice(&top)?;
    ask.format = read_format(&top)?;
    match top.get("input") {
        None if top.has("prompt") || top.has("previous_response_id") || top.has("conversation") => {}
        None => return problem("input", What::Missing),
        Some(Value::String(text)) => ask.turns.push(Turn {
            role: Role::User,
            parts: vec![Part::Text(text.clone())],
        }),
        Some(Value::Array(_)) => {
            let has_memory = top.has("previous_response_id") || top.has("conversation");
            read_items(&top.objects("input")?, has_memory, &mut ask)?;
        }
        Some(value) => return wrong_type("input", "a string or an array of objects", value),
    }
    Ok(ask)
}

fn read_tools(top: &Fields, ask: &mut Ask) -> Checked<()> {
    for tool in top.objects("tools")? {
        if tool.need_text("type")? == "function" {
            tool.only(&[
                "type",
                "name",
                "description",
                "parameters",
                "strict",
                "defer_loading",
            ])?;
            ask.tools.push(chat::declared(&tool, "parameters")?);
        }
    }
    Ok(())
}

fn read_choice(top: &Fields) -> Checked<Choice> {
    match top.get("tool_choice") {
        None => Ok(Choice::Auto),
        Some(Value::String(text)) => match text.as_str() {
            "auto" => Ok(Choice::Auto),
            "none" => Ok(Choice::Never),
            "required" => Ok(Choice::Must),
            text => problem("tool_choice", not_one_of(text, &["none", "auto", "required"])),
        },
        Some(value) => {
            let choice = Fields::of(value, "tool_choice")?;
            match choice.need_text("type")? {
                "function" => Ok(Choice::Named(choice.need_text("name")?.to_owned())),
                _ => Ok(Choice::Auto),
            }
        }
    }
}

fn read_format(top: &Fields) -> Checked<Format> {
    let Some(text) = top.object("text")? else {
        return Ok(Format::Text);
    };
    text.only(&["format", "verbosity"])?;
    let Some(format) = text.object("format")? else {
        return Ok(Format::Text);
    };
    match format.need_text("type")? {
        "text" => Ok(Format::Text),
        "json_object" => Ok(Format::Json),
        "json_schema" => {
            format.only(&["type", "name", "description", "schema", "strict"])?;
            format.need_text("name")?;
            Ok(Format::Schema(format.need("schema")?.clone()))
        }
        kind => problem(
            "text.format.type",
            not_one_of(kind, &["json_object", "json_schema", "text"]),
        ),
    }
}

fn read_items(items: &[Fields], has_memory: bool, ask: &mut Ask) -> Checked<()> {
    let mut waiting: Vec<String> = Vec::new();
    let assistant = |part| Turn {
        role: Role::Assistant,
        parts: vec![part],
    };
    for item in items {
        match item.text("type")?.unwrap_or("message") {
            "message" => read_message(item, ask)?,
            "function_call" => {
                item.only(&[
                    "type",
                    "id",
                    "call_id",
                    "name",
                    "arguments",
                    "status",
                    "namespace",
                    "caller",
                ])?;
                waiting.push(item.need_text("call_id")?.to_owned());
                ask.turns.push(assistant(Part::Call {
                    name: item.need_text("name")?.to_owned(),
                    arguments: item.need_text("arguments")?.to_owned(),
                }));
            }
            "function_call_output" => {
                item.only(&["type", "id", "call_id", "output", "status", "caller"])?;
                let id = item.need_text("call_id")?;
                match waiting.iter().position(|one| one == id) {
                    Some(at) => {
                        waiting.remove(at);
                    }
                    None if has_memory => {}
                    None => {
                        return other(
                            "input",
                            format!("No tool call found for function call output with call_id {id}."),
                        );
                    }
                }
                item.need("output")?;
                let text = match item.get("output") {
                    Some(Value::String(text)) => text.clone(),
                    Some(Value::Array(_)) => {
                        let parts = item.objects("output")?;
                        let texts: Vec<&str> = parts
                            .iter()
                            .filter_map(|one| one.text("text").ok().flatten())
                            .collect();
                        texts.join("\n")
                    }
                    Some(value) => return wrong_type(item.path("output"), "a string or an array", value),
                    None => String::new(),
                };
                ask.turns.push(Turn {
                    role: Role::Tool,
                    parts: vec![Part::Result(text)],
                });
            }
            "reasoning" => {
                item.only(&["type", "id", "summary", "content", "encrypted_content", "status"])?;
                item.need("summary")?;
                let texts: Vec<String> = item
                    .objects("summary")?
                    .iter()
                    .filter_map(|one| one.text("text").ok().flatten().map(str::to_owned))
                    .collect();
                ask.turns.push(assistant(Part::Reasoning(texts.join("\n"))));
            }
            // Items of server tools and references: taken, and without meaning here.
            kind if kind.ends_with("_call")
                || kind.ends_with("_call_output")
                || kind.starts_with("mcp_")
                || kind.starts_with("tool_search")
                || matches!(kind, "item_reference" | "compaction" | "additional_tools") => {}
            kind => {
                return problem(
                    item.path("type"),
                    not_one_of(
                        kind,
                        &[
                            "message",
                            "function_call",
                            "function_call_output",
                            "reasoning",
                            "item_reference",
                        ],
                    ),
                );
            }
        }
    }
    match waiting.first() {
        Some(id) => other("input", format!("No tool output found for function call {id}.")),
        None => Ok(()),
    }
}

fn read_message(item: &Fields, ask: &mut Ask) -> Checked<()> {
    item.only(&["type", "id", "role", "content", "status", "phase"])?;
    let parts = match item.need("content")? {
        Value::String(text) => vec![Part::Text(text.clone())],
        Value::Array(_) => {
            let parts: Checked<Vec<Part>> = item.objects("content")?.iter().map(read_part).collect();
            parts?
        }
        value => return wrong_type(item.path("content"), "a string or an array of objects", value),
    };
    let role = match item.need_text("role")? {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" | "developer" => {
            ask.system.extend(parts.into_iter().filter_map(|part| match part {
                Part::Text(text) => Some(text),
                _ => None,
            }));
            return Ok(());
        }
        role => {
            return problem(
                item.path("role"),
                not_one_of(role, &["assistant", "system", "developer", "user"]),
            );
        }
    };
    ask.turns.push(Turn { role, parts });
    Ok(())
}

fn read_part(part: &Fields) -> Checked<Part> {
    let by_id = |kind: Kind, id: &str| Media {
        kind,
        said: format!("id {id}"),
    };
    let media = match part.need_text("type")? {
        "input_text" | "output_text" => return Ok(Part::Text(part.need_text("text")?.to_owned())),
        "refusal" => return Ok(Part::Text(part.need_text("refusal")?.to_owned())),
        "input_image" => {
            part.only(&["type", "image_url", "file_id", "detail"])?;
            match (part.text("image_url")?, part.text("file_id")?) {
                (Some(url), _) => linked_media(Kind::Image, url),
                (None, Some(id)) => Some(by_id(Kind::Image, id)),
                (None, None) => return problem(part.path("image_url"), What::Missing),
            }
        }
        "input_file" => {
            part.only(&["type", "file_data", "file_id", "file_url", "filename", "detail"])?;
            match (
                part.text("file_data")?,
                part.text("file_url")?,
                part.text("file_id")?,
            ) {
                (Some(data), _, _) => linked_media(Kind::File, data),
                (None, Some(url), _) => linked_media(Kind::File, url),
                (None, None, Some(id)) => Some(by_id(Kind::File, id)),
                (None, None, None) => return problem(part.path("file_data"), What::Missing),
            }
        }
        "input_audio" => {
            part.need("input_audio")?;
            match part.object("input_audio")? {
                Some(audio) => decoded_media(
                    &format!("audio/{}", audio.need_text("format")?),
                    audio.need_text("data")?,
                ),
                None => None,
            }
        }
        kind => {
            return problem(
                part.path("type"),
                not_one_of(
                    kind,
                    &[
                        "input_text",
                        "input_image",
                        "input_file",
                        "input_audio",
                        "output_text",
                        "refusal",
                    ],
                ),
            );
        }
    };
    match media {
        Some(media) => Ok(Part::Media(media)),
        None => other(
            part.own_path(),
            "Invalid base64 or data URL: it cannot be decoded.",
        ),
    }
}

/// `POST /v1/responses/input_tokens`.
pub(crate) fn count_tokens(ask: &Ask) -> Value {
    json!({"object": "response.input_tokens", "input_tokens": ask.prompt().prompt()})
}

fn usage(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.prompt(),
        "input_tokens_details": {"cached_tokens": usage.cache_read},
        "output_tokens": usage.produced(),
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total(),
    })
}

/// The answer's document around `output`.
fn envelope(ask: &Ask, body: &Value, reply: &Reply, status: &str, output: &[Value]) -> Value {
    let asked = |key: &str, or: Value| match body.get(key) {
        Some(value) if !value.is_null() => value.clone(),
        _ => or,
    };
    let is_over = matches!(status, "completed" | "incomplete");
    let incomplete = if status == "incomplete" {
        json!({"reason": "max_output_tokens"})
    } else {
        Value::Null
    };
    json!({
        "id": format!("resp_{}", reply.id),
        "object": "response",
        "created_at": reply.created,
        "status": status,
        "background": asked("background", json!(false)),
        "completed_at": if status == "completed" { json!(reply.created + 1) } else { Value::Null },
        "error": null,
        "frequency_penalty": 0.0,
        "incomplete_details": incomplete,
        "instructions": asked("instructions", Value::Null),
        "max_output_tokens": asked("max_output_tokens", Value::Null),
        "max_tool_calls": null,
        "model": ask.model,
        "output": output,
        "parallel_tool_calls": asked("parallel_tool_calls", json!(true)),
        "presence_penalty": 0.0,
        "previous_response_id": asked("previous_response_id", Value::Null),
        "prompt_cache_key": asked("prompt_cache_key", Value::Null),
        "prompt_cache_retention": null,
        "reasoning": {"effort": body["reasoning"]["effort"], "summary": body["reasoning"]["summary"]},
        "safety_identifier": asked("safety_identifier", Value::Null),
        "service_tier": if is_over { "default" } else { "auto" },
        "store": asked("store", json!(true)),
        "temperature": asked("temperature", json!(1.0)),
        "text": {"format": match &body["text"]["format"] { Value::Null => json!({"type": "text"}), format => format.clone() },
            "verbosity": "medium"},
        "tool_choice": asked("tool_choice", json!("auto")),
        "tools": asked("tools", json!([])),
        "top_logprobs": asked("top_logprobs", json!(0)),
        "top_p": asked("top_p", json!(1.0)),
        "truncation": asked("truncation", json!("disabled")),
        "usage": if is_over { usage(&reply.usage) } else { Value::Null },
        "user": asked("user", Value::Null),
        "metadata": asked("metadata", json!({})),
    })
}

fn status(end: &End) -> &'static str {
    if *end == End::Length {
        "incomplete"
    } else {
        "completed"
    }
}

fn has_summary(body: &Value) -> bool {
    body["reasoning"]["summary"].is_string()
}

fn reasoning_item(body: &Value, reply: &Reply, thought: &str, is_done: bool) -> Value {
    let id = format!("rs_{}", reply.id);
    let summary = if is_done && has_summary(body) {
        json!([{"type": "summary_text", "text": thought}])
    } else {
        json!([])
    };
    let mut item = json!({"id": id, "type": "reasoning", "summary": summary});
    let includes = body["include"].as_array();
    if includes.is_some_and(|list| list.iter().any(|one| one == "reasoning.encrypted_content")) {
        item["encrypted_content"] = json!(letters(&mut Random::new(10, &reply.id), 64));
    }
    item
}

fn text_part(ask: &Ask, text: &str) -> Value {
    let logprobs = ask
        .logprobs
        .map(|alternatives| chat::logprobs(text, alternatives))
        .unwrap_or_default();
    json!({"type": "output_text", "annotations": [], "logprobs": logprobs, "text": text})
}

fn message_item(reply: &Reply, status: &str, content: &[Value]) -> Value {
    json!({"id": format!("msg_{}", reply.id), "type": "message", "status": status, "content": content, "role": "assistant"})
}

fn call_item(call: &Call, status: &str, arguments: &str) -> Value {
    json!({"id": format!("fc_{}", call.id), "type": "function_call", "status": status, "arguments": arguments,
        "call_id": format!("call_{}", call.id), "name": call.name})
}

fn output(ask: &Ask, body: &Value, reply: &Reply, answer: &Answer) -> Vec<Value> {
    let mut output = Vec::new();
    if let Some(thought) = &answer.reasoning {
        output.push(reasoning_item(body, reply, thought, true));
    }
    if !answer.text.is_empty() || (answer.calls.is_empty() && answer.end != End::Length) {
        output.push(message_item(
            reply,
            status(&answer.end),
            &[text_part(ask, &answer.text)],
        ));
    }
    output.extend(
        answer
            .calls
            .iter()
            .map(|call| call_item(call, "completed", &call.arguments.to_string())),
    );
    output
}

pub(crate) fn plain(ask: &Ask, body: &Value, reply: &Reply) -> Value {
    let none = Answer::default();
    let answer = reply.answers.first().unwrap_or(&none);
    envelope(
        ask,
        body,
        reply,
        status(&answer.end),
        &output(ask, body, reply, answer),
    )
}

/// Events with their running number.
struct Events {
    pieces: Vec<Piece>,
    number: u64,
    obfuscation: Option<Random>,
}

impl Events {
    fn add(&mut self, name: &str, mut fields: Value) -> &mut Piece {
        fields["type"] = json!(name);
        fields["sequence_number"] = json!(self.number);
        self.number += 1;
        if let (Some(random), true) = (&mut self.obfuscation, name.ends_with(".delta")) {
            let length = 1 + random.below(16) as usize;
            fields["obfuscation"] = json!(letters(random, length));
        }
        self.pieces.push(event(name, &fields));
        let last = self.pieces.len() - 1;
        &mut self.pieces[last]
    }
}

pub(crate) fn stream(ask: &Ask, body: &Value, reply: &Reply) -> Vec<Piece> {
    let none = Answer::default();
    let answer = reply.answers.first().unwrap_or(&none);
    let is_obfuscated = body["stream_options"]["include_obfuscation"] != json!(false);
    let mut events = Events {
        pieces: Vec::new(),
        number: 0,
        obfuscation: is_obfuscated.then(|| Random::new(11, &reply.id)),
    };
    let mut random = Random::new(12, &reply.id);
    for name in ["response.created", "response.in_progress"] {
        events.add(
            name,
            json!({"response": envelope(ask, body, reply, "in_progress", &[])}),
        );
    }
    let mut index = 0;
    if let Some(thought) = &answer.reasoning {
        let item = reasoning_item(body, reply, thought, false);
        let id = item["id"].clone();
        events.add(
            "response.output_item.added",
            json!({"output_index": index, "item": item}),
        );
        let tokens_left = if has_summary(body) {
            stream_summary(&mut events, &id, index, thought, &mut random);
            0
        } else {
            answer.reasoning_tokens
        };
        let item = reasoning_item(body, reply, thought, true);
        events
            .add(
                "response.output_item.done",
                json!({"output_index": index, "item": item}),
            )
            .reasoning = tokens_left;
        index += 1;
    }
    if !answer.text.is_empty() || (answer.calls.is_empty() && answer.end != End::Length) {
        stream_message(&mut events, ask, reply, answer, index, &mut random);
        index += 1;
    }
    for call in &answer.calls {
        let id = format!("fc_{}", call.id);
        let arguments = call.arguments.to_string();
        let added = json!({"output_index": index, "item": call_item(call, "in_progress", "")});
        events.add("response.output_item.added", added).output = count(&call.name);
        for (run, tokens) in runs(&arguments, &mut random) {
            let delta = json!({"item_id": id, "output_index": index, "delta": run});
            events.add("response.function_call_arguments.delta", delta).output = tokens;
        }
        let done = json!({"item_id": id, "output_index": index, "arguments": arguments});
        events.add("response.function_call_arguments.done", done);
        let item = call_item(call, "completed", &arguments);
        events.add(
            "response.output_item.done",
            json!({"output_index": index, "item": item}),
        );
        index += 1;
    }
    let status = status(&answer.end);
    let whole = envelope(ask, body, reply, status, &output(ask, body, reply, answer));
    events.add(&format!("response.{status}"), json!({"response": whole}));
    events.pieces
}

fn stream_summary(events: &mut Events, id: &Value, index: usize, thought: &str, random: &mut Random) {
    let at = |mut fields: Value| {
        fields["item_id"] = id.clone();
        fields["output_index"] = json!(index);
        fields["summary_index"] = json!(0);
        fields
    };
    let part = |text: &str| json!({"part": {"type": "summary_text", "text": text}});
    events.add("response.reasoning_summary_part.added", at(part("")));
    for (run, tokens) in runs(thought, random) {
        events
            .add("response.reasoning_summary_text.delta", at(json!({"delta": run})))
            .reasoning = tokens;
    }
    events.add(
        "response.reasoning_summary_text.done",
        at(json!({"text": thought})),
    );
    events.add("response.reasoning_summary_part.done", at(part(thought)));
}

fn stream_message(
    events: &mut Events,
    ask: &Ask,
    reply: &Reply,
    answer: &Answer,
    index: usize,
    random: &mut Random,
) {
    let at = |mut fields: Value| {
        fields["item_id"] = json!(format!("msg_{}", reply.id));
        fields["output_index"] = json!(index);
        fields["content_index"] = json!(0);
        fields
    };
    let added = json!({"output_index": index, "item": message_item(reply, "in_progress", &[])});
    events.add("response.output_item.added", added);
    events.add(
        "response.content_part.added",
        at(json!({"part": text_part(ask, "")})),
    );
    for (run, tokens) in runs(&answer.text, random) {
        let logprobs = ask
            .logprobs
            .map(|alternatives| chat::logprobs(run, alternatives))
            .unwrap_or_default();
        events
            .add(
                "response.output_text.delta",
                at(json!({"delta": run, "logprobs": logprobs})),
            )
            .output = tokens;
    }
    let part = text_part(ask, &answer.text);
    let done = json!({"text": answer.text, "logprobs": part["logprobs"]});
    events.add("response.output_text.done", at(done));
    events.add("response.content_part.done", at(json!({"part": part})));
    let item = message_item(reply, status(&answer.end), &[part]);
    events.add(
        "response.output_item.done",
        json!({"output_index": index, "item": item}),
    );
}

pub(crate) fn stream_error() -> Piece {
    event(
        "error",
        &json!({"type": "error", "code": "server_error", "param": null, "sequence_number": 0,
            "message": "The server had an error processing your request. Sorry about that!"}),
    )
}
