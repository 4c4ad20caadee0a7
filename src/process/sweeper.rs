//! The one task that kills trees: many requests share each look at `/proc`.
//!
//! Decides when a tree counts as gone. Deliberately absent: giving up; what cannot be killed is tried again, ever more
//! slowly, and holds up nobody else.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use nbs_core::id::Run;
use nbs_core::name::AppId;
use nbs_core::observation::{Fact, Observation};
use rustix::process::Signal;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Inner;
use super::group::Group;
use super::identity::Main;
use super::identity::Proc;
use super::lives::Progress;
use super::tree::{self, Memory, Table, Target};

/// Requests are gathered this long, which also is what a killed process takes to be gone.
const GATHER: Duration = Duration::from_millis(1);
/// The longest pause between two attempts at one tree.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Looks after which what was learnt of processes is learnt anew, so that it does not grow for ever.
const REMEMBERED_LOOKS: u32 = 256;

/// Who waits for a tree to be gone.
#[derive(Debug)]
pub enum Then {
    /// The worker, for this life.
    TreeGone(AppId, Run),
    /// A task of this room.
    Tell(oneshot::Sender<()>),
    /// Nobody.
    Nothing,
}

/// A tree to kill.
#[derive(Debug)]
pub struct Request {
    /// Which.
    pub target: Target,
    /// Who waits.
    pub then: Then,
}

struct Pending {
    request: Request,
    /// Looks in a row that found only whom earlier ones had killed, or nobody and were uncertain.
    stubborn: u32,
    /// Nobody is left; only `Exited` has to be told before.
    gone: bool,
    due: Instant,
}

/// What one look found for each of the trees asked about, in their order.
struct Seen {
    members: Vec<usize>,
    /// Whether somebody was among them whom no look before had killed.
    is_new: Vec<bool>,
    /// Nobody can have been missed.
    certain: bool,
}

struct Scanner {
    proc: Proc,
    memory: Memory,
    looks: u32,
    /// Whom looks before killed.
    killed: HashSet<Main>,
}

/// Runs until every sender of requests is gone.
pub async fn run(inner: Arc<Inner>, mut requests: mpsc::Receiver<Request>) {
    let mut pending: Vec<Pending> = Vec::new();
    let mut scanner = None;
    loop {
        if pending.is_empty() {
            // What the scanner remembers is of no use later, and memory counts.
            scanner = None;
            let Some(request) = requests.recv().await else { return };
            pending.push(new(request));
        }
        let due = pending.iter().map(|item| item.due).min().unwrap_or_else(Instant::now);
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            Some(request) = requests.recv() => pending.push(new(request)),
        }
        while let Ok(request) = requests.try_recv() {
            pending.push(new(request));
        }
        scanner = look(&inner, &mut pending, scanner).await;
        finish(&inner, &mut pending).await;
    }
}

fn new(request: Request) -> Pending {
    Pending { request, stubborn: 0, gone: false, due: Instant::now() + GATHER }
}

/// Looks for all trees that are due, kills what it finds, and notes when to look again.
async fn look(inner: &Inner, pending: &mut [Pending], scanner: Option<Scanner>) -> Option<Scanner> {
    let now = Instant::now();
    let mut due: Vec<&mut Pending> = pending.iter_mut().filter(|item| item.due <= now && !item.gone).collect();
    if due.is_empty() {
        return scanner;
    }
    for item in &mut due {
        refresh(inner, &mut item.request);
    }
    let asked: Vec<Target> = due.iter().map(|item| item.request.target.clone()).collect();
    let (scanner, seen) = tokio::task::spawn_blocking(move || scan(scanner, &asked)).await.ok().unzip();
    let seen = seen.flatten();
    for (index, item) in due.into_iter().enumerate() {
        item.gone = seen.as_ref().is_some_and(|seen| seen.certain && seen.members[index] == 0);
        let is_new = seen.as_ref().is_some_and(|seen| seen.is_new[index]);
        item.stubborn = if is_new { 0 } else { item.stubborn + 1 };
        let pause = GATHER * 2u32.saturating_pow(item.stubborn.saturating_sub(8).min(20));
        item.due = Instant::now() + pause.min(PAUSE_MAX);
    }
    scanner.flatten()
}

/// The main process may have been reaped since the request was made.
fn refresh(inner: &Inner, request: &mut Request) {
    if let Then::TreeGone(app, run) = &request.then {
        request.target.reaped_at = inner.lives.with(app, *run, |life| life.reaped_at()).flatten();
    }
}

/// Stops whoever belongs to the trees until nobody is left who could start another, and only then kills them: of a
/// process that ends, nobody could tell any more which children were its.
fn scan(scanner: Option<Scanner>, asked: &[Target]) -> (Option<Scanner>, Option<Seen>) {
    let fresh =
        || Some(Scanner { proc: Proc::open().ok()?, memory: Memory::default(), looks: 0, killed: HashSet::new() });
    let Some(mut scanner) = scanner.or_else(fresh) else { return (None, None) };
    scanner.looks += 1;
    if scanner.looks % REMEMBERED_LOOKS == 0 {
        scanner.memory.clear();
        scanner.killed.clear();
    }
    for group in asked.iter().filter_map(|target| target.group.as_ref()) {
        group.kill();
    }
    // By request: two may ask for the same tree, and both wait for it.
    let mut stopped: HashSet<(usize, Main)> = HashSet::new();
    let mut table = Table::default();
    let survey = table.survey(&mut scanner.proc, &mut scanner.memory, |table, proc| {
        let before = stopped.len();
        for (index, target) in asked.iter().enumerate() {
            let members = table.members(target);
            let mut new = members.clone();
            new.retain(|stat| stopped.insert((index, stat.main)));
            table.stop(proc, &new, &members);
        }
        stopped.len() > before
    });
    let mut seen = Seen { members: vec![0; asked.len()], is_new: vec![false; asked.len()], certain: false };
    for (index, main) in &stopped {
        tree::signal(&mut scanner.proc, *main, Signal::KILL);
        seen.members[*index] += 1;
        seen.is_new[*index] |= !scanner.killed.contains(main);
    }
    for (target, members) in asked.iter().zip(&mut seen.members) {
        *members += usize::from(target.group.as_ref().is_some_and(Group::has_members));
    }
    scanner.killed.extend(stopped.into_iter().map(|(_, main)| main));
    seen.certain = matches!(survey, Ok(true));
    (Some(scanner), survey.is_ok().then_some(seen))
}

/// Tells of the trees that are gone. `TreeGone` never comes before `Exited`.
async fn finish(inner: &Inner, pending: &mut Vec<Pending>) {
    let mut waiting = Vec::with_capacity(pending.len());
    for mut item in pending.drain(..) {
        let Then::TreeGone(app, run) = &item.request.then else {
            match item.request.then {
                Then::Tell(waiter) if item.gone => drop(waiter.send(())),
                _ if !item.gone => waiting.push(item),
                _ => {}
            }
            continue;
        };
        let progress = inner.lives.with(app, *run, |life| life.progress);
        let untold = matches!(progress, Some(Progress::Watched | Progress::Reaped(_)));
        if !item.gone || untold {
            if item.gone {
                item.due = Instant::now() + GATHER;
            }
            waiting.push(item);
            continue;
        }
        inner.lives.remove(app, *run);
        let gone = Observation { app: app.clone(), run: *run, fact: Fact::TreeGone };
        // A worker that is gone needs to hear nothing.
        let _ = inner.sender.send(gone).await;
    }
    *pending = waiting;
}
