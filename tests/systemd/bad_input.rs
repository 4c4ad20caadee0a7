//! Bad input that only a real host can take or refuse: recipes with wrong directives, limits above their maximum, a host
//! without systemd, a bus that refuses or is not there. Each answer says what to do, and whatever else runs goes on.

use std::time::Duration;

use nbs_core::reason::ReasonCode;
use serde_json::{Value, json};

use crate::apps::{Adapter, machine_with};
use crate::machine::{Machine, Suite};
use crate::recipes::SLEEPER;

on_each_suite_with!(Systemd as systemd:
    a_wrong_directive_is_refused_with_its_place_and_hurts_no_other_recipe,
    a_limit_above_the_maximum_changes_nothing,
    a_bus_that_is_away_is_said_and_awaited,
);
on_each_suite!(
    without_systemd_a_unit_is_refused_and_a_process_runs,
    a_user_without_a_manager_is_told_so,
    a_daemon_that_may_not_manage_units_is_told_so,
);

const LIMITED: (&str, &str) = (
    "limited.toml",
    "name = \"limited\"\ncommand = [\"/bin/sleep\", \"infinity\"]\nmax_limits = { memory_max = \"256M\", tasks_max = 50 }\n",
);

/// A name, the directive as written in line 4, what is said about it, and the key.
const WRONG: [(&str, &str, &str, &[&str]); 4] = [
    ("typo", "WatchdogSce = \"1s\"", "unit.WatchdogSce", &["unknown directive", "did you mean WatchdogSec?"]),
    ("number", "Nice = \"very\"", "unit.Nice", &["\"very\" is not a number from -20 to 19"]),
    ("range", "Nice = 40", "unit.Nice", &["40", "from -20 to 19"]),
    ("own", "MemoryMax = \"1G\"", "unit.MemoryMax", &["nbsupervisor sets this itself", "limits.memory_max"]),
];

fn a_wrong_directive_is_refused_with_its_place_and_hurts_no_other_recipe(suite: Suite, adapter: Adapter) {
    let machine = machine_with(suite, adapter, &[SLEEPER]);
    machine.app_create("before", "sleeper", "with-supervisor");
    let pid = machine.app_pid("before");
    for (name, line, _, _) in WRONG {
        let text = format!("name = \"{name}\"\ncommand = [\"/bin/sleep\", \"infinity\"]\n[unit]\n{line}\n");
        machine.recipe(&format!("{name}.toml"), &text);
    }
    let checked = machine.run(&["nbsupervisor", "runtime", "check"]);
    let talk = said(&checked);
    assert_eq!(checked.status.code(), Some(1), "{talk}");
    for (name, _, key, words) in WRONG {
        let head = format!("error: /etc/nbsupervisor/runtimes.d/{name}.toml:4: {key}: ");
        let told = talk.lines().find(|line| line.starts_with(&head)).unwrap_or_else(|| panic!("{head} in {talk}"));
        assert!(words.iter().all(|word| told.contains(word)), "{words:?} in {told}");
    }
    for (name, ..) in WRONG {
        let refused = machine.run(&["nbsupervisor", "app", "create", "x", "--runtime", name]);
        assert!(!refused.status.success() && said(&refused).contains(name), "{}", said(&refused));
    }
    machine.app_create("after", "sleeper", "with-supervisor");
    assert_eq!(machine.app_pid("before"), pid, "what ran still runs");
    let apps = machine.admin("GET", "/api/v1/apps", None).json();
    assert_eq!(apps["apps"].as_array().unwrap().len(), 2, "{apps:#}");
}

fn a_limit_above_the_maximum_changes_nothing(suite: Suite, adapter: Adapter) {
    let machine = machine_with(suite, adapter, &[LIMITED]);
    let within = json!({ "name": "small", "runtime": "limited", "start_mode": "with-supervisor",
        "limits": { "memory_max": "256M", "tasks_max": 50 } });
    assert_eq!(machine.admin("POST", "/api/v1/apps", Some(&within)).status, 201);
    machine.wait_app("small", "running");
    let (before, pid) = (machine.app("small")["spec"].clone(), machine.app_pid("small"));
    for (key, value, most) in [("memory_max", json!("257M"), "256M"), ("tasks_max", json!(51), "50")] {
        let above = json!({ "name": "big", "runtime": "limited", "limits": { key: value } });
        let answer = machine.admin("POST", "/api/v1/apps", Some(&above));
        let body = answer.json();
        assert!((400..500).contains(&answer.status), "{body:#}");
        assert_eq!(body["field"], format!("limits.{key}"), "{body:#}");
        assert!(answer.text.contains(most), "it names the maximum: {body:#}");
        assert!(body["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{body:#}");
    }
    let raised = machine.run(&["nbsupervisor", "app", "edit", "small", "--set", "limits.memory_max=1G"]);
    assert!(!raised.status.success() && said(&raised).contains("256M"), "{}", said(&raised));
    let apps = machine.admin("GET", "/api/v1/apps", None).json();
    assert_eq!(apps["apps"].as_array().unwrap().len(), 1, "{apps:#}");
    assert_eq!((machine.app("small")["spec"].clone(), machine.app_pid("small")), (before, pid));
    let units = machine.ok(&["systemctl", "list-units", "--all", "--plain", "--no-legend", "nbs-app-big*"]);
    assert_eq!(units, "", "no unit was made");
}

fn a_bus_that_is_away_is_said_and_awaited(suite: Suite, adapter: Adapter) {
    let machine = machine_with(suite, adapter, &[SLEEPER]);
    machine.app_create("steady", "sleeper", "with-supervisor");
    let life = (machine.app_pid("steady"), adapter.invocation(&machine, "steady"));
    for app in ["patient", "asked-again"] {
        machine.app_create(app, "sleeper", "manual");
    }
    machine.ok(&["systemctl", "stop", "dbus.socket", "dbus.service"]);
    machine.ok(&["nbsupervisor", "-q", "app", "start", "--no-wait", "patient"]);
    machine.wait("it is said that the bus is away", Duration::from_secs(40), |machine| {
        told(&machine.app("patient"), ReasonCode::SystemdUnavailable, &["systemd does not answer"])
    });
    let why = machine.ok(&["nbsupervisor", "app", "why", "patient"]);
    assert!(why.contains(ReasonCode::SystemdUnavailable.remedy()), "{why}");
    assert_eq!(machine.app_status("steady"), "running");
    assert!(machine.lives(life.0));
    machine.ok(&["systemctl", "start", "dbus.socket"]);
    machine.wait_app("patient", "running");
    machine.app_start("asked-again");
    machine.wait_app("asked-again", "running");
    assert_eq!((machine.app_pid("steady"), adapter.invocation(&machine, "steady")), life);
    assert_eq!(machine.app("steady")["instances"][0]["restarts"], 0);
}

/// A second daemon of a machine, at a place where something is missing.
struct Elsewhere<'a> {
    machine: &'a Machine,
}

const RECIPES: [(&str, &str); 2] = [
    ("unit.toml", "name = \"unit\"\nadapter = \"systemd\"\ncommand = [\"/bin/sleep\", \"infinity\"]\n"),
    ("process.toml", "name = \"process\"\nadapter = \"process\"\ncommand = [\"/bin/sleep\", \"infinity\"]\n"),
];

impl<'a> Elsewhere<'a> {
    /// Starts it as a service with these arguments of systemd-run, its command after `prefix`.
    fn start(machine: &'a Machine, owner: &str, service: &[&str], prefix: &[&str]) -> Self {
        machine.shell(&format!("install -d -o {owner} -m 0711 /var/lib/elsewhere /run/elsewhere /run/elsewhere-apps"));
        for (file, text) in RECIPES {
            machine.write_file(&format!("/etc/elsewhere/runtimes.d/{file}"), text);
        }
        let config = "state_dir = \"/var/lib/elsewhere\"\nruntime_dir = \"/run/elsewhere\"\n\
            apps_run_dir = \"/run/elsewhere-apps\"\nrecipes_dir = \"/etc/elsewhere/runtimes.d\"\n\
            [admin]\nsocket = \"/run/elsewhere/admin.sock\"\nlisten = \"\"\n[gateway]\nlisten = \"\"\n\
            [environment]\nadapter = \"systemd\"\n";
        machine.write_file("/etc/elsewhere/nbsupervisor.toml", config);
        let daemon = ["/usr/bin/nbsupervisor", "daemon", "--config", "/etc/elsewhere/nbsupervisor.toml"];
        let run = ["systemd-run", "--unit", "elsewhere", "-p", "Restart=no", "-p", "KillMode=process"];
        machine.ok(&[&run[..], service, &["--"], prefix, &daemon].concat());
        let elsewhere = Self { machine };
        machine.wait("the other daemon answers", Duration::from_secs(30), |_| {
            let status = elsewhere.run(&["status"]);
            if status.status.success() { Ok(()) } else { Err(said(&status)) }
        });
        elsewhere
    }

    fn run(&self, arguments: &[&str]) -> std::process::Output {
        let fixed = ["nbsupervisor", "--socket", "/run/elsewhere/admin.sock", "--output", "json"];
        self.machine.run(&[&fixed, arguments].concat())
    }

    fn app(&self, name: &str) -> Value {
        let output = self.run(&["app", "show", name]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&output)))
    }

    /// Makes and starts an app of one recipe; whether it started, and what the command line said.
    fn start_app(&self, runtime: &str) -> (bool, String) {
        let made = self.run(&["app", "create", runtime, "--runtime", runtime, "--start-mode", "manual"]);
        assert!(made.status.success(), "{}", said(&made));
        let started = self.run(&["app", "start", runtime, "--no-wait"]);
        (started.status.success(), said(&started))
    }

    /// An app is not started, for this reason. It is named as its runtime is.
    fn refuses(&self, app: &str, code: ReasonCode, words: &[&str]) {
        self.start_app(app);
        self.machine.wait("the reason is told", Duration::from_secs(40), |_| told(&self.app(app), code, words));
        let why = said(&self.run(&["app", "why", app]));
        assert!(why.contains(&code.remedy().replace('"', "\\\"")), "{why}");
    }

    /// An app of systemd's is not started, for this reason; one of the process adapter runs.
    fn refuses_units_and_runs_processes(&self, code: ReasonCode, words: &[&str]) {
        self.refuses("unit", code, words);
        self.start_app("process");
        self.machine.wait("a process runs", Duration::from_secs(20), |_| {
            let shown = self.app("process");
            if shown["status"] == "running" { Ok(()) } else { Err(format!("{shown:#}")) }
        });
        let pid = self.app("process")["instances"][0]["pid"].as_u64().unwrap();
        assert!(self.machine.lives(pid as u32));
        assert!(self.run(&["app", "stop", "process"]).status.success());
        assert!(!self.machine.lives(pid as u32));
        let units = self.machine.ok(&["systemctl", "list-units", "--all", "--plain", "--no-legend", "nbs-app-*"]);
        assert_eq!(units, "", "no unit was made");
    }
}

fn without_systemd_a_unit_is_refused_and_a_process_runs(suite: Suite) {
    let machine = Machine::boot(suite);
    machine.install();
    let hide = "mount -t tmpfs none /run/systemd && mount -t tmpfs none /run/dbus && exec \"$@\"";
    let prefix = ["/usr/bin/unshare", "--mount", "sh", "-c", hide, "sh"];
    let elsewhere = Elsewhere::start(&machine, "root", &[], &prefix);
    let words = ["this host was not booted with systemd"];
    elsewhere.refuses_units_and_runs_processes(ReasonCode::SystemdUnavailable, &words);
}

fn a_user_without_a_manager_is_told_so(suite: Suite) {
    let machine = Machine::boot(suite);
    machine.install();
    let elsewhere = Elsewhere::start(&machine, "stranger", &["--uid=stranger"], &[]);
    elsewhere
        .refuses_units_and_runs_processes(ReasonCode::SystemdUnavailable, &["systemd does not answer", "/run/user/"]);
}

fn a_daemon_that_may_not_manage_units_is_told_so(suite: Suite) {
    let machine = Machine::boot(suite);
    machine.install();
    // systemd takes every order from root; a bus may still be told not to bring this one.
    let policy = "<busconfig><policy context=\"mandatory\">\
        <deny send_destination=\"org.freedesktop.systemd1\" send_interface=\"org.freedesktop.systemd1.Manager\" \
        send_member=\"StartTransientUnit\"/>\
        </policy></busconfig>";
    machine.write_file("/etc/dbus-1/system.d/refuse.conf", policy);
    machine.ok(&["systemctl", "reload-or-restart", "dbus.service"]);
    let elsewhere = Elsewhere::start(&machine, "root", &[], &[]);
    elsewhere.refuses("unit", ReasonCode::AccessDenied, &["could not start nbs-app-unit.service", "allow its user"]);
    // Without a scope a child would be in this service's own control group, and end with it.
    elsewhere.refuses("process", ReasonCode::AccessDenied, &["could not start nbs-proc-process", "allow its user"]);
}

fn told(app: &Value, code: ReasonCode, words: &[&str]) -> Result<(), String> {
    let reason = &app["instances"][0]["reason"];
    let text = reason["text"].as_str().unwrap_or_default();
    let is_so = reason["code"] == code.code() && words.iter().all(|word| text.contains(word));
    if is_so && reason["remedy"] == code.remedy() { Ok(()) } else { Err(format!("{app:#}")) }
}

fn said(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
