//! The connections themselves: made, kept up, and made again for ever.
//!
//! Two connections, so that a flood of signals never holds up a call. The reader of signals never waits for anyone: it
//! moves what it gets into the inbox and the job book. Deliberately absent: what is called (`mod.rs`).

use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream as _;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use zbus::message::{Message, Type};
use zbus::{Address, Connection, MessageStream, OwnedObjectPath};

use super::decode;
use super::error::named;
use super::inbox::Inbox;
use super::jobs::{JobResult, Jobs};
use super::{MANAGER, PROPERTIES, ROOT, SYSTEMD, Scope};

/// The longest that a call may take; systemd itself gives its clients as long.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(25);
/// Connecting includes the bus saying hello.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A bus lets each connection have 128 calls without an answer.
const CALLS_MAX: usize = 64;
/// Each pending job holds a match rule in systemd's own connection, of which it may have 512: beyond that the bus cuts
/// systemd off. See `packaging` for the file that raises the limit; this holds without it.
const STARTS_MAX: usize = 128;
/// Of their own, so that a stop can end a start that holds up all the others.
const STOPS_MAX: usize = 64;
/// Signals between the socket and our reader, which never waits.
const QUEUE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(8191);
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(5);
/// How long a call waits for a connection that is about to be there.
const PATIENCE: Duration = Duration::from_secs(5);
/// After so many failures it is no longer about to be there.
const FAILURES_PATIENT: u32 = 6;

const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";

/// What is heard. One rule per kind and not one per unit: a connection may have 512.
const RULES: [&str; 5] = [
    "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',member='NameOwnerChanged',\
     arg0='org.freedesktop.systemd1'",
    "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',\
     member='JobRemoved'",
    "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',\
     member='UnitRemoved'",
    "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.DBus.Properties',\
     member='PropertiesChanged',path_namespace='/org/freedesktop/systemd1/unit',arg0='org.freedesktop.systemd1.Unit'",
    "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.DBus.Properties',\
     member='PropertiesChanged',path_namespace='/org/freedesktop/systemd1/unit',\
     arg0='org.freedesktop.systemd1.Service'",
];

/// The connection for calls.
#[derive(Debug, Clone)]
enum Calls {
    /// It is there, and systemd at its other end.
    Up(Connection),
    /// It is expected any moment; why it is not there. systemd executes itself anew, or the bus is restarted.
    Soon(String),
    /// There is none, and why.
    Down(String),
}

/// What calls and the keeper of the connections share.
#[derive(Debug)]
pub(super) struct Shared {
    scope: Scope,
    calls: watch::Sender<Calls>,
    pub(super) call_turns: Semaphore,
    pub(super) start_turns: Arc<Semaphore>,
    pub(super) stop_turns: Arc<Semaphore>,
    pub(super) jobs: Arc<Jobs>,
    pub(super) inbox: Inbox,
}

impl Shared {
    pub(super) fn new(scope: Scope) -> Self {
        Self {
            scope,
            calls: watch::Sender::new(Calls::Soon("not connected yet".into())),
            call_turns: Semaphore::new(CALLS_MAX),
            start_turns: Arc::new(Semaphore::new(STARTS_MAX)),
            stop_turns: Arc::new(Semaphore::new(STOPS_MAX)),
            jobs: Arc::default(),
            inbox: Inbox::default(),
        }
    }

    /// The connection for calls, for which a call waits a little if it is about to be there, or why there is none.
    pub(super) async fn connection(&self) -> Result<Connection, String> {
        let mut calls = self.calls.subscribe();
        let settled = timeout(PATIENCE, calls.wait_for(|calls| !matches!(calls, Calls::Soon(_)))).await;
        drop(settled);
        match &*self.calls.borrow() {
            Calls::Up(connection) => Ok(connection.clone()),
            Calls::Soon(why) | Calls::Down(why) => Err(why.clone()),
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(*self.calls.borrow(), Calls::Up(_))
    }

    fn up(&self, calls: &Connection) {
        self.calls.send_replace(Calls::Up(calls.clone()));
        self.inbox.connected();
    }

    fn down(&self, calls: Calls) {
        let before = self.calls.send_replace(calls);
        self.jobs.lose();
        if matches!(before, Calls::Up(_)) {
            self.inbox.lost();
        }
    }

    /// Connects, again and again. Never ends.
    pub(super) async fn keep(self: Arc<Self>) {
        // Nobody waits for what was never there.
        let mut failures = FAILURES_PATIENT;
        loop {
            let address = self.scope.address();
            let why = match Session::open(&self, address.clone()).await {
                Ok(session) => session.serve(&self, &mut failures).await,
                Err(why) => why,
            };
            let address = address.map_or_else(|error| error.to_string(), |address| address.to_string());
            let why = format!("no connection to systemd by the bus at {address}: {why}");
            self.down(if failures < FAILURES_PATIENT { Calls::Soon(why) } else { Calls::Down(why) });
            sleep(pause_after(failures)).await;
            failures += 1;
        }
    }
}

/// Longer with each failure, and never the same for two daemons.
fn pause_after(failures: u32) -> Duration {
    let whole = RETRY_FIRST.saturating_mul(1 << failures.min(16)).min(RETRY_LAST);
    let chance = RandomState::new().hash_one(failures) % 1000;
    whole / 2 + whole.mul_f64(chance as f64 / 2000.0)
}

/// Who systemd is on the bus.
#[derive(Debug, Default)]
struct Owner {
    /// Its unique name; empty = it is not there. Anyone on the bus can send us a signal that looks like systemd's.
    name: String,
}

/// Both connections, as long as they last.
struct Session {
    calls: Connection,
    signals: Connection,
    owner: watch::Receiver<Owner>,
    reader: Reader,
}

/// The task that reads signals; it ends with this.
struct Reader(JoinHandle<()>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Session {
    async fn open(shared: &Arc<Shared>, address: zbus::Result<Address>) -> Result<Self, String> {
        let address = address.map_err(|error| error.to_string())?;
        let calls = connect(&address).await?;
        let signals = connect(&address).await?;
        let (owner, owned) = watch::channel(Owner::default());
        let mut stream = MessageStream::from(&signals);
        stream.set_max_queued(QUEUE);
        let reader = Reader(tokio::spawn(read(Arc::clone(shared), stream, owner.clone())));
        for rule in RULES {
            let added = signals.call_method(Some(BUS), BUS_PATH, Some(BUS), "AddMatch", &rule).await;
            added.map_err(|error| error.to_string())?;
        }
        // From here on each change of the owner is heard; if it is not there now, that is heard too.
        let asked = signals.call_method(Some(BUS), BUS_PATH, Some(BUS), "GetNameOwner", &SYSTEMD).await;
        if let Ok(name) = asked.and_then(|answer| answer.body().deserialize::<String>()) {
            owner.send_if_modified(|owner| {
                let unknown = owner.name.is_empty();
                if unknown {
                    owner.name = name;
                }
                unknown
            });
        }
        Ok(Self { calls, signals, owner: owned, reader })
    }

    /// Announces systemd whenever it is there; returns why a connection ended.
    async fn serve(mut self, shared: &Shared, failures: &mut u32) -> String {
        loop {
            self.owner.borrow_and_update();
            let subscribed = self.subscribe().await;
            if subscribed.is_ok() {
                *failures = 0;
                shared.up(&self.calls);
            }
            let again = async {
                match subscribed {
                    Ok(()) => std::future::pending().await,
                    Err(_) => sleep(pause_after(*failures)).await,
                }
            };
            tokio::select! {
                _ = &mut self.reader.0 => return "the connection for signals ended".into(),
                () = self.calls.closed() => return "the connection for calls ended".into(),
                changed = self.owner.changed() => match changed {
                    Ok(()) => shared.down(Calls::Soon("systemd left the bus, and is expected back".into())),
                    Err(_) => return "the connection for signals ended".into(),
                },
                () = again => *failures += 1,
            }
        }
    }

    /// Asks systemd for signals. A new systemd has forgotten who asked the old one.
    async fn subscribe(&self) -> zbus::Result<()> {
        let asked = self.signals.call_method(Some(SYSTEMD), ROOT, Some(MANAGER), "Subscribe", &()).await;
        match asked {
            Err(error) if named(&error).is_some_and(|(name, _)| name.ends_with(".AlreadySubscribed")) => Ok(()),
            asked => asked.map(|_| ()),
        }
    }
}

async fn connect(address: &Address) -> Result<Connection, String> {
    let builder = zbus::connection::Builder::address(address.clone()).method_timeout(CALL_TIMEOUT);
    match timeout(CONNECT_TIMEOUT, builder.build()).await {
        Ok(connected) => connected.map_err(|error| error.to_string()),
        Err(_) => Err("no answer".into()),
    }
}

/// Reads signals until the connection ends.
async fn read(shared: Arc<Shared>, mut stream: MessageStream, owner: watch::Sender<Owner>) {
    loop {
        let next = std::future::poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await;
        match next {
            Some(Ok(message)) if message.message_type() == Type::Signal => {
                // A signal that cannot be read says nothing about a unit that a later reading would not say as well.
                let _ = take(&shared, &message, &owner);
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return,
        }
    }
}

fn take(shared: &Shared, message: &Message, owner: &watch::Sender<Owner>) -> zbus::Result<()> {
    let header = message.header();
    let (Some(sender), Some(member)) = (header.sender(), header.member()) else { return Ok(()) };
    if sender.as_str() == BUS {
        if member.as_str() == "NameOwnerChanged" {
            let body = message.body();
            let (name, _, new) = body.deserialize::<(&str, &str, &str)>()?;
            if name == SYSTEMD {
                owner.send_replace(Owner { name: new.into() });
            }
        }
        return Ok(());
    }
    if owner.borrow().name != sender.as_str() {
        return Ok(());
    }
    let interface = header.interface().map(|interface| interface.as_str());
    match (interface, member.as_str()) {
        (Some(PROPERTIES), "PropertiesChanged") => {
            if let Some(unit) = header.path().and_then(|path| decode::our_unit(path.as_str())) {
                let changed = decode::changed(message)?;
                shared.jobs.changed(&unit, &changed);
                shared.inbox.changed(&unit, changed);
            }
        }
        (Some(MANAGER), "JobRemoved") => {
            let body = message.body();
            let (_, job, unit, result) = body.deserialize::<(u32, OwnedObjectPath, &str, &str)>()?;
            shared.jobs.ended(job.as_str(), unit, JobResult::from_word(result));
        }
        (Some(MANAGER), "UnitRemoved") => {
            let body = message.body();
            let (unit, _) = body.deserialize::<(&str, OwnedObjectPath)>()?;
            if decode::is_ours(unit) {
                shared.inbox.gone(unit);
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_are_never_none() {
        for failures in 0..200 {
            let whole = RETRY_FIRST.saturating_mul(1 << failures.min(16)).min(RETRY_LAST);
            let pause = pause_after(failures);
            assert!(pause >= whole / 2 && pause <= whole, "{failures}: {pause:?}");
        }
        assert!(pause_after(u32::MAX) >= RETRY_LAST / 2);
    }
}
