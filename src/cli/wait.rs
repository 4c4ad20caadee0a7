//! Waits for operations and tells how they end.

use std::time::Duration;

use nbs_core::quantity::{format_duration, parse_duration};

use tokio::time::Instant;

use super::Session;
use super::client::{encode, with_query};
use super::exit::{Exit, Failure, Outcome};
use crate::wire::api::app::{App, Instance};
use crate::wire::api::log::LogLine;
use crate::wire::api::operation::Operation;
use crate::wire::api::queue::Queue;

/// One long poll; with a progress line shorter, so that it moves.
const POLL: &str = "30s";
const POLL_SHOWN: &str = "500ms";
/// Lines of the log shown with a failure that has none of its own.
const LOG_LINES: usize = 10;

/// How to wait.
#[derive(Debug, Clone, clap::Args)]
pub struct WaitArgs {
    /// Return at once and print the operation's ID
    #[arg(long)]
    pub no_wait: bool,
    /// Wait at most this long (the operation goes on)
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10m")]
    pub timeout: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| format!("{error}; {}", error.hint))
}

/// Waits for all, as told; the first that did not end well gives the exit code.
///
/// # Errors
/// One failed, expired or was not over in time; or the daemon went away.
pub async fn outcomes(session: &mut Session, operations: Vec<Operation>, wait: &WaitArgs) -> Outcome {
    if wait.no_wait {
        for operation in &operations {
            if session.out.is_json() { print(session, operation)? } else { session.out.data(&operation.id)? }
        }
        return Ok(());
    }
    let under_way: Vec<_> = operations.iter().filter(|operation| !operation.has_ended()).map(told_later).collect();
    tokio::select! {
        outcome = all(session, operations, wait) => outcome,
        () = interrupted() => {
            let text = format!("no longer waited for: {}", under_way.join(", "));
            Err(Failure::new(Exit::Interrupted, text).hint("what was accepted goes on: `nbsupervisor ops` shows how it ends"))
        }
    }
}

/// An operation for whoever looks after it later.
fn told_later(operation: &Operation) -> String {
    format!("{} of {} ({})", operation.action, operation.app, operation.id)
}

/// Ends with Ctrl-C.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a handler the signal ends the run by itself.
        std::future::pending().await
    }
}

async fn all(session: &mut Session, operations: Vec<Operation>, wait: &WaitArgs) -> Outcome {
    let begun = Instant::now();
    let mut worst: Option<Failure> = None;
    for operation in operations {
        match outcome(session, operation, wait.timeout, begun).await {
            Ok(()) => {}
            Err(failure) if failure.exit == Exit::Unreachable => return Err(failure),
            Err(failure) => {
                session.out.fail(&failure);
                worst.get_or_insert(Failure::told(failure.exit));
            }
        }
    }
    worst.map_or(Ok(()), Err)
}

async fn outcome(session: &mut Session, operation: Operation, timeout: Duration, begun: Instant) -> Outcome {
    let mut operation = operation;
    while !operation.has_ended() {
        let left = timeout.saturating_sub(begun.elapsed());
        if left.is_zero() {
            let text =
                format!("{} of {} is not over after {}", operation.action, operation.app, format_duration(timeout));
            let hint =
                format!("it goes on: `nbsupervisor ops {}`, `nbsupervisor app why {}`", operation.id, operation.app);
            return Err(Failure::new(Exit::TimedOut, text).hint(hint));
        }
        if session.out.shows_progress() {
            let line = progress(session, &operation).await;
            session.out.progress(&format!("{line} ({}s)", begun.elapsed().as_secs()));
        }
        let poll = if session.out.shows_progress() { POLL_SHOWN } else { POLL };
        let poll = parse_duration(poll).unwrap_or(left).min(left);
        let wait = Some(format!("{}ms", poll.as_millis().max(1)));
        operation = session
            .client
            .read(&with_query(&format!("/api/v1/operations/{}", operation.id), &[("wait", wait)]))
            .await?;
    }
    tell(session, &operation, begun.elapsed()).await
}

/// One line: status, place in the queue, the app's own progress, attempts.
async fn progress(session: &mut Session, operation: &Operation) -> String {
    let app: Option<App> = session.client.read(&format!("/api/v1/apps/{}", operation.app)).await.ok();
    let Some(app) = app else { return format!("{}: {}", operation.app, operation.status) };
    let mut parts = vec![app.status.to_string()];
    if app.status == "queued"
        && let Ok(queue) = session.client.read::<Queue>("/api/v1/queue").await
    {
        let own = queue.queue.iter().filter(|entry| entry.app == app.name);
        parts.extend(own.map(|entry| match entry.waits_for.as_str() {
            "slot" => format!("place {} in {}", entry.position, entry.environment),
            other => format!("place {} in {}, behind {other}", entry.position, entry.environment),
        }));
    }
    let several = app.instances.len() > 1;
    let asked = |instance: &&Instance| operation.environments.contains(&instance.environment);
    for instance in app.instances.iter().filter(asked) {
        parts.extend(several.then(|| format!("{} {}", instance.environment, instance.status)));
        parts.extend(instance.progress.clone());
        if instance.restarts > 0 {
            parts.push(format!("attempt {}", instance.restarts + 1));
        }
        if let Some(reason) = instance.reason.as_ref().filter(|_| instance.next_attempt_at.is_some()) {
            parts.push(reason.text.clone());
        }
    }
    format!("{}: {}", app.name, parts.join(", "))
}

async fn tell(session: &mut Session, operation: &Operation, took: Duration) -> Outcome {
    if session.out.is_json() {
        print(session, operation)?;
    }
    let app = &operation.app;
    if operation.status == "done" {
        let now: Option<App> = session.client.read(&format!("/api/v1/apps/{app}")).await.ok();
        let status = now.map_or_else(|| "removed".to_string(), |app| ended(&app, operation));
        let took = Duration::from_millis(took.as_millis() as u64);
        session.out.say(format!("{app}: {} done, {status} ({})", operation.action, format_duration(took)));
        return Ok(());
    }
    let reason = operation.reason.as_deref().unwrap_or("no reason was given");
    let mut failure =
        Failure::new(Exit::Failed, format!("{} of {app} {}: {reason}", operation.action, operation.status));
    let why = format!("`nbsupervisor app why {app}` tells more");
    let instance = match session.client.read::<App>(&format!("/api/v1/apps/{app}")).await {
        Ok(shown) => {
            let asked = |instance: &Instance| operation.environments.contains(&instance.environment);
            shown.instances.into_iter().find(|instance| asked(instance) && instance.reason.is_some())
        }
        Err(_) => None,
    };
    let remedy =
        instance.as_ref().and_then(|instance| instance.reason.as_ref()).map(|reason| reason.remedy.to_string());
    failure.hint = Some(remedy.map_or(why.clone(), |remedy| format!("{remedy}\n       {why}")));
    let lines = last_lines(session, app, instance).await;
    if !lines.is_empty() {
        session.out.say(format!("last lines of {app}'s log:"));
        lines.iter().for_each(|line| session.out.say(format!("  | {line}")));
    }
    if operation.status == "expired" {
        failure.exit = Exit::TimedOut;
    }
    Err(failure)
}

/// The status where the operation was to work: one word, or one for each environment.
fn ended(app: &App, operation: &Operation) -> String {
    let asked: Vec<_> = app.instances.iter().filter(|i| operation.environments.contains(&i.environment)).collect();
    match asked.as_slice() {
        [] => app.status.to_string(),
        [one] if app.instances.len() == 1 => one.status.to_string(),
        several => several.iter().map(|i| format!("{} in {}", i.status, i.environment)).collect::<Vec<_>>().join(", "),
    }
}

async fn last_lines(session: &mut Session, app: &str, instance: Option<Instance>) -> Vec<String> {
    if let Some(instance) = instance.filter(|instance| !instance.last_log.is_empty()) {
        return instance.last_log;
    }
    let path = format!("/api/v1/apps/{}/logs?lines={LOG_LINES}", encode(app));
    let Ok(answer) = session.client.get(&path).await else { return Vec::new() };
    let lines = answer.text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    lines.map(|line: LogLine| line.text).collect()
}

fn print(session: &Session, operation: &Operation) -> Outcome {
    session.out.data(serde_json::to_string(operation).unwrap_or_default())
}
