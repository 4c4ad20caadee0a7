//! Operations and the start queue.

use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use nbs_core::id::{OperationId, Seq};
use nbs_core::view::OperationView;
use tokio::time::Instant;

use super::Admin;
use super::input::{Params, json};
use super::problem::Problem;
use crate::wire::api::operation::{Operation, OperationList};
use crate::wire::api::queue::{Queue, QueueEntry};

/// The longest a client may have an answer wait.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Between two looks at an operation that is committed and not yet in the view.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

const PAGE: usize = 50;
const PAGE_MAX: usize = 1000;

pub(crate) async fn list(
    State(admin): State<Admin>,
    Extension(params): Extension<Params>,
) -> Result<Response, Problem> {
    let limit = params.number("limit", PAGE, PAGE_MAX)?;
    let before = params.text("cursor").map(|text| {
        let wrong =
            || Problem::invalid("cursor", format!("{text:?} is no cursor"), "send next_cursor of the page before");
        text.parse().map(Seq).map_err(|_| wrong())
    });
    let app = params.app("app")?;
    let mut operations = admin.entry.record().operations(app, before.transpose()?, limit + 1).await?;
    let more = operations.len() > limit;
    operations.truncate(limit);
    let next_cursor = operations.last().filter(|_| more).map(|operation| operation.seq.to_string());
    let view = admin.entry.view();
    // The view knows how far an operation is; the record only what was committed of it.
    let newest =
        |operation: &OperationView| Operation::from(view.operations.get(&operation.id).map_or(operation, |o| o));
    let operations = operations.iter().map(newest).collect();
    Ok(json(StatusCode::OK, &OperationList { operations, next_cursor }))
}

pub(crate) async fn show(
    State(admin): State<Admin>,
    Extension(params): Extension<Params>,
    Path(text): Path<String>,
) -> Result<Response, Problem> {
    let wait = params.duration("wait")?.unwrap_or_default().min(WAIT_MAX);
    let unknown = || {
        let shown: String = text.chars().take(80).collect();
        Problem::not_found(format!("there is no operation {shown:?}"), "GET /api/v1/operations shows the newest")
    };
    let id = OperationId::parse(&text).ok_or_else(unknown)?;
    let until = Instant::now() + wait;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if let Some(operation) = admin.entry.wait_operation(id, left).await {
            return Ok(json(StatusCode::OK, &Operation::from(&*operation)));
        }
        let operation = admin.entry.record().operation(id).await?.ok_or_else(unknown)?;
        if operation.status.has_ended() || left.is_zero() {
            return Ok(json(StatusCode::OK, &Operation::from(&operation)));
        }
        tokio::time::sleep(LOOK_AGAIN.min(left)).await;
    }
}

pub(crate) async fn queue(State(admin): State<Admin>) -> Response {
    let queue = admin.start_queue().await.iter().map(QueueEntry::from).collect();
    json(StatusCode::OK, &Queue { queue })
}
