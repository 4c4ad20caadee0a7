//! Scopes: child processes of the process adapter in control groups of their own, beside the daemon's.
//!
//! Decides nothing about processes; they were started by somebody else, who waits. Deliberately absent: ending a scope,
//! which goes away with its last process.

use std::time::Duration;

use nbs_core::launch::Launch;
use nbs_core::observation::SpawnFailure;
use nbs_core::reason::{Reason, ReasonCode};
use nbs_core::unit::scope_name;
use tokio::time::timeout;

use super::Units;
use super::bus::{Bus, JobResult};
use super::{notes, properties, start};
use crate::ports::{BoxFuture, Enclosure};

/// How long systemd may take to make a scope, once it took the job on.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks systemd for scopes.
#[derive(Debug)]
pub struct Scopes {
    bus: Bus,
    must: bool,
}

impl Units {
    /// Scopes from the same systemd. With `must`, a process that cannot have one is not to become an app; else it stays
    /// where it is.
    pub fn scopes(&self, must: bool) -> Scopes {
        Scopes { bus: self.inner.bus.clone(), must }
    }
}

impl Scopes {
    async fn make(&self, launch: &Launch, pid: u32) -> Result<(), SpawnFailure> {
        let scope = scope_name(&launch.app, pid);
        let asked = self.bus.start(&scope, &properties::of_scope(launch, pid)).await;
        let job = asked.map_err(|error| start::failure_of(&error))?;
        match timeout(PATIENCE, job.done()).await {
            Ok(JobResult::Done) => Ok(()),
            Ok(JobResult::Lost) => Err(failed(&scope, "the connection to it was lost")),
            Ok(result) => Err(failed(&scope, &format!("its job ended as {result:?}"))),
            Err(_) => Err(failed(&scope, &format!("it was not done after {} s", PATIENCE.as_secs()))),
        }
    }
}

fn failed(scope: &str, cause: &str) -> SpawnFailure {
    let text = format!("systemd did not make the scope {scope} for it: {cause}");
    start::transient(Reason::new(ReasonCode::SystemdUnavailable, text))
}

impl Enclosure for Scopes {
    fn enclose<'a>(&'a self, launch: &'a Launch, pid: u32) -> BoxFuture<'a, Result<Option<Vec<String>>, SpawnFailure>> {
        Box::pin(async move {
            match self.make(launch, pid).await {
                Ok(()) => Ok(Some(notes::of_limits(launch))),
                Err(failure) if self.must => Err(failure),
                Err(_) => Ok(None),
            }
        })
    }
}
