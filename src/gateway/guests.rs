//! Everyone who is connected: so that they can be told to leave, and so that nobody stalls for ever.
//!
//! A timer per request would cost more than the rest of the bookkeeping. Instead each connection has a few cells with
//! the tick at which it must have got further, and one sweep per tick wakes those that have not. A connection is entered
//! and struck out under a lock; a request takes none.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How finely time limits on open connections are kept.
pub const TICK: Duration = Duration::from_millis(250);
const NEVER: u32 = u32::MAX;

/// What the gateway wants of its guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Nothing.
    Serving,
    /// To leave after the next answer.
    Draining,
    /// To leave after the present request, at once if there is none.
    Closing,
    /// To leave now.
    Cut,
}

/// The list of guests.
#[derive(Debug)]
pub struct Guests {
    born: Instant,
    tick: AtomicU32,
    stage: AtomicU8,
    next: AtomicU64,
    list: Mutex<HashMap<u64, Entry>>,
    left: Notify,
}

#[derive(Debug)]
struct Entry {
    waker: Option<Waker>,
    limits: Arc<Limits>,
}

/// By which tick a connection must have got further. `NEVER`: nothing is due.
#[derive(Debug)]
pub struct Limits {
    guests: Arc<Guests>,
    head: AtomicU32,
    answer: AtomicU32,
    write: AtomicU32,
    wrote: AtomicU32,
}

/// A place on the list, given back when dropped.
#[derive(Debug)]
pub struct Guest {
    limits: Arc<Limits>,
    id: u64,
    waker: Option<Waker>,
}

impl Guests {
    /// An empty house.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            born: Instant::now(),
            tick: AtomicU32::new(0),
            stage: AtomicU8::new(Stage::Serving as u8),
            next: AtomicU64::new(1),
            list: Mutex::default(),
            left: Notify::new(),
        })
    }

    fn list(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a connection.
    pub fn enter(self: &Arc<Self>) -> Guest {
        self.advance();
        let never = || AtomicU32::new(NEVER);
        let limits =
            Limits { guests: self.clone(), head: never(), answer: never(), write: never(), wrote: AtomicU32::new(0) };
        let limits = Arc::new(limits);
        let id = self.next.fetch_add(1, Relaxed);
        self.list().insert(id, Entry { waker: None, limits: limits.clone() });
        Guest { limits, id, waker: None }
    }

    /// How many are connected.
    pub fn count(&self) -> usize {
        self.list().len()
    }

    /// What the next one to come is numbered by.
    pub fn next(&self) -> u64 {
        self.next.load(Relaxed)
    }

    /// How many are there who came before that number was the next.
    pub fn count_before(&self, number: u64) -> usize {
        self.list().keys().filter(|id| **id < number).count()
    }

    /// Resolves when somebody may have left.
    pub fn someone_left(&self) -> tokio::sync::futures::Notified<'_> {
        self.left.notified()
    }

    /// What is wanted now.
    pub fn stage(&self) -> Stage {
        match self.stage.load(SeqCst) {
            0 => Stage::Serving,
            1 => Stage::Draining,
            2 => Stage::Closing,
            _ => Stage::Cut,
        }
    }

    /// Wants something else from now on, and tells everyone.
    pub fn announce(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, SeqCst);
        let wakers: Vec<Waker> = self.list().values().filter_map(|entry| entry.waker.clone()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    fn advance(&self) -> u32 {
        let tick = (self.born.elapsed().as_millis() / TICK.as_millis()) as u32;
        self.tick.store(tick, Relaxed);
        tick
    }

    /// Wakes whoever should have got further by now.
    pub fn sweep(&self) {
        let tick = self.advance();
        let late = |entry: &&Entry| entry.limits.next() <= tick;
        let wakers: Vec<Waker> = self.list().values().filter(late).filter_map(|entry| entry.waker.clone()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    fn after(&self, time: Duration) -> u32 {
        let ticks = time.as_millis().div_ceil(TICK.as_millis()) as u32;
        self.tick.load(Relaxed).saturating_add(ticks).saturating_add(1).min(NEVER - 1)
    }
}

impl Limits {
    fn next(&self) -> u32 {
        self.head.load(Relaxed).min(self.answer.load(Relaxed)).min(self.write.load(Relaxed))
    }

    fn over(&self, cell: &AtomicU32) -> bool {
        let due = cell.load(Relaxed);
        due != NEVER && due <= self.guests.tick.load(Relaxed)
    }

    /// The next request's head is due after `time`.
    pub fn await_head(&self, time: Duration) {
        self.head.store(self.guests.after(time), Relaxed);
    }

    /// A head has arrived.
    pub fn head_arrived(&self) {
        self.head.store(NEVER, Relaxed);
    }

    /// Whether no head came in time. The time runs from the last byte that the client took, for the end of an answer may
    /// still be on its way when the gateway is through with it.
    pub fn head_is_late(&self, time: Duration) -> bool {
        if !self.over(&self.head) {
            return false;
        }
        let ticks = time.as_millis().div_ceil(TICK.as_millis()) as u32;
        let due = self.wrote.load(Relaxed).saturating_add(ticks).saturating_add(1);
        if due > self.guests.tick.load(Relaxed) && self.wrote.load(Relaxed) > 0 {
            self.head.store(due, Relaxed);
            return false;
        }
        true
    }

    /// The app's answer (or a further piece of the client's body) is due after `time`.
    pub fn await_answer(&self, time: Duration) {
        self.answer.store(self.guests.after(time), Relaxed);
    }

    /// The app has answered.
    pub fn answered(&self) {
        self.answer.store(NEVER, Relaxed);
    }

    /// Whether no answer came in time.
    pub fn answer_is_late(&self) -> bool {
        self.over(&self.answer)
    }

    /// Whether the client has not taken a byte for too long.
    pub fn write_is_stuck(&self) -> bool {
        self.over(&self.write)
    }

    /// Nothing is due: a tunnel may be silent for ever.
    pub fn clear(&self) {
        for cell in [&self.head, &self.answer, &self.write] {
            cell.store(NEVER, Relaxed);
        }
    }
}

impl Guest {
    /// This connection's limits.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// What is wanted of this guest, who is woken when that changes.
    pub fn stage(&mut self, cx: &Context<'_>) -> Stage {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
            if let Some(entry) = self.limits.guests.list().get_mut(&self.id) {
                entry.waker = self.waker.clone();
            }
        }
        self.limits.guests.stage()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let guests = &self.limits.guests;
        let entry = guests.list().remove(&self.id);
        drop(entry);
        guests.left.notify_waiters();
    }
}

/// How long a client may take no byte while there are some for it.
const WRITE_STALL: Duration = Duration::from_secs(60);

/// A client's socket that notes its progress.
#[derive(Debug)]
pub struct Watched {
    /// The socket.
    pub stream: TcpStream,
    limits: Arc<Limits>,
}

impl Watched {
    /// Watches a socket.
    pub fn new(stream: TcpStream, limits: Arc<Limits>) -> Self {
        Self { stream, limits }
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_pending() {
            if self.limits.write.load(Relaxed) == NEVER {
                self.limits.write.store(self.limits.guests.after(WRITE_STALL), Relaxed);
            }
        } else {
            self.limits.wrote.store(self.limits.guests.tick.load(Relaxed), Relaxed);
            self.limits.write.store(NEVER, Relaxed);
        }
        written
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
