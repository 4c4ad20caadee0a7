//! A prober with its channel, a fake command runner, and servers that say what they are told to.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nbs_core::id::{Run, Seq};
use nbs_core::launch::{Address, Launch, Question};
use nbs_core::name::AppId;
use nbs_core::observation::{Answer, Fact, Observation};
use nbs_core::reason::ExitOutcome;
use nbs_core::recipe::Listen;
use nbs_core::spec::Limits;
use nbsupervisor::ports::{BoxFuture, CommandOutput, CommandRunner, Watch};
use nbsupervisor::probe::Probes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Longer than anything here takes, shorter than a person's patience.
pub const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
pub struct FakeRunner {
    pub outputs: Mutex<VecDeque<CommandOutput>>,
    pub calls: AtomicUsize,
}

impl FakeRunner {
    pub fn will(&self, code: i32, line: &str) {
        let output = CommandOutput { result: Ok(ExitOutcome::Code(code)), last_log: vec![line.to_string()] };
        self.outputs.lock().unwrap().push_back(output);
    }

    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl CommandRunner for FakeRunner {
    fn run<'a>(&'a self, _: &'a Launch, argv: &'a [String], _: Duration, log: bool) -> BoxFuture<'a, CommandOutput> {
        assert!(argv[0] == "/bin/check" && !log);
        self.calls.fetch_add(1, Ordering::SeqCst);
        let next = self.outputs.lock().unwrap().pop_front();
        let worn_out = CommandOutput { result: Err("timed out after 1s".into()), last_log: vec![] };
        Box::pin(std::future::ready(next.unwrap_or(worn_out)))
    }
}

pub struct Rig {
    pub probes: Probes,
    pub facts: mpsc::Receiver<Observation>,
    pub runner: Arc<FakeRunner>,
    pub dir: tempfile::TempDir,
}

impl Rig {
    pub fn new() -> Self {
        Self::with_room(64)
    }

    pub fn with_room(room: usize) -> Self {
        let (sender, facts) = mpsc::channel(room);
        let runner = Arc::new(FakeRunner::default());
        let probes = Probes::new(sender, runner.clone());
        Self { probes, facts, runner, dir: tempfile::tempdir().unwrap() }
    }

    pub fn launch(&self, address: Option<Address>) -> Arc<Launch> {
        Arc::new(Launch {
            app: app(),
            run: Run { seq: Seq(7), attempt: 1 },
            argv: vec![],
            env: Default::default(),
            cwd: "/".into(),
            user: None,
            group: None,
            limits: Limits::default(),
            listen: Listen::Port,
            address,
            notify: false,
            state_dir: self.dir.path().join("state"),
            run_dir: self.dir.path().join("crm"),
            unit: None,
            member: None,
        })
    }

    pub fn watch(&self, address: Option<Address>, question: Question) -> Watch {
        Watch {
            launch: self.launch(address),
            pid: std::process::id(),
            adopted: false,
            question,
            interval: Duration::from_millis(20),
            timeout: Duration::from_secs(5),
        }
    }

    pub async fn fact(&mut self) -> Fact {
        let waited = tokio::time::timeout(PATIENCE, self.facts.recv()).await;
        let observation = waited.expect("no fact came").unwrap();
        assert_eq!((observation.app, observation.run), (app(), Run { seq: Seq(7), attempt: 1 }));
        observation.fact
    }

    pub async fn answer(&mut self) -> Answer {
        match self.fact().await {
            Fact::Readiness(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    /// The next answer, which is not ready: its `saw`.
    pub async fn saw(&mut self) -> String {
        match self.answer().await {
            Answer::NotYet { saw, .. } => saw,
            Answer::Ready => panic!("ready"),
        }
    }

    /// Waits until nothing is asked any more.
    pub async fn idle(&self) {
        let idle = async {
            while self.probes.asked() > 0 {
                crate::pause::pause(Duration::from_millis(1), "between two looks").await;
            }
        };
        tokio::time::timeout(PATIENCE, idle).await.expect("something is still being asked");
    }
}

pub fn app() -> AppId {
    AppId::parse("crm").unwrap()
}

pub fn exec() -> Question {
    Question::Exec(vec!["/bin/check".into()])
}

pub fn get(path: &str) -> Question {
    Question::Http { path: path.into(), status: None, expect_body: None, progress: None, failed_if: None }
}

pub fn unix(path: &Path) -> Option<Address> {
    Some(Address::Unix(path.to_path_buf()))
}

/// An HTTP answer with a body.
pub fn reply(status: u16, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A server on a port of its own: the n-th connection gets the n-th answer, later ones the last. Its requests are kept.
pub async fn server(answers: Vec<Vec<u8>>) -> (Option<Address>, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Port(listener.local_addr().unwrap().port());
    let requests = Arc::new(Mutex::new(Vec::new()));
    let kept = requests.clone();
    tokio::spawn(async move {
        for n in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let request = head(&mut stream).await;
            kept.lock().unwrap().push(request);
            let _ = stream.write_all(&answers[n.min(answers.len() - 1)]).await;
        }
    });
    (Some(address), requests)
}

/// Reads a request's head.
pub async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}
