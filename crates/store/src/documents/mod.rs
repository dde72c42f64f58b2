//! The catalogue: every document of configuration with its origin, version and history.
//!
//! Documents are JSON; what they mean is for `policy` to say. A set of changes is made whole or not at all and
//! counts the generation up once. Secrets in documents are encrypted in the file, in the history too.

mod secrets;
mod sqlite;
mod types;

pub use secrets::{HIDDEN, hide};
pub use sqlite::{CHANGES_MAX, DOCUMENT_BYTES_MAX, PAGE_MAX, SqliteCatalogue};
pub use types::{
    Action, AuditEntry, Catalogue, CatalogueError, Change, Document, HistoryQuery, IfMatch, Origin, Snapshot,
    Written,
};
