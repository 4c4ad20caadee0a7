//! What a worker can show by itself: its instances as apps, without the entry's view of the whole.
//!
//! Deliberately absent: intents of other environments, the queue and operations, which only the entry knows.

use crate::environment::Environment;
use crate::intent::Intent;
use crate::name::AppId;
use crate::order::Report;
use crate::phase::Status;
use crate::record::{LedgerGoal, LedgerRow};
use crate::time::Now;
use crate::view::{AppView, EnvironmentView, InstanceView, Presence};

/// A piece of what a worker shows of itself.
#[derive(Debug, Clone)]
pub enum Mirrored {
    /// An app is other than before, or gone.
    App(AppId, Option<Box<AppView>>),
    /// The environment itself.
    Environment(Box<EnvironmentView>),
    /// Why this daemon takes no commands: a sentence that names who does.
    Standing(String),
}

impl Environment {
    /// An app of this host, as far as this host knows it. None: it is not here, or nothing but its name is known.
    pub fn app_view(&self, now: Now, name: &AppId) -> Option<AppView> {
        let (row, report) = self.seen(name)?;
        let Report::Instance(report) = report else { return None };
        let goal = match &row.goal {
            LedgerGoal::Run(goal) => Some(goal),
            LedgerGoal::Stop | LedgerGoal::Remove { .. } => row.shelved.as_ref(),
        };
        let intent = intent_of(row);
        let status = report.phase.status();
        let instance = InstanceView {
            environment: self.name().clone(),
            status,
            intent,
            leaving: false,
            since: report.since,
            observed_at: now.wall,
            observed: now.mono,
            report: Some((*report).into()),
        };
        Some(AppView {
            spec: goal?.spec.clone(),
            generation: row.generation,
            intent,
            intent_seq: row.intent_seq,
            status: Status::summary([status]),
            removing: matches!(row.goal, LedgerGoal::Remove { .. }),
            created_at: row.since,
            instances: vec![instance],
            last_operation: None,
        })
    }

    /// The environment as it sees itself.
    pub fn own_view(&self, now: Now) -> EnvironmentView {
        EnvironmentView {
            registration: self.registration().into(),
            heard_at: now.wall,
            heard: now.mono,
            presence: Presence::Available,
            draining: false,
            is_local: true,
            proxy: None,
            instances: self.reports().len(),
        }
    }
}

fn intent_of(row: &LedgerRow) -> Intent {
    match row.goal {
        LedgerGoal::Run(_) => Intent::Run,
        LedgerGoal::Stop | LedgerGoal::Remove { .. } => Intent::Stop,
    }
}
