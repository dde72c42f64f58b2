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
        for round in 0..300 {
            check(&jumbled(&bytes, round));
        }
        n_seeds += 1;
    }
    assert!(n_seeds >= at_least, "only {n_seeds} seeds of {target}");
}

/// The seed with some of its events, or some of its fields, left out, repeated or in another order: what
/// chance bytes seldom make.
fn jumbled(seed: &[u8], round: u64) -> Vec<u8> {
    let mut state = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % limit.max(1) as u64) as usize
    };
    let (head, body) = seed.split_at(seed.len().min(2));
    let text = String::from_utf8_lossy(body);
    let separator = if text.contains("\n\n") { "\n\n" } else { "," };
    let mut blocks: Vec<&str> = text.split_inclusive(separator).collect();
    for _ in 0..=below(3) {
        let (from, to) = (below(blocks.len()), below(blocks.len()));
        match below(4) {
            _ if blocks.is_empty() => {}
            0 => drop(blocks.remove(from)),
            1 => blocks.insert(to, blocks[from]),
            2 => blocks.swap(from, to),
            _ => blocks.truncate(from),
        }
    }
    [head, blocks.concat().as_bytes()].concat()
}

#[test]
fn streams() {
    replay("llm-stream", 12, invariants::check_stream);
}

#[test]
fn bodies() {
    replay("llm-body", 6, invariants::check_body);
}
