//! What the gateway is told: [`document`]s as they are written, and what they compile to.

pub mod document;
