//! The gateway: brings visitors to apps, and to the gateways of other environments.
//!
//! It reads the entry's snapshots and asks it for one thing only, to wake an app; no request waits for the entry's loop.
//! Reading order: `serve` is the story of a request; `listen` and `drain` the life of a connection and of the gateway.
//! Deliberately absent: TLS, caching, compression, rewriting of bodies, and any knowledge of how apps are run.

mod body;
mod choose;
mod drain;
mod forward;
mod guests;
mod headers;
mod hold;
mod hop;
mod listen;
mod memory;
mod outcome;
mod page;
mod pool;
mod reach;
mod retry;
mod serve;
mod stream;
mod upgrade;
mod ways;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use drain::Drained;
pub use hop::{HopKeys, HopReceiver, HopSender, Hops};
use nbs_core::name::AppId;
use nbs_core::network::Network;

use crate::entry::EntryHandle;
use crate::ports::News;
use guests::Guests;
use hold::Holds;
use outcome::{Complaints, Failure};
use pool::Pool;
use ways::Ways;

/// The gateway's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How long a request waits for an app that starts, unless the app says otherwise. 30 s.
    pub hold_timeout: Duration,
    /// Proxies whose forwarding headers and request IDs are believed and continued. None.
    pub trusted_proxies: Vec<Network>,
    /// How long requests under way may take when the gateway ends; then they are cut. 10 s.
    pub drain_timeout: Duration,
    /// How long connecting to an app may take. 5 s; it is on this host.
    pub connect_timeout: Duration,
    /// How long an app may take to begin its answer once it has the request, and a client to send the next piece of its
    /// body. 60 s. The answer's body has no limit.
    pub response_timeout: Duration,
    /// How long a client may take to send a request's head, idle time before it included. 30 s.
    pub header_timeout: Duration,
    /// Bytes of a request's head; more is answered 431. 64 KiB.
    pub header_max: usize,
    /// How long a connection to an app is kept for the next request. 4 s, for Node closes its end after 5.
    pub pool_idle: Duration,
    /// Parts of a `User-Agent`, in any case, by which health checkers and bots are known. They neither wake an app nor
    /// wait for one.
    pub bots: Vec<String>,
    /// The listener stays open when this gateway ends: who knocks after the last was let in waits for the next one. No.
    pub listener_is_kept: bool,
}

/// What health checkers and crawlers call themselves.
const BOTS: &[&str] = &[
    "kube-probe",
    "googlehc",
    "healthcheck",
    "health-check",
    "uptimerobot",
    "pingdom",
    "statuscake",
    "blackbox",
    "prometheus",
    "zabbix",
    "check_http",
    "consul health",
    "googlebot",
    "bingbot",
    "bot/",
    "bot;",
    "crawler",
    "spider",
    "slurp",
];

impl Default for Options {
    fn default() -> Self {
        Self {
            hold_timeout: Duration::from_secs(30),
            trusted_proxies: Vec::new(),
            drain_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
            header_timeout: Duration::from_secs(30),
            header_max: 64 << 10,
            pool_idle: Duration::from_secs(4),
            bots: BOTS.iter().map(ToString::to_string).collect(),
            listener_is_kept: false,
        }
    }
}

/// What goes on, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Connections ever accepted.
    pub connections: u64,
    /// Connections open, tunnels included.
    pub open: u64,
    /// Requests ever begun.
    pub requests: u64,
    /// Requests whose answer has not ended.
    pub in_flight: u64,
    /// Requests that wait for their app.
    pub held: u64,
    /// Tunnels open.
    pub tunnels: u64,
    /// Requests that found their app and got no answer from it.
    pub failures: u64,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    requests: AtomicU64,
    in_flight: AtomicU64,
    tunnels: AtomicU64,
    failures: AtomicU64,
}

/// What all connections share.
struct Inner {
    entry: EntryHandle,
    options: Options,
    guests: Arc<Guests>,
    pool: Pool,
    ways: Ways,
    receiver: Option<HopReceiver>,
    holds: Holds,
    counters: Counters,
    complaints: Complaints,
    /// Differs with each run, so that request IDs do.
    nonce: u64,
    /// When those who are held must be sent away, once the gateway drains.
    drain_end: OnceLock<Instant>,
    /// Cancelled right after that is known.
    leaving: CancellationToken,
}

impl Inner {
    fn is_busy(&self) -> bool {
        self.guests.count() > 0 || !self.pool.is_empty() || !self.complaints.is_empty()
    }

    fn sweep(&self) {
        self.guests.sweep();
        self.pool.sweep();
        self.holds.sweep();
        self.complaints.sweep();
        self.ways.sweep(&self.entry.view());
    }

    fn count_failure(&self, app: &AppId, failure: &Failure) {
        self.counters.failures.fetch_add(1, Relaxed);
        self.complaints.note(app, failure);
    }

    fn drain_end(&self) -> Option<Instant> {
        self.drain_end.get().copied()
    }
}

/// The gateway. Clones are the same gateway, so that it can serve several listeners.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

impl Gateway {
    /// A gateway to the apps of one host, which knows no other.
    pub fn new(entry: EntryHandle, options: Options) -> Self {
        Self::in_fleet(entry, options, Hops::default())
    }

    /// A gateway that sends visitors to other environments, or that believes the one that does.
    pub fn in_fleet(entry: EntryHandle, mut options: Options, hops: Hops) -> Self {
        let nonce = RandomState::new().build_hasher().finish();
        options.bots.iter_mut().for_each(|bot| bot.make_ascii_lowercase());
        let leaving = CancellationToken::new();
        let inner = Inner {
            holds: Holds::new(entry.clone(), leaving.clone()),
            leaving,
            entry,
            guests: Guests::new(),
            pool: Pool::new(options.pool_idle),
            ways: Ways::new(hops.sender, nonce),
            receiver: hops.receiver,
            options,
            counters: Counters::default(),
            complaints: Complaints::default(),
            nonce,
            drain_end: OnceLock::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Serves a listener until `shutdown`, then drains: still accepts, answers with `Connection: close`, and returns when
    /// nobody is connected any more, after `drain_timeout` at the latest. A gateway that was shut down stays so.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) -> Drained {
        listen::watch_peers(&listener);
        listen::accept(&self.inner, &listener, &shutdown).await;
        drain::drain(&self.inner, &listener).await
    }

    /// Asks the gateways of other environments again and again whether they are there, and tells the entry what has changed;
    /// until `shutdown`, or until nobody listens.
    pub async fn watch_proxies(self, news: mpsc::Sender<News>, shutdown: CancellationToken) {
        reach::watch(&self.inner, &news, &shutdown).await;
    }

    /// What goes on now.
    pub fn traffic(&self) -> Traffic {
        let counters = &self.inner.counters;
        Traffic {
            connections: counters.connections.load(Relaxed),
            open: self.inner.guests.count() as u64,
            requests: counters.requests.load(Relaxed),
            in_flight: counters.in_flight.load(Relaxed),
            held: self.inner.holds.total(),
            tunnels: counters.tunnels.load(Relaxed),
            failures: counters.failures.load(Relaxed),
        }
    }
}
