//! Handshakes kept aside and taken over.

use super::*;
use crate::rows::Step;

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
