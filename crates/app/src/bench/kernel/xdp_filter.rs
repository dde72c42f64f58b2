//! xdp-filter (xdp-tools), the yardstick: a plain filter that keeps no flows.

use std::path::Path;

use agent::trial::Trial;
use anyhow::{Context as _, bail};

/// What `xdp-filter load` attaches by default: all features, allow unless listed.
const PROGRAM: &str = "xdpfilt_alw_all";

/// Where distributions install its objects, below an architecture's folder or not.
const FOLDERS: [&str; 3] = ["/usr/lib/bpf", "/usr/lib64/bpf", "/usr/local/lib/bpf"];

pub(super) struct XdpFilter {
    pub(super) trial: Trial,
    pub(super) program: &'static str,
}

/// The program; with an IPv4 source address in its deny table, if one is given.
pub(super) fn load(denied: Option<[u8; 4]>) -> anyhow::Result<XdpFilter> {
    let name = format!("{PROGRAM}.o");
    let multiarch = format!("/usr/lib/{}-linux-gnu/bpf", std::env::consts::ARCH);
    let folders = FOLDERS.iter().copied().chain([multiarch.as_str()]);
    let mut paths = folders.map(|folder| Path::new(folder).join(&name));
    let Some(path) = paths.find(|path| path.exists()) else {
        bail!("{name} of xdp-tools is not installed");
    };
    let object = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut trial = Trial::load_foreign(&object, &[PROGRAM])?;
    if let Some(address) = denied {
        /// Flags of an entry, below its hit counter: matches as a source, in any protocol.
        const DENY_SOURCE: u64 = 1;
        trial.set_per_cpu("filter_ipv4", u32::from_ne_bytes(address), DENY_SOURCE)?;
    }
    Ok(XdpFilter {
        trial,
        program: PROGRAM,
    })
}
