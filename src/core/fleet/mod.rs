//! The entry's brain: commands in, verdicts and orders out; reports in, views out.
//!
//! Memory is what the record holds (apps, operations, keys) plus what can be heard again (reports). A command is decided
//! in three steps: `decide` changes memory and says what to commit; the shell commits; on failure `undo` takes it back.
//! Only then `settle` derives what follows: requests for turns, grants, orders. Everything it derives, it can derive
//! again at any time (level-triggered), so nothing is lost with memory. Deliberately absent: how orders travel.

mod boot;
mod database;
mod decide;
mod govern;
mod observe;
mod presence;
mod progress;
mod relocate;
mod residents;
mod settle;
mod show;
mod told;
mod upgrade;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::admission::Admission;
use crate::id::{OperationId, Reign, Seq};
use crate::lease::Lease;
use crate::ledger::Ledger;
use crate::limits;
use crate::name::{AppId, EnvironmentName};
use crate::order::{InstanceReport, Order, Registration};
use crate::record::{AppLife, AppRow, Change, GrantRow, KeyRow, OperationRow, Recovered};
use crate::time::{Mono, Now};
use crate::view::{EventView, Presence, Priority};

use residents::Residents;

pub use decide::{Decision, Undo};
pub use govern::Governed;
pub use presence::Bus;

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
    draining: bool,
    /// It has told all it has since this entry began.
    listed: bool,
    lease: Lease,
    /// What readers were last told of it.
    told: Presence,
    proxy: Option<Result<(), String>>,
}

/// Who this entry is.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Its fencing token.
    pub reign: Reign,
    /// Its own environment, which needs no lease; none where it hosts no apps.
    pub local: Option<EnvironmentName>,
}

/// What follows from settling.
#[derive(Debug, Clone, Default)]
pub struct Settled {
    /// To be committed before the orders are sent.
    pub urgent: Vec<Change>,
    /// To be sent, in this order.
    pub orders: Vec<(EnvironmentName, Order)>,
    /// What should be in environments other than the entry's own, where that is other than before.
    pub intents: Vec<IntentNote>,
    /// Turns that have ended, with their numbers.
    pub ended_turns: Vec<(AppId, u64)>,
    /// To be committed.
    pub changes: Vec<Change>,
}

/// What should be of an app in one environment: an order without a turn, or nothing any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntentNote {
    /// Where.
    pub environment: EnvironmentName,
    /// Which app.
    pub app: AppId,
    /// What should be.
    pub order: Option<Order>,
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
    /// Environments whose view is other than before, or that are gone.
    pub environments: BTreeSet<EnvironmentName>,
}

/// The entry's brain.
#[derive(Debug, Clone)]
pub struct Fleet {
    standing: Standing,
    /// Why this entry may not decide: another one reigns.
    read_only: Option<String>,
    /// Since when the entry hears nothing from elsewhere; none: it hears.
    deaf: Option<Mono>,
    /// Boxed: a half-empty node of the map would hold several times what its apps need.
    apps: BTreeMap<AppId, Box<App>>,
    residents: Residents,
    places: BTreeMap<EnvironmentName, Place>,
    /// Environments that were heard since their presence was looked at.
    heard: BTreeSet<EnvironmentName>,
    /// Before this moment no presence changes by time alone. A sign of life moves its end on and leaves this as it is: there
    /// are hundreds of them a second in a large fleet.
    presence_due: Option<Mono>,
    ledger: Ledger,
    keys: HashMap<(String, String), KeyRow>,
    queue: Admission,
    seq: Seq,
    /// The highest number that the record held when this entry began.
    recovered_seq: Seq,
    event_seq: u64,
    boot: Option<String>,
    /// Turns of apps with several environments that the record holds.
    grants: BTreeMap<AppId, GrantRow>,
    /// Instances that the entry does not know, and has said so of.
    strangers: BTreeSet<(EnvironmentName, AppId)>,
    /// What should be, where readers elsewhere have not been told yet.
    unpublished: BTreeSet<(EnvironmentName, AppId)>,
    /// Apps that `settle` must look at.
    unsettled: BTreeSet<AppId>,
    /// Orders that no report has answered yet.
    unanswered: BTreeSet<(Mono, AppId, EnvironmentName)>,
    touched: Touched,
}

impl Fleet {
    /// An entry that goes on from its record.
    pub fn new(standing: Standing, recovered: Recovered, now: Now) -> Self {
        let event_seq = recovered.events.last().map_or(0, |event| event.seq);
        let mut fleet = Self {
            standing,
            read_only: None,
            deaf: None,
            apps: BTreeMap::new(),
            residents: Residents::default(),
            places: BTreeMap::new(),
            heard: BTreeSet::new(),
            presence_due: Some(now.mono),
            ledger: Ledger::default(),
            keys: HashMap::new(),
            queue: Admission::default(),
            seq: recovered.seq,
            recovered_seq: recovered.seq,
            event_seq,
            boot: recovered.boot,
            grants: BTreeMap::new(),
            strangers: BTreeSet::new(),
            unpublished: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            unanswered: BTreeSet::new(),
            touched: Touched { events: recovered.events, ..Touched::default() },
        };
        for row in recovered.environments {
            let heard = Now { mono: now.mono, wall: row.heard_at };
            let place = Place {
                registration: Arc::new(row.registration),
                heard,
                draining: row.draining,
                listed: false,
                lease: Lease::awaited(now.mono),
                told: Presence::Awaited,
                proxy: None,
            };
            fleet.touched.environments.insert(row.name.clone());
            fleet.places.insert(row.name, place);
        }
        for row in recovered.apps {
            fleet.unsettled.insert(row.spec.name.clone());
            fleet.put_app(row);
        }
        for row in recovered.operations {
            fleet.ledger.add(row, now.mono);
        }
        // A turn of the reign before may still be in use: it goes on for as long as a turn may last.
        for grant in recovered.grants {
            let timeout = fleet.turn_timeout(&grant.app, &grant.environment);
            fleet.queue.adopt((grant.app.clone(), grant.environment.clone()), grant.start_seq, timeout, now.mono);
            fleet.grants.insert(grant.app.clone(), grant);
        }
        for key in recovered.keys {
            fleet.keys.insert((key.actor.clone(), key.key.clone()), key);
        }
        fleet
    }

    /// When it wants to be settled next, if nothing else happens.
    pub fn next_deadline(&self, now: Now) -> Option<Mono> {
        let resend = self.unanswered.first().map(|(at, _, _)| *at);
        let own = [resend, self.queue.next_deadline(now.mono), self.ledger.next_deadline(), self.presence_due];
        own.into_iter().flatten().min()
    }

    /// What changed for readers since the last call.
    pub fn take_touched(&mut self) -> Touched {
        let mut touched = std::mem::take(&mut self.touched);
        touched.operations.append(&mut self.ledger.take_touched());
        touched.environments.append(&mut self.residents.take_touched());
        touched
    }

    fn put_app(&mut self, row: AppRow) {
        let name = row.spec.name.clone();
        self.touched.apps.insert(name.clone());
        let places = row.placements.iter().map(|placement| (placement.environment.clone(), Box::default()));
        for placement in &row.placements {
            self.unpublished.insert((placement.environment.clone(), name.clone()));
        }
        let lives = row.life != AppLife::Removed;
        match self.apps.get_mut(&name) {
            Some(app) => {
                for (environment, placed) in places {
                    app.placed.entry(environment).or_insert(placed);
                }
                app.placed.retain(|environment, _| {
                    let stays = row.placement(environment).is_some();
                    match stays && lives {
                        true => self.residents.enter(environment, &name),
                        false => self.residents.leave(environment, &name),
                    }
                    stays
                });
                app.row = row;
            }
            None => {
                let placed: BTreeMap<_, _> = places.collect();
                placed.keys().filter(|_| lives).for_each(|environment| self.residents.enter(environment, &name));
                self.apps.insert(name, Box::new(App { row, placed, priority: Priority::Operator }));
            }
        }
    }

    /// Nothing of an app is known any more, not even that it once was.
    fn drop_app(&mut self, name: &AppId) {
        let Some(app) = self.apps.remove(name) else { return };
        app.placed.keys().for_each(|environment| self.residents.leave(environment, name));
    }

    /// Whether an environment is this daemon's own.
    fn is_local(&self, environment: &EnvironmentName) -> bool {
        self.standing.local.as_ref() == Some(environment)
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
    use crate::command::ActionKind::{Create, Move, Restart, RotateSecret, Start, Upgrade};
    matches!(row.view.action, Create | Start | Restart | Upgrade | RotateSecret | Move)
}
