//! Any bytes as a stream of any format: framer, reader, every writer and the reader of what it wrote.
//! Nothing panics, and the laws hold, which the tests of `llm` check on the seeds, too.

#![no_main]

#[path = "../../crates/llm/tests/laws/invariants.rs"]
#[allow(dead_code)]
mod invariants;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| invariants::check_stream(input));
