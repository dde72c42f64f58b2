//! Which upstream of a route is asked, and which are passed over.
//!
//! Known of each upstream, shared by all threads: open requests, latency of late, failures in a row. After so many
//! failures it is passed over for a time (circuit breaker and outlier ejection are the same thing here); then one
//! request tries it, and its fate decides. Health checks are apart: an ill upstream is not tried at all, unless no
//! other is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use policy::gateway::document::Balance;
use policy::gateway::snapshot::Breaker;

use crate::upstream::Origin;

/// How much of the latency known is replaced by each new one: 1 / 2^3.
const LATENCY_SHIFT: u32 = 3;

/// What is known of an upstream.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    open: AtomicU32,
    latency_us: AtomicU32,
    failures: AtomicU32,
    passed_over_until_ms: AtomicU64,
    is_trying: AtomicBool,
    is_ill: AtomicBool,
    checks_in_row: AtomicU32,
}

/// An upstream of a route.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) origin: Arc<Origin>,
    pub(super) base_path: Box<str>,
    pub(super) weight: u32,
    pub(super) priority: u32,
    pub(super) vitals: Arc<Vitals>,
}

/// The upstreams of a route.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) members: Vec<Member>,
    balance: Balance,
    breaker: Breaker,
    turn: AtomicU64,
}

/// An upstream in use. What became of the request is told to it; dropped without word it counts as neither.
#[derive(Debug)]
pub(super) struct InUse {
    vitals: Arc<Vitals>,
    breaker: Breaker,
    is_trial: bool,
}

impl Group {
    pub(super) fn new(mut members: Vec<Member>, balance: Balance, breaker: Breaker) -> Group {
        members.sort_by_key(|member| member.priority);
        Group {
            members,
            balance,
            breaker,
            turn: AtomicU64::new(0),
        }
    }

    /// Chooses one that is not in `tried`, a set of bits. Lower priority numbers first; ill ones last.
    pub(super) fn pick(&self, tried: u64, now_ms: u64) -> Option<(usize, InUse)> {
        // The common case has no choice and no trouble.
        if let [member] = self.members.as_slice()
            && tried == 0
            && member.weight > 0
            && member.vitals.is_well()
        {
            return Some((0, self.take(0, false)));
        }
        self.pick_among(tried, now_ms, |vitals| !vitals.is_ill.load(Relaxed))
            .or_else(|| self.pick_among(tried, now_ms, |vitals| vitals.is_ill.load(Relaxed)))
    }

    /// Time until the first of those passed over is tried again.
    pub(super) fn passed_over_for_ms(&self, now_ms: u64) -> u64 {
        let members = self.members.iter().filter(|member| member.weight > 0);
        let waits = members.map(|member| {
            let until_ms = member.vitals.passed_over_until_ms.load(Relaxed);
            until_ms.saturating_sub(now_ms)
        });
        waits.min().unwrap_or(0)
    }

    fn pick_among(
        &self,
        tried: u64,
        now_ms: u64,
        wanted: impl Fn(&Vitals) -> bool,
    ) -> Option<(usize, InUse)> {
        let is_free = |i: usize| tried >> i.min(63) & 1 == 0;
        let mut from = 0;
        while from < self.members.len() {
            let priority = self.members[from].priority;
            let until = self.members[from..]
                .iter()
                .take_while(|member| member.priority == priority)
                .count()
                + from;
            let mut usable = Vec::new();
            for i in from..until {
                let member = &self.members[i];
                if member.weight == 0 || !is_free(i) || !wanted(&member.vitals) {
                    continue;
                }
                match member.vitals.standing(now_ms) {
                    Standing::Good => usable.push(i),
                    // The time has come to try it: one request does.
                    Standing::Due if !member.vitals.is_trying.swap(true, Relaxed) => {
                        return Some((i, self.take(i, true)));
                    }
                    Standing::Due | Standing::PassedOver => {}
                }
            }
            if let Some(i) = self.choose(&usable) {
                return Some((i, self.take(i, false)));
            }
            from = until;
        }
        None
    }

    fn choose(&self, usable: &[usize]) -> Option<usize> {
        let of = |i: usize| &self.members[i];
        match self.balance {
            Balance::Weighted => {
                let total: u64 = usable.iter().map(|&i| u64::from(of(i).weight)).sum();
                if total == 0 {
                    return None;
                }
                // In turn, by weight: exact over each round, without a draw. A step that is prime to the total spreads
                // the turns of one upstream over the round.
                let turn = self.turn.fetch_add(1, Relaxed);
                let mut at = turn % total * step(total) % total;
                usable.iter().copied().find(|&i| {
                    let weight = u64::from(of(i).weight);
                    let is_here = at < weight;
                    at = at.saturating_sub(weight);
                    is_here
                })
            }
            Balance::LeastLatency => {
                // One not tried yet has latency 0 and comes first; one in 32 goes round, so that old figures are renewed.
                let turn = self.turn.fetch_add(1, Relaxed);
                if turn % 32 == 31 {
                    return usable.get((turn / 32) as usize % usable.len().max(1)).copied();
                }
                usable
                    .iter()
                    .copied()
                    .min_by_key(|&i| of(i).vitals.latency_us.load(Relaxed))
            }
            Balance::LeastConnections => usable.iter().copied().min_by_key(|&i| {
                u64::from(of(i).vitals.open.load(Relaxed)) * 1_000_000 / u64::from(of(i).weight.max(1))
            }),
        }
    }

    fn take(&self, i: usize, is_trial: bool) -> InUse {
        let vitals = Arc::clone(&self.members[i].vitals);
        vitals.open.fetch_add(1, Relaxed);
        InUse {
            vitals,
            breaker: self.breaker,
            is_trial,
        }
    }
}

/// A number near the golden section of `total` that has no divisor in common with it.
fn step(total: u64) -> u64 {
    let gcd = |mut a: u64, mut b: u64| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let start = (total * 618 / 1000).max(1);
    (start..start + 64)
        .find(|&step| gcd(step, total) == 1)
        .unwrap_or(1)
}

enum Standing {
    Good,
    PassedOver,
    Due,
}

impl Vitals {
    fn is_well(&self) -> bool {
        self.passed_over_until_ms.load(Relaxed) == 0 && !self.is_ill.load(Relaxed)
    }

    fn standing(&self, now_ms: u64) -> Standing {
        match self.passed_over_until_ms.load(Relaxed) {
            0 => Standing::Good,
            until_ms if now_ms >= until_ms => Standing::Due,
            _ => Standing::PassedOver,
        }
    }

    /// The outcome of a health check.
    pub(super) fn checked(&self, is_well: bool, failures: u32, successes: u32) {
        let was_ill = self.is_ill.load(Relaxed);
        if is_well != was_ill {
            self.checks_in_row.store(0, Relaxed);
            return;
        }
        let in_row = self.checks_in_row.fetch_add(1, Relaxed) + 1;
        if in_row >= if was_ill { successes } else { failures } {
            self.checks_in_row.store(0, Relaxed);
            self.is_ill.store(!was_ill, Relaxed);
        }
    }
}

impl InUse {
    /// It answered, and so soon.
    pub(super) fn succeeded(&mut self, latency_us: u32) {
        let vitals = &self.vitals;
        vitals.failures.store(0, Relaxed);
        if std::mem::take(&mut self.is_trial) {
            vitals.passed_over_until_ms.store(0, Relaxed);
            vitals.is_trying.store(false, Relaxed);
        }
        let known = vitals.latency_us.load(Relaxed);
        let new = if known == 0 {
            latency_us.max(1)
        } else {
            known - (known >> LATENCY_SHIFT) + (latency_us >> LATENCY_SHIFT)
        };
        vitals.latency_us.store(new.max(1), Relaxed);
    }

    /// It failed by its own fault.
    pub(super) fn failed(&mut self, now_ms: u64) {
        let vitals = &self.vitals;
        let in_row = vitals.failures.fetch_add(1, Relaxed) + 1;
        let was_trial = std::mem::take(&mut self.is_trial);
        if was_trial || in_row >= self.breaker.failures {
            vitals
                .passed_over_until_ms
                .store((now_ms + self.breaker.open_ms).max(1), Relaxed);
        }
        if was_trial {
            vitals.is_trying.store(false, Relaxed);
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.vitals.open.fetch_sub(1, Relaxed);
        if self.is_trial {
            self.vitals.is_trying.store(false, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::trust::Trust;
    use crate::upstream::{EgressRule, Protocol};

    fn group(members: &[(u32, u32)], balance: Balance) -> Group {
        let trust = Trust::new(None).expect("roots");
        let member = |&(weight, priority): &(u32, u32)| Member {
            origin: Arc::new(
                Origin::new(
                    "http://192.0.2.1",
                    Protocol::Auto,
                    EgressRule::default(),
                    trust.clone(),
                )
                .expect("a URL"),
            ),
            base_path: "".into(),
            weight,
            priority,
            vitals: Arc::default(),
        };
        Group::new(
            members.iter().map(member).collect(),
            balance,
            Breaker {
                failures: 2,
                open_ms: 1000,
            },
        )
    }

    fn counts(group: &Group, n: usize) -> Vec<usize> {
        let mut counts = vec![0; group.members.len()];
        for _ in 0..n {
            if let Some((i, mut in_use)) = group.pick(0, 1) {
                in_use.succeeded(100);
                counts[i] += 1;
            }
        }
        counts
    }

    #[test]
    fn weights_are_exact_over_a_round() {
        let check = |weights: &[u32], n: usize, expected: &[usize]| {
            let members: Vec<_> = weights.iter().map(|&weight| (weight, 0)).collect();
            assert_eq!(counts(&group(&members, Balance::Weighted), n), expected);
        };
        check(&[3, 1], 400, &[300, 100]);
        check(&[1, 1, 1], 30, &[10, 10, 10]);
        check(&[0, 5], 10, &[0, 10]);
        check(&[0], 10, &[0]);
        check(&[90, 9, 1], 1000, &[900, 90, 10]);
    }

    #[test]
    fn lower_priorities_first_until_they_fail() {
        let group = group(&[(1, 0), (1, 1)], Balance::Weighted);
        assert_eq!(counts(&group, 10), [10, 0]);
        for _ in 0..2 {
            let (i, mut in_use) = group.pick(0, 1).expect("one");
            assert_eq!(i, 0);
            in_use.failed(1);
        }
        assert_eq!(counts(&group, 10), [0, 10]);
        // Its time has come: one request tries it, the others do not wait for what comes of it.
        let (i, mut trial) = group.pick(0, 2000).expect("one");
        assert_eq!(i, 0);
        assert_eq!(group.pick(0, 2000).expect("one").0, 1);
        trial.succeeded(5);
        assert_eq!(group.pick(0, 2001).expect("one").0, 0);
    }

    #[test]
    fn a_failed_trial_passes_it_over_again() {
        let group = group(&[(1, 0)], Balance::Weighted);
        for _ in 0..2 {
            group.pick(0, 1).expect("one").1.failed(1);
        }
        assert!(group.pick(0, 500).is_none());
        group.pick(0, 1500).expect("the trial").1.failed(1500);
        assert!(group.pick(0, 2000).is_none());
        // One that is given up without word leaves room for the next.
        drop(group.pick(0, 2600).expect("the trial"));
        assert!(group.pick(0, 2600).is_some());
    }

    #[test]
    fn tried_ones_are_left_out() {
        let group = group(&[(1, 0), (1, 0), (1, 1)], Balance::Weighted);
        assert_eq!(group.pick(0b011, 1).expect("one").0, 2);
        assert!(group.pick(0b111, 1).is_none());
    }

    #[test]
    fn the_fastest_and_the_least_busy() {
        let fastest = group(&[(1, 0), (1, 0)], Balance::LeastLatency);
        for latency_us in [900, 100] {
            fastest.pick(0, 1).expect("one").1.succeeded(latency_us);
        }
        let picked: Vec<usize> = (0..20).map(|_| fastest.pick(0, 1).expect("one").0).collect();
        assert_eq!(picked, [1; 20]);
        let least = group(&[(1, 0), (3, 0)], Balance::LeastConnections);
        let held: Vec<_> = (0..8).map(|_| least.pick(0, 1).expect("one")).collect();
        assert_eq!(held.iter().filter(|(i, _)| *i == 1).count(), 6);
    }

    #[test]
    fn the_ill_come_last() {
        let group = group(&[(1, 0), (1, 1)], Balance::Weighted);
        let vitals = Arc::clone(&group.members[0].vitals);
        for _ in 0..3 {
            vitals.checked(false, 3, 2);
        }
        assert_eq!(counts(&group, 5), [0, 5]);
        vitals.checked(true, 3, 2);
        assert_eq!(counts(&group, 5), [0, 5]);
        vitals.checked(true, 3, 2);
        assert_eq!(counts(&group, 5), [5, 0]);
    }
}
