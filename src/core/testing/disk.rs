//! A record that keeps exactly what was committed.

use std::collections::BTreeMap;

use crate::id::{OperationId, Seq};
use crate::name::AppId;
use crate::record::{AppRow, Change, KeyRow, LedgerRow, OperationRow, Recovered};

/// What survives a crash.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// Apps by name.
    pub apps: BTreeMap<AppId, AppRow>,
    /// Operations by ID.
    pub operations: BTreeMap<OperationId, OperationRow>,
    /// The worker's ledger.
    pub instances: BTreeMap<AppId, LedgerRow>,
    keys: Vec<KeyRow>,
    seq: Seq,
    boot: Option<String>,
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
            instances: self.instances.values().cloned().collect(),
        }
    }
}
