//! The list of applications.

use std::time::Duration;

use axum::Extension;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use nbs_core::phase::Status;
use serde::Deserialize;

use super::Console;
use super::door::Visitor;
use super::layout::Fault;
use super::live::{self, Place};
use super::scene::{Scene, encode};
use super::show::{badge, coarse, reason, since, usage};
use crate::admin::Refused;
use crate::wire::api::app::{App, AppList, Instance};

/// Apps on one page.
const PAGE: usize = 100;
/// An instance that was heard longer ago than this says so: a worker speaks every few seconds.
const FRESH_MS: u64 = 10_000;

/// What the list is narrowed to.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Filter {
    #[serde(default)]
    q: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    environment: String,
    #[serde(default)]
    cursor: String,
}

impl Filter {
    fn query(&self, cursor: &str) -> String {
        let keys = [("q", &*self.q), ("status", &self.status), ("environment", &self.environment), ("cursor", cursor)];
        let given = keys.iter().filter(|(_, value)| !value.is_empty());
        given.map(|(key, value)| format!("&{key}={}", encode(value))).collect()
    }

    fn narrows(&self) -> bool {
        !(self.q.is_empty() && self.status.is_empty() && self.environment.is_empty())
    }
}

/// `GET /`.
pub(crate) async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Query(filter): Query<Filter>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    live::answer(console, visitor, headers, Place::Apps(filter)).await
}

/// The search, and the way to a new app.
pub(crate) fn fixed(scene: &Scene, filter: &Filter) -> Markup {
    let option = |value: &str, chosen: &str| html! { option value=(value) selected[value == chosen] { (value) } };
    html! {
        div.bar {
            form.search method="get" action="/" role="search" {
                label { "Name or title " input type="search" name="q" value=(filter.q); }
                label { "Status " select name="status" {
                    option value="" { "any" }
                    @for status in Status::ALL.iter().filter(|status| **status != Status::NotFound) {
                        (option(status.as_str(), &filter.status))
                    }
                } }
                @if scene.status.environments.len() > 1 {
                    label { "Environment " select name="environment" {
                        option value="" { "any" }
                        @for environment in &scene.status.environments {
                            (option(&environment.name, &filter.environment))
                        }
                    } }
                }
                button.quiet { "Search" }
                @if filter.narrows() { a href="/" { "Show all" } }
            }
            @if scene.may_act() { a.button.main href="/console/apps/new" { "Create an application" } }
        }
    }
}

/// The list itself.
pub(crate) async fn part(scene: &Scene, filter: &Filter) -> Result<Markup, Refused> {
    let list: AppList = scene.get(&format!("/api/v1/apps?limit={PAGE}{}", filter.query(&filter.cursor))).await?;
    let counts = &scene.status.apps_by_status;
    Ok(html! {
        p.summary {
            (scene.status.apps) " " (if scene.status.apps == 1 { "application" } else { "applications" })
            @for (status, count) in counts { " · " a href={ "/?status=" (status) } { (count) " " (status) } }
            @if scene.status.queue > 0 {
                " · " a href="/console/queue" { (scene.status.queue) " in the start queue" }
            }
        }
        @if list.apps.is_empty() { (none(scene, filter)) } @else {
            table {
                thead { tr {
                    th scope="col" { "Application" } th scope="col" { "Runtime" } th scope="col" { "Status" }
                    th scope="col" { "Usage" } th scope="col" { "Actions" }
                } }
                tbody { @for app in &list.apps { (row(scene, app)) } }
            }
            @if let Some(next) = &list.next_cursor {
                @let query = filter.query(next);
                p { a rel="next" href={ "/?" (query.trim_start_matches('&')) } { "Next page" } }
            }
        }
    })
}

fn none(scene: &Scene, filter: &Filter) -> Markup {
    html! {
        @if filter.narrows() { p { "No application fits." } }
        @else if scene.may_act() {
            p { "There is no application yet. " a href="/console/apps/new" { "Create the first one" } "." }
        } @else { p { "There is no application here." } }
    }
}

fn row(scene: &Scene, app: &App) -> Markup {
    let title = app.spec["title"].as_str().unwrap_or_default();
    html! {
        tr id={ "app-" (app.name) } {
            th scope="row" data-label="Application" {
                a href={ "/console/apps/" (app.name) } { (app.name) }
                @if !title.is_empty() { p.hint { (title) } }
            }
            td data-label="Runtime" { (app.spec["runtime"].as_str().unwrap_or_default()) }
            td data-label="Status" {
                @if app.removing { p { (badge("removing")) } }
                @for instance in &app.instances { (state(scene, instance)) }
            }
            td data-label="Usage" { @for instance in &app.instances { p { (usage(instance.usage.as_ref())) } } }
            td.actions data-label="Actions" { (actions(scene, app, "/")) }
        }
    }
}

/// How an app is in one environment: never better than what is known, and since when that is known.
pub(crate) fn state(scene: &Scene, instance: &Instance) -> Markup {
    let age = instance.age_ms.filter(|age| *age > FRESH_MS || instance.status == "unknown");
    html! {
        div.state {
            (badge(&instance.status)) " "
            span.where { (instance.environment) } " "
            span.faint { "for " (since(&instance.since, scene.now)) }
            @if let Some(last) = &instance.last_status { span.faint { ", was " (last) } }
            @if let Some(age) = age {
                span.faint { ", last heard " (coarse(Duration::from_millis(age))) " ago" }
            }
            @if instance.leaving { span.faint { ", is being moved away" } }
            @if let Some(progress) = &instance.progress { p.hint { (progress) } }
            @if let Some(why) = &instance.reason { (reason(why)) }
        }
    }
}

/// What can be done with an app, for whoever may. Each has an identity, so that no button becomes another one under a
/// finger when the page is renewed.
pub(crate) fn actions(scene: &Scene, app: &App, back: &str) -> Markup {
    let stopped = app.intent == "stop";
    let idle = app.instances.iter().all(|instance| instance.pid.is_none());
    let failed = app.status == "error";
    let command = |action: &str, word: &str| {
        html! {
            form id={ (action) "-" (app.name) } method="post" action={ "/console/apps/" (app.name) "/" (action) } {
                (scene.form())
                input type="hidden" name="back" value=(back);
                button.quiet aria-label={ (word) " " (app.name) } { (word) }
            }
        }
    };
    html! {
        @if let Some(url) = scene.visit(app) {
            a.button.quiet id={ "visit-" (app.name) } href=(url) target="_blank" rel="noopener noreferrer"
                aria-label={ "Visit " (app.name) } { "Visit" }
        }
        @if scene.may_act() && !app.removing {
            @if app.intent != "run" || failed { (command("start", "Start")) }
            @if !idle { (command("restart", "Restart")) }
            @if !stopped { (command("stop", "Stop")) }
            @let question = format!("/console/apps/{}/remove", app.name);
            a.button.quiet id={ "remove-" (app.name) } href=(question) aria-label={ "Remove " (app.name) } { "Remove" }
        }
    }
}
