//! Running a command to its end: hooks and exec probes.
//!
//! Decides that a command's group ends with it, and that a flood of output costs neither memory nor the command's progress.
//! Deliberately absent: retries, and hooks' memory (the core remembers what was run).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use nbs_core::launch::Launch;
use nbs_core::limits::{LAST_LOG_LINE_MAX, LAST_LOG_LINES};
use nbs_core::quantity::format_duration;
use nbs_core::reason::ExitOutcome;
use rustix::process::Signal;
use tokio::io::AsyncReadExt;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use crate::ground::failure;
use crate::ports::CommandOutput;

use super::identity::{self, Main};
use super::mark::Mark;
use super::spawn::{self, Spawned};
use super::sweeper::{Request, Then};
use super::tree::Target;
use super::watch::{self, Reaped};
use super::{Inner, output};

/// Bytes of output kept to take the last lines from.
const KEPT: usize = 32 << 10;
/// Bytes still read after the end: a pipe holds 64 KiB.
const DRAINED: usize = 64 << 10;
/// How long a killed command's tree is waited for.
const KILL_WAIT: Duration = Duration::from_secs(5);

/// A command that runs.
struct Running {
    process: Spawned,
    mark: Box<str>,
    output: Output,
}

/// Where its output goes.
enum Output {
    /// Into the app's log, from this place on.
    Log(u64),
    /// To the daemon, which keeps only the end of it.
    Pipe(OwnedFd),
}

/// Runs a command. It is killed when it takes too long, and when `abandoned` is told or its sender dropped.
pub async fn run(
    inner: Arc<Inner>,
    context: Launch,
    argv: Vec<String>,
    timeout: Duration,
    log: bool,
    abandoned: oneshot::Receiver<()>,
) -> CommandOutput {
    let failed = |text: String| CommandOutput { result: Err(text), last_log: Vec::new() };
    let Ok(permit) = inner.permits.acquire().await else { return failed("the daemon is stopping".into()) };
    let app = context.app.clone();
    let spawning = {
        let inner = inner.clone();
        tokio::task::spawn_blocking(move || begin(&inner, &context, &argv, log)).await
    };
    drop(permit);
    let running = match spawning {
        Ok(Ok(running)) => running,
        Ok(Err(text)) => return failed(text),
        Err(_) => return failed("starting the command was cut off".into()),
    };
    let mark = running.mark.clone();
    let mut kept = Vec::new();
    let log_from = match &running.output {
        Output::Log(from) => Some(*from),
        Output::Pipe(_) => None,
    };
    let result = wait(&inner, running, timeout, abandoned, &mut kept).await;
    inner.forget_command(&mark);
    let last_log = match log_from {
        Some(from) => output::last_lines(&inner.logs.file(&app), from, LAST_LOG_LINES, LAST_LOG_LINE_MAX),
        None => output::split_last(&kept, LAST_LOG_LINES, LAST_LOG_LINE_MAX),
    };
    CommandOutput { result, last_log }
}

fn begin(inner: &Inner, context: &Launch, argv: &[String], log: bool) -> Result<Running, String> {
    let number = inner.commands.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mark = Mark::Command(context.app.clone(), number).text(&inner.instance);
    let system = |error: io::Error| failure::cause(&error);
    let (both, output) = if log {
        let (file, from) = inner.logs.open(&context.app).map_err(system)?;
        (spawn::both(file).map_err(system)?, Output::Log(from))
    } else {
        let (reader, writer) = io::pipe().map_err(system)?;
        ((writer.try_clone().map_err(system)?.into(), writer.into()), Output::Pipe(reader.into()))
    };
    inner.remember_command(&mark);
    let process = inner.spawn(context, argv, &mark, None, both, None).map_err(|failure| {
        inner.forget_command(&mark);
        failure.reason.text
    })?;
    Ok(Running { process, mark: mark.into(), output })
}

async fn wait(
    inner: &Inner,
    running: Running,
    timeout: Duration,
    abandoned: oneshot::Receiver<()>,
    kept: &mut Vec<u8>,
) -> Result<ExitOutcome, String> {
    let main = running.process.main;
    let mut pipe = match running.output {
        Output::Pipe(fd) => pipe::Receiver::from_owned_fd(fd).ok(),
        Output::Log(_) => None,
    };
    let fd = match watch::awaitable(Arc::new(running.process.pidfd)) {
        Ok(fd) => fd,
        Err(error) => return Err(format!("watching the command failed: {error}")),
    };
    let ended = tokio::select! {
        outcome = ended(&fd) => Ok(outcome),
        () = keep_reading(&mut pipe, kept) => Ok(ExitOutcome::Unknown),
        () = tokio::time::sleep(timeout) => Err(format!("timed out after {}", format_duration(timeout))),
        _ = abandoned => Err("was abandoned".to_string()),
    };
    match ended {
        Ok(_) => {
            let reaped_at = identity::ticks_now();
            if watch::group_has_members(main) {
                kill_tree(inner, running.mark, main, Some(reaped_at)).await;
            }
        }
        Err(_) => {
            // Not reaped yet, so the group's number is still this command's.
            let _ = identity::pid(main.pid).map(|pid| rustix::process::kill_process_group(pid, Signal::STOP));
            kill_tree(inner, running.mark, main, None).await;
            let _ = tokio::time::timeout(KILL_WAIT, self::ended(&fd)).await;
        }
    }
    if let Some(pipe) = &pipe {
        drain(pipe, kept);
    }
    ended
}

async fn kill_tree(inner: &Inner, mark: Box<str>, main: Main, reaped_at: Option<u64>) {
    let (tell, told) = oneshot::channel();
    let target = Target { mark, main: Some(main), reaped_at, group: None };
    let _ = inner.kills.send(Request { target, then: Then::Tell(tell) }).await;
    // What cannot be killed stays with the sweeper; the answer does not wait for it for ever.
    let _ = tokio::time::timeout(KILL_WAIT, told).await;
}

async fn ended(fd: &AsyncFd<Arc<OwnedFd>>) -> ExitOutcome {
    loop {
        let Ok(mut ready) = fd.readable().await else { return ExitOutcome::Unknown };
        match watch::reap(fd.get_ref()) {
            Reaped::Child(outcome) => return outcome,
            Reaped::Stranger if watch::ended(fd.get_ref()) => return ExitOutcome::Unknown,
            _ => ready.clear_ready(),
        }
    }
}

/// Reads for as long as the command runs; never returns, as the end of output is not the end of the command.
async fn keep_reading(pipe: &mut Option<pipe::Receiver>, kept: &mut Vec<u8>) {
    if let Some(pipe) = pipe {
        let mut block = vec![0; 8 << 10];
        while let Ok(read @ 1..) = pipe.read(&mut block).await {
            keep(kept, &block[..read]);
        }
    }
    std::future::pending().await
}

fn drain(pipe: &pipe::Receiver, kept: &mut Vec<u8>) {
    let mut block = vec![0; 8 << 10];
    let mut drained = 0;
    while drained < DRAINED {
        let Ok(read @ 1..) = pipe.try_read(&mut block) else { return };
        keep(kept, &block[..read]);
        drained += read;
    }
}

fn keep(kept: &mut Vec<u8>, more: &[u8]) {
    kept.extend_from_slice(more);
    if kept.len() > 2 * KEPT {
        kept.drain(..kept.len() - KEPT);
    }
}
