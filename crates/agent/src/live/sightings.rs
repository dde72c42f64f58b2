//! One flow seen on several interfaces: one record.
//!
//! A packet that is bridged or routed from one observed interface to another is counted on both, in a
//! row each, whose keys differ in the interface only. The sighting with most packets gives the record,
//! with equal packets that of the lowest index; the others are listed in it.

use std::collections::HashMap;

use inspect::record::{FlowRecord, Sighting};
use inspect::table::EndReason;
use wire::{FlowKey, FlowRow};

use super::{Live, totals};

/// Rows that wait for the end of another sighting. Beyond, each is a record of its own, which is counted.
const WAITING_MAX: usize = 65_536;

/// A row that has ended.
type Over = (FlowKey, FlowRow, EndReason);

/// Ended rows of flows that still live on another interface, by key without interface.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    rows: HashMap<FlowKey, Vec<Over>>,
    len: usize,
    /// Rows for which there was no room.
    pub(super) over_capacity: u64,
}

fn on_interface(key: &FlowKey, ifindex: u32) -> FlowKey {
    FlowKey { ifindex, ..*key }
}

/// The same for every sighting of a flow.
fn flow_of(key: &FlowKey) -> FlowKey {
    on_interface(key, 0)
}

/// Whether `a` gives the record rather than `b`.
fn is_before(a: (u64, u32), b: (u64, u32)) -> bool {
    (std::cmp::Reverse(a.0), a.1) < (std::cmp::Reverse(b.0), b.1)
}

impl Live {
    /// The row of a flow on one interface, or the attempt on it.
    pub(super) fn sighting_row(&self, key: &FlowKey) -> Option<FlowRow> {
        let row = self.flows.get(key).map(|flow| self.with_attempt(key, &flow.row));
        row.or_else(|| self.attempts.get(key).copied())
    }

    /// Other live sightings of a flow.
    fn others<'a>(&'a self, key: &'a FlowKey) -> impl Iterator<Item = (FlowKey, FlowRow)> + 'a {
        self.interfaces
            .keys()
            .filter(|ifindex| **ifindex != key.ifindex)
            .filter_map(|ifindex| {
                let key = on_interface(key, *ifindex);
                Some((key, self.sighting_row(&key)?))
            })
    }

    /// Whether this sighting gives the flow's record: always, where only one interface is observed.
    pub(super) fn is_principal(&self, key: &FlowKey, row: &FlowRow) -> bool {
        if self.interfaces.len() < 2 {
            return true;
        }
        let own = (totals(row).0, key.ifindex);
        !self
            .others(key)
            .any(|(key, row)| is_before((totals(&row).0, key.ifindex), own))
    }

    /// The record of a live flow by its principal sighting.
    pub(super) fn live_record(&self, key: &FlowKey, row: &FlowRow) -> FlowRecord {
        if self.interfaces.len() < 2 {
            return self.record(key, row, None);
        }
        let ended = self.waiting.rows.get(&flow_of(key)).into_iter().flatten();
        let mut others: Vec<_> = ended.map(|(key, row, _)| (*key, *row)).collect();
        others.extend(self.others(key));
        self.merged((key, row), &others, None)
    }

    fn merged(
        &self,
        principal: (&FlowKey, &FlowRow),
        others: &[(FlowKey, FlowRow)],
        reason: Option<EndReason>,
    ) -> FlowRecord {
        let (key, row) = principal;
        let mut record = self.record(key, row, reason);
        let mut sightings: Vec<_> = others
            .iter()
            .map(|(key, row)| {
                let (packets, bytes) = totals(row);
                let name = self.interfaces.get(&key.ifindex);
                let sighting = Sighting {
                    interface: name.map_or_else(|| key.ifindex.to_string(), Clone::clone),
                    packets,
                    bytes,
                };
                (key.ifindex, sighting)
            })
            .collect();
        sightings.sort_by_key(|(ifindex, _)| *ifindex);
        record.sightings = sightings.into_iter().map(|(_, sighting)| sighting).collect();
        // Which sighting has most packets may change while the flow lives; its name must not.
        if let Some((first, row)) = others.iter().min_by_key(|(key, _)| key.ifindex)
            && first.ifindex < key.ifindex
        {
            record.id = FlowRecord::id_of(first, row.first_ns);
        }
        record
    }

    /// Records of flows that are over with these rows. Rows of flows that live on elsewhere wait.
    pub(super) fn finish(&mut self, ended: Vec<Over>) {
        let mut flows = Vec::new();
        for (key, row, reason) in ended {
            if self.interfaces.len() < 2 {
                let record = self.record(&key, &row, Some(reason));
                self.layer7.forget(&key);
                self.ended.push(record);
            } else if self.waiting.len >= WAITING_MAX {
                self.waiting.over_capacity += 1;
                let record = self.record(&key, &row, Some(reason));
                self.layer7.forget(&key);
                self.ended.push(record);
            } else {
                self.waiting.len += 1;
                let flow = flow_of(&key);
                self.waiting
                    .rows
                    .entry(flow)
                    .or_default()
                    .push((key, row, reason));
                flows.push(flow);
            }
        }
        for flow in flows {
            if self.others(&flow).next().is_some() {
                continue;
            }
            // A flow with two rows in `ended` comes twice; the second time nothing is left of it.
            let Some(mut rows) = self.waiting.rows.remove(&flow) else {
                continue;
            };
            self.waiting.len -= rows.len();
            rows.sort_by_key(|(key, row, _)| (std::cmp::Reverse(totals(row).0), key.ifindex));
            if let Some(((key, row, reason), others)) = rows.split_first() {
                let others: Vec<_> = others.iter().map(|(key, row, _)| (*key, *row)).collect();
                let mut record = self.merged((key, row), &others, Some(*reason));
                for (key, _) in &others {
                    // What one interface showed another may not have: the budget of samples is shared.
                    let other = self.layer7.insight(key);
                    if record
                        .insight
                        .as_ref()
                        .is_none_or(|insight| insight.app.is_none())
                        && other.is_some()
                    {
                        record.insight = other.map(|insight| Box::new(insight.clone()));
                    }
                    self.layer7.forget(key);
                }
                self.layer7.forget(key);
                self.ended.push(record);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::Direction;

    use super::*;

    const S: u64 = 1_000_000_000;

    fn key(ifindex: u32) -> FlowKey {
        FlowKey {
            ifindex,
            protocol: wire::ip_proto::UDP,
            family: 4,
            a_port: 1000,
            b_port: 53,
            ..FlowKey::default()
        }
    }

    /// A row with packets of 100 bytes, first seen at `ifindex` seconds.
    fn row(ifindex: u32, packets: u64) -> FlowRow {
        let mut row = FlowRow::begin(Direction::AToB, u64::from(ifindex) * S, 0);
        row.counts[0].sizes[1] = packets as _;
        row.counts[0].bytes = packets * 100;
        row
    }

    fn live(rows: &[(u32, u64)]) -> Live {
        let mut live = Live::new([1, 2, 3].map(|index| (index, format!("if{index}"))));
        for &(ifindex, packets) in rows {
            live.row(&key(ifindex), &row(ifindex, packets), 0.0);
        }
        live
    }

    /// `if2 9 +if1 8 +if3 7`: where it was seen, packets, other sightings.
    fn words(record: &FlowRecord) -> String {
        let mut words = format!(
            "{} {}",
            record.interface.as_deref().unwrap_or("-"),
            record.packets()
        );
        for other in &record.sightings {
            assert_eq!(other.bytes, other.packets * 100);
            words.push_str(&format!(" +{} {}", other.interface, other.packets));
        }
        words
    }

    #[test]
    fn the_sighting_with_most_packets_gives_the_record() {
        let check = |rows: &[(u32, u64)], expected: &[&str]| {
            let live = live(rows);
            let found: Vec<_> = live.active().map(|reported| words(&reported.record)).collect();
            assert_eq!(found, expected, "{rows:?}");
            // Its name is that of the lowest index, whichever has most packets.
            let first = rows.iter().map(|(ifindex, _)| *ifindex).min().unwrap_or(0);
            let id = FlowRecord::id_of(&key(first), row(first, 1).first_ns);
            assert!(live.active().all(|reported| reported.record.id == id));
        };
        check(&[], &[]);
        check(&[(1, 5)], &["if1 5"]);
        check(&[(3, 5)], &["if3 5"]);
        check(&[(1, 5), (2, 5)], &["if1 5 +if2 5"]);
        check(&[(1, 5), (2, 6)], &["if2 6 +if1 5"]);
        check(&[(3, 9), (1, 8), (2, 9)], &["if2 9 +if1 8 +if3 9"]);
    }

    #[test]
    fn a_flow_ends_once_with_its_last_sighting() {
        /// Rows end in this order, perhaps with new counts; records after each end.
        #[track_caller]
        fn check(rows: &[(u32, u64)], ends: &[(u32, u64)], expected: &[&[&str]]) {
            let mut live = live(rows);
            for (&(ifindex, packets), expected) in ends.iter().zip(expected) {
                live.end(&key(ifindex), Some(&row(ifindex, packets)), EndReason::Timeout);
                let found: Vec<_> = live.ended.latest().map(|record| words(record)).collect();
                assert_eq!(&found, expected, "after the end on {ifindex}");
            }
            assert_eq!((live.waiting.len, live.waiting.rows.len()), (0, 0));
            assert!(live.is_empty());
        }
        check(&[(1, 5)], &[(1, 6)], &[&["if1 6"]]);
        check(&[(1, 5), (2, 5)], &[(1, 5), (2, 7)], &[&[], &["if2 7 +if1 5"]]);
        check(&[(1, 5), (2, 5)], &[(2, 5), (1, 5)], &[&[], &["if1 5 +if2 5"]]);
        check(
            &[(1, 5), (2, 5), (3, 9)],
            &[(3, 9), (1, 5), (2, 5)],
            &[&[], &[], &["if3 9 +if1 5 +if2 5"]],
        );
    }

    /// While it lives on elsewhere, what has ended is still told.
    #[test]
    fn an_ended_sighting_stays_with_the_live_flow() {
        let mut live = live(&[(1, 5), (2, 3)]);
        live.end(&key(1), Some(&row(1, 5)), EndReason::Timeout);
        let found: Vec<_> = live.active().map(|reported| words(&reported.record)).collect();
        assert_eq!(found, ["if2 3 +if1 5"]);
    }

    /// Other flows are never merged.
    #[test]
    fn another_port_is_another_flow() {
        let mut live = live(&[(1, 5)]);
        let other = FlowKey { b_port: 54, ..key(2) };
        live.row(&other, &row(2, 5), 0.0);
        let mut found: Vec<_> = live.active().map(|reported| words(&reported.record)).collect();
        found.sort();
        assert_eq!(found, ["if1 5", "if2 5"]);
    }
}
