//! What somebody asks for on the host itself, past the entry.
//!
//! A local stop holds until an order asks for another start, for the stop or for the removal of this very instance; an
//! order that only says again that it should run (a command for another environment, a changed spec) is put aside with
//! the goal before it. It survives daemon and host. A local restart needs no entry and no turn, and is finished by the
//! next daemon if this one ends in its midst. Deliberately absent: who may ask (the admin's).

use crate::id::Run;
use crate::order::{LocalAction, LocalOverride};
use crate::record::LedgerGoal;

use super::{Context, Instance};

impl Instance {
    /// Does as asked, if there is something to do it to.
    pub(crate) fn take_local(&mut self, ctx: &mut Context<'_>, local: LocalOverride) {
        if matches!(self.row.goal, LedgerGoal::Remove { .. }) {
            return;
        }
        // What the entry stopped stays stopped; only a stop of the same kind is taken back here.
        let stopped_here = self.row.local.as_ref().is_some_and(|local| local.action == LocalAction::Stop);
        match local.action {
            LocalAction::Stop => {
                match std::mem::replace(&mut self.row.goal, LedgerGoal::Stop) {
                    LedgerGoal::Run(goal) => self.row.shelved = Some(goal),
                    // The entry says so already, and there is nothing to hold against it.
                    _ if !stopped_here => return,
                    _ => {}
                }
                self.come_to_rest(ctx);
            }
            LocalAction::Restart => {
                if let Some(goal) = self.row.shelved.take_if(|_| stopped_here) {
                    self.row.goal = LedgerGoal::Run(goal);
                }
                if self.wanted_start().is_none() || self.is_in_step() {
                    return;
                }
                // Why it was not well before is no more of interest, and would read as the reason of this stop.
                self.row.reason = None;
                self.start_or_restart(ctx);
                // It was asked for here, and takes no turn of the entry's.
                self.row.in_turn = false;
            }
        }
        self.row.local = Some(local);
        self.changed = true;
    }

    /// Puts a goal aside that says nothing new to an instance which was stopped here; otherwise gives it back.
    pub(super) fn shelve(&mut self, goal: LedgerGoal, start: bool) -> Option<LedgerGoal> {
        let stopped = self.row.local.as_ref().is_some_and(|local| local.action == LocalAction::Stop);
        match goal {
            LedgerGoal::Run(goal) if stopped && !start => {
                self.row.shelved = Some(goal);
                self.changed = true;
                None
            }
            goal => Some(goal),
        }
    }

    /// The start that a local stop put aside.
    pub(crate) fn shelved_start(&self) -> Option<crate::id::Seq> {
        let stopped_here = self.row.local.as_ref().is_some_and(|local| local.action == LocalAction::Stop);
        self.row.shelved.as_ref().filter(|_| stopped_here).map(|goal| goal.start_seq)
    }

    /// Whether it was being stopped for a local restart when the daemon ended.
    pub(super) fn restarts_locally(&self) -> bool {
        let asked = self.row.local.as_ref().is_some_and(|local| local.action == LocalAction::Restart);
        asked && self.row.reason.is_none() && self.wanted_start().is_some()
    }

    /// Whether an order only says again what a local word has since put aside.
    pub(crate) fn is_overridden(&self, intent_seq: crate::id::Seq) -> bool {
        self.row.local.is_some() && intent_seq <= self.row.intent_seq
    }

    /// The name of the next life: a start that was begun before goes on counting.
    pub(super) fn next_run(&self, start_seq: crate::id::Seq) -> Run {
        let former = self.row.run;
        let attempt = if former.seq == start_seq && former != Run::default() { former.attempt + 1 } else { 0 };
        Run { seq: start_seq, attempt }
    }
}
