//! Rules about the text of the repository's own files.

use crate::imports::PURE;

/// Above this a source file says why it is long, in a comment that starts with [`LONG_FILE_MARK`].
const SOURCE_LINES_MAX: usize = 800;
const LONG_FILE_MARK: &str = "// Long because ";

/// Written apart, since this file is checked as well.
const MACHINE_PATHS: [&str; 3] = [
    concat!("/ro", "ot/"),
    concat!("/wo", "rk/"),
    concat!("/home", "/"),
];
const IGNORED_TEST: &str = concat!("#[ig", "nore");

/// What a pure crate would have to name to touch the world outside its arguments.
const IMPURE_PATHS: [&str; 9] = [
    "std::env",
    "std::fs",
    "std::io",
    "std::net::Tcp",
    "std::net::Udp",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime",
];

/// A tracked file.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// From the repository's root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Problems of `files`.
pub(crate) fn check(files: &[SourceFile]) -> Vec<String> {
    files.iter().flat_map(check_file).collect()
}

fn check_file(file: &SourceFile) -> Vec<String> {
    let SourceFile { path, text } = file;
    let mut problems = Vec::new();
    if !is_ours(path) {
        return problems;
    }
    for (index, line) in text.lines().enumerate() {
        problems.extend(
            check_line(path, line)
                .into_iter()
                .map(|problem| format!("{path}:{}: {problem}", index + 1)),
        );
    }
    if !text.is_empty() && !text.ends_with('\n') {
        problems.push(format!("{path}: expected a line feed at the end of the file"));
    }
    if is_member_manifest(path) && !has_shared_lints(text) {
        problems.push(format!("{path}: expected `[lints]` with `workspace = true`"));
    }
    if path.ends_with(".rs") {
        problems.extend(check_source(path, text));
    }
    problems
}

/// Licence texts, lock files and recorded data are as others made them.
fn is_ours(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let in_data = ["testdata", "corpus", "seeds", "goldens", "snapshots"]
        .iter()
        .any(|folder| path.contains(&format!("{folder}/")));
    !name.starts_with("LICENSE") && !name.ends_with(".lock") && !in_data
}

fn check_line(path: &str, line: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if line.ends_with([' ', '\t', '\r']) {
        problems.push("remove the white space at the end of the line".to_owned());
    }
    if line.contains('\t') && !path.ends_with("Makefile") {
        problems.push("use spaces, not a tab (in a string: \\t)".to_owned());
    }
    for machine_path in MACHINE_PATHS
        .iter()
        .filter(|machine_path| names_path(line, machine_path))
    {
        problems.push(format!(
            "`{machine_path}` is a path of one machine: use a relative one, or a variable"
        ));
    }
    if path.ends_with(".rs") && line.contains(IGNORED_TEST) {
        problems.push("a test that does not run checks nothing: mend it or remove it".to_owned());
    }
    problems
}

/// Does `line` name the absolute `path`, not one that only ends alike, such as `$HOME/.root/`?
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(start, _)| {
        !line[..start].ends_with(|before: char| before.is_alphanumeric() || "._-}/*".contains(before))
    })
}

fn is_member_manifest(path: &str) -> bool {
    let member = path.strip_suffix("/Cargo.toml");
    member
        .is_some_and(|folder| (folder.starts_with("crates/") && folder != "crates/ebpf") || folder == "xtask")
}

fn has_shared_lints(manifest: &str) -> bool {
    let mut lines = manifest
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != "[lints]")
        .skip(1);
    lines
        .by_ref()
        .take_while(|line| !line.starts_with('['))
        .any(|line| line == "workspace = true")
}

fn check_source(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let n_lines = text.lines().count();
    let says_why = || {
        text.lines()
            .any(|line| line.trim_start().starts_with(LONG_FILE_MARK))
    };
    if n_lines > SOURCE_LINES_MAX && !says_why() {
        problems.push(format!(
            "{path}: {n_lines} lines: split it where a reader would, or say why not in a line `{LONG_FILE_MARK}…` (limit {SOURCE_LINES_MAX})"
        ));
    }
    if is_pure_source(path) {
        // By convention a file's tests are its last module; they may read files.
        let code = text
            .lines()
            .enumerate()
            .take_while(|(_, line)| line.trim() != "#[cfg(test)]");
        let code = code.filter(|(_, line)| !line.trim_start().starts_with("//"));
        for (index, line) in code {
            for impure in IMPURE_PATHS.iter().filter(|impure| line.contains(**impure)) {
                problems.push(format!(
                    "{path}:{}: a pure crate must not name `{impure}`: let the caller pass the value in",
                    index + 1
                ));
            }
        }
    }
    problems
}

/// Sources of pure crates, without the files that hold only tests.
fn is_pure_source(path: &str) -> bool {
    let in_tests = path.ends_with("/tests.rs") || path.contains("/tests/");
    let is_pure = PURE
        .iter()
        .any(|name| path.starts_with(&format!("crates/{name}/src/")));
    is_pure && !in_tests
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expected: &[&str]) {
        let problems = check_file(&SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        });
        assert_eq!(problems.len(), expected.len(), "{path}: {problems:#?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.contains(expected), "{problem}");
        }
    }

    #[test]
    fn white_space() {
        check("a.rs", "fn a() {}\n", &[]);
        check("a.rs", "fn a() {} \n", &["a.rs:1: remove the white space"]);
        check("a.rs", "\tfn a() {}\n", &["a.rs:1: use spaces"]);
        check("a.rs", "fn a() {}", &["a.rs: expected a line feed"]);
        check("Makefile", "a:\n\tb\n", &[]);
        check("LICENSE", "\ta ", &[]);
        check("crates/wire/testdata/x.txt", "\ta ", &[]);
    }

    #[test]
    fn machine_paths() {
        for path in MACHINE_PATHS {
            check("a.md", &format!("see {path}x\n"), &["a.md:1: "]);
            check(
                "a.md",
                &format!("see $HOME{path}x and https://host{path}x and a/b{path}\n"),
                &[],
            );
        }
    }

    #[test]
    fn tests_that_do_not_run() {
        check(
            "a.rs",
            &format!("{IGNORED_TEST}]\n"),
            &["a test that does not run"],
        );
        check("a.md", &format!("no `{IGNORED_TEST}]`\n"), &[]);
    }

    #[test]
    fn shared_lints() {
        let problem = ["crates/wire/Cargo.toml: expected `[lints]`"];
        check(
            "crates/wire/Cargo.toml",
            "[package]\n[lints]\nworkspace = true\n[dependencies]\n",
            &[],
        );
        check(
            "crates/wire/Cargo.toml",
            "[package]\n[lints]\n[dependencies]\nworkspace = true\n",
            &problem,
        );
        check("crates/wire/Cargo.toml", "[package]\n", &problem);
        check("crates/ebpf/Cargo.toml", "[package]\n", &[]);
        check("Cargo.toml", "[workspace]\n", &[]);
    }

    #[test]
    fn long_files() {
        let long = "// a line\n".repeat(SOURCE_LINES_MAX + 1);
        check("a.rs", &long, &["a.rs: 801 lines: split it"]);
        check(
            "a.rs",
            &format!("{long}{LONG_FILE_MARK}the table is one thing\n"),
            &[],
        );
        check("a.md", &long, &[]);
    }

    #[test]
    fn purity() {
        let reads = "fn a() { std::fs::read(b) }\n";
        check(
            "crates/inspect/src/a.rs",
            reads,
            &["crates/inspect/src/a.rs:1: a pure crate must not name `std::fs`"],
        );
        check("crates/agent/src/a.rs", reads, &[]);
        check("crates/inspect/tests/a.rs", reads, &[]);
        check("crates/inspect/src/flow/tests.rs", reads, &[]);
        check(
            "crates/inspect/src/a.rs",
            &format!("#[cfg(test)]\nmod tests {{\n{reads}}}\n"),
            &[],
        );
        check(
            "crates/inspect/src/a.rs",
            "// std::fs is not used\nuse std::net::IpAddr;\n",
            &[],
        );
    }
}
