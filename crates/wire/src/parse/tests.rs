//! Packets: IP, extension headers, fragments, transport headers, tunnels.

mod plain;
mod tunnels;

use std::format;
use std::string::String;
use std::vec::Vec;

use super::*;
use crate::samples::{ETHERNET_IP4, IP4_TCP_SYN, IP4_UDP, IP6_UDP, hex};

/// Parses an IP packet with nothing before it.
fn ip(bytes: &[u8]) -> Result<Packet, Reject> {
    parse(bytes, Start::of(Link::Raw, bytes.len() as u32))
}

/// An IPv4 packet of 10.0.0.1 to 10.0.0.2 with the right length.
fn ip4_of(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = hex("45000000 00000000 40000000 0a000001 0a000002");
    packet[9] = protocol;
    packet[2..4].copy_from_slice(&((20 + payload.len()) as u16).to_be_bytes());
    packet.extend(payload);
    packet
}

/// An IPv6 packet of 2001:db8::1 to 2001:db8::2 with the right length.
fn ip6_of(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet =
        hex("60000000 00000040 20010db8000000000000000000000001 20010db8000000000000000000000002");
    packet[6] = next_header;
    packet[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
    packet.extend(payload);
    packet
}

#[test]
fn tcp_over_ethernet() {
    let mut frame = hex(ETHERNET_IP4);
    frame.extend(hex(IP4_TCP_SYN));
    frame.extend([0xee; 2]);
    let packet = parse(frame.as_slice(), Start::of(Link::Ethernet, frame.len() as u32)).unwrap();
    let expected = Packet {
        src: Addr::v4([10, 1, 2, 1]),
        dst: Addr::v4([10, 34, 0, 1]),
        tcp_seq: 0x9832_0ffb,
        l3_end: 58,
        l3_at: 14,
        l4_at: 34,
        payload_at: 58,
        ethertype: ethertype::IPV4,
        src_port: 11001,
        dst_port: 23,
        tcp_window: 4128,
        tcp_mss: 536,
        family: 4,
        protocol: ip_proto::TCP,
        ttl: 255,
        tos: 0xc0,
        tcp_flags: tcp::flag::SYN,
        tcp_window_scale: tcp::NO_WINDOW_SCALE,
        ..Packet::default()
    };
    assert_eq!(packet, expected);
}

#[test]
fn udp_over_ipv6() {
    let packet = ip(&hex(IP6_UDP)).unwrap();
    assert_eq!(
        (packet.family, packet.protocol, packet.ttl),
        (6, ip_proto::UDP, 64)
    );
    assert_eq!(format!("{}", packet.src.to_ip(6)), "dead::beef");
    assert_eq!(format!("{}", packet.dst.to_ip(6)), "cafe::babe");
    assert_eq!((packet.src_port, packet.dst_port), (30000, 13000));
    assert_eq!(
        (packet.l4_at, packet.payload_at, packet.payload_len, packet.l3_end),
        (40, 48, 4, 52)
    );
}

#[test]
fn transport_headers() {
    let check = |protocol: u8, payload: &str, ports: (u16, u16), header_len: u16, notes: u16| {
        let payload = hex(payload);
        for (packet, at) in [(ip4_of(protocol, &payload), 20), (ip6_of(protocol, &payload), 40)] {
            let packet = ip(&packet).unwrap();
            assert_eq!((packet.src_port, packet.dst_port), ports, "protocol {protocol}");
            assert_eq!(packet.payload_at, at + header_len, "protocol {protocol}");
            assert_eq!(
                packet.payload_len as usize,
                payload.len() - usize::from(header_len)
            );
            assert_eq!(packet.notes, notes, "protocol {protocol}");
        }
    };
    check(ip_proto::UDP, "0035 1000 000a 0000 abcd", (53, 4096), 8, 0);
    check(ip_proto::UDP_LITE, "0035 1000 0008 0000 abcd", (53, 4096), 8, 0);
    check(
        ip_proto::SCTP,
        "0b59 0b5a 00000000 00000000 01",
        (2905, 2906),
        12,
        0,
    );
    check(
        ip_proto::DCCP,
        "0b59 0b5a 04000000 00000000 01",
        (2905, 2906),
        12,
        0,
    );
    check(ip_proto::ESP, "0035 1000 00000001 abcd", (0, 0), 0, 0);
    check(112, "2133 0101 0000 0000", (0, 0), 0, 0);
    check(253, "0035 1000 0000 0000", (0, 0), 0, 0);
    // Headers cut by the packet's own end.
    check(ip_proto::UDP, "0035 1000", (53, 4096), 0, note::L4_SHORT);
    check(ip_proto::UDP, "0035 10", (0, 0), 0, note::L4_SHORT);
    check(
        ip_proto::TCP,
        "0035 1000 00000001 00000002 5002 000a",
        (53, 4096),
        0,
        note::L4_SHORT,
    );
    check(
        ip_proto::SCTP,
        "0b59 0b5a 00000000",
        (2905, 2906),
        0,
        note::L4_SHORT,
    );
    check(ip_proto::ICMP, "0800 0000 0001", (0, 0), 0, note::L4_SHORT);
    // Headers that contradict themselves.
    check(
        ip_proto::TCP,
        "0035 1000 00000001 00000002 4002 000a 0000 0000",
        (53, 4096),
        0,
        note::L4_BAD,
    );
    check(
        ip_proto::TCP,
        "0035 1000 00000001 00000002 6002 000a 0000 0000",
        (53, 4096),
        0,
        note::L4_BAD,
    );
    check(
        ip_proto::UDP,
        "0035 1000 0007 0000 abcd",
        (53, 4096),
        8,
        note::L4_BAD,
    );
    check(
        ip_proto::UDP,
        "0035 1000 000b 0000 abcd",
        (53, 4096),
        8,
        note::L4_BAD,
    );
    check(ip_proto::UDP, "0035 1000 0000 0000 abcd", (53, 4096), 8, 0);
}

#[test]
fn icmp_echoes_are_flows_by_identifier() {
    let echo = hex("08007165 1234 0001 abcd");
    let packet = ip(&ip4_of(ip_proto::ICMP, &echo)).unwrap();
    assert_eq!((packet.icmp_type, packet.icmp_code), (8, 0));
    assert_eq!(
        (packet.src_port, packet.dst_port, packet.payload_len),
        (0x1234, 0x1234, 2)
    );
    let packet = ip(&ip6_of(ip_proto::ICMPV6, &hex("8000 0000 1234 0001"))).unwrap();
    assert_eq!((packet.icmp_type, packet.src_port), (128, 0x1234));
    let packet = ip(&ip4_of(ip_proto::ICMP, &hex("0303 0000 1234 0001"))).unwrap();
    assert_eq!((packet.icmp_type, packet.icmp_code, packet.src_port), (3, 3, 0));
}

#[test]
fn what_follows_the_packet_is_no_header() {
    // Frames are padded to 60 bytes; here with what looks like ports.
    for protocol in [ip_proto::TCP, ip_proto::UDP, ip_proto::SCTP, ip_proto::ICMP] {
        let mut packet = ip4_of(protocol, &[]);
        packet.extend([0x08; 40]);
        let packet = ip(&packet).unwrap();
        assert_eq!(
            (
                packet.src_port,
                packet.dst_port,
                packet.tcp_flags,
                packet.icmp_type
            ),
            (0, 0, 0, 0)
        );
        assert_eq!((packet.notes, packet.payload_len), (note::L4_SHORT, 0));
    }
    let mut packet = ip6_of(ip_proto::DEST_OPTIONS, &[0x11, 0, 0, 0]);
    packet.extend([0x11; 40]);
    let packet = ip(&packet).unwrap();
    assert_eq!(
        (packet.protocol, packet.notes),
        (ip_proto::DEST_OPTIONS, note::EXTENSIONS_BAD)
    );
}

#[test]
fn the_udp_length_ends_the_payload() {
    let packet = ip(&ip4_of(ip_proto::UDP, &hex("0035 1000 000a 0000 abcd eeee"))).unwrap();
    assert_eq!((packet.payload_len, packet.notes), (2, 0));
}

#[test]
fn options_of_ipv4() {
    let mut bytes = ip4_of(ip_proto::UDP, &hex("94040000 0035 1000 0008 0000"));
    bytes[0] = 0x46;
    let packet = ip(&bytes).unwrap();
    assert_eq!(
        (packet.notes, packet.l4_at, packet.src_port),
        (note::IP_OPTIONS, 24, 53)
    );
    // Options cut by the capture.
    let packet = ip(&bytes[..22]).unwrap();
    assert_eq!(
        (packet.notes, packet.src_port),
        (note::IP_OPTIONS | note::L4_SHORT, 0)
    );
}

#[test]
fn lengths_of_ipv4() {
    let with_total_len = |len: u16| {
        let mut bytes = hex(IP4_UDP);
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        ip(&bytes)
    };
    assert_eq!(with_total_len(19), Err(Reject::Ip4TotalLength));
    assert_eq!(with_total_len(20).unwrap().notes, note::L4_SHORT);
    // Left to the device to fill in.
    assert_eq!(with_total_len(0).unwrap().l3_end, 32);
    // The capture is shorter than the packet.
    assert_eq!(with_total_len(1500).unwrap().l3_end, 1500);
}

#[test]
fn a_frame_longer_than_its_capture_ends_where_it_did_on_the_wire() {
    let mut bytes = hex(IP4_TCP_SYN);
    bytes[2..4].copy_from_slice(&[0, 0]);
    let packet = parse(bytes.as_slice(), Start::of(Link::Ipv4, 66_000)).unwrap();
    assert_eq!((packet.l3_end, packet.payload_len), (66_000, 66_000 - 44));
}

#[test]
fn broken_network_headers() {
    let check = |link: Link, digits: &str, expected: Reject| {
        let bytes = hex(digits);
        assert_eq!(
            parse(bytes.as_slice(), Start::of(link, 60)),
            Err(expected),
            "{digits}"
        );
    };
    let ip4 = |start: &str| format!("{start}{}", "00".repeat(30));
    check(Link::Ipv4, "4500001c", Reject::Ip4Short);
    check(Link::Ipv4, &ip4("6500001c"), Reject::Ip4Version);
    check(Link::Ipv4, &ip4("4400001c"), Reject::Ip4HeaderLength);
    check(Link::Ipv4, &ip4("46000017"), Reject::Ip4TotalLength);
    check(Link::Ipv6, "6000", Reject::Ip6Short);
    check(Link::Ipv6, &format!("50{}", "00".repeat(40)), Reject::Ip6Version);
    let ethernet = |rest: &str| format!("{}{rest}", "00".repeat(12));
    check(Link::Ethernet, &ethernet("0806 0001"), Reject::Arp);
    check(Link::Ethernet, &ethernet("88cc 0001"), Reject::NotIp);
}

#[test]
fn reasons_are_numbered_and_named() {
    for (number, reject) in Reject::ALL.iter().enumerate() {
        assert_eq!(*reject as usize, number);
        assert!(
            Reject::ALL
                .iter()
                .filter(|other| other.name() == reject.name())
                .count()
                == 1
        );
    }
    assert!(!Reject::Arp.is_fault() && !Reject::Encrypted.is_fault());
    assert!(Reject::LinkShort.is_fault() && Reject::Ip6Version.is_fault());
}

/// Extension headers of these kinds, 8 bytes each, then UDP.
fn chain(kinds: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    for i in 0..kinds.len() {
        let next = kinds.get(i + 1).copied().unwrap_or(ip_proto::UDP);
        payload.extend([next, 0, 0, 0, 0, 0, 0, 0]);
    }
    payload.extend(hex("0035 1000 0008 0000"));
    ip6_of(kinds[0], &payload)
}

#[test]
fn extension_headers() {
    for kind in [0, 43, 44, 51, 60, 135, 139, 140] {
        let packet = ip(&chain(&[kind])).unwrap();
        assert_eq!(
            (packet.protocol, packet.notes),
            (ip_proto::UDP, note::EXTENSIONS),
            "kind {kind}"
        );
        assert_eq!(
            (packet.l4_at, packet.src_port, packet.dst_port),
            (48, 53, 4096),
            "kind {kind}"
        );
    }
    let packet = ip(&chain(&[0, 60, 43, 44, 51, 60])).unwrap();
    assert_eq!(
        (packet.protocol, packet.l4_at, packet.src_port),
        (ip_proto::UDP, 88, 53)
    );
}

#[test]
fn long_extension_headers() {
    let mut payload = hex("1101");
    payload.resize(16, 0);
    payload.extend(hex("0035 1000 0008 0000"));
    let packet = ip(&ip6_of(ip_proto::ROUTING, &payload)).unwrap();
    assert_eq!((packet.l4_at, packet.src_port), (56, 53));
    // The length of an authentication header counts in other units.
    payload[1] = 2;
    let packet = ip(&ip6_of(ip_proto::AH, &payload)).unwrap();
    assert_eq!((packet.l4_at, packet.src_port), (56, 53));
}

#[test]
fn no_ports_behind_an_unknown_next_header() {
    let allowed = [0, 43, 44, 51, 60, 135, 139, 140];
    let with_ports = [
        ip_proto::TCP,
        ip_proto::UDP,
        ip_proto::UDP_LITE,
        ip_proto::SCTP,
        ip_proto::DCCP,
    ];
    for kind in 0..=255 {
        if allowed.contains(&kind) || with_ports.contains(&kind) {
            continue;
        }
        let packet = ip(&chain(&[60, kind])).unwrap();
        assert_eq!((packet.protocol, packet.src_port, packet.dst_port), (kind, 0, 0));
        assert_eq!(packet.l4_at, 48);
    }
}

#[test]
fn chains_that_are_too_long_or_cut() {
    let longest = [60; ipv6::EXTENSIONS_MAX];
    assert_eq!(ip(&chain(&longest)).unwrap().src_port, 53);
    let packet = ip(&chain(&[60; ipv6::EXTENSIONS_MAX + 1])).unwrap();
    assert_eq!(packet.notes, note::EXTENSIONS | note::EXTENSIONS_BAD);
    assert_eq!((packet.src_port, packet.dst_port), (0, 0));
    let bytes = chain(&[60, 43]);
    let packet = ip(&bytes[..49]).unwrap();
    assert_eq!(packet.notes, note::EXTENSIONS | note::EXTENSIONS_BAD);
    assert_eq!((packet.protocol, packet.src_port), (43, 0));
    let packet = ip(&chain(&[44])[..45]).unwrap();
    assert_eq!(
        (packet.protocol, packet.notes),
        (44, note::EXTENSIONS | note::EXTENSIONS_BAD)
    );
}

#[test]
fn fragments_of_ipv4() {
    let with_field = |field: u16| {
        let mut bytes = hex(IP4_UDP);
        bytes[4..6].copy_from_slice(&[0xbe, 0xef]);
        bytes[6..8].copy_from_slice(&field.to_be_bytes());
        ip(&bytes).unwrap()
    };
    let first = with_field(0x2000);
    assert_eq!(
        (first.notes, first.frag_offset, first.frag_id),
        (note::FRAGMENT_FIRST, 0, 0xbeef)
    );
    assert_eq!((first.src_port, first.dst_port), (38448, 53));
    let middle = with_field(0x2001);
    assert_eq!((middle.notes, middle.frag_offset), (note::FRAGMENT_LATER, 8));
    assert_eq!((middle.src_port, middle.dst_port, middle.payload_len), (0, 0, 12));
    let last = with_field(0x1fff);
    assert_eq!((last.notes, last.frag_offset), (note::FRAGMENT_LATER, 0xfff8));
    assert_eq!(with_field(0x4000).notes, 0);
}

#[test]
fn the_first_fragment_of_a_long_datagram_is_sound() {
    let mut bytes = ip4_of(ip_proto::UDP, &hex("0035 1000 0fff 0000 abcd"));
    bytes[6] = 0x20;
    let packet = ip(&bytes).unwrap();
    assert_eq!((packet.notes, packet.payload_len), (note::FRAGMENT_FIRST, 2));
}

#[test]
fn fragments_of_ipv6() {
    let with_field = |next: u8, field: &str| {
        let payload = hex(&format!("{next:02x}00 {field} 0badcafe 0035 1000 0008 0000"));
        ip(&ip6_of(ip_proto::FRAGMENT, &payload)).unwrap()
    };
    let first = with_field(17, "0001");
    assert_eq!(first.notes, note::EXTENSIONS | note::FRAGMENT_FIRST);
    assert_eq!((first.frag_id, first.src_port), (0x0bad_cafe, 53));
    let later = with_field(17, "0009");
    assert_eq!(later.notes, note::EXTENSIONS | note::FRAGMENT_LATER);
    assert_eq!((later.frag_offset, later.src_port, later.l4_at), (8, 0, 48));
    // Data of a later fragment is not walked as headers.
    let later = with_field(60, "0008");
    assert_eq!((later.protocol, later.l4_at, later.src_port), (60, 48, 0));
    // All in one fragment (RFC 6946).
    let atomic = with_field(17, "0000");
    assert_eq!((atomic.notes, atomic.src_port), (note::EXTENSIONS, 53));
}

#[test]
fn a_fragment_in_a_fragment_is_not_followed() {
    for second in ["0009", "0001", "0000"] {
        let payload = hex(&format!(
            "2c00 0001 00000001 1100 {second} 00000002 0035 1000 0008 0000"
        ));
        let packet = ip(&ip6_of(ip_proto::FRAGMENT, &payload)).unwrap();
        assert_eq!(
            packet.notes,
            note::EXTENSIONS | note::EXTENSIONS_BAD | note::FRAGMENT_FIRST
        );
        assert_eq!((packet.frag_id, packet.frag_offset, packet.src_port), (1, 0, 0));
    }
}

#[test]
fn no_prefix_has_ports_that_it_does_not_hold() {
    let frames: [String; 3] = [
        format!("{ETHERNET_IP4}{IP4_TCP_SYN}"),
        format!("{ETHERNET_IP4}{IP4_UDP}"),
        format!("{}86dd{IP6_UDP}", "00".repeat(12)),
    ];
    for frame in frames {
        let frame = hex(&frame);
        let whole = parse(frame.as_slice(), Start::of(Link::Ethernet, frame.len() as u32)).unwrap();
        for len in 0..frame.len() {
            let Ok(packet) = parse(&frame[..len], Start::of(Link::Ethernet, frame.len() as u32)) else {
                assert!(len < usize::from(whole.l4_at));
                continue;
            };
            let has_ports = len >= usize::from(whole.l4_at) + 4;
            let expected = if has_ports {
                (whole.src_port, whole.dst_port)
            } else {
                (0, 0)
            };
            assert_eq!((packet.src_port, packet.dst_port), expected);
            assert_eq!((packet.src, packet.dst), (whole.src, whole.dst));
        }
    }
}
