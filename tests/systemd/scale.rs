//! A host full of apps: what the limits of the bus, of systemd's own connection and of the daemon's queues would break.
//!
//! The way to systemd alone, without the daemon, is in `tests/systemd_bus`. Deliberately absent: speed (`tests/bench`).

use std::time::Duration;

use serde_json::{Value, json};

use crate::machine::{DAEMON, Machine, Suite};
use crate::recipes::SLEEPER;

on_each_suite!(six_hundred_slow_starts_asked_at_once_beside_a_thousand_apps);

const RUNNING: usize = 1000;
const ASKED: usize = 600;
/// Half a minute on a quiet machine; this is for one that other tests keep busy.
const LIMIT: Duration = Duration::from_secs(400);
/// Says that it is ready a while after it was started, so that starts pile up.
const NOTIFIER: &str = r#"
name = "notifier"
command = ["/bin/sh", "-c", "sleep 2; systemd-notify --ready; exec sleep infinity"]
adapter = "systemd"
user = "root"
sandbox = "none"
listen = "none"
ready = { notify = true, timeout = "5m" }
"#;

/// A machine whose daemon may start them all at once.
fn machine(suite: Suite) -> Machine {
    let machine = Machine::boot(suite);
    machine.install();
    let (file, sleeper) = SLEEPER;
    // What a sandbox takes is systemd's time and no limit of anyone's.
    machine.recipe(file, &format!("adapter = \"systemd\"\nuser = \"root\"\nsandbox = \"none\"\n{sleeper}"));
    machine.recipe("notifier.toml", NOTIFIER);
    machine.write_file("/etc/nbsupervisor/nbsupervisor.d/90-scale.toml", "[environment]\nconcurrent_starts = 1000\n");
    machine.ok(&["systemctl", "enable", "--now", "nbsupervisor"]);
    machine
}

/// Posts all of these one after the other without waiting for what comes of them; each must be taken.
fn post_all(machine: &Machine, posts: impl Iterator<Item = (String, Value)>) {
    let mut script = String::new();
    for (path, body) in posts {
        let body = body.to_string().replace('\\', "\\\\").replace('"', "\\\"");
        script.push_str(&format!("url = \"http://localhost/api/v1{path}\"\ndata = \"{body}\"\n"));
        script.push_str("unix-socket = /run/nbsupervisor/admin.sock\nheader = \"Content-Type: application/json\"\n");
        script.push_str("fail\nsilent\nshow-error\noutput = /dev/null\nnext\n");
    }
    machine.write_file("/root/posts", script.strip_suffix("next\n").unwrap());
    machine.ok(&["curl", "--fail-early", "-K", "/root/posts"]);
}

fn names(word: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |number| format!("{word}-{number:04}"))
}

fn create(machine: &Machine, word: &str, count: usize, runtime: &str) {
    let app = |name| json!({ "name": name, "runtime": runtime, "start_mode": "manual" });
    post_all(machine, names(word, count).map(|name| ("/apps".into(), app(name))));
}

fn start(machine: &Machine, word: &str, count: usize) {
    post_all(machine, names(word, count).map(|name| (format!("/apps/{name}/start"), json!({}))));
}

/// Waits until so many of the newest operations are starts that ended, and returns how.
fn outcomes(machine: &Machine, count: usize) -> Vec<String> {
    let mut outcomes = Vec::new();
    machine.wait(&format!("{count} starts ended"), LIMIT, |machine| {
        let list = machine.admin("GET", &format!("/api/v1/operations?limit={count}"), None).json();
        let all = list["operations"].as_array().unwrap();
        let word = |operation: &Value, key: &str| operation[key].as_str().unwrap_or_default().to_string();
        assert!(all.iter().all(|operation| word(operation, "action") == "start"), "{list}");
        let open = all.iter().filter(|operation| operation["finished_at"].is_null()).count();
        outcomes =
            all.iter().map(|operation| format!("{} {}", word(operation, "status"), operation["reason"])).collect();
        if open == 0 && all.len() == count { Ok(()) } else { Err(format!("{open} of {} are not over", all.len())) }
    });
    outcomes
}

/// Who systemd is on its bus.
fn owner(machine: &Machine) -> String {
    let call = ["busctl", "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "GetNameOwner", "s"];
    machine.ok(&[&call[..], &["org.freedesktop.systemd1"]].concat())
}

fn six_hundred_slow_starts_asked_at_once_beside_a_thousand_apps(suite: Suite) {
    let machine = machine(suite);
    let (systemd, daemon) = (owner(&machine), machine.pid_of_unit(DAEMON));
    create(&machine, "a", RUNNING, "sleeper");
    create(&machine, "b", ASKED, "notifier");
    start(&machine, "a", RUNNING);
    let ended = outcomes(&machine, RUNNING);
    assert!(ended.iter().all(|outcome| outcome == "done null"), "{ended:?}");

    start(&machine, "b", ASKED);
    let ended = outcomes(&machine, ASKED);
    assert!(ended.iter().all(|outcome| outcome == "done null"), "{ended:?}");

    assert_eq!(owner(&machine), systemd, "systemd was cut off from its bus");
    assert_eq!(machine.pid_of_unit(DAEMON), daemon, "the daemon is the same");
    let running = machine.ok(&["systemctl", "list-units", "--no-legend", "--plain", "--state=running", "nbs-app-*"]);
    assert_eq!(running.lines().count(), RUNNING + ASKED);
    let log = machine.ok(&["journalctl", "--no-pager", "-u", DAEMON, "-p", "warning"]);
    for word in ["no answer", "timed out", "no connection", "left the bus"] {
        assert!(!log.contains(word), "{log}");
    }
}
