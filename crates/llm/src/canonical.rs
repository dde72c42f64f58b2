//! The one model of a request that every wire format is read into and written from.
//!
//! A field that a format knows and this model does not is kept in `other`, beside the thing it belongs
//! to, and written again if the request leaves in the format it came in ([`Request::format`]). In
//! another format a hint is dropped and named in [`Written::dropped`]; what bears meaning is refused.

use crate::format::Format;
use serde_json::{Map, Number, Value};

/// A request for an answer of a chat model.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The format it was read from, which `other` fields are of.
    pub format: Format,
    /// The model's name as the client gave it.
    pub model: String,
    /// The conversation, system prompts included, in order.
    pub messages: Vec<Message>,
    /// The tools the model may call.
    pub tools: Vec<Tool>,
    /// Which of them it must call.
    pub tool_choice: Option<ToolChoice>,
    /// May it call several at once? Formats agree that by default it may.
    pub parallel_tool_calls: Option<bool>,
    /// The most tokens of the answer, reasoning included.
    pub max_output_tokens: Option<u64>,
    /// Sampling temperature.
    pub temperature: Option<Number>,
    /// Nucleus sampling.
    pub top_p: Option<Number>,
    /// Sample from this many likeliest tokens.
    pub top_k: Option<u64>,
    /// Less of what has been said, by how often it was.
    pub frequency_penalty: Option<Number>,
    /// Less of what has been said at all.
    pub presence_penalty: Option<Number>,
    /// For answers that repeat, as far as the provider can.
    pub seed: Option<i64>,
    /// How many answers. More than one bears meaning.
    pub n: Option<u64>,
    /// Are log probabilities of the answer's tokens wanted?
    pub logprobs: Option<bool>,
    /// And of how many alternatives for each.
    pub top_logprobs: Option<u64>,
    /// Texts at which the answer ends.
    pub stop: Vec<String>,
    /// The shape the answer must have.
    pub output: Option<OutputShape>,
    /// How much to reason.
    pub reasoning: Reasoning,
    /// The end user on whose behalf this is asked.
    pub user: Option<String>,
    /// Is the answer to come as a stream?
    pub stream: bool,
    /// Fields of `format` that this model does not know.
    pub other: Map<String, Value>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The operator of the model.
    System,
    /// OpenAI's newer name for the author of a system prompt.
    Developer,
    /// The person asking, and the tools that answer calls.
    User,
    /// The model.
    Assistant,
}

/// One turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub parts: Vec<Part>,
    /// Fields that this model does not know.
    pub other: Map<String, Value>,
}

/// A piece of a turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The content.
    pub kind: PartKind,
    /// Fields that this model does not know.
    pub other: Map<String, Value>,
    /// A cache breakpoint after this part: Anthropic's `cache_control` object.
    pub cache_control: Option<Value>,
}

/// The content of a piece.
#[derive(Clone, Debug, PartialEq)]
pub enum PartKind {
    /// Text.
    Text(String),
    /// An image.
    Image(Source),
    /// A document, mostly a PDF.
    File {
        /// Where it is.
        source: Source,
        /// What it is called.
        name: Option<String>,
    },
    /// The model calls a tool.
    ToolCall {
        /// Which the result names again.
        id: String,
        /// The tool.
        name: String,
        /// A JSON object as the model wrote it.
        arguments: String,
    },
    /// A tool answers.
    ToolResult {
        /// Of the call.
        id: String,
        /// Did the tool fail? `None` where the format or the client does not say.
        is_error: Option<bool>,
        /// What it answered.
        parts: Vec<Part>,
    },
    /// What the model reasoned, with the provider's signature over it.
    Reasoning {
        /// The text.
        text: String,
        /// Opaque; only its maker accepts it.
        signature: Option<String>,
    },
    /// A kind of part that this model does not know, as it came.
    Other(Value),
}

/// Where content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// To be fetched by the provider.
    Url(String),
    /// In place.
    Base64 {
        /// Such as `image/png`.
        media_type: String,
        /// The content in base64, not decoded.
        data: String,
    },
    /// Uploaded to the provider before.
    Id(String),
}

/// A tool the model may call.
#[derive(Clone, Debug, PartialEq)]
pub enum Tool {
    /// A function of the client.
    Function {
        /// Its name.
        name: String,
        /// What it is for.
        description: Option<String>,
        /// JSON Schema of its arguments.
        parameters: Option<Value>,
        /// Must arguments follow the schema exactly?
        strict: Option<bool>,
        /// A cache breakpoint after this tool.
        cache_control: Option<Value>,
        /// Fields that this model does not know.
        other: Map<String, Value>,
    },
    /// A tool of the provider, as it came.
    Other(Value),
}

/// Which tool the model must call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it likes.
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}

/// The shape of the answer.
#[derive(Clone, Debug, PartialEq)]
pub enum OutputShape {
    /// Any JSON object.
    JsonObject,
    /// JSON of this schema.
    JsonSchema {
        /// OpenAI's name for it.
        name: Option<String>,
        /// JSON Schema.
        schema: Value,
        /// Must the answer follow the schema exactly?
        strict: Option<bool>,
        /// What it is for.
        description: Option<String>,
    },
}

/// How much to reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasoning {
    /// `none`, `minimal`, `low`, `medium`, `high`, and what providers add.
    pub effort: Option<String>,
    /// At most so many tokens.
    pub budget_tokens: Option<u64>,
    /// On (`enabled`), off (`disabled`) or as the model sees fit (`adaptive`).
    pub mode: Option<String>,
}

/// A body in a wire format.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The body.
    pub body: Value,
    /// Hints that the format cannot express, by the name they came under.
    pub dropped: Vec<String>,
}

/// Why a document cannot be read or written. Of a request it is the client's fault (status 400), of an
/// answer the provider's (status 502).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// A field is missing or of the wrong type.
    #[error("field `{field}` must be {expected}")]
    Invalid {
        /// Its path.
        field: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The provider answered that it failed.
    #[error("the provider failed: {message}")]
    Failed {
        /// What it says.
        message: String,
    },
    /// A field bears meaning that the format of the provider has no words for.
    #[error("`{field}` cannot be expressed in the format of this model's provider ({format:?})")]
    Inexpressible {
        /// Its path or kind.
        field: String,
        /// The format to write.
        format: Format,
    },
}

/// The field of [`Part::other`] for what Responses says of an item besides its content: its id and its
/// state. On the first part of a message it marks where an item begins. It is the bookkeeping of a
/// provider; a format that leaves it out need not name it.
pub(crate) const ITEM: &str = "item";

/// Does an unknown field of a request bear meaning? Then the answer without it would be another, and a
/// format that has no words for it must refuse; all other unknown fields are hints.
pub(crate) fn bears_meaning(key: &str, value: &Value) -> bool {
    if value.is_null() || value.as_array().is_some_and(Vec::is_empty) {
        return false;
    }
    match key {
        // Chat.
        "modalities" => value != &serde_json::json!(["text"]),
        "audio" | "web_search_options" | "functions" | "function_call" | "tool_choice" => true,
        // Responses: what was said before is with the provider.
        "previous_response_id" | "conversation" | "prompt" => true,
        "background" => value == &Value::Bool(true),
        // Messages.
        "mcp_servers" | "container" => true,
        // Gemini, Converse, Cohere.
        "cachedContent" | "responseModalities" | "guardrailConfig" | "promptVariables" | "documents" => true,
        _ => false,
    }
}

/// The unknown fields that a format without words for them must name.
pub(crate) fn hints(other: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    other
        .iter()
        .filter(|(key, value)| !value.is_null() && *key != ITEM)
}

/// How much to reason, in OpenAI's words. A budget becomes the nearest effort; there is no standard for
/// the limits between them, these are ours. That the model may choose is no effort, and dropped.
pub(crate) fn effort_of(reasoning: &Reasoning, dropped: &mut Vec<String>) -> Option<String> {
    if reasoning.budget_tokens.is_some() {
        dropped.push("thinking.budget_tokens (became an effort)".to_owned());
    }
    if reasoning.mode.as_deref() == Some("disabled") {
        return Some("none".to_owned());
    }
    if let Some(effort) = &reasoning.effort {
        return Some(effort.clone());
    }
    if reasoning.mode.as_deref() == Some("adaptive") {
        dropped.push("thinking.type (adaptive)".to_owned());
    }
    reasoning.budget_tokens.map(|budget| {
        let effort = match budget {
            ..=2048 => "low",
            2049..=8192 => "medium",
            _ => "high",
        };
        effort.to_owned()
    })
}

/// The fields of a JSON object, taken out one by one; what remains is unknown.
pub(crate) struct Fields {
    pub(crate) rest: Map<String, Value>,
    path: String,
}

impl Fields {
    pub(crate) fn new(value: Value, path: &str) -> Result<Self, ConvertError> {
        match value {
            Value::Object(rest) => Ok(Self {
                rest,
                path: path.to_owned(),
            }),
            _ => Err(ConvertError::Invalid {
                field: path.to_owned(),
                expected: "an object",
            }),
        }
    }

    pub(crate) fn at(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    pub(crate) fn invalid(&self, key: &str, expected: &'static str) -> ConvertError {
        ConvertError::Invalid {
            field: self.at(key),
            expected,
        }
    }

    /// The value, unless it is absent or null.
    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        self.rest.shift_remove(key).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &mut self,
        key: &str,
        expected: &'static str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, ConvertError> {
        self.take(key)
            .map(|value| read(&value).ok_or_else(|| self.invalid(key, expected)))
            .transpose()
    }

    pub(crate) fn text(&mut self, key: &str) -> Result<Option<String>, ConvertError> {
        self.typed(key, "a string", |value| value.as_str().map(str::to_owned))
    }

    pub(crate) fn needed_text(&mut self, key: &str) -> Result<String, ConvertError> {
        self.text(key)?.ok_or_else(|| self.invalid(key, "a string"))
    }

    pub(crate) fn flag(&mut self, key: &str) -> Result<Option<bool>, ConvertError> {
        self.typed(key, "true or false", Value::as_bool)
    }

    pub(crate) fn whole(&mut self, key: &str) -> Result<Option<u64>, ConvertError> {
        self.typed(key, "a whole number, not negative", Value::as_u64)
    }

    pub(crate) fn integer(&mut self, key: &str) -> Result<Option<i64>, ConvertError> {
        self.typed(key, "a whole number", Value::as_i64)
    }

    pub(crate) fn number(&mut self, key: &str) -> Result<Option<Number>, ConvertError> {
        self.typed(key, "a number", |value| value.as_number().cloned())
    }

    pub(crate) fn list(&mut self, key: &str) -> Result<Option<Vec<Value>>, ConvertError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(self.invalid(key, "an array")),
        }
    }

    /// Takes the field only if it is an object; the caller returns what it does not know by [`Fields::put_back`].
    pub(crate) fn object(&mut self, key: &str) -> Result<Option<Self>, ConvertError> {
        let path = self.at(key);
        self.take(key).map(|value| Self::new(value, &path)).transpose()
    }

    /// Keeps what is left of an inner object as an unknown field.
    pub(crate) fn put_back(&mut self, key: &str, inner: Self) {
        if !inner.rest.is_empty() {
            self.rest.insert(key.to_owned(), Value::Object(inner.rest));
        }
    }
}

/// The hints of a shape that formats without words for them must name. Where a schema is always followed
/// it need not be said, but a client that reads what was dropped looks for it.
pub(crate) fn shape_hints(shape: &OutputShape) -> Vec<String> {
    let OutputShape::JsonSchema {
        name,
        strict,
        description,
        ..
    } = shape
    else {
        return Vec::new();
    };
    let hints = [
        ("name", name.is_some()),
        ("description", description.is_some()),
        ("strict", strict.is_some()),
    ];
    let given = hints.into_iter().filter(|(_, given)| *given);
    given
        .map(|(key, _)| format!("response_format.json_schema.{key}"))
        .collect()
}

/// Is it reasoning of the past, shown or hidden? It is no part of what was said, and its maker alone takes
/// it back.
pub(crate) fn is_thought(kind: &PartKind) -> bool {
    match kind {
        PartKind::Reasoning { .. } => true,
        PartKind::Other(value) => value["type"] == "redacted_thinking",
        _ => false,
    }
}

/// What a part or tool of another format is called there, for errors: its `type`, or of Google's, which
/// have none, its first field that is no remark on another.
pub(crate) fn kind_name(value: &Value) -> &str {
    let is_kind = |key: &&String| !key.ends_with("Signature") && !key.ends_with("Metadata");
    let first = || value.as_object()?.keys().find(is_kind).map(String::as_str);
    value["type"].as_str().or_else(first).unwrap_or("of unknown type")
}

/// Text as one part without anything else.
pub(crate) fn plain(kind: PartKind) -> Part {
    Part {
        kind,
        other: Map::new(),
        cache_control: None,
    }
}

/// Writes a field that may be absent.
pub(crate) fn put(body: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        body.insert(key.to_owned(), value.into());
    }
}

/// Merges unknown fields into a body of the format they came in, inner objects field by field.
pub(crate) fn merge(body: &mut Map<String, Value>, other: &Map<String, Value>) {
    for (key, value) in other {
        match (body.get_mut(key), value) {
            (Some(Value::Object(inner)), Value::Object(more)) => merge(inner, more),
            _ => {
                body.insert(key.clone(), value.clone());
            }
        }
    }
}
