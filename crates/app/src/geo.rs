//! Country databases: those that are named, else those that are found.

use std::path::{Path, PathBuf};

use agent::broker::Databases;
use anyhow::Context as _;
use inspect::geo::Geo;

/// Where databases are looked for if none is named: what `scripts/setup` fetches, then what distributions
/// and MaxMind's own updater install.
fn usual_folders() -> Vec<PathBuf> {
    let cache = std::env::var_os("WEIR_CACHE").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME")?;
        Some(Path::new(&home).join(".cache/weir"))
    });
    let fetched = cache.map(|cache| cache.join("geo"));
    let installed = ["/usr/share/GeoIP", "/var/lib/GeoIP"].map(PathBuf::from);
    fetched.into_iter().chain(installed).collect()
}

/// The databases of these files. Without any, those of the first usual folder that has some; what
/// cannot be read there is passed over, for nobody asked for it.
///
/// # Errors
/// If a file that is named cannot be read, or is no MMDB file.
pub(crate) fn load(files: &[PathBuf]) -> anyhow::Result<Geo> {
    let mut geo = Geo::default();
    geo.knows_private = !files.is_empty();
    for file in files {
        add(&mut geo, file)?;
    }
    if files.is_empty() {
        for file in self::files(files).paths {
            let _ = add(&mut geo, &file);
        }
    }
    Ok(geo)
}

/// The files that [`load`] would read.
pub(crate) fn files(named: &[PathBuf]) -> Databases {
    let found = || {
        let mut folders = usual_folders().into_iter().map(|folder| databases(&folder));
        folders.find(|found| !found.is_empty()).unwrap_or_default()
    };
    Databases {
        paths: if named.is_empty() { found() } else { named.to_vec() },
        are_named: !named.is_empty(),
    }
}

fn add(geo: &mut Geo, file: &Path) -> anyhow::Result<()> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    geo.add(bytes)
        .with_context(|| format!("{} is no country database, expected an MMDB file", file.display()))
}

/// The MMDB files of a folder, in a fixed order.
fn databases(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "mmdb"))
        .collect();
    files.sort();
    files
}
