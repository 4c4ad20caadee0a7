//! Events.

use nbs_core::view::EventView;
use serde::{Deserialize, Serialize};

use super::time;

/// `GET /events`, newest last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventList {
    /// One page.
    pub events: Vec<Event>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Grows by one with each.
    pub seq: u64,
    /// When.
    pub at: String,
    /// About which app.
    pub app: Option<String>,
    /// Where.
    pub environment: Option<String>,
    /// A word such as `instance_running`.
    pub kind: String,
    /// For people.
    pub message: String,
    /// The operation it belongs to.
    pub operation: Option<String>,
}

impl From<&EventView> for Event {
    fn from(event: &EventView) -> Self {
        Self {
            seq: event.seq,
            at: time(event.at),
            app: event.app.as_ref().map(ToString::to_string),
            environment: event.environment.as_ref().map(ToString::to_string),
            kind: event.kind.clone(),
            message: event.message.clone(),
            operation: event.operation.map(|id| id.to_string()),
        }
    }
}
