//! What each path answers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::sync::atomic::Ordering;
use std::time::Duration;

use control::Settings;
use control::host::{RecordFormat, Sort, StateChoice};
use serde_json::json;

use crate::fake::{FLOW_ID, FakeHost, Server};

#[test]
fn every_endpoint_answers() {
    let server = Server::start();
    let status = server.get("/api/v1/status");
    assert_eq!((status.status, &status.json()["version"]), (200, &json!("0.1.0")));
    assert_eq!(status.json()["incomplete"], json!(null));
    assert_eq!(status.header("cache-control"), Some("no-store"));
    assert_eq!(status.header("access-control-allow-origin"), None);

    let page = server.get("/api/v1/flows?limit=2").json();
    assert_eq!(page["flows"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&page["total"], &page["incomplete"]),
        (&json!(123_456), &json!("the table was full"))
    );

    assert_eq!(
        server.get(&format!("/api/v1/flows/{FLOW_ID}")).json(),
        json!({ "id": FLOW_ID })
    );
    for id in ["1", "x", "-1", "99999999999999999999999"] {
        let answer = server.get(&format!("/api/v1/flows/{id}"));
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (404, "no_such_flow"),
            "{id}"
        );
    }

    let aggregates = server.get("/api/v1/aggregates").json();
    assert_eq!(aggregates["aggregates"][0]["direction"], json!("to"));
    assert_eq!(
        server.get("/api/v1/programs").json()[0]["name"],
        json!("weir_ingress")
    );
    assert_eq!(
        server.get("/api/v1/openapi.json").json()["openapi"],
        json!("3.1.0")
    );
    assert_eq!(server.get("/healthz").body, "ok\n");
    let metrics = server.get("/metrics");
    assert_eq!(
        metrics.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );

    let nowhere = server.get("/api/v1/flow");
    assert_eq!((nowhere.status, nowhere.code().as_str()), (404, "not_found"));
    let wrong = server.unix("DELETE", "/api/v1/flows", "");
    assert_eq!((wrong.status, wrong.code().as_str()), (405, "wrong_method"));
}

#[test]
fn programs_that_cannot_be_listed_are_one_sentence() {
    let host = FakeHost {
        programs: Err("cannot list BPF programs: it needs root".into()),
        ..FakeHost::default()
    };
    let answer = Server::start_with(host, Settings::default()).get("/api/v1/programs");
    assert_eq!(answer.status, 503);
    let error = &answer.json()["error"];
    assert_eq!(error["message"], json!("cannot list BPF programs: it needs root"));
}

#[test]
fn the_query_reaches_the_host() {
    let server = Server::start();
    let check = |query: &str, sort: Sort, state: StateChoice, limit: usize, filter: Option<&str>| {
        let answer = server.get(&format!("/api/v1/flows{query}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        let asked = server.host.queries.lock().unwrap().pop().unwrap();
        assert_eq!(
            (asked.sort, asked.state, asked.limit),
            (sort, state, limit),
            "{query}"
        );
        assert_eq!(
            asked.filter.map(|filter| filter.to_string()).as_deref(),
            filter,
            "{query}"
        );
    };
    check("", Sort::Bytes, StateChoice::Active, 100, None);
    check("?filter=", Sort::Bytes, StateChoice::Active, 100, None);
    check(
        "?sort=rate&state=all&limit=10000",
        Sort::Rate,
        StateChoice::All,
        10_000,
        None,
    );
    check(
        "?filter=dport+%3D%3D+443%20and%20src%20in%2010.0.0.0/8&state=ended",
        Sort::Bytes,
        StateChoice::Ended,
        100,
        Some("dport == 443 and src in 10.0.0.0/8"),
    );
}

#[test]
fn a_wrong_query_is_told_apart() {
    let server = Server::start();
    let check = |query: &str, code: &str, message: &str| {
        let answer = server.get(&format!("/api/v1/flows?{query}"));
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status, answer.code().as_str()), (400, code), "{query}");
        assert!(error["message"].as_str().unwrap().contains(message), "{error}");
        assert!(!error["hint"].as_str().unwrap().is_empty(), "{error}");
    };
    check(
        "limit=0",
        "bad_query",
        "`limit` is `0`, expected a number from 1 to 10000",
    );
    check("limit=10001", "bad_query", "`limit` is `10001`");
    check("limit=-1", "bad_query", "`limit` is `-1`");
    check(
        "sort=size",
        "bad_query",
        "`sort` is `size`, expected bytes, packets",
    );
    check("state=dead", "bad_query", "expected active, ended or all");
    check("nonsense=1", "bad_query", "`nonsense` is no parameter here");
    check("filter=dprt%3D%3D443", "bad_filter", "dprt");
    check("filter=len%3E5", "bad_filter", "single packets");
    assert!(server.host.queries.lock().unwrap().is_empty());

    let error = server
        .get("/api/v1/flows?filter=tcp%20and%20dprt%3D%3D443")
        .json()["error"]
        .clone();
    assert_eq!(error["span"], json!([8, 12]));
    assert!(error["shown"].as_str().unwrap().contains("^^^^"), "{error}");
}

#[test]
fn a_stream_gives_lines_heartbeats_and_what_was_lost() {
    let settings = Settings {
        heartbeat: Duration::from_millis(50),
        ..Settings::default()
    };
    let mut server = Server::start_with(FakeHost::default(), settings);
    let mut stream = server.connect();
    let path = "/api/v1/flows/stream?filter=udp&format=eve";
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
        server.token
    )
    .unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("HTTP/1.1 200 OK"));
    let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    assert!(
        head.iter()
            .any(|line| line == "content-type: application/x-ndjson"),
        "{head:?}"
    );

    let subscriber = server.host.subscribers.lock().unwrap().pop().unwrap();
    assert_eq!(
        subscriber.filter.unwrap().to_string(),
        "proto == tcp".replace("tcp", "udp")
    );
    assert_eq!(subscriber.format, RecordFormat::Eve);
    // A chunk: its length, the data, an empty line.
    assert_eq!(lines.next().as_deref(), Some("1"), "a heartbeat");
    subscriber.lost.fetch_add(3, Ordering::Relaxed);
    subscriber.lines.blocking_send("{\"id\":1}".into()).unwrap();
    assert!(lines.by_ref().any(|line| line == "{\"id\":1}"));
    assert_eq!(lines.next().as_deref(), Some("{\"lost\":3}"));

    server.stop();
    // The last chunk has length 0: the stream ended as it should.
    assert_eq!(lines.skip_while(|line| line != "0").count(), 2);
    assert!(subscriber.lines.is_closed());
}

#[test]
fn a_stream_ends_when_the_host_ends_it() {
    let server = Server::start();
    let reader = std::thread::scope(|scope| {
        let reader = scope.spawn(|| server.get("/api/v1/flows/stream"));
        let subscriber = loop {
            if let Some(subscriber) = server.host.subscribers.lock().unwrap().pop() {
                break subscriber;
            }
            std::thread::yield_now();
        };
        subscriber.lines.blocking_send("{\"id\":2}".into()).unwrap();
        drop(subscriber);
        reader.join().unwrap()
    });
    assert_eq!(reader.body, "{\"id\":2}\n");
}
