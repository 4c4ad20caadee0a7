//! Starts of units: checks that give a better answer than systemd could, then one transient unit, and what became of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nbs_core::launch::Launch;
use nbs_core::observation::{SpawnFailure, SpawnFailureKind};
use nbs_core::reason::{Reason, ReasonCode};
use nbs_core::unit::unit_name;
use tokio::sync::oneshot;

use super::bus::{BusError, BusErrorKind, Job, JobResult};
use super::properties::Properties;
use super::snapshot::{Changed, Marker, Snapshot};
use super::state::{Told, reason_of};
use super::tracked::Tracked;
use super::{Inner, end, envfile, notes, properties};
use crate::ground;
use crate::ports::Started;

/// How long a unit that says itself when it is ready may take until its process is there.
const PROCESS_PATIENCE: Duration = Duration::from_secs(60);

/// Starts a launch as a unit. Returns when its program was executed, or could not be.
pub(super) async fn start(inner: &Arc<Inner>, launch: &Launch) -> Result<Started, SpawnFailure> {
    let (properties, notes) = prepare(inner, launch).await?;
    let (app, run) = (&launch.app, launch.run);
    let delay = launch.unit.as_ref().map_or(Duration::ZERO, |plan| plan.restart.delay);
    let mut tracked = Tracked::new(run, asked(inner, launch, &properties), Told::Starting, launch.notify, delay);
    let (sender, first_process) = oneshot::channel();
    tracked.started = Some(sender);
    inner.units.watch(app, tracked);
    let started = match submit(inner, launch, &properties).await {
        Ok(job) if launch.notify => by_notice(inner, launch, job, first_process).await,
        Ok(job) => by_job(inner, launch, &properties, job).await,
        Err(failure) => Err(failure),
    };
    if started.is_err() {
        inner.units.forget(app, run);
    }
    started.map(|started| Started { notes, ..started })
}

async fn prepare(inner: &Arc<Inner>, launch: &Launch) -> Result<(Properties, Vec<String>), SpawnFailure> {
    let (inner, launch, version) = (inner.clone(), launch.clone(), inner.version().await);
    aside(move || {
        ground::check_address(&launch)?;
        let env_file = inner.env_file(&launch.app);
        let properties = make_ready(&inner, &launch, &launch.argv, &env_file, |program| {
            check_program(&launch, program)?;
            properties::of(&launch, program, &inner.site(version, &env_file)).map_err(permanent)
        })?;
        Ok((properties, notes::of(&launch, version)))
    })
    .await
}

/// Prepares a unit where blocking holds up nobody: users are looked up, which may ask a directory in the network.
pub(super) async fn aside<T: Send + 'static>(
    prepare: impl FnOnce() -> Result<T, SpawnFailure> + Send + 'static,
) -> Result<T, SpawnFailure> {
    let cut_off = |_| Err(transient(Reason::new(ReasonCode::SpawnFailed, "preparing its unit was cut off")));
    tokio::task::spawn_blocking(prepare).await.unwrap_or_else(cut_off)
}

/// Makes what a unit for `argv` needs, and returns its properties, which `describe` tells of the program. Blocks.
pub(super) fn make_ready(
    inner: &Inner,
    launch: &Launch,
    argv: &[String],
    env_file: &Path,
    describe: impl FnOnce(&Path) -> Result<Properties, SpawnFailure>,
) -> Result<Properties, SpawnFailure> {
    make_ground(inner, launch)?;
    let properties = describe(&program(argv, launch).map_err(permanent)?)?;
    write_env(env_file, launch).map_err(transient)?;
    Ok(properties)
}

/// systemd makes the directories of its dynamic users; those of others are made here, wherever they lie.
fn make_ground(inner: &Inner, launch: &Launch) -> Result<(), SpawnFailure> {
    if inner.user || launch.user.is_some() {
        let user = launch.user.as_deref().filter(|_| !inner.user);
        let credentials = ground::user::resolve(user, launch.group.as_deref())?;
        ground::make_directories(launch, credentials.as_ref())?;
    }
    if launch.cwd != launch.state_dir && !launch.cwd.is_dir() {
        let text = format!("the working directory {} is not there", launch.cwd.display());
        return Err(permanent(Reason::new(ReasonCode::BadWorkingDirectory, text)));
    }
    Ok(())
}

/// systemd says of every program that could not be executed only that. It is looked at before, unless the unit sees
/// other files than we do.
fn check_program(launch: &Launch, program: &Path) -> Result<(), SpawnFailure> {
    const OTHER_FILES: [&str; 3] = ["BindPaths", "BindReadOnlyPaths", "TemporaryFileSystem"];
    let settings = launch.unit.iter().flat_map(|plan| &plan.settings);
    match settings.into_iter().any(|setting| OTHER_FILES.contains(&setting.property.as_str())) {
        true => Ok(()),
        false => ground::failure::of_program(program).map_or(Ok(()), Err),
    }
}

/// Writes a launch's variables where its unit finds them.
fn write_env(file: &Path, launch: &Launch) -> Result<(), Reason> {
    let text = envfile::of(launch)?;
    envfile::write(file, &text)
        .map_err(|error| Reason::new(ReasonCode::SpawnFailed, format!("writing {} failed: {error}", file.display())))
}

/// The file of a command's program, which systemd wants to be told in full.
fn program(argv: &[String], launch: &Launch) -> Result<PathBuf, Reason> {
    let name = argv.first().map_or("", String::as_str);
    let path = launch.env.get("PATH").map(String::as_str);
    ground::find_program(name, path, &launch.cwd).map_err(|failure| failure.reason)
}

/// Has systemd take the unit on. A name that is taken by a former life of ours is freed first. No job: the answer was
/// lost, and the unit is there.
async fn submit(inner: &Arc<Inner>, launch: &Launch, properties: &Properties) -> Result<Option<Job>, SpawnFailure> {
    let unit = unit_name(&launch.app);
    match inner.bus.start(&unit, properties).await {
        Ok(job) => return Ok(Some(job)),
        Err(error) if error.kind == BusErrorKind::UnitExists => {}
        Err(error) if matches!(error.kind, BusErrorKind::Unavailable | BusErrorKind::TimedOut) => {
            let found = inner.bus.read(&unit).await.ok().flatten().and_then(|unit| unit.marker);
            let is_it = found.is_some_and(|marker| marker.instance == inner.instance && marker.run == launch.run);
            return if is_it { Ok(None) } else { Err(failure_of(&error)) };
        }
        Err(error) => return Err(failure_of(&error)),
    }
    match inner.bus.read(&unit).await {
        Ok(Some(found)) if inner.is_ours(found.marker.as_ref()) => {
            let marker = found.marker;
            end::remove_unit(inner, &unit, |unit| unit.marker == marker).await;
        }
        Ok(Some(found)) => return Err(permanent(conflict(&unit, &found))),
        Ok(None) => {}
        Err(error) => return Err(failure_of(&error)),
    }
    inner.bus.start(&unit, properties).await.map(Some).map_err(|error| failure_of(&error))
}

fn conflict(unit: &str, found: &Snapshot) -> Reason {
    let whose = match &found.marker {
        Some(marker) => format!("belongs to another nbsupervisor (instance {})", marker.instance),
        None => "is not nbsupervisor's".to_string(),
    };
    Reason::new(ReasonCode::UnitConflict, format!("there is a unit {unit} that {whose}"))
}

/// What a unit is before anything was heard of it: as it was asked for.
fn asked(inner: &Inner, launch: &Launch, properties: &Properties) -> Snapshot {
    let value = |name: &str| properties.iter().find(|(known, _)| known == name).map(|(_, value)| value);
    let word = |name: &str| value(name).and_then(|value| <&str>::try_from(value).ok());
    let delay = value("RestartUSec").and_then(|value| u64::try_from(value).ok());
    Snapshot {
        repairs: word("Restart").is_some_and(|restart| restart != "no"),
        notify: word("Type") == Some("notify"),
        restart_delay: Duration::from_micros(delay.unwrap_or_default()),
        marker: Some(Marker {
            instance: inner.instance.clone(),
            app: launch.app.clone(),
            run: launch.run,
            port: launch.port(),
        }),
        ..Snapshot::default()
    }
}

/// `Type=exec`: the job is done when the program was executed.
async fn by_job(
    inner: &Arc<Inner>,
    launch: &Launch,
    properties: &Properties,
    job: Option<Job>,
) -> Result<Started, SpawnFailure> {
    let (result, heard) = match job {
        Some(job) => job.end().await,
        None => (JobResult::Lost, Changed::default()),
    };
    // Mostly systemd has told all by now, and reading the whole unit would take it and us as long as half the start.
    let unit = asked(inner, launch, properties).with(heard);
    let runs = unit.active == "active" && unit.sub == "running" && unit.main_pid != 0 && !unit.invocation.is_empty();
    if result == JobResult::Done && runs {
        return Ok(started(inner, launch, &unit, false));
    }
    let unit = read_settled(inner, launch).await?;
    if result == JobResult::Done || (result == JobResult::Lost && unit.main_pid != 0) {
        return Ok(started(inner, launch, &unit, true));
    }
    let mut reason = failed_start(result, &unit);
    // Its program ran and ended before systemd had seen that it was executed: an end like any other, with its last lines.
    if result == JobResult::Failed && matches!(reason.code, ReasonCode::ExitStatus | ReasonCode::Signal) {
        return Ok(started(inner, launch, &unit, true));
    }
    if reason.code == ReasonCode::BadWorkingDirectory {
        reason.text = format!("the working directory {} may not be entered by its user", launch.cwd.display());
    }
    let marker = unit.marker;
    end::remove_unit(inner, &unit_name(&launch.app), |unit| unit.marker == marker).await;
    Err(if is_permanent(reason.code) { permanent(reason) } else { transient(reason) })
}

/// `Type=notify`: the job is done when the app says that it is ready; its process is there before.
async fn by_notice(
    inner: &Arc<Inner>,
    launch: &Launch,
    job: Option<Job>,
    first_process: oneshot::Receiver<()>,
) -> Result<Started, SpawnFailure> {
    // The job keeps its permit until it is done; its result is heard through the unit's state.
    if let Some(job) = job {
        tokio::spawn(job.done());
    }
    let _ = tokio::time::timeout(PROCESS_PATIENCE, first_process).await;
    let unit = read_settled(inner, launch).await?;
    Ok(started(inner, launch, &unit, true))
}

async fn read_settled(inner: &Arc<Inner>, launch: &Launch) -> Result<Snapshot, SpawnFailure> {
    match inner.bus.read(&unit_name(&launch.app)).await {
        Ok(Some(unit)) => Ok(unit),
        // It was unloaded already: it ended, and something ended it on purpose.
        Ok(None) => Err(transient(Reason::new(ReasonCode::StoppedOutside, "its unit was stopped while it started"))),
        Err(error) => Err(failure_of(&error)),
    }
}

/// From now on the unit's signals tell of it; what it did since it was read (`settled`) or heard of is judged now.
fn started(inner: &Arc<Inner>, launch: &Launch, unit: &Snapshot, settled: bool) -> Started {
    let (app, run) = (&launch.app, launch.run);
    let invocation = Some(unit.invocation.clone()).filter(|invocation| !invocation.is_empty());
    let identity = inner.identity(unit.main_pid, invocation);
    inner.units.with(app, run, |tracked| {
        tracked.started = None;
        if tracked.told == Told::Starting {
            tracked.told = Told::Alive { pid: unit.main_pid, restarts: 0, ready: false };
        }
    });
    // What was heard of the same start or of a later one is not older than what its job brought.
    inner.see(app, settled, |seen| {
        let newer = !settled && seen.exec_started >= unit.exec_started;
        if newer { seen.clone() } else { unit.clone() }
    });
    Started { identity, notes: Vec::new() }
}

fn failed_start(result: JobResult, unit: &Snapshot) -> Reason {
    match result {
        JobResult::Timeout => Reason::new(ReasonCode::StartTimeout, "systemd's start job timed out"),
        JobResult::Canceled => Reason::new(ReasonCode::StoppedOutside, "its start was cancelled by someone else"),
        JobResult::Dependency => Reason::new(ReasonCode::SpawnFailed, "a unit that it needs could not be started"),
        _ => reason_of(unit, false),
    }
}

/// Whether the same start would fail again.
fn is_permanent(code: ReasonCode) -> bool {
    matches!(
        code,
        ReasonCode::MissingBinary
            | ReasonCode::NotExecutable
            | ReasonCode::BadWorkingDirectory
            | ReasonCode::BadUser
            | ReasonCode::BadLimit
            | ReasonCode::BadProperty
            | ReasonCode::UnitConflict
            | ReasonCode::AccessDenied
    )
}

pub(super) fn failure_of(error: &BusError) -> SpawnFailure {
    let text = error.text.trim_end_matches('.');
    let (code, text) = match error.kind {
        BusErrorKind::BadProperty => (ReasonCode::BadProperty, format!("systemd refused its unit: {text}")),
        BusErrorKind::UnitExists => (ReasonCode::UnitConflict, format!("systemd refused its unit: {text}")),
        BusErrorKind::AccessDenied => (ReasonCode::AccessDenied, format!("systemd refused its unit: {text}")),
        BusErrorKind::Unavailable | BusErrorKind::TimedOut => {
            (ReasonCode::SystemdUnavailable, format!("systemd does not answer: {text}"))
        }
        _ => (ReasonCode::SpawnFailed, format!("systemd refused its unit: {text}")),
    };
    let reason = Reason::new(code, text);
    if is_permanent(code) { permanent(reason) } else { transient(reason) }
}

pub(super) fn permanent(reason: Reason) -> SpawnFailure {
    SpawnFailure { reason, kind: SpawnFailureKind::Permanent }
}

pub(super) fn transient(reason: Reason) -> SpawnFailure {
    SpawnFailure { reason, kind: SpawnFailureKind::Transient }
}
