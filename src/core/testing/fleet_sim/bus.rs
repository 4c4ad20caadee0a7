//! What carries orders and reports between hosts, as its adapters see it: two streams, intents, beats, the entry's claim and
//! start locks; with loss, doubling, delay, bounded reordering and wipes. Scripts check who reigns, as the real ones do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::id::{EntryId, Epoch, Reign};
use crate::name::{AppId, EnvironmentName};
use crate::order::{Goal, Order, Report};
use crate::testing::random::Random;
use crate::time::Mono;

/// What is on its way to a worker.
#[derive(Debug, Clone)]
pub(super) enum Message {
    Order(Order),
    RollCall(u64),
}

/// What is on its way to the entry.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    at: Mono,
    pub(super) from: EnvironmentName,
    pub(super) session: u64,
    pub(super) number: u64,
    pub(super) report: Report,
}

#[derive(Debug, Clone)]
pub(super) struct Beat {
    pub(super) session: u64,
    pub(super) number: u64,
    until: Mono,
}

#[derive(Debug, Clone)]
struct Lock {
    reign: Reign,
    turn: u64,
    until: Mono,
}

/// The answer of `claim`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    Done { was_missing: bool },
    Other(Epoch),
    Ahead(Epoch),
}

/// The answer of `order`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Done,
    Fenced,
    Locked,
}

#[derive(Debug, Default)]
pub(super) struct Bus {
    pub(super) down: bool,
    /// Who does not reach it.
    pub(super) cut: BTreeSet<String>,
    pub(super) wipes: u64,
    pub(super) claim: Option<(Reign, u64)>,
    orders: BTreeMap<EnvironmentName, Vec<(Mono, Mono, Message)>>,
    intents: BTreeMap<(EnvironmentName, AppId), Order>,
    reports: Vec<Letter>,
    beats: BTreeMap<EnvironmentName, Beat>,
    locks: BTreeMap<AppId, Lock>,
    pub(super) environments: BTreeSet<EnvironmentName>,
}

impl Bus {
    pub(super) fn reaches(&self, who: &str) -> bool {
        !self.down && !self.cut.contains(who)
    }

    pub(super) fn wipe(&mut self) {
        let (down, cut, wipes) = (self.down, std::mem::take(&mut self.cut), self.wipes + 1);
        *self = Self { down, cut, wipes, ..Self::default() };
    }

    pub(super) fn claim(&mut self, reign: &Reign, session: u64, force: bool) -> Claim {
        if let Some((held, _)) = self.claim.as_ref().filter(|_| !force) {
            if held.entry != reign.entry {
                return Claim::Other(held.epoch);
            }
            if held.epoch > reign.epoch {
                return Claim::Ahead(held.epoch);
            }
        }
        let was_missing = self.claim.is_none();
        self.claim = Some((reign.clone(), session));
        Claim::Done { was_missing }
    }

    fn reigns(&self, reign: &Reign) -> bool {
        self.claim.as_ref().is_some_and(|(held, _)| held == reign)
    }

    pub(super) fn order(
        &mut self,
        now: Mono,
        random: &mut Random,
        calm: bool,
        to: &EnvironmentName,
        order: &Order,
        turn_timeout: Duration,
    ) -> Sent {
        if !self.reigns(&order.reign) {
            return Sent::Fenced;
        }
        if let Goal::Run(goal) = &order.goal
            && let Some(turn) = goal.turn
        {
            let held = self.locks.get(&order.app).filter(|lock| lock.until > now);
            if held.is_some_and(|lock| lock.reign.entry != order.reign.entry) {
                return Sent::Locked;
            }
            let lock = Lock { reign: order.reign.clone(), turn: turn.number, until: now.after(turn_timeout) };
            self.locks.insert(order.app.clone(), lock);
        }
        self.post(now, random, calm, to, Message::Order(order.clone()));
        Sent::Done
    }

    pub(super) fn roll_call(&mut self, now: Mono, random: &mut Random, calm: bool, to: &EnvironmentName, session: u64) {
        self.post(now, random, calm, to, Message::RollCall(session));
    }

    fn post(&mut self, now: Mono, random: &mut Random, calm: bool, to: &EnvironmentName, message: Message) {
        let copies = copies(random, calm);
        let stream = self.orders.entry(to.clone()).or_default();
        for _ in 0..copies {
            stream.push((delivery(now, random, calm), now, message.clone()));
        }
        stream.sort_by_key(|(at, _, _)| *at);
    }

    /// What has arrived for a worker, with its age.
    pub(super) fn receive(&mut self, now: Mono, who: &EnvironmentName) -> Vec<(Message, Duration)> {
        let Some(stream) = self.orders.get_mut(who) else { return Vec::new() };
        let count = stream.iter().take_while(|(at, _, _)| *at <= now).count();
        stream.drain(..count).map(|(_, issued, message)| (message, now.since(issued))).collect()
    }

    pub(super) fn intent(&mut self, reign: &Reign, to: &EnvironmentName, app: &AppId, order: Option<Order>) -> bool {
        if !self.reigns(reign) {
            return false;
        }
        let key = (to.clone(), app.clone());
        match order {
            Some(order) => _ = self.intents.insert(key, order),
            None => _ = self.intents.remove(&key),
        }
        true
    }

    pub(super) fn intents_of(&self, who: &EnvironmentName) -> Vec<Order> {
        self.intents.iter().filter(|((of, _), _)| of == who).map(|(_, order)| order.clone()).collect()
    }

    pub(super) fn unlock(&mut self, owner: &EntryId, epoch: Epoch, app: &AppId, turn: u64) {
        let ours = |lock: &Lock| lock.reign.entry == *owner && lock.reign.epoch == epoch && lock.turn == turn;
        if self.locks.get(app).is_some_and(ours) {
            self.locks.remove(app);
        }
    }

    pub(super) fn beat(&mut self, now: Mono, who: &EnvironmentName, session: u64, number: u64) {
        self.environments.insert(who.clone());
        let until = now.after(Duration::from_secs(13));
        self.beats.insert(who.clone(), Beat { session, number, until });
    }

    pub(super) fn beats(&mut self, now: Mono) -> Vec<(EnvironmentName, Beat)> {
        self.beats.retain(|_, beat| beat.until > now);
        self.beats.iter().map(|(who, beat)| (who.clone(), beat.clone())).collect()
    }

    pub(super) fn report(
        &mut self,
        now: Mono,
        random: &mut Random,
        calm: bool,
        (from, session, number): (&EnvironmentName, u64, u64),
        report: Report,
    ) {
        for _ in 0..copies(random, calm) {
            let at = delivery(now, random, calm);
            self.reports.push(Letter { at, from: from.clone(), session, number, report: report.clone() });
        }
        self.reports.sort_by_key(|letter| letter.at);
    }

    pub(super) fn read_reports(&mut self, now: Mono) -> Vec<Letter> {
        let count = self.reports.iter().take_while(|letter| letter.at <= now).count();
        self.reports.drain(..count).collect()
    }

    /// When something arrives next.
    pub(super) fn next_arrival(&self, now: Mono) -> Option<Mono> {
        let orders = self.orders.values().flatten().map(|(at, _, _)| *at);
        orders.chain(self.reports.iter().map(|letter| letter.at)).filter(|at| *at > now).min()
    }
}

fn copies(random: &mut Random, calm: bool) -> usize {
    match random.below(40) {
        _ if calm => 1,
        0 => 0,
        1 => 2,
        _ => 1,
    }
}

/// Most things arrive at once and in order; some are late, and overtaken.
fn delivery(now: Mono, random: &mut Random, calm: bool) -> Mono {
    let late = match random.below(30) {
        _ if calm => 2,
        0 => random.below(15_000),
        1..=3 => random.below(500),
        _ => 2,
    };
    now.after(Duration::from_millis(late))
}
