//! What is known at the start and does not change: for the words on stderr and for the status.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Instant, SystemTime};

use agent::instance::Instance;
use agent::interface::Interface;
use agent::load::{Attached, Hook, LoadOptions, Loaded};

/// Facts of one run.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) instance: String,
    pub(super) started: SystemTime,
    pub(super) begin: Instant,
    pub(super) attached: Vec<Attached>,
    pub(super) interfaces: Vec<Interface>,
    pub(super) notes: Vec<String>,
    pub(super) kernel_memory_bytes: u64,
    pub(super) flow_capacity: u64,
    /// Names of the kernel's drop reasons.
    pub(super) drop_reasons: BTreeMap<u32, String>,
}

impl Facts {
    pub(super) fn of(
        instance: &Instance,
        options: &LoadOptions,
        loaded: &Loaded,
        notes: Vec<String>,
    ) -> Self {
        let memory = loaded.maps.memory();
        Self {
            instance: instance.name().to_owned(),
            started: SystemTime::now(),
            begin: Instant::now(),
            attached: loaded.attached.clone(),
            interfaces: options.interfaces.clone(),
            notes,
            kernel_memory_bytes: memory.iter().map(|map| map.bytes).sum(),
            flow_capacity: memory
                .iter()
                .find(|map| map.name == "FLOWS")
                .map_or(0, |map| u64::from(map.max_entries)),
            drop_reasons: agent::kernel::tracefs()
                .map(|path| agent::kernel::drop_reasons(&path))
                .unwrap_or_default(),
        }
    }
}

/// Name of a hook for people.
pub(super) fn hook_name(hook: Hook) -> &'static str {
    match hook {
        Hook::Xdp => "xdp",
        Hook::Tcx => "tcx",
        Hook::Tc => "tc",
        Hook::None => "none",
    }
}

/// Says what is observed and how to look at it.
pub(super) fn print_start(facts: &Facts, listen: SocketAddr, socket: &Path, started: Instant) {
    let mut err = std::io::stderr().lock();
    for attached in &facts.attached {
        let _ = writeln!(
            err,
            "observing {} (in: {}, out: {})",
            attached.name,
            hook_name(attached.ingress),
            hook_name(attached.egress)
        );
    }
    for note in &facts.notes {
        let _ = writeln!(err, "note: {note}");
    }
    let _ = writeln!(
        err,
        "instance {}, {:.1} MiB of kernel memory, ready after {} ms; admin API at {} and http://{listen}\n\
         look at it with `weir watch` or `weir flows` in another terminal; end with Ctrl-C",
        facts.instance,
        facts.kernel_memory_bytes as f64 / f64::from(1 << 20),
        started.elapsed().as_millis(),
        socket.display(),
    );
}
