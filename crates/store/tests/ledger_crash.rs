//! A process that is killed at any point leaves a ledger that balances, and loses no money.
//!
//! The test starts itself again as the process to be killed.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::ledger::{
    Account, AccountKey, Balance, Budgets, BudgetsConfig, LedgerOptions, LedgerReader, Period, PostingInfo,
    Scope, SqliteLedger, system_clock,
};

const CHILD: &str = "WEIR_TEST_LEDGER_TO_CRASH";
const LIMIT: i64 = 1_000_000_000;
const CRASHES: u64 = 100;

fn accounts() -> Vec<Account> {
    let account = |name: &str, period, hard| Account {
        key: AccountKey {
            organisation: "default".into(),
            team: "".into(),
            scope: Scope::Consumer,
            name: name.into(),
            period,
        },
        limit_pusd: LIMIT,
        hard,
    };
    vec![
        account("a", Period::Total, true),
        account("a", Period::Month, true),
        account("b", Period::Day, false),
    ]
}

fn open(path: &Path) -> Budgets {
    let clock = system_clock();
    let ledger = SqliteLedger::open(&LedgerOptions::new(path, "crashes"), clock()).unwrap();
    let budgets = Budgets::start(Box::new(ledger), BudgetsConfig::default(), clock).unwrap();
    for account in accounts() {
        budgets.set(account);
    }
    budgets
}

/// Runs only as the process to be killed: holds and settles for ever, and says what is surely on disk.
#[test]
#[expect(clippy::print_stdout, reason = "what the test that started it reads")]
fn process_to_be_killed() {
    let Some(path) = std::env::var_os(CHILD) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let budgets = Arc::new(open(Path::new(&path)));
        let keys: Vec<_> = accounts().into_iter().map(|account| account.key).collect();
        let set = budgets.resolve(&keys).unwrap();
        println!("\nready");
        let mut settled: i64 = 0;
        for n in 0_i64.. {
            let now_ms = system_clock()();
            let amount = 1 + n * 7_919 % 5_000;
            let Ok(holds) = budgets.hold_all(&set, amount, now_ms).await else {
                continue;
            };
            let info = PostingInfo {
                model: format!("m{}", n % 3).into(),
                provider: "p".into(),
                consumer: "a".into(),
                estimated: n % 2 == 0,
                tick_ms: now_ms,
            };
            match n % 5 {
                0 => drop(holds),
                1 => std::mem::forget(holds),
                _ => {
                    settled += amount / 2;
                    holds.settle(amount / 2, &info);
                }
            }
            if n % 64 == 0 && budgets.flush().await {
                println!("\nsettled {settled}");
            }
        }
    });
}

fn balances(path: &Path) -> Vec<Balance> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let balances = runtime
        .block_on(LedgerReader::open(path).unwrap().all_balances())
        .unwrap();
    for balance in &balances {
        assert!(balance.is_balanced(), "{balance:?}");
        assert!(
            !balance.key.name.starts_with('a') || balance.debited_pusd <= LIMIT,
            "{balance:?}"
        );
    }
    balances
}

#[test]
fn the_ledger_balances_after_any_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.sqlite");
    drop(open(&path));
    let mut unattributed_before = 0;
    let mut settled_before = 0;
    let mut lost = 0;
    let mut grown = 0;
    for crash in 0..CRASHES {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["process_to_be_killed", "--exact", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while line != "ready\n" {
            line.clear();
            assert_ne!(lines.read_line(&mut line).unwrap(), 0, "the process ended early");
        }
        // Another point each time; some long enough for several groups.
        let until = Instant::now() + Duration::from_micros(crash * 7_919 % 60_000);
        while Instant::now() < until {
            balances(&path);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let mut said = String::new();
        lines.read_to_string(&mut said).unwrap();
        let said = said
            .lines()
            .rev()
            .filter_map(|line| line.strip_prefix("settled "))
            .find_map(|n| n.parse().ok());
        let said: i64 = said.unwrap_or(0);

        let found = balances(&path);
        let budgets = open(&path);
        lost += i64::from(budgets.status().unattributed_pusd > 0);
        drop(budgets);
        let after = balances(&path);
        assert_eq!(after.iter().map(|balance| balance.leased_pusd).sum::<i64>(), 0);
        let sum = |balances: &[Balance]| balances.iter().map(|balance| balance.debited_pusd).sum::<i64>();
        assert_eq!(
            sum(&found),
            sum(&after),
            "a crash neither makes money nor loses it"
        );
        // What was said to be on disk is there, under its names, in the first account as in all.
        let total = after.iter().find(|balance| balance.key.period == Period::Total);
        let (settled, unattributed) = total.map_or((0, 0), |balance| {
            (balance.settled_pusd, balance.unattributed_pusd)
        });
        let named = settled - unattributed - (settled_before - unattributed_before);
        assert!(named >= said, "crash {crash}: {named} on disk, {said} promised");
        grown += i64::from(named > 0);
        (settled_before, unattributed_before) = (settled, unattributed);
    }
    assert!(
        lost > CRASHES as i64 / 2,
        "most crashes leave a lease open: {lost}"
    );
    assert!(
        grown > CRASHES as i64 / 4,
        "many runs come to settle something: {grown}"
    );
}
