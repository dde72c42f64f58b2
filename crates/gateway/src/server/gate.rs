//! How many connections may be open, in all and of one source.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Locks that the table is spread over; each is held for one look-up when a connection opens and when it closes.
const SHARDS: usize = 16;

pub(super) enum Full {
    All,
    Source,
}

#[derive(Clone)]
pub(super) struct Gate {
    inner: Arc<Inner>,
}

struct Inner {
    open: AtomicUsize,
    max: usize,
    per_source_max: usize,
    /// No entry without an open connection, so there are never more than `max`.
    sources: [Mutex<HashMap<u128, usize>>; SHARDS],
}

/// The right to be open. Given back when dropped.
pub(super) struct Place {
    gate: Gate,
    source: u128,
}

impl Gate {
    pub(super) fn new(max: usize, per_source_max: usize) -> Gate {
        let sources = std::array::from_fn(|_| Mutex::default());
        Gate {
            inner: Arc::new(Inner {
                open: AtomicUsize::new(0),
                max,
                per_source_max,
                sources,
            }),
        }
    }

    pub(super) fn enter(&self, peer: IpAddr) -> Result<Place, Full> {
        let inner = &self.inner;
        if inner.open.fetch_add(1, Relaxed) >= inner.max {
            inner.open.fetch_sub(1, Relaxed);
            return Err(Full::All);
        }
        let source = source_of(peer);
        let mut sources = shard(inner, source)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let n_open = sources.entry(source).or_insert(0);
        if *n_open >= inner.per_source_max {
            if *n_open == 0 {
                sources.remove(&source);
            }
            inner.open.fetch_sub(1, Relaxed);
            return Err(Full::Source);
        }
        *n_open += 1;
        Ok(Place {
            gate: self.clone(),
            source,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let inner = &self.gate.inner;
        inner.open.fetch_sub(1, Relaxed);
        let mut sources = shard(inner, self.source)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(n_open) = sources.get_mut(&self.source) {
            *n_open -= 1;
            if *n_open == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

/// An IPv4 address, or the 64 bits of an IPv6 address that its owner cannot choose freely.
fn source_of(peer: IpAddr) -> u128 {
    match peer.to_canonical() {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits() & !u128::from(u64::MAX) | 1,
    }
}

fn shard(inner: &Inner, source: u128) -> &Mutex<HashMap<u128, usize>> {
    let mixed = (source as u64 ^ (source >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    &inner.sources[(mixed >> 60) as usize % SHARDS]
}
