//! Limits against laws: nothing below a limit is refused, nothing beyond its bound is admitted.

use gateway::limits::{Limits, ROWS_PER_SHARD, SHARDS, Want};
use policy::gateway::limit::{Limit, LimitKind, Per};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

fn limit(id: u64, kind: LimitKind, amount: u64, window_s: u64, burst: u64) -> Limit {
    let window_ns = if kind == LimitKind::Concurrency {
        0
    } else {
        window_s * SECOND
    };
    Limit {
        id,
        kind,
        amount,
        window_ns,
        burst,
        per: Per::Key,
        text: String::new(),
    }
}

fn requests(amount: u64, window_s: u64, burst: u64) -> Limit {
    limit(1, LimitKind::Requests, amount, window_s, burst)
}

proptest! {
    /// In any stretch of time, at most burst + amount × stretch ÷ window are admitted.
    #[test]
    fn admits_no_more_than_its_bound(
        amount in 1_u64..500,
        window_s in 1_u64..120,
        burst in 1_u64..600,
        gaps in prop::collection::vec(0_u64..200_000_000, 1..800),
    ) {
        let (limits, limit) = (Limits::default(), requests(amount, window_s, burst));
        let mut now_ns = SECOND;
        let mut admitted = Vec::new();
        for gap in gaps {
            now_ns += gap;
            if limits.take(&limit, 7, 1, now_ns).is_ok() {
                admitted.push(now_ns);
            }
        }
        for (i, &from) in admitted.iter().enumerate() {
            for (j, &to) in admitted.iter().enumerate().skip(i) {
                let earned = u128::from(to - from) * u128::from(amount) / u128::from(limit.window_ns);
                // One for the rounding down of what a single one costs.
                prop_assert!((j - i + 1) as u128 <= u128::from(burst) + earned + 1);
            }
        }
    }

    /// Whoever keeps to the rate, at even distance or in bursts after rest, is never refused.
    #[test]
    fn refuses_nothing_below_the_limit(
        amount in 1_u64..500,
        window_s in 1_u64..120,
        burst in 1_u64..600,
        turns in prop::collection::vec(1_u64..600, 1..50),
    ) {
        let (limits, limit) = (Limits::default(), requests(amount, window_s, burst));
        let mut now_ns = SECOND;
        for n in turns {
            let n = n.min(burst);
            for i in 0..n {
                prop_assert!(limits.take(&limit, 7, 1, now_ns).is_ok(), "the {i}th of {n} in a burst of {burst}");
            }
            // Rest until so many have been earned again.
            now_ns += (u128::from(n) * u128::from(limit.window_ns)).div_ceil(u128::from(amount)) as u64;
        }
    }

    /// Who waits as told is admitted, and one nanosecond earlier is not.
    #[test]
    fn the_wait_is_exact(amount in 1_u64..500, window_s in 1_u64..120, burst in 1_u64..600, want in 1_u64..800) {
        let (limits, limit) = (Limits::default(), requests(amount, window_s, burst));
        while limits.take(&limit, 7, 1, SECOND).is_ok() {}
        let wait_ns = limits.take(&limit, 7, want, SECOND).expect_err("reached");
        prop_assert!(limits.take(&limit, 7, want, SECOND + wait_ns - 1).is_err());
        prop_assert!(limits.take(&limit, 7, want, SECOND + wait_ns).is_ok());
    }
}

#[test]
fn remaining_and_reset_are_told() {
    let check = |n_before: u64, expected: (u64, u64)| {
        let (limits, limit) = (Limits::default(), requests(10, 1, 10));
        for _ in 0..n_before {
            limits.take(&limit, 1, 1, SECOND).expect("below");
        }
        let taken = limits.take(&limit, 1, 1, SECOND).expect("below");
        assert_eq!((taken.remaining, taken.reset_ns / 1_000_000), expected);
    };
    check(0, (9, 100));
    check(4, (5, 500));
    check(9, (0, 1000));
}

#[test]
fn concurrency_is_given_back() {
    let (limits, limit) = (Limits::default(), limit(2, LimitKind::Concurrency, 2, 0, 2));
    let first = limits.take(&limit, 1, 1, 0).expect("a place");
    let _second = limits.take(&limit, 1, 1, 0).expect("a place");
    assert!(limits.take(&limit, 1, 1, 0).is_err());
    assert!(
        limits.take(&limit, 2, 1, 0).is_ok(),
        "another subject has places of its own"
    );
    drop(first);
    assert!(limits.take(&limit, 1, 1, 0).is_ok());
}

#[test]
fn tokens_are_settled() {
    let (limits, limit) = (Limits::default(), limit(3, LimitKind::Tokens, 1000, 3600, 1000));
    let check = |taken: u64, used: u64, left: u64| {
        let subject = taken << 32 | used;
        let now_ns = gateway::clock::now_ns();
        limits.take(&limit, subject, taken, now_ns).expect("below");
        limits.settle_tokens(&limit, subject, taken, used);
        let now_ns = gateway::clock::now_ns();
        assert_eq!(
            limits.take(&limit, subject, left, now_ns).map(|_| ()),
            Ok(()),
            "{taken} {used}"
        );
        assert!(limits.take(&limit, subject, 2, now_ns).is_err(), "{taken} {used}");
    };
    check(100, 100, 900);
    check(100, 50, 950);
    check(100, 900, 100);
    // A burst may always be taken from a full allowance, even for more than it holds.
    assert!(limits.take(&limit, 9, 5000, 0).is_ok());
    assert!(limits.take(&limit, 9, 1, SECOND).is_err());
}

#[test]
fn all_or_none() {
    let limits = Limits::default();
    let (wide, narrow) = (requests(10, 3600, 10), limit(4, LimitKind::Requests, 1, 3600, 1));
    let wants = [
        Want {
            limit: &wide,
            subject: 1,
            amount: 1,
        },
        Want {
            limit: &narrow,
            subject: 1,
            amount: 1,
        },
    ];
    assert!(limits.take_all(&wants, SECOND).is_ok());
    for _ in 0..20 {
        assert_eq!(
            limits
                .take_all(&wants, SECOND)
                .map_err(|reached| reached.index)
                .err(),
            Some(1)
        );
    }
    // The refused ones cost nothing.
    assert_eq!(limits.take(&wide, 1, 1, SECOND).expect("below").remaining, 8);
}

#[test]
fn a_flood_of_subjects_has_a_bound_and_harms_nobody_known() {
    let (limits, limit) = (Limits::default(), requests(5, 3600, 5));
    limits.take(&limit, 42, 1, SECOND).expect("below");
    for subject in 1000..1000 + 2 * (SHARDS * ROWS_PER_SHARD) as u64 {
        let _ = limits.take(&limit, subject, 1, SECOND);
    }
    assert!(limits.n_rows() <= SHARDS * (ROWS_PER_SHARD + 1));
    assert!(limits.n_crowded() > 0);
    assert_eq!(limits.take(&limit, 42, 1, SECOND).expect("below").remaining, 3);
    // After their time rows go.
    for subject in 0..100_000 {
        limits
            .take(&limit, 1 << 40 | subject, 1, 10_000 * SECOND)
            .expect("below");
    }
}
