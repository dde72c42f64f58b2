//! Drives the engine with bytes, for tests and the fuzzer: one flow, each side's bytes in turn.

use wire::{Addr, Direction, FlowKey, ip_proto};

use super::conn::Conn;
use super::engine::{Config, Engine};
use super::insight::Insight;
use super::record::{Anomaly, Record};
use super::segment::Segment;

/// What one side sends: 0 the client, 1 the server.
pub type Said<'a> = (usize, &'a [u8]);

/// What came of a flow.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub insight: Insight,
    pub records: Vec<Record>,
}

impl Outcome {
    /// Type and body of each record, as EVE has them.
    #[must_use]
    pub fn bodies(&self) -> Vec<(&'static str, serde_json::Value)> {
        let body = |record: &Record| record.body().unwrap_or_default();
        self.records
            .iter()
            .map(|record| (record.event_type(), body(record)))
            .collect()
    }

    /// The anomalies among the records.
    pub fn anomalies(&self) -> impl Iterator<Item = Anomaly> + '_ {
        self.records.iter().filter_map(|record| match record {
            Record::Anomaly(anomaly) => Some(*anomaly),
            _ => None,
        })
    }
}

const CLIENT: ([u8; 4], u16) = ([192, 0, 2, 1], 40_000);
const SERVER: [u8; 4] = [198, 51, 100, 2];

fn key(protocol: u8, server_port: u16) -> FlowKey {
    FlowKey {
        a: Addr::v4(CLIENT.0),
        b: Addr::v4(SERVER),
        a_port: CLIENT.1,
        b_port: server_port,
        protocol,
        family: 4,
        ..FlowKey::default()
    }
}

/// A flow over the number of a protocol above IP, to this port; `cut` says in what pieces each text of a TCP
/// flow is sent.
#[must_use]
pub fn run(protocol: u8, port: u16, said: &[Said<'_>], cut: impl Fn(usize, usize) -> Vec<usize>) -> Outcome {
    run_captured(protocol, port, said, cut, usize::MAX)
}

/// A TCP flow to a port that says nothing, each text in one segment, of which a capture holds so many bytes.
#[must_use]
pub fn stream_captured(said: &[Said<'_>], captured: usize) -> Outcome {
    run_captured(ip_proto::TCP, 9, said, |_, _| Vec::new(), captured)
}

fn run_captured(
    protocol: u8,
    port: u16,
    said: &[Said<'_>],
    cut: impl Fn(usize, usize) -> Vec<usize>,
    captured: usize,
) -> Outcome {
    let mut engine = Engine::new(Config::default());
    let mut conn = Conn::new(&mut engine, key(protocol, port), Direction::AToB, 1, 0);
    let mut next = [1000u32, 2000];
    let mut ts_ns = 0;
    if protocol == ip_proto::TCP {
        for (direction, seq) in [(Direction::AToB, 999), (Direction::BToA, 1999)] {
            let open = Segment {
                ts_ns,
                direction,
                seq,
                ack: 0,
                flags: wire::tcp::flag::SYN,
                payload: &[],
                wire_len: 0,
            };
            conn.packet(&mut engine, &open);
        }
    }
    for (turn, &(side, bytes)) in said.iter().enumerate() {
        let mut rest = bytes;
        for len in cut(turn, bytes.len()).into_iter().chain([usize::MAX]) {
            let (piece, after) = rest.split_at(len.min(rest.len()));
            rest = after;
            if piece.is_empty() {
                continue;
            }
            ts_ns += 1_000_000;
            let segment = Segment {
                ts_ns,
                direction: [Direction::AToB, Direction::BToA][side],
                seq: next[side],
                ack: next[1 - side],
                flags: wire::tcp::flag::ACK | wire::tcp::flag::PSH,
                payload: &piece[..piece.len().min(captured)],
                wire_len: piece.len() as u32,
            };
            conn.packet(&mut engine, &segment);
            next[side] = next[side].wrapping_add(piece.len() as u32);
        }
    }
    conn.finish(&mut engine, ts_ns);
    Outcome {
        insight: conn.insight,
        records: engine.take_events().map(|event| event.record).collect(),
    }
}

/// A TCP flow to a port that says nothing, each text in one segment.
#[must_use]
pub fn stream(said: &[Said<'_>]) -> Outcome {
    run(ip_proto::TCP, 9, said, |_, _| Vec::new())
}

/// A UDP flow to this port.
#[must_use]
pub fn datagrams(port: u16, said: &[Said<'_>]) -> Outcome {
    run(ip_proto::UDP, port, said, |_, _| Vec::new())
}

/// Every way to say the same over TCP gives the same: each text cut once at every place, and into pieces
/// of 1, 2, 3 and 7 bytes. Nothing that is cut short makes it panic.
///
/// # Panics
/// If not.
pub fn check_cuts(said: &[Said<'_>]) {
    let whole = stream(said);
    let same = |outcome: &Outcome, what: &str| {
        assert_eq!(outcome.bodies(), whole.bodies(), "{what}");
        assert_eq!(outcome.insight, whole.insight, "{what}");
    };
    for (turn, (_, bytes)) in said.iter().enumerate() {
        let step = (bytes.len() / 512).max(1);
        for at in (1..bytes.len()).step_by(step) {
            let cut = run(ip_proto::TCP, 9, said, |now, _| {
                if now == turn { vec![at] } else { Vec::new() }
            });
            same(&cut, &format!("text {turn} cut at {at}"));
            let mut short = said[..=turn].to_vec();
            short[turn].1 = &bytes[..at];
            let _ = stream(&short);
        }
    }
    for piece in [1, 2, 3, 7] {
        let cut = run(ip_proto::TCP, 9, said, |_, len| vec![piece; len / piece]);
        same(&cut, &format!("pieces of {piece}"));
    }
}

/// A TCP flow is of this protocol and gives these records (type and body), however it is cut.
///
/// # Panics
/// If not.
#[track_caller]
pub fn check_stream(said: &[Said<'_>], app: Option<&str>, expected: &[(&str, serde_json::Value)]) {
    let outcome = stream(said);
    assert_eq!(outcome.insight.app, app);
    let expected: Vec<_> = expected
        .iter()
        .map(|(kind, body)| (*kind, body.clone()))
        .collect();
    assert_eq!(outcome.bodies(), expected);
    check_cuts(said);
}

/// A UDP flow to port 9 is of this protocol and gives these records; no prefix of a datagram makes it panic.
///
/// # Panics
/// If not.
#[track_caller]
pub fn check_datagrams(said: &[Said<'_>], app: Option<&str>, expected: &[(&str, serde_json::Value)]) {
    check_datagrams_to(9, said, app, expected);
}

/// The same to a port.
///
/// # Panics
/// If not.
#[track_caller]
pub fn check_datagrams_to(
    port: u16,
    said: &[Said<'_>],
    app: Option<&str>,
    expected: &[(&str, serde_json::Value)],
) {
    let outcome = datagrams(port, said);
    assert_eq!(outcome.insight.app, app);
    let expected: Vec<_> = expected
        .iter()
        .map(|(kind, body)| (*kind, body.clone()))
        .collect();
    assert_eq!(outcome.bodies(), expected);
    for (turn, (_, bytes)) in said.iter().enumerate() {
        for at in 0..bytes.len() {
            let mut short = said[..=turn].to_vec();
            short[turn].1 = &bytes[..at];
            let _ = datagrams(port, &short);
        }
    }
}
