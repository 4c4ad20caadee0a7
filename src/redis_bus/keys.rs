//! The names of the keys. `docs/redis.md` says what is in them and who may write them.

use nbs_core::name::{AppId, EnvironmentName};

/// Who the entry is.
pub(super) const ENTRY: &str = "nbs:v1:entry";
/// That the entry is alive.
pub(super) const ENTRY_LEASE: &str = "nbs:v1:entry:lease";
/// What workers tell.
pub(super) const REPORTS: &str = "nbs:v1:reports";
/// The names of environments.
pub(super) const ENVIRONMENTS: &str = "nbs:v1:environments";
/// What there is, for people and dashboards.
pub(super) const APPS: &str = "nbs:v1:apps";
/// The group, and the one consumer in it, that reads reports.
pub(super) const ENTRY_GROUP: &str = "entry";
/// The group, and the one consumer in it, that reads an environment's orders.
pub(super) const WORKER_GROUP: &str = "worker";
/// Orders kept for an environment. Ten for each of a hundred apps; what is older is ordered again.
pub(super) const ORDERS_KEPT: usize = 1_000;
/// Reports kept. A thousand environments that say hello at once, twenty times.
pub(super) const REPORTS_KEPT: usize = 20_000;

/// The keys of one environment.
#[derive(Debug, Clone)]
pub(super) struct EnvironmentKeyNames {
    pub(super) orders: String,
    pub(super) intents: String,
    pub(super) lease: String,
    pub(super) epoch: String,
    pub(super) registration: String,
    pub(super) heartbeat: String,
    pub(super) usage: String,
}

impl EnvironmentKeyNames {
    pub(super) fn of(environment: &EnvironmentName) -> Self {
        let key = |what: &str| format!("nbs:v1:env:{environment}:{what}");
        Self {
            orders: key("orders"),
            intents: key("intents"),
            lease: key("lease"),
            epoch: key("epoch"),
            registration: key("registration"),
            heartbeat: key("heartbeat"),
            usage: key("usage"),
        }
    }
}

/// The lock that keeps two entries from starting one app at the same time.
pub(super) fn start_lock(app: &AppId) -> String {
    format!("nbs:v1:start:{app}")
}
