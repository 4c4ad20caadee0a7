//! Restart arithmetic: when the next automatic attempt is due, and when to give up.
//!
//! The delay doubles with every failure in a row, up to a cap. A run that lasted longer than the reset time wipes the
//! slate. More than `burst` failures within `window` and the instance gives up. A delay of zero means at once.
//! Deliberately absent: jitter (one host restarts its own apps; the storm across hosts is the entry's to break).

use std::collections::VecDeque;
use std::time::Duration;

use crate::reason::ExitOutcome;
use crate::time::Mono;

/// When an ended process is started again by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartWhen {
    /// Never.
    Never,
    /// Unless it ended with status 0.
    OnFailure,
    /// Always.
    Always,
}

/// A recipe's restart policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartPolicy {
    /// After which ends.
    pub policy: RestartWhen,
    /// Delay of the first attempt.
    pub delay: Duration,
    /// Cap of the delay.
    pub max_delay: Duration,
    /// Failures within `window` that are borne; one more and it gives up. 0 = gives up at the first.
    pub burst: u32,
    /// Length of the window.
    pub window: Duration,
    /// A run of at least this long is a good one: the delay starts afresh.
    pub reset_after: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            policy: RestartWhen::OnFailure,
            delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(60),
            burst: 5,
            window: Duration::from_secs(300),
            reset_after: Duration::from_secs(60),
        }
    }
}

/// What follows from an end nobody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Start again after this delay.
    After(Duration),
    /// Do not: the policy says so for this kind of end.
    ByPolicy,
    /// Do not: too many failures in the window.
    GiveUp,
}

/// The failures so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestartHistory {
    /// Failures in a row, without a good run between.
    streak: u32,
    /// When the failures of the window were, oldest first; never longer than `burst` + 1.
    recent: VecDeque<Mono>,
}

impl RestartHistory {
    /// Takes note of an end after a run of `lasted`, and says what to do.
    pub fn ended(&mut self, now: Mono, lasted: Duration, failed: bool, policy: &RestartPolicy) -> Restart {
        if !is_wanted(failed, policy) {
            return Restart::ByPolicy;
        }
        if lasted >= policy.reset_after {
            self.streak = 0;
        }
        self.recent.retain(|at| now.since(*at) < policy.window);
        self.recent.push_back(now);
        if self.recent.len() > policy.burst as usize {
            return Restart::GiveUp;
        }
        let delay = delay_of(self.streak, policy);
        self.streak = self.streak.saturating_add(1);
        Restart::After(delay)
    }

    /// Forgets everything: someone asked for a fresh start.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Failures in a row.
    pub fn streak(&self) -> u32 {
        self.streak
    }
}

/// Whether a policy wants another attempt after an end, however many there were.
pub fn is_wanted(failed: bool, policy: &RestartPolicy) -> bool {
    match policy.policy {
        RestartWhen::Never => false,
        RestartWhen::OnFailure => failed,
        RestartWhen::Always => true,
    }
}

/// Whether an end counts as a failure.
pub fn is_failure(outcome: ExitOutcome) -> bool {
    outcome != ExitOutcome::Code(0)
}

fn delay_of(streak: u32, policy: &RestartPolicy) -> Duration {
    let factor = 1u32.checked_shl(streak).unwrap_or(u32::MAX);
    policy.delay.saturating_mul(factor).min(policy.max_delay.max(policy.delay))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RestartPolicy {
        RestartPolicy { burst: 100, ..RestartPolicy::default() }
    }

    #[test]
    fn the_delay_doubles_up_to_its_cap() {
        let mut history = RestartHistory::default();
        let delays: Vec<u64> = (0..8)
            .map(|i| match history.ended(Mono(Duration::from_secs(i)), Duration::ZERO, true, &policy()) {
                Restart::After(delay) => delay.as_secs(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn a_good_run_starts_the_delay_afresh() {
        let mut history = RestartHistory::default();
        for i in 0..5 {
            history.ended(Mono(Duration::from_secs(i)), Duration::ZERO, true, &policy());
        }
        let after = history.ended(Mono(Duration::from_secs(90)), Duration::from_secs(60), true, &policy());
        assert_eq!(after, Restart::After(Duration::from_secs(1)));
    }

    #[test]
    fn more_than_burst_failures_in_the_window_give_up() {
        let policy = RestartPolicy { burst: 2, window: Duration::from_secs(10), ..RestartPolicy::default() };
        let mut history = RestartHistory::default();
        let at = |s| Mono(Duration::from_secs(s));
        assert!(matches!(history.ended(at(0), Duration::ZERO, true, &policy), Restart::After(_)));
        assert!(matches!(history.ended(at(1), Duration::ZERO, true, &policy), Restart::After(_)));
        assert_eq!(history.ended(at(2), Duration::ZERO, true, &policy), Restart::GiveUp);
        assert!(matches!(history.ended(at(30), Duration::ZERO, true, &policy), Restart::After(_)));
    }

    #[test]
    fn the_policy_decides_which_ends_count() {
        let mut history = RestartHistory::default();
        let never = RestartPolicy { policy: RestartWhen::Never, ..policy() };
        let always = RestartPolicy { policy: RestartWhen::Always, ..policy() };
        let now = Mono::default();
        assert_eq!(history.ended(now, Duration::ZERO, true, &never), Restart::ByPolicy);
        assert_eq!(history.ended(now, Duration::ZERO, false, &policy()), Restart::ByPolicy);
        assert!(matches!(history.ended(now, Duration::ZERO, false, &always), Restart::After(_)));
    }

    #[test]
    fn a_delay_of_zero_means_at_once() {
        let policy = RestartPolicy { delay: Duration::ZERO, ..policy() };
        let mut history = RestartHistory::default();
        for _ in 0..40 {
            assert_eq!(history.ended(Mono::default(), Duration::ZERO, true, &policy), Restart::After(Duration::ZERO));
        }
    }
}
