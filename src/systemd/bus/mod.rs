//! How we speak with systemd: its calls that we use, and what it tells without being asked, over D-Bus.
//!
//! The limits of the bus and of systemd's own connection are kept here, so that no caller can exceed them. Deliberately
//! absent: which properties a unit is given, and what its state means. Nothing is tried again here but the connecting.

mod decode;
mod error;
mod inbox;
mod jobs;
mod link;

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use zbus::message::Message;
use zbus::{Address, Connection, OwnedObjectPath, Variant};

use super::snapshot::Snapshot;
pub(crate) use error::{BusError, BusErrorKind};
pub(crate) use inbox::Event;
pub(crate) use jobs::{Job, JobResult};
use link::{CALL_TIMEOUT, Shared};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const ROOT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// Whose systemd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The host's, for root.
    System,
    /// That of the user we are.
    User,
    #[allow(dead_code, reason = "only the tests of this module, which speak with other hosts, need it")]
    /// At a D-Bus address: for tests, which speak with other hosts' systemd.
    At(String),
}

impl Scope {
    fn address(&self) -> zbus::Result<Address> {
        match self {
            Self::System => Address::system(),
            Self::User => Address::session(),
            Self::At(address) => address.parse(),
        }
    }
}

/// Whom a signal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// The main process.
    Main,
    /// Every process of the unit.
    All,
}

/// A unit in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its name.
    pub(crate) unit: String,
    /// `loaded`, `not-found`, …
    pub(crate) load: String,
    /// `ActiveState`.
    pub(crate) active: String,
    /// `SubState`.
    pub(crate) sub: String,
    /// Whether systemd has a job for it.
    pub(crate) job_pending: bool,
}

/// The way to systemd. It goes on in the background as long as one clone is left.
#[derive(Debug, Clone)]
pub(crate) struct Bus {
    shared: Arc<Shared>,
    _tasks: Arc<Tasks>,
}

/// The background tasks, which end with this.
#[derive(Debug)]
struct Tasks([JoinHandle<()>; 2]);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// A call's turn: the connection, and one of the calls that may be under way at once.
struct Turn<'a> {
    bus: Connection,
    _permit: SemaphorePermit<'a>,
    what: String,
}

impl Turn<'_> {
    /// Waits for an answer, but not longer than answers may take.
    async fn answer(&self, call: impl Future<Output = zbus::Result<Message>>) -> Result<Message, BusError> {
        // The connection has a time limit for answers; this one is for the sending too.
        match timeout(CALL_TIMEOUT, call).await {
            Ok(answer) => answer.map_err(|error| BusError::of(&self.what, &error)),
            Err(_) => {
                let words = format!("no answer from systemd within {} s", CALL_TIMEOUT.as_secs());
                Err(BusError::new(BusErrorKind::TimedOut, &self.what, &words))
            }
        }
    }

    /// An answer that is not what systemd is known to say.
    fn odd(&self, error: &zbus::Error) -> BusError {
        BusError::new(BusErrorKind::Other, &self.what, &format!("systemd's answer could not be read: {error}"))
    }
}

impl Bus {
    /// Returns at once; connects in the background, and again for ever. What happens goes to `events`.
    pub(crate) fn open(scope: Scope, events: mpsc::Sender<Event>) -> Self {
        let shared = Arc::new(Shared::new(scope));
        let keep = tokio::spawn(Arc::clone(&shared).keep());
        let forward = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move { shared.inbox.forward(events).await }
        });
        Self { shared, _tasks: Arc::new(Tasks([keep, forward])) }
    }

    /// Whether systemd could be reached when it was last seen.
    pub(crate) fn is_connected(&self) -> bool {
        self.shared.is_connected()
    }

    async fn turn(&self, what: String) -> Result<Turn<'_>, BusError> {
        let permit = self.shared.call_turns.acquire().await;
        let permit = permit.map_err(|error| BusError::new(BusErrorKind::Unavailable, &what, &error.to_string()))?;
        let bus = self.shared.connection().await;
        let bus = bus.map_err(|why| BusError::new(BusErrorKind::Unavailable, &what, &why))?;
        Ok(Turn { bus, _permit: permit, what })
    }

    /// Starts a transient unit. Waits for its turn where many starts are pending; to be awaited to its end, since a
    /// job that nobody knows of still counts for systemd.
    pub(crate) async fn start<N>(&self, unit: &str, properties: &[(N, Variant<'_>)]) -> Result<Job, BusError>
    where
        N: zbus::export::serde::Serialize + zbus::Type,
    {
        let auxiliary: [(&str, Vec<(&str, Variant<'_>)>); 0] = [];
        let body = (unit, "fail", properties, &auxiliary[..]);
        self.job(format!("start {unit}"), unit, &self.shared.start_turns, async |bus| {
            bus.call_method(Some(SYSTEMD), ROOT, Some(MANAGER), "StartTransientUnit", &body).await
        })
        .await
    }

    /// Stops a unit, also one that is starting.
    pub(crate) async fn stop(&self, unit: &str) -> Result<Job, BusError> {
        self.job(format!("stop {unit}"), unit, &self.shared.stop_turns, async |bus| {
            bus.call_method(Some(SYSTEMD), ROOT, Some(MANAGER), "StopUnit", &(unit, "replace")).await
        })
        .await
    }

    async fn job(
        &self,
        what: String,
        unit: &str,
        turns: &Arc<Semaphore>,
        call: impl AsyncFnOnce(&Connection) -> zbus::Result<Message>,
    ) -> Result<Job, BusError> {
        let permit = Arc::clone(turns).acquire_owned().await;
        let permit = permit.map_err(|error| BusError::new(BusErrorKind::Unavailable, &what, &error.to_string()))?;
        let turn = self.turn(what).await?;
        let asking = self.shared.jobs.ask(unit);
        let answer = turn.answer(call(&turn.bus)).await?;
        let job = answer.body().deserialize::<OwnedObjectPath>().map_err(|error| turn.odd(&error))?;
        Ok(asking.named(job.as_str(), permit))
    }

    /// Sends a signal.
    pub(crate) async fn kill(&self, unit: &str, who: Who, signal: i32) -> Result<(), BusError> {
        let whom = match who {
            Who::Main => "main",
            Who::All => "all",
        };
        let turn = self.turn(format!("send signal {signal} to {unit}")).await?;
        let body = (unit, whom, signal);
        turn.answer(turn.bus.call_method(Some(SYSTEMD), ROOT, Some(MANAGER), "KillUnit", &body)).await?;
        Ok(())
    }

    /// Has systemd forget that a unit failed, and the starts that it counted.
    pub(crate) async fn reset_failed(&self, unit: &str) -> Result<(), BusError> {
        let turn = self.turn(format!("reset {unit}")).await?;
        turn.answer(turn.bus.call_method(Some(SYSTEMD), ROOT, Some(MANAGER), "ResetFailedUnit", &unit)).await?;
        Ok(())
    }

    /// A unit as it is now, in one piece; `None` if systemd has none of that name.
    pub(crate) async fn read(&self, unit: &str) -> Result<Option<Snapshot>, BusError> {
        let turn = self.turn(format!("read {unit}")).await?;
        // Asking a unit's object for its properties would load a unit that is not there, and tell everyone of it.
        let get = turn.answer(turn.bus.call_method(Some(SYSTEMD), ROOT, Some(MANAGER), "GetUnit", &unit)).await;
        let path = match get {
            Ok(answer) => answer.body().deserialize::<OwnedObjectPath>().map_err(|error| turn.odd(&error))?,
            Err(error) if error.kind == BusErrorKind::NoSuchUnit => return Ok(None),
            Err(error) => return Err(error),
        };
        // No interface: those of all, from one moment.
        let all = turn.bus.call_method(Some(SYSTEMD), path, Some(PROPERTIES), "GetAll", &"");
        let answer = turn.answer(all).await?;
        decode::snapshot(&answer).map_err(|error| turn.odd(&error))
    }

    /// The ID of a unit's present life; empty if it never started.
    pub(crate) async fn invocation(&self, unit: &str) -> Result<String, BusError> {
        let turn = self.turn(format!("read the invocation of {unit}")).await?;
        let answer = self.property(&turn, &decode::path_of(unit), UNIT, "InvocationID").await?;
        let body = answer.body();
        let value = body.deserialize::<Variant<'_>>().map_err(|error| turn.odd(&error))?;
        Ok(decode::invocation(&value))
    }

    /// The units whose names match a pattern with `*`.
    pub(crate) async fn list(&self, pattern: &str) -> Result<Vec<Listed>, BusError> {
        let turn = self.turn(format!("list the units {pattern}")).await?;
        let states: [&str; 0] = [];
        let body = (&states[..], &[pattern][..]);
        let call = turn.bus.call_method(Some(SYSTEMD), ROOT, Some(MANAGER), "ListUnitsByPatterns", &body);
        decode::listed(&turn.answer(call).await?).map_err(|error| turn.odd(&error))
    }

    /// systemd's version, as it says it: `252.39-1~deb12u2`.
    pub(crate) async fn version(&self) -> Result<String, BusError> {
        let turn = self.turn("read systemd's version".into()).await?;
        let answer = self.property(&turn, ROOT, MANAGER, "Version").await?;
        let body = answer.body();
        let value = body.deserialize::<Variant<'_>>().map_err(|error| turn.odd(&error))?;
        <&str>::try_from(&value).map(str::to_string).map_err(|error| turn.odd(&error))
    }

    async fn property(&self, turn: &Turn<'_>, path: &str, owner: &str, name: &str) -> Result<Message, BusError> {
        turn.answer(turn.bus.call_method(Some(SYSTEMD), path, Some(PROPERTIES), "Get", &(owner, name))).await
    }
}
