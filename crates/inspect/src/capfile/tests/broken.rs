//! Damaged, cut and hostile files: what was readable, then one error; never a panic, never a loop.

use proptest::prelude::*;

use super::*;

/// A file gives this many packets and then this message.
#[track_caller]
fn check(bytes: &[u8], packets: usize, message: &str) {
    let outcome = read(bytes);
    assert_eq!(outcome.packets.len(), packets);
    assert_eq!(outcome.end.expect_err("a broken file").to_string(), message);
}

fn pcap() -> FileBuilder {
    FileBuilder::new(false)
        .pcap_header(0xa1b2_c3d4, 4, 1)
        .record(1, 0, b"good", 4)
}

fn pcapng() -> FileBuilder {
    FileBuilder::new(false)
        .section()
        .interface(1, 0)
        .enhanced(0, 1, b"good")
}

#[test]
fn what_is_no_capture() {
    check(
        b"",
        0,
        "at byte 0: the file is empty; expected a pcap or pcapng header",
    );
    check(
        b"#!/bin/sh",
        0,
        "at byte 0: expected a pcap or pcapng header, found the bytes 23 21 2f 62",
    );
    check(
        &[0x28, 0xb5, 0x2f, 0xfd, 0],
        0,
        "at byte 0: expected a pcap or pcapng header, found zstd data: unpack it first (zstd -d)",
    );
    check(
        &FileBuilder::new(true)
            .u32(0xa1b2_c3d4)
            .u16(7)
            .u16(1)
            .raw(&[0; 16])
            .bytes,
        0,
        "at byte 0: expected pcap version 2.x, found 7.1",
    );
    check(
        &FileBuilder::new(true)
            .block(0x0a0d_0d0a, |b| b.u32(0x1a2b_3c4d).u16(2).u16(0).raw(&[0; 8]))
            .bytes,
        0,
        "at byte 0: expected pcapng version 1.0, found 2.0",
    );
}

#[test]
fn files_cut_short() {
    let cut = |bytes: Vec<u8>, by: usize| bytes[..bytes.len() - by].to_vec();
    let short = |at, wanted, had| {
        format!(
            "at byte {at}: the file is cut short: this record needs at least {wanted} bytes, \
             {had} are left"
        )
    };
    check(
        &cut(pcap().record(2, 0, b"lost", 4).bytes, 1),
        1,
        &short(44, 20, 19),
    );
    check(
        &cut(pcap().record(2, 0, b"lost", 4).bytes, 9),
        1,
        &short(44, 16, 11),
    );
    check(&pcap().bytes[..20], 0, &short(0, 24, 20));
    check(&pcap().bytes[..3], 0, &short(0, 4, 3));
    check(
        &cut(pcapng().enhanced(0, 2, b"lost").bytes, 3),
        1,
        &short(84, 36, 33),
    );
    check(
        &cut(pcapng().block(10, |b| b.raw(&[0; 40])).bytes, 10),
        1,
        &short(126, 10, 0),
    );
    check(&pcapng().bytes[..9], 0, &short(0, 12, 9));
}

#[test]
fn lengths_that_lie() {
    check(
        &pcap().u32(2).u32(0).u32(0x7fff_ffff).u32(4).raw(b"lost").bytes,
        1,
        "at byte 44: expected a packet of at most 262144 bytes, the header says 2147483647; \
         the file is damaged here",
    );
    check(
        &pcapng().u32(6).u32(0xffff_fff0).bytes,
        1,
        "at byte 84: expected a length of 32 to 1310720 bytes for block type 0x6, found \
         4294967280; the file is damaged here",
    );
    check(
        &pcapng().u32(0xbad).u32(8).bytes,
        1,
        "at byte 84: expected a length of 12 to 268435456 bytes for block type 0xbad, found 8; \
         the file is damaged here",
    );
    check(
        &pcapng().u32(0xbad).u32(16).u32(0).u32(20).bytes,
        1,
        "at byte 96: expected the block to end with its length 16 again, found 20; \
         the file is damaged here",
    );
    check(
        &pcapng()
            .block(6, |b| b.u32(0).u32(0).u32(0).u32(100).u32(100).raw(b"four"))
            .bytes,
        1,
        "at byte 84: the packet says it holds 100 bytes, but its block has room for 4",
    );
    check(
        &pcapng().block(3, |b| b.u32(300_000).raw(b"four")).bytes,
        1,
        "at byte 84: expected a packet of at most 262144 bytes, the header says 300000; \
         the file is damaged here",
    );
}

#[test]
fn blocks_out_of_place() {
    check(
        &pcapng().enhanced(3, 0, b"whose?").bytes,
        1,
        "at byte 84: the packet names interface 3, but 1 are described before it",
    );
    check(
        &FileBuilder::new(false).section().block(3, |b| b.u32(0)).bytes,
        0,
        "at byte 28: the packet names interface 0, but 0 are described before it",
    );
    check(
        &pcapng()
            .u32(0x0a0d_0d0a)
            .u32(28)
            .u32(0x1234_5678)
            .raw(&[0; 16])
            .bytes,
        1,
        "at byte 84: expected the byte-order magic 0x1a2b3c4d in the section header, \
         found 0x78563412",
    );
}

#[test]
fn interfaces_without_end() {
    let one = FileBuilder::new(false).interface(1, 0).bytes;
    let mut bytes = FileBuilder::new(false).section().bytes;
    bytes.extend(one.repeat(INTERFACES_MAX + 1));
    check(
        &bytes,
        0,
        "at byte 1310748: expected at most 65536 interface descriptions in a section",
    );
}

#[test]
fn bad_packet_options_lose_only_the_options() {
    let file = pcapng().block(6, |b| {
        b.u32(0)
            .u32(0)
            .u32(1)
            .u32(4)
            .u32(4)
            .raw(b"kept")
            .option(2, &[1, 0, 0, 0])
            .u16(1)
            .u16(999)
    });
    let outcome = read_well(&file.enhanced(0, 1, b"next").bytes);
    assert_eq!(outcome.packets.len(), 3);
    assert_eq!(
        (outcome.packets[1].flags, outcome.packets[1].comment.as_deref()),
        (1, None)
    );
    assert_eq!(outcome.stats.bad_options, 1);
}

/// Files the properties start from.
fn seeds() -> Vec<Vec<u8>> {
    vec![
        plain_pcap(false),
        plain_pcap(true),
        every_block(false),
        every_block(true),
    ]
}

#[test]
fn every_split_gives_the_same() {
    for bytes in seeds() {
        let whole = read_well(&bytes);
        for cut in 0..=bytes.len() {
            assert_eq!(read_in_pieces(&bytes, &[cut]), whole, "cut at {cut}");
        }
        let every: Vec<usize> = (0..bytes.len()).collect();
        assert_eq!(read_in_pieces(&bytes, &every), whole, "byte by byte");
    }
}

#[test]
fn every_truncation_gives_a_prefix() {
    for bytes in seeds() {
        let whole = read_well(&bytes);
        for cut in 0..bytes.len() {
            let outcome = read(&bytes[..cut]);
            assert!(whole.packets.starts_with(&outcome.packets), "cut at {cut}");
            if let Err(error) = outcome.end {
                assert!(error.offset <= cut as u64);
                assert!(
                    matches!(error.kind, CapErrorKind::Empty | CapErrorKind::Truncated { .. }),
                    "cut at {cut}: {error}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn mutated_files_end(
        seed in 0..4usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        length in any::<prop::sample::Index>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut bytes = seeds().swap_remove(seed);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(length.index(bytes.len()) + 1);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.sort_unstable();
        prop_assert_eq!(read_in_pieces(&bytes, &cuts), read(&bytes));
    }

    #[test]
    fn any_bytes_behind_a_good_start_end(
        seed in 0..4usize,
        tail in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = seeds().swap_remove(seed);
        bytes.extend(tail);
        let outcome = read(&bytes);
        prop_assert!(outcome.packets.len() <= bytes.len() / 12);
    }
}
