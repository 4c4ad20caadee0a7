//! Looks at the file by which an app asks to be restarted, until it is written.
//!
//! What was written before the app was ready asks for nothing. The time of writing tells, so an app that is taken up after
//! a restart of the daemon is served too; a file that appears or becomes another one under the watch counts whatever its
//! time says. It is not followed where it is a link.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nbs_core::observation::Fact;
use nbs_core::time::Wall;
use tokio::time::{sleep, timeout};

use super::watch::Teller;

/// Wait for one answer of the file system; a network's may never give one.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What tells one writing from another.
type Written = Option<(u64, i64, i64)>;

/// Tells once that the file was written.
pub(super) async fn until_written(path: PathBuf, since: Wall, interval: Duration, to: Teller) {
    let mut known: Option<Written> = None;
    loop {
        if let Some(now) = look(&path).await {
            let later = now.is_some_and(|(_, seconds, nanos)| millis(seconds, nanos) > since.0);
            let other = now.is_some() && known.is_some_and(|known| known != now);
            if later || other {
                to.tell(Fact::RestartAsked).await;
                return;
            }
            known = Some(now);
        }
        sleep(interval).await;
    }
}

/// The file as it is, if that can be told.
async fn look(path: &Path) -> Option<Written> {
    let path = path.to_path_buf();
    let asked = tokio::task::spawn_blocking(move || std::fs::symlink_metadata(path));
    match timeout(TIMEOUT, asked).await.ok()?.ok()? {
        Ok(meta) => Some(Some((meta.ino(), meta.mtime(), meta.mtime_nsec()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(None),
        Err(_) => None,
    }
}

fn millis(seconds: i64, nanos: i64) -> u64 {
    u64::try_from(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000)).unwrap_or(0)
}
