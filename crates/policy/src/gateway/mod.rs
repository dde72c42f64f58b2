//! What the gateway is told: [`document`]s as they are written, and the [`snapshot`] that they
//! [`compile`](compile::compile) to.

pub mod compile;
pub mod document;
mod guardrail;
pub mod limit;
pub mod output;
pub mod service;
pub mod snapshot;
pub mod template;
