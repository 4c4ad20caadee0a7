//! `app stop|restart --local`: on a worker, past its entry.
//!
//! There is no operation to wait for: a local word is taken up when the instance shows it, and done when the instance is
//! as asked. Deliberately absent: whether this daemon takes such words, which is its own to say.

use std::time::Duration;

use hyper::Method;
use nbs_core::quantity::format_duration;
use serde_json::json;
use tokio::time::Instant;

use super::show::path;
use crate::cli::Session;
use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::wait::WaitArgs;
use crate::wire::api::app::{App, Instance, Local};
use crate::wire::api::operation::LocalCommand;

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// A worker takes a word up in its next turn; after so long it has put it aside.
const TAKEN_UP: Duration = Duration::from_secs(10);

/// Sends all, one after another, and waits for each; one that fails does not keep the others back.
pub async fn run(session: &mut Session, action: &'static str, names: Vec<String>, wait: &WaitArgs) -> Outcome {
    let mut worst: Option<Exit> = None;
    for name in &names {
        match one(session, action, name, wait).await {
            Ok(()) => {}
            Err(failure) if failure.exit == Exit::Unreachable => return Err(failure),
            Err(failure) => {
                session.out.fail(&failure);
                worst.get_or_insert(failure.exit);
            }
        }
    }
    worst.map_or(Ok(()), |exit| Err(Failure::told(exit)))
}

async fn one(session: &mut Session, action: &'static str, name: &str, wait: &WaitArgs) -> Outcome {
    // What was asked before is told apart from this by its time. An app that is not there is the daemon's to refuse.
    let before = session.client.read::<App>(&path(name)).await.ok();
    let before = before.and_then(|app| app.instances.into_iter().find_map(|instance| instance.local));
    let body = json!({ "local": true });
    let answer = session.client.change(Method::POST, &format!("{}/{action}", path(name)), Some(&body)).await?;
    let told: LocalCommand = answer.parse()?;
    if session.out.is_json() {
        session.out.data(&answer.text)?;
    }
    if wait.no_wait {
        return Ok(());
    }
    let begun = Instant::now();
    loop {
        let app: App = session.client.read(&path(name)).await?;
        let here = app.instances.into_iter().find(|instance| instance.environment == told.environment);
        let taken = here.as_ref().is_some_and(|instance| is_new(instance.local.as_ref(), before.as_ref(), action));
        if let Some(instance) = here.filter(|_| taken)
            && let Some(outcome) = judge(action, name, &instance)
        {
            if outcome.is_ok() {
                let status = &instance.status;
                session.out.say(format!("{name}: {action} done on {}, {status}; the entry is told", told.environment));
            }
            return outcome;
        }
        if !taken && begun.elapsed() > TAKEN_UP {
            let text = format!("{action} of {name}: the worker has put it aside");
            return Err(Failure::new(Exit::Failed, text)
                .hint(format!("`nbsupervisor app why {name}` tells what is wanted here")));
        }
        if begun.elapsed() > wait.timeout {
            let text = format!("{action} of {name} is not over after {}", format_duration(wait.timeout));
            return Err(Failure::new(Exit::TimedOut, text).hint(format!("it goes on: `nbsupervisor app show {name}`")));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn is_new(now: Option<&Local>, before: Option<&Local>, action: &str) -> bool {
    now.is_some_and(|local| local.action == action) && now != before
}

/// How it ended; nothing while it goes on.
fn judge(action: &str, name: &str, instance: &Instance) -> Option<Outcome> {
    match (action, instance.status.as_ref()) {
        ("stop", "stopped") | ("restart", "running") => Some(Ok(())),
        ("stop", "error") => Some(Ok(())),
        ("restart", "error") => {
            let reason = instance.reason.as_ref();
            let text = reason.map_or("no reason was given", |reason| reason.text.as_str());
            let hint = reason.map_or_else(String::new, |reason| format!("{}\n       ", reason.remedy));
            let failure = Failure::new(Exit::Failed, format!("restart of {name} failed: {text}"));
            Some(Err(failure.hint(format!("{hint}`nbsupervisor app why {name}` tells more"))))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_new_when_its_action_or_time_is_another() {
        let local =
            |action: &'static str, at: &str| Local { action: action.into(), actor: "ann".into(), at: at.into() };
        let (old, new) = (local("stop", "1"), local("stop", "2"));
        assert!(is_new(Some(&new), Some(&old), "stop") && is_new(Some(&new), None, "stop"));
        assert!(!is_new(Some(&old), Some(&old), "stop") && !is_new(Some(&old), None, "restart"));
        assert!(!is_new(None, Some(&old), "stop"));
    }
}
