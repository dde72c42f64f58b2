//! `weir doctor`: what this kernel and host allow, and why not.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use agent::doctor::{Check, InstanceState, Report, Verdict};
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use control::status::Status;
use serde::Serialize;

use super::text::{Painter, Tone};

/// What this kernel and host allow, and why not
///
/// Tries everything that observing needs, in places made for it: nothing of the host's own interfaces
/// is touched. Ends with 1 if something that observing needs is missing.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// How to show it
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people: a line for each check
    #[default]
    Table,
    /// One object
    Json,
}

/// Time that a running instance has for its answer.
const STATUS_TIMEOUT: Duration = Duration::from_millis(500);

/// Longest status that is read.
const STATUS_LEN_MAX: u64 = 4 << 20;

/// Instances that are asked: each may take [`STATUS_TIMEOUT`].
const ASKED_MAX: usize = 4;

/// Programs that other commands of Weir use where they are installed, and for what.
const TOOLS: [(&str, &str); 3] = [
    ("tshark", "tests compare `weir read` with it"),
    ("ndpiReader", "`weir bench read` compares with it"),
    ("xdp-filter", "`weir bench kernel` compares with it"),
];

/// The report as JSON.
#[derive(Debug, Serialize)]
struct JsonReport<'a> {
    /// Whether observing works here.
    can_observe: bool,
    #[serde(flatten)]
    report: &'a Report,
    /// What running instances say of themselves.
    status: Vec<Status>,
}

pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let mut report = agent::doctor::examine();
    let mut status = Vec::new();
    for instance in report
        .instances
        .iter()
        .filter(|one| one.pid.is_some())
        .take(ASKED_MAX)
    {
        let answer = ask_status(&instance.socket);
        report.checks.push(describe_status(instance, &answer));
        status.extend(answer);
    }
    report
        .checks
        .extend(TOOLS.iter().map(|(name, use_of)| tool(name, use_of)));
    let text = match args.format {
        Format::Table => table(&report, Painter::for_stdout()),
        Format::Json => {
            let whole = JsonReport {
                can_observe: report.can_observe(),
                report: &report,
                status,
            };
            format!(
                "{}\n",
                serde_json::to_string(&whole).context("cannot encode the report")?
            )
        }
    };
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        result => result.context("cannot write to stdout")?,
    }
    Ok(if report.can_observe() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Asks for `/api/v1/status` over an instance's socket, without a runtime: one short answer.
fn ask_status(socket: &Path) -> io::Result<Status> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(STATUS_TIMEOUT))?;
    stream.set_write_timeout(Some(STATUS_TIMEOUT))?;
    // HTTP/1.0: the answer is not chunked and ends with the connection.
    stream.write_all(b"GET /api/v1/status HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(STATUS_LEN_MAX).read_to_end(&mut answer)?;
    parse_answer(&answer)
}

/// The body of an answer with status 200.
fn parse_answer(answer: &[u8]) -> io::Result<Status> {
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .ok_or_else(|| io::Error::other("the answer is cut short"))?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let code = head.split_whitespace().nth(1).unwrap_or("no code");
    if code != "200" {
        return Err(io::Error::other(format!("the answer is {code}")));
    }
    serde_json::from_slice(&answer[end + 4..])
        .map_err(|error| io::Error::other(format!("the answer is no status: {error}")))
}

fn describe_status(instance: &InstanceState, answer: &io::Result<Status>) -> Check {
    let name = format!("{} says", instance.name);
    let (verdict, words) = match answer {
        Err(error) => (
            Verdict::Unknown,
            format!("no status from {}: {error}", instance.socket.display()),
        ),
        Ok(status) => {
            let interfaces: Vec<_> = status.interfaces.iter().map(|one| one.name.as_str()).collect();
            let mut words = vec![format!(
                "up {:.0} s, observes {}, {} flows",
                status.uptime_s,
                interfaces.join(", "),
                status.flows.rows
            )];
            let notes = status.interfaces.iter().flat_map(|one| &one.notes);
            words.extend(status.degraded.iter().chain(notes).cloned());
            words.extend(status.incomplete.clone());
            let verdict = if words.len() > 1 {
                Verdict::Limited
            } else {
                Verdict::Ok
            };
            (verdict, words.join("; "))
        }
    };
    Check::new("instances", name, verdict, words)
}

fn tool(name: &str, use_of: &str) -> Check {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Some of them are kept where only root's PATH leads.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    match folders
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
    {
        Some(file) => Check::new(
            "tools",
            name,
            Verdict::Ok,
            format!("{}; {use_of}", file.display()),
        ),
        None => Check::new(
            "tools",
            name,
            Verdict::Limited,
            format!("not installed; Weir runs without it, only {use_of}"),
        ),
    }
}

fn table(report: &Report, painter: Painter) -> String {
    let width = report
        .checks
        .iter()
        .map(|check| check.name.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    // In the order of their first check; those of the command itself come last.
    let mut groups: Vec<&str> = Vec::new();
    for check in &report.checks {
        if !groups.contains(&check.group) {
            groups.push(check.group);
        }
    }
    for group in groups {
        text.push_str(&painter.paint(Tone::Heading, group));
        text.push('\n');
        for check in report.checks.iter().filter(|check| check.group == group) {
            let (tone, verdict) = match check.verdict {
                Verdict::Ok => (Tone::Good, "ok     "),
                Verdict::Limited => (Tone::Warning, "limited"),
                Verdict::Missing => (Tone::Bad, "missing"),
                Verdict::Unknown => (Tone::Quiet, "unknown"),
            };
            text.push_str(&format!(
                "  {:width$}  {}  {}\n",
                check.name,
                painter.paint(tone, verdict),
                check.words
            ));
        }
    }
    let (tone, verdict) = if report.can_observe() {
        (Tone::Good, "Observing works here.".to_owned())
    } else {
        let missing: Vec<_> = report
            .checks
            .iter()
            .filter(|check| check.needed && check.verdict == Verdict::Missing)
            .map(|check| check.name.as_str())
            .collect();
        (
            Tone::Bad,
            format!("Observing does not work here; needed: {}.", missing.join(", ")),
        )
    };
    text.push_str(&painter.paint(tone, &verdict));
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_an_instance() {
        let check = |answer: &str, expected: Result<&str, &str>| {
            let found = parse_answer(answer.as_bytes())
                .map(|status| status.instance)
                .map_err(|error| error.to_string());
            match expected {
                Ok(instance) => assert_eq!(found.as_deref(), Ok(instance)),
                Err(words) => assert!(found.expect_err(answer).starts_with(words)),
            }
        };
        check(
            "HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{\"instance\":\"t1\"}",
            Ok("t1"),
        );
        check("HTTP/1.0 403 Forbidden\r\n\r\n{}", Err("the answer is 403"));
        check("HTTP/1.0 200 OK\r\n", Err("the answer is cut short"));
        check("HTTP/1.0 200 OK\r\n\r\nhello", Err("the answer is no status"));
        check("", Err("the answer is cut short"));
    }

    #[test]
    fn what_is_needed_decides() {
        let check = |verdict: Verdict, needed: bool, expected: &str| {
            let mut one = Check::new("kernel", "ring buffer", verdict, "words");
            one.needed = needed;
            let report = Report {
                checks: vec![one],
                programs: Vec::new(),
                maps: Vec::new(),
                interfaces: Vec::new(),
                instances: Vec::new(),
            };
            assert_eq!(table(&report, Painter::PLAIN), expected);
        };
        check(
            Verdict::Missing,
            true,
            "kernel\n  ring buffer  missing  words\nObserving does not work here; needed: ring buffer.\n",
        );
        check(
            Verdict::Missing,
            false,
            "kernel\n  ring buffer  missing  words\nObserving works here.\n",
        );
        check(
            Verdict::Ok,
            true,
            "kernel\n  ring buffer  ok       words\nObserving works here.\n",
        );
    }
}
