//! The status as Prometheus text, version 0.0.4.
//!
//! Names end in their unit, counters in `_total`. Labels come from closed sets: interfaces, and
//! names this program or the kernel knows.

use std::fmt::Write as _;

use crate::status::{Counts, InterfaceTraffic, Status};

/// Every number of the status but rates, which Prometheus works out itself.
#[must_use]
pub fn text(status: &Status) -> String {
    let mut page = Page::default();
    process(&mut page, status);
    interfaces(&mut page, status);
    flows(&mut page, status);
    losses(&mut page, status);
    page.text
}

fn process(page: &mut Page, status: &Status) {
    let abi = status.abi.to_string();
    page.metric("weir_info", Kind::Gauge, "What is running; always 1.");
    let labels = [
        ("version", status.version.as_str()),
        ("abi", &abi),
        ("instance", &status.instance),
        ("mode", &status.mode),
    ];
    page.sample(&labels, 1_u64);
    page.metric("weir_uptime_seconds", Kind::Gauge, "Time since the start.");
    page.sample(&[], status.uptime_s);
    page.metric(
        "weir_kernel_memory_bytes",
        Kind::Gauge,
        "Kernel memory of the maps.",
    );
    page.sample(&[], status.kernel_memory_bytes);
    page.metric(
        "weir_resident_memory_bytes",
        Kind::Gauge,
        "Resident memory of the process.",
    );
    page.sample(&[], status.resident_bytes);
    page.metric(
        "weir_degraded",
        Kind::Gauge,
        "Things that work less well than they could; /api/v1/status says which.",
    );
    page.sample(&[], status.degraded.len() as u64);
    page.metric(
        "weir_incomplete",
        Kind::Gauge,
        "1 while numbers may miss something; /api/v1/status says what.",
    );
    page.sample(&[], u64::from(status.incomplete.is_some()));
}

/// Counters of each interface and direction: name, help, value.
type TrafficRow = (&'static str, &'static str, fn(&InterfaceTraffic) -> u64);

const TRAFFIC: [TrafficRow; 8] = [
    ("weir_interface_packets_total", "Packets seen.", |traffic| {
        traffic.packets
    }),
    ("weir_interface_bytes_total", "Frame bytes seen.", |traffic| {
        traffic.bytes
    }),
    (
        "weir_interface_flow_packets_total",
        "Packets counted in flows.",
        |traffic| traffic.in_rows,
    ),
    (
        "weir_interface_attempt_packets_total",
        "Packets of connection attempts.",
        |traffic| traffic.attempts,
    ),
    (
        "weir_interface_aggregated_packets_total",
        "Packets counted by service only.",
        |traffic| traffic.aggregated,
    ),
    (
        "weir_interface_transport_faults_total",
        "Packets whose transport header was short or contradicted itself.",
        |traffic| traffic.l4_faults,
    ),
    (
        "weir_interface_inner_flow_packets_total",
        "Packets inside tunnels counted in flows of their own.",
        |traffic| traffic.inner_in_rows,
    ),
    (
        "weir_interface_inner_without_flow_packets_total",
        "Packets inside tunnels counted in no flow of their own.",
        |traffic| traffic.inner_without_row,
    ),
];

fn interfaces(page: &mut Page, status: &Status) {
    let directions = || {
        status.interfaces.iter().flat_map(|interface| {
            let name = interface.name.as_str();
            [(name, "rx", &interface.rx), (name, "tx", &interface.tx)]
        })
    };
    for (name, help, value) in TRAFFIC {
        page.metric(name, Kind::Counter, help);
        for (interface, direction, traffic) in directions() {
            page.sample(
                &[("interface", interface), ("direction", direction)],
                value(traffic),
            );
        }
    }
    page.metric(
        "weir_interface_rejected_packets_total",
        Kind::Counter,
        "Frames that belong to no flow, by reason.",
    );
    for (interface, direction, traffic) in directions() {
        for (reason, count) in &traffic.rejects {
            let labels = [
                ("interface", interface),
                ("direction", direction),
                ("reason", reason.as_str()),
            ];
            page.sample(&labels, *count);
        }
    }
}

fn flows(page: &mut Page, status: &Status) {
    let (flows, tcp) = (&status.flows, &status.tcp);
    let rows = [
        ("weir_flow_rows", Kind::Gauge, "Flows in the table.", flows.rows),
        (
            "weir_flow_rows_capacity",
            Kind::Gauge,
            "Flows the table can hold.",
            flows.capacity,
        ),
        (
            "weir_flow_attempts",
            Kind::Gauge,
            "Connection attempts under watch.",
            flows.attempts,
        ),
        (
            "weir_flows_ended_total",
            Kind::Counter,
            "Flows that ended.",
            flows.ended_total,
        ),
        (
            "weir_tcp_established_total",
            Kind::Counter,
            "Sockets of this host that became established.",
            tcp.established_total,
        ),
        (
            "weir_tcp_closed_total",
            Kind::Counter,
            "Sockets of this host that closed.",
            tcp.closed_total,
        ),
        (
            "weir_tcp_retransmitted_segments_total",
            Kind::Counter,
            "Segments this host sent again on established connections.",
            tcp.retransmits,
        ),
        (
            "weir_tcp_retransmitted_handshakes_total",
            Kind::Counter,
            "SYN and SYN-ACK segments this host sent again.",
            tcp.retransmitted_handshakes,
        ),
    ];
    for (name, kind, help, value) in rows {
        page.metric(name, kind, help);
        page.sample(&[], value);
    }
    page.by_name(
        "weir_tcp_flows",
        Kind::Gauge,
        "TCP flows by state.",
        "state",
        &tcp.states,
    );
}

fn losses(page: &mut Page, status: &Status) {
    page.metric(
        "weir_drops_total",
        Kind::Counter,
        "Packets the kernel dropped, by its reason.",
    );
    for drop in &status.drops {
        page.sample(&[("reason", &drop.reason)], drop.count);
    }
    page.by_name(
        "weir_loss_total",
        Kind::Counter,
        "What was lost or refused on the way, by kind.",
        "kind",
        &status.losses,
    );
    page.metric(
        "weir_unaccounted_packets",
        Kind::Gauge,
        "Packets that came in and are in no counter.",
    );
    page.sample(&[], status.unaccounted_packets);
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

#[derive(Default)]
struct Page {
    text: String,
    name: &'static str,
}

impl Page {
    /// Begins a metric; samples that follow are of it.
    fn metric(&mut self, name: &'static str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.name = name;
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.text.push_str(self.name);
        for (at, (name, text)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{name}=\"");
            for char in text.chars() {
                match char {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    char => self.text.push(char),
                }
            }
            self.text.push('"');
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{after} {value}");
    }

    fn by_name(&mut self, name: &'static str, kind: Kind, help: &str, label: &str, counts: &Counts) {
        self.metric(name, kind, help);
        for (text, count) in counts {
            self.sample(&[(label, text)], *count);
        }
    }
}
