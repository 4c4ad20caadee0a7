//! Adapter: what apps that run as systemd units wrote, read from the journal by `journalctl`.
//!
//! Decides which entries are an app's (`query.rs`, `entry.rs`), how long a question may take and how many readers may
//! follow. `journalctl` is a child without a shell, killed when nobody wants its answer any more; when the daemon itself is
//! killed, a following `journalctl` sees its output closed and ends, one that answers a question ends with the answer.
//! journald tells what it dropped for its rate limit only with the unit's next message, so an app that floods the journal
//! and then says nothing more leaves no word about it.
//! Deliberately absent: writing to the journal, the daemon's own log (telemetry), and a binding to libsystemd.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nbs_core::name::AppId;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use crate::ports::{BoxFuture, LastLines, LogError, LogLine, LogQuery, LogReader, UnitExit, UnitLife};

mod ask;
mod cursor;
mod entry;
mod follow;
mod outlet;
mod query;

use ask::{Asked, Fault};
use cursor::Cursor;

/// Readers that follow at once; each has a `journalctl` of some megabytes.
pub const FOLLOWERS_MAX: usize = 64;
/// Questions answered at once; a further one waits. Each reads files, and there are few processors.
const QUESTIONS_MAX: usize = 8;
/// How long a question may take, the waiting included. A journal of 4 GB is searched in about a second.
const QUESTION_TIME: Duration = Duration::from_secs(10);
/// How long the last lines of a failed life may take: they are a help, and the failure must be told.
const LAST_LINES_TIME: Duration = Duration::from_secs(2);
/// How long is waited until the journal has written what was sent to it.
const SETTLE_TIME: Duration = Duration::from_millis(300);
/// Pause between two looks where the journal cannot be asked to write.
const SETTLE_PAUSE: Duration = Duration::from_millis(50);

/// Whose manager runs the units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The system's.
    System,
    /// A user's own (`systemctl --user`).
    User {
        /// The user's number.
        uid: u32,
    },
}

/// What the adapter is told once.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whose units.
    pub scope: Scope,
    /// `journalctl`, or where it is.
    pub program: PathBuf,
    /// Journal files of this directory instead of the host's own.
    pub directory: Option<PathBuf>,
}

/// Reads the journal. Clones share their bounds.
#[derive(Debug, Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: Options,
    questions: Semaphore,
    followers: Arc<Semaphore>,
}

impl Journal {
    /// Makes a reader. Nothing is run before the first question.
    pub fn new(options: Options) -> Self {
        let followers = Arc::new(Semaphore::new(FOLLOWERS_MAX));
        Self { inner: Arc::new(Inner { options, questions: Semaphore::new(QUESTIONS_MAX), followers }) }
    }

    async fn settled(&self, wanted: &UnitLife, lines: usize) -> Result<Vec<String>, Fault> {
        let options = &self.inner.options;
        // What was sent before is written when this is answered; only root may ask for it.
        if timeout(SETTLE_TIME, ask::sync(options)).await.is_ok_and(|done| done) {
            return ask::last_lines(options, wanted, lines).await;
        }
        let mut seen = ask::last_lines(options, wanted, lines).await?;
        let agree = async {
            loop {
                sleep(SETTLE_PAUSE).await;
                let next = ask::last_lines(options, wanted, lines).await?;
                if next == seen && !next.is_empty() {
                    return Ok(next);
                }
                seen = next;
            }
        };
        match timeout(SETTLE_TIME, agree).await {
            Ok(answer) => answer,
            Err(_) => Ok(seen),
        }
    }

    /// One question within the bounds.
    async fn ask(&self, app: &AppId, query: &LogQuery) -> Result<Asked, LogError> {
        let after = query.after.as_deref().map(|text| Cursor::parse(app, text)).transpose()?;
        let work = async {
            // The semaphore is never closed.
            let _permit = self.inner.questions.acquire().await;
            match &after {
                Some(place) => ask::after(&self.inner.options, app, place, query).await,
                None => ask::newest(&self.inner.options, app, query).await,
            }
        };
        match timeout(QUESTION_TIME, work).await {
            Ok(Ok(asked)) => Ok(asked),
            Ok(Err(Fault::Seek)) => {
                Err(LogError::BadCursor { app: app.clone(), cursor: cursor::shown(query.after.as_deref()) })
            }
            Ok(Err(Fault::Other(cause))) => Err(LogError::Failed { app: app.clone(), cause }),
            Err(_) => {
                let cause = format!(
                    "journalctl did not answer within {} s; ask for fewer lines or a later moment",
                    QUESTION_TIME.as_secs()
                );
                Err(LogError::Failed { app: app.clone(), cause })
            }
        }
    }

    /// What a follower shows at once, and the place from which it goes on.
    async fn beginning(&self, app: &AppId, query: &LogQuery) -> Result<(Vec<LogLine>, Option<Cursor>), LogError> {
        if let Some(text) = &query.after {
            // A cursor that is none, or a journal that cannot be read, is told at once rather than in the stream.
            self.ask(app, &LogQuery { lines: 0, ..query.clone() }).await?;
            return Ok((Vec::new(), Some(Cursor::parse(app, text)?)));
        }
        let mut asked = self.ask(app, &LogQuery { lines: query.lines.max(1), ..query.clone() }).await?;
        let shown = if query.lines == 0 { Vec::new() } else { std::mem::take(&mut asked.lines) };
        if asked.end.is_none() && query.since.is_some() {
            asked.end = self.ask(app, &LogQuery::last(1)).await?.end;
        }
        Ok((shown, asked.end.map(Cursor::behind)))
    }
}

/// Waits up to 300 ms for lines that are still on their way.
///
/// A process that ends at once may be gone before journald looks up its invocation; of units that fail right away that is
/// one in five. Such nameless lines of the unit count as this life's if no other invocation wrote after them, and if they
/// are not older than `since`.
impl LastLines for Journal {
    fn last_lines<'a>(&'a self, life: &'a UnitLife, lines: usize) -> BoxFuture<'a, Vec<String>> {
        Box::pin(async move {
            let read = self.settled(life, lines);
            timeout(LAST_LINES_TIME, read).await.ok().and_then(Result::ok).unwrap_or_default()
        })
    }

    fn last_exit<'a>(&'a self, unit: &'a str, running: &'a str) -> BoxFuture<'a, Option<UnitExit>> {
        Box::pin(async move {
            let read = ask::last_exit(&self.inner.options, unit, running);
            timeout(LAST_LINES_TIME, read).await.ok().and_then(Result::ok).flatten()
        })
    }
}

impl LogReader for Journal {
    fn tail<'a>(&'a self, app: &'a AppId, query: &'a LogQuery) -> BoxFuture<'a, Result<Vec<LogLine>, LogError>> {
        Box::pin(async move {
            if query.lines == 0 {
                return Ok(Vec::new());
            }
            Ok(self.ask(app, query).await?.lines)
        })
    }

    fn follow<'a>(
        &'a self,
        app: &'a AppId,
        query: &'a LogQuery,
    ) -> BoxFuture<'a, Result<mpsc::Receiver<LogLine>, LogError>> {
        Box::pin(async move {
            let Ok(permit) = self.inner.followers.clone().try_acquire_owned() else {
                return Err(LogError::TooMany { app: app.clone(), limit: FOLLOWERS_MAX });
            };
            let (shown, place) = self.beginning(app, query).await?;
            let (sender, receiver) = mpsc::channel(outlet::CHANNEL);
            let follower = follow::Follower::new(self.inner.options.clone(), app.clone(), place, sender);
            tokio::spawn(async move {
                let _permit = permit;
                follower.run(shown).await;
            });
            Ok(receiver)
        })
    }
}
