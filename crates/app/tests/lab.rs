//! `weir lab` as a whole: the real binary, real namespaces. Needs root.

use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

/// A lab of its own for each test, removed also when the test fails.
struct TestLab {
    name: String,
}

impl TestLab {
    /// `None` without root, unless the environment says that the tests must run.
    fn new(tag: &str) -> Option<TestLab> {
        if nix::unistd::geteuid().is_root() {
            let name = format!("{tag}{}", std::process::id());
            return Some(TestLab { name });
        }
        assert!(
            std::env::var_os("WEIR_REQUIRE_CAPS").is_none_or(|value| value != "1"),
            "WEIR_REQUIRE_CAPS=1, but this is not root"
        );
        println!("skipped: the lab makes network namespaces, which needs root");
        None
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        let (action, rest) = arguments.split_first().expect("an action");
        command.args(["lab", action, "--name", &self.name]).args(rest);
        command
    }

    fn weir(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("weir starts")
    }

    #[track_caller]
    fn done(&self, arguments: &[&str]) -> Output {
        let output = self.weir(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--format", "json"]);
        serde_json::from_slice(&self.done(&arguments).stdout).expect("JSON")
    }

    fn programs(&self) -> Vec<u64> {
        let status = self.json(&["status"]);
        let programs = status["programs"].as_array().expect("programs");
        programs.iter().filter_map(Value::as_u64).collect()
    }

    fn namespaces(&self) -> Vec<String> {
        let prefix = format!("weir-lab-{}-", self.name);
        let Ok(entries) = std::fs::read_dir("/run/netns") else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.starts_with(&prefix))
            .collect()
    }

    #[track_caller]
    fn assert_gone(&self, programs: &[u64]) {
        assert_eq!(self.namespaces(), Vec::<String>::new());
        let files: Vec<_> = std::fs::read_dir("/run/weir")
            .expect("the runtime directory")
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|file| file.starts_with(&format!("lab-{}.", self.name)))
            .collect();
        assert_eq!(files, Vec::<String>::new());
        for pid in programs {
            wait_until("a program ends", || !is_running(*pid));
        }
    }

    fn state_file(&self) -> String {
        format!("/run/weir/lab-{}.json", self.name)
    }
}

impl Drop for TestLab {
    fn drop(&mut self) {
        self.weir(&["down"]);
    }
}

/// Zombies have no command line.
fn is_running(pid: u64) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_way_back_for_xdp_lasts_as_long_as_the_lab() {
    let Some(lab) = TestLab::new("x") else { return };
    lab.done(&["up", "--xdp-tx"]);
    let shown = lab.done(&["exec", "net", "ip", "link", "show", "to-server"]);
    let shown = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.contains("xdp"), "{shown}");
    let report = lab.json(&["run", "normal", "--seconds", "1"]);
    assert_eq!(report["problems"], Value::Array(Vec::new()));
    assert!(!lab.weir(&["up"]).status.success(), "another kind of lab is up");
}

fn number(value: &Value, field: &str) -> u64 {
    value[field]
        .as_u64()
        .unwrap_or_else(|| panic!("no number `{field}` in {value}"))
}

#[test]
fn up_and_down_can_be_repeated() {
    let Some(lab) = TestLab::new("u") else { return };
    lab.done(&["up", "--clients", "3"]);
    assert_eq!(lab.namespaces().len(), 6);
    let programs = lab.programs();
    assert_eq!(programs.len(), 1);

    let again = lab.done(&["up", "--clients", "3"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("already up"));
    assert_eq!(lab.programs(), programs);
    // Another shape is refused in words, and nothing changes.
    assert!(!lab.weir(&["up", "--clients", "1"]).status.success());
    assert_eq!(lab.namespaces().len(), 6);

    lab.done(&["down"]);
    lab.assert_gone(&programs);
    lab.done(&["down"]);
    assert_eq!(lab.weir(&["status"]).status.code(), Some(1));
}

#[test]
fn both_ends_of_normal_traffic_agree() {
    let Some(lab) = TestLab::new("n") else { return };
    lab.done(&["up", "--no-offload"]);
    let report = lab.json(&["run", "normal", "--seconds", "2"]);
    let connections = report["connections"].as_array().expect("connections");
    assert_eq!(connections.len(), 2 * 24);
    for one in connections {
        assert_eq!(one["outcome"], "complete", "{one}");
        assert_eq!(one["sent_bytes"], one["server_received_bytes"], "{one}");
        assert_eq!(one["received_bytes"], one["server_sent_bytes"], "{one}");
        assert!(number(one, "client_port") > 0);
    }
    for (field, values) in [
        ("service", &["http", "dns", "ssh", "bulk", "echo"][..]),
        ("protocol", &["tcp", "udp"]),
        ("client", &["10.77.0.11", "10.77.0.12", "fd77::11", "fd77::12"]),
        ("server", &["10.77.0.1", "fd77::1"]),
    ] {
        for value in values {
            assert!(
                connections.iter().any(|one| one[field] == *value),
                "no connection with {field} {value}"
            );
        }
    }
    assert_eq!(report["server_only"], Value::Array(Vec::new()));
    // Without offload no frame is longer than a wire carries, at no host.
    for host in report["interfaces"].as_array().expect("interfaces") {
        for way in ["rx", "tx"] {
            let bytes = number(host, &format!("{way}_bytes"));
            let packets = number(host, &format!("{way}_packets"));
            assert!(bytes <= packets * 1514, "{host}");
        }
    }
    // What the clients sent arrived at the server, frame by frame and byte by byte.
    let host = |name: &str| {
        let interfaces = report["interfaces"].as_array().expect("interfaces");
        let found = interfaces.iter().find(|one| one["host"] == name);
        found.unwrap_or_else(|| panic!("no host {name}")).clone()
    };
    for unit in ["packets", "bytes"] {
        let sent =
            number(&host("client1"), &format!("tx_{unit}")) + number(&host("client2"), &format!("tx_{unit}"));
        assert_eq!(number(&host("server"), &format!("rx_{unit}")), sent, "{unit}");
    }
    assert!(number(&report["totals"], "sent_bytes") > 500_000);
}

#[test]
fn a_flood_sends_what_it_says_beside_normal_traffic() {
    let Some(lab) = TestLab::new("f") else { return };
    let report = lab.json(&[
        "run",
        "syn-flood",
        "--with",
        "normal",
        "--seconds",
        "2",
        "--packets",
        "1500",
    ]);
    let raw = &report["raw"][0];
    assert_eq!(number(raw, "packets_sent"), 1500);
    // IPv4 and IPv6 by turns: Ethernet, IP, and TCP with its options.
    assert_eq!(
        number(raw, "bytes_sent"),
        750 * (14 + 20 + 40) + 750 * (14 + 40 + 40)
    );
    let counted = &raw["interface"];
    assert_eq!(number(counted, "tx_packets"), 1500);
    assert_eq!(number(counted, "tx_bytes"), number(raw, "bytes_sent"));
    let connections = report["connections"].as_array().expect("connections");
    assert_eq!(connections.len(), 48);
    assert!(connections.iter().all(|one| one["outcome"] == "complete"));
}

#[test]
fn attacks_with_connections_end_as_described() {
    let Some(lab) = TestLab::new("a") else { return };
    let report = lab.json(&[
        "run",
        "port-scan",
        "--with",
        "brute-force",
        "--with",
        "slow-client",
        "--seconds",
        "2",
    ]);
    let connections = report["connections"].as_array().expect("connections");
    let outcomes = |scenario: &str| {
        let mut outcomes: Vec<&str> = connections
            .iter()
            .filter(|one| one["scenario"] == scenario)
            .filter_map(|one| one["outcome"].as_str())
            .collect();
        outcomes.sort_unstable();
        outcomes.dedup();
        outcomes
    };
    assert_eq!(outcomes("port-scan"), ["complete", "refused"]);
    assert_eq!(outcomes("brute-force"), ["auth-failed"]);
    assert_eq!(outcomes("slow-client"), ["held"]);
    // Every open port is found by one half of the scan or the other.
    let mut open: Vec<u64> = report["raw"][0]["open_ports"]
        .as_array()
        .expect("ports")
        .iter()
        .filter_map(Value::as_u64)
        .chain(
            connections
                .iter()
                .filter(|one| one["service"] == "probe" && one["outcome"] == "complete")
                .map(|one| number(one, "server_port")),
        )
        .collect();
    open.sort_unstable();
    assert_eq!(open, [7, 22, 53, 80, 5201]);
}

#[test]
fn a_killed_run_leaves_nothing_that_down_does_not_remove() {
    let Some(lab) = TestLab::new("k") else { return };
    lab.done(&["up"]);
    let servers = lab.programs();
    let mut run = lab
        .command(&["run", "slow-client", "--seconds", "60"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("weir starts");
    wait_until("the attacker's program runs", || lab.programs().len() == 2);
    run.kill().expect("a signal");
    run.wait().expect("its end");
    // The programs of a run end with it, however it ends; the servers stay.
    wait_until("only the servers are left", || lab.programs() == servers);

    // The state is a help only: `down` does without it.
    std::fs::write(lab.state_file(), "{ no").expect("a damaged state file");
    lab.done(&["down"]);
    lab.assert_gone(&servers);
}

#[test]
fn up_repairs_a_lab_whose_servers_are_gone() {
    let Some(lab) = TestLab::new("r") else { return };
    lab.done(&["up"]);
    let servers = lab.programs();
    for pid in &servers {
        let pid = nix::unistd::Pid::from_raw(*pid as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("a signal");
    }
    wait_until("the lab is seen as broken", || {
        !lab.weir(&["status"]).status.success()
    });
    lab.done(&["up"]);
    assert_eq!(lab.programs().len(), 1);
    assert_ne!(lab.programs(), servers);
    lab.json(&["run", "brute-force", "--seconds", "1"]);
}

#[test]
fn wrong_words_are_answered_in_words() {
    for (arguments, expected) in [
        (&["run", "rain"][..], "slow-client"),
        (&["run", "normal", "--seconds", "61"], "1..=60"),
        (&["exec", "client99", "true"], "client1 to client32"),
        (&["up", "--name", "a-b"], "1 to 16"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_weir"))
            .arg("lab")
            .args(arguments)
            .output()
            .expect("weir starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}
