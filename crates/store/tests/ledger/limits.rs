//! What budgets allow and refuse, and what is then told of them.

use crate::common::{DAY, NOW, account, balances, bench, info, is_spent, key};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use store::ledger::{Group, LedgerReader, Period, PostingInfo, Refused, SpendQuery};

#[tokio::test]
async fn what_is_settled_is_booked_and_the_rest_goes_back() {
    let bench = bench(&[account("a", 1_000_000, true)]);
    let hold = bench.budgets.hold(&key("a"), 5_000, NOW).await.unwrap();
    assert_eq!(hold.held_pusd(), 5_000);
    hold.settle(1_234, &info("m"));
    drop(bench.budgets.hold(&key("a"), 9_000, NOW).await.unwrap());
    assert_eq!(bench.settled().await, 1_234);
    let balance = bench.balances().await.remove(0);
    assert!(
        balance.leased_pusd <= 1_000_000 / 100,
        "a lease is at most one percent: {balance:?}"
    );
    let json = serde_json::to_value(&balance).unwrap();
    assert_eq!(
        (&json["key"]["scope"], &json["settled_usd"]),
        (&"consumer".into(), &"0.000000001234".into())
    );
    let folder = bench.folder;
    drop(bench.budgets);
    let balance = balances(folder.path()).await.remove(0);
    assert_eq!(
        (
            balance.settled_pusd,
            balance.leased_pusd,
            balance.unattributed_pusd
        ),
        (1_234, 0, 0)
    );
}

#[tokio::test]
async fn an_unknown_account_is_refused() {
    let bench = bench(&[account("a", 10, true)]);
    assert!(matches!(
        bench.budgets.hold(&key("b"), 1, NOW).await,
        Err(Refused::Unknown { .. })
    ));
    assert!(matches!(
        bench.budgets.resolve(&[key("a"), key("b")]),
        Err(Refused::Unknown { .. })
    ));
}

#[tokio::test]
async fn a_call_gets_what_it_needs_although_that_is_more_than_one_percent() {
    let bench = bench(&[account("a", 1_000, true)]);
    let whole = bench.budgets.hold(&key("a"), 1_000, NOW).await.unwrap();
    let refused = bench.budgets.hold(&key("a"), 1, NOW).await;
    assert!(
        matches!(
            refused,
            Err(Refused::Spent {
                remaining_pusd: 0,
                ..
            })
        ),
        "{refused:?}"
    );
    drop(whole);
    bench
        .budgets
        .hold(&key("a"), 1_000, NOW)
        .await
        .unwrap()
        .settle(1_000, &info("m"));
    assert!(is_spent(&bench.budgets.hold(&key("a"), 1, NOW).await));
    assert_eq!(bench.settled().await, 1_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn five_hundred_calls_at_once_never_exceed_a_hard_budget_and_use_almost_all_of_it() {
    const LIMIT: i64 = 1_000_000;
    let bench = Arc::new(bench(&[account("a", LIMIT, true)]));
    let open = Arc::new(AtomicI64::new(0));
    let spent = Arc::new(AtomicI64::new(0));
    let tasks: Vec<_> = (0..500_i64)
        .map(|n| {
            let (bench, open, spent) = (bench.clone(), open.clone(), spent.clone());
            tokio::spawn(async move {
                let amount = 200 + n;
                for round in 0.. {
                    let hold = match bench.budgets.hold(&key("a"), amount, NOW).await {
                        Ok(hold) => hold,
                        Err(refused) => {
                            assert!(matches!(refused, Refused::Spent { .. }), "{refused:?}");
                            return;
                        }
                    };
                    let committed = open.fetch_add(amount, Relaxed) + amount + spent.load(Relaxed);
                    // `spent` may count a call that was still in `open`, so only this sum is exact:
                    assert!(open.load(Relaxed) <= LIMIT, "{committed}");
                    if round % 3 == 0 {
                        tokio::task::yield_now().await;
                    }
                    // Some cost all that was held, some less, some nothing.
                    let actual = [amount, amount / 2, 0][(round + n as usize) % 3];
                    spent.fetch_add(actual, Relaxed);
                    open.fetch_sub(amount, Relaxed);
                    if actual == 0 {
                        drop(hold);
                    } else {
                        hold.settle(actual, &info("m"));
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let spent = spent.load(Relaxed);
    assert_eq!(bench.settled().await, spent);
    assert!(spent <= LIMIT, "{spent}");
    assert!(
        spent >= LIMIT * 98 / 100,
        "{spent} of {LIMIT}: the rest is less than a few calls"
    );
    assert_eq!(bench.budgets.status().overshoots, 0);
}

#[tokio::test]
async fn commits_are_groups() {
    let bench = bench(&[account("a", 1_000_000_000, true)]);
    let first = bench.budgets.hold(&key("a"), 1, NOW).await.unwrap();
    let before = bench.budgets.status();
    for _ in 0..5_000 {
        bench
            .budgets
            .hold(&key("a"), 10, NOW)
            .await
            .unwrap()
            .settle(10, &info("m"));
    }
    first.settle(1, &info("m"));
    assert_eq!(bench.settled().await, 50_001);
    let after = bench.budgets.status();
    assert_eq!(after.settlements - before.settlements, 5_001);
    assert!(after.commits - before.commits <= 500, "{after:?}");
    assert_eq!(after.waited - before.waited, 0, "one lease served them all");
}

#[tokio::test]
async fn a_soft_budget_ends_after_the_calls_that_were_open() {
    let bench = bench(&[account("a", 1_000, false)]);
    let mut open = Vec::new();
    for _ in 0..5 {
        // However dear they may be: nothing is spent yet.
        open.push(bench.budgets.hold(&key("a"), 10_000, NOW).await.unwrap());
    }
    for hold in open {
        hold.settle(700, &info("m"));
    }
    assert!(is_spent(&bench.budgets.hold(&key("a"), 1, NOW).await));
    assert_eq!(bench.settled().await, 3_500);
    assert_eq!(bench.budgets.status().overshoots, 0);
}

#[tokio::test]
async fn more_than_was_held_is_booked_and_counted() {
    let bench = bench(&[account("a", 1_000, true)]);
    bench
        .budgets
        .hold(&key("a"), 1_000, NOW)
        .await
        .unwrap()
        .settle(1_500, &info("m"));
    assert_eq!(bench.settled().await, 1_500);
    let status = bench.budgets.status();
    assert_eq!((status.overshoots, status.overshoot_pusd), (1, 500));
    assert!(is_spent(&bench.budgets.hold(&key("a"), 1, NOW).await));
    assert_eq!(bench.balances().await[0].remaining_pusd(), -500);
}

#[tokio::test]
async fn a_new_window_has_new_money_and_late_calls_are_booked_in_theirs() {
    let mut monthly = account("a", 1_000, true);
    monthly.key.period = Period::Month;
    let bench = bench(std::slice::from_ref(&monthly));
    let next = NOW + 20 * DAY; // in December
    let late = bench.budgets.hold(&monthly.key, 900, NOW).await.unwrap();
    assert!(is_spent(&bench.budgets.hold(&monthly.key, 900, NOW).await));
    bench
        .budgets
        .hold(&monthly.key, 900, next)
        .await
        .unwrap()
        .settle(800, &info("m"));
    late.settle(700, &info("m"));
    assert_eq!(bench.settled().await, 1_500);
    let settled: Vec<_> = bench
        .balances()
        .await
        .iter()
        .map(|balance| balance.settled_pusd)
        .collect();
    assert_eq!(settled, [700, 800]);
    // A clock that jumps finds each window as it left it.
    assert!(is_spent(&bench.budgets.hold(&monthly.key, 301, NOW).await));
    bench
        .budgets
        .hold(&monthly.key, 300, NOW)
        .await
        .unwrap()
        .settle(300, &info("m"));
    for month in 2..40 {
        drop(bench.budgets.hold(&monthly.key, 1, NOW + month * 31 * DAY).await);
    }
    assert_eq!(bench.settled().await, 1_800);
}

#[tokio::test]
async fn a_limit_that_changes_is_in_force_at_once() {
    let bench = bench(&[account("a", 1_000_000, true)]);
    bench
        .budgets
        .hold(&key("a"), 500, NOW)
        .await
        .unwrap()
        .settle(500, &info("m"));
    bench.budgets.set(account("a", 600, true));
    assert!(is_spent(&bench.budgets.hold(&key("a"), 101, NOW).await));
    let hundred = bench.budgets.hold(&key("a"), 100, NOW).await.unwrap();
    bench.budgets.set(account("a", 700, true));
    bench
        .budgets
        .hold(&key("a"), 100, NOW)
        .await
        .unwrap()
        .settle(100, &info("m"));
    hundred.settle(100, &info("m"));
    assert!(is_spent(&bench.budgets.hold(&key("a"), 1, NOW).await));
    bench.budgets.set(account("a", 100, false));
    assert!(is_spent(&bench.budgets.hold(&key("a"), 0, NOW).await));
    bench.budgets.set(account("a", 701, false));
    bench
        .budgets
        .hold(&key("a"), 0, NOW)
        .await
        .unwrap()
        .settle(9, &info("m"));
    assert_eq!(bench.settled().await, 709);
    assert_eq!(bench.budgets.accounts(), [account("a", 701, false)]);
}

#[tokio::test]
async fn an_account_that_is_removed_settles_what_is_open() {
    let bench = bench(&[account("a", 1_000, true)]);
    let set = bench.budgets.resolve(&[key("a")]).unwrap();
    let open = bench.budgets.hold(&key("a"), 10, NOW).await.unwrap();
    bench.budgets.remove(&key("a"));
    assert!(matches!(
        bench.budgets.hold(&key("a"), 1, NOW).await,
        Err(Refused::Unknown { .. })
    ));
    assert!(matches!(
        bench.budgets.hold_all(&set, 1, NOW).await,
        Err(Refused::Unknown { .. })
    ));
    open.settle(7, &info("m"));
    assert_eq!(bench.settled().await, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_accounts_are_held_together_or_not_at_all() {
    let accounts = [
        account("a", 10_000, true),
        account("b", 4_000, true),
        account("c", 1_000_000, false),
    ];
    let bench = Arc::new(bench(&accounts));
    let there = bench
        .budgets
        .resolve(&[key("a"), key("b"), key("c"), key("a")])
        .unwrap();
    let back = bench.budgets.resolve(&[key("c"), key("b"), key("a")]).unwrap();
    assert_eq!(there.keys().count(), 3);
    let tasks: Vec<_> = (0..100)
        .map(|n| {
            let bench = bench.clone();
            let set = if n % 2 == 0 { there.clone() } else { back.clone() };
            tokio::spawn(async move {
                let mut settled = 0;
                while let Ok(holds) = bench.budgets.hold_all(&set, 50, NOW).await {
                    assert_eq!(holds.iter().count(), 3);
                    holds.settle(50, &info("m"));
                    settled += 50;
                }
                settled
            })
        })
        .collect();
    let mut settled = 0;
    for task in tasks {
        settled += task.await.unwrap();
    }
    assert_eq!(settled, 4_000, "the smallest is used up");
    assert_eq!(bench.settled().await, 3 * 4_000);
    // What `a` gave to calls that `b` refused has gone back.
    drop(bench.budgets.hold(&key("a"), 6_000, NOW).await.unwrap());
}

#[tokio::test]
async fn spending_is_told_by_account_consumer_model_provider_and_day() {
    let bench = bench(&[account("a", i64::MAX, true), account("b", 1_000_000, true)]);
    let posts = [
        (
            "a",
            10,
            PostingInfo {
                model: "x".into(),
                ..info("")
            },
        ),
        (
            "a",
            30,
            PostingInfo {
                model: "y".into(),
                provider: "q".into(),
                estimated: true,
                ..info("")
            },
        ),
        (
            "a",
            5,
            PostingInfo {
                model: "x".into(),
                consumer: "d".into(),
                tick_ms: NOW + DAY,
                ..info("")
            },
        ),
        (
            "b",
            7,
            PostingInfo {
                model: "x".into(),
                ..info("")
            },
        ),
    ];
    for (name, amount, info) in posts {
        bench
            .budgets
            .hold(&key(name), amount, NOW)
            .await
            .unwrap()
            .settle(amount, &info);
    }
    assert!(bench.budgets.flush().await);
    let reader = LedgerReader::open(&bench.folder.path().join("ledger.sqlite")).unwrap();
    let check = async |query: SpendQuery, expected: &[(&str, i128, i128, u64)]| {
        let rows = reader.spend(query.clone()).await.unwrap().rows;
        let rows: Vec<_> = rows
            .iter()
            .map(|row| (row.of.as_str(), row.amount_pusd, row.estimated_pusd, row.calls))
            .collect();
        assert_eq!(rows, expected, "{query:?}");
    };
    let by = |group| SpendQuery {
        name: Some("a".to_owned()),
        group,
        ..SpendQuery::default()
    };
    check(by(Group::Account), &[("default/red/consumer/a/total", 45, 30, 3)]).await;
    check(by(Group::Model), &[("y", 30, 30, 1), ("x", 15, 0, 2)]).await;
    check(by(Group::Provider), &[("q", 30, 30, 1), ("p", 15, 0, 2)]).await;
    check(by(Group::Consumer), &[("c", 40, 30, 2), ("d", 5, 0, 1)]).await;
    check(
        by(Group::Day),
        &[("2026-11-21", 5, 0, 1), ("2026-11-20", 40, 30, 2)],
    )
    .await;
    let all = SpendQuery {
        group: Group::Model,
        until_ms: Some(NOW + 1),
        ..SpendQuery::default()
    };
    check(all, &[("y", 30, 30, 1), ("x", 17, 0, 2)]).await;
    let none = SpendQuery {
        organisation: Some("other".to_owned()),
        ..SpendQuery::default()
    };
    check(none, &[]).await;
    // Sums of more than 64 bits: exact over rows, and never in the way of the next commit.
    bench.budgets.set(account("big", i64::MAX, false));
    for n in 0..6 {
        let hold = bench.budgets.hold(&key("big"), 1, NOW).await;
        let Ok(hold) = hold else { break };
        let info = PostingInfo {
            model: format!("{n}").into(),
            ..info("")
        };
        hold.settle(i64::MAX / 2, &info);
        assert!(bench.budgets.flush().await);
    }
    let big = SpendQuery {
        name: Some("big".to_owned()),
        group: Group::Provider,
        ..SpendQuery::default()
    };
    check(big, &[("p", 3 * i128::from(i64::MAX / 2), 0, 3)]).await;
    bench.budgets.set(account("small", 10, true));
    bench
        .budgets
        .hold(&key("small"), 10, NOW)
        .await
        .unwrap()
        .settle(10, &info("m"));
    assert!(bench.budgets.flush().await);
}
