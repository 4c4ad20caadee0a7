//! The bus or systemd goes away and comes back while much is under way.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::bus::{Bus, BusErrorKind, Event, JobResult, Scope};
use crate::machine::Suite;
use crate::rig::{Rig, names, sleeper};

on_each_suite!(
    systemd_executes_itself_anew_during_starts,
    the_bus_is_restarted_during_starts,
    the_bus_is_killed_during_starts
);

async fn systemd_executes_itself_anew_during_starts(suite: Suite) {
    survives(suite, &["systemctl", "daemon-reexec"]).await;
}

async fn the_bus_is_restarted_during_starts(suite: Suite) {
    survives(suite, &["systemctl", "restart", "dbus"]).await;
}

async fn the_bus_is_killed_during_starts(suite: Suite) {
    survives(suite, &["pkill", "-KILL", "-x", "dbus-daemon"]).await;
}

/// Whatever happens, nothing hangs, the end is told, and after `Connected` reading says what is so.
async fn survives(suite: Suite, disturbance: &[&'static str]) {
    let rig = Rig::new(suite).await;
    let (units, properties) = (names("a", 300), sleeper());
    let began = Instant::now();
    let starts = rig.start_all(units.clone(), &properties, 32);
    let disturb = async {
        rig.hears(&units[60], |changed| changed.sub.is_some()).await;
        let (machine, at) = (&rig.machine, Instant::now());
        // The answer may be lost with the bus.
        tokio::task::block_in_place(|| machine.run(disturbance));
        rig.connected(2).await;
        println!("{suite:?}: {disturbance:?}: connected again after {:.2} s", at.elapsed().as_secs_f64());
    };
    let (results, ()) = tokio::join!(starts, disturb);
    assert!(began.elapsed() < Duration::from_secs(120));
    let mut troubled = Vec::new();
    let mut causes = BTreeSet::new();
    for (unit, result) in results {
        match result {
            Ok(JobResult::Done) => {}
            Ok(JobResult::Lost) => troubled.push(unit),
            Err(error) => {
                let kinds = [BusErrorKind::Unavailable, BusErrorKind::TimedOut];
                assert!(kinds.contains(&error.kind), "{unit}: {error:?}");
                causes.insert(error.text.replace(&unit, "it"));
                troubled.push(unit);
            }
            Ok(other) => panic!("{unit}: {other:?}"),
        }
    }
    println!("{suite:?}: {disturbance:?}: {} of {} starts were disturbed: {causes:#?}", troubled.len(), units.len());
    for unit in &troubled {
        if rig.bus.read(unit).await.unwrap().is_none() {
            assert_eq!(rig.run(unit, &properties).await, JobResult::Done);
        }
    }
    for unit in &units {
        let listed = rig.bus.read(unit).await.unwrap().unwrap();
        assert_eq!(listed.main_pid, rig.machine.pid_of_unit(unit), "{unit}");
        assert_eq!(listed.active, "active");
    }
    // Signals are heard again too.
    assert_eq!(rig.run("nbs-test-late.service", &properties).await, JobResult::Done);
    rig.hears("nbs-test-late.service", |changed| changed.sub.as_deref() == Some("running")).await;
    let stopped = rig.bus.stop("nbs-test-late.service").await.unwrap().done().await;
    assert_eq!(stopped, JobResult::Done);
}

#[tokio::test]
async fn without_a_bus_calls_fail_at_once_and_name_the_address() {
    let (events, mut taken) = mpsc::channel(1);
    let bus = Bus::open(Scope::At("unix:path=/nowhere/bus".into()), events);
    crate::rig::eventually("the address is named", || async {
        let error = bus.read("nbs-app-a.service").await.unwrap_err();
        assert_eq!(error.kind, BusErrorKind::Unavailable);
        if error.text.contains("unix:path=/nowhere/bus") { Ok(()) } else { Err(error.text) }
    })
    .await;
    assert!(!bus.is_connected());
    drop(bus);
    assert_eq!(taken.recv().await, None::<Event>);
}
