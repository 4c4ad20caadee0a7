//! Why a record is not opened, and what the engine's errors mean.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::ports::RecordError;

/// `SQLITE_IOERR_SHMSIZE`: the index beside the log could not grow, which on a sound disk means that it is full.
const IOERR_SHMSIZE: i32 = 4874;

/// What helps against a damaged file.
pub const REMEDY: &str =
    "move it away together with its -wal and -shm files, then restore a backup or start afresh and use `apply -f`";

/// Why a record is not opened. Display is one sentence with file and remedy. The files are as they were.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The file is not, or no longer, a record.
    #[error("{file} is damaged: {cause}; nothing was changed: {REMEDY}")]
    Damaged {
        /// The record.
        file: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// A later version wrote it.
    #[error(
        "{file} has schema {found}, this nbsupervisor reads up to {supported}: install the newer nbsupervisor again, \
         or restore a backup from before its installation"
    )]
    Newer {
        /// The record.
        file: PathBuf,
        /// Its schema.
        found: u32,
        /// The highest known one.
        supported: u32,
    },
    /// The key is gone, but the record is there.
    #[error(
        "{key} is missing, and the secrets in {record} cannot be read without it: restore the key from a backup, or \
         move {record} away and start afresh"
    )]
    KeyMissing {
        /// The key.
        key: PathBuf,
        /// The record.
        record: PathBuf,
    },
    /// The key is not the one that the record was made with.
    #[error(
        "{key} is not the key of {record} ({cause}): restore the key from the backup that {record} came from, or move \
         both away and start afresh"
    )]
    KeyWrong {
        /// The key.
        key: PathBuf,
        /// The record.
        record: PathBuf,
        /// How that was found out.
        cause: String,
    },
    /// Another daemon has it open.
    #[error("{dir} is in use by another nbsupervisor: stop that one first, or choose another state_dir")]
    InUse {
        /// The directory of the record.
        dir: PathBuf,
    },
    /// A log without its file.
    #[error(
        "{log} is there, but {record} is not: put {record} back, which belongs to it, or move {log} away and start \
         afresh"
    )]
    Orphan {
        /// The log.
        log: PathBuf,
        /// The record.
        record: PathBuf,
    },
    /// No space left.
    #[error("the disk under {file} is full: free some space and start again")]
    Full {
        /// The record.
        file: PathBuf,
    },
    /// The system refuses.
    #[error("{file} cannot be opened: {cause}; check that it exists and that the daemon's user may read and write it")]
    Unreachable {
        /// The file or directory.
        file: PathBuf,
        /// What the system said.
        cause: String,
    },
}

impl OpenError {
    /// What the system's error means at the opening.
    pub(crate) fn system(file: &Path, error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::Full { file: file.into() },
            _ => Self::Unreachable { file: file.into(), cause: error.to_string() },
        }
    }

    /// What the engine's error means at the opening.
    pub(crate) fn engine(file: &Path, error: &rusqlite::Error) -> Self {
        let (file, cause) = (file.to_path_buf(), error.to_string());
        if is_full(error) {
            return Self::Full { file };
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown) => {
                Self::Damaged { file, cause }
            }
            _ => Self::Unreachable { file, cause },
        }
    }
}

fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|e| e.code == ErrorCode::DiskFull || e.extended_code == IOERR_SHMSIZE)
}

/// What the engine's error means to who reads or writes.
pub(crate) fn fault(operation: &'static str, file: &Path, error: &rusqlite::Error) -> RecordError {
    let file = file.to_path_buf();
    if is_full(error) {
        return RecordError::Full { file };
    }
    let cause = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            format!("{error}; it is damaged: stop the daemon, {REMEDY}")
        }
        _ => error.to_string(),
    };
    RecordError::Failed { operation, file, cause }
}
