//! `kill -9` of the daemon, again and again, while apps run and others start.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::daemon::Daemon;
use crate::eventually::{eventually, let_time_pass};
use crate::recipes::{SLEEPER, SLOW};

const RUNNING: usize = 20;
const STARTING: usize = 5;
const ROUNDS: u64 = 50;

/// Numbers between 0 and 400 that a round makes again; the moment of the kill is what is being tried.
fn milliseconds(round: u64) -> u64 {
    (round.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) % 400
}

#[test]
fn fifty_kills_of_the_daemon_lose_no_app_and_no_operation() {
    let mut daemon = Daemon::start_with(&[SLEEPER, SLOW], &["environment.concurrent_starts=5"]);
    let steady: Vec<String> = (0..RUNNING).map(|i| format!("steady-{i}")).collect();
    let slow: Vec<String> = (0..STARTING).map(|i| format!("slow-{i}")).collect();
    for (names, runtime) in [(&steady, "sleeper"), (&slow, "slow")] {
        for name in names {
            let spec = json!({ "name": name, "runtime": runtime, "start_mode": "with-supervisor" });
            assert_eq!(daemon.request("POST", "/api/v1/apps", Some(spec)).status, 201);
        }
    }
    for name in steady.iter().chain(&slow) {
        daemon.wait_status(name, "running");
    }
    let pids: BTreeMap<&String, u32> = steady.iter().map(|name| (name, daemon.app_pid(name))).collect();
    for round in 0..ROUNDS {
        let operations: Vec<String> = slow
            .iter()
            .map(|name| {
                let answer = daemon.request("POST", &format!("/api/v1/apps/{name}/restart"), None);
                assert_eq!(answer.status, 202, "{}", answer.body);
                answer.body["id"].as_str().unwrap().to_string()
            })
            .collect();
        let_time_pass(Duration::from_millis(milliseconds(round)), "until the moment of this round's kill");
        daemon.kill9();
        daemon.launch();
        for name in &steady {
            assert_eq!(daemon.app_pid(name), pids[name], "round {round}: {name} was adopted");
            assert_eq!(daemon.status(name), "running", "round {round}: {name}");
        }
        for id in &operations {
            let answer = daemon.request("GET", &format!("/api/v1/operations/{id}?wait=30s"), None);
            assert_eq!(answer.status, 200, "round {round}: {id} is known");
            let status = answer.body["status"].as_str().unwrap();
            assert!(["done", "failed"].contains(&status), "round {round}: {}\n{}", answer.body, daemon.log());
        }
        for name in &slow {
            let status = daemon.status(name);
            assert!(["running", "error"].contains(&status.as_str()), "round {round}: {name} is {status}");
        }
        eventually("every app has one process", Duration::from_secs(10), || one_each(&daemon));
    }
}

/// No app lives twice, and none that runs is missing.
fn one_each(daemon: &Daemon) -> Result<(), String> {
    let mut lives: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for (pid, mark) in daemon.marked() {
        let app = mark.split('/').next().unwrap_or_default().to_string();
        // The main process leads its group; what it started meanwhile (a probe, a sleep) does not.
        let leads = nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid as i32)));
        if leads.is_ok_and(|group| group.as_raw() as u32 == pid) && !mark.ends_with("/hook") {
            lives.entry(app).or_default().push(pid);
        }
    }
    let doubled: Vec<_> = lives.iter().filter(|(_, pids)| pids.len() > 1).collect();
    match doubled.is_empty() && lives.len() == RUNNING + STARTING {
        true => Ok(()),
        false => Err(format!("{} apps live, more than once: {doubled:?}", lives.len())),
    }
}
