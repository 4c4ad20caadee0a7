//! How one gets in: passwords, ACL users, TLS, versions; and what is said if one does not.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nbs_core::fleet::Bus;
use nbs_core::phase::Phase;
use nbsupervisor::redis_bus::{Cause, Link, Server, Servers, Trouble};

use crate::pause::pause;
use crate::redis::{RedisServer, url};
use crate::rig::*;

async fn ask(server: &Server) -> Result<(), Trouble> {
    Link::alone(server).ask(&redis::cmd("PING")).await.map(drop)
}

#[tokio::test]
async fn a_password_file_is_read_again_at_each_connection() {
    let (log, _guard) = Log::take();
    let mut redis = RedisServer::start_with(&["--requirepass", "right", "--save", ""]);
    redis.access = vec!["-a".into(), "right".into(), "--no-auth-warning".into()];
    let file = redis.directory().join("password");
    private(&file, "wrong\n");
    let server = Server::new(&redis.url(), Some(file.clone()), None).unwrap();
    let mut entry = EntrySide::start_at(Servers { cache: server.clone(), command: server.clone() }, "entry-1", 1);
    entry.hears_bus(Bus::Down).await;
    pause(Duration::from_secs(3), "it is tried again and again").await;
    assert_eq!((log.count("cannot be used"), log.count("password_file")), (1, 1), "{}", log.text());
    assert!(!log.text().contains("wrong\n"), "{}", log.text());
    private(&file, "right\n");
    entry.hears_bus(Bus::Up).await;
    std::fs::remove_file(&file).unwrap();
    let trouble = ask(&server).await.unwrap_err();
    assert!(trouble.cause == Cause::Settings && trouble.text.contains(&file.display().to_string()), "{trouble}");
    let none = ask(&Server::new(&redis.url(), None, None).unwrap()).await.unwrap_err();
    assert_eq!(none.cause, Cause::Auth, "{none}");
}

fn openssl(directory: &Path, arguments: &[&str]) {
    let mut command = Command::new("openssl");
    let output = command.args(arguments).current_dir(directory).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A certificate authority and a certificate of it for `localhost`.
fn authority(directory: &Path, name: &str) -> PathBuf {
    let (ca, key) = (format!("{name}.pem"), format!("{name}.key"));
    let subject = format!("/CN={name}");
    let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    openssl(directory, &[&new[..], &["-keyout", &key, "-out", &ca, "-subj", &subject]].concat());
    let request = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost"];
    openssl(directory, &[&request[..], &["-keyout", "server.key", "-out", "server.csr"]].concat());
    std::fs::write(directory.join("names"), "subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\n").unwrap();
    let sign = ["x509", "-req", "-in", "server.csr", "-CA", &ca, "-CAkey", &key, "-CAcreateserial", "-days", "2"];
    openssl(directory, &[&sign[..], &["-extfile", "names", "-out", "server.pem"]].concat());
    directory.join(ca)
}

/// A port that was free a moment ago.
fn port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn tls_takes_the_certificates_of_its_own_authority_and_no_others() {
    let keys = tempfile::tempdir().unwrap();
    let stranger = tempfile::tempdir().unwrap();
    let (ca, other) = (authority(keys.path(), "ours"), authority(stranger.path(), "theirs"));
    let (port, plain) = (port().to_string(), port().to_string());
    let file = |name: &str| keys.path().join(name).display().to_string();
    let (cert, key, ca_text) = (file("server.pem"), file("server.key"), ca.display().to_string());
    let redis = RedisServer::start_with(&[
        "--port",
        &plain,
        "--tls-port",
        &port,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca_text,
        "--tls-auth-clients",
        "no",
        "--save",
        "",
        "--bind",
        "127.0.0.1 -::1",
    ]);
    let tls = format!("rediss://localhost:{port}");
    let server = |url: &str, ca: Option<&PathBuf>| Server::new(url, None, ca.cloned()).unwrap();
    assert_eq!(ask(&server(&tls, Some(&ca))).await, Ok(()), "{}", redis.log());
    for (what, url, ca) in [
        ("another authority", tls.clone(), Some(&other)),
        ("the system's authorities", tls.clone(), None),
        ("another name", format!("rediss://127.0.0.1:{port}"), Some(&ca)),
        ("no TLS at a TLS port", format!("redis://127.0.0.1:{port}"), None),
    ] {
        let trouble = ask(&server(&url, ca)).await.unwrap_err();
        assert_eq!(trouble.cause, Cause::Tls, "{what}: {trouble}");
        assert!(trouble.to_string().contains("CA file"), "{what}: {trouble}");
    }
    let waits = ask(&server(&format!("rediss://localhost:{plain}"), Some(&ca))).await.unwrap_err();
    assert!(waits.text.contains("without TLS"), "{waits}");
    let both = server(&tls, Some(&ca));
    let mut entry = EntrySide::start_at(Servers { cache: both.clone(), command: both.clone() }, "entry-1", 1);
    let servers = Servers { cache: both.clone(), command: both };
    let mut worker = WorkerSide::start_at(servers, "env_a", "worker-1", None);
    entry.hears_hello("env_a").await;
    entry.order("env_a", run(&entry.reign, "crm", 5, Some(1))).await;
    worker.ordered().await;
}

#[tokio::test]
async fn nobody_there_is_told_from_a_wrong_name() {
    let nobody = ask(&Server::new(&format!("redis://127.0.0.1:{}", port()), None, None).unwrap()).await.unwrap_err();
    assert_eq!(nobody.cause, Cause::Refused, "{nobody}");
    let socket = ask(&Server::new("redis+unix:///nowhere/redis.sock", None, None).unwrap()).await.unwrap_err();
    assert_eq!(socket.cause, Cause::Refused, "{socket}");
    let name = ask(&Server::new("redis://no-such-host.invalid:6379", None, None).unwrap()).await.unwrap_err();
    assert!(matches!(name.cause, Cause::Refused | Cause::Timeout), "{name}");
}

#[tokio::test]
async fn a_version_that_is_too_old_is_refused_by_its_number() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    // No package has a Redis so old.
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("old.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            while let Ok(1..) = stream.read(&mut buffer).await {
                let info = "redis_version:5.0.14\r\nrole:master\r\n";
                let _ = stream.write_all(format!("${}\r\n{info}\r\n", info.len()).as_bytes()).await;
            }
        }
    });
    let trouble = ask(&Server::new(&url(&socket), None, None).unwrap()).await.unwrap_err();
    assert_eq!(trouble.cause, Cause::TooOld);
    assert!(trouble.to_string().contains("5.0.14") && trouble.to_string().contains("6.2"), "{trouble}");
}

#[tokio::test]
async fn a_policy_that_throws_keys_away_is_said_once() {
    let (log, _guard) = Log::take();
    let redis = RedisServer::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "volatile-ttl", "--save", ""]);
    let mut entry = EntrySide::start(&redis.url(), "entry-1", 1);
    entry.hears_bus(Bus::Up).await;
    redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    entry.hears_for(Duration::from_secs(5)).await;
    assert_eq!(log.count("volatile-ttl"), 1, "{}", log.text());
}

/// The users of the example, with passwords, and for the worker of `env_a`.
fn acl() -> String {
    let text = include_str!("../../etc/redis-acl.example");
    let lines = text.lines().filter(|line| line.starts_with("user "));
    let lines: Vec<String> =
        lines.map(|line| line.replace("CHANGE-ME", "secret").replace("ENVIRONMENT", "env_a")).collect();
    lines.join("\n") + "\n"
}

#[tokio::test]
async fn the_users_of_the_example_can_do_their_work_and_nothing_else() {
    let (log, _guard) = Log::take();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("users.acl");
    std::fs::write(&file, acl()).unwrap();
    let mut redis = RedisServer::start_with(&["--aclfile", &file.display().to_string(), "--save", ""]);
    let login =
        |user: &str| vec!["--user".into(), user.into(), "-a".into(), "secret".into(), "--no-auth-warning".into()];
    let password = directory.path().join("password");
    private(&password, "secret\n");
    let servers = |user: &str| {
        let server = Server::new(&format!("{}?user={user}", redis.url()), Some(password.clone()), None).unwrap();
        Servers { cache: server.clone(), command: server }
    };
    let mut entry = EntrySide::start_at(servers("nbs-entry"), "entry-1", 1);
    let mut worker = WorkerSide::start_at(servers("nbs-worker-env_a"), "env_a", "worker-1", None);
    entry.hears_bus(Bus::Up).await;
    entry.hears_hello("env_a").await;
    entry.intent("env_a", "crm", Some(run(&entry.reign, "crm", 5, None))).await;
    entry.order("env_a", run(&entry.reign, "crm", 5, Some(1))).await;
    worker.ordered().await;
    worker.report(instance("crm", 5, Phase::Running)).await;
    entry.hears_instance("env_a", "crm").await;
    entry.hears_alive("env_a").await;
    until("usage is known", || entry.handle.usage(&worker.name).map(drop).ok_or_else(|| "none".to_string())).await;
    let forgotten = nbsupervisor::ports::Outgoing::Forgotten(environment("env_old"));
    entry.outgoing.send(forgotten).await.unwrap();
    redis.access = login("nbs-dashboard");
    assert!(redis.cli(&["GET", "nbs:v1:env:env_a:usage"]).contains("cpu_percent"));
    assert_eq!(redis.cli(&["SMEMBERS", "nbs:v1:environments"]), "env_a");
    for refused in [
        &["SET", "nbs:v1:entry", "x"][..],
        &["GET", "nbs:v1:entry"],
        &["XRANGE", "nbs:v1:env:env_a:orders", "-", "+"],
        &["FLUSHALL"],
        &["CONFIG", "GET", "*"],
    ] {
        assert!(redis.cli(refused).contains("NOPERM"), "{refused:?}: {}", redis.cli(refused));
    }
    redis.access = login("nbs-worker-env_a");
    for refused in [
        &["SET", "nbs:v1:entry", "x"][..],
        &["SET", "nbs:v1:env:env_b:lease", "x"],
        &["XADD", "nbs:v1:env:env_a:orders", "*", "m", "x"],
        &["HSET", "nbs:v1:env:env_a:intents", "crm", "x"],
        &["XREADGROUP", "GROUP", "entry", "entry", "STREAMS", "nbs:v1:reports", ">"],
        &["XRANGE", "nbs:v1:reports", "-", "+"],
        &["KEYS", "*"],
        &["FLUSHALL"],
    ] {
        assert!(redis.cli(refused).contains("NOPERM"), "{refused:?}: {}", redis.cli(refused));
    }
    redis.access = login("nbs-entry");
    for refused in [&["GET", "foreign"][..], &["FLUSHALL"], &["CONFIG", "GET", "*"]] {
        assert!(redis.cli(refused).contains("NOPERM"), "{refused:?}: {}", redis.cli(refused));
    }
    assert_eq!(log.text(), "");
}
