//! The thin line through all rooms: create, start, visit, crash, stop.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use crate::daemon::Daemon;
use crate::eventually::eventually;
use crate::recipes::{CRASHER, SLEEPER, SLOW, WEB};

fn visit(address: &str, path: &str, head: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{head}\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn an_app_is_created_started_visited_killed_restarted_and_stopped() {
    let daemon = Daemon::start(&[WEB]);
    daemon.cli_ok(&["app", "create", "site", "--runtime", "web", "--start-mode", "manual"]);
    assert_eq!(daemon.status("site"), "stopped");
    daemon.cli_ok(&["app", "start", "site"]);
    fs::write(daemon.dir().join("state/apps/site/hello.txt"), "first light\n").unwrap();

    let answer = visit(&daemon.gateway(), "/apps/site/hello.txt", "");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("first light\n"), "{answer}");
    assert!(visit(&daemon.gateway(), "/apps/site", "").starts_with("HTTP/1.1 307"), "a redirect to the slash");

    let pid = daemon.app_pid("site");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually("it is back with another pid", Duration::from_secs(20), || {
        let app = daemon.app("site");
        let back = app["status"] == "running" && app["instances"][0]["pid"] != json!(pid);
        if back { Ok(()) } else { Err(app.to_string()) }
    });
    let app = daemon.app("site");
    assert_eq!(app["instances"][0]["restarts"], 1, "{app:#}");
    assert!(visit(&daemon.gateway(), "/apps/site/hello.txt", "").contains("first light"));

    daemon.cli_ok(&["app", "stop", "site"]);
    assert_eq!(daemon.status("site"), "stopped");
    let answer = visit(&daemon.gateway(), "/apps/site/", "");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("APP_STOPPED"), "{answer}");
    assert!(daemon.marked().is_empty(), "nothing of it is left: {:?}", daemon.marked());
}

#[test]
fn a_wait_that_is_interrupted_names_the_operation_that_goes_on() {
    let waiting = ("slow.toml", SLOW.1.replace("sleep 0.3", "while [ ! -e go ]; do sleep 0.05; done"));
    let daemon = Daemon::start(&[(waiting.0, &waiting.1)]);
    daemon.cli_ok(&["app", "create", "slow", "--runtime", "slow", "--start-mode", "manual"]);
    let mut command = std::process::Command::new(crate::daemon::binary());
    command.arg("--socket").arg(daemon.dir().join("run/admin.sock")).args(["app", "start", "slow"]);
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    daemon.wait_status("slow", "initializing");
    eventually("it waits, and takes SIGINT for an answer", Duration::from_secs(10), || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default().trim();
        let caught = u64::from_str_radix(caught, 16).unwrap();
        if caught & 0b10 != 0 { Ok(()) } else { Err(status) }
    });
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let talk = String::from_utf8_lossy(&output.stderr);
    let operation = daemon.app("slow")["last_operation"].as_str().unwrap().to_string();
    assert!(talk.contains(&operation) && talk.contains("goes on"), "{talk}");
    fs::create_dir_all(daemon.dir().join("state/apps/slow")).unwrap();
    fs::write(daemon.dir().join("state/apps/slow/go"), "").unwrap();
    daemon.wait_status("slow", "running");
}

#[test]
fn a_visit_starts_an_app_on_demand_and_is_held_until_it_answers() {
    let daemon = Daemon::start(&[WEB]);
    daemon.cli_ok(&["app", "create", "site", "--runtime", "web"]);
    assert_eq!(daemon.app("site")["intent"], "on-demand");
    let answer = visit(&daemon.gateway(), "/apps/site/", "");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let page = visit(&daemon.gateway(), "/apps/nobody/", "Accept: text/html\r\n");
    assert!(page.starts_with("HTTP/1.1 404"), "{page}");
}

#[test]
fn a_failed_start_tells_reason_and_last_lines() {
    let daemon = Daemon::start(&[CRASHER]);
    daemon.cli_ok(&["app", "create", "bad", "--runtime", "crasher", "--start-mode", "manual"]);
    let output = daemon.cli(&["app", "start", "bad"]);
    assert_eq!(output.status.code(), Some(1));
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(talk.contains("exited with status 3") && talk.contains("about to fail"), "{talk}");
    assert_eq!(daemon.status("bad"), "error");
    let why = daemon.cli_ok(&["app", "why", "bad"]);
    assert!(why.contains("gave up after 3 failures") && why.contains("app start"), "{why}");
}

#[test]
fn apps_outlive_the_end_of_the_daemon_and_stop_all_stops_them() {
    let mut daemon = Daemon::start(&[SLEEPER]);
    for name in ["a", "b", "c"] {
        daemon.cli_ok(&["app", "create", name, "--runtime", "sleeper", "--start-mode", "manual"]);
    }
    daemon.cli_ok(&["app", "start", "a", "b", "c"]);
    let pids: Vec<u32> = ["a", "b", "c"].iter().map(|name| daemon.app_pid(name)).collect();
    assert!(daemon.terminate().success());
    assert!(pids.iter().all(|pid| daemon.marked().contains_key(pid)), "apps run on without the daemon");
    daemon.launch();
    let adopted: Vec<u32> = ["a", "b", "c"].iter().map(|name| daemon.app_pid(name)).collect();
    assert_eq!(pids, adopted);
    assert_eq!(daemon.status("a"), "running");
    daemon.cli_ok(&["stop-all", "--yes"]);
    assert!(daemon.marked().is_empty());
    daemon.terminate();
    daemon.launch();
    assert_eq!(daemon.status("a"), "stopped", "a stop is sticky");
}

#[test]
fn an_adopted_app_that_dies_is_restarted_and_an_app_that_died_meanwhile_too() {
    let mut daemon = Daemon::start(&[SLEEPER]);
    for name in ["a", "b"] {
        daemon.cli_ok(&["app", "create", name, "--runtime", "sleeper", "--start-mode", "with-supervisor"]);
        daemon.wait_status(name, "running");
    }
    let (a, b) = (daemon.app_pid("a"), daemon.app_pid("b"));
    let kill = |pid: u32| {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
    };
    daemon.kill9();
    kill(b);
    daemon.launch();
    daemon.wait_status("b", "running");
    assert_eq!(daemon.app_pid("a"), a);
    assert_ne!(daemon.app_pid("b"), b);
    assert_eq!(daemon.app("b")["instances"][0]["reason"]["code"], "exit_unknown");
    kill(a);
    eventually("the adopted app is back", Duration::from_secs(10), || {
        let app = daemon.app("a");
        let back = app["status"] == "running" && app["instances"][0]["restarts"] == 1;
        if back { Ok(()) } else { Err(app.to_string()) }
    });
}
