//! Connections to apps, and to gateways of other environments, kept for a few seconds for the next request.
//!
//! A connection has no task of its own: whoever uses it drives it, so that a request crosses from client to app and back
//! within one task. While it is idle nobody drives it; whoever takes it looks first whether it was closed meanwhile.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use hyper::body::Bytes;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use nbs_core::id::Run;
use nbs_core::launch::Address;
use nbs_core::name::{AppId, EnvironmentName};
use nbs_core::view::InstanceView;

use super::body::Upload;
use super::stream::Stream;
use super::ways::Way;

/// Idle connections kept per app, and per environment.
const IDLE_MAX: usize = 64;

/// Where a request goes.
#[derive(Clone, Copy)]
pub enum To<'a> {
    /// To an app of this host.
    Here(&'a AppId, &'a InstanceView, &'a Address),
    /// To the gateway of another environment.
    There(&'a Arc<Way>),
}

/// What a connection was made for; it is never used for anything else.
#[derive(Debug)]
pub enum Target {
    /// One life of an app at one address.
    Here(Life),
    /// Another gateway at one address.
    There(Arc<Way>),
}

/// One life of an app at one address.
#[derive(Debug, PartialEq, Eq)]
pub struct Life {
    app: AppId,
    address: Address,
    run: Run,
    pid: Option<u32>,
}

impl Target {
    /// What a request goes to.
    pub fn of(to: To<'_>) -> Self {
        match to {
            To::There(way) => Self::There(way.clone()),
            To::Here(app, instance, address) => {
                let report = instance.report.as_deref();
                Self::Here(Life {
                    app: app.clone(),
                    address: address.clone(),
                    run: report.map(|report| report.run).unwrap_or_default(),
                    pid: report.and_then(|report| report.pid),
                })
            }
        }
    }

    /// Whether an instance of this host shows this life.
    pub fn is(&self, instance: &InstanceView, address: &Address) -> bool {
        let (Self::Here(life), Some(report)) = (self, instance.report.as_deref()) else { return false };
        life.address == *address && report.run == life.run && report.pid == life.pid && report.app == life.app
    }

    fn fits(&self, to: To<'_>) -> bool {
        match (self, to) {
            (Self::Here(_), To::Here(_, instance, address)) => self.is(instance, address),
            (Self::There(own), To::There(way)) => Arc::ptr_eq(own, way),
            _ => false,
        }
    }

    async fn connect(&self) -> io::Result<Stream> {
        match self {
            Self::Here(life) => Stream::connect(&life.address).await,
            Self::There(way) => Stream::reach(&way.endpoint).await,
        }
    }
}

/// A connection.
pub struct Link {
    /// What it was made for.
    pub target: Arc<Target>,
    /// Gives it requests.
    pub sender: SendRequest<Upload>,
    connection: Connection<TokioIo<Stream>, Upload>,
    ended: bool,
    idle_since: Instant,
}

impl Link {
    /// Connects; the caller sets the time limit.
    pub async fn open(target: &Arc<Target>) -> io::Result<Box<Self>> {
        let stream = target.connect().await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        Ok(Box::new(Self { target: target.clone(), sender, connection, ended: false, idle_since: Instant::now() }))
    }

    /// Lets it read and write. Says whether it has come to its end.
    pub fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        // Its errors reach whoever waits for the answer or its body.
        self.ended = self.ended || matches!(self.connection.poll_without_shutdown(cx), Poll::Ready(_));
        self.ended
    }

    /// Drives it to its end, in a task of its own.
    pub async fn finish(mut self: Box<Self>) {
        std::future::poll_fn(|cx| if self.drive(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// The socket and what was read from it beyond the answer, once the connection has ended in an upgrade.
    pub async fn into_socket(mut self: Box<Self>) -> (Stream, Bytes) {
        std::future::poll_fn(|cx| if self.drive(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
        let parts = self.connection.into_parts();
        (parts.io.into_inner(), parts.read_buf)
    }

    fn is_usable(&mut self) -> bool {
        !self.drive(&mut Context::from_waker(Waker::noop())) && self.sender.is_ready()
    }
}

/// The idle connections of every app and to every environment.
pub struct Pool {
    lanes: Mutex<Lanes>,
    idle: Duration,
}

#[derive(Default)]
struct Lanes {
    apps: HashMap<AppId, Lane>,
    environments: HashMap<EnvironmentName, Lane>,
}

struct Lane {
    target: Arc<Target>,
    #[expect(clippy::vec_box, reason = "a link is boxed once and travels so between lanes and bodies")]
    idle: Vec<Box<Link>>,
}

impl Lanes {
    fn to(&mut self, to: To<'_>) -> Option<&mut Lane> {
        match to {
            To::Here(app, ..) => self.apps.get_mut(app),
            To::There(way) => self.environments.get_mut(&way.environment),
        }
    }

    fn of(&mut self, target: &Target) -> Option<&mut Lane> {
        match target {
            Target::Here(life) => self.apps.get_mut(&life.app),
            Target::There(way) => self.environments.get_mut(&way.environment),
        }
    }

    fn open(&mut self, to: To<'_>) -> Arc<Target> {
        let target = Arc::new(Target::of(to));
        let lane = Lane { target: target.clone(), idle: Vec::new() };
        match to {
            To::Here(app, ..) => _ = self.apps.insert(app.clone(), lane),
            To::There(way) => _ = self.environments.insert(way.environment.clone(), lane),
        }
        target
    }
}

impl Lane {
    /// Gives up what was idle for too long. Says whether the lane is still of use.
    fn sweep(&mut self, now: Instant, idle: Duration, old: &mut Vec<Box<Link>>) -> bool {
        // The longest idle are at the front: the last one put is the first one taken.
        let fresh = self.idle.iter().position(|link| now.duration_since(link.idle_since) < idle);
        old.extend(self.idle.drain(..fresh.unwrap_or(self.idle.len())));
        // A lane whose connections are all in use must be there when they come back.
        !self.idle.is_empty() || Arc::strong_count(&self.target) > 1
    }
}

impl Pool {
    /// An empty pool; a connection is dropped after being idle for `idle`.
    pub fn new(idle: Duration) -> Self {
        Self { lanes: Mutex::default(), idle }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The target of a request, and an idle connection to it if there is one.
    pub fn take(&self, to: To<'_>) -> (Arc<Target>, Option<Box<Link>>) {
        let mut stale = Vec::new();
        let mut lanes = self.lanes();
        let Some(lane) = lanes.to(to) else {
            return (lanes.open(to), None);
        };
        if !lane.target.fits(to) {
            lane.target = Arc::new(Target::of(to));
            stale.append(&mut lane.idle);
        }
        let target = lane.target.clone();
        let mut link = lane.idle.pop();
        drop(lanes);
        drop(stale);
        while let Some(mut found) = link {
            if found.is_usable() {
                return (target, Some(found));
            }
            link = self.lanes().to(to).and_then(|lane| lane.idle.pop());
            drop(found);
        }
        (target, None)
    }

    /// Keeps a connection for the next request.
    pub fn put(&self, mut link: Box<Link>) {
        if link.ended {
            return;
        }
        link.idle_since = Instant::now();
        if let Some(lane) = self.lanes().of(&link.target)
            && Arc::ptr_eq(&lane.target, &link.target)
            && lane.idle.len() < IDLE_MAX
        {
            lane.idle.push(link);
        }
    }

    /// Drops what was idle for too long.
    pub fn sweep(&self) {
        let now = Instant::now();
        let mut old = Vec::new();
        let mut lanes = self.lanes();
        lanes.apps.retain(|_, lane| lane.sweep(now, self.idle, &mut old));
        lanes.environments.retain(|_, lane| lane.sweep(now, self.idle, &mut old));
        drop(lanes);
        drop(old);
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        let lanes = self.lanes();
        lanes.apps.is_empty() && lanes.environments.is_empty()
    }
}
