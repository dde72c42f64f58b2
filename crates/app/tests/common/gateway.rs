//! A gateway of the real binary before the simulator as every provider, in a network of its own.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::http;

/// What the simulator demands of the gateway.
pub const PROVIDER_KEY: &str = "sk-sim-of-the-providers";
/// The same for Bedrock.
pub const AWS_KEY: &str = "AKIDSIMTEST:aws-secret-of-the-providers";
/// What the gateway demands of the client `shop`.
pub const CLIENT_KEY: &str = "sk-weir-client-key-of-the-shop-0123456789";
/// Longest wait for a state.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The simulator's options for these keys.
pub const SIMULATOR: [&str; 4] = ["--key", PROVIDER_KEY, "--aws-key", AWS_KEY];

/// A network of this thread's own, with nothing but a loopback; `false` where that cannot be.
pub fn own_network() -> bool {
    if !nix::unistd::geteuid().is_root() {
        assert!(!is_required(), "WEIR_REQUIRE_CAPS=1, but this is not root");
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

/// Must everything that tests need be here?
pub fn is_required() -> bool {
    std::env::var_os("WEIR_REQUIRE_CAPS").is_some_and(|value| value == "1")
}

/// A provider of each wire, called after it, at the simulator. `before` is put before the names.
pub fn providers(simulator: SocketAddr, before: &str) -> String {
    let mut yaml = String::new();
    for (name, kind, base, parameters) in [
        ("openai", "openai", "/v1", ""),
        ("compatible", "openai_compatible", "/v1", ""),
        ("anthropic", "anthropic", "/v1", ""),
        ("gemini", "gemini", "/v1beta", ""),
        ("vertex", "vertex", "/v1", "project: p, location: l"),
        ("bedrock", "bedrock", "", "region: us-east-1"),
        ("cohere", "cohere", "", ""),
        ("azure", "azure", "", "resource: r"),
    ] {
        let key = if kind == "bedrock" { AWS_KEY } else { PROVIDER_KEY };
        yaml.push_str(&format!(
            "  - {{ name: {before}{name}, kind: {kind}, base_url: \"http://{simulator}{base}\", \
             keys: [{{ value: \"{key}\" }}], parameters: {{ {parameters} }}, \
             breaker: {{ failures: 1000, open_ms: 1 }} }}\n"
        ));
    }
    yaml
}

/// A running `weir`; stopped when dropped.
pub struct Gateway {
    pub child: Child,
    pub folder: tempfile::TempDir,
    pub addr: SocketAddr,
    pub admin: SocketAddr,
    pub instance: String,
}

impl Gateway {
    /// Starts Weir in the namespace of this thread, with these sections besides `agent`, `control` and
    /// `store`, and waits until the gateway listens.
    #[track_caller]
    pub fn start(sections: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // The worker, which has no privileges, reads and writes below it.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).expect("may be entered");
        let name = folder.path().file_name().and_then(|name| name.to_str());
        let instance: String = name
            .expect("UTF-8")
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect();
        configure(folder.path(), sections);
        let mut gateway = Self {
            child: spawn(folder.path(), &instance),
            folder,
            addr: "127.0.0.1:8080".parse().expect("an address"),
            admin: "127.0.0.1:9080".parse().expect("an address"),
            instance,
        };
        gateway.wait();
        gateway
    }

    /// Writes its configuration anew; it reads it when told to.
    #[track_caller]
    pub fn configure(&self, sections: &str) {
        configure(self.folder.path(), sections);
    }

    /// Starts it again after it was killed.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.child = spawn(self.folder.path(), &self.instance);
        self.wait();
    }

    #[track_caller]
    fn wait(&mut self) {
        let begun = Instant::now();
        while TcpStream::connect(self.addr).is_err() || self.weir(&["gateway"]).status.code() != Some(0) {
            let log = self.log();
            assert!(matches!(self.child.try_wait(), Ok(None)), "weir ended: {log}");
            assert!(
                begun.elapsed() < PATIENCE,
                "no gateway within {PATIENCE:?}: {log}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file into its folder and tells where it is.
    #[track_caller]
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    }

    /// What it wrote to its standard output and error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// How often it has said so.
    pub fn n_said(&self, words: &str) -> usize {
        self.log().lines().filter(|line| line.contains(words)).count()
    }

    /// Waits until it has said so more often than `before`, and tells the last line that does.
    #[track_caller]
    pub fn wait_to_say(&self, words: &str, before: usize) -> String {
        wait_for(&format!("it says {words:?}"), || self.n_said(words) > before);
        let log = self.log();
        let line = log.lines().rfind(|line| line.contains(words));
        line.unwrap_or_default().to_owned()
    }

    /// A command to it.
    pub fn weir(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(arguments)
            .arg("--api")
            .arg(self.path("weir.sock"))
            .output()
            .expect("weir starts")
    }

    /// Stdout of a command that ends with `code`; its words in stderr hold `words`.
    #[track_caller]
    pub fn says(&self, arguments: &[&str], code: i32, words: &str) -> String {
        let output = self.weir(arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {out}{err}");
        assert!(err.contains(words), "{arguments:?}: {err}");
        out
    }

    /// Records of calls, once there are `number` that these words of `weir calls` choose.
    #[track_caller]
    pub fn records(&self, number: usize, chosen: &[&str]) -> Vec<Value> {
        let fixed = ["calls", "--since", "1h", "-n", "100000", "--format", "json"];
        let arguments = [&fixed[..], chosen].concat();
        let begun = Instant::now();
        loop {
            let records = lines(&self.says(&arguments, 0, ""));
            if records.len() >= number {
                return records;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{} of {number} records: {:?}",
                records.len(),
                records.last()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("a signal");
    }

    /// The processes that the broker has started.
    pub fn workers(&self) -> BTreeSet<i32> {
        let pid = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        let numbers = children.split_whitespace().filter_map(|one| one.parse().ok());
        numbers.collect()
    }

    /// Ends it as an operator does.
    pub fn stop(&mut self) {
        let _ = kill(self.pid(), Signal::SIGTERM);
        let _ = self.child.wait();
    }

    /// One request of the client `shop`.
    pub fn post(&self, path: &str, body: &Value) -> Option<http::Answer> {
        self.ask(CLIENT_KEY, path, body)
    }

    /// One request with this key.
    pub fn ask(&self, key: &str, path: &str, body: &Value) -> Option<http::Answer> {
        http::answer(begin(self.addr, key, path, body))
    }
}

/// Sends a request of JSON with a key and leaves the connection to the caller.
#[track_caller]
pub fn begin(addr: SocketAddr, key: &str, path: &str, body: &Value) -> TcpStream {
    try_begin(addr, key, path, body).expect("the gateway listens and reads")
}

fn try_begin(addr: SocketAddr, key: &str, path: &str, body: &Value) -> std::io::Result<TcpStream> {
    let bearer = format!("Bearer {key}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    http::try_send(addr, "POST", path, &headers, body.to_string().as_bytes())
}

/// The answer of a gateway that may be gone.
pub fn try_ask(addr: SocketAddr, key: &str, path: &str, body: &Value) -> Option<http::Answer> {
    try_begin(addr, key, path, body).ok().and_then(http::answer)
}

#[track_caller]
fn configure(folder: &Path, sections: &str) {
    let config = format!(
        "agent: {{ interfaces: [lo], flow_rows: 1024 }}\n\
         control: {{ listen: \"127.0.0.1:9080\" }}\n\
         store: {{ data: {} }}\n\
         {sections}",
        folder.join("data").display()
    );
    std::fs::write(folder.join("weir.yaml"), config).expect("written");
}

fn spawn(folder: &Path, instance: &str) -> Child {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .expect("a log");
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["run", "--instance", instance, "-c"])
        .arg(folder.join("weir.yaml"))
        .arg("--socket")
        .arg(folder.join("weir.sock"))
        .env("SIM_KEY", PROVIDER_KEY)
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .stdin(Stdio::null())
        .spawn()
        .expect("weir starts")
}

/// JSON lines.
#[track_caller]
pub fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines().map(serde_json::from_str);
    lines.map(|line| line.expect("JSON lines")).collect()
}

/// Waits for a state.
#[track_caller]
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// US dollars as text, in units of 10^-12.
#[track_caller]
pub fn pusd(usd: &Value) -> u64 {
    let text = usd.as_str().expect("text");
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part = format!("{part:0<12}");
    whole.parse::<u64>().expect("digits") * 1_000_000_000_000 + part.parse::<u64>().expect("digits")
}

/// SplitMix64: the same draws in every run.
#[derive(Debug)]
pub struct Draw(pub u64);

impl Draw {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % n
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.stop();
        }
        // One that was killed, or that gave up while it restarted, has left its pins, and programs run on.
        if Path::new("/sys/fs/bpf/weir").join(&self.instance).exists() {
            let detach = ["detach", "--instance", &self.instance];
            let _ = Command::new(env!("CARGO_BIN_EXE_weir")).args(detach).output();
        }
    }
}

/// The Python of the tests (scripts/setup makes it), or `None` where it is missing and need not be there.
#[track_caller]
pub fn python() -> Option<PathBuf> {
    let cache = std::env::var_os("WEIR_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/weir")));
    let python = cache?.join("tools/sdk/python/bin/python");
    if python.exists() {
        return Some(python);
    }
    assert!(
        !is_required(),
        "WEIR_REQUIRE_CAPS=1, but {} is missing: run scripts/setup",
        python.display()
    );
    println!("skipped: no {}: run scripts/setup", python.display());
    None
}
