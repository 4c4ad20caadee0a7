//! Several apps in one process: the sample host, driven by the command line alone.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::{Answer, Daemon};
use crate::eventually::eventually;

const APPS: [&str; 3] = ["red", "green", "blue"];

/// The sample's own recipe, where it stands in this tree, allowed to misbehave.
fn recipe() -> String {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/shared-host");
    let text = std::fs::read_to_string(format!("{here}/shared-host.toml")).unwrap();
    let text = text.replace("/usr/share/nbsupervisor/examples/shared-host", here);
    let text = text.replace("STATE_DIR = \"{state_dir}\"", "STATE_DIR = \"{state_dir}\", MISBEHAVE = \"1\"");
    text.replace("interval = \"1s\"", "interval = \"200ms\"").replace("timeout = \"20s\"", "timeout = \"4s\"")
}

fn daemon() -> Daemon {
    Daemon::start(&[("shared-host.toml", &recipe())])
}

fn create(daemon: &Daemon, app: &str) {
    daemon.cli_ok(&["app", "create", app, "--runtime", "shared-host", "--hosting", "shared", "--start-mode", "manual"]);
}

/// A daemon with three apps that run in one process.
fn three() -> Daemon {
    let daemon = daemon();
    for app in APPS {
        create(&daemon, app);
        daemon.cli_ok(&["app", "start", app]);
    }
    daemon
}

fn visit(gateway: &str, app: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(gateway)?;
    stream.set_read_timeout(Some(Duration::from_secs(40)))?;
    write!(stream, "GET /apps/{app}/page HTTP/1.1\r\nHost: {gateway}\r\nConnection: close\r\n\r\n")?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw)?;
    crate::daemon::parse(&raw).ok_or_else(|| std::io::Error::other(format!("{app}: no answer")))
}

/// The app's page, which must be its own.
fn page(daemon: &Daemon, app: &str) -> Value {
    let answer = visit(&daemon.gateway(), app).unwrap();
    assert_eq!((answer.status, &answer.body["app"]), (200, &json!(app)), "{answer:?}\n{}", daemon.log());
    answer.body
}

fn instance(daemon: &Daemon, app: &str) -> Value {
    daemon.app(app)["instances"][0].clone()
}

/// Tells the host process itself to do something wrong.
fn misbehave(daemon: &Daemon, how: &Value) {
    let address = instance(daemon, "green")["address"].as_str().unwrap().to_string();
    let body = how.to_string();
    let mut stream = TcpStream::connect(&address).unwrap();
    let head = format!(
        "POST /_host/misbehave HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
}

#[test]
fn apps_in_one_process_are_created_started_visited_stopped_and_removed_by_the_command_line() {
    let daemon = three();
    let pids: BTreeSet<u32> = APPS.iter().map(|app| daemon.app_pid(app)).collect();
    assert_eq!(pids.len(), 1, "one process: {pids:?}");
    for app in APPS {
        let seen = page(&daemon, app);
        assert_eq!(seen["greeting"], format!("Hello from {app}"));
        assert_eq!(
            (&seen["secret_known"], seen["pid"].as_u64()),
            (&json!(true), pids.first().map(|pid| u64::from(*pid)))
        );
        let instance = instance(&daemon, app);
        assert_eq!((&instance["adapter"], &instance["status"]), (&json!("shared"), &json!("running")));
    }
    let listed = daemon.cli_ok(&["app", "list"]);
    assert!(!listed.contains("nbs-host"), "the host itself is nobody's app: {listed}");
    assert!(daemon.cli_ok(&["app", "logs", "red"]).contains("shared-host 1.0.0 listens"), "its log is the host's");
    daemon.cli_ok(&["app", "stop", "red"]);
    assert_eq!(visit(&daemon.gateway(), "red").unwrap().status, 503);
    daemon.cli_ok(&["app", "remove", "red", "--yes"]);
    assert_eq!(daemon.request("GET", "/api/v1/apps/red", None).status, 404);
    for app in ["green", "blue"] {
        page(&daemon, app);
        daemon.cli_ok(&["app", "remove", app, "--yes"]);
    }
    eventually("the host ends with its last app", Duration::from_secs(20), || {
        let left = daemon.marked();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}\n{}", daemon.log())) }
    });
    let kept = std::fs::read_to_string(daemon.dir().join("state/apps/nbs-host-shared-host/apps.json")).unwrap();
    assert_eq!(kept, "{}", "every app was taken out of the host");
}

#[test]
fn an_upgrade_is_asked_of_the_host_and_a_start_is_none() {
    let daemon = three();
    let process = daemon.app_pid("red");
    daemon.cli_ok(&["app", "restart", "red"]);
    assert_eq!(page(&daemon, "red")["upgraded"], Value::Null, "a start is no upgrade");
    daemon.cli_ok(&["app", "upgrade", "red"]);
    assert_eq!(page(&daemon, "red")["upgraded"], "1.0.0");
    assert_eq!(page(&daemon, "green")["upgraded"], Value::Null, "nobody else was upgraded");
    assert_eq!(daemon.app_pid("green"), process, "all in the same process");
}

#[test]
fn stopping_one_leaves_the_others_serving_without_a_failed_request() {
    let daemon = three();
    let (done, asked, failed) = (Arc::new(AtomicBool::new(false)), AtomicUsize::new(0), AtomicUsize::new(0));
    let gateway = daemon.gateway();
    std::thread::scope(|scope| {
        for app in ["green", "blue"] {
            let (done, asked, failed, gateway) = (&done, &asked, &failed, &gateway);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let well =
                        visit(gateway, app).is_ok_and(|answer| answer.status == 200 && answer.body["app"] == app);
                    asked.fetch_add(1, Ordering::Relaxed);
                    failed.fetch_add(usize::from(!well), Ordering::Relaxed);
                }
            });
        }
        for _ in 0..5 {
            daemon.cli_ok(&["app", "stop", "red"]);
            daemon.cli_ok(&["app", "start", "red"]);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(asked.load(Ordering::Relaxed) > 20);
    assert_eq!(failed.load(Ordering::Relaxed), 0, "of {}", asked.load(Ordering::Relaxed));
}

#[test]
fn when_the_process_is_killed_all_its_apps_say_so_and_serve_again_by_themselves() {
    let daemon = three();
    daemon.cli_ok(&["app", "stop", "blue"]);
    let before = daemon.app_pid("red");
    let pid = nix::unistd::Pid::from_raw(before as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    for app in ["red", "green"] {
        eventually(&format!("{app} serves again"), Duration::from_secs(60), || {
            let app = daemon.app(app);
            let instance = &app["instances"][0];
            let again = instance["status"] == "running" && instance["pid"].as_u64() != Some(u64::from(before));
            if again { Ok(()) } else { Err(format!("{app:#}\n{}", daemon.log())) }
        });
        page(&daemon, app);
        let instance = instance(&daemon, app);
        assert_eq!(
            (&instance["restarts"], &instance["reason"]["code"]),
            (&json!(1), &json!("host_ended")),
            "{instance}"
        );
        let text = instance["reason"]["text"].as_str().unwrap();
        assert!(text.contains("nbs-host-shared-host") && text.contains("SIGKILL"), "{text}");
        let why = daemon.cli_ok(&["app", "why", app]);
        assert!(why.contains("nbs-host-shared-host"), "{why}");
    }
    assert_eq!(daemon.status("blue"), "stopped");
}

#[test]
fn a_stopped_app_stays_stopped_whoever_visits_or_wakes_it() {
    let daemon = three();
    daemon.cli_ok(&["app", "stop", "red"]);
    for _ in 0..100 {
        assert_eq!(visit(&daemon.gateway(), "red").unwrap().status, 503);
    }
    misbehave(&daemon, &json!({ "wake": "red" }));
    let stops = || daemon.cli_ok(&["app", "logs", "red"]).matches("red is stopped").count();
    eventually("it is stopped again", Duration::from_secs(20), || {
        if stops() >= 2 { Ok(()) } else { Err(daemon.cli_ok(&["app", "logs", "red"])) }
    });
    assert_eq!(daemon.status("red"), "stopped");
    page(&daemon, "green");
}

#[test]
fn an_app_that_its_host_loses_is_started_again_and_nobody_else() {
    let daemon = three();
    let before = instance(&daemon, "blue");
    misbehave(&daemon, &json!({ "fail": "red" }));
    eventually("red runs again", Duration::from_secs(30), || {
        let red = instance(&daemon, "red");
        if red["status"] == "running" && red["restarts"] == 1 { Ok(()) } else { Err(red.to_string()) }
    });
    let reason = instance(&daemon, "red")["reason"].clone();
    assert_eq!(reason["code"], "not_in_host");
    assert!(reason["text"].as_str().unwrap().contains("it was told to fail"), "{reason}");
    let after = instance(&daemon, "blue");
    assert_eq!((&before["since"], &before["pid"]), (&after["since"], &after["pid"]));
}

#[test]
fn a_daemon_that_is_killed_finds_process_and_apps_as_they_were() {
    let mut daemon = three();
    daemon.cli_ok(&["app", "stop", "blue"]);
    let before = daemon.app_pid("red");
    let visits = page(&daemon, "red")["visits"].as_u64().unwrap();
    daemon.kill9();
    daemon.launch();
    for app in ["red", "green"] {
        daemon.wait_status(app, "running");
        assert_eq!((daemon.app_pid(app), &instance(&daemon, app)["restarts"]), (before, &json!(0)));
    }
    assert_eq!(page(&daemon, "red")["visits"], visits + 1, "the app in it was not started again");
    assert_eq!(daemon.status("blue"), "stopped");
    daemon.cli_ok(&["app", "start", "blue"]);
    daemon.cli_ok(&["app", "stop", "red"]);
    assert_eq!(page(&daemon, "blue")["pid"], before);
}

#[test]
fn a_host_that_answers_nonsense_is_told_and_never_waited_for_without_end() {
    let daemon = three();
    misbehave(&daemon, &json!({ "nonsense": true }));
    // What runs is left alone; what is to stop or start says why it cannot.
    let output = daemon.cli(&["app", "stop", "red"]);
    let talk = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && talk.contains("nbs-host-shared-host"), "{talk}");
    let reason = instance(&daemon, "red")["reason"].clone();
    assert_eq!(reason["code"], "host_refused");
    assert!(reason["text"].as_str().unwrap().contains("GET /_host/apps answered, but apps is no list"), "{reason}");
    page(&daemon, "green");
    assert_eq!(instance(&daemon, "green")["restarts"], 0);
    misbehave(&daemon, &json!({ "forget_tokens": true }));
    eventually("red is stopped after all", Duration::from_secs(30), || {
        let red = instance(&daemon, "red");
        if red["status"] == "stopped" { Ok(()) } else { Err(red.to_string()) }
    });
    daemon.cli_ok(&["app", "start", "red"]);
    page(&daemon, "red");
}

#[test]
fn a_stop_that_the_host_ignores_ends_as_failed_and_is_tried_until_it_works() {
    let daemon = three();
    misbehave(&daemon, &json!({ "refuse_stop": true }));
    let output = daemon.cli(&["app", "stop", "red"]);
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(daemon.status("red"), "error");
    misbehave(&daemon, &json!({}));
    daemon.wait_status("red", "stopped");
}

#[test]
fn an_app_cannot_share_a_process_where_the_recipe_does_not_tell_how() {
    let daemon = Daemon::start(&[crate::recipes::SLEEPER]);
    let spec = json!({ "name": "a", "runtime": "sleeper", "hosting": "shared" });
    let answer = daemon.request("POST", "/api/v1/apps", Some(spec));
    assert_eq!(
        (answer.status, &answer.body["code"], &answer.body["field"]),
        (400, &json!("invalid"), &json!("hosting"))
    );
    let text = answer.body.to_string();
    assert!(text.contains("sleeper") && text.contains("[shared]"), "{text}");
    for reserved in ["nbs-host-x", "nbs-hook-x", "nbs-probe-x"] {
        let spec = json!({ "name": reserved, "runtime": "sleeper" });
        let answer = daemon.request("POST", "/api/v1/apps", Some(spec));
        assert_eq!((answer.status, &answer.body["field"]), (400, &json!("name")), "{answer:?}");
    }
}

#[test]
fn an_app_moves_out_of_a_process_with_others_and_into_it_and_returns_if_it_does_not_become_ready() {
    let daemon = three();
    let of = |app: &str| (instance(&daemon, app)["adapter"].as_str().map(str::to_string), daemon.app_pid(app));
    let (red, green) = (of("red"), of("green"));
    assert_eq!(red, green);
    let plan = daemon.cli_ok(&["app", "move", "red", "--hosting", "dedicated", "--dry-run"]);
    assert!(plan.contains("red runs in a process of its own") && plan.contains("put back"), "{plan}");
    assert_eq!((of("red"), daemon.app("red")["generation"].as_u64()), (red.clone(), Some(1)), "a plan changes nothing");
    // A process of its own reads this variable, and cannot begin with it.
    daemon.cli_ok(&["app", "edit", "red", "--set", "env.START_MS=never"]);
    let output = daemon.cli(&["app", "move", "red", "--hosting", "dedicated"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), of("red")), (Some(1), red.clone()), "{said}");
    assert!(said.contains("it is back in local"), "{said}");
    assert_eq!(daemon.app("red")["spec"]["hosting"], "shared");
    page(&daemon, "red");
    daemon.cli_ok(&["app", "edit", "red", "--unset", "env.START_MS"]);
    daemon.cli_ok(&["app", "move", "red", "--hosting", "dedicated"]);
    assert_eq!((daemon.app("red")["status"].as_str(), of("red").0.as_deref()), (Some("running"), Some("process")));
    daemon.cli_ok(&["app", "move", "red", "--hosting", "shared"]);
    assert_eq!(of("red"), red);
    page(&daemon, "red");
    assert_eq!(of("green"), green, "the others were left alone");
}
