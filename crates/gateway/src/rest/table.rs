//! Which route a request belongs to.
//!
//! Hosts decide first: an exact name, then the longest `*.example` that fits, then services without hosts. Within a
//! host the most specific path wins: piece by piece from the left, text before `{name}` before `*`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use policy::gateway::document::HeaderChange;
use policy::gateway::service::{Route, Segment, Service};
use policy::gateway::snapshot::Snapshot;

use super::balance::{Group, Vitals};
use crate::upstream::trust::Trust;
use crate::upstream::{EgressRule, Origin, Protocol, Timeouts};

/// All services, ready to be found.
#[derive(Debug, Default)]
pub struct Services {
    exact: HashMap<String, Paths>,
    /// By what follows the `*`, longest first.
    suffixes: Vec<(String, Paths)>,
    any: Paths,
    vitals: HashMap<String, Arc<Vitals>>,
    /// All routes with health checks.
    pub(super) checked: Vec<Arc<Target>>,
    are_checks_claimed: AtomicBool,
}

/// Routes of one host.
#[derive(Debug, Default)]
struct Paths {
    /// By their first piece, where that is text; most specific first.
    by_first: HashMap<String, Vec<Arc<Target>>>,
    /// All others; most specific first.
    others: Vec<Arc<Target>>,
}

/// A route, ready to be used.
#[derive(Debug)]
pub struct Target {
    pub(super) service: Arc<Service>,
    pub(super) route: Arc<Route>,
    pub(super) methods: Vec<Method>,
    pub(super) group: Group,
    pub(super) rewrite: Option<Vec<Piece>>,
    pub(super) host: Option<HeaderValue>,
    pub(super) request_headers: Changes,
    pub(super) response_headers: Changes,
    pub(super) timeouts: Timeouts,
}

/// A piece of a rewritten path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Parameter(String),
    Rest,
}

/// Changes of headers, names and values checked.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) remove: Vec<HeaderName>,
    pub(super) set: Vec<(HeaderName, HeaderValue)>,
    pub(super) add: Vec<(HeaderName, HeaderValue)>,
}

/// What was found.
#[derive(Debug)]
pub enum Found {
    /// A route.
    Route(Arc<Target>),
    /// A path, but not for this method; these are.
    Method(Vec<Method>),
    /// Nothing.
    Nothing,
}

impl Services {
    /// Those of a snapshot. What is known of upstreams is taken over from `before`.
    #[must_use]
    pub fn new(snapshot: &Snapshot, before: Option<&Services>, trust: &Trust) -> Services {
        let mut services = Services::default();
        for service in &snapshot.services {
            for route in &service.routes {
                let target = services.target(service, route, before, trust);
                if target.route.health.is_some() {
                    services.checked.push(Arc::clone(&target));
                }
                if service.hosts.is_empty() && service.host_suffixes.is_empty() {
                    services.any.add(&target);
                }
                for host in &service.hosts {
                    services.exact.entry(host.clone()).or_default().add(&target);
                }
                for suffix in &service.host_suffixes {
                    match services.suffixes.iter_mut().find(|(known, _)| known == suffix) {
                        Some((_, paths)) => paths.add(&target),
                        None => {
                            let mut paths = Paths::default();
                            paths.add(&target);
                            services.suffixes.push((suffix.clone(), paths));
                        }
                    }
                }
            }
        }
        services
            .suffixes
            .sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        let all = services
            .exact
            .values_mut()
            .chain(services.suffixes.iter_mut().map(|(_, paths)| paths));
        all.for_each(Paths::sort);
        services.any.sort();
        services
    }

    fn target(
        &mut self,
        service: &Arc<Service>,
        route: &Arc<Route>,
        before: Option<&Services>,
        trust: &Trust,
    ) -> Arc<Target> {
        let mut members = Vec::new();
        for upstream in &route.upstreams {
            let egress = EgressRule {
                allow_literal: upstream.is_literal,
            };
            let protocol = if upstream.h2c {
                Protocol::Http2
            } else {
                Protocol::Auto
            };
            let told = |reason: String| {
                tracing::error!(service = %service.name, route = %route.path, reason, "an upstream cannot be used");
            };
            let trust = match upstream.ca.as_ref().map(|pem| Trust::new(Some(pem.as_bytes()))) {
                None => trust.clone(),
                Some(Ok(trust)) => trust,
                Some(Err(error)) => {
                    told(error.to_string());
                    continue;
                }
            };
            match Origin::new(&upstream.origin, protocol, egress, trust) {
                Ok(origin) => {
                    let key = format!(
                        "{} {} {}{}",
                        service.name, route.path, upstream.origin, upstream.base_path
                    );
                    let known = before.and_then(|before| before.vitals.get(&key));
                    let vitals = Arc::clone(
                        self.vitals
                            .entry(key)
                            .or_insert_with(|| known.cloned().unwrap_or_default()),
                    );
                    members.push(super::balance::Member {
                        origin: Arc::new(origin),
                        base_path: upstream.base_path.as_str().into(),
                        weight: upstream.weight,
                        priority: upstream.priority,
                        vitals,
                    });
                }
                Err(error) => told(error.to_string()),
            }
        }
        let ms = std::time::Duration::from_millis;
        Arc::new(Target {
            service: Arc::clone(service),
            route: Arc::clone(route),
            methods: route
                .methods
                .iter()
                .filter_map(|method| method.parse().ok())
                .collect(),
            group: Group::new(members, route.balance, route.breaker),
            rewrite: route.rewrite.as_deref().map(pieces),
            host: route
                .host
                .as_ref()
                .and_then(|host| HeaderValue::from_str(host).ok()),
            request_headers: Changes::new(&route.request_headers),
            response_headers: Changes::new(&route.response_headers),
            timeouts: Timeouts {
                connect: ms(route.connect_timeout_ms),
                first_byte: ms(route.first_byte_timeout_ms),
                idle: ms(route.idle_timeout_ms),
            },
        })
    }

    /// Looks among services that have exactly this host. `None`: there are none.
    #[must_use]
    pub fn find_exact(&self, host: &str, method: &Method, path: &str) -> Option<Found> {
        if self.exact.is_empty() {
            return None;
        }
        let paths = match self.exact.get(host) {
            Some(paths) => paths,
            None => self.exact.get(&host.to_ascii_lowercase())?,
        };
        Some(paths.find(method, path))
    }

    /// Looks among all others.
    #[must_use]
    pub fn find_other(&self, host: &str, method: &Method, path: &str) -> Found {
        let host = host.to_ascii_lowercase();
        for (suffix, paths) in &self.suffixes {
            if host.len() > suffix.len() && host.ends_with(suffix.as_str()) {
                return paths.find(method, path);
            }
        }
        self.any.find(method, path)
    }

    /// Whether it falls to the caller to check upstreams: to the first that asks.
    pub(super) fn claim_checks(&self) -> bool {
        !self.are_checks_claimed.swap(true, Relaxed)
    }

    /// Whether there are any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty()
            && self.suffixes.is_empty()
            && self.any.by_first.is_empty()
            && self.any.others.is_empty()
    }
}

impl Paths {
    fn add(&mut self, target: &Arc<Target>) {
        let place = match target.route.pattern.first() {
            Some(Segment::Exact(first)) => self.by_first.entry(first.clone()).or_default(),
            _ => &mut self.others,
        };
        place.push(Arc::clone(target));
    }

    fn sort(&mut self) {
        for targets in self.by_first.values_mut().chain([&mut self.others]) {
            // Stable: of equals the first in the document.
            targets.sort_by_cached_key(|target| std::cmp::Reverse(rank(&target.route.pattern)));
        }
    }

    fn find(&self, method: &Method, path: &str) -> Found {
        let first = path
            .get(1..)
            .unwrap_or_default()
            .split('/')
            .next()
            .unwrap_or_default();
        let mut allowed: Vec<Method> = Vec::new();
        let candidates = self.by_first.get(first).into_iter().flatten().chain(&self.others);
        for target in candidates {
            if captures(&target.route.pattern, path).is_none() {
                continue;
            }
            if target.accepts(method) {
                return Found::Route(Arc::clone(target));
            }
            allowed.extend(target.methods.iter().cloned());
        }
        if allowed.is_empty() {
            Found::Nothing
        } else {
            Found::Method(allowed)
        }
    }
}

impl Target {
    fn accepts(&self, method: &Method) -> bool {
        if self.methods.is_empty() || self.methods.contains(method) {
            return true;
        }
        // What may be got may be asked about, and a page of another origin asks beforehand.
        method == Method::HEAD && self.methods.contains(&Method::GET)
            || method == Method::OPTIONS && self.service.cors.is_some()
    }

    /// The path for the upstream, with its query.
    pub(super) fn rewritten(&self, base_path: &str, path: &str, query: Option<&str>) -> String {
        let mut out = String::with_capacity(base_path.len() + path.len() + query.map_or(0, str::len) + 1);
        out.push_str(base_path);
        match &self.rewrite {
            None => out.push_str(path),
            Some(pieces) => {
                let captured = captures(&self.route.pattern, path).unwrap_or_default();
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => out.push_str(text),
                        Piece::Rest => out.push_str(captured.rest),
                        Piece::Parameter(name) => {
                            let value = captured.parameters.iter().find(|(known, _)| known == name);
                            out.push_str(value.map_or("", |(_, value)| value));
                        }
                    }
                }
            }
        }
        if out.is_empty() {
            out.push('/');
        }
        if let Some(query) = query {
            out.push('?');
            out.push_str(query);
        }
        out
    }
}

/// What a pattern's names stand for in a path.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Captures<'a> {
    parameters: Vec<(&'a str, &'a str)>,
    rest: &'a str,
}

/// Fits a path to a pattern.
fn captures<'a>(pattern: &'a [Segment], path: &'a str) -> Option<Captures<'a>> {
    let mut left = path.strip_prefix('/')?;
    let mut captured = Captures::default();
    for (i, segment) in pattern.iter().enumerate() {
        let is_last = i + 1 == pattern.len();
        if *segment == Segment::Rest {
            captured.rest = left;
            return Some(captured);
        }
        let (piece, after) = match left.split_once('/') {
            Some((piece, after)) => (piece, Some(after)),
            None => (left, None),
        };
        match segment {
            Segment::Exact(text) if piece == text => {}
            Segment::Parameter(name) if !piece.is_empty() => captured.parameters.push((name, piece)),
            _ => return None,
        }
        match after {
            Some(_) if is_last => return None,
            Some(after) => left = after,
            None if is_last => return Some(captured),
            None => return None,
        }
    }
    None
}

/// Higher is more specific.
fn rank(pattern: &[Segment]) -> Vec<u8> {
    pattern
        .iter()
        .map(|segment| match segment {
            Segment::Exact(_) => 3,
            Segment::Parameter(_) => 2,
            Segment::Rest => 1,
        })
        .collect()
}

/// Takes a rewrite apart: `/users/{id}/*`.
fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut left = text;
    while let Some(at) = left.find(['{', '*']) {
        let (before, after) = left.split_at(at);
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        if let Some(after) = after.strip_prefix('*') {
            pieces.push(Piece::Rest);
            left = after;
        } else if let Some((name, after)) = after[1..].split_once('}') {
            pieces.push(Piece::Parameter(name.to_owned()));
            left = after;
        } else {
            left = after;
            break;
        }
    }
    if !left.is_empty() {
        pieces.push(Piece::Text(left.to_owned()));
    }
    pieces
}

impl Changes {
    fn new(change: &HeaderChange) -> Changes {
        let name = |name: &String| HeaderName::from_bytes(name.as_bytes()).ok();
        let pair = |(key, value): (&String, &String)| Some((name(key)?, HeaderValue::from_str(value).ok()?));
        Changes {
            remove: change.remove.iter().filter_map(name).collect(),
            set: change.set.iter().filter_map(pair).collect(),
            add: change.add.iter().filter_map(pair).collect(),
        }
    }

    pub(super) fn apply(&self, headers: &mut hyper::HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Piece, captures, pieces};
    use policy::gateway::service::Segment;

    #[test]
    fn patterns_and_paths() {
        let check = |pattern: &str, path: &str, expected: Option<(&[(&str, &str)], &str)>| {
            let segments: Vec<Segment> = pattern[1..]
                .split('/')
                .map(|piece| match piece {
                    "*" => Segment::Rest,
                    piece => match piece.strip_prefix('{').and_then(|piece| piece.strip_suffix('}')) {
                        Some(name) => Segment::Parameter(name.into()),
                        None => Segment::Exact(piece.into()),
                    },
                })
                .collect();
            let found = captures(&segments, path);
            let found = found
                .as_ref()
                .map(|found| (found.parameters.as_slice(), found.rest));
            assert_eq!(found, expected, "{pattern} {path}");
        };
        check("/a", "/a", Some((&[], "")));
        check("/a", "/a/", None);
        check("/a", "/ab", None);
        check("/a/*", "/a/", Some((&[], "")));
        check("/a/*", "/a/b/c", Some((&[], "b/c")));
        check("/a/*", "/a", None);
        check("/*", "/", Some((&[], "")));
        check("/", "/", Some((&[], "")));
        check("/u/{id}", "/u/7", Some((&[("id", "7")], "")));
        check("/u/{id}", "/u/", None);
        check("/u/{id}", "/u/7/x", None);
        check(
            "/u/{id}/{what}/*",
            "/u/7/x/y",
            Some((&[("id", "7"), ("what", "x")], "y")),
        );
        check("/a/*", "a/b", None);
    }

    #[test]
    fn rewrites() {
        let check = |text: &str, expected: &[Piece]| assert_eq!(pieces(text), expected);
        check("/x", &[Piece::Text("/x".into())]);
        check("/x/*", &[Piece::Text("/x/".into()), Piece::Rest]);
        check(
            "/{id}/y",
            &[
                Piece::Text("/".into()),
                Piece::Parameter("id".into()),
                Piece::Text("/y".into()),
            ],
        );
    }
}
