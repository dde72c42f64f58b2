//! `weir lab provider` as a process of its own, for tests.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::http;

/// Ends its process when dropped.
pub struct Simulator {
    pub addr: SocketAddr,
    pub child: Child,
}

impl Simulator {
    /// Starts it on a free port and waits until it listens.
    #[track_caller]
    pub fn start(args: &[&str]) -> Simulator {
        let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["lab", "provider", "--listen", "127.0.0.1:0"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("weir starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut line).expect("a line");
        let addr = line
            .trim()
            .strip_prefix("listening on ")
            .and_then(|addr| addr.parse().ok());
        let addr = addr.unwrap_or_else(|| panic!("expected the address, got {line:?}"));
        Simulator { addr, child }
    }

    /// What `GET /sim/calls` tells, once `number` calls have ended.
    #[track_caller]
    pub fn calls(&self, number: usize) -> Vec<Value> {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let answer = http::get(self.addr, "/sim/calls");
            let lines: Vec<Value> = answer
                .text()
                .lines()
                .map(|line| serde_json::from_str(line).expect("JSON lines"))
                .collect();
            if lines.len() >= number {
                return lines;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "{} of {number} calls",
                lines.len()
            );
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
