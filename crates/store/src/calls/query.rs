//! Questions to the history, answered on a thread of their own.

use super::day::{self, Names, StoredBodies};
use super::record::CallRecord;
use crate::civil::{self, HOUR_MS};
use crate::db;
use crate::error::StoreError;
use crate::json;
use crate::outcome::Outcome;
use crate::worker::Worker;
use llm::usage::Usage;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use serde::{Serialize, Serializer};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Calls of one page at most.
pub const PAGE_MAX: usize = 1_000;
/// Rows of one sum at most; what comes on top is cut, cheapest first, and the answer says so.
pub const GROUPS_MAX: usize = 10_000;
/// How long one question may search. What is found by then is answered, and where to go on.
const SEARCH: Duration = Duration::from_secs(2);
/// How long a sum may take.
const SUM: Duration = Duration::from_secs(30);

/// Which calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallFilter {
    /// That arrived at this time or later.
    pub since_ms: Option<i64>,
    /// That arrived before this time.
    pub until_ms: Option<i64>,
    /// Of this organisation.
    pub organisation: Option<String>,
    /// Of this team.
    pub team: Option<String>,
    /// Of this consumer.
    pub consumer: Option<String>,
    /// Of this key.
    pub key_id: Option<String>,
    /// Of this end user.
    pub user: Option<String>,
    /// Of this service.
    pub service: Option<String>,
    /// Answered by this model.
    pub model: Option<String>,
    /// Answered by this provider.
    pub provider: Option<String>,
    /// That ended so.
    pub outcome: Option<Outcome>,
    /// Of this status.
    pub status: Option<u16>,
    /// That cost this much or more.
    pub cost_min_pusd: Option<i64>,
    /// With this id.
    pub request_id: Option<[u8; 16]>,
}

impl CallFilter {
    fn conditions(&self) -> (String, Vec<Value>) {
        let mut conditions = vec!["key >= ?", "key < ?"];
        // The range of keys, filled in for each search.
        let mut values = vec![Value::Null, Value::Null];
        let mut add = |condition, value: Option<Value>| {
            if let Some(value) = value {
                conditions.push(condition);
                values.push(value);
            }
        };
        let text = |text: &Option<String>| text.clone().map(Value::Text);
        add("organisation = ?", text(&self.organisation));
        add("team = ?", text(&self.team));
        add("consumer = ?", text(&self.consumer));
        add("key_id = ?", text(&self.key_id));
        add("user = ?", text(&self.user));
        add("service = ?", text(&self.service));
        add("model = ?", text(&self.model));
        add("provider = ?", text(&self.provider));
        add(
            "outcome = ?",
            self.outcome.map(|outcome| Value::Integer(outcome as i64)),
        );
        add(
            "status = ?",
            self.status.map(|status| Value::Integer(status.into())),
        );
        add("cost_pusd >= ?", self.cost_min_pusd.map(Value::Integer));
        add(
            "request_id = ?",
            self.request_id.map(|id| Value::Blob(id.to_vec())),
        );
        (conditions.join(" AND "), values)
    }

    /// The keys that the times leave.
    fn keys(&self) -> (i64, i64) {
        (
            self.since_ms.map_or(0, day::key_at),
            self.until_ms.map_or(i64::MAX, day::key_at),
        )
    }
}

/// A place in the history; everything older comes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(i64);

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl std::str::FromStr for Cursor {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        i64::from_str_radix(text, 16).map(Self)
    }
}

/// A page of calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallQuery {
    /// Which calls.
    pub filter: CallFilter,
    /// How many at most, and never more than [`PAGE_MAX`].
    pub limit: usize,
    /// Those after this place.
    pub cursor: Option<Cursor>,
}

/// An answer to [`CallQuery`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CallPage {
    /// The calls, newest first.
    pub calls: Vec<CallRecord>,
    /// Where to go on: the page is full, or the search took too long.
    pub next: Option<Cursor>,
    /// Days whose file could not be read.
    pub unreadable: Vec<String>,
}

/// By what calls are summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallGroup {
    /// All in one.
    #[default]
    All,
    /// By organisation.
    Organisation,
    /// By team.
    Team,
    /// By consumer.
    Consumer,
    /// By key.
    Key,
    /// By end user.
    User,
    /// By service.
    Service,
    /// By the model that answered.
    Model,
    /// By provider.
    Provider,
    /// By outcome.
    Outcome,
    /// By hour (UTC).
    Hour,
    /// By day (UTC).
    Day,
}

impl CallGroup {
    fn column(self) -> &'static str {
        match self {
            Self::All => "''",
            Self::Organisation => "organisation",
            Self::Team => "team",
            Self::Consumer => "consumer",
            Self::Key => "key_id",
            Self::User => "user",
            Self::Service => "service",
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Outcome => "CAST(outcome AS TEXT)",
            // Milliseconds are in the key, above 20 bits of number.
            Self::Hour => "CAST((key >> 20) / 3600000 AS TEXT)",
            Self::Day => "CAST((key >> 20) / 86400000 AS TEXT)",
        }
    }

    fn is_time(self) -> bool {
        matches!(self, Self::Hour | Self::Day)
    }

    fn name(self, of: &str) -> String {
        let number = || of.parse::<i64>().unwrap_or(0);
        match self {
            Self::Hour => civil::time_text(number() * HOUR_MS),
            Self::Day => civil::date_text(number()),
            Self::Outcome => {
                let outcome = u8::try_from(number()).ok().and_then(Outcome::from_code);
                outcome.unwrap_or(Outcome::Internal).as_str().to_owned()
            }
            _ => of.to_owned(),
        }
    }
}

/// A sum of calls. Money is exact: its sum may exceed 64 bits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CallSum {
    /// Of what: a name, a time or a date. Empty for calls without one.
    pub of: String,
    /// How many.
    pub calls: u64,
    /// Of them, those that did not give the client what it asked for.
    pub failed: u64,
    /// Of them, those answered from the cache.
    pub cache_hits: u64,
    /// What they cost.
    #[serde(rename = "cost_usd", serialize_with = "json::sum")]
    pub cost_pusd: i128,
    /// Of it, from estimated usage.
    #[serde(rename = "estimated_usd", serialize_with = "json::sum")]
    pub estimated_pusd: i128,
    /// Of it, at prices of the catalogue.
    #[serde(rename = "assumed_usd", serialize_with = "json::sum")]
    pub assumed_pusd: i128,
    /// Tokens by bucket.
    #[serde(serialize_with = "json::usage")]
    pub usage: Usage,
    /// Bytes of requests.
    pub bytes_in: u64,
    /// Bytes of answers.
    pub bytes_out: u64,
    /// The time of all together.
    pub total_us: u64,
}

/// An answer to a sum, dearest first (by time: newest first).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CallSums {
    /// The sums.
    pub rows: Vec<CallSum>,
    /// There were more than [`GROUPS_MAX`].
    pub is_cut: bool,
    /// The time ran out: days before this one are missing.
    pub missing_before: Option<String>,
    /// Days whose file could not be read.
    pub unreadable: Vec<String>,
}

/// Reads the files of days, beside the thread that writes them.
#[derive(Debug)]
pub struct CallReader {
    worker: Worker<PathBuf>,
}

impl CallReader {
    /// A reader of the files in `folder`, which need not exist yet.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            worker: Worker::start("weir-calls-r", Box::new(folder.to_owned()))?,
        })
    }

    /// A page of calls.
    pub async fn calls(&self, query: CallQuery) -> Result<CallPage, StoreError> {
        self.worker.call(move |folder| calls(folder, &query)).await?
    }

    /// Sums of calls.
    pub async fn sums(&self, filter: CallFilter, group: CallGroup) -> Result<CallSums, StoreError> {
        self.worker
            .call(move |folder| sums(folder, &filter, group))
            .await?
    }

    /// The bodies of a call that arrived at `at_ms`, where the audit trail has them.
    pub async fn bodies(&self, request_id: [u8; 16], at_ms: i64) -> Result<Option<StoredBodies>, StoreError> {
        let read = move |folder: &mut PathBuf| {
            let path = day::path_of(folder, day::day_of(at_ms));
            if !path.exists() {
                return Ok(None);
            }
            let found = day::read_bodies(&db::open_to_read(&path)?, request_id);
            found.map_err(|source| StoreError::Database {
                action: "read bodies of",
                path,
                source,
            })
        };
        self.worker.call(read).await?
    }
}

/// The days with files that hold keys from `from` to before `to`, newest first, each with its own range.
fn ranges(folder: &Path, from: i64, to: i64) -> Result<Vec<(i64, i64, i64)>, StoreError> {
    let days = match day::days(folder) {
        Err(StoreError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        days => days?,
    };
    let ranges = days.into_iter().rev().map(|day| {
        let (start_ms, end_ms) = day::range_of(day);
        (day, from.max(day::key_at(start_ms)), to.min(day::key_at(end_ms)))
    });
    Ok(ranges.filter(|(_, from, to)| from < to).collect())
}

fn calls(folder: &Path, query: &CallQuery) -> Result<CallPage, StoreError> {
    let begun = Instant::now();
    let limit = query.limit.clamp(1, PAGE_MAX);
    let (from, mut to) = query.filter.keys();
    if let Some(Cursor(before)) = query.cursor {
        to = to.min(before);
    }
    let mut page = CallPage::default();
    let mut search = Search::new(&query.filter, limit);
    for (day, from, to) in ranges(folder, from, to)? {
        let read = db::open_to_read(&day::path_of(folder, day)).and_then(|connection| {
            search
                .day(&connection, from, to, begun)
                .map_err(|source| StoreError::Database {
                    action: "read",
                    path: day::path_of(folder, day),
                    source,
                })
        });
        match read {
            Ok(None) => {}
            Ok(next) => {
                page.next = next;
                break;
            }
            // Told instead of failing all: one bad day does not hide the others.
            Err(_) => page.unreadable.push(civil::date_text(day)),
        }
    }
    page.calls = search.calls;
    Ok(page)
}

struct Search {
    sql: String,
    values: Vec<Value>,
    limit: usize,
    names: Names,
    calls: Vec<CallRecord>,
}

impl Search {
    fn new(filter: &CallFilter, limit: usize) -> Self {
        let (conditions, values) = filter.conditions();
        let sql = format!("SELECT * FROM call WHERE {conditions} ORDER BY key DESC LIMIT ?");
        Self {
            sql,
            values,
            limit,
            names: Names::default(),
            calls: Vec::new(),
        }
    }

    /// Searches the keys of one day, an hour at a time, newest first. Answers where to go on, if it stopped.
    fn day(
        &mut self,
        connection: &Connection,
        from: i64,
        to: i64,
        begun: Instant,
    ) -> rusqlite::Result<Option<Cursor>> {
        let hour = day::key_at(HOUR_MS);
        let mut select = connection.prepare(&self.sql)?;
        let mut upper = to;
        while upper > from {
            let lower = from.max((upper - 1).div_euclid(hour).saturating_mul(hour));
            let mut values = self.values.clone();
            values[0] = Value::Integer(lower);
            values[1] = Value::Integer(upper);
            values.push(Value::Integer((self.limit - self.calls.len()) as i64));
            let mut rows = select.query(params_from_iter(values))?;
            while let Some(row) = rows.next()? {
                let (key, call) = day::call(row, &mut self.names)?;
                self.calls.push(call);
                if self.calls.len() == self.limit {
                    return Ok(Some(Cursor(key)));
                }
            }
            upper = lower;
            if begun.elapsed() > SEARCH {
                return Ok(Some(Cursor(upper)));
            }
        }
        Ok(None)
    }
}

const SUMS: &str = "count(*), sum(outcome > 1), sum(cache_hit),
    sum(cost_pusd / 1000000000), sum(cost_pusd % 1000000000),
    sum(iif(estimated, cost_pusd / 1000000000, 0)), sum(iif(estimated, cost_pusd % 1000000000, 0)),
    sum(iif(price_assumed, cost_pusd / 1000000000, 0)), sum(iif(price_assumed, cost_pusd % 1000000000, 0)),
    sum(input), sum(cache_read), sum(cache_write_5m), sum(cache_write_1h), sum(input_audio), sum(input_image),
    sum(output), sum(reasoning), sum(output_audio), sum(output_image),
    sum(bytes_in), sum(bytes_out), sum(total_us)";
const N_SUMS: usize = 22;

fn sums(folder: &Path, filter: &CallFilter, group: CallGroup) -> Result<CallSums, StoreError> {
    let begun = Instant::now();
    let (from, to) = filter.keys();
    let (conditions, mut values) = filter.conditions();
    let sql = format!(
        "SELECT {} AS of, {SUMS} FROM call WHERE {conditions} GROUP BY of",
        group.column()
    );
    let mut found: HashMap<String, CallSum> = HashMap::new();
    let mut answer = CallSums::default();
    for (day, from, to) in ranges(folder, from, to)? {
        if begun.elapsed() > SUM {
            answer.missing_before = Some(civil::date_text(day + 1));
            break;
        }
        values[0] = Value::Integer(from);
        values[1] = Value::Integer(to);
        let Ok(rows) = sums_of_day(&day::path_of(folder, day), &sql, &values) else {
            answer.unreadable.push(civil::date_text(day));
            continue;
        };
        for (of, sums) in rows {
            add(found.entry(of).or_default(), &sums);
        }
    }
    let mut rows: Vec<(String, CallSum)> = found.into_iter().collect();
    if group.is_time() {
        rows.sort_by_key(|(of, _)| std::cmp::Reverse(of.parse::<i64>().unwrap_or(0)));
    } else {
        rows.sort_by(|(a, one), (b, two)| {
            two.cost_pusd
                .cmp(&one.cost_pusd)
                .then(two.calls.cmp(&one.calls))
                .then_with(|| a.cmp(b))
        });
    }
    answer.is_cut = rows.len() > GROUPS_MAX;
    rows.truncate(GROUPS_MAX);
    answer.rows = rows
        .into_iter()
        .map(|(of, sum)| CallSum {
            of: group.name(&of),
            ..sum
        })
        .collect();
    Ok(answer)
}

fn sums_of_day(path: &Path, sql: &str, values: &[Value]) -> Result<Vec<(String, [i64; N_SUMS])>, StoreError> {
    let connection = db::open_to_read(path)?;
    let read = || -> rusqlite::Result<Vec<_>> {
        let mut select = connection.prepare(sql)?;
        let rows = select.query_map(params_from_iter(values), |row| {
            let mut sums = [0; N_SUMS];
            for (at, sum) in sums.iter_mut().enumerate() {
                *sum = row.get(at + 1)?;
            }
            Ok((row.get(0)?, sums))
        })?;
        rows.collect()
    };
    read().map_err(|source| StoreError::Database {
        action: "sum calls of",
        path: path.to_owned(),
        source,
    })
}

fn add(sum: &mut CallSum, found: &[i64; N_SUMS]) {
    let count = |at: usize| found[at].unsigned_abs();
    let money = |at: usize| i128::from(found[at]) * 1_000_000_000 + i128::from(found[at + 1]);
    sum.calls += count(0);
    sum.failed += count(1);
    sum.cache_hits += count(2);
    sum.cost_pusd += money(3);
    sum.estimated_pusd += money(5);
    sum.assumed_pusd += money(7);
    let usage = &mut sum.usage;
    let buckets = [
        &mut usage.input,
        &mut usage.cache_read,
        &mut usage.cache_write_5m,
        &mut usage.cache_write_1h,
        &mut usage.input_audio,
        &mut usage.input_image,
        &mut usage.output,
        &mut usage.reasoning,
        &mut usage.output_audio,
        &mut usage.output_image,
        &mut sum.bytes_in,
        &mut sum.bytes_out,
        &mut sum.total_us,
    ];
    for (at, bucket) in (9..).zip(buckets) {
        *bucket = bucket.saturating_add(count(at));
    }
}
