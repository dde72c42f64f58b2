//! `weir config` and `weir run -c` as a whole: exit codes and what goes where.

use std::process::{Command, Output};

fn weir(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    // The example takes its providers' keys from here.
    command
        .env("OPENAI_API_KEY", "sk-a")
        .env("ANTHROPIC_API_KEY", "sk-b");
    command.args(arguments).output().expect("weir starts")
}

#[test]
fn an_example_passes_its_own_check_and_a_wrong_file_is_told_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("weir.yaml");
    let path = path.to_str().expect("UTF-8");
    let check = |text: &[u8], command: &[&str], code: i32, words: &str| {
        std::fs::write(path, text).expect("written");
        let output = weir(&[command, &[path]].concat());
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            words.replace("FILE", path)
        );
        assert_eq!(output.stdout, b"");
    };
    let example = weir(&["config", "example"]);
    assert_eq!(example.status.code(), Some(0));
    check(
        &example.stdout,
        &["config", "check"],
        0,
        "FILE: nothing is wrong\n",
    );
    let wrong = b"agent:\n  xdp: maybe\nrules: {}\n";
    let faults = "FILE:2: agent.xdp: expected on or off, found `maybe`\n\
                  FILE:3: rules: this section is not in this version of Weir: remove it\n";
    check(wrong, &["config", "check"], 1, faults);
    // What the gateway makes of it is checked as well, down to keys that stand elsewhere.
    let gateway = b"providers:\n  - name: a\n    kind: openai\n    keys: [{ file: /no/such/key }]\n";
    let faults_of_gateway = "FILE:4: providers[0].keys[0].file: the file `/no/such/key` cannot be read: \
                             No such file or directory (os error 2)\n";
    check(gateway, &["config", "check"], 1, faults_of_gateway);
    check(wrong, &["run", "-c"], 2, faults);
    check(b"\xff", &["run", "-c"], 2, "FILE: not UTF-8 text after 0 bytes\n");
    let missing = weir(&["run", "-c", "/no/such/weir.yaml"]);
    assert_eq!(missing.status.code(), Some(2));
    let words = String::from_utf8_lossy(&missing.stderr);
    assert!(
        words.starts_with("/no/such/weir.yaml: cannot be read: No such file"),
        "{words}"
    );
}

#[test]
fn the_schema_is_a_schema() {
    let output = weir(&["config", "schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["additionalProperties"], false);
    let rows = &schema["properties"]["agent"]["properties"]["flow_rows"];
    assert_eq!(
        (rows["minimum"].as_u64(), rows["maximum"].as_u64()),
        (Some(1024), Some(16_777_216))
    );
}
