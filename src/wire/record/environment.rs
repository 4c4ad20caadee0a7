//! Stored environments, and what an environment says of itself.

use std::collections::BTreeMap;
use std::time::Duration;

use nbs_core::database::Endpoint;
use nbs_core::id::{EntryId, Epoch, Reign};
use nbs_core::name::{EnvironmentName, RuntimeName, ServerName};
use nbs_core::order::{Capacity, Registration, RuntimeSummary, SharedSummary};
use nbs_core::paths::{AppPath, Paths};
use nbs_core::quantity::{ByteSize, CpuQuota};
use nbs_core::recipe::{Adapter, Listen};
use nbs_core::record::EnvironmentRow;
use nbs_core::spec::Limits;
use nbs_core::time::Wall;
use serde::{Deserialize, Serialize};

use crate::wire::record::{RowError, name, read, word, write};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct EnvironmentShape {
    v: u32,
    name: String,
    draining: bool,
    heard_at: u64,
    registration: RegistrationShape,
}

/// What an environment says of itself.
#[derive(Serialize, Deserialize)]
pub(crate) struct RegistrationShape {
    environment: String,
    version: String,
    boot: String,
    concurrent_starts: u32,
    pub(crate) runtimes: Vec<RuntimeShape>,
    #[serde(default)]
    host: String,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    proxy_url: Option<String>,
    #[serde(default)]
    capacity: Option<CapacityShape>,
    /// Not in rows and words of versions before there were databases.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    databases: BTreeMap<String, EndpointShape>,
    /// Rows and words from before workers told have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    follows: Option<FollowsShape>,
}

/// Where a database server is.
#[derive(Serialize, Deserialize)]
pub(crate) struct EndpointShape {
    host: String,
    port: u16,
}

/// What a host has.
#[derive(Serialize, Deserialize)]
pub(crate) struct CapacityShape {
    cpus: u32,
    memory_bytes: u64,
}

/// A recipe as the entry must know it.
#[derive(Serialize, Deserialize)]
pub(crate) struct RuntimeShape {
    name: String,
    #[serde(default)]
    description: String,
    adapter: String,
    listen: String,
    strip_prefix: bool,
    #[serde(default)]
    memory_max: Option<u64>,
    #[serde(default)]
    cpu_quota: Option<u32>,
    #[serde(default)]
    tasks_max: Option<u64>,
    #[serde(default)]
    io_weight: Option<u32>,
    /// Words of workers that know of no paths have none.
    #[serde(default, skip_serializing_if = "PathsShape::is_empty")]
    paths: PathsShape,
    #[serde(default)]
    app_id_pattern: Option<String>,
    #[serde(default)]
    secrets_needed: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    needs_database: bool,
    turn_timeout_us: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upgrade_timeout_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shared: Option<SharedShape>,
}

/// How a recipe hosts several apps in one process, as the entry must know it.
#[derive(Serialize, Deserialize)]
struct SharedShape {
    turn_timeout_us: u64,
    #[serde(default)]
    secrets_needed: Vec<String>,
    #[serde(default)]
    needs_database: bool,
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The paths that a recipe adds.
#[derive(Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct PathsShape {
    naming: Vec<AppPathShape>,
    shared: Vec<String>,
    page: Vec<String>,
}

#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct AppPathShape {
    path: String,
    #[serde(default)]
    rewrite: Option<String>,
}

impl PathsShape {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn of(paths: &Paths) -> Self {
        let shape = |own: &AppPath| AppPathShape { path: own.path.clone(), rewrite: own.rewrite.clone() };
        let naming = paths.naming.iter().map(shape).collect();
        Self { naming, shared: paths.shared.clone(), page: paths.page.clone() }
    }

    fn into_paths(self) -> Paths {
        let own = |shape: AppPathShape| AppPath { path: shape.path, rewrite: shape.rewrite };
        Paths { naming: self.naming.into_iter().map(own).collect(), shared: self.shared, page: self.page }
    }
}

impl RuntimeShape {
    pub(crate) fn of(summary: &RuntimeSummary) -> Self {
        let limits = &summary.max_limits;
        Self {
            name: summary.name.to_string(),
            description: summary.description.clone(),
            adapter: summary.adapter.as_str().into(),
            listen: summary.listen.as_str().into(),
            strip_prefix: summary.strip_prefix,
            memory_max: limits.memory_max.map(|size| size.0),
            cpu_quota: limits.cpu_quota.map(|quota| quota.0),
            tasks_max: limits.tasks_max,
            io_weight: limits.io_weight,
            paths: PathsShape::of(&summary.paths),
            app_id_pattern: summary.app_id_pattern.clone(),
            secrets_needed: summary.secrets_needed.clone(),
            needs_database: summary.needs_database,
            turn_timeout_us: micros(summary.turn_timeout),
            shared: summary.shared.as_ref().map(|shared| SharedShape {
                turn_timeout_us: micros(shared.turn_timeout),
                secrets_needed: shared.secrets_needed.clone(),
                needs_database: shared.needs_database,
            }),
            upgrade_timeout_us: summary.upgrade_timeout.map(micros),
        }
    }

    fn into_summary(self) -> Result<RuntimeSummary, RowError> {
        let listens = [Listen::None, Listen::Port, Listen::Unix, Listen::Fd];
        let listen = listens.into_iter().find(|listen| listen.as_str() == self.listen);
        Ok(RuntimeSummary {
            name: name(RuntimeName::parse(&self.name))?,
            description: self.description,
            adapter: word("adapter", &self.adapter, Adapter::parse(&self.adapter))?,
            listen: word("listen", &self.listen, listen)?,
            strip_prefix: self.strip_prefix,
            max_limits: Limits {
                memory_max: self.memory_max.map(ByteSize),
                cpu_quota: self.cpu_quota.map(CpuQuota),
                tasks_max: self.tasks_max,
                io_weight: self.io_weight,
            },
            paths: self.paths.into_paths(),
            app_id_pattern: self.app_id_pattern,
            secrets_needed: self.secrets_needed,
            needs_database: self.needs_database,
            turn_timeout: Duration::from_micros(self.turn_timeout_us),
            shared: self.shared.map(|shared| SharedSummary {
                turn_timeout: Duration::from_micros(shared.turn_timeout_us),
                secrets_needed: shared.secrets_needed,
                needs_database: shared.needs_database,
            }),
            upgrade_timeout: self.upgrade_timeout_us.map(Duration::from_micros),
        })
    }

    /// All runtimes of an environment, by name.
    pub(crate) fn into_map(shapes: Vec<Self>) -> Result<BTreeMap<RuntimeName, RuntimeSummary>, RowError> {
        let named = |shape: Self| shape.into_summary().map(|summary| (summary.name.clone(), summary));
        shapes.into_iter().map(named).collect()
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct FollowsShape {
    epoch: u64,
    entry: String,
}

impl FollowsShape {
    fn into_reign(self) -> Result<Reign, RowError> {
        Ok(Reign { epoch: Epoch(self.epoch), entry: word("entry", &self.entry, EntryId::parse(&self.entry))? })
    }
}

impl RegistrationShape {
    pub(crate) fn of(registration: &Registration) -> Self {
        let capacity = |has: Capacity| CapacityShape { cpus: has.cpus, memory_bytes: has.memory_bytes };
        Self {
            environment: registration.environment.to_string(),
            version: registration.version.clone(),
            boot: registration.boot.clone(),
            concurrent_starts: registration.concurrent_starts,
            runtimes: registration.runtimes.values().map(RuntimeShape::of).collect(),
            host: registration.host.clone(),
            url: registration.url.clone(),
            proxy_url: registration.proxy_url.clone(),
            capacity: registration.capacity.map(capacity),
            databases: registration
                .databases
                .iter()
                .map(|(name, at)| (name.to_string(), EndpointShape { host: at.host.clone(), port: at.port }))
                .collect(),
            follows: registration
                .follows
                .as_ref()
                .map(|reign| FollowsShape { epoch: reign.epoch.0, entry: reign.entry.to_string() }),
        }
    }

    pub(crate) fn into_registration(self) -> Result<Registration, RowError> {
        let mut databases = BTreeMap::new();
        for (key, at) in self.databases {
            databases.insert(name(ServerName::parse(&key))?, Endpoint { host: at.host, port: at.port });
        }
        Ok(Registration {
            environment: name(EnvironmentName::parse(&self.environment))?,
            version: self.version,
            boot: self.boot,
            concurrent_starts: self.concurrent_starts,
            runtimes: RuntimeShape::into_map(self.runtimes)?,
            host: self.host,
            url: self.url,
            proxy_url: self.proxy_url,
            capacity: self.capacity.map(|has| Capacity { cpus: has.cpus, memory_bytes: has.memory_bytes }),
            databases,
            follows: self.follows.map(FollowsShape::into_reign).transpose()?,
        })
    }
}

/// Writes an environment.
///
/// # Errors
/// Never in practice; the engine's text if it cannot be written.
pub fn write_environment(row: &EnvironmentRow) -> Result<String, RowError> {
    write(&EnvironmentShape {
        v: VERSION,
        name: row.name.to_string(),
        draining: row.draining,
        heard_at: row.heard_at.0,
        registration: RegistrationShape::of(&row.registration),
    })
}

/// Reads an environment.
///
/// # Errors
/// The row is damaged or newer.
pub fn read_environment(text: &str) -> Result<EnvironmentRow, RowError> {
    let shape: EnvironmentShape = read(text, VERSION)?;
    Ok(EnvironmentRow {
        name: name(EnvironmentName::parse(&shape.name))?,
        draining: shape.draining,
        heard_at: Wall(shape.heard_at),
        registration: shape.registration.into_registration()?,
    })
}
