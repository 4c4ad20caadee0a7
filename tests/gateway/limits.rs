//! Rude clients.

use std::time::Duration;

use nbsupervisor::gateway::Options;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::house::*;
use crate::pause::pause;

#[tokio::test]
async fn a_head_that_drips_in_is_cut() {
    let options = Options { header_timeout: Duration::from_millis(500), ..Options::default() };
    let house = House::open(options).await;
    let mut client = house.connect().await;
    let begun = Instant::now();
    while client.write_all(b"G").await.is_ok() && begun.elapsed() < PATIENCE {
        pause(Duration::from_millis(50), "a client that drips").await;
    }
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    house.until("nobody there", |traffic| traffic.open == 0).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_but_a_long_answer_is_not() {
    let options = Options { header_timeout: Duration::from_millis(300), ..Options::default() };
    let house = House::open(options).await;
    let address = app(|_| async {
        pause(Duration::from_millis(1500), "an app at work").await;
        reply("slow")
    });
    house.show(vec![running("crm", address.await, true)]);
    let mut client = house.connect().await;
    client.write_all(b"GET /apps/crm/ HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    read_until(&mut client, "slow").await;
    assert_eq!(read_all(&mut client).await, "");
}

#[tokio::test]
async fn a_huge_head_is_431() {
    let house = House::open(Options::default()).await;
    let huge = "x".repeat(70 << 10);
    let answer = house.get("/", &format!("X-Huge: {huge}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let large = "x".repeat(40 << 10);
    assert!(house.get("/", &format!("X-Large: {large}\r\n")).await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn nonsense_is_answered_or_cut() {
    let house = House::open(Options::default()).await;
    house.show(vec![running("crm", app(mirror).await, true)]);
    for nonsense in [
        "\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "\u{0}\u{1}\u{2}\r\n\r\n",
        "GET /apps/crm/ HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n",
        "GET /apps/crm/ HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "GET /apps/crm/ HTTP/1.1\r\nHost h\r\n\r\n",
        "GET /apps/crm/\u{7f} HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET ?__appName=crm HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET /apps/crm/ HTTP/1.1\r\nHost: \"\\\u{e4}\r\nConnection: close, host, \u{e4}\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut client = house.connect().await;
        client.write_all(nonsense.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let answer = read_all(&mut client).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1."), "{nonsense:?}: {answer}");
    }
    // Both lengths: the chunks count, and the app sees only them.
    let both = "POST /apps/crm/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 99\r\n\
                Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let answer = house.ask(both).await;
    assert!(!answer.contains("content-length: 99") && answer.ends_with("\n\nhi"), "{answer}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let house = House::open(Options::default()).await;
    house.show(vec![running("crm", app(mirror).await, true)]);
    let one = "GET /apps/crm/1 HTTP/1.1\r\nHost: h\r\n\r\n";
    let two = "GET /apps/crm/2 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let answer = house.ask(&format!("{one}{two}")).await;
    let (first, second) = (answer.find("GET /1 ").unwrap(), answer.find("GET /2 ").unwrap());
    assert!(first < second, "{answer}");
}
