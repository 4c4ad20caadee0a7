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
pub const TICKS_PER_SECOND: u64 = 100;
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
    /// Its main thread is on its way out: it starts nobody any more, and has given its memory back or will.
    pub exiting: bool,
}

/// The flag `PF_EXITING` of the kernel.
const EXITING: i64 = 4;

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
            exiting: number(6)? & EXITING != 0,
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
    pub fn mark(&mut self, stat: &Stat) -> Told {
        let pid = stat.main.pid;
        let path = format!("{pid}/environ");
        match self.environment(&path) {
            Told::NotNow => {}
            told => return told,
        }
        let image = self.image(pid);
        match self.environment(&path) {
            // No exec can have been under way between two looks at one and the same program: it really has none.
            Told::NotNow if image.is_some() && image == self.image(pid) => return Told::Nothing,
            Told::NotNow => {}
            told => return told,
        }
        // The memory is left by the main thread when that ends, and lives on with the others.
        let others = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let mut others = others.filter_map(|entry| entry.file_name().into_string().ok());
        let told = others.find_map(|thread| match self.environment(&format!("{pid}/task/{thread}/environ")) {
            Told::NotNow => None,
            told => Some(told),
        });
        match told {
            Some(told) => told,
            // It only dies yet, and whoever could have seen its environment saw it before.
            None if stat.exiting && stat.threads <= 1 => Told::Nothing,
            None => Told::NotNow,
        }
    }

    fn environment(&mut self, path: &str) -> Told {
        match self.read(path, ENVIRONMENT_MAX) {
            Ok([]) => Told::NotNow,
            Ok(environment) => find_mark(environment).map_or(Told::Nothing, Told::Mark),
            Err(Errno::ACCESS | Errno::PERM) => Told::Nothing,
            Err(_) => Told::NotNow,
        }
    }

    /// Tells a program that a process runs from the next one: where its stack began, which chance decides at each exec.
    /// `None` amid an exec: the kernel notes where the code is after arguments and variables are in place.
    fn image(&mut self, pid: u32) -> Option<u64> {
        let line = self.read(&format!("{pid}/stat"), BLOCK).ok()?;
        let line = String::from_utf8_lossy(line);
        let (_, rest) = line.rsplit_once(')')?;
        let mut numbers = rest.split_ascii_whitespace().skip(23).map(str::parse::<u64>);
        let (start_of_code, _, start_of_stack) = (numbers.next()?.ok()?, numbers.next()?, numbers.next()?.ok()?);
        (start_of_code != 0).then_some(start_of_stack)
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
        // The second file is made up in some containers, the first is not there in every kernel.
        self.number("sys/kernel/ns_last_pid").or_else(|| self.number("loadavg"))
    }

    /// The last number in a file.
    fn number(&mut self, path: &str) -> Option<u32> {
        let line = self.read(path, BLOCK).ok()?;
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

/// Whether a number is a process's and not one of its further threads'; `None` if that cannot be told now.
pub fn is_process(number: u32) -> Option<bool> {
    match rustix::process::pidfd_open(pid(number)?, PidfdFlags::empty()) {
        Ok(_) => Some(true),
        Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => Some(false),
        Err(_) => None,
    }
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

    fn mark(proc: &mut Proc, pid: u32) -> Told {
        let stat = proc.stat(pid).unwrap();
        proc.mark(&stat)
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
            let mut now = mark(&mut proc, child.id());
            while now == Told::NotNow {
                now = mark(&mut proc, child.id());
            }
            assert_eq!(now, told);
            child.kill().unwrap();
            // A zombie has no environment any more.
            while !proc.stat(child.id()).unwrap().gone() {
                std::thread::yield_now();
            }
            assert_eq!(mark(&mut proc, child.id()), Told::Nothing);
            child.wait().unwrap();
        }
    }
}
