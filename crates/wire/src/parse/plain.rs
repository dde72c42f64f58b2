//! The short way through the frames that most traffic is made of: Ethernet, IPv4 without options or
//! IPv6 without extension headers, then TCP, UDP or ICMP. Every header is where a constant says.
//!
//! What is out of the ordinary in any way is left to the general walk, which would find the same in
//! every frame that is taken here.

use super::Packet;
use crate::load::Head;
use crate::{Load, ethertype, icmp, ip_proto, ipv4, ipv6, link, tcp, udp};

const L3_AT: usize = link::ETHERNET_LEN;
const L4_AT_V4: usize = L3_AT + ipv4::HEADER_LEN;
const L4_AT_V6: usize = L3_AT + ipv6::HEADER_LEN;
/// TCP is checked for on its own: a UDP datagram may be shorter than its header.
const HEAD_V4: usize = L4_AT_V4 + udp::HEADER_LEN;
const HEAD_V6: usize = L4_AT_V6 + udp::HEADER_LEN;
const HEAD_TCP_V4: usize = L4_AT_V4 + tcp::HEADER_LEN;
const HEAD_TCP_V6: usize = L4_AT_V6 + tcp::HEADER_LEN;

/// Walks a plain frame that begins with an Ethernet header; `false`, with nothing written, if it is
/// none. `vlan` is a tag that the device took out of the frame, as keys hold it.
#[inline(always)]
pub fn parse_plain(load: &(impl Load + ?Sized), vlan: u16, packet: &mut Packet) -> bool {
    let Some(head) = load.head::<HEAD_V4>() else {
        return false;
    };
    match u16::from_be(head.u16::<12>()) {
        ethertype::IPV4 => ip4(load, &head, vlan, packet),
        ethertype::IPV6 => ip6(load, vlan, packet),
        _ => false,
    }
}

/// What an IP header says, before the transport header is looked at.
struct Ip {
    family: u8,
    protocol: u8,
    ttl: u8,
    tos: u8,
    vlan: u16,
    ethertype: u16,
    id: u16,
    l4_at: usize,
    l3_end: usize,
    /// Both addresses as [`Packet`] holds them, in words of eight bytes.
    addrs: [u64; 4],
}

/// What the transport header adds.
#[derive(Default)]
struct Transport {
    ports: [u16; 2],
    seq: u32,
    ack: u32,
    window: u16,
    flags: u8,
    /// Type and code.
    icmp: [u8; 2],
    payload_at: usize,
    payload_len: usize,
}

#[inline(always)]
fn ip4(load: &(impl Load + ?Sized), head: &Head<'_, HEAD_V4>, vlan: u16, packet: &mut Packet) -> bool {
    /// Reserved bit and "don't fragment" aside.
    const FRAGMENT_BITS: u16 = 0x3fff;
    let [version_and_len, tos] = head.u16::<14>().to_ne_bytes();
    let is_fragment = u16::from_be(head.u16::<20>()) & FRAGMENT_BITS != 0;
    if version_and_len != 0x45 || is_fragment {
        return false;
    }
    let [ttl, protocol] = head.u16::<22>().to_ne_bytes();
    let ip = Ip {
        family: 4,
        protocol,
        ttl,
        tos,
        vlan,
        ethertype: ethertype::IPV4,
        id: u16::from_be(head.u16::<18>()),
        l4_at: L4_AT_V4,
        l3_end: L3_AT + u16::from_be(head.u16::<16>()) as usize,
        addrs: [0, pair(0, head.u32::<26>()), 0, pair(0, head.u32::<30>())],
    };
    let transport = match protocol {
        ip_proto::TCP => {
            let Some(head) = load.head::<HEAD_TCP_V4>() else {
                return false;
            };
            let control = [head.u16::<46>(), head.u16::<48>()];
            tcp(&ip, head.u32::<34>(), head.u32::<38>(), head.u32::<42>(), control)
        }
        ip_proto::UDP => udp(&ip, head.u32::<34>(), head.u16::<38>()),
        ip_proto::ICMP => icmp(&ip, head.u16::<34>(), head.u16::<38>()),
        _ => None,
    };
    store(&ip, transport, packet)
}

#[inline(always)]
fn ip6(load: &(impl Load + ?Sized), vlan: u16, packet: &mut Packet) -> bool {
    let Some(head) = load.head::<HEAD_V6>() else {
        return false;
    };
    let [first, second] = head.u16::<14>().to_ne_bytes();
    let payload_len = u16::from_be(head.u16::<18>()) as usize;
    // A length of zero leaves it to the frame's.
    if first >> 4 != 6 || payload_len == 0 {
        return false;
    }
    let [protocol, ttl] = head.u16::<20>().to_ne_bytes();
    let ip = Ip {
        family: 6,
        protocol,
        ttl,
        tos: first << 4 | second >> 4,
        vlan,
        ethertype: ethertype::IPV6,
        id: 0,
        l4_at: L4_AT_V6,
        l3_end: L4_AT_V6 + payload_len,
        addrs: [
            head.u64::<22>(),
            head.u64::<30>(),
            head.u64::<38>(),
            head.u64::<46>(),
        ],
    };
    let transport = match protocol {
        ip_proto::TCP => {
            let Some(head) = load.head::<HEAD_TCP_V6>() else {
                return false;
            };
            let control = [head.u16::<66>(), head.u16::<68>()];
            tcp(&ip, head.u32::<54>(), head.u32::<58>(), head.u32::<62>(), control)
        }
        ip_proto::UDP => udp(&ip, head.u32::<54>(), head.u16::<58>()),
        ip_proto::ICMPV6 => icmp(&ip, head.u16::<54>(), head.u16::<58>()),
        _ => None,
    };
    store(&ip, transport, packet)
}

/// `control` is header length and flags, then the window. `None` for a SYN, whose options count, and
/// for a header that contradicts itself.
#[inline(always)]
fn tcp(ip: &Ip, ports: u32, seq: u32, ack: u32, control: [u16; 2]) -> Option<Transport> {
    let [offset, flags] = control[0].to_ne_bytes();
    let header_len = (offset >> 4) as usize * 4;
    let payload_at = ip.l4_at + header_len;
    if header_len < tcp::HEADER_LEN || payload_at > ip.l3_end || flags & tcp::flag::SYN != 0 {
        return None;
    }
    Some(Transport {
        ports: host_ports(ports),
        seq: u32::from_be(seq),
        ack: u32::from_be(ack),
        window: u16::from_be(control[1]),
        flags,
        icmp: [0; 2],
        payload_at,
        payload_len: ip.l3_end - payload_at,
    })
}

#[inline(always)]
fn udp(ip: &Ip, ports: u32, len: u16) -> Option<Transport> {
    let len = u16::from_be(len) as usize;
    let payload_at = ip.l4_at + udp::HEADER_LEN;
    if len < udp::HEADER_LEN || ip.l4_at + len > ip.l3_end {
        return None;
    }
    Some(Transport {
        ports: host_ports(ports),
        payload_at,
        payload_len: len - udp::HEADER_LEN,
        ..Transport::default()
    })
}

#[inline(always)]
fn icmp(ip: &Ip, kind_and_code: u16, identifier: u16) -> Option<Transport> {
    let icmp = kind_and_code.to_ne_bytes();
    let payload_at = ip.l4_at + icmp::HEADER_LEN;
    if payload_at > ip.l3_end {
        return None;
    }
    let identifier = if icmp::is_echo(icmp[0], ip.family) {
        u16::from_be(identifier)
    } else {
        0
    };
    Some(Transport {
        ports: [identifier; 2],
        icmp,
        payload_at,
        payload_len: ip.l3_end - payload_at,
        ..Transport::default()
    })
}

/// Two ports as one word of the wire.
#[inline(always)]
const fn host_ports(word: u32) -> [u16; 2] {
    let word = u32::from_be(word);
    [(word >> 16) as u16, word as u16]
}

/// Writes the packet in whole words: half as many stores, and the key is read from them at once.
#[inline(always)]
fn store(ip: &Ip, transport: Option<Transport>, packet: &mut Packet) -> bool {
    let Some(transport) = transport else {
        return false;
    };
    let [icmp_type, icmp_code] = transport.icmp;
    let [first, second, third, fourth] = ip.addrs;
    packet.set_words([
        first,
        second,
        third,
        fourth,
        pair(transport.payload_len as u32, ip.id as u32),
        pair(transport.seq, transport.ack),
        pair(ip.l3_end as u32, 0),
        quad([
            L3_AT as u16,
            ip.l4_at as u16,
            transport.payload_at as u16,
            ip.ethertype,
        ]),
        quad([transport.ports[0], transport.ports[1], ip.vlan, 0]),
        quad([transport.window, 0, 0, 0]),
        u64::from_ne_bytes([
            ip.family,
            ip.protocol,
            ip.ttl,
            ip.tos,
            transport.flags,
            tcp::NO_WINDOW_SCALE,
            icmp_type,
            icmp_code,
        ]),
        0,
    ]);
    true
}

/// The word that two numbers are in memory, one after the other.
#[inline(always)]
const fn pair(first: u32, second: u32) -> u64 {
    if cfg!(target_endian = "little") {
        first as u64 | (second as u64) << 32
    } else {
        (first as u64) << 32 | second as u64
    }
}

/// As [`pair`], of four numbers.
#[inline(always)]
const fn quad(numbers: [u16; 4]) -> u64 {
    let [first, second, third, fourth] = numbers;
    if cfg!(target_endian = "little") {
        first as u64 | (second as u64) << 16 | (third as u64) << 32 | (fourth as u64) << 48
    } else {
        (first as u64) << 48 | (second as u64) << 32 | (third as u64) << 16 | fourth as u64
    }
}
