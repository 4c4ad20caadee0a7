//! What the pages show and do.

use crate::browser::{Browser, location};
use crate::room::open;

#[tokio::test]
async fn an_app_is_made_started_stopped_and_removed_without_a_script() {
    let room = open().await;
    let ann = Browser::signed_in(&room, "ann").await;
    assert!(ann.page("/").await.contains("There is no application yet"));
    let form = ann.page("/console/apps/new").await;
    assert!(form.contains("<option value=\"node\"") && form.contains("value=\"local\" checked"), "{form}");
    let fields = [
        ("name", "crm"),
        ("title", "Our CRM"),
        ("runtime", "node"),
        ("start_mode", "manual"),
        ("environments", "local"),
        ("env", "TZ=UTC\r\nGREETING=a=b"),
        ("secrets", "PASSWORD=hunter2"),
    ];
    let made = ann.post("/console/apps", &fields).await;
    assert_eq!((made.status, location(&made)), (303, "/console/apps/crm"), "{made:?}");
    let spec = room.get("/api/v1/apps/crm").await.json()["spec"].clone();
    assert_eq!((&spec["title"], &spec["env"]["GREETING"]), (&"Our CRM".into(), &"a=b".into()), "{spec}");
    assert_eq!(spec["secrets"]["PASSWORD"], serde_json::Value::Null);

    let page = ann.page("/console/apps/crm").await;
    for part in ["Our CRM", "GREETING", "PASSWORD", "three", "Why it is so", "create"] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    assert!(!page.contains("hunter2"), "{page}");
    let started = ann.post("/console/apps/crm/start", &[("back", "/console/apps/crm")]).await;
    assert_eq!((started.status, location(&started)), (303, "/console/apps/crm"));
    let list = ann.page("/").await;
    assert!(list.contains("<span class=\"badge good\">running</span>") && list.contains("1.0 MiB"), "{list}");
    assert!(list.contains("href=\"http://127.0.0.1:13000/apps/crm/\""), "{list}");
    assert_eq!(ann.post("/console/apps/crm/stop", &[("back", "https://evil.example")]).await.status, 303);
    assert_eq!(room.get("/api/v1/apps/crm").await.json()["intent"], "stop");

    let asked = ann.page("/console/apps/crm/remove").await;
    assert!(asked.contains("Remove crm?") && asked.contains("purge_data"), "{asked}");
    assert_eq!(location(&ann.post("/console/apps/crm/remove", &[]).await), "/");
    assert_eq!(room.get("/api/v1/apps/crm").await.status, 404);
    assert_eq!(ann.get("/console/apps/crm").await.status, 404);
}

#[tokio::test]
async fn what_is_wrong_stands_beside_its_field_and_what_was_typed_stays() {
    let room = open().await;
    let ann = Browser::signed_in(&room, "ann").await;
    let fields = [
        ("name", "No Name"),
        ("title", "kept <b>title</b>"),
        ("runtime", "node"),
        ("start_mode", "with-supervisor"),
        ("environments", "local"),
        ("env", "NBS_X=1\nFINE=2"),
        ("secrets", "KEY=hunter2"),
    ];
    let answer = ann.post("/console/apps", &fields).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    let page = answer.text;
    for part in [
        "Nothing was created.",
        "href=\"#name\"",
        "id=\"name-wrong\"",
        "aria-describedby=\"name-wrong name-hint\"",
        "value=\"No Name\"",
        "value=\"kept &lt;b&gt;title&lt;/b&gt;\"",
        "id=\"env-wrong\"",
        "NBS_X=1\nFINE=2",
        "value=\"with-supervisor\" checked",
        "Please type them again",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    assert!(!page.contains("hunter2"), "secrets are not sent back: {page}");

    let lines = ann.post("/console/apps", &[("name", "x"), ("runtime", "node"), ("env", "A=1\nno sign")]).await;
    assert!(lines.status == 400 && lines.text.contains("line 2 has no ="), "{lines:?}");
    let busy = ann.post("/console/apps", &[("name", "busy"), ("runtime", "node")]).await;
    assert!(busy.status == 503 && busy.text.contains("operations are waiting"), "{busy:?}");
    room.create("crm").await;
    let taken = ann.post("/console/apps", &[("name", "crm"), ("runtime", "node")]).await;
    assert!(taken.status == 409 && taken.text.contains("app crm exists already"), "{taken:?}");
}

#[tokio::test]
async fn a_form_that_is_sent_twice_makes_one_app() {
    let room = open().await;
    let ann = Browser::signed_in(&room, "ann").await;
    let fields = [("name", "crm"), ("runtime", "node"), ("key", "k1")];
    assert_eq!(ann.post("/console/apps", &fields).await.status, 303);
    let page = ann.page("/console/apps/new").await;
    assert!(page.contains("name=\"key\" value=\""), "{page}");
}

#[tokio::test]
async fn the_list_is_searched_and_comes_in_pages() {
    let room = open().await;
    for number in 0..101 {
        room.create(&format!("app-{number:03}")).await;
    }
    let ann = Browser::signed_in(&room, "ann").await;
    let first = ann.page("/").await;
    assert!(first.contains("101 applications") && first.contains("app-099") && !first.contains("app-100"));
    assert!(first.contains("href=\"/?cursor=app-099\""), "{first}");
    assert!(ann.page("/?cursor=app-099").await.contains("app-100"));
    let found = ann.page("/?q=app-05&status=stopped").await;
    assert!(found.contains("app-050") && !found.contains("app-060") && found.contains("value=\"app-05\""), "{found}");
    assert!(ann.page("/?q=nothing%26limit%3D1").await.contains("No application fits"));
    assert_eq!(ann.get("/?status=fine").await.status, 400);
}

#[tokio::test]
async fn environments_are_shown_drained_and_forgotten() {
    let room = open().await;
    let ann = Browser::signed_in(&room, "ann").await;
    let page = ann.page("/console/environments").await;
    for part in ["local", "available", "0.1.0", "heard", "Drain", "of 2 CPUs"] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    assert_eq!(location(&ann.post("/console/environments/local/drain", &[]).await), "/console/environments");
    let page = ann.page("/console/environments").await;
    assert!(page.contains("draining") && page.contains("Undrain"), "{page}");
    assert_eq!(ann.post("/console/environments/local/undrain", &[]).await.status, 303);
    let asked = ann.page("/console/environments/local/forget").await;
    assert!(asked.contains("Forget local?") && asked.contains("gone for good"), "{asked}");
    assert_eq!(ann.post("/console/environments/local/forget", &[]).await.status, 303);
    assert!(ann.page("/console/environments").await.contains("No environment has joined yet"));
    assert_eq!(ann.post("/console/environments/mars/drain", &[]).await.status, 404);
    assert_eq!(ann.post("/console/environments/local/explode", &[]).await.status, 404);
}

#[tokio::test]
async fn failures_are_told_with_reason_and_remedy() {
    let room = open().await;
    room.create("broken").await;
    let ann = Browser::signed_in(&room, "ann").await;
    assert_eq!(ann.post("/console/apps/broken/start", &[]).await.status, 303);
    let list = ann.page("/").await;
    assert!(list.contains("badge bad\">error") && list.contains("exited with status 3"), "{list}");
    let queue = ann.page("/console/queue").await;
    assert!(queue.contains("No start waits") && queue.contains("failed") && queue.contains("broken"), "{queue}");
    let gone = ann.post("/console/apps/nobody/start", &[]).await;
    assert!(gone.status == 404 && gone.text.contains("there is no app nobody"), "{gone:?}");
    assert_eq!(ann.post("/console/apps/broken/upgrade", &[]).await.status, 404);
}
