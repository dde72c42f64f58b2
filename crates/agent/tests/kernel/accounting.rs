//! `weir_xdp` over every Ethernet packet of the shared captures counts what the host counts.

use std::collections::HashMap;

use agent::sys;
use agent::trial::{Trial, UNLIMITED};
use aya::maps::{MapData, RingBuf};
use wire::event::{Event, kind};
use wire::flow::StampedAt;
use wire::parse::parse_inner;
use wire::rows::{AggregateKey, AggregateRow, InterfaceCounters, Losses};
use wire::{FlowKey, FlowRow, Link, Reject, Size, Start, parse};

/// Test runs happen on the loopback device of the namespace.
const IFINDEX: u32 = 1;
/// Row of that device's ingress in INTERFACES.
const INGRESS: u32 = 2 * IFINDEX;
/// More than the shared captures have.
const FLOW_ROWS: u32 = 524_288;
/// Packets between two drains of the ring, which holds more than their events.
const DRAIN_EVERY: u64 = 10_000;

/// Packets and bytes.
type Sum = (u64, u64);

#[derive(Default)]
struct Host {
    flows: HashMap<FlowKey, FlowRow>,
    rejects: [u64; Reject::COUNT],
    total: Sum,
    inner: u64,
}

impl Host {
    fn add(&mut self, frame: &[u8], now_ns: u64) {
        let len = u32::try_from(frame.len()).expect("bounded by the reader");
        self.total.0 += 1;
        self.total.1 += u64::from(len);
        match parse(frame, Start::of(Link::Ethernet, len)) {
            Err(reject) => self.rejects[reject as usize] += 1,
            Ok(outer) => {
                self.account(&outer, Size::one(len), now_ns);
                if let Some(Ok((inner, at))) = parse_inner(frame, &outer) {
                    self.inner += 1;
                    let size = Size::one(outer.l3_end.saturating_sub(at as u32));
                    self.account(&inner, size, now_ns);
                }
            }
        }
    }

    fn account(&mut self, packet: &wire::Packet, size: Size, now_ns: u64) {
        let (key, direction) = FlowKey::of(packet, IFINDEX);
        let row = self
            .flows
            .entry(key)
            .or_insert_with(|| FlowRow::begin(direction, now_ns, 0));
        row.account(direction, packet, size, &StampedAt(now_ns));
    }
}

fn sum_of(row: &FlowRow) -> Sum {
    row.counts.iter().fold((0, 0), |sum, counts| {
        (sum.0 + counts.packets(), sum.1 + counts.bytes)
    })
}

/// Adds the ring's attempts to `attempts`, by flow.
fn drain(ring: &mut RingBuf<MapData>, attempts: &mut HashMap<FlowKey, Sum>) {
    while let Some(item) = ring.next() {
        let event = <Event as sys::Plain>::from_bytes(&item).expect("a whole event");
        assert_eq!(event.kind, kind::ATTEMPT, "nothing is sampled here");
        let sum = attempts.entry(event.key).or_default();
        sum.0 += u64::from(event.frames);
        sum.1 += u64::from(event.bytes);
    }
}

/// What a row says that does not depend on the time between packets.
fn timeless(row: &FlowRow) -> impl PartialEq + std::fmt::Debug + use<> {
    let sides = row.sides.map(|side| {
        (
            (
                side.next_seq,
                side.retransmits + side.out_of_order,
                side.zero_windows,
            ),
            (side.window_min, side.syns, side.resets, side.flags),
            (side.ttl_min, side.ttl_max, side.window_scale, side.tos),
            (side.icmp_type, side.icmp_code),
        )
    });
    (row.counts, sides, row.flags, row.client, row.connections)
}

#[test]
fn kernel_and_host_count_every_packet_alike() {
    if !super::may_load() {
        return;
    }
    let mut trial = Trial::load_weir(&["weir_xdp"], FLOW_ROWS, &UNLIMITED).expect("the program loads");
    let mut ring = trial.take_ring("EVENTS").expect("a ring");
    let program = trial.program("weir_xdp").expect("loaded");
    let mut host = Host::default();
    let mut attempts = HashMap::new();
    let captures = super::captures::for_each_packet(|_, packet| {
        if Link::from_linktype(u32::from(packet.linktype)) != Some(Link::Ethernet)
            || sys::test_run(program, packet.data, 1).is_err()
        {
            return;
        }
        host.add(packet.data, host.total.0);
        if host.total.0 % DRAIN_EVERY == 0 {
            drain(&mut ring, &mut attempts);
        }
    });
    if captures.is_none() {
        return;
    }
    drain(&mut ring, &mut attempts);

    let counters = sum_counters(&trial);
    let losses = sum_losses(&trial);
    let mut aggregated = 0;
    sys::for_each::<AggregateKey, AggregateRow>(trial.map("AGGREGATES").expect("a map"), |_, row| {
        aggregated += row.packets;
    })
    .expect("aggregates");
    let mut rows = HashMap::new();
    sys::for_each::<FlowKey, FlowRow>(trial.map("FLOWS").expect("a map"), |key, row| {
        rows.insert(*key, *row);
    })
    .expect("flows");

    assert_eq!((counters.packets, counters.bytes), host.total);
    assert_eq!(counters.rejects, host.rejects);
    let accounted = counters.in_rows + counters.attempts + counters.aggregated;
    assert_eq!(
        counters.packets,
        accounted + counters.rejects.iter().sum::<u64>(),
        "a packet is in none of the counters: {counters:?}"
    );
    assert_eq!((counters.aggregated, aggregated), (0, 0), "no budget ends here");
    assert_eq!(counters.inner_in_rows, host.inner);
    assert_eq!(counters.inner_without_row, 0);
    let only_overwritten = Losses {
        pending_overwritten: losses.pending_overwritten,
        ..Losses::default()
    };
    assert_eq!(losses, only_overwritten);
    let n_attempts: u64 = attempts.values().map(|sum| sum.0).sum();
    assert_eq!(n_attempts, counters.attempts);

    let (mut n_whole, mut n_adopted) = (0, 0);
    for (key, expected) in &host.flows {
        let attempted = attempts.remove(key).unwrap_or_default();
        let Some(row) = rows.remove(key) else {
            assert_eq!(attempted, sum_of(expected), "a flow without a row: {key:?}");
            continue;
        };
        let (packets, bytes) = sum_of(&row);
        let adopted = (u64::from(row.adopted_packets), u64::from(row.adopted_bytes));
        let counted = (packets - adopted.0 + attempted.0, bytes - adopted.1 + attempted.1);
        assert_eq!(counted, sum_of(expected), "{key:?}, {row:?}");
        n_adopted += adopted.0;
        // Where every packet is in the row, the rest must agree, too; of a SYN sent twice only the last
        // TTL is kept until the handshake completes.
        let is_once = expected.connections <= 1 && expected.sides.iter().all(|side| side.syns <= 1);
        if adopted == attempted && is_once {
            n_whole += 1;
            let flags = !wire::flow::row_flag::PARTIAL;
            let unflagged = |row: &FlowRow| FlowRow {
                flags: row.flags & flags,
                ..*row
            };
            assert_eq!(
                timeless(&unflagged(&row)),
                timeless(&unflagged(expected)),
                "{key:?}"
            );
        }
    }
    assert!(
        rows.is_empty() && attempts.is_empty(),
        "flows that the host has not"
    );
    println!(
        "{} packets, {} flows, {n_whole} rows alike in every timeless field, {n_adopted} handshake packets \
         adopted, {} attempts, {} inner, {} handshakes overwritten",
        host.total.0,
        host.flows.len(),
        counters.attempts,
        host.inner,
        losses.pending_overwritten
    );
    assert!(n_whole > 0 && n_adopted > 0);
}

fn sum_counters(trial: &Trial) -> InterfaceCounters {
    let n_cpus = sys::possible_cpus().expect("a number of CPUs");
    let map = trial.map("INTERFACES").expect("a map");
    let rows = sys::lookup_per_cpu::<InterfaceCounters>(map, INGRESS, n_cpus).expect("a row");
    rows.into_iter()
        .reduce(|mut sum, row| {
            sum.packets += row.packets;
            sum.bytes += row.bytes;
            sum.in_rows += row.in_rows;
            sum.attempts += row.attempts;
            sum.aggregated += row.aggregated;
            for (total, count) in sum.rejects.iter_mut().zip(row.rejects) {
                *total += count;
            }
            sum.l4_faults += row.l4_faults;
            sum.inner_in_rows += row.inner_in_rows;
            sum.inner_without_row += row.inner_without_row;
            sum
        })
        .expect("at least one CPU")
}

fn sum_losses(trial: &Trial) -> Losses {
    let n_cpus = sys::possible_cpus().expect("a number of CPUs");
    let map = trial.map("LOSSES").expect("a map");
    let rows = sys::lookup_per_cpu::<Losses>(map, 0, n_cpus).expect("a row");
    rows.into_iter()
        .reduce(|mut sum, row| {
            sum.flow_table_full += row.flow_table_full;
            sum.over_row_budget += row.over_row_budget;
            sum.over_attempt_budget += row.over_attempt_budget;
            sum.over_sample_budget += row.over_sample_budget;
            sum.ring_full_attempt += row.ring_full_attempt;
            sum.ring_full_sample += row.ring_full_sample;
            sum.aggregate_overflow_packets += row.aggregate_overflow_packets;
            sum.aggregate_overflow_bytes += row.aggregate_overflow_bytes;
            sum.pending_overwritten += row.pending_overwritten;
            sum.socket_table_full += row.socket_table_full;
            sum
        })
        .expect("at least one CPU")
}
