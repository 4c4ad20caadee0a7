//! A life that was found without its ledger becomes an instance again.

use crate::environment::FoundLife;
use crate::phase::Phase;
use crate::record::LedgerGoal;

use super::{Context, Instance};

impl Instance {
    /// Its process is this one.
    pub(crate) fn claim(&mut self, life: &FoundLife) {
        self.row.run = life.run;
        self.row.identity = life.identity.clone();
        self.row.adapter = life.adapter;
        self.row.port = life.port;
        self.row.phase = Phase::Starting;
    }

    /// Takes up the goal that tells what the claimed process should be. Nothing is started or stopped that is as it should
    /// be; whether it is ready is asked, and until it is, it counts as a start in its turn.
    pub(crate) fn take_up(&mut self, ctx: &mut Context<'_>, goal: LedgerGoal) {
        self.row.goal = goal;
        self.row.run_generation = self.row.generation;
        self.row.restarts = self.row.run.attempt;
        self.began = ctx.now.mono;
        self.changed = true;
        let recipe = ctx.recipe_of(&self.row.goal);
        // Its process was started, so its hooks are done.
        self.row.hooks_done = recipe.as_ref().map_or(0, |recipe| recipe.prepare.len() as u32);
        let unknown_port = recipe.is_some_and(|recipe| recipe.listen.needs_port()) && self.row.port.is_none();
        if unknown_port && self.wanted_start() <= Some(self.row.run.seq) {
            self.row.phase = Phase::Running;
            self.notes = vec!["the ledger was lost and with it the port; restart it to have it reached".into()];
            return;
        }
        self.adopt(ctx, Phase::Starting);
        self.row.in_turn |= self.row.phase == Phase::Starting;
    }
}
