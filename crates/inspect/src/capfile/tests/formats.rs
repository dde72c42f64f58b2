//! One test a feature of the formats, on files built field by field.

use super::*;

/// (time, captured bytes, original length, link type) of each packet.
type Expected<'a> = &'a [(u64, &'a [u8], u32, u16)];

#[track_caller]
fn check(bytes: &[u8], expected: Expected<'_>) {
    let outcome = read_well(bytes);
    let found: Vec<_> = outcome
        .packets
        .iter()
        .map(|packet| {
            (
                packet.ts_ns,
                packet.data.as_slice(),
                packet.orig_len,
                packet.linktype,
            )
        })
        .collect();
    assert_eq!(found, expected);
    assert_eq!(outcome.stats.packets, expected.len() as u64);
}

#[test]
fn pcap_of_both_orders_and_resolutions() {
    for big in [false, true] {
        check(
            &plain_pcap(big),
            &[
                (1_000_002_000, b"one", 60, 1),
                (3_999_999_000, b"", 0, 1),
                (4_294_971_589_967_295_000, b"three", 5, 1),
            ],
        );
        let nano = FileBuilder::new(big)
            .pcap_header(0xa1b2_3c4d, 4, 113)
            .record(7, 8, b"x", 9);
        check(&nano.bytes, &[(7_000_000_008, b"x", 9, 113)]);
    }
}

#[test]
fn pcap_with_longer_headers() {
    for big in [false, true] {
        let modified = FileBuilder::new(big)
            .pcap_header(0xa1b2_cd34, 4, 1)
            .u32(1)
            .u32(0)
            .u32(2)
            .u32(70)
            .raw(&[3, 0, 0, 0, 8, 0, 4, 0])
            .raw(b"hi")
            .u32(2)
            .u32(0)
            .u32(1)
            .u32(1)
            .raw(&[3, 0, 0, 0, 8, 0, 4, 0])
            .raw(b"!");
        check(
            &modified.bytes,
            &[(1_000_000_000, b"hi", 70, 1), (2_000_000_000, b"!", 1, 1)],
        );
        for magic in [0x1c00_01ac, 0x1c00_01ab] {
            let ixia = FileBuilder::new(big)
                .pcap_header(magic, 4, 1)
                .u32(18)
                .record(1, 1, b"hi", 70);
            check(&ixia.bytes, &[(1_000_001_000, b"hi", 70, 1)]);
        }
    }
}

#[test]
fn pcap_with_lengths_in_the_old_order() {
    let old = |minor| FileBuilder::new(false).pcap_header(0xa1b2_c3d4, minor, 1);
    check(
        &old(2).u32(1).u32(0).u32(70).u32(2).raw(b"hi").bytes,
        &[(1_000_000_000, b"hi", 70, 1)],
    );
    check(
        &old(3).u32(1).u32(0).u32(70).u32(2).raw(b"hi").bytes,
        &[(1_000_000_000, b"hi", 70, 1)],
    );
    check(
        &old(3).u32(1).u32(0).u32(2).u32(70).raw(b"hi").bytes,
        &[(1_000_000_000, b"hi", 70, 1)],
    );
}

#[test]
fn pcap_link_type_beside_fcs_bits() {
    let file = FileBuilder::new(true).pcap_header(0xa1b2_c3d4, 4, 0x2400_0001);
    check(&file.record(0, 0, b"x", 1).bytes, &[(0, b"x", 1, 1)]);
}

#[test]
fn pcapng_with_every_block() {
    for big in [false, true] {
        let bytes = every_block(big);
        check(
            &bytes,
            &[
                (1_700_000_000_123_456_789, b"first packet", 112, 1),
                (5_000, b"abc", 3, 101),
                (77_000, b"older", 64, 101),
                (77_000, b"simple", 1500, 1),
                (42_000, b"last", 104, 1),
            ],
        );
        let outcome = read_well(&bytes);
        let stats = outcome.stats;
        assert_eq!(
            (stats.sections, stats.skipped_blocks, stats.bad_options),
            (2, 4, 0)
        );
        assert_eq!((stats.packets_without_time, stats.times_out_of_range), (1, 0));
        let commented = &outcome.packets[1];
        assert_eq!(commented.comment.as_deref(), Some("a comment"));
        assert_eq!(commented.flags, if big { 2 } else { 0x0200_0000 });
        assert_eq!(outcome.packets[0].comment, None);
        assert_eq!(outcome.interfaces.len(), 1, "those of the last section");
    }
}

#[test]
fn pcapng_sections_of_different_orders_in_one_file() {
    let mut bytes = FileBuilder::new(false)
        .section()
        .interface(1, 0)
        .enhanced(0, 1, b"a")
        .bytes;
    bytes.extend(
        FileBuilder::new(true)
            .section()
            .interface(113, 0)
            .enhanced(0, 2, b"b")
            .bytes,
    );
    check(&bytes, &[(1_000, b"a", 101, 1), (2_000, b"b", 101, 113)]);
}

#[test]
fn pcapng_interface_options() {
    let file = |options: fn(FileBuilder) -> FileBuilder| {
        FileBuilder::new(true)
            .section()
            .block(1, |b| options(b.u16(1).u16(0).u32(0)))
            .enhanced(0, 1_024, b"")
            .bytes
    };
    #[track_caller]
    fn check_interface(bytes: &[u8], ts_ns: u64, name: &str, bad_options: u64) {
        let outcome = read_well(bytes);
        assert_eq!(outcome.packets[0].ts_ns, ts_ns);
        assert_eq!(outcome.interfaces[0].name, name);
        assert_eq!(outcome.stats.bad_options, bad_options);
    }
    check_interface(&file(|b| b), 1_024_000, "", 0);
    check_interface(&file(|b| b.option(9, &[9]).option(2, b"lo\0")), 1_024, "lo", 0);
    check_interface(&file(|b| b.option(9, &[0x8a])), 1_000_000_000, "", 0);
    check_interface(
        &file(|b| b.option(14, &60u64.to_be_bytes())),
        60_001_024_000,
        "",
        0,
    );
    check_interface(&file(|b| b.option(14, &u64::MAX.to_be_bytes())), 0, "", 0);
    check_interface(&file(|b| b.option(2, b"w\xfflan")), 1_024_000, "w", 0);
    check_interface(&file(|b| b.option(0, b"").option(9, &[9])), 1_024_000, "", 0);
    check_interface(&file(|b| b.u16(2).u16(400).raw(b"eth0")), 1_024_000, "", 1);
}

#[test]
fn pcapng_block_length_without_padding() {
    // 61 bytes of data make a length of 93, which is stored as it is and padded to 96.
    let file = FileBuilder::new(false)
        .section()
        .interface(1, 0)
        .enhanced(0, 1, &[7; 61]);
    check(
        &file.enhanced(0, 2, b"next").bytes,
        &[(1_000, &[7; 61], 161, 1), (2_000, b"next", 104, 1)],
    );
    let unpadded = FileBuilder::new(false)
        .section()
        .interface(1, 0)
        .block(6, |b| b.u32(0).u32(0).u32(1).u32(5).u32(5).raw(b"five!"));
    check(&unpadded.bytes, &[(1_000, b"five!", 5, 1)]);
}

#[test]
fn a_large_unknown_block_is_never_buffered() {
    let bytes = FileBuilder::new(false)
        .section()
        .block(0xbad, |b| b.raw(&vec![0; 3_000_000]))
        .interface(1, 0)
        .enhanced(0, 1, b"after")
        .bytes;
    let mut reader = Reader::new();
    let (mut start, mut end, mut seen_max, mut packets) = (0, 0, 0, 0);
    while end < bytes.len() {
        end = (end + 4096).min(bytes.len());
        let mut rest = &bytes[start..end];
        seen_max = seen_max.max(rest.len());
        while let Step::Packet(packet) = reader.next(&mut rest).unwrap() {
            assert_eq!(packet.data, b"after");
            packets += 1;
        }
        start = end - rest.len();
    }
    assert_eq!(packets, 1);
    assert!(seen_max < 10_000, "held {seen_max} bytes at once");
}

#[test]
fn files_without_packets_are_whole() {
    check(&FileBuilder::new(false).pcap_header(0xa1b2_c3d4, 4, 1).bytes, &[]);
    check(&FileBuilder::new(true).section().bytes, &[]);
}
