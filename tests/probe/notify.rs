//! Readiness by `READY=1`: who may send it, and what becomes of a missed one.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nbs_core::launch::{Address, Launch, Question};
use nbs_core::observation::Answer;
use nbsupervisor::ports::{Prober, Watch};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::TcpSocket;
use tokio::process::{Child, ChildStdout, Command};

use crate::rig::{PATIENCE, Rig, app};

/// What every script begins with: `say` sends a datagram, `wait` waits for a line of the test, `tell` writes one to it.
const PRELUDE: &str = "
import os, socket, subprocess, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
say = lambda text: s.sendto(text.encode(), os.environ['NOTIFY_SOCKET'])
wait = sys.stdin.readline
tell = lambda text: print(text, flush=True)
";

/// An app in its own process group, as the process adapter starts them.
struct App {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl App {
    fn start(launch: &Launch, script: &str) -> Self {
        let mut child = Command::new("python3")
            .args(["-S", "-c", &format!("{PRELUDE}\n{script}")])
            .env("NOTIFY_SOCKET", launch.run_dir.join("notify.sock"))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn hear(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
        line.expect("the app says nothing").unwrap().expect("the app ended")
    }

    async fn go_on(&mut self) {
        use tokio::io::AsyncWriteExt;
        self.child.stdin.as_mut().unwrap().write_all(b"\n").await.unwrap();
    }

    fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }
}

fn watch(rig: &Rig, app: &App) -> Watch {
    Watch { pid: app.pid(), ..rig.watch(None, Question::Notify) }
}

fn opened(rig: &Rig) -> Arc<Launch> {
    let launch = rig.launch(None);
    rig.probes.open_notify(&launch).unwrap();
    launch
}

fn waiting(progress: Option<&str>) -> Answer {
    Answer::NotYet { saw: "no READY=1 yet".into(), progress: progress.map(Into::into), failed: false }
}

#[tokio::test]
async fn an_app_tells_its_progress_and_that_it_is_ready() {
    let mut rig = Rig::new();
    let launch = opened(&rig);
    let script = "wait(); say('STATUS=loading 1/2'); wait(); say('READY=1\\nSTATUS=up'); wait()";
    let mut app_process = App::start(&launch, script);
    rig.probes.watch_ready(watch(&rig, &app_process));
    assert_eq!(rig.answer().await, waiting(None));
    app_process.go_on().await;
    assert_eq!(rig.answer().await, waiting(Some("loading 1/2")));
    app_process.go_on().await;
    assert_eq!(rig.answer().await, Answer::Ready);
    assert_eq!(rig.probes.asked(), 1, "the socket stays");
    rig.probes.unwatch(&app());
    assert!(!launch.run_dir.join("notify.sock").exists());
}

#[tokio::test]
async fn ready_before_the_watch_is_remembered() {
    let mut rig = Rig::new();
    let launch = opened(&rig);
    let mut app_process = App::start(&launch, "say('READY=1'); tell('said'); wait()");
    assert_eq!(app_process.hear().await, "said");
    rig.probes.watch_ready(watch(&rig, &app_process));
    let mut answer = rig.answer().await;
    // The datagram may lie in the kernel's queue when the watch begins.
    if answer == waiting(None) {
        answer = rig.answer().await;
    }
    assert_eq!(answer, Answer::Ready);
}

#[tokio::test]
async fn a_stranger_is_not_believed_whenever_it_speaks() {
    let mut rig = Rig::new();
    let launch = opened(&rig);
    let path = launch.run_dir.join("notify.sock");
    let stranger = UnixDatagram::unbound().unwrap();
    stranger.send_to(b"READY=1\nSTATUS=lies", &path).unwrap();
    let mut app_process = App::start(&launch, "wait(); say('STATUS=honest'); wait()");
    rig.probes.watch_ready(watch(&rig, &app_process));
    assert_eq!(rig.answer().await, waiting(None));
    stranger.send_to(b"READY=1", &path).unwrap();
    app_process.go_on().await;
    // Datagrams are read in their order: had the stranger been believed, this would be Ready.
    assert_eq!(rig.answer().await, waiting(Some("honest")));
}

#[tokio::test]
async fn a_helper_of_the_app_may_speak_for_it() {
    let mut rig = Rig::new();
    let launch = opened(&rig);
    let script = "
helper = 'import os,socket,sys; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b\"READY=1\", os.environ[\"NOTIFY_SOCKET\"]); sys.stdin.read()'
subprocess.run([sys.executable, '-S', '-c', helper], start_new_session=True)";
    let app_process = App::start(&launch, script);
    rig.probes.watch_ready(watch(&rig, &app_process));
    while rig.answer().await != Answer::Ready {}
}

#[tokio::test]
async fn a_barrier_is_answered_by_closing_its_descriptor() {
    let rig = Rig::new();
    let launch = opened(&rig);
    let script = "
r, w = os.pipe()
s.connect(os.environ['NOTIFY_SOCKET'])
socket.send_fds(s, [b'BARRIER=1'], [w] * 200)
os.close(w)
tell('closed' if os.read(r, 1) == b'' else 'open')";
    let mut app_process = App::start(&launch, script);
    assert_eq!(app_process.hear().await, "closed");
}

#[tokio::test]
async fn an_app_that_goes_on_writing_is_never_held_up() {
    let mut rig = Rig::new();
    let launch = opened(&rig);
    let script = "say('READY=1')\nfor n in range(2000): say('WATCHDOG=1\\nSTATUS=%d' % n)\ntell('through'); wait()";
    let mut app_process = App::start(&launch, script);
    rig.probes.watch_ready(watch(&rig, &app_process));
    while rig.answer().await != Answer::Ready {}
    assert_eq!(app_process.hear().await, "through");
    assert!(rig.facts.try_recv().is_err());
}

#[tokio::test]
async fn chatter_is_told_once_per_interval() {
    let mut rig = Rig::new();
    let launch = opened(&rig);
    let mut app_process = App::start(&launch, "for n in range(500): say('STATUS=%d' % n)\ntell('through'); wait()");
    let watch = Watch { interval: Duration::from_secs(3600), ..watch(&rig, &app_process) };
    rig.probes.watch_ready(watch);
    rig.answer().await;
    assert_eq!(app_process.hear().await, "through");
    assert!(rig.facts.try_recv().is_err());
}

#[tokio::test]
async fn an_adopted_app_is_not_held_to_what_its_dead_daemon_missed() {
    let mut rig = Rig::new();
    let adopted = |rig: &Rig, address| Watch { adopted: true, ..rig.watch(address, Question::Notify) };
    rig.probes.watch_ready(adopted(&rig, None));
    assert_eq!(rig.answer().await, Answer::Ready);
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = Some(Address::Port(socket.local_addr().unwrap().port()));
    rig.probes.watch_ready(adopted(&rig, address));
    assert_eq!(rig.saw().await, "connection refused");
    let _listener = socket.listen(8).unwrap();
    assert_eq!(rig.answer().await, Answer::Ready);
}

#[tokio::test]
async fn the_socket_is_for_whoever_may_enter_the_directory() {
    let rig = Rig::new();
    let launch = rig.launch(None);
    let path = launch.run_dir.join("notify.sock");
    // What a mischievous app may have left: a link to a file of somebody else.
    let precious = rig.dir.path().join("precious");
    std::fs::write(&precious, "").unwrap();
    std::fs::set_permissions(&precious, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::create_dir(&launch.run_dir).unwrap();
    symlink(&precious, &path).unwrap();
    rig.probes.open_notify(&launch).unwrap();
    let mode = |path| std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&precious)), (0o666, 0o600));
    rig.probes.open_notify(&launch).unwrap();
    assert!(path.exists(), "opened again for the next life");
    assert_eq!(std::fs::read_dir(rig.dir.path()).unwrap().count(), 2, "no draft is left");
}

#[tokio::test]
async fn a_socket_that_cannot_be_made_is_said_so() {
    let rig = Rig::new();
    let mut launch = (*rig.launch(None)).clone();
    launch.run_dir = rig.dir.path().join("x".repeat(120)).join("crm");
    let error = rig.probes.open_notify(&launch).unwrap_err();
    assert!(error.contains("notify.sock: path must be shorter"), "{error}");
    assert_eq!(rig.probes.asked(), 0);
}
