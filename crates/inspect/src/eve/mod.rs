//! Suricata's EVE JSON: a flow record as an event of `event_type` `flow`, a record of layer 7
//! ([`RecordEvent`]) as one of its own type.
//!
//! Names, order and spelling are Suricata's (`output-json-flow.c` of its version 7 and the user
//! guide's "Eve JSON Format"): keyword of the protocol in capitals, IPv6 addresses with all their
//! zeros, times in UTC with microseconds, `age` in whole seconds of the clock, flags as two hex
//! digits and as one `true` each. What EVE has no name for stands under `weir`.

mod event;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Serialize, Serializer};
use wire::tcp::flag;

pub use event::RecordEvent;

use crate::names::protocol_keyword;
use crate::record::{FlowRecord, Owner, Sighting, Socket, TcpHealth};
use crate::syn_fingerprint::OsGuess;
use crate::time::EveTime;

const SECOND_NS: u64 = 1_000_000_000;

/// The serialisable twin of a [`FlowRecord`].
#[derive(Debug, Serialize)]
pub struct FlowEvent<'a> {
    /// Suricata writes when the event was written; a capture has no other clock than its own.
    #[serde(serialize_with = "time")]
    timestamp: u64,
    flow_id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_iface: Option<&'a str>,
    event_type: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vlan: Vec<u16>,
    #[serde(serialize_with = "address")]
    src_ip: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    src_port: Option<u16>,
    #[serde(serialize_with = "address")]
    dest_ip: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    dest_port: Option<u16>,
    ip_v: u8,
    #[serde(serialize_with = "protocol")]
    proto: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_type: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_icmp_type: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_icmp_code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_proto: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_proto_orig: Option<&'static str>,
    flow: Flow,
    community_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp: Option<Tcp>,
    weir: Weir<'a>,
}

#[derive(Debug, Serialize)]
struct Flow {
    pkts_toserver: u64,
    pkts_toclient: u64,
    bytes_toserver: u64,
    bytes_toclient: u64,
    #[serde(serialize_with = "time")]
    start: u64,
    #[serde(serialize_with = "time")]
    end: u64,
    age: u64,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    alerted: bool,
}

#[derive(Debug, Serialize)]
struct Tcp {
    #[serde(serialize_with = "hex")]
    tcp_flags: u8,
    #[serde(serialize_with = "hex")]
    tcp_flags_ts: u8,
    #[serde(serialize_with = "hex")]
    tcp_flags_tc: u8,
    #[serde(skip_serializing_if = "is_not")]
    syn: bool,
    #[serde(skip_serializing_if = "is_not")]
    fin: bool,
    #[serde(skip_serializing_if = "is_not")]
    rst: bool,
    #[serde(skip_serializing_if = "is_not")]
    psh: bool,
    #[serde(skip_serializing_if = "is_not")]
    ack: bool,
    #[serde(skip_serializing_if = "is_not")]
    urg: bool,
    #[serde(skip_serializing_if = "is_not")]
    ecn: bool,
    #[serde(skip_serializing_if = "is_not")]
    cwr: bool,
    state: &'static str,
}

/// What Weir knows and EVE has no name for.
#[derive(Debug, Serialize)]
struct Weir<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_toserver: Option<[u8; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_toclient: Option<[u8; 2]>,
    sizes_toserver: [u64; 7],
    sizes_toclient: [u64; 7],
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel: Option<Tunnel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp: Option<WeirTcp>,
    #[serde(skip_serializing_if = "is_not")]
    fragments: bool,
    #[serde(skip_serializing_if = "is_not")]
    partial: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a Owner>,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket: Option<Socket>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    sightings: &'a [Sighting],
}

#[derive(Debug, Serialize)]
struct Tunnel {
    kind: &'static str,
    id: u32,
}

#[derive(Debug, Serialize)]
struct WeirTcp {
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_server_us: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_client_us: Option<u32>,
    retransmits: u64,
    out_of_order: u64,
    zero_windows: u64,
    resets: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_min_toserver: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_min_toclient: Option<u32>,
    /// The opener's SYN in p0f's terms, and the system that sends such.
    #[serde(skip_serializing_if = "Option::is_none")]
    syn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    os: Option<OsGuess>,
}

impl<'a> FlowEvent<'a> {
    /// The event of a flow's end. `seed` is of [`FlowRecord::community_id`].
    #[must_use]
    pub fn of(record: &'a FlowRecord, seed: u16) -> Self {
        let icmp = record.icmp.as_ref();
        let response = icmp.and_then(|icmp| icmp.response);
        Self {
            timestamp: record.end_ns,
            flow_id: record.id,
            in_iface: record.interface.as_deref(),
            event_type: "flow",
            vlan: record.vlans.iter().copied().flatten().collect(),
            src_ip: record.src,
            src_port: record.has_ports().then_some(record.src_port),
            dest_ip: record.dst,
            dest_port: record.has_ports().then_some(record.dst_port),
            ip_v: record.family(),
            proto: record.protocol,
            icmp_type: icmp.map(|icmp| icmp.request.0),
            icmp_code: icmp.map(|icmp| icmp.request.1),
            response_icmp_type: response.map(|(kind, _)| kind),
            response_icmp_code: response.map(|(_, code)| code),
            app_proto: app_proto(record),
            app_proto_orig: record.insight.as_ref().and_then(|insight| insight.app_before),
            flow: Flow::of(record),
            community_id: record.community_id(seed),
            tcp: record.tcp.as_ref().map(Tcp::of),
            weir: Weir::of(record),
        }
    }
}

/// The protocol, or `failed` where payload was looked at and is of none that is known.
fn app_proto(record: &FlowRecord) -> Option<&'static str> {
    let insight = record.insight.as_ref()?;
    insight.app.or(insight.has_payload.then_some("failed"))
}

impl Flow {
    fn of(record: &FlowRecord) -> Self {
        Self {
            pkts_toserver: record.to_server.packets,
            pkts_toclient: record.to_client.packets,
            bytes_toserver: record.to_server.bytes,
            bytes_toclient: record.to_client.bytes,
            start: record.start_ns,
            end: record.end_ns,
            // The difference of the whole seconds, not the whole seconds of the difference.
            age: (record.end_ns / SECOND_NS).saturating_sub(record.start_ns / SECOND_NS),
            state: record.state.name(),
            reason: record.reason.map(crate::table::EndReason::name),
            alerted: record.insight.as_ref().is_some_and(|insight| insight.alerts > 0),
        }
    }
}

impl Tcp {
    fn of(tcp: &TcpHealth) -> Self {
        let flags = tcp.flags();
        let has = |bit: u8| flags & bit != 0;
        Self {
            tcp_flags: flags,
            tcp_flags_ts: tcp.to_server.flags,
            tcp_flags_tc: tcp.to_client.flags,
            syn: has(flag::SYN),
            fin: has(flag::FIN),
            rst: has(flag::RST),
            psh: has(flag::PSH),
            ack: has(flag::ACK),
            urg: has(flag::URG),
            ecn: has(flag::ECE),
            cwr: has(flag::CWR),
            state: tcp.state.name(),
        }
    }
}

impl<'a> Weir<'a> {
    fn of(record: &'a FlowRecord) -> Self {
        let ttl = |range: Option<(u8, u8)>| range.map(|(min, max)| [min, max]);
        Self {
            ttl_toserver: ttl(record.to_server.ttl),
            ttl_toclient: ttl(record.to_client.ttl),
            sizes_toserver: record.to_server.sizes,
            sizes_toclient: record.to_client.sizes,
            tunnel: record.tunnel.map(|tunnel| Tunnel {
                kind: tunnel.kind,
                id: tunnel.id,
            }),
            tcp: record.tcp.as_ref().map(|tcp| WeirTcp {
                rtt_server_us: tcp.rtt_server_us,
                rtt_client_us: tcp.rtt_client_us,
                retransmits: tcp.retransmits(),
                out_of_order: tcp.out_of_order(),
                zero_windows: tcp.zero_windows(),
                resets: tcp.resets(),
                window_min_toserver: tcp.to_server.window_min,
                window_min_toclient: tcp.to_client.window_min,
                syn: record.syn.as_ref().map(|syn| syn.signature()),
                os: record.syn.as_ref().and_then(|syn| syn.os()),
            }),
            fragments: record.has_fragments,
            partial: record.is_partial,
            owner: record.owner.as_ref(),
            socket: record.socket,
            sightings: &record.sightings,
        }
    }
}

fn time<S: Serializer>(ns: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&EveTime(*ns))
}

fn hex<S: Serializer>(flags: &u8, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{flags:02x}"))
}

fn address<S: Serializer>(address: &IpAddr, serializer: S) -> Result<S::Ok, S::Error> {
    match address {
        IpAddr::V4(v4) => serializer.collect_str(v4),
        IpAddr::V6(v6) => serializer.collect_str(&AllDigits(v6)),
    }
}

fn protocol<S: Serializer>(number: &u8, serializer: S) -> Result<S::Ok, S::Error> {
    match protocol_keyword(*number) {
        Some(keyword) => serializer.serialize_str(keyword),
        None => serializer.collect_str(&format_args!("{number:03}")),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde calls")]
fn is_not(value: &bool) -> bool {
    !value
}

/// An IPv6 address with all its zeros.
struct AllDigits<'a>(&'a Ipv6Addr);

impl fmt::Display for AllDigits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, group) in self.0.segments().into_iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            write!(f, "{colon}{group:04x}")?;
        }
        Ok(())
    }
}
