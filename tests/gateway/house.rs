//! A gateway with its desk, apps that say what they were asked, and clients that write bytes.

use std::convert::Infallible;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use nbs_core::id::{Generation, OperationId, Run, Seq};
use nbs_core::intent::Intent;
use nbs_core::launch::Address;
use nbs_core::name::{AppId, EnvironmentName, RuntimeName};
use nbs_core::order::InstanceReport;
use nbs_core::phase::{Phase, Status};
use nbs_core::recipe::Adapter;
use nbs_core::record::{Change, Recovered};
use nbs_core::spec::AppSpec;
use nbs_core::time::{Mono, Wall};
use nbs_core::view::{AppView, EnvironmentView, EventView, InstanceView, OperationView};
use nbsupervisor::entry::{Desk, FleetView, Request as Asked, desk};
use nbsupervisor::gateway::{Drained, Gateway, Hops, Options};
use nbsupervisor::ports::{BoxFuture, Record, RecordError, TokenRow};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::pause::pause;

/// Longer than anything here should take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A record that holds nothing.
struct NoRecord;

impl Record for NoRecord {
    fn load(&self) -> BoxFuture<'_, Result<Recovered, RecordError>> {
        Box::pin(async { Ok(Recovered::default()) })
    }
    fn commit(&self, _: Vec<Change>) -> BoxFuture<'_, Result<(), RecordError>> {
        Box::pin(async { Ok(()) })
    }
    fn operations(
        &self,
        _: Option<AppId>,
        _: Option<Seq>,
        _: usize,
    ) -> BoxFuture<'_, Result<Vec<OperationView>, RecordError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn operation(&self, _: OperationId) -> BoxFuture<'_, Result<Option<OperationView>, RecordError>> {
        Box::pin(async { Ok(None) })
    }
    fn events(&self, _: Option<AppId>, _: u64, _: usize) -> BoxFuture<'_, Result<Vec<EventView>, RecordError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn tokens(&self) -> BoxFuture<'_, Result<Vec<TokenRow>, RecordError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn add_token(&self, _: TokenRow) -> BoxFuture<'_, Result<bool, RecordError>> {
        Box::pin(async { Ok(true) })
    }
    fn remove_token(&self, _: String) -> BoxFuture<'_, Result<bool, RecordError>> {
        Box::pin(async { Ok(true) })
    }
}

pub struct House {
    pub gateway: Gateway,
    pub port: u16,
    pub asked: mpsc::Receiver<Asked>,
    pub shutdown: CancellationToken,
    pub task: JoinHandle<Drained>,
    /// Whether its daemon takes no commands.
    pub read_only: bool,
    desk: Desk,
}

impl House {
    pub async fn open(options: Options) -> Self {
        Self::open_at(0, options, Hops::default()).await
    }

    /// On a port that was somebody's before, or any.
    pub async fn open_at(port: u16, options: Options, hops: Hops) -> Self {
        let (handle, mut desk) = desk(Arc::new(NoRecord), 1024);
        let asked = std::mem::replace(&mut desk.requests, mpsc::channel(1).1);
        let gateway = Gateway::in_fleet(handle, options, hops);
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(gateway.clone().serve(listener, shutdown.clone()));
        Self { gateway, port, asked, shutdown, task, read_only: false, desk }
    }

    pub fn show(&self, apps: Vec<AppView>) {
        self.show_in(apps, Vec::new());
    }

    pub fn show_in(&self, apps: Vec<AppView>, environments: Vec<EnvironmentView>) {
        let read_only = self.read_only.then(|| "another daemon decides".into());
        let names: Vec<_> = apps.iter().map(|app| app.spec.name.clone()).collect();
        let apps = apps.into_iter().map(|app| (app.spec.name.clone(), Arc::new(app))).collect();
        let mut view = FleetView { apps, read_only, ..FleetView::default() };
        let named = environments.into_iter().map(|view| (view.registration.environment.clone(), Some(view)));
        view.show_environments(named);
        self.desk.publish(view, &names, &[], false);
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    /// Sends a request's bytes and reads until the other side closes.
    pub async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        read_all(&mut stream).await
    }

    /// GET with `Connection: close` and further header lines.
    pub async fn get(&self, target: &str, headers: &str) -> String {
        self.ask(&format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n")).await
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, so: impl Fn(nbsupervisor::gateway::Traffic) -> bool) {
        let wait = async {
            while !so(self.gateway.traffic()) {
                pause(Duration::from_millis(5), "between two looks").await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}: {:?}", self.gateway.traffic()));
    }
}

pub async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the other side closes");
    let _ = read;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until the text so far contains `mark`.
pub async fn read_until(stream: &mut (impl AsyncRead + Unpin), mark: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains(mark) {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await;
        let read = read.unwrap_or_else(|_| panic!("{mark:?} in {text:?}")).unwrap();
        assert!(read > 0, "closed before {mark:?}: {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    text
}

pub fn name(text: &str) -> AppId {
    AppId::parse(text).unwrap()
}

/// An app that runs at an address.
pub fn running(app: &str, address: Address, strip: bool) -> AppView {
    let mut view = resting(app, Status::Running, Intent::Run);
    let report = InstanceReport {
        app: name(app),
        intent_seq: Seq(1),
        run: Run { seq: Seq(1), attempt: 0 },
        generation: Generation(1),
        phase: Phase::Running,
        in_turn: false,
        reason: None,
        since: Wall(0),
        pid: Some(7),
        adapter: Adapter::Process,
        address: Some(address),
        strip_prefix: strip,
        select: None,
        restarts: 0,
        next_attempt: None,
        version: None,
        progress: None,
        last_log: Vec::new(),
        notes: Vec::new(),
        local: None,
        removing: false,
        upgrade: Default::default(),
    };
    view.instances[0].report = Some(Arc::new(report));
    view
}

/// An app of which nothing was reported yet.
pub fn resting(app: &str, status: Status, intent: Intent) -> AppView {
    let environment = EnvironmentName::parse("local").unwrap();
    let spec = AppSpec::minimal(name(app), RuntimeName::parse("node").unwrap(), environment.clone());
    AppView {
        spec: Arc::new(spec),
        generation: Generation(1),
        intent,
        intent_seq: Seq(1),
        status,
        removing: false,
        created_at: Wall(0),
        instances: vec![InstanceView {
            environment,
            status,
            intent: Intent::Run,
            leaving: false,
            since: Wall(0),
            report: None,
            observed_at: Wall(0),
            observed: Mono::default(),
        }],
        last_operation: None,
    }
}

pub type Reply = Response<BoxBody<Bytes, Infallible>>;

pub fn reply(text: impl Into<Bytes>) -> Reply {
    Response::new(Full::new(text.into()).boxed())
}

async fn serve<S, F>(stream: S, answer: impl Fn(Request<Incoming>) -> F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Reply> + Send,
{
    let service = service_fn(|request| {
        let reply = answer(request);
        async { Ok::<_, Infallible>(reply.await) }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

/// An app on a port.
pub async fn app<F>(answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static) -> Address
where
    F: Future<Output = Reply> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answer.clone()));
        }
    });
    Address::Port(port)
}

/// The same on a unix socket.
pub fn unix_app<F>(path: &Path, answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static) -> Address
where
    F: Future<Output = Reply> + Send + 'static,
{
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answer.clone()));
        }
    });
    Address::Unix(path.to_owned())
}

/// Answers with the request's first line, its headers and its body.
pub async fn mirror(request: Request<Incoming>) -> Reply {
    let (parts, body) = request.into_parts();
    let mut text = format!("{} {} {:?}\n", parts.method, parts.uri, parts.version);
    for (name, value) in &parts.headers {
        text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    }
    let body = body.collect().await.unwrap().to_bytes();
    text.push_str(&format!("\n{}", String::from_utf8_lossy(&body)));
    reply(text)
}

/// An app that handles its connections by itself, one after another.
pub async fn raw_app<F>(handle: impl Fn(usize, TcpStream) -> F + Send + 'static) -> Address
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(handle(number, stream));
            number += 1;
        }
    });
    Address::Port(port)
}

/// A port where nobody listens.
pub async fn nobody() -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Address::Port(listener.local_addr().unwrap().port())
}

/// A body whose pieces come through a channel.
pub struct Pieces(pub mpsc::Receiver<Frame<Bytes>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(Ok))
    }
}
