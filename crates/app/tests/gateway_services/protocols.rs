//! HTTP/1.1 and HTTP/2, plain and over TLS, on both sides; trailers.

use super::*;
use common::lines::{Caller, LINES, Pair};
use common::upstream::Upstream;

fn ask(caller: &mut Caller, path: &str, body: &Value) -> String {
    let (status, text) = caller
        .post(path, body)
        .unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(status, 200, "{path}: {text}");
    text
}

#[test]
fn http2_to_an_upstream_over_tls() {
    if !own_network() {
        return;
    }
    const CALLERS: usize = 6;
    const CALLS: usize = 40;
    let folder = tempfile::tempdir().expect("a folder");
    let (ours, theirs) = (Pair::of(folder.path()), folder.path().join("theirs"));
    std::fs::create_dir(&theirs).expect("a folder");
    let theirs = Pair::of(&theirs);
    let certificate = ours.renew();
    theirs.renew();
    let upstream = Upstream::start(Some(&theirs));
    let plain = Upstream::start(None);
    let weir = Gateway::start(&format!(
        "gateway:\n  listen: [\"127.0.0.1:8080\"]\n  \
         tls: [{{ listen: \"127.0.0.1:8443\", certificates: [{{ chain: {0}, key: {4} }}] }}]\n\
         consumers: [{{ name: shop, keys: [{{ value: {CLIENT_KEY} }}] }}]\n\
         services:\n\
         - {{ name: safe, auth: [key], routes: [{{ path: /safe/*, upstreams: [{{ url: \"https://{1}\", ca: {2} }}] }}] }}\n\
         - {{ name: unknown, auth: [key], routes: [{{ path: /unknown/*, upstreams: [{{ url: \"https://{1}\" }}] }}] }}\n\
         - {{ name: plain, auth: [key], routes: [{{ path: /plain/*, upstreams: [{{ url: \"http://{3}\" }}] }}] }}\n\
         - {{ name: h2c, auth: [key], routes: [{{ path: /h2c/*, upstreams: [{{ url: \"http://{3}\", h2c: true }}] }}] }}\n",
        ours.chain.display(),
        upstream.addr,
        theirs.chain.display(),
        plain.addr,
        ours.key.display(),
    ));
    // Callers of each kind at a time; every answer is to what was asked.
    std::thread::scope(|scope| {
        for line in LINES {
            for number in 0..CALLERS {
                let (certificate, weir) = (&certificate, &weir);
                scope.spawn(move || {
                    let port = if line.is_tls { 8443 } else { weir.addr.port() };
                    let addr = (weir.addr.ip(), port).into();
                    let mut caller = Caller::new(line, addr, CLIENT_KEY, std::slice::from_ref(certificate));
                    for turn in 0..CALLS {
                        let body = json!({"caller": format!("{line:?} {number}"), "turn": turn});
                        for (path, version) in [
                            ("/safe/a", "HTTP/2.0"),
                            ("/plain/a", "HTTP/1.1"),
                            ("/h2c/a", "HTTP/2.0"),
                        ] {
                            let said = ask(&mut caller, path, &body);
                            assert_eq!(said, format!("{version} POST {path} {body}"));
                        }
                    }
                    assert_eq!(caller.n_connections(), 1);
                });
            }
        }
    });
    let n_asked = LINES.len() * CALLERS * CALLS;
    assert_eq!(upstream.n_requests.load(Relaxed), n_asked);
    // Many requests share a connection.
    let n_connections = upstream.n_connections.load(Relaxed);
    assert!(n_connections <= LINES.len() * CALLERS, "{n_connections}");
    let n_before = upstream.n_requests.load(Relaxed);
    let bearer = format!("Bearer {CLIENT_KEY}");
    let answer = http::call(weir.addr, "GET", "/unknown/a", &[("authorization", &bearer)], b"");
    assert_eq!(
        answer.status,
        502,
        "a certificate of nobody known: {}",
        answer.text()
    );
    assert_eq!(upstream.n_requests.load(Relaxed), n_before);
    println!("{n_asked} requests over {n_connections} HTTP/2 connections over TLS");
}

#[test]
fn trailers_pass_both_ways() {
    if !own_network() {
        return;
    }
    let upstream = Upstream::start(None);
    let weir = Gateway::start(&format!(
        "gateway: {{ listen: [\"127.0.0.1:8080\"] }}\n\
         services:\n\
         - {{ name: one, auth: [none], routes: [{{ path: /one/*, upstreams: [{{ url: \"http://{0}\" }}] }}] }}\n\
         - {{ name: two, auth: [none], routes: [{{ path: /two/*, upstreams: [{{ url: \"http://{0}\", h2c: true }}] }}] }}\n",
        upstream.addr
    ));
    for (path, version) in [("/one/a", "HTTP/1.1"), ("/two/a", "HTTP/2.0")] {
        for is_http2 in [false, true] {
            let line = common::lines::Line {
                is_http2,
                is_tls: false,
            };
            // What the two say to each other without anything between.
            let mut direct = Caller::new(line, upstream.addr, CLIENT_KEY, &[]);
            let (_, trailers) = direct
                .post_with_trailer(path, "some", ("x-digest", "d1"))
                .expect("an answer");
            assert_eq!(trailers.len(), 2, "{line:?}: {trailers:?}");
            let mut caller = Caller::new(line, weir.addr, CLIENT_KEY, &[]);
            let (text, trailers) = caller
                .post_with_trailer(path, "some", ("x-digest", "d1"))
                .expect("an answer");
            assert_eq!(text, format!("{version} POST {path} some"));
            let trailer = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok());
            assert_eq!(
                (trailer("x-status"), trailer("x-came")),
                (Some("0"), Some("d1")),
                "{line:?} {path}: {trailers:?}"
            );
        }
    }
}
