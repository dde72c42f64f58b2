//! Parts of a turn, which requests and answers share.

use super::{MADE_ID, fields, object};
use crate::canonical::{ConvertError, Fields, Part, PartKind, Source, hints, kind_name, merge, plain, put};
use crate::format::Format;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};

/// The media types that are told where neither a document nor its name does. Google looks for itself.
const IMAGE_IF_UNKNOWN: &str = "image/png";
const FILE_IF_UNKNOWN: &str = "application/pdf";

/// Reads parts. Knows the calls met so far: ids are optional in this format, and a result without one
/// belongs to the first call of its name that has none yet.
#[derive(Debug)]
pub(super) struct PartReader {
    id_prefix: String,
    n_made: usize,
    /// Names by id.
    names: BTreeMap<String, String>,
    /// Ids of calls without result, by name.
    open: BTreeMap<String, VecDeque<String>>,
}

impl PartReader {
    /// Ids that are made begin with `MADE_ID`, then `scope`.
    pub(super) fn new(scope: &str) -> Self {
        Self {
            id_prefix: format!("{MADE_ID}{scope}"),
            n_made: 0,
            names: BTreeMap::new(),
            open: BTreeMap::new(),
        }
    }

    pub(super) fn read_all(&mut self, parts: Vec<Value>, path: &str) -> Result<Vec<Part>, ConvertError> {
        let parts = parts.into_iter().enumerate();
        parts
            .map(|(idx, part)| self.read(part, &format!("{path}[{idx}]")))
            .collect()
    }

    pub(super) fn read(&mut self, part: Value, path: &str) -> Result<Part, ConvertError> {
        let mut fields = fields(part, path)?;
        let has = |fields: &Fields, key: &str| fields.rest.get(key).is_some_and(|value| !value.is_null());
        let kind = if has(&fields, "text") {
            let text = fields.needed_text("text")?;
            if fields.flag("thought")?.unwrap_or(false) {
                let signature = fields.text("thoughtSignature")?;
                PartKind::Reasoning { text, signature }
            } else {
                PartKind::Text(text)
            }
        } else if has(&fields, "functionCall") {
            self.call(&mut fields)?
        } else if has(&fields, "functionResponse") {
            self.result(&mut fields)?
        } else if let Some(kind) = read_media(&mut fields)? {
            kind
        } else {
            return Ok(plain(PartKind::Other(Value::Object(fields.rest))));
        };
        Ok(Part {
            kind,
            other: fields.rest,
            cache_control: None,
        })
    }

    fn make_id(&mut self) -> String {
        let id = format!("{}{}", self.id_prefix, self.n_made);
        self.n_made += 1;
        id
    }

    fn call(&mut self, part: &mut Fields) -> Result<PartKind, ConvertError> {
        let missing = part.invalid("functionCall", "an object");
        let mut call = object(part, "functionCall")?.ok_or(missing)?;
        let name = call.needed_text("name")?;
        let id = match call.text("id")?.filter(|id| !id.is_empty()) {
            Some(id) => id,
            None => self.make_id(),
        };
        let arguments = match call.take("args") {
            None => String::new(),
            Some(args @ Value::Object(_)) => args.to_string(),
            Some(_) => return Err(call.invalid("args", "an object")),
        };
        self.names.insert(id.clone(), name.clone());
        self.open.entry(name.clone()).or_default().push_back(id.clone());
        part.put_back("functionCall", call);
        Ok(PartKind::ToolCall { id, name, arguments })
    }

    fn result(&mut self, part: &mut Fields) -> Result<PartKind, ConvertError> {
        let missing = part.invalid("functionResponse", "an object");
        let mut result = object(part, "functionResponse")?.ok_or(missing)?;
        let name = result.needed_text("name")?;
        let open = self.open.entry(name.clone()).or_default();
        let id = match result.text("id")?.filter(|id| !id.is_empty()) {
            Some(id) => {
                if open.front() == Some(&id) {
                    open.pop_front();
                }
                id
            }
            None => match open.pop_front() {
                Some(id) => id,
                None => self.make_id(),
            },
        };
        let (mut parts, is_error) = match result.take("response") {
            None => (Vec::new(), None),
            Some(Value::Object(response)) => read_response(&response),
            Some(_) => return Err(result.invalid("response", "an object")),
        };
        if let Some(more) = result.list("parts")? {
            parts.extend(self.read_all(more, &result.at("parts"))?);
        }
        // The name follows from the call; without it, it must be kept.
        if self.names.get(&id) != Some(&name) {
            result.rest.insert("name".to_owned(), name.into());
        }
        part.put_back("functionResponse", result);
        Ok(PartKind::ToolResult { id, is_error, parts })
    }
}

/// What a tool answered. Google's own words for a text are `output` and `error`; any other object is
/// its JSON text.
fn read_response(response: &Map<String, Value>) -> (Vec<Part>, Option<bool>) {
    let only = match response.iter().next() {
        Some((key, Value::String(text))) if response.len() == 1 => Some((key.as_str(), text)),
        _ => None,
    };
    let (text, is_error) = match only {
        Some(("error", text)) => (text.clone(), Some(true)),
        // A text that is itself an object would be written as one.
        Some(("output", text)) if parse_object(text).is_none() => (text.clone(), None),
        _ => (Value::Object(response.clone()).to_string(), None),
    };
    (vec![plain(PartKind::Text(text))], is_error)
}

fn parse_object(text: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(text).ok()
}

/// Base64 in the alphabet that every provider takes. Google's SDK writes that of URLs (RFC 4648,
/// section 5), which JSON of protocol buffers may be read from as well.
fn standard_base64(mut text: String) -> String {
    if text.contains(['-', '_']) {
        text = text.replace('-', "+").replace('_', "/");
    }
    while !text.len().is_multiple_of(4) && !text.ends_with("==") {
        text.push('=');
    }
    text
}

/// `inlineData` and `fileData`. `None` for sounds and films, which the canonical model does not know, and
/// for Google's own storage.
fn read_media(part: &mut Fields) -> Result<Option<PartKind>, ConvertError> {
    let (key, source_key) = if part.rest.contains_key("inlineData") {
        ("inlineData", "data")
    } else {
        ("fileData", "fileUri")
    };
    let Some(mut media) = object(part, key)? else {
        return Ok(None);
    };
    let content = media.needed_text(source_key)?;
    let media_type = media.text("mimeType")?;
    let kind = media_type
        .as_deref()
        .map_or("", |kind| kind.split('/').next().unwrap_or(""));
    // What only Google can fetch is nothing to anyone else.
    let is_google_uri = content.starts_with("gs://") || content.contains("generativelanguage");
    let is_elsewhere = key == "fileData" && is_google_uri;
    if is_elsewhere || !matches!(kind, "image" | "application" | "text") {
        put(&mut media.rest, "mimeType", media_type);
        media.rest.insert(source_key.to_owned(), content.into());
        part.put_back(key, media);
        return Ok(None);
    }
    let is_image = kind == "image";
    let source = if key == "inlineData" {
        Source::Base64 {
            media_type: media_type.unwrap_or_default(),
            data: standard_base64(content),
        }
    } else {
        // Kept only where the writer would not write it by itself.
        let unknown = if is_image {
            IMAGE_IF_UNKNOWN
        } else {
            FILE_IF_UNKNOWN
        };
        let expected = media_type_of(&content).unwrap_or(unknown);
        let media_type = media_type.filter(|media_type| media_type != expected);
        put(&mut media.rest, "mimeType", media_type);
        Source::Url(content)
    };
    let name = if is_image {
        None
    } else {
        media.text("displayName")?
    };
    part.put_back(key, media);
    Ok(Some(if is_image {
        PartKind::Image(source)
    } else {
        PartKind::File { source, name }
    }))
}

/// Writes parts.
pub(super) struct PartWriter {
    /// The document came in this format, so its unknown fields may be written.
    pub(super) own: bool,
    /// In an answer, what has no words is left out; in a request it is refused.
    in_answer: bool,
    pub(super) dropped: Vec<String>,
    /// Names of the tools called, by the id of the call.
    names: BTreeMap<String, String>,
}

impl PartWriter {
    pub(super) fn new(format: Format) -> Self {
        Self {
            own: format == Format::GenerateContent,
            in_answer: false,
            dropped: Vec::new(),
            names: BTreeMap::new(),
        }
    }

    pub(super) fn for_answer(format: Format) -> Self {
        Self {
            in_answer: true,
            ..Self::new(format)
        }
    }

    pub(super) fn refuse(field: impl Into<String>) -> ConvertError {
        ConvertError::Inexpressible {
            field: field.into(),
            format: Format::GenerateContent,
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

    pub(super) fn write_all<'a>(
        &mut self,
        parts: impl IntoIterator<Item = &'a Part>,
    ) -> Result<Vec<Value>, ConvertError> {
        let mut out = Vec::new();
        for part in parts {
            out.extend(self.write(part)?);
        }
        Ok(out)
    }

    fn write(&mut self, part: &Part) -> Result<Option<Value>, ConvertError> {
        let mut body = Map::new();
        let mut other = &part.other;
        let without;
        match &part.kind {
            PartKind::Text(text) => put(&mut body, "text", Some(text.as_str())),
            PartKind::Reasoning { text, signature } => {
                body.insert("text".to_owned(), text.as_str().into());
                body.insert("thought".to_owned(), true.into());
                if self.own {
                    put(&mut body, "thoughtSignature", signature.as_deref());
                }
            }
            PartKind::ToolCall { id, name, arguments } => {
                self.names.insert(id.clone(), name.clone());
                body.insert("functionCall".to_owned(), self.call(id, name, arguments)?);
                // Where Google's own endpoint of the Chat format has it.
                let signature = part
                    .other
                    .get("extra_content")
                    .and_then(|extra| extra.pointer("/google/thought_signature").and_then(Value::as_str));
                if let (false, Some(signature)) = (self.own, signature) {
                    body.insert("thoughtSignature".to_owned(), signature.into());
                    without = leave_out(other, "extra_content");
                    other = &without;
                }
            }
            PartKind::ToolResult { id, is_error, parts } => {
                let result = self.result(part, id, *is_error, parts)?;
                if !self.own && other.get("name") == result.get("name") {
                    without = leave_out(other, "name");
                    other = &without;
                }
                body.insert("functionResponse".to_owned(), result);
            }
            PartKind::Image(source) => self.media(&mut body, source, None, IMAGE_IF_UNKNOWN)?,
            PartKind::File { source, name } => {
                self.media(&mut body, source, name.as_deref(), FILE_IF_UNKNOWN)?;
            }
            PartKind::Other(value) if self.own => return Ok(Some(value.clone())),
            PartKind::Other(value) if value["type"] == "refusal" => {
                put(&mut body, "text", value["refusal"].as_str());
            }
            PartKind::Other(value) => match write_sound(value) {
                None if self.in_answer => {
                    self.dropped.push(format!("parts[].{}", kind_name(value)));
                    return Ok(None);
                }
                None => return Err(Self::refuse(kind_name(value))),
                sound => return Ok(sound),
            },
        }
        if part.cache_control.is_some() {
            self.dropped.push("cache_control".to_owned());
        }
        self.others(&mut body, other, "parts[]");
        Ok(Some(body.into()))
    }

    fn call(&mut self, id: &str, name: &str, arguments: &str) -> Result<Value, ConvertError> {
        let mut call = Map::new();
        if !id.starts_with(MADE_ID) {
            call.insert("id".to_owned(), id.into());
        }
        call.insert("name".to_owned(), name.into());
        if arguments.trim().is_empty() {
            if !self.own {
                call.insert("args".to_owned(), json!({}));
            }
        } else {
            let args = match parse_object(arguments) {
                Some(args) => args,
                // A client that runs the tool must not run it without arguments: let it fail.
                None if self.in_answer => {
                    let note = "tool_calls[].function.arguments (not a JSON object)";
                    self.dropped.push(note.to_owned());
                    super::one("unparsed_arguments", arguments)
                }
                None => {
                    return Err(ConvertError::Invalid {
                        field: format!("arguments of the call `{id}`"),
                        expected: "a JSON object in a string",
                    });
                }
            };
            call.insert("args".to_owned(), args.into());
        }
        Ok(call.into())
    }

    fn result(
        &mut self,
        part: &Part,
        id: &str,
        is_error: Option<bool>,
        parts: &[Part],
    ) -> Result<Value, ConvertError> {
        let mut result = Map::new();
        if !id.starts_with(MADE_ID) {
            result.insert("id".to_owned(), id.into());
        }
        let kept = part
            .other
            .get("functionResponse")
            .and_then(|inner| inner.get("name"));
        // Chat may name the tool beside the id of its call.
        let beside = part
            .other
            .get("name")
            .and_then(Value::as_str)
            .filter(|_| !self.own);
        match self.names.get(id).map(String::as_str).or(beside) {
            Some(name) => put(&mut result, "name", Some(name)),
            None if self.own && kept.is_some() => {}
            // This format names the tool, not the call.
            None => return Err(Self::refuse(format!("result of `{id}` without its call"))),
        }
        let (mut texts, mut more) = (Vec::new(), Vec::new());
        for part in parts {
            match &part.kind {
                PartKind::Text(text) => {
                    texts.push(text.as_str());
                    if part.cache_control.is_some() {
                        self.dropped.push("cache_control".to_owned());
                    }
                    self.others(&mut Map::new(), &part.other, "parts[]");
                }
                PartKind::Image(_) | PartKind::File { .. } => more.extend(self.write(part)?),
                PartKind::Other(_) if self.own => more.extend(self.write(part)?),
                _ => return Err(Self::refuse("tool result with content other than text or files")),
            }
        }
        let text = texts.join("\n");
        if !self.own || !texts.is_empty() {
            let response = match (is_error, parse_object(&text)) {
                (Some(true), _) => super::one("error", text),
                (_, Some(object)) => object,
                (_, None) => super::one("output", text),
            };
            result.insert("response".to_owned(), response.into());
        }
        if !more.is_empty() {
            result.insert("parts".to_owned(), more.into());
        }
        Ok(result.into())
    }

    fn media(
        &mut self,
        body: &mut Map<String, Value>,
        source: &Source,
        name: Option<&str>,
        media_type_if_unknown: &str,
    ) -> Result<(), ConvertError> {
        let (key, mut media) = match source {
            Source::Base64 { media_type, data } => {
                // Clients write the first; it is no media type.
                let media_type = if media_type == "image/jpg" {
                    "image/jpeg"
                } else {
                    media_type
                };
                ("inlineData", json!({"mimeType": media_type, "data": data}))
            }
            Source::Id(_) => return Err(Self::refuse("content by file id")),
            // What the document itself says of the type comes after, with its other fields.
            Source::Url(uri) => {
                let media_type = media_type_of(uri).unwrap_or(media_type_if_unknown);
                ("fileData", json!({"mimeType": media_type, "fileUri": uri}))
            }
        };
        match name {
            Some(name) if self.own => media["displayName"] = name.into(),
            // Gemini itself, other than Vertex, refuses a name.
            Some(_) => self.dropped.push("filename".to_owned()),
            None => {}
        }
        body.insert(key.to_owned(), media);
        Ok(())
    }
}

fn leave_out(fields: &Map<String, Value>, key: &str) -> Map<String, Value> {
    let mut fields = fields.clone();
    fields.shift_remove(key);
    fields
}

/// Sound in a Chat request; other kinds have no words here.
fn write_sound(value: &Value) -> Option<Value> {
    let sound = &value["input_audio"];
    let (format, data) = (sound["format"].as_str()?, sound["data"].as_str()?);
    (value["type"] == "input_audio")
        .then(|| json!({"inlineData": {"mimeType": format!("audio/{format}"), "data": data}}))
}

/// The media type that the end of a URL's path tells. Google wants to be told.
fn media_type_of(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next()?;
    let (_, extension) = path.rsplit_once('.')?;
    Some(match extension.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "heic" => "image/heic",
        "heif" => "image/heif",
        "pdf" => "application/pdf",
        "txt" | "md" => "text/plain",
        "html" | "htm" => "text/html",
        "csv" => "text/csv",
        _ => return None,
    })
}
