//! A gateway of the real binary before the simulator as every provider, in a network of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

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
        let config = format!(
            "agent: {{ interfaces: [lo], flow_rows: 1024 }}\n\
             control: {{ listen: \"127.0.0.1:9080\" }}\n\
             store: {{ data: {} }}\n\
             {sections}",
            folder.path().join("data").display()
        );
        std::fs::write(folder.path().join("weir.yaml"), config).expect("written");
        let mut gateway = Self {
            child: Self::spawn(&folder),
            folder,
            addr: "127.0.0.1:8080".parse().expect("an address"),
            admin: "127.0.0.1:9080".parse().expect("an address"),
        };
        gateway.wait();
        gateway
    }

    fn spawn(folder: &tempfile::TempDir) -> Child {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.path().join("log"))
            .expect("a log");
        let instance = folder.path().file_name().and_then(|name| name.to_str());
        let instance: String = instance
            .expect("UTF-8")
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect();
        Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["run", "--instance", &instance, "-c"])
            .arg(folder.path().join("weir.yaml"))
            .arg("--socket")
            .arg(folder.path().join("weir.sock"))
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("weir starts")
    }

    /// Starts it again after it was killed.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.child = Self::spawn(&self.folder);
        self.wait();
    }

    #[track_caller]
    fn wait(&mut self) {
        let begun = Instant::now();
        while self.weir(&["gateway"]).status.code() != Some(0)
            || std::net::TcpStream::connect(self.addr).is_err()
        {
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

    /// What it wrote to its standard output and error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// A command to it.
    pub fn weir(&self, arguments: &[&str]) -> std::process::Output {
        Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(arguments)
            .arg("--api")
            .arg(self.path("weir.sock"))
            .output()
            .expect("weir starts")
    }

    /// Ends it as an operator does.
    pub fn stop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }

    /// The simulator answers here for tests that are not interested in more.
    pub fn post(&self, path: &str, body: &serde_json::Value) -> Option<http::Answer> {
        let bearer = format!("Bearer {CLIENT_KEY}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        http::answer(http::send(
            self.addr,
            "POST",
            path,
            &headers,
            body.to_string().as_bytes(),
        ))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.stop();
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
