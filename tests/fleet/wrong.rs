//! What is wrong with Redis or with what is in it: the daemon runs on, says it once, and recovers by itself.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::eventually::let_time_pass;
use crate::fleet::{Fleet, Plan, entry_variables, journal, wait_journal, worker_variables, write_variables};
use crate::machine::{DAEMON, Machine, Suite};
use crate::recipes::{SLEEPER, WEB};

const PLAN: Plan<'static> = Plan {
    suite: Suite::Bookworm,
    workers: &["env_a"],
    recipes: &[SLEEPER, WEB],
    shown: &[],
    password: Some("right"),
    seed: 4,
};

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

/// Makes an authority in folder $1, and a certificate of it for the address $2.
const AUTHORITY: &str = r#"
cd "$1"
new="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
openssl req -x509 $new -days 2 -keyout ca.key -out ca.pem -subj /CN=authority
openssl req $new -keyout server.key -out server.csr -subj /CN=redis
printf 'subjectAltName=IP:%s\n' "$2" >names
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem
"#;

fn authority(address: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut openssl = Command::new("sh");
    openssl.args(["-euc", AUTHORITY, "sh"]).arg(folder.path()).arg(address);
    let output = openssl.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder
}

/// Another server beside the usual one, which takes encrypted connections only.
struct TlsRedis(Child);

impl TlsRedis {
    const PORT: u16 = 6390;

    fn start(fleet: &Fleet, keys: &Path) -> Self {
        let file = |name: &str| keys.join(name).display().to_string();
        let mut command = fleet.redis.place().command("redis-server");
        command.args(["--port", "0", "--tls-port", &Self::PORT.to_string(), "--tls-auth-clients", "no"]);
        command.args(["--tls-cert-file", &file("server.pem"), "--tls-key-file", &file("server.key")]);
        command.args(["--tls-ca-cert-file", &file("ca.pem"), "--requirepass", "right", "--save", ""]);
        Self(command.args(["--protected-mode", "no"]).stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for TlsRedis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has a host trust the authority in this folder, and no other.
fn trust(machine: &Machine, keys: &Path) {
    machine.write_file("/etc/nbsupervisor/redis-ca.pem", std::fs::read(keys.join("ca.pem")).unwrap());
    let setting = "[redis]\nca_file = \"/etc/nbsupervisor/redis-ca.pem\"\n";
    machine.write_file("/etc/nbsupervisor/nbsupervisor.d/tls.toml", setting);
}

#[test]
fn tls_under_an_authority_of_ones_own_is_used_and_another_authority_is_refused() {
    let fleet = Fleet::start(&PLAN);
    let address = fleet.redis.address().to_string();
    let (ours, theirs) = (authority(&address), authority(&address));
    let _server = TlsRedis::start(&fleet, ours.path());
    let url = format!("rediss://:right@{address}:{}", TlsRedis::PORT);
    trust(&fleet.entry.machine, theirs.path());
    says_once(&fleet, &url, &["Redis cannot be used", "CA file"]);
    let worker = fleet.worker("env_a");
    write_variables(&worker.machine, &worker_variables(&url, "env_a", worker.cable.address()));
    for machine in [&fleet.entry.machine, &worker.machine] {
        trust(machine, ours.path());
        machine.ok(&["systemctl", "restart", "nbsupervisor"]);
    }
    fleet.wait_environment("env_a", "available");
    fleet.app_create("after", "sleeper", &["env_a"]);
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
