//! What the entry shows: a snapshot of everything it knows.

use std::sync::Arc;

use nbs_core::id::OperationId;
use nbs_core::name::{AppId, EnvironmentName, RuntimeName};
use nbs_core::paths::{Paths, Rules};
use nbs_core::phase::Status;
use nbs_core::route::Known;
use nbs_core::shared_path::Apps;
use nbs_core::view::{AppView, EnvironmentView, EventView, OperationView};

/// A snapshot of everything the entry knows, cheap to take and to keep.
#[derive(Debug, Clone, Default)]
pub struct FleetView {
    /// Every app that is there.
    pub apps: imbl::OrdMap<AppId, Arc<AppView>>,
    /// How many of them run, kept as they are shown: a line of status is told every few seconds, and walking through
    /// thousands of apps for it costs more than all else that a daemon at rest does.
    pub running: usize,
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
        let now = view.as_ref().map_or(0, runs);
        let before = match view {
            Some(view) => self.apps.insert(name, Arc::new(view)),
            None => self.apps.remove(&name),
        };
        self.running = self.running + now - before.as_deref().map_or(0, runs);
    }

    /// Shows these environments, and what their recipes say of paths. That is made anew only if one of them has told
    /// something else of itself: most changes are signs of life.
    pub fn show_environments(&mut self, views: impl IntoIterator<Item = EnvironmentView>) {
        let named = views.into_iter().map(|view| (view.registration.environment.clone(), Arc::new(view)));
        let before = std::mem::replace(&mut self.environments, named.collect());
        let told = |(old, new): (&Arc<EnvironmentView>, &Arc<EnvironmentView>)| {
            Arc::ptr_eq(&old.registration, &new.registration)
        };
        let is_told =
            before.len() == self.environments.len() && before.values().zip(self.environments.values()).all(told);
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
