//! The process that keeps its privileges: loads, attaches, forks the worker, answers its requests,
//! starts it again if it dies, cleans up at the end.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::broker::{Broker, Databases, ServeEnd};
use agent::instance::Instance;
use agent::load::{self, LoadOptions, Loaded};
use agent::worker::WorkerMaps;
use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use super::draining::Draining;
use super::gateway::role::{self, Prepared};
use super::handover::{self, Handover, Report};
use super::sockets::{self, Listeners};
use super::{report, tokens, worker};
use crate::config;

/// Starts of the worker within [`RESTART_WINDOW`] before the broker gives up.
const RESTARTS_MAX: usize = 5;
const RESTART_WINDOW: Duration = Duration::from_secs(60);

/// Time a worker has to take a changed configuration.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Time a worker has to send the rest of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Time between looks at a worker that is to end.
pub(super) const POLL_MS: u16 = 20;

/// Time a worker has to leave the kernel's maps and the admin API to its successor.
const SUCCESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between looks at workers that drain.
const DRAIN_LOOK_MS: u16 = 1_000;

/// Time the worker has to end by itself, besides what the gateway's open requests have.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The gateway as it comes from the time before the fork.
#[derive(Debug)]
pub(super) enum PreparedGateway {
    /// Not configured.
    None,
    /// Configured, and cannot be prepared. An old worker that serves it goes on.
    Failed(String),
    Ready(Box<Prepared>),
}

#[expect(
    clippy::too_many_arguments,
    reason = "what a run is made of, each from another place"
)]
pub(super) fn run(
    instance: &Instance,
    options: &LoadOptions,
    databases: Databases,
    listen: SocketAddr,
    socket: &Path,
    persist: bool,
    gateway: PreparedGateway,
    mut handover: Handover,
    old: &mut Draining,
    report: &Report,
    check: &dyn Fn() -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let signals = block_signals().context("cannot set up signals")?;
    let mut loaded = load::load(instance, options)?;
    let outcome = supervise(
        instance,
        options,
        databases,
        &mut loaded,
        listen,
        socket,
        &signals,
        started,
        gateway,
        old,
        &mut handover,
        report,
        check,
    );
    old.end();
    loaded.remove_tc_filters();
    if !persist {
        instance.remove_pins()?;
    }
    let _ = std::fs::remove_file(socket);
    outcome
}

/// Signals are read from a descriptor, beside the worker's requests.
fn block_signals() -> nix::Result<SignalFd> {
    let mut mask = SigSet::empty();
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGCHLD,
        Signal::SIGUSR2,
    ] {
        mask.add(signal);
    }
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&mask), None)?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

#[expect(
    clippy::too_many_arguments,
    reason = "what a run is made of, each from another place"
)]
fn supervise(
    instance: &Instance,
    options: &LoadOptions,
    databases: Databases,
    loaded: &mut Loaded,
    listen: SocketAddr,
    socket: &Path,
    signals: &SignalFd,
    started: Instant,
    gateway: PreparedGateway,
    old: &mut Draining,
    handover: &mut Handover,
    report: &Report,
    check: &dyn Fn() -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let mut notes = loaded.notes.clone();
    let listeners = sockets::bind(listen, socket, handover, &mut notes)?;
    let (mut gateway, fault) = match gateway {
        PreparedGateway::None => (None, None),
        PreparedGateway::Failed(words) => (None, Some(words)),
        PreparedGateway::Ready(prepared) => (Some(*prepared), None),
    };
    if fault.is_none() || old.is_empty() {
        // What the configuration names no more is closed; an old worker that goes on needs its sockets.
        handover.close();
    }
    let tokens = Arc::new(tokens::TokenFile::open(instance.name())?);
    let facts = Arc::new(report::Facts::of(instance, options, loaded, notes));
    report::print_start(&facts, listen, socket, started);
    for address in gateway.iter().flat_map(Prepared::addresses) {
        say(&format!("gateway: {address}"));
    }
    let broker = Broker {
        flows: loaded.maps.flows.try_clone()?,
        sockets: loaded.maps.sockets.try_clone()?,
        sampling: loaded.sampling.try_clone()?,
        databases,
    };
    let mut starts: Vec<Instant> = Vec::new();
    loop {
        starts.retain(|start| start.elapsed() < RESTART_WINDOW);
        starts.push(Instant::now());
        let (mut ours, theirs) = UnixStream::pair().context("cannot make a socket pair")?;
        ours.set_read_timeout(Some(REQUEST_TIMEOUT))
            .context("cannot limit the worker's time")?;
        let (mut tell, told) = UnixStream::pair().context("cannot make a socket pair")?;
        tell.set_read_timeout(Some(RELOAD_TIMEOUT))
            .context("cannot limit the worker's time")?;
        let (mut ready, worker_ready) = UnixStream::pair().context("cannot make a socket pair")?;
        let pid = start_worker(
            &facts,
            &listeners,
            &tokens,
            loaded,
            (theirs, told, worker_ready),
            gateway.as_ref(),
        )?;
        let reload = || reload(&mut tell, gateway.as_mut());
        let mut beside = Beside {
            ready: &mut ready,
            old,
            fault: fault.as_deref(),
            pid,
            instance: instance.name(),
            report,
        };
        match serve_until(&broker, &mut ours, signals, reload, &mut beside, check)? {
            Stop::Signal => {
                let drain = gateway.as_ref().map_or(Duration::ZERO, Prepared::drain);
                old.begin();
                if let Some(gateway) = &gateway {
                    gateway.refuse();
                }
                stop_worker(&broker, pid, &mut ours, STOP_TIMEOUT + drain);
                return Ok(ExitCode::SUCCESS);
            }
            Stop::Restart => {
                if !set_aside(&broker, pid, &mut ours) {
                    say("the worker does not make room: it is replaced");
                }
                old.add(pid);
                let mut named = listeners.named(listen, socket);
                named.extend(gateway.iter().flat_map(Prepared::named));
                named.extend(handover.named());
                let error = handover::exec(instance.name(), &named, &old.pids());
                let words = format!("no restart, this program goes on: {error:#}");
                say(&words);
                Report::of(instance.name()).failed(&words);
            }
            Stop::WorkerGone => {
                let status = waitpid(pid, None);
                say(&format!(
                    "the worker ended ({}): it is started again",
                    describe(status)
                ));
            }
        }
        if starts.len() > RESTARTS_MAX {
            anyhow::bail!(
                "the worker ended {RESTARTS_MAX} times within a minute: giving up, programs are detached"
            );
        }
    }
}

enum Stop {
    Signal,
    Restart,
    WorkerGone,
}

/// Reads the configuration file again and tells the worker what it says of the gateway.
fn reload(tell: &mut UnixStream, gateway: Option<&mut Prepared>) {
    let Some(gateway) = gateway else {
        say("SIGHUP: nothing to read again, the gateway is off");
        return;
    };
    let file = gateway.file().to_owned();
    let told = config::read_and_compile(Path::new(&file))
        .map_err(anyhow::Error::from)
        .and_then(|config| role::Told::new(config.gateway.unwrap_or_default()));
    let told = match told {
        Ok(told) => told,
        Err(error) => {
            say(&format!(
                "{file} is not taken, what was in force stays: {error:#}"
            ));
            return;
        }
    };
    match role::tell(tell, &told) {
        Ok(faults) if faults.is_empty() => {
            say(&format!("{file} is in force"));
            gateway.replace(told);
        }
        Ok(faults) => say(&format!("{file} is not taken whole: {}", faults.join("; "))),
        Err(error) => say(&format!("{file} is not taken: {error:#}")),
    }
}

/// What concerns a worker at its start: those before it, and who waits for it.
struct Beside<'a> {
    ready: &'a mut UnixStream,
    old: &'a mut Draining,
    /// What keeps the gateway off already.
    fault: Option<&'a str>,
    pid: Pid,
    instance: &'a str,
    /// To who asked for the restart that made this image.
    report: &'a Report,
}

impl Beside<'_> {
    /// It has said whether its gateway serves.
    fn worker_told(&mut self) {
        let mut told = [0];
        if !matches!(self.ready.read(&mut told), Ok(1)) {
            return;
        }
        if told[0] == 1 && self.fault.is_none() {
            self.old.begin();
            self.report.serves(self.pid);
            return;
        }
        let words = match self.fault {
            Some(fault) => format!("the new gateway does not start: {fault}"),
            None => "the new gateway does not start: the log says why".to_owned(),
        };
        if self.old.is_empty() {
            self.report.failed(&words);
        } else {
            say("the new gateway does not start: the worker before it goes on");
            self.report
                .failed(&format!("{words}; the worker before it goes on"));
        }
    }
}

/// Answers the worker until it is gone or a signal asks to stop.
fn serve_until(
    broker: &Broker,
    stream: &mut UnixStream,
    signals: &SignalFd,
    mut reload: impl FnMut(),
    beside: &mut Beside<'_>,
    check: &dyn Fn() -> anyhow::Result<()>,
) -> anyhow::Result<Stop> {
    let mut is_ready_known = false;
    loop {
        // The end of a worker that drains is a SIGCHLD; the time is for its deadline.
        let timeout = if beside.old.reap() {
            PollTimeout::NONE
        } else {
            DRAIN_LOOK_MS.into()
        };
        let ready_events = if is_ready_known {
            PollFlags::empty()
        } else {
            PollFlags::POLLIN
        };
        let mut waiting = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(stream.as_fd(), PollFlags::POLLIN),
            PollFd::new(beside.ready.as_fd(), ready_events),
        ];
        // Its end is the worker's, which the other socket tells: a socket that is known is not waited for.
        let n_waiting = if is_ready_known { 2 } else { 3 };
        match poll(&mut waiting[..n_waiting], timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait for requests"),
        }
        let [signal_ready, request_ready, ready_told] = waiting.map(|one| one.any().unwrap_or(false));
        if ready_told && !is_ready_known {
            is_ready_known = true;
            beside.worker_told();
        }
        if signal_ready {
            while let Ok(Some(signal)) = signals.read_signal() {
                if signal.ssi_signo == Signal::SIGHUP as u32 {
                    reload();
                } else if signal.ssi_signo == Signal::SIGUSR2 as u32 {
                    match check() {
                        Ok(()) => return Ok(Stop::Restart),
                        Err(error) => {
                            let words = format!("no restart, nothing is changed: {error:#}");
                            say(&words);
                            Report::of(beside.instance).failed(&words);
                        }
                    }
                } else if signal.ssi_signo != Signal::SIGCHLD as u32 {
                    return Ok(Stop::Signal);
                }
            }
        }
        if request_ready {
            match broker.serve_one(stream) {
                None => {}
                Some(ServeEnd::WorkerGone) => return Ok(Stop::WorkerGone),
                Some(ServeEnd::Failed(error)) => {
                    say(&format!("lost the worker: {error}"));
                    return Ok(Stop::WorkerGone);
                }
            }
        }
    }
}

/// Forks the worker. The broker has one thread, so the child may go on like any process.
fn start_worker(
    facts: &Arc<report::Facts>,
    listeners: &Listeners,
    tokens: &Arc<tokens::TokenFile>,
    loaded: &Loaded,
    (theirs, told, ready): (UnixStream, UnixStream, UnixStream),
    gateway: Option<&Prepared>,
) -> anyhow::Result<Pid> {
    let maps = WorkerMaps::of(&loaded.maps).context("cannot open the maps for reading")?;
    let parent = nix::unistd::getpid();
    // SAFETY: this process has a single thread.
    match unsafe { fork() }.context("cannot fork")? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let mut kept: Vec<RawFd> = vec![
                theirs.as_raw_fd(),
                told.as_raw_fd(),
                ready.as_raw_fd(),
                tokens.as_raw_fd(),
            ];
            kept.extend(gateway.iter().flat_map(|gateway| gateway.descriptors()));
            kept.extend(maps.descriptors().iter().map(AsRawFd::as_raw_fd));
            kept.extend(listeners.tcp.iter().map(AsRawFd::as_raw_fd));
            kept.extend(listeners.unix.iter().map(AsRawFd::as_raw_fd));
            close_all_but(&kept);
            let code = match worker::run(
                facts,
                listeners,
                tokens,
                maps,
                (theirs, told, ready),
                parent,
                gateway,
            ) {
                Ok(()) => 0,
                Err(error) => {
                    say(&format!("worker: {error:#}"));
                    1
                }
            };
            // SAFETY: ends the forked child without running what the broker's exit would clean up.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Closes every descriptor above stderr that is not kept: the worker must hold nothing of the
/// broker's.
fn close_all_but(kept: &[RawFd]) {
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in open {
        if descriptor > 2 && !kept.contains(&descriptor) {
            // SAFETY: nothing in this process uses the descriptor from here on.
            unsafe { libc::close(descriptor) };
        }
    }
}

fn stop_worker(broker: &Broker, pid: Pid, stream: &mut UnixStream, timeout: Duration) {
    let _ = kill(pid, Signal::SIGTERM);
    let deadline = Instant::now() + timeout;
    let mut is_talking = true;
    while Instant::now() < deadline {
        if !matches!(
            waitpid(pid, Some(WaitPidFlag::WNOHANG)),
            Ok(WaitStatus::StillAlive)
        ) {
            return;
        }
        // Its last requests are still answered.
        let mut waiting = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
        let is_ready = poll(&mut waiting, POLL_MS).is_ok_and(|n_ready| n_ready > 0);
        if !is_talking {
            std::thread::sleep(Duration::from_millis(POLL_MS.into()));
        } else if is_ready {
            is_talking = broker.serve_one(stream).is_none();
        }
    }
    say("the worker does not end by itself: it is killed");
    let _ = kill(pid, Signal::SIGKILL);
    let _ = waitpid(pid, None);
}

/// Lets a worker leave all but the gateway to its successor. Whether it has.
fn set_aside(broker: &Broker, pid: Pid, stream: &mut UnixStream) -> bool {
    let _ = kill(pid, Signal::SIGUSR1);
    let deadline = Instant::now() + SUCCESSION_TIMEOUT;
    while Instant::now() < deadline {
        let mut waiting = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
        let is_ready = poll(&mut waiting, POLL_MS).is_ok_and(|n_ready| n_ready > 0);
        if is_ready && broker.serve_one(stream).is_some() {
            return true;
        }
    }
    let _ = kill(pid, Signal::SIGTERM);
    false
}

fn describe(status: nix::Result<WaitStatus>) -> String {
    match status {
        Ok(WaitStatus::Exited(_, code)) => format!("exit code {code}"),
        Ok(WaitStatus::Signaled(_, signal, _)) => format!("signal {signal}"),
        other => format!("{other:?}"),
    }
}

pub(super) fn say(words: &str) {
    let _ = writeln!(std::io::stderr(), "weir: {words}");
}
