//! The process adapter: apps as plain child processes, for hosts without systemd and for recipes that ask for it.
//!
//! Decides how a process is started (`spawn.rs`, `shim.rs`), waited for (`watch.rs`), found again (`adopt.rs`) and ended
//! with all its offspring (`tree.rs`, `sweeper.rs`). Processes outlive the daemon: their output goes into files, nothing
//! ties them to its life, and a mark in their environment tells whose they are. Where systemd is there, it is asked for a
//! control group for each app, and a tree is killed by it; elsewhere limits on memory, CPU and tasks are not enforced, which
//! each start says, and a tree is found by looking at every process. Deliberately absent: restarts and retries (the core
//! decides).

mod adopt;
mod command;
mod exec_spec;
mod follow;
mod group;
mod identity;
mod lives;
mod mark;
mod output;
mod rotate;
mod shim;
mod spawn;
mod sweeper;
mod tail;
mod tree;
mod watch;

use std::cell::Cell;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nbs_core::id::Run;
use nbs_core::launch::{Address, Launch};
use nbs_core::name::AppId;
use nbs_core::observation::{Identity, SpawnFailure};
use nbs_core::recipe::Listen;
use nbs_core::signal::Signal;
use rustix::process::{Resource, Rlimit};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::ground::{self, failure, removal, user};
use crate::ports::{
    BoxFuture, CommandOutput, CommandRunner, Enclosure, Found, Known, LogError, LogLine, LogQuery, LogReader,
    ObservationSender, ProcessControl, Started,
};

use group::Group;
use lives::{Life, Lives, Progress};
use mark::Mark;
use output::Logs;
use spawn::{Plan, Spawned, Spawner};
use sweeper::{Request, Then};
use tree::Target;

pub use identity::boot_id;
pub use shim::{WORD as SHIM_WORD, shim_main};

/// Requests to kill a tree that may wait for the sweeper.
const KILLS_MAX: usize = 4096;

/// What the adapter is told once.
#[derive(Debug, Clone)]
pub struct Options {
    /// The mark of this daemon's state directory; a random text without `/`. Another daemon's processes carry another.
    pub instance_id: String,
    /// Directory of log files; made if missing.
    pub log_dir: PathBuf,
    /// A log file is rotated when it is larger than this many bytes.
    pub log_max_bytes: u64,
    /// Rotated files kept per app; 0 keeps none.
    pub log_keep: u32,
    /// This program's own executable, which is run again as the exec shim. `/proc/self/exe` names the running program
    /// even after an upgrade replaced its file, so daemon and shim always speak the same language.
    pub shim: PathBuf,
    /// This boot's ID, as `boot_id` reads it.
    pub boot: String,
    /// Under it, each app's socket directory.
    pub run_root: PathBuf,
    /// Under it, each app's data directory.
    pub state_root: PathBuf,
}

/// The adapter. Dropping it stops the watching, never a process.
#[derive(Debug)]
pub struct Processes {
    inner: Arc<Inner>,
    tasks: [AbortHandle; 2],
}

/// What the adapter's tasks share.
#[derive(Debug)]
struct Inner {
    instance: String,
    boot: String,
    run_root: PathBuf,
    state_root: PathBuf,
    lives: Lives,
    logs: Logs,
    enclosure: Option<Arc<dyn Enclosure>>,
    sender: ObservationSender,
    spawner: Spawner,
    kills: mpsc::Sender<Request>,
    /// Spawns at once; more would only wait for the CPU, each with a thread.
    permits: Semaphore,
    /// Number of the next command.
    commands: AtomicU64,
    /// Marks of the commands that run now.
    running_commands: Mutex<HashSet<String>>,
}

impl Processes {
    /// An adapter that tells what it observes to `sender`, and puts apps where `enclosure` says. Must be called within a
    /// tokio runtime, whose tasks it uses.
    ///
    /// Changes this whole process: its soft limit of open files becomes the hard one, as each watched process takes a
    /// descriptor (apps inherit it), and every descriptor open by now is marked close-on-exec.
    ///
    /// # Errors
    /// The log directory cannot be made.
    pub fn new(options: Options, enclosure: Option<Arc<dyn Enclosure>>, sender: ObservationSender) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o750).create(&options.log_dir)?;
        raise_open_files();
        shim::keep_descriptors();
        let (kills, requests) = mpsc::channel(KILLS_MAX);
        let at_once = std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 4) * 2;
        let inner = Arc::new(Inner {
            instance: options.instance_id,
            boot: options.boot,
            run_root: options.run_root,
            state_root: options.state_root,
            lives: Lives::default(),
            logs: Logs::new(options.log_dir, options.log_max_bytes.max(1), options.log_keep),
            enclosure,
            sender,
            spawner: Spawner::new(options.shim),
            kills,
            permits: Semaphore::new(at_once),
            commands: AtomicU64::new(identity::ticks_now()),
            running_commands: Mutex::default(),
        });
        let sweeper = tokio::spawn(sweeper::run(inner.clone(), requests)).abort_handle();
        let rotation = tokio::spawn(rotate::run(inner.clone())).abort_handle();
        Ok(Self { inner, tasks: [sweeper, rotation] })
    }

    /// Rotates now what is too large; otherwise a task does so every 30 s. Returns what failed, by app.
    pub fn rotate_once(&self) -> Vec<(AppId, String)> {
        rotate::sweep(&self.inner).1
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.inner.lives.abandon();
    }
}

fn raise_open_files() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    // Refused only where a sandbox forbids it; then the limit is met later, as a transient failure of a start.
    let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

impl Inner {
    /// Starts a program as a launch's user, in its directory and environment.
    fn spawn(
        &self,
        launch: &Launch,
        argv: &[String],
        mark: &str,
        listen: Option<u16>,
        (out, err): (Stdio, Stdio),
        hold: Option<&spawn::Hold<'_>>,
    ) -> Result<Spawned, SpawnFailure> {
        let credentials = user::resolve(launch.user.as_deref(), launch.group.as_deref())?;
        ground::make_directories(launch, credentials.as_ref())?;
        let mut env = launch.env.clone();
        env.insert("NBS_APP".into(), launch.app.to_string());
        env.insert("NBS_RUN".into(), launch.run.to_string());
        if let Some(port) = launch.port() {
            env.insert(mark::PORT.into(), port.to_string());
        }
        env.insert(mark::VARIABLE.into(), mark.into());
        let name = argv.first().map_or("", String::as_str);
        let program = ground::find_program(name, env.get("PATH").map(String::as_str), &launch.cwd)?;
        let plan = Plan { program, argv, env, cwd: &launch.cwd, credentials, listen };
        self.spawner.spawn(&plan, out, err, hold)
    }

    /// Starts a life and its watching.
    fn begin(self: &Arc<Self>, mut launch: Launch) -> Result<Started, SpawnFailure> {
        ground::check_address(&launch)?;
        let opening = |error: io::Error| {
            failure::system(&format!("opening the log {}", self.logs.file(&launch.app).display()), &error)
        };
        let (log, log_from) = self.logs.open(&launch.app).map_err(opening)?;
        let output = spawn::both(log).map_err(opening)?;
        let listen = match (&launch.address, launch.listen) {
            (Some(Address::Port(port)), Listen::Fd) => Some(*port),
            _ => None,
        };
        if launch.notify {
            let socket = launch.run_dir.join("notify.sock");
            launch.env.insert("NOTIFY_SOCKET".into(), socket.display().to_string());
        }
        let mark = Mark::Life(launch.app.clone(), launch.run).text(&self.instance);
        let (app, run) = (&launch.app, launch.run);
        let enclosed = Cell::new(None);
        let hold = self.enclosure.as_ref().map(|enclosure| {
            |pid| {
                tokio::runtime::Handle::current()
                    .block_on(enclosure.enclose(&launch, pid))
                    .map(|notes| enclosed.set(notes))
            }
        });
        let hold = hold.as_ref().map(|hold| hold as &spawn::Hold<'_>);
        let Spawned { main, pidfd } = self.spawn(&launch, &launch.argv, &mark, listen, output, hold)?;
        let enclosed = enclosed.take();
        let group = enclosed.as_ref().and_then(|_| Group::of(app, main.pid));
        let pidfd = Arc::new(pidfd);
        let life =
            Life { run, main, pidfd: Some(pidfd.clone()), group, progress: Progress::Watched, log_from, watcher: None };
        self.lives.add(app, life);
        if let Err(error) = watch::start(self, app, run, pidfd.clone()) {
            let _ = rustix::process::pidfd_send_signal(&*pidfd, rustix::process::Signal::KILL);
            let _ = rustix::process::waitid(
                rustix::process::WaitId::PidFd(std::os::fd::AsFd::as_fd(&*pidfd)),
                rustix::process::WaitIdOptions::EXITED,
            );
            self.lives.remove(app, run);
            return Err(failure::system("watching the new process", &error));
        }
        let identity =
            Identity { pid: main.pid, start_ticks: main.start_ticks, boot: self.boot.clone(), invocation: None };
        Ok(Started { identity, notes: notes(&launch, enclosed) })
    }

    /// What is to be killed for a life. Its process group is stopped at once where its number is certainly still its own.
    fn condemn(&self, app: &AppId, run: Run) -> Target {
        let mark: Box<str> = Mark::Life(app.clone(), run).text(&self.instance).into();
        let known = self.lives.with(app, run, |life| {
            if let Some(pidfd) = &life.pidfd {
                // A child that is not reaped yet pins the number; the lock keeps the watcher from reaping it.
                if watch::is_unreaped_child(pidfd) {
                    let group = identity::pid(life.main.pid);
                    let _ = group.map(|pid| rustix::process::kill_process_group(pid, rustix::process::Signal::STOP));
                }
                let _ = rustix::process::pidfd_send_signal(&**pidfd, rustix::process::Signal::STOP);
            }
            Target { mark: mark.clone(), main: Some(life.main), reaped_at: life.reaped_at(), group: life.group.clone() }
        });
        known.unwrap_or(Target { mark, main: None, reaped_at: None, group: None })
    }

    fn remember_command(&self, mark: &str) {
        self.running().insert(mark.into());
    }

    fn forget_command(&self, mark: &str) {
        self.running().remove(mark);
    }

    fn is_running_command(&self, mark: &str) -> bool {
        self.running().contains(mark)
    }

    fn running(&self) -> MutexGuard<'_, HashSet<String>> {
        self.running_commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clean_up(&self, app: &AppId, purge_data: bool) -> Result<(), String> {
        removal::remove_directory(&self.run_root.join(app.as_str()))?;
        let rotated = format!("{app}.log.");
        for entry in fs::read_dir(self.logs.directory()).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(&rotated)) {
                removal::remove_file(&entry.path())?;
            }
        }
        removal::remove_file(&self.logs.file(app))?;
        match purge_data {
            true => removal::remove_directory(&self.state_root.join(app.as_str())),
            false => Ok(()),
        }
    }
}

/// What cannot be done as asked; of limits, whoever enclosed the app has told.
fn notes(launch: &Launch, enclosed: Option<Vec<String>>) -> Vec<String> {
    let mut notes = enclosed.unwrap_or_else(|| unlimited(launch));
    if launch.user.is_none() && nix::unistd::geteuid().is_root() {
        notes.push("the app runs as root: its recipe names no user".into());
    }
    notes
}

fn unlimited(launch: &Launch) -> Vec<String> {
    let limits = &launch.limits;
    let asked = [
        ("memory_max", limits.memory_max.is_some()),
        ("cpu_quota", limits.cpu_quota.is_some()),
        ("tasks_max", limits.tasks_max.is_some()),
        ("io_weight", limits.io_weight.is_some()),
    ];
    let note = |name| format!("limits.{name} is not enforced: the process adapter has no cgroup here");
    asked.into_iter().filter(|(_, is)| *is).map(|(name, _)| note(name)).collect()
}

impl ProcessControl for Processes {
    fn start<'a>(&'a self, launch: &'a Launch) -> BoxFuture<'a, Result<Started, SpawnFailure>> {
        Box::pin(async move {
            let cut_off = || failure::transient("starting the process was cut off");
            let _permit = self.inner.permits.acquire().await.map_err(|_| cut_off())?;
            let (inner, launch) = (self.inner.clone(), launch.clone());
            tokio::task::spawn_blocking(move || inner.begin(launch)).await.unwrap_or_else(|_| Err(cut_off()))
        })
    }

    fn signal<'a>(&'a self, app: &'a AppId, run: Run, signal: Signal) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let pidfd = self.inner.lives.with(app, run, |life| life.pidfd.clone()).flatten();
            if let (Some(pidfd), Some(signal)) = (pidfd, identity::signal(signal)) {
                // One that is gone is no error.
                let _ = rustix::process::pidfd_send_signal(&*pidfd, signal);
            }
        })
    }

    fn kill_tree<'a>(&'a self, app: &'a AppId, run: Run) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let target = self.inner.condemn(app, run);
            let then = Then::TreeGone(app.clone(), run);
            // The sweeper lives as long as this adapter.
            let _ = self.inner.kills.send(Request { target, then }).await;
        })
    }

    fn adopt(&self, known: Vec<Known>) -> BoxFuture<'_, Found> {
        Box::pin(async move {
            let inner = self.inner.clone();
            let looking = tokio::task::spawn_blocking(move || adopt::adopt(&inner, known));
            let adopt::Adopted { found, kills } = looking.await.unwrap_or_default();
            for request in kills {
                let _ = self.inner.kills.send(request).await;
            }
            found
        })
    }

    fn clean_up<'a>(&'a self, app: &'a AppId, purge_data: bool) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let (inner, app) = (self.inner.clone(), app.clone());
            let cleaning = tokio::task::spawn_blocking(move || inner.clean_up(&app, purge_data));
            cleaning.await.unwrap_or_else(|_| Err("cleaning up was cut off".into()))
        })
    }
}

impl CommandRunner for Processes {
    fn run<'a>(
        &'a self,
        context: &'a Launch,
        argv: &'a [String],
        timeout: Duration,
        log: bool,
    ) -> BoxFuture<'a, CommandOutput> {
        Box::pin(async move {
            // A task of its own, so that a command is killed and reaped even if this future is dropped.
            let (_keep, abandoned) = oneshot::channel();
            let (inner, context, argv) = (self.inner.clone(), context.clone(), argv.to_vec());
            let running = tokio::spawn(command::run(inner, context, argv, timeout, log, abandoned));
            let cut_off = |_| CommandOutput { result: Err("the command was cut off".into()), last_log: Vec::new() };
            running.await.unwrap_or_else(cut_off)
        })
    }
}

impl LogReader for Processes {
    fn tail<'a>(&'a self, app: &'a AppId, query: &'a LogQuery) -> BoxFuture<'a, Result<Vec<LogLine>, LogError>> {
        Box::pin(async move {
            let tail = self.read_tail(app, query, false).await?;
            Ok(tail.lines.into_iter().map(LogLine::plain).collect())
        })
    }

    fn follow<'a>(
        &'a self,
        app: &'a AppId,
        query: &'a LogQuery,
    ) -> BoxFuture<'a, Result<mpsc::Receiver<LogLine>, LogError>> {
        Box::pin(async move {
            let tail = self.read_tail(app, query, true).await?;
            let (sender, receiver) = mpsc::channel(follow::CHANNEL);
            let (inner, app) = (self.inner.clone(), app.clone());
            let place = follow::Place { cuts: tail.cuts, at: tail.end };
            tokio::spawn(async move {
                for text in tail.lines {
                    if sender.send(LogLine::plain(text)).await.is_err() {
                        return;
                    }
                }
                follow::run(inner, app, place, sender).await;
            });
            Ok(receiver)
        })
    }
}

impl Processes {
    async fn read_tail(&self, app: &AppId, query: &LogQuery, complete: bool) -> Result<tail::Tail, LogError> {
        if query.since.is_some() {
            return Err(LogError::NoTimes(app.clone()));
        }
        if query.after.is_some() {
            return Err(LogError::NoCursors(app.clone()));
        }
        let lines = query.lines;
        let (inner, name) = (self.inner.clone(), app.clone());
        let reading = tokio::task::spawn_blocking(move || tail::read(&inner.logs, &name, lines, complete));
        let failed = |cause: String| LogError::Failed { app: app.clone(), cause };
        match reading.await {
            Ok(Ok(tail)) => Ok(tail),
            Ok(Err(error)) => Err(failed(failure::cause(&error))),
            Err(_) => Err(failed("reading was cut off".into())),
        }
    }
}
