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
        select: None,
        restarts: 0,
        next_attempt: None,
        version: None,
        progress: None,
        last_log: vec![],
        notes: vec![],
        local: None,
        removing: false,
        upgrade: Default::default(),
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
        databases: Default::default(),
        follows: None,
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
    let causes =
        explain(&app(Intent::Stop, None, Status::Stopped), &operations, &[], &[&environment(Presence::Available)], NOW);
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
