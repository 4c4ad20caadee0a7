//! Descriptors that systemd keeps for the daemon while it is away: what a former daemon left, and what is left for the next.
//!
//! Decides nothing about what they are for. Deliberately absent: unsetting `LISTEN_*`, which is not safe once threads run;
//! the variables name this process only, and children get an environment of their own anyway.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use sd_notify::NotifyState;

/// A descriptor that was kept, with the name it was kept by.
#[derive(Debug)]
pub struct Kept {
    /// `FDNAME`.
    pub name: String,
    /// It. Closed on exec.
    pub fd: OwnedFd,
}

/// The numbers are this process's only once: taken again, they would be whatever was opened since.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// What systemd kept for this process. A second call finds nothing.
///
/// # Errors
/// What systemd says does not fit together.
pub fn take() -> io::Result<Vec<Kept>> {
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(Vec::new());
    }
    let passed: Vec<_> = sd_notify::listen_fds_with_names()?.collect();
    if passed.is_empty() {
        return Ok(Vec::new());
    }
    #[expect(unsafe_code, reason = "descriptors that are handed over by number have no safe constructor")]
    let own = |(number, name)| {
        // SAFETY: systemd opened them for this process, and `TAKEN` lets each number be taken only once. (Duplicates by
        // way of a pidfd would need none of this, but system call filters of containers refuse them.)
        let fd = unsafe { OwnedFd::from_raw_fd(number) };
        Kept { name, fd }
    };
    Ok(passed.into_iter().map(own).collect())
}

/// Whether somebody listens who may keep descriptors.
pub fn is_there() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Gives a descriptor to keep, from now on and over a crash.
///
/// # Errors
/// The socket cannot be written to.
pub fn keep(name: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
    sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(name)], &[fd])
}

/// Has everything of that name forgotten.
///
/// # Errors
/// The socket cannot be written to.
pub fn forget(name: &str) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)])
}
