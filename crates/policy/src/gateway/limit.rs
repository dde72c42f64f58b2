//! Limits and budgets, checked.

use super::compile::Faults;
use super::document;
pub use super::document::{Per, Period};

/// So much of something in a time, counted apart for each subject that `per` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The same as long as owner, kind, amount and `per` are: counts outlive a change of configuration.
    pub id: u64,
    /// Of what.
    pub kind: LimitKind,
    /// How much in `window_ns`; of concurrency, at once.
    pub amount: u64,
    /// In how long; 0 for concurrency.
    pub window_ns: u64,
    /// How much may come at once.
    pub burst: u64,
    /// Whose.
    pub per: Per,
    /// As it was written, for messages: `100 requests/s per key`.
    pub text: String,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitKind {
    /// Requests.
    Requests,
    /// Tokens of prompts and answers.
    Tokens,
    /// Requests that are open.
    Concurrency,
}

/// Reads the limits of one owner, such as `consumer/bench`.
pub(super) fn read(
    limits: &[document::Limit],
    owner: &str,
    default_per: Per,
    path: &str,
    faults: &mut Faults,
) -> Vec<Limit> {
    let mut out = Vec::new();
    for (idx, limit) in limits.iter().enumerate() {
        let path = format!("{path}[{idx}]");
        let per = limit.per.unwrap_or(default_per);
        let before = out.len();
        let rates = [
            (LimitKind::Requests, "requests", &limit.requests),
            (LimitKind::Tokens, "tokens", &limit.tokens),
        ];
        for (kind, name, text) in rates {
            let Some(text) = text else { continue };
            let Some((amount, window_ns)) = rate(text) else {
                faults.add(
                    format!("{path}.{name}"),
                    format!("expected an amount in a time, as 100/s, 1000/m, 10k/h or 1M/d, found `{text}`"),
                );
                continue;
            };
            let burst = limit.burst.map_or(amount, u64::from);
            out.push(Limit::new(owner, kind, amount, window_ns, burst, per));
        }
        if let Some(n) = limit.concurrency {
            out.push(Limit::new(
                owner,
                LimitKind::Concurrency,
                n.into(),
                0,
                n.into(),
                per,
            ));
        }
        if out.len() == before && limit.requests.is_none() && limit.tokens.is_none() {
            faults.add(
                path,
                "expected at least one of requests, tokens, concurrency".to_owned(),
            );
        }
    }
    out
}

impl Limit {
    fn new(owner: &str, kind: LimitKind, amount: u64, window_ns: u64, burst: u64, per: Per) -> Self {
        let unit = match window_ns {
            1_000_000_000 => "/s",
            60_000_000_000 => "/min",
            3_600_000_000_000 => "/h",
            86_400_000_000_000 => "/d",
            _ => "",
        };
        let what = match kind {
            LimitKind::Requests => "requests",
            LimitKind::Tokens => "tokens",
            LimitKind::Concurrency => "requests at once",
        };
        let whose = format!("{per:?}").to_lowercase();
        let text = format!("{amount} {what}{unit} per {whose}");
        Self {
            id: fnv(&format!("{owner} {burst} {text}")),
            kind,
            amount,
            window_ns,
            burst,
            per,
            text,
        }
    }
}

/// FNV-1a, 64 bits: names that stay the same from one run to the next, no defence against anybody.
pub(super) fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// `100/s` as an amount and nanoseconds.
fn rate(text: &str) -> Option<(u64, u64)> {
    let (amount, unit) = text.split_once('/')?;
    let (digits, factor) = match amount.trim().as_bytes().last()? {
        b'k' | b'K' => (&amount.trim()[..amount.trim().len() - 1], 1_000),
        b'M' => (&amount.trim()[..amount.trim().len() - 1], 1_000_000),
        _ => (amount.trim(), 1),
    };
    let amount = digits.parse::<u64>().ok()?.checked_mul(factor)?;
    let window_s = match unit.trim() {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    (amount > 0 && amount <= u64::from(u32::MAX) * 1000).then_some((amount, window_s * 1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let check = |text: &str, expected: Option<(u64, u64)>| {
            assert_eq!(
                rate(text),
                expected.map(|(n, s)| (n, s * 1_000_000_000)),
                "{text}"
            );
        };
        check("100/s", Some((100, 1)));
        check("10k/h", Some((10_000, 3600)));
        check("1M/d", Some((1_000_000, 86_400)));
        check("5 / min", Some((5, 60)));
        for bad in [
            "",
            "100",
            "0/s",
            "-1/s",
            "1/y",
            "k/s",
            "1.5/s",
            "99999999999999999999/s",
            "é/s",
        ] {
            check(bad, None);
        }
    }
}
