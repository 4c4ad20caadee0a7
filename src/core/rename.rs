//! A daemon's own environment has another name than before: what the record says of it goes with it.
//!
//! So a standalone host becomes part of a fleet by configuration alone. Nothing else changes: what runs runs on, under the
//! same marks, as those name the daemon and the app and not the environment.

use std::sync::Arc;

use crate::name::EnvironmentName;
use crate::record::{AppRow, Change, PlacementRow, Recovered};
use crate::spec::{AppSpec, ProxyChoice};

impl Recovered {
    /// The name that the daemon's own environment had before, if it had another one than `now`. A record from before names
    /// were kept tells it by its apps, which are all in one place.
    pub fn former_name(&self, now: &EnvironmentName) -> Option<EnvironmentName> {
        let by_apps = || {
            let mut placed = self.apps.iter().flat_map(|app| &app.placements).map(|placement| &placement.environment);
            placed.next().cloned()
        };
        self.own_environment.clone().or_else(by_apps).filter(|former| former != now)
    }

    /// Gives the environment its new name, and returns what is to be committed.
    pub fn rename(&mut self, from: &EnvironmentName, to: &EnvironmentName) -> Vec<Change> {
        let mut changes = vec![Change::OwnEnvironment(to.clone())];
        self.own_environment = Some(to.clone());
        for app in &mut self.apps {
            if rename_app(app, from, to) {
                changes.push(Change::App(Box::new(app.clone())));
            }
        }
        for operation in self.operations.iter_mut().filter(|row| !row.view.status.has_ended()) {
            let mut renamed = false;
            for environment in operation.view.environments.iter_mut().filter(|name| *name == from) {
                (*environment, renamed) = (to.clone(), true);
            }
            if renamed {
                changes.push(Change::Operation(Box::new(operation.clone())));
            }
        }
        for grant in self.grants.iter_mut().filter(|grant| grant.environment == *from) {
            grant.environment = to.clone();
            changes.push(Change::Grant(grant.clone()));
        }
        for row in self.environments.iter_mut().filter(|row| row.name == *from) {
            row.name = to.clone();
            row.registration.environment = to.clone();
            changes.push(Change::ForgetEnvironment(from.clone()));
            changes.push(Change::Environment(Box::new(row.clone())));
        }
        changes
    }
}

fn rename_app(app: &mut AppRow, from: &EnvironmentName, to: &EnvironmentName) -> bool {
    let was_there = app.moving.as_ref().is_some_and(|moving| moving.former.environments.contains(from));
    let is_there = app.spec.environments.contains(from) || app.placement(from).is_some() || was_there;
    if !is_there {
        return false;
    }
    rename_spec(Arc::make_mut(&mut app.spec), from, to);
    rename_placements(&mut app.placements, from, to);
    if let Some(upgrade) = app.upgrade.as_mut().filter(|upgrade| upgrade.environment == *from) {
        upgrade.environment = to.clone();
    }
    if let Some(moving) = &mut app.moving {
        rename_spec(Arc::make_mut(&mut moving.former), from, to);
        rename_placements(&mut moving.placements, from, to);
    }
    true
}

fn rename_placements(placements: &mut [PlacementRow], from: &EnvironmentName, to: &EnvironmentName) {
    for placement in placements.iter_mut().filter(|placement| placement.environment == *from) {
        placement.environment = to.clone();
    }
    placements.sort_by(|a, b| a.environment.cmp(&b.environment));
}

fn rename_spec(spec: &mut AppSpec, from: &EnvironmentName, to: &EnvironmentName) {
    if spec.environments.remove(from) {
        spec.environments.insert(to.clone());
    }
    if let Some(placement) = spec.placements.remove(from) {
        spec.placements.insert(to.clone(), placement);
    }
    if spec.proxy.choice == ProxyChoice::Environment(from.clone()) {
        spec.proxy.choice = ProxyChoice::Environment(to.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Generation, Seq};
    use crate::intent::Intent;
    use crate::name::{AppId, RuntimeName};
    use crate::record::{AppLife, MoveRow, UpgradeRow};
    use crate::secret::SecretText;
    use crate::time::Wall;

    fn name(text: &str) -> EnvironmentName {
        EnvironmentName::parse(text).unwrap()
    }

    fn recovered() -> Recovered {
        let app = AppId::parse("crm").unwrap();
        let mut spec = AppSpec::minimal(app, RuntimeName::parse("node").unwrap(), name("local"));
        spec.proxy.choice = ProxyChoice::Environment(name("local"));
        let placement = PlacementRow {
            environment: name("local"),
            intent: Intent::Run,
            start_seq: Seq(3),
            since: Seq(1),
            leaving: false,
        };
        let row = AppRow {
            spec: Arc::new(spec),
            generation: Generation(2),
            jwt: SecretText::new("s"),
            db_secret: SecretText::new("s"),
            intent_seq: Seq(3),
            placements: vec![placement.clone()],
            created_at: Wall(1),
            life: AppLife::Kept,
            upgrade: Some(UpgradeRow { seq: Seq(3), environment: name("local"), go: false, automatic: false }),
            moving: None,
            installed: None,
        };
        let former = Arc::clone(&row.spec);
        let moving = MoveRow { seq: Seq(3), former, placements: vec![placement], back: None };
        let row = AppRow { moving: Some(Box::new(moving)), ..row };
        Recovered { apps: vec![row], ..Recovered::default() }
    }

    #[test]
    fn an_app_goes_with_its_environment_and_keeps_what_was_started() {
        let mut recovered = recovered();
        let former = recovered.former_name(&name("env_a")).unwrap();
        assert_eq!(former, name("local"));
        let changes = recovered.rename(&former, &name("env_a"));
        let app = &recovered.apps[0];
        assert!(changes.contains(&Change::App(Box::new(app.clone()))));
        assert_eq!(app.spec.environments.iter().collect::<Vec<_>>(), [&name("env_a")]);
        assert_eq!(app.spec.proxy.choice, ProxyChoice::Environment(name("env_a")));
        let placement = &app.placements[0];
        assert_eq!((&placement.environment, placement.start_seq), (&name("env_a"), Seq(3)));
        let moving = app.moving.as_ref().unwrap();
        assert_eq!(moving.former.environments, app.spec.environments);
        assert_eq!(moving.placements[0].environment, name("env_a"));
        assert_eq!(app.upgrade.as_ref().unwrap().environment, name("env_a"));
        assert_eq!(recovered.former_name(&name("env_a")), None, "once is enough");
    }
}
