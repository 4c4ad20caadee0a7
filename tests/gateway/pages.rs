//! What pages ask for without naming their app.

use std::sync::Arc;

use nbs_core::intent::Intent;
use nbs_core::launch::Address;
use nbs_core::paths::{AppPath, Paths};
use nbs_core::phase::Status;
use nbs_core::spec::ProxyChoice;
use nbs_core::view::AppView;
use nbsupervisor::gateway::Options;
use tokio::io::AsyncWriteExt;

use crate::fleet::*;
use crate::house::*;
use crate::tunnel::echo;

fn paths() -> Paths {
    Paths {
        naming: vec![AppPath { path: "/files/".into(), rewrite: Some("/files/main/".into()) }],
        shared: vec!["/assets/".into()],
        page: vec!["/api/".into(), "/ws".into(), "/files/main/".into()],
    }
}

/// An app that says who it is, in a page.
async fn page_of(name: &'static str) -> Address {
    app(move |request| async move {
        if request.headers().contains_key("upgrade") {
            return echo(request).await;
        }
        let mut answer = mirror(request).await;
        answer.headers_mut().insert("x-served-by", name.parse().unwrap());
        answer.headers_mut().insert("content-type", "text/html; charset=utf-8".parse().unwrap());
        answer
    })
    .await
}

async fn app_of(name: &'static str, runtime: &str, version: &str) -> AppView {
    let mut view = running(name, page_of(name).await, false);
    Arc::make_mut(view.instances[0].report.as_mut().unwrap()).version = Some(version.into());
    Arc::make_mut(&mut view.spec).runtime = nbs_core::name::RuntimeName::parse(runtime).unwrap();
    view
}

fn asleep(mut view: AppView) -> AppView {
    (view.status, view.intent) = (Status::Stopped, Intent::OnDemand { awake: false });
    view.instances[0].status = Status::Stopped;
    view
}

fn by(answer: &str) -> &str {
    let by = answer.split("x-served-by: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    by.unwrap_or_else(|| answer.split(' ').nth(1).unwrap_or_default())
}

async fn village(apps: Vec<AppView>, others: Option<Paths>) -> House {
    let house = House::open(Options::default()).await;
    let mut local = with_recipe(at("local", "-".into(), true), "node", paths());
    if let Some(others) = others {
        local = with_recipe(local, "other", others);
    }
    house.show_in(apps, vec![local]);
    house
}

#[tokio::test]
async fn a_page_its_cookie_or_anybody_of_the_runtime_has_the_file() {
    let apps =
        vec![app_of("crm", "node", "1").await, app_of("erp", "node", "1").await, app_of("odd", "other", "1").await];
    let house = village(apps, None).await;
    for (headers, expected) in [
        ("Referer: http://h/apps/erp/x\r\n", "erp"),
        ("Referer: http://h/apps/erp/x\r\nCookie: nbs_app=crm\r\n", "erp"),
        ("Referer: http://h/assets/a.css\r\nCookie: a=b; nbs_app=erp\r\n", "erp"),
        ("Cookie: nbs_app=gone\r\n", "crm"),
        ("", "crm"),
        ("Referer: http://h/apps/odd/\r\n", "404"),
        ("X-App: odd\r\n", "odd"),
    ] {
        let answer = house.get("/assets/a.js?v=1", headers).await;
        assert_eq!(by(&answer), expected, "{headers}: {answer}");
        assert!(expected == "404" || answer.contains("GET /assets/a.js?v=1 HTTP/1.1\n"), "{answer}");
        assert!(!answer.contains("nbs_app") && !answer.to_lowercase().contains("vary"), "{answer}");
    }
    let head = house.ask("HEAD /assets/a.js HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    assert_eq!(by(&head), "crm");
    let post =
        house.ask("POST /assets/a.js HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
    assert!(post.starts_with("HTTP/1.1 404"), "{post}");
}

#[tokio::test]
async fn a_served_page_is_remembered_and_nothing_else() {
    let apps =
        vec![app_of("crm", "node", "1").await, app_of("erp", "node", "1").await, app_of("odd", "other", "1").await];
    let house = village(apps, None).await;
    let cookie = "set-cookie: nbs_app=erp; Path=/; HttpOnly; SameSite=Lax\r\n";
    let html = "Accept: text/html\r\n";
    assert!(house.get("/apps/erp/", html).await.contains(cookie));
    assert!(house.get("/x?__appName=erp", &format!("{html}Cookie: nbs_app=crm\r\n")).await.contains(cookie));
    for (target, headers) in [
        ("/apps/erp/", "Accept: text/html\r\nCookie: nbs_app=erp\r\n"),
        ("/apps/erp/", ""),
        ("/apps/odd/", html),
        ("/apps/gone/", html),
        ("/assets/page.html", "Accept: text/html\r\nReferer: http://h/apps/erp/\r\n"),
    ] {
        let answer = house.get(target, headers).await;
        assert!(!answer.contains("set-cookie"), "{target} {headers}: {answer}");
    }
}

#[tokio::test]
async fn files_wake_nobody_and_come_from_the_same_version_and_runtime() {
    let (erp, new) = (app_of("erp", "node", "2").await, app_of("new", "node", "2").await);
    let others = Paths { shared: vec!["/assets/".into()], ..Paths::default() };
    let odd = app_of("odd", "other", "2").await;
    let mut house =
        village(vec![app_of("crm", "node", "1").await, asleep(erp.clone()), odd.clone()], Some(others)).await;
    let page = "Referer: http://h/apps/erp/\r\n";
    let answer = house.get("/assets/a.js", page).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("APP_STOPPED"), "{answer}");
    // Two runtimes have such files: whoever keeps an answer must tell them apart, and without a page nobody can.
    assert!(answer.contains("vary: Referer, Cookie\r\n"), "{answer}");
    assert!(house.get("/assets/a.js", "").await.starts_with("HTTP/1.1 404"));
    assert_eq!(by(&house.get("/assets/a.js", "Referer: http://h/apps/odd/\r\n").await), "odd");
    let local = with_recipe(at("local", "-".into(), true), "node", paths());
    house.show_in(vec![asleep(erp), new, odd], vec![local]);
    assert_eq!(by(&house.get("/assets/a.js", page).await), "new");
    for target in ["/api/x", "/ws", "/files/main/x"] {
        let answer = house.get(target, page).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("APP_STOPPED"), "{answer}");
    }
    assert!(house.asked.try_recv().is_err());
    house.get("/apps/erp/", "Accept: text/html\r\n").await;
    assert!(house.asked.try_recv().is_ok(), "a visit of the app itself does");
}

#[tokio::test]
async fn calls_of_a_page_reach_its_app() {
    let house = village(vec![app_of("crm", "node", "1").await, app_of("erp", "node", "1").await], None).await;
    let post = |headers: &str| {
        format!(
            "POST /api/auth:signIn HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}Content-Length: 4\r\n\r\nbody"
        )
    };
    let answer = house.ask(&post("Referer: http://h/apps/erp/admin\r\nCookie: nbs_app=crm\r\n")).await;
    assert!(by(&answer) == "erp" && answer.contains("POST /api/auth:signIn HTTP/1.1\n"), "{answer}");
    // What changes something must not land in whichever app was looked at last.
    assert!(house.ask(&post("Cookie: nbs_app=erp\r\n")).await.starts_with("HTTP/1.1 404"));
    assert_eq!(by(&house.get("/api/x", "Cookie: nbs_app=erp\r\n").await), "erp");
    assert_eq!(by(&house.get("/files/main/a.png", "Referer: http://h/apps/erp/\r\n").await), "erp");
    assert!(house.get("/api/x", "").await.starts_with("HTTP/1.1 404"), "nobody knows whose call it is");
    // Browsers tell no page with a WebSocket.
    let mut stream = house.connect().await;
    let ask = b"GET /ws HTTP/1.1\r\nHost: h\r\nCookie: nbs_app=erp\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    assert!(read_until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 101"));
}

#[tokio::test]
async fn a_recipes_paths_hold_through_the_entry() {
    let fleet = Fleet::open().await;
    let worker = fleet.worker("env_a", 0).await;
    let mut own = app_of("crm", "node", "1").await;
    own.instances[0].environment = environment("env_a");
    worker.show_in(vec![own], vec![with_recipe(at("env_a", "-".into(), true), "node", paths())]);
    let entry = &fleet.entry;
    let seen = wide("crm", ProxyChoice::Required, &[("env_a", Status::Running)]);
    entry.show_in(vec![seen], vec![with_recipe(at("env_a", url(&worker), false), "node", paths())]);
    let file = entry.get("/files/%63rm/a?b", "X-App: erp\r\n").await;
    assert!(by(&file) == "crm" && file.contains("GET /files/main/a?b HTTP/1.1\n"), "{file}");
    let asset = entry.get("/assets/a.js", "").await;
    assert!(by(&asset) == "crm" && asset.contains("GET /assets/a.js HTTP/1.1\n"), "{asset}");
    let page = entry.get("/apps/crm/", "Accept: text/html\r\n").await;
    assert_eq!(page.matches("set-cookie: nbs_app=crm;").count(), 1, "{page}");
    let call = entry.get("/api/x", "Cookie: nbs_app=crm; a=b\r\n").await;
    assert!(by(&call) == "crm" && call.contains("\ncookie: a=b\n"), "{call}");
    // Without that environment's recipe nobody knows the paths.
    let seen = wide("crm", ProxyChoice::Required, &[("env_a", Status::Running)]);
    entry.show_in(vec![seen], vec![at("env_a", url(&worker), false)]);
    assert!(entry.get("/assets/a.js", "").await.starts_with("HTTP/1.1 404"));
}
