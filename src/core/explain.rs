//! Why an app is as it is: the chain from what was wanted to what is, in sentences.
//!
//! Every link names what it knows and leaves out what is well; the last one says what follows. What is about one of
//! several environments begins with its name. Deliberately absent: usage and log lines, which readers see beside it.

use std::time::Duration;

use crate::command::ActionKind;
use crate::intent::Intent;
use crate::order::InstanceReport;
use crate::phase::{Phase, Status};
use crate::quantity::short_duration;
use crate::reason::ReasonCode;
use crate::recipe::Adapter;
use crate::spec::StartMode;
use crate::time::{Now, Wall};
use crate::unit::unit_name;
use crate::view::{AppView, EnvironmentView, InstanceView, OperationStatus, OperationView, Presence, QueueView};

/// One link of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// What it is about, one word.
    pub topic: &'static str,
    /// A sentence without a full stop.
    pub text: String,
    /// What the operator can do about it.
    pub remedy: Option<String>,
}

impl Cause {
    fn new(topic: &'static str, text: impl Into<String>) -> Self {
        Self { topic, text: text.into(), remedy: None }
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// Explains an app. `operations` and `queue` may hold those of other apps too, `environments` those it is not in.
pub fn explain(
    app: &AppView,
    operations: &[OperationView],
    queue: &[QueueView],
    environments: &[&EnvironmentView],
    now: Now,
) -> Vec<Cause> {
    let mut own: Vec<&OperationView> = operations.iter().filter(|op| op.app == app.spec.name).collect();
    own.sort_by_key(|op| std::cmp::Reverse(op.seq));
    let mut causes = vec![intent(app, &own, now)];
    causes.extend(own.first().map(|op| command(op, now)));
    causes.extend(queue.iter().filter(|entry| entry.app == app.spec.name).map(|entry| waiting(entry, now)));
    for instance in &app.instances {
        let here = environments.iter().find(|env| env.registration.environment == instance.environment);
        match here {
            Some(env) => causes.extend(presence(env, now)),
            None => causes.push(forgotten(app, instance)),
        }
        causes.extend(part(app, instance));
        causes.extend(instance.leaving.then(|| leaving(app, instance)));
        if let Some(report) = instance.report.as_deref() {
            causes.extend(local(app, instance, report, now));
            causes.extend(process(instance, report, now));
            causes.extend(spec_change(app, instance, report));
            let notes = report.notes.iter();
            causes.extend(notes.map(|note| Cause::new("note", format!("{}: {note}", instance.environment))));
        }
    }
    causes.push(conclusion(app, queue, now));
    causes
}

/// What should be, and who set it: the newest command that sets an intent, else the start mode.
fn intent(app: &AppView, own: &[&OperationView], now: Now) -> Cause {
    let name = &app.spec.name;
    let sets =
        |op: &OperationView| !matches!(op.action, ActionKind::Update | ActionKind::Move | ActionKind::RotateSecret);
    let setter = own.iter().find(|op| sets(op));
    let by = setter.map_or_else(
        || format!("start mode {}", app.spec.start_mode.as_str()),
        |op| format!("`{}` by {}, {}", op.action.as_str(), op.actor, ago(op.created_at, now)),
    );
    if app.removing {
        return Cause::new("intent", format!("{name} is being removed ({by})"));
    }
    match app.intent {
        Intent::Run => Cause::new("intent", format!("{name} should run ({by})")),
        Intent::Stop => {
            let cause =
                Cause::new("intent", format!("{name} should stay stopped ({by}); no visit or reboot starts it"));
            let manual =
                app.spec.start_mode == StartMode::Manual && setter.is_none_or(|op| op.action != ActionKind::Stop);
            let hint = if manual { "its start mode is manual: " } else { "" };
            cause.remedy(format!("{hint}`nbsupervisor app start {name}` starts it"))
        }
        Intent::OnDemand { awake: true } => {
            Cause::new("intent", format!("{name} runs on demand, and a visitor or a command asked for it ({by})"))
        }
        Intent::OnDemand { awake: false } => {
            Cause::new("intent", format!("{name} starts when it is first visited, and nobody has come yet ({by})"))
                .remedy(format!("visit /apps/{name}/, or `nbsupervisor app start {name}`"))
        }
    }
}

fn command(op: &OperationView, now: Now) -> Cause {
    let when = ago(op.finished_at.unwrap_or(op.created_at), now);
    let head = format!("the last command was `{}` by {} (operation {})", op.action.as_str(), op.actor, op.id);
    let reason = op.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let tail = match op.status {
        OperationStatus::Accepted => format!("accepted {when}, not begun yet"),
        OperationStatus::Queued => format!("it waits for its turn, asked {when}"),
        OperationStatus::Sent => format!("it was sent to the environment, asked {when}"),
        OperationStatus::Started => format!("it is being carried out, asked {when}"),
        OperationStatus::Done => format!("it was done {when}"),
        OperationStatus::Failed => format!("it failed {when}{reason}"),
        OperationStatus::Expired => {
            format!("it took too long and is no longer waited for, {when}{reason}; the intent stands")
        }
    };
    Cause::new("command", format!("{head}; {tail}"))
}

fn waiting(entry: &QueueView, now: Now) -> Cause {
    let here = format!("environment {}", entry.environment);
    let what = match entry.waits_for.as_str() {
        "slot" => format!("a free slot in {}", entry.environment),
        // A silent or draining environment takes no starts.
        other if other == here => format!("{here} to take starts"),
        other => format!("its start in {other} to end, as it starts in one environment after another"),
    };
    let eta = entry
        .eta_ms
        .map(|ms| format!(", about {} to go", short_duration(Duration::from_millis(ms))))
        .unwrap_or_default();
    let text = format!(
        "it is at place {} of the start queue of {}, has waited for {what} for {}{eta}",
        entry.position,
        entry.environment,
        since(entry.since, now),
    );
    let cause = Cause::new("queue", text);
    match entry.waits_for.as_str() {
        "slot" => cause.remedy("wait, or raise environment.concurrent_starts"),
        _ => cause,
    }
}

/// For how long nothing was heard of an environment. The entry's own clock does not reach back beyond its start; from
/// there on the time of day has to do.
pub fn unheard_for(environment: &EnvironmentView, now: Now) -> Duration {
    let by_day = Duration::from_millis(now.wall.0.saturating_sub(environment.heard_at.0));
    now.mono.since(environment.heard).max(by_day)
}

/// Why an environment gets no starts; nothing if it gets them.
fn presence(environment: &EnvironmentView, now: Now) -> Option<Cause> {
    let name = &environment.registration.environment;
    let lasted = short_duration(unheard_for(environment, now));
    let (text, remedy) = match environment.presence {
        Presence::Available if environment.draining => (
            format!("environment {name} is draining: it gets no new starts, what runs there runs on"),
            format!("`nbsupervisor env undrain {name}` gives it starts again"),
        ),
        Presence::Available => return None,
        Presence::Silent => {
            (format!("environment {name} has been silent for {lasted}"), ReasonCode::EnvironmentSilent.remedy().into())
        }
        Presence::Unheard => (
            format!("the entry has no Redis, and has not heard environment {name} for {lasted}"),
            "bring Redis back; what runs there runs on".into(),
        ),
        Presence::Awaited => (
            format!("environment {name} has not been heard since the entry started; before, {lasted} ago"),
            "wait a moment, then look at its host and daemon".into(),
        ),
    };
    Some(Cause::new("environment", text).remedy(remedy))
}

/// A place in an environment that is not known (any more).
fn forgotten(app: &AppView, instance: &InstanceView) -> Cause {
    let (name, place) = (&app.spec.name, &instance.environment);
    Cause::new("environment", format!("there is no environment {place} that the entry knows")).remedy(format!(
        "start its daemon, or take {name} out of it: `nbsupervisor app edit {name} --environment …` names those that stay"
    ))
}

/// What should be in one environment, where that is other than for the app as a whole.
fn part(app: &AppView, instance: &InstanceView) -> Option<Cause> {
    let (name, place) = (&app.spec.name, &instance.environment);
    if instance.leaving || app.removing || app.instances.len() < 2 {
        return None;
    }
    match (app.intent.wants_running(), instance.intent) {
        (true, Intent::Stop) => {
            let text = format!("{place}: {name} should stay stopped there, and there alone");
            let remedy = format!("`nbsupervisor app start {name} --environment {place}` starts it there");
            Some(Cause::new("intent", text).remedy(remedy))
        }
        _ => None,
    }
}

fn leaving(app: &AppView, instance: &InstanceView) -> Cause {
    let (name, place) = (&app.spec.name, &instance.environment);
    let text = format!(
        "{place}: {name} is being taken away from there; it starts in no new environment before {place} has said that it is gone"
    );
    let remedy = format!("if {place} is gone for good, `nbsupervisor env forget {place}` ends the wait");
    Cause::new("placement", text).remedy(remedy)
}

/// What somebody asked for on the host itself.
fn local(app: &AppView, instance: &InstanceView, report: &InstanceReport, now: Now) -> Option<Cause> {
    let local = report.local.as_ref()?;
    let (name, place) = (&app.spec.name, &instance.environment);
    let text = format!(
        "{place}: `{}` by {} on that host itself, {}; it holds until a later command",
        local.action.as_str(),
        local.actor,
        ago(local.at, now)
    );
    let remedy = format!("`nbsupervisor app start {name}` or `nbsupervisor app stop {name}` at the entry ends it");
    Some(Cause::new("local", text).remedy(remedy))
}

/// The process: what it does now, why its last life ended, and what comes next.
fn process(instance: &InstanceView, report: &InstanceReport, now: Now) -> Vec<Cause> {
    let at = &instance.environment;
    let (process, again) = match report.adapter {
        Adapter::Process => ("the process".to_string(), "the next automatic attempt"),
        Adapter::Systemd => {
            (format!("{}'s process", unit_name(&report.app)), "the next automatic attempt (by systemd)")
        }
        Adapter::Shared => ("its host process".to_string(), "the next automatic attempt"),
    };
    let pid = report.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
    let lasted = since(report.since, now);
    let mut causes = Vec::new();
    if let Some(reason) = &report.reason {
        let restarts = match report.restarts {
            0 => String::new(),
            1 => "; restarted once by itself".to_string(),
            n => format!("; restarted {n} times by itself"),
        };
        let present = matches!(report.phase, Phase::Failed | Phase::Backoff) || report.removing;
        let when = if present { "" } else { "before: " };
        let text = format!("{at}: {when}{}{restarts}", reason.text);
        causes.push(Cause::new("process", text).remedy(reason.code.remedy()));
    }
    let present = match report.phase {
        Phase::Stopped => None,
        Phase::Upgrading => Some(format!("{at}: it is being upgraded, for {lasted}")),
        Phase::Preparing => Some(format!("{at}: it has been prepared (database, prepare hooks) for {lasted}")),
        Phase::Spawning => Some(format!("{at}: {process} is being started")),
        Phase::Starting => Some(format!("{at}: {process}{pid} was started {lasted} ago and is not ready yet")),
        Phase::Running => Some(format!("{at}: {process}{pid} has been ready for {lasted}")),
        Phase::Backoff => {
            let silent = report.reason.as_ref().is_some_and(|why| why.code == ReasonCode::DatabaseUnreachable);
            Some(match report.next_attempt {
                None if silent => {
                    format!("{at}: {again} comes as soon as the database answers and a slot of its host is free")
                }
                next => format!("{at}: {again} is due {}", next.map_or_else(|| "soon".into(), |at| until(at, now))),
            })
        }
        Phase::Stopping => Some(format!("{at}: {process}{pid} has been stopping for {lasted}")),
        Phase::Failed => Some(format!("{at}: automatic attempts were given up {lasted} ago")),
    };
    causes.extend(present.map(|text| Cause::new("process", text)));
    let busy = matches!(report.phase, Phase::Starting | Phase::Preparing | Phase::Upgrading);
    if let Some(progress) = report.progress.as_ref().filter(|_| busy) {
        causes.push(Cause::new("probe", format!("{at}: the app says: {progress}")));
    }
    causes
}

fn spec_change(app: &AppView, instance: &InstanceView, report: &InstanceReport) -> Option<Cause> {
    let name = &app.spec.name;
    let old = report.pid.is_some() && report.generation.0 != 0 && report.generation < app.generation;
    old.then(|| {
        let text = format!(
            "{}: it was started with generation {} of the spec, the newest is {}",
            instance.environment, report.generation, app.generation
        );
        Cause::new("spec", text).remedy(format!("`nbsupervisor app restart {name}` brings all of it into effect"))
    })
}

fn conclusion(app: &AppView, queue: &[QueueView], now: Now) -> Cause {
    let name = &app.spec.name;
    let lasted = app.instances.iter().filter(|i| i.status == app.status).map(|i| i.since).max();
    let lasted = lasted.map(|wall| format!(", for {}", since(wall, now))).unwrap_or_default();
    let status = if app.status == Status::Error { "in error" } else { app.status.as_str() };
    let text = format!("so {name} is {status}{lasted}");
    let stuck = app.intent.wants_running()
        && app.status == Status::Stopped
        && !app.removing
        && !queue.iter().any(|entry| entry.app == app.spec.name);
    let cause = Cause::new("status", text);
    if stuck { cause.remedy(format!("it should run and does not: `nbsupervisor app start {name}`")) } else { cause }
}

fn since(wall: Wall, now: Now) -> String {
    short_duration(Duration::from_millis(now.wall.0.saturating_sub(wall.0)))
}

fn ago(wall: Wall, now: Now) -> String {
    format!("{} ago", since(wall, now))
}

fn until(wall: Wall, now: Now) -> String {
    match wall.0.saturating_sub(now.wall.0) {
        0 => "now".into(),
        ms => format!("in {}", short_duration(Duration::from_millis(ms))),
    }
}

#[cfg(test)]
mod tests;
