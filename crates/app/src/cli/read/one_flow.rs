//! One flow of a capture: its story in order, or its payload.
//!
//! The inputs are read twice: once to know the flow, once for its packets.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use inspect::geo::Geo;
use inspect::layer7::stream::{Ready, Stream};
use inspect::layer7::{Event, Segment};
use inspect::record::FlowRecord;
use inspect::table::{EndedFlow, FlowTable, Frame, INNER_LEVELS_MAX};
use wire::parse::{note, parse_inner};
use wire::tcp::flag;
use wire::{Direction, FlowKey, Link, Packet, Start, ip_proto};

use super::interfaces::Interfaces;
use super::story;
use crate::input::read_inputs;

/// Whose payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Side {
    /// Who opened the flow
    Client,
    Server,
}

/// A flow and its records.
pub(super) struct Found {
    pub(super) record: FlowRecord,
    pub(super) events: Vec<Event>,
    key: FlowKey,
    /// The way the opener's packets go.
    client: Direction,
}

/// Reads the inputs for the flow of this identifier.
pub(super) fn find(
    files: &[PathBuf],
    config: inspect::table::Config,
    geo: &Geo,
    id: u64,
) -> anyhow::Result<Found> {
    if files.iter().any(|file| file.as_os_str() == "-") {
        bail!("one flow is looked for in files alone, which are read twice, not in standard input");
    }
    let mut table = FlowTable::new(config);
    let mut interfaces = Interfaces::default();
    let (mut found, mut events): (Option<EndedFlow>, Vec<Event>) = (None, Vec::new());
    let mut take = |table: &mut FlowTable| {
        if let Some(engine) = table.layer7() {
            events.extend(engine.take_events().filter(|event| event.flow_id == id));
        }
        let is_it = |flow: &EndedFlow| FlowRecord::id_of(&flow.key, flow.row.first_ns) == id;
        found = found.take().or(table.take_ended().find(is_it));
    };
    let reports = read_inputs(files, |input, _| {
        let packet = &input.packet;
        table.add(&Frame {
            ts_ns: packet.ts_ns,
            linktype: packet.linktype.into(),
            interface: interfaces.number(packet.interface_id, input.interface),
            wire_len: packet.orig_len,
            data: packet.data,
        });
        take(&mut table);
        ControlFlow::Continue(())
    });
    table.finish();
    take(&mut table);
    for error in reports.iter().filter_map(|report| report.error.as_ref()) {
        writeln!(io::stderr(), "weir: {error:#}")?;
    }
    let flow = found.with_context(|| {
        format!("no flow has the identifier {id}; `--format json` and `eve` tell those there are")
    })?;
    let mut record = super::record(&flow, &interfaces);
    record.insight = flow.insight;
    record.syn = flow.syn;
    record.locate(geo);
    Ok(Found {
        record,
        events,
        key: flow.key,
        client: FlowRecord::client_of(&flow.key, &flow.row),
    })
}

impl Found {
    /// Whether a packet is the opener's.
    pub(super) fn is_client(&self, direction: Direction) -> bool {
        direction == self.client
    }

    /// Calls `visit` with each packet of the flow, in the order of the inputs.
    pub(super) fn each_packet(&self, files: &[PathBuf], mut visit: impl FnMut(&Packet, &Segment<'_>)) {
        let mut interfaces = Interfaces::default();
        let record = &self.record;
        let _ = read_inputs(files, |input, _| {
            let interface = interfaces.number(input.packet.interface_id, input.interface);
            let captured = &input.packet;
            let Some(link) = Link::from_linktype(captured.linktype.into()) else {
                return ControlFlow::Continue(());
            };
            let mut next = wire::parse(captured.data, Start::of(link, captured.orig_len)).ok();
            for _ in 0..=INNER_LEVELS_MAX {
                let Some(packet) = next else { break };
                let (key, direction) = FlowKey::of(&packet, interface);
                if key == self.key && (record.start_ns..=record.end_ns).contains(&captured.ts_ns) {
                    visit(
                        &packet,
                        &Segment::of(&packet, direction, captured.data, captured.ts_ns),
                    );
                }
                next = match parse_inner(captured.data, &packet) {
                    Some(Ok((inner, _))) => Some(inner),
                    _ => None,
                };
            }
            ControlFlow::Continue(())
        });
    }
}

/// Writes the payload of one side, or of both as they came, in order and without repetitions.
pub(super) fn extract(files: &[PathBuf], flow: &Found, side: Option<Side>, to: &Path) -> anyhow::Result<()> {
    let mut out: Box<dyn Write> = if to.as_os_str() == "-" {
        Box::new(io::stdout().lock())
    } else {
        let file = std::fs::File::create(to).with_context(|| format!("cannot create {}", to.display()))?;
        Box::new(io::BufWriter::new(file))
    };
    let mut payload = Payload {
        streams: Default::default(),
        missing: 0,
        written: 0,
        result: Ok(()),
    };
    flow.each_packet(files, |packet, segment| {
        const UNREADABLE: u16 = note::FRAGMENT_FIRST | note::FRAGMENT_LATER | note::L4_SHORT | note::L4_BAD;
        if packet.notes & UNREADABLE == 0 {
            let sender = if flow.is_client(segment.direction) { 0 } else { 1 };
            payload.add(packet.protocol, segment, sender, side, &mut out);
        }
    });
    payload.finish(side, &mut out);
    payload
        .result
        .and_then(|()| out.flush())
        .with_context(|| format!("cannot write {}", to.display()))?;
    let missing = match payload.missing {
        0 => String::new(),
        missing => format!("; {missing} bytes were never captured"),
    };
    writeln!(
        io::stderr(),
        "weir: {} bytes of payload{missing}",
        payload.written
    )?;
    Ok(())
}

struct Payload {
    streams: [Stream; 2],
    missing: u64,
    written: u64,
    result: io::Result<()>,
}

impl Payload {
    fn is_wanted(sender: usize, side: Option<Side>) -> bool {
        side.is_none_or(|side| side as usize == sender)
    }

    fn add(
        &mut self,
        protocol: u8,
        segment: &Segment<'_>,
        sender: usize,
        side: Option<Side>,
        out: &mut dyn Write,
    ) {
        if protocol != ip_proto::TCP {
            if Self::is_wanted(sender, side) {
                self.write(segment.payload, out);
            }
            return;
        }
        let mut seq = segment.seq;
        if segment.flags & flag::SYN != 0 {
            self.streams[sender].begin(seq);
            seq = seq.wrapping_add(1);
        }
        if segment.flags & flag::ACK != 0 && segment.flags & flag::RST == 0 {
            // What the other side has in hand, but we have not, will not come.
            self.drain(1 - sender, Some(segment.ack), side, out);
        }
        if segment.payload.is_empty() || segment.flags & flag::RST != 0 {
            return;
        }
        match self.streams[sender].in_order(seq, segment.payload) {
            Some(new) if Self::is_wanted(sender, side) => self.write(new, out),
            Some(_) => {}
            None => {
                self.missing += self.streams[sender].insert(seq, segment.payload) as u64;
                self.drain(sender, None, side, out);
            }
        }
        let cut = segment.wire_len.saturating_sub(segment.payload.len() as u32);
        if cut > 0
            && let Ready::Gap(len) = self.streams[sender].lose(cut)
            && Self::is_wanted(sender, side)
        {
            self.missing += len;
        }
    }

    fn drain(&mut self, sender: usize, acked: Option<u32>, side: Option<Side>, out: &mut dyn Write) {
        while self.streams[sender].held() > 0 {
            let ready = self.streams[sender].ready(acked);
            if !self.settle(&ready, sender, side, out) {
                return;
            }
        }
    }

    /// False if nothing was ready.
    fn settle(&mut self, ready: &Ready, sender: usize, side: Option<Side>, out: &mut dyn Write) -> bool {
        match *ready {
            Ready::Nothing => return false,
            Ready::Gap(len) => self.missing += if Self::is_wanted(sender, side) { len } else { 0 },
            Ready::Kept => {
                let bytes = self.streams[sender].kept().to_vec();
                if Self::is_wanted(sender, side) {
                    self.write(&bytes, out);
                }
                self.streams[sender].take(bytes.len() as u64);
            }
        }
        true
    }

    fn finish(&mut self, side: Option<Side>, out: &mut dyn Write) {
        for sender in 0..2 {
            while self.streams[sender].held() > 0 {
                let ready = self.streams[sender].give_up();
                if !self.settle(&ready, sender, side, out) {
                    break;
                }
            }
        }
    }

    fn write(&mut self, bytes: &[u8], out: &mut dyn Write) {
        if self.result.is_ok() {
            self.written += bytes.len() as u64;
            self.result = out.write_all(bytes);
        }
    }
}

/// Tells the flow's story on stdout.
pub(super) fn tell(files: &[PathBuf], flow: &Found) -> anyhow::Result<()> {
    let text = story::of(files, flow);
    io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .context("cannot write to stdout")
}
