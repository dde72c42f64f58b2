//! Money: exact prices in, one rounding, whole numbers out. No floating point anywhere.
//!
//! An amount is an [`i64`] of 10⁻¹² USD ([`Money`]), a price an exact decimal with 24 places
//! ([`UnitPrice`]), read as text, as it stands in a price table. The finest price in litellm's table of
//! 1.109.1 has 24 places; a price with more is refused, never rounded.
//!
//! # How the cost of a call is computed
//!
//! So that anyone can compute it again, with any decimal arithmetic:
//!
//! 1. Tokens are counted in the ten buckets of [`Usage`](crate::usage::Usage), which do not overlap.
//! 2. The *total input* is the sum of the six input buckets: `input`, `cache_read`, `cache_write_5m`,
//!    `cache_write_1h`, `input_audio`, `input_image`. A tier is *reached* if the total input is greater
//!    than its `above` (200,000 tokens do not reach `above: 200000`; 200,001 do). The price of a reached
//!    tier holds for **all** tokens of the call, not only for those above.
//! 3. The price of a bucket is that of the reached tier with the greatest `above` that names the bucket;
//!    else the base price of the bucket. Where neither names it, its parent's price holds, found by the
//!    same rule: `cache_read`, `cache_write_5m`, `input_audio`, `input_image` → `input`;
//!    `cache_write_1h` → `cache_write_5m`; `reasoning`, `output_audio`, `output_image` → `output`.
//! 4. cost = `request` (once a call, if there is such a price) + Σ tokens × price, exact, rounded **once**,
//!    at the end, half to even, to 10⁻¹² USD. Above [`Money::MAX`] it is [`Money::MAX`].
//! 5. Tokens of a bucket without a price (no `input` or no `output` price at all) cost nothing and are
//!    counted in [`Cost::unpriced_tokens`].
//!
//! Batch, flex, priority and off-peak prices, fees of tools and of regions are not in it.

mod decimal;
mod document;
mod prices;

pub use document::{PerMillion, PerToken};
pub use prices::{Bucket, Cost, Prices, Rates, Tier, cost, cost_bound};

use serde::de::{Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::num::NonZeroU128;
use std::str::FromStr;

/// An amount in 10⁻¹² USD. An `i64` holds ±9,223,372.036854775807 USD.
///
/// `Display` and serde write it as decimal USD without an exponent or needless zeros: `0.0025`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i64);

/// The decimal places of [`Money`].
const MONEY_PLACES: u32 = 12;
/// The decimal places of [`UnitPrice`].
const PRICE_PLACES: u32 = 24;
/// The highest price of one token or one call: 10,000 USD.
const PRICE_USD_MAX: u128 = 10_000;

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The most that can be expressed.
    pub const MAX: Self = Self(i64::MAX);
    /// The least that can be expressed.
    pub const MIN: Self = Self(i64::MIN);

    /// From a number of 10⁻¹² USD.
    pub const fn from_pico_usd(pico_usd: i64) -> Self {
        Self(pico_usd)
    }

    /// The number of 10⁻¹² USD.
    pub const fn pico_usd(self) -> i64 {
        self.0
    }

    /// The sum, if it can be expressed.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The difference, if it can be expressed.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(difference) => Some(Self(difference)),
            None => None,
        }
    }

    /// The sum, or the nearest that can be expressed.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, or the nearest that can be expressed.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl std::iter::Sum for Money {
    /// Saturating.
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::saturating_add)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = decimal::show(u128::from(self.0.unsigned_abs()), MONEY_PLACES);
        formatter.pad_integral(self.0 >= 0, "", &text)
    }
}

impl FromStr for Money {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let pico_usd = i128::try_from(decimal::parse(digits, MONEY_PLACES)?).unwrap_or(i128::MAX);
        let signed = if negative { -pico_usd } else { pico_usd };
        i64::try_from(signed).map(Self).map_err(|_| MoneyError::TooLarge)
    }
}

/// What one token, or one call, costs: an exact decimal of at most 24 places, up to 10,000 USD.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
// Plus one, so that an `Option` of it is no larger: a catalogue holds ten for each model.
pub struct UnitPrice(NonZeroU128);

impl UnitPrice {
    /// Free.
    pub const ZERO: Self = Self(NonZeroU128::MIN);

    /// From USD per million tokens, the unit in which providers publish: at most 18 places.
    pub fn parse_per_million(text: &str) -> Result<Self, MoneyError> {
        Self::new(decimal::parse(text, PRICE_PLACES - 6)?)
    }

    /// USD per million tokens, as text.
    pub fn per_million(self) -> String {
        decimal::show(self.units(), PRICE_PLACES - 6)
    }

    /// The number of 10⁻²⁴ USD.
    pub const fn units(self) -> u128 {
        self.0.get() - 1
    }

    fn new(units: u128) -> Result<Self, MoneyError> {
        if units > PRICE_USD_MAX * 10_u128.pow(PRICE_PLACES) {
            return Err(MoneyError::TooLarge);
        }
        Ok(Self(NonZeroU128::MIN.saturating_add(units)))
    }
}

impl fmt::Display for UnitPrice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&decimal::show(self.units(), PRICE_PLACES))
    }
}

impl fmt::Debug for UnitPrice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "UnitPrice({self})")
    }
}

impl FromStr for UnitPrice {
    type Err = MoneyError;

    /// From USD: `0.0000025`, `2.5e-06`.
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        Self::new(decimal::parse(text, PRICE_PLACES)?)
    }
}

/// Why a text is no amount or price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not a decimal number.
    #[error(
        "expected a decimal number in USD, such as \"0.25\" or \"2.5e-06\", without a sign or a currency"
    )]
    NotDecimal,
    /// It has more decimal places than are kept.
    #[error("has more than {places} decimal places, and money is not rounded here")]
    TooFine {
        /// How many are kept.
        places: u32,
    },
    /// It is too large.
    #[error("is too large: amounts go up to 9,223,372 USD, prices of one token or call up to 10,000 USD")]
    TooLarge,
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DecimalVisitor(str::parse))
    }
}

impl Serialize for UnitPrice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UnitPrice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DecimalVisitor(str::parse))
    }
}

/// Reads a decimal from text, or from a number that text readers cannot have changed.
struct DecimalVisitor<T>(fn(&str) -> Result<T, MoneyError>);

/// A decimal of this many digits survives the way through an `f64` unchanged.
const SAFE_F64_DIGITS: usize = f64::DIGITS as usize;

impl<T> Visitor<'_> for DecimalVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a decimal number in quotes, such as \"2.50\"")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(|error| E::custom(format_args!("`{}` {error}", decimal::excerpt(text))))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    /// serde's readers give numbers with a point as `f64`. Its shortest text is the number that was
    /// written if that had few enough digits; else it is refused, as what was written is lost.
    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<T, E> {
        let text = format!("{number:e}");
        let mantissa = text.split('e').next().unwrap_or_default();
        if mantissa.bytes().filter(u8::is_ascii_digit).count() > SAFE_F64_DIGITS {
            return Err(E::invalid_value(Unexpected::Float(number), &self));
        }
        self.visit_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(i64, &str), MoneyError>) {
        let parsed = text.parse::<Money>();
        let shown = parsed.map(|money| (money.pico_usd(), money.to_string()));
        assert_eq!(
            shown,
            expected.map(|(pico, shown)| (pico, shown.to_owned())),
            "{text}"
        );
    }

    #[test]
    fn amounts() {
        check("0", Ok((0, "0")));
        check("-0", Ok((0, "0")));
        check("1", Ok((1_000_000_000_000, "1")));
        check("0.0025", Ok((2_500_000_000, "0.0025")));
        check("-12.50", Ok((-12_500_000_000_000, "-12.5")));
        check("1e-12", Ok((1, "0.000000000001")));
        check("25E2", Ok((2_500_000_000_000_000, "2500")));
        check("1.0000000000000", Ok((1_000_000_000_000, "1")));
        check("9223372.036854775807", Ok((i64::MAX, "9223372.036854775807")));
        check("-9223372.036854775808", Ok((i64::MIN, "-9223372.036854775808")));
        check("9223372.036854775808", Err(MoneyError::TooLarge));
        check("1e400", Err(MoneyError::TooLarge));
        check("0e999999999", Ok((0, "0")));
        check("1e-13", Err(MoneyError::TooFine { places: 12 }));
        check("1e-99999999999999999999", Err(MoneyError::NotDecimal));
        for text in [
            "", "-", "+1", "$1", "1,5", ".", "1.", ".5", "1e", "e1", "--1", "1 ", "NaN", "0x1", "1_0", "١",
        ] {
            check(text, Err(MoneyError::NotDecimal));
        }
    }

    #[test]
    fn sums_stay_in_range() {
        let one = Money::from_pico_usd(1);
        assert_eq!(Money::MAX.checked_add(one), None);
        assert_eq!(Money::MIN.checked_sub(one), None);
        assert_eq!(Money::MAX.saturating_add(one), Money::MAX);
        assert_eq!(Money::MIN.saturating_sub(one), Money::MIN);
        assert_eq!([one, Money::MAX, one].into_iter().sum::<Money>(), Money::MAX);
        assert_eq!(
            format!("{:>8}|{:<5}|", one.saturating_sub(one), Money::ZERO),
            "       0|0    |"
        );
    }

    #[test]
    fn prices_are_exact() {
        let finest: UnitPrice = "2.9999900000000002e-06".parse().unwrap();
        assert_eq!(finest.to_string(), "0.0000029999900000000002");
        assert_eq!(finest.per_million(), "2.9999900000000002");
        assert_eq!(
            UnitPrice::parse_per_million("2.50").unwrap(),
            "2.5e-06".parse().unwrap()
        );
        assert_eq!("1e-24".parse::<UnitPrice>().unwrap().units(), 1);
        assert_eq!(
            "1e-25".parse::<UnitPrice>(),
            Err(MoneyError::TooFine { places: 24 })
        );
        assert_eq!("10000.000001".parse::<UnitPrice>(), Err(MoneyError::TooLarge));
        assert_eq!("-1".parse::<UnitPrice>(), Err(MoneyError::NotDecimal));
        assert_eq!(size_of::<Option<UnitPrice>>(), size_of::<u128>());
    }

    #[test]
    fn documents() {
        let read = |text: &str| serde_json::from_str::<Money>(text).map_err(|error| error.to_string());
        assert_eq!(read("\"0.1\""), Ok(Money::from_pico_usd(100_000_000_000)));
        assert_eq!(read("0.1"), read("\"0.1\""));
        assert_eq!(read("-3"), read("\"-3\""));
        assert_eq!(read("2.5e-06"), read("\"0.0000025\""));
        assert_eq!(
            serde_json::to_string(&read("2.5e-6").unwrap()).unwrap(),
            "\"0.0000025\""
        );
        // Seventeen digits: an f64 has not kept them for sure.
        assert!(read("0.12345678901234567").unwrap_err().contains("in quotes"));
        assert!(
            read("\"1 USD\"")
                .unwrap_err()
                .starts_with("`1 USD` expected a decimal number")
        );
        assert!(
            read("true")
                .unwrap_err()
                .contains("expected a decimal number in quotes")
        );
        let long = format!("\"{}\"", "é".repeat(500));
        assert!(read(&long).unwrap_err().len() < 250);
    }
}
