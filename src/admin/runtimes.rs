//! Runtimes: what environments can run, and what is wrong with recipe files.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::Admin;
use super::input::json;
use crate::wire::api::runtime::{Runtime, RuntimeList};

pub(crate) async fn list(State(admin): State<Admin>) -> Response {
    let view = admin.entry.view();
    let mut runtimes: BTreeMap<&str, Runtime> = BTreeMap::new();
    for (environment, there) in &view.environments {
        for (name, summary) in &there.registration.runtimes {
            let runtime = runtimes.entry(name.as_str()).or_insert_with(|| Runtime::from(summary));
            runtime.environments.push(environment.to_string());
        }
    }
    let list = RuntimeList { runtimes: runtimes.into_values().collect(), problems: admin.runtimes.problems() };
    json(StatusCode::OK, &list)
}

/// Reads the recipe files again first.
pub(crate) async fn check(State(admin): State<Admin>) -> Response {
    admin.runtimes.refresh().await;
    list(State(admin)).await
}
