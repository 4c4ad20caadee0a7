//! What apps wrote.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use nbs_core::time::Wall;
use tokio::sync::mpsc;

use super::Admin;
use super::apps::find;
use super::feed::{Feeder, Format, KEEP_ALIVE, follow, whole};
use super::input::Params;
use super::problem::Problem;
use crate::ports::{self, LogQuery};
use crate::wire::api::log::LogLine;
use crate::wire::api::{parse_time, time};

const LINES: usize = 100;
/// Lines in one answer; with long lines still some megabytes.
const LINES_MAX: usize = 10_000;
/// Lines written in one go while many wait.
const BATCH: usize = 64;

pub(crate) async fn logs(
    State(admin): State<Admin>,
    Extension(params): Extension<Params>,
    Path(app): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (name, app) = find(&admin, &app)?;
    let since = since(&admin, &params)?;
    let after = params.text("cursor").map(String::from);
    if since.is_some() && after.is_some() {
        let detail = "since and cursor both say where to begin";
        return Err(Problem::invalid("cursor", detail, "give one of them"));
    }
    let default = if since.is_some() || after.is_some() { LINES_MAX } else { LINES };
    let query = LogQuery { lines: params.number("lines", default, LINES_MAX)?, since, after };
    if let Some(environment) = params.environment("environment")?
        && !app.spec.environments.contains(&environment)
    {
        let detail = format!("{name} is not placed in environment {environment}");
        let places: Vec<_> = app.spec.environments.iter().map(|place| place.as_str()).collect();
        return Err(Problem::not_found(detail, format!("it is in {}", places.join(", "))).field("environment"));
    }
    let format = Format::of(&headers);
    if !params.flag("follow")? {
        let mut text = Vec::new();
        for line in admin.logs.tail(&name, &query).await? {
            format.write(&mut text, None, None, &shown(line));
        }
        return Ok(whole(format, text));
    }
    let waiting = admin.logs.follow(&name, &query).await?;
    follow(&admin, format, |feeder| stream(feeder, format, waiting))
}

/// `since` is a moment, or a duration back from now.
fn since(admin: &Admin, params: &Params) -> Result<Option<Wall>, Problem> {
    let Some(text) = params.text("since") else { return Ok(None) };
    if let Some(wall) = parse_time(text) {
        return Ok(Some(wall));
    }
    match params.duration("since") {
        Ok(back) => {
            let back = back.unwrap_or_default().as_millis();
            Ok(Some(Wall(admin.moment().wall.0.saturating_sub(u64::try_from(back).unwrap_or(u64::MAX)))))
        }
        Err(_) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "invalid",
            format!("{text:?} is neither a moment nor a duration"),
        )
        .field("since")
        .hint("write 10m, or 2026-11-21T03:00:00Z")),
    }
}

fn shown(line: ports::LogLine) -> LogLine {
    LogLine { at: line.at.map(time), text: line.text, cursor: line.cursor }
}

async fn stream(feeder: Feeder, format: Format, mut waiting: mpsc::Receiver<ports::LogLine>) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        // `recv_many` is cancel-safe: lines are taken only when it wins.
        let chunk = tokio::select! {
            count = waiting.recv_many(&mut batch, BATCH) => {
                if count == 0 {
                    return;
                }
                let mut chunk = Vec::new();
                for line in batch.drain(..) {
                    format.write(&mut chunk, None, None, &shown(line));
                }
                chunk
            }
            () = feeder.closed() => return,
            () = tokio::time::sleep(KEEP_ALIVE) => format.keep_alive().unwrap_or_default().to_vec(),
        };
        if !feeder.send(chunk).await {
            return;
        }
    }
}
