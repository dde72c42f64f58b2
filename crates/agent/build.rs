//! Builds crates/ebpf for the BPF target with the kernel-side toolchain and hands the objects to
//! `object.rs`.
//!
//! The toolchain is what `scripts/setup` installs; the environment names another one:
//! `WEIR_BPF_RUSTC`, `WEIR_BPF_CARGO`, `WEIR_BPF_LINKER`, `WEIR_BPF_LLVM_LIB`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const OBJECTS: [&str; 2] = ["weir-ebpf", "weir-bench-ebpf"];

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let crates = manifest.parent().expect("crates/agent has a parent");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    for watched in [
        "ebpf/src",
        "ebpf/Cargo.toml",
        "ebpf/Cargo.lock",
        "wire/src",
        "wire/Cargo.toml",
    ] {
        println!("cargo::rerun-if-changed={}", crates.join(watched).display());
    }
    let rustc = setting("WEIR_BPF_RUSTC", "/usr/bin/rustc");
    let cargo = setting("WEIR_BPF_CARGO", "/usr/bin/cargo");
    let llvm = setting("WEIR_BPF_LLVM_LIB", "/usr/lib/llvm-22/lib");
    let home = env::var("HOME").unwrap_or_default();
    let linker = setting(
        "WEIR_BPF_LINKER",
        &format!("{home}/.cache/weir/tools/bin/bpf-linker"),
    );
    for tool in [&rustc, &cargo, &linker] {
        assert!(
            Path::new(tool).exists(),
            "{tool} is missing: run scripts/setup once, it installs the toolchain for the kernel programs"
        );
    }
    let target = out.join("ebpf");
    let status = Command::new(&cargo)
        .current_dir(crates.join("ebpf"))
        .args([
            "build",
            "--release",
            "--locked",
            "-Z",
            "build-std=core",
            "--target",
            "bpfel-unknown-none",
        ])
        .arg("--target-dir")
        .arg(&target)
        .env_clear()
        .envs(kept())
        .env("RUSTC", &rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("LD_LIBRARY_PATH", &llvm)
        .env(
            "RUSTFLAGS",
            // Without the last, the linker leaves every clearing and copying of a row to a byte-wise
            // loop, for the sake of tools that read the order of the stores.
            format!(
                "-C linker={linker} -C debuginfo=2 -C target-cpu=v3 -C link-arg=--btf \
                 -C link-arg=--disable-expand-memcpy-in-order"
            ),
        )
        .status()
        .unwrap_or_else(|error| panic!("{cargo} does not start: {error}"));
    assert!(
        status.success(),
        "crates/ebpf does not build ({status}); the messages above say why"
    );
    for object in OBJECTS {
        let from = target.join("bpfel-unknown-none/release").join(object);
        let to = out.join(object);
        std::fs::copy(&from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
}

fn setting(name: &str, default: &str) -> String {
    println!("cargo::rerun-if-env-changed={name}");
    env::var(name).unwrap_or_else(|_| default.to_owned())
}

/// The outer cargo's variables would steer the inner one; only these pass.
fn kept() -> impl Iterator<Item = (String, String)> {
    ["HOME", "PATH", "CARGO_HOME", "USER", "TMPDIR"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), env::var(name).ok()?)))
}
