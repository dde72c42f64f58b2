//! Money: what the gateway records for thousands of mixed calls is what an independent computation
//! makes of the provider's own counts, to 10^-12 dollars; a budget is never exceeded; no key is written
//! anywhere.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use serde_json::{Value, json};

mod cancelled;
#[path = "../common/mod.rs"]
mod common;
mod killed;
use common::gateway::{Draw, Gateway, own_network, pusd};
use common::http;
use common::simulator::Simulator;

const CALLS: usize = 10_000;
const THREADS: usize = 8;
/// Keys that must appear nowhere.
const SECRETS: [&str; 2] = ["sk-client-0123456789abcdef", "sk-provider-fedcba9876543210"];

/// The simulator as three providers.
fn start(provider: SocketAddr, budget: &str) -> Gateway {
    let [client, key] = SECRETS;
    Gateway::start(&format!(
        "gateway: {{ listen: [\"127.0.0.1:8080\"] }}\n\
         providers:\n  \
         - {{ name: oai, kind: openai, base_url: \"http://{provider}/v1\", keys: [{{ value: {key} }}] }}\n  \
         - {{ name: ant, kind: anthropic, base_url: \"http://{provider}/v1\", keys: [{{ value: {key} }}] }}\n  \
         - {{ name: gem, kind: gemini, base_url: \"http://{provider}/v1beta\", keys: [{{ value: {key} }}] }}\n\
         consumers: [{{ name: shop, keys: [{{ value: {client} }}]{budget} }}]\n"
    ))
}

const MODELS: [&str; 8] = [
    "oai/gpt-4o-mini",
    "oai/gpt-4.1",
    "oai/o3-mini",
    "ant/claude-sonnet-4-5",
    "ant/claude-haiku-4-5",
    "ant/claude-opus-4-5",
    "gem/gemini-2.5-pro",
    "gem/gemini-2.5-flash",
];

/// One call: its path and body.
fn call(number: usize) -> (String, Value) {
    let mut draw = Draw(number as u64);
    let model = MODELS[draw.below(MODELS.len() as u64) as usize];
    // Prompts on both sides of the tiers.
    let input = match draw.below(4) {
        0 => 190_000 + draw.below(20_001),
        1 => draw.below(1_000_000),
        _ => draw.below(5_000),
    };
    let mut usage = json!({"input": input, "output": draw.below(8_000)});
    if draw.below(3) == 0 {
        usage["cache_read"] = draw.below(50_000).into();
    }
    if model.starts_with("ant/") && draw.below(3) == 0 {
        usage["cache_write_5m"] = draw.below(20_000).into();
        usage["cache_write_1h"] = draw.below(20_000).into();
    }
    if !model.starts_with("ant/") && draw.below(3) == 0 {
        usage["reasoning"] = draw.below(4_000).into();
    }
    let text = format!("usage: {usage}\nsay: call {number}");
    let stream = draw.below(2) == 0;
    let turn = json!([{"role": "user", "content": text}]);
    match draw.below(4) {
        0 => (
            "/v1/messages".to_owned(),
            json!({"model": model, "max_tokens": 64_000, "stream": stream, "messages": turn}),
        ),
        1 => (
            "/v1/responses".to_owned(),
            json!({"model": model, "stream": stream, "input": text}),
        ),
        2 => {
            let verb = if stream {
                "streamGenerateContent?alt=sse"
            } else {
                "generateContent"
            };
            let body = json!({"contents": [{"role": "user", "parts": [{"text": text}]}]});
            (
                format!("/v1beta/models/{}:{verb}", model.replace('/', "%2F")),
                body,
            )
        }
        _ => (
            "/v1/chat/completions".to_owned(),
            json!({"model": model, "stream": stream, "messages": turn}),
        ),
    }
}

/// Everything the run has written below a folder, and where a secret is in it.
fn leaks(folder: &std::path::Path, except: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(leaks(&path, except));
            continue;
        }
        let mut bytes = Vec::new();
        let is_read = std::fs::File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes));
        if is_read.is_err() || path.ends_with(except) {
            continue;
        }
        for secret in SECRETS {
            if bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes())
            {
                found.push(format!("{} holds {secret}", path.display()));
            }
        }
    }
    found
}

#[test]
fn ten_thousand_calls_cost_what_python_says() {
    if !own_network() {
        return;
    }
    let shared = std::env::var_os("WEIR_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let table = shared.join("data/ai/prices/model_prices_and_context_window.min.json");
    let simulator = Simulator::start(&["--key", SECRETS[1], "--chunking", "random"]);
    let weir = start(simulator.addr, "");
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= CALLS {
                        return;
                    }
                    let (path, body) = call(number);
                    let answer = weir.ask(SECRETS[0], &path, &body).expect("an answer");
                    let text = answer.text();
                    assert_eq!(answer.status, 200, "{path} {body}: {text}");
                    assert!(
                        text.contains("data: ") || text.contains(&format!("call {number}")),
                        "{text}"
                    );
                }
            });
        }
    });
    let records = weir.records(CALLS, &["--outcome", "ok"]);
    assert_eq!(records.len(), CALLS);
    assert!(
        records.iter().all(|record| record["estimated"] != true),
        "every provider reported"
    );

    let mut oracle = Command::new("python3")
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/gateway_money/oracle.py"
        ))
        .arg(&table)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3, which the set-up installs");
    let mut input = oracle.stdin.take().expect("piped");
    for record in &records {
        writeln!(input, "{record}").expect("the oracle reads");
    }
    drop(input);
    let output = oracle.wait_with_output().expect("the oracle ends");
    let said: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(
        (&said["calls"], &said["n_wrong"]),
        (&json!(CALLS), &json!(0)),
        "{said}"
    );
    assert!(
        said["above_200k"].as_u64() > Some(1000),
        "tiers are reached: {said}"
    );

    // The sum that `weir cost` tells is the oracle's, and the counts are the provider's own.
    let cost = weir.weir(&["cost", "--since", "1h", "--format", "json"]);
    let cost = String::from_utf8(cost.stdout).expect("UTF-8");
    let rows = cost
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON lines"));
    let told_pusd: u64 = rows.map(|row: Value| pusd(&row["cost_usd"])).sum();
    assert_eq!(told_pusd, pusd(&said["total_usd"]), "{cost}");
    let tokens = |record: &Value, names: &[&str]| -> u64 {
        names
            .iter()
            .map(|name| record["usage"][name].as_u64().unwrap_or(0))
            .sum()
    };
    let told = |of: &[Value], names: &[&str]| -> u64 { of.iter().map(|record| tokens(record, names)).sum() };
    let journal = simulator.calls(CALLS);
    for (ours, theirs) in [
        ("input", "input"),
        ("cache_read", "cache_read"),
        ("cache_write_5m", "cache_write_5m"),
        ("cache_write_1h", "cache_write_1h"),
        ("output", "output"),
        ("reasoning", "reasoning"),
    ] {
        assert_eq!(told(&records, &[ours]), told(&journal, &[theirs]), "{ours}");
    }

    let metrics = http::get(weir.admin, "/metrics");
    assert!(SECRETS.iter().all(|secret| !metrics.text().contains(secret)));
    assert_eq!(leaks(weir.folder.path(), "weir.yaml"), Vec::<String>::new());
}

#[test]
fn a_hard_budget_is_never_exceeded() {
    if !own_network() {
        return;
    }
    let simulator = Simulator::start(&["--key", SECRETS[1]]);
    let weir = start(simulator.addr, ", budget: { usd: 0.05, per: total, hard: true }");
    let refused = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for caller in 0..500 {
            let (refused, weir) = (&refused, &weir);
            scope.spawn(move || {
                for turn in 0..4 {
                    let text = format!("say: {caller} {turn} {}", "word ".repeat(300));
                    let body = json!({"model": "oai/gpt-4.1", "max_tokens": 400, "messages": [{"role": "user", "content": text}]});
                    match weir.ask(SECRETS[0], "/v1/chat/completions", &body).map(|answer| answer.status) {
                        Some(200) => {}
                        Some(402 | 503) => {
                            refused.fetch_add(1, Relaxed);
                        }
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
    });
    let n_ok = 2000 - refused.load(Relaxed);
    let records = weir.records(n_ok, &["--outcome", "ok"]);
    let spent: u64 = records.iter().map(|record| pusd(&record["cost_usd"])).sum();
    assert!(
        refused.load(Relaxed) > 0 && n_ok > 0,
        "{n_ok} of 2000 were served"
    );
    assert!(
        spent <= 50_000_000_000,
        "{spent} of 50000000000 were spent by {n_ok} calls"
    );
    assert!(spent > 25_000_000_000, "only {spent} of 50000000000 were usable");
}
