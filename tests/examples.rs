//! The sample apps do what their page says, and their recipes are whole.

#![allow(clippy::unwrap_used, reason = "a test may fail so")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::BodyExt as _;
use nbs_core::template::Template;
use tokio_tungstenite::tungstenite::{Bytes, Message};

fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(file)
}

/// A running hello.py; killed at the end.
struct Hello {
    child: Child,
    log: BufReader<std::process::ChildStdout>,
}

impl Drop for Hello {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Hello {
    /// None when it ended before it listened: somebody else took the port.
    fn start(variable: &str, value: &str) -> Option<Self> {
        let mut command = Command::new("python3");
        command.arg("-B").arg(example("hello/hello.py")).env(variable, value).env("APP_NAME", "greeter");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut log = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        if line.is_empty() {
            child.wait().unwrap();
            return None;
        }
        assert!(line.starts_with("greeter 1.0.0 listens on "), "{line}");
        Some(Self { child, log })
    }

    fn on_a_port() -> (Self, u16) {
        for _ in 0..20 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if let Some(hello) = Self::start("PORT", &port.to_string()) {
                return (hello, port);
            }
        }
        panic!("no free port");
    }

    /// SIGTERM, and how it ended.
    fn ends_well(mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        assert!(rest.ends_with("greeter ends\n") && !rest.contains("/health"), "{rest}");
    }
}

/// A request on a fresh connection, and everything that came back.
fn ask(mut stream: impl Read + Write, path: &str, headers: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test]
async fn hello_shows_its_page_and_ends_on_sigterm() {
    let (hello, port) = Hello::on_a_port();
    let connect = || TcpStream::connect(("127.0.0.1", port)).unwrap();
    let page = ask(connect(), "/", "X-Forwarded-Prefix: /apps/greeter\r\nX-Odd: <b>\r\n");
    let pid = hello.child.id();
    for part in ["Hello from greeter", &format!("Process {pid},"), "href=\"/apps/greeter/slow?ms=1000\"", "&lt;b&gt;"] {
        assert!(page.contains(part), "{part} in {page}");
    }
    assert!(page.contains("\"/apps/greeter\" + \"/ws\""));
    assert!(ask(connect(), "/", "").contains("href=\"/slow?ms=1000\""), "without a prefix");
    let evil = ask(connect(), "/", "X-Forwarded-Prefix: </script><script>x\r\n");
    assert!(!evil.contains("</script><script>x"), "{evil}");
    assert!(ask(connect(), "/health", "").ends_with("\r\n\r\nok"));
    assert!(ask(connect(), "/version", "").ends_with("{\"version\": \"1.0.0\"}"));
    assert!(ask(connect(), "/slow?ms=5", "").ends_with("waited 5 ms\n"));
    assert!(ask(connect(), "/slow?ms=x", "").starts_with("HTTP/1.1 400"));
    assert!(ask(connect(), "/none", "").starts_with("HTTP/1.1 404"));
    assert!(ask(connect(), "/ws", "").starts_with("HTTP/1.1 426"));
    let idle = connect();
    hello.ends_well();
    drop(idle);
}

#[tokio::test]
async fn hello_keeps_connections_alive() {
    let (hello, port) = Hello::on_a_port();
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..3 {
        let request = hyper::Request::get("/health").header("host", "x").body(String::new()).unwrap();
        let body = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "ok");
    }
    hello.ends_well();
}

#[tokio::test]
async fn hello_echoes_on_its_websocket() {
    let (hello, port) = Hello::on_a_port();
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://127.0.0.1:{port}/ws")).await.unwrap();
    for text in ["hi", "ü".repeat(300).as_str(), "x".repeat(70_000).as_str()] {
        socket.send(Message::text(text)).await.unwrap();
        assert_eq!(socket.next().await.map(Result::unwrap), Some(Message::text(text)));
    }
    socket.send(Message::Ping(Bytes::from_static(b"p"))).await.unwrap();
    assert_eq!(socket.next().await.map(Result::unwrap), Some(Message::Pong(Bytes::from_static(b"p"))));
    socket.close(None).await.unwrap();
    assert!(matches!(socket.next().await.map(Result::unwrap), Some(Message::Close(_))));
    assert_eq!(socket.next().await.map(Result::unwrap), None);
    hello.ends_well();
}

#[test]
fn hello_listens_on_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    // A killed predecessor leaves its socket.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let hello = Hello::start("SOCKET", path.to_str().unwrap()).unwrap();
    assert!(ask(UnixStream::connect(&path).unwrap(), "/health", "").ends_with("ok"));
    hello.ends_well();
    assert!(!path.exists());
}

#[test]
fn crasher_crashes_after_some_words() {
    let output = Command::new("/bin/sh").arg(example("crasher/crasher.sh")).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(String::from_utf8(output.stderr).unwrap().lines().last(), Some("crasher: giving up"));
}

#[test]
fn every_recipe_finds_its_files_by_app_dir_alone() {
    for name in ["hello", "crasher", "static"] {
        let text = std::fs::read_to_string(example(&format!("{name}/{name}.toml"))).unwrap();
        let recipe: toml::Table = text.parse().unwrap();
        assert_eq!(recipe["name"].as_str(), Some(name));
        let app_dir = recipe["app_dir"].as_str().unwrap();
        assert_eq!(text.matches(app_dir).count(), 1, "demo rewrites this one place");
        for word in recipe["command"].as_array().unwrap() {
            let word = Template::parse(word.as_str().unwrap()).unwrap();
            let here = example(name).display().to_string();
            let Ok(filled) = word.render(|hole| (hole.to_string() == "app_dir").then(|| here.clone())) else {
                continue;
            };
            assert!(!filled.starts_with('/') || Path::new(&filled).exists(), "{filled}");
        }
    }
}
