//! The catalogue: every document of configuration with its origin, version and history.

mod types;

pub use types::{
    Action, AuditEntry, Catalogue, CatalogueError, Change, Document, HistoryQuery, IfMatch, Origin, Snapshot,
    Written,
};
