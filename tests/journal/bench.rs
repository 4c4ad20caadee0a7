//! A directory with journal files or with a made-up `journalctl`.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use nbs_core::name::AppId;
use nbs_core::time::Wall;
use nbsupervisor::journal::{Journal, Options, Scope};
use nbsupervisor::ports::{LogLine, LogQuery, LogReader, UnitLife};
use tokio::sync::mpsc;

use crate::eventually::eventually;

/// Everything here takes milliseconds; a busy machine may take its time.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// The moment of the first entry.
pub const BEGIN: u64 = 1_795_408_423_000;
/// Writes what it reads as a journal file; part of the package systemd-journal-remote.
const WRITER: &str = "/usr/lib/systemd/systemd-journal-remote";

pub fn app(name: &str) -> AppId {
    AppId::parse(name).unwrap()
}

/// Fields of an entry, as the export format has them.
pub fn entry(number: u64, fields: &[(&str, &[u8])]) -> Vec<u8> {
    let micros = BEGIN * 1000 + number * 1000;
    let mut text = format!(
        "__REALTIME_TIMESTAMP={micros}\n__MONOTONIC_TIMESTAMP={}\n_BOOT_ID=aee42aecb0d941e89224bfa80b73c404\n",
        1_000_000 + number * 1000
    )
    .into_bytes();
    for (name, value) in fields {
        text.extend_from_slice(name.as_bytes());
        if value.iter().any(|byte| *byte < b' ' && *byte != b'\t') {
            text.push(b'\n');
            text.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            text.push(b'=');
        }
        text.extend_from_slice(value);
        text.push(b'\n');
    }
    text.push(b'\n');
    text
}

/// A line of output of a unit in the apps' slice.
pub fn line(number: u64, unit: &str, invocation: &str, message: &[u8]) -> Vec<u8> {
    let known: [(&str, &[u8]); 2] =
        [("_SYSTEMD_SLICE", b"nbsupervisor-apps.slice"), ("_SYSTEMD_INVOCATION_ID", invocation.as_bytes())];
    let mut fields: Vec<(&str, &[u8])> =
        vec![("MESSAGE", message), ("_TRANSPORT", b"stdout"), ("_SYSTEMD_UNIT", unit.as_bytes()), ("NBS_APP", b"crm")];
    // Of a process that ended at once, journald knows neither.
    if !invocation.is_empty() {
        fields.extend(known);
    }
    entry(number, &fields)
}

/// A journal file that grows.
pub struct Writer {
    child: Child,
    input: Option<ChildStdin>,
}

impl Writer {
    pub fn new(directory: &Path, name: &str) -> Self {
        let mut command = Command::new(WRITER);
        command.arg(format!("--output={}", directory.join(name).display())).arg("-");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let started = command.spawn();
        let mut child = started.unwrap_or_else(|error| panic!("{WRITER}: {error}; install systemd-journal-remote"));
        let input = child.stdin.take();
        Self { child, input }
    }

    pub fn write(&mut self, entries: &[Vec<u8>]) {
        let input = self.input.as_mut().unwrap();
        input.write_all(&entries.concat()).unwrap();
        input.flush().unwrap();
    }

    /// Everything is in the file when this returns.
    pub fn finish(mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Bench {
    pub directory: tempfile::TempDir,
    program: PathBuf,
    pub scope: Scope,
}

impl Bench {
    /// With the real program.
    pub fn real() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), program: "journalctl".into(), scope: Scope::System }
    }

    /// With a script of the shell. `$*` are the arguments; `here` is the directory.
    pub fn fake(script: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("journalctl");
        std::fs::write(&program, format!("#!/bin/sh\nhere={}\n{script}\n", directory.path().display())).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { directory, program, scope: Scope::System }
    }

    pub fn at(program: &str) -> Self {
        Self { program: program.into(), ..Self::real() }
    }

    /// A finished file.
    pub fn file(&self, name: &str, entries: &[Vec<u8>]) {
        let mut writer = Writer::new(self.directory.path(), name);
        writer.write(entries);
        writer.finish();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn journal(&self) -> Journal {
        Journal::new(Options {
            scope: self.scope,
            program: self.program.clone(),
            directory: Some(self.directory.path().into()),
        })
    }

    /// One that reads the host's own journal, as the daemon does.
    pub fn own_journal(&self) -> Journal {
        Journal::new(Options { scope: self.scope, program: self.program.clone(), directory: None })
    }

    /// Waits until a file is there.
    pub async fn there(&self, name: &str) {
        let path = self.path(name);
        asked_in_background(move || path.exists().then_some(()).ok_or_else(|| format!("no {}", path.display()))).await;
    }

    /// Waits until the process that wrote its number into a file is gone.
    pub async fn gone(&self, name: &str) {
        self.there(name).await;
        let pid = std::fs::read_to_string(self.path(name)).unwrap();
        let process = PathBuf::from("/proc").join(pid.trim());
        asked_in_background(move || (!process.exists()).then_some(()).ok_or_else(|| format!("{}", process.display())))
            .await;
    }

    pub async fn tail(&self, query: &LogQuery) -> Vec<LogLine> {
        self.journal().tail(&app("crm"), query).await.unwrap()
    }

    pub async fn texts(&self, query: &LogQuery) -> Vec<String> {
        texts(self.tail(query).await)
    }

    pub async fn follow(&self, query: &LogQuery) -> mpsc::Receiver<LogLine> {
        self.journal().follow(&app("crm"), query).await.unwrap()
    }
}

pub fn life(unit: &str, invocation: &str, since: Option<Wall>) -> UnitLife {
    UnitLife { unit: unit.into(), invocation: invocation.into(), since }
}

pub fn texts(lines: Vec<LogLine>) -> Vec<String> {
    lines.into_iter().map(|line| line.text).collect()
}

pub fn after(cursor: &str, lines: usize) -> LogQuery {
    LogQuery { after: Some(cursor.into()), ..LogQuery::last(lines) }
}

pub async fn next(lines: &mut mpsc::Receiver<LogLine>) -> String {
    tokio::time::timeout(DEADLINE, lines.recv()).await.expect("a line in time").expect("an open stream").text
}

pub async fn next_few(lines: &mut mpsc::Receiver<LogLine>, count: usize) -> Vec<String> {
    let mut few = Vec::new();
    while few.len() < count {
        few.push(next(lines).await);
    }
    few
}

/// The runtime goes on meanwhile.
async fn asked_in_background(ask: impl FnMut() -> Result<(), String> + Send + 'static) {
    tokio::task::spawn_blocking(move || eventually("the fact", DEADLINE, ask)).await.unwrap();
}
