//! What apps wrote.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use nbs_core::name::EnvironmentName;
use nbs_core::time::Wall;
use nbs_core::view::AppView;
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
    is_here(&admin, &app, params.environment("environment")?)?;
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

/// Whether the log that is meant is on this host: that of the instance that was named, else of the one that is here.
fn is_here(admin: &Admin, app: &AppView, named: Option<EnvironmentName>) -> Result<(), Problem> {
    let name = &app.spec.name;
    let places: Vec<&EnvironmentName> = app.instances.iter().map(|instance| &instance.environment).collect();
    if let Some(stranger) = named.as_ref().filter(|named| !places.contains(named)) {
        let detail = format!("{name} is not placed in environment {stranger}");
        let places: Vec<_> = places.iter().map(|place| place.as_str()).collect();
        return Err(Problem::not_found(detail, format!("it is in {}", places.join(", "))).field("environment"));
    }
    let view = admin.entry.view();
    let is_local = |place: &EnvironmentName| match &admin.local {
        Some(hands) => hands.environment() == *place,
        None => view.environments.get(place).is_some_and(|environment| environment.is_local),
    };
    let elsewhere = match &named {
        Some(named) => Some(named).filter(|named| !is_local(named)),
        None if places.iter().any(|place| is_local(place)) => None,
        None => places.first().copied(),
    };
    let Some(place) = elsewhere else { return Ok(()) };
    let host = view.environments.get(place).map(|environment| environment.registration.host.clone());
    let host = host.filter(|host| !host.is_empty()).unwrap_or_else(|| format!("the host of {place}"));
    let detail = format!("the log of {name} in environment {place} is kept on that host, not here");
    let hint = format!("on {host}: `nbsupervisor app logs {name}`");
    Err(Problem::not_found(detail, hint).field("environment"))
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
