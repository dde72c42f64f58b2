//! Services, end to end: documents, a gateway, upstreams that say what they got.

mod common;
#[path = "common/site.rs"]
mod site;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use common::{Answer, address, bind, local, serve, settings, text, trust, wait_until};
use gateway::body::{Body, Received};
use gateway::server::Server;
use gateway::upstream::{Client, ClientSettings, EgressRule, Origin, Protocol, Timeouts};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use site::{ask, get, mirror, site};
use store::outcome::Outcome;

#[test]
fn hosts_and_paths() {
    let upstream = serve(settings(), mirror);
    let at = |prefix: &str| json!([{ "url": format!("http://{}/{prefix}", address(&upstream)) }]);
    let site = site(json!({
        "services": [
            { "name": "shop", "hosts": ["Shop.example", "*.shop.example"], "auth": ["none"], "routes": [
                { "path": "/*", "upstreams": at("all") },
                { "path": "/v1/*", "upstreams": at("v1") },
                { "path": "/v1/exact", "upstreams": at("exact") },
                { "path": "/v1/{id}", "upstreams": at("id"), "methods": ["GET"] },
                { "path": "/old/{id}/*", "upstreams": at("new"), "rewrite": "/{id}-x/*" },
            ]},
            { "name": "deep", "hosts": ["*.deep.shop.example"], "auth": ["none"], "routes": [
                { "path": "/*", "upstreams": at("deep") },
            ]},
            { "name": "any", "auth": ["none"], "routes": [{ "path": "/any/*", "upstreams": at("any") }] },
            { "name": "models", "hosts": ["models.example"], "auth": ["none"], "routes": [
                { "path": "/v1/chat/completions", "upstreams": at("chat") },
            ]},
        ]
    }));
    let check = |host: &str, target: &str, expected: Result<&str, u16>| {
        let (status, _, body) = get(address(&site.server), host, target, "");
        match expected {
            Ok(line) => assert_eq!(
                body.lines().next(),
                Some(format!("GET {line}").as_str()),
                "{host} {target}"
            ),
            Err(code) => assert_eq!(status, code, "{host} {target} {body}"),
        }
    };
    check("shop.example", "/", Ok("/all/"));
    check("SHOP.example:8080", "/x?y=1&z", Ok("/all/x?y=1&z"));
    check("shop.example", "/v1/a/b", Ok("/v1/v1/a/b"));
    check("shop.example", "/v1/7", Ok("/id/v1/7"));
    check("shop.example", "/v1/exact", Ok("/exact/v1/exact"));
    check("shop.example", "/old/7/a/b?q", Ok("/new/7-x/a/b?q"));
    check("a.shop.example", "/x", Ok("/all/x"));
    check("a.deep.shop.example", "/x", Ok("/deep/x"));
    check("other.example", "/any/x", Ok("/any/any/x"));
    check("other.example", "/nothing", Err(404));
    check("shop.example", "/v1/../secret", Err(400));
    check("shop.example", "/v1/%2e%2e/secret", Err(400));
    // An exact host wins over the AI paths; without one these win.
    check(
        "models.example",
        "/v1/chat/completions",
        Ok("/chat/v1/chat/completions"),
    );
    let (status, head, body) = ask(
        address(&site.server),
        "DELETE /v1/chat/completions HTTP/1.1\r\nhost: models.example\r\nx: y\r\n\r\n",
    );
    assert_eq!(status, 200, "{head} {body}");
}

#[test]
fn methods() {
    let upstream = serve(settings(), mirror);
    let url = format!("http://{}", address(&upstream));
    let site = site(json!({ "services": [{ "name": "s", "auth": ["none"], "routes": [
        { "path": "/get", "methods": ["get"], "upstreams": [{ "url": url }] },
        { "path": "/two", "methods": ["GET", "POST"], "upstreams": [{ "url": url }] },
    ]}]}));
    let check = |method: &str, path: &str, status: u16, allow: Option<&str>| {
        let (got, head, _) = ask(
            address(&site.server),
            &format!("{method} {path} HTTP/1.1\r\nhost: a\r\n\r\n"),
        );
        assert_eq!(got, status, "{method} {path}");
        let line = head.lines().find_map(|line| line.strip_prefix("allow: "));
        assert_eq!(line, allow);
    };
    check("GET", "/get", 200, None);
    check("HEAD", "/get", 200, None);
    check("POST", "/get", 405, Some("get"));
    check("DELETE", "/two", 405, Some("get, post"));
}

#[test]
fn headers_both_ways() {
    let upstream = serve(settings(), mirror);
    let url = format!("http://{}", address(&upstream));
    let site = site(json!({ "services": [{ "name": "s", "auth": ["none"], "routes": [{
        "path": "/*", "upstreams": [{ "url": url }], "host": "inner.example",
        "request_headers": { "remove": ["x-gone"], "set": { "x-set": "new" }, "add": { "x-add": "more" } },
        "response_headers": { "remove": ["x-from"], "set": { "x-to": "client" } },
    }]}]}));
    let sent = "x-gone: 1\r\nx-set: old\r\nx-add: first\r\nx-forwarded-for: 6.6.6.6\r\nforwarded: for=6.6.6.6\r\n\
        x-real-ip: 6.6.6.6\r\nx-forwarded-host: evil\r\nx-forwarded-proto: https\r\nx-request-id: mine\r\n\
        keep-alive: 5\r\nproxy-authorization: secret\r\nte: gzip\r\n";
    let (status, head, body) = get(address(&site.server), "outer.example", "/", sent);
    assert_eq!(status, 200);
    let check = |name: &str, expected: &[&str]| {
        let found: Vec<&str> = body
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter(|(n, _)| *n == name)
            .map(|(_, v)| v)
            .collect();
        assert_eq!(found, expected, "{name} in {body}");
    };
    check("host", &["inner.example"]);
    check("x-gone", &[]);
    check("x-set", &["new"]);
    check("x-add", &["first", "more"]);
    check("x-forwarded-for", &["127.0.0.1"]);
    check("x-forwarded-host", &["outer.example"]);
    check("x-forwarded-proto", &["http"]);
    for gone in [
        "forwarded",
        "x-real-ip",
        "keep-alive",
        "proxy-authorization",
        "te",
        "connection",
    ] {
        check(gone, &[]);
    }
    assert!(!body.contains("mine"), "{body}");
    let id = head
        .lines()
        .find_map(|line| line.strip_prefix("x-request-id: "))
        .expect("an id");
    check("x-request-id", &[id]);
    assert!(
        head.contains("x-to: client") && !head.contains("x-from"),
        "{head}"
    );
}

#[test]
fn keys() {
    let upstream = serve(settings(), mirror);
    let url = format!("http://{}", address(&upstream));
    let route = json!([{ "path": "/*", "upstreams": [{ "url": url }] }]);
    let site = site(json!({
        "consumers": [
            { "name": "a", "keys": [{ "value": "sk-a" }] },
            { "name": "b", "keys": [{ "value": "sk-b" }], "services": ["other*"] },
        ],
        "services": [
            { "name": "keyed", "hosts": ["keyed"], "auth": ["key"], "routes": route },
            { "name": "both", "hosts": ["both"], "auth": ["key", "none"], "routes": route },
            { "name": "open", "hosts": ["open"], "auth": ["none"], "routes": route },
        ]
    }));
    let check = |host: &str, path: &str, headers: &str, status: u16| {
        let (got, _, body) = get(address(&site.server), host, path, headers);
        assert_eq!(got, status, "{host} {path} {headers} {body}");
        if host != "open" {
            assert!(!body.contains("sk-"), "a key went on: {body}");
        }
    };
    check("keyed", "/", "authorization: Bearer sk-a\r\n", 200);
    check("keyed", "/", "x-api-key: sk-a\r\n", 200);
    check("keyed", "/", "x-goog-api-key: sk-a\r\n", 200);
    check("keyed", "/p?a=1&key=sk-a", "", 200);
    check(
        "keyed",
        "/",
        "authorization: Bearer sk-a\r\nx-api-key: sk-b\r\n",
        200,
    );
    check("keyed", "/", "", 401);
    check("keyed", "/", "authorization: Bearer sk-c\r\n", 401);
    check("keyed", "/", "authorization: Basic sk-a\r\n", 401);
    check("keyed", "/", "authorization: Bearer sk-b\r\n", 403);
    check("both", "/", "", 200);
    check("both", "/", "x-api-key: sk-a\r\n", 200);
    check("both", "/", "x-api-key: sk-c\r\n", 401);
    check("open", "/", "authorization: Bearer whatever\r\n", 200);
    let (_, _, body) = get(
        address(&site.server),
        "open",
        "/",
        "authorization: Bearer sk-own\r\n",
    );
    assert!(
        body.contains("Bearer sk-own"),
        "an open service does its own authentication: {body}"
    );
    // Many failures, and nothing is looked up any more.
    for _ in 0..60 {
        get(address(&site.server), "keyed", "/", "x-api-key: sk-wrong\r\n");
    }
    let (status, head, _) = get(address(&site.server), "keyed", "/", "x-api-key: sk-wrong\r\n");
    assert_eq!(status, 429);
    assert!(head.contains("retry-after: "), "{head}");
}

#[test]
fn limits_are_told() {
    let upstream = serve(settings(), mirror);
    let url = format!("http://{}", address(&upstream));
    let site = site(
        json!({ "services": [{ "name": "s", "auth": ["none"], "limits": [{ "requests": "3/h" }], "routes": [
            { "path": "/*", "upstreams": [{ "url": url }] },
        ]}]}),
    );
    let check = |status: u16, remaining: u64| {
        let (got, head, body) = get(address(&site.server), "a", "/", "");
        assert_eq!(got, status, "{body}");
        assert!(
            head.contains(&format!(
                "ratelimit-limit: 3\r\nratelimit-remaining: {remaining}\r\n"
            )),
            "{head}"
        );
        if status == 429 {
            let wait: u64 = head
                .lines()
                .find_map(|line| line.strip_prefix("retry-after: "))
                .expect("told")
                .parse()
                .expect("s");
            assert!((1100..=1200).contains(&wait), "{wait}");
            assert!(body.contains("3 requests/h per service"), "{body}");
        }
    };
    check(200, 2);
    check(200, 1);
    check(200, 0);
    check(429, 0);
    check(429, 0);
}

#[test]
fn pages_of_other_origins() {
    let upstream = serve(settings(), mirror);
    let url = format!("http://{}", address(&upstream));
    let site = site(json!({ "services": [{
        "name": "s", "auth": ["key"],
        "cors": { "origins": ["https://shop.example"], "headers": ["x-a", "x-b"], "expose": ["x-from"],
            "credentials": true, "max_age_s": 60 },
        "routes": [{ "path": "/*", "methods": ["GET", "PUT"], "upstreams": [{ "url": url }] }],
    }]}));
    let check = |method: &str, headers: &str, status: u16, wanted: &[&str], unwanted: &[&str]| {
        let request = format!("{method} / HTTP/1.1\r\nhost: a\r\n{headers}\r\n");
        let (got, head, _) = ask(address(&site.server), &request);
        assert_eq!(got, status, "{head}");
        wanted
            .iter()
            .for_each(|line| assert!(head.contains(line), "{line} in {head}"));
        unwanted
            .iter()
            .for_each(|line| assert!(!head.contains(line), "{line} in {head}"));
    };
    let asks = "access-control-request-method: PUT\r\n";
    check(
        "OPTIONS",
        &format!("origin: https://shop.example\r\n{asks}"),
        204,
        &[
            "access-control-allow-origin: https://shop.example\r\n",
            "access-control-allow-credentials: true\r\n",
            "access-control-allow-methods: get, put\r\n",
            "access-control-allow-headers: x-a, x-b\r\n",
            "access-control-max-age: 60\r\n",
            "vary: origin\r\n",
        ],
        &[],
    );
    check(
        "OPTIONS",
        &format!("origin: https://evil.example\r\n{asks}"),
        204,
        &["vary: origin"],
        &["access-control"],
    );
    // An error, too, may be read by the page that may ask.
    check(
        "GET",
        "origin: https://shop.example\r\n",
        401,
        &[
            "access-control-allow-origin: https://shop.example\r\n",
            "access-control-expose-headers: x-from\r\n",
        ],
        &[],
    );
}

#[test]
fn bodies_have_a_limit() {
    let upstream = serve(settings(), mirror);
    let url = format!("http://{}", address(&upstream));
    let site = site(json!({ "services": [{ "name": "s", "auth": ["none"], "routes": [
        { "path": "/*", "upstreams": [{ "url": url }], "body_max_bytes": 10 },
    ]}]}));
    let check = |request: &str, status: u16| {
        let (got, _, body) = ask(address(&site.server), request);
        assert_eq!(got, status, "{body}");
    };
    check(
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n0123456789",
        200,
    );
    check(
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\n01234567890",
        413,
    );
    check(
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n",
        200,
    );
    check(
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n",
        413,
    );
}

/// An upstream that answers with a status, and counts.
fn fixed(status: u16) -> (Server, Arc<AtomicU64>) {
    let count = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&count);
    let server = serve(settings(), move |_, _| -> Answer {
        counting.fetch_add(1, Relaxed);
        Box::pin(async move {
            text(
                StatusCode::from_u16(status).expect("a status"),
                format!("says {status}"),
            )
        })
    });
    (server, count)
}

fn nowhere() -> String {
    let socket = bind();
    format!("http://{}", socket.local_addr().expect("an address"))
}

#[test]
fn what_fails_is_tried_elsewhere_if_it_may_be() {
    let check = |method: &str, body: &str, first: &str, status: u16, at_second: u64| {
        let (broken, n_broken) = fixed(503);
        let (good, n_good) = fixed(200);
        let first = if first == "503" {
            format!("http://{}", address(&broken))
        } else {
            nowhere()
        };
        let site = site(json!({ "services": [{ "name": "s", "auth": ["none"], "routes": [{
            "path": "/*", "retries": 2, "upstreams": [
                { "url": first, "priority": 0 },
                { "url": format!("http://{}", address(&good)), "priority": 1 },
            ],
        }]}]}));
        let request = format!(
            "{method} / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let (got, _, answer) = ask(address(&site.server), &request);
        assert_eq!(got, status, "{method} {first} {answer}");
        assert_eq!(n_good.load(Relaxed), at_second, "{method} {first}");
        assert!(n_broken.load(Relaxed) <= 1);
    };
    check("GET", "", "503", 200, 1);
    check("DELETE", "", "503", 200, 1);
    // It may have been acted on.
    check("POST", "", "503", 503, 0);
    // A body goes by once.
    check("PUT", "body", "503", 503, 0);
    // Nothing was sent.
    check("GET", "", "nowhere", 200, 1);
    check("POST", "body", "nowhere", 200, 1);
}

#[test]
fn a_failing_upstream_is_passed_over_and_comes_back() {
    let is_well = Arc::new(AtomicU64::new(0));
    let asked = Arc::new(AtomicU64::new(0));
    let (well, counting) = (Arc::clone(&is_well), Arc::clone(&asked));
    let flaky = serve(settings(), move |_, _| -> Answer {
        counting.fetch_add(1, Relaxed);
        let status = if well.load(Relaxed) == 1 {
            StatusCode::OK
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        };
        Box::pin(async move { text(status, "flaky") })
    });
    let site = site(json!({ "services": [{ "name": "s", "auth": ["none"], "routes": [{
        "path": "/*", "breaker": { "failures": 3, "open_ms": 300 },
        "upstreams": [{ "url": format!("http://{}", address(&flaky)) }],
    }]}]}));
    let statuses: Vec<u16> = (0..6)
        .map(|_| get(address(&site.server), "a", "/", "").0)
        .collect();
    assert_eq!(statuses, [500, 500, 500, 503, 503, 503]);
    assert_eq!(asked.load(Relaxed), 3);
    is_well.store(1, Relaxed);
    wait_until("tried again", || {
        get(address(&site.server), "a", "/", "").0 == 200
    });
    assert_eq!(asked.load(Relaxed), 4);
    assert!(site.shared.outcomes[Outcome::NoUpstream as usize].load(Relaxed) >= 3);
}

#[test]
fn an_ill_upstream_is_left_alone() {
    let health = Arc::new(AtomicU64::new(500));
    let told = Arc::clone(&health);
    let ill = serve(settings(), move |request: Request<Received>, _| -> Answer {
        let status = if request.uri().path() == "/health" {
            told.load(Relaxed) as u16
        } else {
            200
        };
        Box::pin(async move { text(StatusCode::from_u16(status).expect("a status"), "ill") })
    });
    let (good, _) = fixed(200);
    let site = site(json!({ "services": [{ "name": "s", "auth": ["none"], "routes": [{
        "path": "/*", "health": { "path": "/health", "interval_ms": 20, "timeout_ms": 500, "failures": 2, "successes": 2 },
        "upstreams": [{ "url": format!("http://{}", address(&ill)) }, { "url": format!("http://{}", address(&good)), "priority": 1 }],
    }]}]}));
    wait_until("left", || {
        get(address(&site.server), "a", "/", "").2 == "says 200"
    });
    health.store(200, Relaxed);
    wait_until("back", || get(address(&site.server), "a", "/", "").2 == "ill");
}

#[test]
fn weights() {
    let (first, n_first) = fixed(200);
    let (second, n_second) = fixed(200);
    let site = site(json!({ "services": [{ "name": "s", "auth": ["none"], "routes": [{
        "path": "/*", "upstreams": [
            { "url": format!("http://{}", address(&first)), "weight": 3 },
            { "url": format!("http://{}", address(&second)), "weight": 1 },
        ],
    }]}]}));
    for _ in 0..40 {
        get(address(&site.server), "a", "/", "");
    }
    assert_eq!((n_first.load(Relaxed), n_second.load(Relaxed)), (30, 10));
}

#[test]
fn errors_name_nothing_of_the_inside() {
    let slow = serve(settings(), |_, _| -> Answer {
        Box::pin(std::future::pending::<Response<Body>>())
    });
    let inner = nowhere();
    let route = |path: &str, url: &str| json!({ "path": path, "upstreams": [{ "url": url }], "retries": 0, "first_byte_timeout_ms": 100 });
    let site = site(
        json!({ "services": [{ "name": "inner-name", "auth": ["none"], "routes": [
            route("/gone", &inner), route("/slow", &format!("http://{}", address(&slow))), route("/dns", "http://no-such-host.invalid"),
        ]}]}),
    );
    let check = |path: &str, status: u16, code: &str| {
        let (got, head, body) = get(address(&site.server), "a", path, "");
        assert_eq!(got, status, "{path} {body}");
        let error: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(error["error"]["type"], code, "{body}");
        let id = head
            .lines()
            .find_map(|line| line.strip_prefix("x-request-id: "))
            .expect("an id");
        assert_eq!(error["error"]["request_id"], id);
        for inside in ["inner-name", "127.0.0.1", "invalid\"", "no-such-host"] {
            assert!(!body.contains(inside), "{body}");
        }
    };
    check("/gone", 502, "upstream_unreachable");
    check("/slow", 504, "upstream_timeout");
    check("/dns", 502, "upstream_unreachable");
}

#[test]
fn a_private_address_that_nobody_allowed_is_refused() {
    // As a team's document may have it. Names that lead there are in the tests of the whole program.
    let trust = trust();
    let origin =
        Origin::new("http://127.0.0.1:9", Protocol::Auto, EgressRule::default(), trust).expect("a URL");
    let error = local(async {
        let client = Client::new(ClientSettings::default());
        let request = Request::new(Body::Empty);
        client
            .call(&Arc::new(origin), request, &Timeouts::default())
            .await
            .expect_err("refused")
    });
    assert_eq!(error.fault, gateway::upstream::Fault::Forbidden);
    assert!(error.message.contains("loopback"), "{error}");
}

#[test]
fn calls_are_recorded() {
    let upstream = serve(settings(), mirror);
    let url = format!("http://{}", address(&upstream));
    let site = site(json!({
        "consumers": [{ "name": "a", "team": "web", "keys": [{ "value": "sk-a", "name": "first" }] }],
        "services": [{ "name": "s", "auth": ["key"], "routes": [{ "path": "/*", "upstreams": [{ "url": url }] }] }],
    }));
    let (_, head, body) = get(address(&site.server), "a", "/x", "x-api-key: sk-a\r\n");
    get(address(&site.server), "a", "/y", "");
    wait_until("two records", || {
        site.calls.0.lock().expect("not poisoned").len() == 2
    });
    let calls = site.calls.0.lock().expect("not poisoned");
    let (good, bad) = (&calls[0], &calls[1]);
    assert_eq!(
        (good.outcome, good.status, good.bytes_out),
        (Outcome::Ok, 200, body.len() as u64)
    );
    assert_eq!(
        (&*good.consumer, &*good.team, &*good.service, &*good.route),
        ("a", "web", "s", "/*")
    );
    assert_eq!(
        (good.attempts, good.client_ip),
        (1, Some("127.0.0.1".parse().expect("an address")))
    );
    let id: String = good.request_id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(head.contains(&id), "{head}");
    assert_eq!(
        (bad.outcome, bad.status, bad.attempts),
        (Outcome::Unauthenticated, 401, 0)
    );
}

#[test]
fn http2_all_the_way() {
    let upstream = serve(settings(), mirror);
    let url = format!("http://{}", address(&upstream));
    let site = site(
        json!({ "services": [{ "name": "s", "hosts": ["h2.example"], "auth": ["none"], "routes": [
            { "path": "/*", "upstreams": [{ "url": url, "h2c": true }] },
        ]}]}),
    );
    let to = common::origin(address(&site.server), Protocol::Http2);
    let (status, body) = local(async {
        let client = Client::new(ClientSettings::default());
        let request = Request::builder()
            .method(Method::POST)
            .uri("/x?y")
            .header("host", "h2.example")
            .body(Body::full("hello"))
            .expect("a request");
        let reply = client
            .call(&Arc::new(to), request, &Timeouts::default())
            .await
            .expect("an answer");
        let status = reply.response.status();
        (
            status,
            reply.response.into_body().collect(1 << 20).await.expect("a body"),
        )
    });
    let body = String::from_utf8_lossy(&body);
    assert_eq!(status, 200);
    assert!(
        body.starts_with("POST /x?y\n") && body.ends_with("\n\nhello"),
        "{body}"
    );
    assert!(body.contains("x-forwarded-host: h2.example\n"), "{body}");
}
