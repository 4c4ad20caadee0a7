//! Views for readers.

use crate::fleet::{App, Fleet};
use crate::id::OperationId;
use crate::name::{AppId, EnvironmentName};
use crate::phase::{Phase, Status};
use crate::record::AppLife;
use crate::view::{AppView, EnvironmentView, InstanceView, OperationView, QueueView};

impl Fleet {
    /// One app; `None` if it is not there (any more).
    pub fn app_view(&self, name: &AppId) -> Option<AppView> {
        let app = self.living(name)?;
        let instances: Vec<InstanceView> =
            app.row.spec.environments.iter().map(|environment| self.instance_view(name, app, environment)).collect();
        Some(AppView {
            spec: app.row.spec.clone(),
            generation: app.row.generation,
            intent: app.row.intent,
            intent_seq: app.row.intent_seq,
            status: Status::summary(instances.iter().map(|instance| instance.status)),
            removing: app.row.life != AppLife::Kept,
            created_at: app.row.created_at,
            instances,
            last_operation: self.ledger.newest_of(name),
        })
    }

    fn instance_view(&self, name: &AppId, app: &App, environment: &EnvironmentName) -> InstanceView {
        let placed = app.placed.get(environment).cloned().unwrap_or_default();
        let available = self.places.get(environment).is_some_and(|place| place.available);
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

    /// Every environment.
    pub fn environment_views(&self) -> Vec<EnvironmentView> {
        let placed_in = |name: &EnvironmentName| {
            let living = self.apps.values().filter(|app| app.row.life != AppLife::Removed);
            living.filter(|app| app.row.spec.environments.contains(name)).count()
        };
        let view = |(name, place): (&EnvironmentName, &super::Place)| EnvironmentView {
            registration: place.registration.clone(),
            heard_at: place.heard.wall,
            heard: place.heard.mono,
            available: place.available,
            instances: placed_in(name),
        };
        self.places.iter().map(view).collect()
    }

    /// The start queue in the order of service.
    pub fn queue_view(&self) -> Vec<QueueView> {
        self.queue.view()
    }
}
