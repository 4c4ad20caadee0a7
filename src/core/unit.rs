//! What systemd is told of an instance's unit beyond the process itself: names, sandbox, raw properties, care.
//!
//! Deliberately absent: D-Bus types and signatures (the adapter's), and how a recipe spells these (the configuration's).

use std::time::Duration;

use crate::id::Generation;
use crate::name::{AppId, EnvironmentName};
use crate::recipe::StopSteps;
use crate::restart::RestartPolicy;
use crate::shared::is_host;

/// The slice of all units of apps.
pub const SLICE: &str = "nbsupervisor-apps.slice";

/// What the name of a hook's unit begins with: `nbs-hook-<app>:<n>.service`. No app ID has a colon.
pub const HOOK: &str = "nbs-hook-";
/// What the name of a probe's unit begins with: `nbs-probe-<app>:<n>.service`.
pub const PROBE: &str = "nbs-probe-";

/// The scope around an app's child processes, by the number of the first: `nbs-proc-<app>:<pid>.scope`. No app ID has a
/// colon.
pub fn scope_name(app: &AppId, pid: u32) -> String {
    format!("nbs-proc-{app}:{pid}.scope")
}

/// Whether a scope of this name is this app's.
pub fn is_scope_of(scope: &str, app: &AppId) -> bool {
    let middle = scope.strip_prefix("nbs-proc-").and_then(|rest| rest.strip_suffix(".scope"));
    let parts = middle.and_then(|middle| middle.split_once(':'));
    parts.is_some_and(|(name, pid)| name == app.as_str() && pid.parse::<u32>().is_ok())
}

/// The unit of an app's instance: `nbs-app-<app>.service`. A host's is called as the host is.
pub fn unit_name(app: &AppId) -> String {
    match is_host(app) {
        true => format!("{app}.service"),
        false => format!("nbs-app-{app}.service"),
    }
}

/// The app whose instance's unit has this name.
pub fn app_of_unit(unit: &str) -> Option<AppId> {
    let name = unit.strip_suffix(".service")?;
    match name.strip_prefix("nbs-app-") {
        Some(app) => AppId::parse(app).ok().filter(|app| !is_host(app)),
        None => AppId::parse(name).ok().filter(is_host),
    }
}

/// How far an app is shut off from the rest of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sandbox {
    /// Not at all, beyond its user.
    None,
    /// What hardly any server program needs is taken away.
    #[default]
    Standard,
}

impl Sandbox {
    /// The word in a recipe.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Standard => "standard",
        }
    }
}

/// A value of a unit's property, as its type on the bus wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitValue {
    /// `b`
    Bool(bool),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `t`; infinity is `u64::MAX`.
    U64(u64),
    /// `s`
    Text(String),
    /// `as`
    Texts(Vec<String>),
    /// `(bas)`
    Filter {
        /// Whether the names are what is allowed; else they are what is refused.
        allow: bool,
        /// The names.
        names: Vec<String>,
    },
    /// `a(ss)`
    Pairs(Vec<(String, String)>),
    /// `a(ssbt)`: source and target; a missing source is an error.
    Binds(Vec<(String, String)>),
    /// `a(st)`
    Amounts(Vec<(String, u64)>),
    /// `(aiai)`
    Exits {
        /// Exit statuses.
        statuses: Vec<i32>,
        /// Signals.
        signals: Vec<i32>,
    },
}

/// A property of the unit, by its name on the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitSetting {
    /// Such as `WatchdogUSec`.
    pub property: String,
    /// Its value.
    pub value: UnitValue,
}

/// What systemd must know to look after an instance while nobody else does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitPlan {
    /// This environment, for the journal.
    pub environment: EnvironmentName,
    /// Version of the spec, for the journal.
    pub generation: Generation,
    /// When it is started again by itself.
    pub restart: RestartPolicy,
    /// How it is asked to end.
    pub stop: StopSteps,
    /// The longest a start may take.
    pub start_timeout: Duration,
    /// Sandbox.
    pub sandbox: Sandbox,
    /// Raw properties of the recipe; they win over the sandbox.
    pub settings: Vec<UnitSetting>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_of_an_app_names_the_app() {
        let app = AppId::parse("crm_2-a").unwrap();
        assert_eq!(unit_name(&app), "nbs-app-crm_2-a.service");
        assert_eq!(app_of_unit(&unit_name(&app)), Some(app));
        let host = AppId::parse("nbs-host-node").unwrap();
        assert_eq!(unit_name(&host), "nbs-host-node.service");
        assert_eq!(app_of_unit(&unit_name(&host)), Some(host));
        assert_eq!(app_of_unit("nbs-app-nbs-host-node.service"), None);
        assert_eq!(app_of_unit("nbs-app-.service"), None);
        assert_eq!(app_of_unit("nbs-hook-crm.service"), None);
    }
}
