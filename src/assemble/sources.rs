//! Recipes and usage, as the rooms that ask for them want them.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use nbs_core::name::{AppId, EnvironmentName, RuntimeName};
use nbs_core::order::{LocalAction, Registration};
use nbs_core::recipe::Recipe;
use tokio::sync::mpsc;

use crate::admin::{LocalHands, RuntimeSource, UsageSource};
use crate::config::Catalogue;
use crate::entry::EntryHandle;
use crate::ports::{BoxFuture, LogError, LogLine, LogQuery, LogReader};
use crate::redis_bus;
use crate::usage::UsageHandle;
use crate::wire::api::runtime::RecipeProblem;
use crate::wire::api::usage::{AppUsage, Capacity, HostUsage, Pressure};
use crate::wire::redis;
use crate::worker::{LocalError, RecipeSource, WorkerHandle};

/// The recipes of this host, and the worker that must hear of changes.
pub(super) struct RecipeBook {
    catalogue: Mutex<Catalogue>,
    listeners: OnceLock<Listeners>,
}

/// Who must hear of changes.
struct Listeners {
    worker: WorkerHandle,
    entry: EntryHandle,
    environment: EnvironmentName,
}

/// How long the entry may take to hear of a changed recipe; it takes under a millisecond.
const HEARD_TIMEOUT: Duration = Duration::from_secs(2);

impl RecipeBook {
    /// Reads the directory.
    pub(super) fn open(dir: &Path) -> Self {
        Self { catalogue: Mutex::new(Catalogue::open(dir)), listeners: OnceLock::new() }
    }

    /// Says whom to tell.
    pub(super) fn connect(&self, worker: WorkerHandle, entry: EntryHandle, environment: EnvironmentName) {
        let _ = self.listeners.set(Listeners { worker, entry, environment });
    }

    /// Reads again what changed, tells the worker, and waits until the entry has heard of it, so that the next command is
    /// decided by the recipes as they are now.
    pub(super) async fn reload(&self) {
        let Some(Listeners { worker, entry, environment }) = self.listeners.get() else { return };
        let registration = || entry.view().environments.get(environment).map(|view| view.registration.clone());
        let before = registration();
        if !self.with(Catalogue::refresh) {
            return;
        }
        self.log_problems();
        worker.recipes_changed().await;
        let heard = async {
            let unheard = |now: &Option<Arc<Registration>>| match (now, &before) {
                (Some(now), Some(before)) => Arc::ptr_eq(now, before),
                _ => false,
            };
            while unheard(&registration()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        if tokio::time::timeout(HEARD_TIMEOUT, heard).await.is_err() {
            tracing::warn!("the entry has not yet heard of changed recipes");
        }
    }

    /// Logs everything that is wrong now.
    pub(super) fn log_problems(&self) {
        for problem in self.with(|catalogue| catalogue.problems()) {
            tracing::warn!("recipe {problem}");
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Catalogue) -> T) -> T {
        look(&mut self.catalogue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl RecipeSource for RecipeBook {
    fn recipes(&self) -> BTreeMap<RuntimeName, Arc<Recipe>> {
        BTreeMap::clone(&self.with(|catalogue| catalogue.recipes()))
    }
}

impl RuntimeSource for RecipeBook {
    fn problems(&self) -> Vec<RecipeProblem> {
        let show = |problem: crate::config::Problem| RecipeProblem {
            file: problem.file().map(|file| file.display().to_string()).unwrap_or_default(),
            line: problem.line().map(|line| line as usize),
            field: Some(problem.key.clone()).filter(|key| !key.is_empty()),
            detail: problem.text.clone(),
            hint: Some(problem.hint.clone()).filter(|hint| !hint.is_empty()),
        };
        self.with(|catalogue| catalogue.problems()).into_iter().map(show).collect()
    }

    fn refresh(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.reload())
    }
}

/// Usage figures for the admin room: of this host from its own sampler, of others from what they published.
pub(super) struct Usage {
    pub(super) own: UsageHandle,
    /// Whose apps run here; none on an entry without apps, where one of its name is another host's.
    pub(super) environment: Option<EnvironmentName>,
    pub(super) others: Option<redis_bus::entry::Handle>,
}

impl Usage {
    fn of_other(&self, environment: &EnvironmentName) -> Option<Arc<redis::Usage>> {
        self.others.as_ref()?.usage(environment)
    }
}

impl UsageSource for Usage {
    fn app(&self, environment: &EnvironmentName, app: &AppId) -> Option<AppUsage> {
        if self.environment.as_ref() != Some(environment) {
            return self.of_other(environment)?.apps.get(app).cloned();
        }
        self.own.of(app).map(|usage| figures(&usage))
    }

    fn host(&self, environment: &EnvironmentName) -> Option<HostUsage> {
        if self.environment.as_ref() != Some(environment) {
            let host = self.of_other(environment)?.host.clone();
            return Some(HostUsage {
                cpu_percent: host.cpu_percent,
                memory_bytes: host.memory_bytes,
                pressure: host.pressure,
            });
        }
        let host = self.own.host();
        Some(HostUsage {
            cpu_percent: Some(percent(host.cpu_percent)),
            memory_bytes: Some(host.memory_used),
            pressure: host.pressure.map(shown),
        })
    }

    fn capacity(&self, environment: &EnvironmentName) -> Option<Capacity> {
        if self.environment.as_ref() != Some(environment) {
            let host = self.of_other(environment)?.host.clone();
            return Some(Capacity { cpus: host.cpus?, memory_bytes: host.memory_total? });
        }
        let host = self.own.host();
        Some(Capacity { cpus: host.cpus, memory_bytes: host.memory_total })
    }
}

pub(super) fn shown(pressure: crate::usage::Pressure) -> Pressure {
    Pressure { cpu: percent(pressure.cpu), memory: percent(pressure.memory), io: percent(pressure.io) }
}

/// With two decimals: what else the wider type would show is no measurement.
pub(super) fn percent(share: f32) -> f64 {
    (f64::from(share) * 100.0).round() / 100.0
}

/// The worker of an entry elsewhere, for what is asked on its own host.
pub(super) struct Hands {
    pub(super) environment: EnvironmentName,
    pub(super) worker: WorkerHandle,
}

impl LocalHands for Hands {
    fn environment(&self) -> EnvironmentName {
        self.environment.clone()
    }

    fn entry(&self) -> Option<String> {
        None
    }

    fn command(&self, app: &AppId, action: LocalAction, actor: &str) -> Result<(), LocalError> {
        self.worker.local(app, action, actor)
    }
}

/// The log of a daemon that runs no apps.
pub(super) struct NoLogs;

impl LogReader for NoLogs {
    fn tail<'a>(&'a self, app: &'a AppId, _query: &'a LogQuery) -> BoxFuture<'a, Result<Vec<LogLine>, LogError>> {
        Box::pin(async move { Err(elsewhere(app)) })
    }

    fn follow<'a>(
        &'a self,
        app: &'a AppId,
        _query: &'a LogQuery,
    ) -> BoxFuture<'a, Result<mpsc::Receiver<LogLine>, LogError>> {
        Box::pin(async move { Err(elsewhere(app)) })
    }
}

fn elsewhere(app: &AppId) -> LogError {
    let cause = "it runs on another host; ask `nbsupervisor app logs` there".to_string();
    LogError::Failed { app: app.clone(), cause }
}

/// An app's figures, as they are shown and published.
pub(super) fn figures(usage: &crate::usage::AppUsage) -> AppUsage {
    AppUsage {
        cpu_percent: Some(percent(usage.cpu_percent)),
        memory_bytes: Some(usage.memory_bytes),
        memory_source: Some(usage.memory_source.as_str().into()),
        tasks: Some(u64::from(usage.tasks)),
        io_read_bytes: usage.io_read_bytes,
        io_write_bytes: usage.io_write_bytes,
        pressure: usage.pressure.map(shown),
    }
}
