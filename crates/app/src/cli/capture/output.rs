//! The file, or standard output: whole blocks, plain or gzipped.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::plan::Target;
use super::signals;

/// How long a reader that takes nothing is waited for once we are to stop, in milliseconds.
const READER_WAIT_MS: u16 = 1000;

/// Where blocks go.
#[derive(Debug)]
pub(super) struct Output {
    sink: Sink,
    name: String,
    /// Bytes of whole blocks that were taken, before compression.
    len: u64,
}

#[derive(Debug)]
enum Sink {
    Plain(Patient),
    Gzip(GzEncoder<Patient>),
}

impl Output {
    /// Opens the target; a new file is for its owner only, since packets hold secrets.
    ///
    /// # Errors
    /// Those of the file system, with the file's name.
    pub(super) fn open(target: &Target) -> Result<Self> {
        let (sink, name) = match target {
            Target::StandardOutput => {
                let descriptor = io::stdout().as_fd().try_clone_to_owned();
                let descriptor = descriptor.context("cannot use standard output")?;
                (
                    Sink::Plain(Patient(File::from(descriptor))),
                    "standard output".to_owned(),
                )
            }
            Target::File(path) | Target::Gzip(path) => {
                let name = path.display().to_string();
                let file = OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(0o600)
                    .open(path)
                    .with_context(|| format!("cannot create {name}"))?;
                let sink = match target {
                    Target::Gzip(_) => Sink::Gzip(GzEncoder::new(Patient(file), Compression::fast())),
                    _ => Sink::Plain(Patient(file)),
                };
                (sink, name)
            }
        };
        Ok(Self { sink, name, len: 0 })
    }

    /// What to call it in a sentence.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Bytes taken so far, before compression.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Writes whole pcapng blocks.
    ///
    /// # Errors
    /// Those of the file, as a full disk. A plain file then ends with the last whole block, so that
    /// it can be read to its end.
    pub(super) fn write(&mut self, blocks: &[u8]) -> io::Result<()> {
        match &mut self.sink {
            Sink::Gzip(encoder) => encoder.write_all(blocks)?,
            Sink::Plain(file) => {
                if let Err((error, written)) = write_counting(file, blocks) {
                    self.len += whole_blocks_len(&blocks[..written]) as u64;
                    if file.0.metadata().is_ok_and(|meta| meta.is_file()) {
                        // The first error is the one to tell.
                        let _ = file.0.set_len(self.len);
                    }
                    return Err(error);
                }
            }
        }
        self.len += blocks.len() as u64;
        Ok(())
    }

    /// Makes what was written readable by others.
    ///
    /// # Errors
    /// Those of the file.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match &mut self.sink {
            Sink::Gzip(encoder) => encoder.flush(),
            Sink::Plain(_) => Ok(()),
        }
    }

    /// Ends the file.
    ///
    /// # Errors
    /// Those of the file.
    pub(super) fn finish(self) -> io::Result<()> {
        match self.sink {
            Sink::Gzip(encoder) => encoder.finish().map(drop),
            Sink::Plain(_) => Ok(()),
        }
    }
}

/// Writes all, or tells how much of it was written before the error.
fn write_counting(file: &mut Patient, bytes: &[u8]) -> Result<(), (io::Error, usize)> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return Err((io::ErrorKind::WriteZero.into(), written)),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((error, written)),
        }
    }
    Ok(())
}

/// Length of the whole pcapng blocks at the front of `bytes`.
fn whole_blocks_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(length) = bytes.get(at + 4..).and_then(|rest| rest.first_chunk()) {
        let end = at + u32::from_le_bytes(*length) as usize;
        if end > bytes.len() || end == at {
            break;
        }
        at = end;
    }
    at
}

/// A file that may be a pipe whose reader takes its time: once we are to stop, it has a last second.
#[derive(Debug)]
struct Patient(File);

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if signals::is_stop_asked() {
            let mut wanted = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
            match poll(&mut wanted, PollTimeout::from(READER_WAIT_MS)) {
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "its reader takes nothing more",
                    ));
                }
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_file_ends_with_a_whole_block() {
        let block = [6, 0, 0, 0, 16, 0, 0, 0, 1, 2, 3, 4, 16, 0, 0, 0];
        let blocks = [block, block].concat();
        for (length, expected) in [(0, 0), (7, 0), (15, 0), (16, 16), (20, 16), (31, 16), (32, 32)] {
            assert_eq!(whole_blocks_len(&blocks[..length]), expected);
        }
    }
}
