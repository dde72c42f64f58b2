//! Flow records as the admin API sends them, read back into records.
//!
//! The twin of [`inspect::json::JsonFlow`]; what that leaves out is zero here.

use std::net::IpAddr;

use inspect::geo::{Country, Place};
use inspect::json::JsonInsight;
use inspect::record::{
    FlowRecord, FlowState, Icmp, Owner, Sighting, Socket, TcpHealth, TcpSide, TcpState, Traffic, Tunnel,
};
use inspect::table::EndReason;
use jiff::Timestamp;
use serde::Deserialize;

/// A flow of a running Weir.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LiveFlow {
    pub(crate) record: FlowRecord,
    /// Present rates, as the server measured them.
    pub(crate) rate_pps: f64,
    pub(crate) rate_bps: f64,
}

impl<'de> Deserialize<'de> for LiveFlow {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Raw::deserialize(deserializer)?
            .into_flow()
            .map_err(serde::de::Error::custom)
    }
}

#[derive(Deserialize)]
struct Raw {
    id: u64,
    start: Timestamp,
    end: Timestamp,
    src: IpAddr,
    sport: Option<u16>,
    dst: IpAddr,
    dport: Option<u16>,
    proto: String,
    iface: Option<String>,
    vlan: Option<u16>,
    vlan_inner: Option<u16>,
    tunnel: Option<String>,
    #[serde(default)]
    vni: u32,
    packets_toserver: u64,
    packets_toclient: u64,
    bytes_toserver: u64,
    bytes_toclient: u64,
    state: String,
    reason: Option<String>,
    ttl_toserver: Option<(u8, u8)>,
    ttl_toclient: Option<(u8, u8)>,
    #[serde(default)]
    sizes_toserver: [u64; 7],
    #[serde(default)]
    sizes_toclient: [u64; 7],
    tcp: Option<RawTcp>,
    icmp: Option<RawIcmp>,
    #[serde(default)]
    frag: bool,
    #[serde(default)]
    incomplete: bool,
    #[serde(default)]
    adopted_packets: u32,
    owner: Option<RawOwner>,
    socket: Option<Socket>,
    #[serde(default)]
    sightings: Vec<Sighting>,
    src_country: Option<String>,
    dst_country: Option<String>,
    src_asn: Option<u32>,
    dst_asn: Option<u32>,
    src_organisation: Option<Box<str>>,
    dst_organisation: Option<Box<str>>,
    #[serde(flatten)]
    insight: JsonInsight,
    #[serde(default)]
    rate_pps: f64,
    #[serde(default)]
    rate_bps: f64,
}

#[derive(Deserialize)]
struct RawTcp {
    state: String,
    #[serde(default)]
    flags_toserver: String,
    #[serde(default)]
    flags_toclient: String,
    rtt_server_us: Option<u32>,
    rtt_client_us: Option<u32>,
    #[serde(default)]
    retransmits_toserver: u32,
    #[serde(default)]
    retransmits_toclient: u32,
    #[serde(default)]
    out_of_order_toserver: u32,
    #[serde(default)]
    out_of_order_toclient: u32,
    #[serde(default)]
    zero_window_toserver: u32,
    #[serde(default)]
    zero_window_toclient: u32,
    #[serde(default)]
    resets_toserver: u16,
    #[serde(default)]
    resets_toclient: u16,
    window_toserver: Option<u32>,
    window_toclient: Option<u32>,
}

#[derive(Deserialize)]
struct RawIcmp {
    r#type: u8,
    code: u8,
    response_type: Option<u8>,
    response_code: Option<u8>,
}

#[derive(Deserialize)]
struct RawOwner {
    pid: u32,
    uid: u32,
    comm: String,
    cgroup: Option<String>,
    container: Option<String>,
}

impl Raw {
    fn into_flow(self) -> Result<LiveFlow, String> {
        let protocol = protocol_number(&self.proto)?;
        let tunnel = match self.tunnel {
            None => None,
            Some(name) => Some(Tunnel {
                kind: tunnel_kind(&name)?,
                id: self.vni,
            }),
        };
        let record = FlowRecord {
            id: self.id,
            start_ns: nanoseconds(self.start),
            end_ns: nanoseconds(self.end),
            src: self.src,
            dst: self.dst,
            src_port: self.sport.unwrap_or(0),
            dst_port: self.dport.unwrap_or(0),
            protocol,
            interface: self.iface,
            vlans: [self.vlan, self.vlan_inner],
            tunnel,
            to_server: Traffic {
                packets: self.packets_toserver,
                bytes: self.bytes_toserver,
                sizes: self.sizes_toserver,
                ttl: self.ttl_toserver,
                tos: 0,
            },
            to_client: Traffic {
                packets: self.packets_toclient,
                bytes: self.bytes_toclient,
                sizes: self.sizes_toclient,
                ttl: self.ttl_toclient,
                tos: 0,
            },
            tcp: self.tcp.map(RawTcp::into_health).transpose()?,
            icmp: self.icmp.map(|icmp| Icmp {
                request: (icmp.r#type, icmp.code),
                response: icmp.response_type.zip(icmp.response_code),
            }),
            state: named(
                &self.state,
                [FlowState::New, FlowState::Established, FlowState::Closed],
                FlowState::name,
            )?,
            reason: match self.reason {
                None => None,
                Some(name) => Some(named(
                    &name,
                    [
                        EndReason::Timeout,
                        EndReason::Forced,
                        EndReason::Shutdown,
                        EndReason::TcpReuse,
                    ],
                    EndReason::name,
                )?),
            },
            owner: self.owner.map(|owner| Owner {
                pid: owner.pid,
                uid: owner.uid,
                comm: owner.comm,
                cgroup_id: 0,
                cgroup: owner.cgroup,
                container: owner.container,
            }),
            sightings: self.sightings,
            socket: self.socket,
            now_ns: None,
            has_fragments: self.frag,
            is_partial: self.incomplete,
            adopted_packets: self.adopted_packets,
            adopted_bytes: 0,
            syn: None,
            src_place: place(self.src_country.as_deref(), self.src_asn, self.src_organisation),
            dst_place: place(self.dst_country.as_deref(), self.dst_asn, self.dst_organisation),
            insight: self.insight.into_insight()?,
        };
        Ok(LiveFlow {
            record,
            rate_pps: self.rate_pps,
            rate_bps: self.rate_bps,
        })
    }
}

impl RawTcp {
    fn into_health(self) -> Result<TcpHealth, String> {
        const STATES: [TcpState; 7] = [
            TcpState::None,
            TcpState::SynSent,
            TcpState::SynRecv,
            TcpState::Established,
            TcpState::FinWait1,
            TcpState::CloseWait,
            TcpState::Closed,
        ];
        Ok(TcpHealth {
            state: named(&self.state, STATES, TcpState::name)?,
            to_server: TcpSide {
                flags: flags(&self.flags_toserver),
                retransmits: self.retransmits_toserver,
                out_of_order: self.out_of_order_toserver,
                zero_windows: self.zero_window_toserver,
                resets: self.resets_toserver,
                window_min: self.window_toserver,
                window_unscaled_min: None,
            },
            to_client: TcpSide {
                flags: flags(&self.flags_toclient),
                retransmits: self.retransmits_toclient,
                out_of_order: self.out_of_order_toclient,
                zero_windows: self.zero_window_toclient,
                resets: self.resets_toclient,
                window_min: self.window_toclient,
                window_unscaled_min: None,
            },
            rtt_server_us: self.rtt_server_us,
            rtt_client_us: self.rtt_client_us,
        })
    }
}

fn place(country: Option<&str>, asn: Option<u32>, organisation: Option<Box<str>>) -> Place {
    Place {
        country: country.and_then(Country::new),
        asn,
        organisation,
    }
}

fn nanoseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or(0)
}

fn named<T: Copy, const N: usize>(
    name: &str,
    all: [T; N],
    name_of: impl Fn(T) -> &'static str,
) -> Result<T, String> {
    let found = all.into_iter().find(|&one| name_of(one) == name);
    found.ok_or_else(|| format!("`{name}` is unknown to this version"))
}

fn protocol_number(name: &str) -> Result<u8, String> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let found = (0..=u8::MAX).find(|&number| inspect::names::protocol_name(number) == Some(name));
    found.ok_or_else(|| format!("protocol `{name}` is unknown to this version"))
}

fn tunnel_kind(name: &str) -> Result<&'static str, String> {
    let found = (0..=u8::MAX)
        .filter_map(wire::tunnel::kind_name)
        .find(|kind| *kind == name);
    found.ok_or_else(|| format!("tunnel `{name}` is unknown to this version"))
}

fn flags(letters: &str) -> u8 {
    let bits = (0..8).map(|bit| 1 << bit);
    bits.filter(|&bit| {
        let letter = inspect::record::tcp_flag_letters(bit);
        !letter.is_empty() && letters.contains(&letter)
    })
    .fold(0, |all, bit| all | bit)
}

#[cfg(test)]
mod tests {
    use inspect::json::JsonFlow;
    use serde_json::Value;

    use super::*;

    /// Written, read and written again, every record is the same.
    #[track_caller]
    fn check(text: &str) {
        let value: Value = serde_json::from_str(text).unwrap();
        let flow: LiveFlow = serde_json::from_str(text).unwrap();
        let again = serde_json::to_value(JsonFlow::of(&flow.record, 0)).unwrap();
        for (name, written) in again.as_object().unwrap() {
            assert_eq!(Some(written), value.get(name), "{name}");
        }
        for name in value
            .as_object()
            .unwrap()
            .keys()
            .filter(|name| !name.starts_with("rate_"))
        {
            assert!(again.get(name).is_some(), "{name} is lost");
        }
    }

    #[test]
    fn records_read_back_are_the_same() {
        check(include_str!("../testdata/flow_tcp.json"));
        check(include_str!("../testdata/flow_icmp.json"));
        check(include_str!("../testdata/flow_tls.json"));
    }

    #[test]
    fn records_of_a_newer_version_are_refused_in_words() {
        let text = include_str!("../testdata/flow_tcp.json").replace("\"closed\"", "\"teleported\"");
        let error = serde_json::from_str::<LiveFlow>(&text).unwrap_err();
        assert!(error.to_string().contains("`teleported` is unknown"), "{error}");
    }
}
