//! Which apps each environment has, kept beside the apps: what one environment says costs no walk over all of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::name::{AppId, EnvironmentName};

/// The apps of each environment that are there or on their way out.
#[derive(Debug, Clone, Default)]
pub(super) struct Residents {
    apps: BTreeMap<EnvironmentName, BTreeSet<AppId>>,
    touched: BTreeSet<EnvironmentName>,
}

impl Residents {
    /// An app is placed there, perhaps already.
    pub(super) fn enter(&mut self, environment: &EnvironmentName, app: &AppId) {
        if self.apps.entry(environment.clone()).or_default().insert(app.clone()) {
            self.touched.insert(environment.clone());
        }
    }

    /// An app is placed there no more, or its name alone remains.
    pub(super) fn leave(&mut self, environment: &EnvironmentName, app: &AppId) {
        let Some(apps) = self.apps.get_mut(environment) else { return };
        if apps.remove(app) {
            self.touched.insert(environment.clone());
        }
        if apps.is_empty() {
            self.apps.remove(environment);
        }
    }

    /// Those of one environment. A copy, as what follows usually changes the apps.
    pub(super) fn of(&self, environment: &EnvironmentName) -> Vec<AppId> {
        self.apps.get(environment).map(|apps| apps.iter().cloned().collect()).unwrap_or_default()
    }

    /// How many an environment has.
    pub(super) fn count(&self, environment: &EnvironmentName) -> usize {
        self.apps.get(environment).map_or(0, BTreeSet::len)
    }

    /// The environments that have others than at the last call.
    pub(super) fn take_touched(&mut self) -> BTreeSet<EnvironmentName> {
        std::mem::take(&mut self.touched)
    }
}
