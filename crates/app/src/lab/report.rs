//! The machine-readable result of a run: what each connection carried, as its two ends saw it, and
//! what the interfaces counted.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::namespace::InterfaceCounters;
use super::scenario::{Intensity, Scenario};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Service {
    Http,
    Https,
    Dns,
    Ssh,
    Bulk,
    Echo,
    /// A port that was only probed.
    Probe,
}

/// How a connection ended, as the client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// All that was asked for came.
    Complete,
    /// The log-in was refused, as it should be.
    AuthFailed,
    /// Nobody listened: a reset came back.
    Refused,
    /// Held open until the time was up (slow clients).
    Held,
    /// The server closed before the client was done.
    ClosedByServer,
    TimedOut,
    Failed,
}

/// One connection (TCP) or conversation (UDP); byte counts are of payload, above TCP or UDP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Connection {
    pub scenario: Scenario,
    pub service: Service,
    pub protocol: Protocol,
    pub client: IpAddr,
    /// 0 when the connection never got as far as a port.
    pub client_port: u16,
    pub server: IpAddr,
    pub server_port: u16,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// Questions asked on it: HTTP requests, DNS queries, echoes, log-ins.
    pub requests: u32,
    pub outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
    /// The server's own count, once joined; absent when the server never saw the connection.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub server_received_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub server_sent_bytes: Option<u64>,
}

/// Packets built by hand and sent past the TCP/IP stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RawTraffic {
    pub scenario: Scenario,
    /// `tcp-syn`, `udp`, `icmp-echo`.
    pub kind: String,
    pub targets: Vec<IpAddr>,
    /// Absent for ICMP and for scans over many ports.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub port: Option<u16>,
    /// Whether sources were random, foreign addresses.
    pub spoofed: bool,
    /// Frames the kernel took from the program.
    pub packets_sent: u64,
    /// Their length with the Ethernet header, without the checksum at the end.
    pub bytes_sent: u64,
    /// Frames the kernel refused for want of room; they were not sent.
    pub packets_refused: u64,
    /// The attacker's interface, over the time of sending. Other programs' frames are in it as well.
    pub interface: InterfaceCounters,
    /// Ports that answered a bare SYN with SYN and ACK.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub open_ports: Vec<u16>,
}

/// What one program of a scenario says on its standard output.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ProgramReport {
    pub connections: Vec<Connection>,
    pub raw: Vec<RawTraffic>,
    /// Planned, but not begun before the time was up.
    pub skipped: u32,
}

/// One connection as the server saw it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub service: Service,
    pub protocol: Protocol,
    pub client: SocketAddr,
    pub server: SocketAddr,
    pub received_bytes: u64,
    pub sent_bytes: u64,
}

/// The servers' answer on their control socket: what ended since they were last asked.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ServerReport {
    pub seen: Vec<Seen>,
    /// TCP connections still open.
    pub open: usize,
    /// Connections that were served but found no room in the record.
    pub lost: u64,
}

/// Counters of one host's interface over the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostCounters {
    pub host: String,
    pub interface: String,
    #[serde(flatten)]
    pub counters: InterfaceCounters,
}

/// The whole report of `weir lab run`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunReport {
    pub lab: String,
    pub scenarios: Vec<Scenario>,
    pub intensity: Intensity,
    pub seed: u64,
    pub started_unix_us: u64,
    pub elapsed_ms: u64,
    pub totals: Totals,
    pub connections: Vec<Connection>,
    /// Connections the server saw and no client told of.
    pub server_only: Vec<Seen>,
    pub raw: Vec<RawTraffic>,
    /// Each host's `lab0`, over the whole run.
    pub interfaces: Vec<HostCounters>,
    /// Programs that did not end as they should, a sentence each.
    pub problems: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub connections: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub server_received_bytes: u64,
    pub server_sent_bytes: u64,
    pub raw_packets_sent: u64,
    pub raw_bytes_sent: u64,
    pub skipped: u64,
    pub server_records_lost: u64,
}

type Tuple = (Protocol, IpAddr, u16, IpAddr, u16);

/// Writes the server's counts beside the client's, by 5-tuple; returns what no client told of.
///
/// A port may be used twice in a run: the server's records of one tuple are given out in order.
pub(crate) fn join(connections: &mut [Connection], seen: Vec<Seen>) -> Vec<Seen> {
    let mut by_tuple: HashMap<Tuple, Vec<Seen>> = HashMap::new();
    for one in seen.into_iter().rev() {
        let tuple = (
            one.protocol,
            one.client.ip(),
            one.client.port(),
            one.server.ip(),
            one.server.port(),
        );
        by_tuple.entry(tuple).or_default().push(one);
    }
    for connection in connections {
        let tuple = (
            connection.protocol,
            connection.client,
            connection.client_port,
            connection.server,
            connection.server_port,
        );
        if let Some(one) = by_tuple.get_mut(&tuple).and_then(Vec::pop) {
            connection.server_received_bytes = Some(one.received_bytes);
            connection.server_sent_bytes = Some(one.sent_bytes);
        }
    }
    let mut rest: Vec<Seen> = by_tuple.into_values().flatten().collect();
    rest.sort_by_key(|one| (one.client, one.server));
    rest
}

impl Totals {
    pub(crate) fn of(connections: &[Connection], raw: &[RawTraffic]) -> Totals {
        let mut totals = Totals {
            connections: connections.len() as u64,
            ..Totals::default()
        };
        for one in connections {
            totals.sent_bytes += one.sent_bytes;
            totals.received_bytes += one.received_bytes;
            totals.server_received_bytes += one.server_received_bytes.unwrap_or(0);
            totals.server_sent_bytes += one.server_sent_bytes.unwrap_or(0);
        }
        for one in raw {
            totals.raw_packets_sent += one.packets_sent;
            totals.raw_bytes_sent += one.bytes_sent;
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(port: u16, received_bytes: u64) -> Seen {
        Seen {
            service: Service::Http,
            protocol: Protocol::Tcp,
            client: SocketAddr::from(([10, 77, 0, 11], port)),
            server: SocketAddr::from(([10, 77, 0, 1], 80)),
            received_bytes,
            sent_bytes: 1,
        }
    }

    #[test]
    fn both_views_are_joined_in_order_and_the_rest_is_kept() {
        let connection = |port| Connection {
            scenario: Scenario::Normal,
            service: Service::Http,
            protocol: Protocol::Tcp,
            client: [10, 77, 0, 11].into(),
            client_port: port,
            server: [10, 77, 0, 1].into(),
            server_port: 80,
            sent_bytes: 5,
            received_bytes: 1,
            requests: 1,
            outcome: Outcome::Complete,
            detail: None,
            server_received_bytes: None,
            server_sent_bytes: None,
        };
        let mut connections = [connection(1000), connection(1000), connection(1001)];
        let rest = join(
            &mut connections,
            vec![seen(1000, 5), seen(1000, 6), seen(2000, 7)],
        );
        let joined: Vec<_> = connections.iter().map(|one| one.server_received_bytes).collect();
        assert_eq!(joined, [Some(5), Some(6), None]);
        assert_eq!(rest.len(), 1);
        assert_eq!(rest[0].client.port(), 2000);
        assert_eq!(Totals::of(&connections, &[]).server_received_bytes, 11);
    }
}
