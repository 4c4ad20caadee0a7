use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nbs_core::command::ActionKind;
use nbs_core::id::{EntryId, Epoch, Generation, OperationId, Reign, Seq};
use nbs_core::intent::Intent;
use nbs_core::name::{EnvironmentName, RuntimeName};
use nbs_core::order::{Capacity, LocalAction, LocalOverride, Registration, RuntimeSummary};
use nbs_core::paths::{AppPath, Paths};
use nbs_core::recipe::{Adapter, Listen};
use nbs_core::record::{AppLife, AppRow, EnvironmentRow, GrantRow, KeyRow, LedgerGoal, OperationRow, PlacementRow};
use nbs_core::spec::Limits;
use nbs_core::time::Wall;
use nbs_core::view::{EventView, OperationStatus, OperationView};
use proptest::prelude::*;

use super::*;
use crate::wire::samples::{self, Mirror};

proptest! {
    #[test]
    fn an_app_reads_back_as_written(row in samples::app_row()) {
        prop_assert_eq!(read_app(&write_app(&row, &Mirror).unwrap(), &Mirror), Ok(row));
    }

    #[test]
    fn an_instance_reads_back_as_written(row in samples::ledger_row()) {
        prop_assert_eq!(read_instance(&write_instance(&row, &Mirror).unwrap(), &Mirror), Ok(row));
    }

    #[test]
    fn an_operation_reads_back_as_written(row in samples::operation_row()) {
        prop_assert_eq!(read_operation(&write_operation(&row).unwrap()), Ok(row));
    }

    #[test]
    fn an_event_reads_back_as_written(row in samples::event()) {
        prop_assert_eq!(read_event(&write_event(&row).unwrap()), Ok(row));
    }

    #[test]
    fn a_key_reads_back_as_written(row in samples::key_row()) {
        prop_assert_eq!(read_key(&write_key(&row).unwrap()), Ok(row));
    }

    #[test]
    fn an_environment_reads_back_as_written(row in samples::environment_row()) {
        prop_assert_eq!(read_environment(&write_environment(&row).unwrap()), Ok(row));
    }

    #[test]
    fn turns_and_reigns_read_back_as_written(row in samples::grant_row(), reign in samples::reign()) {
        prop_assert_eq!(read_epoch(&write_epoch(reign.epoch).unwrap()), Ok(reign.epoch));
        prop_assert_eq!(read_own_environment(&write_own_environment(&row.environment).unwrap()), Ok(row.environment.clone()));
        prop_assert_eq!(read_grant(&write_grant(&row).unwrap()), Ok(row));
        prop_assert_eq!(read_reign(&write_reign(&reign).unwrap()), Ok(reign));
    }

    #[test]
    fn nothing_that_is_read_panics(text in "\\PC{0,200}") {
        prop_assert!(read_app(&text, &Mirror).is_err());
        prop_assert!(read_instance(&text, &Mirror).is_err());
        prop_assert!(read_operation(&text).is_err());
    }
}

fn event() -> EventView {
    EventView {
        seq: 1,
        at: Wall(2),
        app: None,
        environment: None,
        kind: "boot".into(),
        message: "m".into(),
        operation: None,
    }
}

#[test]
fn a_later_field_is_ignored_and_a_later_version_refused() {
    let text = write_event(&event()).unwrap();
    let later_field = text.replacen('{', "{\"colour\":[1],", 1);
    assert_eq!(read_event(&later_field), Ok(event()));
    let later_version = text.replacen("\"v\":1", "\"v\":2,\"whole\":\"other\"", 1);
    assert_eq!(read_event(&later_version), Err(RowError::Newer { found: 2, supported: 1 }));
    assert!(read_event("{\"v\":2}").unwrap_err().to_string().contains("newer nbsupervisor"));
}

#[test]
fn faults_say_what_is_wrong() {
    let text = write_event(&event()).unwrap();
    for (from, to, wanted) in [
        ("\"seq\":1", "\"seq\":\"one\"", "of another kind"),
        ("\"app\":null", "\"app\":\"Crm\"", "\"Crm\""),
        ("\"operation\":null", "\"operation\":\"x\"", "\"x\""),
        ("}", "", "no JSON"),
    ] {
        let error = read_event(&text.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn secrets_stay_in_their_place() {
    let parse = |text| AppId::parse(text).unwrap();
    let runtime = nbs_core::name::RuntimeName::parse("node").unwrap();
    let environment = EnvironmentName::parse("local").unwrap();
    let mut spec = nbs_core::spec::AppSpec::minimal(parse("crm"), runtime, environment);
    spec.secrets.insert("jwt".into(), SecretText::new("other"));
    let row = AppRow {
        spec: Arc::new(spec),
        generation: Generation(1),
        jwt: SecretText::new("token"),
        db_secret: SecretText::new("own"),
        intent_seq: Seq(1),
        placements: vec![],
        created_at: Wall(1),
        life: AppLife::Kept,
        upgrade: None,
        moving: None,
        installed: None,
    };
    let text = write_app(&row, &Mirror).unwrap();
    assert!(!text.contains("token") && !text.contains("other"), "{text}");
    let moved = text.replace("\"name\":\"crm\"", "\"name\":\"erp\"");
    assert!(matches!(read_app(&moved, &Mirror), Err(RowError::Cipher(_))));
    let swapped = text.replace("app/crm/jwt=nekot", "app/crm/secret/jwt=rehto");
    assert!(matches!(read_app(&swapped, &Mirror), Err(RowError::Cipher(_))));
}

#[test]
fn an_app_of_version_1_has_its_one_intent_in_every_environment() {
    let (text, sealed) = (include_str!("tests/app_1.json"), include_str!("tests/instance_1.json"));
    let row = read_app(text, &Mirror).unwrap();
    let place = |environment: &str| PlacementRow {
        environment: EnvironmentName::parse(environment).unwrap(),
        intent: Intent::OnDemand { awake: true },
        start_seq: Seq(7),
        since: Seq(0),
        leaving: false,
    };
    assert_eq!(row.placements, [place("env_a"), place("env_b")]);
    assert_eq!((row.generation, row.intent_seq, row.created_at), (Generation(3), Seq(8), Wall(1_700_000_000_000)));
    assert_eq!((row.jwt.expose(), row.life), ("token", AppLife::Kept));
    assert_eq!((row.db_secret.expose(), &row.spec.database), ("", &None), "from before there were databases");
    // Rows from before there were upgrades and moves say nothing of them.
    assert_eq!((row.upgrade, row.moving, row.installed, row.spec.auto_upgrade), (None, None, None, false));
    let instance = read_instance(sealed, &Mirror).unwrap();
    assert_eq!((instance.turn, instance.local, instance.shelved), (0, None, None));
    assert_eq!(instance.upgrade, Default::default());
    assert!(matches!(instance.goal, LedgerGoal::Run(goal) if goal.jwt.expose() == "token" && goal.start_seq == Seq(7)));
}

#[test]
fn an_app_of_version_1_without_an_intent_is_damaged() {
    let text = include_str!("tests/app_1.json");
    for (from, to) in [("\"intent\":\"on-demand\",", ""), ("\"start_seq\":7,", ""), ("\"v\":1", "\"v\":2")] {
        assert!(text.contains(from), "{from}");
        assert!(matches!(read_app(&text.replacen(from, to, 1), &Mirror), Err(RowError::Damaged(_))), "{from}");
    }
    let later = text.replacen("\"v\":1", "\"v\":3", 1);
    assert_eq!(read_app(&later, &Mirror), Err(RowError::Newer { found: 3, supported: 2 }));
}

/// One row of each kind, as it is written.
fn written() -> Vec<(&'static str, String)> {
    let name = |text| EnvironmentName::parse(text).unwrap();
    let app = read_app(include_str!("tests/app_1.json"), &Mirror).unwrap();
    let mut instance = read_instance(include_str!("tests/instance_1.json"), &Mirror).unwrap();
    let LedgerGoal::Run(goal) = std::mem::replace(&mut instance.goal, LedgerGoal::Stop) else { unreachable!() };
    (instance.turn, instance.shelved) = (4, Some(goal));
    instance.local = Some(LocalOverride { action: LocalAction::Stop, actor: "root".into(), at: Wall(5) });
    let grant = GrantRow { app: AppId::parse("crm").unwrap(), environment: name("env_b"), start_seq: Seq(4) };
    let reign = Reign { epoch: Epoch(9), entry: EntryId::parse("entry-1").unwrap() };
    let key =
        KeyRow { actor: "root".into(), key: "k".into(), request: [9; 32], operation: OperationId(5), at: Wall(1) };
    let view = OperationView {
        id: OperationId(5),
        seq: Seq(1),
        app: AppId::parse("crm").unwrap(),
        action: ActionKind::Start,
        environments: vec![name("env_a")],
        status: OperationStatus::Done,
        reason: None,
        created_at: Wall(1),
        finished_at: Some(Wall(2)),
        actor: "root".into(),
    };
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
        environment: name("env_a"),
        version: "0.4.0".into(),
        boot: "boot-1".into(),
        concurrent_starts: 4,
        runtimes: BTreeMap::from([(node, runtime)]),
        host: "host-1".into(),
        url: Some("http://10.0.0.2:13000".into()),
        proxy_url: None,
        capacity: Some(Capacity { cpus: 8, memory_bytes: 1 << 34 }),
        databases: BTreeMap::new(),
        follows: None,
    };
    let environment = EnvironmentRow { name: name("env_a"), registration, draining: true, heard_at: Wall(6) };
    vec![
        ("app", write_app(&app, &Mirror).unwrap()),
        ("instance", write_instance(&instance, &Mirror).unwrap()),
        ("operation", write_operation(&OperationRow { view, start_seq: Seq(1) }).unwrap()),
        ("event", write_event(&event()).unwrap()),
        ("key", write_key(&key).unwrap()),
        ("environment", write_environment(&environment).unwrap()),
        ("grant", write_grant(&grant).unwrap()),
        ("epoch", write_epoch(Epoch(8)).unwrap()),
        ("follows", write_reign(&reign).unwrap()),
        ("own", write_own_environment(&name("env_a")).unwrap()),
    ]
}

#[test]
fn each_kind_of_row_is_written_as_it_always_was() {
    let found: String = written().iter().map(|(kind, text)| format!("{kind}: {text}\n")).collect();
    assert!(found == include_str!("tests/golden.txt"), "{found}");
}

#[test]
fn a_recipe_from_before_there_were_paths_has_none() {
    let golden = include_str!("tests/golden.txt");
    let old = golden.lines().find_map(|line| line.strip_prefix("environment: ")).unwrap();
    let paths = |text: &str| {
        let row = read_environment(text).unwrap();
        row.registration.runtimes.into_values().next().unwrap().paths
    };
    assert_eq!(paths(old), Paths::default());
    let told = r#""paths":{"naming":[{"path":"/files/"}],"shared":["/assets/"]},"turn_timeout_us""#;
    let new = old.replacen("\"turn_timeout_us\"", told, 1);
    let files = AppPath { path: "/files/".into(), rewrite: None };
    assert_eq!(paths(&new), Paths { naming: vec![files], shared: vec!["/assets/".into()], page: Vec::new() });
}
