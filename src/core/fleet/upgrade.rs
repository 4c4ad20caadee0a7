//! Upgrades across environments: an app's steps run once, in one environment, while it runs nowhere else.
//!
//! `AppRow::upgrade` stands from the command (or from a worker's word that another version is on disk) until the upgraded
//! instance runs. Until then the other instances are held stopped; then they start one after another. Its `go` is in the
//! record before the steps are ordered. An upgrade that failed keeps holding them, until a command says what is to be.

use std::collections::BTreeSet;

use crate::command::Denied;
use crate::fleet::decide::{Outcome, awake_or_run, judge_start};
use crate::fleet::{App, Fleet};
use crate::id::Seq;
use crate::intent::Intent;
use crate::name::{AppId, EnvironmentName};
use crate::order::{InstanceReport, LocalAction, RuntimeSummary};
use crate::phase::Phase;
use crate::record::{AppRow, Change, PlacementRow, UpgradeRow};
use crate::secret::SecretText;
use crate::spec::Hosting;
use crate::time::Now;
use crate::view::{Presence, Priority};

impl Fleet {
    pub(super) fn judge_upgrade(&self, now: Now, seq: Seq, app: &App) -> Result<Outcome, Denied> {
        app.not_moving()?;
        if app.is_upgrading() {
            // It joins the one that is under way.
            let targets: Vec<EnvironmentName> = app.row.spec.environments.iter().cloned().collect();
            return Ok(judge_start(seq, app, &targets, Intent::Run, Priority::Operator));
        }
        self.check_spec(now, &app.row.spec, &app.row.spec.environments)?;
        let stays = || app.row.placements.iter().filter(|placement| !placement.leaving);
        for placement in app.row.placements.iter() {
            if self.presence(now, &placement.environment) != Presence::Available {
                return Err(Denied::EnvironmentUnavailable(placement.environment.clone()));
            }
        }
        let wanted: BTreeSet<&EnvironmentName> =
            stays().filter(|placement| placement.intent.wants_running()).map(|p| &p.environment).collect();
        let concerned = |placement: &PlacementRow| wanted.is_empty() || wanted.contains(&placement.environment);
        let open =
            |placement: &&PlacementRow| self.places.get(&placement.environment).is_some_and(|place| !place.draining);
        let Some(first) = stays().filter(|placement| concerned(placement)).find(open) else {
            let draining = stays().next().map(|placement| placement.environment.clone());
            return Err(
                draining.map_or_else(|| Denied::NotFound(app.row.spec.name.clone()), Denied::EnvironmentDraining)
            );
        };
        let environment = first.environment.clone();
        self.can_upgrade(&app.row, &environment)?;
        let mut row = AppRow { intent_seq: seq, ..app.row.clone() };
        for placement in row.placements.iter_mut().filter(|placement| !placement.leaving && concerned(placement)) {
            placement.intent = awake_or_run(placement.intent);
            placement.start_seq = seq;
        }
        row.upgrade = Some(UpgradeRow { seq, environment, go: false, automatic: false });
        let of_op = row.placements.iter().filter(|placement| placement.start_seq == seq);
        let targets = of_op.map(|placement| placement.environment.clone()).collect();
        Ok(Outcome { start_seq: seq, targets, ..Outcome::working(row, Priority::Operator) })
    }

    fn can_upgrade(&self, row: &AppRow, environment: &EnvironmentName) -> Result<(), Denied> {
        let runtime = &row.spec.runtime;
        let known = self.places.get(environment).and_then(|place| place.registration.runtimes.get(runtime));
        // In a host every start is an upgrade where one is due.
        let by_start = |summary: &RuntimeSummary| row.spec.hosting == Hosting::Shared && summary.shared.is_some();
        if known.is_some_and(|summary| summary.upgrade_timeout.is_some() || by_start(summary)) {
            return Ok(());
        }
        Err(Denied::Invalid {
            field: "runtime".into(),
            detail: format!("runtime {runtime} of environment {environment} has no steps for an upgrade"),
            hint: format!("add [[upgrade]] to its recipe, or `nbsupervisor app restart {}`", row.spec.name),
        })
    }

    /// A new secret; with a restart, everything that runs starts afresh.
    pub(super) fn judge_rotation(
        &self,
        seq: Seq,
        app: &App,
        jwt: &SecretText,
        restart: bool,
    ) -> Result<Outcome, Denied> {
        if restart {
            app.not_moving()?;
            app.not_upgrading()?;
        }
        let generation = app.row.generation.next();
        let mut row = AppRow { intent_seq: seq, generation, jwt: jwt.clone(), ..app.row.clone() };
        let mut targets = Vec::new();
        for placement in row.placements.iter_mut().filter(|p| restart && !p.leaving && p.intent.wants_running()) {
            placement.start_seq = seq;
            targets.push(placement.environment.clone());
        }
        let done = targets.is_empty();
        let outcome = Outcome { done, start_seq: seq, targets, ..Outcome::working(row, app.priority) };
        Ok(if done { outcome } else { outcome.instead_of(app) })
    }

    /// Takes an upgrade further, as far as reports allow.
    pub(super) fn advance_upgrade(&mut self, now: Now, name: &AppId) -> Option<Change> {
        let app = self.living(name)?;
        let mut row = app.row.clone();
        match &mut row.upgrade {
            None => row.upgrade = app.found_upgrade(),
            Some(upgrade) if app.is_over(upgrade) => row.upgrade = None,
            Some(upgrade) if !self.places.contains_key(&upgrade.environment) => row.upgrade = None,
            // It was given up before it began.
            Some(upgrade) if !app.begun(upgrade) && !self.is_wanted(app, upgrade) => row.upgrade = None,
            Some(upgrade) if !upgrade.go && self.rests_elsewhere(now, app, &upgrade.environment) => upgrade.go = true,
            Some(_) => return None,
        }
        if row.upgrade == app.row.upgrade {
            return None;
        }
        // What was ordered before is told apart from what follows, however late it arrives.
        row.intent_seq = self.next_seq();
        if let Some(upgrade) = row.upgrade.as_ref().filter(|upgrade| upgrade.automatic && !upgrade.go) {
            // What runs elsewhere is stopped, and starts again afterwards.
            let others = row.placements.iter_mut().filter(|other| other.environment != upgrade.environment);
            let runs = |other: &&mut PlacementRow| other.intent.wants_running() && !other.leaving;
            others.filter(runs).for_each(|other| other.start_seq = row.intent_seq);
        }
        self.put_app(row.clone());
        Some(Change::App(Box::new(row)))
    }

    /// Whether an upgrade that has not begun is still to be.
    fn is_wanted(&self, app: &App, upgrade: &UpgradeRow) -> bool {
        let operations = self.ledger.active_of(&app.row.spec.name);
        let awaited = upgrade.go || upgrade.automatic || operations.iter().any(|row| row.view.seq == upgrade.seq);
        awaited && app.row.placement(&upgrade.environment).is_some_and(|place| place.intent.wants_running())
    }

    /// Whether nothing of an app runs, or is about to, in any other environment.
    fn rests_elsewhere(&self, now: Now, app: &App, environment: &EnvironmentName) -> bool {
        let mut others = app.row.placements.iter().filter(|other| other.environment != *environment);
        others.all(|other| {
            let placed = app.placed.get(&other.environment);
            let Some(place) = self.places.get(&other.environment) else { return true };
            if self.queue.turn_of(&(app.row.spec.name.clone(), other.environment.clone())).is_some() {
                return false;
            }
            match placed.and_then(|placed| placed.report.as_deref()) {
                Some(report) => {
                    let rests = matches!(report.phase, Phase::Stopped | Phase::Failed);
                    rests && report.intent_seq >= app.row.intent_seq
                }
                None => {
                    let open = placed.is_some_and(|placed| placed.sent.is_some());
                    place.listed && !open && !other.leaving && self.is_there(now, &other.environment)
                }
            }
        })
    }
}

impl App {
    /// Whether an upgrade is under way: one that has failed is not.
    pub(super) fn is_upgrading(&self) -> bool {
        self.row.upgrade.as_ref().is_some_and(|upgrade| !self.upgrade_failed(upgrade))
    }

    pub(super) fn not_upgrading(&self) -> Result<(), Denied> {
        match self.is_upgrading() {
            true => Err(Denied::UnderWay { app: self.row.spec.name.clone(), what: "upgraded" }),
            false => Ok(()),
        }
    }

    /// Whether an instance is held stopped because of an upgrade elsewhere.
    pub(super) fn is_held(&self, placement: &PlacementRow) -> bool {
        self.row.upgrade.as_ref().is_some_and(|upgrade| upgrade.environment != placement.environment)
    }

    /// The same, with nothing under way that would let go of it.
    pub(super) fn is_held_in_vain(&self, placement: &PlacementRow) -> bool {
        self.is_held(placement) && !self.is_upgrading()
    }

    /// Whether a report tells of an upgrade that was cut off or has failed.
    pub(super) fn broke_upgrade(&self, environment: &EnvironmentName, report: &InstanceReport) -> bool {
        let here = self.row.upgrade.as_ref().filter(|upgrade| upgrade.environment == *environment);
        let broke = |upgrade: &UpgradeRow| report.run.seq >= upgrade.seq && report.upgrade.done < upgrade.seq;
        report.phase == Phase::Failed && here.is_some_and(broke)
    }

    fn begun(&self, upgrade: &UpgradeRow) -> bool {
        self.report_of(upgrade).is_some_and(|report| report.run.seq >= upgrade.seq)
    }

    /// The start whose upgrade steps may run in an environment.
    pub(super) fn upgrade_seq(&self, environment: &EnvironmentName) -> Seq {
        let upgrade = self.row.upgrade.as_ref().filter(|upgrade| upgrade.go && upgrade.environment == *environment);
        upgrade.map_or(Seq(0), |upgrade| upgrade.seq)
    }

    fn report_of(&self, upgrade: &UpgradeRow) -> Option<&InstanceReport> {
        self.placed.get(&upgrade.environment).and_then(|placed| placed.report.as_deref())
    }

    fn upgrade_failed(&self, upgrade: &UpgradeRow) -> bool {
        self.report_of(upgrade).is_some_and(|report| {
            let ended = report.run.seq >= upgrade.seq && matches!(report.phase, Phase::Failed | Phase::Stopped);
            let aside = report.local.as_ref().is_some_and(|local| local.action == LocalAction::Stop);
            ended || (aside && report.intent_seq >= upgrade.seq)
        })
    }

    /// Whether it runs again: upgraded, or because somebody on its host said so after the upgrade had failed.
    fn is_over(&self, upgrade: &UpgradeRow) -> bool {
        let runs = |r: &InstanceReport| r.run.seq >= upgrade.seq && r.phase == Phase::Running;
        self.report_of(upgrade).is_some_and(runs)
    }

    /// A worker that has found another version on disk and waits for the word.
    fn found_upgrade(&self) -> Option<UpgradeRow> {
        let waits = |placement: &&PlacementRow| {
            let report = self.report(placement);
            let asks = report.is_some_and(|report| report.upgrade.wanted && report.run.seq >= placement.start_seq);
            asks && placement.intent.wants_running() && !placement.leaving
        };
        let placement = self.row.placements.iter().find(waits)?;
        let (seq, environment) = (self.report(placement)?.run.seq, placement.environment.clone());
        Some(UpgradeRow { seq, environment, go: false, automatic: true })
    }
}
