//! The start queue.

use nbs_core::view::QueueView;
use serde::{Deserialize, Serialize};

use super::{Word, time};

/// `GET /queue`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// In the order of service.
    pub queue: Vec<QueueEntry>,
}

/// A place in the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueEntry {
    /// Which app.
    pub app: String,
    /// Where.
    pub environment: String,
    /// 1 is next.
    pub position: usize,
    /// The environment where the same app starts first; `slot`; or `environment <its own>` while that takes no starts.
    pub waits_for: String,
    /// Since when.
    pub since: String,
    /// Guess from earlier starts.
    pub eta_ms: Option<u64>,
    /// `boot`, `operator` or `visitor`.
    pub priority: Word,
}

impl From<&QueueView> for QueueEntry {
    fn from(entry: &QueueView) -> Self {
        Self {
            app: entry.app.to_string(),
            environment: entry.environment.to_string(),
            position: entry.position,
            waits_for: entry.waits_for.clone(),
            since: time(entry.since),
            eta_ms: entry.eta_ms,
            priority: entry.priority.as_str().into(),
        }
    }
}
