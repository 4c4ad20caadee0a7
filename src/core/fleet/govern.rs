//! Commands about environments: drain, undrain, forget.

use crate::command::{Denied, EnvironmentAction, EnvironmentCommand};
use crate::fleet::{Fleet, Place, wants_run};
use crate::name::EnvironmentName;
use crate::record::{Change, EnvironmentRow};
use crate::time::Now;
use crate::view::{OperationStatus, Presence};

/// What came of a command about an environment: to be committed, then concluded; or dropped, which changes nothing.
#[derive(Debug)]
pub struct Governed {
    /// To be committed.
    pub changes: Vec<Change>,
    command: EnvironmentCommand,
}

impl Fleet {
    /// Decides on a command about an environment. Nothing is changed until `conclude`.
    ///
    /// # Errors
    /// It is denied.
    pub fn govern(&self, now: Now, command: &EnvironmentCommand) -> Result<Governed, Denied> {
        if let Some(why) = &self.read_only {
            return Err(Denied::ReadOnly(why.clone()));
        }
        let name = &command.environment;
        let place = self.places.get(name).ok_or_else(|| Denied::EnvironmentUnknown(name.clone()))?;
        let changes = match command.action {
            EnvironmentAction::Forget => match self.presence(now, name) {
                Presence::Available => return Err(Denied::EnvironmentInUse(name.clone())),
                _ => vec![Change::ForgetEnvironment(name.clone())],
            },
            action => {
                let draining = action == EnvironmentAction::Drain;
                let row = EnvironmentRow { draining, ..place.row(name) };
                if place.draining == draining { Vec::new() } else { vec![Change::Environment(Box::new(row))] }
            }
        };
        Ok(Governed { changes, command: command.clone() })
    }

    /// The changes of `govern` are committed.
    pub fn conclude(&mut self, now: Now, governed: Governed) -> Vec<Change> {
        let EnvironmentCommand { environment, action, actor } = governed.command;
        if governed.changes.is_empty() {
            return Vec::new();
        }
        let what = match action {
            EnvironmentAction::Drain => "environment_draining",
            EnvironmentAction::Undrain => "environment_undrained",
            EnvironmentAction::Forget => "environment_forgotten",
        };
        let word = what.trim_start_matches("environment_");
        let message = format!("environment {environment} is {word} by order of {actor}");
        let mut changes = vec![self.event(now, what, (None, Some(&environment)), message, None)];
        if action == EnvironmentAction::Forget {
            changes.extend(self.forget(now, &environment));
        } else if let Some(place) = self.places.get_mut(&environment) {
            place.draining = action == EnvironmentAction::Drain;
        }
        self.touch_environment(&environment);
        changes
    }

    /// What was there is held to be gone.
    fn forget(&mut self, now: Now, environment: &EnvironmentName) -> Vec<Change> {
        self.places.remove(environment);
        self.queue.forget(environment);
        let mut changes = Vec::new();
        for name in self.residents.of(environment) {
            changes.extend(self.removed(now, environment, &name));
            let Some(app) = self.apps.get_mut(&name) else { continue };
            if let Some(placed) = app.placed.get_mut(environment) {
                (placed.report, placed.sent) = (None, None);
            }
            let waits_only_here = |row: &crate::record::OperationRow| {
                wants_run(row) && row.view.environments.iter().all(|other| other == environment)
            };
            for operation in self.ledger.active_of(&name).iter().filter(|row| waits_only_here(row)) {
                let reason = Some(format!("environment {environment} was forgotten; the intent stands"));
                changes.extend(self.ledger.end(operation.view.id, OperationStatus::Failed, reason, now));
            }
        }
        changes
    }
}

impl Place {
    pub(super) fn row(&self, name: &EnvironmentName) -> EnvironmentRow {
        EnvironmentRow {
            name: name.clone(),
            registration: (*self.registration).clone(),
            draining: self.draining,
            heard_at: self.heard.wall,
        }
    }
}
