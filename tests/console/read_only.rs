//! Where nothing can be decided, nothing is offered, and the page says why.

use std::sync::Arc;

use nbs_core::name::{AppId, EnvironmentName};
use nbs_core::order::LocalAction;
use nbs_core::time::{Mono, Now};
use nbsupervisor::admin::LocalHands;
use nbsupervisor::entry::FleetView;
use nbsupervisor::worker::LocalError;

use crate::browser::form;
use crate::entry::{Memory, NOW, app, local};
use crate::room::{Room, serve};

struct Worker;

impl LocalHands for Worker {
    fn environment(&self) -> EnvironmentName {
        local()
    }
    fn entry(&self) -> Option<String> {
        Some("http://10.0.0.1:13000".into())
    }
    fn command(&self, _: &AppId, _: LocalAction, _: &str) -> Result<(), LocalError> {
        panic!("the console gives no local words");
    }
}

async fn room(hands: Option<Arc<dyn LocalHands>>, read_only: Option<&str>) -> (Room, nbsupervisor::entry::Desk) {
    let (entry, desk) = nbsupervisor::entry::desk(Arc::new(Memory::default()), 8);
    let mut view = FleetView { read_only: read_only.map(Into::into), ..FleetView::default() };
    let known = app("crm");
    view.apps.insert(known.spec.name.clone(), Arc::new(known));
    desk.publish(view, &[], &[], false);
    let now = Arc::new(|| Now { mono: Mono::default(), wall: NOW });
    (serve(entry, hands, None, now).await, desk)
}

async fn offers_nothing(room: &Room, why: &str) {
    for path in ["/", "/console/apps/crm", "/console/environments", "/console/queue", "/console/apps/new"] {
        let page = room.get(path).await;
        assert_eq!(page.status, 200, "{path}: {page:?}");
        assert!(page.text.contains("Nothing can be changed here") && page.text.contains(why), "{path}: {}", page.text);
        assert!(!page.text.contains("method=\"post\""), "{path} offers something: {}", page.text);
    }
    assert!(room.get("/").await.text.contains("running"), "what is, is shown");
    assert!(!room.get("/console/apps/crm/remove").await.text.contains("<button"));
}

#[tokio::test]
async fn a_worker_shows_what_it_has_and_names_its_entry() {
    let (room, _desk) = room(Some(Arc::new(Worker)), None).await;
    offers_nothing(&room, "this is worker local; its entry at http://10.0.0.1:13000 decides").await;
}

#[tokio::test]
async fn an_entry_beside_another_shows_and_says_why_it_does_not_act() {
    let (room, desk) = room(None, Some("entry alpha reigns")).await;
    // Its queue is asked for, so somebody has to answer.
    let answers = tokio::spawn(async move {
        let mut desk = desk;
        while let Some(request) = desk.requests.recv().await {
            if let nbsupervisor::entry::Request::Queue(reply) = request {
                let _ = reply.send(Vec::new());
            }
        }
    });
    offers_nothing(&room, "entry alpha reigns").await;
    answers.abort();
}

#[tokio::test]
async fn who_tries_all_the_same_is_told_by_the_api() {
    let (room, _desk) = room(Some(Arc::new(Worker)), None).await;
    // No page here has a form, so its word cannot be known; without it the API is not even asked.
    let kind = "Content-Type: application/x-www-form-urlencoded";
    let answer = room.ask("POST", "/console/apps/crm/stop", &[kind], &form(&[("form", "x")])).await;
    assert_eq!(answer.status, 403, "{answer:?}");
}
