//! The last lines of a log, rotated files included.
//!
//! Decides how far back is read. Deliberately absent: times, as a plain file keeps none.

use std::fs::File;
use std::io;

use nbs_core::name::AppId;

use super::output::{Cuts, Logs, read_at, text};

/// Bytes of one line that a reader gets.
pub const LINE_MAX: usize = 64 << 10;
/// Bytes that are read for one answer, whatever number of lines was asked for.
const ANSWER_MAX: usize = 16 << 20;
/// Bytes read at once.
const BLOCK: u64 = 64 << 10;

/// The end of a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tail {
    /// The last lines, oldest first.
    pub lines: Vec<String>,
    /// Where in the file the last complete line ends.
    pub end: u64,
    /// How often the file had been cut.
    pub cuts: Cuts,
}

/// Reads the last lines. With `complete`, a last line without its newline is left for later.
///
/// # Errors
/// A file is there but cannot be read.
pub fn read(logs: &Logs, app: &AppId, lines: usize, complete: bool) -> io::Result<Tail> {
    let _still = logs.still();
    let (mut bytes, end) = match File::open(logs.file(app)) {
        Ok(file) => {
            let length = file.metadata()?.len();
            last_bytes(&file, length, lines, complete)?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), 0),
        Err(error) => return Err(error),
    };
    for number in 1..=logs.keep {
        if count(&bytes) >= lines || bytes.len() >= ANSWER_MAX {
            break;
        }
        let Ok(file) = File::open(logs.rotated(app, number)) else { break };
        let length = file.metadata()?.len();
        let (mut older, _) = last_bytes(&file, length, lines, false)?;
        older.append(&mut bytes);
        bytes = older;
    }
    Ok(Tail { lines: super::output::split_last(&bytes, lines, LINE_MAX), end, cuts: logs.cuts(app) })
}

/// The bytes of at least the last `lines` lines, and where the last complete one ends.
fn last_bytes(file: &File, length: u64, lines: usize, complete: bool) -> io::Result<(Vec<u8>, u64)> {
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    let mut start = length;
    let mut newlines = 0;
    // One newline more, as it is the one before the first wanted line, and another if the last line is incomplete.
    while start > 0 && newlines <= lines.saturating_add(1) && length - start < ANSWER_MAX as u64 {
        let from = start.saturating_sub(BLOCK);
        let mut block = vec![0; usize::try_from(start - from).unwrap_or(0)];
        let read = read_at(file, &mut block, from)?;
        block.truncate(read);
        newlines += count(&block);
        blocks.push(block);
        start = from;
    }
    blocks.reverse();
    let mut bytes = blocks.concat();
    let mut end = length;
    if complete {
        let kept = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        end = start + kept as u64;
        bytes.truncate(kept);
    }
    Ok((bytes, end))
}

fn count(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// Cuts complete lines off the front of some bytes; what is left waits for its newline, but never beyond `LINE_MAX`.
pub fn take_lines(bytes: &mut Vec<u8>) -> Vec<String> {
    let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let mut lines: Vec<String> = Vec::new();
    if complete > 0 {
        let ended = bytes.drain(..complete).collect::<Vec<u8>>();
        lines.extend(ended[..complete - 1].split(|byte| *byte == b'\n').map(|line| text(line, LINE_MAX)));
    }
    if bytes.len() >= LINE_MAX {
        lines.push(text(bytes, LINE_MAX));
        bytes.clear();
    }
    lines
}
