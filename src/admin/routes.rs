//! The table of all routes. The router, the check of queries and the OpenAPI document are made from it, so that none of
//! them can know a route that the others do not.

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, delete, get, patch, post};

use super::problem::Problem;
use super::{Admin, apps, daemon, environments, events, guard, logs, openapi, operations, runtimes, tokens};

/// A route.
pub(crate) struct Route {
    /// `GET`, …
    pub method: &'static str,
    /// Path with `{…}`.
    pub path: &'static str,
    /// One line for the document.
    pub summary: &'static str,
    /// Query keys, each with one line.
    pub query: &'static [(&'static str, &'static str)],
    /// Schema of the body, if it takes one.
    pub body: Option<&'static str>,
    /// Status and schema of each good answer, `A|B` for one of the two; no schema means no JSON.
    pub answers: &'static [(u16, Option<&'static str>)],
    mount: fn() -> MethodRouter<Admin>,
}

impl Route {
    /// The query keys that it knows.
    pub fn known(&self) -> Vec<&'static str> {
        self.query.iter().map(|(key, _)| *key).collect()
    }

    /// Whether its answer may wait on purpose.
    pub fn waits(&self) -> bool {
        self.query.iter().any(|(key, _)| *key == "wait")
    }
}

const OPERATION: &[(u16, Option<&str>)] = &[(202, Some("Operation")), (200, Some("Operation"))];
/// A command that a worker takes as a local one, too.
const OR_LOCAL: &[(u16, Option<&str>)] = &[(202, Some("Operation|LocalCommand")), (200, Some("Operation"))];

/// Every route.
#[rustfmt::skip]
pub(crate) const ROUTES: &[Route] = &[
    Route { method: "GET", path: "/api/v1/apps", summary: "Apps, by name", body: None,
        query: &[("environment", "placed there"), ("status", "in this status"), ("q", "name or title contains it"),
            ("limit", "apps in the answer, 1000 if absent"), ("cursor", "next_cursor of the page before")],
        answers: &[(200, Some("AppList"))], mount: || get(apps::list) },
    Route { method: "POST", path: "/api/v1/apps", summary: "Make an app", query: &[], body: Some("NewApp"),
        answers: &[(201, Some("App"))], mount: || post(apps::create) },
    Route { method: "GET", path: "/api/v1/apps/{app}", summary: "One app", query: &[], body: None,
        answers: &[(200, Some("App"))], mount: || get(apps::show) },
    Route { method: "PATCH", path: "/api/v1/apps/{app}", summary: "Change an app's spec; needs If-Match", query: &[],
        body: Some("Spec"), answers: &[(200, Some("App"))], mount: || patch(apps::change) },
    Route { method: "DELETE", path: "/api/v1/apps/{app}", summary: "Stop and remove an app", body: None,
        query: &[("purge_data", "true: remove its data too")], answers: OPERATION, mount: || delete(apps::remove) },
    Route { method: "POST", path: "/api/v1/apps/{app}/start", summary: "Run an app", query: &[],
        body: Some("Asked"), answers: OPERATION, mount: || post(apps::command) },
    Route { method: "POST", path: "/api/v1/apps/{app}/stop", summary: "Stop an app until it is started again", query: &[],
        body: Some("Asked"), answers: OR_LOCAL, mount: || post(apps::command) },
    Route { method: "POST", path: "/api/v1/apps/{app}/restart", summary: "Stop and start an app", query: &[],
        body: Some("Asked"), answers: OR_LOCAL, mount: || post(apps::command) },
    Route { method: "POST", path: "/api/v1/apps/{app}/upgrade", query: &[], body: Some("Asked"), answers: OPERATION,
        summary: "Stop an app everywhere, run its recipe's upgrade steps once, and start it", mount: || post(apps::command) },
    Route { method: "POST", path: "/api/v1/apps/{app}/rotate-secret", query: &[], body: Some("Rotation"), answers: OPERATION,
        summary: "Give an app another secret of its own, from its next start on", mount: || post(apps::rotate_secret) },
    Route { method: "POST", path: "/api/v1/apps/{app}/move", query: &[], body: Some("Move"),
        summary: "Have an app run elsewhere; back to where it was if it does not become ready",
        answers: &[(202, Some("Operation")), (200, Some("Operation|MovePlan"))], mount: || post(apps::relocate) },
    Route { method: "GET", path: "/api/v1/apps/{app}/logs", summary: "What an app wrote: NDJSON, or SSE by Accept", body: None,
        query: &[("follow", "true: go on"), ("lines", "lines from the end, 100 if absent"),
            ("since", "a moment, or a duration back"), ("cursor", "lines after the one with this cursor"),
            ("environment", "of this instance")],
        answers: &[(200, None)], mount: || get(logs::logs) },
    Route { method: "GET", path: "/api/v1/apps/{app}/why", summary: "Why an app is as it is", query: &[], body: None,
        answers: &[(200, Some("Why"))], mount: || get(apps::why) },
    Route { method: "GET", path: "/api/v1/operations", summary: "Operations, newest first", body: None,
        query: &[("app", "of this app"), ("limit", "operations in the answer, 50 if absent"),
            ("cursor", "next_cursor of the page before")],
        answers: &[(200, Some("OperationList"))], mount: || get(operations::list) },
    Route { method: "GET", path: "/api/v1/operations/{id}", summary: "One operation", body: None,
        query: &[("wait", "answer when it has ended, or after this long (at most 60s)")],
        answers: &[(200, Some("Operation"))], mount: || get(operations::show) },
    Route { method: "GET", path: "/api/v1/environments", summary: "Environments, by name", query: &[], body: None,
        answers: &[(200, Some("EnvironmentList"))], mount: || get(environments::list) },
    Route { method: "GET", path: "/api/v1/environments/{env}", summary: "One environment", query: &[], body: None,
        answers: &[(200, Some("Environment"))], mount: || get(environments::show) },
    Route { method: "DELETE", path: "/api/v1/environments/{env}", body: None, query: &[],
        summary: "Strike an environment off that is gone for good; what was there is held to be gone",
        answers: &[(204, None)], mount: || delete(environments::forget) },
    Route { method: "POST", path: "/api/v1/environments/{env}/drain", body: None, query: &[],
        summary: "Give an environment no new starts; what runs there runs on",
        answers: &[(200, Some("EnvironmentChange"))], mount: || post(environments::drain) },
    Route { method: "POST", path: "/api/v1/environments/{env}/undrain", body: None, query: &[],
        summary: "Give a drained environment starts again",
        answers: &[(200, Some("EnvironmentChange"))], mount: || post(environments::undrain) },
    Route { method: "GET", path: "/api/v1/runtimes", summary: "Runtimes, and what is wrong with recipe files", query: &[],
        body: None, answers: &[(200, Some("RuntimeList"))], mount: || get(runtimes::list) },
    Route { method: "POST", path: "/api/v1/runtimes/check", summary: "Read the recipe files again", query: &[],
        body: None, answers: &[(200, Some("RuntimeList"))], mount: || post(runtimes::check) },
    Route { method: "GET", path: "/api/v1/queue", summary: "The start queue", query: &[], body: None,
        answers: &[(200, Some("Queue"))], mount: || get(operations::queue) },
    Route { method: "GET", path: "/api/v1/events", summary: "Events, newest last; a stream as SSE by Accept", body: None,
        query: &[("since", "after the event of this number"), ("app", "about this app"),
            ("limit", "events in the answer, 100 if absent")],
        answers: &[(200, Some("EventList"))], mount: || get(events::list) },
    Route { method: "GET", path: "/api/v1/usage", summary: "What apps and the host use", body: None,
        query: &[("app", "of this app"), ("environment", "there")],
        answers: &[(200, Some("UsageList"))], mount: || get(environments::usage) },
    Route { method: "GET", path: "/api/v1/status", summary: "The daemon at a glance", query: &[], body: None,
        answers: &[(200, Some("Status"))], mount: || get(daemon::status) },
    Route { method: "GET", path: "/api/v1/tokens", summary: "Tokens, by name", query: &[], body: None,
        answers: &[(200, Some("TokenList"))], mount: || get(tokens::list) },
    Route { method: "POST", path: "/api/v1/tokens", summary: "Make a token; its text is shown once", query: &[],
        body: Some("NewToken"), answers: &[(201, Some("Token"))], mount: || post(tokens::create) },
    Route { method: "DELETE", path: "/api/v1/tokens/{name}", summary: "Revoke a token", query: &[], body: None,
        answers: &[(204, None)], mount: || delete(tokens::revoke) },
    Route { method: "GET", path: "/api/v1/openapi.json", summary: "This document", query: &[], body: None,
        answers: &[(200, None)], mount: || get(openapi::document) },
    Route { method: "GET", path: "/healthz", summary: "Whether requests are answered; asks for no token", query: &[], body: None,
        answers: &[(200, None)], mount: || get(daemon::healthz) },
    Route { method: "GET", path: "/readyz", summary: "Whether the daemon is ready; asks for no token", query: &[], body: None,
        answers: &[(200, None)], mount: || get(daemon::readyz) },
];

/// The route of a method and a path as it stands in the table. HEAD is answered like GET.
pub(crate) fn find(method: &str, path: &str) -> Option<&'static Route> {
    let method = if method == "HEAD" { "GET" } else { method };
    ROUTES.iter().find(|route| route.method == method && route.path == path)
}

/// The routes for callers who are known: each request has an `Actor` in its extensions.
pub(crate) fn open(admin: &Admin) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        router = router.route(route.path, (route.mount)());
    }
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn(guard::prepare))
        // `input::body` has the limit, and tells it as a problem.
        .layer(DefaultBodyLimit::disable())
        .with_state(admin.clone())
}

/// The router with its guard.
pub(crate) fn router(admin: &Admin) -> Router {
    open(admin).layer(from_fn_with_state(admin.clone(), guard::guard))
}

async fn no_route(request: Request) -> Problem {
    let path: String = request.uri().path().chars().take(200).collect();
    Problem::not_found(format!("there is no {path:?} here"), "GET /api/v1/openapi.json lists every route")
}

async fn no_method(request: Request) -> Problem {
    let detail = format!("{} is not possible here", request.method());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "not_found", detail)
        .hint("GET /api/v1/openapi.json lists every route with its methods")
}
