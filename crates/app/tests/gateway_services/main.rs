//! REST services through the whole program: protocols on both sides, tokens, and where names may lead.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};

#[path = "../common/mod.rs"]
mod common;
mod names;
mod protocols;
mod tokens;

use common::gateway::{CLIENT_KEY, Gateway, PROVIDER_KEY, begin, own_network, wait_for};
use common::http;
use common::simulator::Simulator;

/// A client that closes its half of the connection has left, as one that closes both: nobody can tell them apart.
/// Its call is cancelled at the provider, recorded, and its place is free.
#[test]
fn a_half_closed_client_has_left() {
    if !own_network() {
        return;
    }
    let simulator = Simulator::start(&["--key", PROVIDER_KEY]);
    let weir = Gateway::start(&format!(
        "gateway: {{ listen: [\"127.0.0.1:8080\"] }}\n\
         providers: [{{ name: sim, kind: openai_compatible, base_url: \"http://{}/v1\", keys: [{{ value: {PROVIDER_KEY} }}] }}]\n\
         consumers: [{{ name: shop, keys: [{{ value: {CLIENT_KEY} }}], limits: [{{ concurrency: 1 }}] }}]\n",
        simulator.addr
    ));
    for is_stream in [false, true] {
        let begun = http::get(simulator.addr, "/sim/stats").json()["calls"].clone();
        let body = json!({"model": "sim/sim-slow-60000", "stream": is_stream,
            "messages": [{"role": "user", "content": "say: late"}]});
        let mut stream = begin(weir.addr, CLIENT_KEY, "/v1/chat/completions", &body);
        wait_for("the provider has it", || {
            http::get(simulator.addr, "/sim/stats").json()["calls"] != begun
        });
        stream.shutdown(Shutdown::Write).expect("half closed");
        let mut rest = Vec::new();
        stream
            .read_to_end(&mut rest)
            .expect("the other half is closed too");
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }
    let calls = simulator.calls(2);
    assert!(calls.iter().all(|call| call["cancelled"] == true), "{calls:?}");
    let records = weir.records(2, &["--outcome", "client_gone"]);
    assert!(
        records
            .iter()
            .all(|record| record["status"] == 499 && record["estimated"] == true)
    );
    let answer = weir.post(
        "/v1/chat/completions",
        &json!({"model": "sim/gpt-4o-mini", "messages": [{"role": "user", "content": "say: hi"}]}),
    );
    assert_eq!(answer.map(|answer| answer.status), Some(200), "its place is free");
    // Half of a request is none.
    let mut stream = TcpStream::connect(weir.addr).expect("connected");
    stream
        .write_all(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n{")
        .expect("sent");
    stream.shutdown(Shutdown::Write).expect("half closed");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("closed");
    let rest = String::from_utf8_lossy(&rest);
    assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 4"), "{rest}");
}
