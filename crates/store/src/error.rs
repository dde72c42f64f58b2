use std::path::PathBuf;

/// What may go wrong with a file of the store. Displays its own layer only.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder could not be made, opened or renamed.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The database refused.
    #[error("database `{}`: cannot {action}", path.display())]
    Database {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: rusqlite::Error,
    },
    /// A later Weir has been here.
    #[error("database `{}` is of version {found}, this Weir knows up to {known}: use the newer Weir, or another data folder", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The latest version known here.
        known: i64,
    },
    /// A key file that others may read or that has another size.
    #[error("key file `{}`: {problem}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: &'static str,
    },
    /// The thread that works for this store has ended, or its queue is full.
    #[error("the store is busy or has stopped")]
    Busy,
}

impl StoreError {
    /// Is this the answer of a full disk (or of the file's own limit)?
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Database { source, .. }
            if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull))
    }
}
