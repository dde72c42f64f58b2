//! Pending handshakes and aggregates.

use super::*;
use crate::ip_proto;
use crate::tcp::flag;

const SYN: u8 = flag::SYN;
const SYN_ACK: u8 = flag::SYN | flag::ACK;
const ACK: u8 = flag::ACK;
const TAG: u64 = 5;
const CLIENT: Direction = Direction::BToA;
const SERVER: Direction = Direction::AToB;

fn segment(flags: u8, seq: u32, ack: u32) -> Packet {
    Packet {
        tcp_flags: flags,
        tcp_seq: seq,
        tcp_ack: ack,
        protocol: ip_proto::TCP,
        ttl: 64,
        ..Packet::default()
    }
}

fn note(pending: &mut Pending, step: Step, packet: &Packet) -> bool {
    let direction = if step == Step::Syn { CLIENT } else { SERVER };
    pending.note(TAG, step, direction, packet, Size::one(60), 1000)
}

fn with_syn() -> Pending {
    let mut pending = Pending::default();
    assert!(note(&mut pending, Step::Syn, &segment(SYN, 100, 0)));
    pending
}

fn with_answer() -> Pending {
    let mut pending = with_syn();
    assert!(note(&mut pending, Step::SynAck, &segment(SYN_ACK, 500, 101)));
    pending
}

#[test]
fn an_answer_only_joins_the_syn_it_acknowledges() {
    assert!(!note(
        &mut Pending::default(),
        Step::SynAck,
        &segment(SYN_ACK, 500, 101)
    ));
    let mut pending = with_syn();
    assert!(!note(&mut pending, Step::SynAck, &segment(SYN_ACK, 500, 102)));
    assert!(!pending.note(
        9,
        Step::SynAck,
        SERVER,
        &segment(SYN_ACK, 500, 101),
        Size::one(60),
        0
    ));
    assert_eq!(pending, with_syn());
    assert!(note(&mut pending, Step::SynAck, &segment(SYN_ACK, 500, 101)));
    assert_eq!((pending.sides[0].packets, pending.sides[1].packets), (1, 1));
}

#[test]
fn a_syn_of_another_flow_takes_the_cell() {
    let mut pending = with_answer();
    assert!(pending.note(9, Step::Syn, SERVER, &segment(SYN, 7, 0), Size::one(60), 0));
    assert_eq!(
        (pending.tag, pending.client, pending.sides[1].packets),
        (9, SERVER as u8, 0)
    );
}

#[test]
fn a_syn_with_another_number_begins_anew() {
    let mut pending = with_answer();
    assert!(note(&mut pending, Step::Syn, &segment(SYN, 7_000, 0)));
    assert_eq!(
        (
            pending.sides[1].seq,
            pending.sides[1].packets,
            pending.sides[0].packets
        ),
        (7_000, 1, 0)
    );
    assert_eq!(pending.is_measured, 0);
}

#[test]
fn packets_bytes_and_first_times_are_kept() {
    let mut pending = with_syn();
    assert!(pending.note(TAG, Step::Syn, CLIENT, &segment(SYN, 100, 0), Size::one(60), 9000));
    let side = pending.sides[CLIENT as usize];
    assert_eq!(
        (side.packets, side.bytes, side.syn_ns, side.frame_len),
        (2, 120, 1000, 60)
    );
}

#[test]
fn what_completes_a_handshake() {
    let answered = with_answer();
    let check = |pending: &Pending, direction, packet: &Packet, expected: bool| {
        assert_eq!(
            pending.completes(TAG, direction, packet),
            expected,
            "{direction:?} {packet:?}"
        );
        assert!(!pending.completes(TAG + 1, direction, packet));
    };
    check(&answered, CLIENT, &segment(ACK, 101, 501), true);
    check(&answered, CLIENT, &segment(ACK, 101, 502), false);
    check(&answered, CLIENT, &segment(ACK, 102, 501), false);
    check(&answered, CLIENT, &segment(0, 101, 501), false);
    check(
        &answered,
        CLIENT,
        &Packet {
            payload_len: 9,
            ..segment(ACK, 101, 777)
        },
        true,
    );
    check(
        &answered,
        SERVER,
        &Packet {
            payload_len: 9,
            ..segment(ACK, 501, 101)
        },
        true,
    );
    // One direction seen only.
    check(&with_syn(), CLIENT, &segment(ACK, 101, 1), true);
    check(&with_syn(), CLIENT, &segment(ACK, 102, 1), false);
    check(&with_syn(), SERVER, &segment(ACK, 501, 101), true);
    check(&with_syn(), SERVER, &segment(ACK, 501, 102), false);
    check(&with_syn(), SERVER, &segment(0, 501, 101), false);
    assert!(!Pending::default().completes(TAG, CLIENT, &segment(ACK, 1, 1)));
}

#[test]
fn data_in_a_syn_may_be_taken_or_not() {
    for (acknowledged, next) in [(101, 101), (151, 151)] {
        let mut pending = Pending::default();
        assert!(note(
            &mut pending,
            Step::Syn,
            &Packet {
                payload_len: 50,
                ..segment(SYN, 100, 0)
            }
        ));
        assert!(note(
            &mut pending,
            Step::SynAck,
            &segment(SYN_ACK, 500, acknowledged)
        ));
        assert!(pending.completes(TAG, CLIENT, &segment(ACK, next, 501)));
        assert!(!pending.completes(TAG, CLIENT, &segment(ACK, 120, 501)));
    }
}

#[test]
fn sequence_numbers_wrap() {
    let mut pending = Pending::default();
    assert!(note(&mut pending, Step::Syn, &segment(SYN, u32::MAX, 0)));
    assert!(note(&mut pending, Step::SynAck, &segment(SYN_ACK, u32::MAX, 0)));
    assert!(pending.completes(TAG, CLIENT, &segment(ACK, 0, 0)));
}

#[test]
fn an_aggregate_is_about_the_service() {
    let check = |flags: u8, src_port: u16, dst_port: u16, from: u8| {
        let packet = Packet {
            src: Addr::v4([1, 1, 1, 1]),
            dst: Addr::v4([2, 2, 2, 2]),
            src_port,
            dst_port,
            family: 4,
            ..segment(flags, 0, 0)
        };
        let key = AggregateKey::of(&packet, 3);
        let (addr, port) = if from == 1 {
            (packet.src, src_port)
        } else {
            (packet.dst, dst_port)
        };
        let expected = AggregateKey {
            addr,
            ifindex: 3,
            port,
            protocol: ip_proto::TCP,
            family: 4,
            from,
            padding: [0; 3],
        };
        assert_eq!(key, expected);
    };
    check(SYN, 40_000, 443, 0);
    check(SYN, 443, 40_000, 0);
    check(SYN_ACK, 443, 40_000, 1);
    check(SYN_ACK, 40_000, 443, 1);
    check(ACK, 40_000, 443, 0);
    check(ACK, 443, 40_000, 1);
    check(flag::RST, 443, 40_000, 1);
    check(0, 0, 0, 0);
}

#[test]
fn an_aggregate_of_icmp_is_about_who_is_asked() {
    let check = |protocol: u8, icmp_type: u8, from: u8| {
        let packet = Packet {
            src: Addr::v4([1, 1, 1, 1]),
            dst: Addr::v4([2, 2, 2, 2]),
            src_port: 77,
            dst_port: 77,
            family: if protocol == ip_proto::ICMP { 4 } else { 6 },
            protocol,
            icmp_type,
            ..Packet::default()
        };
        let key = AggregateKey::of(&packet, 3);
        let expected = AggregateKey {
            addr: if from == 1 { packet.src } else { packet.dst },
            ifindex: 3,
            port: 0,
            protocol,
            family: packet.family,
            from,
            padding: [0; 3],
        };
        assert_eq!(key, expected);
    };
    check(ip_proto::ICMP, 8, 0);
    check(ip_proto::ICMP, 0, 1);
    check(ip_proto::ICMP, 3, 1);
    check(ip_proto::ICMPV6, 128, 0);
    check(ip_proto::ICMPV6, 129, 1);
    check(ip_proto::ICMPV6, 1, 1);
    check(ip_proto::ICMPV6, 135, 0);
}
