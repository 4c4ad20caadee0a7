//! Apps with databases on one host: prepared before each start, waited for while their server is silent, dropped at last.

use nbs_core::database::{Database, Endpoint, Failure, Made, Server};
use nbs_core::name::ServerName;
use nbs_core::observation::SpawnFailureKind;
use nbs_core::order::DropGoal;
use nbs_core::reason::Reason;

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef";

fn endpoint() -> Endpoint {
    Endpoint { host: "10.0.0.9".into(), port: 5432 }
}

fn asked() -> Database {
    Database::New { server: ServerName::parse("default").unwrap() }
}

fn host(adapter: Adapter) -> Environment {
    host_with(adapter, 9, Vec::new())
}

fn host_with(adapter: Adapter, concurrent_starts: u32, rows: Vec<LedgerRow>) -> Environment {
    let mut settings = Settings { adapter, concurrent_starts, port_range: 2000..=2099, ..settings() };
    let server = Server { endpoint: endpoint(), user: "nbs".into(), password: None, database: "postgres".into() };
    settings.places.databases = BTreeMap::from([(ServerName::parse("default").unwrap(), server)]);
    let mut recipe = recipe();
    recipe.environment = BTreeMap::from([("URL".to_string(), Template::parse("{db.url}").unwrap())]);
    recipe.restart = RestartPolicy { burst: 1, ..RestartPolicy::default() };
    Environment::new(settings, BTreeMap::from([(runtime(), Arc::new(recipe))]), rows, None)
}

fn start(environment: &mut Environment, ms: u64, name: &str, seq: u64) -> Vec<Effect> {
    let mut order = run(AppSpec { database: Some(asked()), ..spec(name) }, seq, seq, Some(seq));
    let Goal::Run(goal) = &mut order.goal else { unreachable!() };
    goal.db_secret = SecretText::new(SECRET);
    environment.step(at(ms), super::order(order))
}

fn prepares(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::PrepareDatabase { .. })).count()
}

fn spawned(effects: &[Effect]) -> Option<String> {
    effects.iter().find_map(|effect| match effect {
        Effect::Spawn(launch) => Some(launch.env["URL"].clone()),
        _ => None,
    })
}

fn ready(environment: &mut Environment, ms: u64, name: &str) -> Vec<Effect> {
    fact(environment, ms, name, Fact::DatabaseReady(Made { own_role: true }))
}

fn silence(environment: &mut Environment, ms: u64) -> Vec<Effect> {
    environment.step(at(ms), Input::Database(endpoint(), Err("connection refused".into())))
}

fn answers(environment: &mut Environment, ms: u64) -> Vec<Effect> {
    environment.step(at(ms), Input::Database(endpoint(), Ok(())))
}

fn unreachable() -> Fact {
    let reason = Reason::new(ReasonCode::DatabaseUnreachable, "database server default does not answer: x");
    Fact::DatabaseFailed(Failure { reason, transient: true })
}

fn denied() -> Fact {
    let reason = Reason::new(ReasonCode::DatabaseDenied, "it has no right to make roles");
    Fact::DatabaseFailed(Failure { reason, transient: false })
}

fn exited() -> Fact {
    let outcome = ExitOutcome::Code(1);
    Fact::Exited { outcome, cause: None, last_log: Vec::new(), leftovers: false }
}

#[test]
fn a_database_is_prepared_before_each_start_and_one_watch_serves_all() {
    let mut environment = host(Adapter::Process);
    let effects = [start(&mut environment, 0, "a", 1), start(&mut environment, 0, "b", 2)].concat();
    assert_eq!((prepares(&effects), phase(&environment, "a")), (2, Phase::Preparing));
    assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::WatchDatabase(_))).count(), 1);
    let url = spawned(&ready(&mut environment, 1, "a")).unwrap();
    assert_eq!(url, format!("postgres://a:{}@10.0.0.9:5432/a", &SECRET[16..]));
    let shared = fact(&mut environment, 1, "b", Fact::DatabaseReady(Made { own_role: false }));
    assert_eq!(spawned(&shared).unwrap(), "postgres://nbs@10.0.0.9:5432/b");
    assert!(report(&environment, "b").notes[0].contains("CREATEROLE"), "{:?}", report(&environment, "b").notes);
    becomes_running(&mut environment, 2, "a");
    fact(&mut environment, 3, "a", exited());
    let again = environment.step(at(5000), Input::Tick);
    assert_eq!((prepares(&again), spawned(&again)), (1, None), "the next life is not begun before it is looked at");
    let stops: Vec<Effect> = ["a", "b"]
        .iter()
        .flat_map(|name| {
            let order = Order { app: app(name), ..to(Goal::Stop, 9) };
            environment.step(at(6000), super::order(order))
        })
        .collect();
    assert!(stops.contains(&Effect::UnwatchDatabase(endpoint())), "nobody is to run any more");
}

#[test]
fn a_start_waits_for_a_silent_server_without_using_up_its_attempts() {
    let mut environment = host(Adapter::Process);
    start(&mut environment, 0, "a", 1);
    for attempt in 0..5 {
        let ms = 10 + attempt * 2000;
        fact(&mut environment, ms, "a", unreachable());
        assert_eq!(phase(&environment, "a"), Phase::Backoff);
        assert_eq!(prepares(&environment.step(at(ms + 2000), Input::Tick)), 1, "it is not known to be silent yet");
    }
    fact(&mut environment, 20_000, "a", unreachable());
    silence(&mut environment, 20_001);
    assert!(environment.step(at(900_000), Input::Tick).is_empty(), "from now on the watch tells");
    let waits = report(&environment, "a");
    assert_eq!(
        (waits.reason.unwrap().code, waits.restarts, waits.in_turn),
        (ReasonCode::DatabaseUnreachable, 0, false)
    );
    assert_eq!(prepares(&answers(&mut environment, 900_001)), 1);
    assert!(spawned(&ready(&mut environment, 900_002, "a")).is_some());
}

/// What a server kept waiting would start all at once: twenty apps of a host that is booting, beside its database.
#[test]
fn what_a_server_kept_waiting_starts_as_slots_allow() {
    let names: Vec<String> = (0..20).map(|n| format!("a{n:02}")).collect();
    let under_way = |environment: &Environment| {
        let phases = names.iter().map(|name| phase(environment, name));
        phases.filter(|phase| matches!(phase, Phase::Preparing | Phase::Spawning | Phase::Starting)).count()
    };
    let mut environment = host_with(Adapter::Process, 2, Vec::new());
    let mut told = Vec::new();
    for (seq, name) in (1..).zip(&names) {
        assert_eq!(prepares(&start(&mut environment, seq, name, seq)), 1);
        told.extend(fact(&mut environment, seq, name, unreachable()));
    }
    // The daemon is restarted meanwhile, and has to find out anew that the server is silent.
    environment = host_with(Adapter::Process, 2, ledger(told));
    assert_eq!(prepares(&environment.recover(at(70_000), Vec::new(), Vec::new(), true)), 0);
    silence(&mut environment, 70_001);
    assert!(environment.step(at(90_000), Input::Tick).is_empty());

    assert_eq!(prepares(&answers(&mut environment, 100_000)), 2);
    assert!(report(&environment, "a00").in_turn, "the entry is to know that this slot is taken");
    let refused = environment.step(at(100_001), order(run(spec("late"), 90, 90, Some(90))));
    assert_eq!(refusal(&refused), Some(Refusal::Busy));
    // One fails for good, one is kept waiting again, the others become ready: each gives its slot to the next.
    for (n, name) in names.iter().enumerate() {
        let ms = 100_010 + 10 * n as u64;
        assert_eq!((phase(&environment, name), under_way(&environment)), (Phase::Preparing, 2.min(20 - n)), "{name}");
        match n {
            3 => _ = fact(&mut environment, ms, name, denied()),
            4 => _ = fact(&mut environment, ms, name, unreachable()),
            _ => {
                assert!(spawned(&ready(&mut environment, ms, name)).is_some());
                becomes_running(&mut environment, ms + 1, name);
            }
        }
    }
    assert_eq!(prepares(&environment.step(at(200_000), Input::Tick)), 1, "the one that was kept waiting again");
    let running = names.iter().filter(|name| phase(&environment, name) == Phase::Running).count();
    assert_eq!((running, phase(&environment, "a03")), (18, Phase::Failed));
}

#[test]
fn a_crash_under_a_silent_server_waits_and_is_one_restart() {
    let mut environment = host(Adapter::Process);
    start(&mut environment, 0, "a", 1);
    ready(&mut environment, 1, "a");
    becomes_running(&mut environment, 2, "a");
    silence(&mut environment, 3);
    assert_eq!(phase(&environment, "a"), Phase::Running, "what runs is left alone");
    assert!(report(&environment, "a").notes[0].contains("10.0.0.9:5432) does not answer: connection refused"));
    fact(&mut environment, 4, "a", exited());
    let waits = report(&environment, "a");
    let reason = waits.reason.unwrap();
    assert!(reason.text.contains("does not answer") && reason.text.contains("exited with status 1"), "{reason}");
    assert_eq!((waits.phase, waits.restarts, waits.notes.len()), (Phase::Backoff, 1, 0));
    answers(&mut environment, 60_000);
    ready(&mut environment, 60_001, "a");
    becomes_running(&mut environment, 60_002, "a");
    assert_eq!(report(&environment, "a").restarts, 1);
}

#[test]
fn a_unit_that_systemd_restarts_against_a_silent_server_is_stopped_and_waits() {
    for silent_first in [true, false] {
        let mut environment = host(Adapter::Systemd);
        start(&mut environment, 0, "a", 1);
        ready(&mut environment, 1, "a");
        becomes_running(&mut environment, 2, "a");
        let reason = Reason::new(ReasonCode::ExitStatus, "exited with status 1");
        let restarting = Fact::Restarting { reason, last_log: Vec::new(), delay: Duration::from_secs(1) };
        let told: Vec<Effect> = match silent_first {
            true => [silence(&mut environment, 3), fact(&mut environment, 4, "a", restarting)].concat(),
            false => [fact(&mut environment, 3, "a", restarting), silence(&mut environment, 4)].concat(),
        };
        assert!(told.iter().any(|effect| matches!(effect, Effect::Signal { .. })), "{told:?}");
        fact(&mut environment, 5, "a", exited());
        fact(&mut environment, 6, "a", Fact::TreeGone);
        let waits = report(&environment, "a");
        assert_eq!((waits.phase, waits.restarts), (Phase::Backoff, 1));
        assert_eq!(waits.reason.unwrap().code, ReasonCode::DatabaseUnreachable);
        assert!(environment.step(at(600_000), Input::Tick).is_empty());
        assert_eq!(prepares(&answers(&mut environment, 600_001)), 1);
    }
}

#[test]
fn a_stop_while_it_is_prepared_does_not_wait_and_a_late_answer_starts_nothing() {
    let mut environment = host(Adapter::Process);
    start(&mut environment, 0, "a", 1);
    environment.step(at(1), super::order(to(Goal::Stop, 2)));
    assert_eq!(phase(&environment, "a"), Phase::Stopped);
    assert_eq!(spawned(&ready(&mut environment, 2, "a")), None);
    assert_eq!(phase(&environment, "a"), Phase::Stopped);
}

#[test]
fn what_will_not_get_better_is_an_error() {
    let mut environment = host(Adapter::Process);
    start(&mut environment, 0, "a", 1);
    let failure = Failure::lasting(ReasonCode::DatabaseTaken, "it is somebody else's");
    fact(&mut environment, 1, "a", Fact::DatabaseFailed(failure));
    assert_eq!((phase(&environment, "a"), report(&environment, "a").in_turn), (Phase::Failed, false));
    let order = run(AppSpec { database: Some(asked()), ..spec("b") }, 2, 2, Some(2));
    environment.step(at(2), super::order(order));
    assert!(report(&environment, "b").reason.unwrap().text.contains("without a secret"));
}

#[test]
fn a_port_that_is_taken_does_not_prepare_the_database_again() {
    let mut environment = host(Adapter::Process);
    start(&mut environment, 0, "a", 1);
    ready(&mut environment, 1, "a");
    let reason = Reason::new(ReasonCode::PortInUse, "taken");
    let busy = nbs_core::observation::SpawnFailure { reason, kind: SpawnFailureKind::PortBusy };
    let effects = fact(&mut environment, 2, "a", Fact::SpawnFailed(busy));
    assert_eq!((prepares(&effects), spawned(&effects).is_some()), (0, true));
}

#[test]
fn a_daemon_that_died_while_it_prepared_does_so_again() {
    let mut environment = host(Adapter::Process);
    let rows = ledger(start(&mut environment, 0, "a", 1));
    let mut settings = settings();
    settings.places.databases = BTreeMap::from([(
        ServerName::parse("default").unwrap(),
        Server { endpoint: endpoint(), user: "nbs".into(), password: None, database: "postgres".into() },
    )]);
    let mut again = super::environment(settings, rows);
    again.recover(at(10), Vec::new(), Vec::new(), true);
    let swept = fact_of(&mut again, 11, "a", Fact::TreeGone, Run { seq: Seq(1), attempt: 0 });
    assert_eq!(prepares(&swept), 1);
}

fn fact_of(environment: &mut Environment, ms: u64, name: &str, fact: Fact, run: Run) -> Vec<Effect> {
    environment.step(at(ms), Input::Observed(Observation { app: app(name), run, fact }))
}

fn removal(drop: bool) -> Goal {
    let goal = DropGoal { database: asked(), db_secret: SecretText::new(SECRET) };
    Goal::Remove { purge_data: drop, drop: drop.then_some(goal) }
}

#[test]
fn what_is_on_the_server_goes_before_the_rest_and_is_tried_again() {
    let mut environment = host(Adapter::Process);
    let drops = |effects: &[Effect]| effects.iter().any(|effect| matches!(effect, Effect::DropDatabase { .. }));
    let cleans = |effects: &[Effect]| effects.iter().any(|effect| matches!(effect, Effect::CleanUp { .. }));
    let effects = environment.step(at(0), super::order(to(removal(true), 5)));
    assert!(drops(&effects) && !cleans(&effects));
    let Fact::DatabaseFailed(failure) = unreachable() else { unreachable!() };
    fact(&mut environment, 1, "a", Fact::DatabaseDropped(Err(failure.clone())));
    assert_eq!(report(&environment, "a").reason.unwrap().code, ReasonCode::DatabaseUnreachable);
    assert!(report(&environment, "a").removing);
    assert!(drops(&environment.step(at(10_001), Input::Tick)));
    let effects = fact(&mut environment, 10_002, "a", Fact::DatabaseDropped(Ok(())));
    assert!(cleans(&effects) && !drops(&effects));
    let gone = fact(&mut environment, 10_003, "a", Fact::CleanedUp);
    assert!(gone.contains(&Effect::Forget(app("a"))));

    environment.step(at(20_000), super::order(to(removal(true), 7)));
    fact(&mut environment, 20_001, "a", Fact::DatabaseDropped(Err(failure)));
    let kept = environment.step(at(20_002), super::order(to(removal(false), 8)));
    assert!(cleans(&kept) && !drops(&kept), "the dropping is given up");
}
