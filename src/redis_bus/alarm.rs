//! Says that something in Redis is not what it should be, at most so many times a minute.
//!
//! Whoever can write to Redis can write garbage at any rate; the log must not become the damage.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::security::envelope::EnvelopeError;
use crate::wire::envelope::VERSION;
use crate::wire::record::RowError;

/// Lines in one window.
const LINES: u32 = 6;
/// The window.
const WINDOW: Duration = Duration::from_secs(60);
/// Different things that are said once; more are not told apart.
const SAID_MAX: usize = 64;

#[derive(Default)]
struct State {
    since: Option<Instant>,
    lines: u32,
    /// Since the daemon began.
    count: u64,
    /// Not told in this window.
    hidden: u64,
    said: BTreeSet<String>,
}

/// Counts and tells.
#[derive(Default)]
pub(super) struct Alarm(Mutex<State>);

impl Alarm {
    /// An envelope was not believed.
    pub(super) fn envelope(&self, key: &str, error: &EnvelopeError) {
        match error {
            EnvelopeError::Version { found } if *found > VERSION => {
                self.once(&format!("version {found}"), || {
                    tracing::warn!(key, "{error}; what it says is passed over");
                });
            }
            error => self.refused(key, error),
        }
    }

    /// The record in a genuine envelope cannot be used.
    pub(super) fn body(&self, key: &str, error: &RowError) {
        match error {
            RowError::Newer { found, .. } => {
                self.once(&format!("version {found} in {key}"), || {
                    tracing::warn!(key, "{error}; what it says is passed over");
                });
            }
            error => self.refused(key, error),
        }
    }

    /// Something in a key was refused.
    pub(super) fn refused(&self, key: &str, why: impl Display) {
        let mut state = self.lock();
        state.count += 1;
        let now = Instant::now();
        if state.since.is_none_or(|since| now.duration_since(since) >= WINDOW) {
            if state.hidden > 0 {
                tracing::warn!(count = state.hidden, "more records in Redis were refused in the last minutes");
                state.lines = 1;
            } else {
                state.lines = 0;
            }
            (state.since, state.hidden) = (Some(now), 0);
        }
        if state.lines == LINES {
            state.hidden += 1;
            return;
        }
        state.lines += 1;
        tracing::warn!(key, count = state.count, "a record in Redis was refused: {why}");
    }

    /// Says something that is said once in the life of the daemon.
    pub(super) fn once(&self, what: &str, say: impl FnOnce()) {
        let mut state = self.lock();
        if state.said.len() < SAID_MAX && state.said.insert(what.to_string()) {
            say();
        }
    }

    /// How many records were refused.
    pub(super) fn count(&self) -> u64 {
        self.lock().count
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
