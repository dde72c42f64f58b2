//! Captures joined into one file that every reader takes.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use inspect::capfile::{Reader, Step};

/// LINKTYPE_ETHERNET.
const ETHERNET: u16 = 1;
/// Time between two packets of the joined file.
const STEP_NS: u64 = 100_000;
/// Most packets' bytes kept in memory to be repeated.
const BYTES_MAX: usize = 512 << 20;

/// The file; removed when dropped.
pub(super) struct Joined {
    pub(super) path: PathBuf,
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl Drop for Joined {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Joined {
    /// Joins the Ethernet packets of `files`, or of the shared data if there are none, and repeats
    /// them until the file has `bytes_min` bytes.
    pub(super) fn write(files: &[PathBuf], bytes_min: u64) -> anyhow::Result<Self> {
        let found;
        let files = if files.is_empty() {
            found = shared()?;
            &found
        } else {
            files
        };
        let frames = frames_of(files)?;
        if frames.is_empty() {
            bail!("the captures hold no Ethernet packet, expected at least one");
        }
        let path = std::env::temp_dir().join(format!("weir-bench-read-{}.pcap", std::process::id()));
        let file = File::create_new(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let mut joined = Self {
            path,
            packets: 0,
            bytes: 0,
        };
        let mut out = BufWriter::new(file);
        joined
            .fill(&mut out, &frames, bytes_min)
            .and_then(|()| out.flush())
            .with_context(|| format!("cannot write {}", joined.path.display()))?;
        Ok(joined)
    }

    /// The classic format, little-endian, with times in nanoseconds.
    fn fill(&mut self, out: &mut BufWriter<File>, frames: &[Vec<u8>], bytes_min: u64) -> std::io::Result<()> {
        for word in [0xa1b2_3c4d, 4 << 16 | 2, 0, 0, 0x0004_0000, u32::from(ETHERNET)] {
            out.write_all(&u32::to_le_bytes(word))?;
        }
        self.bytes = 24;
        while self.bytes < bytes_min || self.packets == 0 {
            for frame in frames {
                let at_ns = self.packets * STEP_NS;
                let len = frame.len() as u32;
                let seconds = 1_700_000_000 + (at_ns / 1_000_000_000) as u32;
                for word in [seconds, (at_ns % 1_000_000_000) as u32, len, len] {
                    out.write_all(&word.to_le_bytes())?;
                }
                out.write_all(frame)?;
                self.packets += 1;
                self.bytes += 16 + u64::from(len);
            }
        }
        Ok(())
    }
}

/// A damaged capture gives the packets before the damage.
fn frames_of(files: &[PathBuf]) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut frames = Vec::new();
    let mut n_bytes = 0;
    for file in files {
        let content = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let mut rest = content.as_slice();
        let mut reader = Reader::new();
        while let Ok(Step::Packet(packet)) = reader.next(&mut rest) {
            if packet.linktype == ETHERNET && n_bytes + packet.data.len() <= BYTES_MAX {
                n_bytes += packet.data.len();
                frames.push(packet.data.to_vec());
            }
        }
    }
    Ok(frames)
}

fn shared() -> anyhow::Result<Vec<PathBuf>> {
    let shared = std::env::var_os("WEIR_SHARED").map_or_else(|| PathBuf::from("../shared"), PathBuf::from);
    let folder = shared.join("data/pcap");
    let mut files = Vec::new();
    for source in entries(&folder)? {
        files.extend(entries(&source)?);
    }
    Ok(files)
}

fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| {
        format!(
            "expected captures in {}: name files, or set WEIR_SHARED",
            folder.display()
        )
    })?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    Ok(paths)
}
