//! What one account has in memory, for each window of time that calls are open in.

use super::budgets::{Hold, Refused};
use super::{Account, Change, Period, Posting, PostingInfo, TICK_MS};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Windows an account has at once: the one before and the one now, and two that a clock which jumps makes.
const WINDOWS_MAX: usize = 4;
/// Different names under which settlements of one window may wait for the ledger; what comes on top is
/// booked under [`OTHER`].
const POSTINGS_MAX: usize = 4_096;
/// The name for models, providers and consumers that there was no room for.
pub const OTHER: &str = "(other)";
/// How long an answer of the ledger is believed: another process may give money back.
const ANSWER_KEPT: Duration = Duration::from_millis(100);

pub(super) type Reply = Result<Hold, Refused>;

/// A call that waits for a lease.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) amount_pusd: i64,
    pub(super) reply: oneshot::Sender<Reply>,
}

/// An account in memory.
#[derive(Debug)]
pub(super) struct State {
    pub(super) account: Arc<Account>,
    /// Counts its changes, so that a lease asked for under an old limit is known.
    pub(super) revision: u64,
    pub(super) is_removed: bool,
    pools: Vec<Pool>,
}

impl State {
    pub(super) fn new(account: Account) -> Self {
        Self {
            account: Arc::new(account),
            revision: 0,
            is_removed: false,
            pools: Vec::new(),
        }
    }

    /// The window for a call at `now_ms`.
    pub(super) fn window_of(&self, period: Period, now_ms: i64) -> i64 {
        let window_ms = period.window_ms(now_ms);
        let is_known = self.pools.iter().any(|pool| pool.window_ms == window_ms);
        let latest = self.pools.iter().map(|pool| pool.window_ms).max();
        match latest {
            // The clock jumps about: this call counts to the latest window until the others are settled.
            Some(latest) if !is_known && self.pools.len() >= WINDOWS_MAX => latest,
            _ => window_ms,
        }
    }

    pub(super) fn pool(&mut self, window_ms: i64) -> &mut Pool {
        let at = self.pools.iter().position(|pool| pool.window_ms == window_ms);
        let at = at.unwrap_or_else(|| {
            self.pools.push(Pool::new(window_ms));
            self.pools.len() - 1
        });
        &mut self.pools[at]
    }

    /// Takes another limit or mode. What is leased under the old one goes back.
    pub(super) fn change(&mut self, account: Account) {
        self.account = Arc::new(account);
        self.revision += 1;
        self.give_back_all();
    }

    pub(super) fn give_back_all(&mut self) {
        for pool in &mut self.pools {
            pool.give_back();
        }
    }

    /// Gives back what no call has touched since the last sweep, and drops windows that are over.
    pub(super) fn sweep(&mut self) -> bool {
        let latest = self.pools.iter().map(|pool| pool.window_ms).max();
        self.pools
            .retain(|pool| Some(pool.window_ms) == latest || !pool.is_over());
        let mut has_change = false;
        for pool in &mut self.pools {
            if !std::mem::take(&mut pool.is_used) {
                pool.give_back();
            }
            has_change |= pool.returned_pusd > 0;
        }
        has_change
    }

    /// Takes out what is to be committed.
    pub(super) fn take_changes(&mut self, changes: &mut Vec<Change>) {
        for pool in &mut self.pools {
            let need_pusd = pool.need(self.account.hard);
            if pool.postings.is_empty() && pool.returned_pusd == 0 && need_pusd.is_none() {
                continue;
            }
            let postings = pool.postings.drain();
            changes.push(Change {
                account: self.account.clone(),
                window_ms: pool.window_ms,
                postings: postings
                    .map(|(info, (amount_pusd, calls))| Posting {
                        info,
                        amount_pusd,
                        calls,
                    })
                    .collect(),
                used_pusd: std::mem::take(&mut pool.used_pusd),
                returned_pusd: std::mem::take(&mut pool.returned_pusd),
                need_pusd,
                free_pusd: pool.free_pusd,
            });
        }
    }

    pub(super) fn waiters(&mut self) -> impl Iterator<Item = Waiter> {
        self.pools.iter_mut().flat_map(|pool| pool.waiting.drain(..))
    }
}

/// One account in one window.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) window_ms: i64,
    /// Leased and not held by any call. Never negative.
    pub(super) free_pusd: i64,
    /// Holds that are neither settled nor dropped.
    pub(super) open_calls: u64,
    pub(super) waiting: VecDeque<Waiter>,
    /// What the ledger last said remains, and until when that is believed.
    answer: Option<(i64, Instant)>,
    /// Not yet committed.
    postings: HashMap<PostingInfo, (i64, u64)>,
    /// How much of those came out of the lease.
    used_pusd: i64,
    /// Given back and not yet committed.
    returned_pusd: i64,
    is_used: bool,
}

impl Pool {
    fn new(window_ms: i64) -> Self {
        Self {
            window_ms,
            free_pusd: 0,
            open_calls: 0,
            waiting: VecDeque::new(),
            answer: None,
            postings: HashMap::new(),
            used_pusd: 0,
            returned_pusd: 0,
            is_used: true,
        }
    }

    /// How much of what is free backs a call, if the call may start.
    pub(super) fn covers(&mut self, hard: bool, amount_pusd: i64) -> Option<i64> {
        self.is_used = true;
        if hard {
            (self.free_pusd >= amount_pusd).then_some(amount_pusd)
        } else {
            (self.free_pusd > 0).then_some(0)
        }
    }

    /// What remains, where the ledger has just said that it is too little.
    pub(super) fn known_to_lack(&self, hard: bool, amount_pusd: i64) -> Option<i64> {
        let (remaining, until) = self.answer?;
        let lacks = if hard {
            amount_pusd - self.free_pusd > remaining
        } else {
            self.free_pusd + remaining.max(0) <= 0
        };
        (lacks && Instant::now() < until).then(|| remaining.saturating_add(self.free_pusd))
    }

    pub(super) fn wait(&mut self, amount_pusd: i64) -> oneshot::Receiver<Reply> {
        let (reply, answer) = oneshot::channel();
        self.waiting.push_back(Waiter { amount_pusd, reply });
        answer
    }

    pub(super) fn forget_who_left(&mut self) {
        self.waiting.retain(|waiter| !waiter.reply.is_closed());
    }

    /// What the calls that wait lack together.
    fn need(&mut self, hard: bool) -> Option<i64> {
        self.forget_who_left();
        if self.waiting.is_empty() {
            return None;
        }
        if !hard {
            // Enough for the dearest of them, so that a lease is not one coin.
            let dearest = self.waiting.iter().map(|waiter| waiter.amount_pusd).max();
            return Some(dearest.unwrap_or(0).max(1));
        }
        let all = self
            .waiting
            .iter()
            .fold(0_i64, |sum, waiter| sum.saturating_add(waiter.amount_pusd));
        Some(all.saturating_sub(self.free_pusd).max(1))
    }

    /// Notes what the ledger granted.
    pub(super) fn granted(&mut self, granted_pusd: i64, remaining_pusd: i64) {
        self.free_pusd = self.free_pusd.saturating_add(granted_pusd);
        self.answer = Some((remaining_pusd, Instant::now() + ANSWER_KEPT));
    }

    /// The next call in the queue that can be answered now, and with what: money that backs it, or what
    /// remains where that is too little.
    pub(super) fn next_served(&mut self, hard: bool) -> Option<(Waiter, Result<i64, i64>)> {
        let amount_pusd = self.waiting.front()?.amount_pusd;
        let answer = match self.covers(hard, amount_pusd) {
            Some(backed_pusd) => Ok(backed_pusd),
            None => Err(self.known_to_lack(hard, amount_pusd)?),
        };
        Some((self.waiting.pop_front()?, answer))
    }

    /// Books a call that held `backed`. Answers whether its names had to be dropped.
    pub(super) fn settle(&mut self, backed_pusd: i64, actual_pusd: i64, info: &PostingInfo) -> bool {
        self.open_calls = self.open_calls.saturating_sub(1);
        self.is_used = true;
        self.free_pusd = self.free_pusd.saturating_add(backed_pusd);
        let used = actual_pusd.min(self.free_pusd);
        self.free_pusd -= used;
        self.used_pusd = self.used_pusd.saturating_add(used);
        let info = PostingInfo {
            tick_ms: info.tick_ms.div_euclid(TICK_MS) * TICK_MS,
            ..info.clone()
        };
        let is_merged = self.postings.len() >= POSTINGS_MAX && !self.postings.contains_key(&info);
        let info = if is_merged { other(info.tick_ms) } else { info };
        let (amount, calls) = self.postings.entry(info).or_default();
        *amount = amount.saturating_add(actual_pusd);
        *calls += 1;
        is_merged
    }

    fn give_back(&mut self) {
        self.returned_pusd = self.returned_pusd.saturating_add(self.free_pusd);
        self.free_pusd = 0;
        self.answer = None;
    }

    fn is_over(&self) -> bool {
        self.open_calls == 0
            && self.free_pusd == 0
            && self.waiting.is_empty()
            && self.postings.is_empty()
            && self.returned_pusd == 0
    }
}

fn other(tick_ms: i64) -> PostingInfo {
    PostingInfo {
        model: OTHER.into(),
        provider: OTHER.into(),
        consumer: OTHER.into(),
        estimated: true,
        // By the day, so that a ledger which is away for long does not let these grow either.
        tick_ms: tick_ms.div_euclid(crate::civil::DAY_MS) * crate::civil::DAY_MS,
    }
}
