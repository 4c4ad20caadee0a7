//! Local hands: what somebody on a worker's own host asks, past the entry, while nobody decides there.
//!
//! Decides which daemon takes which kind of command: a worker only local ones, everybody else none of these. Deliberately
//! absent: what a local word does (the worker's), and an operation for it (there is no record on a worker).

use axum::http::{StatusCode, header};
use axum::response::Response;
use nbs_core::command::Denied;
use nbs_core::name::{AppId, EnvironmentName};
use nbs_core::order::LocalAction;
use nbs_core::view::QueueView;

use super::auth::Actor;
use super::change::{Subject, audit};
use super::input::json;
use super::problem::Problem;
use super::{Admin, LocalHands};
use crate::wire::api::operation::LocalCommand;
use crate::worker::LocalError;

impl Admin {
    /// Whether this daemon decides on commands.
    ///
    /// # Errors
    /// It is a worker; the text names it and its entry.
    pub(super) fn decides(&self) -> Result<(), Problem> {
        self.local.as_ref().map_or(Ok(()), |hands| Err(refusal(&**hands)))
    }

    /// The start queue; a worker has none.
    pub(super) async fn start_queue(&self) -> Vec<QueueView> {
        if self.local.is_some() { Vec::new() } else { self.entry.queue().await }
    }
}

fn refusal(hands: &dyn LocalHands) -> Problem {
    let detail = format!("this is worker {}, and its entry decides", hands.environment());
    let entry = hands.entry().map(|entry| format!(" at {entry}")).unwrap_or_default();
    let hint = format!(
        "ask the entry{entry}; `app stop` and `app restart` with --local (\"local\": true) act on this host alone"
    );
    Problem::new(StatusCode::CONFLICT, "conflict", detail).hint(hint)
}

/// `POST /apps/{app}/stop` and `…/restart` with `"local": true`.
pub(super) fn command(
    admin: &Admin,
    actor: &Actor,
    app: &AppId,
    action: Option<LocalAction>,
    environments: Option<Vec<EnvironmentName>>,
) -> Result<Response, Problem> {
    let given = judge(admin, app, action, environments).and_then(|(hands, action)| {
        hands.command(app, action, &actor.name).map_err(Problem::from)?;
        let environment = hands.environment().to_string();
        let (app, action) = (app.to_string(), action.as_str().into());
        Ok(LocalCommand { app, environment, action, actor: actor.name.clone(), local: true })
    });
    let outcome = given.as_ref().map_or_else(Problem::code, |_| "accepted");
    let word = action.map_or("local_start", |action| match action {
        LocalAction::Stop => "local_stop",
        LocalAction::Restart => "local_restart",
    });
    audit(actor, word, Subject::App(app.as_str()), outcome, "");
    Ok(json(StatusCode::ACCEPTED, &given?))
}

fn judge<'a>(
    admin: &'a Admin,
    app: &AppId,
    action: Option<LocalAction>,
    environments: Option<Vec<EnvironmentName>>,
) -> Result<(&'a dyn LocalHands, LocalAction), Problem> {
    let Some(hands) = admin.local.as_deref() else {
        let detail = "this daemon decides itself, and takes no local commands";
        let hint = "leave --local (\"local\") out; with --environment (\"environments\") a command is about a part";
        return Err(Problem::new(StatusCode::CONFLICT, "conflict", detail).field("local").hint(hint));
    };
    let here = hands.environment();
    let Some(action) = action else {
        let detail = format!("worker {here} starts nothing that its entry does not want");
        let hint = "`app restart --local` starts again what was stopped with --local; for the rest ask the entry";
        return Err(Problem::invalid("local", detail, hint));
    };
    if let Some(other) = environments.into_iter().flatten().find(|name| *name != here) {
        let detail = format!("{other} is another environment: this is worker {here}");
        return Err(Problem::invalid("environments", detail, "leave it out: a local command is about this host alone"));
    }
    match admin.entry.view().apps.contains_key(app) {
        true => Ok((hands, action)),
        false => Err(Denied::NotFound(app.clone()).into()),
    }
}

impl From<LocalError> for Problem {
    fn from(error: LocalError) -> Self {
        let (code, hint) = match error {
            LocalError::Busy => ("queue_full", "nothing was changed; try again"),
            LocalError::Stopping => ("environment_unavailable", "try again once the daemon is back"),
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, error.to_string()).hint(hint).header(header::RETRY_AFTER, "1")
    }
}
