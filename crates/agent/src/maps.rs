//! The maps as user space holds them.

use std::os::fd::{AsFd, OwnedFd};

use crate::error::{AgentError, During};
use crate::instance::Instance;
use crate::sys;

/// Descriptors of the pinned maps.
#[derive(Debug)]
pub struct Maps {
    pub flows: OwnedFd,
    pub aggregates: OwnedFd,
    pub interfaces: OwnedFd,
    pub losses: OwnedFd,
    pub events: OwnedFd,
    pub sockets: OwnedFd,
    pub drops: OwnedFd,
    pub tcp_totals: OwnedFd,
    pub settings: OwnedFd,
    pub pending: OwnedFd,
    pub owners: OwnedFd,
}

/// Kernel memory of one map.
#[derive(Clone, Debug, serde::Serialize)]
pub struct MapMemory {
    pub name: &'static str,
    pub bytes: u64,
    pub max_entries: u32,
}

impl Maps {
    /// Opens the pinned maps of an instance.
    pub fn open(instance: &Instance) -> Result<Self, AgentError> {
        let folder = instance.maps();
        let open = |name: &str| {
            let path = folder.join(name);
            sys::open_pinned(&path).during(|| format!("open {}", path.display()))
        };
        Ok(Self {
            flows: open("FLOWS")?,
            aggregates: open("AGGREGATES")?,
            interfaces: open("INTERFACES")?,
            losses: open("LOSSES")?,
            events: open("EVENTS")?,
            sockets: open("SOCKETS")?,
            drops: open("DROPS")?,
            tcp_totals: open("TCP_TOTALS")?,
            settings: open("SETTINGS")?,
            pending: open("PENDING")?,
            owners: open("OWNERS")?,
        })
    }

    /// What the maps take of the kernel's memory, largest first.
    #[must_use]
    pub fn memory(&self) -> Vec<MapMemory> {
        let all = [
            ("FLOWS", &self.flows),
            ("PENDING", &self.pending),
            ("AGGREGATES", &self.aggregates),
            ("INTERFACES", &self.interfaces),
            ("LOSSES", &self.losses),
            ("EVENTS", &self.events),
            ("SOCKETS", &self.sockets),
            ("DROPS", &self.drops),
            ("TCP_TOTALS", &self.tcp_totals),
            ("SETTINGS", &self.settings),
            ("OWNERS", &self.owners),
        ];
        let mut memory: Vec<_> = all
            .into_iter()
            .filter_map(|(name, map)| {
                let bytes = sys::map_memory_bytes(map.as_fd()).ok()?;
                let max_entries = sys::map_info(map.as_fd()).ok()?.max_entries;
                Some(MapMemory {
                    name,
                    bytes,
                    max_entries,
                })
            })
            .collect();
        memory.sort_by_key(|map| std::cmp::Reverse(map.bytes));
        memory
    }
}
