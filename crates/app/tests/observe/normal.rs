//! Normal traffic: every connection is one flow with the right numbers, and nothing is missing.

use serde_json::Value;

use crate::lab::{Lab, connections};
use crate::totals::{Start, observed, wait_until_equal};
use crate::{may_run, number, text, wait_for};

/// The flows of a connection: those with its addresses and ports.
pub(crate) fn flows_of<'a>(flows: &'a [Value], connection: &Value) -> Vec<&'a Value> {
    let same = |flow: &Value, field: &str, of: &str| flow.get(field) == connection.get(of);
    flows
        .iter()
        .filter(|flow| {
            same(flow, "src", "client")
                && same(flow, "sport", "client_port")
                && same(flow, "dst", "server")
                && same(flow, "dport", "server_port")
                && same(flow, "proto", "protocol")
        })
        .collect()
}

/// Payload of connections on one pair of addresses and ports: as the server counted it, since Weir
/// is beside it and a datagram may get lost on the way back; as the clients did, where the server's
/// record had no room.
fn carried(twins: &[&&Value], clients_word: &str) -> u64 {
    let servers_word = if clients_word == "sent_bytes" {
        "server_received_bytes"
    } else {
        "server_sent_bytes"
    };
    let counts = |word: &str| -> Vec<u64> { twins.iter().filter_map(|twin| twin[word].as_u64()).collect() };
    let of_server = counts(servers_word);
    // Over UDP the server cannot tell one from the next: it has one record of all.
    let counts = if of_server.is_empty() {
        counts(clients_word)
    } else {
        of_server
    };
    counts.iter().sum()
}

/// Whether no segment of a TCP flow was lost, so that its bytes can be computed.
fn has_lost_nothing(flow: &Value) -> bool {
    ["retransmits", "out_of_order"]
        .iter()
        .flat_map(|what| [format!("/tcp/{what}_toserver"), format!("/tcp/{what}_toclient")])
        .all(|field| number(flow, &field) == 0)
}

/// Checks the flow of a connection that ended well. Returns whether all its bytes are accounted for:
/// payload and plain headers, nothing sent twice.
#[track_caller]
pub(crate) fn check_connection(
    lab: &Lab,
    flows: &[Value],
    connections: &[&Value],
    connection: &Value,
) -> bool {
    assert_eq!(connection["outcome"], "complete", "{connection}");
    let found = flows_of(flows, connection);
    assert_eq!(found.len(), 1, "{connection}: {found:?}");
    let flow = found[0];
    let context = format!("{connection}\n{flow}");
    let is_tcp = connection["protocol"] == "tcp";
    let ip_header = if text(connection, "/client").contains(':') {
        40
    } else {
        20
    };
    // A client may use a port again: its connections are one flow then.
    let is_twin = |other: &&&Value| {
        let tuple = ["client", "client_port", "server", "server_port", "protocol"];
        tuple.iter().all(|field| connection[field] == other[field])
    };
    let twins: Vec<_> = connections.iter().filter(is_twin).collect();
    let mut is_exact = true;
    for (packets, bytes, payload, sides) in [
        ("/packets_toserver", "/bytes_toserver", "sent_bytes", "toserver"),
        (
            "/packets_toclient",
            "/bytes_toclient",
            "received_bytes",
            "toclient",
        ),
    ] {
        let (packets, bytes) = (number(flow, packets), number(flow, bytes));
        let payload = carried(&twins, payload);
        if is_tcp {
            // Ethernet, IP, TCP with time stamps; a SYN has 8 bytes of options more. Segments that
            // came in disorder are complained about in longer options.
            let exact = payload + packets * (14 + ip_header + 32) + 8 * twins.len() as u64;
            assert!(bytes >= exact, "{sides}: {context}");
            if has_lost_nothing(flow) {
                const COMPLAINT_MAX: u64 = 36;
                assert!(bytes - exact <= COMPLAINT_MAX * packets, "{sides}: {context}");
                assert_eq!((bytes - exact) % 4, 0, "{sides}: {context}");
            }
            is_exact &= bytes == exact;
            let segment_max = 1500 - ip_header - 32;
            assert!(packets > payload.div_ceil(segment_max), "{sides}: {context}");
        } else {
            assert_eq!(
                bytes,
                payload + packets * (14 + ip_header + 8),
                "{sides}: {context}"
            );
        }
    }
    if is_tcp {
        assert!(number(flow, "/tcp/rtt_us") > 0, "{context}");
        assert_eq!(flow["tcp"]["state"], "closed", "{context}");
        for flags in ["/tcp/flags_toserver", "/tcp/flags_toclient"] {
            assert!(text(flow, flags).starts_with("FS"), "{context}");
        }
    }
    assert_eq!(flow["iface"], "lab0", "{context}");
    assert_eq!(flow["owner"]["comm"], "lab-serve", "{context}");
    assert_eq!(number(flow, "/owner/pid"), lab.server_pid, "{context}");
    assert_eq!(flow.get("incomplete"), None, "{context}");
    is_exact
}

/// Checks every connection of `normal`: how many there are, and of how many all bytes are accounted
/// for.
#[track_caller]
pub(crate) fn check_normal(lab: &Lab, flows: &[Value], report: &Value) -> (usize, usize) {
    let connections = connections(report, "normal");
    assert!(connections.len() >= 48);
    let exact = connections
        .iter()
        .filter(|connection| check_connection(lab, flows, &connections, connection));
    (connections.len(), exact.count())
}

#[test]
fn frame_by_frame() {
    if !may_run() {
        return;
    }
    let lab = Lab::up("nf", &["--no-offload"]);
    let (weir, start) = Start::weir(&lab, &[]);
    let report = lab.run(&["normal", "--seconds", "2"]);
    let (status, flows) = wait_until_equal(&lab, &weir, &start);
    let (connections, exact) = check_normal(&lab, &flows, &report);
    assert!(2 * exact > connections, "{exact} of {connections}");
    assert_eq!(status["incomplete"], Value::Null);
    println!(
        "{connections} connections, {exact} to the byte, {:?}",
        start.since(&lab)
    );
}

/// With segmentation offload the interface counts packets of up to 64 KiB. Weir counts the segments
/// they are cut into, as the kernel's TCP does.
#[test]
fn segment_by_segment() {
    if !may_run() {
        return;
    }
    let lab = Lab::up("ns", &[]);
    let sent = || {
        let clients = lab.segments_sent("client1") + lab.segments_sent("client2");
        [clients, lab.segments_sent("server")]
    };
    let before = sent();
    let (weir, start) = Start::weir(&lab, &[]);
    let report = lab.run(&["normal", "--seconds", "2"]);
    let (status, flows) = wait_for("Weir's totals are TCP's", || {
        let expected = sent();
        let expected = [expected[0] - before[0], expected[1] - before[1]];
        let (status, flows) = (weir.status(), weir.flows(""));
        let mut segments = [0, 0];
        for flow in flows.iter().filter(|flow| flow["proto"] == "tcp") {
            segments[0] += number(flow, "/packets_toserver");
            segments[1] += number(flow, "/packets_toclient");
        }
        if segments != expected {
            return Err(format!("flows {segments:?}, TCP {expected:?}"));
        }
        let kernel = start.since(&lab);
        let [rx, tx] = observed(&status);
        check_offload(rx, (kernel.rx_packets, kernel.rx_bytes))?;
        check_offload(tx, (kernel.tx_packets, kernel.tx_bytes))?;
        Ok((status, flows))
    });
    let (connections, exact) = check_normal(&lab, &flows, &report);
    assert!(2 * exact > connections, "{exact} of {connections}");
    assert_eq!(number(&status, "/unaccounted_packets"), 0, "{status}");
    println!(
        "{connections} connections, {exact} to the byte, {:?}",
        start.since(&lab)
    );
}

/// Every segment cut off an offloaded packet has headers of its own: 66 bytes over IPv4, 86 over
/// IPv6. A veth that merges what it receives does not count the Ethernet header of that.
fn check_offload(seen: (u64, u64), interface: (u64, u64)) -> Result<(), String> {
    let cut = seen.0.saturating_sub(interface.0);
    let added = seen.1.saturating_sub(interface.1);
    if cut > 0 && (66 * cut..=86 * cut + 14 * interface.0).contains(&added) {
        Ok(())
    } else {
        Err(format!("Weir {seen:?}, interface {interface:?}"))
    }
}
