//! A machine, a bus to its systemd, and what was heard of it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use zbus::Variant;

use crate::bus::{Bus, BusError, Event, JobResult, Scope};
use crate::machine::{Machine, Suite};
use crate::pause::pause;
use crate::snapshot::Changed;

/// Nothing here takes longer on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What the events said, put together.
#[derive(Debug, Default)]
pub struct Heard {
    pub connected: usize,
    pub disconnected: usize,
    pub units: BTreeMap<String, Changed>,
    pub gone: BTreeSet<String>,
}

pub struct Rig {
    // In this order: the bus before its machine.
    pub bus: Bus,
    pub heard: Arc<Mutex<Heard>>,
    pub machine: Machine,
}

/// Where a machine's bus is, seen from here.
pub fn address(machine: &Machine) -> String {
    format!("unix:path=/proc/{}/root/run/dbus/system_bus_socket", machine.init())
}

/// The same for our room.
pub fn scope(machine: &Machine) -> Scope {
    Scope::At(address(machine))
}

pub type Properties = Vec<(&'static str, Variant<'static>)>;

/// A service that runs this.
pub fn service(kind: &'static str, command: &[&str]) -> Properties {
    let argv: Vec<String> = command.iter().map(ToString::to_string).collect();
    vec![
        ("Type", kind.into()),
        ("ExecStart", vec![(argv[0].clone(), argv, false)].into()),
        ("Slice", "nbsupervisor-apps.slice".into()),
        ("NotifyAccess", "all".into()),
        ("TimeoutStopUSec", 5_000_000_u64.into()),
    ]
}

pub fn sleeper() -> Properties {
    service("exec", &["/bin/sleep", "infinity"])
}

/// Asks until the answer is `Ok`.
pub async fn eventually<T, F: Future<Output = Result<T, String>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        match ask().await {
            Ok(value) => return value,
            Err(last) if Instant::now() > deadline => panic!("not within {LIMIT:?}: {what}; last seen: {last}"),
            Err(_) => pause(Duration::from_millis(10), "between two looks at a fact").await,
        }
    }
}

impl Rig {
    pub async fn new(suite: Suite) -> Self {
        let machine = Machine::boot(suite);
        let (events, mut taken) = mpsc::channel(16);
        let heard = Arc::new(Mutex::new(Heard::default()));
        let bus = Bus::open(scope(&machine), events);
        let ear = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Some(event) = taken.recv().await {
                let mut heard = ear.lock().unwrap();
                match event {
                    Event::Connected => heard.connected += 1,
                    Event::Disconnected => heard.disconnected += 1,
                    Event::Changed { unit, changed } => heard.units.entry(unit).or_default().merge(changed),
                    Event::Gone { unit } => drop(heard.gone.insert(unit)),
                }
            }
        });
        let rig = Self { bus, heard, machine };
        rig.connected(1).await;
        rig
    }

    /// Waits until it was connected so often.
    pub async fn connected(&self, times: usize) {
        eventually("connected", || async {
            let seen = self.heard.lock().unwrap().connected;
            if seen >= times && self.bus.is_connected() { Ok(()) } else { Err(format!("{seen} times")) }
        })
        .await;
    }

    /// Waits until this was heard of a unit.
    pub async fn hears(&self, unit: &str, fits: impl Fn(&Changed) -> bool) -> Changed {
        eventually(unit, || async {
            let heard = self.heard.lock().unwrap();
            let changed = heard.units.get(unit).cloned().unwrap_or_default();
            if fits(&changed) { Ok(changed) } else { Err(format!("{changed:?}")) }
        })
        .await
    }

    /// Starts a unit and waits for the end of the job.
    pub async fn run(&self, unit: &str, properties: &Properties) -> JobResult {
        self.bus.start(unit, properties).await.unwrap().done().await
    }

    /// Who systemd is on its bus.
    pub fn owner(&self) -> String {
        let call = ["busctl", "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "GetNameOwner", "s"];
        self.machine.ok(&[&call[..], &["org.freedesktop.systemd1"]].concat())
    }

    /// Asks for all of these at once, but not more than `together` under way; what came of each.
    pub async fn start_all(
        &self,
        units: Vec<String>,
        properties: &Properties,
        together: usize,
    ) -> BTreeMap<String, Result<JobResult, BusError>> {
        let (turns, mut tasks) = (Arc::new(Semaphore::new(together)), JoinSet::new());
        for unit in units {
            let (bus, turns, properties) = (self.bus.clone(), Arc::clone(&turns), properties.clone());
            tasks.spawn(async move {
                let _turn = turns.acquire().await.unwrap();
                let result = match bus.start(&unit, &properties).await {
                    Ok(job) => Ok(job.done().await),
                    Err(error) => Err(error),
                };
                (unit, result)
            });
        }
        tasks.join_all().await.into_iter().collect()
    }
}

/// `nbs-test-<word>-<number>.service`.
pub fn names(word: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("nbs-test-{word}-{number}.service")).collect()
}
