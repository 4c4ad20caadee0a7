//! From an error number to the reason that an operator can act on.
//!
//! Decides what a refused exec means, by looking again at what it was about. Deliberately absent: trying again.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nbs_core::observation::{SpawnFailure, SpawnFailureKind};
use nbs_core::reason::{Reason, ReasonCode};
use nix::errno::Errno;

/// A failure that lasts until somebody changes something.
pub fn permanent(code: ReasonCode, text: impl Into<String>) -> SpawnFailure {
    SpawnFailure { reason: Reason::new(code, text), kind: SpawnFailureKind::Permanent }
}

/// A failure that may pass by itself.
pub fn transient(text: impl Into<String>) -> SpawnFailure {
    SpawnFailure { reason: Reason::new(ReasonCode::SpawnFailed, text), kind: SpawnFailureKind::Transient }
}

/// Someone else has the port.
pub fn port_busy(port: u16) -> SpawnFailure {
    let text = format!("another process uses port {port}");
    SpawnFailure { reason: Reason::new(ReasonCode::PortInUse, text), kind: SpawnFailureKind::PortBusy }
}

/// `operation subject failed: cause`, transient where the cause is a shortage.
pub fn system(operation: &str, error: &io::Error) -> SpawnFailure {
    let text = format!("{operation} failed: {}", cause(error));
    if is_shortage(error) { transient(text) } else { permanent(ReasonCode::SpawnFailed, text) }
}

/// What a refused entry into the working directory means.
pub fn directory(cwd: &Path, error: &io::Error) -> SpawnFailure {
    if is_shortage(error) {
        return transient(format!("entering {} failed: {}", cwd.display(), cause(error)));
    }
    let text = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT) => format!("the working directory {} does not exist", cwd.display()),
        Some(Errno::ENOTDIR) => format!("the working directory {} is not a directory", cwd.display()),
        Some(Errno::EACCES) => format!("the working directory {} may not be entered by the app's user", cwd.display()),
        _ => format!("the working directory {} cannot be entered: {}", cwd.display(), cause(error)),
    };
    permanent(ReasonCode::BadWorkingDirectory, text)
}

/// What a refused exec means. The working directory is looked at too, as a plain spawn does not say which one it was.
pub fn exec(program: &Path, cwd: &Path, error: &io::Error) -> SpawnFailure {
    let shown = program.display();
    if let Err(error) = std::fs::metadata(cwd) {
        return directory(cwd, &error);
    }
    match error.raw_os_error().map(Errno::from_raw) {
        _ if is_shortage(error) => transient(format!("starting {shown} failed: {}", cause(error))),
        Some(Errno::ENOTDIR) if !cwd.is_dir() => directory(cwd, error),
        Some(Errno::ENOENT) if program.exists() => {
            let which = interpreter(program).unwrap_or_else(|| "its loader".into());
            permanent(ReasonCode::NotExecutable, format!("{shown} needs {which}, which does not exist"))
        }
        Some(Errno::ENOENT | Errno::ENOTDIR) => missing(program),
        Some(Errno::EACCES) if nix::unistd::access(cwd, nix::unistd::AccessFlags::X_OK).is_err() => {
            directory(cwd, error)
        }
        Some(Errno::EACCES | Errno::EPERM) => {
            permanent(ReasonCode::NotExecutable, format!("{shown} may not be executed: {}", cause(error)))
        }
        Some(Errno::ENOEXEC) => permanent(
            ReasonCode::NotExecutable,
            format!("{shown} is neither a program for this machine nor a script that begins with #!"),
        ),
        _ => permanent(ReasonCode::SpawnFailed, format!("starting {shown} failed: {}", cause(error))),
    }
}

/// What keeps a program from being executed by anybody, if it can be seen from here.
pub fn of_program(program: &Path) -> Option<SpawnFailure> {
    let shown = program.display();
    let found = match std::fs::metadata(program) {
        Ok(found) => found,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Some(missing(program));
        }
        // Its user may see what we do not.
        Err(_) => return None,
    };
    let refuse = |why| Some(permanent(ReasonCode::NotExecutable, why));
    if !found.is_file() {
        return refuse(format!("{shown} may not be executed: it is not a file"));
    }
    if found.permissions().mode() & 0o111 == 0 {
        return refuse(format!("{shown} may not be executed: its mode has no x"));
    }
    let absent = interpreter(program).filter(|which| which.starts_with('/') && !Path::new(which).exists())?;
    refuse(format!("{shown} needs {absent}, which does not exist"))
}

/// There is no such program.
pub fn missing(program: &Path) -> SpawnFailure {
    permanent(ReasonCode::MissingBinary, format!("{} does not exist", program.display()))
}

/// A refusal in words, without Rust's `(os error 2)`.
pub fn cause(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => Errno::from_raw(number).desc().to_string(),
        None => error.to_string(),
    }
}

fn is_shortage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE | Errno::ENOSPC | Errno::ETXTBSY)
    )
}

/// The program named in a script's first line.
fn interpreter(program: &Path) -> Option<String> {
    use std::io::Read;
    let mut head = Vec::new();
    std::fs::File::open(program).ok()?.take(256).read_to_end(&mut head).ok()?;
    let line = head.split(|byte| *byte == b'\n').next()?.strip_prefix(b"#!")?;
    let text = String::from_utf8_lossy(line);
    Some(text.split_ascii_whitespace().next()?.to_string())
}
