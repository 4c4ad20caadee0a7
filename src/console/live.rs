//! One address, two answers: the page as a whole, and, for whoever asks for events, its live part again and again.
//!
//! Decides when a part is made anew: after an event of the entry, and every few seconds because ages and usage change
//! without one. A part that looks as before is not sent; a beat is, so that the page knows that what it shows is so.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use maud::{Markup, html};
use nbs_core::name::AppId;
use serde_json::json;

use super::Console;
use super::app::Memo;
use super::apps::Filter;
use super::door::Visitor;
use super::layout::{Fault, Page, Section, clock, read_only};
use super::scene::Scene;
use super::{app, apps, environments, queue};
use crate::admin::{Feeder, Format, Refused, follow};

/// Between two looks without an event.
const TICK: Duration = Duration::from_secs(3);
/// Between two looks at least: a storm of events costs no more than this.
const PAUSE: Duration = Duration::from_millis(250);

/// A page with a live part.
#[derive(Clone)]
pub(crate) enum Place {
    Apps(Filter),
    App(AppId),
    Environments,
    Queue,
}

/// Whether a request asks for events.
pub(crate) fn wanted(headers: &HeaderMap) -> bool {
    Format::of(headers) == Format::Events
}

/// Answers with the page, or with its part again and again.
pub(crate) async fn answer(
    console: Console,
    visitor: Visitor,
    headers: HeaderMap,
    place: Place,
) -> Result<Response, Fault> {
    if wanted(&headers) {
        let admin = console.api().admin().clone();
        let followed = follow(&admin, Format::Events, |feeder| stream(console, visitor, headers, place, feeder));
        return Ok(followed.map_err(Refused::from)?);
    }
    let scene = Scene::open(&console, &visitor, &headers).await?;
    let live = place.part(&scene, &mut Memo::default()).await?;
    let (section, title, fixed) = match &place {
        Place::Apps(filter) => (Section::Apps, "Applications", apps::fixed(&scene, filter)),
        Place::App(name) => (Section::Apps, name.as_str(), html! {}),
        Place::Environments => (Section::Environments, "Environments", html! {}),
        Place::Queue => (Section::Queue, "Start queue", html! {}),
    };
    Ok(Page { scene: &scene, section, title, fixed, live: Some(live) }.respond(StatusCode::OK))
}

impl Place {
    async fn part(&self, scene: &Scene, memo: &mut Memo) -> Result<Markup, Refused> {
        let part = match self {
            Self::Apps(filter) => apps::part(scene, filter).await?,
            Self::App(name) => app::part(scene, name, memo).await?,
            Self::Environments => environments::part(scene),
            Self::Queue => queue::part(scene).await?,
        };
        Ok(html! { (read_only(scene)) (part) })
    }
}

async fn stream(console: Console, visitor: Visitor, headers: HeaderMap, place: Place, feeder: Feeder) {
    let mut memo = Memo::default();
    let mut sent = String::new();
    loop {
        // Taken before the look, so that nothing is missed between the look and the wait.
        let admin = console.api().admin().clone();
        let changed = admin.entry.events_changed();
        let mut chunk = Vec::new();
        if !console.lasts(&visitor).await {
            Format::Events.write(&mut chunk, None, Some("signed-out"), &json!({}));
            feeder.send(chunk).await;
            return;
        }
        match look(&console, &visitor, &headers, &place, &mut memo).await {
            Ok((at, part)) if part == sent => {
                Format::Events.write(&mut chunk, None, Some("beat"), &json!({ "at": at }))
            }
            Ok((at, part)) => {
                Format::Events.write(&mut chunk, None, Some("part"), &json!({ "at": at, "html": part }));
                sent = part;
            }
            Err(problem) => {
                let text = json!({ "text": problem.detail, "gone": problem.status == 404 });
                Format::Events.write(&mut chunk, None, Some("trouble"), &text);
                sent.clear();
            }
        }
        if !feeder.send(chunk).await {
            return;
        }
        let waited = async {
            let _ = tokio::time::timeout(TICK, changed).await;
            tokio::time::sleep(PAUSE).await;
        };
        tokio::select! {
            () = waited => {}
            () = feeder.closed() => return,
        }
    }
}

async fn look(
    console: &Console,
    visitor: &Visitor,
    headers: &HeaderMap,
    place: &Place,
    memo: &mut Memo,
) -> Result<(String, String), Refused> {
    let scene = Scene::open(console, visitor, headers).await?;
    Ok((clock(&scene), place.part(&scene, memo).await?.into_string()))
}
