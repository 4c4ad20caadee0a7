//! systemd's watchdog, fed by what was seen to work: every part of the daemon that must answer is asked, and only when all
//! have answered in time is it fed. One that hangs is named in the log; systemd then starts the daemon anew.
//!
//! Deliberately absent: which parts there are, and the apps, which live on.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::lifecycle::notify::Watchdog;

/// An answer that is waited for. `false` means that the part has ended.
pub type Answer = Pin<Box<dyn Future<Output = bool> + Send>>;

/// A part of the daemon that must answer.
pub struct Part {
    /// Its name in the log.
    pub name: &'static str,
    /// Asks it once.
    pub ask: Box<dyn Fn() -> Answer + Send + Sync>,
}

/// Asks all parts at once; the names of those that did not answer within `limit`.
pub async fn silent(parts: &[Part], limit: Duration) -> Vec<&'static str> {
    let mut questions = JoinSet::new();
    for part in parts {
        let (name, answer) = (part.name, (part.ask)());
        questions.spawn(async move { (!timeout(limit, answer).await.unwrap_or(false)).then_some(name) });
    }
    let mut silent: Vec<_> = questions.join_all().await.into_iter().flatten().collect();
    silent.sort_unstable();
    silent
}

/// Feeds the watchdog until `end`, as long as all parts answer.
pub async fn watch(watchdog: Watchdog, parts: Vec<Part>, end: CancellationToken) {
    let mut tick = interval(watchdog.interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = tick.tick() => {}
        }
        let silent = silent(&parts, watchdog.interval).await;
        if end.is_cancelled() {
            return;
        }
        match silent.as_slice() {
            [] => _ = watchdog.pet(),
            names => tracing::error!(
                silent = names.join(", "),
                within = ?watchdog.interval,
                "parts of the daemon do not answer; unless they do soon, systemd starts it anew, apps run on"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &'static str, ask: impl Fn() -> Answer + Send + Sync + 'static) -> Part {
        Part { name, ask: Box::new(ask) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_hangs_or_has_ended_is_named_and_the_others_are_not() {
        let parts = [
            part("worker", || Box::pin(std::future::pending())),
            part("entry", || Box::pin(async { true })),
            part("record", || Box::pin(async { false })),
        ];
        assert_eq!(silent(&parts, Duration::from_secs(5)).await, ["record", "worker"]);
        assert_eq!(silent(&parts[1..2], Duration::from_secs(5)).await, Vec::<&str>::new());
        assert_eq!(silent(&[], Duration::from_secs(5)).await, Vec::<&str>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn parts_are_asked_at_the_same_time() {
        let hanging = || part("one", || Box::pin(std::future::pending()));
        let begun = tokio::time::Instant::now();
        assert_eq!(silent(&[hanging(), hanging(), hanging()], Duration::from_secs(5)).await.len(), 3);
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    }
}
