//! Ends of units: a stop that nothing brings back, and a kill that leaves nothing.

use std::sync::Arc;
use std::time::Duration;

use nbs_core::id::Run;
use nbs_core::name::AppId;
use nbs_core::observation::Fact;
use nbs_core::signal::Signal;
use nbs_core::unit::unit_name;

use super::Inner;
use super::bus::{BusErrorKind, Who};
use super::snapshot::Snapshot;
use super::watch::gone;

/// How long a killed unit may take to be gone before it is killed again.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// Pause between attempts while systemd does not answer.
const RETRY: Duration = Duration::from_secs(1);
/// Pause between looks at a unit that is about to be unloaded.
const LOOK: Duration = Duration::from_millis(20);

/// The first signal of a life is a stop job, which sends the recipe's first signal and forbids every restart; later ones
/// go to the main process while that job runs.
pub(super) async fn signal(inner: &Arc<Inner>, app: &AppId, run: Run, signal: Signal) {
    let unit = unit_name(app);
    let first = inner.units.with(app, run, |tracked| !std::mem::replace(&mut tracked.kind.stopping, true));
    let result = match first {
        Some(false) => inner.bus.kill(&unit, Who::Main, signal.0).await,
        // The job's end is heard through the unit's state.
        _ => inner.bus.stop(&unit).await.map(drop),
    };
    match result {
        Ok(()) => {}
        Err(error) if error.kind == BusErrorKind::NoSuchUnit => inner.see(app, true, gone),
        // The next step, or the kill at the end, tries again.
        Err(error) => tracing::warn!(app = %app, error = %error.text, "systemd did not take a stop"),
    }
}

/// Ends a life's unit with everything in it, until it is unloaded; then its name is free and `TreeGone` is told.
pub(super) async fn kill_tree(inner: &Arc<Inner>, app: &AppId, run: Run) {
    inner.units.with(app, run, |tracked| tracked.kind.stopping = true);
    remove_unit(inner, &unit_name(app), |unit| {
        unit.marker.as_ref().is_some_and(|marker| marker.instance == inner.instance && marker.run == run)
    })
    .await;
    inner.see(app, true, gone);
    inner.units.forget(app, run);
    let _ = std::fs::remove_file(inner.env_file(app));
    inner.tell(app, run, Fact::TreeGone).await;
}

/// Ends and unloads a unit as long as it is the one that is meant. Does not return before that is so: while systemd does
/// not answer, nobody can say that nothing is left.
pub(super) async fn remove_unit(inner: &Arc<Inner>, name: &str, is_meant: impl Fn(&Snapshot) -> bool) {
    let mut told = false;
    loop {
        match inner.bus.read(name).await {
            Ok(Some(unit)) if is_meant(&unit) => {
                if unit.active == "failed" || unit.active == "inactive" {
                    let _ = inner.bus.reset_failed(name).await;
                    tokio::time::sleep(LOOK).await;
                } else {
                    let _ = inner.bus.kill(name, Who::All, Signal::KILL.0).await;
                    if let Ok(job) = inner.bus.stop(name).await {
                        let _ = tokio::time::timeout(KILL_PATIENCE, job.done()).await;
                    }
                }
            }
            Ok(_) => return,
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(unit = name, error = %error.text, "systemd does not answer; the unit's end is tried again");
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
