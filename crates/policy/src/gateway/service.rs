//! REST services, checked.

use super::compile::{Faults, Names, origin_of};
use super::document::{self, Auth, Balance, Cors, HeaderChange, Per};
use super::limit::{self, Limit};
use super::snapshot::{Breaker, Guardrail};
use crate::secret::Secret;
use std::sync::Arc;

/// A REST service.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub name: Arc<str>,
    /// Exact names, in lower case.
    pub hosts: Vec<String>,
    /// What follows the `*` of `*.example`: `.example`.
    pub host_suffixes: Vec<String>,
    /// In the order of the document.
    pub routes: Vec<Arc<Route>>,
    /// How callers show who they are; empty: closed.
    pub auth: Vec<Auth>,
    /// Which tokens are valid.
    pub jwt: Option<Jwt>,
    /// Its limits.
    pub limits: Vec<Limit>,
    /// Pages of other origins that may call it.
    pub cors: Option<Cors>,
    /// Its guardrails.
    pub guardrails: Vec<Arc<Guardrail>>,
}

/// A route of a service.
#[derive(Debug)]
pub struct Route {
    /// The path as it was written; its name in records.
    pub path: Arc<str>,
    /// The same, taken apart.
    pub pattern: Vec<Segment>,
    /// Upper case; empty for all.
    pub methods: Vec<String>,
    /// What answers.
    pub upstreams: Vec<Upstream>,
    /// How one is chosen.
    pub balance: Balance,
    /// What the path becomes.
    pub rewrite: Option<String>,
    /// The `Host` for the upstream.
    pub host: Option<String>,
    /// Headers of the request.
    pub request_headers: HeaderChange,
    /// Headers of the answer.
    pub response_headers: HeaderChange,
    /// Time to connect.
    pub connect_timeout_ms: u64,
    /// Time to the first byte.
    pub first_byte_timeout_ms: u64,
    /// Longest pause within a body.
    pub idle_timeout_ms: u64,
    /// How often a request may be tried again.
    pub retries: u32,
    /// Longest body of a request; `None` for the gateway's.
    pub body_max_bytes: Option<u64>,
    /// Its limits.
    pub limits: Vec<Limit>,
    /// When an upstream is passed over.
    pub breaker: Breaker,
    /// How an upstream's health is seen.
    pub health: Option<Health>,
}

/// A piece of a path between two `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// This text.
    Exact(String),
    /// Any one, by name.
    Parameter(String),
    /// Everything that is left; the last.
    Rest,
}

/// One of the servers behind a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// `http://host:port`.
    pub origin: String,
    /// Is its host a literal address, or `localhost`?
    pub is_literal: bool,
    /// The path that all begin with, without `/` at its end.
    pub base_path: String,
    /// Its share.
    pub weight: u32,
    /// Lower ones first.
    pub priority: u32,
    /// HTTP/2 without TLS.
    pub h2c: bool,
    /// PEM text of certificates that it may show.
    pub ca: Option<String>,
}

/// A look at whether an upstream is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The path to get.
    pub path: String,
    /// How often.
    pub interval_ms: u64,
    /// How long the answer may take.
    pub timeout_ms: u64,
    /// Failures in a row that make it ill.
    pub failures: u32,
    /// Successes in a row that make it well.
    pub successes: u32,
}

/// Which JSON Web Tokens are valid.
#[derive(Clone, Debug)]
pub struct Jwt {
    /// As it was written.
    pub document: document::Jwt,
    /// The text of `jwks_file`.
    pub jwks: Option<String>,
    /// The shared key.
    pub secret: Option<Secret>,
}

/// Takes a path pattern apart.
pub(super) fn pattern(path: &str) -> Result<Vec<Segment>, String> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err(format!("expected a path from the root, as /v1/*, found `{path}`"));
    };
    let pieces: Vec<&str> = rest.split('/').collect();
    let last = pieces.len() - 1;
    let read = |(idx, piece): (usize, &&str)| match *piece {
        "*" if idx == last => Ok(Segment::Rest),
        piece => match piece.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            Some(name) if !name.is_empty() => Ok(Segment::Parameter(name.to_owned())),
            None if !piece.contains(['*', '{', '}', '?', '#']) => Ok(Segment::Exact(piece.to_owned())),
            _ => Err(format!(
                "expected `{{name}}` or plain text between two `/`, and `*` only at the end, found `{piece}`"
            )),
        },
    };
    pieces.iter().enumerate().map(read).collect()
}

pub(super) fn read(
    services: &[document::Service],
    names: &Names<'_>,
    faults: &mut Faults,
) -> Vec<Arc<Service>> {
    let mut out = Vec::new();
    for (idx, service) in services.iter().enumerate() {
        let path = format!("services[{idx}]");
        if service.routes.is_empty() {
            faults.add(format!("{path}.routes"), "expected at least one route".to_owned());
        }
        if service.auth.is_empty() {
            faults.add(
                format!("{path}.auth"),
                "expected [key], [jwt] or, for a service that is open to all, [none]".to_owned(),
            );
        }
        if service.auth.contains(&Auth::Jwt) && service.jwt.is_none() {
            faults.add(
                format!("{path}.jwt"),
                "expected which tokens are valid, since `auth` has jwt".to_owned(),
            );
        }
        let (mut hosts, mut host_suffixes) = (Vec::new(), Vec::new());
        for (at, host) in service.hosts.iter().enumerate() {
            match host.strip_prefix('*') {
                Some(suffix) if suffix.starts_with('.') && !suffix.contains('*') => {
                    host_suffixes.push(suffix.to_lowercase());
                }
                None if !host.is_empty() && !host.contains(['/', '*', ':']) => {
                    hosts.push(host.to_lowercase());
                }
                _ => faults.add(
                    format!("{path}.hosts[{at}]"),
                    format!("expected the name of a host, as shop.example or *.shop.example, found `{host}`"),
                ),
            }
        }
        let owner = format!("service/{}", service.name);
        let routes = service.routes.iter().enumerate();
        let routes =
            routes.filter_map(|(at, one)| route(one, &owner, &format!("{path}.routes[{at}]"), names, faults));
        out.push(Arc::new(Service {
            name: service.name.as_str().into(),
            hosts,
            host_suffixes,
            routes: routes.map(Arc::new).collect(),
            auth: service.auth.clone(),
            jwt: service
                .jwt
                .as_ref()
                .map(|jwt| read_jwt(jwt, &format!("{path}.jwt"), names, faults)),
            limits: limit::read(
                &service.limits,
                &owner,
                Per::Service,
                &format!("{path}.limits"),
                faults,
            ),
            cors: service.cors.clone(),
            guardrails: names.guardrails(&service.guardrails, &format!("{path}.guardrails"), faults),
        }));
    }
    out
}

fn read_jwt(jwt: &document::Jwt, path: &str, names: &Names<'_>, faults: &mut Faults) -> Jwt {
    let sources = [
        jwt.jwks_url.is_some(),
        jwt.jwks_file.is_some(),
        jwt.secret.is_some(),
    ];
    if sources.iter().filter(|given| **given).count() != 1 {
        faults.add(
            path.to_owned(),
            "expected exactly one of jwks_url, jwks_file, secret".to_owned(),
        );
    }
    Jwt {
        document: jwt.clone(),
        jwks: jwt
            .jwks_file
            .as_ref()
            .and_then(|file| names.file(file, &format!("{path}.jwks_file"), faults)),
        secret: jwt
            .secret
            .as_ref()
            .and_then(|secret| names.secret(secret, &format!("{path}.secret"), faults)),
    }
}

fn route(
    route: &document::Route,
    owner: &str,
    path: &str,
    names: &Names<'_>,
    faults: &mut Faults,
) -> Option<Route> {
    let pattern = match pattern(&route.path) {
        Ok(pattern) => pattern,
        Err(words) => {
            faults.add(format!("{path}.path"), words);
            return None;
        }
    };
    if route.upstreams.is_empty() {
        faults.add(
            format!("{path}.upstreams"),
            "expected at least one upstream".to_owned(),
        );
    }
    let mut upstreams = Vec::new();
    for (idx, upstream) in route.upstreams.iter().enumerate() {
        let path = format!("{path}.upstreams[{idx}]");
        match origin_of(&upstream.url) {
            Ok((origin, is_literal, base_path)) => upstreams.push(Upstream {
                origin,
                is_literal,
                base_path,
                weight: upstream.weight.unwrap_or(1),
                priority: upstream.priority.unwrap_or(0),
                h2c: upstream.h2c.unwrap_or(false),
                ca: upstream
                    .ca
                    .as_ref()
                    .and_then(|file| names.file(file, &format!("{path}.ca"), faults)),
            }),
            Err(words) => faults.add(format!("{path}.url"), words),
        }
    }
    let breaker = route.breaker.clone().unwrap_or_default();
    Some(Route {
        path: route.path.as_str().into(),
        pattern,
        methods: route.methods.iter().map(|method| method.to_uppercase()).collect(),
        upstreams,
        balance: route.balance.unwrap_or_default(),
        rewrite: route.rewrite.clone(),
        host: route.host.clone(),
        request_headers: route.request_headers.clone().unwrap_or_default(),
        response_headers: route.response_headers.clone().unwrap_or_default(),
        connect_timeout_ms: route.connect_timeout_ms.unwrap_or(5_000),
        first_byte_timeout_ms: route.first_byte_timeout_ms.unwrap_or(60_000),
        idle_timeout_ms: route.idle_timeout_ms.unwrap_or(300_000),
        retries: route.retries.unwrap_or(1),
        body_max_bytes: route.body_max_bytes,
        limits: limit::read(
            &route.limits,
            &format!("{owner}{}", route.path),
            Per::Route,
            &format!("{path}.limits"),
            faults,
        ),
        breaker: Breaker {
            failures: breaker.failures.unwrap_or(5),
            open_ms: breaker.open_ms.unwrap_or(10_000),
        },
        health: route.health.as_ref().map(|health| Health {
            path: health.path.clone(),
            interval_ms: health.interval_ms.unwrap_or(5_000),
            timeout_ms: health.timeout_ms.unwrap_or(2_000),
            failures: health.failures.unwrap_or(3),
            successes: health.successes.unwrap_or(2),
        }),
    })
}
