//! Parameters that an operator puts into requests: named as in Chat, and converted for every format.
//!
//! A name that Chat does not have is a provider's own and goes into the request as it is.

use crate::canonical::{ConvertError, Request, Written};
use crate::chat;
use crate::convert::{WriteOptions, write_request};
use crate::format::Format;
use serde_json::{Map, Value, json};

/// What only the client, or the gateway, says.
const NOT_HERE: [&str; 5] = ["model", "messages", "stream", "stream_options", "n"];
/// What every format has words of its own for, or drops.
const KNOWN: [&str; 14] = [
    "temperature",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "stop",
    "response_format",
    "reasoning_effort",
    "logprobs",
    "top_logprobs",
    "user",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
];
/// Both bound the answer.
const MAX_TOKENS: [&str; 2] = ["max_tokens", "max_completion_tokens"];
/// Objects that only hold parameters: one of them is not in the way of another.
const CONTAINERS: [&str; 2] = ["generationConfig", "inferenceConfig"];

/// The parameters, checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters {
    known: Map<String, Value>,
    /// Not of Chat, but of most others.
    top_k: Option<u64>,
    max_output_tokens: Option<u64>,
    /// Of a provider's own.
    raw: Map<String, Value>,
}

/// A field for a body, with the object that holds it, if one does.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// `generationConfig` or `inferenceConfig`.
    pub container: Option<String>,
    /// Its name.
    pub name: String,
    /// What it says.
    pub value: Value,
}

impl Parameters {
    /// Checks the fields that Chat knows.
    ///
    /// # Errors
    /// [`ConvertError::Invalid`] names the first field that is of the wrong type, or not to be said here.
    pub fn read(fields: &Map<String, Value>) -> Result<Self, ConvertError> {
        if let Some(name) = NOT_HERE.iter().find(|name| fields.contains_key(**name)) {
            return Err(ConvertError::Invalid {
                field: (*name).to_owned(),
                expected: "left out: it is no parameter, but the caller's to say",
            });
        }
        let mut parameters = Self::default();
        let mut bounds = Map::new();
        for (name, value) in fields {
            let place = match name.as_str() {
                "top_k" => {
                    let invalid = || ConvertError::Invalid {
                        field: "top_k".to_owned(),
                        expected: "a whole number, not negative",
                    };
                    parameters.top_k = Some(value.as_u64().ok_or_else(invalid)?);
                    continue;
                }
                name if MAX_TOKENS.contains(&name) => &mut bounds,
                name if KNOWN.contains(&name) => &mut parameters.known,
                _ => &mut parameters.raw,
            };
            place.insert(name.clone(), value.clone());
        }
        read(&parameters.known)?;
        parameters.max_output_tokens = read(&bounds)?.max_output_tokens;
        Ok(parameters)
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The longest answer, in tokens.
    pub fn max_output_tokens(&self) -> Option<u64> {
        self.max_output_tokens
    }

    /// The fields of a body in `format`, but for the bound of the answer; and the names of those that it has
    /// no words for.
    pub fn fields(&self, format: Format, options: &WriteOptions) -> (Vec<Field>, Vec<String>) {
        let options = WriteOptions {
            strict: false,
            ..options.clone()
        };
        let write = |known: &Map<String, Value>, top_k| -> Result<Written, ConvertError> {
            let mut request = read(known)?;
            request.top_k = top_k;
            write_request(format, &request, &options)
        };
        let bare = write(&Map::new(), None).map_or(Value::Null, |written| written.body);
        let (mut fields, mut dropped) = (Vec::new(), Vec::new());
        let mut add = |written: Written| {
            dropped.extend(written.dropped);
            added(&bare, written.body, &mut fields);
        };
        // Chat has no word for it, but most providers of Chat other than OpenAI have this one.
        let top_k = self.top_k.filter(|_| format != Format::Chat);
        match write(&self.known, top_k) {
            Ok(written) => add(written),
            // One of them bears a meaning that the format cannot express: the others still can be.
            Err(_) => {
                for (name, value) in &self.known {
                    let alone = Map::from_iter([(name.clone(), value.clone())]);
                    match write(&alone, None) {
                        Ok(written) => add(written),
                        Err(_) => add(Written {
                            body: Value::Null,
                            dropped: vec![name.clone()],
                        }),
                    }
                }
                if let Ok(written) = write(&Map::new(), top_k) {
                    add(written);
                }
            }
        }
        if let (Some(top_k), Format::Chat) = (self.top_k, format) {
            fields.push(field(None, "top_k", top_k.into()));
        }
        for (name, value) in &self.raw {
            match value {
                Value::Object(inner) if CONTAINERS.contains(&name.as_str()) => {
                    let inner = inner.iter();
                    fields.extend(inner.map(|(key, value)| field(Some(name), key, value.clone())));
                }
                _ => fields.push(field(None, name, value.clone())),
            }
        }
        (fields, dropped)
    }
}

fn field(container: Option<&str>, name: &str, value: Value) -> Field {
    Field {
        container: container.map(str::to_owned),
        name: name.to_owned(),
        value,
    }
}

/// A request with these fields and next to nothing else.
fn read(known: &Map<String, Value>) -> Result<Request, ConvertError> {
    let mut body = known.clone();
    body.insert("model".to_owned(), "m".into());
    body.insert("messages".to_owned(), json!([{"role": "user", "content": "m"}]));
    chat::read_request(Value::Object(body))
}

/// What a body has, and the bare one has not.
fn added(bare: &Value, body: Value, fields: &mut Vec<Field>) {
    let Value::Object(body) = body else { return };
    for (name, value) in body {
        let before = &bare[&name];
        match value {
            Value::Object(inner) if CONTAINERS.contains(&name.as_str()) => {
                let inner = inner.into_iter().filter(|(key, value)| before[key] != *value);
                fields.extend(inner.map(|(key, value)| field(Some(&name), &key, value)));
            }
            value if value != *before => fields.push(field(None, &name, value)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(fields: Value) -> Result<Parameters, ConvertError> {
        let Value::Object(fields) = fields else {
            panic!("no object")
        };
        Parameters::read(&fields)
    }

    #[test]
    fn every_format_has_its_own_words() {
        let check = |format: Format, given: Value, expected: Value, dropped: &[&str]| {
            let parameters = parameters(given.clone()).unwrap();
            let (fields, left) = parameters.fields(format, &WriteOptions::default());
            let mut body = json!({});
            for field in fields {
                match field.container {
                    Some(container) => body[container][field.name] = field.value,
                    None => body[field.name] = field.value,
                }
            }
            assert_eq!(body, expected, "{format:?} {given}");
            assert_eq!(left, dropped, "{format:?} {given}");
        };
        let sampled = || json!({"temperature": 0.2, "top_p": 0.9, "stop": ["END"], "seed": 7, "top_k": 5});
        check(Format::Chat, sampled(), sampled(), &[]);
        check(
            Format::Messages,
            sampled(),
            json!({"temperature": 0.2, "top_p": 0.9, "stop_sequences": ["END"], "top_k": 5}),
            &["seed"],
        );
        check(
            Format::GenerateContent,
            sampled(),
            json!({"generationConfig": {"temperature": 0.2, "topP": 0.9, "stopSequences": ["END"], "seed": 7, "topK": 5}}),
            &[],
        );
        check(
            Format::Converse,
            json!({"temperature": 0.2, "top_p": 0.9, "stop": "END", "seed": 7}),
            json!({"inferenceConfig": {"temperature": 0.2, "topP": 0.9, "stopSequences": ["END"]}}),
            &["seed"],
        );
        check(
            Format::Cohere,
            sampled(),
            json!({"temperature": 0.2, "p": 0.9, "stop_sequences": ["END"], "seed": 7, "k": 5}),
            &[],
        );
        check(
            Format::Responses,
            json!({"temperature": 0.2, "top_p": 0.9, "reasoning_effort": "low"}),
            json!({"temperature": 0.2, "top_p": 0.9, "reasoning": {"effort": "low"}}),
            &[],
        );
        // A provider's own names, and what Anthropic has no words for.
        check(
            Format::Messages,
            json!({"service_tier": "auto", "logprobs": true, "temperature": 1}),
            json!({"service_tier": "auto", "temperature": 1}),
            &["logprobs"],
        );
        check(
            Format::GenerateContent,
            json!({"generationConfig": {"mediaResolution": "LOW"}, "temperature": 1}),
            json!({"generationConfig": {"temperature": 1, "mediaResolution": "LOW"}}),
            &[],
        );
        check(Format::Messages, json!({"max_tokens": 9}), json!({}), &[]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |given: Value, field: &str| match parameters(given.clone()) {
            Err(ConvertError::Invalid { field: found, .. }) => assert_eq!(found, field, "{given}"),
            other => panic!("{given}: {other:?}"),
        };
        check(json!({"temperature": "hot"}), "temperature");
        check(json!({"stop": 7}), "stop");
        check(json!({"top_k": -1}), "top_k");
        check(json!({"max_tokens": "many"}), "max_tokens");
        check(json!({"stream": true}), "stream");
        check(json!({"n": 2}), "n");
        check(json!({"model": "other"}), "model");
        let of = |given: Value| parameters(given).unwrap().max_output_tokens();
        assert_eq!(of(json!({"max_tokens": 9})), Some(9));
        assert_eq!(of(json!({"max_completion_tokens": 8})), Some(8));
        assert!(parameters(json!({})).unwrap().is_empty());
    }
}
