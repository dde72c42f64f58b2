//! The text that Prometheus reads, checked by a small reader of it.

use std::collections::{BTreeMap, BTreeSet};

use control::metrics::text;
use control::status::{Counts, Drop, Flows, Interface, InterfaceTraffic, Status, Tcp};
use serde_json::Value;

/// One sample: labels in order, and the value.
type Sample = (Vec<(String, String)>, f64);

/// Reads the text format 0.0.4, strictly: every metric has HELP, then TYPE, then its samples.
fn parse(text: &str) -> BTreeMap<String, (String, Vec<Sample>)> {
    let mut metrics: BTreeMap<String, (String, Vec<Sample>)> = BTreeMap::new();
    let mut lines = text.lines().peekable();
    assert!(text.ends_with('\n'));
    while let Some(line) = lines.next() {
        let help = line
            .strip_prefix("# HELP ")
            .unwrap_or_else(|| panic!("no HELP: {line}"));
        let (name, help) = help.split_once(' ').unwrap();
        assert!(help.ends_with('.'), "{line}");
        assert!(
            name.chars().all(|char| char.is_ascii_lowercase() || char == '_'),
            "{name}"
        );
        let kind = lines
            .next()
            .unwrap()
            .strip_prefix(&format!("# TYPE {name} "))
            .unwrap()
            .to_owned();
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        let mut samples = Vec::new();
        while let Some(sample) = lines.next_if(|line| !line.starts_with('#')) {
            samples.push(parse_sample(name, sample));
        }
        let distinct: BTreeSet<_> = samples.iter().map(|(labels, _)| labels).collect();
        assert_eq!(distinct.len(), samples.len(), "{name} has a series twice");
        assert!(
            metrics.insert(name.to_owned(), (kind, samples)).is_none(),
            "{name} comes twice"
        );
    }
    metrics
}

fn parse_sample(name: &str, line: &str) -> Sample {
    let rest = line
        .strip_prefix(name)
        .unwrap_or_else(|| panic!("of another metric: {line}"));
    let (labels, value) = rest.rsplit_once(' ').unwrap();
    let mut parsed = Vec::new();
    if let Some(mut inside) = labels
        .strip_prefix('{')
        .map(|labels| labels.strip_suffix('}').unwrap())
    {
        while !inside.is_empty() {
            let (label, rest) = inside.split_once("=\"").unwrap();
            let mut value = String::new();
            let mut chars = rest.char_indices();
            let end = loop {
                match chars.next().unwrap() {
                    (at, '"') => break at,
                    (_, '\\') => match chars.next().unwrap().1 {
                        'n' => value.push('\n'),
                        escaped @ ('\\' | '"') => value.push(escaped),
                        other => panic!("no such escape: {other}"),
                    },
                    (_, char) => value.push(char),
                }
            };
            parsed.push((label.to_owned(), value));
            inside = rest[end + 1..].strip_prefix(',').unwrap_or(&rest[end + 1..]);
        }
    }
    (parsed, value.parse().unwrap())
}

/// A status in which no number comes twice.
fn distinct_status() -> Status {
    let mut last = 1000;
    let mut next = || {
        last += 1;
        last
    };
    let mut counts =
        |names: &[&str]| -> Counts { names.iter().map(|name| ((*name).to_owned(), next())).collect() };
    let rejects = [counts(&["arp", "truncated"]), counts(&["arp", "truncated"])];
    let states = counts(&["established", "closed"]);
    let losses = counts(&["flow_table_full", "queue_full"]);
    let mut traffic = |rejects: Counts| InterfaceTraffic {
        packets: next(),
        bytes: next(),
        in_rows: next(),
        attempts: next(),
        aggregated: next(),
        rejects,
        l4_faults: next(),
        inner_in_rows: next(),
        inner_without_row: next(),
        packets_per_s: 0.0,
        bits_per_s: 0.0,
    };
    let [rx, tx] = rejects.map(&mut traffic);
    Status {
        version: "0.1.0".into(),
        abi: next() as u32,
        instance: "quo\"te\\d\nname".into(),
        hostname: None,
        mode: "observe".into(),
        started_at: "2026-01-01T00:00:00Z".into(),
        uptime_s: 12.5,
        interfaces: vec![Interface {
            name: "eth0".into(),
            rx,
            tx,
            ..Interface::default()
        }],
        flows: Flows {
            rows: next(),
            capacity: next(),
            attempts: next(),
            ended_total: next(),
        },
        tcp: Tcp {
            established_total: next(),
            closed_total: next(),
            retransmits: next(),
            retransmitted_handshakes: next(),
            states,
        },
        drops: vec![Drop {
            reason: "NO_SOCKET".into(),
            count: next(),
        }],
        losses,
        incomplete: None,
        kernel_memory_bytes: next(),
        resident_bytes: next(),
        degraded: Vec::new(),
        unaccounted_packets: next(),
    }
}

fn numbers(value: &Value, found: &mut BTreeSet<u64>) {
    match value {
        Value::Number(number) => found.extend(number.as_u64().filter(|number| *number > 1000)),
        Value::Array(items) => items.iter().for_each(|item| numbers(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| numbers(field, found)),
        _ => {}
    }
}

#[test]
fn every_counter_of_the_status_is_a_metric() {
    let status = distinct_status();
    let metrics = parse(&text(&status));
    let mut counted = BTreeSet::new();
    numbers(&serde_json::to_value(&status).unwrap(), &mut counted);
    assert!(counted.len() > 30);
    counted.remove(&u64::from(status.abi));
    let mut exported: BTreeSet<u64> = metrics
        .values()
        .flat_map(|(_, samples)| samples)
        .map(|(_, value)| *value as u64)
        .collect();
    exported.retain(|value| *value > 1000);
    assert_eq!(exported, counted);
}

#[test]
fn names_labels_and_values() {
    let status = distinct_status();
    let metrics = parse(&text(&status));
    let check = |name: &str, labels: &[(&str, &str)], expected: f64| {
        let labels: Vec<_> = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let found = metrics[name].1.iter().find(|(found, _)| *found == labels);
        assert_eq!(
            found.map(|(_, value)| *value),
            Some(expected),
            "{name} {labels:?}"
        );
    };
    let rx = &status.interfaces[0].rx;
    check(
        "weir_interface_packets_total",
        &[("interface", "eth0"), ("direction", "rx")],
        rx.packets as f64,
    );
    check(
        "weir_interface_rejected_packets_total",
        &[("interface", "eth0"), ("direction", "rx"), ("reason", "arp")],
        rx.rejects["arp"] as f64,
    );
    check(
        "weir_loss_total",
        &[("kind", "queue_full")],
        status.losses["queue_full"] as f64,
    );
    check(
        "weir_drops_total",
        &[("reason", "NO_SOCKET")],
        status.drops[0].count as f64,
    );
    check("weir_flow_rows", &[], status.flows.rows as f64);
    check("weir_uptime_seconds", &[], 12.5);
    let instance = &metrics["weir_info"].1[0].0[2];
    assert_eq!(
        instance,
        &("instance".to_owned(), status.instance.clone()),
        "escaped and read back"
    );
}

#[test]
fn an_empty_status_is_still_text() {
    let metrics = parse(&text(&Status::default()));
    assert!(metrics["weir_interface_packets_total"].1.is_empty());
    assert_eq!(metrics["weir_info"].0, "gauge");
}
