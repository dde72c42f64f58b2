use super::*;

/// One fragment of a UDP datagram to port 53: offset in bytes, its bytes, whether more follow.
type Piece<'a> = (u16, &'a [u8], bool);

fn frame4((offset, bytes, has_more): Piece<'_>) -> Vec<u8> {
    let field = (offset / 8) | if has_more { 0x2000 } else { 0 };
    let mut frame = vec![0x45, 0];
    frame.extend((20 + bytes.len() as u16).to_be_bytes());
    frame.extend([0, 7]);
    frame.extend(field.to_be_bytes());
    frame.extend([64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    frame.extend(bytes);
    frame
}

fn frame6((offset, bytes, has_more): Piece<'_>) -> Vec<u8> {
    let mut frame = vec![0x60, 0, 0, 0];
    frame.extend((8 + bytes.len() as u16).to_be_bytes());
    frame.extend([44, 64]);
    frame.extend([0x20; 16]);
    frame.extend([0x30; 16]);
    frame.extend([17, 0]);
    frame.extend((offset | u16::from(has_more)).to_be_bytes());
    frame.extend([0, 0, 0, 7]);
    frame.extend(bytes);
    frame
}

/// A UDP header and 20 bytes of payload.
fn datagram() -> Vec<u8> {
    let mut bytes = vec![0x9c, 0x40, 0, 53, 0, 28, 0, 0];
    bytes.extend(1..=20);
    bytes
}

/// Feeds the pieces, one a second; payload of what was put together.
fn feed(
    defrag: &mut Defrag,
    pieces: &[Piece<'_>],
    frame: fn(Piece<'_>) -> Vec<u8>,
    step_ns: u64,
) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        let frame = frame(*piece);
        let packet =
            wire::parse(frame.as_slice(), Start::of(Link::Raw, frame.len() as u32)).expect("a packet");
        assert!(is_fragment(&packet));
        if let Outcome::Whole(whole) = defrag.add(&packet, &frame, 0, at as u64 * step_ns) {
            assert_eq!((whole.packet.src_port, whole.packet.dst_port), (40_000, 53));
            assert_eq!(whole.packet.src, packet.src);
            assert_eq!(whole.packet.notes, 0);
            let payload = &whole.frame[usize::from(whole.packet.payload_at)..];
            found.push(payload.to_vec());
        }
    }
    found
}

#[track_caller]
fn check(pieces: &[Piece<'_>], is_whole: bool, counters: Counters) {
    for frame in [frame4, frame6] {
        let mut defrag = Defrag::default();
        let found = feed(&mut defrag, pieces, frame, 1_000_000_000);
        let expected: Vec<Vec<u8>> = is_whole.then(|| (1..=20).collect()).into_iter().collect();
        assert_eq!(found, expected);
        assert_eq!(*defrag.counters(), counters);
    }
}

const DONE: Counters = Counters {
    datagrams: 1,
    overlaps: 0,
    timeouts: 0,
    evicted: 0,
    unusable_fragments: 0,
};
const NONE: Counters = Counters { datagrams: 0, ..DONE };

#[test]
fn in_any_order_and_with_repetitions() {
    let all = datagram();
    let (a, b, c) = (
        (0, &all[..8], true),
        (8, &all[8..24], true),
        (24, &all[24..], false),
    );
    check(&[a, b, c], true, DONE);
    check(&[c, b, a], true, DONE);
    check(&[b, a, a, b, c], true, DONE);
    check(&[c, c, a, b], true, DONE);
    check(&[a, c], false, NONE);
}

#[test]
fn overlaps_drop_the_datagram() {
    let all = datagram();
    let other = [0xff; 16];
    let overlaps = Counters { overlaps: 1, ..NONE };
    check(&[(0, &all[..16], true), (8, &other, true)], false, overlaps);
    check(&[(0, &all[..16], true), (0, &other, true)], false, overlaps);
    // A last fragment that ends before bytes that came, and bytes behind the last one.
    check(&[(16, &other, true), (8, &all[8..16], false)], false, overlaps);
    check(&[(16, &all[16..], false), (32, &other, true)], false, overlaps);
}

#[test]
fn late_and_impossible_fragments() {
    let all = datagram();
    let (a, b) = ((0, &all[..16], true), (16, &all[16..], false));
    let mut defrag = Defrag::default();
    assert!(feed(&mut defrag, &[a, b], frame4, PATIENCE_NS + 1).is_empty());
    assert_eq!(defrag.counters().timeouts, 1);
    assert_eq!(defrag.given_up().count(), 1);
    defrag.finish();
    assert_eq!((defrag.given_up().count(), defrag.held), (0, 0));
    let unusable = Counters {
        unusable_fragments: 1,
        ..NONE
    };
    check(&[(0, &all[..13], true)], false, unusable);
    check(&[(65_528, &all[..16], true)], false, unusable);
    // A capture that cut a fragment short.
    let frame = frame4(a);
    let packet = wire::parse(frame.as_slice(), Start::of(Link::Raw, frame.len() as u32)).expect("a packet");
    let mut defrag = Defrag::default();
    assert!(matches!(
        defrag.add(&packet, &frame[..30], 0, 0),
        Outcome::Unusable
    ));
    assert_eq!(defrag.counters().unusable_fragments, 1);
}

#[test]
fn memory_is_bounded() {
    let mut defrag = Defrag::default();
    let bytes = [7; 1400];
    let n = DATAGRAMS_MAX as u32 + 100;
    for id in 0..n {
        let mut frame = frame4((0, &bytes, true));
        frame[4..6].copy_from_slice(&(id as u16).to_be_bytes());
        let packet =
            wire::parse(frame.as_slice(), Start::of(Link::Raw, frame.len() as u32)).expect("a packet");
        assert!(matches!(defrag.add(&packet, &frame, 0, 0), Outcome::Held));
    }
    assert_eq!(defrag.datagrams.len(), DATAGRAMS_MAX);
    assert_eq!(defrag.counters().evicted, 100);
    assert_eq!(defrag.held, DATAGRAMS_MAX * bytes.len());
}

/// A time message in two fragments: no one of them says what the flow is.
#[test]
fn the_flow_table_reads_what_was_put_together() {
    use crate::layer7;
    use crate::table::{Config, FlowTable, Frame};
    let mut bytes = vec![0x9c, 0x40, 0, 123, 0, 56, 0, 0, 0x23, 0, 6, 0xec];
    bytes.resize(56, 0);
    let mut table = FlowTable::new(Config {
        layer7: Some(layer7::Config::default()),
        ..Config::new(wire::flow::HashKeys([7; 14]))
    });
    for (at, piece) in [(24, &bytes[24..], false), (0, &bytes[..24], true)]
        .into_iter()
        .enumerate()
    {
        let data = frame4(piece);
        table.add(&Frame {
            ts_ns: at as u64,
            linktype: 101,
            interface: 0,
            wire_len: data.len() as u32,
            data: &data,
        });
    }
    assert_eq!(table.defrag().datagrams, 1);
    table.finish();
    let flows: Vec<_> = table.take_ended().collect();
    let apps: Vec<_> = flows
        .iter()
        .filter_map(|flow| flow.insight.as_ref()?.app)
        .collect();
    assert_eq!(apps, ["ntp"], "{flows:?}");
    assert_eq!(
        flows
            .iter()
            .map(|flow| flow.row.counts[0].packets() + flow.row.counts[1].packets())
            .sum::<u64>(),
        2
    );
}
