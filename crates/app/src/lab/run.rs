//! Runs scenarios in a lab that is up, and puts what every program saw into one report.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use super::client::{Families, GRACE};
use super::layout::{HOST_INTERFACE, Host, Lab};
use super::namespace::{self, InterfaceCounters, Lifetime};
use super::report::{HostCounters, Outcome, ProgramReport, RunReport, Seen, ServerReport, Totals, join};
use super::scenario::{Intensity, Origin, Scenario};
use super::state::{Lock, ProcessId, State};

/// Longest report a program may write.
const REPORT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How long the servers may take to see the end of the last connections.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(20);

#[derive(Clone, Debug)]
pub(crate) struct RunOptions {
    pub scenarios: Vec<Scenario>,
    pub seconds: u32,
    pub intensity: Intensity,
    pub seed: u64,
    pub families: Families,
    pub packets_max: Option<u64>,
}

/// What can be told while a run goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    pub elapsed: Duration,
    /// The server's interface since the start of the run.
    pub server: InterfaceCounters,
}

/// Runs all scenarios at the same time. `tell` is called about five times a second.
pub(crate) fn run(
    lab: &Lab,
    clients: u8,
    options: &RunOptions,
    tell: &mut dyn FnMut(Progress),
) -> Result<RunReport> {
    let Some(_lock) = Lock::run(lab)? else {
        bail!(
            "another `weir lab run` is under way in {}: wait for it, or run several scenarios at once with --with",
            lab.title()
        );
    };
    let _registered = Registered::add(lab)?;
    // Whatever was served before is not part of this run.
    ask_servers(lab)?;
    let hosts = Host::observed(clients);
    let before = read_counters(lab, &hosts)?;
    let started = SystemTime::now();
    let start = Instant::now();

    let mut programs = Vec::new();
    for scenario in &options.scenarios {
        let origins: Vec<Host> = match scenario.facts().origin {
            Origin::EveryClient => (1..=clients).map(Host::Client).collect(),
            Origin::Attacker => vec![Host::Attacker],
        };
        for host in origins {
            programs.push(Program::start(lab, *scenario, host, options)?);
        }
    }
    let deadline = start + Duration::from_secs(u64::from(options.seconds)) + GRACE * 2;
    watch(lab, start, deadline, &mut programs, before[0].1, tell)?;

    let mut joined = ProgramReport::default();
    let mut problems = Vec::new();
    for program in programs {
        match program.finish() {
            Ok(report) => {
                joined.connections.extend(report.connections);
                joined.raw.extend(report.raw);
                joined.skipped += report.skipped;
            }
            Err(error) => problems.push(format!("{error:#}")),
        }
    }
    let elapsed_ms = start.elapsed().as_millis() as u64;
    let (seen, lost) = collect_seen(lab)?;
    let server_only = join(&mut joined.connections, seen);
    problems.extend(unfinished(&joined));
    let interfaces = read_counters(lab, &hosts)?
        .into_iter()
        .zip(before)
        .map(|((host, now), (_, earlier))| HostCounters {
            host: host.to_string(),
            interface: HOST_INTERFACE.to_owned(),
            counters: now.since(earlier),
        })
        .collect();
    let totals = Totals {
        skipped: u64::from(joined.skipped),
        server_records_lost: lost,
        ..Totals::of(&joined.connections, &joined.raw)
    };
    Ok(RunReport {
        lab: lab.title(),
        scenarios: options.scenarios.clone(),
        intensity: options.intensity,
        seed: options.seed,
        started_unix_us: started
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_micros() as u64),
        elapsed_ms,
        totals,
        connections: joined.connections,
        server_only,
        raw: joined.raw,
        interfaces,
        problems,
    })
}

pub(crate) fn read_counters(lab: &Lab, hosts: &[Host]) -> Result<Vec<(Host, InterfaceCounters)>> {
    hosts
        .iter()
        .map(|host| {
            let counters = namespace::counters(&lab.namespace(*host), HOST_INTERFACE)?;
            Ok((*host, counters))
        })
        .collect()
}

/// Everyday connections are to end well; anything else is worth a sentence.
fn unfinished(report: &ProgramReport) -> Option<String> {
    let normal: Vec<_> = report
        .connections
        .iter()
        .filter(|one| one.scenario == Scenario::Normal)
        .collect();
    let failed = normal
        .iter()
        .filter(|one| one.outcome != Outcome::Complete)
        .count();
    (failed + report.skipped as usize > 0).then(|| {
        format!(
            "{failed} of {} connections of `normal` did not end complete, {} actions were skipped for want of time",
            normal.len(),
            report.skipped
        )
    })
}

/// The run's entry in the state file: `down` ends a run that is still going on.
struct Registered<'a>(&'a Lab);

impl<'a> Registered<'a> {
    fn add(lab: &'a Lab) -> Result<Registered<'a>> {
        let own = ProcessId::of(std::process::id() as i32, "run");
        change_state(lab, |state| {
            state.processes.retain(ProcessId::is_alive);
            state.processes.extend(own);
        })?;
        Ok(Registered(lab))
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let own = std::process::id() as i32;
        // Best effort: an entry left behind names a process that has ended, which is checked.
        let _ = change_state(self.0, |state| {
            state.processes.retain(|process| process.pid != own);
        });
    }
}

fn change_state(lab: &Lab, change: impl FnOnce(&mut State)) -> Result<()> {
    let _lock = Lock::change(lab)?;
    let Some(mut state) = State::load(lab) else {
        bail!(
            "{} is not up: bring it up with `weir lab up{}`",
            lab.title(),
            lab.option()
        );
    };
    change(&mut state);
    state.save(lab)
}

/// A started `weir lab client`.
struct Program {
    title: String,
    child: Child,
    output: JoinHandle<std::io::Result<Vec<u8>>>,
    errors: JoinHandle<std::io::Result<Vec<u8>>>,
    timed_out: bool,
}

impl Program {
    fn start(lab: &Lab, scenario: Scenario, host: Host, options: &RunOptions) -> Result<Program> {
        let title = format!("{} on {host}", scenario.name());
        let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
        command
            .args(["lab", "client", scenario.name()])
            .args(["--host", &host.to_string()])
            .args(["--seconds", &options.seconds.to_string()])
            .args(["--intensity", options.intensity.name()])
            .args(["--seed", &options.seed.to_string()])
            .args(["--family", options.families.name()]);
        if let Some(packets) = options.packets_max {
            command.args(["--packets", &packets.to_string()]);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        namespace::start_inside(&mut command, &lab.namespace(host), Lifetime::WithParent)?;
        let mut child = command.spawn().with_context(|| format!("cannot start {title}"))?;
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        Ok(Program {
            title,
            child,
            output: std::thread::spawn(move || read_all(output)),
            errors: std::thread::spawn(move || read_all(errors)),
            timed_out: false,
        })
    }

    fn finish(mut self) -> Result<ProgramReport> {
        let status = self.child.wait().context("cannot wait for a program")?;
        let output = self.output.join().unwrap_or_else(|_| Ok(Vec::new()))?;
        let errors = self.errors.join().unwrap_or_else(|_| Ok(Vec::new()))?;
        if self.timed_out {
            bail!("{} did not end in time and was ended", self.title);
        }
        if !status.success() {
            let said = String::from_utf8_lossy(&errors);
            bail!("{} failed ({status}): {}", self.title, said.trim());
        }
        serde_json::from_slice(&output).with_context(|| format!("{} gave no readable report", self.title))
    }
}

fn read_all(pipe: Option<impl Read>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(REPORT_BYTES_MAX).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Waits for all programs; ends those that are still there at the deadline.
fn watch(
    lab: &Lab,
    start: Instant,
    deadline: Instant,
    programs: &mut [Program],
    server_before: InterfaceCounters,
    tell: &mut dyn FnMut(Progress),
) -> Result<()> {
    let mut told = start;
    loop {
        let mut running = false;
        for program in &mut *programs {
            if program.child.try_wait()?.is_none() {
                running = true;
                if Instant::now() > deadline {
                    program.timed_out = true;
                    program.child.kill()?;
                }
            }
        }
        if !running {
            return Ok(());
        }
        if told.elapsed() > Duration::from_millis(200) {
            told = Instant::now();
            let server = namespace::counters(&lab.namespace(Host::Server), HOST_INTERFACE)?;
            tell(Progress {
                elapsed: start.elapsed(),
                server: server.since(server_before),
            });
        }
        sleep(POLL);
    }
}

/// Asks the servers until they have seen every connection end.
fn collect_seen(lab: &Lab) -> Result<(Vec<Seen>, u64)> {
    let deadline = Instant::now() + SETTLE_TIME_MAX;
    let mut all = Vec::new();
    let mut lost = 0;
    loop {
        let report = ask_servers(lab)?;
        all.extend(report.seen);
        lost += report.lost;
        if report.open == 0 || Instant::now() > deadline {
            return Ok((all, lost));
        }
        sleep(POLL);
    }
}

/// Takes the servers' record.
fn ask_servers(lab: &Lab) -> Result<ServerReport> {
    let path = lab.runtime_file("sock");
    let mut socket = UnixStream::connect(&path).with_context(|| {
        format!(
            "the lab's servers do not answer on {}: take the lab down and up again",
            path.display()
        )
    })?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut text = Vec::new();
    socket.read_to_end(&mut text)?;
    serde_json::from_slice(&text).context("the lab's servers gave no readable record")
}
