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
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Inner;
use super::identity::Main;
use super::identity::Proc;
use super::lives::Progress;
use super::tree::{Memory, Table, Target};

/// Requests are gathered this long, which also is what a killed process takes to be gone.
const GATHER: Duration = Duration::from_millis(1);
/// The longest pause between two attempts at one tree.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Looks after which what was learnt of processes is learnt anew, so that it does not grow for ever.
const REMEMBERED_LOOKS: u32 = 256;
/// How often one look goes over what is new, to be certain.
const ROUNDS: u32 = 8;
/// The same where it found somebody: who forks on and on is caught by looks that follow each other at once.
const ROUNDS_OF_CHASE: u32 = 64;
/// Looks in a row that found nobody and were uncertain, after which a tree counts as gone nevertheless: on a host that
/// starts processes without a pause no look is certain, but nobody can slip through so many.
const UNCERTAIN_MAX: u32 = 64;

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
    /// Looks that found somebody.
    found: u32,
    /// Looks in a row that found only whom earlier ones had killed.
    stubborn: u32,
    /// Looks in a row that found nobody and were uncertain.
    clean: u32,
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
    Pending { request, found: 0, stubborn: 0, clean: 0, gone: false, due: Instant::now() + GATHER }
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
    let asked: Vec<(Target, u32)> = due.iter().map(|item| (item.request.target.clone(), item.found)).collect();
    let (scanner, seen) = tokio::task::spawn_blocking(move || scan(scanner, &asked)).await.ok().unzip();
    let seen = seen.flatten();
    for (index, item) in due.into_iter().enumerate() {
        let members = seen.as_ref().map_or(1, |seen| seen.members[index]);
        if members == 0 {
            item.clean += 1;
            item.gone = seen.as_ref().is_some_and(|seen| seen.certain) || item.clean >= UNCERTAIN_MAX;
            item.due = Instant::now() + GATHER;
        } else {
            item.clean = 0;
            item.found += 1;
            let is_new = seen.as_ref().is_some_and(|seen| seen.is_new[index]);
            item.stubborn = if is_new { 0 } else { item.stubborn + 1 };
            let pause = GATHER * 2u32.saturating_pow(item.stubborn.saturating_sub(8).min(20));
            item.due = Instant::now() + pause.min(PAUSE_MAX);
        }
    }
    scanner.flatten()
}

/// The main process may have been reaped since the request was made.
fn refresh(inner: &Inner, request: &mut Request) {
    if let Then::TreeGone(app, run) = &request.then {
        request.target.reaped_at = inner.lives.with(app, *run, |life| life.reaped_at()).flatten();
    }
}

fn scan(scanner: Option<Scanner>, asked: &[(Target, u32)]) -> (Option<Scanner>, Option<Seen>) {
    let fresh =
        || Some(Scanner { proc: Proc::open().ok()?, memory: Memory::default(), looks: 0, killed: HashSet::new() });
    let Some(mut scanner) = scanner.or_else(fresh) else { return (None, None) };
    scanner.looks += 1;
    if scanner.looks % REMEMBERED_LOOKS == 0 {
        scanner.memory.clear();
        scanner.killed.clear();
    }
    let mut table = Table::default();
    let mut seen = Seen { members: vec![0; asked.len()], is_new: vec![false; asked.len()], certain: false };
    // By request: two may ask for the same tree, and both wait for it.
    let mut killed: HashSet<(usize, Main)> = HashSet::new();
    for round in 0..ROUNDS_OF_CHASE {
        if round >= ROUNDS && killed.is_empty() {
            break;
        }
        let Ok(certain) = table.look(&mut scanner.proc, &mut scanner.memory) else { return (Some(scanner), None) };
        let before = killed.len();
        for (index, (target, found)) in asked.iter().enumerate() {
            let mut members = table.members(target);
            members.retain(|stat| killed.insert((index, stat.main)));
            table.kill(&mut scanner.proc, &members, *found > 0 && round == 0);
            seen.members[index] += members.len();
            seen.is_new[index] |= members.iter().any(|stat| !scanner.killed.contains(&stat.main));
        }
        seen.certain = certain;
        if certain && killed.len() == before {
            break;
        }
    }
    scanner.killed.extend(killed.into_iter().map(|(_, main)| main));
    (Some(scanner), Some(seen))
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
