//! One unit's life, as it is asked for, read and heard.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use zbus::{MatchRule, MessageStream, Variant};

use crate::bus::{BusErrorKind, JobResult, Who};
use crate::machine::Suite;
use crate::rig::{Rig, address, eventually, service, sleeper};

on_each_suite!(
    a_unit_is_started_read_heard_and_stopped,
    a_failure_is_told_by_job_signal_and_reading,
    a_restart_by_systemd_is_heard,
    a_start_that_hangs_can_be_stopped,
    signals_bring_what_is_wanted_of_them,
    what_others_say_in_systemds_name_is_not_heard
);

fn fields(run: &str) -> Vec<Vec<u8>> {
    ["NBS_INSTANCE=/var/lib/x", "NBS_APP=crm", run].iter().map(|field| field.as_bytes().to_vec()).collect()
}

async fn a_unit_is_started_read_heard_and_stopped(suite: Suite) {
    let rig = Rig::new(suite).await;
    let unit = "nbs-app-crm.service";
    let version = rig.bus.version().await.unwrap();
    assert!(version.starts_with(&suite.systemd().to_string()), "{version}");
    assert_eq!(rig.bus.read(unit).await, Ok(None));
    let mut properties = sleeper();
    properties.push(("LogExtraFields", fields("NBS_RUN=7.2").into()));
    assert_eq!(rig.run(unit, &properties).await, JobResult::Done);

    let snapshot = rig.bus.read(unit).await.unwrap().unwrap();
    assert_eq!((snapshot.active.as_str(), snapshot.sub.as_str()), ("active", "running"));
    assert_eq!(snapshot.main_pid, rig.machine.pid_of_unit(unit));
    assert_eq!(snapshot.invocation, rig.machine.invocation_of(unit));
    assert_eq!(rig.bus.invocation(unit).await, Ok(snapshot.invocation.clone()));
    let marker = snapshot.marker.unwrap();
    assert_eq!((marker.instance.as_str(), marker.app.to_string().as_str()), ("/var/lib/x", "crm"));
    assert_eq!(marker.run.to_string(), "7.2");
    let heard = rig.hears(unit, |changed| changed.sub.as_deref() == Some("running")).await;
    assert_eq!((heard.active.as_deref(), heard.main_pid), (Some("active"), Some(snapshot.main_pid)));

    let listed = rig.bus.list("nbs-*").await.unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((listed[0].unit.as_str(), listed[0].active.as_str()), (unit, "active"));
    assert!(!listed[0].job_pending);

    rig.bus.kill(unit, Who::All, 0).await.unwrap_err();
    assert_eq!(rig.bus.stop(unit).await.unwrap().done().await, JobResult::Done);
    eventually("gone", || async { rig.heard.lock().unwrap().gone.contains(unit).then_some(()).ok_or(String::new()) })
        .await;
    assert_eq!(rig.bus.read(unit).await, Ok(None));
    for error in [rig.bus.stop(unit).await.unwrap_err(), rig.bus.kill(unit, Who::Main, 15).await.unwrap_err()] {
        assert_eq!(error.kind, BusErrorKind::NoSuchUnit, "{error}");
        assert!(error.text.contains(unit), "{error}");
    }
}

async fn a_failure_is_told_by_job_signal_and_reading(suite: Suite) {
    let rig = Rig::new(suite).await;
    let missing = rig.run("nbs-app-a.service", &service("exec", &["/nowhere"])).await;
    assert_eq!(missing, JobResult::Failed);
    let unit = "nbs-app-b.service";
    let exits = service("notify", &["/bin/sh", "-c", "systemd-notify --status=checking; exit 7"]);
    assert_eq!(rig.run(unit, &exits).await, JobResult::Failed);
    let snapshot = rig.bus.read(unit).await.unwrap().unwrap();
    assert_eq!((snapshot.active.as_str(), snapshot.exec_code, snapshot.exec_status), ("failed", 1, 7));
    let heard = rig.hears(unit, |changed| changed.active.as_deref() == Some("failed")).await;
    assert_eq!((heard.exec_code, heard.exec_status), (Some(1), Some(7)));
    assert_eq!(heard.result.as_deref(), Some(snapshot.result.as_str()));

    // What failed is in the way of the next life until it is reset.
    let error = rig.bus.start(unit, &sleeper()).await.unwrap_err();
    assert_eq!(error.kind, BusErrorKind::UnitExists, "{error}");
    rig.bus.reset_failed(unit).await.unwrap();
    assert_eq!(rig.run(unit, &sleeper()).await, JobResult::Done);
}

async fn a_restart_by_systemd_is_heard(suite: Suite) {
    let rig = Rig::new(suite).await;
    let unit = "nbs-app-a.service";
    let mut properties = sleeper();
    properties.extend([("Restart", "always".into()), ("RestartUSec", 0_u64.into())]);
    assert_eq!(rig.run(unit, &properties).await, JobResult::Done);
    let first = rig.bus.read(unit).await.unwrap().unwrap();
    rig.bus.kill(unit, Who::Main, 9).await.unwrap();
    let heard = rig.hears(unit, |heard| heard.restarts == Some(1) && heard.sub.as_deref() == Some("running")).await;
    assert_ne!(heard.main_pid, Some(first.main_pid));
    let second = rig.bus.read(unit).await.unwrap().unwrap();
    assert_eq!((second.restarts, Some(second.main_pid)), (1, heard.main_pid));
    assert_ne!(second.invocation, first.invocation);
    assert_eq!(first.with(heard), second);
}

async fn a_start_that_hangs_can_be_stopped(suite: Suite) {
    let rig = Rig::new(suite).await;
    let unit = "nbs-app-a.service";
    let job = rig.bus.start(unit, &service("notify", &["/bin/sleep", "infinity"])).await.unwrap();
    assert!(rig.bus.list(unit).await.unwrap()[0].job_pending);
    assert_eq!(rig.bus.stop(unit).await.unwrap().done().await, JobResult::Done);
    assert_eq!(job.done().await, JobResult::Canceled);
}

/// The reader counts on it: every property of a `Changed` comes with its value, none is only said to be out of date.
async fn signals_bring_what_is_wanted_of_them(suite: Suite) {
    let rig = Rig::new(suite).await;
    let unit = "nbs-app-a.service";
    let bus = zbus::connection::Builder::address(address(&rig.machine).as_str()).build().await.unwrap();
    let rule = MatchRule::builder().msg_type(zbus::message::Type::Signal).member("PropertiesChanged");
    let rule = rule.path("/org/freedesktop/systemd1/unit/nbs_2dapp_2da_2eservice").build().unwrap();
    let mut signals = MessageStream::for_match_rule(rule, &bus, std::num::NonZeroUsize::new(1000)).await.unwrap();
    let mut properties = service("notify", &["/bin/sh", "-c", "systemd-notify --ready --status=up; sleep infinity"]);
    properties.extend([("Restart", "always".into()), ("RestartUSec", 0_u64.into())]);
    assert_eq!(rig.run(unit, &properties).await, JobResult::Done);
    let (mut brought, mut invalid) = (BTreeSet::new(), BTreeSet::new());
    let mut killed = false;
    loop {
        let message = signals.next().await.unwrap().unwrap();
        let body = message.body();
        type Changes<'a> = (&'a str, std::collections::HashMap<&'a str, Variant<'a>>, Vec<&'a str>);
        let (_, values, without) = body.deserialize::<Changes<'_>>().unwrap();
        brought.extend(values.keys().map(ToString::to_string));
        invalid.extend(without.iter().map(ToString::to_string));
        let sub = values.get("SubState").and_then(|sub| <&str>::try_from(sub).ok());
        match (sub, killed) {
            (Some("running"), true) => break,
            (Some("running"), false) => {
                rig.bus.kill(unit, Who::Main, 9).await.unwrap();
                killed = true;
            }
            _ => {}
        }
    }
    println!("{suite:?}: brought {brought:?}; only said to be out of date {invalid:?}");
    let unit = ["ActiveState", "SubState", "InvocationID"];
    let service = ["Result", "MainPID", "ExecMainCode", "ExecMainStatus", "NRestarts", "StatusText"];
    for wanted in unit.iter().chain(&service) {
        assert!(brought.contains(*wanted) && !invalid.contains(*wanted), "{wanted}");
    }
}

async fn what_others_say_in_systemds_name_is_not_heard(suite: Suite) {
    let rig = Rig::new(suite).await;
    let unit = "nbs-app-a.service";
    let job = rig.bus.start(unit, &service("notify", &["/bin/sleep", "infinity"])).await.unwrap();
    let path = rig.machine.shell(
        "busctl --json=short get-property org.freedesktop.systemd1 \
        /org/freedesktop/systemd1/unit/nbs_2dapp_2da_2eservice org.freedesktop.systemd1.Unit Job | grep -o '/[^\"]*'",
    );
    let say = format!(
        "for to in $(busctl list --unique --no-legend | cut -d' ' -f1); do \
           dbus-send --system --type=signal --dest=$to /org/freedesktop/systemd1 \
             org.freedesktop.systemd1.Manager.JobRemoved uint32:1 objpath:{path} string:{unit} string:done; \
           dbus-send --system --type=signal --dest=$to /org/freedesktop/systemd1 \
             org.freedesktop.systemd1.Manager.UnitRemoved string:{unit} objpath:{path}; done"
    );
    let said = rig.machine.run_as("stranger", &["sh", "-euc", &say]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    // What systemd says later is heard later.
    assert_eq!(rig.run("nbs-app-b.service", &sleeper()).await, JobResult::Done);
    assert_eq!(rig.bus.stop("nbs-app-b.service").await.unwrap().done().await, JobResult::Done);
    eventually("b is gone", || async {
        rig.heard.lock().unwrap().gone.contains("nbs-app-b.service").then_some(()).ok_or(String::new())
    })
    .await;
    assert!(!rig.heard.lock().unwrap().gone.contains(unit));
    assert_eq!(rig.bus.stop(unit).await.unwrap().done().await, JobResult::Done);
    assert_eq!(job.done().await, JobResult::Canceled);
}
