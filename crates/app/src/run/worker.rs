//! The process without privileges: the loop that reads the kernel's maps, and the admin API.

use std::io::Write;
use std::net::Shutdown;
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agent::broker::{Client, drop_privileges};
use agent::live::Live;
use agent::worker::{Shared, Worker, WorkerMaps};
use anyhow::{Context, bail};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::unistd::Pid;

use super::gateway::role::{self, Prepared, Role};
use super::host::RunningHost;
use super::report::Facts;
use super::sockets::Listeners;
use super::tokens::TokenFile;

pub(super) fn run(
    facts: &Arc<Facts>,
    listeners: &Listeners,
    tokens: &Arc<TokenFile>,
    maps: WorkerMaps,
    (broker, told, mut ready): (UnixStream, UnixStream, UnixStream),
    parent: Pid,
    gateway: Option<&Prepared>,
) -> anyhow::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("cannot tie this process to its parent")?;
    if nix::unistd::getppid() != parent {
        bail!("the broker ended before its worker began");
    }
    let started_by = nix::unistd::getuid();
    drop_privileges()?;
    // Setting the user resets the tie.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("cannot tie this process to its parent")?;
    ignore_terminal_signals().context("cannot set up signals")?;
    let names = facts.attached.iter().map(|one| (one.ifindex, one.name.clone()));
    let broker_ends = broker.try_clone().context("cannot duplicate a socket")?;
    let shared = Shared::new(Live::new(names), Client::new(broker), maps);
    let interfaces = facts.attached.iter().map(|one| one.ifindex).collect();
    let mut worker = Worker::new(Arc::clone(&shared), interfaces)?;
    let stop = Arc::new(AtomicBool::new(false));
    let role = gateway.and_then(start_gateway);
    let is_ready = role.is_some() || gateway.is_none();
    let _ = ready.write_all(&[u8::from(is_ready)]);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let mut signals = Signals::new(&runtime).context("cannot set up signals")?;
    let told_ends = told.try_clone().context("cannot duplicate a socket")?;
    let reloads = role.as_ref().map(|role| {
        let (admin, certificates) = (role.admin(), role.certificates());
        std::thread::spawn(move || role::listen(told, &admin, &certificates))
    });
    let outcome = std::thread::scope(|scope| {
        let admin = role.as_ref().map(Role::admin);
        // Dropped with the server, so that nothing holds the gateway's stores when they are closed.
        let host: Arc<dyn control::Host> = Arc::new(RunningHost::new(
            Arc::clone(facts),
            Arc::clone(tokens),
            shared,
            admin,
        ));
        let updates = scope.spawn({
            let stop = Arc::clone(&stop);
            move || worker.run(|| stop.load(Ordering::Relaxed))
        });
        let served = serve(
            &runtime,
            &mut signals,
            listeners,
            host,
            started_by.as_raw(),
            || updates.is_finished(),
        );
        stop.store(true, Ordering::Relaxed);
        match updates.join() {
            Ok(updated) => updated
                .context("cannot go on reading the kernel's maps")
                .and(served),
            Err(_) => bail!("the thread that reads the kernel's maps panicked"),
        }
    });
    // The broker learns that nothing of the kernel is read here any more.
    let _ = broker_ends.shutdown(Shutdown::Both);
    let _ = told_ends.shutdown(Shutdown::Both);
    if let Some(reloads) = reloads {
        let _ = reloads.join();
    }
    if let Some(role) = role {
        let follows = (signals.is_succeeded && outcome.is_ok()).then(|| {
            let follows = runtime.spawn(role.follow_keys());
            runtime.block_on(signals.terminate.recv());
            follows
        });
        role.stop();
        if let Some(follows) = follows {
            follows.abort();
        }
    }
    outcome
}

/// A gateway that cannot start says so; the other roles go on.
fn start_gateway(prepared: &Prepared) -> Option<Role> {
    Role::start(prepared)
        .map_err(|error| {
            let _ = writeln!(std::io::stderr(), "weir: the gateway is off: {error:#}");
        })
        .ok()
}

/// Ctrl-C reaches the whole process group; the broker decides and sends SIGTERM.
fn ignore_terminal_signals() -> nix::Result<()> {
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    for signal in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1] {
        // SAFETY: ignoring installs no handler.
        unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigIgn)? };
    }
    Ok(())
}

/// What the broker signals.
struct Signals {
    /// SIGTERM: end.
    terminate: tokio::signal::unix::Signal,
    /// SIGUSR1: a successor takes all but the gateway; that goes on until SIGTERM.
    succeed: tokio::signal::unix::Signal,
    is_succeeded: bool,
}

impl Signals {
    fn new(runtime: &tokio::runtime::Runtime) -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let _entered = runtime.enter();
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            succeed: signal(SignalKind::user_defined1())?,
            is_succeeded: false,
        })
    }
}

/// Serves the admin API until a signal comes or the update thread ends.
fn serve(
    runtime: &tokio::runtime::Runtime,
    signals: &mut Signals,
    listeners: &Listeners,
    host: Arc<dyn control::Host>,
    uid_trusted: u32,
    is_finished: impl Fn() -> bool,
) -> anyhow::Result<()> {
    let tcp: Vec<TcpListener> = listeners
        .tcp
        .iter()
        .map(TcpListener::try_clone)
        .collect::<Result<_, _>>()?;
    let unix: Vec<UnixListener> = listeners
        .unix
        .iter()
        .map(UnixListener::try_clone)
        .collect::<Result<_, _>>()?;
    let settings = control::Settings {
        uid_trusted: Some(uid_trusted),
        ..control::Settings::default()
    };
    runtime.block_on(async {
        let ended = async {
            loop {
                tokio::select! {
                    _ = signals.terminate.recv() => return,
                    _ = signals.succeed.recv() => {
                        signals.is_succeeded = true;
                        return;
                    }
                    () = tokio::time::sleep(std::time::Duration::from_millis(200)) => {
                        if is_finished() {
                            return;
                        }
                    }
                }
            }
        };
        control::serve(tcp, unix, host, settings, ended)
            .await
            .context("cannot serve the admin API")
    })
}
