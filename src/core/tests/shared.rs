//! Apps that share a process: what they may never do to each other, and what ends and returns with their host.

#![allow(clippy::unwrap_used, reason = "a test may fail so")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nbs_core::effect::Effect;
use nbs_core::environment::{Environment, FoundLife, Input, Settings};
use nbs_core::id::{EntryId, Epoch, Generation, Reign, Run, Seq};
use nbs_core::launch::{Address, Places};
use nbs_core::name::{AppId, EnvironmentName, RuntimeName};
use nbs_core::observation::{Answer, Fact, Identity, Observation, SpawnFailure, SpawnFailureKind};
use nbs_core::order::{Goal, InstanceReport, Order, Report, RunGoal, Select, Turn};
use nbs_core::phase::Phase;
use nbs_core::reason::{ExitOutcome, Reason, ReasonCode};
use nbs_core::recipe::{Adapter, Check, HttpProbe, Listen, Ready, Recipe, StopSteps};
use nbs_core::record::LedgerRow;
use nbs_core::restart::RestartPolicy;
use nbs_core::secret::SecretText;
use nbs_core::shared::{Body, Call, Expect, Listed, Listing, Login, Method, SecretSource, Shared, host_of};
use nbs_core::spec::{AppSpec, Hosting, Limits, StartMode};
use nbs_core::template::Template;
use nbs_core::time::{Mono, Now, Wall};
use nbs_core::unit::Sandbox;
use proptest::prelude::*;

const HOST: &str = "nbs-host-web";

fn app(name: &str) -> AppId {
    AppId::parse(name).unwrap()
}

fn here() -> EnvironmentName {
    EnvironmentName::parse("env_a").unwrap()
}

fn runtime() -> RuntimeName {
    RuntimeName::parse("web").unwrap()
}

fn at(ms: u64) -> Now {
    Now { mono: Mono(Duration::from_millis(3_600_000 + ms)), wall: Wall(ms) }
}

fn text(template: &str) -> Template {
    Template::parse(template).unwrap()
}

fn ready(path: &str) -> Ready {
    let (path, status) = (text(path), None);
    let check = Check::Http(HttpProbe { path, status, expect_body: None, progress: None, failed_if: None });
    let (interval, timeout) = (Duration::from_millis(50), Duration::from_secs(5));
    Ready { check, interval, timeout, max_timeout: timeout }
}

fn call(method: Method, path: &str) -> Call {
    Call {
        method,
        path: text(path),
        headers: BTreeMap::new(),
        body: None,
        expect: Expect::default(),
        timeout: Duration::from_secs(1),
    }
}

fn shared() -> Shared {
    let body = BTreeMap::from([
        ("name".to_string(), Body::Text(text("{app}"))),
        ("secret".to_string(), Body::Text(text("{secret.jwt}"))),
    ]);
    let login = Call { body: Some(Body::Text(text("{secret.ROOT}"))), ..call(Method::Post, "/login") };
    Shared {
        host: host_of(&runtime()).unwrap(),
        env: BTreeMap::from([("ROOT_PASSWORD".to_string(), text("{secret.ROOT}"))]),
        database: None,
        limits: Limits::default(),
        select: Select::by_header("X-App"),
        login: Some(Login { call: login, token: "t".into(), header: "Authorization".into(), value: "{token}".into() }),
        setup: Vec::new(),
        list: Listing {
            call: call(Method::Get, "/apps"),
            items: String::new(),
            name: "name".into(),
            status: "status".into(),
            message: None,
            running: vec!["running".into()],
            stopped: Vec::new(),
            failed: Vec::new(),
            busy: Vec::new(),
            interval: Duration::from_secs(5),
        },
        create: Some(Call { body: Some(Body::Table(body)), ..call(Method::Post, "/apps") }),
        update: None,
        start: call(Method::Post, "/start?app={app}&note={env.NOTE}"),
        stop: call(Method::Post, "/stop?app={app}"),
        stop_timeout: Duration::from_secs(1),
        remove: Some(call(Method::Delete, "/apps/{app}")),
        upgrade: None,
        ready: ready("/apps/{app}/health"),
        alive: None,
        version: None,
    }
}

fn recipe() -> Recipe {
    Recipe {
        name: runtime(),
        description: String::new(),
        command: vec![text("/bin/host")],
        working_dir: None,
        app_dir: None,
        adapter: None,
        environment: BTreeMap::from([("PORT".to_string(), text("{port}"))]),
        listen: Listen::Port,
        strip_prefix: true,
        user: None,
        group: None,
        ready: ready("/health"),
        alive: None,
        version: None,
        prepare: Vec::new(),
        stop: StopSteps::default(),
        restart: RestartPolicy { burst: 2, ..RestartPolicy::default() },
        limits: Limits::default(),
        max_limits: Limits::default(),
        app_id_pattern: None,
        sandbox: Sandbox::Standard,
        unit: Vec::new(),
        paths: Default::default(),
        shared: Some(Arc::new(shared())),
        upkeep: Default::default(),
    }
}

fn settings() -> Settings {
    Settings {
        places: Places {
            state_root: "/state".into(),
            run_root: "/run".into(),
            environment: here(),
            time_zone: None,
            databases: BTreeMap::new(),
        },
        port_range: 2000..=2010,
        concurrent_starts: 9,
        version: "1".into(),
        boot: "boot".into(),
        adapter: Adapter::Process,
        host: "host".into(),
        url: None,
        proxy_url: None,
        capacity: None,
        autonomous: false,
        start_without_entry_after: None,
        secrets: SecretSource(Arc::new(|name| SecretText::new(format!("derived {name}")))),
    }
}

fn environment(rows: Vec<LedgerRow>) -> Environment {
    Environment::new(settings(), BTreeMap::from([(runtime(), Arc::new(recipe()))]), rows, None)
}

fn order(name: &str, seq: u64, goal: Goal) -> Input {
    let reign = Reign { epoch: Epoch(1), entry: EntryId::parse("e").unwrap() };
    let order = Order { app: app(name), reign, generation: Generation(1), intent_seq: Seq(seq), goal };
    Input::Order(order, Duration::ZERO)
}

fn run(name: &str, seq: u64, hosting: Hosting) -> Input {
    let mut spec = AppSpec::minimal(app(name), runtime(), here());
    (spec.hosting, spec.start_mode) = (hosting, StartMode::WithSupervisor);
    spec.env.insert("NOTE".into(), "a&b".into());
    let turn = Some(Turn { accept_by: Duration::from_secs(10), number: seq });
    order(
        name,
        seq,
        Goal::Run(RunGoal {
            start_seq: Seq(seq),
            spec: Arc::new(spec),
            jwt: SecretText::new("j"),
            db_secret: SecretText::new("d"),
            upgrade_seq: Seq(0),
            installed: None,
            turn,
        }),
    )
}

fn process(pid: u32) -> Identity {
    Identity { pid, start_ticks: u64::from(pid), boot: "boot".into(), invocation: None }
}

/// The worker and what it has asked for, as a small world of its own.
struct Scene {
    environment: Environment,
    effects: Vec<Effect>,
    runs: BTreeMap<AppId, Run>,
    rows: BTreeMap<AppId, LedgerRow>,
    ms: u64,
}

impl Scene {
    fn new() -> Self {
        let (effects, runs, rows) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        Self { environment: environment(Vec::new()), effects, runs, rows, ms: 0 }
    }

    fn step(&mut self, input: Input) -> Vec<Effect> {
        self.ms += 10;
        let effects = self.environment.step(at(self.ms), input);
        self.note(&effects);
        effects
    }

    fn note(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Spawn(launch) => _ = self.runs.insert(launch.app.clone(), launch.run),
                Effect::Remember(row) => _ = self.rows.insert(row.app.clone(), (**row).clone()),
                Effect::Forget(app) => _ = self.rows.remove(app),
                _ => {}
            }
        }
        self.effects.extend_from_slice(effects);
    }

    fn fact(&mut self, name: &str, fact: Fact) -> Vec<Effect> {
        let run = self.runs.get(&app(name)).copied().unwrap_or_default();
        self.step(Input::Observed(Observation { app: app(name), run, fact }))
    }

    fn report(&self, name: &str) -> InstanceReport {
        self.environment.reports().into_iter().find(|report| report.app == app(name)).unwrap()
    }

    fn phase(&self, name: &str) -> Phase {
        self.report(name).phase
    }

    /// The host's process is started as this one, and ready.
    fn host_runs(&mut self, pid: u32) -> Vec<Effect> {
        self.fact(HOST, Fact::Spawned { identity: process(pid), notes: Vec::new() });
        self.fact(HOST, Fact::Readiness(Answer::Ready))
    }

    fn member_runs(&mut self, name: &str, pid: u32) {
        self.fact(name, Fact::Spawned { identity: process(pid), notes: Vec::new() });
        self.fact(name, Fact::Readiness(Answer::Ready));
        assert_eq!(self.phase(name), Phase::Running);
    }

    /// These apps run in a host.
    fn with(names: &[&str]) -> Self {
        let mut scene = Self::new();
        for (i, name) in names.iter().enumerate() {
            scene.step(run(name, i as u64 + 1, Hosting::Shared));
            if i == 0 {
                scene.host_runs(7);
            }
            scene.member_runs(name, 7);
        }
        scene.effects.clear();
        scene
    }
}

fn exited(signal: i32) -> Fact {
    Fact::Exited { outcome: ExitOutcome::Signal(signal), cause: None, last_log: Vec::new(), leftovers: false }
}

fn spawned(effects: &[Effect]) -> Vec<String> {
    let of = |effect: &Effect| match effect {
        Effect::Spawn(launch) => Some(launch.app.to_string()),
        _ => None,
    };
    effects.iter().filter_map(of).collect()
}

/// Whose life an effect ends.
fn ended(effects: &[Effect]) -> Vec<String> {
    let of = |effect: &Effect| match effect {
        Effect::Signal { app, .. } | Effect::KillTree { app, .. } => Some(app.to_string()),
        _ => None,
    };
    effects.iter().filter_map(of).collect()
}

#[test]
fn the_first_app_brings_the_host_and_waits_for_it_and_the_last_takes_it_away() {
    let mut scene = Scene::new();
    let effects = scene.step(run("a", 1, Hosting::Shared));
    assert_eq!(spawned(&effects), [HOST], "the host first");
    assert_eq!((scene.phase("a"), scene.report("a").in_turn), (Phase::Spawning, true));
    let waiting = Answer::NotYet { saw: "x".into(), progress: Some("loading 3/7".into()), failed: false };
    scene.fact(HOST, Fact::Spawned { identity: process(7), notes: Vec::new() });
    scene.fact(HOST, Fact::Readiness(waiting));
    assert_eq!(scene.report("a").progress.as_deref(), Some("loading 3/7"), "its host's progress is its own");
    let effects = scene.fact(HOST, Fact::Readiness(Answer::Ready));
    assert_eq!(spawned(&effects), ["a"]);
    let launch = effects.iter().find_map(|effect| match effect {
        Effect::Spawn(launch) => Some(launch.clone()),
        _ => None,
    });
    let launch = launch.unwrap();
    let plan = launch.member.as_ref().unwrap();
    assert_eq!((launch.adapter(), launch.address.clone()), (Adapter::Shared, Some(Address::Port(2000))));
    assert_eq!(plan.start.path, "/start?app=a&note=a%26b", "a value cannot become a second parameter");
    let body = plan.create.as_ref().and_then(|request| request.body.clone());
    let wanted = [("name", "a"), ("secret", "j")].map(|(k, v)| (k.to_string(), Body::Text(v.to_string())));
    assert_eq!(body, Some(Body::Table(BTreeMap::from(wanted))));
    scene.member_runs("a", 7);
    let report = scene.report("a");
    assert_eq!((report.pid, report.address), (Some(7), Some(Address::Port(2000))));
    assert_eq!(report.select, Select::by_header("X-App"));
    scene.step(order("a", 2, Goal::Stop));
    let effects = scene.fact("a", Fact::TreeGone);
    assert_eq!(scene.phase("a"), Phase::Stopped);
    assert_eq!(ended(&effects), [HOST], "nobody needs it any more");
}

#[test]
fn a_host_is_in_no_report_and_takes_no_orders() {
    let mut scene = Scene::with(&["a"]);
    assert_eq!(scene.environment.reports().len(), 1);
    let effects = scene.step(order(HOST, 9, Goal::Stop));
    assert!(ended(&effects).is_empty(), "{effects:?}");
    let all = scene.effects.iter().chain(&effects);
    let told =
        all.filter(|effect| matches!(effect, Effect::Report(Report::Instance(report)) if report.app == app(HOST)));
    assert_eq!(told.count(), 0);
    let local = Input::Local { app: app(HOST), action: nbs_core::order::LocalAction::Stop, actor: "root".into() };
    assert!(scene.step(local).is_empty());
}

#[test]
fn the_secrets_of_a_host_are_derived_and_the_same_in_its_variables_and_its_login() {
    let mut scene = Scene::new();
    let effects = scene.step(run("a", 1, Hosting::Shared));
    let password = effects.iter().find_map(|effect| match effect {
        Effect::Spawn(launch) => launch.env.get("ROOT_PASSWORD").cloned(),
        _ => None,
    });
    let effects = scene.host_runs(7);
    let login = effects.iter().find_map(|effect| match effect {
        Effect::HostUp(plan) => plan.login.as_ref().and_then(|login| login.call.body.clone()),
        _ => None,
    });
    assert_eq!(password.as_deref(), Some("derived nbs-host-web/ROOT"));
    assert_eq!(login, password.map(Body::Text));
    assert!(!format!("{effects:?}").contains("derived"), "no secret is printed");
}

#[test]
fn a_crash_of_the_host_restarts_all_its_apps_and_nobody_else_and_uses_up_no_attempts() {
    let mut scene = Scene::with(&["a", "b"]);
    scene.step(run("c", 5, Hosting::Dedicated));
    scene.fact("c", Fact::Spawned { identity: process(99), notes: Vec::new() });
    scene.fact("c", Fact::Readiness(Answer::Ready));
    // More often than an app's own policy bears (burst 2).
    for pid in [8, 9] {
        let effects = scene.fact(HOST, exited(9));
        assert_eq!(ended(&effects), [HOST], "what is left of the host itself");
        for name in ["a", "b"] {
            let report = scene.report(name);
            assert_eq!(report.phase, Phase::Backoff);
            let reason = report.reason.unwrap();
            assert_eq!(reason.code, ReasonCode::HostEnded);
            assert!(reason.text.contains(HOST) && reason.text.contains("SIGKILL"), "{reason}");
        }
        assert_eq!(scene.phase("c"), Phase::Running);
        let due = scene.environment.next_deadline().unwrap();
        scene.ms = due.since(at(0).mono).as_millis() as u64;
        assert_eq!(spawned(&scene.step(Input::Tick)), [HOST]);
        assert_eq!(spawned(&scene.host_runs(pid)), ["a", "b"]);
        scene.member_runs("a", pid);
        scene.member_runs("b", pid);
    }
    assert_eq!((scene.report("a").restarts, scene.report("c").restarts), (2, 0));
}

#[test]
fn when_a_host_gives_up_its_apps_fail_with_its_reason_and_come_back_with_it() {
    let mut scene = Scene::with(&["a", "b"]);
    let failure =
        SpawnFailure { reason: Reason::new(ReasonCode::MissingBinary, "gone"), kind: SpawnFailureKind::Permanent };
    scene.fact(HOST, exited(9));
    let due = scene.environment.next_deadline().unwrap();
    scene.ms = due.since(at(0).mono).as_millis() as u64;
    scene.step(Input::Tick);
    scene.fact(HOST, Fact::SpawnFailed(failure));
    for name in ["a", "b"] {
        let report = scene.report(name);
        assert_eq!(
            (report.phase, report.reason.as_ref().map(|r| r.code)),
            (Phase::Failed, Some(ReasonCode::HostEnded))
        );
        assert!(report.reason.unwrap().text.contains("gone"));
    }
    let effects = scene.step(run("a", 9, Hosting::Shared));
    assert_eq!(spawned(&effects), [HOST], "whoever asks for one of them asks for the host");
    assert_eq!(spawned(&scene.host_runs(8)), ["a", "b"]);
}

#[test]
fn a_stopped_app_that_its_host_runs_is_stopped_again_and_again() {
    let mut scene = Scene::with(&["a", "b"]);
    scene.step(order("a", 9, Goal::Stop));
    scene.fact("a", Fact::TreeGone);
    for _ in 0..3 {
        let effects = scene.fact("a", Fact::Listed(Listed::Running));
        assert_eq!(ended(&effects), ["a"]);
        assert_eq!(scene.phase("a"), Phase::Stopped);
    }
    scene.fact("a", Fact::TreeGone);
    assert_eq!((scene.phase("a"), scene.phase("b")), (Phase::Stopped, Phase::Running));
}

#[test]
fn an_app_that_its_host_lists_as_stopped_or_failed_is_started_again() {
    for (listed, word) in [(Listed::Stopped, "stopped"), (Listed::Failed(Some("no database".into())), "no database")] {
        let mut scene = Scene::with(&["a", "b"]);
        scene.fact("a", Fact::Listed(listed));
        let reason = scene.report("a").reason.unwrap();
        assert!(reason.code == ReasonCode::NotInHost && reason.text.contains(word), "{reason}");
        scene.fact("a", Fact::TreeGone);
        assert_eq!((scene.phase("a"), scene.phase("b")), (Phase::Backoff, Phase::Running));
        assert_eq!(ended(&scene.effects), ["a"]);
    }
}

#[test]
fn an_app_that_its_host_does_not_stop_is_not_said_to_be_stopped_until_it_is() {
    let mut scene = Scene::with(&["a", "b"]);
    scene.step(order("a", 9, Goal::Stop));
    scene.fact("a", Fact::NotStopped(Reason::new(ReasonCode::HostRefused, "no")));
    assert_eq!(scene.phase("a"), Phase::Failed);
    assert_eq!(ended(&scene.fact("a", Fact::Listed(Listed::Running))), ["a"]);
    let effects = scene.step(order("a", 10, Goal::Stop));
    assert_eq!((scene.phase("a"), ended(&effects)), (Phase::Stopping, vec!["a".to_string()]));
    scene.fact("a", Fact::TreeGone);
    assert_eq!(scene.phase("a"), Phase::Stopped);
}

#[test]
fn a_start_after_a_refused_stop_waits_for_it_and_has_it_asked_for_again() {
    let mut scene = Scene::with(&["a", "b"]);
    let former = scene.runs[&app("a")];
    let of_former = |fact| Input::Observed(Observation { app: app("a"), run: former, fact });
    scene.step(order("a", 9, Goal::Stop));
    scene.fact("a", Fact::NotStopped(Reason::new(ReasonCode::HostRefused, "no")));
    let effects = scene.step(run("a", 10, Hosting::Shared));
    assert_eq!((scene.phase("a"), ended(&effects)), (Phase::Backoff, vec!["a".to_string()]));
    scene.step(of_former(Fact::NotStopped(Reason::new(ReasonCode::HostRefused, "no"))));
    let effects = scene.step(of_former(Fact::Listed(Listed::Running)));
    assert_eq!(ended(&effects), ["a"], "as long as it is listed, it is asked again");
    let effects = scene.step(of_former(Fact::TreeGone));
    assert_eq!((spawned(&effects), scene.phase("b")), (vec!["a".to_string()], Phase::Running));
}

#[test]
fn a_removed_app_is_taken_out_of_its_host_which_is_started_for_it_if_need_be() {
    let mut scene = Scene::with(&["a"]);
    scene.step(order("a", 9, Goal::Stop));
    scene.fact("a", Fact::TreeGone);
    scene.fact(HOST, exited(15));
    scene.fact(HOST, Fact::TreeGone);
    let effects = scene.step(order("a", 10, Goal::Remove { purge_data: false, drop: None }));
    assert_eq!(spawned(&effects), [HOST]);
    let effects = scene.host_runs(8);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::CleanUp { app, .. } if *app == self::app("a"))));
    assert!(ended(&effects).is_empty(), "it is kept up until the app is out of it");
    let effects = scene.fact("a", Fact::CleanedUp);
    assert!(effects.contains(&Effect::Forget(app("a"))));
    assert_eq!(ended(&effects), [HOST]);
    scene.fact(HOST, exited(15));
    scene.fact(HOST, Fact::TreeGone);
    scene.fact(HOST, Fact::CleanedUp);
    assert!(scene.rows.is_empty(), "with its last app the host is forgotten too");
}

#[test]
fn after_a_restart_of_the_daemon_the_host_is_found_first_and_its_apps_in_it() {
    for (found, runs) in [(7, true), (8, false)] {
        let mut scene = Scene::with(&["a", "b"]);
        scene.step(order("b", 9, Goal::Stop));
        scene.fact("b", Fact::TreeGone);
        let rows: Vec<LedgerRow> = scene.rows.values().cloned().collect();
        let mut second = environment(rows);
        let expected = second.expected_lives();
        assert_eq!(expected.iter().map(|life| life.app.as_str()).collect::<Vec<_>>(), [HOST], "only it has a process");
        let alive = expected.into_iter().map(|life| FoundLife { identity: Some(process(found)), ..life });
        let effects = second.recover(at(scene.ms + 1000), alive.collect(), Vec::new(), true);
        let report = |name: &str| second.reports().into_iter().find(|report| report.app == app(name)).unwrap();
        let up = effects.iter().position(|effect| matches!(effect, Effect::HostUp(_)));
        assert_eq!(up.is_some(), runs, "one that was started again meanwhile is asked first whether it is ready");
        let known =
            effects.iter().position(|effect| matches!(effect, Effect::Member { app, .. } if *app == self::app("a")));
        assert!(up.is_none_or(|up| known.is_some_and(|known| up < known)));
        assert_eq!(report("a").phase, if runs { Phase::Running } else { Phase::Backoff });
        assert_eq!(report("b").phase, Phase::Stopped);
        assert!(spawned(&effects).is_empty() && !ended(&effects).contains(&"a".to_string()), "{effects:?}");
    }
}

#[test]
fn an_app_that_moves_out_of_its_host_is_stopped_there_before_it_has_a_process_of_its_own() {
    let mut scene = Scene::with(&["a", "b"]);
    let effects = scene.step(run("a", 9, Hosting::Dedicated));
    assert!(
        matches!(&effects[..], [.., Effect::KillTree { adapter: Adapter::Shared, .. }, Effect::Report(_)]),
        "{effects:?}"
    );
    let effects = scene.fact("a", Fact::TreeGone);
    assert_eq!(spawned(&effects), ["a"]);
    assert_eq!(scene.report("a").adapter, Adapter::Process);
    scene.fact("a", Fact::Spawned { identity: process(50), notes: Vec::new() });
    scene.fact("a", Fact::Readiness(Answer::Ready));
    // Its former host wakes it: there it is stopped, and its own process is left alone.
    let former = Run { seq: Seq(1), attempt: 0 };
    let fact = Fact::Listed(Listed::Running);
    let effects = scene.step(Input::Observed(Observation { app: app("a"), run: former, fact }));
    assert!(
        matches!(&effects[..], [Effect::KillTree { run, adapter: Adapter::Shared, .. }] if *run == former),
        "{effects:?}"
    );
    assert_eq!(scene.phase("a"), Phase::Running);
}

proptest! {
    /// Whatever happens to one app in a host, and in whatever order: nobody else in it is signalled, stopped or restarted,
    /// and neither is the host.
    #[test]
    fn what_happens_to_one_app_leaves_the_others_alone(steps in prop::collection::vec((0u8..9, 0u64..4), 1..60)) {
        let mut scene = Scene::with(&["a", "b", "c"]);
        for (i, (what, detail)) in steps.into_iter().enumerate() {
            let seq = 10 + i as u64;
            let refused = Reason::new(ReasonCode::HostRefused, "no");
            let failure = SpawnFailure { reason: refused.clone(), kind: SpawnFailureKind::Transient };
            scene.ms += detail * 900;
            match what {
                0 => drop(scene.step(run("a", seq, Hosting::Shared))),
                1 => drop(scene.step(order("a", seq, Goal::Stop))),
                2 => drop(scene.fact("a", Fact::Spawned { identity: process(7), notes: Vec::new() })),
                3 => drop(scene.fact("a", Fact::Readiness(Answer::Ready))),
                4 => drop(scene.fact("a", Fact::TreeGone)),
                5 => drop(scene.fact("a", Fact::NotStopped(refused))),
                6 => drop(scene.fact("a", Fact::SpawnFailed(failure))),
                7 => drop(scene.fact("a", Fact::Listed(if detail < 2 { Listed::Running } else { Listed::Stopped }))),
                _ => drop(scene.step(Input::Tick)),
            }
            for name in ["b", "c"] {
                let report = scene.report(name);
                prop_assert_eq!((report.phase, report.restarts), (Phase::Running, 0));
            }
        }
        let others = |name: &String| name != "a";
        prop_assert!(!ended(&scene.effects).iter().any(others), "{:?}", ended(&scene.effects));
        prop_assert!(!spawned(&scene.effects).iter().any(others));
    }
}
