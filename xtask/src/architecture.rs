//! The two tables of ARCHITECTURE.md that are rules: what our crates may import, and why each dependency is there.
//!
//! The document is the only place they are written down, so it cannot fall behind.

/// What the document allows.
#[derive(Debug, Default)]
pub(crate) struct Architecture {
    /// From section "Imports".
    pub(crate) imports: Vec<ImportRow>,
    /// From section "Dependencies".
    pub(crate) dependencies: Vec<DependencyRow>,
}

/// One of our crates and those of ours it may use.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ImportRow {
    pub(crate) package: String,
    pub(crate) may_use: MayUse,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum MayUse {
    /// Every crate of the workspace; not `ebpf`, which only a build script compiles.
    All,
    Only(Vec<String>),
}

/// A crate from elsewhere and those of ours that may name it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DependencyRow {
    pub(crate) name: String,
    pub(crate) users: Vec<User>,
    pub(crate) reason: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) package: String,
    /// Written `inspect (tests)`: only among its dev-dependencies.
    pub(crate) only_tests: bool,
}

impl Architecture {
    /// Reads both tables; the error says what the document lacks.
    pub(crate) fn parse(text: &str) -> Result<Architecture, String> {
        let mut architecture = Architecture::default();
        for [packages, may_use] in rows(text, "Imports")? {
            let may_use = match may_use.as_str() {
                "all" => MayUse::All,
                "nothing" => MayUse::Only(Vec::new()),
                names => MayUse::Only(list(names)),
            };
            for package in list(&packages) {
                let may_use = match &may_use {
                    MayUse::All => MayUse::All,
                    MayUse::Only(names) => MayUse::Only(names.clone()),
                };
                architecture.imports.push(ImportRow { package, may_use });
            }
        }
        for [names, users, reason] in rows(text, "Dependencies")? {
            for name in list(&names) {
                let users = list(&users).iter().map(|user| User::parse(user)).collect();
                architecture.dependencies.push(DependencyRow {
                    name,
                    users,
                    reason: reason.clone(),
                });
            }
        }
        Ok(architecture)
    }
}

impl User {
    fn parse(text: &str) -> User {
        match text.strip_suffix(" (tests)") {
            Some(package) => User {
                package: package.to_owned(),
                only_tests: true,
            },
            None => User {
                package: text.to_owned(),
                only_tests: false,
            },
        }
    }
}

/// The body rows of the first table in the section `## heading`, each of `N` cells.
fn rows<const N: usize>(text: &str, heading: &str) -> Result<Vec<[String; N]>, String> {
    let title = format!("## {heading}");
    let section = text.lines().skip_while(|line| line.trim_end() != title).skip(1);
    let table = section
        .take_while(|line| !line.starts_with("## "))
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    let mut rows = Vec::new();
    for line in table.skip(2) {
        let cells: Vec<String> = line
            .trim()
            .trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect();
        let cells = <[String; N]>::try_from(cells).map_err(|cells| {
            format!(
                "ARCHITECTURE.md, section \"{heading}\": expected {N} cells, found {}: `{line}`",
                cells.len()
            )
        })?;
        rows.push(cells);
    }
    if rows.is_empty() {
        return Err(format!(
            "ARCHITECTURE.md: expected a section \"{title}\" with a table of {N} columns"
        ));
    }
    Ok(rows)
}

/// The names of a cell: separated by commas, with or without backticks.
fn list(cell: &str) -> Vec<String> {
    cell.split(',')
        .map(|name| name.replace('`', "").trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "\
# Title
## Imports
Words.

| crate | may use |
| --- | --- |
| `wire`, `llm` | nothing |
| `agent` | wire, policy |
| app | all |

More words, | not a table |
## Dependencies
| dependency | used by | why |
| --- | --- | --- |
| `hyper`, `hyper-util` | control, app (tests) | speaks HTTP |
";

    #[test]
    fn both_tables_are_read() {
        let architecture = Architecture::parse(DOCUMENT).unwrap();
        let only = |names: &[&str]| MayUse::Only(names.iter().map(ToString::to_string).collect());
        let import = |package: &str, may_use| ImportRow {
            package: package.to_owned(),
            may_use,
        };
        assert_eq!(
            architecture.imports,
            [
                import("wire", only(&[])),
                import("llm", only(&[])),
                import("agent", only(&["wire", "policy"])),
                import("app", MayUse::All),
            ]
        );
        let names: Vec<&str> = architecture
            .dependencies
            .iter()
            .map(|row| row.name.as_str())
            .collect();
        assert_eq!(names, ["hyper", "hyper-util"]);
        let user = |package: &str, only_tests| User {
            package: package.to_owned(),
            only_tests,
        };
        assert_eq!(
            architecture.dependencies[0].users,
            [user("control", false), user("app", true)]
        );
        assert_eq!(architecture.dependencies[0].reason, "speaks HTTP");
    }

    #[test]
    fn a_document_without_the_tables_is_refused() {
        let check = |text: &str, expected: &str| {
            let error = Architecture::parse(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check("# Title\n", "expected a section \"## Imports\"");
        check(
            &DOCUMENT.replace("## Dependencies", "## Others"),
            "expected a section \"## Dependencies\"",
        );
        check(
            &DOCUMENT.replace("| app | all |", "| app |"),
            "expected 2 cells, found 1",
        );
    }
}
