//! Rows and events in, records out.

use wire::event::{Event, SamplingOrder, kind, sampling};
use wire::flow::{Owner, StampedAt};
use wire::parse::Start;
use wire::tcp::flag::{ACK, RST, SYN};
use wire::{Addr, Direction, Link, Size, ip_proto, parse};

use super::*;

const CLIENT: [u8; 4] = [10, 0, 0, 1];
const SERVER: [u8; 4] = [10, 0, 0, 2];
const S: u64 = 1_000_000_000;

/// An Ethernet frame with a bare TCP segment of flow 10.0.0.1:40000 > 10.0.0.2:80.
fn segment(from_client: bool, flags: u8, seq: u32, ack: u32) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
    let (src, dst, sport, dport) = if from_client {
        (CLIENT, SERVER, 40_000u16, 80u16)
    } else {
        (SERVER, CLIENT, 80, 40_000)
    };
    frame.extend(src);
    frame.extend(dst);
    frame.extend(sport.to_be_bytes());
    frame.extend(dport.to_be_bytes());
    frame.extend(seq.to_be_bytes());
    frame.extend(ack.to_be_bytes());
    frame.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}

fn key_of(frame: &[u8]) -> (FlowKey, Direction, wire::Packet) {
    let packet = parse(frame, Start::of(Link::Ethernet, frame.len() as u32)).expect("a sound frame");
    let (key, direction) = FlowKey::of(&packet, 2);
    (key, direction, packet)
}

fn attempt(frame: &[u8], at_ns: u64) -> Event {
    let (key, direction, _) = key_of(frame);
    Event {
        at_ns,
        bytes: frame.len() as u32,
        frames: 1,
        key,
        captured: frame.len() as u16,
        kind: kind::ATTEMPT,
        direction: direction as u8,
        link: Link::Ethernet as u8,
        packet_len: frame.len() as u32,
        ..Event::default()
    }
}

fn live() -> Live {
    Live::new([(2, "eth9".to_owned())])
}

/// The row that accounting these segments gives.
fn row_of(segments: &[(bool, u8, u64)]) -> (FlowKey, FlowRow) {
    let mut made: Option<(FlowKey, FlowRow)> = None;
    for &(from_client, flags, at_ns) in segments {
        let frame = segment(from_client, flags, 1, 1);
        let (key, direction, packet) = key_of(&frame);
        let (_, row) = made.get_or_insert_with(|| (key, FlowRow::begin(direction, at_ns, 0)));
        row.account(
            direction,
            &packet,
            Size::one(frame.len() as u32),
            &StampedAt(at_ns),
        );
    }
    made.expect("at least one segment")
}

#[test]
fn attempts_become_records_or_part_of_their_row() {
    /// Events, then perhaps a row; expected: active flows as (state, packets each way).
    #[track_caller]
    fn check(events: &[(bool, u8)], row: Option<FlowRow>, expected: &[(&str, u64, u64)]) {
        let mut live = live();
        for (at, &(from_client, flags)) in events.iter().enumerate() {
            let frame = segment(from_client, flags, 100, 101);
            live.event(&attempt(&frame, at as u64), &frame);
        }
        if let Some(row) = row {
            live.row(&key_of(&segment(true, SYN, 1, 0)).0, &row, 1.0);
        }
        let found: Vec<_> = live
            .active()
            .map(|flow| {
                let state = flow.record.tcp.map_or("none", |tcp| tcp.state.name());
                (
                    state,
                    flow.record.to_server.packets,
                    flow.record.to_client.packets,
                )
            })
            .collect();
        assert_eq!(found, expected);
    }
    check(&[(true, SYN)], None, &[("syn_sent", 1, 0)]);
    check(&[(true, SYN), (false, SYN | ACK)], None, &[("syn_recv", 1, 1)]);
    check(&[(true, SYN), (false, RST | ACK)], None, &[("closed", 1, 1)]);
    // The kernel moved the handshake into the row: not counted twice.
    let (_, mut whole) = row_of(&[(true, SYN, 0), (false, SYN | ACK, 1), (true, ACK, 2)]);
    whole.adopted_packets = 2;
    check(
        &[(true, SYN), (false, SYN | ACK)],
        Some(whole),
        &[("established", 2, 1)],
    );
    // It could not: the attempt's packets are added.
    let (_, late) = row_of(&[(true, ACK, 5), (false, ACK, 6)]);
    check(
        &[(true, SYN), (false, SYN | ACK)],
        Some(late),
        &[("established", 2, 2)],
    );
}

#[test]
fn nonsense_events_are_counted() {
    let mut live = live();
    let frame = segment(true, SYN, 1, 0);
    let event = attempt(&frame, 0);
    live.event(&event, &frame[..20]);
    live.event(&Event { link: 99, ..event }, &frame);
    assert_eq!((live.attempts.unparsable, live.attempts.len()), (2, 0));
}

#[test]
fn attempts_end_when_stale_and_refused_ones_sooner() {
    #[track_caller]
    fn check(flags: &[(bool, u8)], after_ns: u64, ended: u64) {
        let mut live = live();
        for &(from_client, flags) in flags {
            let frame = segment(from_client, flags, 100, 101);
            live.event(&attempt(&frame, S), &frame);
        }
        live.end_attempts(S + after_ns);
        assert_eq!(live.ended.total, ended, "{flags:?} after {after_ns} ns");
    }
    check(&[(true, SYN)], 7 * S, 0);
    check(&[(true, SYN)], 9 * S, 1);
    check(&[(true, SYN), (false, RST | ACK)], 3 * S, 1);
}

#[test]
fn idle_flows_are_named_and_end_with_their_final_counts() {
    let (key, row) = row_of(&[(true, ACK, S), (false, ACK, 2 * S)]);
    let mut live = live();
    live.row(&key, &row, 1.0);
    assert_eq!(live.idle(600 * S, 1, 10), []);
    assert_eq!(live.idle(603 * S, 1, 10), [key]);
    assert_eq!(live.idle(63 * S, 10, 10), [key], "in a hurry");
    let mut last = row;
    last.counts[0].sizes[0] += 5;
    live.end(&key, Some(&last), EndReason::Timeout);
    let record = live.ended.latest().next().expect("one ended");
    assert_eq!((record.packets(), record.interface.as_deref()), (7, Some("eth9")));
    assert!(live.is_empty());
}

#[test]
fn rates_are_of_the_last_interval() {
    let (key, mut row) = row_of(&[(true, ACK, S)]);
    let mut live = live();
    live.row(&key, &row, 0.0);
    row.counts[0].sizes[0] += 10;
    row.counts[0].bytes += 1000;
    live.row(&key, &row, 2.0);
    let flow = live.active().next().expect("one flow");
    assert_eq!((flow.packets_per_s, flow.bits_per_s), (5.0, 4000.0));
}

#[test]
fn slow_listeners_lose_records_and_are_told() {
    let (key, row) = row_of(&[(true, ACK, S)]);
    let mut live = live();
    let subscription = live.ended.subscribe();
    for _ in 0..5_000 {
        live.end(&key, Some(&row), EndReason::Timeout);
    }
    let received = subscription.records.try_iter().count() as u64;
    let lost = subscription.lost.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(received + lost, 5_000);
    assert_eq!(live.ended.dropped, lost);
    assert!(lost > 0 && live.ended.latest().count() == 5_000);
    drop(subscription);
    live.end(&key, Some(&row), EndReason::Timeout);
    assert_eq!(live.ended.dropped, lost, "nobody listens any more");
}

#[test]
fn sockets_name_the_owner_of_their_flow() {
    let (key, row) = row_of(&[(true, ACK, S)]);
    let end = |addr: [u8; 4], port| (Addr::v4(addr), port);
    let socket = |(local, local_port), (remote, remote_port), pid| {
        let key = SocketKey {
            local,
            remote,
            local_port,
            remote_port,
            family: 4,
            protocol: ip_proto::TCP,
            ..SocketKey::default()
        };
        let owner = Owner {
            pid,
            ..Owner::default()
        };
        (
            key,
            SocketRow {
                owner,
                srtt_us: 70,
                ..SocketRow::default()
            },
        )
    };
    let (client, server) = (end(CLIENT, 40_000), end(SERVER, 80));
    let check = |sockets: Vec<(SocketKey, SocketRow)>, expected: Option<(u32, u32)>| {
        let mut live = live();
        live.row(&key, &row, 1.0);
        live.set_sockets(sockets.into_iter().collect());
        let record = live.active().next().expect("one flow").record;
        let found = record
            .owner
            .as_ref()
            .zip(record.socket)
            .map(|(owner, socket)| (owner.pid, socket.srtt_us));
        assert_eq!(found, expected);
    };
    check(vec![], None);
    check(vec![socket(server, client, 7)], Some((7, 70)));
    check(vec![socket(client, server, 8)], Some((8, 70)));
    check(vec![socket(server, end(CLIENT, 40_001), 7)], None);
    // Both ends on this host: the server's process.
    let mut asking = socket(client, server, 8);
    asking.1.active = 1;
    check(vec![socket(server, client, 7), asking], Some((7, 70)));
    let mut asking = socket(server, client, 7);
    asking.1.active = 1;
    check(vec![asking, socket(client, server, 8)], Some((8, 70)));
}

/// An Ethernet frame with a datagram between 10.0.0.1:40000 and 10.0.0.2:53.
fn datagram(from_client: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend(((28 + payload.len()) as u16).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    let ends = [(CLIENT, 40_000u16), (SERVER, 53)];
    let [src, dst] = if from_client { ends } else { [ends[1], ends[0]] };
    frame.extend(src.0);
    frame.extend(dst.0);
    frame.extend(src.1.to_be_bytes());
    frame.extend(dst.1.to_be_bytes());
    frame.extend(((8 + payload.len()) as u16).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

fn sample(frame: &[u8], at_ns: u64) -> Event {
    Event {
        kind: kind::SAMPLE,
        ..attempt(frame, at_ns)
    }
}

#[test]
fn samples_tell_what_a_flow_is() {
    const QUESTION: &[u8] =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x04weir\x04test\x00\x00\x01\x00\x01";
    let mut live = live();
    let frame = datagram(true, QUESTION);
    live.event(&sample(&frame, S), &frame);
    let (key, direction, packet) = key_of(&frame);
    assert_eq!(
        live.layer7.take_orders(),
        [SamplingOrder {
            key,
            samples: sampling::MESSAGES,
            ..SamplingOrder::default()
        }]
    );
    // Nobody could say which flow a record is of before its row is known.
    let heard = live.ended.subscribe();
    live.tell();
    assert!(heard.records.try_recv().is_err());
    let mut row = FlowRow::begin(direction, S, 0);
    row.account(direction, &packet, Size::one(frame.len() as u32), &StampedAt(S));
    live.row(&key, &row, 1.0);
    live.tell();
    let Ok(Told::Event(event, flow)) = heard.records.try_recv() else {
        panic!("a record of layer 7");
    };
    assert_eq!((event.record.event_type(), event.flow_id), ("dns", flow.id));
    let query = |record: &FlowRecord| record.insight.as_ref()?.dns.as_ref()?.query.clone();
    let shown: Vec<_> = live.active().map(|flow| query(&flow.record)).collect();
    assert_eq!(shown, [Some("www.weir.test".into())]);
    // What was said last is told before the flow's end.
    live.event(&sample(&frame, 2 * S), &frame);
    live.end(&key, Some(&row), EndReason::Timeout);
    assert!(matches!(heard.records.try_recv(), Ok(Told::Event(..))));
    let Ok(Told::Flow(ended)) = heard.records.try_recv() else {
        panic!("the flow's end");
    };
    assert_eq!(query(&ended), Some("www.weir.test".into()));
    assert!(live.layer7.is_empty() && live.layer7.insight(&key).is_none());
    // A frame of another flow than the event says is counted, not believed.
    live.event(&sample(&datagram(true, b"x"), 0), &segment(true, ACK, 1, 1));
    assert_eq!((live.layer7.unparsable, live.layer7.samples), (1, 3));
}
