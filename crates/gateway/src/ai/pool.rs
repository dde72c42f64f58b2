//! What is known of a provider while it is used: which of its keys work, and whether to ask it at all.
//!
//! State outlives a change of configuration: a provider's is found again by its name while its address is
//! the same, a key's by its id while its secret is. It is a guess that time heals, shared by all threads, so
//! plain atomics suffice.

use policy::gateway::document::Pick;
use policy::gateway::snapshot::{Breaker, Provider, ProviderKey};
use policy::secret::Secret;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// A key that a provider refused is left alone for this long.
const KEY_EXPIRED_MS: u64 = 10 * 60_000;
/// A key whose money is spent, likewise.
const KEY_EXHAUSTED_MS: u64 = 5 * 60_000;
/// A key that is limited, where the provider does not say for how long.
const KEY_LIMITED_MS: u64 = 1_000;
/// The longest that a provider's `Retry-After` is believed.
const RETRY_AFTER_MAX_MS: u64 = 10 * 60_000;
/// Weight of the newest sample in the mean of first-byte times: 1/8.
const LATENCY_SHIFT: u32 = 3;

/// Why a key is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyTrouble {
    /// 401 and 403: wrong, expired or revoked.
    Expired,
    /// 402, and 429 that say the quota is spent.
    Exhausted,
    /// 429.
    Limited {
        /// As the provider said.
        retry_after_ms: Option<u64>,
    },
}

/// What is known of one key.
#[derive(Debug, Default)]
pub struct KeyState {
    /// It is left alone until then (milliseconds since 1970).
    until_ms: AtomicU64,
    /// What for: 0 nothing, 1 expired, 2 exhausted, 3 limited.
    reason: AtomicU32,
}

impl KeyState {
    fn is_free(&self, now_ms: u64) -> bool {
        self.until_ms.load(Relaxed) <= now_ms
    }

    /// `ok`, `expired`, `exhausted` or `limited`.
    pub fn status(&self, now_ms: u64) -> &'static str {
        if self.is_free(now_ms) {
            return "ok";
        }
        match self.reason.load(Relaxed) {
            1 => "expired",
            2 => "exhausted",
            _ => "limited",
        }
    }
}

/// A key of the configuration in force.
#[derive(Debug)]
struct KnownKey {
    secret: Secret,
    state: Arc<KeyState>,
}

/// What is known of one provider.
#[derive(Debug, Default)]
pub struct ProviderState {
    /// By id, those of the configuration in force and no others.
    keys: Mutex<HashMap<Arc<str>, KnownKey>>,
    turn: AtomicU64,
    failures: AtomicU32,
    open_until_ms: AtomicU64,
    /// Mean time to the first byte, in microseconds.
    latency_us: AtomicU64,
}

impl ProviderState {
    /// The keys of a configuration that comes in force: one with another secret under its old id begins
    /// anew, and what is known of the others goes on.
    pub fn set_keys(&self, keys: &[ProviderKey]) {
        let mut known = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *known);
        for key in keys {
            let same = before.remove(&key.id).filter(|known| known.secret == key.secret);
            let known_key = same.unwrap_or_else(|| KnownKey {
                secret: key.secret.clone(),
                state: Arc::default(),
            });
            known.insert(Arc::clone(&key.id), known_key);
        }
    }

    /// The state of a key. That of a configuration before, which a late call still uses, is nobody else's.
    pub fn key(&self, key: &ProviderKey) -> Arc<KeyState> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let known = keys.get(&key.id).filter(|known| known.secret == key.secret);
        known.map(|known| Arc::clone(&known.state)).unwrap_or_default()
    }

    /// Picks a key that is free, `chance` being any number. `None` where the provider has keys and none
    /// is free; `Some(None)` where it needs none. `tried` are left out.
    pub fn pick<'a>(
        &self,
        provider: &'a Provider,
        tried: &[Arc<str>],
        chance: u64,
        now_ms: u64,
    ) -> Option<Option<&'a ProviderKey>> {
        let keys = &provider.keys;
        let is_free = |key: &&ProviderKey| {
            !tried.contains(&key.id) && (keys.len() == 1 || self.key(key).is_free(now_ms))
        };
        match keys.as_slice() {
            [] => return tried.is_empty().then_some(None),
            [key] => return is_free(&key).then_some(Some(key)),
            _ => {}
        }
        let free: Vec<&ProviderKey> = keys.iter().filter(is_free).collect();
        if free.is_empty() {
            return None;
        }
        let picked = match provider.pick {
            Pick::Order => 0,
            Pick::RoundRobin => (self.turn.fetch_add(1, Relaxed) % free.len() as u64) as usize,
            Pick::Weight => weighted(free.iter().map(|key| key.weight), chance),
        };
        Some(Some(free[picked]))
    }

    /// A provider refused a key.
    pub fn refused(&self, key: &ProviderKey, trouble: KeyTrouble, now_ms: u64) {
        let (reason, for_ms) = match trouble {
            KeyTrouble::Expired => (1, KEY_EXPIRED_MS),
            KeyTrouble::Exhausted => (2, KEY_EXHAUSTED_MS),
            KeyTrouble::Limited { retry_after_ms } => (
                3,
                retry_after_ms.unwrap_or(KEY_LIMITED_MS).min(RETRY_AFTER_MAX_MS),
            ),
        };
        let key = self.key(key);
        key.reason.store(reason, Relaxed);
        key.until_ms.store(now_ms + for_ms, Relaxed);
    }

    /// May it be asked? After the time of an open breaker one caller is let through, and the breaker
    /// closes if that goes well.
    pub fn may_ask(&self, breaker: Breaker, now_ms: u64) -> bool {
        let until = self.open_until_ms.load(Relaxed);
        if until == 0 {
            return true;
        }
        until <= now_ms
            && self
                .open_until_ms
                .compare_exchange(until, now_ms + breaker.open_ms, Relaxed, Relaxed)
                .is_ok()
    }

    /// Time until the breaker lets a caller through.
    pub fn open_for_ms(&self, now_ms: u64) -> u64 {
        self.open_until_ms.load(Relaxed).saturating_sub(now_ms)
    }

    /// Time until the first of the keys is free again.
    pub fn no_key_for_ms(&self, provider: &Provider, now_ms: u64) -> u64 {
        let of = |key: &ProviderKey| self.key(key).until_ms.load(Relaxed).saturating_sub(now_ms);
        provider.keys.iter().map(of).min().unwrap_or(0)
    }

    /// Is the breaker open?
    pub fn is_open(&self, now_ms: u64) -> bool {
        self.open_until_ms.load(Relaxed) > now_ms
    }

    /// It answered, whatever it said.
    pub fn succeeded(&self, first_byte_us: u64) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
        if self.open_until_ms.load(Relaxed) != 0 {
            self.open_until_ms.store(0, Relaxed);
        }
        let old = self.latency_us.load(Relaxed);
        let new = if old == 0 {
            first_byte_us
        } else {
            old - (old >> LATENCY_SHIFT) + (first_byte_us >> LATENCY_SHIFT)
        };
        self.latency_us.store(new.max(1), Relaxed);
    }

    /// It did not answer, or with 5xx.
    pub fn failed(&self, breaker: Breaker, now_ms: u64) {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        if failures >= breaker.failures {
            self.open_until_ms.store(now_ms + breaker.open_ms, Relaxed);
        }
    }

    /// Mean time to the first byte; 0 where nothing is known.
    pub fn latency_us(&self) -> u64 {
        self.latency_us.load(Relaxed)
    }
}

/// Picks an index by weight; the first if all are 0.
pub fn weighted(weights: impl Iterator<Item = u32> + Clone, chance: u64) -> usize {
    let sum: u64 = weights.clone().map(u64::from).sum();
    if sum == 0 {
        return 0;
    }
    let mut left = chance % sum;
    for (idx, weight) in weights.enumerate() {
        let weight = u64::from(weight);
        if left < weight {
            return idx;
        }
        left -= weight;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    const BREAKER: Breaker = Breaker {
        failures: 2,
        open_ms: 100,
    };

    #[test]
    fn breaker_opens_lets_one_through_and_closes() {
        let state = ProviderState::default();
        state.failed(BREAKER, 1000);
        assert!(state.may_ask(BREAKER, 1000));
        state.failed(BREAKER, 1000);
        assert!(!state.may_ask(BREAKER, 1050));
        assert!(state.may_ask(BREAKER, 1100), "one after its time");
        assert!(!state.may_ask(BREAKER, 1100), "and only one");
        state.succeeded(50);
        assert!(state.may_ask(BREAKER, 1101));
    }

    #[test]
    fn state_of_a_key_is_its_secrets() {
        let key = |id: &str, secret: &str| ProviderKey {
            id: id.into(),
            secret: Secret::new(secret),
            weight: 1,
        };
        // A key in trouble, the keys of the next configuration, one of those, and its status then.
        let check = |refused: ProviderKey, next: &[ProviderKey], asked: ProviderKey, expected: &str| {
            let state = ProviderState::default();
            state.set_keys(&[key("a", "1"), key("b", "2")]);
            state.refused(&refused, KeyTrouble::Expired, 1000);
            state.set_keys(next);
            assert_eq!(
                state.key(&asked).status(2000),
                expected,
                "{refused:?} {next:?} {asked:?}"
            );
            assert_eq!(state.keys.lock().unwrap().len(), next.len(), "{next:?}");
        };
        let two = || [key("a", "1"), key("b", "2")];
        check(key("a", "1"), &two(), key("a", "1"), "expired");
        check(key("a", "1"), &two(), key("b", "2"), "ok");
        check(
            key("a", "1"),
            &[key("a", "3"), key("b", "2")],
            key("a", "3"),
            "ok",
        );
        check(
            key("b", "2"),
            &[key("a", "3"), key("b", "2")],
            key("b", "2"),
            "expired",
        );
        check(key("a", "1"), &[key("b", "2")], key("b", "2"), "ok");
        // A late call with a key that is no longer there says nothing of the new one.
        check(key("a", "0"), &two(), key("a", "1"), "ok");
    }

    #[test]
    fn weights_hold() {
        let mut counts = [0; 3];
        for chance in 0..1000 {
            counts[weighted([3, 0, 1].into_iter(), chance)] += 1;
        }
        assert_eq!(counts, [750, 0, 250]);
        assert_eq!(weighted([0, 0].into_iter(), 5), 0);
    }
}
