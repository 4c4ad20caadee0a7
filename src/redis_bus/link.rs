//! One connection to Redis for one purpose: made when it is needed, left when it is of no use, never waited for.
//!
//! Every command has an answer within `COMMAND`, be it an error: while there is no connection and the pause before the
//! next attempt lasts, at once. Decides when a link counts as half open, which command is tried again, and what an
//! operator reads of it: one line when Redis cannot be used, one when it can. Deliberately absent: what is asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, Value};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout};

use crate::redis_bus::random::jitter;
use crate::redis_bus::server::Server;
use crate::redis_bus::trouble::{Cause, Trouble};
use crate::redis_bus::{COMMAND, CONNECT};

mod facts;

pub use facts::Facts;

/// The first pause after a failed attempt.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A link is taken for half open when so many commands in a row had no answer.
const TIMEOUTS: u32 = 2;

/// How a Redis is, for whoever wants to know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// Why it cannot be used, if so.
    pub trouble: Option<Trouble>,
    /// What it said of itself; none before the first connection.
    pub facts: Option<Facts>,
}

/// Tells operators and readers how one Redis is, whichever connection found out.
pub(super) struct Speaker {
    shown: String,
    role: &'static str,
    troubles: StdMutex<Troubles>,
    health: watch::Sender<Health>,
}

#[derive(Default)]
struct Troubles {
    of: BTreeMap<&'static str, Trouble>,
    /// What was said since it went down.
    said: Vec<Cause>,
    since: Option<Instant>,
    /// Whether the settings of the server were looked at.
    advised: bool,
}

impl Speaker {
    pub(super) fn new(server: &Server, role: &'static str) -> Arc<Self> {
        let (shown, troubles) = (server.shown().to_string(), StdMutex::default());
        Arc::new(Self { shown, role, troubles, health: watch::Sender::new(Health::default()) })
    }

    fn down(&self, purpose: &'static str, trouble: &Trouble) {
        let mut troubles = self.lock();
        let is_news = troubles.of.is_empty();
        troubles.of.insert(purpose, trouble.clone());
        if is_news {
            troubles.since = Some(Instant::now());
            troubles.said.clear();
        }
        if is_news || (trouble.cause.wants_somebody() && !troubles.said.contains(&trouble.cause)) {
            troubles.said.push(trouble.cause);
            tracing::warn!(url = self.shown, role = self.role, "Redis cannot be used: {trouble}");
        }
        self.health.send_if_modified(|health| {
            let changed = health.trouble.as_ref().map(|known| known.cause) != Some(trouble.cause);
            health.trouble = Some(trouble.clone());
            changed
        });
    }

    fn up(&self, purpose: &'static str) {
        let mut troubles = self.lock();
        if troubles.of.remove(purpose).is_none() || !troubles.of.is_empty() {
            return;
        }
        let away = troubles.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        tracing::info!(url = self.shown, role = self.role, seconds = away.as_secs(), "Redis can be used again");
        self.health.send_modify(|health| health.trouble = None);
    }

    fn learn(&self, facts: Facts) {
        if let Some(advice) = facts.advice()
            && !std::mem::replace(&mut self.lock().advised, true)
        {
            tracing::warn!(url = self.shown, role = self.role, "{advice}");
        }
        self.health.send_if_modified(|health| {
            let changed = health.facts.as_ref() != Some(&facts);
            health.facts = Some(facts);
            changed
        });
    }

    fn lock(&self) -> MutexGuard<'_, Troubles> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Link(Arc<Inner>);

struct Inner {
    server: Server,
    speaker: Arc<Speaker>,
    purpose: &'static str,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    /// Which connection it is, so that the end of an earlier one does not end the present one.
    serial: u64,
    timeouts: u32,
    failures: u32,
    retry_at: Option<Instant>,
    last: Option<Trouble>,
    /// Writes were refused; that reads are answered proves nothing.
    refuses_writes: bool,
}

enum Ask<'a> {
    One(&'a Cmd),
    Many(&'a Pipeline),
}

impl Link {
    pub(super) fn new(server: &Server, speaker: Arc<Speaker>, purpose: &'static str) -> Self {
        Self(Arc::new(Inner { server: server.clone(), speaker, purpose, state: Mutex::default() }))
    }

    /// One that stands alone: for whoever wants to know whether this server can be used, and why not.
    pub fn alone(server: &Server) -> Self {
        Self::new(server, Speaker::new(server, "doctor"), "commands")
    }

    /// How the server is.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.0.speaker.health.subscribe()
    }

    /// One command, answered in time or not at all.
    ///
    /// # Errors
    /// What went wrong, and what to do about it.
    pub async fn ask(&self, cmd: &Cmd) -> Result<Value, Trouble> {
        self.within(Ask::One(cmd), COMMAND, TIMEOUTS).await
    }

    /// One command that may take a while, on a link of its own. Without an answer in time the connection is left, as
    /// nothing else could be asked of it.
    pub(super) async fn wait(&self, cmd: &Cmd, limit: Duration) -> Result<Value, Trouble> {
        self.within(Ask::One(cmd), limit, 1).await
    }

    /// Several commands in one go; each has its own answer.
    pub(super) async fn ask_all(&self, commands: &[Cmd]) -> Result<Vec<Result<Value, Trouble>>, Trouble> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = Pipeline::with_capacity(commands.len());
        for cmd in commands {
            pipeline.add_command(cmd.clone());
        }
        let Value::Array(answers) = self.within(Ask::Many(&pipeline), COMMAND, TIMEOUTS).await? else {
            return Err(Trouble::new(Cause::Other, "several commands were answered with one answer"));
        };
        let mut results: Vec<Result<Value, Trouble>> = answers.into_iter().map(plain).collect();
        for trouble in results.iter().filter_map(|result| result.as_ref().err()) {
            self.judge(trouble).await;
        }
        // Fewer answers than questions cannot be, and must not be taken for success.
        results.resize_with(commands.len(), || Err(Trouble::new(Cause::Other, "a command was not answered")));
        Ok(results)
    }

    /// How long to wait before it is of use to ask again.
    pub(super) async fn pause(&self) -> Duration {
        let state = self.0.state.lock().await;
        let left = state.retry_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
        left.max(PAUSE_MIN)
    }

    async fn within(&self, ask: Ask<'_>, limit: Duration, timeouts: u32) -> Result<Value, Trouble> {
        let begun = Instant::now();
        let writes = ask.writes();
        // A connection that broke while it was idle is found out by the next command only: that one is tried again.
        for attempt in 0..2 {
            let left = limit.saturating_sub(begun.elapsed());
            let (mut connection, serial) = match timeout(left, self.connected()).await {
                Ok(Ok(connected)) => connected,
                Ok(Err(trouble)) => return Err(trouble),
                Err(_) => return Err(Trouble::new(Cause::Timeout, "no connection in time")),
            };
            let left = limit.saturating_sub(begun.elapsed());
            let result = match timeout(left, ask.send(&mut connection)).await {
                Ok(result) => result,
                Err(_) => {
                    let trouble = Trouble::new(Cause::Timeout, format!("no answer within {} s", limit.as_secs()));
                    self.timed_out(serial, timeouts, &trouble).await;
                    return Err(trouble);
                }
            };
            match result {
                Ok(value) => {
                    self.answered(serial, writes).await;
                    return Ok(value);
                }
                Err(trouble) if trouble.cause == Cause::Lost && attempt == 0 => self.leave(serial).await,
                Err(trouble) => {
                    self.failed(serial, &trouble).await;
                    return Err(trouble);
                }
            }
        }
        unreachable!("the second attempt returns")
    }

    /// The connection, made if there is none and it is time to.
    async fn connected(&self) -> Result<(MultiplexedConnection, u64), Trouble> {
        let mut state = self.0.state.lock().await;
        if let Some(connection) = &state.connection {
            return Ok((connection.clone(), state.serial));
        }
        if let (Some(at), Some(last)) = (state.retry_at, &state.last)
            && Instant::now() < at
        {
            return Err(last.clone());
        }
        let made = match timeout(CONNECT, self.connect()).await {
            Ok(made) => made,
            Err(_) => Err(Trouble::new(Cause::Timeout, format!("no connection within {} s", CONNECT.as_secs()))),
        };
        match made {
            Ok((connection, facts)) => {
                state.serial += 1;
                (state.timeouts, state.last) = (0, None);
                state.connection = Some(connection.clone());
                self.0.speaker.learn(facts);
                Ok((connection, state.serial))
            }
            Err(mut trouble) => {
                if trouble.cause == Cause::Timeout && self.0.server.is_tls() {
                    // A server without TLS waits for the end of what is a strange command to it.
                    trouble.text.push_str("; if the port is one without TLS, write redis://");
                }
                self.back_off(&mut state, &trouble);
                Err(trouble)
            }
        }
    }

    async fn connect(&self) -> Result<(MultiplexedConnection, Facts), Trouble> {
        let settings = |error: crate::redis_bus::ServerError| Trouble::new(Cause::Settings, error.to_string());
        let client = self.0.server.client().map_err(settings)?;
        // The limits on answers are kept here: the library's own would leave a blocked connection in use.
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(None);
        let connected = client.get_multiplexed_async_connection_with_config(&config).await;
        let mut connection = connected.map_err(|error| greeting(Trouble::of(&error)))?;
        let answer = connection.send_packed_command(&redis::cmd("INFO")).await;
        let answer = answer.map_err(|error| greeting(Trouble::of(&error))).and_then(plain);
        let facts = match answer {
            Ok(answer) => Facts::read(&crate::redis_bus::stream::text(&answer).unwrap_or_default()),
            // A user who may not ask must still be able to work.
            Err(trouble) if trouble.cause == Cause::NotAllowed => Facts::default(),
            Err(trouble) => return Err(trouble),
        };
        facts.check()?;
        Ok((connection, facts))
    }

    fn back_off(&self, state: &mut State, trouble: &Trouble) {
        state.connection = None;
        let pause = PAUSE_MIN.saturating_mul(1 << state.failures.min(8)).min(PAUSE_MAX);
        state.failures += 1;
        state.retry_at = Some(Instant::now() + jitter(pause));
        state.last = Some(trouble.clone());
        state.refuses_writes |= trouble.cause.is_of_writes();
        self.0.speaker.down(self.0.purpose, trouble);
    }

    async fn answered(&self, serial: u64, writes: bool) {
        let mut state = self.0.state.lock().await;
        if state.serial != serial {
            return;
        }
        state.timeouts = 0;
        if state.refuses_writes && !writes {
            return;
        }
        (state.refuses_writes, state.failures, state.retry_at) = (false, 0, None);
        self.0.speaker.up(self.0.purpose);
    }

    async fn timed_out(&self, serial: u64, limit: u32, trouble: &Trouble) {
        let mut state = self.0.state.lock().await;
        if state.serial != serial {
            return;
        }
        state.timeouts += 1;
        if state.timeouts >= limit {
            self.back_off(&mut state, trouble);
        }
    }

    /// The connection is gone; the next one is made at once.
    async fn leave(&self, serial: u64) {
        let mut state = self.0.state.lock().await;
        if state.serial == serial {
            state.connection = None;
        }
    }

    async fn failed(&self, serial: u64, trouble: &Trouble) {
        let mut state = self.0.state.lock().await;
        if state.serial != serial {
            return;
        }
        if trouble.cause.severs() {
            self.back_off(&mut state, trouble);
        } else {
            drop(state);
            self.judge(trouble).await;
        }
    }

    /// Takes note of a trouble that one command met while the connection goes on.
    async fn judge(&self, trouble: &Trouble) {
        if trouble.cause == Cause::NotAllowed || !trouble.cause.is_servers() {
            return;
        }
        let mut state = self.0.state.lock().await;
        if trouble.cause.severs() {
            self.back_off(&mut state, trouble);
            return;
        }
        state.refuses_writes |= trouble.cause.is_of_writes();
        self.0.speaker.down(self.0.purpose, trouble);
    }
}

impl Ask<'_> {
    async fn send(&self, connection: &mut MultiplexedConnection) -> Result<Value, Trouble> {
        match self {
            Self::One(cmd) => plain(connection.send_packed_command(cmd).await.map_err(|error| Trouble::of(&error))?),
            Self::Many(pipeline) => {
                let count = pipeline.len();
                let answers = connection.send_packed_commands(pipeline, 0, count).await;
                answers.map(Value::Array).map_err(|error| Trouble::of(&error))
            }
        }
    }

    fn writes(&self) -> bool {
        const READS: &[&[u8]] = &[b"TIME", b"INFO", b"GET", b"MGET", b"SMEMBERS", b"HGETALL", b"EXISTS"];
        let reads = |cmd: &Cmd| {
            cmd.args_iter().next().is_some_and(|arg| match arg {
                redis::Arg::Simple(name) => READS.contains(&name),
                _ => false,
            })
        };
        match self {
            Self::One(cmd) => !reads(cmd),
            Self::Many(pipeline) => !pipeline.cmd_iter().all(reads),
        }
    }
}

/// An answer, or the error that is in it.
fn plain(value: Value) -> Result<Value, Trouble> {
    match value {
        Value::ServerError(error) => Err(Trouble::of(&error.into())),
        value => Ok(value),
    }
}

/// A connection that breaks at its first words is mostly one side with and one without TLS.
fn greeting(trouble: Trouble) -> Trouble {
    match trouble.cause {
        Cause::Lost => {
            Trouble::new(Cause::Tls, format!("the connection was closed at the first word ({})", trouble.text))
        }
        _ => trouble,
    }
}
