//! Entry to worker: orders. Worker to entry: reports.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::database::{Database, Endpoint};
use crate::id::{Generation, Reign, Run, Seq};
use crate::launch::Address;
use crate::limits;
use crate::name::{AppId, EnvironmentName, RuntimeName, ServerName};
use crate::paths::Paths;
use crate::phase::Phase;
use crate::reason::Reason;
use crate::recipe::{Adapter, Listen};
use crate::secret::SecretText;
use crate::spec::{AppSpec, Hosting, Limits};
use crate::time::Wall;

/// What an instance should be, as the entry orders it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Which app.
    pub app: AppId,
    /// Reign of the entry that ordered.
    pub reign: Reign,
    /// Version of the spec.
    pub generation: Generation,
    /// The command it follows from. A worker refuses a lower one than it has seen.
    pub intent_seq: Seq,
    /// What to be.
    pub goal: Goal,
}

/// What an instance should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// Run, and if `start_seq` is new, start afresh in the given turn.
    Run(RunGoal),
    /// Be stopped.
    Stop,
    /// Be gone.
    Remove {
        /// Whether its data goes too.
        purge_data: bool,
        /// What is to be dropped on a database server: told to the last environment that has the app, and to no other.
        drop: Option<DropGoal>,
    },
}

/// A database that is to be dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropGoal {
    /// What the app asked for.
    pub database: Database,
    /// Its secret for databases.
    pub db_secret: SecretText,
}

/// The particulars of running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunGoal {
    /// The command that asked for the last (re)start.
    pub start_seq: Seq,
    /// What to run.
    pub spec: Arc<AppSpec>,
    /// The app's generated secret.
    pub jwt: SecretText,
    /// Its secret for databases.
    pub db_secret: SecretText,
    /// The start that runs the upgrade steps before the process, if one does; the entry has stopped the app elsewhere.
    pub upgrade_seq: Seq,
    /// The version on disk when the app last ran, in whichever environment.
    pub installed: Option<String>,
    /// Permission to start; without one an order never starts anything.
    pub turn: Option<Turn>,
}

/// The entry's permission for one instance to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// The start must begin within this time of the order's issue.
    pub accept_by: Duration,
    /// Grows with each turn that the entry grants in its reign. A worker refuses a turn that is not newer than the last one
    /// it took for the app, so a turn is used once.
    pub number: u64,
}

/// What a worker tells of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceReport {
    /// Which app.
    pub app: AppId,
    /// The last order that was taken up.
    pub intent_seq: Seq,
    /// The last (re)start that was begun.
    pub run: Run,
    /// Version of the spec that runs, or ran last.
    pub generation: Generation,
    /// Inner phase.
    pub phase: Phase,
    /// Whether it is still in the turn that the entry granted.
    pub in_turn: bool,
    /// Why it is not well, or was not before the present attempt.
    pub reason: Option<Reason>,
    /// Since when it is in this phase.
    pub since: Wall,
    /// Main process.
    pub pid: Option<u32>,
    /// Which adapter runs it.
    pub adapter: Adapter,
    /// Where it is reached.
    pub address: Option<Address>,
    /// Whether the gateway takes the prefix off.
    pub strip_prefix: bool,
    /// How the process at that address is told which of its apps a request is for; none where it is one app's alone.
    pub select: Option<Select>,
    /// Automatic restarts since the last command.
    pub restarts: u32,
    /// When the next automatic attempt is due.
    pub next_attempt: Option<Wall>,
    /// The app's own version.
    pub version: Option<String>,
    /// The app's own words on its progress.
    pub progress: Option<String>,
    /// Last lines before the last unwanted end.
    pub last_log: Vec<String>,
    /// What could not be done as asked, such as a limit that this host cannot enforce.
    pub notes: Vec<String>,
    /// What somebody asked for on the host itself. It holds until a later order.
    pub local: Option<LocalOverride>,
    /// Whether it is to be removed from there.
    pub removing: bool,
    /// What is known of upgrades.
    pub upgrade: UpgradeReport,
}

/// What a worker tells of the upgrades of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpgradeReport {
    /// The last start whose upgrade steps have all ended well.
    pub done: Seq,
    /// The present start is to be preceded by an upgrade, and waits until the app is stopped in its other environments.
    pub wanted: bool,
    /// The version on disk of the present life.
    pub installed: Option<String>,
}

/// How a process that hosts several apps is told which one a request is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Select {
    /// The header that carries the app's ID.
    pub header: String,
}

impl Select {
    /// Longest name of a header, in bytes.
    pub const HEADER_MAX: usize = 64;

    /// Takes the name of a header. What HTTP itself gives a meaning on the way is none.
    pub fn by_header(name: &str) -> Option<Self> {
        const TAKEN: &[&str] = &[
            "connection",
            "content-length",
            "expect",
            "host",
            "keep-alive",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ];
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let fits = (1..=Self::HEADER_MAX).contains(&name.len()) && name.bytes().all(token);
        let free = !TAKEN.contains(&name.to_ascii_lowercase().as_str());
        (fits && free).then(|| Self { header: name.into() })
    }
}

/// What somebody asked for on a worker's own host, past the entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalOverride {
    /// What.
    pub action: LocalAction,
    /// Who.
    pub actor: String,
    /// When.
    pub at: Wall,
}

/// What can be asked of a worker past the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalAction {
    /// Stop it, and let it be stopped.
    Stop,
    /// Stop and start it, or start it again after a local stop.
    Restart,
}

impl LocalAction {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }

    /// Reads the word on the wire.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Stop, Self::Restart].into_iter().find(|action| action.as_str() == text)
    }
}

/// What a worker tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// It is here: all it has. What is not in the list it does not have.
    Hello {
        /// What the environment can do.
        registration: Box<Registration>,
        /// Every instance of its ledger.
        instances: Vec<InstanceReport>,
    },
    /// It is still there, and all it told before still holds.
    Alive,
    /// The recipes changed.
    Runtimes(BTreeMap<RuntimeName, RuntimeSummary>),
    /// One instance changed.
    Instance(Box<InstanceReport>),
    /// An instance is gone, as ordered.
    Removed {
        /// Which app.
        app: AppId,
        /// The order it followed.
        intent_seq: Seq,
    },
    /// A process or unit claims to be an app that the ledger does not know. It is left alone.
    Stray {
        /// The app it claims to be.
        app: AppId,
        /// Its life.
        run: Run,
        /// Its main process.
        pid: Option<u32>,
        /// What runs it.
        adapter: Adapter,
    },
    /// An order was not taken up.
    Refused {
        /// Which app.
        app: AppId,
        /// Which order.
        intent_seq: Seq,
        /// Why.
        why: Refusal,
    },
}

/// Why a worker did not take up an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A newer order was seen.
    Stale,
    /// The turn's accept-by had passed.
    Late,
    /// All slots were taken.
    Busy,
    /// Another entry reigns: the order's epoch is past, or belongs to somebody else.
    Foreign,
}

/// What an environment says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Its name.
    pub environment: EnvironmentName,
    /// Version of its daemon.
    pub version: String,
    /// The boot of its host; a new one means that every process is gone.
    pub boot: String,
    /// Starts that may run at once.
    pub concurrent_starts: u32,
    /// Its recipes.
    pub runtimes: BTreeMap<RuntimeName, RuntimeSummary>,
    /// The host's own name, for people.
    pub host: String,
    /// Where visitors reach its gateway, such as `http://10.0.0.2:13000`; none in standalone mode.
    pub url: Option<String>,
    /// Where the entry's gateway reaches it, if elsewhere.
    pub proxy_url: Option<String>,
    /// What the host has.
    pub capacity: Option<Capacity>,
    /// Where it makes databases.
    pub databases: BTreeMap<ServerName, Endpoint>,
    /// The entry whose orders it follows, so that one whose record is an older copy learns how far it is behind.
    pub follows: Option<Reign>,
}

impl Registration {
    /// Where the entry's gateway sends visitors.
    pub fn target(&self) -> Option<&str> {
        self.proxy_url.as_deref().or(self.url.as_deref())
    }
}

/// What a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Processors.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

/// What the entry must know of a recipe on a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeSummary {
    /// Name.
    pub name: RuntimeName,
    /// For people.
    pub description: String,
    /// Which adapter it would use on this host.
    pub adapter: Adapter,
    /// How its apps listen.
    pub listen: Listen,
    /// Whether the gateway takes the prefix off.
    pub strip_prefix: bool,
    /// What no app may exceed.
    pub max_limits: Limits,
    /// Paths that the gateway knows besides `/apps/<app>/`.
    pub paths: Paths,
    /// Narrows app IDs.
    pub app_id_pattern: Option<String>,
    /// Secrets that an app must bring.
    pub secrets_needed: Vec<String>,
    /// Whether an app must have a database.
    pub needs_database: bool,
    /// The longest a start may take.
    pub turn_timeout: Duration,
    /// How much longer it may take with an upgrade; none: its recipe has no steps for one.
    pub upgrade_timeout: Option<Duration>,
    /// How it hosts several apps in one process; none = it does not.
    pub shared: Option<SharedSummary>,
}

/// What the entry must know of a recipe that hosts several apps in one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedSummary {
    /// The longest the start of such an app may take, that of the process included.
    pub turn_timeout: Duration,
    /// Secrets that such an app must bring.
    pub secrets_needed: Vec<String>,
    /// Whether such an app must have a database.
    pub needs_database: bool,
}

impl RuntimeSummary {
    /// The ways of hosting that it knows.
    pub fn hosting(&self) -> impl Iterator<Item = Hosting> + '_ {
        Hosting::ALL.iter().copied().filter(|hosting| *hosting == Hosting::Dedicated || self.shared.is_some())
    }

    /// The longest that a turn of an app may last: its start, its database, and an upgrade if there may be one.
    pub fn turn_of(&self, spec: &AppSpec, upgrades: bool) -> Duration {
        let start = match (&self.shared, spec.hosting) {
            (Some(shared), Hosting::Shared) => shared.turn_timeout,
            _ => self.turn_timeout,
        };
        let database = if spec.database.is_some() { limits::DATABASE_TIMEOUT } else { Duration::ZERO };
        let upgrade = self.upgrade_timeout.filter(|_| upgrades || spec.auto_upgrade).unwrap_or_default();
        start + database + upgrade + limits::ACCEPT_BY
    }
}
