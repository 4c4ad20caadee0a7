//! Workers of many environments in one process, for `fleet.py`: on the wire they are what a worker's daemon is.
//!
//! Each has the product's own side of Redis: its connections, lease, heartbeat, usage, keys and envelopes. Only what lies
//! behind it is played: an order to start is carried out at once. Prints `ready` when all hold their names, and ends when
//! its standard input does. Deliberately absent: what is measured.

#![allow(clippy::unwrap_used, reason = "a tool of the benchmarks may fail so")]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nbs_core::id::{Run, Seq};
use nbs_core::name::{AppId, EnvironmentName, RuntimeName};
use nbs_core::order::{Goal, InstanceReport, Order, Registration, Report, RuntimeSummary};
use nbs_core::phase::Phase;
use nbs_core::recipe::{Adapter, Listen};
use nbs_core::spec::Limits;
use nbs_core::time::Wall;
use nbsupervisor::clock::SystemClock;
use nbsupervisor::ports::{Clock, News, Word};
use nbsupervisor::redis_bus::worker::{self, Tenure, UsageSource};
use nbsupervisor::redis_bus::{Server, Servers};
use nbsupervisor::security::{FleetKey, KeyFile};
use nbsupervisor::wire::api::usage::AppUsage;
use nbsupervisor::wire::redis::{HostUsage, Usage};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// As in the daemon.
const REPORTS_MAX: usize = 4096;
const ORDERS_MAX: usize = 1024;
/// The default of `environment.heartbeat_interval`.
const HEARTBEAT: Duration = Duration::from_secs(120);
/// The default of `usage.interval`.
const SAMPLE: Duration = Duration::from_secs(10);
/// How often a daemon tells everything by itself.
const TELL: Duration = Duration::from_secs(60);

/// What an environment has.
type Instances = Arc<Mutex<BTreeMap<AppId, InstanceReport>>>;

/// Figures for each app that runs. They differ from look to look, as real ones do.
struct Figures(Instances, SystemClock, watch::Sender<u64>);

impl UsageSource for Figures {
    fn usage(&self) -> Option<Usage> {
        let noise = self.1.now().mono.0.as_millis() as u64;
        let of_app = |at: usize| AppUsage {
            cpu_percent: Some(((noise + at as u64 * 7) % 1000) as f64 / 10.0),
            memory_bytes: Some((64 << 20) + noise * 4096),
            memory_source: Some("cgroup".into()),
            tasks: Some(11),
            io_read_bytes: Some(noise),
            io_write_bytes: Some(noise * 2),
            pressure: None,
        };
        let instances = self.0.lock().unwrap();
        let running = instances.iter().filter(|(_, instance)| instance.phase == Phase::Running);
        let apps = running.enumerate().map(|(at, (app, _))| (app.clone(), of_app(at))).collect();
        let host = HostUsage { cpu_percent: Some(12.5), memory_bytes: Some(1 << 33), ..HostUsage::default() };
        Some(Usage { at_ms: 0, host, apps })
    }

    fn measured(&self) -> watch::Receiver<u64> {
        self.2.subscribe()
    }
}

fn registration(name: &EnvironmentName) -> Registration {
    let runtime = RuntimeName::parse("bench").unwrap();
    let summary = RuntimeSummary {
        name: runtime.clone(),
        description: String::new(),
        adapter: Adapter::Systemd,
        listen: Listen::None,
        strip_prefix: true,
        max_limits: Limits::default(),
        paths: nbs_core::paths::Paths::default(),
        app_id_pattern: None,
        secrets_needed: Vec::new(),
        needs_database: false,
        shared: None,
        turn_timeout: Duration::from_secs(60),
        upgrade_timeout: None,
    };
    Registration {
        environment: name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        boot: "bench".into(),
        concurrent_starts: 8,
        runtimes: BTreeMap::from([(runtime, summary)]),
        host: format!("{name}.example"),
        // Nobody is asked to visit: no gateway is there.
        url: None,
        proxy_url: None,
        capacity: None,
        follows: None,
        databases: BTreeMap::new(),
    }
}

/// What a worker would tell of an order that it carried out.
fn carried_out(order: &Order, former: Option<&InstanceReport>, now: Wall) -> Report {
    let Order { app, intent_seq, .. } = order;
    let (phase, run) = match &order.goal {
        Goal::Remove { .. } => return Report::Removed { app: app.clone(), intent_seq: *intent_seq },
        Goal::Stop => (Phase::Stopped, former.map_or(Run { seq: Seq(0), attempt: 0 }, |former| former.run)),
        Goal::Run(goal) if goal.turn.is_some() => (Phase::Running, Run { seq: goal.start_seq, attempt: 0 }),
        Goal::Run(_) => match former {
            Some(former) => (former.phase, former.run),
            None => (Phase::Stopped, Run { seq: Seq(0), attempt: 0 }),
        },
    };
    Report::Instance(Box::new(InstanceReport {
        app: app.clone(),
        intent_seq: *intent_seq,
        run,
        generation: order.generation,
        phase,
        in_turn: false,
        reason: None,
        since: now,
        pid: (phase == Phase::Running).then_some(4711),
        adapter: Adapter::Systemd,
        address: None,
        strip_prefix: true,
        select: None,
        restarts: 0,
        next_attempt: None,
        version: None,
        progress: None,
        last_log: Vec::new(),
        notes: Vec::new(),
        local: None,
        removing: false,
        upgrade: Default::default(),
    }))
}

/// Answers words as a worker's loop does, until the other side ends.
async fn work(
    name: EnvironmentName,
    has: Instances,
    mut words: mpsc::Receiver<Word>,
    reports: mpsc::Sender<News>,
    clock: SystemClock,
) {
    let mut tell = tokio::time::interval(TELL);
    loop {
        let word = tokio::select! {
            word = words.recv() => match word {
                Some(word) => word,
                None => return,
            },
            _ = tell.tick() => Word::Tell,
        };
        let report = match word {
            Word::Tell => {
                let instances = has.lock().unwrap().values().cloned().collect();
                Report::Hello { registration: Box::new(registration(&name)), instances }
            }
            Word::Order(slip) => {
                let mut has = has.lock().unwrap();
                let report = carried_out(&slip.order, has.get(&slip.order.app), clock.now().wall);
                match &report {
                    Report::Instance(instance) => drop(has.insert(instance.app.clone(), (**instance).clone())),
                    _ => drop(has.remove(&slip.order.app)),
                }
                report
            }
            Word::Intent(_) | Word::Local { .. } => continue,
        };
        if reports.send(News::Report(name.clone(), report)).await.is_err() {
            return;
        }
    }
}

/// Starts the worker of an environment, and waits until it holds the name.
async fn start(servers: Servers, fleet: &FleetKey, name: &str, end: CancellationToken) {
    let name = EnvironmentName::parse(name).unwrap();
    let clock = SystemClock::new();
    let (has, samples) = (Instances::default(), watch::Sender::new(0));
    let (word_sender, words) = mpsc::channel(ORDERS_MAX);
    let (reports, from) = mpsc::channel(REPORTS_MAX);
    let options = worker::Options {
        servers,
        owner: format!("owner-{name}"),
        host: format!("{name}.example"),
        version: env!("CARGO_PKG_VERSION").into(),
        heartbeat: HEARTBEAT,
    };
    let parts = worker::Parts {
        key: fleet.worker(&name),
        follows: None,
        words: word_sender,
        reports: from,
        usage: Arc::new(Figures(has.clone(), clock, samples.clone())),
        clock: Arc::new(clock),
    };
    let (handle, side) = worker::start(options, parts, end);
    tokio::spawn(side);
    tokio::spawn(async move {
        let mut timer = tokio::time::interval(SAMPLE);
        loop {
            timer.tick().await;
            samples.send_modify(|count| *count += 1);
        }
    });
    tokio::spawn(work(name, has, words, reports, clock));
    handle.tenure().wait_for(|tenure| matches!(tenure, Tenure::Held { .. })).await.unwrap();
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [url, key, environments] = arguments.as_slice() else {
        eprintln!("usage: fleet_load REDIS-URL FLEET-KEY-FILE ENVIRONMENTS");
        std::process::exit(2);
    };
    let server = Server::new(url, None, None).unwrap();
    let servers = Servers { cache: server.clone(), command: server };
    let KeyFile::Fleet(fleet) = KeyFile::read(Path::new(key)).unwrap() else { panic!("{key} is no fleet key") };
    let end = CancellationToken::new();
    let mut joining = tokio::task::JoinSet::new();
    let fleet = Arc::new(fleet);
    for number in 0..environments.parse::<u32>().unwrap() {
        let (servers, fleet, end) = (servers.clone(), fleet.clone(), end.clone());
        joining.spawn(async move { start(servers, &fleet, &format!("env_{number:03}"), end).await });
    }
    joining.join_all().await;
    println!("ready");
    let _ = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await;
    end.cancel();
}
