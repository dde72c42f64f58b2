//! `weir read` about what payloads say: services, filters, EVE's order, one flow's story and payload, countries.

use std::path::PathBuf;
use std::process::{Command, Output};

use inspect::capfile::PcapWriter;
use serde_json::Value;

const LINKTYPE_RAW: u16 = 101;
const SYN: u8 = 2;
const ACK: u8 = 16;
const FIN: u8 = 1;

const REQUEST: &str = "GET /rust HTTP/1.1\r\nHost: api.github.com\r\nUser-Agent: curl/8\r\n\r\n";
const RESPONSE: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";

/// One TCP segment between 10.0.0.2:40000 (`side` 0) and 192.0.2.80:80.
fn segment(side: usize, seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((40 + payload.len() as u16).to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, 6, 0, 0]);
    let ends = [([10, 0, 0, 2], 40_000u16), ([192, 0, 2, 80], 80)];
    let (from, to) = (ends[side], ends[1 - side]);
    packet.extend(from.0);
    packet.extend(to.0);
    packet.extend(from.1.to_be_bytes());
    packet.extend(to.1.to_be_bytes());
    packet.extend(seq.to_be_bytes());
    packet.extend(ack.to_be_bytes());
    packet.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    packet.extend(payload);
    packet
}

/// A request in two segments, the second one first and once more, and its response.
fn capture() -> Capture {
    let (head, tail) = REQUEST.as_bytes().split_at(20);
    let end = 101 + REQUEST.len() as u32;
    let answered = 501 + RESPONSE.len() as u32;
    let packets = [
        segment(0, 100, 0, SYN, b""),
        segment(1, 500, 101, SYN | ACK, b""),
        segment(0, 101, 501, ACK, b""),
        segment(0, 121, 501, ACK, tail),
        segment(0, 101, 501, ACK, head),
        segment(0, 121, 501, ACK, tail),
        segment(1, 501, end, ACK, RESPONSE.as_bytes()),
        segment(1, answered, end, ACK | FIN, b""),
        segment(0, end, answered + 1, ACK | FIN, b""),
    ];
    let mut writer = PcapWriter::new(LINKTYPE_RAW, 0);
    for (at, packet) in packets.iter().enumerate() {
        let ts_ns = 1_600_000_000_000_000_000 + at as u64 * 1_000_000;
        writer.packet(ts_ns, packet.len() as u32, packet);
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("http.pcap"), writer.bytes()).expect("room");
    Capture(folder)
}

struct Capture(tempfile::TempDir);

impl Capture {
    fn read(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_weir"))
            .arg("read")
            .arg(self.0.path().join("http.pcap"))
            .args(args)
            // No databases of the machine.
            .env("HOME", self.0.path())
            .env_remove("WEIR_CACHE")
            .env_remove("WEIR_GEOIP")
            .output()
            .expect("weir runs")
    }

    fn stdout(&self, args: &[&str]) -> String {
        let output = self.read(args);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {error}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn lines(&self, args: &[&str]) -> Vec<Value> {
        let text = self.stdout(args);
        text.lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    fn flow_id(&self) -> String {
        self.lines(&["-f", "json"])[0]["id"].to_string()
    }
}

#[test]
fn facts_are_in_json_csv_and_table() {
    let capture = capture();
    let [flow] = &capture.lines(&["-f", "json"])[..] else {
        panic!("one flow");
    };
    for (path, expected) in [
        ("/app", Value::from("http")),
        ("/service", Value::from("github")),
        ("/server_name", Value::from("api.github.com")),
        ("/http/method", Value::from("GET")),
        ("/http/path", Value::from("/rust")),
        ("/http/user_agent", Value::from("curl/8")),
        ("/http/status", Value::from(200)),
    ] {
        assert_eq!(flow.pointer(path), Some(&expected), "{path}: {flow}");
    }
    assert!(
        capture
            .stdout(&["-f", "csv"])
            .contains(",http,github,api.github.com,,\n")
    );
    let table = capture.stdout(&[]);
    assert!(
        table.contains("http github") && table.contains("api.github.com"),
        "{table}"
    );
    let summary = capture.stdout(&["-f", "summary"]);
    assert!(
        summary.contains("APPLICATIONS") && summary.contains("SERVICES, BY NAME"),
        "{summary}"
    );
}

#[test]
fn filters_ask_payloads() {
    let capture = capture();
    for (filter, n) in [
        ("app == http and service == github", 1),
        ("http.host endswith .github.com and http.status == 200", 1),
        ("http.method == POST", 0),
        ("tls.sni", 0),
    ] {
        assert_eq!(capture.lines(&["-f", "json", "-F", filter]).len(), n, "{filter}");
        let events = capture.lines(&["-f", "eve", "-F", filter]);
        assert_eq!(events.len(), 2 * n, "{filter}");
    }
}

#[test]
fn eve_has_records_in_the_order_they_happened() {
    let capture = capture();
    for args in [
        &["-f", "eve"][..],
        &["-f", "eve", "--sort", "bytes"],
        &["-f", "eve", "-n", "1"],
    ] {
        let events = capture.lines(args);
        let types: Vec<&str> = events
            .iter()
            .filter_map(|event| event["event_type"].as_str())
            .collect();
        assert_eq!(types, ["http", "flow"], "{args:?}");
        let (http, flow) = (&events[0], &events[1]);
        assert_eq!(http["flow_id"], flow["flow_id"]);
        assert_eq!(http["community_id"], flow["community_id"]);
        assert_eq!(flow["app_proto"], "http");
        assert_eq!(
            (&http["src_ip"], &http["dest_port"]),
            (&Value::from("10.0.0.2"), &Value::from(80))
        );
        assert_eq!(
            (&http["tx_id"], &http["ip_v"]),
            (&Value::from(0), &Value::from(4))
        );
        assert_eq!(http["pkt_src"], "wire/pcap");
        assert_eq!(http["http"]["hostname"], "api.github.com");
    }
}

#[test]
fn one_flow_is_told_and_extracted() {
    let capture = capture();
    let id = capture.flow_id();
    let story = capture.stdout(&["--flow", &id]);
    let mut rest = story.as_str();
    for step in [
        "SYN, ttl 64",
        "SYN-ACK, 1",
        "ACK: open",
        "first payload",
        "http: GET api.github.com/rust",
        "FIN",
    ] {
        let at = rest
            .find(step)
            .unwrap_or_else(|| panic!("{step} is not there or too early:\n{story}"));
        rest = &rest[at..];
    }
    for (side, expected) in [
        (Some("client"), REQUEST.to_owned()),
        (Some("server"), RESPONSE.to_owned()),
        (None, format!("{REQUEST}{RESPONSE}")),
    ] {
        let mut args = vec!["--extract", &id, "-w", "-"];
        args.extend(side.into_iter().flat_map(|side| ["--side", side]));
        assert_eq!(capture.stdout(&args), expected);
    }
    let file = capture.0.path().join("payload");
    capture.stdout(&[
        "--extract",
        &id,
        "--side",
        "client",
        "-w",
        &file.display().to_string(),
    ]);
    assert_eq!(std::fs::read_to_string(file).expect("a file"), REQUEST);
    for args in [&["--flow", "1"][..], &["--extract", "1", "-w", "-"]] {
        let output = capture.read(args);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains("no flow has the identifier 1"), "{error}");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn countries_come_from_a_database() {
    let capture = capture();
    let output = capture.read(&["--geoip", "/nonexistent.mmdb"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("cannot read /nonexistent.mmdb"), "{error}");
    let shared = std::env::var_os("WEIR_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let database = shared.join("data/geo/geo-whois-asn-country/geo-whois-asn-country-ipv4.mmdb");
    let dns = shared.join("data/pcap/ndpi/quic_q39.pcap");
    if !database.is_file() || !dns.is_file() {
        println!("skipped: no country database in {}", shared.display());
        return;
    }
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["read", "-f", "json", "-F", "country == US", "--geoip"])
        .args([&database, &dns])
        .output()
        .expect("weir runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.contains("\"dst_country\":\"US\""), "{text}");
}
