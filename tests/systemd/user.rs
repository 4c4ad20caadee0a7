//! A user who is not root: the daemon as a service of the user's own manager, and its apps as units of that.

use std::time::Duration;

use serde_json::Value;

use crate::machine::{Machine, Suite};
use crate::recipes::SLEEPER;

on_each_suite!(
    a_users_apps_are_units_of_the_users_manager,
    a_users_apps_outlive_the_daemon,
    a_crash_of_a_users_app_is_repaired,
    a_users_app_has_hooks_logs_and_visitors_and_leaves_nothing,
    a_users_apps_outlive_the_login,
    a_users_child_processes_have_scopes_of_the_users_manager,
);

/// The user of the root file system.
const USER: &str = "stranger";
const HOME: &str = "/home/stranger";
const RECIPES: &str = "/home/stranger/.config/nbsupervisor/runtimes.d";
const STATE: &str = "/home/stranger/.local/state/nbsupervisor";
const DAEMON: &str = "nbsupervisor.service";

/// Listens on a unix socket, has a hook, and says what it was given. The hook lives for a moment: of a user's process that
/// ends at once journald may not learn whose it was.
const SITE: (&str, &str) = (
    "site.toml",
    r#"
name = "site"
command = ["/usr/bin/python3", "-u", "-c", """
import http.server, os, socketserver
class Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(open('hooked').read().encode())
    def address_string(self):
        return 'a visitor'
print('the site of', os.environ['WHOSE'], flush=True)
socketserver.UnixStreamServer(os.environ['SOCKET'], Site).serve_forever()
"""]
listen = "unix"
strip_prefix = true
environment = { SOCKET = "{socket}", WHOSE = "{env.WHOSE}" }
prepare = [{ command = ["/bin/sh", "-c", "id -un > hooked; echo prepared; sleep 0.5"], timeout = "20s" }]
ready = { http = "/", interval = "50ms", timeout = "20s" }
restart = { policy = "on-failure", delay = "0s", burst = 1000 }
"#,
);

/// A child process that leaves another, which has nothing in common with it any more.
const CHILD: (&str, &str) = (
    "child.toml",
    r#"
name = "child"
adapter = "process"
command = ["/bin/sh", "-c", "(env -i setsid sleep 4242 &); exec sleep infinity"]
listen = "none"
"#,
);

/// A machine on which a user's daemon runs.
struct Household {
    machine: Machine,
    uid: String,
}

impl Household {
    fn new(suite: Suite) -> Self {
        let machine = Machine::boot(suite);
        machine.install();
        let uid = machine.ok(&["id", "-u", USER]);
        let home = Self { machine, uid };
        // By the machine's own systemd: a logind of 257 takes no order from a process whose control group is out of its sight.
        home.machine.ok(&["systemd-run", "--quiet", "--wait", "--collect", "loginctl", "enable-linger", USER]);
        home.wait_manager();
        for (file, text) in [SLEEPER, SITE, CHILD] {
            home.machine.write_file(&format!("{RECIPES}/{file}"), text);
        }
        home.machine.ok(&["chown", "-R", USER, &format!("{HOME}/.config")]);
        home.ok(&["systemctl", "--user", "enable", "--now", DAEMON]);
        home
    }

    fn wait_manager(&self) {
        self.machine.wait_unit(&format!("user@{}.service", self.uid), "active");
        self.machine.wait("the user has a bus", Duration::from_secs(20), |machine| {
            let bus = machine.run(&["test", "-S", &format!("/run/user/{}/bus", self.uid)]);
            bus.status.success().then_some(()).ok_or("no bus yet".into())
        });
    }

    /// Runs a command as the user, as after a login.
    fn ok(&self, arguments: &[&str]) -> String {
        let (runtime, home) = (format!("XDG_RUNTIME_DIR=/run/user/{}", self.uid), format!("HOME={HOME}"));
        let login = ["runuser", "-u", USER, "--", "env", runtime.as_str(), home.as_str()];
        self.machine.ok(&[&login, arguments].concat())
    }

    fn cli(&self, arguments: &[&str]) -> Value {
        let text = self.ok(&[&["nbsupervisor", "--output", "json"], arguments].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }

    fn create(&self, app: &str, recipe: &str) {
        let create =
            ["app", "create", app, "--runtime", recipe, "--start-mode", "with-supervisor", "--env", "WHOSE=ada"];
        self.cli(&create);
        self.wait_app(app, "running");
    }

    fn app(&self, app: &str) -> Value {
        self.cli(&["app", "show", app])
    }

    fn wait_app(&self, app: &str, status: &str) {
        self.machine.wait(&format!("{app} is {status}"), Duration::from_secs(30), |_| {
            let shown = self.app(app);
            if shown["status"] == status { Ok(()) } else { Err(format!("{shown:#}")) }
        });
    }

    fn pid(&self, app: &str) -> u32 {
        let shown = self.app(app);
        shown["instances"][0]["pid"].as_u64().unwrap_or_else(|| panic!("{app} has no process: {shown:#}")) as u32
    }

    fn property(&self, unit: &str, property: &str) -> String {
        self.ok(&["systemctl", "--user", "show", "--property", property, "--value", "--", unit])
    }

    /// The present life of an app, as a process and as a unit.
    fn life(&self, app: &str) -> (u32, String) {
        (self.pid(app), self.property(&unit(app), "InvocationID"))
    }

    fn daemon(&self) -> u32 {
        self.property(DAEMON, "MainPID").parse().unwrap()
    }

    fn wait_daemon(&self, former: u32) {
        self.machine.wait("the daemon is back", Duration::from_secs(30), |_| {
            let (pid, state) = (self.daemon(), self.property(DAEMON, "ActiveState"));
            if pid != former && pid != 0 && state == "active" { Ok(()) } else { Err(format!("{pid} {state}")) }
        });
    }
}

fn unit(app: &str) -> String {
    format!("nbs-app-{app}.service")
}

fn a_users_apps_are_units_of_the_users_manager(suite: Suite) {
    let home = Household::new(suite);
    home.create("steady", "sleeper");
    let app = home.app("steady");
    assert_eq!(app["instances"][0]["adapter"], "systemd", "{app:#}");
    assert_eq!(app["instances"][0]["unit"], unit("steady").as_str(), "{app:#}");
    assert_eq!(home.property(&unit("steady"), "ActiveState"), "active");
    assert_eq!(home.property(&unit("steady"), "MainPID"), home.pid("steady").to_string());
    assert_eq!(home.property(&unit("steady"), "Slice"), "nbsupervisor-apps.slice");
    let group = home.property(&unit("steady"), "ControlGroup");
    assert!(group.contains(&format!("user@{}.service/", home.uid)), "{group}");
    assert!(!group.starts_with(&home.property(DAEMON, "ControlGroup")), "{group}");
    assert_eq!(home.machine.unit_property(&unit("steady"), "LoadState"), "not-found", "the system's has no such unit");
    let owner = home.machine.ok(&["stat", "-c", "%U", &format!("/proc/{}", home.pid("steady"))]);
    assert_eq!(owner, USER);
    home.cli(&["app", "stop", "steady"]);
    assert_eq!(home.app("steady")["status"], "stopped");
    let state = home.property(&unit("steady"), "ActiveState");
    assert!(["inactive", "failed"].contains(&state.as_str()), "{state}");
}

fn a_users_apps_outlive_the_daemon(suite: Suite) {
    let home = Household::new(suite);
    for (app, recipe) in [("steady", "sleeper"), ("site", "site")] {
        home.create(app, recipe);
    }
    let lives = || ["steady", "site"].map(|app| home.life(app));
    let before = lives();
    let disturb: [&dyn Fn(); 3] = [
        &|| {
            home.ok(&["kill", "-KILL", &home.daemon().to_string()]);
        },
        &|| {
            home.ok(&["systemctl", "--user", "restart", DAEMON]);
        },
        &|| {
            home.ok(&["systemctl", "--user", "stop", DAEMON]);
            home.ok(&["systemctl", "--user", "start", DAEMON]);
        },
    ];
    for disturb in disturb {
        let former = home.daemon();
        disturb();
        home.wait_daemon(former);
        for app in ["steady", "site"] {
            home.wait_app(app, "running");
        }
        assert_eq!(lives(), before, "every app has the life that it had");
        assert_eq!(home.machine.gateway("/apps/site/").status, 200);
    }
    home.ok(&["systemctl", "--user", "daemon-reload"]);
    assert_eq!(lives(), before);
    home.ok(&["systemctl", "--user", "daemon-reexec"]);
    home.wait_app("steady", "running");
    assert_eq!(lives(), before, "after a new manager");
    home.cli(&["app", "stop", "steady"]);
    assert!(!home.machine.lives(before[0].0), "an adopted app obeys");
}

fn a_crash_of_a_users_app_is_repaired(suite: Suite) {
    let home = Household::new(suite);
    home.create("steady", "sleeper");
    for round in 1..=2 {
        let former = home.pid("steady");
        if round == 2 {
            home.ok(&["systemctl", "--user", "stop", DAEMON]);
        }
        home.ok(&["kill", "-KILL", &former.to_string()]);
        home.machine.wait("the manager has repaired the app", Duration::from_secs(20), |_| {
            let pid = home.property(&unit("steady"), "MainPID");
            let state = home.property(&unit("steady"), "ActiveState");
            if pid != "0" && pid != former.to_string() && state == "active" { Ok(()) } else { Err(state) }
        });
        if round == 2 {
            home.ok(&["systemctl", "--user", "start", DAEMON]);
        }
        home.machine.wait("it is counted", Duration::from_secs(20), |_| {
            let app = home.app("steady");
            let right = app["status"] == "running" && app["instances"][0]["restarts"] == round;
            right.then_some(()).ok_or(format!("{app:#}"))
        });
        assert_ne!(home.pid("steady"), former);
        let why = home.ok(&["nbsupervisor", "app", "why", "steady"]);
        assert!(why.contains("SIGKILL"), "{why}");
    }
}

fn a_users_app_has_hooks_logs_and_visitors_and_leaves_nothing(suite: Suite) {
    let home = Household::new(suite);
    home.create("site", "site");
    let answer = home.machine.gateway("/apps/site/");
    assert_eq!((answer.status, answer.text.trim()), (200, USER), "the hook ran as the user, where the app is");
    home.machine.wait("the log has both", Duration::from_secs(20), |_| {
        let logs = home.ok(&["nbsupervisor", "app", "logs", "site"]);
        let right = logs.contains("the site of ada") && logs.contains("prepared");
        right.then_some(()).ok_or(logs)
    });
    let run = format!("/run/user/{}/nbsupervisor-apps", home.uid);
    let modes = home.machine.ok(&["stat", "-c", "%a %U", &format!("{run}/site.env")]);
    assert_eq!(modes, format!("600 {USER}"));
    home.machine.ok(&["test", "-e", &format!("{STATE}/apps/site/hooked")]);
    home.cli(&["app", "remove", "site", "--purge-data", "--yes"]);
    home.machine.wait("nothing is left", Duration::from_secs(20), |machine| {
        let left = machine.shell(&format!("ls -d {run}/site* {STATE}/apps/site 2>/dev/null || :"));
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    assert_eq!(home.property(&unit("site"), "LoadState"), "not-found");
}

/// Whoever lingers keeps daemon and apps over the end of the last login, and has them again after a boot.
fn a_users_apps_outlive_the_login(suite: Suite) {
    let mut home = Household::new(suite);
    home.create("steady", "sleeper");
    home.machine.reboot();
    home.wait_manager();
    home.wait_daemon(0);
    home.wait_app("steady", "running");
    assert_eq!(home.property(&unit("steady"), "ActiveState"), "active");
}

fn a_users_child_processes_have_scopes_of_the_users_manager(suite: Suite) {
    let home = Household::new(suite);
    home.create("one", "child");
    let pid = home.app("one")["instances"][0]["pid"].clone();
    let group = home.machine.read_file(&format!("/proc/{pid}/cgroup"));
    let wanted =
        format!("/user@{}.service/nbsupervisor.slice/nbsupervisor-apps.slice/nbs-proc-one:{pid}.scope", home.uid);
    assert!(group.trim().ends_with(&wanted), "{group}");
    home.ok(&["systemctl", "--user", "restart", DAEMON]);
    home.wait_app("one", "running");
    assert_eq!(home.app("one")["instances"][0]["pid"], pid);
    home.machine.ok(&["pgrep", "-fx", "sleep 4242"]);
    home.cli(&["app", "stop", "one"]);
    home.machine.shell("! pgrep -fx 'sleep 4242'");
}
