//! Pages of other origins (the Fetch standard, "HTTP CORS protocol").

use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderValue, ORIGIN, VARY,
};
use hyper::{HeaderMap, Method};
use policy::gateway::document::Cors;

/// How long a page may remember an answer, unless the configuration says.
const MAX_AGE_S: u32 = 600;

/// Is it a browser's question beforehand?
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The headers that answer a preflight. Without leave they say nothing, and the browser refuses.
pub(super) fn preflight(cors: &Cors, route_methods: &[Method], headers: &HeaderMap) -> HeaderMap {
    let mut out = HeaderMap::new();
    if !allow(cors, headers, &mut out) {
        return out;
    }
    let asked = headers
        .get(ACCESS_CONTROL_REQUEST_METHOD)
        .and_then(|method| method.to_str().ok())
        .unwrap_or_default();
    let methods: Vec<&str> = if cors.methods.is_empty() {
        route_methods.iter().map(Method::as_str).collect()
    } else {
        cors.methods.iter().map(String::as_str).collect()
    };
    // A route for all methods allows the one that is asked for.
    let methods = if methods.is_empty() {
        asked.to_owned()
    } else {
        methods.join(", ")
    };
    insert(&mut out, ACCESS_CONTROL_ALLOW_METHODS, &methods);
    if !cors.headers.is_empty() {
        let any = cors.headers.iter().any(|header| header == "*");
        let asked = headers
            .get(ACCESS_CONTROL_REQUEST_HEADERS)
            .and_then(|names| names.to_str().ok());
        let names = match asked {
            // With credentials `*` means itself, so what is asked for is named.
            Some(asked) if any => asked.to_owned(),
            _ => cors.headers.join(", "),
        };
        insert(&mut out, ACCESS_CONTROL_ALLOW_HEADERS, &names);
    }
    insert(
        &mut out,
        ACCESS_CONTROL_MAX_AGE,
        &cors.max_age_s.unwrap_or(MAX_AGE_S).to_string(),
    );
    out
}

/// Adds to an answer what lets the page read it.
pub(super) fn answer(cors: &Cors, origin: &HeaderMap, out: &mut HeaderMap) {
    if allow(cors, origin, out) && !cors.expose.is_empty() {
        insert(out, ACCESS_CONTROL_EXPOSE_HEADERS, &cors.expose.join(", "));
    }
}

fn allow(cors: &Cors, headers: &HeaderMap, out: &mut HeaderMap) -> bool {
    let credentials = cors.credentials.unwrap_or(false);
    let any = cors.origins.iter().any(|origin| origin == "*") && !credentials;
    if !any {
        // The answer differs by origin: caches must know, also of those without leave.
        out.append(VARY, HeaderValue::from_static("origin"));
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return false;
    };
    let is_known = cors
        .origins
        .iter()
        .any(|known| origin.as_bytes() == known.as_bytes());
    if !any && !is_known {
        return false;
    }
    out.insert(
        ACCESS_CONTROL_ALLOW_ORIGIN,
        if any {
            HeaderValue::from_static("*")
        } else {
            origin.clone()
        },
    );
    if credentials {
        out.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    true
}

fn insert(out: &mut HeaderMap, name: hyper::header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        out.insert(name, value);
    }
}
