//! WebSocket and other upgrades.

use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use nbs_core::intent::Intent;
use nbs_core::launch::Address;
use nbs_core::phase::Status;
use nbsupervisor::gateway::Options;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::house::*;

/// Grants any upgrade and sends back what it gets; says goodbye after the other side's end.
pub async fn echo(mut request: Request<Incoming>) -> Reply {
    let upgrade = hyper::upgrade::on(&mut request);
    let headers = request.headers().clone();
    let Some(protocol) = headers.get("upgrade").cloned() else {
        return reply("no upgrade");
    };
    tokio::spawn(async move {
        let mut io = TokioIo::new(upgrade.await.unwrap());
        let mut buffer = vec![0; 64 << 10];
        loop {
            match io.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(read) => io.write_all(&buffer[..read]).await.unwrap(),
            }
        }
        let _ = io.write_all(b"goodbye").await;
        let _ = io.shutdown().await;
    });
    let mut answer = Response::new(Empty::new().boxed());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert("connection", "Upgrade".parse().unwrap());
    answer.headers_mut().insert("upgrade", protocol);
    if let Some(key) = headers.get("sec-websocket-key") {
        let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
        answer.headers_mut().insert("sec-websocket-accept", accept.parse().unwrap());
    }
    answer
}

async fn speak(house: &House, app: &str) {
    let mut stream = house.connect().await;
    let ask = format!(
        "GET /ws?__appName={app} HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(ask.as_bytes()).await.unwrap();
    let head = read_until(&mut stream, "\r\n\r\n").await.to_lowercase();
    assert!(head.starts_with("http/1.1 101") && head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="));
    assert!(head.contains("connection: upgrade") && head.contains("upgrade: websocket"), "{head}");
    for size in [1, 1000, 300_000] {
        let sent = vec![b'x'; size];
        let mut got = vec![0; size];
        let (mut reader, mut writer) = stream.split();
        let (written, read) = tokio::join!(writer.write_all(&sent), reader.read_exact(&mut got));
        written.unwrap();
        read.unwrap();
        assert_eq!(sent, got);
    }
    assert_eq!(house.gateway.traffic().tunnels, 1);
    // Half a close: the app still has its last word.
    stream.shutdown().await.unwrap();
    assert_eq!(read_all(&mut stream).await, "goodbye");
    house.until("no tunnel", |traffic| traffic.tunnels == 0 && traffic.open == 0).await;
}

#[tokio::test]
async fn a_websocket_through_tcp_and_unix() {
    let directory = tempfile::tempdir().unwrap();
    let house = House::open(Options::default()).await;
    let unix = unix_app(&directory.path().join("app.sock"), echo);
    house.show(vec![running("crm", app(echo).await, true), running("erp", unix, false)]);
    speak(&house, "crm").await;
    speak(&house, "erp").await;
    assert!(house.get("/apps/erp/", "").await.ends_with("no upgrade"));
}

#[tokio::test]
async fn real_websockets_talk() {
    use tokio_tungstenite::tungstenite::{Message, accept, client};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Port(listener.local_addr().unwrap().port());
    let app = tokio::task::spawn_blocking(move || {
        let mut socket = accept(listener.accept().unwrap().0).unwrap();
        while let Ok(message) = socket.read() {
            if message.is_text() || message.is_binary() {
                socket.send(message).unwrap();
            }
        }
    });
    let house = House::open(Options::default()).await;
    house.show(vec![running("crm", address, true)]);
    let port = house.port;
    let client = tokio::task::spawn_blocking(move || {
        let stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut socket, _) = client(format!("ws://127.0.0.1:{port}/apps/crm/ws"), stream).unwrap();
        for message in [Message::text("hello"), Message::binary(vec![7; 1 << 20])] {
            socket.send(message.clone()).unwrap();
            assert_eq!(socket.read().unwrap(), message);
        }
        socket.close(None).unwrap();
        while socket.read().is_ok() {}
    });
    tokio::time::timeout(PATIENCE, client).await.unwrap().unwrap();
    tokio::time::timeout(PATIENCE, app).await.unwrap().unwrap();
    house.until("no tunnel", |traffic| traffic.tunnels == 0 && traffic.open == 0).await;
}

#[tokio::test]
async fn a_refused_upgrade_is_passed_on() {
    let house = House::open(Options::default()).await;
    house.show(vec![running("crm", app(mirror).await, true)]);
    let answer = house.get("/apps/crm/ws", "Connection: upgrade\r\nUpgrade: websocket\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("upgrade: websocket\n"), "{answer}");
    // HTTP/2 cannot be upgraded to: it would carry requests past the gateway.
    let answer =
        house.get("/apps/crm/", "Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: a\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && !answer.contains("h2c") && !answer.contains("http2-settings"),
        "{answer}"
    );
}

#[tokio::test]
async fn an_upgrade_waits_for_its_app() {
    let house = House::open(Options::default()).await;
    house.show(vec![resting("crm", Status::Initializing, Intent::Run)]);
    let mut stream = house.connect().await;
    let ask = b"GET /apps/crm/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    house.until("held", |traffic| traffic.held == 1).await;
    house.show(vec![running("crm", app(echo).await, true)]);
    read_until(&mut stream, "\r\n\r\n").await;
    stream.write_all(b"hello").await.unwrap();
    read_until(&mut stream, "hello").await;
}
