//! Upgrades, other secrets and restarts that an app asks for, with a real daemon and real hooks.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::eventually::eventually;

const SOON: Duration = Duration::from_secs(20);

/// An app whose data has a version, and whose upgrade takes over the one that is installed.
fn recipe(dir: &str, upgrade: &str, limit: &str) -> String {
    format!(
        r#"
name = "kind"
command = ["/bin/sh", "-c", 'printf %s "$SECRET" > secret.new; mv secret.new secret; exec sleep infinity']
environment = {{ SECRET = "{{secret.jwt}}" }}
listen = "none"
ready = {{ exec = ["/usr/bin/test", "-e", "secret"], interval = "20ms" }}
stop = {{ signal = "SIGTERM", timeout = "5s" }}
installed = {{ exec = ["/bin/cat", "{dir}/installed"] }}
backup = [{{ command = ["/bin/sh", "-c", "echo backup >> steps"] }}]
upgrade = [{{ command = ["/bin/sh", "-c", '''{upgrade}'''], timeout = "{limit}" }}]
restart = {{ policy = "on-failure", delay = "0s", on_file = "{{state_dir}}/storage/.upgrading" }}
"#
    )
}

/// Writes down that it ran, and takes over the version.
const GOOD: &str = "echo upgrade >> steps; cat ../../../installed > data";

/// A daemon in a directory that goes after it.
struct Rig {
    daemon: Daemon,
    _temp: tempfile::TempDir,
}

impl std::ops::Deref for Rig {
    type Target = Daemon;
    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl std::ops::DerefMut for Rig {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}

fn daemon(upgrade: &str) -> Rig {
    daemon_with(upgrade, "1m")
}

fn daemon_with(upgrade: &str, limit: &str) -> Rig {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().to_path_buf();
    let recipe = recipe(&dir.display().to_string(), upgrade, limit);
    let mut daemon = Daemon::prepare(dir, &[("kind.toml", &recipe)], &[]);
    install(&daemon, "1.0");
    daemon.launch();
    Rig { daemon, _temp: temp }
}

fn install(daemon: &Daemon, version: &str) {
    let next = daemon.dir().join("installed.new");
    fs::write(&next, format!("{version}\n")).unwrap();
    fs::rename(next, daemon.dir().join("installed")).unwrap();
}

fn create(daemon: &Daemon, extra: &[&str]) {
    let mut arguments = vec!["app", "create", "a", "--runtime", "kind", "--start-mode", "with-supervisor"];
    arguments.extend(extra);
    daemon.cli_ok(&arguments);
    daemon.wait_status("a", "running");
}

fn home(daemon: &Daemon) -> PathBuf {
    daemon.dir().join("state/apps/a")
}

fn text(daemon: &Daemon, file: &str) -> String {
    fs::read_to_string(home(daemon).join(file)).unwrap_or_default()
}

fn instance(daemon: &Daemon) -> Value {
    daemon.app("a")["instances"][0].clone()
}

fn talk(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn an_upgrade_backs_up_runs_its_steps_once_and_shows_itself() {
    let daemon =
        daemon("while ! test -e go; do sleep 0.02; done; echo upgrade >> steps; cat ../../../installed > data");
    create(&daemon, &[]);
    let before = instance(&daemon)["pid"].clone();
    daemon.cli_ok(&["app", "upgrade", "a", "--no-wait"]);
    daemon.wait_status("a", "commanding");
    eventually("its step is shown", SOON, || match instance(&daemon)["progress"].as_str() {
        Some("upgrade, step 2 of 2") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert!(instance(&daemon)["pid"].is_null(), "it is stopped while it is upgraded");
    let why = daemon.cli_ok(&["app", "why", "a"]);
    assert!(why.contains("is being upgraded"), "{why}");
    fs::write(home(&daemon).join("go"), "").unwrap();
    daemon.wait_status("a", "running");
    assert_eq!((text(&daemon, "steps").as_str(), text(&daemon, "data").as_str()), ("backup\nupgrade\n", "1.0\n"));
    assert_ne!(instance(&daemon)["pid"], before);
    let operation = daemon.request("GET", "/api/v1/operations?app=a&limit=1", None).body["operations"][0].clone();
    assert_eq!((&operation["action"], &operation["status"]), (&json!("upgrade"), &json!("done")));
    daemon.cli_ok(&["app", "restart", "a"]);
    assert_eq!(text(&daemon, "steps"), "backup\nupgrade\n", "a restart is no upgrade");
}

#[test]
fn an_upgrade_that_fails_tells_why_and_is_not_repeated_by_itself() {
    let daemon = daemon("echo upgrade >> steps; echo no such column >&2; exit 3");
    create(&daemon, &[]);
    let output = daemon.cli(&["app", "upgrade", "a"]);
    let said = talk(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("upgrade hook 0 exited with status 3"), "{said}");
    assert!(said.contains("no such column"), "{said}");
    assert_eq!(daemon.app("a")["status"], "error");
    assert_eq!(instance(&daemon)["reason"]["code"], "hook_failed");
    daemon.cli_ok(&["app", "start", "a"]);
    assert_eq!(daemon.app("a")["status"], "running");
    assert_eq!(text(&daemon, "steps"), "backup\nupgrade\n");
}

#[test]
fn an_upgrade_that_hangs_ends_with_its_timeout() {
    let daemon = daemon_with("echo upgrade >> steps; exec sleep 600", "2s");
    create(&daemon, &[]);
    let output = daemon.cli(&["app", "upgrade", "a"]);
    let said = talk(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("timed out after 2s"), "{said}");
    assert_eq!(daemon.app("a")["status"], "error");
}

#[test]
fn an_upgrade_that_is_cut_off_with_the_daemon_is_never_run_again_silently() {
    let mut daemon = daemon("echo upgrade >> steps; while ! test -e go; do sleep 0.02; done");
    create(&daemon, &[]);
    daemon.cli_ok(&["app", "upgrade", "a", "--no-wait"]);
    eventually("its step runs", SOON, || match text(&daemon, "steps").as_str() {
        "backup\nupgrade\n" => Ok(()),
        other => Err(other.to_string()),
    });
    daemon.kill9();
    daemon.launch();
    daemon.wait_status("a", "error");
    assert_eq!(instance(&daemon)["reason"]["code"], "hook_interrupted");
    let operations = daemon.request("GET", "/api/v1/operations?app=a&limit=1", None).body;
    assert_eq!(operations["operations"][0]["status"], "failed", "{operations}");
    fs::write(home(&daemon).join("go"), "").unwrap();
    daemon.kill9();
    daemon.launch();
    daemon.wait_status("a", "error");
    assert_eq!(text(&daemon, "steps"), "backup\nupgrade\n");
    daemon.cli_ok(&["app", "upgrade", "a"]);
    assert_eq!(text(&daemon, "steps"), "backup\nupgrade\nbackup\nupgrade\n", "asked for, it runs again");
}

#[test]
fn with_auto_upgrade_another_installed_version_is_an_upgrade() {
    let daemon = daemon(GOOD);
    create(&daemon, &["--auto-upgrade"]);
    assert_eq!(text(&daemon, "steps"), "", "the first start is none");
    daemon.cli_ok(&["app", "restart", "a"]);
    assert_eq!(text(&daemon, "steps"), "", "the same version is none");
    install(&daemon, "2.0");
    daemon.cli_ok(&["app", "restart", "a"]);
    assert_eq!((text(&daemon, "steps").as_str(), text(&daemon, "data").as_str()), ("backup\nupgrade\n", "2.0\n"));
    daemon.cli_ok(&["app", "restart", "a"]);
    assert_eq!(text(&daemon, "steps"), "backup\nupgrade\n", "once is enough");
}

#[test]
fn a_version_that_cannot_be_told_is_noted_and_stops_nothing() {
    let daemon = daemon(GOOD);
    create(&daemon, &["--auto-upgrade"]);
    fs::remove_file(daemon.dir().join("installed")).unwrap();
    daemon.cli_ok(&["app", "restart", "a"]);
    let notes = instance(&daemon)["notes"].to_string();
    assert!(notes.contains("the installed version cannot be told"), "{notes}");
    assert_eq!(text(&daemon, "steps"), "");
}

#[test]
fn an_app_is_restarted_once_by_the_file_that_its_recipe_names() {
    let mut daemon = daemon(GOOD);
    create(&daemon, &[]);
    let marker = home(&daemon).join("storage/.upgrading");
    fs::create_dir_all(marker.parent().unwrap()).unwrap();
    let pid = |daemon: &Daemon| instance(daemon)["pid"].as_u64();
    let another = |daemon: &Daemon, before: Option<u64>| {
        eventually("it runs under another pid", SOON, || match (pid(daemon), daemon.app("a")["status"].as_str()) {
            (Some(now), Some("running")) if Some(now) != before => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };
    let first = pid(&daemon);
    fs::write(&marker, "1").unwrap();
    another(&daemon, first);
    let second = pid(&daemon);
    let why = daemon.cli_ok(&["app", "why", "a"]);
    assert!(why.contains("restart.on_file"), "{why}");
    // Written while no daemon was there: it is found afterwards, and what was there before asks for nothing again.
    daemon.kill9();
    let now = std::time::SystemTime::now() + Duration::from_secs(1);
    fs::File::options().write(true).open(&marker).unwrap().set_modified(now).unwrap();
    daemon.launch();
    another(&daemon, second);
}

/// The secret that the app was handed after another one: the file of its former run satisfies the probe.
fn next_secret(daemon: &Daemon, before: &str) -> String {
    eventually("it has another secret", SOON, || {
        let now = text(daemon, "secret");
        if now == before { Err(now) } else { Ok(()) }
    });
    text(daemon, "secret")
}

#[test]
fn a_rotated_secret_counts_from_the_next_start_and_is_not_shown() {
    let daemon = daemon(GOOD);
    create(&daemon, &[]);
    let first = text(&daemon, "secret");
    assert_eq!(first.len(), 64, "{first}");
    let said = daemon.cli(&["app", "rotate-secret", "a"]);
    assert!(said.status.success(), "{}", talk(&said));
    assert_eq!(daemon.app("a")["generation"], 2);
    assert_eq!(daemon.app("a")["status"], "running");
    daemon.cli_ok(&["app", "restart", "a"]);
    let second = next_secret(&daemon, &first);
    let output = daemon.cli(&["app", "rotate-secret", "a", "--restart"]);
    assert!(output.status.success(), "{}", talk(&output));
    let third = next_secret(&daemon, &second);
    let shown = daemon.request("GET", "/api/v1/apps/a", None).body.to_string() + &talk(&said) + &talk(&output);
    assert!([first, second, third].iter().all(|secret| !shown.contains(secret)), "{shown}");
}

#[test]
fn what_cannot_be_done_is_refused_with_the_remedy() {
    let daemon = Daemon::start(&[("sleeper.toml", crate::recipes::SLEEPER.1)]);
    daemon.cli_ok(&["app", "create", "a", "--runtime", "sleeper", "--start-mode", "manual"]);
    let table = [
        (vec!["app", "upgrade", "a"], 4, "has no steps for an upgrade"),
        (vec!["app", "upgrade", "b"], 3, "there is no app b"),
        (vec!["app", "move", "a"], 2, "where a is to go is not said"),
        (vec!["app", "move", "a", "--environment", "elsewhere"], 4, "there is no environment elsewhere"),
    ];
    for (arguments, code, text) in table {
        let output = daemon.cli(&arguments);
        let said = talk(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(text), "{arguments:?}: {said}");
    }
    let nonsense =
        daemon.request("POST", "/api/v1/apps/a/move", Some(json!({ "environments": ["local"], "dryrun": true })));
    assert_eq!((nonsense.status, &nonsense.body["code"]), (400, &json!("unknown_field")));
    let plan = daemon.cli_ok(&["app", "move", "a", "--environment", "local", "--dry-run"]);
    assert!(plan.contains("nothing: a is there already"), "{plan}");
}
