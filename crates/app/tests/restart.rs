//! `weir restart` of the whole binary: it waits, it says what went wrong, and nothing of that costs a request.
//! Needs root.

mod common;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use common::gateway::{CLIENT_KEY, Gateway, PROVIDER_KEY, begin, own_network, wait_for};
use common::http;
use common::simulator::Simulator;
use nix::sys::signal::Signal;
use serde_json::json;

fn start() -> (Gateway, Simulator) {
    let simulator = Simulator::start(&["--key", PROVIDER_KEY]);
    let gateway = Gateway::start(&format!(
        "gateway: {{ drain_ms: 20000 }}\n\
         providers: [{{ name: sim, kind: openai_compatible, base_url: \"http://{}/v1\", keys: [{{ value: {PROVIDER_KEY} }}] }}]\n\
         consumers: [{{ name: shop, keys: [{{ value: {CLIENT_KEY} }}] }}]\n",
        simulator.addr
    ));
    (gateway, simulator)
}

/// The status of a call with a key.
fn status(gateway: &Gateway, key: &str) -> u16 {
    let body =
        json!({ "model": "sim/gpt-4o-mini", "messages": [{ "role": "user", "content": "say: hello" }] });
    let answer = gateway.ask(key, "/v1/chat/completions", &body);
    answer.expect("an answer").status
}

/// Whether it is done, and its words.
fn restart(gateway: &Gateway) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["restart", "--instance", &gateway.instance])
        .output()
        .expect("weir starts");
    let words = String::from_utf8(output.stderr).expect("UTF-8");
    (output.status.success(), words)
}

#[track_caller]
fn wait_for_workers(gateway: &Gateway, is_so: impl Fn(&BTreeSet<i32>) -> bool) {
    wait_for("the old workers have ended", || is_so(&gateway.workers()));
}

#[test]
fn it_waits_until_the_new_worker_serves() {
    if !own_network() {
        return;
    }
    let (gateway, _simulator) = start();
    let old = gateway.workers();
    let (is_done, words) = restart(&gateway);
    assert!(is_done, "{words}");
    let new: Vec<i32> = gateway.workers().difference(&old).copied().collect();
    let [new] = new[..] else { panic!("{new:?}") };
    assert!(words.contains(&format!("worker {new} serves")), "{words}");
    assert_eq!(status(&gateway, CLIENT_KEY), 200);
    wait_for_workers(&gateway, |now| *now == BTreeSet::from([new]));

    // What cannot be taken is said where it was asked for, and changes nothing.
    let path = gateway.path("weir.yaml");
    let text = std::fs::read_to_string(&path).expect("read");
    std::fs::write(&path, "gateway: { listen: 7 }\n").expect("written");
    let (is_done, words) = restart(&gateway);
    assert!(
        !is_done && words.contains("nothing is changed") && words.contains("listen"),
        "{words}"
    );
    assert_eq!(gateway.workers(), BTreeSet::from([new]));
    std::fs::write(&path, text).expect("written");
    assert_eq!(status(&gateway, CLIENT_KEY), 200);
}

/// The new gateway does not start: the old worker serves on, and hears of keys that others revoke.
#[test]
fn an_old_worker_that_goes_on_hears_of_revocations() {
    if !own_network() {
        return;
    }
    let (gateway, _simulator) = start();
    let made = gateway.weir(&["key", "create", "--consumer", "shop", "--name", "one"]);
    let key = String::from_utf8(made.stdout).expect("UTF-8").trim().to_owned();
    assert_eq!(status(&gateway, &key), 200);
    let folder = gateway.path("data").join("gateway").join(&gateway.instance);
    let seal = std::fs::read(folder.join("seal.key")).expect("read");
    std::fs::write(folder.join("seal.key"), "no key").expect("written");
    let (is_done, words) = restart(&gateway);
    assert!(
        !is_done && words.contains("the worker before it goes on"),
        "{words}"
    );
    assert_eq!(status(&gateway, &key), 200);

    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let identities = store::identity::Identities::open(&folder.join("keys.sqlite")).expect("opened");
    assert!(runtime.block_on(identities.revoke("one", 1)).expect("revoked"));
    let revoked = Instant::now();
    while status(&gateway, &key) == 200 {
        assert!(revoked.elapsed() < Duration::from_secs(2), "{}", gateway.log());
    }
    assert_eq!(status(&gateway, &key), 401);
    assert_eq!(status(&gateway, CLIENT_KEY), 200);

    // Once it is mended a restart takes, and both workers make room.
    let before = gateway.workers();
    std::fs::write(folder.join("seal.key"), seal).expect("written");
    let (is_done, words) = restart(&gateway);
    assert!(is_done, "{words} {}", gateway.log());
    assert_eq!((status(&gateway, CLIENT_KEY), status(&gateway, &key)), (200, 401));
    wait_for_workers(&gateway, |now| now.len() == 1 && now.is_disjoint(&before));
}

/// The new gateway cannot even be prepared, since its data folder is a file: the same, and it comes back.
#[test]
fn a_gateway_that_cannot_be_prepared_leaves_the_old_one() {
    if !own_network() {
        return;
    }
    let (gateway, _simulator) = start();
    let path = gateway.path("weir.yaml");
    let text = std::fs::read_to_string(&path).expect("read");
    std::fs::write(gateway.path("file"), "").expect("written");
    let data = gateway.path("data").display().to_string();
    let wrong = text.replace(&data, &gateway.path("file").display().to_string());
    assert_ne!(wrong, text);
    std::fs::write(&path, wrong).expect("written");
    let (is_done, words) = restart(&gateway);
    assert!(!is_done && words.contains("cannot make"), "{words}");
    assert_eq!(status(&gateway, CLIENT_KEY), 200);
    std::fs::write(&path, text).expect("written");
    let before = gateway.workers();
    let (is_done, words) = restart(&gateway);
    assert!(is_done, "{words} {}", gateway.log());
    assert_eq!(status(&gateway, CLIENT_KEY), 200);
    wait_for_workers(&gateway, |now| now.len() == 1 && now.is_disjoint(&before));
}

/// An image that fails before it has a worker ends only when those of the image before have.
#[test]
fn an_image_that_fails_lets_open_requests_end() {
    if !own_network() {
        return;
    }
    let (mut gateway, simulator) = start();
    let body = json!({ "model": "sim/sim-slow-1500", "messages": [{ "role": "user", "content": "say: to the end" }] });
    let open = begin(gateway.addr, CLIENT_KEY, "/v1/chat/completions", &body);
    wait_for("the provider is asked", || {
        http::get(simulator.addr, "/sim/stats").json()["calls"].as_u64() >= Some(1)
    });
    // It cannot take its lock.
    let lock = PathBuf::from(format!("/run/weir/{}.lock", &gateway.instance));
    std::fs::remove_file(&lock).expect("removed");
    std::fs::create_dir(&lock).expect("made");
    gateway.signal(Signal::SIGUSR2);
    let answer = http::answer(open).expect("an answer");
    std::fs::remove_dir(&lock).expect("removed");
    assert_eq!((answer.status, answer.is_cut), (200, false), "{}", gateway.log());
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "to the end");
    let end = gateway.child.wait().expect("an end");
    assert!(!end.success());
    assert!(gateway.log().contains(".lock"), "{}", gateway.log());
}
