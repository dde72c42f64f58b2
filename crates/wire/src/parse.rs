//! One walk over the headers of a frame.

mod plain;

pub use plain::parse_plain;

use crate::link::{Network, find_network};
use crate::tcp::Options;
use crate::tunnel::{self, Inner};
use crate::{Addr, Link, Load, ethertype, icmp, ip_proto, ipv4, ipv6, tcp, udp};

/// What a walk over one frame's headers found: the outermost IP header and what it carries.
///
/// Offsets count from the first byte of the frame; 0 means "not there".
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    pub src: Addr,
    pub dst: Addr,
    /// Payload bytes that the headers promise; a short capture holds fewer.
    pub payload_len: u32,
    /// Identification of a fragment.
    pub frag_id: u32,
    pub tcp_seq: u32,
    pub tcp_ack: u32,
    /// Where the IP packet ends by its own length field (the frame's end if that says 0).
    pub l3_end: u32,
    /// VNI or key of the tunnel this packet travels in, 0 if none.
    pub tunnel_id: u32,
    pub l3_at: u16,
    pub l4_at: u16,
    pub payload_at: u16,
    pub ethertype: u16,
    /// Ports of TCP, UDP, UDP-Lite, SCTP and DCCP; the identifier, in both, of an ICMP echo.
    pub src_port: u16,
    pub dst_port: u16,
    /// See [`crate::link::vlan_id`].
    pub vlan: u16,
    pub vlan_inner: u16,
    pub tcp_window: u16,
    /// Only of SYN segments, like `tcp_window_scale`.
    pub tcp_mss: u16,
    /// Bits of [`note`].
    pub notes: u16,
    /// Offset of a fragment in bytes.
    pub frag_offset: u16,
    /// 4 or 6.
    pub family: u8,
    /// The protocol after any extension headers.
    pub protocol: u8,
    pub ttl: u8,
    pub tos: u8,
    pub tcp_flags: u8,
    pub tcp_window_scale: u8,
    pub icmp_type: u8,
    pub icmp_code: u8,
    /// How this packet is carried, [`tunnel::kind`].
    pub tunnel: u8,
    pub padding: [u8; 7],
}

const _: () = assert!(size_of::<Packet>() == 96);

impl Packet {
    /// Stores the packet as the words that it is in memory.
    #[inline(always)]
    fn set_words(&mut self, words: [u64; 12]) {
        // SAFETY: twelve words without padding between fields, and every field takes any bits.
        unsafe { core::ptr::from_mut(self).cast::<[u64; 12]>().write(words) }
    }

    /// Whether the IP packet, by its own length, reaches `len` bytes beyond `at`. What follows its
    /// end in a frame is padding, never a header.
    #[inline(always)]
    const fn holds(&self, at: usize, len: usize) -> bool {
        at + len <= self.l3_end as usize
    }
}

/// Peculiarities of a packet that still has addresses.
pub mod note {
    /// The transport header is not wholly in the capture or in the IP packet; ports are given if
    /// their bytes are.
    pub const L4_SHORT: u16 = 1;
    /// The transport header contradicts itself (TCP data offset, UDP length).
    pub const L4_BAD: u16 = 2;
    /// First fragment: has ports, more follow.
    pub const FRAGMENT_FIRST: u16 = 4;
    /// Later fragment: no ports.
    pub const FRAGMENT_LATER: u16 = 8;
    pub const IP_OPTIONS: u16 = 16;
    /// An IPv6 extension header is cut, the chain is longer than [`crate::ipv6::EXTENSIONS_MAX`], or
    /// a fragment holds a fragment.
    pub const EXTENSIONS_BAD: u16 = 32;
    pub const EXTENSIONS: u16 = 64;
    pub const TCP_OPTIONS_BAD: u16 = 128;
}

/// Why a frame belongs to no flow. The number is the index of its counter.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    Arp = 0,
    /// Neither IP nor ARP.
    NotIp = 1,
    /// 802.11 frames that only the receiver can read.
    Encrypted = 2,
    LinkShort = 3,
    LinkUnknown = 4,
    TagsTooMany = 5,
    Ip4Short = 6,
    Ip4Version = 7,
    Ip4HeaderLength = 8,
    Ip4TotalLength = 9,
    Ip6Short = 10,
    Ip6Version = 11,
}

impl Reject {
    /// Number of reasons.
    pub const COUNT: usize = 12;

    /// Every reason, in order of its number.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Arp,
        Self::NotIp,
        Self::Encrypted,
        Self::LinkShort,
        Self::LinkUnknown,
        Self::TagsTooMany,
        Self::Ip4Short,
        Self::Ip4Version,
        Self::Ip4HeaderLength,
        Self::Ip4TotalLength,
        Self::Ip6Short,
        Self::Ip6Version,
    ];

    /// Name for counters and records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arp => "arp",
            Self::NotIp => "not_ip",
            Self::Encrypted => "encrypted",
            Self::LinkShort => "link_short",
            Self::LinkUnknown => "link_unknown",
            Self::TagsTooMany => "tags_too_many",
            Self::Ip4Short => "ipv4_short",
            Self::Ip4Version => "ipv4_version",
            Self::Ip4HeaderLength => "ipv4_header_length",
            Self::Ip4TotalLength => "ipv4_total_length",
            Self::Ip6Short => "ipv6_short",
            Self::Ip6Version => "ipv6_version",
        }
    }

    /// Whether the frame is broken, rather than of another kind.
    #[must_use]
    pub const fn is_fault(self) -> bool {
        self as u8 >= Self::LinkShort as u8
    }
}

/// Where a walk begins.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    pub link: Link,
    pub at: usize,
    /// A VLAN tag that the device took out of the frame, as keys hold it; 0 if none.
    pub vlan: u16,
    /// Length of the frame on the wire, which ends a packet that states no length of its own.
    pub frame_len: u32,
}

impl Start {
    /// At the first byte of a frame of this link layer.
    #[inline(always)]
    #[must_use]
    pub const fn of(link: Link, frame_len: u32) -> Self {
        Self {
            link,
            at: 0,
            vlan: 0,
            frame_len,
        }
    }
}

/// Walks a frame from the link layer to the transport payload.
///
/// Never fails for a packet whose IP header is sound: a broken transport header is a [`note`], so
/// that the packet is still counted under its addresses.
#[inline(always)]
pub fn parse(load: &(impl Load + ?Sized), start: Start) -> Result<Packet, Reject> {
    let mut packet = Packet::default();
    parse_into(load, start, &mut packet)?;
    Ok(packet)
}

/// As [`parse`], into a place the caller has: kernel programs cannot afford copies on their
/// 512-byte stack. After an error `packet` holds nothing of use.
#[inline(always)]
pub fn parse_into(load: &(impl Load + ?Sized), start: Start, packet: &mut Packet) -> Result<(), Reject> {
    let is_ethernet = matches!(start.link, Link::Ethernet) && start.at == 0;
    if is_ethernet && parse_plain(load, start.vlan, packet) {
        return Ok(());
    }
    parse_any(load, start, packet)
}

/// As [`parse_into`], without the short way through plain frames: the same for every frame, only
/// slower for those.
#[inline(always)]
pub fn parse_any(load: &(impl Load + ?Sized), start: Start, packet: &mut Packet) -> Result<(), Reject> {
    let network = find_network(load, start.link, start.at, start.vlan)?;
    match network.ethertype {
        ethertype::IPV4 => ip4(load, &network, start.frame_len, packet),
        ethertype::IPV6 => ip6(load, &network, start.frame_len, packet),
        ethertype::ARP => Err(Reject::Arp),
        _ => Err(Reject::NotIp),
    }
}

/// Walks the packet inside `outer`, if it is a tunnel's; `None` if it is not. With the packet comes
/// its offset in the frame.
#[inline(always)]
pub fn parse_inner(load: &(impl Load + ?Sized), outer: &Packet) -> Option<Result<(Packet, usize), Reject>> {
    let mut packet = Packet::default();
    let at = parse_inner_into(load, outer, &mut packet)?;
    Some(at.map(|at| (packet, at)))
}

/// As [`parse_inner`], into a place the caller has.
#[inline(always)]
pub fn parse_inner_into(
    load: &(impl Load + ?Sized),
    outer: &Packet,
    packet: &mut Packet,
) -> Option<Result<usize, Reject>> {
    const UNREADABLE: u16 = note::FRAGMENT_LATER | note::L4_SHORT | note::L4_BAD | note::EXTENSIONS_BAD;
    if outer.notes & UNREADABLE != 0 {
        return None;
    }
    let found = find_inner(load, outer)?;
    // Every kind of tunnel would have its own way through all of the parser below.
    let inner = Inner {
        kind: load.forget(found.kind as usize) as u8,
        link: found.link,
        at: load.forget(found.at),
        id: load.forget(found.id as usize) as u32,
    };
    if inner.at >= outer.l3_end as usize {
        return None;
    }
    let start = Start {
        link: inner.link,
        at: inner.at,
        vlan: 0,
        frame_len: outer.l3_end,
    };
    if let Err(reject) = parse_any(load, start, packet) {
        return Some(Err(reject));
    }
    packet.tunnel = inner.kind;
    packet.tunnel_id = inner.id;
    Some(Ok(inner.at))
}

#[inline(always)]
fn find_inner(load: &(impl Load + ?Sized), outer: &Packet) -> Option<Inner> {
    if outer.protocol == ip_proto::UDP {
        tunnel::over_udp(load, outer.dst_port, outer.payload_at as usize)
    } else {
        tunnel::over_ip(load, outer.protocol, outer.l4_at as usize)
    }
}

#[inline(always)]
fn ip4(
    load: &(impl Load + ?Sized),
    network: &Network,
    frame_len: u32,
    packet: &mut Packet,
) -> Result<(), Reject> {
    let at = network.at;
    let header = ipv4::View::load(load, at).ok_or(Reject::Ip4Short)?;
    if header.version() != 4 {
        return Err(Reject::Ip4Version);
    }
    let header_len = header.header_len();
    if header_len < ipv4::HEADER_LEN {
        return Err(Reject::Ip4HeaderLength);
    }
    let total_len = header.total_len() as usize;
    // Zero is what a segmenting sender leaves for its device to fill in: the frame's end counts.
    if total_len < header_len && total_len != 0 {
        return Err(Reject::Ip4TotalLength);
    }
    let end = if total_len == 0 {
        frame_len
    } else {
        (at + total_len) as u32
    };
    begin(packet, network, 4, end);
    packet.src = Addr::v4(header.src());
    packet.dst = Addr::v4(header.dst());
    packet.ttl = header.ttl();
    packet.tos = header.tos();
    packet.protocol = header.protocol();
    if header_len > ipv4::HEADER_LEN {
        packet.notes |= note::IP_OPTIONS;
    }
    fragment(
        packet,
        header.id() as u32,
        header.fragment_offset(),
        header.more_fragments(),
    );
    transport(load, packet, at + header_len);
    Ok(())
}

#[inline(always)]
fn ip6(
    load: &(impl Load + ?Sized),
    network: &Network,
    frame_len: u32,
    packet: &mut Packet,
) -> Result<(), Reject> {
    let at = network.at;
    let header = ipv6::View::load(load, at).ok_or(Reject::Ip6Short)?;
    if header.version() != 6 {
        return Err(Reject::Ip6Version);
    }
    let payload_len = header.payload_len() as usize;
    let end = if payload_len == 0 {
        frame_len
    } else {
        (at + ipv6::HEADER_LEN + payload_len) as u32
    };
    begin(packet, network, 6, end);
    packet.src = Addr::v6(header.src());
    packet.dst = Addr::v6(header.dst());
    packet.ttl = header.hop_limit();
    packet.tos = header.traffic_class();
    packet.protocol = header.next_header();
    let l4_at = walk_extensions(load, packet, at + ipv6::HEADER_LEN);
    transport(load, packet, l4_at);
    Ok(())
}

#[inline(always)]
fn begin(packet: &mut Packet, network: &Network, family: u8, l3_end: u32) {
    *packet = Packet::default();
    packet.family = family;
    packet.l3_at = network.at as u16;
    packet.l3_end = l3_end;
    packet.ethertype = network.ethertype;
    packet.vlan = network.vlan;
    packet.vlan_inner = network.vlan_inner;
    packet.tcp_window_scale = tcp::NO_WINDOW_SCALE;
}

#[inline(always)]
fn fragment(packet: &mut Packet, id: u32, offset: u16, more: bool) {
    packet.frag_id = id;
    packet.frag_offset = offset;
    if offset != 0 {
        packet.notes |= note::FRAGMENT_LATER;
    } else if more {
        packet.notes |= note::FRAGMENT_FIRST;
    }
}

/// Every extension header is at least this long, in bytes.
const EXTENSION_LEN_MIN: usize = 8;

/// See [`Load::forget`].
#[inline(always)]
fn forget(load: &(impl Load + ?Sized), packet: &mut Packet) {
    packet.protocol = load.forget(packet.protocol as usize) as u8;
    packet.notes = load.forget(packet.notes as usize) as u16;
}

/// Follows the chain while its headers are on the allow-list; returns where the transport header
/// begins and leaves its number in `packet.protocol`.
#[inline(always)]
fn walk_extensions(load: &(impl Load + ?Sized), packet: &mut Packet, mut at: usize) -> usize {
    for _ in 0..ipv6::EXTENSIONS_MAX {
        at = load.forget(at);
        forget(load, packet);
        if ipv6::extension_len(packet.protocol, 0).is_none() {
            return at;
        }
        let fits = at + EXTENSION_LEN_MIN <= packet.l3_end as usize;
        let Some([next, len_field]) = load.bytes::<2>(at).filter(|_| fits) else {
            packet.notes |= note::EXTENSIONS_BAD;
            return at;
        };
        packet.notes |= note::EXTENSIONS;
        if packet.protocol == ip_proto::FRAGMENT {
            // A fragment in a fragment would be two things at once; no stack sends one.
            let is_second = packet.notes & note::FRAGMENT_FIRST != 0;
            let Some(b) = load.bytes::<8>(at).filter(|_| !is_second) else {
                packet.notes |= note::EXTENSIONS_BAD;
                return at;
            };
            let field = u16::from_be_bytes([b[2], b[3]]);
            let id = u32::from_be_bytes([b[4], b[5], b[6], b[7]]);
            fragment(packet, id, field & 0xfff8, field & 1 != 0);
        }
        let Some(len) = ipv6::extension_len(packet.protocol, len_field) else {
            return at;
        };
        packet.protocol = next;
        at += len;
        // What follows the fragment header of a later fragment is data, whatever it looks like.
        if packet.notes & note::FRAGMENT_LATER != 0 {
            return at;
        }
    }
    if ipv6::extension_len(packet.protocol, 0).is_some() {
        packet.notes |= note::EXTENSIONS_BAD;
    }
    at
}

#[inline(always)]
fn transport(load: &(impl Load + ?Sized), packet: &mut Packet, at: usize) {
    let at = load.forget(at);
    forget(load, packet);
    packet.l3_end = load.forget(packet.l3_end as usize) as u32;
    packet.l4_at = at as u16;
    packet.payload_at = at as u16;
    packet.payload_len = packet.l3_end.saturating_sub(at as u32);
    if packet.notes & (note::FRAGMENT_LATER | note::EXTENSIONS_BAD) != 0 {
        return;
    }
    match packet.protocol {
        ip_proto::TCP => tcp(load, packet, at),
        ip_proto::UDP => udp(load, packet, at),
        ip_proto::UDP_LITE => ports(load, packet, at, 8),
        ip_proto::SCTP | ip_proto::DCCP => ports(load, packet, at, 12),
        ip_proto::ICMP | ip_proto::ICMPV6 => icmp(load, packet, at),
        _ => {}
    }
}

#[inline(always)]
fn tcp(load: &(impl Load + ?Sized), packet: &mut Packet, at: usize) {
    let Some(header) = tcp::View::load(load, at).filter(|_| packet.holds(at, tcp::HEADER_LEN)) else {
        return ports(load, packet, at, tcp::HEADER_LEN);
    };
    packet.src_port = header.src_port();
    packet.dst_port = header.dst_port();
    packet.tcp_seq = header.seq();
    packet.tcp_ack = header.ack();
    packet.tcp_flags = header.flags();
    packet.tcp_window = header.window();
    let header_len = header.header_len();
    if header_len < tcp::HEADER_LEN || !packet.holds(at, header_len) {
        packet.notes |= note::L4_BAD;
        return;
    }
    set_payload(packet, at + header_len);
    if header.flags() & tcp::flag::SYN != 0 {
        let options = Options::load(load, at + tcp::HEADER_LEN, at + header_len);
        packet.tcp_mss = options.mss;
        packet.tcp_window_scale = options.window_scale;
        if options.seen & tcp::seen::MALFORMED != 0 {
            packet.notes |= note::TCP_OPTIONS_BAD;
        }
    }
}

#[inline(always)]
fn udp(load: &(impl Load + ?Sized), packet: &mut Packet, at: usize) {
    let Some(header) = udp::View::load(load, at).filter(|_| packet.holds(at, udp::HEADER_LEN)) else {
        return ports(load, packet, at, udp::HEADER_LEN);
    };
    packet.src_port = header.src_port();
    packet.dst_port = header.dst_port();
    set_payload(packet, at + udp::HEADER_LEN);
    let len = header.len() as u32;
    let is_first_fragment = packet.notes & note::FRAGMENT_FIRST != 0;
    if len == 0 || is_first_fragment {
        // A jumbogram, or a length that counts the fragments to come.
        return;
    }
    if len < udp::HEADER_LEN as u32 || !packet.holds(at, len as usize) {
        packet.notes |= note::L4_BAD;
    } else {
        packet.payload_len = len - udp::HEADER_LEN as u32;
    }
}

/// The two ports that begin the header of UDP-Lite, SCTP and DCCP (and a cut TCP or UDP header).
#[inline(always)]
fn ports(load: &(impl Load + ?Sized), packet: &mut Packet, at: usize, header_len: usize) {
    let Some(b) = load.bytes::<4>(at).filter(|_| packet.holds(at, 4)) else {
        packet.notes |= note::L4_SHORT;
        return;
    };
    packet.src_port = u16::from_be_bytes([b[0], b[1]]);
    packet.dst_port = u16::from_be_bytes([b[2], b[3]]);
    if load.byte(at + header_len - 1).is_none() || !packet.holds(at, header_len) {
        packet.notes |= note::L4_SHORT;
        return;
    }
    set_payload(packet, at + header_len);
}

#[inline(always)]
fn icmp(load: &(impl Load + ?Sized), packet: &mut Packet, at: usize) {
    let Some(header) = icmp::View::load(load, at).filter(|_| packet.holds(at, icmp::HEADER_LEN)) else {
        packet.notes |= note::L4_SHORT;
        return;
    };
    packet.icmp_type = header.kind();
    packet.icmp_code = header.code();
    if header.is_echo(packet.family) {
        packet.src_port = header.identifier();
        packet.dst_port = header.identifier();
    }
    set_payload(packet, at + icmp::HEADER_LEN);
}

#[inline(always)]
fn set_payload(packet: &mut Packet, at: usize) {
    packet.payload_at = at as u16;
    packet.payload_len = packet.l3_end.saturating_sub(at as u32);
}

#[cfg(test)]
mod tests;
