//! Sends orders and intents: of several for one place only the newest, and nothing while another entry reigns.
//!
//! Bounded by the number of places. An order that waited longer than its turn may last is dropped: nobody would take it
//! up, and the fleet orders again. Deliberately absent: whether an order arrived; the fleet waits for the report.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nbs_core::id::Reign;
use nbs_core::limits;
use nbs_core::name::{AppId, EnvironmentName};
use nbs_core::order::{Goal, Order, RunGoal};
use redis::Cmd;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::ports::{OrderSlip, Outgoing};
use crate::redis_bus::entry::shared::Shared;
use crate::redis_bus::scripts::{Answer, INTENT_SCRIPT, ORDER_SCRIPT, Script, UNLOCK_SCRIPT};
use crate::redis_bus::trouble::{Cause, Trouble};
use crate::redis_bus::{BATCH, keys};
use crate::security::envelope::SignedKind;
use crate::wire::envelope::Address;
use crate::wire::redis::{StartLock, write_intent, write_order, write_start_lock};

/// Pause before what another entry's start lock stopped is tried again.
const LOCKED_PAUSE: Duration = Duration::from_secs(1);

type Place = (EnvironmentName, AppId);

#[derive(Default)]
struct Outbox {
    orders: BTreeMap<Place, OrderSlip>,
    intents: BTreeMap<Place, Option<Order>>,
    unlocks: BTreeMap<AppId, (Reign, u64)>,
    forgotten: BTreeSet<EnvironmentName>,
}

/// A call that is ready to be sent: the script, its keys and its arguments.
struct Call {
    script: &'static Script,
    keys: Vec<String>,
    arguments: Vec<String>,
}

impl Call {
    fn cmd(&self) -> Cmd {
        let (keys, arguments) = self.borrowed();
        self.script.call(&keys, &arguments)
    }

    fn borrowed(&self) -> (Vec<&str>, Vec<&str>) {
        (self.keys.iter().map(String::as_str).collect(), self.arguments.iter().map(String::as_str).collect())
    }
}

pub(super) async fn run(shared: &Shared, mut outgoing: mpsc::Receiver<Outgoing>, shutdown: &CancellationToken) {
    let mut outbox = Outbox::default();
    let mut standing = shared.standing.subscribe();
    let mut pause = Duration::ZERO;
    loop {
        let reigns = standing.borrow_and_update().reigns;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            out = outgoing.recv() => match out {
                Some(out) => outbox.take(shared, out),
                None => return,
            },
            _ = standing.changed() => {
                pause = Duration::ZERO;
                continue;
            }
            () = tokio::time::sleep(pause), if reigns && !outbox.is_empty() => {}
        }
        while let Ok(out) = outgoing.try_recv() {
            outbox.take(shared, out);
        }
        if !shared.standing.borrow().reigns {
            continue;
        }
        pause = match outbox.flush(shared).await {
            Ok(()) => LOCKED_PAUSE,
            Err(_) => shared.links.command.pause().await,
        };
    }
}

impl Outbox {
    fn is_empty(&self) -> bool {
        self.orders.is_empty() && self.intents.is_empty() && self.unlocks.is_empty() && self.forgotten.is_empty()
    }

    fn take(&mut self, shared: &Shared, out: Outgoing) {
        match out {
            Outgoing::Order(environment, slip) => {
                self.orders.insert((environment, slip.order.app.clone()), slip);
            }
            Outgoing::Intent(note) => {
                self.intents.insert((note.environment, note.app), note.order);
            }
            Outgoing::TurnEnded { app, number } => {
                // A start that was not sent yet must not come after its own end.
                self.orders.retain(|(_, other), slip| *other != app || turn(&slip.order) != Some(number));
                self.unlocks.insert(app, (shared.standing().reign, number));
            }
            Outgoing::Reign(reign) => shared.standing.send_modify(|standing| standing.reign = reign),
            Outgoing::Forgotten(environment) => {
                self.orders.retain(|(other, _), _| *other != environment);
                self.intents.retain(|(other, _), _| *other != environment);
                shared.forget(&environment);
                self.forgotten.insert(environment);
            }
        }
    }

    /// Sends what there is; what could not be sent stays.
    async fn flush(&mut self, shared: &Shared) -> Result<(), Trouble> {
        self.drop_old(shared);
        self.unlock(shared).await?;
        self.send_orders(shared).await?;
        self.send_intents(shared).await?;
        self.forget(shared).await
    }

    fn drop_old(&mut self, shared: &Shared) {
        let (now, reign) = (shared.time.mono(), shared.standing().reign);
        self.orders.retain(|_, slip| {
            let in_time = turn(&slip.order).is_none() || now.since(slip.sent) <= limits::ACCEPT_BY;
            in_time && slip.order.reign == reign
        });
        // Intents of an earlier reign of this entry were published again when it ended.
        self.intents.retain(|_, order| order.as_ref().is_none_or(|order| order.reign == reign));
    }

    async fn unlock(&mut self, shared: &Shared) -> Result<(), Trouble> {
        while let Some((app, (reign, number))) = self.unlocks.first_key_value().map(|(a, b)| (a.clone(), b.clone())) {
            let (epoch, number) = (reign.epoch.to_string(), number.to_string());
            let arguments = [reign.entry.as_str(), &epoch, &number];
            UNLOCK_SCRIPT.run(&shared.links.command, &[&keys::start_lock(&app)], &arguments).await?;
            self.unlocks.remove(&app);
        }
        Ok(())
    }

    async fn send_orders(&mut self, shared: &Shared) -> Result<(), Trouble> {
        let mut after = None;
        loop {
            let next = self.orders.iter().filter(|(place, _)| after.as_ref().is_none_or(|after| *place > after));
            let batch: Vec<(Place, OrderSlip)> = next.take(BATCH).map(|(p, slip)| (p.clone(), slip.clone())).collect();
            let Some((last, _)) = batch.last() else { return Ok(()) };
            after = Some(last.clone());
            let calls = batch.into_iter().filter_map(|(place, slip)| match order_call(shared, &place.0, &slip) {
                Ok(call) => Some((place, call)),
                Err(why) => {
                    tracing::error!(environment = %place.0, app = %place.1, "an order cannot be sent: {why}");
                    self.orders.remove(&place);
                    None
                }
            });
            let calls: Vec<(Place, Call)> = calls.collect();
            for (place, answer) in send(shared, calls).await? {
                // 3: another entry's start is not over; it is tried again.
                if answer.code == 1 {
                    self.orders.remove(&place);
                }
            }
        }
    }

    async fn send_intents(&mut self, shared: &Shared) -> Result<(), Trouble> {
        loop {
            let batch: Vec<(Place, Option<Order>)> =
                self.intents.iter().take(BATCH).map(|(place, order)| (place.clone(), order.clone())).collect();
            if batch.is_empty() {
                return Ok(());
            }
            let mut calls = Vec::new();
            for (place, order) in batch {
                match intent_call(shared, &place, order.as_ref()) {
                    Ok(call) => calls.push((place, call)),
                    Err(why) => {
                        tracing::error!(environment = %place.0, app = %place.1, "an intent cannot be kept: {why}");
                        self.intents.remove(&place);
                    }
                }
            }
            for (place, answer) in send(shared, calls).await? {
                if answer.code == 1 {
                    self.intents.remove(&place);
                }
            }
        }
    }

    async fn forget(&mut self, shared: &Shared) -> Result<(), Trouble> {
        while let Some(environment) = self.forgotten.first().cloned() {
            let names = keys::EnvironmentKeyNames::of(&environment);
            shared.links.command.ask(redis::cmd("DEL").arg(&names.orders).arg(&names.intents)).await?;
            let own = [names.lease, names.epoch, names.registration, names.heartbeat, names.usage];
            shared.links.cache.ask(redis::cmd("DEL").arg(&own)).await?;
            let mut cmd = redis::cmd("SREM");
            shared.links.cache.ask(cmd.arg(keys::ENVIRONMENTS).arg(environment.as_str())).await?;
            self.forgotten.remove(&environment);
        }
        Ok(())
    }
}

fn turn(order: &Order) -> Option<u64> {
    match &order.goal {
        Goal::Run(RunGoal { turn: Some(turn), .. }) => Some(turn.number),
        _ => None,
    }
}

fn order_call(shared: &Shared, environment: &EnvironmentName, slip: &OrderSlip) -> Result<Call, String> {
    let order = &slip.order;
    let names = keys::EnvironmentKeyNames::of(environment);
    let body = write_order(order, &shared.keys(environment)).map_err(|error| error.to_string())?;
    let (to, issued) = (Address::One(environment.clone()), shared.time.at(slip.sent));
    let message = shared.sign(&order.reign, to, SignedKind::Order, issued, body).map_err(|error| error.to_string())?;
    let mut keys = vec![keys::ENTRY.to_string(), names.orders];
    let (owner, epoch) = (order.reign.entry.as_str().to_string(), order.reign.epoch.to_string());
    let mut arguments = vec![owner, epoch, keys::ORDERS_KEPT.to_string(), message];
    if let Goal::Run(goal @ RunGoal { turn: Some(turn), .. }) = &order.goal {
        let (owner, epoch) = (order.reign.entry.clone(), order.reign.epoch);
        let lock = StartLock { owner, epoch, turn: turn.number, environment: environment.clone() };
        let lock = write_start_lock(&lock).map_err(|error| error.to_string())?;
        let lasts = shared.turn_of(environment, goal);
        keys.push(keys::start_lock(&order.app));
        arguments.extend([lock, lasts.as_millis().to_string()]);
    }
    Ok(Call { script: &ORDER_SCRIPT, keys, arguments })
}

fn intent_call(shared: &Shared, (environment, app): &Place, order: Option<&Order>) -> Result<Call, String> {
    let reign = order.map_or_else(|| shared.standing().reign, |order| order.reign.clone());
    let message = match order {
        None => String::new(),
        Some(order) => {
            let body = write_intent(order, &shared.keys(environment)).map_err(|error| error.to_string())?;
            let (to, now) = (Address::One(environment.clone()), shared.time.now());
            shared.sign(&reign, to, SignedKind::Intent, now, body).map_err(|error| error.to_string())?
        }
    };
    let keys = vec![keys::ENTRY.to_string(), keys::EnvironmentKeyNames::of(environment).intents];
    let arguments = vec![reign.entry.as_str().to_string(), reign.epoch.to_string(), app.to_string(), message];
    Ok(Call { script: &INTENT_SCRIPT, keys, arguments })
}

/// Sends calls in one go. An answer that this entry does not reign, or that Redis was wiped, has the claim looked at and
/// ends the round.
async fn send(shared: &Shared, calls: Vec<(Place, Call)>) -> Result<Vec<(Place, Answer)>, Trouble> {
    let commands: Vec<Cmd> = calls.iter().map(|(_, call)| call.cmd()).collect();
    let results = shared.links.command.ask_all(&commands).await?;
    let mut answers = Vec::new();
    for ((place, call), result) in calls.into_iter().zip(results) {
        let answer = match result {
            Ok(value) => Answer::read(&value)?,
            Err(trouble) if trouble.cause == Cause::NoScript => {
                let (keys, arguments) = call.borrowed();
                call.script.run(&shared.links.command, &keys, &arguments).await?
            }
            Err(trouble) => return Err(trouble),
        };
        if matches!(answer.code, 0 | 2) {
            shared.standing.send_if_modified(|standing| std::mem::replace(&mut standing.reigns, false));
            shared.claim.notify_one();
            return Err(Trouble::new(Cause::Other, format!("entry {} does not reign", shared.entry())));
        }
        answers.push((place, answer));
    }
    Ok(answers)
}
