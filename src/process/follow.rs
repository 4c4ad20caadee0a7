//! Following a log: its last lines, then each new one.
//!
//! Decides what a slow reader loses: nothing until it is `LAG_MAX` behind the file, then whole lines, and one line says how
//! many. Polls, and only while somebody follows. Deliberately absent: a buffer per reader beyond the channel.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use nbs_core::name::AppId;
use tokio::sync::mpsc;

use crate::ports::LogLine;

use super::Inner;
use super::output::{Cuts, Logs, read_at};
use super::tail::take_lines;

/// Pause between two looks at a file that did not grow.
const POLL: Duration = Duration::from_millis(200);
/// Lines that wait for the reader.
pub const CHANNEL: usize = 256;
/// Bytes read at once.
const BLOCK: usize = 64 << 10;
/// Bytes that a reader may be behind.
const LAG_MAX: u64 = 1 << 20;
/// Bytes before the end where a reader that was too slow goes on.
const LAG_KEPT: u64 = 256 << 10;

/// A place in a log.
pub struct Place {
    /// How often the file had been cut.
    pub cuts: Cuts,
    /// Where in the file the next line begins.
    pub at: u64,
}

/// Sends lines until the receiver is dropped.
pub async fn run(inner: Arc<Inner>, app: AppId, mut place: Place, lines: mpsc::Sender<LogLine>) {
    let mut rest = Vec::new();
    loop {
        let (inner, app) = (inner.clone(), app.clone());
        let step = move || {
            let new = advance(&inner.logs, &app, &mut place, &mut rest);
            (place, rest, new)
        };
        let Ok((next_place, next_rest, new)) = tokio::task::spawn_blocking(step).await else { return };
        (place, rest) = (next_place, next_rest);
        let idle = new.is_empty();
        for text in new {
            if lines.send(LogLine::plain(text)).await.is_err() {
                return;
            }
        }
        if idle {
            tokio::select! {
                () = lines.closed() => return,
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }
}

/// Reads the next lines. A file that cannot be read just now has none.
fn advance(logs: &Logs, app: &AppId, place: &mut Place, rest: &mut Vec<u8>) -> Vec<String> {
    let mut new = Vec::new();
    let _still = logs.still();
    let cuts = logs.cuts(app);
    if cuts.count != place.cuts.count {
        after_cut(logs, app, place, cuts, rest, &mut new);
        (place.cuts, place.at) = (cuts, 0);
    }
    if let Err(error) = grown(logs, app, place, rest, &mut new)
        && error.kind() != io::ErrorKind::NotFound
    {
        new.push(format!("… the log cannot be read: {error} …"));
    }
    new
}

/// The lines that the cut moved to the rotated file.
fn after_cut(logs: &Logs, app: &AppId, place: &Place, cuts: Cuts, rest: &mut Vec<u8>, new: &mut Vec<String>) {
    let kept = cuts.count == place.cuts.count + 1 && cuts.lost == 0;
    let read = || -> io::Result<Vec<u8>> {
        let file = File::open(logs.rotated(app, 1))?;
        let length = file.metadata()?.len();
        let from = place.at.max(length.saturating_sub(LAG_MAX));
        let mut bytes = vec![0; usize::try_from(length.saturating_sub(from)).unwrap_or(0)];
        let read = read_at(&file, &mut bytes, from)?;
        bytes.truncate(read);
        if from > place.at {
            rest.clear();
            new.push(format!("… {} bytes dropped …", from - place.at));
        }
        Ok(bytes)
    };
    match kept.then(read) {
        Some(Ok(bytes)) => {
            rest.extend_from_slice(&bytes);
            new.extend(take_lines(rest));
        }
        _ => {
            rest.clear();
            new.push("… lines dropped by rotation …".into());
        }
    }
}

fn grown(logs: &Logs, app: &AppId, place: &mut Place, rest: &mut Vec<u8>, new: &mut Vec<String>) -> io::Result<()> {
    let file = File::open(logs.file(app))?;
    let length = file.metadata()?.len();
    if length < place.at {
        // Somebody else cut it; what was lost nobody knows.
        place.at = 0;
        rest.clear();
    }
    if length - place.at > LAG_MAX {
        let skipped = skip(&file, place.at, length - LAG_KEPT)?;
        new.push(format!("… {} lines dropped …", skipped.lines));
        place.at = skipped.at;
        rest.clear();
    }
    let mut block = vec![0; BLOCK.min(usize::try_from(length - place.at).unwrap_or(BLOCK))];
    let read = read_at(&file, &mut block, place.at)?;
    place.at += read as u64;
    rest.extend_from_slice(&block[..read]);
    new.extend(take_lines(rest));
    Ok(())
}

struct Skipped {
    lines: u64,
    at: u64,
}

/// Counts the lines from a place on, and goes on at the first line that begins after `to`.
fn skip(file: &File, from: u64, to: u64) -> io::Result<Skipped> {
    let mut block = vec![0; BLOCK];
    let mut skipped = Skipped { lines: 0, at: from };
    loop {
        let read = read_at(file, &mut block, skipped.at)?;
        for byte in &block[..read] {
            skipped.at += 1;
            if *byte == b'\n' {
                skipped.lines += 1;
                if skipped.at >= to {
                    return Ok(skipped);
                }
            }
        }
        if read == 0 {
            return Ok(skipped);
        }
    }
}
