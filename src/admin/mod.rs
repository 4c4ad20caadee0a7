//! The admin API: HTTP over a unix socket (peer credentials) and over TCP (bearer tokens).
//!
//! A request's way: `listen` (who is it) → `guard` (may they, from where, in what time) → `routes` (the table of all
//! there is) → one file per noun → `change` for whatever changes something: one command to the entry, one audit line.
//! `problem` is the one place where an error becomes an HTTP status.
//!
//! `inside` is the same interface for the console, which is a client of it like the command line.
//!
//! Deliberately absent: decisions (the entry's), TLS (a proxy's), sessions (the console's).

mod apps;
mod auth;
mod change;
mod daemon;
mod environments;
mod events;
mod feed;
mod guard;
mod input;
mod inside;
mod listen;
mod local;
mod logs;
mod openapi;
mod operations;
mod page;
mod problem;
mod routes;
mod runtimes;
mod tokens;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use nbs_core::name::{AppId, EnvironmentName};
use nbs_core::order::LocalAction;
use nbs_core::time::{Now, Wall};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::entry::EntryHandle;
use crate::ports::LogReader;
use crate::wire::api::runtime::RecipeProblem;
use crate::wire::api::usage::{AppUsage, Capacity, HostUsage};
use crate::wire::spec::SpecDefaults;
use crate::worker::LocalError;

pub(crate) use auth::{Actor, Peer};
pub(crate) use change::{Subject, audit};
pub(crate) use feed::{Feeder, Format, follow};
pub(crate) use inside::{Badge, Caller, Inside, Refused};
pub use listen::{House, TcpAccess, UnixAccess, serve_tcp, serve_unix};

/// Streams (logs, events) that may be followed at once; each holds a connection, and others must get through.
const FOLLOWERS_MAX: usize = 256;

/// What apps and the host use. Answers at once, from the newest sample.
pub trait UsageSource: Send + Sync + 'static {
    /// What an app's process tree uses in an environment; `None` if it has none or nothing is known of it.
    fn app(&self, environment: &EnvironmentName, app: &AppId) -> Option<AppUsage>;
    /// What an environment's host uses.
    fn host(&self, environment: &EnvironmentName) -> Option<HostUsage>;
    /// What an environment's host has.
    fn capacity(&self, environment: &EnvironmentName) -> Option<Capacity>;
}

/// The recipes on this host.
pub trait RuntimeSource: Send + Sync + 'static {
    /// What is wrong with recipe files.
    fn problems(&self) -> Vec<RecipeProblem>;
    /// Has the recipe files read again if they changed, and the entry told. Called before a create, change or start, so
    /// that a file put there a moment ago counts.
    fn refresh(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// The worker of a daemon that follows an entry: it takes what is asked on its own host, and nothing else.
pub trait LocalHands: Send + Sync + 'static {
    /// Its environment.
    fn environment(&self) -> EnvironmentName;
    /// Where its entry is, for people; none if that is not known.
    fn entry(&self) -> Option<String>;
    /// Passes on what somebody on this host asks, past the entry.
    ///
    /// # Errors
    /// It was not passed on, and nothing was changed.
    fn command(&self, app: &AppId, action: LocalAction, actor: &str) -> Result<(), LocalError>;
}

/// What the daemon says of itself.
#[derive(Debug, Clone)]
pub struct About {
    /// Version.
    pub version: String,
    /// `standalone`, `supervisor` or `worker`.
    pub mode: String,
    /// Since when it runs.
    pub started_at: Wall,
    /// Path of the admin's unix socket.
    pub admin_socket: Option<String>,
    /// The admin's TCP address, as bound.
    pub admin_listen: Option<String>,
    /// Where visitors come in, such as `http://127.0.0.1:13000`.
    pub gateway_url: Option<String>,
}

/// Everything the room needs of others.
pub struct AdminState {
    /// The way to the entry.
    pub entry: EntryHandle,
    /// On a worker that follows an entry: its hands. None where this daemon decides itself.
    pub local: Option<Arc<dyn LocalHands>>,
    /// What apps wrote.
    pub logs: Arc<dyn LogReader>,
    /// What they use.
    pub usage: Arc<dyn UsageSource>,
    /// The recipes.
    pub runtimes: Arc<dyn RuntimeSource>,
    /// What a spec that leaves something out gets.
    pub defaults: SpecDefaults,
    /// The time.
    pub now: Arc<dyn Fn() -> Now + Send + Sync>,
    /// What the daemon says of itself.
    pub about: About,
    /// Set once the daemon is ready; `readyz` tells it.
    pub ready: Arc<AtomicBool>,
    /// Ends listeners, connections and streams.
    pub stop: CancellationToken,
}

/// The room. Cheap to clone.
#[derive(Clone)]
pub struct Admin {
    inner: Arc<Inner>,
}

struct Inner {
    state: AdminState,
    tokens: auth::TokenCache,
    followers: Arc<Semaphore>,
}

impl std::ops::Deref for Admin {
    type Target = AdminState;

    fn deref(&self) -> &AdminState {
        &self.inner.state
    }
}

impl Admin {
    /// Opens the room.
    pub fn new(state: AdminState) -> Self {
        let followers = Arc::new(Semaphore::new(FOLLOWERS_MAX));
        Self { inner: Arc::new(Inner { state, tokens: auth::TokenCache::default(), followers }) }
    }

    /// The routes with their guard, ready to be served. A request needs a peer in its extensions, which `serve_unix` and
    /// `serve_tcp` put there; without one it is refused.
    pub fn router(&self) -> Router {
        routes::router(self)
    }

    fn moment(&self) -> Now {
        (self.now)()
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    fn tokens(&self) -> &auth::TokenCache {
        &self.inner.tokens
    }

    fn followers(&self) -> Arc<Semaphore> {
        self.inner.followers.clone()
    }
}
