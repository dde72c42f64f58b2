//! IP fragments put together again, so that what they carry can be read.
//!
//! Offline only. Overlapping fragments are what evasion is made of, and hosts differ in what they make of
//! them: a datagram with any is dropped whole, as Linux does; exact repetitions are harmless.
//!
//! Flows are counted by their fragments as they came; a datagram put together is only read, never
//! counted again.

use std::collections::{HashMap, VecDeque};

use wire::parse::note;
use wire::{Addr, Link, Packet, Start};

/// Datagrams that wait for the rest of them, and their bytes over all.
const DATAGRAMS_MAX: usize = 4096;
const BYTES_MAX: usize = 64 << 20;
/// Fragments of one datagram: a host that sends more of the smallest size is up to something.
const FRAGMENTS_MAX: usize = 1024;
/// Packet time after which the rest of a datagram does not come any more, as Linux has it.
const PATIENCE_NS: u64 = 30_000_000_000;
const DATAGRAM_LEN_MAX: usize = 65_535;

/// What was put together and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub datagrams: u64,
    /// Dropped since fragments overlapped with other bytes, or ended at different places.
    pub overlaps: u64,
    /// Dropped since the rest did not come in time.
    pub timeouts: u64,
    /// Dropped to make room.
    pub evicted: u64,
    /// Fragments that were captured in part, or that say impossible things.
    pub unusable_fragments: u64,
}

/// What the fragments of a datagram have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    src: Addr,
    dst: Addr,
    id: u32,
    interface: u32,
    tunnel_id: u32,
    vlan: u16,
    vlan_inner: u16,
    family: u8,
    protocol: u8,
    tunnel: u8,
}

#[derive(Debug, Default)]
struct Datagram {
    first_ns: u64,
    /// Offset and bytes, by offset.
    fragments: Vec<(u16, Vec<u8>)>,
    /// Known once the last fragment came.
    len: Option<usize>,
    held: usize,
}

/// Datagrams that wait for the rest of them.
#[derive(Debug, Default)]
pub struct Defrag {
    datagrams: HashMap<Key, Datagram>,
    /// The oldest first; may name some that are gone.
    order: VecDeque<Key>,
    held: usize,
    given_up: Vec<Part>,
    counters: Counters,
}

/// A datagram put together: a frame that begins with its IP header, and what the parser says of it.
#[derive(Debug)]
pub struct Whole {
    pub packet: Packet,
    pub frame: Vec<u8>,
}

/// What became of a fragment.
#[derive(Debug)]
pub enum Outcome {
    /// It waits for others.
    Held,
    Whole(Whole),
    /// It says impossible things, or was captured in part.
    Unusable,
}

/// The first fragment of a datagram of which others are missing.
#[derive(Debug)]
pub struct Part {
    pub whole: Whole,
    pub interface: u32,
    pub ts_ns: u64,
}

impl Defrag {
    /// What was put together and what was not.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// One more fragment, captured in `data`; the datagram if it was the last that was missing.
    pub fn add(&mut self, packet: &Packet, data: &[u8], interface: u32, ts_ns: u64) -> Outcome {
        let (from, end) = (usize::from(packet.l4_at), packet.l3_end as usize);
        let offset = packet.frag_offset;
        let (Some(bytes), Some(has_more)) = (data.get(from..end), has_more(packet, data)) else {
            self.counters.unusable_fragments += 1;
            return Outcome::Unusable;
        };
        let fragment_end = usize::from(offset) + bytes.len();
        // All but the last hold a multiple of eight bytes, for offsets are counted so.
        let is_odd = has_more && !bytes.len().is_multiple_of(8);
        if bytes.is_empty() || is_odd || fragment_end > DATAGRAM_LEN_MAX - HEADER_LEN_MAX {
            self.counters.unusable_fragments += 1;
            return Outcome::Unusable;
        }
        let key = Key {
            src: packet.src,
            dst: packet.dst,
            id: packet.frag_id,
            interface,
            tunnel_id: packet.tunnel_id,
            vlan: packet.vlan,
            vlan_inner: packet.vlan_inner,
            family: packet.family,
            protocol: packet.protocol,
            tunnel: packet.tunnel,
        };
        let is_late = |datagram: &Datagram| ts_ns.abs_diff(datagram.first_ns) > PATIENCE_NS;
        if self.datagrams.get(&key).is_some_and(is_late) {
            self.give_up(&key);
            self.counters.timeouts += 1;
        }
        if !self.datagrams.contains_key(&key) {
            self.order.push_back(key);
        }
        let datagram = self.datagrams.entry(key).or_insert_with(|| Datagram {
            first_ns: ts_ns,
            ..Datagram::default()
        });
        match datagram.add(offset, bytes, has_more) {
            Added::Again => return Outcome::Held,
            Added::Contradicts => {
                self.give_up(&key);
                self.counters.overlaps += 1;
                return Outcome::Held;
            }
            Added::New => self.held += bytes.len(),
        }
        let whole = datagram.whole();
        if whole.is_some() {
            self.drop(&key);
        }
        self.make_room();
        match whole.and_then(|bytes| put_together(&key, &bytes, false)) {
            Some(whole) => {
                self.counters.datagrams += 1;
                Outcome::Whole(whole)
            }
            None => Outcome::Held,
        }
    }

    /// First fragments of what will never be whole, since the last call: they still say what most of
    /// their messages are of. IPv4 only.
    pub fn given_up(&mut self) -> std::vec::Drain<'_, Part> {
        self.given_up.drain(..)
    }

    /// Gives up all that waits, in the order it came.
    pub fn finish(&mut self) {
        let mut keys: Vec<(u64, Key)> = self
            .datagrams
            .iter()
            .map(|(key, datagram)| (datagram.first_ns, *key))
            .collect();
        keys.sort_by_key(|(first_ns, key)| (*first_ns, key.id));
        self.counters.timeouts += keys.len() as u64;
        for (_, key) in keys {
            self.give_up(&key);
        }
        self.order.clear();
    }

    fn give_up(&mut self, key: &Key) {
        if key.family == 4
            && let Some(datagram) = self.datagrams.get(key)
            && let Some((0, bytes)) = datagram.fragments.first()
            && let Some(whole) = put_together(key, bytes, true)
        {
            self.given_up.push(Part {
                whole,
                interface: key.interface,
                ts_ns: datagram.first_ns,
            });
        }
        self.drop(key);
    }

    fn drop(&mut self, key: &Key) {
        if let Some(datagram) = self.datagrams.remove(key) {
            self.held -= datagram.held;
        }
    }

    fn make_room(&mut self) {
        while self.datagrams.len() > DATAGRAMS_MAX || self.held > BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else {
                return;
            };
            if self.datagrams.contains_key(&oldest) {
                self.give_up(&oldest);
                self.counters.evicted += 1;
            }
        }
        if self.order.len() > 2 * DATAGRAMS_MAX {
            let datagrams = &self.datagrams;
            self.order.retain(|key| datagrams.contains_key(key));
        }
    }
}

enum Added {
    New,
    /// The very same was there.
    Again,
    Contradicts,
}

impl Datagram {
    fn add(&mut self, offset: u16, bytes: &[u8], has_more: bool) -> Added {
        let (start, end) = (usize::from(offset), usize::from(offset) + bytes.len());
        let is_same = |(at, other): &&(u16, Vec<u8>)| *at == offset && other == bytes;
        if self.fragments.iter().any(|fragment| is_same(&fragment)) && (has_more || self.len == Some(end)) {
            return Added::Again;
        }
        let overlaps =
            |(at, other): &(u16, Vec<u8>)| start < usize::from(*at) + other.len() && usize::from(*at) < end;
        let is_beyond = self.len.is_some_and(|len| end > len || (!has_more && end != len));
        let ends_before_known = !has_more
            && self
                .fragments
                .iter()
                .any(|(at, other)| usize::from(*at) + other.len() > end);
        if self.fragments.iter().any(overlaps)
            || is_beyond
            || ends_before_known
            || self.fragments.len() >= FRAGMENTS_MAX
        {
            return Added::Contradicts;
        }
        if !has_more {
            self.len = Some(end);
        }
        let at = self.fragments.partition_point(|(other, _)| *other < offset);
        self.fragments.insert(at, (offset, bytes.to_vec()));
        self.held += bytes.len();
        Added::New
    }

    /// All bytes, if none is missing.
    fn whole(&self) -> Option<Vec<u8>> {
        let len = self.len?;
        // Fragments do not overlap, so they leave no hole if they sum up.
        if self.held != len {
            return None;
        }
        let mut bytes = Vec::with_capacity(len);
        for (_, fragment) in &self.fragments {
            bytes.extend_from_slice(fragment);
        }
        Some(bytes)
    }
}

/// Whether more fragments follow, which [`Packet`] says only of the first; `None` if that was not captured.
fn has_more(packet: &Packet, data: &[u8]) -> Option<bool> {
    if packet.family == 4 {
        let flags = data.get(usize::from(packet.l3_at) + 6)?;
        return Some(flags & 0x20 != 0);
    }
    // The fragment header, which must be the last extension: others after it are not put together.
    let header = data.get(usize::from(packet.l4_at).checked_sub(8)?..usize::from(packet.l4_at))?;
    let id = u32::from_be_bytes(header[4..8].try_into().ok()?);
    let offset = u16::from_be_bytes([header[2], header[3]]);
    let is_it = id == packet.frag_id && offset & !7 == packet.frag_offset && header[0] == packet.protocol;
    is_it.then_some(offset & 1 != 0)
}

const HEADER_LEN_MAX: usize = 40;

/// The datagram with a plain IP header before it, parsed as any frame.
fn put_together(key: &Key, bytes: &[u8], has_more: bool) -> Option<Whole> {
    let len = bytes.len() as u16;
    let mut frame = Vec::with_capacity(bytes.len() + HEADER_LEN_MAX);
    if key.family == 4 {
        let [l0, l1] = (len + 20).to_be_bytes();
        let flags = if has_more { 0x20 } else { 0 };
        frame.extend([0x45, 0, l0, l1, 0, 0, flags, 0, 64, key.protocol, 0, 0]);
        for address in [key.src, key.dst] {
            match address.to_ip(4) {
                std::net::IpAddr::V4(v4) => frame.extend(v4.octets()),
                std::net::IpAddr::V6(_) => return None,
            }
        }
    } else {
        let [l0, l1] = len.to_be_bytes();
        frame.extend([0x60, 0, 0, 0, l0, l1, key.protocol, 64]);
        for address in [key.src, key.dst] {
            match address.to_ip(6) {
                std::net::IpAddr::V6(v6) => frame.extend(v6.octets()),
                std::net::IpAddr::V4(_) => return None,
            }
        }
    }
    frame.extend_from_slice(bytes);
    let start = Start::of(Link::Raw, frame.len() as u32);
    let mut packet = wire::parse(frame.as_slice(), start).ok()?;
    packet.vlan = key.vlan;
    packet.vlan_inner = key.vlan_inner;
    packet.tunnel = key.tunnel;
    packet.tunnel_id = key.tunnel_id;
    Some(Whole { packet, frame })
}

/// Whether this is a piece of a datagram.
#[inline]
#[must_use]
pub fn is_fragment(packet: &Packet) -> bool {
    packet.notes & (note::FRAGMENT_FIRST | note::FRAGMENT_LATER) != 0
        && packet.notes & note::EXTENSIONS_BAD == 0
}

#[cfg(test)]
mod tests;
