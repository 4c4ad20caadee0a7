//! Environments.

use std::collections::BTreeMap;

use nbs_core::name::RuntimeName;
use nbs_core::time::Now;
use nbs_core::view::EnvironmentView;
use serde::{Deserialize, Serialize};

use super::usage::{Capacity, HostUsage};
use super::{Word, millis, time};

/// `GET /environments`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentList {
    /// By name.
    pub environments: Vec<Environment>,
}

/// `GET /environments/{env}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Its name.
    pub name: String,
    /// Version of its daemon.
    pub version: String,
    /// Where it is reached.
    pub url: Option<String>,
    /// Where visitors are sent, if elsewhere.
    pub proxy_url: Option<String>,
    /// Whether that was reached.
    pub proxy_reachable: Option<bool>,
    /// Why not.
    pub proxy_error: Option<String>,
    /// `available`, `unavailable` or `draining`.
    pub status: Word,
    /// What it can run.
    pub runtimes: Vec<RuntimeVersion>,
    /// When it was last heard.
    pub last_heartbeat_at: String,
    /// How long ago that is.
    pub lease_age_ms: u64,
    /// What its host has.
    pub capacity: Option<Capacity>,
    /// What its host uses.
    pub usage: Option<HostUsage>,
    /// Instances placed there.
    pub instances: usize,
    /// Starts that may run at once.
    pub concurrent_starts: u32,
}

/// A runtime in an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeVersion {
    /// Which runtime.
    pub name: String,
    /// The version that its apps report, if they agree on one.
    pub version: Option<String>,
}

impl Environment {
    /// Shows an environment as of `now`; `versions` are those that its apps agree on.
    pub fn of(view: &EnvironmentView, versions: &BTreeMap<RuntimeName, Option<String>>, now: Now) -> Self {
        let registration = &view.registration;
        let runtimes = registration
            .runtimes
            .keys()
            .map(|name| RuntimeVersion { name: name.to_string(), version: versions.get(name).cloned().flatten() });
        Self {
            name: registration.environment.to_string(),
            version: registration.version.clone(),
            url: registration.url.clone(),
            proxy_url: registration.proxy_url.clone(),
            proxy_reachable: view.proxy.as_ref().map(Result::is_ok),
            proxy_error: view.proxy.as_ref().and_then(|result| result.as_ref().err().cloned()),
            status: view.status().into(),
            runtimes: runtimes.collect(),
            last_heartbeat_at: time(view.heard_at),
            lease_age_ms: millis(now.mono.since(view.heard)),
            capacity: None,
            usage: None,
            instances: view.instances,
            concurrent_starts: registration.concurrent_starts,
        }
    }
}
