//! The whole binary under load: restart, end, revocation. No request is lost, none is made twice. Needs root.
//!
//! Each request asks for a text of its own and must get it; the provider's journal must have as many calls as
//! were answered.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

#[path = "common/mod.rs"]
mod common;

use common::http;
use common::simulator::Simulator;

/// Longest wait for a state.
const PATIENCE: Duration = Duration::from_secs(60);
/// Callers at a time.
const CALLERS: usize = 8;
/// Lines of standard error that wait to be read.
const LINES_MAX: usize = 1_024;

fn may_run() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(
        std::env::var_os("WEIR_REQUIRE_CAPS").is_none_or(|value| value != "1"),
        "WEIR_REQUIRE_CAPS=1, but this is not root"
    );
    println!("skipped: kernel programs need root");
    false
}

/// A gateway before a simulator, ended when dropped.
struct Weir {
    child: Child,
    addr: SocketAddr,
    words: Receiver<String>,
    said: Vec<String>,
    instance: String,
    config: PathBuf,
    socket: PathBuf,
    simulator: Simulator,
    _folder: tempfile::TempDir,
}

impl Weir {
    #[track_caller]
    fn start(name: &str) -> Weir {
        let simulator = Simulator::start(&[]);
        let folder = tempfile::tempdir().expect("a folder");
        // The worker is nobody, and passes through.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), mode).expect("a mode");
        let config = folder.path().join("weir.yaml");
        let text = format!(
            "store: {{ data: {} }}\n\
             gateway: {{ listen: [\"127.0.0.1:0\"], drain_ms: 20000 }}\n\
             providers: [{{ name: sim, kind: openai_compatible, base_url: \"http://{}/v1\", keys: [{{ value: sk-sim }}] }}]\n\
             models:\n\
             - {{ name: plain, targets: [{{ model: sim/gpt-4o-mini }}] }}\n\
             - {{ name: slow, targets: [{{ model: sim/sim-slow-1500 }}] }}\n\
             consumers: [{{ name: load }}]\n",
            folder.path().join("data").display(),
            simulator.addr
        );
        std::fs::write(&config, text).expect("written");
        let instance = format!("gl-{name}-{}", std::process::id());
        let socket = folder.path().join("admin.sock");
        let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args([
                "run",
                "--iface",
                "lo",
                "--flow-rows",
                "4096",
                "--listen",
                "127.0.0.1:0",
            ])
            .args(["--instance", &instance, "--socket"])
            .arg(&socket)
            .arg("--config")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("weir starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let (sender, words) = sync_channel(LINES_MAX);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.try_send(line);
            }
        });
        let mut weir = Weir {
            child,
            addr: SocketAddr::from(([0; 4], 0)),
            words,
            said: Vec::new(),
            instance,
            config,
            socket,
            simulator,
            _folder: folder,
        };
        let line = weir.wait_until_it_says("gateway: http://");
        let addr = line.rsplit("//").next().and_then(|addr| addr.parse().ok());
        weir.addr = addr.unwrap_or_else(|| panic!("no address in {line}"));
        weir
    }

    #[track_caller]
    fn wait_until_it_says(&mut self, words: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.words.recv_timeout(left) else {
                panic!("it did not say {words:?} but {:?}", self.said);
            };
            self.said.push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"))
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("a signal");
    }

    fn workers(&self) -> BTreeSet<i32> {
        let pid = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        children
            .split_whitespace()
            .filter_map(|one| one.parse().ok())
            .collect()
    }

    /// One request on the local socket: its status and its document.
    #[track_caller]
    fn admin(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = UnixStream::connect(&self.socket).expect("the admin API listens");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (
            status.unwrap_or_else(|| panic!("{text:?}")),
            serde_json::from_str(body).unwrap_or_default(),
        )
    }

    /// The id and the text of a new key.
    #[track_caller]
    fn key(&self) -> (String, String) {
        let (status, made) = self.admin("POST", "/api/v1/keys", r#"{"consumer":"load"}"#);
        assert!((200..300).contains(&status), "{status} {made}");
        let text = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        (text("id"), text("key"))
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(self.pid(), Signal::SIGTERM);
            let deadline = Instant::now() + PATIENCE;
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                sleep(Duration::from_millis(20));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Sends a request that must be answered with `marker`.
fn begin(
    addr: SocketAddr,
    key: &str,
    model: &str,
    marker: &str,
    is_stream: bool,
) -> std::io::Result<TcpStream> {
    let body = json!({
        "model": model, "stream": is_stream,
        "messages": [{"role": "user", "content": format!("say: {marker}")}],
    })
    .to_string();
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    Ok(stream)
}

/// What is wrong with the answer, if anything.
fn ended(stream: std::io::Result<TcpStream>, marker: &str, is_stream: bool) -> Result<(), String> {
    let stream = stream.map_err(|error| format!("{marker}: {error}"))?;
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

static STOP: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];
static DONE: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// Callers that ask until `STOP[load]`: half of them take streams. How many were answered, and what was wrong.
fn callers(load: usize, addr: SocketAddr, key: &str) -> Vec<JoinHandle<(usize, Vec<String>)>> {
    let call = |caller: usize| {
        let key = key.to_owned();
        std::thread::spawn(move || {
            let (mut answered, mut wrong) = (0, Vec::new());
            while !STOP[load].load(Ordering::Relaxed) {
                let (marker, is_stream) = (format!("mark {caller} {answered}"), caller.is_multiple_of(2));
                match ended(begin(addr, &key, "plain", &marker, is_stream), &marker, is_stream) {
                    Ok(()) => answered += 1,
                    Err(error) => {
                        wrong.push(error);
                        break;
                    }
                }
                DONE[load].fetch_add(1, Ordering::Relaxed);
            }
            (answered, wrong)
        })
    };
    (0..CALLERS).map(call).collect()
}

#[track_caller]
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        sleep(Duration::from_millis(20));
    }
}

/// Two restarts under load, with long streams open over each; then one that is refused; then the end.
#[test]
fn restart_and_end_under_load() {
    if !may_run() {
        return;
    }
    let mut weir = Weir::start("re");
    let (addr, (_, key)) = (weir.addr, weir.key());
    let load = callers(0, addr, &key);
    let (mut long, pid) = (0, weir.child.id());
    for _ in 0..2 {
        let before = DONE[0].load(Ordering::Relaxed);
        wait_for("load flows", || DONE[0].load(Ordering::Relaxed) > before + 50);
        let old = weir.workers();
        let opened: Vec<_> = (0..4)
            .map(|i| {
                (
                    begin(addr, &key, "slow", &format!("long {i}"), true),
                    format!("long {i}"),
                )
            })
            .collect();
        long += opened.len();
        let asked = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["restart", "--instance", &weir.instance])
            .status()
            .expect("weir starts");
        assert!(asked.success());
        let again = weir.wait_until_it_says("gateway: http://");
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
        std::fs::read_to_string(&weir.config).expect("read"),
        weir.workers(),
    );
    std::fs::write(&weir.config, "gateway: { listen: 7 }\n").expect("written");
    weir.signal(Signal::SIGUSR2);
    weir.wait_until_it_says("no restart, nothing is changed");
    assert_eq!(weir.workers(), workers);
    std::fs::write(&weir.config, text).expect("written");

    STOP[0].store(true, Ordering::Relaxed);
    let mut answered = 0;
    for caller in load {
        let (number, wrong) = caller.join().expect("a caller");
        assert_eq!(wrong, Vec::<String>::new(), "{:?}", weir.said);
        answered += number;
    }
    let calls = weir.simulator.calls(answered + long);
    assert_eq!(calls.len(), answered + long, "none is made twice");
    println!("{answered} requests and {long} long streams over two restarts of process {pid}");

    // The end: what is open ends, what is new is refused, and it is over in time.
    let open = begin(addr, &key, "slow", "last", false);
    wait_for("the provider has it", || {
        http::get(weir.simulator.addr, "/sim/stats").text().len() > 2 && !weir.workers().is_empty()
    });
    sleep(Duration::from_millis(300));
    weir.signal(Signal::SIGTERM);
    assert_eq!(ended(open, "last", false), Ok(()));
    let status = weir.child.wait().expect("an end");
    assert!(status.success(), "{:?}", weir.said);
    assert!(TcpStream::connect(addr).is_err());
}

/// After the answer to the revocation no request with the key is accepted for more than 100 ms.
#[test]
fn a_revoked_key_is_refused_within_100_ms() {
    if !may_run() {
        return;
    }
    let weir = Weir::start("rv");
    let (addr, (id, key)) = (weir.addr, weir.key());
    let (_, other) = weir.key();
    let others = callers(1, addr, &other);
    for i in 0..20 {
        let marker = format!("before {i}");
        assert_eq!(
            ended(begin(addr, &key, "plain", &marker, false), &marker, false),
            Ok(())
        );
    }
    let (status, said) = weir.admin("DELETE", &format!("/api/v1/keys/{id}"), "");
    assert_eq!(status, 204, "{said}");
    let revoked = Instant::now();
    let mut last = Duration::ZERO;
    while revoked.elapsed() < Duration::from_secs(2) {
        let sent = revoked.elapsed();
        let answer = begin(addr, &key, "plain", "after", false)
            .ok()
            .and_then(http::answer)
            .expect("an answer");
        match answer.status {
            200 => last = sent,
            // After many wrong keys of one source they are no longer looked at.
            status => assert!(matches!(status, 401 | 429), "{status} {}", answer.text()),
        }
    }
    assert!(
        last <= Duration::from_millis(100),
        "accepted {last:?} after the revocation"
    );
    STOP[1].store(true, Ordering::Relaxed);
    for caller in others {
        assert_eq!(caller.join().expect("a caller").1, Vec::<String>::new());
    }
    println!("the last request was accepted {last:?} after the revocation");
}
