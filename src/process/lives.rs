//! The lives this daemon looks after: which process each is, and how far its end has come.
//!
//! Decides who may still be signalled. Deliberately absent: anything that takes long, as every call holds the lock.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nbs_core::id::Run;
use nbs_core::name::AppId;
use tokio::task::AbortHandle;

use super::group::Group;
use super::identity::Main;

/// How far the end of a life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Its main process runs, and its end will be told.
    Watched,
    /// Its main process was reaped at this many ticks after boot; `Exited` is about to be told.
    Reaped(u64),
    /// `Exited` was told.
    Told(u64),
    /// A stray: nobody is told of its end.
    Stray,
}

/// One life.
#[derive(Debug)]
pub struct Life {
    /// Which.
    pub run: Run,
    /// Its main process.
    pub main: Main,
    /// Its descriptor, until it was reaped.
    pub pidfd: Option<Arc<OwnedFd>>,
    /// The control group that it has to itself.
    pub group: Option<Group>,
    /// How far its end has come.
    pub progress: Progress,
    /// Where in the log file it began.
    pub log_from: u64,
    /// The task that waits for its end.
    pub watcher: Option<AbortHandle>,
}

impl Life {
    /// When its main process was reaped; until then its process group's number cannot be reused.
    pub fn reaped_at(&self) -> Option<u64> {
        match self.progress {
            Progress::Reaped(at) | Progress::Told(at) => Some(at),
            Progress::Watched | Progress::Stray => None,
        }
    }
}

/// Every life, by app. An app has one, or a few while former ones come to an end.
#[derive(Debug, Default)]
pub struct Lives(Mutex<HashMap<AppId, Vec<Life>>>);

impl Lives {
    /// Adds a life; those of the app whose end was told are forgotten.
    pub fn add(&self, app: &AppId, life: Life) {
        let mut lives = self.lock();
        // Nearly every app has one; a vector that grows by itself begins with four.
        let of_app = lives.entry(app.clone()).or_insert_with(|| Vec::with_capacity(1));
        of_app.retain(|other| other.run != life.run && !matches!(other.progress, Progress::Told(_)));
        of_app.push(life);
    }

    /// Does something with one life, under the lock.
    pub fn with<T>(&self, app: &AppId, run: Run, act: impl FnOnce(&mut Life) -> T) -> Option<T> {
        self.lock().get_mut(app)?.iter_mut().find(|life| life.run == run).map(act)
    }

    /// Forgets a life.
    pub fn remove(&self, app: &AppId, run: Run) {
        let mut lives = self.lock();
        if let Some(of_app) = lives.get_mut(app) {
            of_app.retain(|life| life.run != run);
            if of_app.is_empty() {
                lives.remove(app);
            }
        }
    }

    /// The app's log file was cut: what is in it from now on was written by the present life.
    pub fn log_was_cut(&self, app: &AppId) {
        for life in self.lock().get_mut(app).into_iter().flatten() {
            life.log_from = 0;
        }
    }

    /// The apps that may be writing.
    pub fn apps(&self) -> Vec<AppId> {
        self.lock().keys().cloned().collect()
    }

    /// Stops every waiting task; the processes go on.
    pub fn abandon(&self) {
        for life in self.lock().values_mut().flatten() {
            if let Some(watcher) = life.watcher.take() {
                watcher.abort();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AppId, Vec<Life>>> {
        // Nothing that holds the lock leaves a life half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
