//! The clock of Redis, as estimated here: the one clock that all hosts share.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use nbs_core::time::Mono;
use redis::Value;

use crate::ports::Clock;
use crate::redis_bus::link::Link;
use crate::redis_bus::stream::text;
use crate::redis_bus::trouble::{Cause, Trouble};

/// Reads the clock of Redis without asking it each time.
pub(super) struct RedisClock {
    clock: Arc<dyn Clock>,
    /// Microseconds to be added to the monotonic clock; the lowest number means that it was never asked.
    offset: AtomicI64,
    /// The last number given out.
    last: AtomicU64,
}

impl RedisClock {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, offset: AtomicI64::new(i64::MIN), last: AtomicU64::new(0) }
    }

    /// The monotonic clock of this host.
    pub(super) fn mono(&self) -> Mono {
        self.clock.now().mono
    }

    /// Asks Redis.
    pub(super) async fn measure(&self, link: &Link) -> Result<(), Trouble> {
        let before = self.mono();
        let answer = link.ask(&redis::cmd("TIME")).await?;
        let after = self.mono();
        let parts = match &answer {
            Value::Array(parts) => parts.as_slice(),
            _ => &[],
        };
        let number = |at: usize| parts.get(at).and_then(text).and_then(|text| text.parse::<i64>().ok());
        let (Some(seconds), Some(micros)) = (number(0), number(1)) else {
            return Err(Trouble::new(Cause::Other, "TIME was answered with something else"));
        };
        let middle = (micros_of(before.0) + micros_of(after.0)) / 2;
        let theirs = seconds.saturating_mul(1_000_000).saturating_add(micros);
        self.offset.store(theirs.saturating_sub(middle), Ordering::Relaxed);
        Ok(())
    }

    /// Whether it was ever asked.
    pub(super) fn is_known(&self) -> bool {
        self.offset.load(Ordering::Relaxed) != i64::MIN
    }

    fn micros_at(&self, at: Mono) -> u64 {
        let micros = micros_of(at.0).saturating_add(self.offset.load(Ordering::Relaxed).max(0));
        u64::try_from(micros).unwrap_or(0)
    }

    /// What the clock of Redis showed at a moment, in milliseconds since 1970.
    pub(super) fn at(&self, at: Mono) -> u64 {
        self.micros_at(at) / 1_000
    }

    /// What it shows now.
    pub(super) fn now(&self) -> u64 {
        self.at(self.mono())
    }

    /// How long ago that was by the clock of Redis; zero if it lies ahead.
    pub(super) fn since(&self, ms: u64) -> Duration {
        Duration::from_millis(self.now().saturating_sub(ms))
    }

    /// A number that grows with each call, and over restarts with the clock of Redis.
    pub(super) fn number(&self) -> u64 {
        let now = self.micros_at(self.mono());
        let next = |last: u64| Some(now.max(last.saturating_add(1)));
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or(0);
        now.max(last.saturating_add(1))
    }
}

fn micros_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
