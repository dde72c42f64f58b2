//! Who may call: keys with behaviours, where each wire carries its key, and the rate limit of a key.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::HeaderMap;

use super::errors::Refusal;
use super::route::{Provider, percent_decoded};

/// `sk-sim`, or `sk-empty=429` for a key that is always refused with that status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) status: Option<u16>,
}

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (text, status) = match text.rsplit_once('=') {
            None => (text, None),
            Some((text, status)) => {
                let status = status.parse().ok().filter(|status| (400..600).contains(status));
                (
                    text,
                    Some(status.ok_or("expected KEY or KEY=STATUS with a status from 400 to 599")?),
                )
            }
        };
        if text.is_empty() {
            return Err("expected KEY or KEY=STATUS, the key is empty".to_owned());
        }
        Ok(Key {
            text: text.to_owned(),
            status,
        })
    }
}

/// The key that a request carries, in the places where this provider looks.
pub(crate) fn carried(provider: Provider, headers: &HeaderMap, query: &str) -> Option<String> {
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let bearer = || {
        let value = header("authorization")?;
        let (scheme, key) = value.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then(|| key.trim().to_owned())
    };
    let in_query = || {
        let pair = query.split('&').find_map(|pair| pair.strip_prefix("key="))?;
        Some(percent_decoded(pair))
    };
    match provider {
        Provider::OpenAi | Provider::Vertex | Provider::Bedrock | Provider::Cohere => bearer(),
        Provider::Azure => header("api-key").or_else(bearer),
        Provider::Anthropic => header("x-api-key").or_else(bearer),
        Provider::Gemini => header("x-goog-api-key").or_else(in_query),
    }
}

/// The key's name, when it is one of those that are let in.
pub(crate) fn check(keys: &[Key], carried: Option<&str>) -> Result<String, Refusal> {
    let Some(carried) = carried.filter(|key| !key.is_empty()) else {
        return Err(Refusal::NoKey);
    };
    match keys.iter().find(|key| key.text == carried) {
        None => Err(Refusal::WrongKey(carried.to_owned())),
        Some(Key {
            status: Some(status), ..
        }) => Err(Refusal::Status(*status)),
        Some(key) => Ok(key.text.clone()),
    }
}

/// Requests per minute of each key, in windows that begin with a key's first request.
#[derive(Debug)]
pub(crate) struct Rate {
    pub(crate) per_minute: u64,
    windows: Mutex<HashMap<String, (Instant, u64)>>,
}

const WINDOW: Duration = Duration::from_secs(60);

/// Where a key stands in its window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
    pub(crate) reset: Duration,
    pub(crate) is_over: bool,
}

impl Rate {
    pub(crate) fn new(per_minute: u64) -> Self {
        Rate {
            per_minute,
            windows: Mutex::default(),
        }
    }

    /// Counts one request. The number of keys is that of the command line.
    pub(crate) fn take(&self, key: &str, now: Instant) -> Standing {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, used) = windows.entry(key.to_owned()).or_insert((now, 0));
        if now.duration_since(*start) >= WINDOW {
            (*start, *used) = (now, 0);
        }
        *used += 1;
        Standing {
            limit: self.per_minute,
            remaining: self.per_minute.saturating_sub(*used),
            reset: WINDOW.saturating_sub(now.duration_since(*start)),
            is_over: *used > self.per_minute,
        }
    }
}

impl Standing {
    pub(crate) fn retry_after_s(&self) -> u64 {
        self.reset.as_secs().max(1)
    }

    /// The headers by which this provider tells a key's standing.
    pub(crate) fn headers(&self, provider: Provider) -> Vec<(&'static str, String)> {
        let seconds = format!("{}s", self.reset.as_secs());
        match provider {
            Provider::OpenAi | Provider::Azure => vec![
                ("x-ratelimit-limit-requests", self.limit.to_string()),
                ("x-ratelimit-remaining-requests", self.remaining.to_string()),
                ("x-ratelimit-reset-requests", seconds),
            ],
            Provider::Anthropic => vec![
                ("anthropic-ratelimit-requests-limit", self.limit.to_string()),
                (
                    "anthropic-ratelimit-requests-remaining",
                    self.remaining.to_string(),
                ),
                (
                    "anthropic-ratelimit-requests-reset",
                    (jiff::Timestamp::now() + self.reset)
                        .strftime("%Y-%m-%dT%H:%M:%SZ")
                        .to_string(),
                ),
            ],
            Provider::Cohere => vec![
                ("x-trial-endpoint-call-limit", self.limit.to_string()),
                ("x-trial-endpoint-call-remaining", self.remaining.to_string()),
            ],
            // Google and Amazon tell it only in the error.
            Provider::Gemini | Provider::Vertex | Provider::Bedrock => Vec::new(),
        }
    }
}
