//! An account in a file of its own, and questions to it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::ledger::{
    Account, AccountKey, Balance, Budgets, BudgetsConfig, LedgerOptions, LedgerReader, Period, PostingInfo,
    Refused, Scope, SqliteLedger,
};
use tempfile::TempDir;

pub(crate) const NOW: i64 = 1_795_214_605_123; // 2026-11-20T22:43:25Z
pub(crate) const DAY: i64 = 86_400_000;

pub(crate) struct Bench {
    pub(crate) folder: TempDir,
    pub(crate) budgets: Budgets,
}

pub(crate) fn key(name: &str) -> AccountKey {
    AccountKey {
        organisation: "default".into(),
        team: "red".into(),
        scope: Scope::Consumer,
        name: name.into(),
        period: Period::Total,
    }
}

pub(crate) fn account(name: &str, limit_pusd: i64, hard: bool) -> Account {
    Account {
        key: key(name),
        limit_pusd,
        hard,
    }
}

pub(crate) fn info(model: &str) -> PostingInfo {
    PostingInfo {
        model: model.into(),
        provider: "p".into(),
        consumer: "c".into(),
        estimated: false,
        tick_ms: NOW,
    }
}

pub(crate) fn options(folder: &Path, instance: &str) -> LedgerOptions {
    LedgerOptions::new(folder.join("ledger.sqlite"), instance)
}

pub(crate) fn start(options: &LedgerOptions, config: BudgetsConfig) -> Budgets {
    let ledger = SqliteLedger::open(options, NOW).unwrap();
    Budgets::start(Box::new(ledger), config, Arc::new(|| NOW)).unwrap()
}

/// Waits long enough that only a fault of Weir, never a slow machine, ends the wait.
pub(crate) fn patient() -> BudgetsConfig {
    BudgetsConfig {
        wait_ms: 60_000,
        ..BudgetsConfig::default()
    }
}

pub(crate) fn bench(accounts: &[Account]) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let budgets = start(&options(folder.path(), "a"), patient());
    for account in accounts {
        budgets.set(account.clone());
    }
    Bench { folder, budgets }
}

impl Bench {
    pub(crate) async fn balances(&self) -> Vec<Balance> {
        balances(self.folder.path()).await
    }

    pub(crate) async fn settled(&self) -> i64 {
        assert!(self.budgets.flush().await);
        self.balances()
            .await
            .iter()
            .map(|balance| balance.settled_pusd)
            .sum()
    }
}

pub(crate) async fn balances(folder: &Path) -> Vec<Balance> {
    let reader = LedgerReader::open(&folder.join("ledger.sqlite")).unwrap();
    let balances = reader.all_balances().await.unwrap();
    for balance in &balances {
        assert!(balance.is_balanced(), "{balance:?}");
    }
    balances
}

pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn is_spent<T>(result: &Result<T, Refused>) -> bool {
    matches!(result, Err(Refused::Spent { .. }))
}
