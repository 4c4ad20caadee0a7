//! Hooks and probes that are commands: units of their own, with the app's user, directories and sandbox.
//!
//! A command's unit stays after its end until its result was read. Whoever drops the future ends the command. A hook writes
//! to the journal, as `nbs-hook-<app>:<n>`; a probe, `nbs-probe-<app>:<n>`, to a file that goes with it. No app ID has a
//! colon, so no two apps meet.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nbs_core::launch::Launch;
use nbs_core::limits::{LAST_LOG_LINE_MAX, LAST_LOG_LINES};
use nbs_core::quantity::format_duration;
use nbs_core::reason::ExitOutcome;
use nbs_core::unit::{HOOK, PROBE};
use tokio::sync::oneshot;

use super::bus::{Job, JobResult};
use super::snapshot::Snapshot;
use super::start::{aside, failure_of, make_ready, permanent};
use super::state::{outcome_of, reason_of};
use super::tracked::Life;
use super::{Inner, Units, end, properties};
use crate::ports::{BoxFuture, CommandOutput, CommandRunner};

/// How much longer than systemd we wait for a command that takes too long.
const GRACE: Duration = Duration::from_secs(5);
/// Bytes of a probe's output that are looked at.
const OUTPUT_MAX: u64 = 64 << 10;

/// Whether a unit is that of a command.
pub(super) fn is_command(unit: &str) -> bool {
    unit.starts_with(HOOK) || unit.starts_with(PROBE)
}

/// Removes the files of commands that a former daemon did not live to remove. To be called while none runs.
pub(super) fn forget_files(run_root: &Path) {
    for entry in fs::read_dir(run_root).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_command) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A command to be run.
struct Command {
    unit: String,
    context: Launch,
    argv: Vec<String>,
    timeout: Duration,
    env_file: PathBuf,
    /// Where a probe writes; a hook writes to the journal.
    output: Option<PathBuf>,
}

impl CommandRunner for Units {
    fn run<'a>(
        &'a self,
        context: &'a Launch,
        argv: &'a [String],
        timeout: Duration,
        log: bool,
    ) -> BoxFuture<'a, CommandOutput> {
        Box::pin(async move {
            let number = self.inner.commands.fetch_add(1, Ordering::Relaxed);
            let unit = format!("{}{}:{number}.service", if log { HOOK } else { PROBE }, context.app);
            let file = |end: &str| self.inner.run_root.join(format!("{unit}.{end}"));
            let (env_file, output) = (file("env"), (!log).then(|| file("out")));
            let (context, argv) = (context.clone(), argv.to_vec());
            let command = Arc::new(Command { unit, context, argv, timeout, env_file, output });
            // A task of its own, so that a command is ended even if this future is dropped.
            let (_keep, abandoned) = oneshot::channel::<()>();
            let inner = self.inner.clone();
            let running = tokio::spawn(async move { command.run(&inner, abandoned).await });
            running.await.unwrap_or_else(|_| failed("was cut off"))
        })
    }
}

fn failed(why: impl Into<String>) -> CommandOutput {
    CommandOutput { result: Err(why.into()), last_log: Vec::new() }
}

impl Command {
    async fn run(self: Arc<Self>, inner: &Arc<Inner>, abandoned: oneshot::Receiver<()>) -> CommandOutput {
        let output = match self.start(inner).await {
            Err(why) => failed(why),
            Ok(job) => tokio::select! {
                over = tokio::time::timeout(self.timeout + GRACE, job.done()) => self.ended(inner, over.ok()).await,
                _ = abandoned => failed("was cancelled"),
            },
        };
        end::remove_unit(inner, &self.unit, |found| inner.is_ours(found.marker.as_ref())).await;
        let removing = tokio::task::spawn_blocking(move || {
            for file in std::iter::once(&self.env_file).chain(&self.output) {
                // What stays is removed by the next daemon.
                let _ = fs::remove_file(file);
            }
        });
        let _ = removing.await;
        output
    }

    async fn start(self: &Arc<Self>, inner: &Arc<Inner>) -> Result<Job, String> {
        let version = inner.version().await;
        let (command, of) = (self.clone(), inner.clone());
        // A hook before the first start finds the place where the app will be.
        let preparing = aside(move || {
            let Self { context, argv, env_file, .. } = &*command;
            make_ready(&of, context, argv, env_file, |program| {
                let (output, site) = (command.output.as_deref(), of.site(version, env_file));
                properties::of_command(context, argv, program, command.timeout, output, &site).map_err(permanent)
            })
        });
        let properties = preparing.await.map_err(|failure| failure.reason.text)?;
        inner.bus.start(&self.unit, &properties).await.map_err(|error| failure_of(&error).reason.text)
    }

    async fn ended(&self, inner: &Arc<Inner>, job: Option<JobResult>) -> CommandOutput {
        let seen = inner.bus.read(&self.unit).await.ok().flatten().unwrap_or_default();
        let last_log = match &self.output {
            Some(file) => {
                let file = file.clone();
                let reading = tokio::task::spawn_blocking(move || read_end(&file).unwrap_or_default());
                last_lines(&reading.await.unwrap_or_default())
            }
            None => inner.last_lines(&self.unit, &Life::of(&seen)).await,
        };
        CommandOutput { result: self.result(job, &seen), last_log }
    }

    fn result(&self, job: Option<JobResult>, seen: &Snapshot) -> Result<ExitOutcome, String> {
        match job {
            _ if matches!(job, None | Some(JobResult::Timeout)) || seen.result == "timeout" => {
                Err(format!("timed out after {}", format_duration(self.timeout)))
            }
            // Killed between fork and exec, or never started.
            Some(JobResult::Failed) if seen.exec_code == 0 => Err(reason_of(seen, false).text),
            Some(JobResult::Done | JobResult::Failed) => Ok(outcome_of(seen)),
            _ if seen.exec_code != 0 => Ok(outcome_of(seen)),
            _ => Err("its end was not seen".into()),
        }
    }
}

/// The end of a probe's output: it may have written for as long as its time was.
fn read_end(file: &Path) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(file)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(OUTPUT_MAX)))?;
    let mut end = Vec::new();
    file.take(OUTPUT_MAX).read_to_end(&mut end)?;
    Ok(end)
}

/// The last lines of an output, each cut to a bearable length.
fn last_lines(output: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.iter().skip(lines.len().saturating_sub(LAST_LOG_LINES));
    last.map(|line| line.chars().take(LAST_LOG_LINE_MAX).collect()).collect()
}
