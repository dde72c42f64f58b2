//! Rule: everything that becomes part of Weir may be distributed under Apache-2.0, and the kernel
//! programs under the GPL as well, which the kernel asks of programs that call its GPL-only helpers.

use crate::metadata::Package;
use crate::spdx::Expression;

/// Permissive licences, all compatible with Apache-2.0.
const ALLOWED: [&str; 13] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

/// Crates whose licence is not in the list, and why they may stay. One that no longer applies is a problem too.
const EXCEPTIONS: [Exception; 4] = [
    Exception {
        package: "borrow-or-share",
        licence: "MIT-0",
        reason: "MIT without the duty to name it; under jsonschema, which checks answers of prompts",
    },
    Exception {
        package: "terminfo",
        licence: "WTFPL",
        reason: "permissive; and only in the lock file, for a terminal back end of ratatui that we do not switch on",
    },
    Exception {
        package: "libfuzzer-sys",
        licence: "(MIT OR Apache-2.0) AND NCSA",
        reason: "permissive (NCSA is LLVM's older licence); only in the fuzz targets, never in the binary",
    },
    Exception {
        package: "webpki-roots",
        licence: "CDLA-Permissive-2.0",
        reason: "permissive, for data: the list of certificate authorities",
    },
];

/// The expected licence of our own packages: the kernel programs', and that of all others.
const LICENCE_EBPF: &str = "GPL-2.0-only OR Apache-2.0";
const LICENCE_OURS: &str = "Apache-2.0";

struct Exception {
    package: &'static str,
    licence: &'static str,
    reason: &'static str,
}

/// Problems with the licences of `packages`.
pub(crate) fn check(packages: &[Package]) -> Vec<String> {
    let mut problems = check_against(packages, &EXCEPTIONS);
    problems.extend(
        packages
            .iter()
            .filter(|package| package.is_ours())
            .filter_map(check_ours),
    );
    problems
}

fn check_against(packages: &[Package], exceptions: &[Exception]) -> Vec<String> {
    let mut problems = Vec::new();
    for package in packages.iter().filter(|package| !package.is_ours()) {
        if exceptions.iter().any(|exception| exception.applies_to(package)) {
            continue;
        }
        let Package { name, version, .. } = package;
        let Some(licence) = &package.license else {
            problems.push(format!(
                "{name} {version} states no licence: read its source, then name it in EXCEPTIONS in xtask/src/licences.rs or drop it"
            ));
            continue;
        };
        match Expression::parse(licence) {
            Err(error) => problems.push(format!("{name} {version}: licence `{licence}`: {error}")),
            Ok(expression) if expression.is_met(&|name| ALLOWED.contains(&name)) => {}
            Ok(_) => problems.push(format!(
                "{name} {version} is under `{licence}`, which is not allowed: drop it, or name it with the reason in EXCEPTIONS in xtask/src/licences.rs"
            )),
        }
    }
    for exception in exceptions {
        if !packages.iter().any(|package| exception.applies_to(package)) {
            problems.push(format!(
                "no dependency `{}` under `{}` any more: remove the exception ({}) from xtask/src/licences.rs",
                exception.package, exception.licence, exception.reason
            ));
        }
    }
    problems
}

fn check_ours(package: &Package) -> Option<String> {
    // `wire` is linked into the kernel programs.
    let expected = if matches!(package.name.as_str(), "ebpf" | "wire") {
        LICENCE_EBPF
    } else {
        LICENCE_OURS
    };
    let found = package.license.as_deref().unwrap_or("no licence");
    (found != expected).then(|| {
        format!(
            "{}: Cargo.toml states `{found}`, expected license = \"{expected}\"",
            package.name
        )
    })
}

impl Exception {
    fn applies_to(&self, package: &Package) -> bool {
        package.name == self.package && package.license.as_deref() == Some(self.licence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn theirs(name: &str, license: Option<&str>) -> Package {
        Package {
            id: format!("registry#{name}"),
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            license: license.map(ToOwned::to_owned),
            source: Some("registry".to_owned()),
            dependencies: Vec::new(),
        }
    }

    fn ours(name: &str, license: Option<&str>) -> Package {
        Package {
            source: None,
            ..theirs(name, license)
        }
    }

    fn check_problem(package: &Package, exceptions: &[Exception], expected_start: Option<&str>) {
        let problems = check_against(std::slice::from_ref(package), exceptions);
        match expected_start {
            None => assert_eq!(problems, Vec::<String>::new()),
            Some(start) => {
                assert_eq!(problems.len(), 1, "{problems:?}");
                assert!(problems[0].starts_with(start), "{problems:?}");
            }
        }
    }

    #[test]
    fn licences_of_others() {
        let odd = || {
            [Exception {
                package: "odd",
                licence: "WTFPL",
                reason: "a reason",
            }]
        };
        check_problem(&theirs("good", Some("MIT OR GPL-3.0-only")), &[], None);
        check_problem(&theirs("odd", Some("WTFPL")), &odd(), None);
        check_problem(
            &theirs("bad", Some("GPL-3.0-only")),
            &[],
            Some("bad 1.0.0 is under `GPL-3.0-only`"),
        );
        check_problem(&theirs("none", None), &[], Some("none 1.0.0 states no licence"));
        check_problem(
            &theirs("torn", Some("MIT OR")),
            &[],
            Some("torn 1.0.0: licence `MIT OR`: expected"),
        );
        check_problem(
            &theirs("good", Some("MIT")),
            &odd(),
            Some("no dependency `odd` under `WTFPL`"),
        );
    }

    #[test]
    fn licences_of_ours() {
        assert_eq!(check_ours(&ours("policy", Some("Apache-2.0"))), None);
        assert_eq!(
            check_ours(&ours("ebpf", Some("GPL-2.0-only OR Apache-2.0"))),
            None
        );
        assert!(check_ours(&ours("ebpf", Some("Apache-2.0"))).is_some());
        assert!(check_ours(&ours("wire", None)).is_some());
    }
}
