//! What should be.

/// What an app should do, as the last accepted command and the start mode left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// Run.
    Run,
    /// Stay stopped; no visit, daemon restart or reboot revives it.
    Stop,
    /// Run once a visitor came.
    OnDemand {
        /// Whether one came.
        awake: bool,
    },
}

impl Intent {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Stop => "stop",
            Self::OnDemand { .. } => "on-demand",
        }
    }

    /// Whether its instances should run now.
    pub fn wants_running(self) -> bool {
        matches!(self, Self::Run | Self::OnDemand { awake: true })
    }
}
