//! The daemon as a service of its host, without apps.

use crate::machine::{DAEMON, Machine, Suite};

on_each_suite!(
    installing_starts_nothing_and_enabling_makes_it_ready,
    a_restart_is_another_process_and_a_stop_is_the_end,
    it_comes_back_after_a_reboot_if_it_was_enabled,
);

fn installing_starts_nothing_and_enabling_makes_it_ready(suite: Suite) {
    let machine = Machine::boot(suite);
    machine.install();
    assert_eq!(machine.unit_property(DAEMON, "ActiveState"), "inactive");
    assert_eq!(machine.unit_property(DAEMON, "UnitFileState"), "disabled");
    machine.ok(&["systemctl", "enable", "--now", "nbsupervisor"]);
    // Type=notify: the start job ended, so READY=1 was sent.
    assert_eq!(machine.unit_property(DAEMON, "ActiveState"), "active");
    assert_eq!(machine.unit_property(DAEMON, "SubState"), "running");
    assert_eq!(machine.unit_property(DAEMON, "NRestarts"), "0");
    assert_eq!(machine.admin("GET", "/readyz", None).status, 200);
    assert_eq!(machine.gateway("/apps/nobody/").status, 404);
    let journal = machine.ok(&["journalctl", "--no-pager", "-u", "nbsupervisor", "-o", "cat"]);
    assert!(journal.contains("Started") && journal.lines().count() > 2, "{journal}");
    assert_eq!(machine.ok(&["systemctl", "is-system-running"]), "running");
}

fn a_restart_is_another_process_and_a_stop_is_the_end(suite: Suite) {
    let machine = Machine::with_daemon(suite);
    let pid = machine.pid_of_unit(DAEMON);
    machine.ok(&["systemctl", "restart", "nbsupervisor"]);
    assert!(!machine.lives(pid));
    assert_eq!(machine.admin("GET", "/readyz", None).status, 200);
    machine.ok(&["systemctl", "stop", "nbsupervisor"]);
    assert_eq!(machine.unit_property(DAEMON, "Result"), "success");
    assert_eq!(machine.pid_of_unit(DAEMON), 0);
    let unreachable = machine.run(&["nbsupervisor", "status"]);
    assert_eq!(unreachable.status.code(), Some(5), "{}", String::from_utf8_lossy(&unreachable.stderr));
}

fn it_comes_back_after_a_reboot_if_it_was_enabled(suite: Suite) {
    let mut machine = Machine::with_daemon(suite);
    machine.reboot();
    machine.wait_unit(DAEMON, "active");
    machine.ok(&["systemctl", "disable", "nbsupervisor"]);
    machine.reboot();
    assert_eq!(machine.unit_property(DAEMON, "ActiveState"), "inactive");
}
