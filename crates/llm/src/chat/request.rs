//! OpenAI Chat Completions: requests, read into the canonical model and written from it.

use super::answer::claude_reasoning;
use crate::canonical::{
    ConvertError, Fields, Message, OutputShape, Part, PartKind, Reasoning, Request, Role, Source, Tool,
    ToolChoice, Written, bears_meaning, effort_of, hints, is_thought, kind_name, merge, plain, put,
};
use crate::convert::WriteOptions;
use crate::format::Format;
use serde_json::{Map, Value, json};

/// Reads the body of a request to `/v1/chat/completions`.
///
/// # Errors
/// [`ConvertError::Invalid`] names the first field that is missing or of the wrong type.
pub fn read_request(body: Value) -> Result<Request, ConvertError> {
    let mut fields = Fields::new(body, "")?;
    let turns = fields
        .list("messages")?
        .ok_or_else(|| fields.invalid("messages", "an array"))?;
    let mut messages = Vec::new();
    // Results of calls made at once come as one message each; they are one turn.
    let mut after_tool = false;
    for (idx, turn) in turns.into_iter().enumerate() {
        let (message, is_tool) = read_message(turn, &format!("messages[{idx}]"))?;
        match messages.last_mut() {
            Some(Message { parts, .. }) if is_tool && after_tool => parts.extend(message.parts),
            _ => messages.push(message),
        }
        after_tool = is_tool;
    }
    let tools = fields.list("tools")?.unwrap_or_default();
    let tools = tools
        .into_iter()
        .enumerate()
        .map(|(idx, tool)| read_tool(tool, &format!("tools[{idx}]")));
    let tools = tools.collect::<Result<_, _>>()?;
    let max_tokens = fields.whole("max_tokens")?;
    Ok(Request {
        format: Format::Chat,
        model: fields.needed_text("model")?,
        messages,
        tools,
        tool_choice: read_tool_choice(&mut fields)?,
        parallel_tool_calls: fields.flag("parallel_tool_calls")?,
        max_output_tokens: fields.whole("max_completion_tokens")?.or(max_tokens),
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        top_k: None,
        frequency_penalty: fields.number("frequency_penalty")?,
        presence_penalty: fields.number("presence_penalty")?,
        seed: fields.integer("seed")?,
        n: fields.whole("n")?,
        logprobs: fields.flag("logprobs")?,
        top_logprobs: fields.whole("top_logprobs")?,
        stop: read_stop(&mut fields)?,
        output: read_output(&mut fields)?,
        reasoning: Reasoning {
            effort: fields.text("reasoning_effort")?,
            ..Reasoning::default()
        },
        user: fields.text("user")?,
        stream: fields.flag("stream")?.unwrap_or(false),
        other: fields.rest,
    })
}

/// A message, and whether it is the result of a tool.
fn read_message(turn: Value, path: &str) -> Result<(Message, bool), ConvertError> {
    let mut fields = Fields::new(turn, path)?;
    let role = fields.needed_text("role")?;
    let content = match fields.take("content") {
        None => Vec::new(),
        // Some clients must write a text; Anthropic refuses an empty one.
        Some(Value::String(text)) if text.is_empty() => Vec::new(),
        Some(Value::String(text)) => vec![plain(PartKind::Text(text))],
        Some(Value::Array(parts)) => {
            let content = fields.at("content");
            let parts = parts.into_iter().enumerate();
            parts
                .map(|(idx, part)| read_part(part, &format!("{content}[{idx}]")))
                .collect::<Result<_, _>>()?
        }
        Some(_) => return Err(fields.invalid("content", "a string or an array")),
    };
    let (role, parts) = match role.as_str() {
        "system" => (Role::System, content),
        "developer" => (Role::Developer, content),
        "user" => (Role::User, content),
        "assistant" => (Role::Assistant, read_assistant(&mut fields, content)?),
        "tool" => {
            let id = fields.needed_text("tool_call_id")?;
            let kind = PartKind::ToolResult {
                id,
                is_error: None,
                parts: content,
            };
            let part = Part {
                kind,
                other: fields.rest,
                cache_control: None,
            };
            return Ok((
                Message {
                    role: Role::User,
                    parts: vec![part],
                    other: Map::new(),
                },
                true,
            ));
        }
        _ => return Err(fields.invalid("role", "`system`, `developer`, `user`, `assistant` or `tool`")),
    };
    Ok((
        Message {
            role,
            parts,
            other: fields.rest,
        },
        false,
    ))
}

fn read_assistant(fields: &mut Fields, content: Vec<Part>) -> Result<Vec<Part>, ConvertError> {
    let mut parts = Vec::new();
    let signed = read_details(fields);
    if !signed.is_empty() {
        parts.extend(signed);
    } else if let Some(text) = fields.text("reasoning_content")? {
        parts.push(plain(PartKind::Reasoning {
            text,
            signature: None,
        }));
    }
    parts.extend(content);
    for (idx, call) in fields
        .list("tool_calls")?
        .unwrap_or_default()
        .into_iter()
        .enumerate()
    {
        let mut call_fields = Fields::new(call.clone(), &fields.at(&format!("tool_calls[{idx}]")))?;
        if call_fields.text("type")?.is_some_and(|kind| kind != "function") {
            parts.push(plain(PartKind::Other(call)));
            continue;
        }
        let missing = call_fields.invalid("function", "an object");
        let mut function = call_fields.object("function")?.ok_or(missing)?;
        let kind = PartKind::ToolCall {
            id: call_fields.needed_text("id")?,
            name: function.needed_text("name")?,
            arguments: function.text("arguments")?.unwrap_or_default(),
        };
        call_fields.put_back("function", function);
        parts.push(Part {
            kind,
            other: call_fields.rest,
            cache_control: None,
        });
    }
    Ok(parts)
}

/// Reasoning that Claude signed, handed back by the client in OpenRouter's `reasoning_details`, as
/// [`super::write_answer`] gave it. The fields themselves are kept with the first part, for this format.
fn read_details(fields: &mut Fields) -> Vec<Part> {
    let said = ["reasoning_content", "reasoning"];
    let said = said
        .into_iter()
        .find_map(|key| fields.rest.get(key).and_then(Value::as_str));
    let details = fields.rest.get("reasoning_details");
    let parts = details.map(|details| claude_reasoning(details, said));
    let mut parts: Vec<Part> = parts.unwrap_or_default().into_iter().map(plain).collect();
    if let Some(first) = parts.first_mut() {
        for key in ["reasoning_details", "reasoning_content", "reasoning"] {
            if let Some(value) = fields.rest.shift_remove(key) {
                first.other.insert(key.to_owned(), value);
            }
        }
    }
    parts
}

fn read_part(part: Value, path: &str) -> Result<Part, ConvertError> {
    let mut fields = Fields::new(part.clone(), path)?;
    let cache_control = fields.take("cache_control");
    let kind = match fields.needed_text("type")?.as_str() {
        "text" => PartKind::Text(fields.needed_text("text")?),
        "image_url" => {
            let missing = fields.invalid("image_url", "an object");
            let mut image = fields.object("image_url")?.ok_or(missing)?;
            let url = image.needed_text("url")?;
            fields.put_back("image_url", image);
            PartKind::Image(read_data_url(&url).unwrap_or(Source::Url(url)))
        }
        "file" => {
            let missing = fields.invalid("file", "an object");
            let mut file = fields.object("file")?.ok_or(missing)?;
            let id = file.text("file_id")?.map(Source::Id);
            let data = file.text("file_data")?;
            // Some providers take a plain URL or bare base64 here; that is theirs.
            let Some(source) = id.or_else(|| data.as_deref().and_then(read_data_url)) else {
                return Ok(plain(PartKind::Other(part)));
            };
            let name = file.text("filename")?;
            fields.put_back("file", file);
            PartKind::File { source, name }
        }
        _ => return Ok(plain(PartKind::Other(part))),
    };
    Ok(Part {
        kind,
        other: fields.rest,
        cache_control,
    })
}

fn read_data_url(url: &str) -> Option<Source> {
    let (media_type, data) = url.strip_prefix("data:")?.split_once(";base64,")?;
    Some(Source::Base64 {
        media_type: media_type.to_owned(),
        data: data.to_owned(),
    })
}

fn read_tool(tool: Value, path: &str) -> Result<Tool, ConvertError> {
    let mut fields = Fields::new(tool.clone(), path)?;
    if fields.needed_text("type")? != "function" {
        return Ok(Tool::Other(tool));
    }
    let missing = fields.invalid("function", "an object");
    let mut function = fields.object("function")?.ok_or(missing)?;
    let tool = Tool::Function {
        name: function.needed_text("name")?,
        description: function.text("description")?,
        parameters: function.take("parameters"),
        strict: function.flag("strict")?,
        cache_control: fields.take("cache_control"),
        other: {
            fields.put_back("function", function);
            fields.rest
        },
    };
    Ok(tool)
}

fn read_tool_choice(fields: &mut Fields) -> Result<Option<ToolChoice>, ConvertError> {
    let Some(choice) = fields.take("tool_choice") else {
        return Ok(None);
    };
    let named = choice.pointer("/function/name").and_then(Value::as_str);
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

fn read_stop(fields: &mut Fields) -> Result<Vec<String>, ConvertError> {
    let texts = match fields.take("stop") {
        None => Some(Vec::new()),
        Some(Value::String(text)) => Some(vec![text]),
        Some(Value::Array(texts)) => texts
            .iter()
            .map(|text| text.as_str().map(str::to_owned))
            .collect(),
        Some(_) => None,
    };
    texts.ok_or_else(|| fields.invalid("stop", "a string or an array of strings"))
}

fn read_output(fields: &mut Fields) -> Result<Option<OutputShape>, ConvertError> {
    let Some(mut shape) = fields.object("response_format")? else {
        return Ok(None);
    };
    match shape.needed_text("type")?.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some(OutputShape::JsonObject)),
        "json_schema" => {
            let missing = shape.invalid("json_schema", "an object");
            let mut inner = shape.object("json_schema")?.ok_or(missing)?;
            let output = OutputShape::JsonSchema {
                name: inner.text("name")?,
                schema: inner
                    .take("schema")
                    .ok_or_else(|| inner.invalid("schema", "an object"))?,
                strict: inner.flag("strict")?,
                description: inner.text("description")?,
            };
            shape.put_back("json_schema", inner);
            fields.put_back("response_format", shape);
            Ok(Some(output))
        }
        _ => Err(shape.invalid("type", "`text`, `json_object` or `json_schema`")),
    }
}

/// Writes a request for `/v1/chat/completions`.
///
/// # Errors
/// [`ConvertError::Inexpressible`] where meaning would be lost.
pub fn write_request(request: &Request, options: &WriteOptions) -> Result<Written, ConvertError> {
    let mut writer = Writer {
        own: request.format == Format::Chat,
        dropped: Vec::new(),
    };
    let mut body = Map::new();
    body.insert("model".to_owned(), request.model.clone().into());
    let mut messages = Vec::new();
    for message in &request.messages {
        writer.message(message, &mut messages)?;
    }
    body.insert("messages".to_owned(), messages.into());
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
        ToolChoice::Named(name) => json!({"type": "function", "function": {"name": name}}),
    });
    put(&mut body, "tool_choice", choice);
    if !request.tools.is_empty() || writer.own {
        put(&mut body, "parallel_tool_calls", request.parallel_tool_calls);
    }
    let max_tokens = if options.legacy_max_tokens {
        "max_tokens"
    } else {
        "max_completion_tokens"
    };
    put(&mut body, max_tokens, request.max_output_tokens);
    put(&mut body, "temperature", request.temperature.clone());
    put(&mut body, "top_p", request.top_p.clone());
    if request.top_k.is_some() {
        writer.dropped.push("top_k".to_owned());
    }
    put(&mut body, "frequency_penalty", request.frequency_penalty.clone());
    put(&mut body, "presence_penalty", request.presence_penalty.clone());
    put(&mut body, "seed", request.seed);
    put(&mut body, "n", request.n);
    put(&mut body, "logprobs", request.logprobs);
    put(&mut body, "top_logprobs", request.top_logprobs);
    if !request.stop.is_empty() {
        body.insert("stop".to_owned(), request.stop.clone().into());
    }
    put(
        &mut body,
        "response_format",
        request.output.as_ref().map(write_output),
    );
    let effort = effort_of(&request.reasoning, &mut writer.dropped);
    put(&mut body, "reasoning_effort", effort);
    put(&mut body, "user", request.user.as_deref());
    if request.stream {
        body.insert("stream".to_owned(), true.into());
    }
    writer.others(&mut body, &request.other, "")?;
    Ok(Written {
        body: Value::Object(body),
        dropped: writer.dropped,
    })
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
            // OpenAI demands a name; it is shown to the model and otherwise free.
            inner.insert("name".to_owned(), name.as_deref().unwrap_or("answer").into());
            put(&mut inner, "description", description.as_deref());
            inner.insert("schema".to_owned(), schema.clone());
            put(&mut inner, "strict", *strict);
            json!({"type": "json_schema", "json_schema": inner})
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
            format: Format::Chat,
        }
    }

    fn others(
        &mut self,
        body: &mut Map<String, Value>,
        other: &Map<String, Value>,
        path: &str,
    ) -> Result<(), ConvertError> {
        if self.own {
            merge(body, other);
            return Ok(());
        }
        for (key, value) in hints(other) {
            if path.is_empty() && bears_meaning(key, value) {
                return Err(Self::refuse(key));
            }
            self.dropped.push(if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            });
        }
        Ok(())
    }

    fn message(&mut self, message: &Message, messages: &mut Vec<Value>) -> Result<(), ConvertError> {
        let role = match message.role {
            Role::System => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        let (mut content, mut calls, mut reasoning, mut n_results) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let mut given = Map::new();
        for part in &message.parts {
            match &part.kind {
                PartKind::ToolResult { id, is_error, parts } => {
                    n_results += 1;
                    messages.push(self.tool_result(part, id, *is_error, parts)?);
                }
                PartKind::ToolCall { id, name, arguments } => {
                    let function = json!({"name": name, "arguments": arguments});
                    let mut call = json!({"id": id, "type": "function", "function": function});
                    if let Some(call) = call.as_object_mut() {
                        self.others(call, &part.other, "tool_calls[]")?;
                    }
                    calls.push(call);
                }
                // Signed reasoning has the client's own fields with its first part.
                PartKind::Reasoning { signature, .. } if self.own && signature.is_some() => {
                    given.extend(part.other.clone());
                }
                PartKind::Other(value) if self.own && value["type"] == "redacted_thinking" => {
                    given.extend(part.other.clone());
                }
                PartKind::Reasoning { text, .. } if self.own => reasoning.push(text.as_str()),
                // Past reasoning is no part of what was said, and this format has no standard field for it.
                kind if !self.own && is_thought(kind) => self.dropped.push("thinking".to_owned()),
                PartKind::Other(call) if self.own && call["type"] == "custom" => calls.push(call.clone()),
                _ => content.push(self.part(part)?),
            }
        }
        if n_results > 0 && content.is_empty() && message.other.is_empty() {
            return Ok(());
        }
        let mut body = Map::new();
        body.insert("role".to_owned(), role.into());
        if !content.is_empty() || calls.is_empty() {
            body.insert("content".to_owned(), shorten(content));
        }
        if !reasoning.is_empty() {
            body.insert("reasoning_content".to_owned(), reasoning.concat().into());
        }
        body.extend(given);
        if !calls.is_empty() {
            body.insert("tool_calls".to_owned(), calls.into());
        }
        self.others(&mut body, &message.other, "messages[]")?;
        messages.push(body.into());
        Ok(())
    }

    fn tool_result(
        &mut self,
        part: &Part,
        id: &str,
        is_error: Option<bool>,
        parts: &[Part],
    ) -> Result<Value, ConvertError> {
        if !self.own && parts.iter().any(|part| !matches!(part.kind, PartKind::Text(_))) {
            return Err(Self::refuse("tool_result with content other than text"));
        }
        if is_error == Some(true) {
            self.dropped.push("tool_result.is_error".to_owned());
        }
        let content = parts
            .iter()
            .map(|part| self.part(part))
            .collect::<Result<Vec<_>, _>>()?;
        let mut body = Map::new();
        body.insert("role".to_owned(), "tool".into());
        body.insert("tool_call_id".to_owned(), id.into());
        body.insert("content".to_owned(), shorten(content));
        self.others(&mut body, &part.other, "tool_result")?;
        Ok(body.into())
    }

    fn part(&mut self, part: &Part) -> Result<Value, ConvertError> {
        let mut body = match &part.kind {
            PartKind::Text(text) => json!({"type": "text", "text": text}),
            PartKind::Image(Source::Url(url)) => json!({"type": "image_url", "image_url": {"url": url}}),
            PartKind::Image(Source::Base64 { media_type, data }) => {
                json!({"type": "image_url", "image_url": {"url": data_url(media_type, data)}})
            }
            PartKind::Image(Source::Id(_)) => return Err(Self::refuse("image by file id")),
            PartKind::File {
                source: Source::Url(_),
                ..
            } => return Err(Self::refuse("document by url")),
            PartKind::File { source, name } => {
                let mut file = match source {
                    Source::Base64 { media_type, data } => json!({"file_data": data_url(media_type, data)}),
                    Source::Id(id) | Source::Url(id) => json!({"file_id": id}),
                };
                if let Some(name) = name {
                    file["filename"] = name.as_str().into();
                }
                json!({"type": "file", "file": file})
            }
            // That the model declined is said alike in Responses.
            PartKind::Other(value) if self.own || value["type"] == "refusal" => return Ok(value.clone()),
            PartKind::Other(value) => return Err(Self::refuse(kind_name(value))),
            PartKind::ToolCall { .. } | PartKind::ToolResult { .. } | PartKind::Reasoning { .. } => {
                return Err(Self::refuse("tool call, result or reasoning inside a result"));
            }
        };
        if let Some(body) = body.as_object_mut() {
            self.cache_control(part.cache_control.as_ref(), body);
            self.others(body, &part.other, "content[]")?;
        }
        Ok(body)
    }

    fn cache_control(&mut self, cache_control: Option<&Value>, body: &mut Map<String, Value>) {
        if self.own {
            put(body, "cache_control", cache_control.cloned());
        } else if cache_control.is_some() {
            self.dropped.push("cache_control".to_owned());
        }
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
                let mut function = Map::new();
                function.insert("name".to_owned(), name.as_str().into());
                put(&mut function, "description", description.as_deref());
                put(&mut function, "parameters", parameters.clone());
                put(&mut function, "strict", *strict);
                let mut body = Map::new();
                body.insert("type".to_owned(), "function".into());
                body.insert("function".to_owned(), function.into());
                self.cache_control(cache_control.as_ref(), &mut body);
                self.others(&mut body, other, "tools[]")?;
                Ok(body.into())
            }
            Tool::Other(value) if self.own => Ok(value.clone()),
            Tool::Other(value) => Err(Self::refuse(format!("tool {}", kind_name(value)))),
        }
    }
}

fn data_url(media_type: &str, data: &str) -> String {
    format!("data:{media_type};base64,{data}")
}

/// One text alone is written as a string, which every provider of this format takes.
fn shorten(content: Vec<Value>) -> Value {
    match &content[..] {
        [] => "".into(),
        [Value::Object(only)] if only.len() == 2 && only.contains_key("text") => only["text"].clone(),
        _ => content.into(),
    }
}
