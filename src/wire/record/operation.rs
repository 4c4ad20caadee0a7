//! Stored operations.

use nbs_core::command::ActionKind;
use nbs_core::id::{OperationId, Seq};
use nbs_core::name::{AppId, EnvironmentName};
use nbs_core::record::OperationRow;
use nbs_core::time::Wall;
use nbs_core::view::{OperationStatus, OperationView};
use serde::{Deserialize, Serialize};

use crate::wire::record::{RowError, name, read, word, write};

const VERSION: u32 = 1;

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
    let shape: OperationShape = read(text, VERSION)?;
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
