//! What the worker and the entry need of the world. The rooms that need it own these traits; adapters implement them.
//!
//! Every call returns at once or is a future with its own time limit; facts that come later arrive as `Observation`s on
//! the channel given to the adapter. Deliberately absent: retries (the core decides) and logging (the loops do it).

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use nbs_core::database::{self, Endpoint, Made};
pub use nbs_core::effect::{VersionQuestion, Watch};
use nbs_core::fleet::{Bus, IntentNote};
use nbs_core::id::{Reign, Run};
use nbs_core::launch::Launch;
use nbs_core::name::{AppId, EnvironmentName};
use nbs_core::observation::{Identity, Observation, SpawnFailure};
use nbs_core::order::{LocalAction, Order, Report};
use nbs_core::recipe::Adapter;
use nbs_core::record::{Change, Recovered};
use nbs_core::shared::{HostPlan, MemberPlan};
use nbs_core::signal::Signal;
use nbs_core::time::{Mono, Now, Wall};
use nbs_core::view::{EventView, OperationView};
use tokio::sync::mpsc;

/// A future behind a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where adapters send what they observe. Bounded: an adapter waits when the worker is behind.
pub type ObservationSender = mpsc::Sender<Observation>;

/// The time. One real implementation (`clock.rs`); tests bring their own.
pub trait Clock: Send + Sync + 'static {
    /// Both readings of this moment.
    fn now(&self) -> Now;
}

/// An order with the moment it was sent, by the clock of this daemon: what travelled between hosts carries its age.
#[derive(Debug, Clone)]
pub struct OrderSlip {
    /// The order.
    pub order: Order,
    /// When it was sent.
    pub sent: Mono,
}

/// What a worker is told.
#[derive(Debug, Clone)]
pub enum Word {
    /// By the entry, to be done now.
    Order(OrderSlip),
    /// What should be, from where the entry keeps it. It starts nothing and is not answered.
    Intent(Order),
    /// By somebody on the host itself, past the entry.
    Local {
        /// About which app.
        app: AppId,
        /// What.
        action: LocalAction,
        /// Who.
        actor: String,
    },
    /// Say everything again: `Report::Hello`.
    Tell,
}

/// What the entry hears.
#[derive(Debug, Clone)]
pub enum News {
    /// What a worker tells. Whoever passes it on has made sure that it is that worker's.
    Report(EnvironmentName, Report),
    /// How what carries orders and reports between hosts is.
    Bus(Bus),
    /// Whether the entry's gateway reaches an environment's own.
    Proxy(EnvironmentName, Result<(), String>),
}

/// What the entry sends to environments on other hosts.
#[derive(Debug, Clone)]
pub enum Outgoing {
    /// To be done now.
    Order(EnvironmentName, OrderSlip),
    /// To be kept for those who miss an order.
    Intent(IntentNote),
    /// A turn has ended: its start lock may go.
    TurnEnded {
        /// Which app.
        app: AppId,
        /// Which turn.
        number: u64,
    },
    /// The entry goes on under another epoch.
    Reign(Reign),
    /// The environment was forgotten; what is kept for it may go.
    Forgotten(EnvironmentName),
}

/// A process that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Which process.
    pub identity: Identity,
    /// What could not be done as asked, each a sentence: `memory_max is not enforced: …`.
    pub notes: Vec<String>,
}

/// A life that the ledger knows of and that may still be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Which app.
    pub app: AppId,
    /// Which life.
    pub run: Run,
    /// Its process, if the ledger got to know it.
    pub identity: Option<Identity>,
    /// Who runs it.
    pub adapter: Adapter,
    /// The port that it was given, where the adapter can tell; asked for only of what the ledger does not know.
    pub port: Option<u16>,
}

/// What was found of former lives at the start of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Lives that go on and are watched from now on.
    pub alive: Vec<Known>,
    /// Processes that carry this daemon's mark, of lives that the ledger does not know as the present one.
    pub strays: Vec<Known>,
}

/// Starts, signals and watches processes (or units).
///
/// Facts sent to the `ObservationSender`: `Exited` once for each life started or adopted, `TreeGone` after `kill_tree`.
/// An adapter that repairs crashes by itself tells `Restarting` and `Restarted` instead of `Exited` as long as it does,
/// and `Readiness(Ready)` for a `notify` launch. A life that ended or was repaired while no daemon watched is among
/// `Found::alive`, and its fact follows.
pub trait ProcessControl: Send + Sync + 'static {
    /// Starts a process. Returns when the program was executed (or could not be).
    fn start<'a>(&'a self, launch: &'a Launch) -> BoxFuture<'a, Result<Started, SpawnFailure>>;
    /// Sends a signal to the main process of a life. One that is gone is no error.
    fn signal<'a>(&'a self, app: &'a AppId, run: Run, signal: Signal) -> BoxFuture<'a, ()>;
    /// Says that a life is about to be ended for a fault of its own, so that its last lines are wanted with its end. Some
    /// adapters tell them in any case.
    fn keep_log(&self, app: &AppId, run: Run) {
        let _ = (app, run);
    }
    /// Kills the whole tree of a life, and tells `TreeGone` when nothing of it is left.
    fn kill_tree<'a>(&'a self, app: &'a AppId, run: Run) -> BoxFuture<'a, ()>;
    /// Finds what former daemons started: checks the known lives, looks for marked processes, and watches the living.
    fn adopt(&self, known: Vec<Known>) -> BoxFuture<'_, Found>;
    /// Removes an app's socket directory and log files, and with `purge_data` its data directory.
    fn clean_up<'a>(&'a self, app: &'a AppId, purge_data: bool) -> BoxFuture<'a, Result<(), String>>;
}

/// Gives child processes control groups of their own, where there is somebody who can.
pub trait Enclosure: std::fmt::Debug + Send + Sync + 'static {
    /// Moves a process that is about to become this launch's app out of the daemon's control group into one of its own,
    /// with the app's limits. Returns what could not be done as asked, each a sentence; `None` if it stays where it is.
    fn enclose<'a>(&'a self, launch: &'a Launch, pid: u32) -> BoxFuture<'a, Result<Option<Vec<String>>, SpawnFailure>>;
}

/// Looks after hosts: processes in which several apps run, its members. Members are started, stopped and removed by its
/// `ProcessControl`, once their host is known here.
///
/// Facts besides those of `ProcessControl`: `Listed` whenever a host lists a member otherwise than it was left, and
/// `NotStopped` instead of `TreeGone` where a host does not stop it.
pub trait Hosts: Send + Sync + 'static {
    /// A host runs. One of the same name ended before.
    fn up(&self, plan: Arc<HostPlan>);
    /// A host runs no more: whatever is being asked of it is given up.
    fn down(&self, host: &AppId);
    /// A member since an earlier daemon. `runs`: as this life; else it is to be kept stopped.
    fn member(&self, app: &AppId, run: Run, plan: Arc<MemberPlan>, runs: bool);
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutput {
    /// Its end, or why there was none: `timed out after 10s`, `no such file`.
    pub result: Result<nbs_core::reason::ExitOutcome, String>,
    /// The last lines of its output.
    pub last_log: Vec<String>,
}

/// Runs a command to its end: hooks, exec probes.
pub trait CommandRunner: Send + Sync + 'static {
    /// Runs `argv` as `context`'s user, in its directory and environment, without a shell; kills its tree at the timeout.
    /// `log`: whether its output also goes to the app's log.
    fn run<'a>(
        &'a self,
        context: &'a Launch,
        argv: &'a [String],
        timeout: Duration,
        log: bool,
    ) -> BoxFuture<'a, CommandOutput>;
}

/// Asks instances how they are. Answers arrive as `Readiness`, `Liveness` and `Version` observations.
pub trait Prober: Send + Sync + 'static {
    /// Makes the notify socket at `<run_dir>/notify.sock` before a process with `notify` is started.
    ///
    /// # Errors
    /// The socket cannot be made; the text says why.
    fn open_notify(&self, launch: &Launch) -> Result<(), String>;
    /// Asks until the answer is Ready, the life ends (`unwatch`) or another watch of the app replaces it. Sends every
    /// answer that differs from the one before.
    fn watch_ready(&self, watch: Watch);
    /// Asks until `unwatch`. Sends each failure, and the first success after one.
    fn watch_alive(&self, watch: Watch);
    /// Asks once, with a few retries.
    fn ask_version(&self, launch: Arc<Launch>, question: VersionQuestion);
    /// Looks at a file until it is written after `since`, or `unwatch`; then sends `RestartAsked`, once.
    fn watch_file(&self, launch: &Launch, path: PathBuf, since: Wall, interval: Duration);
    /// Stops asking about this app.
    fn unwatch(&self, app: &AppId);
}

/// Whether a database server answers, or why it does not.
pub type DatabaseNews = (Endpoint, Result<(), String>);

/// Makes databases of apps on servers, and says whether these answer.
pub trait DatabaseMaker: Send + Sync + 'static {
    /// Makes what is not there and connects to it as the app will. Safe to repeat, and to be cut off at any point.
    ///
    /// # Errors
    /// With the reason to show; nothing of anybody else was changed.
    fn prepare<'a>(&'a self, plan: &'a database::Plan) -> BoxFuture<'a, Result<Made, database::Failure>>;
    /// Drops what is the app's own, and nothing else; what is not there is dropped. Ends the sessions on it.
    ///
    /// # Errors
    /// With the reason to show; it may be repeated.
    fn drop_all<'a>(&'a self, plan: &'a database::Plan) -> BoxFuture<'a, Result<(), database::Failure>>;
    /// Tells from now on, as `DatabaseNews`, whether a server answers: at once, and at every change.
    fn watch(&self, watch: database::Watch);
    /// Tells it no more.
    fn unwatch(&self, endpoint: &Endpoint);
}

/// Why the record could not be read or written. Display is one sentence with file and remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// No space left (or a quota).
    #[error("the disk under {file} is full: free some space and try again")]
    Full {
        /// The record.
        file: PathBuf,
    },
    /// Anything else.
    #[error("{operation} {file} failed: {cause}")]
    Failed {
        /// `open`, `write`, …
        operation: &'static str,
        /// The record.
        file: PathBuf,
        /// What the engine said.
        cause: String,
    },
}

/// A token's entry in the record; the token itself is never stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// A name for people, unique.
    pub name: String,
    /// SHA-256 of the token.
    pub hash: [u8; 32],
    /// `admin` (viewer and operator come later).
    pub role: String,
    /// When it was made.
    pub created_at: Wall,
}

/// What must survive.
pub trait Record: Send + Sync + 'static {
    /// Everything needed to go on.
    fn load(&self) -> BoxFuture<'_, Result<Recovered, RecordError>>;
    /// Writes all changes or none; durable when it returns. Concurrent calls share one transaction where they can.
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), RecordError>>;
    /// Operations, newest first, ended ones included; of one app or of all; older than `before` if given.
    fn operations(
        &self,
        app: Option<AppId>,
        before: Option<nbs_core::id::Seq>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<OperationView>, RecordError>>;
    /// One operation.
    fn operation(&self, id: nbs_core::id::OperationId) -> BoxFuture<'_, Result<Option<OperationView>, RecordError>>;
    /// Events after `since`, oldest first; of one app or of all.
    fn events(
        &self,
        app: Option<AppId>,
        since: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<EventView>, RecordError>>;
    /// Every token.
    fn tokens(&self) -> BoxFuture<'_, Result<Vec<TokenRow>, RecordError>>;
    /// Adds a token; `false` if the name is taken.
    fn add_token(&self, token: TokenRow) -> BoxFuture<'_, Result<bool, RecordError>>;
    /// Removes a token; `false` if there is none of that name.
    fn remove_token(&self, name: String) -> BoxFuture<'_, Result<bool, RecordError>>;
}

/// A line an app wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When, where the log keeps it (a journal does, a file does not).
    pub at: Option<Wall>,
    /// The line, without its end; bytes that are no UTF-8 are replaced.
    pub text: String,
    /// The place right after this line, where the log has such places. Opaque to everybody but the log's reader.
    pub cursor: Option<String>,
}

impl LogLine {
    /// A line of a log that keeps neither times nor places.
    pub fn plain(text: String) -> Self {
        Self { at: None, text, cursor: None }
    }
}

/// Which lines are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogQuery {
    /// At most so many: the last ones, or with `after` the next ones.
    pub lines: usize,
    /// Only those since this moment.
    pub since: Option<Wall>,
    /// Only those after this place, a `LogLine::cursor`. Following from a place gives every line from there on.
    pub after: Option<String>,
}

impl LogQuery {
    /// The last lines.
    pub fn last(lines: usize) -> Self {
        Self { lines, ..Self::default() }
    }
}

/// Why a log cannot be read as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// This kind of log keeps no times.
    #[error("the log of {0} is a plain file and keeps no times")]
    NoTimes(AppId),
    /// This kind of log has no places to go on from.
    #[error("the log of {0} is a plain file and has no cursors")]
    NoCursors(AppId),
    /// The cursor is none.
    #[error("{cursor:?} is not a cursor of the log of {app}")]
    BadCursor {
        /// Whose log.
        app: AppId,
        /// What was given, shortened.
        cursor: String,
    },
    /// Too many readers follow already.
    #[error("the log of {app} cannot be followed: {limit} readers follow the journal already")]
    TooMany {
        /// Whose log.
        app: AppId,
        /// How many may.
        limit: usize,
    },
    /// Reading failed.
    #[error("the log of {app} cannot be read: {cause}")]
    Failed {
        /// Whose log.
        app: AppId,
        /// What the system said.
        cause: String,
    },
}

/// One life of a unit, as the unit's manager knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitLife {
    /// The unit's name.
    pub unit: String,
    /// The invocation ID.
    pub invocation: String,
    /// When its main process was started; without it, lines that carry no invocation ID are left out.
    pub since: Option<Wall>,
}

/// How a life of a unit ended, as its manager wrote it down.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitExit {
    /// `exit-code`, `signal`, `oom-kill`, …; empty = not said.
    pub result: String,
    /// Whether `status` is a signal.
    pub by_signal: bool,
    /// Exit status or signal of the main process.
    pub status: i32,
}

/// Reads what a unit wrote last, for the failure that is told.
pub trait LastLines: Send + Sync + 'static {
    /// The last lines of one life, oldest first; none if they cannot be read, as the failure must be told anyway.
    fn last_lines<'a>(&'a self, life: &'a UnitLife, lines: usize) -> BoxFuture<'a, Vec<String>>;
    /// How the last life of a unit ended that is not the one with the invocation ID `running`; none if nobody knows.
    fn last_exit<'a>(&'a self, unit: &'a str, running: &'a str) -> BoxFuture<'a, Option<UnitExit>>;
}

/// Reads what apps wrote.
pub trait LogReader: Send + Sync + 'static {
    /// The lines asked for, oldest first.
    fn tail<'a>(&'a self, app: &'a AppId, query: &'a LogQuery) -> BoxFuture<'a, Result<Vec<LogLine>, LogError>>;
    /// The lines asked for, then each new one until the receiver is dropped. Survives rotation; when the reader is
    /// too slow, or rotation took lines, one line says how much was dropped.
    fn follow<'a>(
        &'a self,
        app: &'a AppId,
        query: &'a LogQuery,
    ) -> BoxFuture<'a, Result<mpsc::Receiver<LogLine>, LogError>>;
}
