//! `weir read` against tshark: packets and bytes of every flow of every shared capture.
//!
//! tshark gives one line a frame: its length and the fields of its outermost IP header, fragments
//! not put together. Summed by addresses, protocol and ports, that must be what `weir read` says.
//! Captures of one link type are joined before tshark reads them, since starting it a thousand
//! times takes minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Captures that cannot be compared, and why.
const LEFT_OUT: &[(&str, &str)] = &[(
    "pcap/ndpi/fuzz-2021-10-13.pcap",
    "cut short on purpose after one frame that is not IP; mergecap refuses it",
)];

/// Captures where tshark reads other flows out of some frames: how many flows differ, and why.
const TSHARK_DIFFERS: &[(&str, usize, &str)] = &[
    (
        "pcap/arkime/arkime_synthetic.pcap",
        1,
        "tshark reads through the Network Service Header and Cisco MetaData, which Weir does not unwrap",
    ),
    (
        "pcap/suricata/decode-nsh-type1__input.pcap",
        1,
        "tshark reads through the Network Service Header, which Weir does not unwrap",
    ),
    (
        "pcap/zeek/pbb-recursive-frames.pcapng",
        1,
        "50 nested provider backbone headers (802.1ah), which Weir does not unwrap",
    ),
    (
        "pcap/zeek/vntag_vlan_sandwich_clean.pcap",
        1,
        "tshark reads through a VN-Tag, which Weir does not unwrap",
    ),
    (
        "pcap/zeek/trunc__ipv4-internally-truncated-header.pcap",
        1,
        "cut in the options of the IPv4 header: tshark shows no protocol then, Weir counts what the header says",
    ),
];

/// Files joined for one run of tshark: mergecap opens all of them at once.
const FILES_A_RUN: usize = 150;

/// Protocol, lower end, higher end.
type Flow = (String, (IpAddr, u16), (IpAddr, u16));
/// Packets and bytes.
type Flows = BTreeMap<Flow, (u64, u64)>;

struct Capture {
    file: String,
    path: PathBuf,
    packets: usize,
    linktypes: Vec<u64>,
}

#[test]
fn flows_equal_tshark() {
    let Some(captures) = captures() else { return };
    if !has_tool("tshark") || !has_tool("mergecap") {
        assert!(
            !required(),
            "tshark and mergecap (Debian: tshark, wireshark-common) are not installed"
        );
        println!("skipped: tshark and mergecap are not installed");
        return;
    }
    let runs = runs(&captures);
    let next = Mutex::new(runs.iter());
    let found = Mutex::new(Comparison::default());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(run) = next.lock().expect("no panic").next() else {
                        break;
                    };
                    let compared = compare_run(run);
                    found.lock().expect("no panic").join(compared);
                }
            });
        }
    });
    let mut found = found.into_inner().expect("no panic");
    found.wrong.sort();
    println!(
        "{} captures compared, {} packets in {} flows, {} frames with several IP headers by their outermost",
        found.captures, found.packets, found.flows, found.several_headers
    );
    for (file, reason) in LEFT_OUT {
        println!("left out: {file}: {reason}");
    }
    for (file, n_flows, reason) in TSHARK_DIFFERS {
        println!("{n_flows} differing: {file}: {reason}");
    }
    assert!(
        found.wrong.is_empty(),
        "{} captures differ:\n{}",
        found.wrong.len(),
        found.wrong.join("\n")
    );
    assert_eq!(
        found.captures + LEFT_OUT.len(),
        captures.len(),
        "every capture is compared or named above"
    );
}

#[derive(Default)]
struct Comparison {
    captures: usize,
    packets: u64,
    flows: usize,
    several_headers: u64,
    wrong: Vec<String>,
}

impl Comparison {
    fn join(&mut self, other: Self) {
        self.captures += other.captures;
        self.packets += other.packets;
        self.flows += other.flows;
        self.several_headers += other.several_headers;
        self.wrong.extend(other.wrong);
    }
}

// === What is compared ===

fn captures() -> Option<Vec<Capture>> {
    let shared = std::env::var_os("WEIR_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let data = shared.join("data");
    let Ok(labels) = std::fs::read_to_string(data.join("labels.jsonl")) else {
        assert!(!required(), "no test data at {}; set WEIR_SHARED", data.display());
        println!("skipped: no test data at {}", data.display());
        return None;
    };
    let capture = |line: &str| {
        let label: serde_json::Value = serde_json::from_str(line).expect("a JSON label");
        let file = label["file"].as_str().expect("a file name").to_owned();
        Capture {
            path: data.join(&file),
            packets: label["packets"].as_u64().expect("a number") as usize,
            linktypes: label["linktypes"]
                .as_array()
                .expect("a list")
                .iter()
                .filter_map(serde_json::Value::as_u64)
                .collect(),
            file,
        }
    };
    Some(labels.lines().map(capture).collect())
}

/// Captures tshark reads together: of the same single link type.
fn runs(captures: &[Capture]) -> Vec<Vec<&Capture>> {
    let mut by_linktype: BTreeMap<u64, Vec<&Capture>> = BTreeMap::new();
    let mut runs = Vec::new();
    for capture in captures {
        if LEFT_OUT.iter().any(|(file, _)| *file == capture.file) {
            continue;
        }
        match capture.linktypes[..] {
            [linktype] => by_linktype.entry(linktype).or_default().push(capture),
            _ => runs.push(vec![capture]),
        }
    }
    for captures in by_linktype.into_values() {
        runs.extend(captures.chunks(FILES_A_RUN).map(<[&Capture]>::to_vec));
    }
    runs
}

fn compare_run(captures: &[&Capture]) -> Comparison {
    let mut comparison = Comparison::default();
    let frames = frames(captures);
    let expected_frames: usize = captures.iter().map(|capture| capture.packets).sum();
    assert_eq!(frames.len(), expected_frames, "{} …", captures[0].file);
    let mut frames = frames.into_iter();
    for capture in captures {
        let mut expected = Flows::new();
        for frame in frames.by_ref().take(capture.packets) {
            comparison.several_headers += u64::from(frame.ip_headers > 1);
            if let Some(flow) = frame.flow {
                let sum = expected.entry(flow).or_default();
                sum.0 += 1;
                sum.1 += frame.len;
            }
        }
        let found = weir_flows(&capture.path);
        comparison.captures += 1;
        comparison.flows += found.len();
        comparison.packets += found.values().map(|(packets, _)| packets).sum::<u64>();
        let differing = differing(&expected, &found);
        let known = TSHARK_DIFFERS.iter().find(|(file, ..)| *file == capture.file);
        if differing.len() != known.map_or(0, |(_, n_flows, _)| *n_flows) {
            let lines: Vec<&str> = differing.iter().take(5).map(String::as_str).collect();
            let lines = lines.join("\n    ");
            comparison.wrong.push(format!(
                "{}: {} flows\n    {lines}",
                capture.file,
                differing.len()
            ));
        }
    }
    comparison
}

/// A line for each flow that is not the same.
fn differing(expected: &Flows, found: &Flows) -> Vec<String> {
    let flows: BTreeSet<&Flow> = expected.keys().chain(found.keys()).collect();
    let differs = flows
        .into_iter()
        .filter(|flow| expected.get(*flow) != found.get(*flow));
    let line = |flow: &Flow| {
        format!(
            "{flow:?}: tshark {:?}, weir {:?}",
            expected.get(flow),
            found.get(flow)
        )
    };
    differs.map(line).collect()
}

fn flow(protocol: String, src: (IpAddr, u16), dst: (IpAddr, u16)) -> Flow {
    (protocol, src.min(dst), src.max(dst))
}

// === weir ===

/// Outer flows of a capture.
fn weir_flows(path: &Path) -> Flows {
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["read", "--format", "json"])
        .arg(path)
        .output()
        .expect("weir runs");
    let mut flows = Flows::new();
    for line in String::from_utf8(output.stdout).expect("UTF-8").lines() {
        let record: serde_json::Value = serde_json::from_str(line).expect("JSON");
        if record.get("tunnel").is_some() {
            continue;
        }
        let address = |name: &str| {
            record[name]
                .as_str()
                .and_then(|text| text.parse().ok())
                .expect("an address")
        };
        let port = |name: &str| record[name].as_u64().unwrap_or(0) as u16;
        let protocol = record["proto"].as_str().expect("a protocol").to_owned();
        let sum = flows
            .entry(flow(
                protocol,
                (address("src"), port("sport")),
                (address("dst"), port("dport")),
            ))
            .or_default();
        sum.0 += record["packets"].as_u64().expect("a number");
        sum.1 += record["bytes"].as_u64().expect("a number");
    }
    flows
}

// === tshark ===

struct Frame {
    len: u64,
    ip_headers: usize,
    /// Of the outermost IP header; `None` without one.
    flow: Option<Flow>,
}

const FIELDS: [&str; 24] = [
    "frame.len",
    "frame.protocols",
    "ip.src",
    "ip.dst",
    "ip.proto",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.nxt",
    "tcp.srcport",
    "tcp.dstport",
    "udp.srcport",
    "udp.dstport",
    "sctp.srcport",
    "sctp.dstport",
    "dccp.srcport",
    "dccp.dstport",
    "ipv6.hopopts.nxt",
    "ipv6.routing.nxt",
    "ipv6.fraghdr.nxt",
    "ipv6.dstopts.nxt",
    "ah.next_header",
    "mip6.proto",
    "hip.proto",
    "shim6.nxt",
];

/// Every frame of the captures, in order.
fn frames(captures: &[&Capture]) -> Vec<Frame> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = match captures {
        [one] => one.path.clone(),
        _ => {
            let joined = folder.path().join("joined.pcapng");
            let paths = captures.iter().map(|capture| &capture.path);
            let status = Command::new("mergecap")
                .arg("-a")
                .arg("-w")
                .arg(&joined)
                .args(paths)
                .status();
            assert!(status.expect("mergecap runs").success());
            joined
        }
    };
    let mut tshark = Command::new("tshark");
    tshark.args([
        "-n",
        "-T",
        "fields",
        "-E",
        "separator=;",
        "-E",
        "aggregator=,",
        "-E",
        "occurrence=a",
    ]);
    tshark.args(["-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE"]);
    tshark.args(["-o", "tcp.desegment_tcp_streams:FALSE"]);
    for field in FIELDS {
        tshark.args(["-e", field]);
    }
    let output = tshark.arg("-r").arg(&path).output().expect("tshark runs");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(frame).collect()
}

fn frame(line: &str) -> Frame {
    let cells: Vec<&str> = line.split(';').collect();
    let cell = |name: &str| {
        let at = FIELDS
            .iter()
            .position(|field| *field == name)
            .expect("a field above");
        cells.get(at).copied().unwrap_or("")
    };
    let first = |name: &str| cell(name).split(',').next().filter(|text| !text.is_empty());
    let protocols: Vec<&str> = cell("frame.protocols").split(':').collect();
    // The header quoted in an ICMP error carries nothing.
    let ip_headers = protocols
        .iter()
        .take_while(|protocol| !matches!(**protocol, "icmp" | "icmpv6"))
        .filter(|protocol| matches!(**protocol, "ip" | "ipv6"));
    let outermost = protocols
        .iter()
        .find(|protocol| matches!(**protocol, "ip" | "ipv6"));
    let (name, protocol) = match outermost {
        Some(&"ip") => ("ip", first("ip.proto").and_then(|text| text.parse().ok())),
        Some(&"ipv6") => ("ipv6", upper_protocol(&cell)),
        _ => ("ip", None),
    };
    let address = |side: &str| first(&format!("{name}.{side}")).and_then(|text| text.parse::<IpAddr>().ok());
    let port = |protocol: u8, side: &str| {
        let name = match protocol {
            6 => "tcp",
            17 | 136 => "udp",
            132 => "sctp",
            33 => "dccp",
            _ => return 0,
        };
        first(&format!("{name}.{side}port"))
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    };
    let flow = match (protocol, address("src"), address("dst")) {
        (Some(number), Some(src), Some(dst)) => {
            let name = inspect::names::protocol_name(number);
            let name = name.map_or_else(|| number.to_string(), str::to_owned);
            Some(flow(name, (src, port(number, "src")), (dst, port(number, "dst"))))
        }
        _ => None,
    };
    Frame {
        len: first("frame.len").and_then(|text| text.parse().ok()).unwrap_or(0),
        ip_headers: ip_headers.count(),
        flow,
    }
}

/// The protocol at the end of the extension headers of the outermost IPv6 header.
fn upper_protocol<'a>(cell: &impl Fn(&str) -> &'a str) -> Option<u8> {
    let mut taken: BTreeMap<u8, usize> = BTreeMap::new();
    let mut protocol: u8 = cell("ipv6.nxt").split(',').next()?.parse().ok()?;
    loop {
        let name = match protocol {
            0 => "ipv6.hopopts.nxt",
            43 => "ipv6.routing.nxt",
            44 => "ipv6.fraghdr.nxt",
            51 => "ah.next_header",
            60 => "ipv6.dstopts.nxt",
            135 => "mip6.proto",
            139 => "hip.proto",
            140 => "shim6.nxt",
            _ => return Some(protocol),
        };
        let at = taken.entry(protocol).or_default();
        let Some(next) = cell(name).split(',').nth(*at).and_then(|text| text.parse().ok()) else {
            return Some(protocol);
        };
        *at += 1;
        protocol = next;
    }
}

/// Whether missing tools and data fail the test instead of passing it by.
fn required() -> bool {
    std::env::var_os("WEIR_REQUIRE_CAPS").is_some_and(|value| value == "1")
}

fn has_tool(name: &str) -> bool {
    Command::new(name)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}
