//! Google generateContent and streamGenerateContent, of Gemini and Vertex.
//!
//! Source: the reference of `models.generateContent` (`Content`, `GenerationConfig`, `FunctionDeclaration`,
//! `GenerateContentResponse`) of the Gemini API and of Vertex AI.
//!
//! What is read and written again in this format may be spelled in another way, never mean another thing:
//! * fields in `snake_case`, which Google's JSON accepts too, become `camelCase`;
//! * schemas in Google's dialect of OpenAPI (`parameters`, `responseSchema`) become JSON Schema
//!   (`parametersJsonSchema`, `responseJsonSchema`), which loses nothing;
//! * the function declarations of neighbouring tools are in one tool; a turn without role is the user's.

mod answer;
mod parts;
mod request;
mod schema;
mod stream;

pub use answer::{read_answer, write_answer};
pub use request::{read_request, write_request};
pub use stream::{StreamReader, StreamWriter};

use crate::canonical::{ConvertError, Fields};
use serde_json::{Map, Value};

/// An id that Weir made for a call that had none. It begins so that it is recognised when the client
/// sends it back, and left out again: the provider then matches results by name and order.
const MADE_ID: &str = "weir_";

/// The fields of an object, all in `camelCase`. Inner objects are left as they are.
fn fields(value: Value, path: &str) -> Result<Fields, ConvertError> {
    let mut fields = Fields::new(value, path)?;
    if fields.rest.keys().any(|key| key.contains('_')) {
        let rest = std::mem::take(&mut fields.rest);
        fields.rest = rest
            .into_iter()
            .map(|(key, value)| (camel(&key), value))
            .collect();
    }
    Ok(fields)
}

/// An inner object, like [`Fields::object`].
fn object(fields: &mut Fields, key: &str) -> Result<Option<Fields>, ConvertError> {
    let path = fields.at(key);
    fields
        .take(key)
        .map(|value| self::fields(value, &path))
        .transpose()
}

/// A whole number: JSON of protocol buffers may write it as `40.0` or as a string.
fn whole(fields: &mut Fields, key: &str) -> Result<Option<u64>, ConvertError> {
    integer(fields, key)?
        .map(|number| u64::try_from(number).map_err(|_| fields.invalid(key, "a whole number, not negative")))
        .transpose()
}

fn integer(fields: &mut Fields, key: &str) -> Result<Option<i64>, ConvertError> {
    let Some(value) = fields.take(key) else {
        return Ok(None);
    };
    // Beyond 2^53 a float is no longer exact, and no field here is so large.
    let from_float = |number: f64| (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64);
    let number = value
        .as_i64()
        .or_else(|| value.as_f64().and_then(from_float))
        .or_else(|| value.as_str()?.parse().ok());
    number
        .map(Some)
        .ok_or_else(|| fields.invalid(key, "a whole number"))
}

/// `camelCase` of a name in `snake_case`. A leading underscore is no separator.
fn camel(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    let mut after_underscore = false;
    for letter in key.chars() {
        if letter == '_' && !out.is_empty() {
            after_underscore = true;
        } else if std::mem::take(&mut after_underscore) {
            out.extend(letter.to_uppercase());
        } else {
            out.push(letter);
        }
    }
    out
}

/// An object of one field.
fn one(key: &str, value: impl Into<Value>) -> Map<String, Value> {
    Map::from_iter([(key.to_owned(), value.into())])
}
