//! Stored rows as JSON, each with its version `v`.
//!
//! Decides how what must survive is written. A field that a later version added is ignored, a `v` above ours is refused:
//! it is raised only when an older reader would misunderstand. Deliberately absent: tables and files (the store), and
//! the cipher, which the store brings; secrets pass this room only on their way into and out of it.

use std::fmt::Display;

use nbs_core::id::{Epoch, Generation, OperationId, Run, Seq};
use nbs_core::intent::Intent;
use nbs_core::name::{AppId, EnvironmentName};
use nbs_core::observation::Identity;
use nbs_core::order::RunGoal;
use nbs_core::phase::Phase;
use nbs_core::reason::{Reason, ReasonCode};
use nbs_core::recipe::Adapter;
use nbs_core::record::{AppLife, AppRow, KeyRow, LedgerGoal, LedgerRow, OperationRow};
use nbs_core::secret::SecretText;
use nbs_core::time::Wall;
use nbs_core::view::{EventView, OperationStatus, OperationView};
use serde::{Deserialize, Serialize};

use crate::wire::hex;
use crate::wire::stored_spec::SpecShape;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

/// The version of every row that is written.
const VERSION: u32 = 1;

/// Why a stored row cannot be read, or not be written. One sentence, never with a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// It is not what this version writes.
    #[error("{0}")]
    Damaged(String),
    /// It was written by a later version.
    #[error("it was written by a newer nbsupervisor (row version {found}, this one reads up to {VERSION})")]
    Newer {
        /// Its version.
        found: u32,
    },
    /// The cipher refused.
    #[error("{0}")]
    Cipher(String),
}

/// Encrypts and decrypts. `place` says where the text belongs; a text moved to another place is refused.
pub trait Cipher {
    /// Makes a text that shows nothing.
    ///
    /// # Errors
    /// The cipher cannot work (no random numbers).
    fn encrypt(&self, text: &str, place: &str) -> Result<String, RowError>;
    /// Takes back what `encrypt` made for the same place.
    ///
    /// # Errors
    /// It was made elsewhere, by another key, or was damaged.
    fn decrypt(&self, text: &str, place: &str) -> Result<String, RowError>;
}

/// Where a secret belongs: which kind of row, which app, which field.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    kind: &'static str,
    app: &'a AppId,
}

impl Place<'_> {
    pub(crate) fn seal(self, cipher: &dyn Cipher, field: &str, text: &SecretText) -> Result<String, RowError> {
        cipher.encrypt(text.expose(), &self.field(field))
    }

    pub(crate) fn open(self, cipher: &dyn Cipher, field: &str, text: &str) -> Result<SecretText, RowError> {
        cipher.decrypt(text, &self.field(field)).map(SecretText::new)
    }

    fn field(self, field: &str) -> String {
        format!("{}/{}/{field}", self.kind, self.app)
    }
}

#[derive(Deserialize)]
struct VersionShape {
    v: u32,
}

fn write(shape: &impl Serialize) -> Result<String, RowError> {
    serde_json::to_string(shape).map_err(|error| RowError::Damaged(error.to_string()))
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, RowError> {
    match serde_json::from_str::<VersionShape>(text) {
        Ok(shape) if shape.v > VERSION => return Err(RowError::Newer { found: shape.v }),
        Ok(_) => {}
        Err(error) => return Err(unreadable(&error)),
    }
    serde_json::from_str(text).map_err(|error| unreadable(&error))
}

/// Where it went wrong, without serde's quotations, which could hold a value.
fn unreadable(error: &serde_json::Error) -> RowError {
    let what = if error.is_data() { "a field is missing or of another kind" } else { "it is no JSON" };
    RowError::Damaged(format!("{what}, at line {} column {}", error.line(), error.column()))
}

pub(crate) fn word<T>(field: &str, text: &str, parsed: Option<T>) -> Result<T, RowError> {
    parsed.ok_or_else(|| RowError::Damaged(format!("{field} {text:?} is unknown")))
}

pub(crate) fn name<T, E: Display>(parsed: Result<T, E>) -> Result<T, RowError> {
    parsed.map_err(|error| RowError::Damaged(error.to_string()))
}

#[derive(Serialize, Deserialize)]
struct AppShape {
    v: u32,
    generation: u64,
    intent: String,
    #[serde(default)]
    awake: bool,
    intent_seq: u64,
    start_seq: u64,
    created_at: u64,
    life: String,
    #[serde(default)]
    purge_data: bool,
    jwt: String,
    spec: SpecShape,
}

/// Writes an app.
///
/// # Errors
/// The cipher refused.
pub fn write_app(row: &AppRow, cipher: &dyn Cipher) -> Result<String, RowError> {
    let place = Place { kind: "app", app: &row.spec.name };
    let (life, purge_data) = match row.life {
        AppLife::Kept => ("kept", false),
        AppLife::Removing { purge_data } => ("removing", purge_data),
        AppLife::Removed => ("removed", false),
    };
    write(&AppShape {
        v: VERSION,
        generation: row.generation.0,
        intent: row.intent.as_str().into(),
        awake: row.intent == Intent::OnDemand { awake: true },
        intent_seq: row.intent_seq.0,
        start_seq: row.start_seq.0,
        created_at: row.created_at.0,
        life: life.into(),
        purge_data,
        jwt: place.seal(cipher, "jwt", &row.jwt)?,
        spec: SpecShape::of(&row.spec, cipher, place)?,
    })
}

/// Reads an app.
///
/// # Errors
/// The row is damaged or newer, or its secrets are not for it.
pub fn read_app(text: &str, cipher: &dyn Cipher) -> Result<AppRow, RowError> {
    let shape: AppShape = read(text)?;
    let app = name(AppId::parse(&shape.spec.name))?;
    let place = Place { kind: "app", app: &app };
    let intent = match shape.intent.as_str() {
        "run" => Intent::Run,
        "stop" => Intent::Stop,
        "on-demand" => Intent::OnDemand { awake: shape.awake },
        other => return word("intent", other, None),
    };
    let life = match shape.life.as_str() {
        "kept" => AppLife::Kept,
        "removing" => AppLife::Removing { purge_data: shape.purge_data },
        "removed" => AppLife::Removed,
        other => return word("life", other, None),
    };
    Ok(AppRow {
        generation: Generation(shape.generation),
        jwt: place.open(cipher, "jwt", &shape.jwt)?,
        intent,
        intent_seq: Seq(shape.intent_seq),
        start_seq: Seq(shape.start_seq),
        created_at: Wall(shape.created_at),
        life,
        spec: shape.spec.into_spec(cipher, place)?.into(),
    })
}

#[derive(Serialize, Deserialize)]
struct OperationShape {
    v: u32,
    id: String,
    seq: u64,
    app: String,
    action: String,
    environments: Vec<String>,
    status: String,
    reason: Option<String>,
    created_at: u64,
    finished_at: Option<u64>,
    actor: String,
    start_seq: u64,
}

/// Writes an operation.
///
/// # Errors
/// Never in practice; the engine's text if it cannot be written.
pub fn write_operation(row: &OperationRow) -> Result<String, RowError> {
    let view = &row.view;
    write(&OperationShape {
        v: VERSION,
        id: view.id.to_string(),
        seq: view.seq.0,
        app: view.app.to_string(),
        action: view.action.as_str().into(),
        environments: view.environments.iter().map(EnvironmentName::to_string).collect(),
        status: view.status.as_str().into(),
        reason: view.reason.clone(),
        created_at: view.created_at.0,
        finished_at: view.finished_at.map(|at| at.0),
        actor: view.actor.clone(),
        start_seq: row.start_seq.0,
    })
}

/// Reads an operation.
///
/// # Errors
/// The row is damaged or newer.
pub fn read_operation(text: &str) -> Result<OperationRow, RowError> {
    use nbs_core::command::ActionKind;
    let shape: OperationShape = read(text)?;
    let environments: Result<Vec<EnvironmentName>, RowError> =
        shape.environments.iter().map(|text| name(EnvironmentName::parse(text))).collect();
    let view = OperationView {
        id: word("id", &shape.id, OperationId::parse(&shape.id))?,
        seq: Seq(shape.seq),
        app: name(AppId::parse(&shape.app))?,
        action: word("action", &shape.action, ActionKind::parse(&shape.action))?,
        environments: environments?,
        status: word("status", &shape.status, OperationStatus::parse(&shape.status))?,
        reason: shape.reason,
        created_at: Wall(shape.created_at),
        finished_at: shape.finished_at.map(Wall),
        actor: shape.actor,
    };
    Ok(OperationRow { view, start_seq: Seq(shape.start_seq) })
}

#[derive(Serialize, Deserialize)]
struct EventShape {
    v: u32,
    seq: u64,
    at: u64,
    app: Option<String>,
    environment: Option<String>,
    kind: String,
    message: String,
    operation: Option<String>,
}

/// Writes an event.
///
/// # Errors
/// Never in practice; the engine's text if it cannot be written.
pub fn write_event(row: &EventView) -> Result<String, RowError> {
    write(&EventShape {
        v: VERSION,
        seq: row.seq,
        at: row.at.0,
        app: row.app.as_ref().map(AppId::to_string),
        environment: row.environment.as_ref().map(EnvironmentName::to_string),
        kind: row.kind.clone(),
        message: row.message.clone(),
        operation: row.operation.map(|id| id.to_string()),
    })
}

/// Reads an event.
///
/// # Errors
/// The row is damaged or newer.
pub fn read_event(text: &str) -> Result<EventView, RowError> {
    let shape: EventShape = read(text)?;
    let operation = shape.operation.map(|id| word("operation", &id, OperationId::parse(&id))).transpose()?;
    Ok(EventView {
        seq: shape.seq,
        at: Wall(shape.at),
        app: shape.app.map(|text| name(AppId::parse(&text))).transpose()?,
        environment: shape.environment.map(|text| name(EnvironmentName::parse(&text))).transpose()?,
        kind: shape.kind,
        message: shape.message,
        operation,
    })
}

#[derive(Serialize, Deserialize)]
struct KeyShape {
    v: u32,
    actor: String,
    key: String,
    request: String,
    operation: String,
    at: u64,
}

/// Writes an idempotency key.
///
/// # Errors
/// Never in practice; the engine's text if it cannot be written.
pub fn write_key(row: &KeyRow) -> Result<String, RowError> {
    write(&KeyShape {
        v: VERSION,
        actor: row.actor.clone(),
        key: row.key.clone(),
        request: hex::encode(&row.request),
        operation: row.operation.to_string(),
        at: row.at.0,
    })
}

/// Reads an idempotency key.
///
/// # Errors
/// The row is damaged or newer.
pub fn read_key(text: &str) -> Result<KeyRow, RowError> {
    let shape: KeyShape = read(text)?;
    let request = hex::decode(&shape.request).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    Ok(KeyRow {
        request: word("request", &shape.request, request)?,
        operation: word("operation", &shape.operation, OperationId::parse(&shape.operation))?,
        actor: shape.actor,
        key: shape.key,
        at: Wall(shape.at),
    })
}

#[derive(Serialize, Deserialize)]
struct InstanceShape {
    v: u32,
    app: String,
    epoch: u64,
    generation: u64,
    intent_seq: u64,
    goal: GoalShape,
    run: String,
    run_generation: u64,
    /// Rows from before there was a choice have none.
    #[serde(default = "process")]
    adapter: String,
    hooks_done: u32,
    hook_begun: bool,
    #[serde(default)]
    in_turn: bool,
    port: Option<u16>,
    identity: Option<IdentityShape>,
    phase: String,
    since: u64,
    reason: Option<ReasonShape>,
    restarts: u32,
    last_log: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "be", rename_all = "lowercase")]
enum GoalShape {
    Run { start_seq: u64, jwt: String, spec: Box<SpecShape> },
    Stop,
    Remove { purge_data: bool },
}

#[derive(Serialize, Deserialize)]
struct IdentityShape {
    pid: u32,
    start_ticks: u64,
    boot: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    invocation: Option<String>,
}

fn process() -> String {
    Adapter::Process.as_str().into()
}

#[derive(Serialize, Deserialize)]
struct ReasonShape {
    code: String,
    text: String,
}

/// Writes an instance of the worker's ledger. A turn is not kept: after a restart of the daemon it must be granted again.
///
/// # Errors
/// The cipher refused.
pub fn write_instance(row: &LedgerRow, cipher: &dyn Cipher) -> Result<String, RowError> {
    let place = Place { kind: "instance", app: &row.app };
    let goal = match &row.goal {
        LedgerGoal::Run(goal) => GoalShape::Run {
            start_seq: goal.start_seq.0,
            jwt: place.seal(cipher, "jwt", &goal.jwt)?,
            spec: Box::new(SpecShape::of(&goal.spec, cipher, place)?),
        },
        LedgerGoal::Stop => GoalShape::Stop,
        LedgerGoal::Remove { purge_data } => GoalShape::Remove { purge_data: *purge_data },
    };
    let identity = row.identity.as_ref().map(|identity| IdentityShape {
        pid: identity.pid,
        start_ticks: identity.start_ticks,
        boot: identity.boot.clone(),
        invocation: identity.invocation.clone(),
    });
    write(&InstanceShape {
        v: VERSION,
        app: row.app.to_string(),
        epoch: row.epoch.0,
        generation: row.generation.0,
        intent_seq: row.intent_seq.0,
        goal,
        run: row.run.to_string(),
        run_generation: row.run_generation.0,
        adapter: row.adapter.as_str().into(),
        hooks_done: row.hooks_done,
        hook_begun: row.hook_begun,
        in_turn: row.in_turn,
        port: row.port,
        identity,
        phase: row.phase.as_str().into(),
        since: row.since.0,
        reason: row.reason.as_ref().map(|r| ReasonShape { code: r.code.code().into(), text: r.text.clone() }),
        restarts: row.restarts,
        last_log: row.last_log.clone(),
    })
}

/// Reads an instance of the worker's ledger.
///
/// # Errors
/// The row is damaged or newer, or its secrets are not for it.
pub fn read_instance(text: &str, cipher: &dyn Cipher) -> Result<LedgerRow, RowError> {
    let shape: InstanceShape = read(text)?;
    let app = name(AppId::parse(&shape.app))?;
    let place = Place { kind: "instance", app: &app };
    let goal = match shape.goal {
        GoalShape::Run { start_seq, jwt, spec } => LedgerGoal::Run(RunGoal {
            start_seq: Seq(start_seq),
            jwt: place.open(cipher, "jwt", &jwt)?,
            spec: spec.into_spec(cipher, place)?.into(),
            turn: None,
        }),
        GoalShape::Stop => LedgerGoal::Stop,
        GoalShape::Remove { purge_data } => LedgerGoal::Remove { purge_data },
    };
    let identity = shape.identity.map(|i| Identity {
        pid: i.pid,
        start_ticks: i.start_ticks,
        boot: i.boot,
        invocation: i.invocation,
    });
    let reason = match shape.reason {
        Some(reason) => Some(Reason::new(word("reason", &reason.code, ReasonCode::parse(&reason.code))?, reason.text)),
        None => None,
    };
    Ok(LedgerRow {
        epoch: Epoch(shape.epoch),
        generation: Generation(shape.generation),
        intent_seq: Seq(shape.intent_seq),
        goal,
        run: word("run", &shape.run, Run::parse(&shape.run))?,
        run_generation: Generation(shape.run_generation),
        adapter: word("adapter", &shape.adapter, Adapter::parse(&shape.adapter))?,
        hooks_done: shape.hooks_done,
        hook_begun: shape.hook_begun,
        in_turn: shape.in_turn,
        port: shape.port,
        identity,
        phase: word("phase", &shape.phase, Phase::parse(&shape.phase))?,
        since: Wall(shape.since),
        reason,
        restarts: shape.restarts,
        last_log: shape.last_log,
        app,
    })
}
