//! What reaches the app, what comes back, and what is said when nothing does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::{Bytes, Frame};
use nbs_core::launch::Address;
use nbs_core::network::Network;
use nbsupervisor::gateway::Options;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::house::*;
use crate::pause::pause;

#[tokio::test]
async fn every_selector_with_strip_and_keep() {
    let house = House::open(Options::default()).await;
    let address = app(mirror).await;
    house.show(vec![running("crm", address.clone(), true), running("erp", address, false)]);
    for (target, header, seen) in [
        ("/apps/crm/x?y", "", "/x?y"),
        ("/apps/crm//a/../%2e?", "", "//a/../%2e?"),
        ("/apps/crm/", "", "/"),
        ("/apps/erp/x?y", "", "/apps/erp/x?y"),
        ("/api/__app/crm/users:list?p=1", "", "/api/users:list?p=1"),
        ("/api/__app/erp/a", "", "/api/a"),
        ("/ws?a=%20+&__appName=crm&&b=%zz", "", "/ws?a=%20+&&b=%zz"),
        ("/ws?__appName=erp", "", "/ws"),
        ("/api/x?y", "X-App: crm\r\n", "/api/x?y"),
        ("http://other.example/apps/crm/abs?x", "", "/abs?x"),
        ("http://other.example/abs?x&__appName=crm", "", "/abs?x"),
        ("/apps/crm/?__appName=erp", "X-App: hr\r\n", "/"),
    ] {
        let answer = house.get(target, header).await;
        assert!(
            answer.contains(&format!("\n\nGET {seen} HTTP/1.1\n").replace("\n\n", "\r\n\r\n")),
            "{target}: {answer}"
        );
        assert!(!answer.contains("x-app:"), "{answer}");
    }
    let stripped = house.get("/apps/crm/x", "").await;
    assert!(stripped.contains("x-forwarded-prefix: /apps/crm\n"), "{stripped}");
    assert!(!house.get("/apps/erp/x", "").await.contains("x-forwarded-prefix"));
    assert!(house.get("http://other.example/apps/crm/", "").await.contains("\nhost: other.example\n"));
}

#[tokio::test]
async fn what_is_nobodys_is_not_found() {
    let house = House::open(Options::default()).await;
    house.show(vec![running("crm", app(mirror).await, true)]);
    for target in ["/", "/apps/", "/apps/nope/x", "/apps/%63rm/", "/apps/../", "/apps/nope", "*"] {
        let answer = house.get(target, "").await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{target}: {answer}");
        assert!(answer.contains("\"code\":\"APP_NOT_FOUND\"") && answer.contains("\"maintaining\":false"), "{answer}");
    }
    let page = house.get("/", "Accept: text/html\r\n").await;
    assert!(page.starts_with("HTTP/1.1 404") && page.contains("<!doctype html>"), "{page}");
    let moved = house.get("/apps/crm?a=%2F", "").await;
    assert!(moved.starts_with("HTTP/1.1 307") && moved.contains("location: /apps/crm/?a=%2F\r\n"), "{moved}");
    let tunnel = house.ask("CONNECT a.example:443 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(tunnel.starts_with("HTTP/1.1 405"), "{tunnel}");
}

#[tokio::test]
async fn heads_are_clean_in_both_directions() {
    let house = House::open(Options::default()).await;
    let address = app(|request| async {
        let mut answer = mirror(request).await;
        for (name, value) in
            [("connection", "x-private"), ("x-private", "1"), ("keep-alive", "timeout=9"), ("x-kept", "2")]
        {
            answer.headers_mut().insert(name, value.parse().unwrap());
        }
        answer
    });
    house.show(vec![running("crm", address.await, true)]);
    let lies = "X-Forwarded-For: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Request-Id: planted\r\n\
                X-Hostname: a\r\nX-Real-Ip: 1.1.1.1\r\nTE: trailers\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-Stays: 1\r\n\
                Expect: 100-continue\r\nProxy-Connection: keep-alive\r\n";
    let answer = house.get("/apps/crm/", lies).await;
    for gone in
        ["1.1.1.1", "planted", "x-hop", "https", "x-hostname", "expect", "proxy-connection", "x-private", "timeout=9"]
    {
        assert!(!answer.contains(gone), "{gone}: {answer}");
    }
    for there in [
        "x-forwarded-for: 127.0.0.1\n",
        "x-forwarded-proto: http\n",
        "x-forwarded-host: h\n",
        "forwarded: for=127.0.0.1;host=\"h\";proto=http\n",
        "x-stays: 1\n",
        "te: trailers\n",
        "x-request-id: ",
        "x-kept: 2\r\n",
    ] {
        assert!(answer.contains(there), "{there}: {answer}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let trusted_proxies = vec![Network::parse("127.0.0.0/8").unwrap()];
    let house = House::open(Options { trusted_proxies, ..Options::default() }).await;
    house.show(vec![running("crm", app(mirror).await, true)]);
    let told = "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Request-Id: theirs\r\n";
    let answer = house.get("/apps/crm/", told).await;
    for there in ["x-forwarded-for: 1.1.1.1, 127.0.0.1\n", "x-forwarded-proto: https\n", "x-request-id: theirs\n"] {
        assert!(answer.contains(there), "{there}: {answer}");
    }
}

#[tokio::test]
async fn an_answer_streams_piece_by_piece() {
    let house = House::open(Options::default()).await;
    let (pieces, queue) = mpsc::channel::<&'static str>(4);
    let queue = Arc::new(tokio::sync::Mutex::new(queue));
    let address = app(move |_| {
        let queue = queue.clone();
        async move {
            let (sender, frames) = mpsc::channel(1);
            tokio::spawn(async move {
                while let Some(piece) = queue.lock().await.recv().await {
                    let _ = sender.send(Frame::data(Bytes::from(piece))).await;
                }
            });
            Response::new(Pieces(frames).boxed())
        }
    });
    house.show(vec![running("crm", address.await, true)]);
    let mut client = house.connect().await;
    client.write_all(b"GET /apps/crm/ HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    for piece in ["data: one\n\n", "data: two\n\n", "data: three\n\n"] {
        pieces.send(piece).await.unwrap();
        read_until(&mut client, piece).await;
    }
    drop(pieces);
    read_until(&mut client, "0\r\n\r\n").await;
}

/// Trailers come through to a client that asked for them.
#[tokio::test]
async fn trailers_come_through() {
    let house = House::open(Options::default()).await;
    let address = app(|_| async {
        let (sender, frames) = mpsc::channel(2);
        sender.send(Frame::data(Bytes::from("body"))).await.unwrap();
        let mut trailers = hyper::HeaderMap::new();
        trailers.insert("x-sum", "42".parse().unwrap());
        sender.send(Frame::trailers(trailers)).await.unwrap();
        let mut answer = Response::new(Pieces(frames).boxed());
        answer.headers_mut().insert("trailer", "x-sum".parse().unwrap());
        answer
    });
    house.show(vec![running("crm", address.await, true)]);
    let answer = house.get("/apps/crm/", "TE: trailers\r\n").await;
    assert!(answer.ends_with("0\r\nx-sum: 42\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_body_streams_to_the_app_and_early_answers_come_back() {
    let house = House::open(Options::default()).await;
    // Answers at once, then tells each piece it gets.
    let address = app(|request| async {
        let (sender, frames) = mpsc::channel(1);
        tokio::spawn(async move {
            sender.send(Frame::data(Bytes::from("hello "))).await.unwrap();
            let mut body = request.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                let piece = frame.into_data().unwrap();
                sender.send(Frame::data(Bytes::from(format!("got {} ", piece.len())))).await.unwrap();
            }
        });
        Response::new(Pieces(frames).boxed())
    });
    house.show(vec![running("crm", address.await, true)]);
    let mut client = house.connect().await;
    let head = b"POST /apps/crm/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n";
    client.write_all(head).await.unwrap();
    read_until(&mut client, "hello ").await;
    client.write_all(b"3\r\nabc\r\n").await.unwrap();
    read_until(&mut client, "got 3 ").await;
    client.write_all(b"4\r\nabcd\r\n0\r\n\r\n").await.unwrap();
    read_until(&mut client, "got 4 ").await;
    read_until(&mut client, "0\r\n\r\n").await;
}

#[tokio::test]
async fn expect_continue_is_answered_before_the_body() {
    let house = House::open(Options::default()).await;
    house.show(vec![running("crm", app(mirror).await, true)]);
    let mut client = house.connect().await;
    let head = "POST /apps/crm/ HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut client, "100 Continue\r\n\r\n").await;
    client.write_all(b"body").await.unwrap();
    read_until(&mut client, "\n\nbody").await;
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_body_passes_both_ways_in_constant_memory() {
    const SIZE: usize = 100 << 20;
    let house = House::open(Options::default()).await;
    let address = app(|request| async {
        let (sender, frames) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                if sender.send(frame).await.is_err() {
                    return;
                }
            }
        });
        Response::new(Pieces(frames).boxed())
    });
    house.show(vec![running("crm", address.await, true)]);
    let (mut reader, mut writer) = house.connect().await.into_split();
    let before = resident();
    let upload = tokio::spawn(async move {
        let head = format!("POST /apps/crm/ HTTP/1.1\r\nHost: h\r\nContent-Length: {SIZE}\r\n\r\n");
        writer.write_all(head.as_bytes()).await.unwrap();
        let piece = vec![7; 1 << 20];
        for _ in 0..SIZE >> 20 {
            writer.write_all(&piece).await.unwrap();
        }
        writer
    });
    let (mut sevens, mut most) = (0, before);
    let mut buffer = vec![0; 256 << 10];
    while sevens < SIZE {
        let read = tokio::time::timeout(PATIENCE, reader.read(&mut buffer)).await.unwrap().unwrap();
        assert!(read > 0, "closed after {sevens}");
        sevens += buffer[..read].iter().filter(|byte| **byte == 7).count();
        most = most.max(resident());
    }
    upload.await.unwrap();
    assert_eq!(sevens, SIZE);
    // Other tests of this process take some meanwhile.
    assert!(most - before < 80, "{before} MiB grew to {most} MiB");
}

#[tokio::test]
async fn head_and_empty_answers_keep_their_shape() {
    let house = House::open(Options::default()).await;
    let address = app(|request| async move {
        let mut answer = reply(if request.uri().path() == "/empty" { "" } else { "twelve bytes" });
        if request.uri().path() == "/empty" {
            *answer.status_mut() = hyper::StatusCode::NO_CONTENT;
        }
        answer
    });
    house.show(vec![running("crm", address.await, true)]);
    let mut client = house.connect().await;
    client.write_all(b"HEAD /apps/crm/ HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let head = read_until(&mut client, "\r\n\r\n").await;
    assert!(head.contains("content-length: 12\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    client.write_all(b"GET /apps/crm/empty HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    assert!(read_until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 204"));
    client.write_all(b"GET /apps/crm/ HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    read_until(&mut client, "twelve bytes").await;
    let old = house.ask("GET /apps/crm/ HTTP/1.0\r\n\r\n").await;
    assert!(old.ends_with("twelve bytes"), "{old}");
}

#[tokio::test]
async fn an_unreachable_app_is_502_and_a_silent_one_504() {
    let options = Options { response_timeout: Duration::from_millis(600), ..Options::default() };
    let house = House::open(options).await;
    let silent = raw_app(|_, mut stream| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let babble = raw_app(|_, mut stream| async move {
        let _ = stream.write_all(b"this is not http\r\n\r\n").await;
    });
    house.show(vec![
        running("gone", nobody().await, true),
        running("nosock", Address::Unix("/nonexistent/app.sock".into()), true),
        running("silent", silent.await, true),
        running("babble", babble.await, true),
    ]);
    for (app, status, code) in [
        ("gone", "502", "UPSTREAM_CONNECT"),
        ("nosock", "502", "UPSTREAM_CONNECT"),
        ("silent", "504", "UPSTREAM_TIMEOUT"),
        ("babble", "502", "UPSTREAM_CONNECT"),
    ] {
        let answer = house.get(&format!("/apps/{app}/"), "").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(code), "{app}: {answer}");
    }
    // A client that stops sending is told so.
    let mut client = house.connect().await;
    client.write_all(b"POST /apps/silent/ HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nab").await.unwrap();
    assert!(read_until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 408"));
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An app whose connections answer once and close at the second request, without a byte.
async fn fickle() -> (Address, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    let address = raw_app(move |_, mut stream| {
        count.fetch_add(1, SeqCst);
        async move {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            stream.write_all(OK).await.unwrap();
            let _ = stream.read(&mut buffer).await;
        }
    });
    (address.await, connections)
}

#[tokio::test]
async fn a_stale_connection_is_replaced_once_and_only_if_nothing_can_happen_twice() {
    let house = House::open(Options::default()).await;
    let (address, connections) = fickle().await;
    house.show(vec![running("crm", address, true)]);
    for _ in 0..3 {
        let answer = house.get("/apps/crm/", "").await;
        assert!(answer.ends_with("ok"), "{answer}");
    }
    assert_eq!(connections.load(SeqCst), 3);
    let post = "POST /apps/crm/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
    let answer = house.ask(post).await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("UPSTREAM_CONNECT"), "{answer}");
    assert_eq!(connections.load(SeqCst), 3);
}

#[tokio::test]
async fn a_closed_connection_is_noticed_before_it_is_used() {
    let house = House::open(Options::default()).await;
    let address = raw_app(|_, mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        stream.write_all(OK).await.unwrap();
    });
    house.show(vec![running("crm", address.await, true)]);
    for _ in 0..3 {
        let post = "POST /apps/crm/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
        let answer = house.ask(post).await;
        assert!(answer.ends_with("ok"), "{answer}");
        pause(Duration::from_millis(50), "the app's end reaches the gateway").await;
    }
}

#[tokio::test]
async fn a_restarted_app_is_found_where_it_is_now() {
    let house = House::open(Options::default()).await;
    for round in ["one", "two", "three"] {
        let address = app(move |_| async move { reply(round) }).await;
        house.show(vec![running("crm", address, true)]);
        for _ in 0..2 {
            assert!(house.get("/apps/crm/", "").await.ends_with(round));
        }
    }
}

#[tokio::test]
async fn connections_are_kept_for_the_next_request() {
    let house = House::open(Options::default()).await;
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    let address = raw_app(move |_, mut stream| {
        count.fetch_add(1, SeqCst);
        async move {
            while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {
                stream.write_all(OK).await.unwrap();
            }
        }
    });
    house.show(vec![running("crm", address.await, true)]);
    for _ in 0..10 {
        house.get("/apps/crm/", "").await;
    }
    assert_eq!(connections.load(SeqCst), 1);
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off_for_the_client() {
    let house = House::open(Options::default()).await;
    let address = raw_app(|_, mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n").await;
    });
    house.show(vec![running("crm", address.await, true)]);
    let answer = house.get("/apps/crm/", "").await;
    assert!(answer.contains("part") && !answer.contains("\r\n0\r\n"), "{answer}");
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_request_along() {
    let house = House::open(Options::default()).await;
    let (gone, mut told) = mpsc::channel(2);
    let address = raw_app(move |_, mut stream| {
        let gone = gone.clone();
        async move {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.read(&mut buffer).await;
            gone.send(()).await.unwrap();
        }
    });
    house.show(vec![running("crm", address.await, true)]);
    let mut client = house.connect().await;
    client.write_all(b"GET /apps/crm/ HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    house.until("in flight", |traffic| traffic.in_flight == 1).await;
    drop(client);
    tokio::time::timeout(PATIENCE, told.recv()).await.unwrap().unwrap();
    house.until("nothing in flight", |traffic| traffic.in_flight == 0 && traffic.open == 0).await;
}
