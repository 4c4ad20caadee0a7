//! Simulated units: systemd restarts their processes by itself, whether a daemon listens or not.

use std::time::Duration;

use crate::environment::FoundLife;
use crate::id::Run;
use crate::launch::Launch;
use crate::name::AppId;
use crate::observation::{Fact, Identity};
use crate::reason::{ExitOutcome, Reason, ReasonCode};
use crate::recipe::Adapter;
use crate::restart::is_failure;
use crate::testing::world::World;
use crate::time::Mono;

/// How a unit is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Its process lives.
    Running(Identity),
    /// Its process is started again at this time.
    Waiting(Mono),
    /// Nothing is started any more; it stays until it is reset.
    Ended(ExitOutcome, Option<Reason>),
}

/// A unit. It blocks its name until it is reset.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    pub(super) run: Run,
    pub(super) state: State,
    port: u16,
    delay: Duration,
    burst: u32,
    restarts: u32,
    /// Someone asked for its stop: nothing brings it back.
    stopping: bool,
}

impl Unit {
    /// A unit that was just started.
    pub(super) fn of(launch: &Launch, identity: Identity) -> Option<Self> {
        let plan = launch.unit.as_ref()?;
        let (delay, burst) = (plan.restart.delay, plan.restart.burst);
        let state = State::Running(identity);
        let port = crate::testing::world::port_of(launch);
        Some(Self { run: launch.run, state, port, delay, burst, restarts: 0, stopping: false })
    }
}

impl World {
    /// The process of a unit ended; what systemd makes of it.
    pub(super) fn unit_ended(&mut self, now: Mono, app: &AppId, outcome: ExitOutcome) {
        let Some(unit) = self.units.get_mut(app) else { return };
        let run = unit.run;
        let fact = if unit.stopping || !is_failure(outcome) {
            unit.state = State::Ended(outcome, None);
            ended(outcome, None)
        } else if unit.restarts >= unit.burst {
            let cause = Reason::new(ReasonCode::StartLimit, "simulated");
            unit.state = State::Ended(outcome, Some(cause.clone()));
            ended(outcome, Some(cause))
        } else {
            unit.state = State::Waiting(now.after(unit.delay));
            Fact::Restarting { reason: outcome.reason(), last_log: Vec::new(), delay: unit.delay }
        };
        self.tell(now, 1, app.clone(), run, fact);
    }

    /// Starts again what is due.
    pub(super) fn restart_units(&mut self, now: Mono) {
        let due = |unit: &Unit| matches!(unit.state, State::Waiting(at) if at <= now);
        let apps: Vec<AppId> = self.units.iter().filter(|(_, unit)| due(unit)).map(|(app, _)| app.clone()).collect();
        for app in apps {
            let Some((run, port)) = self.units.get(&app).map(|unit| (unit.run, unit.port)) else { continue };
            let identity = self.new_process(now, &app, run, port, true);
            let Some(unit) = self.units.get_mut(&app) else { continue };
            unit.state = State::Running(identity);
            unit.restarts += 1;
            let fact = told_again(unit);
            self.tell(now, 1, app, run, fact);
        }
    }

    /// The first signal of a stop: a unit that waits is at its end at once.
    pub(super) fn stop_unit(&mut self, now: Mono, app: &AppId, run: Run) {
        let Some(unit) = self.units.get_mut(app).filter(|unit| unit.run == run) else { return };
        unit.stopping = true;
        if matches!(unit.state, State::Waiting(_)) {
            unit.state = State::Ended(ExitOutcome::Unknown, None);
            self.tell(now, 1, app.clone(), run, ended(ExitOutcome::Unknown, None));
        }
    }

    /// What an adapter finds of units, and what it tells right after.
    pub(super) fn adopt_units(
        &mut self,
        now: Mono,
        expected: &[FoundLife],
        alive: &mut Vec<FoundLife>,
        strays: &mut Vec<FoundLife>,
    ) {
        let mut facts = Vec::new();
        for (app, unit) in &self.units {
            let known = expected.iter().find(|known| known.app == *app && known.run == unit.run);
            let identity = match &unit.state {
                State::Running(identity) => Some(identity.clone()),
                _ => known.and_then(|known| known.identity.clone()).or(Some(nobody())),
            };
            let adapter = Adapter::Systemd;
            let life = FoundLife { app: app.clone(), run: unit.run, identity, adapter, port: Some(unit.port) };
            let Some(known) = known else {
                strays.push(life);
                continue;
            };
            alive.push(life);
            let before = known.identity.as_ref().and_then(|identity| identity.invocation.as_ref());
            let fact = match &unit.state {
                State::Running(identity) if unit.restarts > 0 && identity.invocation.as_ref() != before => {
                    told_again(unit)
                }
                State::Running(_) => continue,
                State::Waiting(_) => {
                    Fact::Restarting { reason: unseen(), last_log: Vec::new(), delay: Duration::from_millis(1) }
                }
                State::Ended(outcome, cause) => ended(*outcome, cause.clone()),
            };
            facts.push((app.clone(), unit.run, fact));
        }
        for (app, run, fact) in facts {
            self.tell(now, 1, app, run, fact);
        }
    }

    /// What whoever takes up a unit is told of it; nothing where there is no such unit.
    pub(super) fn unit_state(&self, life: &FoundLife) -> Option<Fact> {
        let unit = self.units.get(&life.app).filter(|unit| unit.run == life.run)?;
        Some(match &unit.state {
            State::Running(identity) if Some(identity) == life.identity.as_ref() => return None,
            State::Running(identity) => {
                let (identity, restarts) = (identity.clone(), unit.restarts);
                Fact::Restarted { identity, restarts, reason: Some(unseen()), last_log: Vec::new() }
            }
            State::Waiting(_) => {
                Fact::Restarting { reason: unseen(), last_log: Vec::new(), delay: Duration::from_millis(1) }
            }
            State::Ended(outcome, cause) => ended(*outcome, cause.clone()),
        })
    }

    /// When a unit starts its process again.
    pub(super) fn next_restart(&self) -> Option<Mono> {
        let waiting = self.units.values().filter_map(|unit| match unit.state {
            State::Waiting(at) => Some(at),
            _ => None,
        });
        waiting.min()
    }
}

fn told_again(unit: &Unit) -> Fact {
    let State::Running(identity) = &unit.state else { return ended(ExitOutcome::Unknown, None) };
    let (identity, restarts) = (identity.clone(), unit.restarts);
    Fact::Restarted { identity, restarts, reason: Some(unseen()), last_log: Vec::new() }
}

fn ended(outcome: ExitOutcome, cause: Option<Reason>) -> Fact {
    Fact::Exited { outcome, cause, last_log: Vec::new(), leftovers: true }
}

fn unseen() -> Reason {
    ExitOutcome::Unknown.reason()
}

fn nobody() -> Identity {
    Identity { pid: 0, start_ticks: 0, boot: String::new(), invocation: None }
}
