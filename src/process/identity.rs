//! What `/proc` says of one process: who it is beyond doubt, and whether it still runs.
//!
//! Decides when a process counts as gone. Deliberately absent: who belongs to whom (`tree.rs`).

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::mark;

/// Clock ticks in a second as `/proc` counts them: 100 on every Linux, whatever the kernel's own tick is.
const TICKS_PER_SECOND: u64 = 100;
/// Bytes of an environment that are searched for a mark.
const ENVIRONMENT_MAX: usize = 8 << 20;
/// Bytes that the first read of a file asks for; nearly every environment is smaller.
const BLOCK: usize = 64 << 10;

/// A process within this boot: its number, and when it started, as numbers are reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Main {
    /// Process ID.
    pub pid: u32,
    /// Clock ticks between boot and its start.
    pub start_ticks: u64,
}

/// The fields of `/proc/<pid>/stat` that are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Process and start time.
    pub main: Main,
    /// Parent.
    pub ppid: u32,
    /// Process group.
    pub pgid: u32,
    /// Session.
    pub sid: u32,
    /// Letter of its state: `R`, `S`, `D`, `T`, `Z`, …
    pub state: u8,
    /// Threads.
    pub threads: u32,
}

impl Stat {
    /// Reads a line of `/proc/<pid>/stat`. The program's name in it may hold spaces and parentheses.
    pub fn parse(line: &str) -> Option<Self> {
        let (pid, _) = line.split_once(' ')?;
        let (_, rest) = line.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().take(20).collect();
        let number = |index: usize| fields.get(index).and_then(|text| text.parse::<i64>().ok());
        Some(Self {
            main: Main { pid: pid.parse().ok()?, start_ticks: fields.get(19)?.parse().ok()? },
            ppid: u32::try_from(number(1)?).ok()?,
            pgid: u32::try_from(number(2)?).unwrap_or(0),
            sid: u32::try_from(number(3)?).unwrap_or(0),
            state: *fields.first()?.as_bytes().first()?,
            threads: u32::try_from(number(17)?).unwrap_or(0),
        })
    }

    /// Whether nothing of it runs any more. A main thread that ended while others go on reads `Z` too, and is alive.
    pub fn gone(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x') && self.threads <= 1
    }
}

/// What a process's environment tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It carries this mark.
    Mark(Box<str>),
    /// It carries none, or may not be read.
    Nothing,
    /// Not to be known just now: amid an exec, and at the end of its life, a process has no environment.
    NotNow,
}

/// An open `/proc`.
#[derive(Debug)]
pub struct Proc {
    dir: OwnedFd,
    buffer: Vec<u8>,
}

impl Proc {
    /// Opens `/proc`.
    ///
    /// # Errors
    /// It is not mounted.
    pub fn open() -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { dir: rustix::fs::open("/proc", flags, Mode::empty())?, buffer: Vec::new() })
    }

    /// The state of a process; `None` if there is none of that number.
    pub fn stat(&mut self, pid: u32) -> Option<Stat> {
        let line = self.read(&format!("{pid}/stat"), BLOCK).ok()?;
        Stat::parse(&String::from_utf8_lossy(line))
    }

    /// The mark in a process's environment.
    pub fn mark(&mut self, pid: u32) -> Told {
        match self.read(&format!("{pid}/environ"), ENVIRONMENT_MAX) {
            Ok([]) => {}
            Ok(environment) => return find_mark(environment).map_or(Told::Nothing, Told::Mark),
            Err(Errno::ACCESS | Errno::PERM) => return Told::Nothing,
            Err(_) => return Told::NotNow,
        }
        // Arguments can be read from the same moment of an exec on as variables: with them, there really are none.
        match self.read(&format!("{pid}/cmdline"), BLOCK) {
            Ok([_, ..]) => Told::Nothing,
            _ => Told::NotNow,
        }
    }

    /// The port in a process's environment, if it has one and can be read.
    pub fn port(&mut self, pid: u32) -> Option<u16> {
        let environment = self.read(&format!("{pid}/environ"), ENVIRONMENT_MAX).ok()?;
        variable(environment, mark::PORT)?.parse().ok()
    }

    /// Every process there is at about this moment, in ascending order.
    ///
    /// # Errors
    /// `/proc` cannot be listed.
    pub fn pids(&self) -> io::Result<Vec<u32>> {
        let mut pids = Vec::with_capacity(1024);
        for entry in std::fs::read_dir("/proc")? {
            pids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
        }
        Ok(pids)
    }

    /// The number that was given out last, to a process or a thread; `None` if the system does not tell.
    pub fn last_pid(&mut self) -> Option<u32> {
        let line = self.read("loadavg", BLOCK).ok()?;
        std::str::from_utf8(line).ok()?.split_ascii_whitespace().next_back()?.parse().ok()
    }

    /// A file's content by one single read: between two, a process may exec, and the second would find nothing.
    fn read(&mut self, path: &str, max: usize) -> rustix::io::Result<&[u8]> {
        let file = rustix::fs::openat(&self.dir, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        self.buffer.resize(self.buffer.len().max(BLOCK), 0);
        loop {
            let read = rustix::io::pread(&file, &mut self.buffer, 0)?;
            if read < self.buffer.len() || read >= max {
                return Ok(&self.buffer[..read]);
            }
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
    }
}

fn find_mark(environment: &[u8]) -> Option<Box<str>> {
    variable(environment, mark::VARIABLE).map(Into::into)
}

fn variable<'a>(environment: &'a [u8], name: &str) -> Option<&'a str> {
    environment.split(|byte| *byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        std::str::from_utf8(value).ok()
    })
}

/// Opens a process descriptor of exactly this process; `None` if it is gone or its number belongs to another by now.
///
/// The start time is read after opening, so the descriptor cannot be that of a later process.
pub fn open(proc: &mut Proc, main: Main) -> Option<OwnedFd> {
    let fd = rustix::process::pidfd_open(pid(main.pid)?, PidfdFlags::NONBLOCK).ok()?;
    let stat = proc.stat(main.pid)?;
    (stat.main == main && !stat.gone()).then_some(fd)
}

/// A process ID as the system wants it; `None` for 0 and for what is no process ID.
pub fn pid(number: u32) -> Option<Pid> {
    i32::try_from(number).ok().and_then(Pid::from_raw)
}

/// A signal as the system wants it; `None` for a number without a name.
pub fn signal(signal: nbs_core::signal::Signal) -> Option<Signal> {
    Signal::from_named_raw(signal.0)
}

/// Clock ticks since boot, to compare with start times.
pub fn ticks_now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let part = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds * TICKS_PER_SECOND + part / (1_000_000_000 / TICKS_PER_SECOND)
}

/// This boot's ID.
///
/// # Errors
/// `/proc` is not mounted.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let line = "42 (a ) b(c) S 1 42 43 0 -1 4194560 90 0 0 0 0 0 0 0 20 0 3 0 777 2781184 200";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(stat.main, Main { pid: 42, start_ticks: 777 });
        assert_eq!((stat.ppid, stat.pgid, stat.sid, stat.state, stat.threads), (1, 42, 43, b'S', 3));
        assert!(!stat.gone());
        assert!(Stat { state: b'Z', threads: 1, ..stat }.gone());
        assert!(!Stat { state: b'Z', ..stat }.gone());
    }

    #[test]
    fn this_process_is_found_with_its_own_start_time_only() {
        let mut proc = Proc::open().unwrap();
        let me = proc.stat(std::process::id()).unwrap().main;
        assert!(open(&mut proc, me).is_some());
        assert!(open(&mut proc, Main { start_ticks: me.start_ticks + 1, ..me }).is_none());
        assert!(ticks_now() >= me.start_ticks);
        assert!(proc.pids().unwrap().contains(&me.pid));
        assert!(proc.last_pid().unwrap() > 0);
    }

    #[test]
    fn an_environment_is_told_apart_from_none_and_from_none_yet() {
        let mut proc = Proc::open().unwrap();
        let large = "x".repeat(100 << 10);
        for (variables, told) in [
            (vec![("A", large.as_str()), (mark::VARIABLE, "i/a/1.0")], Told::Mark("i/a/1.0".into())),
            (vec![("A", "b")], Told::Nothing),
            (vec![], Told::Nothing),
        ] {
            let mut command = std::process::Command::new("/bin/sleep");
            let mut child = command.arg("600").env_clear().envs(variables).spawn().unwrap();
            // The spawn returns amid the exec.
            let mut now = proc.mark(child.id());
            while now == Told::NotNow && !proc.stat(child.id()).unwrap().gone() {
                now = proc.mark(child.id());
            }
            assert_eq!(now, told);
            child.kill().unwrap();
            // A zombie has no environment any more.
            while !proc.stat(child.id()).unwrap().gone() {
                std::thread::yield_now();
            }
            assert_eq!(proc.mark(child.id()), Told::NotNow);
            child.wait().unwrap();
        }
    }
}
