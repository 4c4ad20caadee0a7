//! Hears an app say `READY=1`: a datagram socket of our own for each app that is given a `NOTIFY_SOCKET`.
//!
//! Decided here: who may speak. The kernel tells the sender's pid; it must be the app's main process, of its process
//! group or a descendant. A sender that was gone before it could be looked up is a stranger, as it is for systemd; helpers
//! that wait for the barrier (`systemd-notify` since 246 does) are not gone. What is said before the main process is known
//! is kept with the sender's lineage and judged then.
//!
//! Deliberately absent: `WATCHDOG=1`, `FDSTORE=1`, `MAINPID=`. File descriptors that come along are closed at once, which
//! is the answer to `BARRIER=1`.

use std::fs;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nbs_core::id::Run;
use nbs_core::launch::Launch;
// nix and not rustix: rustix takes the pid 0 of a sender outside of our pid namespace for a valid one.
use nix::sys::socket::{self, ControlMessageOwned, MsgFlags, UnixCredentials, sockopt};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::ask::words;

/// Bytes of one datagram; the rest is cut off. systemd takes 4096 as well.
const DATAGRAM_MAX: usize = 4096;
/// File descriptors that the kernel lets one datagram carry. With less room than this, some could not be closed.
const FDS_MAX: usize = 253;
/// Datagrams kept while the main process is not known.
const PENDING_MAX: usize = 16;
/// Ancestors looked at before a sender counts as a stranger.
const ANCESTORS_MAX: usize = 32;

/// What was heard of one app.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Heard {
    pub ready: bool,
    pub status: Option<String>,
}

/// An open notify socket. Dropping it removes its file and stops the listening.
pub(super) struct NotifySocket {
    run: Run,
    path: PathBuf,
    ears: Arc<Ears>,
    task: AbortHandle,
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        self.task.abort();
        // Gone already, or its directory is: both are as wanted.
        let _ = fs::remove_file(&self.path);
    }
}

impl NotifySocket {
    /// Makes the socket at `<run_dir>/notify.sock` and listens.
    pub fn open(launch: &Launch) -> Result<Self, String> {
        let path = launch.run_dir.join("notify.sock");
        let socket = bind(launch, &path).map_err(|e| {
            let why = words::tame(&e.to_string(), words::SEEN_MAX);
            format!("{}: {why}", path.display())
        })?;
        let ears = Arc::new(Ears::default());
        let task = tokio::spawn(listen(socket, ears.clone())).abort_handle();
        Ok(Self { run: launch.run, path, ears, task })
    }

    /// The life that it was made for.
    pub fn run(&self) -> Run {
        self.run
    }

    /// From now on `main` and its kin are believed; what they said before counts.
    pub fn belongs_to(&self, main: u32) -> Hearing {
        let mut gate = self.ears.gate.lock().unwrap_or_else(PoisonError::into_inner);
        gate.main = Some(main);
        let pending = std::mem::take(&mut gate.pending);
        drop(gate);
        for (lineage, said) in pending {
            if lineage.contains(&main) {
                self.ears.believe(said);
            }
        }
        Hearing(self.ears.heard.subscribe())
    }
}

/// The listening end.
pub(super) struct Hearing(watch::Receiver<Heard>);

impl Hearing {
    /// What was heard so far.
    pub fn now(&mut self) -> Heard {
        self.0.borrow_and_update().clone()
    }

    /// Waits for `READY=1`; for ever when it can no longer come.
    pub async fn until_ready(&mut self) {
        if self.0.wait_for(|heard| heard.ready).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until something else is heard; `false` when the socket is closed.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

#[derive(Default)]
struct Ears {
    gate: Mutex<Gate>,
    heard: watch::Sender<Heard>,
}

#[derive(Default)]
struct Gate {
    main: Option<u32>,
    pending: Vec<(Vec<u32>, Heard)>,
}

impl Ears {
    /// A datagram arrived.
    fn hear(&self, sender: u32, said: Heard) {
        if said == Heard::default() || self.heard.borrow().ready {
            return;
        }
        let lineage = lineage(sender);
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        match gate.main {
            Some(main) if lineage.contains(&main) => {
                drop(gate);
                self.believe(said);
            }
            Some(_) => {}
            None => {
                if gate.pending.len() == PENDING_MAX {
                    let chatter = gate.pending.iter().position(|(_, said)| !said.ready).unwrap_or(0);
                    gate.pending.remove(chatter);
                }
                gate.pending.push((lineage, said));
            }
        }
    }

    fn believe(&self, said: Heard) {
        self.heard.send_modify(|heard| {
            heard.ready |= said.ready;
            heard.status = said.status.or(heard.status.take());
        });
    }
}

/// The socket is made beside the app's directory, where only we may write, and moved in when its mode is right: in the
/// app's own directory a `chmod` could be led elsewhere by a symbolic link.
fn bind(launch: &Launch, path: &Path) -> io::Result<UnixDatagram> {
    let root = launch.run_dir.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(root)?;
    match fs::DirBuilder::new().mode(0o750).create(&launch.run_dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let draft = root.join(format!(".{}.notify", launch.app));
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = StdDatagram::bind(&draft)?;
    socket.set_nonblocking(true)?;
    socket::setsockopt(&socket, sockopt::PassCred, &true)?;
    // Whoever may enter the directory may write; who is believed is decided by pid.
    let moved = fs::set_permissions(&draft, fs::Permissions::from_mode(0o666)).and_then(|()| fs::rename(&draft, path));
    if let Err(error) = moved {
        let _ = fs::remove_file(&draft);
        return Err(error);
    }
    UnixDatagram::from_std(socket)
}

/// Reads for ever, also when READY was heard: nobody reading would block an app that goes on writing.
async fn listen(socket: UnixDatagram, ears: Arc<Ears>) {
    loop {
        if socket.readable().await.is_err() {
            return;
        }
        match socket.try_io(Interest::READABLE, || receive(socket.as_raw_fd())) {
            Ok(Some((sender, said))) => ears.hear(sender, said),
            Ok(None) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => return,
        }
    }
}

/// One datagram: who sent it and what it says. None when the kernel does not say who.
fn receive(socket: RawFd) -> io::Result<Option<(u32, Heard)>> {
    let mut data = [0u8; DATAGRAM_MAX];
    let mut control = nix::cmsg_space!(UnixCredentials, [RawFd; FDS_MAX]);
    let mut parts = [IoSliceMut::new(&mut data)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = socket::recvmsg::<()>(socket, &mut parts, Some(&mut control), flags)?;
    let (bytes, mut sender) = (message.bytes, None);
    for item in message.cmsgs()? {
        match item {
            ControlMessageOwned::ScmCredentials(who) => sender = u32::try_from(who.pid()).ok().filter(|pid| *pid > 0),
            ControlMessageOwned::ScmRights(fds) => {
                for fd in fds {
                    // It was closed, whatever `close` says.
                    let _ = nix::unistd::close(fd);
                }
            }
            _ => {}
        }
    }
    let data = data.get(..bytes).unwrap_or_default();
    Ok(sender.map(|sender| (sender, parse(data))))
}

/// The lines that matter; all others are ignored.
fn parse(data: &[u8]) -> Heard {
    let text = String::from_utf8_lossy(data);
    let mut said = Heard::default();
    for line in text.lines() {
        match line.split_once('=') {
            Some(("READY", "1")) => said.ready = true,
            Some(("STATUS", status)) => {
                said.status = Some(words::tame(status, words::SEEN_MAX)).filter(|text| !text.is_empty());
            }
            _ => {}
        }
    }
    said
}

/// The process, its process group and its ancestors, `init` excluded.
fn lineage(sender: u32) -> Vec<u32> {
    let mut line = vec![sender];
    let mut pid = sender;
    while line.len() < ANCESTORS_MAX {
        let Some((parent, group)) = parent_and_group(pid) else { break };
        if pid == sender {
            line.push(group);
        }
        if parent <= 1 {
            break;
        }
        line.push(parent);
        pid = parent;
    }
    line
}

fn parent_and_group(pid: u32) -> Option<(u32, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name may contain anything, a parenthesis included; after the last one come state, ppid, pgrp.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(1).map(str::parse);
    Some((fields.next()?.ok()?, fields.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ready_and_status_matter() {
        let said = parse(b"WATCHDOG=1\nSTATUS= loading \x1b[1m \nREADY=1\nMAINPID=7");
        assert_eq!(said, Heard { ready: true, status: Some("loading [1m".into()) });
        assert_eq!(parse(b"READY=0\nBARRIER=1\n\xff\xfe"), Heard::default());
    }

    #[test]
    fn a_lineage_holds_the_parent() {
        let me = std::process::id();
        let parent = std::os::unix::process::parent_id();
        let line = lineage(me);
        assert!(line.contains(&me) && (parent <= 1 || line.contains(&parent)), "{line:?}");
        assert_eq!(lineage(u32::MAX), [u32::MAX]);
    }
}
