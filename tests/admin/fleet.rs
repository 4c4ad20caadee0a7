//! A real entry with environments on other hosts, of which only their words are made up: `env_a` and `env_b` are there,
//! `env_old` stands in the record and was not heard yet. The clock moves by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nbs_core::fleet::Standing;
use nbs_core::id::{EntryId, Epoch, OperationId, Reign, Run};
use nbs_core::launch::Address;
use nbs_core::name::EnvironmentName;
use nbs_core::order::{Capacity, Goal, InstanceReport, LocalOverride, Order, Registration, Report};
use nbs_core::phase::Phase;
use nbs_core::recipe::Adapter;
use nbs_core::record::{EnvironmentRow, Recovered};
use nbs_core::time::{Mono, Now, Wall};
use nbsupervisor::entry::{Parts, Ways};
use nbsupervisor::ports::{Clock, News, Outgoing};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::entry::{Memory, NOW, registration};
use crate::room::{Answer, Room, serve};

/// What a view may take to follow; far more than it does.
const LIMIT: Duration = Duration::from_secs(10);

pub fn env(name: &str) -> EnvironmentName {
    EnvironmentName::parse(name).unwrap()
}

/// Milliseconds since the entry began.
#[derive(Default)]
struct ByHand(AtomicU64);

impl Clock for ByHand {
    fn now(&self) -> Now {
        let ms = self.0.load(Ordering::SeqCst);
        Now { mono: Mono(Duration::from_millis(1_000_000 + ms)), wall: Wall(NOW.0 + ms) }
    }
}

/// Environments that take orders and do not answer, and what was last said of each instance.
#[derive(Default)]
struct Hosts {
    mute: Mutex<BTreeSet<EnvironmentName>>,
    last: Mutex<BTreeMap<(EnvironmentName, String), InstanceReport>>,
}

/// The entry, its room, and the words of its workers.
pub struct Fleet {
    pub room: Room,
    pub news: mpsc::Sender<News>,
    clock: Arc<ByHand>,
    hosts: Arc<Hosts>,
    stop: CancellationToken,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn of(name: &str) -> Registration {
    Registration {
        environment: env(name),
        host: format!("host-of-{name}"),
        url: Some(format!("http://{name}.example:13000")),
        capacity: Some(Capacity { cpus: 8, memory_bytes: 1 << 35 }),
        follows: None,
        ..registration()
    }
}

pub async fn fleet() -> Fleet {
    let clock = Arc::new(ByHand::default());
    let (news, heard) = mpsc::channel(64);
    let (orders, sent) = mpsc::channel(64);
    let reign = Reign { epoch: Epoch(1), entry: EntryId::parse("entry-1").unwrap() };
    let old = EnvironmentRow { name: env("env_old"), registration: of("env_old"), draining: false, heard_at: NOW };
    let mut number = 0u128;
    let parts = Parts {
        standing: Standing { reign, local: None },
        recovered: Recovered { environments: vec![old], ..Recovered::default() },
        record: Arc::new(Memory::default()),
        clock: clock.clone(),
        new_id: Box::new(move |now| {
            number += 1;
            OperationId::from_parts(now.wall.0, number)
        }),
        news: heard,
        ways: Ways { local: None, remote: Some(orders) },
    };
    let stop = CancellationToken::new();
    let (entry, run) = nbsupervisor::entry::start(parts, stop.clone());
    assert!(
        entry.view().environments.contains_key(&env("env_old")),
        "what the record held is shown before the loop runs"
    );
    tokio::spawn(run);
    let hosts = Arc::new(Hosts::default());
    tokio::spawn(obey(hosts.clone(), sent, news.clone()));
    let hand = clock.clone();
    let room = serve(entry, None, None, Arc::new(move || hand.now())).await;
    let fleet = Fleet { room, news, clock, hosts, stop };
    for name in ["env_a", "env_b"] {
        fleet.tell(name, Report::Hello { registration: of(name).into(), instances: Vec::new() }).await;
        fleet.status_of(name, "available").await;
    }
    fleet
}

/// Does what is ordered, at once and well, unless the environment is mute.
async fn obey(hosts: Arc<Hosts>, mut sent: mpsc::Receiver<Outgoing>, news: mpsc::Sender<News>) {
    while let Some(out) = sent.recv().await {
        let Outgoing::Order(environment, slip) = out else { continue };
        if hosts.mute.lock().unwrap().contains(&environment) {
            continue;
        }
        let report = answer(&slip.order);
        if let Report::Instance(report) = &report {
            let key = (environment.clone(), report.app.to_string());
            hosts.last.lock().unwrap().insert(key, (**report).clone());
        }
        let _ = news.send(News::Report(environment, report)).await;
    }
}

fn answer(order: &Order) -> Report {
    let (phase, run) = match &order.goal {
        Goal::Remove { .. } => return Report::Removed { app: order.app.clone(), intent_seq: order.intent_seq },
        Goal::Stop => (Phase::Stopped, Run::default()),
        Goal::Run(goal) => (Phase::Running, Run { seq: goal.start_seq, attempt: 0 }),
    };
    let running = phase == Phase::Running;
    Report::Instance(Box::new(InstanceReport {
        app: order.app.clone(),
        intent_seq: order.intent_seq,
        run,
        generation: order.generation,
        phase,
        in_turn: false,
        reason: None,
        since: NOW,
        pid: running.then_some(4711),
        adapter: Adapter::Systemd,
        address: running.then_some(Address::Port(20001)),
        strip_prefix: false,
        select: None,
        restarts: 0,
        next_attempt: None,
        version: running.then(|| "1.2".into()),
        progress: None,
        last_log: vec![],
        notes: vec![],
        local: None,
        removing: false,
        upgrade: Default::default(),
    }))
}

impl Fleet {
    pub async fn tell(&self, environment: &str, report: Report) {
        self.news.send(News::Report(env(environment), report)).await.unwrap();
    }

    /// The host takes orders and says nothing.
    pub fn mute(&self, environment: &str) {
        self.hosts.mute.lock().unwrap().insert(env(environment));
    }

    /// Somebody on the host itself did something to an app; tells it as its worker would.
    pub async fn by_hand(&self, environment: &str, app: &str, local: LocalOverride) {
        let last = self.last(environment, app);
        let stopped = InstanceReport { phase: Phase::Stopped, pid: None, local: Some(local), ..last };
        self.tell(environment, Report::Instance(Box::new(stopped))).await;
    }

    /// An app reports another version of itself.
    pub async fn version(&self, environment: &str, app: &str, version: &str) {
        let report = InstanceReport { version: Some(version.into()), ..self.last(environment, app) };
        self.tell(environment, Report::Instance(Box::new(report))).await;
    }

    /// What was told of an app in answer to its last order.
    fn last(&self, environment: &str, app: &str) -> InstanceReport {
        let key = (env(environment), app.to_string());
        self.hosts.last.lock().unwrap().get(&key).cloned().unwrap()
    }

    /// Time passes; whoever is named gives a sign of life at its end, and the entry notices.
    pub async fn pass(&self, time: Duration, alive: &[&str]) {
        let mut left = time;
        while !left.is_zero() {
            // In steps: a loop that saw all of it pass at once would take it for a time in which it stood still.
            let step = left.min(Duration::from_secs(1));
            left -= step;
            self.clock.0.fetch_add(step.as_millis() as u64, Ordering::SeqCst);
            for name in alive.iter().filter(|_| left.is_zero()) {
                self.tell(name, Report::Alive).await;
            }
            // A question makes the loop turn, and with it look at its clock.
            self.room.get("/api/v1/queue").await;
        }
    }

    /// The entry stands still for so long, as a process does that is stopped.
    pub async fn stand_still(&self, time: Duration) {
        self.clock.0.fetch_add(time.as_millis() as u64, Ordering::SeqCst);
        self.room.get("/api/v1/queue").await;
    }

    pub async fn post(&self, path: &str, body: &str) -> Answer {
        self.room.ask("POST", &format!("/api/v1{path}"), &[], body).await
    }

    /// Makes an app in both environments that runs nowhere yet.
    pub async fn create(&self, name: &str) {
        let body =
            format!(r#"{{"name":"{name}","runtime":"node","start_mode":"manual","environments":["env_a","env_b"]}}"#);
        let answer = self.post("/apps", &body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }

    /// Asks until the answer is as awaited.
    pub async fn until(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let asking = async {
            loop {
                last = self.room.get(&format!("/api/v1{path}")).await.json();
                if is_so(&last) {
                    return;
                }
                crate::pause::pause(Duration::from_millis(5), "the view follows").await;
            }
        };
        let in_time = tokio::time::timeout(LIMIT, asking).await.is_ok();
        assert!(in_time, "{path} did not become what was awaited: {last}");
        last
    }

    pub async fn status_of(&self, environment: &str, status: &str) -> Value {
        let is_so = |list: &Value| {
            let all = list["environments"].as_array().unwrap();
            all.iter().any(|one| one["name"] == environment && one["status"] == status)
        };
        self.until("/environments", is_so).await;
        self.room.get(&format!("/api/v1/environments/{environment}")).await.json()
    }

    /// The instance of an app there, once it has that status.
    pub async fn instance(&self, app: &str, environment: &str, status: &str) -> Value {
        let find = |shown: &Value| {
            let all = shown["instances"].as_array().unwrap().clone();
            all.into_iter().find(|one| one["environment"] == environment && one["status"] == status)
        };
        let shown = self.until(&format!("/apps/{app}"), |shown| find(shown).is_some()).await;
        find(&shown).unwrap()
    }
}
