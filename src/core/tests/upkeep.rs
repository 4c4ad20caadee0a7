//! Upgrades, moves and other secrets across environments: an entry and real workers' brains, told what happens by hand.

#![allow(clippy::unwrap_used, reason = "a test may fail so")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use nbs_core::choice::{self, AllHere, Choice, Wish};
use nbs_core::command::{Action, Command, Denied, Verdict};
use nbs_core::effect::Effect;
use nbs_core::environment::{Environment, Input, Settings};
use nbs_core::fleet::{Fleet, Standing};
use nbs_core::id::{EntryId, Epoch, OperationId, Reign, Run};
use nbs_core::launch::Places;
use nbs_core::name::{AppId, EnvironmentName, RuntimeName};
use nbs_core::observation::{Answer, Fact, HookFailure, Identity, Observation};
use nbs_core::order::Report;
use nbs_core::phase::{Phase, Status};
use nbs_core::reason::ExitOutcome;
use nbs_core::recipe::{Adapter, Check, Hook, HookId, HookKind, Listen, Ready, Recipe, StopSteps, Upkeep};
use nbs_core::record::Recovered;
use nbs_core::restart::RestartPolicy;
use nbs_core::secret::SecretText;
use nbs_core::shared::SecretSource;
use nbs_core::spec::{AppSpec, Limits, Placement, StartMode};
use nbs_core::template::Template;
use nbs_core::time::{Mono, Now, Wall};
use nbs_core::unit::Sandbox;
use nbs_core::view::{OperationStatus, OperationView};

fn app() -> AppId {
    AppId::parse("a").unwrap()
}

fn place(name: &str) -> EnvironmentName {
    EnvironmentName::parse(name).unwrap()
}

fn runtime() -> RuntimeName {
    RuntimeName::parse("any").unwrap()
}

fn recipe() -> Recipe {
    let hook = |path: &str| Hook { command: vec![Template::parse(path).unwrap()], timeout: Duration::from_secs(5) };
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
        paths: Default::default(),
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
        app_id_pattern: None,
        sandbox: Sandbox::Standard,
        unit: Vec::new(),
        shared: None,
        upkeep: Upkeep {
            backup: vec![hook("/bin/backup")],
            upgrade: vec![hook("/bin/upgrade")],
            installed: Some(vec![Template::parse("/bin/version").unwrap()]),
            restart_on_file: None,
        },
    }
}

/// The entry and its workers; every effect that asks for an outcome gets one from `world`.
struct Rig {
    now: u64,
    fleet: Fleet,
    workers: BTreeMap<EnvironmentName, Environment>,
    ids: u128,
    /// What happened, in its order.
    story: Vec<String>,
    /// Environments in which a process ends before it is ready.
    broken: BTreeSet<EnvironmentName>,
    upgrade_fails: bool,
    installed: String,
    /// The variables of the last process in each environment.
    variables: BTreeMap<EnvironmentName, BTreeMap<String, String>>,
}

impl Rig {
    fn new(names: &[&str]) -> Self {
        let reign = Reign { epoch: Epoch(1), entry: EntryId::parse("entry").unwrap() };
        let now = Now { mono: Mono(Duration::from_secs(3600)), wall: Wall(0) };
        let mut rig = Self {
            now: 0,
            fleet: Fleet::new(Standing { reign, local: None }, Recovered::default(), now),
            workers: BTreeMap::new(),
            ids: 0,
            story: Vec::new(),
            broken: BTreeSet::new(),
            upgrade_fails: false,
            installed: "1".into(),
            variables: BTreeMap::new(),
        };
        for name in names {
            let settings = Settings {
                places: Places {
                    state_root: "/state".into(),
                    run_root: "/run".into(),
                    environment: place(name),
                    time_zone: None,
                    databases: Default::default(),
                },
                port_range: 2000..=2010,
                concurrent_starts: 2,
                version: "1".into(),
                boot: "boot".into(),
                adapter: Adapter::Process,
                host: "host".into(),
                url: None,
                proxy_url: None,
                capacity: None,
                autonomous: true,
                start_without_entry_after: None,
                secrets: SecretSource(Arc::new(|name| SecretText::new(format!("derived {name}")))),
            };
            let recipes = BTreeMap::from([(runtime(), Arc::new(recipe()))]);
            let worker = Environment::new(settings, recipes, Vec::new(), None);
            rig.hear(&place(name), worker.hello());
            rig.workers.insert(place(name), worker);
        }
        rig
    }

    fn at(&self) -> Now {
        Now { mono: Mono(Duration::from_millis(3_600_000 + self.now)), wall: Wall(self.now) }
    }

    fn hear(&mut self, from: &EnvironmentName, report: Report) {
        let now = self.at();
        self.fleet.observe(now, from, report, &mut || OperationId(0));
    }

    /// Until nothing follows any more.
    fn run(&mut self) {
        for _ in 0..400 {
            self.now += 100;
            let now = self.at();
            let names: Vec<EnvironmentName> = self.workers.keys().cloned().collect();
            let mut busy = false;
            let orders = self.fleet.settle(now).orders;
            let told = orders.into_iter().map(|(to, order)| (to, Input::Order(order, Duration::ZERO)));
            let ticks = names.into_iter().map(|name| (name, Input::Tick));
            for (to, input) in told.chain(ticks).collect::<Vec<_>>() {
                busy |= self.step(&to, input);
            }
            if !busy {
                return;
            }
        }
        panic!("it never comes to rest: {:#?}", self.story);
    }

    fn step(&mut self, at: &EnvironmentName, input: Input) -> bool {
        let now = self.at();
        let effects = self.workers.get_mut(at).unwrap().step(now, input);
        let busy = !effects.is_empty();
        let mut facts = Vec::new();
        for effect in effects {
            match effect {
                Effect::Report(report) => self.hear(at, report),
                other => facts.extend(self.world(at, other)),
            }
        }
        for (run, fact) in facts {
            self.step(at, Input::Observed(Observation { app: app(), run, fact }));
        }
        busy
    }

    fn world(&mut self, at: &EnvironmentName, effect: Effect) -> Vec<(Run, Fact)> {
        let identity = Identity { pid: 7, start_ticks: 7, boot: "boot".into(), invocation: None };
        let ended = |outcome| Fact::Exited { outcome, cause: None, last_log: Vec::new(), leftovers: false };
        match effect {
            Effect::Spawn(launch) => {
                self.story.push(format!("{at} starts"));
                self.variables.insert(at.clone(), launch.env.clone());
                vec![(launch.run, Fact::Spawned { identity, notes: Vec::new() })]
            }
            Effect::WatchReady(watch) => match self.broken.contains(at) {
                true => vec![(watch.launch.run, ended(ExitOutcome::Code(3)))],
                false => vec![(watch.launch.run, Fact::Readiness(Answer::Ready))],
            },
            Effect::Signal { run, .. } => {
                self.story.push(format!("{at} stops"));
                vec![(run, ended(ExitOutcome::Code(0)))]
            }
            Effect::KillTree { run, .. } => vec![(run, Fact::TreeGone)],
            Effect::CleanUp { run, .. } => vec![(run, Fact::CleanedUp)],
            Effect::AskInstalled { launch, .. } => vec![(launch.run, Fact::Installed(Ok(self.installed.clone())))],
            Effect::Hook { launch, hook, .. } => {
                self.story.push(format!("{at} {hook}"));
                let failure = HookFailure { text: "exited with status 3".into(), last_log: Vec::new() };
                let fails = self.upgrade_fails && hook == HookId { kind: HookKind::Upgrade, index: 0 };
                let result = if fails { Err(failure) } else { Ok(()) };
                vec![(launch.run, Fact::HookEnded { hook, result })]
            }
            _ => Vec::new(),
        }
    }

    fn ask(&mut self, action: Action) -> Verdict {
        self.ids += 1;
        let (now, id) = (self.at(), OperationId(self.ids));
        let command = Command { app: app(), action, actor: "t".into(), id, idempotency: None, environments: None };
        self.fleet.decide(now, &command).verdict
    }

    /// Asks, lets it happen, and says how it ended.
    fn done(&mut self, action: Action) -> OperationView {
        let verdict = self.ask(action);
        let (Verdict::Accepted(view) | Verdict::AlreadySo(view)) = verdict else { panic!("{verdict:?}") };
        self.run();
        self.fleet.operation_view(view.id).unwrap()
    }

    fn create(&mut self, spec: AppSpec) {
        let (spec, jwt, db_secret) = (Arc::new(spec), SecretText::new("s"), SecretText::new("d"));
        let view = self.done(Action::Create { spec, jwt, db_secret, reuse: false });
        assert_eq!(view.status, OperationStatus::Done, "{view:?}");
        self.story.clear();
    }

    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.story)
    }

    fn phases(&self) -> Vec<(String, Phase)> {
        let view = self.fleet.app_view(self.at(), &app()).unwrap();
        let phase = |i: &nbs_core::view::InstanceView| i.report.as_ref().map_or(Phase::Stopped, |report| report.phase);
        view.instances.iter().map(|i| (i.environment.to_string(), phase(i))).collect()
    }

    fn generation(&self) -> u64 {
        self.fleet.app_view(self.at(), &app()).unwrap().generation.0
    }

    fn spec(&self) -> AppSpec {
        (*self.fleet.app_view(self.at(), &app()).unwrap().spec).clone()
    }

    fn move_to(&self, names: &[&str]) -> Action {
        let spec = AppSpec { environments: names.iter().map(|name| place(name)).collect(), ..self.spec() };
        let if_match = self.fleet.app_view(self.at(), &app()).unwrap().generation;
        Action::Move { spec: Arc::new(spec), if_match, dry_run: false }
    }
}

fn spec(names: &[&str]) -> AppSpec {
    let environments = names.iter().map(|name| place(name)).collect();
    let start_mode = StartMode::WithSupervisor;
    AppSpec { environments, start_mode, ..AppSpec::minimal(app(), runtime(), place(names[0])) }
}

fn running(names: &[&str]) -> Vec<(String, Phase)> {
    names.iter().map(|name| (name.to_string(), Phase::Running)).collect()
}

#[test]
fn an_upgrade_stops_all_runs_its_steps_in_one_environment_and_starts_one_after_another() {
    let mut rig = Rig::new(&["x", "y", "z"]);
    rig.create(spec(&["x", "y", "z"]));
    let view = rig.done(Action::Upgrade);
    assert_eq!(view.status, OperationStatus::Done, "{view:?}");
    let wanted =
        ["y stops", "z stops", "x stops", "x backup hook 0", "x upgrade hook 0", "x starts", "y starts", "z starts"];
    assert_eq!(rig.told(), wanted);
    assert_eq!(rig.phases(), running(&["x", "y", "z"]));
    rig.done(Action::Restart);
    assert!(rig.told().iter().all(|line| !line.contains("hook")), "a restart is no upgrade");
}

#[test]
fn an_upgrade_that_fails_holds_the_others_until_somebody_says_what_is_to_be() {
    let mut rig = Rig::new(&["x", "y"]);
    rig.create(spec(&["x", "y"]));
    rig.upgrade_fails = true;
    let view = rig.done(Action::Upgrade);
    assert_eq!(view.status, OperationStatus::Failed);
    assert!(view.reason.as_deref().unwrap().contains("x: upgrade hook 0 exited with status 3"), "{view:?}");
    assert_eq!(rig.phases(), [("x".into(), Phase::Failed), ("y".into(), Phase::Stopped)]);
    assert_eq!(rig.fleet.app_view(rig.at(), &app()).unwrap().status, Status::Error);
    rig.told();
    let again = rig.done(Action::Start);
    assert_eq!(again.status, OperationStatus::Done, "{again:?}");
    assert_eq!(rig.told(), ["x starts", "y starts"], "without the steps");
    rig.upgrade_fails = false;
    assert_eq!(rig.done(Action::Upgrade).status, OperationStatus::Done);
}

#[test]
fn while_one_is_upgraded_what_would_cut_it_off_is_refused_and_a_start_joins_it() {
    let mut rig = Rig::new(&["x", "y"]);
    rig.create(spec(&["x"]));
    let Verdict::Accepted(upgrade) = rig.ask(Action::Upgrade) else { panic!("not accepted") };
    let moved = rig.move_to(&["y"]);
    assert!(matches!(rig.ask(moved), Verdict::Denied(Denied::UnderWay { what: "upgraded", .. })));
    let Verdict::Accepted(joined) = rig.ask(Action::Restart) else { panic!("not accepted") };
    let Verdict::Accepted(second) = rig.ask(Action::Upgrade) else { panic!("not accepted") };
    rig.run();
    for id in [upgrade.id, joined.id, second.id] {
        assert_eq!(rig.fleet.operation_view(id).unwrap().status, OperationStatus::Done);
    }
    assert_eq!(rig.told().iter().filter(|line| line.contains("upgrade hook")).count(), 1);
}

#[test]
fn with_auto_upgrade_the_others_are_stopped_before_the_steps_that_another_version_asks_for() {
    let mut rig = Rig::new(&["x", "y"]);
    rig.create(AppSpec { auto_upgrade: true, ..spec(&["x", "y"]) });
    rig.done(Action::Restart);
    assert!(rig.told().iter().all(|line| !line.contains("hook")), "it is the same version");
    rig.installed = "2".into();
    let view = rig.done(Action::Restart);
    assert_eq!(view.status, OperationStatus::Done, "{view:?}");
    let story = rig.told();
    let of = |what: &str| story.iter().position(|line| line == what).unwrap_or_else(|| panic!("{what}: {story:?}"));
    assert!(of("y stops") < of("x upgrade hook 0") && of("x upgrade hook 0") < of("y starts"), "{story:?}");
    assert_eq!(story.iter().filter(|line| line.contains("upgrade hook")).count(), 1, "{story:?}");
    assert_eq!(rig.phases(), running(&["x", "y"]));
}

#[test]
fn an_app_moves_and_the_old_place_is_left_first() {
    let mut rig = Rig::new(&["x", "y"]);
    rig.create(spec(&["x"]));
    let mut plan = rig.move_to(&["y"]);
    if let Action::Move { dry_run, .. } = &mut plan {
        *dry_run = true;
    }
    let Verdict::Planned(lines) = rig.ask(plan) else { panic!("not planned") };
    assert_eq!(lines[0], "a is stopped in x and taken out of it");
    assert!(lines.iter().any(|line| line.contains("put back into x")), "{lines:?}");
    rig.run();
    assert_eq!((rig.told(), rig.generation()), (Vec::new(), 1), "a plan changes nothing");
    let moved = rig.move_to(&["y"]);
    let view = rig.done(moved);
    assert_eq!(view.status, OperationStatus::Done, "{view:?}");
    assert_eq!(rig.told(), ["x stops", "y starts"]);
    assert_eq!((rig.phases(), rig.generation()), (running(&["y"]), 2));
}

#[test]
fn a_move_that_does_not_become_ready_is_undone_and_says_so() {
    let mut rig = Rig::new(&["x", "y", "z"]);
    rig.create(spec(&["x", "z"]));
    rig.broken.insert(place("y"));
    let before = rig.spec();
    let moved = rig.move_to(&["y", "z"]);
    let view = rig.done(moved);
    assert_eq!(view.status, OperationStatus::Failed);
    let reason = view.reason.unwrap();
    assert!(reason.contains("exited with status 3") && reason.ends_with("it is back in x, z"), "{reason}");
    assert_eq!((rig.phases(), rig.generation()), (running(&["x", "z"]), 3));
    assert_eq!(rig.spec(), before);
    assert!(!rig.told().iter().any(|line| line.starts_with("z ")), "what stays is left alone");
}

#[test]
fn a_stop_ends_a_move_where_it_is() {
    let mut rig = Rig::new(&["x", "y"]);
    rig.create(spec(&["x"]));
    let moved = rig.move_to(&["y"]);
    let Verdict::Accepted(view) = rig.ask(moved) else { panic!("not accepted") };
    assert!(matches!(rig.ask(Action::Upgrade), Verdict::Denied(Denied::UnderWay { what: "moved", .. })));
    assert_eq!(rig.done(Action::Stop).status, OperationStatus::Done);
    let ended = rig.fleet.operation_view(view.id).unwrap();
    assert!(ended.reason.as_deref().unwrap().starts_with("superseded"), "{ended:?}");
    assert_eq!(rig.phases(), [("y".to_string(), Phase::Stopped)]);
}

#[test]
fn an_app_that_is_stopped_is_moved_without_a_start() {
    let mut rig = Rig::new(&["x", "y"]);
    rig.create(AppSpec { start_mode: StartMode::Manual, ..spec(&["x"]) });
    let moved = rig.move_to(&["y"]);
    assert_eq!(rig.done(moved).status, OperationStatus::Done);
    assert_eq!((rig.told(), rig.phases()), (Vec::new(), vec![("y".to_string(), Phase::Stopped)]));
}

#[test]
fn the_services_of_an_app_are_split_between_two_environments() {
    let mut rig = Rig::new(&["x", "y"]);
    let mut split = spec(&["x", "y"]);
    split.env.insert("WORKER_MODE".into(), "!".into());
    let jobs = Placement { env: BTreeMap::from([("WORKER_MODE".into(), "*".into())]), serve: false };
    split.placements.insert(place("y"), jobs);
    rig.create(split);
    assert_eq!(rig.phases(), running(&["x", "y"]));
    let mode = |name: &str| rig.variables[&place(name)]["WORKER_MODE"].clone();
    assert_eq!((mode("x"), mode("y")), ("!".to_string(), "*".to_string()));
    let view = rig.fleet.app_view(rig.at(), &app()).unwrap();
    let chosen = |named: Option<&str>| {
        let wish = Wish { named: named.map(Into::into), remembered: None };
        match choice::choose(&view, &wish, &AllHere) {
            Choice::One(instance) => instance.environment.to_string(),
            other => format!("{other:?}"),
        }
    };
    assert_eq!((chosen(None), chosen(Some("y"))), ("x".to_string(), "Elsewhere".to_string()));
}

#[test]
fn another_secret_is_another_generation_and_restarts_only_if_asked() {
    let mut rig = Rig::new(&["x", "y"]);
    rig.create(spec(&["x", "y"]));
    let rotate = |restart| Action::RotateSecret { jwt: SecretText::new("t"), restart };
    assert_eq!(rig.done(rotate(false)).status, OperationStatus::Done);
    assert_eq!((rig.told(), rig.generation()), (Vec::new(), 2));
    assert_eq!(rig.done(rotate(true)).status, OperationStatus::Done);
    assert_eq!(
        (rig.told(), rig.generation()),
        (["x stops", "x starts", "y stops", "y starts"].map(String::from).to_vec(), 3)
    );
}

#[test]
fn an_upgrade_with_nothing_to_run_is_refused() {
    let mut rig = Rig::new(&["x"]);
    rig.create(spec(&["x"]));
    let mut bare = recipe();
    bare.upkeep = Upkeep::default();
    let recipes = BTreeMap::from([(runtime(), Arc::new(bare))]);
    rig.step(&place("x"), Input::Recipes(recipes));
    assert!(matches!(rig.ask(Action::Upgrade), Verdict::Denied(Denied::Invalid { .. })));
}
