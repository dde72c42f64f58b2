//! A record of layer 7 as an EVE event.

use std::net::IpAddr;

use serde::ser::{Error as _, SerializeMap as _};
use serde::{Serialize, Serializer};
use wire::{FlowKey, ip_proto, link, tunnel};

use super::AllDigits;
use crate::community_id::{Tuple, community_id};
use crate::layer7::record::Severity;
use crate::layer7::{Event, Record, Side};
use crate::names::protocol_keyword;
use crate::time::EveTime;

/// The serialisable twin of an [`Event`].
#[derive(Clone, Copy, Debug)]
pub struct RecordEvent<'a> {
    pub event: &'a Event,
    /// Name of the interface the key's index stands for.
    pub interface: Option<&'a str>,
    /// Of [`crate::record::FlowRecord::community_id`].
    pub seed: u16,
}

/// Types whose source is who sent the message, as Suricata has them; that of the others is the client
/// of the flow, whoever's packet completed the record.
const BY_SENDER: &[&str] = &[
    "alert",
    "anomaly",
    "bittorrent_dht",
    "dhcp",
    "dns",
    "krb5",
    "llmnr",
    "mdns",
    "mqtt",
    "nfs",
    "quic",
    "rdp",
    "rfb",
    "sip",
    "snmp",
    "tftp",
    "websocket",
];

impl RecordEvent<'_> {
    /// Address and port of source and destination.
    fn ends(&self) -> [(IpAddr, u16); 2] {
        let event = self.event;
        let is_by_sender = BY_SENDER.contains(&event.record.event_type());
        let source = match event.side {
            Side::Server if is_by_sender => event.client.opposite(),
            _ => event.client,
        };
        [source, source.opposite()].map(|direction| {
            let (address, port) = event.key.source(direction);
            (address.to_ip(event.key.family), port)
        })
    }

    fn has_flow(&self) -> bool {
        !matches!(self.event.record, Record::Arp(_))
    }
}

impl Serialize for RecordEvent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let event = self.event;
        let key = &event.key;
        let event_type = event.record.event_type();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("timestamp", &Text(EveTime(event.ts_ns)))?;
        if self.has_flow() {
            map.serialize_entry("flow_id", &event.flow_id)?;
        }
        if let Some(interface) = self.interface {
            map.serialize_entry("in_iface", interface)?;
        }
        map.serialize_entry("event_type", event_type)?;
        let vlans: Vec<u16> = [key.vlan, key.vlan_inner]
            .into_iter()
            .filter_map(link::vlan_id)
            .collect();
        if !vlans.is_empty() {
            map.serialize_entry("vlan", &vlans)?;
        }
        if self.has_flow() {
            let [src, dst] = self.ends();
            let has_ports = has_ports(key.protocol);
            map.serialize_entry("src_ip", &Address(src.0))?;
            if has_ports {
                map.serialize_entry("src_port", &src.1)?;
            }
            map.serialize_entry("dest_ip", &Address(dst.0))?;
            if has_ports {
                map.serialize_entry("dest_port", &dst.1)?;
            }
            match protocol_keyword(key.protocol) {
                Some(keyword) => map.serialize_entry("proto", keyword)?,
                None => map.serialize_entry("proto", &Text(format_args!("{:03}", key.protocol)))?,
            }
            map.serialize_entry("ip_v", &key.family)?;
        }
        map.serialize_entry("pkt_src", packet_source(key))?;
        if self.has_flow() {
            let [src, dst] = self.ends();
            let tuple = Tuple {
                src: src.0,
                dst: dst.0,
                protocol: key.protocol,
                src_port: src.1,
                dst_port: dst.1,
            };
            map.serialize_entry("community_id", &community_id(&tuple, self.seed))?;
            if let Some(tx_id) = event.tx_id {
                map.serialize_entry("tx_id", &tx_id)?;
            }
            if let Some(app) = event.app {
                map.serialize_entry("app_proto", app)?;
            }
        }
        let body = event.record.body().map_err(S::Error::custom)?;
        map.serialize_entry(event_type, &body)?;
        match &event.record {
            Record::Smtp(smtp) => {
                if let Some(email) = &smtp.email {
                    map.serialize_entry("email", email)?;
                }
            }
            Record::Anomaly(anomaly) => {
                let severity = match anomaly.severity {
                    Severity::High => "high",
                    Severity::Medium => "medium",
                    Severity::Low => "low",
                };
                map.serialize_entry("weir", &Weir { severity })?;
            }
            _ => {}
        }
        map.end()
    }
}

/// What EVE has no name for.
#[derive(Serialize)]
struct Weir {
    severity: &'static str,
}

fn has_ports(protocol: u8) -> bool {
    matches!(
        protocol,
        ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP | ip_proto::DCCP | ip_proto::UDP_LITE
    )
}

/// Suricata's words for where a packet came from.
fn packet_source(key: &FlowKey) -> &'static str {
    match tunnel::kind_name(key.tunnel) {
        None => "wire/pcap",
        Some("gre") => "gre tunnel",
        Some("ipip") => "ipv4 tunnel",
        Some("6in4") => "ipv6 tunnel",
        Some("vxlan") => "vxlan encapsulation",
        Some("geneve") => "geneve encapsulation",
        Some(other) => other,
    }
}

/// Written by its `Display`.
struct Text<T>(T);

impl<T: std::fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Written with all its zeros, as EVE does.
struct Address(IpAddr);

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            IpAddr::V4(v4) => serializer.collect_str(v4),
            IpAddr::V6(v6) => serializer.collect_str(&AllDigits(v6)),
        }
    }
}
