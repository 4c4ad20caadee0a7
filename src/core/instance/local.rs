//! What somebody asks for on the host itself, past the entry. It holds until a later order.

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
        match local.action {
            LocalAction::Stop => {
                if let LedgerGoal::Run(goal) = std::mem::replace(&mut self.row.goal, LedgerGoal::Stop) {
                    self.row.shelved = Some(goal);
                }
                self.come_to_rest(ctx);
            }
            LocalAction::Restart => {
                // What the entry stopped stays stopped; only a stop of the same kind is taken back here.
                let stopped_here = self.row.local.as_ref().is_some_and(|local| local.action == LocalAction::Stop);
                if let Some(goal) = self.row.shelved.take_if(|_| stopped_here) {
                    self.row.goal = LedgerGoal::Run(goal);
                }
                if self.wanted_start().is_none() {
                    return;
                }
                self.start_or_restart(ctx);
                // It was asked for here, and takes no turn of the entry's.
                self.row.in_turn = false;
            }
        }
        self.row.local = Some(local);
        self.changed = true;
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
