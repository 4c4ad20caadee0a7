//! A client with the stolen password of Redis: what it writes is neither executed nor shown, and the journals stay short.

use std::time::Duration;

use serde_json::json;

use crate::eventually::let_time_pass;
use crate::fleet::{Fleet, Plan, journal, unit};
use crate::machine::Suite;
use crate::recipes::{SLEEPER, WEB};

/// Lines of a journal in a minute that may speak of forgeries.
const LINES_MAX: usize = 6;

/// An envelope as the entry would send it, with another's signature.
fn signed(kind: &str, environment: &str, body: &str) -> String {
    let envelope = json!({
        "v": 1, "env": environment, "kind": kind, "epoch": 9_000_000, "entry": "thief", "issued_ms": 4_102_444_800_000u64,
        "body": body, "sig": "ab".repeat(64),
    });
    envelope.to_string()
}

/// An envelope as a worker would send it, with another's MAC.
fn authenticated(kind: &str, environment: &str, body: &str) -> String {
    let envelope = json!({
        "v": 1, "env": environment, "kind": kind, "n": 9_000_000, "session": "0".repeat(32), "body": body,
        "mac": "ab".repeat(32),
    });
    envelope.to_string()
}

#[test]
fn a_stolen_redis_password_runs_nothing_shows_nothing_false_and_fills_no_journal() {
    let plan = Plan {
        suite: Suite::Bookworm,
        workers: &["env_a", "env_b"],
        recipes: &[SLEEPER, WEB],
        shown: &[],
        password: Some("stolen"),
        seed: 4,
    };
    let fleet = Fleet::start(&plan);
    fleet.app_create("site", "web", &["env_a"]);
    let before = fleet.life("site", "env_a");
    let shown = |list: &serde_json::Value| {
        let all = list["environments"].as_array().cloned().unwrap_or_default();
        all.iter().map(|env| (env["name"].clone(), env["url"].clone(), env["version"].clone())).collect::<Vec<_>>()
    };
    let environments = shown(&fleet.entry.machine.cli(&["env", "list"]));
    let lines = |fleet: &Fleet| {
        let machines = fleet.workers.iter().chain([&fleet.entry]).map(|host| &host.machine);
        machines.map(|machine| journal(machine).lines().count()).collect::<Vec<_>>()
    };
    let written = lines(&fleet);
    let run = r#"{"app":"thief","order":"run","generation":1,"seq":900,"spec":{"name":"thief","runtime":"sleeper"}}"#;
    let stop = r#"{"app":"site","order":"stop","generation":99,"seq":900}"#;
    for _ in 0..50 {
        for environment in ["env_a", "env_b"] {
            let key = |end: &str| format!("nbs:v1:env:{environment}:{end}");
            for body in [run, stop] {
                let order = signed("order", environment, body);
                fleet.redis.ok(&["XADD", &key("orders"), "*", "m", &order]);
            }
            fleet.redis.ok(&["HSET", &key("intents"), "thief", &signed("intent", environment, run)]);
            let body = r#"{"app":"thief","status":"running","url":"http://198.51.100.9/"}"#;
            let report = authenticated("report", environment, body);
            fleet.redis.ok(&["XADD", "nbs:v1:reports", "*", "e", environment, "m", &report]);
        }
        let forged =
            authenticated("registration", "env_a", r#"{"v":1,"version":"6.6.6","url":"http://198.51.100.9/"}"#);
        fleet.redis.ok(&["SET", "nbs:v1:env:env_a:registration", &forged]);
        fleet.redis.ok(&["SET", "nbs:v1:env:ghost:registration", &forged]);
        fleet.redis.ok(&["SADD", "nbs:v1:environments", "ghost"]);
    }
    let_time_pass(Duration::from_secs(60), "a whole minute, for what the journals say in one");
    for ((before, after), host) in written.iter().zip(lines(&fleet)).zip(fleet.workers.iter().chain([&fleet.entry])) {
        // At most two minutes have begun.
        assert!(after - before <= 2 * LINES_MAX, "{}: {} lines", host.name, after - before);
        assert!(after > *before, "{} says that somebody forges", host.name);
    }
    assert_eq!(fleet.life("site", "env_a"), before);
    for worker in &fleet.workers {
        assert_eq!(worker.machine.unit_property(&unit("thief"), "LoadState"), "not-found");
    }
    assert_eq!(fleet.entry.machine.admin("GET", "/api/v1/apps/thief", None).status, 404);
    assert_eq!(shown(&fleet.entry.machine.cli(&["env", "list"])), environments, "nothing false is shown");
    assert_eq!(fleet.entry.machine.app_status("site"), "running");
    fleet.app_create("honest", "sleeper", &["env_a", "env_b"]);
}
