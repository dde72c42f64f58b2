//! Packets in, flow records out.

use super::*;
use crate::record::{Context, FlowRecord, tcp_flag_letters};

const KEYS: HashKeys = HashKeys([7; 14]);
const MS: u64 = 1_000_000;
const ETHERNET: u32 = 1;
/// An arbitrary beginning of time.
const BEGIN_NS: u64 = 1_600_000_000_000_000_000;

/// A frame and when it comes, in milliseconds after [`BEGIN_NS`].
type Stamped = (i64, Vec<u8>);

// === Frames ===

const CLIENT: [u8; 4] = [10, 0, 0, 9];
const SERVER: [u8; 4] = [10, 0, 0, 1];

fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [
        &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2],
        ethertype.to_be_bytes().as_slice(),
        payload,
    ]
    .concat()
}

/// `fragment` is the flags and offset field.
fn ipv4(protocol: u8, src: [u8; 4], dst: [u8; 4], fragment: u16, payload: &[u8]) -> Vec<u8> {
    let total_len = 20 + payload.len() as u16;
    let mut header = vec![0x45, 0];
    header.extend(total_len.to_be_bytes());
    header.extend([0, 77]);
    header.extend(fragment.to_be_bytes());
    header.extend([64, protocol, 0, 0]);
    header.extend(src);
    header.extend(dst);
    header.extend(payload);
    header
}

fn udp_datagram(src_port: u16, dst_port: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend(src_port.to_be_bytes());
    datagram.extend(dst_port.to_be_bytes());
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

/// Who sends.
#[derive(Clone, Copy, PartialEq)]
enum Sender {
    Client,
    Server,
}
use Sender::{Client, Server};

impl Sender {
    /// Addresses of the sender and the receiver, then ports.
    fn ends(self, ports: (u16, u16)) -> ([u8; 4], [u8; 4], u16, u16) {
        match self {
            Client => (CLIENT, SERVER, ports.0, ports.1),
            Server => (SERVER, CLIENT, ports.1, ports.0),
        }
    }
}

/// A TCP segment between port 40000 and port 443. `flags` are letters; numbers are relative.
fn tcp(at_ms: i64, from: Sender, flags: &str, seq: u32, len: usize) -> Stamped {
    tcp_window(at_ms, from, flags, seq, len, 1000)
}

fn tcp_window(at_ms: i64, from: Sender, flags: &str, seq: u32, len: usize, window: u16) -> Stamped {
    let (src, dst, src_port, dst_port) = from.ends((40_000, 443));
    (
        at_ms,
        segment((src, dst), (src_port, dst_port), flags, seq, len, window),
    )
}

fn segment(
    (src, dst): ([u8; 4], [u8; 4]),
    (src_port, dst_port): (u16, u16),
    flags: &str,
    seq: u32,
    len: usize,
    window: u16,
) -> Vec<u8> {
    let bits = (0..8).map(|bit| 1 << bit);
    let flags = bits.filter(|&bit| tcp_flag_letters(bit).chars().all(|letter| flags.contains(letter)));
    let mut header = Vec::new();
    header.extend(src_port.to_be_bytes());
    header.extend(dst_port.to_be_bytes());
    header.extend(seq.to_be_bytes());
    header.extend([0; 4]);
    header.extend([0x50, flags.sum::<u8>()]);
    header.extend(window.to_be_bytes());
    header.extend([0; 4]);
    header.extend(vec![0; len]);
    ethernet(0x0800, &ipv4(6, src, dst, 0, &header))
}

fn udp(at_ms: i64, from: Sender, ports: (u16, u16), len: usize) -> Stamped {
    let (src, dst, src_port, dst_port) = from.ends(ports);
    let datagram = udp_datagram(src_port, dst_port, &vec![0; len]);
    (at_ms, ethernet(0x0800, &ipv4(17, src, dst, 0, &datagram)))
}

fn icmp(at_ms: i64, from: Sender, kind: u8, code: u8, id: u16) -> Stamped {
    let (src, dst, ..) = from.ends((0, 0));
    let id = id.to_be_bytes();
    let message = [kind, code, 0, 0, id[0], id[1], 0, 1];
    (at_ms, ethernet(0x0800, &ipv4(1, src, dst, 0, &message)))
}

/// A connection opened at `at_ms`: the server 20 ms away, the client 5 ms.
fn handshake(at_ms: i64, seq: u32) -> Vec<Stamped> {
    vec![
        tcp(at_ms, Client, "S", seq, 0),
        tcp(at_ms + 20, Server, "SA", 900, 0),
        tcp(at_ms + 25, Client, "A", seq + 1, 0),
    ]
}

// === Checking ===

fn run(config: Config, frames: &[Stamped]) -> (Vec<FlowRecord>, Totals) {
    let mut table = FlowTable::new(config);
    for (at_ms, data) in frames {
        table.add(&Frame {
            ts_ns: BEGIN_NS.saturating_add_signed(at_ms.saturating_mul(MS as i64)),
            linktype: ETHERNET,
            interface: 0,
            wire_len: data.len() as u32,
            data,
        });
    }
    table.finish();
    let records: Vec<FlowRecord> = table.take_ended().map(|flow| record(&flow)).collect();
    let totals = *table.totals();
    let rejected: u64 = totals.rejects.iter().sum();
    assert_eq!(totals.packets, totals.in_flows + rejected);
    let in_records: u64 = records.iter().map(FlowRecord::packets).sum();
    assert_eq!(in_records, totals.in_flows + totals.inner_in_flows);
    assert_eq!(records.len() as u64, totals.flows);
    (records, totals)
}

fn record(flow: &EndedFlow) -> FlowRecord {
    let context = Context {
        reason: Some(flow.reason),
        ..Context::default()
    };
    FlowRecord::from_row(&flow.key, &flow.row, &context)
}

/// One line: who, state and why it ended, packets each way, and whatever is not zero.
fn describe(record: &FlowRecord) -> String {
    let protocol = crate::names::protocol_name(record.protocol).unwrap_or("?");
    let mut words = vec![format!(
        "{protocol} {}:{} {}:{} {} {} {}/{}",
        record.src,
        record.src_port,
        record.dst,
        record.dst_port,
        record.state.name(),
        record.reason.map_or("", EndReason::name),
        record.to_server.packets,
        record.to_client.packets
    )];
    if let Some(tunnel) = record.tunnel {
        words.push(format!("{} {}", tunnel.kind, tunnel.id));
    }
    if let Some(tcp) = record.tcp {
        words.push(tcp.state.name().to_owned());
        let times = [
            ("rtt_client", tcp.rtt_client_us),
            ("rtt_server", tcp.rtt_server_us),
        ];
        words.extend(
            times
                .iter()
                .filter_map(|(name, us)| Some(format!("{name} {}", (*us)?))),
        );
        let counts = [
            ("retransmits", tcp.retransmits()),
            ("out_of_order", tcp.out_of_order()),
            ("zero_windows", tcp.zero_windows()),
            ("resets", tcp.resets()),
        ];
        let seen = counts.iter().filter(|(_, count)| *count > 0);
        words.extend(seen.map(|(name, count)| format!("{name} {count}")));
    }
    if let Some(icmp) = record.icmp {
        words.push(format!("type {:?} answer {:?}", icmp.request, icmp.response));
    }
    if record.has_fragments {
        words.push("fragments".to_owned());
    }
    if record.is_partial {
        words.push("partial".to_owned());
    }
    words.join(" ")
}

#[track_caller]
fn check(frames: &[Stamped], expected: &[&str]) {
    let (records, _) = run(Config::new(KEYS), frames);
    let found: Vec<String> = records.iter().map(describe).collect();
    assert_eq!(found, expected);
}

const TCP_FLOW: &str = "tcp 10.0.0.9:40000 10.0.0.1:443";

// === TCP ===

#[test]
fn tcp_states() {
    let check = |more: &[Stamped], expected: &str| {
        let frames = [handshake(0, 100), more.to_vec()].concat();
        check(&frames, &[&format!("{TCP_FLOW} {expected}")]);
    };
    let rtt = "rtt_client 5000 rtt_server 20000";
    check(&[], &format!("established shutdown 2/1 established {rtt}"));
    check(
        &[tcp(30, Client, "FA", 101, 0)],
        &format!("established shutdown 3/1 close_wait {rtt}"),
    );
    check(
        &[tcp(30, Server, "FA", 901, 0)],
        &format!("established shutdown 2/2 fin_wait1 {rtt}"),
    );
    check(
        &[
            tcp(30, Client, "FA", 101, 0),
            tcp(40, Server, "FA", 901, 0),
            tcp(41, Client, "A", 102, 0),
        ],
        &format!("closed shutdown 4/2 closed {rtt}"),
    );
    check(
        &[tcp(30, Server, "RA", 901, 0)],
        &format!("closed shutdown 2/2 closed {rtt} resets 1"),
    );
}

#[test]
fn tcp_openings() {
    let syn = tcp(0, Client, "S", 100, 0);
    check(
        std::slice::from_ref(&syn),
        &[&format!("{TCP_FLOW} new shutdown 1/0 syn_sent")],
    );
    check(
        &[syn.clone(), tcp(20, Server, "SA", 900, 0)],
        &[&format!("{TCP_FLOW} new shutdown 1/1 syn_recv rtt_server 20000")],
    );
    check(
        &[syn, tcp(20, Server, "RA", 0, 0)],
        &[&format!("{TCP_FLOW} closed shutdown 1/1 closed resets 1")],
    );
    check(
        &[tcp(20, Server, "SA", 900, 0), tcp(25, Client, "A", 101, 0)],
        &[&format!(
            "{TCP_FLOW} established shutdown 1/1 established rtt_client 5000"
        )],
    );
}

#[test]
fn joined_in_the_middle_goes_by_ports() {
    check(
        &[tcp(0, Server, "A", 900, 10), tcp(1, Client, "A", 100, 10)],
        &[&format!(
            "{TCP_FLOW} established shutdown 1/1 established partial"
        )],
    );
}

#[test]
fn no_round_trip_from_repeated_segments() {
    check(
        &[
            tcp(0, Client, "S", 100, 0),
            tcp(1000, Client, "S", 100, 0),
            tcp(1020, Server, "SA", 900, 0),
            tcp(1025, Client, "A", 101, 0),
        ],
        &[&format!(
            "{TCP_FLOW} established shutdown 3/1 established rtt_client 5000 retransmits 1"
        )],
    );
}

#[test]
fn retransmits_and_disorder() {
    let check = |more: &[Stamped], expected: &str| {
        let frames = [handshake(0, 100), more.to_vec()].concat();
        let state = "established rtt_client 5000 rtt_server 20000";
        let n = 2 + more.len();
        check(
            &frames,
            &[&format!(
                "{TCP_FLOW} established shutdown {n}/1 {state}{expected}"
            )],
        );
    };
    let data = |at_ms, seq| tcp(at_ms, Client, "A", seq, 100);
    check(&[data(30, 101), data(31, 201), data(32, 301)], "");
    check(&[data(30, 101), data(31, 201), data(300, 201)], " retransmits 1");
    // The hole is filled within a round trip: disorder on the way. Later: sent again.
    check(&[data(30, 101), data(31, 301), data(32, 201)], " out_of_order 1");
    check(&[data(30, 101), data(31, 301), data(90, 201)], " retransmits 1");
    check(&[data(30, 101), data(31, 301), data(55, 201)], " out_of_order 1");
    check(&[data(30, 101), data(31, 301), data(56, 201)], " retransmits 1");
    // A keep-alive repeats the last byte.
    check(&[data(30, 101), tcp(9000, Client, "A", 200, 1)], "");
}

#[test]
fn zero_windows_are_counted_by_closing() {
    let mut frames = handshake(0, 100);
    for (at_ms, window) in [(30, 0), (31, 0), (32, 500), (33, 0)] {
        frames.push(tcp_window(at_ms, Server, "A", 901, 0, window));
    }
    check(
        &frames,
        &[&format!(
            "{TCP_FLOW} established shutdown 2/5 established rtt_client 5000 rtt_server 20000 zero_windows 2"
        )],
    );
}

#[test]
fn ports_used_again() {
    let mut frames = handshake(0, 100);
    frames.push(tcp(30, Client, "RA", 101, 0));
    frames.extend(handshake(40, 5000));
    let rtt = "rtt_client 5000 rtt_server 20000";
    check(
        &frames,
        &[
            &format!("{TCP_FLOW} closed tcp_reuse 3/1 closed {rtt} resets 1"),
            &format!("{TCP_FLOW} established shutdown 2/1 established {rtt}"),
        ],
    );
    // The end of the first connection was not seen.
    let mut frames = handshake(0, 100);
    frames.push(tcp(30, Client, "A", 101, 1400));
    frames.push(tcp(31, Client, "A", 1501, 1400));
    frames.extend(handshake(40, 900_000));
    check(
        &frames,
        &[
            &format!("{TCP_FLOW} established tcp_reuse 4/1 established {rtt}"),
            &format!("{TCP_FLOW} established shutdown 2/1 established {rtt}"),
        ],
    );
}

// === Time ===

#[test]
fn silence_ends_flows() {
    let check = |frames: &[Stamped], n_flows: usize| {
        let (records, _) = run(Config::new(KEYS), frames);
        let found: Vec<String> = records.iter().map(describe).collect();
        assert_eq!(records.len(), n_flows, "{found:#?}");
    };
    let data = |at_ms| tcp(at_ms, Client, "A", 101, 0);
    let established = |at_ms| [handshake(0, 100), vec![data(at_ms)]].concat();
    check(&established(600_000), 1);
    check(&established(601_000), 2);
    let half_open = |at_ms| [tcp(0, Client, "S", 100, 0), tcp(at_ms, Client, "S", 100, 0)];
    check(&half_open(60_000), 1);
    check(&half_open(60_001), 2);
    let closed = |at_ms| {
        [
            vec![tcp(0, Client, "A", 90, 0), tcp(1, Client, "R", 101, 0)],
            vec![data(at_ms)],
        ]
        .concat()
    };
    check(&closed(10_001), 1);
    check(&closed(10_002), 2);
    let asked = |at_ms, port| {
        [
            udp(0, Client, (5000, port), 9),
            udp(at_ms, Client, (5000, port), 9),
        ]
    };
    check(&asked(60_000, 53), 1);
    check(&asked(60_001, 53), 2);
    let answered =
        |at_ms, port| [&[udp(-1, Server, (5000, port), 9)], asked(at_ms, port).as_slice()].concat();
    check(&answered(30_000, 53), 1);
    check(&answered(30_001, 53), 2);
    check(&answered(60_000, 9999), 1);
    check(&answered(60_001, 9999), 2);
    let pinged = |at_ms| [icmp(0, Client, 8, 0, 7), icmp(at_ms, Client, 8, 0, 7)];
    check(&pinged(30_000), 1);
    check(&pinged(30_001), 2);
}

#[test]
fn times_may_be_anything() {
    // Backward steps within a flow move its beginning.
    let (records, totals) = run(
        Config::new(KEYS),
        &[
            udp(0, Client, (1, 2), 0),
            udp(-500, Client, (1, 2), 0),
            udp(200, Client, (1, 2), 0),
        ],
    );
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].start_ns, BEGIN_NS - 500 * MS);
    assert_eq!(records[0].end_ns, BEGIN_NS + 200 * MS);
    assert_eq!(totals.backward_stamps, 1);
    // Days apart, either way, are other flows.
    let day_ms = 86_400_000;
    check(
        &[
            udp(0, Client, (1, 2), 0),
            udp(-day_ms, Client, (1, 2), 0),
            udp(day_ms, Server, (1, 2), 0),
        ],
        &[
            "udp 10.0.0.9:1 10.0.0.1:2 new timeout 1/0",
            "udp 10.0.0.9:1 10.0.0.1:2 new timeout 1/0",
            "udp 10.0.0.1:2 10.0.0.9:1 new shutdown 1/0",
        ],
    );
    // The ends of time.
    let frames = [udp(i64::MIN, Client, (1, 2), 0), udp(i64::MAX, Client, (1, 2), 0)];
    assert_eq!(run(Config::new(KEYS), &frames).0.len(), 2);
}

#[test]
fn one_absurd_stamp_ends_no_flow() {
    let mut frames = Vec::new();
    for at_ms in 0..20_000 {
        frames.push(udp(at_ms, Client, (5000, 9999), 10));
    }
    let far_ms = 100 * 365 * 86_400_000;
    frames[9_000].1 = udp(0, Client, (1, 2), 0).1;
    frames[9_000].0 = far_ms;
    check(
        &frames,
        &[
            "udp 10.0.0.9:5000 10.0.0.1:9999 new shutdown 19999/0",
            "udp 10.0.0.9:1 10.0.0.1:2 new shutdown 1/0",
        ],
    );
}

#[test]
fn sweeps_hand_out_idle_flows_early() {
    let mut table = FlowTable::new(Config::new(KEYS));
    let mut n_ended = 0;
    for at in 0..50_000_u32 {
        let ports = ((at / 100) as u16 + 1, 9);
        let (at_ms, data) = udp(i64::from(at) * 100, Client, ports, 1);
        table.add(&Frame {
            ts_ns: BEGIN_NS + at_ms as u64 * MS,
            linktype: ETHERNET,
            interface: 0,
            wire_len: data.len() as u32,
            data: &data,
        });
        n_ended += table.take_ended().len();
    }
    assert_eq!(table.totals().flows, 500);
    assert!(
        n_ended > 400,
        "{n_ended} of 500 flows were handed out before the end"
    );
    assert!(table.len() < 100, "{} flows are still held", table.len());
}

// === Other protocols ===

#[test]
fn icmp_names_the_first_message_each_way() {
    check(
        &[
            icmp(0, Client, 8, 0, 7),
            icmp(1, Server, 0, 0, 7),
            icmp(2, Client, 8, 0, 8),
        ],
        &[
            "icmp 10.0.0.9:0 10.0.0.1:0 established shutdown 1/1 type (8, 0) answer Some((0, 0))",
            "icmp 10.0.0.9:0 10.0.0.1:0 new shutdown 1/0 type (8, 0) answer None",
        ],
    );
    check(
        &[icmp(0, Server, 3, 1, 0)],
        &["icmp 10.0.0.1:0 10.0.0.9:0 new shutdown 1/0 type (3, 1) answer None"],
    );
}

#[test]
fn fragments_have_ports_once() {
    let first = ipv4(17, CLIENT, SERVER, 0x2000, &udp_datagram(5000, 9999, &[0; 16]));
    let later = ipv4(17, CLIENT, SERVER, 3, &[0; 100]);
    check(
        &[(0, ethernet(0x0800, &first)), (0, ethernet(0x0800, &later))],
        &[
            "udp 10.0.0.9:5000 10.0.0.1:9999 new shutdown 1/0 fragments",
            "udp 10.0.0.9:0 10.0.0.1:0 new shutdown 1/0 fragments",
        ],
    );
}

#[test]
fn the_openers_syn_is_kept() {
    let signature = |layer7: Option<layer7::Config>| {
        let mut table = FlowTable::new(Config {
            layer7,
            ..Config::new(KEYS)
        });
        for (_, data) in handshake(0, 100) {
            table.add(&Frame {
                ts_ns: 0,
                linktype: ETHERNET,
                interface: 0,
                wire_len: data.len() as u32,
                data: &data,
            });
        }
        table.finish();
        let flow = table.take_ended().next().expect("a flow");
        flow.syn.map(|syn| syn.signature())
    };
    assert_eq!(
        signature(Some(layer7::Config::default())).as_deref(),
        Some("4:64+0:0:0:1000,0:::0")
    );
    assert_eq!(signature(None), None);
}

#[test]
fn the_first_fragment_of_a_datagram_says_what_it_is_of() {
    let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\x01\x07example\0\0\x01\0\x01\0\0\x29\0\0\0\0\0\0\0\x40";
    let first = ipv4(17, CLIENT, SERVER, 0x2000, &udp_datagram(5000, 53, query));
    let mut table = FlowTable::new(Config {
        layer7: Some(layer7::Config::default()),
        ..Config::new(KEYS)
    });
    let data = ethernet(0x0800, &first);
    table.add(&Frame {
        ts_ns: 0,
        linktype: 1,
        interface: 0,
        wire_len: data.len() as u32,
        data: &data,
    });
    table.finish();
    let flow = table.take_ended().next().expect("a flow");
    assert_eq!(flow.insight.and_then(|insight| insight.app), Some("dns"));
    let events: Vec<_> = table
        .layer7()
        .expect("layer 7 is on")
        .take_events()
        .map(|event| event.record.event_type())
        .collect();
    // What is in the next fragment is not missing.
    assert_eq!(events, ["dns"]);
}

#[test]
fn tunnels_give_outer_and_inner_flows() {
    let inner = segment((CLIENT, SERVER), (40_000, 443), "S", 1, 0, 1000);
    let vxlan = [&[8, 0, 0, 0, 0, 0, 42, 0], inner.as_slice()].concat();
    let datagram = udp_datagram(55_555, 4789, &vxlan);
    let carrier = ipv4(17, [192, 0, 2, 1], [192, 0, 2, 2], 0, &datagram);
    let frames = [(0, ethernet(0x0800, &carrier))];
    check(
        &frames,
        &[
            "udp 192.0.2.1:55555 192.0.2.2:4789 new shutdown 1/0",
            &format!("{TCP_FLOW} new shutdown 1/0 vxlan 42 syn_sent"),
        ],
    );
    let (records, totals) = run(Config::new(KEYS), &frames);
    assert_eq!((totals.in_flows, totals.inner_in_flows), (1, 1));
    assert_eq!(
        records[1].bytes(),
        inner.len() as u64,
        "an inner packet weighs what it is itself"
    );
}

#[test]
fn nesting_has_an_end() {
    let mut packet = ipv4(17, CLIENT, SERVER, 0, &udp_datagram(1, 2, &[]));
    for _ in 0..6 {
        packet = ipv4(4, CLIENT, SERVER, 0, &packet);
    }
    let (records, totals) = run(Config::new(KEYS), &[(0, ethernet(0x0800, &packet))]);
    assert_eq!(totals.inner_in_flows, INNER_LEVELS_MAX as u64);
    assert_eq!(totals.inner_too_deep, 1);
    // All levels but the outermost look alike from outside.
    assert_eq!(records.len(), 2);
}

#[test]
fn what_is_in_no_flow_is_counted_by_reason() {
    let frames = [
        (0, ethernet(0x0806, &[0; 28])),
        (0, ethernet(0x88cc, &[0; 28])),
        (0, vec![0; 5]),
        (0, ethernet(0x0800, &[0x45, 0, 0])),
    ];
    let (records, totals) = run(Config::new(KEYS), &frames);
    assert!(records.is_empty());
    for reject in [Reject::Arp, Reject::NotIp, Reject::LinkShort, Reject::Ip4Short] {
        assert_eq!(totals.rejects[reject as usize], 1, "{}", reject.name());
    }
}

// === Bounds ===

#[test]
fn a_full_table_drops_the_longest_silent_and_counts_them() {
    let config = Config {
        flows_max: 1000,
        ..Config::new(KEYS)
    };
    let mut table = FlowTable::new(config);
    let mut n_ended = 0_usize;
    let n_packets = 50_000_u32;
    let mut seed = 1_u64;
    let mut packets_in_records = 0;
    for at in 0..n_packets {
        // Any fixed sequence will do: Knuth's multiplier.
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let ports = ((seed >> 48) as u16, (seed >> 32) as u16);
        let (_, data) = udp(0, Client, ports, 1);
        table.add(&Frame {
            ts_ns: BEGIN_NS + u64::from(at),
            linktype: ETHERNET,
            interface: 0,
            wire_len: data.len() as u32,
            data: &data,
        });
        assert!(table.len() <= 1000);
        for flow in table.take_ended() {
            assert_eq!(flow.reason, EndReason::Forced);
            assert!(
                flow.row.last_ns < BEGIN_NS + u64::from(at) - 900,
                "a recent flow was dropped"
            );
            packets_in_records += record(&flow).packets();
            n_ended += 1;
        }
    }
    assert_eq!(table.totals().evicted_flows, n_ended as u64);
    assert!(
        table.entries.capacity() <= 2048,
        "{} entries allocated",
        table.entries.capacity()
    );
    assert!(
        table.index.capacity() <= 4096,
        "{} cells allocated",
        table.index.capacity()
    );
    table.finish();
    packets_in_records += table
        .take_ended()
        .map(|flow| record(&flow).packets())
        .sum::<u64>();
    assert_eq!(packets_in_records, u64::from(n_packets));
}

// === Laws ===

proptest::proptest! {
    /// Whatever comes, whenever: nothing panics, nothing is lost, no record is upside down.
    #[test]
    fn any_frames_at_any_times(
        frames in proptest::collection::vec(
            (
                proptest::prelude::any::<u64>(),
                0..300_u32,
                proptest::prelude::any::<u32>(),
                proptest::collection::vec(proptest::prelude::any::<u8>(), 0..90),
                proptest::option::of(0..20_u8),
            ),
            0..200,
        ),
        flows_max in 0..40_usize,
    ) {
        let mut table = FlowTable::new(Config { flows_max, ..Config::new(KEYS) });
        let mut flows = Vec::new();
        for (ts_ns, linktype, wire_len, noise, real) in &frames {
            // Most noise is no packet; every other frame is one.
            let real = real.map(|host| segment((CLIENT, [10, 0, 0, host]), (1, 2), "SF", *wire_len, 3, 0));
            table.add(&Frame {
                ts_ns: *ts_ns,
                linktype: if real.is_some() { ETHERNET } else { *linktype },
                interface: 0,
                wire_len: *wire_len,
                data: real.as_deref().unwrap_or(noise),
            });
            proptest::prop_assert!(table.len() <= flows_max.max(1));
            flows.extend(table.take_ended());
        }
        table.finish();
        flows.extend(table.take_ended());
        let totals = table.totals();
        proptest::prop_assert_eq!(totals.packets, frames.len() as u64);
        proptest::prop_assert_eq!(totals.packets, totals.in_flows + totals.rejects.iter().sum::<u64>());
        proptest::prop_assert_eq!(totals.flows, flows.len() as u64);
        let records: Vec<FlowRecord> = flows.iter().map(record).collect();
        let in_records: u64 = records.iter().map(FlowRecord::packets).sum();
        proptest::prop_assert_eq!(in_records, totals.in_flows + totals.inner_in_flows);
        for record in &records {
            proptest::prop_assert!(record.start_ns <= record.end_ns);
            proptest::prop_assert!(record.id < 1 << 53);
        }
    }
}
