//! Who holds programs: processes with a descriptor of a program, link or perf event; pins in bpffs.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use super::{Attachment, Owner, mounts, sys};

/// Most descriptors that are looked at on the whole host.
const DESCRIPTORS_MAX: usize = 2_000_000;
/// Most files of all bpffs mounts that are opened, and how deep folders are followed.
const PINS_MAX: usize = 65_536;
const PIN_DEPTH_MAX: usize = 16;

/// Processes by what they hold.
#[derive(Debug, Default)]
pub(super) struct Holders {
    pub(super) by_program: HashMap<u32, Vec<Owner>>,
    pub(super) by_link: HashMap<u32, Vec<Owner>>,
    /// Programs on perf events, with or without a link.
    pub(super) perf_events: Vec<(u32, Attachment, Owner)>,
    /// There were more than [`DESCRIPTORS_MAX`] descriptors.
    pub(super) is_cut: bool,
}

/// Looks through the descriptors of every process. Those that end meanwhile are left out.
pub(super) fn holders() -> Holders {
    let mut found = Holders::default();
    let mut n_descriptors = 0;
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return found;
    };
    for process in processes.flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let path = process.path();
        let Ok(descriptors) = std::fs::read_dir(path.join("fd")) else {
            continue;
        };
        let mut owner = None;
        for descriptor in descriptors.flatten() {
            n_descriptors += 1;
            if n_descriptors > DESCRIPTORS_MAX {
                found.is_cut = true;
                return found;
            }
            let Ok(link) = std::fs::read_link(descriptor.path()) else {
                continue;
            };
            let Some(kind) = link.to_str().and_then(|link| link.strip_prefix("anon_inode:")) else {
                continue;
            };
            let owner = || owner.get_or_insert_with(|| Owner::of(pid, &path)).clone();
            let number = descriptor.file_name();
            note(&mut found, kind, &path, &number.to_string_lossy(), owner);
        }
    }
    found
}

fn note(found: &mut Holders, kind: &str, process: &Path, number: &str, mut owner: impl FnMut() -> Owner) {
    let fdinfo = || std::fs::read_to_string(process.join("fdinfo").join(number)).unwrap_or_default();
    match kind.trim_matches(['[', ']']) {
        "bpf-prog" => {
            if let Some(program_id) = field(&fdinfo(), "prog_id") {
                add(found.by_program.entry(program_id as u32).or_default(), owner());
            }
        }
        // Kernels call it bpf-link or bpf_link.
        "bpf-link" | "bpf_link" => {
            if let Some(link_id) = field(&fdinfo(), "link_id") {
                add(found.by_link.entry(link_id as u32).or_default(), owner());
            }
        }
        "perf_event" => {
            let owner = owner();
            let number = number.parse().unwrap_or(u32::MAX);
            if let Ok(event) = sys::task_fd(owner.pid, number)
                && event.program_id != 0
            {
                let attachment = perf_attachment(&event);
                found.perf_events.push((event.program_id, attachment, owner));
            }
        }
        _ => {}
    }
}

/// Adds an owner once.
pub(super) fn add(owners: &mut Vec<Owner>, owner: Owner) {
    if owners.iter().all(|known| known.pid != owner.pid) {
        owners.push(owner);
    }
}

impl Owner {
    fn of(pid: u32, process: &Path) -> Self {
        let command = std::fs::read(process.join("comm")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).trim_end().to_owned();
        Self { pid, command }
    }
}

fn perf_attachment(event: &sys::PerfProgram) -> Attachment {
    // By `enum bpf_task_fd_type`.
    let hook = match event.kind {
        0 => "raw_tracepoint",
        1 => "tracepoint",
        2 => "kprobe",
        3 => "kretprobe",
        4 => "uprobe",
        5 => "uretprobe",
        _ => "perf_event",
    };
    let target = if event.kind >= 2 && event.offset != 0 {
        format!("{}+{:#x}", event.name, event.offset)
    } else {
        event.name.clone()
    };
    Attachment::new(hook, target)
}

/// A number out of fdinfo's `name:\tnumber` lines.
fn field(fdinfo: &str, name: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found == name).then(|| value.trim().parse().ok())?
    })
}

fn own_fdinfo(fd: BorrowedFd<'_>) -> String {
    std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap_or_default()
}

/// Kernel memory of a program or map in bytes, as its fdinfo states it.
pub(super) fn memory_bytes(fd: BorrowedFd<'_>) -> Option<u64> {
    field(&own_fdinfo(fd), "memlock")
}

/// Paths by the id of what is pinned there.
#[derive(Debug, Default)]
pub(super) struct Pins {
    pub(super) programs: HashMap<u32, Vec<PathBuf>>,
    pub(super) maps: HashMap<u32, Vec<PathBuf>>,
    pub(super) links: HashMap<u32, Vec<PathBuf>>,
    /// There were more than [`PINS_MAX`] files, or folders below [`PIN_DEPTH_MAX`].
    pub(super) is_cut: bool,
}

/// Opens everything pinned in the bpffs mounts that this process sees.
pub(super) fn pins() -> Pins {
    let mut found = Pins::default();
    let mut n_files = 0;
    let mut folders: Vec<_> = mounts::of_type("bpf").into_iter().map(|path| (path, 0)).collect();
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else { continue };
            n_files += 1;
            if n_files > PINS_MAX || depth > PIN_DEPTH_MAX {
                found.is_cut = true;
                return found;
            }
            if kind.is_dir() {
                folders.push((path, depth + 1));
            } else if kind.is_file()
                && let Ok(fd) = sys::open_pinned(&path)
            {
                found.add(&fdinfo_of(&fd), path);
            }
        }
    }
    for paths in [&mut found.programs, &mut found.maps, &mut found.links] {
        paths.values_mut().for_each(|paths| paths.sort());
    }
    found
}

fn fdinfo_of(fd: &impl std::os::fd::AsFd) -> String {
    own_fdinfo(fd.as_fd())
}

impl Pins {
    fn add(&mut self, fdinfo: &str, path: PathBuf) {
        // A link states its program too, so it is asked for first.
        let kinds = [
            ("link_id", &mut self.links),
            ("map_id", &mut self.maps),
            ("prog_id", &mut self.programs),
        ];
        for (name, paths) in kinds {
            if let Some(id) = field(fdinfo, name) {
                paths.entry(id as u32).or_default().push(path);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_fdinfo() {
        let fdinfo = "pos:\t0\nlink_type:\ttcx\nlink_id:\t7\nprog_tag:\t3b185187f1855c4c\nprog_id:\t12\n";
        assert_eq!(field(fdinfo, "link_id"), Some(7));
        assert_eq!(field(fdinfo, "prog_id"), Some(12));
        assert_eq!(field(fdinfo, "prog_tag"), None, "not a number");
        assert_eq!(field(fdinfo, "memlock"), None);

        let mut pins = Pins::default();
        pins.add(fdinfo, PathBuf::from("/sys/fs/bpf/link"));
        assert_eq!(
            (pins.links.len(), pins.programs.len()),
            (1, 0),
            "a link, not its program"
        );
    }
}
