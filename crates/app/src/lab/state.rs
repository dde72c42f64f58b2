//! What a lab has made, on disk, and the processes that belong to it.
//!
//! The file is a help, not the truth: `down` also finds namespaces by their names and the lab's own
//! programs by the namespace they live in, so a lost or damaged file costs nothing.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use super::layout::Lab;
use super::network::UpOptions;

/// A process, told from a later one that got the same number by its start time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub pid: i32,
    /// Field 22 of /proc/PID/stat, clock ticks after boot.
    pub start_time_ticks: u64,
    /// What it is for: `serve`, `run`.
    pub role: String,
}

/// The state file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Names of the namespaces made.
    pub namespaces: Vec<String>,
    pub options: UpOptions,
    pub processes: Vec<ProcessId>,
}

impl State {
    /// `None` when there is no file or it does not read as one of ours.
    pub(crate) fn load(lab: &Lab) -> Option<State> {
        let text = std::fs::read(lab.runtime_file("json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Replaces the file in one step, so that a crash leaves the old or the new one.
    pub(crate) fn save(&self, lab: &Lab) -> Result<()> {
        let path = lab.runtime_file("json");
        let draft = lab.runtime_file("json.new");
        let text = serde_json::to_vec_pretty(self).context("cannot encode the lab's state")?;
        let written = File::create(&draft).and_then(|mut file| file.write_all(&text));
        written
            .and_then(|()| std::fs::rename(&draft, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Held while a lab is changed; the kernel releases it with the process.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held for its lock")] File);

impl Lock {
    /// Waits for whoever else is setting up or taking down this lab.
    pub(crate) fn change(lab: &Lab) -> Result<Lock> {
        let path = lab.runtime_file(CHANGE_LOCK);
        loop {
            let file = lock_file(&path)?;
            file.lock().context("cannot lock the lab")?;
            if is_at(&file, &path) {
                return Ok(Lock(file));
            }
        }
    }

    /// One `run` at a time in a lab: they would count each other's traffic. `None`: another has it.
    pub(crate) fn run(lab: &Lab) -> Result<Option<Lock>> {
        let path = lab.runtime_file(RUN_LOCK);
        loop {
            let file = lock_file(&path)?;
            match file.try_lock() {
                Ok(()) if is_at(&file, &path) => return Ok(Some(Lock(file))),
                Ok(()) => {}
                Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
                Err(std::fs::TryLockError::Error(error)) => {
                    return Err(error).context("cannot lock the lab for a run");
                }
            }
        }
    }
}

const CHANGE_LOCK: &str = "lock";
const RUN_LOCK: &str = "run.lock";
/// Extensions of the files that a lab which is up has in the runtime directory.
pub(crate) const STATE_FILES: &[&str] = &["json", "json.new", "sock", "log"];
/// And of those it is locked by; removed last, by whoever holds the lock on changes.
pub(crate) const LOCK_FILES: &[&str] = &[RUN_LOCK, CHANGE_LOCK];

/// Whether an open lock file is still the one that others would open: `down` removes it.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

fn lock_file(path: &Path) -> Result<File> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))
}

impl ProcessId {
    /// The running process `pid`, or `None` when there is none.
    pub(crate) fn of(pid: i32, role: &str) -> Option<ProcessId> {
        Some(ProcessId {
            pid,
            start_time_ticks: start_time_ticks(pid)?,
            role: role.to_owned(),
        })
    }

    pub(crate) fn is_alive(&self) -> bool {
        start_time_ticks(self.pid) == Some(self.start_time_ticks)
    }

    /// Ends it: SIGTERM, and after a second SIGKILL. True when this process was there and is gone now.
    pub(crate) fn end(&self) -> bool {
        // The descriptor fixes which process is meant; only then is it compared and signalled.
        let Some(handle) = open_process(self.pid) else {
            return false;
        };
        if !self.is_alive() {
            return false;
        }
        signal(&handle, libc::SIGTERM);
        if !ended_within(&handle, Duration::from_secs(1)) {
            signal(&handle, libc::SIGKILL);
            return ended_within(&handle, Duration::from_secs(2));
        }
        true
    }
}

/// Start time of a process that is no zombie.
fn start_time_ticks(pid: i32) -> Option<u64> {
    parse_start_time(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 22 of /proc/PID/stat. The second field is a name in brackets that may hold anything, so
/// fields are counted from the last bracket.
fn parse_start_time(stat: &str) -> Option<u64> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

fn open_process(pid: i32) -> Option<OwnedFd> {
    // SAFETY: pidfd_open takes two integers; the descriptor it returns is owned at once.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd as i32))
    }
}

fn signal(process: &OwnedFd, number: i32) {
    // SAFETY: integers and a null pointer, which means the plain siginfo of kill().
    unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            number,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        );
    }
}

fn ended_within(process: &OwnedFd, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
}

/// Processes in a namespace: ours to end, and others (a shell, a weir that observes) to leave alone.
#[derive(Debug, Default)]
pub(crate) struct Inhabitants {
    pub ours: Vec<ProcessId>,
    pub others: Vec<i32>,
}

/// Finds who lives in the namespaces with these identities (device, inode).
pub(crate) fn inhabitants(namespaces: &[(u64, u64)]) -> Inhabitants {
    let mut found = Inhabitants::default();
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return found;
    };
    for entry in processes.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let Ok(meta) = std::fs::metadata(format!("/proc/{pid}/ns/net")) else {
            continue;
        };
        if !namespaces.contains(&(meta.dev(), meta.ino())) {
            continue;
        }
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if is_lab_program(&arguments) {
            found.ours.extend(ProcessId::of(pid, "found"));
        } else {
            found.others.push(pid);
        }
    }
    found
}

/// True for the command lines `… lab serve …` and `… lab client …` (NUL between arguments).
fn is_lab_program(arguments: &[u8]) -> bool {
    let mut words = arguments.split(|byte| *byte == 0).skip(1);
    words.next() == Some(b"lab") && matches!(words.next(), Some(b"serve" | b"client"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_is_found_behind_any_name() {
        let tail = "S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 9";
        for (stat, expected) in [
            (format!("7 (sh) {tail}"), Some(4242)),
            (format!("7 (a) S (b) {tail}"), Some(4242)),
            (format!("7 (sh) {}", tail.replace('S', "Z")), None),
            ("7 (sh) S 1".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(parse_start_time(&stat), expected, "{stat}");
        }
    }

    #[test]
    fn only_programs_of_the_lab_are_ours() {
        for (arguments, expected) in [
            (&b"/usr/bin/weir\0lab\0serve\0"[..], true),
            (b"weir\0lab\0client\0normal\0", true),
            (b"weir\0lab\0exec\0server\0", false),
            (b"weir\0run\0--iface\0lab0\0", false),
            (b"bash\0", false),
            (b"", false),
        ] {
            assert_eq!(is_lab_program(arguments), expected);
        }
    }

    #[test]
    fn a_recycled_number_is_not_ended() {
        let me = std::process::id() as i32;
        let mut process = ProcessId::of(me, "test").expect("this process runs");
        assert!(process.is_alive());
        process.start_time_ticks += 1;
        assert!(!process.is_alive());
        assert!(!process.end());
    }
}
