//! Reads `/proc` of one process: what its stat line counts, and which control groups it is in.

use std::ffi::CStr;
use std::io::Write;

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Dir, Mode, OFlags};

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

/// A sum over processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sum {
    /// Start of the main process, in ticks after boot; 0 while it was not met.
    pub start: u64,
    /// CPU time in ticks, that of ended children that were waited for included: so a child's end takes nothing away.
    pub ticks: u64,
    /// Resident pages.
    pub rss_pages: u64,
    /// Threads.
    pub tasks: u32,
}

impl Sum {
    /// Adds a process.
    pub fn add(&mut self, row: &Row, main: u32) {
        self.ticks += row.ticks;
        self.rss_pages += row.rss_pages;
        self.tasks += row.tasks;
        if row.pid == main {
            self.start = row.start;
        }
    }
}

/// What is needed of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub pid: u32,
    pub parent: u32,
    pub group: u32,
    pub session: u32,
    pub ticks: u64,
    pub tasks: u32,
    pub start: u64,
    pub rss_pages: u64,
}

/// Seconds since boot.
pub(super) fn uptime() -> Option<f64> {
    std::fs::read_to_string("/proc/uptime").ok()?.split(' ').next()?.parse().ok()
}

/// `/proc`, kept open: a path that begins there is looked up faster.
pub(super) struct Proc(OwnedFd);

impl Proc {
    pub fn open() -> rustix::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::openat(CWD, "/proc", flags, Mode::empty())?))
    }

    /// Its entries, most of them processes.
    pub fn entries(&self) -> rustix::io::Result<Dir> {
        Dir::read_from(&self.0)
    }

    /// The process of this number; none for what is no process, or is one no more.
    pub fn row(&self, digits: &[u8]) -> Option<Row> {
        let mut line = [0u8; STAT_MAX];
        let length = self.read(digits, b"/stat\0", &mut line)?;
        parse(number(digits)?, &line[..length])
    }

    /// The text of the process's `cgroup` file.
    pub fn groups<'a>(&self, pid: u32, buffer: &'a mut [u8]) -> Option<&'a str> {
        let length = self.read(pid.to_string().as_bytes(), b"/cgroup\0", buffer)?;
        std::str::from_utf8(&buffer[..length]).ok()
    }

    fn read(&self, digits: &[u8], name: &[u8], buffer: &mut [u8]) -> Option<usize> {
        if !digits.first()?.is_ascii_digit() {
            return None;
        }
        let mut path = [0u8; 24];
        let mut rest = &mut path[..];
        rest.write_all(digits).ok()?;
        rest.write_all(name).ok()?;
        let path = CStr::from_bytes_until_nul(&path).ok()?;
        let file = rustix::fs::openat(&self.0, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        rustix::io::read(&file, buffer).ok()
    }
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
pub(super) fn number(digits: &[u8]) -> Option<u64> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
