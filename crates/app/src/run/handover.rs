//! Restart in place: the broker becomes a new image of itself, same process, same sockets.
//!
//! Listening sockets stay open over `execve`; which they are stands in [`VARIABLE`]. Connections that nobody has
//! taken yet wait in them. The old worker serves the gateway until the new one does, then drains.

use std::cell::Cell;
use std::ffi::OsString;
use std::io::Write;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use agent::instance;
use anyhow::{Context, bail};
use clap::Args;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Environment variable in which an image tells the next what it inherits.
const VARIABLE: &str = "WEIR_HANDOVER";

/// Listening sockets taken over at most.
const LISTENERS_MAX: usize = 1_024;

/// Time between looks at what became of a restart.
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    instance: String,
    /// What each socket is for, and its descriptor.
    listeners: Vec<(String, RawFd)>,
    /// Workers that go on serving what they have.
    workers: Vec<i32>,
}

/// What this image has from the one before it; nothing at a first start.
#[derive(Debug, Default)]
pub(super) struct Handover {
    listeners: Vec<(String, OwnedFd)>,
    pub(super) workers: Vec<Pid>,
    /// To who asked for the restart.
    pub(super) report: Report,
}

impl Handover {
    /// Takes what was handed over, so that no process started later takes it again.
    pub(super) fn take() -> Self {
        let Some(text) = std::env::var_os(VARIABLE) else {
            return Self::default();
        };
        // SAFETY: `weir run` has a single thread until it forks its worker.
        unsafe { std::env::remove_var(VARIABLE) };
        let message = text
            .to_str()
            .and_then(|text| serde_json::from_str::<Message>(text).ok());
        let Some(message) = message else {
            return Self::default();
        };
        let mut listeners: Vec<(String, OwnedFd)> = Vec::new();
        for (name, number) in message.listeners.into_iter().take(LISTENERS_MAX) {
            let is_taken = listeners.iter().any(|(_, one)| one.as_raw_fd() == number);
            // SAFETY: F_GETFD touches no memory; it fails where nothing is open.
            if number <= 2 || is_taken || unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
                continue;
            }
            // SAFETY: it is open, named once, and nothing else in this image uses it.
            let socket = unsafe { OwnedFd::from_raw_fd(number) };
            let _ = fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
            listeners.push((name, socket));
        }
        Self {
            listeners,
            workers: message.workers.into_iter().map(Pid::from_raw).collect(),
            report: Report::of(&message.instance),
        }
    }

    /// Takes back what cannot be used now.
    pub(super) fn give_back(&mut self, sockets: impl Iterator<Item = (String, TcpListener)>) {
        self.listeners
            .extend(sockets.map(|(name, socket)| (name, socket.into())));
    }

    /// Closes the sockets that nothing has taken.
    pub(super) fn close(&mut self) {
        self.listeners.clear();
    }

    /// The sockets that nothing has taken, for the next image.
    pub(super) fn named(&self) -> impl Iterator<Item = (String, BorrowedFd<'_>)> {
        let listeners = self.listeners.iter();
        listeners.map(|(name, socket)| (name.clone(), socket.as_fd()))
    }

    /// The socket that was handed over for a purpose.
    pub(super) fn listener(&mut self, name: &str) -> Option<OwnedFd> {
        let at = self.listeners.iter().position(|(one, _)| one == name)?;
        Some(self.listeners.swap_remove(at).1)
    }
}

/// The program's file, also where a new one took its place.
fn program() -> anyhow::Result<PathBuf> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let link = std::fs::read_link("/proc/self/exe").context("cannot find the program's file")?;
    let bytes = link.as_os_str().as_bytes();
    let bytes = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
    Ok(PathBuf::from(OsString::from_vec(bytes.to_vec())))
}

/// Whether the program's file can be run, and takes the configuration. Nothing is changed.
///
/// # Errors
/// What it says.
pub(super) fn check(config: Option<&Path>) -> anyhow::Result<()> {
    let program = program()?;
    let mut command = Command::new(&program);
    match config {
        Some(path) => command.args(["config", "check"]).arg(path),
        None => command.arg("--version"),
    };
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    if !output.status.success() {
        let said = [output.stderr, output.stdout].concat();
        bail!("{}", String::from_utf8_lossy(&said).trim());
    }
    Ok(())
}

/// Becomes a new image. Returns only if that fails; everything is then as before.
pub(super) fn exec(instance: &str, listeners: &[(String, BorrowedFd<'_>)], workers: &[Pid]) -> anyhow::Error {
    let message = Message {
        instance: instance.to_owned(),
        listeners: listeners
            .iter()
            .map(|(name, socket)| (name.clone(), socket.as_raw_fd()))
            .collect(),
        workers: workers.iter().map(|pid| pid.as_raw()).collect(),
    };
    let set = |flags: FdFlag| {
        for (_, socket) in listeners {
            let _ = fcntl(socket.as_fd(), FcntlArg::F_SETFD(flags));
        }
    };
    let error = match (program(), serde_json::to_string(&message)) {
        (Err(error), _) => error,
        (_, Err(error)) => error.into(),
        (Ok(program), Ok(message)) => {
            set(FdFlag::empty());
            let mut arguments = std::env::args_os();
            let mut command = Command::new(&program);
            if let Some(name) = arguments.next() {
                command.arg0(name);
            }
            let error = command.args(arguments).env(VARIABLE, message).exec();
            anyhow::Error::from(error).context(format!("cannot run {}", program.display()))
        }
    };
    set(FdFlag::FD_CLOEXEC);
    error
}

/// What became of a restart, once, for who waits for it. At a first start nobody does.
#[derive(Debug, Default)]
pub(super) struct Report {
    path: Option<PathBuf>,
    is_told: Cell<bool>,
}

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    /// The process that serves now.
    Serves {
        worker: i32,
    },
    Failed {
        why: String,
    },
}

impl Report {
    pub(super) fn of(instance: &str) -> Self {
        Self {
            path: Some(report_path(instance)),
            is_told: Cell::new(false),
        }
    }

    pub(super) fn serves(&self, worker: Pid) {
        self.tell(&Told::Serves {
            worker: worker.as_raw(),
        });
    }

    pub(super) fn failed(&self, why: &str) {
        self.tell(&Told::Failed { why: why.to_owned() });
    }

    fn tell(&self, told: &Told) {
        let (Some(path), false) = (&self.path, self.is_told.replace(true)) else {
            return;
        };
        // Whole or not at all. Who waits in vain says so; the log has the words too.
        let new = path.with_extension("restart-new");
        let text = serde_json::to_vec(told).unwrap_or_default();
        let _ = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, path));
    }
}

fn report_path(instance: &str) -> PathBuf {
    instance::socket_path(instance).with_extension("restart")
}

/// `weir restart`: a running weir takes its program and its configuration anew.
#[derive(Debug, Args)]
pub(crate) struct RestartArgs {
    /// Name of the instance
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    /// Wait so long until the new worker serves
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

/// Asks the instance's broker, and waits until its new worker serves.
pub(crate) fn restart(args: &RestartArgs) -> anyhow::Result<ExitCode> {
    let name = args.instance.clone().unwrap_or_else(instance::default_name);
    let Some(pid) = instance::running(&name)? else {
        bail!("no weir runs as instance {name}: start it with `weir run`");
    };
    let pid = Pid::from_raw(pid);
    let path = report_path(&name);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}: are you root?", path.display()));
        }
        _ => {}
    }
    kill(pid, Signal::SIGUSR2).with_context(|| format!("cannot signal instance {name} (process {pid})"))?;
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let told = loop {
        // Looked at before the file: what ends has told.
        let is_there = kill(pid, None).is_ok();
        let told = std::fs::read(&path).ok();
        if let Some(told) = told.and_then(|text| serde_json::from_slice::<Told>(&text).ok()) {
            break told;
        }
        if !is_there {
            bail!("instance {name} (process {pid}) has ended: its log says why");
        }
        if Instant::now() >= deadline {
            bail!(
                "instance {name} (process {pid}) did not say within {} s whether it serves again: its log says \
                 how far it is, and --timeout waits longer",
                args.timeout
            );
        }
        std::thread::sleep(LOOK_EVERY);
    };
    let _ = std::fs::remove_file(&path);
    match told {
        Told::Serves { worker } => {
            let _ = writeln!(
                std::io::stderr(),
                "instance {name} (process {pid}) is restarted: worker {worker} serves"
            );
            Ok(ExitCode::SUCCESS)
        }
        Told::Failed { why } => bail!("instance {name} (process {pid}): {why}"),
    }
}
