//! Runs `journalctl` and reads its answer: bounded in the bytes of a line and of the whole.
//!
//! Deliberately absent: time limits and numbers of children, which the room's top has.

use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};

use nbs_core::limits::LAST_LOG_LINE_MAX;
use nbs_core::name::AppId;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::cursor::Cursor;
use super::entry::{Entry, cut};
use super::query::{self, From};
use super::{Options, Scope};
use crate::ports::{LogLine, LogQuery, UnitExit, UnitLife};

/// Bytes of one entry's JSON. journald cuts lines of output at 48 KiB, of which JSON makes 240 at worst; only what is sent
/// to its socket can be longer.
const JSON_MAX: usize = 1 << 20;
/// Bytes kept of the end of a longer one, for its cursor.
const TAIL: usize = 4 << 10;
/// Bytes of one answer's lines, whatever number of lines was asked for.
const ANSWER_MAX: usize = 16 << 20;
/// Bytes kept of what the child complains about.
const COMPLAINT_MAX: u64 = 4 << 10;
/// Entries of other lives that are passed over in search of one life's.
const STRANGERS_MAX: usize = 10_000;

/// What is said where the place to go on from is gone.
pub const GAP: &str = "… the journal no longer has the place to go on from; lines before this may be missing …";
const OLDER: &str = "… older lines are left out: an answer has at most 16 MiB …";

/// Why there is no answer.
#[derive(Debug)]
pub enum Fault {
    /// The cursor is none.
    Seek,
    /// Anything else; one sentence with its remedy.
    Other(String),
}

/// An answer.
#[derive(Debug, Default)]
pub struct Asked {
    /// Oldest first.
    pub lines: Vec<LogLine>,
    /// The journal's cursor of the newest entry among them.
    pub end: Option<String>,
}

/// A running `journalctl`. Dropping it kills it.
pub struct Reading {
    child: Child,
    out: BufReader<ChildStdout>,
    complaint: JoinHandle<String>,
    line: Vec<u8>,
    tail: Vec<u8>,
    length: u64,
}

impl Reading {
    /// Starts one.
    pub fn start(options: &Options, args: &[OsString]) -> Result<Self, Fault> {
        let spawned = command(options).args(args).stdout(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| Fault::Other(not_started(options, &error)))?;
        let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Fault::Other("journalctl has no output".into()));
        };
        let complaint = tokio::spawn(complaint(err));
        let out = BufReader::with_capacity(64 << 10, out);
        Ok(Self { child, out, complaint, line: Vec::new(), tail: Vec::new(), length: 0 })
    }

    /// The next entry; `None` at the end. What is no entry is passed over. Nothing is lost when this is cancelled.
    pub async fn next(&mut self) -> Option<Entry> {
        loop {
            let chunk = self.out.fill_buf().await.unwrap_or_default();
            // A line without its end is what a killed child left.
            if chunk.is_empty() {
                return None;
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let part = &chunk[..end.unwrap_or(chunk.len())];
            let used = part.len() + usize::from(end.is_some());
            keep(&mut self.line, &mut self.tail, part);
            self.length += part.len() as u64;
            self.out.consume(used);
            if end.is_some()
                && let Some(entry) = self.take()
            {
                return Some(entry);
            }
        }
    }

    fn take(&mut self) -> Option<Entry> {
        let entry = if self.tail.is_empty() {
            Entry::parse(&self.line)
        } else {
            Some(Entry::too_long(&self.line, &self.tail, self.length))
        };
        // A long line's memory is given back.
        self.line.clear();
        self.line.shrink_to(TAIL);
        self.tail.clear();
        self.length = 0;
        entry
    }

    /// How it ended: what it complained about, though it may have ended well.
    pub async fn end(mut self) -> Result<String, Fault> {
        let status = self.child.wait().await;
        let complaint = (&mut self.complaint).await.unwrap_or_default();
        match status {
            Ok(status) if status.success() => Ok(complaint),
            Ok(status) => Err(failed(status, &complaint)),
            Err(error) => Err(Fault::Other(format!("journalctl cannot be waited for: {error}"))),
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.complaint.abort();
    }
}

/// Adds a part to a line: up to `JSON_MAX` to its head, and of what is beyond the end only.
fn keep(head: &mut Vec<u8>, tail: &mut Vec<u8>, part: &[u8]) {
    let (first, rest) = part.split_at(part.len().min(JSON_MAX.saturating_sub(head.len())));
    head.extend_from_slice(first);
    tail.extend_from_slice(rest);
    let excess = tail.len().saturating_sub(TAIL);
    tail.drain(..excess);
}

fn command(options: &Options) -> Command {
    let mut command = Command::new(&options.program);
    // Its words are read, so they must be English.
    command.env("LC_ALL", "C").env("SYSTEMD_COLORS", "0").env_remove("SYSTEMD_LOG_LEVEL");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn complaint(mut err: impl AsyncRead + Unpin) -> String {
    let mut text = Vec::new();
    let _ = (&mut err).take(COMPLAINT_MAX).read_to_end(&mut text).await;
    // Read on, or it would wait for a reader.
    let _ = tokio::io::copy(&mut err, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&text).into_owned()
}

fn not_started(options: &Options, error: &io::Error) -> String {
    let program = options.program.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!("{program} is not installed: install systemd, or run apps without units"),
        _ => format!("{program} cannot be run: {error}"),
    }
}

const JOIN: &str =
    "this user may not read the journal: add it to the group systemd-journal and restart the daemon, or run it as root";

fn failed(status: ExitStatus, complaint: &str) -> Fault {
    let first = complaint.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    if first.contains("seek to cursor") {
        return Fault::Seek;
    }
    if complaint.contains("insufficient permissions") {
        return Fault::Other(JOIN.into());
    }
    Fault::Other(match first {
        "" => format!("journalctl ended with {status}"),
        said => format!("journalctl ended with {status}: {said}"),
    })
}

/// Whether the journal has written everything that was sent to it before.
pub async fn sync(options: &Options) -> bool {
    // Files that are read by directory are nobody's to write.
    options.directory.is_some()
        || command(options).arg("--sync").stderr(Stdio::null()).status().await.is_ok_and(|status| status.success())
}

/// The last lines of an app's log.
pub async fn newest(options: &Options, app: &AppId, query: &LogQuery) -> Result<Asked, Fault> {
    let mut reading = Reading::start(options, &query::of_app(options, app, From::End(query.since)))?;
    let (mut asked, mut bytes, mut full) = (Asked::default(), 0, false);
    while !full && asked.lines.len() < query.lines {
        let Some(entry) = reading.next().await else {
            let complaint = reading.end().await?;
            // It saw some journals, but not the one with the units.
            if asked.lines.is_empty() && options.scope == Scope::System && complaint.contains("not seeing messages") {
                return Err(Fault::Other(JOIN.into()));
            }
            break;
        };
        for line in entry.lines(app, options.scope).into_iter().rev() {
            bytes += line.text.len();
            asked.lines.push(line);
        }
        if asked.end.is_none() && !asked.lines.is_empty() {
            asked.end = entry.cursor().map(String::from);
        }
        full = bytes > ANSWER_MAX;
    }
    asked.lines.truncate(query.lines);
    if full && asked.lines.len() < query.lines {
        asked.lines.push(notice(OLDER));
    }
    asked.lines.reverse();
    Ok(asked)
}

/// The next lines behind a place.
pub async fn after(options: &Options, app: &AppId, place: &Cursor, query: &LogQuery) -> Result<Asked, Fault> {
    let mut reading = Reading::start(options, &query::of_app(options, app, From::Entry(&place.entry)))?;
    let (mut asked, mut bytes, mut arrival) = (Asked::default(), 0, Arrival::new(Some(place)));
    loop {
        let Some(entry) = reading.next().await else {
            reading.end().await?;
            // The place itself is an entry of this app; without it there was nothing at all to read.
            asked.lines.extend(arrival.gap());
            break;
        };
        let new = arrival.lines(&entry, app, options.scope);
        let new = new.into_iter().filter(|line| query.since.is_none_or(|since| line.at.is_none_or(|at| at >= since)));
        for line in new {
            bytes += line.text.len();
            asked.lines.push(line);
        }
        if arrival.has_come() && (asked.lines.len() >= query.lines || bytes > ANSWER_MAX) {
            break;
        }
    }
    // The last line that stays has the cursor to go on from.
    asked.lines.truncate(query.lines);
    Ok(asked)
}

/// Reads on from a place: its own entry comes first, unless the journal no longer has it.
#[derive(Debug)]
pub struct Arrival {
    place: Option<Cursor>,
}

impl Arrival {
    /// Going on from a place, or from the beginning.
    pub fn new(place: Option<&Cursor>) -> Self {
        Self { place: place.cloned() }
    }

    /// Whether the place has been found, or found to be gone.
    pub fn has_come(&self) -> bool {
        self.place.is_none()
    }

    /// The lines of an entry that are behind the place, with a word before them if the place is gone.
    pub fn lines(&mut self, entry: &Entry, app: &AppId, scope: Scope) -> Vec<LogLine> {
        let lines = entry.lines(app, scope);
        // What others wrote in the app's name is passed over, so it says nothing about the place.
        if lines.is_empty() && !self.is_at(entry) {
            return lines;
        }
        match self.place.take() {
            None => lines,
            Some(place) if entry.cursor() == Some(place.entry.as_str()) => {
                lines.into_iter().skip(place.skip()).collect()
            }
            Some(_) => std::iter::once(notice(GAP)).chain(lines).collect(),
        }
    }

    fn is_at(&self, entry: &Entry) -> bool {
        self.place.as_ref().is_some_and(|place| entry.cursor() == Some(place.entry.as_str()))
    }

    /// The word, if the place has not come.
    pub fn gap(&mut self) -> Option<LogLine> {
        self.place.take().map(|_| notice(GAP))
    }
}

/// A line of this room's own.
pub fn notice(text: impl Into<String>) -> LogLine {
    LogLine::plain(text.into())
}

/// How the last life of a unit ended that is not `running`.
pub async fn last_exit(options: &Options, unit: &str, running: &str) -> Result<Option<UnitExit>, Fault> {
    let mut reading = Reading::start(options, &query::of_exits(options, unit))?;
    let (mut life, mut exit, mut passed) = (None::<String>, UnitExit::default(), 0);
    while passed < STRANGERS_MAX {
        let Some(entry) = reading.next().await else {
            reading.end().await?;
            break;
        };
        passed += 1;
        let about = entry.about().unwrap_or_default();
        if about == running {
            continue;
        }
        if life.get_or_insert_with(|| about.to_string()) != about {
            break;
        }
        if let Some(result) = entry.unit_result() {
            exit.result = result.to_string();
        }
        if let Some((code, status)) = entry.exit() {
            (exit.by_signal, exit.status) = (code != "exited", status);
            return Ok(Some(exit));
        }
    }
    Ok(life.map(|_| exit).filter(|exit| !exit.result.is_empty()))
}

/// The last lines of one life.
pub async fn last_lines(options: &Options, life: &UnitLife, count: usize) -> Result<Vec<String>, Fault> {
    let mut reading = Reading::start(options, &query::of_life(options, life))?;
    let mut lines: Vec<String> = Vec::new();
    let mut passed = 0;
    while lines.len() < count && passed < STRANGERS_MAX {
        let Some(entry) = reading.next().await else {
            reading.end().await?;
            break;
        };
        passed += 1;
        let of_unit = entry.unit(options.scope) == Some(life.unit.as_str());
        match entry.invocation() {
            Some(invocation) if invocation == life.invocation && of_unit => {}
            // Lines of a later life are passed over; those before an earlier one are not this life's.
            Some(_) if lines.is_empty() => continue,
            Some(_) => break,
            None if of_unit && life.since.is_some_and(|since| entry.at().is_some_and(|at| at >= since)) => {}
            None => continue,
        }
        let mut texts = entry.texts();
        texts.iter_mut().for_each(|text| cut(text, LAST_LOG_LINE_MAX));
        lines.extend(texts.into_iter().rev());
    }
    lines.truncate(count);
    lines.reverse();
    Ok(lines)
}
