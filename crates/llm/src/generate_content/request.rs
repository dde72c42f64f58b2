//! Google generateContent: requests, read into the canonical model and written from it.

use super::parts::{PartReader, PartWriter};
use super::schema::to_json_schema;
use super::{fields, integer, object, one, whole};
use crate::canonical::{
    ConvertError, Fields, Message, OutputShape, Part, PartKind, Reasoning, Request, Role, Tool, ToolChoice,
    Written, bears_meaning, hints, is_thought, kind_name, merge, put, shape_hints,
};
use crate::convert::{PathFacts, WriteOptions};
use crate::format::Format;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Gemini 3 refuses a turn whose first call has no signature; for calls of another model Google's
/// guide to thought signatures names this text.
const SIGNATURE_OF_ANOTHER_MODEL: &str = "skip_thought_signature_validator";

/// Of `generationConfig`: kinds of answers other than text.
const MODALITIES: &str = "responseModalities";

/// Reads the body of a request to `models/MODEL:generateContent`.
///
/// # Errors
/// [`ConvertError::Invalid`] names the first field that is missing or of the wrong type.
pub fn read_request(body: Value, path: &PathFacts) -> Result<Request, ConvertError> {
    let mut fields = fields(body, "")?;
    let body_model = fields.text("model")?;
    let model = path.model.clone().or(body_model);
    let mut reader = PartReader::new("");
    let mut messages = Vec::new();
    if let Some(mut system) = object(&mut fields, "systemInstruction")? {
        // Google ignores it.
        system.take("role");
        messages.push(read_content(system, Role::System, &mut reader)?);
    }
    let contents = fields
        .list("contents")?
        .ok_or_else(|| fields.invalid("contents", "an array"))?;
    for (idx, content) in contents.into_iter().enumerate() {
        let mut content = self::fields(content, &format!("contents[{idx}]"))?;
        let role = match content.text("role")?.as_deref() {
            // `function` is the old name of the author of results.
            None | Some("user" | "function") => Role::User,
            Some("model") => Role::Assistant,
            Some(_) => return Err(content.invalid("role", "`user` or `model`")),
        };
        messages.push(read_content(content, role, &mut reader)?);
    }
    let mut tools = Vec::new();
    for (idx, tool) in fields.list("tools")?.unwrap_or_default().into_iter().enumerate() {
        read_tools(tool, &format!("tools[{idx}]"), &mut tools)?;
    }
    let tool_choice = read_tool_choice(&mut fields)?;
    let mut request = Request {
        format: Format::GenerateContent,
        model: model.ok_or_else(|| fields.invalid("model", "in the path of the request"))?,
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
        output: None,
        reasoning: Reasoning::default(),
        user: None,
        stream: path.stream,
        other: Map::new(),
    };
    if let Some(config) = object(&mut fields, "generationConfig")? {
        let mut config = read_config(config, &mut request)?;
        // Text is what every answer may have. Another kind bears meaning, which is judged by the names of
        // the request's own fields.
        let modalities = config.take(MODALITIES).filter(|kinds| kinds != &json!(["TEXT"]));
        put(&mut fields.rest, MODALITIES, modalities);
        fields.put_back("generationConfig", config);
    }
    request.other = fields.rest;
    Ok(request)
}

fn read_content(mut content: Fields, role: Role, reader: &mut PartReader) -> Result<Message, ConvertError> {
    let parts = content.list("parts")?.unwrap_or_default();
    Ok(Message {
        role,
        parts: reader.read_all(parts, &content.at("parts"))?,
        other: content.rest,
    })
}

/// One tool of this format holds any number of functions, and tools of Google beside them.
fn read_tools(tool: Value, path: &str, tools: &mut Vec<Tool>) -> Result<(), ConvertError> {
    let mut tool = fields(tool, path)?;
    let functions = tool.list("functionDeclarations")?.unwrap_or_default();
    for (idx, function) in functions.into_iter().enumerate() {
        let mut function = fields(function, &tool.at(&format!("functionDeclarations[{idx}]")))?;
        let dialect = function.take("parameters").map(|schema| to_json_schema(&schema));
        tools.push(Tool::Function {
            name: function.needed_text("name")?,
            description: function.text("description")?,
            parameters: function.take("parametersJsonSchema").or(dialect),
            strict: None,
            cache_control: None,
            other: function.rest,
        });
    }
    if !tool.rest.is_empty() {
        tools.push(Tool::Other(Value::Object(tool.rest)));
    }
    Ok(())
}

fn read_tool_choice(fields: &mut Fields) -> Result<Option<ToolChoice>, ConvertError> {
    let Some(mut config) = object(fields, "toolConfig")? else {
        return Ok(None);
    };
    let mut choice = None;
    if let Some(mut calling) = object(&mut config, "functionCallingConfig")? {
        let mode = calling.text("mode")?;
        let mut allowed = calling.list("allowedFunctionNames")?.unwrap_or_default();
        let only = match &allowed[..] {
            [Value::String(name)] => Some(name.clone()),
            _ => None,
        };
        choice = match mode.as_deref().map(str::to_ascii_uppercase).as_deref() {
            Some("AUTO") => Some(ToolChoice::Auto),
            Some("NONE") => Some(ToolChoice::None),
            Some("ANY") => match only {
                Some(name) => {
                    allowed.clear();
                    Some(ToolChoice::Named(name))
                }
                None => Some(ToolChoice::Required),
            },
            // Such as `VALIDATED`: as the model likes, with arguments that follow their schemas.
            Some(_) => {
                put(&mut calling.rest, "mode", mode);
                None
            }
            None => None,
        };
        if !allowed.is_empty() {
            calling
                .rest
                .insert("allowedFunctionNames".to_owned(), allowed.into());
        }
        config.put_back("functionCallingConfig", calling);
    }
    fields.put_back("toolConfig", config);
    Ok(choice)
}

/// Reads what the canonical model knows into the request and returns the rest.
fn read_config(mut config: Fields, request: &mut Request) -> Result<Fields, ConvertError> {
    request.temperature = config.number("temperature")?;
    request.top_p = config.number("topP")?;
    request.top_k = whole(&mut config, "topK")?;
    request.max_output_tokens = whole(&mut config, "maxOutputTokens")?;
    request.frequency_penalty = config.number("frequencyPenalty")?;
    request.presence_penalty = config.number("presencePenalty")?;
    request.seed = integer(&mut config, "seed")?;
    request.n = whole(&mut config, "candidateCount")?;
    request.logprobs = config.flag("responseLogprobs")?;
    request.top_logprobs = whole(&mut config, "logprobs")?;
    let stop = config.list("stopSequences")?.unwrap_or_default();
    let stop = stop.iter().map(|text| text.as_str().map(str::to_owned));
    request.stop = stop
        .collect::<Option<_>>()
        .ok_or_else(|| config.invalid("stopSequences", "an array of strings"))?;
    match config.text("responseMimeType")?.as_deref() {
        None | Some("text/plain") => {}
        Some("application/json") => {
            let dialect = config
                .take("responseSchema")
                .map(|schema| to_json_schema(&schema));
            // The second is the name under which SDKs sent it at first.
            let schema = config
                .take("responseJsonSchema")
                .or_else(|| config.take("_responseJsonSchema"))
                .or(dialect);
            request.output = Some(match schema {
                None => OutputShape::JsonObject,
                Some(schema) => OutputShape::JsonSchema {
                    name: None,
                    schema,
                    strict: None,
                    description: None,
                },
            });
        }
        Some(other) => put(&mut config.rest, "responseMimeType", Some(other)),
    }
    if let Some(mut thinking) = object(&mut config, "thinkingConfig")? {
        match integer(&mut thinking, "thinkingBudget")? {
            None => {}
            Some(0) => request.reasoning.mode = Some("disabled".to_owned()),
            Some(..0) => request.reasoning.mode = Some("adaptive".to_owned()),
            Some(budget) => request.reasoning.budget_tokens = budget.try_into().ok(),
        }
        request.reasoning.effort = thinking
            .text("thinkingLevel")?
            .map(|level| level.to_ascii_lowercase());
        config.put_back("thinkingConfig", thinking);
    }
    Ok(config)
}

/// Writes a request for `models/MODEL:generateContent`; the model and whether to stream go into the path.
///
/// # Errors
/// [`ConvertError::Inexpressible`] where meaning would be lost.
pub fn write_request(request: &Request, _options: &WriteOptions) -> Result<Written, ConvertError> {
    let mut writer = PartWriter::new(request.format);
    let mut body = Map::new();
    let (mut system, mut system_body, mut contents) = (Vec::new(), Map::new(), Vec::new());
    for message in &request.messages {
        if matches!(message.role, Role::System | Role::Developer) {
            if !contents.is_empty() {
                let moved = "messages[].role (system prompt moved to the front)";
                writer.dropped.push(moved.to_owned());
            }
            system.extend(writer.write_all(&message.parts)?);
            writer.others(&mut system_body, &message.other, "messages[]");
        } else {
            let content = write_content(message, request, &mut writer)?;
            contents.extend(content.map(Value::Object));
        }
    }
    if !system.is_empty() {
        system_body.insert("parts".to_owned(), system.into());
        body.insert("systemInstruction".to_owned(), system_body.into());
    }
    body.insert("contents".to_owned(), contents.into());
    let tools = write_tools(request, &mut writer)?;
    if !tools.is_empty() {
        body.insert("tools".to_owned(), tools.into());
    }
    if let Some(choice) = &request.tool_choice {
        let calling = match choice {
            ToolChoice::Auto => json!({"mode": "AUTO"}),
            ToolChoice::None => json!({"mode": "NONE"}),
            ToolChoice::Required => json!({"mode": "ANY"}),
            ToolChoice::Named(name) => json!({"mode": "ANY", "allowedFunctionNames": [name]}),
        };
        body.insert("toolConfig".to_owned(), json!({"functionCallingConfig": calling}));
    }
    let config = write_config(request, &mut writer);
    if !config.is_empty() {
        body.insert("generationConfig".to_owned(), config.into());
    }
    for (name, given) in [
        ("parallel_tool_calls", request.parallel_tool_calls == Some(false)),
        ("user", request.user.is_some()),
    ] {
        if given {
            writer.dropped.push(name.to_owned());
        }
    }
    for (key, value) in &request.other {
        if !writer.own && bears_meaning(key, value) {
            return Err(PartWriter::refuse(key));
        }
    }
    if writer.own {
        writer.others(&mut body, &request.other, "");
        if let Some(modalities) = body.shift_remove(MODALITIES) {
            merge(&mut body, &one("generationConfig", one(MODALITIES, modalities)));
        }
    } else {
        let given = hints(&request.other);
        writer.dropped.extend(given.map(|(key, _)| key.clone()));
    }
    Ok(Written {
        body: body.into(),
        dropped: writer.dropped,
    })
}

fn write_content(
    message: &Message,
    request: &Request,
    writer: &mut PartWriter,
) -> Result<Option<Map<String, Value>>, ConvertError> {
    let mut parts: Vec<&Part> = message.parts.iter().collect();
    if !writer.own {
        parts = results_as_called(parts, &request.messages);
        // Past reasoning of other models is no part of what was said.
        let n_before = parts.len();
        parts.retain(|part| !is_thought(&part.kind));
        if parts.len() < n_before {
            writer.dropped.push("thinking".to_owned());
        }
    }
    let mut parts = writer.write_all(parts)?;
    if parts.is_empty() && !writer.own {
        return Ok(None);
    }
    if !writer.own && wants_signatures(&request.model) {
        let mut calls = parts.iter_mut().filter(|part| part.get("functionCall").is_some());
        if let Some(first) = calls.next()
            && first.get("thoughtSignature").is_none()
        {
            first["thoughtSignature"] = SIGNATURE_OF_ANOTHER_MODEL.into();
        }
    }
    let role = if message.role == Role::Assistant {
        "model"
    } else {
        "user"
    };
    let mut content = one("role", role);
    content.insert("parts".to_owned(), parts.into());
    writer.others(&mut content, &message.other, "messages[]");
    Ok(Some(content))
}

/// The parts of a turn, with results in the order of their calls: this format may match by order alone.
fn results_as_called<'a>(parts: Vec<&'a Part>, messages: &[Message]) -> Vec<&'a Part> {
    let is_result = |part: &&Part| matches!(part.kind, PartKind::ToolResult { .. });
    let mut results: Vec<&Part> = parts.iter().copied().filter(is_result).collect();
    if results.len() < 2 {
        return parts;
    }
    let calls = messages.iter().flat_map(|message| &message.parts);
    let calls = calls.filter_map(|part| match &part.kind {
        PartKind::ToolCall { id, .. } => Some(id.as_str()),
        _ => None,
    });
    let places: BTreeMap<&str, usize> = calls.enumerate().map(|(place, id)| (id, place)).collect();
    results.sort_by_key(|part| match &part.kind {
        PartKind::ToolResult { id, .. } => places.get(id.as_str()).copied().unwrap_or(usize::MAX),
        _ => usize::MAX,
    });
    let mut results = results.into_iter();
    let in_place = |part| {
        if is_result(&part) {
            results.next().unwrap_or(part)
        } else {
            part
        }
    };
    parts.into_iter().map(in_place).collect()
}

/// Gemini 1 and 2 know no levels of thinking and need no signatures; all later ones do.
fn is_old(model: &str) -> bool {
    ["gemini-1", "gemini-2"].iter().any(|old| model.contains(old))
}

fn wants_signatures(model: &str) -> bool {
    model.contains("gemini-") && !is_old(model)
}

fn write_tools(request: &Request, writer: &mut PartWriter) -> Result<Vec<Value>, ConvertError> {
    let mut tools: Vec<Value> = Vec::new();
    for tool in &request.tools {
        let function = match tool {
            Tool::Function {
                name,
                description,
                parameters,
                strict,
                cache_control,
                other,
            } => {
                let mut function = one("name", name.as_str());
                put(&mut function, "description", description.as_deref());
                put(&mut function, "parametersJsonSchema", parameters.clone());
                if *strict == Some(true) {
                    writer.dropped.push("tools[].strict".to_owned());
                }
                if cache_control.is_some() {
                    writer.dropped.push("cache_control".to_owned());
                }
                writer.others(&mut function, other, "tools[]");
                Value::Object(function)
            }
            Tool::Other(value) if writer.own => {
                tools.push(value.clone());
                continue;
            }
            Tool::Other(value) => {
                return Err(PartWriter::refuse(format!("tool {}", kind_name(value))));
            }
        };
        let before = tools
            .last_mut()
            .and_then(|tool| tool.get_mut("functionDeclarations"));
        match before.and_then(Value::as_array_mut) {
            Some(functions) => functions.push(function),
            None => tools.push(json!({"functionDeclarations": [function]})),
        }
    }
    Ok(tools)
}

fn write_config(request: &Request, writer: &mut PartWriter) -> Map<String, Value> {
    let mut config = Map::new();
    put(&mut config, "temperature", request.temperature.clone());
    put(&mut config, "topP", request.top_p.clone());
    put(&mut config, "topK", request.top_k);
    put(&mut config, "maxOutputTokens", request.max_output_tokens);
    if !request.stop.is_empty() {
        config.insert("stopSequences".to_owned(), request.stop.clone().into());
    }
    put(&mut config, "candidateCount", request.n);
    put(&mut config, "seed", request.seed);
    put(&mut config, "frequencyPenalty", request.frequency_penalty.clone());
    put(&mut config, "presencePenalty", request.presence_penalty.clone());
    put(&mut config, "responseLogprobs", request.logprobs);
    put(&mut config, "logprobs", request.top_logprobs);
    if let Some(output) = &request.output {
        config.insert("responseMimeType".to_owned(), "application/json".into());
        if let OutputShape::JsonSchema { schema, .. } = output {
            config.insert("responseJsonSchema".to_owned(), schema.clone());
            writer.dropped.extend(shape_hints(output));
        }
    }
    let thinking = write_thinking(request, writer);
    if !thinking.is_empty() {
        config.insert("thinkingConfig".to_owned(), thinking.into());
    }
    config
}

fn write_thinking(request: &Request, writer: &mut PartWriter) -> Map<String, Value> {
    let reasoning = &request.reasoning;
    let (effort, mode) = (reasoning.effort.as_deref(), reasoning.mode.as_deref());
    let mut thinking = Map::new();
    if writer.own {
        let budget = match mode {
            Some("disabled") => Some(0),
            Some("adaptive") => Some(-1),
            _ => reasoning
                .budget_tokens
                .and_then(|budget| i64::try_from(budget).ok()),
        };
        put(&mut thinking, "thinkingBudget", budget);
        put(
            &mut thinking,
            "thinkingLevel",
            effort.map(str::to_ascii_uppercase),
        );
        return thinking;
    }
    let old = is_old(&request.model);
    match (mode, effort, reasoning.budget_tokens) {
        (Some("disabled"), ..) | (_, Some("none"), _) => {
            return one("thinkingBudget", 0);
        }
        (_, effort, Some(budget)) => {
            if effort.is_some() {
                writer
                    .dropped
                    .push("reasoning_effort (there is a budget)".to_owned());
            }
            thinking.insert("thinkingBudget".to_owned(), budget.into());
        }
        // The budgets of Google's own endpoint of the Chat format.
        (_, Some(effort), None) if old => {
            let budget = match effort {
                "minimal" | "low" => 1024,
                "medium" => 8192,
                _ => 24576,
            };
            writer
                .dropped
                .push("reasoning_effort (became a budget)".to_owned());
            thinking.insert("thinkingBudget".to_owned(), budget.into());
        }
        (_, Some(effort), None) => {
            let level = match effort {
                "minimal" => "MINIMAL",
                "low" => "LOW",
                "medium" => "MEDIUM",
                "high" => "HIGH",
                _ => {
                    writer
                        .dropped
                        .push(format!("reasoning_effort ({effort} became high)"));
                    "HIGH"
                }
            };
            thinking.insert("thinkingLevel".to_owned(), level.into());
        }
        (Some(_), None, None) => put(&mut thinking, "thinkingBudget", Some(-1)),
        (None, None, None) => return thinking,
    }
    // Formats that ask for reasoning show it.
    thinking.insert("includeThoughts".to_owned(), true.into());
    thinking
}
