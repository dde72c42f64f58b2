//! Every capture of the shared test data, against the counts stated there and against tshark.

use std::path::Path;

use super::*;

/// Cut short on purpose; the label counts no packet, capinfos and we read the one before the cut.
const CUT_SHORT: &str = "pcap/ndpi/fuzz-2021-10-13.pcap";

#[test]
fn packets_and_bytes_equal_the_labels() {
    let Some(data) = shared_data() else { return };
    let labels = std::fs::read_to_string(data.join("labels.jsonl")).expect("labels.jsonl");
    let mut wrong = Vec::new();
    let mut captures = 0;
    for line in labels.lines() {
        let label: serde_json::Value = serde_json::from_str(line).expect("a JSON label");
        let file = label["file"].as_str().expect("a file name");
        let expected = if file == CUT_SHORT {
            (1, 524_501, "Err(at byte 237: cut short)".to_owned())
        } else {
            let number = |field: &str| label[field].as_u64().expect("a number");
            (number("packets"), number("wire_bytes"), "Ok".to_owned())
        };
        let found = summarise(&data.join(file));
        if found != expected {
            wrong.push(format!("{file}: expected {expected:?}, found {found:?}"));
        }
        captures += 1;
    }
    assert!(
        wrong.is_empty(),
        "{} of {captures}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(captures >= 1_075, "only {captures} captures");
}

/// Packets, bytes on the wire and how the file ended.
fn summarise(path: &Path) -> (u64, u64, String) {
    let bytes = std::fs::read(path).expect("a readable capture");
    let outcome = read(&bytes);
    let wire_bytes = outcome
        .packets
        .iter()
        .map(|packet| u64::from(packet.orig_len))
        .sum();
    let end = match outcome.end {
        Ok(()) => "Ok".to_owned(),
        Err(CapError {
            offset,
            kind: CapErrorKind::Truncated { .. },
        }) => {
            format!("Err(at byte {offset}: cut short)")
        }
        Err(error) => format!("Err({error})"),
    };
    (outcome.stats.packets, wire_bytes, end)
}

#[test]
fn times_lengths_and_interfaces_equal_tshark() {
    let Some(data) = shared_data() else { return };
    for file in [
        "pcap/arkime/ipv6-gtp6.pcap",
        "pcap/ndpi/nfsv2.pcap",
        "pcap/ndpi/tcp_scan.pcapng",
        "pcap/wireshark/dmgr.pcapng",
        "pcap/wireshark/many_interfaces.pcapng.1",
        "pcap/ja4/tls3.pcapng",
        "pcap/chrissanders/80211beacon.pcapng",
    ] {
        let path = data.join(file);
        let path = path.to_str().expect("a UTF-8 path");
        let fields = [
            "frame.time_epoch",
            "frame.len",
            "frame.cap_len",
            "frame.interface_id",
        ];
        let mut args = vec!["-n", "-r", path, "-T", "fields"];
        args.extend(fields.iter().flat_map(|field| ["-e", field]));
        let Some(expected) = run_tool("tshark", &args) else {
            return;
        };
        let outcome = read_well(&std::fs::read(path).expect("a readable capture"));
        let numbered = outcome.stats.sections > 0;
        let found: String = outcome
            .packets
            .iter()
            .map(|packet| {
                let (seconds, ns) = (packet.ts_ns / 1_000_000_000, packet.ts_ns % 1_000_000_000);
                let interface = if numbered {
                    packet.interface_id.to_string()
                } else {
                    String::new()
                };
                format!(
                    "{seconds}.{ns:09}\t{}\t{}\t{interface}\n",
                    packet.orig_len,
                    packet.data.len()
                )
            })
            .collect();
        assert_eq!(found, expected, "{file}");
    }
}
