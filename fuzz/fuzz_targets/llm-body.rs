//! Any bytes as a request and as an answer of any format, through every writer. Nothing panics, and what
//! is written can be read.

#![no_main]

#[path = "../../crates/llm/tests/laws/invariants.rs"]
#[allow(dead_code)]
mod invariants;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| invariants::check_body(input));
