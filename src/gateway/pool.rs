//! Connections to apps, kept for a few seconds for the next request.
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
use nbs_core::name::AppId;
use nbs_core::view::InstanceView;

use super::body::Upload;
use super::stream::Stream;

/// Idle connections kept per app.
const IDLE_MAX: usize = 64;

/// One life of an app at one address. A connection made for one is never used for another.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// Which app.
    pub app: AppId,
    /// Where.
    pub address: Address,
    run: Run,
    pid: Option<u32>,
}

impl Target {
    /// Whether an instance shows this life.
    pub fn is(&self, instance: &InstanceView, address: &Address) -> bool {
        let report = instance.report.as_deref();
        self.address == *address
            && report.is_some_and(|report| report.run == self.run && report.pid == self.pid && report.app == self.app)
    }

    /// The life that an instance shows.
    pub fn of(app: &AppId, instance: &InstanceView, address: &Address) -> Self {
        let report = instance.report.as_deref();
        Self {
            app: app.clone(),
            address: address.clone(),
            run: report.map(|report| report.run).unwrap_or_default(),
            pid: report.and_then(|report| report.pid),
        }
    }
}

/// A connection to an app.
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
        let stream = Stream::connect(&target.address).await?;
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

/// The idle connections of every app.
pub struct Pool {
    lanes: Mutex<HashMap<AppId, Lane>>,
    idle: Duration,
}

struct Lane {
    target: Arc<Target>,
    #[expect(clippy::vec_box, reason = "a link is boxed once and travels so between lanes and bodies")]
    idle: Vec<Box<Link>>,
}

impl Pool {
    /// An empty pool; a connection is dropped after being idle for `idle`.
    pub fn new(idle: Duration) -> Self {
        Self { lanes: Mutex::default(), idle }
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<AppId, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The target that an instance shows, and an idle connection to it if there is one.
    pub fn take(&self, app: &AppId, instance: &InstanceView, address: &Address) -> (Arc<Target>, Option<Box<Link>>) {
        let mut stale = Vec::new();
        let mut lanes = self.lanes();
        let Some(lane) = lanes.get_mut(app) else {
            let target = Arc::new(Target::of(app, instance, address));
            lanes.insert(app.clone(), Lane { target: target.clone(), idle: Vec::new() });
            return (target, None);
        };
        if !lane.target.is(instance, address) {
            lane.target = Arc::new(Target::of(app, instance, address));
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
            link = self.lanes().get_mut(app).and_then(|lane| lane.idle.pop());
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
        if let Some(lane) = self.lanes().get_mut(&link.target.app)
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
        self.lanes().retain(|_, lane| {
            // The longest idle are at the front: the last one put is the first one taken.
            let fresh = lane.idle.iter().position(|link| now.duration_since(link.idle_since) < self.idle);
            old.extend(lane.idle.drain(..fresh.unwrap_or(lane.idle.len())));
            // A lane whose connections are all in use must be there when they come back.
            !lane.idle.is_empty() || Arc::strong_count(&lane.target) > 1
        });
        drop(old);
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.lanes().is_empty()
    }
}
