//! What can go wrong between Weir and the kernel, each in one sentence.

use std::io;
use std::path::PathBuf;

/// Errors of loading and attaching. `Display` says only its own layer; the cause is the source.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("interface `{name}` does not exist here (there are: {known})")]
    NoInterface { name: String, known: String },
    #[error("no default route, so no interface to observe by default: name one with --iface")]
    NoDefaultRoute,
    #[error(
        "not permitted to load BPF programs: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
    )]
    NotPermitted,
    #[error("not permitted to {what}: run as root")]
    NeedsRoot { what: String },
    #[error("the BPF file system is not mounted at {0}: run `mount -t bpf bpf {0}`", path.display())]
    NoBpffs { path: PathBuf },
    #[error(
        "another weir runs as instance `{instance}` (pid {pid}): stop it, or give this one a name with --instance"
    )]
    AlreadyRunning { instance: String, pid: String },
    #[error("instance name `{name}` is not a plain word: use letters, digits, `-` and `_`, at most 32")]
    BadInstance { name: String },
    #[error("cannot {what}")]
    Io {
        what: String,
        #[source]
        source: io::Error,
    },
    #[error("the kernel programs do not load")]
    Load(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Attaches what was being done to an I/O error.
pub(crate) trait During<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, AgentError>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, AgentError> {
        self.map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => AgentError::NeedsRoot { what: what() },
            _ => AgentError::Io { what: what(), source },
        })
    }
}

/// An error and its causes, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
