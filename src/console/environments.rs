//! The environments: where apps can run, how they are reached, and when they were last heard.

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
use super::show::{badge, coarse, host, reason};
use crate::wire::api::environment::Environment;

/// `GET /console/environments`.
pub(crate) async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    live::answer(console, visitor, headers, Place::Environments).await
}

/// The list.
pub(crate) fn part(scene: &Scene) -> Markup {
    let environments = &scene.status.environments;
    html! {
        @if environments.is_empty() { p { "No environment has joined yet." } } @else {
            table {
                thead { tr {
                    th scope="col" { "Environment" } th scope="col" { "Status" } th scope="col" { "Version" }
                    th scope="col" { "Reached at" } th scope="col" { "Usage" } th scope="col" { "Instances" }
                    th scope="col" { "Actions" }
                } }
                tbody { @for environment in environments { (row(scene, environment)) } }
            }
        }
        p.hint { "On the entry, " code { "nbsupervisor env add NAME" } " prints the files that make a new worker." }
    }
}

fn row(scene: &Scene, environment: &Environment) -> Markup {
    html! {
        tr id={ "env-" (environment.name) } {
            th scope="row" data-label="Environment" {
                a href={ "/?environment=" (environment.name) } { (environment.name) }
                p.hint { (environment.host) @if environment.local { ", this daemon" } }
            }
            td data-label="Status" {
                (badge(&environment.status)) " "
                span.faint {
                    "heard "
                    time datetime=(environment.last_heartbeat_at) title=(environment.last_heartbeat_at) {
                        (coarse(Duration::from_millis(environment.lease_age_ms)))
                    }
                    " ago"
                }
                @if let Some(why) = &environment.reason { (reason(why)) }
            }
            td data-label="Version" { (environment.version) }
            td data-label="Reached at" { (reached(environment)) }
            td data-label="Usage" { (host(environment)) }
            td data-label="Instances" {
                (environment.instances)
                span.faint { ", starts " (environment.concurrent_starts) " at a time" }
                p.hint { @for runtime in &environment.runtimes {
                    (runtime.name) @if let Some(version) = &runtime.version { " " (version) } " "
                } }
            }
            td.actions data-label="Actions" { (actions(scene, environment)) }
        }
    }
}

fn reached(environment: &Environment) -> Markup {
    html! {
        @if let Some(url) = &environment.url { code { (url) } } @else { span.faint { "–" } }
        @if let Some(url) = &environment.proxy_url { p { "visitors: " code { (url) } } }
        @match environment.proxy_reachable {
            Some(true) => p.hint { "the entry reaches it" },
            Some(false) => {
                p.reason { "the entry does not reach it" }
                @if let Some(why) = &environment.proxy_error { p.hint { (why) } }
            },
            None => {},
        }
    }
}

fn actions(scene: &Scene, environment: &Environment) -> Markup {
    let name = &environment.name;
    let command = |action: &str, word: &str| {
        html! {
            form id={ (action) "-" (name) } method="post" action={ "/console/environments/" (name) "/" (action) } {
                (scene.form())
                button.quiet aria-label={ (word) " " (name) } { (word) }
            }
        }
    };
    html! {
        @if scene.may_act() {
            @if environment.draining { (command("undrain", "Undrain")) } @else { (command("drain", "Drain")) }
            @if environment.status == "unavailable" {
                @let question = format!("/console/environments/{name}/forget");
                a.button.quiet id={ "forget-" (name) } href=(question) aria-label={ "Forget " (name) } { "Forget" }
            }
        }
    }
}
