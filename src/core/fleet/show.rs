//! Views for readers.

use crate::fleet::{App, Fleet};
use crate::id::OperationId;
use crate::name::{AppId, EnvironmentName};
use crate::phase::{Phase, Status};
use crate::record::{AppLife, PlacementRow};
use crate::time::Now;
use crate::view::{AppView, EnvironmentView, InstanceView, OperationView, Presence, QueueView};

impl Fleet {
    /// One app; `None` if it is not there (any more).
    pub fn app_view(&self, now: Now, name: &AppId) -> Option<AppView> {
        let app = self.living(name)?;
        let placements = app.row.placements.iter();
        let instances: Vec<InstanceView> =
            placements.map(|placement| self.instance_view(now, name, app, placement)).collect();
        Some(AppView {
            spec: app.row.spec.clone(),
            generation: app.row.generation,
            intent: app.row.intent(),
            intent_seq: app.row.intent_seq,
            status: Status::summary(instances.iter().map(|instance| instance.status)),
            removing: app.row.life != AppLife::Kept,
            created_at: app.row.created_at,
            instances,
            last_operation: self.ledger.newest_of(name),
        })
    }

    fn instance_view(&self, now: Now, name: &AppId, app: &App, placement: &PlacementRow) -> InstanceView {
        let environment = &placement.environment;
        let placed = app.placed.get(environment).cloned().unwrap_or_default();
        let available = self.presence(now, environment) == Presence::Available;
        let waits = self.queue.is_waiting(&(name.clone(), environment.clone()));
        let granted = self.queue.turn_of(&(name.clone(), environment.clone())).is_some();
        let status = match placed.report.as_ref().map(|report| report.phase) {
            _ if !available => Status::Unknown,
            None | Some(Phase::Stopped | Phase::Failed | Phase::Backoff) if waits || granted => Status::Queued,
            None => Status::Stopped,
            Some(phase) => phase.status(),
        };
        InstanceView {
            environment: environment.clone(),
            status,
            intent: placement.intent,
            leaving: placement.leaving,
            since: placed.report.as_ref().map_or(app.row.created_at, |report| report.since),
            report: placed.report,
            observed_at: placed.heard.wall,
            observed: placed.heard.mono,
        }
    }

    /// One operation that is in memory.
    pub fn operation_view(&self, id: OperationId) -> Option<OperationView> {
        self.ledger.get(id).map(|row| row.view.clone())
    }

    /// The names of all environments.
    pub fn environments(&self) -> impl Iterator<Item = &EnvironmentName> {
        self.places.keys()
    }

    /// One environment; `None` if it is not there (any more).
    pub fn environment_view(&self, now: Now, name: &EnvironmentName) -> Option<EnvironmentView> {
        let place = self.places.get(name)?;
        Some(EnvironmentView {
            registration: place.registration.clone(),
            heard_at: place.heard.wall,
            heard: place.heard.mono,
            presence: self.presence_of(now, name, place),
            draining: place.draining,
            is_local: self.is_local(name),
            proxy: place.proxy.clone(),
            instances: self.residents.count(name),
        })
    }

    /// The start queue in the order of service.
    pub fn queue_view(&self, now: Now) -> Vec<QueueView> {
        let mut views = self.queue.view();
        let closed = |name: &EnvironmentName| {
            !self.is_there(now, name) || self.places.get(name).is_some_and(|place| place.draining)
        };
        for view in views.iter_mut().filter(|view| closed(&view.environment)) {
            // Nobody can say when a silent environment is back, or for how long one is drained.
            view.eta_ms = None;
            view.waits_for = format!("environment {}", view.environment);
        }
        views
    }
}
