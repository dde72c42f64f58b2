//! What a provider's error means: for the key that was used, for the next attempt, and for the client.

use super::pool::KeyTrouble;
use crate::refusal::Refusal;
use hyper::http::{HeaderMap, StatusCode};
use llm::error::{ErrorAnswer, read_error};
use policy::secret::Secret;
use serde_json::Value;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use store::outcome::Outcome;

/// What to do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another key of the same provider, else another target.
    OtherKey(KeyTrouble),
    /// Another target; the provider is ill.
    OtherTarget,
    /// Another target if there is one; the provider is well, the model is not there.
    NotHere,
    /// Nothing would help: the request itself is at fault.
    GiveUp,
}

/// An error answer of a provider, understood.
#[derive(Debug)]
pub struct Trouble {
    /// What to do.
    pub next: Next,
    /// What the client is told if nothing is left to do.
    pub refusal: Refusal,
}

/// Understands an error answer. `key` is kept out of what the client is told.
pub fn of_answer(status: StatusCode, headers: &HeaderMap, body: &[u8], key: Option<&Secret>) -> Trouble {
    let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let mut error = read_error(status.as_u16(), &body);
    if let Some(key) = key {
        error.message = hide(&error.message, key.expose());
    }
    of_error(error, retry_after_ms(headers))
}

/// Understands an error, from an answer or from a stream.
pub fn of_error(error: ErrorAnswer, retry_after_ms: Option<u64>) -> Trouble {
    let says = |words: &[&str]| {
        let text = format!("{} {}", error.code.as_deref().unwrap_or(""), error.message).to_lowercase();
        words.iter().any(|word| text.contains(word))
    };
    let (next, outcome, status, code) = match error.status {
        401 | 403 => (
            Next::OtherKey(KeyTrouble::Expired),
            Outcome::ProviderAuth,
            StatusCode::BAD_GATEWAY,
            "provider_credentials",
        ),
        402 => (
            Next::OtherKey(KeyTrouble::Exhausted),
            Outcome::ProviderAuth,
            StatusCode::BAD_GATEWAY,
            "provider_quota",
        ),
        429 if says(&[
            "insufficient_quota",
            "billing",
            "exceeded your current quota",
            "credit balance",
        ]) =>
        {
            (
                Next::OtherKey(KeyTrouble::Exhausted),
                Outcome::ProviderRateLimited,
                StatusCode::TOO_MANY_REQUESTS,
                "provider_quota",
            )
        }
        429 => (
            Next::OtherKey(KeyTrouble::Limited { retry_after_ms }),
            Outcome::ProviderRateLimited,
            StatusCode::TOO_MANY_REQUESTS,
            "provider_rate_limit",
        ),
        404 => (
            Next::NotHere,
            Outcome::ProviderError,
            StatusCode::NOT_FOUND,
            "provider_not_found",
        ),
        408 | 504 => (
            Next::OtherTarget,
            Outcome::ProviderTimeout,
            StatusCode::GATEWAY_TIMEOUT,
            "provider_timeout",
        ),
        503 | 529 => (
            Next::OtherTarget,
            Outcome::ProviderError,
            StatusCode::SERVICE_UNAVAILABLE,
            "provider_overloaded",
        ),
        // Providers say with 400, too, that a key is bad; Google does.
        400 if says(&["api key not valid", "api_key_invalid"]) => (
            Next::OtherKey(KeyTrouble::Expired),
            Outcome::ProviderAuth,
            StatusCode::BAD_GATEWAY,
            "provider_credentials",
        ),
        status @ 400..500 => (
            Next::GiveUp,
            Outcome::ClientError,
            StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST),
            "invalid_request",
        ),
        _ => (
            Next::OtherTarget,
            Outcome::ProviderError,
            StatusCode::BAD_GATEWAY,
            "provider_error",
        ),
    };
    let message = if outcome == Outcome::ProviderAuth {
        // What a provider says of a key may hold a part of it.
        "the provider does not accept the gateway's credentials; its operator has to renew them".to_owned()
    } else {
        error.message
    };
    Trouble {
        next,
        refusal: Refusal {
            outcome,
            status,
            message,
            code,
            param: error.param,
            retry_after_s: retry_after_ms.map(|ms| ms.div_ceil(1000)),
        },
    }
}

/// `Retry-After` in seconds, or OpenAI's `retry-after-ms`.
fn retry_after_ms(headers: &HeaderMap) -> Option<u64> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let ms = number("retry-after-ms").or_else(|| number("retry-after").map(|seconds| seconds * 1000.0))?;
    (ms.is_finite() && (0.0..1e9).contains(&ms)).then_some(ms as u64)
}

/// A text without a key: neither whole nor by its first or last eight characters.
fn hide(text: &str, key: &str) -> String {
    let mut text = text.replace(key, "[key]");
    let n_chars = key.chars().count();
    if n_chars >= 16 {
        let first: String = key.chars().take(8).collect();
        let last: String = key.chars().skip(n_chars - 8).collect();
        text = text.replace(&first, "[key]").replace(&last, "[key]");
    }
    text
}

/// Retries that all requests together may make: a fifth of what comes in, and some to begin with, so
/// that a provider that is down is not struck by a multiple of the load.
#[derive(Debug)]
pub struct RetryBudget {
    /// In fifths of a retry.
    credit: AtomicI64,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            credit: AtomicI64::new(Self::MAX),
        }
    }
}

impl RetryBudget {
    /// A hundred retries.
    const MAX: i64 = 500;

    /// A request came in.
    pub fn earn(&self) {
        if self.credit.load(Relaxed) < Self::MAX {
            self.credit.fetch_add(1, Relaxed);
        }
    }

    /// May one be made?
    pub fn spend(&self) -> bool {
        let had = self.credit.fetch_sub(5, Relaxed);
        if had < 5 {
            self.credit.fetch_add(5, Relaxed);
        }
        had >= 5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_understood() {
        let check =
            |status: u16, headers: &[(&'static str, &str)], body: &str, expected: (Next, Outcome, u16)| {
                let mut map = HeaderMap::new();
                for (name, value) in headers {
                    map.insert(*name, value.parse().unwrap());
                }
                let key = Secret::new("sk-live-0123456789abcdef");
                let status = StatusCode::from_u16(status).unwrap();
                let got = of_answer(status, &map, body.as_bytes(), Some(&key));
                let refusal = &got.refusal;
                assert_eq!(
                    (got.next, refusal.outcome, refusal.status.as_u16()),
                    expected,
                    "{status} {body}"
                );
                assert!(!refusal.message.contains("89abcdef"), "{}", refusal.message);
                assert!(!refusal.message.contains("sk-live-"), "{}", refusal.message);
            };
        let limited = |retry_after_ms| Next::OtherKey(KeyTrouble::Limited { retry_after_ms });
        let key = r#"{"error":{"message":"Incorrect API key provided: sk-live-********89abcdef."}}"#;
        check(
            401,
            &[],
            key,
            (Next::OtherKey(KeyTrouble::Expired), Outcome::ProviderAuth, 502),
        );
        check(400, &[], key, (Next::GiveUp, Outcome::ClientError, 400));
        check(
            402,
            &[],
            "",
            (Next::OtherKey(KeyTrouble::Exhausted), Outcome::ProviderAuth, 502),
        );
        check(
            429,
            &[("retry-after", "2")],
            "{}",
            (limited(Some(2000)), Outcome::ProviderRateLimited, 429),
        );
        check(
            429,
            &[("retry-after-ms", "150")],
            "{}",
            (limited(Some(150)), Outcome::ProviderRateLimited, 429),
        );
        check(
            429,
            &[("retry-after", "soon")],
            "x",
            (limited(None), Outcome::ProviderRateLimited, 429),
        );
        check(
            429,
            &[],
            r#"{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}"#,
            (
                Next::OtherKey(KeyTrouble::Exhausted),
                Outcome::ProviderRateLimited,
                429,
            ),
        );
        check(404, &[], "{}", (Next::NotHere, Outcome::ProviderError, 404));
        check(
            500,
            &[],
            "<html>",
            (Next::OtherTarget, Outcome::ProviderError, 502),
        );
        check(529, &[], "{}", (Next::OtherTarget, Outcome::ProviderError, 503));
        check(504, &[], "{}", (Next::OtherTarget, Outcome::ProviderTimeout, 504));
        check(422, &[], "{}", (Next::GiveUp, Outcome::ClientError, 422));
    }

    #[test]
    fn retries_are_a_share_of_requests() {
        let budget = RetryBudget::default();
        assert_eq!((0..1000).filter(|_| budget.spend()).count(), 100);
        for _ in 0..50 {
            budget.earn();
        }
        assert_eq!((0..1000).filter(|_| budget.spend()).count(), 10);
    }
}
