//! What systemd answers when it refuses, and what we make of it.

use zbus::Variant;

use crate::bus::{BusErrorKind, JobResult, Who};
use crate::machine::Suite;
use crate::rig::{Rig, sleeper};

on_each_suite!(refusals_are_told_apart);

async fn refusals_are_told_apart(suite: Suite) {
    use BusErrorKind as K;
    let rig = Rig::new(suite).await;
    assert_eq!(rig.run("nbs-test-there.service", &sleeper()).await, JobResult::Done);
    rig.machine.write_file("/etc/systemd/system/nbs-test-file.service", "[Service]\nExecStart=/bin/sleep 9\n");
    rig.machine.ok(&["ln", "-s", "/dev/null", "/etc/systemd/system/nbs-test-masked.service"]);
    type Property = (&'static str, Variant<'static>);
    let cases: [(&str, Option<Property>, K, &str); 11] = [
        ("nbs-test-a.service", Some(("MemroyMax", 1_u64.into())), K::BadProperty, "MemroyMax"),
        ("nbs-test-b.service", Some(("MemoryMax", "1G".into())), K::BadProperty, "Unexpected message contents"),
        ("nbs-test-c.service", Some(("KillMode", "softly".into())), K::BadProperty, "KillMode setting: softly"),
        ("nbs-test-d.service", Some(("Slice", "no slice".into())), K::BadProperty, "no slice"),
        ("nbs-test-e.service", Some(("Slice", "dbus.service".into())), K::BadProperty, "dbus.service"),
        ("nbs-test-f.service", Some(("WorkingDirectory", "here".into())), K::BadProperty, "WorkingDirectory"),
        ("nbs-test-there.service", None, K::UnitExists, "already loaded"),
        ("nbs-test-file.service", None, K::UnitExists, "fragment file"),
        ("nbs-test-masked.service", None, K::UnitExists, "fragment file"),
        ("nbs-test-x", None, K::BadProperty, "Invalid unit name"),
        ("nbs-test-x.target", None, K::BadProperty, "target"),
    ];
    for (unit, property, kind, words) in cases {
        let mut properties = sleeper();
        properties.extend(property);
        let error = rig.bus.start(unit, &properties).await.unwrap_err();
        println!("{suite:?}: {error:?}");
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.text.starts_with(&format!("could not start {unit}: ")) && error.text.contains(words), "{error}");
    }
    let error = rig.bus.kill("nbs-test-there.service", Who::Main, 999).await.unwrap_err();
    assert_eq!(error.kind, K::BadProperty, "{error}");
    let error = rig.bus.reset_failed("nbs-test-no.service").await.unwrap_err();
    assert_eq!(error.kind, K::NoSuchUnit, "{error}");
}
