use std::sync::Arc;

use super::*;
use crate::wire::samples;
use proptest::prelude::*;

/// Turns a text around and remembers its place: enough to see that every secret goes through, with its own place.
struct Mirror;

impl Cipher for Mirror {
    fn encrypt(&self, text: &str, place: &str) -> Result<String, RowError> {
        Ok(format!("{place}={}", text.chars().rev().collect::<String>()))
    }

    fn decrypt(&self, text: &str, place: &str) -> Result<String, RowError> {
        let inner = text.strip_prefix(&format!("{place}="));
        inner.map(|text| text.chars().rev().collect()).ok_or(RowError::Cipher(format!("not made for {place}")))
    }
}

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
    assert_eq!(read_event(&later_version), Err(RowError::Newer { found: 2 }));
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
        intent: Intent::Run,
        intent_seq: Seq(1),
        start_seq: Seq(1),
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
