//! What this kernel and host allow, and why not: `weir doctor`.
//!
//! Every answer is a try, not a guess from a version: programs are loaded without being attached, hooks
//! are tried in a network namespace and a control group made for that, which end with the probe. Nothing
//! of the host's own interfaces is touched.

mod host;
mod instances;
mod interfaces;
mod kernel_side;
mod sandbox;

use serde::Serialize;

pub use instances::InstanceState;
pub use interfaces::{AttachedProgram, InterfaceState};
pub use kernel_side::{MapSize, ProgramLoad};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    /// Works less well than it could.
    Limited,
    Missing,
    /// Could not be checked from here.
    Unknown,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// `host`, `kernel`, `programs`, `interfaces`, `memory`, `instances`, `tools`.
    pub group: &'static str,
    pub name: String,
    pub verdict: Verdict,
    /// One sentence: what it means, and what to do if something is to be done.
    pub words: String,
    /// Whether observing needs it.
    pub needed: bool,
}

impl Check {
    /// A check that observing does not depend on.
    #[must_use]
    pub fn new(
        group: &'static str,
        name: impl Into<String>,
        verdict: Verdict,
        words: impl Into<String>,
    ) -> Self {
        Self {
            group,
            name: name.into(),
            verdict,
            words: words.into(),
            needed: false,
        }
    }

    fn needed(mut self) -> Self {
        self.needed = true;
        self
    }

    /// `Ok` with `good`, or `bad` with the reason.
    fn of<E: std::fmt::Display>(
        group: &'static str,
        name: &str,
        result: &Result<(), E>,
        good: &str,
        bad: (Verdict, &str),
    ) -> Self {
        match result {
            Ok(()) => Self::new(group, name, Verdict::Ok, good),
            Err(error) => Self::new(group, name, bad.0, format!("{}: {error}", bad.1)),
        }
    }
}

/// What was found out.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// In the order in which they are read.
    pub checks: Vec<Check>,
    /// Weir's programs as this kernel took them; empty if none could be loaded.
    pub programs: Vec<ProgramLoad>,
    /// Kernel memory of the maps with their default sizes, largest first.
    pub maps: Vec<MapSize>,
    pub interfaces: Vec<InterfaceState>,
    /// Instances that run, or left something.
    pub instances: Vec<InstanceState>,
}

/// The kernel's answers to everything.
#[must_use]
pub fn examine() -> Report {
    let mut checks = Vec::new();
    let capabilities = host::own_capabilities();
    host::examine(capabilities, &mut checks);
    let (programs, maps, hooks) = kernel_side::examine(capabilities, &mut checks);
    let interfaces = interfaces::examine(hooks, &mut checks);
    kernel_side::examine_memory(&maps, &mut checks);
    let instances = instances::examine(&mut checks);
    Report {
        checks,
        programs,
        maps,
        interfaces,
        instances,
    }
}

impl Report {
    /// Whether observing works here.
    #[must_use]
    pub fn can_observe(&self) -> bool {
        !self
            .checks
            .iter()
            .any(|check| check.needed && check.verdict == Verdict::Missing)
    }
}

/// `1.5 MB`, `63 kB`: decimal units, as the command prints sizes elsewhere.
fn size_words(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
