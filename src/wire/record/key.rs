//! Stored idempotency keys.

use nbs_core::id::OperationId;
use nbs_core::record::KeyRow;
use nbs_core::time::Wall;
use serde::{Deserialize, Serialize};

use crate::wire::hex;
use crate::wire::record::{RowError, read, word, write};

const VERSION: u32 = 1;

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
    let shape: KeyShape = read(text, VERSION)?;
    let request = hex::decode(&shape.request).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    Ok(KeyRow {
        request: word("request", &shape.request, request)?,
        operation: word("operation", &shape.operation, OperationId::parse(&shape.operation))?,
        actor: shape.actor,
        key: shape.key,
        at: Wall(shape.at),
    })
}
