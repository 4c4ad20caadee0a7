//! What follows from a new boot of a host.
//!
//! No process outlives a boot. What was started by hand or by a visit is not started again by itself; what should run is
//! asked anew, in its turn. Of two things the entry keeps its hands off, by the first hello of the new boot: an instance
//! that is not at rest was brought back by its worker already, or is about to be (`environment/alone.rs`), and a new start
//! would only restart it; and an instance that somebody stopped on its host stays stopped, as a boot is no command.

use std::collections::BTreeMap;

use crate::command::ActionKind;
use crate::fleet::{Fleet, wants_run};
use crate::id::OperationId;
use crate::intent::Intent;
use crate::name::{AppId, EnvironmentName};
use crate::order::{InstanceReport, LocalAction};
use crate::phase::Phase;
use crate::reason::ReasonCode;
use crate::record::{AppLife, Change, OperationRow, PlacementRow};
use crate::spec::StartMode;
use crate::time::Now;
use crate::view::{OperationStatus, OperationView, Priority};

impl Fleet {
    /// What was started by hand or by a visit is not started again by itself; what should run is asked anew. `rebooted`: the
    /// boot is another one than the entry knew. It may have been forgotten, so what an instance says counts as well.
    pub(super) fn adapt_to_boot(
        &mut self,
        now: Now,
        environment: &EnvironmentName,
        rebooted: bool,
        told: &BTreeMap<AppId, InstanceReport>,
        new_id: &mut dyn FnMut() -> OperationId,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        if rebooted {
            let message = format!("the host of {environment} was restarted");
            changes.push(self.event(now, "host_rebooted", (None, Some(environment)), message, None));
        }
        let concerned = |name: &AppId, app: &super::App| {
            let placement = app.row.placement(environment);
            // What a failed or cut off upgrade left behind is for somebody to look at.
            if told.get(name).is_some_and(|report| app.broke_upgrade(environment, report)) {
                return false;
            }
            match (told.get(name), placement) {
                (_, None) => false,
                // A start that was asked for and has not begun is none that the boot has ended.
                (None, Some(placement)) => rebooted && app.report(placement).is_some_and(|r| begun(r, placement)),
                (Some(report), Some(placement)) => {
                    begun(report, placement) && !decided_by_its_host(report) && (rebooted || rests_since_boot(report))
                }
            }
        };
        let is_concerned = |name: &AppId| self.apps.get(name).is_some_and(|app| concerned(name, app));
        let names: Vec<AppId> = self.residents.of(environment).into_iter().filter(is_concerned).collect();
        for name in names {
            changes.extend(self.adapt_app_to_boot(now, environment, &name, new_id()));
        }
        changes
    }

    fn adapt_app_to_boot(
        &mut self,
        now: Now,
        environment: &EnvironmentName,
        name: &AppId,
        id: OperationId,
    ) -> Vec<Change> {
        let Some(app) = self.living(name) else { return Vec::new() };
        let mut row = app.row.clone();
        let (mode, life, moving) = (row.spec.start_mode, row.life, row.moving.is_some());
        let Some(placement) = row.placement_mut(environment) else { return Vec::new() };
        let before = placement.intent;
        placement.intent = match (before, mode) {
            // A move goes on, or back.
            (intent, _) if moving => intent,
            (Intent::Run, StartMode::Manual) => Intent::Stop,
            (Intent::Run, StartMode::OnFirstVisit) | (Intent::OnDemand { .. }, _) => Intent::OnDemand { awake: false },
            (intent, _) => intent,
        };
        let intent = placement.intent;
        if life != AppLife::Kept || placement.leaving || (intent == before && intent != Intent::Run) {
            return Vec::new();
        }
        let seq = self.seq.next();
        self.seq = seq;
        if intent == Intent::Run {
            placement.start_seq = seq;
        }
        row.intent_seq = seq;
        let mut changes = Vec::new();
        if intent == Intent::Run {
            let view = OperationView {
                id,
                seq,
                app: name.clone(),
                action: ActionKind::Start,
                environments: vec![environment.clone()],
                status: OperationStatus::Accepted,
                reason: None,
                created_at: now.wall,
                finished_at: None,
                actor: "supervisor".into(),
            };
            let operation = OperationRow { view, start_seq: seq };
            changes.push(Change::Operation(Box::new(operation.clone())));
            self.ledger.add(operation, now.mono);
        } else {
            let here = |row: &&OperationRow| row.view.environments.iter().all(|other| other == environment);
            for operation in self.ledger.active_of(name).iter().filter(|row| wants_run(row)).filter(here) {
                let reason = Some("the host was restarted, and the start mode does not bring it back".to_string());
                changes.extend(self.ledger.end(operation.view.id, OperationStatus::Failed, reason, now));
            }
        }
        changes.push(Change::App(Box::new(row.clone())));
        self.put_app(row);
        self.unsettled.insert(name.clone());
        if let Some(app) = self.apps.get_mut(name) {
            app.priority = Priority::Boot;
        }
        changes
    }
}

fn begun(report: &InstanceReport, placement: &PlacementRow) -> bool {
    report.run.seq >= placement.start_seq || !placement.intent.wants_running()
}

/// Whether a worker says that an instance is its own to bring back, or to leave stopped.
fn decided_by_its_host(report: &InstanceReport) -> bool {
    let at_rest = matches!(report.phase, Phase::Stopped | Phase::Failed);
    !at_rest || report.local.as_ref().is_some_and(|local| local.action == LocalAction::Stop)
}

fn rests_since_boot(report: &InstanceReport) -> bool {
    let rebooted = report.reason.as_ref().is_some_and(|reason| reason.code == ReasonCode::Rebooted);
    report.phase == Phase::Stopped && rebooted
}
