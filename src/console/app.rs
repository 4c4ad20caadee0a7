//! One application: its instances, why it is as it is, what it wrote last, and what was done with it.

use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use maud::{Markup, html};
use nbs_core::name::AppId;
use nbs_core::time::Mono;
use serde_json::Value;

use super::Console;
use super::apps::{actions, state};
use super::door::Visitor;
use super::layout::Fault;
use super::live::{self, Place};
use super::scene::Scene;
use super::show::{badge, operations, since, usage};
use crate::admin::Refused;
use crate::wire::api::app::{App, Instance};
use crate::wire::api::cause::Why;
use crate::wire::api::operation::OperationList;

/// Lines of the log on the page.
const LINES: usize = 40;
/// A log that is the journal is asked by starting a program, so it is not asked at every look.
const LOG_PAUSE: Duration = Duration::from_secs(10);
const OPERATIONS: usize = 10;

/// What a page that is followed keeps from look to look.
#[derive(Default)]
pub(crate) struct Memo {
    log: Option<(Mono, String, Markup)>,
}

/// The app that a path names.
pub(crate) fn named(text: &str) -> Result<AppId, Fault> {
    let shown: String = text.chars().take(80).collect();
    let wrong = |_| Fault::new(StatusCode::NOT_FOUND, format!("There is no application {shown:?}"), "");
    AppId::parse(text).map_err(wrong)
}

/// `GET /console/apps/{app}`.
pub(crate) async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Path(app): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    live::answer(console, visitor, headers, Place::App(named(&app)?)).await
}

/// All that is shown of it.
pub(crate) async fn part(scene: &Scene, name: &AppId, memo: &mut Memo) -> Result<Markup, Refused> {
    let path = format!("/api/v1/apps/{name}");
    let app: App = scene.get(&path).await?;
    let why: Why = scene.get(&format!("{path}/why")).await?;
    let done: OperationList = scene.get(&format!("/api/v1/operations?app={name}&limit={OPERATIONS}")).await?;
    let title = app.spec["title"].as_str().unwrap_or_default();
    Ok(html! {
        @if !title.is_empty() { p.title { (title) } }
        p { (badge(if app.removing { "removing" } else { &app.status })) " " span.faint { "wanted: " (app.intent) } }
        div.actions { (actions(scene, &app, &format!("/console/apps/{name}"))) }
        section {
            h2 { "Instances" }
            table {
                thead { tr {
                    th scope="col" { "Status" } th scope="col" { "Usage" } th scope="col" { "Version" }
                    th scope="col" { "Runs as" } th scope="col" { "Restarts" }
                } }
                tbody { @for instance in &app.instances { (row(scene, instance)) } }
            }
        }
        section {
            h2 { "Why it is so" }
            ol.causes { @for cause in &why.causes {
                li { (cause.text) @if let Some(remedy) = &cause.remedy { p.hint { (remedy) } } }
            } }
        }
        section { h2 { "Last lines of its log" } (log(scene, &app, memo).await) }
        section { h2 { "Operations" } (operations(&done.operations, false, scene.now)) }
        section { h2 { "Settings" } (settings(&app, scene)) }
    })
}

fn row(scene: &Scene, instance: &Instance) -> Markup {
    let unit = instance.unit.as_deref();
    html! {
        tr id={ "in-" (instance.environment) } {
            td data-label="Status" {
                (state(scene, instance))
                @for note in &instance.notes { p.hint { (note) } }
                @if let Some(local) = &instance.local {
                    p.hint {
                        "On its host " (local.actor) " asked for: " (local.action) ", "
                        (since(&local.at, scene.now)) " ago"
                    }
                }
            }
            td data-label="Usage" { (usage(instance.usage.as_ref())) }
            td data-label="Version" { (instance.version.as_deref().unwrap_or("–")) }
            td data-label="Runs as" {
                @if let Some(pid) = instance.pid {
                    @if let Some(unit) = unit { code { (unit) } ", " }
                    "process " (pid)
                    @if let Some(address) = &instance.address { ", at " code { (address) } }
                } @else { span.faint { "–" } }
            }
            td data-label="Restarts" { (instance.restarts) }
        }
    }
}

async fn log(scene: &Scene, app: &App, memo: &mut Memo) -> Markup {
    let now = scene.now.mono;
    if let Some((at, status, shown)) = &memo.log
        && now.since(*at) < LOG_PAUSE
        && *status == *app.status
    {
        return shown.clone();
    }
    let ended = app.instances.iter().filter(|instance| !instance.last_log.is_empty());
    let shown = match scene.log(&app.name, LINES).await {
        Ok(lines) if lines.is_empty() => html! { p.faint { "It wrote nothing yet." } },
        Ok(lines) => html! { pre tabindex="0" { @for line in &lines { (line.text) "\n" } } },
        Err(problem) => html! {
            p.faint { (problem.detail) }
            @if let Some(hint) = &problem.hint { p.hint { (hint) } }
            @for instance in ended {
                h3 { "Before its last end in " (instance.environment) }
                pre tabindex="0" { @for line in &instance.last_log { (line) "\n" } }
            }
        },
    };
    memo.log = Some((now, app.status.to_string(), shown.clone()));
    shown
}

fn settings(app: &App, scene: &Scene) -> Markup {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let list = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(", ");
    // A limit that is not set is null, and so is every secret.
    let rows = |key: &str, secret: bool| {
        let all = app.spec[key].as_object().into_iter().flatten();
        let set: Vec<_> = all.filter(|(_, value)| secret || !value.is_null()).collect();
        html! { @if !set.is_empty() {
            dt { (key) }
            dd { ul.plain { @for (name, value) in set { li {
                code { (name) } @if !secret { " = " code { (text(value)) } }
            } } } }
        } }
    };
    html! {
        dl {
            dt { "runtime" } dd { (text(&app.spec["runtime"])) }
            dt { "environments" } dd { (list(&app.spec["environments"])) }
            dt { "start mode" } dd { (text(&app.spec["start_mode"])) }
            dt { "generation" } dd { (app.generation) ", made " (since(&app.created_at, scene.now)) " ago" }
            (rows("env", false)) (rows("secrets", true)) (rows("limits", false)) (rows("labels", false))
        }
    }
}
