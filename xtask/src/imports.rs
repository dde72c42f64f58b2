//! Rules: which of our crates may use which, which stay pure, and that each dependency has a written reason.

use crate::architecture::{Architecture, DependencyRow, ImportRow, MayUse};
use crate::metadata::{Dependency, Package};

/// Crates that decide and never act: bytes, time and seeds are passed in. (Their text is checked in `tidy`.)
pub(crate) const PURE: [&str; 4] = ["wire", "policy", "inspect", "llm"];

/// What a pure crate would need these for is what it must not do. Prefixes, so that `tokio-util` is meant too.
const IMPURE_PREFIXES: [&str; 16] = [
    "async-std",
    "axum",
    "aya",
    "fastrand",
    "getrandom",
    "hyper",
    "libc",
    "mio",
    "nix",
    "rand",
    "reqwest",
    "rusqlite",
    "rustix",
    "socket2",
    "tempfile",
    "tokio",
];

/// Only reachable through a build script, so never a dependency.
const KERNEL_SIDE: &str = "ebpf";

/// Problems with what our packages depend on.
pub(crate) fn check(packages: &[Package], architecture: &Architecture) -> Vec<String> {
    let mut problems = Vec::new();
    let ours: Vec<&Package> = packages.iter().filter(|package| package.is_ours()).collect();
    for package in &ours {
        problems.extend(check_imports(package, &architecture.imports));
        problems.extend(check_purity(package));
        problems.extend(check_reasons(package, &architecture.dependencies));
    }
    problems.extend(check_leftovers(&ours, &architecture.dependencies));
    problems
}

fn check_imports(package: &Package, rows: &[ImportRow]) -> Vec<String> {
    let name = &package.name;
    let Some(row) = rows.iter().find(|row| row.package == *name) else {
        return vec![format!(
            "crate {name} is not in the table of ARCHITECTURE.md, section \"Imports\": add it with what it may use"
        )];
    };
    let may_use = |dependency: &str| match &row.may_use {
        MayUse::All => dependency != KERNEL_SIDE,
        MayUse::Only(names) => names.iter().any(|name| name == dependency),
    };
    let ours = package
        .dependencies
        .iter()
        .filter(|dependency| dependency.is_ours());
    ours.filter(|dependency| !may_use(&dependency.name))
        .map(|dependency| {
            format!(
                "crate {name} must not use {}: pass what it needs through a type or trait both may use, or change the table of ARCHITECTURE.md, section \"Imports\"",
                dependency.name
            )
        })
        .collect()
}

fn check_purity(package: &Package) -> Vec<String> {
    if !PURE.contains(&package.name.as_str()) {
        return Vec::new();
    }
    // Tests of a pure crate may read files; they still do not need a runtime of their own.
    let ordinary = package
        .dependencies
        .iter()
        .filter(|dependency| !dependency.is_dev());
    ordinary
        .filter(|dependency| {
            IMPURE_PREFIXES
                .iter()
                .any(|prefix| is_of_family(&dependency.name, prefix))
        })
        .map(|dependency| {
            format!(
                "crate {} is pure and must not use {}: let the caller pass bytes, time or seeds in",
                package.name, dependency.name
            )
        })
        .collect()
}

/// `tokio` and `tokio-util` are of family `tokio`; `libcrux` is not of family `libc`.
fn is_of_family(name: &str, family: &str) -> bool {
    name.strip_prefix(family)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
}

fn check_reasons(package: &Package, rows: &[DependencyRow]) -> Vec<String> {
    let theirs = package
        .dependencies
        .iter()
        .filter(|dependency| !dependency.is_ours());
    theirs
        .filter_map(|dependency| check_reason(&package.name, dependency, rows))
        .collect()
}

fn check_reason(package: &str, dependency: &Dependency, rows: &[DependencyRow]) -> Option<String> {
    let name = &dependency.name;
    let Some(row) = rows.iter().find(|row| row.name == *name) else {
        return Some(format!(
            "dependency {name} of crate {package} is not in ARCHITECTURE.md, section \"Dependencies\": add a row with its users and a reason"
        ));
    };
    if row.reason.is_empty() {
        return Some(format!(
            "dependency {name} has no reason in ARCHITECTURE.md, section \"Dependencies\""
        ));
    }
    let is_named = row
        .users
        .iter()
        .any(|user| user.package == package && (!user.only_tests || dependency.is_dev()));
    (!is_named).then(|| {
        let expected = if dependency.is_dev() { format!("{package} (tests)") } else { package.to_owned() };
        format!(
            "dependency {name} is not for crate {package}: do without, or add `{expected}` to its users in ARCHITECTURE.md, section \"Dependencies\""
        )
    })
}

/// Rows that describe what is not there any more.
fn check_leftovers(ours: &[&Package], rows: &[DependencyRow]) -> Vec<String> {
    // A package that is not there has its row for the day it comes; a misspelt one shows in `check_reason`.
    let uses = |package: &str, name: &str| {
        let package = ours.iter().find(|ours| ours.name == package);
        package.is_none_or(|package| {
            package
                .dependencies
                .iter()
                .any(|dependency| dependency.name == *name)
        })
    };
    let mut problems = Vec::new();
    for row in rows {
        for user in row.users.iter().filter(|user| !uses(&user.package, &row.name)) {
            problems.push(format!(
                "crate {} does not use {}: remove it from the row in ARCHITECTURE.md, section \"Dependencies\"",
                user.package, row.name
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "\
## Imports
| crate | may use |
| - | - |
| wire | nothing |
| policy | wire |
| app | all |
## Dependencies
| dependency | used by | why |
| - | - | - |
| serde | policy, app | a reason |
| proptest | policy (tests) | a reason |
| tokio, tokio-util | app, policy | a reason |
| empty | app | |
";

    /// `dependencies`: names; `=` marks one of ours, `~` one for tests.
    fn package(name: &str, dependencies: &str) -> Package {
        let dependency = |word: &str| Dependency {
            name: word.trim_start_matches(['=', '~']).to_owned(),
            kind: word.contains('~').then(|| "dev".to_owned()),
            path: word.contains('=').then(|| "a folder".to_owned()),
        };
        Package {
            name: name.to_owned(),
            dependencies: dependencies.split_whitespace().map(dependency).collect(),
            ..Package::default()
        }
    }

    fn check_package(name: &str, dependencies: &str, expected: &[&str]) {
        let architecture = Architecture::parse(DOCUMENT).unwrap();
        let package = package(name, dependencies);
        let mut problems = check_imports(&package, &architecture.imports);
        problems.extend(check_purity(&package));
        problems.extend(check_reasons(&package, &architecture.dependencies));
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.contains(expected), "{problem}");
        }
    }

    #[test]
    fn imports_follow_the_table() {
        check_package("wire", "", &[]);
        check_package("policy", "=wire", &[]);
        check_package("app", "=wire =policy", &[]);
        check_package("wire", "=policy", &["crate wire must not use policy"]);
        check_package("policy", "~=app", &["crate policy must not use app"]);
        check_package("app", "=ebpf", &["crate app must not use ebpf"]);
        check_package("news", "", &["crate news is not in the table"]);
    }

    #[test]
    fn pure_crates_stay_pure() {
        check_package("policy", "serde", &[]);
        check_package(
            "policy",
            "tokio",
            &["crate policy is pure and must not use tokio"],
        );
        check_package(
            "policy",
            "tokio-util",
            &["crate policy is pure and must not use tokio-util"],
        );
        check_package("app", "tokio", &[]);
        assert!(!is_of_family("libcrux", "libc"));
    }

    #[test]
    fn dependencies_have_a_reason_and_their_users() {
        check_package("policy", "~proptest", &[]);
        check_package(
            "policy",
            "proptest",
            &["dependency proptest is not for crate policy"],
        );
        check_package("app", "~proptest", &["add `app (tests)`"]);
        check_package(
            "app",
            "unknown",
            &["dependency unknown of crate app is not in ARCHITECTURE.md"],
        );
        check_package("app", "empty", &["dependency empty has no reason"]);
    }

    #[test]
    fn rows_without_a_user_are_named() {
        let architecture = Architecture::parse(DOCUMENT).unwrap();
        let (policy, app) = (
            package("policy", "serde ~proptest tokio tokio-util"),
            package("app", "serde tokio"),
        );
        let problems = check_leftovers(&[&policy, &app], &architecture.dependencies);
        let starts: Vec<&str> = problems
            .iter()
            .filter_map(|problem| problem.split(':').next())
            .collect();
        assert_eq!(
            starts,
            [
                "crate app does not use tokio-util",
                "crate app does not use empty"
            ]
        );
    }
}
