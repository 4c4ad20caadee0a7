//! The spec inside stored rows: exact numbers and encrypted secrets, unlike the shape that people write.

use std::collections::BTreeMap;
use std::time::Duration;

use nbs_core::database::{Database, Dialect, Given};
use nbs_core::name::{AppId, EnvironmentName, RuntimeName, ServerName};
use nbs_core::quantity::{ByteSize, CpuQuota};
use nbs_core::spec::{AppSpec, Hosting, Limits, Placement, ProxyChoice, ProxySettings, StartMode};
use serde::{Deserialize, Serialize};

use crate::wire::record::{Cipher, Place, RowError, name, word};

/// A stored spec.
#[derive(Serialize, Deserialize)]
pub(crate) struct SpecShape {
    pub(crate) name: String,
    title: Option<String>,
    runtime: String,
    /// Rows from before there was a choice have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hosting: Option<String>,
    environments: Vec<String>,
    start_mode: String,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    /// Not in rows of versions before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    database: Option<DatabaseShape>,
    memory_max: Option<u64>,
    cpu_quota: Option<u32>,
    tasks_max: Option<u64>,
    /// Not in rows of versions before it.
    #[serde(default)]
    io_weight: Option<u32>,
    #[serde(default)]
    proxy: ProxyShape,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    auto_upgrade: bool,
    #[serde(default)]
    placements: BTreeMap<String, PlacementShape>,
}

/// `be` says which one; `dialect` stands beside it for those to come.
#[derive(Serialize, Deserialize)]
#[serde(tag = "be", rename_all = "lowercase")]
pub(crate) enum DatabaseShape {
    New { dialect: String, server: String },
    Schema { dialect: String, server: String },
    File { dialect: String },
    Given(Box<GivenShape>),
}

#[derive(Serialize, Deserialize)]
pub(crate) struct GivenShape {
    dialect: String,
    host: String,
    port: u16,
    database: String,
    schema: Option<String>,
    user: String,
    password: String,
}

/// Where the password of a given connection is sealed; as a field it cannot be that of a secret, which begins otherwise.
const DATABASE_PASSWORD: &str = "database/password";

impl DatabaseShape {
    pub(crate) fn of(database: &Database, cipher: &dyn Cipher, place: Place<'_>) -> Result<Self, RowError> {
        let dialect = database.dialect().as_str().to_string();
        Ok(match database {
            Database::New { server } => Self::New { dialect, server: server.to_string() },
            Database::Schema { server } => Self::Schema { dialect, server: server.to_string() },
            Database::File => Self::File { dialect },
            Database::Given(given) => Self::Given(Box::new(GivenShape {
                dialect,
                host: given.host.clone(),
                port: given.port,
                database: given.database.clone(),
                schema: given.schema.clone(),
                user: given.user.clone(),
                password: place.seal(cipher, DATABASE_PASSWORD, &given.password)?,
            })),
        })
    }

    pub(crate) fn into_database(self, cipher: &dyn Cipher, place: Place<'_>) -> Result<Database, RowError> {
        let server = |text: &str| name(ServerName::parse(text));
        let database = match &self {
            Self::New { server: text, .. } => Database::New { server: server(text)? },
            Self::Schema { server: text, .. } => Database::Schema { server: server(text)? },
            Self::File { .. } => Database::File,
            Self::Given(given) => Database::Given(Box::new(Given {
                host: given.host.clone(),
                port: given.port,
                database: given.database.clone(),
                schema: given.schema.clone(),
                user: given.user.clone(),
                password: place.open(cipher, DATABASE_PASSWORD, &given.password)?,
            })),
        };
        let dialect = match &self {
            Self::New { dialect, .. } | Self::Schema { dialect, .. } | Self::File { dialect } => dialect,
            Self::Given(given) => &given.dialect,
        };
        let known = Dialect::parse(dialect).filter(|known| *known == database.dialect());
        word("dialect", dialect, known.map(|_| database))
    }
}

/// `choice` is a word, `environment` its name where the word is `environment`: a name must not be taken for a word.
#[derive(Serialize, Deserialize, Default)]
struct ProxyShape {
    choice: String,
    environment: Option<String>,
    hold_timeout_us: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct PlacementShape {
    #[serde(default)]
    env: BTreeMap<String, String>,
    serve: bool,
}

impl SpecShape {
    pub(crate) fn of(spec: &AppSpec, cipher: &dyn Cipher, place: Place<'_>) -> Result<Self, RowError> {
        let secrets: Result<BTreeMap<String, String>, RowError> = spec
            .secrets
            .iter()
            .map(|(name, text)| Ok((name.clone(), place.seal(cipher, &secret_field(name), text)?)))
            .collect();
        let (choice, environment) = match &spec.proxy.choice {
            ProxyChoice::Required => ("required", None),
            ProxyChoice::Spread => ("spread", None),
            ProxyChoice::Environment(name) => ("environment", Some(name.to_string())),
        };
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let placement = |p: &Placement| PlacementShape { env: p.env.clone(), serve: p.serve };
        Ok(Self {
            name: spec.name.to_string(),
            title: spec.title.clone(),
            runtime: spec.runtime.to_string(),
            hosting: (spec.hosting != Hosting::Dedicated).then(|| spec.hosting.as_str().into()),
            environments: spec.environments.iter().map(EnvironmentName::to_string).collect(),
            start_mode: spec.start_mode.as_str().into(),
            env: spec.env.clone(),
            secrets: secrets?,
            database: spec.database.as_ref().map(|one| DatabaseShape::of(one, cipher, place)).transpose()?,
            memory_max: spec.limits.memory_max.map(|size| size.0),
            cpu_quota: spec.limits.cpu_quota.map(|quota| quota.0),
            tasks_max: spec.limits.tasks_max,
            io_weight: spec.limits.io_weight,
            proxy: ProxyShape {
                choice: choice.into(),
                environment,
                hold_timeout_us: spec.proxy.hold_timeout.map(micros),
            },
            labels: spec.labels.clone(),
            auto_upgrade: spec.auto_upgrade,
            placements: spec.placements.iter().map(|(name, p)| (name.to_string(), placement(p))).collect(),
        })
    }

    pub(crate) fn into_spec(self, cipher: &dyn Cipher, place: Place<'_>) -> Result<AppSpec, RowError> {
        let environment = |text: &str| name(EnvironmentName::parse(text));
        let mut secrets = BTreeMap::new();
        for (key, sealed) in &self.secrets {
            secrets.insert(key.clone(), place.open(cipher, &secret_field(key), sealed)?);
        }
        let mut placements = BTreeMap::new();
        for (key, shape) in self.placements {
            placements.insert(environment(&key)?, Placement { env: shape.env, serve: shape.serve });
        }
        let choice = match (self.proxy.choice.as_str(), &self.proxy.environment) {
            ("required" | "", _) => ProxyChoice::Required,
            ("spread", _) => ProxyChoice::Spread,
            ("environment", Some(name)) => ProxyChoice::Environment(environment(name)?),
            (other, _) => return word("choice", other, None),
        };
        let environments: Result<_, RowError> = self.environments.iter().map(|text| environment(text)).collect();
        Ok(AppSpec {
            name: name(AppId::parse(&self.name))?,
            title: self.title,
            runtime: name(RuntimeName::parse(&self.runtime))?,
            hosting: match self.hosting.as_deref() {
                None => Hosting::Dedicated,
                Some(text) => word("hosting", text, Hosting::parse(text))?,
            },
            environments: environments?,
            start_mode: word("start_mode", &self.start_mode, StartMode::parse(&self.start_mode))?,
            env: self.env,
            secrets,
            database: self.database.map(|shape| shape.into_database(cipher, place)).transpose()?,
            limits: Limits {
                memory_max: self.memory_max.map(ByteSize),
                cpu_quota: self.cpu_quota.map(CpuQuota),
                tasks_max: self.tasks_max,
                io_weight: self.io_weight,
            },
            proxy: ProxySettings { choice, hold_timeout: self.proxy.hold_timeout_us.map(Duration::from_micros) },
            labels: self.labels,
            auto_upgrade: self.auto_upgrade,
            placements,
        })
    }
}

/// The name is part of the place, so that two secrets of one app cannot be swapped; it cannot be `jwt`, which has no `/`.
fn secret_field(name: &str) -> String {
    format!("secret/{name}")
}
