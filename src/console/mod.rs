//! The web console: pages on the admin's listeners, for people.
//!
//! A request's way: `door` (who is it, and did they mean it) → a page of `apps`, `app`, `create`, `environments` or
//! `queue`, or a change in `act` → `layout`. What a page shows and does it asks of the API (`scene`), so the console can
//! do what every other client can, and nothing more. Each page has one part that `live` sends again whenever it looks
//! different; without a script the same pages work by being loaded again.
//!
//! Deliberately absent: decisions, validation and audit (the API's), and anything that is loaded from elsewhere.

mod act;
mod app;
mod apps;
mod assets;
mod create;
mod door;
mod environments;
mod layout;
mod live;
mod queue;
mod scene;
mod session;
mod show;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get, post};
use nbs_core::limits::BODY_MAX;

use crate::admin::{Admin, Inside};

/// The room. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Console {
    inner: Arc<Inner>,
}

struct Inner {
    api: Inside,
    sessions: session::Sessions,
    /// Stands in the forms of those who need no session.
    form: session::Secret,
}

/// The pages of a daemon, to be merged with the admin's routes.
pub fn router(admin: Admin) -> Router {
    let inner =
        Inner { api: Inside::new(admin), sessions: session::Sessions::default(), form: session::Secret::random() };
    let console = Console { inner: Arc::new(inner) };
    Router::new()
        .route("/", get(apps::page))
        .route("/console/apps", post(create::submit))
        .route("/console/apps/new", get(create::page))
        .route("/console/apps/{app}", get(app::page))
        .route("/console/apps/{app}/remove", get(act::ask_remove).post(act::remove))
        .route("/console/apps/{app}/{action}", post(act::command))
        .route("/console/environments", get(environments::page))
        .route("/console/environments/{environment}/forget", get(act::ask_forget).post(act::forget))
        .route("/console/environments/{environment}/{action}", post(act::govern))
        .route("/console/queue", get(queue::page))
        .route("/console/sign-out", post(door::sign_out))
        .route("/console/{*rest}", any(layout::no_page))
        .route_layer(from_fn_with_state(console.clone(), door::guard))
        .route("/console/sign-in", get(door::sign_in_page).post(door::sign_in))
        .route("/console/style.css", get(assets::style))
        .route("/console/live.js", get(assets::script))
        .route("/console/icon.svg", get(assets::icon))
        .layer(axum::middleware::map_response(door::harden))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(console)
}

impl Console {
    fn api(&self) -> &Inside {
        &self.inner.api
    }

    fn sessions(&self) -> &session::Sessions {
        &self.inner.sessions
    }

    fn form(&self) -> &session::Secret {
        &self.inner.form
    }
}
