//! What carries words between hosts: Redis, as a carrier that may vanish, forget, lag or lie at any moment.
//!
//! Decides how connections are kept, which keys hold what, and who is believed. The record of the entry and the ledgers of
//! the workers are the truth; whatever Redis loses is told again, and whatever it holds is checked before it is used.
//! Both sides run here: `entry` and `worker`; `docs/redis.md` is the map of the keys. Deliberately absent: decisions about
//! apps (core), keys and signatures (security), and the shapes of records (wire).

pub mod entry;
pub mod worker;

mod alarm;
mod clock;
mod keys;
mod link;
mod random;
mod scripts;
mod server;
mod speech;
mod stream;
mod trouble;

pub use link::{Facts, Health, Link};
pub use server::{Server, ServerError};
pub use trouble::{Cause, Trouble};

use std::time::Duration;

use nbs_core::limits;

use link::Speaker;

/// How long a command may take, the connection included.
const COMMAND: Duration = Duration::from_secs(2);
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(1);
/// How long a reader waits for news in one command.
const BLOCK: Duration = Duration::from_secs(2);
/// How long a lease holds without being renewed, here and at the other end.
const LEASE: Duration = limits::LEASE_LOST;
/// Commands sent in one go.
const BATCH: usize = 64;

/// The two places that messages go through; mostly they are one.
#[derive(Debug, Clone)]
pub struct Servers {
    /// Leases, registrations, usage, heartbeats, the app cache.
    pub cache: Server,
    /// Orders, intents, reports, start locks, the entry's lease.
    pub command: Server,
}

/// The connections of one side.
struct Links {
    command: Link,
    cache: Link,
    /// For reads that wait.
    reader: Link,
}

impl Links {
    fn new(servers: &Servers, role: &'static str) -> Self {
        let speaker = Speaker::new(&servers.command, role);
        let command = Link::new(&servers.command, speaker.clone(), "commands");
        let reader = Link::new(&servers.command, speaker, "reader");
        let cache = match servers.cache == servers.command {
            true => command.clone(),
            false => Link::new(&servers.cache, Speaker::new(&servers.cache, role), "cache"),
        };
        Self { command, cache, reader }
    }
}
