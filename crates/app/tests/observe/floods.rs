//! Floods and scans: counted to the last packet, and normal flows beside them stay whole.

use serde_json::Value;

use crate::lab::{Lab, connections};
use crate::normal::{check_normal, flows_of};
use crate::totals::{Start, wait_until_equal, wait_until_totals_are_equal};
use crate::weir::Weir;
use crate::{may_run, number, text};

/// Half-open connections end here at once instead of being answered again for a minute, so that
/// there is a moment when nothing moves.
fn answer_once(lab: &Lab) {
    lab.exec("server", &["sysctl", "-qw", "net.ipv4.tcp_synack_retries=0"]);
}

/// Packets that were built by hand and sent.
fn sent_frames(report: &Value) -> u64 {
    number(report, "/raw/0/packets_sent")
}

/// As [`sent_frames`], for an attacker who sends nothing else: its interface must say the same.
#[track_caller]
fn sent(report: &Value) -> u64 {
    assert_eq!(number(report, "/raw/0/interface/tx_packets"), sent_frames(report));
    sent_frames(report)
}

/// Packets to a port of the server that have no flow, of both IP versions.
fn by_service(weir: &Weir, proto: [&str; 2], port: u64) -> u64 {
    let rows = weir.aggregates();
    let rows = rows.iter().filter(|row| {
        let is_server = matches!(text(row, "/addr"), "10.77.0.1" | "fd77::1");
        let is_asked = number(row, "/port") == port && proto.contains(&text(row, "/proto"));
        is_server && is_asked && text(row, "/direction") == "to"
    });
    rows.map(|row| number(row, "/packets") - number(row, "/adopted_packets"))
        .sum()
}

/// Packets to the server in flows from outside the lab's networks.
fn from_strangers(flows: &[Value], proto: [&str; 2]) -> u64 {
    flows
        .iter()
        .filter(|flow| {
            let src = text(flow, "/src");
            let is_ours = ["10.77.0.", "fd77::", "fe80::"]
                .iter()
                .any(|net| src.starts_with(net));
            let to_server = matches!(text(flow, "/dst"), "10.77.0.1" | "fd77::1");
            to_server && !is_ours && proto.contains(&text(flow, "/proto"))
        })
        .map(|flow| number(flow, "/packets_toserver"))
        .sum()
}

#[test]
fn syn_flood_within_the_budget_of_attempts() {
    if !may_run() {
        return;
    }
    let lab = Lab::up("sl", &["--no-offload"]);
    answer_once(&lab);
    let (weir, start) = Start::weir(&lab, &[]);
    let report = lab.run(&[
        "syn-flood",
        "--with",
        "normal",
        "--seconds",
        "2",
        "--packets",
        "2000",
    ]);
    let (status, flows) = wait_until_equal(&lab, &weir, &start);
    let checked = check_normal(&lab, &flows, &report);
    // Every SYN of the flood has its address in a flow of its own.
    let flood = sent(&report);
    assert_eq!(from_strangers(&flows, ["tcp"; 2]), flood, "{status}");
    assert_eq!(by_service(&weir, ["tcp"; 2], 80), 0, "{status}");
    assert_eq!(status["incomplete"], Value::Null, "{status}");
    println!("{checked:?} connections beside {flood} SYNs");
}

#[test]
fn syn_flood_beyond_the_budget_of_attempts() {
    if !may_run() {
        return;
    }
    let lab = Lab::up("sh", &["--no-offload"]);
    answer_once(&lab);
    let (weir, start) = Start::weir(&lab, &[]);
    let report = lab.run(&[
        "syn-flood",
        "--with",
        "normal",
        "--packets",
        "150000",
        "--seconds",
        "8",
        "--intensity",
        "high",
    ]);
    let status = wait_until_totals_are_equal(&lab, &weir, &start);
    let flows = weir.flows("src in 10.77.0.0/24 or src in fd77::/64");
    let checked = check_normal(&lab, &flows, &report);
    // SYNs: the flood's, and one of each connection.
    let flood = sent(&report);
    let of_tcp = |connection: &&Value| connection["protocol"] == "tcp";
    let normal = connections(&report, "normal").into_iter().filter(of_tcp).count() as u64;
    let received = |field: &str| number(&status, &format!("/interfaces/0/rx/{field}"));
    let (attempts, aggregated) = (received("attempts"), received("aggregated"));
    let repeated = number(&status, "/tcp/retransmits");
    let expected = flood + normal..=flood + normal + repeated;
    assert!(
        expected.contains(&(attempts + aggregated)),
        "{expected:?}: {status}"
    );
    // What is beyond the budget is told by service, and that it is so is said.
    assert!(aggregated > 0, "{status}");
    let service = by_service(&weir, ["tcp"; 2], 80);
    assert!(
        service <= aggregated && service + normal + repeated >= aggregated,
        "{service}: {status}"
    );
    assert!(
        number(&status, "/losses/over_attempt_budget") >= aggregated,
        "{status}"
    );
    assert!(text(&status, "/incomplete").contains("aggregates"), "{status}");
    println!("{checked:?} connections beside {flood} SYNs, {attempts} as attempts, {aggregated} by service");
}

/// A flood without handshakes: within the budget each packet has a flow, beyond it each is counted
/// by service.
#[track_caller]
fn check_flood(tag: &str, scenario: &str, proto: [&str; 2], port: u64) {
    if !may_run() {
        return;
    }
    let lab = Lab::up(tag, &["--no-offload"]);
    let (weir, start) = Start::weir(&lab, &["--new-flows-per-s", "500"]);
    let report = lab.run(&[scenario, "--seconds", "2", "--packets", "2000"]);
    let (status, flows) = wait_until_equal(&lab, &weir, &start);
    let flood = sent(&report);
    let (in_flows, by_service) = (from_strangers(&flows, proto), by_service(&weir, proto, port));
    assert_eq!(
        in_flows + by_service,
        flood,
        "{in_flows} + {by_service}: {status}"
    );
    assert!(
        in_flows > 0 && by_service > 0,
        "{in_flows} + {by_service}: {status}"
    );
    assert!(
        number(&status, "/losses/over_row_budget") >= by_service,
        "{status}"
    );
    assert!(text(&status, "/incomplete").contains("aggregates"), "{status}");
    println!("{scenario}: {flood} packets, {in_flows} in flows, {by_service} by service");
}

#[test]
fn udp_flood() {
    check_flood("uf", "udp-flood", ["udp"; 2], 9);
}

#[test]
fn icmp_flood() {
    check_flood("if", "icmp-flood", ["icmp", "icmpv6"], 0);
}

/// A table with no row left: counted, said, and nothing is lost.
#[test]
fn flow_table_full() {
    if !may_run() {
        return;
    }
    let lab = Lab::up("tf", &["--no-offload"]);
    let (weir, start) = Start::weir(&lab, &["--flow-rows", "1024"]);
    let report = lab.run(&["udp-flood", "--seconds", "2", "--packets", "2000"]);
    let (status, flows) = wait_until_equal(&lab, &weir, &start);
    let in_flows = from_strangers(&flows, ["udp"; 2]);
    let by_service = by_service(&weir, ["udp"; 2], 9);
    assert_eq!(in_flows + by_service, sent(&report), "{status}");
    assert!(
        number(&status, "/losses/flow_table_full") >= by_service,
        "{status}"
    );
    assert!(by_service > 0, "{status}");
}

#[test]
fn port_scan() {
    if !may_run() {
        return;
    }
    let lab = Lab::up("ps", &["--no-offload"]);
    let (weir, start) = Start::weir(&lab, &[]);
    let report = lab.run(&["port-scan", "--seconds", "2"]);
    let (status, flows) = wait_until_equal(&lab, &weir, &start);
    // One half are whole connections, which the report names.
    let probes = connections(&report, "port-scan");
    assert!(probes.len() >= 100);
    for probe in &probes {
        let found = flows_of(&flows, probe);
        assert_eq!(found.len(), 1, "{probe}: {found:?}");
        let flow = found[0];
        assert_eq!(flow["tcp"]["state"], "closed", "{probe} {flow}");
        let was_refused = probe["outcome"] == "refused";
        assert_eq!(
            text(flow, "/tcp/flags_toclient") == "RA",
            was_refused,
            "{probe} {flow}"
        );
        if was_refused {
            assert_eq!(
                (
                    number(flow, "/packets_toserver"),
                    number(flow, "/packets_toclient")
                ),
                (1, 1)
            );
        }
    }
    // The other half are bare SYNs to ports of their own: all but the open ones are refused.
    let attacker =
        |flow: &&Value| matches!(text(flow, "/src"), "10.77.0.66" | "fd77::66") && flow["proto"] == "tcp";
    let all = flows.iter().filter(attacker).count() as u64;
    let bare = sent_frames(&report);
    assert_eq!(all, probes.len() as u64 + bare, "{status}");
    let refused = flows
        .iter()
        .filter(attacker)
        .filter(|flow| text(flow, "/tcp/flags_toclient") == "RA");
    let open = report["raw"][0]["open_ports"].as_array().expect("ports").len();
    let probes_refused = probes
        .iter()
        .filter(|probe| probe["outcome"] == "refused")
        .count();
    assert_eq!(refused.count() as u64, probes_refused as u64 + bare - open as u64);
    println!("{} connections and {bare} bare SYNs", probes.len());
}
