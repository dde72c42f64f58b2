//! Keys, hashes and rows.

use std::vec::Vec;

use super::*;
use crate::rows::Step;
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

#[test]
fn a_key_is_the_same_for_both_directions() {
    let there = client(0, ACK, 1, 0).packet();
    let back = server(0, ACK, 1, 0).packet();
    let (key, direction) = FlowKey::of(&there, 3);
    assert_eq!(FlowKey::of(&back, 3), (key, direction.opposite()));
    assert_eq!(direction, Direction::AToB);
    assert_eq!(key.source(direction), (there.src, there.src_port));
    assert_eq!(key.source(direction.opposite()), (back.src, back.src_port));
    assert_eq!(key.ifindex, 3);
}

#[test]
fn a_key_between_ports_of_one_address_goes_by_port() {
    let mut there = client(0, ACK, 1, 0).packet();
    there.dst = there.src;
    let back = Packet {
        src_port: there.dst_port,
        dst_port: there.src_port,
        ..there
    };
    let (key, direction) = FlowKey::of(&there, 1);
    assert_eq!(FlowKey::of(&back, 1), (key, direction.opposite()));
    assert!(key.a_port < key.b_port);
}

#[test]
fn every_part_of_a_key_counts() {
    let packet = client(0, ACK, 1, 0).packet();
    let (key, _) = FlowKey::of(&packet, 1);
    let changed = [
        FlowKey::of(
            &Packet {
                src_port: 1,
                ..packet
            },
            1,
        ),
        FlowKey::of(
            &Packet {
                dst_port: 1,
                ..packet
            },
            1,
        ),
        FlowKey::of(
            &Packet {
                src: Addr::v4([10, 0, 0, 0]),
                ..packet
            },
            1,
        ),
        FlowKey::of(
            &Packet {
                dst: Addr::v4([10, 0, 0, 3]),
                ..packet
            },
            1,
        ),
        FlowKey::of(&Packet { vlan: 1, ..packet }, 1),
        FlowKey::of(
            &Packet {
                vlan_inner: 1,
                ..packet
            },
            1,
        ),
        FlowKey::of(&Packet { tunnel: 1, ..packet }, 1),
        FlowKey::of(
            &Packet {
                tunnel_id: 1,
                ..packet
            },
            1,
        ),
        FlowKey::of(&Packet { family: 6, ..packet }, 1),
        FlowKey::of(
            &Packet {
                protocol: 17,
                ..packet
            },
            1,
        ),
        FlowKey::of(&packet, 2),
    ];
    let keys = HashKeys(KEYS);
    for (other, _) in changed {
        assert_ne!(other, key);
        assert_ne!(other.hash(&keys), key.hash(&keys));
    }
}

const KEYS: [u32; 14] = [
    0x9e37_79b9,
    0x7f4a_7c15,
    0xf39c_c060,
    0x5ced_c834,
    0x1082_276b,
    0xf3a2_7251,
    0xf86c_6a11,
    0xd0c1_8e95,
    0x2767_f0b1,
    0x53d2_7b69,
    0x0347_045b,
    0x5bf1_827f,
    0x0188_6f09,
    0x2840_3002,
];

#[test]
fn a_bit_of_a_key_changes_half_of_the_hash() {
    let keys = HashKeys(KEYS);
    let mut changed = 0u32;
    const SAMPLES: u32 = 2000;
    for i in 0..SAMPLES {
        let port = 1024 + i as u16;
        let packet = Packet {
            src_port: port,
            ..client(0, ACK, 1, 0).packet()
        };
        let neighbour = Packet {
            src_port: port ^ (1 << (i % 10)),
            ..packet
        };
        let (one, other) = (
            FlowKey::of(&packet, 1).0.hash(&keys),
            FlowKey::of(&neighbour, 1).0.hash(&keys),
        );
        assert_ne!(one, other);
        changed += (one ^ other).count_ones();
    }
    let average = f64::from(changed) / f64::from(SAMPLES);
    assert!((31.0..33.0).contains(&average), "{average} bits change");
}

#[test]
fn hashes_fill_a_table_evenly() {
    let keys = HashKeys(KEYS);
    let mut cells = [0u32; 256];
    for i in 0..25_600u32 {
        let [_, _, high, low] = i.to_be_bytes();
        let packet = Packet {
            src: Addr::v4([192, 168, high, low]),
            ..client(0, ACK, 1, 0).packet()
        };
        cells[FlowKey::of(&packet, 1).0.hash(&keys) as usize & 255] += 1;
    }
    // 100 on average, standard deviation 10.
    assert!(cells.iter().all(|&count| (50..150).contains(&count)), "{cells:?}");
}

#[test]
fn other_hash_keys_give_other_hashes() {
    let (key, _) = FlowKey::of(&client(0, ACK, 1, 0).packet(), 1);
    for i in 0..KEYS.len() - 1 {
        let mut other = KEYS;
        other[i] ^= 0x1000;
        assert_ne!(key.hash(&HashKeys(KEYS)), key.hash(&HashKeys(other)), "word {i}");
    }
}

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

const HANDSHAKE: [Segment; 3] = [
    client(0, SYN, 99, 0),
    server(300, SYN_ACK, 499, 0),
    client(350, ACK, 100, 0),
];

#[test]
fn a_handshake_gives_both_round_trips() {
    let row = row_of(&HANDSHAKE);
    assert_eq!(
        (row.rtt_server_us, row.rtt_client_us, row.connections),
        (300, 50, 1)
    );
    assert_eq!(
        (row.flags, row.client),
        (row_flag::HANDSHAKE, Direction::AToB as u8)
    );
    assert_eq!((row.sides[0].syns, row.sides[1].syns), (1, 1));
    assert_eq!((row.sides[0].flags, row.sides[1].flags), (SYN | ACK, SYN_ACK));
    assert_eq!((row.sides[0].window_scale, row.sides[0].window_min), (7, 1000));
}

#[test]
fn later_segments_do_not_change_the_round_trips() {
    let mut segments = HANDSHAKE.to_vec();
    segments.extend([
        client(900, ACK, 100, 10),
        server(950, ACK, 500, 10),
        server(960, SYN_ACK, 499, 0),
    ]);
    segments.push(client(970, ACK, 110, 0));
    let row = row_of(&segments);
    assert_eq!(
        (row.rtt_server_us, row.rtt_client_us, row.connections),
        (300, 50, 1)
    );
}

#[test]
fn a_round_trip_is_not_taken_from_a_repeated_segment() {
    let syn_twice = [
        client(0, SYN, 99, 0),
        client(1000, SYN, 99, 0),
        server(1300, SYN_ACK, 499, 0),
    ];
    let mut segments = syn_twice.to_vec();
    segments.push(client(1350, ACK, 100, 0));
    let row = row_of(&segments);
    assert_eq!(
        (row.rtt_server_us, row.rtt_client_us, row.connections),
        (0, 50, 1)
    );
    assert_eq!(
        (row.sides[0].syns, row.sides[0].retransmits, row.sides[0].syn_ns),
        (2, 1, 0)
    );

    let answer_twice = [
        HANDSHAKE[0],
        HANDSHAKE[1],
        server(1300, SYN_ACK, 499, 0),
        client(1350, ACK, 100, 0),
    ];
    let row = row_of(&answer_twice);
    assert_eq!(
        (row.rtt_server_us, row.rtt_client_us, row.connections),
        (300, 0, 1)
    );
    assert_eq!(row.sides[1].retransmits, 1);
}

#[test]
fn a_reset_completes_no_handshake() {
    let row = row_of(&[HANDSHAKE[0], HANDSHAKE[1], client(350, RST, 100, 0)]);
    assert_eq!((row.connections, row.rtt_client_us), (0, 0));
    assert_eq!(row.flags & row_flag::CLOSED, row_flag::CLOSED);
    assert_eq!(row.sides[0].resets, 1);
}

#[test]
fn the_last_acknowledgement_may_carry_the_end() {
    let row = row_of(&[HANDSHAKE[0], HANDSHAKE[1], client(350, FIN, 100, 5)]);
    assert_eq!((row.connections, row.rtt_client_us), (1, 50));
}

#[test]
fn the_client_is_who_sends_the_syn() {
    let row = row_of(&[
        server(0, SYN, 1, 0),
        client(10, SYN_ACK, 1, 0),
        server(20, ACK, 2, 0),
    ]);
    assert_eq!(row.client, Direction::BToA as u8);
    assert_eq!((row.rtt_server_us, row.rtt_client_us), (10, 10));
    let row = row_of(&[server(0, SYN_ACK, 1, 0)]);
    assert_eq!(row.client, Direction::AToB as u8);
}

#[test]
fn segments_in_order() {
    assert_eq!(
        disorder(&[
            client(0, ACK, 100, 50),
            client(1, ACK, 150, 50),
            client(2, ACK, 200, 0)
        ]),
        (0, 0)
    );
}

#[test]
fn a_segment_sent_again() {
    let segments = [
        client(0, ACK, 100, 50),
        client(1, ACK, 150, 50),
        client(9000, ACK, 100, 50),
    ];
    assert_eq!(disorder(&segments), (1, 0));
}

#[test]
fn late_is_disorder_within_three_milliseconds_and_a_retransmit_after() {
    let filled_at = |at_us| {
        disorder(&[
            client(0, ACK, 100, 50),
            client(1000, ACK, 200, 50),
            client(at_us, ACK, 150, 50),
            client(9000, ACK, 250, 50),
        ])
    };
    assert_eq!(filled_at(1001), (0, 1));
    assert_eq!(filled_at(3999), (0, 1));
    assert_eq!(filled_at(4000), (1, 0));
}

#[test]
fn outside_the_hole_it_is_a_retransmit_at_any_time() {
    let segments = [
        client(0, ACK, 100, 50),
        client(10, ACK, 200, 50),
        client(11, ACK, 100, 50),
    ];
    assert_eq!(disorder(&segments), (1, 0));
}

#[test]
fn a_segment_that_overlaps_and_goes_on_moves_the_end() {
    let segments = [
        client(0, ACK, 100, 50),
        client(10, ACK, 125, 50),
        client(20, ACK, 175, 10),
    ];
    assert_eq!(disorder(&segments), (1, 0));
    assert_eq!(row_of(&segments).sides[0].next_seq, 185);
}

#[test]
fn keep_alives_are_neither() {
    assert_eq!(
        disorder(&[client(0, ACK, 100, 50), client(9_000_000, ACK, 149, 1)]),
        (0, 0)
    );
    assert_eq!(
        disorder(&[client(0, ACK, 100, 50), client(9_000_000, ACK, 149, 0)]),
        (0, 0)
    );
}

#[test]
fn an_end_sent_again_is_a_retransmit() {
    assert_eq!(
        disorder(&[
            client(0, ACK, 100, 50),
            client(1, FIN, 150, 0),
            client(9000, FIN, 150, 0)
        ]),
        (1, 0)
    );
}

#[test]
fn sequence_numbers_wrap() {
    let start = u32::MAX - 49;
    let segments = [
        client(0, ACK, start, 50),
        client(1, ACK, 0, 50),
        client(10, ACK, 100, 50),
        client(11, ACK, 50, 50),
        client(9000, ACK, start, 50),
    ];
    assert_eq!(disorder(&segments), (1, 1));
    assert_eq!(row_of(&segments).sides[0].next_seq, 150);
}

#[test]
fn zero_windows() {
    let with_window = |at_us, window| Segment {
        window,
        ..client(at_us, ACK, 100, 0)
    };
    let segments = [
        with_window(0, 500),
        with_window(1, 0),
        with_window(2, 0),
        with_window(3, 9),
        with_window(4, 0),
    ];
    let side = row_of(&segments).sides[0];
    assert_eq!((side.zero_windows, side.window_min), (2, 0));
    // The windows of SYN and reset segments say nothing about the receiver's room.
    let silent = [
        Segment {
            window: 0,
            ..client(0, SYN, 1, 0)
        },
        Segment {
            window: 0,
            ..client(1, RST, 2, 0)
        },
    ];
    let side = row_of(&silent).sides[0];
    assert_eq!((side.zero_windows, side.seen & seen::WINDOW), (0, 0));
}

#[test]
fn closed_by_both_ends_or_by_a_reset() {
    let closed = |segments: &[Segment]| row_of(segments).flags & row_flag::CLOSED != 0;
    assert!(!closed(&[client(0, FIN, 1, 0), client(1, FIN, 1, 0)]));
    assert!(closed(&[client(0, FIN, 1, 0), server(1, FIN, 1, 0)]));
    assert!(closed(&[server(1, RST, 1, 0)]));
}

fn second_connection() -> Vec<Segment> {
    let again = [
        client(5000, SYN, 7_000_000, 0),
        server(5200, SYN_ACK, 9_000_000, 0),
    ];
    let mut segments = again.to_vec();
    segments.extend([client(5260, ACK, 7_000_001, 40), server(5300, ACK, 9_000_001, 0)]);
    segments
}

#[test]
fn a_syn_opens_a_closed_row_again() {
    let mut segments = HANDSHAKE.to_vec();
    segments.extend([
        client(400, FIN, 100, 0),
        server(500, FIN, 500, 0),
        client(510, ACK, 101, 0),
    ]);
    segments.extend(second_connection());
    let row = row_of(&segments);
    assert_eq!(
        (row.rtt_server_us, row.rtt_client_us, row.connections),
        (200, 60, 2)
    );
    assert_eq!(row.flags, row_flag::HANDSHAKE);
    assert_eq!(
        (
            row.sides[0].retransmits,
            row.sides[0].out_of_order,
            row.sides[0].syns
        ),
        (0, 0, 1)
    );
    assert_eq!(row.sides[0].flags, SYN | ACK);
    assert_eq!(row.counts[0].packets() + row.counts[1].packets(), 10);
}

#[test]
fn a_syn_with_another_number_begins_a_connection_though_the_last_was_not_seen_to_end() {
    let mut segments = HANDSHAKE.to_vec();
    segments.push(client(400, ACK, 100, 4000));
    segments.extend(second_connection());
    let row = row_of(&segments);
    assert_eq!(
        (row.rtt_server_us, row.rtt_client_us, row.connections),
        (200, 60, 2)
    );
    assert_eq!((row.sides[0].retransmits, row.sides[0].out_of_order), (0, 0));
    assert_eq!(row.sides[0].seen & seen::HOLE, 0);
}

#[test]
fn data_in_a_syn() {
    let accepted = [
        client(0, SYN, 99, 200),
        server(10, SYN_ACK, 499, 0),
        client(20, ACK, 300, 100),
    ];
    assert_eq!(disorder(&accepted), (0, 0));
    let refused = [
        client(0, SYN, 99, 200),
        server(10, SYN_ACK, 499, 0),
        client(20, ACK, 100, 200),
    ];
    assert_eq!(disorder(&refused), (1, 0));
    let plain_again = [
        client(0, SYN, 99, 200),
        client(9000, SYN, 99, 0),
        server(9010, SYN_ACK, 499, 0),
    ];
    assert_eq!(disorder(&plain_again), (1, 0));
}

#[test]
fn times_that_go_back_measure_the_least() {
    let row = row_of(&[
        client(500, SYN, 99, 0),
        server(100, SYN_ACK, 499, 0),
        client(50, ACK, 100, 0),
    ]);
    assert_eq!((row.rtt_server_us, row.rtt_client_us), (1, 1));
}

/// A row that adopts the SYNs and answers among the first segments, and accounts the others.
fn adopted(row: &mut FlowRow, segments: &[Segment]) {
    let mut pending = Pending::default();
    const TAG: u64 = 77;
    let is_handshake = |segment: &&Segment| segment.flags & SYN != 0;
    for segment in segments.iter().take_while(is_handshake) {
        let packet = segment.packet();
        let (_, direction) = FlowKey::of(&packet, 1);
        let step = if segment.flags & ACK == 0 {
            Step::Syn
        } else {
            Step::SynAck
        };
        let size = Size::one(54 + segment.len);
        assert!(pending.note(TAG, step, direction, &packet, size, segment.at_us * 1000));
    }
    row.adopt(&pending);
    for segment in segments.iter().skip_while(is_handshake) {
        segment.account(row);
    }
}

fn check_adoption(segments: &[Segment]) {
    let expected = row_of(segments);
    let mut row = FlowRow::begin(Direction::AToB, segments.last().unwrap().at_us * 1000, 0);
    adopted(&mut row, segments);
    let handshake = segments.iter().take_while(|segment| segment.flags & SYN != 0);
    assert_eq!(usize::from(row.adopted_packets), handshake.clone().count());
    assert_eq!(
        row.adopted_bytes,
        handshake.map(|segment| 54 + segment.len).sum::<u32>()
    );
    (row.adopted_packets, row.adopted_bytes) = (0, 0);
    assert_eq!(row, expected);
}

#[test]
fn an_adopted_handshake_leaves_no_trace() {
    let answer = Segment {
        ack: 100,
        ..HANDSHAKE[1]
    };
    check_adoption(&[HANDSHAKE[0], answer, HANDSHAKE[2]]);
    // The SYN alone was kept.
    check_adoption(&[HANDSHAKE[0], client(350, ACK, 100, 0)]);
    // Either side repeated itself.
    let again = client(1000, SYN, 99, 0);
    let late_answer = Segment {
        at_us: 1200,
        ..answer
    };
    check_adoption(&[HANDSHAKE[0], again, late_answer, client(1300, ACK, 100, 9)]);
    check_adoption(&[HANDSHAKE[0], answer, late_answer, client(1300, ACK, 100, 9)]);
    check_adoption(&[
        HANDSHAKE[0],
        answer,
        again,
        late_answer,
        client(1300, ACK, 100, 9),
    ]);
    // The client is the upper end.
    let from_above = [
        Segment {
            ack: 0,
            ..server(0, SYN, 5, 0)
        },
        Segment {
            ack: 6,
            ..client(70, SYN_ACK, 8, 0)
        },
        server(90, ACK, 6, 0),
    ];
    check_adoption(&from_above);
    // Data in the SYN.
    let answer = Segment {
        ack: 300,
        ..HANDSHAKE[1]
    };
    check_adoption(&[client(0, SYN, 99, 200), answer, client(350, ACK, 300, 9)]);
}

#[test]
fn adopting_into_a_closed_row_is_a_new_connection_whichever_end_opens_it() {
    let openings = [
        [
            client(5000, SYN, 70, 0),
            Segment {
                ack: 71,
                ..server(5200, SYN_ACK, 90, 0)
            },
            client(5300, ACK, 71, 0),
        ],
        [
            server(5000, SYN, 70, 0),
            Segment {
                ack: 71,
                ..client(5200, SYN_ACK, 90, 0)
            },
            server(5300, ACK, 71, 0),
        ],
    ];
    for opening in openings {
        let mut segments = HANDSHAKE.to_vec();
        segments.push(client(400, RST, 100, 0));
        let mut row = row_of(&segments);
        segments.extend(opening);
        let expected = row_of(&segments);
        adopted(&mut row, &opening);
        (row.adopted_packets, row.adopted_bytes) = (0, 0);
        assert_eq!(row, expected);
        assert_eq!(
            (row.connections, row.rtt_server_us, row.rtt_client_us),
            (2, 200, 100)
        );
    }
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
