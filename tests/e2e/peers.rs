//! What went wrong in supervisors before this one, each as a test.

use std::time::Duration;

use serde_json::json;

use crate::daemon::Daemon;
use crate::eventually::eventually;
use crate::recipes::{SLEEPER, SLOW};

/// Never says that it is ready.
const STUCK: (&str, &str) = (
    "stuck.toml",
    r#"
name = "stuck"
command = ["/bin/sleep", "infinity"]
listen = "none"
ready = { exec = ["/bin/false"], interval = "100ms", timeout = "2s" }
stop = { signal = "SIGTERM", timeout = "2s" }
restart = { policy = "never" }
"#,
);

/// Ends at once, and would be tried again only after a long time.
const PATIENT: (&str, &str) = (
    "patient.toml",
    r#"
name = "patient"
command = ["/bin/sh", "-c", "test -e go && exec sleep infinity; exit 1"]
listen = "none"
ready = { exec = ["/usr/bin/test", "-e", "go"], interval = "20ms", timeout = "5s" }
stop = { signal = "SIGTERM", timeout = "2s" }
restart = { policy = "on-failure", delay = "1h", max_delay = "1h", burst = 9 }
"#,
);

fn create(daemon: &Daemon, name: &str, runtime: &str) {
    let spec = json!({ "name": name, "runtime": runtime, "start_mode": "manual" });
    assert_eq!(daemon.request("POST", "/api/v1/apps", Some(spec)).status, 201, "{name}");
}

/// A recipe that was put there a moment ago counts, and so does a change of it.
#[test]
fn a_new_recipe_is_seen_by_the_next_command() {
    let daemon = Daemon::start(&[SLEEPER]);
    for n in 0..20 {
        let text = SLEEPER.1.replace("\"sleeper\"", &format!("\"fresh-{n}\""));
        daemon.recipe(&format!("fresh-{n}.toml"), &text);
        create(&daemon, &format!("app-{n}"), &format!("fresh-{n}"));
    }
    daemon.cli_ok(&["app", "start", "app-0"]);
    daemon.recipe("fresh-0.toml", &SLEEPER.1.replace("\"sleeper\"", "\"fresh-0\"").replace("infinity", "3600"));
    daemon.cli_ok(&["app", "restart", "app-0"]);
    let command = std::fs::read(format!("/proc/{}/cmdline", daemon.app_pid("app-0"))).unwrap();
    assert_eq!(String::from_utf8_lossy(&command), "/bin/sleep\x003600\x00");
}

/// Many starts of one name at once are one start.
#[test]
fn twenty_starts_of_one_app_at_once_are_one_start() {
    let daemon = Daemon::start(&[SLOW]);
    create(&daemon, "one", "slow");
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let answer = daemon.request("POST", "/api/v1/apps/one/start", None);
                assert!([200, 202].contains(&answer.status), "{}", answer.body);
                let id = answer.body["id"].as_str().unwrap();
                let ended = daemon.request("GET", &format!("/api/v1/operations/{id}?wait=30s"), None).body;
                assert_eq!(ended["status"], "done", "{ended}");
            });
        }
    });
    let lives: std::collections::BTreeSet<String> = daemon.marked().into_values().collect();
    assert_eq!(lives.len(), 1, "{lives:?}");
    assert_eq!(daemon.app("one")["instances"][0]["restarts"], 0);
}

/// A start that gets stuck gives its slot back when its time is over, and the queue drains.
#[test]
fn a_stuck_start_holds_up_the_others_no_longer_than_its_time() {
    let daemon = Daemon::start_with(&[STUCK, SLEEPER], &["environment.concurrent_starts=1"]);
    create(&daemon, "stuck", "stuck");
    create(&daemon, "next", "sleeper");
    let stuck = daemon.request("POST", "/api/v1/apps/stuck/start", None).body["id"].as_str().unwrap().to_string();
    daemon.wait_status("stuck", "initializing");
    let next = daemon.request("POST", "/api/v1/apps/next/start", None).body["id"].as_str().unwrap().to_string();
    assert_eq!(daemon.status("next"), "queued");
    let queue = daemon.request("GET", "/api/v1/queue", None).body;
    assert_eq!((queue["queue"][0]["app"].as_str(), &queue["queue"][0]["position"]), (Some("next"), &json!(1)));
    let ended = daemon.request("GET", &format!("/api/v1/operations/{next}?wait=30s"), None).body;
    assert_eq!(ended["status"], "done", "{ended}");
    let ended = daemon.request("GET", &format!("/api/v1/operations/{stuck}?wait=30s"), None).body;
    assert_eq!(ended["status"], "failed", "{ended}");
    assert_eq!(daemon.app("stuck")["instances"][0]["reason"]["code"], "start_timeout");
}

/// Whoever mended the cause need not wait for the next automatic attempt.
#[test]
fn a_start_by_hand_cuts_the_back_off_short() {
    let daemon = Daemon::start(&[PATIENT]);
    create(&daemon, "patient", "patient");
    assert_eq!(daemon.request("POST", "/api/v1/apps/patient/start", None).status, 202);
    eventually("it waits for its next attempt", Duration::from_secs(10), || {
        let app = daemon.app("patient");
        let waits = app["instances"][0]["next_attempt_at"].is_string();
        if waits { Ok(()) } else { Err(app.to_string()) }
    });
    assert_eq!(daemon.status("patient"), "initializing", "a loop of crashes never reads running");
    std::fs::write(daemon.dir().join("state/apps/patient/go"), "").unwrap();
    daemon.cli_ok(&["app", "start", "patient"]);
    assert_eq!(daemon.status("patient"), "running");
}

/// A stop during the back-off, or during a start, is final.
#[test]
fn a_stop_ends_back_off_and_start_alike() {
    let daemon = Daemon::start(&[PATIENT, STUCK]);
    create(&daemon, "patient", "patient");
    create(&daemon, "stuck", "stuck");
    daemon.request("POST", "/api/v1/apps/patient/start", None);
    let start = daemon.request("POST", "/api/v1/apps/stuck/start", None).body["id"].as_str().unwrap().to_string();
    daemon.wait_status("patient", "initializing");
    daemon.wait_status("stuck", "initializing");
    daemon.cli_ok(&["app", "stop", "patient", "stuck"]);
    assert_eq!((daemon.status("patient").as_str(), daemon.status("stuck").as_str()), ("stopped", "stopped"));
    let superseded = daemon.request("GET", &format!("/api/v1/operations/{start}"), None).body;
    assert_eq!(superseded["status"], "failed", "{superseded}");
    assert!(superseded["reason"].as_str().unwrap().starts_with("superseded by "), "{superseded}");
    assert!(daemon.marked().is_empty());
}

/// A removed name comes back only when asked for, and goes on with its generation.
#[test]
fn a_removed_name_is_not_reused_silently() {
    let daemon = Daemon::start(&[SLEEPER]);
    create(&daemon, "gone", "sleeper");
    daemon.cli_ok(&["app", "start", "gone"]);
    std::fs::write(daemon.dir().join("state/apps/gone/data"), "kept").unwrap();
    daemon.cli_ok(&["app", "remove", "gone", "--yes"]);
    assert_eq!(daemon.request("GET", "/api/v1/apps/gone", None).status, 404);
    assert!(daemon.dir().join("state/apps/gone/data").exists(), "removal keeps data");
    let spec = json!({ "name": "gone", "runtime": "sleeper", "start_mode": "manual" });
    assert_eq!(daemon.request("POST", "/api/v1/apps", Some(spec)).status, 409);
    let spec = json!({ "name": "gone", "runtime": "sleeper", "start_mode": "manual", "reuse": true });
    let again = daemon.request("POST", "/api/v1/apps", Some(spec));
    assert_eq!((again.status, &again.body["generation"]), (201, &json!(2)), "{}", again.body);
    daemon.cli_ok(&["app", "remove", "gone", "--yes", "--purge-data"]);
    eventually("its data is gone", Duration::from_secs(10), || {
        let there = daemon.dir().join("state/apps/gone").exists();
        if there { Err("it is there") } else { Ok(()) }
    });
}
