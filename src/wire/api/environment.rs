//! Environments: what each said of itself, and whether it is there.

use nbs_core::explain::unheard_for;
use nbs_core::name::RuntimeName;
use nbs_core::quantity::short_duration;
use nbs_core::reason::ReasonCode;
use nbs_core::time::Now;
use nbs_core::view::{EnvironmentView, Presence};
use serde::{Deserialize, Serialize};

use super::app::Reason;
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
    /// Its host's own name.
    #[serde(default)]
    pub host: String,
    /// Version of its daemon.
    pub version: String,
    /// Whether it is of the daemon that answers.
    #[serde(default)]
    pub local: bool,
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
    /// Why it is not `available`.
    #[serde(default)]
    pub reason: Option<Reason>,
    /// Whether it is to get no new starts.
    #[serde(default)]
    pub draining: bool,
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
    pub fn of(view: &EnvironmentView, version: impl Fn(&RuntimeName) -> Option<String>, now: Now) -> Self {
        let registration = &view.registration;
        let runtimes =
            registration.runtimes.keys().map(|name| RuntimeVersion { name: name.to_string(), version: version(name) });
        Self {
            name: registration.environment.to_string(),
            host: registration.host.clone(),
            local: view.is_local,
            version: registration.version.clone(),
            url: registration.url.clone(),
            proxy_url: registration.proxy_url.clone(),
            proxy_reachable: view.proxy.as_ref().map(Result::is_ok),
            proxy_error: view.proxy.as_ref().and_then(|result| result.as_ref().err().cloned()),
            status: view.status().into(),
            reason: reason(view, now),
            draining: view.draining,
            runtimes: runtimes.collect(),
            last_heartbeat_at: time(view.heard_at),
            lease_age_ms: millis(now.mono.since(view.heard)),
            capacity: registration
                .capacity
                .map(|capacity| Capacity { cpus: capacity.cpus, memory_bytes: capacity.memory_bytes }),
            usage: None,
            instances: view.instances,
            concurrent_starts: registration.concurrent_starts,
        }
    }
}

/// What `POST /environments/{env}/drain` and `…/undrain` answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentChange {
    /// Whether it was so before.
    pub already: bool,
    /// The environment as it is now.
    pub environment: Environment,
}

/// Why an environment gets no starts; nothing if it gets them.
pub fn reason(view: &EnvironmentView, now: Now) -> Option<Reason> {
    let name = &view.registration.environment;
    let silent = || short_duration(unheard_for(view, now));
    let (code, text, remedy): (_, _, Word) = match view.presence {
        Presence::Available if view.draining => (
            "draining",
            "it gets no new starts; what runs there runs on".into(),
            format!("`nbsupervisor env undrain {name}` gives it starts again").into(),
        ),
        Presence::Available => return None,
        Presence::Silent => (
            ReasonCode::EnvironmentSilent.code(),
            format!("it has been silent for {}; what runs there runs on, unseen", silent()),
            ReasonCode::EnvironmentSilent.remedy().into(),
        ),
        Presence::Unheard => (
            "entry_without_redis",
            format!("this entry has no Redis and has not heard it for {}, so it cannot know", silent()),
            "bring Redis back; what runs there runs on, and is served from the last known addresses".into(),
        ),
        Presence::Awaited => (
            "not_heard_yet",
            format!("it has not been heard since this entry started; last heard at {}", time(view.heard_at)),
            format!(
                "wait a moment, or look at its daemon; `nbsupervisor env forget {name}` strikes off what is gone for good"
            )
            .into(),
        ),
    };
    Some(Reason { code: code.into(), text, remedy })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use nbs_core::name::EnvironmentName;
    use nbs_core::order::Registration;
    use nbs_core::time::{Mono, Wall};

    use super::*;

    fn view(presence: Presence, draining: bool) -> EnvironmentView {
        let registration = Registration {
            environment: EnvironmentName::parse("env_b").unwrap(),
            version: "0.1.0".into(),
            boot: "b".into(),
            concurrent_starts: 2,
            runtimes: Default::default(),
            host: "beta".into(),
            url: Some("http://10.0.0.3:13000".into()),
            proxy_url: None,
            capacity: Some(nbs_core::order::Capacity { cpus: 8, memory_bytes: 1 << 35 }),
            databases: Default::default(),
            follows: None,
        };
        EnvironmentView {
            registration: Arc::new(registration),
            heard_at: Wall(1_795_230_000_000),
            heard: Mono(Duration::from_secs(60)),
            presence,
            draining,
            is_local: false,
            proxy: Some(Err("connection refused".into())),
            instances: 3,
        }
    }

    fn shown(presence: Presence, draining: bool) -> Environment {
        let now = Now { mono: Mono(Duration::from_secs(101)), wall: Wall(1_795_230_041_000) };
        Environment::of(&view(presence, draining), |_| None, now)
    }

    #[test]
    fn an_environment_has_the_fields_of_the_contract() {
        let json = serde_json::to_value(shown(Presence::Available, false)).unwrap();
        let wanted = serde_json::json!({
            "name": "env_b", "host": "beta", "version": "0.1.0", "local": false, "url": "http://10.0.0.3:13000",
            "proxy_url": null, "proxy_reachable": false, "proxy_error": "connection refused", "status": "available",
            "reason": null, "draining": false, "runtimes": [], "last_heartbeat_at": "2026-11-21T03:00:00.000Z",
            "lease_age_ms": 41000, "capacity": { "cpus": 8, "memory_bytes": 34_359_738_368_u64 }, "usage": null,
            "instances": 3, "concurrent_starts": 2,
        });
        assert_eq!(json, wanted);
    }

    #[test]
    fn an_environment_that_gets_no_starts_says_why() {
        let table = [
            (Presence::Available, true, "draining", "draining", "undrain env_b"),
            (Presence::Silent, false, "unavailable", "environment_silent", "check the host"),
            (Presence::Silent, true, "unavailable", "environment_silent", "check the host"),
            (Presence::Unheard, false, "unavailable", "entry_without_redis", "bring Redis back"),
            (Presence::Awaited, false, "unavailable", "not_heard_yet", "env forget env_b"),
        ];
        for (presence, draining, status, code, remedy) in table {
            let shown = shown(presence, draining);
            let reason = shown.reason.unwrap();
            assert_eq!((shown.status.as_ref(), reason.code.as_ref()), (status, code), "{presence:?}");
            assert!(reason.remedy.contains(remedy), "{reason:?}");
        }
        let silent = shown(Presence::Silent, false).reason.unwrap().text;
        assert!(silent.starts_with("it has been silent for 41s"), "{silent}");
    }
}
