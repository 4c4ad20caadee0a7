//! One daemon for a state directory: an exclusive lock on `<state_dir>/lock`, which the kernel lets go with the process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a lock that is held is asked for again: a daemon that was killed while it started an app leaves a child that
/// holds the lock until its exec.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// Why the lock was not got.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon has it.
    #[error("another daemon ({holder}) uses this state directory, says {file}: stop it, or set another state_dir")]
    Held {
        /// The lock file.
        file: PathBuf,
        /// `pid 4711`, or `pid unknown`.
        holder: String,
    },
    /// The file cannot be used.
    #[error("cannot lock {file}")]
    Failed {
        /// The lock file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The lock; held until it is dropped.
#[derive(Debug)]
pub struct StateLock {
    // Closing it lets the lock go. The file stays: removing it would let two daemons lock two files of one name.
    _file: File,
}

impl StateLock {
    /// Locks a state directory. Blocks for up to two seconds while another process has the lock.
    ///
    /// # Errors
    /// Another daemon keeps the lock, or the file cannot be used.
    pub fn acquire(state_dir: &Path) -> Result<Self, LockError> {
        let path = state_dir.join("lock");
        let failed = |source| LockError::Failed { file: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let mut waited = Duration::ZERO;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if waited < PATIENCE => {
                    std::thread::sleep(PAUSE);
                    waited += PAUSE;
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(LockError::Held { holder: holder(&mut file), file: path });
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse::<u32>().ok());
    pid.map_or("pid unknown".into(), |pid| format!("pid {pid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_told_file_and_holder() {
        let dir = tempfile::tempdir().unwrap();
        let lock = StateLock::acquire(dir.path()).unwrap();
        let error = StateLock::acquire(dir.path()).unwrap_err().to_string();
        let expected = format!(
            "another daemon (pid {}) uses this state directory, says {}/lock: stop it, or set another state_dir",
            std::process::id(),
            dir.path().display()
        );
        assert_eq!(error, expected);
        drop(lock);
        assert!(StateLock::acquire(dir.path()).is_ok());
    }

    #[test]
    fn a_lock_that_is_let_go_soon_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let lock = StateLock::acquire(dir.path()).unwrap();
        let letting_go = std::thread::spawn(move || {
            std::thread::park_timeout(Duration::from_millis(200));
            drop(lock);
        });
        assert!(StateLock::acquire(dir.path()).is_ok());
        letting_go.join().unwrap();
    }

    #[test]
    fn a_directory_that_is_not_there_is_told() {
        let error = StateLock::acquire(Path::new("/nonexistent")).unwrap_err();
        assert_eq!(error.to_string(), "cannot lock /nonexistent/lock");
    }
}
