//! The one place that reads the clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nbs_core::time::{Mono, Now, Wall};

use crate::ports::Clock;

/// The system's clock. Monotonic time counts from the moment this was made.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time begins now (at one hour, so that an age of up to an hour can be expressed).
    pub fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the clock")]
        let origin = Instant::now();
        Self { origin }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

/// Where monotonic time begins.
const START: Duration = Duration::from_secs(3600);

impl Clock for SystemClock {
    fn now(&self) -> Now {
        #[expect(clippy::disallowed_methods, reason = "this is the clock")]
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: Mono(START + self.origin.elapsed()), wall: Wall(wall.as_millis() as u64) }
    }
}
