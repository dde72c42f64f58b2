//! Anthropic Messages: requests, read into the canonical model and written from it.

use crate::canonical::{
    ConvertError, Fields, Message, OutputShape, Part, PartKind, Reasoning, Request, Role, Source, Tool,
    ToolChoice, Written, bears_meaning, hints, is_thought, kind_name, merge, plain, put, shape_hints,
};
use crate::format::Format;
use serde_json::{Map, Value, json};

/// Reads the body of a request to `/v1/messages`.
///
/// # Errors
/// [`ConvertError::Invalid`] names the first field that is missing or of the wrong type.
pub fn read_request(body: Value) -> Result<Request, ConvertError> {
    let mut fields = Fields::new(body, "")?;
    let mut messages = Vec::new();
    if let Some(system) = fields.take("system") {
        messages.push(Message {
            role: Role::System,
            parts: read_content(system, "system")?,
            other: Map::new(),
        });
    }
    let turns = fields
        .list("messages")?
        .ok_or_else(|| fields.invalid("messages", "an array"))?;
    for (idx, turn) in turns.into_iter().enumerate() {
        messages.push(read_message(turn, &format!("messages[{idx}]"))?);
    }
    let tools = fields.list("tools")?.unwrap_or_default();
    let tools = tools
        .into_iter()
        .enumerate()
        .map(|(idx, tool)| read_tool(tool, &format!("tools[{idx}]")));
    let tools = tools.collect::<Result<_, _>>()?;
    let (tool_choice, parallel_tool_calls) = read_tool_choice(&mut fields)?;
    let mut reasoning = Reasoning::default();
    if let Some(mut thinking) = fields.object("thinking")? {
        reasoning.mode = Some(thinking.needed_text("type")?);
        reasoning.budget_tokens = thinking.whole("budget_tokens")?;
        fields.put_back("thinking", thinking);
    }
    let mut output = None;
    if let Some(mut config) = fields.object("output_config")? {
        reasoning.effort = config.text("effort")?;
        if let Some(mut shape) = config.object("format")? {
            output = Some(read_shape(&mut shape)?);
            config.put_back("format", shape);
        }
        fields.put_back("output_config", config);
    }
    // Its name while it was a beta.
    if output.is_none()
        && fields.rest.get("output_format").is_some_and(Value::is_object)
        && let Some(mut shape) = fields.object("output_format")?
    {
        output = Some(read_shape(&mut shape)?);
        fields.put_back("output_format", shape);
    }
    let mut user = None;
    if let Some(mut metadata) = fields.object("metadata")? {
        user = metadata.text("user_id")?;
        fields.put_back("metadata", metadata);
    }
    let stop = fields.list("stop_sequences")?.unwrap_or_default();
    let stop = stop
        .iter()
        .map(|text| text.as_str().map(str::to_owned))
        .collect::<Option<Vec<_>>>();
    Ok(Request {
        format: Format::Messages,
        model: fields.needed_text("model")?,
        messages,
        tools,
        tool_choice,
        parallel_tool_calls,
        max_output_tokens: Some(
            fields
                .whole("max_tokens")?
                .ok_or_else(|| fields.invalid("max_tokens", "a whole number, not negative"))?,
        ),
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        top_k: fields.whole("top_k")?,
        frequency_penalty: None,
        presence_penalty: None,
        seed: None,
        n: None,
        logprobs: None,
        top_logprobs: None,
        stop: stop.ok_or_else(|| fields.invalid("stop_sequences", "an array of strings"))?,
        output,
        reasoning,
        user,
        stream: fields.flag("stream")?.unwrap_or(false),
        other: fields.rest,
    })
}

fn read_shape(shape: &mut Fields) -> Result<OutputShape, ConvertError> {
    if shape.needed_text("type")? != "json_schema" {
        return Err(shape.invalid("type", "`json_schema`"));
    }
    let schema = shape
        .take("schema")
        .ok_or_else(|| shape.invalid("schema", "an object"))?;
    Ok(OutputShape::JsonSchema {
        name: None,
        schema,
        strict: None,
        description: None,
    })
}

fn read_message(turn: Value, path: &str) -> Result<Message, ConvertError> {
    let mut fields = Fields::new(turn, path)?;
    let role = match fields.needed_text("role")?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => return Err(fields.invalid("role", "`user`, `assistant` or `system`")),
    };
    let content = fields
        .take("content")
        .ok_or_else(|| fields.invalid("content", "a string or an array"))?;
    let parts = read_content(content, &fields.at("content"))?;
    Ok(Message {
        role,
        parts,
        other: fields.rest,
    })
}

fn read_content(content: Value, path: &str) -> Result<Vec<Part>, ConvertError> {
    match content {
        Value::String(text) => Ok(vec![plain(PartKind::Text(text))]),
        Value::Array(blocks) => {
            let blocks = blocks.into_iter().enumerate();
            blocks
                .map(|(idx, block)| read_part(block, &format!("{path}[{idx}]")))
                .collect()
        }
        _ => Err(ConvertError::Invalid {
            field: path.to_owned(),
            expected: "a string or an array",
        }),
    }
}

pub(super) fn read_part(block: Value, path: &str) -> Result<Part, ConvertError> {
    let mut fields = Fields::new(block.clone(), path)?;
    let cache_control = fields.take("cache_control");
    let kind = match fields.needed_text("type")?.as_str() {
        "text" => PartKind::Text(fields.needed_text("text")?),
        "image" => match read_source(&mut fields)? {
            Some(source) => PartKind::Image(source),
            None => return Ok(plain(PartKind::Other(block))),
        },
        "document" => match read_source(&mut fields)? {
            Some(source) => PartKind::File {
                source,
                name: fields.text("title")?,
            },
            None => return Ok(plain(PartKind::Other(block))),
        },
        "tool_use" => PartKind::ToolCall {
            id: fields.needed_text("id")?,
            name: fields.needed_text("name")?,
            arguments: match fields.take("input") {
                Some(input @ Value::Object(_)) => input.to_string(),
                _ => return Err(fields.invalid("input", "an object")),
            },
        },
        "tool_result" => PartKind::ToolResult {
            id: fields.needed_text("tool_use_id")?,
            is_error: fields.flag("is_error")?,
            parts: match fields.take("content") {
                Some(content) => read_content(content, &fields.at("content"))?,
                None => Vec::new(),
            },
        },
        "thinking" => PartKind::Reasoning {
            text: fields.needed_text("thinking")?,
            signature: fields.text("signature")?,
        },
        _ => return Ok(plain(PartKind::Other(block))),
    };
    Ok(Part {
        kind,
        other: fields.rest,
        cache_control,
    })
}

/// The source of an image or document; `None` for kinds that are Anthropic's own (text, content).
fn read_source(fields: &mut Fields) -> Result<Option<Source>, ConvertError> {
    let mut inner = fields
        .object("source")?
        .ok_or_else(|| fields.invalid("source", "an object"))?;
    let source = match inner.needed_text("type")?.as_str() {
        "url" => Source::Url(inner.needed_text("url")?),
        "base64" => Source::Base64 {
            media_type: inner.needed_text("media_type")?,
            data: inner.needed_text("data")?,
        },
        "file" => Source::Id(inner.needed_text("file_id")?),
        _ => return Ok(None),
    };
    fields.put_back("source", inner);
    Ok(Some(source))
}

fn read_tool(tool: Value, path: &str) -> Result<Tool, ConvertError> {
    let mut fields = Fields::new(tool.clone(), path)?;
    if fields.text("type")?.is_some_and(|kind| kind != "custom") {
        return Ok(Tool::Other(tool));
    }
    Ok(Tool::Function {
        name: fields.needed_text("name")?,
        description: fields.text("description")?,
        parameters: fields.take("input_schema"),
        strict: fields.flag("strict")?,
        cache_control: fields.take("cache_control"),
        other: fields.rest,
    })
}

fn read_tool_choice(fields: &mut Fields) -> Result<(Option<ToolChoice>, Option<bool>), ConvertError> {
    let Some(mut choice) = fields.object("tool_choice")? else {
        return Ok((None, None));
    };
    let chosen = match choice.needed_text("type")?.as_str() {
        "auto" => ToolChoice::Auto,
        "none" => ToolChoice::None,
        "any" => ToolChoice::Required,
        "tool" => ToolChoice::Named(choice.needed_text("name")?),
        _ => return Err(choice.invalid("type", "`auto`, `none`, `any` or `tool`")),
    };
    let parallel = choice
        .flag("disable_parallel_tool_use")?
        .map(|disabled| !disabled);
    fields.put_back("tool_choice", choice);
    Ok((Some(chosen), parallel))
}

/// Writes a request for `/v1/messages`. That format demands a limit of output tokens: where the client
/// gave none, `max_tokens_if_absent` is written.
///
/// # Errors
/// [`ConvertError::Inexpressible`] where meaning would be lost.
pub fn write_request(request: &Request, max_tokens_if_absent: u64) -> Result<Written, ConvertError> {
    let mut writer = Writer {
        own: request.format == Format::Messages,
        signed: matches!(
            request.format,
            Format::Chat | Format::Responses | Format::Converse
        ),
        dropped: Vec::new(),
    };
    let mut body = Map::new();
    body.insert("model".to_owned(), request.model.clone().into());
    body.insert(
        "max_tokens".to_owned(),
        request.max_output_tokens.unwrap_or(max_tokens_if_absent).into(),
    );
    let is_system = |message: &&Message| matches!(message.role, Role::System | Role::Developer);
    let n_system = request.messages.iter().take_while(is_system).count();
    let (system, turns) = request.messages.split_at(n_system);
    let mut prompts = Vec::new();
    for message in system {
        prompts.extend(writer.parts(&message.parts)?);
        writer.others(&mut Map::new(), &message.other, "messages[]")?;
    }
    if !prompts.is_empty() {
        body.insert("system".to_owned(), prompts.into());
    }
    let turns = turns
        .iter()
        .map(|message| writer.message(message))
        .collect::<Result<Vec<_>, _>>()?;
    body.insert("messages".to_owned(), turns.into());
    let tools = request
        .tools
        .iter()
        .map(|tool| writer.tool(tool))
        .collect::<Result<Vec<_>, _>>()?;
    if !tools.is_empty() {
        body.insert("tools".to_owned(), tools.into());
    }
    put(&mut body, "tool_choice", write_tool_choice(request));
    put(&mut body, "temperature", request.temperature.clone());
    put(&mut body, "top_p", request.top_p.clone());
    put(&mut body, "top_k", request.top_k);
    writer.sampling(request)?;
    if !request.stop.is_empty() {
        body.insert("stop_sequences".to_owned(), request.stop.clone().into());
    }
    put(
        &mut body,
        "metadata",
        request.user.as_ref().map(|user| json!({"user_id": user})),
    );
    if request.stream {
        body.insert("stream".to_owned(), true.into());
    }
    writer.reasoning_and_output(request, &mut body)?;
    writer.others(&mut body, &request.other, "")?;
    Ok(Written {
        body: Value::Object(body),
        dropped: writer.dropped,
    })
}

fn write_tool_choice(request: &Request) -> Option<Value> {
    let mut choice = match &request.tool_choice {
        Some(ToolChoice::Auto) => json!({"type": "auto"}),
        Some(ToolChoice::None) => return Some(json!({"type": "none"})),
        Some(ToolChoice::Required) => json!({"type": "any"}),
        Some(ToolChoice::Named(name)) => json!({"type": "tool", "name": name}),
        None if request.parallel_tool_calls.is_some() && !request.tools.is_empty() => json!({"type": "auto"}),
        None => return None,
    };
    if let Some(parallel) = request.parallel_tool_calls {
        choice["disable_parallel_tool_use"] = (!parallel).into();
    }
    Some(choice)
}

struct Writer {
    /// The request came in this format, so its unknown fields may be written.
    own: bool,
    /// Signatures in it are Anthropic's: Chat's reader takes no others, other models of Bedrock give none.
    signed: bool,
    dropped: Vec<String>,
}

impl Writer {
    /// Names what this format has no words for. Several answers and log probabilities are no hints.
    fn sampling(&mut self, request: &Request) -> Result<(), ConvertError> {
        if request.n.is_some_and(|n| n > 1) {
            return Err(Self::refuse("n"));
        }
        if request.logprobs == Some(true) {
            return Err(Self::refuse("logprobs"));
        }
        let hints = [
            ("frequency_penalty", request.frequency_penalty.is_some()),
            ("presence_penalty", request.presence_penalty.is_some()),
            ("seed", request.seed.is_some()),
            ("top_logprobs", request.top_logprobs.is_some()),
        ];
        let given = hints.into_iter().filter(|(_, given)| *given);
        self.dropped.extend(given.map(|(name, _)| name.to_owned()));
        Ok(())
    }

    fn refuse(field: impl Into<String>) -> ConvertError {
        ConvertError::Inexpressible {
            field: field.into(),
            format: Format::Messages,
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
            let says_default = match value {
                Value::Bool(flag) => key == "logprobs" && !flag,
                Value::Number(number) => match key.as_str() {
                    "n" => number.as_u64() == Some(1),
                    "top_logprobs" => number.as_u64() == Some(0),
                    _ => false,
                },
                _ => false,
            };
            if says_default {
                continue;
            }
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

    fn message(&mut self, message: &Message) -> Result<Value, ConvertError> {
        let role = match message.role {
            Role::System | Role::Developer => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        let mut body = Map::new();
        body.insert("role".to_owned(), role.into());
        body.insert("content".to_owned(), self.parts(&message.parts)?.into());
        self.others(&mut body, &message.other, "messages[]")?;
        Ok(body.into())
    }

    fn parts(&mut self, parts: &[Part]) -> Result<Vec<Value>, ConvertError> {
        let mut blocks = Vec::with_capacity(parts.len());
        for part in parts {
            // Anthropic accepts past reasoning only under a signature of its own.
            if self.signed
                && let Some(block) = signed_reasoning(&part.kind)
            {
                blocks.push(block);
            } else if !self.own && is_thought(&part.kind) {
                self.dropped.push("reasoning_content".to_owned());
            } else {
                blocks.push(self.part(part)?);
            }
        }
        Ok(blocks)
    }

    fn part(&mut self, part: &Part) -> Result<Value, ConvertError> {
        let block = match &part.kind {
            PartKind::Text(text) => json!({"type": "text", "text": text}),
            PartKind::Image(source) => json!({"type": "image", "source": write_source(source)}),
            PartKind::File { source, name } => {
                let mut block = json!({"type": "document", "source": write_source(source)});
                if let Some(name) = name {
                    block["title"] = name.as_str().into();
                }
                block
            }
            PartKind::ToolCall { id, name, arguments } => {
                let text = if arguments.trim().is_empty() {
                    "{}"
                } else {
                    arguments
                };
                let input = serde_json::from_str::<Map<String, Value>>(text);
                let expected = "a JSON object in a string";
                let input = input.map_err(|_| ConvertError::Invalid {
                    field: format!("arguments of the call `{id}`"),
                    expected,
                })?;
                json!({"type": "tool_use", "id": id, "name": name, "input": input})
            }
            PartKind::ToolResult { id, is_error, parts } => {
                let mut block =
                    json!({"type": "tool_result", "tool_use_id": id, "content": self.parts(parts)?});
                if let Some(is_error) = is_error {
                    block["is_error"] = (*is_error).into();
                }
                block
            }
            PartKind::Reasoning { text, signature } => {
                let mut block = json!({"type": "thinking", "thinking": text});
                if let Some(signature) = signature {
                    block["signature"] = signature.as_str().into();
                }
                block
            }
            PartKind::Other(value) if self.own => value.clone(),
            // That the model declined is a text here.
            PartKind::Other(value) if value["type"] == "refusal" => {
                json!({"type": "text", "text": value["refusal"].as_str().unwrap_or_default()})
            }
            PartKind::Other(value) => return Err(Self::refuse(kind_name(value))),
        };
        let Value::Object(mut block) = block else {
            return Ok(block);
        };
        put(&mut block, "cache_control", part.cache_control.clone());
        self.others(&mut block, &part.other, "content[]")?;
        Ok(block.into())
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
                body.insert("name".to_owned(), name.as_str().into());
                put(&mut body, "description", description.as_deref());
                let empty = || json!({"type": "object", "properties": {}});
                body.insert(
                    "input_schema".to_owned(),
                    parameters.clone().unwrap_or_else(empty),
                );
                put(&mut body, "strict", *strict);
                put(&mut body, "cache_control", cache_control.clone());
                self.others(&mut body, other, "tools[]")?;
                Ok(body.into())
            }
            Tool::Other(value) if self.own => Ok(value.clone()),
            Tool::Other(value) => Err(Self::refuse(format!("tool {}", kind_name(value)))),
        }
    }

    fn reasoning_and_output(
        &mut self,
        request: &Request,
        body: &mut Map<String, Value>,
    ) -> Result<(), ConvertError> {
        let reasoning = &request.reasoning;
        let mut mode = reasoning.mode.as_deref();
        let mut config = Map::new();
        match reasoning.effort.as_deref() {
            Some("none") if !self.own => mode = Some("disabled"),
            Some("minimal") if !self.own => {
                self.dropped
                    .push("reasoning_effort (minimal became low)".to_owned());
                config.insert("effort".to_owned(), "low".into());
            }
            effort => put(&mut config, "effort", effort),
        }
        if mode.is_some() || reasoning.budget_tokens.is_some() {
            let mut thinking = Map::new();
            thinking.insert("type".to_owned(), mode.unwrap_or("enabled").into());
            put(&mut thinking, "budget_tokens", reasoning.budget_tokens);
            body.insert("thinking".to_owned(), thinking.into());
        }
        match &request.output {
            None => {}
            Some(OutputShape::JsonObject) => return Err(Self::refuse("response_format json_object")),
            Some(shape @ OutputShape::JsonSchema { schema, .. }) => {
                config.insert(
                    "format".to_owned(),
                    json!({"type": "json_schema", "schema": schema}),
                );
                self.dropped.extend(shape_hints(shape));
            }
        }
        if !config.is_empty() {
            body.insert("output_config".to_owned(), config.into());
        }
        Ok(())
    }
}

/// Reasoning that Anthropic takes back.
fn signed_reasoning(kind: &PartKind) -> Option<Value> {
    match kind {
        PartKind::Reasoning {
            text,
            signature: Some(signature),
        } => Some(json!({"type": "thinking", "thinking": text, "signature": signature})),
        PartKind::Other(value) if value["type"] == "redacted_thinking" => Some(value.clone()),
        _ => None,
    }
}

fn write_source(source: &Source) -> Value {
    match source {
        Source::Url(url) => json!({"type": "url", "url": url}),
        Source::Base64 { media_type, data } => {
            json!({"type": "base64", "media_type": media_type, "data": data})
        }
        Source::Id(id) => json!({"type": "file", "file_id": id}),
    }
}
