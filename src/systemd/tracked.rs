//! The units of this daemon's instances, and what has been told of each.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nbs_core::id::Run;
use nbs_core::name::AppId;
use tokio::sync::oneshot;

use super::snapshot::Snapshot;
use super::state::{Kind, News, Told, is_suspect, judge};

/// One start of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) invocation: String,
    /// Microseconds since 1970.
    pub(super) started: u64,
}

impl Life {
    pub(super) fn of(unit: &Snapshot) -> Self {
        Self { invocation: unit.invocation.clone(), started: unit.exec_started }
    }
}

/// A unit that is watched.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) run: Run,
    pub(super) seen: Snapshot,
    pub(super) told: Told,
    pub(super) kind: Kind,
    /// Pause before an automatic restart.
    pub(super) delay: Duration,
    /// Whether its last lines are wanted though its stop was asked for.
    pub(super) keep_log: bool,
    /// Who waits for its first process.
    pub(super) started: Option<oneshot::Sender<()>>,
    /// What is to be told, with the start that it is about.
    news: VecDeque<(News, Life)>,
    /// Whether a task tells it.
    telling: bool,
}

impl Tracked {
    pub(super) fn new(run: Run, seen: Snapshot, told: Told, notify: bool, delay: Duration) -> Self {
        let kind = Kind { notify, stopping: false, settled: false };
        Self { run, seen, told, kind, delay, keep_log: false, started: None, news: VecDeque::new(), telling: false }
    }

    /// `before`: the start that was seen until now.
    fn judge(&mut self, before: &Life) {
        let progress = self.progress();
        let (news, told) = judge(self.told, &self.seen, self.kind);
        self.told = told;
        for news in news.into_iter().chain(progress) {
            // What is told of an end that nobody saw is about the start before.
            let life = if let News::Restarted { .. } = news { before.clone() } else { Life::of(&self.seen) };
            self.news.push_back((news, life));
        }
    }

    fn progress(&self) -> Option<News> {
        let waits = self.kind.notify && matches!(self.told, Told::Alive { ready: false, .. });
        (waits && !self.seen.status_text.is_empty()).then(|| News::Progress(self.seen.status_text.clone()))
    }
}

/// What is to be done about what was seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ToDo {
    /// There is something to tell, and nobody tells it yet.
    pub(super) tell: bool,
    /// The unit is to be read.
    pub(super) read: bool,
}

/// All of them. Locked for moments only.
#[derive(Debug, Default)]
pub(super) struct Register(Mutex<HashMap<AppId, Tracked>>);

impl Register {
    fn lock(&self) -> MutexGuard<'_, HashMap<AppId, Tracked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a unit from now on.
    pub(super) fn watch(&self, app: &AppId, mut tracked: Tracked) {
        let mut all = self.lock();
        tracked.telling = all.get(app).is_some_and(|former| former.telling);
        all.insert(app.clone(), tracked);
    }

    /// Watches it no more, if it is still of that life.
    pub(super) fn forget(&self, app: &AppId, run: Run) {
        let mut all = self.lock();
        if all.get(app).is_some_and(|tracked| tracked.run == run) {
            all.remove(app);
        }
    }

    /// Which life of an app is watched.
    pub(super) fn run_of(&self, app: &AppId) -> Option<Run> {
        self.lock().get(app).map(|tracked| tracked.run)
    }

    /// Every watched app.
    pub(super) fn apps(&self) -> Vec<AppId> {
        self.lock().keys().cloned().collect()
    }

    /// Does something with a unit of that life.
    pub(super) fn with<T>(&self, app: &AppId, run: Run, then: impl FnOnce(&mut Tracked) -> T) -> Option<T> {
        self.lock().get_mut(app).filter(|tracked| tracked.run == run).map(then)
    }

    /// Takes up what was seen of a unit. `settled`: it was read as a whole, or is gone.
    pub(super) fn see(&self, app: &AppId, settled: bool, seen: impl FnOnce(&Snapshot) -> Snapshot) -> ToDo {
        let mut all = self.lock();
        let Some(tracked) = all.get_mut(app) else { return ToDo::default() };
        let before = Life::of(&tracked.seen);
        tracked.seen = seen(&tracked.seen);
        tracked.kind.settled = settled;
        let read = is_suspect(tracked.told, &tracked.seen, tracked.kind);
        tracked.judge(&before);
        let tell = !tracked.telling && !tracked.news.is_empty();
        tracked.telling |= tell;
        ToDo { tell, read }
    }

    /// The next thing to tell, or the end of telling.
    pub(super) fn next_news(&self, app: &AppId) -> Option<(Run, Duration, News, Life)> {
        let mut all = self.lock();
        let tracked = all.get_mut(app)?;
        match tracked.news.pop_front() {
            Some((news, life)) => Some((tracked.run, tracked.delay, news, life)),
            None => {
                tracked.telling = false;
                None
            }
        }
    }

    /// Whoever waits for the first process of a unit.
    pub(super) fn take_waiter(&self, app: &AppId, run: Run) -> Option<oneshot::Sender<()>> {
        self.with(app, run, |tracked| tracked.started.take()).flatten()
    }
}
