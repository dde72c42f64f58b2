//! What providers of Chat do differently, in a request that is written for one of them. A request that
//! came in Chat goes out as it came: its client knows whom it talks to.

use llm::canonical::ConvertError;
use llm::format::Format;
use llm::presets::Quirks;
use serde_json::{Map, Value, json};

/// Changes a request to what the provider takes; what is left out is named in `dropped`.
///
/// # Errors
/// The provider takes no tools, and the request has some.
pub(super) fn apply(
    fields: &mut Map<String, Value>,
    quirks: &Quirks,
    max_tokens: u64,
    dropped: &mut Vec<String>,
) -> Result<(), ConvertError> {
    let has_tools = fields
        .get("tools")
        .and_then(Value::as_array)
        .is_some_and(|tools| !tools.is_empty());
    if has_tools && !quirks.tools {
        return Err(ConvertError::Inexpressible {
            field: "tools".to_owned(),
            format: Format::Chat,
        });
    }
    if !quirks.developer_role {
        for message in messages(fields).into_iter().flatten() {
            if message["role"] == "developer" {
                message["role"] = "system".into();
            }
        }
    }
    if !quirks.parallel_tool_calls && fields.remove("parallel_tool_calls").is_some() {
        dropped.push("parallel_tool_calls".to_owned());
    }
    let takes_format = !quirks.unsupported.contains(&"response_format");
    if !(quirks.json_schema && takes_format)
        && let Some(schema) = fields.get("response_format").and_then(schema)
    {
        // The schema is told in words; the provider sees to it, at most, that it is JSON.
        let words = format!("Answer with JSON alone, of this JSON Schema: {schema}");
        if let Some(messages) = messages(fields) {
            messages.insert(0, json!({"role": "system", "content": words}));
        }
        fields.insert("response_format".to_owned(), json!({"type": "json_object"}));
        if takes_format {
            dropped.push("response_format.json_schema".to_owned());
        }
    }
    for name in quirks.unsupported {
        if fields.remove(*name).is_some() {
            dropped.push((*name).to_owned());
        }
    }
    let has_bound = ["max_tokens", "max_completion_tokens"]
        .iter()
        .any(|name| fields.contains_key(*name));
    if quirks.needs_max_tokens && !has_bound {
        let name = if quirks.legacy_max_tokens {
            "max_tokens"
        } else {
            "max_completion_tokens"
        };
        fields.insert(name.to_owned(), max_tokens.into());
    }
    Ok(())
}

fn schema(format: &Value) -> Option<Value> {
    let schema = format.pointer("/json_schema/schema").cloned();
    schema.filter(|_| format["type"] == "json_schema")
}

fn messages(fields: &mut Map<String, Value>) -> Option<&mut Vec<Value>> {
    fields.get_mut("messages")?.as_array_mut()
}

#[cfg(test)]
mod tests {
    use super::*;
    use llm::presets::by_kind;

    #[test]
    fn requests_are_changed_to_what_is_taken() {
        let check = |kind: &str, sent: Value, expected: Result<(Value, &[&str]), &str>| {
            let quirks = by_kind(kind).unwrap().quirks;
            let Value::Object(mut fields) = sent else {
                panic!("no object")
            };
            let mut dropped = Vec::new();
            match (apply(&mut fields, &quirks, 99, &mut dropped), expected) {
                (Ok(()), Ok((body, names))) => {
                    assert_eq!(Value::Object(fields), body, "{kind}");
                    assert_eq!(dropped, names, "{kind}");
                }
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (got, _) => panic!("{kind}: {got:?} {fields:?}"),
            }
        };
        let developer =
            json!({"messages": [{"role": "developer", "content": "x"}], "parallel_tool_calls": false});
        check("openai", developer.clone(), Ok((developer.clone(), &[])));
        check(
            "deepseek",
            developer,
            Ok((
                json!({"messages": [{"role": "system", "content": "x"}]}),
                &["parallel_tool_calls"],
            )),
        );
        let shaped = json!({"messages": [], "seed": 1, "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}});
        let words = json!([{"role": "system", "content": "Answer with JSON alone, of this JSON Schema: {\"type\":\"object\"}"}]);
        check("openai", shaped.clone(), Ok((shaped.clone(), &[])));
        check(
            "deepseek",
            shaped.clone(),
            Ok((
                json!({"messages": words, "seed": 1, "response_format": {"type": "json_object"}}),
                &["response_format.json_schema"],
            )),
        );
        check(
            "minimax",
            shaped,
            Ok((json!({"messages": words}), &["response_format", "seed"])),
        );
        check(
            "perplexity",
            json!({"tools": [{"type": "function"}]}),
            Err("tools"),
        );
        check(
            "perplexity",
            json!({"tools": []}),
            Ok((json!({"tools": []}), &[])),
        );
    }
}
