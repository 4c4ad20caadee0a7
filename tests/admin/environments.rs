//! Environments through the API and the command line: presence and why, drain, undrain, forget, parts of apps, moves.

use std::time::Duration;

use nbs_core::fleet::Bus;
use nbs_core::order::{LocalAction, LocalOverride, Report};
use nbsupervisor::ports::News;
use serde_json::{Value, json};

use crate::command_line::expect;
use crate::entry::NOW;
use crate::fleet::{env, fleet};

/// A little more than a lease lasts.
const LEASE_OVER: Duration = Duration::from_secs(14);

#[tokio::test]
async fn an_environment_tells_host_addresses_capacity_and_why_it_gets_no_starts() {
    let fleet = fleet().await;
    fleet.news.send(News::Proxy(env("env_a"), Err("connection refused".into()))).await.unwrap();
    let shown = fleet.until("/environments/env_a", |env| env["proxy_reachable"] == false).await;
    let wanted = json!({
        "name": "env_a", "host": "host-of-env_a", "version": "0.1.0", "local": false,
        "url": "http://env_a.example:13000", "proxy_url": null, "proxy_reachable": false,
        "proxy_error": "connection refused", "status": "available", "reason": null, "draining": false,
        "runtimes": [{ "name": "node", "version": null }], "last_heartbeat_at": "2026-11-21T03:00:00.000Z",
        "lease_age_ms": 0, "capacity": { "cpus": 8, "memory_bytes": 34_359_738_368_u64 },
        "usage": { "cpu_percent": null, "memory_bytes": null, "pressure": null }, "instances": 0,
        "concurrent_starts": 2,
    });
    assert_eq!(shown, wanted);
    let old = fleet.status_of("env_old", "unavailable").await;
    assert_eq!(old["reason"]["code"], "not_heard_yet", "{old}");

    fleet.pass(LEASE_OVER, &["env_a"]).await;
    let silent = fleet.status_of("env_b", "unavailable").await;
    assert_eq!((&silent["reason"]["code"], &silent["lease_age_ms"]), (&json!("environment_silent"), &json!(14000)));
    assert_eq!(fleet.status_of("env_a", "available").await["reason"], Value::Null);
    let (out, _) = expect(&fleet.room, &["env", "list"], 0).await;
    assert!(out.contains("host-of-env_b") && out.contains("it has been silent for 14s"), "{out}");
    let (out, _) = expect(&fleet.room, &["env", "show", "env_a"], 0).await;
    for part in ["http://env_a.example:13000", "no: connection refused", "8 CPUs, 32.0G memory", "host-of-env_a"] {
        assert!(out.contains(part), "{part} is not in {out}");
    }
    let (out, _) = expect(&fleet.room, &["status"], 0).await;
    assert!(out.contains("env_b: unavailable, 0 instances: it has been silent for 14s"), "{out}");

    // Without Redis the entry cannot know, and says that instead.
    fleet.news.send(News::Bus(Bus::Down)).await.unwrap();
    fleet.pass(LEASE_OVER, &[]).await;
    let unheard = fleet.until("/environments/env_a", |env| env["status"] == "unavailable").await;
    assert_eq!(unheard["reason"]["code"], "entry_without_redis");
    assert!(unheard["reason"]["remedy"].as_str().unwrap().contains("bring Redis back"), "{unheard}");
}

#[tokio::test]
async fn an_entry_that_stood_still_takes_nobody_for_lost() {
    let fleet = fleet().await;
    fleet.stand_still(Duration::from_secs(20)).await;
    for name in ["env_a", "env_b"] {
        let shown = fleet.until(&format!("/environments/{name}"), |_| true).await;
        assert_eq!(shown["status"], "available", "{shown}");
    }
    let told = fleet.until("/events", |_| true).await;
    assert!(!told.to_string().contains("environment_lost"), "{told}");
    fleet.pass(LEASE_OVER, &["env_a"]).await;
    fleet.status_of("env_b", "unavailable").await;
}

#[tokio::test]
async fn a_drained_environment_gets_no_app_until_it_is_undrained() {
    let fleet = fleet().await;
    let first = fleet.post("/environments/env_b/drain", "").await;
    assert_eq!(first.status, 200, "{first:?}");
    let first = first.json();
    assert_eq!((&first["already"], &first["environment"]["status"]), (&json!(false), &json!("draining")));
    assert_eq!(first["environment"]["reason"]["code"], "draining");
    assert_eq!(fleet.post("/environments/env_b/drain", "").await.json()["already"], true);
    let (_, err) = expect(&fleet.room, &["env", "drain", "env_b"], 0).await;
    assert_eq!(err, "env_b was draining already\n");

    let app = r#"{"name":"crm","runtime":"node","environments":["env_b"]}"#;
    let refused = fleet.post("/apps", app).await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "conflict"));
    assert!(refused.text.contains("env undrain env_b"), "{}", refused.text);

    let (_, err) = expect(&fleet.room, &["env", "undrain", "env_b"], 0).await;
    assert_eq!(err, "env_b gets starts again\n");
    assert_eq!(fleet.post("/environments/env_b/undrain", "").await.json()["already"], true);
    assert_eq!(fleet.post("/apps", app).await.status, 201);
    let kinds = fleet.room.get("/api/v1/events").await.json();
    let kinds: Vec<_> = kinds["events"].as_array().unwrap().iter().map(|event| event["kind"].clone()).collect();
    assert!(kinds.contains(&json!("environment_draining")) && kinds.contains(&json!("environment_undrained")));
}

#[tokio::test]
async fn an_environment_is_forgotten_only_when_it_is_not_there() {
    let fleet = fleet().await;
    let refused = fleet.room.ask("DELETE", "/api/v1/environments/env_b", &[], "").await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "conflict"), "{refused:?}");
    assert!(refused.text.contains("stop the daemon of env_b first"), "{}", refused.text);
    let (_, err) = expect(&fleet.room, &["env", "forget", "env_b", "--yes"], 4).await;
    assert!(err.contains("available and cannot be forgotten") && err.contains("env drain env_b"), "{err}");

    fleet.pass(LEASE_OVER, &["env_a"]).await;
    fleet.status_of("env_b", "unavailable").await;
    let (_, err) = expect(&fleet.room, &["env", "forget", "env_b"], 2).await;
    assert!(err.contains("held to be gone") && err.contains("--yes"), "{err}");
    expect(&fleet.room, &["env", "forget", "env_b", "--yes"], 0).await;
    assert_eq!(fleet.room.get("/api/v1/environments/env_b").await.status, 404);
    assert_eq!(fleet.room.ask("DELETE", "/api/v1/environments/env_old", &[], "").await.status, 204);
    let again = fleet.room.ask("DELETE", "/api/v1/environments/env_b", &[], "").await;
    assert_eq!((again.status, again.code().as_str()), (404, "not_found"));
}

#[tokio::test]
async fn an_unknown_environment_is_told_with_the_nearest_name() {
    let fleet = fleet().await;
    for (method, path) in [
        ("GET", "/api/v1/environments/env_aa"),
        ("DELETE", "/api/v1/environments/env_aa"),
        ("POST", "/api/v1/environments/env_aa/drain"),
        ("POST", "/api/v1/environments/env_aa/undrain"),
    ] {
        let answer = fleet.room.ask(method, path, &[], "").await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"), "{method} {path}");
        assert!(answer.json()["hint"].as_str().unwrap().starts_with("did you mean env_a?"), "{answer:?}");
    }
    let answer = fleet.post("/apps", r#"{"name":"x","runtime":"node","environments":["env_bb"]}"#).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "invalid"));
    assert!(answer.json()["hint"].as_str().unwrap().starts_with("did you mean env_b?"), "{answer:?}");
    let answer = fleet.post("/apps", r#"{"name":"x","runtime":"node","environments":["env_old"]}"#).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "environment_unavailable"));
    assert!(answer.text.contains("not been heard since this entry started"), "{}", answer.text);
    let answer = fleet.post("/apps", r#"{"name":"x","runtime":"node"}"#).await;
    assert_eq!((answer.status, answer.json()["field"].as_str()), (400, Some("environments")), "{answer:?}");
    let (_, err) = expect(&fleet.room, &["app", "create", "x", "--runtime", "node", "--env", "env_a"], 2).await;
    assert!(err.contains("--environment NAME"), "{err}");
}

#[tokio::test]
async fn a_command_may_be_about_a_part_of_an_app() {
    let fleet = fleet().await;
    fleet.create("crm").await;
    let started = fleet.post("/apps/crm/start", r#"{"environments":["env_a"]}"#).await;
    assert_eq!((started.status, started.json()["environments"].clone()), (202, json!(["env_a"])));
    assert_eq!(fleet.instance("crm", "env_a", "running").await["intent"], "run");
    assert_eq!(fleet.instance("crm", "env_b", "stopped").await["intent"], "stop");
    let (out, _) = expect(&fleet.room, &["app", "list"], 0).await;
    assert!(out.contains("running 1/2") && out.contains("env_a, env_b"), "{out}");
    let (out, _) = expect(&fleet.room, &["app", "why", "crm"], 0).await;
    assert!(out.contains("env_b: crm should stay stopped there") && out.contains("--environment env_b"), "{out}");

    let (_, err) = expect(&fleet.room, &["app", "start", "crm", "--env", "env_b"], 0).await;
    assert!(err.contains("start done, running in env_b"), "{err}");
    let (_, err) = expect(&fleet.room, &["app", "restart", "crm", "--env", "env_a", "--env", "env_b"], 0).await;
    assert!(err.contains("running in env_a, running in env_b"), "{err}");
    expect(&fleet.room, &["app", "stop", "crm", "--environment", "env_a"], 0).await;
    fleet.instance("crm", "env_a", "stopped").await;
    fleet.instance("crm", "env_b", "running").await;
    let again = fleet.post("/apps/crm/stop", r#"{"environments":["env_a"]}"#).await;
    assert_eq!(again.status, 200, "{again:?}");
    let (out, _) = expect(&fleet.room, &["app", "show", "crm"], 0).await;
    assert!(out.contains("env_a: stopped") && out.contains("env_b: running"), "{out}");

    let stranger = fleet.post("/apps/crm/start", r#"{"environments":["env_old"]}"#).await;
    assert_eq!((stranger.status, stranger.code().as_str()), (400, "invalid"));
    assert!(stranger.text.contains("crm is placed in: env_a, env_b"), "{}", stranger.text);
    let (_, err) = expect(&fleet.room, &["app", "stop", "crm", "--env", "mars"], 4).await;
    assert!(err.contains("\"mars\" is no environment of crm") && err.contains("env_a, env_b"), "{err}");
}

#[tokio::test]
async fn an_app_is_moved_by_editing_where_it_is_placed() {
    let fleet = fleet().await;
    let body = r#"{"name":"crm","runtime":"node","start_mode":"with-supervisor","environments":["env_a"]}"#;
    assert_eq!(fleet.post("/apps", body).await.status, 201);
    fleet.instance("crm", "env_a", "running").await;
    let (_, err) =
        expect(&fleet.room, &["app", "edit", "crm", "--environment", "env_a", "--environment", "env_b"], 0).await;
    assert!(err.contains("it is placed in env_b from now on"), "{err}");
    fleet.instance("crm", "env_b", "running").await;

    fleet.mute("env_a");
    let (_, err) = expect(&fleet.room, &["app", "edit", "crm", "--env", "env_b"], 0).await;
    assert!(err.contains("it is being taken away from env_a"), "{err}");
    let app = fleet.room.get("/api/v1/apps/crm").await.json();
    assert_eq!((&app["spec"]["environments"], &app["instances"][0]["leaving"]), (&json!(["env_b"]), &json!(true)));
    let (out, _) = expect(&fleet.room, &["app", "list", "--environment", "env_a"], 0).await;
    assert!(out.contains("env_a (leaving), env_b"), "{out}");
    let (out, _) = expect(&fleet.room, &["app", "why", "crm"], 0).await;
    assert!(out.contains("env_a: crm is being taken away from there") && out.contains("env forget env_a"), "{out}");
    let (out, _) = expect(&fleet.room, &["app", "show", "crm"], 0).await;
    assert!(out.contains("leaving since"), "{out}");

    let removed = Report::Removed { app: "crm".parse_app(), intent_seq: nbs_core::id::Seq(9) };
    fleet.tell("env_a", removed).await;
    let one = |app: &Value| app["instances"].as_array().is_some_and(|all| all.len() == 1);
    fleet.until("/apps/crm", one).await;
    let none = fleet.room.get("/api/v1/apps?environment=env_a").await.json();
    assert_eq!(none["apps"], json!([]));
}

#[tokio::test]
async fn a_runtime_has_the_version_that_all_of_its_apps_there_report() {
    let fleet = fleet().await;
    for app in ["crm", "erp"] {
        fleet.create(app).await;
        assert_eq!(fleet.post(&format!("/apps/{app}/start"), "").await.status, 202);
        fleet.instance(app, "env_a", "running").await;
        fleet.instance(app, "env_b", "running").await;
    }
    let shows = async |environment: &str, wanted: Value| {
        let path = format!("/environments/{environment}");
        fleet.until(&path, |env| env["runtimes"][0]["version"] == wanted).await;
    };
    shows("env_a", json!("1.2")).await;
    fleet.version("env_a", "erp", "1.3").await;
    shows("env_a", Value::Null).await;
    shows("env_b", json!("1.2")).await;
    fleet.version("env_a", "crm", "1.3").await;
    shows("env_a", json!("1.3")).await;
    fleet.version("env_a", "crm", "1.4").await;
    shows("env_a", Value::Null).await;
    assert_eq!(fleet.room.ask("DELETE", "/api/v1/apps/erp", &[], "").await.status, 202);
    shows("env_a", json!("1.4")).await;
    assert_eq!(fleet.room.ask("DELETE", "/api/v1/apps/crm", &[], "").await.status, 202);
    shows("env_b", Value::Null).await;
    let empty = |list: &Value| list["environments"].as_array().unwrap().iter().all(|env| env["instances"] == 0);
    fleet.until("/environments", empty).await;
}

trait ParseApp {
    fn parse_app(&self) -> nbs_core::name::AppId;
}

impl ParseApp for str {
    fn parse_app(&self) -> nbs_core::name::AppId {
        nbs_core::name::AppId::parse(self).unwrap()
    }
}

#[tokio::test]
async fn the_queue_says_what_each_start_waits_for() {
    let fleet = fleet().await;
    fleet.create("crm").await;
    fleet.mute("env_a");
    fleet.mute("env_b");
    assert_eq!(fleet.post("/apps/crm/start", "").await.status, 202);
    let one = |queue: &Value| queue["queue"].as_array().is_some_and(|all| all.len() == 1);
    let queue = fleet.until("/queue", one).await;
    let (waits, other) = (&queue["queue"][0], queue["queue"][0]["waits_for"].as_str().unwrap().to_string());
    assert!(["env_a", "env_b"].contains(&other.as_str()) && waits["environment"] != other.as_str(), "{queue}");
    let (out, _) = expect(&fleet.room, &["queue"], 0).await;
    assert!(out.contains(&format!("its start in {other}")) && out.contains("ETA"), "{out}");
    let (out, _) = expect(&fleet.room, &["app", "why", "crm"], 0).await;
    assert!(out.contains(&format!("its start in {other} to end")), "{out}");

    let waiting = waits["environment"].as_str().unwrap().to_string();
    assert_eq!(fleet.post(&format!("/environments/{waiting}/drain"), "").await.status, 200);
    let closed = |queue: &Value| queue["queue"][0]["waits_for"] == format!("environment {waiting}");
    fleet.until("/queue", closed).await;
    let (out, _) = expect(&fleet.room, &["queue"], 0).await;
    assert!(out.contains(&format!("{waiting} to take starts")), "{out}");
    let (out, _) = expect(&fleet.room, &["app", "why", "crm"], 0).await;
    assert!(out.contains(&format!("environment {waiting} is draining")), "{out}");
}

#[tokio::test]
async fn what_was_done_on_a_host_itself_is_shown() {
    let fleet = fleet().await;
    fleet.create("crm").await;
    fleet.post("/apps/crm/start", "").await;
    fleet.instance("crm", "env_a", "running").await;
    fleet.instance("crm", "env_b", "running").await;
    let local = LocalOverride { action: LocalAction::Stop, actor: "ann".into(), at: NOW };
    fleet.by_hand("env_a", "crm", local).await;
    let stopped = fleet.instance("crm", "env_a", "stopped").await;
    let wanted = json!({ "action": "stop", "actor": "ann", "at": "2026-11-21T03:00:00.000Z" });
    assert_eq!((&stopped["local"], &stopped["intent"]), (&wanted, &json!("run")));
    let (out, _) = expect(&fleet.room, &["app", "list"], 0).await;
    assert!(out.contains("env_a: stop on its host by ann"), "{out}");
    let (out, _) = expect(&fleet.room, &["app", "why", "crm"], 0).await;
    assert!(out.contains("`stop` by ann on that host itself"), "{out}");
    let (out, _) = expect(&fleet.room, &["app", "show", "crm"], 0).await;
    assert!(out.contains("stop on that host by ann"), "{out}");
}

#[tokio::test]
async fn a_silent_environment_explains_its_apps() {
    let fleet = fleet().await;
    fleet.create("crm").await;
    fleet.post("/apps/crm/start", "").await;
    fleet.instance("crm", "env_b", "running").await;
    fleet.instance("crm", "env_a", "running").await;
    fleet.pass(LEASE_OVER, &["env_a"]).await;
    let silent = fleet.instance("crm", "env_b", "unknown").await;
    assert_eq!((&silent["last_status"], &silent["age_ms"]), (&json!("running"), &json!(14000)));
    let (out, _) = expect(&fleet.room, &["app", "why", "crm"], 0).await;
    assert!(out.contains("environment env_b has been silent for 14s") && out.contains("check the host"), "{out}");
    let (out, _) = expect(&fleet.room, &["app", "list"], 0).await;
    assert!(out.contains("env_b (silent)"), "{out}");
    let usage = fleet.room.get("/api/v1/usage?environment=env_a").await.json();
    assert_eq!(
        (&usage["apps"][0]["environment"], &usage["hosts"][0]["environment"]),
        (&json!("env_a"), &json!("env_a"))
    );
    let all = fleet.room.get("/api/v1/usage").await.json();
    assert_eq!(all["hosts"].as_array().map(Vec::len), Some(3), "{all}");
}

#[tokio::test]
async fn the_log_of_an_app_elsewhere_is_told_to_be_there() {
    let fleet = fleet().await;
    fleet.create("crm").await;
    for query in ["", "?environment=env_b"] {
        let answer = fleet.room.get(&format!("/api/v1/apps/crm/logs{query}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"));
        assert!(answer.text.contains("on host-of-env_") && answer.text.contains("app logs crm"), "{}", answer.text);
    }
    let answer = fleet.room.get("/api/v1/apps/crm/logs?environment=env_old").await;
    assert!(answer.text.contains("it is in env_a, env_b"), "{}", answer.text);
}

#[tokio::test]
async fn an_entry_beside_another_one_changes_nothing_and_says_why() {
    let fleet = fleet().await;
    fleet.create("crm").await;
    let why = "entry other at 10.0.0.9 reigns since epoch 7";
    fleet.news.send(News::Bus(Bus::Fenced(why.into()))).await.unwrap();
    let status = fleet.until("/status", |status| !status["read_only"].is_null()).await;
    assert_eq!(status["read_only"], why);
    let (out, _) = expect(&fleet.room, &["status"], 0).await;
    assert!(out.contains(&format!("read-only     {why}")), "{out}");
    for path in ["/apps/crm/start", "/apps/crm/stop", "/environments/env_a/drain"] {
        let answer = fleet.post(path, "").await;
        assert_eq!((answer.status, answer.code().as_str()), (409, "conflict"), "{path}");
        assert!(answer.text.contains(why), "{path}: {}", answer.text);
    }
}
