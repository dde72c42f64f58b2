//! Flows: their key, their row of counters, and the one way a packet changes that row.
//!
//! The kernel programs and the offline flow table both call [`FlowRow::account`], so a capture and
//! the live traffic it was taken from give the same numbers.
// Long because one packet's way through a row is one piece: key, row, and everything that changes it.

use crate::parse::note;
use crate::rows::Pending;
use crate::tcp::{NO_WINDOW_SCALE, flag};
use crate::{Addr, Packet, ip_proto};

/// Identity of a flow, the same for both directions.
///
/// `a` is the endpoint with the lower (address, port). Ports are in host order and 0 where there
/// are none (later fragments, protocols without ports); an ICMP echo has its identifier in both.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey {
    pub a: Addr,
    pub b: Addr,
    /// Index of the interface that saw it; of the capture's interface offline.
    pub ifindex: u32,
    /// VNI or GRE key of an inner flow.
    pub tunnel_id: u32,
    pub a_port: u16,
    pub b_port: u16,
    /// See [`crate::link::vlan_id`].
    pub vlan: u16,
    pub vlan_inner: u16,
    pub protocol: u8,
    /// 4 or 6.
    pub family: u8,
    /// [`crate::tunnel::kind`].
    pub tunnel: u8,
    pub padding: u8,
}

const _: () = assert!(size_of::<FlowKey>() == 52);

/// Which way a packet of a flow goes.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From `a` to `b`.
    AToB = 0,
    BToA = 1,
}

impl Direction {
    /// The other way.
    #[inline(always)]
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::AToB => Self::BToA,
            Self::BToA => Self::AToB,
        }
    }

    /// Index into what is kept per direction: 0 or 1.
    #[inline(always)]
    #[must_use]
    pub fn index(self) -> usize {
        #[cfg(target_arch = "bpf")]
        {
            // The compiler knows that there are two directions and drops a mask; the verifier does
            // not know, and wants to see it.
            let mut index = self as u64;
            // SAFETY: register arithmetic only.
            unsafe { core::arch::asm!("{0} &= 1", inout(reg) index, options(pure, nomem, nostack)) };
            // SAFETY: just masked.
            unsafe { core::hint::assert_unchecked(index < 2) };
            index as usize
        }
        #[cfg(not(target_arch = "bpf"))]
        {
            self as usize
        }
    }

    /// Of a direction stored as a number in a row.
    #[inline(always)]
    #[must_use]
    pub const fn from_bit(bit: u8) -> Self {
        if bit & 1 == 0 { Self::AToB } else { Self::BToA }
    }
}

impl FlowKey {
    /// The key of a packet seen on an interface, and which way the packet goes in that flow.
    #[inline(always)]
    #[must_use]
    pub fn of(packet: &Packet, ifindex: u32) -> (Self, Direction) {
        let mut key = Self::default();
        let direction = key.fill(packet, ifindex);
        (key, direction)
    }

    /// As [`FlowKey::of`], in place.
    #[inline(always)]
    pub fn fill(&mut self, packet: &Packet, ifindex: u32) -> Direction {
        // IPv4 addresses differ in their last word only.
        let (is_after, is_same) = if packet.family == 4 {
            let (src, dst) = (packet.src.0[3], packet.dst.0[3]);
            (u32::from_be(src) > u32::from_be(dst), src == dst)
        } else {
            (packet.src.is_after(&packet.dst), packet.src == packet.dst)
        };
        let swap = is_after || is_same && packet.src_port > packet.dst_port;
        let (a, b) = if swap {
            ((packet.dst, packet.dst_port), (packet.src, packet.src_port))
        } else {
            ((packet.src, packet.src_port), (packet.dst, packet.dst_port))
        };
        // Whole words: the map's hash reads words, and a processor cannot hand it one that was
        // stored in parts before all of them have reached the cache.
        let halves = |first: u16, second: u16| {
            let ([x, y], [z, w]) = (first.to_ne_bytes(), second.to_ne_bytes());
            u32::from_ne_bytes([x, y, z, w])
        };
        self.a = a.0;
        self.b = b.0;
        self.ifindex = ifindex;
        self.tunnel_id = packet.tunnel_id;
        self.set_words(
            halves(a.1, b.1),
            halves(packet.vlan, packet.vlan_inner),
            u32::from_ne_bytes([packet.protocol, packet.family, packet.tunnel, 0]),
        );
        if swap { Direction::BToA } else { Direction::AToB }
    }

    /// Stores ports, tags and the rest as the words that they are in memory.
    #[inline(always)]
    fn set_words(&mut self, ports: u32, tags: u32, rest: u32) {
        const { assert!(core::mem::offset_of!(Self, a_port) == 40) };
        let words = core::ptr::from_mut(self).cast::<u32>();
        // SAFETY: the key is thirteen words without padding; these are its last three.
        unsafe {
            words.add(10).write(ports);
            words.add(11).write(tags);
            words.add(12).write(rest);
        }
    }

    /// Address and port that packets of this direction come from.
    #[must_use]
    pub fn source(&self, direction: Direction) -> (Addr, u16) {
        match direction {
            Direction::AToB => (self.a, self.a_port),
            Direction::BToA => (self.b, self.b_port),
        }
    }

    /// The key as thirteen words, for hashing.
    #[inline(always)]
    const fn words(&self) -> [u32; 13] {
        let (a, b) = (&self.a.0, &self.b.0);
        [
            a[0],
            a[1],
            a[2],
            a[3],
            b[0],
            b[1],
            b[2],
            b[3],
            self.ifindex,
            self.tunnel_id,
            (self.a_port as u32) << 16 | self.b_port as u32,
            (self.vlan as u32) << 16 | self.vlan_inner as u32,
            (self.protocol as u32) << 16 | (self.family as u32) << 8 | self.tunnel as u32,
        ]
    }

    /// A hash that an outsider cannot aim without knowing the keys: NH (Black et al., UMAC, 1999)
    /// over the words, then a bit mixer. Multiplications do not wait for each other.
    #[inline(always)]
    #[must_use]
    pub fn hash(&self, keys: &HashKeys) -> u64 {
        let w = self.words();
        let mut sum = 0u64;
        let mut i = 0;
        while i < 12 {
            let left = w[i].wrapping_add(keys.0[i]) as u64;
            let right = w[i + 1].wrapping_add(keys.0[i + 1]) as u64;
            sum = sum.wrapping_add(left.wrapping_mul(right));
            i += 2;
        }
        let last = w[12].wrapping_add(keys.0[12]) as u64;
        sum = sum.wrapping_add(last.wrapping_mul(keys.0[13] as u64 | 1));
        mix(sum)
    }
}

/// Random words for [`FlowKey::hash`], chosen at start.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HashKeys(pub [u32; 14]);

/// The finalizer of MurmurHash3 (public domain): every input bit changes half of the output bits.
#[inline(always)]
const fn mix(mut h: u64) -> u64 {
    h ^= h >> 33;
    h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^= h >> 33;
    h = h.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ h >> 33
}

/// Upper bounds, in bytes, of the frame size classes but the last, which has none.
pub const SIZE_CLASSES: [u32; 6] = [64, 128, 256, 512, 1024, 1518];

/// What one direction of a flow has carried. One cache line.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frame bytes with link headers.
    pub bytes: u64,
    /// Frames by size, see [`SIZE_CLASSES`]. Their sum is the number of packets, so the hot path
    /// adds to two counters only.
    pub sizes: [u64; 7],
}

const _: () = assert!(size_of::<Counts>() == 64);

impl Counts {
    /// Packets of this direction.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.sizes.iter().sum()
    }
}

/// How much a packet weighs. One offloaded packet stands for several frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// All frames together, with every frame's headers, in bytes.
    pub bytes: u32,
    /// At least 1.
    pub frames: u32,
    /// Length of one frame (of a full one, where there are several), in bytes.
    pub frame_len: u32,
}

impl Size {
    /// A packet that is one frame.
    #[inline(always)]
    #[must_use]
    pub const fn one(frame_len: u32) -> Self {
        Self {
            bytes: frame_len,
            frames: 1,
            frame_len,
        }
    }
}

/// The time, for the two needs a row has.
pub trait Clock {
    /// Cheap; may lag by a scheduler tick. Nanoseconds on the same line as [`Clock::exact_ns`].
    fn coarse_ns(&self) -> u64;
    /// Exact; costs more, so only asked for at handshakes and disorder.
    fn exact_ns(&self) -> u64;
}

/// A packet's own time stamp.
#[derive(Clone, Copy, Debug)]
pub struct StampedAt(pub u64);

impl Clock for StampedAt {
    fn coarse_ns(&self) -> u64 {
        self.0
    }

    fn exact_ns(&self) -> u64 {
        self.0
    }
}

/// State of one direction: TCP sequence tracking, TTL range, flags.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// Time of the first SYN or SYN-ACK this side sent in this connection; 0 if none was seen.
    pub syn_ns: u64,
    /// When the hole below was noticed.
    pub hole_ns: u64,
    /// Sequence number expected next, if `seen` says so.
    pub next_seq: u32,
    /// The last hole: segments in `hole_from..hole_to` had not come when later ones did.
    pub hole_from: u32,
    pub hole_to: u32,
    /// Segments sent again, SYN and FIN segments too.
    pub retransmits: u32,
    /// Segments that came late without being sent again.
    pub out_of_order: u32,
    /// Times this side closed its window to zero.
    pub zero_windows: u32,
    /// Smallest unscaled window outside SYN and RST segments; valid if `seen` has `WINDOW`.
    pub window_min: u16,
    /// SYN or SYN-ACK segments sent.
    pub syns: u16,
    pub resets: u16,
    /// Union of the TCP flags sent.
    pub flags: u8,
    pub ttl_min: u8,
    pub ttl_max: u8,
    /// Shift count of the window scale option, [`NO_WINDOW_SCALE`] if none was seen.
    pub window_scale: u8,
    /// Bits of [`seen`].
    pub seen: u8,
    pub icmp_type: u8,
    pub icmp_code: u8,
    /// TOS or traffic class of the last packet.
    pub tos: u8,
    pub padding: [u8; 2],
}

const _: () = assert!(size_of::<Side>() == 56);

/// What a [`Side`] knows.
pub mod seen {
    /// A packet came this way.
    pub const ANY: u8 = 1;
    /// `next_seq` is valid.
    pub const SEQ: u8 = 2;
    /// `window_min` is valid.
    pub const WINDOW: u8 = 4;
    /// The last segment closed the window.
    pub const WINDOW_ZERO: u8 = 8;
    /// `hole_from..hole_to` is valid.
    pub const HOLE: u8 = 16;
    /// The other side has answered this side's SYN, and this side has sent nothing since.
    pub const ACK_DUE: u8 = 32;
}

/// Owner of a local socket, as the kernel knew it when the socket was made.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Id of the cgroup v2 the process was in; 0 if unknown.
    pub cgroup_id: u64,
    /// Kernel's number for the socket; 0 if unknown.
    pub cookie: u64,
    /// Process id (thread group), 0 if unknown.
    pub pid: u32,
    pub uid: u32,
    /// Name of the thread, NUL-padded.
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<Owner>() == 40);

/// Everything counted about one flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowRow {
    pub counts: [Counts; 2],
    /// Coarse time of the last packet, ns.
    pub last_ns: u64,
    /// Time of the first packet, ns.
    pub first_ns: u64,
    pub sides: [Side; 2],
    pub owner: Owner,
    /// Handshake round trips in µs: SYN to SYN-ACK (to the server) and SYN-ACK to ACK (to the
    /// client); 0 if not measured. Not taken from repeated segments (Karn).
    pub rtt_server_us: u32,
    pub rtt_client_us: u32,
    /// Packets in `counts` that were first accounted elsewhere (attempts, aggregates) and moved
    /// here when the row was made, and their bytes.
    pub adopted_bytes: u32,
    pub adopted_packets: u16,
    /// Bits of [`row_flag`].
    pub flags: u8,
    /// [`Direction`] of the packet that opened the flow.
    pub client: u8,
    /// Payloads still to be sampled, per direction: see [`crate::event::sampling`].
    pub samples_left: [u8; 2],
    /// Handshakes completed on this key.
    pub connections: u16,
    pub padding: u32,
}

const _: () = assert!(size_of::<FlowRow>() == 128 + 16 + 112 + 40 + 24);

/// Facts about a row as a whole.
pub mod row_flag {
    /// Its handshake was seen, so `client` is sure.
    pub const HANDSHAKE: u8 = 1;
    /// Began in the middle: earlier packets of this flow, if any, are not in the row.
    pub const PARTIAL: u8 = 2;
    /// A reset, or a FIN from both sides, has passed.
    pub const CLOSED: u8 = 4;
    /// The owner was looked for.
    pub const OWNER_TRIED: u8 = 8;
    /// Packets of this flow were fragments.
    pub const FRAGMENTS: u8 = 16;
}

/// A hole filled within this time is disorder, not loss, where no round trip was measured (tshark's
/// rule of thumb, 3 ms).
const DISORDER_NS: u64 = 3_000_000;

/// How soon a hole is filled by a late segment rather than by one sent again: what is sent again
/// takes a round trip at least, from the receiver's complaint to the sender and back.
#[inline(always)]
const fn disorder_ns(rtt_server_us: u32, rtt_client_us: u32) -> u64 {
    if rtt_server_us == 0 || rtt_client_us == 0 {
        DISORDER_NS
    } else {
        (rtt_server_us as u64 + rtt_client_us as u64) * 1000
    }
}

impl FlowRow {
    /// A row for a flow whose first packet goes `client`'s way.
    #[inline(always)]
    #[must_use]
    pub fn begin(client: Direction, first_ns: u64, samples: u8) -> Self {
        let mut row = Self::default();
        row.reset(client, first_ns, samples);
        row
    }

    /// Makes this row what [`FlowRow::begin`] gives, in place: the kernel's stack has no room for
    /// a second row.
    #[inline(always)]
    pub fn reset(&mut self, client: Direction, first_ns: u64, samples: u8) {
        *self = Self::default();
        for side in &mut self.sides {
            side.window_scale = NO_WINDOW_SCALE;
        }
        self.last_ns = first_ns;
        self.first_ns = first_ns;
        self.client = client as u8;
        self.samples_left = [samples, samples];
    }

    /// Counts one packet of this flow.
    ///
    /// Counters are added to atomically in the kernel, where several CPUs hold the same row; what
    /// is only a mark (times, ranges, sequence numbers) is stored plainly.
    #[inline(always)]
    pub fn account(&mut self, direction: Direction, packet: &Packet, size: Size, clock: &impl Clock) {
        let index = direction.index();
        let counts = &mut self.counts[index];
        add_u64(&mut counts.bytes, size.bytes as u64);
        add_u64(&mut counts.sizes[size_class(size.frame_len)], size.frames as u64);
        let now_ns = clock.coarse_ns();
        if now_ns > self.last_ns {
            self.last_ns = now_ns;
        }
        self.sides[index].note_ip(packet);
        match packet.protocol {
            ip_proto::TCP => self.account_tcp(direction, packet, clock),
            ip_proto::ICMP | ip_proto::ICMPV6 => self.sides[index].note_icmp(packet),
            _ => {}
        }
        if packet.notes & (note::FRAGMENT_FIRST | note::FRAGMENT_LATER) != 0 {
            self.flags |= row_flag::FRAGMENTS;
        }
    }

    #[inline(always)]
    fn account_tcp(&mut self, direction: Direction, packet: &Packet, clock: &impl Clock) {
        if packet.notes & (note::FRAGMENT_LATER | note::L4_SHORT | note::L4_BAD) != 0 {
            return;
        }
        const RARE: u8 = flag::SYN | flag::RST | flag::FIN;
        let flags = packet.tcp_flags;
        let index = direction.index();
        if flags & RARE != 0 {
            self.note_control(direction, packet, clock);
        }
        if self.sides[index].seen & seen::ACK_DUE != 0 && flags & flag::SYN == 0 {
            self.finish_handshake(direction, packet, clock);
        }
        let disorder_ns = disorder_ns(self.rtt_server_us, self.rtt_client_us);
        self.sides[index].note_segment(packet, disorder_ns, clock);
    }

    /// SYN, SYN-ACK, FIN and RST.
    #[inline(always)]
    fn note_control(&mut self, direction: Direction, packet: &Packet, clock: &impl Clock) {
        let flags = packet.tcp_flags;
        let index = direction.index();
        if flags & flag::SYN != 0 {
            let answers = flags & flag::ACK != 0;
            self.note_syn(
                direction,
                answers,
                packet.tcp_seq,
                clock.exact_ns(),
                packet.tcp_window_scale,
            );
        }
        if flags & flag::RST != 0 {
            let resets = &mut self.sides[index].resets;
            *resets = resets.saturating_add(1);
            self.flags |= row_flag::CLOSED;
        }
        let other_sent_fin = self.sides[1 - index].flags & flag::FIN != 0;
        if flags & flag::FIN != 0 && other_sent_fin {
            self.flags |= row_flag::CLOSED;
        }
    }

    /// A SYN or SYN-ACK at `now_ns`.
    #[inline(always)]
    fn note_syn(&mut self, direction: Direction, answers: bool, seq: u32, now_ns: u64, window_scale: u8) {
        let index = direction.index();
        if !answers && self.is_other_connection(direction, seq) {
            self.reopen();
        }
        if answers {
            let is_first_answer = self.sides[index].syns == 0;
            let client = &mut self.sides[1 - index];
            if is_first_answer {
                client.seen |= seen::ACK_DUE;
            }
            if client.syns == 1 && self.rtt_server_us == 0 {
                self.rtt_server_us = elapsed_us(client.syn_ns, now_ns);
            }
            self.client = direction.opposite() as u8;
        } else {
            self.client = direction as u8;
        }
        self.flags |= row_flag::HANDSHAKE;
        let side = &mut self.sides[index];
        if side.syns == 0 {
            side.syn_ns = now_ns;
        }
        side.syns = side.syns.saturating_add(1);
        side.window_scale = window_scale;
    }

    /// Whether a SYN (not a SYN-ACK) with this number begins another connection than the one the
    /// row follows.
    #[inline(always)]
    #[must_use]
    pub fn is_other_connection(&self, direction: Direction, seq: u32) -> bool {
        let side = &self.sides[direction.index()];
        self.flags & row_flag::CLOSED != 0 || side.seen & seen::SEQ != 0 && !side.has_sent_syn(seq)
    }

    /// A new connection on the key of an earlier one: sequence tracking and round trips begin
    /// anew, counts go on.
    #[inline(always)]
    fn reopen(&mut self) {
        self.flags &= !row_flag::CLOSED;
        self.rtt_client_us = 0;
        self.rtt_server_us = 0;
        for side in &mut self.sides {
            side.seen &= !(seen::SEQ | seen::HOLE | seen::WINDOW_ZERO | seen::ACK_DUE);
            side.syns = 0;
            side.syn_ns = 0;
            side.flags = 0;
        }
    }

    /// The client's first segment after the SYN-ACK.
    #[inline(always)]
    fn finish_handshake(&mut self, direction: Direction, packet: &Packet, clock: &impl Clock) {
        let index = direction.index();
        self.sides[index].seen &= !seen::ACK_DUE;
        if packet.tcp_flags & flag::RST != 0 {
            return;
        }
        self.connections = self.connections.saturating_add(1);
        let server = &self.sides[1 - index];
        if server.syns == 1 {
            self.rtt_client_us = elapsed_us(server.syn_ns, clock.exact_ns());
        }
    }

    /// Takes over a handshake that was kept aside until it completed.
    #[inline(always)]
    pub fn adopt(&mut self, pending: &Pending) {
        let client = Direction::from_bit(pending.client);
        let mut first_ns = self.first_ns;
        let (mut packets, mut bytes) = (0u64, 0u64);
        // The client's side first: its SYN may begin a new connection, which clears both sides.
        for direction in [client, client.opposite()] {
            let index = direction.index();
            let from = &pending.sides[index];
            if from.packets == 0 {
                continue;
            }
            let counts = &mut self.counts[index];
            add_u64(&mut counts.bytes, from.bytes as u64);
            add_u64(
                &mut counts.sizes[size_class(from.frame_len as u32)],
                from.packets as u64,
            );
            packets += from.packets as u64;
            bytes += from.bytes as u64;
            self.note_syn(
                direction,
                direction as u8 != client as u8,
                from.seq,
                from.syn_ns,
                from.window_scale,
            );
            let side = &mut self.sides[index];
            side.syns = from.packets;
            side.flags |= from.flags;
            side.note_ttl(from.ttl);
            side.tos = pending.tos[index];
            side.next_seq = pending.next_seq(direction);
            side.seen = side.seen & !seen::HOLE | seen::ANY | seen::SEQ;
            add_u32(&mut side.retransmits, from.packets as u32 - 1);
            if from.syn_ns < first_ns {
                first_ns = from.syn_ns;
            }
        }
        let index = client.index();
        self.rtt_server_us = if pending.is_measured != 0 {
            elapsed_us(pending.sides[index].syn_ns, pending.sides[1 - index].syn_ns)
        } else {
            0
        };
        self.client = client as u8;
        self.first_ns = first_ns;
        self.adopted_packets = saturate_u16(self.adopted_packets as u64 + packets);
        self.adopted_bytes = saturate_u32(self.adopted_bytes as u64 + bytes);
    }
}

impl Side {
    #[inline(always)]
    fn note_ip(&mut self, packet: &Packet) {
        self.note_ttl(packet.ttl);
        self.tos = packet.tos;
    }

    #[inline(always)]
    fn note_ttl(&mut self, ttl: u8) {
        if self.seen & seen::ANY == 0 {
            self.seen |= seen::ANY;
            self.ttl_min = ttl;
            self.ttl_max = ttl;
        } else if ttl < self.ttl_min {
            self.ttl_min = ttl;
        } else if ttl > self.ttl_max {
            self.ttl_max = ttl;
        }
    }

    /// The first type and code of a direction stay: they name the flow.
    #[inline(always)]
    fn note_icmp(&mut self, packet: &Packet) {
        if self.seen & seen::SEQ == 0 {
            self.seen |= seen::SEQ;
            self.icmp_type = packet.icmp_type;
            self.icmp_code = packet.icmp_code;
        }
    }

    /// Flags, window and sequence of any TCP segment.
    #[inline(always)]
    fn note_segment(&mut self, packet: &Packet, disorder_ns: u64, clock: &impl Clock) {
        let flags = packet.tcp_flags;
        if self.flags & flags != flags {
            self.flags |= flags;
        }
        if flags & (flag::SYN | flag::RST) == 0 {
            self.note_window(packet.tcp_window);
        }
        let occupies = packet.payload_len + (flags & flag::SYN != 0) as u32 + (flags & flag::FIN != 0) as u32;
        if occupies != 0 && flags & flag::RST == 0 {
            self.note_sequence(packet.tcp_seq, occupies, flags, disorder_ns, clock);
        } else if self.seen & seen::SEQ == 0 && flags & flag::ACK != 0 && flags & flag::RST == 0 {
            self.seen |= seen::SEQ;
            self.next_seq = packet.tcp_seq;
        }
    }

    #[inline(always)]
    fn note_window(&mut self, window: u16) {
        if self.seen & seen::WINDOW == 0 || window < self.window_min {
            self.seen |= seen::WINDOW;
            self.window_min = window;
        }
        if window != 0 {
            self.seen &= !seen::WINDOW_ZERO;
        } else if self.seen & seen::WINDOW_ZERO == 0 {
            self.seen |= seen::WINDOW_ZERO;
            add_u32(&mut self.zero_windows, 1);
        }
    }

    /// Order of a segment that occupies `len` sequence numbers from `seq`.
    #[inline(always)]
    fn note_sequence(&mut self, seq: u32, len: u32, flags: u8, disorder_ns: u64, clock: &impl Clock) {
        let end = seq.wrapping_add(len);
        if self.seen & seen::SEQ == 0 || flags & flag::SYN != 0 && !self.has_sent_syn(seq) {
            self.seen = self.seen & !seen::HOLE | seen::SEQ;
            self.next_seq = end;
        } else if seq == self.next_seq {
            self.next_seq = end;
        } else {
            self.note_disorder(seq, end, flags, disorder_ns, clock);
        }
    }

    /// Whether a SYN with this number belongs to the connection that is followed: no more has been
    /// sent since than a SYN may carry itself (RFC 7413). Valid if `seen` has `SEQ`.
    #[inline(always)]
    const fn has_sent_syn(&self, seq: u32) -> bool {
        const SYN_LEN_MAX: u32 = 1500;
        self.next_seq.wrapping_sub(seq).wrapping_sub(1) < SYN_LEN_MAX
    }

    #[inline(always)]
    fn note_disorder(&mut self, seq: u32, end: u32, flags: u8, disorder_ns: u64, clock: &impl Clock) {
        let ahead = seq.wrapping_sub(self.next_seq) as i32 > 0;
        if ahead {
            self.hole_from = self.next_seq;
            self.hole_to = seq;
            self.hole_ns = clock.exact_ns();
            self.seen |= seen::HOLE;
            self.next_seq = end;
            return;
        }
        let is_one_byte = seq.wrapping_add(1) == end && flags & (flag::SYN | flag::FIN) == 0;
        let is_keep_alive = is_one_byte && end == self.next_seq;
        if is_keep_alive {
            return;
        }
        let in_hole = self.seen & seen::HOLE != 0
            && seq.wrapping_sub(self.hole_from) < self.hole_to.wrapping_sub(self.hole_from);
        if in_hole && clock.exact_ns().wrapping_sub(self.hole_ns) < disorder_ns {
            add_u32(&mut self.out_of_order, 1);
        } else {
            add_u32(&mut self.retransmits, 1);
        }
        let reaches_beyond = end.wrapping_sub(self.next_seq) as i32 > 0;
        if reaches_beyond {
            self.next_seq = end;
        }
    }
}

/// At least 1, so that 0 can mean "not measured".
#[inline(always)]
const fn elapsed_us(from_ns: u64, to_ns: u64) -> u32 {
    let us = to_ns.saturating_sub(from_ns) / 1000;
    if us == 0 { 1 } else { saturate_u32(us) }
}

#[inline(always)]
const fn saturate_u32(number: u64) -> u32 {
    if number > u32::MAX as u64 {
        u32::MAX
    } else {
        number as u32
    }
}

#[inline(always)]
const fn saturate_u16(number: u64) -> u16 {
    if number > u16::MAX as u64 {
        u16::MAX
    } else {
        number as u16
    }
}

/// Index into [`Counts::sizes`].
#[inline(always)]
#[must_use]
pub const fn size_class(frame_len: u32) -> usize {
    // Comparisons against constants; a loop over the table would cost the kernel side more.
    if frame_len <= SIZE_CLASSES[1] {
        (frame_len > SIZE_CLASSES[0]) as usize
    } else if frame_len <= SIZE_CLASSES[3] {
        2 + (frame_len > SIZE_CLASSES[2]) as usize
    } else if frame_len <= SIZE_CLASSES[5] {
        4 + (frame_len > SIZE_CLASSES[4]) as usize
    } else {
        6
    }
}

/// Adds to a counter that other CPUs may be adding to.
#[inline(always)]
pub fn add_u64(counter: &mut u64, amount: u64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the reference is valid for writes; the intrinsic is the BPF target's atomic add.
    unsafe {
        core::intrinsics::atomic_xadd::<u64, u64, { core::intrinsics::AtomicOrdering::Relaxed }>(
            counter, amount,
        );
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        *counter = counter.wrapping_add(amount);
    }
}

/// As [`add_u64`].
#[inline(always)]
pub fn add_u32(counter: &mut u32, amount: u32) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: as in `add_u64`.
    unsafe {
        core::intrinsics::atomic_xadd::<u32, u32, { core::intrinsics::AtomicOrdering::Relaxed }>(
            counter, amount,
        );
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        *counter = counter.wrapping_add(amount);
    }
}

#[cfg(test)]
mod tests;
