//! What a parser says about a packet, in words that no parser owns.
//!
//! Kernel and host fill the same [`wire::Packet`], so their outcomes compare as they are; a parser
//! of other descent is compared by these facts.

use std::net::IpAddr;

use wire::link::vlan_id;
use wire::parse::note;
use wire::{Packet, ip_proto};

/// One IP packet. Offsets count from the frame's first byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) l3_at: usize,
    /// End of the IP packet by its own length; `None` if it states none or the capture is shorter.
    pub(crate) l3_end: Option<usize>,
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    /// First and last tag.
    pub(crate) vlans: [Option<u16>; 2],
    pub(crate) fragment_offset: u16,
    /// A fragment that others follow or precede.
    pub(crate) is_fragment: bool,
    pub(crate) protocol: u8,
    pub(crate) l4_at: usize,
    pub(crate) ports: Option<(u16, u16)>,
    pub(crate) tcp: Option<Tcp>,
    /// Type and code.
    pub(crate) icmp: Option<(u8, u8)>,
    /// Only where the transport header is whole.
    pub(crate) payload_at: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tcp {
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    /// Of a SYN segment.
    pub(crate) mss: Option<u16>,
    pub(crate) window_scale: Option<u8>,
}

impl Facts {
    /// Of our own parser, which saw `captured` bytes of the frame.
    pub(crate) fn of(packet: &Packet, captured: usize) -> Self {
        let has = |bits: u16| packet.notes & bits != 0;
        let is_read = !has(note::FRAGMENT_LATER | note::EXTENSIONS_BAD);
        let is_whole = is_read && !has(note::L4_SHORT | note::L4_BAD);
        let l4_at = usize::from(packet.l4_at);
        let l3_end = packet.l3_end as usize;
        let has_ports = is_read
            && matches!(packet.protocol, ip_proto::TCP | ip_proto::UDP)
            && l4_at + 4 <= captured.min(l3_end);
        let is_icmp = matches!(packet.protocol, ip_proto::ICMP | ip_proto::ICMPV6);
        let has_header = matches!(packet.protocol, ip_proto::TCP | ip_proto::UDP) || is_icmp;
        let (mss, scale) = (packet.tcp_mss, packet.tcp_window_scale);
        Self {
            l3_at: usize::from(packet.l3_at),
            l3_end: (l3_end <= captured).then_some(l3_end),
            src: packet.src.to_ip(packet.family),
            dst: packet.dst.to_ip(packet.family),
            ttl: packet.ttl,
            tos: packet.tos,
            vlans: [vlan_id(packet.vlan), vlan_id(packet.vlan_inner)],
            fragment_offset: packet.frag_offset,
            is_fragment: has(note::FRAGMENT_FIRST | note::FRAGMENT_LATER),
            protocol: packet.protocol,
            l4_at,
            ports: has_ports.then_some((packet.src_port, packet.dst_port)),
            tcp: (is_whole && packet.protocol == ip_proto::TCP).then_some(Tcp {
                seq: packet.tcp_seq,
                ack: packet.tcp_ack,
                flags: packet.tcp_flags,
                window: packet.tcp_window,
                mss: (mss != 0).then_some(mss),
                window_scale: (scale != wire::tcp::NO_WINDOW_SCALE).then_some(scale),
            }),
            icmp: (is_whole && is_icmp).then_some((packet.icmp_type, packet.icmp_code)),
            payload_at: (is_whole && has_header).then_some(usize::from(packet.payload_at)),
        }
    }

    /// Names of the facts in which `self` and `other` differ.
    pub(crate) fn differences(&self, other: &Self) -> Vec<&'static str> {
        let checks = [
            ("l3_at", self.l3_at == other.l3_at),
            ("l3_end", self.l3_end == other.l3_end),
            ("src", self.src == other.src),
            ("dst", self.dst == other.dst),
            ("ttl", self.ttl == other.ttl),
            ("tos", self.tos == other.tos),
            ("vlans", self.vlans == other.vlans),
            ("fragment_offset", self.fragment_offset == other.fragment_offset),
            ("is_fragment", self.is_fragment == other.is_fragment),
            ("protocol", self.protocol == other.protocol),
            ("l4_at", self.l4_at == other.l4_at),
            ("ports", self.ports == other.ports),
            ("tcp", self.tcp == other.tcp),
            ("icmp", self.icmp == other.icmp),
            ("payload_at", self.payload_at == other.payload_at),
        ];
        checks
            .into_iter()
            .filter(|(_, same)| !same)
            .map(|(name, _)| name)
            .collect()
    }
}
