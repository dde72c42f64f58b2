//! Keys and rows of the maps other than flows, and the programs' settings.

use crate::flow::{HashKeys, Owner};
use crate::parse::Reject;
use crate::{Addr, Direction, FlowKey, Packet, Size, icmp, ip_proto, tcp};

/// One side of a handshake that has no row yet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PendingSide {
    /// Time of the first SYN or SYN-ACK.
    pub syn_ns: u64,
    pub bytes: u32,
    pub seq: u32,
    pub packets: u16,
    pub frame_len: u16,
    pub flags: u8,
    pub ttl: u8,
    pub window_scale: u8,
    /// How many of `packets` went to an aggregate counter rather than to the ring.
    pub aggregated: u8,
}

/// A handshake kept aside until it completes. One cell, one cache line, in an array indexed by the
/// key's hash: a flood of SYNs overwrites cells at the cost of one store and never touches the flow
/// table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Hash of the key that holds the cell; 0 if free.
    pub tag: u64,
    pub sides: [PendingSide; 2],
    /// [`Direction`] of the SYN.
    pub client: u8,
    /// 1 if the first SYN-ACK came after one SYN only, so that the time between is a round trip.
    pub is_measured: u8,
    /// TOS or traffic class of each side's last packet.
    pub tos: [u8; 2],
    /// Payload of each side's SYN (RFC 7413), the longest, in bytes.
    pub payload_lens: [u16; 2],
}

const _: () = assert!(size_of::<Pending>() == 64);

/// Which handshake packet is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Syn,
    SynAck,
}

impl Pending {
    #[inline(always)]
    fn begin(&mut self, tag: u64, client: Direction) {
        *self = Self {
            tag,
            client: client as u8,
            ..Self::default()
        };
    }

    /// Notes a SYN or SYN-ACK of the flow whose hash is `tag` (not 0). A SYN takes the cell, whoever
    /// held it; a SYN-ACK only joins the SYN it acknowledges. Returns whether it was noted.
    #[inline(always)]
    pub fn note(
        &mut self,
        tag: u64,
        step: Step,
        direction: Direction,
        packet: &Packet,
        size: Size,
        now_ns: u64,
    ) -> bool {
        if self.tag != tag {
            if matches!(step, Step::SynAck) {
                return false;
            }
            self.begin(tag, direction);
        }
        let index = direction.index();
        if matches!(step, Step::SynAck) && !self.is_acknowledged(direction.opposite(), packet.tcp_ack) {
            return false;
        }
        let side = &self.sides[index];
        let is_other_connection = side.packets != 0 && side.seq != packet.tcp_seq;
        if is_other_connection {
            match step {
                Step::Syn => {
                    self.begin(tag, direction);
                }
                Step::SynAck => {
                    self.sides[index] = PendingSide::default();
                    self.payload_lens[index] = 0;
                }
            }
        }
        let is_first_answer = matches!(step, Step::SynAck) && self.sides[index].packets == 0;
        if is_first_answer && self.sides[1 - index].packets == 1 {
            self.is_measured = 1;
        }
        self.tos[index] = packet.tos;
        self.payload_lens[index] = self.payload_lens[index].max(packet.payload_len as u16);
        let side = &mut self.sides[index];
        if side.packets == 0 {
            side.syn_ns = now_ns;
        }
        side.bytes = side.bytes.wrapping_add(size.bytes);
        side.seq = packet.tcp_seq;
        side.packets = side.packets.saturating_add(1);
        side.frame_len = size.frame_len as u16;
        side.flags |= packet.tcp_flags;
        side.ttl = packet.ttl;
        side.window_scale = packet.tcp_window_scale;
        true
    }

    /// Whether a segment without SYN continues the handshake kept here, by its sequence numbers:
    /// a blind guess does not pass.
    #[inline(always)]
    #[must_use]
    pub fn completes(&self, tag: u64, direction: Direction, packet: &Packet) -> bool {
        if self.tag != tag {
            return false;
        }
        let index = direction.index();
        let (own, other) = (&self.sides[index], &self.sides[1 - index]);
        // Data in a SYN counts only if the other side took it, so both numbers are right.
        let continues_own = self.is_acknowledged(direction, packet.tcp_seq);
        let acknowledges = packet.tcp_flags & tcp::flag::ACK != 0
            && self.is_acknowledged(direction.opposite(), packet.tcp_ack);
        if own.packets != 0 && other.packets != 0 {
            continues_own && (acknowledges || packet.payload_len != 0)
        } else {
            continues_own || acknowledges
        }
    }

    /// The sequence number after everything this side has sent.
    #[inline(always)]
    pub(crate) fn next_seq(&self, direction: Direction) -> u32 {
        let index = direction.index();
        self.sides[index]
            .seq
            .wrapping_add(1)
            .wrapping_add(self.payload_lens[index] as u32)
    }

    /// Whether `ack` acknowledges this side's SYN, with the data in it or without.
    #[inline(always)]
    fn is_acknowledged(&self, direction: Direction, ack: u32) -> bool {
        let side = &self.sides[direction.index()];
        side.packets != 0 && (ack == side.seq.wrapping_add(1) || ack == self.next_seq(direction))
    }
}

/// Key of an aggregate: packets that have no row, by the service they are about.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AggregateKey {
    pub addr: Addr,
    pub ifindex: u32,
    pub port: u16,
    pub protocol: u8,
    pub family: u8,
    /// 1 if the packets come from `addr` rather than go to it.
    pub from: u8,
    pub padding: [u8; 3],
}

const _: () = assert!(size_of::<AggregateKey>() == 28);

impl AggregateKey {
    /// The service end of a packet: where a SYN goes, where its answer comes from, else the end
    /// with the lower port; of ICMP, where a question goes and where an answer or an error comes
    /// from, so that the answers to a flood of spoofed sources are one row; else the destination.
    #[inline(always)]
    #[must_use]
    pub fn of(packet: &Packet, ifindex: u32) -> Self {
        let step = packet.tcp_flags & (tcp::flag::SYN | tcp::flag::ACK);
        let from = if step == tcp::flag::SYN {
            false
        } else if step == tcp::flag::SYN | tcp::flag::ACK {
            true
        } else if is_icmp(packet.protocol) {
            !icmp::is_question(packet.icmp_type, packet.family)
        } else {
            packet.src_port < packet.dst_port
        };
        let (addr, port) = if is_icmp(packet.protocol) {
            // What stands in the ports there is an echo's identifier.
            (if from { packet.src } else { packet.dst }, 0)
        } else if from {
            (packet.src, packet.src_port)
        } else {
            (packet.dst, packet.dst_port)
        };
        let [low, high] = port.to_ne_bytes();
        Self::of_words(
            addr,
            ifindex,
            u32::from_ne_bytes([low, high, packet.protocol, packet.family]),
            u32::from_ne_bytes([from as u8, 0, 0, 0]),
        )
    }

    /// From the words that the key is in memory: a processor cannot hand the map's hash a word that
    /// was stored in parts before all of them have reached the cache.
    #[inline(always)]
    const fn of_words(addr: Addr, ifindex: u32, service: u32, from: u32) -> Self {
        let [first, second, third, fourth] = addr.0;
        // SAFETY: the key is seven words without padding, and its fields take any bits.
        unsafe {
            core::mem::transmute::<[u32; 7], Self>([first, second, third, fourth, ifindex, service, from])
        }
    }
}

#[inline(always)]
const fn is_icmp(protocol: u8) -> bool {
    protocol == ip_proto::ICMP || protocol == ip_proto::ICMPV6
}

/// Packets that have no row.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AggregateRow {
    pub packets: u64,
    pub bytes: u64,
    /// Of those, packets that a row took over later.
    pub adopted_packets: u64,
    pub last_ns: u64,
}

/// Slots of per-interface counters; interfaces use the slot `ifindex % SLOTS`.
pub const INTERFACE_SLOTS: u32 = 256;

/// Counters of one interface and direction, one row a CPU.
///
/// Invariant: `packets` = `in_rows` + `attempts` + `aggregated` + the sum of `rejects`. Nothing
/// that comes in is in none of them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceCounters {
    pub packets: u64,
    pub bytes: u64,
    /// Packets counted in flow rows.
    pub in_rows: u64,
    /// Packets sent to the ring as attempts.
    pub attempts: u64,
    /// Packets counted by service only.
    pub aggregated: u64,
    /// Frames that belong to no flow, by [`Reject`].
    pub rejects: [u64; Reject::COUNT],
    /// Packets whose transport header was short or contradicted itself.
    pub l4_faults: u64,
    /// Inner packets of tunnels: counted in rows of their own, and those that got none.
    pub inner_in_rows: u64,
    pub inner_without_row: u64,
}

/// Counters of what was lost or refused on the way, one row a CPU. All zero on a good day.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// The flow table was full.
    pub flow_table_full: u64,
    /// First packets beyond the budget of new rows.
    pub over_row_budget: u64,
    /// Attempts beyond the budget of events.
    pub over_attempt_budget: u64,
    /// Samples beyond the budget of events.
    pub over_sample_budget: u64,
    /// The ring had no room for an attempt (it was aggregated instead).
    pub ring_full_attempt: u64,
    /// The ring had no room for a sample.
    pub ring_full_sample: u64,
    /// The aggregate table was full: packets and bytes counted only here.
    pub aggregate_overflow_packets: u64,
    pub aggregate_overflow_bytes: u64,
    /// A pending handshake was overwritten by another (its packets stay where they were counted).
    pub pending_overwritten: u64,
    /// The socket table was full.
    pub socket_table_full: u64,
}

/// Classes of admission, each with a budget of its own, so that a flood of one kind does not
/// starve the others.
pub mod budget {
    /// Attempts to the ring.
    pub const ATTEMPT: usize = 0;
    /// Rows for handshakes that completed.
    pub const HANDSHAKE: usize = 1;
    /// Rows for other first packets.
    pub const FIRST_PACKET: usize = 2;
    /// Payload samples to the ring.
    pub const SAMPLE: usize = 3;
    /// New aggregates.
    pub const AGGREGATE: usize = 4;
    pub const COUNT: usize = 5;
}

/// What is left of each budget in the current window, one row a CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buckets {
    /// Number of the window that `left` belongs to.
    pub window: u64,
    pub left: [u32; budget::COUNT],
    pub padding: u32,
}

/// Settings that user space may change while the programs run. One row.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Admissions per window and CPU, by [`budget`].
    pub per_window: [u32; budget::COUNT],
    /// Payloads sampled at the start of each direction of a flow.
    pub samples_per_direction: u32,
    /// The programs' [`LoadSettings::hash_keys`], kept here for whoever replaces the programs: the
    /// pending array is indexed by them.
    pub hash_keys: [u32; 14],
}

/// Settings fixed when the programs are loaded.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LoadSettings {
    pub hash_keys: HashKeys,
    /// Cells of the pending array minus one; their number is a power of two.
    pub pending_mask: u32,
    /// Length of a jiffy.
    pub jiffy_ns: u32,
    /// Added to jiffies × `jiffy_ns`, gives CLOCK_MONOTONIC.
    pub jiffies_offset_ns: i64,
    /// Jiffies are shifted right by this to give the number of the budget window.
    pub window_shift: u32,
    /// Index of the loopback device, whose egress is not counted.
    pub loopback_ifindex: u32,
    /// The kernel's number for the network namespace that is observed; sockets of others, which may
    /// have the same addresses, are left alone. 0 takes all.
    pub netns_cookie: u64,
}

/// Key of a local socket's row: its own end first. Addresses are unmapped.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SocketKey {
    pub local: Addr,
    pub remote: Addr,
    pub local_port: u16,
    pub remote_port: u16,
    pub family: u8,
    pub protocol: u8,
    pub padding: [u8; 2],
}

const _: () = assert!(size_of::<SocketKey>() == 40);

/// What the kernel's own TCP says of a connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketRow {
    pub owner: Owner,
    pub last_ns: u64,
    /// Smoothed round trip in µs.
    pub srtt_us: u32,
    /// Smallest smoothed round trip in µs.
    pub srtt_min_us: u32,
    pub retransmits: u32,
    /// TCP state as in the kernel's enum (1 established … 7 closed).
    pub state: u32,
    /// Segments lost in the kernel's view at the last report.
    pub lost: u32,
    /// Congestion window in segments at the last report.
    pub congestion_window: u32,
    /// 1 if this side opened the connection.
    pub active: u32,
    pub padding: u32,
}

const _: () = assert!(size_of::<SocketRow>() == 80);

/// TCP states of the kernel's enum, 1 (established) to 12; index 0 is unused.
pub const TCP_STATES: usize = 13;

/// TCP of the whole host, from tracepoints, one row a CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpTotals {
    /// Sockets that entered each state.
    pub entered: [u64; TCP_STATES],
    /// Segments sent again, of established connections.
    pub retransmits: u64,
    /// SYN and SYN-ACK segments sent again.
    pub retransmitted_handshakes: u64,
}

/// Byte offsets of tracepoint fields, read at load time from the kernel's own description;
/// [`FIELD_MISSING`] where this kernel has no such field.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TracepointFields {
    pub kfree_skb_reason: u32,
    pub set_state_new: u32,
    pub set_state_protocol: u32,
    pub retransmit_state: u32,
}

/// A tracepoint field that this kernel does not have.
pub const FIELD_MISSING: u32 = u32::MAX;

/// Slots of drop-reason counters; the kernel has about 130 reasons.
pub const DROP_REASONS: u32 = 512;

/// A flow key together with its row, as batch look-ups give them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyedRow<R> {
    pub key: FlowKey,
    pub row: R,
}

#[cfg(test)]
mod tests;
