//! Starting one process, without ever forking the daemon.
//!
//! Decides between the plain `posix_spawn` and the way through the exec shim. A fork would copy the daemon's page tables,
//! which costs 50 ms per GiB, and is unsound beside threads; so only what `std::process::Command` does by `posix_spawn`
//! is asked of it. Deliberately absent: waiting for the process (`watch.rs`).

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nbs_core::observation::SpawnFailure;
use nbs_core::reason::ReasonCode;
use rustix::process::PidfdFlags;

use crate::ground::failure;
use crate::ground::user::Credentials;

use super::exec_spec::{ExecSpec, Stage, c_path};
use super::identity::{self, Main, Proc};
use super::{mark, shim};

/// How long the shim may take to reach the program. It only makes system calls; a dead network disk may hold it up.
const SHIM_TIMEOUT: Duration = Duration::from_secs(10);

/// A process to be, with nothing left to look up.
pub struct Plan<'a> {
    /// The program's file.
    pub program: PathBuf,
    /// Arguments, the program's name first.
    pub argv: &'a [String],
    /// The whole environment, with the mark.
    pub env: BTreeMap<String, String>,
    /// Working directory.
    pub cwd: &'a Path,
    /// User and groups to take.
    pub credentials: Option<Credentials>,
    /// Port to listen on and hand over.
    pub listen: Option<u16>,
}

/// What is done with the new process, by its number, before it becomes the program.
pub type Hold<'a> = dyn Fn(u32) -> Result<(), SpawnFailure> + 'a;

/// A process that runs.
pub struct Spawned {
    /// Which.
    pub main: Main,
    /// Its descriptor.
    pub pidfd: OwnedFd,
}

/// Where the shim is, and whether it is needed for a right umask.
#[derive(Debug, Clone)]
pub struct Spawner {
    /// This program's own executable.
    shim: PathBuf,
    /// The daemon's umask is not the one that apps get, and posix_spawn cannot change it.
    other_umask: bool,
}

impl Spawner {
    /// A spawner that runs this executable as its shim.
    pub fn new(shim: PathBuf) -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        Self { shim, other_umask: umask.is_some_and(|mask| mask.trim() != "0022") }
    }

    /// Starts a process. Returns when the program was executed. Blocks for about half a millisecond, and as long as `hold`.
    ///
    /// # Errors
    /// The program could not be executed; the failure says why and whether it may pass.
    pub fn spawn(
        &self,
        plan: &Plan<'_>,
        out: Stdio,
        err: Stdio,
        hold: Option<&Hold<'_>>,
    ) -> Result<Spawned, SpawnFailure> {
        let plain = plan.credentials.is_none() && plan.listen.is_none() && !self.other_umask && hold.is_none();
        let child = if plain { spawn_plain(plan, out, err)? } else { self.spawn_through_shim(plan, out, err, hold)? };
        describe(child)
    }

    fn spawn_through_shim(
        &self,
        plan: &Plan<'_>,
        out: Stdio,
        err: Stdio,
        hold: Option<&Hold<'_>>,
    ) -> Result<Child, SpawnFailure> {
        let request = spec(plan).ok_or_else(zero_byte)?.encode();
        let (mut ours, theirs) =
            UnixStream::pair().map_err(|error| failure::system("making a socket for the exec shim", &error))?;
        let mut command = Command::new(&self.shim);
        command.arg0("nbsupervisor").arg(shim::WORD).env_clear();
        // The mark is no secret; with it a shim that outlives the daemon is found like any process.
        command.envs(plan.env.get_key_value(mark::VARIABLE));
        command.stdin(OwnedFd::from(theirs)).stdout(out).stderr(err).process_group(0);
        let what = || format!("running the exec shim {}", self.shim.display());
        let mut child = command.spawn().map_err(|error| failure::system(&what(), &error))?;
        // The command holds our copy of the shim's end; while it is open, the shim's end is never seen.
        drop(command);
        if let Some(Err(failure)) = hold.map(|hold| hold(child.id())) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(failure);
        }
        match converse(&mut ours, &request) {
            Ok(None) => Ok(child),
            Ok(Some((stage, error))) => {
                let _ = child.wait();
                Err(shim_failure(plan, stage, &error))
            }
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(failure::transient(format!("{} failed: {}", what(), failure::cause(&error))))
            }
        }
    }
}

fn spawn_plain(plan: &Plan<'_>, out: Stdio, err: Stdio) -> Result<Child, SpawnFailure> {
    let mut command = Command::new(&plan.program);
    command.env_clear().envs(&plan.env).current_dir(plan.cwd).process_group(0);
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    if let Some((name, arguments)) = plan.argv.split_first() {
        command.arg0(name).args(arguments);
    }
    command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput if error.raw_os_error().is_none() => zero_byte(),
        _ => failure::exec(&plan.program, plan.cwd, &error),
    })
}

fn zero_byte() -> SpawnFailure {
    failure::permanent(
        ReasonCode::BadRecipe,
        "an argument or variable holds a zero byte, which no program can be given",
    )
}

fn spec(plan: &Plan<'_>) -> Option<ExecSpec> {
    let text = |value: &String| CString::new(value.as_str()).ok();
    let variable = |(name, value): (&String, &String)| CString::new(format!("{name}={value}")).ok();
    Some(ExecSpec {
        program: c_path(&plan.program)?,
        argv: plan.argv.iter().map(text).collect::<Option<_>>()?,
        env: plan.env.iter().map(variable).collect::<Option<_>>()?,
        cwd: c_path(plan.cwd)?,
        credentials: plan.credentials.clone(),
        listen: plan.listen,
    })
}

/// Tells the shim, and hears how it went: `None` = the program runs, as the socket closed itself with the exec.
fn converse(socket: &mut UnixStream, request: &[u8]) -> io::Result<Option<(Stage, io::Error)>> {
    socket.set_read_timeout(Some(SHIM_TIMEOUT))?;
    socket.set_write_timeout(Some(SHIM_TIMEOUT))?;
    // A failed write is explained by the answer, if there is one.
    let written = socket.write_all(request);
    let mut answer = Vec::with_capacity(8);
    socket.read_to_end(&mut answer)?;
    let failed = match answer.split_first() {
        Some((ready, rest)) if *ready == Stage::Ready as u8 => rest,
        _ => answer.as_slice(),
    };
    match failed {
        [] if answer.is_empty() => {
            written?;
            Err(io::Error::other("it ended before it reached the program"))
        }
        [] => Ok(None),
        [stage, number @ ..] => {
            let stage = Stage::parse(*stage).unwrap_or(Stage::Request);
            let number = number.try_into().map_or(0, i32::from_le_bytes);
            Ok(Some((stage, io::Error::from_raw_os_error(number))))
        }
    }
}

fn shim_failure(plan: &Plan<'_>, stage: Stage, error: &io::Error) -> SpawnFailure {
    match stage {
        Stage::Listen if error.kind() == io::ErrorKind::AddrInUse => failure::port_busy(plan.listen.unwrap_or(0)),
        Stage::Listen => failure::system(&format!("listening on 127.0.0.1:{}", plan.listen.unwrap_or(0)), error),
        Stage::User if error.raw_os_error() == Some(nix::libc::EAGAIN) => {
            failure::system("taking the app's user", error)
        }
        Stage::User => {
            let text = format!("the app's user may not be taken: {}", failure::cause(error));
            failure::permanent(ReasonCode::BadUser, text)
        }
        Stage::Directory => failure::directory(plan.cwd, error),
        Stage::Exec => failure::exec(&plan.program, plan.cwd, error),
        Stage::Request | Stage::Ready => failure::system("handing the program over to the exec shim", error),
    }
}

/// Takes the new process's descriptor and start time; it cannot vanish, as nobody else waits for it.
fn describe(mut child: Child) -> Result<Spawned, SpawnFailure> {
    let found = || -> io::Result<Spawned> {
        let pid = identity::pid(child.id()).ok_or(io::ErrorKind::InvalidData)?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        let stat = Proc::open()?.stat(child.id()).ok_or(io::ErrorKind::NotFound)?;
        Ok(Spawned { main: stat.main, pidfd })
    };
    found().map_err(|error| {
        let _ = child.kill();
        let _ = child.wait();
        failure::system("watching the new process", &error)
    })
}

/// Two handles of one log file, for standard output and error.
///
/// # Errors
/// No descriptor is left.
pub fn both(file: File) -> io::Result<(Stdio, Stdio)> {
    let second = file.try_clone()?;
    Ok((file.into(), second.into()))
}
