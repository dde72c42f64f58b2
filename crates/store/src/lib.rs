//! What Weir keeps: money, calls, documents and client keys, each in SQLite files of its own.
//!
//! * [`outcome`]: how a request ended; the one closed set that labels response, log, metric and row.
//! * [`ledger`]: budgets. Leases and postings in a file, holds in memory.
//! * [`calls`]: one record a call, through a bounded queue to a file a day and to JSON lines.
//! * [`documents`]: the catalogue of configuration, its versions and its history, secrets sealed.
//! * [`identity`]: client keys by keyed hash, changed one by one.
//!
//! Blocking work runs on threads of this crate. What the way of a request calls ([`calls::CallSink`],
//! [`identity::Identities::lookup`], [`ledger::Budgets::hold`]) touches memory, or awaits with a bound.
//!
//! Files are made for their owner alone (0600 in folders of 0700). A damaged database is set aside under
//! another name, never deleted, and a new one takes its place; who opens it is told.

pub mod calls;
pub mod civil;
mod db;
pub mod documents;
mod error;

pub mod identity;
mod json;
pub mod ledger;
pub mod outcome;
pub mod seal;
pub mod worker;

pub use db::SetAside;
pub use error::StoreError;
