//! Providers in trouble, under load: another answers, nothing is lost or done twice, and who is well again is
//! asked again. What was asked of whom is what the providers' journals say.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use serde_json::{Value, json};

mod common;
use common::gateway::{CLIENT_KEY, Gateway, PROVIDER_KEY, own_network, wait_for};
use common::http::{self, Answer};
use common::simulator::Simulator;

const CALLERS: usize = 8;
/// Ordinary calls for each that needs another provider: retries have a budget.
const CALM: usize = 5;

/// What the first target does, for whole answers and for streams.
const TROUBLES: [(&str, bool, bool); 11] = [
    ("sim-500", true, true),
    ("sim-503", true, true),
    ("sim-429", true, true),
    ("sim-401", true, true),
    // No head; half a body, or one event without a token.
    ("sim-cut-0", true, true),
    ("sim-cut-1", true, true),
    ("sim-hang", true, true),
    ("sim-slow-3000", true, true),
    ("sim-garbage", true, true),
    ("sim-bad-json", true, true),
    ("sim-error-in-stream-1", false, true),
];
const FORMATS: [&str; 4] = ["chat", "responses", "messages", "generateContent"];
const WIRES: [(&str, &str); 3] = [("openai", "/v1"), ("anthropic", "/v1"), ("gemini", "/v1beta")];

fn provider(name: &str, kind: &str, base: &str, more: &str) -> String {
    format!(
        "  - {{ name: {name}, kind: {kind}, base_url: \"http://{base}\", keys: [{{ value: {PROVIDER_KEY} }}], {more} }}\n"
    )
}

fn listening(simulators: &str, models: &str) -> String {
    format!(
        "gateway: {{ listen: [\"127.0.0.1:8080\"] }}\n\
         consumers: [{{ name: shop, keys: [{{ value: {CLIENT_KEY} }}] }}]\n\
         providers:\n{simulators}models:\n{models}"
    )
}

#[derive(Clone, Debug)]
struct Ask {
    mark: String,
    model: String,
    format: &'static str,
    is_stream: bool,
}

impl Ask {
    fn send(&self, weir: &Gateway) -> Answer {
        let text = format!("mark: {}\nsay: the answer to {}", self.mark, self.mark);
        let turns = json!([{"role": "user", "content": text}]);
        let mut body = json!({"model": self.model, "stream": self.is_stream});
        let path = match self.format {
            "chat" => "/v1/chat/completions",
            "responses" => "/v1/responses",
            "messages" => "/v1/messages",
            _ => {
                let verb = if self.is_stream {
                    "streamGenerateContent?alt=sse"
                } else {
                    "generateContent"
                };
                body = json!({"contents": [{"role": "user", "parts": [{"text": text}]}]});
                &format!("/v1beta/models/{}:{verb}", self.model)
            }
        };
        match self.format {
            "chat" => body["messages"] = turns,
            "responses" => body["input"] = text.into(),
            "messages" => {
                body["messages"] = turns;
                body["max_tokens"] = 100.into();
            }
            _ => {}
        }
        weir.post(path, &body)
            .unwrap_or_else(|| panic!("no answer to {self:?}"))
    }

    /// The answer is whole, and to this question.
    fn check(&self, answer: &Answer) {
        let context = || {
            format!(
                "{self:?}: {} cut {}: {}",
                answer.status,
                answer.is_cut,
                answer.text()
            )
        };
        assert!(answer.status == 200 && !answer.is_cut, "{}", context());
        let (whole, part) = match self.format {
            "chat" => ("/choices/0/message/content", "/choices/0/delta/content"),
            "responses" => ("/output/0/content/0/text", "/delta"),
            "messages" => ("/content/0/text", "/delta/text"),
            _ => (
                "/candidates/0/content/parts/0/text",
                "/candidates/0/content/parts/0/text",
            ),
        };
        let text =
            |document: &Value, at: &str| document.pointer(at).and_then(Value::as_str).map(str::to_owned);
        let said: String = if self.is_stream {
            answer
                .events()
                .iter()
                .filter_map(|event| text(event, part))
                .collect()
        } else {
            text(&answer.json(), whole).unwrap_or_default()
        };
        assert_eq!(said, format!("the answer to {}", self.mark), "{}", context());
    }
}

/// Asks all of them, some at a time.
fn ask_all(weir: &Gateway, asks: &[Ask]) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                while let Some(ask) = asks.get(next.fetch_add(1, Relaxed)) {
                    ask.check(&ask.send(weir));
                }
            });
        }
    });
}

fn by_mark(calls: Vec<Value>) -> HashMap<String, Vec<Value>> {
    let mut all: HashMap<String, Vec<Value>> = HashMap::new();
    for call in calls {
        let mark = call["mark"].as_str().unwrap_or_default().to_owned();
        all.entry(mark).or_default().push(call);
    }
    all
}

#[test]
fn another_provider_answers_before_the_first_token() {
    if !own_network() {
        return;
    }
    let simulator = Simulator::start(&["--key", PROVIDER_KEY]);
    let (mut providers, mut models) = (String::new(), String::new());
    for (kind, base) in WIRES {
        let base = format!("{}{base}", simulator.addr);
        providers.push_str(&provider(&format!("well-{kind}"), kind, &base, ""));
        models.push_str(&format!(
            "  - {{ name: calm-{kind}, targets: [{{ model: well-{kind}/sim-model }}] }}\n"
        ));
        for (trouble, ..) in TROUBLES {
            // Of its own, and asked however often it fails.
            let more = "first_byte_timeout_ms: 400, breaker: { failures: 1000, open_ms: 1 }";
            providers.push_str(&provider(&format!("ill-{kind}-{trouble}"), kind, &base, more));
            for (well, _) in WIRES {
                models.push_str(&format!(
                    "  - {{ name: {kind}-{trouble}-{well}, strategy: fallback, targets: \
                     [{{ model: ill-{kind}-{trouble}/{trouble} }}, {{ model: well-{well}/sim-model }}] }}\n"
                ));
            }
        }
    }
    let weir = Gateway::start(&listening(&providers, &models));
    let mut asks = Vec::new();
    let mut n_ill = 0;
    for (trouble, as_whole, as_stream) in TROUBLES {
        for is_stream in [false, true] {
            for (ill, _) in WIRES {
                // Gemini's first event has a token already: nobody can take over after it.
                let is_too_late = ill == "gemini"
                    && ["sim-cut-1", "sim-bad-json", "sim-error-in-stream-1"].contains(&trouble);
                if !(if is_stream {
                    as_stream && !is_too_late
                } else {
                    as_whole
                }) {
                    continue;
                }
                for calm in 0..=CALM {
                    let number = asks.len();
                    let (well, _) = WIRES[number % WIRES.len()];
                    let model = if calm == 0 {
                        format!("{ill}-{trouble}-{well}")
                    } else {
                        format!("calm-{well}")
                    };
                    n_ill += usize::from(calm == 0);
                    asks.push(Ask {
                        mark: format!("{}{number}", if calm == 0 { "ill" } else { "calm" }),
                        model,
                        format: FORMATS[number / WIRES.len() % FORMATS.len()],
                        is_stream,
                    });
                }
            }
        }
    }
    ask_all(&weir, &asks);
    let calls = by_mark(simulator.calls(asks.len() + n_ill));
    for ask in &asks {
        let of_it = calls.get(&ask.mark).map_or(&[][..], Vec::as_slice);
        let is_answered =
            |call: &&Value| call["status"] == 200 && call["cancelled"] == false && call["broken"] == false;
        let n_answered = of_it.iter().filter(is_answered).count();
        let n_failed = of_it.len() - n_answered;
        assert_eq!(
            (n_answered, n_failed),
            (1, usize::from(ask.mark.starts_with("ill"))),
            "{ask:?} {of_it:?}"
        );
    }
    let records = weir.records(asks.len(), &["--outcome", "ok"]);
    assert_eq!(records.len(), asks.len());
    let n_twice = records.iter().filter(|record| record["attempts"] == 2).count();
    assert_eq!(n_twice, n_ill, "{:?}", records[0]);
    println!(
        "{} calls, {n_ill} of them answered by the second provider",
        asks.len()
    );
}

/// After the first token nobody takes over: the client is told, and the call is not made again.
#[test]
fn nobody_answers_after_the_first_token() {
    if !own_network() {
        return;
    }
    let simulator = Simulator::start(&["--key", PROVIDER_KEY]);
    let base = format!("{}/v1", simulator.addr);
    let weir = Gateway::start(&listening(
        &provider("ill", "openai", &base, "breaker: { failures: 1000, open_ms: 1 }"),
        // Where in each wire's stream the first token has come.
        "  - { name: chat, targets: [{ model: ill/sim-cut-2 }, { model: ill/sim-model }] }\n  \
         - { name: responses, targets: [{ model: ill/sim-cut-5 }, { model: ill/sim-model }] }\n",
    ));
    let asks: Vec<Ask> = (0..40)
        .map(|number| Ask {
            mark: format!("late{number}"),
            model: if number % 4 == 1 { "responses" } else { "chat" }.to_owned(),
            format: FORMATS[number % 4],
            is_stream: true,
        })
        .collect();
    for ask in &asks {
        let answer = ask.send(&weir);
        let last = answer.events().pop().unwrap_or_default();
        let is_told =
            last.get("error").is_some() || last["type"] == "error" || last["type"] == "response.failed";
        assert!(answer.status == 200 && is_told, "{ask:?} {}", answer.text());
    }
    let calls = by_mark(simulator.calls(asks.len()));
    for ask in &asks {
        assert_eq!(calls[&ask.mark].len(), 1, "{ask:?}");
    }
    let records = weir.records(asks.len(), &["--outcome", "broken_reply"]);
    assert!(
        records
            .iter()
            .all(|record| record["estimated"] == true && record["attempts"] == 1)
    );
}

/// Callers that ask until told to stop; every answer is right.
fn under_load(weir: &Gateway, model: &str, n_done: &AtomicUsize, during: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let is_over = &is_over;
            scope.spawn(move || {
                let mut number = 0;
                while !is_over.load(Relaxed) {
                    let ask = Ask {
                        mark: format!("{caller}-{number}"),
                        model: model.to_owned(),
                        format: FORMATS[caller % FORMATS.len()],
                        is_stream: number % 2 == 0,
                    };
                    let _end = OnPanic(is_over);
                    ask.check(&ask.send(weir));
                    n_done.fetch_add(1, Relaxed);
                    number += 1;
                }
            });
        }
        let _end = OnDrop(&is_over);
        during();
    });
}

/// Callers end also where a check fails.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

struct OnPanic<'a>(&'a AtomicBool);

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Relaxed);
        }
    }
}

#[track_caller]
fn stats(simulator: &Simulator) -> usize {
    let stats = http::get(simulator.addr, "/sim/stats").json();
    usize::try_from(stats["calls"].as_u64().expect("a number")).expect("few")
}

/// A breaker opens when its provider fails, lets one call through now and then, and closes when that goes well.
#[test]
fn a_breaker_opens_and_closes_again() {
    if !own_network() {
        return;
    }
    const FAILURES: usize = 5;
    const OPEN_MS: usize = 300;
    let (first, second) = (
        Simulator::start(&["--key", PROVIDER_KEY]),
        Simulator::start(&["--key", PROVIDER_KEY]),
    );
    let breaker = format!("breaker: {{ failures: {FAILURES}, open_ms: {OPEN_MS} }}");
    let weir = Gateway::start(&listening(
        &[
            provider("first", "openai", &format!("{}/v1", first.addr), &breaker),
            provider("second", "openai", &format!("{}/v1", second.addr), &breaker),
        ]
        .concat(),
        "  - { name: safe, strategy: fallback, targets: [{ model: first/sim-model }, { model: second/sim-model }] }\n",
    ));
    let n_done = AtomicUsize::new(0);
    let wait_for_more = |what: &str, n_more: usize| {
        let wanted = n_done.load(Relaxed) + n_more;
        wait_for(what, || n_done.load(Relaxed) >= wanted);
    };
    let is_open = || {
        let state = weir.says(&["gateway", "--format", "json"], 0, "");
        let state: Value = serde_json::from_str(&state).expect("JSON");
        let providers = state["providers"].as_array().expect("a list").iter();
        let mut open = providers.filter(|one| one["is_open"] == true);
        open.any(|one| one["name"] == "first")
    };
    under_load(&weir, "safe", &n_done, || {
        for turn in 0..3 {
            wait_for_more("calls are answered", 50);
            assert_eq!(stats(&second) == 0, turn == 0, "the second is asked only in need");
            let fault = if turn == 1 {
                json!({"down": true})
            } else {
                json!({"status": 500})
            };
            let before = stats(&first);
            let answer = http::call(first.addr, "PUT", "/sim/fault", &[], fault.to_string().as_bytes());
            assert_eq!(answer.status, 204);
            wait_for("the breaker is open", is_open);
            let (opened, asked) = (Instant::now(), stats(&first));
            assert!(asked - before >= FAILURES, "{}", asked - before);
            wait_for_more("the second answers", 200);
            let probes = stats(&first) - asked;
            let most = CALLERS + 1 + usize::try_from(opened.elapsed().as_millis()).expect("short") / OPEN_MS;
            assert!(
                probes <= most,
                "{probes} calls to a provider whose breaker is open, at most {most}"
            );

            let answer = http::call(first.addr, "DELETE", "/sim/fault", &[], b"");
            assert_eq!(answer.status, 204);
            wait_for("the breaker is closed", || !is_open());
            let asked = stats(&second);
            wait_for_more("the first answers again", 100);
            let late = stats(&second) - asked;
            assert!(
                late <= CALLERS,
                "{late} calls went to the second after the breaker had closed"
            );
        }
    });
}

/// Keys that are spent, limited and revoked: each is tried once and left alone, no call fails.
#[test]
fn a_pool_goes_on_without_its_exhausted_keys() {
    if !own_network() {
        return;
    }
    let dead = [
        "sk-dead-of-money=402",
        "sk-dead-of-quota=429",
        "sk-dead-revoked=401",
    ];
    let mut arguments = vec!["--key", "sk-live-one", "--key", "sk-live-two"];
    for key in dead {
        arguments.extend(["--key", key]);
    }
    let simulator = Simulator::start(&arguments);
    let keys = dead.map(|key| key.split('=').next().expect("a key"));
    for pick in ["order", "round_robin", "weight"] {
        http::call(simulator.addr, "DELETE", "/sim/calls", &[], b"");
        let list: Vec<String> = keys
            .iter()
            .chain(&["sk-live-one", "sk-live-two"])
            .map(|key| format!("{{ value: {key} }}"))
            .collect();
        let weir = Gateway::start(&listening(
            &format!(
                "  - {{ name: sim, kind: openai, base_url: \"http://{}/v1\", pick: {pick}, keys: [{}] }}\n",
                simulator.addr,
                list.join(", ")
            ),
            "  - { name: pooled, targets: [{ model: sim/sim-model }] }\n",
        ));
        let n_done = AtomicUsize::new(0);
        under_load(&weir, "pooled", &n_done, || {
            wait_for("calls are answered", || n_done.load(Relaxed) >= 300);
        });
        let n_done = n_done.load(Relaxed);
        let calls = by_mark(simulator.calls(n_done));
        let mut n_refused = 0;
        let mut live: HashMap<&str, usize> = HashMap::new();
        for (mark, calls) in &calls {
            let answered: Vec<&Value> = calls.iter().filter(|call| call["status"] == 200).collect();
            if mark.is_empty() {
                // The simulator looks at keys before it reads what is asked.
                n_refused += calls.len();
                continue;
            }
            assert_eq!(answered.len(), calls.len(), "{calls:?}");
            assert_eq!(answered.len(), 1, "{calls:?}");
            *live
                .entry(answered[0]["key"].as_str().expect("a key"))
                .or_default() += 1;
        }
        assert_eq!(calls.len() - usize::from(n_refused > 0), n_done);
        // Each key may be tried by all who had begun before the first was refused.
        assert!(
            (dead.len()..=dead.len() * CALLERS).contains(&n_refused),
            "{pick}: {n_refused}"
        );
        if pick == "order" {
            assert_eq!(live.len(), 1, "{live:?}");
        } else {
            assert!(
                live.values().all(|&n| n * 4 > n_done) && live.len() == 2,
                "{pick}: {live:?}"
            );
        }
        let state = weir.says(&["gateway", "--format", "json"], 0, "");
        assert!(
            state.contains("exhausted") && state.contains("expired"),
            "{state}"
        );
        println!("{pick}: {n_done} calls, {n_refused} refused keys, {live:?}");
    }
}
