//! Money: what the gateway records for thousands of mixed calls is what an independent computation
//! makes of the provider's own counts, to 10^-12 dollars; a budget is never exceeded; no key is written
//! anywhere.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

#[path = "../common/mod.rs"]
mod common;
use common::http;
use common::simulator::Simulator;

const CALLS: usize = 10_000;
const THREADS: usize = 8;
const GATEWAY: &str = "127.0.0.1:8080";
const PATIENCE: Duration = Duration::from_secs(30);
/// Keys that must appear nowhere.
const SECRETS: [&str; 2] = ["sk-client-0123456789abcdef", "sk-provider-fedcba9876543210"];

struct Running {
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

impl Running {
    /// Starts Weir with the simulator as three providers, in the namespace of this thread.
    fn start(provider: SocketAddr, budget: &str) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let instance = format!("money{}-{}", std::process::id(), STARTED.fetch_add(1, Relaxed));
        let folder = tempfile::tempdir().expect("a folder");
        let [client, key] = SECRETS;
        let data = folder.path().join("data");
        let config = format!(
            "agent: {{ interfaces: [lo], flow_rows: 65536 }}\n\
             control: {{ listen: \"127.0.0.1:9080\" }}\n\
             store: {{ data: {} }}\n\
             gateway: {{ listen: [\"{GATEWAY}\"] }}\n\
             providers:\n  \
             - {{ name: oai, kind: openai, base_url: \"http://{provider}/v1\", keys: [{{ value: {key} }}] }}\n  \
             - {{ name: ant, kind: anthropic, base_url: \"http://{provider}/v1\", keys: [{{ value: {key} }}] }}\n  \
             - {{ name: gem, kind: gemini, base_url: \"http://{provider}/v1beta\", keys: [{{ value: {key} }}] }}\n\
             consumers: [{{ name: shop, keys: [{{ value: {client} }}]{budget} }}]\n",
            data.display()
        );
        let path = folder.path().join("weir.yaml");
        std::fs::write(&path, config).expect("written");
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["run", "--instance", &instance, "-c"])
            .arg(&path)
            .arg("--socket")
            .arg(folder.path().join("weir.sock"))
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("weir starts");
        let mut running = Self { child, folder };
        let begun = Instant::now();
        while TcpStream::connect(GATEWAY).is_err() || !running.weir(&["gateway"]).status.success() {
            let log = std::fs::read_to_string(running.path("log")).unwrap_or_default();
            assert!(matches!(running.child.try_wait(), Ok(None)), "weir ended: {log}");
            assert!(
                begun.elapsed() < PATIENCE,
                "no gateway within {PATIENCE:?}: {log}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        running
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn weir(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(arguments)
            .arg("--api")
            .arg(self.path("weir.sock"))
            .output()
            .expect("weir starts")
    }

    /// Records of `number` calls that ended well, once they are written.
    fn records(&self, number: usize) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let output = self.weir(&[
                "calls",
                "--since",
                "1h",
                "-n",
                "100000",
                "--outcome",
                "ok",
                "--format",
                "json",
            ]);
            let text = String::from_utf8(output.stdout).expect("UTF-8");
            let records: Vec<Value> = text
                .lines()
                .map(|line| serde_json::from_str(line).expect("JSON lines"))
                .collect();
            if records.len() >= number {
                return records;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{} of {number} records",
                records.len()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// A network of this thread's own, with nothing but a loopback.
fn own_network() -> bool {
    if !nix::unistd::geteuid().is_root() {
        let is_required = std::env::var_os("WEIR_REQUIRE_CAPS").is_some_and(|value| value == "1");
        assert!(!is_required, "WEIR_REQUIRE_CAPS=1, but this is not root");
        println!("skipped: network namespaces need root");
        return false;
    }
    unshare(CloneFlags::CLONE_NEWNET).expect("a namespace");
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .expect("ip");
    assert!(up.success());
    true
}

/// SplitMix64: the same calls in every run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % n
    }
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

fn ask(path: &str, body: &Value) -> Option<http::Answer> {
    let bearer = format!("Bearer {}", SECRETS[0]);
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let address = GATEWAY.parse().expect("an address");
    http::answer(http::send(
        address,
        "POST",
        path,
        &headers,
        body.to_string().as_bytes(),
    ))
}

/// US dollars as text, in units of 10^-12.
fn pusd(usd: &Value) -> u64 {
    let text = usd.as_str().expect("text");
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part = format!("{part:0<12}");
    whole.parse::<u64>().expect("digits") * 1_000_000_000_000 + part.parse::<u64>().expect("digits")
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
    let weir = Running::start(simulator.addr, "");
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
                    let answer = ask(&path, &body).expect("an answer");
                    let text = answer.text();
                    assert_eq!(answer.status, 200, "{path} {body}: {text}");
                    assert!(
                        text.contains(&format!("call {number}")) || text.contains("call"),
                        "{text}"
                    );
                }
            });
        }
    });
    let records = weir.records(CALLS);
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

    let metrics = http::get("127.0.0.1:9080".parse().expect("an address"), "/metrics");
    assert!(SECRETS.iter().all(|secret| !metrics.text().contains(secret)));
    assert_eq!(leaks(weir.folder.path(), "weir.yaml"), Vec::<String>::new());
}

#[test]
fn a_hard_budget_is_never_exceeded() {
    if !own_network() {
        return;
    }
    let simulator = Simulator::start(&["--key", SECRETS[1]]);
    let weir = Running::start(simulator.addr, ", budget: { usd: 0.05, per: total, hard: true }");
    let refused = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for caller in 0..500 {
            let refused = &refused;
            scope.spawn(move || {
                for turn in 0..4 {
                    let text = format!("say: {caller} {turn} {}", "word ".repeat(300));
                    let body = json!({"model": "oai/gpt-4.1", "max_tokens": 400, "messages": [{"role": "user", "content": text}]});
                    match ask("/v1/chat/completions", &body).map(|answer| answer.status) {
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
    let records = weir.records(n_ok);
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
