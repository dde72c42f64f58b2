//! The kernel programs on this kernel: accepted, within their cost, and of one mind with the host.

mod accounting;
#[path = "../../../inspect/tests/parity_etherparse/captures.rs"]
mod captures;
mod load;
mod parity;
mod sampling;

/// Whether tests may load programs; without root they say so and pass, unless they must run.
fn may_load() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    let is_required = std::env::var_os("WEIR_REQUIRE_CAPS").is_some_and(|value| value == "1");
    assert!(!is_required, "WEIR_REQUIRE_CAPS=1, but this is not root");
    println!("skipped: loading BPF programs needs root");
    false
}
