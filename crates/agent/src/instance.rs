//! An instance of Weir on a host: its name, its lock, its pins.
//!
//! Pins live in `/sys/fs/bpf/weir/<instance>/v<ABI>/{maps,links}`: a restart finds rows and links
//! there and goes on; another ABI's are removed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use wire::ABI_VERSION;

use crate::error::{AgentError, During};

pub(crate) const BPFFS: &str = "/sys/fs/bpf";
/// bpffs' magic number (include/uapi/linux/magic.h).
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// Name of the instance where none is given: `default` in the host's own network namespace,
/// elsewhere one that names the namespace.
#[must_use]
pub fn default_name() -> String {
    let inode = |path: &str| {
        let link = fs::read_link(path).ok()?;
        Some(
            link.to_str()?
                .trim_start_matches("net:[")
                .trim_end_matches(']')
                .to_owned(),
        )
    };
    match (inode("/proc/self/ns/net"), inode("/proc/1/ns/net")) {
        (Some(own), Some(init)) if own != init => format!("net-{own}"),
        _ => "default".to_owned(),
    }
}

/// Whether a name can be that of an instance: it becomes part of paths.
pub fn check_name(name: &str) -> Result<(), AgentError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 32 || !name.chars().all(is_plain) {
        return Err(AgentError::BadInstance {
            name: name.to_owned(),
        });
    }
    Ok(())
}

/// Whether the BPF file system is mounted where pins go.
#[must_use]
pub fn has_bpffs() -> bool {
    nix::sys::statfs::statfs(BPFFS).is_ok_and(|found| found.filesystem_type().0 == BPF_FS_MAGIC)
}

/// Where an instance's admin socket is.
#[must_use]
pub fn socket_path(instance: &str) -> PathBuf {
    let name = if instance == "default" { "weir" } else { instance };
    PathBuf::from(format!("/run/weir/{name}.sock"))
}

/// A locked instance. The lock goes with the process.
#[derive(Debug)]
pub struct Instance {
    name: String,
    root: PathBuf,
    _lock: Flock<File>,
}

impl Instance {
    /// Takes the instance, makes its folders and removes what an older ABI left.
    pub fn open(name: &str) -> Result<Self, AgentError> {
        check_name(name)?;
        let lock = lock(name)?;
        let is_bpffs =
            nix::sys::statfs::statfs(BPFFS).is_ok_and(|found| found.filesystem_type().0 == BPF_FS_MAGIC);
        if !is_bpffs {
            return Err(AgentError::NoBpffs { path: BPFFS.into() });
        }
        let root = Path::new(BPFFS).join("weir").join(name);
        let instance = Self {
            name: name.to_owned(),
            root,
            _lock: lock,
        };
        instance.sweep_other_abis()?;
        for folder in [instance.maps(), instance.links()] {
            fs::create_dir_all(&folder).during(|| format!("make {}", folder.display()))?;
        }
        Ok(instance)
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn version_folder(&self) -> PathBuf {
        self.root.join(format!("v{ABI_VERSION}"))
    }

    /// Folder of pinned maps.
    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.version_folder().join("maps")
    }

    /// Folder of pinned links.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.version_folder().join("links")
    }

    fn sweep_other_abis(&self) -> Result<(), AgentError> {
        let own = self.version_folder();
        for entry in entries(&self.root) {
            if entry != own {
                remove_tree(&entry).during(|| format!("remove {}", entry.display()))?;
            }
        }
        Ok(())
    }

    /// Removes every pin of the instance. Links that nobody holds any more detach.
    pub fn remove_pins(&self) -> Result<(), AgentError> {
        remove_tree(&self.root).during(|| format!("remove {}", self.root.display()))
    }
}

fn lock(name: &str) -> Result<Flock<File>, AgentError> {
    let path = PathBuf::from(format!("/run/weir/{name}.lock"));
    fs::create_dir_all("/run/weir").during(|| "make /run/weir".to_owned())?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .during(|| format!("open {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            let written = lock
                .set_len(0)
                .and_then(|()| lock.rewind())
                .and_then(|()| write!(lock, "{}", std::process::id()));
            written.during(|| format!("write {}", path.display()))?;
            Ok(lock)
        }
        Err((mut file, _)) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            Err(AgentError::AlreadyRunning {
                instance: name.to_owned(),
                pid,
            })
        }
    }
}

/// The process that runs an instance; `None` if none does.
pub fn running(name: &str) -> Result<Option<i32>, AgentError> {
    check_name(name)?;
    let path = PathBuf::from(format!("/run/weir/{name}.lock"));
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.during(|| format!("open {}", path.display()))?,
    };
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_) => Ok(None),
        Err((mut file, _)) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid)
                .during(|| format!("read {}", path.display()))?;
            Ok(pid.trim().parse().ok())
        }
    }
}

/// Removes the pins of instances that no process holds. Returns their names.
pub fn sweep_dead(except: &str) -> Vec<String> {
    let mut swept = Vec::new();
    for folder in entries(&Path::new(BPFFS).join("weir")) {
        let Some(name) = folder.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        // A network namespace that is gone cannot come back under its number; other instances may
        // have asked to persist.
        let may_sweep = name != except && name.starts_with("net-");
        if may_sweep && lock(name).is_ok() && remove_tree(&folder).is_ok() {
            let _ = fs::remove_file(format!("/run/weir/{name}.lock"));
            swept.push(name.to_owned());
        }
    }
    swept
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .map(|found| found.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default()
}

/// bpffs has only folders and pins, and no `remove_dir_all`-friendly open flags.
fn remove_tree(path: &Path) -> io::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    if path.is_dir() {
        for entry in entries(path) {
            remove_tree(&entry)?;
        }
        return fs::remove_dir(path);
    }
    detach_link(path);
    fs::remove_file(path)
}

/// Detaches a pinned link at once, so that "removed" is true when it is said.
fn detach_link(path: &Path) {
    if let Ok(object) = crate::sys::open_pinned(path) {
        let _ = crate::sys::link_detach(object.as_fd());
    }
}
