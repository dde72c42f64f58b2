//! The way of an observed packet: parse, place, count.

use wire::event::{is_message_start, kind, sampling};
use wire::flow::row_flag;
use wire::parse::{note, parse_any, parse_inner_into, parse_plain};
use wire::rows::{AggregateKey, AggregateRow, INTERFACE_SLOTS, InterfaceCounters, Pending, Step, budget};
use wire::tcp::flag;
use wire::{Clock, Direction, FlowKey, FlowRow, Link, Packet, Reject, Size, Start, ip_proto};

use crate::clock::{KernelClock, admit};
use crate::emit::emit;
use crate::frame::Frame;
use crate::maps::{
    AGGREGATES, FLOWS, INTERFACES, PACKET_SCRATCH, PENDING, PacketScratch, ROW_SCRATCH, SETTINGS,
    load_settings, lost,
};
use crate::sockets;

/// Where a packet was counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Placed {
    InRow,
    Attempt,
    Aggregated,
}

/// A parsed packet and where it was seen. Passed by reference: the target has five argument
/// registers.
struct Seen<'a, F> {
    frame: &'a F,
    packet: &'a Packet,
    key: &'a FlowKey,
    size: Size,
    link: Link,
    direction: Direction,
}

impl<F: Frame> Seen<'_, F> {
    #[inline(always)]
    fn emit(&self, what: u8) -> bool {
        emit(self.frame, what, self.link, self.key, self.direction, self.size)
    }

    /// Index of this packet's direction into pairs.
    #[inline(always)]
    fn side(&self) -> usize {
        self.direction.index()
    }
}

/// Accounts one packet. Never changes it and never stops it.
#[inline(always)]
pub fn observe<F: Frame>(frame: &F, link: Link) {
    let ifindex = frame.ifindex();
    if F::EGRESS && ifindex == load_settings().loopback_ifindex {
        // What leaves on the loopback device comes in on it: counted there.
        return;
    }
    let slot = 2 * (ifindex % INTERFACE_SLOTS) + F::EGRESS as u32;
    let Some(counters) = INTERFACES.get_ptr_mut(slot) else {
        return;
    };
    // SAFETY: a per-CPU row.
    let counters = unsafe { &mut *counters };
    let Some(scratch) = PACKET_SCRATCH.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: a per-CPU row; packet programs do not interrupt one another on a CPU.
    let scratch = unsafe { &mut *scratch };
    let is_plain = F::PLAIN_FIRST && walk_plain(frame, link, ifindex, scratch);
    if !is_plain {
        let mut outcome = walk(frame, link, ifindex, scratch);
        if is_short(outcome, &scratch.packet) && frame.pull() {
            outcome = walk(frame, link, ifindex, scratch);
        }
        if outcome != WALKED {
            count_reject(frame, outcome, counters);
            return;
        }
    }
    observe_packet(frame, link, read_anew(scratch), counters);
}

/// The same row, of whose content the compiler knows nothing: it would keep what it just wrote in
/// registers, and the verifier would follow every way through the parser on through what comes next.
#[inline(always)]
fn read_anew(scratch: &mut PacketScratch) -> &mut PacketScratch {
    let mut pointer = core::ptr::from_mut(scratch);
    // SAFETY: changes nothing; the pointer is to the row that was borrowed.
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) pointer, options(nostack));
        &mut *pointer
    }
}

/// The parser's short way, within the caller; `false` if the frame is not one for it.
#[inline(always)]
pub fn walk_plain<F: Frame>(frame: &F, link: Link, ifindex: u32, scratch: &mut PacketScratch) -> bool {
    let is_plain =
        matches!(link, Link::Ethernet) && parse_plain(frame, frame.stripped_vlan(), &mut scratch.packet);
    if is_plain {
        let scratch = read_anew(scratch);
        scratch.direction = scratch.key.fill(&scratch.packet, ifindex) as u32;
    }
    is_plain
}

/// What [`walk`] returns for a packet with addresses; anything else is a [`Reject`]'s number.
pub const WALKED: u32 = u32::MAX;

/// The parser, as a function of its own: its frame on the 512-byte stack is gone when it returns.
#[inline(never)]
pub fn walk<F: Frame>(frame: &F, link: Link, ifindex: u32, scratch: &mut PacketScratch) -> u32 {
    if !F::PLAIN_FIRST && walk_plain(frame, link, ifindex, scratch) {
        return WALKED;
    }
    let scratch = read_anew(scratch);
    let start = Start {
        link,
        at: 0,
        vlan: frame.stripped_vlan(),
        frame_len: frame.len(),
    };
    match parse_any(frame, start, &mut scratch.packet) {
        Ok(()) => {
            scratch.direction = scratch.key.fill(&scratch.packet, ifindex) as u32;
            WALKED
        }
        Err(reject) => reject as u32,
    }
}

/// As [`walk`], for the packet inside `outer`: its offset, or 0 if there is none.
#[inline(never)]
fn walk_inner<F: Frame>(frame: &F, ifindex: u32, scratch: &mut PacketScratch) -> u32 {
    match parse_inner_into(frame, &scratch.packet, &mut scratch.inner) {
        Some(Ok(at)) => {
            scratch.inner_direction = scratch.inner_key.fill(&scratch.inner, ifindex) as u32;
            at as u32
        }
        _ => 0,
    }
}

/// Whether bytes were missing.
#[inline(always)]
fn is_short(outcome: u32, packet: &Packet) -> bool {
    if outcome == WALKED {
        return packet.notes & (note::L4_SHORT | note::EXTENSIONS_BAD) != 0;
    }
    outcome == Reject::LinkShort as u32
        || outcome == Reject::Ip4Short as u32
        || outcome == Reject::Ip6Short as u32
}

#[inline(always)]
fn count_reject<F: Frame>(frame: &F, reject: u32, counters: &mut InterfaceCounters) {
    let size = Size::one(frame.len() + if frame.stripped_vlan() != 0 { 4 } else { 0 });
    counters.packets += 1;
    counters.bytes += size.bytes as u64;
    let index = reject as usize;
    if index < Reject::COUNT {
        counters.rejects[index] += 1;
    }
}

#[inline(always)]
fn observe_packet<F: Frame>(
    frame: &F,
    link: Link,
    scratch: &mut PacketScratch,
    counters: &mut InterfaceCounters,
) {
    let packet = &scratch.packet;
    let size = frame.size(packet);
    let frames = size.frames as u64;
    counters.packets += frames;
    counters.bytes += size.bytes as u64;
    if packet.notes & (note::L4_SHORT | note::L4_BAD) != 0 {
        counters.l4_faults += frames;
    }
    let direction = Direction::from_bit(scratch.direction as u8);
    let seen = Seen {
        frame,
        packet,
        key: &scratch.key,
        size,
        link,
        direction,
    };
    let counter = match place(&seen) {
        Placed::InRow => &mut counters.in_rows,
        Placed::Attempt => &mut counters.attempts,
        Placed::Aggregated => &mut counters.aggregated,
    };
    *counter += frames;
    if may_carry(packet) {
        settle(observe_inner(frame, scratch, size.frames, counters));
    }
}

/// Cheap test before the tunnel code.
#[inline(always)]
fn may_carry(packet: &Packet) -> bool {
    match packet.protocol {
        ip_proto::UDP => matches!(packet.dst_port, 4789 | 8472 | 6081),
        ip_proto::IPV4 | ip_proto::IPV6 | ip_proto::GRE => true,
        _ => false,
    }
}

/// The packet inside a tunnel's, in a flow of its own.
#[inline(never)]
fn observe_inner<F: Frame>(
    frame: &F,
    scratch: &mut PacketScratch,
    frames: u32,
    counters: &mut InterfaceCounters,
) -> u32 {
    let at = walk_inner(frame, frame.ifindex(), scratch);
    if at == 0 {
        return 0;
    }
    let packet = &scratch.inner;
    let len = scratch.packet.l3_end.saturating_sub(at);
    let size = Size {
        bytes: len,
        frames,
        frame_len: len / frames.max(1),
    };
    let direction = Direction::from_bit(scratch.inner_direction as u8);
    let seen = Seen {
        frame,
        packet,
        key: &scratch.inner_key,
        size,
        link: Link::Ethernet,
        direction,
    };
    let row = match FLOWS.get_ptr_mut(seen.key) {
        // SAFETY: map values live as long as the program runs; counters are added to atomically.
        Some(row) => Some(unsafe { &mut *row }),
        None if admit(budget::FIRST_PACKET) => insert(&seen, None, row_flag::PARTIAL),
        None => None,
    };
    let counter = match row {
        Some(row) => {
            settle(account_inner(&seen, row));
            &mut counters.inner_in_rows
        }
        None => &mut counters.inner_without_row,
    };
    *counter += frames as u64;
    frames
}

/// Counts an inner packet; a function of its own to keep the caller's stack small.
#[inline(never)]
fn account_inner<F: Frame>(seen: &Seen<'_, F>, row: &mut FlowRow) -> u32 {
    row.account(seen.direction, seen.packet, seen.size, &KernelClock);
    seen.size.frames
}

/// Uses the result of a function of the program. One that returned nothing, or always the same,
/// would leave whatever its result register held, and the verifier refuses that if it is a pointer
/// to the stack.
#[inline(always)]
fn settle(result: u32) {
    let mut result = u64::from(result);
    // SAFETY: changes nothing.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) result, options(nomem, nostack)) };
    let _ = result;
}

/// Counts a packet in its row, makes a row for it, or says where else it went.
#[inline(always)]
fn place<F: Frame>(seen: &Seen<'_, F>) -> Placed {
    let packet = seen.packet;
    let is_tcp = packet.protocol == ip_proto::TCP && packet.notes & (note::L4_SHORT | note::L4_BAD) == 0;
    let control = if is_tcp {
        packet.tcp_flags & (flag::SYN | flag::ACK | flag::RST)
    } else {
        0
    };
    let is_syn = control & (flag::SYN | flag::ACK) == flag::SYN;
    let known = if is_syn { None } else { FLOWS.get_ptr_mut(seen.key) };
    let row = match known {
        // SAFETY: map values live as long as the program runs; counters are added to atomically.
        Some(row) => unsafe { &mut *row },
        None if control & (flag::SYN | flag::RST) != 0 => return attempt(seen, control),
        None => match first_packet(seen, is_tcp) {
            Some(row) => row,
            None => return Placed::Aggregated,
        },
    };
    if is_tcp && row.flags & row_flag::CLOSED != 0 && control & flag::RST == 0 {
        settle(adopt_if_new_connection(seen, row));
    }
    row.account(seen.direction, packet, seen.size, &KernelClock);
    after_account(seen, row);
    Placed::InRow
}

/// Samples and owner, for a packet just counted.
#[inline(always)]
fn after_account<F: Frame>(seen: &Seen<'_, F>, row: &mut FlowRow) {
    let left = &mut row.samples_left[seen.side()];
    if *left != sampling::OFF && seen.packet.payload_len != 0 {
        let is_every = *left != sampling::MESSAGES;
        if is_every {
            *left -= 1;
        }
        settle(sample(seen, is_every));
    }
    if F::EGRESS && row.flags & row_flag::OWNER_TRIED == 0 {
        // SAFETY: the frame's socket is its context's.
        unsafe { sockets::fill_owner(seen.frame.socket(), row) };
    }
}

#[inline(never)]
fn sample<F: Frame>(seen: &Seen<'_, F>, is_every: bool) -> u32 {
    let packet = seen.packet;
    if !is_every {
        let is_stream = packet.protocol == ip_proto::TCP;
        let first = seen.frame.peek(packet.payload_at.into()).unwrap_or_default();
        if !is_message_start(is_stream, first, packet.payload_len) {
            return 0;
        }
    }
    if !admit(budget::SAMPLE) {
        lost(|losses| losses.over_sample_budget += 1);
        return 0;
    }
    let sent = seen.emit(kind::SAMPLE);
    if !sent {
        lost(|losses| losses.ring_full_sample += 1);
    }
    sent as u32
}

/// The cell of the pending array for a key, and the key's tag in it.
#[inline(always)]
fn pending_cell(key: &FlowKey) -> Option<(&'static mut Pending, u64)> {
    let load = load_settings();
    let hash = key.hash(&load.hash_keys);
    let cell = PENDING.get_ptr_mut(hash as u32 & load.pending_mask)?;
    // SAFETY: array values live as long as the program; a torn cell only loses one handshake's
    // early packets, which stay counted where they were.
    Some((unsafe { &mut *cell }, hash | 1))
}

/// A SYN, an answer without a row, or a reset without a row: to the ring, else by service.
#[inline(never)]
fn attempt<F: Frame>(seen: &Seen<'_, F>, control: u8) -> Placed {
    let mut noted = None;
    if control & flag::RST == 0
        && let Some((cell, tag)) = pending_cell(seen.key)
    {
        let step = if control & flag::ACK == 0 {
            Step::Syn
        } else {
            Step::SynAck
        };
        if cell.tag != 0 && cell.tag != tag && step == Step::Syn {
            lost(|losses| losses.pending_overwritten += 1);
        }
        if cell.note(
            tag,
            step,
            seen.direction,
            seen.packet,
            seen.size,
            KernelClock.exact_ns(),
        ) {
            noted = Some(cell);
        }
    }
    if !admit(budget::ATTEMPT) {
        lost(|losses| losses.over_attempt_budget += 1);
    } else if seen.emit(kind::ATTEMPT) {
        return Placed::Attempt;
    } else {
        lost(|losses| losses.ring_full_attempt += 1);
    }
    if let Some(cell) = noted {
        let side = &mut cell.sides[seen.side()];
        side.aggregated = side.aggregated.saturating_add(1);
    }
    settle(aggregate(seen));
    Placed::Aggregated
}

/// The row for a packet that is no SYN and has none: it ends a handshake, or is a flow's first. If
/// it may have none, the packet is counted by service.
#[inline(never)]
fn first_packet<F: Frame>(seen: &Seen<'_, F>, is_tcp: bool) -> Option<&'static mut FlowRow> {
    let mut pending = None;
    if is_tcp
        && let Some((cell, tag)) = pending_cell(seen.key)
        && cell.completes(tag, seen.direction, seen.packet)
    {
        pending = Some(cell);
    }
    let (class, flags) = match pending {
        Some(_) => (budget::HANDSHAKE, 0),
        None if is_tcp => (budget::FIRST_PACKET, row_flag::PARTIAL),
        None => (budget::FIRST_PACKET, 0),
    };
    if !admit(class) {
        lost(|losses| losses.over_row_budget += 1);
    } else if let Some(row) = insert(seen, pending, flags) {
        return Some(row);
    }
    settle(aggregate(seen));
    None
}

/// Makes a row, still without this packet; `None`, and a counter, if the table is full.
#[inline(never)]
fn insert<F: Frame>(
    seen: &Seen<'_, F>,
    pending: Option<&mut Pending>,
    flags: u8,
) -> Option<&'static mut FlowRow> {
    let row = ROW_SCRATCH.get_ptr_mut(0)?;
    // SAFETY: a per-CPU row, only used within this function.
    let row = unsafe { &mut *row };
    let samples = SETTINGS.get(0)?.samples_per_direction as u8;
    row.reset(seen.direction, KernelClock.exact_ns(), samples);
    row.flags = flags;
    if let Some(pending) = &pending {
        row.adopt(pending);
    }
    const NO_EXIST: u64 = aya_ebpf::bindings::BPF_NOEXIST as u64;
    let inserted = FLOWS.insert(seen.key, &*row, NO_EXIST).is_ok();
    let Some(row) = FLOWS.get_ptr_mut(seen.key) else {
        lost(|losses| losses.flow_table_full += 1);
        return None;
    };
    // If another CPU was first, its row stands and the handshake stays where it was counted.
    if inserted && let Some(pending) = pending {
        move_from_aggregates(seen.key, pending);
        pending.tag = 0;
    }
    // SAFETY: map values live as long as the program runs.
    Some(unsafe { &mut *row })
}

/// A packet that belongs to a new connection on the key of a closed one.
#[inline(never)]
fn adopt_if_new_connection<F: Frame>(seen: &Seen<'_, F>, row: &mut FlowRow) -> u32 {
    if let Some((cell, tag)) = pending_cell(seen.key)
        && cell.tag == tag
    {
        let packet = seen.packet;
        let answers = packet.tcp_flags & flag::SYN != 0
            && packet.tcp_ack == cell.sides[1 - seen.side()].seq.wrapping_add(1);
        if answers || cell.completes(tag, seen.direction, packet) {
            row.adopt(cell);
            move_from_aggregates(seen.key, cell);
            cell.tag = 0;
            return 1;
        }
    }
    0
}

/// Tells the aggregates which of their packets a row has taken over.
#[inline(always)]
fn move_from_aggregates(key: &FlowKey, pending: &Pending) {
    let client = pending.client as usize & 1;
    let moved = [
        pending.sides[client].aggregated,
        pending.sides[1 - client].aggregated,
    ];
    if moved[0] | moved[1] == 0 {
        return;
    }
    let (addr, port) = key.source(Direction::from_bit(pending.client).opposite());
    let mut service = AggregateKey {
        addr,
        ifindex: key.ifindex,
        port,
        protocol: key.protocol,
        family: key.family,
        from: 0,
        padding: [0; 3],
    };
    adopted_from(&service, moved[0]);
    service.from = 1;
    adopted_from(&service, moved[1]);
}

#[inline(always)]
fn adopted_from(service: &AggregateKey, packets: u8) {
    if packets != 0
        && let Some(row) = AGGREGATES.get_ptr_mut(service)
    {
        // SAFETY: map values live as long as the program runs; added to atomically.
        wire::flow::add_u64(unsafe { &mut (*row).adopted_packets }, packets as u64);
    }
}

/// Counts a packet under its service.
#[inline(never)]
fn aggregate<F: Frame>(seen: &Seen<'_, F>) -> u32 {
    let key = AggregateKey::of(seen.packet, seen.key.ifindex);
    let row = match AGGREGATES.get_ptr_mut(&key) {
        Some(row) => Some(row),
        None if admit(budget::AGGREGATE) => {
            let empty = AggregateRow::default();
            let _ = AGGREGATES.insert(&key, &empty, aya_ebpf::bindings::BPF_NOEXIST as u64);
            AGGREGATES.get_ptr_mut(&key)
        }
        None => None,
    };
    let (frames, bytes) = (seen.size.frames as u64, seen.size.bytes as u64);
    match row {
        Some(row) => {
            // SAFETY: map values live as long as the program runs; added to atomically.
            let row = unsafe { &mut *row };
            wire::flow::add_u64(&mut row.packets, frames);
            wire::flow::add_u64(&mut row.bytes, bytes);
            row.last_ns = KernelClock.coarse_ns();
        }
        None => lost(|losses| {
            losses.aggregate_overflow_packets += frames;
            losses.aggregate_overflow_bytes += bytes;
        }),
    }
    seen.size.frames
}
