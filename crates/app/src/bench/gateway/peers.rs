//! Other AI gateways: installed when asked, by name, from the registries their projects publish to; used if there.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::servers::installed;

/// Below the folder of peers.
pub(super) const PORTKEY_PROGRAM: &str = "portkey/node_modules/@portkey-ai/gateway/build/start-server.js";
pub(super) const LITELLM_PROGRAM: &str = "litellm/bin/litellm";

/// `$XDG_CACHE_HOME/weir/bench`, else `$HOME/.cache/weir/bench`.
pub(super) fn folder() -> anyhow::Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty());
    let cache = match cache {
        Some(cache) => PathBuf::from(cache),
        None => Path::new(&std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(cache.join("weir").join("bench"))
}

/// Installs what is not there.
pub(super) fn install(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    if !folder.join(PORTKEY_PROGRAM).is_file() {
        let npm = installed("npm").context("Portkey needs npm, which is not installed")?;
        let mut command = Command::new(npm);
        command.args(["install", "--no-audit", "--no-fund", "--prefix"]);
        finish(command.arg(folder.join("portkey")).arg("@portkey-ai/gateway"))?;
    }
    if !folder.join(LITELLM_PROGRAM).is_file() {
        let python = installed("python3").context("LiteLLM needs python3, which is not installed")?;
        let place = folder.join("litellm");
        finish(Command::new(python).args(["-m", "venv"]).arg(&place))?;
        finish(Command::new(place.join("bin/pip")).args(["install", "--quiet", "litellm[proxy]"]))?;
    }
    Ok(())
}

fn finish(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().display().to_string();
    let status = command
        .status()
        .with_context(|| format!("cannot run {program}"))?;
    if !status.success() {
        bail!("{program} ended with {status}");
    }
    Ok(())
}
