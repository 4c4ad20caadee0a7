//! What the loops of the entry's side have in common: connections, keys, who is believed up to which number.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use nbs_core::id::{EntryId, Reign};
use nbs_core::limits;
use nbs_core::name::{AppId, EnvironmentName, RuntimeName};
use nbs_core::order::{Registration, Report, RunGoal, RuntimeSummary};
use nbs_core::view::AppView;
use tokio::sync::{Notify, mpsc, watch};

use crate::ports::{Clock, News};
use crate::redis_bus::Links;
use crate::redis_bus::alarm::Alarm;
use crate::redis_bus::clock::RedisClock;
use crate::redis_bus::entry::Options;
use crate::security::envelope::{MacKind, Session, SignedKind, mac, signed};
use crate::security::{EnvironmentKeys, FleetKey, Signer};
use crate::wire::envelope::{Address, EnvelopeError};
use crate::wire::redis::{Usage, write_app_cache};

/// Figures that are older say nothing.
const USAGE_STALE: Duration = Duration::from_secs(60);

/// Who this entry is at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) reign: Reign,
    pub(super) session: Session,
    /// Whether Redis holds this entry's claim, as far as is known.
    pub(super) reigns: bool,
}

/// Up to which number an environment is believed, by kind of message.
#[derive(Debug, Clone, Copy, Default)]
struct Believed {
    session: Session,
    beat: u64,
    report: u64,
}

pub(super) struct Shared {
    pub(super) links: Links,
    pub(super) options: Options,
    pub(super) alarm: Alarm,
    pub(super) time: RedisClock,
    pub(super) news: mpsc::Sender<News>,
    pub(super) standing: watch::Sender<Standing>,
    /// Somebody wants the claim to be looked at now.
    pub(super) claim: Notify,
    pub(super) promoting: AtomicBool,
    pub(super) signer: Signer,
    fleet: FleetKey,
    known: Mutex<BTreeSet<EnvironmentName>>,
    believed: Mutex<HashMap<EnvironmentName, Believed>>,
    turns: Mutex<HashMap<EnvironmentName, BTreeMap<RuntimeName, RuntimeSummary>>>,
    usage: ArcSwap<HashMap<EnvironmentName, Arc<Usage>>>,
    /// What of the app cache is to be written.
    shown: Mutex<BTreeMap<AppId, Option<String>>>,
}

impl Shared {
    pub(super) fn new(
        options: Options,
        fleet: FleetKey,
        reign: Reign,
        session: Session,
        known: BTreeSet<EnvironmentName>,
        news: mpsc::Sender<News>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            links: Links::new(&options.servers, "entry"),
            alarm: Alarm::default(),
            time: RedisClock::new(clock),
            news,
            standing: watch::Sender::new(Standing { reign, session, reigns: false }),
            claim: Notify::new(),
            promoting: AtomicBool::new(false),
            signer: fleet.signer(),
            fleet,
            known: Mutex::new(known),
            believed: Mutex::default(),
            turns: Mutex::default(),
            usage: ArcSwap::default(),
            shown: Mutex::default(),
            options,
        }
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    pub(super) fn keys(&self, environment: &EnvironmentName) -> EnvironmentKeys {
        self.fleet.environment(environment)
    }

    /// Signs a message of this entry. `issued_ms`: by the clock of Redis.
    pub(super) fn sign(
        &self,
        reign: &Reign,
        to: Address,
        kind: SignedKind,
        issued_ms: u64,
        body: String,
    ) -> Result<String, EnvelopeError> {
        let entry = reign.entry.as_str().to_string();
        signed::wrap(&self.signer, &signed::Message { to, kind, entry, epoch: reign.epoch, issued_ms, body })
    }

    /// Opens what a worker said under its MAC and, for beats and reports, in the present session and for the first time.
    /// What is merely old or a repetition is nothing to talk about.
    pub(super) fn believe(
        &self,
        environment: &EnvironmentName,
        kind: MacKind,
        key: &str,
        text: &str,
    ) -> Option<String> {
        let message = match mac::open(&self.keys(environment), &[kind], text) {
            Ok(message) => message,
            Err(error) => {
                self.alarm.envelope(key, &error);
                return None;
            }
        };
        let session = self.standing.borrow().session;
        if message.session != session {
            return None;
        }
        let mut believed = lock(&self.believed);
        let known = believed.entry(environment.clone()).or_default();
        if known.session != session {
            *known = Believed { session, ..Believed::default() };
        }
        let last = if kind == MacKind::Beat { &mut known.beat } else { &mut known.report };
        if message.n <= *last {
            return None;
        }
        *last = message.n;
        drop(believed);
        self.learn(environment);
        Some(message.body)
    }

    /// Opens what a worker wrote for everybody, whatever the session.
    pub(super) fn open(&self, environment: &EnvironmentName, kind: MacKind, key: &str, text: &str) -> Option<String> {
        let opened = mac::open(&self.keys(environment), &[kind], text);
        opened.map(|message| message.body).map_err(|error| self.alarm.envelope(key, &error)).ok()
    }

    /// The environments that are known to be, or to have been.
    pub(super) fn known(&self) -> Vec<EnvironmentName> {
        lock(&self.known).iter().cloned().collect()
    }

    pub(super) fn learn(&self, environment: &EnvironmentName) {
        let mut known = lock(&self.known);
        if known.len() < limits::ENVIRONMENTS_MAX && !known.contains(environment) {
            known.insert(environment.clone());
        }
    }

    pub(super) fn forget(&self, environment: &EnvironmentName) {
        lock(&self.known).remove(environment);
        lock(&self.believed).remove(environment);
        lock(&self.turns).remove(environment);
        self.usage.rcu(|usage| {
            let mut usage = HashMap::clone(usage);
            usage.remove(environment);
            usage
        });
    }

    /// Passes news on. The loop that hears them ends only with the daemon.
    pub(super) async fn tell(&self, news: News) {
        let _ = self.news.send(news).await;
    }

    /// Passes a believed report on, and keeps of it how long turns may last.
    pub(super) async fn report(&self, environment: EnvironmentName, report: Report) {
        if let Report::Hello { registration, .. } = &report {
            self.keep_turns(&environment, registration);
        }
        self.tell(News::Report(environment, report)).await;
    }

    fn keep_turns(&self, environment: &EnvironmentName, registration: &Registration) {
        let runtimes = registration.runtimes.clone();
        lock(&self.turns).insert(environment.clone(), runtimes);
    }

    /// How long the start of a goal may take there.
    pub(super) fn turn_of(&self, environment: &EnvironmentName, goal: &RunGoal) -> Duration {
        let turns = lock(&self.turns);
        let summary = turns.get(environment).and_then(|runtimes| runtimes.get(&goal.spec.runtime));
        let upgrades = goal.upgrade_seq >= goal.start_seq;
        summary.map_or(limits::START_TIMEOUT + limits::ACCEPT_BY, |summary| summary.turn_of(&goal.spec, upgrades))
    }

    /// Takes up usage, unless it is older than what is known.
    pub(super) fn take_usage(&self, heard: Vec<(EnvironmentName, Usage)>) {
        if heard.is_empty() {
            return;
        }
        let mut usage = HashMap::clone(&self.usage.load());
        for (environment, record) in heard {
            if usage.get(&environment).is_none_or(|known| known.at_ms < record.at_ms) {
                usage.insert(environment, Arc::new(record));
            }
        }
        self.usage.store(Arc::new(usage));
    }

    pub(super) fn usage(&self, environment: &EnvironmentName) -> Option<Arc<Usage>> {
        let record = self.usage.load().get(environment)?.clone();
        (self.time.since(record.at_ms) <= USAGE_STALE).then_some(record)
    }

    pub(super) fn show(&self, app: &AppId, view: Option<&AppView>) {
        // What cannot be written is not shown; nobody of ours reads it.
        lock(&self.shown).insert(app.clone(), view.and_then(|view| write_app_cache(view).ok()));
    }

    /// What of the app cache is to be written.
    pub(super) fn take_shown(&self) -> BTreeMap<AppId, Option<String>> {
        std::mem::take(&mut *lock(&self.shown))
    }

    /// It could not be written; what was shown meanwhile is newer.
    pub(super) fn put_shown_back(&self, shown: BTreeMap<AppId, Option<String>>) {
        let mut waiting = lock(&self.shown);
        for (app, text) in shown {
            waiting.entry(app).or_insert(text);
        }
    }

    pub(super) fn promote(&self) {
        self.promoting.store(true, Ordering::Relaxed);
        self.claim.notify_one();
    }

    /// The ID of this entry.
    pub(super) fn entry(&self) -> EntryId {
        self.standing.borrow().reign.entry.clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
