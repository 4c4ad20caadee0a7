//! The daemon at a glance.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Word;
use super::environment::Environment;

/// `GET /status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// `standalone`, `supervisor` or `worker`.
    pub mode: String,
    /// Process ID.
    pub pid: u32,
    /// Since when it runs.
    pub started_at: String,
    /// For how long.
    pub uptime_ms: u64,
    /// Whether it is ready.
    pub ready: bool,
    /// Why it takes no commands, if so.
    #[serde(default)]
    pub read_only: Option<String>,
    /// The admin's unix socket.
    pub admin_socket: Option<String>,
    /// The admin's TCP address.
    pub admin_listen: Option<String>,
    /// Where visitors come in.
    pub gateway_url: Option<String>,
    /// How many apps there are.
    pub apps: usize,
    /// How many in each status that occurs.
    pub apps_by_status: BTreeMap<Word, usize>,
    /// Apps that need attention, at most 20.
    pub attention: Vec<Attention>,
    /// Operations that have not ended.
    pub operations_active: usize,
    /// Starts that wait for their turn.
    pub queue: usize,
    /// Environments.
    pub environments: Vec<Environment>,
}

/// An app that needs attention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attention {
    /// Which app.
    pub app: String,
    /// Its status.
    pub status: Word,
    /// Why.
    pub reason: Option<String>,
}
