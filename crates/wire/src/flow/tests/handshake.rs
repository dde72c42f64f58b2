//! Round trips, openings and ends of connections.

use std::vec::Vec;

use super::*;

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
