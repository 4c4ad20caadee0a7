//! Apps as units of the host: where they are found, and what systemd says of them.

use crate::apps::{Adapter, machine_with};
use crate::machine::{DAEMON, Suite};
use crate::recipes::SLEEPER;

on_each_suite_with!(Systemd as systemd:
    an_app_is_a_unit_of_its_own,
    a_stopped_app_leaves_no_unit,
    a_foreign_unit_of_the_same_name_is_left_alone,
);

fn an_app_is_a_unit_of_its_own(suite: Suite, adapter: Adapter) {
    let machine = machine_with(suite, adapter, &[SLEEPER]);
    machine.app_create("steady", "sleeper", "with-supervisor");
    let unit = adapter.unit("steady").unwrap();
    assert_eq!(machine.unit_property(&unit, "ActiveState"), "active");
    assert_eq!(machine.unit_property(&unit, "Slice"), "nbsupervisor-apps.slice");
    assert_eq!(machine.pid_of_unit(&unit), machine.app_pid("steady"));
    let app = machine.app("steady");
    assert_eq!(app["instances"][0]["unit"], unit.as_str(), "{app:#}");
    assert_eq!(app["instances"][0]["adapter"], "systemd", "{app:#}");
    let group = machine.unit_property(&unit, "ControlGroup");
    let of_daemon = machine.unit_property(DAEMON, "ControlGroup");
    assert!(!group.is_empty() && !group.starts_with(&of_daemon), "{group} is not below {of_daemon}");
    let status = machine.ok(&["systemctl", "status", "--no-pager", &unit]);
    assert!(status.contains("steady"), "{status}");
    let journal = machine.ok(&["journalctl", "--no-pager", "-o", "json", "NBS_APP=steady"]);
    assert!(!journal.is_empty(), "the journal knows the app by its field");
}

fn a_stopped_app_leaves_no_unit(suite: Suite, adapter: Adapter) {
    let machine = machine_with(suite, adapter, &[SLEEPER]);
    machine.app_create("steady", "sleeper", "with-supervisor");
    let pid = machine.app_pid("steady");
    machine.app_stop("steady");
    assert!(!machine.lives(pid));
    let unit = adapter.unit("steady").unwrap();
    let state = machine.unit_property(&unit, "ActiveState");
    assert!(["inactive", "failed"].contains(&state.as_str()), "{state}");
    // Not even systemd brings back what was stopped on purpose.
    machine.ok(&["systemctl", "restart", "nbsupervisor"]);
    assert_eq!(machine.app_status("steady"), "stopped");
    machine.app_start("steady");
    machine.wait_app("steady", "running");
    assert_ne!(machine.app_pid("steady"), pid);
}

fn a_foreign_unit_of_the_same_name_is_left_alone(suite: Suite, adapter: Adapter) {
    let machine = machine_with(suite, adapter, &[SLEEPER]);
    let unit = adapter.unit("steady").unwrap();
    machine.ok(&["systemd-run", "--unit", &unit, "sleep", "infinity"]);
    let (pid, invocation) = (machine.pid_of_unit(&unit), machine.invocation_of(&unit));
    machine.cli(&["app", "create", "steady", "--runtime", "sleeper", "--start-mode", "manual"]);
    let refused = machine.run(&["nbsupervisor", "app", "start", "steady"]);
    assert!(!refused.status.success(), "{}", String::from_utf8_lossy(&refused.stdout));
    let why = machine.ok(&["nbsupervisor", "app", "why", "steady"]);
    assert!(why.contains(&unit), "it names the unit that is in the way: {why}");
    machine.ok(&["systemctl", "restart", "nbsupervisor"]);
    assert_eq!((machine.pid_of_unit(&unit), machine.invocation_of(&unit)), (pid, invocation));
}
