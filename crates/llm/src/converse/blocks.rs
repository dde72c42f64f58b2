//! Content blocks, which requests and answers share. A block is an object of one field, named by its kind.

use super::one;
use crate::canonical::{ConvertError, Fields, Part, PartKind, Source, hints, kind_name, merge, plain, put};
use crate::format::Format;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Anthropic's name for reasoning that is encrypted; the canonical model has no part of its own for it.
const REDACTED: &str = "redacted_thinking";

/// Formats of documents and images by their media type, the preferred type first.
const FORMATS: [(&str, &str); 14] = [
    ("pdf", "application/pdf"),
    ("csv", "text/csv"),
    ("doc", "application/msword"),
    (
        "docx",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ),
    ("xls", "application/vnd.ms-excel"),
    (
        "xlsx",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ),
    ("html", "text/html"),
    ("txt", "text/plain"),
    ("md", "text/markdown"),
    ("png", "image/png"),
    ("jpeg", "image/jpeg"),
    ("jpeg", "image/jpg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
];

/// Encrypted reasoning, as Anthropic's own format has it.
pub(super) fn redacted(data: &str) -> Value {
    json!({"type": REDACTED, "data": data})
}

pub(super) fn redacted_data(value: &Value) -> Option<&str> {
    value["data"].as_str().filter(|_| value["type"] == REDACTED)
}

/// Reads blocks. A `cachePoint` belongs to the block before it.
pub(super) fn read_blocks(blocks: Vec<Value>, path: &str) -> Result<Vec<Part>, ConvertError> {
    let mut parts: Vec<Part> = Vec::with_capacity(blocks.len());
    for (idx, block) in blocks.into_iter().enumerate() {
        let before = parts.last_mut().map(|part| &mut part.cache_control);
        match (read_cache_point(&block), before) {
            (Some(point), Some(cache_control @ None)) => *cache_control = Some(point),
            _ => parts.push(read_block(block, &format!("{path}[{idx}]"))?),
        }
    }
    Ok(parts)
}

/// Anthropic's words for a cache point, if the block is one that they can say.
pub(super) fn read_cache_point(block: &Value) -> Option<Value> {
    let (block, point) = (block.as_object()?, block.get("cachePoint")?.as_object()?);
    let ttl = point.get("ttl");
    let is_plain = block.len() == 1 && point.len() == 1 + usize::from(ttl.is_some());
    if !is_plain || point.get("type")? != "default" {
        return None;
    }
    let mut control = one("type", "ephemeral");
    put(&mut control, "ttl", ttl.cloned());
    Some(control.into())
}

pub(super) fn write_cache_point(cache_control: &Value) -> Value {
    let mut point = one("type", "default");
    put(&mut point, "ttl", cache_control.get("ttl").cloned());
    json!({"cachePoint": point})
}

fn read_block(block: Value, path: &str) -> Result<Part, ConvertError> {
    let mut fields = Fields::new(block, path)?;
    let Some(kind) = read_kind(&mut fields)? else {
        return Ok(plain(PartKind::Other(Value::Object(fields.rest))));
    };
    Ok(Part {
        kind,
        other: fields.rest,
        cache_control: None,
    })
}

fn read_kind(fields: &mut Fields) -> Result<Option<PartKind>, ConvertError> {
    if let Some(text) = fields.text("text")? {
        return Ok(Some(PartKind::Text(text)));
    }
    // Only in results.
    if let Some(value) = fields.take("json") {
        return Ok(Some(PartKind::Text(value.to_string())));
    }
    if let Some(mut call) = fields.object("toolUse")? {
        if is_of_provider(&mut call.rest, "tool_use") {
            fields.put_back("toolUse", call);
            return Ok(None);
        }
        let kind = PartKind::ToolCall {
            id: call.needed_text("toolUseId")?,
            name: call.needed_text("name")?,
            arguments: match call.take("input") {
                None => String::new(),
                Some(input @ Value::Object(_)) => input.to_string(),
                Some(_) => return Err(call.invalid("input", "an object")),
            },
        };
        fields.put_back("toolUse", call);
        return Ok(Some(kind));
    }
    if let Some(mut result) = fields.object("toolResult")? {
        if is_of_provider(&mut result.rest, "tool_result") {
            fields.put_back("toolResult", result);
            return Ok(None);
        }
        let content = result.list("content")?.unwrap_or_default();
        let kind = PartKind::ToolResult {
            id: result.needed_text("toolUseId")?,
            is_error: match result.text("status")?.as_deref() {
                None => None,
                Some("success") => Some(false),
                Some("error") => Some(true),
                Some(_) => return Err(result.invalid("status", "`success` or `error`")),
            },
            parts: read_blocks(content, &result.at("content"))?,
        };
        fields.put_back("toolResult", result);
        return Ok(Some(kind));
    }
    if let Some(mut reasoning) = fields.object("reasoningContent")? {
        if let Some(data) = reasoning.text("redactedContent")? {
            return Ok(Some(PartKind::Other(redacted(&data))));
        }
        let missing = reasoning.invalid("reasoningText", "an object");
        let mut text = reasoning.object("reasoningText")?.ok_or(missing)?;
        let kind = PartKind::Reasoning {
            text: text.needed_text("text")?,
            signature: text.text("signature")?,
        };
        reasoning.put_back("reasoningText", text);
        fields.put_back("reasoningContent", reasoning);
        return Ok(Some(kind));
    }
    read_media(fields)
}

/// Tools that the provider itself runs are its own, as the `type` of their calls and results says. The
/// type that every other has is left out.
pub(super) fn is_of_provider(block: &mut Map<String, Value>, usual: &str) -> bool {
    if block.get("type").is_some_and(|kind| kind == usual) {
        block.shift_remove("type");
    }
    block.contains_key("type")
}

/// Images and documents in place. `None` for other sources, which are this format's own: S3 too, where
/// nobody else can fetch them.
fn read_media(fields: &mut Fields) -> Result<Option<PartKind>, ConvertError> {
    let key = if fields.rest.contains_key("image") {
        "image"
    } else {
        "document"
    };
    let Some(mut media) = fields.object(key)? else {
        return Ok(None);
    };
    let missing = media.invalid("source", "an object");
    let mut source = media.object("source")?.ok_or(missing)?;
    let format = media.text("format")?;
    let media_type = FORMATS
        .iter()
        .find(|(name, _)| Some(*name) == format.as_deref())
        .map(|(_, media_type)| *media_type);
    let data = source.text("bytes")?;
    let content = match (data, media_type) {
        (Some(data), Some(media_type)) => Source::Base64 {
            media_type: media_type.to_owned(),
            data,
        },
        (data, _) => {
            put(&mut source.rest, "bytes", data);
            put(&mut media.rest, "format", format);
            media.put_back("source", source);
            fields.put_back(key, media);
            return Ok(None);
        }
    };
    media.put_back("source", source);
    let kind = if key == "image" {
        PartKind::Image(content)
    } else {
        PartKind::File {
            source: content,
            name: media.text("name")?,
        }
    };
    fields.put_back(key, media);
    Ok(Some(kind))
}

/// Writes blocks.
#[derive(Debug)]
pub(super) struct BlockWriter {
    /// The document came in this format, so its unknown fields may be written.
    pub(super) own: bool,
    /// In an answer, what has no words is left out; in a request it is refused.
    in_answer: bool,
    /// The model knows the signatures in the document: they are of Anthropic, whose models are here too.
    pub(super) knows_signatures: bool,
    pub(super) dropped: Vec<String>,
    /// Names given to documents, each with the last number it was told apart by.
    document_names: BTreeMap<String, usize>,
}

impl BlockWriter {
    pub(super) fn new(format: Format, knows_signatures: bool) -> Self {
        Self {
            own: format == Format::Converse,
            in_answer: false,
            // Of the readers of other formats, these two give no other signatures.
            knows_signatures: knows_signatures && matches!(format, Format::Messages | Format::Chat),
            dropped: Vec::new(),
            document_names: BTreeMap::new(),
        }
    }

    /// Clients may see every signature; which model it is of, they must know.
    pub(super) fn for_answer(format: Format) -> Self {
        Self {
            in_answer: true,
            knows_signatures: true,
            ..Self::new(format, true)
        }
    }

    pub(super) fn refuse(field: impl Into<String>) -> ConvertError {
        ConvertError::Inexpressible {
            field: field.into(),
            format: Format::Converse,
        }
    }

    /// Writes the fields of this format that the canonical model does not know; names those of others.
    pub(super) fn others(&mut self, body: &mut Map<String, Value>, other: &Map<String, Value>, path: &str) {
        if self.own {
            merge(body, other);
            return;
        }
        let given = hints(other);
        self.dropped.extend(given.map(|(key, _)| format!("{path}.{key}")));
    }

    /// The blocks of a turn, or of a result, which has no cache points.
    pub(super) fn write_all(&mut self, parts: &[Part], in_result: bool) -> Result<Vec<Value>, ConvertError> {
        let mut blocks = Vec::with_capacity(parts.len());
        for part in parts {
            if let Some(mut block) = self.write(part)? {
                // With reasoning from Chat are copies of it, which its format has too.
                if self.own || !matches!(part.kind, PartKind::Reasoning { .. }) {
                    self.others(&mut block, &part.other, "content[]");
                }
                blocks.push(block.into());
            }
            match &part.cache_control {
                Some(_) if in_result && !self.own => self.dropped.push("cache_control".to_owned()),
                // A point in front of everything would be refused.
                Some(control) if !blocks.is_empty() => blocks.push(write_cache_point(control)),
                _ => {}
            }
        }
        Ok(blocks)
    }

    fn write(&mut self, part: &Part) -> Result<Option<Map<String, Value>>, ConvertError> {
        Ok(Some(match &part.kind {
            // Bedrock refuses a blank text.
            PartKind::Text(text) if text.trim().is_empty() && !self.own => return Ok(None),
            PartKind::Text(text) => one("text", text.as_str()),
            PartKind::Reasoning { text, signature } if self.own || self.knows_signatures => {
                if signature.is_none() && !self.own && !self.in_answer {
                    self.dropped.push("thinking".to_owned());
                    return Ok(None);
                }
                let mut body = one("text", text.as_str());
                put(&mut body, "signature", signature.as_deref());
                one("reasoningContent", one("reasoningText", body))
            }
            // Past reasoning of other models is no part of what was said.
            PartKind::Reasoning { .. } => {
                self.dropped.push("thinking".to_owned());
                return Ok(None);
            }
            PartKind::ToolCall { id, name, arguments } => one("toolUse", self.call(id, name, arguments)?),
            PartKind::ToolResult { id, is_error, parts } => {
                let content = self.write_all(parts, true)?;
                let mut result = one("toolUseId", id.as_str());
                result.insert("content".to_owned(), content.into());
                let status = is_error.map(|is_error| if is_error { "error" } else { "success" });
                put(&mut result, "status", status);
                one("toolResult", result)
            }
            PartKind::Image(source) => one("image", self.media(source, "")?),
            PartKind::File { source, name } => {
                let mut document = self.media(source, name.as_deref().unwrap_or(""))?;
                let name = if self.own {
                    name.clone()
                } else {
                    Some(self.document_name(name.as_deref().unwrap_or("")))
                };
                put(&mut document, "name", name);
                one("document", document)
            }
            PartKind::Other(value) if redacted_data(value).is_some() => {
                if !self.own && !self.knows_signatures {
                    self.dropped.push("thinking".to_owned());
                    return Ok(None);
                }
                one("reasoningContent", one("redactedContent", value["data"].clone()))
            }
            PartKind::Other(Value::Object(block)) if self.own => block.clone(),
            PartKind::Other(value) if value["type"] == "refusal" => {
                one("text", value["refusal"].as_str().unwrap_or_default())
            }
            PartKind::Other(value) if self.in_answer => {
                self.dropped.push(format!("content[].{}", kind_name(value)));
                return Ok(None);
            }
            PartKind::Other(value) => return Err(Self::refuse(kind_name(value))),
        }))
    }

    fn call(&mut self, id: &str, name: &str, arguments: &str) -> Result<Map<String, Value>, ConvertError> {
        let text = if arguments.trim().is_empty() {
            "{}"
        } else {
            arguments
        };
        let input = match serde_json::from_str::<Map<String, Value>>(text) {
            Ok(input) => input,
            // A client that runs the tool must not run it without arguments: let it fail.
            Err(_) if self.in_answer => {
                let note = "tool_calls[].function.arguments (not a JSON object)";
                self.dropped.push(note.to_owned());
                one("unparsed_arguments", arguments)
            }
            Err(_) => {
                return Err(ConvertError::Invalid {
                    field: format!("arguments of the call `{id}`"),
                    expected: "a JSON object in a string",
                });
            }
        };
        let mut call = one("toolUseId", id);
        call.insert("name".to_owned(), name.into());
        call.insert("input".to_owned(), input.into());
        Ok(call)
    }

    fn media(&self, source: &Source, name: &str) -> Result<Map<String, Value>, ConvertError> {
        let (format, source) = match source {
            Source::Base64 { media_type, data } => {
                // Parameters such as `charset` say nothing here.
                let plain = media_type.split(';').next().unwrap_or("").trim();
                let known = FORMATS.iter().find(|(_, known)| *known == plain);
                let format = known
                    .map(|(format, _)| *format)
                    .or_else(|| format_of_name(name))
                    .ok_or_else(|| Self::refuse(format!("content of type {media_type}")))?;
                (format, json!({"bytes": data}))
            }
            Source::Url(uri) if uri.starts_with("s3://") => {
                let unknown = || Self::refuse("content in S3 whose name does not tell its format");
                let format = format_of_name(uri).ok_or_else(unknown)?;
                (format, json!({"s3Location": {"uri": uri}}))
            }
            Source::Url(_) => return Err(Self::refuse("content by url")),
            Source::Id(_) => return Err(Self::refuse("content by file id")),
        };
        let mut media = one("format", format);
        media.insert("source".to_owned(), source);
        Ok(media)
    }

    /// A name that Bedrock accepts (letters, digits, single spaces, hyphens, brackets) and that no other
    /// document of the request has.
    fn document_name(&mut self, name: &str) -> String {
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-()[]".contains(letter);
        let words = stem
            .split(|letter| !allowed(letter))
            .filter(|word| !word.is_empty());
        let mut name = words.collect::<Vec<_>>().join(" ");
        name.truncate(DOCUMENT_NAME_BYTES_MAX);
        if name.is_empty() {
            "document".clone_into(&mut name);
        }
        let mut unique = name.clone();
        // The count goes on where it stopped, so that many documents of one name take no longer.
        let mut number = self.document_names.get(&name).copied().unwrap_or(0);
        while self.document_names.contains_key(&unique) {
            number += 1;
            unique = format!("{name} [{}]", number + 1);
        }
        self.document_names.insert(name, number);
        self.document_names.insert(unique.clone(), 0);
        unique
    }
}

/// The format that the extension of a file's name tells.
fn format_of_name(name: &str) -> Option<&'static str> {
    let (_, extension) = name.rsplit_once('.')?;
    let extension = match extension.to_ascii_lowercase().as_str() {
        "jpg" => "jpeg".to_owned(),
        "htm" => "html".to_owned(),
        other => other.to_owned(),
    };
    let found = FORMATS.iter().find(|(format, _)| *format == extension);
    found.map(|(format, _)| *format)
}

/// Bedrock allows 200; the number of a repeated name needs room too.
const DOCUMENT_NAME_BYTES_MAX: usize = 180;
