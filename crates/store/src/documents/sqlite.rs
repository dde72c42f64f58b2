//! The catalogue in a SQLite file.

use super::secrets;
use super::types::{
    Action, AuditEntry, Catalogue, CatalogueError, Change, Document, HistoryQuery, IfMatch, Origin, Snapshot,
    Written,
};
use crate::SetAside;
use crate::db::{self, Plan};
use crate::error::StoreError;
use crate::seal::Sealer;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Entries of one page of history at most.
pub const PAGE_MAX: usize = 1_000;
/// Bytes of one document at most, as JSON.
pub const DOCUMENT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Changes of one set at most.
pub const CHANGES_MAX: usize = 10_000;

const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE document (
        kind TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL,
        -- JSON pointers to its secrets.
        secrets TEXT NOT NULL,
        -- The path of the file it comes from; NULL for the API.
        file TEXT,
        version INTEGER NOT NULL, generation INTEGER NOT NULL, author TEXT NOT NULL, at_ms INTEGER NOT NULL,
        PRIMARY KEY (kind, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE change (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        generation INTEGER NOT NULL, at_ms INTEGER NOT NULL, author TEXT NOT NULL,
        kind TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL,
        before TEXT, after TEXT
    ) STRICT;
    CREATE INDEX change_document ON change (kind, name, id);
    CREATE TABLE state (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        generation INTEGER NOT NULL,
        -- A constant, sealed: tells whether the key file is the one this file was written with.
        seal_check BLOB,
        snapshot_generation INTEGER, snapshot_at_ms INTEGER, snapshot BLOB
    ) STRICT;
    INSERT INTO state (id, generation) VALUES (1, 0);
"];
const PLAN: Plan<'static> = Plan {
    migrations: &MIGRATIONS,
    synchronous: "FULL",
};
const SEAL_CHECK: &[u8] = b"weir catalogue";
const COLUMNS: &str = "kind, name, body, secrets, file, version, generation, author, at_ms";

/// The catalogue of this host.
#[derive(Debug)]
pub struct SqliteCatalogue {
    connection: Connection,
    path: PathBuf,
    sealer: Sealer,
    set_aside: Option<SetAside>,
}

impl SqliteCatalogue {
    /// Opens or makes the file. `sealer` holds the key of its secrets.
    pub fn open(path: &Path, sealer: Sealer) -> Result<Self, StoreError> {
        let db::Opened {
            connection,
            set_aside,
        } = db::open(path, &PLAN)?;
        let catalogue = Self {
            connection,
            path: path.to_owned(),
            sealer,
            set_aside,
        };
        catalogue.check_key()?;
        Ok(catalogue)
    }

    /// A damaged file that was found and renamed: its documents are gone until it is restored. The last good
    /// snapshot was in it too.
    pub fn set_aside(&self) -> Option<&SetAside> {
        self.set_aside.as_ref()
    }

    fn check_key(&self) -> Result<(), StoreError> {
        let failed = |source| self.failed("read", source);
        let sql = "SELECT seal_check FROM state WHERE id = 1";
        let found: Option<Vec<u8>> = self
            .connection
            .query_row(sql, [], |row| row.get(0))
            .map_err(failed)?;
        let wrong = |problem| StoreError::KeyFile {
            path: self.path.clone(),
            problem,
        };
        match found {
            Some(sealed) => match self.sealer.open_sealed(&sealed, SEAL_CHECK) {
                Ok(_) => Ok(()),
                Err(_) => Err(wrong(
                    "its secrets were encrypted with another key file: restore that one, or move this database away",
                )),
            },
            None => {
                let sealed = self
                    .sealer
                    .seal(b"", SEAL_CHECK)
                    .map_err(|_| wrong("no random bytes to be had"))?;
                let sql = "UPDATE state SET seal_check = ? WHERE id = 1";
                self.connection.execute(sql, [sealed]).map(|_| ()).map_err(failed)
            }
        }
    }

    fn failed(&self, action: &'static str, source: rusqlite::Error) -> StoreError {
        StoreError::Database {
            action,
            path: self.path.clone(),
            source,
        }
    }

    /// The document of a row, its secrets opened.
    fn document(&self, row: &Row<'_>) -> rusqlite::Result<Result<Document, CatalogueError>> {
        let (kind, name): (String, String) = (row.get(0)?, row.get(1)?);
        let body = secrets::open(row.get_ref(2)?.as_str()?, &kind, &name, &self.sealer);
        let file: Option<String> = row.get(4)?;
        let document = Document {
            body: Value::Null,
            // Written by this code alone; where it is not understood, nothing is shown rather than too much.
            secrets: serde_json::from_str(row.get_ref(3)?.as_str()?).unwrap_or_else(|_| vec![String::new()]),
            origin: file.map_or(Origin::Api, Origin::File),
            version: row.get::<_, i64>(5)?.unsigned_abs(),
            generation: row.get::<_, i64>(6)?.unsigned_abs(),
            author: row.get(7)?,
            at_ms: row.get(8)?,
            kind,
            name,
        };
        Ok(body.map(|body| Document { body, ..document }))
    }
}

impl Catalogue for SqliteCatalogue {
    fn generation(&mut self) -> Result<u64, CatalogueError> {
        generation(&self.connection).map_err(|source| self.failed("read", source).into())
    }

    fn get(&mut self, kind: &str, name: &str) -> Result<Option<Document>, CatalogueError> {
        let sql = format!("SELECT {COLUMNS} FROM document WHERE kind = ? AND name = ?");
        let found = self
            .connection
            .query_row(&sql, [kind, name], |row| self.document(row))
            .optional();
        found.map_err(|source| self.failed("read", source))?.transpose()
    }

    fn list(&mut self, kind: Option<&str>) -> Result<Vec<Document>, CatalogueError> {
        let sql = format!("SELECT {COLUMNS} FROM document WHERE ?1 IS NULL OR kind = ?1 ORDER BY kind, name");
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut select = self.connection.prepare_cached(&sql)?;
            select.query_map([kind], |row| self.document(row))?.collect()
        };
        read()
            .map_err(|source| self.failed("read", source))?
            .into_iter()
            .collect()
    }

    fn write(&mut self, changes: &[Change], author: &str, now_ms: i64) -> Result<Written, CatalogueError> {
        let path = self.path.clone();
        let failed = |source| StoreError::Database {
            action: "write to",
            path: path.clone(),
            source,
        };
        if let Some(beyond) = changes.get(CHANGES_MAX) {
            return Err(invalid(
                beyond,
                format!("more than {CHANGES_MAX} changes in one set: split it"),
            ));
        }
        let begun = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = begun.map_err(failed)?;
        let before = generation(&transaction).map_err(failed)?;
        let by = By {
            transaction: &transaction,
            sealer: &self.sealer,
            generation: before + 1,
            author,
            now_ms,
        };
        let mut written = Written {
            generation: before,
            versions: Vec::with_capacity(changes.len()),
        };
        for change in changes {
            let (version, is_changed) = by.make(change, &failed)?;
            written.versions.push(version);
            if is_changed {
                written.generation = before + 1;
            }
        }
        if written.generation != before {
            let sql = "UPDATE state SET generation = ? WHERE id = 1";
            transaction
                .execute(sql, [stored(written.generation)])
                .map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        Ok(written)
    }

    fn history(&mut self, query: &HistoryQuery) -> Result<Vec<AuditEntry>, CatalogueError> {
        let sql = "SELECT id, generation, at_ms, author, kind, name, version, before, after FROM change
                   WHERE (?1 IS NULL OR kind = ?1) AND (?2 IS NULL OR name = ?2) AND (?3 IS NULL OR id < ?3)
                   ORDER BY id DESC LIMIT ?4";
        let before_id = query.before_id.map(stored);
        let limit = query.limit.clamp(1, PAGE_MAX) as i64;
        let read = || -> rusqlite::Result<Vec<AuditEntry>> {
            let mut select = self.connection.prepare_cached(sql)?;
            let rows = select.query_map(params![query.kind, query.name, before_id, limit], entry)?;
            rows.collect()
        };
        read().map_err(|source| self.failed("read", source).into())
    }

    fn keep_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), CatalogueError> {
        let sealed = self.sealer.seal(snapshot.body.to_string().as_bytes(), SEAL_CHECK);
        let sealed = sealed.map_err(|_| snapshot_sealed())?;
        let sql = "UPDATE state SET snapshot_generation = ?, snapshot_at_ms = ?, snapshot = ? WHERE id = 1";
        let row = params![stored(snapshot.generation), snapshot.at_ms, sealed];
        self.connection
            .execute(sql, row)
            .map(|_| ())
            .map_err(|source| self.failed("write to", source).into())
    }

    fn last_snapshot(&mut self) -> Result<Option<Snapshot>, CatalogueError> {
        let sql = "SELECT snapshot_generation, snapshot_at_ms, snapshot FROM state WHERE id = 1 AND snapshot IS NOT NULL";
        let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get::<_, Vec<u8>>(2)?));
        let found = self.connection.query_row(sql, [], read).optional();
        let Some((generation, at_ms, sealed)) = found.map_err(|source| self.failed("read", source))? else {
            return Ok(None);
        };
        let body = self
            .sealer
            .open_sealed(&sealed, SEAL_CHECK)
            .map_err(|_| snapshot_sealed())?;
        let body = serde_json::from_slice(&body).map_err(|_| snapshot_sealed())?;
        Ok(Some(Snapshot {
            generation: generation.unsigned_abs(),
            at_ms,
            body,
        }))
    }
}

/// What is the same for all changes of a set.
struct By<'a> {
    transaction: &'a Transaction<'a>,
    sealer: &'a Sealer,
    generation: u64,
    author: &'a str,
    now_ms: i64,
}

/// A document as it stands in its row.
struct Stored {
    body: String,
    secrets: String,
    file: Option<String>,
    version: u64,
}

impl By<'_> {
    /// Makes a change. Answers the version, and whether anything differs now.
    fn make(
        &self,
        change: &Change,
        failed: &impl Fn(rusqlite::Error) -> StoreError,
    ) -> Result<(u64, bool), CatalogueError> {
        let Change { kind, name, .. } = change;
        if kind.is_empty() || name.is_empty() {
            return Err(invalid(change, "kind and name must not be empty".to_owned()));
        }
        let there = self.read(kind, name).map_err(failed)?;
        check_origin(change, there.as_ref())?;
        check_version(change, there.as_ref())?;
        match (&change.action, there) {
            (Action::Delete, None) => Err(CatalogueError::NotFound {
                kind: kind.clone(),
                name: name.clone(),
            }),
            (Action::Delete, Some(there)) => {
                let delete = "DELETE FROM document WHERE kind = ? AND name = ?";
                self.transaction.execute(delete, [kind, name]).map_err(failed)?;
                self.note(change, there.version + 1, Some(&there.body), None)
                    .map_err(failed)?;
                Ok((there.version + 1, true))
            }
            (Action::Put { body, secrets }, there) => {
                let file = match &change.origin {
                    Origin::Api => None,
                    Origin::File(file) => Some(file.as_str()),
                };
                let paths = Value::from(secrets.clone()).to_string();
                if let Some(there) = &there {
                    let same_body =
                        secrets::open(&there.body, kind, name, self.sealer).is_ok_and(|old| old == *body);
                    if same_body && there.secrets == paths && there.file.as_deref() == file {
                        return Ok((there.version, false));
                    }
                }
                let sealed = secrets::seal(body, secrets, kind, name, self.sealer);
                let sealed = sealed.map_err(|problem| invalid(change, problem))?.to_string();
                if sealed.len() > DOCUMENT_BYTES_MAX {
                    let problem = format!(
                        "{} bytes, at most {DOCUMENT_BYTES_MAX} can be stored",
                        sealed.len()
                    );
                    return Err(invalid(change, problem));
                }
                let last = there
                    .as_ref()
                    .map_or_else(|| self.last_version(kind, name), |there| Ok(there.version));
                let version = last.map_err(failed)? + 1;
                let sql =
                    format!("INSERT OR REPLACE INTO document ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)");
                let (stored_version, generation) = (stored(version), stored(self.generation));
                let row = params![
                    kind,
                    name,
                    sealed,
                    paths,
                    file,
                    stored_version,
                    generation,
                    self.author,
                    self.now_ms
                ];
                self.transaction.execute(&sql, row).map_err(failed)?;
                let before = there.as_ref().map(|there| there.body.as_str());
                self.note(change, version, before, Some(&sealed))
                    .map_err(failed)?;
                Ok((version, true))
            }
        }
    }

    fn read(&self, kind: &str, name: &str) -> rusqlite::Result<Option<Stored>> {
        let sql = "SELECT body, secrets, file, version FROM document WHERE kind = ? AND name = ?";
        let read = |row: &Row<'_>| {
            let version = row.get::<_, i64>(3)?.unsigned_abs();
            Ok(Stored {
                body: row.get(0)?,
                secrets: row.get(1)?,
                file: row.get(2)?,
                version,
            })
        };
        self.transaction
            .prepare_cached(sql)?
            .query_row([kind, name], read)
            .optional()
    }

    /// The last version that a document which is gone had.
    fn last_version(&self, kind: &str, name: &str) -> rusqlite::Result<u64> {
        let sql = "SELECT coalesce(max(version), 0) FROM change WHERE kind = ? AND name = ?";
        let version: i64 = self
            .transaction
            .prepare_cached(sql)?
            .query_row([kind, name], |row| row.get(0))?;
        Ok(version.unsigned_abs())
    }

    fn note(
        &self,
        change: &Change,
        version: u64,
        before: Option<&str>,
        after: Option<&str>,
    ) -> rusqlite::Result<()> {
        let sql = "INSERT INTO change (generation, at_ms, author, kind, name, version, before, after)
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
        let (generation, version) = (stored(self.generation), stored(version));
        let Change { kind, name, .. } = change;
        let row = params![
            generation,
            self.now_ms,
            self.author,
            kind,
            name,
            version,
            before,
            after
        ];
        self.transaction.prepare_cached(sql)?.execute(row).map(|_| ())
    }
}

/// Files own their documents, and the API owns its own. A document may move from one file to another.
fn check_origin(change: &Change, there: Option<&Stored>) -> Result<(), CatalogueError> {
    let Some(there) = there else { return Ok(()) };
    let (kind, name) = (change.kind.clone(), change.name.clone());
    match (&change.origin, &there.file) {
        (Origin::Api, Some(file)) => Err(CatalogueError::FromFile {
            kind,
            name,
            file: file.clone(),
        }),
        (Origin::File(file), None) => Err(CatalogueError::NameTaken {
            kind,
            name,
            file: file.clone(),
        }),
        _ => Ok(()),
    }
}

fn check_version(change: &Change, there: Option<&Stored>) -> Result<(), CatalogueError> {
    let found = there.map(|there| there.version);
    let holds = match change.if_match {
        IfMatch::Any => true,
        IfMatch::Absent => found.is_none(),
        IfMatch::Version(version) => found == Some(version),
    };
    if holds {
        return Ok(());
    }
    let (kind, name) = (change.kind.clone(), change.name.clone());
    Err(CatalogueError::Conflict {
        kind,
        name,
        expected: change.if_match,
        found,
    })
}

fn generation(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT generation FROM state WHERE id = 1";
    connection
        .query_row(sql, [], |row| row.get::<_, i64>(0))
        .map(i64::unsigned_abs)
}

fn entry(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    let body = |at: usize| -> rusqlite::Result<Option<Value>> {
        let text = row.get_ref(at)?.as_str_or_null()?;
        // Written by this code alone, as JSON.
        Ok(text.map(|text| secrets::hide_sealed(serde_json::from_str(text).unwrap_or_default())))
    };
    Ok(AuditEntry {
        id: row.get::<_, i64>(0)?.unsigned_abs(),
        generation: row.get::<_, i64>(1)?.unsigned_abs(),
        at_ms: row.get(2)?,
        author: row.get(3)?,
        kind: row.get(4)?,
        name: row.get(5)?,
        version: row.get::<_, i64>(6)?.unsigned_abs(),
        before: body(7)?,
        after: body(8)?,
    })
}

fn invalid(change: &Change, problem: String) -> CatalogueError {
    CatalogueError::Invalid {
        kind: change.kind.clone(),
        name: change.name.clone(),
        problem,
    }
}

fn snapshot_sealed() -> CatalogueError {
    CatalogueError::Sealed {
        kind: "snapshot".to_owned(),
        name: "last".to_owned(),
    }
}

/// SQLite's integers have a sign.
fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
