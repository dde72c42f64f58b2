//! One flow in words, step by step.

use std::path::PathBuf;

use inspect::layer7::record::{Dns, Http, Tls};
use inspect::layer7::{Event, Record, Segment};
use inspect::record::TcpState;
use wire::tcp::flag;
use wire::{Packet, ip_proto};

use super::one_flow::Found;
use super::table;
use crate::cli::text::{Align, Cell, Painter, Tone, bytes, columns, duration_ns, grouped, shortened};

/// Steps told; the rest is counted.
const STEPS_MAX: usize = 500;
/// Longest text of one step, in characters.
const TEXT_MAX: usize = 120;

struct Step {
    ts_ns: u64,
    /// Packets before records of the same time, which they complete.
    order: u8,
    /// `>` of the client, `<` of the server.
    way: &'static str,
    text: String,
    tone: Tone,
}

/// The story as it is printed.
pub(super) fn of(files: &[PathBuf], flow: &Found) -> String {
    let painter = Painter::for_stdout();
    let mut text = table::render(painter, std::iter::once(flow.record.clone()));
    let mut steps = Packets::default();
    flow.each_packet(files, |packet, segment| {
        steps.add(packet, segment, flow.is_client(segment.direction));
    });
    let mut steps = steps.steps;
    steps.extend(flow.events.iter().map(|event| told(event, flow)));
    steps.sort_by_key(|step| (step.ts_ns, step.order));
    let n_left_out = steps.len().saturating_sub(STEPS_MAX);
    steps.truncate(STEPS_MAX);
    let start_ns = flow.record.start_ns;
    let rows: Vec<Vec<Cell>> = steps
        .into_iter()
        .map(|step| {
            vec![
                Cell(
                    format!("+{}", duration_ns(step.ts_ns.saturating_sub(start_ns))),
                    Tone::Quiet,
                ),
                Cell::plain(step.way),
                Cell(shortened(&step.text, TEXT_MAX), step.tone),
            ]
        })
        .collect();
    text.push('\n');
    text += &columns(painter, &[Align::Right, Align::Left, Align::Left], &rows);
    if n_left_out > 0 {
        text += &format!("… and {} more\n", grouped(n_left_out as u64));
    }
    text += &end(flow);
    text
}

fn end(flow: &Found) -> String {
    let record = &flow.record;
    let (sent, got) = (&record.to_server, &record.to_client);
    let how = match record.tcp.map(|tcp| tcp.state) {
        Some(TcpState::Closed) => "closed",
        Some(TcpState::SynSent) => "never answered",
        Some(TcpState::FinWait1 | TcpState::CloseWait) => "closed by one side",
        Some(_) => "still open when the capture ended",
        None => "over",
    };
    format!(
        "{how} after {}: {} packets, {} sent, {} packets, {} received; flow {}\n",
        duration_ns(record.duration_ns()),
        grouped(sent.packets),
        bytes(sent.bytes),
        grouped(got.packets),
        bytes(got.bytes),
        record.id
    )
}

/// What the packets themselves say: how a connection was opened and closed, and when either side first spoke.
#[derive(Default)]
struct Packets {
    steps: Vec<Step>,
    has_spoken: [bool; 2],
    has_finished: [bool; 2],
    is_open: bool,
    syn_ack_ns: Option<u64>,
    syn_ns: Option<u64>,
}

impl Packets {
    fn add(&mut self, packet: &Packet, segment: &Segment<'_>, is_client: bool) {
        let side = usize::from(!is_client);
        if packet.protocol == ip_proto::TCP {
            self.tcp(packet, segment, is_client);
        }
        if !segment.payload.is_empty() && !self.has_spoken[side] {
            self.has_spoken[side] = true;
            let text = format!("first payload, {} bytes", segment.wire_len);
            self.step(segment, is_client, text, Tone::Plain);
        }
    }

    fn tcp(&mut self, packet: &Packet, segment: &Segment<'_>, is_client: bool) {
        let has = |bit: u8| segment.flags & bit != 0;
        let since = |from: Option<u64>| {
            let from = from?;
            Some(duration_ns(segment.ts_ns.saturating_sub(from)))
        };
        if has(flag::RST) {
            self.step(segment, is_client, "RST: torn down".to_owned(), Tone::Bad);
        } else if has(flag::SYN) && has(flag::ACK) {
            let after = since(self.syn_ns).map_or_else(String::new, |time| format!(", {time} after the SYN"));
            self.syn_ack_ns = Some(segment.ts_ns);
            self.step(segment, is_client, format!("SYN-ACK{after}"), Tone::Good);
        } else if has(flag::SYN) {
            let again = if self.syn_ns.is_some() { " again" } else { "" };
            self.syn_ns = self.syn_ns.or(Some(segment.ts_ns));
            let text = format!(
                "SYN{again}, ttl {}, window {}, mss {}",
                packet.ttl, packet.tcp_window, packet.tcp_mss
            );
            self.step(segment, is_client, text, Tone::Plain);
        } else if has(flag::ACK) && is_client && !self.is_open && self.syn_ack_ns.is_some() {
            self.is_open = true;
            let after = since(self.syn_ack_ns).unwrap_or_default();
            self.step(
                segment,
                is_client,
                format!("ACK: open, {after} after the SYN-ACK"),
                Tone::Good,
            );
        }
        let side = usize::from(!is_client);
        if has(flag::FIN) && !self.has_finished[side] {
            self.has_finished[side] = true;
            self.step(
                segment,
                is_client,
                "FIN: has sent its last byte".to_owned(),
                Tone::Plain,
            );
        }
    }

    fn step(&mut self, segment: &Segment<'_>, is_client: bool, text: String, tone: Tone) {
        if self.steps.len() < 10 * STEPS_MAX {
            self.steps.push(Step {
                ts_ns: segment.ts_ns,
                order: 0,
                way: if is_client { ">" } else { "<" },
                text,
                tone,
            });
        }
    }
}

/// A record in words.
fn told(event: &Event, flow: &Found) -> Step {
    let sender = match event.side {
        inspect::layer7::Side::Client => event.client,
        inspect::layer7::Side::Server => event.client.opposite(),
    };
    let (text, tone) = match &event.record {
        Record::Http(http) => (of_http(http), Tone::Plain),
        Record::Tls(tls) => (of_tls(tls), Tone::Plain),
        Record::Dns(dns) => (of_dns(dns), Tone::Plain),
        Record::Anomaly(anomaly) => (
            format!("anomaly: {}", anomaly.event.replace('_', " ")),
            Tone::Warning,
        ),
        record => {
            let body = record.body().unwrap_or_default();
            (format!("{}: {body}", record.event_type()), Tone::Plain)
        }
    };
    Step {
        ts_ns: event.ts_ns,
        order: 1,
        way: if flow.is_client(sender) { ">" } else { "<" },
        text,
        tone,
    }
}

fn of_http(http: &Http) -> String {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let mut words = format!(
        "http: {} {}{}",
        text(&http.http_method),
        text(&http.hostname),
        text(&http.url)
    );
    if let Some(status) = http.status {
        words += &format!(" → {status}");
    }
    if let Some(kind) = &http.http_content_type {
        words += &format!(" {kind}");
    }
    if http.status.is_some() {
        words += &format!(", {}", bytes(http.length));
    }
    words
}

fn of_tls(tls: &Tls) -> String {
    let mut words = format!("tls: {}", tls.version.unwrap_or("hello"));
    if let Some(sni) = &tls.sni {
        words += &format!(" for {sni}");
    }
    if let Some(alpn) = tls.server_alpns.first() {
        words += &format!(", {alpn}");
    }
    if let Some(certificate) = &tls.certificate {
        words += &format!(
            ", certificate of {} until {}",
            certificate.subject, certificate.notafter
        );
    }
    if tls.session_resumed == Some(true) {
        words += ", resumed";
    }
    words
}

fn of_dns(dns: &Dns) -> String {
    let asked = dns
        .queries
        .iter()
        .map(|query| format!("{} {}", query.rrtype, query.rrname));
    let asked = asked.collect::<Vec<_>>().join(", ");
    if dns.r#type == "request" {
        return format!("{}: asks {asked}", dns.protocol);
    }
    let answers = dns.answers.len();
    let rcode = dns.rcode.clone().unwrap_or_default();
    format!("{}: {rcode}, {answers} answers to {asked}", dns.protocol)
}
