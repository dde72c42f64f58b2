//! Several processes, dead ones, and files that are full, locked or damaged; and old rows.

use crate::common::{DAY, NOW, account, balances, info, is_spent, key, options, patient, start, until};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::ledger::{
    Budgets, BudgetsConfig, Group, Ledger, LedgerOptions, LedgerReader, PostingInfo, Refused, SpendQuery,
    SqliteLedger, WhenUnavailable, system_clock,
};

#[tokio::test]
async fn two_processes_share_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two] = ["a", "b"].map(|name| start(&options(folder.path(), name), patient()));
    for budgets in [&one, &two] {
        budgets.set(account("a", 100_000, true));
    }
    let mut settled = 0;
    let mut refused = 0;
    while refused < 2 {
        refused = 0;
        for budgets in [&one, &two] {
            match budgets.hold(&key("a"), 100, NOW).await {
                Ok(hold) => {
                    hold.settle(90, &info("m"));
                    settled += 90;
                }
                Err(Refused::Spent { .. }) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert!(one.flush().await && two.flush().await);
    let balance = balances(folder.path()).await.remove(0);
    assert_eq!(balance.settled_pusd, settled);
    assert!((99_000..=100_000).contains(&settled), "{settled}");
}

#[tokio::test]
async fn a_run_that_is_replaced_settles_in_its_own_name_after_all() {
    let folder = tempfile::tempdir().unwrap();
    let old = start(&options(folder.path(), "same"), patient());
    old.set(account("a", 1_000, true));
    let open = [
        old.hold(&key("a"), 300, NOW).await.unwrap(),
        old.hold(&key("a"), 200, NOW).await.unwrap(),
        old.hold(&key("a"), 100, NOW).await.unwrap(),
    ];
    let new = start(&options(folder.path(), "same"), patient());
    new.set(account("a", 1_000, true));
    assert_eq!(new.status().unattributed_pusd, 600);
    let balance = balances(folder.path()).await.remove(0);
    assert_eq!((balance.settled_pusd, balance.unattributed_pusd), (600, 600));
    assert!(
        is_spent(&new.hold(&key("a"), 401, NOW).await),
        "what is lost counts as spent"
    );
    let [exact, less, dropped] = open;
    exact.settle(300, &info("m"));
    less.settle(150, &info("m"));
    drop(dropped);
    drop(old);
    let balance = balances(folder.path()).await.remove(0);
    assert_eq!((balance.settled_pusd, balance.unattributed_pusd), (450, 0));
    // The ledger's answer that so much is not there is believed for a moment.
    let mut hold = None;
    until("what came back is used", async || {
        hold = new.hold(&key("a"), 550, NOW).await.ok();
        hold.is_some()
    })
    .await;
    hold.unwrap().settle(550, &info("m"));
    assert!(new.flush().await);
    assert_eq!(balances(folder.path()).await.remove(0).settled_pusd, 1_000);
}

#[tokio::test]
async fn a_lease_that_expires_is_booked_by_another_run() {
    let folder = tempfile::tempdir().unwrap();
    let dead = start(
        &options(folder.path(), "dead"),
        BudgetsConfig {
            renew_ms: 3_600_000,
            ..patient()
        },
    );
    dead.set(account("a", 1_000, true));
    let hold = dead.hold(&key("a"), 400, NOW).await.unwrap();
    let late = NOW + 3_600_000;
    let ledger = SqliteLedger::open(&options(folder.path(), "alive"), late).unwrap();
    let alive = Budgets::start(Box::new(ledger), patient(), Arc::new(move || late)).unwrap();
    assert_eq!(alive.status().unattributed_pusd, 400);
    assert_eq!(balances(folder.path()).await[0].unattributed_pusd, 400);
    hold.settle(400, &info("m"));
    assert!(dead.flush().await, "it was only slow");
    assert_eq!(balances(folder.path()).await[0].unattributed_pusd, 0);
}

#[tokio::test]
async fn a_run_that_slept_for_weeks_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let asleep = start(
        &options(folder.path(), "asleep"),
        BudgetsConfig {
            renew_ms: 3_600_000,
            ..patient()
        },
    );
    asleep.set(account("a", 1_000, true));
    let hold = asleep.hold(&key("a"), 400, NOW).await.unwrap();
    // The first renewal ends its run, one a week later forgets it.
    for weeks in [1, 3] {
        let later = NOW + weeks * 7 * DAY;
        let mut other = SqliteLedger::open(&options(folder.path(), "other"), later).unwrap();
        other.renew(later).unwrap();
        other.close(later).unwrap();
    }
    hold.settle(100, &info("m"));
    assert!(asleep.flush().await, "{:?}", asleep.status());
    let balance = balances(folder.path()).await.remove(0);
    assert_eq!(
        (balance.settled_pusd, balance.unattributed_pusd),
        (500, 400),
        "what is forgotten stays spent"
    );
    asleep
        .hold(&key("a"), 500, NOW)
        .await
        .unwrap()
        .settle(500, &info("m"));
    assert!(asleep.flush().await);
}

#[tokio::test]
async fn idle_leases_go_back() {
    let folder = tempfile::tempdir().unwrap();
    let budgets = start(
        &options(folder.path(), "a"),
        BudgetsConfig {
            renew_ms: 20,
            ..patient()
        },
    );
    budgets.set(account("a", 1_000_000, true));
    budgets
        .hold(&key("a"), 10, NOW)
        .await
        .unwrap()
        .settle(10, &info("m"));
    until("the lease goes back", async || {
        balances(folder.path()).await[0].leased_pusd == 0
    })
    .await;
    budgets
        .hold(&key("a"), 999_990, NOW)
        .await
        .unwrap()
        .settle(999_990, &info("m"));
    assert!(budgets.flush().await);
}

async fn fill(budgets: &Budgets) {
    for n in 0..20_000 {
        let Ok(hold) = budgets.hold(&key("filler"), 1, NOW).await else {
            return;
        };
        hold.settle(1, &info(&format!("{n}{}", "x".repeat(500))));
        if n % 100 == 99 && !budgets.flush().await {
            return;
        }
    }
    panic!("the file never became full");
}

#[tokio::test]
async fn a_full_disk_refuses_hard_budgets_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = LedgerOptions {
        pages_max: Some(40),
        ..options(folder.path(), "a")
    };
    let budgets = start(
        &tiny,
        BudgetsConfig {
            wait_ms: 2_000,
            ..BudgetsConfig::default()
        },
    );
    for (name, hard) in [("filler", true), ("hard", true), ("soft", false)] {
        budgets.set(account(name, 1_000_000_000, hard));
    }
    let before = budgets.hold(&key("soft"), 1, NOW).await.unwrap();
    fill(&budgets).await;
    let status = budgets.status();
    assert!(status.unavailable && status.failures > 0, "{status:?}");
    assert!(status.last_error.unwrap().contains("full"));
    let begun = Instant::now();
    let refused = budgets.hold(&key("hard"), 1, NOW).await;
    assert!(matches!(refused, Err(Refused::Unavailable { .. })), "{refused:?}");
    // The soft one goes on from what it holds.
    before.settle(1, &info("m"));
    let last = budgets.hold(&key("soft"), 1, NOW).await.unwrap();
    last.settle(1_000_000_000, &info("m"));
    let refused = budgets.hold(&key("soft"), 1, NOW).await;
    assert!(matches!(refused, Err(Refused::Unavailable { .. })), "{refused:?}");
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "nobody waits for a ledger known to be away"
    );
    assert_eq!(budgets.status().refused_unavailable, 2);
    balances(folder.path()).await;
}

#[tokio::test]
async fn a_locked_file_holds_nobody_up_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = BudgetsConfig {
        wait_ms: 50,
        when_unavailable: WhenUnavailable::Pass,
        ..BudgetsConfig::default()
    };
    let budgets = start(&options(folder.path(), "a"), config);
    budgets.set(account("hard", 1_000_000, true));
    budgets.set(account("soft", 1_000_000, false));
    budgets
        .hold(&key("hard"), 10, NOW)
        .await
        .unwrap()
        .settle(10, &info("m"));
    assert!(budgets.flush().await);
    let other = rusqlite::Connection::open(folder.path().join("ledger.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begun = Instant::now();
    // From the lease: no matter who writes to the file.
    budgets
        .hold(&key("hard"), 100, NOW)
        .await
        .unwrap()
        .settle(100, &info("m"));
    assert!(begun.elapsed() < Duration::from_secs(1));
    let refused = budgets.hold(&key("hard"), 500_000, NOW).await;
    assert!(matches!(refused, Err(Refused::Unavailable { .. })), "{refused:?}");
    budgets
        .hold(&key("soft"), 7, NOW)
        .await
        .unwrap()
        .settle(7, &info("m"));
    assert!(
        begun.elapsed() < Duration::from_millis(1_500),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(budgets.status().passed_unchecked, 1);
    other.execute_batch("ROLLBACK").unwrap();
    until("the ledger is back", async || budgets.flush().await).await;
    let settled: i64 = balances(folder.path())
        .await
        .iter()
        .map(|balance| balance.settled_pusd)
        .sum();
    assert_eq!(settled, 117);
    drop(budgets.hold(&key("hard"), 500_000, NOW).await.unwrap());
}

#[tokio::test]
async fn a_damaged_ledger_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("ledger.sqlite"),
        b"this is no database, and long enough to say so",
    )
    .unwrap();
    let ledger = SqliteLedger::open(&options(folder.path(), "a"), NOW).unwrap();
    let aside = ledger.set_aside().unwrap().clone();
    assert!(
        std::fs::read(aside.kept_as)
            .unwrap()
            .starts_with(b"this is no database")
    );
    let budgets = Budgets::start(Box::new(ledger), patient(), system_clock()).unwrap();
    budgets.set(account("a", 10, true));
    budgets
        .hold(&key("a"), 10, NOW)
        .await
        .unwrap()
        .settle(10, &info("m"));
    assert!(budgets.flush().await);
}

#[tokio::test]
async fn old_postings_are_summed_by_day() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path(), "a");
    let budgets = start(&options, patient());
    budgets.set(account("a", 1_000_000, true));
    for minute in 0..200 {
        let tick_ms = NOW - 2 * DAY + minute * 60_000;
        budgets
            .hold(&key("a"), 1, NOW)
            .await
            .unwrap()
            .settle(1, &PostingInfo { tick_ms, ..info("m") });
    }
    drop(budgets);
    let later = NOW + 100 * DAY;
    let count = || {
        let file = rusqlite::Connection::open(folder.path().join("ledger.sqlite")).unwrap();
        file.query_row("SELECT count(*) FROM posting", [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    assert_eq!(count(), 200);
    let config = BudgetsConfig {
        renew_ms: 5,
        ..patient()
    };
    let ledger = SqliteLedger::open(&options, later).unwrap();
    let budgets = Budgets::start(Box::new(ledger), config, Arc::new(move || later)).unwrap();
    until("both days are folded", async || count() == 2).await;
    drop(budgets);
    assert_eq!(balances(folder.path()).await[0].settled_pusd, 200);
    let reader = LedgerReader::open(&folder.path().join("ledger.sqlite")).unwrap();
    let spending = reader
        .spend(SpendQuery {
            group: Group::Day,
            ..SpendQuery::default()
        })
        .await
        .unwrap();
    assert_eq!(spending.rows.iter().map(|row| row.calls).sum::<u64>(), 200);
    assert_eq!(spending.rows[0].of, "2026-11-19");
}
