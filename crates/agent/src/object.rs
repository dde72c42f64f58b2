//! The compiled kernel programs, inside this binary.

/// What `weir run` loads.
pub const WEIR: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weir-ebpf"));

/// Programs for benchmarks and tests: an empty one, one that only parses, floods.
pub const BENCH: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weir-bench-ebpf"));
