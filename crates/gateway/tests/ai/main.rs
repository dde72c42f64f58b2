//! The AI half, end to end: a client's bytes, a gateway in this process, a provider that does what the
//! test says, and what the gateway wrote down of it.
#![allow(
    clippy::needless_pass_by_value,
    reason = "documents are written where they are passed"
)]

#[path = "../common/mod.rs"]
mod common;
mod kit;

mod audit;
mod bytes;
mod errors;
mod guard;
mod money;
mod others;
mod parameters;
mod peculiar;
mod trouble;
mod vendors;
