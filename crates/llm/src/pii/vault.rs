//! What was taken out of a call and is put back into its answer.

use super::rules::LABEL_MAX_BYTES;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// How many values one call may hold. What comes after them is masked for good, and counted.
pub const VAULT_ENTRIES_MAX: usize = 10_000;

/// The longest token: `[`, label, `_`, number, `]`.
pub(super) const TOKEN_MAX_BYTES: usize = LABEL_MAX_BYTES + 9;

/// The values of one call behind their tokens; equal values have one token. Also the seed of what is
/// shuffled. Its `Debug` output shows no value.
#[derive(Clone, Default)]
pub struct Vault {
    seed: u64,
    tokens: BTreeMap<(Arc<str>, String), String>,
    values: BTreeMap<String, String>,
    numbers: BTreeMap<Arc<str>, usize>,
    overflow: u64,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault")
            .field("entries", &self.values.len())
            .field("overflow", &self.overflow)
            .finish_non_exhaustive()
    }
}

impl Vault {
    /// An empty vault. `seed` orders what is shuffled: one seed a deployment keeps equal values equal
    /// across calls, one a call does not.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    /// Is there nothing to put back?
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// How many values it holds.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// How many values did not fit, and were masked for good.
    pub fn overflow(&self) -> u64 {
        self.overflow
    }

    /// The token for `value`; none if the vault is full.
    pub(crate) fn token(&mut self, label: &Arc<str>, value: &str) -> Option<String> {
        let key = (Arc::clone(label), value.to_owned());
        if let Some(token) = self.tokens.get(&key) {
            return Some(token.clone());
        }
        if self.values.len() >= VAULT_ENTRIES_MAX {
            self.overflow += 1;
            return None;
        }
        let number = self.numbers.entry(Arc::clone(label)).or_insert(0);
        *number += 1;
        let token = format!("[{label}_{number}]");
        self.values.insert(token.clone(), value.to_owned());
        self.tokens.insert(key, token.clone());
        Some(token)
    }

    /// The value behind `token`.
    pub(super) fn value(&self, token: &str) -> Option<&str> {
        self.values.get(token).map(String::as_str)
    }

    /// `value` with its letters in another order, and its digits; signs stay. Not secret: the digits are
    /// still there.
    pub(crate) fn shuffled(&self, value: &str) -> String {
        // FNV-1a, so that each value has an order of its own.
        let hash = value.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut state = self.seed ^ hash;
        let mut chars: Vec<char> = value.chars().collect();
        for class in [char::is_numeric as fn(char) -> bool, char::is_alphabetic] {
            let places: Vec<usize> = (0..chars.len()).filter(|&at| class(chars[at])).collect();
            for idx in (1..places.len()).rev() {
                let other = (split_mix(&mut state) % (idx as u64 + 1)) as usize;
                chars.swap(places[idx], places[other]);
            }
        }
        chars.into_iter().collect()
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
