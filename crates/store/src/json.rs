//! Forms of numbers in JSON: money as text, since a sum has more digits than other readers' numbers.

use llm::usage::Usage;
use serde::{Serialize, Serializer};

/// 10^-12 USD as US dollars, exactly: `0.000123`.
pub fn usd_text(pusd: i128) -> String {
    const ONE: u128 = 1_000_000_000_000;
    let sign = if pusd < 0 { "-" } else { "" };
    let (whole, part) = (pusd.unsigned_abs() / ONE, pusd.unsigned_abs() % ONE);
    let part = format!("{part:012}");
    let part = part.trim_end_matches('0');
    if part.is_empty() {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{part}")
    }
}

/// A sum of money.
pub(crate) fn sum<S: Serializer>(pusd: &i128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&usd_text(*pusd))
}

/// An amount of money.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
pub(crate) fn amount<S: Serializer>(pusd: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&usd_text(i128::from(*pusd)))
}

/// A sum of money that is never negative.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
pub(crate) fn count<S: Serializer>(pusd: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&usd_text(i128::from(*pusd)))
}

#[derive(Serialize)]
struct Tokens {
    input: u64,
    cache_read: u64,
    cache_write_5m: u64,
    cache_write_1h: u64,
    input_audio: u64,
    input_image: u64,
    output: u64,
    reasoning: u64,
    output_audio: u64,
    output_image: u64,
}

/// Tokens by bucket, all of them.
pub(crate) fn usage<S: Serializer>(usage: &Usage, serializer: S) -> Result<S::Ok, S::Error> {
    let tokens = Tokens {
        input: usage.input,
        cache_read: usage.cache_read,
        cache_write_5m: usage.cache_write_5m,
        cache_write_1h: usage.cache_write_1h,
        input_audio: usage.input_audio,
        input_image: usage.input_image,
        output: usage.output,
        reasoning: usage.reasoning,
        output_audio: usage.output_audio,
        output_image: usage.output_image,
    };
    tokens.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_exact_text() {
        let check = |pusd: i128, expected: &str| assert_eq!(usd_text(pusd), expected);
        check(0, "0");
        check(1, "0.000000000001");
        check(-1_500_000_000_000, "-1.5");
        check(123_000_000, "0.000123");
        check(i128::from(i64::MAX), "9223372.036854775807");
        check(i128::from(i64::MAX) * 1_000_000_000, "9223372036854775.807");
    }
}
