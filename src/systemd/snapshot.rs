//! A unit as systemd shows it: the few properties that tell what became of an instance, whole or as they change.
//!
//! Deliberately absent: what follows from them (`state.rs`) and how they come here (`bus.rs`).

use std::time::Duration;

use nbs_core::id::Run;
use nbs_core::name::AppId;

/// Whose a unit is, as its journal fields say. Anyone may read them and only whoever may start units can write them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marker {
    /// `NBS_INSTANCE`: the daemon's state directory.
    pub(crate) instance: String,
    /// `NBS_APP`.
    pub(crate) app: AppId,
    /// `NBS_RUN`: which life.
    pub(crate) run: Run,
    /// `NBS_PORT`: where it listens, if on a port.
    pub(crate) port: Option<u16>,
}

/// Everything that is asked of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Snapshot {
    /// `ActiveState`: `active`, `activating`, `deactivating`, `inactive`, `failed`, …
    pub(crate) active: String,
    /// `SubState`: `running`, `exited`, `auto-restart`, `stop-sigterm`, …
    pub(crate) sub: String,
    /// `Result`: `success`, `exit-code`, `signal`, `oom-kill`, `start-limit-hit`, …
    pub(crate) result: String,
    /// `MainPID`; 0 = none.
    pub(crate) main_pid: u32,
    /// `ExecMainCode`: how the main process ended, as `waitid` says: 1 exited, 2 killed, 3 dumped; 0 = it did not.
    pub(crate) exec_code: i32,
    /// `ExecMainStatus`: exit status or signal.
    pub(crate) exec_status: i32,
    /// `ExecMainStartTimestamp`: microseconds since 1970; 0 = never.
    pub(crate) exec_started: u64,
    /// `NRestarts`.
    pub(crate) restarts: u32,
    /// `StatusText`: the app's own words by `sd_notify`.
    pub(crate) status_text: String,
    /// `InvocationID`, 32 hexadecimal digits; empty = never started.
    pub(crate) invocation: String,
    /// Whether its `Restart` is other than `no`.
    pub(crate) repairs: bool,
    /// Whether its `Type` is `notify`.
    pub(crate) notify: bool,
    /// `RestartUSec`: its pause before an automatic restart.
    pub(crate) restart_delay: Duration,
    /// What its journal fields say; none for a foreign unit.
    pub(crate) marker: Option<Marker>,
}

/// Properties that a signal brought; what it did not name is as before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Changed {
    pub(crate) active: Option<String>,
    pub(crate) sub: Option<String>,
    pub(crate) result: Option<String>,
    pub(crate) main_pid: Option<u32>,
    pub(crate) exec_code: Option<i32>,
    pub(crate) exec_status: Option<i32>,
    pub(crate) exec_started: Option<u64>,
    pub(crate) restarts: Option<u32>,
    pub(crate) status_text: Option<String>,
    pub(crate) invocation: Option<String>,
}

impl Changed {
    /// Whether it says nothing.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what a later signal brought.
    pub(crate) fn merge(&mut self, later: Changed) {
        fn over<T>(old: &mut Option<T>, new: Option<T>) {
            if new.is_some() {
                *old = new;
            }
        }
        over(&mut self.active, later.active);
        over(&mut self.sub, later.sub);
        over(&mut self.result, later.result);
        over(&mut self.main_pid, later.main_pid);
        over(&mut self.exec_code, later.exec_code);
        over(&mut self.exec_status, later.exec_status);
        over(&mut self.exec_started, later.exec_started);
        over(&mut self.restarts, later.restarts);
        over(&mut self.status_text, later.status_text);
        over(&mut self.invocation, later.invocation);
    }
}

impl Snapshot {
    /// The unit after a change.
    #[must_use]
    pub(crate) fn with(&self, changed: Changed) -> Self {
        Self {
            active: changed.active.unwrap_or_else(|| self.active.clone()),
            sub: changed.sub.unwrap_or_else(|| self.sub.clone()),
            result: changed.result.unwrap_or_else(|| self.result.clone()),
            main_pid: changed.main_pid.unwrap_or(self.main_pid),
            exec_code: changed.exec_code.unwrap_or(self.exec_code),
            exec_status: changed.exec_status.unwrap_or(self.exec_status),
            exec_started: changed.exec_started.unwrap_or(self.exec_started),
            restarts: changed.restarts.unwrap_or(self.restarts),
            status_text: changed.status_text.unwrap_or_else(|| self.status_text.clone()),
            repairs: self.repairs,
            notify: self.notify,
            restart_delay: self.restart_delay,
            invocation: changed.invocation.unwrap_or_else(|| self.invocation.clone()),
            marker: self.marker.clone(),
        }
    }
}
