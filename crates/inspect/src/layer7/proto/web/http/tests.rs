//! Conversations, and what is told of them.

use serde_json::{Value, json};

use crate::layer7::insight::Insight;
use crate::layer7::kit::{self, Said};
use crate::layer7::record::Severity;

/// The records of a conversation without header fields, however it is cut.
#[track_caller]
fn check(said: &[Said<'_>], app: Option<&str>, expected: &[Value]) -> Insight {
    let outcome = kit::stream(said);
    let bodies: Vec<Value> = outcome
        .bodies()
        .into_iter()
        .map(|(kind, mut body)| {
            let fields = body.as_object_mut().expect("object");
            fields.shift_remove("request_headers");
            fields.shift_remove("response_headers");
            if kind != "http" {
                fields.insert("kind".into(), kind.into());
            }
            body
        })
        .collect();
    assert_eq!(bodies, expected);
    assert_eq!(outcome.insight.app, app);
    kit::check_cuts(said);
    outcome.insight
}

#[test]
fn a_page_is_fetched() {
    let insight = check(
        &[
            (
                0,
                b"GET /a?b=c HTTP/1.1\r\nHost: Example.com:8080\r\nUser-Agent: curl/8\r\nReferer: http://x/\r\n\r\n",
            ),
            (
                1,
                b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 5\r\n\r\nhello",
            ),
        ],
        Some("http"),
        &[json!({
            "hostname": "Example.com", "http_port": 8080, "url": "/a?b=c", "http_user_agent": "curl/8",
            "http_content_type": "text/html", "http_refer": "http://x/", "http_method": "GET",
            "protocol": "HTTP/1.1", "status": 200, "length": 5, "content_length": 5,
        })],
    );
    let http = insight.http.expect("http");
    assert_eq!(http.host.as_deref(), Some("Example.com"));
    assert_eq!((http.status, http.requests), (Some(200), 1));
    assert_eq!(http.content_length, [None, Some(5)]);
    assert_eq!(insight.host.as_deref(), Some("Example.com"));
}

#[test]
fn requests_may_be_sent_before_answers_come() {
    check(
        &[
            (0, b"HEAD /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
            (0, b"GET /3 HTTP/1.1\r\nHost: a\r\n\r\n"),
            (1, b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\nHTTP/1.1 100 Continue\r\nX: y\r\n\r\n"),
            (1, b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nTrailer: x\r\n\r\n"),
            (1, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n"),
        ],
        Some("http"),
        &[
            json!({"hostname": "a", "url": "/1", "http_method": "HEAD", "protocol": "HTTP/1.1", "status": 200,
                "length": 0, "content_length": 999}),
            json!({"hostname": "a", "url": "/2", "http_method": "POST", "protocol": "HTTP/1.1", "status": 201,
                "length": 15, "request_content_length": 3}),
            json!({"hostname": "a", "url": "/3", "http_method": "GET", "protocol": "HTTP/1.1", "status": 304,
                "length": 0, "content_length": 10}),
        ],
    );
}

#[test]
fn a_body_may_end_with_the_connection() {
    check(
        &[
            (0, b"GET http://h:81/x HTTP/1.0\nHost: h\nAccept: a,\n b\n\n"),
            (1, b"HTTP/1.0 200 OK\n\n"),
            (1, b"HTTP/1.1 is a protocol"),
        ],
        Some("http"),
        &[
            json!({"hostname": "h", "http_port": 81, "url": "http://h:81/x", "http_method": "GET",
                "protocol": "HTTP/1.0", "status": 200, "length": 22}),
        ],
    );
    check(
        &[(0, b"GET /x\r\n"), (1, b"<html>")],
        Some("http"),
        &[json!({"url": "/x", "http_method": "GET", "length": 6})],
    );
}

#[test]
fn without_an_answer_or_a_request() {
    check(
        &[(0, b"PROPFIND /x HTTP/1.1\r\nHost: [::1]:80\r\nDepth: 1\r\n\r\n")],
        Some("http"),
        &[
            json!({"hostname": "[::1]", "http_port": 80, "url": "/x", "http_method": "PROPFIND",
            "protocol": "HTTP/1.1", "length": 0}),
        ],
    );
    check(
        &[(1, b"HTTP/1.1 2XX OK\r\nContent-Length: 0\r\nLocation: /y\r\n\r\n")],
        Some("http"),
        &[
            json!({"protocol": "HTTP/1.1", "status_string": "2XX", "redirect": "/y", "length": 0, "content_length": 0}),
        ],
    );
}

#[test]
fn log_ins_are_counted() {
    let refused: Said = (1, b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n");
    let good: Said = (1, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let basic: Said = (
        0,
        b"GET / HTTP/1.1\r\nAuthorization: Basic YWxpY2U6c2VjcmV0\r\n\r\n",
    );
    let form: Said = (
        0,
        b"POST /login HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 19\r\n\r\nuser=bob&password=x",
    );
    let count = |said: &[Said<'_>]| {
        kit::check_cuts(said);
        let insight = kit::stream(said).insight;
        let http = insight.http.expect("http");
        (
            insight.user,
            insight.has_clear_credential,
            [
                insight.logins_attempted,
                insight.logins_succeeded,
                insight.logins_failed,
            ],
            http.refused,
        )
    };
    let alice = || Some("alice".into());
    assert_eq!(count(&[basic, good, basic, good]), (alice(), true, [1, 1, 0], 0));
    assert_eq!(count(&[basic, refused]), (alice(), true, [1, 0, 1], 1));
    assert_eq!(count(&[form, refused]), (Some("bob".into()), true, [1, 0, 1], 1));
    assert_eq!(count(&[form, good]), (Some("bob".into()), true, [1, 0, 0], 0));
    let open: Said = (0, b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(count(&[open, refused]), (None, false, [0, 0, 0], 1));
}

/// Records show of credentials only their kind.
#[test]
fn credentials_are_not_in_records() {
    let outcome = kit::stream(&[
        (
            0,
            b"GET / HTTP/1.1\r\nAuthorization: Basic YWxpY2U6c2VjcmV0\r\nCookie: id=secret\r\nX: y\r\n\r\n",
        ),
        (
            1,
            b"HTTP/1.1 200 OK\r\nSet-Cookie: id=secret\r\nContent-Length: 0\r\n\r\n",
        ),
    ]);
    let (_, body) = &outcome.bodies()[0];
    assert_eq!(
        body["request_headers"],
        json!([{"name": "Authorization", "value": "Basic …"}, {"name": "Cookie", "value": "…"},
            {"name": "X", "value": "y"}])
    );
    assert_eq!(
        body["response_headers"][0],
        json!({"name": "Set-Cookie", "value": "…"})
    );
}

#[test]
fn what_follows_an_upgrade_is_another_protocol() {
    let insight = check(
        &[
            (
                0,
                b"GET /chat HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n",
            ),
            (
                1,
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x02hi",
            ),
            (0, b"\x81\x82\x00\x00\x00\x01hj\x88\x82\x01\x02\x03\x04\x02\xea"),
        ],
        Some("websocket"),
        &[
            json!({"hostname": "h", "url": "/chat", "http_method": "GET", "protocol": "HTTP/1.1", "status": 101,
                "length": 0}),
            json!({"kind": "websocket", "fin": true, "opcode": "text", "payload_length": 2}),
            json!({"kind": "websocket", "fin": true, "mask": 1, "opcode": "text", "payload_length": 2}),
            json!({"kind": "websocket", "fin": true, "mask": 0x0102_0304, "opcode": "connection_close",
                "payload_length": 2, "close_code": 1000}),
        ],
    );
    assert_eq!(insight.app_before, Some("http"));
}

#[test]
fn a_tunnel_is_looked_into() {
    let insight = check(
        &[
            (0, b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n"),
            (1, b"HTTP/1.1 200 Established\r\n\r\n"),
            (0, b"GET /inside HTTP/1.1\r\n\r\n"),
        ],
        Some("http"),
        &[
            json!({"hostname": "h", "http_port": 443, "url": "h:443", "http_method": "CONNECT",
                "protocol": "HTTP/1.1", "status": 200, "length": 0}),
            json!({"url": "/inside", "http_method": "GET", "protocol": "HTTP/1.1", "length": 0}),
        ],
    );
    assert_eq!(insight.app_before, Some("http"));
    check(
        &[
            (0, b"CONNECT h:443 / HTTP/1.1\r\n\r\n"),
            (1, b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"),
            (0, b"GET / HTTP/1.1\r\n\r\n"),
        ],
        Some("http"),
        &[
            json!({"hostname": "h", "http_port": 443, "url": "h:443", "http_method": "CONNECT",
                "protocol": "HTTP/1.1", "status": 407, "length": 0, "content_length": 0}),
            json!({"url": "/", "http_method": "GET", "protocol": "HTTP/1.1", "length": 0}),
        ],
    );
}

#[test]
fn smuggling_shows() {
    let events = |request: &[u8]| {
        let said: [Said<'_>; 1] = [(0, request)];
        kit::check_cuts(&said);
        let outcome = kit::stream(&said);
        let events: Vec<_> = outcome.anomalies().map(|a| (a.event, a.severity)).collect();
        events
    };
    assert_eq!(
        events(b"POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        [("content_length_and_chunked_in_request", Severity::High)]
    );
    assert_eq!(
        events(b"POST / HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n"),
        [("duplicate_content_length_field_in_request", Severity::High)]
    );
    assert_eq!(
        events(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
        [("invalid_request_chunk_len", Severity::Medium)]
    );
    assert_eq!(
        events(b"GET http://a/ HTTP/1.1\r\nHost: b\r\nno colon\r\n\r\n"),
        [
            ("host_header_ambiguous", Severity::Medium),
            ("request_field_missing_colon", Severity::Low)
        ]
    );
}

/// Of a body bytes may be missing; what follows it is still found, and counted is what was seen.
#[test]
fn bodies_with_holes() {
    let told = |head: &[u8], body: &[u8]| {
        let answer = [head, body].concat();
        let ask: Said<'_> = (0, b"GET / HTTP/1.1\r\n\r\n");
        let end: Said<'_> = (1, b"HTTP/1.1 204 No\r\n\r\n");
        let outcome = kit::stream_captured(&[ask, (1, &answer), ask, end], head.len() + 10);
        let told = outcome.bodies().into_iter();
        told.map(|(_, body)| (body["status"].clone(), body["length"].clone()))
            .collect::<Vec<_>>()
    };
    let both = vec![(json!(200), json!(10)), (json!(204), json!(0))];
    assert_eq!(
        told(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", &[b'x'; 100]),
        both
    );
    // The first message is whole but for the end of its head: nothing says where the next one is.
    assert_eq!(
        told(b"HTTP/1.1 200 OK\r\nX: y\r\n", &[b'x'; 100])[1].0,
        json!(204)
    );
}

#[test]
fn others_are_not_http() {
    for other in [
        &b"OPTIONS rtsp://h/ RTSP/1.0\r\nCSeq: 1\r\n\r\n"[..],
        b"INVITE sip:a@b SIP/2.0\r\n\r\n",
        b"EHLO example.com\r\n",
        b"USER anonymous\r\n",
        b"GET hkey\r\n",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    ] {
        assert_ne!(kit::stream(&[(0, other)]).insight.app, Some("http"));
    }
}

/// Found by the fuzzer: the line was a request whole, and none while it came.
#[test]
fn a_line_with_control_characters_is_no_request_however_it_is_cut() {
    check(
        &[(0, b"RR inval\0\x01GET /ws HTTP/1.1\r\nHost: a\r\n\r\n")],
        None,
        &[],
    );
}
