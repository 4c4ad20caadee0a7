//! A real daemon for tests: its own directories, ports picked by the kernel, and nothing left behind.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::eventually::eventually;

/// Lines of a daemon's log that a test which failed prints.
const LOG_SHOWN: usize = 60;

/// A daemon that a test started.
pub struct Daemon {
    dir: PathBuf,
    _temp: Option<tempfile::TempDir>,
    child: Option<Child>,
    extra: Vec<String>,
    ports: Ports,
}

/// Ports for a daemon's apps that no other daemon of the tests gives away: while an app is dead its port is anyone's.
struct Ports {
    /// Listening on the port before the first one is the claim.
    _claim: TcpListener,
    first: u16,
}

impl Ports {
    const COUNT: u16 = 60;

    fn claim() -> Self {
        let claims = (11_000..19_000).step_by(usize::from(Self::COUNT) + 1);
        let free = claims.filter_map(|port| Some((TcpListener::bind(("127.0.0.1", port)).ok()?, port)));
        let (claim, port) = { free }.next().expect("a range of ports that nobody claims");
        Self { _claim: claim, first: port + 1 }
    }
}

/// An answer of the admin API.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Daemon {
    /// A daemon in a fresh directory, with these recipes (file name, content), ready for commands.
    pub fn start(recipes: &[(&str, &str)]) -> Self {
        Self::start_with(recipes, &[])
    }

    /// The same with `--set` flags.
    pub fn start_with(recipes: &[(&str, &str)], extra: &[&str]) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().to_path_buf();
        let mut daemon = Self::prepare(dir, recipes, extra);
        daemon._temp = Some(temp);
        daemon.launch();
        daemon
    }

    /// A daemon that is not yet running, in a given directory.
    pub fn prepare(dir: PathBuf, recipes: &[(&str, &str)], extra: &[&str]) -> Self {
        fs::create_dir_all(dir.join("recipes")).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        let daemon = Self {
            dir,
            _temp: None,
            child: None,
            extra: extra.iter().map(ToString::to_string).collect(),
            ports: Ports::claim(),
        };
        for (file, content) in recipes {
            daemon.recipe(file, content);
        }
        fs::write(daemon.dir.join("nbsupervisor.toml"), "").unwrap();
        daemon
    }

    /// Writes a recipe file.
    pub fn recipe(&self, file: &str, content: &str) {
        let path = self.dir.join("recipes").join(file);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// Starts the process and waits until it is ready.
    pub fn launch(&mut self) {
        self.spawn();
        eventually("the daemon is ready", Duration::from_secs(20), || {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().unwrap()) {
                panic!("the daemon ended with {status}:\n{}", self.log());
            }
            match self.try_request("GET", "/readyz", None) {
                Ok(answer) if answer.status == 200 => Ok(()),
                other => Err(format!("{other:?}\n{}", self.log())),
            }
        });
    }

    /// Starts the process.
    pub fn spawn(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.join("daemon.log")).unwrap();
        let mut command = Command::new(binary());
        command.arg("daemon").args(self.flags());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    fn flags(&self) -> Vec<String> {
        let path = |name: &str| self.dir.join(name).display().to_string();
        let mut flags = vec!["--config".to_string(), path("nbsupervisor.toml")];
        let mut set = vec![
            format!("state_dir={}", path("state")),
            format!("runtime_dir={}", path("run")),
            format!("apps_run_dir={}", path("apps")),
            format!("recipes_dir={}", path("recipes")),
            "admin.listen=127.0.0.1:0".to_string(),
            "gateway.listen=127.0.0.1:0".to_string(),
            "environment.adapter=process".to_string(),
            format!("environment.port_range={}-{}", self.ports.first, self.ports.first + Ports::COUNT - 1),
        ];
        set.extend(self.extra.iter().cloned());
        flags.extend(set.into_iter().flat_map(|value| ["--set".to_string(), value]));
        flags
    }

    /// The daemon's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("daemon.log")).unwrap_or_default()
    }

    /// Ends it without a chance to tidy up.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Asks it to read its recipes again.
    pub fn reload(&self) {
        let pid = self.child.as_ref().expect("a running daemon").id() as i32;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGHUP).unwrap();
    }

    /// Asks it to end and waits until it has.
    pub fn terminate(&mut self) -> std::process::ExitStatus {
        let pid = self.child.as_ref().expect("a running daemon").id() as i32;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
        self.wait()
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        let mut child = self.child.take().expect("a running daemon");
        let mut status = None;
        eventually("the daemon has ended", Duration::from_secs(20), || {
            status = child.try_wait().unwrap();
            status.map(|_| ()).ok_or_else(|| self.log())
        });
        status.expect("it ended")
    }

    /// Address of the gateway, as `host:port`.
    pub fn gateway(&self) -> String {
        fs::read_to_string(self.dir.join("run/gateway.addr")).unwrap().trim().to_string()
    }

    /// Runs a command of the command line against it.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.arg("--socket").arg(self.dir.join("run/admin.sock")).args(arguments);
        command.stdin(Stdio::null()).env_remove("NO_COLOR").output().unwrap()
    }

    /// The same, which must end well; its standard output.
    pub fn cli_ok(&self, arguments: &[&str]) -> String {
        let output = self.cli(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let talk = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {}\n{text}\n{talk}\n{}", output.status, self.log());
        text
    }

    /// A request to the admin API over its unix socket.
    pub fn request(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let body = body.map(|body| body.to_string());
        self.try_request(method, path, body.as_deref())
            .unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.log()))
    }

    /// The same with a body as it stands, and telling when there is nobody to ask.
    pub fn try_request(&self, method: &str, path: &str, body: Option<&str>) -> std::io::Result<Answer> {
        self.try_request_with(method, path, "", body)
    }

    /// The same with further header lines, each ended by CR LF.
    pub fn try_request_with(
        &self,
        method: &str,
        path: &str,
        head: &str,
        body: Option<&str>,
    ) -> std::io::Result<Answer> {
        let mut stream = UnixStream::connect(self.dir.join("run/admin.sock"))?;
        stream.set_read_timeout(Some(Duration::from_secs(70)))?;
        let body = body.unwrap_or("");
        let length = body.len();
        // A server that refuses a body early closes while it is being sent; what counts is its answer.
        let _ = write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n{head}Content-Length: {length}\r\n\r\n{body}"
        );
        let mut raw = Vec::new();
        match stream.read_to_end(&mut raw) {
            // What the server left unread of the body comes as a reset behind its whole answer.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset && !raw.is_empty() => 0,
            read => read?,
        };
        parse(&raw).ok_or_else(|| std::io::Error::other(format!("no answer: {}", String::from_utf8_lossy(&raw))))
    }

    /// One app.
    pub fn app(&self, name: &str) -> Value {
        let answer = self.request("GET", &format!("/api/v1/apps/{name}"), None);
        assert_eq!(answer.status, 200, "{name}: {}", answer.body);
        answer.body
    }

    /// Its status.
    pub fn status(&self, name: &str) -> String {
        self.app(name)["status"].as_str().unwrap_or_default().to_string()
    }

    /// Its main process.
    pub fn app_pid(&self, name: &str) -> u32 {
        self.app(name)["instances"][0]["pid"].as_u64().unwrap_or_else(|| panic!("{name}: {}", self.app(name))) as u32
    }

    /// Waits until an app has a status.
    pub fn wait_status(&self, name: &str, status: &str) {
        eventually(&format!("{name} is {status}"), Duration::from_secs(30), || {
            let app = self.app(name);
            if app["status"] == status { Ok(()) } else { Err(format!("{app:#}\n{}", self.log())) }
        });
    }

    /// Every process that carries this daemon's mark, as pid → mark.
    pub fn marked(&self) -> BTreeMap<u32, String> {
        let Ok(id) = fs::read_to_string(self.dir.join("state/instance-id")) else { return BTreeMap::new() };
        let wanted = format!("NBSUPERVISOR_MARK={}/", id.trim());
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter_map(|pid| {
            let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
            let mark = environ
                .split(|byte| *byte == 0)
                .find_map(|variable| std::str::from_utf8(variable).ok()?.strip_prefix(&wanted).map(str::to_string))?;
            Some((pid, mark))
        })
        .collect()
    }

    /// Prints the end of its log: a whole one would hide why the test failed.
    fn show_log(&self) {
        let (log, file) = (self.log(), self.dir.join("daemon.log"));
        let lines: Vec<_> = log.lines().collect();
        let hidden = lines.len().saturating_sub(LOG_SHOWN);
        eprintln!("--- daemon log, last {LOG_SHOWN} lines ({hidden} earlier ones were in {})", file.display());
        eprintln!("{}", lines[hidden..].join("\n"));
    }

    fn kill_marked(&self) {
        for pid in self.marked().into_keys() {
            let pid = nix::unistd::Pid::from_raw(pid as i32);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_log();
        }
        self.kill9();
        // A process that is being started at this moment shows up in the next look.
        for _ in 0..50 {
            if self.marked().is_empty() {
                break;
            }
            self.kill_marked();
        }
    }
}

/// The binary under test: the one of this build, or the one that the caller named.
pub fn binary() -> PathBuf {
    std::env::var_os("NBS_BIN").map_or_else(|| env!("CARGO_BIN_EXE_nbsupervisor").into(), PathBuf::from)
}

pub fn parse(raw: &[u8]) -> Option<Answer> {
    let head_end = raw.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&raw[..head_end]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut body = raw[head_end + 4..].to_vec();
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        body = dechunk(&body);
    }
    let body =
        serde_json::from_slice(&body).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()));
    Some(Answer { status, body })
}

fn dechunk(mut raw: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = raw.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&raw[..end]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let Some(size) = size.filter(|size| *size > 0 && raw.len() >= end + 2 + size + 2) else { break };
        body.extend_from_slice(&raw[end + 2..end + 2 + size]);
        raw = &raw[end + 2 + size + 2..];
    }
    body
}
