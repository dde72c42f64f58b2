//! The plain upstream, recorded answers, and the fast path.

use std::io::{Read, Write};
use std::net::TcpStream;

use base64::Engine;
use serde_json::{Value, json};

use crate::common::http::{self, Answer};
use crate::common::simulator::Simulator;
use crate::{BEARER, CLAUDE, chat, messages, recorded_folder, with};

#[test]
fn a_rest_upstream_is_there() {
    let sim = Simulator::start(&[]);
    let shown = http::call(
        sim.addr,
        "PATCH",
        "/echo/a%20b?c=d",
        &[("x-one", "1"), ("x-one", "2")],
        b"body",
    )
    .json();
    assert_eq!(shown["method"], "PATCH");
    assert_eq!(shown["path"], "/echo/a%20b");
    assert_eq!(shown["query"], "c=d");
    assert_eq!(shown["headers"]["x-one"], json!(["1", "2"]));
    assert_eq!(shown["body"], "body");
    let binary = http::call(sim.addr, "POST", "/echo", &[], &[0xff, 0]).json();
    assert_eq!(binary["body_base64"], "/wA=");
    assert_eq!(http::get(sim.addr, "/status/418").status, 418);
    assert_eq!(http::get(sim.addr, "/status/204").status, 204);
    assert_eq!(http::get(sim.addr, "/bytes/100000").body.len(), 100_000);
    assert_eq!(http::get(sim.addr, "/delay/20").json()["delayed_ms"], 20);
    let ticks = http::get(sim.addr, "/sse?n=3&interval_ms=1");
    assert_eq!(
        ticks.events(),
        [json!({"n": 0}), json!({"n": 1}), json!({"n": 2})]
    );
}

#[test]
fn a_websocket_sends_back_what_it_gets() {
    let sim = Simulator::start(&[]);
    let mut stream = TcpStream::connect(sim.addr).unwrap();
    let handshake = "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(handshake.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    // The key and its answer are those of RFC 6455, section 1.3.
    assert!(
        head.starts_with("HTTP/1.1 101 ") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "{head}"
    );
    let mut say = |first: u8, payload: &[u8], expected: &[u8]| {
        let mask = [1, 2, 3, 4];
        let mut frame = vec![first, 0x80 | 126, (payload.len() >> 8) as u8, payload.len() as u8];
        frame.extend_from_slice(&mask);
        frame.extend(
            payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        stream.write_all(&frame).unwrap();
        let mut answer = vec![0; expected.len()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, expected);
    };
    say(
        0x81,
        "Grüße".as_bytes(),
        &[&[0x81, 7], "Grüße".as_bytes()].concat(),
    );
    say(0x89, b"p", &[0x8a, 1, b'p']);
    say(0x82, &[7; 300], &[&[0x82, 126, 1, 44][..], &[7; 300]].concat());
    say(0x88, &[3, 232], &[0x88, 2, 3, 232]);
}

/// Every recorded interaction with its cassette's name.
fn cassettes() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(recorded_folder()).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let cassette: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let interactions = cassette["interactions"].as_array().unwrap().iter();
            found.extend(
                interactions
                    .filter(|one| one["request"].is_object())
                    .map(|one| (name.clone(), one.clone())),
            );
        }
    }
    found
}

fn body_of(side: &Value) -> Vec<u8> {
    match (&side["body_json"], &side["body"], &side["body_b64"]) {
        (Value::Null, Value::String(text), _) => text.clone().into_bytes(),
        (Value::Null, _, Value::String(packed)) => {
            base64::engine::general_purpose::STANDARD.decode(packed).unwrap()
        }
        (Value::Null, _, _) if side.get("body_json").is_none() => Vec::new(),
        (document, _, _) => document.to_string().into_bytes(),
    }
}

#[test]
fn recorded_answers_come_byte_by_byte() {
    let folder = recorded_folder();
    let folder = folder.to_str().unwrap();
    let sim = Simulator::start(&["--replay", folder, "--chunking", "random"]);
    let cassettes = cassettes();
    assert!(cassettes.len() > 400);
    let key = |one: &Value| {
        let uri = one["request"]["uri"].as_str().unwrap();
        let path = uri.split_once("://").unwrap().1.split_once('/').unwrap().1;
        (
            path.split('?').next().unwrap().to_owned(),
            body_of(&one["request"]),
        )
    };
    let send = |one: &Value, headers: &[(&str, &str)]| {
        let request = &one["request"];
        let uri = request["uri"].as_str().unwrap();
        let path = uri.split_once("://").unwrap().1.split_once('/').unwrap().1;
        let method = request["method"].as_str().unwrap().to_ascii_uppercase();
        http::call(sim.addr, &method, &format!("/{path}"), headers, &body_of(request))
    };
    #[track_caller]
    fn check(name: &str, answer: &Answer, expected: &Value) {
        assert_eq!(json!(answer.status), expected["status"], "{name}");
        assert!(
            answer.body == body_of(expected) && !answer.is_cut,
            "{name}: {:?}",
            answer.text()
        );
        for (header, value) in expected["headers"].as_object().into_iter().flatten() {
            if header != "transfer-encoding" {
                assert_eq!(answer.header(header), value.as_str(), "{name}: {header}");
            }
        }
    }
    for (name, one) in &cassettes {
        let answer = send(one, &[("x-sim-cassette", name)]);
        check(name, &answer, &one["response"]);
        // The same by request alone, where no other recording has the same one.
        if cassettes
            .iter()
            .filter(|(_, other)| key(other) == key(one))
            .count()
            == 1
        {
            check(name, &send(one, &[]), &one["response"]);
        }
    }
    let model = json!({"model": "sim-cassette-envoy-ai-gateway__chat-basic", "messages": []});
    let named = http::post(sim.addr, "/v1/chat/completions", &[], &model);
    assert_eq!(named.json()["id"], "chatcmpl-C4Gm9xikLXbgE8He0BHWeoM03aa72");
    let unknown = http::post(sim.addr, "/v1/chat/completions", &[], &json!({"model": "x"}));
    assert_eq!(unknown.status, 404);
    assert!(
        unknown
            .text()
            .contains("nothing recorded for POST /v1/chat/completions")
    );
}

#[test]
fn the_fast_path_leaves_what_is_not_plain_to_the_ordinary_one() {
    let sim = Simulator::start(&["--fast", "--threads", "1"]);
    let mut stream = TcpStream::connect(sim.addr).unwrap();
    let request = |body: &Value, close: bool| {
        let body = body.to_string();
        let close = if close { "connection: close\r\n" } else { "" };
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer sk-sim\r\n{close}content-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    // Two at once, then one that the ordinary server answers, on the same connection.
    let plain = request(&chat("hello"), false);
    let last = request(&with(chat("say: hi"), json!({"model": "sim-model"})), true);
    stream
        .write_all(format!("{plain}{plain}{last}").as_bytes())
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3, "{text}");
    assert_eq!(text.matches("chatcmpl-fast").count(), 2);
    assert!(text.contains("\"content\":\"hi\""));
    let streamed = with(chat("say: hi"), json!({"stream": true}));
    assert!(
        http::post(sim.addr, "/v1/chat/completions", &[BEARER], &streamed)
            .text()
            .contains("[DONE]")
    );
    assert_eq!(
        http::post(sim.addr, "/v1/messages", &CLAUDE, &messages("x")).status,
        200
    );
    assert_eq!(
        http::post(sim.addr, "/v1/messages", &CLAUDE[1..], &messages("x")).status,
        401
    );
    assert!(http::get(sim.addr, "/sim/calls").body.is_empty());
    let kept = Simulator::start(&["--fast", "--journal"]);
    http::post(kept.addr, "/v1/chat/completions", &[BEARER], &chat("x"));
    assert_eq!(kept.calls(1).len(), 1);
}
