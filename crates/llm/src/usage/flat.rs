//! Counts read straight from the text of a usage object, for the way of every call: no document is built.

use super::{Counts, count_names};
use crate::format::Format;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Names of counts within the objects of a usage object.
const INNER: &[&str] = &[
    "cached_tokens",
    "cache_write_tokens",
    "audio_tokens",
    "image_tokens",
    "reasoning_tokens",
    "thinking_tokens",
    "ephemeral_5m_input_tokens",
    "ephemeral_1h_input_tokens",
];
/// A name's own count, then those within it.
type Row = [u64; 1 + INNER.len()];
/// Names of one format at most.
const NAMES_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Flat {
    /// Of the usage object's fields.
    names: &'static [&'static str],
    /// In the order of `names`.
    rows: [Row; NAMES_MAX],
    /// Fields that are there with another value than null, as bits in the same order.
    present: u8,
}

impl Flat {
    /// The counts in the text of a usage object; `None` where there is none.
    pub(super) fn read(format: Format, usage: &str) -> Option<Self> {
        let mut flat = Self {
            names: count_names(format),
            rows: [Row::default(); NAMES_MAX],
            present: 0,
        };
        let mut json = serde_json::Deserializer::from_str(usage);
        Deserializer::deserialize_any(&mut json, Fields(&mut flat)).ok()?;
        (flat.present != 0).then_some(flat)
    }
}

impl Counts for Flat {
    fn at(&self, path: &[&str]) -> u64 {
        let (name, column) = match path {
            [name] => (name, Some(0)),
            [name, inner] => (name, place(INNER, inner).map(|at| at + 1)),
            _ => return 0,
        };
        place(self.names, name)
            .zip(column)
            .map_or(0, |(row, column)| self.rows[row][column])
    }
}

fn place(names: &[&str], name: &str) -> Option<usize> {
    names.iter().take(NAMES_MAX).position(|known| *known == name)
}

/// A key, as its place among names; `None` is any other.
struct Key<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(place(self.0, name))
    }
}

/// What a visitor does with values that are no count: it takes them, and says whether they are other than null.
macro_rules! takes_anything {
    () => {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any value")
        }

        fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
            Ok(true)
        }

        fn visit_str<E>(self, _: &str) -> Result<bool, E> {
            Ok(true)
        }

        fn visit_unit<E>(self) -> Result<bool, E> {
            Ok(false)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<bool, A::Error> {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            Ok(true)
        }
    };
}

/// The usage object.
struct Fields<'a>(&'a mut Flat);

impl<'de> Visitor<'de> for Fields<'_> {
    takes_anything!();

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        while let Some(key) = map.next_key_seed(Key(self.0.names))? {
            let Some(at) = key else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            // Of a repeated name the last counts.
            let row = &mut self.0.rows[at];
            *row = Row::default();
            let bit = 1 << at;
            if map.next_value_seed(Field(row))? {
                self.0.present |= bit;
            } else {
                self.0.present &= !bit;
            }
        }
        Ok(true)
    }
}

/// A field of the usage object, or one within it, which has a row of its own count alone.
struct Field<'a>(&'a mut [u64]);

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        json.deserialize_any(self)
    }
}

impl Field<'_> {
    fn is<E>(self, count: Option<u64>) -> Result<bool, E> {
        self.0[0] = count.unwrap_or(0);
        Ok(true)
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    takes_anything!();

    fn visit_u64<E>(self, n: u64) -> Result<bool, E> {
        self.is(Some(n))
    }

    fn visit_i64<E>(self, n: i64) -> Result<bool, E> {
        self.is(u64::try_from(n).ok())
    }

    fn visit_f64<E>(self, n: f64) -> Result<bool, E> {
        self.is(super::whole_of_f64(n))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        while let Some(key) = map.next_key_seed(Key(INNER))? {
            match key.and_then(|at| self.0.get_mut(at + 1)) {
                Some(count) => {
                    *count = 0;
                    map.next_value_seed(Field(std::slice::from_mut(count)))?;
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use crate::format::Format;
    use crate::usage::{count_names, of_response, of_usage_text};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// Values of every type, among them counts.
    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<u32>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u32>().prop_map(|n| f64::from(n).into()),
            any::<f64>().prop_map(Value::from),
            Just(Value::Null),
            Just(json!(true)),
            Just(json!("7")),
            Just(json!([1, {"tokens": 2}])),
        ]
    }

    fn object(names: Vec<&'static str>) -> impl Strategy<Value = Value> {
        let names = prop::sample::select(names);
        prop::collection::vec((names, value()), 0..6).prop_map(|fields| {
            fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()
        })
    }

    fn usage(format: Format) -> impl Strategy<Value = Value> {
        let mut inner = super::INNER.to_vec();
        inner.push("other");
        let mut names = count_names(format).to_vec();
        names.push("other");
        let field = (prop::sample::select(names), prop_oneof![value(), object(inner)]);
        prop::collection::vec(field, 0..10).prop_map(|fields| {
            fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()
        })
    }

    fn check(format: Format, usage: &Value) {
        let of_document = of_response(format, &json!({"usage": usage}));
        assert_eq!(of_usage_text(format, &usage.to_string()), of_document, "{usage}");
    }

    proptest! {
        #[test]
        fn text_and_document_tell_the_same(
            chat in usage(Format::Chat),
            responses in usage(Format::Responses),
            messages in usage(Format::Messages),
        ) {
            check(Format::Chat, &chat);
            check(Format::Responses, &responses);
            check(Format::Messages, &messages);
        }
    }

    #[test]
    fn names_fit() {
        for format in [Format::Chat, Format::Responses, Format::Messages] {
            assert!(count_names(format).len() <= super::NAMES_MAX, "{format:?}");
        }
    }

    #[test]
    fn odd_texts() {
        let check = |text: &str, expected: Option<(u64, u64)>| {
            let found = of_usage_text(Format::Chat, text).map(|usage| (usage.input, usage.cache_read));
            assert_eq!(found, expected, "{text}");
        };
        check("null", None);
        check("7", None);
        check("[]", None);
        check("{", None);
        check(r#"{"prompt_tokens":null}"#, None);
        check(r#"{"prompt_tokens":3,"prompt_tokens":null}"#, None);
        check(r#"{"prompt_tokens":3,"prompt_tokens":5}"#, Some((5, 0)));
        check(r#"{"prompt\u005ftokens":3}"#, Some((3, 0)));
        check(
            r#"{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":2,"cached_tokens":4.0}}"#,
            Some((5, 4)),
        );
        check(
            r#"{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":2},"prompt_tokens_details":{}}"#,
            Some((9, 0)),
        );
        check(
            r#"{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":{"cached_tokens":2}}}"#,
            Some((9, 0)),
        );
    }
}
