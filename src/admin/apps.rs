//! Apps: list, show, create, change, remove, start, stop, restart, upgrade, move, rotate-secret, why.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::Response;
use axum::{Extension, body::Bytes};
use nbs_core::command::{Action, Denied};
use nbs_core::explain::explain;
use nbs_core::id::Generation;
use nbs_core::name::{AppId, EnvironmentName};
use nbs_core::order::LocalAction;
use nbs_core::secret::SecretText;
use nbs_core::spec::{AppSpec, ProxyChoice};
use nbs_core::view::{AppView, EnvironmentView, InstanceView};
use serde_json::{Map, Value};

use super::Admin;
use super::auth::Actor;
use super::change::{Answer, Change, Decided, idempotency, random_text};
use super::input::{self, Params, json, path_app};
use super::local;
use super::page::{At, Filter, Page};
use super::problem::Problem;
use crate::wire::api::app::App;
use crate::wire::api::cause::Why;
use crate::wire::api::operation::{MovePlan, Operation};
use crate::wire::api::usage::AppUsage;
use crate::wire::spec::{parse_spec, patch_spec};

/// Apps in one page, if the client names no number: a host's worth.
pub(crate) const PAGE: usize = 1000;
/// Apps in one page at most; 5,000 are about 5 MB.
pub(crate) const PAGE_MAX: usize = 5000;
/// Operations looked at to find who set the intent.
const OPERATIONS_FOR_WHY: usize = 50;
/// The view follows the commit at once; this is only a bound.
const VIEW_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) async fn list(
    State(admin): State<Admin>,
    Extension(params): Extension<Params>,
) -> Result<Response, Problem> {
    let filter = Filter::of(&params)?;
    let limit = params.number("limit", PAGE, PAGE_MAX)?;
    let after = params.app("cursor")?.map_or(Bound::Unbounded, Bound::Excluded);
    let page =
        Page { view: admin.entry.view(), now: admin.moment(), admin, filter, after, left: limit, place: At::Begin };
    let mut response = Response::new(Body::new(page));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

pub(crate) async fn show(State(admin): State<Admin>, Path(app): Path<String>) -> Result<Response, Problem> {
    let (_, app) = find(&admin, &app)?;
    Ok(answer(&admin, StatusCode::OK, &app, None))
}

pub(crate) async fn create(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    admin.decides()?;
    let bytes = input::body(&headers, body).await?;
    let key = idempotency(&headers, "POST", &uri, &bytes)?;
    let mut map = input::object(&bytes)?;
    let reuse = match map.remove("reuse") {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Bool(true)) => true,
        Some(other) => {
            return Err(Problem::invalid("reuse", format!("{other} is neither true nor false"), "write true or false"));
        }
    };
    let spec = parse_spec(&Value::Object(map), &admin.defaults)?;
    let name = spec.name.clone();
    let action = Action::Create {
        spec: Arc::new(spec),
        jwt: SecretText::new(random_text()?),
        db_secret: SecretText::new(random_text()?),
        reuse,
    };
    let decided = Change { admin: &admin, actor: &actor, key }.submit(name.clone(), action, None).await?;
    match admin.entry.wait_app(&name, VIEW_TIMEOUT, |app| app.is_some()).await {
        Some(app) => {
            let mut response = answer(&admin, StatusCode::CREATED, &app, Some(&decided));
            let location = HeaderValue::from_str(&format!("/api/v1/apps/{name}"));
            response.headers_mut().extend(location.map(|value| (header::LOCATION, value)));
            Ok(response)
        }
        // A repeated request whose app was removed in the meantime: the operation is all there is to show.
        None => Ok(decided.respond()),
    }
}

pub(crate) async fn change(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Path(app): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    admin.decides()?;
    let given = input::if_match(&headers)?;
    let bytes = input::body(&headers, body).await?;
    let key = idempotency(&headers, "PATCH", &uri, &bytes)?;
    let patch = Value::Object(input::object(&bytes)?);
    let (name, _) = find(&admin, &app)?;
    let app = caught_up(&admin, &name, given).await?;
    // A view that is ahead is the entry's to refuse (or to know the key of); one that is behind must not be the base.
    if app.generation < given {
        return Err(Denied::GenerationConflict { app: name, current: app.generation, given }.into());
    }
    let spec = Arc::new(patch_spec(&app.spec, &patch, &admin.defaults)?);
    let action = Action::Update { spec, if_match: given, db_secret: SecretText::new(random_text()?) };
    let decided = Change { admin: &admin, actor: &actor, key }.submit(name.clone(), action, None).await?;
    let shown = |app: Option<&AppView>| app.is_none_or(|app| decided.already || app.generation > given);
    match admin.entry.wait_app(&name, VIEW_TIMEOUT, shown).await {
        Some(app) => Ok(answer(&admin, StatusCode::OK, &app, Some(&decided))),
        None => Ok(decided.respond()),
    }
}

/// The app once the view has the generation that the client saw, which is usually now.
async fn caught_up(admin: &Admin, name: &AppId, given: Generation) -> Result<Arc<AppView>, Problem> {
    let there = |app: Option<&AppView>| app.is_none_or(|app| app.generation >= given);
    let app = admin.entry.wait_app(name, VIEW_TIMEOUT / 2, there).await;
    app.ok_or_else(|| Denied::NotFound(name.clone()).into())
}

pub(crate) async fn remove(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Extension(params): Extension<Params>,
    Path(app): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let action = Action::Remove { purge_data: params.flag("purge_data")? };
    let key = idempotency(&headers, "DELETE", &uri, b"")?;
    let decided = Change { admin: &admin, actor: &actor, key }.submit(path_app(&app)?, action, None).await?;
    Ok(decided.respond())
}

/// `POST /apps/{app}/start`, `…/stop`, `…/restart`, `…/upgrade`: the last part of the path is the action.
pub(crate) async fn command(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Path(app): Path<String>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let bytes: Bytes = input::body(&headers, body).await?;
    let key = idempotency(&headers, method.as_str(), &uri, &bytes)?;
    let asked = input::asked(&bytes)?;
    let (action, local) = match uri.path().rsplit('/').next() {
        Some("start") => (Action::Start, None),
        Some("stop") => (Action::Stop, Some(LocalAction::Stop)),
        Some("upgrade") => (Action::Upgrade, None),
        _ => (Action::Restart, Some(LocalAction::Restart)),
    };
    if asked.local {
        return local::command(&admin, &actor, &path_app(&app)?, local, asked.environments);
    }
    let change = Change { admin: &admin, actor: &actor, key };
    Ok(change.submit(path_app(&app)?, action, asked.environments).await?.respond())
}

/// `POST /apps/{app}/rotate-secret`.
pub(crate) async fn rotate_secret(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Path(app): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let bytes: Bytes = input::body(&headers, body).await?;
    let key = idempotency(&headers, "POST", &uri, &bytes)?;
    let fields = input::optional(&bytes, &["restart"])?;
    let restart = input::flag(&fields, "restart")?;
    let action = Action::RotateSecret { jwt: SecretText::new(random_text()?), restart };
    let change = Change { admin: &admin, actor: &actor, key };
    Ok(change.submit(path_app(&app)?, action, None).await?.respond())
}

/// `POST /apps/{app}/move`.
pub(crate) async fn relocate(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Path(app): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    admin.decides()?;
    let bytes: Bytes = input::body(&headers, body).await?;
    let key = idempotency(&headers, "POST", &uri, &bytes)?;
    let mut fields = input::optional(&bytes, &["environments", "hosting", "dry_run"])?;
    let dry_run = input::flag(&fields, "dry_run")?;
    fields.remove("dry_run");
    if fields.is_empty() {
        let hint = "name the environments it is to run in, such as {\"environments\": [\"env_b\"]}";
        return Err(Problem::invalid("environments", "the request does not say where the app is to go", hint));
    }
    let (name, app) = find(&admin, &app)?;
    let spec = Arc::new(moved(&app, fields, &admin)?);
    let action = Action::Move { spec, if_match: app.generation, dry_run };
    let change = Change { admin: &admin, actor: &actor, key };
    match change.ask(name.clone(), action, None).await? {
        Answer::Decided(decided) => Ok(decided.respond()),
        Answer::Planned(steps) => Ok(json(StatusCode::OK, &MovePlan { app: name.to_string(), dry_run: true, steps })),
    }
}

/// The spec with the app elsewhere. What it says of environments that the app leaves goes with them.
fn moved(app: &AppView, fields: Map<String, Value>, admin: &Admin) -> Result<AppSpec, Problem> {
    let mut patch = Value::Object(fields);
    let named: Vec<String> = match patch.get("environments").and_then(Value::as_array) {
        Some(names) => names.iter().filter_map(|name| name.as_str().map(str::to_string)).collect(),
        None => return Ok(patch_spec(&app.spec, &patch, &admin.defaults)?),
    };
    let stays = |name: &EnvironmentName| named.iter().any(|other| other == name.as_str());
    for left in app.spec.placements.keys().filter(|name| !stays(name)) {
        patch["placements"][left.as_str()] = Value::Null;
    }
    if matches!(&app.spec.proxy.choice, ProxyChoice::Environment(name) if !stays(name)) {
        patch["proxy"]["choice"] = Value::Null;
    }
    Ok(patch_spec(&app.spec, &patch, &admin.defaults)?)
}

pub(crate) async fn why(State(admin): State<Admin>, Path(app): Path<String>) -> Result<Response, Problem> {
    let (name, app) = find(&admin, &app)?;
    let view = admin.entry.view();
    let mut operations = admin.entry.record().operations(Some(name), None, OPERATIONS_FOR_WHY).await?;
    for operation in &mut operations {
        if let Some(newer) = view.operations.get(&operation.id) {
            *operation = (**newer).clone();
        }
    }
    let queue = admin.start_queue().await;
    let environments: Vec<&EnvironmentView> = view.environments.values().map(AsRef::as_ref).collect();
    let causes = explain(&app, &operations, &queue, &environments, admin.moment());
    Ok(json(StatusCode::OK, &Why::of(&app, causes)))
}

/// The app of that name.
pub(crate) fn find(admin: &Admin, name: &str) -> Result<(AppId, Arc<AppView>), Problem> {
    let name = path_app(name)?;
    match admin.entry.view().apps.get(&name) {
        Some(app) => Ok((name, app.clone())),
        None => Err(Denied::NotFound(name).into()),
    }
}

/// What an instance uses; nothing if it has no process.
pub(crate) fn usage(admin: &Admin, app: &AppId, instance: &InstanceView) -> Option<AppUsage> {
    instance.report.as_ref().filter(|report| report.pid.is_some())?;
    admin.usage.app(&instance.environment, app)
}

/// An app with its generation as entity tag, which `If-Match` takes.
fn answer(admin: &Admin, status: StatusCode, app: &AppView, decided: Option<&Decided>) -> Response {
    let view = admin.entry.view();
    let environment = |name: &nbs_core::name::EnvironmentName| view.environments.get(name).map(AsRef::as_ref);
    let mut shown = App::of(app, |instance| usage(admin, &app.spec.name, instance), environment, admin.moment());
    shown.operation = decided.map(|decided| Operation::from(&decided.operation));
    let mut response = json(status, &shown);
    let tag = HeaderValue::from_str(&format!("\"{}\"", app.generation));
    response.headers_mut().extend(tag.map(|tag| (header::ETAG, tag)));
    response
}
