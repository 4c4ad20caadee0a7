//! Requests whose app dies: what is sent again, and what never is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use nbs_core::id::{Run, Seq};
use nbs_core::intent::Intent;
use nbs_core::launch::Address;
use nbs_core::phase::Status;
use nbs_core::view::AppView;
use nbsupervisor::gateway::Options;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::house::*;

const GET: &str = "GET /apps/crm/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
const POST: &str = "POST /apps/crm/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody";

/// The same app after `attempt` crashes.
fn life(address: Address, attempt: u32) -> AppView {
    let mut view = running("crm", address, true);
    let report = view.instances[0].report.as_mut().unwrap();
    let report = Arc::make_mut(report);
    (report.run, report.pid) = (Run { seq: Seq(1), attempt }, Some(100 + attempt));
    view
}

/// An app that reads each request and closes without an answer; counts them.
async fn killer() -> (Address, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let address = raw_app(move |_, mut stream| {
        let count = count.clone();
        async move {
            let _ = stream.read(&mut [0; 4096]).await;
            count.fetch_add(1, SeqCst);
        }
    });
    (address.await, seen)
}

async fn send(house: &House, request: &str) -> TcpStream {
    let mut client = house.connect().await;
    client.write_all(request.as_bytes()).await.unwrap();
    client
}

#[tokio::test]
async fn a_refused_request_waits_for_the_next_life_whatever_it_is() {
    let house = House::open(Options::default()).await;
    house.show(vec![life(nobody().await, 0)]);
    let browser = GET.replace("Host: h\r\n", "Host: h\r\nAccept: text/html\r\n");
    let mut clients = Vec::new();
    for request in [GET, POST, &browser] {
        clients.push(send(&house, request).await);
    }
    house.until("all wait", |traffic| traffic.held == 3).await;
    house.show(vec![resting("crm", Status::Initializing, Intent::Run)]);
    house.show(vec![life(app(mirror).await, 1)]);
    for client in &mut clients {
        let answer = read_all(client).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(house.gateway.traffic().failures, 0);
}

#[tokio::test]
async fn a_get_in_flight_is_repeated_and_a_post_is_not() {
    let house = House::open(Options::default()).await;
    let (address, seen) = killer().await;
    house.show(vec![life(address, 0)]);
    let mut get = send(&house, GET).await;
    house.until("the GET waits", |traffic| traffic.held == 1).await;
    let answer = house.ask(POST).await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("UPSTREAM_CONNECT"), "{answer}");
    assert_eq!(seen.load(SeqCst), 2);
    house.show(vec![life(app(mirror).await, 1)]);
    assert!(read_all(&mut get).await.starts_with("HTTP/1.1 200"));
    assert_eq!(house.gateway.traffic().failures, 1);
}

#[tokio::test]
async fn a_request_that_kills_its_app_is_sent_to_two_lives_at_most() {
    let house = House::open(Options::default()).await;
    let (address, seen) = killer().await;
    house.show(vec![life(address.clone(), 0)]);
    let mut client = send(&house, GET).await;
    house.until("it waits", |traffic| traffic.held == 1).await;
    house.show(vec![life(address.clone(), 1)]);
    let answer = read_all(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert_eq!(seen.load(SeqCst), 2);
}

#[tokio::test]
async fn without_news_it_is_502_after_a_moment() {
    let house = House::open(Options::default()).await;
    house.show(vec![life(nobody().await, 0)]);
    let begun = Instant::now();
    assert!(house.ask(GET).await.starts_with("HTTP/1.1 502"));
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_app_that_was_stopped_is_said_to_be() {
    let house = House::open(Options::default()).await;
    house.show(vec![life(nobody().await, 0)]);
    let mut client = send(&house, GET).await;
    house.until("it waits", |traffic| traffic.held == 1).await;
    house.show(vec![resting("crm", Status::Stopping, Intent::Stop)]);
    let answer = read_all(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("APP_STOPPING"), "{answer}");
}

#[tokio::test]
async fn a_slow_restart_holds_a_client_and_shows_a_browser_the_page() {
    let house = House::open(Options::default()).await;
    house.show(vec![life(nobody().await, 0)]);
    let mut client = send(&house, GET).await;
    let mut browser = send(&house, &GET.replace("Host: h\r\n", "Host: h\r\nAccept: text/html\r\n")).await;
    house.until("both wait", |traffic| traffic.held == 2).await;
    house.show(vec![resting("crm", Status::Initializing, Intent::Run)]);
    let page = read_all(&mut browser).await;
    assert!(page.starts_with("HTTP/1.1 503") && page.to_ascii_lowercase().contains("x-app-waiting"), "{page}");
    house.until("the client waits on", |traffic| traffic.held == 1).await;
    house.show(vec![life(app(mirror).await, 1)]);
    assert!(read_all(&mut client).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn an_upgrade_waits_for_the_next_life_too() {
    let house = House::open(Options::default()).await;
    house.show(vec![life(nobody().await, 0)]);
    let upgrade = GET.replace("Connection: close", "Connection: upgrade\r\nUpgrade: echo");
    let mut client = send(&house, &upgrade).await;
    house.until("it waits", |traffic| traffic.held == 1).await;
    let address = raw_app(|_, mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
        stream.write_all(switched.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    });
    house.show(vec![life(address.await, 1)]);
    assert!(read_until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 101"));
    client.write_all(b"hello").await.unwrap();
    read_until(&mut client, "hello").await;
}
