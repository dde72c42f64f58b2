//! Every committed seed of the fuzz target, so that a run of the tests replays what fuzzing found.

use crate::invariants;

use std::path::Path;

use wire::{Start, parse};

#[test]
fn fuzz_seeds_keep_the_invariants() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/wire");
    let mut links_parsed = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("the folder of seeds") {
        let input = std::fs::read(entry.expect("an entry").path()).expect("a seed");
        invariants::check_input(&input);
        if let [link, _, frame @ ..] = input.as_slice() {
            let link = invariants::LINKS[usize::from(*link) % invariants::LINKS.len()];
            if parse(frame, Start::of(link, frame.len() as u32)).is_ok() && !links_parsed.contains(&link) {
                links_parsed.push(link);
            }
        }
    }
    // They are worth replaying only while they lead into the parsers.
    assert!(
        links_parsed.len() >= 12,
        "only {links_parsed:?} lead to an IP packet"
    );
}
