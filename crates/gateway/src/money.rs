//! Budgets of the configuration as accounts of the ledger.

use crate::refusal::Refusal;
use hyper::http::StatusCode;
use policy::gateway::document::Period;
use policy::gateway::snapshot::{Budget, Consumer, Snapshot};
use std::collections::HashSet;
use std::sync::Arc;
use store::ledger::{Account, AccountKey, Budgets, Refused, Scope};
use store::outcome::Outcome;

/// The name of the account of a consumer's budget.
pub fn account_key(consumer: &Consumer, budget: &Budget) -> AccountKey {
    AccountKey {
        organisation: Arc::clone(&consumer.organisation),
        team: Arc::clone(&consumer.team),
        scope: Scope::Consumer,
        name: Arc::clone(&consumer.name),
        period: match budget.period {
            Period::Day => store::ledger::Period::Day,
            Period::Month => store::ledger::Period::Month,
            Period::Total => store::ledger::Period::Total,
        },
    }
}

/// Makes the accounts of the process those of a configuration.
pub fn set_accounts(budgets: &Budgets, snapshot: &Snapshot) {
    let mut wanted = HashSet::new();
    for consumer in snapshot.consumers.values() {
        let Some(budget) = &consumer.budget else { continue };
        let key = account_key(consumer, budget);
        wanted.insert(key.clone());
        budgets.set(Account {
            key,
            limit_pusd: budget.limit.pico_usd(),
            hard: budget.is_hard,
        });
    }
    for account in budgets.accounts() {
        if !wanted.contains(&account.key) {
            budgets.remove(&account.key);
        }
    }
}

/// What a client is told who gets no money.
pub fn refusal(refused: &Refused) -> Refusal {
    let (outcome, status, code) = match refused {
        Refused::Spent { .. } => (
            Outcome::BudgetExceeded,
            StatusCode::PAYMENT_REQUIRED,
            "budget_exceeded",
        ),
        Refused::Busy { .. } => (Outcome::Overloaded, StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
        Refused::Unavailable { .. } | Refused::Unknown { .. } => (
            Outcome::LedgerUnavailable,
            StatusCode::SERVICE_UNAVAILABLE,
            "ledger_unavailable",
        ),
    };
    let mut refusal = Refusal::new(outcome, status, code, refused.to_string());
    if status == StatusCode::SERVICE_UNAVAILABLE {
        refusal.retry_after_s = Some(1);
    }
    refusal
}
