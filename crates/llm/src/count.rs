//! Counting the tokens of a prompt before it is sent: Anthropic's `/v1/messages/count_tokens`, Gemini's
//! `:countTokens`, OpenAI's `/v1/responses/input_tokens` and Bedrock's `/model/ID/count-tokens`. Each
//! takes the request of its format, or the part of it that has tokens.

use crate::canonical::{ConvertError, Request, Written};
use crate::convert::{self, PathFacts, WriteOptions};
use crate::format::Format;
use serde_json::{Map, Value, json};

/// The fields of a request that the endpoint of its format takes.
fn counted(format: Format) -> &'static [&'static str] {
    match format {
        Format::Messages => &[
            "model",
            "messages",
            "system",
            "tools",
            "tool_choice",
            "thinking",
            "output_config",
            "cache_control",
            "context_management",
            "mcp_servers",
        ],
        Format::Responses => &[
            "model",
            "input",
            "instructions",
            "tools",
            "tool_choice",
            "parallel_tool_calls",
            "text",
            "reasoning",
            "truncation",
            "conversation",
            "previous_response_id",
        ],
        Format::Converse => &["messages", "system", "toolConfig", "additionalModelRequestFields"],
        // Gemini takes the whole request; the others have no such endpoint.
        Format::GenerateContent | Format::Chat | Format::Cohere => &[],
    }
}

fn refuse(format: Format) -> ConvertError {
    ConvertError::Inexpressible {
        field: "counting tokens".to_owned(),
        format,
    }
}

/// Reads a request to count tokens, as the request that it would count for.
///
/// # Errors
/// [`ConvertError::Invalid`] names the field; [`ConvertError::Inexpressible`] where the format has no
/// such endpoint.
pub fn read_count_request(format: Format, body: Value, path: &PathFacts) -> Result<Request, ConvertError> {
    let Value::Object(mut body) = body else {
        return Err(ConvertError::Invalid {
            field: "body".to_owned(),
            expected: "a JSON object",
        });
    };
    let mut path = path.clone();
    match format {
        Format::Messages => {
            // A request must have a limit, a count need not.
            body.entry("max_tokens").or_insert_with(|| 1.into());
            let mut request = convert::read_request(format, body.into(), &path)?;
            request.max_output_tokens = None;
            Ok(request)
        }
        Format::GenerateContent => {
            let inner = match body.shift_remove("generateContentRequest") {
                Some(Value::Object(mut inner)) => {
                    // Named in the path too, where it has no prefix.
                    inner.shift_remove("model");
                    inner
                }
                _ => body,
            };
            convert::read_request(format, inner.into(), &path)
        }
        Format::Converse => {
            path.stream = false;
            let inner = body
                .get_mut("input")
                .and_then(|input| input.get_mut("converse"))
                .map(Value::take);
            let inner = inner.ok_or_else(|| ConvertError::Invalid {
                field: "input.converse".to_owned(),
                expected: "an object; counting for InvokeModel is not converted",
            })?;
            convert::read_request(format, inner, &path)
        }
        Format::Responses => convert::read_request(format, body.into(), &path),
        Format::Chat | Format::Cohere => Err(refuse(format)),
    }
}

/// Writes a request to count the tokens of a request.
///
/// # Errors
/// As of [`convert::write_request`]; [`ConvertError::Inexpressible`] where the format has no such endpoint.
pub fn write_count_request(
    format: Format,
    request: &Request,
    options: &WriteOptions,
) -> Result<Written, ConvertError> {
    if matches!(format, Format::Chat | Format::Cohere) {
        return Err(refuse(format));
    }
    let mut written = convert::write_request(format, request, options)?;
    let Value::Object(mut body) = written.body else {
        return Err(refuse(format));
    };
    written.body = match format {
        Format::GenerateContent => {
            // Inside, the model is named in full, and must be.
            let name = request.model.strip_prefix("models/").unwrap_or(&request.model);
            let mut inner = Map::new();
            inner.insert("model".to_owned(), format!("models/{name}").into());
            inner.extend(body);
            json!({"generateContentRequest": inner})
        }
        _ => {
            body.retain(|key, _| counted(format).contains(&key.as_str()));
            if format == Format::Converse {
                json!({"input": {"converse": body}})
            } else {
                body.into()
            }
        }
    };
    Ok(written)
}

/// Reads a count of tokens.
///
/// # Errors
/// [`ConvertError::Invalid`] if the answer has none.
pub fn read_count_answer(format: Format, body: &Value) -> Result<u64, ConvertError> {
    let field = field(format).ok_or_else(|| refuse(format))?;
    body[field].as_u64().ok_or_else(|| ConvertError::Invalid {
        field: field.to_owned(),
        expected: "a whole number, not negative",
    })
}

/// Writes a count of tokens.
///
/// # Errors
/// [`ConvertError::Inexpressible`] where the format has no such endpoint.
pub fn write_count_answer(format: Format, n_tokens: u64) -> Result<Value, ConvertError> {
    let field = field(format).ok_or_else(|| refuse(format))?;
    let mut body = Map::new();
    if format == Format::Responses {
        body.insert("object".to_owned(), "response.input_tokens".into());
    }
    body.insert(field.to_owned(), n_tokens.into());
    Ok(body.into())
}

fn field(format: Format) -> Option<&'static str> {
    match format {
        Format::Messages | Format::Responses => Some("input_tokens"),
        Format::GenerateContent => Some("totalTokens"),
        Format::Converse => Some("inputTokens"),
        Format::Chat | Format::Cohere => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_of_messages() {
        let body = json!({"model": "m", "system": "Be brief.", "messages": [{"role": "user", "content": "Hi"}],
            "tools": [{"name": "f", "input_schema": {"type": "object"}}]});
        let request = read_count_request(Format::Messages, body, &PathFacts::default()).unwrap();
        assert_eq!(request.max_output_tokens, None);
        let written = write_count_request(Format::Messages, &request, &WriteOptions::default()).unwrap();
        assert_eq!(
            written.body,
            json!({"model": "m", "system": [{"type": "text", "text": "Be brief."}],
                "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
                "tools": [{"name": "f", "input_schema": {"type": "object"}}]})
        );
    }

    #[test]
    fn counts() {
        for format in Format::ALL {
            match write_count_answer(format, 7) {
                Ok(body) => assert_eq!(read_count_answer(format, &body), Ok(7), "{format:?}"),
                Err(_) => assert!(matches!(format, Format::Chat | Format::Cohere)),
            }
        }
        let answer = write_count_answer(Format::Responses, 7).unwrap();
        assert_eq!(
            answer,
            json!({"object": "response.input_tokens", "input_tokens": 7})
        );
        let bad = read_count_answer(Format::Messages, &json!({"input_tokens": -1})).unwrap_err();
        assert_eq!(
            bad.to_string(),
            "field `input_tokens` must be a whole number, not negative"
        );
    }

    #[test]
    fn refusals() {
        let path = PathFacts::default();
        for (format, body, words) in [
            (
                Format::Chat,
                json!({}),
                "`counting tokens` cannot be expressed in the format of this model's provider (Chat)",
            ),
            (
                Format::Converse,
                json!({"input": {"invokeModel": {}}}),
                "field `input.converse` must be an object; counting for InvokeModel is not converted",
            ),
            (Format::Messages, json!([]), "field `body` must be a JSON object"),
        ] {
            let error = read_count_request(format, body, &path).unwrap_err();
            assert_eq!(error.to_string(), words);
        }
    }
}
