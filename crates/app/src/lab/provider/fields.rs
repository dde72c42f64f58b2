//! Strict reading of request documents: each problem names the field and what was expected.
//!
//! A problem is neutral; [`super::errors`] words it as the provider would.

use serde_json::{Map, Value};

/// What is wrong with one field. The path is written `messages[0].role`.
#[derive(Debug, PartialEq)]
pub(crate) struct Problem {
    pub(crate) path: String,
    pub(crate) what: What,
}

#[derive(Debug, PartialEq)]
pub(crate) enum What {
    Unknown,
    Missing,
    Type {
        expected: &'static str,
        got: &'static str,
    },
    Value {
        got: String,
        allowed: String,
    },
    /// A sentence of its own, with the code that `OpenAI` would give.
    Other {
        message: String,
        code: Option<&'static str>,
    },
}

pub(crate) type Checked<T> = Result<T, Problem>;

pub(crate) fn problem<T>(path: impl Into<String>, what: What) -> Checked<T> {
    Err(Problem {
        path: path.into(),
        what,
    })
}

pub(crate) fn other<T>(path: impl Into<String>, message: impl Into<String>) -> Checked<T> {
    let message = message.into();
    problem(path, What::Other { message, code: None })
}

pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// One object of the request and where it is. A field that is null counts as absent.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
}

impl<'a> Fields<'a> {
    pub(crate) fn of(value: &'a Value, path: impl Into<String>) -> Checked<Self> {
        let path = path.into();
        match value {
            Value::Object(map) => Ok(Fields { map, path }),
            other => wrong_type(path, "an object", other),
        }
    }

    pub(crate) fn path(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    pub(crate) fn own_path(&self) -> &str {
        &self.path
    }

    /// Refuses any field that is not in `allowed`.
    pub(crate) fn only(&self, allowed: &[&str]) -> Checked<()> {
        match self.map.keys().find(|key| !allowed.contains(&key.as_str())) {
            Some(key) => problem(self.path(key), What::Unknown),
            None => Ok(()),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub(crate) fn need(&self, key: &str) -> Checked<&'a Value> {
        match self.get(key) {
            Some(value) => Ok(value),
            None => problem(self.path(key), What::Missing),
        }
    }

    pub(crate) fn text(&self, key: &str) -> Checked<Option<&'a str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => wrong_type(self.path(key), "a string", other),
        }
    }

    pub(crate) fn need_text(&self, key: &str) -> Checked<&'a str> {
        self.need(key)?;
        Ok(self.text(key)?.unwrap_or_default())
    }

    pub(crate) fn flag(&self, key: &str) -> Checked<bool> {
        match self.get(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => wrong_type(self.path(key), "a boolean", other),
        }
    }

    /// A whole number of at least `least`.
    pub(crate) fn count(&self, key: &str, least: u64) -> Checked<Option<u64>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        // protobuf's JSON writes whole numbers as 5.0 and as text as well; OpenAI takes 5.0.
        let whole = value.as_u64().or_else(|| {
            value
                .as_f64()
                .filter(|number| number.fract() == 0.0 && *number >= 0.0)
                .map(|number| number as u64)
        });
        match (whole, value) {
            (Some(count), _) if count >= least => Ok(Some(count)),
            (_, Value::Number(number)) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => {
                problem(
                    self.path(key),
                    What::Other {
                        message: format!(
                            "Invalid '{key}': integer below minimum value. Expected a value >= {least}, but got {number} instead."
                        ),
                        code: Some("integer_below_min_value"),
                    },
                )
            }
            (_, other) => wrong_type(self.path(key), "an integer", other),
        }
    }

    pub(crate) fn number(&self, key: &str, least: f64, most: f64) -> Checked<Option<f64>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let Some(number) = value.as_f64() else {
            return wrong_type(self.path(key), "a decimal", value);
        };
        let (side, code, sign, bound) = if number < least {
            ("below minimum", "decimal_below_min_value", ">=", least)
        } else if number > most {
            ("above maximum", "decimal_above_max_value", "<=", most)
        } else {
            return Ok(Some(number));
        };
        problem(
            self.path(key),
            What::Other {
                message: format!(
                    "Invalid '{key}': decimal {side} value. Expected a value {sign} {bound}, but got {value} instead."
                ),
                code: Some(code),
            },
        )
    }

    pub(crate) fn list(&self, key: &str) -> Checked<Option<&'a [Value]>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(other) => wrong_type(self.path(key), "an array", other),
        }
    }

    pub(crate) fn object(&self, key: &str) -> Checked<Option<Fields<'a>>> {
        self.get(key)
            .map(|value| Fields::of(value, self.path(key)))
            .transpose()
    }

    /// The objects of a list, each with its own path; none when the list is absent.
    pub(crate) fn objects(&self, key: &str) -> Checked<Vec<Fields<'a>>> {
        let list = self.list(key)?.unwrap_or_default();
        let at = |(idx, value): (usize, &'a Value)| Fields::of(value, format!("{}[{idx}]", self.path(key)));
        list.iter().enumerate().map(at).collect()
    }

    pub(crate) fn one_of(&self, key: &str, allowed: &[&str]) -> Checked<Option<&'a str>> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        if allowed.contains(&text) {
            return Ok(Some(text));
        }
        problem(self.path(key), not_one_of(text, allowed))
    }

    /// Texts of a field that is one text or a list of them.
    pub(crate) fn texts(&self, key: &str) -> Checked<Vec<String>> {
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text.clone()]),
            Some(Value::Array(list)) => list
                .iter()
                .enumerate()
                .map(|(idx, value)| match value {
                    Value::String(text) => Ok(text.clone()),
                    other => wrong_type(format!("{}[{idx}]", self.path(key)), "a string", other),
                })
                .collect(),
            Some(other) => wrong_type(self.path(key), "a string or an array of strings", other),
        }
    }
}

pub(crate) fn not_one_of(got: &str, allowed: &[&str]) -> What {
    What::Value {
        got: got.to_owned(),
        allowed: allowed
            .iter()
            .map(|one| format!("'{one}'"))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

pub(crate) fn wrong_type<T>(path: impl Into<String>, expected: &'static str, got: &Value) -> Checked<T> {
    problem(
        path,
        What::Type {
            expected,
            got: type_name(got),
        },
    )
}
