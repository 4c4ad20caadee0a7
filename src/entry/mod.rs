//! The entry: keeps the record, decides on commands, grants turns, and shows what is.
//!
//! This file is the handle that the other rooms hold; `run.rs` is the loop behind it.

mod mirror;
mod outbox;
mod run;
mod versions;
mod view;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use nbs_core::command::EnvironmentCommand;
use nbs_core::command::{Command, Denied, Verdict};
use nbs_core::fleet::{Fleet, Standing};
use nbs_core::id::OperationId;
use nbs_core::name::AppId;
use nbs_core::record::Recovered;
use nbs_core::view::{AppView, OperationView, QueueView};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::ports::{Clock, News, Outgoing, Record, RecordError, Word};

pub use mirror::mirror;
pub use run::NewId;
pub use versions::Versions;
pub use view::FleetView;

/// Why a command got no verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// More commands wait than may; try again.
    #[error("too many commands are waiting to be decided")]
    Busy,
    /// The record could not be written; nothing was changed.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The daemon is ending.
    #[error("the daemon is stopping")]
    Stopping,
}

/// What the handle asks of the loop.
#[derive(Debug)]
pub enum Request {
    /// Decide.
    Submit(Box<Command>, oneshot::Sender<Result<Verdict, SubmitError>>),
    /// Decide about an environment.
    Govern(EnvironmentCommand, oneshot::Sender<Result<Option<Denied>, SubmitError>>),
    /// A visitor came for an app.
    Wake(AppId),
    /// Tell the start queue.
    Queue(oneshot::Sender<Vec<QueueView>>),
}

/// Who waits for a change of which app or operation.
#[derive(Debug, Default)]
struct Waiters {
    apps: Mutex<HashMap<AppId, Vec<oneshot::Sender<()>>>>,
    operations: Mutex<HashMap<OperationId, Vec<oneshot::Sender<()>>>>,
    events: tokio::sync::Notify,
}

/// The way to the entry. Cheap to clone.
#[derive(Clone)]
pub struct EntryHandle {
    requests: mpsc::Sender<Request>,
    view: Arc<ArcSwap<FleetView>>,
    waiters: Arc<Waiters>,
    record: Arc<dyn Record>,
}

/// The loop's end of a handle: what was asked, and the one way to show what is.
pub struct Desk {
    /// What the handles asked.
    pub requests: mpsc::Receiver<Request>,
    view: Arc<ArcSwap<FleetView>>,
    waiters: Arc<Waiters>,
}

/// A handle and its desk; `depth` requests may wait. For the loop, and for tests of rooms that hold a handle.
pub fn desk(record: Arc<dyn Record>, depth: usize) -> (EntryHandle, Desk) {
    let (sender, requests) = mpsc::channel(depth);
    let view = Arc::new(ArcSwap::from_pointee(FleetView::default()));
    let waiters = Arc::new(Waiters::default());
    let desk = Desk { requests, view: view.clone(), waiters: waiters.clone() };
    (EntryHandle { requests: sender, view, waiters, record }, desk)
}

/// Where orders go.
pub struct Ways {
    /// To the worker of this daemon, if it has one.
    pub local: Option<mpsc::Sender<Word>>,
    /// To environments on other hosts, if there may be any.
    pub remote: Option<mpsc::Sender<Outgoing>>,
}

/// Everything an entry is made of.
pub struct Parts {
    /// Who it is.
    pub standing: Standing,
    /// What the record held.
    pub recovered: Recovered,
    /// The record.
    pub record: Arc<dyn Record>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Makes operation IDs.
    pub new_id: NewId,
    /// What it hears.
    pub news: mpsc::Receiver<News>,
    /// Where orders go.
    pub ways: Ways,
}

/// Requests that may wait for the loop. 20 clients with 100 commands each fit; more are answered `Busy`.
const REQUESTS_WAITING_MAX: usize = 4096;

/// Makes an entry: the handle, which shows from the first moment what the record held, and the loop to be spawned by the
/// caller.
pub fn start(parts: Parts, shutdown: CancellationToken) -> (EntryHandle, impl Future<Output = ()> + Send) {
    let (handle, desk) = desk(parts.record.clone(), REQUESTS_WAITING_MAX);
    let local = parts.standing.local.clone();
    let fleet = Fleet::new(parts.standing, parts.recovered, parts.clock.now());
    let mut entry = run::Loop {
        fleet,
        local,
        desk,
        news: parts.news,
        outbox: outbox::Outbox::new(parts.ways),
        held: Vec::new(),
        uncommitted: false,
        record: parts.record,
        clock: parts.clock,
        new_id: parts.new_id,
        view: FleetView::default(),
        lazy: run::Lazy::default(),
    };
    // Not by the loop: a visitor may come before it has begun, and would be told that there is no such app.
    entry.publish();
    (handle, entry.run(shutdown))
}

impl Desk {
    /// Shows a new snapshot and wakes those who wait for what changed in it.
    pub fn publish(&self, view: FleetView, apps: &[AppId], operations: &[OperationId], events: bool) {
        self.view.store(Arc::new(view));
        self.waiters.fire(apps, operations);
        if events {
            self.waiters.events.notify_waiters();
        }
    }
}

impl EntryHandle {
    /// The present snapshot.
    pub fn view(&self) -> Arc<FleetView> {
        self.view.load_full()
    }

    /// The record, for history.
    pub fn record(&self) -> &dyn Record {
        &*self.record
    }

    /// Has a command decided. `Ok(Accepted)` means: committed to the record.
    ///
    /// # Errors
    /// No verdict was reached, and nothing was changed.
    pub async fn submit(&self, command: Command) -> Result<Verdict, SubmitError> {
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(Request::Submit(Box::new(command), reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SubmitError::Busy,
            mpsc::error::TrySendError::Closed(_) => SubmitError::Stopping,
        })?;
        match answer.await.map_err(|_| SubmitError::Stopping)?? {
            Verdict::Repeated(id) => self.repeated(id).await,
            verdict => Ok(verdict),
        }
    }

    /// Has a command about an environment decided. `Ok(None)` means: committed to the record.
    ///
    /// # Errors
    /// No verdict was reached, and nothing was changed.
    pub async fn govern(&self, command: EnvironmentCommand) -> Result<Option<Denied>, SubmitError> {
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(Request::Govern(command, reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SubmitError::Busy,
            mpsc::error::TrySendError::Closed(_) => SubmitError::Stopping,
        })?;
        answer.await.map_err(|_| SubmitError::Stopping)?
    }

    /// The operation of an earlier, equal request, from memory or from the record.
    async fn repeated(&self, id: OperationId) -> Result<Verdict, SubmitError> {
        let seen = self.view.load().operations.get(&id).map(|operation| OperationView::clone(operation));
        let known = match seen {
            Some(operation) => Some(operation),
            None => self.record.operation(id).await?,
        };
        Ok(known.map_or(Verdict::Denied(Denied::KeySpent(id)), Verdict::Accepted))
    }

    /// Says that a visitor waits for an app. Many calls are one; a full queue drops it, as the next visitor asks again.
    pub fn wake(&self, app: &AppId) {
        let _ = self.requests.try_send(Request::Wake(app.clone()));
    }

    /// The start queue, in the order of service.
    pub async fn queue(&self) -> Vec<QueueView> {
        let (reply, answer) = oneshot::channel();
        match self.requests.send(Request::Queue(reply)).await {
            Ok(()) => answer.await.unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    /// Waits until `done` says yes to an app's view (`None`: no such app), or the time is over; returns the last view.
    pub async fn wait_app(
        &self,
        app: &AppId,
        limit: Duration,
        mut done: impl FnMut(Option<&AppView>) -> bool,
    ) -> Option<Arc<AppView>> {
        let deadline = tokio::time::sleep(limit);
        tokio::pin!(deadline);
        loop {
            let changed = self.waiters.app(app);
            let seen = self.view.load().apps.get(app).cloned();
            if done(seen.as_deref()) {
                return seen;
            }
            tokio::select! {
                _ = changed => {}
                () = &mut deadline => return seen,
            }
        }
    }

    /// Waits until an operation has ended, or the time is over; returns the last view, `None` if there is no such one.
    pub async fn wait_operation(&self, id: OperationId, limit: Duration) -> Option<Arc<OperationView>> {
        let deadline = tokio::time::sleep(limit);
        tokio::pin!(deadline);
        loop {
            let changed = self.waiters.operation(id);
            let seen = self.view.load().operations.get(&id).cloned()?;
            if seen.status.has_ended() {
                return Some(seen);
            }
            tokio::select! {
                _ = changed => {}
                () = &mut deadline => return Some(seen),
            }
        }
    }

    /// Resolves when there may be new events. Take the future, then read the view, then await it.
    pub fn events_changed(&self) -> impl Future<Output = ()> + '_ {
        self.waiters.events.notified()
    }
}

impl Waiters {
    fn fire(&self, apps: &[AppId], operations: &[OperationId]) {
        let mut waiting = self.apps.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let fired: Vec<_> = apps.iter().filter_map(|app| waiting.remove(app)).collect();
        drop(waiting);
        let mut waiting = self.operations.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let ended: Vec<_> = operations.iter().filter_map(|id| waiting.remove(id)).collect();
        drop(waiting);
        for waiter in fired.into_iter().chain(ended).flatten() {
            let _ = waiter.send(());
        }
    }

    fn app(&self, app: &AppId) -> oneshot::Receiver<()> {
        register(&self.apps, app.clone())
    }

    fn operation(&self, id: OperationId) -> oneshot::Receiver<()> {
        register(&self.operations, id)
    }
}

fn register<K: std::hash::Hash + Eq>(
    waiting: &Mutex<HashMap<K, Vec<oneshot::Sender<()>>>>,
    key: K,
) -> oneshot::Receiver<()> {
    let (fire, fired) = oneshot::channel();
    let mut waiting = waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let list = waiting.entry(key).or_default();
    list.retain(|other| !other.is_closed());
    list.push(fire);
    fired
}
