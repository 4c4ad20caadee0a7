//! What changes something: each form is one request to the API. What cannot be undone is asked for first, on a page.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use maud::{Markup, html};
use nbs_core::name::EnvironmentName;

use super::Console;
use super::app::named;
use super::door::{Posted, Visitor, own_page};
use super::layout::{self, Fault, Page, Section};
use super::scene::{Scene, ask};

/// `POST /console/apps/{app}/start`, `…/stop`, `…/restart`.
pub(crate) async fn command(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Path((app, action)): Path<(String, String)>,
    form: Posted,
) -> Result<Response, Fault> {
    let app = named(&app)?;
    let back = own_page(form.text("back"));
    if !matches!(&*action, "start" | "stop" | "restart") {
        return Err(layout::no_page().await);
    }
    let path = format!("/api/v1/apps/{app}/{action}");
    let done = ask(&console, &visitor, Method::POST, &path, None, None).await;
    done.map_err(|problem| Fault::from(problem).back(back))?;
    Ok(layout::see(back))
}

/// `GET /console/apps/{app}/remove`.
pub(crate) async fn ask_remove(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Path(app): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let (app, scene) = (named(&app)?, Scene::open(&console, &visitor, &headers).await?);
    let _: crate::wire::api::app::App = scene.get(&format!("/api/v1/apps/{app}")).await?;
    let asked = html! {
        p { "It is stopped in every environment and leaves the list. Its visitors are told that it does not exist." }
        label.choice {
            input type="checkbox" name="purge_data" value="true";
            " Remove its data on the hosts too. This cannot be undone."
        }
    };
    let question = Question { title: &format!("Remove {app}?"), asked, word: &format!("Remove {app}"), back: "/" };
    Ok(question.page(&scene, Section::Apps, &format!("/console/apps/{app}/remove")))
}

/// `POST /console/apps/{app}/remove`.
pub(crate) async fn remove(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Path(app): Path<String>,
    form: Posted,
) -> Result<Response, Fault> {
    let purge = if form.text("purge_data") == Some("true") { "?purge_data=true" } else { "" };
    let path = format!("/api/v1/apps/{}{purge}", named(&app)?);
    ask(&console, &visitor, Method::DELETE, &path, None, None).await?;
    Ok(layout::see("/"))
}

/// The environment that a path names.
fn environment(text: &str) -> Result<EnvironmentName, Fault> {
    let shown: String = text.chars().take(80).collect();
    let wrong = |_| Fault::new(StatusCode::NOT_FOUND, format!("There is no environment {shown:?}"), "");
    EnvironmentName::parse(text).map_err(wrong)
}

const ENVIRONMENTS: &str = "/console/environments";

/// `POST /console/environments/{environment}/drain`, `…/undrain`.
pub(crate) async fn govern(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Path((name, action)): Path<(String, String)>,
    _: Posted,
) -> Result<Response, Fault> {
    let name = environment(&name)?;
    if !matches!(&*action, "drain" | "undrain") {
        return Err(layout::no_page().await);
    }
    let path = format!("/api/v1/environments/{name}/{action}");
    let done = ask(&console, &visitor, Method::POST, &path, None, None).await;
    done.map_err(|problem| Fault::from(problem).back(ENVIRONMENTS))?;
    Ok(layout::see(ENVIRONMENTS))
}

/// `GET /console/environments/{environment}/forget`.
pub(crate) async fn ask_forget(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let (name, scene) = (environment(&name)?, Scene::open(&console, &visitor, &headers).await?);
    let asked = html! {
        p {
            "Do this only if its host is gone for good. What ran there is held to be gone: apps that wait for it start
            elsewhere, and if it does run on after all, an app may run twice."
        }
    };
    let (title, word) = (format!("Forget {name}?"), format!("Forget {name}"));
    let question = Question { title: &title, asked, word: &word, back: ENVIRONMENTS };
    Ok(question.page(&scene, Section::Environments, &format!("{ENVIRONMENTS}/{name}/forget")))
}

/// `POST /console/environments/{environment}/forget`.
pub(crate) async fn forget(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Path(name): Path<String>,
    _: Posted,
) -> Result<Response, Fault> {
    let path = format!("/api/v1/environments/{}", environment(&name)?);
    let done = ask(&console, &visitor, Method::DELETE, &path, None, None).await;
    done.map_err(|problem| Fault::from(problem).back(ENVIRONMENTS))?;
    Ok(layout::see(ENVIRONMENTS))
}

/// Something that is asked before it is done.
struct Question<'a> {
    title: &'a str,
    asked: Markup,
    word: &'a str,
    back: &'a str,
}

impl Question<'_> {
    fn page(self, scene: &Scene, section: Section, path: &str) -> Response {
        let fixed = html! {
            form method="post" action=(path) {
                (scene.form())
                (self.asked)
                div.actions {
                    @if scene.may_act() { button.danger { (self.word) } }
                    a.button.quiet href=(self.back) { "Cancel" }
                }
            }
        };
        Page { scene, section, title: self.title, fixed, live: None }.respond(StatusCode::OK)
    }
}
