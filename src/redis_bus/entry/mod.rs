//! The entry's side: it claims to be the entry, sends orders, and believes what workers prove.
//!
//! Four loops that share no connection state but the standing: `reign` claims and renews, `outbox` sends, `ears` reads
//! reports, `watch` looks at leases and usage and keeps the app cache. Deliberately absent: what to order (core), and
//! whether gateways are reached.

mod ears;
mod outbox;
mod reign;
mod shared;
mod watch;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use nbs_core::id::Reign;
use nbs_core::name::{AppId, EnvironmentName};
use nbs_core::view::AppView;
use tokio::sync::{mpsc, watch as channel};
use tokio_util::sync::CancellationToken;

use crate::ports::{Clock, News, Outgoing};
use crate::redis_bus::{Health, Servers, random};
use crate::security::FleetKey;
use crate::wire::redis::Usage;
use shared::Shared;

/// What the entry says of itself.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where Redis is.
    pub servers: Servers,
    /// Version of the daemon.
    pub version: String,
    /// The host's own name, for people who read that another entry reigns.
    pub address: String,
}

/// What it works with.
pub struct Parts {
    /// The keys.
    pub fleet: FleetKey,
    /// Who this entry is, and its reign, which the record has.
    pub reign: Reign,
    /// The environments that the record knows.
    pub environments: Vec<EnvironmentName>,
    /// What the entry's loop sends.
    pub outgoing: mpsc::Receiver<Outgoing>,
    /// What it hears.
    pub news: mpsc::Sender<News>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// The kernel gives no random numbers, without which an old message could not be told from a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the entry cannot begin: the kernel gives no random numbers")]
pub struct NoRandom;

/// What other rooms have of it. Cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

impl Handle {
    /// How the Redis of orders and reports is.
    pub fn health(&self) -> channel::Receiver<Health> {
        self.0.links.command.health()
    }

    /// How the Redis of leases and usage is; the same where there is one.
    pub fn cache_health(&self) -> channel::Receiver<Health> {
        self.0.links.cache.health()
    }

    /// What an environment's host and apps use; none if that was not heard within the last minute.
    pub fn usage(&self, environment: &EnvironmentName) -> Option<Arc<Usage>> {
        self.0.usage(environment)
    }

    /// Shows an app to people who read Redis; none: it is gone. Written within a second, the newest only.
    pub fn show(&self, app: &AppId, view: Option<&AppView>) {
        self.0.show(app, view);
    }

    /// Takes the reign from another entry. The next claim is made by force, under an epoch above the other's.
    pub fn promote(&self) {
        self.0.promote();
    }

    /// How many records were refused so far: forged, garbage, or of a version to come.
    pub fn refused(&self) -> u64 {
        self.0.alarm.count()
    }
}

/// Makes the entry's side: its handle, and what is to be spawned by the caller.
///
/// # Errors
/// There are no random numbers.
pub fn start(
    options: Options,
    parts: Parts,
    shutdown: CancellationToken,
) -> Result<(Handle, impl Future<Output = ()> + Send), NoRandom> {
    let session = random::session().ok_or(NoRandom)?;
    let Parts { fleet, reign, environments, outgoing, news, clock } = parts;
    let known: BTreeSet<EnvironmentName> = environments.into_iter().collect();
    let shared = Arc::new(Shared::new(options, fleet, reign, session, known, news, clock));
    let handle = Handle(shared.clone());
    let work = async move {
        tokio::join!(
            reign::run(&shared, &shutdown),
            outbox::run(&shared, outgoing, &shutdown),
            ears::run(&shared, &shutdown),
            watch::run(&shared, &shutdown),
        );
    };
    Ok((handle, work))
}
