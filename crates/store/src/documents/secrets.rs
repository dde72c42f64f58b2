//! The secrets in a document: where they are, sealed in the database, hidden in what is shown.
//!
//! A path is a JSON pointer (RFC 6901) in which `*` stands for every item of an array or every field of an
//! object. A secret is stored as an object of one field, [`SEALED`], with the encrypted JSON in hexadecimal.

use super::types::CatalogueError;
use crate::seal::Sealer;
use serde_json::{Map, Value};

/// What is shown in the place of a secret.
pub const HIDDEN: &str = "***";
/// The field that marks a sealed secret; no document may have it.
const SEALED: &str = "$weir-sealed";

/// A copy of `body` with its secrets sealed.
pub(super) fn seal(
    body: &Value,
    paths: &[String],
    kind: &str,
    name: &str,
    sealer: &Sealer,
) -> Result<Value, String> {
    if has_field(body, SEALED) {
        return Err(format!("the field name `{SEALED}` is reserved"));
    }
    let mut sealed = body.clone();
    let context = context(kind, name);
    for path in paths {
        at_each(&mut sealed, path, &mut |secret| {
            if secret.is_null() || is_sealed(secret) {
                return Ok(());
            }
            if secret == HIDDEN {
                return Err(format!(
                    "`{path}` is `{HIDDEN}`, which stands for a secret that is not shown: give the secret itself"
                ));
            }
            let bytes = sealer
                .seal(secret.to_string().as_bytes(), &context)
                .map_err(|error| error.to_string())?;
            let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            *secret = Value::Object(Map::from_iter([(SEALED.to_owned(), Value::String(text))]));
            Ok(())
        })?;
    }
    Ok(sealed)
}

/// A stored document with its secrets opened.
pub(super) fn open(stored: &str, kind: &str, name: &str, sealer: &Sealer) -> Result<Value, CatalogueError> {
    let sealed = || CatalogueError::Sealed {
        kind: kind.to_owned(),
        name: name.to_owned(),
    };
    let mut body: Value = serde_json::from_str(stored).map_err(|_| sealed())?;
    let context = context(kind, name);
    replace_sealed(&mut body, &mut |text| {
        let bytes = bytes_of(text).ok_or(())?;
        let secret = sealer.open_sealed(&bytes, &context).map_err(|_| ())?;
        serde_json::from_slice(&secret).map_err(|_| ())
    })
    .map_err(|()| sealed())?;
    Ok(body)
}

/// A stored document with its secrets hidden.
pub(super) fn hide_sealed(mut stored: Value) -> Value {
    let hidden = replace_sealed(&mut stored, &mut |_| Ok(Value::from(HIDDEN)));
    match hidden {
        Ok(()) => stored,
        Err(()) => Value::Null,
    }
}

/// A copy of a document with what is at `paths` hidden, to be shown.
pub fn hide(body: &Value, paths: &[String]) -> Value {
    let mut hidden = body.clone();
    for path in paths {
        let done = at_each(&mut hidden, path, &mut |secret| {
            if !secret.is_null() {
                *secret = HIDDEN.into();
            }
            Ok(())
        });
        if done.is_err() {
            return HIDDEN.into();
        }
    }
    hidden
}

/// A secret belongs to its document: it does not open in another.
fn context(kind: &str, name: &str) -> Vec<u8> {
    [kind.as_bytes(), &[0], name.as_bytes()].concat()
}

fn is_sealed(value: &Value) -> bool {
    value
        .as_object()
        .is_some_and(|fields| fields.contains_key(SEALED))
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    if !hex.is_ascii() || !hex.len().is_multiple_of(2) {
        return None;
    }
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok())
        .collect()
}

fn has_field(value: &Value, name: &str) -> bool {
    match value {
        Value::Object(fields) => fields
            .iter()
            .any(|(field, value)| field == name || has_field(value, name)),
        Value::Array(items) => items.iter().any(|item| has_field(item, name)),
        _ => false,
    }
}

/// Depth is bounded by the parser that made the value (serde_json: 128).
fn replace_sealed(value: &mut Value, replace: &mut impl FnMut(&str) -> Result<Value, ()>) -> Result<(), ()> {
    match value {
        Value::Object(fields) => {
            if let Some(sealed) = fields.get(SEALED) {
                *value = replace(sealed.as_str().unwrap_or(""))?;
                return Ok(());
            }
            fields
                .values_mut()
                .try_for_each(|value| replace_sealed(value, replace))
        }
        Value::Array(items) => items
            .iter_mut()
            .try_for_each(|item| replace_sealed(item, replace)),
        _ => Ok(()),
    }
}

/// Calls `change` for each value that `path` leads to. A path that leads nowhere is no error.
fn at_each(
    value: &mut Value,
    path: &str,
    change: &mut impl FnMut(&mut Value) -> Result<(), String>,
) -> Result<(), String> {
    let Some(rest) = path.strip_prefix('/') else {
        return if path.is_empty() {
            change(value)
        } else {
            Err(format!("`{path}`: a path begins with `/`"))
        };
    };
    let (step, rest) = match rest.find('/') {
        Some(at) => (&rest[..at], &rest[at..]),
        None => (rest, ""),
    };
    let step = step.replace("~1", "/").replace("~0", "~");
    match value {
        Value::Object(fields) if step == "*" => fields
            .values_mut()
            .try_for_each(|value| at_each(value, rest, change)),
        Value::Array(items) if step == "*" => {
            items.iter_mut().try_for_each(|item| at_each(item, rest, change))
        }
        Value::Object(fields) => fields
            .get_mut(&step)
            .map_or(Ok(()), |value| at_each(value, rest, change)),
        Value::Array(items) => {
            let item = step.parse::<usize>().ok().and_then(|at| items.get_mut(at));
            item.map_or(Ok(()), |item| at_each(item, rest, change))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_paths_hide() {
        let body = json!({"keys": [{"value": "a", "name": "n"}, {"value": null}, 3], "a/b": {"x": 1, "y": [2]}, "p": "q"});
        let check = |paths: &[&str], expected: Value| {
            let paths: Vec<String> = paths.iter().map(|&path| path.to_owned()).collect();
            assert_eq!(hide(&body, &paths), expected, "{paths:?}");
            let sealer = Sealer::new(&[1; 32]);
            let sealed = seal(&body, &paths, "k", "n", &sealer).unwrap();
            assert_eq!(hide_sealed(sealed.clone()), expected, "{paths:?}");
            assert_eq!(open(&sealed.to_string(), "k", "n", &sealer).unwrap(), body);
        };
        check(&[], body.clone());
        check(&["/none", "/keys/7/value", "/p/q/r", "/keys/x"], body.clone());
        check(&[""], json!("***"));
        let mut expected = body.clone();
        expected["keys"][0]["value"] = json!("***");
        check(&["/keys/*/value"], expected.clone());
        check(&["/keys/0/value", "/keys/*/value"], expected.clone());
        expected["a/b"] = json!({"x": "***", "y": "***"});
        expected["p"] = json!("***");
        check(&["/keys/*/value", "/a~1b/*", "/p"], expected);
    }

    #[test]
    fn what_cannot_be_sealed() {
        let check = |body: Value, path: &str, part: &str| {
            let error = seal(&body, &[path.to_owned()], "k", "n", &Sealer::new(&[1; 32])).unwrap_err();
            assert!(error.contains(part), "{error}");
        };
        check(json!({"a": [{"$weir-sealed": "00"}]}), "/x", "reserved");
        check(json!({"key": "***"}), "/key", "give the secret itself");
        check(json!({}), "key", "begins with");
        assert_eq!(
            hide(&json!({"key": "x"}), &["key".to_owned()]),
            json!("***"),
            "rather nothing than too much"
        );
    }

    #[test]
    fn a_secret_opens_only_in_its_document() {
        let sealer = Sealer::new(&[1; 32]);
        let sealed = seal(
            &json!({"key": "s"}),
            &["/key".to_owned()],
            "provider",
            "a",
            &sealer,
        )
        .unwrap();
        let text = sealed.to_string();
        assert!(!text.contains("\"s\""));
        assert!(open(&text, "provider", "b", &sealer).is_err());
        assert!(open(&text, "provide", "ra", &sealer).is_err());
        assert!(open(&text, "provider", "a", &Sealer::new(&[2; 32])).is_err());
        assert!(open(&text.replace('0', "1"), "provider", "a", &sealer).is_err());
        assert!(open("{", "provider", "a", &sealer).is_err());
    }
}
