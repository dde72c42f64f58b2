//! A flow record as plain JSON, one object a line, with the names the filter language uses.

mod insight;

use std::net::IpAddr;

use serde::Serialize;

pub use insight::JsonInsight;
pub(crate) use insight::TLS_VERSIONS;

use crate::geo::Place;
use crate::names::protocol_name;
use crate::record::{FlowRecord, Owner, Sighting, Socket, TcpHealth, Traffic, tcp_flag_letters};
use crate::time::Rfc3339;

/// The serialisable twin of a [`FlowRecord`].
#[derive(Debug, Serialize)]
pub struct JsonFlow<'a> {
    id: u64,
    #[serde(serialize_with = "rfc3339")]
    start: u64,
    #[serde(serialize_with = "rfc3339")]
    end: u64,
    /// In milliseconds, as filters measure it.
    duration: u64,
    src: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    sport: Option<u16>,
    dst: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    dport: Option<u16>,
    #[serde(serialize_with = "protocol")]
    proto: u8,
    family: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    iface: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vlan: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vlan_inner: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vni: Option<u32>,
    packets: u64,
    packets_toserver: u64,
    packets_toclient: u64,
    bytes: u64,
    bytes_toserver: u64,
    bytes_toclient: u64,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    ttl_toserver: Option<[u8; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_toclient: Option<[u8; 2]>,
    sizes_toserver: [u64; 7],
    sizes_toclient: [u64; 7],
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp: Option<Tcp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp: Option<Icmp>,
    #[serde(skip_serializing_if = "is_false")]
    frag: bool,
    #[serde(skip_serializing_if = "is_false")]
    incomplete: bool,
    #[serde(skip_serializing_if = "is_zero")]
    adopted_packets: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a Owner>,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket: Option<Socket>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    sightings: &'a [Sighting],
    #[serde(skip_serializing_if = "Option::is_none")]
    src_country: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dst_country: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    src_asn: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dst_asn: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    src_organisation: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dst_organisation: Option<&'a str>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    insight: Option<JsonInsight>,
    community_id: String,
}

#[derive(Debug, Serialize)]
struct Tcp {
    state: &'static str,
    flags_toserver: String,
    flags_toclient: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_us: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_server_us: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_client_us: Option<u32>,
    retransmits_toserver: u32,
    retransmits_toclient: u32,
    out_of_order_toserver: u32,
    out_of_order_toclient: u32,
    zero_window_toserver: u32,
    zero_window_toclient: u32,
    resets_toserver: u16,
    resets_toclient: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_toserver: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_toclient: Option<u32>,
}

#[derive(Debug, Serialize)]
struct Icmp {
    r#type: u8,
    code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_type: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_code: Option<u8>,
}

impl<'a> JsonFlow<'a> {
    /// The record as it is written. `seed` is of [`FlowRecord::community_id`].
    #[must_use]
    pub fn of(record: &'a FlowRecord, seed: u16) -> Self {
        let ttl = |traffic: &Traffic| traffic.ttl.map(|(min, max)| [min, max]);
        Self {
            id: record.id,
            start: record.start_ns,
            end: record.end_ns,
            duration: record.duration_ns() / 1_000_000,
            src: record.src,
            sport: record.has_ports().then_some(record.src_port),
            dst: record.dst,
            dport: record.has_ports().then_some(record.dst_port),
            proto: record.protocol,
            family: if record.family() == 4 { "ipv4" } else { "ipv6" },
            iface: record.interface.as_deref(),
            vlan: record.vlans[0],
            vlan_inner: record.vlans[1],
            tunnel: record.tunnel.map(|tunnel| tunnel.kind),
            vni: record.tunnel.map(|tunnel| tunnel.id),
            packets: record.packets(),
            packets_toserver: record.to_server.packets,
            packets_toclient: record.to_client.packets,
            bytes: record.bytes(),
            bytes_toserver: record.to_server.bytes,
            bytes_toclient: record.to_client.bytes,
            state: record.state.name(),
            reason: record.reason.map(crate::table::EndReason::name),
            ttl_toserver: ttl(&record.to_server),
            ttl_toclient: ttl(&record.to_client),
            sizes_toserver: record.to_server.sizes,
            sizes_toclient: record.to_client.sizes,
            tcp: record.tcp.as_ref().map(Tcp::of),
            icmp: record.icmp.map(|icmp| Icmp {
                r#type: icmp.request.0,
                code: icmp.request.1,
                response_type: icmp.response.map(|(kind, _)| kind),
                response_code: icmp.response.map(|(_, code)| code),
            }),
            frag: record.has_fragments,
            incomplete: record.is_partial,
            adopted_packets: record.adopted_packets,
            owner: record.owner.as_ref(),
            socket: record.socket,
            sightings: &record.sightings,
            src_country: country(&record.src_place),
            dst_country: country(&record.dst_place),
            src_asn: record.src_place.asn,
            dst_asn: record.dst_place.asn,
            src_organisation: record.src_place.organisation.as_deref(),
            dst_organisation: record.dst_place.organisation.as_deref(),
            insight: record.insight.as_deref().map(JsonInsight::of),
            community_id: record.community_id(seed),
        }
    }
}

fn country(place: &Place) -> Option<&str> {
    place.country.as_ref().map(crate::geo::Country::as_str)
}

impl Tcp {
    fn of(tcp: &TcpHealth) -> Self {
        let (client, server) = (&tcp.to_server, &tcp.to_client);
        Self {
            state: tcp.state.name(),
            flags_toserver: tcp_flag_letters(client.flags),
            flags_toclient: tcp_flag_letters(server.flags),
            rtt_us: tcp.rtt_us(),
            rtt_server_us: tcp.rtt_server_us,
            rtt_client_us: tcp.rtt_client_us,
            retransmits_toserver: client.retransmits,
            retransmits_toclient: server.retransmits,
            out_of_order_toserver: client.out_of_order,
            out_of_order_toclient: server.out_of_order,
            zero_window_toserver: client.zero_windows,
            zero_window_toclient: server.zero_windows,
            resets_toserver: client.resets,
            resets_toclient: server.resets,
            window_toserver: client.window_min,
            window_toclient: server.window_min,
        }
    }
}

/// A name where there is one, else the number as text, so that the type never changes.
fn protocol<S: serde::Serializer>(number: &u8, serializer: S) -> Result<S::Ok, S::Error> {
    match protocol_name(*number) {
        Some(name) => serializer.serialize_str(name),
        None => serializer.collect_str(number),
    }
}

fn rfc3339<S: serde::Serializer>(ns: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Rfc3339(*ns))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde calls")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde calls")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}
