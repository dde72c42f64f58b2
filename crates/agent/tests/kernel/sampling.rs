//! Which payloads of a flow reach the ring, and that user space can say so.

use agent::broker::sampling_packet;
use agent::sys::{self, Plain};
use agent::trial::{Trial, UNLIMITED};
use wire::event::{Event, SamplingOrder, kind, sampling};
use wire::rows::Settings;
use wire::{FlowKey, Link, Start, parse};

/// Test runs happen on the loopback device of the namespace.
const IFINDEX: u32 = 1;
const SAMPLES_PER_DIRECTION: u32 = 2;

/// An Ethernet frame with a datagram (17) or a segment in the middle of a connection (6).
fn frame(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let l4_len = if protocol == 17 { 8 } else { 20 };
    let mut frame = vec![0; 12];
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend(((20 + l4_len + payload.len()) as u16).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    frame.extend([0x9c, 0x40, 0, 80]);
    if protocol == 17 {
        frame.extend(((8 + payload.len()) as u16).to_be_bytes());
        frame.extend([0, 0]);
    } else {
        frame.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
    }
    frame.extend(payload);
    frame
}

#[test]
fn user_space_says_what_is_sampled() {
    if !super::may_load() {
        return;
    }
    let settings = Settings {
        samples_per_direction: SAMPLES_PER_DIRECTION,
        ..UNLIMITED
    };
    let mut trial =
        Trial::load_weir(&["weir_ingress", "weir_sampling"], 64, &settings).expect("programs load");
    let mut ring = trial.take_ring("EVENTS").expect("the ring");
    // Sends each payload, after an order if there is one; which of them were sampled.
    let mut check = |protocol: u8, order: Option<u8>, payloads: &[&[u8]], expected: &[bool]| {
        let first = frame(protocol, payloads[0]);
        let packet = parse(&first[..], Start::of(Link::Ethernet, first.len() as u32)).expect("a packet");
        let (key, _) = FlowKey::of(&packet, IFINDEX);
        if let Some(samples) = order {
            let order = SamplingOrder {
                key,
                samples,
                ..SamplingOrder::default()
            };
            let nobody = SamplingOrder {
                samples: 9,
                ..SamplingOrder::default()
            };
            let program = trial.program("weir_sampling").expect("loaded");
            let run = sys::test_run(program, &sampling_packet(&[nobody, order, order]), 1).expect("it runs");
            assert_eq!(run.action, 2, "orders that found their row");
        }
        let mut sampled = Vec::new();
        for payload in payloads {
            let program = trial.program("weir_ingress").expect("loaded");
            sys::test_run(program, &frame(protocol, payload), 1).expect("it runs");
            let mut n = 0;
            while let Some(item) = ring.next() {
                let event = Event::from_bytes(&item).expect("a whole event");
                n += u32::from(event.kind == kind::SAMPLE);
            }
            sampled.push(n == 1);
        }
        assert_eq!(sampled, expected, "{protocol} {order:?}");
    };
    let long = [b'x'; 600];
    let get = [b"GET / HTTP/1.1\r\nCookie: ".as_slice(), &[b'c'; 700]].concat();
    let segments: [&[u8]; 5] = [b"USER weir\r\n", &long, &get, b"\x00\x01", b"230 in\r\n"];
    // The first ones, whatever they are; then none.
    check(6, None, &segments, &[true, true, false, false, false]);
    check(
        6,
        Some(sampling::MESSAGES),
        &segments,
        &[true, false, true, false, true],
    );
    check(6, Some(1), &segments, &[true, false, false, false, false]);
    check(6, Some(sampling::OFF), &segments, &[false; 5]);
    let datagrams: [&[u8]; 3] = [b"\x00\x01", &long, b"a"];
    check(17, None, &datagrams, &[true, true, false]);
    check(17, Some(sampling::MESSAGES), &datagrams, &[true, true, true]);
    check(17, Some(sampling::OFF), &datagrams, &[false; 3]);
}
