//! Runtimes: the recipes that environments have.

use nbs_core::order::RuntimeSummary;
use nbs_core::quantity::format_duration;
use nbs_core::spec::Limits;
use serde::{Deserialize, Serialize};

use super::Word;

/// `GET /runtimes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeList {
    /// By name.
    pub runtimes: Vec<Runtime>,
    /// Recipe files that are wrong, on the host of this daemon.
    pub problems: Vec<RecipeProblem>,
}

/// A runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// Name.
    pub name: String,
    /// For people.
    pub description: String,
    /// `process` or `systemd`.
    pub adapter: Word,
    /// Ways of hosting that it knows: `dedicated`, and `shared` where its recipe tells how.
    #[serde(default)]
    pub hosting: Vec<Word>,
    /// `none`, `port`, `unix` or `fd`.
    pub listen: Word,
    /// Whether the gateway takes `/apps/<app>` off the path.
    pub strip_prefix: bool,
    /// What no app may exceed.
    pub max_limits: RuntimeLimits,
    /// Narrows app IDs.
    pub app_id_pattern: Option<String>,
    /// Secrets that an app must bring.
    pub secrets_needed: Vec<String>,
    /// The longest a start may take.
    pub turn_timeout: String,
    /// Where it is.
    pub environments: Vec<String>,
}

/// Limits as the spec writes them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RuntimeLimits {
    /// Memory.
    pub memory_max: Option<String>,
    /// CPU time.
    pub cpu_quota: Option<String>,
    /// Processes and threads.
    pub tasks_max: Option<u64>,
    /// Share of the disks' time.
    #[serde(default)]
    pub io_weight: Option<u32>,
}

/// What is wrong with a recipe file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipeProblem {
    /// Which file.
    pub file: String,
    /// Which line, where that is known.
    pub line: Option<usize>,
    /// Dotted path of the key.
    pub field: Option<String>,
    /// What is wrong, with the value.
    pub detail: String,
    /// What to do.
    pub hint: Option<String>,
}

impl From<&Limits> for RuntimeLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            memory_max: limits.memory_max.map(|size| size.to_string()),
            cpu_quota: limits.cpu_quota.map(|quota| quota.to_string()),
            tasks_max: limits.tasks_max,
            io_weight: limits.io_weight,
        }
    }
}

impl From<&RuntimeSummary> for Runtime {
    fn from(summary: &RuntimeSummary) -> Self {
        Self {
            name: summary.name.to_string(),
            description: summary.description.clone(),
            adapter: summary.adapter.as_str().into(),
            hosting: summary.hosting().map(|hosting| hosting.as_str().into()).collect(),
            listen: summary.listen.as_str().into(),
            strip_prefix: summary.strip_prefix,
            max_limits: (&summary.max_limits).into(),
            app_id_pattern: summary.app_id_pattern.clone(),
            secrets_needed: summary.secrets_needed.clone(),
            turn_timeout: format_duration(summary.turn_timeout),
            environments: Vec::new(),
        }
    }
}
