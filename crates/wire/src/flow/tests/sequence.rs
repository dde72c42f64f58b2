//! Order, repeats, windows.

use super::*;

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

/// The handshake's round trip is 350 µs: what fills a hole sooner cannot have been asked for.
#[test]
fn a_hole_filled_within_the_round_trip_is_disorder() {
    let filled_after_us = |us: u64| {
        let mut segments = HANDSHAKE.to_vec();
        segments.extend([
            client(1000, ACK, 100, 100),
            client(1010, ACK, 300, 100),
            client(1010 + us, ACK, 200, 100),
        ]);
        disorder(&segments)
    };
    assert_eq!(filled_after_us(349), (0, 1));
    assert_eq!(filled_after_us(350), (1, 0));
}
