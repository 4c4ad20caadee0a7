//! Child processes have control groups of their own: beside the daemon's, with their limits, and nobody gets out of them.

use std::time::Duration;

use crate::apps::{Adapter, machine_with};
use crate::machine::{DAEMON, Machine, Suite};

on_each_suite!(
    an_app_has_a_scope_of_its_own_with_its_limits,
    nobody_is_left_of_a_scope,
    without_a_bus_nothing_starts_in_the_daemons_own_group,
);

const LIMITED: (&str, &str) = (
    "limited.toml",
    r#"
name = "limited"
command = ["/bin/sleep", "infinity"]
listen = "none"
limits = { memory_max = "64M", cpu_quota = "50%", tasks_max = 20 }
"#,
);
/// Leaves a process that has nothing in common with it any more, and others that are never the same for long.
const HIDING: (&str, &str) = (
    "hiding.toml",
    r#"
name = "hiding"
command = ["/bin/sh", "-c", '(env -i setsid sleep 4242 &); setsid sh -c "$SELF" & exec sleep infinity']
listen = "none"
environment = { SELF = 'echo >>generations; sleep 0.002; env -i SELF="$SELF" setsid sh -c "$SELF" &' }
"#,
);

fn scope(machine: &Machine, app: &str) -> String {
    format!("nbs-proc-{app}:{}.scope", machine.app_pid(app))
}

fn scopes(machine: &Machine) -> String {
    machine.ok(&["systemctl", "list-units", "--all", "--plain", "--no-legend", "nbs-proc-*"])
}

fn members(machine: &Machine, unit: &str) -> String {
    let group = machine.unit_property(unit, "ControlGroup");
    machine.shell(&format!("cat '/sys/fs/cgroup{group}/cgroup.procs'"))
}

fn an_app_has_a_scope_of_its_own_with_its_limits(suite: Suite) {
    let machine = machine_with(suite, Adapter::Process, &[LIMITED]);
    machine.app_create("one", "limited", "with-supervisor");
    let scope = scope(&machine, "one");
    assert_eq!(members(&machine, &scope), machine.app_pid("one").to_string());
    assert_eq!(members(&machine, DAEMON), machine.pid_of_unit(DAEMON).to_string());
    for (property, value) in [
        ("Slice", "nbsupervisor-apps.slice"),
        ("Delegate", "yes"),
        ("MemoryMax", "67108864"),
        ("CPUQuotaPerSecUSec", "500ms"),
        ("TasksMax", "20"),
    ] {
        assert_eq!(machine.unit_property(&scope, property), value, "{property}");
    }
    machine.app_stop("one");
    machine.wait("the scope is gone", Duration::from_secs(10), |machine| {
        let left = scopes(machine);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

fn nobody_is_left_of_a_scope(suite: Suite) {
    let machine = machine_with(suite, Adapter::Process, &[HIDING]);
    for restarted in [false, true] {
        let app = if restarted { "two" } else { "one" };
        machine.app_create(app, "hiding", "with-supervisor");
        let file = format!("/var/lib/nbsupervisor/apps/{app}/generations");
        machine.wait("its processes are there", Duration::from_secs(20), |machine| {
            let script = format!("pgrep -fx 'sleep 4242' && test $(wc -l <{file}) -gt 5");
            machine.run(&["sh", "-c", &script]).status.success().then_some(()).ok_or("not yet".into())
        });
        if restarted {
            machine.ok(&["systemctl", "restart", "nbsupervisor"]);
        }
        machine.app_stop(app);
        let script = format!("! pgrep -fx 'sleep 4242'; cp {file} /run/before; sleep 0.2; cmp {file} /run/before");
        machine.shell(&script);
    }
}

fn without_a_bus_nothing_starts_in_the_daemons_own_group(suite: Suite) {
    let machine = machine_with(suite, Adapter::Process, &[LIMITED]);
    machine.app_create("one", "limited", "with-supervisor");
    let pid = machine.app_pid("one");
    machine.app_create("two", "limited", "manual");
    machine.ok(&["systemctl", "stop", "dbus.socket", "dbus.service"]);
    machine.ok(&["nbsupervisor", "app", "start", "--no-wait", "two"]);
    machine.wait("the start says why it fails", Duration::from_secs(40), |machine| {
        let why = machine.ok(&["nbsupervisor", "app", "why", "two"]);
        if why.contains("systemd does not answer") { Ok(()) } else { Err(why) }
    });
    assert_eq!(members(&machine, DAEMON), machine.pid_of_unit(DAEMON).to_string());
    assert_eq!(machine.app_pid("one"), pid);
    machine.ok(&["systemctl", "start", "dbus.socket"]);
    machine.app_start("two");
    assert_eq!(members(&machine, &scope(&machine, "two")), machine.app_pid("two").to_string());
}
