//! One page about a capture: totals, protocols, talkers, TCP health, oddities.

use std::io::{self, Write};
use std::net::IpAddr;

use inspect::layer7::Event;
use inspect::names::protocol_name;
use inspect::record::{FlowRecord, TcpState};
use inspect::table::Totals;
use wire::Reject;
use wire::tcp::flag;

use super::layer7::Layer7;
use super::tally::{Sum, Tally};
use super::{Ended, Outcome, Sink};
use crate::cli::text::{Align, Cell, Painter, Tone, bytes, columns, duration_ns, endpoint, grouped, percent};

/// Round trips kept for the quantiles; later ones are left out.
const ROUND_TRIPS_MAX: usize = 1_000_000;

pub(super) struct Summary<W> {
    out: W,
    painter: Painter,
    protocols: Tally<u8>,
    hosts: Tally<IpAddr>,
    services: Tally<(u8, IpAddr, Option<u16>)>,
    tunnels: Tally<&'static str>,
    layer7: Layer7,
    tcp: TcpTally,
}

#[derive(Debug, Default)]
struct TcpTally {
    flows: u64,
    completed: u64,
    unanswered: u64,
    refused: u64,
    packets: u64,
    retransmits: u64,
    out_of_order: u64,
    zero_windows: u64,
    resets: u64,
    joined_late: u64,
    round_trips_us: Vec<u32>,
}

impl TcpTally {
    fn add(&mut self, record: &FlowRecord) {
        let Some(tcp) = record.tcp else { return };
        self.flows += 1;
        self.packets += record.packets();
        self.retransmits += tcp.retransmits();
        self.out_of_order += tcp.out_of_order();
        self.zero_windows += tcp.zero_windows();
        self.resets += tcp.resets();
        self.joined_late += u64::from(record.is_partial);
        let asked = tcp.to_server.has(flag::SYN);
        let answered = tcp.to_client.has(flag::SYN);
        self.completed += u64::from(asked && answered && tcp.to_server.has(flag::ACK));
        self.unanswered += u64::from(tcp.state == TcpState::SynSent);
        self.refused += u64::from(asked && !answered && tcp.to_client.has(flag::RST));
        if let Some(us) = tcp.rtt_us()
            && self.round_trips_us.len() < ROUND_TRIPS_MAX
        {
            self.round_trips_us.push(us);
        }
    }
}

impl<W: Write> Summary<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            out,
            painter: Painter::for_stdout(),
            protocols: Tally::new(),
            hosts: Tally::new(),
            services: Tally::new(),
            tunnels: Tally::new(),
            layer7: Layer7::default(),
            tcp: TcpTally::default(),
        }
    }

    fn heading(&mut self, text: &str) -> io::Result<()> {
        let text = self.painter.paint(Tone::Heading, text);
        writeln!(self.out, "\n{text}")
    }

    fn facts(&mut self, facts: &[(&str, String, Tone)]) -> io::Result<()> {
        let rows: Vec<Vec<Cell>> = facts
            .iter()
            .map(|(name, value, tone)| vec![Cell::plain(format!("  {name}")), Cell(value.clone(), *tone)])
            .collect();
        let text = columns(self.painter, &[Align::Left, Align::Left], &rows);
        self.out.write_all(text.as_bytes())
    }

    fn totals(&mut self, outcome: &Outcome) -> io::Result<()> {
        let totals = &outcome.totals;
        let span_ns = totals.last_ns - totals.first_ns;
        let time = |ns: u64| inspect::time::Rfc3339(ns).to_string();
        let mut facts = vec![
            ("inputs", inputs(outcome), Tone::Plain),
            (
                "packets",
                format!("{}, {}", grouped(totals.packets), bytes(totals.bytes)),
                Tone::Plain,
            ),
        ];
        if totals.packets > 0 {
            facts.push(("first", time(totals.first_ns), Tone::Plain));
            facts.push((
                "last",
                format!("{}, {} later", time(totals.last_ns), duration_ns(span_ns)),
                Tone::Plain,
            ));
        }
        let flows = if outcome.n_filtered > 0 {
            let passed = totals.flows - outcome.n_filtered;
            format!(
                "{} of {}: the rest of this page is about them",
                grouped(passed),
                grouped(totals.flows)
            )
        } else {
            grouped(totals.flows)
        };
        facts.push(("flows", flows, Tone::Plain));
        self.facts(&facts)
    }

    fn list(&mut self, title: &str, rows: Vec<(String, Sum)>, others: Sum, all_bytes: u64) -> io::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        self.heading(title)?;
        let quiet = |text: &str| Cell(text.to_owned(), Tone::Quiet);
        let mut cells = vec![vec![
            quiet("  "),
            quiet("flows"),
            quiet("packets"),
            quiet("bytes"),
            quiet("share"),
        ]];
        let others = (others.flows > 0).then(|| ("others".to_owned(), others));
        for (name, sum) in rows.into_iter().chain(others) {
            cells.push(vec![
                Cell::plain(format!("  {name}")),
                Cell::plain(grouped(sum.flows)),
                Cell::plain(grouped(sum.packets)),
                Cell::plain(bytes(sum.bytes)),
                Cell::plain(percent(sum.bytes, all_bytes)),
            ]);
        }
        let aligns = [
            Align::Left,
            Align::Right,
            Align::Right,
            Align::Right,
            Align::Right,
        ];
        self.out
            .write_all(columns(self.painter, &aligns, &cells).as_bytes())
    }

    fn lists(&mut self) -> io::Result<()> {
        let all_bytes: u64 = self.protocols.sums.values().map(|sum| sum.bytes).sum();
        let named = |number: u8| protocol_name(number).map_or_else(|| number.to_string(), str::to_owned);
        let rows = self.protocols.largest().into_iter();
        let rows = rows.map(|(number, sum)| (named(number), sum)).collect();
        self.list("PROTOCOLS", rows, self.protocols.others, all_bytes)?;
        for list in self.layer7.lists() {
            self.list(list.title, list.rows, list.others, all_bytes)?;
        }
        let rows = self.hosts.largest().into_iter();
        let rows = rows.map(|(host, sum)| (host.to_string(), sum)).collect();
        self.list("HOSTS, AS EITHER SIDE", rows, self.hosts.others, all_bytes)?;
        let rows = self.services.largest().into_iter();
        let rows = rows
            .map(|((protocol, host, port), sum)| {
                (format!("{} {}", named(protocol), endpoint(host, port)), sum)
            })
            .collect();
        self.list("SERVERS", rows, self.services.others, all_bytes)?;
        let rows = self.tunnels.largest().into_iter();
        let rows = rows.map(|(kind, sum)| (kind.to_owned(), sum)).collect();
        self.list("INSIDE TUNNELS", rows, self.tunnels.others, all_bytes)
    }

    fn tcp_health(&mut self) -> io::Result<()> {
        if self.tcp.flows == 0 {
            return Ok(());
        }
        self.heading("TCP HEALTH")?;
        let trips = &mut self.tcp.round_trips_us;
        trips.sort_unstable();
        let quantile = |part: usize| trips.get(trips.len().saturating_sub(1) * part / 100);
        let round_trip = match (quantile(50), quantile(95), quantile(100)) {
            (Some(&median), Some(&high), Some(&max)) => {
                let text = |us: u32| duration_ns(u64::from(us) * 1000);
                format!(
                    "{} median, {} at 95 %, {} longest, of {} handshakes",
                    text(median),
                    text(high),
                    text(max),
                    grouped(trips.len() as u64)
                )
            }
            _ => "not measured".to_owned(),
        };
        let tcp = &self.tcp;
        let count = |name: &'static str, number: u64, tone: Tone| {
            let tone = if number == 0 { Tone::Plain } else { tone };
            (name, grouped(number), tone)
        };
        let share = |name: &'static str, number: u64| {
            let tone = if number == 0 { Tone::Plain } else { Tone::Warning };
            let share = percent(number, tcp.packets);
            (name, format!("{}, {share} of packets", grouped(number)), tone)
        };
        let facts = [
            count("connections", tcp.flows, Tone::Plain),
            count("handshakes completed", tcp.completed, Tone::Plain),
            count("unanswered", tcp.unanswered, Tone::Bad),
            count("refused", tcp.refused, Tone::Bad),
            count("joined late", tcp.joined_late, Tone::Plain),
            ("round trip", round_trip, Tone::Plain),
            share("retransmits", tcp.retransmits),
            share("out of order", tcp.out_of_order),
            count("zero windows", tcp.zero_windows, Tone::Warning),
            count("resets", tcp.resets, Tone::Plain),
        ];
        self.facts(&facts)
    }

    fn findings(&mut self) -> io::Result<()> {
        let found = self.layer7.findings();
        if found.is_empty() {
            return Ok(());
        }
        self.heading("WORTH A LOOK")?;
        let facts: Vec<(&str, String, Tone)> = found
            .iter()
            .map(|(name, text, tone)| (name.as_str(), text.clone(), *tone))
            .collect();
        self.facts(&facts)
    }

    fn oddities(&mut self, outcome: &Outcome) -> io::Result<()> {
        let mut facts = in_no_flow(&outcome.totals);
        facts.extend(faults(outcome));
        facts.retain(|(_, number, _)| *number > 0);
        if facts.is_empty() {
            return Ok(());
        }
        self.heading("ODDITIES")?;
        let facts: Vec<_> = facts
            .into_iter()
            .map(|(name, number, tone)| (name, grouped(number), tone))
            .collect();
        self.facts(&facts)
    }
}

fn inputs(outcome: &Outcome) -> String {
    match outcome.inputs.as_slice() {
        [one] => one.name.clone(),
        inputs => grouped(inputs.len() as u64),
    }
}

/// Frames that belong to no flow, by reason.
fn in_no_flow(totals: &Totals) -> Vec<(&'static str, u64, Tone)> {
    let describe = |reject: Reject| match reject {
        Reject::Arp => "ARP",
        Reject::NotIp => "neither IP nor ARP",
        Reject::Encrypted => "encrypted 802.11",
        Reject::LinkShort => "cut in the link header",
        Reject::LinkUnknown => "unknown link type",
        Reject::TagsTooMany => "too many tags or labels",
        Reject::Ip4Short => "cut in the IPv4 header",
        Reject::Ip4Version => "IPv4 with another version",
        Reject::Ip4HeaderLength => "IPv4 header length wrong",
        Reject::Ip4TotalLength => "IPv4 total length wrong",
        Reject::Ip6Short => "cut in the IPv6 header",
        Reject::Ip6Version => "IPv6 with another version",
    };
    Reject::ALL
        .into_iter()
        .map(|reject| {
            let tone = if reject.is_fault() {
                Tone::Warning
            } else {
                Tone::Plain
            };
            (describe(reject), totals.rejects[reject as usize], tone)
        })
        .collect()
}

fn faults(outcome: &Outcome) -> Vec<(&'static str, u64, Tone)> {
    let totals = &outcome.totals;
    let from_inputs = |count: fn(&inspect::capfile::ReaderStats) -> u64| -> u64 {
        outcome.inputs.iter().map(|input| count(&input.stats)).sum()
    };
    vec![
        ("transport header short or wrong", totals.l4_faults, Tone::Warning),
        (
            "IPv6 extensions cut or too many",
            totals.extension_faults,
            Tone::Warning,
        ),
        ("TCP options wrong", totals.tcp_option_faults, Tone::Warning),
        (
            "inner packets unreadable",
            totals.inner_rejects.iter().sum(),
            Tone::Warning,
        ),
        (
            "inner packets nested too deep",
            totals.inner_too_deep,
            Tone::Warning,
        ),
        ("IP fragments", totals.fragments, Tone::Plain),
        (
            "datagrams put together of them",
            outcome.defrag.datagrams,
            Tone::Plain,
        ),
        (
            "datagrams whose fragments overlap",
            outcome.defrag.overlaps,
            Tone::Bad,
        ),
        (
            "datagrams of which fragments are missing",
            outcome.defrag.timeouts + outcome.defrag.evicted,
            Tone::Warning,
        ),
        (
            "holes in streams that were followed",
            outcome.layer7.gaps,
            Tone::Warning,
        ),
        (
            "flows not followed on for want of memory",
            outcome.layer7.over_bytes_max + outcome.layer7.over_kept_max,
            Tone::Bad,
        ),
        ("frames captured in part", totals.cut_frames, Tone::Plain),
        (
            "stamped before the packet before",
            totals.backward_stamps,
            Tone::Plain,
        ),
        (
            "packets without a time stamp",
            from_inputs(|stats| stats.packets_without_time),
            Tone::Warning,
        ),
        (
            "blocks with broken options",
            from_inputs(|stats| stats.bad_options),
            Tone::Warning,
        ),
        ("flows ended early, table full", totals.evicted_flows, Tone::Bad),
    ]
}

impl<W: Write> Sink for Summary<W> {
    fn flow(&mut self, flow: Ended) -> io::Result<()> {
        let record = flow.record;
        for event in &flow.events {
            self.layer7.event(event);
        }
        self.tcp.add(&record);
        if let Some(tunnel) = record.tunnel {
            // Its bytes are counted in the flow that carries it already.
            self.tunnels.add(tunnel.kind, &record);
            self.layer7.inner(&record);
            return Ok(());
        }
        self.protocols.add(record.protocol, &record);
        self.layer7.flow(&record);
        self.hosts.add(record.src, &record);
        if record.dst != record.src {
            self.hosts.add(record.dst, &record);
        }
        let port = record.has_ports().then_some(record.dst_port);
        self.services.add((record.protocol, record.dst, port), &record);
        Ok(())
    }

    fn event(&mut self, event: &Event, _: Option<&str>) -> io::Result<()> {
        self.layer7.event(event);
        Ok(())
    }

    fn finish(&mut self, outcome: &Outcome) -> io::Result<()> {
        let title = self.painter.paint(Tone::Heading, "CAPTURE");
        writeln!(self.out, "{title}")?;
        self.totals(outcome)?;
        self.findings()?;
        self.lists()?;
        self.tcp_health()?;
        self.oddities(outcome)?;
        self.out.flush()
    }
}
