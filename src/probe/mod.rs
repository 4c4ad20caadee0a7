//! Asks instances how they are: readiness, liveness, version.
//!
//! This room decides when a question is put and what an answer says in words. It never decides what follows: how many
//! failures are too many, when a start has taken too long or how long a `failed_if` must persist is the core's to judge.
//! Deliberately absent: logging, deadlines of a start, redirects, TLS, connection reuse (a kept connection would tell that
//! the process still holds it, not that it accepts new ones).
//!
//! `watch.rs` holds the asking loops, one file per kind of question beside it. Nothing runs and nothing is kept for an
//! app that is not being asked anything; only a notify socket stays open until `unwatch`, because an app may go on
//! writing to it and `systemd-notify` fails when nobody is there.

mod exec;
mod file;
mod http;
mod notify;
mod tcp;
mod version;
mod watch;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nbs_core::launch::{Launch, Question};
use nbs_core::name::AppId;
use nbs_core::observation::{Answer, Fact, Observation};
use nbs_core::time::Wall;
use tokio::task::AbortHandle;

use crate::ports::{CommandRunner, ObservationSender, Prober, VersionQuestion, Watch};

use notify::NotifySocket;
use watch::{Asker, Teller};

/// The prober. One per worker; must be used inside a tokio runtime.
pub struct Probes {
    sender: ObservationSender,
    runner: Arc<dyn CommandRunner>,
    desk: Arc<Mutex<Desk>>,
}

/// What is being asked at the moment.
#[derive(Default)]
struct Desk {
    last_id: u64,
    apps: HashMap<AppId, Asked>,
}

/// What is being asked about one app.
#[derive(Default)]
struct Asked {
    ready: Option<Running>,
    alive: Option<Running>,
    version: Option<Running>,
    file: Option<Running>,
    notify: Option<Box<NotifySocket>>,
}

#[derive(Clone, Copy)]
enum Kind {
    Ready,
    Alive,
    Version,
    File,
}

/// A task that ends with this value. The ID tells it from its successor.
struct Running {
    id: u64,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Asked {
    fn slot(&mut self, kind: Kind) -> &mut Option<Running> {
        match kind {
            Kind::Ready => &mut self.ready,
            Kind::Alive => &mut self.alive,
            Kind::Version => &mut self.version,
            Kind::File => &mut self.file,
        }
    }

    fn is_empty(&self) -> bool {
        self.ready.is_none()
            && self.alive.is_none()
            && self.version.is_none()
            && self.file.is_none()
            && self.notify.is_none()
    }
}

impl Desk {
    /// A task came to its end by itself.
    fn ended(&mut self, app: &AppId, kind: Kind, id: u64) {
        let Some(asked) = self.apps.get_mut(app) else { return };
        let slot = asked.slot(kind);
        if slot.as_ref().is_some_and(|running| running.id == id) {
            *slot = None;
        }
        if asked.is_empty() {
            self.forget(app);
        }
    }

    fn forget(&mut self, app: &AppId) -> Option<Asked> {
        let asked = self.apps.remove(app);
        // A thousand starts at boot shall not leave a thousand empty places.
        if self.apps.capacity() > 64 && self.apps.len() < self.apps.capacity() / 8 {
            self.apps.shrink_to_fit();
        }
        asked
    }
}

impl Probes {
    /// A prober that sends its answers to `sender` and runs exec probes by `runner`.
    pub fn new(sender: ObservationSender, runner: Arc<dyn CommandRunner>) -> Self {
        Self { sender, runner, desk: Arc::default() }
    }

    /// How many apps are being asked something, or have a notify socket open.
    pub fn asked(&self) -> usize {
        self.desk().apps.len()
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a task; the one of the same app and kind before it ends.
    fn begin(&self, app: &AppId, kind: Kind, work: impl Future<Output = ()> + Send + 'static) {
        let mut desk = self.desk();
        desk.last_id += 1;
        let id = desk.last_id;
        let name = app.clone();
        let weak = Arc::downgrade(&self.desk);
        // Boxed: a future that is moved into another counts twice in its size, and there may be a thousand of these.
        let work = Box::pin(work);
        let task = tokio::spawn(async move {
            work.await;
            if let Some(desk) = weak.upgrade() {
                desk.lock().unwrap_or_else(PoisonError::into_inner).ended(&name, kind, id);
            }
        });
        let running = Running { id, task: task.abort_handle() };
        *desk.apps.entry(app.clone()).or_default().slot(kind) = Some(running);
    }

    fn teller(&self, launch: &Launch) -> Teller {
        Teller { app: launch.app.clone(), run: launch.run, sender: self.sender.clone() }
    }

    /// Sends "ready" without asking. Only a full channel costs a task.
    fn ready_at_once(&self, launch: &Launch) {
        let fact = Fact::Readiness(Answer::Ready);
        let observation = Observation { app: launch.app.clone(), run: launch.run, fact };
        if let Err(tokio::sync::mpsc::error::TrySendError::Full(observation)) = self.sender.try_send(observation) {
            let teller = self.teller(launch);
            self.begin(&launch.app, Kind::Ready, async move {
                teller.tell(observation.fact).await;
            });
        }
    }

    fn watch_notify(&self, watch: &Watch) {
        let launch = &watch.launch;
        let teller = self.teller(launch);
        let mut desk = self.desk();
        let asked = desk.apps.entry(launch.app.clone()).or_default();
        if asked.notify.as_ref().is_none_or(|socket| socket.run() != launch.run) {
            asked.notify = None;
            match NotifySocket::open(launch) {
                Ok(socket) => asked.notify = Some(Box::new(socket)),
                Err(saw) => {
                    drop(desk);
                    let answer = Answer::NotYet { saw, progress: None, failed: false };
                    self.begin(&launch.app, Kind::Ready, async move {
                        teller.tell(Fact::Readiness(answer)).await;
                    });
                    return;
                }
            }
        }
        let heard = asked.notify.as_ref().map(|socket| socket.belongs_to(watch.pid));
        drop(desk);
        if let Some(heard) = heard {
            self.begin(&launch.app, Kind::Ready, watch::until_notified(heard, watch.interval, teller));
        }
    }
}

impl Prober for Probes {
    fn open_notify(&self, launch: &Launch) -> Result<(), String> {
        let mut desk = self.desk();
        // The old socket goes first: it removes its file, which would else be the new one.
        if let Some(asked) = desk.apps.get_mut(&launch.app) {
            asked.notify = None;
        }
        let socket = NotifySocket::open(launch)?;
        desk.apps.entry(launch.app.clone()).or_default().notify = Some(Box::new(socket));
        Ok(())
    }

    fn watch_ready(&self, mut watch: Watch) {
        let app = watch.launch.app.clone();
        // A watch that replaces another must not be followed by an answer to the former.
        if let Some(asked) = self.desk().apps.get_mut(&app) {
            asked.ready = None;
        }
        match (&watch.question, watch.adopted, &watch.launch.address) {
            (Question::Started, _, _) => self.ready_at_once(&watch.launch),
            // READY=1 may have gone to the dead daemon. Whoever waited for it would kill a healthy app.
            (Question::Notify, true, None) => self.ready_at_once(&watch.launch),
            (Question::Notify, true, Some(_)) => {
                watch.question = Question::Tcp;
                self.watch_ready(watch);
            }
            (Question::Notify, false, _) => self.watch_notify(&watch),
            _ => {
                let teller = self.teller(&watch.launch);
                let (interval, starting) = (watch.interval, !watch.adopted);
                let asker = Asker::new(watch, self.runner.clone());
                self.begin(&app, Kind::Ready, watch::until_ready(asker, interval, starting, teller));
            }
        }
    }

    fn watch_alive(&self, watch: Watch) {
        let app = watch.launch.app.clone();
        let teller = self.teller(&watch.launch);
        let interval = watch.interval;
        let asker = Asker::new(watch, self.runner.clone());
        self.begin(&app, Kind::Alive, watch::while_alive(asker, interval, teller));
    }

    fn ask_version(&self, launch: Arc<Launch>, question: VersionQuestion) {
        let app = launch.app.clone();
        let teller = self.teller(&launch);
        self.begin(&app, Kind::Version, version::find(launch, question, self.runner.clone(), teller));
    }

    fn watch_file(&self, launch: &Launch, path: PathBuf, since: Wall, interval: Duration) {
        let teller = self.teller(launch);
        self.begin(&launch.app, Kind::File, file::until_written(path, since, interval, teller));
    }

    fn unwatch(&self, app: &AppId) {
        let asked = self.desk().forget(app);
        // Outside the lock: it closes a socket and removes its file.
        drop(asked);
    }
}
