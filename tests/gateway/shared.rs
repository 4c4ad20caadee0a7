//! Apps that share one process: whoever visits one of them reaches no other.

use std::sync::{Arc, Mutex};

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use nbs_core::intent::Intent;
use nbs_core::launch::Address;
use nbs_core::order::Select;
use nbs_core::paths::{AppPath, Paths};
use nbs_core::phase::Status;
use nbs_core::spec::ProxyChoice;
use nbs_core::view::AppView;
use nbsupervisor::gateway::Options;
use tokio::io::AsyncWriteExt;

use crate::fleet::*;
use crate::house::*;
use crate::tunnel::echo;

/// What a process of several apps saw: for each request the app that it took it for.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// A process of several apps, as credulous as any: later selectors win over earlier ones, `_` is `-`, everything is decoded.
fn taken(request: &Request<Incoming>) -> String {
    let decode = |text: &str| {
        let text = text.replace("%25", "%").replace("%5f", "_").replace("%5F", "_").replace("%4e", "N");
        text.replace("%2f", "/").replace("%2F", "/").replace("%65", "e").replace("%5b", "[").to_lowercase()
    };
    let mut app = String::new();
    for (name, value) in request.headers() {
        if name.as_str().replace('_', "-") == "x-app" {
            app = value.to_str().unwrap().to_string();
        }
    }
    for pair in request.uri().query().unwrap_or_default().split('&') {
        if let Some((name, value)) = pair.split_once('=')
            && decode(name).starts_with("__appname")
        {
            app = value.to_string();
        }
    }
    let path = decode(request.uri().path()).replace("/./", "/").replace("//", "/");
    for selector in ["/api/__app/", "/files/"] {
        if let Some((_, rest)) = path.split_once(selector) {
            app = rest.split('/').next().unwrap_or_default().to_string();
        }
    }
    app
}

async fn process() -> (Address, Seen) {
    let seen = Seen::default();
    let told = seen.clone();
    let address = app(move |request| {
        let told = told.clone();
        async move {
            told.0.lock().unwrap().push(taken(&request));
            if request.headers().contains_key("upgrade") { echo(request).await } else { mirror(request).await }
        }
    });
    (address.await, seen)
}

/// An app of a process, in an environment.
fn in_process(name: &str, address: Address, strip: bool, header: &str, at: &str) -> AppView {
    let mut view = running(name, address, strip);
    let instance = &mut view.instances[0];
    instance.environment = environment(at);
    Arc::make_mut(instance.report.as_mut().unwrap()).select = Select::by_header(header);
    view
}

fn paths() -> Paths {
    let own = AppPath { path: "/files/".into(), rewrite: Some("/files/main/".into()) };
    Paths { naming: vec![own], shared: vec!["/assets/".into()], page: vec!["/api/".into()] }
}

/// Targets and headers by which somebody who may visit `crm` would like to reach `erp`.
const TRICKS: &[(&str, &str)] = &[
    ("/apps/crm/x", "X-App: erp\r\n"),
    ("/apps/crm/x", "X-App: erp\r\nx-app: erp\r\nX-APP: erp\r\n"),
    ("/apps/crm/x", "X_App: erp\r\nX_APP: erp\r\n"),
    ("/apps/crm/x", "X-App: erp\r\nConnection: close, x-app\r\n"),
    ("/x", "X-App: crm\r\nX-App: erp\r\n"),
    ("/apps/crm/x?__appName=erp", ""),
    ("/apps/crm/x?__appname=erp&__AppName=erp", ""),
    ("/apps/crm/x?a&__app%4eame=erp&%5f%5FappName=erp", ""),
    ("/apps/crm/x?__appName[]=erp&__appName%5b0]=erp", ""),
    ("/x?__appName=crm&__appName=erp", "X-App: erp\r\n"),
    ("/api/__app/crm/x?__appName=erp", "X-App: erp\r\n"),
    ("/api/__app/crm/__app/erp/x", ""),
    ("/api/__app/crm/%5f%5fapp/erp/x", ""),
    ("/apps/crm/api/__app/erp/x", ""),
    ("/apps/crm/../api/__app/erp/x", ""),
    ("/api/./__app/erp/x", "X-App: crm\r\n"),
    ("/api//__app/erp/x", "X-App: crm\r\n"),
    ("/API/__APP/erp/x", "X-App: crm\r\n"),
    ("/api/%5f%5fapp/erp/x", "X-App: crm\r\n"),
    ("/api/%255f%255fapp/erp/x", "X-App: crm\r\n"),
    ("/api%2f__app%2ferp", "X-App: crm\r\n"),
    ("/files%2ferp/x", "X-App: crm\r\n"),
    ("/Files/erp/x", "X-App: crm\r\n"),
    ("/files/main/x", "X-App: crm\r\n"),
    ("//files/erp/x", "X-App: crm\r\n"),
    ("/assets/../files/erp/x", "Referer: http://h/apps/crm/\r\n"),
    ("/assets/x?__app%4eame=erp", "Referer: http://h/apps/crm/\r\n"),
    ("/api/x", "Referer: http://h/apps/crm/?__appName=erp\r\nX_App: erp\r\n"),
];

async fn try_all(house: &House, seen: &Seen, what: &str) {
    for (target, headers) in TRICKS {
        for upgrade in ["", "Connection: Upgrade\r\nUpgrade: chat\r\n"] {
            let mut stream = house.connect().await;
            let ask = format!("GET {target} HTTP/1.1\r\nHost: h\r\n{headers}{upgrade}\r\n");
            stream.write_all(ask.as_bytes()).await.unwrap();
            let head = read_until(&mut stream, "\r\n\r\n").await;
            let took = seen.take();
            assert!(took.iter().all(|app| app == "crm"), "{what}: {target} {headers}{upgrade}: {took:?}");
            match took.len() {
                0 => assert!(head.starts_with("HTTP/1.1 404"), "{what}: {target} {headers}{upgrade}: {head}"),
                _ => assert!(head.starts_with("HTTP/1.1 200") || head.starts_with("HTTP/1.1 101"), "{what}: {head}"),
            }
        }
    }
}

#[tokio::test]
async fn no_trick_reaches_another_app_of_the_process() {
    let (address, seen) = process().await;
    for strip in [true, false] {
        let house = House::open(Options::default()).await;
        let apps = ["crm", "erp"].map(|name| in_process(name, address.clone(), strip, "X-App", "local"));
        house.show_in(apps.to_vec(), vec![with_recipe(at("local", "-".into(), true), "node", paths())]);
        try_all(&house, &seen, &format!("strip {strip}")).await;
        let fleet = Fleet::open().await;
        let worker = fleet.worker("env_a", 0).await;
        let apps = ["crm", "erp"].map(|name| in_process(name, address.clone(), strip, "X-App", "env_a"));
        worker.show_in(apps.to_vec(), vec![with_recipe(at("env_a", "-".into(), true), "node", paths())]);
        let apps = ["crm", "erp"].map(|name| wide(name, ProxyChoice::Required, &[("env_a", Status::Running)]));
        fleet.entry.show_in(apps.to_vec(), vec![with_recipe(at("env_a", url(&worker), false), "node", paths())]);
        try_all(&fleet.entry, &seen, &format!("through the entry, strip {strip}")).await;
        try_all(&worker, &seen, &format!("at the worker, strip {strip}")).await;
    }
}

#[tokio::test]
async fn the_process_is_told_the_app_in_the_header_that_it_wants_and_in_no_other() {
    let house = House::open(Options::default()).await;
    let address = app(mirror).await;
    house.show_in(
        vec![in_process("crm", address.clone(), true, "X-Tenant", "local"), running("erp", address, true)],
        vec![with_recipe(at("local", "-".into(), true), "node", paths())],
    );
    let lies = "X-Tenant: erp\r\nx_tenant: erp\r\nX-Tenant: erp\r\nX-App: erp\r\nX_App: erp\r\nX-Tenants: kept\r\n";
    for (target, gets) in [
        ("/apps/crm/x?a", "/x?a"),
        ("/api/__app/crm/x", "/api/x"),
        ("/files/crm/x", "/files/crm/x"),
        ("/ws?__appName=crm&b", "/ws?b"),
    ] {
        let answer = house.get(target, lies).await;
        assert!(answer.contains(&format!("GET {gets} HTTP/1.1\n")), "{target}: {answer}");
        assert!(answer.contains("\nx-tenant: crm\n") && answer.contains("\nx-tenants: kept\n"), "{answer}");
        assert!(!answer.contains("erp") && !answer.contains("x-app") && !answer.contains("x_app"), "{answer}");
    }
    // An app alone is told nothing, and what it calls its own stays with it.
    let alone = house.get("/files/erp/x", "X-Tenant: mine\r\nX-App: crm\r\n").await;
    assert!(alone.contains("GET /files/main/x HTTP/1.1\n") && alone.contains("x-tenant: mine\n"), "{alone}");
    assert!(!alone.contains("x-app"), "{alone}");
}

#[tokio::test]
async fn a_process_that_dies_is_told_the_app_again_in_its_next_life() {
    let house = House::open(Options::default()).await;
    let first = raw_app(|_, stream| async move { drop(stream) }).await;
    let show = |address| {
        let view = in_process("crm", address, true, "X-App", "local");
        house.show_in(vec![view], vec![with_recipe(at("local", "-".into(), true), "node", paths())]);
    };
    show(first);
    let mut client = house.connect().await;
    client.write_all(b"GET /apps/crm/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-App: erp\r\n\r\n").await.unwrap();
    house.until("it waits for the next life", |traffic| traffic.held == 1).await;
    show(app(mirror).await);
    let answer = read_all(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.matches("x-app: crm\n").count() == 1, "{answer}");
    assert!(!answer.contains("erp"), "{answer}");
}

/// A process that answers 404 for an app that it has not started, as NocoBase does.
async fn with_started(started: &'static str) -> (Address, Seen) {
    let seen = Seen::default();
    let told = seen.clone();
    let address = app(move |request| {
        let app = taken(&request);
        told.0.lock().unwrap().push(app.clone());
        async move {
            let mut answer = mirror(request).await;
            if app != started {
                *answer.status_mut() = StatusCode::NOT_FOUND;
            }
            answer
        }
    });
    (address.await, seen)
}

#[tokio::test]
async fn nobody_gets_through_before_the_app_is_ready() {
    let (address, seen) = with_started("").await;
    let house = House::open(Options::default()).await;
    let environments = || vec![with_recipe(at("local", "-".into(), true), "node", paths())];
    // The process runs, and the address is known long before the app in it is ready.
    let not_yet = |status| {
        let mut view = in_process("crm", address.clone(), true, "X-App", "local");
        (view.status, view.instances[0].status) = (status, status);
        view
    };
    let ask = "GET /apps/crm/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let socket = "GET /ws?__appName=crm HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n";
    let mut clients = Vec::new();
    for status in [Status::Queued, Status::Preparing, Status::Initializing, Status::Initialized, Status::Commanding] {
        house.show_in(vec![not_yet(status)], environments());
        for ask in [ask, socket] {
            let mut client = house.connect().await;
            client.write_all(ask.as_bytes()).await.unwrap();
            clients.push(client);
        }
        let held = clients.len() as u64;
        house.until("held", |traffic| traffic.held == held).await;
        let page = house.get("/apps/crm/x", "Accept: text/html\r\n").await;
        assert!(page.starts_with("HTTP/1.1 503") && page.contains("crm is starting"), "{page}");
        let file = house.get("/assets/a.js", "Referer: http://h/apps/crm/\r\nUser-Agent: pingdom\r\n").await;
        assert!(file.starts_with("HTTP/1.1 503"), "{file}");
    }
    assert_eq!(seen.take(), [""; 0], "the process has not heard of it");
    let (ready, seen) = with_started("crm").await;
    house.show_in(vec![in_process("crm", ready, true, "X-App", "local")], environments());
    for mut client in clients {
        assert!(read_until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 200"));
    }
    assert!(seen.take().iter().all(|app| app == "crm"));
}

#[tokio::test]
async fn a_stopped_app_is_woken_by_no_visit() {
    let (address, seen) = process().await;
    let mut house = House::open(Options::default()).await;
    let mut stopped = in_process("crm", address.clone(), true, "X-App", "local");
    (stopped.status, stopped.intent) = (Status::Stopped, Intent::Stop);
    stopped.instances[0].status = Status::Stopped;
    let other = in_process("erp", address, true, "X-App", "local");
    house.show_in(vec![stopped, other], vec![with_recipe(at("local", "-".into(), true), "node", paths())]);
    for visit in 0..100 {
        let target = ["/apps/crm/", "/api/__app/crm/x", "/ws?__appName=crm", "/files/crm/x", "/x"][visit % 5];
        let accept = ["Accept: text/html\r\n", "", "Connection: Upgrade\r\nUpgrade: chat\r\n"][visit % 3];
        let answer = house.get(target, &format!("X-App: crm\r\n{accept}")).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("APP_STOPPED"), "{answer}");
        // Its pages' files are the other one's, too, and what only it can answer is not asked of the process.
        let page = "Referer: http://h/apps/crm/\r\n";
        assert!(house.get("/assets/a.js", page).await.contains("\nx-app: erp\n"));
        assert!(house.get("/api/x", page).await.starts_with("HTTP/1.1 503"));
    }
    assert!(seen.take().iter().all(|app| app == "erp") && house.asked.try_recv().is_err());
}

#[tokio::test]
async fn a_stopped_apps_sockets_end_with_it_though_the_process_lives() {
    let (address, _) = process().await;
    let house = House::open(Options::default()).await;
    let show = |status| {
        let mut crm = in_process("crm", address.clone(), true, "X-App", "local");
        (crm.status, crm.instances[0].status) = (status, status);
        house.show_in(vec![crm, in_process("erp", address.clone(), true, "X-App", "local")], Vec::new());
    };
    show(Status::Running);
    let mut sockets = Vec::new();
    for app in ["crm", "erp"] {
        let mut socket = house.connect().await;
        let ask =
            format!("GET /ws HTTP/1.1\r\nHost: h\r\nX-App: {app}\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n");
        socket.write_all(ask.as_bytes()).await.unwrap();
        assert!(read_until(&mut socket, "\r\n\r\n").await.starts_with("HTTP/1.1 101"));
        sockets.push(socket);
    }
    house.until("both", |traffic| traffic.tunnels == 2).await;
    show(Status::Commanding);
    show(Status::Stopping);
    assert_eq!(read_all(&mut sockets[0]).await, "");
    house.until("the other one", |traffic| traffic.tunnels == 1).await;
    sockets[1].write_all(b"still here").await.unwrap();
    read_until(&mut sockets[1], "still here").await;
}
