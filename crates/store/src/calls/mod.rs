//! One record a call: through a bounded queue to one writer, which keeps a SQLite file a day and writes
//! JSON lines.
//!
//! Nothing here holds a request up: a full queue loses records, and counts them. Retention deletes whole
//! days. The bodies of calls are kept only where an audit trail is asked for.

mod day;
mod lines;
mod query;
mod record;
mod writer;

pub use crate::json::usd_text;
pub use day::StoredBodies;
pub use lines::{LineTarget, id_text};
pub use query::{
    CallFilter, CallGroup, CallPage, CallQuery, CallReader, CallSum, CallSums, Cursor, GROUPS_MAX, PAGE_MAX,
};
pub use record::{AuditRecord, CallRecord, CallSink, Guard, Latency, Name, NoSink, Protocol};
pub use writer::{CallOptions, CallStatus, Calls};
