use std::sync::Arc;

use nbs_core::id::{Generation, Seq};
use nbs_core::intent::Intent;
use nbs_core::name::EnvironmentName;
use nbs_core::record::{AppLife, AppRow, LedgerGoal, PlacementRow};
use nbs_core::time::Wall;
use nbs_core::view::EventView;
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
        intent_seq: Seq(1),
        placements: vec![],
        created_at: Wall(1),
        life: AppLife::Kept,
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
    let instance = read_instance(sealed, &Mirror).unwrap();
    assert_eq!((instance.turn, instance.local, instance.shelved), (0, None, None));
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
