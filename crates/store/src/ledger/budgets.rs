//! Budgets in memory: what the way of a request asks.
//!
//! A hold is taken from a lease under one short lock. Where the lease does not suffice, the thread of the
//! ledger is asked for more and the caller waits, no longer than [`BudgetsConfig::wait_ms`]. That thread
//! gathers what was settled and commits it in groups, at most [`GROUP_MS`] later.

use super::pool::{Pool, Reply, State};
use super::thread;
use super::{Account, AccountKey, Ledger, PostingInfo};
use crate::error::StoreError;
use crate::json;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A settlement is on disk at most this much later, if the disk keeps up.
pub const GROUP_MS: u64 = 20;
/// Calls that may wait for one account's lease; what comes on top is refused.
pub const WAITING_MAX: usize = 4_096;
/// Accounts one call may be held against.
pub const ACCOUNTS_PER_CALL_MAX: usize = 16;

/// What a soft budget does with calls when its lease is spent and the ledger cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenUnavailable {
    /// Refuses them.
    #[default]
    Refuse,
    /// Lets them pass; their cost is booked when the ledger is back.
    Pass,
}

/// How budgets behave.
#[derive(Clone, Debug)]
pub struct BudgetsConfig {
    /// How long a call waits for leases at most, of all its accounts together.
    pub wait_ms: u64,
    /// What soft budgets do without a ledger. Hard ones refuse.
    pub when_unavailable: WhenUnavailable,
    /// How often leases are renewed and idle ones given back; well below the time of a lease.
    pub renew_ms: u64,
}

impl Default for BudgetsConfig {
    fn default() -> Self {
        Self {
            wait_ms: 250,
            when_unavailable: WhenUnavailable::Refuse,
            renew_ms: 15_000,
        }
    }
}

/// Why there is no hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The budget is spent, or what is left does not cover the call.
    #[error("the budget of {} `{}` is spent for this {}", key.scope.as_str(), key.name, key.period.as_str())]
    Spent {
        /// Which.
        key: AccountKey,
        /// What is left of it, where that is known.
        remaining_pusd: i64,
    },
    /// The ledger cannot be asked, and the budget is one that refuses then.
    #[error("the budget of {} `{}` cannot be checked: the ledger does not answer", key.scope.as_str(), key.name)]
    Unavailable {
        /// Which.
        key: AccountKey,
    },
    /// There is no such account.
    #[error("there is no budget {key}")]
    Unknown {
        /// Which.
        key: AccountKey,
    },
    /// Too many calls wait for this account, or too many accounts are asked for at once.
    #[error("too many calls wait for the budget of {} `{}`", key.scope.as_str(), key.name)]
    Busy {
        /// Which.
        key: AccountKey,
    },
}

/// What has happened, counted since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) holds: AtomicU64,
    pub(super) spent: AtomicU64,
    pub(super) unavailable: AtomicU64,
    pub(super) busy: AtomicU64,
    pub(super) waited: AtomicU64,
    pub(super) passed: AtomicU64,
    pub(super) settlements: AtomicU64,
    pub(super) overshoots: AtomicU64,
    pub(super) overshoot_pusd: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) merged: AtomicU64,
}

/// The state of the budgets of this process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BudgetStatus {
    /// Holds given.
    pub holds: u64,
    /// Holds refused because the money is spent.
    pub refused_spent: u64,
    /// Holds refused because the ledger did not answer.
    pub refused_unavailable: u64,
    /// Holds refused because too many waited.
    pub refused_busy: u64,
    /// Holds that had to wait for a lease.
    pub waited: u64,
    /// Calls that passed a soft budget without the ledger.
    pub passed_unchecked: u64,
    /// Holds settled.
    pub settlements: u64,
    /// Settlements of hard accounts above what was held.
    pub overshoots: u64,
    /// By how much in all.
    #[serde(rename = "overshoot_usd", serialize_with = "json::count")]
    pub overshoot_pusd: u64,
    /// Commits of the ledger.
    pub commits: u64,
    /// Commits and renewals that failed; what they held is kept and tried again.
    pub failures: u64,
    /// Settlements whose names were dropped because too many different ones waited for the ledger.
    pub names_merged: u64,
    /// Does the ledger not answer?
    pub unavailable: bool,
    /// What it said last when it did not.
    pub last_error: Option<String>,
    /// Money that earlier runs had leased and never settled, booked as unattributed since this one started.
    #[serde(rename = "unattributed_usd", serialize_with = "json::amount")]
    pub unattributed_pusd: i64,
}

/// One account in memory.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: AccountKey,
    /// Is it in the inbox? Set by who puts it there, cleared before it is looked at.
    pub(super) queued: AtomicBool,
    state: Mutex<State>,
}

impl Entry {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock panics half-way through a change of sums.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread of the ledger is to do. Bounded by the number of accounts, and by who awaits a flush.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// Accounts with something to book or to ask.
    pub(super) changed: Vec<Arc<Entry>>,
    /// Someone waits: do not gather any longer.
    pub(super) is_urgent: bool,
    pub(super) flushes: Vec<oneshot::Sender<bool>>,
    pub(super) is_stopping: bool,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) accounts: RwLock<HashMap<AccountKey, Arc<Entry>>>,
    pub(super) config: BudgetsConfig,
    pub(super) inbox: Mutex<Inbox>,
    pub(super) wake: Condvar,
    pub(super) counters: Counters,
    /// The last commit failed.
    pub(super) is_down: AtomicBool,
    pub(super) last_error: Mutex<Option<String>>,
    pub(super) unattributed_pusd: std::sync::atomic::AtomicI64,
}

impl Shared {
    pub(super) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn queue(&self, entry: &Arc<Entry>, is_urgent: bool) {
        let is_new = !entry.queued.swap(true, Relaxed);
        if !is_new && !is_urgent {
            return;
        }
        let mut inbox = self.inbox();
        if is_new {
            inbox.changed.push(entry.clone());
        }
        let wakes = (is_new && inbox.changed.len() == 1) || (is_urgent && !inbox.is_urgent);
        inbox.is_urgent |= is_urgent;
        drop(inbox);
        if wakes {
            self.wake.notify_one();
        }
    }

    pub(super) fn all(&self) -> Vec<Arc<Entry>> {
        let accounts = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
        accounts.values().cloned().collect()
    }

    /// The answer where the ledger cannot be asked.
    fn without_ledger(self: &Arc<Self>, entry: &Arc<Entry>, state: &mut State, window_ms: i64) -> Reply {
        if !state.account.hard && self.config.when_unavailable == WhenUnavailable::Pass {
            self.counters.passed.fetch_add(1, Relaxed);
            return Ok(self.hold(entry, state.pool(window_ms), 0));
        }
        self.counters.unavailable.fetch_add(1, Relaxed);
        Err(Refused::Unavailable {
            key: entry.key.clone(),
        })
    }

    /// Takes `backed_pusd` out of what is free. The caller has seen that it is there.
    pub(super) fn hold(self: &Arc<Self>, entry: &Arc<Entry>, pool: &mut Pool, backed_pusd: i64) -> Hold {
        pool.free_pusd -= backed_pusd;
        pool.open_calls += 1;
        self.counters.holds.fetch_add(1, Relaxed);
        Hold {
            shared: self.clone(),
            entry: entry.clone(),
            window_ms: pool.window_ms,
            backed_pusd,
            is_open: true,
        }
    }

    fn try_hold(self: &Arc<Self>, entry: &Arc<Entry>, amount_pusd: i64, now_ms: i64) -> Step {
        let amount_pusd = amount_pusd.max(0);
        let mut state = entry.lock();
        if state.is_removed {
            return Step::Done(Err(Refused::Unknown {
                key: entry.key.clone(),
            }));
        }
        let window_ms = state.window_of(entry.key.period, now_ms);
        let hard = state.account.hard;
        let pool = state.pool(window_ms);
        if pool.waiting.is_empty()
            && let Some(backed_pusd) = pool.covers(hard, amount_pusd)
        {
            return Step::Done(Ok(self.hold(entry, pool, backed_pusd)));
        }
        if let Some(remaining_pusd) = pool.known_to_lack(hard, amount_pusd) {
            self.counters.spent.fetch_add(1, Relaxed);
            return Step::Done(Err(Refused::Spent {
                key: entry.key.clone(),
                remaining_pusd,
            }));
        }
        if self.is_down.load(Relaxed) {
            return Step::Done(self.without_ledger(entry, &mut state, window_ms));
        }
        let pool = state.pool(window_ms);
        if pool.waiting.len() >= WAITING_MAX {
            pool.forget_who_left();
        }
        if pool.waiting.len() >= WAITING_MAX {
            self.counters.busy.fetch_add(1, Relaxed);
            return Step::Done(Err(Refused::Busy {
                key: entry.key.clone(),
            }));
        }
        let answer = pool.wait(amount_pusd);
        drop(state);
        self.counters.waited.fetch_add(1, Relaxed);
        self.queue(entry, true);
        Step::Wait { answer, window_ms }
    }
}

enum Step {
    Done(Reply),
    Wait {
        answer: oneshot::Receiver<Reply>,
        window_ms: i64,
    },
}

/// Accounts looked up once, in the one order in which they are always taken.
#[derive(Clone, Debug, Default)]
pub struct AccountSet(Arc<[Arc<Entry>]>);

impl AccountSet {
    /// Is a call held against nothing?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Which accounts.
    pub fn keys(&self) -> impl Iterator<Item = &AccountKey> {
        self.0.iter().map(|entry| &entry.key)
    }
}

/// The budgets of this process. Dropping it gives back what is free, commits, and ends the thread.
#[derive(Debug)]
pub struct Budgets {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Budgets {
    /// Starts the thread that owns the ledger. `clock` tells the milliseconds since 1970; leases live by it.
    pub fn start(
        ledger: Box<dyn Ledger>,
        config: BudgetsConfig,
        clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    ) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared {
            accounts: RwLock::default(),
            config,
            inbox: Mutex::default(),
            wake: Condvar::new(),
            counters: Counters::default(),
            is_down: AtomicBool::new(false),
            last_error: Mutex::new(None),
            unattributed_pusd: ledger.unattributed_at_start_pusd().into(),
        });
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("weir-ledger".to_owned())
            .spawn(move || thread::run(&of_thread, ledger, &*clock))
            .map_err(|source| StoreError::File {
                action: "start a thread for",
                path: "weir-ledger".into(),
                source,
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Adds an account, or changes its limit and mode while calls are open.
    pub fn set(&self, account: Account) {
        let key = account.key.clone();
        let mut accounts = self
            .shared
            .accounts
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = accounts.get(&key) else {
            let state = Mutex::new(State::new(account));
            accounts.insert(
                key.clone(),
                Arc::new(Entry {
                    key,
                    queued: AtomicBool::new(false),
                    state,
                }),
            );
            return;
        };
        let entry = entry.clone();
        drop(accounts);
        let mut state = entry.lock();
        if *state.account == account {
            return;
        }
        state.change(account);
        drop(state);
        self.shared.queue(&entry, false);
    }

    /// Takes an account away. Calls that are open settle as before.
    pub fn remove(&self, key: &AccountKey) {
        let mut accounts = self
            .shared
            .accounts
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = accounts.remove(key) else { return };
        drop(accounts);
        let mut state = entry.lock();
        state.is_removed = true;
        state.give_back_all();
        let waiters: Vec<_> = state.waiters().collect();
        drop(state);
        for waiter in waiters {
            drop(waiter.reply.send(Err(Refused::Unknown { key: key.clone() })));
        }
        self.shared.queue(&entry, false);
    }

    /// The accounts as configured, by key.
    pub fn accounts(&self) -> Vec<Account> {
        let all = self.shared.all();
        let mut accounts: Vec<Account> = all.iter().map(|entry| (*entry.lock().account).clone()).collect();
        accounts.sort_by(|a, b| a.key.cmp(&b.key));
        accounts
    }

    /// Looks accounts up, so that calls need not.
    pub fn resolve(&self, keys: &[AccountKey]) -> Result<AccountSet, Refused> {
        let accounts = self
            .shared
            .accounts
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let mut found = keys
            .iter()
            .map(|key| {
                accounts
                    .get(key)
                    .cloned()
                    .ok_or_else(|| Refused::Unknown { key: key.clone() })
            })
            .collect::<Result<Vec<_>, _>>()?;
        found.sort_by(|a, b| a.key.cmp(&b.key));
        found.dedup_by(|a, b| a.key == b.key);
        match found.get(ACCOUNTS_PER_CALL_MAX) {
            Some(beyond) => Err(Refused::Busy {
                key: beyond.key.clone(),
            }),
            None => Ok(AccountSet(found.into())),
        }
    }

    /// Holds `amount_pusd` of one account: what the call may cost at most. A soft account is only asked
    /// whether something is left.
    pub async fn hold(&self, key: &AccountKey, amount_pusd: i64, now_ms: i64) -> Result<Hold, Refused> {
        let entry = self
            .entry(key)
            .ok_or_else(|| Refused::Unknown { key: key.clone() })?;
        self.hold_entry(&entry, amount_pusd, now_ms, self.deadline())
            .await
    }

    /// Holds the same amount of several accounts, or of none. They are taken in one order by all calls, and
    /// no call waits for another to end, only for the ledger: so none waits for ever.
    pub async fn hold_all(&self, set: &AccountSet, amount_pusd: i64, now_ms: i64) -> Result<Holds, Refused> {
        let deadline = self.deadline();
        let mut holds = Vec::with_capacity(set.0.len());
        for entry in set.0.iter() {
            holds.push(self.hold_entry(entry, amount_pusd, now_ms, deadline).await?);
        }
        Ok(Holds(holds))
    }

    fn entry(&self, key: &AccountKey) -> Option<Arc<Entry>> {
        self.shared
            .accounts
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .cloned()
    }

    fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.shared.config.wait_ms)
    }

    async fn hold_entry(
        &self,
        entry: &Arc<Entry>,
        amount_pusd: i64,
        now_ms: i64,
        deadline: Instant,
    ) -> Result<Hold, Refused> {
        let shared = &self.shared;
        let (answer, window_ms) = match shared.try_hold(entry, amount_pusd, now_ms) {
            Step::Done(reply) => return reply,
            Step::Wait { answer, window_ms } => (answer, window_ms),
        };
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(reply)) => reply,
            // No answer in time, or no thread any more.
            Ok(Err(_)) | Err(_) => shared.without_ledger(entry, &mut entry.lock(), window_ms),
        }
    }

    /// Waits until what was settled before is committed. `false` where the ledger fails.
    pub async fn flush(&self) -> bool {
        let (done, answer) = oneshot::channel();
        self.shared.inbox().flushes.push(done);
        self.shared.wake.notify_one();
        answer.await.unwrap_or(false)
    }

    /// What has happened so far.
    pub fn status(&self) -> BudgetStatus {
        let counters = &self.shared.counters;
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        BudgetStatus {
            holds: count(&counters.holds),
            refused_spent: count(&counters.spent),
            refused_unavailable: count(&counters.unavailable),
            refused_busy: count(&counters.busy),
            waited: count(&counters.waited),
            passed_unchecked: count(&counters.passed),
            settlements: count(&counters.settlements),
            overshoots: count(&counters.overshoots),
            overshoot_pusd: count(&counters.overshoot_pusd),
            commits: count(&counters.commits),
            failures: count(&counters.failures),
            names_merged: count(&counters.merged),
            unavailable: self.shared.is_down.load(Relaxed),
            last_error: self
                .shared
                .last_error
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            unattributed_pusd: self.shared.unattributed_pusd.load(Relaxed),
        }
    }
}

impl Drop for Budgets {
    fn drop(&mut self) {
        self.shared.inbox().is_stopping = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed there.
            let _ = thread.join();
        }
    }
}

/// Money set apart for one open call. Dropped without [`Hold::settle`], all of it goes back.
#[derive(Debug)]
#[must_use = "a hold that is dropped goes back to its account"]
pub struct Hold {
    shared: Arc<Shared>,
    entry: Arc<Entry>,
    window_ms: i64,
    backed_pusd: i64,
    is_open: bool,
}

impl Hold {
    /// Of which account.
    pub fn key(&self) -> &AccountKey {
        &self.entry.key
    }

    /// For which window of time; a call that ends in the next one is still booked in this.
    pub fn window_ms(&self) -> i64 {
        self.window_ms
    }

    /// What is set apart. Nothing for soft accounts.
    pub fn held_pusd(&self) -> i64 {
        self.backed_pusd
    }

    /// Books what the call really cost and gives back the rest. More than was held is booked all the same,
    /// and counted.
    pub fn settle(mut self, actual_pusd: i64, info: &PostingInfo) {
        self.is_open = false;
        let actual_pusd = actual_pusd.max(0);
        let counters = &self.shared.counters;
        counters.settlements.fetch_add(1, Relaxed);
        let mut state = self.entry.lock();
        let hard = state.account.hard;
        let pool = state.pool(self.window_ms);
        let merged = pool.settle(self.backed_pusd, actual_pusd, info);
        drop(state);
        counters.merged.fetch_add(u64::from(merged), Relaxed);
        if hard && actual_pusd > self.backed_pusd {
            counters.overshoots.fetch_add(1, Relaxed);
            counters
                .overshoot_pusd
                .fetch_add((actual_pusd - self.backed_pusd).unsigned_abs(), Relaxed);
        }
        self.shared.queue(&self.entry, false);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.is_open {
            let mut state = self.entry.lock();
            let pool = state.pool(self.window_ms);
            pool.open_calls = pool.open_calls.saturating_sub(1);
            pool.free_pusd = pool.free_pusd.saturating_add(self.backed_pusd);
        }
    }
}

/// The holds of one call.
#[derive(Debug, Default)]
#[must_use = "holds that are dropped go back to their accounts"]
pub struct Holds(Vec<Hold>);

impl Holds {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Hold> {
        self.0.iter()
    }

    /// Books the cost with every account.
    pub fn settle(self, actual_pusd: i64, info: &PostingInfo) {
        for hold in self.0 {
            hold.settle(actual_pusd, info);
        }
    }
}

/// The system's clock, for [`Budgets::start`].
pub fn system_clock() -> Arc<dyn Fn() -> i64 + Send + Sync> {
    Arc::new(|| {
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since_1970.map_or(0, |elapsed| {
            i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
        })
    })
}
