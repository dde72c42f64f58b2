//! Prices as documents: an object with a price for each bucket, and the tiers.
//!
//! `{"input": "2.50", "output": "10", "tiers": [{"above": 200000, "input": "5"}]}`

use super::{Bucket, DecimalVisitor, MoneyError, Prices, Rates, Tier, UnitPrice};
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// More tiers than any provider has; the longest list known has four.
const TIERS_MAX: usize = 16;

/// Prices written in USD per token, as price tables have them; `request` is USD per request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PerToken(pub Prices);

/// Prices written in USD per million tokens, as providers publish them. Without `request`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PerMillion(pub Prices);

impl<'de> Deserialize<'de> for PerToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Object {
            parse: str::parse,
            is_tier: false,
            has_request: true,
        };
        deserializer
            .deserialize_map(object)
            .map(|read| Self(read.into_prices()))
    }
}

impl<'de> Deserialize<'de> for PerMillion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Object {
            parse: UnitPrice::parse_per_million,
            is_tier: false,
            has_request: false,
        };
        deserializer
            .deserialize_map(object)
            .map(|read| Self(read.into_prices()))
    }
}

impl Serialize for PerMillion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        rates_to(&mut map, self.0.rates())?;
        if !self.0.tiers().is_empty() {
            map.serialize_entry("tiers", &Tiers(self.0.tiers()))?;
        }
        map.end()
    }
}

fn rates_to<M: SerializeMap>(map: &mut M, rates: &Rates) -> Result<(), M::Error> {
    for bucket in Bucket::ALL {
        if let Some(price) = rates.get(bucket) {
            map.serialize_entry(bucket.name(), &price.per_million())?;
        }
    }
    Ok(())
}

struct Tiers<'a>(&'a [Tier]);

impl Serialize for Tiers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for tier in self.0 {
            list.serialize_element(&OneTier(tier))?;
        }
        list.end()
    }
}

struct OneTier<'a>(&'a Tier);

impl Serialize for OneTier<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("above", &self.0.above)?;
        rates_to(&mut map, &self.0.rates)?;
        map.end()
    }
}

/// How an object of prices is read. By hand, so that an error names the field it is in.
#[derive(Clone, Copy)]
struct Object {
    parse: fn(&str) -> Result<UnitPrice, MoneyError>,
    is_tier: bool,
    has_request: bool,
}

#[derive(Default)]
struct Read {
    rates: Rates,
    request: Option<UnitPrice>,
    tiers: Vec<Tier>,
    above: Option<u64>,
}

impl Read {
    fn into_prices(self) -> Prices {
        Prices::new(self.rates, self.request, self.tiers)
    }
}

impl<'de> Visitor<'de> for Object {
    type Value = Read;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of prices, such as {\"input\": \"2.50\", \"output\": \"10\"}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Read, A::Error> {
        let mut read = Read::default();
        while let Some(key) = map.next_key::<String>()? {
            let named = |error: A::Error| A::Error::custom(format_args!("{key}: {error}"));
            let price = Price(self.parse);
            if let Some(bucket) = Bucket::ALL.into_iter().find(|bucket| bucket.name() == key) {
                if read.rates.get(bucket).is_some() {
                    return Err(named(A::Error::custom("is there twice")));
                }
                read.rates
                    .set(bucket, Some(map.next_value_seed(price).map_err(named)?));
                continue;
            }
            match key.as_str() {
                "request" if self.has_request => {
                    read.request = Some(map.next_value_seed(Price(str::parse)).map_err(named)?);
                }
                "above" if self.is_tier => read.above = Some(map.next_value().map_err(named)?),
                "tiers" if !self.is_tier => read.tiers = map.next_value_seed(List(self)).map_err(named)?,
                _ => return Err(A::Error::custom(self.unknown(&key))),
            }
        }
        if self.is_tier && read.above.is_none() {
            return Err(A::Error::custom(
                "above: expected the number of input tokens above which the tier holds",
            ));
        }
        Ok(read)
    }
}

impl Object {
    fn unknown(self, key: &str) -> String {
        let mut known = Bucket::ALL.map(Bucket::name).join(", ");
        known.push_str(if self.is_tier { ", above" } else { ", tiers" });
        if self.has_request {
            known.push_str(", request");
        }
        format!(
            "{}: unknown; expected one of {known}",
            super::decimal::excerpt(key)
        )
    }
}

struct Price(fn(&str) -> Result<UnitPrice, MoneyError>);

impl<'de> DeserializeSeed<'de> for Price {
    type Value = UnitPrice;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<UnitPrice, D::Error> {
        deserializer.deserialize_any(DecimalVisitor(self.0))
    }
}

/// A list of tiers, each an object.
struct List(Object);

impl<'de> DeserializeSeed<'de> for List {
    type Value = Vec<Tier>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Tier>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List {
    type Value = Vec<Tier>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of tiers, such as [{\"above\": 200000, \"input\": \"5\"}]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Tier>, A::Error> {
        let mut tiers: Vec<Tier> = Vec::new();
        while let Some(tier) = list.next_element_seed(TierSeed(self.0))? {
            if tiers.len() == TIERS_MAX {
                return Err(A::Error::custom(format_args!(
                    "expected at most {TIERS_MAX} tiers"
                )));
            }
            if tiers.iter().any(|known| known.above == tier.above) {
                return Err(A::Error::custom(format_args!(
                    "above: {} is there twice",
                    tier.above
                )));
            }
            tiers.push(tier);
        }
        Ok(tiers)
    }
}

struct TierSeed(Object);

impl<'de> DeserializeSeed<'de> for TierSeed {
    type Value = Tier;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tier, D::Error> {
        let object = Object {
            is_tier: true,
            has_request: false,
            ..self.0
        };
        let read = deserializer.deserialize_map(object)?;
        Ok(Tier {
            above: read.above.unwrap_or_default(),
            rates: read.rates,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_units() {
        let million: PerMillion =
            serde_json::from_str(r#"{"input":"2.50","output":10,"tiers":[{"above":200000,"input":0.0005}]}"#)
                .unwrap();
        let token: PerToken = serde_json::from_str(
            r#"{"input":"2.5e-06","output":"0.00001","tiers":[{"input":5e-10,"above":200000}]}"#,
        )
        .unwrap();
        assert_eq!(million.0, token.0);
        let shown = serde_json::to_value(&million).unwrap();
        let expected =
            json!({"input": "2.5", "output": "10", "tiers": [{"above": 200000, "input": "0.0005"}]});
        assert_eq!(shown, expected);
        assert_eq!(serde_json::from_value::<PerMillion>(shown).unwrap(), million);
    }

    fn check(document: serde_json::Value, expected: &str) {
        let error = serde_json::from_value::<PerMillion>(document)
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn errors_name_the_field() {
        check(
            json!({"input": "2,5"}),
            "input: `2,5` expected a decimal number in USD",
        );
        check(
            json!({"cache_read": null}),
            "cache_read: invalid type: null, expected a decimal number in quotes",
        );
        check(json!({"output": -1}), "output: `-1` expected");
        check(
            json!({"input": "1e-19"}),
            "input: `1e-19` has more than 18 decimal places",
        );
        check(
            json!({"cached": "1"}),
            "cached: unknown; expected one of input, cache_read",
        );
        check(json!({"request": "1"}), "request: unknown");
        check(json!({"tiers": [{"input": "1"}]}), "tiers: above: expected");
        check(
            json!({"tiers": [{"above": 5, "output": "x"}]}),
            "tiers: output: `x` expected",
        );
        check(
            json!({"tiers": [{"above": 5}, {"above": 5}]}),
            "tiers: above: 5 is there twice",
        );
        check(
            json!({"tiers": (0..17).map(|above| json!({"above": above})).collect::<Vec<_>>()}),
            "at most 16",
        );
        check(json!("2.50"), "expected an object of prices");
    }
}
