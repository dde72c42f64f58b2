//! The gateway's role in a run: what is started, and how it is managed.

pub(super) mod admin;
pub(super) mod role;
