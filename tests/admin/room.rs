//! The room on a real unix socket and a real TCP port, and a client that hides nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nbs_core::name::{AppId, EnvironmentName};
use nbs_core::time::{Mono, Now};
use nbsupervisor::admin::{
    About, Admin, AdminState, House, LocalHands, RuntimeSource, TcpAccess, UnixAccess, UsageSource, serve_tcp,
    serve_unix,
};
use nbsupervisor::console;
use nbsupervisor::entry::EntryHandle;
use nbsupervisor::ports::{BoxFuture, LogError, LogLine, LogQuery, LogReader};
use nbsupervisor::wire::api::runtime::RecipeProblem;
use nbsupervisor::wire::api::usage::{AppUsage, Capacity, HostUsage};
use nbsupervisor::wire::spec::SpecDefaults;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::entry::{Memory, NOW, Script, local};

struct Logs;

impl LogReader for Logs {
    fn tail<'a>(&'a self, app: &'a AppId, query: &'a LogQuery) -> BoxFuture<'a, Result<Vec<LogLine>, LogError>> {
        Box::pin(async move {
            if query.since.is_some() {
                return Err(LogError::NoTimes(app.clone()));
            }
            match query.after.as_deref() {
                Some("s=4") => return Ok(vec![LogLine::plain("five".into())]),
                Some(cursor) => return Err(LogError::BadCursor { app: app.clone(), cursor: cursor.into() }),
                None => {}
            }
            if app.as_str() == "hostile" {
                return Ok(vec![LogLine::plain("<b>from the log</b>".into())]);
            }
            let all = ["one", "two", "three"].map(|text| LogLine::plain(text.into()));
            Ok(all.into_iter().skip(3usize.saturating_sub(query.lines)).collect())
        })
    }
    fn follow<'a>(
        &'a self,
        app: &'a AppId,
        query: &'a LogQuery,
    ) -> BoxFuture<'a, Result<mpsc::Receiver<LogLine>, LogError>> {
        Box::pin(async move {
            let (sender, receiver) = mpsc::channel(8);
            for line in self.tail(app, query).await? {
                let _ = sender.send(line).await;
            }
            let four = LogLine { at: Some(NOW), cursor: Some("s=4".into()), ..LogLine::plain("four".into()) };
            let _ = sender.send(four).await;
            // Kept open, as a log is, until the reader goes.
            tokio::spawn(async move { sender.closed().await });
            Ok(receiver)
        })
    }
}

struct Usage;

impl UsageSource for Usage {
    fn app(&self, _: &EnvironmentName, _: &AppId) -> Option<AppUsage> {
        Some(AppUsage { memory_bytes: Some(1 << 20), memory_source: Some("proc_rss".into()), ..AppUsage::default() })
    }
    fn host(&self, _: &EnvironmentName) -> Option<HostUsage> {
        Some(HostUsage::default())
    }
    fn capacity(&self, _: &EnvironmentName) -> Option<Capacity> {
        Some(Capacity { cpus: 2, memory_bytes: 1 << 30 })
    }
}

struct Recipes;

impl RuntimeSource for Recipes {
    fn problems(&self) -> Vec<RecipeProblem> {
        let (file, detail) = ("/x/bad.toml".into(), "no command".into());
        vec![RecipeProblem { file, line: Some(3), field: None, detail, hint: None }]
    }
    fn refresh(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {})
    }
}

/// The room, served.
pub struct Room {
    pub socket: PathBuf,
    pub tcp: std::net::SocketAddr,
    _dir: tempfile::TempDir,
    stop: CancellationToken,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A standalone room with a scripted entry.
pub async fn open() -> Room {
    let record = Arc::new(Memory::default());
    let (entry, desk) = nbsupervisor::entry::desk(record.clone(), 64);
    tokio::spawn(Script::new(desk, record).run());
    serve(entry, None, Some([local()].into()), Arc::new(|| Now { mono: Mono::default(), wall: NOW })).await
}

/// A room with that entry, or with the hands of a worker.
pub async fn serve(
    entry: EntryHandle,
    hands: Option<Arc<dyn LocalHands>>,
    environments: Option<BTreeSet<EnvironmentName>>,
    now: Arc<dyn Fn() -> Now + Send + Sync>,
) -> Room {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin.sock");
    let stop = CancellationToken::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp = listener.local_addr().unwrap();
    let admin = Admin::new(AdminState {
        entry,
        local: hands,
        logs: Arc::new(Logs),
        usage: Arc::new(Usage),
        runtimes: Arc::new(Recipes),
        defaults: SpecDefaults { environments },
        now,
        about: About {
            version: "0.1.0".into(),
            mode: "standalone".into(),
            started_at: NOW,
            admin_socket: None,
            admin_listen: Some(tcp.to_string()),
            gateway_url: Some("http://127.0.0.1:13000".into()),
        },
        ready: Arc::new(AtomicBool::new(true)),
        stop: stop.clone(),
    });
    let unix = UnixListener::bind(&socket).unwrap();
    let access = UnixAccess { own_uid: nix::unistd::geteuid().as_raw() };
    let house = House { router: admin.router().merge(console::router(admin)), stop: stop.clone() };
    tokio::spawn(serve_unix(house.clone(), unix, access));
    tokio::spawn(serve_tcp(house, listener, TcpAccess::default()));
    Room { socket, tcp, _dir: dir, stop }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub text: String,
}

impl Answer {
    fn of(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, text) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        let head = head.to_lowercase();
        let text = if head.contains("transfer-encoding: chunked") { dechunk(text) } else { text.into() };
        Self { status, head, text }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    pub fn code(&self) -> String {
        assert!(self.head.contains("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{self:?}");
        problem["code"].as_str().unwrap().into()
    }
}

/// Joins the pieces that a body came in.
fn dechunk(mut raw: &str) -> String {
    let mut body = String::new();
    while let Some((size, rest)) = raw.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        let Some(piece) = rest.get(..size).filter(|piece| !piece.is_empty()) else { break };
        body.push_str(piece);
        raw = rest.get(size + 2..).unwrap_or("");
    }
    body
}

impl Room {
    /// Over the unix socket.
    pub async fn ask(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        Self::exchange(stream, &request(method, path, "localhost", headers, body)).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }

    pub async fn create(&self, name: &str) -> Answer {
        self.ask("POST", "/api/v1/apps", &[], &format!(r#"{{"name":"{name}","runtime":"node"}}"#)).await
    }

    /// Over TCP.
    pub async fn ask_tcp(&self, path: &str, host: &str, headers: &[&str]) -> Answer {
        let stream = TcpStream::connect(self.tcp).await.unwrap();
        Self::exchange(stream, &request("GET", path, host, headers, "")).await
    }

    /// Reads a stream until `enough` says so; gives back all that came.
    pub async fn read_until(&self, path: &str, headers: &[&str], enough: impl Fn(&str) -> bool) -> String {
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        stream.write_all(request("GET", path, "localhost", headers, "").as_bytes()).await.unwrap();
        let mut all = Vec::new();
        let limit = std::time::Duration::from_secs(10);
        let read = async {
            while !enough(&String::from_utf8_lossy(&all)) {
                if stream.read_buf(&mut all).await.unwrap() == 0 {
                    break;
                }
            }
        };
        let in_time = tokio::time::timeout(limit, read).await.is_ok();
        let text = String::from_utf8_lossy(&all).into_owned();
        assert!(in_time, "the stream did not tell what was awaited: {text}");
        text
    }

    pub async fn exchange<S: AsyncReadExt + AsyncWriteExt + Unpin>(mut stream: S, request: &str) -> Answer {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        Answer::of(&all)
    }
}

pub fn request(method: &str, path: &str, host: &str, headers: &[&str], body: &str) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
}
