//! OpenAI Responses: requests, read into the canonical model and written from it.
//!
//! What comes back in another way than it came: an `input` that is a text becomes one message of the
//! user; a content that is a text, a list of one; several summaries of one reasoning become one.

use super::items::{RAW, data_url, hidden, is_content, read_item, seal, unseal};
use crate::canonical::{
    ConvertError, Fields, ITEM, Message, OutputShape, Part, PartKind, Reasoning, Request, Role, Source, Tool,
    ToolChoice, Written, bears_meaning, effort_of, hints, kind_name, merge, plain, put,
};
use crate::convert::WriteOptions;
use crate::format::Format;
use serde_json::{Map, Value, json};

/// Asks for log probabilities, as an entry of `include`.
const LOGPROBS: &str = "message.output_text.logprobs";

/// In [`Message::other`], with null: the message came as `instructions`, not as an item.
const INSTRUCTIONS: &str = "instructions";

/// Fields of Chat that are the same here.
const AS_IN_CHAT: [&str; 5] = [
    "metadata",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
];

/// Reads the body of a request to `/v1/responses`.
///
/// # Errors
/// [`ConvertError::Invalid`] names the first field that is missing or of the wrong type.
pub fn read_request(body: Value) -> Result<Request, ConvertError> {
    let mut fields = Fields::new(body, "")?;
    let mut messages = Vec::new();
    if let Some(text) = fields.text("instructions")?.filter(|text| !text.is_empty()) {
        messages.push(Message {
            role: Role::System,
            parts: vec![plain(PartKind::Text(text))],
            other: Map::from_iter([(INSTRUCTIONS.to_owned(), Value::Null)]),
        });
    }
    read_input(&mut fields, &mut messages)?;
    let tools = fields.list("tools")?.unwrap_or_default();
    let tools = tools
        .into_iter()
        .enumerate()
        .map(|(idx, tool)| read_tool(tool, &format!("tools[{idx}]")));
    let tools = tools.collect::<Result<_, _>>()?;
    let mut reasoning = Reasoning::default();
    if let Some(mut inner) = fields.object("reasoning")? {
        reasoning.effort = inner.text("effort")?;
        inner.rest.retain(|_, value| !value.is_null());
        fields.put_back("reasoning", inner);
    }
    let mut logprobs = None;
    if let Some(mut include) = fields.list("include")? {
        let n_all = include.len();
        include.retain(|entry| entry != LOGPROBS);
        logprobs = (include.len() < n_all).then_some(true);
        if !include.is_empty() {
            fields.rest.insert("include".to_owned(), include.into());
        }
    }
    let mut user = fields.text("user")?;
    if user.is_none() {
        user = fields.text("safety_identifier")?;
        if user.is_some() {
            // Null tells which name it came under.
            fields.rest.insert("safety_identifier".to_owned(), Value::Null);
        }
    }
    Ok(Request {
        format: Format::Responses,
        model: fields.needed_text("model")?,
        messages,
        tools,
        tool_choice: read_tool_choice(&mut fields)?,
        parallel_tool_calls: fields.flag("parallel_tool_calls")?,
        max_output_tokens: fields.whole("max_output_tokens")?,
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        top_k: None,
        frequency_penalty: None,
        presence_penalty: None,
        seed: None,
        n: None,
        logprobs,
        top_logprobs: fields.whole("top_logprobs")?,
        stop: Vec::new(),
        output: read_output(&mut fields)?,
        reasoning,
        user,
        stream: fields.flag("stream")?.unwrap_or(false),
        other: fields.rest,
    })
}

fn read_input(fields: &mut Fields, messages: &mut Vec<Message>) -> Result<(), ConvertError> {
    let items = match fields.take("input") {
        Some(Value::Array(items)) => items,
        Some(Value::String(text)) => {
            messages.push(Message {
                role: Role::User,
                parts: vec![plain(PartKind::Text(text))],
                other: Map::new(),
            });
            return Ok(());
        }
        // What is said may be with the provider already.
        None if fields.rest.iter().any(|(key, value)| {
            !value.is_null() && matches!(key.as_str(), "prompt" | "previous_response_id" | "conversation")
        }) =>
        {
            return Ok(());
        }
        _ => return Err(fields.invalid("input", "a string or an array")),
    };
    // Outputs of calls made at once are one turn too.
    let mut after_output = false;
    for (idx, item) in items.into_iter().enumerate() {
        let mut item = read_item(item, &format!("input[{idx}]"))?;
        item.parts.iter_mut().for_each(unseal);
        let is_output = item.role == Role::User && !item.is_message;
        match messages.last_mut() {
            Some(last)
                if (item.role == Role::Assistant && last.role == Role::Assistant)
                    || (is_output && after_output) =>
            {
                last.parts.extend(item.parts);
            }
            _ => messages.push(Message {
                role: item.role,
                parts: item.parts,
                other: Map::new(),
            }),
        }
        after_output = is_output;
    }
    Ok(())
}

fn read_tool(tool: Value, path: &str) -> Result<Tool, ConvertError> {
    let mut fields = Fields::new(tool.clone(), path)?;
    if fields.needed_text("type")? != "function" {
        return Ok(Tool::Other(tool));
    }
    Ok(Tool::Function {
        name: fields.needed_text("name")?,
        description: fields.text("description")?,
        parameters: fields.take("parameters"),
        strict: fields.flag("strict")?,
        cache_control: None,
        other: fields.rest,
    })
}

fn read_tool_choice(fields: &mut Fields) -> Result<Option<ToolChoice>, ConvertError> {
    let Some(choice) = fields.take("tool_choice") else {
        return Ok(None);
    };
    let named = choice["name"].as_str().filter(|_| choice["type"] == "function");
    Ok(Some(match (choice.as_str(), named) {
        (Some("auto"), _) => ToolChoice::Auto,
        (Some("none"), _) => ToolChoice::None,
        (Some("required"), _) => ToolChoice::Required,
        (None, Some(name)) => ToolChoice::Named(name.to_owned()),
        (None, None) if choice.is_object() => {
            fields.rest.insert("tool_choice".to_owned(), choice);
            return Ok(None);
        }
        _ => return Err(fields.invalid("tool_choice", "`auto`, `none`, `required` or an object")),
    }))
}

fn read_output(fields: &mut Fields) -> Result<Option<OutputShape>, ConvertError> {
    let Some(mut text) = fields.object("text")? else {
        return Ok(None);
    };
    let mut output = None;
    if let Some(mut shape) = text.object("format")? {
        output = match shape.needed_text("type")?.as_str() {
            "text" => None,
            "json_object" => Some(OutputShape::JsonObject),
            "json_schema" => Some(OutputShape::JsonSchema {
                name: shape.text("name")?,
                schema: shape
                    .take("schema")
                    .ok_or_else(|| shape.invalid("schema", "an object"))?,
                strict: shape.flag("strict")?,
                description: shape.text("description")?,
            }),
            _ => return Err(shape.invalid("type", "`text`, `json_object` or `json_schema`")),
        };
        shape.rest.retain(|_, value| !value.is_null());
        text.put_back("format", shape);
    }
    text.rest.retain(|_, value| !value.is_null());
    fields.put_back("text", text);
    Ok(output)
}

/// Writes a request for `/v1/responses`.
///
/// # Errors
/// [`ConvertError::Inexpressible`] where meaning would be lost.
pub fn write_request(request: &Request, _options: &WriteOptions) -> Result<Written, ConvertError> {
    let mut writer = Writer {
        own: request.format == Format::Responses,
        dropped: Vec::new(),
    };
    let mut body = Map::new();
    body.insert("model".to_owned(), request.model.as_str().into());
    let mut messages = &request.messages[..];
    if let Some(text) = instructions(messages, writer.own) {
        body.insert(INSTRUCTIONS.to_owned(), text.into());
        messages = &messages[1..];
    }
    let mut items = Vec::new();
    for message in messages {
        writer.message(message, &mut items)?;
    }
    if !items.is_empty() || !writer.own {
        body.insert("input".to_owned(), items.into());
    }
    let tools = request
        .tools
        .iter()
        .map(|tool| writer.tool(tool))
        .collect::<Result<Vec<_>, _>>()?;
    if !tools.is_empty() {
        body.insert("tools".to_owned(), tools.into());
    }
    let choice = request.tool_choice.as_ref().map(|choice| match choice {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Required => "required".into(),
        ToolChoice::Named(name) => json!({"type": "function", "name": name}),
    });
    put(&mut body, "tool_choice", choice);
    put(&mut body, "parallel_tool_calls", request.parallel_tool_calls);
    put(&mut body, "max_output_tokens", request.max_output_tokens);
    put(&mut body, "temperature", request.temperature.clone());
    put(&mut body, "top_p", request.top_p.clone());
    put(&mut body, "top_logprobs", request.top_logprobs);
    writer.sampling(request)?;
    let shape = request
        .output
        .as_ref()
        .map(|output| json!({"format": write_output(output)}));
    put(&mut body, "text", shape);
    let effort = if writer.own {
        request.reasoning.effort.clone()
    } else {
        effort_of(&request.reasoning, &mut writer.dropped)
    };
    put(
        &mut body,
        "reasoning",
        effort.map(|effort| json!({"effort": effort})),
    );
    let named_safety = request.other.get("safety_identifier").is_some_and(Value::is_null);
    let user = if writer.own && named_safety {
        "safety_identifier"
    } else {
        "user"
    };
    if request.stream {
        body.insert("stream".to_owned(), true.into());
    }
    writer.top_level(&mut body, &request.other)?;
    put(&mut body, user, request.user.as_deref());
    if request.logprobs == Some(true) {
        let include = body.entry("include").or_insert_with(|| json!([]));
        if let Some(include) = include.as_array_mut() {
            include.push(LOGPROBS.into());
        }
    }
    if !writer.own {
        // OpenAI keeps what is said here unless told not to; the format of the client has no such store.
        body.entry("store").or_insert(Value::Bool(false));
    }
    Ok(Written {
        body: Value::Object(body),
        dropped: writer.dropped,
    })
}

/// The text of the first message, if it can be `instructions`: of this format, if it came so.
fn instructions(messages: &[Message], own: bool) -> Option<&str> {
    let first = messages.first()?;
    let fits = if own {
        first.other.contains_key(INSTRUCTIONS)
    } else {
        first.role == Role::System && first.other.is_empty()
    };
    match &first.parts[..] {
        [part] if fits && part.other.is_empty() && part.cache_control.is_none() => match &part.kind {
            PartKind::Text(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

fn write_output(output: &OutputShape) -> Value {
    match output {
        OutputShape::JsonObject => json!({"type": "json_object"}),
        OutputShape::JsonSchema {
            name,
            schema,
            strict,
            description,
        } => {
            let mut inner = Map::new();
            inner.insert("type".to_owned(), "json_schema".into());
            // OpenAI demands a name; it is shown to the model and otherwise free.
            inner.insert("name".to_owned(), name.as_deref().unwrap_or("answer").into());
            put(&mut inner, "description", description.as_deref());
            inner.insert("schema".to_owned(), schema.clone());
            put(&mut inner, "strict", *strict);
            inner.into()
        }
    }
}

struct Writer {
    /// The request came in this format, so its unknown fields may be written.
    own: bool,
    dropped: Vec<String>,
}

impl Writer {
    fn refuse(field: impl Into<String>) -> ConvertError {
        ConvertError::Inexpressible {
            field: field.into(),
            format: Format::Responses,
        }
    }

    /// What this format has no words for. Several answers and texts that end one are no hints.
    fn sampling(&mut self, request: &Request) -> Result<(), ConvertError> {
        if request.n.is_some_and(|n| n > 1) {
            return Err(Self::refuse("n"));
        }
        if !request.stop.is_empty() {
            return Err(Self::refuse("stop"));
        }
        let is_zero = |penalty: &Option<serde_json::Number>| {
            penalty.as_ref().is_none_or(|value| value.as_f64() == Some(0.0))
        };
        let hints = [
            ("top_k", request.top_k.is_some()),
            ("frequency_penalty", !is_zero(&request.frequency_penalty)),
            ("presence_penalty", !is_zero(&request.presence_penalty)),
            ("seed", request.seed.is_some()),
        ];
        let given = hints.into_iter().filter(|(_, given)| *given);
        self.dropped.extend(given.map(|(name, _)| name.to_owned()));
        Ok(())
    }

    fn top_level(
        &mut self,
        body: &mut Map<String, Value>,
        other: &Map<String, Value>,
    ) -> Result<(), ConvertError> {
        if self.own {
            merge(body, other);
            return Ok(());
        }
        for (key, value) in hints(other) {
            match key.as_str() {
                _ if bears_meaning(key, value) => return Err(Self::refuse(key)),
                key if AS_IN_CHAT.contains(&key) => {
                    body.insert(key.to_owned(), value.clone());
                }
                "store" if value.is_boolean() => {
                    body.insert("store".to_owned(), value.clone());
                }
                "verbosity" => {
                    let text = body.entry("text").or_insert_with(|| json!({}));
                    text["verbosity"] = value.clone();
                }
                // This format always tells the usage.
                "stream_options" => {}
                key => self.dropped.push(key.to_owned()),
            }
        }
        Ok(())
    }

    /// Unknown fields of a part, message or tool.
    fn inner(&mut self, body: &mut Map<String, Value>, other: &Map<String, Value>, path: &str) {
        for (key, value) in other.iter().filter(|(key, _)| *key != ITEM) {
            if self.own {
                merge(body, &Map::from_iter([(key.clone(), value.clone())]));
            } else if !value.is_null() {
                self.dropped.push(format!("{path}.{key}"));
            }
        }
    }

    fn cache_control(&mut self, cache_control: Option<&Value>) {
        if cache_control.is_some() {
            self.dropped.push("cache_control".to_owned());
        }
    }

    fn message(&mut self, message: &Message, items: &mut Vec<Value>) -> Result<(), ConvertError> {
        // The content of a message under way, and what its item says of itself.
        let (mut content, mut about) = (Vec::new(), Map::new());
        self.inner(&mut Map::new(), &message.other, "messages[]");
        let is_model = message.role == Role::Assistant;
        for part in &message.parts {
            let marked = part.other.get(ITEM);
            if !is_content(&part.kind) || marked.is_some() {
                flush(message.role, &mut content, &mut about, items);
            }
            if is_content(&part.kind) {
                if let Some(Value::Object(marked)) = marked.filter(|_| self.own) {
                    about.clone_from(marked);
                }
                content.push(self.content(part, is_model)?);
            } else {
                items.extend(self.item(part)?);
            }
        }
        if message.parts.is_empty() {
            content.push(text_part(is_model, ""));
        }
        flush(message.role, &mut content, &mut about, items);
        Ok(())
    }

    /// An item that is not a message; `None` if it is dropped.
    fn item(&mut self, part: &Part) -> Result<Option<Value>, ConvertError> {
        let mut body = match &part.kind {
            PartKind::ToolCall { id, name, arguments } => {
                let arguments = if arguments.trim().is_empty() {
                    "{}"
                } else {
                    arguments
                };
                json!({"type": "function_call", "call_id": id, "name": name, "arguments": arguments})
            }
            PartKind::ToolResult { id, is_error, parts } => {
                if *is_error == Some(true) {
                    self.dropped.push("tool_result.is_error".to_owned());
                }
                let mut output = parts
                    .iter()
                    .map(|part| self.content(part, false))
                    .collect::<Result<Vec<_>, _>>()?;
                let output = match &mut output[..] {
                    [] => "".into(),
                    [only]
                        if only["type"] == "input_text" && only.as_object().is_some_and(|o| o.len() == 2) =>
                    {
                        only["text"].take()
                    }
                    _ => output.into(),
                };
                json!({"type": "function_call_output", "call_id": id, "output": output})
            }
            PartKind::Reasoning { text, signature } if self.own => {
                let raw = part.other.get(ITEM).is_some_and(|item| item[RAW] == true);
                let sealed = signature
                    .as_deref()
                    .and_then(|signature| seal(signature, Some(Format::Messages)));
                reasoning_item(text, sealed.as_deref(), raw)
            }
            // Only its maker takes past reasoning back.
            PartKind::Reasoning { .. } => {
                self.dropped.push("reasoning".to_owned());
                return Ok(None);
            }
            PartKind::Other(value) if self.own => match hidden(value) {
                Some(item) => item,
                None => return Ok(Some(value.clone())),
            },
            PartKind::Other(value) if value["type"] == "redacted_thinking" => {
                self.dropped.push("reasoning".to_owned());
                return Ok(None);
            }
            PartKind::Other(value) => {
                return Err(Self::refuse(kind_name(value)));
            }
            PartKind::Text(_) | PartKind::Image(_) | PartKind::File { .. } => return Ok(None),
        };
        self.cache_control(part.cache_control.as_ref());
        if let Some(body) = body.as_object_mut() {
            self.inner(body, &part.other, "content[]");
            if let Some(Value::Object(about)) = part.other.get(ITEM).filter(|_| self.own) {
                merge(body, about);
                body.shift_remove(RAW);
            }
        }
        Ok(Some(body))
    }

    /// A part of a message or of the output of a tool.
    fn content(&mut self, part: &Part, is_model: bool) -> Result<Value, ConvertError> {
        let mut body = match &part.kind {
            PartKind::Text(text) => text_part(is_model, text),
            PartKind::Image(_) | PartKind::File { .. } if is_model => {
                return Err(Self::refuse("image or file of the assistant"));
            }
            PartKind::Image(source) => match source {
                Source::Url(url) => json!({"type": "input_image", "image_url": url}),
                Source::Base64 { media_type, data } => {
                    json!({"type": "input_image", "image_url": data_url(media_type, data)})
                }
                Source::Id(id) if self.own => json!({"type": "input_image", "file_id": id}),
                Source::Id(_) => return Err(Self::refuse("image by file id")),
            },
            PartKind::File { source, name } => {
                let (key, value) = match source {
                    Source::Url(url) => ("file_url", url.clone()),
                    Source::Base64 { media_type, data } => ("file_data", data_url(media_type, data)),
                    // Chat and Responses share OpenAI's files.
                    Source::Id(id) => ("file_id", id.clone()),
                };
                let mut body = json!({"type": "input_file", key: value});
                if let Some(name) = name {
                    body["filename"] = name.as_str().into();
                }
                body
            }
            PartKind::Other(value) if self.own => return Ok(value.clone()),
            PartKind::Other(value) if value["type"] == "refusal" && is_model => return Ok(value.clone()),
            PartKind::Other(value) => {
                return Err(Self::refuse(kind_name(value)));
            }
            PartKind::ToolCall { .. } | PartKind::ToolResult { .. } | PartKind::Reasoning { .. } => {
                return Err(Self::refuse("tool call, result or reasoning inside a result"));
            }
        };
        self.cache_control(part.cache_control.as_ref());
        if let Some(body) = body.as_object_mut() {
            self.inner(body, &part.other, "content[]");
        }
        Ok(body)
    }

    fn tool(&mut self, tool: &Tool) -> Result<Value, ConvertError> {
        match tool {
            Tool::Function {
                name,
                description,
                parameters,
                strict,
                cache_control,
                other,
            } => {
                let mut body = Map::new();
                body.insert("type".to_owned(), "function".into());
                body.insert("name".to_owned(), name.as_str().into());
                put(&mut body, "description", description.as_deref());
                let empty = || json!({"type": "object", "properties": {}});
                body.insert("parameters".to_owned(), parameters.clone().unwrap_or_else(empty));
                // Here functions are strict unless told otherwise; elsewhere they are not.
                let strict = strict.or((!self.own).then_some(false));
                put(&mut body, "strict", strict);
                self.cache_control(cache_control.as_ref());
                self.inner(&mut body, other, "tools[]");
                Ok(body.into())
            }
            Tool::Other(value) if self.own => Ok(value.clone()),
            Tool::Other(value) => Err(Self::refuse(format!("tool {}", kind_name(value)))),
        }
    }
}

fn text_part(is_model: bool, text: &str) -> Value {
    let kind = if is_model { "output_text" } else { "input_text" };
    json!({"type": kind, "text": text})
}

/// Writes the message under way, if there is one.
fn flush(role: Role, content: &mut Vec<Value>, about: &mut Map<String, Value>, items: &mut Vec<Value>) {
    if content.is_empty() {
        return;
    }
    let role = match role {
        Role::System => "system",
        Role::Developer => "developer",
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    let mut item = Map::new();
    item.insert("type".to_owned(), "message".into());
    item.insert("role".to_owned(), role.into());
    // A text alone is the shape that every provider of this format takes.
    let mut content = std::mem::take(content);
    let content = match &mut content[..] {
        [only]
            if about.is_empty()
                && only["text"].is_string()
                && only.as_object().is_some_and(|o| o.len() == 2) =>
        {
            only["text"].take()
        }
        _ => content.into(),
    };
    item.insert("content".to_owned(), content);
    item.append(about);
    items.push(item.into());
}

/// An item of reasoning without its id.
pub(super) fn reasoning_item(text: &str, signature: Option<&str>, raw: bool) -> Value {
    let mut item = json!({"type": "reasoning", "summary": []});
    if !text.is_empty() {
        let (list, kind) = if raw {
            ("content", "reasoning_text")
        } else {
            ("summary", "summary_text")
        };
        item[list] = json!([{"type": kind, "text": text}]);
    }
    if let Some(signature) = signature {
        item["encrypted_content"] = signature.into();
    }
    item
}
