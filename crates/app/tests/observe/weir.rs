//! A running `weir`, stopped and cleaned up also when the test fails, and a client of its socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::lab::Lab;
use crate::{number, wait_for};

/// Lines of standard error that wait to be read.
const LINES_MAX: usize = 1_024;

pub(crate) struct Weir {
    pub(crate) instance: String,
    pub(crate) child: Child,
    socket: PathBuf,
    words: Receiver<String>,
    /// What it has said on standard error so far.
    pub(crate) said: Vec<String>,
}

impl Weir {
    /// Observes the server's `lab0` and waits until it is ready.
    #[track_caller]
    pub(crate) fn on(lab: &Lab, options: &[&str]) -> Self {
        let mut weir = Self::begin(lab, &["--iface", "lab0"], options);
        weir.wait_until_it_says("ready after");
        weir
    }

    /// Starts on the server; the caller waits.
    pub(crate) fn begin(lab: &Lab, interface: &[&str], options: &[&str]) -> Self {
        let instance = lab.name.clone();
        let socket = socket_of(&instance);
        let mut command = lab.on_server(env!("CARGO_BIN_EXE_weir"));
        command.args(["run", "--instance", &instance, "--socket"]);
        command.arg(&socket).args(interface).args(options);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("weir starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let (sender, words) = sync_channel(LINES_MAX);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                // More than any test waits for; the rest may be lost.
                let _ = sender.try_send(line);
            }
        });
        Self {
            instance,
            child,
            socket,
            words,
            said: Vec::new(),
        }
    }

    /// Reads standard error until a line has these words.
    #[track_caller]
    pub(crate) fn wait_until_it_says(&mut self, words: &str) -> String {
        loop {
            match self.words.recv_timeout(crate::PATIENCE) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(words) {
                        return line;
                    }
                }
                Err(error) => panic!("weir never said `{words}` ({error}): {:?}", self.said),
            }
        }
    }

    /// What a command of the client says.
    #[track_caller]
    pub(crate) fn told(&self, arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(&arguments[..1])
            .arg("--api")
            .arg(&self.socket)
            .args(&arguments[1..])
            .output()
            .expect("weir starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Body of a GET on the local socket, if it answers 200.
    pub(crate) fn get(&self, path: &str) -> Result<String, String> {
        let mut stream =
            UnixStream::connect(&self.socket).map_err(|error| format!("{:?}: {error}", self.socket))?;
        let ask = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .and_then(|()| stream.write_all(ask.as_bytes()))
            .and_then(|()| stream.read_to_string(&mut answer))
            .map_err(|error| format!("{path}: {error}"))?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        if head.starts_with("HTTP/1.1 200 ") {
            Ok(body.to_owned())
        } else {
            Err(format!("{path}: {answer}"))
        }
    }

    #[track_caller]
    fn json(&self, path: &str) -> Value {
        let body = self.get(path).unwrap_or_else(|error| panic!("{error}"));
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        self.json("/api/v1/status")
    }

    /// Flows that match a filter, in progress and ended. All of them, or the test is wrong.
    #[track_caller]
    pub(crate) fn flows(&self, filter: &str) -> Vec<Value> {
        let filter: String = filter
            .bytes()
            .map(|byte| match byte {
                byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
                byte => format!("%{byte:02x}"),
            })
            .collect();
        let mut page = self.json(&format!("/api/v1/flows?state=all&limit=10000&filter={filter}"));
        let Value::Array(flows) = page["flows"].take() else {
            panic!("no flows: {page}");
        };
        assert_eq!(number(&page, "/total"), flows.len() as u64, "more than a page");
        flows
    }

    #[track_caller]
    pub(crate) fn aggregates(&self) -> Vec<Value> {
        let mut body = self.json("/api/v1/aggregates");
        let Value::Array(rows) = body["aggregates"].take() else {
            panic!("no aggregates: {body}");
        };
        rows
    }

    pub(crate) fn broker(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// The process without privileges.
    #[track_caller]
    pub(crate) fn worker(&self) -> Pid {
        let broker = self.child.id();
        let path = format!("/proc/{broker}/task/{broker}/children");
        wait_for("there is a worker", || {
            let children = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
            let pid = children.trim().parse();
            pid.map(Pid::from_raw)
                .map_err(|_| format!("children are `{children}`"))
        })
    }

    /// Sends a signal to the broker and waits for its end. Returns its exit code, if any.
    #[track_caller]
    pub(crate) fn end(&mut self, signal: Signal) -> Option<i32> {
        kill(self.broker(), signal).expect("a signal");
        let status = self.child.wait().expect("its end");
        self.said.extend(self.words.try_iter());
        status.code()
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(self.broker(), Signal::SIGTERM);
            let _ = self.child.wait();
        }
        let _ = detach(&self.instance);
        let _ = std::fs::remove_file(format!("/run/weir/{}.lock", self.instance));
        let _ = std::fs::remove_file(format!("/var/lib/weir/{}.tokens", self.instance));
        let _ = std::fs::remove_file(&self.socket);
    }
}

pub(crate) fn socket_of(instance: &str) -> PathBuf {
    std::env::temp_dir().join(format!("weir-{instance}.sock"))
}

/// `weir detach`, for an instance.
pub(crate) fn detach(instance: &str) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["detach", "--instance", instance])
        .output()
        .expect("weir starts")
}
