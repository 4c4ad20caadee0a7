//! The two bodies of a proxied request: the client's on its way to the app, and the app's on its way to the client.
//!
//! Both are passed on piece by piece as they come; neither is ever held whole.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

use super::guests::Limits;
use super::pool::Link;
use super::serve::Turn;

/// How far a client's body has come.
#[derive(Debug)]
pub struct Progress {
    done: AtomicBool,
    limits: Arc<Limits>,
    pause: Duration,
}

impl Progress {
    /// Whether all of it was passed on.
    pub fn is_done(&self) -> bool {
        self.done.load(SeqCst)
    }
}

/// A client's body.
#[derive(Debug, Default)]
pub enum Upload {
    /// None.
    #[default]
    Empty,
    /// Comes as it comes.
    Streaming(Incoming, Arc<Progress>),
}

impl Upload {
    /// Takes over a client's body; `pause` is the longest wait for its next piece.
    pub fn new(incoming: Incoming, limits: &Arc<Limits>, pause: Duration) -> Self {
        if incoming.is_end_stream() {
            return Self::Empty;
        }
        let progress = Progress { done: AtomicBool::new(false), limits: limits.clone(), pause };
        Self::Streaming(incoming, Arc::new(progress))
    }

    /// Tells how far it has come; `None` if there is none.
    pub fn progress(&self) -> Option<Arc<Progress>> {
        match self {
            Self::Empty => None,
            Self::Streaming(_, progress) => Some(progress.clone()),
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self::Streaming(incoming, progress) = self.get_mut() else {
            return Poll::Ready(None);
        };
        let frame = Pin::new(&mut *incoming).poll_frame(cx);
        match &frame {
            Poll::Ready(Some(Ok(_))) => progress.limits.await_answer(progress.pause),
            Poll::Ready(None) => progress.done.store(true, SeqCst),
            _ => {}
        }
        if incoming.is_end_stream() {
            progress.done.store(true, SeqCst);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming(incoming, _) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming(incoming, _) => incoming.size_hint(),
        }
    }
}

/// What a client gets.
pub enum Answer {
    /// The gateway's own words.
    Own(Option<Bytes>, #[expect(dead_code, reason = "its drop ends the turn")] Turn),
    /// The app's.
    Forwarded(Forwarded),
}

/// An app's body, with the connection that it comes from.
pub struct Forwarded {
    incoming: Incoming,
    /// Driven here; none if the connection has got a task of its own.
    link: Option<Box<Link>>,
    turn: Turn,
    broken: Option<hyper::Error>,
}

impl Forwarded {
    /// Joins a body and its connection.
    pub fn new(incoming: Incoming, link: Option<Box<Link>>, turn: Turn) -> Self {
        Self { incoming, link, turn, broken: None }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let frame = match &mut self.link {
            None => Pin::new(&mut self.incoming).poll_frame(cx),
            Some(link) => {
                link.drive(cx);
                // Whatever the body gets it gets from the line above, so nobody need be woken for it.
                Pin::new(&mut self.incoming).poll_frame(&mut Context::from_waker(Waker::noop()))
            }
        };
        match frame {
            Poll::Ready(Some(Err(error))) => {
                // An error makes the server drop the connection with all that was not written: let it write first.
                self.broken = Some(error);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(None) => self.link.take().into_iter().for_each(|link| self.turn.keep(link)),
            _ => {}
        }
        frame
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        // A body that was not read to its end leaves its connection unusable: dropping it tells the app to stop.
        if let Some(link) = self.link.take()
            && self.incoming.is_end_stream()
        {
            self.turn.keep(link);
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Own(bytes, _) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Forwarded(forwarded) => forwarded.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes, _) => bytes.is_none(),
            Self::Forwarded(forwarded) => forwarded.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes, _) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Forwarded(forwarded) => forwarded.incoming.size_hint(),
        }
    }
}
