//! Which processes belong to a life, and killing them without ever touching a stranger.
//!
//! Decides membership: process group, session, descendants and the mark. Deliberately absent: when to look (`sweeper.rs`).

use std::collections::{HashMap, HashSet};
use std::io;

use rustix::process::Signal;

use super::identity::{self, Main, Proc, Stat, Told};

/// Looks after which a process that never shows an environment counts as one without a mark: one whose main thread ended
/// while others go on has none any more.
const UNDECIDED_MAX: u32 = 128;

/// A tree to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The mark that its processes carry.
    pub mark: Box<str>,
    /// Its main process, where known.
    pub main: Option<Main>,
    /// When the main process was reaped; before, the numbers of its group and session cannot be another's.
    pub reaped_at: Option<u64>,
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
    /// Numbers began anew meanwhile: a settled one may be another's.
    wrapped: bool,
}

/// What was learnt of processes by earlier looks, so that a later one is cheap, and knows who was dead before it.
#[derive(Debug, Default)]
pub struct Memory {
    /// By number.
    known: HashMap<u32, Known>,
    /// How often each of those that are known still could not be decided.
    undecided: HashMap<Main, u32>,
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
    fn mark(&mut self, proc: &mut Proc, main: Main) -> Option<Option<Box<str>>> {
        if let Some(known) = self.known.get(&main.pid).filter(|known| known.start_ticks == main.start_ticks) {
            return Some(known.mark.clone());
        }
        let told = proc.mark(main.pid);
        if told == Told::NotNow {
            let times = self.undecided.entry(main).or_default();
            *times += 1;
            if *times < UNDECIDED_MAX {
                return None;
            }
        }
        let mark = if let Told::Mark(mark) = told { Some(mark) } else { None };
        self.known.insert(main.pid, Known { start_ticks: main.start_ticks, mark: mark.clone(), dead: false });
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
    /// Looks at every process that is not settled in this table yet. Returns whether the look was certain: then every
    /// process alive when it was listed is in the table, with its mark.
    ///
    /// It is not when a process was born while all were listed, as it may have got a number that was passed already; or
    /// when one had ended before it was read, or was amid an exec: it may be of a tree, and have left a child that was born
    /// after the listing. The next call clears that up, and is quick as it has few to read.
    ///
    /// # Errors
    /// `/proc` cannot be listed.
    pub fn look(&mut self, proc: &mut Proc, memory: &mut Memory) -> io::Result<bool> {
        let before = proc.last_pid();
        self.wrapped |= memory.note(before) && !self.settled.is_empty();
        let mut pids = proc.pids()?;
        let after = proc.last_pid();
        self.wrapped |= memory.note(after);
        let mut certain = before == after && !self.wrapped;
        pids.retain(|pid| !self.settled.contains(pid));
        // The unknown first, before they end.
        pids.sort_by_key(|pid| memory.known.contains_key(pid));
        for pid in pids {
            certain &= self.take(pid, proc, memory);
        }
        Ok(certain)
    }

    /// Takes up a process that was listed. Returns whether it is certain whose it is, or was.
    fn take(&mut self, pid: u32, proc: &mut Proc, memory: &mut Memory) -> bool {
        let Some(stat) = proc.stat(pid) else {
            self.settled.insert(pid);
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
        let mark = if pid == 2 || stat.ppid == 2 { Some(None) } else { memory.mark(proc, stat.main) };
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
        decided
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

    /// Whether a whole process group is among these processes.
    fn group_within(&self, pgid: u32, members: &HashSet<Main>) -> bool {
        let group = self.by_group.get(&pgid).into_iter().flatten();
        group.map(|index| self.entries[*index].stat.main).all(|main| members.contains(&main))
    }

    /// Kills processes of a tree, each by its own descriptor. With `groups`, whole process groups too, which leaves no
    /// time to fork.
    pub fn kill(&self, proc: &mut Proc, members: &[Stat], groups: bool) {
        if groups {
            let mains: HashSet<Main> = members.iter().map(|stat| stat.main).collect();
            let pgids: HashSet<u32> = members.iter().map(|stat| stat.pgid).collect();
            for pgid in pgids.into_iter().filter(|pgid| self.group_within(*pgid, &mains)) {
                let mut of_group = members.iter().filter(|stat| stat.pgid == pgid);
                let _ = of_group.any(|stat| kill_group(proc, stat));
            }
        }
        for stat in members {
            if let Some(fd) = identity::open(proc, stat.main) {
                // Gone by now, or not ours to kill: the next look tells.
                let _ = rustix::process::pidfd_send_signal(&fd, Signal::KILL);
            }
        }
    }
}

/// Kills a process group by way of a member: stopped, the member cannot end by itself, so the number stays the group's.
fn kill_group(proc: &mut Proc, member: &Stat) -> bool {
    let (Some(fd), Some(group)) = (identity::open(proc, member.main), identity::pid(member.pgid)) else { return false };
    if rustix::process::pidfd_send_signal(&fd, Signal::STOP).is_err() {
        return false;
    }
    let stopped = proc
        .stat(member.main.pid)
        .is_some_and(|now| now.main == member.main && now.pgid == member.pgid && matches!(now.state, b'T' | b't'));
    stopped && rustix::process::kill_process_group(group, Signal::KILL).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(pid: u32, ppid: u32, group: u32, start_ticks: u64, mark: Option<&str>) -> Entry {
        let main = Main { pid, start_ticks };
        let stat = Stat { main, ppid, pgid: group, sid: group, state: b'S', threads: 1 };
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
        Target { mark: "i/a/1.0".into(), main: Some(Main { pid: 10, start_ticks: 100 }), reaped_at }
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
