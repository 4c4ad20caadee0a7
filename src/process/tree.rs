//! Which processes belong to a life, and signalling them without ever touching a stranger.
//!
//! Decides membership (process group, session, descendants and the mark), and when nobody can have been missed.
//! Deliberately absent: when to look, and for whom (`sweeper.rs`).

use std::collections::{HashMap, HashSet};
use std::io;

use rustix::process::Signal;

use super::group::Group;
use super::identity::{self, Main, Proc, Stat, Told};

/// How often a survey lists all processes, to be certain.
const LISTINGS: u32 = 16;
/// How often it then looks at who was born since, before it lists all again.
const FOLLOWS: u32 = 256;
/// Ticks after which a process that never shows an environment counts as one without a mark. Nothing but a dead network
/// disk holds an exec up for so long; whom it holds up starts nobody.
const EXEC_TICKS_MAX: u64 = 10 * identity::TICKS_PER_SECOND;

/// A tree to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The mark that its processes carry.
    pub mark: Box<str>,
    /// Its main process, where known.
    pub main: Option<Main>,
    /// When the main process was reaped; before, the numbers of its group and session cannot be another's.
    pub reaped_at: Option<u64>,
    /// The control group that it has to itself.
    pub group: Option<Group>,
}

/// A living process, and the mark in its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its state.
    pub stat: Stat,
    /// Its mark, whoever's it is.
    pub mark: Option<Box<str>>,
}

/// The processes of one moment, and the indexes to find trees among them.
#[derive(Debug, Default)]
pub struct Table {
    entries: Vec<Entry>,
    /// Start time of every process seen, zombies included: who holds a number now.
    holders: HashMap<u32, u64>,
    by_mark: HashMap<Box<str>, Vec<usize>>,
    by_group: HashMap<u32, Vec<usize>>,
    by_session: HashMap<u32, Vec<usize>>,
    by_parent: HashMap<u32, Vec<usize>>,
    /// Numbers that need no second look, as what they are cannot change but by dying.
    settled: HashSet<u32>,
    /// Those that were not to be decided yet, and where they stand in the table.
    undecided: HashMap<u32, usize>,
    /// The number up to which all were looked at.
    reached: Option<u32>,
    /// Somebody had ended since the listing before it was known who that was.
    lost: bool,
    /// Numbers began anew meanwhile: a settled one may be another's.
    wrapped: bool,
}

/// What was learnt of processes by earlier surveys, so that a later one is cheap, and knows who was dead before it.
#[derive(Debug, Default)]
pub struct Memory {
    /// By number.
    known: HashMap<u32, Known>,
    /// Who could not be decided yet, and since when, in ticks.
    undecided: HashMap<Main, u64>,
    /// The number given out last.
    last: Option<u32>,
}

#[derive(Debug)]
struct Known {
    start_ticks: u64,
    mark: Option<Box<str>>,
    /// It had ended, and only its number was still taken.
    dead: bool,
}

impl Memory {
    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Notes the number given out last. Returns whether numbers began anew since the note before; then nothing that
    /// was known of a number counts.
    fn note(&mut self, last: Option<u32>) -> bool {
        let wrapped = last < self.last;
        if wrapped {
            self.clear();
        }
        self.last = last;
        wrapped
    }

    /// The mark of a living process, read once; `None` if it cannot be told now.
    fn mark(&mut self, proc: &mut Proc, stat: &Stat) -> Option<Option<Box<str>>> {
        let main = stat.main;
        if let Some(known) = self.known.get(&main.pid).filter(|known| known.start_ticks == main.start_ticks) {
            return Some(known.mark.clone());
        }
        let mark = match proc.mark(stat) {
            Told::Mark(mark) => Some(mark),
            Told::Nothing => None,
            Told::NotNow => {
                let now = identity::ticks_now();
                let since = *self.undecided.entry(main).or_insert(now);
                if now < since + EXEC_TICKS_MAX {
                    return None;
                }
                None
            }
        };
        // What this daemon has just started shows the daemon's own environment until it becomes the app.
        if mark.is_some() || stat.ppid != std::process::id() {
            self.known.insert(main.pid, Known { start_ticks: main.start_ticks, mark: mark.clone(), dead: false });
        }
        Some(mark)
    }

    /// Notes that a process has ended. Returns whether that was known.
    fn bury(&mut self, main: Main) -> bool {
        let known = Known { start_ticks: main.start_ticks, mark: None, dead: true };
        let was = self.known.insert(main.pid, known);
        was.is_some_and(|was| was.dead && was.start_ticks == main.start_ticks)
    }
}

impl Table {
    /// Looks at every process until nobody can have been missed, or it has tried for long. `seen` is called whenever
    /// the table has grown; it may stop those it looks for, and says whether there were any whom it had not seen
    /// before. Returns whether the survey is certain: then every process alive at its end is in the table.
    ///
    /// Why that is so: who was alive all the time was listed. Who was born meanwhile got a number after `reached`, and
    /// each of these is looked at by itself until no new one was given out. A number that is given out stays invisible for
    /// a moment, but that long its parent is in the kernel, alive, and was seen. Only of somebody who had ended between
    /// the listing and its reading nothing is known: then all are listed again.
    ///
    /// # Errors
    /// `/proc` cannot be listed.
    pub fn survey(
        &mut self,
        proc: &mut Proc,
        memory: &mut Memory,
        mut seen: impl FnMut(&Self, &mut Proc) -> bool,
    ) -> io::Result<bool> {
        for _ in 0..LISTINGS {
            self.list(proc, memory)?;
            let mut anybody_new = seen(self, proc);
            let mut caught_up = false;
            for _ in 0..FOLLOWS {
                let before = self.decided();
                caught_up = self.follow(proc, memory);
                if self.decided() != before {
                    anybody_new |= seen(self, proc);
                }
                if caught_up || self.wrapped {
                    break;
                }
                // Whoever is amid an exec may wait for this very processor.
                std::thread::yield_now();
            }
            if self.wrapped || (caught_up && !self.lost && !anybody_new) {
                return Ok(!self.wrapped);
            }
        }
        Ok(false)
    }

    fn decided(&self) -> usize {
        self.entries.len() - self.undecided.len()
    }

    /// Lists all processes, and looks at those that are not settled yet.
    fn list(&mut self, proc: &mut Proc, memory: &mut Memory) -> io::Result<()> {
        self.lost = false;
        self.reached = proc.last_pid();
        self.wrapped |= memory.note(self.reached) && !self.settled.is_empty();
        let mut pids = proc.pids()?;
        pids.retain(|pid| !self.settled.contains(pid));
        // The unknown first, before they end.
        pids.sort_by_key(|pid| memory.known.contains_key(pid));
        for pid in pids {
            self.lost |= !self.take(pid, proc, memory);
        }
        Ok(())
    }

    /// Looks at the numbers given out since, and again at who was undecided. Returns whether there were none of either.
    fn follow(&mut self, proc: &mut Proc, memory: &mut Memory) -> bool {
        let from = std::mem::replace(&mut self.reached, proc.last_pid());
        self.wrapped |= memory.note(self.reached);
        if self.wrapped || (from == self.reached && self.undecided.is_empty()) {
            return !self.wrapped;
        }
        let waiting: Vec<u32> = self.undecided.keys().copied().collect();
        for pid in waiting {
            self.lost |= !self.take(pid, proc, memory);
        }
        if let (Some(from), Some(to)) = (from, self.reached) {
            for pid in from + 1..=to {
                if !self.settled.contains(&pid) && identity::is_process(pid) != Some(false) {
                    // One that has ended by now had its children later, with higher numbers.
                    self.take(pid, proc, memory);
                }
            }
        }
        false
    }

    /// Takes up a process. Returns whether it is known whose it is, or was, or will be told by a later look.
    fn take(&mut self, pid: u32, proc: &mut Proc, memory: &mut Memory) -> bool {
        let Some(stat) = proc.stat(pid) else {
            self.undecided.remove(&pid);
            return memory.known.remove(&pid).is_some_and(|known| known.dead);
        };
        if stat.gone() {
            self.settled.insert(pid);
            self.undecided.remove(&pid);
            self.holders.insert(pid, stat.main.start_ticks);
            return memory.bury(stat.main);
        }
        // Children of 2 are the kernel's own threads.
        let mark = if pid == 2 || stat.ppid == 2 { Some(None) } else { memory.mark(proc, &stat) };
        let decided = mark.is_some();
        match self.undecided.remove(&pid).filter(|index| self.entries[*index].stat.main == stat.main) {
            Some(index) => {
                if let Some(mark) = mark.flatten() {
                    self.by_mark.entry(mark.clone()).or_default().push(index);
                    self.entries[index].mark = Some(mark);
                }
                if !decided {
                    self.undecided.insert(pid, index);
                }
            }
            None => {
                if !decided {
                    self.undecided.insert(pid, self.entries.len());
                }
                self.add(Entry { stat, mark: mark.flatten() });
            }
        }
        if decided {
            self.settled.insert(pid);
        }
        true
    }

    fn add(&mut self, entry: Entry) {
        let index = self.entries.len();
        let stat = &entry.stat;
        self.holders.insert(stat.main.pid, stat.main.start_ticks);
        self.by_group.entry(stat.pgid).or_default().push(index);
        self.by_session.entry(stat.sid).or_default().push(index);
        self.by_parent.entry(stat.ppid).or_default().push(index);
        if let Some(mark) = &entry.mark {
            self.by_mark.entry(mark.clone()).or_default().push(index);
        }
        self.entries.push(entry);
    }

    /// Every living process.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The living members of a tree.
    pub fn members(&self, target: &Target) -> Vec<Stat> {
        let mut found: Vec<usize> = self.by_mark.get(&target.mark).cloned().unwrap_or_default();
        if let Some(main) = target.main {
            let groups = self.by_group.get(&main.pid).into_iter().chain(self.by_session.get(&main.pid)).flatten();
            found.extend(groups.filter(|index| self.is_of_group(&self.entries[**index], main, target.reaped_at)));
        }
        let mut seen: HashSet<usize> = HashSet::new();
        while let Some(index) = found.pop() {
            let entry = &self.entries[index];
            // Another mark is another life, even below this one: an app may itself be such a daemon.
            if entry.mark.as_ref().is_some_and(|mark| *mark != target.mark) || !seen.insert(index) {
                continue;
            }
            let parent = entry.stat.main;
            let children = self.by_parent.get(&parent.pid).into_iter().flatten().copied();
            found.extend(children.filter(|child| self.entries[*child].stat.main.start_ticks >= parent.start_ticks));
        }
        seen.into_iter().map(|index| self.entries[index].stat).collect()
    }

    /// Whether a member of the group or session with the main process's number is of this life, and not of a later one
    /// that got the same number.
    fn is_of_group(&self, entry: &Entry, main: Main, reaped_at: Option<u64>) -> bool {
        match self.holders.get(&main.pid) {
            Some(start_ticks) => *start_ticks == main.start_ticks,
            // Without a leader: those that were there when it was reaped kept the number from being reused.
            None => reaped_at.is_none_or(|at| entry.stat.main.start_ticks <= at),
        }
    }

    /// Stops some of a tree's members, so that they start nobody any more and stay who their children's parent is. Of whole
    /// process groups all are stopped in one moment, which leaves no time to fork.
    pub fn stop(&self, proc: &mut Proc, some: &[Stat], members: &[Stat]) {
        for stat in some {
            signal(proc, stat.main, Signal::STOP);
        }
        let mains: HashSet<Main> = members.iter().map(|stat| stat.main).collect();
        let pgids: HashSet<u32> = some.iter().map(|stat| stat.pgid).collect();
        for pgid in pgids.into_iter().filter(|pgid| self.is_group_of_several_within(*pgid, &mains)) {
            let mut of_group = members.iter().filter(|stat| stat.pgid == pgid);
            let _ = of_group.any(|stat| stop_group(proc, stat));
        }
    }

    fn is_group_of_several_within(&self, pgid: u32, members: &HashSet<Main>) -> bool {
        let group = self.by_group.get(&pgid).map_or(&[][..], Vec::as_slice);
        group.len() > 1 && group.iter().all(|index| members.contains(&self.entries[*index].stat.main))
    }
}

/// Signals a process by its own descriptor.
pub fn signal(proc: &mut Proc, main: Main, signal: Signal) {
    if let Some(fd) = identity::open(proc, main) {
        // Gone by now, or not ours to signal: the next survey tells.
        let _ = rustix::process::pidfd_send_signal(&fd, signal);
    }
}

/// Stops a process group by way of a stopped member: it cannot end by itself, so the number stays the group's.
fn stop_group(proc: &mut Proc, member: &Stat) -> bool {
    let Some(group) = identity::pid(member.pgid) else { return false };
    let stopped = proc
        .stat(member.main.pid)
        .is_some_and(|now| now.main == member.main && now.pgid == member.pgid && matches!(now.state, b'T' | b't'));
    stopped && rustix::process::kill_process_group(group, Signal::STOP).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(pid: u32, ppid: u32, group: u32, start_ticks: u64, mark: Option<&str>) -> Entry {
        let main = Main { pid, start_ticks };
        let stat = Stat { main, ppid, pgid: group, sid: group, state: b'S', threads: 1, exiting: false };
        Entry { stat, mark: mark.map(Into::into) }
    }

    fn found(entries: Vec<Entry>, target: &Target) -> Vec<u32> {
        let mut table = Table::default();
        entries.into_iter().for_each(|entry| table.add(entry));
        let mut pids: Vec<u32> = table.members(target).iter().map(|stat| stat.main.pid).collect();
        pids.sort_unstable();
        pids
    }

    fn target(reaped_at: Option<u64>) -> Target {
        Target { mark: "i/a/1.0".into(), main: Some(Main { pid: 10, start_ticks: 100 }), reaped_at, group: None }
    }

    #[test]
    fn group_session_descendants_and_marked_belong_to_the_tree() {
        let entries = vec![
            entry(1, 0, 1, 0, None),
            entry(10, 1, 10, 100, Some("i/a/1.0")),
            entry(11, 1, 10, 101, None),
            entry(12, 10, 12, 102, None),
            entry(13, 12, 13, 103, None),
            entry(14, 1, 14, 104, Some("i/a/1.0")),
            entry(15, 1, 15, 105, Some("i/b/1.0")),
            entry(16, 10, 10, 106, Some("other/x/1.0")),
            entry(17, 16, 17, 107, None),
        ];
        assert_eq!(found(entries, &target(None)), [10, 11, 12, 13, 14]);
    }

    #[test]
    fn a_reused_number_is_nobody_of_ours() {
        let reused = vec![entry(10, 1, 10, 500, None), entry(11, 10, 10, 501, None)];
        assert!(found(reused, &target(Some(200))).is_empty());
        let without_leader = vec![entry(11, 1, 10, 150, None), entry(12, 1, 10, 300, None)];
        assert_eq!(found(without_leader, &target(Some(200))), [11]);
    }
}
