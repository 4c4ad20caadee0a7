//! Which adapter has which app: each call goes to the one that the launch, the effect or the ledger names.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nbs_core::launch::Launch;
use nbs_core::name::AppId;
use nbs_core::recipe::Adapter;
use tokio::sync::mpsc;

use crate::ports::{
    BoxFuture, CommandOutput, CommandRunner, Found, Known, LogError, LogLine, LogQuery, LogReader, ProcessControl,
};

/// One adapter.
#[derive(Clone)]
pub struct Host {
    /// Runs processes or units.
    pub control: Arc<dyn ProcessControl>,
    /// Runs commands the same way.
    pub runner: Arc<dyn CommandRunner>,
    /// What they wrote.
    pub logs: Arc<dyn LogReader>,
}

/// Every adapter of this host.
#[derive(Clone)]
pub struct Adapters {
    /// Apps as child processes.
    pub process: Host,
    /// Apps as units of systemd.
    pub systemd: Host,
}

impl Adapters {
    pub(super) fn of(&self, adapter: Adapter) -> &Host {
        match adapter {
            Adapter::Process => &self.process,
            Adapter::Systemd => &self.systemd,
        }
    }

    /// Has each adapter look for what former daemons left.
    pub(super) async fn adopt(&self, known: Vec<Known>) -> Found {
        let (units, processes): (Vec<_>, Vec<_>) =
            known.into_iter().partition(|known| known.adapter == Adapter::Systemd);
        let (mut found, units) = tokio::join!(self.process.control.adopt(processes), self.systemd.control.adopt(units));
        found.alive.extend(units.alive);
        found.strays.extend(units.strays);
        found
    }

    /// Removes what an app left with any of them.
    pub(super) async fn clean_up(&self, app: &AppId, purge_data: bool) -> Result<(), String> {
        // systemd may have made the directory a link to where the data are; after it is followed, the link may go.
        let units = self.systemd.control.clean_up(app, purge_data).await;
        let processes = self.process.control.clean_up(app, purge_data).await;
        units.and(processes)
    }
}

/// Reads what an app wrote where its last life wrote it.
pub(super) struct Logs {
    adapters: Adapters,
    last: Mutex<BTreeMap<AppId, Adapter>>,
}

impl Logs {
    pub(super) fn new(adapters: Adapters) -> Self {
        Self { adapters, last: Mutex::default() }
    }

    /// Takes note of who runs an app.
    pub(super) fn runs(&self, app: &AppId, adapter: Adapter) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Most apps are child processes on a host without systemd; they need no entry.
        match adapter {
            Adapter::Process => _ = last.remove(app),
            Adapter::Systemd => _ = last.insert(app.clone(), adapter),
        }
    }

    fn of(&self, app: &AppId) -> &dyn LogReader {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).get(app).copied();
        &*self.adapters.of(last.unwrap_or(Adapter::Process)).logs
    }
}

impl LogReader for Logs {
    fn tail<'a>(&'a self, app: &'a AppId, query: &'a LogQuery) -> BoxFuture<'a, Result<Vec<LogLine>, LogError>> {
        Box::pin(async move { self.of(app).tail(app, query).await })
    }

    fn follow<'a>(
        &'a self,
        app: &'a AppId,
        query: &'a LogQuery,
    ) -> BoxFuture<'a, Result<mpsc::Receiver<LogLine>, LogError>> {
        Box::pin(async move { self.of(app).follow(app, query).await })
    }
}

/// Whether the worker makes a notify socket for a launch; systemd makes its own for units.
pub(super) fn needs_notify_socket(launch: &Launch) -> bool {
    launch.notify && launch.adapter() == Adapter::Process
}

impl CommandRunner for Adapters {
    fn run<'a>(
        &'a self,
        context: &'a Launch,
        argv: &'a [String],
        timeout: Duration,
        log: bool,
    ) -> BoxFuture<'a, CommandOutput> {
        self.of(context.adapter()).runner.run(context, argv, timeout, log)
    }
}
