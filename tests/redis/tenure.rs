//! Who the worker of an environment is.

use std::time::Duration;

use nbs_core::fleet::Bus;
use nbs_core::limits::LEASE_LOST;
use nbsupervisor::redis_bus::worker::Tenure;
use tokio::time::Instant;

use crate::redis::RedisServer;
use crate::rig::*;

const LEASE: &str = "nbs:v1:env:env_a:lease";

#[tokio::test]
async fn the_same_daemon_takes_its_environment_back_at_once_with_a_higher_epoch() {
    let redis = RedisServer::start();
    let mut first = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    let before = first.holds().await;
    first.stop().await;
    let begun = Instant::now();
    let second = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    assert_eq!(second.holds().await, before + 1);
    assert!(begun.elapsed() < LEASE_LOST, "it did not wait until its own lease ran out: {:?}", begun.elapsed());
}

#[tokio::test]
async fn another_daemon_is_refused_by_the_holders_host_and_takes_over_when_that_is_gone() {
    let (log, _guard) = Log::take();
    let redis = RedisServer::start();
    let mut entry = EntrySide::start(&redis.url(), "entry-1", 1);
    entry.hears_bus(Bus::Up).await;
    let mut first = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    let before = first.holds().await;
    let mut second = WorkerSide::start(&redis.url(), "env_a", "worker-2");
    let refused = second.tenure("it is refused", |tenure| matches!(tenure, Tenure::Refused(_))).await;
    let Tenure::Refused(why) = refused else { panic!() };
    assert!(why.contains("worker-1.example") && why.contains("env_a"), "{why}");
    entry.order("env_a", run(&entry.reign, "crm", 5, Some(1))).await;
    first.ordered().await;
    assert!(second.hears_for(Duration::from_secs(5)).await.is_empty(), "it is idle");
    assert_eq!(log.count("this worker is idle"), 1, "said once: {}", log.text());
    first.stop().await;
    assert_eq!(second.holds().await, before + 1);
}

#[tokio::test]
async fn a_copy_of_a_host_ends_the_one_that_had_the_name() {
    let redis = RedisServer::start();
    let mut first = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    first.holds().await;
    let second = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    second.holds().await;
    let ended = first.tenure("it is to end", |tenure| matches!(tenure, Tenure::Cloned(_))).await;
    let Tenure::Cloned(why) = ended else { panic!() };
    assert!(why.contains("copy") && why.contains("machine-id"), "{why}");
    first.ended().await;
    second.holds().await;
}

#[tokio::test]
async fn a_forged_lease_stops_nobody() {
    let redis = RedisServer::start();
    let mut worker = WorkerSide::start(&redis.url(), "env_a", "worker-1");
    let epoch = worker.holds().await;
    let genuine = redis.cli(&["GET", LEASE]);
    let proof = genuine.split_once("\"m\":").unwrap().1.rsplit_once("\"").unwrap().0;
    let proof = proof.split_once(",\"owner").map_or(proof, |(before, _)| before.trim_end_matches('"'));
    for forged in [
        r#"{"owner":"evil","epoch":9,"host":"evil","m":"x"}"#.to_string(),
        r#"{"owner":"worker-1","epoch":99,"host":"evil","m":"x"}"#.to_string(),
        format!(r#"{{"owner":"evil","epoch":9,"host":"evil","m":{proof}"}}"#),
        "nonsense".to_string(),
        r#"{"owner":"worker-1","epoch":1e300}"#.to_string(),
    ] {
        redis.cli(&["SET", LEASE, &forged]);
        until("the lease is the worker's again", || match redis.cli(&["GET", LEASE]) {
            text if text.contains("worker-1.example") => Ok(()),
            text => Err(format!("{text}; tenure {:?}", *worker.handle.tenure().borrow())),
        })
        .await;
        assert_eq!(worker.holds().await, epoch);
    }
    assert!(worker.handle.refused() >= 2);
    assert!(worker.hears_for(Duration::from_millis(1)).await.len() < 20);
}
