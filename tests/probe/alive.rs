//! Liveness: failures are counted, the first success after one is told.

use std::time::Duration;

use nbs_core::launch::Question;
use nbs_core::observation::Fact;
use nbsupervisor::ports::{Prober, Watch};
use tokio::time::Instant;

use crate::rig::{Rig, app, exec, get, reply, server};

const INTERVAL: Duration = Duration::from_secs(30);

fn watch(rig: &Rig) -> Watch {
    Watch { interval: INTERVAL, ..rig.watch(None, exec()) }
}

fn failure(line: &str) -> Fact {
    Fact::Liveness(Some(format!("the command exited with status 1: {line}")))
}

#[tokio::test(start_paused = true)]
async fn each_failure_is_told_and_the_first_success_after_it() {
    let mut rig = Rig::new();
    for (code, line) in [(0, ""), (1, "a"), (1, "a"), (0, ""), (0, ""), (1, "b")] {
        rig.runner.will(code, line);
    }
    let began = Instant::now();
    rig.probes.watch_alive(watch(&rig));
    let at = |rounds: u32| {
        let elapsed = began.elapsed();
        assert!(elapsed >= INTERVAL * 9 * rounds / 10 && elapsed <= INTERVAL * 11 * rounds / 10, "{elapsed:?}");
    };
    // `fact` loses patience after 20 s of paused time, so the sequence is read as it comes.
    for (rounds, wanted) in [(2, failure("a")), (3, failure("a")), (4, Fact::Liveness(None)), (6, failure("b"))] {
        assert_eq!(rig.facts.recv().await.unwrap().fact, wanted);
        at(rounds);
    }
}

#[tokio::test(start_paused = true)]
async fn no_failure_is_lost_when_the_worker_is_behind() {
    let mut rig = Rig::with_room(1);
    for line in ["a", "b", "c", "d"] {
        rig.runner.will(1, line);
    }
    rig.probes.watch_alive(watch(&rig));
    tokio::time::sleep(INTERVAL * 20).await;
    assert_eq!(rig.runner.calls(), 2, "one lies in the channel, one waits for room, no further is asked");
    for line in ["a", "b", "c", "d"] {
        assert_eq!(rig.facts.recv().await.unwrap().fact, failure(line));
    }
}

#[tokio::test(start_paused = true)]
async fn unwatch_ends_even_what_waits_for_room() {
    let mut rig = Rig::with_room(1);
    rig.runner.will(1, "a");
    rig.runner.will(1, "b");
    rig.probes.watch_alive(watch(&rig));
    tokio::time::sleep(INTERVAL * 3).await;
    rig.probes.unwatch(&app());
    tokio::time::sleep(INTERVAL).await;
    assert_eq!(rig.facts.recv().await.unwrap().fact, failure("a"));
    tokio::time::sleep(INTERVAL).await;
    assert!(rig.facts.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn who_is_not_asked_costs_nothing() {
    let rig = Rig::new();
    rig.probes.watch_alive(Watch { interval: INTERVAL, ..rig.watch(None, Question::Started) });
    rig.idle().await;
}

#[tokio::test]
async fn a_sick_server_is_told() {
    let mut rig = Rig::new();
    let (address, _) = server(vec![reply(200, ""), reply(500, ""), reply(200, "")]).await;
    rig.probes.watch_alive(rig.watch(address, get("/")));
    assert_eq!(rig.fact().await, Fact::Liveness(Some("status 500".into())));
    assert_eq!(rig.fact().await, Fact::Liveness(None));
}
