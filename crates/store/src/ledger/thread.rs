//! The thread that owns the ledger: gathers, commits, renews.

use super::budgets::{Entry, GROUP_MS, Refused, Shared, WhenUnavailable};
use super::pool::{Reply, Waiter};
use super::{Batch, Change, Grant, Ledger};
use crate::error::StoreError;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long settlements are gathered; the rest of [`GROUP_MS`] is for the disk.
const GATHER: Duration = Duration::from_millis(GROUP_MS / 2);
/// How long after a failure the ledger is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// How often the last commit is tried when Weir ends.
const LAST_TRIES: u32 = 3;

struct Work {
    changed: Vec<Arc<Entry>>,
    flushes: Vec<oneshot::Sender<bool>>,
    is_stopping: bool,
}

/// What was sent to the ledger for one account and window.
struct Asked {
    entry: Arc<Entry>,
    revision: u64,
}

struct Keeper<'a> {
    shared: &'a Arc<Shared>,
    ledger: Box<dyn Ledger>,
    clock: &'a (dyn Fn() -> i64 + Send + Sync),
    number: u64,
    /// A batch whose commit failed. It is sent again, under its number, before any other.
    failed: Option<Batch>,
    renew_at: Instant,
}

pub(super) fn run(shared: &Arc<Shared>, ledger: Box<dyn Ledger>, clock: &(dyn Fn() -> i64 + Send + Sync)) {
    let renew_at = Instant::now() + Duration::from_millis(shared.config.renew_ms);
    let mut keeper = Keeper {
        shared,
        ledger,
        clock,
        number: 0,
        failed: None,
        renew_at,
    };
    loop {
        let work = keeper.gather();
        if work.is_stopping {
            let is_committed = keeper.end(work.changed);
            for flush in work.flushes {
                let _ = flush.send(is_committed);
            }
            return;
        }
        if Instant::now() >= keeper.renew_at {
            keeper.renew();
        }
        let is_committed = keeper.commit(work.changed);
        for flush in work.flushes {
            // Who awaited it may have gone.
            let _ = flush.send(is_committed);
        }
        if !is_committed {
            keeper.pause();
        }
    }
}

impl Keeper<'_> {
    /// Waits for work, then a little longer for more of it, unless a call waits.
    fn gather(&self) -> Work {
        let mut inbox = self.shared.inbox();
        let mut gather_until = None;
        loop {
            let now = Instant::now();
            let has_changes = !inbox.changed.is_empty() || self.failed.is_some();
            let is_due =
                inbox.is_urgent || inbox.is_stopping || !inbox.flushes.is_empty() || now >= self.renew_at;
            if is_due || (has_changes && gather_until.is_some_and(|until| now >= until)) {
                break;
            }
            if has_changes && gather_until.is_none() {
                gather_until = Some(now + GATHER);
            }
            let until = gather_until.map_or(self.renew_at, |until: Instant| until.min(self.renew_at));
            let waited = self
                .shared
                .wake
                .wait_timeout(inbox, until.saturating_duration_since(now));
            inbox = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        inbox.is_urgent = false;
        Work {
            changed: std::mem::take(&mut inbox.changed),
            flushes: std::mem::take(&mut inbox.flushes),
            is_stopping: inbox.is_stopping,
        }
    }

    /// After a failure: not at once again, but an end of Weir is not held up.
    fn pause(&self) {
        let inbox = self.shared.inbox();
        let pause = self
            .shared
            .wake
            .wait_timeout_while(inbox, RETRY, |inbox| !inbox.is_stopping);
        drop(pause);
    }

    fn commit(&mut self, changed: Vec<Arc<Entry>>) -> bool {
        if let Some(batch) = self.failed.take()
            && let Err(error) = self.ledger.commit(&batch, (self.clock)())
        {
            self.failed = Some(batch);
            self.note::<()>(&Err(error));
            for entry in changed {
                self.refuse_waiters(&entry);
                self.shared.queue(&entry, false);
            }
            return false;
        }
        let mut asked = Vec::new();
        let mut batch = Batch {
            number: self.number + 1,
            changes: Vec::new(),
        };
        for entry in changed {
            // First, so that what happens from now on queues it again.
            entry.queued.store(false, Relaxed);
            let mut state = entry.lock();
            state.take_changes(&mut batch.changes);
            let revision = state.revision;
            drop(state);
            asked.resize_with(batch.changes.len(), || Asked {
                entry: entry.clone(),
                revision,
            });
        }
        if batch.changes.is_empty() {
            // Nothing to book: where the ledger was away, the next renewal finds out.
            return !self.shared.is_down.load(Relaxed) || self.renew();
        }
        self.number = batch.number;
        let committed = self.ledger.commit(&batch, (self.clock)());
        self.note(&committed);
        match committed {
            Ok(grants) => {
                for ((asked, change), grant) in asked.iter().zip(&batch.changes).zip(grants) {
                    self.serve(asked, change, grant);
                }
                true
            }
            Err(_) => {
                for asked in &asked {
                    self.refuse_waiters(&asked.entry);
                }
                for change in &mut batch.changes {
                    change.need_pusd = None;
                }
                self.failed = Some(batch);
                false
            }
        }
    }

    fn serve(&self, asked: &Asked, change: &Change, grant: Grant) {
        let entry = &asked.entry;
        let mut answered: Vec<(Waiter, Reply)> = Vec::new();
        let mut state = entry.lock();
        let hard = state.account.hard;
        let is_stale = state.revision != asked.revision || state.is_removed;
        let pool = state.pool(change.window_ms);
        pool.granted(grant.granted_pusd, grant.remaining_pusd);
        if is_stale {
            // Leased under another limit.
            state.give_back_all();
        } else {
            while let Some((waiter, answer)) = pool.next_served(hard) {
                let reply = match answer {
                    Ok(backed_pusd) => Ok(self.shared.hold(entry, pool, backed_pusd)),
                    Err(remaining_pusd) => {
                        self.shared.counters.spent.fetch_add(1, Relaxed);
                        Err(Refused::Spent {
                            key: entry.key.clone(),
                            remaining_pusd,
                        })
                    }
                };
                answered.push((waiter, reply));
            }
        }
        let still_waits = !state.pool(change.window_ms).waiting.is_empty();
        drop(state);
        if still_waits || is_stale {
            self.shared.queue(entry, still_waits);
        }
        // Only now: a hold that nobody takes any more goes back, which needs the lock.
        for (waiter, reply) in answered {
            drop(waiter.reply.send(reply));
        }
    }

    /// Answers those who wait for an account, without the ledger.
    fn refuse_waiters(&self, entry: &Arc<Entry>) {
        let mut state = entry.lock();
        let passes = !state.account.hard && self.shared.config.when_unavailable == WhenUnavailable::Pass;
        let waiters: Vec<Waiter> = state.waiters().collect();
        drop(state);
        for waiter in waiters {
            if passes {
                // It asks again, sees that the ledger is away, and passes.
                drop(waiter.reply);
                continue;
            }
            self.shared.counters.unavailable.fetch_add(1, Relaxed);
            drop(waiter.reply.send(Err(Refused::Unavailable {
                key: entry.key.clone(),
            })));
        }
    }

    fn renew(&mut self) -> bool {
        self.renew_at = Instant::now() + Duration::from_millis(self.shared.config.renew_ms);
        for entry in self.shared.all() {
            let has_change = entry.lock().sweep();
            if has_change {
                self.shared.queue(&entry, false);
            }
        }
        let renewed = self.ledger.renew((self.clock)());
        self.note(&renewed);
        match renewed {
            Ok(lost_pusd) => {
                self.shared.unattributed_pusd.fetch_add(lost_pusd, Relaxed);
                true
            }
            Err(_) => {
                self.renew_at = Instant::now() + RETRY;
                false
            }
        }
    }

    fn note<T>(&self, result: &Result<T, StoreError>) {
        match result {
            Ok(_) => {
                self.shared.counters.commits.fetch_add(1, Relaxed);
                self.shared.is_down.store(false, Relaxed);
            }
            Err(error) => {
                self.shared.counters.failures.fetch_add(1, Relaxed);
                self.shared.is_down.store(true, Relaxed);
                let mut text = error.to_string();
                if let Some(source) = std::error::Error::source(error) {
                    text = format!("{text}: {source}");
                }
                *self
                    .shared
                    .last_error
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Some(text);
            }
        }
    }

    /// Gives everything back that no call holds, and ends the run. What calls still hold stays leased until
    /// the next run of this instance books it.
    fn end(&mut self, changed: Vec<Arc<Entry>>) -> bool {
        // Accounts that were removed are only here.
        let mut all = changed;
        for _ in 0..LAST_TRIES {
            all.append(&mut self.shared.inbox().changed);
            all.extend(self.shared.all());
            all.sort_by_key(|entry| Arc::as_ptr(entry).addr());
            all.dedup_by(|a, b| Arc::ptr_eq(a, b));
            for entry in &all {
                self.refuse_waiters(entry);
                entry.lock().give_back_all();
            }
            if self.commit(std::mem::take(&mut all)) {
                let closed = self.ledger.close((self.clock)());
                self.note(&closed);
                return closed.is_ok();
            }
            std::thread::sleep(RETRY);
        }
        false
    }
}
