//! What the answer of a prompt must be: a JSON Schema, compiled once.

use jsonschema::Validator;
use serde_json::Value;

/// Faults that are told of one answer.
const FAULTS_MAX: usize = 3;
/// The longest words on one of them.
const FAULT_MAX_BYTES: usize = 300;

/// A schema for answers.
#[derive(Clone, Debug)]
pub struct Output {
    schema: Value,
    validator: Validator,
}

impl Output {
    /// Compiles a schema. What it refers to must stand in it: nothing is fetched.
    ///
    /// # Errors
    /// One sentence.
    pub fn new(schema: Value) -> Result<Self, String> {
        match jsonschema::validator_for(&schema) {
            Ok(validator) => Ok(Self { schema, validator }),
            Err(error) => Err(format!("expected a JSON Schema: {}", bounded(&error.to_string()))),
        }
    }

    /// As it was given.
    pub fn schema(&self) -> &Value {
        &self.schema
    }

    /// Checks an answer.
    ///
    /// # Errors
    /// Where it is not what the schema says, and why; nothing of its content.
    pub fn check(&self, answer: &Value) -> Result<(), String> {
        let mut faults = Vec::new();
        for error in self.validator.iter_errors(answer).take(FAULTS_MAX) {
            let at = error.instance_path().to_string();
            let at = if at.is_empty() {
                "as a whole".to_owned()
            } else {
                format!("at `{}`", bounded(&at))
            };
            let words = error.masked().to_string();
            faults.push(format!("{at}: {}", bounded(&words)));
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults.join("; "))
        }
    }
}

fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(FAULT_MAX_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_are_what_the_schema_says() {
        let schema = json!({
            "type": "object", "required": ["mood"], "additionalProperties": false,
            "properties": {
                "mood": { "enum": ["good", "bad"] },
                "why": { "$ref": "#/$defs/text" },
                "words": { "type": "array", "items": { "type": "string" }, "maxItems": 2 },
            },
            "$defs": { "text": { "type": "string", "minLength": 3 } },
        });
        let output = Output::new(schema).unwrap();
        let check = |answer: Value, expected: Result<(), &str>| match (output.check(&answer), expected) {
            (Ok(()), Ok(())) => {}
            (Err(words), Err(part)) => {
                assert!(words.contains(part), "{answer}: {words}");
                assert!(!words.contains("secret"), "{words}");
            }
            (got, _) => panic!("{answer}: {got:?}"),
        };
        check(json!({"mood": "good", "why": "sun", "words": ["a", "b"]}), Ok(()));
        check(json!({"mood": "secret"}), Err("at `/mood`"));
        check(json!({}), Err("as a whole"));
        check(json!("secret"), Err("as a whole"));
        check(json!({"mood": "bad", "why": "x"}), Err("at `/why`"));
        check(json!({"mood": "bad", "words": ["a", 7]}), Err("at `/words/1`"));
        check(json!({"mood": "bad", "more": "secret"}), Err("as a whole"));
    }

    #[test]
    fn wrong_schemas_are_told() {
        let check = |schema: Value| {
            let words = Output::new(schema.clone()).unwrap_err();
            assert!(words.starts_with("expected a JSON Schema: "), "{schema}: {words}");
        };
        check(json!({"type": "text"}));
        check(json!({"properties": 7}));
        check(json!({"$ref": "https://elsewhere.example/schema.json"}));
        check(json!({"$ref": "#/$defs/nothing"}));
        check(json!({"pattern": "("}));
    }
}
