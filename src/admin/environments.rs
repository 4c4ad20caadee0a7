//! Environments, and what they use.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use nbs_core::name::{EnvironmentName, RuntimeName};
use nbs_core::view::EnvironmentView;

use super::Admin;
use super::input::{Params, json};
use super::problem::Problem;
use crate::entry::FleetView;
use crate::wire::api::environment::{Environment, EnvironmentList};
use crate::wire::api::usage::{AppUsageRow, UsageList};

/// The version that the apps of a runtime agree on, by environment.
type Versions = BTreeMap<EnvironmentName, BTreeMap<RuntimeName, Option<String>>>;

pub(crate) async fn list(State(admin): State<Admin>) -> Response {
    json(StatusCode::OK, &EnvironmentList { environments: all(&admin, &admin.entry.view()) })
}

/// Every environment, with the figures of this host where it is this host's.
pub(crate) fn all(admin: &Admin, view: &FleetView) -> Vec<Environment> {
    let versions = versions(view);
    view.environments.values().map(|environment| shown(admin, environment, &versions)).collect()
}

pub(crate) async fn show(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Response, Problem> {
    let view = admin.entry.view();
    let Some(environment) = view.environments.get(name.as_str()) else {
        let name: String = name.chars().take(80).collect();
        let detail = format!("there is no environment {name:?}");
        return Err(Problem::not_found(
            detail,
            "`nbsupervisor env list` (GET /api/v1/environments) shows what is there",
        ));
    };
    Ok(json(StatusCode::OK, &shown(&admin, environment, &versions(&view))))
}

fn shown(admin: &Admin, environment: &EnvironmentView, versions: &Versions) -> Environment {
    let none = BTreeMap::new();
    let versions = versions.get(&environment.registration.environment).unwrap_or(&none);
    let mut shown = Environment::of(environment, versions, admin.moment());
    let name = &environment.registration.environment;
    shown.capacity = admin.usage.capacity(name);
    shown.usage = admin.usage.host(name);
    shown
}

/// One pass over all apps: a version counts if all of a runtime's apps there report the same.
fn versions(view: &FleetView) -> Versions {
    let mut versions = Versions::new();
    for app in view.apps.values() {
        for instance in &app.instances {
            let Some(version) = instance.report.as_ref().and_then(|report| report.version.as_ref()) else { continue };
            let here = versions.entry(instance.environment.clone()).or_default();
            here.entry(app.spec.runtime.clone())
                .and_modify(|known| {
                    if known.as_ref() != Some(version) {
                        *known = None;
                    }
                })
                .or_insert_with(|| Some(version.clone()));
        }
    }
    versions
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
    let host = environment.or_else(|| Some(view.environments.keys().next()?.clone()));
    let (capacity, host) = match &host {
        Some(host) => (admin.usage.capacity(host), admin.usage.host(host)),
        None => (None, None),
    };
    let list = UsageList { host, capacity, apps };
    Ok(json(StatusCode::OK, &list))
}
