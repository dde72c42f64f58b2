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

/// A service has neither models nor tokens: a limit of these would never hold anybody back.
fn check_limits(limits: &[document::Limit], path: &str, faults: &mut Faults) {
    for (idx, limit) in limits.iter().enumerate() {
        if limit.per == Some(Per::Model) {
            faults.add(
                format!("{path}[{idx}].per"),
                "a REST service has no models: expected all, key, consumer, team, service, route or source; \
                 put limits per model under `models`, `consumers` or `gateway`"
                    .to_owned(),
            );
        }
        if limit.tokens.is_some() {
            faults.add(
                format!("{path}[{idx}].tokens"),
                "a REST service uses no tokens: expected `requests` or `concurrency`; put limits of tokens \
                 under `models`, `consumers` or `gateway`"
                    .to_owned(),
            );
        }
    }
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
        check_limits(&service.limits, &format!("{path}.limits"), faults);
        if let Some(cors) = &service.cors {
            check_cors(cors, &format!("{path}.cors"), faults);
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

/// Is it a name of a header or of a method (a token of RFC 9110, 5.6.2)?
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// May it be the value of a header?
fn is_value(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
}

fn methods(methods: &[String], path: &str, faults: &mut Faults) {
    for (idx, method) in methods.iter().enumerate() {
        if !is_token(method) {
            faults.add(
                format!("{path}[{idx}]"),
                format!("expected a method as GET, found `{method}`"),
            );
        }
    }
}

fn header_change(change: &HeaderChange, path: &str, faults: &mut Faults) {
    let mut name = |path: String, name: &str| {
        if !is_token(name) {
            faults.add(
                path,
                format!("expected the name of a header, as x-team, found `{name}`"),
            );
        }
    };
    for (idx, one) in change.remove.iter().enumerate() {
        name(format!("{path}.remove[{idx}]"), one);
    }
    for (kind, pairs) in [("set", &change.set), ("add", &change.add)] {
        for one in pairs.keys() {
            name(format!("{path}.{kind}.{one}"), one);
        }
    }
    for (kind, pairs) in [("set", &change.set), ("add", &change.add)] {
        for (one, value) in pairs {
            if !is_value(value) {
                faults.add(
                    format!("{path}.{kind}.{one}"),
                    "expected printable ASCII in the value of a header".to_owned(),
                );
            }
        }
    }
}

fn check_rewrite(rewrite: &str, pattern: &[Segment], path: &str, faults: &mut Faults) {
    if !rewrite.starts_with('/') {
        faults.add(
            path.to_owned(),
            format!("expected a path from the root, as /v2/*, found `{rewrite}`"),
        );
    }
    if rewrite.contains('*') && !pattern.contains(&Segment::Rest) {
        faults.add(
            path.to_owned(),
            "expected no `*`, since the path of the route has none".to_owned(),
        );
    }
    let mut left = rewrite;
    while let Some((_, after)) = left.split_once('{') {
        let Some((name, after)) = after.split_once('}') else {
            faults.add(
                path.to_owned(),
                format!("expected `}}` after `{{`, found `{rewrite}`"),
            );
            return;
        };
        if !pattern.contains(&Segment::Parameter(name.to_owned())) {
            faults.add(
                path.to_owned(),
                format!("expected a name that the path of the route has, found `{{{name}}}`"),
            );
        }
        left = after;
    }
}

fn check_cors(cors: &Cors, path: &str, faults: &mut Faults) {
    if cors.credentials.unwrap_or(false) && cors.origins.iter().any(|origin| origin == "*") {
        faults.add(
            format!("{path}.credentials"),
            "expected origins by name: browsers take no credentials with `*`".to_owned(),
        );
    }
    methods(&cors.methods, &format!("{path}.methods"), faults);
    for (kind, names) in [("headers", &cors.headers), ("expose", &cors.expose)] {
        for (idx, name) in names.iter().enumerate() {
            if !is_token(name) {
                let words = format!("expected the name of a header, as x-team, found `{name}`");
                faults.add(format!("{path}.{kind}[{idx}]"), words);
            }
        }
    }
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
    let jwks_path = format!("{path}.jwks_file");
    let jwks = jwt
        .jwks_file
        .as_ref()
        .and_then(|file| names.file(file, &jwks_path, faults));
    if jwks.as_deref().is_some_and(|text| !is_key_set(text)) {
        faults.add(
            jwks_path,
            "expected a JSON Web Key Set: {\"keys\": [{\"kty\": …}, …]}".to_owned(),
        );
    }
    Jwt {
        document: jwt.clone(),
        jwks,
        secret: jwt
            .secret
            .as_ref()
            .and_then(|secret| names.secret(secret, &format!("{path}.secret"), faults)),
    }
}

/// Has it the form of a set of keys, with at least one? Taken otherwise, it would refuse every token.
fn is_key_set(text: &str) -> bool {
    let set: Option<serde_json::Value> = serde_json::from_str(text).ok();
    let keys = set.as_ref().and_then(|set| set.get("keys")?.as_array());
    keys.is_some_and(|keys| !keys.is_empty() && keys.iter().all(|key| key["kty"].is_string()))
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
    methods(&route.methods, &format!("{path}.methods"), faults);
    for (name, change) in [
        ("request_headers", &route.request_headers),
        ("response_headers", &route.response_headers),
    ] {
        if let Some(change) = change {
            header_change(change, &format!("{path}.{name}"), faults);
        }
    }
    if let Some(host) = &route.host
        && !is_value(host)
    {
        faults.add(
            format!("{path}.host"),
            format!("expected a host as shop.example, found `{host}`"),
        );
    }
    if let Some(rewrite) = &route.rewrite {
        check_rewrite(rewrite, &pattern, &format!("{path}.rewrite"), faults);
    }
    check_limits(&route.limits, &format!("{path}.limits"), faults);
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

#[cfg(test)]
mod tests {
    use crate::gateway::compile::{Outside, compile};
    use serde_json::{Value, json};

    struct Nothing;

    impl Outside for Nothing {
        fn env(&self, _: &str) -> Result<String, String> {
            Err("not set".to_owned())
        }

        fn file(&self, _: &str) -> Result<String, String> {
            Err("no such file".to_owned())
        }
    }

    /// The paths of all that is wrong in a service with this route and these other fields.
    #[track_caller]
    fn check(route: Value, service: Value, expected: &[&str]) {
        let merge = |mut base: Value, more: Value| {
            let more = more.as_object().cloned().unwrap_or_default();
            base.as_object_mut().expect("an object").extend(more);
            base
        };
        let route = merge(
            json!({ "path": "/a/{id}/*", "upstreams": [{ "url": "http://127.0.0.1:1" }] }),
            route,
        );
        let service = merge(
            json!({ "name": "s", "auth": ["none"], "routes": [route] }),
            service,
        );
        let documents = serde_json::from_value(json!({ "services": [service] })).expect("documents");
        let faults = compile(&documents, &Nothing, llm::catalogue::Catalogue::shipped(), 1)
            .err()
            .unwrap_or_default();
        let found: Vec<String> = faults
            .iter()
            .map(|fault| fault.field.trim_start_matches("services[0].").to_owned())
            .collect();
        assert_eq!(found, expected, "{faults:?}");
    }

    #[test]
    fn what_is_wrong_in_a_service_is_named() {
        let none = || json!({});
        check(none(), none(), &[]);
        check(json!({ "rewrite": "/b/{id}/*" }), none(), &[]);
        check(json!({ "rewrite": "b" }), none(), &["routes[0].rewrite"]);
        check(json!({ "rewrite": "/{other}" }), none(), &["routes[0].rewrite"]);
        check(json!({ "rewrite": "/{id" }), none(), &["routes[0].rewrite"]);
        check(
            json!({ "path": "/a", "rewrite": "/*" }),
            none(),
            &["routes[0].rewrite"],
        );
        check(
            json!({ "methods": ["GET", "P T"] }),
            none(),
            &["routes[0].methods[1]"],
        );
        check(json!({ "host": "a\nb" }), none(), &["routes[0].host"]);
        check(
            json!({ "request_headers": { "remove": ["x y"], "set": { "x-a": "b\r\nc" }, "add": { "": "v" } } }),
            none(),
            &[
                "routes[0].request_headers.remove[0]",
                "routes[0].request_headers.add.",
                "routes[0].request_headers.set.x-a",
            ],
        );
        check(
            none(),
            json!({ "cors": { "origins": ["*"], "credentials": true } }),
            &["cors.credentials"],
        );
        check(
            none(),
            json!({ "cors": { "origins": ["*"], "headers": ["a b"] } }),
            &["cors.headers[0]"],
        );
        check(
            none(),
            json!({ "limits": [{ "requests": "1/s", "per": "route" }] }),
            &[],
        );
        check(
            none(),
            json!({ "limits": [{ "concurrency": 1 }, { "requests": "1/s", "per": "model" }] }),
            &["limits[1].per"],
        );
        check(
            json!({ "limits": [{ "tokens": "1/s", "per": "model" }] }),
            none(),
            &["routes[0].limits[0].per", "routes[0].limits[0].tokens"],
        );
        check(none(), json!({ "auth": [] }), &["auth"]);
        check(none(), json!({ "auth": ["jwt"] }), &["jwt"]);
    }
}
