//! What several tests of the whole program use.
#![allow(dead_code, unreachable_pub)] // no test uses all of it

pub mod gateway;
pub mod http;
pub mod lines;
pub mod simulator;
pub mod upstream;
