//! Keys, hashes and rows.

mod adopt;
mod handshake;
mod keys;
mod sequence;

use super::*;
use crate::{Link, Start, parse};

const CLIENT: (u8, u16) = (1, 40_000);
const SERVER: (u8, u16) = (2, 443);

/// One segment of the connection between client and server.
#[derive(Clone, Copy)]
struct Segment {
    at_us: u64,
    from_client: bool,
    flags: u8,
    seq: u32,
    ack: u32,
    len: u32,
    window: u16,
}

const fn segment(at_us: u64, from_client: bool, flags: u8, seq: u32, len: u32) -> Segment {
    Segment {
        at_us,
        from_client,
        flags,
        seq,
        ack: 0,
        len,
        window: 1000,
    }
}

const fn client(at_us: u64, flags: u8, seq: u32, len: u32) -> Segment {
    segment(at_us, true, flags, seq, len)
}

const fn server(at_us: u64, flags: u8, seq: u32, len: u32) -> Segment {
    segment(at_us, false, flags, seq, len)
}

const SYN: u8 = flag::SYN;
const SYN_ACK: u8 = flag::SYN | flag::ACK;
const ACK: u8 = flag::ACK;
const FIN: u8 = flag::FIN | flag::ACK;
const RST: u8 = flag::RST;

impl Segment {
    fn packet(&self) -> Packet {
        let (from, to) = if self.from_client {
            (CLIENT, SERVER)
        } else {
            (SERVER, CLIENT)
        };
        Packet {
            src: Addr::v4([10, 0, 0, from.0]),
            dst: Addr::v4([10, 0, 0, to.0]),
            src_port: from.1,
            dst_port: to.1,
            family: 4,
            protocol: ip_proto::TCP,
            ttl: if self.from_client { 64 } else { 57 },
            tos: if self.from_client { 8 } else { 0 },
            payload_len: self.len,
            tcp_seq: self.seq,
            tcp_ack: self.ack,
            tcp_flags: self.flags,
            tcp_window: self.window,
            tcp_window_scale: if self.flags & SYN != 0 { 7 } else { NO_WINDOW_SCALE },
            ..Packet::default()
        }
    }

    fn account(&self, row: &mut FlowRow) {
        let packet = self.packet();
        let (_, direction) = FlowKey::of(&packet, 1);
        let clock = StampedAt(self.at_us * 1000);
        row.account(direction, &packet, Size::one(54 + self.len), &clock);
    }
}

fn row_of(segments: &[Segment]) -> FlowRow {
    let mut row = FlowRow::begin(Direction::AToB, segments[0].at_us * 1000, 0);
    for segment in segments {
        segment.account(&mut row);
    }
    row
}

/// (retransmits, out of order) of the client.
fn disorder(segments: &[Segment]) -> (u32, u32) {
    let side = row_of(segments).sides[0];
    (side.retransmits, side.out_of_order)
}

const HANDSHAKE: [Segment; 3] = [
    client(0, SYN, 99, 0),
    server(300, SYN_ACK, 499, 0),
    client(350, ACK, 100, 0),
];

#[test]
fn size_classes() {
    let bounds = [
        (0, 0),
        (64, 0),
        (65, 1),
        (128, 1),
        (129, 2),
        (256, 2),
        (257, 3),
        (512, 3),
        (513, 4),
    ];
    for (len, class) in bounds
        .into_iter()
        .chain([(1024, 4), (1025, 5), (1518, 5), (1519, 6), (u32::MAX, 6)])
    {
        assert_eq!(size_class(len), class, "{len} bytes");
    }
}

#[test]
fn counts() {
    let row = row_of(&[
        client(10, ACK, 1, 100),
        server(20, ACK, 1, 1400),
        client(15, ACK, 101, 0),
    ]);
    assert_eq!((row.counts[0].bytes, row.counts[1].bytes), (154 + 54, 1454));
    assert_eq!((row.counts[0].packets(), row.counts[1].packets()), (2, 1));
    assert_eq!(
        (row.counts[0].sizes, row.counts[1].sizes),
        ([1, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1, 0])
    );
    assert_eq!((row.first_ns, row.last_ns), (10_000, 20_000));
    assert_eq!((row.sides[0].tos, row.sides[1].tos), (8, 0));
}

#[test]
fn an_offloaded_packet_counts_as_its_frames() {
    let packet = client(0, ACK, 1, 2896).packet();
    let mut row = FlowRow::begin(Direction::AToB, 0, 0);
    let size = Size {
        bytes: 3004,
        frames: 2,
        frame_len: 1502,
    };
    row.account(Direction::AToB, &packet, size, &StampedAt(0));
    assert_eq!(
        (
            row.counts[0].packets(),
            row.counts[0].bytes,
            row.counts[0].sizes[5]
        ),
        (2, 3004, 2)
    );
}

#[test]
fn ttl_range_and_icmp_facts() {
    let mut row = FlowRow::begin(Direction::AToB, 0, 3);
    for (ttl, icmp_type) in [(60, 8), (58, 3), (64, 0)] {
        let packet = Packet {
            ttl,
            icmp_type,
            protocol: ip_proto::ICMP,
            family: 4,
            ..Packet::default()
        };
        row.account(Direction::AToB, &packet, Size::one(98), &StampedAt(0));
    }
    assert_eq!((row.sides[0].ttl_min, row.sides[0].ttl_max), (58, 64));
    assert_eq!(row.sides[0].icmp_type, 8);
    assert_eq!((row.samples_left, row.sides[1].seen), ([3, 3], 0));
}

#[test]
fn fragments_are_marked_and_not_tracked() {
    let mut row = FlowRow::begin(Direction::AToB, 0, 0);
    let later = Packet {
        notes: note::FRAGMENT_LATER,
        ..client(0, SYN, 1, 0).packet()
    };
    row.account(Direction::AToB, &later, Size::one(60), &StampedAt(0));
    assert_eq!((row.flags, row.sides[0].flags), (row_flag::FRAGMENTS, 0));
}

#[test]
fn a_parsed_packet_is_accounted_as_it_is() {
    let bytes = crate::samples::hex(crate::samples::IP4_TCP_SYN);
    let packet = parse(bytes.as_slice(), Start::of(Link::Raw, 44)).unwrap();
    let (key, direction) = FlowKey::of(&packet, 0);
    assert_eq!((key.a_port, key.b_port, direction), (11001, 23, Direction::AToB));
    let mut row = FlowRow::begin(direction, 5, 0);
    row.account(direction, &packet, Size::one(44), &StampedAt(5));
    assert_eq!(
        (row.sides[0].syns, row.sides[0].next_seq, row.sides[0].ttl_min),
        (1, 0x9832_0ffc, 255)
    );
}
