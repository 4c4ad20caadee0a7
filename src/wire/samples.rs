//! Generators of core values for the tests of this room.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use nbs_core::command::ActionKind;
use nbs_core::id::{Epoch, Generation, OperationId, Run, Seq};
use nbs_core::intent::Intent;
use nbs_core::name::{AppId, EnvironmentName, RuntimeName};
use nbs_core::observation::Identity;
use nbs_core::order::RunGoal;
use nbs_core::phase::Phase;
use nbs_core::quantity::{ByteSize, CpuQuota};
use nbs_core::reason::{Reason, ReasonCode};
use nbs_core::recipe::Adapter;
use nbs_core::record::{AppLife, AppRow, KeyRow, LedgerGoal, LedgerRow, OperationRow};
use nbs_core::secret::SecretText;
use nbs_core::spec::{AppSpec, Limits, Placement, ProxyChoice, ProxySettings, StartMode};
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

/// Any spec that can be written.
pub fn spec() -> impl Strategy<Value = AppSpec> {
    let start_mode = select(StartMode::ALL);
    let names = (app_id(), option::of("[^\\p{C}]{0,40}"), app_id(), btree_set(environment(), 1..4));
    let rest =
        (start_mode, variables("A"), variables("S"), limits(), btree_map("[a-z][a-z./-]{0,9}", "[^\\p{C}]{0,9}", 0..3));
    (names, rest)
        .prop_flat_map(|(names, rest)| {
            let places = places(&names.3);
            (Just(names), Just(rest), places)
        })
        .prop_map(
            |(
                (name, title, runtime, environments),
                (start_mode, env, secrets, limits, labels),
                (proxy, placements),
            )| {
                AppSpec {
                    name,
                    title,
                    runtime: RuntimeName::parse(runtime.as_str()).unwrap(),
                    environments,
                    start_mode,
                    env,
                    secrets: secrets.into_iter().map(|(name, text)| (name, SecretText::new(text))).collect(),
                    limits,
                    proxy,
                    labels,
                    placements,
                }
            },
        )
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
    (spec(), any::<[u64; 4]>(), secret(), intent(), life()).prop_map(|(spec, numbers, jwt, intent, life)| AppRow {
        spec: Arc::new(spec),
        generation: Generation(numbers[0]),
        jwt,
        intent,
        intent_seq: Seq(numbers[1]),
        start_seq: Seq(numbers[2]),
        created_at: Wall(numbers[3]),
        life,
    })
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

fn ledger_goal() -> impl Strategy<Value = LedgerGoal> {
    let run = (spec(), any::<u64>(), secret()).prop_map(|(spec, start_seq, jwt)| {
        LedgerGoal::Run(RunGoal { start_seq: Seq(start_seq), spec: Arc::new(spec), jwt, turn: None })
    });
    let remove = any::<bool>().prop_map(|purge_data| LedgerGoal::Remove { purge_data });
    prop_oneof![run, Just(LedgerGoal::Stop), remove]
}

/// Any instance of a ledger.
pub fn ledger_row() -> impl Strategy<Value = LedgerRow> {
    let identity = (any::<u32>(), any::<u64>(), any::<String>(), option::of(any::<String>()))
        .prop_map(|(pid, start_ticks, boot, invocation)| Identity { pid, start_ticks, boot, invocation });
    let reason = (select(ReasonCode::ALL), any::<String>()).prop_map(|(code, text)| Reason::new(code, text));
    let rest = (option::of(any::<u16>()), option::of(identity), select(Phase::ALL), option::of(reason));
    let numbers = (any::<[u64; 6]>(), any::<[u32; 3]>(), any::<bool>(), vec(any::<String>(), 0..3));
    (app_id(), ledger_goal(), rest, numbers).prop_map(|(app, goal, (port, identity, phase, reason), numbers)| {
        let ([epoch, generation, intent_seq, run, run_generation, since], small, hook_begun, last_log) = numbers;
        LedgerRow {
            app,
            epoch: Epoch(epoch),
            generation: Generation(generation),
            intent_seq: Seq(intent_seq),
            goal,
            run: Run { seq: Seq(run), attempt: small[0] },
            run_generation: Generation(run_generation),
            adapter: if hook_begun { Adapter::Process } else { Adapter::Systemd },
            hooks_done: small[1],
            hook_begun,
            in_turn: !hook_begun,
            port,
            identity,
            phase,
            since: Wall(since),
            reason,
            restarts: small[2],
            last_log,
        }
    })
}
