//! What someone asked, and the three answers: accepted, already so, denied with a reason.

use std::sync::Arc;

use crate::id::{Generation, OperationId};
use crate::name::{AppId, EnvironmentName, RuntimeName};
use crate::secret::SecretText;
use crate::spec::AppSpec;
use crate::view::OperationView;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make a new app. Its intent follows from the start mode.
    Create {
        /// The spec.
        spec: Arc<AppSpec>,
        /// The app's generated secret.
        jwt: SecretText,
        /// Its secret for databases, unless a former app of that name had one.
        db_secret: SecretText,
        /// Whether the name of a removed app may be used again.
        reuse: bool,
    },
    /// Change the spec of an app.
    Update {
        /// The new spec, whole.
        spec: Arc<AppSpec>,
        /// The generation it was made from.
        if_match: Generation,
        /// Its secret for databases, if it has none.
        db_secret: SecretText,
    },
    /// Run it.
    Start,
    /// Stop it, for good.
    Stop,
    /// Stop and start it.
    Restart,
    /// Stop it everywhere, run the upgrade steps of its recipe once, in one environment, and start it.
    Upgrade,
    /// Give it another generated secret, which counts from its next start.
    RotateSecret {
        /// The new one.
        jwt: SecretText,
        /// Whether that start is to be now.
        restart: bool,
    },
    /// Have it run elsewhere; back to where it was if it does not become ready there.
    Move {
        /// The spec with the new places, whole.
        spec: Arc<AppSpec>,
        /// The generation it was made from.
        if_match: Generation,
        /// Only say what would happen.
        dry_run: bool,
    },
    /// Stop it and forget it.
    Remove {
        /// Whether its data goes too.
        purge_data: bool,
    },
    /// A visitor came.
    Wake,
}

impl Action {
    /// The word on the wire.
    pub fn kind(&self) -> ActionKind {
        match self {
            Self::Create { .. } => ActionKind::Create,
            Self::Update { .. } => ActionKind::Update,
            Self::Start | Self::Wake => ActionKind::Start,
            Self::Stop => ActionKind::Stop,
            Self::Restart => ActionKind::Restart,
            Self::Upgrade => ActionKind::Upgrade,
            Self::RotateSecret { .. } => ActionKind::RotateSecret,
            Self::Move { .. } => ActionKind::Move,
            Self::Remove { .. } => ActionKind::Remove,
        }
    }
}

/// An action without its particulars, as operations show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActionKind {
    /// Make an app.
    Create,
    /// Change its spec.
    Update,
    /// Run it.
    Start,
    /// Stop it.
    Stop,
    /// Stop and start.
    Restart,
    /// Upgrade and start.
    Upgrade,
    /// Change its generated secret.
    RotateSecret,
    /// Have it run elsewhere.
    Move,
    /// Forget it.
    Remove,
}

impl ActionKind {
    /// Every kind.
    pub const ALL: &'static [ActionKind] = &[
        Self::Create,
        Self::Update,
        Self::Start,
        Self::Stop,
        Self::Restart,
        Self::Upgrade,
        Self::RotateSecret,
        Self::Move,
        Self::Remove,
    ];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Upgrade => "upgrade",
            Self::RotateSecret => "rotate-secret",
            Self::Move => "move",
            Self::Remove => "remove",
        }
    }

    /// Reads the word on the wire.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text)
    }
}

/// What can be asked about an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnvironmentAction {
    /// Give it no new starts; what runs there runs on.
    Drain,
    /// Give it starts again.
    Undrain,
    /// Strike it off: what was there is held to be gone, and its turns end. Only while it is not available.
    Forget,
}

/// A command about an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentCommand {
    /// Which environment.
    pub environment: EnvironmentName,
    /// What.
    pub action: EnvironmentAction,
    /// Who asked, for the audit.
    pub actor: String,
}

/// A key that makes a command safe to send twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The client's key.
    pub key: String,
    /// A hash of the request, so that the same key with another body is found out.
    pub request: [u8; 32],
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Which app.
    pub app: AppId,
    /// What.
    pub action: Action,
    /// Who asked, for the audit.
    pub actor: String,
    /// ID for the operation that follows from it.
    pub id: OperationId,
    /// Key of the client, if it sent one.
    pub idempotency: Option<IdempotencyKey>,
    /// Environments named by the client; `None` = all of the app.
    pub environments: Option<Vec<EnvironmentName>>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Committed to the record; the operation tells the rest.
    Accepted(OperationView),
    /// Nothing to do; the operation is done.
    AlreadySo(OperationView),
    /// The same request was accepted before under its idempotency key; this is the operation it led to. The entry's
    /// handle turns it into `Accepted` with the operation as it stands now.
    Repeated(OperationId),
    /// Refused; nothing was changed.
    Denied(Denied),
    /// It would be accepted; nothing was changed. What would happen, a sentence each.
    Planned(Vec<String>),
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No such app.
    #[error("there is no app {0}")]
    NotFound(AppId),
    /// The name is taken.
    #[error("app {0} exists already")]
    AlreadyExists(AppId),
    /// The name belonged to a removed app.
    #[error("app {0} was removed; its name is not reused silently")]
    Removed(AppId),
    /// PATCH of an older generation.
    #[error("app {app} is at generation {current}, the change was made from {given}")]
    GenerationConflict {
        /// Which app.
        app: AppId,
        /// What it is at.
        current: Generation,
        /// What the client had.
        given: Generation,
    },
    /// No such runtime in that environment.
    #[error("there is no runtime {runtime} in environment {environment}")]
    RuntimeUnknown {
        /// What was asked for.
        runtime: RuntimeName,
        /// Where.
        environment: EnvironmentName,
        /// The nearest there is.
        nearest: Option<RuntimeName>,
    },
    /// No such environment.
    #[error("there is no environment {0}")]
    EnvironmentUnknown(EnvironmentName),
    /// The environment is not there now.
    #[error("environment {0} is not available")]
    EnvironmentUnavailable(EnvironmentName),
    /// What is there cannot be struck off.
    #[error("environment {0} is available and cannot be forgotten")]
    EnvironmentInUse(EnvironmentName),
    /// It gets no new starts.
    #[error("environment {0} is draining")]
    EnvironmentDraining(EnvironmentName),
    /// This daemon does not decide: it is a worker, or another entry reigns.
    #[error("{0}")]
    ReadOnly(String),
    /// A field that does not fit.
    #[error("{detail}")]
    Invalid {
        /// Dotted path of the field.
        field: String,
        /// What is wrong, with the value.
        detail: String,
        /// What to do.
        hint: String,
    },
    /// Too many operations wait.
    #[error("{0} operations are waiting already")]
    QueueFull(usize),
    /// The app is being removed.
    #[error("app {0} is being removed")]
    Removing(AppId),
    /// Something that must not be cut off is under way.
    #[error("app {app} is being {what}")]
    UnderWay {
        /// Which app.
        app: AppId,
        /// `upgraded` or `moved`.
        what: &'static str,
    },
    /// An idempotency key used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// An idempotency key whose operation is known to have been accepted, and is no longer kept.
    #[error("the idempotency key was used for operation {0}, which is no longer kept")]
    KeySpent(OperationId),
}
