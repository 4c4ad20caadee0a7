//! The daemon itself: status at a glance, alive, ready.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use nbs_core::phase::Status;
use nbs_core::view::AppView;

use super::Admin;
use super::environments;
use super::input::json;
use crate::entry::FleetView;
use crate::wire::api::{daemon, environment, time};

/// Apps named in the overview; the list shows the rest.
const ATTENTION_MAX: usize = 20;

pub(crate) async fn status(State(admin): State<Admin>) -> Response {
    let view = admin.entry.view();
    let mut apps_by_status = BTreeMap::new();
    let mut attention = Vec::new();
    for app in view.apps.values() {
        *apps_by_status.entry(app.status.as_str().into()).or_insert(0) += 1;
        let bad = matches!(app.status, Status::Error | Status::Unknown);
        if bad && attention.len() < ATTENTION_MAX {
            let reason = reason(&admin, &view, app);
            let (app, status) = (app.spec.name.to_string(), app.status.as_str().into());
            attention.push(daemon::Attention { app, status, reason });
        }
    }
    let about = &admin.about;
    let uptime = admin.moment().wall.0.saturating_sub(about.started_at.0);
    let shown = daemon::Status {
        version: about.version.clone(),
        mode: about.mode.clone(),
        pid: std::process::id(),
        started_at: time(about.started_at),
        uptime_ms: uptime,
        ready: admin.is_ready(),
        read_only: read_only(&admin, &view),
        admin_socket: about.admin_socket.clone(),
        admin_listen: about.admin_listen.clone(),
        gateway_url: about.gateway_url.clone(),
        apps: view.apps.len(),
        apps_by_status,
        attention,
        operations_active: view.operations.values().filter(|operation| !operation.status.has_ended()).count(),
        queue: admin.start_queue().await.len(),
        environments: environments::all(&admin, &view),
    };
    json(StatusCode::OK, &shown)
}

/// Why an app is not well: its environment's silence, else what its worker says.
fn reason(admin: &Admin, view: &FleetView, app: &AppView) -> Option<String> {
    let silent = app.instances.iter().filter(|instance| instance.status == Status::Unknown);
    let silence = silent.filter_map(|instance| {
        let environment = view.environments.get(&instance.environment)?;
        let reason = environment::reason(environment, admin.moment())?;
        Some(format!("environment {}: {}", instance.environment, reason.text))
    });
    let told = app.instances.iter().filter_map(nbs_core::view::reason_of).map(|reason| reason.text.clone());
    silence.chain(told).next()
}

/// Why this daemon takes no commands, if so.
fn read_only(admin: &Admin, view: &FleetView) -> Option<String> {
    let worker = admin.local.as_ref().map(|hands| {
        let entry = hands.entry().map(|entry| format!(" at {entry}")).unwrap_or_default();
        format!("this is worker {}; its entry{entry} decides", hands.environment())
    });
    worker.or_else(|| view.read_only.as_ref().map(ToString::to_string))
}

/// Says that requests are answered; nothing of it is a secret, so it asks for no token.
pub(crate) async fn healthz() -> Response {
    plain(StatusCode::OK, "ok\n")
}

pub(crate) async fn readyz(State(admin): State<Admin>) -> Response {
    if admin.stop.is_cancelled() {
        plain(StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    } else if admin.is_ready() {
        plain(StatusCode::OK, "ready\n")
    } else {
        plain(StatusCode::SERVICE_UNAVAILABLE, "starting\n")
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}
