//! A record that keeps exactly what was committed.

use std::collections::BTreeMap;

use crate::id::{Epoch, OperationId, Reign, Seq};
use crate::name::{AppId, EnvironmentName};
use crate::record::{AppRow, Change, EnvironmentRow, GrantRow, KeyRow, LedgerRow, OperationRow, Recovered};

/// What survives a crash.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// Apps by name.
    pub apps: BTreeMap<AppId, AppRow>,
    /// Operations by ID.
    pub operations: BTreeMap<OperationId, OperationRow>,
    /// The worker's ledger.
    pub instances: BTreeMap<AppId, LedgerRow>,
    /// Environments that the entry knows.
    pub environments: BTreeMap<EnvironmentName, EnvironmentRow>,
    grants: BTreeMap<AppId, GrantRow>,
    keys: Vec<KeyRow>,
    seq: Seq,
    boot: Option<String>,
    epoch: Epoch,
    own_environment: Option<EnvironmentName>,
    follows: Option<Reign>,
}

impl Disk {
    /// Commits all changes.
    pub fn commit(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::App(row) => {
                    self.seq = self.seq.max(row.intent_seq);
                    self.apps.insert(row.spec.name.clone(), *row);
                }
                Change::Operation(row) => {
                    self.seq = self.seq.max(row.view.seq);
                    self.operations.insert(row.view.id, *row);
                }
                Change::Event(_) => {}
                Change::Key(row) => self.keys.push(*row),
                Change::Boot(boot) => self.boot = Some(boot),
                Change::Reign(epoch) => self.epoch = epoch,
                Change::OwnEnvironment(name) => self.own_environment = Some(name),
                Change::Environment(row) => _ = self.environments.insert(row.name.clone(), *row),
                Change::ForgetEnvironment(name) => _ = self.environments.remove(&name),
                Change::Grant(row) => _ = self.grants.insert(row.app.clone(), row),
                Change::GrantEnd(app) => _ = self.grants.remove(&app),
                Change::Follow(reign) => self.follows = Some(reign),
                Change::Instance(row) => _ = self.instances.insert(row.app.clone(), *row),
                Change::ForgetInstance(app) => _ = self.instances.remove(&app),
            }
        }
    }

    /// What a new daemon finds.
    pub fn recover(&self) -> Recovered {
        Recovered {
            apps: self.apps.values().cloned().collect(),
            operations: self.operations.values().cloned().collect(),
            events: Vec::new(),
            keys: self.keys.clone(),
            seq: self.seq,
            boot: self.boot.clone(),
            epoch: self.epoch,
            own_environment: self.own_environment.clone(),
            environments: self.environments.values().cloned().collect(),
            grants: self.grants.values().cloned().collect(),
            follows: self.follows.clone(),
            instances: self.instances.values().cloned().collect(),
        }
    }
}
