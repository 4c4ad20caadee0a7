//! The story of one app in a host: its start, its stop and its removal, each one after the other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use nbs_core::id::Run;
use nbs_core::launch::Launch;
use nbs_core::name::AppId;
use nbs_core::observation::{Fact, SpawnFailure, SpawnFailureKind};
use nbs_core::reason::{Reason, ReasonCode};
use nbs_core::shared::MemberPlan;
use tokio::time::{Instant, timeout};

use super::Inner;
use super::call::Trouble;
use super::host::{Host, State};
use crate::ports::Started;

/// How long a start waits for an app that is busy.
const QUIET: Duration = Duration::from_secs(60);
/// How long a host may take to let go of a removed app.
const GONE: Duration = Duration::from_secs(30);
/// Pause between two looks at an app that is being stopped: a host that is quick is not waited for long.
const FIRST_LOOK: Duration = Duration::from_millis(50);
/// The longest such pause.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// A stop that had no effect for so long is asked for again.
const STOP_AGAIN: Duration = Duration::from_secs(5);

/// What is known of an app in a host.
#[derive(Default)]
pub(super) struct Member {
    plan: Option<Arc<MemberPlan>>,
    run: Run,
    /// Whether it should run there.
    runs: bool,
    /// Grows with each change that was begun or ended here.
    changes: u64,
    /// Changes under way.
    working: u32,
    /// Lives that a stop under way is for.
    stopping: BTreeSet<Run>,
    /// Changes of one app are made one after the other.
    gate: Arc<tokio::sync::Mutex<()>>,
}

impl Member {
    pub(super) fn know(&mut self, run: Run, plan: Arc<MemberPlan>, runs: bool) {
        (self.run, self.plan, self.runs) = (run, Some(plan), runs);
        self.changes += 1;
    }

    pub(super) fn is_of(&self, host: &AppId) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.host == *host)
    }

    /// Its number of changes, if none is under way.
    pub(super) fn at_rest(&self) -> Option<u64> {
        (self.working == 0).then_some(self.changes)
    }

    pub(super) fn runs(&self) -> bool {
        self.runs
    }

    pub(super) fn run(&self) -> Run {
        self.run
    }
}

/// A change under way; it counts until it is dropped.
struct Work<'i> {
    inner: &'i Inner,
    app: &'i AppId,
    gate: Arc<tokio::sync::Mutex<()>>,
}

impl<'i> Work<'i> {
    fn begin(inner: &'i Inner, app: &'i AppId, change: impl FnOnce(&mut Member)) -> Self {
        let mut desk = inner.desk();
        let member = desk.members.entry(app.clone()).or_default();
        member.changes += 1;
        member.working += 1;
        change(member);
        Self { inner, app, gate: member.gate.clone() }
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        if let Some(member) = self.inner.desk().members.get_mut(self.app) {
            member.changes += 1;
            member.working = member.working.saturating_sub(1);
        }
    }
}

/// Makes or changes an app, and starts it. Whether it is ready is the prober's to find out.
pub(super) async fn start(inner: &Inner, launch: &Launch) -> Result<Started, SpawnFailure> {
    let failure = |reason| SpawnFailure { reason, kind: SpawnFailureKind::Transient };
    let Some(plan) = launch.member.clone() else {
        let reason = Reason::new(ReasonCode::SpawnFailed, "it is not to run in a host");
        return Err(SpawnFailure { reason, kind: SpawnFailureKind::Permanent });
    };
    let work = Work::begin(inner, &launch.app, |member| {
        member.know(launch.run, plan.clone(), false);
    });
    let _gate = work.gate.lock().await;
    let Some(host) = inner.host(&plan.host) else { return Err(failure(Trouble::Ended.reason(&plan.host))) };
    match start_in(&host, &launch.app, &plan).await {
        Err(trouble) => Err(failure(trouble.reason(&plan.host))),
        Ok(()) => {
            if let Some(member) = inner.desk().members.get_mut(&launch.app) {
                member.runs = true;
            }
            Ok(Started { identity: host.plan.identity.clone(), notes: Vec::new() })
        }
    }
}

async fn start_in(host: &Host, app: &AppId, plan: &MemberPlan) -> Result<(), Trouble> {
    host.prepared().await?;
    let _pace = host.pace.acquire().await.map_err(|_| Trouble::Ended)?;
    let mut state = host.settled(app, QUIET).await?;
    if matches!(state, Some(State::Running | State::Failed(_))) {
        // Nobody here started it, so it has not what it is to have now; and what has failed may be half there.
        stop_in(host, app, plan).await?;
        state = host.settled(app, QUIET).await?;
    }
    match (&state, &plan.create, &plan.update) {
        (None, Some(create), _) => {
            if let Err(trouble) = host.ask(create).await {
                // The answer of a first attempt may have been lost.
                match host.state_of(app).await {
                    Ok(Some(_)) => {}
                    _ => return Err(trouble),
                }
            }
            host.settled(app, QUIET).await?;
        }
        (Some(_), _, Some(update)) => drop(host.ask(update).await?),
        _ => {}
    }
    if let Some(upgrade) = &plan.upgrade {
        host.ask(upgrade).await?;
        host.settled(app, QUIET).await?;
    }
    host.ask(&plan.start).await.map(drop)
}

/// Stops an app, and tells when it is done. Several who want that share one stop.
pub(super) async fn stop(inner: &Inner, app: &AppId, run: Run) {
    let mut first = false;
    let work = Work::begin(inner, app, |member| {
        first = member.stopping.is_empty();
        member.stopping.insert(run);
        member.runs = false;
    });
    if !first {
        return;
    }
    let gate = work.gate.lock().await;
    let plan = inner.desk().members.get(app).and_then(|member| member.plan.clone());
    let host = plan.as_ref().and_then(|plan| inner.host(&plan.host));
    let outcome = match (&plan, &host) {
        (Some(plan), Some(host)) => stop_in(host, app, plan).await,
        // Without its host nothing of it is left.
        _ => Ok(()),
    };
    drop(gate);
    drop(work);
    let runs = inner.desk().members.get_mut(app).map(|member| std::mem::take(&mut member.stopping));
    for run in runs.unwrap_or_else(|| BTreeSet::from([run])) {
        let fact = match (&outcome, &plan) {
            (Err(trouble), Some(plan)) if *trouble != Trouble::Ended => {
                Fact::NotStopped(trouble.clone().reason(&plan.host))
            }
            _ => Fact::TreeGone,
        };
        inner.tell(app, run, fact).await;
    }
}

/// Asks for a stop until the list says that it is done.
async fn stop_in(host: &Host, app: &AppId, plan: &MemberPlan) -> Result<(), Trouble> {
    let deadline = Instant::now() + plan.stop_timeout;
    // What is busy would not hear it; what is busy for too long is asked all the same.
    match host.settled(app, plan.stop_timeout).await {
        Ok(None | Some(State::Stopped)) => return Ok(()),
        Err(Trouble::Ended) => return Err(Trouble::Ended),
        // A list that cannot be read is no reason not to ask.
        Ok(Some(_)) | Err(_) => {}
    }
    let deadline = deadline.max(Instant::now() + plan.stop_timeout / 2);
    let mut look = FIRST_LOOK;
    let mut last = Trouble::Refused(format!("{} was sent, and {app} still runs", plan.stop));
    while Instant::now() < deadline {
        let asked = Instant::now();
        if let Err(trouble) = host.ask(&plan.stop).await {
            last = trouble;
        }
        while Instant::now() < deadline && asked.elapsed() < STOP_AGAIN {
            match host.state_of(app).await {
                // A failure that is still listed after a stop has nothing running behind it.
                Ok(None | Some(State::Stopped | State::Failed(_))) => return Ok(()),
                Ok(Some(_)) => {}
                Err(Trouble::Ended) => return Err(Trouble::Ended),
                Err(trouble) => last = trouble,
            }
            host.pause(look).await?;
            look = (look * 2).min(LOOK_MAX);
        }
    }
    Err(last)
}

/// Takes an app out of its host.
pub(super) async fn remove(inner: &Inner, app: &AppId) -> Result<(), String> {
    let known = inner.desk().members.get(app).and_then(|member| member.plan.clone());
    let Some(plan) = known else { return Ok(()) };
    let outcome = {
        let work = Work::begin(inner, app, |member| member.runs = false);
        let _gate = work.gate.lock().await;
        match (&plan.remove, inner.host(&plan.host)) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(format!("{} does not run, and keeps what it has of {app}", plan.host)),
            (Some(request), Some(host)) => {
                let story = async {
                    host.prepared().await?;
                    host.ask(request).await?;
                    while host.state_of(app).await?.is_some() {
                        host.pause(FIRST_LOOK).await?;
                    }
                    Ok(())
                };
                match timeout(GONE, story).await {
                    Ok(outcome) => outcome.map_err(|trouble: Trouble| trouble.reason(&plan.host).to_string()),
                    Err(_) => Err(format!("{}: {request} was sent, and {app} is still listed", plan.host)),
                }
            }
        }
    };
    inner.desk().members.remove(app);
    outcome
}
