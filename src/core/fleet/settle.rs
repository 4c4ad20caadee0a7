//! From what should be and what is to orders: level-triggered, repeatable, in no haste.

use std::time::Duration;

use crate::fleet::{Fleet, Sent, Settled};
use crate::limits;
use crate::name::{AppId, EnvironmentName};
use crate::order::{Goal, Order, RunGoal, Turn};
use crate::phase::Phase;
use crate::record::AppLife;
use crate::time::Now;

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
            let goal = self.run_goal(&app, Some(Turn { accept_by: limits::ACCEPT_BY }));
            settled.orders.extend(goal.and_then(|goal| self.order(now, &app, &environment, goal)));
            settled.changes.extend(self.judge_operations(now, &app));
            self.touched.apps.insert(app);
        }
        settled
    }

    fn next_grant(&mut self, now: Now) -> Option<crate::admission::Grant> {
        let places = &self.places;
        self.queue.grant(now.mono, |environment| {
            let place = places.get(environment).filter(|place| place.available)?;
            Some(place.registration.concurrent_starts)
        })
    }

    /// Orders without an answer are sent again.
    fn forget_unanswered(&mut self, now: Now) {
        while let Some((at, app, environment)) = self.unanswered.first().cloned().filter(|(at, _, _)| *at <= now.mono) {
            self.unanswered.remove(&(at, app.clone(), environment.clone()));
            let placed = self.apps.get_mut(&app).and_then(|app| app.placed.get_mut(&environment));
            if let Some(placed) = placed.filter(|placed| placed.sent.is_some_and(|sent| resend_at(sent) == at)) {
                placed.sent = None;
                self.unsettled.insert(app);
            }
        }
    }

    fn settle_app(&mut self, now: Now, name: &AppId, settled: &mut Settled) {
        let Some(app) = self.living(name) else { return };
        let environments: Vec<EnvironmentName> = app.placed.keys().cloned().collect();
        for environment in environments {
            let place = (name.clone(), environment.clone());
            match self.need(name, &environment) {
                Need::Nothing => {
                    if self.queue.is_waiting(&place) {
                        self.queue.cancel(&place);
                    }
                }
                Need::Turn => {
                    let timeout = self.turn_timeout(name, &environment);
                    let Some(app) = self.apps.get(name) else { continue };
                    match self.queue.turn_of(&place) {
                        // The turn is there and the order was lost: it is sent again in the same turn.
                        Some(start) if start == app.row.start_seq => {
                            let goal = self.run_goal(name, Some(Turn { accept_by: limits::ACCEPT_BY }));
                            settled.orders.extend(goal.and_then(|goal| self.order(now, name, &environment, goal)));
                        }
                        // A turn for an earlier start goes on until its report; the new start waits behind it.
                        _ => self.queue.request(place, app.row.start_seq, app.priority, timeout, now),
                    }
                }
                Need::Order(goal) => {
                    // What waits for a turn waits in vain; a turn in flight ends by the report of this order.
                    if self.queue.is_waiting(&place) {
                        self.queue.cancel(&place);
                    }
                    settled.orders.extend(self.order(now, name, &environment, goal));
                }
            }
        }
        settled.changes.extend(self.judge_operations(now, name));
        self.touched.apps.insert(name.clone());
    }

    fn need(&self, name: &AppId, environment: &EnvironmentName) -> Need {
        let (Some(app), Some(place)) = (self.apps.get(name), self.places.get(environment)) else {
            return Need::Nothing;
        };
        let Some(placed) = app.placed.get(environment).filter(|_| place.available) else { return Need::Nothing };
        let report = placed.report.as_deref();
        let answered = report.is_some_and(|report| report.intent_seq >= app.row.intent_seq);
        let sent = placed.sent.filter(|sent| sent.intent_seq >= app.row.intent_seq);
        if let AppLife::Removing { purge_data } = app.row.life {
            return match placed.gone || answered || sent.is_some() {
                true => Need::Nothing,
                false => Need::Order(Goal::Remove { purge_data }),
            };
        }
        if app.row.intent.wants_running() {
            let taken = report
                .is_some_and(|report| report.run.seq >= app.row.start_seq || report.intent_seq >= app.row.start_seq);
            if !taken {
                return match sent.is_some_and(|sent| sent.with_turn) {
                    true => Need::Nothing,
                    false => Need::Turn,
                };
            }
            return match answered || sent.is_some() {
                true => Need::Nothing,
                false => self.run_goal(name, None).map_or(Need::Nothing, Need::Order),
            };
        }
        // An instance that this environment never had needs no order to be stopped, unless one to run is under way.
        let may_exist = report.is_some() || placed.sent.is_some();
        let rests =
            report.is_none_or(|report| report.phase == Phase::Stopped && report.intent_seq >= app.row.intent_seq);
        match answered || sent.is_some() || (!may_exist && rests) {
            true => Need::Nothing,
            false => Need::Order(Goal::Stop),
        }
    }

    fn run_goal(&self, name: &AppId, turn: Option<Turn>) -> Option<Goal> {
        let row = &self.apps.get(name)?.row;
        let (spec, jwt) = (row.spec.clone(), row.jwt.clone());
        Some(Goal::Run(RunGoal { start_seq: row.start_seq, spec, jwt, turn }))
    }

    /// Makes an order and notes that it waits for an answer.
    fn order(
        &mut self,
        now: Now,
        name: &AppId,
        environment: &EnvironmentName,
        goal: Goal,
    ) -> Option<(EnvironmentName, Order)> {
        let epoch = self.epoch;
        let app = self.apps.get_mut(name)?;
        let placed = app.placed.get_mut(environment)?;
        let with_turn = matches!(&goal, Goal::Run(goal) if goal.turn.is_some());
        let sent = Sent { intent_seq: app.row.intent_seq, with_turn, at: now.mono };
        placed.sent = Some(sent);
        self.unanswered.insert((resend_at(sent), name.clone(), environment.clone()));
        let (generation, intent_seq) = (app.row.generation, app.row.intent_seq);
        Some((environment.clone(), Order { app: name.clone(), epoch, generation, intent_seq, goal }))
    }

    /// How long a turn may last: stopping the former life, every hook, and the last moment of readiness.
    pub(super) fn turn_timeout(&self, name: &AppId, environment: &EnvironmentName) -> Duration {
        let runtime = self.apps.get(name).map(|app| &app.row.spec.runtime);
        let place = self.places.get(environment);
        let summary = runtime.zip(place).and_then(|(runtime, place)| place.registration.runtimes.get(runtime));
        summary.map_or(limits::START_TIMEOUT, |summary| summary.turn_timeout) + limits::ACCEPT_BY
    }
}

fn resend_at(sent: Sent) -> crate::time::Mono {
    sent.at.after(limits::ORDER_RESEND)
}
