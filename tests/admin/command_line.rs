//! The real binary against the room: exit codes, what is on stdout, what on stderr.

use std::io::Write as _;
use std::process::{Output, Stdio};

use crate::room::{Room, open};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn run(room: &Room, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_nbsupervisor"));
    command.arg("--socket").arg(&room.socket).args(arguments).stdin(Stdio::null());
    command.output().await.unwrap()
}

pub async fn expect(room: &Room, arguments: &[&str], code: i32) -> (String, String) {
    let output = run(room, arguments).await;
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\nstdout: {out}\nstderr: {err}");
    (out, err)
}

#[tokio::test]
async fn an_app_lives_through_the_command_line() {
    let room = open().await;
    let (out, err) = expect(&room, &["app", "list"], 0).await;
    assert!(out.is_empty() && err.contains("app create"), "{err}");
    let (_, err) = expect(&room, &["app", "create", "crm", "--runtime", "node", "--env", "A=1"], 0).await;
    assert!(err.contains("crm is created"), "{err}");
    let (_, err) = expect(&room, &["app", "start", "crm"], 0).await;
    assert!(err.contains("start done, running"), "{err}");
    let (out, _) = expect(&room, &["app", "list"], 0).await;
    assert!(out.starts_with("NAME") && out.contains("crm") && out.contains("127.0.0.1:20001"), "{out}");
    for words in [&["app", "show", "crm"][..], &["app", "why", "crm"], &["status"], &["env", "list"], &["ops"]] {
        let (out, _) = expect(&room, words, 0).await;
        assert!(!out.is_empty(), "{words:?}");
    }
    let (out, _) = expect(&room, &["app", "open", "crm"], 0).await;
    assert_eq!(out, "http://127.0.0.1:13000/apps/crm/\n");
    let (_, err) = expect(&room, &["app", "edit", "crm", "--set", "env.A=2", "--unset", "title"], 0).await;
    assert!(err.contains("generation 2"), "{err}");
    let (out, _) = expect(&room, &["app", "logs", "crm", "-n", "2"], 0).await;
    assert_eq!(out, "two\nthree\n");
    let (out, _) = expect(&room, &["app", "stop", "crm", "--no-wait"], 0).await;
    assert_eq!(out.trim().len(), 26);
    expect(&room, &["app", "remove", "crm"], 0).await;
}

#[tokio::test]
async fn json_is_exactly_the_api() {
    let room = open().await;
    room.create("crm").await;
    for (words, path) in [
        (&["app", "list"][..], "/api/v1/apps"),
        (&["app", "show", "crm"], "/api/v1/apps/crm"),
        (&["env", "show", "local"], "/api/v1/environments/local"),
        (&["runtime", "list"], "/api/v1/runtimes"),
        (&["queue"], "/api/v1/queue"),
    ] {
        let (out, _) = expect(&room, &[words, &["--output", "json"]].concat(), 0).await;
        assert_eq!(out.trim_end(), room.get(path).await.text, "{words:?}");
    }
}

#[tokio::test]
async fn every_way_to_fail_has_its_code() {
    let room = open().await;
    room.create("crm").await;
    room.create("broken").await;
    expect(&room, &["app", "shwo"], 2).await;
    expect(&room, &["app", "create", "x", "--runtime", "node", "--secret", "K=v"], 2).await;
    let (_, err) = expect(&room, &["app", "show", "nobody"], 3).await;
    assert!(err.contains("error: there is no app nobody") && err.contains("hint:"), "{err}");
    let (_, err) = expect(&room, &["app", "create", "crm", "--runtime", "node"], 4).await;
    assert!(err.contains("exists already"), "{err}");
    expect(&room, &["app", "create", "Crm", "--runtime", "node"], 4).await;
    let (_, err) = expect(&room, &["app", "start", "broken", "crm"], 1).await;
    for part in ["exited with status 3", "cannot find module", "hint:", "crm: start done"] {
        assert!(err.contains(part), "{part} is not in {err}");
    }
    let (_, err) = expect(&room, &["--socket", "/nowhere/x.sock", "status"], 2).await;
    assert!(err.contains("--socket"), "{err}");
    let mut lost = tokio::process::Command::new(env!("CARGO_BIN_EXE_nbsupervisor"));
    let output = lost.args(["--socket", "/nowhere/x.sock", "status"]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
    let (_, err) = expect(&room, &["stop-all"], 2).await;
    assert!(err.contains("--yes"), "{err}");
    expect(&room, &["stop-all", "--yes"], 0).await;
}

#[tokio::test]
async fn apply_plans_then_does() {
    let room = open().await;
    room.create("old").await;
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    write!(file, "[[app]]\nname = \"crm\"\nruntime = \"node\"\n[app.env]\nA = \"1\"\n").unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let path = path.as_str();
    let plan = ["apply", "-f", path, "--prune", "--dry-run"];
    let (out, _) = expect(&room, &plan, 0).await;
    assert_eq!(out, "+ create crm\n- remove old\n");
    assert_eq!(room.get("/api/v1/apps/crm").await.status, 404);
    expect(&room, &["apply", "-f", path, "--prune", "--yes"], 0).await;
    assert_eq!(room.get("/api/v1/apps/old").await.status, 404);
    let (out, _) = expect(&room, &plan, 0).await;
    assert_eq!(out, "= keep   crm\n");
    writeln!(file, "B = \"2\"").unwrap();
    let (out, _) = expect(&room, &["apply", "-f", path], 0).await;
    assert_eq!(out, "~ change crm: env\n");
    assert_eq!(room.get("/api/v1/apps/crm").await.json()["generation"], 2);
    write!(file, "[[app]]\nname = \"x\"\n").unwrap();
    let (_, err) = expect(&room, &["apply", "-f", path], 4).await;
    assert!(err.contains(&format!("{path}: x: runtime")), "{err}");
}

#[tokio::test]
async fn a_token_lets_the_command_line_in_over_tcp() {
    let room = open().await;
    let (token, _) = expect(&room, &["token", "create", "laptop"], 0).await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "{token}").unwrap();
    let url = format!("http://{}", room.tcp);
    let over_tcp = |verb: &'static str| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_nbsupervisor"));
        command.args(["--url", &url, "--token-file"]).arg(file.path()).arg(verb);
        command
    };
    assert_eq!(over_tcp("status").output().await.unwrap().status.code(), Some(0));
    expect(&room, &["token", "revoke", "laptop"], 0).await;
    assert_eq!(over_tcp("status").output().await.unwrap().status.code(), Some(4));
}

#[tokio::test]
async fn completions_need_no_daemon_and_a_closed_pipe_is_no_failure() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_nbsupervisor"));
    let mut child =
        command.args(["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
}
