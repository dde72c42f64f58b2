//! Client keys: who calls, by the keyed hash of the key presented.
//!
//! The table is in memory for the way of a request and in a SQLite file for good, and is changed entry by
//! entry: a key that is revoked is refused from that instant on, whatever the file says. The key itself is
//! stored nowhere.

use crate::SetAside;
use crate::db::{self, Plan};
use crate::error::StoreError;
use crate::seal::KeyHasher;
use crate::worker::Worker;
use rusqlite::{Connection, Row, params};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// What client keys begin with.
pub const PREFIX: &str = "sk-weir-";
/// Keys in force at once; more are refused.
pub const KEYS_MAX: usize = 1_000_000;
/// Rows of one answer at most.
pub const PAGE_MAX: usize = 1_000;
/// Parts of the table with a lock each, so that a change holds up few look-ups.
const SHARDS: usize = 64;

const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE client_key (
        id TEXT PRIMARY KEY,
        hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
        organisation TEXT NOT NULL, team TEXT NOT NULL, consumer TEXT NOT NULL, shown TEXT NOT NULL,
        created_ms INTEGER NOT NULL, expires_ms INTEGER, revoked_ms INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX client_key_consumer ON client_key (organisation, consumer, id);
"];
// A revocation must survive a loss of power.
const PLAN: Plan<'static> = Plan {
    migrations: &MIGRATIONS,
    synchronous: "FULL",
};
const COLUMNS: &str = "id, organisation, team, consumer, shown, created_ms, expires_ms, revoked_ms, hash";

/// Whom a key belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// The id of the key, for logs and for whoever revokes it.
    pub id: Arc<str>,
    /// Whose.
    pub organisation: Arc<str>,
    /// Whose in it.
    pub team: Arc<str>,
    /// The application.
    pub consumer: Arc<str>,
    /// What may be shown of the key ([`shown`]).
    pub shown: Arc<str>,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: i64,
    /// When it stops being valid.
    pub expires_ms: Option<i64>,
    /// When it was revoked.
    pub revoked_ms: Option<i64>,
    /// It is written in a file of the operator, and lives as long as it is.
    pub is_from_file: bool,
}

impl Identity {
    /// May it be used at `now_ms`?
    pub fn is_valid(&self, now_ms: i64) -> bool {
        self.revoked_ms.is_none() && self.expires_ms.is_none_or(|expires_ms| now_ms < expires_ms)
    }
}

/// A key to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// Its id; must be new.
    pub id: String,
    /// Whose.
    pub organisation: String,
    /// Whose in it.
    pub team: String,
    /// The application.
    pub consumer: String,
    /// When it stops being valid, in milliseconds since 1970.
    pub expires_ms: Option<i64>,
}

/// A key as its owner gets to see it, once.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientKey(String);

impl ClientKey {
    /// The key of 32 random bytes.
    pub fn new(random: &[u8; 32]) -> Self {
        use std::fmt::Write;
        let mut text = PREFIX.to_owned();
        for byte in random {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// The key in the clear.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientKey(***)")
    }
}

/// What may be shown of a key: its first and last four characters, `sk-weir-ab12…9f0e`. Of a short one nothing.
pub fn shown(key: &str) -> String {
    let (prefix, rest) = key.strip_prefix(PREFIX).map_or(("", key), |rest| (PREFIX, rest));
    let characters: Vec<char> = rest.chars().collect();
    if characters.len() < 24 {
        return format!("{prefix}…");
    }
    let first: String = characters[..4].iter().collect();
    let last: String = characters[characters.len() - 4..].iter().collect();
    format!("{prefix}{first}…{last}")
}

/// Why a key was not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The id or the key is there already.
    #[error("a key with the id `{id}` or of the same value exists already")]
    Exists {
        /// Which id.
        id: String,
    },
    /// No room.
    #[error("there are {KEYS_MAX} keys already: revoke some")]
    Full,
    /// The file failed. A key that was to be revoked is refused all the same, until Weir is started again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A keyed hash. Nobody can choose it, so that its first bytes do as a hash in a table.
#[derive(Clone, Copy, PartialEq, Eq)]
struct KeyHash([u8; 32]);

impl Hash for KeyHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

#[derive(Default)]
struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type Shard = HashMap<KeyHash, Arc<Identity>, BuildHasherDefault<FirstBytes>>;

/// The keys in force.
pub struct Identities {
    memory: Arc<Memory>,
    /// Its thread also makes the changes in memory, so that those are in the order of the file's.
    table: Worker<Table>,
    set_aside: Option<SetAside>,
}

struct Memory {
    shards: [RwLock<Shard>; SHARDS],
    /// By id, for changes; taken before any shard.
    ids: Mutex<HashMap<Arc<str>, KeyHash>>,
    /// Revoked here and not yet in the file, which may fail: never taken in from there again. Taken last.
    refused: Mutex<HashSet<Arc<str>>>,
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identities")
            .field("set_aside", &self.set_aside)
            .finish_non_exhaustive()
    }
}

struct Table {
    connection: Connection,
    path: PathBuf,
    data_version: i64,
}

impl Identities {
    /// Opens or makes the file and reads the keys that are not revoked. Blocks.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let db::Opened {
            connection,
            set_aside,
        } = db::open(path, &PLAN)?;
        let mut table = Table {
            connection,
            path: path.to_owned(),
            data_version: 0,
        };
        let rows = table.read_if_changed()?.unwrap_or_default();
        let shards = std::array::from_fn(|_| RwLock::default());
        let memory = Memory {
            shards,
            ids: Mutex::default(),
            refused: Mutex::default(),
        };
        memory.replace(false, rows);
        let table = Worker::start("weir-identity", Box::new(table))?;
        Ok(Self {
            memory: Arc::new(memory),
            table,
            set_aside,
        })
    }

    /// A damaged file that was found and renamed: its keys are gone until it is restored.
    pub fn set_aside(&self) -> Option<&SetAside> {
        self.set_aside.as_ref()
    }

    /// Whom a key belongs to, by its hash ([`KeyHasher::hash`]). Revoked keys are not found; whether one has
    /// expired is the caller's to ask ([`Identity::is_valid`]), who knows the time.
    pub fn lookup(&self, hash: &[u8; 32]) -> Option<Arc<Identity>> {
        self.memory.lookup(KeyHash(*hash))
    }

    /// How many keys are in force, expired ones included.
    pub fn len(&self) -> usize {
        self.memory.ids().len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes a key of 32 random bytes. It is in force once it is on disk.
    pub async fn create(
        &self,
        new: NewKey,
        random: &[u8; 32],
        hasher: &KeyHasher,
        now_ms: i64,
    ) -> Result<(ClientKey, Arc<Identity>), IdentityError> {
        let key = ClientKey::new(random);
        let identity = self.add(new, key.expose(), hasher, now_ms).await?;
        Ok((key, identity))
    }

    /// Takes in a key that exists elsewhere.
    pub async fn add(
        &self,
        new: NewKey,
        key: &str,
        hasher: &KeyHasher,
        now_ms: i64,
    ) -> Result<Arc<Identity>, IdentityError> {
        let hash = KeyHash(hasher.hash(key.as_bytes()));
        let exists = || IdentityError::Exists { id: new.id.clone() };
        if self.len() >= KEYS_MAX {
            return Err(IdentityError::Full);
        }
        if self.lookup(&hash.0).is_some() || self.find(&new.id).is_some() {
            return Err(exists());
        }
        let identity = Arc::new(Identity {
            id: new.id.as_str().into(),
            organisation: new.organisation.as_str().into(),
            team: new.team.as_str().into(),
            consumer: new.consumer.as_str().into(),
            shown: shown(key).into(),
            created_ms: now_ms,
            expires_ms: new.expires_ms,
            revoked_ms: None,
            is_from_file: false,
        });
        let (row, memory) = (identity.clone(), self.memory.clone());
        let insert = move |table: &mut Table| -> Result<bool, StoreError> {
            let is_new = table.insert(&row, hash)?;
            if is_new {
                memory.insert(hash, row);
            }
            Ok(is_new)
        };
        if !self.table.call(insert).await?? {
            return Err(exists());
        }
        Ok(identity)
    }

    /// Revokes a key: refused from now on in this process, then on disk. Answers whether it was in force.
    /// Keys of files are revoked there, by taking them out.
    pub async fn revoke(&self, id: &str, now_ms: i64) -> Result<bool, IdentityError> {
        if self.find(id).is_some_and(|identity| identity.is_from_file) {
            return Ok(false);
        }
        self.memory.take_out(id);
        let (id, memory) = (id.to_owned(), self.memory.clone());
        let revoke = move |table: &mut Table| {
            // Again, in case the file was being read as it still stood there.
            memory.take_out(&id);
            let is_revoked = table.revoke(&id, now_ms)?;
            memory.refused().remove(id.as_str());
            Ok::<_, StoreError>(is_revoked)
        };
        Ok(self.table.call(revoke).await??)
    }

    /// Lets a key expire at another time, or never. Answers whether it is there.
    pub async fn set_expiry(&self, id: &str, expires_ms: Option<i64>) -> Result<bool, IdentityError> {
        let (id, memory) = (id.to_owned(), self.memory.clone());
        let change = move |table: &mut Table| -> Result<bool, StoreError> {
            let is_changed = table.set_expiry(&id, expires_ms)?;
            if is_changed {
                memory.set_expiry(&id, expires_ms);
            }
            Ok(is_changed)
        };
        Ok(self.table.call(change).await??)
    }

    /// The key in force with this id.
    pub fn find(&self, id: &str) -> Option<Arc<Identity>> {
        let hash = *self.memory.ids().get(id)?;
        self.memory.lookup(hash)
    }

    /// Keys in the file, revoked ones included, by id: those after `after_id`, at most `limit`.
    pub async fn list(
        &self,
        consumer: Option<String>,
        after_id: Option<String>,
        limit: usize,
    ) -> Result<Vec<Identity>, IdentityError> {
        let limit = limit.min(PAGE_MAX);
        let read = move |table: &mut Table| table.list(consumer.as_deref(), after_id.as_deref(), limit);
        Ok(self.table.call(read).await??)
    }

    /// Puts the keys of the operator's files in the place of those given before. Answers the ids of those
    /// that could not be taken in, since a key of this id or value is there already.
    pub fn set_from_files(&self, keys: Vec<(Identity, [u8; 32])>) -> Vec<Arc<str>> {
        let keys = keys.into_iter().map(|(identity, hash)| {
            (
                Identity {
                    is_from_file: true,
                    ..identity
                },
                KeyHash(hash),
            )
        });
        self.memory.replace(true, keys.collect())
    }

    /// Reads the file again if another process has changed it. Answers whether it had.
    pub async fn reload(&self) -> Result<bool, IdentityError> {
        let memory = self.memory.clone();
        let reload = move |table: &mut Table| -> Result<bool, StoreError> {
            let rows = table.read_if_changed()?;
            let is_changed = rows.is_some();
            if let Some(rows) = rows {
                memory.replace(false, rows);
            }
            Ok(is_changed)
        };
        Ok(self.table.call(reload).await??)
    }
}

impl Memory {
    fn ids(&self) -> MutexGuard<'_, HashMap<Arc<str>, KeyHash>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self) -> MutexGuard<'_, HashSet<Arc<str>>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lookup(&self, hash: KeyHash) -> Option<Arc<Identity>> {
        self.shard(hash)
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&hash)
            .cloned()
    }

    fn set_expiry(&self, id: &str, expires_ms: Option<i64>) {
        let ids = self.ids();
        let Some(hash) = ids.get(id) else { return };
        let mut shard = self.shard(*hash).write().unwrap_or_else(PoisonError::into_inner);
        if let Some(identity) = shard.get_mut(hash) {
            Arc::make_mut(identity).expires_ms = expires_ms;
        }
    }

    fn shard(&self, hash: KeyHash) -> &RwLock<Shard> {
        // Not the bytes that the table inside hashes by.
        &self.shards[usize::from(hash.0[31]) % SHARDS]
    }

    fn insert(&self, hash: KeyHash, identity: Arc<Identity>) {
        let mut ids = self.ids();
        ids.insert(identity.id.clone(), hash);
        self.shard(hash)
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(hash, identity);
    }

    fn take_out(&self, id: &str) {
        let mut ids = self.ids();
        if let Some((id, hash)) = ids.remove_entry(id) {
            self.refused().insert(id);
            self.shard(hash)
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&hash);
        }
    }

    /// Makes the keys of one origin exactly `rows`. What stays is in force all the time.
    fn replace(&self, is_from_file: bool, rows: Vec<(Identity, KeyHash)>) -> Vec<Arc<str>> {
        let mut ids = self.ids();
        let kept: HashSet<[u8; 32]> = rows.iter().map(|(_, hash)| hash.0).collect();
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|hash, identity| {
                let stays = identity.is_from_file != is_from_file || kept.contains(&hash.0);
                if !stays {
                    ids.remove(&identity.id);
                }
                stays
            });
        }
        let mut refused = Vec::new();
        for (identity, hash) in rows {
            if !is_from_file && self.refused().contains(&identity.id) {
                continue;
            }
            let mut shard = self.shard(hash).write().unwrap_or_else(PoisonError::into_inner);
            let is_taken = shard
                .get(&hash)
                .is_some_and(|there| there.is_from_file != is_from_file)
                || ids.get(&identity.id).is_some_and(|there| *there != hash)
                || (ids.len() >= KEYS_MAX && !shard.contains_key(&hash));
            if is_taken {
                refused.push(identity.id.clone());
                continue;
            }
            if let Some(before) = shard.get(&hash)
                && before.id != identity.id
            {
                ids.remove(&before.id);
            }
            ids.insert(identity.id.clone(), hash);
            shard.insert(hash, Arc::new(identity));
        }
        refused
    }
}

impl Table {
    fn failed(&self, action: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError {
        let path = self.path.clone();
        move |source| StoreError::Database { action, path, source }
    }

    fn insert(&mut self, identity: &Identity, hash: KeyHash) -> Result<bool, StoreError> {
        let sql = format!(
            "INSERT INTO client_key ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        );
        let Identity {
            id,
            organisation,
            team,
            consumer,
            shown,
            created_ms,
            expires_ms,
            revoked_ms,
            ..
        } = identity;
        let row = params![
            id,
            organisation,
            team,
            consumer,
            shown,
            created_ms,
            expires_ms,
            revoked_ms,
            hash.0.as_slice()
        ];
        self.connection
            .execute(&sql, row)
            .map(|rows| rows == 1)
            .map_err(self.failed("add a key to"))
    }

    fn revoke(&mut self, id: &str, now_ms: i64) -> Result<bool, StoreError> {
        let sql = "UPDATE client_key SET revoked_ms = ?2 WHERE id = ?1 AND revoked_ms IS NULL";
        let rows = self.connection.execute(sql, params![id, now_ms]);
        rows.map(|rows| rows == 1).map_err(self.failed("revoke a key in"))
    }

    fn set_expiry(&mut self, id: &str, expires_ms: Option<i64>) -> Result<bool, StoreError> {
        let sql = "UPDATE client_key SET expires_ms = ?2 WHERE id = ?1 AND revoked_ms IS NULL";
        let rows = self.connection.execute(sql, params![id, expires_ms]);
        rows.map(|rows| rows == 1).map_err(self.failed("change a key in"))
    }

    fn list(
        &mut self,
        consumer: Option<&str>,
        after_id: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Identity>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM client_key
             WHERE (?1 IS NULL OR consumer = ?1) AND (?2 IS NULL OR id > ?2) ORDER BY id LIMIT ?3"
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let read = || -> rusqlite::Result<Vec<Identity>> {
            let mut select = self.connection.prepare_cached(&sql)?;
            select
                .query_map(params![consumer, after_id, limit], |row| Ok(identity(row)?.0))?
                .collect()
        };
        read().map_err(self.failed("read"))
    }

    /// The keys in force, if another connection has changed the file since the last call.
    fn read_if_changed(&mut self) -> Result<Option<Vec<(Identity, KeyHash)>>, StoreError> {
        let read = || -> rusqlite::Result<_> {
            let version: i64 = self
                .connection
                .query_row("PRAGMA data_version", [], |row| row.get(0))?;
            if version == self.data_version {
                return Ok((version, None));
            }
            let sql = format!("SELECT {COLUMNS} FROM client_key WHERE revoked_ms IS NULL LIMIT {KEYS_MAX}");
            let mut select = self.connection.prepare_cached(&sql)?;
            let rows = select
                .query_map([], identity)?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            Ok((version, Some(rows)))
        };
        let (version, rows) = read().map_err(self.failed("read"))?;
        self.data_version = version;
        Ok(rows)
    }
}

fn identity(row: &Row<'_>) -> rusqlite::Result<(Identity, KeyHash)> {
    let identity = Identity {
        id: row.get(0)?,
        organisation: row.get(1)?,
        team: row.get(2)?,
        consumer: row.get(3)?,
        shown: row.get(4)?,
        created_ms: row.get(5)?,
        expires_ms: row.get(6)?,
        revoked_ms: row.get(7)?,
        is_from_file: false,
    };
    Ok((identity, KeyHash(row.get(8)?)))
}
