//! `OpenAI` Chat Completions.
//! <https://platform.openai.com/docs/api-reference/chat>
//!
//! Where reasoning is asked for it is shown as `reasoning_content`, as `DeepSeek` and others of this shape do;
//! `OpenAI` itself tells only its tokens.

use serde_json::{Map, Value, json};

use super::{Piece, data};
use crate::lab::provider::answer::{Answer, End, Reply, letters};
use crate::lab::provider::ask::{
    Ask, Choice, Format, Kind, Media, Part, Role, Tool, Turn, decoded_media, linked_media,
};
use crate::lab::provider::fields::{Checked, Fields, What, not_one_of, other, problem, wrong_type};
use crate::lab::provider::tokens::{Usage, count, runs, tokens};
use crate::lab::random::Random;

const TOP: [&str; 37] = [
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "metadata",
    "modalities",
    "model",
    "moderation",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
    "web_search_options",
];
const ROLES: [&str; 6] = ["system", "assistant", "user", "function", "tool", "developer"];

pub(crate) fn read(body: &Value, model_of_path: Option<&str>) -> Checked<Ask> {
    let top = Fields::of(body, "")?;
    // The model comes first: without one, nothing can be said about the rest.
    let model = match (model_of_path, top.text("model")?) {
        (Some(model), _) => model.to_owned(),
        (None, Some(model)) => model.to_owned(),
        (None, None) => {
            return problem(
                "model",
                What::Other {
                    message: "you must provide a model parameter".to_owned(),
                    code: None,
                },
            );
        }
    };
    top.only(&TOP)?;
    top.number("temperature", 0.0, 2.0)?;
    top.number("top_p", 0.0, 1.0)?;
    top.number("frequency_penalty", -2.0, 2.0)?;
    top.number("presence_penalty", -2.0, 2.0)?;
    for key in ["user", "safety_identifier", "prompt_cache_key", "service_tier"] {
        top.text(key)?;
    }
    top.flag("store")?;
    top.flag("parallel_tool_calls")?;
    top.object("metadata")?;
    let mut ask = Ask {
        model,
        stream: top.flag("stream")?,
        count: top.count("n", 1)?.unwrap_or(1).min(128),
        ..Ask::default()
    };
    if let Some(options) = top.object("stream_options")? {
        if !ask.stream {
            return other(
                "stream_options",
                "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            );
        }
        options.only(&["include_usage", "include_obfuscation"])?;
        options.flag("include_usage")?;
        options.flag("include_obfuscation")?;
    }
    ask.max_tokens = match (
        top.count("max_tokens", 1)?,
        top.count("max_completion_tokens", 1)?,
    ) {
        (Some(_), Some(_)) => {
            return other(
                "max_tokens",
                "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            );
        }
        (old, new) => new.or(old),
    };
    ask.stops = top.texts("stop")?;
    if ask.stops.len() > 4 {
        return problem(
            "stop",
            What::Other {
                message: format!(
                    "Invalid 'stop': array too long. Expected an array with maximum length 4, but got an array with length {} instead.",
                    ask.stops.len()
                ),
                code: Some("array_above_max_length"),
            },
        );
    }
    let effort = top.one_of(
        "reasoning_effort",
        &["none", "minimal", "low", "medium", "high", "xhigh"],
    )?;
    ask.reasoning = effort.is_some_and(|effort| effort != "none") || ask.model.contains("reasoner");
    if top.flag("logprobs")? {
        ask.logprobs = Some(top.count("top_logprobs", 0)?.unwrap_or(0).min(20));
    } else if top.has("top_logprobs") {
        return other(
            "top_logprobs",
            "When 'top_logprobs' is specified, 'logprobs' must be set to true.",
        );
    }
    read_tools(&top, &mut ask)?;
    ask.choice = read_choice(&top, &ask)?;
    read_messages(&top, &mut ask)?;
    ask.format = read_format(&top)?;
    if matches!(ask.format, Format::Json) && !ask.conversation().to_ascii_lowercase().contains("json") {
        return other(
            "messages",
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
        );
    }
    Ok(ask)
}

fn read_tools(top: &Fields, ask: &mut Ask) -> Checked<()> {
    for tool in top.objects("tools")? {
        match tool.need_text("type")? {
            "function" => {
                tool.only(&["type", "function"])?;
                tool.need("function")?;
                if let Some(function) = tool.object("function")? {
                    function.only(&["name", "description", "parameters", "strict"])?;
                    ask.tools.push(declared(&function, "parameters")?);
                }
            }
            "custom" => {
                tool.need("custom")?;
            }
            kind => return problem(tool.path("type"), not_one_of(kind, &["function", "custom"])),
        }
    }
    for function in top.objects("functions")? {
        ask.tools.push(declared(&function, "parameters")?);
    }
    Ok(())
}

/// A tool with its name, description and schema.
pub(crate) fn declared(function: &Fields, schema: &str) -> Checked<Tool> {
    let name = function.need_text("name")?;
    let is_name = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    if name.is_empty() || name.len() > 64 || !is_name(name) {
        return problem(
            function.path("name"),
            What::Other {
                message: format!(
                    "Invalid '{}': string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'.",
                    function.path("name")
                ),
                code: Some("invalid_value"),
            },
        );
    }
    let description = function.text("description")?.unwrap_or_default();
    function.object(schema)?;
    let parameters = function
        .get(schema)
        .cloned()
        .unwrap_or_else(|| json!({"type": "object", "properties": {}}));
    Ok(Tool {
        name: name.to_owned(),
        tokens: count(name) + count(description) + count(&parameters.to_string()),
        schema: parameters,
    })
}

fn read_choice(top: &Fields, ask: &Ask) -> Checked<Choice> {
    let choice = match top.get("tool_choice") {
        None => return Ok(Choice::Auto),
        Some(Value::String(text)) => match text.as_str() {
            "auto" => Choice::Auto,
            "none" => Choice::Never,
            "required" => Choice::Must,
            text => return problem("tool_choice", not_one_of(text, &["none", "auto", "required"])),
        },
        Some(value) => {
            let choice = Fields::of(value, "tool_choice")?;
            match choice.need_text("type")? {
                "function" => {
                    choice.need("function")?;
                    let function = choice.object("function")?;
                    let name = function.map(|function| function.need_text("name")).transpose()?;
                    Choice::Named(name.unwrap_or_default().to_owned())
                }
                "allowed_tools" => Choice::Auto,
                kind => {
                    return problem(
                        "tool_choice.type",
                        not_one_of(kind, &["function", "allowed_tools", "custom"]),
                    );
                }
            }
        }
    };
    if !top.has("tools") {
        return other(
            "tool_choice",
            "'tool_choice' is only allowed when 'tools' are specified.",
        );
    }
    if let Choice::Named(name) = &choice
        && !ask.tools.iter().any(|tool| tool.name == *name)
    {
        return other(
            "tool_choice",
            format!("Tool choice 'function' with name '{name}' not found in 'tools' parameter."),
        );
    }
    Ok(choice)
}

fn read_format(top: &Fields) -> Checked<Format> {
    let Some(format) = top.object("response_format")? else {
        return Ok(Format::Text);
    };
    match format.need_text("type")? {
        "text" => Ok(Format::Text),
        "json_object" => Ok(Format::Json),
        "json_schema" => {
            format.need("json_schema")?;
            let Some(named) = format.object("json_schema")? else {
                return Ok(Format::Json);
            };
            named.only(&["name", "description", "schema", "strict"])?;
            named.need_text("name")?;
            named.flag("strict")?;
            Ok(named
                .get("schema")
                .map_or(Format::Json, |schema| Format::Schema(schema.clone())))
        }
        kind => problem(
            "response_format.type",
            not_one_of(kind, &["json_object", "json_schema", "text"]),
        ),
    }
}

fn read_messages(top: &Fields, ask: &mut Ask) -> Checked<()> {
    top.need("messages")?;
    let messages = top.objects("messages")?;
    if messages.is_empty() {
        return problem(
            "messages",
            What::Other {
                message: "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.".to_owned(),
                code: Some("empty_array"),
            },
        );
    }
    // Identifiers of calls that wait for their result.
    let mut waiting: Vec<String> = Vec::new();
    for message in &messages {
        let role = message.need_text("role")?;
        if role != "tool" && !waiting.is_empty() {
            return unanswered(message, &waiting);
        }
        let parts = read_content(message, role)?;
        match role {
            "system" | "developer" => {
                let texts = parts.into_iter().filter_map(|part| match part {
                    Part::Text(text) => Some(text),
                    _ => None,
                });
                ask.system.extend(texts);
            }
            "user" => ask.turns.push(Turn {
                role: Role::User,
                parts,
            }),
            "assistant" => ask.turns.push(read_assistant(message, parts, &mut waiting)?),
            "tool" => {
                let id = message.need_text("tool_call_id")?;
                let Some(at) = waiting.iter().position(|one| one == id) else {
                    return other(
                        message.path("role"),
                        "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.",
                    );
                };
                waiting.remove(at);
                ask.turns.push(result_turn(&parts));
            }
            "function" => {
                message.need_text("name")?;
                ask.turns.push(result_turn(&parts));
            }
            role => return problem(message.path("role"), not_one_of(role, &ROLES)),
        }
    }
    match messages.last() {
        Some(last) if !waiting.is_empty() => unanswered(last, &waiting),
        _ => Ok(()),
    }
}

fn unanswered(message: &Fields, waiting: &[String]) -> Checked<()> {
    other(
        message.own_path(),
        format!(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. The following tool_call_ids did not have response messages: {}",
            waiting.join(", ")
        ),
    )
}

fn result_turn(parts: &[Part]) -> Turn {
    let texts: Vec<&str> = parts
        .iter()
        .filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    Turn {
        role: Role::Tool,
        parts: vec![Part::Result(texts.join("\n"))],
    }
}

fn read_assistant(message: &Fields, mut parts: Vec<Part>, waiting: &mut Vec<String>) -> Checked<Turn> {
    message.only(&[
        "role",
        "content",
        "refusal",
        "name",
        "audio",
        "function_call",
        "tool_calls",
        // Sent back by those who got them.
        "annotations",
        "reasoning_content",
    ])?;
    if let Some(thought) = message.text("reasoning_content")? {
        parts.insert(0, Part::Reasoning(thought.to_owned()));
    }
    for call in message.objects("tool_calls")? {
        let id = call.need_text("id")?;
        match call.need_text("type")? {
            "function" => {}
            "custom" => {
                waiting.push(id.to_owned());
                continue;
            }
            kind => return problem(call.path("type"), not_one_of(kind, &["function", "custom"])),
        }
        call.need("function")?;
        if let Some(function) = call.object("function")? {
            function.only(&["name", "arguments"])?;
            parts.push(Part::Call {
                name: function.need_text("name")?.to_owned(),
                arguments: function.need_text("arguments")?.to_owned(),
            });
        }
        waiting.push(id.to_owned());
    }
    if parts.is_empty() && !message.has("function_call") && !message.has("audio") && !message.has("content") {
        return other(
            message.path("content"),
            "Invalid value for 'content': expected a string, got null.",
        );
    }
    Ok(Turn {
        role: Role::Assistant,
        parts,
    })
}

fn read_content(message: &Fields, role: &str) -> Checked<Vec<Part>> {
    match role {
        "tool" => message.only(&["role", "content", "tool_call_id"])?,
        "function" | "user" | "system" | "developer" => message.only(&["role", "content", "name"])?,
        _ => {}
    }
    match message.get("content") {
        None if role == "assistant" => Ok(Vec::new()),
        None => other(
            message.path("content"),
            "Invalid value for 'content': expected a string, got null.",
        ),
        Some(Value::String(text)) => Ok(vec![Part::Text(text.clone())]),
        Some(Value::Array(_)) => message.objects("content")?.iter().map(read_part).collect(),
        Some(value) => wrong_type(message.path("content"), "a string or an array of objects", value),
    }
}

fn read_part(part: &Fields) -> Checked<Part> {
    let bad = |path: String| other::<Part>(path, "Invalid base64 or data URL: it cannot be decoded.");
    match part.need_text("type")? {
        kind @ ("text" | "refusal") => Ok(Part::Text(part.need_text(kind)?.to_owned())),
        "image_url" => {
            part.need("image_url")?;
            let Some(image) = part.object("image_url")? else {
                return bad(part.path("image_url"));
            };
            image.only(&["url", "detail"])?;
            image.one_of("detail", &["auto", "low", "high"])?;
            let media = linked_media(Kind::Image, image.need_text("url")?);
            media.map_or_else(|| bad(image.path("url")), |media| Ok(Part::Media(media)))
        }
        "input_audio" => {
            part.need("input_audio")?;
            let Some(audio) = part.object("input_audio")? else {
                return bad(part.path("input_audio"));
            };
            let format = audio.need_text("format")?;
            let media = decoded_media(&format!("audio/{format}"), audio.need_text("data")?);
            media.map_or_else(|| bad(audio.path("data")), |media| Ok(Part::Media(media)))
        }
        "file" => {
            part.need("file")?;
            let Some(file) = part.object("file")? else {
                return bad(part.path("file"));
            };
            file.only(&["file_data", "file_id", "filename"])?;
            let media = match (file.text("file_data")?, file.text("file_id")?) {
                (Some(data), _) => linked_media(Kind::File, data),
                (None, Some(id)) => Some(Media {
                    kind: Kind::File,
                    said: format!("id {id}"),
                }),
                (None, None) => return problem(file.path("file_id"), What::Missing),
            };
            media.map_or_else(|| bad(file.path("file_data")), |media| Ok(Part::Media(media)))
        }
        kind => problem(
            part.path("type"),
            not_one_of(
                kind,
                &["text", "image_url", "input_audio", "refusal", "audio", "file"],
            ),
        ),
    }
}

pub(crate) fn finish_reason(end: &End) -> &'static str {
    match end {
        End::Stop | End::Sequence(_) => "stop",
        End::Length => "length",
        End::Calls => "tool_calls",
    }
}

pub(crate) fn usage(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt(),
        "completion_tokens": usage.produced(),
        "total_tokens": usage.total(),
        "prompt_tokens_details": {"cached_tokens": usage.cache_read, "audio_tokens": usage.audio},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": usage.audio_output,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
    })
}

/// Log probabilities of a text's tokens; alternatives get worse and worse.
pub(crate) fn logprobs(text: &str, alternatives: u64) -> Vec<Value> {
    let one = |token: &str, rank: u64| json!({"token": token, "logprob": -0.125 - rank as f64, "bytes": token.as_bytes()});
    tokens(text)
        .map(|token| {
            let mut chosen = one(token, 0);
            let others = (0..alternatives).map(|rank| match rank {
                0 => one(token, 0),
                rank => one(&format!("{token}{rank}"), rank),
            });
            chosen["top_logprobs"] = others.collect();
            chosen
        })
        .collect()
}

pub(crate) fn plain(ask: &Ask, reply: &Reply) -> Value {
    let choices: Vec<Value> = reply
        .answers
        .iter()
        .enumerate()
        .map(|(idx, answer)| choice(ask, idx, answer))
        .collect();
    json!({
        "id": format!("chatcmpl-{}", reply.id),
        "object": "chat.completion",
        "created": reply.created,
        "model": ask.model,
        "choices": choices,
        "usage": usage(&reply.usage),
        "service_tier": "default",
        "system_fingerprint": null,
    })
}

fn choice(ask: &Ask, idx: usize, answer: &Answer) -> Value {
    let is_only_calls = answer.text.is_empty() && !answer.calls.is_empty();
    let mut message = Map::new();
    message.insert("role".to_owned(), json!("assistant"));
    message.insert(
        "content".to_owned(),
        if is_only_calls {
            Value::Null
        } else {
            json!(answer.text)
        },
    );
    if let Some(thought) = &answer.reasoning {
        message.insert("reasoning_content".to_owned(), json!(thought));
    }
    if !answer.calls.is_empty() {
        let calls = answer.calls.iter().map(|call| {
            json!({"id": format!("call_{}", call.id), "type": "function",
                "function": {"name": call.name, "arguments": call.arguments.to_string()}})
        });
        message.insert("tool_calls".to_owned(), calls.collect());
    }
    message.insert("refusal".to_owned(), Value::Null);
    message.insert("annotations".to_owned(), json!([]));
    let mut choice = json!({"index": idx, "message": message, "finish_reason": finish_reason(&answer.end)});
    if let Some(alternatives) = ask.logprobs {
        choice["logprobs"] = json!({"content": logprobs(&answer.text, alternatives), "refusal": null});
    }
    choice
}

/// The parts of a stream that stay the same.
struct Frame<'a> {
    ask: &'a Ask,
    reply: &'a Reply,
    has_usage: bool,
    is_obfuscated: bool,
    random: Random,
}

impl Frame<'_> {
    fn chunk(&mut self, choices: &Value, usage: Option<Value>) -> Piece {
        let mut chunk = json!({
            "id": format!("chatcmpl-{}", self.reply.id),
            "object": "chat.completion.chunk",
            "created": self.reply.created,
            "model": self.ask.model,
            "service_tier": "default",
            "system_fingerprint": null,
            "choices": choices,
        });
        if self.has_usage {
            chunk["usage"] = usage.unwrap_or_default();
        }
        if self.is_obfuscated {
            let length = 1 + self.random.below(16) as usize;
            chunk["obfuscation"] = json!(letters(&mut self.random, length));
        }
        data(&chunk)
    }

    fn delta(&mut self, idx: usize, delta: &Value, end: Option<&End>, logprobs: Option<Vec<Value>>) -> Piece {
        let mut choice = json!({"index": idx, "delta": delta, "finish_reason": end.map(finish_reason)});
        if let Some(logprobs) = logprobs {
            choice["logprobs"] = json!({"content": logprobs, "refusal": null});
        }
        self.chunk(&json!([choice]), None)
    }
}

pub(crate) fn stream(ask: &Ask, body: &Value, reply: &Reply) -> Vec<Piece> {
    let options = &body["stream_options"];
    let mut frame = Frame {
        ask,
        reply,
        has_usage: options["include_usage"] == json!(true),
        is_obfuscated: options["include_obfuscation"] != json!(false),
        random: Random::new(0, &reply.id),
    };
    let mut random = Random::new(1, &reply.id);
    let mut pieces = Vec::new();
    for (idx, answer) in reply.answers.iter().enumerate() {
        let start = json!({"role": "assistant", "content": "", "refusal": null});
        pieces.push(frame.delta(idx, &start, None, None));
        for (run, tokens) in runs(answer.reasoning.as_deref().unwrap_or_default(), &mut random) {
            pieces.push(
                frame
                    .delta(idx, &json!({"reasoning_content": run}), None, None)
                    .reasoning(tokens),
            );
        }
        for (run, tokens) in runs(&answer.text, &mut random) {
            let logprobs = ask.logprobs.map(|alternatives| logprobs(run, alternatives));
            pieces.push(
                frame
                    .delta(idx, &json!({"content": run}), None, logprobs)
                    .output(tokens),
            );
        }
        for (at, call) in answer.calls.iter().enumerate() {
            let start = json!({"tool_calls": [{"index": at, "id": format!("call_{}", call.id), "type": "function",
                "function": {"name": call.name, "arguments": ""}}]});
            pieces.push(frame.delta(idx, &start, None, None).output(count(&call.name)));
            for (run, tokens) in runs(&call.arguments.to_string(), &mut random) {
                let more = json!({"tool_calls": [{"index": at, "function": {"arguments": run}}]});
                pieces.push(frame.delta(idx, &more, None, None).output(tokens));
            }
        }
        pieces.push(frame.delta(idx, &json!({}), Some(&answer.end), None));
    }
    if frame.has_usage {
        pieces.push(frame.chunk(&json!([]), Some(usage(&reply.usage))));
    }
    pieces.push(Piece::new("data: [DONE]\n\n"));
    pieces
}

pub(crate) fn stream_error() -> Piece {
    data(
        &json!({"error": {"message": "The server had an error processing your request. Sorry about that!",
        "type": "server_error", "param": null, "code": null}}),
    )
}
