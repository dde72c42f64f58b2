//! A client's body becomes the body for one provider.

use super::head::Head;
use super::quirks;
use hyper::body::Bytes;
use llm::canonical::{ConvertError, Request};
use llm::convert::{self, PathFacts, WriteOptions};
use llm::format::Format;
use llm::parameters::{Field, Parameters};
use llm::presets::Preset;
use llm::{shape_as_tool, splice};
use serde_json::{Map, Value};

/// What goes out.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// The body.
    pub(super) body: Bytes,
    /// Hints that the provider's format has no words for.
    pub(super) dropped: Vec<String>,
    /// The client did not ask for the usage of its stream; its event is taken out again.
    pub(super) drop_usage: bool,
    /// The shape of the answer was hidden in a tool: its call is the answer.
    pub(super) is_shown: bool,
}

/// What is written into a request for one target.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// The client's format.
    pub(super) ingress: Format,
    /// The provider's format.
    pub(super) wire: Format,
    /// The provider.
    pub(super) preset: &'a Preset,
    /// The field for the longest answer is `max_tokens`.
    pub(super) legacy_max_tokens: bool,
    /// What the provider calls the model.
    pub(super) model: &'a str,
    /// What the gateway read of the request.
    pub(super) head: &'a Head,
    /// Put in where the client gave none.
    pub(super) parameters: &'a Parameters,
    /// The most tokens to ask for, where a hard budget must hold; put in where the client gave none.
    pub(super) max_tokens: Option<u64>,
    /// The model's own limit.
    pub(super) max_output_tokens: Option<u64>,
    /// Refuse what cannot be expressed.
    pub(super) strict: bool,
    /// The model takes no shape of an answer, but tools.
    pub(super) shape_as_tool: bool,
}

/// Why a request cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum TranslateError {
    /// The client's request, or what its provider can say.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// The client's body.
    #[error(transparent)]
    Splice(#[from] splice::SpliceError),
}

impl Plan<'_> {
    /// Writes the body. `request` is the client's, read, if it was needed before.
    ///
    /// # Errors
    /// The client's fault.
    pub(super) fn write(&self, body: &Bytes, request: Option<&Request>) -> Result<Outgoing, TranslateError> {
        let wire = self.wire;
        if wire == self.ingress && request.is_none() {
            return self.splice(body);
        }
        let read;
        let request = match request {
            Some(request) => request,
            None => {
                read = read_request(self.ingress, body, self.head)?;
                &read
            }
        };
        let mut request = request.clone();
        request.model = self.model.to_owned();
        request.stream = self.head.stream;
        if request.max_output_tokens.is_none() {
            request.max_output_tokens = self.bound();
        }
        let options = self.options();
        let is_shown = self.shape_as_tool && shape_as_tool::hide(&mut request, wire)?;
        let mut written = convert::write_request(wire, &request, &options)?;
        if let Value::Object(fields) = &mut written.body {
            if wire == Format::Chat {
                let n_before = written.dropped.len();
                let most = options.max_tokens_if_absent;
                quirks::apply(fields, &self.preset.quirks, most, &mut written.dropped)?;
                if let Some(field) = written.dropped.get(n_before).filter(|_| self.strict) {
                    let (field, format) = (field.clone(), wire);
                    return Err(ConvertError::Inexpressible { field, format }.into());
                }
            }
            if !self.parameters.is_empty() {
                let (more, dropped) = self.parameters.fields(wire, &options);
                written.dropped.extend(dropped);
                for field in more {
                    put_if_absent(fields, field);
                }
                if wire == Format::Chat {
                    let most = options.max_tokens_if_absent;
                    quirks::apply(fields, &self.preset.quirks, most, &mut written.dropped)?;
                }
            }
            if wire == Format::Chat && self.head.stream && self.preset.quirks.include_usage {
                fields.insert(
                    "stream_options".to_owned(),
                    serde_json::json!({"include_usage": true}),
                );
            }
        }
        Ok(Outgoing {
            body: written.body.to_string().into(),
            dropped: written.dropped,
            drop_usage: self.ingress == Format::Chat && !self.head.include_usage,
            is_shown,
        })
    }

    fn options(&self) -> WriteOptions {
        WriteOptions {
            max_tokens_if_absent: self.max_output_tokens.unwrap_or(4096),
            legacy_max_tokens: self.legacy_max_tokens,
            strict: self.strict,
        }
    }

    /// The longest answer to ask for, where the client names none.
    fn bound(&self) -> Option<u64> {
        let bounds = [self.parameters.max_output_tokens(), self.max_tokens];
        bounds.into_iter().flatten().min()
    }

    /// Changes named fields alone.
    fn splice(&self, body: &Bytes) -> Result<Outgoing, TranslateError> {
        let mut dropped = Vec::new();
        let mut more = Vec::new();
        if !self.parameters.is_empty() {
            let (fields, left) = self.parameters.fields(self.wire, &self.options());
            dropped = left;
            let unsupported = self.preset.quirks.unsupported;
            for field in fields {
                if self.wire == Format::Chat && unsupported.contains(&field.name.as_str()) {
                    dropped.push(field.name);
                } else {
                    more.extend(place_if_absent(body, field)?);
                }
            }
        }
        if let (None, Some(most)) = (self.head.max_tokens, self.bound()) {
            let (container, name) = match self.ingress {
                Format::Chat if self.legacy_max_tokens => (None, "max_tokens"),
                Format::Chat => (None, "max_completion_tokens"),
                Format::Responses => (None, "max_output_tokens"),
                Format::GenerateContent => (Some("generationConfig"), "maxOutputTokens"),
                Format::Converse => (Some("inferenceConfig"), "maxTokens"),
                Format::Messages | Format::Cohere => (None, "max_tokens"),
            };
            let field = Field {
                container: container.map(str::to_owned),
                name: name.to_owned(),
                value: most.into(),
            };
            more.push(place(body, field)?);
        }
        let is_renamed = self.ingress != Format::GenerateContent && self.model != self.head.model;
        let mut out = if is_renamed {
            with_model_at(body, self.head, self.model)
        } else {
            None
        };
        let has_name = !is_renamed || out.is_some();
        let mut set = |path: &[&str], value: &str| -> Result<(), TranslateError> {
            let changed = splice::set(out.as_deref().unwrap_or(body), path, value)?;
            out = Some(changed);
            Ok(())
        };
        if !has_name {
            set(&["model"], &Value::from(self.model).to_string())?;
        }
        for (path, value) in &more {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            set(&path, &value.to_string())?;
        }
        // A provider of the older field may not heed the newer, and nothing would bound the answer.
        if let (Some(given), true, Format::Chat) =
            (self.head.max_tokens, self.legacy_max_tokens, self.ingress)
            && self.max_tokens.is_some()
            && splice::find(body, &["max_tokens"])?.is_empty()
        {
            set(&["max_tokens"], &given.to_string())?;
        }
        let mut drop_usage = false;
        let is_chat_stream = self.ingress == Format::Chat && self.head.stream;
        if is_chat_stream && !self.head.include_usage && self.preset.quirks.include_usage {
            set(&["stream_options", "include_usage"], "true")?;
            drop_usage = true;
        }
        Ok(Outgoing {
            body: out.map_or_else(|| body.clone(), Bytes::from),
            dropped,
            drop_usage,
            is_shown: false,
        })
    }
}

/// Puts a parameter into a body that says nothing of it.
fn put_if_absent(body: &mut Map<String, Value>, field: Field) {
    let body = match field.container {
        None => body,
        Some(container) => {
            let held = body.entry(container).or_insert_with(|| Map::new().into());
            match held {
                Value::Object(held) => held,
                _ => return,
            }
        }
    };
    body.entry(field.name).or_insert(field.value);
}

/// Where a parameter belongs in a client's bytes, unless they say something of it. Google takes its names
/// in `snake_case` too.
fn place_if_absent(body: &Bytes, field: Field) -> Result<Option<(Vec<String>, Value)>, splice::SpliceError> {
    let is_there = |path: &[&str]| splice::find(body, path).map(|found| !found.is_empty());
    let Some(container) = &field.container else {
        let is_said = is_there(&[&field.name])?;
        return Ok((!is_said).then(|| (vec![field.name], field.value)));
    };
    for outer in [container, &snake(container)] {
        for inner in [&field.name, &snake(&field.name)] {
            if is_there(&[outer, inner])? {
                return Ok(None);
            }
        }
    }
    place(body, field).map(Some)
}

/// Where it belongs, whatever they say.
fn place(body: &Bytes, field: Field) -> Result<(Vec<String>, Value), splice::SpliceError> {
    let Some(container) = field.container else {
        return Ok((vec![field.name], field.value));
    };
    let other = snake(&container);
    let is_other = !splice::find(body, &[&other])?.is_empty();
    let container = if is_other { other } else { container };
    Ok((vec![container, field.name], field.value))
}

fn snake(camel: &str) -> String {
    let mut out = String::with_capacity(camel.len() + 4);
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

/// The body with another model's name, where the place of the name is known; else it has to be looked for.
fn with_model_at(body: &[u8], head: &Head, model: &str) -> Option<Vec<u8>> {
    let is_plain = |text: &str| {
        text.bytes()
            .all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\')
    };
    let place = head.model_at.clone()?;
    // The body may have been changed since the place was found.
    let found = body.get(place.clone())?;
    let is_there = found
        .strip_prefix(b"\"")
        .and_then(|text| text.strip_suffix(b"\""))
        == Some(head.model.as_bytes());
    if !is_there || !is_plain(model) {
        return None;
    }
    let mut out = Vec::with_capacity(body.len() - found.len() + model.len() + 2);
    out.extend_from_slice(&body[..place.start]);
    out.push(b'"');
    out.extend_from_slice(model.as_bytes());
    out.push(b'"');
    out.extend_from_slice(&body[place.end..]);
    Some(out)
}

/// Reads the client's request whole.
///
/// # Errors
/// The field at fault.
pub(super) fn read_request(ingress: Format, body: &[u8], head: &Head) -> Result<Request, ConvertError> {
    let value = serde_json::from_slice(body).map_err(|_| ConvertError::Invalid {
        field: String::new(),
        expected: "a JSON object",
    })?;
    let path = PathFacts {
        model: Some(head.model.clone()),
        stream: head.stream,
    };
    convert::read_request(ingress, value, &path)
}

/// The body with another model's name, where it names one.
///
/// # Errors
/// It is not JSON.
pub(super) fn with_model(body: &Bytes, asked: &str, model: &str) -> Result<Bytes, splice::SpliceError> {
    if asked == model || splice::find(body, &["model"])?.is_empty() {
        return Ok(body.clone());
    }
    splice::set(body, &["model"], &Value::from(model).to_string()).map(Bytes::from)
}
