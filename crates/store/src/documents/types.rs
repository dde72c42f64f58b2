use crate::error::StoreError;
use serde_json::Value;

/// Where a document comes from, and so who may change it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file of the operator, by its path. Through the API it can only be read.
    File(String),
    /// The admin API.
    Api,
}

/// A document as stored. Its secrets are in the clear: show [`Document::redacted`] instead.
#[derive(Clone, PartialEq)]
pub struct Document {
    /// What it describes: `provider`, `model`, `service`…
    pub kind: String,
    /// Its name, unique among its kind.
    pub name: String,
    /// What it says.
    pub body: Value,
    /// Where its secrets are, as given when it was put.
    pub secrets: Vec<String>,
    /// Where it comes from.
    pub origin: Origin,
    /// Counts its changes, from 1. Goes on where a document of the same name is made again.
    pub version: u64,
    /// The generation of the catalogue that its last change made.
    pub generation: u64,
    /// Who changed it last.
    pub author: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}

impl Document {
    /// What it says, with [`super::HIDDEN`] for each secret.
    pub fn redacted(&self) -> Value {
        super::hide(&self.body, &self.secrets)
    }
}

impl std::fmt::Debug for Document {
    // The body may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            kind, name, version, ..
        } = self;
        write!(f, "Document({kind}/{name} version {version})")
    }
}

/// On what condition a change is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfMatch {
    /// None.
    #[default]
    Any,
    /// The document does not exist.
    Absent,
    /// It has this version.
    Version(u64),
}

/// What is to be done to one document.
#[derive(Clone, PartialEq)]
pub enum Action {
    /// Make it, or replace what it says.
    Put {
        /// What it is to say.
        body: Value,
        /// Where its secrets are: JSON pointers, `*` for every item or field. They are stored encrypted.
        secrets: Vec<String>,
    },
    /// Remove it.
    Delete,
}

impl std::fmt::Debug for Action {
    // The body may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Put { .. } => "Put",
            Self::Delete => "Delete",
        })
    }
}

/// A change of one document.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Of which kind.
    pub kind: String,
    /// Of which name.
    pub name: String,
    /// From where.
    pub origin: Origin,
    /// On what condition.
    pub if_match: IfMatch,
    /// What.
    pub action: Action,
}

/// What a set of changes has led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The generation of the catalogue now. Unchanged where nothing differed.
    pub generation: u64,
    /// The version of each document named, in the order of the changes. A deletion counts as one too.
    pub versions: Vec<u64>,
}

/// One line of the history. Secrets in it read `"***"`.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    /// Counts up; the cursor of [`HistoryQuery`].
    pub id: u64,
    /// The generation the change made.
    pub generation: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// By whom.
    pub author: String,
    /// Of what kind.
    pub kind: String,
    /// Of what name.
    pub name: String,
    /// The version it made; a deletion counts as one too.
    pub version: u64,
    /// What the document said before; `None` where it was made.
    pub before: Option<Value>,
    /// What it says since; `None` where it was removed.
    pub after: Option<Value>,
}

/// Which part of the history, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Of this kind only.
    pub kind: Option<String>,
    /// Of this name only.
    pub name: Option<String>,
    /// Before this entry.
    pub before_id: Option<u64>,
    /// At most so many, and never more than [`super::PAGE_MAX`].
    pub limit: usize,
}

/// The last set of documents that compiled and was put in force.
#[derive(Clone, PartialEq)]
pub struct Snapshot {
    /// Of which generation.
    pub generation: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// What it says; the caller's format. Stored encrypted as a whole.
    pub body: Value,
}

impl std::fmt::Debug for Snapshot {
    // The body may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot(generation {})", self.generation)
    }
}

/// Why a change was not made, or a document cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// Someone else was first.
    #[error("{kind} `{name}` {}, expected {}: read it again and repeat the change", was(*found), wanted(*expected))]
    Conflict {
        /// Of what kind.
        kind: String,
        /// Of what name.
        name: String,
        /// What the change was for.
        expected: IfMatch,
        /// The version that is there.
        found: Option<u64>,
    },
    /// A document to be removed is not there.
    #[error("there is no {kind} `{name}`")]
    NotFound {
        /// Of what kind.
        kind: String,
        /// Of what name.
        name: String,
    },
    /// A document of a file can only be changed there.
    #[error("{kind} `{name}` comes from the file `{file}`: change it there")]
    FromFile {
        /// Of what kind.
        kind: String,
        /// Of what name.
        name: String,
        /// Which file.
        file: String,
    },
    /// A file names a document that was made through the API.
    #[error(
        "{kind} `{name}` of the file `{file}` exists already, made through the API: rename one or delete that one"
    )]
    NameTaken {
        /// Of what kind.
        kind: String,
        /// Of what name.
        name: String,
        /// Which file.
        file: String,
    },
    /// The document cannot be stored as it is.
    #[error("{kind} `{name}`: {problem}")]
    Invalid {
        /// Of what kind.
        kind: String,
        /// Of what name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A secret cannot be read: the key file is another one, or the row was changed.
    #[error("{kind} `{name}`: a secret in it cannot be decrypted: restore the key file it was written with")]
    Sealed {
        /// Of what kind.
        kind: String,
        /// Of what name.
        name: String,
    },
    /// The file failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn was(found: Option<u64>) -> String {
    found.map_or_else(
        || "does not exist".to_owned(),
        |version| format!("has version {version}"),
    )
}

fn wanted(expected: IfMatch) -> String {
    match expected {
        IfMatch::Any => "any".to_owned(),
        IfMatch::Absent => "none".to_owned(),
        IfMatch::Version(version) => format!("version {version}"),
    }
}

/// Documents of configuration. Its methods block: share one through a [`crate::worker::Worker`].
pub trait Catalogue: Send {
    /// The generation: counts up with every set of changes.
    fn generation(&mut self) -> Result<u64, CatalogueError>;
    /// One document.
    fn get(&mut self, kind: &str, name: &str) -> Result<Option<Document>, CatalogueError>;
    /// All documents, or those of one kind, by kind and name.
    fn list(&mut self, kind: Option<&str>) -> Result<Vec<Document>, CatalogueError>;
    /// Makes all of `changes`, or none. A put of what is there already changes nothing.
    fn write(&mut self, changes: &[Change], author: &str, now_ms: i64) -> Result<Written, CatalogueError>;
    /// What was changed, newest first.
    fn history(&mut self, query: &HistoryQuery) -> Result<Vec<AuditEntry>, CatalogueError>;
    /// Keeps the set that is in force.
    fn keep_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), CatalogueError>;
    /// The set that was in force last.
    fn last_snapshot(&mut self) -> Result<Option<Snapshot>, CatalogueError>;
}
