//! The items of a conversation: messages, calls of functions and their outputs, reasoning. A request's
//! `input` and an answer's `output` are lists of them.
//!
//! Where this format has an item, others have a part of a turn, so items of the model that follow each
//! other become one turn. What an item says of itself (id, state) is kept under [`ITEM`] at its first
//! part, which also marks where it begins.

use crate::canonical::{ConvertError, Fields, ITEM, Part, PartKind, Role, Source, plain};
use crate::format::Format;
use serde_json::{Map, Value, json};

/// An item, as the parts of a turn.
pub(super) struct Item {
    pub(super) role: Role,
    pub(super) parts: Vec<Part>,
    /// Is it a message? Else one call, output or the like.
    pub(super) is_message: bool,
}

/// Kinds of content that only a message has; what else this model does not know is an item.
const CONTENT: [&str; 5] = [
    "refusal",
    "input_image",
    "input_file",
    "input_audio",
    "output_audio",
];

/// Does a message hold it, or is it an item itself?
pub(super) fn is_content(kind: &PartKind) -> bool {
    match kind {
        PartKind::Text(_) | PartKind::Image(_) | PartKind::File { .. } => true,
        PartKind::Other(value) => value["type"].as_str().is_some_and(|kind| CONTENT.contains(&kind)),
        PartKind::ToolCall { .. } | PartKind::ToolResult { .. } | PartKind::Reasoning { .. } => false,
    }
}

/// Reads an item of `input` or `output`.
pub(super) fn read_item(item: Value, path: &str) -> Result<Item, ConvertError> {
    let mut fields = Fields::new(item.clone(), path)?;
    let kind = fields.text("type")?;
    let single = |role, kind, rest: Map<String, Value>| {
        let mut part = plain(kind);
        mark(&mut part, rest);
        Item {
            role,
            parts: vec![part],
            is_message: false,
        }
    };
    let is_message =
        kind.as_deref() == Some("message") || (kind.is_none() && fields.rest.contains_key("role"));
    if is_message {
        return read_message(fields);
    }
    Ok(match kind.as_deref() {
        Some("function_call") => {
            let kind = PartKind::ToolCall {
                id: fields.needed_text("call_id")?,
                name: fields.needed_text("name")?,
                arguments: fields.text("arguments")?.unwrap_or_default(),
            };
            single(Role::Assistant, kind, fields.rest)
        }
        Some("function_call_output") => {
            let kind = PartKind::ToolResult {
                id: fields.needed_text("call_id")?,
                is_error: None,
                parts: match fields.take("output") {
                    Some(output) => read_content(output, &fields.at("output"))?,
                    None => Vec::new(),
                },
            };
            single(Role::User, kind, fields.rest)
        }
        Some("reasoning") => match read_reasoning(&mut fields)? {
            Some(kind) => single(Role::Assistant, kind, fields.rest),
            // It says nothing; only OpenAI can follow its id.
            None => other(Role::Assistant, item),
        },
        None if !fields.rest.contains_key("id") => return Err(fields.invalid("type", "a string")),
        // What the client's side answers to a kind of call that this model does not know.
        Some(kind) if kind.ends_with("_output") || kind == "mcp_approval_response" => other(Role::User, item),
        _ => other(Role::Assistant, item),
    })
}

fn other(role: Role, item: Value) -> Item {
    Item {
        role,
        parts: vec![plain(PartKind::Other(item))],
        is_message: false,
    }
}

/// Keeps what an item says of itself at its first part.
fn mark(part: &mut Part, mut rest: Map<String, Value>) {
    rest.retain(|_, value| !value.is_null());
    if !rest.is_empty() {
        part.other.insert(ITEM.to_owned(), rest.into());
    }
}

fn read_message(mut fields: Fields) -> Result<Item, ConvertError> {
    let role = match fields.needed_text("role")?.as_str() {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => return Err(fields.invalid("role", "`system`, `developer`, `user` or `assistant`")),
    };
    let content = fields
        .take("content")
        .ok_or_else(|| fields.invalid("content", "a string or an array"))?;
    let mut parts = read_content(content, &fields.at("content"))?;
    if let Some(first) = parts.first_mut() {
        mark(first, fields.rest);
        if role == Role::Assistant {
            first.other.entry(ITEM).or_insert(Value::Null);
        }
    }
    Ok(Item {
        role,
        parts,
        is_message: true,
    })
}

/// The content of a message, or the output of a tool.
fn read_content(content: Value, path: &str) -> Result<Vec<Part>, ConvertError> {
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
        "input_text" | "output_text" | "text" => PartKind::Text(fields.needed_text("text")?),
        "input_image" => {
            let url = fields.text("image_url")?;
            match url.map(read_url).or(fields.text("file_id")?.map(Source::Id)) {
                Some(source) => PartKind::Image(source),
                None => return Ok(plain(PartKind::Other(part))),
            }
        }
        "input_file" => {
            let url = fields.text("file_url")?.map(read_url);
            let id = fields.text("file_id")?.map(Source::Id);
            let data = fields.text("file_data")?.map(read_url);
            match url.or(id).or(data.filter(|data| !matches!(data, Source::Url(_)))) {
                Some(source) => PartKind::File {
                    source,
                    name: fields.text("filename")?,
                },
                // Bare base64: only its provider knows of what kind.
                None => return Ok(plain(PartKind::Other(part))),
            }
        }
        _ => return Ok(plain(PartKind::Other(part))),
    };
    // Lists that say nothing; every text of an answer has them.
    fields
        .rest
        .retain(|_, value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
    Ok(Part {
        kind,
        other: fields.rest,
        cache_control: None,
    })
}

fn read_url(url: String) -> Source {
    let inline = url
        .strip_prefix("data:")
        .and_then(|rest| rest.split_once(";base64,"));
    match inline {
        Some((media_type, data)) => Source::Base64 {
            media_type: media_type.to_owned(),
            data: data.to_owned(),
        },
        None => Source::Url(url),
    }
}

pub(super) fn data_url(media_type: &str, data: &str) -> String {
    format!("data:{media_type};base64,{data}")
}

/// Reasoning, if the item has any: its summary, else its text. A `content` of null in the rest tells that
/// it was its text.
fn read_reasoning(fields: &mut Fields) -> Result<Option<PartKind>, ConvertError> {
    let texts = |list: Option<Vec<Value>>| -> Option<String> {
        let list = list?;
        let texts = list.iter().map(|part| part["text"].as_str().unwrap_or_default());
        Some(texts.collect::<Vec<_>>().join(BETWEEN))
    };
    let signature = fields.text("encrypted_content")?;
    let summary = texts(fields.list("summary")?).filter(|text| !text.is_empty());
    let content = fields.rest.get("content").and_then(Value::as_array).cloned();
    let text = match summary {
        Some(summary) => Some(summary),
        None => {
            fields.rest.shift_remove("content");
            let content = texts(content).filter(|text| !text.is_empty());
            if content.is_some() {
                fields.rest.insert(RAW.to_owned(), true.into());
            }
            content
        }
    };
    if text.is_none() && signature.is_none() {
        return Ok(None);
    }
    Ok(Some(PartKind::Reasoning {
        text: text.unwrap_or_default(),
        signature,
    }))
}

/// Between the summaries of one item, which become one text.
pub(super) const BETWEEN: &str = "\n\n";

/// In what is kept of an item of reasoning: its text is not a summary.
pub(super) const RAW: &str = "is_raw";

/// Before what Claude signed or hid, in `encrypted_content`: clients hand it back, and it goes to Claude
/// alone. What has no such mark is OpenAI's own.
const CLAUDE: &str = "anthropic-claude-v1:";
const CLAUDE_HIDDEN: &str = "anthropic-claude-v1-redacted:";

/// The `encrypted_content` of reasoning that `maker` signed; `None` for makers whose signatures no reader
/// of this format would know again.
pub(super) fn seal(signature: &str, maker: Option<Format>) -> Option<String> {
    match maker {
        Some(Format::Responses) => Some(signature.to_owned()),
        Some(Format::Messages | Format::Converse) if signature.starts_with(CLAUDE) => {
            Some(signature.to_owned())
        }
        Some(Format::Messages | Format::Converse) => Some(format!("{CLAUDE}{signature}")),
        _ => None,
    }
}

/// Reasoning that Claude hides, as an item without its id.
pub(super) fn hidden(value: &Value) -> Option<Value> {
    let data = value["data"]
        .as_str()
        .filter(|_| value["type"] == "redacted_thinking")?;
    let sealed = format!("{CLAUDE_HIDDEN}{data}");
    Some(json!({"type": "reasoning", "summary": [], "encrypted_content": sealed}))
}

/// Undoes [`seal`] and [`hidden`] in a request: afterwards a signature is Claude's, and OpenAI's own is
/// with what the item says of itself.
pub(super) fn unseal(part: &mut Part) {
    let PartKind::Reasoning { signature, .. } = &mut part.kind else {
        return;
    };
    let Some(sealed) = signature.take() else { return };
    if let Some(data) = sealed.strip_prefix(CLAUDE_HIDDEN) {
        part.kind = PartKind::Other(json!({"type": "redacted_thinking", "data": data}));
    } else if let Some(own) = sealed.strip_prefix(CLAUDE) {
        *signature = Some(own.to_owned());
    } else {
        let about = part.other.entry(ITEM).or_insert_with(|| json!({}));
        about["encrypted_content"] = sealed.into();
    }
}
