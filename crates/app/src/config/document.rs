//! YAML checked against a JSON Schema, every error with its line.
//!
//! Knows the part of JSON Schema that is generated from our raw types: objects with named fields or with
//! any, arrays, texts, booleans, numbers and whole numbers within a range, enumerations, alternatives,
//! values of any kind, and what may be left empty.

use std::collections::BTreeMap;

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
use serde_json::{Map, Value};

use super::Fault;

/// Sections that the design has and this version has not.
const LATER: [&str; 5] = ["policy", "lists", "rules", "notify", "mode"];

/// What is left of a document after the check.
#[derive(Debug)]
pub(super) struct Checked {
    /// The fields that passed.
    pub(super) value: Value,
    pub(super) faults: Vec<Fault>,
    /// Line of each field, by path.
    lines: BTreeMap<String, usize>,
}

impl Checked {
    /// Notes what is wrong with a field. One that is not in the document has the line of what it is missing
    /// from.
    pub(super) fn fault(&mut self, field: &str, words: impl Into<String>) {
        let mut place = field;
        let line = loop {
            if let Some(line) = self.lines.get(place) {
                break *line;
            }
            match place.rfind(['.', '[']) {
                Some(end) => place = &place[..end],
                None => break 0,
            }
        };
        self.faults.push(Fault {
            line,
            field: field.to_owned(),
            words: words.into(),
        });
    }
}

/// Reads the one document of a file; `None` if it is empty.
pub(super) fn load(text: &str) -> Result<Option<MarkedYaml<'_>>, Vec<Fault>> {
    let fault = |line: usize, words: String| {
        vec![Fault {
            line,
            field: String::new(),
            words,
        }]
    };
    let mut documents = MarkedYaml::load_from_str(text)
        .map_err(|error| fault(error.marker().line(), format!("not YAML: {}", error.info())))?;
    match documents.len() {
        0 => Ok(None),
        1 => Ok(documents.pop()),
        _ => Err(fault(
            documents[1].span.start.line(),
            "expected one document, found a second after `---`: put everything into one".to_owned(),
        )),
    }
}

/// Checks a document. Fields that fail are not in the result.
pub(super) fn check(document: &Option<MarkedYaml<'_>>, schema: &Value) -> Checked {
    let mut checked = Checked {
        value: Value::Null,
        faults: Vec::new(),
        lines: BTreeMap::new(),
    };
    let empty = || Value::Object(Map::new());
    checked.value = match document {
        Some(node) if !is_null(node) => node_value(node, schema, "", &mut checked).unwrap_or_else(empty),
        _ => empty(),
    };
    checked
}

fn is_null(node: &MarkedYaml<'_>) -> bool {
    matches!(node.data, YamlData::Value(Scalar::Null))
}

/// The schema without the alternative of leaving it empty, and whether it had that.
fn without_null(schema: &Value) -> (&Value, bool) {
    let is_null = |schema: &Value| schema["type"] == "null";
    if let Some(choices) = schema["anyOf"]
        .as_array()
        .filter(|choices| choices.iter().any(is_null))
    {
        let other = choices.iter().find(|choice| !is_null(choice)).unwrap_or(schema);
        return (other, true);
    }
    let may_be_null = schema["type"]
        .as_array()
        .is_some_and(|types| types.iter().any(|kind| kind == "null"));
    (schema, may_be_null)
}

fn type_of(schema: &Value) -> &str {
    if schema["oneOf"].is_array() {
        // An enumeration whose values are described one by one: all of ours are texts.
        return "string";
    }
    match &schema["type"] {
        Value::Array(types) => types
            .iter()
            .filter_map(Value::as_str)
            .find(|kind| *kind != "null")
            .unwrap_or(""),
        kind => kind.as_str().unwrap_or(""),
    }
}

fn node_value(node: &MarkedYaml<'_>, schema: &Value, path: &str, checked: &mut Checked) -> Option<Value> {
    let line = node.span.start.line();
    checked.lines.entry(path.to_owned()).or_insert(line);
    let (schema, may_be_null) = without_null(schema);
    if may_be_null && is_null(node) {
        return Some(Value::Null);
    }
    if let Some(alternatives) = schema["anyOf"].as_array() {
        let fits = |alternative: &&Value| {
            matches!(node.data, YamlData::Mapping(_)) == (type_of(alternative) == "object")
        };
        let alternative = alternatives.iter().find(fits).or(alternatives.first());
        return node_value(node, alternative.unwrap_or(&Value::Null), path, checked);
    }
    if is_any(schema) {
        return any_value(node, path, checked);
    }
    let found = match (&node.data, type_of(schema)) {
        (YamlData::Mapping(mapping), "object") => {
            let mut object = Map::new();
            for (key, value) in mapping {
                field(key, value, schema, path, &mut object, checked);
            }
            return Some(Value::Object(object));
        }
        (YamlData::Sequence(nodes), "array") => {
            let items = nodes.iter().enumerate().filter_map(|(at, node)| {
                node_value(node, &schema["items"], &format!("{path}[{at}]"), checked)
            });
            return Some(Value::Array(items.collect()));
        }
        (YamlData::Value(scalar), kind) => scalar_value(scalar, kind, schema),
        _ => None,
    };
    if found.is_none() {
        let words = format!("expected {}, found {}", expected(schema), shown(node));
        checked.faults.push(Fault {
            line,
            field: path.to_owned(),
            words,
        });
    }
    found
}

fn field(
    key: &MarkedYaml<'_>,
    value: &MarkedYaml<'_>,
    schema: &Value,
    path: &str,
    object: &mut Map<String, Value>,
    checked: &mut Checked,
) {
    let YamlData::Value(Scalar::String(name)) = &key.data else {
        checked.faults.push(Fault {
            line: key.span.start.line(),
            field: path.to_owned(),
            words: format!("expected the name of a field, found {}", shown(key)),
        });
        return;
    };
    let below = if path.is_empty() {
        name.to_string()
    } else {
        format!("{path}.{name}")
    };
    checked.lines.insert(below.clone(), key.span.start.line());
    match schema["properties"].get(name.as_ref()) {
        Some(schema) => {
            if let Some(value) = node_value(value, schema, &below, checked) {
                object.insert(name.to_string(), value);
            }
        }
        None if is_open(schema) => {
            let schema = &schema["additionalProperties"];
            if let Some(value) = node_value(value, schema, &below, checked) {
                object.insert(name.to_string(), value);
            }
        }
        None => {
            let words = unknown_field(name, path, schema);
            checked.fault(&below, words);
        }
    }
}

/// Does the object take fields of any name?
fn is_open(schema: &Value) -> bool {
    let others = &schema["additionalProperties"];
    others.is_object() || others == &Value::Bool(true)
}

/// Is every value right?
fn is_any(schema: &Value) -> bool {
    schema == &Value::Bool(true)
        || schema.as_object().is_some_and(|schema| {
            ["type", "anyOf", "oneOf", "enum", "properties"]
                .iter()
                .all(|key| !schema.contains_key(*key))
        })
}

/// A value of any kind, as JSON would have it.
fn any_value(node: &MarkedYaml<'_>, path: &str, checked: &mut Checked) -> Option<Value> {
    match &node.data {
        YamlData::Mapping(mapping) => {
            let mut object = Map::new();
            let schema = serde_json::json!({"additionalProperties": true});
            for (key, value) in mapping {
                field(key, value, &schema, path, &mut object, checked);
            }
            Some(Value::Object(object))
        }
        YamlData::Sequence(nodes) => {
            let items = nodes.iter().enumerate();
            let items = items.filter_map(|(at, node)| any_value(node, &format!("{path}[{at}]"), checked));
            Some(Value::Array(items.collect()))
        }
        YamlData::Value(Scalar::Null) => Some(Value::Null),
        YamlData::Value(Scalar::Boolean(value)) => Some((*value).into()),
        YamlData::Value(Scalar::Integer(value)) => Some((*value).into()),
        YamlData::Value(Scalar::FloatingPoint(value)) => Some((**value).into()),
        YamlData::Value(Scalar::String(text)) => Some(text.as_ref().into()),
        _ => {
            checked.fault(path, format!("expected a plain value, found {}", shown(node)));
            None
        }
    }
}

fn unknown_field(name: &str, path: &str, schema: &Value) -> String {
    let what = if path.is_empty() { "section" } else { "field" };
    if path.is_empty() && LATER.contains(&name) {
        return "this section is not in this version of Weir: remove it".to_owned();
    }
    let known: Vec<&str> = schema["properties"]
        .as_object()
        .map(|properties| properties.keys().map(String::as_str).collect())
        .unwrap_or_default();
    let near = known
        .iter()
        .map(|known| (distance(name, known), known))
        .min()
        .filter(|(distance, _)| *distance <= 2);
    match near {
        Some((_, near)) => format!("no such {what}: write `{near}` if that is meant"),
        None => format!("no such {what}: expected one of {}", known.join(", ")),
    }
}

/// Single letters added, removed or replaced to get from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn scalar_value(scalar: &Scalar<'_>, kind: &str, schema: &Value) -> Option<Value> {
    match (scalar, kind) {
        (Scalar::Boolean(value), "boolean") => Some(Value::from(*value)),
        (Scalar::Integer(value), "integer") => {
            let number = *value as f64;
            let is_within = schema["minimum"].as_f64().is_none_or(|minimum| number >= minimum)
                && schema["maximum"].as_f64().is_none_or(|maximum| number <= maximum);
            is_within.then(|| Value::from(*value))
        }
        (Scalar::Integer(value), "number") => Some(Value::from(*value)),
        (Scalar::FloatingPoint(value), "number") => serde_json::Number::from_f64(**value).map(Value::Number),
        (Scalar::String(text), "string") => {
            let value = Value::from(text.as_ref());
            let is_known = choices(schema).is_none_or(|choices| choices.contains(&value));
            is_known.then_some(value)
        }
        _ => None,
    }
}

/// Values of an enumeration, written as a list or as constants.
fn choices(schema: &Value) -> Option<Vec<Value>> {
    if let Some(all) = schema["oneOf"].as_array() {
        return Some(all.iter().map(|one| one["const"].clone()).collect());
    }
    let listed = schema["enum"].as_array()?;
    Some(listed.iter().filter(|value| !value.is_null()).cloned().collect())
}

fn expected(schema: &Value) -> String {
    if let Some(choices) = choices(schema) {
        let names: Vec<_> = choices.iter().filter_map(Value::as_str).collect();
        return names.join(" or ");
    }
    match type_of(schema) {
        "object" => {
            let fields = schema["properties"].as_object().into_iter().flat_map(Map::keys);
            let names: Vec<_> = fields.map(String::as_str).collect();
            format!("fields ({})", names.join(", "))
        }
        "array" => "a list, as [a, b]".to_owned(),
        "boolean" => "true or false".to_owned(),
        "number" => "a number".to_owned(),
        "integer" => match (schema["minimum"].as_u64(), schema["maximum"].as_u64()) {
            (Some(minimum), Some(maximum)) => format!("a whole number from {minimum} to {maximum}"),
            (Some(minimum), None) => format!("a whole number of {minimum} or more"),
            _ => "a whole number".to_owned(),
        },
        "string" => "a text; put it in quotes if it looks like something else".to_owned(),
        other => format!("a value of type {other}"),
    }
}

fn shown(node: &MarkedYaml<'_>) -> String {
    match &node.data {
        YamlData::Mapping(_) => "fields".to_owned(),
        YamlData::Sequence(_) => "a list".to_owned(),
        YamlData::Value(Scalar::Null) => "nothing".to_owned(),
        YamlData::Value(Scalar::Boolean(value)) => format!("`{value}`"),
        YamlData::Value(Scalar::Integer(value)) => format!("`{value}`"),
        YamlData::Value(Scalar::FloatingPoint(value)) => format!("`{value}`"),
        YamlData::Value(Scalar::String(text)) => format!("`{}`", text.escape_debug()),
        _ => "something that is no plain value".to_owned(),
    }
}
