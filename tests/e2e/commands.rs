//! Many commands at once: each has its answer, and the highest accepted one of an app decides.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::eventually::eventually;
use crate::recipes::SLEEPER;

const CLIENTS: u64 = 20;
const EACH: u64 = 100;
const APPS: u64 = 50;

#[derive(Debug, Clone)]
struct Accepted {
    seq: u64,
    id: String,
    action: &'static str,
}

#[test]
fn two_thousand_commands_of_twenty_clients_leave_what_the_last_accepted_one_says() {
    let daemon = Daemon::start_with(&[SLEEPER], &["environment.concurrent_starts=8"]);
    let accepted: Mutex<BTreeMap<String, Vec<Accepted>>> = Mutex::default();
    let answers: Mutex<BTreeMap<String, usize>> = Mutex::default();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (daemon, accepted, answers) = (&daemon, &accepted, &answers);
            scope.spawn(move || {
                for n in 0..EACH {
                    let random = (client * EACH + n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
                    let app = format!("app-{}", random % APPS);
                    let action = ["start", "stop", "restart", "create", "remove"][(random / APPS % 5) as usize];
                    let (verdict, body) = send(daemon, &app, action);
                    *answers.lock().unwrap().entry(format!("{action} {verdict}")).or_default() += 1;
                    if verdict == "accepted" {
                        let operation = if action == "create" { &body["operation"] } else { &body };
                        let (seq, id) = (operation["seq"].as_u64().unwrap(), operation["id"].as_str().unwrap().into());
                        accepted.lock().unwrap().entry(app).or_default().push(Accepted { seq, id, action });
                    }
                }
            });
        }
    });
    let accepted = accepted.into_inner().unwrap();
    println!("{:?}", answers.into_inner().unwrap());
    assert_eq!(accepted.len(), APPS as usize, "every app had its share");
    for (app, mut commands) in accepted {
        for command in &commands {
            let id = &command.id;
            let operation = daemon.request("GET", &format!("/api/v1/operations/{id}?wait=60s"), None).body;
            assert!(["done", "failed", "expired"].contains(&operation["status"].as_str().unwrap()), "{operation}");
        }
        commands.sort_by_key(|command| command.seq);
        let last = commands.last().unwrap();
        let wanted = match last.action {
            "start" | "restart" => "running",
            "remove" => "gone",
            _ => "stopped",
        };
        eventually(&format!("{app} is {wanted} after {last:?}"), Duration::from_secs(20), || {
            let answer = daemon.request("GET", &format!("/api/v1/apps/{app}"), None);
            let found = if answer.status == 404 { json!("gone") } else { answer.body["status"].clone() };
            if found == wanted { Ok(()) } else { Err(answer.body.to_string()) }
        });
    }
}

fn send(daemon: &Daemon, app: &str, action: &str) -> (&'static str, Value) {
    let answer = match action {
        "create" => {
            let spec = json!({ "name": app, "runtime": "sleeper", "start_mode": "manual", "reuse": true });
            daemon.request("POST", "/api/v1/apps", Some(spec))
        }
        "remove" => daemon.request("DELETE", &format!("/api/v1/apps/{app}"), None),
        action => daemon.request("POST", &format!("/api/v1/apps/{app}/{action}"), None),
    };
    let verdict = match answer.status {
        201 | 202 => "accepted",
        200 => "already",
        404 | 409 => "denied",
        other => panic!("{action} {app}: {other} {}", answer.body),
    };
    (verdict, answer.body)
}

#[test]
fn a_repeated_request_with_its_key_takes_effect_once_however_much_happened_between() {
    let mut daemon = Daemon::start(&[SLEEPER]);
    let body = json!({ "name": "once", "runtime": "sleeper", "start_mode": "manual" }).to_string();
    let key = "Idempotency-Key: 7f3a\r\n";
    let first = daemon.try_request_with("POST", "/api/v1/apps", key, Some(&body)).unwrap();
    assert_eq!(first.status, 201, "{}", first.body);
    // More operations than are kept in memory.
    for _ in 0..300 {
        daemon.request("POST", "/api/v1/apps/once/start", None);
        daemon.request("POST", "/api/v1/apps/once/stop", None);
    }
    daemon.kill9();
    daemon.launch();
    let again = daemon.try_request_with("POST", "/api/v1/apps", key, Some(&body)).unwrap();
    assert_eq!(again.status, 201, "{}", again.body);
    assert_eq!(again.body["operation"]["id"], first.body["operation"]["id"]);
    let other = json!({ "name": "other", "runtime": "sleeper" }).to_string();
    let reused = daemon.try_request_with("POST", "/api/v1/apps", key, Some(&other)).unwrap();
    assert_eq!((reused.status, reused.body["code"].as_str()), (409, Some("conflict")), "{}", reused.body);
    assert_eq!(daemon.request("GET", "/api/v1/apps/other", None).status, 404);
}
