//! A real host with systemd as PID 1, for tests: Debian in a container of its own, booted in about a second.
//!
//! Each machine has its own disk (in memory, over a cached root file system), control groups and network with nothing
//! but a loopback; it goes away with the value, also when the test fails or is killed. It is real but for the memory,
//! cpu, pids and io controllers, which only a whole machine has (`tests/qemu`). Needs root. Deliberately absent: any
//! knowledge of one test.

mod evidence;
mod install;
mod nspawn;
mod visitor;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::eventually::eventually;
use nspawn::{Container, Ground};
pub use visitor::{Tally, Visitor};

/// The daemon's unit.
pub const DAEMON: &str = "nbsupervisor.service";
/// Where the admin interface is reached.
const SOCKET: &str = "/run/nbsupervisor/admin.sock";
/// How long a command inside may take.
const COMMAND_SECONDS: &str = "120";

/// Which Debian, and so which systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// systemd 252.
    Bookworm,
    /// systemd 257.
    Trixie,
}

impl Suite {
    /// Its name in the archive.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    /// The version of its systemd.
    pub fn systemd(self) -> u32 {
        match self {
            Self::Bookworm => 252,
            Self::Trixie => 257,
        }
    }

    /// The unpacked root file system; made when it is not there.
    fn root_fs(self) -> PathBuf {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/rootfs");
        let output = Command::new(script).arg(self.name()).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "no root file system of {self:?}: see the messages of tests/support/rootfs");
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    }
}

/// An answer to an HTTP request.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub text: String,
}

impl Answer {
    /// The body, which must be JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

/// A host that a test booted.
pub struct Machine {
    suite: Suite,
    name: String,
    // Fields are dropped in this order, and a container cannot stand without ground.
    container: Option<Container>,
    ground: Ground,
}

impl Machine {
    /// A fresh machine that has booted.
    pub fn boot(suite: Suite) -> Self {
        Self::boot_showing(suite, &[])
    }

    /// The same, which can read some files and folders of this system, each at a path of its own.
    pub fn boot_showing(suite: Suite, shown: &[(&str, &str)]) -> Self {
        let root = nix::unistd::geteuid().is_root();
        assert!(root, "a test machine could not be booted: that needs root; run the tests as root");
        let ground = Ground::new(&suite.root_fs(), shown);
        let container = Some(Container::boot(&ground));
        Self { suite, name: String::new(), container, ground }
    }

    /// A fresh machine with the product installed and its daemon enabled and ready.
    pub fn with_daemon(suite: Suite) -> Self {
        let machine = Self::boot(suite);
        machine.install();
        machine.ok(&["systemctl", "enable", "--now", "nbsupervisor"]);
        machine
    }

    /// Which Debian it is.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    fn container(&self) -> &Container {
        self.container.as_ref().expect("a machine that is on")
    }

    /// Its systemd, as the host numbers it.
    pub fn init(&self) -> u32 {
        self.container().init()
    }

    /// Its control group on the host.
    pub fn cgroup(&self) -> &Path {
        self.ground.cgroup()
    }

    /// A process in its network, which stays over a reboot.
    pub fn network(&self) -> u32 {
        self.ground.pid()
    }

    /// Names it, for what it leaves behind when its test fails: tests of several machines need that.
    pub fn name(&mut self, name: &str) {
        self.name = name.into();
    }

    /// Fills its disk to the last byte.
    pub fn fill_disk(&self) {
        self.ground.full(true);
    }

    /// Gives the disk its room again.
    pub fn free_disk(&self) {
        self.ground.full(false);
    }

    // --- on and off

    /// Switches it off in good order; its disk stays.
    pub fn poweroff(&mut self) {
        // The answer may be lost with the bus; what counts is that it goes off.
        self.run(&["systemctl", "poweroff"]);
        if let Some(mut container) = self.container.take() {
            container.wait_off();
        }
    }

    /// Cuts its power: every process ends at once; its disk stays.
    pub fn cut_power(&mut self) {
        self.container = None;
    }

    /// Switches it on again.
    pub fn power_on(&mut self) {
        assert!(self.container.is_none(), "the machine is on already");
        self.container = Some(Container::boot(&self.ground));
    }

    /// Off and on again: the same disk, a new boot ID.
    pub fn reboot(&mut self) {
        self.poweroff();
        self.power_on();
    }

    // --- commands and files

    /// A command inside, as root, not yet run.
    fn inside(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("-t").arg(self.init().to_string()).args(["-a", "--", "/usr/bin/env", "-i"]);
        command.args(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"]);
        command.args(["LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "SYSTEMD_PAGER="]);
        // Ended from inside: a signal to nsenter would not reach what it started.
        command.args(["timeout", "--kill-after=5", COMMAND_SECONDS]).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs a command inside, as root. After two minutes it is ended, with status 124.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.inside(arguments).output().unwrap()
    }

    /// The same, which must end well; its standard output without the last line's end.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = String::from_utf8_lossy(&output.stdout);
        let talk = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {}\n{text}\n{talk}", output.status);
        text.trim_end_matches('\n').to_string()
    }

    /// Runs a command inside as another user.
    pub fn run_as(&self, user: &str, arguments: &[&str]) -> Output {
        self.run(&[&["runuser", "-u", user, "--"], arguments].concat())
    }

    /// Runs a shell script inside, as root; it must end well.
    pub fn shell(&self, script: &str) -> String {
        self.ok(&["sh", "-euc", script])
    }

    /// Writes a file inside, with its directories.
    pub fn write_file(&self, path: &str, content: impl AsRef<[u8]>) {
        self.put(path, "0644", content.as_ref());
    }

    /// The same for root's eyes only.
    pub fn write_secret(&self, path: &str, content: impl AsRef<[u8]>) {
        self.put(path, "0600", content.as_ref());
    }

    fn put(&self, path: &str, mode: &str, content: &[u8]) {
        let mut command = self.inside(&["install", "-D", "-m", mode, "/dev/stdin", path]);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let sent = child.stdin.take().unwrap().write_all(content);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{path} not written: {}", String::from_utf8_lossy(&output.stderr));
        sent.unwrap();
    }

    /// Reads a file inside.
    pub fn read_file(&self, path: &str) -> String {
        self.ok(&["cat", path])
    }

    /// Waits for a fact about this machine.
    pub fn wait(&self, what: &str, limit: Duration, mut ask: impl FnMut(&Self) -> Result<(), String>) {
        eventually(what, limit, || ask(self));
    }

    // --- units

    /// A property of a unit, as `systemctl show` prints it.
    pub fn unit_property(&self, unit: &str, property: &str) -> String {
        self.ok(&["systemctl", "show", "--property", property, "--value", "--", unit])
    }

    /// The main process of a unit, as the machine numbers it; 0 if it has none.
    pub fn pid_of_unit(&self, unit: &str) -> u32 {
        self.unit_property(unit, "MainPID").parse().unwrap()
    }

    /// The ID of a unit's present life.
    pub fn invocation_of(&self, unit: &str) -> String {
        self.unit_property(unit, "InvocationID")
    }

    /// Whether a process with this ID lives inside.
    pub fn lives(&self, pid: u32) -> bool {
        self.run(&["test", "-d", &format!("/proc/{pid}")]).status.success()
    }

    /// Waits until a unit has this active state.
    pub fn wait_unit(&self, unit: &str, state: &str) {
        self.wait(&format!("{unit} is {state}"), Duration::from_secs(30), |machine| {
            match machine.unit_property(unit, "ActiveState") {
                seen if seen == state => Ok(()),
                seen => Err(seen),
            }
        });
    }

    // --- the product

    /// Kills the daemon with SIGKILL; its process ID as it was. systemd starts it again a second later.
    pub fn kill9_daemon(&self) -> u32 {
        let pid = self.pid_of_unit(DAEMON);
        assert_ne!(pid, 0, "the daemon runs");
        self.ok(&["kill", "-KILL", &pid.to_string()]);
        pid
    }

    /// Waits until the daemon is ready, with another process than this one.
    pub fn wait_daemon(&self, former: u32) {
        self.wait("the daemon is back", Duration::from_secs(30), |machine| {
            let (pid, state) = (machine.pid_of_unit(DAEMON), machine.unit_property(DAEMON, "ActiveState"));
            if pid != former && pid != 0 && state == "active" { Ok(()) } else { Err(format!("{pid} {state}")) }
        });
    }

    /// Puts a recipe where the daemon looks for them. It sees a new one by itself.
    pub fn recipe(&self, file: &str, content: &str) {
        self.write_file(&format!("/etc/nbsupervisor/runtimes.d/{file}"), content);
    }

    /// The command line, with JSON for an answer; it must end well.
    pub fn cli(&self, arguments: &[&str]) -> Value {
        let text = self.ok(&[&["nbsupervisor", "--output", "json"], arguments].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }

    /// Makes an app and waits until it runs, if its start mode has it run.
    pub fn app_create(&self, name: &str, runtime: &str, start_mode: &str) {
        self.cli(&["app", "create", name, "--runtime", runtime, "--start-mode", start_mode]);
        if start_mode == "with-supervisor" {
            self.wait_app(name, "running");
        }
    }

    /// Starts an app and waits for the outcome.
    pub fn app_start(&self, name: &str) {
        self.cli(&["app", "start", name]);
    }

    /// Stops an app and waits for the outcome.
    pub fn app_stop(&self, name: &str) {
        self.cli(&["app", "stop", name]);
    }

    /// One app, as the admin interface shows it.
    pub fn app(&self, name: &str) -> Value {
        let answer = self.admin("GET", &format!("/api/v1/apps/{name}"), None);
        assert_eq!(answer.status, 200, "{name}: {}", answer.text);
        answer.json()
    }

    /// Its status.
    pub fn app_status(&self, name: &str) -> String {
        self.app(name)["status"].as_str().unwrap_or_default().to_string()
    }

    /// Its main process, as the machine numbers it.
    pub fn app_pid(&self, name: &str) -> u32 {
        let app = self.app(name);
        app["instances"][0]["pid"].as_u64().unwrap_or_else(|| panic!("{name} has no process: {app:#}")) as u32
    }

    /// Waits until an app has a status.
    pub fn wait_app(&self, name: &str, status: &str) {
        self.wait(&format!("{name} is {status}"), Duration::from_secs(30), |machine| {
            let app = machine.app(name);
            if app["status"] == status { Ok(()) } else { Err(format!("{app:#}")) }
        });
    }

    /// A GET of the admin interface, where nobody may be there to answer it.
    pub fn admin_try(&self, path: &str) -> Option<Answer> {
        let url = format!("http://localhost{path}");
        let output = self.run(&["curl", "-sf", "--max-time", "5", "--unix-socket", SOCKET, &url]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(Answer { status: 200, text })
    }

    /// A request to the admin interface over its unix socket.
    pub fn admin(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(ToString::to_string);
        let mut curl = vec!["--unix-socket", SOCKET, "-X", method];
        if let Some(body) = &body {
            curl.extend(["-H", "Content-Type: application/json", "-d", body]);
        }
        self.curl(&curl, &format!("http://localhost{path}"))
    }

    /// A visitor's GET through the gateway.
    pub fn gateway(&self, path: &str) -> Answer {
        self.curl(&[], &format!("http://127.0.0.1:13000{path}"))
    }

    fn curl(&self, arguments: &[&str], url: &str) -> Answer {
        let fixed = ["curl", "-sS", "--max-time", "90", "-w", "\n%{http_code}"];
        let text = self.ok(&[&fixed, arguments, &[url]].concat());
        let (text, status) = text.rsplit_once('\n').unwrap_or_else(|| panic!("{url}: {text}"));
        Answer { status: status.parse().unwrap(), text: text.into() }
    }

    /// Copies journal, console and record into a folder of the host's, as it happens by itself when a test fails.
    pub fn collect(&self, folder: &Path) -> std::io::Result<()> {
        evidence::collect(self, folder)
    }

    /// A visitor who asks the gateway for a path again and again, over a new connection each time.
    pub fn visitor(&self, path: &str) -> Visitor {
        Visitor::start(self.ground.pid(), 13000, path)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            evidence::bring_home(self);
        }
    }
}
