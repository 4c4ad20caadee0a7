//! Waiting for a main process's end by its descriptor, and telling it.
//!
//! Decides how an end is learnt: by waiting for a child, by asking the kernel about a stranger. Nobody else may reap, so
//! only this very process is waited for. Deliberately absent: what follows from an end (the core's to decide).

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nbs_core::id::Run;
use nbs_core::limits::{LAST_LOG_LINE_MAX, LAST_LOG_LINES};
use nbs_core::name::AppId;
use nbs_core::observation::{Fact, Observation};
use nbs_core::reason::ExitOutcome;
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Inner;
use super::identity::{self, Main};
use super::lives::Progress;
use super::output;

/// How often the kernel is asked for a stranger's status, which it gives once the stranger's parent has reaped it.
const STRANGER_TRIES: u32 = 10;

/// What waiting without blocking found.
pub enum Reaped {
    /// It still runs.
    Not,
    /// It was a child, and is reaped.
    Child(ExitOutcome),
    /// It is not a child of this daemon.
    Stranger,
}

/// Reaps a child that has ended.
pub fn reap(pidfd: &OwnedFd) -> Reaped {
    match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
        Ok(Some(status)) => Reaped::Child(outcome(&status)),
        Ok(None) | Err(Errno::INTR) => Reaped::Not,
        Err(_) => Reaped::Stranger,
    }
}

/// Whether it is a child of this daemon that nobody has reaped yet: then its number, and its group's, are its own.
pub fn is_unreaped_child(pidfd: &OwnedFd) -> bool {
    let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), peek).is_ok()
}

fn outcome(status: &WaitIdStatus) -> ExitOutcome {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExitOutcome::Code(code),
        (None, Some(signal)) => ExitOutcome::Signal(signal),
        (None, None) => ExitOutcome::Unknown,
    }
}

/// Starts waiting for a life's end. The life must be in the register.
///
/// # Errors
/// The descriptor cannot be registered with the runtime.
pub fn start(inner: &Arc<Inner>, app: &AppId, run: Run, pidfd: Arc<OwnedFd>) -> std::io::Result<()> {
    let fd = awaitable(pidfd)?;
    let task = tokio::spawn(wait(inner.clone(), app.clone(), run, fd));
    inner.lives.with(app, run, |life| {
        // The end may have been quicker than this line.
        if life.progress == Progress::Watched {
            life.watcher = Some(task.abort_handle());
        }
    });
    Ok(())
}

/// A descriptor that a task can await.
///
/// # Errors
/// It cannot be registered with the runtime.
pub fn awaitable(pidfd: Arc<OwnedFd>) -> std::io::Result<AsyncFd<Arc<OwnedFd>>> {
    #[expect(unsafe_code, reason = "the safe constructor is deprecated, as it takes any type that has a descriptor")]
    // SAFETY: the shared descriptor is owned, always the same one, and open for as long as the result holds it.
    let registered = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
    Ok(registered?)
}

async fn wait(inner: Arc<Inner>, app: AppId, run: Run, fd: AsyncFd<Arc<OwnedFd>>) {
    let outcome = loop {
        let Ok(mut ready) = fd.readable().await else { return };
        // Under the lock, so that whoever signals the group knows whether its number is still pinned by the unreaped.
        let reaped = inner.lives.with(&app, run, |life| match reap(fd.get_ref()) {
            Reaped::Child(outcome) => {
                life.progress = Progress::Reaped(identity::ticks_now());
                life.pidfd = None;
                Reaped::Child(outcome)
            }
            other => other,
        });
        match reaped {
            None => return,
            Some(Reaped::Child(outcome)) => break outcome,
            Some(Reaped::Stranger) if ended(fd.get_ref()) => break Box::pin(stranger(&inner, &app, run, &fd)).await,
            Some(_) => ready.clear_ready(),
        }
    };
    drop(fd);
    // Boxed: the task waits nearly all its life, and should be no larger than its waiting.
    Box::pin(tell(&inner, app, run, outcome)).await;
}

/// Whether the process behind a descriptor has ended; readable says nothing else.
pub fn ended(pidfd: &OwnedFd) -> bool {
    let mut polled = [rustix::event::PollFd::new(pidfd, rustix::event::PollFlags::IN)];
    let at_once = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(rustix::event::poll(&mut polled, Some(&at_once)), Ok(1..))
}

/// How a process ended that is somebody else's child.
async fn stranger(inner: &Inner, app: &AppId, run: Run, fd: &AsyncFd<Arc<OwnedFd>>) -> ExitOutcome {
    let mut found = ExitOutcome::Unknown;
    for attempt in 0..STRANGER_TRIES {
        match exit_status(fd.get_ref()) {
            Some(outcome) => {
                found = outcome;
                break;
            }
            None if supported(fd.get_ref()) => tokio::time::sleep(Duration::from_millis(1 << attempt)).await,
            None => break,
        }
    }
    inner.lives.with(app, run, |life| {
        life.progress = Progress::Reaped(identity::ticks_now());
        life.pidfd = None;
    });
    found
}

async fn tell(inner: &Inner, app: AppId, run: Run, outcome: ExitOutcome) {
    let known = inner.lives.with(&app, run, |life| (life.main, life.log_from));
    let Some((main, log_from)) = known else { return };
    let last_log = output::last_lines(&inner.logs.file(&app), log_from, LAST_LOG_LINES, LAST_LOG_LINE_MAX);
    let fact = Fact::Exited { outcome, cause: None, last_log, leftovers: group_has_members(main) };
    // A worker that is gone needs to hear nothing.
    let _ = inner.sender.send(Observation { app: app.clone(), run, fact }).await;
    inner.lives.with(&app, run, |life| {
        if let Progress::Reaped(at) = life.progress {
            life.progress = Progress::Told(at);
        }
    });
}

/// Whether anybody is left in the process group that this main process led.
pub fn group_has_members(main: Main) -> bool {
    // EPERM too means that there is somebody.
    let test = identity::pid(main.pid).map(rustix::process::test_kill_process_group);
    matches!(test, Some(Ok(()) | Err(Errno::PERM)))
}

/// `struct pidfd_info` as first published (Linux 6.13).
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// `PIDFD_GET_INFO`.
const GET_INFO: rustix::ioctl::Opcode = rustix::ioctl::opcode::read_write::<PidfdInfo>(0xFF, 11);
/// `PIDFD_INFO_EXIT` (Linux 6.15).
const INFO_EXIT: u64 = 1 << 3;

fn info(pidfd: &OwnedFd) -> rustix::io::Result<PidfdInfo> {
    let mut info = PidfdInfo { mask: INFO_EXIT, ..PidfdInfo::default() };
    #[expect(unsafe_code, reason = "no crate offers this request safely")]
    // SAFETY: the request's number carries the size of the structure, which is laid out as the kernel's first version of
    // it; the kernel writes no more than that size, and every bit pattern is a value.
    unsafe {
        rustix::ioctl::ioctl(pidfd, rustix::ioctl::Updater::<GET_INFO, PidfdInfo>::new(&mut info))?;
    }
    Ok(info)
}

/// How a reaped process ended, where the kernel keeps that.
fn exit_status(pidfd: &OwnedFd) -> Option<ExitOutcome> {
    let info = info(pidfd).ok()?;
    (info.mask & INFO_EXIT != 0).then_some(match info.exit_code & 0x7f {
        0 => ExitOutcome::Code((info.exit_code >> 8) & 0xff),
        signal => ExitOutcome::Signal(signal),
    })
}

/// Whether the kernel knows the request at all; a process that is dead and reaped without a kept status is `ESRCH`.
fn supported(pidfd: &OwnedFd) -> bool {
    !matches!(info(pidfd), Err(Errno::NOTTY | Errno::INVAL | Errno::SRCH))
}

const _: () = assert!(size_of::<PidfdInfo>() == 64);
