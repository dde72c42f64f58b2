//! The flow table of captures: frames in, ended flows out.
//!
//! A flow's counters are the kernel's own [`FlowRow`], changed by the same
//! [`FlowRow::account`], so a capture and the live traffic it was taken from give the same numbers.
//!
//! Keys are hashed as the kernel hashes them, by [`FlowKey::hash`]: its bound on collisions is
//! proven, and foldhash would save 2 of the 140 ns a packet takes (measured on an EPYC core).
//!
//! Time is the packets' own, and nothing is assumed of it: captures are merged, clocks step, stamps
//! are made up. Whether a packet continues a flow is decided when it comes, by its distance from
//! the flow's own time span. The sweep that hands out idle flows early only saves memory; it goes
//! by the earliest stamp among the last few thousand packets, so that no single absurd stamp ends
//! every flow.
//!
//! Invariants: `packets` = `in_flows` + the sum of `rejects`; the packets of all ended and open
//! flows together = `in_flows` + `inner_in_flows`.

pub mod timeout;

#[cfg(test)]
mod tests;

use crate::defrag::{self, Defrag, Outcome, is_fragment};
use crate::layer7::record::Arp;
use crate::layer7::{self, Conn, Engine, Insight, Segment};
use crate::record::FlowRecord;
use crate::syn_fingerprint::SynFingerprint;
use hashbrown::HashTable;
use wire::flow::{HashKeys, StampedAt, row_flag};
use wire::parse::{note, parse_inner};
use wire::tcp::flag;
use wire::{Direction, FlowKey, FlowRow, Link, Packet, Reject, Size, Start, ip_proto};

/// Packets inside packets that get a flow of their own, per frame. Deeper ones are counted in
/// [`Totals::inner_too_deep`].
pub const INNER_LEVELS_MAX: usize = 3;

/// Packets between two sweeps, at least. There are also at least as many as there are flows, so
/// that a packet pays for looking at one flow.
const SWEEP_PACKETS_MIN: u64 = 4096;

/// Part of a full table that makes room at once: the flows silent for longest.
const EVICTED_PART: usize = 16;

/// One captured frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Nanoseconds since 1970.
    pub ts_ns: u64,
    /// LINKTYPE_ number of the capture file.
    pub linktype: u32,
    /// Number that tells interfaces apart; becomes the flow key's `ifindex`.
    pub interface: u32,
    /// Length on the wire in bytes; this is what is counted.
    pub wire_len: u32,
    /// What was captured of it.
    pub data: &'a [u8],
}

/// Bounds and secrets of a table.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Most flows held at once, each about 400 bytes. At least 1.
    pub flows_max: usize,
    /// Random words, so that nobody can aim for collisions.
    pub hash_keys: HashKeys,
    /// Whether payloads are looked at, and within which bounds.
    pub layer7: Option<layer7::Config>,
}

impl Config {
    /// A million flows.
    pub const FLOWS_MAX: usize = 1_000_000;

    /// The default bounds with the caller's random words.
    #[must_use]
    pub const fn new(hash_keys: HashKeys) -> Self {
        Self {
            flows_max: Self::FLOWS_MAX,
            hash_keys,
            layer7: None,
        }
    }
}

/// Why a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// Silent for longer than [`timeout::idle_ns`].
    Timeout,
    /// The table was full and this flow was silent for longest.
    Forced,
    /// The input ended.
    Shutdown,
    /// A new connection began on the ports of an earlier one.
    TcpReuse,
}

impl EndReason {
    /// Suricata's word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Forced => "forced",
            Self::Shutdown => "shutdown",
            Self::TcpReuse => "tcp_reuse",
        }
    }
}

/// A flow that is over.
#[derive(Clone, Debug)]
pub struct EndedFlow {
    pub key: FlowKey,
    pub row: FlowRow,
    pub reason: EndReason,
    /// What its payloads said, if they were looked at and there were any.
    pub insight: Option<Box<Insight>>,
    /// The opener's SYN, if it was seen and payloads were looked at.
    pub syn: Option<Box<SynFingerprint>>,
}

/// What a table has seen. Every frame is in `in_flows` or in one of `rejects`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Frames, and their lengths on the wire.
    pub packets: u64,
    pub bytes: u64,
    /// Frames counted in a flow.
    pub in_flows: u64,
    /// Frames that belong to no flow, by [`Reject`].
    pub rejects: [u64; Reject::COUNT],
    /// Packets inside tunnels that were counted in flows of their own.
    pub inner_in_flows: u64,
    /// What was announced as an inner packet but is none, by [`Reject`].
    pub inner_rejects: [u64; Reject::COUNT],
    /// Inner packets nested deeper than [`INNER_LEVELS_MAX`].
    pub inner_too_deep: u64,
    /// Packets with a transport header that is short or contradicts itself.
    pub l4_faults: u64,
    /// Packets whose IPv6 extension headers are cut or too many.
    pub extension_faults: u64,
    /// SYN segments whose options contradict themselves.
    pub tcp_option_faults: u64,
    /// IP fragments, first and later.
    pub fragments: u64,
    /// Frames that were captured only in part.
    pub cut_frames: u64,
    /// Frames stamped earlier than the one before.
    pub backward_stamps: u64,
    /// Earliest and latest stamp, in nanoseconds since 1970; valid if `packets` is not 0.
    pub first_ns: u64,
    pub last_ns: u64,
    /// Flows begun.
    pub flows: u64,
    /// Flows ended because the table was full.
    pub evicted_flows: u64,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    key: FlowKey,
    row: FlowRow,
    conn: Option<Box<Conn>>,
    syn: Option<Box<SynFingerprint>>,
}

/// The flows of a capture.
#[derive(Debug)]
pub struct FlowTable {
    config: Config,
    /// Positions in `entries`, by hash. Apart from them, so that growing moves four bytes a flow.
    index: HashTable<u32>,
    /// Dense: the last one moves into a gap, so that a sweep reads memory in order.
    entries: Vec<Entry>,
    ended: Vec<EndedFlow>,
    totals: Totals,
    engine: Option<Box<Engine>>,
    defrag: Defrag,
    last_stamp_ns: u64,
    packets_since_sweep: u64,
    earliest_since_sweep_ns: u64,
    /// `earliest_since_sweep_ns` of the last sweep.
    swept_at_ns: u64,
}

impl FlowTable {
    /// An empty table.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            index: HashTable::new(),
            entries: Vec::new(),
            ended: Vec::new(),
            totals: Totals::default(),
            engine: config.layer7.map(|config| Box::new(Engine::new(config))),
            defrag: Defrag::default(),
            last_stamp_ns: 0,
            packets_since_sweep: 0,
            earliest_since_sweep_ns: u64::MAX,
            swept_at_ns: 0,
        }
    }

    /// Counts one frame. Flows that end by it wait in [`FlowTable::take_ended`].
    pub fn add(&mut self, frame: &Frame<'_>) {
        self.note_frame(frame);
        let parsed = match Link::from_linktype(frame.linktype) {
            Some(link) => wire::parse(frame.data, Start::of(link, frame.wire_len)),
            None => Err(Reject::LinkUnknown),
        };
        match parsed {
            Ok(packet) => {
                self.totals.in_flows += 1;
                self.account(frame, &packet, frame.wire_len);
                self.add_inner(frame, packet);
            }
            Err(reject) => {
                self.totals.rejects[reject as usize] += 1;
                self.tell_arp(frame, reject);
            }
        }
        self.packets_since_sweep += 1;
        if self.packets_since_sweep >= SWEEP_PACKETS_MIN
            && self.packets_since_sweep >= self.entries.len() as u64
        {
            self.sweep();
        }
    }

    /// Whether [`FlowTable::take_ended`] has something to give.
    #[inline]
    #[must_use]
    pub fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Flows that ended since the last call, a sweep's in the order of their last packets.
    pub fn take_ended(&mut self) -> std::vec::Drain<'_, EndedFlow> {
        self.ended.drain(..)
    }

    /// Ends every flow, in the order of their last packets, then of their first.
    pub fn finish(&mut self) {
        self.defrag.finish();
        self.read_given_up();
        let now_ns = self.earliest_since_sweep_ns;
        let begin = self.ended.len();
        self.index.clear();
        let mut entries = std::mem::take(&mut self.entries);
        if self.engine.is_some() {
            // Sessions tell what they held back in the order their flows ended.
            entries.sort_by_key(|entry| (entry.row.last_ns, entry.row.first_ns));
        }
        let engine = &mut self.engine;
        self.ended.extend(entries.into_iter().map(|mut entry| EndedFlow {
            reason: if now_ns != u64::MAX && is_idle(&entry, now_ns) {
                EndReason::Timeout
            } else {
                EndReason::Shutdown
            },
            key: entry.key,
            row: entry.row,
            insight: end_conn(engine.as_deref_mut(), entry.conn.take(), &entry.row),
            syn: entry.syn.take(),
        }));
        sort_by_end(&mut self.ended[begin..]);
    }

    /// What was seen so far.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Layer 7, if payloads are looked at: records, names, counters.
    #[must_use]
    pub fn layer7(&mut self) -> Option<&mut Engine> {
        self.engine.as_deref_mut()
    }

    /// Flows held now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no flow is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn note_frame(&mut self, frame: &Frame<'_>) {
        let totals = &mut self.totals;
        if totals.packets == 0 {
            totals.first_ns = frame.ts_ns;
            totals.last_ns = frame.ts_ns;
        }
        totals.packets += 1;
        totals.bytes += u64::from(frame.wire_len);
        totals.first_ns = totals.first_ns.min(frame.ts_ns);
        totals.last_ns = totals.last_ns.max(frame.ts_ns);
        totals.cut_frames += u64::from(frame.data.len() < frame.wire_len as usize);
        totals.backward_stamps += u64::from(frame.ts_ns < self.last_stamp_ns);
        self.last_stamp_ns = frame.ts_ns;
        self.earliest_since_sweep_ns = self.earliest_since_sweep_ns.min(frame.ts_ns);
    }

    /// Counts what travels inside a packet, level by level. An inner packet weighs what is left of
    /// the frame from its own link or network header on.
    fn add_inner(&mut self, frame: &Frame<'_>, outer: Packet) {
        let mut outer = outer;
        for level in 0..=INNER_LEVELS_MAX {
            match parse_inner(frame.data, &outer) {
                None => return,
                Some(Err(reject)) => {
                    self.totals.inner_rejects[reject as usize] += 1;
                    self.tell_arp(frame, reject);
                    return;
                }
                Some(Ok(_)) if level == INNER_LEVELS_MAX => {
                    self.totals.inner_too_deep += 1;
                    return;
                }
                Some(Ok((inner, at))) => {
                    self.totals.inner_in_flows += 1;
                    self.account(frame, &inner, frame.wire_len.saturating_sub(at as u32));
                    outer = inner;
                }
            }
        }
    }

    fn tell_arp(&mut self, frame: &Frame<'_>, reject: Reject) {
        if reject == Reject::Arp
            && let Some(engine) = self.engine.as_deref_mut()
        {
            engine.record(|| Some(Arp::find(frame.data)?.event(frame.ts_ns, frame.interface)));
        }
    }

    fn note_faults(&mut self, notes: u16) {
        let totals = &mut self.totals;
        totals.l4_faults += u64::from(notes & (note::L4_SHORT | note::L4_BAD) != 0);
        totals.extension_faults += u64::from(notes & note::EXTENSIONS_BAD != 0);
        totals.tcp_option_faults += u64::from(notes & note::TCP_OPTIONS_BAD != 0);
        totals.fragments += u64::from(notes & (note::FRAGMENT_FIRST | note::FRAGMENT_LATER) != 0);
    }

    /// Counts a packet of `len` bytes in its flow, which it may begin or begin anew.
    fn account(&mut self, frame: &Frame<'_>, packet: &Packet, len: u32) {
        if packet.notes != 0 {
            self.note_faults(packet.notes);
        }
        let (key, direction) = FlowKey::of(packet, frame.interface);
        let hash = key.hash(&self.config.hash_keys);
        let entries = &self.entries;
        let found = self
            .index
            .find(hash, |&at| entries[at as usize].key == key)
            .copied();
        let at = match found {
            Some(at) => {
                let entry = &mut self.entries[at as usize];
                if let Some(reason) = ends_before(entry, direction, packet, frame.ts_ns) {
                    self.ended.push(EndedFlow {
                        key: entry.key,
                        row: entry.row,
                        reason,
                        insight: end_conn(self.engine.as_deref_mut(), entry.conn.take(), &entry.row),
                        syn: entry.syn.take(),
                    });
                    self.totals.flows += 1;
                    entry.row = begin(packet, direction, frame.ts_ns);
                }
                at as usize
            }
            None => {
                let row = begin(packet, direction, frame.ts_ns);
                self.insert(Entry {
                    hash,
                    key,
                    row,
                    conn: None,
                    syn: None,
                })
            }
        };
        let entry = &mut self.entries[at];
        entry.row.first_ns = entry.row.first_ns.min(frame.ts_ns);
        entry
            .row
            .account(direction, packet, Size::one(len), &StampedAt(frame.ts_ns));
        if let Some(engine) = self.engine.as_deref_mut() {
            if is_fragment(packet) {
                self.add_fragment(at, direction, packet, frame);
            } else {
                look(engine, entry, direction, packet, frame);
            }
        }
    }

    /// Reads what a fragment completes, and first fragments of what will not be whole.
    fn add_fragment(&mut self, at: usize, direction: Direction, packet: &Packet, frame: &Frame<'_>) {
        let outcome = self.defrag.add(packet, frame.data, frame.interface, frame.ts_ns);
        match outcome {
            Outcome::Whole(whole) => self.read_whole(&whole, frame.interface, frame.ts_ns),
            Outcome::Unusable => {
                if let Some(engine) = self.engine.as_deref_mut() {
                    look(engine, &mut self.entries[at], direction, packet, frame);
                }
            }
            Outcome::Held => {}
        }
        self.read_given_up();
    }

    fn read_given_up(&mut self) {
        let parts: Vec<_> = self.defrag.given_up().collect();
        for part in parts {
            self.read_whole(&part.whole, part.interface, part.ts_ns);
        }
    }

    /// Reads a datagram that was put together, in the flow of its first fragment.
    fn read_whole(&mut self, whole: &defrag::Whole, interface: u32, ts_ns: u64) {
        let (key, direction) = FlowKey::of(&whole.packet, interface);
        let entries = &self.entries;
        let hash = key.hash(&self.config.hash_keys);
        let found = self.index.find(hash, |&at| entries[at as usize].key == key);
        if let (Some(&at), Some(engine)) = (found, self.engine.as_deref_mut()) {
            let frame = Frame {
                ts_ns,
                linktype: 0,
                interface,
                wire_len: whole.frame.len() as u32,
                data: &whole.frame,
            };
            look(
                engine,
                &mut self.entries[at as usize],
                direction,
                &whole.packet,
                &frame,
            );
        }
    }

    /// What was made of IP fragments.
    #[must_use]
    pub fn defrag(&self) -> &defrag::Counters {
        self.defrag.counters()
    }

    /// Position of the new entry.
    fn insert(&mut self, entry: Entry) -> usize {
        if self.entries.len() >= self.config.flows_max.max(1) {
            self.evict();
        }
        self.totals.flows += 1;
        let (at, hash) = (self.entries.len(), entry.hash);
        self.entries.push(entry);
        let entries = &self.entries;
        self.index
            .insert_unique(hash, at as u32, |&at| entries[at as usize].hash);
        at
    }

    /// Hands out the flows that have been silent too long.
    fn sweep(&mut self) {
        let now_ns = self.earliest_since_sweep_ns;
        self.packets_since_sweep = 0;
        self.earliest_since_sweep_ns = u64::MAX;
        if now_ns.abs_diff(self.swept_at_ns) < SWEEP_NS_MIN {
            return;
        }
        self.swept_at_ns = now_ns;
        let first_ended = self.ended.len();
        let mut at = 0;
        while at < self.entries.len() {
            if is_idle(&self.entries[at], now_ns) {
                self.remove(at, EndReason::Timeout);
            } else {
                at += 1;
            }
        }
        sort_by_end(&mut self.ended[first_ended..]);
    }

    /// Makes room: ends the part of the flows whose last packet is the longest ago.
    fn evict(&mut self) {
        let n_evicted = (self.entries.len() / EVICTED_PART).max(1);
        let mut last_stamps: Vec<u64> = self.entries.iter().map(|entry| entry.row.last_ns).collect();
        let (_, &mut newest_evicted_ns, _) = last_stamps.select_nth_unstable(n_evicted - 1);
        let first_ended = self.ended.len();
        let mut at = 0;
        while at < self.entries.len() && self.ended.len() - first_ended < n_evicted {
            if self.entries[at].row.last_ns <= newest_evicted_ns {
                self.remove(at, EndReason::Forced);
                self.totals.evicted_flows += 1;
            } else {
                at += 1;
            }
        }
        sort_by_end(&mut self.ended[first_ended..]);
    }

    fn remove(&mut self, at: usize, reason: EndReason) {
        let removed = self.entries.swap_remove(at);
        let is_removed = |&position: &u32| position == at as u32;
        if let Ok(slot) = self.index.find_entry(removed.hash, is_removed) {
            slot.remove();
        }
        if let Some(moved) = self.entries.get(at) {
            let moved_from = self.entries.len() as u32;
            let hash = moved.hash;
            if let Some(position) = self.index.find_mut(hash, |&position| position == moved_from) {
                *position = at as u32;
            }
        }
        self.ended.push(EndedFlow {
            key: removed.key,
            row: removed.row,
            reason,
            insight: end_conn(self.engine.as_deref_mut(), removed.conn, &removed.row),
            syn: removed.syn,
        });
    }
}

/// Looks at a packet's payload. A flow gets a [`Conn`] with its first payload; of TCP with its SYN, which
/// says where the bytes begin.
#[inline(always)]
fn look(engine: &mut Engine, entry: &mut Entry, direction: Direction, packet: &Packet, frame: &Frame<'_>) {
    match &mut entry.conn {
        Some(conn) if conn.is_done() => {}
        Some(conn) => {
            if is_readable(packet) {
                conn.packet(engine, &Segment::of(packet, direction, frame.data, frame.ts_ns));
            }
        }
        None => {
            if matches!(packet.protocol, ip_proto::ICMP | ip_proto::ICMPV6) {
                return;
            }
            let is_syn = packet.protocol == ip_proto::TCP && packet.tcp_flags & flag::SYN != 0;
            if is_syn && packet.tcp_flags & flag::ACK == 0 {
                let from_ip = frame.data.get(usize::from(packet.l3_at)..).unwrap_or_default();
                entry.syn = SynFingerprint::of(from_ip).map(Box::new);
            }
            if (packet.payload_len > 0 || is_syn) && is_readable(packet) {
                let client = FlowRecord::client_of(&entry.key, &entry.row);
                let flow_id = FlowRecord::id_of(&entry.key, entry.row.first_ns);
                let mut conn = Conn::new(engine, entry.key, client, flow_id, frame.ts_ns);
                conn.packet(engine, &Segment::of(packet, direction, frame.data, frame.ts_ns));
                entry.conn = Some(Box::new(conn));
            }
        }
    }
}

/// Packets whose payload cannot be told from a header.
const UNREADABLE: u16 = note::FRAGMENT_FIRST | note::FRAGMENT_LATER | note::L4_SHORT | note::L4_BAD;

/// Whether layer 7 can use the payload. A datagram's first fragment says what most of its messages are of; a
/// stream's would leave a hole that is none.
fn is_readable(packet: &Packet) -> bool {
    let unreadable = packet.notes & UNREADABLE;
    unreadable == 0 || unreadable == note::FRAGMENT_FIRST && packet.protocol == ip_proto::UDP
}

fn end_conn(engine: Option<&mut Engine>, conn: Option<Box<Conn>>, row: &FlowRow) -> Option<Box<Insight>> {
    let (engine, mut conn) = (engine?, conn?);
    if !conn.is_over() {
        conn.finish(engine, row.last_ns);
    }
    conn.label_by_address(engine);
    Some(Box::new(std::mem::take(&mut conn.insight)))
}

/// Packet time between two sweeps, at least.
const SWEEP_NS_MIN: u64 = 1_000_000_000;

fn begin(packet: &Packet, direction: Direction, ts_ns: u64) -> FlowRow {
    let mut row = FlowRow::begin(direction, ts_ns, 0);
    let is_segment = packet.protocol == ip_proto::TCP && packet.notes & note::FRAGMENT_LATER == 0;
    if is_segment && packet.tcp_flags & flag::SYN == 0 {
        row.flags |= row_flag::PARTIAL;
    }
    row
}

/// Whether the flow is over before this packet of the same key, and why.
#[inline(always)]
fn ends_before(entry: &Entry, direction: Direction, packet: &Packet, ts_ns: u64) -> Option<EndReason> {
    let row = &entry.row;
    let gap_ns = gap_ns(row, ts_ns);
    if gap_ns > timeout::SHORTEST_NS && gap_ns > timeout::idle_ns(&entry.key, row) {
        return Some(EndReason::Timeout);
    }
    let opens = packet.tcp_flags & (flag::SYN | flag::ACK) == flag::SYN;
    if opens && row.is_other_connection(direction, packet.tcp_seq) {
        return Some(EndReason::TcpReuse);
    }
    None
}

/// Time between a stamp and the span of a flow, before or after; 0 inside.
#[inline(always)]
fn gap_ns(row: &FlowRow, ts_ns: u64) -> u64 {
    if ts_ns > row.last_ns {
        ts_ns - row.last_ns
    } else {
        row.first_ns.saturating_sub(ts_ns)
    }
}

fn is_idle(entry: &Entry, now_ns: u64) -> bool {
    now_ns.saturating_sub(entry.row.last_ns) > timeout::idle_ns(&entry.key, &entry.row)
}

fn sort_by_end(flows: &mut [EndedFlow]) {
    flows.sort_by_key(|flow| (flow.row.last_ns, flow.row.first_ns));
}
