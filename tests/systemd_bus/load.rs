//! Many units at once: what the limits of the bus and of systemd's own connection would break.

use std::time::Instant;

use crate::bus::{Bus, JobResult};
use crate::machine::Suite;
use crate::rig::{Rig, eventually, names, scope, service, sleeper};

on_each_suite!(
    three_hundred_starts_eight_at_a_time,
    six_hundred_slow_starts_asked_at_once_beside_a_thousand_units,
    a_consumer_that_takes_nothing_holds_up_nothing
);

/// Seconds of processor time that this process has had.
fn own_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

async fn three_hundred_starts_eight_at_a_time(suite: Suite) {
    let rig = Rig::new(suite).await;
    let units = names("a", 300);
    let (began, cpu) = (Instant::now(), own_cpu());
    let results = rig.start_all(units.clone(), &sleeper(), 8).await;
    let seconds = began.elapsed().as_secs_f64();
    assert!(results.values().all(|result| *result == Ok(JobResult::Done)), "{results:?}");
    for unit in &units {
        rig.hears(unit, |changed| changed.sub.as_deref() == Some("running")).await;
    }
    let each = (own_cpu() - cpu) * 1000.0 / units.len() as f64;
    println!("{suite:?}: {:.0} starts/s; own processor time {each:.2} ms a start", units.len() as f64 / seconds);

    let (began, cpu) = (Instant::now(), own_cpu());
    for unit in &units {
        let snapshot = rig.bus.read(unit).await.unwrap().unwrap();
        assert_eq!(rig.heard.lock().unwrap().units[unit].main_pid, Some(snapshot.main_pid));
    }
    let seconds = began.elapsed().as_secs_f64();
    let each = (own_cpu() - cpu) * 1000.0 / units.len() as f64;
    println!("{suite:?}: {:.0} readings/s one after the other; {each:.2} ms each", units.len() as f64 / seconds);
    // A debug build takes several times what a release build does.
    assert!(each < 20.0, "{each} ms for reading a unit");
}

async fn six_hundred_slow_starts_asked_at_once_beside_a_thousand_units(suite: Suite) {
    let rig = Rig::new(suite).await;
    let owner = rig.owner();
    let results = rig.start_all(names("a", 1000), &sleeper(), 64).await;
    assert!(results.values().all(|result| *result == Ok(JobResult::Done)), "{results:?}");
    let slow = service("notify", &["/bin/sh", "-c", "sleep 1; systemd-notify --ready; exec sleep infinity"]);
    let began = Instant::now();
    let results = rig.start_all(names("b", 600), &slow, 600).await;
    println!("{suite:?}: 600 slow starts beside 1000 units in {:.1} s", began.elapsed().as_secs_f64());
    assert!(results.values().all(|result| *result == Ok(JobResult::Done)), "{results:?}");
    assert_eq!(rig.owner(), owner, "systemd was cut off from its bus");
    assert_eq!(rig.heard.lock().unwrap().disconnected, 0);
    let began = Instant::now();
    let listed = rig.bus.list("nbs-test-*").await.unwrap();
    println!("{suite:?}: 1600 units listed in {:.0} ms", began.elapsed().as_secs_f64() * 1000.0);
    assert!(listed.len() == 1600 && listed.iter().all(|unit| unit.sub == "running"));
}

async fn a_consumer_that_takes_nothing_holds_up_nothing(suite: Suite) {
    let mut rig = Rig::new(suite).await;
    let (events, mut taken) = tokio::sync::mpsc::channel(1);
    rig.bus = Bus::open(scope(&rig.machine), events);
    eventually("connected", || async { rig.bus.is_connected().then_some(()).ok_or(String::new()) }).await;
    // 14 signals a start and as many a stop: more than twice what the queue before the coalescing can take.
    for round in 0..2 {
        let units = names("a", 400);
        let results = rig.start_all(units.clone(), &sleeper(), 32).await;
        assert!(results.values().all(|result| *result == Ok(JobResult::Done)), "{round}: {results:?}");
        for unit in units {
            let stopped = rig.bus.stop(&unit).await.unwrap().done().await;
            assert_eq!(stopped, JobResult::Done);
        }
    }
    assert_eq!(rig.run("nbs-test-last.service", &sleeper()).await, JobResult::Done);
    let mut count = 0;
    while let Ok(Some(event)) = tokio::time::timeout(std::time::Duration::from_secs(1), taken.recv()).await {
        count += 1;
        let last = format!("{event:?}");
        if last.contains("nbs-test-last.service") && last.contains("running") {
            break;
        }
    }
    // At most two news of each unit: that it went, and what is new since.
    assert!(count <= 2 * 401 + 1, "{count} events");
}
