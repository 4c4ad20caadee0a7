//! Environments: what they are and use, and drain, undrain, forget.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use nbs_core::command::{Denied, EnvironmentAction, EnvironmentCommand};
use nbs_core::name::{EnvironmentName, RuntimeName};
use nbs_core::nearest::nearest;
use nbs_core::view::EnvironmentView;

use super::Admin;
use super::auth::Actor;
use super::change::{Subject, audit};
use super::input::{Params, json};
use super::problem::Problem;
use crate::entry::FleetView;
use crate::wire::api::environment::{Environment, EnvironmentChange, EnvironmentList, reason};
use crate::wire::api::usage::{AppUsageRow, Capacity, HostUsageRow, UsageList};

/// The view follows the commit at once; this is only a bound.
const VIEW_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) async fn list(State(admin): State<Admin>) -> Response {
    json(StatusCode::OK, &EnvironmentList { environments: all(&admin, &admin.entry.view()) })
}

/// Every environment, with the figures of this host where it is this host's.
pub(crate) fn all(admin: &Admin, view: &FleetView) -> Vec<Environment> {
    view.environments.values().map(|environment| shown(admin, environment, view)).collect()
}

pub(crate) async fn show(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Response, Problem> {
    let view = admin.entry.view();
    let environment = find(&view, &name)?;
    Ok(json(StatusCode::OK, &shown(&admin, environment, &view)))
}

/// The environment of that name.
fn find<'a>(view: &'a FleetView, name: &str) -> Result<&'a EnvironmentView, Problem> {
    view.environments.get(name).map(AsRef::as_ref).ok_or_else(|| {
        let shown: String = name.chars().take(80).collect();
        Problem::not_found(format!("there is no environment {shown:?}"), what_there_is(view, name))
    })
}

/// The nearest name there is, else where all are shown.
fn what_there_is(view: &FleetView, name: &str) -> String {
    let all = "`nbsupervisor env list` (GET /api/v1/environments) shows what is there";
    match nearest(name, view.environments.keys().map(EnvironmentName::as_str)) {
        Some(near) => format!("did you mean {near}? {all}"),
        None => all.into(),
    }
}

/// A denial, with what this room knows of the environment that it is about.
pub(crate) fn denied(admin: &Admin, denied: Denied) -> Problem {
    let view = admin.entry.view();
    let hint = match &denied {
        Denied::EnvironmentUnknown(name) => Some(what_there_is(&view, name.as_str())),
        Denied::EnvironmentUnavailable(name) => view
            .environments
            .get(name)
            .and_then(|environment| reason(environment, admin.moment()))
            .map(|reason| format!("{}; {}", reason.text, reason.remedy)),
        _ => None,
    };
    let problem = Problem::from(denied);
    match hint {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}

pub(crate) async fn drain(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    turn_off(&admin, &actor, &name, true).await
}

pub(crate) async fn undrain(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    turn_off(&admin, &actor, &name, false).await
}

async fn turn_off(admin: &Admin, actor: &Actor, name: &str, off: bool) -> Result<Response, Problem> {
    let action = if off { EnvironmentAction::Drain } else { EnvironmentAction::Undrain };
    let already = govern(admin, actor, name, action).await?;
    let is_so = |view: &FleetView| view.environments.get(name).is_none_or(|environment| environment.draining == off);
    let view = seen(admin, is_so).await;
    let environment = shown(admin, find(&view, name)?, &view);
    Ok(json(StatusCode::OK, &EnvironmentChange { already, environment }))
}

pub(crate) async fn forget(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    govern(&admin, &actor, &name, EnvironmentAction::Forget).await?;
    seen(&admin, |view| !view.environments.contains_key(name.as_str())).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Has a command decided and audited. Whether it was so already.
async fn govern(admin: &Admin, actor: &Actor, name: &str, action: EnvironmentAction) -> Result<bool, Problem> {
    admin.decides()?;
    let view = admin.entry.view();
    let there = find(&view, name)?;
    let already = match action {
        EnvironmentAction::Drain => there.draining,
        EnvironmentAction::Undrain => !there.draining,
        EnvironmentAction::Forget => false,
    };
    let environment = there.registration.environment.clone();
    let command = EnvironmentCommand { environment: environment.clone(), action, actor: actor.name.clone() };
    let (admin, actor) = (admin.clone(), actor.clone());
    // A task of its own: a client that leaves early is audited all the same.
    let governed = tokio::spawn(async move {
        let result = match admin.entry.govern(command).await {
            Ok(None) => Ok(already),
            Ok(Some(denial)) => Err(denied(&admin, denial)),
            Err(error) => Err(Problem::from(error)),
        };
        let outcome = match &result {
            Ok(true) => "already_so",
            Ok(false) => "accepted",
            Err(problem) => problem.code(),
        };
        let word = match action {
            EnvironmentAction::Drain => "environment_drain",
            EnvironmentAction::Undrain => "environment_undrain",
            EnvironmentAction::Forget => "environment_forget",
        };
        audit(&actor, word, Subject::Environment(environment.as_str()), outcome, "");
        result
    });
    governed.await.map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the command was lost"))?
}

/// The view once it shows what was decided, which is usually now; the last one if that takes too long.
async fn seen(admin: &Admin, is_so: impl Fn(&FleetView) -> bool) -> Arc<FleetView> {
    let look = async {
        loop {
            // Taken before the look, so that nothing is missed between the look and the wait.
            let changed = admin.entry.events_changed();
            let view = admin.entry.view();
            if is_so(&view) {
                return view;
            }
            changed.await;
        }
    };
    tokio::time::timeout(VIEW_TIMEOUT, look).await.unwrap_or_else(|_| admin.entry.view())
}

fn shown(admin: &Admin, environment: &EnvironmentView, view: &FleetView) -> Environment {
    let name = &environment.registration.environment;
    let version = |runtime: &RuntimeName| view.versions.agreed(name, runtime).map(str::to_string);
    let mut shown = Environment::of(environment, version, admin.moment());
    shown.capacity = shown.capacity.or_else(|| admin.usage.capacity(name));
    shown.usage = admin.usage.host(name);
    shown
}

pub(crate) async fn usage(
    State(admin): State<Admin>,
    Extension(params): Extension<Params>,
) -> Result<Response, Problem> {
    let (only, environment) = (params.app("app")?, params.environment("environment")?);
    let view = admin.entry.view();
    let mut apps = Vec::new();
    for (name, app) in &view.apps {
        let places = app.instances.iter().filter(|instance| {
            let alive = instance.report.as_ref().is_some_and(|report| report.pid.is_some());
            alive && environment.as_ref().is_none_or(|wanted| *wanted == instance.environment)
        });
        for instance in places.filter(|_| only.as_ref().is_none_or(|only| only == name)) {
            let usage = admin.usage.app(&instance.environment, name);
            let row =
                |usage| AppUsageRow { app: name.to_string(), environment: instance.environment.to_string(), usage };
            apps.extend(usage.map(row));
        }
    }
    let asked = |name: &&EnvironmentName| environment.as_ref().is_none_or(|wanted| wanted == *name);
    let row = |name: &EnvironmentName| {
        let known = view.environments.get(name).and_then(|environment| environment.registration.capacity);
        let known = known.map(|known| Capacity { cpus: known.cpus, memory_bytes: known.memory_bytes });
        let capacity = known.or_else(|| admin.usage.capacity(name));
        HostUsageRow { environment: name.to_string(), usage: admin.usage.host(name), capacity }
    };
    let hosts: Vec<HostUsageRow> = view.environments.keys().filter(asked).map(row).collect();
    let first = hosts.first().cloned();
    let (host, capacity) = first.map_or((None, None), |first| (first.usage, first.capacity));
    let list = UsageList { host, capacity, hosts, apps };
    Ok(json(StatusCode::OK, &list))
}
