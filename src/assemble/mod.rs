//! The composition root: the only place that knows every room.
//!
//! A daemon is put together in this order: directories and lock, the record, the listeners (so that a taken port is found
//! out before anything is touched), worker and entry, then the doors. It says READY when what former daemons left is
//! adopted and the entry has heard of it. At the end the doors close first, the loops last; apps are left as they are.
//! Deliberately absent: any `if` about apps.

mod bus;
mod demo;
mod doors;
mod ground;
mod hosts;
mod kept;
mod sides;
mod sources;
mod watch;

use std::fmt::Display;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use nbs_core::id::OperationId;
use nbs_core::name::{AppId, EnvironmentName};
use nbs_core::recipe::Adapter;
use nbs_core::shared::host_of;
use nbs_core::time::Now;
use nbs_core::view::{AppView, Presence};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin::LocalHands;
use crate::clock::SystemClock;
use crate::config::{Config, Loaded, Role, Sources};
use crate::entry::EntryHandle;
use crate::lifecycle::{directories, lock::StateLock, notify, signal::Signals};
use crate::ports::{Clock, LogReader};
use crate::telemetry::{self, Telemetry};
use crate::usage::{Subject, UsageSampler};
use crate::worker::WorkerHandle;

pub use demo::demo;

use ground::{Ground, Loops};
use sides::Sides;
use sources::{Hands, NoLogs, RecipeBook, Usage};

/// How long a start may take until the entry has heard of everything that was adopted.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the loops may take to write what is unwritten.
const LOOPS_END: Duration = Duration::from_secs(10);
/// Threads of the runtime: control and data path want both cores of a small host, and memory counts.
const THREADS: usize = 2;

/// Why a daemon cannot start (or ended badly): one line for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    fn new(what: impl Display) -> Self {
        Self(what.to_string())
    }

    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        Self(telemetry::chain(error))
    }
}

/// Runs a daemon in the foreground until a signal ends it.
pub fn daemon(sources: &Sources) -> ExitCode {
    let loaded = match crate::config::load(sources) {
        Ok(loaded) => loaded,
        Err(error) => return refuse(&Failure::of(&error)),
    };
    match run_daemon(&loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => refuse(&failure),
    }
}

#[expect(clippy::print_stderr, reason = "there may be no log yet, and the caller looks at stderr")]
fn refuse(failure: &Failure) -> ExitCode {
    eprintln!("nbsupervisor: {failure}");
    ExitCode::FAILURE
}

fn run_daemon(loaded: &Loaded) -> Result<(), Failure> {
    let signals = Signals::install().map_err(|error| Failure::new(format!("cannot take signals over: {error}")))?;
    let telemetry = log(&loaded.config)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let result = runtime()?.block_on(async {
        let daemon = notify::starting(Daemon::start(&loaded.config, signals.stop())).await?;
        let settled = watch::status_line(&daemon.entry.view(), &daemon.doors.summary());
        tracing::info!("ready: {settled}");
        let _ = notify::ready(&settled);
        daemon.until_stopped(&signals).await;
        let _ = notify::stopping("apps run on");
        tracing::info!(signal = signals.stopped_by(), "stopping; apps run on");
        daemon.end().await
    });
    drop(telemetry);
    result
}

fn log(config: &Config) -> Result<Telemetry, Failure> {
    let destination = match config.log.format {
        crate::config::LogFormat::Auto => telemetry::Destination::Auto,
        crate::config::LogFormat::Journal => telemetry::Destination::Journal,
        crate::config::LogFormat::Text => telemetry::Destination::Text,
    };
    let stream = std::env::var("JOURNAL_STREAM").ok();
    let clock = SystemClock::new();
    let clock = Arc::new(move || clock.now().wall);
    telemetry::init(&config.log.level, destination, stream.as_deref(), clock).map_err(|error| Failure::of(&error))
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .max_blocking_threads(16)
        .thread_keep_alive(Duration::from_secs(2))
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start the runtime: {error}")))
}

/// A daemon that runs.
struct Daemon {
    entry: EntryHandle,
    recipes: Arc<RecipeBook>,
    doors: doors::Doors,
    loops: Loops,
    /// Ends the loops; the doors have a token of their own that ends earlier.
    end: CancellationToken,
    failed: CancellationToken,
    _lock: StateLock,
}

impl Daemon {
    /// Puts a daemon together and waits until it is ready.
    async fn start(config: &Config, stop: CancellationToken) -> Result<Self, Failure> {
        directories::make(&config.state_dir, &config.runtime_dir, &config.apps_run_dir)
            .map_err(|error| Failure::of(&error))?;
        let lock = StateLock::acquire(&config.state_dir).map_err(|error| Failure::of(&error))?;
        let ground = Ground::open(config).await?;
        let listeners = doors::Listeners::bind(config)?;
        let (end, failed) = (ground.end.clone(), ground.failed.clone());
        let (recipes, clock) = (ground.recipes.clone(), ground.clock.clone());
        let usage = UsageSampler::new();
        let sides = match config.role {
            Role::Worker => sides::worker(config, ground, usage.handle()).await?,
            Role::Standalone | Role::Entry | Role::EntryWithApps => sides::entry(config, ground).await?,
        };
        let Sides { entry, worker, bus, hops, news, mut loops } = sides;
        if config.role.runs_apps() {
            heard(&entry, config).await?;
        }
        let environment = config.environment.name.clone();
        let local = worker.clone().filter(|_| config.role == Role::Worker);
        let local = local.map(|worker| Arc::new(Hands { environment, worker }) as Arc<dyn LocalHands>);
        let rooms = doors::Rooms {
            entry: entry.clone(),
            local,
            logs: worker.as_ref().map_or_else(|| Arc::new(NoLogs) as Arc<dyn LogReader>, WorkerHandle::log_reader),
            recipes: recipes.clone(),
            usage: Usage { own: usage.handle(), environment: own_environment(config), others: bus },
            hops,
            news,
            clock,
            ready: Arc::new(AtomicBool::new(true)),
        };
        let doors = doors::Doors::open(config, listeners, rooms, stop)?;
        loops.push(("usage", sample(usage, config, entry.clone(), end.clone())));
        loops.push(("watch", watch::begin(entry.clone(), worker, doors.summary(), end.clone())));
        Ok(Self { entry, recipes, doors, loops, end, failed, _lock: lock })
    }

    /// Waits for the signal to stop; reloads recipes when asked to.
    async fn until_stopped(&self, signals: &Signals) {
        let (stop, reload) = (signals.stop(), signals.reload());
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.failed.cancelled() => return,
                () = reload.notified() => {
                    let _ = notify::reloading();
                    self.recipes.reload().await;
                    let _ = notify::ready("recipes were read again");
                }
            }
        }
    }

    /// Closes the doors, then ends the loops, which write what is unwritten.
    async fn end(self) -> Result<(), Failure> {
        self.doors.close().await;
        self.end.cancel();
        for (name, task) in self.loops {
            if tokio::time::timeout(LOOPS_END, task).await.is_err() {
                tracing::warn!(name, "a loop did not end in time");
            }
        }
        match self.failed.is_cancelled() {
            true => Err(Failure::new("a loop of the daemon ended by a fault; see the log above")),
            false => Ok(()),
        }
    }
}

/// Waits until the entry has heard what the worker adopted.
async fn heard(entry: &EntryHandle, config: &Config) -> Result<(), Failure> {
    let name = &config.environment.name;
    let known = async {
        while entry.view().environments.get(name).is_none_or(|view| view.presence != Presence::Available) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let late = || Failure::new(format!("environment {name} did not report within {READY_TIMEOUT:?}"));
    tokio::time::timeout(READY_TIMEOUT, known).await.map_err(|_| late())
}

/// The environment whose apps run on this host.
fn own_environment(config: &Config) -> Option<EnvironmentName> {
    config.role.runs_apps().then(|| config.environment.name.clone())
}

fn sample(usage: UsageSampler, config: &Config, entry: EntryHandle, end: CancellationToken) -> JoinHandle<()> {
    let here = own_environment(config);
    let list = move || {
        let Some(here) = &here else { return Vec::new() };
        let view = entry.view();
        let apps = view.apps.iter();
        let subject = |(name, app): (&AppId, &Arc<AppView>)| {
            let (pid, adapter) = app.process_in(here)?;
            let host = (adapter == Adapter::Shared).then(|| host_of(&app.spec.runtime)).flatten();
            Some(Subject { app: name.clone(), pid, host })
        };
        apps.filter_map(subject).collect()
    };
    let interval = config.usage.interval.unwrap_or_default();
    tokio::spawn(usage.run(interval, list, end.cancelled_owned()))
}

/// An operation ID: the time and 80 random bits.
fn new_operation_id(now: Now) -> OperationId {
    let mut bytes = [0; 16];
    // Without randomness the time alone still tells operations apart in all but the same millisecond.
    let _ = getrandom::fill(&mut bytes);
    OperationId::from_parts(now.wall.0, u128::from_ne_bytes(bytes))
}
