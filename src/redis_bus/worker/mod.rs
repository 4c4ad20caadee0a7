//! The worker's side: it holds the name of its environment, follows the entry, and tells what it has.
//!
//! Three loops: `tenure` holds the lease and everything that is renewed, `inbox` reads orders, `outbox` tells. Another
//! daemon that holds the name makes them idle; a copy of this host ends them. Deliberately absent: what an order does.

mod inbox;
mod outbox;
mod shared;
mod tenure;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use nbs_core::id::Reign;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::ports::{Clock, News, Word};
use crate::redis_bus::{Health, Servers};
use crate::security::WorkerKey;
use crate::wire::redis::Usage;
use shared::Shared;

/// What the worker says of itself.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where Redis is.
    pub servers: Servers,
    /// Which daemon this is: made of its state directory and its machine.
    pub owner: String,
    /// The host's name and address, for people who read that the environment is taken.
    pub host: String,
    /// Version of the daemon.
    pub version: String,
    /// How often the record for other readers is written.
    pub heartbeat: Duration,
}

/// Gives the figures that are published.
pub trait UsageSource: Send + Sync + 'static {
    /// What host and apps use now; none if nothing is measured. Returns at once. `at_ms` is filled in by whoever asks.
    fn usage(&self) -> Option<Usage>;

    /// Changes when there are new ones.
    fn measured(&self) -> watch::Receiver<u64>;
}

/// What it works with.
pub struct Parts {
    /// The keys.
    pub key: WorkerKey,
    /// The entry whose orders count, as the ledger remembers.
    pub follows: Option<Reign>,
    /// To the worker's loop.
    pub words: mpsc::Sender<Word>,
    /// From it.
    pub reports: mpsc::Receiver<News>,
    /// Figures.
    pub usage: Arc<dyn UsageSource>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// How it stands with the environment's name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Tenure {
    /// Not known yet, or Redis does not answer.
    #[default]
    Open,
    /// This daemon holds it.
    Held {
        /// The lease's fencing number.
        epoch: u64,
    },
    /// Another daemon holds it: this one is idle and asks again with each renewal. The text names the other's host.
    Refused(String),
    /// This host is a copy of another that took the name: the daemon is to end with this reason.
    Cloned(String),
}

/// What other rooms have of it. Cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

impl Handle {
    /// How it stands with the environment's name.
    pub fn tenure(&self) -> watch::Receiver<Tenure> {
        self.0.tenure.subscribe()
    }

    /// How the Redis of orders and reports is.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.0.links.command.health()
    }

    /// How the Redis of leases and usage is; the same where there is one.
    pub fn cache_health(&self) -> watch::Receiver<Health> {
        self.0.links.cache.health()
    }

    /// The entry that is followed, as far as it is known.
    pub fn follows(&self) -> Option<Reign> {
        self.0.followed()
    }

    /// How many records were refused so far: forged, garbage, or of a version to come.
    pub fn refused(&self) -> u64 {
        self.0.alarm.count()
    }
}

/// Makes the worker's side: its handle, and what is to be spawned by the caller. It ends when the daemon does, or when the
/// tenure says `Cloned`.
pub fn start(options: Options, parts: Parts, shutdown: CancellationToken) -> (Handle, impl Future<Output = ()> + Send) {
    let Parts { key, follows, words, reports, usage, clock } = parts;
    let shared = Arc::new(Shared::new(options, key, follows, words, clock));
    let handle = Handle(shared.clone());
    let work = async move {
        let ended = shutdown.child_token();
        tokio::join!(
            async {
                tenure::run(&shared, &*usage, &ended).await;
                ended.cancel();
            },
            inbox::run(&shared, &ended),
            outbox::run(&shared, reports, &ended),
        );
    };
    (handle, work)
}
