//! agent

pub mod programs;
