//! Hashes of the admin API's tokens, in a file that the broker opens and the worker appends to.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use control::token::{Token, TokenHash, hash_from_hex, hex};

/// Tokens kept; more are refused.
const TOKENS_MAX: usize = 1_000;

/// The open file. Only root can open it anew.
#[derive(Debug)]
pub(super) struct TokenFile(Mutex<File>);

impl TokenFile {
    /// Opens or makes the file of an instance, in Weir's data folder.
    pub(super) fn open(instance: &str) -> anyhow::Result<Self> {
        let folder = data_folder();
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join(format!("{instance}.tokens"));
        OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map(|file| Self(Mutex::new(file)))
            .with_context(|| format!("cannot open {}", path.display()))
    }

    pub(super) fn as_raw_fd(&self) -> RawFd {
        self.file().as_raw_fd()
    }

    fn file(&self) -> std::sync::MutexGuard<'_, File> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hashes of all valid tokens.
    pub(super) fn hashes(&self) -> Vec<TokenHash> {
        let mut text = String::new();
        let mut file = self.file();
        let read = file
            .seek(SeekFrom::Start(0))
            .and_then(|_| file.read_to_string(&mut text));
        match read {
            Ok(_) => text.lines().filter_map(hash_from_hex).take(TOKENS_MAX).collect(),
            Err(_) => Vec::new(),
        }
    }

    /// Makes a token and keeps its hash.
    pub(super) fn create(&self) -> Result<String, String> {
        if self.hashes().len() >= TOKENS_MAX {
            return Err(format!(
                "{TOKENS_MAX} tokens are kept already: remove lines from the token file"
            ));
        }
        let mut random = [0; control::token::RANDOM_LEN];
        File::open("/dev/urandom")
            .and_then(|mut source| source.read_exact(&mut random))
            .map_err(|error| format!("cannot read /dev/urandom: {error}"))?;
        let token = Token::new(random);
        let line = format!("{}\n", hex(&token.hash()));
        self.file()
            .write_all(line.as_bytes())
            .map_err(|error| format!("cannot keep the token: {error}"))?;
        Ok(token.to_string())
    }
}

/// `/var/lib/weir` for root, else below the user's data folder.
pub(super) fn data_folder() -> PathBuf {
    if nix::unistd::Uid::effective().is_root() {
        return "/var/lib/weir".into();
    }
    let home = || {
        std::env::var_os("HOME")
            .map_or_else(|| "/".into(), PathBuf::from)
            .join(".local/share")
    };
    std::env::var_os("XDG_DATA_HOME")
        .map_or_else(home, PathBuf::from)
        .join("weir")
}
