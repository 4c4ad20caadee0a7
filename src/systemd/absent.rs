//! The adapter of a host without systemd: says so to whoever asks for a unit.

use nbs_core::id::Run;
use nbs_core::launch::Launch;
use nbs_core::name::AppId;
use nbs_core::observation::{Fact, Observation, SpawnFailure, SpawnFailureKind};
use nbs_core::reason::{Reason, ReasonCode};
use nbs_core::signal::Signal;
use std::time::Duration;

use crate::ports::{BoxFuture, CommandOutput, CommandRunner, Found, Known, ObservationSender, ProcessControl, Started};

const WHY: &str = "this host was not booted with systemd, so there are no units";

/// Refuses every start; units of a former boot with systemd cannot be there any more.
#[derive(Debug, Clone)]
pub struct NoSystemd(ObservationSender);

impl NoSystemd {
    /// Tells what it must to `sender`.
    pub fn new(sender: ObservationSender) -> Self {
        Self(sender)
    }
}

impl ProcessControl for NoSystemd {
    fn start<'a>(&'a self, _: &'a Launch) -> BoxFuture<'a, Result<Started, SpawnFailure>> {
        let reason = Reason::new(ReasonCode::SystemdUnavailable, WHY);
        Box::pin(std::future::ready(Err(SpawnFailure { reason, kind: SpawnFailureKind::Permanent })))
    }

    fn signal<'a>(&'a self, _: &'a AppId, _: Run, _: Signal) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    fn kill_tree<'a>(&'a self, app: &'a AppId, run: Run) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let _ = self.0.send(Observation { app: app.clone(), run, fact: Fact::TreeGone }).await;
        })
    }

    fn adopt(&self, _: Vec<Known>) -> BoxFuture<'_, Found> {
        Box::pin(std::future::ready(Found::default()))
    }

    fn clean_up<'a>(&'a self, _: &'a AppId, _: bool) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

impl CommandRunner for NoSystemd {
    fn run<'a>(&'a self, _: &'a Launch, _: &'a [String], _: Duration, _: bool) -> BoxFuture<'a, CommandOutput> {
        Box::pin(std::future::ready(CommandOutput { result: Err(WHY.into()), last_log: Vec::new() }))
    }
}
