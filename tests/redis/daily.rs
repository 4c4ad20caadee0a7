//! What happens each day: orders go, reports come, and what should be is read by those who come late.

use std::time::Duration;

use nbs_core::fleet::Bus;
use nbs_core::id::{Generation, Seq};
use nbs_core::intent::Intent;
use nbs_core::order::{Goal, Refusal, Report};
use nbs_core::phase::{Phase, Status};
use nbs_core::time::Wall;
use nbs_core::view::AppView;
use nbsupervisor::ports::{News, Outgoing, Word};
use tokio::time::Instant;

use crate::redis::RedisServer;
use crate::rig::*;

#[tokio::test]
async fn an_order_goes_to_its_worker_and_the_report_comes_back() {
    let redis = RedisServer::start();
    let mut entry = EntrySide::start(&redis.url(), "entry-1", 1);
    let mut worker = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    entry.hears_bus(Bus::Up).await;
    let (registration, instances) = entry.hears_hello("env_a").await;
    assert_eq!((registration, instances), (crate::rig::registration(&worker.name), Vec::new()));

    let order = run(&entry.reign, "crm", 5, Some(1));
    entry.order("env_a", order.clone()).await;
    let slip = worker.ordered().await;
    assert_eq!(slip.order, order, "with its secrets, its turn and its reign");
    assert_eq!(worker.handle.follows(), Some(entry.reign.clone()));

    let report = instance("crm", 5, Phase::Running);
    worker.report(report.clone()).await;
    assert_eq!(entry.hears_instance("env_a", "crm").await, report);
    entry.hears_alive("env_a").await;
}

#[tokio::test]
async fn secrets_are_not_readable_in_redis() {
    let redis = RedisServer::start();
    let mut entry = EntrySide::start(&redis.url(), "entry-1", 1);
    let mut worker = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    entry.hears_bus(Bus::Up).await;
    let order = run(&entry.reign, "crm", 5, Some(1));
    entry.intent("env_a", "crm", Some(order.clone())).await;
    entry.order("env_a", order).await;
    worker.ordered().await;
    let intents = redis.cli(&["HGETALL", "nbs:v1:env:env_a:intents"]);
    let orders = redis.cli(&["XRANGE", "nbs:v1:env:env_a:orders", "-", "+"]);
    for text in [intents, orders] {
        assert!(text.contains("crm") && !text.contains("mail-secret") && !text.contains("jwt-secret"), "{text}");
    }
}

#[tokio::test]
async fn a_worker_that_comes_late_reads_what_should_be() {
    let redis = RedisServer::start();
    let mut entry = EntrySide::start(&redis.url(), "entry-1", 1);
    entry.hears_bus(Bus::Up).await;
    let order = run(&entry.reign, "crm", 5, None);
    entry.intent("env_a", "crm", Some(order.clone())).await;
    entry.intent("env_a", "gone", Some(run(&entry.reign, "gone", 6, None))).await;
    entry.intent("env_a", "gone", None).await;
    until("the intents are there", || match redis.cli(&["HKEYS", "nbs:v1:env:env_a:intents"]).as_str() {
        "crm" => Ok(()),
        other => Err(other.into()),
    })
    .await;
    let mut worker = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    assert_eq!(worker.intended().await, order);
}

#[tokio::test]
async fn every_kind_of_report_arrives_as_it_was_told() {
    let redis = RedisServer::start();
    let mut entry = EntrySide::start(&redis.url(), "entry-1", 1);
    let worker = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    entry.hears_hello("env_a").await;
    let reports = [
        Report::Runtimes(registration(&worker.name).runtimes),
        Report::Refused { app: app("crm"), intent_seq: Seq(5), why: Refusal::Busy },
        Report::Stray {
            app: app("odd"),
            run: nbs_core::id::Run { seq: Seq(3), attempt: 1 },
            pid: Some(4),
            adapter: nbs_core::recipe::Adapter::Systemd,
        },
        Report::Removed { app: app("old"), intent_seq: Seq(9) },
    ];
    for report in reports {
        worker.reports.send(News::Report(worker.name.clone(), report.clone())).await.unwrap();
        let fits = |news: &News| matches!(news, News::Report(_, heard) if *heard == report).then_some(());
        entry.hears(&format!("{report:?}"), fits).await;
    }
}

#[tokio::test]
async fn a_full_telling_of_thousands_of_instances_arrives_as_one() {
    let redis = RedisServer::start();
    let mut entry = EntrySide::start(&redis.url(), "entry-1", 1);
    let worker = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    let many: Vec<_> = (0..4_000).map(|n| instance(&format!("app{n}"), n, Phase::Running)).collect();
    *worker.instances.lock().unwrap() = many.clone();
    let told = loop {
        let (_, instances) = entry.hears_hello("env_a").await;
        if !instances.is_empty() {
            break instances;
        }
        worker.reports.send(News::Report(worker.name.clone(), hello(&worker))).await.unwrap();
    };
    assert_eq!(told, many);
    let longest = redis.cli(&["XRANGE", "nbs:v1:reports", "-", "+"]).lines().map(str::len).max().unwrap();
    assert!(longest > 100_000 && longest < 1 << 20, "{longest}");
}

fn hello(worker: &WorkerSide) -> Report {
    let instances = worker.instances.lock().unwrap().clone();
    Report::Hello { registration: registration(&worker.name).into(), instances }
}

#[tokio::test]
async fn an_order_that_is_delivered_twice_can_be_told_from_two_orders() {
    let redis = RedisServer::start();
    let mut entry = EntrySide::start(&redis.url(), "entry-1", 1);
    let mut worker = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    entry.hears_hello("env_a").await;
    entry.order("env_a", run(&entry.reign, "crm", 5, Some(1))).await;
    let first = worker.ordered().await;
    worker.stop().await;
    // As if the daemon had died between taking and acknowledging: everything is pending again.
    redis.cli(&["XGROUP", "SETID", "nbs:v1:env:env_a:orders", "worker", "0"]);
    let mut again = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    let second = again.ordered().await;
    assert_eq!(first.order, second.order, "the same turn, which the core takes once");
    let Goal::Run(goal) = second.order.goal else { panic!() };
    assert_eq!(goal.turn.unwrap().number, 1);
}

#[tokio::test]
async fn a_turn_locks_the_start_until_it_ends() {
    let redis = RedisServer::start();
    let mut entry = EntrySide::start(&redis.url(), "entry-1", 1);
    let mut worker = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    entry.hears_hello("env_a").await;
    entry.order("env_a", run(&entry.reign, "crm", 5, Some(7))).await;
    worker.ordered().await;
    let lock = redis.cli(&["GET", "nbs:v1:start:crm"]);
    assert!(lock.contains("\"turn\":7") && lock.contains("entry-1") && lock.contains("env_a"), "{lock}");
    let lasts: i64 = redis.cli(&["PTTL", "nbs:v1:start:crm"]).parse().unwrap();
    assert!((30_000..=40_000).contains(&lasts), "the runtime's own timeout and the time to begin: {lasts}");
    entry.outgoing.send(Outgoing::TurnEnded { app: app("crm"), number: 6 }).await.unwrap();
    entry.outgoing.send(Outgoing::TurnEnded { app: app("other"), number: 7 }).await.unwrap();
    entry.order("env_a", run(&entry.reign, "later", 8, None)).await;
    worker.ordered().await;
    assert_eq!(redis.cli(&["GET", "nbs:v1:start:crm"]), lock, "another turn's end does not open it");
    entry.outgoing.send(Outgoing::TurnEnded { app: app("crm"), number: 7 }).await.unwrap();
    until("the lock is gone", || match redis.cli(&["EXISTS", "nbs:v1:start:crm"]).as_str() {
        "0" => Ok(()),
        other => Err(other.into()),
    })
    .await;
}

#[tokio::test]
async fn usage_is_fresh_at_the_entry_and_readable_by_people() {
    let redis = RedisServer::start();
    let mut entry = EntrySide::start(&redis.url(), "entry-1", 1);
    let worker = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    entry.hears_hello("env_a").await;
    until("usage is known", || match entry.handle.usage(&worker.name) {
        Some(usage) if usage.host.cpu_percent == Some(12.5) && usage.at_ms > 0 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(redis.cli(&["GET", "nbs:v1:env:env_a:usage"]).contains("cpu_percent"));
    assert!(redis.cli(&["GET", "nbs:v1:env:env_a:heartbeat"]).contains("0.1.0"));
    assert!(redis.cli(&["GET", "nbs:v1:env:env_a:registration"]).contains("concurrent_starts"));
    assert_eq!(redis.cli(&["SMEMBERS", "nbs:v1:environments"]), "env_a");
}

#[tokio::test]
async fn what_is_measured_is_in_redis_at_once() {
    let redis = RedisServer::start();
    let worker = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    worker.holds().await;
    for _ in 0..5 {
        let (before, begun) = (redis.cli(&["GET", "nbs:v1:env:env_a:usage"]), Instant::now());
        worker.measured.send_modify(|count| *count += 1);
        until("the new figures are there", || match redis.cli(&["GET", "nbs:v1:env:env_a:usage"]) {
            now if !now.is_empty() && now != before => Ok(()),
            now => Err(now),
        })
        .await;
        assert!(begun.elapsed() < Duration::from_secs(6), "long before they are due anyway: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn of_a_forgotten_environment_no_key_is_left() {
    let redis = RedisServer::start();
    let mut entry = EntrySide::start(&redis.url(), "entry-1", 1);
    let mut worker = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    entry.hears_hello("env_a").await;
    entry.intent("env_a", "crm", Some(run(&entry.reign, "crm", 5, None))).await;
    worker.hears("a word", |word| matches!(word, Word::Tell).then_some(())).await;
    worker.stop().await;
    entry.outgoing.send(Outgoing::Forgotten(worker.name.clone())).await.unwrap();
    until("its keys are gone", || {
        match redis.keys().into_iter().filter(|key| key.contains("env")).collect::<Vec<_>>() {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        }
    })
    .await;
    let words = worker.hears_for(Duration::from_millis(1)).await;
    assert!(!words.iter().any(|word| matches!(word, Word::Order(_))), "{words:?}");
}

#[tokio::test]
async fn apps_are_shown_to_people_and_the_newest_view_wins() {
    let redis = RedisServer::start();
    let mut entry = EntrySide::start(&redis.url(), "entry-1", 1);
    entry.hears_bus(Bus::Up).await;
    let view = |status| AppView {
        spec: spec("crm").into(),
        generation: Generation(3),
        intent: Intent::Run,
        intent_seq: Seq(5),
        status,
        removing: false,
        created_at: Wall(1),
        instances: Vec::new(),
        last_operation: None,
    };
    entry.handle.show(&app("gone"), Some(&view(Status::Running)));
    entry.handle.show(&app("crm"), Some(&view(Status::Initializing)));
    entry.handle.show(&app("crm"), Some(&view(Status::Running)));
    until("it is shown", || match redis.cli(&["HGET", "nbs:v1:apps", "crm"]) {
        text if text.contains("\"running\"") && text.contains("\"generation\":3") => Ok(()),
        text => Err(text),
    })
    .await;
    assert!(!redis.cli(&["HGETALL", "nbs:v1:apps"]).contains("secret"));
    entry.handle.show(&app("gone"), None);
    until("the other is gone", || match redis.cli(&["HKEYS", "nbs:v1:apps"]).as_str() {
        "crm" => Ok(()),
        other => Err(other.into()),
    })
    .await;
}
