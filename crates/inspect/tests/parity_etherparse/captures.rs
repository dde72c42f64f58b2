//! Every packet of every capture in the shared data.

use std::path::{Path, PathBuf};

use inspect::capfile::{PacketRef, Reader, Step};

/// Calls `visit` with each capture's path and each of its packets, in a fixed order; returns the
/// number of captures. A damaged capture gives the packets before the damage. Without the shared
/// data (see `WEIR_SHARED` in ARCHITECTURE.md) it says so and returns `None`.
pub(crate) fn for_each_packet(mut visit: impl FnMut(&Path, &PacketRef<'_>)) -> Option<usize> {
    let shared = std::env::var_os("WEIR_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let folder = shared.join("data/pcap");
    if !folder.is_dir() {
        let required = std::env::var_os("WEIR_REQUIRE_CAPS").is_some_and(|value| value == "1");
        assert!(
            !required,
            "expected captures in {}; set WEIR_SHARED",
            folder.display()
        );
        println!(
            "no captures in {}: nothing checked; set WEIR_SHARED",
            folder.display()
        );
        return None;
    }
    let mut files = Vec::new();
    for source in entries(&folder) {
        files.extend(entries(&source));
    }
    for file in &files {
        let bytes = std::fs::read(file).expect("readable capture");
        let mut rest = bytes.as_slice();
        let mut reader = Reader::new();
        while let Ok(Step::Packet(packet)) = reader.next(&mut rest) {
            visit(file, &packet);
        }
    }
    Some(files.len())
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("readable folder");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("entry").path()).collect();
    paths.sort();
    paths
}
