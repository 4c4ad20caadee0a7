//! From what should be and what is to orders: level-triggered, repeatable, in no haste.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fleet::{App, Fleet, IntentNote, Sent, Settled};
use crate::id::Seq;
use crate::limits;
use crate::name::{AppId, EnvironmentName};
use crate::order::{Goal, InstanceReport, LocalAction, Order, RunGoal, Turn};
use crate::phase::Phase;
use crate::record::{AppLife, Change, GrantRow, PlacementRow};
use crate::time::Now;
use crate::view::Presence;

/// What one instance needs.
enum Need {
    Nothing,
    Turn,
    Order(Goal),
}

impl Fleet {
    /// Derives what is to be done: requests for turns, grants, orders. Safe to call at any time, as often as one likes.
    pub fn settle(&mut self, now: Now) -> Settled {
        let mut settled = Settled { changes: self.ledger.expire(now), ..Settled::default() };
        settled.changes.extend(self.watch_leases(now));
        for (app, environment) in self.queue.expire(now.mono) {
            let message = format!("the start turn of {app} ended by its deadline");
            let change = self.event(now, "turn_expired", (Some(&app), Some(&environment)), message, None);
            settled.changes.push(change);
            self.unsettled.insert(app);
        }
        self.forget_unanswered(now);
        for app in std::mem::take(&mut self.unsettled) {
            self.settle_app(now, &app, &mut settled);
        }
        while let Some(grant) = self.next_grant(now) {
            let (app, environment) = grant.place;
            settled.urgent.extend(self.keep_grant(&app, &environment, grant.start));
            let goal = self.run_goal(&app, &environment, Some(turn(grant.number)));
            settled.orders.extend(goal.and_then(|goal| self.order(now, &app, &environment, goal)));
            settled.changes.extend(self.judge_operations(now, &app));
            self.touched.apps.insert(app);
        }
        self.end_turns(&mut settled);
        self.note_intents(&mut settled);
        settled
    }

    /// A turn of an app with several environments outlives the entry that granted it.
    fn keep_grant(&mut self, app: &AppId, environment: &EnvironmentName, start_seq: Seq) -> Option<Change> {
        self.apps.get(app).filter(|app| app.row.placements.len() > 1)?;
        let row = GrantRow { app: app.clone(), environment: environment.clone(), start_seq };
        self.grants.insert(app.clone(), row.clone());
        Some(Change::Grant(row))
    }

    fn end_turns(&mut self, settled: &mut Settled) {
        for ((app, environment), number) in self.queue.take_ended() {
            let still = self.queue.turn_of(&(app.clone(), environment.clone())).is_some();
            if !still && self.grants.get(&app).is_some_and(|grant| grant.environment == environment) {
                self.grants.remove(&app);
                settled.changes.push(Change::GrantEnd(app.clone()));
            }
            if !self.is_local(&environment) {
                settled.ended_turns.push((app, number));
            }
        }
    }

    /// What should be, for those environments that read it from elsewhere.
    fn note_intents(&mut self, settled: &mut Settled) {
        for (environment, app) in std::mem::take(&mut self.unpublished) {
            if !self.is_local(&environment) {
                let order = self.intent_order(&environment, &app);
                settled.intents.push(IntentNote { environment, app, order });
            }
        }
    }

    /// An order without a turn: what should be, for whoever missed the orders.
    fn intent_order(&self, environment: &EnvironmentName, name: &AppId) -> Option<Order> {
        let app = self.living(name)?;
        let placement = app.row.placement(environment)?;
        let goal = match app.row.life {
            AppLife::Removing { purge_data } => match self.removal(app, placement, purge_data) {
                Some(drop) => Goal::Remove { purge_data, drop },
                None => Goal::Stop,
            },
            _ if placement.leaving => Goal::Remove { purge_data: false, drop: None },
            _ if placement.intent.wants_running() && !app.is_held(placement) => {
                self.run_goal(name, environment, None)?
            }
            _ => Goal::Stop,
        };
        let (generation, intent_seq) = (app.row.generation, app.row.intent_seq);
        Some(Order { app: name.clone(), reign: self.standing.reign.clone(), generation, intent_seq, goal })
    }

    fn next_grant(&mut self, now: Now) -> Option<crate::admission::Grant> {
        if self.read_only.is_some() {
            return None;
        }
        let wanted = self.queue.environments().filter(|name| self.is_there(now, name));
        let wanted = wanted.filter_map(|name| Some((name, self.places.get(name)?)));
        let slots: BTreeMap<EnvironmentName, u32> = wanted
            .filter(|(_, place)| !place.draining)
            .map(|(name, place)| (name.clone(), place.registration.concurrent_starts))
            .collect();
        self.queue.grant(now.mono, |environment| slots.get(environment).copied())
    }

    /// Orders without an answer are sent again.
    fn forget_unanswered(&mut self, now: Now) {
        while self.unanswered.first().is_some_and(|(at, _, _)| *at <= now.mono)
            && let Some((at, app, environment)) = self.unanswered.pop_first()
        {
            let placed = self.apps.get_mut(&app).and_then(|app| app.placed.get_mut(&environment));
            if let Some(placed) = placed.filter(|placed| placed.sent.is_some_and(|sent| resend_at(sent) == at)) {
                placed.sent = None;
                self.unsettled.insert(app);
            }
        }
    }

    fn settle_app(&mut self, now: Now, name: &AppId, settled: &mut Settled) {
        settled.urgent.extend(self.advance_upgrade(now, name));
        settled.urgent.extend(self.advance_move(now, name));
        let Some(app) = self.living(name) else { return };
        let environments: Vec<EnvironmentName> = app.placed.keys().cloned().collect();
        for environment in environments {
            let place = (name.clone(), environment.clone());
            match self.need(now, name, &environment) {
                Need::Nothing => {
                    if self.queue.is_waiting(&place) {
                        self.queue.withdraw(&place);
                    }
                }
                Need::Turn => {
                    let timeout = self.turn_timeout(name, &environment);
                    let Some(app) = self.apps.get(name) else { continue };
                    let wanted = app.row.placement(&environment).map_or(Seq(0), |placement| placement.start_seq);
                    match self.queue.turn_of(&place).zip(self.queue.turn_number(&place)) {
                        // The turn is there and the order was lost: it is sent again in the same turn.
                        Some((start, number)) if start == wanted => {
                            let goal = self.run_goal(name, &environment, Some(turn(number)));
                            settled.orders.extend(goal.and_then(|goal| self.order(now, name, &environment, goal)));
                        }
                        // A turn for an earlier start goes on until its report; the new start waits behind it.
                        _ => self.queue.request(place, wanted, app.priority, timeout, now),
                    }
                }
                Need::Order(goal) => {
                    // What waits for a turn waits in vain; a turn in flight ends by the report of this order.
                    if self.queue.is_waiting(&place) {
                        self.queue.withdraw(&place);
                    }
                    settled.orders.extend(self.order(now, name, &environment, goal));
                }
            }
        }
        settled.changes.extend(self.judge_operations(now, name));
        self.touched.apps.insert(name.clone());
    }

    fn need(&self, now: Now, name: &AppId, environment: &EnvironmentName) -> Need {
        let Some(app) = self.apps.get(name).filter(|_| self.read_only.is_none()) else { return Need::Nothing };
        let (Some(placed), Some(placement)) = (app.placed.get(environment), app.row.placement(environment)) else {
            return Need::Nothing;
        };
        let wants_running = placement.intent.wants_running() && !app.is_held(placement);
        if !self.is_there(now, environment) {
            // What waits for a silent environment keeps its place in the queue.
            return match wants_running && placed.sent.is_none() && !app.has_begun(placement) {
                true => Need::Turn,
                false => Need::Nothing,
            };
        }
        let report = placed.report.as_deref();
        let answered = report.is_some_and(|report| report.intent_seq >= app.row.intent_seq);
        let sent = placed.sent.filter(|sent| sent.intent_seq >= app.row.intent_seq);
        let removal = match app.row.life {
            AppLife::Removing { purge_data } => Some(purge_data),
            _ => placement.leaving.then_some(false),
        };
        if let Some((purge_data, drop)) = removal.and_then(|purge| Some((purge, self.removal(app, placement, purge)?)))
        {
            // It may have answered to the stop that came before.
            let answered = answered && (drop.is_none() || report.is_some_and(|report| report.removing));
            return match placed.gone || answered || sent.is_some() {
                true => Need::Nothing,
                false => Need::Order(Goal::Remove { purge_data, drop }),
            };
        }
        if wants_running {
            if !app.has_begun(placement) {
                return match sent.is_some_and(|sent| sent.with_turn) || self.must_wait(now, app, placement) {
                    true => Need::Nothing,
                    false => Need::Turn,
                };
            }
            return match answered || sent.is_some() {
                true => Need::Nothing,
                false => self.run_goal(name, environment, None).map_or(Need::Nothing, Need::Order),
            };
        }
        // An instance that this environment never had needs no order to be stopped, unless one to run is under way.
        let in_turn = self.queue.turn_of(&(name.clone(), environment.clone())).is_some();
        let may_exist = report.is_some() || placed.sent.is_some() || in_turn;
        let rests =
            report.is_none_or(|report| report.phase == Phase::Stopped && report.intent_seq >= app.row.intent_seq);
        match answered || sent.is_some() || (!may_exist && rests) {
            true => Need::Nothing,
            false => Need::Order(Goal::Stop),
        }
    }

    /// A new place waits until every older one knows that it is not the only one any more, or has let go.
    ///
    /// An entry that has just begun may not know of a start that another one allowed, or it itself after its record was
    /// copied: every place is heard first, for as long as a lease lasts.
    fn must_wait(&self, now: Now, app: &App, placement: &PlacementRow) -> bool {
        let others = app.row.placements.iter().filter(|other| other.environment != placement.environment);
        let unheard = |other: &PlacementRow| {
            let known = self.places.contains_key(&other.environment);
            known && self.deaf.is_none() && self.presence(now, &other.environment) == Presence::Awaited
        };
        if others.into_iter().any(unheard) {
            return true;
        }
        // An upgrade waits until everything else of the app is stopped.
        let here = app.row.upgrade.as_ref().filter(|upgrade| upgrade.environment == placement.environment);
        if here.is_some_and(|upgrade| !upgrade.go) {
            return true;
        }
        let older = app.row.placements.iter().filter(|other| other.since < placement.since || other.leaving);
        older.filter(|other| other.environment != placement.environment).any(|other| {
            if other.leaving {
                return true;
            }
            let report = app.placed.get(&other.environment).and_then(|placed| placed.report.as_ref());
            match report {
                Some(report) => report.intent_seq < placement.since,
                None => self.places.contains_key(&other.environment) && !self.is_there(now, &other.environment),
            }
        })
    }

    fn run_goal(&self, name: &AppId, environment: &EnvironmentName, turn: Option<Turn>) -> Option<Goal> {
        let app = self.apps.get(name)?;
        let (row, upgrade_seq) = (&app.row, app.upgrade_seq(environment));
        let (spec, jwt, db_secret) = (row.spec.clone(), row.jwt.clone(), row.db_secret.clone());
        let (start_seq, installed) = (row.placement(environment)?.start_seq, row.installed.clone());
        Some(Goal::Run(RunGoal { start_seq, spec, jwt, db_secret, upgrade_seq, installed, turn }))
    }

    /// Makes an order and notes that it waits for an answer.
    fn order(
        &mut self,
        now: Now,
        name: &AppId,
        environment: &EnvironmentName,
        goal: Goal,
    ) -> Option<(EnvironmentName, Order)> {
        let reign = self.standing.reign.clone();
        let app = self.apps.get_mut(name)?;
        let placed = app.placed.get_mut(environment)?;
        let with_turn = matches!(&goal, Goal::Run(goal) if goal.turn.is_some());
        let sent = Sent { intent_seq: app.row.intent_seq, with_turn, at: now.mono };
        placed.sent = Some(sent);
        self.unanswered.insert((resend_at(sent), name.clone(), environment.clone()));
        let (generation, intent_seq) = (app.row.generation, app.row.intent_seq);
        Some((environment.clone(), Order { app: name.clone(), reign, generation, intent_seq, goal }))
    }

    /// How long a turn may last: stopping the former life, the database, every hook, and the last moment of readiness.
    pub(super) fn turn_timeout(&self, name: &AppId, environment: &EnvironmentName) -> Duration {
        let unknown = limits::START_TIMEOUT + limits::ACCEPT_BY;
        let (Some(app), Some(place)) = (self.apps.get(name), self.places.get(environment)) else { return unknown };
        let summary = place.registration.runtimes.get(&app.row.spec.runtime);
        summary.map_or(unknown, |summary| summary.turn_of(&app.row.spec, app.row.upgrade.is_some()))
    }
}

fn turn(number: u64) -> Turn {
    Turn { accept_by: limits::ACCEPT_BY, number }
}

impl App {
    /// Its worker has taken up the start that was asked for, or somebody on its host has put it aside.
    fn has_begun(&self, placement: &PlacementRow) -> bool {
        let report = self.placed.get(&placement.environment).and_then(|placed| placed.report.as_deref());
        report.is_some_and(|report| has_taken(report, placement.start_seq))
    }
}

/// Whether a report says that a start was begun, is next after the former life's end, or was put aside there.
pub(super) fn has_taken(report: &InstanceReport, start: Seq) -> bool {
    let next = matches!(report.phase, Phase::Stopping | Phase::Upgrading) && report.in_turn;
    let aside = report.local.as_ref().is_some_and(|local| local.action == LocalAction::Stop);
    report.run.seq >= start || (report.intent_seq >= start && (next || aside))
}

fn resend_at(sent: Sent) -> crate::time::Mono {
    sent.at.after(limits::ORDER_RESEND)
}
