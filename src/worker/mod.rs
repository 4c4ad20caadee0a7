//! The worker: carries out orders on one host and tells what is.
//!
//! This file is the handle that the other rooms hold and the way to start the worker; `run.rs` is the loop, `act.rs`
//! its hands.

mod act;
mod adapters;
mod run;

use std::collections::BTreeMap;
use std::sync::Arc;

use nbs_core::environment::{Environment, Settings};
use nbs_core::id::Reign;
use nbs_core::mirror::Mirrored;
use nbs_core::name::{AppId, RuntimeName};
use nbs_core::observation::Observation;
use nbs_core::order::LocalAction;
use nbs_core::recipe::Recipe;
use nbs_core::record::LedgerRow;
use nbs_core::time::Mono;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::ports::{Clock, DatabaseMaker, DatabaseNews, LogReader, News, ObservationSender, Prober, Record, Word};
use crate::worker::act::Hands;
use crate::worker::adapters::Logs;
use crate::worker::run::Loop;

pub use adapters::{Adapters, Host};

/// Where the worker gets its recipes from.
pub trait RecipeSource: Send + Sync + 'static {
    /// The recipes as last read.
    fn recipes(&self) -> BTreeMap<RuntimeName, Arc<Recipe>>;
}

/// What the loop listens to.
pub(crate) struct Inbox {
    observations: mpsc::Receiver<Observation>,
    words: mpsc::Receiver<Word>,
    /// Words of the handles, which have a queue of their own: no number of orders keeps a person's word out.
    locals: mpsc::Receiver<Word>,
    recipes: mpsc::Receiver<()>,
    databases: mpsc::Receiver<DatabaseNews>,
    pings: mpsc::Receiver<oneshot::Sender<()>>,
}

/// Everything a worker is made of.
pub struct Parts {
    /// What does not change.
    pub settings: Settings,
    /// Run processes or units, and commands.
    pub adapters: Adapters,
    /// Asks instances how they are.
    pub prober: Arc<dyn Prober>,
    /// Makes databases.
    pub databases: Arc<dyn DatabaseMaker>,
    /// Where it tells which servers answer.
    pub database_news: mpsc::Receiver<DatabaseNews>,
    /// The ledger.
    pub record: Arc<dyn Record>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The recipes.
    pub recipes: Arc<dyn RecipeSource>,
    /// Where adapters send what they observe, for facts that arise in the worker itself.
    pub observation_sender: ObservationSender,
    /// The other end of it.
    pub observations: mpsc::Receiver<Observation>,
    /// Orders of the entry, and what else it is told.
    pub words: mpsc::Receiver<Word>,
    /// Reports to the entry.
    pub reports: mpsc::Sender<News>,
    /// Where it shows what it has, on a host without the entry.
    pub mirror: Option<mpsc::Sender<Mirrored>>,
    /// The entry whose orders count, as the ledger remembers.
    pub follows: Option<Reign>,
}

/// Local words that may wait for the loop; more than a person types while it writes its ledger.
const LOCALS_MAX: usize = 64;

/// Why a local word was not passed on; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LocalError {
    /// Too many wait; try again.
    #[error("too many local commands are waiting for the worker")]
    Busy,
    /// The daemon is ending.
    #[error("the worker is stopping")]
    Stopping,
}

/// The way to the worker of this host. Cheap to clone.
#[derive(Clone)]
pub struct WorkerHandle {
    logs: Arc<dyn LogReader>,
    locals: mpsc::Sender<Word>,
    recipes_changed: mpsc::Sender<()>,
    pings: mpsc::Sender<oneshot::Sender<()>>,
}

impl WorkerHandle {
    /// A handle without a worker behind it, for tests of rooms that hold one.
    pub fn detached(logs: Arc<dyn LogReader>) -> Self {
        let (recipes_changed, _) = mpsc::channel(1);
        let (pings, _) = mpsc::channel(1);
        let (locals, _) = mpsc::channel(1);
        Self { logs, locals, recipes_changed, pings }
    }

    /// What apps wrote.
    pub fn logs(&self) -> &dyn LogReader {
        &*self.logs
    }

    /// The same, to keep.
    pub fn log_reader(&self) -> Arc<dyn LogReader> {
        self.logs.clone()
    }

    /// Whether the loop answers; waits until it does. `false`: it has ended.
    pub async fn ping(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.pings.send(reply).await.is_ok() && answer.await.is_ok()
    }

    /// Passes on what somebody on this host asks, past the entry. What it leads to is seen in the instance's reports.
    ///
    /// # Errors
    /// The worker takes no more at present, or is ending.
    pub fn local(&self, app: &AppId, action: LocalAction, actor: &str) -> Result<(), LocalError> {
        let word = Word::Local { app: app.clone(), action, actor: actor.to_string() };
        self.locals.try_send(word).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => LocalError::Busy,
            mpsc::error::TrySendError::Closed(_) => LocalError::Stopping,
        })
    }

    /// Says that the recipes were read again and are other than before.
    pub async fn recipes_changed(&self) {
        let _ = self.recipes_changed.send(()).await;
    }
}

/// Starts a worker: it adopts what former daemons left, reports it, and then follows orders until `shutdown`.
/// Returns when adoption is done; the future that is returned is the loop, to be spawned by the caller.
pub async fn start(
    parts: Parts,
    rows: Vec<LedgerRow>,
    same_boot: bool,
    shutdown: CancellationToken,
) -> (WorkerHandle, impl Future<Output = ()> + Send) {
    let (recipes_changed, recipes) = mpsc::channel(1);
    let (local_sender, locals) = mpsc::channel(LOCALS_MAX);
    let logs = Arc::new(Logs::new(parts.adapters.clone()));
    for row in &rows {
        let host = row.made_in.as_ref().and_then(nbs_core::shared::host_of);
        logs.runs(&row.app, row.adapter, host.as_ref());
    }
    let (ping_sender, pings) = mpsc::channel(1);
    let environment = parts.settings.places.environment.clone();
    let brain = Environment::new(parts.settings, parts.recipes.recipes(), rows, parts.follows);
    let mut worker = Loop {
        brain,
        hands: Hands::new(parts.adapters, logs.clone(), parts.prober, parts.databases, parts.observation_sender),
        record: parts.record,
        clock: parts.clock,
        recipes: parts.recipes,
        reports: parts.reports,
        mirror: parts.mirror,
        environment,
        inbox: Inbox {
            observations: parts.observations,
            words: parts.words,
            locals,
            recipes,
            databases: parts.database_news,
            pings,
        },
        unwritten: BTreeMap::new(),
        unwritten_reign: None,
        unwritten_told: false,
        retry_at: None,
        renew_at: Mono::default(),
    };
    worker.recover(same_boot).await;
    (WorkerHandle { logs, locals: local_sender, recipes_changed, pings: ping_sender }, worker.run(shutdown))
}
