//! Who may ask: the other end of a Unix socket, or a token and a right `Host` on TCP.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, Method, Request, header, uri::Authority};

use crate::error::ApiError;
use crate::server::Settings;
use crate::{Host, token};

/// Paths that need no token: they tell counters and nothing about anyone's traffic.
const OPEN_PATHS: [&str; 2] = ["/metrics", "/healthz"];
/// Wrong tokens heard from one source within [`FAILURE_WINDOW`].
const FAILURES_MAX: u32 = 10;
const FAILURE_WINDOW: Duration = Duration::from_secs(60);
/// Sources remembered; beyond, all new ones count as one.
const SOURCES_MAX: usize = 1024;

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    Unix { uid: u32 },
    Tcp { local: SocketAddr, remote: SocketAddr },
}

pub(crate) struct Guard {
    host: Arc<dyn Host>,
    uid_trusted: Option<u32>,
    host_names: Vec<String>,
    failures: Mutex<Failures>,
}

impl Guard {
    pub(crate) fn new(settings: &Settings, host: Arc<dyn Host>) -> Self {
        Self {
            host,
            uid_trusted: settings.uid_trusted,
            host_names: settings.host_names.clone(),
            failures: Mutex::default(),
        }
    }

    /// Whether this request may be answered at all.
    pub(crate) fn admit<B>(&self, peer: Peer, request: &Request<B>) -> Result<(), ApiError> {
        let (local, remote) = match peer {
            Peer::Unix { uid } if uid == 0 || Some(uid) == self.uid_trusted => return Ok(()),
            Peer::Unix { uid } => return Err(ApiError::WrongUser { uid }),
            Peer::Tcp { local, remote } => (local, remote),
        };
        if !self.is_host_right(local.ip(), request) {
            return Err(ApiError::WrongHost);
        }
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        if is_read && OPEN_PATHS.contains(&request.uri().path()) {
            return Ok(());
        }
        let Some(presented) = bearer(request.headers()) else {
            return Err(ApiError::TokenMissing);
        };
        // A valid token is heard whatever others at the same address did.
        if token::is_among(&token::hash(presented), &self.host.token_hashes()) {
            return Ok(());
        }
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        Err(failures.note(remote.ip(), Instant::now()))
    }

    /// Whether every name the request gives for this server is one of its own.
    fn is_host_right<B>(&self, local: IpAddr, request: &Request<B>) -> bool {
        let mut named = request.headers().get_all(header::HOST).iter();
        let (Some(host), None) = (named.next(), named.next()) else {
            return false;
        };
        let Some(host) = host.to_str().ok().and_then(|text| text.parse::<Authority>().ok()) else {
            return false;
        };
        let in_uri = request.uri().authority();
        [Some(&host), in_uri]
            .into_iter()
            .flatten()
            .all(|authority| self.is_own_name(local, authority))
    }

    fn is_own_name(&self, local: IpAddr, authority: &Authority) -> bool {
        if authority.as_str().contains('@') {
            return false;
        }
        let name = authority.host();
        let literal = name.trim_start_matches('[').trim_end_matches(']');
        match literal.parse::<IpAddr>() {
            Ok(ip) => ip.to_canonical().is_loopback() || ip.to_canonical() == local.to_canonical(),
            Err(_) => {
                let mut own = self.host_names.iter().map(String::as_str).chain(["localhost"]);
                own.any(|own| own.eq_ignore_ascii_case(name))
            }
        }
    }
}

/// The token of `Authorization: Bearer …` (RFC 6750).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Wrong tokens by source.
#[derive(Default)]
struct Failures {
    /// `None` stands for all sources that found no place.
    sources: HashMap<Option<IpAddr>, Window>,
}

struct Window {
    since: Instant,
    count: u32,
}

impl Failures {
    /// Counts one more, and says what to answer.
    fn note(&mut self, source: IpAddr, now: Instant) -> ApiError {
        let is_over = |window: &Window| now.duration_since(window.since) >= FAILURE_WINDOW;
        let mut key = Some(network_of(source));
        if !self.sources.contains_key(&key) && self.sources.len() >= SOURCES_MAX {
            self.sources.retain(|_, window| !is_over(window));
            if self.sources.len() >= SOURCES_MAX {
                key = None;
            }
        }
        let window = self.sources.entry(key).or_insert(Window { since: now, count: 0 });
        if is_over(window) {
            *window = Window { since: now, count: 0 };
        }
        window.count = window.count.saturating_add(1);
        if window.count <= FAILURES_MAX {
            return ApiError::TokenWrong;
        }
        let left = FAILURE_WINDOW.saturating_sub(now.duration_since(window.since));
        ApiError::TooManyFailures {
            retry_after_s: left.as_secs().max(1),
        }
    }
}

/// One household: an IPv4 address, or the first 64 bits of an IPv6 address.
fn network_of(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
        ip @ IpAddr::V4(_) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_tokens_are_bounded_by_source_and_in_all() {
        let start = Instant::now();
        let mut failures = Failures::default();
        let source = |n: u32| IpAddr::V4(n.into());
        for _ in 0..FAILURES_MAX {
            assert_eq!(failures.note(source(1), start), ApiError::TokenWrong);
        }
        let refused = failures.note(source(1), start + Duration::from_secs(20));
        assert_eq!(refused, ApiError::TooManyFailures { retry_after_s: 40 });
        assert_eq!(failures.note(source(2), start), ApiError::TokenWrong);
        assert_eq!(
            failures.note(source(1), start + FAILURE_WINDOW),
            ApiError::TokenWrong
        );

        for n in 0..3 * SOURCES_MAX as u32 {
            failures.note(source(n), start);
        }
        assert!(failures.sources.len() <= SOURCES_MAX + 1);
        let refused = failures.note(source(u32::MAX), start);
        assert!(matches!(refused, ApiError::TooManyFailures { .. }), "{refused:?}");

        let later = start + 2 * FAILURE_WINDOW;
        assert_eq!(failures.note(source(u32::MAX), later), ApiError::TokenWrong);
        assert_eq!(failures.sources.len(), 1, "those of the past are forgotten");
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let of = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
