use super::*;
use crate::wire::samples;
use proptest::prelude::*;

fn standalone() -> SpecDefaults {
    SpecDefaults { environments: Some(BTreeSet::from([EnvironmentName::parse("local").unwrap()])) }
}

fn small() -> Value {
    json!({ "name": "crm", "runtime": "node" })
}

fn with(key: &str, value: Value) -> Value {
    let mut spec = small();
    spec[key] = value;
    spec
}

fn database(over: Value) -> Value {
    let mut database = json!({ "mode": "new-database" });
    merge(&mut database, &over);
    with("database", database)
}

fn given(over: Value) -> Value {
    let mut given = json!({ "mode": "new-connection", "host": "db.example", "port": 5433, "database": "my \"db\"",
        "schema": null, "user": "o'hara", "password": "hunter2" });
    merge(&mut given, &over);
    with("database", given)
}

#[test]
fn a_database_is_read_and_shown_without_its_password() {
    let read = |value: &Value| parse_spec(value, &standalone()).unwrap();
    let shown = |value: &Value| render_spec(&read(value))["database"].clone();
    let full = json!({ "mode": "new-database", "dialect": "postgres", "server": "default" });
    assert_eq!(shown(&database(json!({}))), full);
    assert_eq!(
        shown(&database(json!({ "dialect": "sqlite" }))),
        json!({ "mode": "new-database", "dialect": "sqlite" })
    );
    let schema = json!({ "mode": "new-schema", "dialect": "postgres", "server": "big" });
    assert_eq!(shown(&with("database", schema.clone())), schema);
    let mut wanted = given(json!({}))["database"].clone();
    wanted["dialect"] = json!("postgres");
    wanted["password"] = Value::Null;
    wanted["schema"] = Value::Null;
    assert_eq!(shown(&given(json!({}))), wanted);
}

#[test]
fn a_patch_keeps_a_password_and_another_mode_replaces_the_rest() {
    let current = parse_spec(&given(json!({})), &standalone()).unwrap();
    let patched = |patch: Value| patch_spec(&current, &json!({ "database": patch }), &standalone());
    let Some(nbs_core::database::Database::Given(moved)) = patched(json!({ "host": "other" })).unwrap().database else {
        panic!("it is given");
    };
    assert_eq!((moved.host.as_str(), moved.password.expose()), ("other", "hunter2"));
    assert_eq!(render_spec(&patched(json!({ "mode": "none" })).unwrap())["database"], json!({ "mode": "none" }));
    let other = patched(json!({ "mode": "new-database" })).unwrap();
    assert_eq!(other.database.as_ref().and_then(|database| database.server().cloned()).unwrap().as_str(), "default");
    let file = patch_spec(&other, &json!({ "database": { "dialect": "sqlite" } }), &standalone()).unwrap();
    assert_eq!(file.database, Some(nbs_core::database::Database::File));
    let errors = patched(json!({ "password": "hunter2\0" })).unwrap_err();
    assert!(!format!("{errors:?}").contains("hunter2"), "{errors:?}");
}

#[test]
fn the_necessary_is_enough() {
    let spec = parse_spec(&small(), &standalone()).unwrap();
    let name = |text| AppId::parse(text).unwrap();
    let runtime = RuntimeName::parse("node").unwrap();
    assert_eq!(spec, AppSpec::minimal(name("crm"), runtime, EnvironmentName::parse("local").unwrap()));
    assert_eq!(parse_spec(&small(), &SpecDefaults::default()).unwrap_err()[0].field, "environments");
}

#[test]
fn every_key_of_the_contract_is_read() {
    let value = json!({
        "name": "crm", "title": "CRM", "runtime": "nocobase", "hosting": "dedicated", "environments": ["env_a", "env_b"],
        "start_mode": "manual", "idle_stop": null, "auto_upgrade": false, "database": { "mode": "none" }, "domains": [],
        "env": { "TZ": "UTC" }, "secrets": { "MAIL_PASSWORD": "hunter2" },
        "limits": { "memory_max": "1G", "cpu_quota": "150%", "tasks_max": 256, "io_weight": 50 },
        "proxy": { "choice": "env_b", "hold_timeout": "30s" }, "labels": { "team": "sales" },
        "placements": { "env_b": { "env": { "WORKER_MODE": "*" }, "serve": false } } });
    let spec = parse_spec(&value, &SpecDefaults::default()).unwrap();
    assert_eq!(spec.secrets["MAIL_PASSWORD"].expose(), "hunter2");
    assert_eq!(spec.limits.memory_max, Some(ByteSize(1 << 30)));
    let mut shown = value.clone();
    shown["secrets"]["MAIL_PASSWORD"] = Value::Null;
    assert_eq!(render_spec(&spec), shown);
}

#[test]
fn faults_name_field_value_and_remedy() {
    let bytes = with("limits", json!({ "memory_max": 1048576 }));
    assert_eq!(parse_spec(&bytes, &standalone()).unwrap().limits.memory_max, Some(ByteSize(1 << 20)));
    let long = "x".repeat(SPEC_VALUE_MAX + 1);
    let many: Map<String, Value> = (0..=SPEC_ENTRIES_MAX).map(|i| (format!("A{i}"), json!(""))).collect();
    let table: Vec<(Value, &str, &str, &str)> = vec![
        (json!([]), "", "a list", "object"),
        (with("name", json!("Crm")), "name", "\"Crm\"", "lower-case"),
        (with("name", json!(7)), "name", "7", "quotes"),
        (with("name", json!(null)), "name", "missing", "app ID"),
        (with("runtime", json!("a b")), "runtime", "\"a b\"", "lower-case"),
        (with("title", json!("a\u{1b}[2J")), "title", "\\u{1b}", "one line"),
        (with("colour", json!(1)), "colour", "colour", "placements"),
        (with("start-mode", json!("manual")), "start-mode", "start-mode", "start_mode"),
        (with("limits", json!({ "memory_mx": 1 })), "limits.memory_mx", "memory_mx", "memory_max?"),
        (with("limits", json!({ "memory_max": "1 gig" })), "limits.memory_max", "\"1 gig\" is not a size", "1G"),
        (with("limits", json!({ "memory_max": 0 })), "limits.memory_max", "0", "512M"),
        (with("limits", json!({ "memory_max": 1.5 })), "limits.memory_max", "1.5", "512M"),
        (with("limits", json!({ "cpu_quota": 150 })), "limits.cpu_quota", "150", "\"150%\""),
        (with("limits", json!({ "tasks_max": "9" })), "limits.tasks_max", "\"9\"", "without quotes"),
        (with("limits", json!({ "tasks_max": -1 })), "limits.tasks_max", "-1", "whole number"),
        (with("limits", json!("1G")), "limits", "\"1G\"", "object"),
        (with("hosting", json!("cloud")), "hosting", "\"cloud\"", "dedicated"),
        (with("idle_stop", json!("30m")), "idle_stop", "not available yet", "leave"),
        (with("auto_upgrade", json!("no")), "auto_upgrade", "\"no\"", "true or false"),
        (with("domains", json!(["a.example"])), "domains", "not available yet", "empty"),
        (with("start_mode", json!("always")), "start_mode", "\"always\"", "with-supervisor"),
        (with("environments", json!([])), "environments", "nowhere", "at least one"),
        (with("environments", json!(["_a"])), "environments.0", "\"_a\"", "letter or digit"),
        (with("environments", json!([null])), "environments.0", "null", "at least one"),
        (with("env", json!({ "9A": "" })), "env.9A", "\"9A\"", "letter or _"),
        (with("env", json!({ "A": 1 })), "env.A", "a number", "quotes"),
        (with("env", json!({ "A": null })), "env.A", "null", "quotes"),
        (with("env", json!({ "A": "a\0b" })), "env.A", "NUL", "take it out"),
        (with("env", json!({ "A": long })), "env.A", "65537", "shorten"),
        (with("env", Value::Object(many)), "env", "257", "leave some out"),
        (with("env", json!({ "NOTIFY_SOCKET": "" })), "env.NOTIFY_SOCKET", "NOTIFY_SOCKET", "reserved"),
        (with("secrets", json!({ "NBS_X": "" })), "secrets.NBS_X", "NBS_X", "reserved"),
        (with("secrets", json!({ "A": null })), "secrets.A", "null", "quotes"),
        (with("labels", json!({ "a b": "" })), "labels.a b", "\"a b\"", "letter or digit"),
        (with("labels", json!({ "a": "x\ny" })), "labels.a", "\"x\\ny\"", "one line"),
        (with("proxy", json!({ "choice": "lcoal" })), "proxy.choice", "\"lcoal\"", "local?"),
        (with("proxy", json!({ "hold_timeout": 30 })), "proxy.hold_timeout", "30", "\"30s\""),
        (with("proxy", json!({ "hold_timeout": "30" })), "proxy.hold_timeout", "\"30\"", "30s"),
        (with("placements", json!({ "env_b": {} })), "placements.env_b", "\"env_b\"", "add it"),
        (with("placements", json!({ "local": null })), "placements.local", "null", "object"),
        (with("placements", json!({ "local": { "serv": true } })), "placements.local.serv", "serv", "serve?"),
    ];
    assert_faults(table);
}

/// Each value has one fault, with this field, and these parts of detail and hint.
fn assert_faults(table: Vec<(Value, &str, &str, &str)>) {
    for (value, field, detail, hint) in table {
        let errors = parse_spec(&value, &standalone()).unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:?}");
        let error = &errors[0];
        let unknown = error.detail.starts_with("there is no key");
        assert_eq!(error.code, if unknown { "unknown_field" } else { "invalid" });
        assert_eq!(error.field, field);
        assert!(error.detail.contains(detail), "{error:?} wants {detail}");
        assert!(error.hint.contains(hint), "{error:?} wants {hint}");
    }
}

#[test]
fn faults_of_a_database_name_field_value_and_remedy() {
    assert_faults(vec![
        (with("database", json!({ "mode": "new-databse" })), "database.mode", "\"new-databse\"", "new-database?"),
        (with("database", json!({ "mode": "x" })), "database.mode", "\"x\"", "none, new-database"),
        (
            database(json!({ "dialect": "oracle" })),
            "database.dialect",
            "\"oracle\" is not a dialect",
            "postgres or sqlite",
        ),
        (database(json!({ "dialect": "postgre" })), "database.dialect", "not a dialect", "postgres?"),
        (database(json!({ "dialect": "mysql" })), "database.dialect", "not available yet", "postgres"),
        (database(json!({ "server": "A b" })), "database.server", "\"A b\"", "lower-case"),
        (database(json!({ "host": "h" })), "database.host", "no meaning with mode new-database", "server"),
        (database(json!({ "dialect": "sqlite", "server": "x" })), "database.server", "no meaning", "leave it out"),
        (
            database(json!({ "mode": "new-schema", "dialect": "sqlite" })),
            "database.dialect",
            "needs a server",
            "new-database",
        ),
        (given(json!({ "host": null })), "database.host", "missing", "host of the server"),
        (given(json!({ "host": "a b" })), "database.host", "\"a b\"", "/run/postgresql"),
        (given(json!({ "port": "5432" })), "database.port", "\"5432\"", "without quotes"),
        (given(json!({ "port": 65536 })), "database.port", "65536", "65535"),
        (given(json!({ "user": "" })), "database.user", "no name", "1 to 63"),
        (given(json!({ "database": "x".repeat(64) })), "database.database", "no name", "1 to 63"),
        (given(json!({ "password": 7 })), "database.password", "a number", "quotes"),
    ]);
}

#[test]
fn all_faults_are_told_at_once() {
    let value = json!({ "name": "Crm", "colour": 1, "env": { "A": "1" }, "secrets": { "A": "x" },
        "limits": { "tasks_max": 0 }, "environments": ["a"], "placements": { "b": { "serve": 1 } } });
    let errors = parse_spec(&value, &SpecDefaults::default()).unwrap_err();
    let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
    let expected = ["colour", "name", "runtime", "secrets.A", "limits.tasks_max", "placements.b", "placements.b.serve"];
    assert_eq!(fields, expected);
}

#[test]
fn no_fault_shows_a_secret() {
    let bad = ["hunter2\0", &"hunter2".repeat(SPEC_VALUE_MAX)];
    let values = bad.iter().map(|text| json!(text)).chain([json!({ "x": "hunter2" }), json!(["hunter2"])]);
    for value in values {
        let errors = parse_spec(&with("secrets", json!({ "A": value })), &standalone()).unwrap_err();
        assert!(!format!("{errors:?}").contains("hunter2"), "{errors:?}");
    }
}

#[test]
fn a_patch_merges_and_null_takes_away() {
    let mut first = with("env", json!({ "A": "1", "B": "2" }));
    first["secrets"] = json!({ "S": "s", "T": "t" });
    first["title"] = json!("CRM");
    let current = parse_spec(&first, &standalone()).unwrap();
    let patch = json!({ "title": null, "env": { "A": null, "C": "3" }, "secrets": { "S": null, "U": "u" } });
    let patched = patch_spec(&current, &patch, &standalone()).unwrap();
    assert_eq!(patched.title, None);
    assert_eq!(patched.env.keys().collect::<Vec<_>>(), ["B", "C"]);
    assert_eq!(patched.secrets.keys().collect::<Vec<_>>(), ["T", "U"]);
    assert_eq!(patched.secrets["T"].expose(), "t");
    assert_eq!(patch_spec(&current, &json!({}), &standalone()).unwrap(), current);
    assert_eq!(patch_spec(&current, &json!({ "name": "crm" }), &standalone()).unwrap(), current);
}

#[test]
fn a_patch_is_judged_as_the_spec_it_makes() {
    let first = json!({ "name": "crm", "runtime": "node", "environments": ["a", "b"],
        "secrets": { "S": "s" }, "placements": { "b": { "serve": false } } });
    let current = parse_spec(&first, &standalone()).unwrap();
    for (patch, field) in [
        (json!({ "name": "erp" }), "name"),
        (json!({ "name": null }), "name"),
        (json!({ "runtime": null }), "runtime"),
        (json!({ "environments": ["a"] }), "placements.b"),
        (json!({ "env": { "S": "x" } }), "secrets.S"),
        (json!({ "colour": "red" }), "colour"),
        (json!({ "limits": "1G" }), "limits"),
        (json!("x"), ""),
    ] {
        let errors = patch_spec(&current, &patch, &standalone()).unwrap_err();
        assert_eq!(errors.iter().map(|error| error.field.as_str()).collect::<Vec<_>>(), [field]);
    }
}

#[test]
fn patches_cannot_grow_a_spec_without_bound() {
    let mut current = parse_spec(&small(), &standalone()).unwrap();
    let value = "x".repeat(SPEC_VALUE_MAX);
    let refused = (0..SPEC_ENTRIES_MAX).find_map(|i| {
        match patch_spec(&current, &json!({ "env": { format!("A{i}"): value } }), &standalone()) {
            Ok(grown) => {
                current = grown;
                None
            }
            Err(errors) => Some(errors),
        }
    });
    assert!(refused.unwrap()[0].detail.contains("1048576"));
}

/// What a client that knows the secrets would send to make the same app.
fn with_secrets(spec: &AppSpec) -> Value {
    let mut value = render_spec(spec);
    for (name, secret) in &spec.secrets {
        assert_eq!(value["secrets"][name], Value::Null);
        value["secrets"][name] = Value::from(secret.expose());
    }
    if let Some(nbs_core::database::Database::Given(given)) = &spec.database {
        assert_eq!(value["database"]["password"], Value::Null);
        value["database"]["password"] = Value::from(given.password.expose());
    }
    value
}

proptest! {
    #[test]
    fn what_is_shown_reads_back(spec in samples::spec()) {
        let none = SpecDefaults::default();
        prop_assert_eq!(parse_spec(&with_secrets(&spec), &none), Ok(spec.clone()));
        prop_assert_eq!(patch_spec(&spec, &json!({}), &none), Ok(spec));
    }

    #[test]
    fn one_spec_patched_with_the_whole_of_another_keeps_only_its_own_extra_keys(
        from in samples::spec(), to in samples::spec(),
    ) {
        let mut patch = with_secrets(&to);
        patch["name"] = Value::from(from.name.as_str());
        for (object, keys) in [
            ("env", from.env.keys().collect::<Vec<_>>()),
            ("secrets", from.secrets.keys().collect()),
            ("labels", from.labels.keys().collect()),
        ] {
            for key in keys {
                let gone = patch[object].get(key).is_none();
                if gone { patch[object][key.as_str()] = Value::Null; }
            }
        }
        for name in from.placements.keys().filter(|name| !to.placements.contains_key(*name)) {
            patch["placements"][name.as_str()] = Value::Null;
        }
        let patched = patch_spec(&from, &patch, &SpecDefaults::default()).unwrap();
        let mut expected = to.clone();
        expected.name = from.name.clone();
        for (name, placement) in &from.placements {
            if let Some(kept) = expected.placements.get_mut(name) {
                for (key, text) in &placement.env { kept.env.entry(key.clone()).or_insert(text.clone()); }
            }
        }
        prop_assert_eq!(patched, expected);
    }
}
