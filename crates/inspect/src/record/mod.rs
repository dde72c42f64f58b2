//! The one record of a flow, made of a [`FlowKey`] and a [`FlowRow`]: by the flow table of a
//! capture, or by the kernel. Written as EVE by [`crate::eve`], as plain JSON by [`crate::json`],
//! asked by filters through [`crate::facts`].

mod orient;
mod state;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use wire::flow::{Counts, Owner as OwnerRow, Side, row_flag, seen};
use wire::rows::SocketRow;
use wire::tcp::{NO_WINDOW_SCALE, flag};
use wire::{FlowKey, FlowRow, ip_proto, link, tunnel};

pub use state::{FlowState, TcpState};

use crate::community_id::{Tuple, community_id};
use crate::geo::{Geo, Place};
use crate::layer7::Insight;
use crate::syn_fingerprint::SynFingerprint;
use crate::table::EndReason;

/// What a row does not know about its flow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// Name of the interface the key's index stands for.
    pub interface: Option<&'a str>,
    /// Why the flow is over; `None` while it lives.
    pub reason: Option<EndReason>,
    /// Added to the row's times, gives nanoseconds since 1970. 0 for rows of a capture.
    pub epoch_offset_ns: i64,
    /// The time now, in nanoseconds since 1970, of flows that live; a capture has none but its
    /// packets' own.
    pub now_ns: Option<u64>,
    /// Path of the control group the row's owner names by number.
    pub cgroup: Option<&'a str>,
    /// Container that control group belongs to.
    pub container: Option<&'a str>,
    /// What the kernel's TCP says of the local socket.
    pub socket: Option<&'a SocketRow>,
}

/// Everything known of one flow, seen from the side that opened it.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowRecord {
    /// Names the flow, also in events that come before its end. Below 2^53, so that JavaScript
    /// reads it right; the same whenever the same key and first packet are seen.
    pub id: u64,
    /// First and last packet, in nanoseconds since 1970.
    pub start_ns: u64,
    pub end_ns: u64,
    /// When the record was made, of a flow that lived then.
    pub now_ns: Option<u64>,
    /// The side that opened the flow, and the side that was asked.
    pub src: IpAddr,
    pub dst: IpAddr,
    /// 0 where the protocol has none.
    pub src_port: u16,
    pub dst_port: u16,
    /// Number of the protocol above IP.
    pub protocol: u8,
    pub interface: Option<String>,
    /// The same packets on other observed interfaces; they are not in the counts.
    pub sightings: Vec<Sighting>,
    /// Outer and inner 802.1Q identifier.
    pub vlans: [Option<u16>; 2],
    pub tunnel: Option<Tunnel>,
    /// What the opener sent, and what it got.
    pub to_server: Traffic,
    pub to_client: Traffic,
    pub tcp: Option<TcpHealth>,
    pub icmp: Option<Icmp>,
    pub state: FlowState,
    pub reason: Option<EndReason>,
    /// Owner of the local socket.
    pub owner: Option<Owner>,
    /// What the kernel's TCP says of the local socket, live only.
    pub socket: Option<Socket>,
    /// Some packets were IP fragments.
    pub has_fragments: bool,
    /// It was joined in the middle: earlier packets, if any, are not counted here.
    pub is_partial: bool,
    /// Packets that were first accounted as attempts, and their bytes; they are in the counts.
    pub adopted_packets: u32,
    pub adopted_bytes: u64,
    /// Where the two sides are.
    pub src_place: Place,
    pub dst_place: Place,
    /// What its payloads said.
    pub insight: Option<Box<Insight>>,
    /// The opener's SYN, of a capture.
    pub syn: Option<Box<SynFingerprint>>,
}

/// A flow as another interface saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    #[serde(rename = "iface")]
    pub interface: String,
    /// Of both directions.
    pub packets: u64,
    pub bytes: u64,
}

/// What carried the packets of an inner flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// As filters write it: `vxlan`, `gre`, …
    pub kind: &'static str,
    /// VNI or GRE key; 0 if there is none.
    pub id: u32,
}

/// One direction of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub packets: u64,
    /// Frame lengths on the wire.
    pub bytes: u64,
    /// Packets by frame size: see [`wire::flow::SIZE_CLASSES`].
    pub sizes: [u64; 7],
    /// Smallest and largest TTL or hop limit.
    pub ttl: Option<(u8, u8)>,
    /// Type of service or traffic class of the last packet.
    pub tos: u8,
}

/// How a TCP connection fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpHealth {
    pub state: TcpState,
    pub to_server: TcpSide,
    pub to_client: TcpSide,
    /// SYN to SYN-ACK: from the point of capture to the server and back, in µs.
    pub rtt_server_us: Option<u32>,
    /// SYN-ACK to ACK: from the point of capture to the client and back, in µs.
    pub rtt_client_us: Option<u32>,
}

/// What one side of a TCP connection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpSide {
    /// Union of the flags sent.
    pub flags: u8,
    pub retransmits: u32,
    pub out_of_order: u32,
    /// Times it closed its window.
    pub zero_windows: u32,
    pub resets: u16,
    /// Smallest window offered, in bytes (scaled if the scale was seen), SYN and RST left out.
    pub window_min: Option<u32>,
    /// The same as sent, not scaled.
    pub window_unscaled_min: Option<u16>,
}

/// The first message of each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Type and code.
    pub request: (u8, u8),
    pub response: Option<(u8, u8)>,
}

/// Owner of a local socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// 0 if unknown.
    pub pid: u32,
    pub uid: u32,
    /// Name of the thread.
    pub comm: String,
    #[serde(skip)]
    pub cgroup_id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

/// The kernel's TCP on a local socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// Smoothed round trip in µs, and the smallest there was; 0 if never measured.
    pub srtt_us: u32,
    pub srtt_min_us: u32,
    /// Segments this host sent again.
    pub retransmits: u32,
    /// Segments this host held for lost at the last report.
    pub lost: u32,
    /// Congestion window in segments at the last report.
    pub congestion_window: u32,
    /// This host opened the connection.
    pub is_active: bool,
}

impl FlowRecord {
    /// Makes the record of a row, offline and live.
    #[must_use]
    pub fn from_row(key: &FlowKey, row: &FlowRow, context: &Context<'_>) -> Self {
        let client = orient::client(key, row);
        let ((src, src_port), (dst, dst_port)) = (key.source(client), key.source(client.opposite()));
        let has_ports = !matches!(key.protocol, ip_proto::ICMP | ip_proto::ICMPV6);
        let (sent, got) = (client as usize, client.opposite() as usize);
        let tcp = (key.protocol == ip_proto::TCP).then(|| TcpHealth::of(row, sent, got));
        Self {
            id: flow_id(key, row.first_ns),
            start_ns: row.first_ns.saturating_add_signed(context.epoch_offset_ns),
            end_ns: row.last_ns.saturating_add_signed(context.epoch_offset_ns),
            now_ns: context.now_ns,
            src: src.to_ip(key.family),
            dst: dst.to_ip(key.family),
            src_port: if has_ports { src_port } else { 0 },
            dst_port: if has_ports { dst_port } else { 0 },
            protocol: key.protocol,
            sightings: Vec::new(),
            interface: context.interface.map(str::to_owned),
            vlans: [link::vlan_id(key.vlan), link::vlan_id(key.vlan_inner)],
            tunnel: tunnel::kind_name(key.tunnel).map(|kind| Tunnel {
                kind,
                id: key.tunnel_id,
            }),
            to_server: Traffic::of(&row.counts[sent], &row.sides[sent]),
            to_client: Traffic::of(&row.counts[got], &row.sides[got]),
            icmp: (!has_ports).then(|| Icmp::of(&row.sides[sent], &row.sides[got])),
            state: FlowState::of(row, tcp.map(|tcp| tcp.state)),
            tcp,
            reason: context.reason,
            owner: Owner::of(&row.owner, context),
            socket: context.socket.map(|socket| Socket {
                srtt_us: socket.srtt_us,
                srtt_min_us: socket.srtt_min_us,
                retransmits: socket.retransmits,
                lost: socket.lost,
                congestion_window: socket.congestion_window,
                is_active: socket.active == 1,
            }),
            has_fragments: row.flags & row_flag::FRAGMENTS != 0,
            is_partial: row.flags & row_flag::PARTIAL != 0,
            adopted_packets: row.adopted_packets.into(),
            adopted_bytes: row.adopted_bytes.into(),
            src_place: Place::default(),
            dst_place: Place::default(),
            insight: None,
            syn: None,
        }
    }

    /// Asks the databases where both sides are. Addresses that are not of the public network are nowhere,
    /// whatever a database says.
    pub fn locate(&mut self, geo: &Geo) {
        if !geo.is_empty() {
            self.src_place = geo.place(self.src);
            self.dst_place = geo.place(self.dst);
        }
    }

    /// The best name of the server: what the flow says, else what DNS said of its address.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        let insight = self.insight.as_deref()?;
        insight.host.as_deref().or(insight.resolved_name.as_deref())
    }

    /// Direction of the opener's packets.
    #[must_use]
    pub fn client_of(key: &FlowKey, row: &FlowRow) -> wire::Direction {
        orient::client(key, row)
    }

    /// Name of the flow with this key and time of the first packet, as [`Self::id`] has it.
    #[must_use]
    pub fn id_of(key: &FlowKey, first_ns: u64) -> u64 {
        flow_id(key, first_ns)
    }

    /// State of a row's TCP connection alone, for whoever counts many; `None` for other protocols.
    #[must_use]
    pub fn tcp_state(key: &FlowKey, row: &FlowRow) -> Option<TcpState> {
        let client = orient::client(key, row);
        let (sent, got) = (client as usize, client.opposite() as usize);
        (key.protocol == ip_proto::TCP).then(|| TcpState::of(&row.sides[sent], &row.sides[got]))
    }

    /// Packets of both directions.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.to_server.packets + self.to_client.packets
    }

    /// Frame bytes of both directions.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.to_server.bytes + self.to_client.bytes
    }

    /// Time between the first and the last packet, in nanoseconds.
    #[must_use]
    pub fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }

    /// Time from the first packet until now, or until the last packet of a flow that is over.
    #[must_use]
    pub fn age_ns(&self) -> u64 {
        self.now_ns
            .unwrap_or(self.end_ns)
            .max(self.end_ns)
            .saturating_sub(self.start_ns)
    }

    /// Smallest TTL or hop limit of either direction.
    #[must_use]
    pub fn ttl_min(&self) -> Option<u8> {
        let least = |traffic: &Traffic| traffic.ttl.map(|(min, _)| min);
        match (least(&self.to_server), least(&self.to_client)) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// `amount` divided by the flow's duration; `None` if that is 0.
    #[must_use]
    pub fn per_second(&self, amount: u64) -> Option<u64> {
        let duration_ns = u128::from(self.duration_ns());
        let per_second = (u128::from(amount) * 1_000_000_000).checked_div(duration_ns)?;
        Some(u64::try_from(per_second).unwrap_or(u64::MAX))
    }

    /// 4 or 6.
    #[must_use]
    pub fn family(&self) -> u8 {
        if self.src.is_ipv4() { 4 } else { 6 }
    }

    /// Whether the protocol has ports, so that `src_port` and `dst_port` mean something.
    #[must_use]
    pub fn has_ports(&self) -> bool {
        matches!(
            self.protocol,
            ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP | ip_proto::DCCP | ip_proto::UDP_LITE
        )
    }

    /// The identifier other tools give this flow, see [`crate::community_id`].
    #[must_use]
    pub fn community_id(&self, seed: u16) -> String {
        let (src_port, dst_port) = match self.icmp {
            Some(Icmp {
                request: (kind, code),
                ..
            }) => (kind.into(), code.into()),
            None => (self.src_port, self.dst_port),
        };
        let tuple = Tuple {
            src: self.src,
            dst: self.dst,
            protocol: self.protocol,
            src_port,
            dst_port,
        };
        community_id(&tuple, seed)
    }
}

impl Traffic {
    fn of(counts: &Counts, side: &Side) -> Self {
        Self {
            packets: counts.packets(),
            bytes: counts.bytes,
            sizes: counts.sizes,
            ttl: (side.seen & seen::ANY != 0).then_some((side.ttl_min, side.ttl_max)),
            tos: side.tos,
        }
    }
}

impl TcpHealth {
    fn of(row: &FlowRow, sent: usize, got: usize) -> Self {
        let (client, server) = (&row.sides[sent], &row.sides[got]);
        let is_scaled = client.window_scale != NO_WINDOW_SCALE && server.window_scale != NO_WINDOW_SCALE;
        let measured = |us: u32| (us != 0).then_some(us);
        Self {
            state: TcpState::of(client, server),
            to_server: TcpSide::of(client, is_scaled),
            to_client: TcpSide::of(server, is_scaled),
            rtt_server_us: measured(row.rtt_server_us),
            rtt_client_us: measured(row.rtt_client_us),
        }
    }

    /// Union of the flags of both sides.
    #[must_use]
    pub fn flags(&self) -> u8 {
        self.to_server.flags | self.to_client.flags
    }

    /// The round trip between client and server, in µs: both halves together. One half alone says
    /// nothing of it, next to either end it is almost 0.
    #[must_use]
    pub fn rtt_us(&self) -> Option<u32> {
        Some(self.rtt_client_us?.saturating_add(self.rtt_server_us?))
    }

    /// Segments sent again by either side.
    #[must_use]
    pub fn retransmits(&self) -> u64 {
        u64::from(self.to_server.retransmits) + u64::from(self.to_client.retransmits)
    }

    /// Segments of either side that came after later ones.
    #[must_use]
    pub fn out_of_order(&self) -> u64 {
        u64::from(self.to_server.out_of_order) + u64::from(self.to_client.out_of_order)
    }

    /// Times either side closed its window.
    #[must_use]
    pub fn zero_windows(&self) -> u64 {
        u64::from(self.to_server.zero_windows) + u64::from(self.to_client.zero_windows)
    }

    /// Resets of either side.
    #[must_use]
    pub fn resets(&self) -> u64 {
        u64::from(self.to_server.resets) + u64::from(self.to_client.resets)
    }

    /// Smallest window either side offered, as sent, not scaled.
    #[must_use]
    pub fn window_unscaled_min(&self) -> Option<u16> {
        match (
            self.to_server.window_unscaled_min,
            self.to_client.window_unscaled_min,
        ) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }
}

impl TcpSide {
    fn of(side: &Side, is_scaled: bool) -> Self {
        let shift = if is_scaled { side.window_scale & 15 } else { 0 };
        let has_window = side.seen & seen::WINDOW != 0;
        Self {
            flags: side.flags,
            retransmits: side.retransmits,
            out_of_order: side.out_of_order,
            zero_windows: side.zero_windows,
            resets: side.resets,
            window_min: has_window.then(|| u32::from(side.window_min) << shift),
            window_unscaled_min: has_window.then_some(side.window_min),
        }
    }

    /// Whether this side sent a segment with this flag of [`wire::tcp::flag`].
    #[must_use]
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

impl Icmp {
    fn of(client: &Side, server: &Side) -> Self {
        let first = |side: &Side| (side.icmp_type, side.icmp_code);
        Self {
            request: first(client),
            response: (server.seen & seen::ANY != 0).then(|| first(server)),
        }
    }
}

impl Owner {
    fn of(row: &OwnerRow, context: &Context<'_>) -> Option<Self> {
        if row.pid == 0 && row.cgroup_id == 0 && row.cookie == 0 {
            return None;
        }
        let comm_len = row.comm.iter().position(|&byte| byte == 0);
        let comm = &row.comm[..comm_len.unwrap_or(row.comm.len())];
        Some(Self {
            pid: row.pid,
            uid: row.uid,
            comm: String::from_utf8_lossy(comm).into_owned(),
            cgroup_id: row.cgroup_id,
            cgroup: context.cgroup.map(str::to_owned),
            container: context.container.map(str::to_owned),
        })
    }
}

/// The letters of TCP flags, as tcpdump and the filter language write them: `SA`, `FPA`.
#[must_use]
pub fn tcp_flag_letters(flags: u8) -> String {
    const LETTERS: [(u8, char); 8] = [
        (flag::FIN, 'F'),
        (flag::SYN, 'S'),
        (flag::RST, 'R'),
        (flag::PSH, 'P'),
        (flag::ACK, 'A'),
        (flag::URG, 'U'),
        (flag::ECE, 'E'),
        (flag::CWR, 'C'),
    ];
    LETTERS
        .iter()
        .filter(|(bit, _)| flags & bit != 0)
        .map(|&(_, letter)| letter)
        .collect()
}

/// Bits of a [`FlowRecord::id`].
const ID_BITS: u32 = 53;

/// Any fixed words will do here: an identifier is no secret. Digits of π.
const ID_KEYS: wire::flow::HashKeys = wire::flow::HashKeys([
    0x243f_6a88,
    0x85a3_08d3,
    0x1319_8a2e,
    0x0370_7344,
    0xa409_3822,
    0x299f_31d0,
    0x082e_fa98,
    0xec4e_6c89,
    0x4528_21e6,
    0x38d0_1377,
    0xbe54_66cf,
    0x34e9_0c6c,
    0xc0ac_29b7,
    0xc97c_50dd,
]);

fn flow_id(key: &FlowKey, first_ns: u64) -> u64 {
    // The odd constant is 2^64 divided by the golden ratio: it spreads stamps over all bits.
    let mixed = key.hash(&ID_KEYS) ^ first_ns.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (u64::BITS - ID_BITS)).max(1)
}
