//! Events: a page of the past, or a stream that goes on from where the client was.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use nbs_core::name::AppId;
use nbs_core::view::EventView;

use super::Admin;
use super::feed::{Feeder, Format, KEEP_ALIVE, follow};
use super::input::{Params, json};
use super::problem::Problem;
use crate::wire::api::event::{Event, EventList};

const PAGE: usize = 100;
const PAGE_MAX: usize = 1000;
/// Between two tries to read a record that cannot be read.
const RETRY: Duration = Duration::from_secs(1);

pub(crate) async fn list(
    State(admin): State<Admin>,
    Extension(params): Extension<Params>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let app = params.app("app")?;
    let limit = params.number("limit", PAGE, PAGE_MAX)?;
    let since = params.text("since").map(|text| number("since", text)).transpose()?;
    if Format::of(&headers) == Format::Events {
        let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
        let last = last.map(|text| number("Last-Event-ID", text)).transpose()?;
        // A stream without a beginning begins now.
        let from = last.or(since).unwrap_or_else(|| newest(&admin));
        return follow(&admin, Format::Events, |feeder| stream(admin.clone(), feeder, app, from));
    }
    let events: Vec<Event> = match since {
        Some(since) => after(&admin, app.as_ref(), since, limit).await?.iter().map(Event::from).collect(),
        None => {
            let view = admin.entry.view();
            let about = |event: &&std::sync::Arc<EventView>| app.is_none() || event.app == app;
            let mut events: Vec<Event> =
                view.events.iter().rev().filter(about).take(limit).map(|event| Event::from(&**event)).collect();
            events.reverse();
            events
        }
    };
    Ok(json(StatusCode::OK, &EventList { events }))
}

fn number(field: &str, text: &str) -> Result<u64, Problem> {
    text.parse().map_err(|_| {
        Problem::invalid(
            field,
            format!("{text:?} is not the number of an event"),
            "send the seq of the last event you have",
        )
    })
}

fn newest(admin: &Admin) -> u64 {
    admin.entry.view().events.last().map_or(0, |event| event.seq)
}

/// Events after `since`, oldest first: from memory if it reaches back so far, else from the record.
async fn after(admin: &Admin, app: Option<&AppId>, since: u64, limit: usize) -> Result<Vec<EventView>, Problem> {
    let view = admin.entry.view();
    let in_memory = view.events.front().is_none_or(|oldest| oldest.seq <= since.saturating_add(1));
    if !in_memory {
        return Ok(admin.entry.record().events(app.cloned(), since, limit).await?);
    }
    let about =
        |event: &&std::sync::Arc<EventView>| event.seq > since && app.is_none_or(|app| event.app.as_ref() == Some(app));
    Ok(view.events.iter().filter(about).take(limit).map(|event| (**event).clone()).collect())
}

async fn stream(admin: Admin, feeder: Feeder, app: Option<AppId>, mut from: u64) {
    // A number from before the record was made anew would wait for ever.
    let mut resync = from > newest(&admin);
    if resync {
        from = newest(&admin);
    }
    loop {
        // Taken before the look, so that nothing is missed between the look and the wait.
        let changed = admin.entry.events_changed();
        let Ok(events) = after(&admin, app.as_ref(), from, PAGE_MAX).await else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        let gap = app.is_none() && from > 0 && events.first().is_some_and(|event| event.seq > from + 1);
        let mut chunk = Vec::new();
        if resync || gap {
            chunk.extend_from_slice(b"event: resync\ndata: {}\n\n");
            resync = false;
        }
        for event in &events {
            Format::Events.write(&mut chunk, Some(event.seq), Some(&event.kind), &Event::from(event));
        }
        from = events.last().map_or(from, |event| event.seq);
        if !feeder.send(chunk).await {
            return;
        }
        if events.len() == PAGE_MAX {
            continue;
        }
        tokio::select! {
            () = changed => {}
            () = feeder.closed() => return,
            () = tokio::time::sleep(KEEP_ALIVE) => {
                let alive = Format::Events.keep_alive().unwrap_or_default();
                if !feeder.send(alive.to_vec()).await {
                    return;
                }
            }
        }
    }
}
