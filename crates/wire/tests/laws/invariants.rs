//! What holds for every frame, whatever its bytes. Shared by the property tests, the replay of the
//! fuzz seeds and the fuzz target.

use std::net::IpAddr;

use wire::flow::{StampedAt, row_flag};
use wire::parse::{note, parse_inner};
use wire::rows::{AggregateKey, Pending, Step};
use wire::tcp::flag;
use wire::{Direction, FlowKey, FlowRow, Link, Load, Packet, Reject, Size, Start, ip_proto, parse};

/// Every link layer.
pub(crate) const LINKS: [Link; 19] = [
    Link::Ethernet,
    Link::Raw,
    Link::Ipv4,
    Link::Ipv6,
    Link::Null,
    Link::Loop,
    Link::Sll,
    Link::Sll2,
    Link::Ppp,
    Link::PppEther,
    Link::CiscoHdlc,
    Link::Ieee80211,
    Link::Radiotap,
    Link::Prism,
    Link::Ppi,
    Link::Fddi,
    Link::FrameRelay,
    Link::Nflog,
    Link::EthernetMpacket,
];

/// Packets inside packets that are followed.
const DEPTH_MAX: usize = 4;

/// Checks a fuzz input: the first byte chooses the link layer, the second how much longer the frame
/// was on the wire and how much of it is cut off for a second look.
pub(crate) fn check_input(input: &[u8]) {
    let [link, more, frame @ ..] = input else { return };
    let link = LINKS[usize::from(*link) % LINKS.len()];
    let more = usize::from(*more);
    let _ = check_frame(link, frame, (frame.len() + more) as u32);
    let prefix = &frame[..frame.len().saturating_sub(more)];
    check_prefix(link, frame, prefix.len());
}

/// Parses a frame of `frame_len` bytes of which `frame` was captured, and all that it carries.
///
/// # Panics
/// If an invariant does not hold.
pub(crate) fn check_frame(link: Link, frame: &[u8], frame_len: u32) -> Result<Packet, Reject> {
    let found = parse(frame, Start::of(link, frame_len));
    let Ok(packet) = found else { return found };
    check_packet(&packet, frame);
    assert_eq!((packet.tunnel, packet.tunnel_id), (0, 0));
    let mut outer = packet;
    for _ in 0..DEPTH_MAX {
        let Some(Ok((inner, at))) = parse_inner(frame, &outer) else {
            break;
        };
        assert!(at >= usize::from(outer.l4_at) && at < outer.l3_end as usize);
        assert!(at <= usize::from(inner.l3_at));
        assert_ne!(inner.tunnel, 0);
        check_packet(&inner, frame);
        outer = inner;
    }
    found
}

/// The first `len` bytes of a frame say nothing that the whole does not say.
pub(crate) fn check_prefix(link: Link, frame: &[u8], len: usize) {
    let frame_len = frame.len() as u32;
    let (whole, part) = (
        check_frame(link, frame, frame_len),
        check_frame(link, &frame[..len], frame_len),
    );
    let Ok(part) = part else { return };
    let whole = whole.expect("what a prefix shows, the whole shows");
    assert_eq!(
        (part.src, part.dst, part.l3_at),
        (whole.src, whole.dst, whole.l3_at)
    );
    let has_ports = part.src_port != 0 || part.dst_port != 0;
    if has_ports {
        assert_eq!((part.src_port, part.dst_port), (whole.src_port, whole.dst_port));
        assert_eq!((part.l4_at, part.protocol), (whole.l4_at, whole.protocol));
    }
}

fn check_packet(packet: &Packet, frame: &[u8]) {
    check_network(packet, frame);
    check_transport(packet, frame);
    check_key(packet);
    check_row(packet);
}

fn check_network(packet: &Packet, frame: &[u8]) {
    let at = usize::from(packet.l3_at);
    let addresses = match packet.family {
        4 => frame.bytes::<8>(at + 12).map(|b| b.to_vec()),
        6 => frame.bytes::<32>(at + 8).map(|b| b.to_vec()),
        other => panic!("family {other}"),
    };
    let addresses = addresses.expect("the addresses are in the frame");
    let shown = [packet.src, packet.dst].map(|addr| match addr.to_ip(packet.family) {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    });
    assert_eq!(shown.concat(), addresses);
    let header_len = if packet.family == 4 { 20 } else { 40 };
    assert!(usize::from(packet.l4_at) >= at + header_len);
    assert!(packet.payload_at >= packet.l4_at);
    let rest = packet.l3_end.saturating_sub(u32::from(packet.payload_at));
    assert!(packet.payload_len == rest || packet.protocol == ip_proto::UDP && packet.payload_len < rest);
    let is_later = packet.notes & note::FRAGMENT_LATER != 0;
    assert_eq!(is_later, packet.frag_offset != 0);
    assert!(!is_later || packet.notes & note::FRAGMENT_FIRST == 0);
}

fn check_transport(packet: &Packet, frame: &[u8]) {
    let at = usize::from(packet.l4_at);
    let in_packet = |len: usize| at + len <= packet.l3_end as usize;
    let unread = packet.notes & (note::FRAGMENT_LATER | note::EXTENSIONS_BAD) != 0;
    let ports = match packet.protocol {
        _ if unread => None,
        ip_proto::TCP | ip_proto::UDP | ip_proto::UDP_LITE | ip_proto::SCTP | ip_proto::DCCP => {
            let has_ports = in_packet(4);
            frame.be16(at).zip(frame.be16(at + 2)).filter(|_| has_ports)
        }
        ip_proto::ICMP | ip_proto::ICMPV6 if packet.src_port != 0 => {
            assert!(in_packet(8));
            frame.be16(at + 4).map(|identifier| (identifier, identifier))
        }
        _ => None,
    };
    assert_eq!((packet.src_port, packet.dst_port), ports.unwrap_or((0, 0)));
    let has_tcp =
        packet.tcp_flags != 0 || packet.tcp_seq != 0 || packet.tcp_ack != 0 || packet.tcp_window != 0;
    if has_tcp {
        assert!(packet.protocol == ip_proto::TCP && !unread && in_packet(20));
        assert_eq!(frame.byte(at + 13), Some(packet.tcp_flags));
    }
    if packet.tcp_mss != 0 || packet.tcp_window_scale != wire::tcp::NO_WINDOW_SCALE {
        assert!(packet.tcp_flags & flag::SYN != 0);
    }
}

fn check_key(packet: &Packet) {
    let (key, direction) = FlowKey::of(packet, 1);
    let back = Packet {
        src: packet.dst,
        dst: packet.src,
        src_port: packet.dst_port,
        dst_port: packet.src_port,
        ..*packet
    };
    let (key_back, direction_back) = FlowKey::of(&back, 1);
    assert_eq!(key, key_back);
    let has_one_end = (packet.src, packet.src_port) == (packet.dst, packet.dst_port);
    assert!(has_one_end || direction_back == direction.opposite());
    assert_eq!(key.source(direction), (packet.src, packet.src_port));
    let aggregate = AggregateKey::of(packet, 1);
    let (addr, port) = if aggregate.from == 1 {
        (packet.src, packet.src_port)
    } else {
        (packet.dst, packet.dst_port)
    };
    let has_ports = !matches!(packet.protocol, ip_proto::ICMP | ip_proto::ICMPV6);
    assert_eq!(
        (aggregate.addr, aggregate.port),
        (addr, if has_ports { port } else { 0 })
    );
}

/// Accounts the packet three times, the middle one as an answer.
fn check_row(packet: &Packet) {
    let (_, direction) = FlowKey::of(packet, 1);
    let mut row = FlowRow::begin(direction, 1_000_000, 1);
    let steps = [
        (direction, 1_000),
        (direction.opposite(), 1_400),
        (direction, 9_000),
    ];
    for (direction, at_us) in steps {
        row.account(
            direction,
            packet,
            Size::one(packet.l3_end),
            &StampedAt(at_us * 1000),
        );
    }
    let index = direction as usize;
    assert_eq!(
        (row.counts[index].packets(), row.counts[1 - index].packets()),
        (2, 1)
    );
    assert_eq!(row.counts[index].bytes, 2 * u64::from(packet.l3_end));
    assert_eq!((row.first_ns, row.last_ns), (1_000_000, 9_000_000));
    assert!(row.connections <= 1);
    for side in &row.sides {
        assert!(side.ttl_min <= side.ttl_max);
        assert!(side.retransmits + side.out_of_order <= 1);
    }
    let is_control = packet.tcp_flags & (flag::SYN | flag::RST | flag::FIN) != 0;
    assert!(is_control || row.flags & !row_flag::FRAGMENTS == 0);
    check_pending(packet, direction);
}

fn check_pending(packet: &Packet, direction: Direction) {
    let mut pending = Pending::default();
    let size = Size::one(packet.l3_end);
    assert!(!pending.note(7, Step::SynAck, direction, packet, size, 5_000));
    assert!(pending.note(7, Step::Syn, direction, packet, size, 5_000));
    let next = Packet {
        tcp_seq: packet.tcp_seq.wrapping_add(1),
        ..*packet
    };
    assert!(pending.completes(7, direction, &next));
    let mut row = FlowRow::begin(direction, 9_000_000, 0);
    row.adopt(&pending);
    assert_eq!(
        (row.counts[direction as usize].packets(), row.adopted_packets),
        (1, 1)
    );
    assert_eq!((row.first_ns, row.client), (5_000, direction as u8));
}
