//! Limits: so many requests or tokens in a time, so many requests at once.
//!
//! Rates are kept by the generic cell rate algorithm (ITU-T I.371): one number for each subject, the time at which its
//! allowance is full again. It is exact for what one process sees: of a burst nothing below the limit is refused, and
//! in any window no more than burst + amount is admitted. Nothing is counted in the background, and a subject that is
//! at rest is the same as one never seen, so that its row may go.
//!
//! Tables are split in [`SHARDS`] parts, each under a lock that is held for one look-up. A part holds at most
//! [`ROWS_PER_SHARD`] subjects. When all of a part are active beyond that, new subjects of it share one count, which
//! is the limit of one subject: safe for what stands behind, hard on strangers in a flood, and counted.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use policy::gateway::limit::{Limit, LimitKind};

/// Parts of a table.
pub const SHARDS: usize = 64;
/// Subjects in one of them.
pub const ROWS_PER_SHARD: usize = 4_096;

/// A full part is swept no more often than this.
const SWEEP_PAUSE_NS: u64 = 50_000_000;

/// Counts of all limits. Clones share them.
#[derive(Clone, Default)]
pub struct Limits {
    inner: Arc<Inner>,
}

struct Inner {
    shards: [Mutex<Shard>; SHARDS],
    n_crowded: AtomicU64,
}

impl Default for Inner {
    fn default() -> Inner {
        Inner {
            shards: std::array::from_fn(|_| Mutex::default()),
            n_crowded: AtomicU64::new(0),
        }
    }
}

#[derive(Default)]
struct Shard {
    swept_at_ns: u64,
    rows: HashMap<Key, Row, BuildHasherDefault<Mixed>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    limit: u64,
    subject: u64,
}

#[derive(Clone, Copy)]
enum Row {
    /// When the allowance is full again.
    Rate { full_at_ns: u64 },
    /// How many are open.
    Open { n: u64 },
}

/// Keys are hashes already.
#[derive(Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(29) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }
}

/// What stands of a limit after something was taken from it.
#[derive(Debug)]
pub struct Taken {
    /// How much more may be taken at once.
    pub remaining: u64,
    /// When all of it may be taken again; 0 for concurrency.
    pub reset_ns: u64,
    /// Of concurrency: given back when this is dropped.
    #[expect(dead_code, reason = "held for its Drop")]
    place: Option<Place>,
}

struct Place {
    limits: Limits,
    key: Key,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Place")
    }
}

/// A limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Which, by its place in what was asked.
    pub index: usize,
    /// When to come again.
    pub wait_ns: u64,
}

/// One thing to take.
#[derive(Debug, Clone, Copy)]
pub struct Want<'a> {
    /// From which limit.
    pub limit: &'a Limit,
    /// For whom.
    pub subject: u64,
    /// How much.
    pub amount: u64,
}

/// Concurrency has no time after which a place is free; this is a guess.
const WAIT_FOR_PLACE_NS: u64 = 1_000_000_000;

impl Limits {
    /// Takes `amount`, or says how many nanoseconds until it may be taken.
    ///
    /// More than the burst is taken when the whole burst is there: else it could never be taken.
    ///
    /// # Errors
    /// The limit is reached.
    pub fn take(&self, limit: &Limit, subject: u64, amount: u64, now_ns: u64) -> Result<Taken, u64> {
        let key = Key {
            limit: limit.id,
            subject,
        };
        let mut shard = self.shard(key);
        let key = self.room_for(&mut shard, key, now_ns);
        match limit.kind {
            LimitKind::Concurrency => {
                let Row::Open { n } = shard.rows.entry(key).or_insert(Row::Open { n: 0 }) else {
                    return Ok(Taken {
                        remaining: 0,
                        reset_ns: 0,
                        place: None,
                    });
                };
                if *n >= limit.amount {
                    return Err(WAIT_FOR_PLACE_NS);
                }
                *n += 1;
                let remaining = limit.amount - *n;
                let place = Some(Place {
                    limits: self.clone(),
                    key,
                });
                Ok(Taken {
                    remaining,
                    reset_ns: 0,
                    place,
                })
            }
            LimitKind::Requests | LimitKind::Tokens => {
                let capacity_ns = span(limit, limit.burst);
                let entry = shard.rows.entry(key).or_insert(Row::Rate { full_at_ns: 0 });
                let Row::Rate { full_at_ns } = entry else {
                    return Ok(Taken {
                        remaining: 0,
                        reset_ns: 0,
                        place: None,
                    });
                };
                let debt_ns = full_at_ns.saturating_sub(now_ns);
                let cost_ns = span(limit, amount);
                let wait_ns = debt_ns
                    .saturating_add(cost_ns.min(capacity_ns))
                    .saturating_sub(capacity_ns);
                if wait_ns > 0 {
                    return Err(wait_ns);
                }
                let debt_ns = debt_ns.saturating_add(cost_ns);
                *full_at_ns = now_ns.saturating_add(debt_ns);
                let remaining = amount_in(limit, capacity_ns.saturating_sub(debt_ns));
                Ok(Taken {
                    remaining,
                    reset_ns: debt_ns,
                    place: None,
                })
            }
        }
    }

    /// Whether `amount` could be taken; takes nothing.
    ///
    /// # Errors
    /// As of [`Limits::take`].
    pub fn check(&self, limit: &Limit, subject: u64, amount: u64, now_ns: u64) -> Result<(), u64> {
        let key = Key {
            limit: limit.id,
            subject,
        };
        match self.shard(key).rows.get(&key) {
            Some(Row::Rate { full_at_ns }) => {
                let capacity_ns = span(limit, limit.burst);
                let debt_ns = full_at_ns.saturating_sub(now_ns);
                match debt_ns
                    .saturating_add(span(limit, amount).min(capacity_ns))
                    .saturating_sub(capacity_ns)
                {
                    0 => Ok(()),
                    wait_ns => Err(wait_ns),
                }
            }
            Some(Row::Open { n }) if *n >= limit.amount => Err(WAIT_FOR_PLACE_NS),
            _ => Ok(()),
        }
    }

    /// Takes from all or from none, in order.
    ///
    /// # Errors
    /// The first limit that is reached.
    pub fn take_all(&self, wants: &[Want<'_>], now_ns: u64) -> Result<Vec<Taken>, Reached> {
        let mut taken = Vec::with_capacity(wants.len());
        for (index, want) in wants.iter().enumerate() {
            match self.take(want.limit, want.subject, want.amount, now_ns) {
                Ok(one) => taken.push(one),
                Err(wait_ns) => {
                    for before in &wants[..index] {
                        self.give_back(before.limit, before.subject, before.amount, now_ns);
                    }
                    return Err(Reached { index, wait_ns });
                }
            }
        }
        Ok(taken)
    }

    /// Gives back what was taken in vain. Places of concurrency give themselves back.
    pub fn give_back(&self, limit: &Limit, subject: u64, amount: u64, now_ns: u64) {
        if limit.kind != LimitKind::Concurrency {
            self.change(limit, subject, |full_at_ns| {
                full_at_ns
                    .saturating_sub(span(limit, amount))
                    .max(now_ns.min(full_at_ns))
            });
        }
    }

    /// Makes good what a call used: `taken` was taken before it, `used` is what it came to. More than the limit may be
    /// taken so, and is paid back by waiting.
    pub fn settle_tokens(&self, limit: &Limit, subject: u64, taken: u64, used: u64) {
        if used >= taken {
            self.charge(limit, subject, used - taken, crate::clock::now_ns());
        } else {
            self.give_back(limit, subject, taken - used, crate::clock::now_ns());
        }
    }

    /// Takes without asking.
    pub fn charge(&self, limit: &Limit, subject: u64, amount: u64, now_ns: u64) {
        self.change(limit, subject, |full_at_ns| {
            full_at_ns.max(now_ns).saturating_add(span(limit, amount))
        });
    }

    fn change(&self, limit: &Limit, subject: u64, change: impl FnOnce(u64) -> u64) {
        let key = Key {
            limit: limit.id,
            subject,
        };
        let mut shard = self.shard(key);
        let key = if shard.rows.contains_key(&key) {
            key
        } else {
            crowd(key)
        };
        if let Some(Row::Rate { full_at_ns }) = shard.rows.get_mut(&key) {
            *full_at_ns = change(*full_at_ns);
        }
    }

    /// How often a subject had to share a count, since its part of the table was full.
    #[must_use]
    pub fn n_crowded(&self) -> u64 {
        self.inner.n_crowded.load(Relaxed)
    }

    /// Subjects that are counted now.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.inner.shards.iter().map(|shard| lock(shard).rows.len()).sum()
    }

    fn shard(&self, key: Key) -> MutexGuard<'_, Shard> {
        let mut mixed = Mixed::default();
        mixed.write_u64(key.limit);
        mixed.write_u64(key.subject);
        lock(&self.inner.shards[(mixed.finish() >> 16) as usize % SHARDS])
    }

    /// The row to use: its own if there is room, else the one shared by all that have none.
    fn room_for(&self, shard: &mut Shard, key: Key, now_ns: u64) -> Key {
        if shard.rows.len() < ROWS_PER_SHARD || shard.rows.contains_key(&key) {
            return key;
        }
        // A sweep that frees little is not repeated at once: a flood must not make it the work of each request.
        if shard.swept_at_ns == 0 || now_ns.saturating_sub(shard.swept_at_ns) > SWEEP_PAUSE_NS {
            shard.swept_at_ns = now_ns.max(1);
            shard.rows.retain(|_, row| match *row {
                Row::Rate { full_at_ns } => full_at_ns > now_ns,
                Row::Open { n } => n > 0,
            });
        }
        if shard.rows.len() < ROWS_PER_SHARD {
            return key;
        }
        self.inner.n_crowded.fetch_add(1, Relaxed);
        crowd(key)
    }
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits")
            .field("rows", &self.n_rows())
            .finish_non_exhaustive()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut shard = self.limits.shard(self.key);
        if let Entry::Occupied(mut row) = shard.rows.entry(self.key)
            && let Row::Open { n } = row.get_mut()
        {
            *n = n.saturating_sub(1);
            if *n == 0 {
                row.remove();
            }
        }
    }
}

/// The count shared by the subjects of one limit that have no row.
fn crowd(key: Key) -> Key {
    Key {
        limit: key.limit,
        subject: 0x6372_6f77_6465_6421,
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long it takes until `amount` may be taken again. Rounded down, so that nothing below the limit is refused.
fn span(limit: &Limit, amount: u64) -> u64 {
    let ns = u128::from(amount) * u128::from(limit.window_ns) / u128::from(limit.amount.max(1));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

fn amount_in(limit: &Limit, span_ns: u64) -> u64 {
    let amount = u128::from(span_ns) * u128::from(limit.amount) / u128::from(limit.window_ns.max(1));
    u64::try_from(amount).unwrap_or(u64::MAX).min(limit.burst)
}

/// A subject of these parts, as `["team", "shop", "web"]`. The same in every process; it tells subjects apart that
/// nobody may choose freely, and a clash only shares a count.
#[must_use]
pub fn subject(parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for &byte in part.as_bytes().iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash ^ hash >> 29
}
