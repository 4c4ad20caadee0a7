//! A host with a real redis-server, and what can happen to it.
//!
//! The server listens on the usual port of a place of its own, so that a restart has the same address. Whether it keeps
//! its data over its own end is a word of the test's. Deliberately absent: what is in it.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::eventually::eventually;
use crate::net::{Cable, Net, Place};

/// The port of every such server.
pub const PORT: u16 = 6379;
/// Until it answers.
const START_LIMIT: Duration = Duration::from_secs(20);

/// What a server remembers of its former life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// Everything: each write is on disk before its answer.
    Kept,
    /// Nothing.
    Lost,
}

/// A host with a server.
pub struct RedisHost {
    // Fields are dropped in this order: the server ends before its place.
    server: Option<Server>,
    place: Place,
    cable: Cable,
    configuration: Vec<String>,
    password: Option<String>,
}

/// A running server. nsenter waits for it, and is what can be waited for here.
struct Server {
    nsenter: Child,
    pid: Pid,
}

impl Server {
    /// Lets both go on: nsenter stops when its child does.
    fn thaw(&self) {
        for pid in [self.pid, Pid::from_raw(self.nsenter.id() as i32)] {
            // A killed one may be gone.
            let _ = kill(pid, Signal::SIGCONT);
        }
    }
}

impl RedisHost {
    /// A running server without a password, which keeps its data.
    pub fn start(net: &mut Net) -> Self {
        Self::start_with(net, None, &[])
    }

    /// One with a password for everybody, and more lines of redis.conf, such as `user …` for an ACL.
    pub fn start_with(net: &mut Net, password: Option<&str>, lines: &[&str]) -> Self {
        let place = Place::new();
        let cable = net.plug(place.pid());
        let configuration = lines.iter().map(|line| (*line).to_string()).collect();
        let password = password.map(Into::into);
        let mut host = Self { server: None, place, cable, configuration, password };
        host.switch_on(Memory::Kept);
        host
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.cable.address()
    }

    /// Where clients find it, with the password if there is one.
    pub fn url(&self) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@{}:{PORT}", self.address()),
            None => format!("redis://{}:{PORT}", self.address()),
        }
    }

    /// Its place, for other programs that listen there.
    pub fn place(&self) -> &Place {
        &self.place
    }

    // --- on and off

    fn switch_on(&mut self, memory: Memory) {
        assert!(self.server.is_none(), "the server runs already");
        if memory == Memory::Lost {
            assert!(self.place.run(&["rm", "-rf", &self.file("appendonlydir")]).status.success());
        }
        let mut lines = vec![
            format!("port {PORT}"),
            "bind 0.0.0.0".into(),
            "protected-mode no".into(),
            format!("dir {}", self.place.disk().display()),
            format!("logfile {}", self.file("redis.log")),
            "save \"\"".into(),
            "appendonly yes".into(),
            "appendfsync always".into(),
        ];
        lines.extend(self.password.iter().map(|password| format!("requirepass {password}")));
        lines.extend(self.configuration.iter().cloned());
        // A configuration on standard input needs no file.
        let mut nsenter = self.place.command("redis-server").arg("-").stdin(Stdio::piped()).spawn().unwrap();
        nsenter.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
        let mut found = None;
        eventually("the Redis server answers", START_LIMIT, || {
            let said = self.try_cli(&["PING"]);
            if let Some(status) = nsenter.try_wait().unwrap() {
                panic!("redis-server ended with {status}:\n{}", self.log());
            }
            found = son_of(nsenter.id());
            if said.trim() == "PONG" && found.is_some() { Ok(()) } else { Err(said) }
        });
        let pid = Pid::from_raw(found.expect("the wait found it") as i32);
        self.server = Some(Server { nsenter, pid });
    }

    fn file(&self, name: &str) -> String {
        self.place.disk().join(name).display().to_string()
    }

    fn end(&mut self, signal: Signal) {
        let mut server = self.server.take().expect("a server that runs");
        kill(server.pid, signal).unwrap();
        server.thaw();
        server.nsenter.wait().unwrap();
    }

    /// Kills it with SIGKILL; clients are refused from then on.
    pub fn kill9(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// Starts it again after its end.
    pub fn return_with(&mut self, memory: Memory) {
        self.switch_on(memory);
    }

    /// Ends it in good order and starts it again with its data.
    pub fn restart(&mut self) {
        self.end(Signal::SIGTERM);
        self.switch_on(Memory::Kept);
    }

    /// Freezes it: connections stay, nobody answers.
    pub fn freeze(&self) {
        kill(self.server.as_ref().expect("a server that runs").pid, Signal::SIGSTOP).unwrap();
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.server.as_ref().expect("a server that runs").thaw();
    }

    // --- faults of a server that runs

    /// Refuses every write for want of memory, or not any more.
    pub fn out_of_memory(&self, on: bool) {
        self.ok(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
        self.ok(&["CONFIG", "SET", "maxmemory", if on { "1" } else { "0" }]);
    }

    /// Makes it a replica of a server that is nowhere, which can only be read; or its own master again.
    pub fn read_only(&self, on: bool) {
        match on {
            true => self.ok(&["REPLICAOF", "10.77.0.250", "6379"]),
            false => self.ok(&["REPLICAOF", "NO", "ONE"]),
        };
    }

    /// Forgets all keys.
    pub fn flush(&self) {
        self.ok(&["FLUSHALL"]);
    }

    // --- questions

    fn cli(&self) -> Command {
        self.cli_as(self.password.as_deref())
    }

    fn cli_as(&self, password: Option<&str>) -> Command {
        let mut command = self.place.command("timeout");
        command.args(["5", "redis-cli", "--no-auth-warning"]);
        if let Some(password) = password {
            command.args(["-a", password]);
        }
        command
    }

    /// One command as redis-cli has it; what was said, errors too.
    pub fn try_cli(&self, arguments: &[&str]) -> String {
        said(&self.cli().args(arguments).output().unwrap())
    }

    /// One command that must not end in an error.
    pub fn ok(&self, arguments: &[&str]) -> String {
        ended_well(&mut self.cli(), arguments)
    }

    /// The same with another password than the server was started with.
    pub fn ok_as(&self, password: &str, arguments: &[&str]) -> String {
        ended_well(&mut self.cli_as(Some(password)), arguments)
    }

    /// Every key of the product with what is in it, for people.
    pub fn dump(&self) -> String {
        let keys = self.try_cli(&["--scan", "--pattern", "nbs:v1:*"]);
        let mut keys: Vec<&str> = keys.lines().collect();
        keys.sort_unstable();
        let entries = keys.iter().map(|key| {
            let kind = self.try_cli(&["TYPE", key]);
            let content = match kind.trim() {
                "string" => self.try_cli(&["GET", key]),
                "hash" => self.try_cli(&["HGETALL", key]),
                "set" => self.try_cli(&["SMEMBERS", key]),
                "stream" => {
                    let groups = self.try_cli(&["XINFO", "GROUPS", key]);
                    format!("{}\ngroups:\n{groups}", self.try_cli(&["XRANGE", key, "-", "+"]))
                }
                other => format!("({other})"),
            };
            format!("--- {key} ({}, {} ms to live)\n{content}\n", kind.trim(), self.try_cli(&["PTTL", key]).trim())
        });
        entries.collect()
    }

    /// Its own log.
    pub fn log(&self) -> String {
        said(&self.place.run(&["cat", &self.file("redis.log")]))
    }
}

impl Drop for RedisHost {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = kill(server.pid, Signal::SIGKILL);
            server.thaw();
            let _ = server.nsenter.wait();
        }
    }
}

fn ended_well(redis_cli: &mut Command, arguments: &[&str]) -> String {
    let output = redis_cli.arg("-e").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).trim_end().to_string()
}

/// The only child of a process.
fn son_of(pid: u32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    format!("{text}{}", String::from_utf8_lossy(&output.stderr))
}
