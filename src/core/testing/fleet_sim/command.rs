//! What is asked in the simulated fleet: commands, edits, words about environments, local words, visitors.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::command::{Action, ActionKind, Command, EnvironmentAction, EnvironmentCommand, Verdict};
use crate::environment::Input;
use crate::fleet::Decision;
use crate::id::OperationId;
use crate::name::{AppId, EnvironmentName};
use crate::order::LocalAction;
use crate::secret::SecretText;
use crate::spec::{AppSpec, StartMode};
use crate::testing::fleet_sim::{Asked, FleetSim};
use crate::testing::sim::SECRET;
use crate::testing::sim::runtime_name;

impl FleetSim {
    fn any_app(&mut self) -> AppId {
        AppId::parse(["a", "b", "c", "d"][self.random.below(4) as usize]).expect("a literal name")
    }

    fn some_environments(&mut self) -> BTreeSet<EnvironmentName> {
        let first = self.random.below(self.hosts.len() as u64) as usize;
        let percent = self.random.below(70);
        let mut names = BTreeSet::from([self.hosts[first].name.clone()]);
        for i in 0..self.hosts.len() {
            if self.random.chance(percent) {
                names.insert(self.hosts[i].name.clone());
            }
        }
        names
    }

    pub(super) fn command(&mut self) {
        // Now and then somebody asks the wrong one of two.
        let which = self.random.below(self.entries.len() as u64) as usize;
        if self.entries[which].brain.is_none() {
            return;
        }
        let name = self.any_app();
        let environments = self.some_environments();
        let mut spec = AppSpec::minimal(name.clone(), runtime_name(), self.hosts[0].name.clone());
        spec.environments = environments.clone();
        spec.start_mode = StartMode::ALL[self.random.below(3) as usize];
        spec.labels.insert("n".into(), self.random.below(3).to_string());
        let row = self.entries[which].disk.apps.get(&name).cloned();
        spec.auto_upgrade = self.random.chance(25);
        let action = match (self.random.below(17), row) {
            (0..=2, _) | (10..=11, None) => Action::Create {
                spec: Arc::new(spec),
                jwt: SecretText::new("x"),
                db_secret: SecretText::new(SECRET),
                reuse: true,
            },
            (3..=5, _) => Action::Start,
            (6..=7, _) => Action::Stop,
            (8..=9, _) => Action::Restart,
            (10..=11, Some(row)) => {
                let moves = self.random.chance(60);
                let environments = if moves { environments } else { row.spec.environments.clone() };
                let spec = AppSpec { start_mode: row.spec.start_mode, environments, ..spec };
                Action::Update { spec: Arc::new(spec), if_match: row.generation, db_secret: SecretText::new(SECRET) }
            }
            (12, _) => Action::Remove { purge_data: false },
            (13, _) => Action::Upgrade,
            (14, _) => Action::RotateSecret { jwt: SecretText::new("y"), restart: self.random.chance(50) },
            (15, Some(row)) => {
                let spec = AppSpec { environments, ..(*row.spec).clone() };
                Action::Move { spec: Arc::new(spec), if_match: row.generation, dry_run: self.random.chance(10) }
            }
            _ => return self.wake(which, &name),
        };
        let part = matches!(action, Action::Start | Action::Stop | Action::Restart) && self.random.chance(25);
        let environments = part.then(|| self.some_environments().into_iter().collect());
        let id = self.new_id();
        let command = Command { app: name, action, actor: "sim".into(), id, idempotency: None, environments };
        let now = self.now;
        let Some(brain) = &mut self.entries[which].brain else { return };
        let decision = brain.fleet.decide(now, &command);
        self.tell(format_args!("e{} {} {:?} {:?}", which + 1, command.app, command.action.kind(), decision.verdict));
        self.conclude(which, &command, decision);
    }

    fn conclude(&mut self, which: usize, command: &Command, decision: Decision) {
        let (now, later) = (self.now, self.now.mono.after(std::time::Duration::from_secs(2)));
        let cut = if self.calm { 99 } else { self.random.below(50) };
        let Some(brain) = &mut self.entries[which].brain else { return };
        match cut {
            // It dies before the commit: the client heard nothing, nothing may remain.
            0 => return self.entries[which].crash(later),
            // The disk is full: taken back.
            1 => return brain.fleet.undo(now, decision.undo),
            _ => {}
        }
        self.entries[which].commit(decision.changes);
        self.note(which, command, &decision.verdict);
        if cut == 2 {
            self.entries[which].crash(later);
        }
    }

    fn note(&mut self, which: usize, command: &Command, verdict: &Verdict) {
        let Verdict::Accepted(view) = verdict else { return };
        self.accepted.push((which, view.id));
        let kind = command.action.kind();
        let placed = self.entries[which].disk.apps.get(&view.app).map(|row| row.placements.clone()).unwrap_or_default();
        let environments = match kind {
            ActionKind::Update | ActionKind::Move => {
                placed.iter().filter(|placement| placement.leaving).map(|p| p.environment.clone()).collect()
            }
            ActionKind::Remove | ActionKind::Create => placed.iter().map(|p| p.environment.clone()).collect(),
            _ => view.environments.clone(),
        };
        self.asked.push(Asked { seq: view.seq, app: view.app.clone(), environments: environments.clone() });
        if self.bus.claim.as_ref().is_some_and(|(reign, _)| reign.entry != self.entries[which].id) {
            return; // it does not reign, and will learn so
        }
        if self.entries[which].brain.as_ref().is_some_and(|brain| !brain.claimed) {
            // It has not claimed yet, and may find that another one reigns.
            self.wanted.retain(|(app, _), _| *app != view.app);
            return;
        }
        if kind == ActionKind::Create {
            self.wanted.retain(|(app, _), _| *app != view.app);
        }
        let run = match kind {
            ActionKind::Create => placed.iter().any(|placement| placement.intent.wants_running()),
            ActionKind::Start | ActionKind::Restart | ActionKind::Upgrade => true,
            ActionKind::Stop | ActionKind::Remove => false,
            ActionKind::RotateSecret => return,
            ActionKind::Update | ActionKind::Move => {
                let stays = |name: &EnvironmentName| {
                    placed.iter().any(|p| p.environment == *name && !p.leaving && p.since < view.seq)
                };
                self.wanted.retain(|(app, environment), _| *app != view.app || stays(environment));
                return;
            }
        };
        for environment in environments {
            let host = self.hosts.iter().find(|host| host.name == environment);
            let known = self.entries[which].disk.environments.get(&environment);
            if known.map(|row| &row.registration.boot) != host.map(|host| host.world.boot_id()).as_ref() {
                // The entry does not know of the latest boot yet, which may put the command aside; the operation says so.
                self.wanted.remove(&(view.app.clone(), environment));
                continue;
            }
            self.wanted.insert((view.app.clone(), environment), (view.seq, run));
        }
    }

    fn new_id(&mut self) -> OperationId {
        self.ids += 1;
        OperationId::from_parts(self.now.wall.0, u128::from(self.ids))
    }

    fn wake(&mut self, which: usize, name: &AppId) {
        let (now, id) = (self.now, self.new_id());
        let Some(brain) = &mut self.entries[which].brain else { return };
        let Some(decision) = brain.fleet.wake(now, name, id) else { return };
        self.tell(format_args!("a visitor comes to {name}: {:?}", decision.verdict));
        if let Verdict::Accepted(view) = &decision.verdict {
            let seq = view.seq;
            let environments = view.environments.clone();
            self.asked.push(Asked { seq, app: name.clone(), environments });
            self.wanted.retain(|(app, _), _| app != name);
        }
        self.entries[which].commit(decision.changes);
    }

    pub(super) fn govern(&mut self) {
        let actions = [EnvironmentAction::Drain, EnvironmentAction::Undrain, EnvironmentAction::Forget];
        let which = self.random.below(self.entries.len() as u64) as usize;
        let host = self.random.below(self.hosts.len() as u64) as usize;
        let environment = self.hosts[host].name.clone();
        let action = actions[self.random.below(3) as usize];
        self.govern_with(which, environment, action);
    }

    pub(super) fn govern_with(&mut self, which: usize, environment: EnvironmentName, action: EnvironmentAction) {
        let now = self.now;
        let command = EnvironmentCommand { environment: environment.clone(), action, actor: "sim".into() };
        let Some(brain) = &mut self.entries[which].brain else { return };
        let Ok(governed) = brain.fleet.govern(now, &command) else { return };
        let changes = governed.changes.clone();
        let more = brain.fleet.conclude(now, governed);
        self.entries[which].commit(changes);
        self.entries[which].commit(more);
        self.tell(format_args!("{environment}: {action:?}"));
        if action == EnvironmentAction::Forget {
            self.forgotten.insert(environment);
            self.turns_unsure = self.now.mono.after(self.turn_timeout() * 2);
        }
    }

    pub(super) fn local_word(&mut self) {
        let which = self.random.below(self.hosts.len() as u64) as usize;
        let app = self.any_app();
        let action = if self.random.chance(50) { LocalAction::Stop } else { LocalAction::Restart };
        let host = &mut self.hosts[which];
        if host.daemon.is_none() {
            return;
        }
        let known = host.disk.instances.contains_key(&app);
        let environment = host.name.clone();
        host.world.forget_hooks_of(&app);
        if known {
            self.tell(format_args!("{environment}: local {action:?} of {app}"));
            self.local.push((app.clone(), environment.clone()));
            self.wanted.remove(&(app.clone(), environment));
            self.host_turn(which, vec![Input::Local { app, action, actor: "sim".into() }]);
        }
    }
}
