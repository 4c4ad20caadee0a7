//! A real redis-server of a test's own, and a line to it that can be slow, dead or cut.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::eventually::eventually;

/// Nothing of Redis takes longer on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// A server. It is killed when this goes.
pub struct RedisServer {
    child: Option<Child>,
    directory: tempfile::TempDir,
    options: Vec<String>,
    /// Arguments by which `redis-cli` gets in.
    pub access: Vec<String>,
}

impl RedisServer {
    /// One that keeps nothing on disk.
    pub fn start() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "no"])
    }

    /// One with options of its own.
    pub fn start_with(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let options = options.iter().map(ToString::to_string).collect();
        let mut server = Self { child: None, directory, options, access: Vec::new() };
        server.launch();
        server
    }

    /// Starts it, again in the same directory.
    pub fn launch(&mut self) {
        let output = std::fs::File::create(self.directory.path().join("log")).expect("a log file");
        let mut command = Command::new("redis-server");
        if !self.options.iter().any(|option| option == "--port" || option == "--tls-port") {
            command.args(["--port", "0"]);
        }
        command.arg("--unixsocket").arg(self.socket()).arg("--dir").arg(self.directory.path());
        command.args(&self.options).stdin(Stdio::null()).stdout(output).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("redis-server is installed (apt-get install redis-server)"));
        eventually("redis-server answers", LIMIT, || match UnixStream::connect(self.socket()) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{error}; {}", self.log())),
        });
    }

    /// Its directory, for files that belong to it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    /// The same as a URL.
    pub fn url(&self) -> String {
        url(&self.socket())
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Runs one command as an operator would; the raw answer without its last line feed.
    pub fn cli(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command.arg("-s").arg(self.socket()).args(&self.access).args(arguments).stdin(Stdio::null());
        let output = command.output().expect("redis-cli is installed");
        String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_string()
    }

    /// The keys that there are.
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.cli(&["KEYS", "*"]).lines().map(String::from).collect();
        keys.sort();
        keys
    }

    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().expect("kill is there").success());
    }

    /// It stands still, with all its connections.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// It goes on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    /// It dies at once.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A unix socket as a URL.
pub fn url(socket: &Path) -> String {
    format!("redis+unix://{}", socket.display())
}

/// A line between a client and a server: what it does can be changed while it is in use.
pub struct FlakyLink {
    socket: PathBuf,
    behaviour: Arc<Behaviour>,
}

#[derive(Default)]
struct Behaviour {
    mode: AtomicU8,
    delay_ms: AtomicU64,
    open: Mutex<Vec<UnixStream>>,
    accepted: AtomicU64,
}

const PASS: u8 = 0;
const SWALLOW: u8 = 1;
const REFUSE: u8 = 2;

impl FlakyLink {
    /// A line to this server.
    pub fn to(server: &RedisServer) -> Self {
        let socket = server.directory().join("flaky.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let behaviour = Arc::<Behaviour>::default();
        let (target, shared) = (server.socket(), behaviour.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                if shared.mode.load(Ordering::SeqCst) == REFUSE {
                    continue;
                }
                let Ok(server) = UnixStream::connect(&target) else { continue };
                shared.carry(&client, &server);
                shared.carry(&server, &client);
            }
        });
        Self { socket, behaviour }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        url(&self.socket)
    }

    /// How many connections were made so far.
    pub fn accepted(&self) -> u64 {
        self.behaviour.accepted.load(Ordering::SeqCst)
    }

    /// Everything passes.
    pub fn pass(&self) {
        self.behaviour.mode.store(PASS, Ordering::SeqCst);
    }

    /// Connections stay, and nothing gets through, in either direction.
    pub fn swallow(&self) {
        self.behaviour.mode.store(SWALLOW, Ordering::SeqCst);
    }

    /// Every connection breaks, and new ones do at once.
    pub fn refuse(&self) {
        self.behaviour.mode.store(REFUSE, Ordering::SeqCst);
        self.cut();
    }

    /// Every connection breaks; new ones are fine.
    pub fn cut(&self) {
        for stream in self.behaviour.open.lock().expect("nobody panicked").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Everything takes so much longer, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.behaviour.delay_ms.store(delay.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Behaviour {
    fn carry(self: &Arc<Self>, from: &UnixStream, to: &UnixStream) {
        let (mut from, mut to) = (from.try_clone().expect("a descriptor"), to.try_clone().expect("a descriptor"));
        self.open.lock().expect("nobody panicked").push(from.try_clone().expect("a descriptor"));
        let shared = self.clone();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                std::thread::sleep(Duration::from_millis(shared.delay_ms.load(Ordering::SeqCst)));
                if shared.mode.load(Ordering::SeqCst) == PASS && to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}
