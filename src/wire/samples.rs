//! Generators of core values for the tests of this room.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::wire::record::{Cipher, RowError};
use nbs_core::command::ActionKind;
use nbs_core::database::{Database, Endpoint, Given, Made};
use nbs_core::id::{EntryId, Epoch, Generation, OperationId, Reign, Run, Seq};
use nbs_core::intent::Intent;
use nbs_core::launch::Address;
use nbs_core::name::{AppId, EnvironmentName, RuntimeName, ServerName};
use nbs_core::observation::Identity;
use nbs_core::order::{
    Capacity, DropGoal, Goal, InstanceReport, LocalAction, LocalOverride, Order, Refusal, Registration, Report,
    RunGoal, RuntimeSummary, Select, SharedSummary, Turn, UpgradeReport,
};
use nbs_core::paths::{AppPath, Paths};
use nbs_core::phase::Phase;
use nbs_core::quantity::{ByteSize, CpuQuota};
use nbs_core::reason::{Reason, ReasonCode};
use nbs_core::recipe::{Adapter, Listen};
use nbs_core::record::{
    AppLife, AppRow, EnvironmentRow, GrantRow, KeyRow, LedgerGoal, LedgerRow, MoveRow, OperationRow, PlacementRow,
    UpgradeNote, UpgradeRow,
};
use nbs_core::secret::SecretText;
use nbs_core::spec::{AppSpec, Hosting, Limits, Placement, ProxyChoice, ProxySettings, StartMode};
use nbs_core::time::Wall;
use nbs_core::view::{EventView, OperationStatus, OperationView};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

pub fn app_id() -> impl Strategy<Value = AppId> {
    "[a-z][a-z0-9_-]{0,20}".prop_map(|text| AppId::parse(&text).unwrap())
}

pub fn environment() -> impl Strategy<Value = EnvironmentName> {
    "[A-Za-z0-9]env[A-Za-z0-9_.-]{0,20}".prop_map(|text| EnvironmentName::parse(&text).unwrap())
}

fn variables(prefix: &'static str) -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map("[A-Za-z0-9_]{0,12}".prop_map(move |rest| format!("{prefix}{rest}")), "[^\0]{0,40}", 0..4)
}

fn limits() -> impl Strategy<Value = Limits> {
    let memory = option::of((1..u64::MAX).prop_map(ByteSize));
    let parts =
        (memory, option::of((1..u32::MAX).prop_map(CpuQuota)), option::of(1..u64::MAX), option::of(1..=10_000u32));
    parts.prop_map(|(memory_max, cpu_quota, tasks_max, io_weight)| Limits {
        memory_max,
        cpu_quota,
        tasks_max,
        io_weight,
    })
}

fn proxy(environments: Vec<EnvironmentName>) -> impl Strategy<Value = ProxySettings> {
    let choice = prop_oneof![
        Just(ProxyChoice::Required),
        Just(ProxyChoice::Spread),
        select(environments).prop_map(ProxyChoice::Environment)
    ];
    let hold = option::of(prop_oneof![0..100_000_000u64, (0..100_000u64).prop_map(|seconds| seconds * 1_000_000)]);
    (choice, hold).prop_map(|(choice, hold)| ProxySettings { choice, hold_timeout: hold.map(Duration::from_micros) })
}

type Places = (ProxySettings, BTreeMap<EnvironmentName, Placement>);

fn places(environments: &BTreeSet<EnvironmentName>) -> impl Strategy<Value = Places> + use<> {
    let names: Vec<EnvironmentName> = environments.iter().cloned().collect();
    let placement = (variables("A"), any::<bool>()).prop_map(|(env, serve)| Placement { env, serve });
    let placed = vec((any::<Index>(), placement), 0..3);
    (proxy(names.clone()), placed).prop_map(move |(proxy, placed)| {
        let placed = placed.into_iter().map(|(index, placement)| (index.get(&names).clone(), placement));
        (proxy, placed.collect())
    })
}

fn server() -> impl Strategy<Value = ServerName> {
    "[a-z][a-z0-9_-]{0,9}".prop_map(|text| ServerName::parse(&text).unwrap())
}

fn database() -> impl Strategy<Value = Database> {
    let name = || "[^\\p{C}]{1,15}";
    let given = ("[a-z][a-z.]{0,9}", 1..u16::MAX, name(), option::of(name()), name(), "[^\0]{0,20}").prop_map(
        |(host, port, database, schema, user, password)| {
            let password = SecretText::new(password);
            Database::Given(Box::new(Given { host, port, database, schema, user, password }))
        },
    );
    prop_oneof![
        server().prop_map(|server| Database::New { server }),
        server().prop_map(|server| Database::Schema { server }),
        Just(Database::File),
        given
    ]
}

/// Any spec that can be written.
pub fn spec() -> impl Strategy<Value = AppSpec> {
    let start_mode = (select(StartMode::ALL), select(Hosting::ALL));
    let names = (app_id(), option::of("[^\\p{C}]{0,40}"), app_id(), btree_set(environment(), 1..4));
    let rest = (
        start_mode,
        variables("A"),
        variables("S"),
        option::of(database()),
        limits(),
        btree_map("[a-z][a-z./-]{0,9}", "[^\\p{C}]{0,9}", 0..3),
        any::<bool>(),
    );
    (names, rest)
        .prop_flat_map(|(names, rest)| {
            let places = places(&names.3);
            (Just(names), Just(rest), places)
        })
        .prop_map(
            |(
                (name, title, runtime, environments),
                ((start_mode, hosting), env, secrets, database, limits, labels, auto_upgrade),
                (proxy, placements),
            )| {
                AppSpec {
                    name,
                    title,
                    runtime: RuntimeName::parse(runtime.as_str()).unwrap(),
                    hosting,
                    environments,
                    start_mode,
                    env,
                    secrets: secrets.into_iter().map(|(name, text)| (name, SecretText::new(text))).collect(),
                    database,
                    limits,
                    proxy,
                    labels,
                    auto_upgrade,
                    placements,
                }
            },
        )
        // Parts of many rows; on the heap, so that a test's stack holds them.
        .boxed()
}

fn secret() -> impl Strategy<Value = SecretText> {
    any::<String>().prop_map(SecretText::new)
}

fn intent() -> impl Strategy<Value = Intent> {
    let awake = any::<bool>().prop_map(|awake| Intent::OnDemand { awake });
    prop_oneof![Just(Intent::Run), Just(Intent::Stop), awake]
}

fn life() -> impl Strategy<Value = AppLife> {
    let removing = any::<bool>().prop_map(|purge_data| AppLife::Removing { purge_data });
    prop_oneof![Just(AppLife::Kept), removing, Just(AppLife::Removed)]
}

/// Any app.
pub fn app_row() -> impl Strategy<Value = AppRow> {
    let upkeep = (option::of(upgrade_row()), option::of(move_row()), option::of(any::<String>()));
    (spec(), any::<[u64; 3]>(), [secret(), secret()], vec(placement_row(), 0..4), life(), upkeep).prop_map(
        |(spec, numbers, [jwt, db_secret], placements, life, (upgrade, moving, installed))| AppRow {
            upgrade,
            moving: moving.map(|mut moving: MoveRow| {
                Arc::make_mut(&mut moving.former).name = spec.name.clone();
                Box::new(moving)
            }),
            installed,
            spec: Arc::new(spec),
            generation: Generation(numbers[0]),
            jwt,
            db_secret,
            intent_seq: Seq(numbers[1]),
            placements,
            created_at: Wall(numbers[2]),
            life,
        },
    )
}

fn upgrade_row() -> impl Strategy<Value = UpgradeRow> {
    (environment(), any::<u64>(), any::<[bool; 2]>()).prop_map(|(environment, seq, [go, automatic])| UpgradeRow {
        seq: Seq(seq),
        environment,
        go,
        automatic,
    })
}

fn move_row() -> impl Strategy<Value = MoveRow> {
    (spec(), any::<u64>(), vec(placement_row(), 0..4), option::of(any::<String>())).prop_map(
        |(former, seq, placements, back)| MoveRow { seq: Seq(seq), former: Arc::new(former), placements, back },
    )
}

fn placement_row() -> impl Strategy<Value = PlacementRow> {
    (environment(), intent(), any::<[u64; 2]>(), any::<bool>()).prop_map(
        |(environment, intent, [start_seq, since], leaving)| PlacementRow {
            environment,
            intent,
            start_seq: Seq(start_seq),
            since: Seq(since),
            leaving,
        },
    )
}

/// Any operation.
pub fn operation_row() -> impl Strategy<Value = OperationRow> {
    let words = (select(ActionKind::ALL), select(OperationStatus::ALL), option::of(any::<String>()), any::<String>());
    let numbers = (any::<u128>(), any::<[u64; 3]>(), option::of(any::<u64>()));
    (app_id(), vec(environment(), 0..3), words, numbers).prop_map(|(app, environments, words, numbers)| {
        let (action, status, reason, actor) = words;
        let (id, [seq, created_at, start_seq], finished_at) = numbers;
        let view = OperationView {
            id: OperationId(id),
            seq: Seq(seq),
            app,
            action,
            environments,
            status,
            reason,
            created_at: Wall(created_at),
            finished_at: finished_at.map(Wall),
            actor,
        };
        OperationRow { view, start_seq: Seq(start_seq) }
    })
}

/// Any event.
pub fn event() -> impl Strategy<Value = EventView> {
    let about = (option::of(app_id()), option::of(environment()), option::of(any::<u128>().prop_map(OperationId)));
    (any::<[u64; 2]>(), about, any::<[String; 2]>()).prop_map(|([seq, at], about, [kind, message])| {
        let (app, environment, operation) = about;
        EventView { seq, at: Wall(at), app, environment, kind, message, operation }
    })
}

/// Any idempotency key.
pub fn key_row() -> impl Strategy<Value = KeyRow> {
    (any::<[String; 2]>(), any::<[u8; 32]>(), any::<u128>(), any::<u64>()).prop_map(
        |([actor, key], request, operation, at)| KeyRow {
            actor,
            key,
            request,
            operation: OperationId(operation),
            at: Wall(at),
        },
    )
}

/// A goal of an app.
fn run_goal(app: &AppId) -> impl Strategy<Value = RunGoal> + use<> {
    let app = app.clone();
    let (numbers, secrets) = (any::<[u64; 2]>(), [secret(), secret()]);
    (spec(), numbers, secrets, option::of(any::<String>())).prop_map(move |(spec, numbers, secrets, installed)| {
        let ([start_seq, upgrade_seq], [jwt, db_secret]) = (numbers.map(Seq), secrets);
        let spec = Arc::new(AppSpec { name: app.clone(), ..spec });
        RunGoal { start_seq, spec, jwt, db_secret, upgrade_seq, installed, turn: None }
    })
}

fn drop_goal() -> impl Strategy<Value = Option<DropGoal>> {
    option::of((database(), secret()).prop_map(|(database, db_secret)| DropGoal { database, db_secret }))
}

fn ledger_goal(app: &AppId) -> impl Strategy<Value = LedgerGoal> + use<> {
    let remove = (any::<bool>(), drop_goal()).prop_map(|(purge_data, drop)| LedgerGoal::Remove { purge_data, drop });
    prop_oneof![run_goal(app).prop_map(LedgerGoal::Run), Just(LedgerGoal::Stop), remove]
}

fn reason() -> impl Strategy<Value = Reason> {
    (select(ReasonCode::ALL), any::<String>()).prop_map(|(code, text)| Reason::new(code, text))
}

fn local() -> impl Strategy<Value = LocalOverride> {
    let action = select(vec![LocalAction::Stop, LocalAction::Restart]);
    (action, any::<String>(), any::<u64>()).prop_map(|(action, actor, at)| LocalOverride {
        action,
        actor,
        at: Wall(at),
    })
}

fn adapter() -> impl Strategy<Value = Adapter> {
    select(vec![Adapter::Process, Adapter::Systemd, Adapter::Shared])
}

/// Any instance of a ledger.
pub fn ledger_row() -> impl Strategy<Value = LedgerRow> {
    let identity = (any::<u32>(), any::<u64>(), any::<String>(), option::of(any::<String>()))
        .prop_map(|(pid, start_ticks, boot, invocation)| Identity { pid, start_ticks, boot, invocation });
    let placed = (adapter(), option::of(app_id()));
    let rest = (option::of(any::<u16>()), option::of(identity), select(Phase::ALL), option::of(reason()), placed);
    let numbers = (any::<[u64; 7]>(), any::<[u32; 3]>(), any::<[bool; 2]>(), vec(any::<String>(), 0..3));
    let goals = app_id().prop_flat_map(|app| {
        let (goal, shelved) = (ledger_goal(&app), option::of(run_goal(&app)));
        (Just(app), goal, shelved)
    });
    let upgrade = (any::<[u64; 3]>(), any::<u32>(), option::of(any::<String>()));
    (goals, option::of(local()), rest, numbers, upgrade).prop_map(
        |((app, goal, shelved), local, rest, numbers, upgrade)| {
            let (port, identity, phase, reason, (adapter, made_in)) = rest;
            let ([begun, done, asked], steps, installed) = upgrade;
            let (long, small, [hook_begun, in_turn], last_log) = numbers;
            LedgerRow {
                app,
                epoch: Epoch(long[0]),
                generation: Generation(long[1]),
                intent_seq: Seq(long[2]),
                goal,
                run: Run { seq: Seq(long[3]), attempt: small[0] },
                run_generation: Generation(long[4]),
                adapter,
                made_in: made_in.map(|name| RuntimeName::parse(name.as_str()).unwrap()),
                hooks_done: small[1],
                hook_begun,
                in_turn,
                database: (small[0] % 3 > 0).then_some(Made { own_role: small[0] % 3 == 1 }),
                port,
                identity,
                phase,
                since: Wall(long[5]),
                reason,
                restarts: small[2],
                last_log,
                turn: long[6],
                local,
                shelved,
                upgrade: UpgradeNote { begun: Seq(begun), steps, done: Seq(done), asked: Seq(asked), installed },
            }
        },
    )
}

fn runtime() -> impl Strategy<Value = RuntimeSummary> {
    let listen = select(vec![Listen::None, Listen::Port, Listen::Unix, Listen::Fd]);
    let texts = (any::<String>(), option::of(any::<String>()), vec(any::<String>(), 0..3), paths());
    let shared = option::of((0..1_000_000_000u64, vec(any::<String>(), 0..3)));
    let shared = shared.prop_map(|shared| {
        shared.map(|(micros, secrets_needed)| SharedSummary {
            turn_timeout: Duration::from_micros(micros),
            needs_database: micros % 2 == 1,
            secrets_needed,
        })
    });
    let times = (0..1_000_000_000u64, option::of(0..1_000_000_000u64), shared);
    (app_id(), adapter(), listen, any::<bool>(), limits(), texts, times).prop_map(
        |(name, adapter, listen, strip_prefix, max_limits, texts, (turn_timeout, upgrade_timeout, shared))| {
            let (description, app_id_pattern, secrets_needed, paths) = texts;
            RuntimeSummary {
                name: RuntimeName::parse(name.as_str()).unwrap(),
                description,
                adapter,
                listen,
                strip_prefix,
                max_limits,
                paths,
                app_id_pattern,
                secrets_needed,
                needs_database: turn_timeout % 2 == 1,
                turn_timeout: Duration::from_micros(turn_timeout),
                shared,
                upgrade_timeout: upgrade_timeout.map(Duration::from_micros),
            }
        },
    )
}

fn paths() -> impl Strategy<Value = Paths> {
    let own = (any::<String>(), option::of(any::<String>())).prop_map(|(path, rewrite)| AppPath { path, rewrite });
    (vec(own, 0..3), vec(any::<String>(), 0..3), vec(any::<String>(), 0..3)).prop_map(|(naming, shared, page)| Paths {
        naming,
        shared,
        page,
    })
}

/// Any runtimes of an environment.
pub fn runtimes() -> impl Strategy<Value = BTreeMap<RuntimeName, RuntimeSummary>> {
    vec(runtime(), 0..3).prop_map(|all| all.into_iter().map(|runtime| (runtime.name.clone(), runtime)).collect())
}

/// Any registration.
pub fn registration() -> impl Strategy<Value = Registration> {
    let capacity = (any::<u32>(), any::<u64>()).prop_map(|(cpus, memory_bytes)| Capacity { cpus, memory_bytes });
    let texts = (any::<[String; 3]>(), any::<[Option<String>; 2]>());
    let endpoint = ("[a-z]{1,9}", any::<u16>()).prop_map(|(host, port)| Endpoint { host, port });
    let has = (option::of(capacity), btree_map(server(), endpoint, 0..3));
    (environment(), texts, any::<u32>(), runtimes(), has, option::of(reign())).prop_map(
        |(
            environment,
            ([version, boot, host], [url, proxy_url]),
            concurrent_starts,
            runtimes,
            (capacity, databases),
            follows,
        )| {
            Registration {
                environment,
                version,
                boot,
                concurrent_starts,
                runtimes,
                host,
                url,
                proxy_url,
                capacity,
                databases,
                follows,
            }
        },
    )
}

/// Any environment of the entry's record.
pub fn environment_row() -> impl Strategy<Value = EnvironmentRow> {
    (environment(), registration(), any::<bool>(), any::<u64>()).prop_map(|(name, registration, draining, heard_at)| {
        EnvironmentRow { name, registration, draining, heard_at: Wall(heard_at) }
    })
}

/// Any granted turn.
pub fn grant_row() -> impl Strategy<Value = GrantRow> {
    (app_id(), environment(), any::<u64>()).prop_map(|(app, environment, start_seq)| GrantRow {
        app,
        environment,
        start_seq: Seq(start_seq),
    })
}

/// Any reign.
pub fn reign() -> impl Strategy<Value = Reign> {
    (any::<u64>(), "[!-{}~]{1,128}")
        .prop_map(|(epoch, entry)| Reign { epoch: Epoch(epoch), entry: EntryId::parse(&entry).unwrap() })
}

/// Any order.
pub fn order() -> impl Strategy<Value = Order> {
    let turn = option::of(
        (0..u64::from(u32::MAX), any::<u64>())
            .prop_map(|(accept_by, number)| Turn { accept_by: Duration::from_micros(accept_by), number }),
    );
    let goals = app_id().prop_flat_map(move |app| (Just(app.clone()), ledger_goal(&app), turn.clone()));
    (goals, reign(), any::<[u64; 2]>()).prop_map(|((app, goal, turn), reign, [generation, intent_seq])| {
        let goal = match goal {
            LedgerGoal::Run(goal) => Goal::Run(RunGoal { turn, ..goal }),
            LedgerGoal::Stop => Goal::Stop,
            LedgerGoal::Remove { purge_data, drop } => Goal::Remove { purge_data, drop },
        };
        Order { app, reign, generation: Generation(generation), intent_seq: Seq(intent_seq), goal }
    })
}

/// Any report of an instance.
pub fn instance_report() -> impl Strategy<Value = InstanceReport> {
    let port = any::<u16>().prop_map(Address::Port);
    let unix = "[ -~]{1,40}".prop_map(|path| Address::Unix(path.into()));
    let header = option::of("x-[a-z]{1,20}".prop_map(|header| Select { header }));
    let place = (adapter(), option::of(prop_oneof![port, unix]), header, option::of(any::<u32>()), option::of(local()));
    let texts = (any::<[Option<String>; 2]>(), vec(any::<String>(), 0..3), vec(any::<String>(), 0..3));
    let state = (select(Phase::ALL), option::of(reason()), any::<[bool; 3]>());
    let numbers = (any::<[u64; 4]>(), any::<[u32; 2]>(), option::of(any::<u64>()));
    let upgrade = (any::<u64>(), any::<bool>(), option::of(any::<String>()));
    (app_id(), place, texts, state, numbers, upgrade).prop_map(|(app, place, texts, state, numbers, upgrade)| {
        let (upgraded, wanted, installed) = upgrade;
        let (adapter, address, select, pid, local) = place;
        let ([version, progress], last_log, notes) = texts;
        let (phase, reason, [in_turn, strip_prefix, removing]) = state;
        let ([intent_seq, run, generation, since], [attempt, restarts], next_attempt) = numbers;
        InstanceReport {
            app,
            intent_seq: Seq(intent_seq),
            run: Run { seq: Seq(run), attempt },
            generation: Generation(generation),
            phase,
            in_turn,
            reason,
            since: Wall(since),
            pid,
            adapter,
            address,
            strip_prefix,
            select,
            restarts,
            next_attempt: next_attempt.map(Wall),
            version,
            progress,
            last_log,
            notes,
            local,
            removing,
            upgrade: UpgradeReport { done: Seq(upgraded), wanted, installed },
        }
    })
}

/// Any report.
pub fn report() -> impl Strategy<Value = Report> {
    let refusals = vec![Refusal::Stale, Refusal::Late, Refusal::Busy, Refusal::Foreign];
    let stray = (app_id(), any::<(u64, u32)>(), option::of(any::<u32>()), adapter());
    let refused = (app_id(), any::<u64>(), select(refusals));
    prop_oneof![
        hello(),
        Just(Report::Alive),
        runtimes().prop_map(Report::Runtimes),
        instance_report().prop_map(|report| Report::Instance(Box::new(report))),
        (app_id(), any::<u64>()).prop_map(|(app, seq)| Report::Removed { app, intent_seq: Seq(seq) }),
        stray.prop_map(|(app, (seq, attempt), pid, adapter)| {
            Report::Stray { app, run: Run { seq: Seq(seq), attempt }, pid, adapter }
        }),
        refused.prop_map(|(app, seq, why)| Report::Refused { app, intent_seq: Seq(seq), why }),
    ]
}

/// Any hello.
pub fn hello() -> impl Strategy<Value = Report> {
    (registration(), vec(instance_report(), 0..12))
        .prop_map(|(registration, instances)| Report::Hello { registration: registration.into(), instances })
}

/// Turns a text around and remembers its place: enough to see that every secret goes through, with its own place.
pub struct Mirror;

impl Cipher for Mirror {
    fn encrypt(&self, text: &str, place: &str) -> Result<String, RowError> {
        Ok(format!("{place}={}", text.chars().rev().collect::<String>()))
    }

    fn decrypt(&self, text: &str, place: &str) -> Result<String, RowError> {
        let inner = text.strip_prefix(&format!("{place}="));
        inner.map(|text| text.chars().rev().collect()).ok_or(RowError::Cipher(format!("not made for {place}")))
    }
}
