//! Flows as aligned columns.

use std::io::{self, Write};

use inspect::names::protocol_name;
use inspect::record::{FlowRecord, TcpState};

use super::{Ended, Outcome, Sink};
use crate::cli::text::{
    Align, Cell, Painter, Tone, bytes, columns, duration_ns, endpoint, grouped, shortened,
};

pub(super) struct Table<W> {
    out: W,
    painter: Painter,
    rows: Vec<Vec<Cell>>,
}

const COLUMNS: [(&str, Align); 11] = [
    ("PROTO", Align::Left),
    ("CLIENT", Align::Left),
    ("SERVER", Align::Left),
    ("APP", Align::Left),
    ("NAME", Align::Left),
    ("STATE", Align::Left),
    ("PACKETS > <", Align::Right),
    ("BYTES > <", Align::Right),
    ("DURATION", Align::Right),
    ("RTT", Align::Right),
    ("NOTES", Align::Left),
];

/// The same table of records that are all there, as `weir flows` has them.
pub(in crate::cli) fn render(painter: Painter, records: impl Iterator<Item = FlowRecord>) -> String {
    let heading = |&(name, _): &(&str, Align)| Cell(name.to_owned(), Tone::Heading);
    let mut rows = vec![COLUMNS.iter().map(heading).collect()];
    rows.extend(records.map(|record| row(&record)));
    aligned(painter, rows)
}

/// Columns of layer 7, which are left out where no flow has anything in them.
const OPTIONAL: [&str; 2] = ["APP", "NAME"];

fn aligned(painter: Painter, mut rows: Vec<Vec<Cell>>) -> String {
    let is_used: Vec<bool> = COLUMNS
        .iter()
        .enumerate()
        .map(|(at, (name, _))| {
            !OPTIONAL.contains(name) || rows.iter().skip(1).any(|row| !row[at].0.is_empty())
        })
        .collect();
    for row in &mut rows {
        let mut is_used = is_used.iter();
        row.retain(|_| is_used.next() == Some(&true));
    }
    let aligns: Vec<Align> = COLUMNS
        .iter()
        .zip(is_used)
        .filter(|(_, is_used)| *is_used)
        .map(|((_, align), _)| *align)
        .collect();
    columns(painter, &aligns, &rows)
}

impl<W: Write> Table<W> {
    pub(super) fn new(out: W) -> Self {
        let heading = |&(name, _): &(&str, Align)| Cell(name.to_owned(), Tone::Heading);
        Self {
            out,
            painter: Painter::for_stdout(),
            rows: vec![COLUMNS.iter().map(heading).collect()],
        }
    }
}

impl<W: Write> Sink for Table<W> {
    fn flow(&mut self, flow: Ended) -> io::Result<()> {
        self.rows.push(row(&flow.record));
        Ok(())
    }

    fn finish(&mut self, outcome: &Outcome) -> io::Result<()> {
        let shown = self.rows.len() as u64 - 1;
        if shown > 0 {
            let rows = std::mem::take(&mut self.rows);
            self.out.write_all(aligned(self.painter, rows).as_bytes())?;
        }
        let totals = &outcome.totals;
        let passed = totals.flows - outcome.n_filtered;
        let mut line = format!(
            "{} {}",
            grouped(passed),
            if totals.flows == 1 { "flow" } else { "flows" }
        );
        if outcome.n_filtered > 0 {
            line = format!("{line} of {}", grouped(totals.flows));
        }
        if shown < passed {
            line = format!("{line}, {} shown", grouped(shown));
        }
        let rejected = totals.packets - totals.in_flows;
        line = format!("{line}; {} packets read", grouped(totals.packets));
        if rejected > 0 {
            line = format!("{line}, {} in no flow", grouped(rejected));
        }
        writeln!(self.out, "{}", self.painter.paint(Tone::Quiet, &line))?;
        self.out.flush()
    }
}

fn row(record: &FlowRecord) -> Vec<Cell> {
    let protocol = protocol_name(record.protocol);
    let port = |port: u16| record.has_ports().then_some(port);
    let (to_server, to_client) = (&record.to_server, &record.to_client);
    let rtt = record.tcp.and_then(|tcp| tcp.rtt_us());
    vec![
        Cell::plain(protocol.map_or_else(|| record.protocol.to_string(), str::to_owned)),
        Cell::plain(endpoint(record.src, port(record.src_port))),
        Cell::plain(endpoint(record.dst, port(record.dst_port))),
        Cell::plain(app(record)),
        Cell::plain(name(record)),
        state(record),
        Cell::plain(format!(
            "{} {}",
            grouped(to_server.packets),
            grouped(to_client.packets)
        )),
        Cell::plain(format!("{} {}", bytes(to_server.bytes), bytes(to_client.bytes))),
        Cell::plain(duration_ns(record.duration_ns())),
        Cell::plain(rtt.map_or_else(String::new, |us| duration_ns(u64::from(us) * 1000))),
        Cell(notes(record), Tone::Warning),
    ]
}

/// The protocol, and the service where a name proves it: `tls github`.
fn app(record: &FlowRecord) -> String {
    let Some(insight) = record.insight.as_deref() else {
        return String::new();
    };
    let words = [insight.app, insight.service].into_iter().flatten();
    words.collect::<Vec<_>>().join(" ")
}

/// Longest name shown, in characters.
const NAME_MAX: usize = 48;

/// The server's name; in brackets if DNS gave it, not the flow.
fn name(record: &FlowRecord) -> String {
    let Some(insight) = record.insight.as_deref() else {
        return String::new();
    };
    match (&insight.host, &insight.resolved_name) {
        (Some(host), _) => shortened(host, NAME_MAX),
        (None, Some(name)) => format!("({})", shortened(name, NAME_MAX - 2)),
        (None, None) => String::new(),
    }
}

fn state(record: &FlowRecord) -> Cell {
    let Some(tcp) = record.tcp else {
        return Cell::plain(record.state.name());
    };
    let tone = match tcp.state {
        TcpState::Established | TcpState::Closed if tcp.resets() == 0 => Tone::Good,
        TcpState::Closed if record.to_client.packets == 0 => Tone::Bad,
        TcpState::SynSent => Tone::Bad,
        _ => Tone::Plain,
    };
    Cell(tcp.state.name().to_owned(), tone)
}

/// What is out of the ordinary, in few words.
fn notes(record: &FlowRecord) -> String {
    let mut notes = Vec::new();
    if let Some(owner) = &record.owner {
        notes.push(format!("{} ({})", owner.comm, owner.pid));
    }
    for (place, side) in [(&record.src_place, "from"), (&record.dst_place, "to")] {
        if let Some(country) = &place.country {
            notes.push(format!("{side} {}", country.as_str()));
        }
    }
    if let Some(insight) = &record.insight {
        if insight.has_clear_credential {
            notes.push("password in clear text".to_owned());
        }
        if insight.logins_failed > 0 {
            notes.push(format!("{} failed log-ins", insight.logins_failed));
        }
        if insight.anomalies > 0 {
            notes.push(format!("{} anomalies", insight.anomalies));
        }
    }
    if let Some(tunnel) = record.tunnel {
        notes.push(match tunnel.id {
            0 => format!("in {}", tunnel.kind),
            id => format!("in {} {id}", tunnel.kind),
        });
    }
    for vlan in record.vlans.iter().flatten() {
        notes.push(format!("vlan {vlan}"));
    }
    if let Some(tcp) = record.tcp {
        let counts = [
            ("retransmits", tcp.retransmits()),
            ("out of order", tcp.out_of_order()),
            ("zero window", tcp.zero_windows()),
            ("resets", tcp.resets()),
        ];
        let seen = counts.iter().filter(|(_, count)| *count > 0);
        notes.extend(seen.map(|(name, count)| format!("{} {name}", grouped(*count))));
    }
    if let Some(icmp) = record.icmp {
        notes.push(format!("type {} code {}", icmp.request.0, icmp.request.1));
    }
    if record.has_fragments {
        notes.push("fragments".to_owned());
    }
    if record.is_partial {
        notes.push("joined late".to_owned());
    }
    notes.join(", ")
}
