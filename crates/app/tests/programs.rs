//! `weir programs` as a whole: exit codes and what goes where. What it finds is tested in `agent`.

use std::process::{Command, Output};

use serde_json::Value;

fn weir(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command
        .arg("programs")
        .args(arguments)
        .output()
        .expect("weir starts")
}

#[track_caller]
fn check(arguments: &[&str], code: i32, sentence: &str) {
    let output = weir(arguments);
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{words}");
    assert!(words.starts_with(sentence), "{words}");
    assert_eq!(output.stdout, b"", "data only where there is some");
}

#[test]
fn what_is_wrong_is_said_in_one_sentence() {
    check(
        &["top", "--interval", "9h"],
        2,
        "error: invalid value '9h' for '--interval <TIME>'",
    );
    check(
        &["top", "--count", "0"],
        2,
        "error: invalid value '0' for '--count <N>'",
    );
    check(
        &["show"],
        2,
        "error: the following required arguments were not provided",
    );
    let sentence = if nix::unistd::geteuid().is_root() {
        "weir: no loaded BPF program has the id or name `no such program`: `weir programs list` shows all\n"
    } else {
        "weir: reading the BPF programs of the host needs CAP_SYS_ADMIN: run it as root\n"
    };
    check(&["show", "no such program"], 1, sentence);
}

/// One object a line, also when nothing is loaded; no colour without a terminal.
#[test]
fn data_is_json_and_tables_are_plain() {
    if !nix::unistd::geteuid().is_root() {
        let is_required = std::env::var_os("WEIR_REQUIRE_CAPS").is_some_and(|value| value == "1");
        assert!(!is_required, "WEIR_REQUIRE_CAPS=1, but this is not root");
        println!("skipped: reading BPF programs needs root");
        return;
    }
    let lines = |arguments: &[&str]| -> Vec<Value> {
        let output = weir(arguments);
        assert_eq!(output.status.code(), Some(0));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    };
    for program in lines(&["list", "--format", "json"]) {
        assert!(program["id"].is_u64() && program["type"].is_string() && program["attachments"].is_array());
    }
    let tables = lines(&["top", "--count", "2", "--interval", "100ms", "--format", "json"]);
    assert_eq!(tables.len(), 2);
    assert!(
        tables
            .iter()
            .all(|table| table["interval_ns"].as_u64() >= Some(100_000_000))
    );
    let table = weir(&["top", "--once", "--interval", "100ms"]);
    let text = String::from_utf8(table.stdout).expect("UTF-8");
    assert!(text.contains("% OF A CPU") && !text.contains('\x1b'), "{text}");
}
