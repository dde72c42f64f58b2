//! JSON as YAML that people can edit.

use serde_json::Value;

/// Block style; texts in quotes wherever YAML might read something else.
pub(super) fn text(value: &Value) -> String {
    let mut out = String::new();
    write(value, 0, &mut out);
    out
}

fn is_flat(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => true,
    }
}

fn write(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                out.push_str(&format!("{indent}{}:", scalar(name)));
                below(value, depth + 1, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                if is_flat(item) {
                    out.push_str(&format!("{indent}- {}\n", flat(item)));
                    continue;
                }
                // The first field stands beside the dash.
                let mut block = String::new();
                write(item, depth + 1, &mut block);
                out.push_str(&format!("{indent}- {}", block.trim_start()));
            }
        }
        flat_value => out.push_str(&format!("{indent}{}\n", flat(flat_value))),
    }
}

fn below(value: &Value, depth: usize, out: &mut String) {
    if is_flat(value) {
        out.push_str(&format!(" {}\n", flat(value)));
    } else {
        out.push('\n');
        write(value, depth, out);
    }
}

fn flat(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

/// A text without quotes if it is nothing but a word; else as JSON has it, which YAML reads alike.
fn scalar(text: &str) -> String {
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte));
    // YAML 1.1 readers take some words for booleans and numbers.
    const TAKEN: [&str; 10] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan"];
    if is_word && !TAKEN.contains(&text.to_lowercase().as_str()) {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use saphyr::{LoadableYamlNode as _, Yaml};
    use serde_json::json;

    #[test]
    fn it_reads_as_it_was() {
        let value = json!({"a": {"b": [1, "on", {"c": [], "d": null, "e": [[2], {"f": "x: y"}]}]},
            "t": "two\nlines \"quoted\" #no", "empty": {}, "1": "007", "w": "plain-word", "u": "grün"});
        let written = text(&value);
        assert!(written.contains("w: plain-word\n"), "{written}");
        let read = Yaml::load_from_str(&written).expect("YAML");
        assert_eq!(read.len(), 1, "{written}");
        assert_eq!(json_of(&read[0]), value, "{written}");
    }

    fn json_of(yaml: &Yaml<'_>) -> Value {
        use saphyr::Scalar;
        match yaml {
            Yaml::Value(Scalar::Null) => Value::Null,
            Yaml::Value(Scalar::Integer(number)) => (*number).into(),
            Yaml::Value(Scalar::String(text)) => text.as_ref().into(),
            Yaml::Sequence(items) => items.iter().map(json_of).collect(),
            Yaml::Mapping(fields) => {
                let fields = fields.iter().map(|(name, value)| match name {
                    Yaml::Value(Scalar::String(name)) => (name.to_string(), json_of(value)),
                    other => panic!("a name: {other:?}"),
                });
                Value::Object(fields.collect())
            }
            other => panic!("{other:?}"),
        }
    }
}
