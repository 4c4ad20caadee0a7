//! The room of a worker: local words are taken, everything else is for its entry.

use std::sync::{Arc, Mutex};

use nbs_core::name::{AppId, EnvironmentName};
use nbs_core::order::{LocalAction, LocalOverride};
use nbs_core::phase::{Phase, Status};
use nbs_core::time::{Mono, Now, Wall};
use nbs_core::view::AppView;
use nbsupervisor::admin::LocalHands;
use nbsupervisor::entry::{Desk, FleetView};
use nbsupervisor::worker::LocalError;
use serde_json::json;

use crate::command_line::expect;
use crate::entry::{Memory, NOW, app, local};
use crate::room::{Room, open, serve};

/// The worker `local`: takes words up at once. App `stuck` puts them aside, and `busy` finds no room for them.
struct Hands {
    desk: Desk,
    view: Mutex<FleetView>,
    said: Mutex<Vec<String>>,
}

impl LocalHands for Hands {
    fn environment(&self) -> EnvironmentName {
        local()
    }
    fn entry(&self) -> Option<String> {
        Some("http://10.0.0.1:13000".into())
    }
    fn command(&self, app: &AppId, action: LocalAction, actor: &str) -> Result<(), LocalError> {
        if app.as_str() == "busy" {
            return Err(LocalError::Busy);
        }
        let mut said = self.said.lock().unwrap();
        said.push(format!("{} {app} by {actor}", action.as_str()));
        let at = Wall(NOW.0 + said.len() as u64);
        let mut view = self.view.lock().unwrap();
        let known = view.apps.get(app).cloned().unwrap();
        let local = LocalOverride { action, actor: actor.into(), at };
        view.apps.insert(app.clone(), Arc::new(after(&known, local)));
        self.desk.publish(view.clone(), std::slice::from_ref(app), &[], false);
        Ok(())
    }
}

fn after(app: &AppView, local: LocalOverride) -> AppView {
    let mut app = app.clone();
    let mut report = (**app.instances[0].report.as_ref().unwrap()).clone();
    (report.phase, app.status) = match local.action {
        LocalAction::Stop => (Phase::Stopped, Status::Stopped),
        LocalAction::Restart => (Phase::Running, Status::Running),
    };
    app.instances[0].status = app.status;
    report.local = Some(local);
    app.instances[0].report = Some(Arc::new(report));
    app
}

async fn worker() -> (Room, Arc<Hands>) {
    let (entry, desk) = nbsupervisor::entry::desk(Arc::new(Memory::default()), 64);
    let mut view = FleetView::default();
    for name in ["crm", "busy"] {
        view.apps.insert(AppId::parse(name).unwrap(), Arc::new(app(name)));
    }
    desk.publish(view.clone(), &[], &[], false);
    let hands = Arc::new(Hands { desk, view: Mutex::new(view), said: Mutex::default() });
    let now = Arc::new(|| Now { mono: Mono::default(), wall: NOW });
    (serve(entry, Some(hands.clone()), None, now).await, hands)
}

#[tokio::test]
async fn a_local_word_reaches_the_worker_with_who_said_it() {
    let (room, hands) = worker().await;
    let answer = room.ask("POST", "/api/v1/apps/crm/stop", &[], r#"{"local":true}"#).await;
    let wanted = json!({ "app": "crm", "environment": "local", "action": "stop", "actor": "root", "local": true });
    assert_eq!((answer.status, answer.json()), (202, wanted));
    let (_, err) = expect(&room, &["app", "restart", "crm", "--local"], 0).await;
    assert!(err.contains("crm: restart done on local, running"), "{err}");
    let (_, err) = expect(&room, &["app", "stop", "crm", "--local"], 0).await;
    assert!(err.contains("crm: stop done on local, stopped"), "{err}");
    assert_eq!(*hands.said.lock().unwrap(), ["stop crm by root", "restart crm by root", "stop crm by root"]);
}

#[tokio::test]
async fn a_worker_refuses_what_its_entry_decides() {
    let (room, hands) = worker().await;
    let table = [
        ("POST", "/api/v1/apps", r#"{"name":"x","runtime":"node"}"#),
        ("PATCH", "/api/v1/apps/crm", r#"{"title":"T"}"#),
        ("DELETE", "/api/v1/apps/crm", ""),
        ("POST", "/api/v1/apps/crm/start", ""),
        ("POST", "/api/v1/apps/crm/stop", ""),
        ("POST", "/api/v1/apps/crm/restart", "{}"),
        ("POST", "/api/v1/environments/local/drain", ""),
        ("POST", "/api/v1/environments/local/undrain", ""),
        ("DELETE", "/api/v1/environments/local", ""),
    ];
    for (method, path, body) in table {
        let headers: &[&str] = if method == "PATCH" { &["If-Match: 1"] } else { &[] };
        let answer = room.ask(method, path, headers, body).await;
        assert_eq!((answer.status, answer.code().as_str()), (409, "conflict"), "{method} {path}");
        for part in ["this is worker local", "the entry at http://10.0.0.1:13000", "--local"] {
            assert!(answer.text.contains(part), "{method} {path}: {part} is not in {}", answer.text);
        }
    }
    assert!(hands.said.lock().unwrap().is_empty());
    let (out, _) = expect(&room, &["status"], 0).await;
    assert!(out.contains("this is worker local; its entry at http://10.0.0.1:13000 decides"), "{out}");
}

#[tokio::test]
async fn a_local_word_that_makes_no_sense_is_refused() {
    let (room, hands) = worker().await;
    let table = [
        ("/api/v1/apps/crm/start", r#"{"local":true}"#, 400, "invalid", "app restart --local"),
        ("/api/v1/apps/crm/stop", r#"{"local":"yes"}"#, 400, "invalid", "true or false"),
        ("/api/v1/apps/crm/stop", r#"{"local":true,"environments":["env_b"]}"#, 400, "invalid", "leave it out"),
        ("/api/v1/apps/nobody/stop", r#"{"local":true}"#, 404, "not_found", "app list"),
        ("/api/v1/apps/busy/stop", r#"{"local":true}"#, 503, "queue_full", "try again"),
    ];
    for (path, body, status, code, hint) in table {
        let answer = room.ask("POST", path, &[], body).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path} {body}: {answer:?}");
        assert!(answer.json()["hint"].as_str().is_some_and(|text| text.contains(hint)), "{path} {body}: {answer:?}");
    }
    assert!(hands.said.lock().unwrap().is_empty());
    expect(&room, &["app", "start", "crm", "--local"], 2).await;
    expect(&room, &["app", "stop", "crm", "--local", "--env", "env_b"], 2).await;
}

#[tokio::test]
async fn a_daemon_that_decides_takes_no_local_word() {
    let room = open().await;
    room.create("crm").await;
    let answer = room.ask("POST", "/api/v1/apps/crm/stop", &[], r#"{"local":true}"#).await;
    assert_eq!((answer.status, answer.code().as_str()), (409, "conflict"));
    let (_, err) = expect(&room, &["app", "stop", "crm", "--local"], 4).await;
    assert!(err.contains("this daemon decides itself") && err.contains("leave --local"), "{err}");
}
