//! One check of suricata-verify: how many events match.

use serde_json::{Map, Value};

/// `checks: - filter: {count, match}`.
pub(crate) struct Check {
    pub(crate) count: u64,
    pub(crate) wanted: Map<String, Value>,
    /// Versions and features of Suricata that it is for.
    pub(crate) requires: Map<String, Value>,
}

impl Check {
    /// `None` if this is no filter with a plain count.
    pub(crate) fn of(filter: &Value) -> Option<Self> {
        let object = |name: &str| filter.get(name).and_then(Value::as_object).cloned();
        Some(Self {
            count: filter.get("count")?.as_u64()?,
            wanted: object("match")?,
            requires: object("requires").unwrap_or_default(),
        })
    }

    pub(crate) fn event_type(&self) -> &str {
        self.wanted
            .get("event_type")
            .and_then(Value::as_str)
            .unwrap_or("any")
    }

    /// Whether as many events match as should; if not, why.
    pub(crate) fn holds(&self, events: &[Value]) -> Result<(), String> {
        let n = events
            .iter()
            .filter(|event| self.first_difference(event).is_none())
            .count() as u64;
        if n == self.count {
            return Ok(());
        }
        // The event that fits best says most about what is missing.
        let differences = |event: &&Value| {
            self.wanted
                .iter()
                .filter(|(key, value)| !is_as(event, key, value))
                .count()
        };
        let nearest = events
            .iter()
            .filter(|event| event.get("event_type") == self.wanted.get("event_type"))
            .min_by_key(differences);
        let nearest = match nearest {
            None => "none of this type".to_owned(),
            Some(event) => {
                let wrong = self
                    .wanted
                    .iter()
                    .filter(|(key, value)| !is_as(event, key, value));
                let shown: Vec<String> = wrong
                    .map(|(key, value)| {
                        let found = get(event, key).map_or_else(|| "nothing".to_owned(), Value::to_string);
                        format!("{key} is {found}, expected {value}")
                    })
                    .collect();
                format!("the nearest: {}", shown.join("; "))
            }
        };
        let wanted = Value::Object(self.wanted.clone());
        Err(format!(
            "{n} events instead of {}: {wanted}: {nearest}",
            self.count
        ))
    }

    fn first_difference(&self, event: &Value) -> Option<&str> {
        let mut wanted = self.wanted.iter();
        wanted
            .find(|(key, value)| !is_as(event, key, value))
            .map(|(key, _)| key.as_str())
    }
}

/// Whether an event has this value there.
fn is_as(event: &Value, key: &str, value: &Value) -> bool {
    let keys = || -> Vec<&str> {
        match value {
            Value::Array(keys) => keys.iter().filter_map(Value::as_str).collect(),
            one => one.as_str().into_iter().collect(),
        }
    };
    match key {
        "has-key" => return keys().iter().all(|key| get(event, key).is_some()),
        "not-has-key" => return keys().iter().all(|key| get(event, key).is_none()),
        _ => {}
    }
    let Some((path, operator)) = key.rsplit_once(".__").or_else(|| key.rsplit_once("__")) else {
        return get(event, key).is_some_and(|found| is_equal(found, value));
    };
    let Some(found) = get(event, path) else {
        return false;
    };
    let text = || Some((found.as_str()?, value.as_str()?));
    match operator {
        "len" => {
            let len = match found {
                Value::String(text) => text.chars().count(),
                Value::Array(list) => list.len(),
                Value::Object(object) => object.len(),
                _ => return false,
            };
            value.as_u64() == Some(len as u64)
        }
        "contains" | "find" => match found {
            Value::Array(list) => list.contains(value),
            _ => text().is_some_and(|(found, part)| found.contains(part)),
        },
        "startswith" => text().is_some_and(|(found, start)| found.starts_with(start)),
        "endswith" => text().is_some_and(|(found, end)| found.ends_with(end)),
        _ => false,
    }
}

/// Numbers are equal whatever their spelling: YAML has 1 and 1.0.
fn is_equal(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Number(found), Value::Number(wanted)) => {
            found == wanted || found.as_f64().zip(wanted.as_f64()).is_some_and(|(a, b)| a == b)
        }
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(a, b)| is_equal(a, b))
        }
        (Value::Object(found), Value::Object(wanted)) => {
            found.len() == wanted.len()
                && wanted
                    .iter()
                    .all(|(key, value)| found.get(key).is_some_and(|found| is_equal(found, value)))
        }
        _ => found == wanted,
    }
}

/// The value at `a.b` or `a[0]`; a key may have dots of its own.
fn get<'a>(event: &'a Value, path: &str) -> Option<&'a Value> {
    let steps = path.split(['.', '[']);
    steps
        .into_iter()
        .try_fold(event, |value, step| match step.strip_suffix(']') {
            Some(index) => value.get(index.parse::<usize>().ok()?),
            None => value.get(step),
        })
}

#[test]
fn operators_are_those_of_suricata_verify() {
    let event = serde_json::json!({"event_type": "dns", "dns": {"rrname": "abc", "list": [1, {"x": true}]}});
    let holds = |key: &str, value: Value| is_as(&event, key, &value);
    for (key, value, expected) in [
        ("dns.rrname", Value::from("abc"), true),
        ("dns.rrname", Value::from("abd"), false),
        ("dns.rrname.__len", Value::from(3), true),
        ("dns.list.__len", Value::from(3), false),
        ("dns.list[1].x", Value::from(true), true),
        ("dns.list[2]", Value::from(1), false),
        ("has-key", Value::from("dns.list"), true),
        ("has-key", serde_json::json!(["dns", "tls"]), false),
        ("not-has-key", Value::from("dns"), false),
        ("not-has-key", serde_json::json!(["tls", "dns.list[2]"]), true),
        ("dns.rrname.__startswith", Value::from("ab"), true),
        ("dns.rrname.__endswith", Value::from("ab"), false),
        ("dns.list[0]", Value::from(1.0), true),
    ] {
        assert_eq!(holds(key, value), expected, "{key}");
    }
}
