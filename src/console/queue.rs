//! The start queue, and what was done lately.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};

use super::Console;
use super::door::Visitor;
use super::layout::Fault;
use super::live::{self, Place};
use super::scene::Scene;
use super::show::{coarse, operations, since};
use crate::admin::Refused;
use crate::wire::api::operation::OperationList;
use crate::wire::api::queue::{Queue, QueueEntry};

const OPERATIONS: usize = 25;

/// `GET /console/queue`.
pub(crate) async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    live::answer(console, visitor, headers, Place::Queue).await
}

/// The queue, next first.
pub(crate) async fn part(scene: &Scene) -> Result<Markup, Refused> {
    let queue: Queue = scene.get("/api/v1/queue").await?;
    let done: OperationList = scene.get(&format!("/api/v1/operations?limit={OPERATIONS}")).await?;
    Ok(html! {
        @if queue.queue.is_empty() { p { "No start waits for its turn." } } @else {
            table {
                thead { tr {
                    th scope="col" { "Place" } th scope="col" { "Application" } th scope="col" { "Environment" }
                    th scope="col" { "Waits for" } th scope="col" { "Waiting" } th scope="col" { "Begins in about" }
                    th scope="col" { "Asked by" }
                } }
                tbody { @for entry in &queue.queue { (row(scene, entry)) } }
            }
        }
        section { h2 { "Latest operations" } (operations(&done.operations, true, scene.now)) }
    })
}

fn row(scene: &Scene, entry: &QueueEntry) -> Markup {
    let eta = entry.eta_ms.map(Duration::from_millis).map(coarse);
    html! {
        tr id={ "q-" (entry.app) "-" (entry.environment) } {
            td data-label="Place" { (entry.position) }
            th scope="row" data-label="Application" { a href={ "/console/apps/" (entry.app) } { (entry.app) } }
            td data-label="Environment" { (entry.environment) }
            td data-label="Waits for" {
                @if entry.waits_for == "slot" { "a free slot" } @else { (entry.waits_for) }
            }
            td data-label="Waiting" { (since(&entry.since, scene.now)) }
            td data-label="Begins in about" { (eta.as_deref().unwrap_or("not known")) }
            td data-label="Asked by" { (entry.priority) }
        }
    }
}
