//! Flows, packets and bytes summed by key.

use std::collections::HashMap;
use std::hash::Hash;

use inspect::record::FlowRecord;

/// Lines of each list.
const LIST_LEN: usize = 10;
/// Different hosts and services counted each; what comes after them is counted as `others`.
const KEYS_MAX: usize = 1_000_000;
/// Sums by key, with a bound.
#[derive(Debug)]
pub(super) struct Tally<K> {
    pub(super) sums: HashMap<K, Sum>,
    pub(super) others: Sum,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    pub(super) flows: u64,
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl Sum {
    pub(super) fn add(&mut self, record: &FlowRecord) {
        self.flows += 1;
        self.packets += record.packets();
        self.bytes += record.bytes();
    }
}

impl<K: Eq + Hash + Ord + Clone> Tally<K> {
    pub(super) fn new() -> Self {
        Self {
            sums: HashMap::new(),
            others: Sum::default(),
        }
    }

    pub(super) fn add(&mut self, key: K, record: &FlowRecord) {
        if self.sums.len() < KEYS_MAX || self.sums.contains_key(&key) {
            self.sums.entry(key).or_default().add(record);
        } else {
            self.others.add(record);
        }
    }

    /// The largest by bytes.
    pub(super) fn largest(&self) -> Vec<(K, Sum)> {
        let mut all: Vec<(K, Sum)> = self.sums.iter().map(|(key, sum)| (key.clone(), *sum)).collect();
        all.sort_unstable_by(|(one, one_sum), (other, other_sum)| {
            other_sum.bytes.cmp(&one_sum.bytes).then_with(|| one.cmp(other))
        });
        all.truncate(LIST_LEN);
        all
    }
}
