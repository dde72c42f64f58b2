//! Instances of Weir on this host: those that run, and what ended ones left in the kernel.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::kernel_side::{MapSize, largest_words, size_of_map, total_words};
use super::{Check, Verdict, size_words};
use crate::instance;
use crate::sys;

const GROUP: &str = "instances";

/// Most instances that are looked at.
const INSTANCES_MAX: usize = 1_000;

/// One instance.
#[derive(Clone, Debug, Serialize)]
pub struct InstanceState {
    pub name: String,
    /// The broker; `None` if nothing runs.
    pub pid: Option<u32>,
    pub worker_pid: Option<u32>,
    /// Resident memory of broker and worker; they share pages.
    pub broker_resident_bytes: Option<u64>,
    pub worker_resident_bytes: Option<u64>,
    /// Where it is asked, unless it was started with another `--socket`.
    pub socket: PathBuf,
    /// Folder of its pins, if there are any.
    pub pins: Option<PathBuf>,
    /// Its maps, largest first; empty without the privileges to open them.
    pub maps: Vec<MapSize>,
}

pub(super) fn examine(checks: &mut Vec<Check>) -> Vec<InstanceState> {
    let pin_root = Path::new(instance::BPFFS).join("weir");
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let mut names: BTreeSet<String> = file_names(&pin_root).collect();
    let locked = file_names(Path::new("/run/weir"))
        .filter_map(|name| name.strip_suffix(".lock").map(str::to_owned))
        .filter(|name| running_pid(name, &locks).is_some());
    names.extend(locked);
    let found: Vec<_> = names
        .into_iter()
        .take(INSTANCES_MAX)
        .map(|name| look(name, &pin_root, &locks))
        .collect();
    for one in &found {
        describe(one, checks);
    }
    if found.is_empty() {
        // Folders of pins cannot be read by everybody.
        let is_hidden = fs::read_dir(instance::BPFFS)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
        let (verdict, words) = if is_hidden {
            (
                Verdict::Unknown,
                "none seen; pins cannot be looked at here: run as root",
            )
        } else {
            (Verdict::Ok, "none runs, and none has left anything in the kernel")
        };
        checks.push(Check::new(GROUP, "instances", verdict, words));
    }
    found
}

fn file_names(folder: &Path) -> impl Iterator<Item = String> + use<> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
}

fn look(name: String, pin_root: &Path, locks: &str) -> InstanceState {
    let pid = running_pid(&name, locks);
    let worker_pid = pid.and_then(first_child);
    let folder = pin_root.join(&name);
    InstanceState {
        socket: instance::socket_path(&name),
        maps: pinned_maps(&folder),
        pins: folder.is_dir().then_some(folder),
        broker_resident_bytes: pid.and_then(resident_bytes),
        worker_resident_bytes: worker_pid.and_then(resident_bytes),
        name,
        pid,
        worker_pid,
    }
}

fn describe(one: &InstanceState, checks: &mut Vec<Check>) {
    let check = match one.pid {
        Some(pid) => {
            let resident: Vec<_> = [
                ("broker", one.broker_resident_bytes),
                ("worker", one.worker_resident_bytes),
            ]
            .iter()
            .filter_map(|(what, bytes)| Some(format!("{what} {}", size_words((*bytes)?))))
            .collect();
            let mut words = format!("runs, pid {pid}");
            if !resident.is_empty() {
                words.push_str(&format!("; resident {}", resident.join(", ")));
            }
            if !one.maps.is_empty() {
                words.push_str(&format!(
                    "; kernel memory of its maps {}: {}",
                    total_words(&one.maps),
                    largest_words(&one.maps)
                ));
            }
            Check::new(GROUP, &one.name, Verdict::Ok, words)
        }
        None => {
            let words = format!(
                "does not run, but its programs and rows are still in the kernel{}: `weir detach --instance {}` \
                 removes them, `weir run` goes on with them",
                if one.maps.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", total_words(&one.maps))
                },
                one.name
            );
            Check::new(GROUP, &one.name, Verdict::Limited, words)
        }
    };
    checks.push(check);
}

/// The process that holds an instance's lock.
///
/// Asked of /proc/locks: taking the lock for a look could get in the way of a start.
fn running_pid(name: &str, locks: &str) -> Option<u32> {
    let path = format!("/run/weir/{name}.lock");
    let pid = fs::read_to_string(&path).ok()?.trim().parse().ok()?;
    let inode = fs::metadata(&path).ok()?.ino();
    holds_lock(locks, pid, inode).then_some(pid)
}

/// Whether process `pid` has a file lock on `inode`, by lines as
/// `1: FLOCK  ADVISORY  WRITE 28748 fe:00:10207326 0 EOF`.
fn holds_lock(locks: &str, pid: u32, inode: u64) -> bool {
    locks.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        // A waiting process has an arrow before the kind.
        words.next() == Some("FLOCK")
            && words.nth(2).and_then(|word| word.parse().ok()) == Some(pid)
            && words
                .next()
                .and_then(|word| word.rsplit(':').next()?.parse().ok())
                == Some(inode)
    })
}

fn first_child(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

fn resident_bytes(pid: u32) -> Option<u64> {
    resident_in(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

/// Bytes of the line `VmRSS: 12345 kB`.
fn resident_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// The maps below `folder/v*/maps`, largest first.
fn pinned_maps(folder: &Path) -> Vec<MapSize> {
    let mut sizes = Vec::new();
    for version in file_names(folder) {
        let maps = folder.join(version).join("maps");
        for name in file_names(&maps) {
            let size = sys::open_pinned(&maps.join(&name))
                .ok()
                .and_then(|map| size_of_map(&name, map.as_fd()));
            sizes.extend(size);
        }
    }
    sizes.sort_by_key(|map| std::cmp::Reverse(map.bytes));
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_of_processes() {
        let locks = "1: POSIX  ADVISORY  WRITE 10 fe:00:5 0 EOF\n2: FLOCK  ADVISORY  WRITE 28748 fe:00:10207326 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 11 fe:00:10207326 0 EOF\nnonsense\n";
        let check = |pid, inode, expected| assert_eq!(holds_lock(locks, pid, inode), expected);
        check(28748, 10_207_326, true);
        check(28748, 5, false);
        check(10, 5, false);
        check(11, 10_207_326, false);
        assert!(!holds_lock("", 1, 1));
    }

    #[test]
    fn resident_memory_of_a_status() {
        let check = |status: &str, expected| assert_eq!(resident_in(status), expected, "{status}");
        check("Name:\tweir\nVmRSS:\t   12 kB\n", Some(12 * 1024));
        check("VmRSS:\t12\n", None);
        check("VmRSS:\t99999999999999999999 kB\n", None);
        check("Name:\tkthreadd\n", None);
    }
}
