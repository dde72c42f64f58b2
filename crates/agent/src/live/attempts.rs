//! Packets that made no row: connection attempts, their answers, stray resets.

use std::collections::HashMap;

use wire::event::Event;
use wire::flow::{StampedAt, row_flag};
use wire::parse::Start;
use wire::{Direction, FlowKey, FlowRow, Link, Size, parse};

/// Attempts kept at once. Beyond, new ones are counted only.
const ATTEMPTS_MAX: usize = 65_536;

/// An attempt is over when nothing was heard for this long: longer than the first two repetitions
/// of a SYN take.
const STALE_NS: u64 = 8_000_000_000;

/// What the ring told of packets without a row, by flow.
#[derive(Debug, Default)]
pub struct Attempts {
    rows: HashMap<FlowKey, FlowRow>,
    /// Attempts that found no room here; their packets are counted by the kernel still.
    pub over_capacity: u64,
    /// Events whose frame did not parse: a disagreement that must not happen.
    pub unparsable: u64,
}

impl Attempts {
    /// Counts the packet of an event.
    pub fn note(&mut self, event: &Event, frame: &[u8]) {
        let Some(link) = link_of(event.link) else {
            self.unparsable += 1;
            return;
        };
        let start = Start {
            link,
            at: 0,
            vlan: event.vlan,
            frame_len: event.packet_len,
        };
        let Ok(packet) = parse(frame, start) else {
            self.unparsable += 1;
            return;
        };
        let direction = Direction::from_bit(event.direction);
        if self.rows.len() >= ATTEMPTS_MAX && !self.rows.contains_key(&event.key) {
            self.over_capacity += 1;
            return;
        }
        let frames = event.frames.max(1);
        let size = Size {
            bytes: event.bytes,
            frames,
            frame_len: event.bytes / frames,
        };
        let row = self
            .rows
            .entry(event.key)
            .or_insert_with(|| FlowRow::begin(direction, event.at_ns, 0));
        row.account(direction, &packet, size, &StampedAt(event.at_ns));
    }

    /// Drops an attempt whose packets are in the row that came of it.
    pub fn settle(&mut self, key: &FlowKey, row: &FlowRow) {
        if row.adopted_packets != 0
            && let Some(attempt) = self.rows.get(key)
            && attempt.last_ns <= row.last_ns
        {
            self.rows.remove(key);
        }
    }

    /// The attempt on a key.
    #[must_use]
    pub fn get(&self, key: &FlowKey) -> Option<&FlowRow> {
        self.rows.get(key)
    }

    /// Forgets the attempt on a key.
    pub fn remove(&mut self, key: &FlowKey) {
        self.rows.remove(key);
    }

    /// Every attempt.
    pub fn iter(&self) -> impl Iterator<Item = (&FlowKey, &FlowRow)> {
        self.rows.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Takes out those that nothing came of.
    pub fn take_stale(&mut self, now_ns: u64) -> Vec<(FlowKey, FlowRow)> {
        let is_stale = |row: &FlowRow| {
            // A refused attempt is over at once.
            let patience_ns = if row.flags & row_flag::CLOSED != 0 {
                STALE_NS / 4
            } else {
                STALE_NS
            };
            now_ns.saturating_sub(row.last_ns) > patience_ns
        };
        self.rows.extract_if(|_, row| is_stale(row)).collect()
    }
}

/// The link type of this number in an event.
pub(super) fn link_of(number: u8) -> Option<Link> {
    [Link::Ethernet, Link::Raw]
        .into_iter()
        .find(|link| *link as u8 == number)
}
