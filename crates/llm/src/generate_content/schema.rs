//! Google's dialect of OpenAPI schemas (`Schema`), read into JSON Schema.
//!
//! Types are in capitals, `null` is a flag, and numbers that count are strings. JSON Schema has words for
//! all of it. The other way is not needed: every place that takes this dialect takes JSON Schema too, and
//! JSON Schema has words (`$ref`, `additionalProperties`, `oneOf`) that this dialect lacks.

use super::camel;
use serde_json::{Map, Value, json};

/// Counts that this dialect writes as strings.
const COUNTS: [&str; 6] = [
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "minProperties",
    "maxProperties",
];

/// Schemas nested deeper are left as they are: no real one is, and recursion must end.
const DEPTH_MAX: usize = 64;

/// JSON Schema of a schema in Google's dialect. What is JSON Schema already stays so.
pub(super) fn to_json_schema(schema: &Value) -> Value {
    convert(schema, 0)
}

fn convert(schema: &Value, depth: usize) -> Value {
    let Value::Object(fields) = schema else {
        return schema.clone();
    };
    if depth > DEPTH_MAX {
        return schema.clone();
    }
    let inner = |value: &Value| convert(value, depth + 1);
    let mut out = Map::new();
    let mut nullable = false;
    for (key, value) in fields {
        // `$defs`, `$ref` and the like have no other spelling.
        let key = if key.starts_with('$') {
            key.clone()
        } else {
            camel(key)
        };
        let value = match (key.as_str(), value) {
            ("type", Value::String(kind)) if kind == "TYPE_UNSPECIFIED" => continue,
            ("type", Value::String(kind)) => kind.to_ascii_lowercase().into(),
            ("nullable", Value::Bool(flag)) => {
                nullable = *flag;
                continue;
            }
            ("properties" | "$defs" | "defs" | "patternProperties", Value::Object(named)) => {
                let named = named.iter().map(|(name, schema)| (name.clone(), inner(schema)));
                Value::Object(named.collect())
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems", Value::Array(list)) => {
                list.iter().map(inner).collect()
            }
            ("items" | "additionalProperties" | "not", value @ Value::Object(_)) => inner(value),
            (key, Value::String(count)) if COUNTS.contains(&key) => {
                count.parse::<u64>().map_or_else(|_| value.clone(), Value::from)
            }
            (_, value) => value.clone(),
        };
        out.insert(key, value);
    }
    if nullable {
        or_null(out)
    } else {
        Value::Object(out)
    }
}

/// A schema that also allows `null`.
fn or_null(mut schema: Map<String, Value>) -> Value {
    if let Some(Value::Array(values)) = schema.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
    match schema.get_mut("type") {
        Some(kind) if kind.is_string() => *kind = json!([kind.take(), "null"]),
        Some(_) => {}
        None => match schema.get_mut("anyOf") {
            Some(Value::Array(list)) => list.push(json!({"type": "null"})),
            _ => return json!({"anyOf": [schema, {"type": "null"}]}),
        },
    }
    Value::Object(schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(dialect: &Value, expected: &Value) {
        let schema = to_json_schema(dialect);
        assert_eq!(&schema, expected);
        assert_eq!(&to_json_schema(&schema), expected, "read again");
    }

    #[test]
    fn dialect_becomes_json_schema() {
        check(
            &json!({"type": "OBJECT", "property_ordering": ["a"], "required": ["a"], "properties": {
                "a_b": {"type": "STRING", "nullable": true, "enum": ["x"], "min_length": "2"},
                "type": {"any_of": [{"type": "INTEGER"}, {"type": "ARRAY", "items": {"type": "BOOLEAN"}, "maxItems": "4"}]},
                "c": {"type": "TYPE_UNSPECIFIED", "nullable": true, "description": "d"},
                "e": {"anyOf": [{"type": "NUMBER"}], "nullable": true},
                "f": {"type": "STRING", "nullable": false},
            }}),
            &json!({"type": "object", "propertyOrdering": ["a"], "required": ["a"], "properties": {
                "a_b": {"type": ["string", "null"], "enum": ["x", null], "minLength": 2},
                "type": {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "boolean"}, "maxItems": 4}]},
                "c": {"anyOf": [{"description": "d"}, {"type": "null"}]},
                "e": {"anyOf": [{"type": "number"}, {"type": "null"}]},
                "f": {"type": "string"},
            }}),
        );
        check(
            &json!({"$defs": {"n_m": {"type": "object", "additionalProperties": false}}, "$ref": "#/$defs/n_m"}),
            &json!({"$defs": {"n_m": {"type": "object", "additionalProperties": false}}, "$ref": "#/$defs/n_m"}),
        );
    }

    #[test]
    fn depth_has_a_limit() {
        let mut schema = json!({"type": "STRING"});
        for _ in 0..100 {
            schema = json!({"items": schema});
        }
        assert!(to_json_schema(&schema).to_string().contains("STRING"));
    }
}
