//! The one task that kills trees: many requests share each look at `/proc`.
//!
//! Decides when a tree counts as gone. Deliberately absent: giving up; what cannot be killed is tried again, ever more
//! slowly, and holds up nobody else.

use std::sync::Arc;
use std::time::Duration;

use nbs_core::id::Run;
use nbs_core::name::AppId;
use nbs_core::observation::{Fact, Observation};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Inner;
use super::identity::Proc;
use super::lives::Progress;
use super::tree::{Remembered, Table, Target};

/// Requests are gathered this long, which also is what a killed process takes to be gone.
const GATHER: Duration = Duration::from_millis(1);
/// The longest pause between two attempts at one tree.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Looks after which remembered environments are read anew.
const REMEMBERED_LOOKS: u32 = 16;

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
    /// Looks in a row that found nobody.
    clean: u32,
    /// Nobody is left; only `Exited` has to be told before.
    gone: bool,
    due: Instant,
}

/// What one look found for each of the trees asked about, in their order.
struct Seen {
    members: Vec<usize>,
    vanished: bool,
}

struct Scanner {
    proc: Proc,
    remembered: Remembered,
    looks: u32,
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
    Pending { request, found: 0, clean: 0, gone: false, due: Instant::now() + GATHER }
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
            // Somebody who forked on and on may have slipped through one look, hardly through two in a row.
            let sure = item.found == 0 && !seen.as_ref().is_some_and(|seen| seen.vanished);
            item.gone = sure || item.clean >= 2;
            item.due = Instant::now() + GATHER;
        } else {
            item.clean = 0;
            item.found += 1;
            let pause = GATHER * 2u32.saturating_pow(item.found.saturating_sub(8).min(20));
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
    let fresh = || Some(Scanner { proc: Proc::open().ok()?, remembered: Remembered::new(), looks: 0 });
    let Some(mut scanner) = scanner.or_else(fresh) else { return (None, None) };
    scanner.looks += 1;
    if scanner.looks % REMEMBERED_LOOKS == 0 {
        scanner.remembered.clear();
    }
    let Ok(table) = Table::read(&mut scanner.proc, &mut scanner.remembered) else { return (Some(scanner), None) };
    let members = asked.iter().map(|(target, found)| {
        let members = table.members(target);
        table.kill(&mut scanner.proc, &members, *found > 0);
        members.len()
    });
    let members = members.collect();
    (Some(scanner), Some(Seen { members, vanished: table.vanished }))
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
