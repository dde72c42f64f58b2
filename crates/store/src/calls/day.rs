//! The file of one day: its rows, written and read.

use super::record::{AuditRecord, CallRecord, Guard, Latency, Name, Protocol};
use crate::SetAside;
use crate::civil::{self, DAY_MS};
use crate::db::{self, Plan};
use crate::error::StoreError;
use crate::outcome::Outcome;
use llm::usage::Usage;
use rusqlite::{Connection, Row, Statement, Transaction, params};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Tokens of one bucket and bytes of one body are stored up to here, so that the sum of a day fits 64 bits.
const COUNT_MAX: u64 = 1 << 40;
/// The key of a row is its arrival in milliseconds, shifted, plus a number that tells calls of the same
/// millisecond apart: rows are stored in the order in which they are asked for.
const KEY_SHIFT: u32 = 20;
/// Numbers tried for one row, where another process writes to the same file.
const KEY_TRIES: u32 = 16;
/// How far a number moves when it meets one that is taken; prime, so that all are met in time.
const KEY_STRIDE: u32 = 104_729;
const AT_MS_MAX: i64 = 1 << 42;

const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE call (
        key INTEGER PRIMARY KEY,
        request_id BLOB NOT NULL,
        organisation TEXT NOT NULL, team TEXT NOT NULL, consumer TEXT NOT NULL, key_id TEXT NOT NULL,
        user TEXT NOT NULL, service TEXT NOT NULL, route TEXT NOT NULL,
        ingress INTEGER NOT NULL, wire INTEGER NOT NULL,
        model_asked TEXT NOT NULL, model TEXT NOT NULL, provider TEXT NOT NULL, provider_key_id TEXT NOT NULL,
        status INTEGER NOT NULL, outcome INTEGER NOT NULL,
        input INTEGER NOT NULL, cache_read INTEGER NOT NULL,
        cache_write_5m INTEGER NOT NULL, cache_write_1h INTEGER NOT NULL,
        input_audio INTEGER NOT NULL, input_image INTEGER NOT NULL,
        output INTEGER NOT NULL, reasoning INTEGER NOT NULL,
        output_audio INTEGER NOT NULL, output_image INTEGER NOT NULL,
        cost_pusd INTEGER NOT NULL,
        estimated INTEGER NOT NULL, price_assumed INTEGER NOT NULL,
        cache_hit INTEGER NOT NULL, streamed INTEGER NOT NULL,
        queue_us INTEGER NOT NULL, connect_us INTEGER NOT NULL, first_byte_us INTEGER NOT NULL,
        stream_us INTEGER NOT NULL, total_us INTEGER NOT NULL,
        attempts INTEGER NOT NULL, retries INTEGER NOT NULL,
        bytes_in INTEGER NOT NULL, bytes_out INTEGER NOT NULL,
        client_ip BLOB, country TEXT NOT NULL, dropped TEXT NOT NULL,
        pii_in INTEGER NOT NULL, pii_out INTEGER NOT NULL, guard INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE bodies (
        id INTEGER PRIMARY KEY,
        request_id BLOB NOT NULL, at_ms INTEGER NOT NULL,
        organisation TEXT NOT NULL, team TEXT NOT NULL, consumer TEXT NOT NULL, user TEXT NOT NULL,
        request BLOB NOT NULL, request_bytes INTEGER NOT NULL,
        response BLOB NOT NULL, response_bytes INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX bodies_request_id ON bodies (request_id);
"];
const PLAN: Plan<'static> = Plan {
    migrations: &MIGRATIONS,
    synchronous: "NORMAL",
};

const INSERT: &str = "INSERT INTO call VALUES (
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";

/// The bodies of a call, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBodies {
    /// What was given, cut to the limit of the store.
    pub bodies: AuditRecord,
    /// How long the request was.
    pub request_bytes: u64,
    /// How long the answer was.
    pub response_bytes: u64,
}

/// The first key of a time.
pub(super) fn key_at(at_ms: i64) -> i64 {
    at_ms.clamp(0, AT_MS_MAX) << KEY_SHIFT
}

/// The day whose file a call of this time is in.
pub(super) fn day_of(at_ms: i64) -> i64 {
    civil::day_of(at_ms.clamp(0, AT_MS_MAX))
}

pub(super) fn path_of(folder: &Path, day: i64) -> PathBuf {
    folder.join(format!("calls-{}.sqlite", civil::date_text(day)))
}

/// The days that have a file, oldest first.
pub(super) fn days(folder: &Path) -> Result<Vec<i64>, StoreError> {
    let failed = |source| StoreError::File {
        action: "list",
        path: folder.to_owned(),
        source,
    };
    let mut days = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let date = name
            .to_str()
            .and_then(|name| name.strip_prefix("calls-")?.strip_suffix(".sqlite"));
        days.extend(date.and_then(civil::parse_date));
    }
    days.sort_unstable();
    Ok(days)
}

/// Bytes of the file of a day and of its side files.
pub(super) fn bytes_of(folder: &Path, day: i64) -> u64 {
    side_files(&path_of(folder, day))
        .iter()
        .map(|path| std::fs::metadata(path).map_or(0, |data| data.len()))
        .sum()
}

/// Deletes the file of a day. Who still reads it may finish.
pub(super) fn remove(folder: &Path, day: i64) -> Result<(), StoreError> {
    for path in side_files(&path_of(folder, day)) {
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::File {
                    action: "remove",
                    path,
                    source,
                });
            }
            _ => {}
        }
    }
    Ok(())
}

fn side_files(path: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|ending| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        name.into()
    })
}

/// A file that is written to.
#[derive(Debug)]
pub(super) struct DayWriter {
    pub(super) day: i64,
    path: PathBuf,
    connection: Connection,
}

impl DayWriter {
    pub(super) fn open(folder: &Path, day: i64) -> Result<(Self, Option<SetAside>), StoreError> {
        let path = path_of(folder, day);
        let db::Opened {
            connection,
            set_aside,
        } = db::open(&path, &PLAN)?;
        Ok((
            Self {
                day,
                path,
                connection,
            },
            set_aside,
        ))
    }

    /// Has someone deleted it under our feet?
    pub(super) fn is_gone(&self) -> bool {
        !self.path.exists()
    }

    /// Writes all or nothing, bodies up to `cut_at` bytes each. `number` counts rows, so that keys differ. Answers how many found no key.
    pub(super) fn write(
        &mut self,
        calls: &[&CallRecord],
        bodies: &[&AuditRecord],
        cut_at: usize,
        number: &mut u32,
    ) -> Result<u64, StoreError> {
        let path = &self.path;
        let failed = |source| StoreError::Database {
            action: "write calls to",
            path: path.clone(),
            source,
        };
        let transaction = self.connection.transaction().map_err(failed)?;
        let mut n_refused = 0;
        {
            let mut statement = transaction.prepare_cached(INSERT).map_err(failed)?;
            for call in calls {
                n_refused += u64::from(!insert(&mut statement, call, number).map_err(failed)?);
            }
        }
        for bodies in bodies {
            insert_bodies(&transaction, bodies, cut_at).map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        Ok(n_refused)
    }
}

fn insert(insert: &mut Statement<'_>, call: &CallRecord, number: &mut u32) -> rusqlite::Result<bool> {
    let count = |n: u64| n.min(COUNT_MAX) as i64;
    let (mut ip4, mut ip6) = ([0; 4], [0; 16]);
    let ip: Option<&[u8]> = call.client_ip.map(|ip| match ip {
        IpAddr::V4(ip) => {
            ip4 = ip.octets();
            &ip4[..]
        }
        IpAddr::V6(ip) => {
            ip6 = ip.octets();
            &ip6[..]
        }
    });
    let country = std::str::from_utf8(&call.country)
        .unwrap_or("")
        .trim_end_matches('\0');
    let CallRecord { usage, latency, .. } = call;
    for _ in 0..KEY_TRIES {
        *number = number.wrapping_add(1);
        let key = key_at(call.at_ms) | i64::from(*number & ((1 << KEY_SHIFT) - 1));
        let rows = insert.execute(params![
            key,
            call.request_id.as_slice(),
            &*call.organisation,
            &*call.team,
            &*call.consumer,
            &*call.key_id,
            &*call.user,
            &*call.service,
            &*call.route,
            call.ingress as u8,
            call.wire as u8,
            &*call.model_asked,
            &*call.model,
            &*call.provider,
            &*call.provider_key_id,
            call.status,
            call.outcome as u8,
            count(usage.input),
            count(usage.cache_read),
            count(usage.cache_write_5m),
            count(usage.cache_write_1h),
            count(usage.input_audio),
            count(usage.input_image),
            count(usage.output),
            count(usage.reasoning),
            count(usage.output_audio),
            count(usage.output_image),
            call.cost_pusd,
            call.estimated,
            call.price_assumed,
            call.cache_hit,
            call.streamed,
            latency.queue_us,
            latency.connect_us,
            latency.first_byte_us,
            latency.stream_us,
            latency.total_us,
            call.attempts,
            call.retries,
            count(call.bytes_in),
            count(call.bytes_out),
            ip,
            country,
            &*call.dropped,
            call.pii_in,
            call.pii_out,
            call.guard as u8,
        ])?;
        if rows == 1 {
            return Ok(true);
        }
        // Another process counts here too: go on elsewhere.
        *number = number.wrapping_add(KEY_STRIDE);
    }
    Ok(false)
}

fn insert_bodies(transaction: &Transaction<'_>, bodies: &AuditRecord, cut_at: usize) -> rusqlite::Result<()> {
    let cut = |body: &[u8]| body[..body.len().min(cut_at)].to_vec();
    let length = |body: &[u8]| i64::try_from(body.len()).unwrap_or(i64::MAX);
    let AuditRecord {
        at_ms,
        request_id,
        organisation,
        team,
        consumer,
        user,
        request,
        response,
    } = bodies;
    transaction
        .prepare_cached(
            "INSERT INTO bodies (request_id, at_ms, organisation, team, consumer, user,
                 request, request_bytes, response, response_bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            request_id.as_slice(),
            at_ms,
            &**organisation,
            &**team,
            &**consumer,
            &**user,
            cut(request),
            length(request),
            cut(response),
            length(response),
        ])?;
    Ok(())
}

/// Shares equal names of neighbouring rows.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<Name>);

impl Names {
    fn share(&mut self, text: &str) -> Name {
        const SHARED_MAX: usize = 64;
        if let Some(known) = self.0.iter().find(|known| &***known == text) {
            return known.clone();
        }
        let name = Name::from(text);
        if self.0.len() < SHARED_MAX {
            self.0.push(name.clone());
        }
        name
    }
}

/// The key and the call of a row of `SELECT * FROM call`. Codes of a later Weir read as the nearest known.
pub(super) fn call(row: &Row<'_>, names: &mut Names) -> rusqlite::Result<(i64, CallRecord)> {
    let mut name = |at: usize| -> rusqlite::Result<Name> { Ok(names.share(row.get_ref(at)?.as_str()?)) };
    let count = |at: usize| -> rusqlite::Result<u64> { Ok(row.get::<_, i64>(at)?.unsigned_abs()) };
    let key: i64 = row.get(0)?;
    let ip = row.get_ref(41)?.as_blob_or_null()?;
    let ip = ip.and_then(|ip| match ip.len() {
        4 => <[u8; 4]>::try_from(ip).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(ip).ok().map(IpAddr::from),
    });
    let country = row.get_ref(42)?.as_bytes()?;
    let call = CallRecord {
        at_ms: key >> KEY_SHIFT,
        request_id: row.get(1)?,
        organisation: name(2)?,
        team: name(3)?,
        consumer: name(4)?,
        key_id: name(5)?,
        user: name(6)?,
        service: name(7)?,
        route: name(8)?,
        ingress: Protocol::from_code(row.get(9)?).unwrap_or_default(),
        wire: Protocol::from_code(row.get(10)?).unwrap_or_default(),
        model_asked: name(11)?,
        model: name(12)?,
        provider: name(13)?,
        provider_key_id: name(14)?,
        status: row.get(15)?,
        outcome: Outcome::from_code(row.get(16)?).unwrap_or(Outcome::Internal),
        usage: Usage {
            input: count(17)?,
            cache_read: count(18)?,
            cache_write_5m: count(19)?,
            cache_write_1h: count(20)?,
            input_audio: count(21)?,
            input_image: count(22)?,
            output: count(23)?,
            reasoning: count(24)?,
            output_audio: count(25)?,
            output_image: count(26)?,
        },
        cost_pusd: row.get(27)?,
        estimated: row.get(28)?,
        price_assumed: row.get(29)?,
        cache_hit: row.get(30)?,
        streamed: row.get(31)?,
        latency: Latency {
            queue_us: row.get(32)?,
            connect_us: row.get(33)?,
            first_byte_us: row.get(34)?,
            stream_us: row.get(35)?,
            total_us: row.get(36)?,
        },
        attempts: row.get(37)?,
        retries: row.get(38)?,
        bytes_in: count(39)?,
        bytes_out: count(40)?,
        client_ip: ip,
        country: country.try_into().unwrap_or_default(),
        dropped: name(43)?,
        pii_in: row.get(44)?,
        pii_out: row.get(45)?,
        guard: Guard::from_code(row.get(46)?).unwrap_or_default(),
    };
    Ok((key, call))
}

/// The bodies of a call, from the file of its day.
pub(super) fn read_bodies(
    connection: &Connection,
    request_id: [u8; 16],
) -> rusqlite::Result<Option<StoredBodies>> {
    use rusqlite::OptionalExtension;
    let sql =
        "SELECT at_ms, organisation, team, consumer, user, request, response, request_bytes, response_bytes
               FROM bodies WHERE request_id = ? ORDER BY id DESC LIMIT 1";
    let read = |row: &Row<'_>| {
        let name = |at: usize| -> rusqlite::Result<Name> { Ok(row.get_ref(at)?.as_str()?.into()) };
        Ok(StoredBodies {
            bodies: AuditRecord {
                at_ms: row.get(0)?,
                request_id,
                organisation: name(1)?,
                team: name(2)?,
                consumer: name(3)?,
                user: name(4)?,
                request: row.get(5)?,
                response: row.get(6)?,
            },
            request_bytes: row.get::<_, i64>(7)?.unsigned_abs(),
            response_bytes: row.get::<_, i64>(8)?.unsigned_abs(),
        })
    };
    connection
        .query_row(sql, [request_id.as_slice()], read)
        .optional()
}

/// Milliseconds from the first of a day to the first of the next.
pub(super) fn range_of(day: i64) -> (i64, i64) {
    (
        day.saturating_mul(DAY_MS),
        day.saturating_add(1).saturating_mul(DAY_MS),
    )
}
