//! Requests that wait for their app: how many, until when, and who wakes it.
//!
//! The first that finds an app asleep wakes it, the rest join. Should the wake get lost, it is repeated as long as
//! somebody waits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use nbs_core::name::AppId;
use nbs_core::view::{AppView, QueueView};

use tokio_util::sync::CancellationToken;

use crate::entry::EntryHandle;

/// How long a wake counts as on its way.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// How old the picture of the start queue may be that waiting pages show.
const QUEUE_AGE: Duration = Duration::from_secs(1);
/// How long a waiting page waits for that picture.
const QUEUE_WAIT: Duration = Duration::from_millis(200);

/// Who waits for which app.
pub struct Holds {
    entry: EntryHandle,
    leaving: CancellationToken,
    apps: Mutex<HashMap<AppId, Held>>,
    total: AtomicU64,
    queue: Mutex<Option<(Instant, Arc<Vec<QueueView>>)>>,
    asking: AtomicBool,
}

#[derive(Default)]
struct Held {
    count: usize,
    asked: Option<Instant>,
}

/// A place among those who wait, given back when dropped.
struct Place<'a> {
    holds: &'a Holds,
    app: &'a AppId,
}

impl Holds {
    /// Nobody waits. When `leaving` is cancelled, those who do ask again until when.
    pub fn new(entry: EntryHandle, leaving: CancellationToken) -> Self {
        Self {
            entry,
            leaving,
            apps: Mutex::default(),
            total: AtomicU64::new(0),
            queue: Mutex::default(),
            asking: AtomicBool::new(false),
        }
    }

    fn apps(&self) -> MutexGuard<'_, HashMap<AppId, Held>> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait for an app.
    pub fn count(&self, app: &AppId) -> usize {
        self.apps().get(app).map_or(0, |held| held.count)
    }

    /// How many wait at all.
    pub fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    /// Wakes an app, unless somebody just did.
    pub fn wake(&self, app: &AppId) {
        let now = Instant::now();
        let mut apps = self.apps();
        let held = apps.entry(app.clone()).or_default();
        if held.asked.is_some_and(|asked| now.duration_since(asked) < ASK_AGAIN) {
            return;
        }
        held.asked = Some(now);
        drop(apps);
        self.entry.wake(app);
    }

    /// Waits until the app serves, will not serve, or it is `until` (asked again and again, for a drain brings it forward).
    /// `waits`: whether an app is still to be waited for, and then whether it must be woken.
    pub async fn wait(
        &self,
        app: &AppId,
        waits: impl Fn(Option<&AppView>) -> Option<bool>,
        until: impl Fn() -> Instant,
    ) -> Ended {
        let Some(_place) = self.place(app) else {
            return Ended::Full;
        };
        loop {
            let left = until().saturating_duration_since(Instant::now());
            let leaving = self.leaving.is_cancelled();
            let view = tokio::select! {
                view = self.entry.wait_app(app, left.min(ASK_AGAIN), |view| waits(view).is_none()) => view,
                () = self.leaving.cancelled(), if !leaving => continue,
            };
            match waits(view.as_deref()) {
                Some(_) if until() <= Instant::now() => return Ended::TimeOver(view),
                Some(true) => self.wake(app),
                Some(false) => {}
                None => return Ended::Moved,
            }
        }
    }

    /// Waits until `done`, or until `until`; the last view. Among those who wait it takes a place, and `None` says that
    /// there was none.
    pub async fn watch(
        &self,
        app: &AppId,
        until: Instant,
        done: impl FnMut(Option<&AppView>) -> bool,
    ) -> Option<Option<Arc<AppView>>> {
        let _place = self.place(app)?;
        Some(self.entry.wait_app(app, until.saturating_duration_since(Instant::now()), done).await)
    }

    fn place<'a>(&'a self, app: &'a AppId) -> Option<Place<'a>> {
        let mut apps = self.apps();
        let held = apps.entry(app.clone()).or_default();
        if held.count >= nbs_core::limits::HELD_PER_APP_MAX {
            return None;
        }
        held.count += 1;
        drop(apps);
        self.total.fetch_add(1, Relaxed);
        Some(Place { holds: self, app })
    }

    /// An app's place in the start queue and the queue's length, as far as they can be told at once.
    pub async fn place_in_queue(&self, app: &AppId) -> Option<(usize, usize)> {
        let seen = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let fresh = seen.as_ref().is_some_and(|(at, _)| at.elapsed() < QUEUE_AGE);
        // One visitor asks for all: pages that ask again and again must not crowd the entry's desk.
        let queue = if !fresh && !self.asking.swap(true, Relaxed) {
            let asking = Asking(&self.asking);
            let queue = tokio::time::timeout(QUEUE_WAIT, self.entry.queue()).await.map(Arc::new).ok();
            if let Some(queue) = &queue {
                let now = (Instant::now(), queue.clone());
                *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
            }
            drop(asking);
            queue.or(seen.map(|(_, queue)| queue))
        } else {
            seen.map(|(_, queue)| queue)
        }?;
        queue.iter().find(|place| place.app == *app).map(|place| (place.position, queue.len()))
    }

    /// Forgets apps that nobody waits for.
    pub fn sweep(&self) {
        let recent = |held: &Held| held.asked.is_some_and(|asked| asked.elapsed() < ASK_AGAIN);
        self.apps().retain(|_, held| held.count > 0 || recent(held));
    }
}

/// How a wait ended.
pub enum Ended {
    /// Too many wait already.
    Full,
    /// The app waits no longer: decide again.
    Moved,
    /// The time was over; the last view.
    TimeOver(Option<Arc<AppView>>),
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.holds.total.fetch_sub(1, Relaxed);
        if let Some(held) = self.holds.apps().get_mut(self.app) {
            held.count = held.count.saturating_sub(1);
        }
    }
}

/// Says that nobody asks any more, also when the asking visitor went away.
struct Asking<'a>(&'a AtomicBool);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}
