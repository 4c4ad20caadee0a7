//! From HTTP to another protocol: after the app's 101 the gateway only carries bytes, both ways.
//!
//! A tunnel waits for readiness and borrows its thread's buffer when there is something to carry; while it is silent it
//! holds two sockets and nothing else. Each direction ends by itself, so that half-closed protocols work.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use nbs_core::name::{AppId, EnvironmentName};
use nbs_core::phase::Status;
use nbs_core::view::AppView;
use tokio::io::AsyncWrite;

use super::body::{Answer, Upload};
use super::guests::{Guest, Stage, Watched};
use super::headers;
use super::outcome::Failure;
use super::pool::{Target, To};
use super::retry::Missed;
use super::serve::Turn;
use super::stream::Stream;
use super::ways::Load;
use super::{Inner, forward};

/// A granted upgrade: the app's socket, what it sent already, and the promise of the client's socket.
pub struct Granted {
    app: Stream,
    early: Bytes,
    client: OnUpgrade,
    load: Option<Load>,
    guest_of: Option<Lodger>,
}

/// An app of a process with several, and the environment. The process does not end with the app, and what still comes
/// for it would wake it.
type Lodger = Box<(AppId, EnvironmentName)>;

/// Asks the app for an upgrade over a connection of its own. A 101 makes the client's connection a tunnel as soon as the
/// client has it; any other answer is passed on.
///
/// # Errors
/// There is no answer; the failure says why.
pub async fn switch(
    mut turn: Turn,
    to: To<'_>,
    request: Request<Upload>,
    client: &mut Option<OnUpgrade>,
) -> Result<Response<Answer>, Box<Missed>> {
    let target = std::sync::Arc::new(Target::of(to));
    let guest_of = match to {
        To::Here(app, instance, _) if instance.report.as_ref().is_some_and(|report| report.select.is_some()) => {
            Some(Box::new((app.clone(), instance.environment.clone())))
        }
        _ => None,
    };
    let missed = |failure, turn, target| {
        Err(Box::new(Missed { failure, turn, target, again: None, written: true, kept: false }))
    };
    let (response, link, upload_done) = match forward::fresh(&target, request, turn.visit()).await {
        Ok(answered) => answered,
        Err((failure, again)) => {
            let written = matches!(failure, Failure::Closed);
            return Err(Box::new(Missed {
                failure,
                turn,
                target,
                again: again.map(|again| *again),
                written,
                kept: false,
            }));
        }
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(forward::answer(response, link, upload_done, turn));
    }
    let (mut parts, _) = response.into_parts();
    let Some(protocol) = headers::strip_hop_by_hop(&mut parts.headers) else {
        return missed(Failure::Broken("it switched to no protocol"), turn, target);
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    headers::set_upgrade(&mut parts.headers, protocol);
    let limit = turn.visit().gateway.options.connect_timeout;
    let Ok((socket, early)) = tokio::time::timeout(limit, link.into_socket()).await else {
        return missed(Failure::AnswerTimeout, turn, target);
    };
    if let Some(client) = client.take() {
        let load = turn.unload();
        turn.visit().grant(Granted { app: socket, early, client, load, guest_of });
    }
    Ok(Response::from_parts(parts, Answer::Own(None, turn)))
}

/// Carries bytes until both sides have ended, one has failed, or the guest must go.
pub async fn tunnel(granted: Granted, mut guest: Guest, gateway: std::sync::Arc<Inner>) {
    let Ok(upgraded) = granted.client.await else {
        return;
    };
    let Ok(client) = upgraded.downcast::<TokioIo<Watched>>() else {
        return;
    };
    guest.limits().clear();
    let _load = granted.load;
    let mut tunnel = Tunnel {
        up: Direction::new(client.read_buf),
        down: Direction::new(granted.early),
        client: Stream::Tcp(client.io.into_inner().stream),
        app: granted.app,
    };
    let counters = &gateway.counters;
    counters.tunnels.fetch_add(1, Relaxed);
    let carried = poll_fn(|cx| match guest.stage(cx) {
        Stage::Cut => Poll::Ready(()),
        _ => tunnel.poll(cx),
    });
    match &granted.guest_of {
        None => carried.await,
        Some(lodger) => tokio::select! {
            () = carried => {}
            () = Box::pin(has_ended(&gateway, lodger)) => {}
        },
    }
    counters.tunnels.fetch_sub(1, Relaxed);
}

/// Waits until an app is stopped, or is gone.
async fn has_ended(gateway: &Inner, lodger: &Lodger) {
    let (app, environment) = &**lodger;
    let has_ended = |view: Option<&AppView>| {
        let instance = view.and_then(|view| view.instance_in(environment));
        let ends = [Status::Stopping, Status::Stopped, Status::Error, Status::NotFound];
        instance.is_none_or(|instance| ends.contains(&instance.status))
    };
    while !has_ended(gateway.entry.wait_app(app, LOOK, has_ended).await.as_deref()) {}
}

struct Tunnel {
    client: Stream,
    app: Stream,
    up: Direction,
    down: Direction,
}

impl Tunnel {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let up = self.up.poll(&self.client, &mut self.app, cx);
        let down = self.down.poll(&self.app, &mut self.client, cx);
        match (up, down) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(()),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }
}

/// One direction: bytes that were read and did not fit yet, and how far its end has come.
struct Direction {
    rest: Bytes,
    ended: bool,
    closed: bool,
}

/// How long nothing may be heard of an app before it is looked at again.
const LOOK: Duration = Duration::from_secs(600);
/// Pieces carried before others get their turn.
const TURN: usize = 16;
/// Bytes carried at once.
const PIECE: usize = 64 << 10;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; PIECE]);
}

impl Direction {
    fn new(rest: Bytes) -> Self {
        // No bytes may still hold on to the buffer that they would have been in.
        let rest = if rest.is_empty() { Bytes::new() } else { rest };
        Self { rest, ended: false, closed: false }
    }

    fn poll(&mut self, from: &Stream, to: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..TURN {
            if self.closed {
                return Poll::Ready(Ok(()));
            }
            if !self.rest.is_empty() {
                ready!(to.poll_write_ready(cx))?;
                match to.try_write(&self.rest) {
                    Ok(written) => drop(self.rest.split_to(written)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
                if self.rest.is_empty() {
                    self.rest = Bytes::new();
                }
            } else if self.ended {
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.closed = true;
            } else {
                ready!(from.poll_read_ready(cx))?;
                BUFFER.with_borrow_mut(|buffer| self.carry(from, to, buffer))?;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads what is there and writes what fits.
    fn carry(&mut self, from: &Stream, to: &Stream, buffer: &mut [u8]) -> io::Result<()> {
        let read = match from.try_read(buffer) {
            Ok(0) => {
                self.ended = true;
                return Ok(());
            }
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let written = match to.try_write(&buffer[..read]) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if written < read {
            self.rest = Bytes::copy_from_slice(&buffer[written..read]);
        }
        Ok(())
    }
}

/// The promise of the client's socket, taken out of a request that asks for an upgrade.
pub fn promise(request: &mut Request<Incoming>) -> OnUpgrade {
    hyper::upgrade::on(request)
}
