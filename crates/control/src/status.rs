//! The body of `GET /api/v1/status` and of `GET /api/v1/aggregates`, for the server and for clients.
//!
//! Every field may be missing when read, so that a client also reads what another version wrote.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Numbers by name, in the order of names.
pub type Counts = BTreeMap<String, u64>;

/// Everything counted, and what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    pub version: String,
    /// Version of the rows shared with the kernel programs.
    pub abi: u32,
    pub instance: String,
    /// Name of the host, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// `observe`, …
    pub mode: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    pub uptime_s: f64,
    pub interfaces: Vec<Interface>,
    pub flows: Flows,
    pub tcp: Tcp,
    /// Packets the kernel dropped, by its reason.
    pub drops: Vec<Drop>,
    /// What was lost or refused on the way, by kind; all zero on a good day.
    pub losses: Counts,
    /// One sentence on what numbers may miss.
    pub incomplete: Option<String>,
    pub kernel_memory_bytes: u64,
    pub resident_bytes: u64,
    /// One sentence on each thing that works less well than it could.
    pub degraded: Vec<String>,
    /// Packets that came in and are in no counter; 0 unless something is broken.
    pub unaccounted_packets: u64,
}

/// An observed interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    pub name: String,
    pub ifindex: u32,
    /// Link type: `ethernet`, …
    pub link: String,
    /// How packets are seen: `tcx`, `tc`, `xdp`, …
    pub ingress: Option<String>,
    pub egress: Option<String>,
    /// One sentence each.
    pub notes: Vec<String>,
    pub rx: InterfaceTraffic,
    pub tx: InterfaceTraffic,
}

/// One direction of an interface.
///
/// `packets` = `in_rows` + `attempts` + `aggregated` + the sum of `rejects`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InterfaceTraffic {
    pub packets: u64,
    pub bytes: u64,
    /// Packets counted in flow rows.
    pub in_rows: u64,
    /// Packets sent on as attempts.
    pub attempts: u64,
    /// Packets counted by service only.
    pub aggregated: u64,
    /// Frames that belong to no flow, by reason.
    pub rejects: Counts,
    /// Packets whose transport header was short or contradicted itself.
    pub l4_faults: u64,
    /// Inner packets of tunnels in rows of their own, and those that got none.
    pub inner_in_rows: u64,
    pub inner_without_row: u64,
    pub packets_per_s: f64,
    pub bits_per_s: f64,
}

/// The flow table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Flows {
    pub rows: u64,
    pub capacity: u64,
    pub attempts: u64,
    pub ended_total: u64,
}

/// TCP of the whole host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tcp {
    pub established_total: u64,
    pub closed_total: u64,
    pub retransmits: u64,
    pub retransmitted_handshakes: u64,
    /// Flows now in each state.
    pub states: Counts,
}

/// Packets the kernel dropped for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Drop {
    /// As the kernel names it: `NO_SOCKET`, …
    pub reason: String,
    pub count: u64,
}

/// Packets that are in no flow, by service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aggregate {
    pub addr: IpAddr,
    /// 0 where the protocol has none.
    #[serde(default)]
    pub port: u16,
    /// As filters write it.
    pub proto: String,
    pub direction: AggregateDirection,
    #[serde(default)]
    pub iface: Option<String>,
    pub packets: u64,
    pub bytes: u64,
    /// Of `packets`, those that a flow took over later.
    #[serde(default)]
    pub adopted_packets: u64,
}

/// Whether packets go to the service or come from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AggregateDirection {
    To,
    From,
}
