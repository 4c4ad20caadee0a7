//! The end-to-end line of many hosts, and the promises that need several of them.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::fleet::{Fleet, Life, Plan, both_variables, entry_variables, instance, unit, wait_journal, write_variables};
use crate::machine::{Machine, Suite};
use crate::recipes::{SLEEPER, SLOW, WEB};
use crate::redis_host::Memory;

/// Time that observation has to be equal to intent again after a fault.
const AGAIN: Duration = Duration::from_secs(30);

const PLAN: Plan<'static> = Plan {
    suite: Suite::Bookworm,
    workers: &["env_a", "env_b"],
    recipes: &[SLEEPER, SLOW, WEB],
    shown: &[],
    password: None,
    seed: 4,
};

/// A fleet with `one` in env_a and `two` in both, and their lives.
fn with_apps() -> (Fleet, Vec<Life>) {
    let fleet = Fleet::start(&PLAN);
    fleet.app_create("one", "web", &["env_a"]);
    fleet.app_create("two", "web", &["env_a", "env_b"]);
    let lives = lives(&fleet);
    assert!(lives.iter().all(|life| life.pid != 0), "{lives:#?}");
    (fleet, lives)
}

fn lives(fleet: &Fleet) -> Vec<Life> {
    [("one", "env_a"), ("two", "env_a"), ("two", "env_b")].map(|(app, place)| fleet.life(app, place)).into()
}

/// Waits until all is as it should be, and then nothing may have been restarted.
fn nothing_happened(fleet: &Fleet, before: &[Life]) {
    for environment in ["env_a", "env_b"] {
        fleet.wait_environment(environment, "available");
    }
    fleet.entry.machine.wait("observed is intended", AGAIN, |_| fleet.observed_is_intended());
    assert_eq!(lives(fleet), before);
}

/// A command still takes effect on both workers.
fn commands_arrive(fleet: &Fleet, app: &str) {
    fleet.app_create(app, "sleeper", &["env_a", "env_b"]);
    fleet.entry.machine.cli(&["app", "stop", app]);
    fleet.entry.machine.wait_app(app, "stopped");
}

#[test]
fn an_app_of_one_environment_and_one_of_both_are_made_queued_shown_and_visited_from_the_entry() {
    let fleet = Fleet::start(&PLAN);
    fleet.app_made("slow", "slow", &["env_a", "env_b"], "with-supervisor");
    // One start at a time: while it starts in one environment, the other is in the queue or has not begun.
    let mut waited = BTreeSet::new();
    fleet.entry.machine.wait("the queue was seen and the app runs in both", AGAIN, |machine| {
        let queue = machine.cli(&["queue"]);
        let entries = queue["queue"].as_array().cloned().unwrap_or_default();
        waited.extend(entries.iter().map(|entry| entry["environment"].as_str().unwrap_or_default().to_string()));
        let app = machine.app("slow");
        let of = |environment: &str| instance(&app, environment)["status"].as_str().unwrap_or_default().to_string();
        let both = [of("env_a"), of("env_b")];
        assert!(!both.iter().all(|status| status == "initializing"), "two starts at once: {app:#}");
        if both == ["running", "running"] { Ok(()) } else { Err(format!("{app:#}")) }
    });
    assert!(!waited.is_empty(), "the second start was in the queue while the first one ran");
    fleet.app_create("one", "web", &["env_a"]);
    fleet.app_create("two", "web", &["env_a", "env_b"]);
    for (app, environment) in [("one", "env_a"), ("two", "env_a"), ("two", "env_b")] {
        let shown = fleet.entry.machine.app(app);
        let worker = &fleet.worker(environment).machine;
        assert_eq!(instance(&shown, environment)["status"], "running", "{shown:#}");
        assert_eq!(worker.unit_property(&unit(app), "ActiveState"), "active");
        let fragment = worker.unit_property(&unit(app), "FragmentPath");
        assert!(fragment.starts_with("/run/systemd/transient/"), "{fragment}");
        let header = format!("X-App-Environment: {environment}");
        let (status, body) = fleet.visit(&format!("/apps/{app}/"), &[&header]);
        assert_eq!(status, 200, "{app} in {environment}: {body}");
        assert!(body.contains("Directory listing"), "{body}");
    }
    assert_eq!(fleet.worker("env_b").machine.unit_property(&unit("one"), "ActiveState"), "inactive");
    assert_eq!(fleet.visit("/apps/two/", &[]).0, 400, "an app of two environments asks which one");
}

#[test]
fn a_killed_worker_daemon_comes_back_to_the_same_processes() {
    let (fleet, before) = with_apps();
    let machine = &fleet.worker("env_a").machine;
    let former = machine.kill9_daemon();
    machine.wait_daemon(former);
    nothing_happened(&fleet, &before);
    commands_arrive(&fleet, "after");
}

#[test]
fn a_killed_entry_comes_back_to_the_same_processes() {
    let (fleet, before) = with_apps();
    let machine = &fleet.entry.machine;
    let former = machine.kill9_daemon();
    machine.wait_daemon(former);
    nothing_happened(&fleet, &before);
    commands_arrive(&fleet, "after");
}

#[test]
fn a_redis_that_is_killed_emptied_or_wiped_changes_no_process_and_loses_no_intent() {
    let (mut fleet, before) = with_apps();
    for memory in [Memory::Kept, Memory::Lost] {
        let visitor = fleet.visitor("/apps/one/");
        fleet.redis.kill9();
        let asked = visitor.good();
        fleet.entry.machine.wait("visitors are served without Redis", AGAIN, |_| {
            if visitor.good() > asked + 20 { Ok(()) } else { Err(visitor.good().to_string()) }
        });
        fleet.redis.return_with(memory);
        nothing_happened(&fleet, &before);
        let tally = visitor.finish();
        assert_eq!(tally.bad, 0, "{tally:#?}");
        commands_arrive(&fleet, if memory == Memory::Kept { "kept" } else { "lost" });
    }
    fleet.redis.flush();
    nothing_happened(&fleet, &before);
    commands_arrive(&fleet, "flushed");
}

#[test]
fn a_standalone_host_becomes_entry_and_worker_by_configuration_alone() {
    let mut fleet = Fleet::hosts(&Plan { workers: &[], ..PLAN });
    let host = fleet.another(&PLAN, "grown");
    fleet.switch_on(&host);
    host.machine.app_create("old", "web", "with-supervisor");
    let record = |machine: &Machine| {
        let app = machine.app("old");
        (app["generation"].clone(), app["created_at"].clone(), app["spec"]["runtime"].clone())
    };
    let before = (record(&host.machine), host.machine.app_pid("old"), host.machine.invocation_of(&unit("old")));
    write_variables(&host.machine, &both_variables(&fleet.redis.url(), "env_a", host.cable.address()));
    host.machine.ok(&["systemctl", "restart", "nbsupervisor"]);
    host.machine.wait("the app runs in the renamed environment", AGAIN, |machine| {
        let app = machine.app("old");
        if instance(&app, "env_a")["status"] == "running" { Ok(()) } else { Err(format!("{app:#}")) }
    });
    let after = (record(&host.machine), host.machine.app_pid("old"), host.machine.invocation_of(&unit("old")));
    assert_eq!(before, after);
    host.machine.app_stop("old");
    host.machine.app_start("old");
    assert_ne!(host.machine.app_pid("old"), before.1, "it is under command as before");
}

#[test]
fn a_second_entry_is_read_only_and_says_why() {
    let (mut fleet, before) = with_apps();
    let second = fleet.another(&PLAN, "second");
    write_variables(&second.machine, &entry_variables(&fleet.redis.url()));
    let key = fleet.entry.machine.read_file(crate::fleet::KEY);
    second.machine.write_secret(crate::fleet::KEY, format!("{key}\n"));
    fleet.switch_on(&second);
    wait_journal(&second.machine, &["only watches"]);
    let arguments = ["nbsupervisor", "app", "create", "thief", "--runtime", "sleeper", "--environment", "env_a"];
    let refused = second.machine.run(&arguments);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(said.contains("entry"), "it says why: {said}");
    nothing_happened(&fleet, &before);
    commands_arrive(&fleet, "after");
}
