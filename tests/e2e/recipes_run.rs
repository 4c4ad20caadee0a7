//! Recipes at work: every way to be ready, to listen, to prepare, to be asked for life, and to be somebody else.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use serde_json::Value;

use crate::daemon::Daemon;
use crate::eventually::eventually;

/// A server whose answers to `/health` stand in a file of its directory: status, then body. Everything else is 200.
const SERVER: &str = r#"
import http.server, os, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = 200, "path " + self.path
        if self.path == "/health":
            try:
                status, body = open("health").read().split(" ", 1)
            except OSError:
                status, body = 503, "not yet"
        data = body.encode()
        self.send_response(int(status))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *arguments):
        pass
    def address_string(self):
        return "-"
class Server(http.server.ThreadingHTTPServer):
    def server_bind(self):
        pass
how, where = sys.argv[1], sys.argv[2]
server = Server(("127.0.0.1", 0), Handler, bind_and_activate=False)
if how == "fd":
    server.socket = socket.socket(fileno=3)
elif how == "unix":
    server.socket = socket.socket(socket.AF_UNIX)
    server.socket.bind(where)
    server.socket.listen()
else:
    server.socket = socket.socket()
    server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.socket.bind(("127.0.0.1", int(where)))
    server.socket.listen()
print("listening", flush=True)
server.serve_forever()
"#;

/// A recipe around the server above.
fn server(name: &str, listen: &str, rest: &str) -> String {
    let place = match listen {
        "unix" => "{socket}",
        _ => "{port}",
    };
    let code = SERVER.replace('{', "{{").replace('}', "}}");
    format!(
        "name = \"{name}\"\ncommand = [\"/usr/bin/python3\", \"-c\", '''{code}''', \"{listen}\", \"{place}\"]\n\
         listen = \"{listen}\"\nstrip_prefix = true\nstop = {{ signal = \"SIGTERM\", timeout = \"5s\" }}\n{rest}\n"
    )
}

fn shell(name: &str, script: &str, rest: &str) -> String {
    format!("name = \"{name}\"\ncommand = [\"/bin/sh\", \"-c\", '''{script}''']\nlisten = \"none\"\n{rest}\n")
}

fn daemon(recipe: &str) -> Daemon {
    Daemon::start(&[("kind.toml", recipe)])
}

fn create(daemon: &Daemon, extra: &[&str]) {
    let mut arguments = vec!["app", "create", "a", "--runtime", "kind", "--start-mode", "manual"];
    arguments.extend(extra);
    daemon.cli_ok(&arguments);
}

fn home(daemon: &Daemon) -> std::path::PathBuf {
    daemon.dir().join("state/apps/a")
}

fn health(daemon: &Daemon, text: &str) {
    // The app may not have been started so far that its directory is there.
    fs::create_dir_all(home(daemon)).unwrap();
    let next = home(daemon).join("health.new");
    fs::write(&next, text).unwrap();
    fs::rename(next, home(daemon).join("health")).unwrap();
}

fn instance(daemon: &Daemon) -> Value {
    daemon.app("a")["instances"][0].clone()
}

fn visit(daemon: &Daemon, path: &str) -> String {
    let address = daemon.gateway();
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn talk(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn http_readiness_waits_for_the_wanted_body_and_shows_progress() {
    let ready = r#"ready = { http = "/health", expect_body = "ok", progress = "error.message", interval = "20ms", timeout = "20s" }"#;
    let daemon = daemon(&server("kind", "port", ready));
    create(&daemon, &[]);
    daemon.cli_ok(&["app", "start", "a", "--no-wait"]);
    daemon.wait_status("a", "initializing");
    health(&daemon, r#"503 {"error":{"message":"load plugin [x], 12/77"}}"#);
    eventually("its progress is shown", Duration::from_secs(10), || {
        let shown = instance(&daemon);
        if shown["progress"] == "load plugin [x], 12/77" { Ok(()) } else { Err(shown.to_string()) }
    });
    let why = daemon.cli_ok(&["app", "why", "a"]);
    assert!(why.contains("the app says: load plugin [x], 12/77"), "{why}");
    health(&daemon, "200 not the word");
    health(&daemon, "200 ok");
    daemon.wait_status("a", "running");
    assert!(visit(&daemon, "/apps/a/x?y=1").ends_with("path /x?y=1"));
}

#[test]
fn an_app_that_says_it_failed_is_failed_and_its_words_are_told() {
    let ready = r#"ready = { http = "/health", progress = "error.message", failed_if = { "error.code" = "APP_ERROR", for = "200ms" }, interval = "20ms", timeout = "30s" }
restart = { policy = "never" }"#;
    let daemon = daemon(&server("kind", "port", ready));
    create(&daemon, &[]);
    daemon.cli_ok(&["app", "start", "a", "--no-wait"]);
    daemon.wait_status("a", "initializing");
    health(&daemon, r#"503 {"error":{"code":"APP_ERROR","message":"no database"}}"#);
    daemon.wait_status("a", "error");
    let why = daemon.cli_ok(&["app", "why", "a"]);
    assert!(why.contains("no database"), "{why}");
}

#[test]
fn an_app_that_never_gets_ready_fails_its_start_in_time_and_says_what_the_probe_saw() {
    let ready =
        "ready = { http = \"/health\", interval = \"20ms\", timeout = \"300ms\" }\nrestart = { policy = \"never\" }";
    let daemon = daemon(&server("kind", "port", ready));
    create(&daemon, &[]);
    let output = daemon.cli(&["app", "start", "a"]);
    assert_eq!(output.status.code(), Some(1));
    let talk = talk(&output);
    assert!(talk.contains("not ready after 3") && talk.contains("ms (") && talk.contains("503"), "{talk}");
    let shown = instance(&daemon);
    assert_eq!(shown["reason"]["code"], "start_timeout", "{shown:#}");
    assert!(daemon.marked().is_empty(), "nothing of it is left");
}

#[test]
fn a_tcp_app_is_ready_when_its_port_answers() {
    let daemon = daemon(&server("kind", "port", "ready = { tcp = true, timeout = \"20s\" }"));
    create(&daemon, &[]);
    daemon.cli_ok(&["app", "start", "a"]);
    assert!(visit(&daemon, "/apps/a/").ends_with("path /"));
}

#[test]
fn an_app_on_a_unix_socket_is_served() {
    let daemon = daemon(&server("kind", "unix", "ready = { http = \"/\", interval = \"20ms\", timeout = \"20s\" }"));
    create(&daemon, &[]);
    daemon.cli_ok(&["app", "start", "a"]);
    assert!(visit(&daemon, "/apps/a/u").ends_with("path /u"));
    let pid = daemon.app_pid("a");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually("it is served again, on the same path", Duration::from_secs(20), || {
        let answer = visit(&daemon, "/apps/a/u");
        if answer.ends_with("path /u") { Ok(()) } else { Err(answer) }
    });
}

#[test]
fn an_app_that_is_given_its_listening_socket_is_served() {
    let daemon = daemon(&server("kind", "fd", "ready = { http = \"/\", interval = \"20ms\", timeout = \"20s\" }"));
    create(&daemon, &[]);
    daemon.cli_ok(&["app", "start", "a"]);
    assert!(visit(&daemon, "/apps/a/f").ends_with("path /f"));
    daemon.cli_ok(&["app", "restart", "a"]);
    assert!(visit(&daemon, "/apps/a/f").ends_with("path /f"));
}

#[test]
fn a_notifying_app_is_ready_when_it_says_so_and_its_status_is_shown() {
    let script = r#"
python3 -c 'import os, socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect(os.environ["NOTIFY_SOCKET"]); s.send(b"STATUS=reading maps\n")'
while [ ! -e go ]; do sleep 0.05; done
python3 -c 'import os, socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect(os.environ["NOTIFY_SOCKET"]); s.send(b"READY=1\n")'
exec sleep infinity
"#;
    let daemon = daemon(&shell("kind", script, "ready = { notify = true, timeout = \"20s\" }"));
    create(&daemon, &[]);
    daemon.cli_ok(&["app", "start", "a", "--no-wait"]);
    eventually("its status is shown", Duration::from_secs(10), || {
        let shown = instance(&daemon);
        let so = shown["progress"] == "reading maps" && shown["status"] == "initializing";
        if so { Ok(()) } else { Err(shown.to_string()) }
    });
    fs::write(home(&daemon).join("go"), "").unwrap();
    daemon.wait_status("a", "running");
}

#[test]
fn a_prepare_hook_runs_once_before_the_first_start_and_a_failing_one_names_itself() {
    let hook = r#"prepare = [{ command = ["/bin/sh", "-c", "echo once >> hooks; echo hook says no; test -e allowed"], timeout = "10s" }]"#;
    let daemon = daemon(&shell("kind", "exec sleep infinity", hook));
    create(&daemon, &[]);
    let output = daemon.cli(&["app", "start", "a"]);
    assert_eq!(output.status.code(), Some(1));
    let said = talk(&output);
    assert!(said.contains("hook") && said.contains("status 1") && said.contains("hook says no"), "{said}");
    assert_eq!(instance(&daemon)["reason"]["code"], "hook_failed");
    fs::write(home(&daemon).join("allowed"), "").unwrap();
    daemon.cli_ok(&["app", "start", "a"]);
    daemon.cli_ok(&["app", "restart", "a"]);
    let hooks = fs::read_to_string(home(&daemon).join("hooks")).unwrap();
    assert_eq!(hooks, "once\nonce\n", "once for the start that failed, once for the one that did not");
}

#[test]
fn a_hook_that_died_with_the_daemon_is_told_and_not_repeated_by_itself() {
    let hook = r#"prepare = [{ command = ["/bin/sh", "-c", "echo once >> hooks; test -e allowed || sleep 60"], timeout = "2m" }]"#;
    let mut daemon = daemon(&shell("kind", "exec sleep infinity", hook));
    create(&daemon, &[]);
    daemon.cli_ok(&["app", "start", "a", "--no-wait"]);
    let hooks = home(&daemon).join("hooks");
    eventually("the hook runs", Duration::from_secs(10), || fs::metadata(&hooks).map(|_| ()));
    daemon.kill9();
    daemon.launch();
    daemon.wait_status("a", "error");
    let shown = instance(&daemon);
    assert_eq!(shown["reason"]["code"], "hook_interrupted", "{shown:#}");
    assert_eq!(fs::read_to_string(&hooks).unwrap(), "once\n");
    eventually("the hook's processes are gone", Duration::from_secs(10), || match daemon.marked() {
        none if none.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
    fs::write(home(&daemon).join("allowed"), "").unwrap();
    daemon.cli_ok(&["app", "start", "a"]);
    assert_eq!(daemon.status("a"), "running");
}

#[test]
fn an_app_that_lives_but_does_not_answer_is_restarted() {
    let rest = r#"ready = { http = "/", interval = "20ms", timeout = "20s" }
alive = { http = "/health", interval = "50ms", timeout = "2s", failures = 2 }
restart = { policy = "on-failure", delay = "0s", burst = 1000 }"#;
    let daemon = daemon(&server("kind", "port", rest));
    create(&daemon, &[]);
    health(&daemon, "200 ok");
    daemon.cli_ok(&["app", "start", "a"]);
    let pid = daemon.app_pid("a");
    health(&daemon, "500 stuck");
    eventually("it is another process", Duration::from_secs(20), || {
        let shown = instance(&daemon);
        let other = shown["pid"].is_number() && shown["pid"] != pid;
        if other { Ok(()) } else { Err(shown.to_string()) }
    });
    health(&daemon, "200 ok");
    daemon.wait_status("a", "running");
    assert_eq!(instance(&daemon)["reason"]["code"], "not_alive", "{:#}", instance(&daemon));
}

#[test]
fn the_version_of_an_app_is_found() {
    let version = r#"version = { exec = ["/bin/echo", "7.8.9"] }"#;
    let daemon = daemon(&shell("kind", "exec sleep infinity", version));
    create(&daemon, &[]);
    daemon.cli_ok(&["app", "start", "a"]);
    eventually("its version is shown", Duration::from_secs(10), || {
        let shown = instance(&daemon);
        if shown["version"] == "7.8.9" { Ok(()) } else { Err(shown.to_string()) }
    });
    assert!(daemon.cli_ok(&["app", "list"]).contains("7.8.9"));
}

#[test]
fn an_app_runs_as_the_user_of_its_recipe() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let daemon = daemon(&shell("kind", ": > mine; id -un; exec sleep infinity", "user = \"nobody\""));
    create(&daemon, &[]);
    daemon.cli_ok(&["app", "start", "a"]);
    eventually("it says who it is", Duration::from_secs(10), || {
        let logs = daemon.cli_ok(&["app", "logs", "a"]);
        if logs.contains("nobody") { Ok(()) } else { Err(logs) }
    });
    let pid = daemon.app_pid("a");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let ids = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
    assert!(!ids.split_whitespace().skip(1).any(|id| id == "0"), "{ids}");
    let mine = fs::metadata(home(&daemon).join("mine")).unwrap();
    assert_ne!(mine.uid(), 0);
    let shown = daemon.cli_ok(&["app", "show", "a"]);
    assert!(!shown.contains("as root"), "{shown}");
}

#[test]
fn a_secret_reaches_the_app_and_nobody_else() {
    const WORD: &str = "correct-horse-battery";
    let script = "test \"$MAIL_PASSWORD\" = correct-horse-$REST && echo it came; exec sleep infinity";
    let daemon = daemon(&shell("kind", script, "environment = { REST = \"battery\" }"));
    let file = daemon.dir().join("secret");
    fs::write(&file, WORD).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    create(&daemon, &["--secret", &format!("MAIL_PASSWORD=@{}", file.display())]);
    daemon.cli_ok(&["app", "start", "a"]);
    eventually("the app has it", Duration::from_secs(10), || {
        let logs = daemon.cli_ok(&["app", "logs", "a"]);
        if logs.contains("it came") { Ok(()) } else { Err(logs) }
    });
    let lines =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    assert!(!lines.map(|line| String::from_utf8_lossy(&line).into_owned()).any(|line| line.contains(WORD)));
    for arguments in [&["app", "show", "a"][..], &["--output", "json", "app", "show", "a"], &["app", "why", "a"]] {
        assert!(!daemon.cli_ok(arguments).contains(WORD), "{arguments:?}");
    }
    let record = fs::read(daemon.dir().join("state/record.db")).unwrap();
    assert!(!record.windows(WORD.len()).any(|part| part == WORD.as_bytes()), "the record is encrypted");
    assert!(!daemon.log().contains(WORD));
}

#[test]
fn sighup_reads_recipes_again_and_a_bad_one_changes_nothing() {
    let daemon = daemon(&shell("kind", "echo first; exec sleep infinity", ""));
    create(&daemon, &[]);
    daemon.cli_ok(&["app", "start", "a"]);
    let pid = daemon.app_pid("a");
    daemon.recipe("kind.toml", &shell("kind", "echo second; exec sleep infinity", "description = \"the new one\""));
    daemon.recipe("other.toml", "name = \"other\"\ncomand = [\"/bin/true\"]\n");
    daemon.reload();
    eventually("the new recipe is there", Duration::from_secs(10), || {
        let list = talk(&daemon.cli(&["runtime", "list"]));
        let so = list.contains("the new one") && list.contains("other.toml") && list.contains("comand");
        if so { Ok(()) } else { Err(list) }
    });
    assert_eq!(daemon.app_pid("a"), pid, "nothing that runs is touched");
    daemon.cli_ok(&["app", "restart", "a"]);
    eventually("the new command ran", Duration::from_secs(10), || {
        let logs = daemon.cli_ok(&["app", "logs", "a"]);
        if logs.ends_with("second\n") { Ok(()) } else { Err(logs) }
    });
    daemon.recipe("kind.toml", "name = \"kind\"\n");
    daemon.reload();
    eventually("the log names file and key", Duration::from_secs(10), || {
        let log = daemon.log();
        if log.contains("kind.toml") && log.contains("command") { Ok(()) } else { Err(log) }
    });
    daemon.cli_ok(&["app", "restart", "a"]);
}

#[test]
fn one_of_several_starts_fails_and_the_others_run() {
    let kind = shell("kind", "exec sleep infinity", "");
    let bad = shell(
        "bad",
        "echo no license; exit 4",
        "ready = { exec = [\"/bin/false\"] }\nrestart = { policy = \"never\" }",
    );
    let daemon = Daemon::start(&[("kind.toml", &kind), ("bad.toml", &bad)]);
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        let runtime = if name == "c" { "bad" } else { "kind" };
        daemon.cli_ok(&["app", "create", name, "--runtime", runtime, "--start-mode", "manual"]);
    }
    let output = daemon.cli(&["app", "start", "a", "b", "c", "d", "e"]);
    assert_eq!(output.status.code(), Some(1));
    let said = talk(&output);
    assert!(said.contains("exited with status 4") && said.contains("no license"), "{said}");
    for name in names {
        assert_eq!(daemon.status(name), if name == "c" { "error" } else { "running" }, "{name}");
    }
}

#[test]
fn the_last_lines_of_a_flood_are_found() {
    let script = "i=0; while [ $i -lt 60000 ]; do echo line $i of the flood, long enough to fill a file soon; i=$((i+1)); done; echo the end; exec sleep infinity";
    let daemon = daemon(&shell("kind", script, ""));
    create(&daemon, &[]);
    daemon.cli_ok(&["app", "start", "a"]);
    eventually("the end of the flood", Duration::from_secs(60), || {
        let tail = daemon.cli_ok(&["app", "logs", "a", "-n", "3"]);
        if tail.ends_with("the end\n") { Ok(()) } else { Err(tail) }
    });
    let tail = daemon.cli_ok(&["app", "logs", "a", "-n", "3"]);
    let wanted = "line 59998 of the flood, long enough to fill a file soon\nline 59999 of the flood, long enough to fill a file soon\nthe end\n";
    assert_eq!(tail, wanted);
}
