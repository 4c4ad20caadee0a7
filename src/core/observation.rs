//! World to worker: facts from the adapters, each with the run it is about.

use std::time::Duration;

use crate::database::{self, Made};
use crate::id::Run;
use crate::name::AppId;
use crate::reason::{ExitOutcome, Reason};
use crate::recipe::HookId;
use crate::shared::Listed;

/// A process beyond doubt: a pid alone may be reused, a pid with its start time in one boot may not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Process ID.
    pub pid: u32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks between boot and its start.
    pub start_ticks: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
    /// For a unit, systemd's InvocationID (32 hexadecimal digits), which is new at every start; `start_ticks` is 0 then.
    pub invocation: Option<String>,
}

/// A fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// About which app.
    pub app: AppId,
    /// About which life of it.
    pub run: Run,
    /// What.
    pub fact: Fact,
}

/// What was observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// The process was started.
    Spawned {
        /// Which process.
        identity: Identity,
        /// What could not be done as asked.
        notes: Vec<String>,
    },
    /// It could not be started.
    SpawnFailed(SpawnFailure),
    /// Its main process ended, and the adapter does not start it again.
    Exited {
        /// How.
        outcome: ExitOutcome,
        /// The adapter's own account of it, where it knows more than the status: out of memory, start limit, watchdog.
        cause: Option<Reason>,
        /// The last lines it wrote.
        last_log: Vec<String>,
        /// Whether others of its process group are still there.
        leftovers: bool,
    },
    /// Its main process ended, and the adapter starts it again by itself, within the same life.
    Restarting {
        /// Why it ended.
        reason: Reason,
        /// The last lines it wrote.
        last_log: Vec<String>,
        /// The pause before the next attempt.
        delay: Duration,
    },
    /// The adapter started it again by itself, within the same life. Its end may not have been told.
    Restarted {
        /// Its new main process.
        identity: Identity,
        /// How often that happened in this life.
        restarts: u32,
        /// Why it had ended, where that is known and was not told.
        reason: Option<Reason>,
        /// The last lines of the attempt before, where they were not told.
        last_log: Vec<String>,
    },
    /// Nothing of its tree is left.
    TreeGone,
    /// Its host lists it otherwise than it should be. Told again as long as it is so.
    Listed(Listed),
    /// Its host did not stop it in time; it may go on running there.
    NotStopped(Reason),
    /// An answer of its readiness probe.
    Readiness(Answer),
    /// An answer of its liveness probe: `None` = well, else why not.
    Liveness(Option<String>),
    /// What its version probe found.
    Version(String),
    /// Which version is on disk, or why that cannot be told.
    Installed(Result<String, String>),
    /// The file by which the app asks for a restart was written.
    RestartAsked,
    /// What a removed app left is cleaned up, as far as it can be.
    CleanedUp,
    /// Its database is there and lets it in.
    DatabaseReady(Made),
    /// Its database cannot be made or used.
    DatabaseFailed(database::Failure),
    /// What it had on a database server is dropped, or why it is not.
    DatabaseDropped(Result<(), database::Failure>),
    /// A hook ended.
    HookEnded {
        /// Which.
        hook: HookId,
        /// How, and its last lines.
        result: Result<(), HookFailure>,
    },
}

/// Why a start failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpawnFailure {
    /// The reason to show.
    pub reason: Reason,
    /// What to do.
    pub kind: SpawnFailureKind,
}

/// What follows from a failed start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpawnFailureKind {
    /// Someone else listens on the port: try another.
    PortBusy,
    /// It may go better later.
    Transient,
    /// It will not go better until somebody changes something.
    Permanent,
}

/// A hook's failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookFailure {
    /// What happened.
    pub text: String,
    /// The last lines it wrote.
    pub last_log: Vec<String>,
}

/// An answer to the readiness question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Ready.
    Ready,
    /// Not yet: why, and the app's own words on its progress.
    NotYet {
        /// What the probe saw, for `why`: `connection refused`, `status 503`.
        saw: String,
        /// The app's own words.
        progress: Option<String>,
        /// Whether the answer matched the recipe's `failed_if`.
        failed: bool,
    },
}
