//! Requests that pass two gateways.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::{Bytes, Frame};
use nbs_core::intent::Intent;
use nbs_core::launch::Address;
use nbs_core::phase::Status;
use nbs_core::spec::ProxyChoice;
use nbs_core::view::AppView;
use nbsupervisor::entry::Request as Asked;
use nbsupervisor::gateway::Options;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::fleet::*;
use crate::house::*;
use crate::tunnel::echo;

const ONE: &[(&str, Status)] = &[("env_a", Status::Running)];
const BOTH: &[(&str, Status)] = &[("env_a", Status::Running), ("env_b", Status::Running)];

/// An entry whose only environment is `env_a`, with the app in some status.
fn show_one(fleet: &Fleet, worker: &House, status: Status) {
    let app = wide("crm", ProxyChoice::Required, &[("env_a", status)]);
    fleet.entry.show_in(vec![app], vec![at("env_a", url(worker), false)]);
}

fn now_ms() -> u64 {
    clock().now().wall.0
}

#[tokio::test]
async fn target_and_host_travel_unchanged_and_the_chain_is_told() {
    let fleet = Fleet::open().await;
    // Not a gateway: what the entry sends is seen as it is.
    let raw = app(mirror).await;
    let Address::Port(port) = raw else { panic!() };
    fleet.entry.show_in(
        vec![wide("crm", ProxyChoice::Required, ONE)],
        vec![at("env_a", format!("http://127.0.0.1:{port}"), false)],
    );
    for target in [
        "/apps/crm//a/../%2e?x=%zz&&__environment=env_a&__appName=erp",
        "/api/__app/crm/users:list?p=1",
        "/ws?__appName=crm",
        "/apps/crm/?",
    ] {
        let answer = fleet.entry.get(target, "X-App: hr\r\nX-Nbs-Hop: mine\r\nX-Nbs-From: me\r\n").await;
        assert!(answer.contains(&format!("\r\n\r\nGET {target} HTTP/1.1\n")), "{target}: {answer}");
        assert!(answer.contains("\nhost: h\n") && answer.contains("\nx-nbs-hop: v1 crm "), "{answer}");
        assert!(!answer.contains("x-nbs-hop: mine") && !answer.contains("x-app:") && !answer.contains("from: me"));
        assert!(!answer.contains("x-forwarded-prefix"), "{answer}");
    }
    let absolute = fleet.entry.get("http://other.example:81/apps/crm/x?", "").await;
    assert!(absolute.contains("GET /apps/crm/x? HTTP/1.1\n"), "{absolute}");
    assert!(absolute.contains("\nhost: other.example:81\n"), "{absolute}");

    let worker = fleet.worker_with_app("env_a", 0).await;
    show_one(&fleet, &worker, Status::Running);
    let lies = "X-Forwarded-For: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\nX-Request-Id: planted\r\nX-App: hr\r\n";
    let answer = fleet.entry.get("/apps/crm//a/../%2e?x=%zz&__appName=erp", lies).await;
    for there in [
        "GET //a/../%2e?x=%zz HTTP/1.1\n",
        "x-forwarded-for: 127.0.0.1, 127.0.0.1\n",
        "forwarded: for=127.0.0.1;host=\"h\";proto=http, for=127.0.0.1;host=\"h\";proto=http\n",
        "x-forwarded-host: h\n",
        "x-forwarded-prefix: /apps/crm\n",
        "\nhost: h\n",
    ] {
        assert!(answer.contains(there), "{there}: {answer}");
    }
    for gone in ["x-nbs-", "x-app:", "1.1.1.1", "planted"] {
        assert!(!answer.contains(gone), "{gone}: {answer}");
    }
    let named = fleet.entry.get("/api/__app/crm/users:list?p=1", "").await;
    assert!(named.contains("GET /api/users:list?p=1 HTTP/1.1\n"), "{named}");
}

#[tokio::test]
async fn only_the_entrys_own_header_is_believed() {
    let fleet = Fleet::open().await;
    let worker = fleet.worker_with_app("env_a", 0).await;
    let (app, now) = (name("crm"), now_ms());
    let (ours, theirs) = (fleet.keys("env_a"), fleet.keys("env_b"));
    let good = ours.hop_header(&app, now, "GET", "/any?x");
    let told = |header: &str| format!("X-Nbs-Hop: {header}\r\nX-Forwarded-For: 9.9.9.9\r\n");
    let answer = worker.get("/any?x", &told(&good)).await;
    assert!(answer.contains("GET /any?x HTTP/1.1") && answer.contains("for: 9.9.9.9, 127.0.0.1\n"), "{answer}");
    assert!(!answer.contains("x-nbs-hop"), "{answer}");
    for (why, target, header) in [
        ("for another target", "/any?y", good.clone()),
        ("for another environment", "/any?x", theirs.hop_header(&app, now, "GET", "/any?x")),
        ("too old", "/any?x", ours.hop_header(&app, now - 61_000, "GET", "/any?x")),
        ("too new", "/any?x", ours.hop_header(&app, now + 61_000, "GET", "/any?x")),
        ("for another method", "/any?x", ours.hop_header(&app, now, "POST", "/any?x")),
        ("nonsense", "/apps/crm/", "v1 crm".into()),
        ("nothing", "/apps/crm/", String::new()),
    ] {
        let refused = worker.get(target, &told(&header)).await;
        assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("\"HOP_REFUSED\""), "{why}: {refused}");
    }
    let old = worker.get("/any?x", &told(&ours.hop_header(&app, now - 61_000, "GET", "/any?x"))).await;
    assert!(old.contains("both hosts have the right time"), "{old}");
    // Without a header it routes by itself, and believes nobody.
    let direct = worker.get("/apps/crm/x", "X-Forwarded-For: 9.9.9.9\r\n").await;
    assert!(direct.contains("GET /x HTTP/1.1") && !direct.contains("9.9.9.9"), "{direct}");
    // A gateway without a key takes the header off and routes by itself.
    let alone = House::open(Options::default()).await;
    alone.show(vec![there("env_a", crate::house::app(mirror).await)]);
    let answer = alone.get("/apps/crm/x", &told("anything")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("x-nbs-hop"), "{answer}");
    assert!(!answer.contains("9.9.9.9"), "{answer}");
}

#[tokio::test]
async fn a_websocket_and_streams_pass_both_gateways() {
    let fleet = Fleet::open().await;
    let worker = fleet.worker("env_a", 0).await;
    worker.show(vec![there("env_a", app(echo).await)]);
    show_one(&fleet, &worker, Status::Running);
    let mut client = fleet.entry.connect().await;
    let ask = b"GET /ws?__appName=crm HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n";
    client.write_all(ask).await.unwrap();
    assert!(read_until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 101"));
    let sent = vec![b'x'; 300_000];
    let mut got = vec![0; sent.len()];
    let (mut reader, mut writer) = client.split();
    let (written, read) = tokio::join!(writer.write_all(&sent), reader.read_exact(&mut got));
    written.unwrap();
    read.unwrap();
    assert!(sent == got && fleet.entry.gateway.traffic().tunnels == 1 && worker.gateway.traffic().tunnels == 1);
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await, "goodbye");

    // Each piece of a body reaches the app before the next is sent, and comes back before the next is sent.
    worker.show(vec![there(
        "env_a",
        app(|request| async {
            let (sender, pieces) = mpsc::channel(1);
            let mut body = request.into_body();
            tokio::spawn(async move {
                while let Some(Ok(frame)) = body.frame().await {
                    let Ok(data) = frame.into_data() else { break };
                    let _ = sender.send(Frame::data(Bytes::from(data.to_ascii_uppercase()))).await;
                }
            });
            Response::new(Pieces(pieces).boxed())
        })
        .await,
    )]);
    let mut client = fleet.entry.connect().await;
    let head = b"POST /apps/crm/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.write_all(head).await.unwrap();
    for (piece, back) in [("one", "ONE"), ("two", "TWO"), ("three", "THREE")] {
        client.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()).await.unwrap();
        read_until(&mut client, back).await;
    }
    client.write_all(b"0\r\n\r\n").await.unwrap();
    assert!(read_all(&mut client).await.ends_with("0\r\n\r\n"));
}

#[tokio::test]
async fn an_environment_that_dies_is_left_out_at_once_and_returns() {
    let fleet = Fleet::open().await;
    let a = fleet.worker_with_app("env_a", 0).await;
    let b = fleet.worker_with_app("env_b", 0).await;
    let (port, gone) = (a.port, url(&a));
    let environments = || vec![at("env_a", gone.clone(), false), at("env_b", url(&b), false)];
    fleet.entry.show_in(vec![wide("crm", ProxyChoice::Spread, BOTH)], environments());
    let served_by = async |headers: &'static str| {
        let answer = fleet.entry.get("/apps/crm/", headers).await;
        answer.split("x-served-by: ").nth(1).map_or(answer.clone(), |rest| rest[..5].to_string())
    };
    let (first, second) = (served_by("").await, served_by("").await);
    assert_ne!(first, second);
    a.shutdown.cancel();
    a.task.await.unwrap();
    for _ in 0..6 {
        assert_eq!(served_by("").await, "env_b", "nobody notices");
    }
    // A body that was not sent goes to the other one, too.
    let post = "POST /apps/crm/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody";
    for _ in 0..3 {
        let answer = fleet.entry.ask(post).await;
        assert!(answer.contains("x-served-by: env_b") && answer.ends_with("\n\nbody"), "{answer}");
    }
    let named = fleet.entry.get("/apps/crm/", "X-App-Environment: env_a\r\n").await;
    assert!(named.starts_with("HTTP/1.1 503") && named.contains("\"APP_ENVIRONMENT_UNAVAILABLE\""), "{named}");
    assert!(named.contains("retry-after: "), "{named}");
    let _a = fleet.worker_with_app("env_a", port).await;
    let back = async {
        while served_by("X-App-Environment: env_a\r\n").await != "env_a" {
            crate::pause::pause(Duration::from_millis(50), "it rests").await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("it returns");
    let mut seen = vec![served_by("").await, served_by("").await];
    seen.sort();
    assert_eq!(seen, ["env_a", "env_b"]);
}

#[tokio::test]
async fn what_may_run_is_judged_by_the_environments_own_gateway() {
    let mut fleet = Fleet::open().await;
    let mut worker = fleet.worker_with_app("env_a", 0).await;
    show_one(&fleet, &worker, Status::Unknown);
    let answer = fleet.entry.get("/apps/crm/", "").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("x-served-by: env_a"), "{answer}");
    // It tells its own status and wakes nothing; nor does it show a page, which would wait at the wrong place.
    worker.show(vec![{
        let mut view = resting("crm", Status::Stopped, Intent::OnDemand { awake: false });
        view.instances[0].environment = environment("env_a");
        view
    }]);
    for headers in ["", "Accept: text/html\r\n"] {
        let answer = fleet.entry.get("/apps/crm/", headers).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("APP_STOPPED"), "{answer}");
        assert!(!answer.to_lowercase().contains("x-app-waiting"), "{answer}");
    }
    assert!(worker.asked.try_recv().is_err() && fleet.entry.asked.try_recv().is_err());
    // A silent environment without a URL.
    let mut nowhere = at("env_a", String::new(), false);
    let mut registration = (*nowhere.registration).clone();
    (registration.url, registration.proxy_url) = (None, None);
    nowhere.registration = registration.into();
    fleet.entry.show_in(vec![wide("crm", ProxyChoice::Required, &[("env_a", Status::Unknown)])], vec![nowhere]);
    assert!(fleet.entry.get("/apps/crm/", "").await.contains("APP_ENVIRONMENT_UNAVAILABLE"));
}

#[tokio::test]
async fn the_entry_wakes_and_holds_until_it_runs_there() {
    let mut fleet = Fleet::open().await;
    let worker = fleet.worker_with_app("env_a", 0).await;
    let mut asleep = wide("crm", ProxyChoice::Required, &[("env_a", Status::Stopped)]);
    asleep.intent = Intent::OnDemand { awake: false };
    fleet.entry.show_in(vec![asleep], vec![at("env_a", url(&worker), false)]);
    let mut client = fleet.entry.connect().await;
    client.write_all(b"GET /apps/crm/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
    fleet.entry.until("held", |traffic| traffic.held == 1).await;
    assert!(matches!(fleet.entry.asked.try_recv(), Ok(Asked::Wake(app)) if app == name("crm")));
    show_one(&fleet, &worker, Status::Running);
    assert!(read_all(&mut client).await.contains("x-served-by: env_a"));
}

#[tokio::test]
async fn where_nobody_can_wake_an_app_its_visitors_are_told_at_once() {
    let fleet = Fleet::open().await;
    let mut worker = fleet.worker("env_a", 0).await;
    worker.read_only = true;
    let mut asleep = resting("crm", Status::Stopped, Intent::OnDemand { awake: false });
    asleep.instances[0].environment = environment("env_a");
    worker.show(vec![asleep]);
    for headers in ["", "Accept: text/html\r\n"] {
        let answer = worker.get("/apps/crm/", headers).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("APP_STOPPED"), "{answer}");
        assert!(!answer.to_lowercase().contains("x-app-waiting"), "{answer}");
    }
    assert!(worker.asked.try_recv().is_err());
}

#[tokio::test]
async fn a_crash_at_the_worker_is_waited_for_there() {
    let fleet = Fleet::open().await;
    let worker = fleet.worker("env_a", 0).await;
    let starting = |status| {
        let mut view = resting("crm", status, Intent::Run);
        view.instances[0].environment = environment("env_a");
        view
    };
    worker.show(vec![starting(Status::Initializing)]);
    show_one(&fleet, &worker, Status::Running);
    let mut client = fleet.entry.connect().await;
    client.write_all(b"GET /apps/crm/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
    worker.until("held there", |traffic| traffic.held == 1).await;
    worker.show(vec![there("env_a", app(mirror).await)]);
    assert!(read_all(&mut client).await.starts_with("HTTP/1.1 200"));
    worker.show(vec![starting(Status::Initializing)]);
    let late = fleet.entry.get("/apps/crm/", "").await;
    assert!(late.starts_with("HTTP/1.1 503") && late.contains("APP_INITIALIZING"), "{late}");
}

#[tokio::test]
async fn an_environment_whose_url_is_the_entrys_own_does_not_go_round() {
    let fleet = Fleet::open().await;
    fleet.entry.show_in(vec![wide("crm", ProxyChoice::Required, ONE)], vec![at("env_a", url(&fleet.entry), false)]);
    let answer = fleet.entry.get("/apps/crm/", "").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("leads back to the entry"), "{answer}");
    assert_eq!(fleet.entry.gateway.traffic().requests, 2);
}

#[tokio::test]
async fn what_was_written_to_a_gateway_that_breaks_off_is_repeated_only_if_that_is_safe() {
    let fleet = Fleet::open().await;
    let b = fleet.worker_with_app("env_b", 0).await;
    let breaks_off = raw_app(|_, mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
    });
    let Address::Port(port) = breaks_off.await else { panic!() };
    let environments = vec![at("env_a", format!("http://127.0.0.1:{port}"), false), at("env_b", url(&b), false)];
    fleet.entry.show_in(vec![wide("crm", ProxyChoice::Spread, BOTH)], environments);
    let post = |headers: &str| {
        format!("POST /apps/crm/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 4\r\n{headers}\r\nbody")
    };
    for _ in 0..6 {
        let answer = fleet.entry.get("/apps/crm/", "").await;
        assert!(answer.contains("x-served-by: env_b"), "{answer}");
    }
    let named = async {
        loop {
            let answer = fleet.entry.ask(&post("X-App-Environment: env_a\r\n")).await;
            if !answer.starts_with("HTTP/1.1 503") {
                break answer;
            }
            crate::pause::pause(Duration::from_millis(50), "it rests").await;
        }
    };
    let answer = tokio::time::timeout(PATIENCE, named).await.expect("it is tried again");
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("\"UPSTREAM_CONNECT\""), "{answer}");
    assert!(fleet.entry.ask(&post("")).await.contains("x-served-by: env_b"));
}

/// Asks for an upgrade; the head of the answer.
async fn knock(house: &House, headers: &str) -> String {
    let mut client = house.connect().await;
    let ask =
        format!("GET /ws?__appName=crm HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: chat\r\n{headers}\r\n");
    client.write_all(ask.as_bytes()).await.unwrap();
    read_until(&mut client, "\r\n\r\n").await
}

#[tokio::test]
async fn a_websocket_goes_to_an_environment_that_is_there_and_returns_to_one_that_is_back() {
    let fleet = Fleet::open().await;
    let (a, b) = (fleet.worker("env_a", 0).await, fleet.worker("env_b", 0).await);
    let address = app(echo).await;
    a.show(vec![there("env_a", address.clone())]);
    b.show(vec![there("env_b", address.clone())]);
    let environments = vec![at("env_a", url(&a), false), at("env_b", url(&b), false)];
    fleet.entry.show_in(vec![wide("crm", ProxyChoice::Spread, BOTH)], environments);
    let port = a.port;
    a.shutdown.cancel();
    a.task.await.unwrap();
    for _ in 0..4 {
        assert!(knock(&fleet.entry, "").await.starts_with("HTTP/1.1 101"), "nobody notices");
    }
    let named = "X-App-Environment: env_a\r\n";
    let rests = knock(&fleet.entry, named).await;
    assert!(rests.starts_with("HTTP/1.1 503") && rests.contains("retry-after: "), "{rests}");
    let a = fleet.worker("env_a", port).await;
    a.show(vec![there("env_a", address)]);
    let back = async {
        while !knock(&fleet.entry, named).await.starts_with("HTTP/1.1 101") {
            crate::pause::pause(Duration::from_millis(50), "it rests").await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("it returns");
}

#[tokio::test]
async fn an_apps_own_progress_is_shown_from_its_worker() {
    let fleet = Fleet::open().await;
    let worker = fleet.worker("env_a", 0).await;
    let loads = |status, words: &str| {
        let mut view = there("env_a", Address::Port(1));
        (view.status, view.instances[0].status) = (status, status);
        let report = Arc::make_mut(view.instances[0].report.as_mut().unwrap());
        report.progress = Some(words.into());
        view
    };
    let short = |mut view: AppView| {
        let mut spec = (*view.spec).clone();
        spec.proxy.hold_timeout = Some(Duration::from_millis(100));
        view.spec = spec.into();
        view
    };
    let environments = || vec![at("env_a", url(&worker), false)];
    // The entry knows that it starts, and how far it is.
    let starting = loads(Status::Initializing, "load plugin [<x>], 12/77");
    fleet.entry.show_in(vec![short(starting)], environments());
    let page = fleet.entry.get("/apps/crm/", "Accept: text/html\r\n").await;
    assert!(page.starts_with("HTTP/1.1 503") && page.contains("<p>load plugin [&lt;x&gt;], 12/77</p>"), "{page}");
    let body = fleet.entry.get("/apps/crm/", "").await;
    assert!(body.contains("application crm is initializing: load plugin [<x>], 12/77\""), "{body}");
    // The entry thinks that it runs, and its worker knows better: what that one says passes as it is.
    worker.show(vec![short(loads(Status::Initializing, "load plugin [y], 13/77"))]);
    fleet.entry.show_in(vec![loads(Status::Running, "")], environments());
    let body = fleet.entry.get("/apps/crm/", "").await;
    assert!(body.starts_with("HTTP/1.1 503") && body.contains("retry-after: "), "{body}");
    assert!(body.contains("application crm is initializing: load plugin [y], 13/77\""), "{body}");
}
