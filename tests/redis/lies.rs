//! Whoever has the password of Redis can write whatever he likes, and is believed in nothing.

use std::time::Duration;

use nbs_core::fleet::Bus;
use nbs_core::order::Report;
use nbs_core::phase::Phase;
use nbsupervisor::ports::{News, Word};
use nbsupervisor::security::envelope::{Address, MacKind, Session, SignedKind, mac, signed};
use nbsupervisor::wire::redis::{write_order, write_report};

use crate::pause::pause;
use crate::redis::RedisServer;
use crate::rig::*;

const ORDERS: &str = "nbs:v1:env:env_a:orders";
const REPORTS: &str = "nbs:v1:reports";
const LEASE: &str = "nbs:v1:env:env_a:lease";
const INTENTS: &str = "nbs:v1:env:env_a:intents";
/// Lines in one minute.
const LINES: usize = 6;

/// The session that the entry names in its record, which everybody can read.
fn session(redis: &RedisServer) -> Session {
    let record = redis.cli(&["GET", "nbs:v1:entry"]).replace('\\', "");
    let at = record.find("\"session\":\"").unwrap() + "\"session\":\"".len();
    Session::parse(&record[at..at + 32]).unwrap()
}

fn refusals(log: &Log) -> usize {
    log.count("was refused")
}

#[tokio::test]
async fn orders_of_another_fleet_do_nothing_and_fill_no_log() {
    let (log, _guard) = Log::take();
    let redis = RedisServer::start();
    let mut worker = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    worker.holds().await;
    let order = run(&reign("entry-1", 9), "crm", 5, Some(1));
    let stolen = fleet("another fleet");
    let body = write_order(&order, &stolen.environment(&worker.name)).unwrap();
    let message = signed::Message {
        to: Address::One(worker.name.clone()),
        kind: SignedKind::Order,
        entry: "entry-1".into(),
        epoch: order.reign.epoch,
        issued_ms: 1_900_000_000_000,
        body,
    };
    let forged = signed::wrap(&stolen.signer(), &message).unwrap();
    for _ in 0..50 {
        redis.cli(&["XADD", ORDERS, "*", "m", &forged]);
        redis.cli(&["XADD", ORDERS, "*", "m", "nonsense"]);
        redis.cli(&["XADD", ORDERS, "*", "other", "field"]);
        redis.cli(&["HSET", INTENTS, "crm", &forged]);
        redis.cli(&["SET", "nbs:v1:entry", &format!("{{\"owner\":\"entry-1\",\"epoch\":9,\"signed\":\"x\"}}")]);
    }
    until("all were looked at", || match worker.handle.refused() {
        150.. => Ok(()),
        count => Err(count.to_string()),
    })
    .await;
    let heard = worker.hears_for(Duration::from_secs(5)).await;
    assert!(heard.iter().all(|word| matches!(word, Word::Tell)), "{heard:?}");
    assert!((1..=LINES).contains(&refusals(&log)), "{}", log.text());
    assert_eq!(worker.handle.follows(), None);
    assert_eq!(redis.cli(&["XPENDING", ORDERS, "worker"]).lines().next(), Some("0"), "none is looked at again");
}

#[tokio::test]
async fn a_genuine_order_cannot_be_sent_again_to_another_environment() {
    let redis = RedisServer::start();
    let mut entry = EntrySide::start(&redis.url(), "entry-1", 1);
    let mut worker = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    let mut other = WorkerSide::start(&redis.url(), "env_b", "worker-2");
    entry.hears_hello("env_a").await;
    other.holds().await;
    entry.order("env_a", run(&entry.reign, "crm", 5, Some(1))).await;
    worker.ordered().await;
    let copies = redis.cli(&["XRANGE", ORDERS, "-", "+"]);
    let order = copies.lines().find(|line| line.contains("\"kind\":\"order\"")).unwrap();
    redis.cli(&["XADD", "nbs:v1:env:env_b:orders", "*", "m", order]);
    until("it was looked at", || if other.handle.refused() > 0 { Ok(()) } else { Err("0".to_string()) }).await;
    let heard = other.hears_for(Duration::from_millis(200)).await;
    assert!(!heard.iter().any(|word| matches!(word, Word::Order(_))), "{heard:?}");
}

#[tokio::test]
async fn orders_of_an_entry_that_was_followed_by_another_are_known_as_foreign() {
    let redis = RedisServer::start();
    let mut old = EntrySide::start(&redis.url(), "entry-1", 1);
    let mut worker = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    old.hears_hello("env_a").await;
    let record = redis.cli(&["GET", "nbs:v1:entry"]);
    old.stop().await;
    let mut new = EntrySide::start(&redis.url(), "entry-1", 2);
    new.hears_hello("env_a").await;
    new.stop().await;
    // The record of the reign before is genuine, and past.
    redis.cli(&["SET", "nbs:v1:entry", &record]);
    until("it was looked at", || if worker.handle.refused() > 0 { Ok(()) } else { Err("0".to_string()) }).await;
    assert_eq!(worker.handle.follows(), Some(reign("entry-1", 2)));
    assert!(!worker.hears_for(Duration::from_millis(100)).await.iter().any(|word| matches!(word, Word::Order(_))));
}

#[tokio::test]
async fn reports_and_beats_that_are_forged_show_nothing_and_fill_no_log() {
    let (log, _guard) = Log::take();
    let redis = RedisServer::start();
    let mut entry = EntrySide::start(&redis.url(), "entry-1", 1);
    entry.hears_bus(Bus::Up).await;
    let report = Report::Instance(Box::new(instance("crm", 5, Phase::Running)));
    let thief = fleet("another fleet").environment(&environment("env_a"));
    let message =
        |kind, n, body: String| mac::wrap(&thief, &mac::Message { kind, n, session: session(&redis), body }).unwrap();
    for n in 1..=50 {
        let forged = message(MacKind::Report, n, write_report(&report).unwrap());
        redis.cli(&["XADD", REPORTS, "*", "e", "env_a", "m", &forged]);
        redis.cli(&["XADD", REPORTS, "*", "e", "no env!", "m", "{}"]);
        redis.cli(&["XADD", REPORTS, "*", "x", "y"]);
    }
    for n in 1..=4 {
        let beat = message(MacKind::Beat, n, "{\"v\":1}".into());
        let lease = serde_json::json!({ "owner": "evil", "epoch": n, "host": "evil", "m": beat }).to_string();
        redis.cli(&["SET", LEASE, &lease]);
        redis.cli(&["SET", "nbs:v1:env:env_a:usage", &beat]);
        pause(Duration::from_millis(1_100), "the entry looks once a second").await;
    }
    until("all were looked at", || match entry.handle.refused() {
        153.. => Ok(()),
        count => Err(count.to_string()),
    })
    .await;
    let heard = entry.hears_for(Duration::from_millis(200)).await;
    assert!(!heard.iter().any(|news| matches!(news, News::Report(..))), "{heard:?}");
    assert!((1..=LINES).contains(&refusals(&log)), "{}", log.text());
    assert_eq!(entry.handle.usage(&environment("env_a")), None);
}

#[tokio::test]
async fn what_a_worker_once_said_does_not_make_it_look_alive() {
    let redis = RedisServer::start();
    let mut entry = EntrySide::start(&redis.url(), "entry-1", 1);
    let mut worker = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    entry.hears_hello("env_a").await;
    worker.report(instance("crm", 5, Phase::Running)).await;
    entry.hears_instance("env_a", "crm").await;
    let mut leases = vec![redis.cli(&["GET", LEASE])];
    entry.hears_alive("env_a").await;
    until("a later beat", || {
        let lease = redis.cli(&["GET", LEASE]);
        if leases.contains(&lease) {
            return Err("the same".to_string());
        }
        leases.push(lease);
        Ok(())
    })
    .await;
    entry.hears_alive("env_a").await;
    let reports = redis.cli(&["XRANGE", REPORTS, "-", "+"]);
    worker.stop().await;
    entry.hears_for(Duration::from_secs(2)).await;
    let told: Vec<&str> = reports.lines().filter(|line| line.contains("\"mac\"")).collect();
    assert!(told.len() >= 2, "{reports}");
    for round in 0..3 {
        for lease in &leases {
            redis.cli(&["SET", LEASE, lease]);
            pause(Duration::from_millis(1_100), "the entry looks once a second").await;
        }
        for message in &told {
            redis.cli(&["XADD", REPORTS, "*", "e", "env_a", "m", message]);
        }
        let heard = entry.hears_for(Duration::from_millis(500)).await;
        assert!(!heard.iter().any(|news| matches!(news, News::Report(..))), "round {round}: {heard:?}");
    }
    // Nor to an entry that begins anew, and has no numbers of it.
    entry.stop().await;
    let mut next = EntrySide::start(&redis.url(), "entry-1", 2);
    next.hears_bus(Bus::Up).await;
    for text in leases.iter().chain(&leases) {
        redis.cli(&["SET", LEASE, text]);
        redis.cli(&["XADD", REPORTS, "*", "e", "env_a", "m", told[0]]);
        pause(Duration::from_millis(1_100), "the entry looks once a second").await;
    }
    let heard = next.hears_for(Duration::from_millis(500)).await;
    assert!(!heard.iter().any(|news| matches!(news, News::Report(..))), "{heard:?}");
}

/// Writes something of the wrong kind, of the wrong type, or too large, into each key.
fn spoil(redis: &RedisServer, round: usize) {
    let large = "x".repeat(100_000);
    let values = ["", "\u{1}", "{}", "[]", "{\"owner\":7,\"epoch\":\"x\"}", "{\"v\":99}", &large, "-1", "1e400"];
    for (at, key) in redis.keys().iter().enumerate() {
        redis.cli(&["DEL", key]);
        match (round + at) % 5 {
            0 => redis.cli(&["SET", key, values[round % values.len()]]),
            1 => redis.cli(&["LPUSH", key, values[(round + at) % values.len()]]),
            2 => redis.cli(&["HSET", key, "field", values[(round + at) % values.len()]]),
            3 => redis.cli(&["XADD", key, "*", "m", values[(round + at) % values.len()]]),
            _ => redis.cli(&["ZADD", key, "1", "member"]),
        };
    }
}

#[tokio::test]
async fn garbage_in_every_key_is_survived_by_both_sides() {
    let (log, _guard) = Log::take();
    let redis = RedisServer::start();
    let mut entry = EntrySide::start(&redis.url(), "entry-1", 1);
    let mut worker = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    entry.hears_hello("env_a").await;
    entry.intent("env_a", "crm", Some(run(&entry.reign, "crm", 1, None))).await;
    entry.order("env_a", run(&entry.reign, "crm", 1, Some(1))).await;
    worker.ordered().await;
    for round in 0..10 {
        spoil(&redis, round);
        // The fleet would order again; so does the test, as what was in the stream is gone.
        let seq = 10 + round as u64;
        let mut heard = false;
        for _ in 0..20 {
            entry.order("env_a", run(&entry.reign, "crm", seq, None)).await;
            let words = worker.hears_for(Duration::from_millis(500)).await;
            heard = words.iter().any(|word| matches!(word, Word::Order(slip) if slip.order.intent_seq.0 == seq));
            if heard {
                break;
            }
        }
        assert!(heard, "round {round}: {}", log.text());
    }
    until("the worker is heard", || match redis.cli(&["GET", LEASE]) {
        text if text.contains("worker-1.example") => Ok(()),
        text => Err(text.chars().take(200).collect()),
    })
    .await;
    entry.hears_for(Duration::from_secs(5)).await;
    entry.hears_alive("env_a").await;
    let report = instance("crm", 77, Phase::Running);
    worker.report(report.clone()).await;
    while entry.hears_instance("env_a", "crm").await != report {}
    assert!(refusals(&log) <= 4 * LINES, "two sides, two minutes at most: {}", log.text());
}

#[tokio::test]
async fn a_record_of_a_version_to_come_is_said_once() {
    let (log, _guard) = Log::take();
    let redis = RedisServer::start();
    let worker = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    worker.holds().await;
    for _ in 0..10 {
        redis.cli(&["XADD", ORDERS, "*", "m", "{\"v\":2,\"new\":true}"]);
    }
    redis.cli(&["XADD", ORDERS, "*", "m", "nonsense"]);
    until("all were looked at", || if worker.handle.refused() > 0 { Ok(()) } else { Err("0".to_string()) }).await;
    assert_eq!(log.count("version 2"), 1, "{}", log.text());
}
