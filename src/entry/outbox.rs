//! What is to be sent and has not been taken yet: of several orders for one place only the newest.
//!
//! Bounded by the number of places, as everything here is about one. Deliberately absent: how it travels.

use std::collections::{HashMap, VecDeque};

use nbs_core::fleet::IntentNote;
use nbs_core::id::Reign;
use nbs_core::name::{AppId, EnvironmentName};
use nbs_core::order::Order;
use nbs_core::time::Mono;
use tokio::sync::mpsc;

use crate::entry::Ways;
use crate::ports::{OrderSlip, Outgoing, Word};

/// What a message to other hosts is about: a newer one about the same takes the place of one that still waits.
#[derive(Clone, PartialEq, Eq, Hash)]
enum About {
    Order(EnvironmentName, AppId),
    Intent(EnvironmentName, AppId),
    TurnEnded(AppId, u64),
    Reign,
    Forgotten(EnvironmentName),
}

impl About {
    fn of(out: &Outgoing) -> Self {
        match out {
            Outgoing::Order(environment, slip) => Self::Order(environment.clone(), slip.order.app.clone()),
            Outgoing::Intent(note) => Self::Intent(note.environment.clone(), note.app.clone()),
            Outgoing::TurnEnded { app, number } => Self::TurnEnded(app.clone(), *number),
            Outgoing::Reign(_) => Self::Reign,
            Outgoing::Forgotten(environment) => Self::Forgotten(environment.clone()),
        }
    }
}

/// Everything that waits to be sent.
pub(super) struct Outbox {
    ways: Ways,
    local: VecDeque<Order>,
    /// In the order of their first coming; each has its message in `messages`.
    remote: VecDeque<About>,
    messages: HashMap<About, Outgoing>,
}

impl Outbox {
    pub(super) fn new(ways: Ways) -> Self {
        Self { ways, local: VecDeque::new(), remote: VecDeque::new(), messages: HashMap::new() }
    }

    /// Whether there may be other hosts.
    pub(super) fn goes_far(&self) -> bool {
        self.ways.remote.is_some()
    }

    /// Takes an order; a newer one replaces an older one for the same place that was not yet sent.
    pub(super) fn order(&mut self, environment: &EnvironmentName, order: Order, is_local: bool, sent: Mono) {
        if is_local {
            match self.local.iter_mut().find(|other| other.app == order.app) {
                Some(other) => *other = order,
                None => self.local.push_back(order),
            }
            return;
        }
        self.put(Outgoing::Order(environment.clone(), OrderSlip { order, sent }));
    }

    /// Takes what should be, for those who read it elsewhere.
    pub(super) fn intent(&mut self, note: IntentNote) {
        self.put(Outgoing::Intent(note));
    }

    pub(super) fn turn_ended(&mut self, app: AppId, number: u64) {
        self.put(Outgoing::TurnEnded { app, number });
    }

    pub(super) fn reign(&mut self, reign: Reign) {
        self.put(Outgoing::Reign(reign));
    }

    pub(super) fn forgotten(&mut self, environment: EnvironmentName) {
        self.put(Outgoing::Forgotten(environment));
    }

    fn put(&mut self, out: Outgoing) {
        if self.ways.remote.is_none() {
            return;
        }
        let about = About::of(&out);
        if self.messages.insert(about.clone(), out).is_none() {
            self.remote.push_back(about);
        }
    }

    /// Sends what is taken at once. `sent`: the present moment, for the age of local orders.
    pub(super) fn send(&mut self, sent: Mono) {
        while let (Some(order), Some(way)) = (self.local.pop_front(), &self.ways.local) {
            let refused = way.try_send(Word::Order(OrderSlip { order, sent }));
            if let Err(mpsc::error::TrySendError::Full(word) | mpsc::error::TrySendError::Closed(word)) = refused {
                if let Word::Order(slip) = word {
                    self.local.push_front(slip.order);
                }
                break;
            }
        }
        while let (Some(about), Some(way)) = (self.remote.pop_front(), &self.ways.remote) {
            let Some(out) = self.messages.remove(&about) else { continue };
            let refused = way.try_send(out);
            if let Err(mpsc::error::TrySendError::Full(out) | mpsc::error::TrySendError::Closed(out)) = refused {
                self.messages.insert(about.clone(), out);
                self.remote.push_front(about);
                break;
            }
        }
    }

    /// Resolves when something that waits can be sent; never, if nothing waits.
    pub(super) async fn ready(&self) {
        let local = self.ways.local.as_ref().filter(|_| !self.local.is_empty());
        let remote = self.ways.remote.as_ref().filter(|_| !self.remote.is_empty());
        tokio::select! {
            // A closed way ends with the daemon.
            Ok(_) = reserve(local), if local.is_some() => {}
            Ok(_) = reserve(remote), if remote.is_some() => {}
            else => std::future::pending().await,
        }
    }
}

async fn reserve<T>(way: Option<&mpsc::Sender<T>>) -> Result<(), mpsc::error::SendError<()>> {
    match way {
        Some(way) => way.reserve().await.map(drop),
        None => std::future::pending().await,
    }
}
