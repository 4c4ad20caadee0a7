//! The asking loops: until ready, until notified, while alive.
//!
//! While a process starts, it is asked more often than its recipe says: the pause is a quarter of the time waited so far,
//! from 1 ms up to 20 ms, then a tenth of it, until that exceeds the recipe's interval. So an app that is ready after
//! 10 ms is seen within 3 ms, one that takes seconds is seen within a tenth of its time, and the first two seconds cost
//! some fifty questions, at about 0.1 ms of CPU each.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use nbs_core::id::Run;
use nbs_core::launch::{Launch, Question};
use nbs_core::name::AppId;
use nbs_core::observation::{Answer, Fact, Observation};
use tokio::time::{Instant, sleep, timeout};

use super::notify::Hearing;
use super::{exec, http, tcp};
use crate::ask::words;
use crate::ports::{CommandRunner, ObservationSender, Watch};

/// First pause.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// Up to here the pause is a quarter of the time waited.
const QUICK_PAUSE: Duration = Duration::from_millis(20);
/// A recipe's interval of zero would ask without a pause.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// Sends what is found out about one life.
pub(super) struct Teller {
    pub app: AppId,
    pub run: Run,
    pub sender: ObservationSender,
}

impl Teller {
    /// Waits for room; `false` when nobody listens any more.
    pub async fn tell(&self, fact: Fact) -> bool {
        let observation = Observation { app: self.app.clone(), run: self.run, fact };
        Box::pin(self.sender.send(observation)).await.is_ok()
    }
}

/// A question and everything needed to put it.
pub(super) struct Asker {
    launch: Arc<Launch>,
    question: Question,
    timeout: Duration,
    runner: Arc<dyn CommandRunner>,
}

impl Asker {
    pub fn new(watch: Watch, runner: Arc<dyn CommandRunner>) -> Box<Self> {
        Box::new(Self { launch: watch.launch, question: watch.question, timeout: watch.timeout, runner })
    }

    /// One answer, in bounded time. The loops box it, so that they are small while they wait.
    async fn ask(&self) -> Answer {
        let address = self.launch.address.as_ref();
        let limit = self.timeout;
        let answer = match &self.question {
            Question::Started | Question::Notify => return Answer::Ready,
            // The runner keeps the time: it must kill what it started.
            Question::Exec(argv) => return exec::ask(&*self.runner, &self.launch, argv, limit).await,
            Question::Tcp => timeout(limit, tcp::ask(address)).await,
            Question::Http { path, status, expect_body, progress, failed_if } => {
                let wanted = http::Wanted {
                    status: *status,
                    expect_body: expect_body.as_deref(),
                    progress: progress.as_deref(),
                    failed_if: failed_if.as_ref().map(|(path, equals)| (path.as_str(), equals.as_str())),
                };
                timeout(limit, http::ask(address, path, wanted)).await
            }
        };
        answer.unwrap_or_else(|_| Answer::NotYet {
            saw: format!("no answer within {limit:?}"),
            progress: None,
            failed: false,
        })
    }
}

/// Asks until the answer is Ready. `starting`: it was started just now, so it may be ready within a blink.
pub(super) async fn until_ready(asker: Box<Asker>, interval: Duration, starting: bool, to: Teller) {
    let began = Instant::now();
    let interval = interval.max(INTERVAL_MIN);
    let mut last = None;
    loop {
        let answer = Box::pin(asker.ask()).await;
        let ready = answer == Answer::Ready;
        if last.as_ref() != Some(&answer) {
            last = Some(answer.clone());
            if !to.tell(Fact::Readiness(answer)).await {
                return;
            }
        }
        if ready {
            return;
        }
        let pause = if starting { pause_at(began.elapsed()).min(interval) } else { interval };
        sleep(pause).await;
    }
}

/// The pause after so long a wait.
fn pause_at(waited: Duration) -> Duration {
    (waited / 4).min(QUICK_PAUSE).max(waited / 10).max(FIRST_PAUSE)
}

/// Listens until `READY=1` was heard. Ready is told at once, other words at most once per interval: an app may write
/// its status a thousand times a second.
pub(super) async fn until_notified(mut hearing: Hearing, interval: Duration, to: Teller) {
    let mut last = None;
    loop {
        let heard = hearing.now();
        let answer = match heard.ready {
            true => Answer::Ready,
            false => Answer::NotYet { saw: "no READY=1 yet".into(), progress: heard.status, failed: false },
        };
        if last.as_ref() == Some(&answer) {
            if !hearing.changed().await {
                return;
            }
            continue;
        }
        last = Some(answer.clone());
        if !to.tell(Fact::Readiness(answer)).await || heard.ready {
            return;
        }
        // The pause, cut short by READY=1.
        let _ = timeout(interval, hearing.until_ready()).await;
    }
}

/// Asks at every interval, for ever. Tells each failure, and the first success after one.
pub(super) async fn while_alive(asker: Box<Asker>, interval: Duration, to: Teller) {
    if matches!(asker.question, Question::Started | Question::Notify) {
        return;
    }
    let mut failing = false;
    for round in 0u64.. {
        sleep(jittered(interval.max(INTERVAL_MIN), &to.app, round)).await;
        let fact = match Box::pin(asker.ask()).await {
            Answer::Ready if failing => Fact::Liveness(None),
            Answer::Ready => continue,
            Answer::NotYet { saw, .. } => Fact::Liveness(Some(words::tame(&saw, 2 * words::SEEN_MAX))),
        };
        failing = fact != Fact::Liveness(None);
        if !to.tell(fact).await {
            return;
        }
    }
}

/// The interval, give or take up to a tenth: apps that were started together shall not be asked together.
fn jittered(interval: Duration, app: &AppId, round: u64) -> Duration {
    let mut hasher = DefaultHasher::new();
    (app, round).hash(&mut hasher);
    let share = (hasher.finish() % 2_001) as u32;
    interval / 10_000 * (9_000 + share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_a_tenth_and_differs() {
        let interval = Duration::from_secs(30);
        let pauses: Vec<Duration> =
            (0..200).map(|i| jittered(interval, &AppId::parse(&format!("a{}", i / 10)).unwrap(), i % 10)).collect();
        assert!(pauses.iter().all(|p| *p >= interval * 9 / 10 && *p <= interval * 11 / 10));
        let distinct: std::collections::HashSet<_> = pauses.iter().collect();
        assert!(distinct.len() > 150, "{}", distinct.len());
    }
}
