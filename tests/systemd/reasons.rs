//! Each reason code, provoked on a real host: the code, the words, the remedy, and the last log lines where there are any.
//!
//! One table, in one machine for each suite; what disturbs the whole machine comes last. Deliberately absent: the codes in
//! `ELSEWHERE`, each with the place that provokes it or with what keeps it from units.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use nbs_core::reason::ReasonCode;
use serde_json::Value;

use crate::apps::{Adapter, machine_with};
use crate::machine::{Machine, Suite};

on_each_suite_with!(Systemd as systemd: each_reason_code_has_its_cause_words_and_remedy);

/// Codes that this table does not provoke, and why.
const ELSEWHERE: &[(ReasonCode, &str)] = &[
    (ReasonCode::OomKilled, "needs a memory controller: tests/qemu"),
    (ReasonCode::ExitUnknown, "an adopted child process: tests/e2e/first_light.rs"),
    (ReasonCode::GaveUp, "the process adapter counts itself: tests/e2e/first_light.rs"),
    (ReasonCode::BadLimit, "root may set every limit of a unit"),
    (ReasonCode::SystemdUnavailable, "bad_input.rs"),
    (ReasonCode::AccessDenied, "bad_input.rs"),
    (ReasonCode::EnvironmentSilent, "needs a second host: the explanation is tested in nbs_core"),
    (ReasonCode::DatabaseUnreachable, "needs a server: tests/database"),
    (ReasonCode::DatabaseDenied, "needs a server: tests/database"),
    (ReasonCode::DatabaseTaken, "needs a server: tests/database"),
    (ReasonCode::DatabaseFailed, "needs a server: tests/database"),
    (ReasonCode::HostEnded, "of apps that share a process: tests/e2e/shared_hosting.rs"),
    (ReasonCode::HostRefused, "of apps that share a process: tests/e2e/shared_hosting.rs"),
    (ReasonCode::NotInHost, "of apps that share a process: tests/e2e/shared_hosting.rs"),
    (ReasonCode::TurnExpired, "of an operation, never of an instance"),
];

type Step = fn(&mut Machine, &str);

/// What leads to a reason, and what is then told.
struct Case {
    /// App and runtime.
    name: &'static str,
    recipe: &'static str,
    /// Before the app is started.
    ground: Step,
    /// After it was asked to start.
    provoke: Step,
    code: ReasonCode,
    says: &'static [&'static str],
    /// A line of its output that must be shown.
    log: Option<&'static str>,
    status: &'static str,
    /// What else must be so in the end.
    after: Step,
}

impl Case {
    /// A start that ends in `error` by itself.
    fn new(name: &'static str, code: ReasonCode, says: &'static [&'static str], recipe: &'static str) -> Self {
        let nothing: Step = |_, _| {};
        let (ground, provoke, after) = (nothing, nothing, nothing);
        Self { name, recipe, ground, provoke, code, says, log: None, status: "error", after }
    }

    fn log(self, line: &'static str) -> Self {
        Self { log: Some(line), ..self }
    }

    fn status(self, status: &'static str) -> Self {
        Self { status, ..self }
    }

    fn ground(self, ground: Step) -> Self {
        Self { ground, ..self }
    }

    fn provoke(self, provoke: Step) -> Self {
        Self { provoke, ..self }
    }

    fn after(self, after: Step) -> Self {
        Self { after, ..self }
    }

    fn text(&self) -> String {
        format!("name = \"{}\"\nadapter = \"systemd\"\n{}\n", self.name, self.recipe)
    }
}

/// How the app's process ends.
fn ends() -> Vec<Case> {
    vec![
        Case::new(
            "exit-status",
            ReasonCode::ExitStatus,
            &["exited with status 3"],
            r#"command = ["/bin/sh", "-c", "echo the disk is full; exit 3"]
            restart = { policy = "never" }"#,
        )
        .log("the disk is full"),
        Case::new(
            "exited-cleanly",
            ReasonCode::ExitedCleanly,
            &["exited with status 0"],
            r#"command = ["/bin/sh", "-c", "echo good-bye; until [ -e leave ]; do sleep 0.05; done"]
            restart = { policy = "on-failure", delay = "50ms" }"#,
        )
        .status("stopped")
        .provoke(|machine, app| {
            machine.wait_app(app, "running");
            machine.shell(&format!("touch /proc/{}/cwd/leave", machine.app_pid(app)));
        })
        .log("good-bye"),
        Case::new(
            "signal",
            ReasonCode::Signal,
            &["killed by SIGKILL"],
            r#"command = ["/bin/sleep", "infinity"]
            restart = { policy = "never" }"#,
        )
        .provoke(|machine, app| {
            machine.wait_app(app, "running");
            machine.ok(&["kill", "-KILL", &machine.app_pid(app).to_string()]);
        }),
    ]
}

/// What systemd does about it.
fn verdicts() -> Vec<Case> {
    vec![
        Case::new(
            "start-limit",
            ReasonCode::StartLimit,
            &["systemd gave up restarting it", "the last: exited with status 3"],
            r#"command = ["/bin/sh", "-c", "echo about to fail; exit 3"]
            restart = { policy = "on-failure", delay = "300ms", max_delay = "300ms", burst = 4, window = "1m" }"#,
        )
        .provoke(never_runs_once_it_has_crashed)
        .log("about to fail")
        .after(|machine, app| {
            let shown = machine.ok(&["systemctl", "show", "--property", "ActiveState", "--value", &unit(app)]);
            assert!(["failed", "inactive"].contains(&shown.as_str()), "{shown}");
        }),
        Case::new(
            "watchdog",
            ReasonCode::Watchdog,
            &["did not feed its watchdog in time"],
            r#"command = ["/usr/bin/python3", "-u", "-c", """
import os, socket, time
print('said that it is ready, and then nothing', flush=True)
told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
told.connect(os.environ['NOTIFY_SOCKET'].replace('@', '\\0', 1))
told.send(b'READY=1')
time.sleep(600)
"""]
            ready = { notify = true }
            restart = { policy = "never" }
            unit = { WatchdogSec = "1s", LimitCORE = 0 }"#,
        )
        .log("said that it is ready, and then nothing"),
        Case::new(
            "stopped-outside",
            ReasonCode::StoppedOutside,
            &["stopped by someone else"],
            r#"command = ["/bin/sleep", "infinity"]
            restart = { policy = "on-failure", delay = "50ms" }"#,
        )
        .status("running")
        .provoke(|machine, app| {
            machine.wait_app(app, "running");
            machine.ok(&["systemctl", "stop", &unit(app)]);
        })
        .after(|machine, app| {
            assert_eq!(machine.unit_property(&unit(app), "ActiveState"), "active");
            assert_eq!(machine.pid_of_unit(&unit(app)), machine.app_pid(app));
        }),
    ]
}

/// What its probes say.
fn probes() -> Vec<Case> {
    vec![
        Case::new(
            "silent",
            ReasonCode::StartTimeout,
            &["not ready after 1", "no READY=1 yet"],
            r#"command = ["/bin/sh", "-c", "echo thinking; exec sleep infinity"]
            ready = { notify = true, timeout = "1s" }
            restart = { policy = "never" }"#,
        )
        .log("thinking"),
        Case::new(
            "deaf",
            ReasonCode::StartTimeout,
            &["not ready after 1", "last answer: "],
            r#"command = ["/bin/sh", "-c", "echo thinking; exec sleep infinity"]
            listen = "unix"
            ready = { tcp = true, timeout = "1s" }
            restart = { policy = "never" }"#,
        )
        .log("thinking"),
        Case::new(
            "probe-failed",
            ReasonCode::ProbeFailed,
            &["its readiness probe says that it failed: no licence"],
            r#"command = ["/usr/bin/python3", "-u", "-c", """
import socket
server = socket.socket(socket.AF_UNIX)
server.bind('{socket}')
server.listen()
print('asks for a licence', flush=True)
body = '{{"error":{{"code":"APP_ERROR","message":"no licence"}}}}'
head = 'HTTP/1.1 503 Sorry\\r\\nContent-Type: application/json\\r\\nConnection: close\\r\\nContent-Length: '
while True:
    asked, _ = server.accept()
    asked.recv(4096)
    asked.sendall((head + str(len(body)) + '\\r\\n\\r\\n' + body).encode())
    asked.close()
"""]
            listen = "unix"
            restart = { policy = "never" }
            [ready]
            http = "/health"
            progress = "error.message"
            failed_if = { "error.code" = "APP_ERROR", for = "200ms" }
            interval = "50ms""#,
        )
        .log("asks for a licence"),
    ]
}

/// Its liveness.
fn liveness() -> Vec<Case> {
    vec![
        Case::new(
            "not-alive",
            ReasonCode::NotAlive,
            &["its liveness probe failed 2 times in a row"],
            r#"command = ["/usr/bin/python3", "-u", "-c", """
import socket, time
server = socket.socket(socket.AF_UNIX)
server.bind('{socket}')
server.listen()
print('here I am', flush=True)
time.sleep(600)
"""]
            listen = "unix"
            alive = { tcp = true, interval = "100ms", failures = 2 }
            restart = { policy = "never" }"#,
        )
        .provoke(|machine, app| {
            machine.wait_app(app, "running");
            let address = machine.app(app)["instances"][0]["address"].as_str().unwrap().to_string();
            machine.ok(&["rm", address.trim_start_matches("unix:")]);
        })
        .log("here I am"),
    ]
}

/// Programs that cannot be executed.
fn programs() -> Vec<Case> {
    vec![
        Case::new(
            "missing-binary",
            ReasonCode::MissingBinary,
            &["/no/such/program", "does not exist"],
            r#"command = ["/no/such/program"]"#,
        ),
        Case::new(
            "missing-notify",
            ReasonCode::MissingBinary,
            &["/no/such/program", "does not exist"],
            r#"command = ["/no/such/program"]
            ready = { notify = true }"#,
        ),
        Case::new(
            "missing-by-name",
            ReasonCode::MissingBinary,
            &["no-such-program"],
            r#"command = ["no-such-program"]"#,
        ),
        Case::new(
            "not-executable",
            ReasonCode::NotExecutable,
            &["/etc/passwd may not be executed"],
            r#"command = ["/etc/passwd"]"#,
        ),
        Case::new(
            "no-interpreter",
            ReasonCode::NotExecutable,
            &["/usr/local/bin/odd", "/no/such/interpreter", "does not exist"],
            r#"command = ["/usr/local/bin/odd"]"#,
        )
        .ground(|machine, _| {
            machine.write_file("/usr/local/bin/odd", "#!/no/such/interpreter\n");
            machine.ok(&["chmod", "0755", "/usr/local/bin/odd"]);
        }),
        Case::new(
            "not-for-its-user",
            ReasonCode::NotExecutable,
            &["cannot be executed by its user", "203"],
            r#"command = ["/usr/local/bin/private"]
            ready = { notify = true }
            restart = { policy = "never" }"#,
        )
        .ground(|machine, _| _ = machine.shell("install -m 0700 /bin/sleep /usr/local/bin/private")),
    ]
}

/// Directories and users that are not there.
fn surroundings() -> Vec<Case> {
    vec![
        Case::new(
            "bad-working-directory",
            ReasonCode::BadWorkingDirectory,
            &["/no/such/dir"],
            r#"command = ["/bin/sleep", "infinity"]
            working_dir = "/no/such/dir""#,
        ),
        Case::new(
            "closed-directory",
            ReasonCode::BadWorkingDirectory,
            &["/srv/closed"],
            r#"command = ["/bin/sleep", "infinity"]
            working_dir = "/srv/closed""#,
        )
        .ground(|machine, _| _ = machine.shell("install -d -m 0700 /srv/closed")),
        Case::new(
            "bad-user",
            ReasonCode::BadUser,
            &["nobody-of-that-name"],
            r#"command = ["/bin/sleep", "infinity"]
            user = "nobody-of-that-name""#,
        ),
        Case::new(
            "bad-group",
            ReasonCode::BadUser,
            &["group"],
            r#"command = ["/bin/sleep", "infinity"]
            unit = { SupplementaryGroups = ["no-such-group"] }"#,
        ),
        Case::new(
            "bad-group-notify",
            ReasonCode::BadUser,
            &["group"],
            r#"command = ["/bin/sleep", "infinity"]
            ready = { notify = true }
            restart = { policy = "never" }
            unit = { SupplementaryGroups = ["no-such-group"] }"#,
        ),
        Case::new(
            "own-status",
            ReasonCode::StartLimit,
            &["the last: exited with status 217"],
            r#"command = ["/bin/sh", "-c", "exit 217"]
            restart = { policy = "on-failure", delay = "50ms", burst = 1 }"#,
        ),
    ]
}

/// What systemd does not do as it was told.
fn orders() -> Vec<Case> {
    vec![
        Case::new(
            "refused-property",
            ReasonCode::BadProperty,
            &["systemd refused its unit", "ersonality"],
            r#"command = ["/bin/sleep", "infinity"]
            unit = { Personality = "pleasant" }"#,
        ),
        Case::new(
            "useless-property",
            ReasonCode::BadProperty,
            &["a property of its unit could not be applied", "226"],
            r#"command = ["/bin/sleep", "infinity"]
            unit = { ReadWritePaths = ["/no/such/place"] }"#,
        ),
        Case::new(
            "no-credential",
            ReasonCode::SpawnFailed,
            &["credentials could not be set up", "243"],
            r#"command = ["/bin/sleep", "infinity"]
            restart = { policy = "never" }
            unit = { LoadCredential = ["key:/no/such/key"] }"#,
        ),
        Case::new(
            "no-variable",
            ReasonCode::BadRecipe,
            &["env.LICENCE"],
            r#"command = ["/bin/sleep", "{env.LICENCE}"]"#,
        ),
    ]
}

/// What somebody else has.
fn conflicts() -> Vec<Case> {
    vec![
        Case::new(
            "port-in-use",
            ReasonCode::PortInUse,
            &["port 2000"],
            r#"command = ["/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", "{port}"]
            listen = "port""#,
        )
        .ground(|machine, _| {
            for port in PORTS {
                let port = port.to_string();
                machine.ok(&["systemd-run", "python3", "-m", "http.server", "--bind", "127.0.0.1", &port]);
                machine.wait("the port is taken", Duration::from_secs(10), |machine| {
                    let list = machine.ok(&["ss", "-Hlnt", "sport", "=", &port]);
                    if list.is_empty() { Err("nobody listens there") } else { Ok(()) }.map_err(String::from)
                });
            }
        }),
        Case::new(
            "unit-conflict",
            ReasonCode::UnitConflict,
            &["nbs-app-unit-conflict.service", "is not nbsupervisor's"],
            r#"command = ["/bin/sleep", "infinity"]"#,
        )
        .ground(|machine, app| {
            machine.ok(&["systemd-run", "--unit", &unit(app), "sleep", "4711"]);
            let life = format!("{} {}", machine.pid_of_unit(&unit(app)), machine.invocation_of(&unit(app)));
            machine.write_file("/run/foreign", life);
        })
        .after(|machine, app| {
            machine.run(&["nbsupervisor", "app", "stop", app]);
            let life = format!("{} {}", machine.pid_of_unit(&unit(app)), machine.invocation_of(&unit(app)));
            assert_eq!(machine.read_file("/run/foreign"), life, "it was not touched");
            assert!(machine.lives(machine.pid_of_unit(&unit(app))));
        }),
    ]
}

/// Hooks, and what happens to the whole machine.
fn hooks_and_machine() -> Vec<Case> {
    vec![
        Case::new(
            "hook-failed",
            ReasonCode::HookFailed,
            &["prepare hook 0", "exited with status 4"],
            r#"command = ["/bin/sleep", "infinity"]
            prepare = [{ command = ["/bin/sh", "-c", "echo cannot migrate; exit 4"], timeout = "1m" }]"#,
        )
        .log("cannot migrate"),
        Case::new(
            "hook-interrupted",
            ReasonCode::HookInterrupted,
            &["prepare hook 0", "was cut off when the daemon ended"],
            r#"command = ["/bin/sleep", "infinity"]
            prepare = [{ command = ["/bin/sh", "-c", "echo turn >>turns; exec sleep 4712"], timeout = "10m" }]"#,
        )
        .provoke(|machine, _| {
            machine.wait("the hook runs", Duration::from_secs(20), |machine| {
                if machine.run(&["pgrep", "-f", "^sleep 4712"]).status.success() { Ok(()) } else { Err("no".into()) }
            });
            let former = machine.kill9_daemon();
            machine.wait_daemon(former);
        })
        .after(|machine, app| {
            machine.wait("nothing of the hook is left", Duration::from_secs(10), |machine| {
                let list = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "nbs-hook-*"];
                let left =
                    machine.ok(&list) + &String::from_utf8_lossy(&machine.run(&["pgrep", "-f", "^sleep 4712"]).stdout);
                if left.is_empty() { Ok(()) } else { Err(left) }
            });
            machine.ok(&["systemctl", "restart", "nbsupervisor"]);
            assert_eq!(machine.app_status(app), "error");
            let turns = machine.shell(&format!("cat /var/lib/nbsupervisor/apps/{app}/turns"));
            assert_eq!(turns, "turn", "it is not run again by itself");
        }),
        Case::new(
            "rebooted",
            ReasonCode::Rebooted,
            &["the host was restarted"],
            r#"command = ["/bin/sleep", "infinity"]"#,
        )
        .status("stopped")
        .provoke(|machine, app| {
            machine.wait_app(app, "running");
            machine.reboot();
            machine.wait_unit("nbsupervisor.service", "active");
        }),
    ]
}

/// All that an app with `listen = "port"` may be given here.
const PORTS: std::ops::RangeInclusive<u16> = 20000..=20001;

fn unit(app: &str) -> String {
    format!("nbs-app-{app}.service")
}

/// Looks all the time at an app that loops: after its first crash it is never said to run.
fn never_runs_once_it_has_crashed(machine: &mut Machine, app: &str) {
    let mut crashed = false;
    machine.wait("it is given up", Duration::from_secs(30), |machine| {
        let shown = machine.app(app);
        crashed |= !shown["instances"][0]["reason"].is_null();
        assert!(!crashed || shown["status"] != "running", "{shown:#}");
        if shown["status"] == "error" { Ok(()) } else { Err(format!("{shown:#}")) }
    });
    assert!(crashed);
    let events = machine.admin("GET", &format!("/api/v1/events?since=0&app={app}"), None).json();
    let kinds: Vec<&str> =
        events["events"].as_array().unwrap().iter().filter_map(|event| event["kind"].as_str()).collect();
    let first = kinds.iter().position(|kind| *kind == "instance_crashed").unwrap();
    assert!(!kinds[first..].contains(&"instance_running"), "{kinds:?}");
}

fn each_reason_code_has_its_cause_words_and_remedy(suite: Suite, adapter: Adapter) {
    let refusals = [programs(), surroundings(), orders(), conflicts()];
    let lives = [ends(), verdicts(), probes(), liveness()];
    let groups = lives.into_iter().chain(refusals).chain([hooks_and_machine()]);
    let cases: Vec<Case> = groups.flatten().collect();
    for code in ReasonCode::ALL {
        let here = cases.iter().any(|case| case.code == *code);
        let elsewhere = ELSEWHERE.iter().any(|(other, _)| other == code);
        assert!(here != elsewhere, "{code} is provoked by a case, or it is said where else");
    }
    let mut machine = machine_with(suite, adapter, &[]);
    let range = format!("[environment]\nport_range = \"{}-{}\"\n", PORTS.start(), PORTS.end());
    machine.write_file("/etc/nbsupervisor/nbsupervisor.d/ports.toml", range);
    machine.ok(&["systemctl", "restart", "nbsupervisor"]);
    for case in &cases {
        machine.recipe(&format!("{}.toml", case.name), &case.text());
    }
    // Every case is tried, so that one run shows all that is wrong.
    let wrong: Vec<&str> = cases.iter().filter(|case| !is_right(&mut machine, case)).map(|case| case.name).collect();
    assert!(wrong.is_empty(), "not as the table says, see above: {wrong:?}");
}

fn is_right(machine: &mut Machine, case: &Case) -> bool {
    let tried = AssertUnwindSafe(|| {
        (case.ground)(machine, case.name);
        machine.cli(&["app", "create", case.name, "--runtime", case.name, "--start-mode", "manual"]);
        machine.ok(&["nbsupervisor", "-q", "app", "start", "--no-wait", case.name]);
        (case.provoke)(machine, case.name);
        machine.wait(&format!("{} is told", case.name), Duration::from_secs(20), |machine| told(machine, case));
        check(machine, case);
        (case.after)(machine, case.name);
    });
    catch_unwind(tried).is_ok()
}

fn instance(machine: &Machine, app: &str) -> Value {
    machine.app(app)["instances"][0].clone()
}

fn told(machine: &Machine, case: &Case) -> Result<(), String> {
    let shown = instance(machine, case.name);
    let is_so = shown["status"] == case.status && shown["reason"]["code"] == case.code.code();
    if is_so { Ok(()) } else { Err(format!("{shown:#}")) }
}

/// The same by the admin interface, `app show` and `app why`.
fn check(machine: &Machine, case: &Case) {
    let (name, remedy) = (case.name, case.code.remedy());
    let shown = instance(machine, name);
    assert_eq!(shown["reason"]["remedy"], remedy, "{name}: {shown:#}");
    let text = shown["reason"]["text"].as_str().unwrap();
    assert!(case.says.iter().all(|word| text.contains(word)), "{name}: {:?} in: {text}", case.says);
    let show = machine.ok(&["nbsupervisor", "app", "show", name]);
    let why = machine.ok(&["nbsupervisor", "app", "why", name]);
    assert!(show.contains(&format!("{text} [{}]", case.code)), "{name}: {show}");
    for printed in [&show, &why] {
        assert!(printed.contains(text) && printed.contains(remedy), "{name}: {printed}");
        assert!(case.log.is_none_or(|line| printed.contains(line)), "{name}: {:?} in: {printed}", case.log);
    }
}
