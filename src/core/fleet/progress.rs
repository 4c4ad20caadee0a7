//! How far operations are, judged by reports alone.

use crate::command::ActionKind;
use crate::fleet::{Fleet, wants_run};
use crate::id::Seq;
use crate::name::AppId;
use crate::order::{InstanceReport, LocalAction};
use crate::phase::Phase;
use crate::reason::ReasonCode;
use crate::record::{Change, OperationRow, PlacementRow};
use crate::time::Now;
use crate::view::OperationStatus;

impl Fleet {
    /// Ends the operations that the reports answer, and notes how far the others are.
    pub(super) fn judge_operations(&mut self, now: Now, name: &AppId) -> Vec<Change> {
        let operations = self.ledger.active_of(name);
        let mut changes = Vec::new();
        for operation in operations {
            let id = operation.view.id;
            match self.progress_of(now, name, &operation) {
                Progress::At(status) => self.ledger.advance(id, status),
                Progress::Done => changes.extend(self.ledger.end(id, OperationStatus::Done, None, now)),
                Progress::Failed(why) => changes.extend(self.ledger.end(id, OperationStatus::Failed, Some(why), now)),
            }
        }
        changes
    }

    fn progress_of(&self, now: Now, name: &AppId, operation: &OperationRow) -> Progress {
        let Some(app) = self.apps.get(name) else { return Progress::At(OperationStatus::Accepted) };
        let mut least: Option<OperationStatus> = None;
        let mut failed = None;
        let mut held = None;
        for environment in &operation.view.environments {
            let (Some(placed), Some(placement)) = (app.placed.get(environment), app.row.placement(environment)) else {
                continue;
            };
            // What is being taken away from there is waited for no more, by what should run.
            if placement.leaving && wants_run(operation) {
                continue;
            }
            let report = placed.report.as_deref();
            let forgotten = !self.places.contains_key(environment);
            let heard = forgotten || self.is_there(now, environment);
            let one = match (wants_run(operation), report) {
                (true, Some(report)) => run_progress(threshold(operation, placement), report),
                (false, Some(report)) => stop_progress(operation, report),
                (true, None) if forgotten => Progress::Failed(format!("environment {environment} was forgotten")),
                (true, None) => Progress::At(OperationStatus::Accepted),
                (false, None) if heard && placed.sent.is_none() => Progress::Done,
                (false, None) => Progress::At(OperationStatus::Accepted),
            };
            let status = match overruled(operation, placement, one) {
                Progress::At(_) if wants_run(operation) && app.is_held_in_vain(placement) => {
                    held = app.row.upgrade.as_ref().map(|upgrade| &upgrade.environment);
                    OperationStatus::Done
                }
                Progress::Done => OperationStatus::Done,
                Progress::Failed(why) => {
                    let several = operation.view.environments.len() > 1;
                    failed.get_or_insert(if several { format!("{environment}: {why}") } else { why });
                    OperationStatus::Done
                }
                Progress::At(OperationStatus::Accepted) => {
                    let place = (name.clone(), environment.clone());
                    match (self.queue.is_waiting(&place), placed.sent) {
                        (true, _) => OperationStatus::Queued,
                        (_, Some(_)) => OperationStatus::Sent,
                        _ => OperationStatus::Accepted,
                    }
                }
                Progress::At(status) => status,
            };
            least = Some(least.map_or(status, |least| least.min(status)));
        }
        let vain = |place| format!("it is held stopped, as its upgrade in {place} did not end well");
        let failed = failed.or(held.map(vain));
        // A move ends where it began or where it should go, and says which.
        if app.is_move(operation.view.seq) {
            let under_way = |status: OperationStatus| status.min(OperationStatus::Started);
            return Progress::At(least.map_or(OperationStatus::Accepted, under_way));
        }
        // A removal ends with its last report, not by a phase.
        let removing = operation.view.action == ActionKind::Remove;
        match (least, failed) {
            (Some(OperationStatus::Done), _) if removing => Progress::At(OperationStatus::Started),
            (Some(OperationStatus::Done), None) => Progress::Done,
            (Some(OperationStatus::Done), Some(why)) => Progress::Failed(why),
            (Some(status), _) => Progress::At(status),
            (None, _) if removing => Progress::At(OperationStatus::Accepted),
            (None, _) if wants_run(operation) => Progress::Failed(format!("{name} is not placed there any more")),
            (None, _) => Progress::Done,
        }
    }
}

enum Progress {
    At(OperationStatus),
    Done,
    Failed(String),
}

/// A later command for a part of its environments, or a boot, may have made pointless what an operation waits for there.
fn overruled(operation: &OperationRow, placement: &PlacementRow, progress: Progress) -> Progress {
    let to_run = placement.intent.wants_running();
    match progress {
        Progress::At(_) if wants_run(operation) && !to_run => {
            Progress::Failed("it is not to run there any more".into())
        }
        Progress::At(_) if operation.view.action == ActionKind::Stop && to_run => {
            Progress::Failed("it is to run there again".into())
        }
        progress => progress,
    }
}

fn run_progress(start_seq: Seq, report: &InstanceReport) -> Progress {
    if report.run.seq < start_seq {
        // Taken up, but the former life is still being stopped; or put aside by somebody on its host.
        let taken = report.intent_seq >= start_seq;
        if taken && report.local.as_ref().is_some_and(|local| local.action == LocalAction::Stop) {
            return Progress::Failed("it was stopped on its own host".into());
        }
        return Progress::At(if taken { OperationStatus::Started } else { OperationStatus::Accepted });
    }
    let why = || report.reason.as_ref().map_or_else(|| "it is stopped".to_string(), ToString::to_string);
    match report.phase {
        Phase::Running => Progress::Done,
        Phase::Failed => Progress::Failed(why()),
        Phase::Stopped => Progress::Failed(why()),
        _ => Progress::At(OperationStatus::Started),
    }
}

fn stop_progress(operation: &OperationRow, report: &InstanceReport) -> Progress {
    if report.intent_seq < operation.view.seq {
        return Progress::At(OperationStatus::Accepted);
    }
    let refused = report.reason.as_ref().filter(|reason| reason.code == ReasonCode::HostRefused);
    match (report.phase, refused) {
        // It may run on in its host.
        (Phase::Failed, Some(reason)) => Progress::Failed(reason.to_string()),
        (Phase::Stopped | Phase::Failed, _) => Progress::Done,
        _ => Progress::At(OperationStatus::Started),
    }
}

/// The (re)start that an operation waits for in one environment. A later one than its own serves it as well.
fn threshold(operation: &OperationRow, placement: &PlacementRow) -> Seq {
    match placement.start_seq <= operation.view.seq {
        true => placement.start_seq,
        false => operation.start_seq,
    }
}
