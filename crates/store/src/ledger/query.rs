//! Questions to the ledger, answered from the file on a thread of their own.

use super::sqlite::{KIND_ESTIMATED, KIND_UNATTRIBUTED};
use super::{AccountKey, Period, Scope};
use crate::db;
use crate::error::StoreError;
use crate::json;
use crate::worker::Worker;
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Rows of one answer at most; what comes on top is cut, cheapest first, and the answer says so.
pub const ROWS_MAX: usize = 10_000;

/// By what spending is summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Group {
    /// By account.
    #[default]
    Account,
    /// By consumer.
    Consumer,
    /// By model.
    Model,
    /// By provider.
    Provider,
    /// By day (UTC).
    Day,
}

/// Which spending.
///
/// A call is posted to each account it was held against (its key's, its consumer's, its team's…), so a sum
/// over accounts of several scopes counts it several times: name a scope and a period.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpendQuery {
    /// Of this organisation only.
    pub organisation: Option<String>,
    /// Of this team only.
    pub team: Option<String>,
    /// Of accounts of this scope only.
    pub scope: Option<Scope>,
    /// Of accounts of this name only.
    pub name: Option<String>,
    /// Of accounts of this period only.
    pub period: Option<Period>,
    /// From this time on; whole minutes, and days for what is older than two months.
    pub since_ms: Option<i64>,
    /// Before this time.
    pub until_ms: Option<i64>,
    /// How it is summed.
    pub group: Group,
}

/// A sum of spending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Spend {
    /// Of what: an account, a name, or a date. Empty for what has no name.
    pub of: String,
    /// How much, unattributed included. Exact: a sum may exceed 64 bits.
    #[serde(rename = "amount_usd", serialize_with = "json::sum")]
    pub amount_pusd: i128,
    /// Of it, from estimated usage.
    #[serde(rename = "estimated_usd", serialize_with = "json::sum")]
    pub estimated_pusd: i128,
    /// Of it, leased by runs that ended without settling.
    #[serde(rename = "unattributed_usd", serialize_with = "json::sum")]
    pub unattributed_pusd: i128,
    /// Of how many calls.
    pub calls: u64,
}

/// An answer to [`SpendQuery`], dearest first (by day: newest first).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spending {
    /// The sums.
    pub rows: Vec<Spend>,
    /// There were more than [`ROWS_MAX`].
    pub is_cut: bool,
}

/// An account in one window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Balance {
    /// Which.
    pub key: AccountKey,
    /// Its limit as last used.
    #[serde(rename = "limit_usd", serialize_with = "json::amount")]
    pub limit_pusd: i64,
    /// Its mode as last used.
    pub hard: bool,
    /// Which window.
    pub window_ms: i64,
    /// Taken out of it: settled, or leased.
    #[serde(rename = "debited_usd", serialize_with = "json::amount")]
    pub debited_pusd: i64,
    /// Settled, unattributed included.
    #[serde(rename = "settled_usd", serialize_with = "json::amount")]
    pub settled_pusd: i64,
    /// Leased and not settled.
    #[serde(rename = "leased_usd", serialize_with = "json::amount")]
    pub leased_pusd: i64,
    /// Settled in nobody's name.
    #[serde(rename = "unattributed_usd", serialize_with = "json::amount")]
    pub unattributed_pusd: i64,
}

impl Balance {
    /// What no lease and no call has taken yet. Negative where a soft budget is overdrawn.
    pub fn remaining_pusd(&self) -> i64 {
        self.limit_pusd.saturating_sub(self.debited_pusd)
    }

    /// Does it hold that what was debited is settled or leased?
    pub fn is_balanced(&self) -> bool {
        self.debited_pusd == self.settled_pusd.saturating_add(self.leased_pusd)
    }
}

/// Reads a ledger file, beside the run that writes it.
#[derive(Debug)]
pub struct LedgerReader {
    worker: Worker<Reader>,
}

#[derive(Debug)]
struct Reader {
    connection: Connection,
    path: PathBuf,
}

impl LedgerReader {
    /// Opens the file of a ledger that has been opened before.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let reader = Reader {
            connection: db::open_to_read(path)?,
            path: path.to_owned(),
        };
        Ok(Self {
            worker: Worker::start("weir-ledger-r", Box::new(reader))?,
        })
    }

    /// Sums of spending.
    pub async fn spend(&self, query: SpendQuery) -> Result<Spending, StoreError> {
        self.worker.call(move |reader| reader.spend(&query)).await?
    }

    /// Every account that was ever used, in the window that `now_ms` is in.
    pub async fn balances(&self, now_ms: i64) -> Result<Vec<Balance>, StoreError> {
        self.worker
            .call(move |reader| reader.balances(Some(now_ms)))
            .await?
    }

    /// Every account in every window.
    pub async fn all_balances(&self) -> Result<Vec<Balance>, StoreError> {
        self.worker.call(|reader| reader.balances(None)).await?
    }
}

impl Reader {
    fn spend(&self, query: &SpendQuery) -> Result<Spending, StoreError> {
        let of = match query.group {
            Group::Account => {
                "a.organisation || '/' || a.team || '/' || a.scope || '/' || a.name || '/' || a.period"
            }
            Group::Consumer => "p.consumer",
            Group::Model => "p.model",
            Group::Provider => "p.provider",
            Group::Day => "CAST(p.tick_ms / 86400000 AS TEXT)",
        };
        let mut conditions = Vec::new();
        let mut values: Vec<Value> = Vec::new();
        let mut add = |condition: &str, value: Option<Value>| {
            if let Some(value) = value {
                conditions.push(condition.to_owned());
                values.push(value);
            }
        };
        let text = |text: &Option<String>| text.clone().map(Value::Text);
        add("a.organisation = ?", text(&query.organisation));
        add("a.team = ?", text(&query.team));
        add(
            "a.scope = ?",
            query.scope.map(|scope| Value::Text(scope.as_str().to_owned())),
        );
        add("a.name = ?", text(&query.name));
        add(
            "a.period = ?",
            query.period.map(|period| Value::Text(period.as_str().to_owned())),
        );
        add("p.tick_ms >= ?", query.since_ms.map(Value::Integer));
        add("p.tick_ms < ?", query.until_ms.map(Value::Integer));
        let conditions = if conditions.is_empty() {
            "TRUE".to_owned()
        } else {
            conditions.join(" AND ")
        };
        // Sums in two halves, since one may exceed 64 bits.
        let sql = format!(
            "SELECT {of} AS of, p.kind, sum(p.amount_pusd / 1000000000), sum(p.amount_pusd % 1000000000),
                    sum(p.calls)
             FROM posting p JOIN account a ON a.id = p.account WHERE {conditions} GROUP BY of, p.kind"
        );
        let read = || -> rusqlite::Result<Vec<(String, i64, i128, u64)>> {
            let mut select = self.connection.prepare_cached(&sql)?;
            let rows = select.query_map(params_from_iter(&values), |row| {
                let (high, low): (i64, i64) = (row.get(2)?, row.get(3)?);
                let calls: i64 = row.get(4)?;
                let sum = i128::from(high) * 1_000_000_000 + i128::from(low);
                Ok((row.get(0)?, row.get(1)?, sum, calls.unsigned_abs()))
            })?;
            rows.collect()
        };
        let read = read().map_err(|source| self.failed(source))?;
        let mut sums: std::collections::BTreeMap<String, Spend> = std::collections::BTreeMap::new();
        for (of, kind, amount, calls) in read {
            let sum = sums.entry(of).or_insert_with_key(|of| Spend {
                of: of.clone(),
                amount_pusd: 0,
                estimated_pusd: 0,
                unattributed_pusd: 0,
                calls: 0,
            });
            sum.amount_pusd += amount;
            sum.calls += calls;
            match kind {
                KIND_ESTIMATED => sum.estimated_pusd += amount,
                KIND_UNATTRIBUTED => sum.unattributed_pusd += amount,
                _ => {}
            }
        }
        let mut rows: Vec<Spend> = sums
            .into_values()
            .filter(|sum| sum.amount_pusd != 0 || sum.calls > 0)
            .collect();
        if query.group == Group::Day {
            rows.sort_by_key(|row| std::cmp::Reverse(row.of.parse::<i64>().unwrap_or(0)));
            for row in &mut rows {
                row.of = crate::civil::date_text(row.of.parse().unwrap_or(0));
            }
        } else {
            rows.sort_by(|a, b| b.amount_pusd.cmp(&a.amount_pusd).then_with(|| a.of.cmp(&b.of)));
        }
        let is_cut = rows.len() > ROWS_MAX;
        rows.truncate(ROWS_MAX);
        Ok(Spending { rows, is_cut })
    }

    fn balances(&self, now_ms: Option<i64>) -> Result<Vec<Balance>, StoreError> {
        let sql = "
            SELECT a.organisation, a.team, a.scope, a.name, a.period, a.limit_pusd, a.hard, b.window_ms,
                b.debited_pusd,
                (SELECT coalesce(sum(amount_pusd / 1000000000), 0) FROM posting p
                    WHERE p.account = a.id AND p.window_ms = b.window_ms),
                (SELECT coalesce(sum(amount_pusd % 1000000000), 0) FROM posting p
                    WHERE p.account = a.id AND p.window_ms = b.window_ms),
                (SELECT coalesce(sum(open_pusd), 0) FROM lease l
                    WHERE l.account = a.id AND l.window_ms = b.window_ms),
                (SELECT coalesce(sum(amount_pusd), 0) FROM posting p
                    WHERE p.account = a.id AND p.window_ms = b.window_ms AND p.kind = 2)
            FROM account a JOIN balance b ON b.account = a.id
            WHERE ?1 IS NULL OR b.window_ms =
                CASE a.period WHEN 'total' THEN 0 WHEN 'day' THEN ?1 ELSE ?2 END
            ORDER BY 1, 2, 3, 4, 5, 8";
        let day_ms = now_ms.map(|now_ms| Period::Day.window_ms(now_ms));
        let month_ms = now_ms.map(|now_ms| Period::Month.window_ms(now_ms));
        let read = || -> rusqlite::Result<Vec<Balance>> {
            let mut select = self.connection.prepare_cached(sql)?;
            select.query_map([day_ms, month_ms], balance)?.collect()
        };
        read().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: rusqlite::Error) -> StoreError {
        StoreError::Database {
            action: "read",
            path: self.path.clone(),
            source,
        }
    }
}

fn balance(row: &Row<'_>) -> rusqlite::Result<Balance> {
    let unknown = |at: usize| {
        rusqlite::Error::InvalidColumnType(at, "a known text".to_owned(), rusqlite::types::Type::Text)
    };
    let key = AccountKey {
        organisation: row.get(0)?,
        team: row.get(1)?,
        scope: Scope::parse(row.get_ref(2)?.as_str()?).ok_or_else(|| unknown(2))?,
        name: row.get(3)?,
        period: Period::parse(row.get_ref(4)?.as_str()?).ok_or_else(|| unknown(4))?,
    };
    Ok(Balance {
        key,
        limit_pusd: row.get(5)?,
        hard: row.get(6)?,
        window_ms: row.get(7)?,
        debited_pusd: row.get(8)?,
        settled_pusd: row
            .get::<_, i64>(9)?
            .saturating_mul(1_000_000_000)
            .saturating_add(row.get(10)?),
        leased_pusd: row.get(11)?,
        unattributed_pusd: row.get(12)?,
    })
}
