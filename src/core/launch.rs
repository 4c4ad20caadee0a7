//! From recipe and spec to exactly what is executed: argument vector, environment, directories, address.
//!
//! Pure: the same inputs give the same launch. Nothing passes through a shell, so no value can become a command.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::database::{self, Connection, Made, Servers};
use crate::id::{Generation, Run};
use crate::name::{AppId, EnvironmentName};
use crate::reason::{Reason, ReasonCode};
use crate::recipe::{Adapter, Check, Listen, Recipe};
use crate::secret::SecretText;
use crate::shared::{MemberPlan, RunningHost, percent_encode};
use crate::spec::{AppSpec, Limits};
use crate::template::{Placeholder, Template};
use crate::unit::UnitPlan;

/// Where an instance is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A port on 127.0.0.1.
    Port(u16),
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "127.0.0.1:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A process to be: everything the adapter needs, nothing left to choose.
#[derive(Clone, PartialEq, Eq)]
pub struct Launch {
    /// Whose process.
    pub app: AppId,
    /// Which life.
    pub run: Run,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The whole environment; nothing else is inherited. May contain secrets: never print it.
    pub env: BTreeMap<String, String>,
    /// Working directory.
    pub cwd: PathBuf,
    /// Unix user.
    pub user: Option<String>,
    /// Unix group.
    pub group: Option<String>,
    /// Limits to set where the kernel allows.
    pub limits: Limits,
    /// How it listens.
    pub listen: Listen,
    /// Where it is reached; none if it listens nowhere.
    pub address: Option<Address>,
    /// Whether it is given a `NOTIFY_SOCKET`.
    pub notify: bool,
    /// Data directory: made if missing, owned by the app's user, never removed here.
    pub state_dir: PathBuf,
    /// Directory for sockets: made if missing, owned by the app's user.
    pub run_dir: PathBuf,
    /// What its unit is to be, if it is to run as one; else it is a child process.
    pub unit: Option<Box<UnitPlan>>,
    /// What is asked of its host, if it is to run in one.
    pub member: Option<Arc<MemberPlan>>,
}

impl Launch {
    /// The port that it listens on, if on one.
    pub fn port(&self) -> Option<u16> {
        match self.address {
            Some(Address::Port(port)) => Some(port),
            _ => None,
        }
    }

    /// The adapter it is for.
    pub fn adapter(&self) -> Adapter {
        match (&self.member, &self.unit) {
            (Some(_), _) => Adapter::Shared,
            (None, Some(_)) => Adapter::Systemd,
            (None, None) => Adapter::Process,
        }
    }
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("app", &self.app)
            .field("run", &self.run)
            .field("argv", &self.argv)
            .field("cwd", &self.cwd)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// A readiness or liveness question with its templates filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// An HTTP request to the instance's address.
    Http {
        /// Path and query.
        path: String,
        /// The wanted status; absent = 200 to 299.
        status: Option<u16>,
        /// The wanted body, exactly.
        expect_body: Option<String>,
        /// Dotted path to a progress text.
        progress: Option<String>,
        /// Dotted path and text that mean failure; how long it must persist is the core's to judge.
        failed_if: Option<(String, String)>,
    },
    /// A connection.
    Tcp,
    /// `READY=1`.
    Notify,
    /// A command with the launch's environment, user and working directory.
    Exec(Vec<String>),
    /// Nothing: yes at once.
    Started,
}

/// The places of one host that launches refer to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Under it, each app's data: `<state_root>/<app>`.
    pub state_root: PathBuf,
    /// Under it, each app's sockets: `<run_root>/<app>`. Outlives the daemon.
    pub run_root: PathBuf,
    /// This environment's name.
    pub environment: EnvironmentName,
    /// `TZ` for apps that name none.
    pub time_zone: Option<String>,
    /// Where databases are made.
    pub databases: Servers,
}

impl Places {
    /// Data directory of an app.
    pub fn state_dir(&self, app: &AppId) -> PathBuf {
        self.state_root.join(app.as_str())
    }

    /// Socket directory of an app.
    pub fn run_dir(&self, app: &AppId) -> PathBuf {
        self.run_root.join(app.as_str())
    }

    /// The file of an app whose database is one.
    pub fn database_file(&self, app: &AppId) -> PathBuf {
        self.state_dir(app).join(format!("{app}.sqlite"))
    }

    /// The address for an instance, given the port that was reserved for it.
    pub fn address(&self, listen: Listen, app: &AppId, port: Option<u16>) -> Option<Address> {
        match listen {
            Listen::None => None,
            Listen::Port | Listen::Fd => port.map(Address::Port),
            Listen::Unix => Some(Address::Unix(self.run_dir(app).join("app.sock"))),
        }
    }
}

/// One start's inputs.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// The spec.
    pub spec: &'a AppSpec,
    /// Its version.
    pub generation: Generation,
    /// The app's generated secret.
    pub jwt: &'a SecretText,
    /// Its secret for databases.
    pub db_secret: &'a SecretText,
    /// What was found of its database.
    pub database: Option<Made>,
    /// Which life.
    pub run: Run,
    /// Port reserved for it.
    pub port: Option<u16>,
    /// The host's places.
    pub places: &'a Places,
    /// The adapter that is to run it.
    pub adapter: Adapter,
    /// Whether the start is the first one of an upgrade.
    pub upgrade: bool,
    /// Its host, if it is to run in one that runs.
    pub host: Option<&'a RunningHost>,
}

/// The search path of apps that set none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Inputs<'_> {
    /// The process to start.
    ///
    /// # Errors
    /// A placeholder without a value, named in the reason.
    pub fn launch(&self) -> Result<Launch, Reason> {
        let recipe = self.recipe;
        // Told by itself, or a placeholder without a value would be all that is said of it.
        self.connection()?;
        let state_dir = self.places.state_dir(&self.spec.name);
        let address = match self.host {
            Some(host) => Some(host.address.clone()),
            None => self.places.address(recipe.listen, &self.spec.name, self.port),
        };
        let member = match (&recipe.shared, self.adapter) {
            (Some(shared), Adapter::Shared) => Some(Arc::new(self.member_plan(shared)?)),
            _ => None,
        };
        let cwd = match &recipe.working_dir {
            Some(template) => PathBuf::from(self.fill("working_dir", template)?),
            None => state_dir.clone(),
        };
        Ok(Launch {
            app: self.spec.name.clone(),
            run: self.run,
            argv: self.fill_all("command", &recipe.command)?,
            env: self.environment(&state_dir)?,
            cwd,
            user: recipe.user.clone(),
            group: recipe.group.clone(),
            limits: self.spec.limits.or(recipe.limits),
            listen: recipe.listen,
            address,
            notify: recipe.ready.check == Check::Notify,
            run_dir: self.places.run_dir(&self.spec.name),
            state_dir,
            unit: (self.adapter == Adapter::Systemd).then(|| Box::new(self.unit_plan())),
            member,
        })
    }

    /// How the app is connected to its database, if it has one.
    ///
    /// # Errors
    /// This host has no such server, or the app no secret for it.
    pub fn connection(&self) -> Result<Option<Connection>, Reason> {
        let Some(database) = &self.spec.database else { return Ok(None) };
        let app = &self.spec.name;
        let owner = database::Owner { app, environment: &self.places.environment, secret: self.db_secret };
        database.connection(owner, &self.places.databases, self.places.database_file(app), self.database).map(Some)
    }

    fn unit_plan(&self) -> UnitPlan {
        UnitPlan {
            environment: self.places.environment.clone(),
            generation: self.generation,
            restart: self.recipe.restart.clone(),
            stop: self.recipe.stop.clone(),
            start_timeout: self.recipe.ready.max_timeout,
            sandbox: self.recipe.sandbox,
            settings: self.recipe.unit.clone(),
        }
    }

    /// A recipe's command line (a hook, an exec probe) filled in.
    ///
    /// # Errors
    /// A placeholder without a value.
    pub fn command(&self, key: &str, argv: &[Template]) -> Result<Vec<String>, Reason> {
        self.fill_all(key, argv)
    }

    /// A readiness or liveness question filled in.
    ///
    /// # Errors
    /// A placeholder without a value.
    pub fn question(&self, key: &str, check: &Check) -> Result<Question, Reason> {
        Ok(match check {
            Check::Http(http) => Question::Http {
                path: self.fill(key, &http.path)?,
                status: http.status,
                expect_body: http.expect_body.clone(),
                progress: http.progress.clone(),
                failed_if: http.failed_if.as_ref().map(|f| (f.path.clone(), f.equals.clone())),
            },
            Check::Tcp => Question::Tcp,
            Check::Notify => Question::Notify,
            Check::Exec(argv) => Question::Exec(self.fill_all(key, argv)?),
            Check::Started => Question::Started,
        })
    }

    /// Precedence, lowest first: what every app gets, the recipe, the app's variables, its secrets, the placement.
    fn environment(&self, state_dir: &Path) -> Result<BTreeMap<String, String>, Reason> {
        let mut env = BTreeMap::from([
            ("PATH".to_string(), PATH.to_string()),
            ("HOME".to_string(), state_dir.display().to_string()),
            ("LANG".to_string(), "C.UTF-8".to_string()),
        ]);
        env.extend(self.places.time_zone.iter().map(|zone| ("TZ".to_string(), zone.clone())));
        env.extend(self.recipe.user.iter().map(|user| ("USER".to_string(), user.clone())));
        for (name, template) in &self.recipe.environment {
            let key = format!("environment.{name}");
            env.insert(name.clone(), self.fill(&key, template)?);
        }
        env.extend(self.spec.env.clone());
        let secrets = self.spec.secrets.iter();
        env.extend(secrets.map(|(name, secret)| (name.clone(), secret.expose().to_string())));
        if let Some(placement) = self.spec.placements.get(&self.places.environment) {
            env.extend(placement.env.clone());
        }
        Ok(env)
    }

    fn fill_all(&self, key: &str, templates: &[Template]) -> Result<Vec<String>, Reason> {
        let numbered = templates.iter().enumerate();
        numbered.map(|(i, template)| self.fill(&format!("{key}[{i}]"), template)).collect()
    }

    pub(crate) fn fill(&self, key: &str, template: &Template) -> Result<String, Reason> {
        template.render(|hole| self.value(hole)).map_err(|hole| self.no_value(key, &hole))
    }

    /// The same for a path: what is filled in is encoded, except what is a path itself.
    pub(crate) fn fill_path(&self, key: &str, template: &Template) -> Result<String, Reason> {
        let value = |hole: &Placeholder| match hole {
            Placeholder::PublicPath => self.value(hole),
            _ => self.value(hole).map(|text| percent_encode(&text)),
        };
        template.render(value).map_err(|hole| self.no_value(key, &hole))
    }

    fn no_value(&self, key: &str, hole: &Placeholder) -> Reason {
        let text = format!("{{{hole}}} in {key} of runtime {} has no value for this app", self.recipe.name);
        Reason::new(ReasonCode::BadRecipe, text)
    }

    fn value(&self, hole: &Placeholder) -> Option<String> {
        let app = &self.spec.name;
        match hole {
            Placeholder::App => Some(app.to_string()),
            Placeholder::Environment => Some(self.places.environment.to_string()),
            Placeholder::Generation => Some(self.generation.to_string()),
            Placeholder::Port => self.port.map(|port| port.to_string()),
            Placeholder::Socket => match self.places.address(self.recipe.listen, app, self.port) {
                Some(Address::Unix(path)) => Some(path.display().to_string()),
                _ => None,
            },
            Placeholder::PublicPath => Some(format!("/apps/{app}/")),
            // An app_dir that names itself would never end; the recipe check refuses it, and here it has no value.
            Placeholder::AppDir => self
                .recipe
                .app_dir
                .as_ref()?
                .render(|hole| match hole {
                    Placeholder::AppDir => None,
                    other => self.value(other),
                })
                .ok(),
            Placeholder::Db(part) => self.connection().ok().flatten().map(|connection| part.of(&connection)),
            Placeholder::StateDir => Some(self.places.state_dir(app).display().to_string()),
            Placeholder::RunDir => Some(self.places.run_dir(app).display().to_string()),
            Placeholder::HeapMb => {
                let max = self.spec.limits.or(self.recipe.limits).memory_max;
                Some(max.map_or(0, |max| max.0 / 10 * 6 / (1 << 20)).to_string())
            }
            Placeholder::Env(name) => self.spec.env.get(name).cloned(),
            Placeholder::Secret(name) => match self.spec.secrets.get(name) {
                Some(secret) => Some(secret.expose().to_string()),
                None if name == "jwt" => Some(self.jwt.expose().to_string()),
                None => None,
            },
        }
    }
}

/// The longest pause that a probe makes between two questions while it waits for a start.
pub const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(60);
