//! The worker's hands: effects become calls of ports, each in a task of its own, so that a slow one holds up nobody.
//!
//! Outcomes come back as observations, never as return values. Starts are bounded: what is over the bound waits here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nbs_core::effect::Effect;
use nbs_core::environment::FoundLife;
use nbs_core::id::Run;
use nbs_core::launch::Launch;
use nbs_core::name::AppId;
use nbs_core::observation::{Fact, HookFailure, Observation, SpawnFailure, SpawnFailureKind};
use nbs_core::reason::{ExitOutcome, Reason, ReasonCode};
use nbs_core::recipe::{Adapter, HookId};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ports::{CommandOutput, DatabaseMaker, Known, ObservationSender, Prober};
use crate::worker::adapters::{Adapters, Logs, needs_notify_socket};

/// Starts of processes under way at one time. More than twice the cores of a small host gains nothing.
const SPAWNS_AT_ONCE: usize = 8;
/// Starts of units: systemd does the work, and should always have the next one waiting, also where the cores are busy
/// and each answer takes us a while to take up.
const UNITS_AT_ONCE: usize = 64;
/// Wait for the version on disk. An interpreter takes seconds to load on a busy host; a start waits no longer for it.
const INSTALLED_TIMEOUT: Duration = Duration::from_secs(30);
/// Characters of a version.
const VERSION_MAX: usize = 64;

/// Starts of apps in hosts.
const MEMBERS_AT_ONCE: usize = 64;

/// The ports, and the tasks that use them.
pub(super) struct Hands {
    pub(super) adapters: Adapters,
    pub(super) logs: Arc<Logs>,
    pub(super) prober: Arc<dyn Prober>,
    databases: Arc<dyn DatabaseMaker>,
    observations: ObservationSender,
    spawns: Arc<Semaphore>,
    units: Arc<Semaphore>,
    members: Arc<Semaphore>,
    hooks: Arc<Mutex<HashMap<AppId, CancellationToken>>>,
    tasks: TaskTracker,
}

impl Hands {
    pub(super) fn new(
        adapters: Adapters,
        logs: Arc<Logs>,
        prober: Arc<dyn Prober>,
        databases: Arc<dyn DatabaseMaker>,
        observations: ObservationSender,
    ) -> Self {
        let bounded = |at_once| Arc::new(Semaphore::new(at_once));
        Self {
            adapters,
            logs,
            prober,
            databases,
            observations,
            spawns: bounded(SPAWNS_AT_ONCE),
            units: bounded(UNITS_AT_ONCE),
            members: bounded(MEMBERS_AT_ONCE),
            hooks: Arc::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Tells the loop a fact that arose here.
    pub(super) fn observe(&self, observation: Observation) {
        let observations = self.observations.clone();
        self.tasks.spawn(async move {
            let _ = observations.send(observation).await;
        });
    }

    /// Does what an effect says.
    pub(super) fn act(&self, effect: Effect) {
        match effect {
            Effect::HostUp(plan) => self.adapters.hosts.up(plan),
            Effect::HostDown(host) => self.adapters.hosts.down(&host),
            Effect::Member { app, run, plan, runs } => self.adapters.hosts.member(&app, run, plan, runs),
            Effect::Spawn(launch) => self.spawn(launch),
            Effect::Hook { launch, hook, argv, timeout } => self.hook(launch, hook, argv, timeout),
            Effect::AskInstalled { launch, argv } => self.ask_installed(launch, argv),
            Effect::WatchFile { launch, path, since, interval } => {
                self.prober.watch_file(&launch, path, since, interval);
            }
            Effect::PrepareDatabase { app, run, plan } => {
                let (databases, observations) = (self.databases.clone(), self.observations.clone());
                self.tasks.spawn(async move {
                    let fact = match databases.prepare(&plan).await {
                        Ok(made) => Fact::DatabaseReady(made),
                        Err(failure) => Fact::DatabaseFailed(failure),
                    };
                    let _ = observations.send(Observation { app, run, fact }).await;
                });
            }
            Effect::DropDatabase { app, run, plan } => {
                let (databases, observations) = (self.databases.clone(), self.observations.clone());
                self.tasks.spawn(async move {
                    let fact = Fact::DatabaseDropped(databases.drop_all(&plan).await);
                    let _ = observations.send(Observation { app, run, fact }).await;
                });
            }
            Effect::WatchDatabase(watch) => self.databases.watch(watch),
            Effect::UnwatchDatabase(endpoint) => self.databases.unwatch(&endpoint),
            Effect::CancelHook(app) => {
                let token = self.hooks.lock().unwrap_or_else(PoisonError::into_inner).get(&app).cloned();
                token.inspect(CancellationToken::cancel);
            }
            Effect::KeepLog { app, run, adapter } => self.adapters.of(adapter).control.keep_log(&app, run),
            Effect::Signal { app, run, signal, adapter } => {
                let control = self.adapters.of(adapter).control.clone();
                self.tasks.spawn(async move { control.signal(&app, run, signal).await });
            }
            Effect::Adopt(life) => {
                let (adapters, observations) = (self.adapters.clone(), self.observations.clone());
                self.tasks.spawn(async move {
                    let (app, run) = (life.app.clone(), life.run);
                    if adapters.adopt(vec![known(life)]).await.alive.is_empty() {
                        let (outcome, last_log) = (ExitOutcome::Unknown, Vec::new());
                        let fact = Fact::Exited { outcome, cause: None, last_log, leftovers: false };
                        let _ = observations.send(Observation { app, run, fact }).await;
                    }
                });
            }
            Effect::KillTree { app, run, adapter } => {
                let control = self.adapters.of(adapter).control.clone();
                self.tasks.spawn(async move { control.kill_tree(&app, run).await });
            }
            Effect::WatchReady(watch) => self.prober.watch_ready(watch),
            Effect::WatchAlive(watch) => self.prober.watch_alive(watch),
            Effect::AskVersion { launch, question } => self.prober.ask_version(launch, question),
            Effect::Unwatch(app) => self.prober.unwatch(&app),
            Effect::CleanUp { app, run, purge_data } => self.clean_up(app, run, purge_data),
            // Committed and told by the loop itself.
            Effect::Remember(_) | Effect::Forget(_) | Effect::Follow(_) | Effect::Report(_) => {}
        }
    }

    fn clean_up(&self, app: AppId, run: Run, purge_data: bool) {
        let (adapters, observations) = (self.adapters.clone(), self.observations.clone());
        self.tasks.spawn(async move {
            if let Err(error) = adapters.clean_up(&app, purge_data).await {
                tracing::warn!(app = %app, %error, "not everything of a removed app could be cleaned up");
            }
            let _ = observations.send(Observation { app, run, fact: Fact::CleanedUp }).await;
        });
    }

    fn spawn(&self, launch: Arc<Launch>) {
        let host = launch.member.as_ref().map(|plan| &plan.host);
        self.logs.runs(&launch.app, launch.adapter(), host);
        let control = self.adapters.of(launch.adapter()).control.clone();
        let prober = self.prober.clone();
        let starts = match launch.adapter() {
            Adapter::Process => self.spawns.clone(),
            Adapter::Systemd => self.units.clone(),
            // Mostly waiting: each host has a pace of its own.
            Adapter::Shared => self.members.clone(),
        };
        let observations = self.observations.clone();
        self.tasks.spawn(async move {
            let _permit = starts.acquire().await;
            let prepared = if needs_notify_socket(&launch) { prober.open_notify(&launch) } else { Ok(()) };
            let fact = match prepared {
                Err(why) => Fact::SpawnFailed(SpawnFailure {
                    reason: Reason::new(ReasonCode::SpawnFailed, format!("its notify socket cannot be made: {why}")),
                    kind: SpawnFailureKind::Transient,
                }),
                Ok(()) => match control.start(&launch).await {
                    Ok(started) => Fact::Spawned { identity: started.identity, notes: started.notes },
                    Err(failure) => Fact::SpawnFailed(failure),
                },
            };
            let _ = observations.send(Observation { app: launch.app.clone(), run: launch.run, fact }).await;
        });
    }

    /// What is run for an app from now on is cancelled with this token.
    fn cancellable(&self, app: &AppId) -> CancellationToken {
        let cancelled = CancellationToken::new();
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner).insert(app.clone(), cancelled.clone());
        cancelled
    }

    fn ask_installed(&self, launch: Arc<Launch>, argv: Vec<String>) {
        let runner = self.adapters.of(launch.adapter()).runner.clone();
        let (observations, hooks) = (self.observations.clone(), self.hooks.clone());
        let cancelled = self.cancellable(&launch.app);
        self.tasks.spawn(async move {
            let output = tokio::select! {
                output = runner.run(&launch, &argv, INSTALLED_TIMEOUT, false) => Some(output),
                () = cancelled.cancelled() => None,
            };
            hooks.lock().unwrap_or_else(PoisonError::into_inner).remove(&launch.app);
            let answer = output.map_or_else(|| Err("it was cancelled".into()), installed);
            let fact = Fact::Installed(answer);
            let _ = observations.send(Observation { app: launch.app.clone(), run: launch.run, fact }).await;
        });
    }

    fn hook(&self, launch: Arc<Launch>, hook: HookId, argv: Vec<String>, timeout: Duration) {
        self.logs.runs(&launch.app, launch.adapter(), None);
        let runner = self.adapters.of(launch.adapter()).runner.clone();
        let (observations, hooks) = (self.observations.clone(), self.hooks.clone());
        let cancelled = self.cancellable(&launch.app);
        self.tasks.spawn(async move {
            // Dropping the run kills the hook's tree.
            let output = tokio::select! {
                output = runner.run(&launch, &argv, timeout, true) => Some(output),
                () = cancelled.cancelled() => None,
            };
            hooks.lock().unwrap_or_else(PoisonError::into_inner).remove(&launch.app);
            let result = match output {
                None => Err(HookFailure { text: "was cancelled".into(), last_log: Vec::new() }),
                Some(output) => match output.result {
                    Ok(ExitOutcome::Code(0)) => Ok(()),
                    Ok(outcome) => Err(HookFailure { text: outcome.reason().text, last_log: output.last_log }),
                    Err(text) => Err(HookFailure { text, last_log: output.last_log }),
                },
            };
            let fact = Fact::HookEnded { hook, result };
            let _ = observations.send(Observation { app: launch.app.clone(), run: launch.run, fact }).await;
        });
    }
}

/// The version that a command told: its first line.
fn installed(output: CommandOutput) -> Result<String, String> {
    match output.result {
        Ok(ExitOutcome::Code(0)) => {
            let first = output.last_log.iter().map(|line| line.trim()).find(|line| !line.is_empty());
            let version = first.map(|line| line.chars().take(VERSION_MAX).collect());
            version.ok_or_else(|| "installed.exec has written nothing".into())
        }
        Ok(outcome) => Err(format!("installed.exec {}", outcome.reason().text)),
        Err(text) => Err(format!("installed.exec {text}")),
    }
}

/// A life as adapters are asked for it.
pub(super) fn known(life: FoundLife) -> Known {
    Known { app: life.app, run: life.run, identity: life.identity, adapter: life.adapter, port: life.port }
}
