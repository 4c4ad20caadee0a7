//! The systemd adapter: apps as transient units, supervised by PID 1, driven over D-Bus.
//!
//! A unit is started (`start.rs`), watched by signals (`watch.rs`, `state.rs`), ended (`end.rs`) and found again
//! (`adopt.rs`); hooks and probes that are commands run as units too (`command.rs`). `properties.rs` says what a unit is
//! given, `bus.rs` speaks with systemd. Child processes of the other adapter are given scopes (`scope.rs`). While this daemon is dead, systemd restarts what crashes. Deliberately absent:
//! polling, and any decision on what should run.

mod absent;
mod adopt;
mod bus;
mod command;
mod each;
mod end;
mod envfile;
mod notes;
mod properties;
mod scope;
mod snapshot;
mod start;
mod state;
mod tracked;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use nbs_core::id::Run;
use nbs_core::launch::Launch;
use nbs_core::name::AppId;
use nbs_core::observation::{Fact, Identity, Observation, SpawnFailure};
use nbs_core::signal::Signal;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::ground::removal;
use crate::ports::{BoxFuture, Found, Known, LastLines, ObservationSender, ProcessControl, Started};

use bus::{Bus, Scope};
use properties::Site;
use snapshot::Marker;
use tracked::Register;

pub use absent::NoSystemd;
pub use scope::Scopes;

/// Events of the bus that may wait for us.
const EVENTS_MAX: usize = 1024;

/// What the adapter is told once.
pub struct Options {
    /// The mark of this daemon's state directory. Units of another daemon carry another.
    pub instance_id: String,
    /// This boot's ID.
    pub boot: String,
    /// Under it, each app's socket directory and environment file.
    pub run_root: PathBuf,
    /// Under it, each app's data directory.
    pub state_root: PathBuf,
    /// Whether to use the user's own manager instead of the system's.
    pub user: bool,
    /// Reads what a unit wrote last.
    pub lines: Arc<dyn LastLines>,
}

/// The adapter. Dropping it stops the watching, never a unit.
pub struct Units {
    inner: Arc<Inner>,
    task: AbortHandle,
}

/// What the adapter's tasks share.
struct Inner {
    instance: String,
    boot: String,
    run_root: PathBuf,
    state_root: PathBuf,
    user: bool,
    lines: Arc<dyn LastLines>,
    bus: Bus,
    units: Register,
    sender: ObservationSender,
    /// Number of the next command.
    commands: AtomicU64,
    version: OnceLock<u32>,
}

impl Units {
    /// Whether this host was booted with systemd.
    pub fn is_booted() -> bool {
        Path::new("/run/systemd/system").is_dir()
    }

    /// An adapter that tells what it observes to `sender`, and connects in the background. Must be called within a tokio
    /// runtime.
    pub fn new(options: Options, sender: ObservationSender) -> Self {
        let (events, received) = mpsc::channel(EVENTS_MAX);
        let scope = if options.user { Scope::User } else { Scope::System };
        let inner = Arc::new(Inner {
            instance: options.instance_id,
            boot: options.boot,
            run_root: options.run_root,
            state_root: options.state_root,
            user: options.user,
            lines: options.lines,
            bus: Bus::open(scope, events),
            units: Register::default(),
            sender,
            // Numbers of a dead daemon's commands are not used again while their units may still be there.
            commands: AtomicU64::new(u64::from(std::process::id()) << 24),
            version: OnceLock::new(),
        });
        let task = tokio::spawn(watch::run(inner.clone(), received)).abort_handle();
        Self { inner, task }
    }
}

impl Drop for Units {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Inner {
    async fn tell(&self, app: &AppId, run: Run, fact: Fact) {
        let _ = self.sender.send(Observation { app: app.clone(), run, fact }).await;
    }

    /// Who a unit's main process is: the invocation tells starts apart, so its ticks are not needed.
    fn identity(&self, pid: u32, invocation: Option<String>) -> Identity {
        Identity { pid, start_ticks: 0, boot: self.boot.clone(), invocation }
    }

    fn is_ours(&self, marker: Option<&Marker>) -> bool {
        marker.is_some_and(|marker| marker.instance == self.instance)
    }

    /// The file with an app's variables. Only root reads it; it outlives the daemon, so that systemd can start it again.
    fn env_file(&self, app: &AppId) -> PathBuf {
        self.run_root.join(format!("{app}.env"))
    }

    fn site<'a>(&'a self, systemd_version: u32, env_file: &'a Path) -> Site<'a> {
        Site { system: !self.user, instance: &self.instance, systemd_version, env_file }
    }

    /// The version of systemd, asked once; 0 as long as it does not answer.
    async fn version(&self) -> u32 {
        if let Some(version) = self.version.get() {
            return *version;
        }
        let text = self.bus.version().await.unwrap_or_default();
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        match digits.parse() {
            Ok(version) => *self.version.get_or_init(|| version),
            Err(_) => 0,
        }
    }

    fn clean_up(&self, app: &AppId, purge_data: bool) -> Result<(), String> {
        removal::remove_file(&self.env_file(app))?;
        removal::remove_directory(&self.run_root.join(app.as_str()))?;
        match purge_data {
            true => removal::remove_directory(&self.state_root.join(app.as_str())),
            false => Ok(()),
        }
    }
}

impl ProcessControl for Units {
    fn start<'a>(&'a self, launch: &'a Launch) -> BoxFuture<'a, Result<Started, SpawnFailure>> {
        Box::pin(start::start(&self.inner, launch))
    }

    fn signal<'a>(&'a self, app: &'a AppId, run: Run, signal: Signal) -> BoxFuture<'a, ()> {
        Box::pin(end::signal(&self.inner, app, run, signal))
    }

    fn keep_log(&self, app: &AppId, run: Run) {
        self.inner.units.with(app, run, |tracked| tracked.keep_log = true);
    }

    fn kill_tree<'a>(&'a self, app: &'a AppId, run: Run) -> BoxFuture<'a, ()> {
        Box::pin(end::kill_tree(&self.inner, app, run))
    }

    fn adopt(&self, known: Vec<Known>) -> BoxFuture<'_, Found> {
        Box::pin(adopt::adopt(&self.inner, known))
    }

    fn clean_up<'a>(&'a self, app: &'a AppId, purge_data: bool) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let (inner, app) = (self.inner.clone(), app.clone());
            let cleaning = tokio::task::spawn_blocking(move || inner.clean_up(&app, purge_data));
            cleaning.await.unwrap_or_else(|_| Err("cleaning up was cut off".into()))
        })
    }
}
