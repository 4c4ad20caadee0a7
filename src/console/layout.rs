//! The frame around every page, the sign-in, and what is said when something cannot be done.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use super::scene::Scene;

/// Time for a form to arrive.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Pages in the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Apps,
    Environments,
    Queue,
}

impl Section {
    const ALL: [(Self, &'static str, &'static str); 3] = [
        (Self::Apps, "/", "Applications"),
        (Self::Environments, "/console/environments", "Environments"),
        (Self::Queue, "/console/queue", "Queue"),
    ];
}

/// A page of somebody who was let in.
pub(crate) struct Page<'a> {
    pub scene: &'a Scene,
    pub section: Section,
    pub title: &'a str,
    /// What stays as it was sent.
    pub fixed: Markup,
    /// What is sent again whenever it looks different.
    pub live: Option<Markup>,
}

impl Page<'_> {
    /// The whole document.
    pub(crate) fn respond(self, status: StatusCode) -> Response {
        let scene = self.scene;
        let body = html! {
            header {
                a.skip href="#main" { "Skip to the content" }
                strong { "nbsupervisor" }
                nav aria-label="Pages" {
                    @for (section, path, name) in Section::ALL {
                        a href=(path) aria-current=[(section == self.section).then_some("page")] { (name) }
                    }
                }
                span.who { (scene.visitor.actor.name) }
                @if scene.visitor.session.is_some() {
                    form method="post" action="/console/sign-out" { (scene.form()) button.quiet { "Sign out" } }
                }
            }
            p #link role="status" hidden {}
            main #main tabindex="-1" {
                h1 { (self.title) }
                (self.fixed)
                @if let Some(live) = &self.live { div #live { (live) } } @else { (read_only(scene)) }
            }
            footer {
                p { "nbsupervisor " (scene.status.version) " (" (scene.status.mode) ")" }
                @if self.live.is_some() {
                    p { "As of " time #as-of { (clock(scene)) }
                        noscript { ". This page does not renew itself without a script: load it again." } }
                }
            }
        };
        let script = self.live.is_some();
        document(self.title, script, status, &body)
    }
}

/// The time of a look, as people read it.
pub(crate) fn clock(scene: &Scene) -> String {
    let text = crate::wire::api::time(scene.now.wall);
    let (day, time) = text.split_once('T').unwrap_or((&text, ""));
    format!("{day} {} UTC", time.get(..8).unwrap_or(time))
}

/// Why nothing can be changed here, if so.
pub(crate) fn read_only(scene: &Scene) -> Markup {
    html! {
        @if let Some(why) = &scene.status.read_only {
            p.notice { strong { "Nothing can be changed here: " } (why) "." }
        }
    }
}

fn document(title: &str, script: bool, status: StatusCode, body: &Markup) -> Response {
    let text = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · nbsupervisor" }
                link rel="icon" href="/console/icon.svg";
                link rel="stylesheet" href="/console/style.css";
                @if script { script type="module" src="/console/live.js" {} }
            }
            body { (body) }
        }
    };
    (status, Html(text.into_string())).into_response()
}

/// Where to go on.
pub(crate) fn see(path: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let path = HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static("/"));
    response.headers_mut().insert(header::LOCATION, path);
    response
}

/// The sign-in, with what was wrong with the last one.
pub(crate) fn sign_in(next: &str, wrong: Option<&str>) -> Response {
    let body = html! {
        main.narrow {
            h1 { "Sign in to nbsupervisor" }
            form method="post" action="/console/sign-in" {
                input type="hidden" name="next" value=(next);
                div.field {
                    label for="token" { "Admin token" }
                    p.hint #token-hint { "On the host, " code { "nbsupervisor token create NAME" } " makes one." }
                    @if let Some(wrong) = wrong { p.wrong #token-wrong role="alert" { (wrong) } }
                    input #token type="password" name="token" required autofocus autocomplete="current-password"
                        aria-describedby=(if wrong.is_some() { "token-wrong token-hint" } else { "token-hint" })
                        aria-invalid=[wrong.map(|_| "true")];
                }
                button.main { "Sign in" }
            }
        }
    };
    let status = if wrong.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    document("Sign in", false, status, &body)
}

/// `/console/…` that is no page.
pub(crate) async fn no_page() -> Fault {
    Fault::new(StatusCode::NOT_FOUND, "There is no such page", "the pages are Applications, Environments and Queue")
}

/// Something that cannot be done, as a page.
#[derive(Debug)]
pub(crate) struct Fault(Box<Said>);

#[derive(Debug)]
struct Said {
    status: StatusCode,
    detail: String,
    hint: String,
    back: String,
}

impl Fault {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self(Box::new(Said { status, detail: detail.into(), hint: hint.into(), back: "/".into() }))
    }

    /// Where the page leads back to.
    pub(crate) fn back(mut self, path: impl Into<String>) -> Self {
        self.0.back = path.into();
        self
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let said = *self.0;
        let body = html! {
            main.narrow {
                h1 { (said.status.canonical_reason().unwrap_or("Error")) }
                p.wrong role="alert" { (said.detail) }
                @if !said.hint.is_empty() { p.hint { (said.hint) } }
                p { a href=(said.back) { "Go back" } }
            }
        };
        document("Not done", false, said.status, &body)
    }
}
