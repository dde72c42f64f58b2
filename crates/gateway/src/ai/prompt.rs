//! Prompts published as REST endpoints: what a caller sends becomes a Chat request, and the answer of
//! the model becomes the caller's.
//!
//! `POST /prompts/NAME` with a JSON object of the variables. Answer: `{"output", "model", "usage",
//! "request_id"}`, `output` being JSON where the prompt has a schema, else text. With `?stream=true` or
//! `Accept: text/event-stream` server-sent events: `delta` with `{"text"}`, then `done` with the whole,
//! or `error`.

use llm::answer::{Delta, StreamEvent};
use llm::convert::WriteStream;
use llm::error::ErrorAnswer;
use llm::format::Format;
use llm::usage::Usage;
use policy::gateway::document::{Auth, VariableType};
use policy::gateway::snapshot::{Prompt, Variable};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Builds the Chat request that a call of a prompt stands for.
///
/// # Errors
/// One sentence, and the variable at fault.
pub(super) fn chat_request(
    prompt: &Prompt,
    body: &[u8],
    stream: bool,
) -> Result<Value, (String, Option<String>)> {
    let given = match body.trim_ascii() {
        b"" => Map::new(),
        body => match serde_json::from_slice(body) {
            Ok(Value::Object(given)) => given,
            Ok(_) => return Err(("the body must be a JSON object of the variables".to_owned(), None)),
            Err(error) => return Err((format!("the body is not JSON: {error}"), None)),
        },
    };
    if let Some(name) = given.keys().find(|name| !prompt.variables.contains_key(*name)) {
        let known: Vec<&str> = prompt.variables.keys().map(String::as_str).collect();
        let words = format!("no variable is called `{name}`: expected {}", known.join(", "));
        return Err((words, Some(name.clone())));
    }
    let mut values = BTreeMap::new();
    for (name, variable) in &prompt.variables {
        let value = given.get(name).or(variable.default.as_ref());
        let Some(value) = value else {
            return Err((format!("variable `{name}` is missing"), Some(name.clone())));
        };
        check(name, variable, value).map_err(|words| (words, Some(name.clone())))?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        values.insert(name.clone(), text);
    }
    let mut messages = Vec::new();
    if let Some(system) = &prompt.system {
        messages.push(json!({"role": "system", "content": system.render(&values)}));
    }
    messages.push(json!({"role": "user", "content": prompt.template.render(&values)}));
    let mut request = Map::new();
    request.insert("model".to_owned(), prompt.model.as_str().into());
    request.insert("messages".to_owned(), messages.into());
    for (name, value) in &prompt.parameters {
        request.insert(name.clone(), value.clone());
    }
    if let Some(schema) = &prompt.output {
        let schema = json!({"name": "output", "schema": schema.schema(), "strict": true});
        request.insert(
            "response_format".to_owned(),
            json!({"type": "json_schema", "json_schema": schema}),
        );
    }
    if stream {
        request.insert("stream".to_owned(), true.into());
    }
    Ok(request.into())
}

fn check(name: &str, variable: &Variable, value: &Value) -> Result<(), String> {
    let (fits, expected) = match variable.kind {
        VariableType::String => (value.is_string(), "a text"),
        VariableType::Number => (value.is_number(), "a number"),
        VariableType::Integer => (value.is_i64() || value.is_u64(), "a whole number"),
        VariableType::Boolean => (value.is_boolean(), "true or false"),
        VariableType::Array => (value.is_array(), "a list"),
        VariableType::Object => (value.is_object(), "an object"),
    };
    if !fits {
        return Err(format!("variable `{name}` must be {expected}"));
    }
    if let Some(choices) = variable
        .choices
        .as_ref()
        .filter(|choices| !choices.contains(value))
    {
        let choices: Vec<String> = choices.iter().map(Value::to_string).collect();
        return Err(format!("variable `{name}` must be one of {}", choices.join(", ")));
    }
    if let (Some(most), Some(text)) = (variable.max_length, value.as_str())
        && text.chars().count() > most as usize
    {
        return Err(format!("variable `{name}` must have at most {most} characters"));
    }
    Ok(())
}

/// The answer to a caller, from a Chat answer.
///
/// # Errors
/// The model did not keep to the schema.
pub(super) fn answer(
    prompt: &Prompt,
    chat: &Value,
    usage: Option<Usage>,
    request_id: &str,
) -> Result<Value, String> {
    let text = chat
        .pointer("/choices/0/message/content")
        .and_then(Value::as_str)
        .unwrap_or_default();
    Ok(json!({
        "output": output(prompt, text)?,
        "model": prompt.model,
        "usage": usage.map(usage_json),
        "request_id": request_id,
    }))
}

/// The code of an answer that is not of the prompt's schema.
pub(super) const MISMATCH: &str = "output_mismatch";

fn output(prompt: &Prompt, text: &str) -> Result<Value, String> {
    let Some(schema) = &prompt.output else {
        return Ok(text.into());
    };
    let told =
        |words: &str| format!("the model's answer is not what the prompt's output schema says: {words}");
    let value = serde_json::from_str(text).map_err(|_| told("it is not JSON"))?;
    schema.check(&value).map_err(|words| told(&words))?;
    Ok(value)
}

fn usage_json(usage: Usage) -> Value {
    json!({"input_tokens": usage.total_input(), "output_tokens": usage.total_output()})
}

/// Writes the stream of a prompt.
#[derive(Debug)]
pub(super) struct PromptWriter {
    prompt: std::sync::Arc<Prompt>,
    request_id: String,
    text: String,
    usage: Option<Usage>,
    mismatch: Option<ErrorAnswer>,
    is_over: bool,
}

impl PromptWriter {
    /// At the start of a stream.
    pub(super) fn new(prompt: std::sync::Arc<Prompt>, request_id: String) -> Self {
        Self {
            prompt,
            request_id,
            text: String::new(),
            usage: None,
            mismatch: None,
            is_over: false,
        }
    }
}

impl WriteStream for PromptWriter {
    fn write(&mut self, event: &StreamEvent, bytes: &mut Vec<u8>) {
        if self.is_over {
            return;
        }
        let mut send = |name: &str, data: &Value| {
            bytes.extend_from_slice(format!("event: {name}\ndata: {data}\n\n").as_bytes());
        };
        match event {
            StreamEvent::Delta {
                choice: 0,
                delta: Delta::Text(text),
                ..
            } => {
                self.text.push_str(text);
                send("delta", &json!({"text": text}));
            }
            StreamEvent::Usage(usage) => self.usage = Some(*usage),
            StreamEvent::Error(error) => {
                self.is_over = true;
                send(
                    "error",
                    &llm::error::write_error(Format::Chat, error, &self.request_id),
                );
            }
            StreamEvent::End => {
                self.is_over = true;
                match output(&self.prompt, &self.text) {
                    Ok(output) => {
                        let done = json!({
                            "output": output,
                            "model": self.prompt.model,
                            "usage": self.usage.map(usage_json),
                            "request_id": self.request_id,
                        });
                        send("done", &done);
                    }
                    Err(message) => {
                        let error = ErrorAnswer {
                            status: 502,
                            message,
                            code: Some(MISMATCH.to_owned()),
                            param: None,
                        };
                        send(
                            "error",
                            &llm::error::write_error(Format::Chat, &error, &self.request_id),
                        );
                        self.mismatch = Some(error);
                    }
                }
            }
            _ => {}
        }
    }

    fn found(&self) -> Option<&ErrorAnswer> {
        self.mismatch.as_ref()
    }
}

/// The OpenAPI document of one prompt or several.
pub(super) fn openapi<'a>(title: &str, prompts: impl Iterator<Item = &'a Prompt>) -> Value {
    let mut paths = Map::new();
    for prompt in prompts {
        paths.insert(prompt.path.to_string(), json!({"post": operation(prompt)}));
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1"},
        "paths": paths,
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    })
}

fn operation(prompt: &Prompt) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, variable) in &prompt.variables {
        properties.insert(name.clone(), schema(variable));
        if variable.default.is_none() {
            required.push(Value::from(name.as_str()));
        }
    }
    let text = || json!({"type": "string"});
    let output = prompt
        .output
        .as_ref()
        .map_or_else(text, |output| output.schema().clone());
    let answer = json!({
        "type": "object",
        "required": ["output", "model", "request_id"],
        "properties": {
            "output": output,
            "model": {"type": "string"},
            "usage": {"type": ["object", "null"], "properties": {
                "input_tokens": {"type": "integer"}, "output_tokens": {"type": "integer"},
            }},
            "request_id": {"type": "string"},
        },
    });
    let error = json!({
        "type": "object",
        "properties": {"error": {"type": "object", "properties": {"message": {"type": "string"}}}},
    });
    let failed =
        |words: &str| json!({"description": words, "content": {"application/json": {"schema": error}}});
    let is_open = prompt.auth.contains(&Auth::None);
    json!({
        "operationId": &*prompt.name,
        "summary": prompt.description.clone().unwrap_or_else(|| prompt.name.to_string()),
        "security": if is_open { json!([]) } else { json!([{"key": []}]) },
        "parameters": [{
            "name": "stream", "in": "query", "required": false, "schema": {"type": "boolean"},
            "description": "Answer as server-sent events: `delta`, then `done` or `error`.",
        }],
        "requestBody": {"required": !required.is_empty(), "content": {"application/json": {"schema": {
            "type": "object", "properties": properties, "required": required, "additionalProperties": false,
        }}}},
        "responses": {
            "200": {"description": "The answer.", "content": {
                "application/json": {"schema": answer},
                "text/event-stream": {"schema": {"type": "string"}},
            }},
            "400": failed("A variable is missing or of the wrong type."),
            "401": failed("No key, or one that does not hold."),
            "429": failed("A limit is reached."),
            "502": failed("The model's provider failed, or its answer is not of the schema (`output_mismatch`)."),
        },
    })
}

fn schema(variable: &Variable) -> Value {
    let kind = match variable.kind {
        VariableType::String => "string",
        VariableType::Number => "number",
        VariableType::Integer => "integer",
        VariableType::Boolean => "boolean",
        VariableType::Array => "array",
        VariableType::Object => "object",
    };
    let mut schema = json!({"type": kind});
    let more = [
        ("description", variable.description.clone().map(Value::from)),
        ("default", variable.default.clone()),
        ("enum", variable.choices.clone().map(Value::from)),
        ("maxLength", variable.max_length.map(Value::from)),
    ];
    for (name, value) in more {
        if let Some(value) = value {
            schema[name] = value;
        }
    }
    schema
}
