//! A value that satisfies a JSON Schema, always the same for the same seed.

use serde_json::{Map, Value, json};

use crate::lab::random::Random;

/// Deeper schemas (or references in a circle) get null.
const DEPTH_MAX: u32 = 24;
/// Most values of one document: circles that branch would grow without end.
const VALUES_MAX: u32 = 20_000;

struct Maker<'a> {
    root: &'a Value,
    random: &'a mut Random,
    values_left: u32,
}

/// A value for `schema`: all required properties, types, enums, bounds of numbers, texts and lists.
pub(crate) fn value(schema: &Value, random: &mut Random) -> Value {
    let mut maker = Maker {
        root: schema,
        random,
        values_left: VALUES_MAX,
    };
    maker.generate(schema, 0)
}

impl Maker<'_> {
    fn generate(&mut self, schema: &Value, depth: u32) -> Value {
        if depth > DEPTH_MAX || self.values_left == 0 {
            return Value::Null;
        }
        self.values_left -= 1;
        let root = self.root;
        if let Some(fixed) = schema.get("const") {
            return fixed.clone();
        }
        if let Some(Value::Array(values)) = schema.get("enum") {
            return pick(values, self.random);
        }
        if let Some(pointer) = schema.get("$ref").and_then(Value::as_str) {
            let found = pointer
                .strip_prefix('#')
                .and_then(|pointer| root.pointer(pointer));
            return found.map_or(Value::Null, |inner| self.generate(inner, depth + 1));
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(Value::Array(options)) = schema.get(key) {
                // The first that is not null: it says more.
                let option = options
                    .iter()
                    .find(|one| kind(one) != Some("null"))
                    .or(options.first());
                return option.map_or(Value::Null, |inner| self.generate(inner, depth + 1));
            }
        }
        if let Some(Value::Array(parts)) = schema.get("allOf") {
            let mut merged = Map::new();
            for part in parts {
                match self.generate(part, depth + 1) {
                    Value::Object(map) => merged.extend(map),
                    other => return other,
                }
            }
            return Value::Object(merged);
        }
        let number = |key: &str| schema.get(key).and_then(Value::as_f64);
        let length = |key: &str| {
            schema
                .get(key)
                .and_then(Value::as_u64)
                .map(|length| length.min(1024) as usize)
        };
        let kind = kind(schema).map(str::to_ascii_lowercase);
        match kind.as_deref() {
            Some("object") => self.object(schema, depth),
            Some("array") => {
                let most = length("maxItems").unwrap_or(usize::MAX);
                let count = length("minItems").unwrap_or(1).max(1).min(most);
                let prefix = schema.get("prefixItems").and_then(Value::as_array);
                let item = |idx: usize| prefix.and_then(|list| list.get(idx)).or(schema.get("items"));
                Value::Array(
                    (0..count)
                        .map(|idx| {
                            item(idx).map_or_else(|| json!("item"), |one| self.generate(one, depth + 1))
                        })
                        .collect(),
                )
            }
            Some("integer") => {
                let least = number("minimum").or(number("exclusiveMinimum").map(|bound| bound + 1.0));
                let most = number("maximum").or(number("exclusiveMaximum").map(|bound| bound - 1.0));
                let least = least
                    .unwrap_or_else(|| most.map_or(1.0, |most| most.min(1.0)))
                    .ceil();
                let room = most.map_or(9.0, |most| (most.floor() - least).clamp(0.0, 9.0)) as u32;
                let step = number("multipleOf").filter(|step| *step >= 1.0).unwrap_or(1.0);
                let chosen = least + f64::from(self.random.below(room + 1));
                let rounded = (chosen / step).floor() * step;
                json!(if rounded < least { rounded + step } else { rounded } as i64)
            }
            Some("number") => {
                let least = number("minimum").or(number("exclusiveMinimum").map(|bound| bound + 0.5));
                let most = number("maximum").or(number("exclusiveMaximum").map(|bound| bound - 0.5));
                json!(least.or(most.map(|most| most.min(1.5))).unwrap_or(1.5))
            }
            Some("boolean") => json!(self.random.below(2) == 1),
            Some("null") => Value::Null,
            Some("string") => text(schema, length("minLength"), length("maxLength"), self.random),
            _ if schema.get("properties").is_some() => self.object(schema, depth),
            _ => json!("anything"),
        }
    }

    fn object(&mut self, schema: &Value, depth: u32) -> Value {
        let mut map = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object);
        let required = schema.get("required").and_then(Value::as_array);
        for (name, inner) in properties.into_iter().flatten() {
            let is_required = required.is_none_or(|list| list.iter().any(|one| one == name.as_str()));
            // Those that may be left out are left out now and then, which a reader must bear.
            if is_required || self.random.below(2) == 1 {
                map.insert(name.clone(), self.generate(inner, depth + 1));
            }
        }
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            map.entry(name).or_insert_with(|| json!("anything"));
        }
        Value::Object(map)
    }
}

fn kind(schema: &Value) -> Option<&str> {
    match schema.get("type")? {
        Value::String(kind) => Some(kind),
        Value::Array(kinds) => kinds
            .iter()
            .filter_map(Value::as_str)
            .find(|kind| *kind != "null"),
        _ => None,
    }
}

fn pick(values: &[Value], random: &mut Random) -> Value {
    let idx = random.below(u32::try_from(values.len()).unwrap_or(u32::MAX)) as usize;
    values.get(idx).cloned().unwrap_or_default()
}

fn text(schema: &Value, least: Option<usize>, most: Option<usize>, random: &mut Random) -> Value {
    match schema.get("format").and_then(Value::as_str) {
        Some("date-time") => return json!("2025-01-02T03:04:05Z"),
        Some("date") => return json!("2025-01-02"),
        Some("time") => return json!("03:04:05Z"),
        Some("email") => return json!("someone@example.com"),
        Some("uri" | "url") => return json!("https://example.com/"),
        Some("uuid") => return json!("00000000-0000-4000-8000-000000000000"),
        Some("ipv4") => return json!("192.0.2.1"),
        Some("ipv6") => return json!("2001:db8::1"),
        _ => {}
    }
    let mut text = super::answer::words(random, 2);
    while text.len() < least.unwrap_or(0) {
        text.push('x');
    }
    if let Some(most) = most {
        text.truncate(most);
    }
    json!(text)
}

#[cfg(test)]
mod tests {
    use super::value;
    use crate::lab::random::Random;
    use serde_json::{Value, json};

    #[test]
    fn what_a_schema_asks_for_is_there() {
        let schema = json!({"type": "object", "required": ["city", "size", "tags", "kind", "who", "gone"],
            "properties": {
                "city": {"type": "string", "minLength": 12, "maxLength": 14},
                "size": {"type": "integer", "minimum": 7, "maximum": 8},
                "tags": {"type": "array", "items": {"type": "boolean"}, "minItems": 2},
                "kind": {"enum": ["a", "b"]},
                "who": {"$ref": "#/$defs/who"},
                "gone": {"anyOf": [{"type": "null"}, {"type": "number", "maximum": 1}]}},
            "$defs": {"who": {"type": "object", "properties": {"me": {"$ref": "#/$defs/who"}, "n": {"const": 3}},
                "required": ["n"]}}});
        for seed in 0..50 {
            let made = value(&schema, &mut Random::new(seed, "schema"));
            assert!(
                (12..=14).contains(&made["city"].as_str().unwrap().len()),
                "{made}"
            );
            assert!((7..=8).contains(&made["size"].as_i64().unwrap()), "{made}");
            assert_eq!(made["tags"].as_array().unwrap().len(), 2);
            assert!(made["tags"][0].is_boolean());
            assert!(["a", "b"].contains(&made["kind"].as_str().unwrap()));
            assert_eq!(made["who"]["n"], 3);
            assert!(made["gone"].as_f64().unwrap() <= 1.0);
        }
        assert!(
            value(
                &json!({"type": "OBJECT", "properties": {}}),
                &mut Random::new(1, "x")
            )
            .is_object()
        );
        assert_eq!(value(&Value::Bool(true), &mut Random::new(1, "x")), "anything");
    }
}
