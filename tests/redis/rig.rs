//! An entry and workers, as far as the bus is concerned: their loops are played by the test.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nbs_core::fleet::{Bus, IntentNote};
use nbs_core::id::{EntryId, Epoch, Generation, Reign, Run, Seq};
use nbs_core::name::{AppId, EnvironmentName, RuntimeName};
use nbs_core::order::{Goal, InstanceReport, Order, Registration, Report, RunGoal, RuntimeSummary, Turn};
use nbs_core::phase::Phase;
use nbs_core::recipe::{Adapter, Listen};
use nbs_core::secret::SecretText;
use nbs_core::spec::{AppSpec, Hosting, Limits, ProxyChoice, ProxySettings, StartMode};
use nbs_core::time::Wall;
use nbsupervisor::clock::SystemClock;
use nbsupervisor::ports::{Clock, News, OrderSlip, Outgoing, Word};
use nbsupervisor::redis_bus::worker::{Tenure, UsageSource};
use nbsupervisor::redis_bus::{Server, Servers, entry, worker};
use nbsupervisor::security::{FleetKey, KeyFile};
use nbsupervisor::wire::redis::{HostUsage, Usage};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::pause::pause;

/// Nothing here takes longer on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(30);

/// The fleet's keys. Two with the same text are the same.
pub fn fleet(text: &str) -> FleetKey {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("fleet.key");
    let hex: String = text.bytes().cycle().take(32).map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(&file, format!("fleet = \"{hex}\"\n")).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    match KeyFile::read(&file).unwrap() {
        KeyFile::Fleet(key) => key,
        KeyFile::Worker(_) => unreachable!(),
    }
}

pub const FLEET: &str = "a fleet of tests";

pub fn servers(url: &str) -> Servers {
    let server = Server::new(url, None, None).unwrap();
    Servers { cache: server.clone(), command: server }
}

pub fn environment(name: &str) -> EnvironmentName {
    EnvironmentName::parse(name).unwrap()
}

pub fn app(name: &str) -> AppId {
    AppId::parse(name).unwrap()
}

pub fn reign(entry: &str, epoch: u64) -> Reign {
    Reign { epoch: Epoch(epoch), entry: EntryId::parse(entry).unwrap() }
}

/// An entry.
pub struct EntrySide {
    pub handle: entry::Handle,
    pub outgoing: mpsc::Sender<Outgoing>,
    news: mpsc::Receiver<News>,
    heard: VecDeque<News>,
    pub reign: Reign,
    clock: SystemClock,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl EntrySide {
    pub fn start(url: &str, id: &str, epoch: u64) -> Self {
        Self::start_at(servers(url), id, epoch)
    }

    pub fn start_at(servers: Servers, id: &str, epoch: u64) -> Self {
        let (outgoing, out) = mpsc::channel(64);
        let (sender, news) = mpsc::channel(64);
        let stop = CancellationToken::new();
        let clock = SystemClock::new();
        let options = entry::Options { servers, version: "0.1.0".into(), address: format!("{id}.example") };
        let parts = entry::Parts {
            fleet: fleet(FLEET),
            reign: reign(id, epoch),
            environments: vec![environment("env_a")].into_iter().collect(),
            outgoing: out,
            news: sender,
            clock: Arc::new(clock),
        };
        let (handle, work) = entry::start(options, parts, stop.clone()).unwrap();
        let task = Some(tokio::spawn(work));
        Self { handle, outgoing, news, heard: VecDeque::new(), reign: reign(id, epoch), clock, stop, task }
    }

    /// The next news that fit; what came before them is passed over.
    pub async fn hears<T>(&mut self, what: &str, mut fits: impl FnMut(&News) -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        loop {
            let news = match self.heard.pop_front() {
                Some(news) => Some(news),
                None => tokio::time::timeout_at(deadline, self.news.recv())
                    .await
                    .unwrap_or_else(|_| panic!("the entry did not hear within {LIMIT:?}: {what}")),
            };
            let news = news.expect("the entry's side ended");
            if let Some(found) = fits(&news) {
                return found;
            }
        }
    }

    pub async fn hears_bus(&mut self, bus: Bus) {
        self.hears(&format!("{bus:?}"), |news| matches!(news, News::Bus(heard) if *heard == bus).then_some(())).await;
    }

    pub async fn hears_hello(&mut self, env: &str) -> (Registration, Vec<InstanceReport>) {
        self.hears(&format!("hello of {env}"), |news| match news {
            News::Report(from, Report::Hello { registration, instances }) if *from == environment(env) => {
                Some(((**registration).clone(), instances.clone()))
            }
            _ => None,
        })
        .await
    }

    pub async fn hears_instance(&mut self, env: &str, name: &str) -> InstanceReport {
        self.hears(&format!("{name} in {env}"), |news| match news {
            News::Report(from, Report::Instance(report)) if *from == environment(env) && report.app == app(name) => {
                Some((**report).clone())
            }
            _ => None,
        })
        .await
    }

    pub async fn hears_alive(&mut self, env: &str) {
        let is_alive =
            |news: &News| matches!(news, News::Report(from, Report::Alive) if *from == environment(env)).then_some(());
        self.hears(&format!("that {env} is alive"), is_alive).await;
    }

    /// Everything that comes in this time.
    pub async fn hears_for(&mut self, length: Duration) -> Vec<News> {
        let deadline = Instant::now() + length;
        let mut all: Vec<News> = self.heard.drain(..).collect();
        while let Ok(Some(news)) = tokio::time::timeout_at(deadline, self.news.recv()).await {
            all.push(news);
        }
        all
    }

    pub async fn order(&self, env: &str, order: Order) {
        let slip = OrderSlip { order, sent: self.clock.now().mono };
        self.outgoing.send(Outgoing::Order(environment(env), slip)).await.unwrap();
    }

    pub async fn intent(&self, env: &str, name: &str, order: Option<Order>) {
        let note = IntentNote { environment: environment(env), app: app(name), order };
        self.outgoing.send(Outgoing::Intent(note)).await.unwrap();
    }

    /// It ends, as an entry that is killed: nothing is said to anybody.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            task.await.unwrap();
        }
    }
}

impl Drop for EntrySide {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Figures that a test measures anew by adding one.
struct Figures(watch::Sender<u64>);

impl UsageSource for Figures {
    fn usage(&self) -> Option<Usage> {
        let host = HostUsage { cpu_percent: Some(12.5), memory_bytes: Some(1 << 30), ..HostUsage::default() };
        Some(Usage { at_ms: 0, host, apps: BTreeMap::default() })
    }

    fn measured(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// A worker whose loop answers `Tell` with what the test gave it.
pub struct WorkerSide {
    pub handle: worker::Handle,
    pub reports: mpsc::Sender<News>,
    words: mpsc::Receiver<Word>,
    pub name: EnvironmentName,
    /// What it has.
    pub instances: Arc<Mutex<Vec<InstanceReport>>>,
    /// How often its host was measured.
    pub measured: watch::Sender<u64>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
    pump: JoinHandle<()>,
}

impl WorkerSide {
    pub fn start(url: &str, env: &str, owner: &str) -> Self {
        Self::start_at(servers(url), env, owner, None)
    }

    pub fn start_at(servers: Servers, env: &str, owner: &str, follows: Option<Reign>) -> Self {
        let (sender, mut heard) = mpsc::channel(64);
        let (words_sender, words) = mpsc::channel(1024);
        let (reports, from) = mpsc::channel(64);
        let (stop, measured) = (CancellationToken::new(), watch::Sender::new(0));
        let options = worker::Options {
            servers,
            owner: owner.into(),
            host: format!("{owner}.example"),
            version: "0.1.0".into(),
            heartbeat: Duration::from_secs(120),
        };
        let parts = worker::Parts {
            key: fleet(FLEET).worker(&environment(env)),
            follows,
            words: sender,
            reports: from,
            usage: Arc::new(Figures(measured.clone())),
            clock: Arc::new(SystemClock::new()),
        };
        let (handle, work) = worker::start(options, parts, stop.clone());
        let task = Some(tokio::spawn(work));
        let instances: Arc<Mutex<Vec<InstanceReport>>> = Arc::default();
        let (has, name, back) = (instances.clone(), environment(env), reports.clone());
        let pump = tokio::spawn(async move {
            while let Some(word) = heard.recv().await {
                if matches!(word, Word::Tell) {
                    let instances = has.lock().unwrap().clone();
                    let hello = Report::Hello { registration: registration(&name).into(), instances };
                    let _ = back.send(News::Report(name.clone(), hello)).await;
                }
                let _ = words_sender.send(word).await;
            }
        });
        Self { handle, reports, words, name: environment(env), instances, measured, stop, task, pump }
    }

    /// The next order.
    pub async fn ordered(&mut self) -> OrderSlip {
        self.hears("an order", |word| match word {
            Word::Order(slip) => Some(slip),
            _ => None,
        })
        .await
    }

    pub async fn intended(&mut self) -> Order {
        self.hears("an intent", |word| match word {
            Word::Intent(order) => Some(order),
            _ => None,
        })
        .await
    }

    pub async fn hears<T>(&mut self, what: &str, mut fits: impl FnMut(Word) -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        loop {
            let word = tokio::time::timeout_at(deadline, self.words.recv()).await;
            let word = word.unwrap_or_else(|_| panic!("the worker did not hear within {LIMIT:?}: {what}"));
            if let Some(found) = fits(word.expect("the worker's side ended")) {
                return found;
            }
        }
    }

    /// Everything that comes in this time.
    pub async fn hears_for(&mut self, length: Duration) -> Vec<Word> {
        let deadline = Instant::now() + length;
        let mut all = Vec::new();
        while let Ok(Some(word)) = tokio::time::timeout_at(deadline, self.words.recv()).await {
            all.push(word);
        }
        all
    }

    pub async fn tenure(&self, what: &str, fits: impl Fn(&Tenure) -> bool) -> Tenure {
        let mut tenure = self.handle.tenure();
        let found = tokio::time::timeout(LIMIT, tenure.wait_for(|tenure| fits(tenure))).await;
        match found {
            Ok(found) => found.unwrap().clone(),
            Err(_) => panic!("not within {LIMIT:?}: {what}; it is {:?}", *self.handle.tenure().borrow()),
        }
    }

    pub async fn holds(&self) -> u64 {
        match self.tenure("it holds the environment", |tenure| matches!(tenure, Tenure::Held { .. })).await {
            Tenure::Held { epoch } => epoch,
            _ => unreachable!(),
        }
    }

    pub async fn report(&self, report: InstanceReport) {
        self.reports.send(News::Report(self.name.clone(), Report::Instance(Box::new(report)))).await.unwrap();
    }

    /// It ends, as one that is killed.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            task.await.unwrap();
        }
    }

    pub async fn ended(&mut self) {
        let task = self.task.take().unwrap();
        tokio::time::timeout(LIMIT, task).await.expect("it ends by itself").unwrap();
    }
}

impl Drop for WorkerSide {
    fn drop(&mut self) {
        self.stop.cancel();
        self.pump.abort();
    }
}

pub fn registration(name: &EnvironmentName) -> Registration {
    let runtime = RuntimeName::parse("web").unwrap();
    let summary = RuntimeSummary {
        name: runtime.clone(),
        description: String::new(),
        adapter: Adapter::Process,
        listen: Listen::Port,
        strip_prefix: true,
        max_limits: Limits::default(),
        paths: Default::default(),
        app_id_pattern: None,
        secrets_needed: Vec::new(),
        needs_database: false,
        turn_timeout: Duration::from_secs(30),
        shared: None,
        upgrade_timeout: None,
    };
    Registration {
        environment: name.clone(),
        version: "0.1.0".into(),
        boot: "boot".into(),
        concurrent_starts: 2,
        runtimes: BTreeMap::from([(runtime, summary)]),
        host: "host".into(),
        url: Some("http://127.0.0.1:1".into()),
        proxy_url: None,
        capacity: None,
        databases: Default::default(),
        follows: None,
    }
}

pub fn spec(name: &str) -> AppSpec {
    AppSpec {
        name: app(name),
        title: None,
        runtime: RuntimeName::parse("web").unwrap(),
        hosting: Hosting::Dedicated,
        environments: vec![environment("env_a")].into_iter().collect(),
        start_mode: StartMode::WithSupervisor,
        env: BTreeMap::new(),
        secrets: BTreeMap::from([("MAIL".into(), SecretText::new("mail-secret"))]),
        database: None,
        limits: Limits::default(),
        proxy: ProxySettings { choice: ProxyChoice::Required, hold_timeout: None },
        labels: BTreeMap::new(),
        placements: BTreeMap::new(),
        auto_upgrade: false,
    }
}

pub fn run(reign: &Reign, name: &str, seq: u64, turn: Option<u64>) -> Order {
    let turn = turn.map(|number| Turn { accept_by: Duration::from_secs(10), number });
    let goal = RunGoal {
        start_seq: Seq(seq),
        spec: spec(name).into(),
        jwt: SecretText::new("jwt-secret"),
        db_secret: SecretText::new(""),
        upgrade_seq: Seq(0),
        installed: None,
        turn,
    };
    Order {
        app: app(name),
        reign: reign.clone(),
        generation: Generation(1),
        intent_seq: Seq(seq),
        goal: Goal::Run(goal),
    }
}

pub fn instance(name: &str, seq: u64, phase: Phase) -> InstanceReport {
    InstanceReport {
        app: app(name),
        intent_seq: Seq(seq),
        run: Run { seq: Seq(seq), attempt: 0 },
        generation: Generation(1),
        phase,
        in_turn: false,
        reason: None,
        since: Wall(1),
        pid: Some(7),
        adapter: Adapter::Process,
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
    }
}

/// The lines that were logged by this test's thread.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Takes up what is logged from now on, until the guard goes.
    pub fn take() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// How many lines hold these words.
    pub fn count(&self, words: &str) -> usize {
        self.text().lines().filter(|line| line.contains(words)).count()
    }
}

/// Asks until it is so.
pub async fn until(what: &str, mut ask: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + LIMIT;
    loop {
        match ask() {
            Ok(()) => return,
            Err(last) if Instant::now() >= deadline => panic!("not within {LIMIT:?}: {what}; last seen: {last}"),
            Err(_) => pause(Duration::from_millis(20), "between two looks").await,
        }
    }
}

/// Writes a file that only its owner may read.
pub fn private(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap();
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}
