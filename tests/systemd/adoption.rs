//! What a daemon finds at its start: its own units in every state, strays, leftovers of commands; and that a reload of
//! systemd, which announces the removal of every unit, ends none.

use std::time::Duration;

use crate::apps::{Adapter, machine_with};
use crate::machine::{DAEMON, Machine, Suite};
use crate::recipes::{SLEEPER, SLOW};

on_each_suite_with!(Systemd as systemd:
    a_reload_of_systemd_ends_no_app,
    a_unit_that_nobody_knows_is_told_and_left_alone,
    kills_of_the_daemon_at_any_step_leave_what_was_asked_last,
    what_an_app_wrote_is_read_from_the_journal,
);

const APPS: [&str; 4] = ["one", "two", "three", "four"];

fn a_reload_of_systemd_ends_no_app(suite: Suite, adapter: Adapter) {
    let machine = machine_with(suite, adapter, &[SLEEPER]);
    machine.app_create("steady", "sleeper", "with-supervisor");
    let life = (machine.app_pid("steady"), adapter.invocation(&machine, "steady"));
    for _ in 0..5 {
        machine.ok(&["systemctl", "daemon-reload"]);
    }
    // A stop of another app comes after whatever the reloads led to.
    machine.app_create("other", "sleeper", "with-supervisor");
    machine.app_stop("other");
    assert_eq!((machine.app_pid("steady"), adapter.invocation(&machine, "steady")), life);
    assert_eq!(machine.app("steady")["instances"][0]["restarts"], 0);
}

fn a_unit_that_nobody_knows_is_told_and_left_alone(suite: Suite, adapter: Adapter) {
    let machine = machine_with(suite, adapter, &[SLEEPER]);
    let instance = machine.read_file("/var/lib/nbsupervisor/instance-id");
    let field = |name: &str, value: &str| format!("--property=LogExtraFields={name}={value}");
    let fields = [field("NBS_INSTANCE", instance.trim()), field("NBS_APP", "ghost"), field("NBS_RUN", "7.0")];
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    let unit = ["systemd-run", "--unit", "nbs-app-ghost.service"];
    machine.ok(&[&unit[..], &fields, &["sleep", "infinity"]].concat());
    let pid = machine.pid_of_unit("nbs-app-ghost.service");
    machine.ok(&["systemctl", "restart", "nbsupervisor"]);
    machine.wait("the stray is told", Duration::from_secs(10), |machine| {
        let events = machine.admin("GET", "/api/v1/events", None).text;
        let told = events.contains("stray_found") && events.contains("nbs-app-ghost.service");
        if told { Ok(()) } else { Err(events) }
    });
    assert!(machine.lives(pid), "it is left alone");
    assert_eq!(machine.pid_of_unit("nbs-app-ghost.service"), pid);
}

fn kills_of_the_daemon_at_any_step_leave_what_was_asked_last(suite: Suite, adapter: Adapter) {
    let machine = machine_with(suite, adapter, &[SLEEPER, SLOW]);
    machine.app_create("steady", "sleeper", "with-supervisor");
    let steady = (machine.app_pid("steady"), adapter.invocation(&machine, "steady"));
    for app in APPS {
        machine.app_create(app, "slow", "with-supervisor");
    }
    let names = APPS.join(" ");
    let turn = format!("for verb in restart stop start; do nbsupervisor -q app $verb --no-wait {names}; done");
    machine.ok(&["systemd-run", "--unit", "busy", "sh", "-c", &format!("while :; do {turn}; sleep 0.1; done")]);
    for _ in 0..12 {
        let former = machine.kill9_daemon();
        machine.ok(&["systemctl", "start", "nbsupervisor"]);
        machine.wait_daemon(former);
    }
    machine.ok(&["systemctl", "stop", "busy"]);
    assert_eq!((machine.app_pid("steady"), adapter.invocation(&machine, "steady")), steady);
    for (app, verb, status) in [
        ("one", "start", "running"),
        ("two", "stop", "stopped"),
        ("three", "restart", "running"),
        ("four", "stop", "stopped"),
    ] {
        machine.cli(&["app", verb, app]);
        machine.wait_app(app, status);
    }
    check_units(&machine, &["one", "three", "steady"]);
}

/// One unit for each app that runs, each with one process, and nothing else of ours.
fn check_units(machine: &Machine, running: &[&str]) {
    machine.wait("only the units of running apps are there", Duration::from_secs(10), |machine| {
        let listed = machine.ok(&["systemctl", "list-units", "--all", "--plain", "--no-legend", "nbs-*"]);
        let mut units: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
        units.sort_unstable();
        let mut wanted: Vec<String> = running.iter().map(|app| format!("nbs-app-{app}.service")).collect();
        wanted.sort_unstable();
        if units == wanted { Ok(()) } else { Err(listed.clone()) }
    });
    for app in running {
        let unit = format!("nbs-app-{app}.service");
        let group = machine.unit_property(&unit, "ControlGroup");
        let processes = machine.read_file(&format!("/sys/fs/cgroup{group}/cgroup.procs"));
        assert_eq!(processes.trim(), machine.app_pid(app).to_string(), "{app}");
    }
    assert_eq!(machine.unit_property(DAEMON, "ActiveState"), "active");
}

const TALKER: (&str, &str) = (
    "talker.toml",
    r#"
name = "talker"
command = ["/bin/sh", "-c", "for n in 1 2 3 4 5; do echo line $n; done; exec sleep infinity"]
listen = "none"
prepare = [{ command = ["/bin/sh", "-c", "echo preparing"] }]
"#,
);

fn what_an_app_wrote_is_read_from_the_journal(suite: Suite, adapter: Adapter) {
    let machine = machine_with(suite, adapter, &[TALKER]);
    machine.app_create("talker", "talker", "with-supervisor");
    let logs = |more: &[&str]| machine.ok(&[&["nbsupervisor", "app", "logs", "talker"], more].concat());
    machine.wait("all lines are there", Duration::from_secs(10), |_| {
        let all = logs(&[]);
        let wanted = ["preparing", "line 1", "line 2", "line 3", "line 4", "line 5"];
        if all.lines().eq(wanted) { Ok(()) } else { Err(all) }
    });
    assert_eq!(logs(&["-n", "2"]), "line 4\nline 5");
    // Nobody else can put words into its mouth.
    machine.shell("logger -t talker 'a forged line'");
    machine.shell("systemd-cat -t talker echo 'another forged line'");
    assert!(!logs(&[]).contains("forged"));
}
