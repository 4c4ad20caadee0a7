//! After a restart of the daemon: what the ledger remembers meets what was found.

use std::time::Duration;

use crate::effect::Effect;
use crate::id::Run;
use crate::observation::Identity;
use crate::phase::Phase;
use crate::reason::{ExitOutcome, Reason, ReasonCode};
use crate::recipe::Adapter;
use crate::record::LedgerGoal;
use crate::shared::is_host;

use super::{Context, Instance, Stop, Then};

impl Instance {
    /// Goes on from the ledger. `alive`: its process, if it was found. `same_boot`: whether processes could survive.
    pub(crate) fn recover(&mut self, ctx: &mut Context<'_>, alive: Option<Identity>, same_boot: bool) {
        self.recipe = ctx.recipe_of(&self.row.goal);
        self.changed = true;
        let was = self.row.phase;
        match alive {
            Some(identity) => {
                // Nobody is sent into a process that was started again meanwhile before it is ready.
                let other = was == Phase::Running && self.row.identity.as_ref() != Some(&identity);
                let was = if other && is_host(&self.row.app) { Phase::Starting } else { was };
                self.row.identity = Some(identity);
                self.began = ctx.now.mono;
                self.adopt(ctx, was);
            }
            None if !same_boot => self.recover_after_boot(ctx, was),
            None => self.recover_without_process(ctx, was),
        }
    }

    pub(super) fn adopt(&mut self, ctx: &mut Context<'_>, was: Phase) {
        // The launch is derived anew for probes; the port is the one it was started with.
        let launched = self.make_launch(ctx, self.row.adapter).is_ok();
        let LedgerGoal::Run(goal) = &self.row.goal else {
            self.row.phase = Phase::Running;
            return self.begin_stop(ctx, Then::Rest);
        };
        if goal.start_seq > self.row.run.seq {
            self.row.phase = Phase::Running;
            self.row.in_turn = true;
            return self.begin_stop(ctx, Then::Start);
        }
        match was {
            Phase::Stopping if self.restarts_locally() => {
                self.row.phase = Phase::Running;
                self.begin_stop(ctx, Then::Start);
            }
            Phase::Stopping => {
                let kept = self.row.reason.clone();
                let text = "was being stopped when the daemon ended";
                let reason = kept.unwrap_or_else(|| Reason::new(ReasonCode::ExitUnknown, text));
                self.begin_stop(ctx, Then::Crash(reason));
            }
            Phase::Spawning | Phase::Starting | Phase::Backoff if launched => {
                self.wait_for_ready(ctx, true);
            }
            _ => {
                self.row.phase = Phase::Running;
                self.watch_running(ctx);
            }
        }
    }

    pub(super) fn recover_without_process(&mut self, ctx: &mut Context<'_>, was: Phase) {
        let wants_run = matches!(self.row.goal, LedgerGoal::Run(_));
        match was {
            Phase::Preparing | Phase::Upgrading if self.row.hook_begun => self.hook_interrupted(ctx),
            Phase::Failed | Phase::Stopped => {}
            // Whatever is left of that life goes first; then what was to follow follows.
            Phase::Stopping => {
                let then = match self.wanted_start() {
                    None => Then::Rest,
                    Some(start) if start > self.row.run.seq => Then::Start,
                    Some(_) if self.restarts_locally() => Then::Start,
                    Some(_) => Then::Crash(self.row.reason.clone().unwrap_or_else(|| ExitOutcome::Unknown.reason())),
                };
                self.row.in_turn = then == Then::Start && !self.restarts_locally();
                self.stop = Some(Stop { step: 0, killing: true, then });
                let (app, run, adapter) = (self.row.app.clone(), self.row.run, self.row.adapter);
                ctx.effects.push(Effect::KillTree { app, run, adapter });
            }
            _ if !wants_run => self.rest(ctx, None),
            // The spawn was remembered and never happened, or its process is gone: a new life, no failure counted.
            Phase::Spawning | Phase::Preparing | Phase::Upgrading => {
                self.sweep_first(ctx);
                self.row.run.attempt += 1;
                self.spawn(ctx);
            }
            Phase::Backoff if ctx.autonomous && self.was_rebooted() => self.wait_for_slot(ctx),
            Phase::Backoff if self.waited_for_database() => self.hold_on(ctx),
            Phase::Backoff => {
                let delay = self.recipe.as_ref().map_or(Duration::ZERO, |recipe| recipe.restart.delay);
                self.back_off(ctx, delay);
            }
            Phase::Starting | Phase::Running if self.row.adapter == Adapter::Shared => {
                let text = "its host process ended while the daemon was away";
                self.ended_with_host(ctx, Reason::new(ReasonCode::HostEnded, text));
            }
            Phase::Starting | Phase::Running => {
                let reason =
                    Reason::new(ReasonCode::ExitUnknown, "ended while the daemon was away (exit status unknown)");
                self.sweep_first(ctx);
                self.crash(ctx, reason, true, Duration::ZERO);
            }
        }
    }

    /// Children of the life that is gone may still be there; the next one waits until they are not.
    fn sweep_first(&mut self, ctx: &mut Context<'_>) {
        self.sweep(ctx, self.row.run, self.row.adapter);
    }

    /// Something of another life of this app was found: it goes before a next one begins.
    pub(crate) fn sweep(&mut self, ctx: &mut Context<'_>, run: Run, adapter: Adapter) {
        self.sweeping.insert(run, adapter);
        ctx.effects.push(Effect::KillTree { app: self.row.app.clone(), run, adapter });
    }
}
