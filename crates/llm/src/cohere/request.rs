//! Cohere Chat: requests, read into the canonical model and written from it.
//!
//! What comes back in another way than it came: a content that is a text is a list of one, an empty one
//! is absent; `strict_tools` is kept with the tools.

use crate::canonical::{
    ConvertError, Fields, ITEM, Message, OutputShape, Part, PartKind, Reasoning, Request, Role, Source, Tool,
    ToolChoice, Written, bears_meaning, hints, is_thought, kind_name, merge, plain, put, shape_hints,
};
use crate::convert::WriteOptions;
use crate::format::Format;
use serde_json::{Map, Value, json};

/// In [`Part::other`], with null: the text is the plan that precedes calls of tools.
pub(super) const TOOL_PLAN: &str = "tool_plan";

/// In [`Part::other`]: the text is the data of a document, and what the document says besides.
const DOCUMENT: &str = "document";

/// Reads the body of a request to `/v2/chat`.
///
/// # Errors
/// [`ConvertError::Invalid`] names the first field that is missing or of the wrong type.
pub fn read_request(body: Value) -> Result<Request, ConvertError> {
    let mut fields = Fields::new(body, "")?;
    let turns = fields
        .list("messages")?
        .ok_or_else(|| fields.invalid("messages", "an array"))?;
    let mut messages: Vec<Message> = Vec::new();
    // Results of calls made at once come as one message each; they are one turn.
    let mut after_tool = false;
    for (idx, turn) in turns.into_iter().enumerate() {
        let (message, is_tool) = read_message(turn, &format!("messages[{idx}]"))?;
        match messages.last_mut() {
            Some(last) if is_tool && after_tool => last.parts.extend(message.parts),
            _ => messages.push(message),
        }
        after_tool = is_tool;
    }
    let tools = fields.list("tools")?.unwrap_or_default();
    let strict = if tools.is_empty() {
        None
    } else {
        fields.flag("strict_tools")?
    };
    let tools = tools
        .into_iter()
        .enumerate()
        .map(|(idx, tool)| read_tool(tool, strict, &format!("tools[{idx}]")));
    let tools = tools.collect::<Result<_, _>>()?;
    let mut reasoning = Reasoning::default();
    if let Some(mut thinking) = fields.object("thinking")? {
        reasoning.mode = Some(thinking.needed_text("type")?);
        reasoning.budget_tokens = thinking.whole("token_budget")?;
        fields.put_back("thinking", thinking);
    }
    let tool_choice = match fields.text("tool_choice")?.as_deref() {
        None => None,
        Some("REQUIRED") => Some(ToolChoice::Required),
        Some("NONE") => Some(ToolChoice::None),
        Some(_) => return Err(fields.invalid("tool_choice", "`REQUIRED` or `NONE`")),
    };
    let stop = fields.list("stop_sequences")?.unwrap_or_default();
    let stop = stop
        .iter()
        .map(|text| text.as_str().map(str::to_owned))
        .collect::<Option<Vec<_>>>();
    Ok(Request {
        format: Format::Cohere,
        model: fields.needed_text("model")?,
        messages,
        tools,
        tool_choice,
        parallel_tool_calls: None,
        max_output_tokens: fields.whole("max_tokens")?,
        temperature: fields.number("temperature")?,
        top_p: fields.number("p")?,
        top_k: fields.whole("k")?,
        frequency_penalty: fields.number("frequency_penalty")?,
        presence_penalty: fields.number("presence_penalty")?,
        seed: fields.integer("seed")?,
        n: None,
        logprobs: fields.flag("logprobs")?,
        top_logprobs: None,
        stop: stop.ok_or_else(|| fields.invalid("stop_sequences", "an array of strings"))?,
        output: read_output(&mut fields)?,
        reasoning,
        user: None,
        stream: fields.flag("stream")?.unwrap_or(false),
        other: fields.rest,
    })
}

/// A message, and whether it is the result of a tool.
fn read_message(turn: Value, path: &str) -> Result<(Message, bool), ConvertError> {
    let mut fields = Fields::new(turn, path)?;
    let role = fields.needed_text("role")?;
    let content = match fields.take("content") {
        Some(content) => read_content(content, &fields.at("content"))?,
        None => Vec::new(),
    };
    let (role, parts) = match role.as_str() {
        "system" => (Role::System, content),
        "user" => (Role::User, content),
        "assistant" => {
            let mut parts = Vec::new();
            parts.extend(read_plan(&mut fields)?);
            parts.extend(content);
            parts.extend(read_calls(&mut fields)?);
            (Role::Assistant, parts)
        }
        "tool" => {
            let kind = PartKind::ToolResult {
                id: fields.needed_text("tool_call_id")?,
                is_error: None,
                parts: content,
            };
            let part = Part {
                kind,
                other: fields.rest,
                cache_control: None,
            };
            let message = Message {
                role: Role::User,
                parts: vec![part],
                other: Map::new(),
            };
            return Ok((message, true));
        }
        _ => return Err(fields.invalid("role", "`system`, `user`, `assistant` or `tool`")),
    };
    let message = Message {
        role,
        parts,
        other: fields.rest,
    };
    Ok((message, false))
}

/// The plan of a turn that calls tools: a text that the model says before.
pub(super) fn read_plan(fields: &mut Fields) -> Result<Option<Part>, ConvertError> {
    let text = fields.text("tool_plan")?.filter(|text| !text.is_empty());
    Ok(text.map(|text| {
        let mut part = plain(PartKind::Text(text));
        part.other.insert(TOOL_PLAN.to_owned(), Value::Null);
        part
    }))
}

/// The calls of a turn.
pub(super) fn read_calls(fields: &mut Fields) -> Result<Vec<Part>, ConvertError> {
    let calls = fields.list("tool_calls")?.unwrap_or_default();
    let path = fields.at("tool_calls");
    let calls = calls.into_iter().enumerate().map(|(idx, call)| {
        let mut call = Fields::new(call, &format!("{path}[{idx}]"))?;
        call.take("type");
        let missing = call.invalid("function", "an object");
        let mut function = call.object("function")?.ok_or(missing)?;
        let kind = PartKind::ToolCall {
            id: call.needed_text("id")?,
            name: function.needed_text("name")?,
            arguments: function.text("arguments")?.unwrap_or_default(),
        };
        call.put_back("function", function);
        Ok(Part {
            kind,
            other: call.rest,
            cache_control: None,
        })
    });
    calls.collect()
}

pub(super) fn read_content(content: Value, path: &str) -> Result<Vec<Part>, ConvertError> {
    match content {
        Value::String(text) if text.is_empty() => Ok(Vec::new()),
        Value::String(text) => Ok(vec![plain(PartKind::Text(text))]),
        Value::Array(parts) => {
            let parts = parts.into_iter().enumerate();
            parts
                .map(|(idx, part)| read_part(part, &format!("{path}[{idx}]")))
                .collect()
        }
        _ => Err(ConvertError::Invalid {
            field: path.to_owned(),
            expected: "a string or an array",
        }),
    }
}

fn read_part(part: Value, path: &str) -> Result<Part, ConvertError> {
    let mut fields = Fields::new(part.clone(), path)?;
    let kind = match fields.needed_text("type")?.as_str() {
        "text" => PartKind::Text(fields.needed_text("text")?),
        "thinking" => PartKind::Reasoning {
            text: fields.needed_text("thinking")?,
            signature: None,
        },
        "image_url" => {
            let missing = fields.invalid("image_url", "an object");
            let mut image = fields.object("image_url")?.ok_or(missing)?;
            let url = image.needed_text("url")?;
            fields.put_back("image_url", image);
            let inline = url
                .strip_prefix("data:")
                .and_then(|rest| rest.split_once(";base64,"));
            PartKind::Image(match inline {
                Some((media_type, data)) => Source::Base64 {
                    media_type: media_type.to_owned(),
                    data: data.to_owned(),
                },
                None => Source::Url(url),
            })
        }
        // In the result of a tool. Other formats have its data as a text.
        "document" => {
            let missing = fields.invalid("document", "an object");
            let mut document = fields.object("document")?.ok_or(missing)?;
            let text = match document.take("data") {
                Some(Value::String(text)) => text,
                Some(data) => data.to_string(),
                None => return Err(document.invalid("data", "an object or a string")),
            };
            let rest = document.rest;
            let rest = if rest.is_empty() { Value::Null } else { rest.into() };
            fields.rest.insert(DOCUMENT.to_owned(), rest);
            PartKind::Text(text)
        }
        _ => return Ok(plain(PartKind::Other(part))),
    };
    Ok(Part {
        kind,
        other: fields.rest,
        cache_control: None,
    })
}

fn read_tool(tool: Value, strict: Option<bool>, path: &str) -> Result<Tool, ConvertError> {
    let mut fields = Fields::new(tool.clone(), path)?;
    if fields.text("type")?.is_some_and(|kind| kind != "function") {
        return Ok(Tool::Other(tool));
    }
    let missing = fields.invalid("function", "an object");
    let mut function = fields.object("function")?.ok_or(missing)?;
    Ok(Tool::Function {
        name: function.needed_text("name")?,
        description: function.text("description")?,
        parameters: function.take("parameters"),
        strict,
        cache_control: None,
        other: {
            fields.put_back("function", function);
            fields.rest
        },
    })
}

fn read_output(fields: &mut Fields) -> Result<Option<OutputShape>, ConvertError> {
    let Some(mut shape) = fields.object("response_format")? else {
        return Ok(None);
    };
    let output = match shape.needed_text("type")?.as_str() {
        "text" => None,
        "json_object" => Some(match shape.take("json_schema").or_else(|| shape.take("schema")) {
            None => OutputShape::JsonObject,
            Some(schema) => OutputShape::JsonSchema {
                name: None,
                schema,
                strict: None,
                description: None,
            },
        }),
        _ => return Err(shape.invalid("type", "`text` or `json_object`")),
    };
    fields.put_back("response_format", shape);
    Ok(output)
}

/// Writes a request for `/v2/chat`.
///
/// # Errors
/// [`ConvertError::Inexpressible`] where meaning would be lost.
pub fn write_request(request: &Request, _options: &WriteOptions) -> Result<Written, ConvertError> {
    let mut writer = Writer {
        own: request.format == Format::Cohere,
        dropped: Vec::new(),
    };
    let mut body = Map::new();
    body.insert("model".to_owned(), request.model.as_str().into());
    let mut messages = Vec::new();
    for message in &request.messages {
        writer.message(message, &mut messages)?;
    }
    body.insert("messages".to_owned(), messages.into());
    writer.tools(request, &mut body)?;
    put(&mut body, "max_tokens", request.max_output_tokens);
    put(&mut body, "temperature", request.temperature.clone());
    put(&mut body, "p", request.top_p.clone());
    put(&mut body, "k", request.top_k);
    put(&mut body, "frequency_penalty", request.frequency_penalty.clone());
    put(&mut body, "presence_penalty", request.presence_penalty.clone());
    put(&mut body, "seed", request.seed);
    put(&mut body, "logprobs", request.logprobs);
    if !request.stop.is_empty() {
        body.insert("stop_sequences".to_owned(), request.stop.clone().into());
    }
    if request.n.is_some_and(|n| n > 1) {
        return Err(Writer::refuse("n"));
    }
    let hints = [
        ("top_logprobs", request.top_logprobs.is_some_and(|n| n > 0)),
        ("user", request.user.is_some()),
        ("parallel_tool_calls", request.parallel_tool_calls == Some(false)),
    ];
    let given = hints.into_iter().filter(|(_, given)| *given);
    writer.dropped.extend(given.map(|(name, _)| name.to_owned()));
    writer.output(request.output.as_ref(), &mut body);
    writer.reasoning(&request.reasoning, &mut body);
    if request.stream {
        body.insert("stream".to_owned(), true.into());
    }
    writer.top_level(&mut body, &request.other)?;
    Ok(Written {
        body: body.into(),
        dropped: writer.dropped,
    })
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
            format: Format::Cohere,
        }
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
                // This format always tells the usage, and stores nothing.
                "stream_options" => {}
                "store" if value == false => {}
                key => self.dropped.push(key.to_owned()),
            }
        }
        Ok(())
    }

    /// Unknown fields of a part, message or tool.
    fn inner(&mut self, body: &mut Map<String, Value>, other: &Map<String, Value>, path: &str) {
        let marks = [ITEM, TOOL_PLAN, DOCUMENT];
        for (key, value) in other {
            if self.own {
                if !marks.contains(&key.as_str()) {
                    merge(body, &Map::from_iter([(key.clone(), value.clone())]));
                }
            } else if key != ITEM && !value.is_null() {
                self.dropped.push(format!("{path}.{key}"));
            }
        }
    }

    fn cache_control(&mut self, cache_control: Option<&Value>) {
        if cache_control.is_some() {
            self.dropped.push("cache_control".to_owned());
        }
    }

    fn message(&mut self, message: &Message, messages: &mut Vec<Value>) -> Result<(), ConvertError> {
        let role = match message.role {
            Role::System | Role::Developer => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        let is_call = |part: &Part| matches!(part.kind, PartKind::ToolCall { .. });
        let has_calls = message.parts.iter().any(is_call);
        let (mut plan, mut content, mut calls, mut n_results) = (String::new(), Vec::new(), Vec::new(), 0);
        for part in &message.parts {
            match &part.kind {
                PartKind::ToolResult { id, is_error, parts } => {
                    n_results += 1;
                    messages.push(self.tool_result(part, id, *is_error, parts)?);
                }
                PartKind::ToolCall { id, name, arguments } => {
                    self.cache_control(part.cache_control.as_ref());
                    let mut call = write_call(id, name, arguments);
                    if let Some(call) = call.as_object_mut() {
                        self.inner(call, &part.other, "tool_calls[]");
                    }
                    calls.push(call);
                }
                // A turn that calls tools has a plan where others have a text.
                PartKind::Text(text) if has_calls && (!self.own || part.other.contains_key(TOOL_PLAN)) => {
                    self.cache_control(part.cache_control.as_ref());
                    self.inner(&mut Map::new(), &part.other, "content[]");
                    if !plan.is_empty() {
                        plan.push_str("\n\n");
                    }
                    plan.push_str(text);
                }
                kind if !self.own && is_thought(kind) => self.dropped.push("thinking".to_owned()),
                _ => content.push(self.part(part)?),
            }
        }
        if n_results > 0 && content.is_empty() && message.other.is_empty() {
            return Ok(());
        }
        let mut body = Map::new();
        body.insert("role".to_owned(), role.into());
        if !plan.is_empty() {
            body.insert("tool_plan".to_owned(), plan.into());
        }
        if !content.is_empty() || calls.is_empty() {
            body.insert("content".to_owned(), shorten(content));
        }
        if !calls.is_empty() {
            body.insert("tool_calls".to_owned(), calls.into());
        }
        self.inner(&mut body, &message.other, "messages[]");
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
        self.cache_control(part.cache_control.as_ref());
        let content = parts
            .iter()
            .map(|part| self.part(part))
            .collect::<Result<Vec<_>, _>>()?;
        let mut body = Map::new();
        body.insert("role".to_owned(), "tool".into());
        body.insert("tool_call_id".to_owned(), id.into());
        body.insert("content".to_owned(), shorten(content));
        self.inner(&mut body, &part.other, "tool_result");
        Ok(body.into())
    }

    fn part(&mut self, part: &Part) -> Result<Value, ConvertError> {
        let mut body = match &part.kind {
            PartKind::Text(text) => match part.other.get(DOCUMENT).filter(|_| self.own) {
                Some(about) => write_document(text, about),
                None => json!({"type": "text", "text": text}),
            },
            PartKind::Reasoning { text, .. } => json!({"type": "thinking", "thinking": text}),
            PartKind::Image(Source::Url(url)) => json!({"type": "image_url", "image_url": {"url": url}}),
            PartKind::Image(Source::Base64 { media_type, data }) => {
                json!({"type": "image_url", "image_url": {"url": format!("data:{media_type};base64,{data}")}})
            }
            PartKind::Image(Source::Id(_)) => return Err(Self::refuse("image by file id")),
            PartKind::File { .. } => return Err(Self::refuse("file")),
            PartKind::Other(value) if self.own => return Ok(value.clone()),
            // The model declined: a text of its own.
            PartKind::Other(value) if value["type"] == "refusal" => {
                json!({"type": "text", "text": value["refusal"].as_str().unwrap_or_default()})
            }
            PartKind::Other(value) => return Err(Self::refuse(kind_name(value))),
            PartKind::ToolCall { .. } | PartKind::ToolResult { .. } => {
                return Err(Self::refuse("tool call or result inside a result"));
            }
        };
        self.cache_control(part.cache_control.as_ref());
        if let Some(body) = body.as_object_mut() {
            self.inner(body, &part.other, "content[]");
        }
        Ok(body)
    }

    fn tools(&mut self, request: &Request, body: &mut Map<String, Value>) -> Result<(), ConvertError> {
        let (mut tools, mut strict) = (Vec::new(), Vec::new());
        for tool in &request.tools {
            match tool {
                Tool::Function {
                    name,
                    description,
                    parameters,
                    strict: this,
                    cache_control,
                    other,
                } => {
                    let mut function = Map::new();
                    function.insert("name".to_owned(), name.as_str().into());
                    put(&mut function, "description", description.as_deref());
                    put(&mut function, "parameters", parameters.clone());
                    self.cache_control(cache_control.as_ref());
                    let mut tool = Map::new();
                    tool.insert("type".to_owned(), "function".into());
                    tool.insert("function".to_owned(), function.into());
                    self.inner(&mut tool, other, "tools[]");
                    tools.push(Value::Object(tool));
                    strict.push(*this);
                }
                Tool::Other(value) if self.own => tools.push(value.clone()),
                Tool::Other(value) => return Err(Self::refuse(format!("tool {}", kind_name(value)))),
            }
        }
        // One word here for all tools.
        match strict.first() {
            Some(&Some(all)) if strict.iter().all(|this| *this == Some(all)) => {
                // Without it tools are not strict.
                put(body, "strict_tools", (all || self.own).then_some(all));
            }
            _ if strict.contains(&Some(true)) => self.dropped.push("tools[].strict".to_owned()),
            _ => {}
        }
        let choice = match &request.tool_choice {
            None | Some(ToolChoice::Auto) => None,
            Some(ToolChoice::None) => Some("NONE"),
            Some(ToolChoice::Required) => Some("REQUIRED"),
            // Of one tool it says the same.
            Some(ToolChoice::Named(name)) => match &request.tools[..] {
                [Tool::Function { name: only, .. }] if only == name => Some("REQUIRED"),
                _ => return Err(Self::refuse("tool_choice of one tool among several")),
            },
        };
        if !tools.is_empty() {
            body.insert("tools".to_owned(), tools.into());
        }
        put(body, "tool_choice", choice);
        Ok(())
    }

    fn output(&mut self, output: Option<&OutputShape>, body: &mut Map<String, Value>) {
        let shape = match output {
            None => return,
            Some(OutputShape::JsonObject) => json!({"type": "json_object"}),
            Some(shape @ OutputShape::JsonSchema { schema, .. }) => {
                self.dropped.extend(shape_hints(shape));
                json!({"type": "json_object", "json_schema": schema})
            }
        };
        body.insert("response_format".to_owned(), shape);
    }

    fn reasoning(&mut self, reasoning: &Reasoning, body: &mut Map<String, Value>) {
        let mut budget = reasoning.budget_tokens;
        let mut mode = reasoning.mode.as_deref();
        if mode == Some("adaptive") && !self.own {
            self.dropped.push("thinking.type (adaptive)".to_owned());
            mode = None;
        }
        match reasoning.effort.as_deref() {
            None => {}
            Some("none") => mode = Some("disabled"),
            Some(effort) if budget.is_none() && mode != Some("disabled") => {
                // The budgets that Google gives the same words.
                budget = Some(match effort {
                    "minimal" | "low" => 1024,
                    "medium" => 8192,
                    _ => 24576,
                });
                self.dropped.push("reasoning_effort (became a budget)".to_owned());
            }
            Some(_) => self
                .dropped
                .push("reasoning_effort (there is a budget)".to_owned()),
        }
        if mode.is_none() && budget.is_none() {
            return;
        }
        let mut thinking = Map::new();
        thinking.insert("type".to_owned(), mode.unwrap_or("enabled").into());
        put(
            &mut thinking,
            "token_budget",
            budget.filter(|_| mode != Some("disabled")),
        );
        body.insert("thinking".to_owned(), thinking.into());
    }
}

/// A call. Arguments are a JSON text, of none an object without fields.
pub(super) fn write_call(id: &str, name: &str, arguments: &str) -> Value {
    let arguments = if arguments.trim().is_empty() {
        "{}"
    } else {
        arguments
    };
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
}

fn write_document(text: &str, about: &Value) -> Value {
    let data = serde_json::from_str::<Map<String, Value>>(text);
    let data = data.map_or_else(|_| Value::from(text), Value::from);
    let mut document = Map::from_iter([("data".to_owned(), data)]);
    if let Some(about) = about.as_object() {
        merge(&mut document, about);
    }
    json!({"type": "document", "document": document})
}

/// One text alone is written as a string.
fn shorten(content: Vec<Value>) -> Value {
    match &content[..] {
        [] => "".into(),
        [Value::Object(only)] if only.len() == 2 && only.contains_key("text") => only["text"].clone(),
        _ => content.into(),
    }
}
