//! `weir run` as a whole: the real binary, real namespaces, real traffic. Needs root.
//!
//! Every test has a lab and an instance of its own. What Weir says is compared with what others
//! counted: the lab's programs (payload), the interface (packets and bytes), the kernel's TCP
//! (segments).

mod floods;
mod lab;
mod layer7;
mod lifecycle;
mod mmdb;
mod normal;
mod privileges;
mod refusals;
mod totals;
mod tunnels;
mod weir;

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Longest wait for a state. Far longer than any takes, so that a busy machine fails no test.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `look` finds nothing wrong; says what it found last if it never does.
#[track_caller]
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(wrong) => assert!(Instant::now() < deadline, "waited in vain until {what}: {wrong}"),
        }
        sleep(Duration::from_millis(50));
    }
}

/// Whether tests that need root can run. Without root they are skipped, unless the environment
/// says that they must run.
fn may_run() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(
        std::env::var_os("WEIR_REQUIRE_CAPS").is_none_or(|value| value != "1"),
        "WEIR_REQUIRE_CAPS=1, but this is not root"
    );
    println!("skipped: network namespaces and kernel programs need root");
    false
}

/// A number in a JSON object, by its path.
#[track_caller]
fn number(value: &serde_json::Value, pointer: &str) -> u64 {
    let found = value.pointer(pointer).and_then(serde_json::Value::as_u64);
    found.unwrap_or_else(|| panic!("no number at {pointer} in {value}"))
}

/// A text in a JSON object, by its path; empty if there is none.
fn text<'a>(value: &'a serde_json::Value, pointer: &str) -> &'a str {
    let found = value.pointer(pointer).and_then(serde_json::Value::as_str);
    found.unwrap_or_default()
}
