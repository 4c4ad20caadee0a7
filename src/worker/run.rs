//! The worker's loop: take what has come → step the core → commit what must be durable → act → tell the entry.
//!
//! Many inputs are taken in one turn, so that a burst shares one commit. A ledger that cannot be written (a full disk)
//! does not stop what keeps apps alive: its rows are kept and written as soon as they can be; only hooks, which may run
//! at most once, wait for it. Deliberately absent: decisions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nbs_core::effect::Effect;
use nbs_core::environment::{Environment, FoundLife, Input};
use nbs_core::id::Reign;
use nbs_core::limits;
use nbs_core::mirror::Mirrored;
use nbs_core::name::{AppId, EnvironmentName};
use nbs_core::observation::{Fact, HookFailure, Observation};
use nbs_core::order::Report;
use nbs_core::record::Change;
use nbs_core::time::Mono;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::ports::{Clock, Found, Known, News, Record, RecordError, Word};
use crate::worker::act::{Hands, known};
use crate::worker::{Inbox, RecipeSource};

/// Inputs taken in one turn; enough that 1,000 starts at once share a few commits, few enough that none waits long.
const TURN_MAX: usize = 256;
/// Pause between attempts to write a ledger that could not be written.
const RETRY: Duration = Duration::from_secs(1);

/// Everything the loop holds.
pub(super) struct Loop {
    pub(super) brain: Environment,
    pub(super) hands: Hands,
    pub(super) record: Arc<dyn Record>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) recipes: Arc<dyn RecipeSource>,
    pub(super) reports: mpsc::Sender<News>,
    pub(super) mirror: Option<mpsc::Sender<Mirrored>>,
    pub(super) environment: EnvironmentName,
    pub(super) inbox: Inbox,
    pub(super) unwritten: BTreeMap<AppId, Change>,
    pub(super) unwritten_reign: Option<Reign>,
    pub(super) unwritten_told: bool,
    pub(super) retry_at: Option<Mono>,
    /// When the entry is told again that the worker is there.
    pub(super) renew_at: Mono,
}

impl Loop {
    /// Finds what former daemons left, takes it up, and tells the entry. Before this returns nothing is started.
    pub(super) async fn recover(&mut self, same_boot: bool) {
        let expected = self.brain.expected_lives().into_iter().map(known).collect();
        let Found { alive, strays } = self.hands.adapters.adopt(expected).await;
        let life = |known: Known| FoundLife {
            app: known.app,
            run: known.run,
            identity: known.identity,
            adapter: known.adapter,
            port: known.port,
        };
        let (alive, strays): (Vec<_>, Vec<_>) =
            (alive.into_iter().map(life).collect(), strays.into_iter().map(life).collect());
        tracing::info!(adopted = alive.len(), strays = strays.len(), "looked for apps of an earlier daemon");
        let effects = self.brain.recover(self.clock.now(), alive, strays, same_boot);
        // The entry hears everything at once; the single reports in these effects would only say it again.
        let effects = effects.into_iter().filter(|effect| !matches!(effect, Effect::Report(Report::Instance(_))));
        self.carry_out(effects.collect()).await;
        self.tell(self.brain.hello()).await;
    }

    /// Runs until the daemon ends. Apps are left as they are.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let now = self.clock.now().mono;
            if now >= self.renew_at {
                self.renew_at = now.after(limits::LEASE_RENEW);
                self.tell(Report::Alive).await;
                self.show(&[]).await;
            }
            let wakes = [self.brain.next_deadline(), self.retry_at, Some(self.renew_at)];
            let pause = wakes.into_iter().flatten().min().map_or(limits::LEASE_RENEW, |at| at.since(now));
            let mut inputs = Vec::new();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(observation) = self.inbox.observations.recv() => inputs.push(Input::Observed(observation)),
                Some(word) = self.inbox.words.recv() => inputs.extend(self.hear(word, now).await),
                Some(word) = self.inbox.locals.recv() => inputs.extend(self.hear(word, now).await),
                Some((server, state)) = self.inbox.databases.recv() => inputs.push(Input::Database(server, state)),
                Some(()) = self.inbox.recipes.recv() => inputs.push(Input::Recipes(self.recipes.recipes())),
                Some(ping) = self.inbox.pings.recv() => {
                    // Who asked may have given up; the answer is that this line is reached.
                    let _ = ping.send(());
                    continue;
                }
                () = tokio::time::sleep(pause) => inputs.push(Input::Tick),
            }
            while inputs.len() < TURN_MAX {
                match self.inbox.observations.try_recv() {
                    Ok(observation) => inputs.push(Input::Observed(observation)),
                    Err(_) => break,
                }
            }
            while inputs.len() < TURN_MAX {
                match self.inbox.words.try_recv() {
                    Ok(word) => inputs.extend(self.hear(word, now).await),
                    Err(_) => break,
                }
            }
            let now = self.clock.now();
            let effects = inputs.into_iter().flat_map(|input| self.brain.step(now, input)).collect();
            self.carry_out(effects).await;
        }
        self.write(Vec::new()).await;
    }

    /// Commits first, then acts, then tells.
    async fn carry_out(&mut self, effects: Vec<Effect>) {
        let mut rows: BTreeMap<AppId, Change> = BTreeMap::new();
        for effect in &effects {
            match effect {
                Effect::Remember(row) => _ = rows.insert(row.app.clone(), Change::Instance(row.clone())),
                Effect::Forget(app) => _ = rows.insert(app.clone(), Change::ForgetInstance(app.clone())),
                Effect::Follow(reign) => {
                    tracing::info!(entry = %reign.entry, epoch = %reign.epoch, "follows an entry");
                    self.unwritten_reign = Some(reign.clone());
                }
                _ => {}
            }
        }
        let touched: Vec<AppId> = rows.keys().cloned().collect();
        let written = self.write(rows.into_iter().collect()).await;
        self.show(&touched).await;
        let mut latest: BTreeMap<AppId, Report> = BTreeMap::new();
        for effect in effects {
            match effect {
                Effect::Remember(_) | Effect::Forget(_) | Effect::Follow(_) => {}
                Effect::Hook { launch, hook, .. } if !written => {
                    let text = "was not begun: the ledger cannot be written (is the disk full?)".to_string();
                    let failure = HookFailure { text, last_log: Vec::new() };
                    let fact = Fact::HookEnded { hook, result: Err(failure) };
                    self.hands.observe(Observation { app: launch.app.clone(), run: launch.run, fact });
                }
                // Of several reports on one app in one turn only the last one counts.
                Effect::Report(Report::Instance(report)) => {
                    latest.insert(report.app.clone(), Report::Instance(report));
                }
                Effect::Report(report) => {
                    if let Report::Stray { app, run, pid, .. } = &report {
                        tracing::warn!(app = %app, run = %run, pid, "something claims to be an app that the ledger does not know; it is left alone");
                    }
                    if let Report::Removed { app, .. } | Report::Refused { app, .. } = &report
                        && let Some(earlier) = latest.remove(app)
                    {
                        self.tell(earlier).await;
                    }
                    self.tell(report).await;
                }
                other => self.hands.act(other),
            }
        }
        for report in latest.into_values() {
            self.tell(report).await;
        }
    }

    /// Writes rows, and those that could not be written before. Whether all are written now.
    async fn write(&mut self, rows: Vec<(AppId, Change)>) -> bool {
        self.unwritten.extend(rows);
        if self.unwritten.is_empty() && self.unwritten_reign.is_none() {
            return true;
        }
        let reign = self.unwritten_reign.iter().cloned().map(Change::Follow);
        let changes = reign.chain(self.unwritten.values().cloned()).collect();
        match self.record.commit(changes).await {
            Ok(()) => {
                if std::mem::take(&mut self.unwritten_told) {
                    tracing::info!("the ledger can be written again");
                }
                self.unwritten.clear();
                self.unwritten_reign = None;
                self.retry_at = None;
                true
            }
            Err(error) => {
                self.complain(&error);
                self.retry_at = Some(self.clock.now().mono.after(RETRY));
                false
            }
        }
    }

    fn complain(&mut self, error: &RecordError) {
        if !std::mem::replace(&mut self.unwritten_told, true) {
            tracing::error!(%error, rows = self.unwritten.len(), "the ledger cannot be written; apps are kept running, writing is tried again");
        }
    }

    /// Shows apps as they are now, and that the environment is there.
    async fn show(&self, apps: &[AppId]) {
        let Some(mirror) = &self.mirror else { return };
        let now = self.clock.now();
        for app in apps {
            let view = self.brain.app_view(now, app).map(Box::new);
            // The mirror ends only together with the worker.
            let _ = mirror.send(Mirrored::App(app.clone(), view)).await;
        }
        let _ = mirror.send(Mirrored::Environment(Box::new(self.brain.own_view(now)))).await;
    }

    async fn tell(&self, report: Report) {
        // The entry of a standalone daemon ends only together with the worker.
        let _ = self.reports.send(News::Report(self.environment.clone(), report)).await;
    }

    /// What a word means to the core; telling everything again is done at once.
    async fn hear(&self, word: Word, now: Mono) -> Option<Input> {
        match word {
            Word::Order(slip) => Some(Input::Order(slip.order, now.since(slip.sent))),
            Word::Intent(order) => Some(Input::Intent(order)),
            Word::Local { app, action, actor } => Some(Input::Local { app, action, actor }),
            Word::Tell => {
                self.tell(self.brain.hello()).await;
                None
            }
        }
    }
}
