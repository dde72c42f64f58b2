//! The ledger in a SQLite file.
//!
//! `run` is one process of Weir. `lease` is what it has out, one row for each account and window: `open` is
//! debited and not yet settled; `lost` was, until the run was taken for dead and the rest booked as
//! unattributed. `balance.debited` is kept apart from postings and leases, so that the invariant
//! (`debited = postings + open`) says something.

use super::{Account, AccountKey, Batch, Change, Grant, LEASE_SHARE, Ledger, PostingInfo, TICK_MS};
use crate::db::{self, Plan};
use crate::{SetAside, StoreError};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// How a posting came about.
pub(super) const KIND_REPORTED: i64 = 0;
pub(super) const KIND_ESTIMATED: i64 = 1;
pub(super) const KIND_UNATTRIBUTED: i64 = 2;

/// Rows of ended runs are kept this long, so that one that was only slow can still settle in its name.
const RUN_KEPT_MS: i64 = 7 * crate::civil::DAY_MS;
/// Postings older than this are summed by day instead of by tick.
const TICKS_KEPT_MS: i64 = 62 * crate::civil::DAY_MS;

const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE account (
        id INTEGER PRIMARY KEY,
        organisation TEXT NOT NULL, team TEXT NOT NULL, scope TEXT NOT NULL, name TEXT NOT NULL,
        period TEXT NOT NULL,
        limit_pusd INTEGER NOT NULL, hard INTEGER NOT NULL,
        UNIQUE (organisation, team, scope, name, period)
    ) STRICT;
    CREATE TABLE balance (
        account INTEGER NOT NULL REFERENCES account, window_ms INTEGER NOT NULL,
        debited_pusd INTEGER NOT NULL,
        PRIMARY KEY (account, window_ms)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE run (
        id INTEGER PRIMARY KEY AUTOINCREMENT, instance TEXT NOT NULL, started_ms INTEGER NOT NULL,
        expires_ms INTEGER NOT NULL, ended INTEGER NOT NULL DEFAULT 0, last_batch INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE lease (
        run INTEGER NOT NULL REFERENCES run, account INTEGER NOT NULL REFERENCES account,
        window_ms INTEGER NOT NULL,
        open_pusd INTEGER NOT NULL CHECK (open_pusd >= 0), lost_pusd INTEGER NOT NULL CHECK (lost_pusd >= 0),
        PRIMARY KEY (run, account, window_ms)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE posting (
        account INTEGER NOT NULL REFERENCES account, window_ms INTEGER NOT NULL, tick_ms INTEGER NOT NULL,
        kind INTEGER NOT NULL, model TEXT NOT NULL, provider TEXT NOT NULL, consumer TEXT NOT NULL,
        amount_pusd INTEGER NOT NULL, calls INTEGER NOT NULL,
        PRIMARY KEY (account, window_ms, tick_ms, kind, model, provider, consumer)
    ) STRICT, WITHOUT ROWID;
"];

pub(super) const PLAN: Plan<'static> = Plan {
    migrations: &MIGRATIONS,
    synchronous: "FULL",
};

/// How to open a ledger.
#[derive(Clone, Debug)]
pub struct LedgerOptions {
    /// The file.
    pub path: PathBuf,
    /// The name of this instance. A new run of the same name books what the one before left open.
    pub instance: String,
    /// After this long without a sign of life a run's leases count as lost.
    pub lease_ms: i64,
    /// The file may grow to so many pages of 4 KiB; `None`: as far as the disk goes.
    pub pages_max: Option<u32>,
}

impl LedgerOptions {
    /// The usual: leases of a minute, no limit of size.
    pub fn new(path: impl Into<PathBuf>, instance: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            instance: instance.into(),
            lease_ms: 60_000,
            pages_max: None,
        }
    }
}

/// The ledger of one run.
#[derive(Debug)]
pub struct SqliteLedger {
    connection: Connection,
    path: PathBuf,
    run: i64,
    instance: String,
    lease_ms: i64,
    /// What is in the table, so that a commit does not look each account up again.
    accounts: HashMap<AccountKey, Known>,
    set_aside: Option<SetAside>,
    unattributed_at_start_pusd: i64,
    /// When old postings are looked for next.
    fold_at_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    id: i64,
    limit_pusd: i64,
    hard: bool,
}

impl SqliteLedger {
    /// Opens or makes the file, starts a run, and books what earlier runs of the same name, and runs that
    /// have expired, left open.
    pub fn open(options: &LedgerOptions, now_ms: i64) -> Result<Self, StoreError> {
        let db::Opened {
            connection,
            set_aside,
        } = db::open(&options.path, &PLAN)?;
        let mut ledger = Self {
            connection,
            path: options.path.clone(),
            run: 0,
            instance: options.instance.clone(),
            lease_ms: options.lease_ms,
            accounts: HashMap::new(),
            set_aside,
            unattributed_at_start_pusd: 0,
            fold_at_ms: now_ms,
        };
        let pages_max = options.pages_max;
        if let Some(pages) = pages_max {
            let set = ledger.connection.pragma_update(None, "max_page_count", pages);
            set.map_err(|source| ledger.failed("limit", source))?;
        }
        let expires_ms = now_ms.saturating_add(options.lease_ms);
        let (run, unattributed) = ledger.within("start a run in", |transaction| {
            let lost = end_runs(transaction, now_ms, "instance = ?1", &options.instance)?;
            let expired = end_runs(transaction, now_ms, "expires_ms < ?1", &now_ms)?;
            transaction.execute(
                "INSERT INTO run (instance, started_ms, expires_ms) VALUES (?, ?, ?)",
                params![options.instance, now_ms, expires_ms],
            )?;
            Ok((transaction.last_insert_rowid(), lost.saturating_add(expired)))
        })?;
        ledger.run = run;
        ledger.unattributed_at_start_pusd = unattributed;
        Ok(ledger)
    }

    /// A damaged file that was found and renamed.
    pub fn set_aside(&self) -> Option<&SetAside> {
        self.set_aside.as_ref()
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, action: &'static str, source: rusqlite::Error) -> StoreError {
        StoreError::Database {
            action,
            path: self.path.clone(),
            source,
        }
    }

    fn within<R>(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<R>,
    ) -> Result<R, StoreError> {
        let begun = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate);
        let done = begun.and_then(|transaction| {
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        });
        done.map_err(|source| self.failed(action, source))
    }
}

impl Ledger for SqliteLedger {
    fn unattributed_at_start_pusd(&self) -> i64 {
        self.unattributed_at_start_pusd
    }

    fn commit(&mut self, batch: &Batch, now_ms: i64) -> Result<Vec<Grant>, StoreError> {
        let (run, instance) = (self.run, self.instance.clone());
        let expires_ms = now_ms.saturating_add(self.lease_ms);
        let number = i64::try_from(batch.number).unwrap_or(i64::MAX);
        let mut accounts = std::mem::take(&mut self.accounts);
        let grants = self.within("commit to", |transaction| {
            revive(transaction, run, &instance, now_ms, expires_ms)?;
            let last: i64 = transaction
                .prepare_cached("SELECT last_batch FROM run WHERE id = ?")?
                .query_row([run], |row| row.get(0))?;
            let is_repeated = number <= last;
            let booked = batch.changes.iter().map(|change| {
                let account = know(transaction, &mut accounts, &change.account)?;
                if !is_repeated {
                    settle(transaction, run, account, change)?;
                }
                lend(transaction, run, account, change)
            });
            let grants = booked.collect::<rusqlite::Result<Vec<_>>>()?;
            transaction
                .prepare_cached("UPDATE run SET last_batch = max(last_batch, ?2) WHERE id = ?1")?
                .execute([run, number])?;
            Ok(grants)
        })?;
        // After an error it stays empty: rows that were rolled back are not known.
        self.accounts = accounts;
        Ok(grants)
    }

    fn renew(&mut self, now_ms: i64) -> Result<i64, StoreError> {
        let (run, instance, fold_at_ms) = (self.run, self.instance.clone(), self.fold_at_ms);
        let expires_ms = now_ms.saturating_add(self.lease_ms);
        let (lost, has_folded) = self.within("renew leases in", |transaction| {
            revive(transaction, run, &instance, now_ms, expires_ms)?;
            let lost = end_runs(transaction, now_ms, "expires_ms < ?1", &now_ms)?;
            forget(transaction, now_ms)?;
            Ok((lost, now_ms >= fold_at_ms && fold(transaction, now_ms)?))
        })?;
        if now_ms >= fold_at_ms && !has_folded {
            // Nothing was left to fold.
            self.fold_at_ms = now_ms.saturating_add(crate::civil::HOUR_MS);
        }
        Ok(lost)
    }

    fn close(&mut self, now_ms: i64) -> Result<(), StoreError> {
        let run = self.run;
        self.within("end a run in", |transaction| {
            end_runs(transaction, now_ms, "id = ?1", &run)
        })
        .map(|_| ())
    }
}

/// The row of an account, made or updated where it differs from what is configured.
fn know(
    transaction: &Transaction<'_>,
    accounts: &mut HashMap<AccountKey, Known>,
    account: &Account,
) -> rusqlite::Result<i64> {
    let Account {
        key,
        limit_pusd,
        hard,
    } = account;
    if let Some(known) = accounts.get(key)
        && (known.limit_pusd, known.hard) == (*limit_pusd, *hard)
    {
        return Ok(known.id);
    }
    let mut upsert = transaction.prepare_cached(
        "INSERT INTO account (organisation, team, scope, name, period, limit_pusd, hard)
         VALUES (?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET limit_pusd = excluded.limit_pusd, hard = excluded.hard RETURNING id",
    )?;
    let AccountKey {
        organisation,
        team,
        scope,
        name,
        period,
    } = key;
    let row = params![
        organisation,
        team,
        scope.as_str(),
        name,
        period.as_str(),
        limit_pusd,
        hard
    ];
    let id = upsert.query_row(row, |row| row.get(0))?;
    accounts.insert(
        key.clone(),
        Known {
            id,
            limit_pusd: *limit_pusd,
            hard: *hard,
        },
    );
    Ok(id)
}

#[derive(Clone, Copy, Default)]
struct Lease {
    open: i64,
    lost: i64,
}

impl Lease {
    fn read(transaction: &Transaction<'_>, run: i64, account: i64, window_ms: i64) -> rusqlite::Result<Self> {
        let sql = "SELECT open_pusd, lost_pusd FROM lease WHERE run = ? AND account = ? AND window_ms = ?";
        let row = transaction
            .prepare_cached(sql)?
            .query_row([run, account, window_ms], |row| {
                Ok(Self {
                    open: row.get(0)?,
                    lost: row.get(1)?,
                })
            })
            .optional()?;
        Ok(row.unwrap_or_default())
    }

    fn write(
        self,
        transaction: &Transaction<'_>,
        run: i64,
        account: i64,
        window_ms: i64,
    ) -> rusqlite::Result<()> {
        let sql = "INSERT INTO lease (run, account, window_ms, open_pusd, lost_pusd) VALUES (?, ?, ?, ?, ?)
                   ON CONFLICT DO UPDATE SET open_pusd = excluded.open_pusd, lost_pusd = excluded.lost_pusd";
        transaction
            .prepare_cached(sql)?
            .execute([run, account, window_ms, self.open, self.lost])?;
        Ok(())
    }

    /// Takes `amount` out, first of what is open. Answers what came of each.
    fn take(&mut self, amount: i64) -> Self {
        let open = amount.clamp(0, self.open);
        let lost = (amount - open).clamp(0, self.lost);
        self.open -= open;
        self.lost -= lost;
        Self { open, lost }
    }
}

fn settle(transaction: &Transaction<'_>, run: i64, account: i64, change: &Change) -> rusqlite::Result<()> {
    let window_ms = change.window_ms;
    let total = change
        .postings
        .iter()
        .fold(0_i64, |sum, posting| sum.saturating_add(posting.amount_pusd));
    if change.postings.is_empty() && change.returned_pusd == 0 {
        return Ok(());
    }
    let mut lease = Lease::read(transaction, run, account, window_ms)?;
    let used = lease.take(change.used_pusd.min(total));
    let returned = lease.take(change.returned_pusd);
    lease.write(transaction, run, account, window_ms)?;
    // What this run lost was booked without a name; now it has one, or is not spent after all.
    let named = used.lost + returned.lost;
    if named > 0 {
        unname(transaction, account, window_ms, named)?;
    }
    for posting in &change.postings {
        let kind = if posting.info.estimated {
            KIND_ESTIMATED
        } else {
            KIND_REPORTED
        };
        let calls = i64::try_from(posting.calls).unwrap_or(i64::MAX);
        post(
            transaction,
            account,
            window_ms,
            kind,
            &posting.info,
            posting.amount_pusd,
            calls,
        )?;
    }
    let debit = total - used.open - used.lost - returned.open - returned.lost;
    debit_account(transaction, account, window_ms, debit)
}

fn lend(transaction: &Transaction<'_>, run: i64, account: i64, change: &Change) -> rusqlite::Result<Grant> {
    let window_ms = change.window_ms;
    let debited: Option<i64> = transaction
        .prepare_cached("SELECT debited_pusd FROM balance WHERE account = ? AND window_ms = ?")?
        .query_row([account, window_ms], |row| row.get(0))
        .optional()?;
    let remaining = change.account.limit_pusd.saturating_sub(debited.unwrap_or(0));
    let granted = match change.need_pusd {
        Some(need) if remaining > 0 => need
            .max(remaining / LEASE_SHARE - change.free_pusd)
            .clamp(0, remaining),
        _ => 0,
    };
    if granted > 0 {
        let mut lease = Lease::read(transaction, run, account, window_ms)?;
        lease.open = lease.open.saturating_add(granted);
        lease.write(transaction, run, account, window_ms)?;
        debit_account(transaction, account, window_ms, granted)?;
    }
    Ok(Grant {
        granted_pusd: granted,
        remaining_pusd: remaining.saturating_sub(granted),
    })
}

/// Sums of more than 64 bits (nine million dollars) stay at the greatest number: SQLite would make them
/// fractions, which the table refuses, and no commit would pass any more.
fn debit_account(
    transaction: &Transaction<'_>,
    account: i64,
    window_ms: i64,
    amount: i64,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO balance (account, window_ms, debited_pusd) VALUES (?, ?, ?)
               ON CONFLICT DO UPDATE SET debited_pusd =
                   iif(typeof(debited_pusd + excluded.debited_pusd) = 'integer',
                       debited_pusd + excluded.debited_pusd, 9223372036854775807)";
    transaction
        .prepare_cached(sql)?
        .execute([account, window_ms, amount])?;
    Ok(())
}

fn post(
    transaction: &Transaction<'_>,
    account: i64,
    window_ms: i64,
    kind: i64,
    info: &PostingInfo,
    amount: i64,
    calls: i64,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO posting
                   (account, window_ms, tick_ms, kind, model, provider, consumer, amount_pusd, calls)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
               ON CONFLICT DO UPDATE SET amount_pusd =
                       iif(typeof(amount_pusd + excluded.amount_pusd) = 'integer',
                           amount_pusd + excluded.amount_pusd, 9223372036854775807),
                   calls = calls + excluded.calls";
    let tick_ms = info.tick_ms.div_euclid(TICK_MS) * TICK_MS;
    let PostingInfo {
        model,
        provider,
        consumer,
        ..
    } = info;
    let row = params![
        account, window_ms, tick_ms, kind, model, provider, consumer, amount, calls
    ];
    transaction.prepare_cached(sql)?.execute(row)?;
    Ok(())
}

/// Takes `amount` out of the unattributed postings of a window, oldest first.
fn unname(transaction: &Transaction<'_>, account: i64, window_ms: i64, amount: i64) -> rusqlite::Result<()> {
    let mut rows = transaction.prepare_cached(
        "SELECT tick_ms, amount_pusd FROM posting
         WHERE account = ? AND window_ms = ? AND kind = ? ORDER BY tick_ms",
    )?;
    let rows = rows.query_map([account, window_ms, KIND_UNATTRIBUTED], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    let rows: Vec<(i64, i64)> = rows.collect::<rusqlite::Result<_>>()?;
    let mut left = amount;
    for (tick_ms, there) in rows {
        let taken = left.min(there);
        left -= taken;
        transaction
            .prepare_cached(
                "UPDATE posting SET amount_pusd = amount_pusd - ?
                 WHERE account = ? AND window_ms = ? AND tick_ms = ? AND kind = ?",
            )?
            .execute([taken, account, window_ms, tick_ms, KIND_UNATTRIBUTED])?;
        if left == 0 {
            break;
        }
    }
    Ok(())
}

/// Ends the runs that `condition` selects: what they have open is lost to them and posted as unattributed.
/// Debits stay as they are.
fn end_runs(
    transaction: &Transaction<'_>,
    now_ms: i64,
    condition: &str,
    value: &dyn rusqlite::ToSql,
) -> rusqlite::Result<i64> {
    let sql = format!(
        "SELECT run, account, window_ms, open_pusd FROM lease
         WHERE open_pusd > 0 AND run IN (SELECT id FROM run WHERE ended = 0 AND {condition})"
    );
    let mut select = transaction.prepare(&sql)?;
    let rows = select
        .query_map([value], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?
        .collect::<rusqlite::Result<Vec<(i64, i64, i64, i64)>>>()?;
    let nobody = PostingInfo {
        model: "".into(),
        provider: "".into(),
        consumer: "".into(),
        estimated: false,
        tick_ms: now_ms,
    };
    let mut lost = 0_i64;
    for (run, account, window_ms, open) in rows {
        transaction.execute(
            "UPDATE lease SET open_pusd = 0, lost_pusd = lost_pusd + ?4
             WHERE run = ?1 AND account = ?2 AND window_ms = ?3",
            [run, account, window_ms, open],
        )?;
        post(
            transaction,
            account,
            window_ms,
            KIND_UNATTRIBUTED,
            &nobody,
            open,
            0,
        )?;
        lost = lost.saturating_add(open);
    }
    transaction.execute(
        &format!("UPDATE run SET ended = 1 WHERE ended = 0 AND {condition}"),
        [value],
    )?;
    Ok(lost)
}

/// Says that a run is alive: also one that was taken for dead, or whose row was dropped since.
fn revive(
    transaction: &Transaction<'_>,
    run: i64,
    instance: &str,
    now_ms: i64,
    expires_ms: i64,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO run (id, instance, started_ms, expires_ms) VALUES (?, ?, ?, ?)
               ON CONFLICT DO UPDATE SET expires_ms = excluded.expires_ms, ended = 0";
    transaction
        .prepare_cached(sql)?
        .execute(params![run, instance, now_ms, expires_ms])?;
    Ok(())
}

/// Drops rows of runs that ended long ago.
fn forget(transaction: &Transaction<'_>, now_ms: i64) -> rusqlite::Result<()> {
    let before_ms = now_ms.saturating_sub(RUN_KEPT_MS);
    let ended = "SELECT id FROM run WHERE ended = 1 AND expires_ms < ?";
    transaction.execute(&format!("DELETE FROM lease WHERE run IN ({ended})"), [before_ms])?;
    transaction.execute("DELETE FROM run WHERE ended = 1 AND expires_ms < ?", [before_ms])?;
    Ok(())
}

/// Sums old postings by day, so that the file grows with days and not with minutes. One day at a time; answers whether
/// there was one.
fn fold(transaction: &Transaction<'_>, now_ms: i64) -> rusqlite::Result<bool> {
    const DAY_MS: i64 = crate::civil::DAY_MS;
    let before_ms = (now_ms.saturating_sub(TICKS_KEPT_MS)).div_euclid(DAY_MS) * DAY_MS;
    let oldest: Option<i64> = transaction
        .prepare_cached("SELECT min(tick_ms) FROM posting WHERE tick_ms < ? AND tick_ms % ? != 0")?
        .query_row([before_ms, DAY_MS], |row| row.get(0))?;
    let Some(oldest) = oldest else { return Ok(false) };
    let day_ms = oldest.div_euclid(DAY_MS) * DAY_MS;
    transaction.execute(
        "INSERT INTO posting (account, window_ms, tick_ms, kind, model, provider, consumer, amount_pusd, calls)
         SELECT account, window_ms, ?1, kind, model, provider, consumer, sum(amount_pusd), sum(calls)
         FROM posting WHERE tick_ms > ?1 AND tick_ms < ?1 + ?2
         GROUP BY account, window_ms, kind, model, provider, consumer
         ON CONFLICT DO UPDATE SET amount_pusd = amount_pusd + excluded.amount_pusd,
             calls = calls + excluded.calls",
        [day_ms, DAY_MS],
    )?;
    transaction.execute(
        "DELETE FROM posting WHERE tick_ms > ?1 AND tick_ms < ?1 + ?2",
        [day_ms, DAY_MS],
    )?;
    Ok(true)
}
