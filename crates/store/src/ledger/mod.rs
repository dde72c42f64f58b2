//! Budgets: leases and postings in a file, holds in memory.
//!
//! A *hold* is what one open call may still cost; it is taken from a *lease*, money that a running Weir
//! took out of an account in advance and that counts as spent from then on. What calls really cost is
//! *settled* as postings, many in one commit. So at every instant, for each account and window:
//!
//! > debits = postings + what is left of open leases
//!
//! and a crash loses no money: what was leased stays debited, and is booked as `unattributed` when the
//! next run of the same instance starts or the lease expires. A run thought dead that settles after all
//! moves its share of it back under the right names.

mod account;
mod budgets;
mod pool;
mod query;
mod sqlite;
mod thread;

pub use account::{Account, AccountKey, Period, PostingInfo, Scope};
pub use budgets::{
    ACCOUNTS_PER_CALL_MAX, AccountSet, BudgetStatus, Budgets, BudgetsConfig, GROUP_MS, Hold, Holds, Refused,
    WAITING_MAX, WhenUnavailable, system_clock,
};
pub use pool::OTHER;
pub use query::{Balance, Group, LedgerReader, ROWS_MAX, Spend, SpendQuery, Spending};
pub use sqlite::{LedgerOptions, SqliteLedger};

use crate::error::StoreError;
use std::sync::Arc;

/// Postings are summed by this much time.
pub const TICK_MS: i64 = crate::civil::MINUTE_MS;
/// A lease takes this part of what remains, unless one call needs more.
pub const LEASE_SHARE: i64 = 100;

/// What was settled in one tick under one set of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posting {
    /// Under which names, and in which tick.
    pub info: PostingInfo,
    /// How much.
    pub amount_pusd: i64,
    /// Of how many calls.
    pub calls: u64,
}

/// What happened to one account in one window since the last commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The account as configured now.
    pub account: Arc<Account>,
    /// The window ([`Period::window_ms`]).
    pub window_ms: i64,
    /// What was settled.
    pub postings: Vec<Posting>,
    /// How much of that came from the lease; the rest is debited on top.
    pub used_pusd: i64,
    /// How much of the lease is given back.
    pub returned_pusd: i64,
    /// How much is asked for.
    pub need_pusd: Option<i64>,
    /// How much of the lease no call holds: a lease is filled up, not added to.
    pub free_pusd: i64,
}

/// Changes that are committed together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Counts up. One that was committed is not booked again, so that a batch may be sent again after an
    /// error that leaves open what happened.
    pub number: u64,
    /// No account and window is in it twice.
    pub changes: Vec<Change>,
}

/// The answer to a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// How much the lease grew.
    pub granted_pusd: i64,
    /// What the account has left after it. Negative where it is overdrawn.
    pub remaining_pusd: i64,
}

/// A book of accounts, as one run of one instance writes it. Its methods block.
pub trait Ledger: Send + std::fmt::Debug {
    /// Books a batch in one transaction: first what was settled and given back, then what is asked for. The
    /// answers are in the order of the changes.
    fn commit(&mut self, batch: &Batch, now_ms: i64) -> Result<Vec<Grant>, StoreError>;
    /// Says that this run is alive, and books what expired runs had leased as unattributed. Answers how much.
    fn renew(&mut self, now_ms: i64) -> Result<i64, StoreError>;
    /// What earlier runs had leased and never settled, booked as unattributed when this one started.
    fn unattributed_at_start_pusd(&self) -> i64;
    /// Ends this run.
    fn close(&mut self, now_ms: i64) -> Result<(), StoreError>;
}
