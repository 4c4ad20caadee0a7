//! Random numbers: sessions, and the jitter of pauses.

use std::time::Duration;

use crate::wire::envelope::Session;

/// A session that nobody had before. Without random numbers of the kernel there is none, and so no entry.
pub(super) fn session() -> Option<Session> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(Session(u128::from_be_bytes(bytes) | 1))
}

/// Between three quarters of a pause and the whole of it, so that a fleet does not come back in step.
pub(super) fn jitter(pause: Duration) -> Duration {
    let mut byte = [0; 1];
    // Without random numbers there is no jitter, which is no reason not to pause.
    let part = getrandom::fill(&mut byte).map_or(0, |()| u32::from(byte[0]));
    pause - pause * part / (4 * 256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_with_jitter_is_shorter_by_a_quarter_at_most() {
        for _ in 0..1_000 {
            let pause = jitter(Duration::from_millis(400));
            assert!((300..=400).contains(&pause.as_millis()), "{pause:?}");
        }
    }

    #[test]
    fn no_two_sessions_are_the_same_and_none_is_the_unknown_one() {
        assert!(session() != session() && session() != Some(Session::NONE));
    }
}
