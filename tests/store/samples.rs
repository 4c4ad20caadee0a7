//! Rows to store.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nbs_core::command::ActionKind;
use nbs_core::id::{EntryId, Epoch, Generation, OperationId, Reign, Run, Seq};
use nbs_core::intent::Intent;
use nbs_core::name::{AppId, EnvironmentName, RuntimeName};
use nbs_core::observation::Identity;
use nbs_core::order::{Capacity, LocalAction, LocalOverride, Registration, RunGoal, RuntimeSummary};
use nbs_core::phase::Phase;
use nbs_core::reason::{Reason, ReasonCode};
use nbs_core::recipe::{Adapter, Listen};
use nbs_core::record::{
    AppLife, AppRow, Change, EnvironmentRow, GrantRow, KeyRow, LedgerGoal, LedgerRow, OperationRow, PlacementRow,
    Recovered,
};
use nbs_core::secret::SecretText;
use nbs_core::spec::{AppSpec, Limits};
use nbs_core::time::Wall;
use nbs_core::view::{EventView, OperationStatus, OperationView};
use nbsupervisor::ports::{Record, TokenRow};
use nbsupervisor::store::Store;

pub const SECRET: &str = "correct horse battery staple";
pub const DB_SECRET: &str = "database-secret-of-the-app-in-plain-text-0123456789";
pub const JWT: &str = "jwt-of-the-app-in-plain-text";

pub fn app_id(text: &str) -> AppId {
    AppId::parse(text).unwrap()
}

pub fn spec(name: &str) -> Arc<AppSpec> {
    let local = EnvironmentName::parse("local").unwrap();
    let mut spec = AppSpec::minimal(app_id(name), RuntimeName::parse("node").unwrap(), local);
    spec.env.insert("TZ".into(), "UTC".into());
    spec.secrets.insert("MAIL_PASSWORD".into(), SecretText::new(SECRET));
    Arc::new(spec)
}

pub fn app(name: &str, generation: u64, seq: u64) -> AppRow {
    AppRow {
        spec: spec(name),
        generation: Generation(generation),
        jwt: SecretText::new(JWT),
        db_secret: SecretText::new(DB_SECRET),
        intent_seq: Seq(seq),
        placements: vec![PlacementRow {
            environment: EnvironmentName::parse("local").unwrap(),
            intent: Intent::OnDemand { awake: true },
            start_seq: Seq(seq),
            since: Seq(seq),
            leaving: false,
        }],
        created_at: Wall(1_700_000_000_000),
        life: AppLife::Kept,
        upgrade: None,
        moving: None,
        installed: None,
    }
}

pub fn operation(seq: u64, name: &str, status: OperationStatus) -> OperationRow {
    let view = OperationView {
        id: OperationId::from_parts(seq, 7),
        seq: Seq(seq),
        app: app_id(name),
        action: ActionKind::Start,
        environments: vec![EnvironmentName::parse("local").unwrap()],
        status,
        reason: None,
        created_at: Wall(1_700_000_000_000),
        finished_at: None,
        actor: "root".into(),
    };
    OperationRow { view, start_seq: Seq(seq) }
}

pub fn event(seq: u64, name: Option<&str>) -> EventView {
    EventView {
        seq,
        at: Wall(1_700_000_000_000),
        app: name.map(app_id),
        environment: None,
        kind: "instance_running".into(),
        message: "runs".into(),
        operation: Some(OperationId::from_parts(seq, 7)),
    }
}

pub fn key(key: &str, at: u64) -> KeyRow {
    KeyRow { actor: "root".into(), key: key.into(), request: [9; 32], operation: OperationId(5), at: Wall(at) }
}

pub fn instance(name: &str, seq: u64) -> LedgerRow {
    let goal = RunGoal {
        start_seq: Seq(seq),
        spec: spec(name),
        jwt: SecretText::new(JWT),
        db_secret: SecretText::new(DB_SECRET),
        upgrade_seq: Seq(0),
        installed: None,
        turn: None,
    };
    LedgerRow {
        app: app_id(name),
        epoch: Epoch(1),
        generation: Generation(1),
        intent_seq: Seq(seq),
        goal: LedgerGoal::Run(goal),
        run: Run { seq: Seq(seq), attempt: 2 },
        run_generation: Generation(1),
        adapter: Adapter::Process,
        made_in: None,
        hooks_done: 1,
        hook_begun: false,
        in_turn: true,
        database: Some(nbs_core::database::Made { own_role: true }),
        port: Some(20_001),
        identity: Some(Identity { pid: 4711, start_ticks: 99, boot: "b".into(), invocation: None }),
        phase: Phase::Running,
        since: Wall(3),
        reason: Some(Reason::new(ReasonCode::ExitStatus, "exited with status 1")),
        restarts: 2,
        last_log: vec!["line".into()],
        turn: 3,
        local: Some(LocalOverride { action: LocalAction::Stop, actor: "root".into(), at: Wall(5) }),
        shelved: Some(RunGoal {
            start_seq: Seq(seq),
            spec: spec(name),
            jwt: SecretText::new(JWT),
            db_secret: SecretText::new(DB_SECRET),
            upgrade_seq: Seq(0),
            installed: None,
            turn: None,
        }),
        upgrade: Default::default(),
    }
}

pub fn environment_name(text: &str) -> EnvironmentName {
    EnvironmentName::parse(text).unwrap()
}

pub fn environment(name: &str) -> EnvironmentRow {
    let node = RuntimeName::parse("node").unwrap();
    let runtime = RuntimeSummary {
        name: node.clone(),
        description: "Node".into(),
        adapter: Adapter::Systemd,
        listen: Listen::Port,
        strip_prefix: true,
        max_limits: Limits::default(),
        paths: Default::default(),
        app_id_pattern: None,
        secrets_needed: vec!["KEY".into()],
        needs_database: false,
        turn_timeout: Duration::from_secs(300),
        shared: None,
        upgrade_timeout: None,
    };
    let registration = Registration {
        environment: environment_name(name),
        version: "0.4.0".into(),
        boot: "boot-1".into(),
        concurrent_starts: 4,
        runtimes: BTreeMap::from([(node, runtime)]),
        host: "host-1".into(),
        url: Some("http://10.0.0.2:13000".into()),
        proxy_url: None,
        databases: Default::default(),
        capacity: Some(Capacity { cpus: 8, memory_bytes: 1 << 34 }),
        follows: None,
    };
    EnvironmentRow { name: environment_name(name), registration, draining: true, heard_at: Wall(6) }
}

pub fn grant(name: &str, environment: &str) -> GrantRow {
    GrantRow { app: app_id(name), environment: environment_name(environment), start_seq: Seq(4) }
}

pub fn reign(epoch: u64) -> Reign {
    Reign { epoch: Epoch(epoch), entry: EntryId::parse("entry-1").unwrap() }
}

pub fn token(name: &str) -> TokenRow {
    TokenRow { name: name.into(), hash: [3; 32], role: "admin".into(), created_at: Wall(4) }
}

pub fn app_change(row: &AppRow) -> Change {
    Change::App(Box::new(row.clone()))
}

pub fn operation_change(row: &OperationRow) -> Change {
    Change::Operation(Box::new(row.clone()))
}

pub fn event_change(row: &EventView) -> Change {
    Change::Event(Box::new(row.clone()))
}

/// What the record in `dir` holds.
pub async fn recovered(dir: &Path) -> Recovered {
    Store::open(dir).unwrap().load().await.unwrap()
}

/// A record with one row of each kind, closed.
pub async fn filled(dir: &Path) -> Recovered {
    let store = Store::open(dir).unwrap();
    let changes = vec![
        app_change(&app("crm", 1, 1)),
        operation_change(&operation(1, "crm", OperationStatus::Accepted)),
        event_change(&event(1, Some("crm"))),
        Change::Key(Box::new(key("k", 10))),
        Change::Boot("boot-1".into()),
        Change::Instance(Box::new(instance("crm", 1))),
        Change::Reign(Epoch(8)),
        Change::OwnEnvironment(environment_name("env_a")),
        Change::Environment(Box::new(environment("env_a"))),
        Change::Environment(Box::new(environment("env_b"))),
        Change::Grant(grant("crm", "env_b")),
        Change::Follow(reign(9)),
    ];
    store.commit(changes).await.unwrap();
    assert!(store.add_token(token("ci")).await.unwrap());
    store.load().await.unwrap()
}
