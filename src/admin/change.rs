//! Everything that changes something: one command to the entry, one audit line, one answer.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::Response;
use nbs_core::command::{Action, ActionKind, Command, Denied, IdempotencyKey, Verdict};
use nbs_core::id::OperationId;
use nbs_core::name::{AppId, EnvironmentName};
use nbs_core::view::OperationView;
use sha2::{Digest, Sha256};

use super::auth::Actor;
use super::input::json;
use super::problem::Problem;
use super::{Admin, environments};
use crate::wire::api::operation::Operation;

/// Letters of an idempotency key; a UUID has 36.
const KEY_MAX: usize = 200;
/// Time to look at the recipe files before a command; then it is decided with those known.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(5);

/// A change in the making.
pub(crate) struct Change<'a> {
    /// The room.
    pub admin: &'a Admin,
    /// Who asks.
    pub actor: &'a Actor,
    /// What makes it safe to send twice.
    pub key: Option<IdempotencyKey>,
}

impl Change<'_> {
    /// Has it decided.
    ///
    /// # Errors
    /// It was denied, or no verdict was reached.
    pub async fn submit(
        self,
        app: AppId,
        action: Action,
        environments: Option<Vec<EnvironmentName>>,
    ) -> Result<Decided, Problem> {
        match self.ask(app, action, environments).await? {
            Answer::Decided(decided) => Ok(decided),
            Answer::Planned(_) => {
                Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the command was only planned"))
            }
        }
    }

    /// Has it decided, or only told what would happen.
    ///
    /// # Errors
    /// As `submit`.
    pub async fn ask(
        self,
        app: AppId,
        action: Action,
        environments: Option<Vec<EnvironmentName>>,
    ) -> Result<Answer, Problem> {
        self.admin.decides()?;
        if matches!(
            action.kind(),
            ActionKind::Create
                | ActionKind::Update
                | ActionKind::Start
                | ActionKind::Restart
                | ActionKind::Upgrade
                | ActionKind::Move
        ) {
            let _ = tokio::time::timeout(REFRESH_TIMEOUT, self.admin.runtimes.refresh()).await;
        }
        let id = OperationId::from_parts(self.admin.moment().wall.0, u128::from_ne_bytes(random()?));
        let kind = action.kind();
        let actor = self.actor.name.clone();
        let command = Command { app: app.clone(), action, actor, id, idempotency: self.key, environments };
        let (admin, actor) = (self.admin.clone(), self.actor.clone());
        // A task of its own: a client that leaves early is audited all the same.
        let decided = tokio::spawn(async move {
            let decided = match admin.entry.submit(command).await {
                Ok(Verdict::Accepted(operation)) => Ok(Answer::Decided(Decided { operation, already: false })),
                Ok(Verdict::Planned(lines)) => Ok(Answer::Planned(lines)),
                Ok(Verdict::Repeated(operation)) => Err(Problem::from(Denied::KeySpent(operation))),
                Ok(Verdict::AlreadySo(operation)) => Ok(Answer::Decided(Decided { operation, already: true })),
                Ok(Verdict::Denied(denied)) => Err(environments::denied(&admin, denied)),
                Err(error) => Err(Problem::from(error)),
            };
            let outcome = match &decided {
                Ok(Answer::Planned(_)) => "planned",
                Ok(Answer::Decided(decided)) if decided.already => "already_so",
                Ok(Answer::Decided(_)) => "accepted",
                Err(problem) => problem.code(),
            };
            let operation = match &decided {
                Ok(Answer::Decided(decided)) => decided.operation.id.to_string(),
                Ok(Answer::Planned(_)) | Err(_) => String::new(),
            };
            audit(&actor, kind.as_str(), Subject::App(app.as_str()), outcome, &operation);
            decided
        });
        decided
            .await
            .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the command was lost"))?
    }
}

/// What the entry answered.
pub(crate) enum Answer {
    /// It was decided.
    Decided(Decided),
    /// It would be accepted; what would happen, a sentence each.
    Planned(Vec<String>),
}

/// What came of it.
pub(crate) struct Decided {
    /// The operation.
    pub operation: OperationView,
    /// Whether there was nothing to do.
    pub already: bool,
}

impl Decided {
    /// 202 and the operation, or 200 if it was so already.
    pub fn respond(&self) -> Response {
        let status = if self.already { StatusCode::OK } else { StatusCode::ACCEPTED };
        let mut response = json(status, &Operation::from(&self.operation));
        let location = format!("/api/v1/operations/{}", self.operation.id);
        if let Ok(location) = location.parse() {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}

/// What a change was about. Only an app is logged as `app`: in the journal that field says whose line it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject<'a> {
    App(&'a str),
    Environment(&'a str),
    Token(&'a str),
}

/// One line for each change: who, from where, what, and what came of it.
pub(crate) fn audit(actor: &Actor, action: &str, subject: Subject<'_>, outcome: &str, operation: &str) {
    let (app, environment, token, name) = match subject {
        Subject::App(name) => (Some(name), None, None, name),
        Subject::Environment(name) => (None, Some(name), None, name),
        Subject::Token(name) => (None, None, Some(name), name),
    };
    let operation = Some(operation).filter(|operation| !operation.is_empty());
    tracing::info!(
        target: "nbsupervisor::audit",
        actor = %actor.name, peer = %actor.peer, action, app, environment, token, outcome, operation,
        "{action} {name} by {}: {outcome}", actor.name
    );
}

/// Reads the `Idempotency-Key`, and joins to it what the request was.
pub(crate) fn idempotency(
    headers: &HeaderMap,
    method: &str,
    uri: &Uri,
    body: &[u8],
) -> Result<Option<IdempotencyKey>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let good = |text: &&str| !text.is_empty() && text.len() <= KEY_MAX && text.bytes().all(|b| b.is_ascii_graphic());
    let Some(key) = value.to_str().ok().filter(good) else {
        let detail = format!("the key must be 1 to {KEY_MAX} visible ASCII letters");
        return Err(Problem::invalid("Idempotency-Key", detail, "send a new UUID for each request"));
    };
    let mut hash = Sha256::new();
    for part in [method.as_bytes(), uri.path_and_query().map_or("", |path| path.as_str()).as_bytes(), body] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    Ok(Some(IdempotencyKey { key: key.into(), request: hash.finalize().into() }))
}

/// Random bytes of the system.
///
/// # Errors
/// The system has none, which a booted Linux does not do.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Problem> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        let detail = format!("the system gives no random bytes: {error}");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    })?;
    Ok(bytes)
}

/// 256 random bits in hexadecimal.
///
/// # Errors
/// As `random`.
pub(crate) fn random_text() -> Result<String, Problem> {
    use std::fmt::Write as _;
    Ok(random::<32>()?.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_with_another_request_is_told_apart() {
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", "k1".parse().unwrap());
        let of = |method, path: &str, body: &[u8]| {
            idempotency(&headers, method, &path.parse().unwrap(), body).unwrap().unwrap().request
        };
        let first = of("POST", "/apps", b"{}");
        assert_eq!(first, of("POST", "/apps", b"{}"));
        assert_ne!(first, of("POST", "/apps", b"{ }"));
        assert_ne!(first, of("POST", "/apps?x", b"{}"));
        assert_ne!(first, of("PUT", "/apps", b"{}"));
    }

    #[test]
    fn a_key_must_be_short_and_visible() {
        let long = "x".repeat(201);
        for bad in ["", "a b", &long] {
            let mut headers = HeaderMap::new();
            headers.insert("idempotency-key", bad.parse().unwrap());
            assert!(idempotency(&headers, "POST", &"/".parse().unwrap(), b"").is_err(), "{bad:?}");
        }
        assert!(idempotency(&HeaderMap::new(), "POST", &"/".parse().unwrap(), b"").unwrap().is_none());
    }
}
