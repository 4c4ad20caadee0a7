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
    let setter = own.iter().find(|op| op.action != ActionKind::Update);
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
        let when = if matches!(report.phase, Phase::Failed | Phase::Backoff) { "" } else { "before: " };
        let text = format!("{at}: {when}{}{restarts}", reason.text);
        causes.push(Cause::new("process", text).remedy(reason.code.remedy()));
    }
    let present = match report.phase {
        Phase::Stopped => None,
        Phase::Preparing => Some(format!("{at}: a prepare hook has run for {lasted}")),
        Phase::Spawning => Some(format!("{at}: {process} is being started")),
        Phase::Starting => Some(format!("{at}: {process}{pid} was started {lasted} ago and is not ready yet")),
        Phase::Running => Some(format!("{at}: {process}{pid} has been ready for {lasted}")),
        Phase::Backoff => {
            let next = report.next_attempt.map(|at| until(at, now)).unwrap_or_else(|| "soon".into());
            Some(format!("{at}: {again} is due {next}"))
        }
        Phase::Stopping => Some(format!("{at}: {process}{pid} has been stopping for {lasted}")),
        Phase::Failed => Some(format!("{at}: automatic attempts were given up {lasted} ago")),
    };
    causes.extend(present.map(|text| Cause::new("process", text)));
    let busy = matches!(report.phase, Phase::Starting | Phase::Preparing);
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
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::id::{Generation, OperationId, Run, Seq};
    use crate::name::{AppId, EnvironmentName, RuntimeName};
    use crate::order::Registration;
    use crate::reason::Reason;
    use crate::spec::AppSpec;
    use crate::time::Mono;
    use crate::view::Priority;

    const NOW: Now = Now { mono: Mono(Duration::from_secs(100)), wall: Wall(100_000) };

    fn crm() -> AppId {
        AppId::parse("crm").unwrap()
    }

    fn local() -> EnvironmentName {
        EnvironmentName::parse("local").unwrap()
    }

    fn report(phase: Phase) -> InstanceReport {
        InstanceReport {
            app: crm(),
            intent_seq: Seq(2),
            run: Run::default(),
            generation: Generation(1),
            phase,
            in_turn: false,
            reason: None,
            since: Wall(90_000),
            pid: None,
            adapter: Adapter::Process,
            address: None,
            strip_prefix: false,
            restarts: 0,
            next_attempt: None,
            version: None,
            progress: None,
            last_log: vec![],
            notes: vec![],
            local: None,
        }
    }

    fn app(intent: Intent, report: Option<InstanceReport>, status: Status) -> AppView {
        let spec = AppSpec::minimal(crm(), RuntimeName::parse("node").unwrap(), local());
        let instance = InstanceView {
            intent: Intent::Run,
            leaving: false,
            environment: local(),
            status,
            since: Wall(90_000),
            report: report.map(Arc::new),
            observed_at: Wall(90_000),
            observed: Mono(Duration::from_secs(90)),
        };
        AppView {
            spec: Arc::new(spec),
            generation: Generation(2),
            intent,
            intent_seq: Seq(2),
            status,
            removing: false,
            created_at: Wall(0),
            instances: vec![instance],
            last_operation: None,
        }
    }

    fn environment(presence: Presence) -> EnvironmentView {
        let registration = Registration {
            environment: local(),
            version: "0.1.0".into(),
            boot: String::new(),
            concurrent_starts: 2,
            runtimes: BTreeMap::new(),
            host: "host".into(),
            url: None,
            proxy_url: None,
            capacity: None,
        };
        EnvironmentView {
            registration: Arc::new(registration),
            heard_at: Wall(59_000),
            heard: Mono(Duration::from_secs(59)),
            presence,
            draining: false,
            is_local: false,
            proxy: None,
            instances: 1,
        }
    }

    fn operation(seq: u64, action: ActionKind, status: OperationStatus) -> OperationView {
        OperationView {
            id: OperationId(u128::from(seq)),
            seq: Seq(seq),
            app: crm(),
            action,
            environments: vec![local()],
            status,
            reason: (status == OperationStatus::Failed).then(|| "exited with status 3".to_string()),
            created_at: Wall(40_000),
            finished_at: status.has_ended().then_some(Wall(70_000)),
            actor: "root".into(),
        }
    }

    fn texts(causes: &[Cause], topic: &str) -> Vec<String> {
        causes.iter().filter(|cause| cause.topic == topic).map(|cause| cause.text.clone()).collect()
    }

    #[test]
    fn a_crash_loop_reads_from_command_to_status() {
        let mut failed = report(Phase::Failed);
        failed.reason = Some(Reason::new(ReasonCode::GaveUp, "exited with status 3, 5 times in 20s"));
        failed.restarts = 5;
        let app = app(Intent::Run, Some(failed), Status::Error);
        let causes = explain(
            &app,
            &[operation(2, ActionKind::Start, OperationStatus::Failed)],
            &[],
            &[&environment(Presence::Available)],
            NOW,
        );
        assert_eq!(texts(&causes, "intent"), ["crm should run (`start` by root, 1m ago)"]);
        assert!(texts(&causes, "command")[0].ends_with("it failed 30s ago: exited with status 3"));
        let process = texts(&causes, "process");
        assert_eq!(process[0], "local: exited with status 3, 5 times in 20s; restarted 5 times by itself");
        assert_eq!(process[1], "local: automatic attempts were given up 10s ago");
        assert_eq!(causes.last().map(|c| c.text.as_str()), Some("so crm is in error, for 10s"));
        assert_eq!(causes[2].remedy.as_deref(), Some(ReasonCode::GaveUp.remedy()));
    }

    #[test]
    fn an_on_demand_app_waits_for_a_visitor() {
        let app = app(Intent::OnDemand { awake: false }, None, Status::Stopped);
        let causes = explain(&app, &[], &[], &[&environment(Presence::Available)], NOW);
        assert!(causes[0].text.contains("nobody has come yet (start mode on-first-visit)"), "{}", causes[0].text);
        assert!(causes[0].remedy.as_deref().is_some_and(|text| text.contains("/apps/crm/")));
        assert_eq!(causes.len(), 2);
    }

    #[test]
    fn a_queued_app_tells_its_place() {
        let entry = QueueView {
            app: crm(),
            environment: local(),
            position: 2,
            waits_for: "slot".into(),
            since: Wall(97_000),
            eta_ms: Some(8000),
            priority: Priority::Operator,
        };
        let app = app(Intent::Run, None, Status::Queued);
        let causes = explain(&app, &[], &[entry], &[&environment(Presence::Available)], NOW);
        let wanted =
            "it is at place 2 of the start queue of local, has waited for a free slot in local for 3s, about 8s to go";
        assert_eq!(texts(&causes, "queue"), [wanted]);
    }

    #[test]
    fn a_back_off_names_the_next_attempt() {
        let mut waiting = report(Phase::Backoff);
        waiting.reason = Some(Reason::new(ReasonCode::ExitStatus, "exited with status 1"));
        waiting.next_attempt = Some(Wall(104_000));
        let causes = explain(
            &app(Intent::Run, Some(waiting), Status::Initializing),
            &[],
            &[],
            &[&environment(Presence::Available)],
            NOW,
        );
        assert_eq!(texts(&causes, "process")[1], "local: the next automatic attempt is due in 4s");
    }

    #[test]
    fn a_silent_environment_progress_notes_and_an_older_spec_are_told() {
        let mut starting = report(Phase::Starting);
        starting.pid = Some(12);
        starting.progress = Some("load plugin [x], 12/77".into());
        starting.notes = vec!["memory_max is not enforced".into()];
        let environment = environment(Presence::Silent);
        let app = app(Intent::Run, Some(starting), Status::Unknown);
        let causes = explain(&app, &[], &[], &[&environment], NOW);
        assert_eq!(texts(&causes, "environment"), ["environment local has been silent for 41s"]);
        assert_eq!(texts(&causes, "probe"), ["local: the app says: load plugin [x], 12/77"]);
        assert_eq!(texts(&causes, "note"), ["local: memory_max is not enforced"]);
        assert_eq!(texts(&causes, "spec").len(), 1);
    }

    #[test]
    fn the_intent_is_that_of_the_newest_command_and_not_of_a_change() {
        let operations = [
            operation(1, ActionKind::Create, OperationStatus::Done),
            operation(3, ActionKind::Update, OperationStatus::Done),
            operation(2, ActionKind::Stop, OperationStatus::Done),
        ];
        let causes = explain(
            &app(Intent::Stop, None, Status::Stopped),
            &operations,
            &[],
            &[&environment(Presence::Available)],
            NOW,
        );
        assert!(causes[0].text.contains("`stop` by root"), "{}", causes[0].text);
        assert!(causes[1].text.contains("`update`"), "{}", causes[1].text);
    }

    fn remedies(causes: &[Cause], topic: &str) -> Vec<String> {
        causes.iter().filter(|cause| cause.topic == topic).filter_map(|cause| cause.remedy.clone()).collect()
    }

    #[test]
    fn an_environment_that_gets_no_starts_is_told_with_its_reason() {
        let app = app(Intent::Run, None, Status::Unknown);
        let told = |environment: &EnvironmentView| {
            let causes = explain(&app, &[], &[], &[environment], NOW);
            (texts(&causes, "environment").join(""), remedies(&causes, "environment").join(""))
        };
        let table = [
            (Presence::Silent, "silent for 41s", "check the host"),
            (Presence::Unheard, "the entry has no Redis", "bring Redis back"),
            (Presence::Awaited, "not been heard since the entry started", "look at its host"),
        ];
        for (presence, text, remedy) in table {
            let told = told(&environment(presence));
            assert!(told.0.contains(text) && told.1.contains(remedy), "{told:?}");
        }
        assert_eq!(told(&environment(Presence::Available)).0, "");
        let draining = told(&EnvironmentView { draining: true, ..environment(Presence::Available) });
        assert!(draining.0.contains("draining") && draining.1.contains("env undrain local"), "{draining:?}");
        let causes = explain(&app, &[], &[], &[], NOW);
        assert_eq!(texts(&causes, "environment"), ["there is no environment local that the entry knows"]);
    }

    #[test]
    fn silence_from_before_the_entry_started_counts() {
        let environment = EnvironmentView { heard_at: Wall(0), ..environment(Presence::Silent) };
        assert_eq!(unheard_for(&environment, NOW), Duration::from_secs(100));
    }

    #[test]
    fn a_local_word_a_leaving_place_and_a_part_are_told() {
        let mut stopped = report(Phase::Stopped);
        let (action, actor) = (crate::order::LocalAction::Stop, "ann".to_string());
        stopped.local = Some(crate::order::LocalOverride { action, actor, at: Wall(90_000) });
        let mut app = app(Intent::Run, Some(stopped), Status::Stopped);
        let mut other = app.instances[0].clone();
        other.environment = EnvironmentName::parse("env_b").unwrap();
        (other.report, other.intent) = (None, Intent::Stop);
        let mut third = other.clone();
        third.environment = EnvironmentName::parse("env_c").unwrap();
        third.leaving = true;
        app.instances.extend([other, third]);
        let causes = explain(&app, &[], &[], &[&environment(Presence::Available)], NOW);
        let local = "local: `stop` by ann on that host itself, 10s ago; it holds until a later command";
        assert_eq!(texts(&causes, "local"), [local]);
        assert_eq!(texts(&causes, "intent")[1], "env_b: crm should stay stopped there, and there alone");
        assert!(remedies(&causes, "placement")[0].contains("env forget env_c"));
    }

    #[test]
    fn a_queued_app_says_which_environment_it_waits_for() {
        let entry = |waits_for: &str| QueueView {
            app: crm(),
            environment: local(),
            position: 1,
            waits_for: waits_for.into(),
            since: Wall(97_000),
            eta_ms: None,
            priority: Priority::Operator,
        };
        let app = app(Intent::Run, None, Status::Queued);
        let told = |waits_for| {
            texts(&explain(&app, &[], &[entry(waits_for)], &[&environment(Presence::Available)], NOW), "queue").join("")
        };
        assert!(told("env_a").contains("its start in env_a to end"), "{}", told("env_a"));
        assert!(
            told("environment local").contains("for environment local to take starts"),
            "{}",
            told("environment local")
        );
    }
}
