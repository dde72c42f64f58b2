//! Packets inside packets.

use super::*;

/// What the packet inside `outer` shows: tunnel, id, family, ports.
type Inside = (u8, u32, u8, u16, u16);

fn inside(outer: &[u8]) -> Option<Result<Inside, Reject>> {
    let packet = ip(outer).unwrap();
    let inner = parse_inner(outer, &packet)?;
    Some(inner.map(|(inner, at)| {
        assert!(at > usize::from(packet.l4_at) || at == usize::from(packet.l4_at) && inner.tunnel > 3);
        (
            inner.tunnel,
            inner.tunnel_id,
            inner.family,
            inner.src_port,
            inner.dst_port,
        )
    }))
}

/// A UDP datagram to `port` with this header before `inner`.
fn over_udp(port: u16, header: &str, inner: &[u8]) -> Vec<u8> {
    let mut payload = hex("9bf4 0000 0000 0000");
    payload[2..4].copy_from_slice(&port.to_be_bytes());
    payload.extend(hex(header));
    payload.extend(inner);
    ip4_of(ip_proto::UDP, &payload)
}

fn ethernet_of(ip: &str) -> Vec<u8> {
    hex(&format!("{ETHERNET_IP4}{ip}"))
}

#[test]
fn vxlan() {
    let header = "08000000 00007b00";
    let inner = ethernet_of(IP4_UDP);
    assert_eq!(
        inside(&over_udp(4789, header, &inner)),
        Some(Ok((tunnel::kind::VXLAN, 123, 4, 38448, 53)))
    );
    assert_eq!(
        inside(&over_udp(8472, header, &inner)),
        Some(Ok((tunnel::kind::VXLAN, 123, 4, 38448, 53)))
    );
    assert_eq!(inside(&over_udp(4788, header, &inner)), None);
    assert_eq!(inside(&over_udp(4789, "00000000 00007b00", &inner)), None);
    assert_eq!(inside(&over_udp(4789, "08000000", &[])), None);
    assert_eq!(inside(&over_udp(4789, header, &[])), None);
    assert_eq!(
        inside(&over_udp(4789, header, &inner[..13])),
        Some(Err(Reject::LinkShort))
    );
    let mut arp = inner.clone();
    arp[13] = 6;
    assert_eq!(inside(&over_udp(4789, header, &arp)), Some(Err(Reject::Arp)));
}

#[test]
fn geneve() {
    let check = |header: &str, inner: &[u8], expected: Option<Inside>| {
        assert_eq!(
            inside(&over_udp(6081, header, inner)),
            expected.map(Ok),
            "{header}"
        );
    };
    let kind = tunnel::kind::GENEVE;
    check(
        "0000 86dd 12345600",
        &hex(IP6_UDP),
        Some((kind, 0x12_3456, 6, 30000, 13000)),
    );
    check(
        "0000 6558 00000100",
        &ethernet_of(IP4_UDP),
        Some((kind, 1, 4, 38448, 53)),
    );
    check(
        "0200 0800 00000100 0102 0301 deadbeef",
        &hex(IP4_UDP),
        Some((kind, 1, 4, 38448, 53)),
    );
    check("4000 0800 00000100", &hex(IP4_UDP), None);
    check("0000 88cc 00000100", &hex(IP4_UDP), None);
    check("3f00 0800 00000100", &hex(IP4_UDP), None);
}

#[test]
fn gre() {
    let check = |header: &str, inner: &[u8], expected: Option<Inside>| {
        let mut payload = hex(header);
        payload.extend(inner);
        assert_eq!(
            inside(&ip6_of(ip_proto::GRE, &payload)),
            expected.map(Ok),
            "{header}"
        );
    };
    let kind = tunnel::kind::GRE;
    let inner = hex(IP4_UDP);
    let found = |id| Some((kind, id, 4, 38448, 53));
    check("0000 0800", &inner, found(0));
    check("8000 0800 abcd0000", &inner, found(0));
    check("2000 0800 00000007", &inner, found(7));
    check("1000 0800 00000001", &inner, found(0));
    check("b000 0800 abcd0000 00000007 00000001", &inner, found(7));
    check("0000 6558", &ethernet_of(IP4_UDP), found(0));
    check("0000 86dd", &hex(IP6_UDP), Some((kind, 0, 6, 30000, 13000)));
    // PPTP: payload length and call stand where the key does, and are none; sequence and acknowledgement.
    let ppp = hex(&format!("ff03 0021 {IP4_UDP}"));
    check("3081 880b 0067 1780 000068fb 10000838", &ppp, found(0));
    check("2001 880b 0067 1780", &ppp, found(0));
    // Source routing, a later version, another protocol, cut.
    check("4000 0800 00000000", &inner, None);
    check("0002 0800", &inner, None);
    check("0000 88cc", &inner, None);
    check("2000 0800 0000", &[], None);
}

#[test]
fn ip_in_ip() {
    let ip4 = hex(IP4_UDP);
    let ip6 = hex(IP6_UDP);
    assert_eq!(
        inside(&ip4_of(ip_proto::IPV4, &ip4)),
        Some(Ok((tunnel::kind::IPIP, 0, 4, 38448, 53)))
    );
    assert_eq!(
        inside(&ip6_of(ip_proto::IPV4, &ip4)),
        Some(Ok((tunnel::kind::IPIP, 0, 4, 38448, 53)))
    );
    assert_eq!(
        inside(&ip4_of(ip_proto::IPV6, &ip6)),
        Some(Ok((tunnel::kind::IP6IN, 0, 6, 30000, 13000)))
    );
    assert_eq!(
        inside(&ip6_of(ip_proto::IPV6, &ip6)),
        Some(Ok((tunnel::kind::IP6IN, 0, 6, 30000, 13000)))
    );
    assert_eq!(inside(&ip4_of(ip_proto::IPV6, &ip4)), Some(Err(Reject::Ip6Short)));
    assert_eq!(inside(&ip4_of(ip_proto::IPV4, &[])), None);
    assert_eq!(inside(&ip4), None);
}

#[test]
fn a_later_fragment_of_a_tunnel_has_nothing_inside() {
    let mut outer = ip4_of(ip_proto::IPV4, &hex(IP4_UDP));
    outer[7] = 1;
    assert_eq!(inside(&outer), None);
}

#[test]
fn names_of_tunnels() {
    let names: Vec<Option<&str>> = (0..=6).map(tunnel::kind_name).collect();
    let expected = [
        None,
        Some("vxlan"),
        Some("geneve"),
        Some("gre"),
        Some("ipip"),
        Some("6in4"),
        None,
    ];
    assert_eq!(names, expected);
}
