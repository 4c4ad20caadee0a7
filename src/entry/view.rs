//! What the entry shows: a snapshot of everything it knows.

use std::sync::Arc;

use nbs_core::id::OperationId;
use nbs_core::name::{AppId, EnvironmentName, RuntimeName};
use nbs_core::paths::{Paths, Rules};
use nbs_core::phase::Status;
use nbs_core::route::Known;
use nbs_core::shared_path::Apps;
use nbs_core::view::{AppView, EnvironmentView, EventView, OperationView};

use crate::entry::Versions;

/// A snapshot of everything the entry knows, cheap to take and to keep.
#[derive(Debug, Clone, Default)]
pub struct FleetView {
    /// Every app that is there.
    pub apps: imbl::OrdMap<AppId, Arc<AppView>>,
    /// How many of them run, kept as they are shown: a line of status is told every few seconds, and walking through
    /// thousands of apps for it costs more than all else that a daemon at rest does.
    pub running: usize,
    /// The versions that they report.
    pub versions: Versions,
    /// Every environment.
    pub environments: imbl::OrdMap<EnvironmentName, Arc<EnvironmentView>>,
    /// Every operation that has not ended, and the newest that have. Older ones are in the record.
    pub operations: imbl::OrdMap<OperationId, Arc<OperationView>>,
    /// The newest events, oldest first.
    pub events: imbl::Vector<Arc<EventView>>,
    /// Why this daemon takes no commands, if so.
    pub read_only: Option<Arc<str>>,
    /// What the recipes of the environments say of paths.
    pub rules: Arc<Rules>,
}

impl FleetView {
    /// Shows this app as it is now, or that there is none of that name.
    pub fn show_app(&mut self, name: AppId, view: Option<AppView>) {
        let runs = |view: &AppView| usize::from(view.status == Status::Running);
        let view = view.map(Arc::new);
        let before = match &view {
            Some(view) => self.apps.insert(name, view.clone()),
            None => self.apps.remove(&name),
        };
        let (before, now) = (before.as_deref(), view.as_deref());
        self.running = self.running + now.map_or(0, runs) - before.map_or(0, runs);
        self.versions.replace(before, now);
    }

    /// Shows these environments as they are now, or that there are none of these names, and what the recipes of all say
    /// of paths. That is made anew only if one of them has told something else of itself: most changes are signs of life.
    pub fn show_environments(&mut self, changed: impl IntoIterator<Item = (EnvironmentName, Option<EnvironmentView>)>) {
        let mut is_told = true;
        for (name, view) in changed {
            let now = view.as_ref().map(|view| view.registration.clone());
            let before = match view {
                Some(view) => self.environments.insert(name, Arc::new(view)),
                None => self.environments.remove(&name),
            };
            is_told &= match (before, now) {
                (Some(before), Some(now)) => Arc::ptr_eq(&before.registration, &now),
                (before, now) => before.is_none() && now.is_none(),
            };
        }
        if !is_told {
            self.rules = Rules::of(self.environments.values().map(|view| &*view.registration)).into();
        }
    }
}

impl Known for FleetView {
    fn rules(&self) -> &Rules {
        &self.rules
    }

    fn app(&self, id: &str) -> Option<&AppView> {
        self.apps.get(id).map(Arc::as_ref)
    }
}

impl Apps for FleetView {
    fn all(&self) -> impl Iterator<Item = &AppView> {
        self.apps.values().map(Arc::as_ref)
    }

    fn paths(&self, environment: &EnvironmentName, runtime: &RuntimeName) -> Option<&Paths> {
        self.environments.get(environment)?.registration.runtimes.get(runtime).map(|summary| &summary.paths)
    }
}
