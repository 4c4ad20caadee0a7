//! Crashes that the adapter repairs by itself (systemd's `Restart=`): no spawn of ours, the same life goes on.
//!
//! Its readiness is asked anew after each repair, so an app that loops is never said to run. When the adapter gives up it
//! tells an end like any other. Deliberately absent: delays and limits, which the adapter was told at the start.

use std::time::Duration;

use crate::effect::Effect;
use crate::observation::Identity;
use crate::phase::Phase;
use crate::reason::Reason;
use crate::time::Wall;

use super::{Context, Instance};

impl Instance {
    pub(super) fn restarting(&mut self, ctx: &mut Context<'_>, reason: Reason, last_log: Vec<String>, delay: Duration) {
        let before_ready = match self.row.phase {
            Phase::Spawning | Phase::Starting => true,
            Phase::Running => false,
            Phase::Backoff if self.repairing => return,
            // Adopted in this state.
            Phase::Backoff => false,
            _ => return,
        };
        self.interrupted(ctx, reason, last_log, before_ready);
        self.enter(ctx, Phase::Backoff);
        self.repairing = true;
        if self.keeps_from_repairing(ctx) {
            return;
        }
        self.next_attempt = Some(Wall(ctx.now.wall.0 + delay.as_millis() as u64));
    }

    pub(super) fn restarted(
        &mut self,
        ctx: &mut Context<'_>,
        identity: Identity,
        restarts: u32,
        reason: Option<Reason>,
        last_log: Vec<String>,
    ) {
        match self.row.phase {
            Phase::Spawning | Phase::Starting | Phase::Running => {
                let before_ready = self.row.phase != Phase::Running;
                let reason = reason.or_else(|| self.row.reason.clone()).unwrap_or_else(unseen);
                self.interrupted(ctx, reason, last_log, before_ready);
            }
            Phase::Backoff => {}
            Phase::Stopping => {
                self.row.identity = Some(identity);
                self.changed = true;
                return;
            }
            _ => return,
        }
        self.row.identity = Some(identity);
        self.row.restarts = self.row.run.attempt + restarts;
        self.began = ctx.now.mono;
        self.wait_for_ready(ctx, false);
    }

    fn interrupted(&mut self, ctx: &mut Context<'_>, mut reason: Reason, last_log: Vec<String>, before_ready: bool) {
        if before_ready {
            reason.text.push_str(" before it was ready");
        }
        self.row.in_turn = false;
        self.row.identity = None;
        self.row.reason = Some(reason);
        self.row.last_log = last_log;
        self.version = None;
        self.progress = None;
        self.saw = None;
        self.failing_since = None;
        self.alive_failures = 0;
        ctx.effects.push(Effect::Unwatch(self.row.app.clone()));
    }
}

fn unseen() -> Reason {
    crate::reason::ExitOutcome::Unknown.reason()
}
