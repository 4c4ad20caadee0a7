//! Listeners that outlive the daemon: which of those that systemd kept are the ones that the configuration asks for.
//!
//! One that is not is closed here and forgotten there, or visitors would go on knocking at a door that nobody opens.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::net::{AddressFamily, Shutdown, SocketType, sockopt};

use crate::lifecycle::shelf::{self, Kept};

/// What the gateway's listener is kept as.
pub(super) const GATEWAY: &str = "gateway";
/// What the admin listener over TCP is kept as.
pub(super) const ADMIN_TCP: &str = "admin-tcp";
/// What the name of the admin listener over a unix socket begins with; the file it is bound to follows.
const ADMIN_UNIX: &str = "admin-unix";

/// What a former daemon left, until it is taken or cleared out.
pub(super) struct Shelf {
    left: Vec<Kept>,
    works: bool,
}

impl Shelf {
    /// Takes what systemd passed to this process.
    pub(super) fn take() -> Self {
        let left = shelf::take().unwrap_or_else(|error| {
            tracing::warn!(%error, "the listeners that systemd kept cannot be taken over; fresh ones are bound");
            Vec::new()
        });
        Self { left, works: shelf::is_there() }
    }

    /// The listener of that name, if it listens at that address. Port 0 takes any.
    pub(super) fn tcp(&mut self, name: &str, address: SocketAddr) -> Option<TcpListener> {
        let fits = |kept: &Kept| {
            let same = |own: SocketAddr| own.ip() == address.ip() && [own.port(), 0].contains(&address.port());
            let listener = kept.fd.try_clone().map(TcpListener::from);
            kept.name == name && is_listener(&kept.fd) && listener.and_then(|it| it.local_addr()).is_ok_and(same)
        };
        let listener = TcpListener::from(self.pick(fits)?);
        listener.set_nonblocking(true).ok().map(|()| listener)
    }

    /// The unix listener, if the socket file at that path is still the one that it was bound to.
    pub(super) fn unix(&mut self, path: &Path) -> Option<UnixListener> {
        let name = unix_name(path).ok()?;
        let fits = |kept: &Kept| {
            let listener = kept.fd.try_clone().map(UnixListener::from).and_then(|it| it.local_addr());
            let here = listener.is_ok_and(|own| own.as_pathname() == Some(path));
            kept.name == name && is_listener(&kept.fd) && here
        };
        let listener = UnixListener::from(self.pick(fits)?);
        listener.set_nonblocking(true).ok().map(|()| listener)
    }

    fn pick(&mut self, fits: impl Fn(&Kept) -> bool) -> Option<OwnedFd> {
        let at = self.left.iter().position(fits)?;
        Some(self.left.swap_remove(at).fd)
    }

    /// Closes what nobody took, also for systemd. Before anything is bound, as it may be in the way.
    pub(super) fn clear_out(&mut self) {
        for Kept { name, fd } in self.left.drain(..) {
            let own = [GATEWAY, ADMIN_TCP].contains(&name.as_str()) || name.starts_with(ADMIN_UNIX);
            tracing::info!(name, own, "a listener that systemd kept does not fit the configuration; it is closed");
            if own {
                // systemd lets go of its copy only later: this frees the address now.
                let _ = rustix::net::shutdown(&fd, Shutdown::Both);
                let _ = shelf::forget(&name);
            }
        }
    }

    /// Has a fresh listener kept.
    pub(super) fn keep(&mut self, name: &str, listener: &impl AsFd) {
        if let Err(error) = shelf::keep(name, listener.as_fd()) {
            tracing::warn!(name, %error, "a listener cannot be given to systemd to keep; a restart will refuse visitors");
            self.works = false;
        }
    }

    /// Has a fresh unix listener kept.
    pub(super) fn keep_unix(&mut self, path: &Path, listener: &UnixListener) {
        match unix_name(path) {
            Ok(name) => self.keep(&name, listener),
            Err(error) => tracing::warn!(%error, "the admin socket cannot be given to systemd to keep"),
        }
    }

    /// Whether the listeners outlive this daemon.
    pub(super) fn works(&self) -> bool {
        self.works
    }
}

/// A socket file is known by its inode and the moment it was made: a path alone may by now lead to another one, and many
/// file systems use an inode's number again.
fn unix_name(path: &Path) -> io::Result<String> {
    let file = fs::symlink_metadata(path)?;
    let (dev, ino, second, nano) = (file.dev(), file.ino(), file.mtime(), file.mtime_nsec());
    Ok(format!("{ADMIN_UNIX}-{dev:x}-{ino:x}-{second:x}-{nano:x}"))
}

fn is_listener(fd: &OwnedFd) -> bool {
    let known = [AddressFamily::INET, AddressFamily::INET6, AddressFamily::UNIX];
    sockopt::socket_acceptconn(fd).unwrap_or(false)
        && sockopt::socket_type(fd).is_ok_and(|kind| kind == SocketType::STREAM)
        && sockopt::socket_domain(fd).is_ok_and(|family| known.contains(&family))
}
