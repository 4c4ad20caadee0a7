//! Who the entry is: one at a time, and whoever comes second waits to be told.

use std::time::Duration;

use nbs_core::fleet::Bus;
use nbs_core::id::Epoch;
use nbsupervisor::ports::{News, Outgoing};

use crate::redis::RedisServer;
use crate::rig::*;

async fn is_fenced(entry: &mut EntrySide) -> String {
    entry
        .hears("that it is fenced", |news| match news {
            News::Bus(Bus::Fenced(why)) => Some(why.clone()),
            _ => None,
        })
        .await
}

#[tokio::test]
async fn a_second_entry_only_watches_and_can_append_nothing() {
    let redis = RedisServer::start();
    let mut first = EntrySide::start(&redis.url(), "entry-1", 4);
    first.hears_bus(Bus::Up).await;
    let mut worker = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    first.hears_hello("env_a").await;
    // Its epoch is higher, which alone gives it nothing.
    let mut second = EntrySide::start(&redis.url(), "entry-2", 9);
    let why = is_fenced(&mut second).await;
    assert!(why.contains("entry-1.example") && why.contains("read-only"), "{why}");
    second.order("env_a", run(&second.reign, "crm", 5, Some(1))).await;
    second.intent("env_a", "crm", Some(run(&second.reign, "crm", 5, None))).await;
    first.order("env_a", run(&first.reign, "shop", 6, Some(1))).await;
    assert_eq!(worker.ordered().await.order.app, app("shop"));
    assert_eq!(redis.cli(&["EXISTS", "nbs:v1:env:env_a:intents", "nbs:v1:start:crm"]), "0");
    let heard = second.hears_for(Duration::from_secs(1)).await;
    assert!(!heard.iter().any(|news| matches!(news, News::Report(..))), "it takes no reports away: {heard:?}");
}

#[tokio::test]
async fn a_promoted_entry_takes_over_and_the_first_is_fenced() {
    let redis = RedisServer::start();
    let mut first = EntrySide::start(&redis.url(), "entry-1", 4);
    let mut worker = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    first.hears_hello("env_a").await;
    let mut second = EntrySide::start(&redis.url(), "entry-2", 2);
    is_fenced(&mut second).await;
    second.handle.promote();
    second.hears_bus(Bus::Ahead(Epoch(4))).await;
    // What the fleet does with it: the next epoch, committed, and then told.
    second.reign = reign("entry-2", 5);
    second.outgoing.send(Outgoing::Reign(second.reign.clone())).await.unwrap();
    second.hears_bus(Bus::Up).await;
    second.hears_hello("env_a").await;
    assert!(is_fenced(&mut first).await.contains("entry-2.example"));
    first.order("env_a", run(&first.reign, "crm", 5, Some(1))).await;
    second.order("env_a", run(&second.reign, "crm", 6, Some(1))).await;
    assert_eq!(worker.ordered().await.order.reign, second.reign);
    assert_eq!(worker.handle.follows(), Some(second.reign.clone()));
}

#[tokio::test]
async fn an_entry_whose_record_is_an_older_copy_goes_on_above_what_redis_knows() {
    let redis = RedisServer::start();
    let mut entry = EntrySide::start(&redis.url(), "entry-1", 7);
    entry.hears_bus(Bus::Up).await;
    entry.stop().await;
    let mut restored = EntrySide::start(&redis.url(), "entry-1", 3);
    restored.hears_bus(Bus::Ahead(Epoch(7))).await;
    restored.outgoing.send(Outgoing::Reign(reign("entry-1", 8))).await.unwrap();
    restored.hears_bus(Bus::Up).await;
}

#[tokio::test]
async fn the_same_entry_goes_on_at_once_after_a_restart() {
    let redis = RedisServer::start();
    let mut entry = EntrySide::start(&redis.url(), "entry-1", 1);
    let mut worker = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    entry.hears_hello("env_a").await;
    entry.stop().await;
    let mut next = EntrySide::start(&redis.url(), "entry-1", 2);
    let begun = tokio::time::Instant::now();
    next.hears_bus(Bus::Up).await;
    next.hears_hello("env_a").await;
    next.order("env_a", run(&next.reign, "crm", 5, Some(1))).await;
    worker.ordered().await;
    assert!(begun.elapsed() < Duration::from_secs(4), "the roll call is not waited for: {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_copied_record_of_an_earlier_entry_fences_nobody() {
    let redis = RedisServer::start();
    let mut old = EntrySide::start(&redis.url(), "entry-0", 1);
    old.hears_bus(Bus::Up).await;
    let record = redis.cli(&["GET", "nbs:v1:entry"]);
    old.stop().await;
    redis.cli(&["DEL", "nbs:v1:entry"]);
    let mut entry = EntrySide::start(&redis.url(), "entry-1", 2);
    entry.hears_bus(Bus::Up).await;
    redis.cli(&["SET", "nbs:v1:entry", &record]);
    until("the entry has taken it back", || match redis.cli(&["GET", "nbs:v1:entry"]) {
        text if text.contains("entry-1") => Ok(()),
        text => Err(text),
    })
    .await;
    let heard = entry.hears_for(Duration::from_millis(500)).await;
    assert!(!heard.iter().any(|news| matches!(news, News::Bus(Bus::Fenced(_)))), "{heard:?}");
    assert!(entry.handle.refused() > 0);
}
