//! The whole daemon, by its command line.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::daemon::Daemon;
use crate::rig::{Rig, USUAL};

/// Holds one session on its database, and ends with it.
pub const HOLDER: (&str, &str) = (
    "holder.toml",
    r#"
name = "holder"
command = ["/bin/sh", "-c", "env > part; mv part connection; exec psql -X -q -c 'SELECT pg_sleep(100000)'"]
listen = "none"
environment = { PGHOST = "{db.host}", PGPORT = "{db.port}", PGDATABASE = "{db.database}", PGUSER = "{db.user}", PGPASSWORD = "{db.password}", DATABASE_URL = "{db.url}", SCHEMA = "{db.schema}", DIALECT = "{db.dialect}" }
ready = { exec = ["/bin/sh", "-c", "test -e connection && exec psql -X -q -c 'SELECT 1'"], interval = "100ms", timeout = "30s" }
stop = { signal = "SIGTERM", timeout = "5s" }
restart = { policy = "on-failure", delay = "200ms", max_delay = "200ms", burst = 3, window = "5m" }
"#,
);

/// Needs a file.
const FILER: (&str, &str) = (
    "filer.toml",
    r#"
name = "filer"
command = ["/bin/sh", "-c", ": > \"$FILE\"; env > part; mv part connection; exec sleep infinity"]
listen = "none"
environment = { FILE = "{db.database}", DATABASE_URL = "{db.url}", DIALECT = "{db.dialect}", PORT = "{db.port}" }
ready = { exec = ["/usr/bin/test", "-e", "connection"], interval = "20ms" }
stop = { signal = "SIGTERM", timeout = "5s" }
"#,
);

/// The configuration of a daemon that makes databases on a rig's server.
pub fn settings(rig: &Rig) -> Vec<String> {
    let file = rig.server.dir().join("password");
    fs::write(&file, "geheim\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let key = |key: &str, value: String| format!("database.servers.default.{key}={value}");
    vec![
        key("port", rig.server.port().to_string()),
        key("user", "nbs".into()),
        key("password_file", file.display().to_string()),
    ]
}

fn start(rig: &Rig, recipes: &[(&str, &str)]) -> Daemon {
    let settings = settings(rig);
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    Daemon::start_with(recipes, &settings)
}

fn connection(daemon: &Daemon, app: &str) -> String {
    fs::read_to_string(daemon.dir().join("state/apps").join(app).join("connection")).unwrap()
}

#[test]
fn an_app_is_made_kept_found_again_and_purged() {
    let rig = Rig::new(USUAL);
    let daemon = start(&rig, &[HOLDER]);
    let create = ["app", "create", "crm", "--runtime", "holder", "--database", "new-database"];
    daemon.cli_ok(&create);
    daemon.cli_ok(&["app", "start", "crm"]);
    daemon.wait_status("crm", "running");
    let seen = connection(&daemon, "crm");
    let url = seen.lines().find_map(|line| line.strip_prefix("DATABASE_URL=")).unwrap().to_string();
    assert!(seen.contains("SCHEMA=public\n") && seen.contains("DIALECT=postgres\n"), "{seen}");
    rig.server.sql_as(&url, "CREATE TABLE people (name text)").unwrap();
    let shown = daemon.cli_ok(&["app", "show", "crm"]);
    let held = format!("database \"crm\" and role \"crm\" on server default (127.0.0.1:{})", rig.server.port());
    assert!(shown.contains(&held) && !shown.contains("PGPASSWORD"), "{shown}");
    let password = url.split([':', '@']).nth(2).unwrap();
    for text in [daemon.app("crm").to_string(), daemon.log()] {
        assert!(!text.contains(password), "{text}");
    }

    let removed = daemon.cli(&["app", "remove", "crm"]);
    let talk = String::from_utf8_lossy(&removed.stderr).into_owned();
    assert!(removed.status.success() && talk.contains(&format!("kept: crm: {held}")), "{talk}");
    daemon.cli_ok(&[&create[..], &["--reuse"]].concat());
    daemon.cli_ok(&["app", "start", "crm"]);
    assert_eq!(rig.server.sql_as(&url, "SELECT count(*) FROM people").unwrap(), "0", "its data was met again");

    let plan = daemon.cli_ok(&["app", "remove", "crm", "--purge-data", "--dry-run"]);
    assert!(plan.contains(&format!("delete {held}")) && plan.contains("delete its files in local"), "{plan}");
    assert_eq!(daemon.status("crm"), "running", "nothing was done");
    let refused = daemon.cli(&["app", "remove", "crm", "--purge-data"]);
    let talk = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && talk.contains(&format!("to be deleted: crm: {held}")), "{talk}");
    daemon.cli_ok(&["app", "remove", "crm", "--purge-data", "--yes"]);
    assert_eq!((rig.databases().as_str(), rig.roles().as_str()), ("", ""));
}

#[test]
fn a_file_is_the_apps_own_and_goes_with_its_data() {
    let rig = Rig::new(USUAL);
    let daemon = start(&rig, &[FILER]);
    daemon.cli_ok(&[
        "app",
        "create",
        "crm",
        "--runtime",
        "filer",
        "--database",
        "new-database",
        "--db-dialect",
        "sqlite",
    ]);
    daemon.cli_ok(&["app", "start", "crm"]);
    let file = daemon.dir().join("state/apps/crm/crm.sqlite");
    let seen = connection(&daemon, "crm");
    assert!(seen.contains(&format!("FILE={}\n", file.display())) && seen.contains("DIALECT=sqlite\n"), "{seen}");
    assert!(seen.contains("PORT=\n") && file.exists(), "{seen}");
    daemon.cli_ok(&["app", "remove", "crm", "--purge-data", "--yes"]);
    assert!(!file.exists());
}

#[test]
fn a_given_connection_is_handed_over_and_never_dropped() {
    let rig = Rig::new("CREATEDB");
    rig.server.sql("postgres", "CREATE ROLE \"o'hara x\" LOGIN PASSWORD 'a b:c'");
    rig.server.sql("postgres", "CREATE DATABASE \"my \"\"db\"\" x\" OWNER \"o'hara x\"");
    let daemon = start(&rig, &[HOLDER]);
    let secret = daemon.dir().join("secret");
    fs::write(&secret, "a b:c\n").unwrap();
    let (port, secret) = (rig.server.port().to_string(), format!("--db-password=@{}", secret.display()));
    let create =
        ["app", "create", "crm", "--runtime", "holder", "--database", "new-connection", "--db-host", "127.0.0.1"];
    let given = ["--db-port", &port, "--db-name", "my \"db\" x", "--db-user", "o'hara x", &secret];
    daemon.cli_ok(&[&create[..], &given[..]].concat());
    daemon.cli_ok(&["app", "start", "crm"]);
    assert!(!daemon.app("crm").to_string().contains("a b:c"));
    daemon.cli_ok(&["app", "remove", "crm", "--purge-data", "--yes"]);
    assert_eq!((rig.databases().as_str(), rig.roles().as_str()), ("my \"db\" x", "o'hara x"));
}

#[test]
fn what_cannot_be_made_is_an_error_that_names_cause_and_remedy() {
    let rig = Rig::new("");
    let daemon = start(&rig, &[HOLDER]);
    let made = |database: serde_json::Value| {
        let spec = json!({ "name": "crm", "runtime": "holder", "start_mode": "manual", "database": database });
        daemon.request("POST", "/api/v1/apps", Some(spec))
    };
    let none = made(json!({ "mode": "none" }));
    assert_eq!((none.status, &none.body["field"]), (400, &json!("database.mode")), "{}", none.body);
    let unknown = made(json!({ "mode": "new-database", "dialect": "oracle" }));
    assert_eq!((unknown.status, &unknown.body["field"]), (400, &json!("database.dialect")), "{}", unknown.body);
    let nowhere = made(json!({ "mode": "new-database", "server": "big" }));
    assert_eq!((nowhere.status, &nowhere.body["field"]), (400, &json!("database.server")), "{}", nowhere.body);
    assert_eq!(made(json!({ "mode": "new-database" })).status, 201);
    let started = daemon.cli(&["app", "start", "crm"]);
    assert!(!started.status.success());
    let reason = daemon.app("crm")["instances"][0]["reason"].clone();
    assert_eq!(reason["code"], "database_denied", "{reason}");
    assert!(reason["text"].as_str().unwrap().contains("CREATEDB"), "{reason}");
    // The right is given, and the next start succeeds.
    rig.server.sql("postgres", "ALTER ROLE nbs CREATEDB CREATEROLE");
    daemon.cli_ok(&["app", "start", "crm"]);
    assert_eq!(daemon.status("crm"), "running");
}
