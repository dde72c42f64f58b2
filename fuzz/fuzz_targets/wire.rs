//! Any bytes as a frame of any link layer: parsing never panics, and what it says holds together
//! (see the invariants, which the tests of `wire` check on the seeds, too).

#![no_main]

#[path = "../../crates/wire/tests/laws/invariants.rs"]
mod invariants;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| invariants::check_input(input));
