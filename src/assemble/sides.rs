//! The two sides of a daemon: the entry, which decides, and the worker, which carries out; and what lies between them.
//!
//! In one daemon they speak through channels; between hosts, through Redis.

use std::sync::Arc;
use std::time::Duration;

use nbs_core::environment::Settings;
use nbs_core::fleet::Standing;
use nbs_core::id::Reign;
use nbs_core::launch::Places;
use nbs_core::mirror::Mirrored;
use nbs_core::record::Change;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::ground::{Ground, Loops};
use super::{Failure, bus, hosts, new_operation_id};
use crate::config::{Config, Role};
use crate::database::Databases;
use crate::entry::{self, EntryHandle};
use crate::gateway::{HopKeys, HopReceiver, HopSender, Hops};
use crate::lifecycle::{directories, identity};
use crate::ports::{News, Outgoing, Word};
use crate::probe::Probes;
use crate::redis_bus;
use crate::redis_bus::worker::Tenure;
use crate::security::FleetKey;
use crate::usage::UsageHandle;
use crate::worker::{self, WorkerHandle};

/// Facts that may wait for the worker; adapters wait beyond it.
const OBSERVATIONS_MAX: usize = 4096;
/// Reports that may wait for the entry; the worker waits beyond it.
const REPORTS_MAX: usize = 4096;
/// Orders that may wait for the worker or for Redis; the entry keeps the others itself.
const ORDERS_MAX: usize = 1024;
/// Words on database servers that may wait for the worker; there are few servers, and each says only what is new.
const DATABASE_NEWS_MAX: usize = 64;
/// How often people who read Redis are shown what changed.
const SHOW_PAUSE: Duration = Duration::from_secs(1);

/// The sides of a daemon, running.
pub(super) struct Sides {
    pub(super) entry: EntryHandle,
    pub(super) worker: Option<WorkerHandle>,
    /// The entry's way to other hosts, where there may be any.
    pub(super) bus: Option<redis_bus::entry::Handle>,
    /// What the gateway is to those of other hosts.
    pub(super) hops: Hops,
    /// Where the gateway tells which of them it reaches.
    pub(super) news: Option<mpsc::Sender<News>>,
    pub(super) loops: Loops,
}

/// What the worker is connected to.
struct Wires {
    words: mpsc::Receiver<Word>,
    reports: mpsc::Sender<News>,
    mirror: Option<mpsc::Sender<Mirrored>>,
    follows: Option<Reign>,
}

/// A daemon with the entry, and with a worker where it hosts apps.
pub(super) async fn entry(config: &Config, mut ground: Ground) -> Result<Sides, Failure> {
    let runs_apps = config.role.runs_apps();
    let epoch = ground.recovered.epoch.next();
    let mut begun = vec![Change::Reign(epoch)];
    begun.extend(runs_apps.then(|| Change::OwnEnvironment(config.environment.name.clone())));
    // Committed before anything rests on it.
    ground.record.commit(begun).await.map_err(|error| Failure::of(&error))?;
    let reign = Reign { epoch, entry: ground.id.clone() };
    let local = runs_apps.then(|| config.environment.name.clone());

    let (news_sender, news) = mpsc::channel(REPORTS_MAX);
    let (word_sender, words) = mpsc::channel(ORDERS_MAX);
    let follows = ground.recovered.follows.take().filter(|former| former.entry == reign.entry);
    let mut loops = Loops::new();
    let (mut hops, mut bus, mut remote) = (Hops::default(), None, None);
    if let Some(settings) = &config.redis {
        let (sender, outgoing) = mpsc::channel(ORDERS_MAX);
        let key = bus::fleet_key(config)?;
        let keys = key.clone();
        let keys: HopKeys = Arc::new(move |environment| Some(keys.environment(environment)));
        hops.sender = Some(HopSender { keys, clock: ground.clock.clone() });
        bus = Some(entry_bus(settings, &ground, key, &reign, (outgoing, news_sender.clone()), &mut loops)?);
        remote = Some(sender);
    }
    let rows = std::mem::take(&mut ground.recovered.instances);
    let same_boot = ground.recovered.boot.as_ref().is_none_or(|known| *known == ground.boot);
    let parts = entry::Parts {
        standing: Standing { reign, local },
        recovered: std::mem::take(&mut ground.recovered),
        record: ground.record.clone(),
        clock: ground.clock.clone(),
        new_id: Box::new(new_operation_id),
        news,
        ways: entry::Ways { local: runs_apps.then_some(word_sender), remote },
    };
    let (entry, entry_loop) = entry::start(parts, ground.end.clone());
    loops.push(("entry", ground.watched("entry", entry_loop)));
    if let Some(bus) = bus.clone() {
        loops.push(("show", tokio::spawn(show(bus, entry.clone(), ground.end.clone()))));
    }
    let mut worker = None;
    let news = bus.is_some().then(|| news_sender.clone());
    if runs_apps {
        let wires = Wires { words, reports: news_sender, mirror: None, follows };
        let (handle, task) = start_worker(config, &ground, wires, rows, same_boot).await?;
        loops.push(("worker", task));
        ground.recipes.connect(handle.clone(), entry.clone(), config.environment.name.clone());
        worker = Some(handle);
    }
    Ok(Sides { entry, worker, bus, hops, news, loops })
}

/// The entry's way to other hosts.
fn entry_bus(
    settings: &crate::config::RedisSettings,
    ground: &Ground,
    fleet: FleetKey,
    reign: &Reign,
    (outgoing, news): (mpsc::Receiver<Outgoing>, mpsc::Sender<News>),
    loops: &mut Loops,
) -> Result<redis_bus::entry::Handle, Failure> {
    let options = redis_bus::entry::Options {
        servers: bus::servers(settings)?,
        version: env!("CARGO_PKG_VERSION").to_string(),
        address: identity::host_name(),
    };
    let parts = redis_bus::entry::Parts {
        fleet,
        reign: reign.clone(),
        environments: ground.recovered.environments.iter().map(|row| row.name.clone()).collect(),
        outgoing,
        news,
        clock: ground.clock.clone(),
    };
    let started = redis_bus::entry::start(options, parts, ground.end.clone());
    let (handle, work) = started.map_err(|error| Failure::of(&error))?;
    loops.push(("redis", ground.watched("redis", work)));
    Ok(handle)
}

/// Shows apps to people who read Redis, until `end`.
async fn show(bus: redis_bus::entry::Handle, entry: EntryHandle, end: CancellationToken) {
    let mut shown = entry.view();
    for (name, app) in &shown.apps {
        bus.show(name, Some(app));
    }
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(SHOW_PAUSE) => {}
        }
        let now = entry.view();
        for change in shown.apps.diff(&now.apps) {
            match change {
                imbl::ordmap::DiffItem::Add(name, app) => bus.show(name, Some(app)),
                imbl::ordmap::DiffItem::Update { new: (name, app), .. } => bus.show(name, Some(app)),
                imbl::ordmap::DiffItem::Remove(name, _) => bus.show(name, None),
            }
        }
        shown = now;
    }
}

/// A daemon with a worker alone: it follows an entry on another host, and shows what it has by itself.
pub(super) async fn worker(config: &Config, mut ground: Ground, usage: UsageHandle) -> Result<Sides, Failure> {
    let Some(settings) = &config.redis else {
        return Err(Failure::new("a worker needs a Redis URL: set APP_SUPERVISOR_REDIS_URL"));
    };
    let name = config.environment.name.clone();
    let own = Change::OwnEnvironment(name.clone());
    ground.record.commit(vec![own]).await.map_err(|error| Failure::of(&error))?;
    let mut loops = Loops::new();
    let (news_sender, reports) = mpsc::channel(REPORTS_MAX);
    let (word_sender, words) = mpsc::channel(ORDERS_MAX);
    let (mirror_sender, pieces) = mpsc::channel(REPORTS_MAX);
    let (entry, mirror_loop) = entry::mirror(ground.record.clone(), pieces, ground.end.clone());
    loops.push(("mirror", ground.watched("mirror", mirror_loop)));
    // The entry that it was itself, before it became a worker of another one, reigns no more.
    let follows = ground.recovered.follows.take().filter(|former| former.entry != ground.id);
    let standing = format!("this daemon is the worker of environment {name} and takes its orders from the entry");
    let _ = mirror_sender.send(Mirrored::Standing(standing)).await;

    let options = redis_bus::worker::Options {
        servers: bus::servers(settings)?,
        owner: ground.id.to_string(),
        host: identity::host_name(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        heartbeat: config.environment.heartbeat_interval,
    };
    let figures = bus::Published { usage, entry: entry.clone(), environment: name.clone() };
    let key = bus::worker_key(config)?;
    let receiver = HopReceiver { keys: key.keys(), clock: ground.clock.clone() };
    let hops = Hops { sender: None, receiver: Some(receiver) };
    let parts = redis_bus::worker::Parts {
        key,
        follows: follows.clone(),
        words: word_sender,
        reports,
        usage: Arc::new(figures),
        clock: ground.clock.clone(),
    };
    let (handle, work) = redis_bus::worker::start(options, parts, ground.end.clone());
    loops.push(("redis", ground.watched("redis", work)));
    loops.push(("tenure", tokio::spawn(heed(handle, ground.failed.clone(), ground.end.clone()))));

    let rows = std::mem::take(&mut ground.recovered.instances);
    let same_boot = ground.recovered.boot.as_ref().is_none_or(|known| *known == ground.boot);
    let wires = Wires { words, reports: news_sender, mirror: Some(mirror_sender), follows };
    let (worker, task) = start_worker(config, &ground, wires, rows, same_boot).await?;
    loops.push(("worker", task));
    if !same_boot || ground.recovered.boot.is_none() {
        // Only now has the ledger taken the reboot in; a daemon that ends before this sees it again.
        let boot = Change::Boot(ground.boot.clone());
        ground.record.commit(vec![boot]).await.map_err(|error| Failure::of(&error))?;
    }
    ground.recipes.connect(worker.clone(), entry.clone(), name);
    Ok(Sides { entry, worker: Some(worker), bus: None, hops, news: None, loops })
}

/// A copy of a host that took the name ends this daemon; apps run on.
async fn heed(bus: redis_bus::worker::Handle, failed: CancellationToken, end: CancellationToken) {
    let mut tenure = bus.tenure();
    loop {
        if let Tenure::Cloned(why) = &*tenure.borrow_and_update() {
            tracing::error!("{why}; the daemon ends, apps run on");
            failed.cancel();
            return;
        }
        tokio::select! {
            () = end.cancelled() => return,
            changed = tenure.changed() => if changed.is_err() { return },
        }
    }
}

/// Starts the worker; when this returns, what former daemons left is adopted.
async fn start_worker(
    config: &Config,
    ground: &Ground,
    wires: Wires,
    rows: Vec<nbs_core::record::LedgerRow>,
    same_boot: bool,
) -> Result<(WorkerHandle, JoinHandle<()>), Failure> {
    let (observation_sender, observations) = mpsc::channel(OBSERVATIONS_MAX);
    let adapters = hosts::open(config, &ground.instance, &ground.boot, &observation_sender)?;
    let (database_sender, database_news) = mpsc::channel(DATABASE_NEWS_MAX);
    let parts = worker::Parts {
        settings: settings(config, ground),
        adapters: adapters.clone(),
        prober: Arc::new(Probes::new(observation_sender.clone(), Arc::new(adapters))),
        databases: Arc::new(Databases::new(database_sender)),
        database_news,
        record: ground.record.clone(),
        clock: ground.clock.clone(),
        recipes: ground.recipes.clone(),
        observation_sender,
        observations,
        words: wires.words,
        reports: wires.reports,
        mirror: wires.mirror,
        follows: wires.follows,
    };
    let (worker, worker_loop) = worker::start(parts, rows, same_boot, ground.end.clone()).await;
    Ok((worker, ground.watched("worker", worker_loop)))
}

fn settings(config: &Config, ground: &Ground) -> Settings {
    Settings {
        places: Places {
            state_root: directories::of_apps(&config.state_dir),
            run_root: config.apps_run_dir.clone(),
            environment: config.environment.name.clone(),
            time_zone: config.time_zone.clone(),
            databases: config.databases.clone(),
        },
        port_range: config.environment.port_range.clone(),
        concurrent_starts: u32::try_from(config.environment.concurrent_starts).unwrap_or(u32::MAX),
        version: env!("CARGO_PKG_VERSION").to_string(),
        boot: ground.boot.clone(),
        adapter: hosts::chosen(config),
        host: identity::host_name(),
        url: config.environment.url.clone(),
        proxy_url: config.environment.proxy_url.clone(),
        capacity: None,
        autonomous: config.role == Role::Worker,
        start_without_entry_after: config.environment.start_without_entry_after,
        secrets: ground.secrets.clone(),
    }
}
