//! Server and client together: what goes in on one side comes out on the other, in both protocols.

mod common;

use std::sync::Arc;

use common::{address, echo, local, origin, proxy, raw, serve, settings};
use gateway::body::Body;
use gateway::upstream::{Client, ClientSettings, Protocol, Timeouts};
use hyper::{Method, Request};

/// client → proxy → upstream, in these protocols.
#[track_caller]
fn check(front: Protocol, back: Protocol, method: &Method, body: &'static str, expected: &str) {
    let upstream = serve(settings(), echo);
    let proxy = proxy(
        settings(),
        ClientSettings::default(),
        origin(address(&upstream), back),
        Timeouts::default(),
    );
    let to = Arc::new(origin(address(&proxy), front));
    let (status, answer) = local(async {
        let client = Client::new(ClientSettings::default());
        let mut last = None;
        // The second goes over kept connections.
        for _ in 0..3 {
            let request = Request::builder()
                .method(method.clone())
                .uri("/path?q=1")
                .body(Body::full(body))
                .expect("a request");
            let reply = client
                .call(&to, request, &Timeouts::default())
                .await
                .expect("an answer");
            let (parts, body) = reply.response.into_parts();
            last = Some((parts.status, body.collect(1 << 20).await.expect("a body")));
        }
        assert_eq!(client.counts().connects, 1);
        last.expect("three turns")
    });
    assert_eq!(status, 200);
    assert!(String::from_utf8_lossy(&answer).ends_with(expected), "{answer:?}");
}

#[test]
fn every_protocol_to_every_protocol() {
    use Protocol::{Http1, Http2};
    for (front, back) in [(Http1, Http1), (Http1, Http2), (Http2, Http1), (Http2, Http2)] {
        check(front, back, &Method::GET, "", "/path?q=1 ");
        check(front, back, &Method::POST, "some body", "/path?q=1 some body");
    }
}

#[test]
fn chunked_in_chunked_out() {
    let upstream = serve(settings(), echo);
    let proxy = proxy(
        settings(),
        ClientSettings::default(),
        origin(address(&upstream), Protocol::Http1),
        Timeouts::default(),
    );
    let answer = raw(
        address(&proxy),
        b"POST /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    );
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("POST /a abcde"),
        "{answer}"
    );
}
