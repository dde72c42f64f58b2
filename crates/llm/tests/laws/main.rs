//! Laws of all formats over the seeds of the fuzz targets.

mod invariants;

use std::path::Path;

fn replay(target: &str, at_least: usize, check: impl Fn(&[u8])) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/seeds")
        .join(target);
    let mut n_seeds = 0;
    for seed in std::fs::read_dir(&seeds).unwrap() {
        let bytes = std::fs::read(seed.unwrap().path()).unwrap();
        check(&bytes);
        // Cut anywhere it is nonsense of the kind that a broken connection makes.
        for cut in (0..bytes.len()).step_by(1 + bytes.len() / 64) {
            check(&bytes[..cut]);
        }
        n_seeds += 1;
    }
    assert!(n_seeds >= at_least, "only {n_seeds} seeds of {target}");
}

#[test]
fn streams() {
    replay("llm-stream", 12, invariants::check_stream);
}

#[test]
fn bodies() {
    replay("llm-body", 6, invariants::check_body);
}
