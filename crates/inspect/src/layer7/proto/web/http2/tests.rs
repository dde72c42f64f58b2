//! Conversations, and what is told of them.

use serde_json::{Value, json};

use super::PREFACE;
use crate::layer7::kit::{self, Said};

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field whose name and value stand in full.
fn literal(name: &str, value: &str) -> Vec<u8> {
    [
        &[0, name.len() as u8],
        name.as_bytes(),
        &[value.len() as u8],
        value.as_bytes(),
    ]
    .concat()
}

/// `GET http://www.example.com/` (RFC 7541, C.4.1).
const REQUEST: &[u8] = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";

#[track_caller]
fn check(said: &[Said<'_>], expected: &[Value]) {
    let outcome = kit::stream(said);
    assert_eq!(outcome.insight.app, Some("http2"));
    let bodies: Vec<_> = outcome.bodies().into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, expected);
    kit::check_cuts(said);
}

#[test]
fn requests_and_responses() {
    let client = [
        PREFACE,
        &frame(4, 0, 0, &[0, 1, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1]),
        // Two streams; the second's head goes on in another frame, and has padding and a weight.
        &frame(1, 5, 1, REQUEST),
        &frame(
            1,
            0x29,
            3,
            &[&[2, 0, 0, 0, 0, 7][..], &REQUEST[..3], &[0, 0]].concat(),
        ),
        &frame(9, 4, 3, &literal("content-type", "application/grpc")),
    ]
    .concat();
    let server = [
        frame(4, 0, 0, &[]),
        frame(1, 4, 3, b"\x88"),
        frame(0, 0, 3, b"abc"),
        frame(3, 0, 1, &[0, 0, 0, 8]),
        frame(0, 0, 3, b"de"),
        frame(1, 5, 3, &literal("grpc-status", "0")),
    ]
    .concat();
    let request = |last: Value| {
        json!([{"name": ":method", "value": "GET"}, {"name": ":scheme", "value": "http"},
            {"name": ":path", "value": "/"}, last])
    };
    let said: [Said<'_>; 2] = [(0, &client), (1, &server)];
    check(
        &said,
        &[
            json!({"version": "2", "length": 0, "http2": {"stream_id": 0, "request": {"settings": [
                {"settings_id": "SETTINGSHEADERTABLESIZE", "settings_value": 65536},
                {"settings_id": "SETTINGSNORFC7540PRIORITIES", "settings_value": 1}]}, "response": {}}}),
            json!({"hostname": "www.example.com", "url": "/", "version": "2", "http_method": "GET", "length": 0,
                "request_headers": request(json!({"name": ":authority", "value": "www.example.com"})),
                "http2": {"stream_id": 1, "request": {}, "response": {"error_code": "CANCEL"}}}),
            json!({"url": "/", "version": "2", "http_method": "GET", "status": 200, "length": 5,
                "request_headers": request(json!({"name": "content-type", "value": "application/grpc"})),
                "response_headers": [{"name": ":status", "value": "200"}, {"name": "grpc-status", "value": "0"}],
                "http2": {"stream_id": 3, "request": {"priority": 7}, "response": {}}}),
        ],
    );
    let http = kit::stream(&said).insight.http.expect("http");
    assert_eq!(
        (http.requests, http.host.as_deref()),
        (2, Some("www.example.com"))
    );
}

#[test]
fn upgraded_from_http_1() {
    let server = [
        &b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n"[..],
        &frame(4, 0, 0, &[]),
        &frame(1, 5, 1, b"\x8d"),
    ]
    .concat();
    let client = [PREFACE, &frame(4, 0, 0, &[])].concat();
    let said: [Said<'_>; 3] = [
        (0, b"GET /x HTTP/1.1\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n\r\n"),
        (1, &server),
        (0, &client),
    ];
    let outcome = kit::stream(&said);
    assert_eq!(
        (outcome.insight.app_before, outcome.insight.app),
        (Some("http"), Some("http2"))
    );
    let statuses: Vec<_> = outcome
        .bodies()
        .iter()
        .map(|(_, body)| body["status"].clone())
        .collect();
    assert_eq!(statuses, [101, 404]);
    kit::check_cuts(&said);
}

#[test]
fn what_is_not_http2_is_broken() {
    let events = |rest: &[u8]| {
        let bytes = [PREFACE, &frame(4, 0, 0, &[]), rest].concat();
        let said: [Said<'_>; 1] = [(0, &bytes)];
        kit::check_cuts(&said);
        let events: Vec<_> = kit::stream(&said)
            .anomalies()
            .map(|anomaly| anomaly.event)
            .collect();
        events
    };
    assert_eq!(events(b"GET / HTTP/1.1\r\n"), ["invalid_frame_header"]);
    assert_eq!(events(&frame(1, 4, 1, b"\x80")), ["invalid_header_block"]);
    assert_eq!(events(&frame(1, 0x0c, 1, b"\xff")), ["invalid_padding"]);
    assert_eq!(events(&frame(9, 4, 1, b"\x88")), ["invalid_continuation"]);
    assert_eq!(kit::stream(&[(0, &PREFACE[..20])]).insight.app, None);
}

/// RFC 8484, 4.1.1: the question of a GET, and one of a POST.
#[test]
fn dns_in_it() {
    let question = b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\x03com\0\0\x01\0\x01";
    let asked = "/dns-query?dns=AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB";
    let client = [
        PREFACE,
        &frame(4, 0, 0, &[]),
        &frame(1, 5, 1, &[&b"\x82"[..], &literal(":path", asked)].concat()),
        &frame(
            1,
            4,
            3,
            &[&b"\x83"[..], &literal("content-type", "application/dns-message")].concat(),
        ),
        &frame(0, 0, 3, &question[..9]),
        &frame(0, 1, 3, &question[9..]),
    ]
    .concat();
    let said: [Said<'_>; 1] = [(0, &client)];
    kit::check_cuts(&said);
    let outcome = kit::stream(&said);
    assert_eq!(
        (outcome.insight.app, outcome.insight.app_before),
        (Some("doh2"), Some("http2"))
    );
    let names: Vec<_> = outcome
        .bodies()
        .iter()
        .filter(|(kind, _)| *kind == "dns")
        .map(|(_, body)| body["queries"][0]["rrname"].clone())
        .collect();
    assert_eq!(names, ["www.example.com", "www.example.com"]);
}
