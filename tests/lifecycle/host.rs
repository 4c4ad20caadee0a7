//! A service manager as small as can be: it hands kept descriptors to daemons, keeps what they give, and hears what they say.

use std::fs;
use std::io::{IoSliceMut, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use crate::eventually::eventually;

/// How long anything may take here.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The manager and its one service.
pub struct Host {
    dir: tempfile::TempDir,
    state: Arc<Mutex<State>>,
    daemon: Option<Child>,
}

/// What it holds and heard.
#[derive(Default)]
pub struct State {
    /// The store: name and descriptor.
    pub store: Vec<(String, OwnedFd)>,
    /// Every message.
    pub said: Vec<String>,
}

impl Host {
    /// A manager that has started nothing yet.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("recipes")).unwrap();
        fs::write(dir.path().join("nbsupervisor.toml"), "").unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        let heard = state.clone();
        // Ends with the process of the test, which is one per test.
        std::thread::spawn(move || while hear(&socket, &heard) {});
        Self { dir, state, daemon: None }
    }

    /// A file below its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Looks at what it holds and heard.
    pub fn look<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }

    /// The names of what it keeps, sorted.
    pub fn kept(&self) -> Vec<String> {
        let mut names = self.look(|state| state.store.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
        names.sort();
        names
    }

    /// Starts the daemon with what is kept, and waits until it says that it is ready.
    pub fn start(&mut self, settings: &[&str], environment: &[(&str, &str)]) {
        self.look(|state| state.said.clear());
        let path = |name: &str| self.path(name).display().to_string();
        let mut words = vec!["--config".to_string(), path("nbsupervisor.toml")];
        let dirs =
            [("state_dir", "state"), ("runtime_dir", "run"), ("apps_run_dir", "apps"), ("recipes_dir", "recipes")];
        let dirs = dirs.map(|(key, name)| format!("{key}={}", path(name)));
        let settings = settings.iter().map(ToString::to_string);
        words.extend(dirs.into_iter().chain(settings).flat_map(|word| ["--set".to_string(), word]));
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("daemon.log")).unwrap();
        let passed: Vec<(String, i32)> =
            self.look(|state| state.store.iter().map(|(name, fd)| (name.clone(), fd.as_raw_fd())).collect());
        let mut command = Command::new("python3");
        command.arg("-c").arg(HAND_OVER).arg(path("hand-over")).arg(env!("CARGO_BIN_EXE_nbsupervisor"));
        command.arg("daemon").args(words).envs(environment.iter().copied());
        command.env("NOTIFY_SOCKET", self.path("notify"));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.daemon = Some(self.spawn_with(command, &passed));
        self.until_said("READY=1");
    }

    /// Starts it and sends it its descriptors over a socket.
    fn spawn_with(&self, mut command: Command, passed: &[(String, i32)]) -> Child {
        let file = self.path("hand-over");
        let _ = fs::remove_file(&file);
        let listener = std::os::unix::net::UnixListener::bind(&file).unwrap();
        let child = command.spawn().unwrap();
        let (stream, _) = listener.accept().unwrap();
        let names = passed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(":");
        let fds: Vec<i32> = passed.iter().map(|(_, fd)| *fd).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let text = format!("{names}\n");
        let ancillary = if fds.is_empty() { &[][..] } else { &rights[..] };
        sendmsg::<()>(
            stream.as_raw_fd(),
            &[std::io::IoSlice::new(text.as_bytes())],
            ancillary,
            MsgFlags::empty(),
            None,
        )
        .unwrap();
        child
    }

    /// Waits until the daemon has said a line.
    pub fn until_said(&self, line: &str) {
        eventually(&format!("the daemon says {line}"), PATIENCE, || {
            let said = self.look(|state| state.said.clone());
            let found = said.iter().flat_map(|message| message.lines()).any(|said| said == line);
            if found { Ok(()) } else { Err(format!("{said:?}\n{}", self.log())) }
        });
    }

    /// What the daemon logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }

    /// The daemon's pid.
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    /// Kills the daemon.
    pub fn kill9(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// Asks the daemon to end, and waits for it.
    pub fn stop(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        let pid = nix::unistd::Pid::from_raw(daemon.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(daemon.wait().unwrap().success(), "{}", self.log());
    }

    /// An address that the daemon wrote down.
    pub fn address(&self, name: &str) -> String {
        fs::read_to_string(self.path("run").join(name)).unwrap().trim().to_string()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.daemon.is_some() {
            self.kill9();
        }
    }
}

/// Takes descriptors over a socket, puts them at 3 and up, and becomes the daemon.
const HAND_OVER: &str = r#"
import os, socket, sys, fcntl
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
text, fds, _, _ = socket.recv_fds(s, 4096, 16)
s.close()
high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in fds]
for at, fd in enumerate(high):
    os.dup2(fd, 3 + at, inheritable=True); os.close(fd)
if fds:
    os.environ.update(LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=text.decode().strip(), LISTEN_PID=str(os.getpid()))
if "WATCHDOG_USEC" in os.environ:
    os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"#;

/// Hears one message.
fn hear(socket: &UnixDatagram, state: &Mutex<State>) -> bool {
    let mut buffer = [0; 4096];
    let mut space = nix::cmsg_space!([i32; 16]);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let Ok(message) = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
    else {
        return false;
    };
    let rights = |control| match control {
        ControlMessageOwned::ScmRights(fds) => fds,
        _ => Vec::new(),
    };
    let fds: Vec<i32> = message.cmsgs().unwrap().flat_map(rights).collect();
    let length = message.bytes;
    // SAFETY: the kernel has just made them for this process.
    #[expect(unsafe_code, reason = "the numbers are fresh and nobody else's")]
    let fds: Vec<OwnedFd> = fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect();
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::to_string);
    let name = line("FDNAME=").unwrap_or_default();
    let mut state = state.lock().unwrap();
    if line("FDSTOREREMOVE=1").is_some() {
        state.store.retain(|(known, _)| *known != name);
    }
    if line("FDSTORE=1").is_some() {
        state.store.extend(fds.into_iter().map(|fd| (name.clone(), fd)));
    }
    state.said.push(text);
    true
}

/// Sends a request and leaves the answer for later.
pub fn ask(address: &str, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    stream
}

/// The same over a unix socket.
pub fn ask_unix(socket: &Path, path: &str) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    stream
}

/// The answer.
pub fn answer(mut stream: impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
