//! Ends, asked for and not: stop steps, crashes, back-off, giving up.

use std::time::Duration;

use crate::effect::Effect;
use crate::phase::Phase;
use crate::quantity::format_duration;
use crate::reason::{Reason, ReasonCode};
use crate::recipe::{Adapter, StopSteps};
use crate::restart::{self, Restart};
use crate::time::Wall;

use super::{Context, End, Instance, Stop, Then};

impl Instance {
    pub(super) fn exited(&mut self, ctx: &mut Context<'_>, end: End) {
        let End { outcome, cause, last_log, leftovers } = end;
        let run = self.row.run;
        let kill_rest = Effect::KillTree { app: self.row.app.clone(), run, adapter: self.row.adapter };
        match self.row.phase {
            Phase::Backoff if self.repairing => {
                // The adapter does not start it again after all.
                self.enter(ctx, Phase::Backoff);
                self.sweeping.extend(leftovers.then_some((run, self.row.adapter)));
                ctx.effects.push(kill_rest);
                let reason = cause.or_else(|| self.row.reason.clone()).unwrap_or_else(|| outcome.reason());
                self.end_of_life(ctx, reason, true, Duration::ZERO);
            }
            Phase::Spawning | Phase::Starting | Phase::Running => {
                let was_running = self.row.phase == Phase::Running;
                let lasted = if self.row.identity.is_some() { ctx.now.mono.since(self.began) } else { Duration::ZERO };
                self.row.identity = None;
                self.row.last_log = last_log;
                self.sweeping.extend(leftovers.then_some((run, self.row.adapter)));
                ctx.effects.push(Effect::Unwatch(self.row.app.clone()));
                ctx.effects.push(kill_rest);
                let given_up = cause.as_ref().is_some_and(|cause| cause.code.is_final());
                let mut reason = cause.unwrap_or_else(|| outcome.reason());
                if !was_running && !given_up {
                    reason.text.push_str(" before it was ready");
                }
                let failed = restart::is_failure(outcome) || !was_running;
                self.end_of_life(ctx, reason, failed, lasted);
            }
            Phase::Stopping => {
                self.row.identity = None;
                if let Some(Stop { then: Then::Crash(_), .. }) = &self.stop {
                    self.row.last_log = last_log;
                }
                if let Some(stop) = &mut self.stop
                    && !stop.killing
                {
                    stop.killing = true;
                    self.due = None;
                    ctx.effects.push(kill_rest);
                }
            }
            _ => {}
        }
    }

    fn end_of_life(&mut self, ctx: &mut Context<'_>, reason: Reason, failed: bool, lasted: Duration) {
        match reason.code.is_final() {
            true => self.fail(ctx, reason),
            false => self.crash(ctx, reason, failed, lasted),
        }
    }

    /// An end nobody asked for: the restart policy decides.
    pub(super) fn crash(&mut self, ctx: &mut Context<'_>, reason: Reason, failed: bool, lasted: Duration) {
        self.row.in_turn = false;
        let Some(recipe) = self.recipe.clone().or_else(|| ctx.recipe_of(&self.row.goal)) else {
            return self.fail(ctx, reason);
        };
        if let Some(silent) = self.silent_database(ctx).filter(|_| restart::is_wanted(failed, &recipe.restart)) {
            // It could only end the same way, and would use up its attempts.
            self.row.restarts += 1;
            self.row.run.attempt += 1;
            return self.hold(ctx, silent, Some(&reason));
        }
        match self.history.ended(ctx.now.mono, lasted, failed, &recipe.restart) {
            Restart::After(delay) => {
                self.row.restarts += 1;
                self.row.run.attempt += 1;
                self.row.reason = Some(reason);
                self.port_attempts = 0;
                if delay.is_zero() && self.sweeping.is_empty() {
                    self.next_attempt = None;
                    self.spawn(ctx);
                } else {
                    self.back_off(ctx, delay);
                }
            }
            Restart::ByPolicy if failed => self.fail(ctx, reason),
            Restart::ByPolicy => self.rest(ctx, Some(reason)),
            Restart::GiveUp => {
                let (burst, window) = (recipe.restart.burst + 1, format_duration(recipe.restart.window));
                let text = format!("gave up after {burst} failures within {window}; the last: {reason}");
                self.fail(ctx, Reason::new(ReasonCode::GaveUp, text));
            }
        }
    }

    pub(super) fn back_off(&mut self, ctx: &mut Context<'_>, delay: Duration) {
        self.enter(ctx, Phase::Backoff);
        self.due = Some(ctx.now.mono.after(delay));
        self.next_attempt = Some(Wall(ctx.now.wall.0 + delay.as_millis() as u64));
    }

    pub(super) fn swept(&mut self, ctx: &mut Context<'_>) {
        match self.row.phase {
            // A delay that is still running goes on; one that is over was waiting for this, or for a slot as well.
            Phase::Backoff if self.due.is_none() && !self.awaits_database => self.spawn(ctx),
            Phase::Stopping if self.is_killing() => self.finish_stop(ctx),
            Phase::Failed => self.stopped_after_all(ctx),
            _ => {}
        }
    }

    pub(super) fn begin_stop(&mut self, ctx: &mut Context<'_>, then: Then) {
        let from = self.row.phase;
        if let Then::Crash(reason) = &then {
            self.row.reason = Some(reason.clone());
        }
        if let Then::Crash(_) = then {
            let (app, run, adapter) = (self.row.app.clone(), self.row.run, self.row.adapter);
            ctx.effects.push(Effect::KeepLog { app, run, adapter });
        }
        if then == Then::Rest {
            self.row.in_turn = false;
        }
        self.progress = None;
        let awaited = self.awaits_host;
        self.enter(ctx, Phase::Stopping);
        self.stop = Some(Stop { step: 0, killing: false, then });
        ctx.effects.push(Effect::Unwatch(self.row.app.clone()));
        match from {
            Phase::Preparing | Phase::Upgrading if self.row.hook_begun || self.asking => {
                ctx.effects.push(Effect::CancelHook(self.row.app.clone()));
            }
            // Nothing runs: it waits for the entry; or whatever becomes of its database is of no interest any more, and can
            // be done again.
            Phase::Preparing | Phase::Upgrading => self.finish_stop(ctx),
            Phase::Spawning if awaited => self.finish_stop(ctx),
            Phase::Spawning => {} // `spawned` or `spawn_failed` goes on
            _ => self.stop_step(ctx),
        }
    }

    pub(super) fn stop_then(&mut self, then: Then) {
        if let Some(stop) = &mut self.stop {
            stop.then = then;
        }
        self.changed = true;
    }

    pub(super) fn is_killing(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.killing)
    }

    /// The present stop step: its signal and its deadline; after the last one, SIGKILL to everything.
    pub(super) fn stop_step(&mut self, ctx: &mut Context<'_>) {
        let recipe = self.recipe.clone().or_else(|| ctx.recipe_of(&self.row.goal));
        let steps = match self.row.adapter {
            // A host is asked once, and its own list says when it is done.
            Adapter::Shared => StopSteps(Vec::new()),
            _ => recipe.map(|recipe| recipe.stop.clone()).unwrap_or_default(),
        };
        let (app, run, adapter) = (self.row.app.clone(), self.row.run, self.row.adapter);
        let Some(stop) = &mut self.stop else { return };
        match steps.0.get(stop.step) {
            Some((signal, time)) => {
                self.due = Some(ctx.now.mono.after(*time));
                ctx.effects.push(Effect::Signal { app, run, signal: *signal, adapter });
            }
            None => {
                stop.killing = true;
                ctx.effects.push(Effect::KillTree { app, run, adapter });
            }
        }
    }

    pub(super) fn finish_stop(&mut self, ctx: &mut Context<'_>) {
        let Some(stop) = self.stop.take() else { return };
        self.due = None;
        self.row.identity = None;
        match stop.then {
            Then::Rest => self.rest(ctx, None),
            Then::Start => self.begin(ctx),
            Then::Crash(reason) => {
                let lasted = ctx.now.mono.since(self.began);
                self.crash(ctx, reason, true, lasted);
            }
        }
    }

    pub(super) fn rest(&mut self, ctx: &mut Context<'_>, reason: Option<Reason>) {
        self.row.in_turn = false;
        self.row.identity = None;
        self.row.reason = reason;
        self.enter(ctx, Phase::Stopped);
    }

    pub(super) fn fail(&mut self, ctx: &mut Context<'_>, reason: Reason) {
        self.row.in_turn = false;
        self.row.identity = None;
        self.row.reason = Some(reason);
        self.enter(ctx, Phase::Failed);
    }

    pub(super) fn enter(&mut self, ctx: &Context<'_>, phase: Phase) {
        if phase != Phase::Stopping {
            self.stop = None;
        }
        self.due = None;
        self.next_attempt = None;
        self.repairing = false;
        self.awaits_database = false;
        self.awaits_host = false;
        self.row.phase = phase;
        self.row.since = ctx.now.wall;
        self.changed = true;
    }
}
