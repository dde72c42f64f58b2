//! Opening a SQLite file: permissions, damage, migrations.

use crate::error::StoreError;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use serde::Serialize;
use std::fs::{DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Files up to this size are checked page by page when they are opened. Larger ones are found out when a
/// damaged page is read.
const CHECKED_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How long a statement waits for another process that writes to the file.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// Statements kept compiled for each connection.
const STATEMENTS_MAX: usize = 64;

/// A damaged database file that was renamed to make room for a new one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SetAside {
    /// Where it was and where the new one is.
    pub path: PathBuf,
    /// What it is called now.
    pub kept_as: PathBuf,
    /// What SQLite said of it.
    pub reason: String,
}

/// How a file is to be opened.
pub(crate) struct Plan<'a> {
    /// One SQL script for each version: the first makes version 1 of an empty file.
    pub(crate) migrations: &'a [&'a str],
    /// `FULL` where a commit must survive a loss of power, else `NORMAL`.
    pub(crate) synchronous: &'a str,
}

/// What [`open`] found.
pub(crate) struct Opened {
    pub(crate) connection: Connection,
    pub(crate) set_aside: Option<SetAside>,
}

/// Opens or makes the database at `path` and brings it to the latest version. If it is damaged, it is set
/// aside and a new one is made.
pub(crate) fn open(path: &Path, plan: &Plan<'_>) -> Result<Opened, StoreError> {
    make_folder_of(path)?;
    match try_open(path, plan) {
        Ok(connection) => Ok(Opened {
            connection,
            set_aside: None,
        }),
        Err(StoreError::Database { source, .. }) if is_damage(&source) => {
            let kept_as = set_aside(path)?;
            let set_aside = SetAside {
                path: path.to_owned(),
                kept_as,
                reason: source.to_string(),
            };
            let connection = try_open(path, plan)?;
            Ok(Opened {
                connection,
                set_aside: Some(set_aside),
            })
        }
        Err(error) => Err(error),
    }
}

/// Opens an existing database for reading alone.
pub(crate) fn open_to_read(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let of = |action| {
        move |source| StoreError::Database {
            action,
            path: path.to_owned(),
            source,
        }
    };
    let connection = Connection::open_with_flags(path, flags).map_err(of("open"))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(of("set up"))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}

/// Makes the folder that `path` is in, for its owner alone, if it is not there.
pub(crate) fn make_folder_of(path: &Path) -> Result<(), StoreError> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
        return Ok(());
    };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| StoreError::File {
        action: "make the folder",
        path: folder.to_owned(),
        source,
    })
}

/// Is this what SQLite says of a damaged file?
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

fn try_open(path: &Path, plan: &Plan<'_>) -> Result<Connection, StoreError> {
    // SQLite gives its side files (-wal, -shm) the permissions of the database, so it is made first.
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    if let Err(source) = made
        && source.kind() != ErrorKind::AlreadyExists
    {
        return Err(StoreError::File {
            action: "make",
            path: path.to_owned(),
            source,
        });
    }
    let of = |action| {
        move |source| StoreError::Database {
            action,
            path: path.to_owned(),
            source,
        }
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(of("open"))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(of("set up"))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    let set_up = |connection: &Connection| {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", plan.synchronous)?;
        connection.pragma_update(None, "foreign_keys", true)
    };
    // First of all: the rest writes, and a damaged file is to be kept as it was found.
    check_pages(&connection, path).map_err(of("check"))?;
    set_up(&connection).map_err(of("set up"))?;
    migrate(&mut connection, path, plan.migrations)?;
    Ok(connection)
}

fn check_pages(connection: &Connection, path: &Path) -> rusqlite::Result<()> {
    if std::fs::metadata(path).map_or(0, |data| data.len()) > CHECKED_BYTES_MAX {
        return Ok(());
    }
    let answer: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if answer == "ok" {
        return Ok(());
    }
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(rusqlite::Error::SqliteFailure(code, Some(answer)))
}

/// Runs the scripts that are missing, each in one transaction with the new version number, so that a crash
/// leaves a whole version. Two processes that start at once do not run one twice.
fn migrate(connection: &mut Connection, path: &Path, migrations: &[&str]) -> Result<(), StoreError> {
    let of = |source| StoreError::Database {
        action: "migrate",
        path: path.to_owned(),
        source,
    };
    let known = migrations.len() as i64;
    loop {
        let transaction = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(of)?;
        let version: i64 = transaction
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(of)?;
        if version > known {
            return Err(StoreError::TooNew {
                path: path.to_owned(),
                found: version,
                known,
            });
        }
        let Some(script) = usize::try_from(version).ok().and_then(|at| migrations.get(at)) else {
            return Ok(());
        };
        transaction.execute_batch(script).map_err(of)?;
        transaction
            .pragma_update(None, "user_version", version + 1)
            .map_err(of)?;
        transaction.commit().map_err(of)?;
    }
}

/// Renames the database and its side files. The name carries the time, so that no earlier one is replaced.
fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let suffix = format!(".damaged-{}", since_1970.as_millis());
    let with = |ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let kept_as = with(&suffix);
    std::fs::rename(path, &kept_as).map_err(|source| StoreError::File {
        action: "set aside the damaged database",
        path: path.to_owned(),
        source,
    })?;
    for side in ["-wal", "-shm"] {
        let renamed = std::fs::rename(with(side), with(&format!("{suffix}{side}")));
        if let Err(source) = renamed
            && source.kind() != ErrorKind::NotFound
        {
            return Err(StoreError::File {
                action: "set aside",
                path: with(side),
                source,
            });
        }
    }
    Ok(kept_as)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const STEPS: [&str; 3] = [
        "CREATE TABLE t (a INTEGER)",
        "ALTER TABLE t ADD COLUMN b TEXT NOT NULL DEFAULT 'two'; INSERT INTO t (a) VALUES (2)",
        "CREATE INDEX t_a ON t (a)",
    ];

    fn plan(migrations: &[&'static str]) -> Plan<'static> {
        Plan {
            migrations: migrations.to_vec().leak(),
            synchronous: "NORMAL",
        }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn every_version_becomes_the_latest_and_keeps_its_rows() {
        for from in 0..=STEPS.len() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x.sqlite");
            let old = open(&path, &plan(&STEPS[..from])).unwrap().connection;
            if from > 0 {
                old.execute("INSERT INTO t (a) VALUES (1)", []).unwrap();
            }
            drop(old);
            for _ in 0..2 {
                let new = open(&path, &plan(&STEPS)).unwrap();
                assert_eq!(new.set_aside, None);
                let count = |sql: &str| {
                    new.connection
                        .query_row(sql, [], |row| row.get::<_, i64>(0))
                        .unwrap()
                };
                assert_eq!(count("PRAGMA user_version"), 3);
                assert_eq!(
                    count("SELECT count(*) FROM t WHERE b = 'two'"),
                    1 + i64::from(from > 0)
                );
            }
        }
    }

    #[test]
    fn a_step_that_fails_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sqlite");
        let bad = ["CREATE TABLE t (a)", "CREATE TABLE u (a); CREATE TABLE t (b)"];
        assert!(matches!(
            open(&path, &plan(&bad)),
            Err(StoreError::Database {
                action: "migrate",
                ..
            })
        ));
        let kept = open(&path, &plan(&bad[..1])).unwrap().connection;
        assert!(kept.prepare("SELECT a FROM u").is_err());
    }

    #[test]
    fn a_later_version_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sqlite");
        drop(open(&path, &plan(&STEPS)).unwrap());
        let before = std::fs::read(&path).unwrap();
        let refused = open(&path, &plan(&STEPS[..1]));
        assert!(matches!(
            refused,
            Err(StoreError::TooNew {
                found: 3,
                known: 1,
                ..
            })
        ));
        assert!(std::fs::read(&path).unwrap() == before, "unchanged");
    }

    #[test]
    fn only_the_owner_may_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/x.sqlite");
        let opened = open(&path, &plan(&STEPS)).unwrap();
        opened
            .connection
            .execute("INSERT INTO t (a) VALUES (1)", [])
            .unwrap();
        for side in ["", "-wal", "-shm"] {
            let name = format!("{}{side}", path.display());
            assert_eq!(mode(Path::new(&name)), 0o600, "{name}");
        }
        assert_eq!(mode(path.parent().unwrap()), 0o700);
    }

    #[test]
    fn damage_is_set_aside_and_never_deleted() {
        let garbage = vec![0x5a; 8_192];
        check_damage(|path| std::fs::write(path, &garbage).unwrap());
        // A page in the middle, under an intact header.
        check_damage(|path| {
            let connection = open(path, &plan(&STEPS)).unwrap().connection;
            for n in 0..2_000 {
                connection.execute("INSERT INTO t (a) VALUES (?)", [n]).unwrap();
            }
            connection.pragma_update(None, "journal_mode", "DELETE").unwrap();
            drop(connection);
            let mut bytes = std::fs::read(path).unwrap();
            assert!(bytes.len() > 5 * 4_096);
            bytes[4_096..5 * 4_096].fill(0xff);
            std::fs::write(path, bytes).unwrap();
        });
    }

    fn check_damage(make: impl Fn(&Path)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sqlite");
        make(&path);
        let before = std::fs::read(&path).unwrap();
        let opened = open(&path, &plan(&STEPS)).unwrap();
        let aside = opened.set_aside.expect("damage is told");
        assert!(std::fs::read(&aside.kept_as).unwrap() == before, "kept as it was");
        opened
            .connection
            .execute("INSERT INTO t (a) VALUES (1)", [])
            .unwrap();
        drop(opened.connection);
        assert_eq!(open(&path, &plan(&STEPS)).unwrap().set_aside, None);
    }
}
