//! One app on this host: (phase, event, now) → phase and effects.
//!
//! ```text
//!              order with a turn                              readiness
//!  Stopped ──────────────▶ Preparing ─▶ Spawning ─▶ Starting ───────────▶ Running
//!     ▲  ▲                  │ hook failed   │          │ deadline,           │ exit, not alive
//!     │  │                  ▼               ▼          ▼ exit                ▼
//!     │  └────────────── Failed ◀────── (permanent) ◀──┴──── restart.rs ─────┤
//!     │       order: stop   ▲ gave up                        │ delay         │
//!     │                     └──────────────────────────── Backoff ◀──────────┘
//!     └───────────── Stopping ◀── order: stop, restart, remove; start deadline; not alive
//! ```
//! Between `Preparing` and `Spawning`, a start with an upgrade is `Upgrading` (`upgrade.rs`).
//!
//! Every life (`Run`) has one spawn; a fact about another life than the present one is ignored. What must survive is in
//! `row`, remembered before it is acted upon. Deliberately absent: turns and slots across apps (`environment`), why an
//! order was given (`fleet`).

mod boot;
mod database;
mod end;
mod local;
mod member;
mod repair;
mod recover;
mod start;
mod stray;
mod upgrade;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::effect::Effect;
use crate::environment::{Book, Databases};
use crate::id::{Epoch, Generation, Run, Seq};
use crate::launch::{Address, Inputs, Launch, Places};
use crate::name::{AppId, RuntimeName};
use crate::observation::Fact;
use crate::order::{InstanceReport, Report, RunGoal, Select};
use crate::phase::Phase;
use crate::port_book::PortBook;
use crate::reason::{ExitOutcome, Reason, ReasonCode};
use crate::recipe::{Adapter, Check, Recipe};
use crate::record::{LedgerGoal, LedgerRow, UpgradeNote};
use crate::restart::RestartHistory;
use crate::shared::{Listed, RunningHost};
use crate::time::{Mono, Now, Wall};

/// What a step of an instance may use of its surroundings.
pub(crate) struct Context<'a> {
    pub(crate) now: Now,
    pub(crate) book: &'a Book,
    /// Hosts that run.
    pub(crate) hosts: &'a BTreeMap<RuntimeName, RunningHost>,
    pub(crate) places: &'a Places,
    /// What runs apps whose recipe does not say.
    pub(crate) adapter: Adapter,
    /// Whether the worker brings back by itself what a reboot ended.
    pub(crate) autonomous: bool,
    pub(crate) databases: &'a Databases,
    pub(crate) ports: &'a mut PortBook,
    pub(crate) effects: &'a mut Vec<Effect>,
}

impl Context<'_> {
    /// The recipe that a goal to run is for.
    fn recipe_of(&self, goal: &LedgerGoal) -> Option<Arc<Recipe>> {
        match goal {
            LedgerGoal::Run(goal) => self.book.recipe(&goal.spec, goal.spec.hosting).cloned(),
            LedgerGoal::Stop | LedgerGoal::Remove { .. } => None,
        }
    }
}

/// What follows once everything of the present life is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Then {
    /// Nothing: it should be stopped, or removed.
    Rest,
    /// A fresh start, asked for by an order.
    Start,
    /// The restart policy: the stop was our own answer to a failure.
    Crash(Reason),
}

/// An end that the adapter told.
struct End {
    outcome: ExitOutcome,
    cause: Option<Reason>,
    last_log: Vec<String>,
    leftovers: bool,
}

/// What an app left is cleaned up before it is forgotten, so that a crash in between does not forget the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cleaning {
    NotBegun,
    /// What is on a database server goes first: without the rest it could not be told whose it is.
    Dropping,
    Dropped,
    Begun,
    Done,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stop {
    step: usize,
    killing: bool,
    then: Then,
}

/// One app on this host.
#[derive(Debug, Clone)]
pub struct Instance {
    /// What survives.
    pub(crate) row: LedgerRow,
    recipe: Option<Arc<Recipe>>,
    launch: Option<Arc<Launch>>,
    history: RestartHistory,
    began: Mono,
    due: Option<Mono>,
    last_moment: Mono,
    stop: Option<Stop>,
    port_attempts: u32,
    progress: Option<String>,
    saw: Option<String>,
    failing_since: Option<Mono>,
    alive_failures: u32,
    version: Option<String>,
    notes: Vec<String>,
    /// It was asked which version is on disk, and there is no answer yet.
    asking: bool,
    next_attempt: Option<Wall>,
    /// Its end was told, and the adapter starts it again by itself: there is nothing to spawn.
    repairing: bool,
    /// The life that its database was prepared for.
    prepared: Option<Run>,
    /// It waits in back-off for its database server.
    awaits_database: bool,
    /// In a sentence, that its database server is silent.
    silence: Option<String>,
    /// Lives whose leftovers must be gone before the next spawn, each with who ends it.
    sweeping: BTreeMap<Run, Adapter>,
    /// It cannot go on before its host runs.
    awaits_host: bool,
    /// How far the cleaning up after a removal is.
    cleaning: Cleaning,
    changed: bool,
}

impl Instance {
    /// An app that this host hears of for the first time.
    pub(crate) fn new(app: AppId, now: Now) -> Self {
        Self::from_row(LedgerRow {
            app,
            epoch: Epoch(0),
            generation: Generation(0),
            intent_seq: Seq(0),
            goal: LedgerGoal::Stop,
            run: Run::default(),
            run_generation: Generation(0),
            adapter: Adapter::Process,
            made_in: None,
            hooks_done: 0,
            hook_begun: false,
            in_turn: false,
            database: None,
            port: None,
            identity: None,
            phase: Phase::Stopped,
            since: now.wall,
            reason: None,
            restarts: 0,
            last_log: Vec::new(),
            turn: 0,
            local: None,
            shelved: None,
            upgrade: UpgradeNote::default(),
        })
    }

    pub(crate) fn from_row(row: LedgerRow) -> Self {
        Self {
            row,
            recipe: None,
            launch: None,
            history: RestartHistory::default(),
            began: Mono::default(),
            due: None,
            last_moment: Mono::default(),
            stop: None,
            port_attempts: 0,
            progress: None,
            saw: None,
            failing_since: None,
            alive_failures: 0,
            version: None,
            notes: Vec::new(),
            asking: false,
            next_attempt: None,
            repairing: false,
            prepared: None,
            awaits_database: false,
            silence: None,
            sweeping: BTreeMap::new(),
            awaits_host: false,
            cleaning: Cleaning::NotBegun,
            changed: false,
        }
    }

    /// When it wants to be stepped next.
    pub(crate) fn due(&self) -> Option<Mono> {
        self.due
    }

    /// Whether its start is one that the entry gave a turn for.
    pub(crate) fn in_turn(&self) -> bool {
        self.row.in_turn
    }

    /// Whether it changed since the last call.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The start that is wanted, if the goal is to run.
    pub(crate) fn wanted_start(&self) -> Option<Seq> {
        match &self.row.goal {
            LedgerGoal::Run(goal) => Some(goal.start_seq),
            LedgerGoal::Stop | LedgerGoal::Remove { .. } => None,
        }
    }

    /// The last start that was begun, is about to be, or was put aside by a local stop. One that a reboot cut off before
    /// its life began is none of them.
    pub(crate) fn begun(&self) -> Seq {
        let at_rest = matches!(self.row.phase, Phase::Stopped | Phase::Failed);
        let wanted = self.wanted_start().filter(|_| !at_rest).max(self.shelved_start());
        wanted.unwrap_or_default().max(self.row.run.seq)
    }

    /// Whether it was removed and nothing of it is left.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_to_be_cleaned() && self.cleaning == Cleaning::Done
    }

    /// The cleaning up after a removal, when its time has come and it was not yet begun.
    pub(crate) fn clean_up(&mut self, places: &Places) -> Option<Effect> {
        let LedgerGoal::Remove { purge_data, drop } = &self.row.goal else { return None };
        let purge_data = *purge_data;
        if !self.is_to_be_cleaned() {
            return None;
        }
        match self.cleaning {
            Cleaning::NotBegun if drop.is_some() => self.drop_database(places),
            Cleaning::NotBegun | Cleaning::Dropped => {
                self.cleaning = Cleaning::Begun;
                Some(Effect::CleanUp { app: self.row.app.clone(), run: self.row.run, purge_data })
            }
            Cleaning::Dropping | Cleaning::Begun | Cleaning::Done => None,
        }
    }

    fn is_to_be_cleaned(&self) -> bool {
        matches!(self.row.goal, LedgerGoal::Remove { .. }) && self.row.phase == Phase::Stopped
    }

    /// Takes up a goal. `start`: whether it is a new start (the caller has checked turn and slot).
    pub(crate) fn take_goal(&mut self, ctx: &mut Context<'_>, goal: LedgerGoal, start: bool) {
        let wants_run = matches!(goal, LedgerGoal::Run(_));
        let Some(goal) = self.shelve(goal, start) else { return };
        let former = std::mem::replace(&mut self.row.goal, goal);
        self.row.local = None;
        match former {
            _ if wants_run => self.row.shelved = None,
            LedgerGoal::Run(goal) => self.row.shelved = Some(goal),
            LedgerGoal::Stop | LedgerGoal::Remove { .. } => {}
        }
        self.changed = true;
        if wants_run && start {
            self.start_or_restart(ctx);
        } else if !wants_run {
            self.come_to_rest(ctx);
        } else if self.awaits_entry() {
            self.spawn(ctx);
        }
    }

    fn start_or_restart(&mut self, ctx: &mut Context<'_>) {
        self.row.in_turn = true;
        match self.row.phase {
            Phase::Backoff if self.repairing => self.begin_stop(ctx, Then::Start),
            Phase::Stopped | Phase::Failed | Phase::Backoff => self.begin(ctx),
            Phase::Stopping => self.stop_then(Then::Start),
            Phase::Upgrading if self.is_in_step() => {} // the new start follows once the step has ended
            Phase::Upgrading => self.begin(ctx),
            Phase::Preparing | Phase::Spawning | Phase::Starting | Phase::Running => {
                self.begin_stop(ctx, Then::Start);
            }
        }
    }

    fn come_to_rest(&mut self, ctx: &mut Context<'_>) {
        self.row.in_turn = false;
        match self.row.phase {
            Phase::Backoff if self.repairing => self.begin_stop(ctx, Then::Rest),
            Phase::Stopped | Phase::Failed | Phase::Backoff if self.sweeping.is_empty() => {
                // What a reboot ended is told to stay so; that is no answer to why it is stopped.
                let stopped = self.row.phase == Phase::Stopped;
                let kept = self.row.reason.take().filter(|reason| stopped && reason.code == ReasonCode::Rebooted);
                self.rest(ctx, kept);
            }
            // Leftovers of the last life must be gone before "stopped" is true.
            Phase::Stopped | Phase::Failed | Phase::Backoff => {
                self.enter(ctx, Phase::Stopping);
                self.stop = Some(Stop { step: 0, killing: true, then: Then::Rest });
                self.sweep_again(ctx);
            }
            Phase::Stopping => self.stop_then(Then::Rest),
            Phase::Preparing | Phase::Upgrading | Phase::Spawning | Phase::Starting | Phase::Running => {
                self.begin_stop(ctx, Then::Rest);
            }
        }
    }

    /// Takes note of a fact. Facts of another life than the present one are ignored.
    pub(crate) fn observe(&mut self, ctx: &mut Context<'_>, run: Run, fact: Fact) {
        if fact == Fact::TreeGone && self.sweeping.remove(&run).is_some() {
            if self.sweeping.is_empty() {
                self.swept(ctx);
            }
            return;
        }
        if run != self.row.run {
            if fact == Fact::Listed(Listed::Running) {
                self.stop_former_in_host(ctx, run);
            }
            return;
        }
        match fact {
            Fact::Listed(_) if self.row.adapter != Adapter::Shared => {}
            Fact::Listed(listed) => self.listed(ctx, listed),
            Fact::NotStopped(why) => self.not_stopped(ctx, why),
            Fact::Spawned { identity, notes } => self.spawned(ctx, identity, notes),
            Fact::SpawnFailed(failure) => self.spawn_failed(ctx, failure),
            Fact::Exited { outcome, cause, last_log, leftovers } => {
                self.exited(ctx, End { outcome, cause, last_log, leftovers })
            }
            Fact::Restarting { reason, last_log, delay } => self.restarting(ctx, reason, last_log, delay),
            Fact::Restarted { identity, restarts, reason, last_log } => {
                self.restarted(ctx, identity, restarts, reason, last_log);
            }
            Fact::TreeGone => {
                if self.row.phase == Phase::Stopping && self.is_killing() {
                    self.finish_stop(ctx);
                }
            }
            Fact::Readiness(answer) => self.readiness(ctx, answer),
            Fact::Liveness(failure) => self.liveness(ctx, failure),
            Fact::Version(version) => {
                self.version = Some(version);
                self.changed = true;
            }
            Fact::CleanedUp => {
                self.cleaning = Cleaning::Done;
                self.changed = true;
            }
            Fact::DatabaseReady(made) => self.database_ready(ctx, made),
            Fact::DatabaseFailed(failure) => self.database_failed(ctx, failure),
            Fact::DatabaseDropped(result) => self.database_dropped(ctx, result),
            Fact::HookEnded { hook, result } => self.hook_ended(ctx, hook, result),
            Fact::Installed(answer) => self.installed(ctx, answer),
            Fact::RestartAsked => self.restart_asked(ctx),
        }
    }

    /// Its deadline has come.
    pub(crate) fn deadline(&mut self, ctx: &mut Context<'_>) {
        self.due = None;
        match self.row.phase {
            Phase::Starting => self.start_deadline(ctx),
            Phase::Backoff if self.awaits_database => self.await_slot(),
            Phase::Backoff if self.sweeping.is_empty() => self.spawn(ctx),
            Phase::Stopping => {
                if let Some(stop) = &mut self.stop {
                    stop.step += 1;
                }
                self.stop_step(ctx);
            }
            // The database could not be dropped, and that is tried again.
            Phase::Stopped => self.changed = true,
            _ => {}
        }
    }

    /// What the entry is told.
    pub(crate) fn report(&self) -> Report {
        let row = &self.row;
        let lives = matches!(row.phase, Phase::Starting | Phase::Running | Phase::Stopping);
        let launched = self.launch.as_ref().and_then(|launch| launch.address.clone());
        // An adopted app whose recipe is gone is still reached by the port it was given.
        let own_port = row.port.map(Address::Port).filter(|_| row.adapter != Adapter::Shared);
        let address = launched.or(own_port).filter(|_| lives);
        Report::Instance(Box::new(InstanceReport {
            app: row.app.clone(),
            intent_seq: row.intent_seq,
            run: row.run,
            generation: row.run_generation,
            phase: row.phase,
            in_turn: self.row.in_turn,
            reason: row.reason.clone(),
            since: row.since,
            pid: row.identity.as_ref().map(|identity| identity.pid).filter(|pid| *pid != 0),
            adapter: row.adapter,
            address,
            strip_prefix: self.recipe.as_ref().is_none_or(|recipe| recipe.strip_prefix),
            select: launched_select(self.launch.as_deref(), self.recipe.as_deref()),
            restarts: row.restarts,
            next_attempt: self.next_attempt,
            version: self.version.clone(),
            progress: self.progress.clone(),
            last_log: row.last_log.clone(),
            notes: self.notes.iter().cloned().chain(self.database_notes()).collect(),
            local: row.local.clone(),
            removing: matches!(row.goal, LedgerGoal::Remove { .. }),
            upgrade: self.upgrade_report(),
        }))
    }
}

pub(crate) fn inputs<'a>(row: &'a LedgerRow, goal: &'a RunGoal, recipe: &'a Recipe, places: &'a Places) -> Inputs<'a> {
    Inputs {
        recipe,
        spec: &goal.spec,
        generation: row.generation,
        jwt: &goal.jwt,
        db_secret: &goal.db_secret,
        database: row.database,
        run: row.run,
        port: row.port,
        places,
        adapter: row.adapter,
        host: None,
        upgrade: goal.upgrade_seq == row.run.seq && row.run.attempt == 0,
    }
}

/// How the gateway names it to its host.
fn launched_select(launch: Option<&Launch>, recipe: Option<&Recipe>) -> Option<Select> {
    launch.filter(|launch| launch.member.is_some())?;
    recipe?.shared.as_ref()?.select.clone()
}

fn failed_if_persists(recipe: &Recipe) -> Option<Duration> {
    match &recipe.ready.check {
        Check::Http(http) => http.failed_if.as_ref().map(|failed| failed.persists),
        _ => None,
    }
}
