//! What the writers wrote, read back by the reader and by Wireshark's programs.

use std::io::Write as _;

use super::*;

const TIME_NS: u64 = 1_700_000_000_123_456_789;

fn written_pcapng() -> Vec<u8> {
    let mut writer = PcapngWriter::new(&SectionInfo {
        hardware: "a test",
        os: "Linux 6.18",
        application: "weir 0.1.0",
        comment: "of the file",
    });
    let eth0 = writer.add_interface(&InterfaceInfo {
        name: "eth0",
        description: "uplink",
        linktype: 1,
        snaplen: 262_144,
        mac: Some([2, 0, 0, 0, 0, 1]),
        filter: "dport == 443",
        os: "Linux",
    });
    let tun0 = writer.add_interface(&InterfaceInfo {
        name: "tun0",
        linktype: 101,
        ..Default::default()
    });
    let mut bytes = writer.bytes().to_vec();
    writer.clear();
    let packet = PacketInfo {
        ts_ns: TIME_NS,
        orig_len: 90,
        direction: Direction::Inbound,
        comment: "döner",
        data: &[0xff; 61],
    };
    writer.packet(eth0, &packet);
    writer.packet(
        tun0,
        &PacketInfo {
            direction: Direction::Unknown,
            comment: "",
            data: &[0x45; 20],
            ..packet
        },
    );
    writer.packet(
        eth0,
        &PacketInfo {
            direction: Direction::Outbound,
            comment: "",
            ..packet
        },
    );
    for id in [eth0, tun0] {
        let counts = InterfaceStatistics {
            ts_ns: TIME_NS,
            start_ns: TIME_NS - 5,
            end_ns: TIME_NS,
            received: 1234,
            dropped: 56,
            accepted: 3,
            delivered: 3,
        };
        writer.statistics(id, &counts);
    }
    bytes.extend_from_slice(writer.bytes());
    bytes
}

#[test]
fn pcapng_is_read_back() {
    let outcome = read_well(&written_pcapng());
    let found: Vec<_> = outcome
        .packets
        .iter()
        .map(|p| {
            (
                p.interface_id,
                p.linktype,
                p.flags,
                p.comment.as_deref(),
                p.data.len(),
            )
        })
        .collect();
    let expected = [
        (0, 1, 1, Some("döner"), 61),
        (1, 101, 0, None, 20),
        (0, 1, 2, None, 61),
    ];
    assert_eq!(found, expected);
    assert!(
        outcome
            .packets
            .iter()
            .all(|p| p.ts_ns == TIME_NS && p.orig_len == 90)
    );
    let names: Vec<_> = outcome
        .interfaces
        .iter()
        .map(|i| (i.name.as_str(), i.snaplen))
        .collect();
    assert_eq!(names, [("eth0", 262_144), ("tun0", 0)]);
    assert_eq!((outcome.stats.skipped_blocks, outcome.stats.bad_options), (2, 0));
}

#[test]
fn pcap_is_read_back() {
    let mut writer = PcapWriter::new(101, 96);
    writer.packet(TIME_NS, 1500, &[0x45; 96]);
    let mut bytes = writer.bytes().to_vec();
    writer.clear();
    writer.packet(u64::MAX, 20, &[0x45; 20]);
    bytes.extend_from_slice(writer.bytes());
    let packets = read_well(&bytes).packets;
    assert_eq!(
        (packets[0].ts_ns, packets[0].orig_len, packets[0].linktype),
        (TIME_NS, 1500, 101)
    );
    assert_eq!(
        (packets[1].ts_ns / 1_000_000_000, packets[1].data.len()),
        (4_294_967_295, 20)
    );
}

#[test]
fn what_is_too_long_is_cut() {
    let long = "ä".repeat(40_000);
    let mut writer = PcapngWriter::new(&SectionInfo {
        application: &long,
        ..Default::default()
    });
    let id = writer.add_interface(&InterfaceInfo {
        filter: &long,
        ..Default::default()
    });
    let data = vec![1; PACKET_LEN_MAX + 1];
    let packet = PacketInfo {
        ts_ns: 1,
        orig_len: 300_000,
        direction: Direction::Unknown,
        comment: &long,
        data: &data,
    };
    writer.packet(id, &packet);
    let outcome = read_well(writer.bytes());
    assert_eq!(outcome.packets[0].data.len(), PACKET_LEN_MAX);
    assert_eq!(outcome.packets[0].orig_len, 300_000);
    assert_eq!(outcome.packets[0].comment.as_ref().map(String::len), Some(65_534));
}

#[test]
fn wireshark_reads_what_was_written() {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(&written_pcapng())
        .expect("room for a temporary file");
    let path = file.path().to_str().expect("a UTF-8 path");
    let fields = [
        "frame.time_epoch",
        "frame.len",
        "frame.cap_len",
        "frame.interface_name",
        "frame.packet_flags_direction",
        "frame.comment",
    ];
    let mut args = vec!["-n", "-r", path, "-T", "fields"];
    args.extend(fields.iter().flat_map(|field| ["-e", field]));
    let Some(found) = run_tool("tshark", &args) else {
        return;
    };
    assert_eq!(
        found,
        "1700000000.123456789\t90\t61\teth0\t0x00000001\tdöner\n\
         1700000000.123456789\t90\t20\ttun0\t\t\n\
         1700000000.123456789\t90\t61\teth0\t0x00000002\t\n"
    );
    let Some(found) = run_tool("capinfos", &[path]) else {
        return;
    };
    for expected in [
        "Capture hardware:    a test",
        "Capture oper-sys:    Linux 6.18",
        "Capture application: weir 0.1.0",
        "Capture comment:     of the file",
        "Name = eth0",
        "Description = uplink",
        "Filter string = dport == 443",
        "Time precision = nanoseconds (9)",
        "Number of stat entries = 1",
        "Number of packets = 2",
    ] {
        assert!(found.contains(expected), "expected `{expected}` in:\n{found}");
    }
}
