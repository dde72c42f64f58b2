//! AWS Bedrock Converse: requests, read into the canonical model and written from it.

use super::blocks::{BlockWriter, read_blocks, read_cache_point, write_cache_point};
use super::one;
use crate::canonical::{
    ConvertError, Fields, Message, OutputShape, PartKind, Reasoning, Request, Role, Tool, ToolChoice,
    Written, bears_meaning, hints, kind_name, put,
};
use crate::convert::{PathFacts, WriteOptions};
use crate::format::Format;
use serde_json::{Map, Value, json};

/// What this API passes on to the model as it is.
const MODEL_FIELDS: &str = "additionalModelRequestFields";

/// Reads the body of a request to `/model/MODEL/converse`.
///
/// # Errors
/// [`ConvertError::Invalid`] names the first field that is missing or of the wrong type.
pub fn read_request(body: Value, path: &PathFacts) -> Result<Request, ConvertError> {
    let mut fields = Fields::new(body, "")?;
    let model = path
        .model
        .clone()
        .ok_or_else(|| fields.invalid("model", "in the path of the request"))?;
    let mut messages = Vec::new();
    if let Some(system) = fields.list("system")?.filter(|system| !system.is_empty()) {
        messages.push(Message {
            role: Role::System,
            parts: read_blocks(system, "system")?,
            other: Map::new(),
        });
    }
    let turns = fields
        .list("messages")?
        .ok_or_else(|| fields.invalid("messages", "an array"))?;
    for (idx, turn) in turns.into_iter().enumerate() {
        let mut turn = Fields::new(turn, &format!("messages[{idx}]"))?;
        let role = match turn.needed_text("role")?.as_str() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" => Role::System,
            _ => return Err(turn.invalid("role", "`user` or `assistant`")),
        };
        let content = turn
            .list("content")?
            .ok_or_else(|| turn.invalid("content", "an array"))?;
        let parts = read_blocks(content, &turn.at("content"))?;
        messages.push(Message {
            role,
            parts,
            other: turn.rest,
        });
    }
    let (tools, tool_choice) = read_tools(&mut fields)?;
    let mut request = Request {
        format: Format::Converse,
        messages,
        tools,
        tool_choice,
        parallel_tool_calls: None,
        max_output_tokens: None,
        temperature: None,
        top_p: None,
        top_k: None,
        frequency_penalty: None,
        presence_penalty: None,
        seed: None,
        n: None,
        logprobs: None,
        top_logprobs: None,
        stop: Vec::new(),
        output: read_output(&mut fields)?,
        reasoning: Reasoning::default(),
        user: None,
        stream: path.stream,
        other: Map::new(),
        model,
    };
    if let Some(mut config) = fields.object("inferenceConfig")? {
        request.max_output_tokens = config.whole("maxTokens")?;
        request.temperature = config.number("temperature")?;
        request.top_p = config.number("topP")?;
        let stop = config.list("stopSequences")?.unwrap_or_default();
        let stop = stop.iter().map(|text| text.as_str().map(str::to_owned));
        request.stop = stop
            .collect::<Option<_>>()
            .ok_or_else(|| config.invalid("stopSequences", "an array of strings"))?;
        fields.put_back("inferenceConfig", config);
    }
    // A document of any type; only an object has fields that are known.
    if fields.rest.get(MODEL_FIELDS).is_some_and(Value::is_object)
        && let Some(mut of_model) = fields.object(MODEL_FIELDS)?
    {
        read_model_fields(&mut of_model, &mut request)?;
        fields.put_back(MODEL_FIELDS, of_model);
    }
    request.other = fields.rest;
    Ok(request)
}

/// Whose fields a model has beside those of this API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maker {
    Anthropic,
    OpenAi,
    Nova2,
    Another,
}

fn maker(model: &str) -> Maker {
    match model {
        _ if model.contains("claude") => Maker::Anthropic,
        _ if model.contains("openai.") => Maker::OpenAi,
        _ if model.contains("nova-2") => Maker::Nova2,
        _ => Maker::Another,
    }
}

fn read_model_fields(of_model: &mut Fields, request: &mut Request) -> Result<(), ConvertError> {
    match maker(&request.model) {
        Maker::Anthropic => {
            request.top_k = of_model.whole("top_k")?;
            if let Some(mut thinking) = of_model.object("thinking")? {
                request.reasoning.mode = thinking.text("type")?;
                request.reasoning.budget_tokens = thinking.whole("budget_tokens")?;
                of_model.put_back("thinking", thinking);
            }
            if let Some(mut config) = of_model.object("output_config")? {
                request.reasoning.effort = config.text("effort")?;
                of_model.put_back("output_config", config);
            }
        }
        Maker::OpenAi => request.reasoning.effort = of_model.text("reasoning_effort")?,
        Maker::Nova2 | Maker::Another => {}
    }
    Ok(())
}

fn read_tools(fields: &mut Fields) -> Result<(Vec<Tool>, Option<ToolChoice>), ConvertError> {
    let mut tools = Vec::new();
    let Some(mut config) = fields.object("toolConfig")? else {
        return Ok((tools, None));
    };
    for (idx, tool) in config.list("tools")?.unwrap_or_default().into_iter().enumerate() {
        if let (Some(point), Some(Tool::Function { cache_control, .. })) =
            (read_cache_point(&tool), tools.last_mut())
            && cache_control.is_none()
        {
            *cache_control = Some(point);
            continue;
        }
        let mut tool = Fields::new(tool, &config.at(&format!("tools[{idx}]")))?;
        let Some(mut spec) = tool.object("toolSpec")? else {
            tools.push(Tool::Other(Value::Object(tool.rest)));
            continue;
        };
        let missing = spec.invalid("inputSchema", "an object");
        let mut schema = spec.object("inputSchema")?.ok_or(missing)?;
        let function = Tool::Function {
            name: spec.needed_text("name")?,
            description: spec.text("description")?,
            parameters: schema.take("json"),
            strict: spec.flag("strict")?,
            cache_control: None,
            other: {
                spec.put_back("inputSchema", schema);
                tool.put_back("toolSpec", spec);
                tool.rest
            },
        };
        tools.push(function);
    }
    let mut choice = None;
    if let Some(mut named) = config.object("toolChoice")? {
        choice = if named.take("auto").is_some() {
            Some(ToolChoice::Auto)
        } else if named.take("any").is_some() {
            Some(ToolChoice::Required)
        } else if let Some(mut tool) = named.object("tool")? {
            Some(ToolChoice::Named(tool.needed_text("name")?))
        } else {
            return Err(config.invalid("toolChoice", "an object with `auto`, `any` or `tool`"));
        };
    }
    fields.put_back("toolConfig", config);
    Ok((tools, choice))
}

fn read_output(fields: &mut Fields) -> Result<Option<OutputShape>, ConvertError> {
    let Some(mut config) = fields.object("outputConfig")? else {
        return Ok(None);
    };
    let mut output = None;
    if let Some(mut format) = config.object("textFormat")? {
        let missing = format.invalid("structure.jsonSchema", "an object");
        if format.needed_text("type")? != "json_schema" {
            return Err(format.invalid("type", "`json_schema`"));
        }
        let mut structure = format.object("structure")?.ok_or_else(|| missing.clone())?;
        let mut shape = structure.object("jsonSchema")?.ok_or(missing)?;
        let schema = shape.needed_text("schema")?;
        output = Some(OutputShape::JsonSchema {
            name: shape.text("name")?,
            schema: serde_json::from_str(&schema)
                .map_err(|_| shape.invalid("schema", "JSON Schema in a string"))?,
            strict: None,
            description: shape.text("description")?,
        });
        structure.put_back("jsonSchema", shape);
        format.put_back("structure", structure);
        config.put_back("textFormat", format);
    }
    fields.put_back("outputConfig", config);
    Ok(output)
}

/// Writes a request for `/model/MODEL/converse`; the model and whether to stream go into the path.
///
/// # Errors
/// [`ConvertError::Inexpressible`] where meaning would be lost.
pub fn write_request(request: &Request, _options: &WriteOptions) -> Result<Written, ConvertError> {
    let mut writer = BlockWriter::new(request.format, maker(&request.model) == Maker::Anthropic);
    let mut body = Map::new();
    let (mut system, mut turns) = (Vec::new(), Vec::new());
    for message in &request.messages {
        let is_system = matches!(message.role, Role::System | Role::Developer);
        if is_system && (turns.is_empty() || !writer.own) {
            if !turns.is_empty() {
                let moved = "messages[].role (system prompt moved to the front)";
                writer.dropped.push(moved.to_owned());
            }
            system.extend(writer.write_all(&message.parts, false)?);
            writer.others(&mut Map::new(), &message.other, "messages[]");
        } else {
            write_turn(message, &mut turns, &mut writer)?;
        }
    }
    body.insert("messages".to_owned(), turns.into());
    if !system.is_empty() {
        body.insert("system".to_owned(), system.into());
    }
    let config = write_config(request, &mut writer)?;
    if !config.is_empty() {
        body.insert("inferenceConfig".to_owned(), config.into());
    }
    let tools = write_tools(request, &mut writer)?;
    if !tools.is_empty() {
        body.insert("toolConfig".to_owned(), tools.into());
    }
    match &request.output {
        None => {}
        Some(OutputShape::JsonObject) => return Err(BlockWriter::refuse("response_format json_object")),
        Some(OutputShape::JsonSchema {
            name,
            schema,
            description,
            strict,
        }) => {
            if strict.is_some() && !writer.own {
                writer
                    .dropped
                    .push("response_format.json_schema.strict".to_owned());
            }
            let mut shape = one("schema", schema.to_string());
            put(&mut shape, "name", name.as_deref());
            put(&mut shape, "description", description.as_deref());
            let format = json!({"type": "json_schema", "structure": {"jsonSchema": shape}});
            body.insert("outputConfig".to_owned(), json!({"textFormat": format}));
        }
    }
    let of_model = write_model_fields(request, &mut writer);
    if !of_model.is_empty() {
        body.insert(MODEL_FIELDS.to_owned(), of_model.into());
    }
    if writer.own {
        writer.others(&mut body, &request.other, "");
    } else {
        for (key, value) in hints(&request.other) {
            if bears_meaning(key, value) {
                return Err(BlockWriter::refuse(key));
            }
            writer.dropped.push(key.clone());
        }
    }
    Ok(Written {
        body: body.into(),
        dropped: writer.dropped,
    })
}

/// Appends a turn. Bedrock wants speakers to alternate and every turn to say something.
fn write_turn(
    message: &Message,
    turns: &mut Vec<Value>,
    writer: &mut BlockWriter,
) -> Result<(), ConvertError> {
    let content = writer.write_all(&message.parts, false)?;
    let role = match message.role {
        Role::Assistant => "assistant",
        Role::User => "user",
        Role::System | Role::Developer => "system",
    };
    if !writer.own {
        if content.is_empty() {
            return Ok(());
        }
        if let Some(before) = turns.last_mut().filter(|turn| turn["role"] == role)
            && let Some(blocks) = before["content"].as_array_mut()
        {
            blocks.extend(content);
            writer.others(&mut Map::new(), &message.other, "messages[]");
            return Ok(());
        }
    }
    let mut turn = one("role", role);
    turn.insert("content".to_owned(), content.into());
    writer.others(&mut turn, &message.other, "messages[]");
    turns.push(turn.into());
    Ok(())
}

fn write_config(request: &Request, writer: &mut BlockWriter) -> Result<Map<String, Value>, ConvertError> {
    if request.n.is_some_and(|n| n > 1) {
        return Err(BlockWriter::refuse("n"));
    }
    if request.logprobs == Some(true) {
        return Err(BlockWriter::refuse("logprobs"));
    }
    for (name, given) in [
        ("frequency_penalty", request.frequency_penalty.is_some()),
        ("presence_penalty", request.presence_penalty.is_some()),
        ("seed", request.seed.is_some()),
        ("top_logprobs", request.top_logprobs.is_some()),
        ("parallel_tool_calls", request.parallel_tool_calls == Some(false)),
        ("user", request.user.is_some()),
    ] {
        if given {
            writer.dropped.push(name.to_owned());
        }
    }
    let mut config = Map::new();
    put(&mut config, "maxTokens", request.max_output_tokens);
    put(&mut config, "temperature", request.temperature.clone());
    put(&mut config, "topP", request.top_p.clone());
    if !request.stop.is_empty() {
        config.insert("stopSequences".to_owned(), request.stop.clone().into());
    }
    Ok(config)
}

fn write_tools(request: &Request, writer: &mut BlockWriter) -> Result<Map<String, Value>, ConvertError> {
    let mut tools = Vec::new();
    // There is no word for `none`: what must not be called is not shown.
    let hidden = request.tool_choice == Some(ToolChoice::None);
    for tool in request.tools.iter().filter(|_| !hidden) {
        match tool {
            Tool::Function {
                name,
                description,
                parameters,
                strict,
                cache_control,
                other,
            } => {
                let mut spec = one("name", name.as_str());
                // An empty description is refused.
                let description = description
                    .as_deref()
                    .filter(|text| writer.own || !text.is_empty());
                put(&mut spec, "description", description);
                let empty = || json!({"type": "object", "properties": {}});
                let schema = one("json", parameters.clone().unwrap_or_else(empty));
                spec.insert("inputSchema".to_owned(), schema.into());
                put(&mut spec, "strict", *strict);
                let mut tool = one("toolSpec", spec);
                writer.others(&mut tool, other, "tools[]");
                tools.push(Value::Object(tool));
                tools.extend(cache_control.as_ref().map(write_cache_point));
            }
            Tool::Other(value) if writer.own => tools.push(value.clone()),
            Tool::Other(value) => {
                return Err(BlockWriter::refuse(format!("tool {}", kind_name(value))));
            }
        }
    }
    let is_of_tool =
        |kind: &PartKind| matches!(kind, PartKind::ToolCall { .. } | PartKind::ToolResult { .. });
    let mut parts = request.messages.iter().flat_map(|message| &message.parts);
    if tools.is_empty() && !writer.own && parts.any(|part| is_of_tool(&part.kind)) {
        // Bedrock refuses a conversation with calls in it unless the request has tools.
        tools.push(json!({"toolSpec": {
            "name": "no_tool",
            "description": "There are no tools for this turn. Never call this.",
            "inputSchema": {"json": {"type": "object", "properties": {}}},
        }}));
    }
    let mut config = Map::new();
    if !tools.is_empty() {
        config.insert("tools".to_owned(), tools.into());
    }
    let choice = match &request.tool_choice {
        None | Some(ToolChoice::None) => None,
        Some(ToolChoice::Auto) => Some(json!({"auto": {}})),
        Some(ToolChoice::Required) => Some(json!({"any": {}})),
        Some(ToolChoice::Named(name)) => Some(json!({"tool": {"name": name}})),
    };
    put(
        &mut config,
        "toolChoice",
        choice.filter(|_| writer.own || !request.tools.is_empty()),
    );
    Ok(config)
}

/// What only some models know goes into their own fields.
fn write_model_fields(request: &Request, writer: &mut BlockWriter) -> Map<String, Value> {
    let mut fields = Map::new();
    let maker = maker(&request.model);
    if maker == Maker::Anthropic {
        put(&mut fields, "top_k", request.top_k);
    } else if request.top_k.is_some() {
        writer.dropped.push("top_k".to_owned());
    }
    let Reasoning {
        effort,
        budget_tokens,
        mode,
    } = &request.reasoning;
    let (mut effort, mut mode) = (effort.as_deref(), mode.as_deref());
    match (maker, effort) {
        (Maker::Anthropic, Some("none")) => (effort, mode) = (None, Some("disabled")),
        (Maker::Anthropic | Maker::OpenAi | Maker::Nova2, Some("minimal")) if !writer.own => {
            let note = "reasoning_effort (minimal became low)";
            writer.dropped.push(note.to_owned());
            effort = Some("low");
        }
        _ => {}
    }
    if maker == Maker::Anthropic {
        if mode.is_some() || budget_tokens.is_some() {
            let mut thinking = one("type", mode.unwrap_or("enabled"));
            put(&mut thinking, "budget_tokens", *budget_tokens);
            fields.insert("thinking".to_owned(), thinking.into());
        }
        put(
            &mut fields,
            "output_config",
            effort.map(|effort| one("effort", effort)),
        );
        return fields;
    }
    if budget_tokens.is_some() || mode.is_some() {
        writer.dropped.push("thinking".to_owned());
    }
    match (maker, effort) {
        (_, None | Some("none")) => {}
        (Maker::OpenAi, Some(effort)) => put(&mut fields, "reasoning_effort", Some(effort)),
        (Maker::Nova2, Some(effort)) => {
            let config = json!({"type": "enabled", "maxReasoningEffort": effort});
            fields.insert("reasoningConfig".to_owned(), config);
        }
        (_, Some(_)) => writer.dropped.push("reasoning_effort".to_owned()),
    }
    fields
}
