//! A lab of its own for each test, removed also when the test fails.

use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::{number, text};

pub(crate) struct Lab {
    pub(crate) name: String,
    /// Process that serves on the lab's server.
    pub(crate) server_pid: u64,
}

/// What the kernel itself counted in the server's namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) rx_packets: u64,
    pub(crate) rx_bytes: u64,
    pub(crate) tx_packets: u64,
    pub(crate) tx_bytes: u64,
    /// Sent, so seen by Weir, but not taken by the other end of the wire.
    pub(crate) tx_dropped: u64,
}

impl Lab {
    /// A lab called after `tag` and this process.
    pub(crate) fn up(tag: &str, options: &[&str]) -> Self {
        let mut lab = Self {
            name: format!("{tag}{}", std::process::id()),
            server_pid: 0,
        };
        lab.done("up", options);
        let status = lab.done("status", &["--format", "json"]);
        let status: Value = serde_json::from_slice(&status.stdout).expect("JSON");
        lab.server_pid = number(&status, "/programs/0");
        lab
    }

    fn command(&self, action: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command
            .args(["lab", action, "--name", &self.name])
            .args(arguments);
        command
    }

    #[track_caller]
    fn done(&self, action: &str, arguments: &[&str]) -> Output {
        let output = self.command(action, arguments).output().expect("weir starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{action} {arguments:?}: {said}");
        output
    }

    /// Runs scenarios to their end and returns the report. Every connection must be complete.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Value {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--format", "json"]);
        let output = self.done("run", &arguments);
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(report["problems"], Value::Array(Vec::new()));
        report
    }

    /// Begins to run scenarios.
    pub(crate) fn start(&self, arguments: &[&str]) -> Traffic {
        let mut command = self.command("run", arguments);
        command.args(["--format", "json"]).stdout(Stdio::piped());
        let child = command.stderr(Stdio::null()).spawn().expect("weir starts");
        Traffic { child }
    }

    /// Runs a command on a host of the lab.
    #[track_caller]
    pub(crate) fn exec(&self, host: &str, arguments: &[&str]) -> String {
        let mut whole = vec![host];
        whole.extend(arguments);
        let output = self.done("exec", &whole);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A command that will run on the server.
    pub(crate) fn on_server(&self, program: &str) -> Command {
        self.command("exec", &["server", program])
    }

    pub(crate) fn namespace(&self, host: &str) -> String {
        format!("/run/netns/weir-lab-{}-{host}", self.name)
    }

    /// The server's `lab0`, from /proc/PID/net: no command runs, nothing is sent.
    #[track_caller]
    pub(crate) fn counted(&self) -> Counted {
        let path = format!("/proc/{}/net/dev", self.server_pid);
        let devices = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let device = devices.lines().find(|line| line.trim().starts_with("lab0:"));
        let device = numbers(device.expect("lab0"));
        Counted {
            rx_bytes: device[0],
            rx_packets: device[1],
            tx_bytes: device[8],
            tx_packets: device[9],
            tx_dropped: device[11],
        }
    }

    /// TCP segments that a host has sent, as its TCP counts them: what an offloaded packet is cut
    /// into, and what was sent again.
    #[track_caller]
    pub(crate) fn segments_sent(&self, host: &str) -> u64 {
        let protocols = self.exec(host, &["cat", "/proc/net/snmp"]);
        let tcp = protocols.lines().rfind(|line| line.starts_with("Tcp:"));
        let tcp = numbers(tcp.expect("TCP's numbers"));
        // As the header line names them: OutSegs and RetransSegs.
        tcp[10] + tcp[11]
    }
}

/// The numbers of a line after its first word.
fn numbers(line: &str) -> Vec<u64> {
    let words = line.split_whitespace().skip(1);
    words.map(|word| word.parse().unwrap_or(0)).collect()
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.command("down", &[]).output();
    }
}

/// A run in progress; ended with the test at the latest.
pub(crate) struct Traffic {
    child: Child,
}

impl Traffic {
    /// Waits for its end.
    #[track_caller]
    pub(crate) fn report(mut self) -> Value {
        let mut stdout = self.child.stdout.take().expect("a pipe");
        let mut report = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut report).expect("its report");
        serde_json::from_str(&report).expect("JSON")
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Connections of a report that one scenario made.
pub(crate) fn connections<'a>(report: &'a Value, scenario: &str) -> Vec<&'a Value> {
    let all = report["connections"].as_array().expect("connections");
    all.iter()
        .filter(|one| text(one, "/scenario") == scenario)
        .collect()
}
