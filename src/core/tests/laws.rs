//! Laws of the two brains, tried with arbitrary inputs: what they may never do, whatever they are told.

#![allow(clippy::unwrap_used, reason = "a test may fail so")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nbs_core::command::{Action, Command, Verdict};
use nbs_core::effect::Effect;
use nbs_core::environment::{Environment, Input, Settings};
use nbs_core::fleet::{Fleet, Standing};
use nbs_core::id::{EntryId, Epoch, Generation, OperationId, Reign, Run, Seq};
use nbs_core::launch::Places;
use nbs_core::name::{AppId, EnvironmentName, RuntimeName};
use nbs_core::observation::{Answer, Fact, Identity, Observation, SpawnFailure, SpawnFailureKind};
use nbs_core::order::{Goal, Order, Refusal, Report, RunGoal, Turn};
use nbs_core::reason::{ExitOutcome, Reason, ReasonCode};
use nbs_core::recipe::{Adapter, Check, Hook, HookId, HookKind, Listen, Ready, Recipe, StopSteps, Upkeep};
use nbs_core::record::{Change, Recovered};
use nbs_core::restart::RestartPolicy;
use nbs_core::secret::SecretText;
use nbs_core::shared::SecretSource;
use nbs_core::spec::{AppSpec, Limits, StartMode};
use nbs_core::template::Template;
use nbs_core::time::{Mono, Now, Wall};
use nbs_core::unit::Sandbox;
use nbs_core::view::OperationStatus;
use proptest::prelude::*;

const SLOTS: u32 = 2;

fn app(n: u8) -> AppId {
    AppId::parse(["a", "b", "c", "d"][n as usize % 4]).unwrap()
}

fn local() -> EnvironmentName {
    EnvironmentName::parse("local").unwrap()
}

fn runtime() -> RuntimeName {
    RuntimeName::parse("any").unwrap()
}

fn spec(n: u8) -> AppSpec {
    AppSpec::minimal(app(n), runtime(), local())
}

fn now(ms: u64) -> Now {
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
        upkeep: Upkeep {
            upgrade: vec![Hook {
                command: vec![Template::parse("/bin/upgrade").unwrap()],
                timeout: Duration::from_secs(5),
            }],
            ..Default::default()
        },
    }
}

fn secrets() -> SecretSource {
    SecretSource(Arc::new(|name| SecretText::new(name)))
}

fn environment() -> Environment {
    let settings = Settings {
        places: Places {
            state_root: "/state".into(),
            run_root: "/run".into(),
            environment: local(),
            time_zone: None,
            databases: Default::default(),
        },
        port_range: 2000..=2010,
        concurrent_starts: SLOTS,
        version: "1".into(),
        boot: "boot".into(),
        adapter: Adapter::Process,
        host: "host".into(),
        url: None,
        proxy_url: None,
        capacity: None,
        autonomous: false,
        start_without_entry_after: None,
        secrets: secrets(),
    };
    Environment::new(settings, BTreeMap::from([(runtime(), Arc::new(recipe()))]), Vec::new(), None)
}

fn reign() -> Reign {
    Reign { epoch: Epoch(1), entry: EntryId::parse("entry").unwrap() }
}

fn standing() -> Standing {
    Standing { reign: reign(), local: Some(EnvironmentName::parse("local").unwrap()) }
}

fn order(n: u8, seq: u64, kind: u8) -> Order {
    let goal = match kind % 4 {
        0 => Goal::Stop,
        1 => Goal::Remove { purge_data: false, drop: None },
        _ => Goal::Run(RunGoal {
            start_seq: Seq(seq),
            spec: Arc::new(spec(n)),
            jwt: SecretText::new(""),
            db_secret: SecretText::new(""),
            upgrade_seq: Seq(0),
            installed: None,
            turn: Some(Turn { accept_by: Duration::from_secs(10), number: seq }),
        }),
    };
    Order { app: app(n), reign: reign(), generation: Generation(1), intent_seq: Seq(seq), goal }
}

fn fact(kind: u8) -> Fact {
    let identity = Identity { pid: 7, start_ticks: 7, boot: "boot".into(), invocation: None };
    let failure = |kind| SpawnFailure { reason: Reason::new(ReasonCode::SpawnFailed, "no"), kind };
    match kind % 13 {
        0 | 1 => Fact::Spawned { identity, notes: Vec::new() },
        2 => Fact::SpawnFailed(failure(SpawnFailureKind::Transient)),
        3 => Fact::SpawnFailed(failure(SpawnFailureKind::PortBusy)),
        4 => Fact::Exited { outcome: ExitOutcome::Code(1), cause: None, last_log: Vec::new(), leftovers: kind > 100 },
        5 => Fact::TreeGone,
        6 | 7 => Fact::Readiness(Answer::Ready),
        8 => Fact::Liveness(Some("no".into())),
        9 => Fact::HookEnded { hook: HookId::prepare(0), result: Ok(()) },
        10 => Fact::Restarting {
            reason: Reason::new(ReasonCode::Signal, "x"),
            last_log: Vec::new(),
            delay: Duration::ZERO,
        },
        11 => Fact::Restarted { identity, restarts: 1, reason: None, last_log: Vec::new() },
        _ => {
            let reason = Reason::new(ReasonCode::SystemdUnavailable, "no bus");
            Fact::SpawnFailed(SpawnFailure { reason, kind: SpawnFailureKind::Transient })
        }
    }
}

/// The first report of an instance says its run; facts are told about it, or about another one.
fn run_of(environment: &Environment, name: &AppId) -> Run {
    environment.reports().into_iter().find(|report| report.app == *name).map_or(Run::default(), |report| report.run)
}

proptest! {
    /// Whatever a worker is told, in whatever order: it remembers before it starts, starts nothing that was ordered before
    /// what it has taken up, and has no more ordered starts in flight than slots.
    #[test]
    fn a_worker_keeps_its_laws(steps in prop::collection::vec((0u8..4, 0u8..4, any::<u8>(), 0u64..40), 1..200)) {
        let mut environment = environment();
        let mut highest: BTreeMap<AppId, u64> = BTreeMap::new();
        for (i, (what, n, kind, number)) in steps.into_iter().enumerate() {
            let at = now(i as u64 * 700);
            let name = app(n);
            let run = run_of(&environment, &name);
            let input = match what {
                0 => Input::Order(order(n, number, kind), Duration::ZERO),
                1 => Input::Observed(Observation { app: name.clone(), run, fact: fact(kind) }),
                2 => {
                    let other = Run { seq: Seq(number), attempt: u32::from(kind) };
                    Input::Observed(Observation { app: name.clone(), run: other, fact: fact(kind) })
                }
                _ => Input::Tick,
            };
            let seen = highest.get(&name).copied().unwrap_or(0);
            let known = environment.reports().iter().any(|report| report.app == name);
            let stale = what == 0 && known && number < seen;
            let effects = environment.step(at, input);
            if stale {
                let refused = effects.iter().any(|effect| matches!(
                    effect, Effect::Report(Report::Refused { why: Refusal::Stale, .. })));
                prop_assert!(refused, "an order older than {seen} was taken up: {effects:?}");
            }
            check_effects(&effects)?;
            for report in environment.reports() {
                highest.insert(report.app.clone(), report.intent_seq.0);
            }
            let in_turn = environment.reports().iter().filter(|report| report.in_turn).count();
            prop_assert!(in_turn <= SLOTS as usize);
        }
    }

    /// A command that could not be committed leaves nothing behind; a denied one neither.
    #[test]
    fn what_is_taken_back_or_denied_changed_nothing(
        steps in prop::collection::vec((0u8..4, 0u8..10, any::<bool>()), 1..80),
    ) {
        let mut fleet = Fleet::new(standing(), Recovered::default(), now(0));
        fleet.observe(now(0), &local(), environment().hello(), &mut || OperationId(0));
        fleet.settle(now(0));
        let mut ids = 1;
        for (i, (n, kind, take_back)) in steps.into_iter().enumerate() {
            ids += 1;
            let at = now(i as u64);
            let before = snapshot(&fleet, ids);
            let command = command(&fleet, n, kind, ids);
            let decision = fleet.decide(at, &command);
            let denied = matches!(decision.verdict, Verdict::Denied(_) | Verdict::Planned(_));
            prop_assert!(!denied || decision.changes.is_empty(), "a denied command wants to change something");
            if take_back {
                fleet.undo(at, decision.undo);
            }
            if take_back || denied {
                prop_assert_eq!(snapshot(&fleet, ids), before);
            } else {
                fleet.settle(at);
            }
        }
    }

    /// Of several accepted commands the last one decides what should be, and each ends in at most one way.
    #[test]
    fn the_last_accepted_command_decides(steps in prop::collection::vec((0u8..2, 0u8..10), 1..60)) {
        let mut fleet = Fleet::new(standing(), Recovered::default(), now(0));
        fleet.observe(now(0), &local(), environment().hello(), &mut || OperationId(0));
        let mut wanted: BTreeMap<AppId, bool> = BTreeMap::new();
        let mut ended: BTreeMap<OperationId, OperationStatus> = BTreeMap::new();
        for (i, (n, kind)) in steps.into_iter().enumerate() {
            let at = now(i as u64);
            let command = command(&fleet, n, kind, i as u128 + 1);
            let decision = fleet.decide(at, &command);
            if let Verdict::Accepted(_) = decision.verdict {
                match &command.action {
                    Action::Start | Action::Restart | Action::Upgrade => _ = wanted.insert(command.app.clone(), true),
                    Action::Stop | Action::Remove { .. } => _ = wanted.insert(command.app.clone(), false),
                    Action::Create { spec, .. } => {
                        wanted.insert(command.app.clone(), spec.start_mode == StartMode::WithSupervisor);
                    }
                    Action::Update { .. } | Action::RotateSecret { .. } | Action::Move { .. } | Action::Wake => {}
                }
            }
            let settled = fleet.settle(at);
            for change in decision.changes.into_iter().chain(settled.changes) {
                let Change::Operation(row) = change else { continue };
                let was = ended.get(&row.view.id).copied();
                prop_assert!(was.is_none_or(|was| was == row.view.status), "an operation ended twice");
                if row.view.status.has_ended() {
                    ended.insert(row.view.id, row.view.status);
                }
            }
            for (name, run) in &wanted {
                let view = fleet.app_view(at, name);
                prop_assert!(view.is_none_or(|view| view.intent.wants_running() == *run));
            }
        }
    }
}

fn check_effects(effects: &[Effect]) -> Result<(), TestCaseError> {
    for (i, effect) in effects.iter().enumerate() {
        let Effect::Spawn(launch) = effect else { continue };
        let remembered = effects[..i]
            .iter()
            .any(|earlier| matches!(earlier, Effect::Remember(row) if row.app == launch.app && row.run == launch.run));
        prop_assert!(remembered, "{} {} is started and not remembered", launch.app, launch.run);
    }
    Ok(())
}

fn command(fleet: &Fleet, n: u8, kind: u8, id: u128) -> Command {
    let generation = fleet.app_view(now(0), &app(n)).map_or(Generation(1), |view| view.generation);
    let action = match kind {
        0 => {
            let start_mode = StartMode::ALL[n as usize % 3];
            let spec = AppSpec { start_mode, ..spec(n) };
            Action::Create {
                spec: Arc::new(spec),
                jwt: SecretText::new(""),
                db_secret: SecretText::new(""),
                reuse: n.is_multiple_of(2),
            }
        }
        1 => {
            let labels = BTreeMap::from([("n".to_string(), id.to_string())]);
            Action::Update {
                spec: Arc::new(AppSpec { labels, ..spec(n) }),
                if_match: generation,
                db_secret: SecretText::new(""),
            }
        }
        2 => Action::Start,
        3 => Action::Stop,
        4 => Action::Restart,
        5 => Action::Remove { purge_data: false },
        7 => Action::Upgrade,
        8 => Action::RotateSecret { jwt: SecretText::new(id.to_string()), restart: n.is_multiple_of(2) },
        9 => Action::Move { spec: Arc::new(spec(n)), if_match: generation, dry_run: id.is_multiple_of(5) },
        _ => Action::Update { spec: Arc::new(spec(n)), if_match: Generation(99), db_secret: SecretText::new("") },
    };
    let id = OperationId(id);
    Command { app: app(n), action, actor: "law".into(), id, idempotency: None, environments: None }
}

/// Everything that readers can see, and the queue.
fn snapshot(fleet: &Fleet, ids: u128) -> String {
    let apps: Vec<_> = (0..4).map(|n| fleet.app_view(now(0), &app(n))).collect();
    let operations: Vec<_> = (0..ids).map(|id| fleet.operation_view(OperationId(id))).collect();
    format!("{apps:?}{operations:?}{:?}", fleet.queue_view(now(0)))
}

/// A registration of an environment, as its worker would send it.
fn hello_of(name: &str) -> Report {
    let mut hello = environment().hello();
    if let Report::Hello { registration, .. } = &mut hello {
        registration.environment = EnvironmentName::parse(name).unwrap();
    }
    hello
}

fn fleet_of_three() -> Fleet {
    let standing = Standing { local: None, ..standing() };
    let mut fleet = Fleet::new(standing, Recovered::default(), now(0));
    for name in ["x", "y", "z"] {
        fleet.observe(now(0), &EnvironmentName::parse(name).unwrap(), hello_of(name), &mut || OperationId(0));
    }
    fleet.settle(now(0));
    fleet
}

fn spread(fleet: &Fleet, n: u8, kind: u8, places: u8, id: u128) -> Command {
    let names = ["x", "y", "z"].into_iter().enumerate().filter(|(i, _)| places >> i & 1 == 1);
    let names: Vec<EnvironmentName> = names.map(|(_, name)| EnvironmentName::parse(name).unwrap()).collect();
    let mut command = command(fleet, n, kind, id);
    match &mut command.action {
        Action::Create { spec, .. } | Action::Update { spec, .. } | Action::Move { spec, .. } => {
            Arc::make_mut(spec).environments = names.into_iter().collect();
        }
        Action::Start | Action::Stop | Action::Restart if places > 3 => command.environments = Some(names),
        _ => {}
    }
    command
}

/// A worker that does as it is told at once, or only says that it has begun.
fn obey(fleet: &mut Fleet, at: Now, orders: Vec<(EnvironmentName, Order)>, begun_only: bool) {
    for (environment, order) in orders {
        let mut worker = self::environment();
        worker.step(at, Input::Order(order.clone(), Duration::ZERO));
        if !begun_only {
            let run = run_of(&worker, &order.app);
            let hook = HookId { kind: HookKind::Upgrade, index: 0 };
            let upgraded = Fact::HookEnded { hook, result: Ok(()) };
            for fact in [upgraded, fact(0), Fact::Readiness(Answer::Ready), Fact::CleanedUp] {
                worker.step(at, Input::Observed(Observation { app: order.app.clone(), run, fact }));
            }
        }
        for report in worker.reports() {
            fleet.observe(at, &environment, Report::Instance(Box::new(report)), &mut || OperationId(0));
        }
    }
}

proptest! {
    /// In several environments too: what is taken back or denied leaves no trace, neither for readers nor in what is ordered
    /// or said to be next; and an app never has turns in two environments.
    #[test]
    fn several_environments_change_nothing_when_denied_and_give_one_turn_at_a_time(
        steps in prop::collection::vec((0u8..4, 0u8..10, 1u8..8, any::<bool>(), any::<bool>()), 1..60),
    ) {
        let mut fleet = fleet_of_three();
        let mut ids = 1;
        let mut in_turn: BTreeMap<AppId, EnvironmentName> = BTreeMap::new();
        for (i, (n, kind, places, take_back, begun_only)) in steps.into_iter().enumerate() {
            ids += 1;
            let at = now(i as u64 * 10);
            let before = snapshot(&fleet, ids);
            let command = spread(&fleet, n, kind, places, ids);
            let decision = fleet.decide(at, &command);
            let denied = matches!(decision.verdict, Verdict::Denied(_) | Verdict::Planned(_));
            prop_assert!(!denied || decision.changes.is_empty(), "a denied command wants to change something");
            if take_back {
                fleet.undo(at, decision.undo);
            }
            if take_back || denied {
                prop_assert_eq!(snapshot(&fleet, ids), before);
                continue;
            }
            let settled = fleet.settle(at);
            in_turn.retain(|app, environment| {
                let view = fleet.app_view(at, app);
                let report = view.and_then(|v| v.instances.into_iter().find(|i| i.environment == *environment));
                report.and_then(|instance| instance.report).is_some_and(|report| report.in_turn)
            });
            for (environment, order) in &settled.orders {
                if matches!(&order.goal, Goal::Run(goal) if goal.turn.is_some()) {
                    let other = in_turn.insert(order.app.clone(), environment.clone());
                    prop_assert!(other.is_none_or(|other| other == *environment), "two turns of {}", order.app);
                }
            }
            obey(&mut fleet, at, settled.orders, begun_only);
        }
    }
}
