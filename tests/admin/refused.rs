//! Who may not in, and what is refused: code, field and hint.

use std::fmt::Write as _;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::room::{Room, open};

#[tokio::test]
async fn tcp_wants_a_token_the_right_host_and_no_foreign_origin() {
    let room = open().await;
    let host = room.tcp.to_string();
    let denied = room.ask_tcp("/api/v1/apps", &host, &[]).await;
    assert_eq!((denied.status, denied.code().as_str()), (401, "unauthorized"));
    assert!(denied.head.contains("www-authenticate: bearer"), "{}", denied.head);
    assert_eq!(room.ask_tcp("/api/v1/apps", &host, &["Authorization: Bearer nbs_wrong"]).await.status, 401);
    assert_eq!(room.ask_tcp("/api/v1/apps", &host, &["Authorization: Basic eDp5"]).await.status, 401);

    let made = room.ask("POST", "/api/v1/tokens", &[], r#"{"name":"ci"}"#).await.json();
    let token = format!("Authorization: Bearer {}", made["token"].as_str().unwrap());
    assert_eq!(room.ask_tcp("/api/v1/apps", &host, &[&token]).await.status, 200);
    assert_eq!(room.ask_tcp("/api/v1/apps", &host, &[&token, &format!("Origin: http://{host}")]).await.status, 200);
    for (host, origin) in
        [("evil.example.com", ""), (host.as_str(), "Origin: http://evil.example.com"), (&host, "Origin: null")]
    {
        let headers: Vec<&str> = [token.as_str(), origin].into_iter().filter(|header| !header.is_empty()).collect();
        assert_eq!(room.ask_tcp("/api/v1/apps", host, &headers).await.code(), "forbidden", "{host} {origin}");
    }
    let list = room.get("/api/v1/tokens").await;
    assert!(list.text.contains("\"ci\"") && !list.text.contains("nbs_"), "{}", list.text);
    assert_eq!(room.ask("DELETE", "/api/v1/tokens/ci", &[], "").await.status, 204);
    assert_eq!(room.ask_tcp("/api/v1/apps", &host, &[&token]).await.status, 401);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(room.ask_tcp(path, "whatever", &[]).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn bad_input_names_field_and_remedy() {
    let room = open().await;
    room.create("crm").await;
    let table = [
        ("GET", "/api/v1/apps?limti=3", "", 400, "unknown_field", "limti"),
        ("GET", "/api/v1/apps?limit=many", "", 400, "invalid", "limit"),
        ("GET", "/api/v1/apps?status=fine", "", 400, "invalid", "status"),
        ("GET", "/api/v1/apps?cursor=UPPER", "", 400, "invalid", "cursor"),
        ("GET", "/api/v1/apps/nobody", "", 404, "not_found", ""),
        ("GET", "/api/v1/apps/No%20Name", "", 404, "not_found", ""),
        ("POST", "/api/v1/apps", "{\"name\": \"x\",", 400, "invalid", ""),
        ("POST", "/api/v1/apps", "", 400, "invalid", ""),
        ("POST", "/api/v1/apps", r#"{"name":"Crm","runtime":"node"}"#, 400, "invalid", "name"),
        ("POST", "/api/v1/apps", r#"{"name":"x","runtime":"node","evn":{}}"#, 400, "unknown_field", "evn"),
        ("POST", "/api/v1/apps", r#"{"name":"x","runtime":"node","reuse":"yes"}"#, 400, "invalid", "reuse"),
        ("POST", "/api/v1/apps", r#"{"name":"busy","runtime":"node"}"#, 503, "queue_full", ""),
        ("POST", "/api/v1/apps/nobody/start", "", 404, "not_found", ""),
        ("POST", "/api/v1/apps/crm/start", r#"{"enviroments":[]}"#, 400, "unknown_field", "enviroments"),
        ("POST", "/api/v1/apps/nobody/upgrade", "", 404, "not_found", ""),
        ("POST", "/api/v1/apps/crm/upgrade", r#"{"environment":"x"}"#, 400, "unknown_field", "environment"),
        ("POST", "/api/v1/apps/crm/rotate-secret", r#"{"restart":"yes"}"#, 400, "invalid", "restart"),
        ("POST", "/api/v1/apps/crm/move", "", 400, "invalid", "environments"),
        ("POST", "/api/v1/apps/crm/move", r#"{"environments":[]}"#, 400, "invalid", "environments"),
        ("POST", "/api/v1/apps/crm/move", r#"{"hosting":"rented"}"#, 400, "invalid", "hosting"),
        ("POST", "/api/v1/apps/nobody/move", r#"{"environments":["local"]}"#, 404, "not_found", ""),
        ("DELETE", "/api/v1/apps/crm?purge_data=maybe", "", 400, "invalid", "purge_data"),
        ("PUT", "/api/v1/apps/crm", "", 405, "not_found", ""),
        ("GET", "/api/v1/operations/01K", "", 404, "not_found", ""),
        ("GET", "/api/v1/operations/01K?wait=30", "", 400, "invalid", "wait"),
        ("GET", "/api/v1/apps/crm/logs?since=10m", "", 400, "invalid", "since"),
        ("GET", "/api/v1/apps/crm/logs?environment=mars", "", 404, "not_found", "environment"),
        ("GET", "/api/v1/environments/mars", "", 404, "not_found", ""),
        ("GET", "/api/v1/events?since=x", "", 400, "invalid", "since"),
        ("POST", "/api/v1/tokens", r#"{"name":"a b"}"#, 400, "invalid", "name"),
        ("POST", "/api/v1/tokens", r#"{"name":"a","role":"king"}"#, 400, "invalid", "role"),
        ("DELETE", "/api/v1/tokens/nobody", "", 404, "not_found", ""),
        ("GET", "/nowhere", "", 404, "not_found", ""),
    ];
    for (method, path, body, status, code, field) in table {
        let answer = room.ask(method, path, &[], body).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{method} {path} {body}: {answer:?}");
        let problem = answer.json();
        assert_eq!(problem["field"].as_str().unwrap_or_default(), field, "{method} {path}: {problem}");
        assert!(problem["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{method} {path}: {problem}");
    }
}

#[tokio::test]
async fn several_faults_are_told_at_once() {
    let room = open().await;
    let body = r#"{"name":"Crm","runtime":"node","limits":{"memory_max":"1 gig"}}"#;
    let problem = room.ask("POST", "/api/v1/apps", &[], body).await.json();
    assert_eq!(problem["errors"].as_array().map(Vec::len), Some(2), "{problem}");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_however_it_is_sent() {
    let room = open().await;
    let long = format!("{{\"name\":\"{}\"}}", "x".repeat(nbs_core::limits::BODY_MAX));
    let mut stream = UnixStream::connect(&room.socket).await.unwrap();
    let head = format!(
        "POST /api/v1/apps HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        long.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 413") && text.contains("too_large"), "{text}");

    let mut chunked = String::from(
        "POST /api/v1/apps HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    let _ = write!(chunked, "{:x}\r\n{long}\r\n0\r\n\r\n", long.len());
    let stream = UnixStream::connect(&room.socket).await.unwrap();
    let answer = Room::exchange(stream, &chunked).await;
    assert_eq!(answer.code(), "too_large");
}
