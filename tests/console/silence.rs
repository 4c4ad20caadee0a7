//! An environment that is silent, and a queue that waits for it.

use std::sync::Arc;
use std::time::Duration;

use nbs_core::name::{AppId, EnvironmentName};
use nbs_core::phase::Status;
use nbs_core::time::{Mono, Now, Wall};
use nbs_core::view::{EnvironmentView, Presence, Priority, QueueView};
use nbsupervisor::entry::{Desk, FleetView, Request};

use crate::entry::{Memory, NOW, app, environment};
use crate::room::{Room, serve};

/// How long it has been silent.
const SILENT: Duration = Duration::from_secs(41);

fn env(name: &str) -> EnvironmentName {
    EnvironmentName::parse(name).unwrap()
}

/// An entry with one app in two environments, of which one is silent.
async fn room() -> Room {
    let (entry, desk) = nbsupervisor::entry::desk(Arc::new(Memory::default()), 8);
    let mut view = FleetView::default();
    let now = Now { mono: Mono(SILENT), wall: Wall(NOW.0 + SILENT.as_millis() as u64) };
    for (name, presence) in [("env_a", Presence::Available), ("env_b", Presence::Silent)] {
        let known = environment();
        let mut registration = (*known.registration).clone();
        registration.environment = env(name);
        registration.url = Some(format!("http://{name}.example:13000"));
        let proxy = Some(if name == "env_a" { Ok(()) } else { Err("connection refused".into()) });
        let (heard, heard_at) = if name == "env_a" { (now.mono, now.wall) } else { (Mono::default(), NOW) };
        let known = EnvironmentView {
            registration: Arc::new(registration),
            presence,
            proxy,
            is_local: false,
            heard,
            heard_at,
            ..known
        };
        view.environments.insert(env(name), Arc::new(known));
    }
    let mut crm = app("crm");
    let mut silent = crm.instances[0].clone();
    crm.instances[0].environment = env("env_a");
    (silent.environment, silent.status) = (env("env_b"), Status::Unknown);
    crm.instances.push(silent);
    crm.status = Status::Unknown;
    view.apps.insert(crm.spec.name.clone(), Arc::new(crm));
    desk.publish(view, &[], &[], false);
    tokio::spawn(tell_queue(desk));
    serve(entry, None, None, Arc::new(move || now)).await
}

async fn tell_queue(mut desk: Desk) {
    while let Some(request) = desk.requests.recv().await {
        if let Request::Queue(reply) = request {
            let waiting = QueueView {
                app: AppId::parse("erp").unwrap(),
                environment: env("env_a"),
                position: 1,
                waits_for: "env_b".into(),
                since: NOW,
                eta_ms: Some(8000),
                priority: Priority::Visitor,
            };
            let _ = reply.send(vec![waiting]);
        }
    }
}

#[tokio::test]
async fn a_silent_environment_is_no_green() {
    let room = room().await;
    let list = room.get("/").await.text;
    assert_eq!(list.matches("badge good").count(), 1, "only what is known to run is green: {list}");
    assert!(list.contains("badge doubt\">unknown</span>") && list.contains(", was running"), "{list}");
    assert!(list.contains(", last heard 41 s ago"), "{list}");
    let page = room.get("/console/environments").await.text;
    for part in ["unavailable", "41 s", "it has been silent for 41s", "/console/environments/env_b/forget"] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    for part in ["http://env_a.example:13000", "the entry reaches it", "does not reach it", "connection refused"] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    assert!(!page.contains("/console/environments/env_a/forget"), "what is there cannot be forgotten: {page}");
}

#[tokio::test]
async fn the_queue_tells_place_and_what_it_waits_for() {
    let room = room().await;
    let page = room.get("/console/queue").await.text;
    let row = page.split("id=\"q-erp-env_a\"").nth(1).unwrap_or_else(|| panic!("no row in {page}"));
    for part in [">1<", ">env_b<", ">41 s<", ">8 s<", ">visitor<"] {
        assert!(row.contains(part), "{part} is not in {row}");
    }
    assert!(room.get("/").await.text.contains("1 in the start queue"));
}

#[tokio::test]
async fn a_new_app_is_asked_where_it_is_to_run() {
    let room = room().await;
    let form = room.get("/console/apps/new").await.text;
    assert!(form.contains("value=\"env_a\"") && form.contains("value=\"env_b\"") && !form.contains("env_a\" checked"));
    let word = form.split("name=\"form\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let body = crate::browser::form(&[("form", word), ("name", "x"), ("runtime", "node")]);
    let kind = "Content-Type: application/x-www-form-urlencoded";
    let answer = room.ask("POST", "/console/apps", &[kind], &body).await;
    assert!(answer.status == 400 && answer.text.contains("id=\"environments-wrong\""), "{answer:?}");
}
