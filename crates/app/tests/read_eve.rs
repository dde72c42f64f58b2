//! `weir read --format eve` against three committed outputs, Suricata's own expectations of flow
//! events, and the community ids Arkime states.
//!
//! `UPDATE_EXPECT=1` writes the committed outputs anew.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Fields of flow events that suricata-verify checks and that need its detection engine, its
/// application layer or its stream engine's memory.
const NOT_OF_FLOWS: [&str; 9] = [
    "flow.alerted",
    "flow.action",
    "flow.bypass",
    "flow.exception_policy",
    "flow.tx_cnt",
    "app_proto",
    "not-has-key",
    "tcp.ts_max_regions",
    "tcp.tc_max_regions",
];

/// Tests of suricata-verify whose expectations are not of the packets alone, and why.
const SURICATA_DIFFERS: [(&str, &str); 7] = [
    (
        "bug-6402-01",
        "counts GENEVE's carrier, with one direction a port, in no flow",
    ),
    ("decode-erspan-typeI-01", "ERSPAN type I is not unwrapped"),
    ("decode-erspan-typeI-02", "ERSPAN type I is not unwrapped"),
    ("decode-nsh-type1", "the Network Service Header is not unwrapped"),
    (
        "tcp-fastopen-10-syn-data-ignore",
        "its option ends a flow when the connection falls back",
    ),
    (
        "flow-pkt-recursion/",
        "an inner flow is apart from an outer flow of the same addresses, whatever the setting",
    ),
    ("exception-policy", "bypasses flows"),
];

/// Label files of Arkime with community ids of flows we do not see or name otherwise, how many,
/// and why.
const ARKIME_DIFFERS: [(&str, usize, &str); 3] = [
    (
        "pcap/arkime/arkime_synthetic.pcap",
        4,
        "carriers that are not unwrapped: GTP, Network Service Header, Cisco MetaData, and one more",
    ),
    ("pcap/arkime/gtp-u.pcap", 1, "GTP is not unwrapped"),
    ("pcap/arkime/ipv6-gtp6.pcap", 1, "GTP is not unwrapped"),
];

#[test]
fn golden_events() {
    check("pcap/arkime/6-4-gre-ppp-udp-4-dns.pcap", "tunnels.jsonl");
    check("pcap/chrissanders/http_ip4and6.pcapng", "tcp.jsonl");
    check("pcap/zeek/icmp__icmp-ping.pcap", "icmp.jsonl");
}

#[track_caller]
fn check(capture: &str, golden: &str) {
    let Some(data) = shared_data() else { return };
    let golden = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/read_eve")
        .join(golden);
    let found = flows_only(&eve(&data.join(capture)));
    if std::env::var_os("UPDATE_EXPECT").is_some_and(|value| value == "1") {
        std::fs::write(&golden, &found).expect("a writable folder");
    }
    let expected = std::fs::read_to_string(&golden).expect("a committed output");
    assert_eq!(found, expected, "{capture}");
}

/// Flow events without their protocols, which are for the tests of `inspect`.
fn flows_only(lines: &str) -> String {
    let flows = events(lines)
        .into_iter()
        .filter(|event| event["event_type"] == "flow");
    let mut text = String::new();
    for mut flow in flows {
        let fields = flow.as_object_mut().expect("an object");
        fields.retain(|name, _| !name.starts_with("app_proto"));
        text += &format!("{flow}\n");
    }
    text
}

#[test]
fn flow_events_that_suricata_expects() {
    let Some(data) = shared_data() else { return };
    let (mut n_checks, mut wrong) = (0, Vec::new());
    for label in labels(&data) {
        let tests = label["suricata"].as_array().map_or(&[][..], Vec::as_slice);
        let checks = tests.iter().flat_map(flow_checks);
        let checks: Vec<(&str, &Value)> = checks.collect();
        if checks.is_empty() {
            continue;
        }
        let file = label["file"].as_str().expect("a file name");
        let events = events(&eve(&data.join(file)));
        for (test, check) in checks {
            let wanted = check["match"].as_object().expect("an object");
            let holds = |event: &&Value| wanted.iter().all(|(path, value)| get(event, path) == Some(value));
            let n_events = events.iter().filter(holds).count() as u64;
            n_checks += 1;
            if Some(n_events) != check["count"].as_u64() {
                wrong.push(format!("{test}: expected {check}, found {n_events} such events"));
            }
        }
    }
    println!("{n_checks} checks");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(n_checks >= 36, "only {n_checks} checks");
}

/// Checks of flow events that packets alone decide, with the name of their test.
fn flow_checks(test: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let name = test["test"].as_str().expect("a name");
    let is_other = SURICATA_DIFFERS.iter().any(|(part, _)| name.contains(part));
    let checks = test["checks"].as_array().map_or(&[][..], Vec::as_slice);
    let is_ours = move |check: &&Value| {
        let wanted = check["match"].as_object().expect("an object");
        let is_flow = wanted.get("event_type").is_some_and(|kind| kind == "flow");
        let is_bypass = wanted.get("flow.state").is_some_and(|state| state == "bypassed");
        let foreign = |field: &String| NOT_OF_FLOWS.iter().any(|prefix| field.starts_with(prefix));
        !is_other && is_flow && !is_bypass && !wanted.keys().any(foreign)
    };
    checks.iter().filter(is_ours).map(move |check| (name, check))
}

/// The value at `a.b` or `a[0]`.
fn get<'a>(event: &'a Value, path: &str) -> Option<&'a Value> {
    path.split(['.', '['])
        .try_fold(event, |value, step| match step.strip_suffix(']') {
            Some(index) => value.get(index.parse::<usize>().ok()?),
            None => value.get(step),
        })
}

#[test]
fn community_ids_equal_arkime() {
    let Some(data) = shared_data() else { return };
    let (mut n_ids, mut wrong) = (0, Vec::new());
    for label in labels(&data) {
        let flows = label["flows"].as_array().map_or(&[][..], Vec::as_slice);
        // Arkime gives ESP, which has no ports, two of 0; the specification's own values have none.
        // It also turns around ICMP messages that have no counterpart, which the specification does not.
        let is_plain = |flow: &&Value| flow["l4"] != "50" && flow["l4"] != "icmpv6";
        let expected: Vec<&str> = flows
            .iter()
            .filter(is_plain)
            .filter_map(|flow| flow["community_id"].as_str())
            .collect();
        if expected.is_empty() {
            continue;
        }
        let file = label["file"].as_str().expect("a file name");
        let events = events(&eve(&data.join(file)));
        let found: HashSet<&str> = events
            .iter()
            .filter_map(|event| event["community_id"].as_str())
            .collect();
        let missing = expected.iter().filter(|id| !found.contains(*id)).count();
        let known = ARKIME_DIFFERS.iter().find(|(name, ..)| *name == file);
        if missing != known.map_or(0, |(_, count, _)| *count) {
            wrong.push(format!("{file}: {missing} of {} missing", expected.len()));
        }
        n_ids += expected.len() - missing;
    }
    println!("{n_ids} community ids");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(n_ids >= 550, "only {n_ids} community ids");
}

fn events(lines: &str) -> Vec<Value> {
    lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn labels(data: &Path) -> Vec<Value> {
    events(&std::fs::read_to_string(data.join("labels.jsonl")).expect("labels.jsonl"))
}

fn eve(capture: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["read", "--format", "eve"])
        .arg(capture)
        .output()
        .expect("weir runs");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn shared_data() -> Option<PathBuf> {
    let shared = std::env::var_os("WEIR_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let data = shared.join("data");
    if data.is_dir() {
        return Some(data);
    }
    let is_required = std::env::var_os("WEIR_REQUIRE_CAPS").is_some_and(|value| value == "1");
    assert!(
        !is_required,
        "no test data at {}; set WEIR_SHARED",
        data.display()
    );
    println!("skipped: no test data at {}", data.display());
    None
}
