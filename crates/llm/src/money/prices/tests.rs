//! Costs against worked examples, and against an oracle that knows only digits.

use super::*;
use proptest::prelude::*;

fn price(text: &str) -> UnitPrice {
    text.parse().unwrap()
}

fn rates(prices: &[(Bucket, &str)]) -> Rates {
    let mut rates = Rates::default();
    for &(bucket, text) in prices {
        rates.set(bucket, Some(price(text)));
    }
    rates
}

fn plain(prices: &[(Bucket, &str)]) -> Prices {
    Prices::new(rates(prices), None, [])
}

fn check(prices: &Prices, usage: &Usage, usd: &str, unpriced_tokens: u64) {
    let amount = usd.parse().unwrap();
    assert_eq!(
        cost(prices, usage),
        Cost {
            amount,
            unpriced_tokens
        },
        "{usage:?}"
    );
}

const TEN_OF_EACH: Usage = Usage {
    input: 10,
    cache_read: 10,
    cache_write_5m: 10,
    cache_write_1h: 10,
    input_audio: 10,
    input_image: 10,
    output: 10,
    reasoning: 10,
    output_audio: 10,
    output_image: 10,
};

#[test]
fn each_bucket_has_its_price() {
    let digits = [
        "1", "2e1", "3e2", "4e3", "5e-1", "6e-2", "7e-3", "8e-4", "9e-5", "1e-6",
    ];
    let all: Vec<_> = Bucket::ALL.into_iter().zip(digits).collect();
    check(&plain(&all), &TEN_OF_EACH, "43215.67891", 0);
}

#[test]
fn a_missing_price_is_that_of_the_parent() {
    let two = [(Bucket::Input, "1"), (Bucket::Output, "0.01")];
    check(&plain(&two), &TEN_OF_EACH, "60.4", 0);
    let written = [two[0], two[1], (Bucket::CacheWrite5m, "100")];
    check(&plain(&written), &TEN_OF_EACH, "2040.4", 0);
    check(&plain(&two[..1]), &TEN_OF_EACH, "60", 40);
    check(&plain(&two[1..]), &TEN_OF_EACH, "0.4", 60);
    check(&plain(&[(Bucket::CacheRead, "1")]), &TEN_OF_EACH, "10", 90);
    check(&Prices::default(), &TEN_OF_EACH, "0", 100);
}

#[test]
fn a_tier_holds_for_the_whole_call() {
    let base = rates(&[
        (Bucket::Input, "1"),
        (Bucket::CacheRead, "0.1"),
        (Bucket::Output, "2"),
    ]);
    let over_100 = Tier {
        above: 100,
        rates: rates(&[(Bucket::Input, "3"), (Bucket::Output, "4")]),
    };
    let over_200 = Tier {
        above: 200,
        rates: rates(&[(Bucket::Input, "5")]),
    };
    let prices = Prices::new(base, Some(price("7")), [over_200, over_100]);
    let usage = |input, cache_read, output| Usage {
        input,
        cache_read,
        output,
        ..Usage::default()
    };
    check(&prices, &usage(0, 0, 0), "7", 0);
    check(&prices, &usage(100, 0, 1), "109", 0);
    check(&prices, &usage(101, 0, 1), "314", 0);
    check(&prices, &usage(200, 0, 1), "611", 0);
    // All input tokens count for the tier; a bucket the tier does not name keeps its price.
    check(&prices, &usage(1, 200, 1), "36", 0);
    check(&prices, &usage(1, 100, 1), "24", 0);
}

#[test]
fn rounded_once_and_half_to_even() {
    let halves = plain(&[(Bucket::Input, "5e-13"), (Bucket::Output, "1e-24")]);
    let usage = |input, output| Usage {
        input,
        output,
        ..Usage::default()
    };
    for (input, output, pico) in [
        (1, 0, 0),
        (1, 1, 1),
        (2, 0, 1),
        (3, 0, 2),
        (5, 0, 2),
        (7, 0, 4),
        (4, 999, 2),
    ] {
        let amount = cost(&halves, &usage(input, output)).amount;
        assert_eq!(amount.pico_usd(), pico, "{input} {output}");
    }
    // Two halves in two buckets are one whole: nothing is rounded between.
    let split = plain(&[(Bucket::Input, "5e-13"), (Bucket::Output, "5e-13")]);
    assert_eq!(cost(&split, &usage(1, 1)).amount.pico_usd(), 1);
}

#[test]
fn a_cost_beyond_the_range_is_the_most() {
    let dear = plain(&[(Bucket::Input, "10000"), (Bucket::Output, "10000")]);
    let usage = Usage {
        input: u64::MAX,
        output: u64::MAX,
        cache_read: u64::MAX,
        ..Usage::default()
    };
    assert_eq!(cost(&dear, &usage).amount, Money::MAX);
    assert_eq!(cost_bound(&dear, u64::MAX, u64::MAX), Some(Money::MAX));
}

#[test]
fn bounds() {
    let check = |prices: &Prices, input, output, usd: Option<&str>| {
        let expected = usd.map(|usd| usd.parse().unwrap());
        assert_eq!(cost_bound(prices, input, output), expected, "{input} {output}");
    };
    let base = rates(&[
        (Bucket::Input, "1"),
        (Bucket::CacheWrite1h, "2"),
        (Bucket::Output, "5"),
    ]);
    let tier = Tier {
        above: 100,
        rates: rates(&[(Bucket::CacheWrite5m, "3"), (Bucket::Reasoning, "6")]),
    };
    let prices = Prices::new(base, Some(price("0.5")), [tier]);
    check(&prices, 100, 10, Some("250.5"));
    check(&prices, 101, 10, Some("363.5"));
    check(&plain(&[(Bucket::Input, "1e-13")]), 1, 0, Some("1e-12"));
    check(&plain(&[(Bucket::Input, "1")]), 1, 1, None);
    check(&plain(&[(Bucket::Output, "1")]), 1, 1, None);
    check(&Prices::default(), 0, 0, None);
}

/// Digits, the last first: addition and multiplication as at school.
#[derive(Clone, Debug)]
struct Digits(Vec<u8>);

impl Digits {
    fn new(text: &str) -> Self {
        Self(text.bytes().rev().map(|byte| byte - b'0').collect())
    }

    fn add(&self, other: &Self) -> Self {
        let mut sum = Vec::new();
        let mut carry = 0;
        for index in 0..self.0.len().max(other.0.len()) + 1 {
            let digit = |number: &Self| number.0.get(index).copied().unwrap_or(0);
            carry += digit(self) + digit(other);
            sum.push(carry % 10);
            carry /= 10;
        }
        Self(sum)
    }

    fn times(&self, other: &Self) -> Self {
        let mut sum = Self(Vec::new());
        for (shift, &digit) in other.0.iter().enumerate() {
            for _ in 0..digit {
                let mut shifted = vec![0; shift];
                shifted.extend(&self.0);
                sum = sum.add(&Self(shifted));
            }
        }
        sum
    }

    /// Without the last `places` digits, rounded half to even.
    fn rounded(&self, places: usize) -> i64 {
        let (gone, kept) = self.0.split_at(places.min(self.0.len()));
        let first = if gone.len() == places {
            gone.last().copied().unwrap_or(0)
        } else {
            0
        };
        let rest = gone.iter().rev().skip(1).any(|&digit| digit > 0);
        let odd = kept.first().is_some_and(|digit| digit % 2 == 1);
        let up = first > 5 || (first == 5 && (rest || odd));
        let text: String = kept.iter().rev().map(|digit| char::from(b'0' + digit)).collect();
        text.trim_start_matches('0').parse().unwrap_or(0) + i64::from(up)
    }
}

/// A price as text and as the digits of its 10⁻²⁴ parts.
fn any_price() -> impl Strategy<Value = (String, Digits)> {
    let units = prop_oneof![
        0_u128..1_000,
        0..10_u128.pow(20),
        (0_u128..1_000).prop_map(|n| n * 500_000_000_000)
    ];
    units.prop_map(|units| (format!("{units}e-24"), Digits::new(&units.to_string())))
}

fn any_usage() -> impl Strategy<Value = Usage> {
    let count = || prop_oneof![Just(0_u64), 0..50_u64, 0..400_000_u64];
    let input = (count(), count(), count(), count(), count(), count());
    (input, count(), count(), count(), count()).prop_map(
        |(input, output, reasoning, output_audio, output_image)| Usage {
            input: input.0,
            cache_read: input.1,
            cache_write_5m: input.2,
            cache_write_1h: input.3,
            input_audio: input.4,
            input_image: input.5,
            output,
            reasoning,
            output_audio,
            output_image,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn agrees_with_arithmetic_on_digits(usage in any_usage(), texts in proptest::array::uniform10(any_price()), request in any_price()) {
        let mut all = Rates::default();
        let mut sum = request.1.clone();
        for (bucket, (text, digits)) in Bucket::ALL.into_iter().zip(&texts) {
            all.set(bucket, Some(price(text)));
            sum = sum.add(&digits.times(&Digits::new(&bucket.tokens(&usage).to_string())));
        }
        let prices = Prices::new(all, Some(price(&request.0)), []);
        let expected = Cost { amount: Money::from_pico_usd(sum.rounded(12)), unpriced_tokens: 0 };
        prop_assert_eq!(cost(&prices, &usage), expected);
    }

    #[test]
    fn no_call_costs_more_than_its_bound(
        usage in any_usage(),
        base in proptest::array::uniform10(proptest::option::of(any_price())),
        tiers in proptest::collection::vec((0..900_000_u64, proptest::array::uniform10(proptest::option::of(any_price()))), 0..4),
    ) {
        let rates = |texts: &[Option<(String, Digits)>; 10]| {
            let mut rates = Rates::default();
            for (bucket, text) in Bucket::ALL.into_iter().zip(texts) {
                rates.set(bucket, text.as_ref().map(|(text, _)| price(text)));
            }
            rates
        };
        let tiers = tiers.iter().map(|(above, texts)| Tier { above: *above, rates: rates(texts) });
        let prices = Prices::new(rates(&base), None, tiers);
        let actual = cost(&prices, &usage);
        if let Some(bound) = cost_bound(&prices, usage.total_input(), usage.total_output()) {
            prop_assert!(actual.amount <= bound);
            prop_assert_eq!(actual.unpriced_tokens, 0);
        }
    }

    #[test]
    fn text_survives(pico in any::<i64>(), units in 0..10_u128.pow(28), noise in "[0-9.eE+-]{0,40}") {
        let money = Money::from_pico_usd(pico);
        prop_assert_eq!(money.to_string().parse::<Money>(), Ok(money));
        let unit = price(&format!("{units}e-24"));
        prop_assert_eq!(unit.to_string().parse::<UnitPrice>(), Ok(unit));
        prop_assert_eq!(UnitPrice::parse_per_million(&unit.per_million()), Ok(unit));
        let _ = noise.parse::<Money>();
    }
}
