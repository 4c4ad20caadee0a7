//! Log files: where an app's output goes, and its last lines.
//!
//! Decides that output goes straight into a file and never through a pipe, so it goes on while the daemon is dead.
//! Deliberately absent: rotation (`rotate.rs`), readers (`tail.rs`, `follow.rs`), times (a file keeps none).

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use nbs_core::name::AppId;

/// Bytes looked at to find the last lines of a life.
const LAST_LINES_WINDOW: u64 = 64 << 10;

/// What rotations did to an app's log file since the daemon began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cuts {
    /// How often the file was cut.
    pub count: u64,
    /// How many bytes at the head of the file the last cut did not keep.
    pub lost: u64,
}

/// The directory of log files.
#[derive(Debug)]
pub struct Logs {
    directory: PathBuf,
    /// A file is rotated when it is larger.
    pub max_bytes: u64,
    /// Rotated files kept.
    pub keep: u32,
    cuts: Mutex<HashMap<AppId, Cuts>>,
    /// Held by readers for one look, and by the rotation while file, copy and `cuts` disagree.
    turn: RwLock<()>,
}

impl Logs {
    /// Log files in this directory.
    pub fn new(directory: PathBuf, max_bytes: u64, keep: u32) -> Self {
        Self { directory, max_bytes, keep, cuts: Mutex::default(), turn: RwLock::new(()) }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// An app's log file.
    pub fn file(&self, app: &AppId) -> PathBuf {
        self.directory.join(format!("{app}.log"))
    }

    /// An app's rotated log file; 1 is the newest.
    pub fn rotated(&self, app: &AppId, number: u32) -> PathBuf {
        self.directory.join(format!("{app}.log.{number}"))
    }

    /// Opens an app's log file for writing at its end; tells its length too, as that is where a life begins.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn open(&self, app: &AppId) -> io::Result<(File, u64)> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o640).custom_flags(nix::libc::O_NOFOLLOW);
        let file = options.open(self.file(app))?;
        let length = file.metadata()?.len();
        Ok((file, length))
    }

    /// While it is held, no file is rotated.
    pub fn still(&self) -> RwLockReadGuard<'_, ()> {
        self.turn.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// While it is held, nobody reads.
    pub fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.turn.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often an app's file was cut.
    pub fn cuts(&self, app: &AppId) -> Cuts {
        self.lock().get(app).copied().unwrap_or_default()
    }

    /// Notes a cut.
    pub fn note_cut(&self, app: &AppId, lost: u64) {
        let mut cuts = self.lock();
        let cuts = cuts.entry(app.clone()).or_default();
        *cuts = Cuts { count: cuts.count + 1, lost };
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<AppId, Cuts>> {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last lines written to a file after `from`, each cut to `max` bytes. A file shorter than `from` was truncated:
/// then all of it counts. What cannot be read gives no lines.
pub fn last_lines(file: &Path, from: u64, lines: usize, max: usize) -> Vec<String> {
    let read = || -> io::Result<Vec<u8>> {
        let file = File::open(file)?;
        let end = file.metadata()?.len();
        let from = if end < from { 0 } else { from };
        let start = from.max(end.saturating_sub(LAST_LINES_WINDOW));
        let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0)];
        let read = read_at(&file, &mut bytes, start)?;
        bytes.truncate(read);
        Ok(bytes)
    };
    read().map(|bytes| split_last(&bytes, lines, max)).unwrap_or_default()
}

/// The last lines of some bytes, each cut to `max` bytes.
pub fn split_last(bytes: &[u8], lines: usize, max: usize) -> Vec<String> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    let mut last: Vec<String> = bytes.rsplit(|byte| *byte == b'\n').take(lines).map(|line| text(line, max)).collect();
    last.reverse();
    last
}

/// A line as text of at most `max` bytes, without its carriage return.
pub fn text(line: &[u8], max: usize) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut text = String::from_utf8_lossy(&line[..line.len().min(max)]).into_owned();
    // A replacement character is longer than the byte it stands for.
    text.truncate(text.floor_char_boundary(max));
    text
}

/// Reads as much as there is from a place in a file, up to the buffer's size.
pub fn read_at(file: &File, buffer: &mut [u8], from: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], from + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_cut_and_need_no_final_newline() {
        assert_eq!(split_last(b"a\nb\nc\n", 2, 512), ["b", "c"]);
        assert_eq!(split_last(b"a\r\nb", 9, 512), ["a", "b"]);
        assert_eq!(split_last(b"\n\n", 9, 512), ["", ""]);
        assert!(split_last(b"", 9, 512).is_empty());
        assert_eq!(split_last("aé".as_bytes(), 1, 2), ["a"]);
        assert_eq!(split_last(b"\xff\xff", 1, 2), [""]);
    }
}
