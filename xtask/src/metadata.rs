//! What the rules need of `cargo metadata`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use serde::Deserialize;

/// Where Weir runs; dependencies for other systems are never downloaded.
const PLATFORMS: [&str; 3] = [
    "x86_64-unknown-linux-gnu",
    "aarch64-unknown-linux-gnu",
    "bpfel-unknown-none",
];

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// A crate at one version.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Package {
    /// Unique for name, version and source.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    /// An SPDX expression.
    pub(crate) license: Option<String>,
    /// Where it was downloaded from; `None` for a package of this repository.
    pub(crate) source: Option<String>,
    /// Direct dependencies.
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a manifest's dependency tables.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `dev` or `build`; `None` for an ordinary one.
    pub(crate) kind: Option<String>,
    /// The folder of a package of this repository.
    pub(crate) path: Option<String>,
}

impl Package {
    pub(crate) fn is_ours(&self) -> bool {
        self.source.is_none()
    }
}

impl Dependency {
    pub(crate) fn is_ours(&self) -> bool {
        self.path.is_some()
    }

    pub(crate) fn is_dev(&self) -> bool {
        self.kind.as_deref() == Some("dev")
    }
}

/// The packages `manifest` leads to.
pub(crate) fn read(manifest: &Path) -> anyhow::Result<Vec<Package>> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["metadata", "--format-version", "1", "--manifest-path"])
        .arg(manifest);
    for platform in PLATFORMS {
        command.args(["--filter-platform", platform]);
    }
    let output = command.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!(
            "cargo metadata of {}: {}",
            manifest.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("cargo metadata of {} is not as expected", manifest.display()))?;
    Ok(metadata.packages)
}
