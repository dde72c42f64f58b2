//! The whole binary under load: restart, end, revocation. No request is lost, none is made twice. Needs root.
//!
//! Each request asks for a text of its own and must get it; the provider's journal must have as many calls as
//! were answered.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

mod common;
use common::gateway::{CLIENT_KEY, Gateway, PROVIDER_KEY, SIMULATOR, own_network, wait_for};
use common::http;
use common::simulator::Simulator;

/// Callers at a time.
const CALLERS: usize = 8;

fn sections(simulator: &Simulator) -> String {
    format!(
        "gateway: {{ listen: [\"127.0.0.1:8080\"], drain_ms: 20000 }}\n\
         providers: [{{ name: sim, kind: openai_compatible, base_url: \"http://{}/v1\", keys: [{{ value: {PROVIDER_KEY} }}] }}]\n\
         models:\n\
         - {{ name: plain, targets: [{{ model: sim/gpt-4o-mini }}] }}\n\
         - {{ name: slow, targets: [{{ model: sim/sim-slow-1500 }}] }}\n\
         consumers: [{{ name: load, keys: [{{ value: {CLIENT_KEY} }}] }}]\n",
        simulator.addr
    )
}

/// Sends a request that must be answered with `marker`.
fn begin(addr: SocketAddr, key: &str, model: &str, marker: &str, is_stream: bool) -> TcpStream {
    let body = json!({
        "model": model, "stream": is_stream,
        "messages": [{"role": "user", "content": format!("say: {marker}")}],
    });
    common::gateway::begin(addr, key, "/v1/chat/completions", &body)
}

/// What is wrong with the answer, if anything.
fn ended(stream: TcpStream, marker: &str, is_stream: bool) -> Result<(), String> {
    let answer = http::answer(stream).ok_or_else(|| format!("{marker}: no answer"))?;
    if answer.status != 200 || answer.is_cut {
        return Err(format!(
            "{marker}: {} cut {}: {}",
            answer.status,
            answer.is_cut,
            answer.text()
        ));
    }
    let said = if is_stream {
        let parts = answer.events();
        let parts = parts
            .iter()
            .filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
        parts.collect()
    } else {
        let document = answer.json();
        document["choices"][0]["message"]["content"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    if said == marker {
        Ok(())
    } else {
        Err(format!("{marker}: answered {said:?}"))
    }
}

/// Callers that ask one after the other until they are stopped; half of them take streams.
struct Load {
    is_over: Arc<AtomicBool>,
    n_done: Arc<AtomicUsize>,
    callers: Vec<JoinHandle<(usize, Option<String>)>>,
}

impl Load {
    fn start(addr: SocketAddr, key: &str) -> Load {
        let (is_over, n_done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let call = |caller: usize| {
            let (is_over, n_done, key) = (Arc::clone(&is_over), Arc::clone(&n_done), key.to_owned());
            std::thread::spawn(move || {
                let mut answered = 0;
                while !is_over.load(Relaxed) {
                    let (marker, is_stream) = (format!("mark {caller} {answered}"), caller.is_multiple_of(2));
                    if let Err(wrong) =
                        ended(begin(addr, &key, "plain", &marker, is_stream), &marker, is_stream)
                    {
                        return (answered, Some(wrong));
                    }
                    answered += 1;
                    n_done.fetch_add(1, Relaxed);
                }
                (answered, None)
            })
        };
        let callers = (0..CALLERS).map(call).collect();
        Load {
            is_over,
            n_done,
            callers,
        }
    }

    /// Waits until it has gone on.
    #[track_caller]
    fn wait_for_more(&self, n_more: usize) {
        let wanted = self.n_done.load(Relaxed) + n_more;
        wait_for("load flows", || {
            self.n_done.load(Relaxed) >= wanted || self.callers.iter().any(JoinHandle::is_finished)
        });
    }

    /// How many were answered in all, and what was wrong.
    fn stop(self) -> (usize, Vec<String>) {
        self.is_over.store(true, Relaxed);
        let (mut answered, mut wrong) = (0, Vec::new());
        for caller in self.callers {
            let (number, error) = caller.join().expect("a caller");
            answered += number;
            wrong.extend(error);
        }
        (answered, wrong)
    }
}

/// Calls that the provider has begun to answer.
fn n_begun(simulator: &Simulator) -> u64 {
    let stats = http::get(simulator.addr, "/sim/stats").json();
    stats["calls"].as_u64().expect("a number")
}

/// Two restarts under load, with long streams open over each; then one that is refused; then the end.
#[test]
fn restart_and_end_under_load() {
    if !own_network() {
        return;
    }
    let simulator = Simulator::start(&SIMULATOR);
    let mut weir = Gateway::start(&sections(&simulator));
    let (addr, key) = (weir.addr, CLIENT_KEY);
    let load = Load::start(addr, key);
    let (mut long, pid) = (0, weir.child.id());
    for _ in 0..2 {
        load.wait_for_more(50);
        let old = weir.workers();
        let opened: Vec<_> = (0..4)
            .map(|i| {
                let marker = format!("long {i}");
                (begin(addr, key, "slow", &marker, true), marker)
            })
            .collect();
        long += opened.len();
        let n_said = weir.n_said("gateway: http://");
        let asked = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["restart", "--instance", &weir.instance])
            .status()
            .expect("weir starts");
        assert!(asked.success());
        let again = weir.wait_to_say("gateway: http://", n_said);
        assert!(again.ends_with(&addr.to_string()), "{again}");
        for (stream, marker) in opened {
            assert_eq!(ended(stream, &marker, true), Ok(()));
        }
        wait_for("one new worker is left", || {
            let now = weir.workers();
            now.len() == 1 && now.is_disjoint(&old)
        });
    }
    // A configuration that cannot be taken changes nothing.
    let (text, workers) = (
        std::fs::read_to_string(weir.path("weir.yaml")).expect("read"),
        weir.workers(),
    );
    weir.write("weir.yaml", "gateway: { listen: 7 }\n");
    weir.signal(Signal::SIGUSR2);
    weir.wait_to_say("no restart, nothing is changed", 0);
    assert_eq!(weir.workers(), workers);
    weir.write("weir.yaml", &text);

    let (answered, wrong) = load.stop();
    assert_eq!(wrong, Vec::<String>::new(), "{}", weir.log());
    let calls = simulator.calls(answered + long);
    assert_eq!(calls.len(), answered + long, "none is made twice");
    println!("{answered} requests and {long} long streams over two restarts of process {pid}");

    // The end: what is open ends, what is new is refused, and it is over in time.
    let before = n_begun(&simulator);
    let open = begin(addr, key, "slow", "last", false);
    wait_for("the provider has it", || n_begun(&simulator) > before);
    weir.signal(Signal::SIGTERM);
    wait_for("what is new is refused", || TcpStream::connect(addr).is_err());
    assert!(matches!(weir.child.try_wait(), Ok(None)), "an answer is open");
    assert_eq!(ended(open, "last", false), Ok(()));
    let status = weir.child.wait().expect("an end");
    assert!(status.success(), "{}", weir.log());
    assert!(TcpStream::connect(addr).is_err());
}

/// Ends a key, and tells how long that took up to the first bytes of the answer.
#[track_caller]
fn revoke(weir: &Gateway, name: &str) -> Duration {
    let mut admin = UnixStream::connect(weir.path("weir.sock")).expect("the admin API listens");
    let request = format!("DELETE /api/v1/keys/{name} HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\r\n");
    let sent = Instant::now();
    admin.write_all(request.as_bytes()).expect("sent");
    let mut said = [0; 12];
    admin.read_exact(&mut said).expect("an answer");
    assert_eq!(&said, b"HTTP/1.1 204");
    sent.elapsed()
}

/// From the answer to the revocation on no request with the key is accepted, though it is used all the time;
/// another key of the same consumer goes on.
#[test]
fn a_revoked_key_is_refused_at_once() {
    if !own_network() {
        return;
    }
    let simulator = Simulator::start(&SIMULATOR);
    let weir = Gateway::start(&sections(&simulator));
    let make = |name: &str| {
        let key = weir.says(&["key", "create", "--consumer", "load", "--name", name], 0, "");
        key.trim().to_owned()
    };
    let (key, other) = (make("ends"), make("goes-on"));
    // How long the request itself takes is told by the fastest of some: the disk is others' too.
    let more: Vec<(String, String)> = (0..4)
        .map(|number| format!("also-{number}"))
        .map(|name| (make(&name), name))
        .collect();
    // Wrong keys of one source are looked at fifty times a minute: the callers stop at their first refusal.
    let (users, others) = (Load::start(weir.addr, &key), Load::start(weir.addr, &other));
    users.wait_for_more(50);
    let mut fastest = revoke(&weir, "ends");
    for _ in 0..30 {
        let answer = http::answer(begin(weir.addr, &key, "plain", "after", false)).expect("an answer");
        assert_eq!(answer.status, 401, "{}", answer.text());
    }
    for (key, name) in &more {
        fastest = fastest.min(revoke(&weir, name));
        let answer = http::answer(begin(weir.addr, key, "plain", "after", false)).expect("an answer");
        assert_eq!(answer.status, 401, "{}", answer.text());
    }
    assert!(fastest < Duration::from_millis(100), "{fastest:?}");
    wait_for("who used it has been refused", || {
        users.callers.iter().all(JoinHandle::is_finished)
    });
    let (_, refused) = users.stop();
    assert_eq!(refused.len(), CALLERS);
    assert!(
        refused.iter().all(|words| words.contains(": 401 cut false")),
        "{refused:?}"
    );
    others.wait_for_more(50);
    let (answered, wrong) = others.stop();
    assert_eq!(wrong, Vec::<String>::new());
    println!("in force {fastest:?} after it was asked for; {answered} requests of the other key");
}
