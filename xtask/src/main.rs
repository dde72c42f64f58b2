//! Automation of this repository: `cargo xtask check` holds what no compiler holds, `cargo xtask catalogue FILE`
//! makes the model catalogue from a table of prices.
//!
//! Each rule is a pure function from what was read (`cargo metadata`, ARCHITECTURE.md, the tracked files)
//! to a list of problems, each a sentence that says what to do. Only this file reads and prints.

mod architecture;
mod catalogue;
mod imports;
mod licences;
mod metadata;
mod spdx;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail, ensure};

use crate::architecture::Architecture;
use crate::metadata::Package;
use crate::tidy::SourceFile;

const USAGE: &str = "usage: cargo xtask check\n       cargo xtask catalogue FILE";

/// The manifests whose dependencies are looked at. The last two are workspaces of their own.
const MANIFESTS: [&str; 3] = ["Cargo.toml", "crates/ebpf/Cargo.toml", "fuzz/Cargo.toml"];

#[expect(
    clippy::print_stderr,
    reason = "this is the command's edge: words go to stderr"
)]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["check"] => check(),
        ["catalogue", file] => write_catalogue(Path::new(file)).map(|()| Vec::new()),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(problems) if problems.is_empty() => ExitCode::SUCCESS,
        Ok(problems) => {
            for problem in &problems {
                eprintln!("xtask: {problem}");
            }
            eprintln!("xtask: {} problems", problems.len());
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// The folder of the repository this crate belongs to.
fn root() -> anyhow::Result<&'static Path> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    folder.context("xtask has no parent folder")
}

/// Makes the model catalogue from the table in `file`.
fn write_catalogue(file: &Path) -> anyhow::Result<()> {
    let table = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let text = catalogue::generate(&table).with_context(|| file.display().to_string())?;
    let target = root()?.join(catalogue::PATH);
    std::fs::write(&target, text).with_context(|| format!("cannot write {}", target.display()))
}

/// Is the catalogue what the table gives? Nothing to say where the table is not there.
fn check_catalogue(root: &Path) -> anyhow::Result<Vec<String>> {
    let shared = std::env::var_os("WEIR_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
    let Ok(table) = std::fs::read_to_string(shared.join(catalogue::SOURCE_PATH)) else {
        return Ok(Vec::new());
    };
    let expected = catalogue::generate(&table).context(catalogue::SOURCE_PATH)?;
    let committed = std::fs::read_to_string(root.join(catalogue::PATH)).unwrap_or_default();
    if committed == expected {
        return Ok(Vec::new());
    }
    Ok(vec![format!(
        "{}: not what the generator gives: run cargo xtask catalogue with {}",
        catalogue::PATH,
        catalogue::SOURCE_PATH
    )])
}

/// All problems of the repository.
fn check() -> anyhow::Result<Vec<String>> {
    let root = root()?;
    let packages = packages(root)?;
    let architecture_path = root.join("ARCHITECTURE.md");
    let text = std::fs::read_to_string(&architecture_path)
        .with_context(|| format!("cannot read {}", architecture_path.display()))?;
    let architecture = match Architecture::parse(&text) {
        Ok(architecture) => architecture,
        Err(problem) => return Ok(vec![problem]),
    };
    let mut problems = licences::check(&packages);
    problems.extend(imports::check(&packages, &architecture));
    problems.extend(tidy::check(&source_files(root)?));
    problems.extend(check_catalogue(root)?);
    Ok(problems)
}

/// Every package the manifests lead to, ours and theirs, each once.
fn packages(root: &Path) -> anyhow::Result<Vec<Package>> {
    let mut packages: Vec<Package> = Vec::new();
    for manifest in MANIFESTS
        .iter()
        .map(|manifest| root.join(manifest))
        .filter(|path| path.exists())
    {
        for package in metadata::read(&manifest)? {
            if !packages.iter().any(|known| known.id == package.id) {
                packages.push(package);
            }
        }
    }
    Ok(packages)
}

/// The text files git tracks or would track, so that a problem shows before the commit.
fn source_files(root: &Path) -> anyhow::Result<Vec<SourceFile>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("cannot start git, which lists the files to look at")?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let names = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let mut files = Vec::new();
    for name in names.split('\0').filter(|name| !name.is_empty()) {
        // A link, a file deleted but not yet committed, or bytes that are no text are not ours to judge.
        let path = root.join(name);
        if !path.is_file() || path.is_symlink() {
            continue;
        }
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {name}"))?;
        if let Ok(text) = String::from_utf8(bytes) {
            files.push(SourceFile {
                path: name.to_owned(),
                text,
            });
        }
    }
    ensure!(!files.is_empty(), "git lists no files in {}", root.display());
    Ok(files)
}
