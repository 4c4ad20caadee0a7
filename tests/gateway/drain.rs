//! Leaving without cutting anyone off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::{Bytes, Frame};
use nbs_core::intent::Intent;
use nbs_core::phase::Status;
use nbsupervisor::gateway::Options;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::house::*;
use crate::pause::pause;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_refused_or_cut() {
    let house = House::open(Options::default()).await;
    let address = app(|_| async {
        pause(Duration::from_millis(30), "an app at work").await;
        reply("served")
    });
    house.show(vec![running("crm", address.await, true)]);
    let (served, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let port = house.port;
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let (served, stop) = (served.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.load(SeqCst) {
                    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    stream.write_all(b"GET /apps/crm/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
                    let answer = read_all(&mut stream).await;
                    assert!(answer.ends_with("served"), "{answer:?}");
                    served.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    // An idle connection is closed at once, one that is served after its answer.
    let mut idle = house.connect().await;
    idle.write_all(b"GET /apps/crm/ HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    read_until(&mut idle, "served").await;
    let mut busy = house.connect().await;
    busy.write_all(b"GET /apps/crm/ HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    pause(Duration::from_millis(10), "the request is on its way").await;
    house.shutdown.cancel();
    let answer = read_all(&mut busy).await;
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("served"), "{answer}");
    assert_eq!(read_all(&mut idle).await, "");
    let before = served.load(SeqCst);
    pause(Duration::from_millis(300), "more visitors come").await;
    stop.store(true, SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    assert!(served.load(SeqCst) > before, "those who came while it drained were served");
    let drained = tokio::time::timeout(PATIENCE, house.task).await.unwrap().unwrap();
    assert_eq!(drained.cut, 0);
}

#[tokio::test]
async fn an_empty_gateway_ends_at_once() {
    let house = House::open(Options { drain_timeout: Duration::from_secs(600), ..Options::default() }).await;
    house.shutdown.cancel();
    tokio::time::timeout(PATIENCE, house.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn endless_streams_and_held_requests_do_not_delay_the_end() {
    let options = Options { drain_timeout: Duration::from_millis(600), ..Options::default() };
    let house = House::open(options).await;
    let (sender, frames) = mpsc::channel(1);
    let frames = Arc::new(std::sync::Mutex::new(Some(frames)));
    let address = app(move |_| {
        let frames = frames.lock().unwrap().take().unwrap();
        async { Response::new(Pieces(frames).boxed()) }
    });
    house.show(vec![running("crm", address.await, true), resting("erp", Status::Initializing, Intent::Run)]);
    let mut stream = house.connect().await;
    stream.write_all(b"GET /apps/crm/ HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    sender.send(Frame::data(Bytes::from("tick"))).await.unwrap();
    read_until(&mut stream, "tick").await;
    let mut held = house.connect().await;
    held.write_all(b"GET /apps/erp/ HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    house.until("held", |traffic| traffic.held == 1).await;
    let begun = Instant::now();
    house.shutdown.cancel();
    let answer = read_all(&mut held).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after"), "{answer}");
    let drained = house.task.await.unwrap();
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    assert_eq!(drained.cut, 1);
    assert!(!read_all(&mut stream).await.contains("0\r\n\r\n"));
}
