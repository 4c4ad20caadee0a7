//! The entry's brain: commands in, verdicts and orders out; reports in, views out.
//!
//! Memory is what the record holds (apps, operations, keys) plus what can be heard again (reports). A command is decided
//! in three steps: `decide` changes memory and says what to commit; the shell commits; on failure `undo` takes it back.
//! Only then `settle` derives what follows: requests for turns, grants, orders. Everything it derives, it can derive
//! again at any time (level-triggered), so nothing is lost with memory. Deliberately absent: how orders travel.

mod decide;
mod observe;
mod settle;
mod show;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::admission::Admission;
use crate::id::{Epoch, OperationId, Seq};
use crate::ledger::Ledger;
use crate::limits;
use crate::name::{AppId, EnvironmentName};
use crate::order::{InstanceReport, Order, Registration};
use crate::record::{AppLife, AppRow, Change, KeyRow, OperationRow, Recovered};
use crate::time::{Mono, Now};
use crate::view::{EventView, Priority};

pub use decide::{Decision, Undo};

/// What the entry knows of one app.
#[derive(Debug, Clone)]
struct App {
    row: AppRow,
    /// Boxed for the same reason as apps are: most have one place, and a node has room for eleven.
    placed: BTreeMap<EnvironmentName, Box<Placed>>,
    /// Who waits for the next start, while one is wanted.
    priority: Priority,
}

/// An app in one environment, as last heard.
#[derive(Debug, Clone, Default)]
struct Placed {
    report: Option<Arc<InstanceReport>>,
    heard: Now,
    sent: Option<Sent>,
    /// Nothing of it is left there.
    gone: bool,
}

/// The last order, until a report answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sent {
    intent_seq: Seq,
    with_turn: bool,
    at: Mono,
}

/// What the entry knows of one environment.
#[derive(Debug, Clone)]
struct Place {
    registration: Arc<Registration>,
    heard: Now,
    available: bool,
}

/// What follows from settling.
#[derive(Debug, Clone, Default)]
pub struct Settled {
    /// To be sent, in this order.
    pub orders: Vec<(EnvironmentName, Order)>,
    /// To be committed.
    pub changes: Vec<Change>,
}

/// What changed since the last look, for readers.
#[derive(Debug, Clone, Default)]
pub struct Touched {
    /// Apps whose view is other than before, or gone.
    pub apps: BTreeSet<AppId>,
    /// Operations whose view is other than before, or no longer in memory.
    pub operations: BTreeSet<OperationId>,
    /// New events, oldest first.
    pub events: Vec<EventView>,
    /// Whether any environment changed.
    pub environments: bool,
}

/// The entry's brain.
#[derive(Debug, Clone)]
pub struct Fleet {
    epoch: Epoch,
    /// Boxed: a half-empty node of the map would hold several times what its apps need.
    apps: BTreeMap<AppId, Box<App>>,
    places: BTreeMap<EnvironmentName, Place>,
    ledger: Ledger,
    keys: HashMap<(String, String), KeyRow>,
    queue: Admission,
    seq: Seq,
    event_seq: u64,
    boot: Option<String>,
    /// Apps that `settle` must look at.
    unsettled: BTreeSet<AppId>,
    /// Orders that no report has answered yet.
    unanswered: BTreeSet<(Mono, AppId, EnvironmentName)>,
    touched: Touched,
}

impl Fleet {
    /// An entry that goes on from its record.
    pub fn new(epoch: Epoch, recovered: Recovered, now: Now) -> Self {
        let event_seq = recovered.events.last().map_or(0, |event| event.seq);
        let mut fleet = Self {
            epoch,
            apps: BTreeMap::new(),
            places: BTreeMap::new(),
            ledger: Ledger::default(),
            keys: HashMap::new(),
            queue: Admission::default(),
            seq: recovered.seq,
            event_seq,
            boot: recovered.boot,
            unsettled: BTreeSet::new(),
            unanswered: BTreeSet::new(),
            touched: Touched { events: recovered.events, ..Touched::default() },
        };
        for row in recovered.apps {
            fleet.unsettled.insert(row.spec.name.clone());
            fleet.put_app(row);
        }
        for row in recovered.operations {
            fleet.ledger.add(row, now.mono);
        }
        for key in recovered.keys {
            fleet.keys.insert((key.actor.clone(), key.key.clone()), key);
        }
        fleet
    }

    /// When it wants to be settled next, if nothing else happens.
    pub fn next_deadline(&self, now: Now) -> Option<Mono> {
        let resend = self.unanswered.first().map(|(at, _, _)| *at);
        [resend, self.queue.next_deadline(now.mono), self.ledger.next_deadline()].into_iter().flatten().min()
    }

    /// What changed for readers since the last call.
    pub fn take_touched(&mut self) -> Touched {
        let mut touched = std::mem::take(&mut self.touched);
        touched.operations.append(&mut self.ledger.take_touched());
        touched
    }

    fn put_app(&mut self, row: AppRow) {
        let name = row.spec.name.clone();
        self.touched.apps.insert(name.clone());
        let places = row.spec.environments.iter().map(|environment| (environment.clone(), Box::default()));
        match self.apps.get_mut(&name) {
            Some(app) => {
                for (environment, placed) in places {
                    app.placed.entry(environment).or_insert(placed);
                }
                app.row = row;
            }
            None => {
                let placed = places.collect();
                self.apps.insert(name, Box::new(App { row, placed, priority: Priority::Operator }));
            }
        }
    }

    fn next_seq(&mut self) -> Seq {
        self.seq = self.seq.next();
        self.seq
    }

    /// Makes an event: one row for the record, one line for readers.
    fn event(
        &mut self,
        now: Now,
        kind: &str,
        subject: (Option<&AppId>, Option<&EnvironmentName>),
        message: String,
        operation: Option<OperationId>,
    ) -> Change {
        self.event_seq += 1;
        let event = EventView {
            seq: self.event_seq,
            at: now.wall,
            app: subject.0.cloned(),
            environment: subject.1.cloned(),
            kind: kind.to_string(),
            message,
            operation,
        };
        self.touched.events.push(event.clone());
        if self.touched.events.len() > 2 * limits::EVENTS_IN_MEMORY {
            self.touched.events.drain(..limits::EVENTS_IN_MEMORY);
        }
        Change::Event(Box::new(event))
    }

    /// An app that is there or on its way out; not one whose name alone remains.
    fn living(&self, name: &AppId) -> Option<&App> {
        self.apps.get(name).map(|app| &**app).filter(|app| app.row.life != AppLife::Removed)
    }
}

/// Whether an operation waits for an app to run.
fn wants_run(row: &OperationRow) -> bool {
    use crate::command::ActionKind::{Create, Restart, Start};
    matches!(row.view.action, Create | Start | Restart)
}
