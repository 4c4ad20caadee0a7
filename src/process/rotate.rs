//! Rotation of log files: copy, then truncate, as the writers keep their descriptors.
//!
//! Decides when a file is looked at and what is lost: what an app writes between the copy's last read and the truncation
//! (microseconds), and what a file grew beyond its size between two looks (`QUIET`, or `BUSY` while one grows fast).
//! Nothing is rotated while the daemon is down. Deliberately absent: compression.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::Duration;

use nbs_core::name::AppId;

use super::Inner;
use super::output::{Logs, read_at};

/// Pause between two looks at the log files of running apps; one look costs about 2 µs per app.
const QUIET: Duration = Duration::from_secs(30);
/// The same while a file is large already or was rotated at the last look.
const BUSY: Duration = Duration::from_secs(2);
/// Bytes copied at once.
const BLOCK: usize = 256 << 10;

/// Looks at all log files again and again.
pub async fn run(inner: Arc<Inner>) {
    let mut pause = QUIET;
    loop {
        tokio::time::sleep(pause).await;
        let inner = inner.clone();
        let busy = tokio::task::spawn_blocking(move || sweep(&inner).0).await.unwrap_or(false);
        pause = if busy { BUSY } else { QUIET };
    }
}

/// Rotates every log file that is too large. Tells whether to look again soon, and what failed, by app.
pub fn sweep(inner: &Inner) -> (bool, Vec<(AppId, String)>) {
    let mut busy = false;
    let mut failures = Vec::new();
    for app in inner.lives.apps() {
        let length = fs::metadata(inner.logs.file(&app)).map_or(0, |found| found.len());
        busy |= length > inner.logs.max_bytes / 2;
        if length <= inner.logs.max_bytes {
            continue;
        }
        if let Err(error) = rotate(&inner.logs, &app) {
            let text = format!("rotating {} failed: {error}", inner.logs.file(&app).display());
            failures.push((app.clone(), text));
        }
        inner.lives.log_was_cut(&app);
    }
    (busy, failures)
}

/// Rotates one file. If there is no room for the copy, it is cut without one: a full disk hurts every app.
fn rotate(logs: &Logs, app: &AppId) -> io::Result<()> {
    let _alone = logs.alone();
    for number in (1..=logs.keep).rev() {
        let from = logs.rotated(app, number);
        let result =
            if number == logs.keep { fs::remove_file(&from) } else { fs::rename(&from, logs.rotated(app, number + 1)) };
        match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let file = OpenOptions::new().read(true).write(true).custom_flags(nix::libc::O_NOFOLLOW).open(logs.file(app))?;
    let length = file.metadata()?.len();
    let head = if logs.keep == 0 { length } else { length.saturating_sub(logs.max_bytes.saturating_mul(2)) };
    let copied = if logs.keep == 0 { Ok(()) } else { copy(&file, head, logs, app) };
    let lost = if copied.is_ok() { head } else { length };
    match &copied {
        Err(error) if !matches!(error.raw_os_error(), Some(nix::libc::ENOSPC | nix::libc::EDQUOT)) => return copied,
        _ => {}
    }
    file.set_len(0)?;
    logs.note_cut(app, lost);
    copied
}

/// Copies a file from `head` on to the first rotated one; a failed copy leaves nothing behind.
fn copy(file: &File, head: u64, logs: &Logs, app: &AppId) -> io::Result<()> {
    let target = logs.rotated(app, 1);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o640);
    let write = || -> io::Result<()> {
        let mut to = options.open(&target)?;
        if head > 0 {
            writeln!(to, "… {head} bytes dropped …")?;
        }
        let mut block = vec![0; BLOCK];
        let mut from = head;
        loop {
            let read = read_at(file, &mut block, from)?;
            if read == 0 {
                return Ok(());
            }
            to.write_all(&block[..read])?;
            from += read as u64;
        }
    };
    write().inspect_err(|_| drop(fs::remove_file(&target)))
}
