//! The ground a process needs before it starts: program found, directories made, port and socket free.
//!
//! Shared by the adapters that start processes. Decides what is checked before a start and what is left to the exec
//! itself. Deliberately absent: undoing any of it.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nbs_core::launch::{Address, Launch};
use nbs_core::observation::{SpawnFailure, SpawnFailureKind};
use nbs_core::reason::{Reason, ReasonCode};
use nbs_core::recipe::Listen;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use user::Credentials;

pub mod failure;
pub mod removal;
pub mod user;

/// Where programs are looked for if the app's environment has no `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The program's file: as given if it holds a `/` (relative to `cwd`), else looked up in the app's own `PATH`.
///
/// # Errors
/// `missing_binary` or `not_executable` where the look-up finds nothing; a path is left to the exec to judge.
pub fn find_program(name: &str, path: Option<&str>, cwd: &Path) -> Result<PathBuf, SpawnFailure> {
    if name.contains('/') {
        return Ok(cwd.join(name));
    }
    if name.is_empty() {
        return Err(failure::permanent(ReasonCode::BadRecipe, "the command is empty"));
    }
    let path = path.unwrap_or(PATH);
    let mut refused = None;
    for directory in path.split(':').filter(|directory| !directory.is_empty()) {
        let candidate = cwd.join(directory).join(name);
        match fs::metadata(&candidate) {
            Ok(found) if found.is_file() && found.mode() & 0o111 != 0 => return Ok(candidate),
            Ok(found) if found.is_file() => refused = Some(candidate),
            _ => {}
        }
    }
    Err(match refused {
        Some(file) => failure::permanent(
            ReasonCode::NotExecutable,
            format!("{} may not be executed: its mode has no x", file.display()),
        ),
        None => failure::permanent(ReasonCode::MissingBinary, format!("there is no {name} in {path}")),
    })
}

/// Makes the data and the socket directory, owned by the app's user.
///
/// # Errors
/// One of them cannot be made or given away.
pub fn make_directories(launch: &Launch, credentials: Option<&Credentials>) -> Result<(), SpawnFailure> {
    for directory in [&launch.state_dir, &launch.run_dir] {
        make_directory(directory, credentials)
            .map_err(|error| failure::system(&format!("making the directory {}", directory.display()), &error))?;
    }
    Ok(())
}

fn make_directory(directory: &Path, credentials: Option<&Credentials>) -> io::Result<()> {
    let found = match fs::symlink_metadata(directory) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = directory.parent() {
                fs::create_dir_all(parent)?;
            }
            match fs::DirBuilder::new().mode(0o750).create(directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => fs::symlink_metadata(directory)?,
            }
        }
        Err(error) => return Err(error),
    };
    match credentials {
        // Not through a link: an app's user could have pointed it anywhere.
        Some(to) if found.is_dir() && (found.uid(), found.gid()) != (to.uid, to.gid) => {
            std::os::unix::fs::lchown(directory, Some(to.uid), Some(to.gid))
        }
        _ => Ok(()),
    }
}

/// Checks that the address is free, and takes away a socket file that nobody serves any more.
///
/// # Errors
/// `port_in_use`: somebody listens there.
pub fn check_address(launch: &Launch) -> Result<(), SpawnFailure> {
    match (&launch.address, launch.listen) {
        (Some(Address::Port(port)), Listen::Port) => check_port(*port),
        (Some(Address::Unix(path)), _) => clear_socket(path),
        _ => Ok(()),
    }
}

/// Binding tells; not listening leaves nothing behind. A listener on 0.0.0.0 or [::] makes the bind fail just as well.
fn check_port(port: u16) -> Result<(), SpawnFailure> {
    let try_bind = || -> rustix::io::Result<()> {
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // Remains of earlier connections do not count, as they do not for servers either.
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
        rustix::net::bind(&socket, &std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, port))
    };
    match try_bind() {
        Err(rustix::io::Errno::ADDRINUSE) => Err(failure::port_busy(port)),
        // A port below 1024 that only the app's user may bind, or a shortage: the app will tell.
        _ => Ok(()),
    }
}

fn clear_socket(path: &Path) -> Result<(), SpawnFailure> {
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failure::system(&format!("looking at the socket {shown}"), &error)),
        Ok(found) if !found.file_type().is_socket() => {
            let text = format!("{shown} is not a socket and is in the way: remove it");
            return Err(failure::permanent(ReasonCode::SpawnFailed, text));
        }
        Ok(_) => {}
    }
    if is_served(path) {
        let text = format!("another process serves the socket {shown}");
        let reason = Reason::new(ReasonCode::PortInUse, text);
        return Err(SpawnFailure { reason, kind: SpawnFailureKind::Transient });
    }
    fs::remove_file(path).map_err(|error| failure::system(&format!("removing the stale socket {shown}"), &error))
}

/// Whether a connection would be taken; a full queue (`EAGAIN`) means that somebody is there.
fn is_served(path: &Path) -> bool {
    let connect = || -> rustix::io::Result<()> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(socket.as_fd(), &SocketAddrUnix::new(path)?)
    };
    !matches!(connect(), Err(rustix::io::Errno::CONNREFUSED | rustix::io::Errno::NOENT | rustix::io::Errno::PROTOTYPE))
}
