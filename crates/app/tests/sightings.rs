//! Two hosts talk through a bridge whose ports are both observed: one flow, one record. Needs root.

use std::fs::File;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

const PACKETS: u64 = 10;
const PATIENCE: Duration = Duration::from_secs(30);

/// Three namespaces: host `a`, host `b`, and `r` with a bridge between them. Gone when dropped.
struct Network(String);

impl Network {
    fn new() -> Self {
        let network = Self(format!("weir-seen{}", std::process::id()));
        let [a, b, r] = ["a", "b", "r"].map(|end| network.name(end));
        for name in [&a, &b, &r] {
            ip(&format!("netns add {name}"));
        }
        for (port, host, address) in [("pa", &a, "10.9.0.1/24"), ("pb", &b, "10.9.0.2/24")] {
            ip(&format!(
                "-n {r} link add {port} type veth peer name e0 netns {host}"
            ));
            ip(&format!("-n {host} addr add {address} dev e0"));
            ip(&format!("-n {host} link set e0 up"));
        }
        ip(&format!("-n {r} link add br0 type bridge"));
        for device in ["pa", "pb"] {
            ip(&format!("-n {r} link set {device} master br0 up"));
        }
        ip(&format!("-n {r} link set br0 up"));
        network
    }

    fn name(&self, end: &str) -> String {
        format!("{}{end}", self.0)
    }

    fn open(&self, end: &str) -> File {
        File::open(Path::new("/run/netns").join(self.name(end))).expect("the namespace")
    }

    /// A socket of host `end`; it stays there whoever uses it.
    fn socket(&self, end: &str, address: &str) -> UdpSocket {
        let namespace = self.open(end);
        let made = std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                setns(&namespace, CloneFlags::CLONE_NEWNET).expect("enter");
                UdpSocket::bind(address).expect("bind")
            });
            made.join().expect("a socket")
        });
        made.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        made
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for end in ["a", "b", "r"] {
            let _ = Command::new("ip")
                .args(["netns", "del", &self.name(end)])
                .output();
        }
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .expect("ip");
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A running weir, ended and detached when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = kill(nix::unistd::Pid::from_raw(self.0.id() as i32), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

fn flows(socket: &Path) -> Option<Vec<Value>> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream
        .write_all(b"GET /api/v1/flows HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let body: Value = serde_json::from_str(body).ok()?;
    body["flows"].as_array().cloned()
}

/// Waits until `look` gives something.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "no {what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_bridged_flow_is_one_record_with_two_sightings() {
    if !nix::unistd::geteuid().is_root() {
        let is_required = std::env::var_os("WEIR_REQUIRE_CAPS").is_some_and(|value| value == "1");
        assert!(!is_required, "WEIR_REQUIRE_CAPS=1, but this is not root");
        println!("skipped: network namespaces need root");
        return;
    }
    let network = Network::new();
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("weir.sock");
    let namespace = network.open("r");
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command
        .args(["run", "--iface", "pa", "--iface", "pb", "--listen", "127.0.0.1:0"])
        .args(["--instance", &format!("seen{}", std::process::id()), "--socket"])
        .arg(&socket)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // SAFETY: only a system call between fork and exec.
    unsafe {
        command.pre_exec(move || setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(Into::into));
    }
    let _weir = Running(command.spawn().expect("weir starts"));
    wait_for("answer", || flows(&socket));

    let (a, b) = (
        network.socket("a", "10.9.0.1:7000"),
        network.socket("b", "10.9.0.2:9000"),
    );
    let mut buffer = [0; 64];
    for _ in 0..PACKETS {
        a.send_to(b"there", "10.9.0.2:9000").expect("sent");
        b.recv_from(&mut buffer).expect("there");
        b.send_to(b"and back", "10.9.0.1:7000").expect("sent");
        a.recv_from(&mut buffer).expect("back");
    }
    let found = wait_for("flow with all packets on both ports", || {
        let mut found = flows(&socket)?;
        found.retain(|flow| flow["dport"] == 9000);
        let is_whole = found
            .iter()
            .any(|flow| flow["packets"] == 2 * PACKETS && flow["sightings"][0]["packets"] == 2 * PACKETS);
        is_whole.then_some(found)
    });
    assert_eq!(found.len(), 1, "{found:#?}");
    let flow = &found[0];
    assert_eq!(
        flow["iface"], "pa",
        "as many packets on both: the lowest index counts"
    );
    let sightings = flow["sightings"].as_array().expect("a list");
    assert_eq!(sightings.len(), 1);
    assert_eq!(sightings[0]["iface"], "pb");
    assert_eq!(sightings[0]["bytes"], flow["bytes"]);
}
