//! The gateway of a running Weir as its commands manage it, in a network namespace of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

mod common;
use common::http;
use common::simulator::Simulator;

/// The simulator demands it of the gateway.
const PROVIDER_KEY: &str = "sk-sim";
const PATIENCE: Duration = Duration::from_secs(30);

struct Running {
    child: Child,
    folder: tempfile::TempDir,
    gateway: SocketAddr,
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

impl Running {
    /// Starts Weir with one provider, in the namespace of this thread.
    fn start(provider: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let gateway: SocketAddr = "127.0.0.1:8080".parse().expect("an address");
        let config = format!(
            "agent: {{ interfaces: [lo], flow_rows: 1024 }}\n\
             control: {{ listen: \"127.0.0.1:9080\" }}\n\
             store: {{ data: {} }}\n\
             gateway: {{ listen: [\"{gateway}\"] }}\n\
             providers:\n  - name: sim\n    kind: openai_compatible\n    price_as: openai\n    \
             base_url: http://{provider}/v1\n    keys: [{{ env: SIM_KEY }}]\n\
             consumers: [{{ name: shop, team: web }}]\n",
            data.display()
        );
        let path = folder.path().join("weir.yaml");
        std::fs::write(&path, config).expect("written");
        let child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["run", "--instance", &format!("gw{}", std::process::id()), "-c"])
            .arg(&path)
            .arg("--socket")
            .arg(folder.path().join("weir.sock"))
            .env("SIM_KEY", PROVIDER_KEY)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log")).expect("a log"))
            .spawn()
            .expect("weir starts");
        let mut running = Self {
            child,
            folder,
            gateway,
        };
        let begun = Instant::now();
        while running.weir(&["gateway"]).status.code() != Some(0) {
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

    /// Stdout of a command that ends with `code`; its words in stderr hold `words`.
    #[track_caller]
    fn says(&self, arguments: &[&str], code: i32, words: &str) -> String {
        let output = self.weir(arguments);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {out}{err}");
        assert!(err.contains(words), "{arguments:?}: {err}");
        for secret in [PROVIDER_KEY, "sk-of-the-api"] {
            assert!(
                !out.contains(secret) && !err.contains(secret),
                "{arguments:?}: {out}{err}"
            );
        }
        out
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("written");
        shown(&path)
    }

    /// The status of a chat with this key.
    fn chat(&self, key: &str, model: &str) -> u16 {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hello"}]}).to_string();
        let bearer = format!("Bearer {key}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let stream = http::send(
            self.gateway,
            "POST",
            "/v1/chat/completions",
            &headers,
            body.as_bytes(),
        );
        http::answer(stream).map_or(0, |answer| answer.status)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn shown(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON lines"))
        .collect()
}

/// Waits until the command tells as many lines of JSON.
#[track_caller]
fn wait_for(weir: &Running, arguments: &[&str], n_lines: usize) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let found = lines(&weir.says(arguments, 0, ""));
        if found.len() >= n_lines {
            return found;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{} of {n_lines} lines: {found:?}",
            found.len()
        );
        std::thread::sleep(Duration::from_millis(50));
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

#[test]
fn keys_documents_calls_and_cost() {
    if !own_network() {
        return;
    }
    let simulator = Simulator::start(&[]);
    let weir = Running::start(simulator.addr);
    // A key: made, used, ended.
    let key = weir.says(
        &["key", "create", "--consumer", "shop", "--name", "till"],
        0,
        "made key till",
    );
    let key = key.trim().to_owned();
    assert!(key.starts_with("sk-weir-"), "{key}");
    assert_eq!(weir.chat("sk-weir-none", "sim/gpt-4o-mini"), 401);
    assert_eq!(weir.chat(&key, "sim/gpt-4o-mini"), 200);
    weir.says(
        &["key", "create", "--consumer", "shop", "--name", "till"],
        1,
        "exists",
    );
    weir.says(
        &["key", "create", "--consumer", "nobody"],
        2,
        "consumer: no consumer is called `nobody`",
    );
    let listed = weir.says(&["key", "list", "--format", "json"], 0, "");
    assert!(!listed.contains(&key), "{listed}");
    assert_eq!(lines(&listed)[0]["state"], "valid");

    // Documents: planned, applied, compared, exported, removed.
    let file = weir.write(
        "docs.yaml",
        "providers:\n  - { name: other, kind: openai, keys: [{ value: sk-of-the-api }] }\n\
         models:\n  - { name: fast, targets: [{ model: sim/gpt-4o-mini }] }\n",
    );
    assert_eq!(weir.chat(&key, "fast"), 404);
    let plan = weir.says(&["apply", "--dry-run", "-f", &file], 0, "2 to create");
    assert_eq!(plan, "+ providers/other\n+ models/fast\n");
    weir.says(&["diff", "-f", &file], 1, "2 to create");
    weir.says(&["apply", "-f", &file], 0, "created 2, changed 0, removed 0");
    assert_eq!(weir.chat(&key, "fast"), 200);
    weir.says(&["diff", "-f", &file], 0, "2 unchanged");
    let exported = weir.says(&["export"], 0, "secrets read ***");
    assert!(
        exported.contains("sim/gpt-4o-mini") && exported.contains("***"),
        "{exported}"
    );
    let exported = weir.write("exported.yaml", &exported);
    weir.says(&["diff", "-f", &exported, "--prune"], 0, "2 unchanged");
    let wrong = weir.write(
        "wrong.yaml",
        "models:\n  - { name: fast, targets: [{ model: none/x }] }\n",
    );
    weir.says(
        &["apply", "-f", &wrong],
        2,
        "models/fast: targets[0].model: no provider is called `none`",
    );
    let wrong = weir.write(
        "wrong.yaml",
        "models:\n  - name: fast\n    tragets: []\ngateway: {}\n",
    );
    weir.says(
        &["apply", "-f", &wrong],
        2,
        "wrong.yaml:3: models[0].tragets: no such field",
    );
    let files = weir.write("files.yaml", "providers: [{ name: sim, kind: openai }]\n");
    weir.says(&["apply", "-f", &files], 1, "comes from the file");
    weir.says(&["delete", "models", "fast"], 0, "removed models/fast");
    assert_eq!(weir.chat(&key, "fast"), 404);
    weir.says(&["delete", "models", "fast"], 1, "");
    let models = weir.says(&["get", "providers"], 0, "");
    assert!(models.contains("other") && models.contains("sim"), "{models}");
    assert!(weir.says(&["get", "presets"], 0, "").contains("anthropic"));

    // Revoked: refused from the moment the command has ended.
    let begun = Instant::now();
    weir.says(&["key", "revoke", "till"], 0, "revoked key till");
    let revoked = Instant::now();
    assert_eq!(weir.chat(&key, "sim/gpt-4o-mini"), 401);
    assert!(
        revoked.elapsed() < Duration::from_millis(100),
        "{:?} after {:?}",
        revoked.elapsed(),
        revoked - begun
    );
    weir.says(&["key", "revoke", "till"], 1, "");

    // Records of what happened, and its cost.
    let calls = wait_for(&weir, &["calls", "--format", "json", "--outcome", "ok"], 2);
    assert_eq!(
        (calls.len(), &calls[0]["consumer"], &calls[0]["key_id"]),
        (2, &"shop".into(), &"till".into())
    );
    assert_eq!(calls[0]["provider"], "sim");
    weir.says(&["calls", "--outcome", "fine"], 2, "outcome: expected one of ok");
    let cost = lines(&weir.says(&["cost", "--by", "consumer", "--format", "json"], 0, ""));
    let shop = cost.iter().find(|row| row["of"] == "shop").expect("a row");
    assert_ne!(shop["cost_usd"], "0");
    let by_model = lines(&weir.says(&["cost", "--by", "model", "--format", "json"], 0, ""));
    let row = by_model
        .iter()
        .find(|row| row["cost_usd"] == shop["cost_usd"])
        .expect("the same money");
    let (day, model) = (
        &calls[0]["time"].as_str().expect("a time")[..10],
        row["of"].as_str().expect("a name"),
    );
    let usd = shop["cost_usd"].as_str().expect("text");
    let export = weir.write("usage.csv", &format!("date,model,usd\n{day},{model},{usd}\n"));
    weir.says(&["cost", "reconcile", &export], 0, "0 of 1 rows differ");
    let export = weir.write("usage.csv", &format!("date,model,usd\n{day},{model},99\n"));
    weir.says(&["cost", "reconcile", &export], 1, "1 of 1 rows differ");

    // What is in force.
    let state = weir.says(&["gateway"], 0, "");
    assert!(state.contains("sim") && state.contains("ok 2"), "{state}");
}
