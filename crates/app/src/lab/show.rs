//! What people read: tables and hints.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::layout::{HOST_INTERFACE, Host, Lab};
use super::namespace::InterfaceCounters;
use super::report::{Outcome, Protocol, RunReport, Service};
use super::scenario::{RAW_PACKETS_MAX, SCENARIOS, SECONDS_MAX};
use super::state::State;

/// 1234567 as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Columns aligned: the first to the left, the others to the right.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column).map(|cell| cell.chars().count()))
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::from("  ");
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Writing to a String cannot fail.
            let _ = if column == 0 {
                write!(line, "{cell:<width$}")
            } else {
                write!(line, "  {cell:>width$}")
            };
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// Hosts and addresses, and what to do next.
pub(crate) fn network(lab: &Lab, state: &State) -> String {
    let mut rows = vec![row(["host", "IPv4", "IPv6", "namespace"])];
    for host in Host::observed(state.options.clients) {
        rows.push(vec![
            host.to_string(),
            host.ipv4().to_string(),
            host.ipv6().to_string(),
            lab.namespace(host),
        ]);
    }
    let weir = invoked_as();
    let option = lab.option();
    let hints = table_left(&[
        [
            format!("{weir} lab exec{option} server weir watch --iface {HOST_INTERFACE}"),
            "look at the server's interface".to_owned(),
        ],
        [
            format!("{weir} lab run{option} normal"),
            format!("make traffic ({weir} lab list: every scenario)"),
        ],
        [format!("{weir} lab down{option}"), "remove all of it".to_owned()],
    ]);
    format!("{}  made with {}\n\nNext:\n{hints}", table(&rows), state.options)
}

/// This program as the reader called it.
fn invoked_as() -> String {
    std::env::args()
        .next()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "weir".to_owned())
}

/// Two columns of text.
fn table_left(rows: &[[String; 2]]) -> String {
    let width = rows.iter().map(|row| row[0].chars().count()).max();
    let width = width.unwrap_or(0);
    rows.iter()
        .map(|[first, second]| format!("  {first:<width$}  {second}\n"))
        .collect()
}

/// Counters of each host since it came up.
pub(crate) fn status(counters: &[(Host, InterfaceCounters)]) -> String {
    let named: Vec<_> = counters
        .iter()
        .map(|(host, counters)| (host.to_string(), *counters))
        .collect();
    interfaces(&named)
}

fn interfaces(counters: &[(String, InterfaceCounters)]) -> String {
    let mut rows = vec![row([
        HOST_INTERFACE,
        "packets in",
        "bytes in",
        "packets out",
        "bytes out",
        "dropped",
    ])];
    for (host, counters) in counters {
        rows.push(vec![
            host.clone(),
            grouped(counters.rx_packets),
            grouped(counters.rx_bytes),
            grouped(counters.tx_packets),
            grouped(counters.tx_bytes),
            grouped(counters.rx_dropped + counters.tx_dropped),
        ]);
    }
    table(&rows)
}

pub(crate) fn scenarios() -> String {
    let mut out = String::new();
    for facts in SCENARIOS {
        let [low, medium, high] = facts.amount.map(|amount| grouped(amount.into()));
        let _ = writeln!(
            out,
            "{}\n    {}\n    low {low}, medium {medium}, high {high} {}\n",
            facts.scenario.name(),
            facts.shows,
            facts.counted
        );
    }
    let _ = writeln!(
        out,
        "Never more than {} raw packets or {SECONDS_MAX} seconds a run.",
        grouped(RAW_PACKETS_MAX)
    );
    out
}

/// The report of a run.
pub(crate) fn run(report: &RunReport) -> String {
    let mut out = String::new();
    if !report.connections.is_empty() {
        out.push_str(&connections(report));
        out.push('\n');
    }
    for raw in &report.raw {
        let _ = writeln!(
            out,
            "  {}: {} {} packets sent ({} bytes); the interface counted {}, dropped {}",
            raw.scenario.name(),
            grouped(raw.packets_sent),
            raw.kind,
            grouped(raw.bytes_sent),
            grouped(raw.interface.tx_packets),
            grouped(raw.interface.tx_dropped),
        );
        if !raw.open_ports.is_empty() {
            let ports: Vec<String> = raw.open_ports.iter().map(u16::to_string).collect();
            let _ = writeln!(out, "    ports that answered: {}", ports.join(", "));
        }
        out.push('\n');
    }
    let named: Vec<_> = report
        .interfaces
        .iter()
        .map(|one| (one.host.clone(), one.counters))
        .collect();
    out.push_str(&interfaces(&named));
    out
}

#[derive(Default)]
struct Sum {
    connections: u64,
    sent: u64,
    received: u64,
    server_received: u64,
    server_sent: u64,
    outcomes: BTreeMap<Outcome, u64>,
}

fn connections(report: &RunReport) -> String {
    let mut sums: BTreeMap<(&str, &str, &str), Sum> = BTreeMap::new();
    for one in &report.connections {
        let key = (
            one.scenario.name(),
            service_name(one.service),
            match one.protocol {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
            },
        );
        let sum = sums.entry(key).or_default();
        sum.connections += 1;
        sum.sent += one.sent_bytes;
        sum.received += one.received_bytes;
        sum.server_received += one.server_received_bytes.unwrap_or(0);
        sum.server_sent += one.server_sent_bytes.unwrap_or(0);
        *sum.outcomes.entry(one.outcome).or_default() += 1;
    }
    let mut rows = vec![row([
        "connections",
        "number",
        "bytes sent",
        "at the server",
        "bytes received",
        "by the server",
        "outcomes",
    ])];
    for ((scenario, service, protocol), sum) in sums {
        let outcomes: Vec<String> = sum
            .outcomes
            .iter()
            .map(|(outcome, count)| format!("{} {}", grouped(*count), outcome_name(*outcome)))
            .collect();
        rows.push(vec![
            format!("{scenario} {service}/{protocol}"),
            grouped(sum.connections),
            grouped(sum.sent),
            grouped(sum.server_received),
            grouped(sum.received),
            grouped(sum.server_sent),
            outcomes.join(", "),
        ]);
    }
    table(&rows)
}

fn service_name(service: Service) -> &'static str {
    match service {
        Service::Http => "http",
        Service::Dns => "dns",
        Service::Https => "https",
        Service::Ssh => "ssh",
        Service::Bulk => "bulk",
        Service::Echo => "echo",
        Service::Probe => "probe",
    }
}

fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Complete => "complete",
        Outcome::AuthFailed => "auth-failed",
        Outcome::Refused => "refused",
        Outcome::Held => "held",
        Outcome::ClosedByServer => "closed-by-server",
        Outcome::TimedOut => "timed-out",
        Outcome::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_columns_aligned() {
        for (number, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1234567, "1,234,567")] {
            assert_eq!(grouped(number), expected);
        }
        let rows = [row(["a", "1"]), row(["long", "22"])];
        assert_eq!(table(&rows), "  a      1\n  long  22\n");
    }
}
