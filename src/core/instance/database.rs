//! The app's database: made and connected to before each start, waited for while its server is silent, dropped with it.
//!
//! A server that does not answer is no failure of the app: the start waits (in `Backoff`, without a moment that is due)
//! until the watch of the environment says that it is back, and uses up none of the app's attempts. One server keeps many
//! apps waiting, so what goes on does so as slots of the host allow. What runs is left alone, as only the app knows how
//! well it bears that. Deliberately absent: what is made, and how (`database`).

use crate::database::{Failure, Made, Owner, Watch};
use crate::effect::Effect;
use crate::launch::Places;
use crate::limits;
use crate::phase::Phase;
use crate::reason::{Reason, ReasonCode};
use crate::record::LedgerGoal;
use crate::time::Wall;

use super::{Cleaning, Context, Instance, Then};

impl Instance {
    /// Begins to prepare the database of the present life. Whether the start has to wait for that.
    pub(super) fn prepare_database(&mut self, ctx: &mut Context<'_>) -> bool {
        self.silence = None;
        let LedgerGoal::Run(goal) = &self.row.goal else { return false };
        let Some(database) = goal.spec.database.as_ref().filter(|_| self.prepared != Some(self.row.run)) else {
            return false;
        };
        let owner = Owner { app: &self.row.app, environment: &ctx.places.environment, secret: &goal.db_secret };
        match database.plan(owner, &ctx.places.databases, self.row.database) {
            Ok(None) => return false,
            Err(reason) => self.fail(ctx, reason),
            Ok(Some(plan)) => match self.silent_database(ctx) {
                Some(silent) => self.hold(ctx, silent, None),
                None => {
                    self.row.hook_begun = false;
                    self.enter(ctx, Phase::Preparing);
                    let (app, run) = (self.row.app.clone(), self.row.run);
                    ctx.effects.push(Effect::PrepareDatabase { app, run, plan: Box::new(plan) });
                }
            },
        }
        true
    }

    pub(super) fn database_ready(&mut self, ctx: &mut Context<'_>, made: Made) {
        if self.prepares_database() {
            self.prepared = Some(self.row.run);
            self.row.database = Some(made);
            self.spawn(ctx);
        }
    }

    pub(super) fn database_failed(&mut self, ctx: &mut Context<'_>, failure: Failure) {
        if !self.prepares_database() {
            return;
        }
        match failure.transient {
            true => self.hold(ctx, failure.reason, None),
            false => self.fail(ctx, failure.reason),
        }
    }

    fn prepares_database(&self) -> bool {
        self.row.phase == Phase::Preparing && !self.row.hook_begun && !self.asking
    }

    /// Waits for the server. `ended`: why its process ended, if that is what made it wait.
    pub(super) fn hold(&mut self, ctx: &mut Context<'_>, mut why: Reason, ended: Option<&Reason>) {
        if let Some(ended) = ended {
            why.text = format!("{}; the app {}", why.text, ended.text);
        }
        self.row.in_turn = false;
        self.row.reason = Some(why);
        self.silence = self.silent_database(ctx).map(|silent| silent.text);
        self.enter(ctx, Phase::Backoff);
        self.awaits_database = true;
        if self.silence.is_none() {
            let pause = limits::DATABASE_RETRY;
            self.due = Some(ctx.now.mono.after(pause));
            self.next_attempt = Some(Wall(ctx.now.wall.0 + pause.as_millis() as u64));
        }
    }

    /// Whether the last thing that happened to it is that its database server was silent.
    pub(super) fn waited_for_database(&self) -> bool {
        self.row.reason.as_ref().is_some_and(|reason| reason.code == ReasonCode::DatabaseUnreachable)
    }

    /// Waits on, as it did under the daemon before.
    pub(super) fn hold_on(&mut self, ctx: &mut Context<'_>) {
        if let Some(reason) = self.row.reason.clone() {
            self.hold(ctx, reason, None);
        }
    }

    /// The environment heard that its server answers, or does not.
    pub(crate) fn database_told(&mut self, ctx: &mut Context<'_>) {
        self.changed = true;
        let silent = self.silent_database(ctx);
        self.silence = silent.as_ref().map(|reason| reason.text.clone());
        match silent {
            // It is told when the server is back, and goes on then in a slot of its host.
            _ if self.awaits_database => self.await_slot(),
            Some(_) => _ = self.keeps_from_repairing(ctx),
            None => {}
        }
    }

    /// No moment is due any more: the server's answer and a slot of its host are what it waits for.
    pub(super) fn await_slot(&mut self) {
        self.changed = true;
        self.due = None;
        self.next_attempt = None;
    }

    /// Whether its database server may be asked again as soon as a slot is free.
    pub(super) fn may_ask_database(&self) -> bool {
        self.awaits_database && self.silence.is_none()
    }

    /// An adapter that restarts the app by itself would use up its attempts against a silent server, so its life is ended
    /// and the next one waits. Whether that was so.
    pub(super) fn keeps_from_repairing(&mut self, ctx: &mut Context<'_>) -> bool {
        let reason = self.row.reason.clone().filter(|_| self.row.phase == Phase::Backoff && self.repairing);
        let Some(reason) = reason.filter(|_| self.silent_database(ctx).is_some()) else { return false };
        self.begin_stop(ctx, Then::Crash(reason));
        true
    }

    /// That its server is known not to answer.
    pub(super) fn silent_database(&self, ctx: &Context<'_>) -> Option<Reason> {
        let watch = self.database_watch(ctx.places)?;
        let silence = ctx.databases.silence(&watch.login.endpoint)?;
        Some(Reason::new(ReasonCode::DatabaseUnreachable, silence))
    }

    /// The server that it leans on while it is to run.
    pub(crate) fn database_watch(&self, places: &Places) -> Option<Watch> {
        let LedgerGoal::Run(goal) = &self.row.goal else { return None };
        goal.spec.database.as_ref()?.watch(&places.databases)
    }

    /// What readers should know of it: that its server is silent, and that it has no role of its own.
    pub(super) fn database_notes(&self) -> impl Iterator<Item = String> {
        let shared = self.row.database.is_some_and(|made| !made.own_role) && self.has_own_database();
        let text = "its database is used as the server's own user, who may not make roles (CREATEROLE)";
        self.silence.clone().filter(|_| !self.awaits_database).into_iter().chain(shared.then(|| text.to_string()))
    }

    fn has_own_database(&self) -> bool {
        let LedgerGoal::Run(goal) = &self.row.goal else { return false };
        goal.spec.database.as_ref().is_some_and(|database| database.server().is_some())
    }

    /// Begins to drop what it has on a database server, unless that is tried again later.
    pub(super) fn drop_database(&mut self, places: &Places) -> Option<Effect> {
        let LedgerGoal::Remove { drop: Some(drop), .. } = &self.row.goal else { return None };
        let owner = Owner { app: &self.row.app, environment: &places.environment, secret: &drop.db_secret };
        let plan = drop.database.plan(owner, &places.databases, self.row.database);
        match plan {
            _ if self.due.is_some() => None,
            Ok(plan) => {
                self.cleaning = Cleaning::Dropping;
                let (app, run) = (self.row.app.clone(), self.row.run);
                plan.map(|plan| Effect::DropDatabase { app, run, plan: Box::new(plan) })
            }
            // The configuration has to change, and with it the daemon begins anew.
            Err(reason) => {
                self.row.reason = Some(reason);
                None
            }
        }
    }

    pub(super) fn database_dropped(&mut self, ctx: &mut Context<'_>, result: Result<(), Failure>) {
        if self.cleaning != Cleaning::Dropping {
            return;
        }
        self.changed = true;
        match result {
            Ok(()) => {
                self.cleaning = Cleaning::Dropped;
                self.row.reason = None;
            }
            // Tried again until it succeeds, or somebody says that the data are to be kept after all.
            Err(failure) => {
                self.cleaning = Cleaning::NotBegun;
                self.row.reason = Some(failure.reason);
                self.due = Some(ctx.now.mono.after(limits::DATABASE_DROP_RETRY));
            }
        }
    }
}
