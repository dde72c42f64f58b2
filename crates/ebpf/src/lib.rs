//! The parts of Weir's kernel programs: reading packets in place, accounting them, socket facts.
//!
//! Programs stay thin: what a packet means is decided in `wire`, which the host compiles too.

#![no_std]
#![feature(asm_experimental_arch)]

pub mod account;
pub mod clock;
pub mod emit;
pub mod frame;
pub mod maps;
pub mod sampling;
pub mod sockets;
pub mod tracepoints;
