//! One record a call: through a bounded queue to one writer, which keeps a SQLite file a day and writes
//! JSON lines.

mod record;

pub use record::{AuditRecord, CallRecord, CallSink, Guard, Latency, NoSink, Protocol};
