//! A runtime's recipe: how one kind of app is run. The file's shape lives in the configuration; here is its meaning.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::name::RuntimeName;
use crate::paths::Paths;
use crate::restart::RestartPolicy;
use crate::shared::{Shared, secrets_in};
use crate::signal::Signal;
use crate::spec::Limits;
use crate::template::{Placeholder, Template};
use crate::unit::{Sandbox, UnitSetting};

/// What runs the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Adapter {
    /// A plain child process of the daemon.
    Process,
    /// A transient unit of systemd.
    Systemd,
    /// A host process, in which it runs beside other apps.
    Shared,
}

impl Adapter {
    /// Reads the word on the wire.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Process, Self::Systemd, Self::Shared].into_iter().find(|adapter| adapter.as_str() == text)
    }

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Systemd => "systemd",
            Self::Shared => "shared",
        }
    }
}

/// Where the app listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere: a job, never proxied.
    None,
    /// On `127.0.0.1:{port}`.
    Port,
    /// On the unix socket `{socket}`.
    Unix,
    /// On a listening socket handed over as file descriptor 3 (`LISTEN_FDS=1`), bound to `127.0.0.1:{port}`.
    Fd,
}

impl Listen {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Port => "port",
            Self::Unix => "unix",
            Self::Fd => "fd",
        }
    }

    /// Whether an instance needs a port of the environment's range.
    pub fn needs_port(self) -> bool {
        matches!(self, Self::Port | Self::Fd)
    }
}

/// A JSON answer that means "failed for good".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedIf {
    /// Dotted path into the JSON answer.
    pub path: String,
    /// The text at that path.
    pub equals: String,
    /// How long it must persist.
    pub persists: Duration,
}

/// A question to the app over HTTP on its own address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProbe {
    /// Path and query, with placeholders.
    pub path: Template,
    /// The wanted status; absent = any from 200 to 299.
    pub status: Option<u16>,
    /// The wanted body, exactly.
    pub expect_body: Option<String>,
    /// Dotted path to a text in a JSON answer that tells the progress.
    pub progress: Option<String>,
    /// A JSON answer that means failure.
    pub failed_if: Option<FailedIf>,
}

/// How something is asked whether it is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// An HTTP request.
    Http(HttpProbe),
    /// A connection to its port or socket.
    Tcp,
    /// `READY=1` on the socket named in `NOTIFY_SOCKET`; for readiness only.
    Notify,
    /// A command that ends with status 0, run as the app's user in its environment.
    Exec(Vec<Template>),
    /// Nothing is asked: a started process is ready.
    Started,
}

/// When a started process counts as ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// How it is asked.
    pub check: Check,
    /// Pause between two questions.
    pub interval: Duration,
    /// Deadline of the start; moves on while the progress changes.
    pub timeout: Duration,
    /// The last moment, progress or not.
    pub max_timeout: Duration,
}

/// When a running process counts as dead though it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alive {
    /// How it is asked.
    pub check: Check,
    /// Pause between two questions.
    pub interval: Duration,
    /// Wait for an answer.
    pub timeout: Duration,
    /// Failures in a row until it is restarted.
    pub failures: u32,
}

/// How the app's version is found out once it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionProbe {
    /// A dotted path into a JSON answer.
    Http {
        /// Path and query.
        path: Template,
        /// Dotted path to the version.
        json: String,
    },
    /// First line of a command's output.
    Exec(Vec<Template>),
}

/// A command that runs once, such as a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Argument vector.
    pub command: Vec<Template>,
    /// After this long it is killed and has failed.
    pub timeout: Duration,
}

/// How a process is asked to end: each signal, and how long it has for it. Then SIGKILL to the whole tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopSteps(pub Vec<(Signal, Duration)>);

impl Default for StopSteps {
    fn default() -> Self {
        Self(vec![(Signal::TERM, Duration::from_secs(10))])
    }
}

/// A recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// The runtime's name.
    pub name: RuntimeName,
    /// For people.
    pub description: String,
    /// The program and its arguments; never goes through a shell. At least one.
    pub command: Vec<Template>,
    /// Where it starts; absent = its state directory.
    pub working_dir: Option<Template>,
    /// What `{app_dir}` stands for; may itself use `{app}` and `{environment}`.
    pub app_dir: Option<Template>,
    /// Which adapter; absent = chosen by the host.
    pub adapter: Option<Adapter>,
    /// Variables.
    pub environment: BTreeMap<String, Template>,
    /// Where it listens.
    pub listen: Listen,
    /// Whether the gateway takes `/apps/<app>` off the path.
    pub strip_prefix: bool,
    /// Unix user; absent = the daemon's own (process adapter).
    pub user: Option<String>,
    /// Unix group; absent = the user's own.
    pub group: Option<String>,
    /// Readiness.
    pub ready: Ready,
    /// Liveness.
    pub alive: Option<Alive>,
    /// Version.
    pub version: Option<VersionProbe>,
    /// Before the first start.
    pub prepare: Vec<Hook>,
    /// Stop steps.
    pub stop: StopSteps,
    /// Restart policy.
    pub restart: RestartPolicy,
    /// Limits of an app that names none.
    pub limits: Limits,
    /// What no app may exceed.
    pub max_limits: Limits,
    /// Paths that the gateway knows besides `/apps/<app>/`.
    pub paths: Paths,
    /// Narrows the app IDs: an anchored regular expression.
    pub app_id_pattern: Option<String>,
    /// Sandbox of its units; the process adapter has none.
    pub sandbox: Sandbox,
    /// Raw properties of its units.
    pub unit: Vec<UnitSetting>,
    /// How several apps run in one process; none = each has its own.
    pub shared: Option<Arc<Shared>>,
    /// What keeps it up to date.
    pub upkeep: Upkeep,
}

/// Upgrades, and restarts that an app asks for itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Upkeep {
    /// Before the steps of an upgrade.
    pub backup: Vec<Hook>,
    /// The steps of an upgrade.
    pub upgrade: Vec<Hook>,
    /// A command whose first line tells the version on disk.
    pub installed: Option<Vec<Template>>,
    /// A file by which a running app asks to be restarted.
    pub restart_on_file: Option<Template>,
}

impl Upkeep {
    /// The steps of an upgrade in their order, each with its name.
    pub fn step(&self, number: u32) -> Option<(HookId, &Hook)> {
        let number = number as usize;
        let (kind, index, hooks) = match number.checked_sub(self.backup.len()) {
            None => (HookKind::Backup, number, &self.backup),
            Some(index) => (HookKind::Upgrade, index, &self.upgrade),
        };
        hooks.get(index).map(|hook| (HookId { kind, index: index as u32 }, hook))
    }

    /// How many there are.
    pub fn steps(&self) -> u32 {
        (self.backup.len() + self.upgrade.len()) as u32
    }

    /// How long they may take; none: there is nothing to run.
    pub fn upgrade_timeout(&self) -> Option<Duration> {
        let steps = self.backup.iter().chain(&self.upgrade);
        (!self.upgrade.is_empty()).then(|| steps.map(|hook| hook.timeout).sum())
    }
}

/// What a hook is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookKind {
    /// Before the first start.
    Prepare,
    /// Before an upgrade.
    Backup,
    /// An upgrade.
    Upgrade,
}

/// One hook of a recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HookId {
    /// What it is for.
    pub kind: HookKind,
    /// Its place in the recipe's list, from 0.
    pub index: u32,
}

impl HookId {
    /// A prepare hook.
    pub fn prepare(index: u32) -> Self {
        Self { kind: HookKind::Prepare, index }
    }

    /// The recipe's key of its list.
    pub fn key(self) -> &'static str {
        match self.kind {
            HookKind::Prepare => "prepare",
            HookKind::Backup => "backup",
            HookKind::Upgrade => "upgrade",
        }
    }
}

impl fmt::Display for HookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} hook {}", self.key(), self.index)
    }
}

impl Recipe {
    /// The adapter that runs it on a host whose own choice is `host`. A socket that is handed over needs a parent.
    pub fn adapter_on(&self, host: Adapter) -> Adapter {
        match self.listen {
            Listen::Fd => self.adapter.unwrap_or(Adapter::Process),
            _ => self.adapter.unwrap_or(host),
        }
    }

    /// How long a start may take at most: every hook and the last moment of readiness.
    pub fn turn_timeout(&self) -> Duration {
        self.prepare.iter().map(|hook| hook.timeout).sum::<Duration>() + self.ready.max_timeout
    }

    /// Every template of it with the key it stands under, for checks.
    pub fn templates(&self) -> Vec<(String, &Template)> {
        let mut all: Vec<(String, &Template)> = Vec::new();
        let list = |key: &str, items: &'_ [Template]| -> Vec<String> {
            (0..items.len()).map(|i| format!("{key}[{i}]")).collect()
        };
        all.extend(list("command", &self.command).into_iter().zip(&self.command));
        all.extend(self.working_dir.iter().map(|t| ("working_dir".to_string(), t)));
        all.extend(self.environment.iter().map(|(name, t)| (format!("environment.{name}"), t)));
        let upkeep = &self.upkeep;
        for (key, hooks) in [("prepare", &self.prepare), ("backup", &upkeep.backup), ("upgrade", &upkeep.upgrade)] {
            for (i, hook) in hooks.iter().enumerate() {
                all.extend(list(&format!("{key}[{i}].command"), &hook.command).into_iter().zip(&hook.command));
            }
        }
        if let Some(argv) = &upkeep.installed {
            all.extend(list("installed.exec", argv).into_iter().zip(argv));
        }
        all.extend(upkeep.restart_on_file.iter().map(|t| ("restart.on_file".to_string(), t)));
        let checks = [("ready", Some(&self.ready.check)), ("alive", self.alive.as_ref().map(|a| &a.check))];
        for (key, check) in checks {
            match check {
                Some(Check::Http(http)) => all.push((format!("{key}.http"), &http.path)),
                Some(Check::Exec(argv)) => all.extend(list(&format!("{key}.exec"), argv).into_iter().zip(argv)),
                _ => {}
            }
        }
        match &self.version {
            Some(VersionProbe::Http { path, .. }) => all.push(("version.http".to_string(), path)),
            Some(VersionProbe::Exec(argv)) => all.extend(list("version.exec", argv).into_iter().zip(argv)),
            None => {}
        }
        all
    }

    /// The secrets that its templates ask of the app, `jwt` aside.
    pub fn secrets_needed(&self) -> Vec<String> {
        secrets_in(self.templates().into_iter().map(|(_, template)| template))
    }

    /// Whether its templates ask for the app's database.
    pub fn needs_database(&self) -> bool {
        let templates = self.templates();
        templates
            .iter()
            .flat_map(|(_, template)| template.placeholders())
            .any(|hole| matches!(hole, Placeholder::Db(_)))
    }
}
