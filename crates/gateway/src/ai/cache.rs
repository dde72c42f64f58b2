//! The cache of exact answers: the same request of the same tenant under the same configuration gets the
//! same bytes, until its time is over. Off unless configured.
//!
//! Bounded in bytes; the oldest answers go first. What is not kept is not missed: no promise is made.

use hyper::body::Bytes;
use llm::usage::Usage;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// The largest answer that is kept, as a share of the whole cache.
const SHARE_MAX: u64 = 8;
/// What an entry costs beside its bytes.
const ENTRY_BYTES: u64 = 256;

/// Names a request: everything that decides its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

impl Key {
    /// From the tenant (organisation, team, consumer), the configuration's generation, the operation
    /// with its format, and the body.
    pub fn of(tenant: [&str; 3], generation: u64, operation: &str, body: &[u8]) -> Self {
        let mut hash = Sha256::new();
        for part in tenant.iter().chain([&operation]) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        hash.update(generation.to_le_bytes());
        hash.update(body);
        Self(hash.finalize().into())
    }
}

/// An answer that is kept.
#[derive(Debug)]
pub struct Entry {
    /// Its bytes, as they went to the client.
    pub body: Bytes,
    /// Its content type.
    pub content_type: String,
    /// What it used when it was made.
    pub usage: Option<Usage>,
    /// Who made it: provider and model, for the record.
    pub made_by: (store::calls::Name, store::calls::Name),
    until_ms: u64,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<Key, Arc<Entry>>,
    /// In the order they came, with those that were replaced.
    order: VecDeque<(Key, u64)>,
    bytes: u64,
}

/// The cache.
#[derive(Debug, Default)]
pub struct Cache {
    inner: Mutex<Inner>,
    /// Answers given from it.
    pub hits: AtomicU64,
    /// Looked for and not found.
    pub misses: AtomicU64,
    /// Thrown out for want of room.
    pub evicted: AtomicU64,
    /// Not kept, since they are too large a share of the room.
    pub too_large: AtomicU64,
}

impl Cache {
    /// The answer to the same request, if it is kept and its time is not over.
    pub fn get(&self, key: &Key, now_ms: u64) -> Option<Arc<Entry>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let found = inner
            .entries
            .get(key)
            .filter(|entry| entry.until_ms > now_ms)
            .cloned();
        drop(inner);
        if found.is_some() { &self.hits } else { &self.misses }.fetch_add(1, Relaxed);
        found
    }

    /// Keeps an answer for `ttl_s`, within `size_bytes` in all.
    pub fn put(&self, key: Key, mut entry: Entry, ttl_s: u32, size_bytes: u64, now_ms: u64) {
        let cost = entry.body.len() as u64 + ENTRY_BYTES;
        if cost > size_bytes / SHARE_MAX {
            self.too_large.fetch_add(1, Relaxed);
            return;
        }
        entry.until_ms = now_ms + u64::from(ttl_s) * 1000;
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *inner;
        inner.bytes += cost;
        inner.order.push_back((key, entry.until_ms));
        if let Some(old) = inner.entries.insert(key, Arc::new(entry)) {
            inner.bytes -= old.body.len() as u64 + ENTRY_BYTES;
        }
        while let Some((oldest, until_ms)) = inner.order.front().copied() {
            // An entry that was replaced stands further back once more.
            let is_current = inner
                .entries
                .get(&oldest)
                .is_some_and(|entry| entry.until_ms == until_ms);
            if is_current && inner.bytes <= size_bytes && until_ms > now_ms {
                break;
            }
            inner.order.pop_front();
            if is_current && let Some(gone) = inner.entries.remove(&oldest) {
                inner.bytes -= gone.body.len() as u64 + ENTRY_BYTES;
                if until_ms > now_ms {
                    self.evicted.fetch_add(1, Relaxed);
                }
            }
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }
}

impl Entry {
    /// An answer to keep.
    pub fn new(
        body: Bytes,
        content_type: String,
        usage: Option<Usage>,
        made_by: (store::calls::Name, store::calls::Name),
    ) -> Self {
        Self {
            body,
            content_type,
            usage,
            made_by,
            until_ms: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n_bytes: usize) -> Entry {
        Entry::new(
            vec![b'x'; n_bytes].into(),
            "application/json".into(),
            None,
            ("p".into(), "m".into()),
        )
    }

    fn key(body: &str) -> Key {
        Key::of(["o", "t", "c"], 1, "chat", body.as_bytes())
    }

    #[test]
    fn tenants_and_generations_are_apart() {
        let base = key("b");
        assert_ne!(base, Key::of(["o", "t", "d"], 1, "chat", b"b"));
        assert_ne!(base, Key::of(["ot", "", "c"], 1, "chat", b"b"));
        assert_ne!(base, Key::of(["o", "t", "c"], 2, "chat", b"b"));
        assert_ne!(base, Key::of(["o", "t", "c"], 1, "responses", b"b"));
    }

    #[test]
    fn time_and_room_are_bounded() {
        let cache = Cache::default();
        cache.put(key("a"), entry(100), 1, 1 << 20, 0);
        assert!(cache.get(&key("a"), 999).is_some());
        assert!(cache.get(&key("a"), 1000).is_none());
        let size = 8 * 1256;
        for n in 0..100 {
            cache.put(key(&n.to_string()), entry(1000), 60, size, 2000);
            assert!(cache.bytes() <= size);
        }
        assert!(cache.get(&key("99"), 2000).is_some());
        assert!(cache.get(&key("0"), 2000).is_none());
        assert!(cache.evicted.load(Relaxed) > 0);
        cache.put(key("big"), entry(5000), 60, size, 2000);
        assert!(cache.get(&key("big"), 2000).is_none(), "too large a share");
        assert_eq!(cache.too_large.load(Relaxed), 1);
        for _ in 0..100 {
            cache.put(key("same"), entry(10), 60, size, 3000);
        }
        assert!(cache.bytes() <= size);
        assert!(cache.get(&key("same"), 3000).is_some());
    }
}
