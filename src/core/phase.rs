//! Rich inside, few outside: the inner phase of an instance and the public status, joined by one table.

use std::fmt;

/// What users see. The names are NocoBase's, part of the public contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Does not run and should not.
    Stopped,
    /// Waits for its turn to start.
    Queued,
    /// Database and prepare hooks.
    Preparing,
    /// The process is started, not ready; or waits for its next automatic attempt.
    Initializing,
    /// Ready, not yet routed.
    Initialized,
    /// Ready and routed.
    Running,
    /// Upgrade or another maintenance command.
    Commanding,
    /// Is being stopped.
    Stopping,
    /// Gave up; reason and last log lines attached.
    Error,
    /// Its environment is silent.
    Unknown,
    /// No such app.
    NotFound,
}

impl Status {
    /// Every status, in the order of the lexicon.
    pub const ALL: &'static [Status] = &[
        Self::Stopped,
        Self::Queued,
        Self::Preparing,
        Self::Initializing,
        Self::Initialized,
        Self::Running,
        Self::Commanding,
        Self::Stopping,
        Self::Error,
        Self::Unknown,
        Self::NotFound,
    ];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Queued => "queued",
            Self::Preparing => "preparing",
            Self::Initializing => "initializing",
            Self::Initialized => "initialized",
            Self::Running => "running",
            Self::Commanding => "commanding",
            Self::Stopping => "stopping",
            Self::Error => "error",
            Self::Unknown => "unknown",
            Self::NotFound => "not_found",
        }
    }

    /// Reads the word on the wire.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|status| status.as_str() == text)
    }

    /// An app's own status from those of its instances: what most needs attention or is furthest from done wins.
    pub fn summary(instances: impl IntoIterator<Item = Status>) -> Status {
        const ORDER: &[Status] = &[
            Status::Error,
            Status::Unknown,
            Status::Stopping,
            Status::Commanding,
            Status::Queued,
            Status::Preparing,
            Status::Initializing,
            Status::Initialized,
            Status::Running,
            Status::Stopped,
            Status::NotFound,
        ];
        let rank = |status: &Status| ORDER.iter().position(|s| s == status).unwrap_or(ORDER.len());
        instances.into_iter().min_by_key(rank).unwrap_or(Status::Stopped)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What the worker knows of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// No process, and none wanted (or not yet).
    Stopped,
    /// A prepare hook runs.
    Preparing,
    /// The steps of an upgrade run, or wait until the app is stopped elsewhere.
    Upgrading,
    /// The adapter was asked to start the process.
    Spawning,
    /// The process lives; the readiness probe has not said yes.
    Starting,
    /// Ready and reachable.
    Running,
    /// Ended unasked; the next attempt waits for its delay.
    Backoff,
    /// Stop steps run.
    Stopping,
    /// Gave up.
    Failed,
}

impl Phase {
    /// Every phase.
    pub const ALL: &'static [Phase] = &[
        Self::Stopped,
        Self::Preparing,
        Self::Upgrading,
        Self::Spawning,
        Self::Starting,
        Self::Running,
        Self::Backoff,
        Self::Stopping,
        Self::Failed,
    ];

    /// The table from inner phase to public status.
    pub fn status(self) -> Status {
        match self {
            Self::Stopped => Status::Stopped,
            Self::Preparing => Status::Preparing,
            Self::Upgrading => Status::Commanding,
            Self::Spawning | Self::Starting | Self::Backoff => Status::Initializing,
            Self::Running => Status::Running,
            Self::Stopping => Status::Stopping,
            Self::Failed => Status::Error,
        }
    }

    /// The word in the ledger and in `why`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Preparing => "preparing",
            Self::Upgrading => "upgrading",
            Self::Spawning => "spawning",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Backoff => "backoff",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
        }
    }

    /// Reads the word in the ledger.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|phase| phase.as_str() == text)
    }

    /// Whether nothing more happens by itself.
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Stopped | Self::Running | Self::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back_as_written() {
        assert!(Status::ALL.iter().all(|s| Status::parse(s.as_str()) == Some(*s)));
        assert!(Phase::ALL.iter().all(|p| Phase::parse(p.as_str()) == Some(*p)));
    }

    #[test]
    fn only_a_running_phase_reads_running() {
        for phase in Phase::ALL {
            assert_eq!(phase.status() == Status::Running, *phase == Phase::Running);
        }
    }

    #[test]
    fn the_summary_shows_the_worst() {
        assert_eq!(Status::summary([Status::Running, Status::Error]), Status::Error);
        assert_eq!(Status::summary([Status::Running, Status::Initializing]), Status::Initializing);
        assert_eq!(Status::summary([Status::Running, Status::Stopped]), Status::Running);
        assert_eq!(Status::summary([]), Status::Stopped);
    }
}
