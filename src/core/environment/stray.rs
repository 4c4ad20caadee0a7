//! Lives that were found without a ledger that knows their app: they are kept as they are until the entry says what they
//! should be, and are then taken up as if the ledger had been there.
//!
//! So a worker whose ledger was lost is built up again from the entry's record without touching what runs. Until then a
//! hello tells of each of them that a process is there and no order was taken up, which makes the entry order what should
//! be. Deliberately absent: ending a stray that nobody has an order for.

use crate::effect::Effect;
use crate::environment::{Environment, FoundLife};
use crate::id::{Generation, Seq};
use crate::instance::Instance;
use crate::launch::Address;
use crate::name::AppId;
use crate::order::{InstanceReport, Report};
use crate::phase::Phase;
use crate::shared::is_host;
use crate::time::Now;

impl Environment {
    /// Keeps what was found, and tells of it.
    pub(super) fn keep_stray(&mut self, life: FoundLife, effects: &mut Vec<Effect>) {
        let pid = life.identity.as_ref().map(|identity| identity.pid);
        let (app, run, adapter) = (life.app.clone(), life.run, life.adapter);
        if !is_host(&app) {
            effects.push(Effect::Report(Report::Stray { app: app.clone(), run, pid, adapter }));
        }
        if life.port.is_some() {
            self.ports.reserve(&app, life.port);
        }
        self.strays.entry(app).or_default().push(life);
    }

    /// The last start that is known to have been begun: of the instance, or of a stray that would be taken up.
    pub(super) fn begun(&self, app: &AppId) -> Seq {
        match self.instances.get(app) {
            Some(instance) => instance.begun(),
            None => self.living_stray(app).map_or(Seq(0), |life| life.run.seq),
        }
    }

    /// Makes an instance of the stray that claims to be an app; whether there was one. Others of the same app are swept.
    pub(super) fn take_up_stray(&mut self, now: Now, app: &AppId, effects: &mut Vec<Effect>) -> bool {
        if self.instances.contains_key(app) {
            return false;
        }
        let living = self.living_stray(app).cloned();
        let Some(lives) = self.strays.remove(app) else { return false };
        let mut instance = Box::new(Instance::new(app.clone(), now));
        if let Some(life) = &living {
            instance.claim(life);
            effects.push(Effect::Adopt(life.clone()));
        }
        self.instances.insert(app.clone(), instance);
        for life in lives.into_iter().filter(|life| Some(life) != living.as_ref()) {
            self.with_instance(now, app, effects, |instance, ctx| instance.sweep(ctx, life.run, life.adapter));
        }
        living.is_some()
    }

    fn living_stray(&self, app: &AppId) -> Option<&FoundLife> {
        let lives = self.strays.get(app)?.iter();
        lives.filter(|life| life.identity.is_some()).max_by_key(|life| life.run)
    }

    /// What a hello tells of them.
    pub(super) fn stray_reports(&self) -> impl Iterator<Item = InstanceReport> + '_ {
        let newest = self.strays.keys().filter(|app| !is_host(app)).filter_map(|app| self.living_stray(app));
        newest.map(|life| InstanceReport {
            app: life.app.clone(),
            intent_seq: Seq(0),
            run: life.run,
            generation: Generation(0),
            phase: Phase::Starting,
            in_turn: false,
            reason: None,
            since: self.began.wall,
            pid: life.identity.as_ref().map(|identity| identity.pid).filter(|pid| *pid != 0),
            adapter: life.adapter,
            address: life.port.map(Address::Port),
            strip_prefix: true,
            select: None,
            restarts: life.run.attempt,
            next_attempt: None,
            version: None,
            progress: None,
            last_log: Vec::new(),
            notes: vec!["found without a ledger; it is left alone until the entry says what it should be".into()],
            local: None,
            removing: false,
            upgrade: Default::default(),
        })
    }
}
