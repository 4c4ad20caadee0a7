//! From signals to facts: one task takes what the bus brings; what is to be told of a unit is told in order, by a task
//! that lives as long as there is something to tell.

use std::sync::Arc;
use std::time::Duration;

use nbs_core::id::Run;
use nbs_core::limits::LAST_LOG_LINES;
use nbs_core::name::AppId;
use nbs_core::observation::{Answer, Fact, Identity};
use nbs_core::reason::Reason;
use nbs_core::time::Wall;
use nbs_core::unit::{app_of_unit, unit_name};
use tokio::sync::mpsc;

use super::Inner;
use super::bus::Event;
use super::each::each;
use super::snapshot::Snapshot;
use super::state::{News, UNLOADED, reason_of};
use super::tracked::Life;
use crate::ports::UnitLife;

/// Pause before a unit is read again that could not be.
const RETRY: Duration = Duration::from_secs(1);
/// Units read at once after a reconnect.
const READS_AT_ONCE: usize = 16;

/// Takes events until the adapter is dropped.
pub(super) async fn run(inner: Arc<Inner>, mut events: mpsc::Receiver<Event>) {
    while let Some(event) = events.recv().await {
        match event {
            Event::Connected => resync(&inner).await,
            Event::Disconnected => {}
            Event::Changed { unit, changed } => {
                if let Some(app) = app_of_unit(&unit) {
                    inner.see(&app, false, |seen| seen.with(changed));
                }
            }
            // A systemd that reloads or executes itself anew says this of every unit, and then has them all again.
            Event::Gone { unit } => {
                if let Some(app) = app_of_unit(&unit) {
                    let inner = inner.clone();
                    tokio::spawn(async move { reread(&inner, &app).await });
                }
            }
        }
    }
}

/// What a unit is that is not loaded any more.
pub(super) fn gone(seen: &Snapshot) -> Snapshot {
    Snapshot { active: "inactive".into(), sub: UNLOADED.into(), main_pid: 0, ..seen.clone() }
}

/// Signals may have been missed: every unit is read again. One that cannot be read does not hold up the events of all
/// others; it is tried again beside them.
async fn resync(inner: &Arc<Inner>) {
    each(inner.units.apps(), READS_AT_ONCE, |app| {
        let inner = inner.clone();
        async move {
            if let Some(run) = inner.units.run_of(&app)
                && !read_once(&inner, &app, run).await
            {
                tokio::spawn(async move { reread(&inner, &app).await });
            }
        }
    })
    .await;
}

/// Looks at a unit as a whole; again and again while systemd does not answer and the unit is watched.
pub(super) async fn reread(inner: &Arc<Inner>, app: &AppId) {
    let Some(run) = inner.units.run_of(app) else { return };
    while !read_once(inner, app, run).await {
        tokio::time::sleep(RETRY).await;
    }
}

/// Looks at the unit of a life as a whole. Returns whether that is settled: it was read, or is watched no more.
async fn read_once(inner: &Arc<Inner>, app: &AppId, run: Run) -> bool {
    let read = inner.bus.read(&unit_name(app)).await;
    // What was read is about the life that was watched when it was asked for.
    if inner.units.run_of(app) != Some(run) {
        return true;
    }
    match read {
        Ok(Some(unit)) if inner.is_ours(unit.marker.as_ref()) => inner.see(app, true, |_| unit),
        Ok(_) => inner.see(app, true, gone),
        Err(error) => {
            tracing::debug!(app = %app, error = %error.text, "a unit could not be read");
            return false;
        }
    }
    true
}

impl Inner {
    /// Takes up what was seen of an app's unit.
    pub(super) fn see(self: &Arc<Self>, app: &AppId, settled: bool, seen: impl FnOnce(&Snapshot) -> Snapshot) {
        let todo = self.units.see(app, settled, seen);
        if todo.tell {
            let (inner, app) = (self.clone(), app.clone());
            tokio::spawn(async move { inner.tell_news(&app).await });
        }
        if todo.read {
            let (inner, app) = (self.clone(), app.clone());
            tokio::spawn(async move { reread(&inner, &app).await });
        }
    }

    async fn tell_news(&self, app: &AppId) {
        while let Some((run, delay, news, life)) = self.units.next_news(app) {
            self.tell_one(app, run, delay, news, &life).await;
        }
    }

    async fn tell_one(&self, app: &AppId, run: Run, delay: Duration, news: News, life: &Life) {
        // Whatever it is, whoever waits for the first process has waited enough.
        if let Some(waiter) = self.units.take_waiter(app, run) {
            let _ = waiter.send(());
        }
        let fact = match news {
            News::Started => return,
            News::Ready => Fact::Readiness(Answer::Ready),
            News::Progress(text) => {
                let saw = "no READY=1 yet".into();
                Fact::Readiness(Answer::NotYet { saw, progress: Some(text), failed: false })
            }
            News::Restarting(reason) => {
                Fact::Restarting { reason, last_log: self.last_lines(&unit_name(app), life).await, delay }
            }
            News::Restarted { pid, restarts, reason } => {
                // An end that was told brought its lines along.
                let identity = self.restarted(app, run, pid).await;
                let (reason, last_log) = match reason {
                    Some(unseen) => self.unseen_end(app, life, &identity, unseen).await,
                    None => (None, Vec::new()),
                };
                Fact::Restarted { identity, restarts, reason, last_log }
            }
            News::Ended(outcome, cause) => {
                // Of an end that was asked for nobody wants the lines, and finding them takes longer than the stop.
                let asked = self.units.with(app, run, |tracked| tracked.kind.stopping && !tracked.keep_log);
                let asked = asked.unwrap_or_default();
                let last_log = if asked { Vec::new() } else { self.last_lines(&unit_name(app), life).await };
                Fact::Exited { outcome, cause, last_log, leftovers: true }
            }
        };
        self.tell(app, run, fact).await;
    }

    /// What systemd wrote down of an end that no signal told.
    async fn unseen_end(
        &self,
        app: &AppId,
        life: &Life,
        running: &Identity,
        unseen: Reason,
    ) -> (Option<Reason>, Vec<String>) {
        let (unit, running) = (unit_name(app), running.invocation.as_deref().unwrap_or_default());
        let exit = self.lines.last_exit(&unit, running).await;
        let known = exit.map(|exit| {
            let ended = Snapshot {
                result: exit.result,
                exec_code: if exit.by_signal { 2 } else { 1 },
                exec_status: exit.status,
                ..Snapshot::default()
            };
            reason_of(&ended, true)
        });
        (Some(known.unwrap_or(unseen)), self.last_lines(&unit, life).await)
    }

    /// A process that systemd started just now.
    async fn restarted(&self, app: &AppId, run: Run, pid: u32) -> Identity {
        let seen = self.units.with(app, run, |tracked| tracked.seen.invocation.clone());
        let invocation = match seen.filter(|invocation| !invocation.is_empty()) {
            Some(invocation) => Some(invocation),
            None => self.bus.invocation(&unit_name(app)).await.ok(),
        };
        self.identity(pid, invocation)
    }

    /// The last lines of one start.
    pub(super) async fn last_lines(&self, unit: &str, life: &Life) -> Vec<String> {
        if life.invocation.is_empty() {
            return Vec::new();
        }
        let since = (life.started > 0).then_some(Wall(life.started / 1000));
        let life = UnitLife { unit: unit.to_string(), invocation: life.invocation.clone(), since };
        self.lines.last_lines(&life, LAST_LOG_LINES).await
    }
}
