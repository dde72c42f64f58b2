//! Trouble on request, and what the journal makes of it.

use std::io::Read;

use serde_json::{Value, json};

use crate::common::http;
use crate::common::simulator::Simulator;
use crate::{BEARER, CLAUDE, chat, messages, with};

#[test]
fn trouble_comes_by_the_models_name() {
    let sim = Simulator::start(&[]);
    let body = |model: &str, more: Value| {
        with(
            with(chat("say: 0123456789abcdefghij"), json!({"model": model})),
            more,
        )
    };
    let send = |model: &str, more: Value| {
        let body = body(model, more).to_string();
        http::answer(http::send(
            sim.addr,
            "POST",
            "/v1/chat/completions",
            &[BEARER],
            body.as_bytes(),
        ))
    };
    let stream = || json!({"stream": true});
    let limited = send("sim-429", json!({})).unwrap();
    assert_eq!((limited.status, limited.header("retry-after")), (429, Some("1")));
    assert_eq!(limited.json()["error"]["code"], "rate_limit_exceeded");
    assert_eq!(send("openai/sim-503", json!({})).unwrap().status, 503);
    assert!(send("sim-cut-0", json!({})).is_none());
    let cut = send("sim-cut-2", stream()).unwrap();
    assert!(cut.is_cut);
    assert_eq!(cut.text().matches("data: ").count(), 2);
    let cut = send("sim-cut-1", json!({})).unwrap();
    assert!(cut.is_cut && !cut.body.is_empty());
    let broken = send("sim-error-in-stream-2", stream()).unwrap();
    assert_eq!(broken.events().last().unwrap()["error"]["type"], "server_error");
    assert_eq!(broken.events().len(), 3);
    let commented = send("sim-comments", stream()).unwrap();
    assert!(commented.text().starts_with(": SIM PROCESSING\n\ndata: "));
    assert!(commented.events().len() > 2);
    let bad = send("sim-bad-json", json!({})).unwrap();
    assert!(serde_json::from_slice::<Value>(&bad.body).is_err());
    let garbage = send("sim-garbage", stream()).unwrap();
    assert!(std::str::from_utf8(&garbage.body).is_err());
    let long = send("sim-oversize", json!({})).unwrap();
    assert!(long.body.len() > 64 << 20);
    let started = std::time::Instant::now();
    assert_eq!(send("sim-slow-150", json!({})).unwrap().status, 200);
    assert!(started.elapsed() >= std::time::Duration::from_millis(150));
    let statuses: Vec<u16> = (0..40)
        .map(|_| send("sim-flaky-50", json!({})).unwrap().status)
        .collect();
    assert!(statuses.contains(&200) && statuses.contains(&500), "{statuses:?}");
    let calls = sim.calls(51);
    assert!(
        calls
            .iter()
            .any(|call| call["model"] == "sim-cut-0" && call["broken"] == true)
    );

    // The whole provider, until it recovers.
    let fault =
        |body: Value| http::call(sim.addr, "PUT", "/sim/fault", &[], body.to_string().as_bytes()).status;
    assert_eq!(fault(json!({"down": true})), 204);
    assert!(send("gpt-4o", json!({})).is_none());
    assert_eq!(fault(json!({"status": 503})), 204);
    assert_eq!(send("gpt-4o", json!({})).unwrap().status, 503);
    // Calls that met the fault are in the journal too; they were not read, so no model is known.
    let calls = sim.calls(53);
    let met: Vec<&Value> = calls.iter().filter(|call| call["model"] == "").collect();
    assert_eq!(
        (&met[0]["broken"], &met[1]["status"]),
        (&json!(true), &json!(503))
    );
    assert_eq!(fault(json!({"stauts": 503})), 400);
    assert_eq!(fault(json!({})), 204);
    assert_eq!(send("gpt-4o", json!({})).unwrap().status, 200);
}

#[test]
fn the_journal_knows_what_a_client_that_left_had_been_sent() {
    let sim = Simulator::start(&[]);
    let body = with(
        chat("say: 0123456789abcdefghijklmnopqrstuvwxyz"),
        json!({"model": "sim-drip-50", "stream": true}),
    );
    let mut stream = http::send(
        sim.addr,
        "POST",
        "/v1/chat/completions",
        &[BEARER],
        body.to_string().as_bytes(),
    );
    let mut received = Vec::new();
    while String::from_utf8_lossy(&received).matches("\"content\":").count() < 3 {
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0, "the stream goes on");
        received.extend_from_slice(&buffer[..length]);
    }
    drop(stream);
    let calls = sim.calls(1);
    assert_eq!(calls[0]["cancelled"], true);
    let sent = calls[0]["usage"]["output"].as_u64().unwrap();
    // 36 bytes are nine tokens; at least two runs of text had come, and not all.
    assert!((2..9).contains(&sent), "{sent}");
    assert_eq!(calls[0]["usage"]["input"], 11);

    let whole = with(
        chat("usage: {\"input\": 7, \"cache_read\": 5, \"output\": 40, \"reasoning\": 3}\nsay: hi"),
        json!({}),
    );
    let answer = http::post(sim.addr, "/v1/chat/completions", &[BEARER], &whole).json();
    assert_eq!(answer["usage"]["prompt_tokens"], 12);
    assert_eq!(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 5);
    assert_eq!(answer["usage"]["completion_tokens"], 43);
    assert_eq!(
        answer["usage"]["completion_tokens_details"]["reasoning_tokens"],
        3
    );
    let calls = sim.calls(2);
    assert_eq!(calls[1]["usage"]["output"], 40);
    assert_eq!(calls[1]["cancelled"], false);
    assert_eq!(
        format!("chatcmpl-{}", calls[1]["id"].as_str().unwrap()),
        answer["id"]
    );
    // A cut of the simulator's own: what was received is what is written down.
    let cut = with(
        chat("say: 0123456789abcdefghijklmnopqrstuvwxyz"),
        json!({"model": "sim-cut-3", "stream": true}),
    );
    let received = http::post(sim.addr, "/v1/chat/completions", &[BEARER], &cut);
    let text: usize = received
        .events()
        .iter()
        .filter_map(|one| one["choices"][0]["delta"]["content"].as_str())
        .map(str::len)
        .sum();
    let calls = sim.calls(3);
    assert_eq!(
        (calls[2]["broken"].clone(), calls[2]["usage"]["output"].clone()),
        (json!(true), json!(text.div_ceil(4)))
    );
    assert_eq!(http::call(sim.addr, "DELETE", "/sim/calls", &[], b"").status, 204);
    assert!(http::get(sim.addr, "/sim/calls").body.is_empty());
}

#[test]
fn a_key_over_its_rate_is_told_when_to_come_again() {
    let sim = Simulator::start(&["--rpm", "2"]);
    let send = || http::post(sim.addr, "/v1/messages", &CLAUDE, &messages("x"));
    let first = send();
    assert_eq!(first.header("anthropic-ratelimit-requests-limit"), Some("2"));
    assert_eq!(first.header("anthropic-ratelimit-requests-remaining"), Some("1"));
    assert_eq!(send().status, 200);
    let over = send();
    assert_eq!(over.status, 429);
    assert_eq!(over.json()["error"]["type"], "rate_limit_error");
    assert!(over.header("retry-after").unwrap().parse::<u64>().unwrap() <= 60);
}

#[test]
fn streams_are_cut_at_odd_places() {
    for chunking in ["bytes", "random"] {
        let sim = Simulator::start(&["--chunking", chunking]);
        let streamed = with(chat("say: Grüße 🙂"), json!({"stream": true}));
        let events = http::post(sim.addr, "/v1/chat/completions", &[BEARER], &streamed).events();
        let text: String = events
            .iter()
            .filter_map(|one| one["choices"][0]["delta"]["content"].as_str())
            .collect();
        assert_eq!(text, "Grüße 🙂", "{chunking}");
    }
}
