//! Moves: an app goes elsewhere, and comes back if it does not become ready there.
//!
//! `AppRow::moving` stands from the command until the app runs in its new places, or in its old ones again. The way back
//! is in the record before the way there begins. An app that is not to run is only placed elsewhere, as by an edit.

use std::sync::Arc;

use crate::command::Denied;
use crate::database::Database;
use crate::fleet::decide::{Outcome, join, replaced};
use crate::fleet::{App, Fleet};
use crate::id::{Generation, Seq};
use crate::name::{AppId, EnvironmentName};
use crate::phase::Phase;
use crate::record::{AppRow, Change, MoveRow, PlacementRow};
use crate::spec::{AppSpec, Hosting};
use crate::time::Now;
use crate::view::{OperationStatus, Presence};

/// How far a part of a move is.
enum Arrival {
    Under,
    Arrived,
    Failed(String),
}

impl Fleet {
    pub(super) fn judge_move(
        &self,
        now: Now,
        seq: Seq,
        app: &App,
        spec: &Arc<AppSpec>,
        if_match: Generation,
    ) -> Result<Outcome, Denied> {
        let current = app.at_generation(if_match)?;
        app.not_moving()?;
        app.not_upgrading()?;
        self.check_spec(now, spec, &app.row.spec.environments)?;
        if **spec == *app.row.spec {
            return Ok(Outcome::already(&app.row));
        }
        if app.row.spec.environments != spec.environments && spec.database == Some(Database::File) {
            return Err(Denied::Invalid {
                field: "environments".into(),
                detail: format!("the database of {} is a file among its data, which a move does not copy", spec.name),
                hint: "stop it, copy its data directory to the other host, and name the environment with `app edit`"
                    .into(),
            });
        }
        for left in app.row.spec.environments.difference(&spec.environments) {
            // What runs there must be stopped before it starts elsewhere.
            if self.places.contains_key(left) && self.presence(now, left) != Presence::Available {
                return Err(Denied::EnvironmentUnavailable(left.clone()));
            }
        }
        let mut placements = replaced(&app.row, spec, seq);
        if spec.hosting != app.row.spec.hosting {
            // What stays where it is, is another process from now on.
            let runs = |placement: &&mut PlacementRow| !placement.leaving && placement.intent.wants_running();
            placements.iter_mut().filter(runs).for_each(|placement| placement.start_seq = seq);
        }
        let mut row = AppRow {
            spec: spec.clone(),
            generation: current.next(),
            intent_seq: seq,
            placements,
            upgrade: None,
            ..app.row.clone()
        };
        let done = !row.intent().wants_running();
        if !done {
            let former = app.row.placements.iter().filter(|placement| !placement.leaving).cloned().collect();
            row.moving = Some(Box::new(MoveRow { seq, former: app.row.spec.clone(), placements: former, back: None }));
        }
        Ok(Outcome { done, start_seq: seq, ..Outcome::working(row, app.priority) })
    }

    /// What a move would do, a sentence each.
    pub(super) fn plan_move(&self, app: &App, outcome: &Outcome) -> Vec<String> {
        let Some(row) = &outcome.row else {
            return vec![format!("nothing: {} is there already", app.row.spec.name)];
        };
        let (name, former) = (&row.spec.name, &app.row.spec);
        let left = || former.environments.difference(&row.spec.environments);
        let new = || row.spec.environments.difference(&former.environments);
        let mut lines = Vec::new();
        let hosting = (row.spec.hosting != former.hosting).then(|| match row.spec.hosting {
            Hosting::Shared => format!("{name} runs in one process with other apps of runtime {}", row.spec.runtime),
            Hosting::Dedicated => format!("{name} runs in a process of its own"),
        });
        lines.extend(hosting.clone());
        let runs = |placement: &PlacementRow| app.placement_runs(&placement.environment);
        let stays = hosting.is_none() && row.placements.iter().any(|placement| !placement.leaving && runs(placement));
        for environment in left() {
            lines.push(format!("{name} is stopped in {environment} and taken out of it"));
        }
        match outcome.done {
            true if new().next().is_some() => {
                lines.push(format!("it is placed in {} and not started, as it does not run now", join(new())));
            }
            true => {}
            false => {
                if hosting.is_some() {
                    lines.push(format!(
                        "it is restarted, in one environment after another: {}",
                        join(row.spec.environments.iter())
                    ));
                }
                for environment in new().filter(|_| hosting.is_none()) {
                    lines.push(format!(
                        "it is started in {environment}, once it has left {}",
                        join_or(left(), "nothing")
                    ));
                }
                let serves = if stays {
                    "visitors are served by the instances that stay"
                } else {
                    "nobody is served in between"
                };
                lines.push(serves.into());
                let text = format!(
                    "if it does not become ready there, it is put back into {}",
                    join(former.environments.iter())
                );
                lines.push(text);
            }
        }
        for environment in left() {
            lines.push(format!("files in its data directory in {environment} stay there and are not copied"));
        }
        lines
    }

    /// Takes a move further, as far as reports allow.
    pub(super) fn advance_move(&mut self, now: Now, name: &AppId) -> Vec<Change> {
        let Some(app) = self.living(name) else { return Vec::new() };
        let Some(moving) = app.row.moving.clone() else { return Vec::new() };
        let operation = self.ledger.active_of(name).into_iter().find(|operation| operation.view.seq == moving.seq);
        let arrival = self.arrival(app);
        match (&moving.back, arrival) {
            (_, Arrival::Under) if operation.is_some() => Vec::new(),
            (None, Arrival::Under) => self.put_back(now, name, &moving, "it took too long".into()),
            (None, Arrival::Failed(why)) => self.put_back(now, name, &moving, why),
            // The operation ends by the same reports.
            (None, Arrival::Arrived) => self.end_move(name).into_iter().collect(),
            (Some(why), arrival) => {
                let home = join(moving.former.environments.iter());
                let reason = match arrival {
                    Arrival::Under => format!("{why}; it was put back into {home} and does not run there yet"),
                    Arrival::Arrived => format!("{why}; it is back in {home}"),
                    Arrival::Failed(again) => {
                        format!("{why}; it was put back into {home} and failed there too: {again}")
                    }
                };
                let mut changes: Vec<Change> = self.end_move(name).into_iter().collect();
                let ended = operation.and_then(|operation| {
                    self.ledger.end(operation.view.id, OperationStatus::Failed, Some(reason), now)
                });
                changes.extend(ended);
                changes
            }
        }
    }

    fn end_move(&mut self, name: &AppId) -> Option<Change> {
        let row = AppRow { moving: None, ..self.living(name)?.row.clone() };
        self.put_app(row.clone());
        Some(Change::App(Box::new(row)))
    }

    /// Whether the app runs everywhere it should, by its present placements.
    fn arrival(&self, app: &App) -> Arrival {
        let mut all = Arrival::Arrived;
        for placement in app.row.placements.iter().filter(|placement| !placement.leaving) {
            let environment = &placement.environment;
            if !placement.intent.wants_running() {
                continue;
            }
            if !self.places.contains_key(environment) {
                return Arrival::Failed(format!("environment {environment} was forgotten"));
            }
            let Some(report) = app.report(placement).filter(|report| report.run.seq >= placement.start_seq) else {
                all = Arrival::Under;
                continue;
            };
            let over = matches!(report.phase, Phase::Failed | Phase::Stopped);
            // The first attempt decides: its turn is over, and it does not run.
            let missed = report.phase == Phase::Backoff && !report.in_turn;
            let why = || report.reason.as_ref().map_or_else(|| "it is stopped".to_string(), ToString::to_string);
            match report.phase {
                Phase::Running => {}
                _ if over || missed => return Arrival::Failed(format!("{environment}: {}", why())),
                _ => all = Arrival::Under,
            }
        }
        all
    }

    /// The app goes back to where it was.
    fn put_back(&mut self, now: Now, name: &AppId, moving: &MoveRow, why: String) -> Vec<Change> {
        let seq = self.next_seq();
        let Some(app) = self.living(name) else { return Vec::new() };
        let present = &app.row.placements;
        let home = |former: &PlacementRow| {
            let stayed = present.iter().find(|p| p.environment == former.environment && !p.leaving);
            let stayed = stayed.filter(|p| p.since < moving.seq && p.start_seq < moving.seq);
            let start_seq = if former.intent.wants_running() { seq } else { Seq(0) };
            let again = || PlacementRow { start_seq, since: seq, leaving: false, ..former.clone() };
            stayed.cloned().unwrap_or_else(again)
        };
        let mut placements: Vec<PlacementRow> = moving.placements.iter().map(home).collect();
        let elsewhere = |p: &&PlacementRow| placements.iter().all(|home| home.environment != p.environment);
        let leaving: Vec<PlacementRow> = present
            .iter()
            .filter(elsewhere)
            .map(|p| PlacementRow { leaving: true, intent: crate::intent::Intent::Stop, ..p.clone() })
            .collect();
        placements.extend(leaving);
        placements.sort_by(|a, b| a.environment.cmp(&b.environment));
        let row = AppRow {
            spec: moving.former.clone(),
            generation: app.row.generation.next(),
            intent_seq: seq,
            placements,
            moving: Some(Box::new(MoveRow { back: Some(why.clone()), ..moving.clone() })),
            ..app.row.clone()
        };
        self.put_app(row.clone());
        let home = join(moving.former.environments.iter());
        let message = format!("{name} did not become ready where it was moved to, and is put back into {home}: {why}");
        vec![Change::App(Box::new(row)), self.event(now, "app_put_back", (Some(name), None), message, None)]
    }
}

impl App {
    pub(super) fn not_moving(&self) -> Result<(), Denied> {
        match &self.row.moving {
            Some(_) => Err(Denied::UnderWay { app: self.row.spec.name.clone(), what: "moved" }),
            None => Ok(()),
        }
    }

    /// Whether an operation is the move that is under way, which ends with it.
    pub(super) fn is_move(&self, seq: Seq) -> bool {
        self.row.moving.as_ref().is_some_and(|moving| moving.seq == seq)
    }

    fn placement_runs(&self, environment: &EnvironmentName) -> bool {
        let report = self.placed.get(environment).and_then(|placed| placed.report.as_deref());
        report.is_some_and(|report| report.phase == Phase::Running)
    }
}

fn join_or<'a>(names: impl Iterator<Item = &'a EnvironmentName>, none: &str) -> String {
    let text = join(names);
    if text.is_empty() { none.into() } else { text }
}
