//! The few fields of a request that the gateway reads itself, whatever its format. The rest is left
//! unread when it leaves in the format it came in, but for being checked to be JSON.

use hyper::body::Bytes;
use llm::format::Format;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::ops::Range;

/// What the gateway needs to know of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// The model asked for.
    pub(super) model: String,
    /// Where its value stands in the body, quotes included, if the body names it and without escapes.
    pub(super) model_at: Option<Range<usize>>,
    /// A stream is asked for.
    pub(super) stream: bool,
    /// The most tokens of the answer, where the request says.
    pub(super) max_tokens: Option<u64>,
    /// Chat: `stream_options.include_usage`.
    pub(super) include_usage: bool,
    /// Several answers are asked for.
    pub(super) n: u64,
    /// The end user, as the client names it.
    pub(super) user: Option<String>,
}

/// Why a body is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct BadBody {
    /// One sentence.
    pub(super) message: String,
    /// The field at fault.
    pub(super) param: Option<String>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    model: Option<&'a RawValue>,
    #[serde(borrow, default)]
    stream: Option<&'a RawValue>,
    #[serde(borrow, default)]
    max_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    max_completion_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    max_output_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    stream_options: Option<&'a RawValue>,
    #[serde(borrow, default)]
    n: Option<&'a RawValue>,
    #[serde(borrow, default)]
    user: Option<&'a RawValue>,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "generationConfig", alias = "generation_config")]
    generation_config: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Generation {
    #[serde(default, rename = "maxOutputTokens", alias = "max_output_tokens")]
    max_output_tokens: Option<u64>,
    #[serde(default, rename = "candidateCount", alias = "candidate_count")]
    candidate_count: Option<u64>,
}

/// Reads the head of a request; `path_model` is the model that the path names.
///
/// # Errors
/// It is not JSON, not an object, repeats a field that decides, or one is of the wrong type.
pub(super) fn read(
    format: Format,
    body: &[u8],
    path_model: Option<&str>,
    path_stream: bool,
) -> Result<Head, BadBody> {
    // serde does not look into the texts that it skips.
    let body = std::str::from_utf8(body).map_err(|error| BadBody {
        message: format!("the body is not UTF-8 after {} bytes", error.valid_up_to()),
        param: None,
    })?;
    // serde would take an array for an object whose fields it lists.
    if body.trim_ascii_start().starts_with(|first: char| first != '{')
        && serde_json::from_str::<IgnoredAny>(body).is_ok()
    {
        return Err(BadBody {
            message: "the body must be a JSON object".to_owned(),
            param: None,
        });
    }
    let fields: Fields<'_> = serde_json::from_str(body).map_err(|error| describe(body, &error))?;
    let mut head = Head {
        stream: path_stream,
        n: 1,
        ..Head::default()
    };
    head.model = match path_model {
        Some(model) => model.to_owned(),
        None => {
            let model = text(fields.model, "model")?.filter(|model| !model.is_empty());
            let model = model.ok_or_else(|| bad("`model` is missing: name the model to ask", "model"))?;
            if matches!(model, Cow::Borrowed(_)) {
                head.model_at = place_in(body, fields.model);
            }
            model.into_owned()
        }
    };
    match format {
        Format::GenerateContent => {
            let generation = fields.generation_config.map(RawValue::get);
            if let Some(generation) = generation.filter(|text| *text != "null") {
                let generation: Generation = serde_json::from_str(generation).map_err(|error| {
                    bad(
                        &format!("`generationConfig` cannot be read: {error}"),
                        "generationConfig",
                    )
                })?;
                head.max_tokens = generation.max_output_tokens;
                head.n = generation.candidate_count.unwrap_or(1);
            }
        }
        Format::Chat => {
            head.stream = flag(fields.stream, "stream")?;
            // Providers heed one or the other; `None` is the least.
            head.max_tokens = number(fields.max_completion_tokens, "max_completion_tokens")?
                .max(number(fields.max_tokens, "max_tokens")?);
            head.n = number(fields.n, "n")?.unwrap_or(1);
            head.user = text(fields.user, "user")?.map(Cow::into_owned);
            head.include_usage =
                inner(fields.stream_options, "include_usage").is_some_and(|text| text == "true");
        }
        Format::Responses => {
            head.stream = flag(fields.stream, "stream")?;
            head.max_tokens = number(fields.max_output_tokens, "max_output_tokens")?;
            head.user = text(fields.user, "user")?.map(Cow::into_owned);
        }
        Format::Messages => {
            head.stream = flag(fields.stream, "stream")?;
            head.max_tokens = number(fields.max_tokens, "max_tokens")?;
            head.user = inner(fields.metadata, "user_id").and_then(|text| serde_json::from_str(&text).ok());
        }
        Format::Converse | Format::Cohere => {
            head.stream = flag(fields.stream, "stream")?;
            head.max_tokens = number(fields.max_tokens, "max_tokens")?;
        }
    }
    Ok(head)
}

/// Finds the model in a body of `multipart/form-data` (RFC 7578), which audio and images come in.
///
/// # Errors
/// It names none.
pub(super) fn read_form(body: &[u8]) -> Result<Head, BadBody> {
    const MODEL_MAX_BYTES: usize = 512;
    let missing = || bad("the form has no field `model`: name the model to ask", "model");
    let place = model_in_form(body).ok_or_else(missing)?;
    let model = std::str::from_utf8(&body[place]).map_err(|_| missing())?.trim();
    if model.is_empty() || model.len() > MODEL_MAX_BYTES {
        return Err(missing());
    }
    Ok(Head {
        model: model.to_owned(),
        n: 1,
        ..Head::default()
    })
}

/// The form with another model's name.
pub(super) fn form_with_model(body: &Bytes, model: &str) -> Bytes {
    match model_in_form(body) {
        Some(place) if &body[place.clone()] != model.as_bytes() => {
            [&body[..place.start], model.as_bytes(), &body[place.end..]]
                .concat()
                .into()
        }
        _ => body.clone(),
    }
}

/// Where the value of the field `model` is.
fn model_in_form(body: &[u8]) -> Option<Range<usize>> {
    let field = memchr::memmem::find(body, b"name=\"model\"")?;
    let start = field + memchr::memmem::find(&body[field..], b"\r\n\r\n")? + 4;
    let end = start + memchr::memmem::find(&body[start..], b"\r\n--")?;
    Some(start..end)
}

/// Where in the body a value stands that was read from it without a copy.
fn place_in(body: &str, raw: Option<&RawValue>) -> Option<Range<usize>> {
    let raw = raw?.get();
    let start = (raw.as_ptr() as usize).checked_sub(body.as_ptr() as usize)?;
    let place = start..start.checked_add(raw.len())?;
    (body.get(place.clone())? == raw).then_some(place)
}

fn bad(message: &str, param: &str) -> BadBody {
    BadBody {
        message: message.to_owned(),
        param: Some(param.to_owned()),
    }
}

fn describe(body: &str, error: &serde_json::Error) -> BadBody {
    let message = if body.is_empty() {
        "the body is empty: expected a JSON object".to_owned()
    } else if serde_json::from_str::<IgnoredAny>(body).is_ok() {
        // JSON, and so the fault is a repeated field or that it is no object.
        format!("the body must be a JSON object that names each field once: {error}")
    } else {
        format!("the body is not JSON: {error}")
    };
    BadBody { message, param: None }
}

fn given(raw: Option<&RawValue>) -> Option<&str> {
    raw.map(RawValue::get).filter(|text| *text != "null")
}

fn text<'a>(raw: Option<&'a RawValue>, name: &str) -> Result<Option<Cow<'a, str>>, BadBody> {
    let Some(raw) = given(raw) else { return Ok(None) };
    let plain = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"'));
    if let Some(plain) = plain.filter(|plain| !plain.contains('\\')) {
        return Ok(Some(Cow::Borrowed(plain)));
    }
    serde_json::from_str::<String>(raw)
        .map(|text| Some(Cow::Owned(text)))
        .map_err(|_| bad(&format!("`{name}` must be a string"), name))
}

fn flag(raw: Option<&RawValue>, name: &str) -> Result<bool, BadBody> {
    match given(raw) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(bad(&format!("`{name}` must be true or false"), name)),
    }
}

fn number(raw: Option<&RawValue>, name: &str) -> Result<Option<u64>, BadBody> {
    let Some(raw) = given(raw) else { return Ok(None) };
    raw.parse()
        .map(Some)
        .map_err(|_| bad(&format!("`{name}` must be a whole number, not negative"), name))
}

/// The JSON of a field of an object; `None` if there is none. What is no object is the provider's to refuse.
fn inner(raw: Option<&RawValue>, name: &str) -> Option<String> {
    let object: std::collections::HashMap<Cow<'_, str>, &RawValue> =
        serde_json::from_str(given(raw)?).ok()?;
    object.get(name).map(|value| value.get().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: Format, body: &str, expected: Result<(&str, bool, Option<u64>), &str>) {
        let path = (format == Format::GenerateContent).then_some("g");
        match (read(format, body.as_bytes(), path, false), expected) {
            (Ok(head), Ok(expected)) => {
                assert_eq!(
                    (head.model.as_str(), head.stream, head.max_tokens),
                    expected,
                    "{body}"
                );
            }
            (Err(error), Err(part)) => assert!(error.message.contains(part), "{body}: {error}"),
            (got, _) => panic!("{body}: {got:?}"),
        }
    }

    #[test]
    fn heads() {
        check(
            Format::Chat,
            r#"{"messages":[{"model":"no"}],"model":"a\u0062","stream":true,"max_tokens":5}"#,
            Ok(("ab", true, Some(5))),
        );
        check(
            Format::Chat,
            r#"{"model":"m","max_completion_tokens":7,"max_tokens":5,"stream":null}"#,
            Ok(("m", false, Some(7))),
        );
        check(
            Format::GenerateContent,
            r#"{"generationConfig":{"maxOutputTokens":9}}"#,
            Ok(("g", false, Some(9))),
        );
        check(
            Format::Messages,
            r#"{"model":"m","max_tokens":1}"#,
            Ok(("m", false, Some(1))),
        );
        for (body, part) in [
            ("", "empty"),
            ("{", "not JSON"),
            ("[]", "JSON object"),
            ("\"x\"", "JSON object"),
            (r#"{"model":"a","model":"b"}"#, "each field once"),
            (r#"{"messages":[]}"#, "`model` is missing"),
            (r#"{"model":""}"#, "`model` is missing"),
            (r#"{"model":7}"#, "`model` must be a string"),
            (
                r#"{"model":"m","stream":"yes"}"#,
                "`stream` must be true or false",
            ),
            (
                r#"{"model":"m","max_tokens":-1}"#,
                "`max_tokens` must be a whole number",
            ),
            (r#"{"model":"m"} x"#, "not JSON"),
        ] {
            check(Format::Chat, body, Err(part));
        }
        let error = read(Format::Chat, b"{\"model\":\"\xff\"}", None, false).unwrap_err();
        assert!(error.message.contains("not UTF-8 after 10 bytes"), "{error}");
    }

    #[test]
    fn the_model_has_a_place() {
        let check = |body: &str, expected: Option<&str>| {
            let head = read(Format::Chat, body.as_bytes(), None, false).unwrap();
            assert_eq!(head.model_at.map(|place| &body[place]), expected, "{body}");
        };
        check(r#"{"messages":["model"], "model" : "a/b" }"#, Some("\"a/b\""));
        check(r#"{"model":"\u0061"}"#, None);
        let head = read(Format::GenerateContent, b"{}", Some("g"), false).unwrap();
        assert_eq!(head.model_at, None);
    }

    #[test]
    fn usage_is_asked_for() {
        let head = read(
            Format::Chat,
            br#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
            None,
            false,
        );
        assert!(head.unwrap().include_usage);
    }
}
