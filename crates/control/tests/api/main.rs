//! The admin API over real sockets, with a made-up host behind it.

mod bounds;
mod endpoints;
mod fake;
mod metrics;
mod trust;
