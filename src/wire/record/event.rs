//! Stored events.

use nbs_core::id::OperationId;
use nbs_core::name::{AppId, EnvironmentName};
use nbs_core::time::Wall;
use nbs_core::view::EventView;
use serde::{Deserialize, Serialize};

use crate::wire::record::{RowError, name, read, word, write};

const VERSION: u32 = 1;

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
    let shape: EventShape = read(text, VERSION)?;
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
