//! What an app is: valid by construction of its parts; whether it fits its environment is decided by the fleet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::database::Database;
use crate::name::{AppId, EnvironmentName, RuntimeName};
use crate::quantity::{ByteSize, CpuQuota};
use crate::secret::SecretText;

/// When an app starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartMode {
    /// With the daemon, after a boot of the host too.
    WithSupervisor,
    /// When it is first requested.
    OnFirstVisit,
    /// Only when told to.
    Manual,
}

impl StartMode {
    /// Every mode.
    pub const ALL: &'static [StartMode] = &[Self::WithSupervisor, Self::OnFirstVisit, Self::Manual];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WithSupervisor => "with-supervisor",
            Self::OnFirstVisit => "on-first-visit",
            Self::Manual => "manual",
        }
    }

    /// Reads the word on the wire.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|mode| mode.as_str() == text)
    }
}

/// Whose process an app runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hosting {
    /// Its own.
    #[default]
    Dedicated,
    /// One that it shares with other apps of its runtime.
    Shared,
}

impl Hosting {
    /// Every way.
    pub const ALL: &'static [Hosting] = &[Self::Dedicated, Self::Shared];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dedicated => "dedicated",
            Self::Shared => "shared",
        }
    }

    /// Reads the word on the wire.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|hosting| hosting.as_str() == text)
    }
}

/// Resource limits; absent means none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Bytes of memory of the whole tree.
    pub memory_max: Option<ByteSize>,
    /// CPU time.
    pub cpu_quota: Option<CpuQuota>,
    /// Processes and threads.
    pub tasks_max: Option<u64>,
    /// Share of the disks' time beside others, 1 to 10000; who names none has 100.
    pub io_weight: Option<u32>,
}

impl Limits {
    /// The app's own limits, and where it names none, the recipe's.
    #[must_use]
    pub fn or(self, recipe: Limits) -> Limits {
        Limits {
            memory_max: self.memory_max.or(recipe.memory_max),
            cpu_quota: self.cpu_quota.or(recipe.cpu_quota),
            tasks_max: self.tasks_max.or(recipe.tasks_max),
            io_weight: self.io_weight.or(recipe.io_weight),
        }
    }

    /// The first limit that is above `max`: its key, the value, the bound.
    pub fn above(&self, max: &Limits) -> Option<(&'static str, String, String)> {
        fn over<T: PartialOrd + ToString>(value: Option<T>, max: Option<T>) -> Option<(String, String)> {
            let (value, max) = (value?, max?);
            (value > max).then(|| (value.to_string(), max.to_string()))
        }
        let found = |key, pair: Option<(String, String)>| pair.map(|(value, max)| (key, value, max));
        found("memory_max", over(self.memory_max, max.memory_max))
            .or_else(|| found("cpu_quota", over(self.cpu_quota, max.cpu_quota)))
            .or_else(|| found("tasks_max", over(self.tasks_max, max.tasks_max)))
            .or_else(|| found("io_weight", over(self.io_weight, max.io_weight)))
    }
}

/// How visitors choose among several environments.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ProxyChoice {
    /// They must say it.
    #[default]
    Required,
    /// Any ready instance.
    Spread,
    /// Always this one.
    Environment(EnvironmentName),
}

/// The gateway's settings for one app.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProxySettings {
    /// Choice of environment.
    pub choice: ProxyChoice,
    /// How long a request waits for the app to become ready; absent = the gateway's own setting.
    pub hold_timeout: Option<Duration>,
}

/// What differs in one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Variables over those of the app.
    pub env: BTreeMap<String, String>,
    /// Whether visitors are sent there.
    pub serve: bool,
}

impl Default for Placement {
    fn default() -> Self {
        Self { env: BTreeMap::new(), serve: true }
    }
}

/// The specification of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppSpec {
    /// Its ID.
    pub name: AppId,
    /// A name for people.
    pub title: Option<String>,
    /// Which recipe runs it.
    pub runtime: RuntimeName,
    /// Whose process it runs in.
    pub hosting: Hosting,
    /// Where it runs; at least one.
    pub environments: BTreeSet<EnvironmentName>,
    /// When it starts.
    pub start_mode: StartMode,
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// Secret variables.
    pub secrets: BTreeMap<String, SecretText>,
    /// Its database; absent = none.
    pub database: Option<Database>,
    /// Limits.
    pub limits: Limits,
    /// Gateway.
    pub proxy: ProxySettings,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// Whether a start is preceded by the recipe's upgrade steps when another version is on disk than ran last.
    pub auto_upgrade: bool,
    /// Particulars of single environments.
    pub placements: BTreeMap<EnvironmentName, Placement>,
}

impl AppSpec {
    /// A spec with nothing but the necessary; for tests and generators.
    pub fn minimal(name: AppId, runtime: RuntimeName, environment: EnvironmentName) -> Self {
        Self {
            name,
            title: None,
            runtime,
            hosting: Hosting::Dedicated,
            environments: BTreeSet::from([environment]),
            start_mode: StartMode::OnFirstVisit,
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            database: None,
            limits: Limits::default(),
            proxy: ProxySettings::default(),
            labels: BTreeMap::new(),
            auto_upgrade: false,
            placements: BTreeMap::new(),
        }
    }
}
