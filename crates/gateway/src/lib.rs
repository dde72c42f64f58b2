//! The data plane of HTTP: takes connections, speaks HTTP/1.1 and HTTP/2 on both sides, and calls upstreams.
//!
//! * [`front`]: what a request is for. [`auth`]: who asks. [`money`]: what it may cost.
//! * [`rest`]: services, to upstreams and back. [`jwt`]: tokens of others.
//! * [`ai`]: any AI format to any provider.
//! * [`live`]: the configuration in force, shared by all threads.
//! * [`server`]: connections in: limits, TLS, drain.
//! * [`upstream`]: connections out: a pool per thread, timeouts, which addresses may be called.
//! * [`body`]: the one body type of both directions.
//! * [`limits`]: rates and concurrency, for any subject.
//! * [`clock`]: timeouts that cost nothing when they do not fire.
//!
//! Everything that belongs to a request lives on one thread: no lock, no wake-up of another thread, `Rc` instead of
//! `Arc`. [`server`] says why, with figures.

pub mod ai;
pub mod auth;
pub mod body;
pub mod clock;
pub mod front;
pub(crate) mod guards;
pub mod jwt;
pub mod limits;
pub mod live;
pub mod money;
pub mod numbers;
pub mod refusal;
pub mod rest;
pub mod server;
pub mod upstream;
