//! Logs and events: whole, and going on.

use crate::room::open;

#[tokio::test]
async fn logs_are_lines_of_json() {
    let room = open().await;
    room.create("crm").await;
    let answer = room.get("/api/v1/apps/crm/logs?lines=2").await;
    assert!(answer.head.contains("application/x-ndjson"), "{}", answer.head);
    assert_eq!(answer.text, "{\"at\":null,\"text\":\"two\"}\n{\"at\":null,\"text\":\"three\"}\n");
}

#[tokio::test]
async fn logs_go_on_as_lines_or_as_events() {
    let room = open().await;
    room.create("crm").await;
    let path = "/api/v1/apps/crm/logs?follow=true&lines=1";
    let text = room.read_until(path, &[], |text| text.contains("s=4\"}\n")).await;
    let four = "{\"at\":\"2026-11-21T03:00:00.000Z\",\"text\":\"four\",\"cursor\":\"s=4\"}\n";
    assert!(text.contains(&format!("{{\"at\":null,\"text\":\"three\"}}\n{four}")), "{text}");
    let text = room.read_until(path, &["Accept: text/event-stream"], |text| text.contains("four")).await;
    assert!(
        text.contains("text/event-stream") && text.contains("data: {\"at\":null,\"text\":\"three\"}\n\n"),
        "{text}"
    );
}

#[tokio::test]
async fn a_log_goes_on_from_a_cursor_and_says_what_is_none() {
    let room = open().await;
    room.create("crm").await;
    let answer = room.get("/api/v1/apps/crm/logs?cursor=s=4").await;
    assert_eq!(answer.text, "{\"at\":null,\"text\":\"five\"}\n");
    for query in ["cursor=x", "cursor=s=4&since=1m"] {
        let answer = room.get(&format!("/api/v1/apps/crm/logs?{query}")).await;
        let problem = answer.json();
        assert_eq!((&problem["status"], &problem["field"]), (&400.into(), &"cursor".into()), "{query}: {problem}");
    }
}

#[tokio::test]
async fn events_go_on_from_the_last_one_seen() {
    let room = open().await;
    for name in ["a", "b", "c"] {
        room.create(name).await;
    }
    let list = room.get("/api/v1/events?since=1").await.json();
    assert_eq!(list["events"][0]["seq"], 2);
    let headers = ["Accept: text/event-stream", "Last-Event-ID: 2"];
    let more = async {
        crate::pause::pause(std::time::Duration::from_millis(50), "the follower is there before the event").await;
        room.create("d").await
    };
    let (text, _) = tokio::join!(room.read_until("/api/v1/events", &headers, |text| text.contains("id: 4\n")), more);
    assert!(text.contains("id: 3\nevent: app_changed\ndata: {\"seq\":3,") && !text.contains("id: 2\n"), "{text}");
}
