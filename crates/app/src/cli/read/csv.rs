//! Flows as comma separated values (RFC 4180 with bare line feeds).

use std::io::{self, Write};

use inspect::geo::Country;
use inspect::names::protocol_name;
use inspect::record::{FlowRecord, TcpHealth, tcp_flag_letters};

const HEADER: &str = "start_ns,end_ns,proto,src,sport,dst,dport,iface,vlan,tunnel,vni,packets_toserver,\
                      packets_toclient,bytes_toserver,bytes_toclient,state,reason,tcp_state,tcp_flags,rtt_us,\
                      retransmits,out_of_order,zero_windows,resets,icmp_type,icmp_code,incomplete,community_id,app,service,server_name,\
                      src_country,dst_country";

pub(in crate::cli) struct Csv {
    seed: u16,
    has_header: bool,
}

impl Csv {
    pub(in crate::cli) fn new(seed: u16) -> Self {
        Self {
            seed,
            has_header: false,
        }
    }

    pub(in crate::cli) fn write(&mut self, out: &mut impl Write, record: &FlowRecord) -> io::Result<()> {
        if !self.has_header {
            self.has_header = true;
            writeln!(out, "{HEADER}")?;
        }
        let ports = |port: u16| optional(record.has_ports().then_some(port));
        let protocol = protocol_name(record.protocol);
        let tcp = record.tcp.as_ref();
        let insight = record.insight.as_deref();
        let icmp = record.icmp.map(|icmp| icmp.request);
        let cells = [
            record.start_ns.to_string(),
            record.end_ns.to_string(),
            protocol.map_or_else(|| record.protocol.to_string(), str::to_owned),
            record.src.to_string(),
            ports(record.src_port),
            record.dst.to_string(),
            ports(record.dst_port),
            quoted(record.interface.as_deref().unwrap_or("")),
            optional(record.vlans[0]),
            optional(record.tunnel.map(|tunnel| tunnel.kind)),
            optional(record.tunnel.map(|tunnel| tunnel.id)),
            record.to_server.packets.to_string(),
            record.to_client.packets.to_string(),
            record.to_server.bytes.to_string(),
            record.to_client.bytes.to_string(),
            record.state.name().to_owned(),
            optional(record.reason.map(inspect::table::EndReason::name)),
            optional(tcp.map(|tcp| tcp.state.name())),
            optional(tcp.map(|tcp| tcp_flag_letters(tcp.flags()))),
            optional(tcp.and_then(TcpHealth::rtt_us)),
            optional(tcp.map(TcpHealth::retransmits)),
            optional(tcp.map(TcpHealth::out_of_order)),
            optional(tcp.map(TcpHealth::zero_windows)),
            optional(tcp.map(TcpHealth::resets)),
            optional(icmp.map(|(kind, _)| kind)),
            optional(icmp.map(|(_, code)| code)),
            record.is_partial.to_string(),
            record.community_id(self.seed),
            optional(insight.and_then(|insight| insight.app)),
            optional(insight.and_then(|insight| insight.service)),
            quoted(record.server_name().unwrap_or("")),
            optional(record.src_place.country.as_ref().map(Country::as_str)),
            optional(record.dst_place.country.as_ref().map(Country::as_str)),
        ];
        writeln!(out, "{}", cells.join(","))
    }
}

fn optional<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// In quotes if a reader would otherwise take it for more than one cell.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
