//! Lines of an app's log.

use serde::{Deserialize, Serialize};

/// One line of `GET /apps/{app}/logs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When, where the log keeps it.
    pub at: Option<String>,
    /// The line.
    pub text: String,
    /// The place behind this line, for `?cursor=`, where the log has such places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}
