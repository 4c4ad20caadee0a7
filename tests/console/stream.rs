//! What a page that is open is sent.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::browser::Browser;
use crate::room::{open, request};

const EVENTS: &str = "Accept: text/event-stream";

#[tokio::test]
async fn a_page_follows_what_happens() {
    let room = open().await;
    room.create("crm").await;
    let follow = room.read_until("/", &[EVENTS], |text| text.contains("badge good") && text.contains("event: beat"));
    let change = async {
        let started = room.read_until("/", &[EVENTS], |text| text.contains("badge rest")).await;
        assert!(!started.contains("badge good"), "{started}");
        room.ask("POST", "/api/v1/apps/crm/start", &[], "").await
    };
    let (text, _) = tokio::join!(follow, change);
    assert!(text.contains("text/event-stream") && text.contains("no-store"), "{text}");
    assert_eq!(text.matches("event: part").count(), 2, "what looks the same is not sent again: {text}");
}

#[tokio::test]
async fn a_page_of_an_app_hears_of_its_end() {
    let room = open().await;
    room.create("crm").await;
    let follow = room.read_until("/console/apps/crm", &[EVENTS], |text| text.contains("\"gone\":true"));
    let remove = async {
        room.read_until("/console/apps/crm", &[EVENTS], |text| text.contains("event: part")).await;
        room.ask("DELETE", "/api/v1/apps/crm", &[], "").await
    };
    let (text, _) = tokio::join!(follow, remove);
    assert!(text.contains("event: trouble") && text.contains("there is no app crm"), "{text}");
}

#[tokio::test]
async fn every_page_can_be_followed() {
    let room = open().await;
    for path in ["/?q=x", "/console/environments", "/console/queue"] {
        let text = room.read_until(path, &[EVENTS], |text| text.contains("event: beat")).await;
        assert!(text.contains("event: part"), "{path}: {text}");
    }
}

#[tokio::test]
async fn who_is_signed_out_hears_nothing_more() {
    let room = open().await;
    let ann = Browser::signed_in(&room, "ann").await;
    let host = room.tcp.to_string();
    let cookie = format!("Cookie: {}", ann.cookie.as_ref().unwrap());
    let mut stream = TcpStream::connect(room.tcp).await.unwrap();
    stream.write_all(request("GET", "/", &host, &[EVENTS, &cookie], "").as_bytes()).await.unwrap();
    let mut all = Vec::new();
    while !String::from_utf8_lossy(&all).contains("event: part") {
        assert!(stream.read_buf(&mut all).await.unwrap() > 0);
    }
    assert_eq!(ann.post("/console/sign-out", &[]).await.status, 303);
    stream.read_to_end(&mut all).await.unwrap();
    let text = String::from_utf8_lossy(&all);
    assert!(text.contains("event: signed-out"), "{text}");
    assert_eq!(Browser::new(&room).send("GET", "/", &[EVENTS], "").await.status, 401);
}
