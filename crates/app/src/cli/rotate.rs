//! Lines to standard output, or to a file that makes room for itself.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Where lines go.
#[derive(Debug)]
pub(super) enum Lines {
    Stdout,
    File(Rotated),
}

impl Lines {
    /// Writes one line. `false` when nobody reads any more, which only standard output can tell.
    pub(super) fn write(&mut self, line: &str) -> anyhow::Result<bool> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                Ok(writeln!(out, "{line}").and_then(|()| out.flush()).is_ok())
            }
            Self::File(file) => file
                .write(line)
                .with_context(|| format!("cannot write to {}", file.path.display()))
                .map(|()| true),
        }
    }
}

/// A file that is set aside as `NAME.1` when it is full; what was `NAME.1` is then `NAME.2`, and so on.
#[derive(Debug)]
pub(super) struct Rotated {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
    /// 0: it never is.
    bytes_max: u64,
    /// Files set aside that are kept.
    keep: u32,
}

impl Rotated {
    /// Goes on at the end of a file that is there.
    pub(super) fn open(path: &Path, bytes_max: u64, keep: u32) -> anyhow::Result<Self> {
        let (file, bytes) = append(path).with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            bytes,
            bytes_max,
            keep,
        })
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        let len = line.len() as u64 + 1;
        if self.bytes_max != 0 && self.bytes != 0 && self.bytes + len > self.bytes_max {
            self.rotate()?;
        }
        self.bytes += len;
        writeln!(self.file, "{line}")?;
        // Whoever follows the file wants whole records, and there are few enough of them.
        self.file.flush()
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file.flush()?;
        let aside = |n: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{n}"));
            PathBuf::from(name)
        };
        for n in (1..self.keep).rev() {
            match std::fs::rename(aside(n), aside(n + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.keep == 0 {
            std::fs::remove_file(&self.path)?;
        } else {
            std::fs::rename(&self.path, aside(1))?;
        }
        (self.file, self.bytes) = append(&self.path)?;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<(BufWriter<File>, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let bytes = file.metadata()?.len();
    Ok((BufWriter::new(file), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_files_are_set_aside_and_the_oldest_go() {
        /// Six lines of five bytes; what each file then holds, the newest first.
        fn check(bytes_max: u64, keep: u32, expected: &[Option<&str>]) {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("out");
            for part in [0..3, 3..6] {
                // Opened twice: the second goes on where the first ended.
                let mut file = Rotated::open(&path, bytes_max, keep).expect("it opens");
                for n in part {
                    file.write(&format!("row{n}")).expect("it is written");
                }
            }
            let names = ["out", "out.1", "out.2", "out.3"];
            let read = names.map(|name| std::fs::read_to_string(folder.path().join(name)).ok());
            let read: Vec<_> = read.iter().map(Option::as_deref).collect();
            assert_eq!(read, expected, "{bytes_max} {keep}");
        }
        check(
            0,
            1,
            &[Some("row0\nrow1\nrow2\nrow3\nrow4\nrow5\n"), None, None, None],
        );
        check(
            10,
            2,
            &[
                Some("row4\nrow5\n"),
                Some("row2\nrow3\n"),
                Some("row0\nrow1\n"),
                None,
            ],
        );
        check(5, 2, &[Some("row5\n"), Some("row4\n"), Some("row3\n"), None]);
        check(12, 0, &[Some("row4\nrow5\n"), None, None, None]);
        // A line longer than a file has one of its own.
        check(3, 1, &[Some("row5\n"), Some("row4\n"), None, None]);
    }
}
