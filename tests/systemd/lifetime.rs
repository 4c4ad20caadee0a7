//! Apps outlive the daemon: whatever happens to it, they keep their process, and it finds them again.

use std::time::Duration;

use crate::apps::{Adapter, machine_with};
use crate::machine::{Answer, DAEMON, Machine, Suite};
use crate::recipes::{SLEEPER, SLOW, WEB};

on_each_suite_with!(Process as process:
    apps_outlive_a_kill_of_the_daemon,
    apps_outlive_a_restart_of_the_daemon,
    apps_outlive_a_reinstallation,
    apps_outlive_a_new_systemd,
    apps_outlive_a_reload_of_systemd,
    apps_outlive_a_restart_of_the_bus,
    stopping_the_daemon_stops_no_app,
    an_adopted_app_obeys,
    a_crash_while_the_daemon_is_away_is_repaired_and_known,
    a_reboot_brings_back_what_its_start_mode_says,
    a_power_cut_brings_back_what_its_start_mode_says,
);
on_each_suite_with!(Systemd as systemd:
    apps_outlive_a_kill_of_the_daemon,
    apps_outlive_a_restart_of_the_daemon,
    apps_outlive_a_reinstallation,
    apps_outlive_a_new_systemd,
    apps_outlive_a_reload_of_systemd,
    apps_outlive_a_restart_of_the_bus,
    stopping_the_daemon_stops_no_app,
    an_adopted_app_obeys,
    a_crash_while_the_daemon_is_away_is_repaired_and_known,
    a_reboot_brings_back_what_its_start_mode_says,
    a_power_cut_brings_back_what_its_start_mode_says,
);

const APPS: [&str; 3] = ["steady", "site", "by-hand"];
/// Apps that start and stop all the time.
const BUSY: [&str; 2] = ["busy-1", "busy-2"];

/// A machine with one app of each kind, running.
fn with_apps(suite: Suite, adapter: Adapter) -> Machine {
    let machine = machine_with(suite, adapter, &[SLEEPER, SLOW, WEB]);
    machine.app_create("steady", "sleeper", "with-supervisor");
    machine.app_create("site", "web", "with-supervisor");
    machine.app_create("by-hand", "sleeper", "manual");
    machine.app_start("by-hand");
    machine.wait_app("by-hand", "running");
    machine
}

/// The present life of each app: as a process and, where it is one, as a unit.
fn lives(machine: &Machine, adapter: Adapter) -> Vec<(u32, String)> {
    let life = |app| (machine.app_pid(app), adapter.invocation(machine, app));
    APPS.into_iter().map(life).collect()
}

/// Whatever `disturb` does, while other apps start and stop: the apps keep their lives, and the daemon knows it within
/// five seconds.
fn outlive(suite: Suite, adapter: Adapter, disturb: impl Fn(&Machine)) {
    let machine = with_apps(suite, adapter);
    for app in BUSY {
        machine.app_create(app, "slow", "with-supervisor");
    }
    let before = lives(&machine, adapter);
    let busy = BUSY.join(" ");
    let turn =
        format!("nbsupervisor -q app restart {busy} && nbsupervisor -q app stop {busy} && echo turn >>/run/turns");
    machine.ok(&["systemd-run", "--unit", "busy", "sh", "-c", &format!("while :; do {turn}; done")]);
    for _ in 0..3 {
        // At least one whole turn between two disturbances: each of them comes in the middle of something.
        machine.ok(&["rm", "-f", "/run/turns"]);
        machine.wait("the busy apps are busy", Duration::from_secs(30), |machine| {
            machine.run(&["test", "-s", "/run/turns"]).status.success().then_some(()).ok_or("no turn yet".into())
        });
        disturb(&machine);
        adopted(&machine, adapter, &before);
    }
    machine.ok(&["systemctl", "stop", "busy"]);
    for app in BUSY {
        machine.app_start(app);
        machine.wait_app(app, "running");
        assert!(machine.lives(machine.app_pid(app)), "{app}");
    }
}

fn adopted(machine: &Machine, adapter: Adapter, before: &[(u32, String)]) {
    machine.wait("every status is right again", Duration::from_secs(5), |machine| {
        let answers = APPS.map(|app| machine.admin_try(&format!("/api/v1/apps/{app}")));
        let right =
            |answer: &Option<Answer>| answer.as_ref().is_some_and(|answer| answer.json()["status"] == "running");
        if answers.iter().all(right) { Ok(()) } else { Err(format!("{answers:?}")) }
    });
    assert_eq!(lives(machine, adapter), before, "every app has the life that it had");
    for (app, (pid, _)) in APPS.iter().zip(before) {
        assert!(machine.lives(*pid), "{app}");
        assert_eq!(machine.app(app)["instances"][0]["restarts"], 0, "{app}");
    }
    assert_eq!(machine.gateway("/apps/site/").status, 200);
}

fn apps_outlive_a_kill_of_the_daemon(suite: Suite, adapter: Adapter) {
    outlive(suite, adapter, |machine| {
        let former = machine.kill9_daemon();
        machine.wait_daemon(former);
    });
}

fn apps_outlive_a_restart_of_the_daemon(suite: Suite, adapter: Adapter) {
    outlive(suite, adapter, |machine| {
        machine.ok(&["systemctl", "restart", "nbsupervisor"]);
    });
}

fn apps_outlive_a_reinstallation(suite: Suite, adapter: Adapter) {
    outlive(suite, adapter, |machine| {
        let former = machine.pid_of_unit(DAEMON);
        machine.reinstall();
        machine.wait_daemon(former);
    });
}

fn apps_outlive_a_new_systemd(suite: Suite, adapter: Adapter) {
    outlive(suite, adapter, |machine| {
        machine.ok(&["systemctl", "daemon-reexec"]);
    });
}

fn apps_outlive_a_reload_of_systemd(suite: Suite, adapter: Adapter) {
    outlive(suite, adapter, |machine| {
        machine.ok(&["systemctl", "daemon-reload"]);
    });
}

fn apps_outlive_a_restart_of_the_bus(suite: Suite, adapter: Adapter) {
    outlive(suite, adapter, |machine| {
        machine.ok(&["systemctl", "restart", "dbus"]);
    });
}

fn stopping_the_daemon_stops_no_app(suite: Suite, adapter: Adapter) {
    let machine = with_apps(suite, adapter);
    let before = lives(&machine, adapter);
    machine.ok(&["systemctl", "stop", "nbsupervisor"]);
    for (app, (pid, _)) in APPS.iter().zip(&before) {
        assert!(machine.lives(*pid), "{app}");
    }
    machine.ok(&["systemctl", "start", "nbsupervisor"]);
    adopted(&machine, adapter, &before);
}

fn an_adopted_app_obeys(suite: Suite, adapter: Adapter) {
    let machine = with_apps(suite, adapter);
    let before = lives(&machine, adapter);
    machine.ok(&["systemctl", "restart", "nbsupervisor"]);
    machine.app_stop("steady");
    assert!(!machine.lives(before[0].0));
    machine.cli(&["app", "restart", "site"]);
    machine.wait_app("site", "running");
    assert!(!machine.lives(before[1].0));
    assert_eq!(machine.gateway("/apps/site/").status, 200);
}

/// systemd repairs a unit while the daemon is away; an app of the process adapter waits for the daemon.
fn a_crash_while_the_daemon_is_away_is_repaired_and_known(suite: Suite, adapter: Adapter) {
    let machine = with_apps(suite, adapter);
    let former = machine.app_pid("site");
    machine.ok(&["systemctl", "stop", "nbsupervisor"]);
    machine.ok(&["kill", "-KILL", &former.to_string()]);
    if let Some(unit) = adapter.unit("site") {
        machine.wait("systemd has repaired the app", Duration::from_secs(20), |machine| {
            let (pid, state) = (machine.pid_of_unit(&unit), machine.unit_property(&unit, "ActiveState"));
            if pid != former && pid != 0 && state == "active" { Ok(()) } else { Err(format!("{pid} {state}")) }
        });
    }
    let repaired = adapter.unit("site").map(|unit| machine.pid_of_unit(&unit));
    machine.ok(&["systemctl", "start", "nbsupervisor"]);
    machine.wait_app("site", "running");
    let pid = machine.app_pid("site");
    assert_ne!(pid, former);
    assert!(
        repaired.is_none_or(|repaired| repaired == pid),
        "the daemon leaves a repaired app alone: {repaired:?} {pid}"
    );
    let app = machine.app("site");
    assert_eq!(app["instances"][0]["restarts"], 1, "{app:#}");
    // A parent that is gone cannot be told the signal; systemd was there and knows it.
    let known = if adapter.unit("site").is_some() { "SIGKILL" } else { "while the daemon was away" };
    let why = machine.ok(&["nbsupervisor", "app", "why", "site"]);
    assert!(why.contains(known), "{why}");
    assert_eq!(machine.gateway("/apps/site/").status, 200);
}

/// `steady` and `site` are wanted again, `by-hand` is not, and `stopped` stays as it was left.
fn after_a_boot(machine: &Machine) {
    machine.wait_unit(DAEMON, "active");
    machine.wait_app("steady", "running");
    machine.wait_app("site", "running");
    assert_eq!(machine.gateway("/apps/site/").status, 200);
    for app in ["by-hand", "stopped"] {
        assert_eq!(machine.app_status(app), "stopped", "{app}");
        assert_eq!(machine.app(app)["intent"], "stop", "{app}");
    }
}

fn a_reboot_brings_back_what_its_start_mode_says(suite: Suite, adapter: Adapter) {
    let mut machine = with_apps(suite, adapter);
    machine.app_create("stopped", "sleeper", "with-supervisor");
    machine.app_stop("stopped");
    for _ in 0..2 {
        machine.reboot();
        after_a_boot(&machine);
    }
}

fn a_power_cut_brings_back_what_its_start_mode_says(suite: Suite, adapter: Adapter) {
    let mut machine = with_apps(suite, adapter);
    machine.app_create("stopped", "sleeper", "with-supervisor");
    machine.app_stop("stopped");
    machine.cut_power();
    machine.power_on();
    after_a_boot(&machine);
}
