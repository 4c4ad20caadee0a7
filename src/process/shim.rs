//! The exec shim: what must happen between the spawn and the program, in a process of its own.
//!
//! The daemon never forks itself, so it runs this binary again as `nbsupervisor __exec`, which takes the port, groups and
//! user it is told over the socket on its standard input, and becomes the program. One thread, no allocation to speak of,
//! no look-ups. Deliberately absent: every decision; memory and task limits, which only a cgroup can hold.

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::libc;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal};

use super::exec_spec::{ExecSpec, Stage};

/// The word that makes this binary a shim; it is the first argument.
pub const WORD: &str = "__exec";

/// A place of failure and its cause.
type Failed = (Stage, io::Error);

/// Becomes the program that the daemon names on standard input, or tells it why not and exits with status 127.
///
/// Call it before anything else in `main` when the first argument is `WORD`.
pub fn shim_main() -> ! {
    close_inherited();
    // Above 3, as 3 is where the listening socket has to be.
    if let Ok(socket) = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 10) {
        let mut socket = UnixStream::from(socket);
        let Err((stage, error)) = become_program(&mut socket);
        let mut answer = vec![stage as u8];
        answer.extend(error.raw_os_error().unwrap_or(0).to_le_bytes());
        // A daemon that is gone needs no answer.
        let _ = socket.write_all(&answer);
    }
    std::process::exit(127)
}

fn become_program(socket: &mut UnixStream) -> Result<std::convert::Infallible, Failed> {
    let at = |stage: Stage| move |error: io::Error| (stage, error);
    let errno = |stage: Stage| move |errno: nix::errno::Errno| (stage, io::Error::from(errno));
    let mut spec = receive(socket).map_err(at(Stage::Request))?;
    let null = std::fs::File::open("/dev/null").map_err(at(Stage::Request))?;
    nix::unistd::dup2_stdin(&null).map_err(errno(Stage::Request))?;
    drop(null);
    let listener = spec.listen.map(listen).transpose().map_err(at(Stage::Listen))?;
    if listener.is_some() {
        spec.env.push(c"LISTEN_FDS=1".into());
        spec.env.extend(CString::new(format!("LISTEN_PID={}", std::process::id())));
    }
    if let Some(credentials) = &spec.credentials {
        let groups: Vec<_> = credentials.groups.iter().map(|group| nix::unistd::Gid::from_raw(*group)).collect();
        nix::unistd::setgroups(&groups).map_err(errno(Stage::User))?;
        let gid = nix::unistd::Gid::from_raw(credentials.gid);
        nix::unistd::setresgid(gid, gid, gid).map_err(errno(Stage::User))?;
        let uid = nix::unistd::Uid::from_raw(credentials.uid);
        nix::unistd::setresuid(uid, uid, uid).map_err(errno(Stage::User))?;
        rustix::thread::set_no_new_privs(true).map_err(|error| (Stage::User, error.into()))?;
    }
    nix::unistd::chdir(spec.cwd.as_c_str()).map_err(errno(Stage::Directory))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    default_signals();
    socket.write_all(&[Stage::Ready as u8]).map_err(at(Stage::Request))?;
    if let Some(listener) = &listener {
        rustix::io::fcntl_setfd(listener, rustix::io::FdFlags::empty())
            .map_err(|error| (Stage::Listen, error.into()))?;
    }
    nix::unistd::execve(&spec.program, &spec.argv, &spec.env).map_err(errno(Stage::Exec))
}

fn receive(socket: &mut UnixStream) -> io::Result<ExecSpec> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let mut records = vec![0; u32::from_le_bytes(length) as usize];
    socket.read_exact(&mut records)?;
    ExecSpec::decode(&records).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Listens, on descriptor 3: the lowest free one, as everything inherited was closed.
fn listen(port: u16) -> io::Result<OwnedFd> {
    let listener = OwnedFd::from(TcpListener::bind(("127.0.0.1", port))?);
    if listener.as_raw_fd() == 3 { Ok(listener) } else { Err(io::Error::from_raw_os_error(libc::EBADF)) }
}

/// Closes what the daemon itself may have inherited without a close-on-exec mark.
fn close_inherited() {
    #[expect(unsafe_code, reason = "no crate offers close_range safely")]
    // SAFETY: this is the first statement of the process; nothing owns a descriptor above 2 yet.
    unsafe {
        libc::close_range(3, libc::c_uint::MAX, 0);
    }
}

/// Marks everything that the daemon itself inherited, so that no app inherits it in turn.
pub fn keep_descriptors() {
    // The kernel's number for CLOSE_RANGE_CLOEXEC; before Linux 5.11 the call fails, and inherited ones are passed on.
    const CLOEXEC: libc::c_int = 1 << 2;
    #[expect(unsafe_code, reason = "no crate offers close_range safely")]
    // SAFETY: nothing is closed; whoever owns a descriptor keeps it, only an exec ends it.
    unsafe {
        libc::close_range(3, libc::c_uint::MAX, CLOEXEC);
    }
}

/// Ignored signals stay ignored through an exec: this runtime ignores SIGPIPE, and nohup SIGHUP. Apps expect neither.
fn default_signals() {
    for signal in Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP)) {
        #[expect(unsafe_code, reason = "a signal's action can only be set by an unsafe call")]
        // SAFETY: the default action runs no code of this program.
        let _ = unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) };
    }
    let _ = nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}
