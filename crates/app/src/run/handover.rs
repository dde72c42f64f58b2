//! Restart in place: the broker becomes a new image of itself, same process, same sockets.
//!
//! Listening sockets stay open over `execve`; which they are stands in [`VARIABLE`]. Connections that nobody has
//! taken yet wait in them. The old worker serves the gateway until the new one does, then drains.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

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

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
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
}

impl Handover {
    /// Takes what was handed over, so that no process started later takes it again.
    pub(super) fn take() -> Self {
        let Some(text) = std::env::var_os(VARIABLE) else {
            return Self::default();
        };
        // SAFETY: `weir run` has a single thread until it forks its worker.
        unsafe { std::env::remove_var(VARIABLE) };
        let message: Message = text
            .to_str()
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
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
        }
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
pub(super) fn exec(listeners: &[(String, BorrowedFd<'_>)], workers: &[Pid]) -> anyhow::Error {
    let message = Message {
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

/// `weir restart`: a running weir takes its program and its configuration anew.
#[derive(Debug, Args)]
pub(crate) struct RestartArgs {
    /// Name of the instance
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
}

/// Asks the instance's broker; what becomes of it, it says where it runs.
pub(crate) fn restart(args: &RestartArgs) -> anyhow::Result<ExitCode> {
    let name = args.instance.clone().unwrap_or_else(instance::default_name);
    let Some(pid) = instance::running(&name)? else {
        bail!("no weir runs as instance {name}: start it with `weir run`");
    };
    kill(Pid::from_raw(pid), Signal::SIGUSR2)
        .with_context(|| format!("cannot signal instance {name} (process {pid})"))?;
    let _ = writeln!(
        std::io::stderr(),
        "instance {name} (process {pid}) restarts; where it cannot, its log says why"
    );
    Ok(ExitCode::SUCCESS)
}
