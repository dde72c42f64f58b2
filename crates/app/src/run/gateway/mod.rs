//! The gateway's role in a run: what is started, and how it is managed.

#[cfg_attr(not(test), allow(dead_code, reason = "the role that uses it comes next"))]
pub(super) mod admin;
