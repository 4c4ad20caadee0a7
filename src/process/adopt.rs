//! Finding what former daemons started.
//!
//! Decides which process is the main one of a life, and that a number alone proves nothing. Deliberately absent: what to
//! do with strays (the core's to decide); interrupted commands and remains of lives whose main process is gone are killed.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nbs_core::id::Run;
use nbs_core::name::AppId;
use nbs_core::observation::Identity;
use nbs_core::recipe::Adapter;

use crate::ports::{Found, Known};

use super::group::Group;
use super::identity::{self, Main, Proc, Stat};
use super::lives::{Life, Progress};
use super::mark::Mark;
use super::sweeper::{Request, Then};
use super::tree::{Memory, Table, Target};
use super::{Inner, watch};

/// Surveys to be certain of everybody; on a host where that many are not, somebody starts processes without end.
const SURVEYS: u32 = 16;

/// What one look found, with the trees that are to be killed.
#[derive(Default)]
pub struct Adopted {
    /// The answer.
    pub found: Found,
    /// Trees that nobody asks for any more.
    pub kills: Vec<Request>,
}

/// Marked processes of one life.
type Marked = HashMap<(AppId, Run), Vec<Stat>>;

/// Looks once at every process; blocks for some 20 µs per process.
///
/// What cannot be found out (no `/proc`) is not found alive.
pub fn adopt(inner: &Arc<Inner>, known: Vec<Known>) -> Adopted {
    let mut adopted = Adopted::default();
    let Ok(mut proc) = Proc::open() else { return adopted };
    let (mut table, mut memory) = (Table::default(), Memory::default());
    for _ in 0..SURVEYS {
        table = Table::default();
        match table.survey(&mut proc, &mut memory, |_, _| false) {
            Ok(true) => break,
            Ok(false) => {}
            Err(_) => return adopted,
        }
    }
    let mut marked = sort(inner, &table, &mut adopted);
    let lives: HashSet<(AppId, Run)> = known.iter().map(|known| (known.app.clone(), known.run)).collect();
    for known in known {
        let of_life = marked.remove(&(known.app.clone(), known.run)).unwrap_or_default();
        let main = match &known.identity {
            Some(identity) if identity.boot == inner.boot => {
                Some(Main { pid: identity.pid, start_ticks: identity.start_ticks })
            }
            Some(_) => None,
            None => main_of(&of_life),
        };
        let opened = main.and_then(|main| Some((main, identity::open(&mut proc, main)?)));
        let watched = opened.and_then(|(main, pidfd)| {
            register(inner, &known.app, known.run, main, pidfd, Progress::Watched).then_some(main)
        });
        match watched {
            Some(main) => {
                let identity = Some(identity_of(inner, main));
                adopted.found.alive.push(Known { identity, ..known });
            }
            None if of_life.is_empty() => {}
            None => adopted.kills.push(remains(inner, &known.app, known.run, &of_life)),
        }
    }
    for ((app, run), processes) in marked.into_iter().filter(|(life, _)| !lives.contains(life)) {
        let Some(main) = main_of(&processes) else { continue };
        if let Some(pidfd) = identity::open(&mut proc, main) {
            register(inner, &app, run, main, pidfd, Progress::Stray);
        }
        adopted.found.strays.push(Known {
            app,
            run,
            identity: Some(identity_of(inner, main)),
            adapter: Adapter::Process,
            port: proc.port(main.pid),
        });
    }
    adopted
}

/// Sorts the processes with this daemon's mark by life, and condemns those of interrupted commands.
fn sort(inner: &Inner, table: &Table, adopted: &mut Adopted) -> Marked {
    let mut marked = Marked::new();
    let mut commands: HashSet<Box<str>> = HashSet::new();
    for entry in table.entries() {
        let Some(text) = &entry.mark else { continue };
        match Mark::parse(text, &inner.instance) {
            // This daemon's own children inherit the mark that it was itself started with, if any; not this one.
            Some(Mark::Life(app, run)) => marked.entry((app, run)).or_default().push(entry.stat),
            Some(Mark::Command(..)) if !inner.is_running_command(text) => {
                commands.insert(text.clone());
            }
            _ => {}
        }
    }
    let kill =
        |mark| Request { target: Target { mark, main: None, reaped_at: None, group: None }, then: Then::Nothing };
    adopted.kills.extend(commands.into_iter().map(kill));
    marked
}

/// The main one among the marked: the leader of its own group that started first, else whoever started first.
fn main_of(processes: &[Stat]) -> Option<Main> {
    let first = |stat: &&Stat| (stat.main.start_ticks, stat.main.pid);
    let leaders = processes.iter().filter(|stat| stat.main.pid == stat.pgid);
    leaders.min_by_key(first).or_else(|| processes.iter().min_by_key(first)).map(|stat| stat.main)
}

fn identity_of(inner: &Inner, main: Main) -> Identity {
    Identity { pid: main.pid, start_ticks: main.start_ticks, boot: inner.boot.clone(), invocation: None }
}

fn remains(inner: &Inner, app: &AppId, run: Run, processes: &[Stat]) -> Request {
    let mark = Mark::Life(app.clone(), run).text(&inner.instance).into();
    let group = processes.iter().find_map(|stat| Group::of(app, stat.main.pid));
    Request { target: Target { mark, main: None, reaped_at: None, group }, then: Then::Nothing }
}

fn register(inner: &Arc<Inner>, app: &AppId, run: Run, main: Main, pidfd: OwnedFd, progress: Progress) -> bool {
    let pidfd = Arc::new(pidfd);
    // Where in the log this life began is not kept; its last lines are those of the file.
    let group = Group::of(app, main.pid);
    let life = Life { run, main, pidfd: Some(pidfd.clone()), group, progress, log_from: 0, watcher: None };
    inner.lives.add(app, life);
    progress == Progress::Stray || watch::start(inner, app, run, pidfd).is_ok()
}
