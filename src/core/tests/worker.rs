//! The worker on its own: without its ledger, without its entry after a reboot, with words from its own host, and between
//! two entries.

#![allow(clippy::unwrap_used, reason = "a test may fail so")]

#[path = "worker/database.rs"]
mod database;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nbs_core::effect::Effect;
use nbs_core::environment::{Environment, FoundLife, Input, Settings};
use nbs_core::id::{EntryId, Epoch, Generation, Reign, Run, Seq};
use nbs_core::launch::{Address, Places};
use nbs_core::name::{AppId, EnvironmentName, RuntimeName};
use nbs_core::observation::{Answer, Fact, Identity, Observation};
use nbs_core::order::{Goal, InstanceReport, LocalAction, Order, Refusal, Report, RunGoal, Turn};
use nbs_core::phase::Phase;
use nbs_core::reason::{ExitOutcome, ReasonCode};
use nbs_core::recipe::{Adapter, Check, Listen, Ready, Recipe, StopSteps};
use nbs_core::record::LedgerRow;
use nbs_core::restart::RestartPolicy;
use nbs_core::secret::SecretText;
use nbs_core::shared::SecretSource;
use nbs_core::spec::{AppSpec, Limits, StartMode};
use nbs_core::template::Template;
use nbs_core::time::{Mono, Now, Wall};
use nbs_core::unit::Sandbox;

fn app(name: &str) -> AppId {
    AppId::parse(name).unwrap()
}

fn here() -> EnvironmentName {
    EnvironmentName::parse("env_a").unwrap()
}

fn runtime() -> RuntimeName {
    RuntimeName::parse("any").unwrap()
}

fn at(ms: u64) -> Now {
    Now { mono: Mono(Duration::from_millis(3_600_000 + ms)), wall: Wall(ms) }
}

fn recipe() -> Recipe {
    Recipe {
        name: runtime(),
        description: String::new(),
        command: vec![Template::parse("/bin/app").unwrap()],
        working_dir: None,
        app_dir: None,
        adapter: None,
        environment: BTreeMap::new(),
        listen: Listen::Port,
        strip_prefix: true,
        user: None,
        group: None,
        ready: Ready {
            check: Check::Tcp,
            interval: Duration::from_millis(50),
            timeout: Duration::from_secs(5),
            max_timeout: Duration::from_secs(9),
        },
        alive: None,
        version: None,
        prepare: Vec::new(),
        stop: StopSteps::default(),
        restart: RestartPolicy::default(),
        limits: Limits::default(),
        max_limits: Limits::default(),
        paths: Default::default(),
        app_id_pattern: None,
        sandbox: Sandbox::Standard,
        unit: Vec::new(),
        shared: None,
        upkeep: Default::default(),
    }
}

fn secrets() -> SecretSource {
    SecretSource(Arc::new(|name| SecretText::new(name)))
}

fn settings() -> Settings {
    Settings {
        places: Places {
            state_root: "/state".into(),
            run_root: "/run".into(),
            environment: here(),
            time_zone: None,
            databases: Default::default(),
        },
        port_range: 2000..=2010,
        concurrent_starts: 1,
        version: "1".into(),
        boot: "boot".into(),
        adapter: Adapter::Process,
        host: "host".into(),
        url: None,
        proxy_url: None,
        capacity: None,
        autonomous: true,
        start_without_entry_after: None,
        secrets: secrets(),
    }
}

fn environment(settings: Settings, rows: Vec<LedgerRow>) -> Environment {
    Environment::new(settings, BTreeMap::from([(runtime(), Arc::new(recipe()))]), rows, None)
}

fn reign(epoch: u64, entry: &str) -> Reign {
    Reign { epoch: Epoch(epoch), entry: EntryId::parse(entry).unwrap() }
}

fn spec(name: &str) -> AppSpec {
    AppSpec { start_mode: StartMode::WithSupervisor, ..AppSpec::minimal(app(name), runtime(), here()) }
}

fn run(spec: AppSpec, intent: u64, start: u64, turn: Option<u64>) -> Order {
    let turn = turn.map(|number| Turn { accept_by: Duration::from_secs(10), number });
    let app = spec.name.clone();
    let goal = RunGoal {
        start_seq: Seq(start),
        spec: Arc::new(spec),
        jwt: SecretText::new(""),
        db_secret: SecretText::new(""),
        upgrade_seq: Seq(0),
        installed: None,
        turn,
    };
    Order { app, reign: reign(1, "e1"), generation: Generation(1), intent_seq: Seq(intent), goal: Goal::Run(goal) }
}

fn to(goal: Goal, intent: u64) -> Order {
    Order { app: app("a"), reign: reign(1, "e1"), generation: Generation(1), intent_seq: Seq(intent), goal }
}

fn order(order: Order) -> Input {
    Input::Order(order, Duration::ZERO)
}

fn identity() -> Identity {
    Identity { pid: 7, start_ticks: 7, boot: "boot".into(), invocation: None }
}

fn stray(seq: u64) -> FoundLife {
    let run = Run { seq: Seq(seq), attempt: 0 };
    FoundLife { app: app("a"), run, identity: Some(identity()), adapter: Adapter::Process, port: Some(2003) }
}

fn fact(environment: &mut Environment, ms: u64, name: &str, fact: Fact) -> Vec<Effect> {
    let run = report(environment, name).run;
    environment.step(at(ms), Input::Observed(Observation { app: app(name), run, fact }))
}

fn report(environment: &Environment, name: &str) -> InstanceReport {
    environment.reports().into_iter().find(|report| report.app == app(name)).unwrap()
}

fn phase(environment: &Environment, name: &str) -> Phase {
    report(environment, name).phase
}

fn becomes_running(environment: &mut Environment, ms: u64, name: &str) {
    fact(environment, ms, name, Fact::Spawned { identity: identity(), notes: Vec::new() });
    fact(environment, ms, name, Fact::Readiness(Answer::Ready));
    assert_eq!(phase(environment, name), Phase::Running);
}

/// What the ledger holds after these effects.
fn ledger(effects: Vec<Effect>) -> Vec<LedgerRow> {
    let mut rows = BTreeMap::new();
    for effect in effects {
        if let Effect::Remember(row) = effect {
            rows.insert(row.app.clone(), *row);
        }
    }
    rows.into_values().collect()
}

fn touches_a_process(effects: &[Effect]) -> bool {
    let touches =
        |effect: &Effect| matches!(effect, Effect::Spawn(_) | Effect::Signal { .. } | Effect::KillTree { .. });
    effects.iter().any(touches)
}

fn starts(effects: &[Effect]) -> Vec<String> {
    let of = |effect: &Effect| match effect {
        Effect::Spawn(launch) => Some(format!("{} {}", launch.app, launch.run)),
        _ => None,
    };
    effects.iter().filter_map(of).collect()
}

fn refusal(effects: &[Effect]) -> Option<Refusal> {
    effects.iter().find_map(|effect| match effect {
        Effect::Report(Report::Refused { why, .. }) => Some(*why),
        _ => None,
    })
}

fn after_lost_ledger(seq: u64) -> Environment {
    let mut environment = environment(settings(), Vec::new());
    let effects = environment.recover(at(0), Vec::new(), vec![stray(seq)], true);
    assert!(!touches_a_process(&effects), "{effects:?}");
    environment
}

#[test]
fn an_app_whose_ledger_was_lost_is_taken_up_as_it_runs_and_told_before() {
    let mut environment = after_lost_ledger(5);
    let told = report(&environment, "a");
    assert_eq!((told.intent_seq, told.run.seq, told.phase), (Seq(0), Seq(5), Phase::Starting));
    let effects = environment.step(at(1), Input::Intent(run(spec("a"), 6, 5, None)));
    assert!(!touches_a_process(&effects), "{effects:?}");
    assert!(effects.contains(&Effect::Adopt(stray(5))), "{effects:?}");
    let told = report(&environment, "a");
    assert_eq!((told.intent_seq, told.in_turn), (Seq(6), true));
    assert_eq!(told.address, Some(Address::Port(2003)));
    fact(&mut environment, 2, "a", Fact::Readiness(Answer::Ready));
    let told = report(&environment, "a");
    assert_eq!((told.phase, told.run.seq, told.in_turn), (Phase::Running, Seq(5), false));
}

#[test]
fn a_stray_that_ended_meanwhile_is_restarted_like_any_other_crash() {
    let mut environment = after_lost_ledger(5);
    environment.step(at(1), order(run(spec("a"), 5, 5, Some(1))));
    let ended = Fact::Exited { outcome: ExitOutcome::Unknown, cause: None, last_log: Vec::new(), leftovers: false };
    fact(&mut environment, 2, "a", ended);
    assert_eq!(phase(&environment, "a"), Phase::Backoff);
}

#[test]
fn a_stray_of_another_start_goes_before_the_ordered_one_begins() {
    let mut environment = after_lost_ledger(5);
    let early = environment.step(at(1), Input::Intent(run(spec("a"), 7, 7, None)));
    assert!(early.is_empty(), "nothing is started, and so nothing stopped, without a turn: {early:?}");
    let effects = environment.step(at(2), order(run(spec("a"), 7, 7, Some(1))));
    assert!(starts(&effects).is_empty() && touches_a_process(&effects), "{effects:?}");
    let ended = Fact::Exited { outcome: ExitOutcome::Code(0), cause: None, last_log: Vec::new(), leftovers: false };
    fact(&mut environment, 3, "a", ended);
    let effects = fact(&mut environment, 4, "a", Fact::TreeGone);
    assert_eq!(starts(&effects), ["a 7.0"]);
}

#[test]
fn a_stray_is_stopped_or_removed_when_the_entry_says_so() {
    for goal in [Goal::Stop, Goal::Remove { purge_data: false, drop: None }] {
        let mut environment = after_lost_ledger(5);
        let effects = environment.step(at(1), order(to(goal, 9)));
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Signal { .. })), "{effects:?}");
        assert_eq!(phase(&environment, "a"), Phase::Stopping);
    }
}

/// Apps that run with these specs, as their ledger remembers them.
fn running(specs: &[AppSpec]) -> Vec<LedgerRow> {
    let mut environment = environment(Settings { concurrent_starts: 9, ..settings() }, Vec::new());
    let mut effects = Vec::new();
    for (i, spec) in specs.iter().enumerate() {
        let start = i as u64 + 1;
        effects.extend(environment.step(at(0), order(run(spec.clone(), start, start, Some(start)))));
        let notes = Vec::new();
        effects.extend(fact(&mut environment, 0, spec.name.as_str(), Fact::Spawned { identity: identity(), notes }));
        effects.extend(fact(&mut environment, 0, spec.name.as_str(), Fact::Readiness(Answer::Ready)));
    }
    ledger(effects)
}

fn elsewhere_too(name: &str) -> AppSpec {
    let mut spec = spec(name);
    spec.environments.insert(EnvironmentName::parse("env_b").unwrap());
    spec
}

#[test]
fn after_a_reboot_apps_that_are_only_here_come_back_alone_as_slots_allow() {
    let rows = running(&[spec("a"), spec("b"), spec("c")]);
    let mut environment = environment(settings(), rows);
    let effects = environment.recover(at(0), Vec::new(), Vec::new(), false);
    assert_eq!(starts(&effects), ["a 1.1"], "the start is the one that was ordered last, its next attempt");
    assert_eq!((phase(&environment, "b"), phase(&environment, "c")), (Phase::Backoff, Phase::Backoff));
    assert!(report(&environment, "b").reason.is_some_and(|reason| reason.code == ReasonCode::Rebooted));
    fact(&mut environment, 1, "a", Fact::Spawned { identity: identity(), notes: Vec::new() });
    let effects = fact(&mut environment, 2, "a", Fact::Readiness(Answer::Ready));
    assert_eq!(starts(&effects), ["b 2.1"]);
}

#[test]
fn who_waits_for_a_slot_after_a_reboot_still_does_after_a_restart_of_the_daemon() {
    let mut first = environment(settings(), running(&[spec("a"), spec("b")]));
    let rows = ledger(first.recover(at(0), Vec::new(), Vec::new(), false));
    let mut second = environment(settings(), rows);
    let lives = second.expected_lives().into_iter().filter(|life| life.app == app("a"));
    let lives: Vec<FoundLife> = lives.map(|life| FoundLife { identity: Some(identity()), ..life }).collect();
    let effects = second.recover(at(10), lives, Vec::new(), true);
    assert!(starts(&effects).is_empty(), "{effects:?}");
    let effects = fact(&mut second, 11, "a", Fact::Readiness(Answer::Ready));
    assert_eq!(starts(&effects), ["b 2.1"]);
}

#[test]
fn after_a_reboot_the_rest_waits_for_the_entry() {
    let sleeper = AppSpec { start_mode: StartMode::OnFirstVisit, ..spec("b") };
    let manual = AppSpec { start_mode: StartMode::Manual, ..spec("c") };
    let rows = running(&[elsewhere_too("a"), sleeper, manual]);
    let mut environment = environment(settings(), rows);
    let effects = environment.recover(at(0), Vec::new(), Vec::new(), false);
    assert!(starts(&effects).is_empty(), "{effects:?}");
    assert!(["a", "b", "c"].into_iter().all(|name| phase(&environment, name) == Phase::Stopped));
}

#[test]
fn an_entry_in_the_same_daemon_decides_after_a_reboot() {
    let mut environment = environment(Settings { autonomous: false, ..settings() }, running(&[spec("a")]));
    let effects = environment.recover(at(0), Vec::new(), Vec::new(), false);
    assert!(starts(&effects).is_empty(), "{effects:?}");
    assert_eq!(phase(&environment, "a"), Phase::Stopped);
}

#[test]
fn an_app_of_several_environments_comes_back_alone_only_when_it_may_and_nobody_is_heard() {
    let patient = Settings { start_without_entry_after: Some(Duration::from_secs(60)), ..settings() };
    for heard in [false, true] {
        let mut environment = environment(patient.clone(), running(&[elsewhere_too("a")]));
        environment.recover(at(0), Vec::new(), Vec::new(), false);
        if heard {
            environment.heard_entry();
        }
        assert_eq!(environment.next_deadline().is_some(), !heard);
        assert!(starts(&environment.step(at(59_000), Input::Tick)).is_empty());
        assert_eq!(starts(&environment.step(at(60_000), Input::Tick)).is_empty(), heard);
    }
}

/// An instance in each phase that a local word can meet.
fn in_every_phase() -> Vec<(Phase, Environment, Vec<LedgerRow>)> {
    let mut environment = environment(settings(), Vec::new());
    let mut effects = environment.step(at(0), order(run(spec("a"), 5, 5, Some(1))));
    let mut all = vec![(Phase::Spawning, environment.clone(), ledger(effects.clone()))];
    effects.extend(fact(&mut environment, 1, "a", Fact::Spawned { identity: identity(), notes: Vec::new() }));
    all.push((Phase::Starting, environment.clone(), ledger(effects.clone())));
    effects.extend(fact(&mut environment, 2, "a", Fact::Readiness(Answer::Ready)));
    all.push((Phase::Running, environment.clone(), ledger(effects.clone())));
    let mut stopping = environment.clone();
    let stop = stopping.step(at(3), order(run(spec("a"), 6, 6, Some(2))));
    all.push((Phase::Stopping, stopping, ledger(effects.iter().cloned().chain(stop).collect())));
    let ended = Fact::Exited { outcome: ExitOutcome::Code(1), cause: None, last_log: Vec::new(), leftovers: false };
    effects.extend(fact(&mut environment, 3, "a", ended));
    all.push((Phase::Backoff, environment.clone(), ledger(effects)));
    assert!(all.iter().all(|(wanted, environment, _)| phase(environment, "a") == *wanted));
    all
}

/// Lets everything end that is being stopped, and says what was started then.
fn comes_to_rest(environment: &mut Environment) -> Vec<String> {
    let mut effects = fact(environment, 10, "a", Fact::Spawned { identity: identity(), notes: Vec::new() });
    let ended = Fact::Exited { outcome: ExitOutcome::Code(0), cause: None, last_log: Vec::new(), leftovers: false };
    if phase(environment, "a") == Phase::Stopping {
        effects.extend(fact(environment, 11, "a", ended));
        effects.extend(fact(environment, 12, "a", Fact::TreeGone));
    }
    starts(&effects)
}

fn local(action: LocalAction) -> Input {
    Input::Local { app: app("a"), action, actor: "root".into() }
}

#[test]
fn a_local_stop_holds_in_every_phase_against_all_that_only_says_again_what_was_said() {
    for (was, mut environment, _) in in_every_phase() {
        let intent = report(&environment, "a").intent_seq.0;
        let start = if was == Phase::Stopping { 6 } else { 5 };
        let mut effects = environment.step(at(4), local(LocalAction::Stop));
        assert!(comes_to_rest(&mut environment).is_empty(), "{was:?}");
        assert_eq!(phase(&environment, "a"), Phase::Stopped, "{was:?}");
        // The same order, the same as an intent, and a command for another environment.
        effects.extend(environment.step(at(20), order(run(spec("a"), intent, start, Some(3)))));
        effects.extend(environment.step(at(20), Input::Intent(run(spec("a"), intent, start, None))));
        effects.extend(environment.step(at(20), order(run(spec("a"), intent + 1, start, None))));
        assert!(starts(&effects).is_empty(), "{was:?} {effects:?}");
        assert_eq!(report(&environment, "a").intent_seq, Seq(intent + 1), "who asks is answered");
        assert!(report(&environment, "a").local.is_some(), "{was:?}");
        let later = environment.step(at(30), order(run(spec("a"), 20, 20, Some(9))));
        assert_eq!(starts(&later), ["a 20.0"], "{was:?}: a later command counts");
        assert!(report(&environment, "a").local.is_none());
    }
}

#[test]
fn a_local_stop_survives_a_restart_of_the_daemon_and_a_reboot() {
    for same_boot in [true, false] {
        let mut first = environment(settings(), Vec::new());
        let mut effects = first.step(at(0), order(run(spec("a"), 5, 5, Some(1))));
        effects.extend(fact(&mut first, 1, "a", Fact::Spawned { identity: identity(), notes: Vec::new() }));
        effects.extend(first.step(at(4), local(LocalAction::Stop)));
        let mut second = environment(settings(), ledger(effects));
        let lives = if same_boot { second.expected_lives() } else { Vec::new() };
        let effects = second.recover(at(5), lives, Vec::new(), same_boot);
        assert!(starts(&effects).is_empty(), "{effects:?}");
        assert!(comes_to_rest(&mut second).is_empty());
        assert_eq!(phase(&second, "a"), Phase::Stopped);
        let again = second.step(at(20), order(run(spec("a"), 5, 5, Some(2))));
        assert!(starts(&again).is_empty(), "{again:?}");
        let back = second.step(at(21), local(LocalAction::Restart));
        assert_eq!(starts(&back), ["a 5.1"]);
    }
}

#[test]
fn a_local_restart_works_in_every_phase_without_entry_and_turn() {
    for (was, mut environment, _) in in_every_phase() {
        let effects = environment.step(at(4), local(LocalAction::Restart));
        let mut begun = starts(&effects);
        begun.extend(comes_to_rest(&mut environment));
        assert_eq!(begun.len(), 1, "{was:?} {begun:?}");
        assert!(!report(&environment, "a").in_turn, "{was:?}");
        becomes_running(&mut environment, 20, "a");
    }
}

#[test]
fn a_local_restart_is_finished_by_the_next_daemon() {
    for found in [true, false] {
        let (_, mut first, mut rows) = in_every_phase().swap_remove(2);
        rows.extend(ledger(first.step(at(4), local(LocalAction::Restart))));
        let mut second = environment(settings(), vec![rows.pop().unwrap()]);
        let lives = if found { second.expected_lives() } else { Vec::new() };
        let mut effects = second.recover(at(5), lives, Vec::new(), true);
        let ended = Fact::Exited { outcome: ExitOutcome::Code(0), cause: None, last_log: Vec::new(), leftovers: false };
        effects.extend(fact(&mut second, 6, "a", ended));
        effects.extend(fact(&mut second, 7, "a", Fact::TreeGone));
        assert_eq!(starts(&effects), ["a 5.1"], "found: {found}");
    }
}

#[test]
fn orders_of_a_past_reign_or_of_another_entry_in_the_same_one_are_foreign() {
    let mut environment = environment(settings(), Vec::new());
    let by = |epoch, entry, intent| Order { reign: reign(epoch, entry), ..to(Goal::Stop, intent) };
    assert_eq!(refusal(&environment.step(at(0), order(by(3, "e1", 5)))), None);
    assert_eq!(refusal(&environment.step(at(0), order(by(2, "e1", 9)))), Some(Refusal::Foreign));
    assert_eq!(refusal(&environment.step(at(0), order(by(3, "e2", 9)))), Some(Refusal::Foreign));
    let effects = environment.step(at(0), order(by(4, "e2", 1)));
    assert_eq!(refusal(&effects), None);
    assert!(effects.contains(&Effect::Follow(reign(4, "e2"))), "{effects:?}");
    assert!(environment.step(at(0), Input::Intent(by(3, "e1", 9))).is_empty(), "nobody waits for an answer");
}

#[test]
fn a_worker_that_followed_nobody_follows_an_entry_of_any_epoch() {
    let mut environment = environment(settings(), Vec::new());
    let effects = environment.step(at(0), order(to(Goal::Stop, 1)));
    assert!(effects.contains(&Effect::Follow(reign(1, "e1"))), "{effects:?}");
}

#[test]
fn a_turn_is_used_once_also_when_it_was_given_back() {
    let mut environment = environment(settings(), Vec::new());
    environment.step(at(0), order(run(spec("a"), 1, 1, Some(1))));
    let busy = environment.step(at(0), order(run(spec("b"), 2, 2, Some(2))));
    assert_eq!(refusal(&busy), Some(Refusal::Busy));
    becomes_running(&mut environment, 1, "a");
    let copy = environment.step(at(2), order(run(spec("b"), 2, 2, Some(2))));
    assert_eq!(refusal(&copy), Some(Refusal::Late), "the entry has given that turn to another one");
    let fresh = environment.step(at(3), order(run(spec("b"), 2, 2, Some(3))));
    assert_eq!(starts(&fresh), ["b 2.0"]);
    let used = environment.step(at(4), order(run(spec("a"), 9, 9, Some(1))));
    assert_eq!(refusal(&used), Some(Refusal::Late));
}

#[test]
fn an_order_from_before_its_removal_does_not_bring_an_app_back() {
    let mut environment = environment(settings(), Vec::new());
    environment.step(at(0), order(to(Goal::Remove { purge_data: false, drop: None }, 7)));
    fact(&mut environment, 1, "a", Fact::CleanedUp);
    let late = environment.step(at(2), order(run(spec("a"), 5, 5, Some(1))));
    assert_eq!(refusal(&late), Some(Refusal::Stale));
    let again = environment.step(at(3), order(run(spec("a"), 8, 8, Some(2))));
    assert_eq!(starts(&again), ["a 8.0"]);
}
