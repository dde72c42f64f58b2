//! The short way through plain frames finds what the general walk finds.

use proptest::prelude::*;

use super::*;

/// Frames that the short way takes, as they begin.
fn plain_frames() -> Vec<Vec<u8>> {
    let tcp = hex("0035 1000 00000001 00000002 5010 000a 0000 0000 abcd");
    let tcp_with_options =
        hex("0035 1000 00000001 00000002 8010 000a 0000 0000 0101080a0102030405060708 abcd");
    let udp = hex("0035 1000 000a 0000 abcd");
    let echo = hex("0800 7165 1234 0001 abcd");
    let ethernet = |kind: u16, packet: Vec<u8>| {
        let mut frame = std::vec![2; 12];
        frame.extend(kind.to_be_bytes());
        frame.extend(packet);
        frame
    };
    let mut frames = Vec::new();
    for (protocol, payload) in [
        (ip_proto::TCP, &tcp),
        (ip_proto::TCP, &tcp_with_options),
        (ip_proto::UDP, &udp),
        (ip_proto::ICMP, &echo),
    ] {
        frames.push(ethernet(ethertype::IPV4, ip4_of(protocol, payload)));
    }
    let echo_v6 = hex("8000 7165 1234 0001 abcd");
    for (protocol, payload) in [
        (ip_proto::TCP, &tcp),
        (ip_proto::TCP, &tcp_with_options),
        (ip_proto::UDP, &udp),
        (ip_proto::ICMPV6, &echo_v6),
    ] {
        frames.push(ethernet(ethertype::IPV6, ip6_of(protocol, payload)));
    }
    frames
}

/// What both ways make of a frame; whether the short one took it.
fn compare(frame: &[u8], vlan: u16) -> bool {
    let start = Start {
        vlan,
        ..Start::of(Link::Ethernet, frame.len() as u32)
    };
    let mut general = Packet::default();
    let found = parse_any(frame, start, &mut general);
    // What was in its place before must not show.
    let mut plain = Packet {
        tunnel: 1,
        padding: [7; 7],
        ..general
    };
    let is_taken = parse_plain(frame, vlan, &mut plain);
    if is_taken {
        assert_eq!((found, plain), (Ok(()), general), "{frame:02x?}");
    }
    is_taken
}

#[test]
fn plain_frames_go_the_short_way() {
    for frame in plain_frames() {
        assert!(compare(&frame, 0), "{frame:02x?}");
        // Not one byte less of what its headers say is there.
        for len in 0..frame.len() {
            compare(&frame[..len], 0);
        }
    }
}

#[test]
fn frames_out_of_the_ordinary_go_the_long_way() {
    let check = |at: usize, byte: u8| {
        let mut frame = plain_frames().swap_remove(0);
        frame[at] = byte;
        assert!(!compare(&frame, 0), "byte {at} is {byte:#x}");
    };
    check(12, 0x81);
    check(14, 0x46);
    check(14, 0x65);
    check(17, 0);
    check(20, 0x20);
    check(21, 1);
    check(23, ip_proto::SCTP);
    check(46, 0x40);
    check(46, 0xf0);
    check(47, tcp::flag::SYN);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]
    #[test]
    fn both_ways_agree_on_mutated_frames(
        which in 0usize..8,
        mutations in prop::collection::vec((12usize..76, any::<u8>()), 0..4),
        cut in 0usize..100,
        vlan in prop::sample::select(&[0u16, 0x1007][..]),
    ) {
        let mut frame = plain_frames().swap_remove(which);
        for (at, byte) in mutations {
            if let Some(place) = frame.get_mut(at) {
                *place = byte;
            }
        }
        let len = frame.len().saturating_sub(cut / 10 * (cut % 10) / 4);
        compare(&frame[..len], vlan);
    }
}
