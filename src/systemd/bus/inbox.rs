//! What systemd told us and the consumer has not taken yet: the latest of each unit, however many signals there were.
//!
//! So a slow consumer costs memory by units and not by signals, and the reader of the connection never waits.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};

use super::super::snapshot::Changed;

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// systemd is reachable (again). What happened before is not told: read every unit that is watched.
    Connected,
    /// systemd is not reachable.
    Disconnected,
    /// Properties of a unit changed; several changes may have become one.
    Changed { unit: String, changed: Changed },
    /// systemd forgot a unit. It may have made a new one of that name since; then changes follow.
    Gone { unit: String },
}

#[derive(Debug, Default)]
struct News {
    gone: bool,
    /// Since it was gone, if it was.
    changed: Changed,
}

#[derive(Debug, Default)]
struct State {
    lost: bool,
    connected: bool,
    news: HashMap<String, News>,
    /// Units with news, those that wait longest first.
    order: VecDeque<String>,
}

/// Between the reader of the connection and the consumer.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    filled: Notify,
}

impl Inbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn connected(&self) {
        self.state().connected = true;
        self.filled.notify_one();
    }

    /// The consumer will read everything anew, so older news are worth nothing.
    pub(super) fn lost(&self) {
        *self.state() = State { lost: true, ..State::default() };
        self.filled.notify_one();
    }

    pub(super) fn changed(&self, unit: &str, changed: Changed) {
        if !changed.is_empty() {
            self.news(unit, |news| news.changed.merge(changed));
        }
    }

    pub(super) fn gone(&self, unit: &str) {
        self.news(unit, |news| *news = News { gone: true, changed: Changed::default() });
    }

    fn news(&self, unit: &str, tell: impl FnOnce(&mut News)) {
        let mut guard = self.state();
        let state = &mut *guard;
        match state.news.get_mut(unit) {
            Some(news) => tell(news),
            None => {
                tell(state.news.entry(unit.into()).or_default());
                state.order.push_back(unit.into());
            }
        }
        drop(guard);
        self.filled.notify_one();
    }

    fn take(&self) -> Option<Event> {
        let mut state = self.state();
        if mem::take(&mut state.lost) {
            return Some(Event::Disconnected);
        }
        if mem::take(&mut state.connected) {
            return Some(Event::Connected);
        }
        let unit = state.order.pop_front()?;
        let news = state.news.get_mut(&unit)?;
        if mem::take(&mut news.gone) {
            if news.changed.is_empty() {
                state.news.remove(&unit);
            } else {
                state.order.push_front(unit.clone());
            }
            return Some(Event::Gone { unit });
        }
        let changed = state.news.remove(&unit)?.changed;
        Some(Event::Changed { unit, changed })
    }

    /// Hands everything to the consumer, for as long as there is one.
    pub(super) async fn forward(&self, events: mpsc::Sender<Event>) {
        // The place comes first, so that what is taken is the latest.
        while let Ok(place) = events.reserve().await {
            let event = loop {
                match self.take() {
                    Some(event) => break event,
                    None => self.filled.notified().await,
                }
            };
            place.send(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(pid: u32) -> Changed {
        Changed { main_pid: Some(pid), ..Changed::default() }
    }

    fn all(inbox: &Inbox) -> Vec<Event> {
        std::iter::from_fn(|| inbox.take()).collect()
    }

    #[test]
    fn a_unit_that_changes_often_is_told_once() {
        let inbox = Inbox::default();
        for number in 1..=1000 {
            inbox.changed("nbs-a", pid(number));
            inbox.changed("nbs-b", Changed { restarts: Some(number), ..Changed::default() });
        }
        inbox.changed("nbs-a", Changed { active: Some("active".into()), ..Changed::default() });
        inbox.changed("nbs-c", Changed::default());
        let a = Changed { active: Some("active".into()), ..pid(1000) };
        let b = Changed { restarts: Some(1000), ..Changed::default() };
        let expected =
            [Event::Changed { unit: "nbs-a".into(), changed: a }, Event::Changed { unit: "nbs-b".into(), changed: b }];
        assert_eq!(all(&inbox), expected);
        assert_eq!(all(&inbox), []);
    }

    #[test]
    fn a_unit_that_went_and_came_back_is_told_in_this_order() {
        let inbox = Inbox::default();
        inbox.changed("nbs-a", pid(1));
        inbox.gone("nbs-a");
        inbox.changed("nbs-a", pid(2));
        inbox.gone("nbs-b");
        let expected = [
            Event::Gone { unit: "nbs-a".into() },
            Event::Changed { unit: "nbs-a".into(), changed: pid(2) },
            Event::Gone { unit: "nbs-b".into() },
        ];
        assert_eq!(all(&inbox), expected);
    }

    #[test]
    fn a_lost_connection_makes_older_news_worthless() {
        let inbox = Inbox::default();
        inbox.changed("nbs-a", pid(1));
        inbox.lost();
        inbox.connected();
        inbox.changed("nbs-b", pid(2));
        let news = Event::Changed { unit: "nbs-b".into(), changed: pid(2) };
        assert_eq!(all(&inbox), [Event::Disconnected, Event::Connected, news]);
        inbox.connected();
        inbox.lost();
        assert_eq!(all(&inbox), [Event::Disconnected]);
    }

    #[tokio::test]
    async fn the_consumer_gets_what_comes_while_it_waits_and_its_end_ends_the_forwarding() {
        let inbox = std::sync::Arc::new(Inbox::default());
        let (events, mut taken) = mpsc::channel(1);
        let forward = tokio::spawn({
            let inbox = std::sync::Arc::clone(&inbox);
            async move { inbox.forward(events).await }
        });
        inbox.connected();
        assert_eq!(taken.recv().await, Some(Event::Connected));
        inbox.gone("nbs-a");
        assert_eq!(taken.recv().await, Some(Event::Gone { unit: "nbs-a".into() }));
        drop(taken);
        inbox.gone("nbs-b");
        forward.await.unwrap();
    }
}
