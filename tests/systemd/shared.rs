//! Several apps in one process that is a unit of its own.

use std::time::Duration;

use serde_json::json;

use crate::apps::Adapter;
use crate::machine::{Machine, Suite};

on_each_suite_with!(Systemd as systemd: apps_in_one_unit_come_back_with_it_whoever_restarts_it);

const UNIT: &str = "nbs-host-shared-host.service";
const APPS: [&str; 2] = ["red", "green"];

fn with_apps(suite: Suite) -> Machine {
    let machine = Machine::with_daemon(suite);
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/shared-host");
    let read = |file: &str| std::fs::read_to_string(format!("{examples}/{file}")).unwrap();
    machine.ok(&["mkdir", "-p", "/usr/share/nbsupervisor/examples/shared-host"]);
    machine.write_file("/usr/share/nbsupervisor/examples/shared-host/host.py", read("host.py"));
    machine.recipe("shared-host.toml", &read("shared-host.toml"));
    for app in APPS {
        let spec =
            json!({ "name": app, "runtime": "shared-host", "hosting": "shared", "start_mode": "with-supervisor" });
        let answer = machine.admin("POST", "/api/v1/apps", Some(&spec));
        assert_eq!(answer.status, 201, "{}", answer.json());
        machine.wait_app(app, "running");
    }
    machine
}

/// Every app runs in the unit's present process, which is not the former one.
fn wait_in_another(machine: &Machine, former: u32) {
    machine.wait("the apps run in a new process", Duration::from_secs(60), |machine| {
        let pid = machine.pid_of_unit(UNIT);
        let all = APPS.iter().all(|app| machine.app_status(app) == "running" && machine.app_pid(app) == pid);
        if all && pid != former {
            Ok(())
        } else {
            Err(format!("{former} {pid} {:?}", APPS.map(|app| machine.app(app))))
        }
    });
}

fn apps_in_one_unit_come_back_with_it_whoever_restarts_it(suite: Suite, _: Adapter) {
    let machine = with_apps(suite);
    let first = machine.pid_of_unit(UNIT);
    assert!(APPS.iter().all(|app| machine.app_pid(app) == first));
    // A daemon that is killed finds them as they were.
    let daemon = machine.kill9_daemon();
    machine.wait_daemon(daemon);
    for app in APPS {
        machine.wait_app(app, "running");
        assert_eq!((machine.app_pid(app), &machine.app(app)["instances"][0]["restarts"]), (first, &json!(0)));
    }
    // A crash is repaired by systemd, also while no daemon is there.
    machine.ok(&["kill", "-9", &first.to_string()]);
    wait_in_another(&machine, first);
    let second = machine.pid_of_unit(UNIT);
    machine.ok(&["systemctl", "stop", "nbsupervisor"]);
    machine.ok(&["kill", "-9", &second.to_string()]);
    machine.wait("systemd starts it again", Duration::from_secs(30), |machine| {
        let pid = machine.pid_of_unit(UNIT);
        if pid != 0 && pid != second { Ok(()) } else { Err(pid.to_string()) }
    });
    machine.ok(&["systemctl", "start", "nbsupervisor"]);
    wait_in_another(&machine, second);
    for app in APPS {
        machine.app_stop(app);
        machine.wait_app(app, "stopped");
    }
    machine.wait_unit(UNIT, "inactive");
}
