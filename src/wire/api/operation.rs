//! Operations: what became of a command.

use nbs_core::view::OperationView;
use serde::{Deserialize, Serialize};

use super::{Word, time};

/// `GET /operations`, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationList {
    /// One page.
    pub operations: Vec<Operation>,
    /// Where the next page begins; `null` on the last.
    pub next_cursor: Option<String>,
}

/// `GET /operations/{id}`, and the 202 of commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// ID.
    pub id: String,
    /// Order of commit; the highest accepted one of an app wins.
    pub seq: u64,
    /// Which app.
    pub app: String,
    /// What: `create`, `start`, …
    pub action: Word,
    /// Where.
    pub environments: Vec<String>,
    /// `accepted`, `queued`, `sent`, `started`, `done`, `failed` or `expired`.
    pub status: Word,
    /// Why it failed or expired.
    pub reason: Option<String>,
    /// When it was accepted.
    pub created_at: String,
    /// When it ended.
    pub finished_at: Option<String>,
    /// Who asked.
    pub actor: String,
}

/// The answer of a move with `"dry_run": true`: nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovePlan {
    /// Which app.
    pub app: String,
    /// Always true; tells it from an operation.
    pub dry_run: bool,
    /// What would happen, a sentence each.
    pub steps: Vec<String>,
}

impl From<&OperationView> for Operation {
    fn from(operation: &OperationView) -> Self {
        Self {
            id: operation.id.to_string(),
            seq: operation.seq.0,
            app: operation.app.to_string(),
            action: operation.action.as_str().into(),
            environments: operation.environments.iter().map(ToString::to_string).collect(),
            status: operation.status.as_str().into(),
            reason: operation.reason.clone(),
            created_at: time(operation.created_at),
            finished_at: operation.finished_at.map(time),
            actor: operation.actor.clone(),
        }
    }
}

/// The answer of a worker to a command with `"local": true`: it was told to the worker's loop. There is no operation;
/// `local` of the instance shows that it was taken up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalCommand {
    /// Which app.
    pub app: String,
    /// Where: the worker that answers.
    pub environment: String,
    /// `stop` or `restart`.
    pub action: Word,
    /// Who asked.
    pub actor: String,
    /// Always true; tells it from an operation.
    pub local: bool,
}

impl Operation {
    /// Whether nothing more will come.
    pub fn has_ended(&self) -> bool {
        matches!(self.status.as_ref(), "done" | "failed" | "expired")
    }
}
