//! Packets inside packets: VXLAN (RFC 7348), GENEVE (RFC 8926), GRE (RFC 2784, RFC 2890), IPv4 and
//! IPv6 in IP (RFC 2003, RFC 4213).

use crate::{Link, Load, ethertype, ip_proto};

/// How the inner packet is carried. Part of an inner flow's key.
pub mod kind {
    pub const NONE: u8 = 0;
    pub const VXLAN: u8 = 1;
    pub const GENEVE: u8 = 2;
    pub const GRE: u8 = 3;
    /// IPv4 in IPv4 or IPv6.
    pub const IPIP: u8 = 4;
    /// IPv6 in IPv4 or IPv6.
    pub const IP6IN: u8 = 5;
}

/// Name of a tunnel kind as filters and records write it; `None` for no tunnel.
#[must_use]
pub const fn kind_name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        kind::VXLAN => "vxlan",
        kind::GENEVE => "geneve",
        kind::GRE => "gre",
        kind::IPIP => "ipip",
        kind::IP6IN => "6in4",
        _ => return None,
    })
}

const VXLAN_PORT: u16 = 4789;
/// Linux' default before the port was assigned; still common.
const VXLAN_PORT_LINUX: u16 = 8472;
const GENEVE_PORT: u16 = 6081;

/// Where an inner packet begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inner {
    pub(crate) kind: u8,
    pub(crate) link: Link,
    pub(crate) at: usize,
    /// VNI or GRE key; 0 where the tunnel has none.
    pub(crate) id: u32,
}

/// A tunnel over UDP, by its destination port; `at` is where the UDP payload begins.
#[inline(always)]
pub(crate) fn over_udp(load: &(impl Load + ?Sized), dst_port: u16, at: usize) -> Option<Inner> {
    match dst_port {
        VXLAN_PORT | VXLAN_PORT_LINUX => vxlan(load, at),
        GENEVE_PORT => geneve(load, at),
        _ => None,
    }
}

/// A tunnel right over IP; `at` is where the IP payload begins.
#[inline(always)]
pub(crate) fn over_ip(load: &(impl Load + ?Sized), protocol: u8, at: usize) -> Option<Inner> {
    match protocol {
        ip_proto::IPV4 => Some(Inner {
            kind: kind::IPIP,
            link: Link::Ipv4,
            at,
            id: 0,
        }),
        ip_proto::IPV6 => Some(Inner {
            kind: kind::IP6IN,
            link: Link::Ipv6,
            at,
            id: 0,
        }),
        ip_proto::GRE => gre(load, at),
        _ => None,
    }
}

#[inline(always)]
fn vxlan(load: &(impl Load + ?Sized), at: usize) -> Option<Inner> {
    let b = load.bytes::<8>(at)?;
    const VNI_VALID: u8 = 0x08;
    if b[0] & VNI_VALID == 0 {
        return None;
    }
    let id = u32::from_be_bytes([0, b[4], b[5], b[6]]);
    Some(Inner {
        kind: kind::VXLAN,
        link: Link::Ethernet,
        at: at + 8,
        id,
    })
}

#[inline(always)]
fn geneve(load: &(impl Load + ?Sized), at: usize) -> Option<Inner> {
    let b = load.bytes::<8>(at)?;
    let version = b[0] >> 6;
    if version != 0 {
        return None;
    }
    let options_len = (b[0] & 0x3f) as usize * 4;
    let link = link_of(u16::from_be_bytes([b[2], b[3]]))?;
    let id = u32::from_be_bytes([0, b[4], b[5], b[6]]);
    Some(Inner {
        kind: kind::GENEVE,
        link,
        at: at + 8 + options_len,
        id,
    })
}

#[inline(always)]
fn gre(load: &(impl Load + ?Sized), at: usize) -> Option<Inner> {
    let b = load.bytes::<4>(at)?;
    let (flags, version) = (b[0], b[1] & 7);
    const CHECKSUM: u8 = 0x80;
    const ROUTING: u8 = 0x40;
    const KEY: u8 = 0x20;
    const SEQUENCE: u8 = 0x10;
    // Version 1 is PPTP's (RFC 2637), whose PPP frames are mostly compressed or encrypted.
    const PPTP_ACKNOWLEDGEMENT: u8 = 0x80;
    let mut next = at + 4;
    if version == 0 && flags & (CHECKSUM | ROUTING) != 0 {
        next += 4;
    }
    if version > 1 || flags & ROUTING != 0 {
        return None;
    }
    let mut id = 0;
    if flags & KEY != 0 {
        id = u32::from_be_bytes(load.bytes(next)?);
        next += 4;
    }
    if flags & SEQUENCE != 0 {
        next += 4;
    }
    if version == 1 {
        // PPTP's "key" is the payload length and the receiver's number for the call, so the two
        // directions differ in it: as an identifier it would make two flows of every inner one.
        id = 0;
        if b[1] & PPTP_ACKNOWLEDGEMENT != 0 {
            next += 4;
        }
    }
    let link = link_of(u16::from_be_bytes([b[2], b[3]]))?;
    Some(Inner {
        kind: kind::GRE,
        link,
        at: next,
        id,
    })
}

#[inline(always)]
fn link_of(protocol: u16) -> Option<Link> {
    Some(match protocol {
        ethertype::IPV4 => Link::Ipv4,
        ethertype::IPV6 => Link::Ipv6,
        ethertype::TRANSPARENT_BRIDGING => Link::Ethernet,
        ethertype::PPP => Link::Ppp,
        _ => return None,
    })
}
