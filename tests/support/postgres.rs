//! A real PostgreSQL of a test's own: on a port that the kernel picked, in a temporary directory, gone with the value.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Ports that are tried: one that was free a moment ago may be taken by somebody else.
const PORTS_TRIED: usize = 5;

/// A server. Its superuser is `postgres`, who needs no password on the socket.
pub struct Postgres {
    dir: tempfile::TempDir,
    bin: PathBuf,
    port: u16,
}

impl Postgres {
    /// Makes and starts one.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("nbs-pg").tempdir().expect("a directory");
        if nix::unistd::geteuid().is_root() {
            let owned = Command::new("chown").arg("postgres:").arg(dir.path()).status();
            assert!(owned.expect("chown is there").success(), "there is a user postgres (apt-get install postgresql)");
        }
        let mut server = Self { dir, bin: binaries(), port: 0 };
        let data = server.data();
        let made = server.tool("initdb", &["-D", &data, "-U", "postgres", "--auth-local=trust"], |command| {
            command.args(["--auth-host=scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]);
        });
        assert!(made.status.success(), "initdb: {made:?}");
        for _ in 0..PORTS_TRIED {
            server.port =
                TcpListener::bind(("127.0.0.1", 0)).and_then(|socket| socket.local_addr()).expect("a port").port();
            if server.try_launch() {
                return server;
            }
        }
        panic!("PostgreSQL does not start: {}", server.log());
    }

    /// Starts it again, as it was.
    pub fn launch(&self) {
        assert!(self.try_launch(), "PostgreSQL does not start again: {}", self.log());
    }

    fn try_launch(&self) -> bool {
        let socket = self.dir.path().display();
        let options = format!("-p {} -k {socket} -c listen_addresses=127.0.0.1 -c fsync=off", self.port);
        let (data, log) = (self.data(), self.log_file());
        let log = log.display().to_string();
        let started =
            self.tool("pg_ctl", &["-D", &data, "-w", "-t", "60", "-l", &log, "-o", &options, "start"], |command| {
                // The server keeps what it is given, and a pipe would hold the test until it ends.
                command.stdout(Stdio::null()).stderr(Stdio::null());
            });
        started.status.success()
    }

    /// Ends it, and every session with it.
    pub fn stop(&self) {
        let stopped = self.tool("pg_ctl", &["-D", &self.data(), "-w", "-m", "fast", "stop"], |_| {});
        assert!(stopped.status.success(), "{stopped:?}");
    }

    /// Its directory, for files that belong to it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Runs SQL as the superuser; its rows, with columns separated by `|`.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let mut command = Command::new(self.bin.join("psql"));
        command.arg("-h").arg(self.dir.path()).args(["-p", &self.port.to_string(), "-U", "postgres", "-d", database]);
        answer(command, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Runs SQL as whoever a URL names.
    ///
    /// # Errors
    /// What psql said.
    pub fn sql_as(&self, url: &str, sql: &str) -> Result<String, String> {
        let mut command = Command::new(self.bin.join("psql"));
        command.arg(url);
        answer(command, sql)
    }

    fn data(&self) -> String {
        self.dir.path().join("data").display().to_string()
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("server.log")
    }

    /// Runs one of its tools as the user who may run a server.
    fn tool(&self, name: &str, arguments: &[&str], more: impl Fn(&mut Command)) -> Output {
        let program = self.bin.join(name);
        let mut command = match nix::unistd::geteuid().is_root() {
            true => {
                let mut command = Command::new("runuser");
                command.args(["-u", "postgres", "--"]).arg(program);
                command
            }
            false => Command::new(program),
        };
        command.args(arguments).current_dir(self.dir.path()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        more(&mut command);
        let child = command.spawn().expect("PostgreSQL is installed (apt-get install postgresql)");
        child.wait_with_output().expect("it ends")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- PostgreSQL's log\n{}", self.log());
        }
        self.tool("pg_ctl", &["-D", &self.data(), "-m", "immediate", "stop"], |_| {});
    }
}

fn answer(mut command: Command, sql: &str) -> Result<String, String> {
    command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]).stdin(Stdio::null());
    let output = command.output().expect("psql is installed");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_string()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim_end().to_string()),
    }
}

/// Where Debian keeps the server's programs: those of the newest version.
fn binaries() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        versions.map(|entry| entry.path().join("bin")).filter(|bin| bin.join("initdb").exists()).collect();
    let number = |bin: &Path| bin.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
    found.sort_by_key(|bin| number(bin));
    found.pop().expect("PostgreSQL is installed (apt-get install postgresql)")
}
