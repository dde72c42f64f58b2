#[cfg_attr(not(test), expect(dead_code, reason = "used by cli::read, landing next"))]
mod input;

fn main() {}
