//! The composition root: the only place that knows every room.
//!
//! A daemon is put together in this order: directories and lock, the record, the listeners (so that a taken port is found
//! out before anything is touched), worker and entry, then the doors. It says READY when what former daemons left is
//! adopted and the entry has heard of it. At the end the doors close first, the loops last; apps are left as they are.
//! Deliberately absent: any `if` about apps.

mod demo;
mod doors;
mod hosts;
mod kept;
mod sources;
mod watch;

use std::fmt::Display;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use nbs_core::environment::Settings;
use nbs_core::fleet::Standing;
use nbs_core::id::{EntryId, OperationId, Reign};
use nbs_core::launch::Places;
use nbs_core::recipe::Adapter;
use nbs_core::record::{Change, Recovered};
use nbs_core::time::Now;
use nbs_core::view::Presence;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::SystemClock;
use crate::config::{Config, Loaded, Role, Sources};
use crate::entry::{self, EntryHandle};
use crate::lifecycle::{directories, identity, lock::StateLock, notify, signal::Signals};
use crate::ports::{Clock, Record, RecordError};
use crate::probe::Probes;
use crate::store::Store;
use crate::telemetry::{self, Telemetry};
use crate::usage::UsageSampler;
use crate::worker;

pub use demo::demo;

use sources::RecipeBook;

/// Facts that may wait for the worker; adapters wait beyond it.
const OBSERVATIONS_MAX: usize = 4096;
/// Reports that may wait for the entry; the worker waits beyond it.
const REPORTS_MAX: usize = 4096;
/// Orders that may wait for the worker; the entry keeps the others itself.
const ORDERS_MAX: usize = 1024;
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
    if loaded.config.role != Role::Standalone {
        let what = format!("mode {} is not available yet; set APP_MODE=standalone", loaded.config.mode.as_str());
        return refuse(&Failure::new(what));
    }
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
    loops: Vec<(&'static str, JoinHandle<()>)>,
    /// Ends the loops; the doors have a token of their own that ends earlier.
    end: CancellationToken,
    failed: CancellationToken,
    _lock: StateLock,
}

impl Daemon {
    /// Puts a standalone daemon together and waits until it is ready.
    async fn start(config: &Config, stop: CancellationToken) -> Result<Self, Failure> {
        directories::make(&config.state_dir, &config.runtime_dir, &config.apps_run_dir)
            .map_err(|error| Failure::of(&error))?;
        let lock = StateLock::acquire(&config.state_dir).map_err(|error| Failure::of(&error))?;
        let instance = identity::instance_id(&config.state_dir).map_err(|error| Failure::of(&error))?;
        let boot = identity::boot_id().map_err(|error| Failure::of(&error))?;
        let record: Arc<dyn Record> = Arc::new(Store::open(&config.state_dir).map_err(|error| Failure::of(&error))?);
        let listeners = doors::Listeners::bind(config)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let recipes = Arc::new(RecipeBook::open(&config.recipes_dir));
        recipes.log_problems();
        let end = CancellationToken::new();

        let mut recovered = record.load().await.map_err(|error: RecordError| Failure::of(&error))?;
        let same_boot = recovered.boot.as_ref().is_none_or(|known| *known == boot);
        let rows = std::mem::take(&mut recovered.instances);
        let (news_sender, news) = mpsc::channel(REPORTS_MAX);
        let (word_sender, words) = mpsc::channel(ORDERS_MAX);
        let standing = begin_reign(&*record, &recovered, &instance.to_string(), config).await?;
        let follows = recovered.follows.take().filter(|reign| reign.entry == standing.reign.entry);
        let (entry, entry_loop) = entry::start(
            entry::Parts {
                standing,
                recovered,
                record: record.clone(),
                clock: clock.clone(),
                new_id: Box::new(new_operation_id),
                news,
                ways: entry::Ways { local: Some(word_sender), remote: None },
            },
            end.clone(),
        );
        let (observation_sender, observations) = mpsc::channel(OBSERVATIONS_MAX);
        let host = hosts::chosen(config);
        let adapters = hosts::open(config, &instance.to_string(), &boot, &observation_sender)?;
        let parts = worker::Parts {
            settings: settings(config, boot, host),
            adapters: adapters.clone(),
            prober: Arc::new(Probes::new(observation_sender.clone(), Arc::new(adapters))),
            record: record.clone(),
            clock: clock.clone(),
            recipes: recipes.clone(),
            observation_sender,
            observations,
            words,
            reports: news_sender,
            mirror: None,
            follows,
        };
        let failed = CancellationToken::new();
        let mut loops = vec![("entry", watched("entry", entry_loop, failed.clone()))];
        let (worker, worker_loop) = worker::start(parts, rows, same_boot, end.clone()).await;
        loops.push(("worker", watched("worker", worker_loop, failed.clone())));
        recipes.connect(worker.clone(), entry.clone(), config.environment.name.clone());
        heard(&entry, config).await?;

        let usage = UsageSampler::new();
        let rooms = doors::Rooms {
            entry: entry.clone(),
            worker: worker.clone(),
            recipes: recipes.clone(),
            usage: usage.handle(),
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

/// Runs a loop; one that ends by a panic ends the daemon, as nothing could be trusted any more. Apps live on.
fn watched(
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
    failed: CancellationToken,
) -> JoinHandle<()> {
    let task = tokio::spawn(task);
    tokio::spawn(async move {
        if let Err(error) = task.await {
            tracing::error!(name, %error, "a loop failed; the daemon ends, apps run on");
            failed.cancel();
        }
    })
}

/// Begins the next reign of this daemon's entry; it is committed before anything rests on it.
async fn begin_reign(
    record: &dyn Record,
    recovered: &Recovered,
    instance: &str,
    config: &Config,
) -> Result<Standing, Failure> {
    let epoch = recovered.epoch.next();
    let own = Change::OwnEnvironment(config.environment.name.clone());
    record.commit(vec![Change::Reign(epoch), own]).await.map_err(|error| Failure::of(&error))?;
    let entry = EntryId::parse(instance).ok_or_else(|| Failure::new("the instance ID is no name for an entry"))?;
    Ok(Standing { reign: Reign { epoch, entry }, local: Some(config.environment.name.clone()) })
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

fn sample(usage: UsageSampler, config: &Config, entry: EntryHandle, end: CancellationToken) -> JoinHandle<()> {
    let list = move || {
        let view = entry.view();
        let pid = |instance: &nbs_core::view::InstanceView| instance.report.as_ref().and_then(|report| report.pid);
        let apps = view.apps.iter();
        apps.filter_map(|(name, app)| Some((name.clone(), app.instances.iter().find_map(pid)?))).collect()
    };
    let interval = config.usage.interval.unwrap_or_default();
    tokio::spawn(usage.run(interval, list, end.cancelled_owned()))
}

fn settings(config: &Config, boot: String, adapter: Adapter) -> Settings {
    Settings {
        places: Places {
            state_root: directories::of_apps(&config.state_dir),
            run_root: config.apps_run_dir.clone(),
            environment: config.environment.name.clone(),
            time_zone: config.time_zone.clone(),
        },
        port_range: config.environment.port_range.clone(),
        concurrent_starts: u32::try_from(config.environment.concurrent_starts).unwrap_or(u32::MAX),
        version: env!("CARGO_PKG_VERSION").to_string(),
        boot,
        adapter,
        host: identity::host_name(),
        url: config.environment.url.clone(),
        proxy_url: config.environment.proxy_url.clone(),
        capacity: None,
    }
}

/// An operation ID: the time and 80 random bits.
fn new_operation_id(now: Now) -> OperationId {
    let mut bytes = [0; 16];
    // Without randomness the time alone still tells operations apart in all but the same millisecond.
    let _ = getrandom::fill(&mut bytes);
    OperationId::from_parts(now.wall.0, u128::from_ne_bytes(bytes))
}
