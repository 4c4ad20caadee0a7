//! What people and dashboards read in Redis itself, with no entry running.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::eventually::{eventually, let_time_pass};
use crate::fleet::{Fleet, Plan};
use crate::machine::Suite;
use crate::recipes::WEB;

/// How old figures may be.
const FRESH: Duration = Duration::from_secs(10);
/// What a busy machine may add to it.
const BUSY: Duration = Duration::from_secs(3);

/// The record in one of the environment's keys, out of its envelope; null if there is none.
fn record(fleet: &Fleet, key: &str) -> Value {
    let text = fleet.redis.ok(&["GET", &format!("nbs:v1:env:env_a:{key}")]);
    let envelope: Value = serde_json::from_str(&text).unwrap_or_default();
    envelope["body"].as_str().and_then(|body| serde_json::from_str(body).ok()).unwrap_or_default()
}

fn age(record: &Value) -> Duration {
    let at = Duration::from_millis(record["at_ms"].as_u64().unwrap_or_default());
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().saturating_sub(at)
}

#[test]
fn figures_and_heartbeats_are_fresh_in_redis_while_the_entry_is_off() {
    let plan = Plan {
        suite: Suite::Bookworm,
        workers: &["env_a"],
        recipes: &[WEB],
        shown: &[],
        password: Some("figures"),
        seed: 4,
    };
    let fleet = Fleet::start(&plan);
    let worker = &fleet.worker("env_a").machine;
    worker.write_file("/etc/nbsupervisor/nbsupervisor.d/beat.toml", "[environment]\nheartbeat_interval = \"5s\"\n");
    worker.ok(&["systemctl", "restart", "nbsupervisor"]);
    fleet.wait_environment("env_a", "available");
    fleet.app_create("site", "web", &["env_a"]);
    fleet.entry.machine.ok(&["systemctl", "stop", "nbsupervisor"]);
    eventually("the app's figures are there", FRESH + BUSY, || {
        let usage = record(&fleet, "usage");
        let is_there = usage["apps"]["site"]["memory_bytes"].is_u64() && usage["host"]["memory_bytes"].is_u64();
        if is_there { Ok(()) } else { Err(format!("{usage:#}")) }
    });
    let (mut figures, mut beats) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    for _ in 0..25 {
        let (usage, heartbeat) = (record(&fleet, "usage"), record(&fleet, "heartbeat"));
        assert!(age(&usage) <= FRESH + BUSY, "{:?}: {usage:#}", age(&usage));
        assert!(usage["apps"]["site"]["cpu_percent"].is_number(), "{usage:#}");
        figures.insert(usage["at_ms"].as_u64());
        beats.insert(heartbeat["at_ms"].as_u64());
        let_time_pass(Duration::from_secs(1), "two samples and several heartbeats are to be seen");
    }
    assert!(figures.len() >= 3, "at each sample, and one of them before: {figures:?}");
    assert!(beats.len() >= 4, "every 5 s: {beats:?}");
}
