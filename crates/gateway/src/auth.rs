//! Who asks: a key, wherever a client puts it, becomes a consumer.
//!
//! Keys arrive as `Authorization: Bearer`, `x-api-key`, `x-goog-api-key`, `api-key` or `?key=`, and are
//! taken out of the request before anything else sees it. They are looked up by keyed hash; no slow hash
//! is needed for keys of 256 random bits. Failures are limited per source, so that keys cannot be tried.

use crate::live::{Live, Shared};
use crate::refusal::Refusal;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::http::{StatusCode, Uri};
use policy::gateway::snapshot::Consumer;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use store::outcome::Outcome;

/// Failures that a source may have in [`WINDOW_MS`]; beyond, its wrong keys are not even looked up.
const FAILURES_MAX: u32 = 50;
const WINDOW_MS: u64 = 60_000;
/// Sources whose failures are counted.
const SOURCES_MAX: usize = 65_536;
/// The longest key.
const KEY_MAX_BYTES: usize = 1024;

/// Headers that hold a key as it is.
const KEY_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("api-key"),
];

/// Who asks.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The consumer.
    pub consumer: Arc<Consumer>,
    /// The id of its key; never the key.
    pub key_id: Arc<str>,
}

impl Principal {
    /// Somebody who need not show who they are.
    pub fn anybody() -> Self {
        static ANYBODY: std::sync::LazyLock<Principal> = std::sync::LazyLock::new(|| Principal {
            consumer: Arc::new(Consumer::anybody()),
            key_id: Arc::from(""),
        });
        ANYBODY.clone()
    }
}

/// Failures of sources.
#[derive(Debug, Default)]
pub struct Failures {
    sources: Mutex<HashMap<IpAddr, (u32, u64)>>,
    uncounted: AtomicU64,
}

impl Failures {
    /// Refuses a source that has failed too often.
    pub(crate) fn check(&self, source: IpAddr) -> Result<(), Refusal> {
        self.blocked(source, crate::clock::unix_ms())
            .map_or(Ok(()), |wait_s| Err(too_many(wait_s)))
    }

    /// Seconds to wait, if this source has failed too often.
    fn blocked(&self, source: IpAddr, now_ms: u64) -> Option<u64> {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let (n, since_ms) = sources.get(&source).copied()?;
        let end_ms = since_ms + WINDOW_MS;
        (n >= FAILURES_MAX && now_ms < end_ms).then(|| (end_ms - now_ms).div_ceil(1000))
    }

    /// Sources whose failures are counted now.
    pub fn n_sources(&self) -> usize {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Wrong keys of sources for which there was no room: these could go on trying.
    pub fn n_uncounted(&self) -> u64 {
        self.uncounted.load(Relaxed)
    }

    pub(crate) fn note(&self, source: IpAddr, now_ms: u64) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= SOURCES_MAX {
            sources.retain(|_, (_, since_ms)| now_ms < *since_ms + WINDOW_MS);
        }
        if sources.len() >= SOURCES_MAX && !sources.contains_key(&source) {
            self.uncounted.fetch_add(1, Relaxed);
            return;
        }
        let entry = sources.entry(source).or_insert((0, now_ms));
        if now_ms >= entry.1 + WINDOW_MS {
            *entry = (0, now_ms);
        }
        entry.0 = entry.0.saturating_add(1);
    }
}

/// Takes every key out of a request, and gives the one that counts: that of the first place in the order
/// of the module's text.
pub fn take_key(parts: &mut Parts) -> Option<String> {
    let mut found = bearer(&parts.headers);
    parts.headers.remove(AUTHORIZATION);
    for name in &KEY_HEADERS {
        let value = parts.headers.remove(name);
        found = found.or_else(|| Some(value?.to_str().ok()?.trim().to_owned()));
    }
    if parts.uri.query().is_some_and(|query| query.contains("key=")) {
        let in_query = take_from_query(&mut parts.uri);
        found = found.or(in_query);
    }
    found.filter(|key| !key.is_empty() && key.len() <= KEY_MAX_BYTES)
}

/// The token of `authorization: Bearer`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| key.trim().to_owned())
}

fn take_from_query(uri: &mut Uri) -> Option<String> {
    let query = uri.query()?;
    let mut found = None;
    let mut rest = Vec::new();
    for pair in query.split('&') {
        match pair.strip_prefix("key=") {
            Some(key) => {
                let key = percent_encoding::percent_decode_str(key).decode_utf8().ok()?;
                found = found.or_else(|| Some(key.into_owned()));
            }
            None => rest.push(pair),
        }
    }
    let path = if rest.is_empty() {
        uri.path().to_owned()
    } else {
        format!("{}?{}", uri.path(), rest.join("&"))
    };
    let mut changed = std::mem::take(uri).into_parts();
    changed.path_and_query = PathAndQuery::try_from(path).ok();
    *uri = Uri::from_parts(changed).unwrap_or_default();
    found
}

/// Finds out who asks, and takes the keys out of the request.
///
/// # Errors
/// No key, one that does not hold, or too many of those.
pub fn authenticate(
    parts: &mut Parts,
    live: &Live,
    shared: &Shared,
    source: IpAddr,
) -> Result<Principal, Refusal> {
    let now_ms = crate::clock::unix_ms();
    let Some(key) = take_key(parts) else {
        let how = if live.snapshot.consumers.is_empty() {
            "no consumer is set up yet: its operator adds one to the configuration, or runs `weir key create`"
        } else {
            "send a key as `Authorization: Bearer KEY` or `x-api-key: KEY`"
        };
        return Err(unauthenticated(
            "missing_key",
            &format!("this needs a key: {how}"),
        ));
    };
    let hash = shared.hasher.hash(key.as_bytes());
    let found = shared.identities.lookup(&hash);
    let valid = found.filter(|identity| identity.is_valid(now_ms as i64));
    let consumer = valid
        .as_ref()
        .and_then(|identity| live.snapshot.consumers.get(&identity.consumer));
    match (valid.as_ref(), consumer) {
        (Some(identity), Some(consumer)) => Ok(Principal {
            consumer: Arc::clone(consumer),
            key_id: Arc::clone(&identity.id),
        }),
        _ => {
            // A key that holds is heard whatever others at the same address did.
            if let Some(wait_s) = shared.failures.blocked(source, now_ms) {
                return Err(too_many(wait_s));
            }
            shared.failures.note(source, now_ms);
            Err(unauthenticated("invalid_key", "this key is not valid"))
        }
    }
}

fn too_many(wait_s: u64) -> Refusal {
    let mut refusal = Refusal::new(
        Outcome::Unauthenticated,
        StatusCode::TOO_MANY_REQUESTS,
        "too_many_failures",
        "too many wrong keys came from this address; try again later",
    );
    refusal.retry_after_s = Some(wait_s);
    refusal
}

fn unauthenticated(code: &'static str, message: &str) -> Refusal {
    Refusal::new(Outcome::Unauthenticated, StatusCode::UNAUTHORIZED, code, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    #[test]
    fn keys_are_found_and_taken_out() {
        let check = |headers: &[(&str, &str)], uri: &str, key: Option<&str>, left: &str| {
            let mut request = Request::builder().uri(uri);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let (mut parts, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(take_key(&mut parts).as_deref(), key, "{headers:?} {uri}");
            assert_eq!(parts.uri.to_string(), left);
            assert!(
                parts.headers.keys().all(|name| name == "accept"),
                "{:?}",
                parts.headers
            );
        };
        check(
            &[("authorization", "Bearer k"), ("accept", "a")],
            "/p?a=1",
            Some("k"),
            "/p?a=1",
        );
        check(&[("authorization", "bearer  k ")], "/p", Some("k"), "/p");
        check(&[("authorization", "Basic abc")], "/p", None, "/p");
        check(&[("x-api-key", "a"), ("api-key", "b")], "/p", Some("a"), "/p");
        check(
            &[("authorization", "Bearer k"), ("x-goog-api-key", "g")],
            "/p?key=q",
            Some("k"),
            "/p",
        );
        check(&[], "/p?a=1&key=k%2B1&b=2", Some("k+1"), "/p?a=1&b=2");
        check(&[], "/p?monkey=1", None, "/p?monkey=1");
        check(&[], "/p?key=", None, "/p");
        check(&[], "/p", None, "/p");
    }

    #[test]
    fn failures_block_a_source_for_a_while() {
        let failures = Failures::default();
        let source: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..FAILURES_MAX {
            assert_eq!(failures.blocked(source, 1000), None);
            failures.note(source, 1000);
        }
        assert_eq!(failures.blocked(source, 1000), Some(60));
        assert_eq!(failures.blocked("192.0.2.2".parse().unwrap(), 1000), None);
        assert_eq!(failures.blocked(source, 61_000), None);
    }

    #[test]
    fn sources_without_room_are_counted() {
        let failures = Failures::default();
        let source = |n: usize| IpAddr::from(std::net::Ipv4Addr::from_bits(n as u32));
        for n in 0..SOURCES_MAX {
            failures.note(source(n), 1000);
        }
        let check = |n: usize, now_ms: u64, expected: (usize, u64)| {
            failures.note(source(n), now_ms);
            assert_eq!((failures.n_sources(), failures.n_uncounted()), expected);
        };
        check(7, 1000, (SOURCES_MAX, 0));
        check(SOURCES_MAX, 1000, (SOURCES_MAX, 1));
        check(SOURCES_MAX + 1, 60_999, (SOURCES_MAX, 2));
        // Their time is over.
        check(SOURCES_MAX + 1, 61_000, (1, 2));
    }
}
