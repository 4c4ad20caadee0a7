//! Core to worker's shell: everything the shell may do, in the order in which it must.
//!
//! `Remember` and `Forget` are committed before any other effect of the same step is acted upon.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::database::{self, Endpoint};
use crate::environment::FoundLife;
use crate::id::{Reign, Run};
use crate::launch::{Launch, Question};
use crate::name::AppId;
use crate::order::Report;
use crate::recipe::{Adapter, HookId};
use crate::record::LedgerRow;
use crate::shared::{HostPlan, MemberPlan};
use crate::signal::Signal;
use crate::time::Wall;

/// What is to be asked of an instance, again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// The process it is about, with its address.
    pub launch: Arc<Launch>,
    /// Its main process.
    pub pid: u32,
    /// Whether it was adopted: a `READY=1` may have been missed.
    pub adopted: bool,
    /// What to ask.
    pub question: Question,
    /// Pause between two questions.
    pub interval: Duration,
    /// Wait for one answer.
    pub timeout: Duration,
}

/// What is to be asked once: the version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionQuestion {
    /// A dotted path in the JSON answer of a path.
    Http {
        /// Path and query.
        path: String,
        /// Dotted path.
        json: String,
    },
    /// First line of a command's output.
    Exec(Vec<String>),
}

/// What the worker's shell is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Keep this row in the ledger.
    Remember(Box<LedgerRow>),
    /// Drop the row of this app.
    Forget(AppId),
    /// Keep in the ledger that this entry's orders count from now on.
    Follow(Reign),
    /// Look after a life that was found without its ledger as if it had been started here: its end is to be told, as
    /// `Exited` if it has ended meanwhile.
    Adopt(FoundLife),
    /// A host runs: its members can be looked after from now on.
    HostUp(Arc<HostPlan>),
    /// A host runs no more: nothing of its members is left.
    HostDown(AppId),
    /// This app is a member of a host since an earlier daemon, and runs there as this life, or is to be kept stopped.
    Member {
        /// Which app.
        app: AppId,
        /// Which life.
        run: Run,
        /// What is asked of its host.
        plan: Arc<MemberPlan>,
        /// Whether it runs there.
        runs: bool,
    },
    /// Start a process.
    Spawn(Arc<Launch>),
    /// Make what is not there of an app's database, and connect to it as the app will; `DatabaseReady` or `DatabaseFailed`
    /// tells how that came out.
    PrepareDatabase {
        /// Whose.
        app: AppId,
        /// For which life.
        run: Run,
        /// What.
        plan: Box<database::Plan>,
    },
    /// Drop what is the app's own on a database server; `DatabaseDropped` tells.
    DropDatabase {
        /// Whose.
        app: AppId,
        /// Its last life.
        run: Run,
        /// What.
        plan: Box<database::Plan>,
    },
    /// Tell from now on whether a database server answers.
    WatchDatabase(database::Watch),
    /// Tell it no more.
    UnwatchDatabase(Endpoint),
    /// Run a hook.
    Hook {
        /// The context: user, environment, directory.
        launch: Arc<Launch>,
        /// Which hook.
        hook: HookId,
        /// What to run.
        argv: Vec<String>,
        /// When to kill it.
        timeout: Duration,
    },
    /// Kill the hook that runs for this app; its end is observed as usual.
    CancelHook(AppId),
    /// Send a signal to the main process.
    Signal {
        /// Whose.
        app: AppId,
        /// Which life.
        run: Run,
        /// Which signal.
        signal: Signal,
        /// Who runs it.
        adapter: Adapter,
    },
    /// The life is about to be ended for a fault of its own: its last lines are wanted.
    KeepLog {
        /// Whose.
        app: AppId,
        /// Which life.
        run: Run,
        /// Who runs it.
        adapter: Adapter,
    },
    /// Kill everything of this life.
    KillTree {
        /// Whose.
        app: AppId,
        /// Which life.
        run: Run,
        /// Who runs it.
        adapter: Adapter,
    },
    /// Ask until it is ready.
    WatchReady(Watch),
    /// Ask whether it is alive.
    WatchAlive(Watch),
    /// Ask its version.
    AskVersion {
        /// The process.
        launch: Arc<Launch>,
        /// The question.
        question: VersionQuestion,
    },
    /// Ask which version is on disk; `Fact::Installed` tells.
    AskInstalled {
        /// The context: user, environment, directory.
        launch: Arc<Launch>,
        /// What to run.
        argv: Vec<String>,
    },
    /// Tell when this file was written since the process became ready.
    WatchFile {
        /// The process.
        launch: Arc<Launch>,
        /// The file.
        path: PathBuf,
        /// Since when it has been ready.
        since: Wall,
        /// Pause between two looks.
        interval: Duration,
    },
    /// Ask nothing any more.
    Unwatch(AppId),
    /// Remove what an app left; `CleanedUp` tells that it is done.
    CleanUp {
        /// Whose.
        app: AppId,
        /// Its last life.
        run: Run,
        /// Its data too.
        purge_data: bool,
    },
    /// Tell the entry.
    Report(Report),
}
