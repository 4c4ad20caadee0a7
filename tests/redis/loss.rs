//! Redis goes, comes back, forgets, or stops answering: nothing waits, and everything is told again.

use std::time::Duration;

use nbs_core::fleet::Bus;
use nbs_core::phase::Phase;
use nbsupervisor::ports::News;
use nbsupervisor::redis_bus::{Cause, Link, Server};
use tokio::time::Instant;

use crate::pause::pause;
use crate::redis::{FlakyLink, RedisServer};
use crate::rig::*;

/// No command takes longer than this, whatever happens; its own bound is 2 s, and the machine may be busy.
const ANSWER: Duration = Duration::from_secs(10);

fn link(url: &str) -> Link {
    Link::alone(&Server::new(url, None, None).unwrap())
}

async fn ping(link: &Link) -> Result<(), Cause> {
    let begun = Instant::now();
    let answer = link.ask(&redis::cmd("PING")).await;
    assert!(begun.elapsed() < ANSWER, "{:?}: {answer:?}", begun.elapsed());
    answer.map(drop).map_err(|trouble| trouble.cause)
}

async fn pings_again(link: &Link, limit: Duration) {
    let begun = Instant::now();
    while let Err(cause) = ping(link).await {
        assert!(begun.elapsed() < limit, "{cause:?} after {:?}", begun.elapsed());
        pause(Duration::from_millis(50), "between two questions").await;
    }
}

#[tokio::test]
async fn a_frozen_redis_holds_no_command_up() {
    let redis = RedisServer::start();
    let link = link(&redis.url());
    assert_eq!(ping(&link).await, Ok(()));
    redis.freeze();
    for _ in 0..6 {
        assert_eq!(ping(&link).await, Err(Cause::Timeout));
    }
    assert_eq!(link.health().borrow().trouble.as_ref().map(|trouble| trouble.cause), Some(Cause::Timeout));
    redis.thaw();
    pings_again(&link, Duration::from_secs(8)).await;
    assert_eq!(link.health().borrow().trouble, None);
}

#[tokio::test]
async fn a_dead_redis_is_said_at_once_and_is_found_again() {
    let (log, _guard) = Log::take();
    let mut redis = RedisServer::start();
    let link = link(&redis.url());
    assert_eq!(ping(&link).await, Ok(()));
    redis.kill();
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(ping(&link).await, Err(Cause::Refused));
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "twenty that wait take 40 s: {:?}", begun.elapsed());
    redis.launch();
    pings_again(&link, Duration::from_secs(8)).await;
    assert_eq!((log.count("cannot be used"), log.count("can be used again")), (1, 1), "{}", log.text());
}

#[tokio::test]
async fn a_connection_that_broke_while_it_was_idle_costs_nothing() {
    let redis = RedisServer::start();
    let flaky = FlakyLink::to(&redis);
    let link = link(&flaky.url());
    for _ in 0..5 {
        assert_eq!(ping(&link).await, Ok(()));
        flaky.cut();
    }
    redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    assert_eq!(ping(&link).await, Ok(()));
}

#[tokio::test]
async fn a_half_open_connection_is_replaced() {
    let redis = RedisServer::start();
    let flaky = FlakyLink::to(&redis);
    let link = link(&flaky.url());
    assert_eq!((ping(&link).await, flaky.accepted()), (Ok(()), 1));
    flaky.swallow();
    assert_eq!((ping(&link).await, flaky.accepted()), (Err(Cause::Timeout), 1));
    assert_eq!((ping(&link).await, flaky.accepted()), (Err(Cause::Timeout), 1));
    flaky.pass();
    pings_again(&link, Duration::from_secs(5)).await;
    assert!(flaky.accepted() > 1);
}

#[tokio::test]
async fn a_slow_line_is_no_dead_line() {
    let redis = RedisServer::start();
    let flaky = FlakyLink::to(&redis);
    flaky.delay(Duration::from_millis(200));
    let mut entry = EntrySide::start(&flaky.url(), "entry-1", 1);
    let mut worker = WorkerSide::start(&flaky.url(), "env_a", "worker-1");
    entry.hears_hello("env_a").await;
    entry.order("env_a", run(&entry.reign, "crm", 5, Some(1))).await;
    worker.ordered().await;
}

#[tokio::test]
async fn readers_that_wait_survive_a_cut_and_a_dead_line() {
    let redis = RedisServer::start();
    let flaky = FlakyLink::to(&redis);
    let mut entry = EntrySide::start(&flaky.url(), "entry-1", 1);
    let mut worker = WorkerSide::start(&flaky.url(), "env_a", "worker-1");
    entry.hears_hello("env_a").await;
    for (seq, length) in [(5, 0), (6, 0), (7, 6)] {
        match length {
            0 => flaky.cut(),
            length => {
                flaky.swallow();
                pause(Duration::from_secs(length), "the line is dead for longer than a reader waits").await;
                flaky.pass();
            }
        }
        // Before the entry has found out, an order may be refused its claim; the fleet would send it again.
        entry.order("env_a", run(&entry.reign, "crm", seq, None)).await;
        assert_eq!(worker.ordered().await.order.intent_seq.0, seq);
        worker.report(instance("crm", seq, Phase::Running)).await;
        while entry.hears_instance("env_a", "crm").await.intent_seq.0 != seq {}
    }
}

#[tokio::test]
async fn a_wiped_redis_is_filled_again_without_a_flood_in_the_log() {
    let (log, _guard) = Log::take();
    let mut redis = RedisServer::start();
    let mut entry = EntrySide::start(&redis.url(), "entry-1", 1);
    let mut worker = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    entry.hears_hello("env_a").await;
    redis.kill();
    entry.hears_bus(Bus::Down).await;
    worker.report(instance("crm", 4, Phase::Running)).await;
    pause(Duration::from_secs(3), "both sides try and fail for a while").await;
    redis.launch();
    entry.hears_bus(Bus::Wiped).await;
    entry.hears_bus(Bus::Up).await;
    entry.hears_hello("env_a").await;
    entry.hears_alive("env_a").await;
    let order = run(&entry.reign, "crm", 5, Some(2));
    entry.order("env_a", order.clone()).await;
    assert_eq!(worker.ordered().await.order, order);
    until("everything is there again", || {
        let keys = redis.keys();
        let wanted = ["entry", "entry:lease", "env:env_a:epoch", "env:env_a:lease", "env:env_a:orders"];
        let more = ["env:env_a:registration", "environments", "reports", "start:crm"];
        let missing = wanted.iter().chain(&more).find(|key| !keys.contains(&format!("nbs:v1:{key}")));
        missing.map_or(Ok(()), |key| Err(format!("{key} is missing")))
    })
    .await;
    for role in ["entry", "worker"] {
        let of = |words: &str| {
            let fits = |line: &&str| line.contains(words) && line.contains(&format!("role=\"{role}\""));
            log.text().lines().filter(fits).count()
        };
        assert_eq!((of("cannot be used"), of("can be used again")), (1, 1), "{role}: {}", log.text());
    }
    assert!(log.text().lines().count() <= 10, "{}", log.text());
}

#[tokio::test]
async fn a_flush_is_seen_within_a_renewal() {
    let redis = RedisServer::start();
    let mut entry = EntrySide::start(&redis.url(), "entry-1", 1);
    let mut worker = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    entry.hears_hello("env_a").await;
    redis.cli(&["FLUSHALL"]);
    redis.cli(&["SCRIPT", "FLUSH"]);
    entry.hears_bus(Bus::Wiped).await;
    entry.hears_hello("env_a").await;
    entry.order("env_a", run(&entry.reign, "crm", 5, Some(2))).await;
    worker.ordered().await;
}

#[tokio::test]
async fn streams_and_groups_that_vanish_are_made_again_in_silence() {
    let (log, _guard) = Log::take();
    let redis = RedisServer::start();
    let mut entry = EntrySide::start(&redis.url(), "entry-1", 1);
    let mut worker = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    entry.hears_hello("env_a").await;
    for seq in 5..8 {
        redis.cli(&["XGROUP", "DESTROY", "nbs:v1:reports", "entry"]);
        redis.cli(&["DEL", "nbs:v1:env:env_a:orders"]);
        entry.order("env_a", run(&entry.reign, "crm", seq, None)).await;
        while worker.ordered().await.order.intent_seq.0 != seq {}
        worker.report(instance("crm", seq, Phase::Running)).await;
        while entry.hears_instance("env_a", "crm").await.intent_seq.0 != seq {}
    }
    assert_eq!(log.text(), "");
}

#[tokio::test]
async fn a_redis_that_keeps_its_data_is_no_wiped_one() {
    let mut redis = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
    let mut entry = EntrySide::start(&redis.url(), "entry-1", 1);
    let mut worker = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    entry.hears_hello("env_a").await;
    redis.kill();
    entry.hears_bus(Bus::Down).await;
    redis.launch();
    let heard = entry.hears("up again", |news| match news {
        News::Bus(bus) => Some(bus.clone()),
        _ => None,
    });
    assert_eq!(heard.await, Bus::Up);
    entry.order("env_a", run(&entry.reign, "crm", 5, Some(2))).await;
    worker.ordered().await;
}

#[tokio::test]
async fn reports_of_a_time_without_redis_come_later_and_of_each_app_the_last_one() {
    let mut redis = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
    let mut entry = EntrySide::start(&redis.url(), "entry-1", 1);
    let worker = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    entry.hears_hello("env_a").await;
    entry.hears_for(Duration::from_millis(500)).await;
    redis.kill();
    for seq in 1..200 {
        worker.report(instance("crm", seq, Phase::Running)).await;
        worker.report(instance("shop", seq, Phase::Failed)).await;
    }
    redis.launch();
    assert_eq!(entry.hears_instance("env_a", "crm").await.intent_seq.0, 199);
    assert_eq!(entry.hears_instance("env_a", "shop").await.intent_seq.0, 199);
}

#[tokio::test]
async fn a_full_redis_is_said_once_and_used_when_there_is_room() {
    let (log, _guard) = Log::take();
    let redis = RedisServer::start();
    let mut entry = EntrySide::start(&redis.url(), "entry-1", 1);
    entry.hears_bus(Bus::Up).await;
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    entry.hears_bus(Bus::Down).await;
    for seq in 1..100 {
        entry.order("env_a", run(&entry.reign, &format!("app{seq}"), seq, None)).await;
    }
    pause(Duration::from_secs(6), "reads work and writes do not, several times").await;
    assert_eq!(log.count("raise maxmemory"), 1, "{}", log.text());
    assert_eq!(log.count("can be used again"), 0, "{}", log.text());
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    entry.hears_bus(Bus::Up).await;
    until("the good news are said", || match log.count("can be used again") {
        1 => Ok(()),
        count => Err(format!("{count}: {}", log.text())),
    })
    .await;
}

#[tokio::test]
async fn a_replica_is_refused_until_it_takes_writes() {
    let (log, _guard) = Log::take();
    let redis = RedisServer::start();
    let mut entry = EntrySide::start(&redis.url(), "entry-1", 1);
    entry.hears_bus(Bus::Up).await;
    redis.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    entry.hears_bus(Bus::Down).await;
    pause(Duration::from_secs(5), "it is tried several times").await;
    assert_eq!(log.count("point the URL at the primary"), 1, "{}", log.text());
    redis.cli(&["REPLICAOF", "NO", "ONE"]);
    entry.hears_bus(Bus::Up).await;
}
