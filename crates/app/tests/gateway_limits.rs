//! Limits of the whole program with 200 callers at a time: no more is let in than is stated, and nobody is
//! refused below it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

mod common;
use common::gateway::{Gateway, PROVIDER_KEY, own_network, try_ask};
use common::simulator::Simulator;

const CALLERS: usize = 200;
const PER_S: usize = 50;
const OPEN_MAX: usize = 10;
const KEYS: [&str; 3] = [
    "sk-weir-rate-0123456789abcdef",
    "sk-weir-calm-0123456789abcdef",
    "sk-weir-open-0123456789abcdef",
];

fn start() -> (Simulator, Gateway) {
    let simulator = Simulator::start(&["--key", PROVIDER_KEY]);
    let [rate, calm, open] = KEYS;
    let gateway = Gateway::start(&format!(
        "gateway: {{ listen: [\"127.0.0.1:8080\"], connections_per_source_max: 1000 }}\n\
         providers: [{{ name: sim, kind: openai_compatible, base_url: \"http://{}/v1\", keys: [{{ value: {PROVIDER_KEY} }}] }}]\n\
         consumers:\n\
         - {{ name: rate, keys: [{{ value: {rate} }}], limits: [{{ requests: {PER_S}/s }}] }}\n\
         - {{ name: calm, keys: [{{ value: {calm} }}], limits: [{{ requests: {PER_S}/s }}] }}\n\
         - {{ name: open, keys: [{{ value: {open} }}], limits: [{{ concurrency: {OPEN_MAX} }}] }}\n",
        simulator.addr
    ));
    (simulator, gateway)
}

/// The status, and for a 429 when to come again.
fn ask(addr: SocketAddr, key: &str, model: &str) -> (u16, Option<u64>) {
    let body = json!({"model": model, "messages": [{"role": "user", "content": "say: hi"}]});
    let answer = try_ask(addr, key, "/v1/chat/completions", &body).expect("an answer");
    let wait_s = answer.header("retry-after").and_then(|text| text.parse().ok());
    (answer.status, wait_s)
}

#[test]
fn so_many_a_second_and_no_more() {
    if !own_network() {
        return;
    }
    const ADMITTED: usize = 300;
    let (simulator, weir) = start();
    let (n_admitted, n_refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (addr, together) = (weir.addr, Barrier::new(CALLERS));
    // When each that was let in was sent, and when its answer was there.
    let mut spans: Vec<(Instant, Instant)> = std::thread::scope(|scope| {
        let caller = || {
            let mut spans = Vec::new();
            together.wait();
            while n_admitted.load(Relaxed) < ADMITTED {
                let sent = Instant::now();
                match ask(addr, KEYS[0], "sim/gpt-4o-mini") {
                    (200, _) => {
                        n_admitted.fetch_add(1, Relaxed);
                        spans.push((sent, Instant::now()));
                    }
                    (429, Some(1..)) => {
                        n_refused.fetch_add(1, Relaxed);
                    }
                    other => panic!("{other:?}"),
                }
            }
            spans
        };
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(caller)).collect();
        let spans = callers
            .into_iter()
            .flat_map(|caller| caller.join().expect("a caller"));
        spans.collect()
    });
    spans.sort();
    // In any time, no more than the burst, which is one second's, and the rate: a call was let in between
    // its being sent and its answer.
    let mut fullest = (0.0, 0);
    for &(begin, _) in &spans {
        let mut ends: Vec<Instant> = spans
            .iter()
            .filter(|span| span.0 >= begin)
            .map(|span| span.1)
            .collect();
        ends.sort();
        for (idx, end) in ends.iter().enumerate() {
            let most = PER_S as f64 * (1.0 + (*end - begin).as_secs_f64());
            let part = (idx + 1) as f64 / most;
            if part > fullest.0 {
                fullest = (part, idx + 1);
            }
            assert!((idx + 1) as f64 <= most, "{} in {:?}", idx + 1, *end - begin);
        }
    }
    let all = spans.iter().map(|span| span.1).max().expect("some") - spans[0].0;
    // Nor less: who asks all the time gets what there is.
    let least = (PER_S as f64 * (1.0 + all.as_secs_f64())) * 0.9;
    assert!(spans.len() as f64 >= least, "{} in {all:?}", spans.len());
    assert!(n_refused.load(Relaxed) > CALLERS, "there was more to refuse");
    assert_eq!(
        simulator.calls(spans.len()).len(),
        spans.len(),
        "who is refused is not passed on"
    );
    println!(
        "{} admitted and {} refused in {all:?}; at most {:.1} % of the bound ({} calls)",
        spans.len(),
        n_refused.load(Relaxed),
        fullest.0 * 100.0,
        fullest.1
    );
}

#[test]
fn nobody_is_refused_below_the_limit() {
    if !own_network() {
        return;
    }
    let (_simulator, weir) = start();
    let addr = weir.addr;
    // As many at once as may come at once; and together at most 40 a second, each in its turn.
    let (turn, together) = (Mutex::new(()), Barrier::new(PER_S));
    std::thread::scope(|scope| {
        for _ in 0..PER_S {
            scope.spawn(|| {
                together.wait();
                assert_eq!(ask(addr, KEYS[0], "sim/gpt-4o-mini").0, 200);
            });
        }
        for caller in 0..CALLERS {
            let turn = &turn;
            scope.spawn(move || {
                {
                    let _mine = turn.lock().unwrap_or_else(PoisonError::into_inner);
                    std::thread::sleep(Duration::from_millis(25));
                }
                assert_eq!(ask(addr, KEYS[1], "sim/gpt-4o-mini").0, 200, "caller {caller}");
            });
        }
    });
}

#[test]
fn so_many_at_once_and_no_more() {
    if !own_network() {
        return;
    }
    const ADMITTED: usize = 200;
    let (simulator, weir) = start();
    let (n_admitted, n_refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let addr = weir.addr;
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                while n_admitted.load(Relaxed) < ADMITTED {
                    match ask(addr, KEYS[2], "sim/sim-slow-50") {
                        (200, _) => n_admitted.fetch_add(1, Relaxed),
                        (429, Some(1..)) => n_refused.fetch_add(1, Relaxed),
                        other => panic!("{other:?}"),
                    };
                }
            });
        }
    });
    // What the provider saw at once, by its journal.
    let calls = simulator.calls(n_admitted.load(Relaxed));
    assert_eq!(calls.len(), n_admitted.load(Relaxed));
    let mut changes: Vec<(i64, i64)> = Vec::new();
    for call in &calls {
        changes.push((call["started_ms"].as_i64().expect("a time"), 1));
        changes.push((call["ended_ms"].as_i64().expect("a time"), -1));
    }
    // An end comes before a begin of the same millisecond.
    changes.sort_unstable();
    let (mut open, mut most) = (0, 0);
    for (_, change) in changes {
        open += change;
        most = most.max(open);
    }
    assert_eq!(most, OPEN_MAX as i64, "of {} calls", calls.len());
    assert!(n_refused.load(Relaxed) > 0);
    // A place that was taken is given back, whatever became of the call.
    assert_eq!(ask(addr, KEYS[2], "sim/gpt-4o-mini").0, 200);
}
