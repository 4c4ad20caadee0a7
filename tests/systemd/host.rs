//! The test machines themselves: a test that fails should not be their fault.

use std::path::Path;

use crate::machine::{Machine, Suite};

on_each_suite!(
    a_machine_is_a_whole_host_of_its_own,
    a_machine_that_is_gone_leaves_nothing,
    a_reboot_keeps_the_disk_and_nothing_else,
    journal_and_record_are_brought_home,
);

fn a_machine_is_a_whole_host_of_its_own(suite: Suite) {
    let (one, two) = (Machine::boot(suite), Machine::boot(suite));
    let version = one.ok(&["systemctl", "--version"]);
    assert!(version.starts_with(&format!("systemd {} ", suite.systemd())), "{version}");
    assert_eq!(one.read_file("/proc/1/comm"), "systemd");
    assert_eq!(one.ok(&["systemctl", "is-system-running"]), "running", "{}", one.ok(&["systemctl", "--failed"]));
    assert_ne!(one.read_file("/etc/machine-id"), two.read_file("/etc/machine-id"));
    assert_eq!(one.ok(&["ip", "-o", "-4", "addr"]).lines().count(), 1, "nothing but a loopback");
    // The same unit in both: what ends it in one leaves the other alone.
    for machine in [&one, &two] {
        machine.ok(&["systemd-run", "--unit", "same", "sleep", "infinity"]);
    }
    let pid = two.pid_of_unit("same.service");
    one.ok(&["systemctl", "kill", "--signal=KILL", "same.service"]);
    one.write_file("/only/here", "one");
    assert!(two.lives(pid));
    assert_eq!(two.unit_property("same.service", "ActiveState"), "active");
    assert!(!two.run(&["test", "-e", "/only/here"]).status.success());
    assert_eq!(String::from_utf8_lossy(&one.run_as("stranger", &["id", "-un"]).stdout).trim(), "stranger");
}

fn a_machine_that_is_gone_leaves_nothing(suite: Suite) {
    let machine = Machine::boot(suite);
    let (init, cgroup) = (machine.init(), machine.cgroup().to_path_buf());
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains("nbsupervisor-tests/mount"), "its mounts are its own: {mounts}");
    assert!(cgroup.exists() && Path::new(&format!("/proc/{init}")).exists());
    drop(machine);
    assert!(!cgroup.exists() && !Path::new(&format!("/proc/{init}")).exists());
}

fn a_reboot_keeps_the_disk_and_nothing_else(suite: Suite) {
    let mut machine = Machine::boot(suite);
    let boot_id = |machine: &Machine| machine.read_file("/proc/sys/kernel/random/boot_id");
    machine.write_file("/srv/kept", "kept");
    machine.write_file("/run/lost", "lost");
    let first = boot_id(&machine);
    machine.reboot();
    let second = boot_id(&machine);
    machine.cut_power();
    machine.power_on();
    let ids = [first, second, boot_id(&machine)];
    assert!(ids[0] != ids[1] && ids[1] != ids[2], "{ids:?}");
    assert_eq!(machine.read_file("/srv/kept"), "kept");
    assert!(!machine.run(&["test", "-e", "/run/lost"]).status.success());
}

fn journal_and_record_are_brought_home(suite: Suite) {
    let mut machine = Machine::with_daemon(suite);
    let home = tempfile::tempdir().unwrap();
    let check = |name: &str, machine: &Machine| {
        let folder = home.path().join(name);
        machine.collect(&folder).unwrap();
        let journal = std::fs::read_to_string(folder.join("journal.txt")).unwrap();
        assert!(journal.contains("nbsupervisor.service"), "{journal}");
        assert!(std::fs::read_dir(folder.join("record")).unwrap().count() > 0);
    };
    check("on", &machine);
    machine.poweroff();
    check("off", &machine);
}
