//! An app in a host: it waits for its host, ends with it, and is what the host lists it as.
//!
//! It has no process of its own. Its lives begin with a request to the host and end when the host's own list says so, or
//! with the host. What ends with the host uses up none of its attempts: that was no failure of the app. Deliberately
//! absent: when a host is started and stopped (`environment/host.rs`).

use std::collections::BTreeMap;

use crate::effect::Effect;
use crate::id::Run;
use crate::name::RuntimeName;
use crate::phase::Phase;
use crate::reason::{Reason, ReasonCode};
use crate::recipe::Adapter;
use crate::record::LedgerGoal;
use crate::shared::{Listed, RunningHost};
use crate::spec::{Hosting, Limits};

use super::{Cleaning, Context, Instance, Then, inputs};

impl Instance {
    /// The runtime whose host it runs in, is to run in, or has left something in.
    pub(crate) fn host_runtime(&self) -> Option<&RuntimeName> {
        match &self.row.goal {
            LedgerGoal::Run(goal) if goal.spec.hosting == Hosting::Shared => Some(&goal.spec.runtime),
            _ => self.row.made_in.as_ref(),
        }
    }

    /// Whether it cannot go on before its host runs.
    pub(crate) fn waits_for_host(&self) -> bool {
        self.awaits_host || self.cleans_in_host()
    }

    /// Whether its host must not be stopped now.
    pub(crate) fn needs_host(&self) -> bool {
        let wants_run = matches!(&self.row.goal, LedgerGoal::Run(goal) if goal.spec.hosting == Hosting::Shared);
        let lives_there = self.row.adapter == Adapter::Shared && self.row.run.seq.0 > 0;
        match self.row.phase {
            // What a host refuses to stop ends with it.
            Phase::Stopped | Phase::Failed => {
                self.is_to_be_cleaned() && self.cleaning != Cleaning::Done && self.row.made_in.is_some()
            }
            Phase::Preparing | Phase::Upgrading | Phase::Spawning | Phase::Backoff => wants_run,
            Phase::Starting | Phase::Running | Phase::Stopping => lives_there,
        }
    }

    /// Whether its removal is still to be told to its host.
    pub(crate) fn cleans_in_host(&self) -> bool {
        let due = matches!(self.cleaning, Cleaning::NotBegun | Cleaning::Dropped);
        self.is_to_be_cleaned() && due && self.row.made_in.is_some()
    }

    /// Goes on when its host runs.
    pub(super) fn wait_for_host(&mut self, ctx: &mut Context<'_>) {
        // In its turn it is starting, whatever it waits for; else it waits for its next attempt.
        let phase = if self.row.in_turn { Phase::Spawning } else { Phase::Backoff };
        self.enter(ctx, phase);
        self.awaits_host = true;
    }

    /// Its host runs.
    pub(crate) fn host_up(&mut self, ctx: &mut Context<'_>) {
        let lost_with_host = self.row.phase == Phase::Failed
            && matches!(self.row.goal, LedgerGoal::Run(_))
            && self.row.reason.as_ref().is_some_and(|reason| reason.code == ReasonCode::HostEnded);
        if self.awaits_host {
            self.spawn(ctx);
        } else if lost_with_host {
            self.row.run.attempt += 1;
            self.spawn(ctx);
        } else if self.cleans_in_host() {
            self.changed = true;
        }
    }

    /// Its host ended, or is being ended: nothing of it is left there.
    pub(crate) fn host_down(&mut self, ctx: &mut Context<'_>, why: &Reason) {
        if self.row.adapter != Adapter::Shared {
            return;
        }
        // What is on its way (a start, a stop) is answered by the adapter, which knows that the host is gone.
        match self.row.phase {
            Phase::Starting | Phase::Running => self.ended_with_host(ctx, why.clone()),
            // What it refused to stop is gone with it.
            Phase::Failed => self.sweep_again(ctx),
            _ => {}
        }
    }

    pub(super) fn ended_with_host(&mut self, ctx: &mut Context<'_>, why: Reason) {
        ctx.effects.push(Effect::Unwatch(self.row.app.clone()));
        self.row.in_turn = false;
        self.row.identity = None;
        self.row.run.attempt += 1;
        self.row.restarts += 1;
        self.row.reason = Some(why);
        self.row.last_log.clear();
        self.spawn(ctx);
    }

    /// Its host gave up: what waits for it has failed, and comes back when the host runs again.
    pub(crate) fn host_failed(&mut self, ctx: &mut Context<'_>, why: &Reason) {
        if self.awaits_host {
            self.fail(ctx, why.clone());
        }
    }

    /// What its host says of it.
    pub(super) fn listed(&mut self, ctx: &mut Context<'_>, listed: Listed) {
        let (phase, host) = (self.row.phase, self.host_name());
        match (phase, listed) {
            (Phase::Running, Listed::Stopped) => {
                let text = format!("{host} lists it as stopped");
                self.begin_stop(ctx, Then::Crash(Reason::new(ReasonCode::NotInHost, text)));
            }
            (Phase::Running | Phase::Starting, Listed::Failed(words)) => {
                let words = words.map(|words| format!(": {words}")).unwrap_or_default();
                let text = format!("{host} lists it as failed{words}");
                self.begin_stop(ctx, Then::Crash(Reason::new(ReasonCode::NotInHost, text)));
            }
            // Whoever woke it, it is to be stopped.
            (Phase::Stopped | Phase::Failed | Phase::Backoff, Listed::Running) => {
                self.sweeping.insert(self.row.run, Adapter::Shared);
                self.sweep_again(ctx);
            }
            _ => {}
        }
    }

    /// A host lists a life of it as running that is not the present one: it has a process of its own by now, or its next
    /// start waits for the end of that life, which the host refused.
    pub(super) fn stop_former_in_host(&mut self, ctx: &mut Context<'_>, run: Run) {
        match self.row.adapter {
            Adapter::Shared => self.sweep_again(ctx),
            Adapter::Process | Adapter::Systemd => {
                ctx.effects.push(Effect::KillTree { app: self.row.app.clone(), run, adapter: Adapter::Shared });
            }
        }
    }

    /// Asks once more for the end of what a host was to stop. Asking twice does no harm.
    pub(super) fn sweep_again(&mut self, ctx: &mut Context<'_>) {
        let in_host = self.sweeping.iter().filter(|(_, adapter)| **adapter == Adapter::Shared);
        for (run, adapter) in in_host {
            ctx.effects.push(Effect::KillTree { app: self.row.app.clone(), run: *run, adapter: *adapter });
        }
    }

    /// Its host did not stop it. It is asked again whenever the host lists it as running, and before a next start.
    pub(super) fn not_stopped(&mut self, ctx: &mut Context<'_>, why: Reason) {
        if self.row.phase == Phase::Stopping {
            self.sweeping.insert(self.row.run, Adapter::Shared);
            self.stop = None;
            self.fail(ctx, why);
        }
    }

    /// What its former host refused to stop is stopped after all.
    pub(super) fn stopped_after_all(&mut self, ctx: &mut Context<'_>) {
        if self.row.phase == Phase::Failed && self.refused_by_host() && !matches!(self.row.goal, LedgerGoal::Run(_)) {
            self.rest(ctx, None);
        }
    }

    pub(super) fn refused_by_host(&self) -> bool {
        self.row.adapter == Adapter::Shared
            && self.row.reason.as_ref().is_some_and(|reason| reason.code == ReasonCode::HostRefused)
    }

    fn host_name(&self) -> String {
        let host = self.launch.as_ref().and_then(|launch| launch.member.as_ref()).map(|plan| plan.host.to_string());
        host.unwrap_or_else(|| "its host".into())
    }

    /// What the adapter must know of it to look after it: after a restart of the daemon.
    pub(crate) fn introduce(&mut self, ctx: &mut Context<'_>, runs: bool) {
        let goal = match &self.row.goal {
            LedgerGoal::Run(goal) => goal,
            LedgerGoal::Stop | LedgerGoal::Remove { .. } => match &self.row.shelved {
                Some(goal) => goal,
                None => return,
            },
        };
        let Some(recipe) = self.row.made_in.as_ref().and_then(|runtime| ctx.book.member(runtime).cloned()) else {
            return;
        };
        let Some(shared) = &recipe.shared else { return };
        // Without a value for a placeholder there is nothing to ask; the next start says which.
        if let Ok(plan) = inputs(&self.row, goal, &recipe, ctx.places).member_plan(shared) {
            let run = if self.row.adapter == Adapter::Shared { self.row.run } else { Run::default() };
            let app = self.row.app.clone();
            ctx.effects.push(Effect::Member { app, run, plan: plan.into(), runs });
        }
        if !runs && self.row.adapter == Adapter::Shared && ctx.hosts.contains_key(&recipe.name) {
            // No mark on a process tells of a life that was begun, or of one that was not quite ended.
            self.sweep(ctx, self.row.run, Adapter::Shared);
        }
    }

    /// Its process, if it is that of its host's present life.
    pub(crate) fn lives_on(&self, hosts: &BTreeMap<RuntimeName, RunningHost>) -> bool {
        let host = self.row.made_in.as_ref().and_then(|runtime| hosts.get(runtime));
        host.is_some_and(|host| self.row.identity.as_ref() == Some(&host.identity))
    }

    /// What its process is now, as those in it are told; none unless it is a host that runs.
    pub(crate) fn running_host(&self) -> Option<RunningHost> {
        let (identity, launch) = (self.row.identity.as_ref()?, self.launch.as_ref()?);
        let address = launch.address.clone().filter(|_| self.row.phase == Phase::Running)?;
        Some(RunningHost { host: self.row.app.clone(), run: self.row.run, identity: identity.clone(), address })
    }

    /// What it says of its progress.
    pub(crate) fn progress(&self) -> Option<&str> {
        self.progress.as_deref()
    }

    /// What is asked for and cannot be had in a process that is shared.
    pub(super) fn note_limits(&mut self) {
        if let LedgerGoal::Run(goal) = &self.row.goal
            && goal.spec.limits != Limits::default()
        {
            self.notes
                .push("limits are not enforced: it shares the process of its host, which has limits of its own".into());
        }
    }
}

/// What only a host is told.
impl Instance {
    /// Takes up a goal that no entry ordered. It takes no turn.
    pub(crate) fn take_goal_of_host(&mut self, ctx: &mut Context<'_>, goal: LedgerGoal) {
        self.take_goal(ctx, goal, true);
        self.row.in_turn = false;
    }

    /// The same for a process that was found without its ledger.
    pub(crate) fn take_up_host(&mut self, ctx: &mut Context<'_>, goal: LedgerGoal) {
        self.take_up(ctx, goal);
        self.row.in_turn = false;
    }

    /// What its host keeps of a removed app stays there.
    pub(crate) fn leave_host(&mut self) {
        if self.cleans_in_host() {
            self.row.made_in = None;
            self.changed = true;
        }
    }
}
