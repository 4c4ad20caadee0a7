//! What is wrong with Redis or with what is in it: the daemon runs on, says it once, and recovers by itself.

use std::process::{Child, Stdio};
use std::time::Duration;

use crate::eventually::let_time_pass;
use crate::fleet::{Fleet, Plan, entry_variables, journal, wait_journal, write_variables};
use crate::machine::{DAEMON, Suite};
use crate::recipes::{SLEEPER, WEB};

const PLAN: Plan<'static> =
    Plan { suite: Suite::Bookworm, workers: &["env_a"], recipes: &[SLEEPER, WEB], password: Some("right"), seed: 4 };

/// Starts an entry with a URL that is no good, and expects it to be there, to say so with these words, and not again.
fn says_once(fleet: &Fleet, url: &str, words: &[&str]) {
    let machine = &fleet.entry.machine;
    let complaints = || journal(machine).lines().filter(|line| line.contains("Redis cannot be used")).count();
    let before = complaints();
    write_variables(machine, &entry_variables(url));
    machine.ok(&["systemctl", "restart", "nbsupervisor"]);
    let pid = machine.pid_of_unit(DAEMON);
    wait_journal(machine, words);
    let_time_pass(Duration::from_secs(10), "several attempts, none of which may be told again");
    let said = complaints() - before;
    assert!((1..=2).contains(&said), "once for each of its two URLs, not {said} times: {}", journal(machine));
    assert_eq!(machine.pid_of_unit(DAEMON), pid, "it runs on");
    assert_eq!(machine.admin("GET", "/readyz", None).status, 200, "and is ready without Redis");
}

/// The same entry with the right URL again.
fn recovers(fleet: &Fleet) {
    write_variables(&fleet.entry.machine, &entry_variables(&fleet.redis.url()));
    fleet.entry.machine.ok(&["systemctl", "restart", "nbsupervisor"]);
    fleet.wait_environment("env_a", "available");
}

#[test]
fn a_wrong_address_password_or_tls_is_said_once_and_the_daemon_runs_on() {
    let fleet = Fleet::start(&PLAN);
    let (right, address) = (fleet.redis.url(), fleet.redis.address().to_string());
    says_once(&fleet, &right.replace(&address, "10.77.0.250"), &["Redis cannot be used", "tried again by itself"]);
    says_once(&fleet, &right.replace(":right@", ":wrong@"), &["Redis cannot be used", "user and password"]);
    says_once(
        &fleet,
        &right.replace("redis://", "rediss://"),
        &["Redis cannot be used", "compare redis:// or rediss://"],
    );
    recovers(&fleet);
    let said = journal(&fleet.entry.machine);
    assert!(!said.contains(":wrong@") && !said.contains(":right@"), "no password is told: {said}");
}

#[test]
fn a_password_that_becomes_right_is_taken_up_without_a_restart() {
    let fleet = Fleet::start(&PLAN);
    fleet.redis.ok(&["CONFIG", "SET", "requirepass", "other"]);
    fleet.redis.ok_as("other", &["CLIENT", "KILL", "TYPE", "normal"]);
    let pid = fleet.entry.machine.pid_of_unit(DAEMON);
    wait_journal(&fleet.entry.machine, &["Redis cannot be used", "user and password"]);
    fleet.redis.ok_as("other", &["CONFIG", "SET", "requirepass", "right"]);
    fleet.app_create("after", "sleeper", &["env_a"]);
    assert_eq!(fleet.entry.machine.pid_of_unit(DAEMON), pid);
}

/// Stands between clients and the real server, and gives its version as one of the oldest that are refused.
struct OlderRedis(Child);

impl OlderRedis {
    fn port() -> u16 {
        6400
    }

    fn start(fleet: &Fleet) -> Self {
        let info = fleet.redis.ok(&["INFO", "server"]);
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap().trim();
        let older = format!("6.0.{}", "9".repeat(version.len() - 4));
        let mut command = fleet.redis.place().command("python3");
        command.args(["-uc", include_str!("older_redis.py"), &Self::port().to_string(), version, &older]);
        Self(command.stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for OlderRedis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_redis_that_is_too_old_is_named_with_the_version_that_is_needed() {
    let fleet = Fleet::start(&PLAN);
    let _older = OlderRedis::start(&fleet);
    let url = fleet.redis.url().replace(":6379", &format!(":{}", OlderRedis::port()));
    says_once(&fleet, &url, &["Redis cannot be used", "install Redis 6.2"]);
    recovers(&fleet);
}

#[test]
fn garbage_and_newer_records_in_every_key_are_lived_through() {
    let fleet = Fleet::start(&PLAN);
    fleet.app_create("site", "web", &["env_a"]);
    let before = fleet.life("site", "env_a");
    for garbage in ["\u{1}garbage", "{\"v\":2}", "[]", ""] {
        let keys = fleet.redis.ok(&["--scan", "--pattern", "nbs:v1:*"]);
        for key in keys.lines() {
            match fleet.redis.ok(&["TYPE", key]).as_str() {
                "string" => drop(fleet.redis.ok(&["SET", key, garbage, "KEEPTTL"])),
                "hash" => drop(fleet.redis.ok(&["HSET", key, "site", garbage])),
                "set" => drop(fleet.redis.ok(&["SADD", key, garbage])),
                "stream" => drop(fleet.redis.ok(&["XADD", key, "*", "m", garbage])),
                kind => panic!("{key} is a {kind}"),
            }
        }
        fleet.redis.ok(&["DEL", "nbs:v1:env:env_a:orders"]);
        fleet.redis.ok(&["SET", "nbs:v1:env:env_a:orders", garbage]);
        let_time_pass(Duration::from_secs(6), "a renewal of the leases, which meets the garbage");
        fleet.redis.flush();
        fleet.wait_environment("env_a", "available");
        fleet.entry.machine.wait("observed is intended", Duration::from_secs(30), |_| fleet.observed_is_intended());
        assert_eq!(fleet.life("site", "env_a"), before);
    }
    fleet.app_create("after", "sleeper", &["env_a"]);
}
