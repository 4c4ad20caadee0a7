//! Requests for apps that do not serve yet.

use std::time::Duration;

use nbs_core::intent::Intent;
use nbs_core::limits::HELD_PER_APP_MAX;
use nbs_core::phase::Status;
use nbs_core::reason::{Reason, ReasonCode};
use nbsupervisor::entry::Request as Asked;
use nbsupervisor::gateway::Options;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::house::*;
use crate::pause::pause;

const ASLEEP: Intent = Intent::OnDemand { awake: false };
const GET: &[u8] = b"GET /apps/crm/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

fn wakes(house: &mut House) -> usize {
    std::iter::from_fn(|| house.asked.try_recv().ok()).filter(|asked| matches!(asked, Asked::Wake(_))).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_visitors_wake_an_app_once() {
    let mut house = House::open(Options::default()).await;
    let address = app(mirror).await;
    house.show(vec![resting("crm", Status::Stopped, ASLEEP)]);
    let mut clients = Vec::new();
    for _ in 0..200 {
        let mut client = house.connect().await;
        client.write_all(GET).await.unwrap();
        clients.push(client);
    }
    house.until("200 held", |traffic| traffic.held == 200).await;
    house.show(vec![resting("crm", Status::Initializing, Intent::OnDemand { awake: true })]);
    pause(Duration::from_millis(20), "the app is starting").await;
    house.show(vec![running("crm", address, true)]);
    for client in &mut clients {
        assert!(read_all(client).await.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(wakes(&mut house), 1);
    house.until("nobody held", |traffic| traffic.held == 0 && traffic.in_flight == 0).await;
}

#[tokio::test]
async fn a_released_request_goes_on_long_before_its_hold_ends() {
    let options = Options { hold_timeout: Duration::from_secs(600), ..Options::default() };
    let house = House::open(options).await;
    let address = app(mirror).await;
    house.show(vec![resting("crm", Status::Initializing, Intent::Run)]);
    let mut client = house.connect().await;
    let post = b"POST /apps/crm/x HTTP/1.1\r\nHost: h\r\nAccept: text/html\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody";
    client.write_all(post).await.unwrap();
    house.until("held", |traffic| traffic.held == 1).await;
    house.show(vec![running("crm", address, true)]);
    let answer = read_all(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\n\nbody"), "{answer}");
}

#[tokio::test]
async fn a_hold_ends_with_its_code() {
    let options = Options { hold_timeout: Duration::from_millis(100), ..Options::default() };
    let mut house = House::open(options).await;
    for (status, code) in [
        (Status::Queued, "APP_QUEUED"),
        (Status::Preparing, "APP_PREPARING"),
        (Status::Initializing, "APP_INITIALIZING"),
        (Status::Initialized, "APP_INITIALIZED"),
        (Status::Commanding, "APP_COMMANDING"),
        (Status::Stopping, "APP_STOPPING"),
    ] {
        house.show(vec![resting("crm", status, Intent::Run)]);
        let answer = house.get("/apps/crm/", "").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: "), "{answer}");
        let body = format!("{{\"error\":{{\"status\":503,\"code\":\"{code}\",\"message\":\"application crm ");
        assert!(answer.contains(&body) && answer.ends_with("\"maintaining\":true}}"), "{answer}");
    }
    assert_eq!(wakes(&mut house), 0);
}

#[tokio::test]
async fn an_apps_own_hold_timeout_counts() {
    let house = House::open(Options::default()).await;
    let mut app = resting("crm", Status::Initializing, Intent::Run);
    let mut spec = (*app.spec).clone();
    spec.proxy.hold_timeout = Some(Duration::from_millis(50));
    app.spec = spec.into();
    house.show(vec![app]);
    let begun = Instant::now();
    assert!(house.get("/apps/crm/", "").await.contains("APP_INITIALIZING"));
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn what_will_not_serve_is_refused_at_once() {
    let mut house = House::open(Options::default()).await;
    for (status, intent, code) in [
        (Status::Stopped, Intent::Stop, "APP_STOPPED"),
        (Status::Stopping, Intent::Stop, "APP_STOPPING"),
        (Status::Unknown, Intent::Run, "APP_ENVIRONMENT_UNAVAILABLE"),
    ] {
        house.show(vec![resting("crm", status, intent)]);
        assert!(house.get("/apps/crm/", "").await.contains(code));
    }
    let mut failed = running("crm", nobody().await, true);
    failed.instances[0].status = Status::Error;
    let mut report = (**failed.instances[0].report.as_ref().unwrap()).clone();
    report.reason = Some(Reason::new(ReasonCode::ExitStatus, "exited with \"3\""));
    failed.instances[0].report = Some(report.into());
    house.show(vec![failed]);
    let answer = house.get("/apps/crm/", "").await;
    assert!(answer.contains("\"APP_ERROR\"") && answer.contains("failed: exited with \\\"3\\\""), "{answer}");
    assert_eq!(wakes(&mut house), 0);
}

#[tokio::test]
async fn a_hold_ends_when_the_app_fails() {
    let house = House::open(Options::default()).await;
    house.show(vec![resting("crm", Status::Initializing, Intent::Run)]);
    let mut client = house.connect().await;
    client.write_all(GET).await.unwrap();
    house.until("held", |traffic| traffic.held == 1).await;
    house.show(vec![resting("crm", Status::Error, Intent::Run)]);
    assert!(read_all(&mut client).await.contains("APP_ERROR"));
}

#[tokio::test]
async fn a_browser_gets_the_waiting_page_and_wakes() {
    let mut house = House::open(Options::default()).await;
    house.show(vec![resting("crm", Status::Stopped, ASLEEP)]);
    for _ in 0..5 {
        let page = house.get("/apps/crm/", "Accept: text/html,*/*\r\n").await;
        assert!(page.starts_with("HTTP/1.1 503") && page.contains("retry-after: 3"), "{page}");
        assert!(page.contains("<!doctype html>") && page.contains("http-equiv=\"refresh\""), "{page}");
    }
    assert_eq!(wakes(&mut house), 1);

    let mut starting = running("crm", nobody().await, true);
    starting.instances[0].status = Status::Initializing;
    let mut report = (**starting.instances[0].report.as_ref().unwrap()).clone();
    report.progress = Some("load <plugin> [x], 12/77".into());
    starting.instances[0].report = Some(report.into());
    house.show(vec![starting]);
    let page = house.get("/apps/crm/", "Accept: text/html\r\n").await;
    assert!(page.contains("load &lt;plugin&gt; [x], 12/77") && page.contains("Status: initializing"), "{page}");
    assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
    assert_eq!(wakes(&mut house), 0);
}

#[tokio::test]
async fn a_full_hold_refuses() {
    let house = House::open(Options::default()).await;
    house.show(vec![resting("crm", Status::Initializing, Intent::Run)]);
    let mut clients = Vec::new();
    for _ in 0..HELD_PER_APP_MAX {
        let mut client = house.connect().await;
        client.write_all(GET).await.unwrap();
        clients.push(client);
    }
    house.until("all held", |traffic| traffic.held == HELD_PER_APP_MAX as u64).await;
    let answer = house.get("/apps/crm/", "").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("HOLD_FULL"), "{answer}");
    drop(clients);
    house.until("nobody held", |traffic| traffic.held == 0).await;
}

#[tokio::test]
async fn a_bot_wakes_nothing() {
    let mut house = House::open(Options::default()).await;
    house.show(vec![resting("crm", Status::Stopped, ASLEEP)]);
    for agent in ["kube-probe/1.30", "Mozilla/5.0 (compatible; Googlebot/2.1)"] {
        let answer = house.get("/apps/crm/", &format!("User-Agent: {agent}\r\nAccept: text/html\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("APP_STOPPED"), "{answer}");
    }
    assert_eq!(wakes(&mut house), 0);
}
