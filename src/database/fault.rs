//! What a server, or the way to it, had against something; and what that means to an app.

use std::error::Error as _;
use std::time::Duration;

use nbs_core::database::Failure;
use nbs_core::quantity::short_duration;
use nbs_core::reason::{Reason, ReasonCode};
use tokio_postgres::error::SqlState;

/// Something that a server said, or that it said nothing.
#[derive(Debug)]
pub(super) struct Fault {
    kind: Kind,
    /// What was being done, such as `making role "crm"`; empty while connecting.
    doing: String,
    /// In its own words.
    said: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It does not answer, or only that it is not there for anybody at present.
    Silent,
    /// It is there, and cannot do it at present.
    Busy,
    /// The password is wrong.
    Password,
    /// Somebody may not do something.
    Denied,
    /// The database is not there.
    NoDatabase,
    /// Something still depends on what is to be dropped.
    InUse,
    /// Anything else.
    Other,
}

impl Fault {
    /// Nothing came back in time.
    pub(super) fn late(waited: Duration) -> Self {
        let said = format!("no answer within {}", short_duration(waited));
        Self { kind: Kind::Silent, doing: String::new(), said }
    }

    /// The schema that is asked for is not there.
    pub(super) fn no_schema(name: &str) -> Self {
        Self { kind: Kind::Other, doing: String::new(), said: format!("there is no schema {name:?} in the database") }
    }

    /// What was being done.
    pub(super) fn doing(mut self, doing: impl Into<String>) -> Self {
        self.doing = doing.into();
        self
    }

    /// Whether the server is there for nobody at present.
    pub(super) fn is_silence(&self) -> bool {
        self.kind == Kind::Silent
    }

    /// Whether it may go better later by itself.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self.kind, Kind::Silent | Kind::Busy)
    }

    pub(super) fn is_wrong_password(&self) -> bool {
        self.kind == Kind::Password
    }

    /// In its own words.
    pub(super) fn said(&self) -> &str {
        &self.said
    }

    /// What it means to an app; `server` is how texts name the server.
    pub(super) fn failure(self, server: &str) -> Failure {
        let Self { kind, doing, said } = self;
        let doing = if doing.is_empty() { String::new() } else { format!(" while {doing}") };
        let (code, text) = match kind {
            Kind::Silent => (ReasonCode::DatabaseUnreachable, format!("{server} does not answer: {said}")),
            Kind::Busy => (ReasonCode::DatabaseUnreachable, format!("{server} cannot do it at present{doing}: {said}")),
            Kind::Password | Kind::Denied => (ReasonCode::DatabaseDenied, format!("{server} refused{doing}: {said}")),
            Kind::NoDatabase | Kind::InUse | Kind::Other => {
                (ReasonCode::DatabaseFailed, format!("{server} failed{doing}: {said}"))
            }
        };
        Failure { reason: Reason::new(code, text), transient: matches!(kind, Kind::Silent | Kind::Busy) }
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        let (kind, said) = match error.as_db_error() {
            Some(told) => (kind_of(told.code(), told.message()), told.message().to_string()),
            None => unsaid(&error),
        };
        Self { kind, doing: String::new(), said }
    }
}

fn kind_of(code: &SqlState, message: &str) -> Kind {
    match *code {
        SqlState::CANNOT_CONNECT_NOW | SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN => Kind::Silent,
        SqlState::INVALID_PASSWORD => Kind::Password,
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION | SqlState::INSUFFICIENT_PRIVILEGE => Kind::Denied,
        SqlState::INVALID_CATALOG_NAME => Kind::NoDatabase,
        SqlState::DEPENDENT_OBJECTS_STILL_EXIST => Kind::InUse,
        SqlState::OBJECT_IN_USE
        | SqlState::LOCK_NOT_AVAILABLE
        | SqlState::QUERY_CANCELED
        | SqlState::T_R_DEADLOCK_DETECTED
        | SqlState::T_R_SERIALIZATION_FAILURE => Kind::Busy,
        // A shared catalog was changed by somebody else at the same moment.
        SqlState::INTERNAL_ERROR if message.contains("concurrently") => Kind::Busy,
        // Connections (08) and means (53: connections, memory, disk) come back.
        _ if code.code().starts_with("08") || code.code().starts_with("53") => Kind::Busy,
        _ => Kind::Other,
    }
}

/// What is wrong where no server said so: the way to it, or what it was to be told.
fn unsaid(error: &tokio_postgres::Error) -> (Kind, String) {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    let mut by_io = error.is_closed();
    while let Some(source) = cause.source() {
        by_io |= source.is::<std::io::Error>();
        cause = source;
    }
    let text = cause.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    match by_io {
        true => (Kind::Silent, text.to_lowercase()),
        false if text.contains("password") => (Kind::Denied, "it wants a password, and none is given".into()),
        // The handshake failed: what listens there speaks another language, or demands another one.
        false => (Kind::Other, error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))),
    }
}
