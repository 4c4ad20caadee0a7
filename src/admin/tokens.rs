//! Tokens for TCP: make one (its text is shown once), list, revoke.

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use nbs_core::name::EnvironmentName;
use serde_json::Value;

use super::Admin;
use super::auth::{Actor, hash};
use super::change::{Subject, audit, random_text};
use super::input::{self, json};
use super::problem::Problem;
use crate::ports::TokenRow;
use crate::wire::api::time;
use crate::wire::api::token::{Token, TokenList};

pub(crate) async fn list(State(admin): State<Admin>) -> Result<Response, Problem> {
    let mut rows = admin.entry.record().tokens().await?;
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let tokens = rows.iter().map(|row| shown(row, None)).collect();
    Ok(json(StatusCode::OK, &TokenList { tokens }))
}

pub(crate) async fn create(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let map = input::object(&input::body(&headers, body).await?)?;
    let (name, role) = read(&map)?;
    let token = format!("nbs_{}", random_text()?);
    let row = TokenRow { name: name.clone(), hash: hash(&token), role, created_at: admin.moment().wall };
    let added = admin.entry.record().add_token(row.clone()).await;
    admin.tokens().forget();
    let outcome = match &added {
        Ok(true) => "done",
        Ok(false) => "already_exists",
        Err(_) => "failed",
    };
    audit(&actor, "token_create", Subject::Token(&name), outcome, "");
    if !added? {
        return Err(Problem::new(StatusCode::CONFLICT, "already_exists", format!("there is a token {name} already"))
            .field("name")
            .hint("choose another name, or revoke it first"));
    }
    let mut response = json(StatusCode::CREATED, &shown(&row, Some(token)));
    if let Ok(location) = format!("/api/v1/tokens/{name}").parse() {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Name and role out of a body. Names follow the rule of environment names.
fn read(map: &serde_json::Map<String, Value>) -> Result<(String, String), Problem> {
    if let Some(key) = map.keys().find(|key| !matches!(key.as_str(), "name" | "role")) {
        return Err(Problem::unknown(key, &["name", "role"]));
    }
    let rule = "use a letter or digit, then at most 62 of A-Z, a-z, 0-9, _, . and -";
    let name = match map.get("name") {
        Some(Value::String(name)) if EnvironmentName::parse(name).is_ok() => name.clone(),
        Some(other) => return Err(Problem::invalid("name", format!("{other} is not a token's name"), rule)),
        None => return Err(Problem::invalid("name", "a token needs a name", rule)),
    };
    match map.get("role") {
        None | Some(Value::Null) => {}
        Some(Value::String(role)) if role == "admin" => {}
        Some(other) => {
            return Err(Problem::invalid("role", format!("{other} is not a role"), "write \"admin\", or leave it out"));
        }
    }
    Ok((name, "admin".into()))
}

pub(crate) async fn revoke(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let removed = admin.entry.record().remove_token(name.clone()).await;
    admin.tokens().forget();
    let outcome = match &removed {
        Ok(true) => "done",
        Ok(false) => "not_found",
        Err(_) => "failed",
    };
    let shown: String = name.chars().take(80).collect();
    audit(&actor, "token_revoke", Subject::Token(&shown), outcome, "");
    if !removed? {
        return Err(Problem::not_found(format!("there is no token {shown:?}"), "`nbsupervisor token list` shows all"));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn shown(row: &TokenRow, token: Option<String>) -> Token {
    Token { name: row.name.clone(), role: row.role.clone(), created_at: time(row.created_at), token }
}
