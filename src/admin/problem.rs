//! The one place where an error becomes an HTTP status, a code, a field and a hint.
//!
//! | code | status |
//! | --- | --- |
//! | `invalid` `unknown_field` `runtime_unknown` | 400 |
//! | `unauthorized` 401 · `forbidden` 403 · `not_found` 404 (405 for a wrong method) · `too_large` 413 | |
//! | `already_exists` `conflict` `generation_conflict` | 409 |
//! | `precondition_required` | 428 |
//! | `internal` 500 · `environment_unavailable` `queue_full` 503 · `timeout` 504 · `storage_full` 507 | |

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use nbs_core::command::Denied;
use nbs_core::name::NameError;

use crate::entry::SubmitError;
use crate::ports::{LogError, RecordError};
use crate::wire::api::problem::{self, FieldProblem, PROBLEM_JSON};
use crate::wire::spec::FieldError;

/// An error on its way out. Boxed, as it is the rare case.
#[derive(Debug, Clone)]
pub struct Problem(Box<Body>);

#[derive(Debug, Clone)]
struct Body {
    status: StatusCode,
    code: &'static str,
    field: Option<String>,
    detail: String,
    hint: Option<String>,
    errors: Vec<FieldProblem>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
}

impl Problem {
    /// Any problem.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Body {
            status,
            code,
            field: None,
            detail: detail.into(),
            hint: None,
            errors: Vec::new(),
            headers: Vec::new(),
        }))
    }

    /// A field, parameter or header that does not fit.
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", detail).field(field).hint(hint)
    }

    /// A key that means nothing here.
    pub fn unknown(field: &str, known: &[&str]) -> Self {
        let hint = match known {
            [] => "nothing may be given here".to_string(),
            known => format!("known here: {}", known.join(", ")),
        };
        Self::new(StatusCode::BAD_REQUEST, "unknown_field", format!("there is no {field:?} here"))
            .field(field)
            .hint(hint)
    }

    /// Something that is not there.
    pub fn not_found(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail).hint(hint)
    }

    /// Names the field.
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// Says what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds a header; a value that HTTP does not allow is left out.
    pub fn header(mut self, name: header::HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers.push((name, value));
        }
        self
    }

    /// Its code, for the audit.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// Its detail, for tests.
    #[cfg(test)]
    pub fn detail(&self) -> &str {
        &self.0.detail
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        let (status, headers) = (self.0.status, std::mem::take(&mut self.0.headers));
        let text = serde_json::to_string(&problem::Problem::from(self)).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], text).into_response();
        response.headers_mut().extend(headers);
        response
    }
}

impl From<Problem> for problem::Problem {
    fn from(problem: Problem) -> Self {
        let body = *problem.0;
        Self {
            kind: "about:blank".into(),
            title: body.status.canonical_reason().unwrap_or("Error").into(),
            status: body.status.as_u16(),
            code: body.code.into(),
            field: body.field,
            detail: body.detail,
            hint: body.hint,
            errors: body.errors,
        }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let detail = denied.to_string();
        let conflict = |code| Self::new(StatusCode::CONFLICT, code, detail.clone());
        let unavailable = |code| Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail.clone());
        match denied {
            Denied::NotFound(_) => {
                Self::not_found(detail, "`nbsupervisor app list` (GET /api/v1/apps) shows what is there")
            }
            Denied::AlreadyExists(_) => {
                conflict("already_exists").field("name").hint("choose another name, or change the app that is there")
            }
            Denied::Removed(_) => conflict("already_exists")
                .field("name")
                .hint("add \"reuse\": true (--reuse) to use the name again, or choose another"),
            Denied::Removing(app) => conflict("conflict")
                .hint(format!("wait until it is gone (`nbsupervisor app list`), then create {app} anew with --reuse")),
            Denied::UnderWay { app, .. } => conflict("conflict").hint(format!(
                "wait for it (`nbsupervisor app show {app}`), or end it with `nbsupervisor app stop {app}`"
            )),
            Denied::KeySpent(_) => {
                conflict("conflict").field("Idempotency-Key").hint("look at the app; send a new key to ask again")
            }
            Denied::KeyReused => conflict("conflict").field("Idempotency-Key").hint("send a new key for a new request"),
            Denied::GenerationConflict { current, .. } => conflict("generation_conflict")
                .field("If-Match")
                .hint(format!("read the app again and repeat the change with If-Match: \"{current}\"")),
            Denied::RuntimeUnknown { nearest, .. } => {
                let hint = match nearest {
                    Some(nearest) => format!("did you mean {nearest}? `nbsupervisor runtime list` shows all"),
                    None => {
                        "`nbsupervisor runtime list` shows what there is, `nbsupervisor runtime check` what is wrong"
                            .into()
                    }
                };
                Self::new(StatusCode::BAD_REQUEST, "runtime_unknown", detail).field("runtime").hint(hint)
            }
            Denied::EnvironmentUnknown(_) => {
                Self::invalid("environments", detail, "`nbsupervisor env list` shows what there is")
            }
            Denied::EnvironmentUnavailable(_) => unavailable("environment_unavailable")
                .field("environments")
                .hint("`nbsupervisor env list` shows what is there; check that host, its daemon and the network"),
            Denied::EnvironmentDraining(name) => conflict("conflict")
                .field("environments")
                .hint(format!("name another environment, or `nbsupervisor env undrain {name}` first")),
            Denied::EnvironmentInUse(name) => conflict("conflict").hint(format!(
                "stop the daemon of {name} first; to keep new starts away from it, `nbsupervisor env drain {name}`"
            )),
            Denied::ReadOnly(_) => conflict("conflict").hint("ask the entry; `nbsupervisor status` names it"),
            Denied::Invalid { field, hint, .. } => Self::invalid(field, detail, hint),
            Denied::QueueFull(_) => unavailable("queue_full").hint("try again later").header(header::RETRY_AFTER, "5"),
        }
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        let unavailable = |code, detail: String| Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        match error {
            SubmitError::Busy => unavailable("queue_full", error.to_string())
                .hint("nothing was changed; try again")
                .header(header::RETRY_AFTER, "1"),
            SubmitError::Stopping => unavailable("environment_unavailable", error.to_string())
                .hint("try again once the daemon is back; the same Idempotency-Key makes that safe")
                .header(header::RETRY_AFTER, "5"),
            SubmitError::Record(error) => error.into(),
        }
    }
}

impl From<RecordError> for Problem {
    fn from(error: RecordError) -> Self {
        let detail = error.to_string();
        match error {
            RecordError::Full { .. } => Self::new(StatusCode::INSUFFICIENT_STORAGE, "storage_full", detail)
                .hint("nothing was changed; free some space under state_dir"),
            RecordError::Failed { .. } => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
                .hint("nothing was changed; see the daemon's log"),
        }
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        let detail = error.to_string();
        match error {
            LogError::NoTimes(_) => Self::invalid("since", detail, "ask for a number of lines instead"),
            LogError::NoCursors(_) => Self::invalid("cursor", detail, "ask for a number of lines instead"),
            LogError::BadCursor { .. } => Self::invalid("cursor", detail, "give back the cursor of a line as it was"),
            LogError::TooMany { .. } => Self::new(StatusCode::SERVICE_UNAVAILABLE, "queue_full", detail)
                .hint("end one, or ask without follow")
                .header(header::RETRY_AFTER, "5"),
            LogError::Failed { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).hint("see the daemon's log")
            }
        }
    }
}

impl From<Vec<FieldError>> for Problem {
    fn from(errors: Vec<FieldError>) -> Self {
        let shown: Vec<FieldProblem> = errors
            .iter()
            .map(|error| FieldProblem {
                code: error.code.into(),
                field: Some(error.field.clone()),
                detail: error.detail.clone(),
                hint: Some(error.hint.clone()),
            })
            .collect();
        let Some(first) = errors.into_iter().next() else {
            return Self::new(StatusCode::BAD_REQUEST, "invalid", "the spec is not valid");
        };
        let mut problem =
            Self::new(StatusCode::BAD_REQUEST, first.code, first.detail).field(first.field).hint(first.hint);
        if shown.len() > 1 {
            problem.0.errors = shown;
        }
        problem
    }
}

/// A name in a path or query that is none.
pub fn bad_name(field: &str, error: &NameError) -> Problem {
    Problem::invalid(field, format!("{:?} is not {}", error.value, error.kind), error.rule)
}

#[cfg(test)]
mod tests {
    use nbs_core::id::Generation;
    use nbs_core::id::OperationId;
    use nbs_core::name::{AppId, EnvironmentName, RuntimeName};

    use super::*;

    fn shown(problem: Problem) -> (u16, String, String) {
        let field = problem.0.field.clone().unwrap_or_default();
        (problem.0.status.as_u16(), problem.0.code.to_string(), field)
    }

    #[test]
    fn every_denial_has_its_status_and_code() {
        let app = || AppId::parse("crm").unwrap();
        let local = || EnvironmentName::parse("local").unwrap();
        let runtime = RuntimeName::parse("node").unwrap();
        let conflict = Denied::GenerationConflict { app: app(), current: Generation(4), given: Generation(3) };
        let invalid = Denied::Invalid { field: "env.A".into(), detail: "d".into(), hint: "h".into() };
        let unknown = Denied::RuntimeUnknown { runtime, environment: local(), nearest: None };
        let table = [
            (Denied::NotFound(app()), 404, "not_found", ""),
            (Denied::AlreadyExists(app()), 409, "already_exists", "name"),
            (Denied::Removed(app()), 409, "already_exists", "name"),
            (Denied::Removing(app()), 409, "conflict", ""),
            (Denied::UnderWay { app: app(), what: "upgraded" }, 409, "conflict", ""),
            (Denied::KeyReused, 409, "conflict", "Idempotency-Key"),
            (Denied::KeySpent(OperationId(7)), 409, "conflict", "Idempotency-Key"),
            (conflict, 409, "generation_conflict", "If-Match"),
            (unknown, 400, "runtime_unknown", "runtime"),
            (Denied::EnvironmentUnknown(local()), 400, "invalid", "environments"),
            (Denied::EnvironmentUnavailable(local()), 503, "environment_unavailable", "environments"),
            (Denied::EnvironmentDraining(local()), 409, "conflict", "environments"),
            (Denied::EnvironmentInUse(local()), 409, "conflict", ""),
            (Denied::ReadOnly("another entry reigns".into()), 409, "conflict", ""),
            (invalid, 400, "invalid", "env.A"),
            (Denied::QueueFull(9), 503, "queue_full", ""),
        ];
        for (denied, status, code, field) in table {
            let problem = Problem::from(denied.clone());
            assert!(problem.0.hint.is_some(), "{denied}: no hint");
            assert_eq!(shown(problem), (status, code.to_string(), field.to_string()), "{denied}");
        }
    }

    #[test]
    fn the_nearest_runtime_is_named() {
        let name = |text| RuntimeName::parse(text).unwrap();
        let environment = EnvironmentName::parse("local").unwrap();
        let denied = Denied::RuntimeUnknown { runtime: name("nod"), environment, nearest: Some(name("node")) };
        assert!(Problem::from(denied).0.hint.is_some_and(|hint| hint.contains("did you mean node?")));
    }

    #[test]
    fn a_full_disk_and_a_full_queue_are_told_apart() {
        let full = RecordError::Full { file: "/x/record".into() };
        let failed = RecordError::Failed { operation: "write", file: "/x".into(), cause: "EIO".into() };
        assert_eq!(shown(SubmitError::Record(full).into()).0, 507);
        assert_eq!(shown(SubmitError::Record(failed).into()).1, "internal");
        let busy = Problem::from(SubmitError::Busy);
        assert_eq!(busy.0.headers[0].0, header::RETRY_AFTER);
        assert_eq!(shown(busy).1, "queue_full");
        assert_eq!(shown(SubmitError::Stopping.into()).0, 503);
    }

    #[test]
    fn several_errors_are_all_listed_and_the_first_leads() {
        let error =
            |field: &str| FieldError { code: "invalid", field: field.into(), detail: "d".into(), hint: "h".into() };
        let two = Problem::from(vec![error("a"), error("b")]);
        assert_eq!((two.0.errors.len(), two.0.field.as_deref()), (2, Some("a")));
        assert!(Problem::from(vec![error("a")]).0.errors.is_empty());
    }
}
