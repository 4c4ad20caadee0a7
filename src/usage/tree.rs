//! Adds up `/proc/<pid>/stat` over process trees, in one pass over `/proc`.
//!
//! A process belongs to the app whose main process it is or descends from; else to the one of its process group or
//! session (what an app put into the background was adopted by init, but kept its group). The pass gives way to other
//! tasks every few processes, so that a thousand of them do not hold up a request.

use std::collections::HashMap;
use std::ffi::CStr;
use std::io::Write;

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Dir, Mode, OFlags};

/// Processes read between two offers to give way: about 0.3 ms.
const STRIDE: usize = 32;
/// A stat line is under 400 bytes, its fields' largest values included.
const STAT_MAX: usize = 512;

/// The kernel's units.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    pub page_bytes: u64,
    pub ticks_per_second: f64,
}

impl Scale {
    pub fn of_this_host() -> Self {
        use nix::unistd::{SysconfVar, sysconf};
        let ask = |what, otherwise: i64| sysconf(what).ok().flatten().filter(|n| *n > 0).unwrap_or(otherwise);
        Self {
            page_bytes: ask(SysconfVar::PAGE_SIZE, 4096).unsigned_abs(),
            ticks_per_second: ask(SysconfVar::CLK_TCK, 100) as f64,
        }
    }
}

/// A tree's sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sum {
    /// Start of the main process, in ticks after boot.
    pub start: u64,
    /// CPU time in ticks, that of ended children that were waited for included: so a child's end takes nothing away.
    pub ticks: u64,
    /// Resident pages.
    pub rss_pages: u64,
    /// Threads.
    pub tasks: u32,
}

/// What is needed of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    pid: u32,
    parent: u32,
    group: u32,
    session: u32,
    ticks: u64,
    tasks: u32,
    start: u64,
    rss_pages: u64,
}

/// The sum of each main process's tree, in the order given; none for one that is gone.
pub(super) async fn sums(mains: impl Iterator<Item = u32>) -> Vec<Option<Sum>> {
    let mains: Vec<u32> = mains.collect();
    let Ok(rows) = read_all(mains.len() * 2 + 256).await else { return vec![None; mains.len()] };
    add_up(&mains, &rows)
}

/// Seconds since boot.
pub(super) fn uptime() -> Option<f64> {
    std::fs::read_to_string("/proc/uptime").ok()?.split(' ').next()?.parse().ok()
}

async fn read_all(expected: usize) -> rustix::io::Result<Vec<Row>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = rustix::fs::openat(CWD, "/proc", flags, Mode::empty())?;
    let mut rows = Vec::with_capacity(expected);
    for (i, entry) in Dir::read_from(&proc)?.enumerate() {
        if i % STRIDE == STRIDE - 1 {
            tokio::task::yield_now().await;
        }
        let entry = entry?;
        if let Some(row) = read_one(&proc, entry.file_name()) {
            rows.push(row);
        }
    }
    Ok(rows)
}

/// None for what is no process, or is one no more.
fn read_one(proc: &OwnedFd, name: &CStr) -> Option<Row> {
    let digits = name.to_bytes();
    if !digits.first()?.is_ascii_digit() {
        return None;
    }
    let mut path = [0u8; 24];
    let mut rest = &mut path[..];
    rest.write_all(digits).ok()?;
    rest.write_all(b"/stat\0").ok()?;
    let path = CStr::from_bytes_until_nul(&path).ok()?;
    let file = rustix::fs::openat(proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut line = [0u8; STAT_MAX];
    let length = rustix::io::read(&file, &mut line).ok()?;
    parse(number(digits)?, &line[..length])
}

/// The program's name may contain anything; the fields begin after the last parenthesis.
fn parse(pid: u64, line: &[u8]) -> Option<Row> {
    let end = line.iter().rposition(|byte| *byte == b')')?;
    let mut fields = line.get(end + 2..)?.split(|byte| *byte == b' ');
    // `skip` counts from the state, which is field 3 of proc(5).
    let mut next = |skip: usize| number(fields.nth(skip)?);
    let (parent, group, session) = (next(1)?, next(0)?, next(0)?);
    let ticks = next(7)? + next(0)? + next(0)? + next(0)?;
    let (tasks, start, rss_pages) = (next(2)?, next(1)?, next(1)?);
    Some(Row {
        pid: u32::try_from(pid).ok()?,
        parent: u32::try_from(parent).ok()?,
        group: u32::try_from(group).ok()?,
        session: u32::try_from(session).ok()?,
        ticks,
        tasks: u32::try_from(tasks).ok()?,
        start,
        rss_pages,
    })
}

/// A number; what is negative is none of those read here, and counts as nothing.
fn number(digits: &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for digit in digits {
        match digit {
            b'0'..=b'9' => value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?,
            b'-' => return Some(0),
            _ => return None,
        }
    }
    Some(value)
}

fn add_up(mains: &[u32], rows: &[Row]) -> Vec<Option<Sum>> {
    let owners = owners(mains, rows);
    let mut sums = vec![Sum::default(); mains.len()];
    let mut there = vec![false; mains.len()];
    for (row, owner) in rows.iter().zip(owners) {
        let Some(owner) = owner else { continue };
        let sum = &mut sums[owner];
        sum.ticks += row.ticks;
        sum.rss_pages += row.rss_pages;
        sum.tasks += row.tasks;
        if row.pid == mains[owner] {
            sum.start = row.start;
            there[owner] = true;
        }
    }
    // Apps that share a process are shown the same figures, each that of the whole.
    let first = first_of_each(mains);
    let of = |pid: &u32| first.get(pid).filter(|i| there[**i]).map(|i| sums[*i]);
    mains.iter().map(of).collect()
}

fn first_of_each(mains: &[u32]) -> HashMap<u32, usize> {
    let mut first = HashMap::with_capacity(mains.len());
    for (i, pid) in mains.iter().enumerate() {
        first.entry(*pid).or_insert(i);
    }
    first
}

/// The index of each row's main process. Every row is settled once, whatever the depth of the tree.
fn owners(mains: &[u32], rows: &[Row]) -> Vec<Option<usize>> {
    let main_of = first_of_each(mains);
    let row_of: HashMap<u32, usize> = rows.iter().enumerate().map(|(i, row)| (row.pid, i)).collect();
    let mut settled: Vec<Option<Option<usize>>> = vec![None; rows.len()];
    let mut path = Vec::new();
    for i in 0..rows.len() {
        // Up, until a main process, a settled row or the top. A pid that was reused during the pass could close a ring.
        let mut at = Some(i);
        let mut owner = None;
        while let Some(here) = at {
            if let Some(known) = settled[here] {
                owner = known;
                break;
            }
            if let Some(main) = main_of.get(&rows[here].pid) {
                owner = Some(*main);
                settled[here] = Some(owner);
                break;
            }
            if path.len() > rows.len() {
                break;
            }
            path.push(here);
            at = row_of.get(&rows[here].parent).copied();
        }
        // Down again: each belongs to whom its parent belongs, else to its group or session.
        while let Some(here) = path.pop() {
            let by_name = || main_of.get(&rows[here].group).or_else(|| main_of.get(&rows[here].session)).copied();
            owner = owner.or_else(by_name);
            settled[here] = Some(owner);
        }
    }
    settled.into_iter().map(Option::flatten).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pid: u32, parent: u32, group: u32, session: u32) -> Row {
        Row { pid, parent, group, session, ticks: 10, tasks: 2, start: u64::from(pid), rss_pages: 3 }
    }

    #[test]
    fn a_stat_line_is_read_whatever_the_programs_name() {
        let line =
            b"42 (a) b) (c) S 1 40 39 0 -1 4194304 101 0 0 0 5 6 7 8 20 0 3 0 1234 9000 77 18446744073709551615 1\n";
        let row = parse(42, line).unwrap();
        let wanted =
            Row { pid: 42, parent: 1, group: 40, session: 39, ticks: 26, tasks: 3, start: 1234, rss_pages: 77 };
        assert_eq!(row, wanted);
        assert_eq!(parse(42, b"42 (x) S 1 2"), None);
        assert_eq!(parse(42, b""), None);
    }

    #[test]
    fn children_groups_and_sessions_belong_to_the_app() {
        let rows = [
            row(1, 0, 1, 1),
            row(10, 1, 10, 10),  // main of the first
            row(11, 10, 11, 10), // its child in a group of its own
            row(12, 11, 12, 12), // its grandchild in a session of its own
            row(13, 1, 10, 10),  // put into the background
            row(14, 13, 14, 14), // a child of that
            row(20, 10, 20, 20), // main of the second, started by the first
            row(21, 20, 20, 20),
            row(30, 1, 30, 30), // a stranger
        ];
        let sums = add_up(&[10, 20, 99], &rows);
        assert_eq!(sums[0], Some(Sum { start: 10, ticks: 50, rss_pages: 15, tasks: 10 }));
        assert_eq!(sums[1], Some(Sum { start: 20, ticks: 20, rss_pages: 6, tasks: 4 }));
        assert_eq!(sums[2], None);
        assert_eq!(add_up(&[20, 20], &rows), [sums[1], sums[1]], "apps that share a process");
    }

    #[test]
    fn a_ring_of_parents_comes_to_an_end() {
        let rows = [row(5, 6, 5, 5), row(6, 5, 6, 6)];
        assert_eq!(add_up(&[7], &rows), [None]);
    }
}
