//! What readers see: snapshots without any secret, made by the fleet, never changed.

use std::sync::Arc;

use crate::command::ActionKind;
use crate::id::{Generation, OperationId, Seq};
use crate::intent::Intent;
use crate::launch::Address;
use crate::name::{AppId, EnvironmentName};
use crate::order::{InstanceReport, Registration};
use crate::phase::Status;
use crate::reason::Reason;
use crate::recipe::Adapter;
use crate::spec::AppSpec;
use crate::time::{Mono, Wall};

/// An app with its instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppView {
    /// The spec. Holds secrets; the wire shows their names only.
    pub spec: Arc<AppSpec>,
    /// Version of the spec.
    pub generation: Generation,
    /// What should be.
    pub intent: Intent,
    /// Last accepted command.
    pub intent_seq: Seq,
    /// Summary of the instances.
    pub status: Status,
    /// Whether it is on its way out.
    pub removing: bool,
    /// When it was made.
    pub created_at: Wall,
    /// One per environment of the spec.
    pub instances: Vec<InstanceView>,
    /// The newest operation.
    pub last_operation: Option<OperationId>,
}

impl AppView {
    /// It in this environment.
    pub fn instance_in(&self, environment: &EnvironmentName) -> Option<&InstanceView> {
        self.instances.iter().find(|instance| instance.environment == *environment)
    }

    /// Its main process in an environment, and what looks after it there. A number of another environment would be a
    /// stranger's here.
    pub fn process_in(&self, environment: &EnvironmentName) -> Option<(u32, Adapter)> {
        let report = self.instance_in(environment)?.report.as_ref()?;
        Some((report.pid?, report.adapter))
    }
}

/// An app in one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceView {
    /// Where.
    pub environment: EnvironmentName,
    /// Public status.
    pub status: Status,
    /// What should be there.
    pub intent: Intent,
    /// Whether the app is being taken away from there.
    pub leaving: bool,
    /// Since when.
    pub since: Wall,
    /// The worker's last report, if there was one.
    pub report: Option<Arc<InstanceReport>>,
    /// When that report was received (display).
    pub observed_at: Wall,
    /// When that report was received (ages).
    pub observed: Mono,
}

impl InstanceView {
    /// Where visitors are sent: only while it runs.
    pub fn target(&self) -> Option<(&Address, bool)> {
        let report = self.report.as_ref().filter(|_| self.status == Status::Running)?;
        report.address.as_ref().map(|address| (address, report.strip_prefix))
    }
}

/// A place in the start queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueView {
    /// Which app.
    pub app: AppId,
    /// Where.
    pub environment: EnvironmentName,
    /// 1 is next.
    pub position: usize,
    /// The environment where the same app starts first, or `slot`.
    pub waits_for: String,
    /// Since when it waits.
    pub since: Wall,
    /// Guess from earlier starts.
    pub eta_ms: Option<u64>,
    /// Who asked.
    pub priority: Priority,
}

/// Who is served first in the start queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// After a boot.
    Boot,
    /// Somebody asked.
    Operator,
    /// Somebody waits for a page.
    Visitor,
}

impl Priority {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Operator => "operator",
            Self::Visitor => "visitor",
        }
    }
}

/// Where an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperationStatus {
    /// Committed.
    Accepted,
    /// Waits for its turn.
    Queued,
    /// Ordered.
    Sent,
    /// Taken up by the worker.
    Started,
    /// Ended well.
    Done,
    /// Ended badly.
    Failed,
    /// Nobody waits any more; the intent stands.
    Expired,
}

impl OperationStatus {
    /// Every status.
    pub const ALL: &'static [OperationStatus] =
        &[Self::Accepted, Self::Queued, Self::Sent, Self::Started, Self::Done, Self::Failed, Self::Expired];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Started => "started",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }

    /// Reads the word on the wire.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|status| status.as_str() == text)
    }

    /// Whether nothing more will come.
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Expired)
    }
}

/// An operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationView {
    /// ID.
    pub id: OperationId,
    /// Order of commit.
    pub seq: Seq,
    /// Which app.
    pub app: AppId,
    /// What.
    pub action: ActionKind,
    /// Where.
    pub environments: Vec<EnvironmentName>,
    /// How far.
    pub status: OperationStatus,
    /// Why it failed or expired.
    pub reason: Option<String>,
    /// When it was accepted.
    pub created_at: Wall,
    /// When it ended.
    pub finished_at: Option<Wall>,
    /// Who asked.
    pub actor: String,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventView {
    /// Grows by one with each.
    pub seq: u64,
    /// When.
    pub at: Wall,
    /// About which app.
    pub app: Option<AppId>,
    /// Where.
    pub environment: Option<EnvironmentName>,
    /// A word such as `instance_running`.
    pub kind: String,
    /// For people.
    pub message: String,
    /// The operation it belongs to.
    pub operation: Option<OperationId>,
}

/// An environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentView {
    /// What it said of itself.
    pub registration: Arc<Registration>,
    /// When it was last heard (display).
    pub heard_at: Wall,
    /// When it was last heard (ages).
    pub heard: Mono,
    /// Whether it is there.
    pub presence: Presence,
    /// Whether it is to get no new starts.
    pub draining: bool,
    /// Whether it is of this daemon, and reached without a network.
    pub is_local: bool,
    /// Whether the entry's gateway reaches its own; none = not tried yet, or local.
    pub proxy: Option<Result<(), String>>,
    /// Instances placed there.
    pub instances: usize,
}

impl EnvironmentView {
    /// The public status.
    pub fn status(&self) -> &'static str {
        match (self.presence, self.draining) {
            (Presence::Available, false) => "available",
            (Presence::Available, true) => "draining",
            _ => "unavailable",
        }
    }
}

/// Whether an environment is there, as far as the entry can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It was heard in time.
    Available,
    /// It is known from the record, and has not been heard since this entry started.
    Awaited,
    /// It has not been heard for longer than its lease lasts.
    Silent,
    /// The entry has had no Redis for longer than a lease lasts, so it cannot know.
    Unheard,
}

/// Why an instance shows what it shows; the reason of its report, for convenience.
pub fn reason_of(instance: &InstanceView) -> Option<&Reason> {
    instance.report.as_ref().and_then(|report| report.reason.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_that_of_the_environment_that_is_asked_for() {
        let mut app = crate::gate::tests::app(Status::Running, Intent::Run);
        let (local, other) = (app.instances[0].environment.clone(), EnvironmentName::parse("eu-2").unwrap());
        assert_eq!(app.process_in(&local), Some((7, Adapter::Process)));
        assert_eq!(app.process_in(&other), None);
        let report = InstanceReport { pid: Some(8), ..crate::gate::tests::report(&app.spec.name) };
        let there =
            InstanceView { environment: other.clone(), report: Some(Arc::new(report)), ..app.instances[0].clone() };
        app.instances.insert(0, there);
        assert_eq!(app.process_in(&local), Some((7, Adapter::Process)));
        assert_eq!(app.process_in(&other), Some((8, Adapter::Process)));
        app.instances[0].report = None;
        assert_eq!(app.process_in(&other), None);
    }
}
