//! The server goes away under running apps and comes back.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::eventually::{eventually, let_time_pass};
use crate::rig::{Rig, USUAL};
use crate::whole::{HOLDER, settings};

const APPS: [&str; 3] = ["crm", "erp", "shop"];

fn instance(daemon: &Daemon, app: &str) -> Value {
    daemon.app(app)["instances"][0].clone()
}

fn why(daemon: &Daemon, app: &str) -> String {
    daemon.request("GET", &format!("/api/v1/apps/{app}/why"), None).body.to_string()
}

#[test]
fn three_apps_wait_for_their_server_and_come_back_with_one_restart_each() {
    let rig = Rig::new(USUAL);
    let settings = settings(&rig);
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let daemon = Daemon::start_with(&[HOLDER], &settings);
    for app in APPS {
        let spec = json!({ "name": app, "runtime": "holder", "start_mode": "with-supervisor", "database": { "mode": "new-database" } });
        let answer = daemon.request("POST", "/api/v1/apps", Some(spec));
        assert_eq!(answer.status, 201, "{}", answer.body);
    }
    APPS.iter().for_each(|app| daemon.wait_status(app, "running"));
    rig.server.stop();
    let named = format!("database server default (127.0.0.1:{}) does not answer", rig.server.port());
    for app in APPS {
        eventually(&format!("{app} waits and says for what"), Duration::from_secs(30), || {
            let why = why(&daemon, app);
            let waits = instance(&daemon, app)["reason"]["code"] == "database_unreachable";
            if waits && why.contains(&named) && why.contains("as soon as the database answers") {
                Ok(())
            } else {
                Err(why)
            }
        });
    }
    // Long enough that attempts would be used up: the recipe bears three failures, a moment apart.
    let_time_pass(Duration::from_secs(8), "an outage lasts");
    for app in APPS {
        let instance = instance(&daemon, app);
        assert_eq!((&instance["status"], &instance["pid"]), (&json!("initializing"), &json!(null)), "{instance:#}");
        assert_eq!(instance["restarts"], 1, "{instance:#}");
    }
    rig.server.launch();
    let back = Instant::now();
    APPS.iter().for_each(|app| daemon.wait_status(app, "running"));
    assert!(back.elapsed() < Duration::from_secs(60), "{:?}", back.elapsed());
    for app in APPS {
        let instance = instance(&daemon, app);
        assert_eq!(instance["restarts"], 1, "{instance:#}");
        assert!(!instance["notes"].to_string().contains("does not answer"), "{instance:#}");
    }
}

#[test]
fn a_start_waits_for_a_server_that_is_not_there_yet_even_over_a_restart_of_the_daemon() {
    let rig = Rig::new(USUAL);
    let settings = settings(&rig);
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    rig.server.stop();
    let mut daemon = Daemon::start_with(&[HOLDER], &settings);
    let spec = json!({ "name": "crm", "runtime": "holder", "start_mode": "with-supervisor", "database": { "mode": "new-database" } });
    assert_eq!(daemon.request("POST", "/api/v1/apps", Some(spec)).status, 201);
    let waits = |daemon: &Daemon| {
        eventually("it waits for its server", Duration::from_secs(30), || {
            let instance = instance(daemon, "crm");
            let waits = instance["reason"]["code"] == "database_unreachable";
            if waits { Ok(()) } else { Err(format!("{instance:#}")) }
        });
    };
    waits(&daemon);
    daemon.kill9();
    daemon.launch();
    waits(&daemon);
    rig.server.launch();
    daemon.wait_status("crm", "running");
    assert_eq!(instance(&daemon, "crm")["restarts"], 0);
}

#[test]
fn a_purge_waits_for_its_server_and_can_be_given_up() {
    let rig = Rig::new(USUAL);
    let settings = settings(&rig);
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let daemon = Daemon::start_with(&[HOLDER], &settings);
    for app in ["crm", "erp"] {
        let spec = json!({ "name": app, "runtime": "holder", "start_mode": "with-supervisor", "database": { "mode": "new-database" } });
        assert_eq!(daemon.request("POST", "/api/v1/apps", Some(spec)).status, 201);
        daemon.wait_status(app, "running");
    }
    rig.server.stop();
    for app in ["crm", "erp"] {
        assert_eq!(daemon.request("DELETE", &format!("/api/v1/apps/{app}?purge_data=true"), None).status, 202);
        eventually(&format!("{app} says why it is still there"), Duration::from_secs(30), || {
            let why = why(&daemon, app);
            if why.contains("does not answer") { Ok(()) } else { Err(why) }
        });
    }
    let gone = |app: &str| {
        eventually(&format!("{app} is gone"), Duration::from_secs(60), || {
            let status = daemon.request("GET", &format!("/api/v1/apps/{app}"), None).status;
            if status == 404 { Ok(()) } else { Err(status.to_string()) }
        });
    };
    assert_eq!(daemon.request("DELETE", "/api/v1/apps/erp", None).status, 202);
    gone("erp");
    rig.server.launch();
    gone("crm");
    assert_eq!((rig.databases().as_str(), rig.roles().as_str()), ("erp", "erp"));
}
