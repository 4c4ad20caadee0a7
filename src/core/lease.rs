//! Whether an environment is there: what a sign of life proves, and for how long.
//!
//! An environment is lost when it was not heard for `LEASE_LOST`, by the clock of the one who listens. Time in which the
//! listener itself could hear nothing (no Redis, or it has just begun) proves nothing and is not counted; what is shown
//! meanwhile is that nothing is known. Time in which the listener stood still is none at all. Deliberately absent: who may hold the name (the worker's lease in Redis).

use std::time::Duration;

use crate::limits::LEASE_LOST;
use crate::time::Mono;
use crate::view::Presence;

/// What is known of one environment's presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    proof: Option<Mono>,
    /// Silence before this moment proves nothing.
    grace: Mono,
}

impl Lease {
    /// Known by name, not heard yet.
    pub fn awaited(now: Mono) -> Self {
        Self { proof: None, grace: now.after(LEASE_LOST) }
    }

    /// It was heard.
    pub fn hear(&mut self, now: Mono) {
        self.proof = Some(now);
    }

    /// Whether it was heard since the listener began.
    pub fn was_heard(&self) -> bool {
        self.proof.is_some()
    }

    /// The listener can hear again, after a time in which it could not.
    pub fn listen(&mut self, now: Mono, deaf: bool) {
        if deaf && self.presence(now, true) != Presence::Silent {
            self.grace = now.after(LEASE_LOST);
        }
    }

    /// The listener stood still for so long: its process was stopped, or its host was.
    pub fn skip(&mut self, gap: Duration) {
        self.proof = self.proof.map(|proof| proof.after(gap));
        self.grace = self.grace.after(gap);
    }

    /// Whether it is there. `deaf`: the listener hears nothing at present.
    pub fn presence(&self, now: Mono, deaf: bool) -> Presence {
        match self.proof {
            Some(proof) if now.since(proof) <= LEASE_LOST => Presence::Available,
            None if deaf || now < self.grace => Presence::Awaited,
            Some(_) if deaf || now < self.grace => Presence::Unheard,
            _ => Presence::Silent,
        }
    }

    /// When its presence may change by time alone.
    pub fn next_change(&self, now: Mono) -> Option<Mono> {
        let end = self.proof.map(|proof| proof.after(LEASE_LOST + Duration::from_millis(1)));
        [end, Some(self.grace)].into_iter().flatten().filter(|at| *at > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    #[test]
    fn silence_counts_only_while_somebody_listens() {
        let mut lease = Lease::awaited(at(0));
        assert_eq!(lease.presence(at(5), false), Presence::Awaited);
        assert_eq!(lease.presence(at(14), false), Presence::Silent);
        lease.hear(at(20));
        assert_eq!(lease.presence(at(33), false), Presence::Available);
        assert_eq!(lease.presence(at(34), false), Presence::Silent);
        assert_eq!(lease.presence(at(34), true), Presence::Unheard);
        lease.hear(at(40));
        // Deaf from 42 to 100.
        assert_eq!(lease.presence(at(60), true), Presence::Unheard);
        lease.listen(at(100), true);
        assert_eq!(lease.presence(at(101), false), Presence::Unheard, "it has a whole lease to be heard again");
        assert_eq!(lease.next_change(at(101)), Some(at(113)));
        assert_eq!(lease.presence(at(113), false), Presence::Silent);
    }

    #[test]
    fn an_outage_of_the_listener_does_not_excuse_who_was_silent_before() {
        let mut lease = Lease::awaited(at(0));
        lease.hear(at(1));
        assert_eq!(lease.presence(at(20), false), Presence::Silent);
        lease.listen(at(30), false);
        assert_eq!(lease.presence(at(30), false), Presence::Silent);
    }

    #[test]
    fn time_in_which_the_listener_stood_still_is_no_silence() {
        let (mut heard, mut silent) = (Lease::awaited(at(0)), Lease::awaited(at(0)));
        heard.hear(at(10));
        silent.hear(at(1));
        // Stopped from 15 to 35.
        heard.skip(Duration::from_secs(20));
        silent.skip(Duration::from_secs(20));
        assert_eq!(heard.presence(at(35), false), Presence::Available);
        assert_eq!(heard.presence(at(43), false), Presence::Available);
        assert_eq!(heard.presence(at(44), false), Presence::Silent, "13 s of a listener that listens");
        assert_eq!(silent.presence(at(35), false), Presence::Silent, "who was silent before is so still");
    }

    proptest! {
        /// Whatever is heard and whenever the listener is deaf: what was heard in time is there, and only that; nobody is
        /// called silent while the listener hears nothing, or before it has listened for a whole lease.
        #[test]
        fn presence_follows_what_was_heard(steps in prop::collection::vec((0u8..4, 0u64..9), 1..120)) {
            let mut lease = Lease::awaited(at(0));
            let (mut time, mut heard, mut listens_since, mut deaf) = (0, None, 0, false);
            for (what, pause) in steps {
                time += pause;
                match what {
                    0 if !deaf => {
                        lease.hear(at(time));
                        heard = Some(time);
                    }
                    1 => deaf = true,
                    2 => {
                        if deaf {
                            listens_since = time;
                        }
                        lease.listen(at(time), deaf);
                        deaf = false;
                    }
                    _ => {}
                }
                let presence = lease.presence(at(time), deaf);
                let fresh = heard.is_some_and(|heard| time - heard <= LEASE_LOST.as_secs());
                prop_assert_eq!(presence == Presence::Available, fresh);
                prop_assert!(presence != Presence::Silent || !deaf);
                prop_assert!(presence != Presence::Awaited || heard.is_none());
                let listened = !deaf && time - listens_since >= LEASE_LOST.as_secs();
                prop_assert!(fresh || !listened || presence == Presence::Silent, "{:?}", presence);
                if let Some(change) = lease.next_change(at(time)) {
                    prop_assert!(change > at(time));
                    let before = Mono(change.0 - Duration::from_millis(1));
                    prop_assert_eq!(lease.presence(before, deaf), presence, "nothing changes before it says so");
                }
            }
        }
    }
}
