//! Which adapter has which app: each call goes to the one that the launch, the effect or the ledger names.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nbs_core::launch::Launch;
use nbs_core::name::AppId;
use nbs_core::recipe::Adapter;
use tokio::sync::mpsc;

use crate::ports::{
    BoxFuture, CommandOutput, CommandRunner, Found, Hosts, Known, LogError, LogLine, LogQuery, LogReader,
    ProcessControl,
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
    /// Apps in processes that they share.
    pub shared: Host,
    /// Those processes, as far as apps in them are concerned.
    pub hosts: Arc<dyn Hosts>,
}

impl Adapters {
    pub(super) fn of(&self, adapter: Adapter) -> &Host {
        match adapter {
            Adapter::Process => &self.process,
            Adapter::Systemd => &self.systemd,
            Adapter::Shared => &self.shared,
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
        // A host that still has the app could write into what is removed. Then, systemd may have made the directory a link to where the data are; after it is followed, the link may go.
        let hosts = self.shared.control.clean_up(app, purge_data).await;
        let units = self.systemd.control.clean_up(app, purge_data).await;
        let processes = self.process.control.clean_up(app, purge_data).await;
        hosts.and(units).and(processes)
    }
}

/// Reads what an app wrote where its last life wrote it.
pub(super) struct Logs {
    adapters: Adapters,
    last: Mutex<BTreeMap<AppId, Writer>>,
}

/// Who wrote, other than a child process of the app's own.
#[derive(Clone)]
enum Writer {
    Unit,
    /// A host process: its log is that of everybody in it.
    Host(AppId),
}

impl Logs {
    pub(super) fn new(adapters: Adapters) -> Self {
        Self { adapters, last: Mutex::default() }
    }

    /// Takes note of who runs an app.
    pub(super) fn runs(&self, app: &AppId, adapter: Adapter, host: Option<&AppId>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Most apps are child processes on a host without systemd; they need no entry.
        match (adapter, host) {
            (Adapter::Systemd, _) => _ = last.insert(app.clone(), Writer::Unit),
            (Adapter::Shared, Some(host)) => _ = last.insert(app.clone(), Writer::Host(host.clone())),
            (Adapter::Process | Adapter::Shared, _) => _ = last.remove(app),
        }
    }

    /// Whose log it is, and who reads it.
    fn of(&self, app: &AppId) -> (AppId, &dyn LogReader) {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = match last.get(app) {
            Some(Writer::Host(host)) => host,
            _ => app,
        };
        match last.get(writer) {
            Some(Writer::Unit) => (writer.clone(), &*self.adapters.systemd.logs),
            _ => (writer.clone(), &*self.adapters.process.logs),
        }
    }
}

impl LogReader for Logs {
    fn tail<'a>(&'a self, app: &'a AppId, query: &'a LogQuery) -> BoxFuture<'a, Result<Vec<LogLine>, LogError>> {
        Box::pin(async move {
            let (writer, log) = self.of(app);
            log.tail(&writer, query).await
        })
    }

    fn follow<'a>(
        &'a self,
        app: &'a AppId,
        query: &'a LogQuery,
    ) -> BoxFuture<'a, Result<mpsc::Receiver<LogLine>, LogError>> {
        Box::pin(async move {
            let (writer, log) = self.of(app);
            log.follow(&writer, query).await
        })
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
