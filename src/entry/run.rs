//! The entry's loop: take what has come → decide → commit what was accepted → answer → derive orders → show.
//!
//! A command is answered only when it is in the record; when it cannot be written it is taken back and nothing of it
//! remains. What merely tells how things went (ends of operations, events) is written with the next commit or after
//! `LAZY_DELAY`: should it be lost, it is found out again from the reports. Deliberately absent: decisions.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use nbs_core::command::{Denied, EnvironmentAction, EnvironmentCommand, Verdict};
use nbs_core::fleet::{Fleet, Touched, Undo};
use nbs_core::id::OperationId;
use nbs_core::limits;
use nbs_core::name::{AppId, EnvironmentName};
use nbs_core::order::Order;
use nbs_core::record::Change;
use nbs_core::time::{Mono, Now};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::entry::outbox::Outbox;
use crate::entry::{Desk, FleetView, Request, SubmitError};
use crate::ports::{Clock, News, Record, RecordError};

/// Inputs taken in one turn; see the worker's loop.
const TURN_MAX: usize = 256;
/// How long the end of an operation or an event may wait to be written.
const LAZY_DELAY: Duration = Duration::from_millis(100);
/// With other hosts the loop comes round so often at least, so that it knows when it stood still.
const ROUND: Duration = Duration::from_secs(1);
/// A pause that lasts so much longer than it should was one of the whole process, or of its host.
const STOOD_STILL: Duration = Duration::from_secs(2);
/// Pause between attempts to write a record that could not be written.
const RETRY: Duration = Duration::from_secs(1);

type Reply = oneshot::Sender<Result<Verdict, SubmitError>>;

/// Makes operation IDs.
pub type NewId = Box<dyn FnMut(Now) -> OperationId + Send>;

/// Everything the loop holds.
pub(super) struct Loop {
    pub(super) fleet: Fleet,
    pub(super) local: Option<EnvironmentName>,
    pub(super) desk: Desk,
    pub(super) news: mpsc::Receiver<News>,
    pub(super) outbox: Outbox,
    /// Orders that wait for the record to hold their turns.
    pub(super) held: Vec<(EnvironmentName, Order)>,
    /// Whether turns were granted that the record does not hold yet.
    pub(super) uncommitted: bool,
    pub(super) record: Arc<dyn Record>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) new_id: NewId,
    pub(super) view: FleetView,
    pub(super) lazy: Lazy,
}

/// What may be written later.
#[derive(Default)]
pub(super) struct Lazy {
    /// Rows that a commit refused and that hold whatever becomes of the commands beside them.
    rows: Vec<Change>,
    operations: BTreeMap<OperationId, Change>,
    events: VecDeque<Change>,
    due: Option<Mono>,
    told: bool,
}

/// Answers a command. Whoever asked may have gone, and boot-time decisions have nobody: then nobody is told.
fn answer(reply: Option<Reply>, verdict: Result<Verdict, SubmitError>) {
    if let Some(reply) = reply {
        let _ = reply.send(verdict);
    }
}

/// A command that is decided and not yet committed.
struct Pending {
    reply: Option<Reply>,
    verdict: Verdict,
    undo: Undo,
}

enum Heard {
    Request(Request),
    News(News),
    Tick,
}

impl Loop {
    /// Runs until the daemon ends.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let now = self.clock.now();
            let wake = [self.fleet.next_deadline(now), self.lazy.due].into_iter().flatten().min();
            let longest = if self.outbox.goes_far() { ROUND } else { Duration::from_secs(3600) };
            let pause = wake.map_or(longest, |at| at.since(now.mono)).min(longest);
            let mut heard = Vec::new();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(news) = self.news.recv() => heard.push(Heard::News(news)),
                () = self.outbox.ready() => {
                    self.outbox.send(now.mono);
                    continue;
                }
                Some(request) = self.desk.requests.recv() => heard.push(Heard::Request(request)),
                () = tokio::time::sleep(pause) => heard.push(Heard::Tick),
            }
            let late = self.clock.now().mono.since(now.mono).saturating_sub(pause);
            if late > STOOD_STILL {
                self.fleet.stood_still(late);
            }
            while heard.len() < TURN_MAX {
                match self.news.try_recv() {
                    Ok(news) => heard.push(Heard::News(news)),
                    Err(_) => break,
                }
            }
            while heard.len() < TURN_MAX {
                match self.desk.requests.try_recv() {
                    Ok(request) => heard.push(Heard::Request(request)),
                    Err(_) => break,
                }
            }
            self.turn(heard).await;
        }
        self.flush(Vec::new()).await.ok();
    }

    async fn turn(&mut self, heard: Vec<Heard>) {
        let now = self.clock.now();
        let (mut changes, mut decided, mut questions) = (Vec::new(), Vec::new(), Vec::new());
        let mut requests = Vec::new();
        for heard in heard {
            match heard {
                Heard::News(news) => changes.extend(self.observe(now, news)),
                Heard::Request(request) => requests.push(request),
                Heard::Tick => {}
            }
        }
        self.lazy.take(&mut changes, now.mono);
        let facts = changes;
        let mut commands = Vec::new();
        let mut governing = Vec::new();
        for request in requests {
            match request {
                Request::Queue(reply) => questions.push(reply),
                Request::Govern(command, reply) => governing.push((command, reply)),
                Request::Wake(app) => {
                    let id = (self.new_id)(now);
                    let decision = self.fleet.wake(now, &app, id);
                    decided.extend(decision.map(|decision| (None, decision)));
                }
                Request::Submit(command, reply) => {
                    let decision = self.fleet.decide(now, &command);
                    decided.push((Some(reply), decision));
                }
            }
        }
        let pending: Vec<Pending> = decided
            .into_iter()
            .map(|(reply, decision)| {
                commands.extend(decision.changes);
                Pending { reply, verdict: decision.verdict, undo: decision.undo }
            })
            .collect();
        self.conclude(now, facts, commands, pending).await;
        for (command, reply) in governing {
            let verdict = self.govern(now, &command).await;
            // Whoever asked may have gone.
            let _ = reply.send(verdict);
        }
        let settled = self.fleet.settle(now);
        let mut rest = settled.changes;
        self.lazy.take(&mut rest, now.mono);
        for note in settled.intents {
            self.outbox.intent(note);
        }
        for (app, number) in settled.ended_turns {
            self.outbox.turn_ended(app, number);
        }
        self.send(now, settled.urgent, settled.orders).await;
        self.publish();
        for reply in questions {
            let _ = reply.send(self.fleet.queue_view(now));
        }
        if self.lazy.is_due(now.mono) || !rest.is_empty() {
            self.flush(rest).await.ok();
        }
    }

    /// What was heard may raise the reign: then every other side is told, before anything else is sent.
    fn observe(&mut self, now: Now, news: News) -> Vec<Change> {
        let before = self.fleet.reign().clone();
        let changes = self.take_up(now, news);
        if *self.fleet.reign() != before {
            self.outbox.reign(self.fleet.reign().clone());
        }
        changes
    }

    fn take_up(&mut self, now: Now, news: News) -> Vec<Change> {
        match news {
            News::Report(environment, report) => {
                let new_id = &mut self.new_id;
                self.fleet.observe(now, &environment, report, &mut || new_id(now))
            }
            News::Bus(bus) => self.fleet.bus(now, bus),
            News::Proxy(environment, result) => {
                self.fleet.proxied(&environment, result);
                Vec::new()
            }
        }
    }

    /// Decides about an environment: verdict, commit, and only then what follows.
    async fn govern(&mut self, now: Now, command: &EnvironmentCommand) -> Result<Option<Denied>, SubmitError> {
        let governed = match self.fleet.govern(now, command) {
            Ok(governed) => governed,
            Err(denied) => return Ok(Some(denied)),
        };
        if !governed.changes.is_empty() {
            self.flush(governed.changes.clone()).await.map_err(SubmitError::Record)?;
        }
        let mut follows = self.fleet.conclude(now, governed);
        if command.action == EnvironmentAction::Forget {
            self.outbox.forgotten(command.environment.clone());
        }
        self.lazy.take(&mut follows, now.mono);
        if !follows.is_empty() && self.flush(follows.clone()).await.is_err() {
            self.lazy.rows.extend(follows);
        }
        Ok(None)
    }

    /// Commits and answers. What cannot be committed is taken back, last decision first.
    async fn conclude(&mut self, now: Now, facts: Vec<Change>, commands: Vec<Change>, pending: Vec<Pending>) {
        let must_write = !facts.is_empty() || !commands.is_empty();
        let all = facts.iter().cloned().chain(commands).collect();
        let written = if must_write { self.flush(all).await } else { Ok(()) };
        match written {
            Ok(()) => {
                // Seen before the answer arrives: who asks right after it finds what was accepted.
                self.publish();
                for Pending { reply, verdict, .. } in pending {
                    answer(reply, Ok(verdict));
                }
            }
            Err(error) => {
                self.lazy.rows.extend(facts);
                for Pending { reply, undo, .. } in pending.into_iter().rev() {
                    self.fleet.undo(now, undo);
                    answer(reply, Err(SubmitError::Record(error.clone())));
                }
            }
        }
    }

    /// Writes changes together with everything that waited.
    async fn flush(&mut self, changes: Vec<Change>) -> Result<(), RecordError> {
        let mut all = self.lazy.drain();
        let lazy = all.clone();
        all.extend(changes);
        if all.is_empty() {
            return Ok(());
        }
        let written = self.record.commit(all).await;
        match &written {
            Ok(()) if std::mem::take(&mut self.lazy.told) => tracing::info!("the record can be written again"),
            Ok(()) => {}
            Err(error) => {
                if !std::mem::replace(&mut self.lazy.told, true) {
                    tracing::error!(%error, "the record cannot be written; commands are refused, apps run on");
                }
                let mut lazy = lazy;
                self.lazy.take(&mut lazy, self.clock.now().mono);
                self.lazy.rows.splice(..0, lazy);
                self.lazy.due = Some(self.clock.now().mono.after(RETRY));
            }
        }
        written
    }

    /// Sends orders; those of this moment only when what they rest on is committed.
    async fn send(&mut self, now: Now, urgent: Vec<Change>, orders: Vec<(EnvironmentName, Order)>) {
        self.held.extend(orders);
        if !urgent.is_empty() {
            self.lazy.rows.extend(urgent);
            self.uncommitted = true;
        }
        if self.uncommitted {
            if self.flush(Vec::new()).await.is_err() {
                return;
            }
            self.uncommitted = false;
        }
        for (environment, order) in std::mem::take(&mut self.held) {
            let is_local = self.local.as_ref() == Some(&environment);
            self.outbox.order(&environment, order, is_local, now.mono);
        }
        self.outbox.send(now.mono);
    }

    /// Shows what changed since the last time.
    pub(super) fn publish(&mut self) {
        let now = self.clock.now();
        let Touched { apps, operations, events, environments } = self.fleet.take_touched();
        let read_only = self.fleet.read_only();
        let standing = self.view.read_only.as_deref() != read_only;
        if standing {
            self.view.read_only = read_only.map(Into::into);
        }
        if !standing && apps.is_empty() && operations.is_empty() && events.is_empty() && environments.is_empty() {
            return;
        }
        for name in &apps {
            self.view.show_app(name.clone(), self.fleet.app_view(now, name));
        }
        for id in &operations {
            match self.fleet.operation_view(*id) {
                Some(view) => _ = self.view.operations.insert(*id, Arc::new(view)),
                None => _ = self.view.operations.remove(id),
            }
        }
        self.view.show_environments(environments.into_iter().map(|name| {
            let view = self.fleet.environment_view(now, &name);
            (name, view)
        }));
        let fresh = !events.is_empty();
        self.view.events.extend(events.into_iter().map(Arc::new));
        while self.view.events.len() > limits::EVENTS_IN_MEMORY {
            self.view.events.pop_front();
        }
        let (apps, operations): (Vec<AppId>, Vec<OperationId>) =
            (apps.into_iter().collect(), operations.into_iter().collect());
        self.desk.publish(self.view.clone(), &apps, &operations, fresh);
    }
}

impl Lazy {
    /// Takes out of `changes` what may wait.
    fn take(&mut self, changes: &mut Vec<Change>, now: Mono) {
        for change in std::mem::take(changes) {
            match change {
                Change::Operation(row) if row.view.status.has_ended() => {
                    self.operations.insert(row.view.id, Change::Operation(row));
                }
                Change::Event(event) => {
                    self.events.push_back(Change::Event(event));
                    // A record that cannot be written for long keeps the newest events.
                    while self.events.len() > 2 * limits::EVENTS_IN_MEMORY {
                        self.events.pop_front();
                    }
                }
                other => changes.push(other),
            }
        }
        if self.due.is_none() && !(self.operations.is_empty() && self.events.is_empty()) {
            self.due = Some(now.after(LAZY_DELAY));
        }
    }

    fn drain(&mut self) -> Vec<Change> {
        self.due = None;
        let (rows, operations) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.operations));
        rows.into_iter().chain(operations.into_values()).chain(std::mem::take(&mut self.events)).collect()
    }

    fn is_due(&self, now: Mono) -> bool {
        self.due.is_some_and(|due| due <= now)
    }
}
