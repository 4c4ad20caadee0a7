//! After a reboot of the host: what comes back by itself, and what rests; and how an app begins that waited for a slot of
//! its host. The rules are told in `environment/alone.rs`.

use crate::phase::Phase;
use crate::reason::{Reason, ReasonCode};
use crate::record::LedgerGoal;
use crate::spec::StartMode;

use super::{Context, Instance};

impl Instance {
    pub(super) fn recover_after_boot(&mut self, ctx: &mut Context<'_>, was: Phase) {
        match was {
            Phase::Preparing | Phase::Upgrading if self.row.hook_begun => self.hook_interrupted(ctx),
            // A hook is not run again for the same command; a later one asks for it.
            Phase::Failed if self.failed_by_hook() => {}
            _ if ctx.autonomous && self.comes_back() && self.is_only_here() => self.wait_for_slot(ctx),
            // Its turn is the entry's to give, or `start_without_entry_after`'s.
            _ if ctx.autonomous && self.comes_back() => self.rest(ctx, Some(rebooted())),
            Phase::Failed | Phase::Stopped => {}
            _ => self.rest(ctx, Some(rebooted())),
        }
    }

    fn failed_by_hook(&self) -> bool {
        let by_hook = |code| matches!(code, ReasonCode::HookFailed | ReasonCode::HookInterrupted);
        self.row.reason.as_ref().is_some_and(|reason| by_hook(reason.code))
    }

    /// Whether its start mode brings it back.
    fn comes_back(&self) -> bool {
        matches!(&self.row.goal, LedgerGoal::Run(goal) if goal.spec.start_mode == StartMode::WithSupervisor)
    }

    fn is_only_here(&self) -> bool {
        matches!(&self.row.goal, LedgerGoal::Run(goal) if goal.spec.environments.len() <= 1)
    }

    /// Whether the last thing that happened to it is that the host was restarted.
    pub(super) fn was_rebooted(&self) -> bool {
        self.row.reason.as_ref().is_some_and(|reason| reason.code == ReasonCode::Rebooted)
    }

    /// It is to start by itself as soon as a slot is free.
    pub(crate) fn wait_for_slot(&mut self, ctx: &mut Context<'_>) {
        self.row.in_turn = false;
        self.row.identity = None;
        self.row.reason = Some(rebooted());
        self.enter(ctx, Phase::Backoff);
    }

    /// Whether it waits for a slot to start by itself.
    pub(crate) fn waits_for_slot(&self) -> bool {
        let waits = self.row.phase == Phase::Backoff && !self.repairing && self.due.is_none();
        let goes_on = self.was_rebooted() || self.may_ask_database();
        waits && goes_on && self.sweeping.is_empty() && self.wanted_start().is_some()
    }

    /// Whether it rests since the reboot and would come back with a turn.
    pub(crate) fn rests_after_boot(&self) -> bool {
        self.row.phase == Phase::Stopped && self.was_rebooted() && self.comes_back()
    }

    /// Starts it without the entry, in a slot of this host: the start that was ordered last, or its next attempt if that had
    /// begun before the boot. A start that waited for its database goes on.
    pub(crate) fn start_alone(&mut self, ctx: &mut Context<'_>) {
        let Some(start_seq) = self.wanted_start() else { return };
        self.row.in_turn = true;
        if self.awaits_database {
            return self.spawn(ctx);
        }
        self.row.run = self.next_run(start_seq);
        self.row.restarts = 0;
        self.history.clear();
        self.port_attempts = 0;
        self.spawn(ctx);
    }
}

fn rebooted() -> Reason {
    Reason::new(ReasonCode::Rebooted, "the host was restarted")
}
